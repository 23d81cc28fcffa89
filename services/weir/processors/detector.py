"""signals → alerts: a Faust app whose table holds one value for each group of each correlation.

For each record, in this order: Kafka acknowledges its alerts, and what they are worth as signals of other correlations; the table
is written, Kafka acknowledges the changelog's records, the ledger is told, the offset is committed. Killed anywhere in between,
the detector does the record again and comes to the same alerts: what was counted is in the same table value as the counts. Faust
only reads, `member` commits, and Faust's position is not trusted.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import OrderedDict
from collections.abc import Coroutine
from typing import Any

import faust
from faust.types import TP

from weir.bus.codec import Decoder, Encoder, WireFormatError
from weir.bus.config import DeliveryFailed
from weir.bus.deadletter import dead_letter_headers, fitting
from weir.bus.producer import DeliveryProducer
from weir.detect.engine import Effects, Engine, key_partition
from weir.detect.kinds.state import StateError
from weir.detect.telling.alerts import Origin
from weir.model.ledger import LedgerCounts
from weir.model.topics import TopicNames
from weir.ops import logging as ops_logging
from weir.ops import telemetry
from weir.processors.faust_app import make_app
from weir.processors.gaps import first_from
from weir.processors.member import RAW, Member, Partition, Ready, Work, endless_producer, headers_of, run_member
from weir.processors.rules import LiveRules, load_live_rules
from weir.processors.settings import ProcessorSettings
from weir.processors.window import InFlight

__all__ = ["SERVICE", "Detector", "DurableTable", "main"]

SERVICE = "process.detector"
TURN_SECONDS = 1.0
MEND_SECONDS = 0.5
MEND_ATTEMPTS = 60
DAY_MS = 86_400_000
MAX_ANNOUNCED = 10_000
RULES_SECONDS = 120.0

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


class Detector(Member):
    """Everything between the stream of signals, the table and the alerts."""

    def __init__(
        self,
        settings: ProcessorSettings,
        app: faust.App,
        table: DurableTable,
        producer: DeliveryProducer,
        rules: LiveRules,
        partitions: int,
    ) -> None:
        super().__init__(app, settings, SERVICE, producer, log)
        self.table = table
        self.signals_topic, self.alerts_topic = self.names["signals"], self.names["alerts"]
        self.dead_topic = self.names["signals.dlq"]
        self.rules = rules
        self.engine = Engine(rules.rule_set, Origin(settings.site, settings.instance), self._load, self._items, partitions)
        self.decode = Decoder()
        self.encode_alert = Encoder("alert")
        self.encode_signals = Encoder("signals")
        self.slots = asyncio.Semaphore(settings.processor_max_in_flight)
        self.skipped: dict[TP, int] = {}
        self.announced: OrderedDict[str, int] = OrderedDict()
        # Correlation and version of the rules its signals were made with: nothing is to be waited for.
        self.unknown: set[tuple[str, str]] = set()
        # By alert id, the suppression that was last told of.
        self.held: OrderedDict[str, str] = OrderedDict()
        meter = telemetry.meter("weir.detector")
        self.count_signals = meter.create_counter("weir.detect.signals.partials", description="partials merged")
        self.count_repeats = meter.create_counter("weir.detect.repeats", description="partials seen before")
        self.count_alerts = meter.create_counter("weir.detect.telling.alerts", description="alert records written")
        self.count_held = meter.create_counter(
            "weir.detect.suppressed", description="alert records not published, by rule and suppression"
        )
        self.count_unknown = meter.create_counter(
            "weir.detect.unknown", description="partials of correlations that the rules here do not have, which are lost"
        )

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

    async def wait_for_room(self, message: Any) -> None:
        """Wait for one of the slots for records whose outputs are on their way."""
        await self.slots.acquire()

    def pass_over(self) -> None:
        """The slot is for another record."""
        self.slots.release()

    async def in_order(self, message: Any) -> bool:
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
        if self.is_stale(message):
            return False
        if found.first < offset:
            log.warning("records were skipped", topic=topic, partition=partition, offset=offset, expected=found.first)
            self.next[topic, partition] = found.first
            self.skipped[message.tp] = 0
            return False
        if found.low > expected > 0:
            log.error("expired", topic=topic, partition=partition, first_offset=expected, last_offset=offset - 1)
            self.begin_expired((topic, partition), expected, offset - 1)
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

    async def turn(self) -> None:
        """Take a turn of the event loop every second, for ever."""
        while True:
            self.last_turn = time.monotonic()
            await asyncio.sleep(TURN_SECONDS)

    async def take(self, message: Any) -> None:
        """Merge a signals record: its alerts first, then the table."""
        partition = message.tp.partition
        append_ms = int(message.timestamp * 1000) if message.timestamp else time.time_ns() // 1_000_000
        work = Work(message.offset, append_ms * 1000, counts=LedgerCounts(events_in=1))
        try:
            record = self._decode(message)
        except WireFormatError as error:
            entry = self.begin(message, work)
            await self._dead_letter(message, error)
            work.counts.dead = 1
            self._finished(entry)
            return
        await self._wait_for_rules(record, append_ms / 1000)
        if self.is_stale(message):
            self.pass_over()
            return
        entry = self.begin(message, work)
        try:
            effects = self.engine.apply(partition, record, message.offset)
        except StateError:
            raise  # the table is of another release: nothing it would count from now on would be right
        except Exception as error:
            # A defect in merging must not stop all detection for ever: the record is kept for doing it again.
            log.exception("merging failed", topic=message.tp.topic, partition=partition, offset=message.offset)
            await self._dead_letter(message, error, stage="merge")
            work.counts.dead = 1
            self._finished(entry)
            return
        work.source, work.received_at = record["processor"], record["received_at"]
        published = self._unsuppressed(effects.alerts)
        await self._publish(published, self._unsuppressed(effects.repeats), effects.signals, append_ms)
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
        if published:
            work.counts.events_out = {"alerts": len(published)}
        if held := len(effects.alerts) - len(published):
            work.datasets["alerts"] = LedgerCounts(filtered=held)
        self.count_signals.add(effects.counted)
        self.count_repeats.add(effects.seen)
        self._warn_of_unknown(effects, record)
        sent = self.table.take_sent()
        if not sent:
            self._finished(entry)
            return
        settled = asyncio.gather(*sent)
        settled.add_done_callback(lambda done: self._changelog_settled(entry, done))

    def _decode(self, message: Any) -> dict[str, Any]:
        name, record = self.decode.named(message.value, headers_of(message))
        if name != "signals" or record["kind"] not in {"partials", "alerts", "tick"}:
            raise WireFormatError(f"neither partials, alerts nor a tick, but {record.get('kind', '')!r} of schema {name}")
        return record

    def _changelog_settled(self, entry: InFlight[Work], done: asyncio.Future[Any]) -> None:
        if done.cancelled():
            return
        if (error := done.exception()) is not None:
            self.fail(error)
        self._finished(entry)

    def _finished(self, entry: InFlight[Work]) -> None:
        self.window.finish(entry)
        self.slots.release()
        self.wake.set()

    async def _publish(
        self, new: list[dict[str, Any]], repeats: list[dict[str, Any]], signals: list[tuple[int, dict[str, Any]]], append_ms: int
    ) -> None:
        alerts = new + [a for a in repeats if self.announced.get(a["alert_id"], 0) < a["revision"]]
        if not alerts and not signals:
            return
        now_ms = time.time_ns() // 1_000_000

        def stamp(created_us: int) -> int:
            return min(max(created_us // 1000, append_ms - DAY_MS), now_ms)

        await asyncio.gather(
            *(
                self.producer.deliver(
                    self.alerts_topic,
                    self.encode_alert(alert),
                    key=alert["alert_id"],
                    timestamp_ms=stamp(alert["alert_created"]),
                    blocking_seconds=math.inf,
                )
                for alert in alerts
            ),
            *(
                self.producer.deliver(
                    self.signals_topic,
                    self.encode_signals(record),
                    partition=partition,
                    timestamp_ms=stamp(record["received_at"]),
                    blocking_seconds=math.inf,
                )
                for partition, record in signals
            ),
        )
        for alert in alerts:
            self.announced[alert["alert_id"]] = alert["revision"]
            self.announced.move_to_end(alert["alert_id"])
            log.info(
                "alert", alert_id=alert["alert_id"], state=alert["state"], events=alert["event_count"], summary=alert["summary"]
            )
        while len(self.announced) > MAX_ANNOUNCED:
            self.announced.popitem(last=False)
        self.count_alerts.add(len(alerts))

    async def _dead_letter(self, message: Any, error: BaseException, stage: str = "decode") -> None:
        tp = message.tp
        value, reason = fitting(message.value, error)
        headers = dead_letter_headers(
            service=SERVICE, stage=stage, topic=tp.topic, partition=tp.partition, offset=message.offset, error=reason
        )
        await self.producer.deliver(self.dead_topic, value or b"", key=message.key, headers=headers, blocking_seconds=math.inf)

    # --- suppressions --------------------------------------------------------------------------------------------------------

    def _unsuppressed(self, alerts: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """The alerts that are to be published; the others are counted, and each is logged once."""
        passed = []
        for alert in alerts:
            entry = self.rules.suppressions.suppressing(alert)
            if entry is None:
                passed.append(alert)
                continue
            self.count_held.add(1, {"rule": alert["rule_id"], "suppression": entry.id})
            if self.held.get(alert["alert_id"]) != entry.id:
                self.held[alert["alert_id"]] = entry.id
                log.info(
                    "alert suppressed",
                    alert_id=alert["alert_id"],
                    suppression=entry.id,
                    owner=entry.owner,
                    summary=alert["summary"],
                )
                while len(self.held) > MAX_ANNOUNCED:
                    self.held.popitem(last=False)
        return passed

    # --- rules that change ---------------------------------------------------------------------------------------------------

    def take_rules(self) -> None:
        """Merge by the rules as they are now, from the next record on."""
        self.engine.replace_rules(self.rules.rule_set)

    async def _wait_for_rules(self, record: dict[str, Any], appended: float) -> None:
        """Wait until the rules here have the correlations of this record.

        Services take over a changed folder at different moments, and a ConfigMap reaches one node up to two minutes after another.
        So that no signal of a new rule is lost, the folder is looked at at once, and again until RULES_SECONDS after the record
        was appended (`appended`, seconds UTC): meanwhile all signals wait in Kafka. What is unknown then is counted and logged, and
        not waited for again in signals made with the same rules. A backlog of a rule that is gone is older than that and
        delays nothing; neither does a rule that was removed here while processors still count for it.
        """
        while any((one, record["rule_set"]) not in self.unknown for one in self._not_known(record)):
            if await self.rules.look(self.take_rules):
                continue
            left = appended + RULES_SECONDS - time.time()
            if left <= 0:
                return
            await asyncio.sleep(min(left, self.settings.rules_poll_seconds, 1.0))

    def _not_known(self, record: dict[str, Any]) -> set[str]:
        return {one for one in {p["correlation_id"] for p in record["partials"]} if not self.engine.knows(one)}

    def _warn_of_unknown(self, effects: Effects, record: dict[str, Any]) -> None:
        if not effects.unknown:
            return
        self.count_unknown.add(sum(partial["correlation_id"] in effects.unknown for partial in record["partials"]))
        if len(self.unknown) > MAX_ANNOUNCED:
            self.unknown.clear()
        for correlation_id in effects.unknown:
            if (correlation_id, record["rule_set"]) not in self.unknown:
                self.unknown.add((correlation_id, record["rule_set"]))
                log.warning(
                    "signals of a correlation that is not in the rules here; give all services the same rules",
                    id=correlation_id,
                    rules=record["rule_set"],
                )

    def drop(self, partitions: set[Partition]) -> None:
        """These go to another member, which does their uncommitted records again."""
        super().drop(partitions)
        for partition in partitions:
            self.skipped.pop(TP(*partition), None)
        self.engine.forget()

    def background(self) -> list[Coroutine[Any, Any, None]]:
        """What runs beside the agent for as long as the process does."""
        return [self.flush(), self.mend(), self.turn(), self.rules.follow(self.take_rules)]


def make_detector_app(settings: ProcessorSettings) -> tuple[faust.App, DurableTable, Any]:
    """The app, its table and the topic of signals."""
    names = TopicNames(settings.topic_prefix)
    app = make_app(settings, SERVICE, Table=DurableTable, table_standby_replicas=0)
    signals = app.topic(names["signals"], **RAW, acks=False, allow_empty=True)
    # Named and declared as all our topics are. Deleted keys come as records without a value, and are not to be committed.
    changelog = app.topic(
        names["state.detector"],
        **RAW,
        compacting=True,
        deleting=False,
        acks=False,
        internal=True,
        allow_empty=True,
        maxsize=131_072,
    )
    table = app.Table("state", key_type=bytes, value_type=bytes, changelog_topic=changelog)
    return app, table, signals


def _look_at_topics(producer: DeliveryProducer, names: TopicNames) -> int:
    """Number of partitions of the signals topic.

    Raises:
        DeliveryFailed: a topic is missing, or the table's has not as many partitions as the signals'.
    """
    needed = ("signals", "state.detector", "alerts", "signals.dlq", "ledger")
    counts = {name: producer.partitions(names[name]) for name in needed}
    if counts["signals"] != counts["state.detector"]:
        raise DeliveryFailed(
            f"{names['signals']} has {counts['signals']} partitions and {names['state.detector']} {counts['state.detector']}; "
            "they must have the same number"
        )
    return counts["signals"]


def main(settings: ProcessorSettings) -> int:
    """Run the detector until it is told to stop; the exit code: 0, EXIT_UNAVAILABLE at start, EXIT_FATAL later.

    Raises:
        SettingsError: the folder of rules is not there, or the suppressions have mistakes.
    """

    async def make() -> Ready:
        rules = load_live_rules(settings)
        producer = endless_producer(settings)
        partitions = await asyncio.to_thread(_look_at_topics, producer, TopicNames(settings.topic_prefix))
        app, table, signals = make_detector_app(settings)
        detector = Detector(settings, app, table, producer, rules, partitions)
        about = {"rules": rules.rule_set.version, "correlations": len(rules.rule_set.correlations)}
        return Ready(detector, signals, about)

    return run_member(settings, SERVICE, log, make)
