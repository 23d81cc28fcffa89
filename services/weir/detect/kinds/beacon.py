"""Beacon: events of a group at regular intervals, as malware calls home.

**What is remembered.** Earliest and latest event time in each cell of `shortest`, on a grid that begins at the epoch, and of
those cells the latest `MAX_CELLS`. Earliest, latest and the latest of a set are the same in whatever order and however often
events come, so neither repeats nor late events need be known as such. The group is given up once nothing has been received for
`longest` and the allowed lateness: no interval that counts could follow. Most groups are single connections: they cost some
hundred bytes for that time.

**What is regular.** Events that follow each other by less than `shortest` are one beat, which begins with the first of them: a
page that loads with twenty connections, and a download of an hour. Of the intervals between beats, those from `shortest` to
`longest` count. At least `intervals` of them, and a share `regularity` within `tolerance` of their median: then it is a beacon.
An interval of twice or three times the median (within the same tolerance) is a regular one too: a beat was lost, by UDP,
sampling or a sleeping laptop.

**The alert** is told when that first holds, when the number of beats has doubled since it was told, and closed after four
intervals of silence (receive time) or when less than half the wanted share is regular. Its id is made of the group and its
first beat.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import median
from typing import Any, NamedTuple

from weir.detect.kinds.base import SECOND_US, BaseState, Notes, pack, period_text, trusted_time, unpack
from weir.detect.kinds.common import ALLOWED_LATENESS_US, Merged, SignalsHeader
from weir.detect.kinds.options import Reading
from weir.detect.kinds.state import StateError
from weir.detect.rules import Correlation
from weir.detect.telling.alerts import Origin, Told, alert_record
from weir.model.ids import stable_id

__all__ = ["Rhythm", "State", "advance", "check", "due", "load", "merge", "rhythm"]

_FORMAT = 11
# Beyond that the earliest goes; rhythm is judged over the latest.
MAX_CELLS = 128
SILENT_INTERVALS = 4
_MS = 1_000
_BASE = struct.Struct(">Q")
_TIMES = struct.Struct(">q")
# Times are kept as milliseconds after the first, in 4 bytes; what is further behind the last than that has no use.
_REACH_US = 0xFFFF_FFFF * _MS


class Rhythm(NamedTuple):
    """How regular the beats are: median interval in microseconds, share of intervals that keep to it, number of intervals."""

    interval: float
    share: float
    intervals: int


@dataclass(slots=True)
class _Alert:
    """One beacon that has been told. `past` counts beats since `first` that are no longer in the state."""

    alert_id: str
    first: int
    interval: float
    share: float
    past: int = 0
    revision: int = 0
    announced: int = 0
    created: int = 0


@dataclass(slots=True)
class State(BaseState):
    """`cells`: earliest and latest time of each, in order; microseconds, but whole milliseconds.

    Times up to `floor` count no more.
    """

    cells: list[tuple[int, int]] = field(default_factory=list)
    floor: int = 0
    alert: _Alert | None = None
    notes: Notes | None = None

    def to_bytes(self) -> bytes:
        """As a table value: JSON, then the first time in 8 bytes and 8 for each cell."""
        a, notes = self.alert, self.notes
        fields: list[Any] = [self.group, self.received, self.sources, self.floor]
        if a or notes:
            fields += [
                a and [a.alert_id, a.first, a.interval, a.share, a.past, a.revision, a.announced, a.created],
                notes and notes.fields(),
            ]
        if not self.cells:
            return pack(_FORMAT, fields)
        base = self.cells[0][0]
        numbers = [number // _MS for first, last in self.cells for number in (first - base, last - first)]
        return pack(_FORMAT, fields, struct.pack(f">Q{len(numbers)}I", base, *numbers))


def check(options: Mapping[str, Any]) -> Mapping[str, Any]:
    """Times in microseconds, shares as fractions. Raises UnsupportedError naming all mistakes."""
    reading = Reading("beacon", options)
    found = {
        "intervals": int(reading.number("intervals", 12, 4, MAX_CELLS - 1, whole=True)),
        "regularity": reading.number("regularity", 0.8, 0.5, 1),
        "tolerance": reading.number("tolerance", 0.1, 0.001, 0.3),
        "shortest": reading.duration("shortest", "10s", "1s", "1h"),
        "longest": reading.duration("longest", "1h", "10s", "8h"),
    }
    if found["longest"] <= found["shortest"]:
        reading.mistake("longest must be longer than shortest")
    reading.done()
    return found


def load(value: bytes) -> State:
    """The state of a table value. Raises StateError for bytes of another format."""
    fields, tail = unpack(_FORMAT, value)
    try:
        group, received, sources, floor, *rest = fields
        state = State(tuple(group), received, sources, [], floor)
        if rest:
            alert, notes = rest
            state.alert = _Alert(*alert) if alert else None
            state.notes = Notes(*notes) if notes else None
        if tail:
            (base,) = _BASE.unpack_from(tail)
            numbers = struct.unpack_from(f">{(len(tail) - _BASE.size) // 4}I", tail, _BASE.size)
            starts = [base + _MS * first for first in numbers[::2]]
            state.cells = [(first, first + _MS * length) for first, length in zip(starts, numbers[1::2], strict=True)]
    except (ValueError, TypeError, struct.error) as error:
        raise StateError(f"not a state of beacon: {error}") from error
    return state


def merge(
    state: State | None, header: SignalsHeader, partial: dict[str, Any], correlation: Correlation, watermark: int, origin: Origin
) -> Merged:
    """Add a partial's event times. Tells a beacon that begins, goes on long enough, or loses its rhythm."""
    options = correlation.options
    alerts = []
    if state and state.alert and header.received_at > (silent := _silent_at(state, state.alert, correlation)):
        # The tick that would have told is yet to come.
        alerts.append(_close(state, state.alert, silent, correlation, origin))
    if state is None:
        state = State(tuple(partial["group"]))
    elif header.received_at > state.received + _hold_us(correlation):
        # The same; what came before and comes again must not count.
        state = State(state.group, floor=max([state.floor, *(last for _, last in state.cells)]))
    sources = state.sources
    state.hear(header)
    if not _add(state, _times(partial, header.received_at), options["shortest"]):
        return Merged(state, alerts, changed=True, write=state.sources != sources or bool(alerts))
    return Merged(state, alerts + _judge(state, header.received_at, partial, correlation, origin), changed=True)


def advance(state: State, correlation: Correlation, watermark: int, origin: Origin) -> tuple[State | None, list[dict[str, Any]]]:
    """Close a beacon that has stopped; give the group up once no interval could follow."""
    alerts = []
    if state.alert and watermark > _silent_at(state, state.alert, correlation):
        alerts.append(_close(state, state.alert, _silent_at(state, state.alert, correlation), correlation, origin))
    return (None if watermark > state.received + _hold_us(correlation) else state), alerts


def due(state: State, correlation: Correlation) -> int:
    """When the beacon has been silent for long, or the group is of no use any more."""
    if state.alert:
        return _silent_at(state, state.alert, correlation) + 1
    return state.received + _hold_us(correlation) + 1


def rhythm(beats: Sequence[int], options: Mapping[str, Any]) -> Rhythm | None:
    """How regular these beats are, in order; None with too few intervals that count."""
    least, most, tolerance = options["shortest"], options["longest"], options["tolerance"]
    intervals = [b - a for a, b in pairwise(beats) if least <= b - a <= most]
    if len(intervals) < options["intervals"]:
        return None
    middle = median(intervals)
    margin = tolerance * middle
    twice, thrice = 2 * middle, 3 * middle
    regular = sum(
        -margin <= interval - middle <= margin or -margin <= interval - twice <= margin or -margin <= interval - thrice <= margin
        for interval in intervals
    )
    return Rhythm(middle, regular / len(intervals), len(intervals))


def _entities_of(group: tuple[str, ...], correlation: Correlation) -> dict[str, str]:
    """The entities that are group-by values: packed partials do not carry them."""
    sources = [source for member in correlation.members for source in member.sources.values()]
    return {
        name: value
        for source in sources
        for name, field in source.entities.items()
        for field_of_group, value in zip(source.group, group, strict=False)
        if field == field_of_group and value
    }


def _hold_us(correlation: Correlation) -> int:
    return int(correlation.options["longest"]) + ALLOWED_LATENESS_US


def _silent_at(state: State, alert: _Alert, correlation: Correlation) -> int:
    return state.received + min(SILENT_INTERVALS * round(alert.interval) + ALLOWED_LATENESS_US, _hold_us(correlation))


def _times(partial: dict[str, Any], received: int) -> Iterator[int]:
    for slice_ in partial["buckets"]:
        packed = slice_.get("times", b"")
        times = [time for (time,) in _TIMES.iter_unpack(packed[: len(packed) // _TIMES.size * _TIMES.size])]
        for time in times or (slice_["first"], slice_["last"]):
            yield trusted_time(time, received) // _MS * _MS


def _add(state: State, times: Iterable[int], width: int) -> bool:
    """Whether the cells have changed."""
    new = sorted(time for time in times if time > state.floor)
    if not new:
        return False
    old = state.cells
    if old and new[0] > old[-1][1]:
        cells = old.copy()
        for time in new:
            first = cells[-1][0]
            if time // width == first // width:
                cells[-1] = first, time
            else:
                cells.append((time, time))
    else:
        cells = _merged(old, new, width)
    kept = cells[-MAX_CELLS:]
    if kept[-1][1] - kept[0][0] > _REACH_US:
        kept = [cell for cell in kept if kept[-1][1] - cell[0] <= _REACH_US]
    gone = len(cells) - len(kept)
    if state.alert and gone:
        # A beat of several cells counts with its last one.
        ends = pairwise(cells[: gone + 1])
        begin = max(state.alert.first, old[0][0] if old else 0)
        state.alert.past += sum(after[0] - cell[1] >= width and cell[0] >= begin for cell, after in ends)
    state.cells = kept
    return kept != old


def _merged(cells: list[tuple[int, int]], times: list[int], width: int) -> list[tuple[int, int]]:
    """The cells with these times, which may be anywhere among them."""
    by_number: dict[int, tuple[int, int]] = {}
    # Another version of the rule may have had narrower cells.
    for first, last in [*cells, *((time, time) for time in times)]:
        known = by_number.get(first // width)
        by_number[first // width] = (min(known[0], first), max(known[1], last)) if known else (first, last)
    return [by_number[number] for number in sorted(by_number)]


def _beats(state: State, shortest: int) -> list[int]:
    """When the beats begin."""
    beats: list[int] = []
    end = 0
    for first, last in state.cells:
        if not beats or first - end >= shortest:
            beats.append(first)
        end = last
    return beats


def _judge(state: State, received: int, partial: dict[str, Any], correlation: Correlation, origin: Origin) -> list[dict[str, Any]]:
    options, alert = correlation.options, state.alert
    beats = _beats(state, options["shortest"]) if len(state.cells) > options["intervals"] else []
    found = rhythm(beats, options)
    if found is None or found.share < options["regularity"] / 2:
        closed = [_close(state, alert, received, correlation, origin)] if alert and beats else []
        # What most pairs are that have much to do with each other: no events are kept of them.
        state.notes = state.notes if state.alert else None
        return closed
    state.notes = state.notes or Notes()
    state.notes.add(partial, latest=True)
    if found.share < options["regularity"]:
        return []
    if alert is None:
        # Of two beacons in a row the second begins so much later at least.
        anchor = beats[0] // (options["intervals"] * options["shortest"])
        alert = state.alert = _Alert(stable_id(correlation.id, *state.group, str(anchor)), beats[0], 0, 0)
        state.notes.entities |= _entities_of(state.group, correlation)
    alert.interval, alert.share = found.interval, found.share
    if alert.revision and _count(state, alert, correlation) < 2 * alert.announced:
        return []
    return [_tell(state, alert, "update" if alert.revision else "new", received, correlation, origin)]


def _count(state: State, alert: _Alert, correlation: Correlation) -> int:
    return alert.past + sum(beat >= alert.first for beat in _beats(state, correlation.options["shortest"]))


def _close(state: State, alert: _Alert, at: int, correlation: Correlation, origin: Origin) -> dict[str, Any]:
    record = _tell(state, alert, "closed", at, correlation, origin)
    # What has been told is not part of the next beacon, which is another alert.
    state.floor, state.cells, state.alert, state.notes = state.cells[-1][1], [], None, None
    return record


def _tell(state: State, alert: _Alert, kind: str, at: int, correlation: Correlation, origin: Origin) -> dict[str, Any]:
    alert.revision += 1
    alert.announced, alert.created = _count(state, alert, correlation), at
    notes = state.notes or Notes()
    told = Told(
        alert_id=alert.alert_id,
        state=kind,
        revision=alert.revision,
        group=state.group,
        events=alert.announced,
        first=alert.first,
        last=state.cells[-1][1],
        created=at,
        measured=alert.interval / SECOND_US,
        sentence=f"every {period_text(alert.interval)}, {alert.share:.0%} regular, {alert.announced} connections",
        **notes.told(),
    )
    return alert_record(correlation, told, origin)
