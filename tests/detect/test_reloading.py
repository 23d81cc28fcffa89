"""Rule folders that change: what is good is taken over, what has become bad stays as it was and is named."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weir.detect.reading import folder
from weir.detect.reading.folder import read_folder, signature_of
from weir.detect.reading.loading import load_rules
from weir.detect.reading.reloading import STAYS
from weir.detect.rules import RuleSet


def identity(number: int) -> str:
    return f"{number:08d}-1111-4111-8111-111111111111"


def rule(number: int, action: str = "fs_delete", field: str = "event.action") -> str:
    return (
        f"title: Rule {number}\nid: {identity(number)}\nname: rule_{number}\nlogsource: {{category: file_audit}}\n"
        f"detection: {{sel: {{{field}: {action}}}, condition: sel}}\n"
    )


def correlation(number: int, member: int, count: int = 3, extra: str = "") -> str:
    return (
        f"title: Correlation {number}\nid: {identity(number)}\nname: rule_{number}\n"
        f"correlation: {{type: event_count, rules: [rule_{member}], group-by: [user.id], timespan: 1m, "
        f"condition: {{gte: {count}}}}}\n{extra}"
    )


def write(folder: Path, name: str, *documents: str) -> None:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text("---\n".join(documents), encoding="utf-8")


def causes(found: RuleSet) -> list[str]:
    return [str(problem) for problem in found.problems]


def matches(found: RuleSet, number: int, action: str) -> bool:
    one = next(r for r in found.rules if r.id == identity(number))
    return one.variants[0].matches({"event_action": action})


def test_a_good_edit_is_taken_over_and_a_removed_rule_is_gone(tmp_path: Path) -> None:
    write(tmp_path, "a.yml", rule(1), rule(2))
    before = load_rules(tmp_path)
    write(tmp_path, "a.yml", rule(1, "fs_rename"))
    after = load_rules(tmp_path, before)
    assert [r.id for r in after.rules] == [identity(1)]
    assert matches(after, 1, "fs_rename")
    assert not matches(after, 1, "fs_delete")
    assert after.problems == ()
    assert after.version == load_rules(tmp_path).version != before.version


def test_a_rule_that_has_become_bad_is_named_with_its_line_and_stays_as_it_was(tmp_path: Path) -> None:
    write(tmp_path, "a.yml", rule(1), rule(2))
    before = load_rules(tmp_path)
    write(tmp_path, "a.yml", rule(1, field="no.such"), rule(2, "fs_rename"))
    after = load_rules(tmp_path, before)
    assert causes(after) == [f"a.yml:1: Rule 1: field no.such is not in dataset file-audit{STAYS}"]
    assert matches(after, 1, "fs_delete")
    assert matches(after, 2, "fs_rename")
    # Who starts now has neither version of the rule, and must not say that it has the same rules.
    assert len({before.version, after.version, load_rules(tmp_path).version}) == 3


def test_a_file_that_is_no_longer_yaml_stays_whole(tmp_path: Path) -> None:
    write(tmp_path, "a.yml", rule(1), rule(2))
    write(tmp_path, "b.yml", rule(3))
    before = load_rules(tmp_path)
    write(tmp_path, "a.yml", "title: [\n")
    write(tmp_path, "b.yml", rule(3, "fs_rename"))
    after = load_rules(tmp_path, before)
    assert len(after.rules) == len(after.correlations) == 3
    assert matches(after, 3, "fs_rename")
    (problem,) = causes(after)
    assert problem.startswith("a.yml:2: not YAML")
    assert problem.endswith(STAYS)


def test_what_is_kept_outlives_further_edits_until_it_is_mended(tmp_path: Path) -> None:
    write(tmp_path, "a.yml", rule(1), rule(2))
    found = load_rules(tmp_path)
    for bad in (rule(1, field="no.such") + "---\n" + rule(2), "title: [\n", rule(1, field="other.thing") + "---\n" + rule(2)):
        write(tmp_path, "a.yml", bad)
        found = load_rules(tmp_path, found)
        assert matches(found, 1, "fs_delete")
        assert matches(found, 2, "fs_delete")
        assert [cause.endswith(STAYS) for cause in causes(found)] == [True]
    write(tmp_path, "a.yml", rule(1, "fs_rename"), rule(2))
    found = load_rules(tmp_path, found)
    assert matches(found, 1, "fs_rename")
    assert found.problems == ()
    assert found.version == load_rules(tmp_path).version


def test_a_correlation_goes_on_with_the_version_before_of_its_rule(tmp_path: Path) -> None:
    write(tmp_path, "a.yml", rule(1))
    write(tmp_path, "b.yml", correlation(2, 1))
    before = load_rules(tmp_path)
    write(tmp_path, "a.yml", rule(1, field="no.such"))
    # Its own edit is good, and holds.
    write(tmp_path, "b.yml", correlation(2, 1, count=7))
    after = load_rules(tmp_path, before)
    (one,) = after.correlations
    assert one.threshold == 7
    assert one.members[0].rule is after.rules[0]
    assert matches(after, 1, "fs_delete")
    assert len(after.problems) == 1


def test_a_correlation_that_has_become_bad_counts_its_rule_as_that_is_now(tmp_path: Path) -> None:
    write(tmp_path, "a.yml", rule(1))
    write(tmp_path, "b.yml", correlation(2, 1))
    before = load_rules(tmp_path)
    write(tmp_path, "a.yml", rule(1, "fs_rename"))
    write(tmp_path, "b.yml", correlation(2, 1, extra="weir: {entities: {usr: user.name}}\n"))
    after = load_rules(tmp_path, before)
    (one,) = after.correlations
    assert one.id == identity(2)
    assert one.members[0].rule is after.rules[0]
    assert matches(after, 1, "fs_rename")
    assert causes(after) == [
        f"b.yml:1: Correlation 2: weir.entities: usr is not an entity; did you mean user?; docs/alerts.md lists them{STAYS}"
    ]


def test_a_filter_that_has_become_bad_goes_on_narrowing_its_rule(tmp_path: Path) -> None:
    write(tmp_path, "a.yml", rule(1))
    narrow = (
        f"title: Not the backup\nid: {identity(7)}\nlogsource: {{category: file_audit}}\n"
        f"filter: {{rules: [{identity(1)}], sel: {{user.name: backup}}, condition: not sel}}\n"
    )
    write(tmp_path, "f.yml", narrow)
    before = load_rules(tmp_path)
    assert before.problems == ()
    write(tmp_path, "f.yml", narrow.replace("condition: not sel", "condition: [3]"))
    after = load_rules(tmp_path, before)
    assert [cause.endswith(STAYS) for cause in causes(after)] == [True]
    matcher = after.rules[0].variants[0].matches
    assert not matcher({"event_action": "fs_delete", "user_name": "backup"})
    assert matcher({"event_action": "fs_delete", "user_name": "mallory"})


def test_a_rule_that_never_worked_is_named_without_a_version_before(tmp_path: Path) -> None:
    write(tmp_path, "a.yml", rule(1), rule(2, field="no.such"))
    before = load_rules(tmp_path)
    after = load_rules(tmp_path, before)
    assert causes(after) == causes(before) == ["a.yml:7: Rule 2: field no.such is not in dataset file-audit"]


def test_a_rule_that_lost_its_id_is_found_by_its_title(tmp_path: Path) -> None:
    write(tmp_path, "a.yml", rule(1))
    before = load_rules(tmp_path)
    write(tmp_path, "a.yml", rule(1, "fs_rename").replace(f"id: {identity(1)}\n", ""))
    after = load_rules(tmp_path, before)
    assert matches(after, 1, "fs_delete")
    assert causes(after) == [f"a.yml:1: Rule 1: has no id; alerts are named after it{STAYS}"]


def test_a_correlation_whose_rule_was_removed_is_left_out_and_named(tmp_path: Path) -> None:
    write(tmp_path, "a.yml", rule(1))
    write(tmp_path, "b.yml", correlation(2, 1))
    before = load_rules(tmp_path)
    (tmp_path / "a.yml").unlink()
    after = load_rules(tmp_path, before)
    assert after.correlations == ()
    assert causes(after) == ["b.yml:1: Correlation 2: there is no rule rule_1"]


def test_an_empty_or_missing_folder_is_taken_for_a_mistake(tmp_path: Path) -> None:
    write(tmp_path, "a.yml", rule(1))
    before = load_rules(tmp_path)
    (tmp_path / "a.yml").unlink()
    with pytest.raises(FileNotFoundError, match="has no rule files any more"):
        load_rules(tmp_path, before)
    with pytest.raises(FileNotFoundError, match="no such folder"):
        load_rules(tmp_path / "none", before)


def test_a_file_that_cannot_be_read_stays_as_it_was(tmp_path: Path) -> None:
    write(tmp_path, "a.yml", rule(1))
    write(tmp_path, "b.yml", rule(2))
    before = load_rules(tmp_path)
    (tmp_path / "a.yml").unlink()
    (tmp_path / "a.yml").mkdir()
    (tmp_path / "a.yml").rmdir()
    (tmp_path / "a.yml").symlink_to(tmp_path / "gone")
    after = load_rules(tmp_path, before)
    assert {r.id for r in after.rules} == {identity(1), identity(2)}
    assert causes(after) == [f"a.yml: cannot be read: No such file or directory{STAYS}"]


def test_a_volume_of_a_config_map_shows_each_rule_once_and_its_swap_is_seen(tmp_path: Path) -> None:
    """Kubernetes: files are links through `..data`, which is a link to a folder that an update replaces."""
    for version, action in (("..1", "fs_delete"), ("..2", "fs_rename")):
        write(tmp_path / version, "a.yml", rule(1, action))
    (tmp_path / "..data").symlink_to("..1")
    (tmp_path / "a.yml").symlink_to("..data/a.yml")
    before, signature = load_rules(tmp_path), signature_of(tmp_path)[0]
    assert before.problems == ()
    assert list(read_folder(tmp_path)) == ["a.yml"]
    (tmp_path / "..new").symlink_to("..2")
    (tmp_path / "..new").rename(tmp_path / "..data")
    assert signature_of(tmp_path)[0] != signature
    assert matches(load_rules(tmp_path, before), 1, "fs_rename")


def test_settings_of_the_rules_that_lie_beside_them_are_no_rules(tmp_path: Path) -> None:
    write(tmp_path, "a.yml", rule(1))
    write(tmp_path, "suppressions.yml", "suppress: []\n")
    assert load_rules(tmp_path).problems == ()


def test_the_files_are_read_as_they_stood_at_one_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A deployment that replaces files one by one while they are read is never seen half done."""
    write(tmp_path, "a.yml", "old")
    write(tmp_path, "b.yml", "old")
    reads = 0
    whole = folder._content

    def read(path: str) -> bytes:
        nonlocal reads
        reads += 1
        content = whole(path)
        if reads == 1:
            write(tmp_path, "a.yml", "new")
            write(tmp_path, "b.yml", "new")
        return content

    monkeypatch.setattr(folder, "_content", read)
    assert read_folder(tmp_path) == {"a.yml": b"new", "b.yml": b"new"}


def test_a_folder_that_never_stands_still_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, "a.yml", "old")
    reads = iter(range(100))
    monkeypatch.setattr(folder, "_content", lambda path: b"%d" % next(reads))
    with pytest.raises(OSError, match="change while they are read"):
        read_folder(tmp_path)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.lists(st.sampled_from(["good", "changed", "bad", "no yaml", "gone"]), min_size=3, max_size=3), max_size=4))
def test_after_any_edits_each_rule_is_its_last_good_version(
    tmp_path_factory: pytest.TempPathFactory, steps: list[list[str]]
) -> None:
    folder = tmp_path_factory.mktemp("rules")
    write(folder, "keep.yml", rule(9))
    found = load_rules(folder)
    expected: dict[int, str] = {}
    for step in steps:
        for number, what in enumerate(step, 1):
            name = f"{number}.yml"
            if what == "gone":
                (folder / name).unlink(missing_ok=True)
                expected.pop(number, None)
            elif what == "bad":
                write(folder, name, rule(number, field="no.such"))
            elif what == "no yaml":
                write(folder, name, "title: [\n")
            else:
                expected[number] = "fs_delete" if what == "good" else "fs_rename"
                write(folder, name, rule(number, expected[number]))
        found = load_rules(folder, found)
        assert {r.id for r in found.rules} == {identity(number) for number in [9, *expected]}
        assert all(matches(found, number, action) for number, action in expected.items())


def test_a_value_that_yaml_s_own_reader_stumbles_over_is_the_file_s_mistake(tmp_path: Path) -> None:
    write(tmp_path, "a.yml", rule(1))
    write(tmp_path, "b.yml", "title: !!int _\n")
    found = load_rules(tmp_path)
    assert [r.id for r in found.rules] == [identity(1)]
    assert "b.yml:1: not YAML" in causes(found)[0]
