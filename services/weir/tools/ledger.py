"""The ledger, read back: entries since a time, each range of offsets once.

An entry that was written again replaces the first one (`weir.model.ledger`). That happens to the last ranges of a partition after
a crash, so each entry is held back until so many later ones of its partition have come; then it is handed on and forgotten, and
thirty days of ledger need no more memory than an hour.
"""

from __future__ import annotations

import time
from collections import OrderedDict, defaultdict
from collections.abc import Iterator

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from weir.bus.codec import Decoder, WireFormatError
from weir.bus.config import client_config
from weir.bus.offsets import offsets_for_times, watermarks
from weir.bus.topics import TopicsUnavailable
from weir.model.ledger import LedgerEntry
from weir.model.topics import TopicNames
from weir.ops.settings import ServiceSettings

__all__ = ["HELD_BACK", "latest_entries", "read_ledger", "read_topic"]

HELD_BACK = 64
_READ = 500
_RECEIVERS = b"receive."
_SECONDS = 15.0


def read_topic(settings: ServiceSettings, topic: str, since_ms: int = 0) -> Iterator[Message]:
    """The records of a topic that are there now, each partition's in order, from the first one stamped at or after a time.

    Args:
        topic: full name.
        since_ms: milliseconds since 1970; 0 for all.

    Raises:
        TopicsUnavailable: no broker answers, or there is no such topic.
    """
    options = {"group.id": f"{settings.topic_prefix}.tools", "enable.auto.commit": False, "enable.partition.eof": True}
    consumer = Consumer({**client_config(settings), **options})
    try:
        found = consumer.list_topics(topic, _SECONDS).topics[topic]
        if found.error is not None:
            raise TopicsUnavailable(f"{topic}: {found.error}; `weir topics apply` creates it")
        wanted = [TopicPartition(topic, partition, since_ms) for partition in found.partitions]
        if since_ms:
            starts = offsets_for_times(consumer, wanted, _SECONDS)
        else:
            starts = [TopicPartition(topic, tp.partition, watermarks(consumer, tp, _SECONDS)[0]) for tp in wanted]
        ends = {tp.partition: watermarks(consumer, tp, _SECONDS)[1] for tp in wanted}
        # Nothing at or after that time: an offset below zero.
        starts = [tp for tp in starts if 0 <= tp.offset < ends[tp.partition]]
        consumer.assign(starts)
        left = {tp.partition for tp in starts}
        heard = time.monotonic()
        while left:
            # It waits for as many as were asked for, so not for long.
            messages = consumer.consume(_READ, 0.1)
            if messages:
                heard = time.monotonic()
            elif time.monotonic() - heard > _SECONDS:
                raise TopicsUnavailable(f"{topic}: nothing came for {_SECONDS:.0f} s, and it was not at its end")
            for message in messages:
                if (error := message.error()) is not None:
                    if error.code() != KafkaError._PARTITION_EOF:
                        raise TopicsUnavailable(f"{topic}: {error}")
                    left.discard(message.partition())
                    continue
                partition, offset = message.partition(), message.offset()
                if partition not in left:
                    continue
                if offset < ends[partition]:
                    yield message
                if offset >= ends[partition] - 1:
                    left.discard(partition)
    except KafkaException as error:
        raise TopicsUnavailable(f"{topic}: {error}") from error
    finally:
        consumer.close()


def read_ledger(settings: ServiceSettings, since_us: int, *, all_since_us: int = 0) -> Iterator[LedgerEntry]:
    """Ledger entries written since a time, each range once. Records that are no entries are left out.

    Args:
        since_us: microseconds UTC.
        all_since_us: of entries written before this only those of receivers are taken, which are few: most are of processors.

    Raises:
        TopicsUnavailable: as `read_topic`.
    """
    decode = Decoder()

    def entries() -> Iterator[LedgerEntry]:
        for message in read_topic(settings, TopicNames(settings.topic_prefix)["ledger"], max(1, since_us // 1000)):
            if message.timestamp()[1] * 1000 < all_since_us and not (message.key() or b"").startswith(_RECEIVERS):
                continue
            try:
                name, record = decode.named(message.value(), message.headers())
            except WireFormatError:
                continue
            if name == "ledger-entry":
                yield LedgerEntry.from_record(record)

    return latest_entries(entries())


def latest_entries(entries: Iterator[LedgerEntry]) -> Iterator[LedgerEntry]:
    """Of entries in the order in which they were written, the last one of each key."""
    held: defaultdict[tuple[str, str, int], OrderedDict[str, LedgerEntry]] = defaultdict(OrderedDict)
    for entry in entries:
        if entry.partition < 0:
            # A receiver's never come twice.
            yield entry
            continue
        recent = held[entry.service, entry.topic, entry.partition]
        recent[entry.key] = entry
        if len(recent) > HELD_BACK:
            yield recent.popitem(last=False)[1]
    for recent in held.values():
        yield from recent.values()
