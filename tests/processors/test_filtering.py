"""Filters in a processor: read anew when their file changes, and counted in ledger and metrics on a real Kafka."""

from __future__ import annotations

import os
import subprocess
import sys
import urllib.request
import uuid
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from confluent_kafka import Consumer, TopicPartition

from tests.support import deliver_now, eventually
from weir.bus import topics
from weir.bus.codec import Decoder, Encoder
from weir.bus.offsets import watermarks
from weir.bus.producer import DeliveryProducer
from weir.enrich.filters.sampling import LABEL, in_sample
from weir.local.ports import find_free_port
from weir.model.batch import RawBatch
from weir.model.ids import event_id
from weir.model.ledger import LedgerCounts, LedgerEntry
from weir.model.topics import TopicNames
from weir.ops.settings import SettingsError, load
from weir.processors.filtering import Filtering
from weir.processors.member import Work
from weir.processors.outcome import Outcome
from weir.processors.runtime import Processor
from weir.processors.settings import ProcessorSettings
from weir.protocols.netflow.encode import V5Datagram, V5Flow, encode_v5

DROP = "filters:\n  - {name: all, do: drop}\n"
SECOND = 1_000_000


def batch(units: list[bytes] | None = None) -> RawBatch:
    return RawBatch(
        batch_id=uuid.uuid5(uuid.NAMESPACE_OID, "flows").bytes,
        site="s",
        receiver="r",
        transport="udp",
        source_ip="192.0.2.1",
        listener_port=2055,
        received_at=1_790_000_000 * SECOND,
        units=units or [],
    )


class Hand:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def published(filtering: Filtering) -> int:
    return len(filtering.apply(Outcome(events={"syslog": [{"event_id": "b-0-0"}]}), batch()).published["syslog"])


def test_a_changed_file_is_read_anew_and_one_with_mistakes_changes_nothing(tmp_path: Path) -> None:
    path, clock = tmp_path / "filters.yaml", Hand()
    path.write_text(DROP)
    filtering = Filtering(path, 2.0, clock)
    assert published(filtering) == 0
    path.write_text("filters: []\n")
    clock.now = 1.9
    assert published(filtering) == 0
    clock.now = 2.1
    assert published(filtering) == 1
    path.write_text("filters: [{name: x, do: dropp}]\n")
    clock.now = 5.0
    assert published(filtering) == 1
    path.unlink()
    clock.now = 8.0
    assert published(filtering) == 1
    path.write_text(DROP)
    clock.now = 11.0
    assert published(filtering) == 0


def test_a_defect_in_reading_the_changed_file_leaves_the_rules_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, clock = tmp_path / "filters.yaml", Hand()
    path.write_text(DROP)
    filtering = Filtering(path, 2.0, clock)
    monkeypatch.setattr("weir.processors.filtering.load_rules", lambda _: {}["no such key"])
    path.write_text("filters: []\n")
    clock.now = 3.0
    assert published(filtering) == 0


def test_without_a_file_nothing_is_filtered() -> None:
    assert published(Filtering(None)) == 1


def test_a_file_that_has_become_wrong_stops_the_start(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="WEIR_FILTERS_FILE must name a readable YAML file"):
        Filtering(tmp_path / "none.yaml")


def test_settings_name_every_mistake_in_filters_and_networks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "filters.yaml"
    path.write_text("filters:\n  - {name: a, do: dropp}\n  - {name: b, do: drop, when: x}\n")
    monkeypatch.setenv("WEIR_KAFKA_BOOTSTRAP_SERVERS", "localhost:9092")
    monkeypatch.setenv("WEIR_FILTERS_FILE", str(path))
    monkeypatch.setenv("WEIR_OWN_NETWORKS", "10.0.0.1/8")
    with pytest.raises(SettingsError) as raised:
        load(ProcessorSettings)
    assert [any(part in m for m in raised.value.mistakes) for part in ("WEIR_OWN_NETWORKS", ":2: rule 'a'", ":3: rule 'b'")] == [
        True
    ] * 3


def test_a_defect_in_filters_costs_no_event() -> None:
    class Broken:
        def apply(self, outcome: Outcome, batch: RawBatch) -> None:
            raise RuntimeError("of our own making")

    outcome = Outcome(events={"syslog": [{"event_id": "b-0-0"}]})
    work = Work(0, 0)
    assert Processor._filter(cast("Any", SimpleNamespace(filtering=Broken())), outcome, batch(), work) is outcome.events
    assert outcome.events == {"syslog": [{"event_id": "b-0-0"}]}
    assert not work.datasets


# --- on a real Kafka -------------------------------------------------------------------------------------------------------------

FILTERS = """
filters:
  - name: no dns
    dataset: network-flow
    source: 192.0.2.0/24
    when: destination_port == 53
    do: drop
  - name: some web
    dataset: network-flow
    when: destination_port in [80, 443]
    do: sample 1/5
  - name: long ones
    dataset: network-flow
    when: destination_port == 22
    do: merge
"""

RULE = """
title: Any flow
id: 6d1f2b5e-58a0-4c36-8f3c-0b1f6a1f0001
name: any_flow
status: test
logsource: {service: netflow}
detection:
  selection: {event.module: netflow}
  condition: selection
level: informational
---
title: Flows to a port
id: 6d1f2b5e-58a0-4c36-8f3c-0b1f6a1f0002
name: flows_to_a_port
status: test
correlation:
  type: event_count
  rules: [any_flow]
  group-by: [destination.port]
  timespan: 5m
  condition: {gte: 1000}
level: low
"""

FLOWS = (
    [V5Flow("10.0.0.1", "10.0.0.9", 40_000 + n, 53, protocol=17) for n in range(30)]
    + [V5Flow("10.0.0.1", "10.0.0.9", 40_000 + n, 443) for n in range(100)]
    + [V5Flow("10.0.0.1", "10.0.0.9", 40_000, 22, packets=n + 1, octets=100, first=n, last=n + 10) for n in range(20)]
    + [V5Flow("10.0.0.1", "10.0.0.9", 40_000, 25) for _ in range(2)]
)


@pytest.fixture
def worker(
    kafka: str, topic_prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[ProcessorSettings, int]]:
    """Settings of a NetFlow processor that runs with the filters and the rule, and the port of its metrics."""
    monkeypatch.setenv("WEIR_TOPIC_PARTITIONS", "1")
    settings = ProcessorSettings(kafka_bootstrap_servers=kafka, topic_prefix=topic_prefix, instance="w")
    topics.apply(settings)
    (tmp_path / "rules").mkdir()
    (tmp_path / "rules" / "any.yml").write_text(RULE)
    (tmp_path / "filters.yaml").write_text(FILTERS)
    port = find_free_port()
    environment = {k: v for k, v in os.environ.items() if not k.startswith("WEIR_")} | {
        "WEIR_KAFKA_BOOTSTRAP_SERVERS": kafka,
        "WEIR_TOPIC_PREFIX": topic_prefix,
        "WEIR_INSTANCE": "w",
        "WEIR_PROCESSOR_COMMIT_SECONDS": "0.1",
        "WEIR_HEALTH_PORT": str(port),
        "WEIR_FILTERS_FILE": str(tmp_path / "filters.yaml"),
        "WEIR_RULES_DIR": str(tmp_path / "rules"),
    }
    with (tmp_path / "worker.log").open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "weir.cli", "process", "netflow"], env=environment, stdout=output, stderr=output
        )
    yield settings, port
    process.kill()
    process.wait(10)


def read(settings: ProcessorSettings, topic: str) -> list[dict[str, Any]]:
    """All records of a topic of one partition."""
    found = []
    config = {"bootstrap.servers": settings.kafka_bootstrap_servers, "group.id": "read", "enable.auto.commit": False}
    with Consumer({**config, "auto.offset.reset": "earliest"}) as consumer:
        partition = TopicPartition(TopicNames(settings.topic_prefix)[topic], 0, 0)
        end = watermarks(consumer, partition)[1]
        consumer.assign([partition])
        while len(found) < end:
            message = consumer.poll(10)
            assert message is not None
            assert message.error() is None
            found.append(Decoder()(message.value()))
    return found


@pytest.mark.kafka
def test_what_is_dropped_sampled_away_and_merged_is_not_published_but_counted_and_rules_see_all_but_the_dropped(
    worker: tuple[ProcessorSettings, int],
) -> None:
    settings, port = worker
    units = [
        encode_v5(V5Datagram(FLOWS[n : n + 30], export_seconds=1_790_000_000, uptime=100_000, sequence=n))
        for n in range(0, len(FLOWS), 30)
    ]
    raw = batch(units)
    producer = DeliveryProducer(settings)
    deliver_now(producer, TopicNames(settings.topic_prefix)["raw.netflow"], Encoder("raw-batch")(raw.to_record()), key=b"k")
    producer.close(5)

    entries = eventually(
        lambda: [e for e in map(LedgerEntry.from_record, read(settings, "ledger")) if e.service == "process.netflow"], 60
    )
    events = read(settings, "events.network-flow")
    ids = [event_id(raw.batch_id.hex(), n // 30, n % 30) for n in range(len(FLOWS))]
    sample = [i for i in ids[30:130] if in_sample(i, 5)]
    assert 0 < len(sample) < 100
    assert [event["event_id"] for event in events] == [*sample, ids[130], *ids[150:]]
    by_id = {event["event_id"]: event for event in events}
    assert all(by_id[i]["labels"] == {LABEL: "1/5"} for i in sample)
    merged = by_id[ids[130]]
    assert (merged["flow_merged"], merged["network_bytes"], merged["network_packets"]) == (20, 2_000, sum(range(1, 21)))
    assert merged["event_duration"] == 29_000_000
    assert [by_id[i]["flow_merged"] for i in ids[150:]] == [None, None]

    total, by_dataset = LedgerCounts(), defaultdict[str, LedgerCounts](LedgerCounts)
    for entry in entries:
        for (_, _, dataset), counts in entry.lines.items():
            total.add(counts)
            by_dataset[dataset].add(counts)
    left_out = {"no dns": 30, "some web": 100 - len(sample), "long ones": 19}
    assert by_dataset["network-flow"].filtered == total.filtered == sum(left_out.values())
    assert total.events_out == {"events.network-flow": len(events)}
    assert total.events_out["events.network-flow"] + total.filtered == len(FLOWS)
    assert total.units_in == len(units)
    assert total.units_dead == 0

    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
        lines = [line for line in answer.read().decode().splitlines() if line.startswith("weir_process_filtered_total{")]
    told = {line.split('rule="')[1].split('"')[0]: float(line.rsplit(" ", 1)[1]) for line in lines}
    assert told == left_out
    assert all('dataset="network-flow"' in line for line in lines)

    seen: Counter[str] = Counter()
    for record in eventually(lambda: [r for r in read(settings, "signals") if r["kind"] == "partials"], 20):
        for partial in record["partials"]:
            seen[partial["group"][0]] += sum(bucket["count"] for bucket in partial["buckets"])
    assert seen == {"443": 100, "22": 20, "25": 2}
