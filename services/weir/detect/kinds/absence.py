"""Absence: a group that has been heard falls silent.

Only receive time counts here: it says when Weir heard something, and the watermark (made of the processors' ticks) says up to
when nothing is still to come. What is remembered are stretches of time in which the group was heard with no gap longer than
`after`. Records may come in any order and more than once: they make the same stretches. A gap between two stretches, or after
the last one, is a silence once the watermark has passed its first `after`; before that, a record that fills it may still come.
So the silences are those of the raw records, whether they were told as they happened or found in a drained backlog, and while
processors stand still nobody is silent: their ticks do not move.

A silence is one alert, named after the receive time of the last thing heard before it. It is closed once the watermark has
reached the next thing heard: a moment after that, where all is well. A group that stays silent for `forget` is dropped, its
alert closed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from weir.detect.kinds.base import BaseState, Notes, pack, period_text, unpack
from weir.detect.kinds.common import Merged, SignalsHeader
from weir.detect.kinds.options import Reading
from weir.detect.kinds.state import StateError
from weir.detect.rules import Correlation
from weir.detect.telling.alerts import Origin, Told, alert_record
from weir.model.ids import stable_id

__all__ = ["State", "advance", "check", "due", "load", "merge"]

_FORMAT = 12
# Stretches that wait for the watermark; beyond that the two oldest become one, and the silence between them is not told.
MAX_STRETCHES = 64


@dataclass(slots=True)
class _Stretch:
    """Heard from `begin` to `end` with no gap longer than `after`. `notes` are of what was heard last."""

    begin: int
    end: int
    notes: Notes


@dataclass(slots=True)
class State(BaseState):
    """`stretches` in order of time; `told` says that the silence after the first one has been told.

    `forgotten` is the end of the last stretch that is gone.
    """

    stretches: list[_Stretch] = field(default_factory=list)
    told: bool = False
    forgotten: int = 0

    def to_bytes(self) -> bytes:
        """As a table value."""
        rows = [[s.begin, s.end, *s.notes.fields()] for s in self.stretches]
        return pack(_FORMAT, [self.group, self.received, self.sources, self.told, self.forgotten, rows])


def check(options: Mapping[str, Any]) -> Mapping[str, Any]:
    """`after` and `forget` in microseconds. Raises UnsupportedError naming all mistakes."""
    reading = Reading("absence", options)
    found = {"after": reading.duration("after", "15m", "10s", "30d"), "forget": reading.duration("forget", "7d", "1m", "365d")}
    if found["forget"] < 2 * found["after"]:
        reading.mistake("forget must be at least twice after")
    reading.done()
    return found


def load(value: bytes) -> State:
    """The state of a table value. Raises StateError for bytes of another format."""
    fields, _ = unpack(_FORMAT, value)
    try:
        group, received, sources, told, forgotten, rows = fields
        stretches = [_Stretch(begin, end, Notes(*notes)) for begin, end, *notes in rows]
        return State(tuple(group), received, sources, stretches, told, forgotten)
    except (ValueError, TypeError) as error:
        raise StateError(f"not a state of absence: {error}") from error


def merge(
    state: State | None, header: SignalsHeader, partial: dict[str, Any], correlation: Correlation, watermark: int, origin: Origin
) -> Merged:
    """The group was heard. Tells what silences that settles, such as the end of one that stands."""
    if state is None:
        state = State(tuple(partial["group"]))
    at = header.received_at
    first = state.stretches[0].begin if state.stretches else at
    if at <= state.forgotten or (at < first and state.told):
        return Merged(state, [], changed=False)
    state.hear(header)
    if _place(state, at, correlation.options["after"]):
        _note(state, at, partial)
    alerts = _settle(state, correlation, watermark, origin)
    while len(state.stretches) > MAX_STRETCHES:
        if state.told:
            alerts.append(_end(state, correlation, origin))
        else:
            begin = state.stretches.pop(0).begin
            state.stretches[0].begin = begin
    return Merged(state, alerts, changed=True)


def advance(state: State, correlation: Correlation, watermark: int, origin: Origin) -> tuple[State | None, list[dict[str, Any]]]:
    """Tell the silences that the watermark has settled; a group that has been silent for `forget` is dropped."""
    alerts = _settle(state, correlation, watermark, origin)
    last = state.stretches[-1].end
    if watermark <= last + correlation.options["forget"]:
        return state, alerts
    if state.told:
        length = correlation.options["forget"]
        alerts.append(_tell(state, state.stretches[-1], correlation, origin, last + length, length, "no longer waited for"))
    return None, alerts


def due(state: State, correlation: Correlation) -> int:
    """When the first stretch's silence is certain, or, where that has been told, its end, or when the group is given up."""
    if state.told and len(state.stretches) == 1:
        return state.stretches[-1].end + int(correlation.options["forget"]) + 1
    if state.told:
        return state.stretches[1].begin
    return state.stretches[0].end + int(correlation.options["after"]) + 1


def _place(state: State, at: int, after: int) -> bool:
    """Put a receive time into its stretch; False where it tells nothing new."""
    stretches = state.stretches
    for index in range(len(stretches) - 1, -1, -1):
        stretch = stretches[index]
        if stretch.begin <= at <= stretch.end:
            return False
        if at > stretch.end:
            break
    else:
        index = -1
    # Between the stretch at `index` and the next one; joined to both where it fills the gap.
    before = stretches[index] if index >= 0 and at - stretches[index].end <= after and not (state.told and index == 0) else None
    behind = stretches[index + 1] if index + 1 < len(stretches) and stretches[index + 1].begin - at <= after else None
    if before and behind:
        before.end, before.notes = behind.end, behind.notes
        del stretches[index + 1]
    elif before:
        before.end = at
    elif behind:
        behind.begin = at
    else:
        stretches.insert(index + 1, _Stretch(at, at, Notes()))
    return True


def _note(state: State, at: int, partial: dict[str, Any]) -> None:
    for stretch in state.stretches:
        if stretch.end == at:
            stretch.notes = Notes(partial["evidence"][-1:], [], dict(partial["entities"]), list(partial.get("datasets", ())))


def _settle(state: State, correlation: Correlation, watermark: int, origin: Origin) -> list[dict[str, Any]]:
    """Tell, of each stretch whose following `after` the watermark has passed, that silence came, and where it ended its end."""
    after = correlation.options["after"]
    alerts = []
    while state.stretches and watermark > state.stretches[0].end + after:
        stretch = state.stretches[0]
        if not state.told:
            state.told = True
            alerts.append(_tell(state, stretch, correlation, origin, stretch.end + after, after, ""))
        if len(state.stretches) == 1 or watermark < state.stretches[1].begin:
            # What came in between may still be on its way.
            break
        alerts.append(_end(state, correlation, origin))
    return alerts


def _end(state: State, correlation: Correlation, origin: Origin) -> dict[str, Any]:
    """The silence after the first stretch, which has been told, is over: the second one began."""
    stretch = state.stretches.pop(0)
    state.told, state.forgotten = False, stretch.end
    heard = state.stretches[0].begin
    return _tell(state, stretch, correlation, origin, heard, heard - stretch.end, "heard again")


def _tell(
    state: State, stretch: _Stretch, correlation: Correlation, origin: Origin, at: int, length: int, closed: str
) -> dict[str, Any]:
    told = Told(
        alert_id=stable_id(correlation.id, *state.group, str(stretch.end)),
        state="closed" if closed else "new",
        revision=2 if closed else 1,
        group=state.group,
        events=0,
        first=stretch.end,
        last=at,
        created=at,
        measured=length / 1_000_000,
        sentence=f"silent for {period_text(length)}, then {closed}," if closed else f"silent for more than {period_text(length)}",
        **stretch.notes.told(),
    )
    return alert_record(correlation, told, origin)
