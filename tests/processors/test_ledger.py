"""The reader of the ledger on a real Kafka: left without a commit and begun anew, its signals are those of an undisturbed run."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, TopicPartition

from tests.support import deliver_now
from weir.bus import topics
from weir.bus.codec import Decoder, Encoder
from weir.bus.deadletter import dead_letter_headers
from weir.bus.producer import DeliveryProducer
from weir.model.ledger import LedgerCounts, LedgerEntry, minute_of
from weir.model.topics import TopicNames
from weir.ops.shutdown import StopSignal
from weir.processors.ledger import LedgerReader
from weir.processors.rules import LiveRules
from weir.processors.settings import ProcessorSettings

pytestmark = pytest.mark.kafka

PROGRAM = (
    "from weir.ops.settings import load\n"
    "from weir.processors import ledger\n"
    "from weir.processors.settings import ProcessorSettings\n"
    "raise SystemExit(ledger.main(load(ProcessorSettings)))\n"
)

RULES = """
title: Dead letters
id: 0f7f6b4e-4a5b-4d2f-9c27-3a4a4a0a6e11
name: dead
logsource: {product: weir, service: pipeline}
detection:
  selection: {event.action: units_processed, ledger.dead|gte: 1}
  condition: selection
---
title: Many dead letters
id: 6f0d6a9e-0a53-49f7-8d8c-7d4a7d7b1e52
correlation: {type: event_count, rules: [dead], group-by: [log.source.ip], timespan: 5m, condition: {gte: 2}}
---
title: Due to a sink
id: 1c5f5f55-5a0f-4b38-a0f4-8c9c3bb1a6d3
logsource: {product: weir, service: pipeline}
detection:
  selection: {event.action: events_due}
  condition: selection
---
title: Template missing
id: 7a1d3c9b-2c58-4a4e-8c43-4f0f6a0f9b64
logsource: {product: weir, service: pipeline}
detection:
  selection: {event.action: template_missing}
  condition: selection
"""


class Stage:
    """A ledger, dead letters of flows and signals under a prefix of their own."""

    def __init__(self, servers: str, prefix: str, folder: Path) -> None:
        self.settings = ProcessorSettings(kafka_bootstrap_servers=servers, topic_prefix=prefix, instance="ledger-0")
        self.names = TopicNames(prefix)
        self.producer = DeliveryProducer(self.settings)
        self.encode = Encoder("ledger-entry")
        rules = folder / prefix
        rules.mkdir()
        (rules / "pipeline.yml").write_text(RULES, encoding="utf-8")
        self.rules = LiveRules(rules)
        assert self.rules.rule_set.problems == ()
        topics.apply(self.settings)

    def reader(self) -> LedgerReader:
        made = LedgerReader(self.settings, self.rules, self.producer, StopSignal())
        made.look_at_topics()
        return made

    def write(self, service: str, topic: str, first: int, last: int, **counts: Any) -> None:
        now = time.time_ns() // 1000
        entry = LedgerEntry(service, "node", "here", self.names[topic], 0, first, last, now)
        entry.lines["10.0.0.9" if service.startswith("process") else "", minute_of(now), ""].add(LedgerCounts(**counts))
        deliver_now(self.producer, self.names["ledger"], self.encode(entry.to_record()), key=entry.key)

    def template_missing(self, offset: int) -> None:
        headers = dead_letter_headers(
            service="process.netflow",
            stage="decode",
            topic=self.names["raw.netflow"],
            partition=0,
            offset=offset,
            error="template not known: exporter 192.0.2.1, domain 7, template 260",
        )
        deliver_now(self.producer, self.names["raw.netflow.dlq"], b"", headers=headers)

    def signals(self) -> dict[str, list[tuple[str, int]]]:
        """Of each signals record that is not a tick: titles of correlations and counts, by id."""
        decode = Decoder()
        titles = {correlation.id: correlation.title for correlation in self.rules.rule_set.correlations}
        config = {"bootstrap.servers": self.settings.kafka_bootstrap_servers, "group.id": "read", "enable.auto.commit": False}
        consumer = Consumer(config)
        found: dict[str, list[tuple[str, int]]] = {}
        try:
            for partition in range(self.producer.partitions(self.names["signals"])):
                place = TopicPartition(self.names["signals"], partition, 0)
                end = consumer.get_watermark_offsets(place, timeout=10)[1]
                consumer.assign([place])
                for _ in range(end):
                    message = consumer.poll(10)
                    assert message is not None
                    record = decode(message.value())
                    if record["kind"] == "tick":
                        assert record["ticks"][0]["low"] > 0
                        continue
                    partials = [(titles[p["correlation_id"]], sum(b["count"] for b in p["buckets"])) for p in record["partials"]]
                    assert found.setdefault(record["signals_id"], sorted(partials)) == sorted(partials)
        finally:
            consumer.close()
        return found


def run(reader: LedgerReader, until: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not until():
        assert time.monotonic() < deadline
        reader.turn()


def test_left_without_a_commit_and_begun_anew_it_makes_the_signals_of_an_undisturbed_run(
    kafka: str, topic_prefix: str, tmp_path: Path
) -> None:
    stages = [Stage(kafka, f"{topic_prefix}-{name}", tmp_path) for name in ("calm", "rough")]
    for stage in stages:
        stage.write("sink.adx", "events.cef", 0, 9, events_in=10, delivered=10)
        stage.write("process.syslog", "raw.syslog", 0, 9, units_in=10, units_dead=1)
        stage.template_missing(5)
    calm, rough = stages
    ledger, dead = calm.names["ledger"], calm.names["raw.netflow.dlq"]
    rough_ledger, rough_dead = rough.names["ledger"], rough.names["raw.netflow.dlq"]
    first = rough.reader()
    run(first, lambda: first.next.get((rough_ledger, 0)) == 2 and first.next.get((rough_dead, 0)) == 1)
    first.commit()
    for stage in stages:
        # The first range is entered again and longer, after a crash of the processor.
        stage.write("process.syslog", "raw.syslog", 0, 14, units_in=15, units_dead=3, events_out={"events.cef": 12})
    run(first, lambda: first.next.get((rough_ledger, 0)) == 3)
    first.uncommitted = {}
    first.consumer.close()
    for stage in stages:
        stage.write("process.syslog", "raw.syslog", 15, 19, units_in=5, events_out={"events.cef": 5})
        stage.template_missing(5)
    second = rough.reader()
    run(second, lambda: second.next.get((rough_ledger, 0)) == 4 and second.next.get((rough_dead, 0)) == 2)
    undisturbed = calm.reader()
    run(undisturbed, lambda: undisturbed.next.get((ledger, 0)) == 4 and undisturbed.next.get((dead, 0)) == 2)
    run(undisturbed, lambda: undisturbed.last_tick > undisturbed.last_commit - 2 and undisturbed.ticking is not None)
    for reader in (undisturbed, second):
        reader.commit()
        reader.consumer.close()
    # Ids name topics, and so differ between the two.
    found = sorted(calm.signals().values())
    assert sorted(rough.signals().values()) == found
    assert [partial for record in found for partial in record] == [
        ("Due to a sink", 1),
        ("Due to a sink", 1),
        ("Many dead letters", 1),
        ("Many dead letters", 1),
        ("Template missing", 1),
    ]
    assert undisturbed.pipelines == {}
    for stage in stages:
        stage.producer.close()


def test_as_a_process_it_ticks_for_both_of_its_topics_and_stops_when_asked(kafka: str, topic_prefix: str, tmp_path: Path) -> None:
    stage = Stage(kafka, topic_prefix, tmp_path)
    stage.write("sink.adx", "events.cef", 0, 9, events_in=10, delivered=10)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("WEIR_")}
    environment |= {"WEIR_KAFKA_BOOTSTRAP_SERVERS": kafka, "WEIR_TOPIC_PREFIX": topic_prefix, "WEIR_INSTANCE": "ledger-1"}
    log = tmp_path / "ledger.log"
    with log.open("wb") as output:
        process = subprocess.Popen([sys.executable, "-c", PROGRAM], env=environment, stdout=output, stderr=output)
    try:
        ticked: set[str] = set()
        consumer = Consumer({"bootstrap.servers": kafka, "group.id": "ticks", "enable.auto.commit": False})
        consumer.assign([TopicPartition(stage.names["signals"], 0, 0)])
        deadline = time.monotonic() + 60
        while ticked != {stage.names["ledger"], stage.names["raw.netflow.dlq"]}:
            assert process.poll() is None, log.read_text(errors="replace")
            assert time.monotonic() < deadline, log.read_text(errors="replace")
            message = consumer.poll(0.2)
            if message is not None and message.error() is None:
                ticked.add(Decoder()(message.value())["raw_topic"])
        consumer.close()
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0, log.read_text(errors="replace")
    finally:
        process.kill()
        stage.producer.close()
