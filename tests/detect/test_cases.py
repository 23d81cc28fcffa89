"""Test cases in rule files: the shorthand, time, expectations, and mistakes that are named."""

from __future__ import annotations

from pathlib import Path

import pytest

from weir.detect.case_events import CaseError, duration_us, make_record, read_series, time_us
from weir.detect.cases import CaseResult, run_cases
from weir.detect.reading.loading import load_rules

RULES = """title: Connection
id: 11111111-1111-4111-8111-111111111111
name: connection
logsource: {product: weir, service: network-flow}
detection: {sel: {destination.port|gt: 0}, condition: sel}
weir:
  tests: [RULE]
---
title: Many
id: 22222222-2222-4222-8222-222222222222
correlation: {type: event_count, rules: [connection], group-by: [source.ip], timespan: 5m, condition: {gte: 5}}
weir:
  tests: [CASE]
---
title: Notice
id: 33333333-3333-4333-8333-333333333333
logsource: {product: weir, service: ids-alert}
detection: {sel: {source.ip: 10.0.0.9}, condition: sel}
weir:
  tests: [ALONE]
"""
FIVE = "{repeat: 5, event: {source.ip: 10.0.0.1, destination.port: '{n:80-90}'}}"


def run(folder: Path, case: str = "", rule: str = "", alone: str = "") -> list[CaseResult]:
    text = RULES.replace("CASE", case).replace("RULE", rule).replace("ALONE", alone)
    (folder / "a.yml").write_text(text, encoding="utf-8")
    loaded = load_rules(folder)
    assert loaded.problems == ()
    return run_cases(loaded)


def failure(folder: Path, case: str) -> str:
    (result,) = run(folder, case)
    assert (result.rule, result.file, result.line) == ("Many", "a.yml", 9)
    return result.failure


@pytest.mark.parametrize(
    ("case", "expected"),
    [
        (f"{{expect: alert, events: [{FIVE}]}}", ""),
        (f"{{expect: alert, count: 5, entities: {{source_address: 10.0.0.1}}, events: [{FIVE}]}}", ""),
        (f"{{expect: none, events: [{FIVE}]}}", "expected no alert, 1 came"),
        ("{expect: alert, events: [{event: {source.ip: 10.0.0.1, destination.port: 1}}]}", "expected an alert, none came"),
        (f"{{expect: alert, count: 6, events: [{FIVE}]}}", "expected count 6, got 5"),
        (f"{{expect: alert, state: closed, measured: 5, events: [{FIVE}]}}", ""),
        (f"{{expect: alert, state: new, events: [{FIVE}, {{silence: 1s}}]}}", ""),
        (
            f"{{expect: alert, entities: {{source_address: 10.0.0.2}}, events: [{FIVE}]}}",
            "expected entity source_address 10.0.0.2, got 10.0.0.1",
        ),
        (f"{{expect: alert, entities: {{user: x}}, events: [{FIVE}]}}", "expected entity user x, got none of that name"),
        (f"{{expect: alert, values: [a], events: [{FIVE}]}}", "expected values a, got none"),
    ],
)
def test_an_alert_is_compared_in_what_the_case_says_of_it(tmp_path: Path, case: str, expected: str) -> None:
    assert failure(tmp_path, case) == expected


def test_what_came_instead_is_kept_with_a_failure(tmp_path: Path) -> None:
    (result,) = run(tmp_path, f"{{name: quiet, expect: none, events: [{FIVE}]}}")
    assert result.name == "quiet"
    assert len(result.came) == 1
    assert result.came[0].startswith("Many: 5 events within 4 s for source.ip 10.0.0.1")


def test_with_several_alerts_one_must_be_as_described_and_their_number_must_be_said(tmp_path: Path) -> None:
    two = f"{FIVE}, {{repeat: 7, event: {{source.ip: 10.0.0.2, destination.port: 1}}}}"
    assert failure(tmp_path, f"{{expect: alert, events: [{two}]}}") == ""
    assert failure(tmp_path, f"{{expect: alert, count: 7, events: [{two}]}}") == "expected 1 alert, 2 came"
    assert failure(tmp_path, f"{{expect: alert, alerts: 2, count: 7, events: [{two}]}}") == ""
    assert failure(tmp_path, f"{{expect: alert, alerts: 2, count: 6, events: [{two}]}}").startswith("expected count 6, got")
    assert failure(tmp_path, f"{{expect: alert, alerts: 3, events: [{two}]}}") == "expected 3 alerts, 2 came"


def test_series_run_side_by_side_in_event_time(tmp_path: Path) -> None:
    other = "{repeat: 5, every: 2s, after: AFTER, event: {source.ip: 10.0.0.1, destination.port: 1}}"
    near, far = other.replace("AFTER", "2s"), other.replace("AFTER", "2h")
    three = "{repeat: 4, every: 100ms, event: {source.ip: 10.0.0.1, destination.port: 1}}"
    assert failure(tmp_path, f"{{expect: alert, count: 9, events: [{near}, {three}]}}") == ""
    # A later burst of its own: the four of before are no longer counted.
    assert failure(tmp_path, f"{{expect: alert, count: 5, events: [{far}, {three}]}}") == ""


def test_a_rule_that_alerts_by_itself_has_cases_of_series(tmp_path: Path) -> None:
    case = "{expect: alert, count: 2, events: [{repeat: 2, event: {source.ip: 10.0.0.9}}]}"
    wrong = case.replace("alert", "match", 1)
    single = "{expect: match, event: {source.ip: 10.0.0.9}}"
    results = run(tmp_path, alone=f"{case}, {wrong}, {single}")
    assert sorted(result.failure[:40] for result in results) == ["", "", "events need expect: alert or none, and a"]


@pytest.mark.parametrize(
    ("case", "expected"),
    [
        ("{expect: match, event: {destination.port: 80}}", ""),
        ("{expect: none, event: {destination.port: 80}}", "expected no match, it matches"),
        ("{expect: match, event: {destination.port: 0}}", "expected a match, there is none"),
        ("{expect: alert, event: {destination.port: 80}}", "a rule's case needs expect: match or none, and an event"),
        (
            "{expect: match, dataset: cef, event: {destination.port: 80}}",
            "dataset: the rule does not speak of cef",
        ),
        ("{expect: match, event: {}, colour: red}", "unknown colour; a rule's case has name, expect, event and dataset"),
        ("{expect: alert, events: []}", "events need expect: alert or none, and a rule that alerts: "),
    ],
)
def test_a_rules_case_is_of_one_event(tmp_path: Path, case: str, expected: str) -> None:
    (result,) = run(tmp_path, rule=case)
    assert result.failure.startswith(expected)
    assert bool(result.failure) is bool(expected)


@pytest.mark.parametrize(
    ("case", "expected"),
    [
        ("{expect: alert}", "a correlation's case needs expect: alert or none, and a list of events"),
        (f"{{expect: alert, events: [{FIVE}], colour: red}}", "unknown colour; a correlation's case has"),
        ("{expect: alert, events: [5]}", "events: 5 is no series"),
        ("{expect: alert, events: [{event: {}, evry: 5s}]}", "events: unknown evry; a series has"),
        ("{expect: alert, events: [{silence: soon}]}", "silence: 'soon' is no span of time"),
        ("{expect: alert, events: [{repeat: 0, event: {}}]}", "repeat: 0 is no number of events"),
        ("{expect: alert, events: [{repeat: 2}]}", "events: a series needs an event"),
        ("{expect: alert, events: [{every: 1s, every_ms: 5, event: {}}]}", "every and every_ms say the same"),
        ("{expect: alert, events: [{repeat: 100001, event: {}}]}", "events: a case has at most 100000"),
        ("{expect: alert, begin: noon, events: []}", "begin: 'noon' is no time"),
        ("{expect: alert, events: [{event: {source.ipx: 10.0.0.1}}]}", "event: network-flow has no field source.ipx"),
        (
            "{expect: alert, events: [{event: {destination.port: http}}]}",
            "destination.port of network-flow: it holds int",
        ),
        ("{expect: alert, events: [{dataset: flows, event: {source.ip: 10.0.0.1}}]}", "events: there is no dataset flows"),
        ("{expect: alert, events: [{event: {source.port: {one_of: []}}}]}", "one_of: needs a list of values"),
        ("{expect: alert, events: [{event: {source.port: '{n:9-1}'}}]}", "{n:9-1}: 1 is below 9"),
    ],
)
def test_a_case_that_cannot_be_run_fails_and_says_why(tmp_path: Path, case: str, expected: str) -> None:
    assert failure(tmp_path, case).startswith(expected)


def test_numbered_values_run_and_begin_again() -> None:
    written = {"source.ip": "10.0.0.{n}", "destination.port": "{n:22-23}", "user.name": {"one_of": ["a", "b{n}", "c"]}}
    records = [make_record("network-flow", written, index, index, 0) for index in range(4)]
    assert [record["source_ip"] for record in records] == ["10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4"]
    assert [record["destination_port"] for record in records] == [22, 23, 22, 23]
    assert [record["user_name"] for record in records] == ["a", "b2", "c", "a"]


def test_values_are_of_the_type_that_the_field_has() -> None:
    written = {
        "user.id": 1001,
        "source.port": "53",
        "tags": "x",
        "flow.sampling_interval": "0.5",
        "event.start": "2026-03-02T03:00:00Z",
        "user.name": None,
    }
    record = make_record("network-flow", written, 0, 0, 0)
    assert (record["user_id"], record["source_port"], record["tags"]) == ("1001", 53, ["x"])
    assert (record["flow_sampling_interval"], record["event_start"]) == (0.5, 1_772_420_400_000_000)
    assert record["user_name"] is None


def test_entries_of_maps_are_named_with_a_dot() -> None:
    record = make_record("cef", {"cef.extensions.cs1": 5, "cef_extensions.act": "drop", "event.code": "1"}, 0, 0, 0)
    assert record["cef_extensions"] == {"cs1": "5", "act": "drop"}
    with pytest.raises(CaseError, match=r"cef has no field event\.code\.x"):
        make_record("cef", {"event.code.x": 1}, 0, 0, 0)


def test_events_have_ids_and_coordinates_of_their_own() -> None:
    first, later = make_record("cef", {}, 0, 5, 7), make_record("cef", {}, 0, 205, 7)
    assert first["event_id"] == "0" * 32 + "-5-0"
    assert later["event_id"] == "0" * 31 + "2-5-0"
    assert (first["raw_offset"], later["raw_offset"]) == (0, 2)
    assert first["timestamp"] == first["event_created"] == 7


def test_spans_and_times() -> None:
    spans = [duration_us(text, "after") for text in ("10ms", "1.5h", "8d", "2w")]
    assert spans == [10_000, 5_400_000_000, 691_200_000_000, 1_209_600_000_000]
    assert time_us("2026-03-02T04:00:00+01:00", "begin") == time_us("2026-03-02T03:00:00", "begin") == 1_772_420_400_000_000
    assert read_series({"event": {}}, "cef") == ("cef", 0, 1, 1_000_000, {})
