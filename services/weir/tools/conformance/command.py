"""`weir conformance`: every family there is, judged against a corpus."""

from __future__ import annotations

import json
import os
import pkgutil
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path

from rich.console import Console
from rich.table import Table

from weir.tools import conformance
from weir.tools.conformance import Case, Family, FamilyReport, report

__all__ = ["CorpusError", "families", "run_conformance"]


class CorpusError(Exception):
    """There is no corpus, or no such family; the text says the way out."""


def families() -> dict[str, Family]:
    """Every module of `weir.tools.conformance` that has a function `cases`, by name with hyphens."""
    found: dict[str, Family] = {}
    for module in pkgutil.iter_modules(conformance.__path__):
        if module.name.startswith("_") or module.name == __name__.rpartition(".")[2]:
            continue
        name = f"{conformance.__name__}.{module.name}"
        try:
            cases = getattr(import_module(name), "cases", None)
        except Exception as error:
            cases = _broken(error)
        if cases is not None:
            found[module.name.replace("_", "-")] = cases
    return found


def _broken(error: Exception) -> Family:
    def cases(_: Path) -> Iterator[Case]:
        yield Case("the family itself", f"it cannot be imported: {error!r}")

    return cases


def _corpus(given: Path | None) -> Path:
    named = given or (Path(os.environ["WEIR_CORPUS"]) if os.environ.get("WEIR_CORPUS") else None)
    way_out = (
        "name the folder by --corpus or WEIR_CORPUS. It holds inputs that other projects recorded, under their own "
        "licences, and is no part of Weir; docs/decode.md says which files and where they are from"
    )
    if named is None:
        raise CorpusError(f"no corpus: {way_out}")
    if not named.is_dir():
        raise CorpusError(f"no corpus at {named}: {way_out}")
    return named


def run_conformance(given: Path | None, wanted: Sequence[str], *, as_json: bool) -> int:
    """Judge and print; the exit code: 1 where a difference is not explained. Raises CorpusError where there is nothing to judge."""
    known = families()
    if unknown := [name for name in wanted if name not in known]:
        raise CorpusError(f"no family {unknown[0]!r}; there are {', '.join(known)}")
    corpus = _corpus(given)
    found = report(corpus, {name: family for name, family in known.items() if not wanted or name in wanted})
    if not found:
        # Nothing judged is not everything right: whoever runs this as a gate has named the wrong folder.
        raise CorpusError(f"{corpus} holds no file of {', '.join(wanted or known)}")
    if as_json:
        sys.stdout.write(json.dumps(conformance.as_json(found), indent=1) + "\n")
    else:
        _show(Console(highlight=False, markup=False), found)
    return 1 if any(result.unexplained for result in found.values()) else 0


def _show(console: Console, found: Mapping[str, FamilyReport]) -> None:
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("family")
    for heading in ("cases", "agreed", "differing", "unexplained"):
        table.add_column(heading, justify="right")
    for name, result in found.items():
        numbers = (result.cases, result.agreed, len(result.differing), len(result.unexplained))
        table.add_row(name, *(f"{number:,}" for number in numbers))
    console.print(table)
    for name, result in found.items():
        for title, cases in (("explained", _explained(result)), ("not explained", result.unexplained)):
            for line in _lines(name, title, cases):
                console.print(line, soft_wrap=True)


def _explained(result: FamilyReport) -> list[Case]:
    return [case for case in result.differing if case.reason]


def _lines(family: str, title: str, cases: Iterable[Case]) -> Iterator[str]:
    by_reason: dict[str, list[Case]] = {}
    for case in cases:
        by_reason.setdefault(case.reason or f"{case.name}: {case.difference}", []).append(case)
    for reason, same in by_reason.items():
        yield f"{family}, {title}, {len(same):,}: {reason}"
