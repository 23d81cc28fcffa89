"""What commands say: what is wrong on standard error, tables on standard output."""

from __future__ import annotations

from typing import NoReturn

import typer
from rich.console import Console

__all__ = ["fail", "output"]

_WIDE = 200


def fail(code: int, lines: list[str]) -> NoReturn:
    """Say what is wrong on standard error, and exit."""
    console = Console(stderr=True, highlight=False)
    for line in lines:
        console.print(f"weir: {line}", markup=False, soft_wrap=True)
    raise typer.Exit(code)


def output() -> Console:
    """A console for standard output; without colours where that is no terminal."""
    console = Console(highlight=False)
    if not console.is_terminal:
        # What goes into a file or a pipe is not bound to 80 columns.
        console.width = max(console.width, _WIDE)
    return console
