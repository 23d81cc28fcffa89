"""Every recorded Zeek record of the corpus is decoded as its columns say, or differs for a written reason."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from weir.tools.conformance import report
from weir.tools.conformance.zeek import cases

CORPUS = Path(os.environ.get("WEIR_CORPUS", Path(__file__).parents[3] / ".." / "shared" / "corpus"))

HEADER = "#separator \\x09\n#set_separator\t,\n#empty_field\t(empty)\n#unset_field\t-\n#path\tdns\n"
HEADER += "#fields\tts\tuid\tquery\n#types\ttime\tstring\tstring\n"


@pytest.mark.skipif(not (CORPUS / "zeek").is_dir(), reason="the corpus is not there")
def test_no_record_differs_without_a_reason() -> None:
    found = report(CORPUS, {"zeek": cases})["zeek"]
    assert found.unexplained == []
    assert found.cases >= 1_000


def differences(folder: Path, name: str, text: str) -> list[str]:
    (folder / "zeek").mkdir(exist_ok=True)
    (folder / "zeek" / name).write_text(text)
    return [case.difference for case in cases(folder) if case.difference is not None]


def test_a_right_log_has_no_differences_and_a_malformed_line_is_none(tmp_path: Path) -> None:
    text = f"{HEADER}1.5\tC1\tx.example\n1.5\tC1\nyesterday\tC1\tx.example\n"
    assert differences(tmp_path, "dns.log", text) == []


def test_what_is_not_zeeks_is_a_difference(tmp_path: Path) -> None:
    assert differences(tmp_path, "x.log", '{"ts": 1.5, "mine": 1}\n') == ["not recognised"]


def test_there_are_no_cases_without_a_corpus(tmp_path: Path) -> None:
    assert list(cases(tmp_path)) == []
