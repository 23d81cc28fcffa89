"""The vendor's Kemp lines by the positions of its query."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from weir.tools.conformance import kemp

CORPUS = Path(os.environ.get("WEIR_CORPUS", Path(__file__).parents[3] / ".." / "shared" / "corpus"))


def test_the_vendors_lines() -> None:
    found = list(kemp.cases(CORPUS))
    if not found:
        pytest.skip("the corpus has no Kemp lines: set WEIR_CORPUS to the folder that has cef/kemp")
    assert len(found) >= 4
    assert [case for case in found if case.difference is not None] == []


def test_a_line_of_something_else_differs(tmp_path: Path) -> None:
    folder = tmp_path / "cef" / "kemp"
    folder.mkdir(parents=True)
    (folder / "x.cef").write_text("CEF:0|Other|LM|1|0|Accept|0|vs=10.0.0.1:80\nCEF:0|Kemp\nplain\n")
    differences = [case.difference for case in kemp.cases(tmp_path)]
    assert differences[0] == "became an event of cef"
    assert (differences[1] or "").startswith("refused: CEF header")
    assert differences[2] == "became an event of syslog"
