"""From raw batches to events without ever losing one: what the processors share.

Faust reads, `member` commits, and what is written goes through a producer with delivery reports: a record is finished when Kafka
has acknowledged all its outputs.

The agent never raises for bad input: bad units go to the dead-letter topic. Parallelism is by partitions only (one agent,
concurrency 1, as many processes as there are partitions to share).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any, NoReturn, Protocol

import faust

from weir.bus.codec import Decoder, Encoder, WireFormatError
from weir.bus.config import DeliveryFailed
from weir.bus.deadletter import dead_letter_headers, fitting
from weir.bus.producer import Delivery
from weir.model.batch import RawBatch
from weir.model.ids import parse_event_id
from weir.model.ledger import LedgerCounts
from weir.model.topics import DATASETS
from weir.ops import logging as ops_logging
from weir.ops import telemetry
from weir.processors.enrichment import Enrichment
from weir.processors.faust_app import make_app
from weir.processors.filtering import Filtering
from weir.processors.gaps import first_from
from weir.processors.member import RAW, Member, Partition, Ready, Work, endless_producer, headers_of, run_member
from weir.processors.outcome import Dead, Outcome, RawCoordinates, clock_offsets
from weir.processors.plugins import activate
from weir.processors.settings import ProcessorSettings
from weir.processors.ticks import Ticks
from weir.processors.window import InFlight

__all__ = ["ProcessorSettings", "Rules", "SignalSource", "run_processor"]

MAX_EVENT_BYTES = 950_000
# Events are some three to six times their raw units; with the producer's queue of 64 MB this much may be on its way.
MAX_IN_FLIGHT_BYTES = 8_000_000
# Finished records that wait for ledger and commit, while just these are away.
MAX_UNCOMMITTED = 10_000
# Reasons told apart in the dead letters of one batch: each is a record of its own that carries the batch's templates.
MAX_REASONS = 16
CUT = "longer than its receiver takes, and cut there: `truncated` has the whole's length and, where it was read to the end, SHA-256"
OTHER_REASONS = f"one of more than {MAX_REASONS} reasons in this batch"
DAY_MS = 86_400_000
TICK_SECONDS = 1.0

log = ops_logging.get("weir.processors")


class SignalSource(Protocol):
    """The single-event part of the rules, as the runtime sees it."""

    @property
    def version(self) -> str:
        """Hash of the rule set."""

    def signals(self, events: dict[str, list[dict[str, Any]]], partitions: int) -> dict[int, list[dict[str, Any]]]:
        """Partials (records of type Partial) of one raw batch, by signals partition."""


class Rules(Protocol):
    """Rules that may change while the process runs."""

    @property
    def source(self) -> SignalSource | None:
        """Their single-event part as it is now; None where there are no rules."""

    async def follow(self, changed: Callable[[], None]) -> NoReturn:
        """Follow their changes for ever; `changed` is called after each."""


class Processor(Member):
    """Everything between Faust's stream and the producer for one raw topic.

    Args:
        app: whose consumer reads and commits.
        service: name in the ledger, dead letters and logs, such as "process.syslog".
        raw_topic: short name of the topic read, such as "raw.syslog".
        process: pure function from a batch and its coordinates to its outcome.
        rules: whose single-event part matches the events; None for no rules.
        enrichment: what is done to events before they are published; None does nothing.
    """

    def __init__(
        self,
        app: faust.App,
        settings: ProcessorSettings,
        service: str,
        raw_topic: str,
        process: Callable[[RawBatch, RawCoordinates], Outcome],
        rules: Rules | None,
        enrichment: Enrichment | None = None,
    ) -> None:
        super().__init__(app, settings, service, endless_producer(settings), log)
        self.process = process
        self.raw_topic = self.names[raw_topic]
        self.dead_topic = self.names[f"{raw_topic}.dlq"]
        self.signals_topic = self.names["signals"]
        self.event_topics = {dataset: self.names[f"events.{dataset}"] for dataset in DATASETS}
        self.rules = rules
        self.signal_source: SignalSource | None = None
        self.enrichment = enrichment
        self.filtering = Filtering(settings.filters_file, settings.filters_poll_seconds)
        self.signal_partitions = 0
        self.encoders = {dataset: Encoder(dataset) for dataset in DATASETS}
        self.encode_batch = Encoder("raw-batch")
        self.encode_signals = Encoder("signals")
        self.decode = Decoder()
        self.in_flight = 0
        self.in_flight_bytes = 0
        self.room = asyncio.Event()
        self.ticks: Ticks | None = None
        self._take_rules()
        meter = telemetry.meter("weir.processors")
        self.count_units = meter.create_counter("weir.process.units", description="raw units read")
        self.count_events = meter.create_counter("weir.process.events", description="events written")
        self.count_filtered = meter.create_counter(
            "weir.process.filtered", description="events not published, by dataset and filter"
        )
        self.count_dead = meter.create_counter("weir.process.dead", description="units dead-lettered")
        self.count_expired = meter.create_counter("weir.process.expired", description="raw records that retention removed unread")

    # --- reading -------------------------------------------------------------------------------------------------------------

    async def wait_for_room(self, message: Any) -> None:
        """As many records and bytes may be on their way as their bounds allow, one record always."""
        size = len(message.value or b"")
        while (
            self.in_flight >= self.settings.processor_max_in_flight
            or (self.in_flight and self.in_flight_bytes + size > MAX_IN_FLIGHT_BYTES)
            or len(self.window) >= MAX_UNCOMMITTED
        ):
            self.room.clear()
            await self.room.wait()

    async def take(self, message: Any) -> None:
        """Decode a raw record and queue all that comes of it."""
        where = RawCoordinates(message.tp.topic, message.tp.partition, message.offset)
        now_ms = time.time_ns() // 1_000_000
        append_ms = round(message.timestamp * 1000) if message.timestamp else now_ms
        work = Work(message.offset, append_ms * 1000, size=len(message.value or b""))
        entry = self.begin(message, work)
        self.in_flight += 1
        self.in_flight_bytes += work.size
        delivery = _loop_delivery(asyncio.get_running_loop(), lambda error: self._delivered(entry, error))
        try:
            batch = _batch(self.decode(message.value, headers_of(message)))
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

    async def in_order(self, message: Any) -> bool:
        """Whether this is a record not yet taken, all before it being taken, committed, or gone from Kafka.

        Faust's position is not trusted: where it skipped records that Kafka still has, the process starts again from its commit.
        """
        partition: Partition = (message.tp.topic, message.tp.partition)
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
        if self.is_stale(message):
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
        self.begin_expired(partition, first, last)
        self.wake.set()

    # --- outputs -------------------------------------------------------------------------------------------------------------

    async def _publish(self, batch: RawBatch, where: RawCoordinates, stamp: int, work: Work, delivery: Delivery) -> None:
        try:
            outcome = self.process(batch, where)
        except Exception as error:
            # A decoder's defect must not stop the stream, nor may the units be lost: all of them are dead-lettered.
            log.exception("decoder failed", topic=where.topic, partition=where.partition, offset=where.offset)
            outcome = Outcome(dead=[Dead(i, f"decoder failed: {error!r}") for i in range(len(batch.units))])
        if self.enrichment is not None:
            self.enrichment.apply(outcome.events)
        counts = work.counts
        counts.units_in = len(batch.units)
        counts.bytes_in = sum(map(len, batch.units))
        counts.units_empty = outcome.units_empty
        if batch.source_name is not None:
            counts.names = {batch.source_name: counts.units_in}
        work.datasets = clock_offsets(outcome, batch.received_at)
        published = self._filter(outcome, batch, work)
        dead = list(outcome.dead) + _cut_units(batch, outcome.dead)
        offer = self.producer.offer
        for dataset, records in published.items():
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

    def _filter(self, outcome: Outcome, batch: RawBatch, work: Work) -> dict[str, list[dict[str, Any]]]:
        """What is to be published. What is left in the outcome is for the rules: all that no filter drops, as it was decoded."""
        try:
            filtered = self.filtering.apply(outcome, batch)
        except Exception:
            # A defect here must neither stop the stream nor cost events: all are published.
            log.exception("filters failed", source=batch.source_ip)
            return outcome.events
        outcome.events = filtered.seen
        for (dataset, rule), count in filtered.left_out.items():
            work.datasets.setdefault(dataset, LedgerCounts()).filtered += count
            self.count_filtered.add(count, {"dataset": dataset, "rule": rule})
        return filtered.published

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
                "receiver": batch.receiver if batch.content_hashes else "",
                "partials": partials,
            }
            value = self.encode_signals(record)
            if len(value) > MAX_EVENT_BYTES:
                records += [(partition, part) for part in self._signal_parts(record)]
            else:
                records.append((partition, value))
        return records

    def _signal_parts(self, record: dict[str, Any]) -> list[bytes]:
        """Signals of very many groups, in as many records as they need; their ids tell the parts apart."""
        parts: list[list[dict[str, Any]]] = [[]]
        size = 0
        for partial in record["partials"]:
            length = len(self.encode_signals(record | {"partials": [partial]}))
            if parts[-1] and size + length > MAX_EVENT_BYTES:
                parts.append([])
                size = 0
            parts[-1].append(partial)
            size += length
        ids = [record["signals_id"] + (f"+{number}" if number else "") for number in range(len(parts))]
        values = [self.encode_signals(record | {"signals_id": i, "partials": part}) for i, part in zip(ids, parts, strict=True)]
        if (longest := max(map(len, values))) > MAX_EVENT_BYTES:
            raise ValueError(f"signals of {longest} bytes are over the limit of {MAX_EVENT_BYTES}")
        return values

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
        value, error = fitting(value, error)
        headers = dead_letter_headers(
            service=self.service, stage=stage, topic=where.topic, partition=where.partition, offset=where.offset, error=error
        )
        await self._send(self.dead_topic, value, delivery, key=key[:1000] if key else key, headers=headers)

    def _delivered(self, entry: InFlight[Work], error: DeliveryFailed | None) -> None:
        if error is not None:
            self.fail(error)
        self.in_flight -= 1
        self.in_flight_bytes -= entry.item.size
        self.window.finish(entry)
        self.room.set()
        self.wake.set()

    def _take_rules(self) -> None:
        """Match with the rules as they are now, from the next record on."""
        source = self.signal_source = None if self.rules is None else self.rules.source
        if source is None:
            # Ticks go on if there were rules: their windows are still to be closed.
            return
        if self.ticks is None:
            self.ticks = Ticks(self, self.raw_topic, source.version, self.encode_signals)
        self.ticks.rule_set = source.version

    # --- as a member of its group --------------------------------------------------------------------------------------------

    def committed(self, runs: dict[Partition, list[InFlight[Work]]]) -> None:
        """There is room again, and receive time has come further."""
        if self.ticks is not None:
            self.ticks.committed(runs)
        self.room.set()

    def drop(self, partitions: set[Partition]) -> None:
        """These go to another member, which does their uncommitted records again."""
        super().drop(partitions)
        if self.ticks is not None:
            self.ticks.drop(partitions)
        self.room.set()

    async def tick(self) -> None:
        """Take a turn of the event loop every second, for ever, and tick where there are rules."""
        while True:
            self.last_turn = time.monotonic()
            await asyncio.sleep(TICK_SECONDS)
            if self.ticks is not None:
                self.ticks.send(self.signal_partitions)

    def background(self) -> list[Coroutine[Any, Any, None]]:
        """What runs beside the agent for as long as the process does."""
        own = [self.flush(), self.tick()]
        return own if self.rules is None else [*own, self.rules.follow(self._take_rules)]


def _batch(record: dict[str, Any]) -> RawBatch:
    batch = RawBatch.from_record(record)
    if batch.positions and len(batch.positions) != len(batch.units):
        raise WireFormatError(f"{len(batch.positions)} positions for {len(batch.units)} units")
    return batch


def _cut_units(batch: RawBatch, dead: list[Dead]) -> list[Dead]:
    """Dead letters for the units that the receiver cut and the decoder took nevertheless: their events lack what was cut off."""
    known = {d.unit_index for d in dead}
    cut = {t.position for t in batch.truncated}
    return [Dead(i, CUT) for i in range(len(batch.units)) if i not in known and batch.position(i) in cut] if cut else []


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
    rules: Rules | None,
    enrichment: Enrichment | None = None,
) -> int:
    """Run one processor until it is told to stop; the exit code: 0, EXIT_UNAVAILABLE at start, EXIT_FATAL later.

    Raises SettingsError where a plug-in that WEIR_PLUGINS names cannot be loaded.
    """
    enrichment = (enrichment or Enrichment({})).followed_by(activate(settings.plugins).steps)

    async def make() -> Ready:
        await asyncio.to_thread(enrichment.start)
        app = make_app(settings, service)
        processor = Processor(app, settings, service, raw_topic, process, rules, enrichment)
        processor.signal_partitions = await asyncio.to_thread(_look_at_topics, processor)
        # Without acks: Faust commits nothing of this topic by itself.
        topic = app.topic(processor.raw_topic, **RAW, acks=False, allow_empty=True)
        version = processor.signal_source.version if processor.signal_source else None
        return Ready(processor, topic, {"topic": processor.raw_topic, "rules": version})

    try:
        return run_member(settings, service, log, make)
    finally:
        enrichment.close()
