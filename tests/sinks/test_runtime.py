"""The runtime with a real Kafka: nothing is committed that has not been delivered, and all of it is in the ledger."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence

import pytest
from confluent_kafka import TopicPartition

from tests.support import eventually
from weir.bus.deadletter import reason_of
from weir.sinks import lane as lane_module
from weir.sinks.destination import Misconfigured, Rejected, Retry, Row
from weir.sinks.progress import EXPIRED

from .kafka_bench import KafkaBench
from .samples import FakeDestination, cef, encode

pytestmark = pytest.mark.kafka


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lane_module, "_FIRST_BACKOFF_SECONDS", 0.01)


def test_everything_is_delivered_committed_and_in_the_ledger(bench: KafkaBench) -> None:
    ids = bench.fill(2_000)
    destination = FakeDestination(max_parallel=2)
    running = bench.start(destination)
    eventually(lambda: len(destination.accepted) >= 2_000, timeout=30)
    eventually(lambda: bench.committed() == bench.ends("events.cef"))
    running.stop()
    assert sorted(destination.accepted) == sorted(ids)
    total = bench.ledger_sum()
    assert (total.events_in, total.delivered, total.dead) == (2_000, 2_000, 0)
    entry = next(iter(bench.ledger().values()))
    assert (entry.service, entry.instance, entry.topic) == ("sink.fake", "sink-0", bench.names["events.cef"])
    assert {dataset for _, _, dataset in entry.lines} == {"table-events.cef"}


def test_an_outage_is_sat_out_while_the_group_keeps_its_partitions(bench: KafkaBench) -> None:
    down = threading.Event()
    down.set()

    def answer(topic: str, rows: Sequence[Row]) -> list[Rejected]:
        if down.is_set():
            raise Retry("connection refused")
        return []

    ids = bench.fill(500)
    destination = FakeDestination(answer)
    running = bench.start(destination)
    eventually(lambda: len(destination.calls) > 5, timeout=30)
    assert "connection refused" in (running.sink.not_ready() or "")
    assert set(bench.committed().values()) == {0}
    down.clear()
    eventually(lambda: bench.committed() == bench.ends("events.cef"), timeout=30)
    assert running.sink.not_ready() is None
    running.stop()
    assert sorted(destination.accepted) == sorted(ids)


def test_poison_and_rejected_records_end_in_the_dead_letter_topic_as_they_were(bench: KafkaBench) -> None:
    def answer(topic: str, rows: Sequence[Row]) -> list[Rejected]:
        return [Rejected(row, "column Port: not a number") for row in rows if row.record["cef_name"] == "bad"]

    bench.fill(50)
    bad = encode("cef", cef(99, cef_name="bad"))
    bench.put("events.cef", [b"\x00\x01nonsense"], key=b"k1")
    bench.put("events.cef", [bad], key=b"k2")
    destination = FakeDestination(answer)
    running = bench.start(destination)
    eventually(lambda: bench.committed() == bench.ends("events.cef"), timeout=30)
    running.stop()
    assert len(destination.accepted) == 50
    letters = {message.key(): message for message in bench.read("events.cef.dlq")}
    assert set(letters) == {b"k1", b"k2"}
    assert letters[b"k1"].value() == b"\x00\x01nonsense"
    assert letters[b"k2"].value() == bad
    assert reason_of(letters[b"k2"].headers()) == "column Port: not a number"
    headers = dict(letters[b"k2"].headers())
    assert headers["__connect.errors.connector.name"] == b"sink.fake"
    assert headers["__connect.errors.topic"] == bench.names["events.cef"].encode()
    total = bench.ledger_sum()
    assert (total.events_in, total.delivered, total.dead) == (52, 50, 2)


def test_the_largest_record_still_fits_into_the_dead_letter_topic(bench: KafkaBench) -> None:
    largest = b"\x00" + b"x" * 999_000
    bench.put("events.cef", [largest])
    running = bench.start(FakeDestination())
    eventually(lambda: bench.committed() == bench.ends("events.cef"), timeout=30)
    running.stop()
    assert [message.value() for message in bench.read("events.cef.dlq")] == [largest]


def test_a_topic_whose_table_hangs_does_not_hold_up_the_others(bench: KafkaBench) -> None:
    release = threading.Event()

    def answer(topic: str, rows: Sequence[Row]) -> list[Rejected]:
        if topic == "events.cef":
            release.wait(60)
        return []

    slow = bench.fill(100, "events.cef")
    fast = bench.fill(300, "events.syslog", first=1_000)
    destination = FakeDestination(answer)
    running = bench.start(destination, ["events.cef", "events.syslog"])
    eventually(lambda: set(fast) <= set(destination.accepted), timeout=30)
    eventually(lambda: bench.committed(topic="events.syslog") == bench.ends("events.syslog"))
    assert set(bench.committed().values()) == {0}
    release.set()
    eventually(lambda: set(slow) <= set(destination.accepted))
    running.stop()


def test_memory_is_bounded_while_the_destination_is_away(bench: KafkaBench) -> None:
    release = threading.Event()

    def answer(topic: str, rows: Sequence[Row]) -> list[Rejected]:
        if not release.is_set():
            raise Retry("away")
        return []

    ids = bench.fill(6_000, message="m" * 1_000)
    destination = FakeDestination(answer, max_rows=10_000)
    running = bench.start(destination, sink_buffer_bytes=1024 * 1024, sink_linger_seconds=0.0)
    eventually(lambda: running.sink._paused, timeout=30)
    most = 0
    deadline = time.monotonic() + 1.0
    while time.monotonic() < deadline:
        most = max(most, running.sink._in_hand["events.cef"])
        release.wait(0.02)
    # One read may go over the share; the rest of the 7 MB stays in Kafka.
    assert most < 3 * 1024 * 1024
    release.set()
    eventually(lambda: bench.committed() == bench.ends("events.cef"), timeout=30)
    running.stop()
    assert set(destination.accepted) == set(ids)
    assert running.sink._in_hand["events.cef"] == 0


def test_stopping_finishes_what_is_under_way_and_nothing_is_delivered_twice(bench: KafkaBench) -> None:
    started = threading.Event()

    def answer(topic: str, rows: Sequence[Row]) -> list[Rejected]:
        started.set()
        threading.Event().wait(0.3)
        return []

    ids = bench.fill(400)
    first = FakeDestination(answer, max_rows=50)
    running = bench.start(first)
    assert started.wait(30)
    running.stop()
    assert first.closed
    assert 0 < len(first.accepted) < 400
    second = FakeDestination()
    again = bench.start(second)
    eventually(lambda: bench.committed() == bench.ends("events.cef"), timeout=30)
    again.stop()
    assert sorted(first.accepted + second.accepted) == sorted(ids)
    total = bench.ledger_sum()
    assert (total.events_in, total.delivered) == (400, 400)


def test_two_sinks_share_the_work_and_a_revoked_partition_goes_on_elsewhere(bench: KafkaBench) -> None:
    first, second = FakeDestination(), FakeDestination()
    one = bench.start(first, instance="sink-0")
    ids = bench.fill(500)
    eventually(lambda: len(first.accepted) >= 100, timeout=30)
    two = bench.start(second, instance="sink-1")
    number = 1_000

    def both_work() -> bool:
        nonlocal number
        ids.extend(bench.fill(50, first=number))
        number += 50
        return len(second.accepted) > 100

    eventually(both_work, timeout=60)
    eventually(lambda: bench.committed() == bench.ends("events.cef"), timeout=30)
    one.stop()
    two.stop()
    assert set(first.accepted) | set(second.accepted) == set(ids)
    total = bench.ledger_sum()
    assert total.delivered == len(ids)


def test_expired_offsets_are_written_to_the_ledger_and_passed(bench: KafkaBench) -> None:
    bench.fill(400)
    first = FakeDestination()
    bench_one = bench.start(first)
    eventually(lambda: bench.committed() == bench.ends("events.cef"), timeout=30)
    bench_one.stop()
    before = bench.ends("events.cef")
    bench.fill(400, first=1_000)
    middle = bench.ends("events.cef")
    full = bench.names["events.cef"]
    for future in bench.admin.delete_records([TopicPartition(full, p, end) for p, end in middle.items()]).values():
        future.result(30)
    kept = bench.fill(100, first=5_000)
    second = FakeDestination()
    running = bench.start(second)
    eventually(lambda: bench.committed() == bench.ends("events.cef"), timeout=30)
    running.stop()
    assert set(second.accepted) == set(kept)
    gone = {(e.partition, e.first_offset, e.last_offset) for e in bench.ledger().values() if e.note == EXPIRED}
    assert gone == {(p, before[p], middle[p] - 1) for p in before if middle[p] > before[p]}


def test_a_destination_that_will_never_work_ends_the_sink(bench: KafkaBench) -> None:
    def answer(topic: str, rows: Sequence[Row]) -> list[Rejected]:
        raise Misconfigured(["WEIR_X: no such database"])

    bench.fill(10)
    running = bench.start(FakeDestination(answer))
    eventually(lambda: not running.alive, timeout=30)
    with pytest.raises(Misconfigured, match="no such database"):
        running.stop()
    assert set(bench.committed().values()) == {0}


def test_preparing_is_tried_until_it_succeeds(bench: KafkaBench) -> None:
    class Slow(FakeDestination):
        tries = 0

        def prepare(self, topics: Sequence[str]) -> None:
            self.tries += 1
            if self.tries < 3:
                raise Retry("cluster is starting")

    bench.fill(10)
    destination = Slow()
    running = bench.start(destination)
    eventually(lambda: "cluster is starting" in (running.sink.not_ready() or ""))
    eventually(lambda: len(destination.accepted) == 10, timeout=30)
    assert destination.tries == 3
    running.stop()
