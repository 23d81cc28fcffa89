"""What the detector remembers of one correlation's group: one value in its table.

Counts, and what tells which signals they came from, are in the same value, so that neither can be ahead of the other after a crash.
Times are microseconds UTC. Two clocks are kept apart: *event time* (by the senders' clocks) decides what lies in one window;
*receive time* (by the receivers' clocks, which the ticks of the processors speak of) decides when something may be forgotten.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import orjson

from weir.detect.kinds.common import Heads
from weir.detect.kinds.slices import Bucket

__all__ = ["Bucket", "Copies", "Episode", "GroupState", "Note", "StateError"]

_FORMAT = 1
_WITH_COPIES = 2
_WITH_DETAILS = 3
_HEAD = struct.Struct(">BI")
# Hash of an event, receiver, how often it came by this receiver, second of its latest receipt.
_COPY = struct.Struct(">QIII")
_MOST = 0xFFFF_FFFF


class StateError(ValueError):
    """Bytes that are no state of this format."""


@dataclass(slots=True)
class Note:
    """What an alert may show of one partial: of the slice that begins at `start`."""

    start: int
    evidence: list[dict[str, Any]] = field(default_factory=list)
    samples: list[str] = field(default_factory=list)
    entities: dict[str, str] = field(default_factory=dict)
    shown: list[str] = field(default_factory=list)
    datasets: list[str] = field(default_factory=list)
    member_alerts: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Episode:
    """One burst, with one alert.

    `start` and `end` are the first and last slice. `past` counts what is no longer in buckets, between `first` and `last`.
    `announced` is the size at the last doubling that was told, `revision` its number, `created` its time. `settled` says that the
    count has been told after a pause in the burst, since the last doubling. `measured` is the most that a window came to, or what
    the last window that was judged came to; `told` are events and measure of the last record.
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
    announced: float = 0
    created: int = 0
    evidence: list[dict[str, Any]] = field(default_factory=list)
    samples: list[str] = field(default_factory=list)
    entities: dict[str, str] = field(default_factory=dict)
    settled: bool = False
    measured: float = 0
    told: list[float] = field(default_factory=list)
    related: dict[str, list[str]] = field(default_factory=dict)
    values: list[str] = field(default_factory=list)
    datasets: list[str] = field(default_factory=list)
    member_alerts: list[str] = field(default_factory=list)


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
        seen: by 8-byte id of each signals record counted here, when it came, in receive time.
        floor: what came before this is forgotten.
        received: latest receive time of anything counted here.
        sources: raw topics the signals came from.
        episodes: bursts, oldest first.
        next_number: number of the next episode.
        loose: notes of slices in no episode yet.
        entities: of the latest partial.
        copies: events counted here of which copies may come.
        heads: how far each raw partition has been counted here.
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
    loose: list[Note] = field(default_factory=list)
    entities: dict[str, str] = field(default_factory=dict)
    copies: Copies = field(default_factory=Copies)
    heads: Heads = field(default_factory=Heads)

    def to_bytes(self) -> bytes:
        """The state as a table value: a head, JSON, 16 bytes for each signal seen, the copies, and the details of the slices."""
        details = [bucket.details for bucket in self.buckets.values()]
        copies = self.copies.to_bytes()
        body = orjson.dumps(
            [
                self.group,
                self.slice_us,
                self.floor,
                self.received,
                self.sources,
                self.next_number,
                self.entities,
                [bucket.fields(start) for start, bucket in self.buckets.items()],
                [_fields(episode) for episode in self.episodes],
                [_fields(note) for note in self.loose],
                self.heads.rows(),
                len(self.seen),
                len(copies),
            ]
        )
        seen = struct.pack(f">{2 * len(self.seen)}Q", *(n for pair in self.seen.items() for n in pair))
        return b"".join([_HEAD.pack(_WITH_DETAILS, len(body)), body, seen, copies, *[d.to_bytes() for d in details if d]])

    @classmethod
    def from_bytes(cls, data: bytes) -> GroupState:
        """The state in a table value, of this format or of one before it.

        Raises:
            StateError: bytes of another format.
        """
        try:
            form, length = _HEAD.unpack_from(data)
            if form not in {_FORMAT, _WITH_COPIES, _WITH_DETAILS}:
                raise StateError(f"state of format {form}; this release reads {_FORMAT} to {_WITH_DETAILS}")
            fields = orjson.loads(data[_HEAD.size : _HEAD.size + length])
            rest = memoryview(data)[_HEAD.size + length :]
            return cls._read(fields, rest) if form == _WITH_DETAILS else cls._read_old(fields, bytes(rest), form)
        except (struct.error, ValueError, TypeError, KeyError, IndexError) as error:
            if isinstance(error, StateError):
                raise
            raise StateError(f"not a detector state: {error}") from error

    @classmethod
    def _read(cls, fields: list[Any], rest: memoryview) -> GroupState:
        group, slice_us, floor, received, sources, number, entities, buckets, episodes, loose, heads, seen, copies = fields
        numbers = struct.unpack_from(f">{2 * seen}Q", rest)
        at = 16 * seen + copies
        found: dict[int, Bucket] = {}
        for row in buckets:
            bucket = Bucket.of(row)
            if bucket.details is not None:
                at = bucket.details.read(rest, at)
            found[row[0]] = bucket
        return cls(
            group=tuple(group),
            slice_us=slice_us,
            buckets=found,
            seen=dict(zip(numbers[::2], numbers[1::2], strict=True)),
            floor=floor,
            received=received,
            sources=sources,
            episodes=[Episode(*values) for values in episodes],
            next_number=number,
            loose=[Note(*values) for values in loose],
            entities=entities,
            copies=Copies.from_bytes(bytes(rest[16 * seen : 16 * seen + copies])),
            heads=Heads(heads),
        )

    @classmethod
    def _read_old(cls, fields: list[Any], rest: bytes, form: int) -> GroupState:
        """Formats 1 and 2, of the releases that knew event_count alone."""
        group, slice_us, floor, received, sources, number, entities, buckets, episodes, loose = fields
        copies = Copies()
        if form == _WITH_COPIES:
            end = 4 + 16 * int(struct.unpack_from(">I", rest)[0])
            rest, copies = rest[4:end], Copies.from_bytes(rest[end:])
        numbers = struct.unpack(f">{len(rest) // 8}Q", rest)
        return cls(
            group=tuple(group),
            slice_us=slice_us,
            buckets=dict(_old_buckets(buckets)),
            seen=dict(zip(numbers[::2], numbers[1::2], strict=True)),
            floor=floor,
            received=received,
            sources=sources,
            episodes=[Episode(*values) for values in episodes],
            next_number=number,
            loose=[Note(start, evidence, samples) for start, evidence, samples in loose],
            entities=entities,
            copies=copies,
        )


def _old_buckets(rows: list[list[Any]]) -> Iterable[tuple[int, Bucket]]:
    for start, count, first, last, received, episode, *unnamed in rows:
        bucket = Bucket(count, first, last, received, episode)
        bucket.unnamed = dict(map(tuple, unnamed[0])) if unnamed else {}
        if episode:
            bucket.covered = (count, first, last)
        yield start, bucket


def _fields(one: Note | Episode) -> list[Any]:
    return [getattr(one, name) for name in one.__slots__]
