"""Baseline: more in an hour than this group has in that hour of the week.

**What is remembered** of a group: for each hour of the week (168, UTC) the mean and the variance of what the hour brought, and
the hours that may still grow. An hour is learned two hours after its end by the watermark of receive time; until then late events
count in it. Hours in which nothing came are zeros once the group is known. The first four weeks weigh the same; then each week
weighs a quarter, and what was before three quarters. An hour that was told as an anomaly is learned as if it had been at the
limit, at a quarter of the weight: one burst hardly widens what is normal, a level that stays is accepted after weeks. One far
below (a holiday, an outage) is learned as if it had been at the lower limit.

**Too much** is an hour above `least` and above mean + `deviations` × spread, once the group has been known for `learn`. The
spread is at least the square root of the mean (counts scatter so much by themselves) and a tenth of the mean, and is widened by
the square root of 1 + 1 / weeks known. Compared is with the highest limit of this hour of the week, the one before and the one
after: work that begins an hour earlier, and summer time, are no anomalies. Since hours are learned late, all three are those of
weeks past, whenever the events come.

**The alert** is told at once, again when the amount has doubled, and is one as long as hour follows hour; it is closed when the
last such hour is learned. Its id is made of the group and the hour that fired first.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import sqrt
from typing import Any

from weir.detect.kinds.base import BaseState, Notes, add_count, pack, trusted_time, unpack
from weir.detect.kinds.common import Heads, Merged, SignalsHeader
from weir.detect.kinds.options import Reading
from weir.detect.kinds.state import StateError
from weir.detect.rules import Correlation
from weir.detect.telling.alerts import Origin, Told, alert_record
from weir.detect.telling.sentences import quantity_text
from weir.model.ids import stable_id

__all__ = ["HOUR_US", "State", "advance", "check", "due", "learn_at", "limit", "load", "merge"]

_FORMAT = 13
HOUR_US = 3_600_000_000
WEEK_HOURS = 168
LAG_US = 2 * HOUR_US
# Weeks that weigh the same; from then on each new one has this part of the weight.
EVEN_WEEKS = 4
LEAST_SPREAD = 0.1
# What an hour that was told weighs, of what another one does.
ANOMALY_WEIGHT = 0.25
# Hours that wait for a watermark that stands still; beyond that the oldest is learned as it is.
MAX_RUNNING = 240
# Hours of an alert whose events are told apart: more than can still grow unless the watermark stands still.
MAX_ALERT_HOURS = 48
_CELL = struct.Struct(">Bff")
# A cell below this is as good as one that never had anything.
_NOTHING = 1e-3


@dataclass(slots=True)
class _Cell:
    """What is normal in one hour of the week."""

    mean: float = 0.0
    variance: float = 0.0


@dataclass(slots=True)
class _Running:
    """An hour that may still grow: by receiver the amounts and events, event times; whether it was told as an anomaly."""

    first: int
    last: int
    amounts: dict[int, float] = field(default_factory=dict)
    events: dict[int, float] = field(default_factory=dict)
    told: bool = False

    @property
    def amount(self) -> float:
        """The most that any receiver brought."""
        return max(self.amounts.values(), default=0.0)


@dataclass(slots=True)
class _Alert:
    """Hours above their limits, from `hour` to `until`.

    `peak` is the highest amount, of `peak_hour`, where `normal` is the mean and `most` the limit; `events` are by hour, `past`
    those of hours no longer told apart.
    """

    alert_id: str
    hour: int
    until: int
    first: int
    last: int
    peak: float = 0.0
    peak_hour: int = 0
    normal: float = 0.0
    most: float = 0.0
    events: dict[int, int] = field(default_factory=dict)
    past: int = 0
    revision: int = 0
    announced: float = 0.0
    notes: Notes = field(default_factory=Notes)


@dataclass(slots=True)
class State(BaseState):
    """`begin`: first whole hour of the group, since the epoch; hours before `learned` are in the cells."""

    begin: int = 0
    learned: int = 0
    cells: dict[int, _Cell] = field(default_factory=dict)
    running: dict[int, _Running] = field(default_factory=dict)
    heads: Heads = field(default_factory=Heads)
    alert: _Alert | None = None

    def to_bytes(self) -> bytes:
        """As a table value: JSON, then 9 bytes for each hour of the week that had anything."""
        a = self.alert
        running = [
            [hour, r.first, r.last, list(r.amounts.items()), list(r.events.items()), r.told] for hour, r in self.running.items()
        ]
        told = a and [
            *(a.alert_id, a.hour, a.until, a.first, a.last, a.peak, a.peak_hour, a.normal, a.most),
            *(list(a.events.items()), a.past, a.revision, a.announced, a.notes.fields()),
        ]
        fields = [self.group, self.received, self.sources, self.begin, self.learned, self.heads.rows(), running, told]
        return pack(_FORMAT, fields, b"".join(_CELL.pack(hour, c.mean, c.variance) for hour, c in self.cells.items()))


def check(options: Mapping[str, Any]) -> Mapping[str, Any]:
    """Times in microseconds. Raises UnsupportedError naming all mistakes."""
    reading = Reading("baseline", options)
    found = {
        "of": reading.text("of", "count"),
        "deviations": reading.number("deviations", 4, 1, 100),
        "least": reading.number("least", 100, 1, 1e15),
        "learn": reading.duration("learn", "2w", "1w", "52w"),
        "forget": reading.duration("forget", "5w", "2w", "52w"),
    }
    reading.done()
    return found


def load(value: bytes) -> State:
    """The state of a table value. Raises StateError for bytes of another format."""
    fields, tail = unpack(_FORMAT, value)
    try:
        group, received, sources, begin, learned, heads, running, told = fields
        state = State(tuple(group), received, sources, begin, learned, heads=Heads(map(tuple, heads)))
        state.cells = {hour: _Cell(mean, variance) for hour, mean, variance in _CELL.iter_unpack(tail)}
        for hour, first, last, amounts, events, was_told in running:
            state.running[hour] = _Running(first, last, dict(map(tuple, amounts)), dict(map(tuple, events)), was_told)
        if told:
            *head, events, past, revision, announced, notes = told
            state.alert = alert = _Alert(*head)
            alert.events, alert.past, alert.revision, alert.announced = dict(map(tuple, events)), past, revision, announced
            alert.notes = Notes(*notes)
        return state
    except (ValueError, TypeError, struct.error) as error:
        raise StateError(f"not a state of baseline: {error}") from error


def merge(
    state: State | None, header: SignalsHeader, partial: dict[str, Any], correlation: Correlation, watermark: int, origin: Origin
) -> Merged:
    """Add a partial to its hours, and tell those that have become too much."""
    state = state or State(tuple(partial["group"]))
    if not state.heads.take(header):
        return Merged(state, [_tell(state, state.alert, correlation, origin, "")] if state.alert else [], changed=False)
    alerts = _pass_time(state, correlation, watermark, origin)
    state.hear(header)
    touched = _add(state, header, partial, correlation)
    for hour in touched:
        alerts += _judge(state, hour, partial, correlation, origin)
    return Merged(state, alerts, changed=True)


def advance(state: State, correlation: Correlation, watermark: int, origin: Origin) -> tuple[State | None, list[dict[str, Any]]]:
    """Learn the hours that are over, close the alert, forget a group that brings nothing any more."""
    alerts = _pass_time(state, correlation, watermark, origin)
    return (None if watermark > state.received + correlation.options["forget"] else state), alerts


def due(state: State, correlation: Correlation) -> int:
    """When an hour is to be learned, the alert to be closed, or the group to be forgotten."""
    times = [state.received + int(correlation.options["forget"])]
    times += [learn_at(min(state.running))] if state.running else []
    times += [learn_at(state.alert.until)] if state.alert else []
    return min(times) + 1


def learn_at(hour: int) -> int:
    """The watermark beyond which this hour is learned."""
    return (hour + 1) * HOUR_US + LAG_US


def limit(state: State, hour: int, deviations: float) -> tuple[float, float, float]:
    """What is normal in this hour: the highest limit of it and its neighbours in the week, and mean and spread of that one."""
    found = []
    for near in (hour - 1, hour, hour + 1):
        cell = state.cells.get(near % WEEK_HOURS, _Cell())
        spread = _spread(state, near, cell)
        found.append((cell.mean + deviations * spread, cell.mean, spread))
    return max(found)


def _spread(state: State, hour: int, cell: _Cell) -> float:
    """How far an hour may be from the mean of those before, as a standard deviation."""
    return max(sqrt(cell.variance), sqrt(cell.mean), LEAST_SPREAD * cell.mean) * sqrt(1 + 1 / max(1, _weeks(state, hour)))


def _weeks(state: State, hour: int) -> int:
    """How often this hour of the week has been learned."""
    first = state.begin + (hour - state.begin) % WEEK_HOURS
    return max(0, (state.learned - first + WEEK_HOURS - 1) // WEEK_HOURS)


def _pass_time(state: State, correlation: Correlation, watermark: int, origin: Origin) -> list[dict[str, Any]]:
    alerts = []
    if (alert := state.alert) and watermark > learn_at(alert.until):
        alert.revision += 1
        alerts.append(_tell(state, alert, correlation, origin, "closed"))
        state.alert = None
    if state.learned:
        _learn(state, correlation, (watermark - LAG_US - 1) // HOUR_US)
    return alerts


def _learn(state: State, correlation: Correlation, until: int) -> None:
    """Take all hours before `until` into the cells."""
    for hour in range(state.learned, until):
        running = state.running.pop(hour, None)
        cell = state.cells.get(hour % WEEK_HOURS)
        if hour >= state.begin and (running or cell):
            amount = running.amount if running else 0.0
            weight = 1 / (min(_weeks(state, hour), EVEN_WEEKS - 1) + 1)
            cell = cell or state.cells.setdefault(hour % WEEK_HOURS, _Cell())
            if running and running.told:
                amount = min(amount, limit(state, hour, correlation.options["deviations"])[0])
                weight *= ANOMALY_WEIGHT
            elif (hour - state.begin) * HOUR_US >= correlation.options["learn"]:
                amount = max(amount, cell.mean - correlation.options["deviations"] * _spread(state, hour, cell))
            away = amount - cell.mean
            cell.mean += weight * away
            cell.variance = (1 - weight) * (cell.variance + weight * away * away)
            if cell.mean < _NOTHING and cell.variance < _NOTHING:
                del state.cells[hour % WEEK_HOURS]
        state.learned = hour + 1


def _add(state: State, header: SignalsHeader, partial: dict[str, Any], correlation: Correlation) -> list[int]:
    """The hours touched, in order."""
    touched: set[int] = set()
    of_count = correlation.options["of"] == "count"
    for slice_ in partial["buckets"]:
        hour = trusted_time(slice_["first"], header.received_at) // HOUR_US
        if not state.learned:
            # The first hour is not whole.
            state.begin, state.learned = hour + 1, hour
        if hour < state.learned:
            if state.cells or state.learned - hour > WEEK_HOURS:
                continue
            state.begin, state.learned = hour + 1, hour
        running = state.running.setdefault(hour, _Running(slice_["first"], slice_["last"]))
        running.first, running.last = min(running.first, slice_["first"]), max(running.last, slice_["last"])
        add_count(running.amounts, header, slice_["count"] if of_count else slice_["sum"])
        add_count(running.events, header, slice_["count"])
        touched.add(hour)
    while len(state.running) > MAX_RUNNING:
        _learn(state, correlation, min(state.running) + 1)
    return sorted(touched & state.running.keys())


def _judge(state: State, hour: int, partial: dict[str, Any], correlation: Correlation, origin: Origin) -> list[dict[str, Any]]:
    options, running = correlation.options, state.running[hour]
    if (hour - state.begin) * HOUR_US < options["learn"] or running.amount < options["least"]:
        return []
    most, mean, _ = limit(state, hour, options["deviations"])
    alert = state.alert
    if running.amount <= most or (alert and hour < alert.hour - 1):
        return []
    running.told = True
    alerts = []
    if alert and hour > alert.until + 1:
        alert.revision += 1
        alerts.append(_tell(state, alert, correlation, origin, "closed"))
        alert = None
    if alert is None:
        alert_id = stable_id(correlation.id, *state.group, str(hour))
        alert = state.alert = _Alert(alert_id, hour, hour, running.first, running.last)
    alert.hour, alert.until = min(alert.hour, hour), max(alert.until, hour)
    alert.first, alert.last = min(alert.first, running.first), max(alert.last, running.last)
    alert.events[hour] = int(max(running.events.values()))
    if len(alert.events) > MAX_ALERT_HOURS:
        alert.past += alert.events.pop(min(alert.events))
    alert.notes.add(partial)
    if running.amount >= alert.peak or hour == alert.peak_hour:
        alert.peak, alert.peak_hour, alert.normal, alert.most = running.amount, hour, mean, most
    if alert.revision and alert.peak < 2 * alert.announced:
        return alerts
    alert.revision, alert.announced = alert.revision + 1, alert.peak
    return [*alerts, _tell(state, alert, correlation, origin, "")]


def _tell(state: State, alert: _Alert, correlation: Correlation, origin: Origin, kind: str) -> dict[str, Any]:
    of = correlation.options["of"]
    fields = () if of == "count" else (of,)
    amount = quantity_text(alert.peak, fields) if fields else f"{alert.peak:.15g} events"
    normal, most = (quantity_text(round(x), fields).partition(" of ")[0] for x in (alert.normal, alert.most))
    told = Told(
        alert_id=alert.alert_id,
        state=kind or ("new" if alert.revision == 1 else "update"),
        revision=alert.revision,
        group=state.group,
        events=alert.past + sum(alert.events.values()),
        first=alert.first,
        last=alert.last,
        created=max(state.received, learn_at(alert.until)) if kind else state.received,
        measured=alert.peak,
        sentence=f"{amount} in the hour from {alert.peak_hour % 24:02d}:00 UTC (normally {normal}, at most {most})",
        **alert.notes.told(),
    )
    return alert_record(correlation, told, origin)
