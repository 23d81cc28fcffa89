"""LEEF against Apache Metron's reading of it."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from weir.tools.conformance import leef

CORPUS = Path(os.environ.get("WEIR_CORPUS", Path(__file__).parents[3] / ".." / "shared" / "corpus"))


def test_metrons_lines() -> None:
    found = list(leef.cases(CORPUS))
    if not found:
        pytest.skip("the corpus has no LEEF: set WEIR_CORPUS to the folder that has syslog/metron")
    assert len(found) >= 4
    assert [case for case in found if case.difference is not None and case.reason is None] == []


def judged(folder: Path, line: str, expected: dict[str, str]) -> list[tuple[str | None, bool]]:
    metron = folder / "syslog" / "metron"
    metron.mkdir(parents=True)
    (metron / "leef__raw__leefOutput").write_text(line)
    (metron / "leef__parsed__leefParsed").write_text(json.dumps(expected | {"original_string": line}))
    return [(case.difference, case.reason is not None) for case in leef.cases(folder)]


LINE = "LEEF:2.0|V|P|1|9|src=192.0.2.1\tmsg=a=b\tsev=3 cn1=7"


def test_a_value_that_metron_cuts_at_its_second_equals_sign_is_explained(tmp_path: Path) -> None:
    ((difference, explained),) = judged(tmp_path, LINE, {"ip_src_addr": "192.0.2.1", "msg": "a", "sev": "3 cn1"})
    assert difference == "msg: 'a=b', Metron 'a'; sev: '3', Metron '3 cn1'"
    assert explained


def test_any_other_difference_is_not(tmp_path: Path) -> None:
    assert judged(tmp_path, LINE, {"ip_src_addr": "192.0.2.2", "msg": "a"})[0][1] is False


def test_no_folder_no_cases(tmp_path: Path) -> None:
    assert list(leef.cases(tmp_path)) == []
