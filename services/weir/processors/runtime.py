"""From raw batches to events without ever losing one: what the processors share.

Faust reads, and does nothing else: what is written goes through a producer with delivery reports, and offsets are committed here.
Faust's own acknowledgements are off (topic without acks), because it acknowledges records whose agent raises and records it skips
in a rebalance, and can commit past an offset in flight. An offset is committed when Kafka has acknowledged all outputs of the
record and of those before it in its partition, and the ledger entry of the range. The next range is entered only after that, so
a range done again begins at the same offset as its entry in the ledger.

The agent never raises for bad input: bad units go to the dead-letter topic. Parallelism is by partitions only (one agent,
concurrency 1, as many processes as there are partitions to share).
"""

from __future__ import annotations

import asyncio
import hashlib
import math
import os
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any, NoReturn, Protocol

import faust
import uvloop
from faust.types import TP

from weir.bus.codec import Decoder, Encoder, WireFormatError
from weir.bus.config import DeliveryFailed
from weir.bus.deadletter import dead_letter_headers
from weir.bus.producer import Delivery, DeliveryProducer
from weir.model.batch import RawBatch
from weir.model.ids import parse_event_id
from weir.model.ledger import LedgerCounts, LedgerEntry, minute_of
from weir.model.topics import DATASETS, TopicNames
from weir.ops import logging as ops_logging
from weir.ops import telemetry
from weir.processors.faust_app import EXIT_FATAL, EXIT_UNAVAILABLE, ProcessorSettings, make_app, run_app
from weir.processors.gaps import first_from
from weir.processors.outcome import Dead, Outcome, RawCoordinates
from weir.processors.window import InFlight, Window

__all__ = ["EXPIRED", "ProcessorSettings", "SignalSource", "make_app", "run_app", "run_processor"]

EXPIRED = "expired"
"""Note of a ledger entry whose range was gone before this group could read it."""

MAX_EVENT_BYTES = 950_000
# Events are some three to six times their raw units; with the producer's queue of 64 MB this much may be on its way.
MAX_IN_FLIGHT_BYTES = 8_000_000
# Finished records that wait for ledger and commit, while just these are away; and how many one ledger entry tells of.
MAX_UNCOMMITTED = 10_000
MAX_RUN = 2_000
# Reasons told apart in the dead letters of one batch: each is a record of its own that carries the batch's templates.
MAX_REASONS = 16
OTHER_REASONS = f"one of more than {MAX_REASONS} reasons in this batch"
DAY_MS = 86_400_000
TICK_SECONDS = 1.0
DRAIN_SECONDS = 10.0
CLOSE_SECONDS = 5.0

Partition = tuple[str, int]

log = ops_logging.get("weir.processors")


class SignalSource(Protocol):
    """The single-event part of the rules, as the runtime sees it."""

    @property
    def version(self) -> str:
        """Hash of the rule set."""

    def signals(self, events: dict[str, list[dict[str, Any]]], partitions: int) -> dict[int, list[dict[str, Any]]]:
        """Partials (records of type Partial) of one raw batch, by signals partition."""


@dataclass(slots=True)
class _Work:
    """What is needed to enter a raw record, or a range that is gone, in the ledger."""

    source: str
    received_at: int
    last_offset: int
    counts: LedgerCounts
    size: int = 0
    note: str | None = None


class Processor:
    """Everything between Faust's stream and the producer for one raw topic.

    Args:
        app: whose consumer reads and commits.
        service: name in the ledger, dead letters and logs, such as "process.syslog".
        raw_topic: short name of the topic read, such as "raw.syslog".
        process: pure function from a batch and its coordinates to its outcome.
        signal_source: the rules' single-event part; None where there are no rules.
    """

    def __init__(
        self,
        app: faust.App,
        settings: ProcessorSettings,
        service: str,
        raw_topic: str,
        process: Callable[[RawBatch, RawCoordinates], Outcome],
        signal_source: SignalSource | None,
    ) -> None:
        self.app = app
        self.settings = settings
        self.service = service
        self.process = process
        self.names = TopicNames(settings.topic_prefix)
        self.raw_topic = self.names[raw_topic]
        self.dead_topic = self.names[f"{raw_topic}.dlq"]
        self.ledger_topic = self.names["ledger"]
        self.signals_topic = self.names["signals"]
        self.event_topics = {dataset: self.names[f"events.{dataset}"] for dataset in DATASETS}
        self.signal_source = signal_source
        self.signal_partitions = 0
        # Never give up: while Kafka is away the window fills and reading stops, which loses nothing.
        self.producer = DeliveryProducer(settings, message_timeout_ms=0, delivery_timeout_ms=0)
        self.encoders = {dataset: Encoder(dataset) for dataset in DATASETS}
        self.encode_batch = Encoder("raw-batch")
        self.encode_signals = Encoder("signals")
        self.encode_ledger = Encoder("ledger-entry")
        self.decode = Decoder()
        self.window: Window[_Work] = Window()
        self.in_flight = 0
        self.in_flight_bytes = 0
        self.room = asyncio.Event()
        self.wake = asyncio.Event()
        self.settling = asyncio.Lock()
        # By partition, while it is ours: the next offset to take, and the receive time that has been reached.
        self.next: dict[Partition, int] = {}
        self.low_times: dict[Partition, int] = {}
        self.given_up: set[Partition] = set()
        self.joined = False
        self.last_turn = time.monotonic()
        self.ticking: asyncio.Future[None] | None = None
        meter = telemetry.meter("weir.processors")
        self.count_units = meter.create_counter("weir.process.units", description="raw units read")
        self.count_events = meter.create_counter("weir.process.events", description="events written")
        self.count_dead = meter.create_counter("weir.process.dead", description="units dead-lettered")
        self.count_expired = meter.create_counter("weir.process.expired", description="raw records that retention removed unread")

    # --- reading -------------------------------------------------------------------------------------------------------------

    async def consume(self, stream: Any) -> None:
        """The agent's body."""
        events: AsyncIterator[Any] = stream.noack().events()
        async for event in events:
            message = event.message
            size = len(message.value or b"")
            await self._wait_for_room(size)
            if self._is_stale(message):
                continue
            try:
                await self._take(message, size)
            except asyncio.CancelledError:
                raise
            except BaseException as error:
                self.fail(error)

    def fail(self, error: BaseException) -> NoReturn:
        """Leave at once, committing nothing more; whoever started the process starts it again."""
        log.critical("cannot go on", error=repr(error), exc_info=error)
        os._exit(EXIT_FATAL)

    async def _wait_for_room(self, size: int) -> None:
        while (
            self.in_flight >= self.settings.processor_max_in_flight
            or (self.in_flight and self.in_flight_bytes + size > MAX_IN_FLIGHT_BYTES)
            or len(self.window) >= MAX_UNCOMMITTED
        ):
            self.room.clear()
            await self.room.wait()

    def _is_stale(self, message: Any) -> bool:
        """A record of an assignment that is over, which waited here for room: whoever has its partition now reads it again."""
        partition = (message.tp.topic, message.tp.partition)
        return partition in self.given_up or message.generation_id != self.app.consumer_generation_id

    async def _take(self, message: Any, size: int) -> None:
        partition = (message.tp.topic, message.tp.partition)
        if not await self._in_order(message, partition):
            return
        where = RawCoordinates(*partition, message.offset)
        now_ms = time.time_ns() // 1_000_000
        append_ms = round(message.timestamp * 1000) if message.timestamp else now_ms
        work = _Work("", append_ms * 1000, message.offset, LedgerCounts(), size)
        entry = self.window.add(partition, message.offset, work)
        self.next[partition] = message.offset + 1
        self.in_flight += 1
        self.in_flight_bytes += size
        delivery = _loop_delivery(asyncio.get_running_loop(), lambda error: self._delivered(entry, error))
        try:
            batch = _batch(self.decode(message.value, _headers(message)))
        except (WireFormatError, TypeError, KeyError) as error:
            work.counts.units_in = work.counts.units_dead = 1
            self.count_units.add(1)
            self.count_dead.add(1)
            await self._dead_letter(delivery, where, "decode", error, message.value, message.key)
        else:
            work.source, work.received_at = batch.source_ip, batch.received_at
            # Not later than the broker's own clock said: Kafka refuses stamps from the future.
            stamp = min(max(batch.received_at // 1000, append_ms - DAY_MS), append_ms, now_ms)
            await self._publish(batch, where, stamp, work, delivery)
        delivery.seal()

    async def _in_order(self, message: Any, partition: Partition) -> bool:
        """Whether this is a record not yet taken, all before it being taken, committed, or gone from Kafka.

        Faust's position is not trusted: where it skipped records that Kafka still has, the process starts again from its commit.
        """
        offset: int = message.offset
        expected = self.next.get(partition)
        if expected is None:
            committed = self.app.consumer._committed_offset.get(message.tp)
            expected = committed if committed is not None and committed >= 0 else None
        if offset == expected or (expected is None and offset == 0):
            return True
        if expected is not None and offset < expected:
            log.info("a record was read again", topic=partition[0], partition=partition[1], offset=offset, expected=expected)
            return False
        found = await asyncio.to_thread(first_from, self.settings, *partition, expected or 0)
        if self._is_stale(message):
            return False
        if found.first < offset:
            raise RuntimeError(f"{partition[0]}/{partition[1]}: offset {offset} came where {found.first} is next")
        if expected is not None and found.low > expected:
            self._enter_expired(partition, expected, offset - 1)
        return True

    def _enter_expired(self, partition: Partition, first: int, last: int) -> None:
        log.error(
            "expired",
            topic=partition[0],
            partition=partition[1],
            first_offset=first,
            last_offset=last,
            cure="retention removed records before they were read: give the topic more retention, or more workers",
        )
        self.count_expired.add(last - first + 1)
        work = _Work("", time.time_ns() // 1000, last, LedgerCounts(), note=EXPIRED)
        self.window.finish(self.window.add(partition, first, work))
        self.wake.set()

    # --- outputs -------------------------------------------------------------------------------------------------------------

    async def _publish(self, batch: RawBatch, where: RawCoordinates, stamp: int, work: _Work, delivery: Delivery) -> None:
        try:
            outcome = self.process(batch, where)
        except Exception as error:
            # A decoder's defect must not stop the stream, nor may the units be lost: all of them are dead-lettered.
            log.exception("decoder failed", topic=where.topic, partition=where.partition, offset=where.offset)
            outcome = Outcome(dead=[Dead(i, f"decoder failed: {error!r}") for i in range(len(batch.units))])
        counts = work.counts
        counts.units_in = len(batch.units)
        counts.bytes_in = sum(map(len, batch.units))
        counts.units_empty = outcome.units_empty
        dead = list(outcome.dead)
        offer = self.producer.offer
        for dataset, records in outcome.events.items():
            encode, topic, written = self.encoders[dataset], self.event_topics[dataset], 0
            for record in records:
                try:
                    value = encode(record)
                except Exception as error:  # fastavro raises many kinds for values that do not fit
                    dead.append(Dead(_unit_index(batch, record), f"a value does not fit schema {dataset}: {error}"))
                    continue
                if len(value) > MAX_EVENT_BYTES:
                    reason = f"event of {len(value)} bytes is over the limit of {MAX_EVENT_BYTES}"
                    dead.append(Dead(_unit_index(batch, record), reason))
                    continue
                if not offer(topic, value, delivery=delivery, timestamp_ms=stamp):
                    await self._send(topic, value, delivery, timestamp_ms=stamp)
                written += 1
            if written:
                counts.events_out[f"events.{dataset}"] = written
                self.count_events.add(written, {"dataset": dataset})
        if dead:
            counts.units_dead = len({d.unit_index for d in dead})
            self.count_dead.add(counts.units_dead)
            await self._dead_units(batch, where, "decode", dead, delivery)
        self.count_units.add(counts.units_in)
        if self.signal_source is not None and outcome.events:
            await self._signal(batch, where, outcome, stamp, delivery, self.signal_source)

    async def _send(self, topic: str, value: bytes | None, delivery: Delivery, **options: Any) -> None:
        """Queue one record, waiting for room as long as it takes: heartbeats, stop signals and health go on meanwhile."""
        while not self.producer.offer(topic, value, delivery=delivery, **options):  # noqa: ASYNC110  librdkafka has no event for it
            await asyncio.sleep(0.02)

    async def _signal(
        self, batch: RawBatch, where: RawCoordinates, outcome: Outcome, stamp: int, delivery: Delivery, source: SignalSource
    ) -> None:
        try:
            records = self._signal_records(batch, where, source, outcome)
        except Exception as error:
            # A defect in matching must not stop the stream. The events are out; the batch is kept for matching it again.
            log.exception("rules failed", topic=where.topic, partition=where.partition, offset=where.offset)
            dead = [Dead(i, f"rules failed: {error!r}") for i in range(len(batch.units))]
            await self._dead_units(batch, where, "signal", dead, delivery)
            return
        for partition, value in records:
            await self._send(self.signals_topic, value, delivery, partition=partition, timestamp_ms=stamp)

    def _signal_records(
        self, batch: RawBatch, where: RawCoordinates, source: SignalSource, outcome: Outcome
    ) -> list[tuple[int, bytes]]:
        records = []
        for partition, partials in source.signals(outcome.events, self.signal_partitions).items():
            record = {
                "signals_id": f"{batch.batch_id.hex()}-{partition}",
                "kind": "partials",
                "processor": self.service,
                "rule_set": source.version,
                "raw_topic": where.topic,
                "raw_partition": where.partition,
                "raw_offset": where.offset,
                "received_at": batch.received_at,
                "partials": partials,
            }
            value = self.encode_signals(record)
            if len(value) > MAX_EVENT_BYTES:
                raise ValueError(f"signals of {len(value)} bytes are over the limit of {MAX_EVENT_BYTES}")
            records.append((partition, value))
        return records

    async def _dead_units(self, batch: RawBatch, where: RawCoordinates, stage: str, dead: list[Dead], delivery: Delivery) -> None:
        by_reason: dict[str, set[int]] = {}
        for index, reason in dead:
            told_apart = reason in by_reason or len(by_reason) < MAX_REASONS
            by_reason.setdefault(reason if told_apart else OTHER_REASONS, set()).add(index)
        for reason, indexes in by_reason.items():
            value = self.encode_batch(batch.only(sorted(indexes)).to_record())
            await self._dead_letter(delivery, where, stage, reason, value, batch.source_ip.encode())

    async def _dead_letter(
        self,
        delivery: Delivery,
        where: RawCoordinates,
        stage: str,
        error: BaseException | str,
        value: bytes | None,
        key: bytes | None,
    ) -> None:
        if value is not None and len(value) > MAX_EVENT_BYTES:
            # Only a foreign record is that large. Kept whole it would not fit with its headers, and stop the partition for ever.
            digest = hashlib.sha256(value).hexdigest()
            error = f"{error} (cut to {MAX_EVENT_BYTES} of {len(value)} bytes; SHA-256 of the whole: {digest})"
            value = value[:MAX_EVENT_BYTES]
        headers = dead_letter_headers(
            service=self.service, stage=stage, topic=where.topic, partition=where.partition, offset=where.offset, error=error
        )
        await self._send(self.dead_topic, value, delivery, key=key[:1000] if key else key, headers=headers)

    def _delivered(self, entry: InFlight[_Work], error: DeliveryFailed | None) -> None:
        if error is not None:
            self.fail(error)
        self.in_flight -= 1
        self.in_flight_bytes -= entry.item.size
        self.window.finish(entry)
        self.room.set()
        self.wake.set()

    # --- ledger and commit ---------------------------------------------------------------------------------------------------

    async def flush(self) -> None:
        """Enter in the ledger and commit, for ever."""
        while True:
            await self.wake.wait()
            self.wake.clear()
            # Gather a little: one ledger entry and one commit for many raw records.
            await asyncio.sleep(self.settings.processor_commit_seconds)
            if not await self.settle():
                self.wake.set()

    async def settle(self) -> bool:
        """Enter and commit what is finished now. False where the group did not take the commit; then it is done again.

        What was entered and not committed stays in the window and is entered again under its first offset, which replaces the
        entry. Were the next range entered before this one is committed, a crash in between would count both twice.
        """
        async with self.settling:
            while runs := self.window.finished_runs(MAX_RUN, _note):
                self._fail_if_suspended()
                try:
                    await asyncio.gather(*(self._enter(partition, run) for partition, run in runs.items()))
                except DeliveryFailed as error:
                    self.fail(error)
                kept = {partition: run for partition, run in runs.items() if not run[0].dropped}
                if kept and not await self._commit(kept):
                    return False
                for partition, run in kept.items():
                    self.window.remove(run)
                    reached = max(entry.item.received_at for entry in run)
                    self.low_times[partition] = max(self.low_times.get(partition, 0), reached)
                self.room.set()
        return True

    async def _enter(self, partition: Partition, run: list[InFlight[_Work]]) -> None:
        ledger = LedgerEntry(
            service=self.service,
            instance=self.settings.instance,
            site=self.settings.site,
            topic=partition[0],
            partition=partition[1],
            first_offset=run[0].offset,
            last_offset=run[-1].item.last_offset,
            written_at=time.time_ns() // 1000,
            note=run[0].item.note,
        )
        if ledger.note is None:
            for entry in run:
                work = entry.item
                ledger.lines[work.source, minute_of(work.received_at), ""].add(work.counts)
        value = self.encode_ledger(ledger.to_record())
        await self.producer.deliver(self.ledger_topic, value, key=ledger.key, blocking_seconds=math.inf)

    async def _commit(self, runs: dict[Partition, list[InFlight[_Work]]]) -> bool:
        offsets = {TP(*partition): run[-1].item.last_offset + 1 for partition, run in runs.items()}
        return bool(await self.app.consumer._commit(offsets))

    def _fail_if_suspended(self) -> None:
        """Leave where this process stood still for so long that others may have its partitions and their ledger entries."""
        stood = time.monotonic() - self.last_turn
        if stood > self.settings.processor_session_seconds * 0.75:
            self.fail(RuntimeError(f"stood still for {stood:.0f} s; its partitions may be with others"))

    # --- the group -----------------------------------------------------------------------------------------------------------

    def assigned(self) -> None:
        """The group has given this member its partitions, or none."""
        self.given_up.clear()
        self.joined = True

    async def revoked(self, partitions: set[Partition]) -> None:
        """Commit what is in flight if that takes no longer than some seconds, then let go: another member begins at the commit."""
        if partitions and not await self._drain(DRAIN_SECONDS):
            log.warning("records in flight are left to whoever gets their partitions", records=len(self.window))
        self.drop(partitions)

    def drop(self, partitions: set[Partition]) -> None:
        """These go to another member, which does their uncommitted records again."""
        self.given_up |= partitions
        self.window.drop(partitions)
        for partition in partitions:
            self.next.pop(partition, None)
            self.low_times.pop(partition, None)
        self.room.set()

    async def finish(self) -> None:
        """Stop reading and commit what is in flight, so that the next start repeats nothing."""
        if not self.joined:
            return
        self.app.consumer.stop_flow()
        self.app.flow_control.suspend()
        self.app.flow_control.clear()
        if not await self._drain(DRAIN_SECONDS):
            log.warning("stopping with records in flight; the next start does them again", records=len(self.window))

    async def _drain(self, seconds: float) -> bool:
        async def empty() -> None:
            while len(self.window):
                await self.settle()
                await asyncio.sleep(0.01)

        try:
            await asyncio.wait_for(empty(), seconds)
        except TimeoutError:
            return False
        return True

    def not_ready(self) -> str | None:
        """Why this member cannot work, or None where it can."""
        if not self.joined:
            return "not yet a member of its consumer group"
        return "the consumer group is rebalancing" if self.app.rebalancing else None

    # --- ticks ---------------------------------------------------------------------------------------------------------------

    async def tick(self) -> None:
        """Tell every signals partition how far receive time has come, so that windows close in silence too."""
        while True:
            self.last_turn = time.monotonic()
            await asyncio.sleep(TICK_SECONDS)
            # While Kafka takes no ticks, none are kept: a "now" from an outage would arrive before what was received in it.
            if self.signal_source is None or not self.joined or self.app.rebalancing or (self.ticking and not self.ticking.done()):
                continue
            low_times = {}
            for tp in self.app.consumer.assignment():
                if tp.topic == self.raw_topic and (low := self._low_time(tp)):
                    low_times[tp.partition] = low
            if low_times:
                self._send_ticks(self.signal_source, low_times)

    def _low_time(self, tp: Any) -> int:
        """Receive time, microseconds UTC, up to which this partition is done; 0 where that is not known."""
        partition = (tp.topic, tp.partition)
        now = time.time_ns() // 1000
        if (oldest := self.window.oldest(partition)) is not None:
            # A sender's or receiver's clock may be ahead; ours bounds it.
            return min(oldest.item.received_at, now)
        position = self.next.get(partition)
        if position is None:
            position = self.app.consumer._committed_offset.get(tp) or 0
        try:
            end = self.app.consumer.highwater(tp)
        except Exception:  # the partition was given to another while this was asked
            return 0
        # None until the first answer of the broker: then nothing is known of what waits.
        if end is not None and position >= end:
            return now
        return min(self.low_times.get(partition, 0), now)

    def _send_ticks(self, source: SignalSource, low_times: dict[int, int]) -> None:
        self.ticking, delivery = self.producer.future_delivery()
        self.ticking.add_done_callback(lambda done: done.cancelled() or done.exception())
        record = {
            "kind": "tick",
            "processor": self.service,
            "rule_set": source.version,
            "raw_topic": self.raw_topic,
            "raw_partition": -1,
            "raw_offset": -1,
            "received_at": time.time_ns() // 1000,
            "ticks": [{"raw_partition": partition, "low": low} for partition, low in sorted(low_times.items())],
        }
        value = self.encode_signals(record)
        for signal_partition in range(self.signal_partitions):
            self.producer.offer(self.signals_topic, value, delivery=delivery, partition=signal_partition)
        delivery.seal()


def _note(work: _Work) -> str | None:
    return work.note


def _batch(record: dict[str, Any]) -> RawBatch:
    batch = RawBatch.from_record(record)
    if batch.positions and len(batch.positions) != len(batch.units):
        raise WireFormatError(f"{len(batch.positions)} positions for {len(batch.units)} units")
    return batch


def _headers(message: Any) -> list[tuple[str, bytes]]:
    headers = message.headers or []
    return list(headers.items()) if isinstance(headers, dict) else list(headers)


def _unit_index(batch: RawBatch, record: dict[str, Any]) -> int:
    unit = parse_event_id(record["event_id"])[1]
    return batch.positions.index(unit) if batch.positions else unit


def _loop_delivery(loop: asyncio.AbstractEventLoop, then: Callable[[DeliveryFailed | None], None]) -> Delivery:
    def settle(error: DeliveryFailed | None) -> None:
        loop.call_soon_threadsafe(then, error)

    return Delivery(settle)


def _look_at_topics(processor: Processor) -> int:
    """Number of partitions of the signals topic. Raises DeliveryFailed where a topic this processor needs is not there."""
    needed = [processor.raw_topic, processor.dead_topic, processor.ledger_topic, *processor.event_topics.values()]
    for topic in needed:
        processor.producer.partitions(topic)
    return processor.producer.partitions(processor.signals_topic)


def run_processor(
    settings: ProcessorSettings,
    service: str,
    raw_topic: str,
    process: Callable[[RawBatch, RawCoordinates], Outcome],
    signal_source: SignalSource | None,
) -> int:
    """Run one processor until it is told to stop; the exit code: 0, EXIT_UNAVAILABLE at start, EXIT_FATAL later."""
    ops_logging.configure(service, settings.instance, level=settings.log_level, form=settings.log_format)
    telemetry.setup_metrics(service, settings.instance)

    async def main() -> int:
        app = make_app(settings, service)
        processor = Processor(app, settings, service, raw_topic, process, signal_source)
        try:
            processor.signal_partitions = await asyncio.to_thread(_look_at_topics, processor)
        except DeliveryFailed as error:
            log.error("cannot start", error=str(error), brokers=settings.kafka_bootstrap_servers)  # noqa: TRY400
            return EXIT_UNAVAILABLE
        # Without acks: Faust commits nothing of this topic by itself.
        raw = {"key_type": bytes, "value_type": bytes, "key_serializer": "raw", "value_serializer": "raw"}
        topic = app.topic(processor.raw_topic, **raw, acks=False, allow_empty=True)
        app.agent(topic, name=service, concurrency=1)(processor.consume)

        async def revoked(sender: Any, partitions: Any = (), **_: Any) -> None:
            await processor.revoked({(tp.topic, tp.partition) for tp in partitions})

        async def assigned(sender: Any, partitions: Any = (), **_: Any) -> None:
            processor.assigned()

        app.on_partitions_revoked.connect(revoked)
        app.on_partitions_assigned.connect(assigned)
        health = telemetry.HealthServer(settings.health_host, settings.health_port, processor.not_ready)
        log.info("starting", topic=processor.raw_topic, group=app.conf.id, rules=signal_source.version if signal_source else None)
        try:
            await run_app(app, settings, [processor.flush(), processor.tick()], processor.finish)
        except Exception as error:
            log.critical("cannot go on", error=repr(error), exc_info=error)
            return EXIT_FATAL
        finally:
            health.close()
            await asyncio.to_thread(processor.producer.close, CLOSE_SECONDS)
        return 0

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(main())
