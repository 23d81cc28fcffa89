"""First seen: a value that is new to a group which has been known for long enough.

**What is remembered** of a group: when it was first seen, and of each value (8 bytes of hash) when it was last received, on a
grid of a 32nd of `forget`. A known value that is received again within the same cell leaves the state as it is, so what goes on
as ever costs no write. Earliest and latest are the same in whatever order events come.

**New** is a value that is not remembered, at a time when the group has been known for `learn`. A value that has not been received
for `forget` is no longer remembered (not before that, and at most two cells later). A group that has not been received for that
long is forgotten whole and learns anew. A value is judged once, when it first comes.

**The alert** of a value is told at once, and closed, with the number of events until then, when the timespan has passed. Its id
is made of the group, the value, and the receive time in units of `forget`, so that a value forgotten and seen again is another
alert. Where more than `MAX_OPEN` values of a group are new within a timespan, as a scan brings them, the further ones are one
alert.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import orjson

from weir.detect.kinds.base import SECOND_US, BaseState, Notes, add_count, pack, trusted_time, unpack
from weir.detect.kinds.common import Heads, Merged, SignalsHeader
from weir.detect.kinds.options import Reading
from weir.detect.kinds.state import StateError
from weir.detect.matching.fields import getter
from weir.detect.rules import Correlation, Source
from weir.detect.signals.gathering import value_hash
from weir.detect.telling.alerts import Origin, Told, alert_record
from weir.model.ids import stable_id

__all__ = ["State", "advance", "check", "due", "load", "merge"]

_FORMAT = 10
CELLS = 32
# Values of a group; beyond that the one received longest ago goes, and is new when it comes again.
MAX_VALUES = 1_024
MAX_OPEN = 20
# Alerts that wait for a watermark that stands still; beyond that the oldest is closed.
MAX_WAITING = 64
# Values that the alert of further ones names.
MAX_TEXTS = 20
# Hash, and the beginning of the cell of time in seconds.
_ENTRY = struct.Struct(">QI")
_VALUE = struct.Struct(">Qqq")
_OTHERS = 0


class _Sighting(NamedTuple):
    """A value in one partial: its place among the values shown, or -1."""

    value: int
    first: int
    last: int
    events: int
    text: str
    place: int
    alone: bool


@dataclass(slots=True)
class _Alert:
    """An alert that collects. `value` is 0 where it is of several: then `texts` are some of them and `number` says how many."""

    value: int
    alert_id: str
    opened: int
    first: int
    last: int
    texts: list[str]
    number: int = 1
    revision: int = 0
    announced: int = 0
    counts: dict[int, float] = field(default_factory=dict)
    notes: Notes = field(default_factory=Notes)


@dataclass(slots=True)
class State(BaseState):
    """`since`: earliest event time of the group. `values`: by hash, when the cell began that it was last received in, seconds."""

    since: int = 0
    values: dict[int, int] = field(default_factory=dict)
    heads: Heads = field(default_factory=Heads)
    open: list[_Alert] = field(default_factory=list)

    def to_bytes(self) -> bytes:
        """As a table value: JSON, then 12 bytes for each value."""
        rows = [
            [
                *(a.value, a.alert_id, a.opened, a.first, a.last, a.texts, a.number, a.revision, a.announced),
                *(list(a.counts.items()), *a.notes.fields()),
            ]
            for a in self.open
        ]
        tail = b"".join(_ENTRY.pack(value, cell) for value, cell in self.values.items())
        return pack(_FORMAT, [self.group, self.received, self.sources, self.since, self.heads.rows(), rows], tail)


def check(options: Mapping[str, Any]) -> Mapping[str, Any]:
    """Times in microseconds. Raises UnsupportedError naming all mistakes."""
    reading = Reading("first_seen", options)
    found: dict[str, Any] = {
        "field": reading.names("field"),
        "learn": reading.duration("learn", "7d", "1m", "365d"),
        "forget": reading.duration("forget", "30d", "1h", "365d"),
    }
    if found["forget"] <= found["learn"]:
        reading.mistake("forget must be longer than learn")
    reading.done()
    return found


def load(value: bytes) -> State:
    """The state of a table value. Raises StateError for bytes of another format."""
    fields, tail = unpack(_FORMAT, value)
    try:
        group, received, sources, since, heads, rows = fields
        return State(
            group=tuple(group),
            received=received,
            sources=sources,
            since=since,
            values=dict(_ENTRY.iter_unpack(tail)),
            heads=Heads(map(tuple, heads)),
            open=list(map(_alert, rows)),
        )
    except (ValueError, TypeError, struct.error) as error:
        raise StateError(f"not a state of first_seen: {error}") from error


def _alert(row: list[Any]) -> _Alert:
    *head, counts, evidence, samples, entities, datasets = row
    alert = _Alert(*head)
    alert.counts, alert.notes = dict(map(tuple, counts)), Notes(evidence, samples, entities, datasets)
    return alert


def merge(
    state: State | None, header: SignalsHeader, partial: dict[str, Any], correlation: Correlation, watermark: int, origin: Origin
) -> Merged:
    """Look at a partial's values, and tell those that are new."""
    alerts: list[dict[str, Any]] = []
    if state is None or header.received_at > _forgotten_at(state, correlation):
        # The tick that would have told is yet to come.
        alerts += [_tell(state, alert, correlation, origin, closed=True) for alert in state.open] if state else []
        state = State(tuple(partial["group"]), heads=state.heads if state else Heads())
    if not state.heads.take(header):
        return Merged(state, [_tell(state, alert, correlation, origin, again=True) for alert in state.open], changed=False)
    since, before = state.since, len(state.sources)
    state.hear(header)
    sightings = list(_sightings(partial))
    for sighting in sightings:
        time = trusted_time(sighting.first, header.received_at)
        state.since = min(state.since or time, time)
    changed = state.since != since or len(state.sources) != before
    for sighting in sightings:
        changed |= _see(state, sighting, header, partial, correlation, origin, alerts)
    return Merged(state, alerts, changed=True, write=changed)


def advance(state: State, correlation: Correlation, watermark: int, origin: Origin) -> tuple[State | None, list[dict[str, Any]]]:
    """Close the alerts whose timespan has passed; forget a group that has not been received for long."""
    over = [alert for alert in state.open if watermark > alert.opened + correlation.timespan_us]
    alerts = [_tell(state, alert, correlation, origin, closed=True) for alert in over]
    state.open = [alert for alert in state.open if alert not in over]
    return (None if watermark >= _forgotten_at(state, correlation) else state), alerts


def due(state: State, correlation: Correlation) -> int:
    """When the oldest alert is to be closed, or the group forgotten."""
    return min([a.opened + correlation.timespan_us + 1 for a in state.open], default=_forgotten_at(state, correlation))


def _forgotten_at(state: State, correlation: Correlation) -> int:
    # The state does not know of the latest receipt, but of its cell.
    return state.received + correlation.timespan_us + int(correlation.options["forget"]) * (CELLS + 2) // CELLS


def _sightings(partial: dict[str, Any]) -> Iterator[_Sighting]:
    """The partial's values, each once. Where a slice has one value, its count is that of the value; else it is not known."""
    shown = {value_hash(text): (place, text) for place, text in enumerate(partial.get("shown", ()))}
    found: dict[int, list[int]] = {}
    for slice_ in partial["buckets"]:
        packed = slice_["values"]
        entries = list(_VALUE.iter_unpack(packed[: len(packed) // _VALUE.size * _VALUE.size]))
        for value, first, last in entries:
            events = slice_["count"] if len(entries) == 1 else 1
            known = found.setdefault(value, [first, last, 0])
            found[value] = [min(known[0], first), max(known[1], last), known[2] + events]
    for value, (first, last, events) in found.items():
        place, text = shown.get(value, (-1, ""))
        yield _Sighting(value, first, last, events, text, place, len(found) == 1)


def _see(
    state: State,
    sighting: _Sighting,
    header: SignalsHeader,
    partial: dict[str, Any],
    correlation: Correlation,
    origin: Origin,
    alerts: list[dict[str, Any]],
) -> bool:
    """Whether the state has changed by this sighting; its alert, where there is one to tell, goes to `alerts`."""
    options = correlation.options
    width = options["forget"] // CELLS // SECOND_US
    begun = header.received_at // SECOND_US // width * width
    known = state.values.get(sighting.value)
    if known is None or begun > known:
        state.values[sighting.value] = begun
        _bound(state, sighting.value)
    collecting = _collecting(state, header, correlation)
    if (alert := next((a for a in collecting if a.value == sighting.value), None)) is not None:
        _collect(alert, sighting, header, partial, correlation)
        return True
    if known is not None and begun - known <= CELLS * width:
        return bool(begun > known)
    if trusted_time(sighting.first, header.received_at) >= state.since + options["learn"]:
        alerts += _open(state, sighting, header, partial, correlation, origin)
        if len(state.open) > MAX_WAITING:
            alerts.append(_tell(state, state.open.pop(0), correlation, origin, closed=True))
    return True


def _collecting(state: State, header: SignalsHeader, correlation: Correlation) -> list[_Alert]:
    """The alerts whose timespan this record lies in, whether or not a tick has said so yet.

    What was received longer before than values are remembered was judged then, though nothing of it may have been written.
    """
    at, forget, timespan = header.received_at, correlation.options["forget"], correlation.timespan_us
    return [alert for alert in state.open if alert.opened - forget < at <= alert.opened + timespan]


def _bound(state: State, kept: int) -> None:
    if len(state.values) > MAX_VALUES:
        del state.values[min((v for v in state.values if v != kept), key=lambda value: (state.values[value], value))]


def _open(
    state: State, sighting: _Sighting, header: SignalsHeader, partial: dict[str, Any], correlation: Correlation, origin: Origin
) -> list[dict[str, Any]]:
    at = header.received_at
    collecting = _collecting(state, header, correlation)
    if len([alert for alert in collecting if alert.value != _OTHERS]) < MAX_OPEN:
        named = f"{sighting.value:016x}", str(at // correlation.options["forget"])
        alert = _Alert(sighting.value, stable_id(correlation.id, *state.group, *named), at, sighting.first, sighting.last, [])
        state.open.append(alert)
    elif (others := next((a for a in collecting if a.value == _OTHERS), None)) is not None:
        alert = others
        alert.number += 1
    else:
        named = f"others {sighting.value:016x}", str(at // correlation.options["forget"])
        alert = _Alert(_OTHERS, stable_id(correlation.id, *state.group, *named), at, sighting.first, sighting.last, [])
        state.open.append(alert)
    if sighting.text and len(alert.texts) < MAX_TEXTS:
        alert.texts.append(sighting.text)
    _collect(alert, sighting, header, partial, correlation)
    if alert.revision and alert.number < 2 * alert.announced:
        return []
    return [_tell(state, alert, correlation, origin)]


def _collect(alert: _Alert, sighting: _Sighting, header: SignalsHeader, partial: dict[str, Any], correlation: Correlation) -> None:
    alert.first, alert.last = min(alert.first, sighting.first), max(alert.last, sighting.last)
    add_count(alert.counts, header, sighting.events)
    alert.notes.add(_own_part(sighting, partial, correlation))


def _own_part(sighting: _Sighting, partial: dict[str, Any], correlation: Correlation) -> dict[str, Any]:
    """What of a partial is about this value. Evidence and samples are in the order of the values shown, one for each."""
    if sighting.alone:
        return partial
    place = sighting.place
    evidence, samples = (partial[name][place : place + 1] if place >= 0 else [] for name in ("evidence", "samples"))
    entities: dict[str, str] = {}
    event = orjson.loads(samples[0]) if samples else None
    for source in _sources(correlation, {entry["dataset"] for entry in evidence}):
        of_group = dict(zip(source.group, partial["group"], strict=False))
        for name, record_field in source.entities.items():
            read = of_group.get(record_field) if event is None else getter(record_field)(event)
            if source.values == (record_field,):
                read = sighting.text
            if isinstance(read, (str, int)) and read != "":
                entities[name] = str(read)
    return {"evidence": evidence, "samples": samples, "entities": entities, "datasets": partial.get("datasets", [])}


def _sources(correlation: Correlation, datasets: set[str]) -> list[Source]:
    return [
        source
        for member in correlation.members
        for dataset, source in member.sources.items()
        if not datasets or dataset in datasets
    ]


def _tell(
    state: State, alert: _Alert, correlation: Correlation, origin: Origin, closed: bool = False, again: bool = False
) -> dict[str, Any]:
    if not again:
        alert.revision += 1
        alert.announced = alert.number
    name, text = ", ".join(correlation.options["field"]), alert.texts[0] if alert.texts else "(not kept)"
    if alert.value == _OTHERS:
        sentence = f"{alert.number} more new values of {name}, among them {', '.join(alert.texts[:3]) or '(not kept)'},"
    else:
        sentence = f"first seen {name} {text}"
    told = Told(
        alert_id=alert.alert_id,
        state="closed" if closed else "new" if alert.revision == 1 else "update",
        revision=alert.revision,
        group=state.group,
        events=int(max(alert.counts.values(), default=0)),
        first=alert.first,
        last=alert.last,
        created=alert.opened + correlation.timespan_us if closed else alert.opened,
        measured=alert.number,
        sentence=sentence,
        values=alert.texts,
        **alert.notes.told(),
    )
    return alert_record(correlation, told, origin)
