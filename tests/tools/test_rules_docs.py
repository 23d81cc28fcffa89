"""What docs/rules.md shows works as shown."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from weir.detect.cases import run_cases
from weir.detect.reading.extension import _KEYS
from weir.detect.reading.loading import load_rules

PAGE = (Path(__file__).parents[2] / "docs" / "rules.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)


def test_the_example_loads_and_its_cases_come_out(tmp_path: Path) -> None:
    (tmp_path / "example.yml").write_text(BLOCKS[0], encoding="utf-8")
    found = load_rules(tmp_path)
    assert found.problems == ()
    results = run_cases(found)
    assert len(results) == 4
    assert [result.failure for result in results] == [""] * 4


def test_the_cases_of_a_rule_are_of_the_rule_that_they_are_about(tmp_path: Path) -> None:
    rule = "title: t\nid: 11111111-1111-4111-8111-111111111111\nlogsource: {product: qumulo, category: file_audit}\n"
    detection = "detection: {sel: {event.action: fs_tree_delete}, condition: sel}\nweir:\n  tests:\n"
    cases = "".join(f"    {line}\n" for line in BLOCKS[1].splitlines())
    (tmp_path / "example.yml").write_text(rule + detection + cases, encoding="utf-8")
    assert [result.failure for result in run_cases(load_rules(tmp_path))] == ["", ""]


def test_the_case_over_weeks_comes_out_with_a_rule_that_learns(tmp_path: Path) -> None:
    rule = """title: t
id: 11111111-1111-4111-8111-111111111111
name: seen
logsource: {product: weir, service: authentication}
detection: {sel: {user.name: nora}, condition: sel}
---
title: New client
id: 22222222-2222-4222-8222-222222222222
correlation: {type: event_count, rules: [seen], group-by: [user.name], timespan: 1h, condition: {gte: 1}}
weir:
  detect: {type: first_seen, field: source.ip, learn: 7d, forget: 30d}
  tests:
"""
    (tmp_path / "example.yml").write_text(rule + "".join(f"    {line}\n" for line in BLOCKS[2].splitlines()), encoding="utf-8")
    loaded = load_rules(tmp_path)
    assert loaded.problems == ()
    (result,) = run_cases(loaded)
    assert result.failure == ""


def test_every_key_that_weir_adds_is_explained() -> None:
    table = PAGE.partition("## The key `weir`")[2].partition("##")[0]
    assert set(re.findall(r"^\| `([a-z-]+)`", table, re.MULTILINE)) == _KEYS


def test_links_within_the_pages_are_files() -> None:
    docs = Path(__file__).parents[2] / "docs"
    for link in re.findall(r"\]\(([a-z0-9/-]+\.md)", PAGE):
        assert (docs / link).is_file(), link


def test_the_blocks_are_yaml() -> None:
    assert all(list(yaml.safe_load_all(block)) for block in BLOCKS)
