"""What `weir sources` shows."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from rich.console import Console, JustifyMethod, RenderableType
from rich.table import Table
from rich.text import Text

from weir.tools.quarantine import Released
from weir.tools.sources import SourceRow

__all__ = ["duration", "released_lines", "show"]

SECOND_US = 1_000_000
_WIDE = 200
_NARROW = 130
_STATES: Final = {"known": "green", "unknown": "yellow", "quarantined": "yellow", "refused": "red"}


def show(console: Console, rows: list[SourceRow], since: str, *, unknown: bool, catalogue: bool) -> None:
    """Print the table, or a sentence where there is nothing to print.

    Args:
        since: how far back was looked, as the operator wrote it.
        unknown: only unknown senders were asked for.
        catalogue: whether there is one.
    """
    if not rows:
        what = "No unknown source has sent anything" if unknown else "No source has sent anything"
        console.print(f"{what} in the last {since}, as far as the ledger tells.", markup=False)
    else:
        if not console.is_terminal:
            # What goes into a file or a pipe is not bound to 80 columns.
            console.width = max(console.width, _WIDE)
        console.print(_table(rows, narrow=console.width < _NARROW))
    for line in _remarks(rows, catalogue):
        console.print(line, soft_wrap=True)


def _table(rows: list[SourceRow], *, narrow: bool) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    columns = {heading: column for heading, column in _COLUMNS.items() if column[1] or not narrow}
    for heading, (justify, _, _) in columns.items():
        table.add_column(heading, justify=justify, overflow="fold")
    for row in rows:
        table.add_row(*(cell(row) for _, _, cell in columns.values()))
    return table


def _bad(count: int) -> Text:
    return Text(f"{count:,}", style="red" if count else "")


def _clock_time(minute: int | None) -> str:
    return "-" if minute is None else time.strftime("%m-%d %H:%M", time.gmtime(minute // SECOND_US))


def duration(seconds: int) -> str:
    """Short: 45 s, 12 min, 3 h, 2 d."""
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"


def _silence(row: SourceRow) -> Text:
    if row.silent_seconds is None:
        return Text("-")
    text = duration(row.silent_seconds) if row.last_seen is not None else f"over {duration(row.silent_seconds)}"
    if row.expected_silence is not None:
        text += f" of {duration(row.expected_silence)}"
    return Text(text, style="bold red" if row.overdue else "")


def _lost(row: SourceRow) -> Text:
    if not row.upstream_expected:
        return Text("-")
    share = 100 * row.upstream_missing / row.upstream_expected
    return Text(f"{row.upstream_missing:,} ({share:.1f} %)", style="red" if row.upstream_missing else "")


def _offset(row: SourceRow) -> Text:
    if not row.clocks:
        return Text("-")
    clock = row.clocks[0]
    text = f"{clock.offset:+,.1f} s"
    return Text(f"{text} {clock.hint}" if clock.hint else text, style="yellow" if abs(clock.offset) >= 60 else "")


_COLUMNS: Final[dict[str, tuple[JustifyMethod, bool, Callable[[SourceRow], RenderableType]]]] = {
    # Heading: alignment, whether it is shown where there is little room, and what stands in it.
    "source": ("left", True, lambda row: Text(row.name or "-")),
    "address": ("left", True, lambda row: Text(row.address)),
    "way in": ("left", False, lambda row: row.way_in),
    "datasets": ("left", False, lambda row: ", ".join(row.datasets) or "-"),
    "first seen": ("left", False, lambda row: _clock_time(row.first_seen)),
    "last seen": ("left", True, lambda row: _clock_time(row.last_seen)),
    "silent": ("left", True, _silence),
    "units/min": ("right", True, lambda row: f"{row.units_per_minute:,.1f}"),
    "dropped": ("right", True, lambda row: _bad(row.dropped)),
    "dead": ("right", False, lambda row: _bad(row.dead)),
    "filtered": ("right", False, lambda row: f"{row.filtered:,}"),
    "lost upstream": ("right", False, _lost),
    "clock": ("left", True, _offset),
    "state": ("left", True, lambda row: Text(row.state, style=_STATES.get(row.state, ""))),
}


def _remarks(rows: list[SourceRow], catalogue: bool) -> list[Text]:
    lines = []
    if overdue := sorted({row.name for row in rows if row.overdue and row.name}):
        lines.append(Text(f"Silent beyond what is expected: {', '.join(overdue)}.", style="bold red"))
    if any(clock.hint for row in rows for clock in row.clocks[:1]):
        lines.append(Text("A clock that is off by whole hours is most often one in local time: give its source a time_zone."))
    if not catalogue:
        lines.append(Text("There is no catalogue of sources (WEIR_SOURCES_FILE), so all of them are unknown; see docs/sources.md."))
    return lines


def _batches(count: int) -> str:
    return f"{count:,} batch{'' if count == 1 else 'es'}"


def released_lines(found: Released, who: str) -> list[str]:
    """What came of a release, in sentences."""
    if not found.batches and not found.left:
        before = f"; {_batches(found.before)} released before (--again repeats them)" if found.before else ""
        return [f"Nothing of {who} waits in quarantine{before}."]
    lines = []
    for topic, count in found.batches.items():
        units = found.units[topic]
        lines.append(f"{topic}: {_batches(count)} with {units:,} unit{'' if units == 1 else 's'} released.")
    if found.before:
        lines.append(f"{_batches(found.before)} released before and left alone (--again repeats them).")
    lines += [f"{_batches(count)} left: {reason}." for reason, count in found.left.items()]
    if found.batches:
        lines.append("Their batch ids are those they had: what is released twice is told apart by event id.")
    return lines
