"""`weir filters …`: judge a file of filters, and try it on events before it is used.

What these need is imported when they are called: every `weir` command loads this module.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from weir.tools.printing import fail, output

if TYPE_CHECKING:
    from weir.enrich.filters import Rule

__all__ = ["filters_app"]

EXIT_SETTINGS = 2

filters_app = typer.Typer(
    help="Filters of events: judge a file, and try it on events.",
    no_args_is_help=True,
    epilog="Examples: weir filters check filters.yaml · weir decode netflow capture.pcap | weir filters try filters.yaml",
)

File = Annotated[Path, typer.Argument(help="filters, YAML")]
AsJson = Annotated[bool, typer.Option("--json", help="print JSON for machines")]


def _rules(file: Path) -> tuple[Rule, ...]:
    from weir.enrich.filters import FiltersError, load_rules  # noqa: PLC0415

    try:
        return load_rules(file)
    except FiltersError as error:
        fail(EXIT_SETTINGS, error.mistakes)


@filters_app.command("check")
def check(
    file: File,
    sources: Annotated[
        Path | None, typer.Option(envvar="WEIR_SOURCES_FILE", help="catalogue in which the names of sources must be")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Read filters and list them, or name every mistake. Exit 2 where there is one."""
    rules = _rules(file)
    if sources is not None:
        _sources_known(file, rules, sources)
    if as_json:
        print(json.dumps([_as_record(rule) for rule in rules], indent=1))  # noqa: T201
        return
    console = output()
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


def _sources_known(file: Path, rules: tuple[Rule, ...], path: Path) -> None:
    """Fail where a rule names a source that a catalogue does not have: it would never apply."""
    from weir.model.sources import CatalogueError, load_catalogue  # noqa: PLC0415
    from weir.model.yamlfile import meant, told  # noqa: PLC0415

    try:
        names = {source.name for source in load_catalogue(path).sources}
    except CatalogueError as error:
        fail(EXIT_SETTINGS, error.mistakes)
    mistakes = [
        (rule.line, f"rule {rule.name!r}: there is no source {name!r} in {path}{meant(name, names)}")
        for rule in rules
        for name in rule.sources - names
    ]
    if mistakes:
        fail(EXIT_SETTINGS, told(str(file), mistakes))


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
    networks: Annotated[
        str, typer.Option("--own-networks", envvar="WEIR_OWN_NETWORKS", help="by which network_direction is told")
    ] = "private",
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="print each event's rule and what becomes of it")] = False,
    as_json: AsJson = False,
) -> None:
    """Say what filters would do to events as `weir decode` prints them. Nothing is published; all are taken as one batch."""
    from weir.tools.filter_trial import Trial, read_events  # noqa: PLC0415

    rules = _rules(file)
    try:
        trial = Trial(rules, networks)
        if events is None:
            found = list(read_events(sys.stdin.buffer, "standard input"))
        else:
            with events.open("rb") as lines:
                found = list(read_events(lines, str(events)))
    except ValueError as error:
        fail(EXIT_SETTINGS, [str(error)])
    for dataset, record in found:
        rule = trial.add(dataset, record)
        if verbose:
            what = "kept" if rule is None else f"{rule.what} by {rule.name!r}"
            print(f"{record['event_id']}\t{dataset}\t{what}")  # noqa: T201
    rows = trial.rows()
    if as_json:
        print(json.dumps(rows, indent=1))  # noqa: T201
        return
    console = output()
    table = Table(box=None, header_style="bold", pad_edge=False)
    for heading in ("rule", "dataset", "does"):
        table.add_column(heading, overflow="fold")
    for heading in ("events", "published", "left out"):
        table.add_column(heading, justify="right")
    for row in rows:
        numbers = (f"{row[name]:,}" for name in ("events", "published", "left_out"))
        table.add_row(_plain(row["rule"]), row["dataset"], row["do"], *numbers)
    console.print(table)
