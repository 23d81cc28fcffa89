"""`weir rules list`, `check`, `test`, `coverage` and `explain`, as a detection engineer meets them."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from weir.detect.case_events import make_record
from weir.detect.cases import cases_of
from weir.detect.reading.loading import DEFAULT_RULES, load_rules, parsed_rules
from weir.detect.rules import Rule
from weir.tools.rules_commands import rules_app
from weir.tools.rules_coverage import coverage, navigator_layer
from weir.tools.rules_explain import explain, verdicts
from weir.tools.rules_report import way_out

RULES = """title: Refused
id: 11111111-1111-4111-8111-111111111111
name: refused
logsource: {product: weir, service: authentication}
tags: [attack.credential-access, attack.t1110.001]
level: low
detection:
  failed: {event.outcome: failure, event.action|startswith: log}
  inside:
    - source.ip|cidr: 10.0.0.0/8
    - user.name: [svc-one, svc-two]
  words: [guest]
  condition: failed and not (1 of inside or words)
weir:
  tests:
    - {name: from outside, expect: match, event: {event.outcome: failure, event.action: logon, source.ip: 192.0.2.1}}
    - {name: from inside, expect: none, event: {event.outcome: failure, event.action: logon, source.ip: 10.1.1.1}}
---
title: Many refused [of one user]
id: 22222222-2222-4222-8222-222222222222
name: many_refused
level: high
tags: [attack.credential-access, attack.initial-access, attack.t1110, attack.t1078]
correlation: {type: event_count, rules: [refused], group-by: [user.name], timespan: 5m, condition: {gte: 5}}
weir:
  tests:
    - name: five
      expect: alert
      count: 5
      events: [{repeat: 5, event: {event.outcome: failure, event.action: logon, user.name: x}}]
---
title: Scanner
id: 33333333-3333-4333-8333-333333333333
logsource: {product: qumulo, category: file_audit}
detection: {sel: {event.action: fs_list, file.path|re: '^/(a|b)'}, condition: sel}
"""
FOREIGN = """title: Registry
id: 55555555-5555-4555-8555-555555555555
name: registry
logsource: {product: windows, category: registry_set}
detection: {a: {b: 1}, condition: a}
---
title: Many
id: 77777777-7777-4777-8777-777777777777
correlation: {type: event_count, rules: [registry], group-by: [b], timespan: 1m, condition: {gte: 2}}
---
title: Verdict
id: 66666666-6666-4666-8666-666666666666
logsource: {service: netflow}
detection: {a: {blocked: true}, condition: a}
"""
EVENT = {
    "dataset": "authentication",
    "event_outcome": "failure",
    "event_action": "logon",
    "source_ip": "192.0.2.1",
    "user_name": "eve",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "rules"
    made.mkdir()
    (made / "logins.yml").write_text(RULES, encoding="utf-8")
    return made


def run(*arguments: str | Path, given: str = "") -> tuple[int, str, str]:
    result = CliRunner().invoke(rules_app, [str(a) for a in arguments], input=given)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.output
    return result.exit_code, result.stdout, result.stderr


def words(text: str) -> str:
    return " ".join(text.split())


def event_file(folder: Path, *events: dict[str, Any]) -> Path:
    path = folder.parent / "event.json"
    path.write_text("\n".join(map(json.dumps, events)), encoding="utf-8")
    return path


class TestList:
    def test_rules_and_correlations_are_listed_with_what_they_are(self, folder: Path) -> None:
        code, out, _ = run("list", folder)
        assert code == 0
        assert "Many refused [of one user]" in out
        assert "3 rules and correlations, 2 of them alert; 3 test cases" in out
        assert "\x1b[" not in out
        code, out, _ = run("list", folder, "--json")
        rows = {row["title"]: row for row in json.loads(out)["rules"]}
        assert [rows[name]["alerts"] for name in ("Refused", "Many refused [of one user]", "Scanner")] == [False, True, True]
        assert rows["Many refused [of one user]"]["kind"] == "event_count"
        assert rows["Many refused [of one user]"]["datasets"] == ["authentication"]
        assert rows["Refused"]["techniques"] == ["T1110.001"]
        assert (rows["Scanner"]["file"], rows["Scanner"]["line"]) == ("logins.yml", 32)

    def test_a_folder_that_is_not_there_is_said(self, tmp_path: Path) -> None:
        code, _, err = run("list", tmp_path / "none")
        assert code == 2
        assert "no such folder" in err


class TestCheck:
    def test_a_folder_without_any_file_of_rules_is_taken_for_the_wrong_one(self, tmp_path: Path) -> None:
        code, _, err = run("check", tmp_path)
        assert code == 2
        assert "has no file of rules" in err

    def test_a_folder_in_which_all_is_well(self, folder: Path) -> None:
        code, out, _ = run("check", folder)
        assert (code, out.partition(";")[0]) == (0, "2 rules and 1 correlations can be used")

    def test_what_is_wrong_is_named_with_place_cause_and_way_out(self, folder: Path) -> None:
        wrong = RULES.partition("weir:")[0].replace("event.outcome", "event.outcum").replace("1111", "4444")
        (folder / "bad.yml").write_text(
            wrong.replace("title: Refused\n", "title: Typo\n").replace("name: refused", ""), encoding="utf-8"
        )
        code, out, _ = run("check", folder)
        assert code == 1
        assert "bad.yml:1: Typo: field event.outcum is not in dataset authentication" in out
        assert "way out: docs/events.md" in out
        assert "1 wrong, 0 not applicable" in out

    def test_what_is_about_other_events_than_ours_is_told_apart_from_what_is_wrong(self, folder: Path) -> None:
        (folder / "foreign.yml").write_text(FOREIGN, encoding="utf-8")
        code, out, _ = run("check", folder)
        assert code == 0
        assert "0 wrong, 3 not applicable" in out
        assert run("check", folder, "--strict")[0] == 1
        rows = json.loads(run("check", folder, "--json")[1])["problems"]
        assert {row["state"] for row in rows} == {"not applicable"}

    def test_suppressions_beside_the_rules_are_judged_too(self, folder: Path) -> None:
        entry = (
            "suppress:\n - {id: a, owner: me, reason: so, expires: 2020-01-01, rules: [many_refused, no_such], where: {user: x}}\n"
        )
        (folder / "suppressions.yml").write_text(entry, encoding="utf-8")
        code, out, _ = run("check", folder)
        assert code == 0
        assert "a: there is no rule no_such" in out
        assert "a of me has expired" in out
        (folder / "suppressions.yml").write_text("suppress:\n - {id: a}\n", encoding="utf-8")
        code, out, _ = run("check", folder)
        assert code == 1
        assert "owner is missing" in out

    @pytest.mark.parametrize(
        "cause", ["log source product x is mapped to no dataset", "there is no rule x", "has no id; alerts are"]
    )
    def test_causes_have_a_way_out(self, cause: str) -> None:
        assert way_out(cause)


class TestTest:
    def test_all_as_expected(self, folder: Path) -> None:
        code, out, _ = run("test", folder)
        assert code == 0
        assert "without a test case: 1: Scanner" in out
        assert out.endswith("3 of 3 test cases as expected\n")

    def test_a_failure_is_shown_with_what_came_instead(self, folder: Path) -> None:
        turned = RULES.replace("expect: alert\n      count: 5", "expect: none").replace("expect: none", "expect: match", 1)
        (folder / "logins.yml").write_text(turned, encoding="utf-8")
        code, out, _ = run("test", folder)
        assert code == 1
        assert "logins.yml:1: Refused: from inside" in out
        assert "expected a match, there is none" in out
        assert "came: Many refused [of one user]: 5 events" in words(out)
        assert "1 of 3 test cases as expected" in out
        rows = json.loads(run("test", folder, "--json")[1])
        assert (rows["passed"], rows["failed"]) == (1, 2)

    def test_one_rule_can_be_tested_alone(self, folder: Path) -> None:
        assert "1 of 1" in run("test", folder, "--rule", "many_refused")[1]
        assert run("test", folder, "--rule", "nothing of the kind")[0] == 2


class TestExplain:
    def test_rules_that_match_and_where_they_count(self, folder: Path) -> None:
        code, out, _ = run("explain", event_file(folder, EVENT), "--folder", folder)
        assert code == 0
        assert "✓ Refused  logins.yml:1" in out
        assert "counts in Many refused [of one user]: event_count >= 5 within 300 s, by user.name eve" in out

    def test_what_fails_is_said_in_a_line(self, folder: Path) -> None:
        code, out, _ = run("explain", event_file(folder, EVENT | {"event_outcome": "success"}), "--folder", folder)
        assert code == 1
        assert "✗ Refused  logins.yml:1: event.outcome: failure (the event has success)" in out

    def test_the_whole_condition_is_a_tree(self, folder: Path) -> None:
        event = EVENT | {"source_ip": "10.1.2.3", "user_name": "guest"}
        code, out, _ = run("explain", event_file(folder, event), "--folder", folder, "--rule", "refused")
        assert code == 1
        lines = [line.strip("│├└─ ") for line in out.splitlines()]
        assert "✗ failed and not (1 of inside or words)   (all of)" in lines
        assert "✓ event.action|startswith: log   the event has logon" in lines
        assert "✓ source.ip|cidr: 10.0.0.0/8   the event has 10.1.2.3" in lines
        assert "✗ user.name: svc-one, svc-two   the event has guest" in lines
        assert "✓ keywords: guest   keywords are looked for in every text of the event" in lines

    def test_a_correlation_stands_for_the_rules_that_count_in_it(self, folder: Path) -> None:
        code, out, _ = run("explain", event_file(folder, EVENT), "--folder", folder, "--rule", "Many refused", "--json")
        assert code == 0
        (found,) = json.loads(out)
        assert [rule["title"] for rule in found["rules"]] == ["Refused"]
        assert found["rules"][0]["tree"]["holds"] is True

    def test_a_rule_about_another_dataset_says_so(self, folder: Path) -> None:
        code, out, _ = run("explain", event_file(folder, EVENT), "--folder", folder, "--rule", "Scanner")
        assert code == 1
        assert "✗ Scanner: looks at file-audit" in out

    @pytest.mark.parametrize("family", ["qumulo", "flows"])
    def test_trees_say_what_the_matcher_says(self, family: str) -> None:
        folder = DEFAULT_RULES / family
        loaded, (parsed, placeholders) = load_rules(folder), parsed_rules(folder)
        judged = set()
        for case in cases_of(loaded):
            if not isinstance(case.of, Rule):
                continue
            for variant in case.of.variants:
                record = make_record(variant.dataset, case.spec["event"], 0, 0, 0, [variant.record_field])
                for verdict in verdicts(loaded, variant.dataset, record):
                    assert explain(parsed[verdict.rule.id], verdict, record, placeholders).holds is verdict.matches
                    assert verdict.tried or not verdict.matches
                    judged.add(verdict.matches)
        assert judged == {True, False}

    def test_the_log_source_is_a_part_of_the_tree(self, folder: Path) -> None:
        event = {"dataset": "file-audit", "event_module": "other", "event_action": "fs_list", "file_path": "/a"}
        out = run("explain", event_file(folder, event), "--folder", folder, "--rule", "Scanner")[1]
        assert "✗ log source: event_module is qumulo   the event has other" in out
        assert "✓ sel" in out

    def test_an_allow_list_is_named_where_it_takes_an_event_out(self, folder: Path) -> None:
        entry = "allow:\n - {id: a, owner: me, reason: so, expires: 2099-01-01, rules: any, where: {user.name: eve}}\n"
        file = folder.parent / "allow.yml"
        soon = datetime.now(UTC) + timedelta(days=30)
        file.write_text(entry.replace("2099-01-01", soon.strftime("%Y-%m-%d")), encoding="utf-8")
        event = EVENT | {"event_created": 1_700_000_000_000_000}
        out = run("explain", event_file(folder, event), "--folder", folder, "--suppressions", file)[1]
        assert "an allow-list, which takes this event out" in out

    def test_events_come_as_decoded_from_alerts_and_from_standard_input(self, folder: Path) -> None:
        sample = {name: value for name, value in EVENT.items() if name != "dataset"} | {"event_id": "e"}
        alert = {"alert_id": "a", "samples": [json.dumps(sample)], "evidence": [{"event_id": "e", "dataset": "authentication"}]}
        assert run("explain", event_file(folder, alert), "--folder", folder)[0] == 0
        assert run("explain", "-", "--folder", folder, given=json.dumps([EVENT, EVENT]))[0] == 0
        assert run("explain", "-", "--folder", folder, given=json.dumps(EVENT) + "\n" + json.dumps(EVENT))[0] == 0
        assert run("explain", "-", "--folder", folder, "--dataset", "authentication", given=json.dumps(sample))[0] == 0

    @pytest.mark.parametrize(
        ("given", "said"),
        [
            ("<38>1 a raw line", "weir decode FAMILY FILE | weir rules explain -"),
            ('{"user_name": "x"}', "name it by --dataset"),
            ('{"dataset": "none"}', "there is no dataset none"),
            ("[]", "there is no event in it"),
            ("5", "an event is a JSON object"),
        ],
    )
    def test_what_is_no_event_is_said(self, folder: Path, given: str, said: str) -> None:
        code, _, err = run("explain", "-", "--folder", folder, given=given)
        assert code == 2
        assert said in err

    @pytest.mark.parametrize(
        "given",
        [
            {"event.outcome": "failure", "event.action": "logon", "user.name": "nora"},
            {"event": {"outcome": "failure", "action": "logon"}, "user": {"name": "nora"}},
        ],
    )
    def test_events_may_have_the_names_that_rules_have(self, folder: Path, given: dict[str, Any]) -> None:
        code, out, _ = run("explain", "-", "--folder", folder, "--dataset", "authentication", given=json.dumps(given))
        assert (code, "user.name nora" in out) == (0, True)

    def test_a_field_that_the_dataset_does_not_have_is_named(self, folder: Path) -> None:
        given = json.dumps({"dataset": "authentication", "event.outcom": "failure"})
        code, _, err = run("explain", "-", "--folder", folder, given=given)
        assert (code, "authentication has no field event.outcom" in err) == (2, True)

    def test_a_file_that_is_not_there_is_named(self, folder: Path) -> None:
        code, _, err = run("explain", folder / "none.json", "--folder", folder)
        assert code == 2
        assert "none.json" in err


class TestCoverage:
    def test_a_technique_stands_under_those_tactics_of_its_rule_that_it_has(self, folder: Path) -> None:
        rows = {(row["tactic"], row["technique"]): row for row in coverage(load_rules(folder))}
        # T1110.001 comes from the rule that counts, which does not alert itself.
        assert set(rows) == {("initial-access", "T1078"), ("credential-access", "T1110"), ("credential-access", "T1110.001")}
        assert rows["credential-access", "T1110"]["sources"] == ["authentication"]
        assert rows["credential-access", "T1110"]["rules"] == ["Many refused [of one user]"]

    def test_it_is_a_table_and_json(self, folder: Path) -> None:
        code, out, _ = run("coverage", folder)
        assert code == 0
        assert "T1110 Brute Force" in out
        assert "3 techniques, 2 tactics; 1 rules that alert name neither" in out
        assert json.loads(run("coverage", folder, "--json")[1]) == coverage(load_rules(folder))

    def test_a_layer_for_the_navigator(self, folder: Path) -> None:
        layer = json.loads(run("coverage", folder, "--navigator")[1])
        assert layer == navigator_layer(load_rules(folder))
        assert layer["versions"]["layer"] == "4.5"
        assert layer["domain"] == "enterprise-attack"
        assert [one["techniqueID"] for one in layer["techniques"]] == ["T1078", "T1110", "T1110.001"]
        assert all(one["score"] >= 1 for one in layer["techniques"])
        assert layer["gradient"]["maxValue"] > layer["gradient"]["minValue"]
