"""Weir's decoders against what others recorded and expect: the report of `weir conformance`.

A family is a kind of input. Its module here reads the corpus, decodes with the very functions that the processors use, and judges
each case: agreed, or differing for a reason that is written down in that module's table. A difference without a written reason is a
defect.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

__all__ = ["Case", "Family", "FamilyReport", "as_json", "report"]


class Case(NamedTuple):
    """One judged input. `difference` says what differs, None where all agrees; `reason` is why that is right, if known."""

    name: str
    difference: str | None = None
    reason: str | None = None


Family = Callable[[Path], Iterable[Case]]
"""From the folder of the corpus to its judged cases; none where the corpus lacks this family's files."""


@dataclass(slots=True)
class FamilyReport:
    """What came of one family."""

    cases: int = 0
    agreed: int = 0
    differing: list[Case] = field(default_factory=list)

    @property
    def unexplained(self) -> list[Case]:
        """Differences that nobody has argued."""
        return [case for case in self.differing if not case.reason]


def report(corpus: Path, families: Mapping[str, Family]) -> dict[str, FamilyReport]:
    """Judge the families against a corpus; those without a case are left out.

    A family that fails ends with one more case, which says so: it differs, and nothing explains it.
    """
    found: dict[str, FamilyReport] = {}
    for name, family in families.items():
        result = FamilyReport()
        for case in _judged(corpus, family):
            result.cases += 1
            if case.difference is None:
                result.agreed += 1
            else:
                result.differing.append(case)
        if result.cases:
            found[name] = result
    return found


def _judged(corpus: Path, family: Family) -> Iterator[Case]:
    last = "the first case"
    try:
        for case in family(corpus):
            yield case
            last = f"behind {case.name}"
    except Exception as error:
        yield Case(last, f"judging failed: {error!r}")


def as_json(found: Mapping[str, FamilyReport]) -> dict[str, Any]:
    """The report for machines: `{"families": {name: {"cases", "agreed", "differing": [{"case", "reason"}]}}}`."""
    return {
        "families": {
            name: {
                "cases": result.cases,
                "agreed": result.agreed,
                "differing": [
                    {"case": case.name, "difference": case.difference, "reason": case.reason or "not explained"}
                    for case in result.differing
                ],
            }
            for name, result in found.items()
        }
    }
