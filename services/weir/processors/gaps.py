"""Whether offsets that a reader did not see are gone from Kafka, or were skipped by the reader."""

from __future__ import annotations

import time
from typing import NamedTuple

from confluent_kafka import Consumer, TopicPartition

from weir.bus.config import DeliveryFailed, consumer_config
from weir.bus.offsets import watermarks
from weir.ops.settings import ServiceSettings

__all__ = ["Found", "first_from"]


class Found(NamedTuple):
    """The oldest offset a partition holds, and the first record at or after the offset asked for."""

    low: int
    first: int


def first_from(settings: ServiceSettings, topic: str, partition: int, offset: int, timeout: float = 30.0) -> Found:
    """Look into the log itself, outside of any group.

    A hole is real when retention removed the records, or where markers of a producer's transaction lie.

    Raises:
        DeliveryFailed: no answer within `timeout` seconds.
    """
    config = consumer_config(settings, f"{settings.topic_prefix}.gaps") | {"queued.max.messages.kbytes": 2048}
    del config["group.instance.id"]
    consumer = Consumer(config)
    deadline = time.monotonic() + timeout
    try:
        low, _ = watermarks(consumer, TopicPartition(topic, partition), timeout)
        consumer.assign([TopicPartition(topic, partition, max(low, offset))])
        while time.monotonic() < deadline:
            message = consumer.poll(1.0)
            if message is not None and message.error() is None:
                return Found(low, message.offset())
    except Exception as error:
        raise DeliveryFailed(f"{topic}/{partition}: {error}") from error
    finally:
        consumer.close()
    raise DeliveryFailed(f"{topic}/{partition}: no record at or after offset {offset} within {timeout:.0f} s")
