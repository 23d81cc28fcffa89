"""EVE records of others become events that have all they say; and the judge sees it where one does not."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from weir.tools.conformance import report
from weir.tools.conformance.eve import cases, judge, record_of

CORPUS = Path(os.environ.get("WEIR_CORPUS", Path(__file__).parents[4] / "shared" / "corpus"))
BASE = {"timestamp": "2024-03-01T12:00:00.000000+0000", "flow_id": 1, "proto": "TCP"}


def test_no_difference_is_unexplained() -> None:
    if not (CORPUS / "suricata").is_dir():
        pytest.skip(f"no Suricata checks at {CORPUS}; WEIR_CORPUS names the corpus")
    (found,) = report(CORPUS, {"eve": cases}).values()
    assert [(case.name, case.difference) for case in found.unexplained] == []
    assert found.cases >= 200


def test_a_corpus_without_suricata_has_no_cases(tmp_path: Path) -> None:
    assert list(cases(tmp_path)) == []


def test_checks_and_recorded_lines_are_both_judged(tmp_path: Path) -> None:
    folder = tmp_path / "suricata" / "x"
    folder.mkdir(parents=True)
    (folder / "test.yaml").write_text(
        "checks:\n- filter:\n    count: 1\n    match:\n      event_type: http\n      http.status: 404\n      http.__len: 3\n"
        "- shell:\n    args: x\n"
    )
    (folder / "eve.json").write_text('{"timestamp":"2024-03-01T12:00:00+0000","event_type":"ssh","flow_id":3}\nno json\n')
    assert [(case.name, case.difference) for case in cases(tmp_path)] == [("x/test.yaml#1", None), ("x/eve.json:1", None)]


def test_a_record_is_built_of_paths_and_values() -> None:
    record = record_of(
        {"event_type": "dns", "dns.queries[1].rrname": "b", "dns.queries[0].rrname": "a", "has-key": "x", "a.__len": 2}
    )
    assert record["dns"] == {"queries": [{"rrname": "a"}, {"rrname": "b"}]}
    assert record["event_type"] == "dns"
    assert "a" not in record


@pytest.mark.parametrize(
    ("record", "said"),
    [
        ({**BASE, "event_type": "http", "http": {"status": "404"}}, "http_response_status_code is None"),
        ({**BASE, "event_type": "flow", "flow": {"bytes_toserver": "many"}}, "source_bytes is None"),
        ({**BASE, "event_type": ""}, "no event"),
    ],
    ids=["field", "count", "no event"],
)
def test_the_judge_sees_what_is_missing(record: dict[str, Any], said: str) -> None:
    difference = judge(record)
    assert difference is not None
    assert difference.startswith(said)


def test_of_many_answers_the_first_have_the_column() -> None:
    answers = [{"rdata": f"192.0.2.{n}"} for n in range(80)]
    assert judge({**BASE, "event_type": "dns", "dns": {"answers": answers}}) is None
