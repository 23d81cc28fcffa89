"""signals → alerts: a Faust app whose table holds one value for each group of each correlation.

For each record, in this order: Kafka acknowledges its alerts, the table is written, Kafka acknowledges the changelog's records, the
ledger is told, the offset is committed. Killed anywhere in between, the detector does the record again and comes to the same
alerts: what was counted is in the same table value as the counts. As in `runtime`, Faust only reads: its acknowledgements are off,
offsets are committed here, and its position is not trusted.
"""

from __future__ import annotations

import asyncio
import math
import os
import time
from collections import OrderedDict
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any, NoReturn

import faust
import uvloop
from faust.types import TP

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
from weir.processors.faust_app import EXIT_FATAL, EXIT_UNAVAILABLE, ProcessorSettings, make_app, run_app
from weir.processors.gaps import first_from
from weir.processors.runtime import EXPIRED
from weir.processors.signals import load_rule_set
from weir.processors.window import InFlight, Window

__all__ = ["SERVICE", "Detector", "DurableTable", "main"]

SERVICE = "process.detector"
DRAIN_SECONDS = 10.0
CLOSE_SECONDS = 5.0
MEND_SECONDS = 0.5
MEND_ATTEMPTS = 60
MAX_RUN = 2_000
DAY_MS = 86_400_000
MAX_ANNOUNCED = 10_000

Partition = tuple[str, int]

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
    """What is needed to enter a signals record, or a range that is gone, in the ledger."""

    last_offset: int
    received_at: int
    source: str = ""
    counts: LedgerCounts = field(default_factory=LedgerCounts)
    note: str | None = None


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
        self.settling = asyncio.Lock()
        # By partition, while it is ours: the next offset to take.
        self.next: dict[Partition, int] = {}
        self.given_up: set[Partition] = set()
        self.skipped: dict[TP, int] = {}
        self.joined = False
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
            message = event.message
            await self.slots.acquire()
            try:
                if self._is_stale(message) or not await self._in_order(message):
                    self.slots.release()
                    continue
                await self._take(message)
            except asyncio.CancelledError:
                raise
            except BaseException as error:
                self.fail(error)

    def fail(self, error: BaseException) -> NoReturn:
        """Leave at once, committing nothing more; whoever started the process starts it again."""
        log.critical("cannot go on", error=repr(error), exc_info=error)
        os._exit(EXIT_FATAL)

    def _is_stale(self, message: Any) -> bool:
        """A record of an assignment that is over, which waited here for room: whoever has its partition now reads it again."""
        partition = (message.tp.topic, message.tp.partition)
        return partition in self.given_up or message.generation_id != self.app.consumer_generation_id

    async def _in_order(self, message: Any) -> bool:
        """Whether this is a record not yet taken, all before it being taken, committed, or gone from Kafka."""
        topic, partition, offset = message.tp.topic, message.tp.partition, message.offset
        expected = self.next.get((topic, partition))
        if expected is None:
            expected = max(0, self.app.consumer._committed_offset.get(message.tp) or 0)
        if offset < expected:
            return False
        if offset == expected:
            self.skipped.pop(message.tp, None)
            return True
        if message.tp in self.skipped:
            return False
        found = await asyncio.to_thread(first_from, self.settings, topic, partition, expected)
        if self._is_stale(message):
            return False
        if found.first < offset:
            log.warning("records were skipped", topic=topic, partition=partition, offset=offset, expected=found.first)
            self.next[topic, partition] = found.first
            self.skipped[message.tp] = 0
            return False
        if found.low > expected > 0:
            log.error("expired", topic=topic, partition=partition, first_offset=expected, last_offset=offset - 1)
            work = _Work(offset - 1, time.time_ns() // 1000, note=EXPIRED)
            self.window.finish(self.window.add((topic, partition), expected, work))
        return True

    async def mend(self) -> None:
        """Go back to what was skipped, for ever.

        After a recovery Faust resumes a partition before it seeks to the commit (`Recovery._resume_streams`): what was fetched in
        between is thrown away with its queue, or comes after the seek and lifts the position over the records sought. Seeking
        again helps once those have passed.
        """
        while True:
            await asyncio.sleep(MEND_SECONDS)
            for tp in list(self.skipped):
                attempts = self.skipped[tp] = self.skipped[tp] + 1
                if attempts > MEND_ATTEMPTS:
                    self.fail(
                        RuntimeError(f"{tp.topic}/{tp.partition}: offset {self.next.get((tp.topic, tp.partition))} does not come")
                    )
                if (expected := self.next.get((tp.topic, tp.partition))) is not None and not self.app.rebalancing:
                    await self.app.consumer.seek_wait({tp: expected})

    async def _take(self, message: Any) -> None:
        partition = message.tp.partition
        append_ms = int(message.timestamp * 1000) if message.timestamp else time.time_ns() // 1_000_000
        work = _Work(message.offset, append_ms * 1000, counts=LedgerCounts(events_in=1))
        entry = self.window.add((message.tp.topic, partition), message.offset, work)
        self.next[message.tp.topic, partition] = message.offset + 1
        try:
            record = self._decode(message)
        except WireFormatError as error:
            await self._dead_letter(message, error)
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

    async def _dead_letter(self, message: Any, error: BaseException) -> None:
        tp = message.tp
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
        """Enter in the ledger and commit, for ever."""
        while True:
            await self.wake.wait()
            self.wake.clear()
            await asyncio.sleep(self.settings.processor_commit_seconds)
            if not await self.settle():
                self.wake.set()

    async def settle(self) -> bool:
        """Enter and commit what is finished now. False where the group did not take the commit; then it is done again.

        The next range is entered only when this one is committed, so that a range done again replaces its entry.
        """
        async with self.settling:
            while runs := self.window.finished_runs(MAX_RUN, lambda work: work.note):
                try:
                    await asyncio.gather(*(self._enter(partition, run) for partition, run in runs.items()))
                except DeliveryFailed as error:
                    self.fail(error)
                kept = {partition: run for partition, run in runs.items() if not run[0].dropped}
                offsets = {TP(*partition): run[-1].item.last_offset + 1 for partition, run in kept.items()}
                if kept and not await self.app.consumer._commit(offsets):
                    return False
                for run in kept.values():
                    self.window.remove(run)
        return True

    async def _enter(self, partition: Partition, run: list[InFlight[_Work]]) -> None:
        ledger = LedgerEntry(
            service=SERVICE,
            instance=self.settings.instance,
            site=self.settings.site,
            topic=partition[0],
            partition=partition[1],
            first_offset=run[0].offset,
            last_offset=run[-1].item.last_offset,
            written_at=time.time_ns() // 1000,
            note=run[0].item.note,
        )
        for entry in run if ledger.note is None else []:
            work = entry.item
            ledger.lines[work.source, minute_of(work.received_at), ""].add(work.counts)
        value = self.encode_ledger(ledger.to_record())
        await self.producer.deliver(self.ledger_topic, value, key=ledger.key, blocking_seconds=math.inf)

    def assigned(self) -> None:
        """The group has given this member its partitions, or none."""
        self.given_up.clear()
        self.joined = True

    async def revoked(self, partitions: set[Partition]) -> None:
        """Commit what is in flight if that takes no longer than some seconds, then let go."""
        if partitions:
            await self._drain()
        self.given_up |= partitions
        self.window.drop(partitions)
        for partition in partitions:
            self.next.pop(partition, None)
            self.skipped.pop(TP(*partition), None)
        self.engine.forget()

    async def finish(self) -> None:
        """Stop reading and commit what is in flight, so that the next start repeats nothing."""
        if not self.joined:
            return
        self.app.consumer.stop_flow()
        self.app.flow_control.suspend()
        self.app.flow_control.clear()
        await self._drain()

    async def _drain(self) -> None:
        async def empty() -> None:
            while len(self.window):
                await self.settle()
                await asyncio.sleep(0.01)

        try:
            await asyncio.wait_for(empty(), DRAIN_SECONDS)
        except TimeoutError:
            log.warning("records in flight are left to whoever gets their partitions", records=len(self.window))

    def not_ready(self) -> str | None:
        """Why this member cannot work, or None where it can."""
        if not self.joined:
            return "not yet a member of its consumer group"
        return "the consumer group is rebalancing" if self.app.rebalancing else None


def make_detector_app(settings: ProcessorSettings) -> tuple[faust.App, DurableTable, Any]:
    """The app, its table and the topic of signals."""
    names = TopicNames(settings.topic_prefix)
    app = make_app(settings, SERVICE, Table=DurableTable, table_standby_replicas=0)
    raw = {"key_type": bytes, "value_type": bytes, "key_serializer": "raw", "value_serializer": "raw"}
    signals = app.topic(names["signals"], **raw, acks=False, allow_empty=True)
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


def _look_at_topics(producer: DeliveryProducer, names: TopicNames) -> None:
    """Raises DeliveryFailed where a topic is missing, or the table's has not as many partitions as the signals'."""
    needed = ("signals", "state.detector", "alerts", "signals.dlq", "ledger")
    counts = {name: producer.partitions(names[name]) for name in needed}
    if counts["signals"] != counts["state.detector"]:
        raise DeliveryFailed(
            f"{names['signals']} has {counts['signals']} partitions and {names['state.detector']} {counts['state.detector']}; "
            "they must have the same number"
        )


def main(settings: ProcessorSettings) -> int:
    """Run the detector until it is told to stop; the exit code: 0, EXIT_UNAVAILABLE at start, EXIT_FATAL later.

    Raises:
        SettingsError: the folder of rules is not there.
    """
    ops_logging.configure(SERVICE, settings.instance, level=settings.log_level, form=settings.log_format)
    telemetry.setup_metrics(SERVICE, settings.instance)
    rule_set = load_rule_set(settings.rules_dir)

    async def run() -> int:
        # Never give up: while Kafka is away nothing is committed and reading stops, which loses nothing.
        producer = DeliveryProducer(settings, message_timeout_ms=0, delivery_timeout_ms=0)
        try:
            await asyncio.to_thread(_look_at_topics, producer, TopicNames(settings.topic_prefix))
        except DeliveryFailed as error:
            log.error("cannot start", error=str(error), brokers=settings.kafka_bootstrap_servers)  # noqa: TRY400
            return EXIT_UNAVAILABLE
        app, table, signals = make_detector_app(settings)
        detector = Detector(settings, app, table, producer, rule_set)
        app.agent(signals, name=SERVICE, concurrency=1)(detector.consume)

        async def revoked(sender: Any, partitions: Any = (), **_: Any) -> None:
            await detector.revoked({(tp.topic, tp.partition) for tp in partitions})

        async def assigned(sender: Any, partitions: Any = (), **_: Any) -> None:
            detector.assigned()

        app.on_partitions_revoked.connect(revoked)
        app.on_partitions_assigned.connect(assigned)
        health = telemetry.HealthServer(settings.health_host, settings.health_port, detector.not_ready)
        log.info("starting", group=app.conf.id, rules=rule_set.version, correlations=len(rule_set.correlations))
        try:
            await run_app(app, settings, [detector.flush(), detector.mend()], detector.finish)
        except Exception as error:
            log.critical("cannot go on", error=repr(error), exc_info=error)
            return EXIT_FATAL
        finally:
            health.close()
            await asyncio.to_thread(producer.close, CLOSE_SECONDS)
        return 0

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(run())
