"""A lane carries the batches of one topic to the destination, with threads of its own.

A table that is slow or refuses holds up its own lane and no other. A batch stays in its lane until each of its records is
delivered or safely in the dead-letter topic.
"""

from __future__ import annotations

import queue
import random
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from weir.bus.codec import Decoder, WireFormatError
from weir.bus.config import DeliveryFailed
from weir.ops import logging
from weir.sinks.destination import Destination, Misconfigured, Rejected, Retry, Row
from weir.sinks.progress import Outcome, Progress

__all__ = ["Batch", "BufferedRecord", "Done", "Lane", "LanePolicy", "Letter", "ReadRecord"]

_log = logging.get(__name__)
_FIRST_BACKOFF_SECONDS = 0.5
_RECORD_OVERHEAD = 200


class ReadRecord(Protocol):
    """The part of a Kafka message that is used here."""

    def value(self) -> bytes | None: ...
    def key(self) -> bytes | str | None: ...
    def partition(self) -> int: ...
    def offset(self) -> int: ...
    def timestamp(self) -> tuple[int, int]: ...
    def headers(self) -> list[tuple[str, bytes]] | None: ...


@dataclass(frozen=True, slots=True)
class BufferedRecord:
    """A record as read, with the progress of the partition's assignment it was read under."""

    message: ReadRecord
    progress: Progress

    @property
    def size(self) -> int:
        """Bytes in hand: the value's, and about what holding a record costs."""
        return len(self.message.value() or b"") + _RECORD_OVERHEAD


@dataclass(slots=True)
class Batch:
    """Records of one topic on their way; `size` is the sum of theirs."""

    records: list[BufferedRecord] = field(default_factory=list)
    size: int = 0
    born: float = 0.0


@dataclass(frozen=True, slots=True)
class Done:
    """Outcomes that a lane reports: (progress, offset, what became of it, receive time); `freed` bytes are out of hand."""

    topic: str
    outcomes: list[tuple[Progress, int, Outcome, int]]
    freed: int = 0


@dataclass(frozen=True, slots=True)
class LanePolicy:
    """Times in seconds; `give_up` 0 is never."""

    backoff_max: float = 60.0
    give_up: float = 0.0


@dataclass(frozen=True, slots=True)
class Letter:
    """A record that ends in the dead-letter topic."""

    record: BufferedRecord
    stage: str
    error: BaseException | str
    time_us: int


def receive_time(record: dict[str, Any], timestamp_ms: int) -> int:
    """When the data was received, microseconds UTC: what the record says, else its Kafka timestamp."""
    for name in ("event_created", "alert_created"):
        value = record.get(name)
        if isinstance(value, int) and value > 0:
            return value
    return max(timestamp_ms, 0) * 1000


class Lane:
    """Sends the batches of one topic.

    Args:
        topic: short name.
        destination: where to.
        bury: puts records of the topic into its dead-letter topic and waits for the acknowledgements. Raises DeliveryFailed.
        report: takes what has been dealt with; called from the lane's threads.
        failing: told the reason when a send fails and None when one succeeds again.
        retried: told of each send that is going to be tried again.
        fatal: told of what ends the sink.
        policy: how to retry.
    """

    def __init__(
        self,
        topic: str,
        destination: Destination,
        *,
        bury: Callable[[str, list[Letter]], None],
        report: Callable[[Done], None],
        failing: Callable[[str, str | None], None],
        retried: Callable[[str], None],
        fatal: Callable[[Exception], None],
        policy: LanePolicy,
        decoder: Callable[[], Decoder] = Decoder,
    ) -> None:
        self.topic = topic
        self.capacity = destination.max_parallel + 1
        self._destination = destination
        self._bury = bury
        self._report = report
        self._failing = failing
        self._retried = retried
        self._fatal = fatal
        self._policy = policy
        self._decoder = decoder
        self._queue: queue.SimpleQueue[Batch | None] = queue.SimpleQueue()
        self._closing = threading.Event()
        self._lock = threading.Lock()
        self._in_hand = 0
        self._threads = [
            threading.Thread(target=self._work, name=f"sink-{topic}-{number}", daemon=True)
            for number in range(destination.max_parallel)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def has_room(self) -> bool:
        """Whether another batch may be put in."""
        with self._lock:
            return self._in_hand < self.capacity

    @property
    def idle(self) -> bool:
        """Whether no thread of the lane runs any more."""
        return not any(thread.is_alive() for thread in self._threads)

    def put(self, batch: Batch) -> None:
        """Take a batch over."""
        with self._lock:
            self._in_hand += 1
        self._queue.put(batch)

    def close(self) -> None:
        """Finish what is being sent, leave the rest; does not wait."""
        self._closing.set()
        for _ in self._threads:
            self._queue.put(None)

    def _work(self) -> None:
        decode = self._decoder()
        while (batch := self._queue.get()) is not None and not self._closing.is_set():
            try:
                self._carry(batch, decode)
            except Misconfigured as error:
                self._fatal(error)
                return
            except Exception as error:
                _log.exception("lane-died", topic=self.topic)
                self._fatal(error)
                return
            with self._lock:
                self._in_hand -= 1
            self._report(Done(self.topic, [], batch.size))

    def _carry(self, batch: Batch, decode: Decoder) -> None:
        rows: list[Row] = []
        letters: list[Letter] = []
        source: dict[tuple[int, int], BufferedRecord] = {}
        for record in batch.records:
            message = record.message
            stamp = message.timestamp()[1]
            try:
                decoded = decode(message.value(), message.headers())
            except WireFormatError as error:
                letters.append(Letter(record, "decode", error, max(stamp, 0) * 1000))
                continue
            row = Row(self.topic, message.partition(), message.offset(), stamp, decoded)
            source[row.partition, row.offset] = record
            rows.append(row)
        self._dead(letters)
        started: float | None = None
        tries = 0
        while rows := [row for row in rows if source[row.partition, row.offset].progress.alive]:
            failure: Retry | None = None
            try:
                rejected = self._destination.send(self.topic, rows)
                delivered: Sequence[Row] = rows
            except Retry as error:
                failure, rejected, delivered = error, list(error.rejected), error.delivered
            except Misconfigured:
                raise
            except Exception as error:
                _log.exception("send-failed", topic=self.topic)
                failure, rejected, delivered = Retry(f"unexpected {error!r}"), [], ()
            rows = self._settle(rows, delivered, rejected, source)
            if failure is None:
                self._failing(self.topic, None)
                return
            now = time.monotonic()
            if delivered or rejected or started is None:
                started, tries = now, 0
            self._failing(self.topic, str(failure))
            self._retried(self.topic)
            if self._policy.give_up and now - started >= self._policy.give_up:
                reason = f"gave up after {self._policy.give_up:.0f} s: {failure}"
                self._settle(rows, (), [Rejected(row, reason) for row in rows], source)
                return
            wait = self._backoff(tries, failure.retry_after)
            tries += 1
            _log.warning("retry", topic=self.topic, rows=len(rows), reason=str(failure), tries=tries, wait_seconds=round(wait, 2))
            if self._closing.wait(wait):
                return
        # Nothing left that is ours: whatever failed before is another member's to deliver now.
        self._failing(self.topic, None)

    def _backoff(self, tries: int, retry_after: float | None) -> float:
        longest: float = min(self._policy.backoff_max, _FIRST_BACKOFF_SECONDS * 2 ** min(tries, 20))
        jittered = longest * random.uniform(0.5, 1.0)  # noqa: S311  spreading load, nothing secret
        # What the destination asked for is a floor; the jitter on top keeps replicas from coming back all at once.
        return jittered if retry_after is None else max(0.0, retry_after) + min(jittered, 1.0)

    def _settle(
        self,
        rows: Sequence[Row],
        delivered: Sequence[Row],
        rejected: Sequence[Rejected],
        source: dict[tuple[int, int], BufferedRecord],
    ) -> list[Row]:
        """Report what is behind us; give the rows that are not."""
        refused = {(row.partition, row.offset) for row, _ in rejected}
        taken = {(row.partition, row.offset) for row in delivered} - refused
        self._dead(
            [Letter(source[r.partition, r.offset], "send", why, receive_time(r.record, r.timestamp_ms)) for r, why in rejected]
        )
        outcomes = [
            (source[r.partition, r.offset].progress, r.offset, Outcome.DELIVERED, receive_time(r.record, r.timestamp_ms))
            for r in rows
            if (r.partition, r.offset) in taken
        ]
        if outcomes:
            self._report(Done(self.topic, outcomes))
        behind = taken | refused
        return [row for row in rows if (row.partition, row.offset) not in behind]

    def _dead(self, letters: list[Letter]) -> None:
        """Bury records, however long Kafka takes, and report them."""
        tries = 0
        while letters := [letter for letter in letters if letter.record.progress.alive]:
            try:
                self._bury(self.topic, letters)
            except DeliveryFailed as error:
                self._failing(self.topic, f"dead letters cannot be written: {error}")
                _log.error("dead-letters-not-written", topic=self.topic, records=len(letters), reason=str(error))
                if self._closing.wait(self._backoff(tries, None)):
                    return
                tries += 1
                continue
            self._report(
                Done(
                    self.topic,
                    [(letter.record.progress, letter.record.message.offset(), Outcome.DEAD, letter.time_us) for letter in letters],
                )
            )
            return
