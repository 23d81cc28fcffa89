"""A Kafka producer that tells when everything made from one input is safely in Kafka.

Outputs of one input form a `Delivery`: it completes when Kafka has acknowledged each of them. Only then may the input be
acknowledged. Callbacks run in the thread that polls librdkafka; asyncio users get theirs in the loop.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any

from confluent_kafka import KafkaError, Message, Producer

from weir.bus.config import DeliveryFailed, producer_config
from weir.ops import logging
from weir.ops.settings import ServiceSettings

__all__ = ["Delivery", "DeliveryProducer"]

_log = logging.get(__name__)

Headers = list[tuple[str, bytes]]


class Delivery:
    """Counts the records still to be acknowledged; call `seal` when all have been produced.

    `then` is called once, from the polling thread (or from `seal`), with None or the first error.
    """

    __slots__ = ("_error", "_lock", "_open", "_sealed", "_then")

    def __init__(self, then: Callable[[DeliveryFailed | None], None]) -> None:
        self._then = then
        self._lock = threading.Lock()
        self._open = 0
        self._sealed = False
        self._error: DeliveryFailed | None = None

    def expect(self, count: int) -> None:
        """So many more records are about to be produced."""
        with self._lock:
            self._open += count

    def seal(self) -> None:
        """No more records will be produced."""
        with self._lock:
            self._sealed = True
            done = self._open == 0
        if done:
            self._then(self._error)

    def on_delivery(self, error: KafkaError | None, message: Message) -> None:
        """The callback librdkafka calls for each record."""
        with self._lock:
            self._open -= 1
            if error is not None and self._error is None:
                self._error = DeliveryFailed.of(message.topic(), error)
            done = self._sealed and self._open == 0
        if done:
            self._then(self._error)


class DeliveryProducer:
    """Produces with delivery reports; its own thread polls.

    Args:
        settings: brokers, security and compression.
        overrides: librdkafka settings by their names with underscores for dots.
    """

    def __init__(self, settings: ServiceSettings, **overrides: Any) -> None:
        config = producer_config(settings, **{name.replace("_", "."): value for name, value in overrides.items()})
        self._producer = Producer(config)
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._poll, name="kafka-producer", daemon=True)
        self._thread.start()

    def _poll(self) -> None:
        while not self._closing.is_set():
            try:
                self._producer.poll(0.1)
            except Exception:
                # A callback's error comes out of `poll`. Without this thread nothing would be acknowledged any more, in silence.
                _log.exception("delivery-callback-failed")

    def produce(
        self,
        topic: str,
        value: bytes | None,
        *,
        delivery: Delivery,
        key: bytes | str | None = None,
        partition: int = -1,
        timestamp_ms: int = 0,
        headers: Headers | None = None,
        blocking_seconds: float = 60.0,
    ) -> None:
        """Queue one record; blocks while the queue is full, which is the back-pressure.

        Raises:
            DeliveryFailed: the queue stayed full for `blocking_seconds`, or the record can never be sent.
        """
        deadline = time.monotonic() + blocking_seconds
        while not self.offer(
            topic, value, delivery=delivery, key=key, partition=partition, timestamp_ms=timestamp_ms, headers=headers
        ):
            if time.monotonic() > deadline:
                raise DeliveryFailed(f"{topic}: the producer's queue stayed full for {blocking_seconds:.0f} s")
            self._producer.poll(0.05)

    def offer(
        self,
        topic: str,
        value: bytes | None,
        *,
        delivery: Delivery,
        key: bytes | str | None = None,
        partition: int = -1,
        timestamp_ms: int = 0,
        headers: Headers | None = None,
    ) -> bool:
        """Queue one record without waiting; False while the queue is full, for those who must not block an event loop.

        Raises:
            DeliveryFailed: the record can never be sent.
        """
        delivery.expect(1)
        try:
            self._producer.produce(
                topic, value, key, partition, delivery.on_delivery, timestamp=timestamp_ms, headers=headers or []
            )
        except BufferError:
            delivery.expect(-1)
            return False
        except Exception as error:
            delivery.expect(-1)
            raise DeliveryFailed.of(topic, error) from error
        return True

    async def deliver(self, topic: str, value: bytes | None, *, blocking_seconds: float = 60.0, **options: Any) -> None:
        """Produce one record and wait until Kafka has it.

        Raises:
            DeliveryFailed: as `produce`.
        """
        future, delivery = self.future_delivery()
        deadline = time.monotonic() + blocking_seconds
        while not self.offer(topic, value, delivery=delivery, **options):
            if time.monotonic() > deadline:
                raise DeliveryFailed(f"{topic}: the producer's queue stayed full for {blocking_seconds:.0f} s")
            await asyncio.sleep(0.02)
        delivery.seal()
        await future

    @staticmethod
    def future_delivery() -> tuple[asyncio.Future[None], Delivery]:
        """A delivery and the future of the running loop that it completes."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()

        def settle(error: DeliveryFailed | None) -> None:
            if future.done():
                return
            if error is None:
                future.set_result(None)
            else:
                future.set_exception(error)

        def then(error: DeliveryFailed | None) -> None:
            loop.call_soon_threadsafe(settle, error)

        return future, Delivery(then)

    def partitions(self, topic: str, timeout: float = 10.0) -> int:
        """Number of partitions of a topic. Raises DeliveryFailed where it does not exist or no broker answers."""
        try:
            found = self._producer.list_topics(topic, timeout).topics[topic]
        except Exception as error:
            raise DeliveryFailed(f"{topic}: {error}") from error
        if found.error is not None or not found.partitions:
            raise DeliveryFailed(f"{topic}: {found.error}; `weir topics apply` creates it")
        return len(found.partitions)

    def purge(self) -> None:
        """Give back what is queued: its deliveries fail, as `purged`. What is on its way to a broker is left alone.

        Tried with librdkafka 2.16 and a broker killed under load: an idempotent producer goes on after this without a gap in its
        sequence.
        """
        self._producer.purge(in_queue=True, in_flight=False, blocking=False)

    def flush(self, timeout: float = 30.0) -> int:
        """Wait until all is acknowledged; returns how many records are not."""
        return int(self._producer.flush(timeout))

    def close(self, timeout: float = 30.0) -> int:
        """Flush and stop polling; returns how many records were not acknowledged."""
        left = self.flush(timeout)
        self._closing.set()
        self._thread.join()
        return left
