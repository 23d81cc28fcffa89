"""`make bench`, or `python -m bench --help`."""

from __future__ import annotations

import argparse
import json
import platform
import sys
from datetime import UTC, datetime
from typing import Any

import psutil
from rich.console import Console
from rich.table import Table

from bench.blocks import BLOCK_LOADS, Block, measure_blocks
from bench.paths import PATHS, Result, measure
from bench.services import BenchError, Broker
from weir.local.errors import LocalError

EXIT_MISSING = 1
EXIT_UNAVAILABLE = 3


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description="Events per CPU-second of each path of Weir.")
    parser.add_argument("--only", action="append", metavar="NAME", help="this path alone, or blocks:NAME; may be repeated")
    parser.add_argument("--events", type=int, default=100_000, help="events for each path (default %(default)s)")
    parser.add_argument("--block-events", type=int, default=20_000, help="events for each building block (default %(default)s)")
    parser.add_argument("--json", action="store_true", dest="as_json", help="print JSON for machines")
    parser.add_argument("--list", action="store_true", dest="listed", help="list the names and stop")
    return parser.parse_args()


def _names() -> dict[str, str]:
    return {name: path.what for name, path in PATHS.items()} | {f"blocks:{name}": "steps in one process" for name in BLOCK_LOADS}


def main() -> int:
    """Run what is asked for; 1 where events are missing."""
    arguments = _arguments()
    progress = Console(stderr=True, highlight=False, soft_wrap=True)
    names = _names()
    if arguments.listed:
        for name, what in names.items():
            print(f"{name:22} {what}")
        return 0
    wanted = arguments.only or list(names)
    if unknown := [name for name in wanted if name not in names]:
        progress.print(f"bench: there is no {', '.join(unknown)}; `--list` names what there is", markup=False)
        return 2
    try:
        blocks = [
            block
            for name in dict.fromkeys(wanted)
            if name.startswith("blocks:")
            for block in measure_blocks(name.removeprefix("blocks:"), arguments.block_events)
        ]
        results = _paths([name for name in dict.fromkeys(wanted) if name in PATHS], arguments.events, progress)
    except LocalError as error:
        progress.print(f"bench: {error}", markup=False)
        return EXIT_UNAVAILABLE
    except ValueError as error:
        progress.print(f"bench: {error}", markup=False)
        return EXIT_MISSING
    if arguments.as_json:
        print(json.dumps(_document(results, blocks), indent=1))
    else:
        _show(results, blocks)
    if any(not result.ok for result in results):
        return EXIT_MISSING
    return 0 if len(results) + len({block.name for block in blocks}) == len(set(wanted)) else EXIT_UNAVAILABLE


def _paths(names: list[str], events: int, progress: Console) -> list[Result]:
    if not names:
        return []
    results = []
    with Broker() as broker:
        for name in names:
            progress.print(f"{name} …", markup=False)
            try:
                results.append(measure(broker, name, events))
            except BenchError as error:
                progress.print(f"{name} could not be measured: {error}", markup=False)
    return results


def _machine() -> str:
    return f"Python {platform.python_version()}, {platform.machine()}, {psutil.cpu_count()} CPUs"


def _document(results: list[Result], blocks: list[Block]) -> dict[str, Any]:
    return {
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": _machine(),
        "paths": [result.record() for result in results],
        "blocks": [block.record() for block in blocks],
    }


def _show(results: list[Result], blocks: list[Block]) -> None:
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 150)
    console.print(_machine(), markup=False)
    if results:
        table = Table(box=None, header_style="bold", pad_edge=False)
        table.add_column("path")
        for heading in ("events", "missing", "CPU s", "wall s", "MB", "events per CPU-s"):
            table.add_column(heading, justify="right")
        for result in results:
            faults = f"{result.missing}" + (f" (+{result.surplus + result.dead} unwanted)" if result.surplus + result.dead else "")
            table.add_row(
                f"{result.name}: {PATHS[result.name].what}",
                f"{result.events:,}",
                faults if result.ok else f"[red]{faults}[/]",
                f"{result.cpu_seconds:.2f}",
                f"{result.wall_seconds:.1f}",
                f"{result.resident_mb:.0f}",
                "-" if result.rate is None else f"{result.rate:,.0f}",
            )
        console.print(table)
        for result in results:
            if result.dead_reason:
                console.print(f"{result.name}: first dead letter: {result.dead_reason}", markup=False)
    if blocks:
        table = Table(box=None, header_style="bold", pad_edge=False)
        table.add_column("building block")
        for heading in ("events", "µs each", "events per CPU-s"):
            table.add_column(heading, justify="right")
        for block in blocks:
            table.add_row(
                f"{block.name}: {block.step}", f"{block.events:,}", f"{block.microseconds:.2f}", f"{1e6 / block.microseconds:,.0f}"
            )
        console.print(table)


if __name__ == "__main__":
    sys.exit(main())
