"""From units to raw batches: batching by source, bounded memory, the ledger. `delivery` takes the batches into Kafka.

All methods are called in the event loop.

A unit is in one of five states: collected (in an open batch), in flight (its batch was handed to librdkafka), on disk (where a
receiver has a spool and Kafka is away), acknowledged, or dropped and counted. The first two together have a ceiling, the third has
its own. A batch keeps the id it was given first wherever it goes: repeats are told apart downstream by event id, a loss could not
be made good.

Records are keyed by source address, which keeps a source's order. A source that fills more than `receiver_spread_batches`
batches within one second is too much for one partition: what it sends beyond that many in this second goes under the keys
"address#1", "address#2" … each of as many batches, and the next second begins with the plain address again.

Batches of quarantined sources go to raw.quarantine, with the topic they would have gone to in the header `weir-topic`, and have
ledger entries of their own, so that each topic's units balance.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence

from weir.bus.codec import Encoder
from weir.model.batch import MAX_BATCH_BYTES
from weir.model.topics import TopicNames
from weir.ops.logging import get
from weir.receivers.publishing.batching import BATCH_OVERHEAD, UNIT_OVERHEAD, OpenBatch, Source, cost_of, cut
from weir.receivers.publishing.counts import ReceiverLedger, ReceiverMetrics
from weir.receivers.publishing.delivery import Counts, Outbox, Pending, Producer
from weir.receivers.publishing.memory import Memory, Seldom
from weir.receivers.publishing.spool import Damage, Spool
from weir.receivers.settings import ReceiverSettings, SpoolSettings
from weir.receivers.sources import Sources

__all__ = ["MEMORY_FULL", "TOPIC_HEADER", "Producer", "Publisher", "open_spool"]

TOPIC_HEADER = "weir-topic"
"""Kafka header of batches in raw.quarantine: the raw topic they would have gone to."""

MEMORY_FULL = "memory full"
"""Why a unit is dropped that there is no room for."""

_MEMORY_HINT = "Kafka is away or too slow; WEIR_RECEIVER_MEMORY_BYTES and WEIR_RECEIVER_SPOOL_BYTES are the ceilings"
_RATED_SOURCES = 4_096
_MAX_SPREAD = 64
_ONE_BY_ONE = 16
_LAST_SECONDS = 2.0


def open_spool(settings: SpoolSettings, service: str) -> Spool | None:
    """The disk spool of a receiver process, None where none is set. Raises OSError where the directory cannot be used."""
    if settings.receiver_spool_dir is None:
        return None
    return Spool(
        settings.receiver_spool_dir, service, max_bytes=settings.receiver_spool_bytes, max_units=settings.receiver_spool_events
    )


class Publisher:
    """Batches and publishes what one receiver takes in.

    Args:
        settings: linger, sizes, ceiling.
        service: such as "receive.syslog".
        topic: short name of the raw topic.
        make_producer: called at start, and again after an error that librdkafka cannot recover from.
        finish: called with each batch that lingered, right before it is published; flows add their templates here.
        spool: as `open_spool` gives it; None for receivers whose senders keep their data. Closed by `stop`.
    """

    def __init__(
        self,
        settings: ReceiverSettings,
        *,
        service: str,
        topic: str,
        make_producer: Callable[[], Producer],
        finish: Callable[[OpenBatch], None] | None = None,
        spool: Spool | None = None,
    ) -> None:
        names = TopicNames(settings.topic_prefix)
        self.settings = settings
        self.topic = names[topic]
        self.memory = Memory(settings.receiver_memory_bytes)
        self.sources = Sources.of_settings(settings)
        self.ledger = ReceiverLedger(service, settings.instance, settings.site, self.topic)
        self.quarantine_ledger = ReceiverLedger(service, settings.instance, settings.site, names["raw.quarantine"])
        self.metrics = ReceiverMetrics(service)
        self.max_unit_bytes = settings.receiver_batch_bytes - 1_024
        self._ledger_topic = names["ledger"]
        self._topic_header = [(TOPIC_HEADER, self.topic.encode())]
        self.finish = finish
        self._encode = Encoder("raw-batch")
        self._encode_ledger = Encoder("ledger-entry")
        self._loop = asyncio.get_running_loop()
        self._log = get(f"weir.{service}")
        self._linger = settings.receiver_linger_ms / 1000
        self._open: dict[Source, OpenBatch] = {}
        self._stop_by: float | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._rates: OrderedDict[str, tuple[int, int]] = OrderedDict()
        self._dropped = 0
        self._ledgers_out: set[str] = set()
        self._ledger_task = self._loop.create_task(self._tick())
        self._say = Seldom(10.0, time.monotonic)
        spooling = settings if isinstance(settings, SpoolSettings) else SpoolSettings.model_construct()
        self._outbox = Outbox(
            make_producer=make_producer,
            memory=self.memory,
            metrics=self.metrics,
            log=self._log,
            retry_seconds=settings.receiver_retry_seconds,
            delivered=self._delivered,
            damaged=self._damaged,
            spool=spool,
            spool_after_seconds=spooling.receiver_spool_after_seconds,
            fsync_seconds=spooling.receiver_spool_fsync_seconds,
        )

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
        if not must and not self.memory.fits(cost) and not self._outbox.make_room(cost):
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

    def offer_many(self, source: Source, units: Sequence[bytes], port: int | None = None, *, must: bool = False) -> int:
        """`offer` each of several units of one sender that came together; a fraction of the cost where they are many.

        Returns:
            how many were taken; the others are lost for want of memory, and have been counted.
        """
        taken, start = 0, 0
        most, limit = self.settings.receiver_batch_units, self.settings.receiver_batch_bytes
        while start < len(units):
            batch = self._open.get(source)
            some = units[start : start + most - (len(batch.units) if batch is not None else 0)]
            size = sum(map(len, some))
            cost = size + UNIT_OVERHEAD * len(some)
            # With one after the other it is told exactly where memory or a batch ends, and what is too large is cut.
            if batch is None or not batch.fits_all(len(some), size, limit) or not (must or self.memory.fits(cost)):
                some = some[: 1 if batch is None else _ONE_BY_ONE]
                taken += sum(self.offer(source, unit, port, must=must) for unit in some)
            else:
                batch.extend(some, size, port)
                self.memory.take(cost)
                taken += len(some)
                # Reaching the ceiling may have published it.
                if len(batch.units) >= most and self._open.get(source) is batch:
                    self.close_batch(source)
            start += len(some)
        return taken

    def drop(self, source_ip: str, units: int, reason: str = MEMORY_FULL) -> None:
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
                hint=_MEMORY_HINT if reason == MEMORY_FULL else None,
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

    def publish(self, batch: OpenBatch, settled: Callable[[], None] | None = None) -> None:
        """Publish a batch; `settled` is called in the loop when Kafka has acknowledged it. One with it does not go to disk."""
        value = self._encode(batch.close(self.settings.site, self.settings.instance).to_record())
        if len(value) > MAX_BATCH_BYTES:  # a programming error: sizes are bounded where units are added
            raise AssertionError(f"a raw batch of {len(value)} bytes, {MAX_BATCH_BYTES} are allowed")
        source = batch.source
        cost = len(value) + BATCH_OVERHEAD
        pending = Pending(
            self.quarantine_ledger.topic if source.quarantined else self.topic,
            self._key(source.ip),
            value,
            self._topic_header if source.quarantined else None,
            Counts(source.ip, source.transport, batch.received_at, len(batch.units), batch.bytes_in),
            settled,
            cost=cost,
        )
        # The difference in one step: counting the batch twice for a moment would make connections flap.
        if cost > batch.cost:
            self.memory.take(cost - batch.cost)
        else:
            self.memory.give(batch.cost - cost)
        self._outbox.submit(pending)

    def send(
        self,
        topic: str,
        key: str,
        value: bytes | None,
        *,
        headers: list[tuple[str, bytes]] | None = None,
        settled: Callable[[], None] | None = None,
        keepable: bool = False,
    ) -> None:
        """Send another record, such as a template to the state topic, under the same ceiling and with the same retries.

        A record is not tried again once a newer one of its topic and key has been sent; its `settled` is then never called.

        Args:
            topic: full name.
            key: Kafka key.
            value: the bytes; None is a tombstone.
            headers: Kafka headers.
            settled: called in the loop when Kafka has acknowledged it.
            keepable: put it on disk, if there is a spool, when the receiver stops before Kafka has it.
        """
        cost = len(value or b"") + BATCH_OVERHEAD
        self.memory.take(cost)
        self._outbox.submit(Pending(topic, key, value, headers, None, settled, keepable, cost))

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

    # Ledger, readiness, end

    def _delivered(self, topic: str, counts: Counts) -> None:
        source, transport, received_at, units, size = counts
        if topic == self.topic:
            self.ledger.received(source, received_at, units, size)
        elif topic == self.quarantine_ledger.topic:
            self.quarantine_ledger.received(source, received_at, units, size)
        else:
            return  # a ledger entry that an earlier process had to leave on disk
        self.metrics.published(transport, units, size)

    def _damaged(self, damage: Damage) -> None:
        if damage.units:
            self.drop(damage.source or "", damage.units, "spool damaged")

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(self.settings.receiver_ledger_seconds)
            try:
                self.write_ledger()
            except Exception:  # counts of one entry may be lost; the next ones must not be
                self._log.exception("ledger-entry-failed")

    def write_ledger(self, *, last: bool = False) -> None:
        """Publish what has been counted; while the entry before is not acknowledged, counts go on adding up instead.

        The `last` one does not wait. A receiver that is killed takes up to `receiver_ledger_seconds` of counts with it.
        """
        for ledger in (self.ledger, self.quarantine_ledger):
            topic = ledger.topic
            while (topic not in self._ledgers_out or last) and (entry := ledger.entry()) is not None:
                value = self._encode_ledger(entry.to_record())
                self._ledgers_out.add(topic)
                self.send(
                    self._ledger_topic,
                    entry.key,
                    value,
                    settled=lambda topic=topic: self._ledgers_out.discard(topic),  # type: ignore[misc]
                    keepable=True,
                )

    @property
    def spools(self) -> bool:
        """Whether there is a disk for what Kafka cannot take."""
        return self._outbox.spools

    def problem(self) -> str | None:
        """Why this receiver cannot take more, or None. May be called from any thread.

        With a spool it can as long as that has room; how much is in it is among the metrics.
        """
        return self._outbox.problem()

    def reach(self, timeout: float) -> None:
        """Ask for the raw topic, in any thread but the loop's. Raises DeliveryFailed where it does not answer."""
        self._outbox.producer.partitions(self.topic, timeout)

    @property
    def in_flight(self) -> int:
        """Records in memory that Kafka has not acknowledged."""
        return self._outbox.in_flight

    def flush(self) -> None:
        """Publish all that lingers."""
        for source in list(self._open):
            self.close_batch(source)

    def stopping(self) -> None:
        """The receiver begins to stop: what it waits for Kafka itself is no longer left to `stop`."""
        self._stop_by = self._loop.time() + self.settings.receiver_stop_seconds

    async def stop(self) -> int:
        """Publish all that lingers, wait for Kafka, write the last ledger entry; returns how many records are lost.

        With a spool, what Kafka does not take goes to disk.
        """
        deadline = self._loop.time() + self.settings.receiver_stop_seconds
        if self._stop_by is not None:
            deadline = max(self._stop_by, self._loop.time() + min(_LAST_SECONDS, self.settings.receiver_stop_seconds))
        self._ledger_task.cancel()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self.flush()
        await self._outbox.idle(deadline)
        self.write_ledger(last=True)
        await self._outbox.idle(deadline)
        left = await self._outbox.close()
        if left:
            self._log.error("stopped before Kafka took everything", records_lost=left, seconds=self.settings.receiver_stop_seconds)
        return left
