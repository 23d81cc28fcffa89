"""signals → alerts: a Faust app whose table holds one value for each group of each correlation.

For each record, in this order: Kafka acknowledges its alerts, the table is written, Kafka acknowledges the changelog's records, the
ledger is told, the offset is acknowledged. Killed anywhere in between, the detector does the record again and comes to the same
alerts: what was counted is in the same table value as the counts.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import faust
import uvloop

from weir.bus.codec import Decoder, Encoder, WireFormatError
from weir.bus.config import DeliveryFailed
from weir.bus.deadletter import dead_letter_headers
from weir.bus.producer import DeliveryProducer
from weir.detect.alerts import Origin
from weir.detect.engine import Effects, Engine, key_partition
from weir.detect.rules import RuleSet
from weir.model.ledger import LedgerCounts, LedgerEntry, minute_of
from weir.model.topics import TopicNames
from weir.ops import logging as ops_logging
from weir.ops import telemetry
from weir.processors.runtime import ProcessorSettings, make_app, run_app
from weir.processors.signals import load_rule_set
from weir.processors.window import InFlight, Window

__all__ = ["SERVICE", "Detector", "DurableTable", "main"]

SERVICE = "process.detector"
FLUSH_SECONDS = 0.5
EXIT_FATAL = 70
DAY_MS = 86_400_000
MAX_ANNOUNCED = 10_000

log = ops_logging.get("weir.detector")


class DurableTable(faust.Table):  # type: ignore[misc]  # faust carries no types mypy reads
    """A table that keeps the futures of its changelog records.

    Faust gives them to nobody, and its producer's flush returns after 0.1 s without progress, so it proves nothing.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._sent: list[asyncio.Future[Any]] = []

    def send_changelog(self, *args: Any, **kwargs: Any) -> Any:
        """As in faust, remembering the future."""
        future = super().send_changelog(*args, **kwargs)
        self._sent.append(future)
        return future

    def take_sent(self) -> list[asyncio.Future[Any]]:
        """The futures of the changelog records since the last call."""
        taken, self._sent = self._sent, []
        return taken


@dataclass(slots=True)
class _Work:
    """What is needed to acknowledge a signals record and to enter it in the ledger."""

    event: Any
    source: str = ""
    received_at: int = 0
    counts: LedgerCounts = field(default_factory=lambda: LedgerCounts(events_in=1))


class Detector:
    """Everything between the stream of signals, the table and the alerts."""

    def __init__(
        self, settings: ProcessorSettings, app: faust.App, table: DurableTable, producer: DeliveryProducer, rule_set: RuleSet
    ) -> None:
        self.settings = settings
        self.app = app
        self.table = table
        self.producer = producer
        names = TopicNames(settings.topic_prefix)
        self.signals_topic, self.alerts_topic = names["signals"], names["alerts"]
        self.dead_topic, self.ledger_topic = names["signals.dlq"], names["ledger"]
        self.engine = Engine(rule_set, Origin(settings.site, settings.instance), self._load, self._items)
        self.decode = Decoder()
        self.encode_alert = Encoder("alert")
        self.encode_ledger = Encoder("ledger-entry")
        self.window: Window[_Work] = Window()
        self.slots = asyncio.Semaphore(settings.processor_max_in_flight)
        self.wake = asyncio.Event()
        self.announced: OrderedDict[str, int] = OrderedDict()
        self.unknown: set[str] = set()
        meter = telemetry.meter("weir.detector")
        self.count_signals = meter.create_counter("weir.detect.partials", description="partials merged")
        self.count_repeats = meter.create_counter("weir.detect.repeats", description="partials seen before")
        self.count_alerts = meter.create_counter("weir.detect.alerts", description="alert records written")

    def _load(self, key: bytes) -> bytes | None:
        value: bytes | None = self.table.get(key)
        return value

    def _items(self) -> list[tuple[bytes, bytes]]:
        # What this process still holds of partitions that have gone to another is stale, and nothing here would delete it.
        mine = {tp.partition for tp in self.app.assignor.assigned_actives() if tp.topic == self.signals_topic}
        store = self.table.data.data
        for key in [key for key in store if key_partition(key) not in mine]:
            del store[key]
        return list(store.items())

    async def consume(self, stream: Any) -> None:
        """The agent's body."""
        events: AsyncIterator[Any] = stream.noack().events()
        async for event in events:
            await self.slots.acquire()
            try:
                await self._take(event)
            except asyncio.CancelledError:
                raise
            except BaseException as error:
                # Faust would acknowledge the record if this went up to it: leave the process instead, without a commit.
                self.fail(error)

    def fail(self, error: BaseException) -> None:
        """Leave at once, acknowledging nothing more; whoever started the process starts it again."""
        log.critical("cannot go on", error=repr(error), exc_info=error)
        os._exit(EXIT_FATAL)

    async def _take(self, event: Any) -> None:
        message = event.message
        partition = message.tp.partition
        append_ms = int(message.timestamp * 1000) if message.timestamp else time.time_ns() // 1_000_000
        work = _Work(event, received_at=append_ms * 1000)
        entry = self.window.add((message.tp.topic, partition), message.offset, work)
        try:
            record = self._decode(message)
        except WireFormatError as error:
            await self._dead_letter(event, error)
            work.counts.dead = 1
            self._finished(entry)
            return
        effects = self.engine.apply(partition, record)
        work.source, work.received_at = record["processor"], record["received_at"]
        await self._publish(effects, append_ms)
        if entry.dropped:
            # The partition has gone to another member while Kafka took the alerts; its table is no longer ours to write.
            self.slots.release()
            return
        for key, value in effects.writes:
            if value is not None:
                self.table[key] = value
            elif key in self.table:
                del self.table[key]
        work.counts.filtered, work.counts.delivered = (0, 1) if effects.counted else (1, 0)
        if effects.alerts:
            work.counts.events_out = {"alerts": len(effects.alerts)}
        self.count_signals.add(effects.counted)
        self.count_repeats.add(effects.seen)
        self._warn_of_unknown(effects)
        sent = self.table.take_sent()
        if not sent:
            self._finished(entry)
            return
        settled = asyncio.gather(*sent)
        settled.add_done_callback(lambda done: self._changelog_settled(entry, done))

    def _decode(self, message: Any) -> dict[str, Any]:
        headers = message.headers or []
        name, record = self.decode.named(message.value, list(headers.items()) if isinstance(headers, dict) else list(headers))
        if name != "signals" or record["kind"] not in {"partials", "tick"}:
            raise WireFormatError(f"neither partials nor a tick, but {record.get('kind', '')!r} of schema {name}")
        return record

    def _changelog_settled(self, entry: InFlight[_Work], done: asyncio.Future[Any]) -> None:
        if done.cancelled():
            return
        if (error := done.exception()) is not None:
            self.fail(error)
        self._finished(entry)

    def _finished(self, entry: InFlight[_Work]) -> None:
        self.window.finish(entry)
        self.slots.release()
        self.wake.set()

    async def _publish(self, effects: Effects, append_ms: int) -> None:
        alerts = effects.alerts + [a for a in effects.repeats if self.announced.get(a["alert_id"], 0) < a["revision"]]
        if not alerts:
            return
        future, delivery = self.producer.future_delivery()
        now_ms = time.time_ns() // 1_000_000
        for alert in alerts:
            stamp = min(max(alert["alert_created"] // 1000, append_ms - DAY_MS), now_ms)
            value = self.encode_alert(alert)
            self.producer.produce(self.alerts_topic, value, delivery=delivery, key=alert["alert_id"], timestamp_ms=stamp)
        delivery.seal()
        await future
        for alert in alerts:
            self.announced[alert["alert_id"]] = alert["revision"]
            self.announced.move_to_end(alert["alert_id"])
            log.info(
                "alert", alert_id=alert["alert_id"], state=alert["state"], events=alert["event_count"], summary=alert["summary"]
            )
        while len(self.announced) > MAX_ANNOUNCED:
            self.announced.popitem(last=False)
        self.count_alerts.add(len(alerts))

    async def _dead_letter(self, event: Any, error: BaseException) -> None:
        tp, message = event.message.tp, event.message
        headers = dead_letter_headers(
            service=SERVICE, stage="decode", topic=tp.topic, partition=tp.partition, offset=message.offset, error=error
        )
        await self.producer.deliver(self.dead_topic, message.value or b"", key=message.key, headers=headers)

    def _warn_of_unknown(self, effects: Effects) -> None:
        for correlation_id in effects.unknown - self.unknown:
            self.unknown.add(correlation_id)
            log.warning(
                "signals of a correlation that is not in the rules here; give all services the same rules", id=correlation_id
            )

    async def flush(self) -> None:
        """Write the ledger and acknowledge, for ever; a range is entered before its records are acknowledged."""
        while True:
            await self.wake.wait()
            self.wake.clear()
            await asyncio.sleep(FLUSH_SECONDS)
            try:
                await self.settle()
            except DeliveryFailed as error:
                self.fail(error)

    async def settle(self) -> None:
        """Enter and acknowledge what is finished now."""
        taken = self.window.take_finished()
        waiting = []
        for (topic, partition), entries in taken.items():
            ledger = LedgerEntry(
                service=SERVICE,
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
            waiting.append(self.producer.deliver(self.ledger_topic, self.encode_ledger(ledger.to_record()), key=ledger.key))
        if waiting:
            await asyncio.gather(*waiting)
        # No await from here on: a commit sees a range acknowledged as a whole or not at all.
        for entries in taken.values():
            for entry in entries:
                if not entry.dropped:
                    entry.item.event.ack()

    def drop(self, partitions: set[tuple[str, int]]) -> None:
        """These may go to another member, which does their unacknowledged records again."""
        self.window.drop(partitions)
        self.engine.forget()


def make_detector_app(settings: ProcessorSettings) -> tuple[faust.App, DurableTable, Any]:
    """The app, its table and the topic of signals."""
    names = TopicNames(settings.topic_prefix)
    app = make_app(settings, SERVICE, Table=DurableTable, table_standby_replicas=0)
    raw = {"key_type": bytes, "value_type": bytes, "key_serializer": "raw", "value_serializer": "raw"}
    signals = app.topic(names["signals"], **raw)
    # Named and declared as all our topics are. Deleted keys come as records without a value, and are not to be committed.
    changelog = app.topic(
        names["state.detector"],
        **raw,
        compacting=True,
        deleting=False,
        acks=False,
        internal=True,
        allow_empty=True,
        maxsize=131_072,
    )
    table = app.Table("state", key_type=bytes, value_type=bytes, changelog_topic=changelog)
    return app, table, signals


def _partition_mismatch(producer: DeliveryProducer, names: TopicNames) -> str | None:
    signals, state = names["signals"], names["state.detector"]
    counts = {topic: producer.partitions(topic) for topic in (signals, state)}
    if counts[signals] == counts[state]:
        return None
    return f"{signals} has {counts[signals]} partitions and {state} {counts[state]}; they must have the same number"


def main(settings: ProcessorSettings) -> int:
    """Run the detector until it is told to stop; the exit code.

    Raises:
        SettingsError: the folder of rules is not there.
        DeliveryFailed: a topic is missing or no broker answers at start.
    """
    ops_logging.configure(SERVICE, settings.instance, level=settings.log_level, form=settings.log_format)
    telemetry.setup_metrics(SERVICE, settings.instance)
    rule_set = load_rule_set(settings.rules_dir)

    async def run() -> None:
        # Never give up: while Kafka is away nothing is acknowledged and reading stops, which loses nothing.
        producer = DeliveryProducer(settings, message_timeout_ms=0, delivery_timeout_ms=0)
        mismatch = await asyncio.to_thread(_partition_mismatch, producer, TopicNames(settings.topic_prefix))
        if mismatch is not None:
            raise DeliveryFailed(mismatch)
        app, table, signals = make_detector_app(settings)
        detector = Detector(settings, app, table, producer, rule_set)
        app.agent(signals, name=SERVICE, concurrency=1)(detector.consume)

        async def revoked(sender: Any, partitions: Any = (), **_: Any) -> None:
            detector.drop({(tp.topic, tp.partition) for tp in partitions})

        app.on_partitions_revoked.connect(revoked)
        ready: Callable[[], str | None] = lambda: None if app.rebalancing is False else "rebalancing"  # noqa: E731
        health = telemetry.HealthServer(settings.health_host, settings.health_port, ready)
        log.info("starting", group=app.conf.id, rules=rule_set.version, correlations=len(rule_set.correlations))
        try:
            await run_app(app, settings, [detector.flush()])
        finally:
            health.close()
            await asyncio.to_thread(producer.close)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run())
    return 0
