"""Rules that change while a processor and the detector run on a real Kafka: none is started again, and nothing is lost."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, TopicPartition

from tests.support import deliver_now, eventually
from weir.bus import topics
from weir.bus.codec import Decoder, Encoder
from weir.bus.producer import DeliveryProducer
from weir.model.batch import RawBatch
from weir.model.ledger import LedgerEntry
from weir.model.topics import TopicNames
from weir.processors.settings import ProcessorSettings
from weir.protocols.netflow.encode import V5Datagram, V5Flow, encode_v5

pytestmark = pytest.mark.kafka

SECOND = 1_000_000
RULE = """
title: Any flow
id: 6d1f2b5e-58a0-4c36-8f3c-0b1f6a1f0001
name: any_flow
logsource: {service: netflow}
detection:
  selection: {event.module: netflow}
  condition: selection
---
title: Flows to a port
id: 6d1f2b5e-58a0-4c36-8f3c-0b1f6a1f0002
name: flows_to_a_port
correlation: {type: event_count, rules: [any_flow], group-by: [destination.port], timespan: 5m, condition: {gte: 20}}
level: low
"""
SUPPRESSIONS = """
suppress:
  - {id: known-port, owner: o, reason: r, expires: 2026-12-01, rules: [flows_to_a_port], where: {destination.port: 6666}}
"""


class Stage:
    """A NetFlow processor and the detector, with one folder of rules."""

    def __init__(self, servers: str, prefix: str, folder: Path) -> None:
        self.settings = ProcessorSettings(kafka_bootstrap_servers=servers, topic_prefix=prefix, instance="t")
        self.names = TopicNames(prefix)
        self.folder = folder
        self.rules = folder / "rules"
        self.producer = DeliveryProducer(self.settings)
        self.processes: list[subprocess.Popen[bytes]] = []
        self.sent = 0
        topics.apply(self.settings)

    def start(self, kind: str, poll_seconds: float) -> None:
        environment = {k: v for k, v in os.environ.items() if not k.startswith("WEIR_")} | {
            "WEIR_KAFKA_BOOTSTRAP_SERVERS": self.settings.kafka_bootstrap_servers,
            "WEIR_TOPIC_PREFIX": self.settings.topic_prefix,
            "WEIR_INSTANCE": kind,
            "WEIR_PROCESSOR_COMMIT_SECONDS": "0.1",
            "WEIR_RULES_DIR": str(self.rules),
            "WEIR_SUPPRESSIONS_FILE": str(self.folder / "suppressions.yaml"),
            "WEIR_RULES_POLL_SECONDS": str(poll_seconds),
        }
        with (self.folder / f"{kind}.log").open("wb") as output:
            command = [sys.executable, "-m", "weir.cli", "process", kind]
            self.processes.append(subprocess.Popen(command, env=environment, stdout=output, stderr=output))

    def logged(self, kind: str, text: str) -> int:
        return (self.folder / f"{kind}.log").read_text(errors="replace").count(text)

    def flows(self, port: int) -> None:
        """Thirty flows to a port, received half a minute after those before."""
        self.sent += 1
        flows = [V5Flow("10.0.0.1", "10.0.0.9", 40_000 + n, port) for n in range(30)]
        raw = RawBatch(
            batch_id=uuid.uuid5(uuid.NAMESPACE_OID, f"{port}").bytes,
            site="s",
            receiver="r",
            transport="udp",
            source_ip="192.0.2.1",
            listener_port=2055,
            received_at=(1_790_000_000 + 30 * self.sent) * SECOND,
            units=[encode_v5(V5Datagram(flows, export_seconds=1_790_000_000, uptime=100_000, sequence=self.sent))],
        )
        deliver_now(self.producer, self.names["raw.netflow"], Encoder("raw-batch")(raw.to_record()), key=b"k")

    def read(self, topic: str) -> list[dict[str, Any]]:
        """All records of a topic of one partition."""
        found = []
        config = {"bootstrap.servers": self.settings.kafka_bootstrap_servers, "group.id": "read", "enable.auto.commit": False}
        with Consumer({**config, "auto.offset.reset": "earliest"}) as consumer:
            partition = TopicPartition(self.names[topic], 0, 0)
            end = consumer.get_watermark_offsets(partition, timeout=10)[1]
            consumer.assign([partition])
            while len(found) < end:
                message = consumer.poll(10)
                assert message is not None
                assert message.error() is None
                found.append(Decoder()(message.value()))
        return found

    def alert(self, port: int) -> dict[str, Any] | None:
        return next((a for a in self.read("alerts") if a["group_by"] == {"destination.port": str(port)}), None)

    def held_back(self) -> int:
        """Alert records that the ledger says were not published."""
        entries = [LedgerEntry.from_record(record) for record in self.read("ledger")]
        return sum(c.filtered for e in entries for (_, _, dataset), c in e.lines.items() if dataset == "alerts")


@pytest.fixture
def stage(kafka: str, topic_prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    monkeypatch.setenv("WEIR_TOPIC_PARTITIONS", "1")
    (tmp_path / "rules").mkdir()
    (tmp_path / "rules" / "a.yml").write_text("# none yet\n")
    (tmp_path / "suppressions.yaml").write_text(SUPPRESSIONS)
    made = Stage(kafka, topic_prefix, tmp_path)
    yield made
    for process in made.processes:
        process.kill()
        process.wait(10)
    made.producer.close(5)


def test_a_rule_added_while_all_runs_alerts_and_a_broken_edit_keeps_it(stage: Stage) -> None:
    stage.start("netflow", poll_seconds=0.1)
    # The detector would look again in an hour: what it does not know makes it look at once.
    stage.start("detector", poll_seconds=3600)
    eventually(lambda: stage.logged("netflow", "starting") and stage.logged("detector", "starting"), 30)
    (stage.rules / "a.yml").write_text(RULE)
    eventually(lambda: stage.logged("netflow", "the rules were read anew"), 30)
    stage.flows(4444)
    alert = eventually(lambda: stage.alert(4444), 60)
    assert (alert["event_count"], alert["rule_name"]) == (30, "Flows to a port")
    assert stage.logged("detector", "the rules were read anew") == 1

    (stage.rules / "a.yml").write_text(RULE.replace("gte: 20", "gte: many"))
    eventually(lambda: stage.logged("netflow", "the version before stays in force"), 30)
    stage.flows(5555)
    assert eventually(lambda: stage.alert(5555), 60)["event_count"] == 30

    stage.flows(6666)
    stage.flows(7777)
    eventually(lambda: stage.alert(7777), 60)
    assert stage.alert(6666) is None
    assert stage.logged("detector", "alert suppressed") == 1
    assert eventually(stage.held_back, 20) == 1
    assert [process.poll() for process in stage.processes] == [None, None]
