"""The runtime that every sink shares: Kafka in, a destination out, nothing lost in between.

One thread reads, keeps the offsets, writes the ledger and commits; each topic has a lane (`weir.sinks.lane`) with threads that
send. The reading thread never waits for a destination, so the group keeps its partitions however long an outage lasts: it pauses
the partitions of a topic that has enough in hand and goes on polling.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Sequence
from typing import Protocol

from confluent_kafka import KafkaException

from weir.bus.codec import Decoder, Encoder
from weir.bus.config import DeliveryFailed
from weir.bus.consumer import BatchConsumer, Expired
from weir.bus.deadletter import dead_letter_headers, fitting
from weir.bus.producer import Delivery, DeliveryProducer
from weir.model.ledger import LedgerEntry
from weir.model.topics import TopicNames
from weir.ops import logging
from weir.ops.shutdown import StopSignal
from weir.ops.telemetry import HealthServer, setup_metrics
from weir.sinks.destination import Destination, Retry
from weir.sinks.lane import Batch, BufferedRecord, Done, Lane, LanePolicy, Letter
from weir.sinks.metrics import SinkMetrics
from weir.sinks.progress import EXPIRED, Progress, Run
from weir.sinks.settings import SinkSettings

__all__ = ["Sink", "StopRequest", "run_main", "run_sink"]

_log = logging.get(__name__)
_READ_SECONDS = 0.1
_READ_RECORDS = 1_000
# An entry written twice replaces itself, so the reading thread need not wait long for Kafka's answer. A dead letter would be there
# twice: lanes wait until the producer has given up by itself, after delivery.timeout.ms.
_LEDGER_SECONDS = 10.0
_BURY_SECONDS = 125.0

Partition = tuple[str, int]


class StopRequest(Protocol):
    """What tells a sink to stop; `weir.ops.shutdown.StopSignal` and `threading.Event` both do."""

    def is_set(self) -> bool:
        """Whether to stop."""

    def wait(self, timeout: float) -> bool:
        """Wait at most so many seconds; True once it is set."""


class _StartOver(Exception):
    """What is in hand no longer fits what the group assigned: read again from the committed offsets."""


def run_main(settings: SinkSettings, destination: Destination, topics: Sequence[str], *, wan_site: str | None = None) -> None:
    """Run a sink as the process's own work: logging, metrics, signals. Arguments and errors are those of `run_sink`."""
    service = f"sink.{destination.name}"
    logging.configure(service, settings.instance, level=settings.log_level, form=settings.log_format)
    setup_metrics(service, settings.instance)
    stop = StopSignal()
    stop.install()
    run_sink(settings, destination, topics, stop, wan_site=wan_site)


def run_sink(
    settings: SinkSettings, destination: Destination, topics: Sequence[str], stop: StopRequest, *, wan_site: str | None = None
) -> None:
    """Deliver `topics` (short names) until asked to stop.

    Args:
        settings: how to batch, retry and stop; and which Kafka.
        destination: where to deliver; closed at the end.
        topics: what to deliver.
        stop: asks to stop.
        wan_site: the site at the other end of the WAN link that the destination's bytes cross, if they cross one.

    Raises:
        Misconfigured: the destination will not work with these settings.
        KafkaException: an error of the brokers that does not pass by itself.
    """
    sink = Sink(settings, destination, topics, wan_site)
    try:
        sink.run(stop)
    finally:
        sink.close()


class Sink:
    """One running sink; made by `run_sink`."""

    def __init__(
        self, settings: SinkSettings, destination: Destination, topics: Sequence[str], wan_site: str | None = None
    ) -> None:
        self._settings = settings
        self._destination = destination
        self._topics = list(topics)
        self._names = TopicNames(settings.topic_prefix)
        self._short = {self._names[topic]: topic for topic in topics}
        self.service = f"sink.{destination.name}"
        self.group = f"{settings.topic_prefix}.{self.service}"
        self._share = settings.sink_buffer_bytes // max(len(self._topics), 1)
        self._batch_bytes = max(1, min(destination.max_bytes, self._share // 2))
        self._metrics = SinkMetrics(destination, settings.site, wan_site)
        self._encode_entry = Encoder("ledger-entry")
        self._producer = DeliveryProducer(settings)
        self._done: queue.SimpleQueue[Done] = queue.SimpleQueue()
        self._fatal: queue.SimpleQueue[Exception] = queue.SimpleQueue()
        self._trouble: dict[str, str] = {"start": "not prepared yet"}
        self._trouble_lock = threading.Lock()
        self._consumer: BatchConsumer | None = None
        self._lanes: dict[str, Lane] = {}
        self._reset()
        self._health = HealthServer(settings.health_host, settings.health_port, self.not_ready)

    def _reset(self) -> None:
        self._progress: dict[Partition, Progress] = {}
        self._filling: dict[str, Batch] = {topic: Batch() for topic in self._topics}
        self._full: dict[str, list[Batch]] = {topic: [] for topic in self._topics}
        self._in_hand: dict[str, int] = dict.fromkeys(self._topics, 0)
        self._paused: set[Partition] = set()
        self._known: set[Partition] = set()
        self._revoked_in_read: set[Partition] = set()
        self._last_commit = time.monotonic()
        self._committing_since: float | None = None
        for topic in self._topics:
            self._note_trouble(topic, None)

    # --- what others may ask -------------------------------------------------------------------------------------------------

    def not_ready(self) -> str | None:
        """None while records flow, else the reason why not."""
        # librdkafka waits a minute for a commit's answer, and its caller with it: nobody else would tell of it meanwhile.
        since = self._committing_since
        if since is not None and (waited := time.monotonic() - since) > _LEDGER_SECONDS:
            return f"commit: no answer from Kafka for {waited:.0f} s"
        with self._trouble_lock:
            return "; ".join(f"{what}: {reason}" for what, reason in self._trouble.items()) or None

    def _note_trouble(self, what: str, reason: str | None) -> None:
        with self._trouble_lock:
            if reason is None:
                self._trouble.pop(what, None)
            else:
                self._trouble[what] = reason

    # --- life ----------------------------------------------------------------------------------------------------------------

    def run(self, stop: StopRequest) -> None:
        """Prepare, deliver until asked to stop, finish what is under way, commit. Raises as `run_sink`."""
        if not self._prepare(stop):
            return
        self._note_trouble("start", None)
        _log.info("started", group=self.group, topics=self._topics)
        while not stop.is_set():
            try:
                self._session(stop)
            except _StartOver as reason:
                _log.warning("start-over", reason=str(reason))
                self._abandon()
                stop.wait(1.0)
        self._finish()

    def _prepare(self, stop: StopRequest) -> bool:
        wait = 0.5
        while not stop.is_set():
            try:
                self._destination.prepare(self._topics)
                return True
            except Retry as error:
                self._note_trouble("start", str(error))
                pause = max(wait, error.retry_after or 0.0)
                _log.warning("not-prepared", destination=self._destination.name, reason=str(error), wait_seconds=pause)
                stop.wait(pause)
                wait = min(wait * 2, self._settings.sink_backoff_max_seconds)
        return False

    def _session(self, stop: StopRequest) -> None:
        """Read and deliver under one membership of the group."""
        self._reset()
        self._open_lanes()
        self._consumer = BatchConsumer(
            self._settings,
            self.group,
            [self._names[topic] for topic in self._topics],
            on_revoked=self._revoked,
            on_expired=self._expired,
        )
        while not stop.is_set():
            if not self._fatal.empty():
                raise self._fatal.get()
            self._read()
            self._collect()
            self._dispatch()
            self._apply_back_pressure()
            if time.monotonic() - self._last_commit >= self._settings.sink_commit_seconds:
                self._commit()

    def _open_lanes(self) -> None:
        policy = LanePolicy(self._settings.sink_backoff_max_seconds, self._settings.sink_give_up_seconds)
        # A queue of its own for each session: what lanes of an abandoned one still report must not touch the new counts.
        done: queue.SimpleQueue[Done] = queue.SimpleQueue()
        self._done = done
        self._lanes = {
            topic: Lane(
                topic,
                self._destination,
                bury=self._bury,
                report=done.put,
                failing=self._note_trouble,
                retried=self._metrics.retried,
                fatal=self._fatal.put,
                policy=policy,
                decoder=Decoder,
            )
            for topic in self._topics
        }

    def _abandon(self) -> None:
        for progress in self._progress.values():
            progress.alive = False
        for lane in self._lanes.values():
            lane.close()
        if self._consumer is not None:
            consumer, self._consumer = self._consumer, None
            consumer.close()

    def _finish(self) -> None:
        """Let sends under way end, within the deadline, and commit them."""
        for lane in self._lanes.values():
            lane.close()
        deadline = time.monotonic() + self._settings.sink_stop_seconds
        while not all(lane.idle for lane in self._lanes.values()) and time.monotonic() < deadline:
            self._collect(wait=0.05)
        self._collect()
        self._commit_all()
        left = sum(progress.unfinished for progress in self._progress.values())
        _log.info("stopped", left_for_the_next_start=left)

    def close(self) -> None:
        """Release everything; commits nothing."""
        self._abandon()
        self._destination.close()
        self._producer.close(timeout=5.0)
        self._health.close()

    # --- reading -------------------------------------------------------------------------------------------------------------

    def _read(self) -> None:
        consumer = self._consumer
        assert consumer is not None  # noqa: S101  for the type checker: a session has one
        self._revoked_in_read.clear()
        try:
            messages = consumer.read(_READ_RECORDS, _READ_SECONDS)
        except KafkaException as error:
            cause = error.args[0]
            if cause.fatal() or "AUTHORIZATION" in cause.name():
                raise
            raise _StartOver(f"reading failed: {cause.str()}") from error
        if self._revoked_in_read & consumer.assigned:
            # Records of the old and of the new assignment cannot be told apart in what was read.
            raise _StartOver("a partition went and came back within one read")
        if came := consumer.assigned - self._known:
            # A partition that was paused when it went may come back paused.
            consumer.resume(sorted(came))
        self._known = set(consumer.assigned)
        now = time.monotonic()
        for message in messages:
            place = (message.topic(), message.partition())
            if place not in consumer.assigned:
                continue
            progress = self._progress.get(place)
            if progress is None:
                progress = self._progress[place] = Progress()
            expected = progress.next_read
            if expected is not None and message.offset() > expected:
                self._tell_expired(Expired(*place, expected, message.offset() - 1))
            if progress.read(message.offset()):
                self._fill(self._short[place[0]], BufferedRecord(message, progress), now)

    def _fill(self, topic: str, record: BufferedRecord, now: float) -> None:
        size = record.size
        batch = self._filling[topic]
        if batch.records and (len(batch.records) >= self._destination.max_rows or batch.size + size > self._batch_bytes):
            self._full[topic].append(batch)
            batch = self._filling[topic] = Batch()
        if not batch.records:
            batch.born = now
        batch.records.append(record)
        batch.size += size
        self._in_hand[topic] += size

    def _dispatch(self) -> None:
        now = time.monotonic()
        for topic, lane in self._lanes.items():
            filling = self._filling[topic]
            due = filling.records and now - filling.born >= self._settings.sink_linger_seconds
            waiting = self._full[topic]
            if due and not waiting and lane.has_room:
                waiting.append(filling)
                self._filling[topic] = Batch()
            while waiting and lane.has_room:
                lane.put(waiting.pop(0))

    def _apply_back_pressure(self) -> None:
        consumer = self._consumer
        assert consumer is not None  # noqa: S101
        wanted = set()
        for place in consumer.assigned:
            topic = self._short[place[0]]
            if self._in_hand[topic] >= self._share or len(self._full[topic]) > self._lanes[topic].capacity:
                wanted.add(place)
        if stop := wanted - self._paused:
            consumer.pause(sorted(stop))
        if go := (self._paused - wanted) & consumer.assigned:
            consumer.resume(sorted(go))
        self._paused = wanted

    def _collect(self, wait: float = 0.0) -> None:
        """Take over what the lanes have dealt with."""
        while True:
            try:
                done = self._done.get(timeout=wait) if wait else self._done.get_nowait()
            except queue.Empty:
                return
            wait = 0.0
            self._in_hand[done.topic] -= done.freed
            for progress, offset, outcome, time_us in done.outcomes:
                if progress.alive:
                    progress.finish(offset, outcome, time_us)
            self._metrics.done(done)

    # --- the group -----------------------------------------------------------------------------------------------------------

    def _revoked(self, places: list[Partition]) -> None:
        """Commit what is finished while that is still possible, and drop the rest."""
        self._revoked_in_read.update(places)
        self._collect()
        mine = {place: self._progress[place] for place in places if place in self._progress}
        if mine:
            self._commit(mine)
        for place, progress in mine.items():
            progress.alive = False
            del self._progress[place]
        self._paused.difference_update(places)
        for topic in {self._short[name] for name, _ in places}:
            for batch in (*self._full[topic], self._filling[topic]):
                kept = [record for record in batch.records if record.progress.alive]
                size = sum(record.size for record in kept)
                self._in_hand[topic] -= batch.size - size
                batch.records, batch.size = kept, size

    def _expired(self, gone: Expired) -> None:
        self._tell_expired(gone)
        progress = self._progress[gone.topic, gone.partition] = Progress()
        progress.expire(gone.first_offset, gone.last_offset)

    def _tell_expired(self, gone: Expired) -> None:
        _log.error(
            "expired",
            topic=gone.topic,
            partition=gone.partition,
            first_offset=gone.first_offset,
            last_offset=gone.last_offset,
            cure="retention removed records before this sink read them: give the topic more retention, or the sink more time",
        )
        self._metrics.expired(self._short[gone.topic], gone.last_offset - gone.first_offset + 1)

    # --- ledger and commit ---------------------------------------------------------------------------------------------------

    def _commit_all(self) -> None:
        """Commit until nothing more is finished; a hole splits a partition's progress into several runs."""
        while self._commit():
            pass

    def _commit(self, progress: dict[Partition, Progress] | None = None) -> bool:
        """Write the ledger, then commit. True if there was something, and it worked; what fails is tried again the next time."""
        self._last_commit = time.monotonic()
        candidates = self._progress if progress is None else progress
        runs = {place: run for place, state in candidates.items() if (run := state.finished_run()) is not None}
        if not runs or self._consumer is None:
            return False
        self._committing_since = time.monotonic()
        try:
            self._write_ledger(runs)
            self._consumer.commit({place: run.last + 1 for place, run in runs.items()})
        except (DeliveryFailed, KafkaException) as error:
            self._note_trouble("commit", str(error))
            _log.error("commit-failed", reason=str(error), partitions=len(runs))
            return False
        finally:
            self._committing_since = None
        self._note_trouble("commit", None)
        for place, run in runs.items():
            candidates[place].committed()
            if run.note == EXPIRED:
                _log.info("expired-range-passed", topic=place[0], partition=place[1], next_offset=run.last + 1)
        return True

    def _write_ledger(self, runs: dict[Partition, Run]) -> None:
        """Raises DeliveryFailed unless every entry has been acknowledged."""
        answer: queue.SimpleQueue[DeliveryFailed | None] = queue.SimpleQueue()
        delivery = Delivery(answer.put)
        now = time.time_ns() // 1_000
        for (full, partition), run in runs.items():
            table = self._destination.table(self._short[full])
            entry = LedgerEntry(
                service=self.service,
                instance=self._settings.instance,
                site=self._settings.site,
                topic=full,
                partition=partition,
                first_offset=run.first,
                last_offset=run.last,
                written_at=now,
                note=run.note,
            )
            for minute, counts in run.minutes.items():
                entry.lines["", minute, table].add(counts)
            self._producer.produce(
                self._names["ledger"],
                self._encode_entry(entry.to_record()),
                delivery=delivery,
                key=entry.key,
                blocking_seconds=10.0,
            )
        delivery.seal()
        _wait_for(answer, self._names["ledger"], _LEDGER_SECONDS)

    def _bury(self, topic: str, letters: list[Letter]) -> None:
        """Raises DeliveryFailed unless every dead letter has been acknowledged."""
        answer: queue.SimpleQueue[DeliveryFailed | None] = queue.SimpleQueue()
        delivery = Delivery(answer.put)
        full = self._names[topic]
        target = self._names[f"{topic}.dlq"]
        for letter in letters:
            message = letter.record.message
            value, error = fitting(message.value(), letter.error)
            headers = dead_letter_headers(
                service=self.service,
                stage=letter.stage,
                topic=full,
                partition=message.partition(),
                offset=message.offset(),
                error=error,
            )
            # The record's own headers stay: one of them may name its schema.
            own = [(name, value) for name, value in message.headers() or [] if not name.startswith("__connect.errors.")]
            self._producer.produce(target, value, delivery=delivery, key=message.key(), headers=own + headers)
        delivery.seal()
        _wait_for(answer, target, _BURY_SECONDS)
        _log.warning("dead-letters", topic=topic, records=len(letters), first_reason=str(letters[0].error)[:500])


def _wait_for(answer: queue.SimpleQueue[DeliveryFailed | None], topic: str, seconds: float) -> None:
    try:
        error = answer.get(timeout=seconds)
    except queue.Empty:
        raise DeliveryFailed(f"{topic}: no answer from Kafka within {seconds:.0f} s") from None
    if error is not None:
        raise error
