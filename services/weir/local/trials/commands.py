"""`weir trial …`: options in, tables out."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

__all__ = ["trial_app"]

EXIT_DIFFERS = 1
EXIT_UNAVAILABLE = 3

trial_app = typer.Typer(help="Long trials of whole services on this machine.", no_args_is_help=True)


@trial_app.command(
    "outage",
    short_help="Load while Kafka goes away and receivers are killed.",
    epilog="Example: weir trial outage --seconds 60 --rate 1000. Under two minutes it is one outage with one kill in it.",
)
def outage(
    seconds: Annotated[float, typer.Option(min=15, help="for how long to send")] = 600.0,
    seed: Annotated[int, typer.Option(help="decides when Kafka goes away and who is killed")] = 1,
    rate: Annotated[float, typer.Option(min=100, help="events per second of all senders together")] = 2_500.0,
    folder: Annotated[
        Path | None, typer.Option(help="an empty folder for data and logs, which stay [default: one that goes]")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON for machines")] = False,
) -> None:
    """Mixed load on all receivers; Kafka is stopped and started three times, receivers are killed twice; is anything missing?"""
    from weir.local.trials.outage import Plan, run_outage

    _run(lambda place, say: run_outage(Plan(seconds, seed, rate), place, say), folder, _show_outage, as_json=as_json)


@trial_app.command(
    "detection",
    short_help="Attacks while processors and the detector are killed.",
    epilog="Example: weir trial detection --seconds 60 --seed 7. A round of attacks takes 20 s, a kill comes every 2 to 6.",
)
def detection(
    seconds: Annotated[float, typer.Option(min=15, max=1_000, help="for how long to attack and to kill")] = 600.0,
    seed: Annotated[int, typer.Option(help="decides who is killed when, and the order of what is sent")] = 1,
    folder: Annotated[
        Path | None, typer.Option(help="an empty folder for data and logs, which stay [default: one that goes]")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON for machines")] = False,
) -> None:
    """The same attacks on two installations, one of which is killed again and again; do both tell the same alerts?"""
    from weir.local.trials.detection import Plan, run_detection

    _run(lambda place, say: run_detection(Plan(seconds, seed), place, say), folder, _show_detection, as_json=as_json)


def _run(
    trial: Callable[[Path, Callable[[str], None]], dict[str, Any]],
    folder: Path | None,
    show: Callable[[dict[str, Any]], None],
    *,
    as_json: bool,
) -> None:
    """Run a trial in a folder, show what came of it, and exit by its verdict."""
    from weir.local.errors import LocalError

    progress = Console(stderr=True, highlight=False)
    with tempfile.TemporaryDirectory(prefix="weir-trial-") as passing:
        try:
            result = trial(folder or Path(passing), lambda line: progress.print(line, markup=False))
        except LocalError as error:
            progress.print(f"weir: {error.what}\nweir: way out: {error.way_out}", markup=False)
            raise typer.Exit(EXIT_UNAVAILABLE) from error
    if as_json:
        Console(soft_wrap=True, highlight=False).print(json.dumps(result, indent=1), markup=False)
    else:
        show(result)
    raise typer.Exit(0 if result["ok"] else EXIT_DIFFERS)


def _console() -> Console:
    return Console(highlight=False, width=None if Console().is_terminal else 150)


def _show_outage(result: dict[str, Any]) -> None:
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("sender", no_wrap=True)
    for heading in ("sent", "acknowledged", "in Kafka", "missing", "in doubt", "repeated", "kills"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("verdict")
    for one in result["senders"]:
        if one["acknowledges"]:
            verdict = "nothing acknowledged is missing" if one["ok"] else "ACKNOWLEDGED AND MISSING"
        else:
            lost = f"{one['lost'] / one['per_second']:.1f} s of it lost" if one["lost"] else "nothing lost"
            verdict = lost if one["ok"] else f"{lost}: more than {one['kills']} kills explain"
        table.add_row(
            one["sender"],
            f"{one['sent']:,}",
            f"{one['acknowledged']:,}" if one["acknowledges"] else "-",
            *(f"{one[name]:,}" for name in ("found", "missing", "in_doubt", "repeated")),
            str(one["kills"]),
            verdict,
            style="" if one["ok"] else "red",
        )
    console = _console()
    console.print(table)
    dropped = ", ".join(f"{name} {units:,}" for name, units in result["dropped"].items()) or "nothing"
    memory = ", ".join(f"{name} {size} MiB" for name, size in result["peak_memory_mib"].items())
    console.print(f"dropped and counted: {dropped}; largest memory: {memory}", markup=False)
    console.print("every sender is as it should be" if result["ok"] else "[red]not as it should be[/]")


def _show_detection(result: dict[str, Any]) -> None:
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("rule", no_wrap=True)
    for heading in ("alerts alone", "killed", "events alone", "killed"):
        table.add_column(heading, justify="right", no_wrap=True)
    for one in result["rules"]:
        same = one["alone"] == one["killed"] and one["events"][0] == one["events"][1]
        row = (one["alone"], one["killed"], *one["events"])
        table.add_row(one["rule"], *(f"{number:,}" for number in row), style="" if same else "red")
    console = _console()
    console.print(table)
    kills = ", ".join(f"{name} {number}" for name, number in result["kills"].items()) or "none"
    repeated, said = result["repeated_signals"], result["repeated_alerts"]
    console.print(f"kills: {kills}; after them {repeated['killed']:,} signals and {said['killed']:,} alerts came twice")
    if paused := result["counted_otherwise_before_closing"]:
        console.print(
            f"10 s after the last event {paused:,} alerts stood with other counts, which is no fault: each pause tells one"
        )
    headings = {
        "unraised": "NOT RAISED by the run that was left alone",
        "missing": "MISSING where services were killed",
        "invented": "INVENTED where services were killed",
        "counted_otherwise": "COUNTED OTHERWISE where services were killed",
        "timed_otherwise": "OF OTHER TIMES where services were killed",
        "renamed": "TOLD UNDER ANOTHER ID where services were killed",
    }
    for name, heading in headings.items():
        for alert in result[name]:
            about = result[name][alert] if isinstance(result[name], dict) else ""
            if isinstance(about, dict):
                about = ", ".join(f"{key} {value}" for key, value in about.items())
            console.print(f"{heading}: {alert} {about}".rstrip(), markup=False)
    for which, number in result["open_still"].items():
        if number:
            console.print(f"NOT CLOSED at the end: {number:,} alerts of the run {which}", markup=False)
    both = f"{result['alerts']['alone']:,} alerts of {len(result['rules'])} rules"
    console.print(f"{both}: the same, with the same counts" if result["ok"] else f"[red]{both}: not as it should be[/]")
