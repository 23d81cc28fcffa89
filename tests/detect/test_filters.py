"""Filters and placeholders of a folder of rules."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from weir.detect.reading.loading import load_rules
from weir.detect.reading.placeholders import MAX_EXPANSIONS

RULE = """title: Deletes
id: 11111111-1111-4111-8111-111111111111
name: deletes
logsource: {category: file_audit, product: qumulo}
detection:
  selection: {event.action: fs_delete}
  condition: 1 of sel*
"""
OTHER = RULE.replace("Deletes", "Other").replace("1111", "2222").replace("name: deletes", "name: other")
FILTER = """title: Backup may
id: 99999999-9999-4999-8999-999999999999
logsource: {LOGSOURCE}
filter:
  rules: RULES
  selection_user: {user.name: backup}
  selection_path: {file.path|startswith: /scratch/}
  condition: CONDITION
"""


def write(folder: Path, *documents: str, placeholders: str | None = None) -> Any:
    (folder / "a.yml").write_text("---\n".join(documents), encoding="utf-8")
    if placeholders is not None:
        (folder / "placeholders.yml").write_text(placeholders, encoding="utf-8")
    return load_rules(folder)


def filter_of(rules: str = "any", condition: str = "not 1 of selection_*", logsource: str = "category: file_audit") -> str:
    return FILTER.replace("RULES", rules).replace("CONDITION", condition).replace("LOGSOURCE", logsource)


def event(**fields: Any) -> dict[str, Any]:
    return {"event_module": "qumulo", "event_action": "fs_delete"} | fields


@pytest.mark.parametrize("rules", ["any", "deletes", "[deletes]", "[11111111-1111-4111-8111-111111111111]", "[]"])
def test_a_filter_takes_out_what_it_says(tmp_path: Path, rules: str) -> None:
    found = write(tmp_path, RULE, filter_of(rules))
    assert found.problems == ()
    matches = found.rules[0].variants[0].matches
    assert matches(event(user_name="bob", file_path="/x"))
    assert not matches(event(user_name="backup", file_path="/x"))
    assert not matches(event(user_name="bob", file_path="/scratch/x"))
    assert not matches(event(user_name="bob") | {"event_action": "fs_read"})


def test_a_filter_may_be_in_another_file_and_leaves_rules_that_it_does_not_name(tmp_path: Path) -> None:
    (tmp_path / "filters.yml").write_text(filter_of("[deletes]"), encoding="utf-8")
    found = write(tmp_path, RULE, OTHER)
    assert found.problems == ()
    one, other = (rule.variants[0].matches for rule in found.rules)
    assert not one(event(user_name="backup"))
    assert other(event(user_name="backup"))


def test_several_filters_apply_one_after_the_other(tmp_path: Path) -> None:
    second = filter_of(condition="not selection_path").replace("9999", "8888")
    found = write(tmp_path, RULE, filter_of(condition="not selection_user"), second)
    matches = found.rules[0].variants[0].matches
    assert [matches(event(user_name=user, file_path=path)) for user in ("bob", "backup") for path in ("/x", "/scratch/x")] == [
        True, False, False, False,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("document", "cause"),
    [
        (filter_of("[nobody]"), "there is no rule nobody"),
        (filter_of(logsource="category: proxy"), "applies to no rule"),
        (filter_of(condition="not other_selection"), "is left out for rule Deletes"),
        (filter_of().replace("user.name", "no.such"), "is left out for rule Deletes: field no.such is not in dataset file-audit"),
        (filter_of().replace("  rules: any\n", ""), "must have a 'rules' field"),
    ],
)
def test_a_filter_that_cannot_be_applied_is_named_and_the_rule_goes_on(tmp_path: Path, document: str, cause: str) -> None:
    found = write(tmp_path, RULE, document)
    assert len(found.problems) == 1
    assert found.problems[0].line == 9
    assert cause in found.problems[0].cause
    assert found.rules[0].variants[0].matches(event(user_name="backup"))


def test_a_rule_that_is_wrong_itself_is_named_and_not_its_filter(tmp_path: Path) -> None:
    found = write(tmp_path, RULE.replace("event.action", "no.such"), filter_of())
    assert [problem.title for problem in found.problems] == ["Deletes"]


EXPAND = RULE.replace("{event.action: fs_delete}", "{event.action: fs_delete, user.name|expand: '%admins%'}")


def test_placeholders_have_values_from_their_file(tmp_path: Path) -> None:
    found = write(tmp_path, EXPAND, placeholders="admins: [root, 'adm-*']\n")
    assert found.problems == ()
    matches = found.rules[0].variants[0].matches
    assert [matches(event(user_name=name)) for name in ("root", "ADM-7", "bob")] == [True, True, False]


def test_the_version_of_the_rules_changes_with_the_placeholders(tmp_path: Path) -> None:
    first = write(tmp_path, EXPAND, placeholders="admins: root\n").version
    assert write(tmp_path, EXPAND, placeholders="admins: toor\n").version != first


@pytest.mark.parametrize(
    ("placeholders", "cause"),
    [
        ("others: [x]\n", "placeholder admins has no value in placeholders.yml"),
        ("- a list\n", "must map names of placeholders"),
        ("admins: []\n", "admins: must be"),
        ("admins: {a: b}\n", "admins: must be"),
        ("admins: [\n", "not YAML"),
        ("admins: x\ntimezone: Nowhere/Land\n", "timezone: Nowhere/Land is not known"),
        (f"admins: {list(range(MAX_EXPANSIONS + 1))}\n", f"more than {MAX_EXPANSIONS} values"),
    ],
)
def test_what_is_wrong_with_placeholders_is_named(tmp_path: Path, placeholders: str, cause: str) -> None:
    found = write(tmp_path, EXPAND, placeholders=placeholders)
    assert any(cause in str(problem) for problem in found.problems), found.problems
