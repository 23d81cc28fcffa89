"""SensorFleet's envelopes against the vendor's filter: where they differ, the reason is written down."""

from __future__ import annotations

import json
from pathlib import Path

from weir.tools.conformance import report
from weir.tools.conformance.sensorfleet import EXAMPLES, as_filtered, cases


def test_differences_are_the_ruled_ones(tmp_path: Path) -> None:
    (found,) = report(tmp_path, {"sensorfleet": cases}).values()
    assert found.unexplained == []
    assert found.cases == len(EXAMPLES)
    assert {case.name for case in found.differing} == {
        "data with tags",
        "data with a time of its own",
        "data that names the envelope",
        "data that is text",
    }


def test_the_filter_does_what_its_text_says() -> None:
    filtered = as_filtered({"@timestamp": "t", "host": "h", "tags": ["x"], "uuid": "u", "data": {"a": 1, "host": "inner"}})
    assert filtered == {
        "@timestamp": "t",
        "a": 1,
        "host": "inner",
        "tags": ["sensorfleet_event"],
        "_sensorfleet_event": {"uuid": "u"},
    }


def test_envelopes_of_a_corpus_are_judged_too(tmp_path: Path) -> None:
    (tmp_path / "sensorfleet").mkdir()
    envelope, _ = EXAMPLES["Suricata, a record"]
    lines = [envelope, {**envelope, "source_sensor": 5}]
    (tmp_path / "sensorfleet" / "x.ndjson").write_text("\n".join(map(json.dumps, lines)))
    *_, good, bad = cases(tmp_path)
    assert good.difference is None
    assert (bad.name, bad.difference) == ("x.ndjson:2", "tags are []")
