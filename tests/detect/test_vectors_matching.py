"""The vector files of Sigma's matching semantics: each case by the predicate alone, and by the index among all other detections."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from sigma.rule import SigmaRule

from weir.detect.matching.index import Index
from weir.detect.matching.matcher import Compiled, Names, compile_rule
from weir.detect.reading.logsources import TIME
from weir.detect.reading.placeholders import NO_PLACEHOLDERS, read_placeholders

FOLDER = Path(__file__).parent / "vectors" / "matching"
VECTORS: list[dict[str, Any]] = [
    vector | {"file": path.stem} for path in sorted(FOLDER.glob("*.yml")) for vector in yaml.safe_load(path.read_text("utf-8"))
]
_MAPS = ("labels", "document")


def record_field(name: str) -> str:
    """As a dataset would have it that has every field."""
    if name == "@timestamp":
        return TIME
    head, dot, rest = name.partition(".")
    return f"{head}.{rest}" if dot and head in _MAPS else name.replace(".", "_")


def compiled(vector: dict[str, Any]) -> Compiled:
    placeholders = (
        read_placeholders(yaml.safe_dump(vector["placeholders"]).encode()) if "placeholders" in vector else NO_PLACEHOLDERS
    )
    rule = SigmaRule.from_dict({"title": "t", "logsource": {"category": "x"}, "detection": vector["detection"]})
    return compile_rule(rule, Names(record_field, placeholders=placeholders))


COMPILED = [compiled(vector) for vector in VECTORS]
INDEX = Index((place, one.cover, one.required) for place, one in enumerate(COMPILED))
CASES = [(place, *case) for place, vector in enumerate(VECTORS) for case in vector["cases"]]


def test_there_are_enough_cases_and_of_both_outcomes() -> None:
    assert len(CASES) >= 150
    for vector in VECTORS:
        assert {expected for _, _, expected in vector["cases"]} == {True, False}, vector["about"]


@pytest.mark.parametrize(
    ("place", "event", "expected"),
    [pytest.param(place, event, expected, id=f"{VECTORS[place]['about']}: {name}") for place, name, event, expected in CASES],
)
def test_matching(place: int, event: dict[str, Any], expected: bool) -> None:
    assert COMPILED[place].matches(event) is expected


def test_the_index_gives_every_detection_that_matches() -> None:
    for _, _, event, _ in CASES:
        matching = [place for place, one in enumerate(COMPILED) if one.matches(event)]
        candidates = INDEX.candidates(event)
        assert [place for place in candidates if COMPILED[place].matches(event)] == matching, event
        assert candidates == sorted(set(candidates))
