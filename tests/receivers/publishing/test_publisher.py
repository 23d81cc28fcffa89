"""The publisher against a producer that does as the test says."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from confluent_kafka import KafkaError
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.receivers.fakes import FakeProducer
from weir.bus.codec import Decoder
from weir.model.batch import MAX_BATCH_BYTES
from weir.receivers.publishing.batching import BATCH_OVERHEAD, UNIT_OVERHEAD, Source, content_hash
from weir.receivers.publishing.publisher import Publisher
from weir.receivers.settings import ReceiverSettings

RAW = "weir.raw.syslog.v1"
LEDGER = "weir.ledger.v1"
HERE = Source("192.0.2.1", "udp", 5514)
_decode = Decoder()


def run(
    work: Callable[[Publisher, FakeProducer], Awaitable[None]], *, producer: FakeProducer | None = None, **values: Any
) -> FakeProducer:
    """Run `work` with a publisher."""
    fake = producer or FakeProducer(prompt=True)
    options = {"receiver_retry_seconds": 0.01, "receiver_stop_seconds": 0.3, "instance": "tester", **values}
    chosen = ReceiverSettings(kafka_bootstrap_servers="localhost:1", **options)

    async def main() -> None:
        publisher = Publisher(chosen, service="receive.test", topic="raw.syslog", make_producer=lambda: fake)
        await work(publisher, fake)

    asyncio.run(main())
    return fake


async def until(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 - any condition, not one that sets an event
            await asyncio.sleep(0.001)


def test_units_of_one_source_share_a_batch_and_others_do_not() -> None:
    async def work(publisher: Publisher, fake: FakeProducer) -> None:
        for number in range(3):
            publisher.offer(HERE, b"a%d" % number, 1000)
            publisher.offer(HERE._replace(ip="192.0.2.2"), b"b%d" % number, 1000 + number)
        await until(lambda: len(fake.taken) == 2)
        await publisher.stop()

    fake = run(work, receiver_linger_ms=5)
    first, second = fake.batches()
    assert (first.source_ip, first.units, first.source_port) == ("192.0.2.1", [b"a0", b"a1", b"a2"], 1000)
    assert (second.source_ip, second.units, second.source_port) == ("192.0.2.2", [b"b0", b"b1", b"b2"], None)
    assert first.batch_id != second.batch_id
    assert [key for topic, key, _ in fake.taken if topic == RAW] == ["192.0.2.1", "192.0.2.2"]


def test_a_batch_is_published_when_it_is_full_without_waiting_for_the_linger() -> None:
    async def work(publisher: Publisher, fake: FakeProducer) -> None:
        for _ in range(7):
            publisher.offer(HERE, b"x")
        assert [len(b.units) for b in fake.batches()] == [3, 3]
        await publisher.stop()

    fake = run(work, receiver_batch_units=3, receiver_linger_ms=10_000)
    assert [len(b.units) for b in fake.batches()] == [3, 3, 1]


def test_a_unit_that_no_batch_can_hold_is_cut_and_marked_with_length_and_hash() -> None:
    async def work(publisher: Publisher, fake: FakeProducer) -> None:
        publisher.offer(HERE, b"x" * 2_000_000)
        await publisher.stop()

    (batch,) = run(work).batches()
    (mark,) = batch.truncated
    assert len(batch.units[0]) < 800_000
    assert mark.original_length == 2_000_000
    assert len(mark.sha256) == 32


@pytest.mark.parametrize("at_once", [True, False], ids=["queue full", "delivery failed"])
def test_a_refused_batch_is_produced_again_under_the_same_id(at_once: bool) -> None:
    ids: set[bytes] = set()

    async def work(publisher: Publisher, fake: FakeProducer) -> None:
        fake.refuse_at_once = 2 if at_once else 0
        publisher.offer(HERE, b"precious")
        publisher.flush()
        for _ in range(3):
            if not at_once:
                await until(lambda: fake.waiting)
                ids.add(_decode(fake.waiting[0][2])["batch_id"])
                fake.answer("broker away")
        await until(lambda: fake.waiting)
        assert publisher.problem() is not None
        fake.answer()
        await until(lambda: not publisher.in_flight)
        assert publisher.problem() is None
        fake.prompt = True
        await publisher.stop()

    fake = run(work, producer=FakeProducer())
    (batch,) = fake.batches()
    assert batch.units == [b"precious"]
    assert ids <= {batch.batch_id}


def test_an_error_that_kills_the_producer_makes_a_new_one() -> None:
    makers: list[FakeProducer] = []

    async def main() -> None:
        def make() -> FakeProducer:
            makers.append(FakeProducer(prompt=len(makers) > 0))
            return makers[-1]

        chosen = ReceiverSettings(kafka_bootstrap_servers="localhost:1", receiver_retry_seconds=0.01)
        publisher = Publisher(chosen, service="receive.test", topic="raw.syslog", make_producer=make)
        publisher.offer(HERE, b"one")
        publisher.offer(HERE._replace(ip="192.0.2.2"), b"two")
        publisher.flush()
        makers[0].answer(KafkaError(KafkaError._FATAL))
        await until(lambda: not publisher.in_flight)
        await publisher.stop()

    asyncio.run(main())
    assert len(makers) == 2
    assert sorted(batch.units[0] for batch in makers[1].batches()) == [b"one", b"two"]
    assert makers[0].closed


def test_when_memory_is_full_datagrams_are_dropped_and_counted_by_source() -> None:
    async def work(publisher: Publisher, fake: FakeProducer) -> None:
        accepted = sum(publisher.offer(HERE, b"x" * 60_000) for _ in range(100))
        other = Source("192.0.2.9", "udp", 5514)
        assert not publisher.offer(other, b"y" * 60_000)
        assert 30 <= accepted < 100
        fake.prompt = True
        fake.answer()
        await until(lambda: not publisher.in_flight)
        publisher.flush()
        await publisher.stop()
        lines = [line for entry in fake.entries() for line in entry.lines.items()]
        mine = [counts for key, counts in lines if key[0] == HERE.ip]
        assert sum(c.units_in for c in mine) == accepted
        assert sum(c.units_dropped for c in mine) == 100 - accepted
        assert sum(c.bytes_in for c in mine) == accepted * 60_000
        assert sum(c.units_dropped for key, c in lines if key[0] == other.ip) == 1

    run(work, producer=FakeProducer(), receiver_memory_bytes=2 * 1024 * 1024)


def test_connections_are_paused_at_the_ceiling_and_resumed_when_kafka_answers() -> None:
    states: list[str] = []

    class Connection:
        def pause(self) -> None:
            states.append("paused")

        def resume(self) -> None:
            states.append("resumed")

    async def work(publisher: Publisher, fake: FakeProducer) -> None:
        connection = Connection()
        publisher.memory.watch(connection)
        while not states:
            publisher.offer(HERE, b"x" * 50_000, must=True)
        assert publisher.memory.shut
        publisher.flush()
        fake.answer()
        async with asyncio.timeout(5):
            await publisher.memory.room()
        assert states == ["paused", "resumed"]
        fake.prompt = True
        await publisher.stop()

    run(work, producer=FakeProducer(), receiver_memory_bytes=2 * 1024 * 1024)


_offers = st.lists(
    st.tuples(
        st.integers(0, 5), st.sampled_from([0, 1, 300, 9_000, 65_000]), st.booleans(), st.sampled_from(["", "", "ack", "fail"])
    ),
    min_size=20,
    max_size=200,
)


@given(_offers)
@settings(max_examples=40, deadline=None)
def test_memory_stays_under_its_ceiling_and_every_unit_is_published_or_counted_as_dropped(
    offers: list[tuple[int, int, bool, str]],
) -> None:
    """Whatever comes and however Kafka behaves; what must be taken passes the ceiling by no more than itself."""
    limit = 2 * 1024 * 1024
    offered = dropped = forced = 0

    async def work(publisher: Publisher, fake: FakeProducer) -> None:
        nonlocal offered, dropped, forced
        for who, size, must, kafka in offers:
            for _ in range(5):
                over = must and publisher.memory.used >= limit
                took = publisher.offer(Source(f"192.0.2.{who}", "udp", 1), b"u" * size, must=must)
                offered += 1
                dropped += not took
                forced += size + UNIT_OVERHEAD + BATCH_OVERHEAD if over else 0
                # In flight a batch counts with what it is encoded, a few bytes a unit more or less.
                assert publisher.memory.used <= limit + forced + MAX_BATCH_BYTES
                if took and not must:
                    assert publisher.memory.used <= limit + forced + BATCH_OVERHEAD * (publisher.in_flight + 1)
            if kafka:
                fake.answer(None if kafka == "ack" else "away")
                await asyncio.sleep(0)
        fake.prompt = True
        fake.answer()
        publisher.flush()
        await until(lambda: not publisher.in_flight)
        assert publisher.memory.used == 0
        await publisher.stop()

    fake = run(work, producer=FakeProducer(), receiver_memory_bytes=limit, receiver_retry_seconds=0.001)
    batches = fake.batches()
    assert sum(len(b.units) for b in batches) == offered - dropped
    assert len({b.batch_id for b in batches}) == len(batches)
    counts = [c for entry in fake.entries() for c in entry.lines.values()]
    assert sum(c.units_in for c in counts) == offered - dropped
    assert sum(c.units_dropped for c in counts) == dropped
    assert all(len(value) <= MAX_BATCH_BYTES for _, _, value in fake.taken)


def test_a_source_too_hot_for_one_partition_is_spread_over_further_keys() -> None:
    async def work(publisher: Publisher, fake: FakeProducer) -> None:
        await until(lambda: asyncio.get_running_loop().time() % 1 < 0.5)  # the rule counts by whole seconds
        for _ in range(25):
            publisher.offer(HERE, b"x")
            publisher.flush()
        await publisher.stop()

    fake = run(work, receiver_spread_batches=10)
    keys = [key for topic, key, _ in fake.taken if topic == RAW]
    assert keys == ["192.0.2.1"] * 10 + ["192.0.2.1#1"] * 10 + ["192.0.2.1#2"] * 5


def test_stopping_while_kafka_is_away_ends_in_time_and_says_what_is_lost() -> None:
    async def work(publisher: Publisher, fake: FakeProducer) -> None:
        publisher.offer(HERE, b"x")
        assert await publisher.stop() >= 1
        assert fake.closed

    run(work, producer=FakeProducer(), receiver_stop_seconds=0.05)


def test_ledger_entries_of_one_start_have_running_numbers_and_of_two_starts_differ() -> None:
    keys: set[str] = set()

    async def work(publisher: Publisher, fake: FakeProducer) -> None:
        for _ in range(2):
            publisher.offer(HERE, b"x")
            publisher.flush()
            await until(lambda: not publisher.in_flight)
            publisher.write_ledger()
            await until(lambda: not publisher.in_flight)
        await publisher.stop()
        await asyncio.sleep(0.002)  # names are told apart by the millisecond

    for _ in range(2):
        entries = run(work).entries()
        assert [(e.partition, e.first_offset, e.last_offset, e.topic) for e in entries] == [(-1, 0, 0, RAW), (-1, 1, 1, RAW)]
        keys |= {e.key for e in entries}
    assert len(keys) == 4


def test_invented_addresses_do_not_fill_the_ledger() -> None:
    async def work(publisher: Publisher, fake: FakeProducer) -> None:
        for number in range(6_000):
            publisher.offer(Source(f"2001:db8::{number:x}", "udp", 1), b"")
        publisher.flush()
        await until(lambda: not publisher.in_flight)
        await publisher.stop()

    (entry,) = run(work).entries()
    assert len(entry.lines) <= 4_002
    assert sum(c.units_in for c in entry.lines.values()) == 6_000


@settings(max_examples=60, deadline=None)
@given(
    runs=st.lists(
        st.tuples(
            st.sampled_from(["192.0.2.1", "192.0.2.2"]),
            st.lists(st.sampled_from([0, 1, 50, 40_000, 140_000]), max_size=12),
            st.sampled_from([1000, 1001, None]),
        ),
        max_size=8,
    ),
    must=st.booleans(),
)
def test_units_offered_together_go_the_same_way_as_one_by_one(runs: list[tuple[str, list[int], int | None]], must: bool) -> None:
    """The same batches, cuts, memory and counts; also where memory ends."""

    def outcome(together: bool) -> tuple[Any, ...]:
        taken: list[int] = []
        used: list[int] = []

        async def work(publisher: Publisher, fake: FakeProducer) -> None:
            number = 0
            for ip, sizes, port in runs:
                units = [b"%03d" % (number + i) + b"x" * size for i, size in enumerate(sizes)]
                number += len(units)
                source = HERE._replace(ip=ip)
                if together:
                    taken.append(publisher.offer_many(source, units, port, must=must))
                else:
                    taken.append(sum(publisher.offer(source, unit, port, must=must) for unit in units))
                used.append(publisher.memory.used)
            fake.prompt = True
            publisher.flush()
            fake.answer()
            await publisher.stop()

        fake = run(
            work,
            producer=FakeProducer(),
            receiver_linger_ms=10_000,
            receiver_batch_units=7,
            receiver_batch_bytes=131_072,
            receiver_memory_bytes=2 * 1024 * 1024,
        )
        batches = [(b.source_ip, b.source_port, b.units, [t.original_length for t in b.truncated]) for b in fake.batches()]
        dropped = {
            ip: counts.units_dropped for e in fake.entries() for (ip, _, _), counts in e.lines.items() if counts.units_dropped
        }
        return taken, used, batches, dropped

    assert outcome(together=True) == outcome(together=False)


def test_of_units_offered_together_those_beyond_the_memory_are_dropped_and_counted() -> None:
    async def work(publisher: Publisher, fake: FakeProducer) -> None:
        units = [b"x" * 100_000] * 30
        taken = publisher.offer_many(HERE, units, 1)
        assert 15 < taken < 21
        assert publisher.memory.used <= publisher.memory.limit
        assert publisher.offer_many(HERE, units, 1) == 0
        fake.prompt = True
        fake.answer()
        await publisher.stop()
        dropped = sum(counts.units_dropped for entry in fake.entries() for counts in entry.lines.values())
        assert dropped == 60 - taken

    run(work, producer=FakeProducer(), receiver_memory_bytes=2 * 1024 * 1024)


@pytest.mark.parametrize("end", [b"", b"\n", b"\r\n", b"\0", b"\n\0"])
def test_a_line_end_makes_no_other_content(end: bytes) -> None:
    """Copies agree whether they came as lines, or counted with the line end within."""
    assert content_hash(b"<13>one" + end) == content_hash(b"<13>one")
    assert content_hash(b"<13>\none" + end) != content_hash(b"<13>one")
