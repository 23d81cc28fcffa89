"""Enrichment in a real processor on a real Kafka: events come enriched, and what changes in files and topic changes them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, TopicPartition

from tests.support import deliver_now, eventually
from weir.bus import topics
from weir.bus.codec import Decoder, Encoder
from weir.bus.producer import DeliveryProducer
from weir.local.ports import find_free_port
from weir.model.batch import RawBatch
from weir.model.ids import new_batch_id
from weir.model.topics import TopicNames
from weir.processors.settings import ProcessorSettings

WEIR = str(Path(sys.executable).with_name("weir"))
RECEIVED = 1_790_000_000_000_000

pytestmark = pytest.mark.kafka


class Stage:
    """One syslog processor with tables, fed one line at a time."""

    def __init__(self, servers: str, prefix: str, folder: Path) -> None:
        self.settings = ProcessorSettings(kafka_bootstrap_servers=servers, topic_prefix=prefix, instance="test")
        self.names = TopicNames(prefix)
        self.folder = folder
        self.port = find_free_port()
        topics.apply(self.settings)
        self.producer = DeliveryProducer(self.settings)
        self.encode, self.decode = Encoder("raw-batch"), Decoder()
        self.worker: subprocess.Popen[bytes] | None = None
        self.consumer = Consumer(
            {"bootstrap.servers": servers, "group.id": f"{prefix}.look", "enable.auto.commit": False, "log_level": 0}
        )
        self.consumer.assign([TopicPartition(self.names["events.file-audit"], 0, 0)])

    def start(self, **settings: str) -> subprocess.Popen[bytes]:
        environment = {k: v for k, v in os.environ.items() if not k.startswith("WEIR_")} | {
            "WEIR_KAFKA_BOOTSTRAP_SERVERS": self.settings.kafka_bootstrap_servers,
            "WEIR_TOPIC_PREFIX": self.settings.topic_prefix,
            "WEIR_INSTANCE": "test",
            "WEIR_HEALTH_PORT": str(self.port),
            **{f"WEIR_{name.upper()}": value for name, value in settings.items()},
        }
        with (self.folder / "log").open("ab") as output:
            self.worker = subprocess.Popen([WEIR, "process", "syslog"], env=environment, stdout=output, stderr=output)
        return self.worker

    def log(self) -> str:
        return (self.folder / "log").read_text(errors="replace")

    def close(self) -> None:
        self.consumer.close()
        self.producer.close(1.0)
        if self.worker is not None:
            self.worker.kill()
            self.worker.wait(10)

    def put_asset(self, key: str, value: dict[str, Any] | None) -> None:
        content = None if value is None else json.dumps(value).encode()
        deliver_now(self.producer, self.names["state.assets"], content, key=key.encode())  # type: ignore[arg-type]

    def event(self) -> dict[str, Any]:
        """The event of one more line."""
        line = b'<14>1 2026-09-21T14:13:20Z q1 qumulo - - - 10.1.2.3,"AD\\alice",smb,fs_delete,ok,1,"/a",""'
        one = RawBatch(new_batch_id(), "s", "r", "udp", "192.0.2.9", 5514, RECEIVED, [line])
        deliver_now(self.producer, self.names["raw.syslog"], self.encode(one.to_record()), key=b"k")
        message = self.consumer.poll(60)
        assert message is not None, self.log()
        assert message.error() is None, message.error()
        event: dict[str, Any] = self.decode(message.value())
        return event

    def event_where(self, field: str, value: object) -> dict[str, Any]:
        """The first event that has it: tables change a moment after their files do."""
        found: dict[str, Any] = {}

        def has() -> bool:
            found.update(self.event())
            return bool(found[field] == value)

        eventually(has, 30, f"no event has {field} {value!r}")
        return found

    def metrics(self) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=5) as answer:
            return str(answer.read().decode())


@pytest.fixture
def stage(kafka: str, topic_prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    monkeypatch.setenv("WEIR_TOPIC_PARTITIONS", "1")
    one = Stage(kafka, topic_prefix, tmp_path)
    yield one
    one.close()


def test_events_come_enriched_and_a_change_of_file_or_topic_changes_them(stage: Stage, tmp_path: Path) -> None:
    assets, users, intel = tmp_path / "assets.csv", tmp_path / "users.yaml", tmp_path / "lists"
    assets.write_text("network,name\n10.0.0.0/8,Old\n")
    users.write_text("- entity: alice@corp.example\n  name: alice\n  domain: AD\n")
    intel.mkdir()
    stage.put_asset("dc1", {"ip": "10.1.2.3", "name": "dc1"})
    stage.put_asset("gone", {"ip": "10.1.2.3", "name": "never seen"})
    stage.put_asset("gone", None)
    stage.start(
        enrich_asset_files=str(assets),
        enrich_user_files=str(users),
        enrich_intel=str(intel),
        enrich_assets_topic="true",
        enrich_reload_seconds="0.2",
    )
    first = stage.event()
    assert (first["source_network_name"], first["source_asset_name"]) == ("Old", "dc1")
    assert first["user_entity_id"] == "alice@corp.example"
    assert first["threat_enrichments"] == []

    assets.write_text("network,name\n10.0.0.0/8,New\n")
    assert stage.event_where("source_network_name", "New")["source_asset_name"] == "dc1"
    (intel / "own.txt").write_text("10.1.2.3\n")
    (text,) = eventually(lambda: stage.event()["threat_enrichments"], 30, "the new list does not match")
    assert (json.loads(text)["indicator"], json.loads(text)["provider"]) == ("10.1.2.3", "own")
    stage.put_asset("dc1", {"ip": "10.1.2.3", "name": "dc1-new"})
    stage.event_where("source_asset_name", "dc1-new")
    stage.put_asset("dc1", None)
    stage.event_where("source_asset_name", None)

    assets.write_text("network,name\n10.0.0.0/99,Broken\n")
    eventually(lambda: "the old one is kept" in stage.log(), 20)
    assert stage.event()["source_network_name"] == "New"
    shown = stage.metrics()
    assert 'weir_enrich_hits_total{kind="network"' in shown
    assert 'outcome="kept"' in shown
    assert "weir_enrich_entries{" in shown


def test_a_mistake_in_a_table_stops_the_start_with_its_line(stage: Stage, tmp_path: Path) -> None:
    (tmp_path / "assets.csv").write_text("network,name\n10.0.0.0/99,x\n")
    assert stage.start(enrich_asset_files=str(tmp_path / "assets.csv")).wait(60) == 2
    assert "assets.csv:2" in stage.log()
