"""From units to raw batches in Kafka: batching by source, bounded memory, retries that keep the batch id, the ledger.

All methods are called in the event loop. Kafka's answers come from librdkafka's thread and are handed over in bulk.

A unit is in one of four states: collected (in an open batch), in flight (its batch was handed to librdkafka), acknowledged, or
dropped and counted. The first two together have a ceiling. A batch that Kafka refuses, or that librdkafka gives up on after its
own retries, is produced again under the same batch id for as long as the process runs: repeats are told apart downstream by
event id, a loss could not be made good.

Records are keyed by source address, which keeps a source's order. A source that fills more than `receiver_spread_batches`
batches within one second is too much for one partition: what it sends beyond that many in this second goes under the keys
"address#1", "address#2" … each of as many batches, and the next second begins with the plain address again.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from weir.bus.codec import Encoder
from weir.bus.config import DeliveryFailed
from weir.bus.producer import Delivery
from weir.model.batch import MAX_BATCH_BYTES
from weir.model.topics import TopicNames
from weir.ops.logging import get
from weir.receivers.batching import BATCH_OVERHEAD, OpenBatch, Source, cost_of, cut
from weir.receivers.counts import ReceiverLedger, ReceiverMetrics
from weir.receivers.memory import Memory, Seldom
from weir.receivers.settings import ReceiverSettings
from weir.receivers.sources import Sources

__all__ = ["Producer", "Publisher"]

_RATED_SOURCES = 4_096
_MAX_SPREAD = 64
_SILENCE_SECONDS = 15.0


class Producer(Protocol):
    """What the publisher needs of `weir.bus.producer.DeliveryProducer`."""

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

    def close(self, timeout: float = 30.0) -> int:
        """Flush and stop."""


@dataclass(slots=True, eq=False)
class _Pending:
    """One finished record on its way into Kafka; `settled` is called in the loop once Kafka has it."""

    topic: str
    key: str
    value: bytes | None
    cost: int
    since: float
    settled: Callable[[], None]
    headers: list[tuple[str, bytes]] | None = None
    attempts: int = 0


def _nothing() -> None:
    pass


class Publisher:
    """Batches and publishes what one receiver takes in.

    Args:
        settings: linger, sizes, ceiling.
        service: such as "receive.syslog".
        topic: short name of the raw topic.
        make_producer: called at start, and again after an error that librdkafka cannot recover from.
        finish: called with each batch that lingered, right before it is published; flows add their templates here.
    """

    def __init__(
        self,
        settings: ReceiverSettings,
        *,
        service: str,
        topic: str,
        make_producer: Callable[[], Producer],
        finish: Callable[[OpenBatch], None] | None = None,
    ) -> None:
        names = TopicNames(settings.topic_prefix)
        self.settings = settings
        self.topic = names[topic]
        self.memory = Memory(settings.receiver_memory_bytes)
        self.sources = Sources.of_settings(settings)
        self.ledger = ReceiverLedger(service, settings.instance, settings.site, self.topic)
        self.metrics = ReceiverMetrics(service)
        self.max_unit_bytes = settings.receiver_batch_bytes - 1_024
        self._ledger_topic = names["ledger"]
        self._make_producer = make_producer
        self._producer = make_producer()
        self.finish = finish
        self._encode = Encoder("raw-batch")
        self._encode_ledger = Encoder("ledger-entry")
        self._loop = asyncio.get_running_loop()
        self._log = get(f"weir.{service}")
        self._linger = settings.receiver_linger_ms / 1000
        self._open: dict[Source, OpenBatch] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._pending: dict[_Pending, None] = {}
        self._retries: dict[_Pending, asyncio.TimerHandle] = {}
        self._answers: deque[tuple[_Pending, DeliveryFailed | None]] = deque()
        self._answers_due = False
        self._idle = asyncio.Event()
        self._idle.set()
        self._rates: OrderedDict[str, tuple[int, int]] = OrderedDict()
        self._dropped = 0
        self._ledger_out = False
        self._ledger_task = self._loop.create_task(self._tick())
        self._say = Seldom(10.0, time.monotonic)
        self._failure: str | None = None

    # Taking units

    def offer(
        self,
        source: Source,
        unit: bytes,
        port: int | None = None,
        *,
        original_length: int = 0,
        sha256: bytes = b"",
        received_at: int | None = None,
        must: bool = False,
    ) -> bool:
        """Put a unit into its source's batch.

        Args:
            source: whose it is.
            unit: the bytes; cut and marked where they exceed what a batch can hold.
            port: the sender's.
            original_length, sha256: of a unit that was cut before.
            received_at: microseconds UTC; None for now.
            must: take it beyond the ceiling too, for senders that have been paused and whose bytes are already here.

        Returns:
            False where memory was full: the unit is lost and has been counted.
        """
        if len(unit) > self.max_unit_bytes:
            unit, length, digest = cut(unit, self.max_unit_bytes)
            original_length, sha256 = (original_length, sha256) if original_length else (length, digest)
        batch = self._open.get(source)
        cost = cost_of(unit) if batch is not None else cost_of(unit) + BATCH_OVERHEAD
        if not must and not self.memory.fits(cost):
            self.drop(source.ip, 1)
            return False
        if batch is not None and not batch.fits(unit, self.settings.receiver_batch_bytes):
            self.close_batch(source)
            batch = None
        if batch is None:
            batch = self.begin(source, received_at)
            self._open[source] = batch
            if self._timer is None:
                self._timer = self._loop.call_later(self._linger, self._linger_over)
        elif received_at is not None and received_at < batch.received_at:
            batch.received_at = received_at
        self.add(batch, unit, port, original_length, sha256)
        if len(batch.units) >= self.settings.receiver_batch_units:
            self.close_batch(source)
        return True

    def drop(self, source_ip: str, units: int, reason: str = "memory full") -> None:
        """Count units that are lost."""
        self.ledger.dropped(source_ip, time.time_ns() // 1000, units)
        self.metrics.dropped(units, reason)
        self._dropped += units
        if self._say("dropped"):
            self._log.error(
                "units dropped",
                reason=reason,
                source=source_ip,
                units=self._dropped,
                hint="Kafka is away or too slow; WEIR_RECEIVER_MEMORY_BYTES is the ceiling",
            )
            self._dropped = 0

    def close_batch(self, source: Source) -> None:
        """Publish what has been collected of this source, if anything."""
        batch = self._open.pop(source, None)
        if batch is not None:
            if self.finish is not None:
                self.finish(batch)
            self.publish(batch)

    def _linger_over(self) -> None:
        self._timer = None
        # All linger equally long, so the order in which they were opened is the order in which they are due.
        now = time.monotonic()
        while self._open:
            source, batch = next(iter(self._open.items()))
            wait = batch.opened + self._linger - now
            if wait > 0.001:
                self._timer = self._loop.call_later(wait, self._linger_over)
                return
            self.close_batch(source)

    # Batches that their receiver fills itself

    def begin(self, source: Source, received_at: int | None = None) -> OpenBatch:
        """A batch that does not linger: fill it with `add`, then `publish` or `discard` it."""
        self.memory.take(BATCH_OVERHEAD)
        return OpenBatch(source, received_at)

    def add(self, batch: OpenBatch, unit: bytes, port: int | None, original_length: int = 0, sha256: bytes = b"") -> None:
        """Append a unit of at most `max_unit_bytes` to a batch that it fits."""
        # First the unit, then the count: reaching the ceiling may make the receiver publish this very batch.
        batch.add(unit, port, original_length, sha256)
        self.memory.take(cost_of(unit))

    def discard(self, batch: OpenBatch) -> None:
        """Forget a batch of units that nobody has been told are safe."""
        self.memory.give(batch.cost)

    def publish(self, batch: OpenBatch, settled: Callable[[], None] = _nothing) -> None:
        """Publish a batch; `settled` is called in the loop when Kafka has acknowledged it."""
        value = self._encode(batch.close(self.settings.site, self.settings.instance).to_record())
        if len(value) > MAX_BATCH_BYTES:  # a programming error: sizes are bounded where units are added
            raise AssertionError(f"a raw batch of {len(value)} bytes, {MAX_BATCH_BYTES} are allowed")
        source, units, size, received_at = batch.source, len(batch.units), batch.bytes_in, batch.received_at

        def acknowledged() -> None:
            self.ledger.received(source.ip, received_at, units, size)
            self.metrics.published(source.transport, units, size)
            settled()

        cost = len(value) + BATCH_OVERHEAD
        pending = _Pending(self.topic, self._key(source.ip), value, cost, time.monotonic(), acknowledged)
        # The difference in one step: counting the batch twice for a moment would make connections flap.
        if cost > batch.cost:
            self.memory.take(cost - batch.cost)
        else:
            self.memory.give(batch.cost - cost)
        self._start(pending)

    def send(
        self,
        topic: str,
        key: str,
        value: bytes | None,
        *,
        headers: list[tuple[str, bytes]] | None = None,
        settled: Callable[[], None] = _nothing,
    ) -> None:
        """Send another record, such as a template to the state topic, under the same ceiling and with the same retries.

        Args:
            topic: full name.
            key: Kafka key.
            value: the bytes; None is a tombstone.
            headers: Kafka headers.
            settled: called in the loop when Kafka has acknowledged it.
        """
        cost = len(value or b"") + BATCH_OVERHEAD
        self.memory.take(cost)
        self._start(_Pending(topic, key, value, cost, time.monotonic(), settled, headers))

    def _key(self, source_ip: str) -> str:
        second = int(time.monotonic())
        last, count = self._rates.get(source_ip, (second, 0))
        count = count + 1 if last == second else 1
        self._rates[source_ip] = (second, count)
        self._rates.move_to_end(source_ip)
        if len(self._rates) > _RATED_SOURCES:
            self._rates.popitem(last=False)
        suffix = (count - 1) // self.settings.receiver_spread_batches % _MAX_SPREAD
        return f"{source_ip}#{suffix}" if suffix else source_ip

    # Kafka

    def _start(self, pending: _Pending) -> None:
        self._pending[pending] = None
        self._idle.clear()
        self._produce(pending)

    def _produce(self, pending: _Pending) -> None:
        pending.attempts += 1
        delivery = Delivery(lambda error: self._answered(pending, error))
        try:
            # The loop must not wait: a full queue is one more reason to try again later.
            self._producer.produce(
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

    def _answered(self, pending: _Pending, error: DeliveryFailed | None) -> None:
        """In librdkafka's thread. Waking the loop once for many answers is what keeps this cheap."""
        self._answers.append((pending, error))
        if not self._answers_due:
            self._answers_due = True
            self._loop.call_soon_threadsafe(self._settle)

    def _settle(self) -> None:
        self._answers_due = False
        while self._answers:
            pending, error = self._answers.popleft()
            if error is not None:
                self._failed(pending, error)
                continue
            if self._pending.pop(pending, False) is False:
                continue
            self._failure = None
            self.memory.give(pending.cost)
            pending.settled()
        if not self._pending:
            self._idle.set()

    def _failed(self, pending: _Pending, error: DeliveryFailed) -> None:
        if pending not in self._pending:
            return
        self.metrics.retried()
        self._failure = str(error)
        if self._say("failed"):
            self._log.warning(
                "Kafka has not taken a record, trying again", topic=pending.topic, attempts=pending.attempts, error=str(error)
            )
        if "_FATAL" in self._failure:
            self._renew_producer()
        self._retries[pending] = self._loop.call_later(self.settings.receiver_retry_seconds, self._retry, pending)

    def _retry(self, pending: _Pending) -> None:
        self._retries.pop(pending, None)
        self._produce(pending)

    def _renew_producer(self) -> None:
        # An idempotent producer that lost track of its sequence takes nothing any more, for ever. What is still in it comes
        # back here with the same error, which must not renew the new one; flushing outlasts delivery.timeout.ms.
        if not self._say("renewed"):
            return
        old, self._producer = self._producer, self._make_producer()
        threading.Thread(target=old.close, args=(150.0,), name="producer-close", daemon=True).start()

    # Ledger, readiness, end

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(self.settings.receiver_ledger_seconds)
            self.write_ledger()

    def write_ledger(self) -> None:
        """Publish what has been counted; while the entry before is not acknowledged, counts go on adding up instead."""
        if self._ledger_out or (entry := self.ledger.entry()) is None:
            return
        value = self._encode_ledger(entry.to_record())
        self._ledger_out = True
        self.send(self._ledger_topic, entry.key, value, settled=self._ledger_written)

    def _ledger_written(self) -> None:
        self._ledger_out = False

    def problem(self) -> str | None:
        """Why this receiver cannot publish, or None. May be called from any thread."""
        if self._failure is not None:
            return f"Kafka refuses records: {self._failure}"
        # A snapshot: the loop may change the dictionary meanwhile.
        oldest = next(iter(list(self._pending)), None)
        if oldest is not None and time.monotonic() - oldest.since > _SILENCE_SECONDS:
            return f"Kafka has not acknowledged anything for {time.monotonic() - oldest.since:.0f} s"
        return None

    def reach(self, timeout: float) -> None:
        """Ask for the raw topic, in any thread but the loop's. Raises DeliveryFailed where it does not answer."""
        self._producer.partitions(self.topic, timeout)

    @property
    def in_flight(self) -> int:
        """Records not yet acknowledged by Kafka."""
        return len(self._pending)

    def flush(self) -> None:
        """Publish all that lingers."""
        for source in list(self._open):
            self.close_batch(source)

    async def stop(self) -> int:
        """Publish all that lingers, wait for Kafka, write the last ledger entry; returns how many records it did not take."""
        deadline = self._loop.time() + self.settings.receiver_stop_seconds
        self._ledger_task.cancel()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self.flush()
        # Twice: the entry that goes first may have to wait for one before it, and counts what came in meanwhile.
        for _ in range(2):
            await self._idle_until(deadline)
            self.write_ledger()
        await self._idle_until(deadline)
        for handle in self._retries.values():
            handle.cancel()
        left = len(self._pending)
        if left:
            self._log.error("stopped before Kafka took everything", records_lost=left, seconds=self.settings.receiver_stop_seconds)
        await self._loop.run_in_executor(None, self._producer.close, 0.0 if left else 5.0)
        return left

    async def _idle_until(self, deadline: float) -> None:
        try:
            async with asyncio.timeout_at(deadline):
                await self._idle.wait()
        except TimeoutError:
            pass
