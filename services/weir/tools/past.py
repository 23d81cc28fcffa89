"""The past of some topics, read once: the records of a span of time, in the order of their receipt as well as can be.

Reads without a consumer group and commits nothing, so nobody else's reading is touched.
"""

from __future__ import annotations

import heapq
import time
from collections import deque
from collections.abc import Iterator
from typing import Final

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from weir.bus.config import client_config
from weir.bus.offsets import offsets_for_times, watermarks
from weir.bus.topics import TopicsUnavailable
from weir.ops.settings import ServiceSettings

__all__ = ["Past"]

_READ: Final = 1_000
_POLL_S: Final = 0.1
_SECONDS: Final = 15.0
_SILENCE_S: Final = 30.0
# Records of one partition that wait for those of another; where there are more, reading it pauses until half of them are gone.
_WAITING: Final = 20_000

Key = tuple[str, int]


class Past:
    """Records stamped within a span of time, of all partitions of some topics, merged by their time stamps.

    Within a partition the order is Kafka's. Where time stamps of a partition go back, as after a restart of a processor, they are
    handed on late, not sorted.

    Args:
        settings: brokers, security, prefix.
        topics: full names; those that do not exist are in `absent`.
        since_ms: first time, milliseconds since 1970.
        until_ms: first time that is no longer meant.
        slack_ms: partitions are read on so far behind the end, for records that were written late.

    Raises:
        TopicsUnavailable: no broker answers, or none of the topics exists.
    """

    def __init__(self, settings: ServiceSettings, topics: list[str], since_ms: int, until_ms: int, slack_ms: int = 0) -> None:
        self.since_ms, self.until_ms = since_ms, until_ms
        self.absent: list[str] = []
        self.read = self.pauses = 0
        options = {"group.id": f"{settings.topic_prefix}.tools", "enable.auto.commit": False, "enable.partition.eof": True}
        self._consumer = Consumer({**client_config(settings), **options, "fetch.message.max.bytes": 4_000_000})
        try:
            self._ends = self._assign(topics, until_ms + slack_ms)
        except KafkaException as error:
            self._consumer.close()
            raise TopicsUnavailable(f"{settings.kafka_bootstrap_servers}: {error.args[0].str()}") from error
        except TopicsUnavailable:
            self._consumer.close()
            raise

    @property
    def total(self) -> int:
        """Records there are to be read, also such as lie outside the span of time."""
        return sum(end - start for start, end in self._ends.values())

    def _assign(self, topics: list[str], last_ms: int) -> dict[Key, tuple[int, int]]:
        wanted: list[Key] = []
        for topic in topics:
            found = self._consumer.list_topics(topic, _SECONDS).topics[topic]
            if found.error is not None:
                self.absent.append(topic)
            else:
                wanted += [(topic, number) for number in sorted(found.partitions)]
        if not wanted:
            raise TopicsUnavailable(f"none of {', '.join(topics)} exists; `weir topics apply` creates them")
        starts = offsets_for_times(self._consumer, [TopicPartition(*key, max(0, self.since_ms)) for key in wanted], _SECONDS)
        stops = offsets_for_times(self._consumer, [TopicPartition(*key, max(0, last_ms)) for key in wanted], _SECONDS)
        ends: dict[Key, tuple[int, int]] = {}
        for start, stop in zip(starts, stops, strict=True):
            key = (start.topic, start.partition)
            high = watermarks(self._consumer, TopicPartition(*key), _SECONDS)[1]
            # Nothing at or after a time: an offset below zero.
            end = stop.offset if stop.offset >= 0 else high
            if 0 <= start.offset < end:
                ends[key] = (start.offset, end)
        self._consumer.assign([TopicPartition(*key, start) for key, (start, _) in ends.items()])
        return ends

    def close(self) -> None:
        """Done with."""
        self._consumer.close()

    def __iter__(self) -> Iterator[Message]:
        """The records. Raises TopicsUnavailable where reading breaks off."""
        waiting: dict[Key, deque[Message]] = {key: deque() for key in self._ends}
        unfinished, paused = set(self._ends), set[Key]()
        heads: list[tuple[int, Key]] = []
        heard = time.monotonic()
        while unfinished or heads:
            # Only when every partition that has more to come shows what comes next is it known what is the earliest.
            while heads and (not unfinished or all(waiting[key] for key in unfinished)):
                stamp, key = heapq.heappop(heads)
                queue = waiting[key]
                message = queue.popleft()
                if queue:
                    heapq.heappush(heads, (queue[0].timestamp()[1], key))
                if key in paused and len(queue) < _WAITING // 2:
                    paused.discard(key)
                    self._consumer.resume([TopicPartition(*key)])
                if self.since_ms <= stamp < self.until_ms:
                    yield message
            if not unfinished:
                continue
            messages = self._consumer.consume(_READ, _POLL_S)
            if messages:
                heard = time.monotonic()
            elif time.monotonic() - heard > _SILENCE_S:
                raise TopicsUnavailable(
                    f"nothing came for {_SILENCE_S:.0f} s, and {len(unfinished)} partitions were not at their end"
                )
            for message in messages:
                self._take(message, waiting, unfinished, heads)
            full = [key for key in unfinished - paused if len(waiting[key]) >= _WAITING]
            if full:
                paused.update(full)
                self.pauses += len(full)
                self._consumer.pause([TopicPartition(*key) for key in full])

    def _take(
        self, message: Message, waiting: dict[Key, deque[Message]], unfinished: set[Key], heads: list[tuple[int, Key]]
    ) -> None:
        key = (str(message.topic()), int(message.partition() or 0))
        if (error := message.error()) is not None:
            if error.code() != KafkaError._PARTITION_EOF:
                raise TopicsUnavailable(f"{key[0]}: {error}")
            unfinished.discard(key)
            return
        offset, end = int(message.offset() or 0), self._ends[key][1]
        if key in unfinished and offset < end:
            self.read += 1
            queue = waiting[key]
            queue.append(message)
            if len(queue) == 1:
                heapq.heappush(heads, (message.timestamp()[1], key))
        if offset >= end - 1:
            unfinished.discard(key)
