"""A Kafka producer that does as the test says."""

from __future__ import annotations

from typing import Any

from confluent_kafka import KafkaError

from weir.bus.codec import Decoder
from weir.bus.config import DeliveryFailed
from weir.bus.producer import Delivery
from weir.model.batch import RawBatch
from weir.model.ledger import LedgerEntry

_decode = Decoder()


class FakeProducer:
    """Keeps what it is given until the test acknowledges or refuses it."""

    def __init__(self, *, prompt: bool = False) -> None:
        self.prompt = prompt
        self.waiting: list[tuple[str, str, bytes, Delivery]] = []
        self.taken: list[tuple[str, str, bytes]] = []
        self.refuse_at_once = 0
        self.closed = False
        self.purged = 0
        self.headers: dict[bytes | None, Any] = {}

    def produce(
        self, topic: str, value: bytes, *, delivery: Delivery, key: str, headers: Any = None, blocking_seconds: float = 60.0
    ) -> None:
        assert blocking_seconds < 0, "the loop must never wait for the queue"
        if self.refuse_at_once:
            self.refuse_at_once -= 1
            raise DeliveryFailed("queue full")
        self.headers[value] = headers
        if self.prompt:
            self.taken.append((topic, key, value))
            return  # sealed without anything expected: acknowledged
        delivery.expect(1)
        self.waiting.append((topic, key, value, delivery))

    def answer(self, error: str | KafkaError | None = None) -> int:
        """Acknowledge or refuse all that waits."""
        waiting, self.waiting = self.waiting, []
        for topic, key, value, delivery in waiting:
            if error is None:
                self.taken.append((topic, key, value))
            delivery.on_delivery(error, _Message(topic))  # type: ignore[arg-type]
        return len(waiting)

    def purge(self) -> None:
        self.purged += len(self.waiting)
        self.answer(KafkaError(KafkaError._PURGE_QUEUE))

    def partitions(self, topic: str, timeout: float = 10.0) -> int:
        return 1

    def close(self, timeout: float = 30.0) -> int:
        self.closed = True
        return 0

    def batches(self, topic: str = "weir.raw.syslog.v1") -> list[RawBatch]:
        """The raw batches it has taken."""
        return [RawBatch.from_record(_decode(value)) for name, _, value in self.taken if name == topic]

    def entries(self) -> list[LedgerEntry]:
        """The ledger entries it has taken."""
        return [LedgerEntry.from_record(_decode(value)) for topic, _, value in self.taken if topic == "weir.ledger.v1"]


class _Message:
    def __init__(self, topic: str) -> None:
        self._topic = topic

    def topic(self) -> str:
        return self._topic
