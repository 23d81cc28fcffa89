"""CEF of several vendors: the shapes that are judged, and the corpus's own lines where it has some."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from weir.tools.conformance import cef

CORPUS = Path(os.environ.get("WEIR_CORPUS", Path(__file__).parents[3] / ".." / "shared" / "corpus"))
LINE = r"CEF:0|Vendor|Product|1|100|Name|very-high|src=192.0.2.1 a.b=c msg=x \= y  proto=TCP"
GOLDEN = {
    "cef": {
        "extensions": {"sourceAddress": "192.0.2.1", "a": {"b": "c"}, "message": "x = y ", "transportProtocol": "TCP"},
        "name": "Name",
        "severity": "very-high",
    },
    "source": {"ip": "192.0.2.1"},
    "event": {"code": "100", "severity": 10},
    "network": {"transport": "tcp"},
}


def test_lines_of_vendors_in_the_corpus() -> None:
    found = list(cef.cases(CORPUS))
    if not found:
        pytest.skip("the corpus has no CEF beside Kemp's: set WEIR_CORPUS to a folder that has cef/beats or cef/metron")
    assert [case for case in found if case.difference is not None and case.reason is None] == []


def write(folder: Path, golden: object | None) -> Path:
    beats = folder / "cef" / "beats"
    beats.mkdir(parents=True)
    (beats / "samples.log").write_text(LINE + "\n")
    if golden is not None:
        (beats / "samples.log.golden.json").write_text(json.dumps([golden]))
    return folder


def test_a_golden_file_beside_the_lines_is_what_they_are_held_against(tmp_path: Path) -> None:
    (case,) = cef.cases(write(tmp_path, GOLDEN))
    assert case.reason is not None
    assert "message: 'x = y', Beats 'x = y '" in (case.difference or "")
    assert "event_severity: 9, Beats 10" in (case.difference or "")


def test_a_value_that_differs_has_no_reason(tmp_path: Path) -> None:
    (case,) = cef.cases(write(tmp_path, GOLDEN | {"source": {"ip": "192.0.2.2"}}))
    assert "source_ip" in (case.difference or "")
    assert case.reason is None


def test_without_a_golden_file_every_key_must_be_a_pair(tmp_path: Path) -> None:
    assert [case.difference for case in cef.cases(write(tmp_path, None))] == [None]


def test_no_folder_no_cases(tmp_path: Path) -> None:
    assert list(cef.cases(tmp_path)) == []
