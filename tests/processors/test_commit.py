"""Ledger and commit in step, without a Kafka: what is entered, what is committed, and what a refused commit leaves."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from faust.types import TP

from weir.bus.codec import Decoder, Encoder
from weir.bus.producer import Delivery
from weir.model.batch import RawBatch
from weir.model.ledger import LedgerEntry
from weir.ops.settings import load
from weir.processors.outcome import Outcome
from weir.processors.runtime import MAX_IN_FLIGHT_BYTES, Processor, ProcessorSettings

TOPIC = "weir.raw.syslog.v1"


class Producer:
    """Takes records and settles the deliveries of outputs when told; the ledger's at once."""

    def __init__(self) -> None:
        self.ledger: list[LedgerEntry] = []
        self.open: list[Delivery] = []
        self.full = False

    def offer(self, topic: str, value: bytes | None, *, delivery: Delivery, **_: Any) -> bool:
        if self.full:
            return False
        delivery.expect(1)
        self.open.append(delivery)
        return True

    async def deliver(self, topic: str, value: bytes, **_: Any) -> None:
        await asyncio.sleep(0)
        self.ledger.append(LedgerEntry.from_record(Decoder()(value)))

    def settle(self, count: int) -> None:
        for delivery in self.open[:count]:
            delivery.on_delivery(None, None)  # type: ignore[arg-type]
        del self.open[:count]


class Consumer:
    """Commits as far as the group lets it."""

    def __init__(self) -> None:
        self._committed_offset: dict[Any, int] = {}
        self.commits: list[dict[int, int]] = []
        self.takes = True

    async def _commit(self, offsets: dict[Any, int]) -> bool:
        await asyncio.sleep(0)
        if self.takes:
            self.commits.append({tp.partition: offset for tp, offset in offsets.items()})
        return self.takes


def record(size: int = 1) -> bytes:
    one = RawBatch(b"0" * 16, "s", "r", "udp", "192.0.2.1", 514, 1_790_000_000_000_000, [b"x" * size])
    return Encoder("raw-batch")(one.to_record())


def message(offset: int, partition: int = 0, generation: int = 1, value: bytes | None = None) -> Any:
    tp = TP(TOPIC, partition)
    return SimpleNamespace(
        tp=tp, offset=offset, timestamp=1.79e9, value=value or record(), key=b"k", headers=None, generation_id=generation
    )


def one_event(batch: RawBatch, where: Any) -> Outcome:
    # A unit that does not fit its schema is dead-lettered: one output a record, whatever the datasets look like.
    outcome = Outcome()
    outcome.add("syslog", {"event_id": f"{batch.batch_id.hex()}-0-0"})
    return outcome


class Stream:
    def __init__(self, messages: list[Any]) -> None:
        self.messages = messages

    def noack(self) -> Stream:
        return self

    async def events(self) -> Any:
        for one in self.messages:
            yield SimpleNamespace(message=one)


@pytest.fixture
def processor(monkeypatch: pytest.MonkeyPatch) -> Callable[[], Processor]:
    monkeypatch.setenv("WEIR_KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:1")

    def leave(code: int) -> None:
        raise SystemExit(code)

    # The tests must outlive a processor that leaves.
    monkeypatch.setattr("weir.processors.member.os._exit", leave)

    def make() -> Processor:
        app: Any = SimpleNamespace(consumer=Consumer(), consumer_generation_id=1, rebalancing=False)
        made = Processor(app, load(ProcessorSettings), "process.syslog", "raw.syslog", one_event, None)
        made.producer.close(0.1)
        made.producer = Producer()  # type: ignore[assignment]
        return made

    return make


async def turns(count: int = 5) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


def ranges(one: Any) -> list[tuple[int, int]]:
    return [(e.first_offset, e.last_offset) for e in one.producer.ledger]


def test_an_entry_whose_commit_was_refused_is_replaced_under_its_first_offset(processor: Callable[[], Processor]) -> None:
    async def run() -> None:
        one: Any = processor()
        await one.consume(Stream([message(n) for n in range(4)]))
        one.producer.settle(2)
        await turns()
        one.app.consumer.takes = False
        assert not await one.settle()
        one.producer.settle(2)
        await turns()
        one.app.consumer.takes = True
        assert await one.settle()
        assert ranges(one) == [(0, 1), (0, 3)]
        assert one.app.consumer.commits == [{0: 4}]
        assert len(one.window) == 0

    asyncio.run(run())


def test_nothing_of_a_revoked_partition_is_committed_and_its_waiting_record_is_left_alone(
    processor: Callable[[], Processor],
) -> None:
    async def run() -> None:
        one: Any = processor()
        await one.consume(Stream([message(0), message(1), message(0, partition=1)]))
        one.producer.settle(3)
        await turns()
        settling = asyncio.create_task(one.settle())
        await asyncio.sleep(0)
        one.drop({(TOPIC, 0)})
        assert await settling
        assert one.app.consumer.commits == [{1: 1}]
        await one.consume(Stream([message(2)]))
        assert len(one.window) == 0
        one.app.consumer_generation_id = 2
        one.assigned()
        await one.consume(Stream([message(2), message(0, generation=2)]))
        assert one.window.oldest((TOPIC, 0)).offset == 0

    asyncio.run(run())


def test_a_record_read_again_is_not_taken_again(processor: Callable[[], Processor]) -> None:
    async def run() -> None:
        one: Any = processor()
        await one.consume(Stream([message(0), message(1), message(0), message(1), message(2)]))
        assert len(one.window) == 3

    asyncio.run(run())


def test_an_offset_that_faust_skipped_ends_the_process_without_a_commit(
    processor: Callable[[], Processor], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("weir.processors.runtime.first_from", lambda *_: SimpleNamespace(low=0, first=1))

    async def run() -> None:
        one: Any = processor()
        with pytest.raises(SystemExit, match="70"):
            await one.consume(Stream([message(0), message(2)]))
        assert one.app.consumer.commits == []

    asyncio.run(run())


def test_large_records_wait_for_room_and_one_is_always_let_through(processor: Callable[[], Processor]) -> None:
    async def run() -> None:
        one: Any = processor()
        large = record(MAX_IN_FLIGHT_BYTES * 2 // 3)
        reading = asyncio.create_task(one.consume(Stream([message(n, value=large) for n in range(2)])))
        await turns()
        assert one.in_flight == 1
        assert not reading.done()
        one.producer.settle(1)
        await turns()
        assert one.next[TOPIC, 0] == 2
        await reading

    asyncio.run(run())


def test_a_full_queue_leaves_the_event_loop_free(processor: Callable[[], Processor]) -> None:
    async def run() -> None:
        one: Any = processor()
        one.producer.full = True
        reading = asyncio.create_task(one.consume(Stream([message(0)])))
        await turns(50)
        assert not reading.done()
        one.producer.full = False
        await asyncio.wait_for(reading, 5)
        assert len(one.producer.open) == 1

    asyncio.run(run())
