"""From finished records into Kafka: retries, and the disk spool for when Kafka is away.

All methods are called in the event loop. Kafka's answers come from librdkafka's thread and are handed over in bulk.

Without a spool a record that Kafka refuses, or that librdkafka gives up on, is handed over again, unchanged, for as long as the
process runs. Records of its topic and key that come meanwhile wait behind it, so that their order is kept; only those that
librdkafka had already been given may overtake it.

With a spool a raw batch is in one of three places: handed to librdkafka, on disk, or in memory behind the disk while that is
full. While anything is on disk or behind it, new batches queue behind it. When Kafka has been silent for too long it is `away`:
all that librdkafka still queues is taken back and goes to disk, and one record at a time is handed over as a probe. Once Kafka
answers, the disk is read in order, a bounded number of bytes ahead of the acknowledgements. What was on the wire when Kafka went
away may have arrived and be sent again: a repeat under the same batch id, never a loss.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from weir.bus.config import DeliveryFailed
from weir.bus.producer import Delivery
from weir.receivers.publishing.batching import BATCH_OVERHEAD
from weir.receivers.publishing.counts import ReceiverMetrics
from weir.receivers.publishing.memory import Memory, Seldom
from weir.receivers.publishing.spool import Damage, Place, Spool, SpoolRecord

__all__ = ["Counts", "Outbox", "Pending", "Producer"]

_WINDOW_RECORDS = 2_000
_TURN_BYTES = 4 * 1024 * 1024
_SILENCE_SECONDS = 15.0
_HASTY_SECONDS = 1.0
_ADOPT_SECONDS = 60.0


class Producer(Protocol):
    """What receivers need of `weir.bus.producer.DeliveryProducer`."""

    def produce(
        self,
        topic: str,
        value: bytes | None,
        *,
        delivery: Delivery,
        key: str | None = None,
        headers: list[tuple[str, bytes]] | None = None,
        blocking_seconds: float = 60.0,
    ) -> None:
        """Queue one record or raise DeliveryFailed."""

    def partitions(self, topic: str, timeout: float = 10.0) -> int:
        """Partitions of a topic; raises DeliveryFailed where no broker answers or it does not exist."""

    def purge(self) -> None:
        """Give back, as failed, what is queued and not yet on its way."""

    def close(self, timeout: float = 30.0) -> int:
        """Flush and stop."""


class Counts(NamedTuple):
    """What the ledger wants to know of a raw batch once Kafka has it."""

    source: str
    transport: str
    received_at: int
    units: int
    size: int


@dataclass(slots=True, eq=False)
class Pending:
    """One finished record on its way into Kafka.

    `counts` is None for what is no raw batch. `cost` is what it counts for in memory. `settled` is called in the loop once Kafka
    has it; a batch with one stays in memory. `keepable`: goes to disk when the process ends before Kafka has it.
    """

    topic: str
    key: str
    value: bytes | None
    headers: list[tuple[str, bytes]] | None = None
    counts: Counts | None = None
    settled: Callable[[], None] | None = None
    keepable: bool = False
    cost: int = 0
    number: int = 0
    since: float = 0.0
    attempts: int = 0
    place: Place | None = None


@dataclass(slots=True, eq=False)
class _Retry:
    """Records of one topic and key that wait to be handed over again, and the one timer they wait for."""

    timer: asyncio.TimerHandle
    records: list[Pending] = field(default_factory=list)


class Outbox:
    """What one receiver has finished and Kafka does not have yet.

    Args:
        make_producer: called at once, and again after an error that librdkafka cannot recover from.
        memory: counts what is here; a record's bytes are already in it when it comes.
        metrics: of the receiver.
        log: of the receiver.
        retry_seconds: before a refused record is handed over again.
        delivered: called in the loop with topic and counts when Kafka has a raw batch, also one that was spooled by an earlier
            process; once for each batch, unless it was spooled and its process ended.
        damaged: called with what of the spool could not be read.
        spool: None to do without.
        spool_after_seconds: for how long Kafka must have been silent.
        fsync_seconds: between two.
    """

    def __init__(
        self,
        *,
        make_producer: Callable[[], Producer],
        memory: Memory,
        metrics: ReceiverMetrics,
        log: Any,
        retry_seconds: float,
        delivered: Callable[[str, Counts], None],
        damaged: Callable[[Damage], None],
        spool: Spool | None = None,
        spool_after_seconds: float = 5.0,
        fsync_seconds: float = 1.0,
    ) -> None:
        self.producer = make_producer()
        self._make_producer = make_producer
        self._memory = memory
        self._metrics = metrics
        self._log = log
        self._retry_seconds = retry_seconds
        self._delivered = delivered
        self._damaged = damaged
        self._spool = spool
        self._after = spool_after_seconds
        self._fsync_seconds = fsync_seconds
        self._loop = asyncio.get_running_loop()
        self._say = Seldom(10.0, time.monotonic)
        self._again = Seldom(1.0, time.monotonic)
        self._number = 0
        self._pending: dict[Pending, None] = {}
        self._retries: dict[tuple[str, str], _Retry] = {}
        self._newest: dict[tuple[str, str], Pending] = {}
        self._answers: deque[tuple[Pending, DeliveryFailed | None]] = deque()
        self._answers_due = False
        self._idle = asyncio.Event()
        self._idle.set()
        self._failure: str | None = None
        # With a spool only:
        self._waiting: dict[Pending, None] = {}
        self._behind = False
        self._away = False
        self._last_answer = time.monotonic()
        self._flying = 0
        self._flying_bytes = 0
        self._direct = 0  # of these, not on disk
        self._window_bytes = min(16 * 1024 * 1024, memory.limit // 4)
        self._pump_due = False
        self._ending = False
        self._watch_task: asyncio.Task[None] | None = None
        if spool is not None:
            metrics.watch_spool(spool)
            self._tell_damage(spool)
            if not spool.empty:
                self._behind = True
                log.info("the disk spool holds records of an earlier time", bytes=spool.bytes, units=spool.units)
                self._schedule_pump()
            self._watch_task = self._loop.create_task(self._watch(spool))

    # Taking records

    def submit(self, pending: Pending) -> None:
        """Take a record whose `cost` has been counted in memory."""
        self._number += 1
        pending.number = self._number
        pending.since = time.monotonic()
        self._idle.clear()
        if self._spool is not None and self._spoolable(pending) and (self._behind or self._memory.used > self._memory.limit // 2):
            if not self._behind:
                self._crowded()
            if self._behind:
                self._waiting[pending] = None
                self._shift(self._spool)
                return
        if pending.counts is None:
            self._newest[pending.topic, pending.key] = pending
        self._register(pending)
        queue = self._retries.get((pending.topic, pending.key)) if self._retries else None
        if queue is None:
            self._produce(pending)
        else:
            self._line_up(queue, pending)

    @staticmethod
    def _spoolable(pending: Pending) -> bool:
        return pending.counts is not None and pending.settled is None

    def make_room(self, size: int) -> bool:
        """Whether so many bytes fit after all, once what Kafka has not taken yet is on disk."""
        if self._spool is not None and self._direct and not self._spool.full:
            self._take_back("memory is full: Kafka is too slow", away=self._away or self._failure is not None)
        return self._memory.fits(size)

    def _crowded(self) -> None:
        """Memory is half full: if Kafka fails that is reason enough; if it is only slow, three quarters are."""
        if self._failure is not None or self._silent_for(_HASTY_SECONDS):
            self._take_back("memory is half full and Kafka acknowledges nothing", away=True)
        elif self._memory.used > self._memory.limit * 3 // 4:
            self._take_back("memory is three quarters full: Kafka is too slow", away=False)

    def _register(self, pending: Pending) -> None:
        self._pending[pending] = None
        if pending.counts is not None:
            self._flying += 1
            self._flying_bytes += pending.cost
            self._direct += pending.place is None

    def _unregister(self, pending: Pending) -> bool:
        if self._pending.pop(pending, False) is False:
            return False
        if pending.counts is not None:
            self._flying -= 1
            self._flying_bytes -= pending.cost
            self._direct -= pending.place is None
        return True

    def _forget(self, pending: Pending) -> bool:
        """Out of `_pending` and of memory; False where it was in neither."""
        if not self._unregister(pending):
            return False
        self._memory.give(pending.cost)
        return True

    # Kafka

    def _produce(self, pending: Pending) -> None:
        pending.attempts += 1
        delivery = Delivery(lambda error: self._answered(pending, error))
        try:
            # The loop must not wait: a full queue is one more reason to try again later.
            self.producer.produce(
                pending.topic,
                pending.value,
                delivery=delivery,
                key=pending.key,
                headers=pending.headers,
                blocking_seconds=-1.0,
            )
        except DeliveryFailed as error:
            self._failed(pending, error)
            return
        delivery.seal()

    def _answered(self, pending: Pending, error: DeliveryFailed | None) -> None:
        """In librdkafka's thread. Waking the loop once for many answers is what keeps this cheap."""
        self._answers.append((pending, error))
        if not self._answers_due:
            self._answers_due = True
            self._loop.call_soon_threadsafe(self._settle)

    def _settle(self) -> None:
        self._answers_due = False
        while self._answers:
            pending, error = self._answers.popleft()
            try:
                if error is None:
                    self._acknowledged(pending)
                else:
                    self._failed(pending, error)
            except Exception:  # of a callback; the other answers must not wait for ever
                self._log.exception("answer-failed")
        if self._spool is not None:
            self._tell_damage(self._spool)  # the last answer for a damaged file tells how much was lost in it
        if self._behind:
            if self._spool is not None:
                self._shift(self._spool)
            self._schedule_pump()
        self._rest()

    def _rest(self) -> None:
        if not self._pending and not self._waiting:
            self._idle.set()

    def _acknowledged(self, pending: Pending) -> None:
        self._failure = None
        self._last_answer = time.monotonic()
        if self._away:
            self._away = False
            self._log.info("Kafka answers again", spooled_units=self._spool.units if self._spool is not None else 0)
        known = self._forget(pending)
        if not known and pending in self._waiting:
            # Taken back, and had arrived all the same.
            del self._waiting[pending]
            self._memory.give(pending.cost)
            known = True
        if pending.place is not None and self._spool is not None:
            known = self._spool.acknowledge(pending.place)
        if not known:
            return
        if pending.counts is not None:
            self._delivered(pending.topic, pending.counts)
            if pending.place is not None:
                self._metrics.drained(pending.counts.units)
        elif self._newest.get((pending.topic, pending.key)) is pending:
            del self._newest[pending.topic, pending.key]
        if pending.settled is not None:
            pending.settled()

    def _failed(self, pending: Pending, error: DeliveryFailed) -> None:
        if pending not in self._pending:
            return
        self._metrics.retried()
        if not error.purged:
            if pending.counts is not None:
                # Of raw batches only: a ledger that cannot be written must not turn away those whose units could be taken.
                self._failure = str(error)
            if self._say("failed"):
                self._log.warning(
                    "Kafka has not taken a record, trying again", topic=pending.topic, attempts=pending.attempts, error=str(error)
                )
        if error.fatal:
            self._renew_producer()
        place = (pending.topic, pending.key)
        if pending.counts is None and self._newest.get(place) is not pending:
            self._forget(pending)  # a newer one of its key has been sent, which it must not replace
            return
        queue = self._retries.get(place)
        if queue is None:
            queue = self._retries[place] = _Retry(self._loop.call_later(self._retry_seconds, self._retry, place))
        self._line_up(queue, pending)

    def _line_up(self, queue: _Retry, pending: Pending) -> None:
        if pending.counts is None:
            for older in queue.records:
                self._forget(older)
            queue.records.clear()
        queue.records.append(pending)

    def _retry(self, place: tuple[str, str]) -> None:
        queue = self._retries.pop(place)
        for pending in sorted(queue.records, key=lambda record: record.number):
            again = self._retries.get(place)
            if again is None:
                self._produce(pending)
            else:  # the one before it was refused at once
                self._line_up(again, pending)

    def _renew_producer(self) -> None:
        # An idempotent producer that lost track of its sequence takes nothing any more, for ever. What is still in it comes
        # back here with the same error, which must not renew the new one; flushing outlasts delivery.timeout.ms.
        if not self._say("renewed"):
            return
        old, self.producer = self.producer, self._make_producer()
        threading.Thread(target=old.close, args=(150.0,), name="producer-close", daemon=True).start()

    # The spool

    def _take_back(self, reason: str, *, away: bool) -> None:
        """Put on disk what Kafka was given and has not acknowledged, and what comes next behind it."""
        spool = self._spool
        if spool is None:
            return
        self._behind = True
        self._away = away
        back: dict[Pending, None] = {}
        for pending in [p for p in self._pending if self._spoolable(p)]:
            if pending.place is None:
                back[pending] = None
                self._unregister(pending)
            else:
                self._forget(pending)
        for place, queue in list(self._retries.items()):
            queue.records = [p for p in queue.records if p in self._pending]
            if not queue.records:
                queue.timer.cancel()
                del self._retries[place]
        self._waiting = {**back, **self._waiting}
        spool.rewind()
        self.producer.purge()
        self._shift(spool)
        if not self._ending:
            if self._say("spooling"):
                self._log.error("batches go to the disk spool", reason=reason, taken_back=len(back), directory=str(spool.directory))
            self._schedule_pump()

    def _shift(self, spool: Spool) -> None:
        """Put on disk what waits for it, as far as there is room; not past older ones that were handed over from memory."""
        while self._waiting and not self._direct:
            pending = next(iter(self._waiting))
            place = spool.append(_record(pending))
            if place is None:
                if self._say("full"):
                    self._log.error(
                        "the disk spool takes nothing more: when memory is full too, connections wait and datagrams are dropped",
                        reason=spool.full,
                        spool_bytes=spool.bytes,
                        spool_units=spool.units,
                    )
                return
            del self._waiting[pending]
            pending.place, pending.value = place, None
            self._memory.give(pending.cost)
            self._metrics.spooled(place.units)
        self._rest()

    def _schedule_pump(self) -> None:
        if not self._pump_due:
            self._pump_due = True
            self._loop.call_soon(self._pump)

    def _pump(self) -> None:
        """Hand over what is on disk, then what waits behind it, as far as the window allows; answers call this again."""
        self._pump_due = False
        spool, turn = self._spool, 0
        while self._behind and spool is not None:
            if self._ending and not self._waiting:
                return  # what is on disk is safe
            if self._flying >= (1 if self._away else _WINDOW_RECORDS) or self._flying_bytes >= self._window_bytes:
                return
            if turn > _TURN_BYTES:
                self._schedule_pump()
                return
            taken = spool.take()
            self._tell_damage(spool)
            if taken is not None:
                pending = self._from_disk(*taken)
            elif self._waiting:
                pending = next(iter(self._waiting))
                del self._waiting[pending]
                pending.since = time.monotonic()
            else:
                self._behind = False
                if not self._away:
                    self._log.info("the disk spool has been handed over")
                self._away = False
                return
            turn += pending.cost
            self._register(pending)
            queue = self._retries.get((pending.topic, pending.key))
            if queue is None:
                self._produce(pending)
            else:
                self._line_up(queue, pending)

    def _from_disk(self, place: Place, record: SpoolRecord) -> Pending:
        self._number += 1
        self._idle.clear()
        cost = len(record.value) + BATCH_OVERHEAD
        self._memory.take(cost)
        return Pending(
            record.topic,
            record.key,
            record.value,
            record.headers or None,
            Counts(*record[4:]),
            cost=cost,
            number=self._number,
            since=time.monotonic(),
            place=place,
        )

    def _tell_damage(self, spool: Spool) -> None:
        for damage in spool.damages():
            if damage.length:
                self._metrics.spool_damaged(torn=damage.torn)
            self._log.error(
                "the disk spool holds the beginning of a record: the process was killed while it wrote it"
                if damage.torn
                else "the disk spool is damaged: records in it are lost",
                segment=damage.segment,
                offset=damage.offset,
                bytes=damage.length,
                units=damage.units or None,
                source=damage.source,
                hint=None if damage.torn else "the file is kept as .corrupt; look at the disk",
            )
            self._damaged(damage)

    async def _watch(self, spool: Spool) -> None:
        pause = min(0.25, self._after / 4, self._fsync_seconds)
        synced = adopted = time.monotonic()
        while True:
            await asyncio.sleep(pause)
            try:
                if not self._away and self._silent_for(self._after):
                    self._take_back(f"Kafka has acknowledged nothing for {self._after:g} s", away=True)
                if self._behind:
                    if self._direct and self._waiting and (self._away or self._memory.shut) and self._again("take back"):
                        self._take_back("there may be room on disk", away=self._away)
                    self._shift(spool)
                    self._schedule_pump()
                elif self._memory.used > self._memory.limit // 2:
                    self._crowded()
                now = time.monotonic()
                if now - synced >= self._fsync_seconds:
                    synced = now
                    await self._sync(spool)
                if now - adopted >= _ADOPT_SECONDS:
                    adopted = now
                    if spool.adopt():
                        self._log.warning(
                            "took over the disk spool of another process that is gone", directory=str(spool.directory)
                        )
                        self._behind = True
            except Exception:
                self._log.exception("spool-watch-failed")

    async def _sync(self, spool: Spool) -> None:
        descriptors = spool.unsynced()
        if not descriptors:
            return
        try:
            await self._loop.run_in_executor(None, spool.fsync, descriptors)
        except OSError as error:
            self._metrics.spool_damaged(torn=False)
            if self._say("fsync"):
                self._log.error("the disk does not take the spool: a power failure would lose it", error=str(error))

    def _silent_for(self, seconds: float) -> bool:
        """Whether something has been waiting for so long, and nothing at all was acknowledged meanwhile."""
        oldest = next(iter(self._pending), None)
        limit = time.monotonic() - seconds
        return oldest is not None and oldest.since < limit and self._last_answer < limit

    # State and end

    @property
    def in_flight(self) -> int:
        """Records in memory that Kafka has not acknowledged."""
        return len(self._pending) + len(self._waiting)

    @property
    def spools(self) -> bool:
        """Whether there is a disk for what Kafka cannot take."""
        return self._spool is not None

    def problem(self) -> str | None:
        """Why nothing more can be taken, or None. For any thread."""
        if self._spool is not None:
            full = self._spool.full
            return f"Kafka is away or too slow, and the disk spool is full: {full}" if self._behind and full else None
        if self._failure is not None:
            return f"Kafka refuses records: {self._failure}"
        # A snapshot: the loop may change the dictionary meanwhile.
        oldest = next((pending for pending in list(self._pending) if pending.counts is not None), None)
        if oldest is not None and time.monotonic() - oldest.since > _SILENCE_SECONDS:
            return f"Kafka has not acknowledged anything for {time.monotonic() - oldest.since:.0f} s"
        return None

    async def idle(self, deadline: float) -> None:
        """Wait until Kafka (or the disk) has everything, until the loop's time `deadline` at most, not at all while it is away."""
        self._ending = True
        if self._spool is not None:
            deadline = min(deadline, self._loop.time() + self._after)
        while not self._idle.is_set() and not self._away and (left := deadline - self._loop.time()) > 0:
            try:
                async with asyncio.timeout(min(left, 0.1)):
                    await self._idle.wait()
            except TimeoutError:
                pass

    async def close(self) -> int:
        """Put on disk what Kafka has not taken, and end; returns how many records are lost."""
        if self._watch_task is not None:
            self._watch_task.cancel()
            await asyncio.gather(self._watch_task, return_exceptions=True)
        for queue in self._retries.values():
            queue.timer.cancel()
        dropped = 0
        hurry = bool(self.in_flight)
        if self._spool is not None and self.in_flight:
            self._take_back("the receiver stops", away=True)
            for pending in [p for p in self._pending if p.keepable]:
                self._waiting[pending] = None
                self._unregister(pending)
            self._shift(self._spool)
            # Shared state is announced again by those it came from.
            dropped = sum(1 for p in self._pending if p.counts is None)
        left = self.in_flight - dropped
        if dropped:
            self._log.warning("stopped before Kafka took all shared state", records=dropped)
        if self._spool is not None:
            if self._spool.units:
                self._log.warning("stopped with units in the disk spool; the next start sends them", units=self._spool.units)
            try:
                self._spool.close()
            except OSError as error:
                self._log.error("the disk does not take the spool: a power failure would lose it", error=str(error))
            self._waiting = {}
            self._behind = False
        await self._loop.run_in_executor(None, self.producer.close, 0.0 if hurry else 5.0)
        return left


def _record(pending: Pending) -> SpoolRecord:
    counts = pending.counts or Counts("", "", time.time_ns() // 1000, 0, 0)
    return SpoolRecord(pending.topic, pending.key, pending.value or b"", pending.headers or [], *counts)
