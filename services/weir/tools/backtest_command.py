"""`weir rules backtest` on a terminal or into a pipe: progress, the summary, the comparison."""

from __future__ import annotations

import json
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from weir.detect.rules import RuleSet
from weir.detect.telling.suppressions import Suppressions
from weir.model.projection import iso_time
from weir.ops.settings import ServiceSettings
from weir.tools.backtest import Backtest, Reading, differences, run_backtest
from weir.tools.tap_view import printable

__all__ = ["backtest"]

_INTERRUPTED = 130


def backtest(
    settings: ServiceSettings,
    tried: list[tuple[RuleSet, Suppressions]],
    since: int,
    until: int,
    before: int,
    *,
    as_json: bool,
    console: Console,
) -> int:
    """Run it and say what came of it; the exit status.

    Args:
        settings: brokers, prefix.
        tried: the new rules with their suppressions, and the old ones where they are compared.
        since: begin of what is reported, microseconds UTC.
        until: its end.
        before: events of so many microseconds before `since` are read too.
        as_json: JSON in place of tables.
        console: for the tables.

    Raises:
        TopicsUnavailable: as `run_backtest`.
    """
    tests = [Backtest(rule_set, since, suppressions) for rule_set, suppressions in tried]
    notes = Console(stderr=True, highlight=False)
    columns = ("{task.description}", "{task.completed:,.0f} of {task.total:,.0f} records", "{task.speed:,.0f}/s")
    with Progress(
        TextColumn(columns[0]), BarColumn(), TextColumn(columns[1]), _Rate(), TimeRemainingColumn(), console=notes, transient=True
    ) as bar:
        task = bar.add_task("reading", total=1)
        reading = run_backtest(settings, tests, since - before, until, lambda done, of: bar.update(task, completed=done, total=of))
    changed = differences(tests[1], tests[0]) if len(tests) > 1 else []
    if as_json:
        _print_json(tests, reading, changed, since, until)
    else:
        _show(console, tests, reading, changed, since, until)
    if reading.stopped:
        return _INTERRUPTED
    return 1 if changed else 0


class _Rate(TextColumn):
    """Records a second."""

    def __init__(self) -> None:
        super().__init__("")

    def render(self, task: Any) -> Any:
        speed = task.finished_speed or task.speed
        return "" if speed is None else f"{speed:,.0f}/s"


def _print_json(tests: list[Backtest], reading: Reading, changed: list[dict[str, Any]], since: int, until: int) -> None:
    document = {
        "from": iso_time(since),
        "to": iso_time(until),
        "rule_set": tests[0].rule_set.version,
        "read": {
            "records": reading.records,
            "events": reading.events,
            "repeats": reading.repeats,
            "unreadable": reading.unreadable,
            "seconds": round(reading.seconds, 3),
            "absent_topics": reading.absent,
            "interrupted": reading.stopped,
        },
        "suppressed": len(tests[0].suppressed),
        "rules": [row | {"first": _time(row["first"]), "last": _time(row["last"])} for row in tests[0].rows()],
    }
    if len(tests) > 1:
        document |= {"compared_with": tests[1].rule_set.version, "differences": changed}
    print(json.dumps(document, indent=1, ensure_ascii=False))  # noqa: T201


def _time(micros: int | None) -> str | None:
    return None if micros is None else iso_time(micros)


def _clock(micros: int | None) -> str:
    return "-" if micros is None else (iso_time(micros) or str(micros))[:19].replace("T", " ")


def _say(console: Console, text: str, style: str = "") -> None:
    console.print(printable(text), style=style, markup=False, soft_wrap=True)


def _show(console: Console, tests: list[Backtest], reading: Reading, changed: list[dict[str, Any]], since: int, until: int) -> None:
    rows = tests[0].rows()
    fired = [row for row in rows if row["alerts"]]
    if fired:
        table = Table(box=None, header_style="bold", pad_edge=False)
        for heading in ("level", "rule", "alerts", "events", "groups", "first", "last"):
            table.add_column(heading, overflow="fold", justify="right" if heading in {"alerts", "events", "groups"} else "left")
        for row in fired:
            numbers = (f"{row[name]:,}" for name in ("alerts", "events", "groups"))
            title = printable(row["title"]).replace("[", r"\[")
            table.add_row(row["level"], title, *numbers, _clock(row["first"]), _clock(row["last"]))
        console.print(table)
        for row in fired:
            _say(console, f"  {row['sample']}", "dim")
    quiet = len(rows) - len(fired)
    if tests[0].suppressed:
        _say(console, f"{len(tests[0].suppressed):,} alerts are suppressed", "yellow")
    span = f"{_clock(since)} to {_clock(until)} UTC"
    _say(console, f"{len(fired)} rules would have told of something, {quiet} of nothing; received from {span}")
    if len(tests) > 1:
        _differences(console, changed)
    told = f"{reading.events:,} events of {reading.records:,} records in {reading.seconds:.1f} s, {reading.rate:,.0f} records/s"
    extra = [f"{reading.repeats:,} repeats left out"] if reading.repeats else []
    extra += [f"{reading.unreadable:,} records of no known format"] if reading.unreadable else []
    extra += [f"no such topic: {', '.join(reading.absent)}"] if reading.absent else []
    _say(console, "; ".join([told, *extra]))
    if reading.stopped:
        _say(console, "interrupted: this is what came of the events read until then", "yellow")


def _differences(console: Console, changed: list[dict[str, Any]]) -> None:
    if not changed:
        _say(console, "both rule sets would have told the same")
        return
    _say(console, "compared with the old rules:", "bold")
    for row in changed:
        what = {"old": "only in the old rules", "new": "only in the new rules", "both": "in both"}[row["in"]]
        alerts = f"{row['alerts_old']:,} → {row['alerts_new']:,} alerts"
        events = f"{row['events_old']:,} → {row['events_new']:,} events"
        _say(console, f"  {row['title']} ({what}): {alerts}, {events}")
        if row["sample_old"]:
            _say(console, f"    no longer ({row['only_old']:,}): {row['sample_old']}", "red")
        if row["sample_new"]:
            _say(console, f"    newly ({row['only_new']:,}): {row['sample_new']}", "green")
