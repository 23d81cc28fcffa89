"""The processors' runtime as real processes on a real Kafka: killed, doubled, stopped, and left without its broker."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
import uuid
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, KafkaException, Message, TopicPartition
from confluent_kafka.admin import AdminClient

from tests.support import eventually
from weir.bus import topics
from weir.bus.codec import Decoder, Encoder
from weir.bus.deadletter import reason_of
from weir.bus.offsets import watermarks
from weir.bus.producer import Delivery, DeliveryProducer
from weir.local.kafka import Kafka
from weir.local.ports import find_free_port
from weir.model.batch import RawBatch
from weir.model.ids import event_id
from weir.model.ledger import LedgerCounts, LedgerEntry
from weir.model.topics import TopicNames, declarations
from weir.processors.runtime import ProcessorSettings

WEIR = str(Path(sys.executable).with_name("weir"))
PARTITIONS = 4
LINES = 50
SECOND = 1_000_000
PRIORITY = b"<13>Oct 11 22:14:15 host app[1]: "
BROKEN = b"<13>Oct 11 22:14:15 host CEF:0|broken"
EVENTS = ("events.syslog", "events.cef", "events.file-audit")

pytestmark = pytest.mark.kafka


def units(number: int) -> list[bytes]:
    """Plain lines; one is empty and, in every third batch, one announces CEF and is none."""
    lines = [PRIORITY + f"batch {number} line {n}".encode() for n in range(LINES)]
    lines[7] = b"  "
    if number % 3 == 0:
        lines[11] = BROKEN
    return lines


def batch(number: int) -> RawBatch:
    return RawBatch(
        batch_id=uuid.uuid5(uuid.NAMESPACE_OID, str(number)).bytes,
        site="s",
        receiver="r",
        transport="udp",
        source_ip=f"192.0.2.{number % 7}",
        listener_port=514,
        received_at=1_790_000_000 * SECOND + number * 7 * SECOND,
        units=units(number),
    )


@dataclass
class Fed:
    """What was put into the raw topic, and what must come of it."""

    ids: set[str] = field(default_factory=set)
    dead: set[tuple[str, int]] = field(default_factory=set)
    counts: LedgerCounts = field(default_factory=LedgerCounts)

    def add(self, one: RawBatch) -> None:
        for n, unit in enumerate(one.units):
            if not unit.strip():
                self.counts.units_empty += 1
            elif unit == BROKEN:
                self.counts.units_dead += 1
                self.dead.add((one.batch_id.hex(), n))
            else:
                self.ids.add(event_id(one.batch_id.hex(), n))
        self.counts.units_in += len(one.units)
        self.counts.bytes_in += sum(map(len, one.units))


class Bench:
    """Topics under one prefix, processors that read them, and eyes on all of it."""

    def __init__(self, servers: str, prefix: str, folder: Path, **settings: str) -> None:
        self.settings = ProcessorSettings(kafka_bootstrap_servers=servers, topic_prefix=prefix, instance="test")
        self.names = TopicNames(prefix)
        self.folder = folder
        self.extra = {f"WEIR_{name.upper()}": value for name, value in settings.items()}
        self.workers: list[subprocess.Popen[bytes]] = []
        # Asked again and again: a client a question would cost more than what is tested.
        self.watcher = self._consumer(f"{prefix}.process.syslog")
        self.fed = Fed()
        topics.apply(self.settings)
        self.producer = DeliveryProducer(self.settings, delivery_timeout_ms=0, message_timeout_ms=0)
        self.encode = Encoder("raw-batch")
        eventually(lambda: self.sizes("raw.syslog") is not None, 20)

    def start(self, instance: str, **settings: str) -> subprocess.Popen[bytes]:
        environment = {k: v for k, v in os.environ.items() if not k.startswith("WEIR_")} | {
            "WEIR_KAFKA_BOOTSTRAP_SERVERS": self.settings.kafka_bootstrap_servers,
            "WEIR_TOPIC_PREFIX": self.settings.topic_prefix,
            "WEIR_INSTANCE": instance,
            "WEIR_PROCESSOR_COMMIT_SECONDS": "0.1",
            **self.extra,
            **{f"WEIR_{name.upper()}": value for name, value in settings.items()},
        }
        with self.log(instance).open("ab") as output:
            worker = subprocess.Popen([WEIR, "process", "syslog"], env=environment, stdout=output, stderr=output)
        self.workers.append(worker)
        return worker

    def log(self, instance: str) -> Path:
        return self.folder / f"{instance}.log"

    def close(self) -> None:
        for worker in self.workers:
            if worker.poll() is None:
                worker.kill()
            worker.wait(10)
        self.watcher.close()
        self.producer.close(1.0)

    def feed(self, numbers: range) -> None:
        """Queue batches, two to each partition in turn, without waiting for Kafka."""
        for number in numbers:
            one = batch(number)
            self.fed.add(one)
            self.put(self.encode(one.to_record()), number // 2 % PARTITIONS)

    def put(self, value: bytes | None, partition: int) -> None:
        self.producer.produce(self.names["raw.syslog"], value, delivery=Delivery(lambda _: None), partition=partition, key=b"k")

    def sizes(self, *short: str) -> dict[tuple[str, int], int] | None:
        """End offsets; None while a partition has no leader."""
        try:
            return {
                (name, p): watermarks(self.watcher, TopicPartition(self.names[name], p), 5)[1]
                for name in short
                for p in range(PARTITIONS if declarations()[name].scalable else 1)
            }
        except KafkaException:
            return None

    def committed(self) -> list[int]:
        wanted = [TopicPartition(self.names["raw.syslog"], p) for p in range(PARTITIONS)]
        return [max(0, tp.offset) for tp in self.watcher.committed(wanted, timeout=10)]

    def done(self) -> bool:
        """Everything put into the raw topic is committed."""
        try:
            return self.producer.flush(0) == 0 and self.committed() == list((self.sizes("raw.syslog") or {}).values())
        except KafkaException:
            return False

    def wait_done(self, timeout: float = 60.0) -> None:
        try:
            eventually(self.done, timeout)
        except AssertionError as error:
            logs = "\n".join(path.read_text(errors="replace")[-2500:] for path in self.folder.glob("*.log"))
            raise AssertionError(f"{error}; committed {self.committed()}, ends {self.sizes('raw.syslog')}\n{logs}") from error

    def events(self) -> int:
        return sum((self.sizes("events.syslog") or {}).values())

    def read(self, *short: str) -> list[Message]:
        """All records of these topics."""
        ends = eventually(lambda: self.sizes(*short), 10)
        found: list[Message] = []
        with self._consumer("read") as consumer:
            consumer.assign([TopicPartition(self.names[name], p, 0) for (name, p), end in ends.items() if end])
            while len(found) < sum(ends.values()):
                message = consumer.poll(10)
                assert message is not None, f"{len(found)} of {sum(ends.values())} records"
                assert message.error() is None
                found.append(message)
        return found

    def _consumer(self, group: str) -> Any:
        config = {"bootstrap.servers": self.settings.kafka_bootstrap_servers, "group.id": group, "enable.auto.commit": False}
        return Consumer({**config, "auto.offset.reset": "earliest", "reconnect.backoff.max.ms": 500, "log_level": 0})

    def check(self, poison: Sequence[bytes | None] = ()) -> Counter[str]:
        """Nothing is missing or foreign, and the ledger's sums are exact. How often each event id was written."""
        decode = Decoder()
        ids = Counter(str(decode(m.value())["event_id"]) for m in self.read(*EVENTS))
        assert set(ids) == self.fed.ids
        dead = set()
        for message in self.read("raw.syslog.dlq"):
            if message.value() in poison:
                continue
            letter = RawBatch.from_record(decode(message.value()))
            dead |= {(letter.batch_id.hex(), letter.position(n)) for n in range(len(letter.units))}
        assert dead == self.fed.dead
        entries: dict[str, LedgerEntry] = {}
        for message in self.read("ledger"):
            entry = LedgerEntry.from_record(decode(message.value()))
            entries[entry.key] = entry
        total = LedgerCounts()
        covered: dict[int, list[tuple[int, int]]] = defaultdict(list)
        for entry in entries.values():
            assert entry.note is None
            covered[entry.partition].append((entry.first_offset, entry.last_offset))
            for counts in entry.lines.values():
                total.add(counts)
        for partition, ranges in covered.items():
            ranges.sort()
            assert ranges[0][0] == 0
            assert all(a[1] + 1 == b[0] for a, b in pairwise(ranges)), (partition, ranges)
        expected = LedgerCounts(events_out={"events.syslog": len(self.fed.ids)})
        expected.add(self.fed.counts)
        # All lines name the same time; what differs is when their batches were received.
        assert total.clock_offset_events == len(self.fed.ids)
        assert total.clock_offset_min is not None
        expected.offsets(total.clock_offset_events, total.clock_offset_sum, total.clock_offset_min, total.clock_offset_max or 0)
        assert total == expected
        return ids


@pytest.fixture
def bench(topic_prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Bench]]:
    monkeypatch.setenv("WEIR_TOPIC_PARTITIONS", str(PARTITIONS))
    made: list[Bench] = []

    def make(servers: str, **settings: str) -> Bench:
        made.append(Bench(servers, topic_prefix, tmp_path, **settings))
        return made[-1]

    yield make
    for one in made:
        one.close()


def ready(port: int) -> str:
    """The answer of /readyz, with its status."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5) as answer:
            return f"{answer.status} {answer.read().decode().strip()}"
    except urllib.error.HTTPError as error:
        return f"{error.code} {error.read().decode().strip()}"
    except OSError:
        return ""


def test_every_unit_comes_out_as_event_or_dead_letter_and_a_stop_leaves_nothing_to_repeat(
    kafka: str, bench: Callable[..., Bench]
) -> None:
    one = bench(kafka)
    one.feed(range(60))
    # What is no raw record at all: garbage, an unknown schema, an empty value, none, and positions that do not fit.
    crooked = batch(1000)
    crooked.positions = [1, 2, 3]
    poison = [b"\x07garbage", b"\x00\x00\x00\x00\x63rest", b"", None, one.encode(crooked.to_record())]
    for value in poison:
        one.put(value, 1)
    one.fed.counts.units_in += len(poison)
    one.fed.counts.units_dead += len(poison)
    one.feed(range(60, 80))
    port = find_free_port()
    worker = one.start("w-0", health_port=str(port))
    answers = {ready(port)}
    while "200 ready" not in answers:
        answers.add(eventually(lambda: ready(port), 30))
    assert any(a.startswith("503 not yet a member") for a in answers), answers
    one.wait_done()

    letters = one.read("raw.syslog.dlq")
    whole = [m for m in letters if m.value() in poison]
    assert [m.value() for m in whole] == poison
    for message, reason in zip(whole, ("first byte", "not in the catalogue", "empty", "empty", "3 positions for 50"), strict=True):
        headers = dict(message.headers())
        assert reason in reason_of(message.headers())
        assert headers["__connect.errors.topic"] == one.names["raw.syslog"].encode()
        assert headers["__connect.errors.partition"] == b"1"
        assert int(headers["__connect.errors.offset"]) > 0
    units_back = {u for m in letters if m not in whole for u in RawBatch.from_record(Decoder()(m.value())).units}
    assert units_back == {BROKEN}

    worker.send_signal(signal.SIGTERM)
    assert worker.wait(20) == 0
    one.start("w-0")
    one.feed(range(80, 84))
    one.wait_done()
    assert len(one.read("raw.syslog.dlq")) == len(letters) + 1
    assert max(one.check(poison).values()) == 1


def test_a_stop_under_load_leaves_nothing_to_repeat(kafka: str, bench: Callable[..., Bench]) -> None:
    one = bench(kafka)
    one.feed(range(150))
    worker = one.start("w-0", processor_max_in_flight="4")
    eventually(lambda: one.events() > 300, 60)
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(25) == 0
    assert sum(one.committed()) > 0
    one.start("w-0")
    one.wait_done()
    assert max(one.check().values()) == 1


def test_killed_twice_under_load_nothing_is_missing_and_the_ledger_is_exact(kafka: str, bench: Callable[..., Bench]) -> None:
    one = bench(kafka)
    one.feed(range(60))
    for kill in range(2):
        seen = one.events()
        worker = one.start("w-0", processor_max_in_flight="4")
        eventually(lambda seen=seen: one.events() > seen + 300, 60)
        one.feed(range(60 + kill * 60, 120 + kill * 60))
        worker.kill()
        assert worker.wait(10) == -signal.SIGKILL
    one.start("w-0")
    one.wait_done()
    ids = one.check()
    assert sum(ids.values()) - len(ids) == one.events() - len(one.fed.ids)


def test_a_second_worker_shares_the_load_and_takes_all_of_it_when_the_first_dies(kafka: str, bench: Callable[..., Bench]) -> None:
    one = bench(kafka, processor_session_seconds="6")
    ports = [find_free_port(), find_free_port()]
    one.feed(range(40))
    first = one.start("w-0", health_port=str(ports[0]))
    eventually(lambda: one.events() > 0, 60)
    one.feed(range(40, 80))
    one.start("w-1", health_port=str(ports[1]))
    one.feed(range(80, 160))
    eventually(lambda: ready(ports[1]).startswith("200"), 60)
    one.wait_done()
    assert max(one.check().values()) == 1, "a scale-out repeats nothing: what was in flight was committed first"

    def shares() -> set[str]:
        return {str(Decoder()(m.value())["instance"]) for m in one.read("ledger")}

    one.feed(range(160, 200))
    eventually(lambda: shares() == {"w-0", "w-1"}, 30)
    one.feed(range(200, 280))
    first.kill()
    assert first.wait(10) == -signal.SIGKILL
    one.wait_done(90)
    one.check()


def test_a_broker_that_dies_under_load_and_comes_back_loses_nothing(tmp_path: Path, bench: Callable[..., Bench]) -> None:
    broker = Kafka(tmp_path / "kafka")
    broker.start()
    try:
        one = bench(broker.bootstrap_servers)
        one.feed(range(60))
        worker = one.start("w-0", processor_max_in_flight="4")
        eventually(lambda: one.events() > 300, 60)
        one.feed(range(60, 160))
        broker.kill()
        broker.start()

        # Whoever started the process starts it again, should it have left.
        def done() -> bool:
            nonlocal worker
            if worker.poll() is not None:
                worker = one.start("w-0")
            return one.done()

        eventually(done, 90)
        one.check()
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(30) == 0
    finally:
        broker.stop()


def test_a_committed_offset_that_has_expired_is_entered_in_the_ledger(kafka: str, bench: Callable[..., Bench]) -> None:
    one = bench(kafka)
    one.feed(range(16))
    worker = one.start("w-0")
    one.wait_done()
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(20) == 0
    one.feed(range(16, 48))
    assert one.producer.flush(20) == 0
    raw = one.names["raw.syslog"]
    admin = AdminClient({"bootstrap.servers": kafka})
    for future in admin.delete_records([TopicPartition(raw, 0, 7), TopicPartition(raw, 1, 4)]).values():
        future.result(20)
    one.start("w-0")
    one.wait_done()
    entries = [LedgerEntry.from_record(Decoder()(m.value())) for m in one.read("ledger")]
    gone = [(e.partition, e.first_offset, e.last_offset, dict(e.lines)) for e in entries if e.note is not None]
    assert gone == [(0, 4, 6, {})]
    assert sum(c.units_in for e in entries for c in e.lines.values()) == one.fed.counts.units_in - 3 * LINES


def test_without_a_broker_or_a_topic_it_says_so_and_leaves(kafka: str, topic_prefix: str) -> None:
    # Together, since one of them waits for its broker first.
    started = []
    for servers, said in ((f"127.0.0.1:{find_free_port()}", "cannot start"), (kafka, "weir topics apply")):
        environment = os.environ | {"WEIR_KAFKA_BOOTSTRAP_SERVERS": servers, "WEIR_TOPIC_PREFIX": topic_prefix}
        command = [WEIR, "process", "syslog"]
        started.append((subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT), said))
    try:
        for process, said in started:
            output, _ = process.communicate(timeout=60)
            assert process.returncode == 69
            assert said in output.decode()
    finally:
        for process, _ in started:
            process.kill()
            process.wait(10)
