"""A Faust app that turns raw batches into events without ever losing one.

Faust reads and commits; everything written goes through a producer with delivery reports. A raw record is acknowledged when Kafka
has acknowledged all its outputs, the records before it in its partition are done, and the ledger entry of the range is written.
The agent never raises for bad input, because Faust acknowledges a record whose agent raises: bad units go to the dead-letter topic.
Parallelism is by partitions only (one agent, concurrency 1, as many processes as there are partitions to share).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import ssl
import struct
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any, Protocol

import faust
import uvloop
from pydantic import Field

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
from weir.ops.settings import ServiceSettings, SettingsError
from weir.ops.shutdown import on_stop_signals
from weir.processors.outcome import Dead, Outcome, RawCoordinates
from weir.processors.window import InFlight, Window

__all__ = ["ProcessorSettings", "SignalSource", "make_app", "run_app", "run_processor"]

MAX_EVENT_BYTES = 950_000
DAY_MS = 86_400_000
FLUSH_SECONDS = 0.2
TICK_SECONDS = 1.0
EXIT_FATAL = 70

log = ops_logging.get("weir.processors")


class ProcessorSettings(ServiceSettings):
    """What a Faust processor reads."""

    processor_max_in_flight: int = Field(32, ge=1, le=1000, description="raw records whose outputs are on their way")
    processor_commit_seconds: float = Field(0.5, gt=0, le=60, description="how often offsets are committed")
    rules_dir: str | None = Field(None, description="folder of Sigma rules instead of those that come with Weir")
    utc_offset_minutes: int = Field(
        0, ge=-1439, le=1439, description="zone of RFC 3164 times, which name none, in minutes east of UTC"
    )


class SignalSource(Protocol):
    """The single-event part of the rules, as the runtime sees it."""

    @property
    def version(self) -> str:
        """Hash of the rule set."""

    def signals(self, events: dict[str, list[dict[str, Any]]], partitions: int) -> dict[int, list[dict[str, Any]]]:
        """Partials (records of type Partial) of one raw batch, by signals partition."""


@dataclass(slots=True)
class _Work:
    """What is needed to acknowledge a raw record and to enter it in the ledger."""

    event: Any
    source: str
    received_at: int
    counts: LedgerCounts


def make_app(settings: ProcessorSettings, service: str, **options: Any) -> faust.App:
    """A Faust app for one service: at-least-once, static membership, bounded buffers, no web server, no topics of its own making.

    Raises:
        SettingsError: the SASL mechanism is one Faust's driver does not know.
    """
    return faust.App(
        f"{settings.topic_prefix}.{service}",
        broker=[f"kafka://{server.strip()}" for server in settings.kafka_bootstrap_servers.split(",")],
        broker_credentials=_credentials(settings),
        broker_client_id=f"weir-{settings.instance}",
        broker_commit_interval=settings.processor_commit_seconds,
        broker_max_poll_records=64,
        consumer_group_instance_id=settings.instance,
        consumer_auto_offset_reset="earliest",
        consumer_max_fetch_size=1_048_576,
        stream_buffer_maxsize=max(2, settings.processor_max_in_flight),
        producer_compression_type=None if settings.kafka_compression == "none" else settings.kafka_compression,
        producer_acks=-1,
        topic_disable_leader=True,
        topic_allow_declare=False,
        web_enabled=False,
        datadir=tempfile.mkdtemp(prefix="weir-"),
        processing_guarantee="at_least_once",
        autodiscover=False,
        **options,
    )


def _credentials(settings: ServiceSettings) -> Any:
    protocol = settings.kafka_security_protocol
    if protocol == "PLAINTEXT":
        return None
    context = None
    if protocol.endswith("SSL"):
        context = ssl.create_default_context(cafile=str(settings.kafka_ssl_ca_file) if settings.kafka_ssl_ca_file else None)
        if settings.kafka_ssl_certificate_file:
            context.load_cert_chain(settings.kafka_ssl_certificate_file, settings.kafka_ssl_key_file)
    if protocol == "SSL":
        return faust.SSLCredentials(context)
    if settings.kafka_sasl_mechanism not in {"PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"}:
        raise SettingsError(
            [f"WEIR_KAFKA_SASL_MECHANISM: {settings.kafka_sasl_mechanism} does not work in processors; PLAIN and SCRAM do"]
        )
    password = settings.kafka_sasl_password.get_secret_value() if settings.kafka_sasl_password else ""
    return faust.SASLCredentials(
        username=settings.kafka_sasl_username,
        password=password,
        mechanism=settings.kafka_sasl_mechanism,
        ssl_context=context,
    )


class Processor:
    """Everything between Faust's stream and the producer for one raw topic.

    Args:
        service: name in the ledger, dead letters and logs, such as "process.syslog".
        raw_topic: short name of the topic read, such as "raw.syslog".
        process: pure function from a batch and its coordinates to its outcome.
        signal_source: the rules' single-event part; None where there are no rules.
    """

    def __init__(
        self,
        settings: ProcessorSettings,
        service: str,
        raw_topic: str,
        process: Callable[[RawBatch, RawCoordinates], Outcome],
        signal_source: SignalSource | None,
    ) -> None:
        self.settings = settings
        self.service = service
        self.process = process
        self.names = TopicNames(settings.topic_prefix)
        self.raw_topic = self.names[raw_topic]
        self.dead_topic = self.names[f"{raw_topic}.dlq"]
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
        self.slots = asyncio.Semaphore(settings.processor_max_in_flight)
        self.wake = asyncio.Event()
        self.failure: BaseException | None = None
        self.low_times: dict[int, int] = {}
        meter = telemetry.meter("weir.processors")
        self.count_units = meter.create_counter("weir.process.units", description="raw units read")
        self.count_events = meter.create_counter("weir.process.events", description="events written")
        self.count_dead = meter.create_counter("weir.process.dead", description="units dead-lettered")

    async def consume(self, stream: Any) -> None:
        """The agent's body."""
        events: AsyncIterator[Any] = stream.noack().events()
        async for event in events:
            await self.slots.acquire()
            try:
                self._take(event)
            except BaseException as error:
                # Faust would acknowledge the record if this went up to it: leave the process instead, without a commit.
                self.fail(error)
                await asyncio.Event().wait()

    def fail(self, error: BaseException) -> None:
        """Leave at once, acknowledging nothing more; whoever started the process starts it again."""
        self.failure = error
        log.critical("cannot go on", error=repr(error), exc_info=error)
        os._exit(EXIT_FATAL)

    def _take(self, event: Any) -> None:
        message = event.message
        partition = (message.tp.topic, message.tp.partition)
        where = RawCoordinates(message.tp.topic, message.tp.partition, message.offset)
        append_ms = int(message.timestamp * 1000) if message.timestamp else time.time_ns() // 1_000_000
        loop = asyncio.get_running_loop()
        work = _Work(event, "", append_ms * 1000, LedgerCounts())
        entry = self.window.add(partition, message.offset, work)
        delivery = _loop_delivery(loop, lambda error: self._delivered(entry, error))
        try:
            batch = RawBatch.from_record(self.decode(message.value, _headers(message)))
        except (WireFormatError, TypeError, KeyError) as error:
            work.counts.units_in = work.counts.units_dead = 1
            self._dead_letter(delivery, where, "decode", error, message.value or b"", message.key)
        else:
            work.source, work.received_at = batch.source_ip, batch.received_at
            self._publish(batch, where, append_ms, work, delivery)
        delivery.seal()

    def _publish(self, batch: RawBatch, where: RawCoordinates, append_ms: int, work: _Work, delivery: Delivery) -> None:
        try:
            outcome = self.process(batch, where)
        except Exception as error:
            # A decoder's defect must not stop the stream, nor may the units be lost: all of them are dead-lettered.
            log.exception("decoder failed", topic=where.topic, partition=where.partition, offset=where.offset)
            outcome = Outcome(dead=[Dead(i, f"decoder failed: {error!r}") for i in range(len(batch.units))])
        now_ms = time.time_ns() // 1_000_000
        stamp = min(max(batch.received_at // 1000, append_ms - DAY_MS), now_ms)
        counts = work.counts
        counts.units_in = len(batch.units)
        counts.bytes_in = sum(map(len, batch.units))
        counts.units_empty = outcome.units_empty
        dead = list(outcome.dead)
        for dataset, records in outcome.events.items():
            encode, topic, written = self.encoders[dataset], self.event_topics[dataset], 0
            for record in records:
                try:
                    value = encode(record)
                except (ValueError, TypeError, OverflowError, struct.error) as error:
                    dead.append(Dead(_unit_index(batch, record), f"a value does not fit schema {dataset}: {error}"))
                    continue
                if len(value) > MAX_EVENT_BYTES:
                    reason = f"event of {len(value)} bytes is over the limit of {MAX_EVENT_BYTES}"
                    dead.append(Dead(_unit_index(batch, record), reason))
                    continue
                self.producer.produce(topic, value, delivery=delivery, timestamp_ms=stamp)
                written += 1
            if written:
                counts.events_out[f"events.{dataset}"] = written
                self.count_events.add(written, {"dataset": dataset})
        if dead:
            counts.units_dead = len({d.unit_index for d in dead})
            self.count_dead.add(counts.units_dead)
            by_reason: dict[str, list[int]] = {}
            for index, reason in dead:
                by_reason.setdefault(reason, []).append(index)
            for reason, indexes in by_reason.items():
                value = self.encode_batch(batch.only(sorted(set(indexes))).to_record())
                self._dead_letter(delivery, where, "decode", reason, value, batch.source_ip.encode())
        self.count_units.add(counts.units_in)
        if self.signal_source is not None and outcome.events:
            self._signal(batch, where, outcome, stamp, delivery)

    def _signal(self, batch: RawBatch, where: RawCoordinates, outcome: Outcome, stamp: int, delivery: Delivery) -> None:
        source = self.signal_source
        if source is None:
            return
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
            self.producer.produce(self.names["signals"], value, delivery=delivery, partition=partition, timestamp_ms=stamp)

    def _dead_letter(
        self, delivery: Delivery, where: RawCoordinates, stage: str, error: BaseException | str, value: bytes, key: bytes | None
    ) -> None:
        headers = dead_letter_headers(
            service=self.service, stage=stage, topic=where.topic, partition=where.partition, offset=where.offset, error=error
        )
        self.producer.produce(self.dead_topic, value, delivery=delivery, key=key, headers=headers)

    def _delivered(self, entry: InFlight[_Work], error: DeliveryFailed | None) -> None:
        if error is not None:
            self.fail(error)
        self.window.finish(entry)
        self.slots.release()
        self.wake.set()

    async def flush(self) -> None:
        """Write the ledger and acknowledge, for ever; a range is entered before its records are acknowledged."""
        while True:
            await self.wake.wait()
            self.wake.clear()
            # Gather a little: one ledger entry for many raw records instead of one each.
            await asyncio.sleep(FLUSH_SECONDS)
            try:
                await self.settle()
            except DeliveryFailed as error:
                self.fail(error)

    async def settle(self) -> None:
        """Enter and acknowledge what is finished now."""
        waiting = []
        taken = self.window.take_finished()
        for (topic, partition), entries in taken.items():
            ledger = LedgerEntry(
                service=self.service,
                instance=self.settings.instance,
                site=self.settings.site,
                topic=topic,
                partition=partition,
                first_offset=entries[0].offset,
                last_offset=entries[-1].offset,
                written_at=time.time_ns() // 1000,
            )
            for entry in entries:
                work = entry.item
                ledger.lines[work.source, minute_of(work.received_at), ""].add(work.counts)
                self.low_times[partition] = max(self.low_times.get(partition, 0), work.received_at)
            value = self.encode_ledger(ledger.to_record())
            waiting.append(self.producer.deliver(self.names["ledger"], value, key=ledger.key))
        if waiting:
            await asyncio.gather(*waiting)
        # No await from here on: a commit sees a range acknowledged as a whole or not at all.
        for entries in taken.values():
            for entry in entries:
                if not entry.dropped:
                    entry.item.event.ack()

    async def tick(self, app: faust.App) -> None:
        """Tell every signals partition how far receive time has come, so that windows close in silence too."""
        while True:
            await asyncio.sleep(TICK_SECONDS)
            if self.signal_source is None:
                continue
            now = time.time_ns() // 1000
            for tp in [tp for tp in app.assignor.assigned_actives() if tp.topic == self.raw_topic]:
                oldest = self.window.oldest((tp.topic, tp.partition))
                idle = oldest is None and (app.consumer.highwater(tp) or 0) <= (_position(app, tp) or 0)
                low = oldest.item.received_at if oldest else (now if idle else self.low_times.get(tp.partition, 0))
                if low:
                    self._tick_one(tp.partition, low)

    def _tick_one(self, partition: int, low: int) -> None:
        source = self.signal_source
        if source is None:
            return
        record = {
            "kind": "tick",
            "processor": self.service,
            "rule_set": source.version,
            "raw_topic": self.raw_topic,
            "raw_partition": partition,
            "raw_offset": -1,
            "received_at": low,
        }
        value = self.encode_signals(record)
        _, delivery = self.producer.future_delivery()
        for signal_partition in range(self.signal_partitions):
            self.producer.produce(self.names["signals"], value, delivery=delivery, partition=signal_partition)

    def drop(self, partitions: set[tuple[str, int]]) -> None:
        """These go to another member, which does their unacknowledged records again."""
        self.window.drop(partitions)


def _position(app: faust.App, tp: Any) -> int | None:
    read = app.consumer._read_offset.get(tp)
    return None if read is None else int(read) + 1


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


async def run_app(app: faust.App, settings: ServiceSettings, background: list[Any]) -> None:
    """Start a Faust app with its background coroutines and stay until SIGTERM, SIGINT or a crash.

    Raises:
        BaseException: what the app crashed of.
    """
    stop = on_stop_signals(asyncio.get_running_loop())
    await app.start()
    tasks = [asyncio.create_task(coroutine) for coroutine in background]
    stopped = asyncio.create_task(stop.wait())
    crashed = asyncio.create_task(app.wait_until_stopped())
    done, _ = await asyncio.wait([stopped, crashed, *tasks], return_when=asyncio.FIRST_COMPLETED)
    for task in done - {stopped, crashed}:
        task.result()
    await app.stop()
    for task in [stopped, crashed, *tasks]:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def run_processor(
    settings: ProcessorSettings,
    service: str,
    raw_topic: str,
    process: Callable[[RawBatch, RawCoordinates], Outcome],
    signal_source: SignalSource | None,
) -> int:
    """Run one processor until it is told to stop; the exit code.

    Raises:
        DeliveryFailed: a topic is missing or no broker answers at start.
    """
    ops_logging.configure(service, settings.instance, level=settings.log_level, form=settings.log_format)
    telemetry.setup_metrics(service, settings.instance)

    async def main() -> None:
        app = make_app(settings, service)
        processor = Processor(settings, service, raw_topic, process, signal_source)
        processor.signal_partitions = await asyncio.to_thread(processor.producer.partitions, processor.names["signals"])
        topic = app.topic(processor.raw_topic, key_type=bytes, value_type=bytes, key_serializer="raw", value_serializer="raw")
        app.agent(topic, name=service, concurrency=1)(processor.consume)

        async def revoked(sender: Any, partitions: Any = (), **_: Any) -> None:
            processor.drop({(tp.topic, tp.partition) for tp in partitions})

        app.on_partitions_revoked.connect(revoked)
        health = telemetry.HealthServer(
            settings.health_host, settings.health_port, lambda: None if app.rebalancing is False else "rebalancing"
        )
        log.info("starting", topic=processor.raw_topic, group=app.conf.id, rules=signal_source.version if signal_source else None)
        try:
            await run_app(app, settings, [processor.flush(), processor.tick(app)])
        finally:
            health.close()
            await asyncio.to_thread(processor.producer.close)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())
    return 0
