"""`weir evidence`: what an alert names, fetched back from a real Kafka, checked, and what is not there named as such."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient
from typer.testing import CliRunner

from tests.receivers.harness import make_topics
from tests.support import deliver_now
from weir.bus.codec import Encoder
from weir.bus.producer import DeliveryProducer
from weir.cli import app
from weir.detect.offline import Offline
from weir.detect.reading.loading import load_rules
from weir.model.batch import RawBatch
from weir.model.ids import new_batch_id
from weir.ops.settings import ServiceSettings
from weir.processors.outcome import RawCoordinates
from weir.processors.syslog import make_process
from weir.tools.evidence import EvidenceReader, batch_time_us, find_alerts
from weir.tools.rules_commands import rules_app

RULE = """title: Deletion
id: 11111111-1111-4111-8111-111111111111
level: high
description: Somebody deletes.
tags: [attack.impact, attack.t1485]
logsource: {category: file_audit, product: qumulo}
detection: {sel: {event.action: fs_delete}, condition: sel}
falsepositives: [tidying up]
"""
DELETE = '<14>1 2026-03-01T12:00:00.000001Z q1 qumulo - - - 10.1.2.3,"EXAMPLE\\eve",smb,fs_delete,ok,4711,"/a/{}.txt",""'


class Bus:
    """Topics of one test, with a raw batch of deletions, their events and the alert they raised."""

    def __init__(self, servers: str, prefix: str, folder: Path) -> None:
        self.servers = servers
        self.names = make_topics(servers, prefix, "raw.syslog", "events.file-audit", "alerts", partitions=1)
        self.settings = ServiceSettings(kafka_bootstrap_servers=servers, topic_prefix=prefix, instance="tester")
        self.producer = DeliveryProducer(self.settings)
        folder.mkdir()
        (folder / "a.yml").write_text(RULE, encoding="utf-8")
        self.folder = folder
        self.offline = Offline(load_rules(folder))
        self.offset = 0

    def batch(self, *units: bytes, published: int = 99) -> list[dict[str, Any]]:
        """One raw batch with the events of its units; the first `published` of them are written to their topic."""
        made = RawBatch(new_batch_id(), "here", "receive.syslog", "udp", "192.0.2.1", 5514, time.time_ns() // 1000, list(units))
        deliver_now(self.producer, self.names["raw.syslog"], Encoder("raw-batch")(made.to_record()), partition=0)
        where = RawCoordinates(self.names["raw.syslog"], 0, self.offset)
        self.offset += 1
        events = make_process()(made, where).events["file-audit"]
        for record in events[:published]:
            value, stamp = Encoder("file-audit")(record), made.received_at // 1000
            deliver_now(self.producer, self.names["events.file-audit"], value, partition=0, timestamp_ms=stamp)
        self.offline.feed({"file-audit": events}, made.received_at, *where)
        return events

    def alert(self, **changed: Any) -> str:
        """Publish the latest state of the alert; its id."""
        record = self.offline.alerts[-1] | changed
        value = Encoder("alert")(record)
        deliver_now(self.producer, self.names["alerts"], value, key=record["alert_id"])
        return str(record["alert_id"])

    def run(self, *arguments: str | Path, command: Any = app) -> tuple[int, str, str]:
        environment = {"WEIR_KAFKA_BOOTSTRAP_SERVERS": self.servers, "WEIR_TOPIC_PREFIX": self.settings.topic_prefix}
        result = CliRunner().invoke(command, [str(a) for a in arguments], env=environment)
        assert result.exception is None or isinstance(result.exception, SystemExit), result.output
        return result.exit_code, result.stdout, result.stderr

    def forget(self, topic: str, before: int) -> None:
        """Delete a topic's records up to this offset, as retention does."""
        asked = [TopicPartition(self.names[topic], 0, before)]
        admin = AdminClient({"bootstrap.servers": self.servers})
        for future in admin.delete_records(asked).values():
            future.result(20)


def line(name: str) -> bytes:
    return DELETE.format(name).encode()


@pytest.fixture
def bus(kafka: str, topic_prefix: str, tmp_path: Path) -> Iterator[Bus]:
    made = Bus(kafka, topic_prefix, tmp_path / "rules")
    yield made
    made.producer.close(1.0)


@pytest.mark.kafka
class TestAll:
    def test_all_of_it_is_found_checked_and_written(self, bus: Bus, tmp_path: Path) -> None:
        bus.batch(line("other"))
        bus.batch(line("one"), b"<14>no deletion", line("two"))
        alert = bus.alert()
        code, out, err = bus.run("evidence", alert[:10], "--json", "--out", tmp_path / "case")
        assert code == 0, err
        found = json.loads(out)
        assert (found["complete"], found["raw_found"], found["events_found"]) == (True, 3, 3)
        assert [one["raw"]["text"] for one in found["evidence"]] == [line(name).decode() for name in ("other", "one", "two")]
        assert [one["raw"]["unit"] for one in found["evidence"]] == [0, 0, 2]
        assert [one["event"]["record"]["file_path"] for one in found["evidence"]] == ["/a/other.txt", "/a/one.txt", "/a/two.txt"]
        assert found["evidence"][0]["raw"]["source_ip"] == "192.0.2.1"
        written = sorted(path.relative_to(tmp_path / "case").as_posix() for path in (tmp_path / "case").rglob("*.*"))
        assert [name for name in written if "/" not in name] == ["alert.json", "events.jsonl", "evidence.json"]
        raw = [path.read_bytes() for path in (tmp_path / "case" / "raw").iterdir()]
        assert sorted(raw) == sorted(line(name) for name in ("other", "one", "two"))

    def test_it_reads_like_a_case_file(self, bus: Bus) -> None:
        bus.batch(line("one"))
        code, out, _ = bus.run("evidence", bus.alert())
        assert code == 0
        text = " ".join(out.split())
        for part in ("HIGH Deletion", "EXAMPLE\\eve", "T1485", "tidying up", '"/a/one.txt"', "ids verified", "Somebody deletes."):
            assert part in text, out
        assert "\x1b[" not in out

    def test_the_latest_state_of_an_alert_counts(self, bus: Bus) -> None:
        bus.batch(line("one"))
        alert = bus.alert(revision=3, state="update")
        bus.alert(revision=2, state="new")
        (found,) = find_alerts(bus.settings, alert, 0)
        assert (found["revision"], found["state"]) == (3, "update")

    def test_an_event_is_explained_by_its_id(self, bus: Bus) -> None:
        (event,) = bus.batch(line("one"))
        code, out, _ = bus.run("explain", event["event_id"], "--folder", bus.folder, command=rules_app)
        assert code == 0
        assert "✓ Deletion" in out
        code, _, err = bus.run("explain", f"{'0' * 32}-0-0", "--folder", bus.folder, command=rules_app)
        assert code == 3
        assert "no event topic has" in err

    def test_a_batch_id_tells_its_time(self, bus: Bus) -> None:
        (event,) = bus.batch(line("one"))
        assert abs(batch_time_us(event["event_id"]) - event["event_created"]) < 5_000_000
        with EvidenceReader(bus.settings) as reader:
            dataset, record = reader.find_event(event["event_id"]) or ("", {})
        assert (dataset, record["event_id"]) == ("file-audit", event["event_id"])


@pytest.mark.kafka
class TestMissing:
    def states(self, bus: Bus, alert: str) -> tuple[int, list[tuple[str, str]]]:
        code, out, _ = bus.run("evidence", alert, "--json")
        return code, [(one["raw"]["state"], one["event"]["state"]) for one in json.loads(out)["evidence"]]

    def test_an_event_that_a_filter_kept_back_is_told_apart_from_one_that_has_expired(self, bus: Bus) -> None:
        bus.batch(line("one"), line("two"), published=1)
        alert = bus.alert()
        assert self.states(bus, alert) == (1, [("found", "found"), ("found", "unpublished")])
        code, out, _ = bus.run("evidence", alert)
        text = " ".join(out.split())
        assert code == 1
        assert "a filter sampled or merged it (docs/filters.md)" in text
        assert "the event as the alert itself carries it" in text
        assert "Azure Data Explorer" in text

    def test_what_kafka_has_deleted_has_expired(self, bus: Bus) -> None:
        bus.batch(line("one"))
        bus.batch(line("two"))
        alert = bus.alert()
        bus.forget("raw.syslog", 1)
        bus.forget("events.file-audit", 2)
        assert self.states(bus, alert) == (1, [("expired", "expired"), ("found", "expired")])

    def test_another_record_at_the_place_is_not_taken_for_evidence(self, bus: Bus) -> None:
        bus.batch(line("one"))
        bus.batch(line("two"))
        first, second = bus.offline.alerts[0]["evidence"], bus.offline.alerts[-1]["evidence"]
        moved = [one | {"raw_offset": 1} for one in first]
        beyond = [one | {"raw_offset": 9} for one in first]
        foreign = [one | {"raw_topic": "elsewhere.raw.syslog.v1"} for one in first]
        assert self.states(bus, bus.alert(evidence=moved, revision=90)) == (1, [("another", "found")])
        assert self.states(bus, bus.alert(evidence=beyond, revision=91)) == (1, [("absent", "found")])
        assert self.states(bus, bus.alert(evidence=foreign, revision=92)) == (1, [("absent", "found")])
        assert len(second) == 2

    def test_there_is_no_such_alert_or_more_than_one(self, bus: Bus) -> None:
        bus.batch(line("one"))
        bus.alert(alert_id="a" * 32)
        bus.alert(alert_id="a" * 31 + "b")
        code, _, err = bus.run("evidence", "f" * 32)
        assert (code, "no alert ffff" in err) == (2, True)
        code, _, err = bus.run("evidence", "a" * 20)
        assert (code, "2 alerts begin with" in err) == (2, True)
        assert bus.run("evidence", "aaa")[0] == 2
        assert bus.run("evidence", "a" * 32, "--since", "whenever")[0] == 2


def test_brokers_that_are_away_are_named_with_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("weir.tools.ledger._SECONDS", 0.5)
    result = CliRunner().invoke(app, ["evidence", "a" * 32], env={"WEIR_KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1"})
    assert result.exit_code == 3
    assert "way out" in result.stderr
