"""`weir trial …`: options in, tables out."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

__all__ = ["trial_app"]

EXIT_DIFFERS = 1
EXIT_UNAVAILABLE = 3

trial_app = typer.Typer(help="Long trials of whole services on this machine.", no_args_is_help=True)


@trial_app.callback()
def _trial() -> None:
    """Keeps `outage` a command of its own while it is the only one."""


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
    from weir.local.errors import LocalError
    from weir.local.trials.outage import Plan, run_outage

    progress = Console(stderr=True, highlight=False)
    with tempfile.TemporaryDirectory(prefix="weir-trial-") as passing:
        try:
            place = folder or Path(passing)
            result = run_outage(Plan(seconds, seed, rate), place, lambda line: progress.print(line, markup=False))
        except LocalError as error:
            progress.print(f"weir: {error.what}\nweir: way out: {error.way_out}", markup=False)
            raise typer.Exit(EXIT_UNAVAILABLE) from error
    if as_json:
        Console(soft_wrap=True, highlight=False).print(json.dumps(result, indent=1), markup=False)
    else:
        _show(result)
    raise typer.Exit(0 if result["ok"] else EXIT_DIFFERS)


def _show(result: dict[str, Any]) -> None:
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
    console = Console(highlight=False, width=None if Console().is_terminal else 150)
    console.print(table)
    dropped = ", ".join(f"{name} {units:,}" for name, units in result["dropped"].items()) or "nothing"
    memory = ", ".join(f"{name} {size} MiB" for name, size in result["peak_memory_mib"].items())
    console.print(f"dropped and counted: {dropped}; largest memory: {memory}", markup=False)
    console.print("every sender is as it should be" if result["ok"] else "[red]not as it should be[/]")
