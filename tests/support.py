"""What several test files use."""

from __future__ import annotations

import queue
import time
from collections.abc import Callable
from typing import Any, TypeVar

from weir.bus.config import DeliveryFailed
from weir.bus.producer import Delivery, DeliveryProducer

__all__ = ["deliver_now", "eventually"]

T = TypeVar("T")


def eventually(condition: Callable[[], T], timeout: float = 10.0, message: str = "condition did not come true") -> T:
    """Poll `condition` until it returns something true, and return that; fail with its last value after `timeout` seconds.

    An AssertionError that it raises counts as not yet true, so it may contain asserts and return True.
    """
    deadline = time.monotonic() + timeout
    pause = 0.005
    while True:
        last: object
        try:
            value = condition()
            if value:
                return value
            last = value
        except AssertionError as error:
            last = error
        if time.monotonic() >= deadline:
            raise AssertionError(f"{message} (within {timeout:g} s; last: {last!r})")
        time.sleep(pause)
        pause = min(pause * 1.5, 0.1)


def deliver_now(producer: DeliveryProducer, topic: str, value: bytes, *, timeout: float = 30.0, **options: Any) -> None:
    """Produce one record and wait until Kafka has it. Raises DeliveryFailed where it refuses, queue.Empty without an answer."""
    answer: queue.SimpleQueue[DeliveryFailed | None] = queue.SimpleQueue()
    delivery = Delivery(answer.put)
    producer.produce(topic, value, delivery=delivery, **options)
    delivery.seal()
    if (error := answer.get(timeout=timeout)) is not None:
        raise error
