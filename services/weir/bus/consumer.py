"""A Kafka consumer for sinks: batches in, explicit commits out, expired offsets noticed.

One thread reads; offsets are committed only when the caller says that a range has been dealt with. A committed offset that the
topic no longer holds is not jumped over in silence: it is handed to the caller as an `Expired` range.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Message, TopicPartition

from weir.bus.config import consumer_config
from weir.bus.offsets import offsets_for_times, watermarks
from weir.ops.settings import ServiceSettings

__all__ = ["BatchConsumer", "Expired"]

_REFUSED = {KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError.GROUP_AUTHORIZATION_FAILED}


@dataclass(frozen=True, slots=True)
class Expired:
    """Offsets that retention removed before this group read them: first to last, inclusive."""

    topic: str
    partition: int
    first_offset: int
    last_offset: int


class BatchConsumer:
    """Reads several topics for one group.

    Args:
        settings: brokers, security, instance.
        group: consumer group.
        topics: full topic names.
        on_revoked: called with (topic, partition) pairs before they go to another member: drop what is in hand for them.
        on_expired: called for ranges that were lost to retention.
        first_since_ms: where the group has committed nothing, begin at records stamped since then; 0 for the earliest.
    """

    def __init__(
        self,
        settings: ServiceSettings,
        group: str,
        topics: list[str],
        *,
        on_revoked: Callable[[list[tuple[str, int]]], None] = lambda _: None,
        on_expired: Callable[[Expired], None] = lambda _: None,
        first_since_ms: int = 0,
        **overrides: Any,
    ) -> None:
        options = {name.replace("_", "."): value for name, value in overrides.items()}
        self._consumer = Consumer(consumer_config(settings, group, **options))
        self._on_revoked = on_revoked
        self._on_expired = on_expired
        self._first_since_ms = first_since_ms
        # The offset at which each partition was begun.
        self.starts: dict[tuple[str, int], int] = {}
        self._consumer.subscribe(topics, on_assign=self._assigned, on_revoke=self._revoked, on_lost=self._revoked)
        self.assigned: set[tuple[str, int]] = set()
        self._assign_error: KafkaException | None = None

    def _assigned(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        # confluent-kafka 2.16 on Python 3.11 lets an exception of this callback out of `consume` as a bare KafkaError, which is
        # no exception and passes every `except` clause. So it is kept for `read` to raise.
        try:
            self._start(consumer, partitions)
        except KafkaException as error:
            self._assign_error = error

    def _start(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        starts = []
        for committed in consumer.committed(partitions, timeout=30):
            low, high = watermarks(consumer, committed, 30)
            start = TopicPartition(committed.topic, committed.partition, OFFSET_BEGINNING)
            if committed.offset >= 0:
                start.offset = max(committed.offset, low)
                if committed.offset < low:
                    self._on_expired(Expired(committed.topic, committed.partition, committed.offset, low - 1))
            elif self._first_since_ms:
                wanted = TopicPartition(committed.topic, committed.partition, self._first_since_ms)
                (found,) = offsets_for_times(consumer, [wanted], 30)
                start.offset = found.offset if found.offset >= 0 else high
            self.starts[committed.topic, committed.partition] = low if start.offset == OFFSET_BEGINNING else start.offset
            starts.append(start)
            self.assigned.add((committed.topic, committed.partition))
        consumer.incremental_assign(starts)

    def _revoked(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        gone = [(p.topic, p.partition) for p in partitions]
        self._on_revoked(gone)
        self.assigned.difference_update(gone)

    def read(self, max_records: int, timeout: float) -> list[Message]:
        """Up to so many records, waiting at most so many seconds for the first ones.

        Raises:
            KafkaException: an error that does not pass by itself, or an assignment whose start could not be asked for.
        """
        good = []
        messages = self._consumer.consume(max_records, timeout)
        if self._assign_error is not None:
            error, self._assign_error = self._assign_error, None
            raise error
        for message in messages:
            problem = message.error()
            if problem is None:
                good.append(message)
            elif problem.fatal() or problem.code() in _REFUSED:
                raise KafkaException(problem)
            # Everything else (broker away, topic not there yet) librdkafka tries again by itself.
        return good

    def commit(self, offsets: dict[tuple[str, int], int]) -> None:
        """Commit, for each (topic, partition), the offset of the next record to read. Waits for the answer.

        Raises:
            KafkaException: the commit was refused; the records will be read again.
        """
        if offsets:
            wanted = [TopicPartition(topic, partition, offset) for (topic, partition), offset in offsets.items()]
            for done in self._consumer.commit(offsets=wanted, asynchronous=False) or []:
                if done.error is not None:
                    raise KafkaException(done.error)

    def end(self, topic: str, partition: int) -> int | None:
        """The end of a partition, as the broker's last answer said; None before the first one."""
        try:
            end = self._consumer.get_watermark_offsets(TopicPartition(topic, partition), cached=True)[1]
        except KafkaException:
            return None
        return end if end >= 0 else None

    def pause(self, partitions: list[tuple[str, int]]) -> None:
        """Stop fetching from these."""
        self._consumer.pause([TopicPartition(t, p) for t, p in partitions])

    def resume(self, partitions: list[tuple[str, int]]) -> None:
        """Fetch from these again."""
        self._consumer.resume([TopicPartition(t, p) for t, p in partitions])

    def close(self) -> None:
        """Leave the group."""
        self._consumer.close()
