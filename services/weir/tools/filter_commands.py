"""`weir filters …`: judge a file of filters, and try it on events before it is used."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, NoReturn

import orjson
import typer
from rich.console import Console
from rich.table import Table

from weir.enrich.filters import FiltersError, FilterSet, Rule, load_rules
from weir.enrich.filters.expression import Kind
from weir.enrich.filters.rules import fields_of
from weir.model.topics import DATASETS

__all__ = ["Trial", "filters_app", "read_events"]

EXIT_SETTINGS = 2
_WIDE = 200
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
KEPT = "-"
"""Stands for no rule: what no rule decides on is kept."""

filters_app = typer.Typer(
    help="Filters of events: judge a file, and try it on events.",
    no_args_is_help=True,
    epilog="Examples: weir filters check filters.yaml · weir decode --raw-times capture.pcap | weir filters try filters.yaml",
)

File = Annotated[Path, typer.Argument(help="filters, YAML")]
AsJson = Annotated[bool, typer.Option("--json", help="print JSON for machines")]


def _fail(lines: list[str]) -> NoReturn:
    console = Console(stderr=True, highlight=False)
    for line in lines:
        console.print(f"weir: {line}", markup=False, soft_wrap=True)
    raise typer.Exit(EXIT_SETTINGS)


def _console() -> Console:
    console = Console(highlight=False)
    if not console.is_terminal:
        # What goes into a file or a pipe is not bound to 80 columns.
        console.width = max(console.width, _WIDE)
    return console


def _rules(file: Path) -> tuple[Rule, ...]:
    try:
        return load_rules(file)
    except FiltersError as error:
        _fail(error.mistakes)


@filters_app.command("check")
def check(file: File, as_json: AsJson = False) -> None:
    """Read filters and list them, or name every mistake. Exit 2 where there is one."""
    rules = _rules(file)
    if as_json:
        print(json.dumps([_as_record(rule) for rule in rules], indent=1))  # noqa: T201
        return
    console = _console()
    table = Table(box=None, header_style="bold", pad_edge=False)
    for heading in ("rule", "dataset", "source", "when", "does"):
        table.add_column(heading, overflow="fold")
    for rule in rules:
        record = _as_record(rule)
        row = (
            record["name"],
            ", ".join(record["dataset"]) or "all",
            ", ".join(record["source"]) or "all",
            record["when"] or "always",
        )
        table.add_row(*map(_plain, (*row, record["do"])))
    console.print(table)
    console.print(f"{file}: {len(rules)} rule{'' if len(rules) == 1 else 's'}, no mistakes", markup=False, soft_wrap=True)


def _as_record(rule: Rule) -> dict[str, Any]:
    return {
        "name": rule.name,
        "dataset": sorted(rule.datasets),
        "source": [*map(str, rule.networks), *sorted(rule.sources)],
        "when": rule.when and " ".join(rule.when.split()),
        "do": rule.what,
    }


def _plain(text: str) -> str:
    return text.replace("[", r"\[")


@filters_app.command("try")
def try_(
    file: File,
    events: Annotated[
        Path | None, typer.Argument(exists=True, dir_okay=False, help="events as lines of JSON; else standard input")
    ] = None,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="print each event's rule and what becomes of it")] = False,
    as_json: AsJson = False,
) -> None:
    """Say what filters would do to events as `weir decode` prints them. Nothing is published; all are taken as one batch."""
    trial = Trial(FilterSet(_rules(file)))
    try:
        if events is None:
            found = list(read_events(sys.stdin.buffer, "standard input"))
        else:
            with events.open("rb") as lines:
                found = list(read_events(lines, str(events)))
    except ValueError as error:
        _fail([str(error)])
    for dataset, record in found:
        trial.add(dataset, record)
        if verbose:
            rule = trial.deciding(dataset, record)
            what = "kept" if rule is None else f"{rule.what} by {rule.name!r}"
            print(f"{record.get('event_id', '')}\t{dataset}\t{what}")  # noqa: T201
    rows = trial.rows()
    if as_json:
        print(json.dumps(rows, indent=1))  # noqa: T201
        return
    console = _console()
    table = Table(box=None, header_style="bold", pad_edge=False)
    for heading in ("rule", "dataset", "does"):
        table.add_column(heading, overflow="fold")
    for heading in ("events", "published", "left out"):
        table.add_column(heading, justify="right")
    for row in rows:
        numbers = (f"{row[name]:,}" for name in ("events", "published", "left_out"))
        table.add_row(_plain(row["rule"]), row["dataset"], row["do"], *numbers)
    console.print(table)


@dataclass(slots=True)
class Trial:
    """What filters do to events, counted by rule and dataset."""

    filters: FilterSet
    _events: dict[tuple[str, str | None, str], list[dict[str, Any]]] = field(default_factory=dict)

    def add(self, dataset: str, record: dict[str, Any]) -> None:
        """Take one event."""
        source = (str(record.get("log_source_ip") or ""), record.get("log_source_name"))
        self._events.setdefault((*source, dataset), []).append(record)

    def deciding(self, dataset: str, record: dict[str, Any]) -> Rule | None:
        """The rule that decides on an event."""
        return self.filters.deciding(dataset, record, str(record.get("log_source_ip") or ""), record.get("log_source_name"))

    def rows(self) -> list[dict[str, Any]]:
        """One a rule and dataset in the order of the file, rules that met nothing among them; the last ones are of no rule."""
        met: Counter[tuple[str, str]] = Counter()
        left_out: Counter[tuple[str, str]] = Counter()
        for (source_ip, source_name, dataset), records in self._events.items():
            for record in records:
                rule = self.filters.deciding(dataset, record, source_ip, source_name)
                met[KEPT if rule is None else rule.name, dataset] += 1
            for (_, name), count in self.filters.apply({dataset: records}, source_ip, source_name).left_out.items():
                left_out[name, dataset] += count
        names = [(rule.name, rule.what) for rule in self.filters.rules] + [(KEPT, "keep")]
        rows = []
        for name, what in names:
            datasets = sorted(dataset for rule, dataset in met if rule == name) or ([] if name == KEPT else ["-"])
            for dataset in datasets:
                events, out = met[name, dataset], left_out[name, dataset]
                rows.append(
                    {"rule": name, "dataset": dataset, "do": what, "events": events, "published": events - out, "left_out": out}
                )
        return rows


def read_events(lines: Iterable[bytes], name: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Dataset and record of each line, as `weir decode` prints them, with times as microseconds again.

    Raises:
        ValueError: a line is no event, with its number.
    """
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            record = orjson.loads(line)
        except orjson.JSONDecodeError as error:
            raise ValueError(f"{name}:{number}: not JSON: {error}") from error
        dataset = record.pop("dataset", None) if isinstance(record, dict) else None
        if dataset not in DATASETS:
            raise ValueError(f"{name}:{number}: no event: it must be an object with `dataset`, one of {', '.join(DATASETS)}")
        record.setdefault("event_id", str(number))
        kinds = fields_of(dataset)
        yield dataset, {field: _as_read(kinds.get(field), value) for field, value in record.items()}


def _as_read(kind: Kind | None, value: Any) -> Any:
    """A value as a processor has it: what decoding prints as a time is a number, and what it prints as an object is text."""
    if kind is Kind.NUMBER and isinstance(value, str):
        try:
            time = datetime.fromisoformat(value)
        except ValueError:
            return None
        return (time.astimezone(UTC) - _EPOCH) // timedelta(microseconds=1)
    if kind is Kind.TEXT and value is not None and not isinstance(value, str):
        return orjson.dumps(value).decode()
    return value
