"""ledger → signals: the rules about the pipeline itself, over what the services say they did.

It reads the ledger, and the dead letters of flows for the templates that lacked, and is no processor of events: it writes none, and
no ledger entries about its reading either, which it would only have to read. Both topics are slow, so one thread does one thing
after the other: read, match, wait until Kafka has the signals, commit. Killed anywhere in between, it makes the same signals again.

What a range that is entered twice must not count again is remembered by `signals.pipeline`, in memory. A process that begins
reads back what it needs of that: the keys of a day, the last entry of each partition, those of the last ten minutes, and those of
receivers, which are few, of the last three hours.
"""

from __future__ import annotations

import asyncio
import queue
import time
from collections.abc import Iterable, Iterator
from typing import Any, Final

from confluent_kafka import Consumer, KafkaException, Message, TopicPartition

from weir.bus.codec import Decoder, Encoder, WireFormatError
from weir.bus.config import DeliveryFailed, consumer_config
from weir.bus.consumer import BatchConsumer, Expired
from weir.bus.deadletter import reason_of
from weir.bus.offsets import offsets_for_times, watermarks
from weir.bus.producer import Delivery, DeliveryProducer
from weir.detect.signals.pipeline import HEARD_MINUTES, PIPELINE, SINK_REMEMBERED_US, Coordinates, Pipeline, dead_letter_records
from weir.model.ids import stable_id
from weir.model.ledger import MINUTE_US, LedgerEntry
from weir.model.topics import TopicNames
from weir.ops import logging as ops_logging
from weir.ops import telemetry
from weir.ops.shutdown import StopSignal
from weir.processors.faust_app import EXIT_FATAL, EXIT_UNAVAILABLE
from weir.processors.rules import LiveRules, load_live_rules
from weir.processors.settings import ProcessorSettings

__all__ = ["SERVICE", "LedgerReader", "main"]

SERVICE: Final = "process.ledger"
READ_RECORDS: Final = 500
READ_SECONDS: Final = 0.25
TICK_SECONDS: Final = 1.0
LEARN_US: Final = 10 * MINUTE_US
"""So far back entries are read in full at a start: as long as a crashed service may take to enter several ranges again."""
FIRST_US: Final = 60 * MINUTE_US
"""So far back the very first start begins: what has been wrong for weeks is no news."""
STUCK_SECONDS: Final = 30.0
DAY_MS: Final = 86_400_000

log = ops_logging.get("weir.ledger")
Partition = tuple[str, int]


class LedgerReader:
    """Everything between the ledger and the signals.

    Args:
        settings: brokers, prefix, instance.
        rules: those in force.
        producer: of the signals.
        stop: asks to stop.
    """

    def __init__(self, settings: ProcessorSettings, rules: LiveRules, producer: DeliveryProducer, stop: StopSignal) -> None:
        self.settings = settings
        self.stop = stop
        self.rules = rules
        self.producer = producer
        names = self.names = TopicNames(settings.topic_prefix)
        self.ledger_topic, self.dead_topic, self.signals_topic = names["ledger"], names["raw.netflow.dlq"], names["signals"]
        self.signal_partitions = 0
        self.decode = Decoder()
        self.encode = Encoder("signals")
        # By partition of the ledger, while it is ours: what has been counted.
        self.pipelines: dict[int, Pipeline] = {}
        self.next: dict[Partition, int] = {}
        self.received: dict[Partition, int] = {}
        self.uncommitted: dict[Partition, int] = {}
        self.last_commit = self.last_tick = self.last_turn = self.last_look = time.monotonic()
        self.ticking: queue.SimpleQueue[DeliveryFailed | None] | None = None
        self.consumer = BatchConsumer(
            settings,
            f"{settings.topic_prefix}.{SERVICE}",
            [self.ledger_topic, self.dead_topic],
            on_revoked=self._revoked,
            on_expired=_expired,
            first_since_ms=(time.time_ns() // 1000 - FIRST_US) // 1000,
        )

    def look_at_topics(self) -> None:
        """Raises DeliveryFailed where a topic that is needed is not there."""
        for topic in (self.ledger_topic, self.dead_topic):
            self.producer.partitions(topic)
        self.signal_partitions = self.producer.partitions(self.signals_topic)

    def run(self) -> None:
        """Read until asked to stop.

        Raises:
            DeliveryFailed: Kafka refused a record of signals.
            KafkaException: an error of the brokers that does not pass by itself.
        """
        try:
            while not self.stop.is_set():
                self.turn()
            self.commit()
        finally:
            self.consumer.close()

    def turn(self) -> None:
        """Read what there is, publish its signals; commit, tick, and look at the rules where it is time to."""
        now = self.last_turn = time.monotonic()
        if messages := self.consumer.read(READ_RECORDS, READ_SECONDS):
            self.take(messages)
        if now - self.last_commit >= self.settings.processor_commit_seconds:
            self.last_commit = now
            self.commit()
        if now - self.last_tick >= TICK_SECONDS:
            self.last_tick = now
            self.tick()
        if now - self.last_look >= self.settings.rules_poll_seconds:
            self.last_look = now
            asyncio.run(self.rules.look(lambda: None))

    def not_ready(self) -> str | None:
        """Why it cannot work, or None where it can."""
        if not self.consumer.assigned:
            return "not yet a member of its consumer group"
        stood = time.monotonic() - self.last_turn
        return f"stood still for {stood:.0f} s: Kafka does not take the signals" if stood > STUCK_SECONDS else None

    # --- records -------------------------------------------------------------------------------------------------------------

    def take(self, messages: Iterable[Message]) -> None:
        """Publish the signals of these, and return when Kafka has them."""
        answer: queue.SimpleQueue[DeliveryFailed | None] = queue.SimpleQueue()
        delivery = Delivery(answer.put)
        done: dict[Partition, int] = {}
        for message in messages:
            partition = (message.topic(), message.partition())
            if message.offset() < self.next.get(partition, 0):
                continue
            done[partition] = self.next[partition] = message.offset() + 1
            for signal_partition, value, stamp in self._signals(message):
                self.producer.produce(
                    self.signals_topic,
                    value,
                    delivery=delivery,
                    partition=signal_partition,
                    timestamp_ms=stamp,
                    blocking_seconds=float("inf"),
                )
        delivery.seal()
        # The producer never gives up: while Kafka is away this waits. Asked to stop meanwhile, it leaves without a commit.
        while not self.stop.is_set():
            try:
                error = answer.get(timeout=READ_SECONDS)
            except queue.Empty:
                continue
            if error is not None:
                raise error
            self.uncommitted |= done
            return

    def _signals(self, message: Message) -> Iterator[tuple[int, bytes, int]]:
        where = Coordinates(message.topic(), message.partition(), message.offset())
        stamp_ms = message.timestamp()[1]
        if where.topic == self.dead_topic:
            records, identity, received = self._dead_letter(message, where, stamp_ms * 1000)
        else:
            entry = self._entry(message)
            if entry is None:
                return
            records, identity, received = self._pipeline(where).records(entry, where), where, entry.written_at
        key = (where.topic, where.partition)
        self.received[key] = max(self.received.get(key, 0), received)
        try:
            source = self.rules.source
            found = source.signals({PIPELINE: records}, self.signal_partitions) if records and source is not None else {}
        except Exception:
            # A defect in matching must not stop the rest; the entry stays in the ledger.
            log.exception("rules failed", topic=where.topic, partition=where.partition, offset=where.offset)
            return
        for partition, partials in found.items():
            record = {
                "signals_id": f"{stable_id(*map(str, identity))}-{partition}",
                "kind": "partials",
                "processor": SERVICE,
                "rule_set": self.rules.rule_set.version,
                "raw_topic": where.topic,
                "raw_partition": where.partition,
                "raw_offset": where.offset,
                "received_at": received,
                "partials": partials,
            }
            now_ms = time.time_ns() // 1_000_000
            yield partition, self.encode(record), min(max(received // 1000, stamp_ms - DAY_MS), stamp_ms, now_ms)

    def _entry(self, message: Message) -> LedgerEntry | None:
        try:
            name, record = self.decode.named(message.value(), message.headers())
        except WireFormatError:
            return None  # written by something else; no service of Weir's counts on it
        return LedgerEntry.from_record(record) if name == "ledger-entry" else None

    def _dead_letter(self, message: Message, where: Coordinates, time_us: int) -> tuple[list[dict[str, Any]], tuple[Any, ...], int]:
        """The records of a dead letter, its identity, which is that of what it was made of, and when it was written."""
        headers = message.headers() or []
        said = {name.removeprefix("__connect.errors."): value.decode("utf-8", "replace") for name, value in headers if value}
        reason = reason_of(headers)
        origin = Coordinates(said.get("topic", ""), _number(said.get("partition")), _number(said.get("offset")))
        service = said.get("connector.name", "")
        records = dead_letter_records(reason, time_us, where, origin, service, self.settings.site)
        return records, (*origin, reason), time_us

    # --- what was read before --------------------------------------------------------------------------------------------------

    def _pipeline(self, where: Coordinates) -> Pipeline:
        found = self.pipelines.get(where.partition)
        if found is None:
            found = self.pipelines[where.partition] = Pipeline(self.names)
            if where.offset:
                self._learn(found, where)
        return found

    def _learn(self, pipeline: Pipeline, until: Coordinates) -> None:
        """Read back what an earlier process knew when it had come as far as this record."""
        begun = time.monotonic()
        keys = 0
        last: dict[tuple[str, ...], Message] = {}
        recent: list[LedgerEntry] = []
        for message, age_us in _before(self.settings, until):
            keys += 1
            key = (message.key() or b"").decode("utf-8", "replace")
            of_receiver = key.startswith("receive.")
            if age_us < (HEARD_MINUTES * MINUTE_US if of_receiver else LEARN_US):
                recent += [entry] if (entry := self._entry(message)) is not None else []
            elif not of_receiver:
                last[tuple(key.split("|")[:4])] = message
                pipeline.heard_of(key, message.timestamp()[1] * 1000)
        older = [entry for message in last.values() if (entry := self._entry(message)) is not None]
        for entry in older + recent:
            pipeline.learn(entry)
        log.info("read back", records=keys, in_full=len(older) + len(recent), seconds=round(time.monotonic() - begun, 1))

    # --- commit and ticks ------------------------------------------------------------------------------------------------------

    def commit(self) -> None:
        """Commit what has been published; what fails is committed with the next ones."""
        try:
            self.consumer.commit(self.uncommitted)
        except KafkaException as error:
            log.warning("commit failed", error=str(error))
            return
        self.uncommitted = {}

    def tick(self) -> None:
        """Tell every signals partition how far the time of both topics has come."""
        if self.ticking is not None and self.ticking.empty():
            return  # Kafka has not taken the tick before
        now = time.time_ns() // 1000
        lows: dict[str, list[dict[str, int]]] = {}
        for topic, partition in sorted(self.consumer.assigned):
            if low := self._low_time((topic, partition), now):
                lows.setdefault(topic, []).append({"raw_partition": partition, "low": low})
        if not lows:
            return
        self.ticking = queue.SimpleQueue()
        delivery = Delivery(self.ticking.put)
        for topic, ticks in lows.items():
            record = {
                "kind": "tick",
                "processor": SERVICE,
                "rule_set": self.rules.rule_set.version,
                "raw_topic": topic,
                "raw_partition": -1,
                "raw_offset": -1,
                "received_at": now,
                "ticks": ticks,
            }
            value = self.encode(record)
            for signal_partition in range(self.signal_partitions):
                self.producer.offer(self.signals_topic, value, delivery=delivery, partition=signal_partition)
        delivery.seal()

    def _low_time(self, partition: Partition, now: int) -> int:
        """The time up to which this partition is done, microseconds UTC; 0 where that is not known."""
        end = self.consumer.end(*partition)
        position = self.next.get(partition, self.consumer.starts.get(partition))
        if end is None or position is None:
            return 0
        return now if position >= end else min(self.received.get(partition, 0), now)

    def _revoked(self, partitions: list[Partition]) -> None:
        for partition in partitions:
            for kept in (self.next, self.received, self.uncommitted):
                kept.pop(partition, None)
            if partition[0] == self.ledger_topic:
                self.pipelines.pop(partition[1], None)


def _before(settings: ProcessorSettings, until: Coordinates) -> Iterator[tuple[Message, int]]:
    """The records of a day before this one, in order, and how much older than it each is, microseconds."""
    config = consumer_config(settings, f"{settings.topic_prefix}.gaps")
    del config["group.instance.id"]
    consumer = Consumer(config)
    try:
        at = TopicPartition(until.topic, until.partition, until.offset - 1)
        low, _ = watermarks(consumer, at, 30)
        if until.offset - 1 < low:
            return
        consumer.assign([at])
        time_ms = next(_read(consumer, until.offset)).timestamp()[1]
        wanted = TopicPartition(until.topic, until.partition, time_ms - SINK_REMEMBERED_US // 1000)
        (first,) = offsets_for_times(consumer, [wanted], 30)
        consumer.assign([TopicPartition(until.topic, until.partition, max(low, first.offset))])
        for message in _read(consumer, until.offset):
            yield message, (time_ms - message.timestamp()[1]) * 1000
    finally:
        consumer.close()


def _read(consumer: Consumer, until: int) -> Iterator[Message]:
    heard = time.monotonic()
    while True:
        for message in consumer.consume(READ_RECORDS, READ_SECONDS):
            if (error := message.error()) is not None:
                raise KafkaException(error)
            if message.offset() >= until:
                return
            yield message
            heard = time.monotonic()
            if message.offset() == until - 1:
                return
        if time.monotonic() - heard > STUCK_SECONDS:
            raise DeliveryFailed(f"nothing came for {STUCK_SECONDS:.0f} s of what is before offset {until}")


def _number(text: str | None) -> int:
    return int(text) if text is not None and text.isdigit() else -1


def _expired(gone: Expired) -> None:
    log.error("expired", topic=gone.topic, partition=gone.partition, first_offset=gone.first_offset, last_offset=gone.last_offset)


def main(settings: ProcessorSettings) -> int:
    """Run it until it is told to stop; the exit code: 0, EXIT_UNAVAILABLE at start, EXIT_FATAL later.

    Raises:
        SettingsError: the folder of rules is not there, or the suppressions have mistakes.
    """
    ops_logging.configure(SERVICE, settings.instance, level=settings.log_level, form=settings.log_format)
    telemetry.setup_metrics(SERVICE, settings.instance)
    rules = load_live_rules(settings)
    # Never gives up: while Kafka is away nothing is read, and nothing is lost.
    producer = DeliveryProducer(settings, message_timeout_ms=0, delivery_timeout_ms=0)
    stop = StopSignal()
    stop.install()
    reader = LedgerReader(settings, rules, producer, stop)
    try:
        reader.look_at_topics()
    except DeliveryFailed as error:
        log.error("cannot start", error=str(error), brokers=settings.kafka_bootstrap_servers)  # noqa: TRY400
        return EXIT_UNAVAILABLE
    health = telemetry.HealthServer(settings.health_host, settings.health_port, reader.not_ready)
    log.info("starting", topics=[reader.ledger_topic, reader.dead_topic], rules=rules.rule_set.version)
    try:
        reader.run()
    except (DeliveryFailed, KafkaException) as error:
        log.critical("cannot go on", error=repr(error), exc_info=error)
        return EXIT_FATAL
    finally:
        health.close()
        producer.close(5.0)
    return 0
