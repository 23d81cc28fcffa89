"""The loss oracle: what of a generated run is where it should be, told by the stamps, source by source and number by number.

`Oracle` is a library without I/O: give it stamps in the order in which they were read. `read_topics` gives it those of Kafka
topics. Memory grows with the number of gaps, not of events.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from confluent_kafka import Consumer, KafkaException, TopicPartition

from weir.bus.codec import Decoder, WireFormatError
from weir.bus.config import client_config
from weir.bus.offsets import offsets_for_times, watermarks
from weir.local.generate import stamp
from weir.local.generate.intervals import IntervalSet
from weir.ops.settings import ServiceSettings

__all__ = ["Expected", "Oracle", "SourceVerdict", "Verdict", "expected_of", "raw_stamps", "read_topics"]

_SHOWN: Final = 20
_POLL_S: Final = 0.5

Range = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Expected:
    """What one source sent: numbers 0 to `sent` - 1, the first `acknowledged` of them acknowledged (None: the protocol has none).

    `uncertain` are ranges of numbers, both ends included, that were under way when a connection broke.
    """

    source: int
    name: str
    sent: int
    acknowledged: int | None = None
    uncertain: tuple[Range, ...] = ()


def expected_of(summary: Mapping[str, Any]) -> list[Expected]:
    """What a summary of `weir generate` says was sent. Raises ValueError where it is no such summary."""
    try:
        return [
            Expected(
                int(one["source"]),
                str(one["name"]),
                int(one["sent"]),
                None if one["acknowledged"] is None else int(one["acknowledged"]),
                tuple((int(first), int(last)) for first, last in one["uncertain"]),
            )
            for one in summary["sources"]
        ]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"this is no summary of `weir generate`: {error!r}") from error


@dataclass(frozen=True, slots=True)
class SourceVerdict:
    """What became of one source's events.

    `missing` must be there; `in_doubt` are not there and need not be: they were under way when a connection broke, or never
    acknowledged. `missing_ranges` has the first of the former, both ends included. `repeated` counts copies, `late` events that
    came after a higher number, `invented` numbers that were never sent.
    """

    expected: Expected
    found: int
    missing: int
    missing_ranges: tuple[Range, ...]
    in_doubt: int
    repeated: int
    late: int
    invented: int

    @property
    def ok(self) -> bool:
        return not self.missing and not self.invented


@dataclass(frozen=True, slots=True)
class Verdict:
    """All sources; `damaged` stamps fail their checksum, `foreign` belong to no source of the run."""

    sources: tuple[SourceVerdict, ...]
    damaged: int
    foreign: int

    @property
    def ok(self) -> bool:
        """Nothing is missing, damaged or invented. Copies are no fault: what is delivered at least once may come twice."""
        return not self.damaged and not self.foreign and all(one.ok for one in self.sources)

    def total(self, name: str) -> int:
        """Sum of one of the counts over all sources."""
        return sum(int(getattr(one, name)) for one in self.sources)

    def record(self) -> dict[str, Any]:
        """As JSON has it."""
        counts = ("found", "missing", "in_doubt", "repeated", "late", "invented")
        return {
            "ok": self.ok,
            "sent": sum(one.expected.sent for one in self.sources),
            **{name: self.total(name) for name in counts},
            "damaged": self.damaged,
            "foreign": self.foreign,
            "sources": [
                {
                    "source": one.expected.source,
                    "name": one.expected.name,
                    "sent": one.expected.sent,
                    "acknowledged": one.expected.acknowledged,
                    **{name: getattr(one, name) for name in counts},
                    "missing_ranges": one.missing_ranges,
                }
                for one in self.sources
            ],
        }


@dataclass(slots=True)
class _Seen:
    numbers: IntervalSet = field(default_factory=IntervalSet)
    highest: int = -1
    repeated: int = 0
    late: int = 0


class Oracle:
    """Compares the stamps of one run with what was sent.

    Args:
        run: whose stamps count; those of other runs are passed over.
        expected: what was sent.
    """

    def __init__(self, run: int, expected: Iterable[Expected]) -> None:
        self._run = run
        self._expected = {one.source: one for one in expected}
        self._seen = {source: _Seen() for source in self._expected}
        self._damaged = self._foreign = 0
        self.found = 0
        self.sent = sum(one.sent for one in self._expected.values())

    def add(self, found: stamp.Found) -> None:
        """What one unit or event holds, in the order of reading.

        Raises:
            intervals.TooFragmentedError: a source has more gaps than memory is meant for.
        """
        self._damaged += found.damaged
        for run, source, sequence in found.stamps:
            if run != self._run:
                continue
            seen = self._seen.get(source)
            if seen is None:
                self._foreign += 1
            elif not seen.numbers.add(sequence):
                seen.repeated += 1
            else:
                self.found += 1
                if sequence < seen.highest:
                    seen.late += 1
                else:
                    seen.highest = sequence

    def verdict(self) -> Verdict:
        """As it stands."""
        return Verdict(tuple(self._judge(one) for one in self._expected.values()), self._damaged, self._foreign)

    def _judge(self, expected: Expected) -> SourceVerdict:
        seen = self._seen[expected.source]
        doubts = list(expected.uncertain)
        if expected.acknowledged is not None:
            doubts.append((expected.acknowledged, expected.sent - 1))
        missing: list[Range] = []
        lost = in_doubt = 0
        for gap in seen.numbers.gaps(0, expected.sent - 1):
            sure = list(_without(gap, doubts))
            size = sum(last - first + 1 for first, last in sure)
            lost += size
            in_doubt += gap[1] - gap[0] + 1 - size
            missing.extend(sure[: _SHOWN - len(missing)])
        invented = sum(last - max(first, expected.sent) + 1 for first, last in seen.numbers.ranges() if last >= expected.sent)
        found = len(seen.numbers) - invented
        return SourceVerdict(expected, found, lost, tuple(missing), in_doubt, seen.repeated, seen.late, invented)


def _without(gap: Range, cuts: Iterable[Range]) -> Iterator[Range]:
    """What is left of a range without some others."""
    following, end = gap
    for first, last in sorted(cuts):
        if last < following or first > end:
            continue
        if first > following:
            yield following, first - 1
        following = max(following, last + 1)
    if following <= end:
        yield following, end


def raw_stamps(units: Iterable[bytes], run: int, *, flows: bool) -> Iterator[stamp.Found]:
    """The stamps of raw units, each stamp of a unit once (a document may hold it twice)."""
    for unit in units:
        if flows:
            yield stamp.Found(stamp.in_flows(unit, run), 0)
        else:
            found = stamp.in_text(unit)
            yield stamp.Found(list(dict.fromkeys(found.stamps)), found.damaged)


def read_topics(
    settings: ServiceSettings,
    topics: list[str],
    since_us: int,
    oracle: Oracle,
    run: int,
    *,
    flows: bool,
    silence_s: float = 5.0,
    complete: bool = False,
) -> int:
    """Give an oracle what stands in raw or event topics since a time (microseconds UTC, of the records); returns how many records.

    Reads until everything that was sent has been found and the ends of the topics are reached, or nothing new has come for
        `silence_s`. Of `complete` topics, which nobody writes to any more, it ends where they end. Without a group, and commits
    nothing.

    Raises:
        KafkaException: the cluster does not answer, or a topic does not exist.
    """
    consumer = Consumer(
        {
            **client_config(settings),
            "group.id": "weir-verify",  # librdkafka wants one; nothing is committed under it
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
            "enable.partition.eof": False,
        }
    )
    decode = Decoder()
    records = 0
    try:
        starts = [TopicPartition(topic, number, since_us // 1000) for topic in topics for number in _partitions(consumer, topic)]
        starts = [_from(consumer, start) for start in offsets_for_times(consumer, starts, 30)]
        consumer.assign(starts)
        unread = _unread(consumer, starts) if complete else {}
        heard = time.monotonic()
        while time.monotonic() - heard < silence_s and (unread or not complete):
            messages = consumer.consume(500, _POLL_S)
            for message in messages:
                if message.error() is not None:
                    continue
                heard = time.monotonic()
                records += 1
                where = message.topic(), message.partition()
                if message.offset() >= unread.get(where, sys.maxsize):
                    del unread[where]
                try:
                    name, record = decode.named(message.value(), message.headers())
                except WireFormatError:
                    continue
                if name == "raw-batch":
                    for found in raw_stamps(record["units"], run, flows=flows):
                        oracle.add(found)
                else:
                    oracle.add(stamp.in_event(record, run))
            if not messages and oracle.found >= oracle.sent and _at_end(consumer):
                break
    finally:
        consumer.close()
    return records


def _partitions(consumer: Consumer, topic: str) -> list[int]:
    found = consumer.list_topics(topic, 10).topics[topic]
    if found.error is not None:
        raise KafkaException(found.error)
    return sorted(found.partitions)


def _from(consumer: Consumer, start: TopicPartition) -> TopicPartition:
    """Where to read from; with nothing as young yet, the end as it is now, so that what comes from now on is read."""
    if start.offset < 0:
        start.offset = watermarks(consumer, TopicPartition(start.topic, start.partition))[1]
    return start


def _unread(consumer: Consumer, starts: list[TopicPartition]) -> dict[tuple[str, int], int]:
    """The last offset of each partition that holds anything from its start on."""
    ends = [(one, watermarks(consumer, one)[1]) for one in starts]
    return {(one.topic, one.partition): end - 1 for one, end in ends if one.offset < end}


def _at_end(consumer: Consumer) -> bool:
    for position in consumer.position(consumer.assignment()):
        _, high = watermarks(consumer, TopicPartition(position.topic, position.partition))
        # A position is -1001 until something has been read.
        if 0 <= position.offset < high:
            return False
    return True
