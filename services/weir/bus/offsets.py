"""Asking partitions how far they reach, also while their leader is being found.

librdkafka asks a few times within some hundred milliseconds and then reports that the broker does not lead the partition. That
passes: it is so for some moments after a topic was created, and whenever a leader changes.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, TypeVar

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

__all__ = ["offsets_for_times", "watermarks"]

_PASSES: Final = frozenset(
    {
        KafkaError.NOT_LEADER_FOR_PARTITION,
        KafkaError.LEADER_NOT_AVAILABLE,
        KafkaError.REPLICA_NOT_AVAILABLE,
        KafkaError.FENCED_LEADER_EPOCH,
        KafkaError.UNKNOWN_LEADER_EPOCH,
        KafkaError.OFFSET_NOT_AVAILABLE,
    }
)
_PAUSE_SECONDS: Final = 0.1

Answer = TypeVar("Answer")


def watermarks(consumer: Consumer, where: TopicPartition, timeout: float = 10.0) -> tuple[int, int]:
    """The oldest offset a partition holds, and the one that its next record will have.

    Raises:
        KafkaException: no answer within `timeout` seconds, or one that waiting does not change.
    """

    def ask(seconds: float) -> tuple[int, int]:
        low, high = consumer.get_watermark_offsets(where, timeout=seconds)
        return low, high

    return _ask(ask, timeout)


def offsets_for_times(consumer: Consumer, wanted: list[TopicPartition], timeout: float = 10.0) -> list[TopicPartition]:
    """The first offset at or after the time that stands in place of each one's offset, in ms; -1 where there is none.

    Raises:
        KafkaException: no answer within `timeout` seconds, or one that waiting does not change.
    """

    def ask(seconds: float) -> list[TopicPartition]:
        found: list[TopicPartition] = consumer.offsets_for_times(wanted, seconds)
        for one in found:
            if one.error is not None:
                raise KafkaException(one.error)
        return found

    return _ask(ask, timeout)


def _ask(ask: Callable[[float], Answer], timeout: float) -> Answer:
    deadline = time.monotonic() + timeout
    while True:
        try:
            return ask(max(0.1, deadline - time.monotonic()))
        except KafkaException as error:
            if error.args[0].code() not in _PASSES or time.monotonic() + _PAUSE_SECONDS > deadline:
                raise
        time.sleep(_PAUSE_SECONDS)
