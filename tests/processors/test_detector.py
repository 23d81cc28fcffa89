"""The detector as a process on a real Kafka: killed in the middle, its alerts are those of a run that was left alone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from confluent_kafka import Consumer, TopicPartition

from tests.support import deliver_now
from weir.bus import topics
from weir.bus.codec import Decoder, Encoder
from weir.bus.offsets import watermarks
from weir.bus.producer import Delivery, DeliveryProducer
from weir.detect.reading.loading import load_rules
from weir.detect.signals.partials import SignalSource, partition_of
from weir.model.ids import event_id
from weir.model.topics import TopicNames
from weir.processors.runtime import ProcessorSettings

PARTITIONS = 2
SECOND = 1_000_000
BEGIN = 1_790_000_000 * SECOND
PROGRAM = (
    "from weir.ops.settings import load\n"
    "from weir.processors import detector\n"
    "from weir.processors.runtime import ProcessorSettings\n"
    "raise SystemExit(detector.main(load(ProcessorSettings)))\n"
)

RULES = Path(__file__).parents[1] / "detect" / "rules"
ALL_OF_THEM = """
title: Mass deletions by several users
id: 4b3f9f2e-6f0e-4a52-8f0c-2f6e5c2a9d10
level: critical
correlation:
  type: event_count
  rules: [qumulo_mass_delete]
  generate: true
  timespan: 30m
  condition: {gte: 3}
"""

pytestmark = pytest.mark.kafka


_FOLDER = TemporaryDirectory()


@cache
def rules() -> Path:
    """A folder with the rules of this test: one of them counts the alerts of another."""
    folder = Path(_FOLDER.name)
    for path in RULES.glob("*.yml"):
        (folder / path.name).write_bytes(path.read_bytes())
    (folder / "all_of_them.yml").write_text(ALL_OF_THEM, encoding="utf-8")
    return folder


@cache
def source() -> SignalSource:
    """Their part in the processors: reading them takes a tenth of a second."""
    return SignalSource(load_rules(rules()))


def batch(number: int, user: str, deletes: int, at: int) -> dict[int, dict[str, Any]]:
    """The signals records of raw record `number`: so many deletes by one user from `at` on, ten a second."""
    batch_hex = f"{number:032x}"
    events = [
        {
            "event_id": event_id(batch_hex, unit),
            "timestamp": at + unit * SECOND // 10,
            "event_created": at,
            "event_module": "qumulo",
            "event_action": "fs_delete",
            "event_outcome": "success",
            "user_id": user,
            "user_name": user,
            "raw_topic": "raw",
            "raw_partition": 0,
            "raw_offset": number,
        }
        for unit in range(deletes)
    ]
    return {
        partition: {
            "signals_id": f"{batch_hex}-{partition}",
            "processor": "process.syslog",
            "rule_set": source().version,
            "raw_topic": "raw",
            "raw_partition": 0,
            "raw_offset": number,
            "received_at": at + deletes * SECOND // 10,
            "partials": partials,
        }
        for partition, partials in source().signals({"file-audit": events}, PARTITIONS).items()
    }


def tick(at: int) -> dict[int, dict[str, Any]]:
    record = {"kind": "tick", "raw_topic": "raw", "received_at": at, "ticks": [{"raw_partition": 0, "low": at}]}
    return dict.fromkeys(range(PARTITIONS), record)


def script() -> list[tuple[int, dict[str, Any]]]:
    """Six users; three of them delete 300, 500 and twice 200 with an hour between. Every fifth raw record is published twice."""
    entries: list[dict[int, dict[str, Any]]] = []
    number = 0
    for hour in range(2):
        for step in range(60):
            at = BEGIN + hour * 3600 * SECOND + step * 2 * SECOND
            users = [(f"quiet{step % 3}", 1)]
            if hour == 0 and step < 30:
                users += [("mallory", 10)]
            if hour == 0 and step < 50:
                users += [("trudy", 10)]
            if step < 20:
                users += [("sybil", 10)]
            for user, deletes in users:
                entries.append(batch(number, user, deletes, at))
                if number % 5 == 4:
                    entries += entries[-4:]
                number += 1
            entries.append(tick(at))
    entries.append(tick(BEGIN + 3 * 3600 * SECOND))
    return [(partition, record) for entry in entries for partition, record in entry.items()]


EXPECTED = {"mallory": [300], "trudy": [500], "sybil": [200, 200]}
# What is counted of these alerts: the second one of sybil comes an hour after the others.
TOGETHER = {"all": [3]}


class Stage:
    """One detector under a prefix of its own."""

    def __init__(self, servers: str, prefix: str, folder: Path) -> None:
        self.settings = ProcessorSettings(kafka_bootstrap_servers=servers, topic_prefix=prefix, instance="detector-0")
        self.names = TopicNames(prefix)
        self.log = folder / f"{prefix}.log"
        self.process: subprocess.Popen[bytes] | None = None
        self.producer = DeliveryProducer(self.settings)
        self.encode = Encoder("signals")
        # Asked again and again: a client a question would cost more than what is tested.
        self.watcher = _consumer(servers, f"{prefix}.process.detector")
        topics.apply(self.settings)

    def start(self) -> None:
        environment = {k: v for k, v in os.environ.items() if not k.startswith("WEIR_")} | {
            "WEIR_KAFKA_BOOTSTRAP_SERVERS": self.settings.kafka_bootstrap_servers,
            "WEIR_TOPIC_PREFIX": self.settings.topic_prefix,
            "WEIR_RULES_DIR": str(rules()),
            "WEIR_INSTANCE": self.settings.instance,
        }
        with self.log.open("ab") as output:
            self.process = subprocess.Popen([sys.executable, "-c", PROGRAM], env=environment, stdout=output, stderr=output)

    def end(self, number: signal.Signals) -> int:
        assert self.process is not None
        self.process.send_signal(number)
        code = self.process.wait(60)
        self.process = None
        return code

    def feed(self, log: list[tuple[int, dict[str, Any]]]) -> None:
        outcome: list[Exception | None] = []
        delivery = Delivery(outcome.append)
        for partition, record in log:
            self.producer.produce(self.names["signals"], self.encode(record), delivery=delivery, partition=partition)
        delivery.seal()
        assert self.producer.flush() == 0
        assert outcome == [None]

    def ends(self, topic: str, partitions: int) -> list[int]:
        return [watermarks(self.watcher, TopicPartition(self.names[topic], p), 20)[1] for p in range(partitions)]

    def committed(self) -> list[int]:
        wanted = [TopicPartition(self.names["signals"], p) for p in range(PARTITIONS)]
        return [tp.offset for tp in self.watcher.committed(wanted, timeout=10)]

    def close(self) -> None:
        if self.process is not None:
            self.end(signal.SIGKILL)
        self.watcher.close()
        self.producer.close()

    def wait(self, condition: Callable[[], bool], what: str, seconds: float = 60.0) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            code = self.process.poll() if self.process else None
            if code is not None or time.monotonic() > deadline:
                where = f"committed {self.committed()} of {self.ends('signals', PARTITIONS)}"
                raise AssertionError(f"no {what} (exit code {code}), {where}:\n{self.log.read_text(errors='replace')[-3000:]}")
            time.sleep(0.02)

    def records(self, topic: str) -> list[dict[str, Any]]:
        """Everything in a topic of one partition."""
        decode, found = Decoder(), []
        end = self.ends(topic, 1)[0]
        with _consumer(self.settings.kafka_bootstrap_servers, "read") as consumer:
            consumer.assign([TopicPartition(self.names[topic], 0, 0)])
            while len(found) < end:
                message = consumer.poll(10)
                assert message is not None
                assert message.error() is None
                found.append(decode(message.value()))
        return found


def _consumer(servers: str, group: str) -> Any:
    return Consumer({"bootstrap.servers": servers, "group.id": group, "enable.auto.commit": False, "auto.offset.reset": "earliest"})


def final(alerts: list[dict[str, Any]]) -> dict[str, tuple[str, str, int]]:
    """By alert id: user, last state and count."""
    latest: dict[str, dict[str, Any]] = {}
    for alert in alerts:
        if alert["revision"] >= latest.get(alert["alert_id"], alert)["revision"]:
            latest[alert["alert_id"]] = alert
    return {key: (a["group_by"].get("user.id", "all"), a["state"], a["event_count"]) for key, a in latest.items()}


@pytest.fixture
def stage(kafka: str, topic_prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], Stage]]:
    monkeypatch.setenv("WEIR_TOPIC_PARTITIONS", str(PARTITIONS))
    made: list[Stage] = []

    def make(name: str) -> Stage:
        made.append(Stage(kafka, f"{topic_prefix}-{name}", tmp_path))
        return made[-1]

    yield make
    for one in made:
        one.close()


def test_the_script_reaches_both_partitions() -> None:
    """Else the test below would prove less than it says."""
    correlation = next(c.id for c in source().rule_set.correlations if c.group_by)
    assert {partition_of(correlation, [user], PARTITIONS) for user in EXPECTED} == {0, 1}


def test_killed_twice_it_raises_the_alerts_of_an_undisturbed_run(stage: Callable[[str], Stage]) -> None:
    log = script()
    calm, rough = stage("calm"), stage("rough")
    calm.feed(log)
    calm.start()
    rough.start()
    third = len(log) // 3
    for part in (log[:third], log[third : 2 * third]):
        before = sum(rough.ends("state.detector", PARTITIONS))
        rough.feed(part)
        # The table is ahead of the committed offsets now: these follow half a second later at the earliest.
        rough.wait(lambda before=before: sum(rough.ends("state.detector", PARTITIONS)) > before + 40, "table writes")
        assert rough.end(signal.SIGKILL) == -signal.SIGKILL
        assert rough.committed() != rough.ends("signals", PARTITIONS)
        rough.start()
    rough.feed(log[2 * third :])
    for one in (calm, rough):
        one.wait(lambda one=one: one.committed() == one.ends("signals", PARTITIONS), "commit of everything")
        # What the alerts count in was told later than the last tick.
        one.feed(list(tick(BEGIN + 6 * 3600 * SECOND).items()))
        one.wait(lambda one=one: one.committed() == one.ends("signals", PARTITIONS), "commit of the last tick")
        assert one.end(signal.SIGTERM) == 0
    undisturbed, disturbed = final(calm.records("alerts")), final(rough.records("alerts"))
    assert disturbed == undisturbed
    by_user: dict[str, list[int]] = {}
    for user, state, count in undisturbed.values():
        assert state == "closed"
        by_user.setdefault(user, []).append(count)
    assert by_user == EXPECTED | TOGETHER
    for one in (calm, rough):
        entries = {(e["partition"], e["first_offset"]): e for e in one.records("ledger")}
        assert {e["service"] for e in entries.values()} == {"process.detector"}
    counted = sum(line["events_in"] for e in calm.records("ledger") for line in e["lines"])
    assert counted == sum(calm.ends("signals", PARTITIONS)) > len(log)


def test_bytes_that_are_no_signals_and_signals_that_cannot_be_merged_go_to_the_dead_letters(stage: Callable[[str], Stage]) -> None:
    one = stage("dead")
    deliver_now(one.producer, one.names["signals"], b"\x07nonsense", partition=0)
    (broken,) = batch(1, "mallory", 3, BEGIN).values()
    for bucket in broken["partials"][0]["buckets"]:
        bucket |= {"first": -(1 << 63), "last": -(1 << 63)}  # the slice it lies in begins before what 64 bits can tell
    deliver_now(one.producer, one.names["signals"], Encoder("signals")(broken), partition=0)
    one.feed(script()[:4])
    one.start()
    one.wait(lambda: sum(max(0, n) for n in one.committed()) == 6, "commit of everything")
    assert one.end(signal.SIGTERM) == 0
    assert one.ends("signals.dlq", 1) == [2]
    entries = one.records("ledger")
    assert sum(line["dead"] for e in entries for line in e["lines"]) == 2
