"""The way of finished records into Kafka, with and without a disk spool, against a producer that does as the test says."""

from __future__ import annotations

import asyncio
import errno
import os
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import KafkaError
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.receivers.fakes import FakeProducer
from weir.bus.codec import Decoder
from weir.model.batch import RawBatch
from weir.receivers.publishing.batching import Source
from weir.receivers.publishing.publisher import Publisher, open_spool
from weir.receivers.settings import SpoolSettings

RAW = "weir.raw.syslog.v1"
QUARANTINE = "weir.raw.quarantine.v1"
HERE = Source("192.0.2.1", "udp", 5514)
THERE = Source("192.0.2.2", "udp", 5514)
_decode = Decoder()


def run(
    work: Callable[[Publisher, FakeProducer], Awaitable[None]],
    spool: Path | None = None,
    *,
    producer: FakeProducer | None = None,
    **values: Any,
) -> FakeProducer:
    """Run `work` with a publisher."""
    fake = producer or FakeProducer()
    options = {
        "receiver_retry_seconds": 0.01,
        "receiver_stop_seconds": 2.0,
        "receiver_linger_ms": 1,
        "receiver_spool_dir": spool,
        "receiver_spool_after_seconds": 0.1,
        "instance": "tester",
        **values,
    }
    chosen = SpoolSettings(kafka_bootstrap_servers="localhost:1", **options)

    async def main() -> None:
        publisher = Publisher(
            chosen,
            service="receive.test",
            topic="raw.syslog",
            make_producer=lambda: fake,
            spool=open_spool(chosen, "receive.test"),
        )
        await work(publisher, fake)

    asyncio.run(main())
    return fake


async def until(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 - any condition, not one that sets an event
            await asyncio.sleep(0.001)


def put(publisher: Publisher, *units: bytes, source: Source = HERE) -> None:
    """A batch for each unit."""
    for unit in units:
        assert publisher.offer(source, unit)
        publisher.flush()


def on_disk(root: Path) -> int:
    return sum(path.stat().st_size for path in root.rglob("*.spool"))


async def kafka_is_back(publisher: Publisher, fake: FakeProducer) -> None:
    publisher.flush()
    fake.answer()
    fake.prompt = True
    await until(lambda: not publisher.in_flight and not publisher._outbox._behind)


def units(fake: FakeProducer, ip: str = HERE.ip) -> list[bytes]:
    return [unit for batch in fake.batches() if batch.source_ip == ip for unit in batch.units]


def counted(fake: FakeProducer, field: str) -> int:
    return sum(getattr(counts, field) for entry in fake.entries() for counts in entry.lines.values())


def test_when_kafka_is_silent_what_it_was_given_goes_to_disk_and_memory_is_free(tmp_path: Path) -> None:
    ids: list[bytes] = []

    async def work(publisher: Publisher, fake: FakeProducer) -> None:
        put(publisher, b"1", b"2", b"3")
        ids.extend(_decode(value)["batch_id"] for _, _, value, _ in fake.waiting)
        await until(lambda: fake.purged)
        await until(lambda: fake.waiting)
        put(publisher, b"4", b"5")
        assert publisher.in_flight == 1, "one is handed over as a probe"
        assert publisher.memory.used < 5_000
        assert on_disk(tmp_path) > 0
        assert publisher.problem() is None
        await kafka_is_back(publisher, fake)
        assert publisher.memory.used == 0
        assert on_disk(tmp_path) == 0
        put(publisher, b"6")
        assert await publisher.stop() == 0

    fake = run(work, tmp_path)
    assert units(fake) == [b"1", b"2", b"3", b"4", b"5", b"6"]
    assert [batch.batch_id for batch in fake.batches()][:3] == ids
    assert counted(fake, "units_in") == 6
    assert counted(fake, "units_dropped") == 0


def test_what_had_arrived_before_it_was_taken_back_is_not_sent_again(tmp_path: Path) -> None:
    async def work(publisher: Publisher, fake: FakeProducer) -> None:
        put(publisher, b"1", b"2", b"3")
        in_flight, fake.waiting = fake.waiting, []  # what a purge cannot reach
        await until(lambda: fake.waiting)  # the probe: the first again
        late = FakeProducer()
        late.waiting = in_flight
        late.answer()
        fake.taken += late.taken
        await kafka_is_back(publisher, fake)
        assert await publisher.stop() == 0

    fake = run(work, tmp_path)
    assert units(fake) == [b"1", b"2", b"3", b"1"]
    assert len({batch.batch_id for batch in fake.batches()}) == 3
    assert counted(fake, "units_in") == 3


def test_stopping_while_kafka_is_away_loses_nothing_and_the_next_start_sends_it(tmp_path: Path) -> None:
    minute: list[int] = []

    async def first(publisher: Publisher, fake: FakeProducer) -> None:
        put(publisher, b"1", b"2")
        publisher.offer(THERE, b"lingers")
        publisher.drop(THERE.ip, 5, "test")
        publisher.send("weir.state", "key", b"state")
        begun = time.monotonic()
        assert await publisher.stop() == 0
        assert time.monotonic() - begun < 1.5
        assert publisher.memory.used == publisher._outbox.in_flight * 0 + sum(p.cost for p in publisher._outbox._pending)
        assert fake.closed

    fake = run(first, tmp_path, receiver_linger_ms=1_000)
    assert fake.taken == []
    minute.append(int(time.time()) // 60)

    async def second(publisher: Publisher, fake: FakeProducer) -> None:
        await until(lambda: on_disk(tmp_path) == 0)
        assert await publisher.stop() == 0

    fake = run(second, tmp_path, producer=FakeProducer(prompt=True))
    assert units(fake) == [b"1", b"2"]
    assert units(fake, THERE.ip) == [b"lingers"]
    assert counted(fake, "units_in") == 3
    assert counted(fake, "units_dropped") == 5, "the ledger entry of the first life was kept as well"


def test_a_killed_process_leaves_its_batches_to_the_next(tmp_path: Path) -> None:
    async def first(publisher: Publisher, fake: FakeProducer) -> None:
        put(publisher, b"1", b"2", b"3")
        await until(lambda: fake.purged)
        spool = publisher._outbox._spool
        assert spool is not None
        assert publisher._outbox._watch_task is not None
        publisher._outbox._watch_task.cancel()
        os.close(spool._lock)  # all that a kill does to it

    run(first, tmp_path)

    async def second(publisher: Publisher, fake: FakeProducer) -> None:
        put(publisher, b"4")
        await until(lambda: on_disk(tmp_path) == 0)
        assert await publisher.stop() == 0

    fake = run(second, tmp_path, producer=FakeProducer(prompt=True))
    assert units(fake) == [b"1", b"2", b"3", b"4"]


def test_a_full_spool_fills_memory_and_then_datagrams_are_dropped_and_counted(tmp_path: Path) -> None:
    accepted = dropped = 0

    async def work(publisher: Publisher, fake: FakeProducer) -> None:
        nonlocal accepted, dropped
        async with asyncio.timeout(20):
            while not dropped:
                for _ in range(20):
                    took = publisher.offer(HERE, b"%d " % (accepted + dropped) + b"x" * 60_000)
                    accepted += took
                    dropped += not took
                await asyncio.sleep(0)
        assert on_disk(tmp_path) > 7_000_000
        assert "WEIR_RECEIVER_SPOOL_BYTES" in (publisher.problem() or "")
        await kafka_is_back(publisher, fake)
        assert publisher.problem() is None
        assert publisher.memory.used == 0
        assert await publisher.stop() == 0

    fake = run(work, tmp_path, receiver_memory_bytes=2 * 1024 * 1024, receiver_spool_bytes=8 * 1024**2, receiver_linger_ms=50)
    assert accepted > 130, "spool and memory"
    numbers = [int(unit.split()[0]) for unit in units(fake)]
    assert numbers == sorted(numbers)
    assert len(numbers) == counted(fake, "units_in") == accepted
    assert counted(fake, "units_dropped") == dropped


def test_a_full_disk_leaves_batches_in_memory_in_their_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(fd: int, buffers: list[bytes], offset: int) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    async def work(publisher: Publisher, fake: FakeProducer) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(os, "pwritev", full)
            put(publisher, b"1", b"2")
            await until(lambda: fake.purged)
            put(publisher, b"3")
            assert publisher.in_flight == 3
            assert "No space left" in (publisher.problem() or "")
        put(publisher, b"4")
        await until(lambda: on_disk(tmp_path) > 64)
        assert publisher.problem() is None
        await kafka_is_back(publisher, fake)
        assert await publisher.stop() == 0

    assert units(run(work, tmp_path)) == [b"1", b"2", b"3", b"4"]


def test_nothing_goes_to_disk_past_older_batches_that_were_handed_over_from_memory(tmp_path: Path) -> None:
    async def work(publisher: Publisher, fake: FakeProducer) -> None:
        limit_spool(publisher, 0)
        publisher._outbox._take_back("test", away=True)
        put(publisher, *numbers[:3])
        await until(lambda: fake.waiting)
        fake.answer()
        await until(lambda: fake.waiting)  # the second, from memory; the window has no room for the third
        limit_spool(publisher, 1 << 30)
        put(publisher, numbers[3])
        publisher._outbox._take_back("test", away=True)
        await kafka_is_back(publisher, fake)
        assert await publisher.stop() == 0

    numbers = [b"%d" % number + b"x" * 600_000 for number in range(4)]
    numbers[0] = numbers[3] = b"short"
    fake = run(work, tmp_path, receiver_spool_after_seconds=60, receiver_memory_bytes=2 * 1024 * 1024)
    assert [unit[:9] for unit in units(fake)] == [unit[:9] for unit in numbers]


def test_with_a_full_disk_and_without_kafka_the_end_says_what_is_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(fd: int, buffers: list[bytes], offset: int) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    async def work(publisher: Publisher, fake: FakeProducer) -> None:
        monkeypatch.setattr(os, "pwritev", full)
        put(publisher, b"1", b"2")
        assert await publisher.stop() == 2

    run(work, tmp_path)


def test_a_kafka_that_is_only_slow_gets_what_memory_cannot_hold_from_disk(tmp_path: Path) -> None:
    """Acknowledgements keep coming, so Kafka is not away; still nothing is dropped while the disk has room."""

    async def work(publisher: Publisher, fake: FakeProducer) -> None:
        for number in range(200):
            assert publisher.offer(HERE, b"%d " % number + b"x" * 60_000)
            publisher.flush()
            if fake.waiting and number % 4 == 0:
                _acknowledge(fake, 1)
                await asyncio.sleep(0.001)
        assert not publisher._outbox._away
        assert on_disk(tmp_path) > 1_000_000
        await kafka_is_back(publisher, fake)
        assert await publisher.stop() == 0

    fake = run(work, tmp_path, receiver_memory_bytes=2 * 1024 * 1024, receiver_spool_after_seconds=60)
    seen = list(dict.fromkeys(int(unit.split()[0]) for unit in units(fake)))
    assert seen == list(range(200))


def limit_spool(publisher: Publisher, size: int) -> None:
    assert publisher._outbox._spool is not None
    publisher._outbox._spool.max_bytes = size


def _acknowledge(fake: FakeProducer, count: int) -> None:
    later, fake.waiting = fake.waiting[count:], fake.waiting[:count]
    fake.answer()
    fake.waiting = later


_steps = st.lists(
    st.one_of(
        st.tuples(st.just("offer"), st.integers(0, 2), st.sampled_from([1, 5_000, 60_000])),
        st.tuples(
            st.sampled_from(["ack", "lose", "fail", "silence", "kill", "stop", "full", "room", "watch"]),
            st.integers(0, 30),
            st.just(0),
        ),
    ),
    min_size=10,
    max_size=80,
)


@given(_steps)
@settings(max_examples=60, deadline=None)
def test_whatever_kafka_and_the_process_do_all_that_was_taken_arrives_in_order(steps: list[tuple[str, int, int]]) -> None:
    """Order by source: of the first arrivals, among what was not killed in memory."""
    offered: list[tuple[str, bytes]] = []
    taken: list[tuple[str, str, bytes]] = []
    lost: set[bytes] = set()
    number = 0
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        todo = list(steps)

        async def life(publisher: Publisher, fake: FakeProducer) -> None:
            nonlocal number
            while todo:
                kind, value, size = todo.pop(0)
                if kind == "offer":
                    for _ in range(4):
                        source = Source(f"192.0.2.{value}", "udp", 1)
                        number += 1
                        unit = (b"%d " % number).ljust(size, b"x")
                        if publisher.offer(source, unit):
                            offered.append((source.ip, unit))
                        publisher.flush()
                elif kind == "ack":
                    _acknowledge(fake, value)
                elif kind == "lose":  # taken by Kafka, and its answer lost
                    fake.taken += [entry[:3] for entry in fake.waiting[:value]]
                elif kind == "fail" and not publisher._outbox._flying > 1:
                    fake.answer("broker away")
                elif kind in ("full", "room"):
                    limit_spool(publisher, 0 if kind == "full" else 1 << 30)
                elif kind == "watch":
                    publisher._outbox._take_back("test", away=publisher._outbox._away)
                elif kind == "silence":
                    publisher._outbox._take_back("test", away=True)
                elif kind == "kill":
                    held = [*publisher._outbox._waiting, *(p for p in publisher._outbox._pending if p.place is None)]
                    lost.update(u for p in held if p.counts and p.value for u in RawBatch.from_record(_decode(p.value)).units)
                    spool = publisher._outbox._spool
                    assert spool is not None
                    assert publisher._outbox._watch_task is not None
                    publisher._outbox._watch_task.cancel()
                    publisher._ledger_task.cancel()
                    os.close(spool._lock)
                    break
                elif kind == "stop":
                    limit_spool(publisher, 1 << 30)
                    publisher._outbox._take_back("test", away=True)
                    assert await publisher.stop() == 0
                    break
                await asyncio.sleep(0)
                assert publisher.memory.used <= 2 * 1024 * 1024 + 600_000
            else:
                if number % 2:
                    limit_spool(publisher, 1 << 30)
                await kafka_is_back(publisher, fake)
                assert publisher.memory.used == 0
                assert await publisher.stop() == 0
            taken.extend(fake.taken)

        while True:
            ended = not todo
            run(life, root, receiver_memory_bytes=2 * 1024 * 1024, receiver_spool_after_seconds=60)
            if ended:
                break
        assert on_disk(root) == 0
    arrived: dict[str, list[bytes]] = {}
    ids: dict[bytes, bytes] = {}
    for topic, _, value in taken:
        if topic == RAW:
            batch = RawBatch.from_record(_decode(value))
            arrived.setdefault(batch.source_ip, []).extend(batch.units)
            for unit in batch.units:
                assert ids.setdefault(unit, batch.batch_id) == batch.batch_id
    for ip in {ip for ip, _ in offered}:
        expected = [unit for at, unit in offered if at == ip and unit not in lost]
        first = [unit for unit in dict.fromkeys(arrived.get(ip, [])) if unit not in lost]
        assert first == expected


def test_a_retried_state_record_does_not_replace_a_newer_one() -> None:
    async def work(publisher: Publisher, fake: FakeProducer) -> None:
        settled: list[str] = []
        publisher.send("weir.state", "key", b"old", settled=lambda: settled.append("old"))
        publisher.send("weir.state", "other", b"other")
        old, fake.waiting = fake.waiting[:1], fake.waiting[1:]
        fake.answer()
        publisher.send("weir.state", "key", b"new", settled=lambda: settled.append("new"))
        fake.answer()
        await until(lambda: settled == ["new"])
        fake.waiting = old
        fake.answer("too late")
        await until(lambda: not publisher.in_flight)
        # And where both fail, only the newer one is tried again.
        publisher.send("weir.state", "key", b"old2")
        fake.answer("away")
        await until(lambda: publisher._outbox._retries)
        publisher.send("weir.state", "key", b"new2")
        await until(lambda: fake.waiting)
        fake.answer()
        await until(lambda: not publisher.in_flight)
        assert publisher.memory.used == 0
        fake.prompt = True
        await publisher.stop()

    fake = run(work)
    assert [value for topic, key, value in fake.taken if (topic, key) == ("weir.state", "key")] == [b"new", b"new2"]


def test_what_comes_behind_a_refused_batch_of_its_key_waits_for_it() -> None:
    async def work(publisher: Publisher, fake: FakeProducer) -> None:
        put(publisher, b"1", b"2")
        put(publisher, b"a", source=THERE)
        fake.answer(KafkaError(KafkaError.UNKNOWN_TOPIC_OR_PART))
        await until(lambda: len(publisher._outbox._retries) == 2)
        put(publisher, b"3")
        assert not fake.waiting
        fake.refuse_at_once = 1
        await until(lambda: len(fake.waiting) == 4)
        fake.prompt = True
        fake.answer()
        await until(lambda: not publisher.in_flight)
        await publisher.stop()

    fake = run(work)
    assert units(fake) == [b"1", b"2", b"3"]
    assert units(fake, THERE.ip) == [b"a"]


def test_quarantined_batches_go_to_their_topic_with_the_name_of_the_other_and_have_a_ledger_of_their_own(tmp_path: Path) -> None:
    async def work(publisher: Publisher, fake: FakeProducer) -> None:
        put(publisher, b"unknown", b"unknown 2", source=HERE._replace(quarantined=True))
        put(publisher, b"known")
        await until(lambda: fake.purged)  # the header must survive the disk
        await kafka_is_back(publisher, fake)
        await publisher.stop()

    fake = run(work, tmp_path)
    assert [batch.units for batch in fake.batches(QUARANTINE)] == [[b"unknown"], [b"unknown 2"]]
    assert units(fake) == [b"known"]
    for topic, _, value in fake.taken:
        if topic == QUARANTINE:
            assert fake.headers[value] == [("weir-topic", RAW.encode())]
    by_topic = {entry.topic: sum(c.units_in for c in entry.lines.values()) for entry in fake.entries()}
    assert by_topic == {QUARANTINE: 2, RAW: 1}
    assert len({entry.key for entry in fake.entries()}) == 2


def test_a_failing_ledger_entry_does_not_end_the_ledger(monkeypatch: pytest.MonkeyPatch) -> None:
    async def work(publisher: Publisher, fake: FakeProducer) -> None:
        real, failures = publisher.ledger.entry, 0

        def fail() -> Any:
            nonlocal failures
            failures += 1
            raise RuntimeError("once")

        publisher.ledger.entry = fail  # type: ignore[method-assign]
        put(publisher, b"x")
        await until(lambda: failures >= 2)
        publisher.ledger.entry = real  # type: ignore[method-assign]
        await until(fake.entries)
        await publisher.stop()

    fake = run(work, producer=FakeProducer(prompt=True), receiver_ledger_seconds=0.01)
    assert counted(fake, "units_in") == 1


def test_damage_in_the_spool_is_counted_as_dropped_where_it_is_known_whose(tmp_path: Path) -> None:
    async def first(publisher: Publisher, fake: FakeProducer) -> None:
        put(publisher, b"1", b"2")
        assert await publisher.stop() == 0

    run(first, tmp_path)
    (path,) = tmp_path.rglob("*.spool")
    content = bytearray(path.read_bytes())
    content[content.rindex(RAW.encode()) - 30] ^= 1  # before the head of the second: in the value of the first
    path.write_bytes(content)

    async def second(publisher: Publisher, fake: FakeProducer) -> None:
        await until(lambda: on_disk(tmp_path) == 0)
        assert await publisher.stop() == 0

    fake = run(second, tmp_path, producer=FakeProducer(prompt=True))
    assert units(fake) == [b"2"]
    assert counted(fake, "units_dropped") == 1
    assert len(list(tmp_path.rglob("*.corrupt"))) == 1


def test_a_ledger_that_is_refused_is_no_reason_to_turn_units_away() -> None:
    async def work(publisher: Publisher, fake: FakeProducer) -> None:
        publisher.send("weir.ledger.v1", "key", b"entry")
        fake.answer("unknown topic")
        await until(lambda: fake.waiting)
        assert publisher.problem() is None
        put(publisher, b"x")
        fake.answer("unknown topic")
        await until(publisher.problem)
        fake.prompt = True
        fake.answer()
        await until(lambda: not publisher.in_flight)
        assert publisher.problem() is None
        assert await publisher.stop() == 0

    fake = run(work, receiver_retry_seconds=0.05)
    assert units(fake) == [b"x"]


def test_what_a_stopping_receiver_has_waited_is_not_waited_once_more() -> None:
    """Else it outlasts the patience of whoever told it to stop, and is killed."""

    async def work(publisher: Publisher, fake: FakeProducer) -> None:
        put(publisher, b"x")
        publisher.stopping()
        assert publisher._stop_by is not None
        publisher._stop_by -= 100
        begun = time.monotonic()
        assert await publisher.stop() == 1
        assert time.monotonic() - begun < 20

    run(work, receiver_stop_seconds=100.0)


def test_units_behind_a_damaged_head_are_counted_once_their_file_is_done_with(tmp_path: Path) -> None:
    async def first(publisher: Publisher, fake: FakeProducer) -> None:
        put(publisher, b"1", b"2", b"3")
        assert await publisher.stop() == 0

    run(first, tmp_path)
    (path,) = tmp_path.rglob("*.spool")
    content = bytearray(path.read_bytes())
    marker = content[64:68]
    content[content.index(marker, 68) + 6] ^= 1  # in the head of the second
    path.write_bytes(content)

    async def second(publisher: Publisher, fake: FakeProducer) -> None:
        await until(lambda: len(fake.waiting) == 2)
        fake.prompt = True
        fake.answer()
        await until(lambda: on_disk(tmp_path) == 0)
        assert await publisher.stop() == 0

    fake = run(second, tmp_path)
    assert units(fake) == [b"1", b"3"]
    assert counted(fake, "units_dropped") == 1
