"""Loading rule folders: what is good works, what is bad is named with file, line and cause."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from weir.detect.cases import run_cases
from weir.detect.reading.folder import MAX_FILE_BYTES
from weir.detect.reading.loading import load_rules
from weir.model.topics import DATASETS
from weir.model.yamlfile import read_yaml

RULE = """title: {title}
id: {id}
name: {name}
logsource: {{category: file_audit, product: qumulo}}
detection:
  sel: {{{sel}}}
  condition: sel
"""
CORRELATION = """title: Many
id: 22222222-2222-4222-8222-222222222222
tags: [attack.t1486, attack.privilege-escalation]
correlation:
  type: {type}
  rules: [{rules}]
  group-by: [{group}]
  timespan: {timespan}
  condition: {{{condition}}}
"""
ID = "11111111-1111-4111-8111-111111111111"


def rule(sel: str = "event.action: fs_delete", title: str = "One", identity: str = ID, name: str = "one") -> str:
    return RULE.format(title=title, id=identity, name=name, sel=sel)


def correlation(
    kind: str = "event_count", rules: str = "one", group: str = "user.id", timespan: str = "1m", condition: str = "gte: 3"
) -> str:
    return CORRELATION.format(type=kind, rules=rules, group=group, timespan=timespan, condition=condition)


def causes(folder: Path, *documents: str) -> list[str]:
    (folder / "a.yml").write_text("---\n".join(documents), encoding="utf-8")
    return [str(problem) for problem in load_rules(folder).problems]


def test_a_rule_and_its_correlation_load(tmp_path: Path) -> None:
    assert causes(tmp_path, rule(), correlation()) == []
    found = load_rules(tmp_path)
    (one,) = found.correlations
    assert (one.threshold, one.timespan_us, one.slice_us, one.slices) == (3, 60_000_000, 5_000_000, 12)
    assert one.group_by == ("user.id",)
    assert one.members[0].sources["file-audit"].group == ("user_id",)
    assert one.techniques == ("T1486",)
    assert one.tactics == ("Privilege Escalation",)
    assert one.level == "medium"
    assert found.correlation(one.id) is one


@pytest.mark.parametrize(("timespan", "slice_s", "slices"), [("5m", 25, 12), ("10s", 1, 10), ("1s", 1, 1), ("100s", 8, 12)])
def test_slices_together_are_never_longer_than_the_timespan(tmp_path: Path, timespan: str, slice_s: int, slices: int) -> None:
    assert causes(tmp_path, rule(), correlation(timespan=timespan)) == []
    (one,) = load_rules(tmp_path).correlations
    assert (one.slice_us, one.slices) == (slice_s * 1_000_000, slices)
    assert one.slices * one.slice_us <= one.timespan_us


@pytest.mark.parametrize(
    ("documents", "expected"),
    [
        ([rule("file.size|gt: 3"), correlation()], ["a.yml:1: One: field file.size is not in dataset file-audit"]),
        ([rule("user.name|expand: '%admins%'"), correlation()], ["a.yml:1: One: placeholder admins has no value"]),
        ([rule("user.name|re: '(?=a)b'"), correlation()], ["'(?=a)b' is invalid: invalid perl operator"]),
        ([rule("user.name|nonsense: x"), correlation()], ["a.yml:1: One: Unknown modifier"]),
        (
            [rule(), correlation(kind="value_count", condition="gte: 3, field: no.such")],
            ["field no.such is not in dataset file-audit"],
        ),
        ([rule(), correlation(kind="value_count", condition="gte: 5000, field: file.path")], ["at most 4096 distinct values"]),
        ([rule(), correlation(kind="value_percentile", condition="gte: 3, field: file.size")], ["a percentile from 0 to 100"]),
        ([rule(), correlation(kind="temporal", condition="gte: 2")], ["a condition of 2 rules is never true of 1"]),
        ([rule(), correlation(kind="temporal_ordered", condition="gte: 2")], ["wants all of its rules"]),
        ([rule(), correlation(condition="lt: 1")], ["never true: windows without events are not judged"]),
        ([rule(), correlation(condition="gte: 0")], ["always true"]),
        ([rule(), correlation(rules="other")], ["there is no rule other"]),
        ([rule(), correlation(group="no.such")], ["field no.such is not in dataset file-audit"]),
        ([rule(), correlation(timespan="soon")], ["Timespan 'soon' is invalid"]),
        ([rule(), correlation() + "weir: {entities: {user: no.such}}\n"], ["weir.entities: no event has the field of user"]),
        ([rule(), correlation() + "weir: {colour: red}\n"], ["weir: unknown colour"]),
        ([rule(), correlation(), "title: F\nfilter: {rules: [one]}\n"], ["a.yml:19: F: Sigma filter must have a log source"]),
        ([rule(), correlation(), "- a\n- b\n"], ["a.yml:19: a document that is not a mapping"]),
        ([rule(), correlation(), rule(title="Two", name="two")], ["Two: id 11111111"]),
        ([rule(), correlation(), rule(title="Two", identity=ID.replace("1", "3"))], ["Two: name one is taken by another rule"]),
        ([rule(), correlation(timespan="99999999999y")], ["a timespan has at most ten years"]),
        ([rule() + "weir: {timespan: 99999999999y}\n"], ["a timespan has at most ten years"]),
        ([rule(), correlation() + "weir: {group-by: [user.name]}\n"], ["weir.group-by and weir.timespan are of rules"]),
    ],
)
def test_what_is_left_out_is_named_with_place_and_cause(tmp_path: Path, documents: list[str], expected: list[str]) -> None:
    found = causes(tmp_path, *documents)
    for text in expected:
        assert any(text in cause for cause in found), found


def test_rules_of_a_correlation_that_is_left_out_raise_no_alerts_by_themselves(tmp_path: Path) -> None:
    assert len(causes(tmp_path, rule(), correlation(group="no.such"))) == 1
    found = load_rules(tmp_path)
    assert [one.title for one in found.rules] == ["One"]
    assert found.correlations == ()


def test_a_file_that_is_not_yaml_leaves_the_others_alone(tmp_path: Path) -> None:
    (tmp_path / "bad.yml").write_text("title: x\n  id: [1\n", encoding="utf-8")
    (tmp_path / "worse.yaml").write_bytes(b"\xff\xfe\x00")
    assert causes(tmp_path, rule(), correlation())[0].startswith("bad.yml:2: not YAML")
    assert len(load_rules(tmp_path).correlations) == 1
    assert len(load_rules(tmp_path).problems) == 2


def test_a_key_that_stands_twice_is_named_and_its_rule_alone_is_left_out(tmp_path: Path) -> None:
    other = rule("event.action: a, event.action: b", "Twice", ID.replace("1", "3"), "twice")
    assert causes(tmp_path, rule(), correlation(), other) == [
        "a.yml:19: Twice: line 24: 'event.action' stands twice; first in line 24"
    ]
    assert [one.title for one in load_rules(tmp_path).correlations] == ["Many"]


def test_aliases_of_aliases_take_neither_time_nor_memory(tmp_path: Path) -> None:
    rows = "".join(f"k{n}: &k{n} [{', '.join([f'*k{n - 1}'] * 50)}]\n" for n in range(1, 9))
    (cause,) = causes(tmp_path, f"title: Bomb\nk0: &k0 x\n{rows}detection: {{sel: {{user.name: *k8}}, condition: sel}}\n")
    assert "aliases" in cause
    assert len(read_yaml(f"k0: &k0 x\n{rows}").lines) < 300_000


def test_a_file_that_is_too_long_or_no_file_leaves_the_others_alone(tmp_path: Path) -> None:
    (tmp_path / "long.yml").write_bytes(b"#" * (MAX_FILE_BYTES + 10))
    os.mkfifo(tmp_path / "pipe.yml")
    (tmp_path / "placeholders.yml").write_bytes(b"#" * (MAX_FILE_BYTES + 10))
    found = causes(tmp_path, rule(), correlation())
    assert [cause.partition(": ")[0] for cause in found] == ["long.yml", "pipe.yml", "placeholders.yml"]
    assert len(load_rules(tmp_path).correlations) == 1


def test_a_rule_may_be_in_another_file_than_its_correlation(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "z.yml").write_text(rule(), encoding="utf-8")
    assert causes(tmp_path, correlation()) == []


def test_the_version_changes_with_any_byte_and_with_nothing_else(tmp_path: Path) -> None:
    causes(tmp_path, rule(), correlation())
    first = load_rules(tmp_path).version
    (tmp_path / "README.md").write_text("not a rule", encoding="utf-8")
    assert load_rules(tmp_path).version == first
    causes(tmp_path, rule(), correlation(), "# a remark\n")
    assert load_rules(tmp_path).version != first


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="WEIR_RULES_DIR"):
        load_rules(tmp_path / "none")


@pytest.mark.parametrize("dataset", DATASETS)
def test_every_dataset_can_be_named_as_a_log_source(tmp_path: Path, dataset: str) -> None:
    document = rule("event.action: x").replace("category: file_audit, product: qumulo", f"product: weir, service: {dataset}")
    assert causes(tmp_path, document, correlation(group="log_source_ip")) == []
    assert load_rules(tmp_path).rules[0].variants[0].dataset == dataset


def test_the_rules_that_come_with_weir_load_without_a_problem() -> None:
    found = load_rules()
    assert found.problems == ()
    assert found.correlations


@pytest.mark.parametrize("result", run_cases(load_rules()), ids=lambda result: f"{result.rule}: {result.name}")
def test_cases_in_the_rule_files(result: object) -> None:
    assert getattr(result, "failure") == ""  # noqa: B009  # the type is the parameter's own


def test_a_case_that_is_wrong_fails(tmp_path: Path) -> None:
    series = "{repeat: REPEAT, event: {event.action: fs_delete, event_module: qumulo}}"
    case = f"weir: {{tests: [{{name: n, expect: EXPECT, count: 3, events: [{series}]}}]}}\n"
    for expect, repeat, ok in (("alert", 3, True), ("alert", 2, False), ("none", 2, True), ("none", 3, False), ("alert", 4, False)):
        causes(tmp_path, rule(), correlation() + case.replace("EXPECT", expect).replace("REPEAT", str(repeat)))
        (result,) = run_cases(load_rules(tmp_path))
        assert (result.failure == "") is ok, (expect, repeat, result)


def test_sigmahq_rules_are_evaluated_or_named() -> None:
    folder = Path(os.environ.get("WEIR_CORPUS", Path(__file__).parents[3] / "shared" / "corpus")) / "sigma"
    if not folder.is_dir():
        pytest.skip(f"no corpus of Sigma rules at {folder}; WEIR_CORPUS names one")
    found = load_rules(folder)
    files = {path.name for path in folder.glob("*.yml")}
    assert {problem.file for problem in found.problems} | {rule.file for rule in found.rules} == files
    assert all(problem.line and problem.cause for problem in found.problems)
