"""What the detector remembers of one correlation's group: one value in its table.

Counts, and the ids of the signals they came from, are in the same value, so that neither can be ahead of the other after a crash.
Times are microseconds UTC. Two clocks are kept apart: *event time* (by the senders' clocks) decides what lies in one window;
*receive time* (by the receivers' clocks, which the ticks of the processors speak of) decides when something may be forgotten.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import Any

import orjson

__all__ = ["Bucket", "Episode", "GroupState", "StateError"]

_FORMAT = 1
_HEAD = struct.Struct(">BI")


class StateError(ValueError):
    """Bytes that are no state of this format."""


@dataclass(slots=True)
class Bucket:
    """Matches within one slice of event time. `received` is the latest receive time; `episode` 0 while it is part of none."""

    count: int
    first: int
    last: int
    received: int
    episode: int = 0


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

    def to_bytes(self) -> bytes:
        """The state as a table value: a head, JSON, then 16 bytes for each signal seen."""
        body = orjson.dumps(
            [
                self.group,
                self.slice_us,
                self.floor,
                self.received,
                self.sources,
                self.next_number,
                self.entities,
                [[start, b.count, b.first, b.last, b.received, b.episode] for start, b in self.buckets.items()],
                [_episode_fields(e) for e in self.episodes],
                self.loose,
            ]
        )
        seen = struct.pack(f">{2 * len(self.seen)}Q", *(n for pair in self.seen.items() for n in pair))
        return _HEAD.pack(_FORMAT, len(body)) + body + seen

    @classmethod
    def from_bytes(cls, data: bytes) -> GroupState:
        """The state in a table value.

        Raises:
            StateError: bytes of another format.
        """
        try:
            form, length = _HEAD.unpack_from(data)
            if form != _FORMAT:
                raise StateError(f"state of format {form}; this release reads {_FORMAT}")
            rest = data[_HEAD.size + length :]
            group, slice_us, floor, received, sources, number, entities, buckets, episodes, loose = orjson.loads(
                data[_HEAD.size : _HEAD.size + length]
            )
            numbers = struct.unpack(f">{len(rest) // 8}Q", rest)
            return cls(
                group=tuple(group),
                slice_us=slice_us,
                buckets={start: Bucket(*values) for start, *values in buckets},
                seen=dict(zip(numbers[::2], numbers[1::2], strict=True)),
                floor=floor,
                received=received,
                sources=sources,
                episodes=[Episode(*values) for values in episodes],
                next_number=number,
                loose=[(start, evidence, samples) for start, evidence, samples in loose],
                entities=entities,
            )
        except (struct.error, ValueError, TypeError) as error:
            if isinstance(error, StateError):
                raise
            raise StateError(f"not a detector state: {error}") from error


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
