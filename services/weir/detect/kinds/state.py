"""What the detector remembers of one correlation's group: one value in its table.

Counts, and the ids of the signals they came from, are in the same value, so that neither can be ahead of the other after a crash.
Times are microseconds UTC. Two clocks are kept apart: *event time* (by the senders' clocks) decides what lies in one window;
*receive time* (by the receivers' clocks, which the ticks of the processors speak of) decides when something may be forgotten.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import orjson

__all__ = ["Bucket", "Copies", "Episode", "GroupState", "StateError"]

_FORMAT = 1
_WITH_COPIES = 2
_HEAD = struct.Struct(">BI")
# Hash of an event, receiver, how often it came by this receiver, second of its latest receipt.
_COPY = struct.Struct(">QIII")
_MOST = 0xFFFF_FFFF


class StateError(ValueError):
    """Bytes that are no state of this format."""


@dataclass(slots=True)
class Bucket:
    """Matches within one slice of event time. `received` is the latest receive time; `episode` 0 while it is part of none.

    `unnamed`: by receiver, events that may be copies but whose hash is not remembered; the most of any receiver is in `count`.
    """

    count: int
    first: int
    last: int
    received: int
    episode: int = 0
    unnamed: dict[int, int] = field(default_factory=dict)


@dataclass(slots=True)
class Episode:
    """One burst, with one alert.

    `start` and `end` are the first and last slice. `past` counts what is no longer in buckets, between `first` and `last`.
    `announced` is the count of the last alert record, `revision` its number, `created` its time. `settled` says that the count
    has been told after a pause in the burst, since the last doubling.
    """

    number: int
    alert_id: str
    start: int
    end: int
    first: int
    last: int
    received: int
    past: int = 0
    closed: bool = False
    revision: int = 0
    announced: int = 0
    created: int = 0
    evidence: list[dict[str, Any]] = field(default_factory=list)
    samples: list[str] = field(default_factory=list)
    entities: dict[str, str] = field(default_factory=dict)
    settled: bool = False


class Copies:
    """Events that may come by several receivers: by hash, how often each receiver brought it and when it came last.

    Within one receiver equal content is so many events; between receivers it is copies. So an event is there as often as the
    receiver has it that has it most often, in whatever order they bring it.
    """

    __slots__ = ("_entries", "size")

    def __init__(self) -> None:
        self._entries: dict[int, dict[int, list[int]]] = {}
        self.size = 0

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Copies) and self._entries == other._entries

    __hash__ = None  # type: ignore[assignment]

    def __contains__(self, number: int) -> bool:
        return number in self._entries

    def add(self, number: int, receiver: int, second: int) -> bool:
        """Note that this receiver brought an event with this hash; whether that is one more event than before."""
        by_receiver = self._entries.setdefault(number, {})
        most = max((count for count, _ in by_receiver.values()), default=0)
        entry = by_receiver.get(receiver)
        if entry is None:
            entry = by_receiver[receiver] = [0, 0]
            self.size += 1
        entry[0] = min(entry[0] + 1, _MOST)
        entry[1] = max(entry[1], second)
        return entry[0] > most

    def forget(self, second: int) -> None:
        """Drop the hashes that have not come since."""
        old = [number for number, found in self._entries.items() if max(last for _, last in found.values()) < second]
        for number in old:
            self.size -= len(self._entries.pop(number))

    def to_bytes(self) -> bytes:
        """Some bytes for each hash and receiver."""
        return b"".join(
            _COPY.pack(number, receiver, count, last)
            for number, found in self._entries.items()
            for receiver, (count, last) in found.items()
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> Copies:
        """From `to_bytes`. Raises struct.error for a length that fits no number of entries."""
        copies = cls()
        for number, receiver, count, last in _COPY.iter_unpack(data):
            copies._entries.setdefault(number, {})[receiver] = [count, last]
            copies.size += 1
        return copies


@dataclass(slots=True)
class GroupState:
    """State of one (correlation, group).

    Attributes:
        group: values of the group-by fields.
        slice_us: width of the slices.
        buckets: by start of the slice.
        seen: receive time by 8-byte id of each signals record counted here.
        floor: signals received before this are refused: what was seen of them is forgotten.
        received: latest receive time of anything counted here.
        sources: raw topics the signals came from.
        episodes: bursts, oldest first.
        next_number: number of the next episode.
        loose: evidence and samples of slices in no episode yet: (slice, evidence, samples).
        entities: of the latest partial.
        copies: events counted here of which copies may come.
    """

    group: tuple[str, ...]
    slice_us: int
    buckets: dict[int, Bucket] = field(default_factory=dict)
    seen: dict[int, int] = field(default_factory=dict)
    floor: int = 0
    received: int = 0
    sources: list[str] = field(default_factory=list)
    episodes: list[Episode] = field(default_factory=list)
    next_number: int = 1
    loose: list[tuple[int, list[dict[str, Any]], list[str]]] = field(default_factory=list)
    entities: dict[str, str] = field(default_factory=dict)
    copies: Copies = field(default_factory=Copies)

    def to_bytes(self) -> bytes:
        """The state as a table value: a head, JSON, then 16 bytes for each signal seen.

        Where copies may come: a head of format 2, JSON, the number of signals seen, 16 bytes for each, then the copies.
        """
        with_copies = bool(self.copies.size or any(b.unnamed for b in self.buckets.values()))
        body = orjson.dumps(
            [
                self.group,
                self.slice_us,
                self.floor,
                self.received,
                self.sources,
                self.next_number,
                self.entities,
                [_bucket_fields(start, b, with_copies) for start, b in self.buckets.items()],
                [_episode_fields(e) for e in self.episodes],
                self.loose,
            ]
        )
        seen = struct.pack(f">{2 * len(self.seen)}Q", *(n for pair in self.seen.items() for n in pair))
        if not with_copies:
            return _HEAD.pack(_FORMAT, len(body)) + body + seen
        return _HEAD.pack(_WITH_COPIES, len(body)) + body + struct.pack(">I", len(self.seen)) + seen + self.copies.to_bytes()

    @classmethod
    def from_bytes(cls, data: bytes) -> GroupState:
        """The state in a table value.

        Raises:
            StateError: bytes of another format.
        """
        try:
            form, length = _HEAD.unpack_from(data)
            if form not in {_FORMAT, _WITH_COPIES}:
                raise StateError(f"state of format {form}; this release reads {_FORMAT} and {_WITH_COPIES}")
            rest = data[_HEAD.size + length :]
            group, slice_us, floor, received, sources, number, entities, buckets, episodes, loose = orjson.loads(
                data[_HEAD.size : _HEAD.size + length]
            )
            copies = Copies()
            if form == _WITH_COPIES:
                end = 4 + 16 * int(struct.unpack_from(">I", rest)[0])
                rest, copies = rest[4:end], Copies.from_bytes(rest[end:])
            numbers = struct.unpack(f">{len(rest) // 8}Q", rest)
            return cls(
                group=tuple(group),
                slice_us=slice_us,
                buckets=dict(_buckets(buckets)),
                seen=dict(zip(numbers[::2], numbers[1::2], strict=True)),
                floor=floor,
                received=received,
                sources=sources,
                episodes=[Episode(*values) for values in episodes],
                next_number=number,
                loose=[(start, evidence, samples) for start, evidence, samples in loose],
                entities=entities,
                copies=copies,
            )
        except (struct.error, ValueError, TypeError) as error:
            if isinstance(error, StateError):
                raise
            raise StateError(f"not a detector state: {error}") from error


def _bucket_fields(start: int, b: Bucket, with_copies: bool) -> list[Any]:
    fields: list[Any] = [start, b.count, b.first, b.last, b.received, b.episode]
    return [*fields, list(b.unnamed.items())] if with_copies else fields


def _buckets(rows: list[list[Any]]) -> Iterable[tuple[int, Bucket]]:
    for start, count, first, last, received, episode, *unnamed in rows:
        yield start, Bucket(count, first, last, received, episode, dict(map(tuple, unnamed[0])) if unnamed else {})


def _episode_fields(e: Episode) -> list[Any]:
    return [
        e.number,
        e.alert_id,
        e.start,
        e.end,
        e.first,
        e.last,
        e.received,
        e.past,
        e.closed,
        e.revision,
        e.announced,
        e.created,
        e.evidence,
        e.samples,
        e.entities,
        e.settled,
    ]
