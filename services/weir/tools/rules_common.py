"""What the commands of `weir rules` share: how they read a folder, name what is wrong, and print.

What they need is imported when they are called: every `weir` command loads this module.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from weir.tools.printing import fail, output

if TYPE_CHECKING:
    from weir.detect.rules import RuleSet
    from weir.detect.telling.suppressions import Suppressions

__all__ = [
    "EXIT_FOUND",
    "EXIT_SETTINGS",
    "EXIT_UNAVAILABLE",
    "AsJson",
    "Folder",
    "FolderOption",
    "Only",
    "SuppressionsFile",
    "fail",
    "load",
    "matching",
    "output",
    "places",
    "plain",
    "print_json",
    "say",
    "suppressions_of",
    "with_suppressions",
]

EXIT_FOUND = 1
EXIT_SETTINGS = 2
EXIT_UNAVAILABLE = 3

Folder = Annotated[
    Path | None, typer.Argument(envvar="WEIR_RULES_DIR", help="folder of rules [default: WEIR_RULES_DIR, else those of Weir]")
]
FolderOption = Annotated[
    Path | None, typer.Option("--folder", envvar="WEIR_RULES_DIR", help="folder of rules instead of those of Weir")
]
Only = Annotated[list[str] | None, typer.Option("--rule", help="id, name or part of a title; may be repeated")]
SuppressionsFile = Annotated[
    Path | None,
    typer.Option(
        "--suppressions",
        envvar="WEIR_SUPPRESSIONS_FILE",
        help="allow-lists and the like [default: the folder's suppressions.yml]",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="print JSON for machines")]


def load(folder: Path | None) -> RuleSet:
    """The rules of a folder. Exit 2 where there is none."""
    from weir.detect.reading.loading import load_rules  # noqa: PLC0415

    try:
        found = load_rules(folder)
    except OSError as error:
        fail(EXIT_SETTINGS, [str(error)])
    if not found.loaded.files:
        # Else a wrong folder would be one in which all is well.
        fail(EXIT_SETTINGS, [f"{folder}: has no file of rules (*.yml, *.yaml)"])
    return found


def suppressions_of(rule_set: RuleSet, folder: Path | None, file: Path | None) -> Suppressions:
    """What an operator does not want to hear of, for this rule set. Raises SuppressionsError with every mistake."""
    import time  # noqa: PLC0415

    from weir.detect.reading.folder import SUPPRESSIONS  # noqa: PLC0415
    from weir.detect.telling.suppressions import NOTHING, load_suppressions  # noqa: PLC0415

    if file is None and folder is not None and (beside := folder / SUPPRESSIONS).is_file():
        file = beside
    return NOTHING if file is None else load_suppressions(file, time.time_ns() // 1000).of(rule_set)


def with_suppressions(rule_set: RuleSet, folder: Path | None, file: Path | None) -> tuple[RuleSet, Suppressions]:
    """The rule set without the events that an allow-list takes out, and the suppressions. Exit 2 for mistakes in them."""
    from weir.detect.telling.suppressions import SuppressionsError  # noqa: PLC0415

    try:
        suppressions = suppressions_of(rule_set, folder, file)
    except SuppressionsError as error:
        fail(EXIT_SETTINGS, error.mistakes)
    return suppressions.allowing(rule_set), suppressions


def print_json(value: Any) -> None:
    """Print a value as JSON."""
    print(json.dumps(value, indent=1, ensure_ascii=False, default=str))  # noqa: T201


def say(console: Console, text: str, style: str = "") -> None:
    """Print a line as it is, but for what is not printable: titles and events come from elsewhere."""
    from weir.tools.tap_view import printable  # noqa: PLC0415

    console.print(printable(text), style=style, markup=False, soft_wrap=True)


def plain(text: str) -> str:
    """Text for a cell of a table."""
    from weir.tools.tap_view import printable  # noqa: PLC0415

    return printable(text).replace("[", r"\[")


def places(rows: list[dict[str, Any]]) -> list[tuple[str, dict[str, Any]]]:
    """Rows with the place of each, as file and line."""
    return [(f"{row['file']}:{row['line']}" if row["line"] else row["file"], row) for row in rows]


def matching(one: Any, text: str) -> bool:
    """Whether a rule or correlation is what somebody calls by this text."""
    return text in {one.id, getattr(one, "name", "")} or text.lower() in one.title.lower()
