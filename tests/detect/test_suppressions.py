"""Suppressions and allow-lists: what a file may say, what is a mistake in it, and what its entries do until they end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from weir.detect.offline import Offline
from weir.detect.reading.loading import load_rules
from weir.detect.rules import RuleSet
from weir.detect.signals.partials import SignalSource
from weir.detect.telling.suppressions import NOTHING, Suppressions, SuppressionsError, load_suppressions, read_suppressions

SECOND = 1_000_000
NOW = 1_790_000_040 * SECOND  # 2026-09-21 14:14:00 UTC
DAY = 86_400 * SECOND

RULES = """title: Deletion
id: 11111111-1111-4111-8111-111111111111
name: deletion
logsource: {category: file_audit}
detection: {sel: {event.action: fs_delete}, condition: sel}
---
title: Many deletions
id: 22222222-2222-4222-8222-222222222222
name: many_deletions
correlation: {type: event_count, rules: [deletion], group-by: [user.id], timespan: 1m, condition: {gte: 3}}
---
title: Many deletions from one address
id: 33333333-3333-4333-8333-333333333333
name: many_from_one
correlation: {type: event_count, rules: [deletion], group-by: [source.ip], timespan: 1m, condition: {gte: 3}}
"""


def entry(**fields: Any) -> str:
    """One entry as YAML in flow style; None leaves a key out."""
    given = {"id": "one", "owner": "storage", "reason": "known", "expires": "2026-12-01", "rules": "any", "where": "{user: u}"}
    given |= fields
    return f"  - {{{', '.join(f'{key}: {value}' for key, value in given.items() if value is not None)}}}\n"


def read(text: str, rule_set: RuleSet | None = None) -> Suppressions:
    found = read_suppressions(text, NOW)
    return found if rule_set is None else found.of(rule_set)


@pytest.fixture
def rules(tmp_path: Path) -> RuleSet:
    (tmp_path / "a.yml").write_text(RULES, encoding="utf-8")
    found = load_rules(tmp_path)
    assert found.problems == ()
    return found


def alert(created: int = NOW, rule: str = "2", **fields: Any) -> dict[str, Any]:
    identity = f"{rule * 8}-{rule * 4}-4{rule * 3}-8{rule * 3}-{rule * 12}"
    return {"rule_id": identity, "alert_created": created, "group_by": {}, "entities": {}, **fields}


def suppressing(rules: RuleSet, where: str, **fields: Any) -> bool:
    return read("suppress:\n" + entry(where=where), rules).suppressing(alert(**fields)) is not None


# --- the file


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("suppress:\n" + entry(owner=None), ":2: entry 'one': owner is missing"),
        ("suppress:\n" + entry(reason="' '"), ":2: entry 'one': reason is missing"),
        ("suppress:\n" + entry(id=None), ":2: entry 0: id is missing"),
        ("suppress:\n" + entry(expires=None), ":2: entry 'one': expires is missing"),
        ("suppress:\n" + entry(expires="soon"), ":2: entry 'one': expires: 'soon' is neither a day"),
        ("suppress:\n" + entry(expires="2027-09-23"), ":2: entry 'one': expires 2027-09-23 is more than a year ahead"),
        ("allow:\n" + entry(rules=None, where="{user.name: u}"), "rules must be a list of names or ids of rules, or any"),
        ("suppress:\n" + entry(rules="[any, x]"), "any stands alone"),
        ("suppress:\n" + entry(where=None), "without a where would silence everything"),
        ("suppress:\n" + entry(where="{user: {a: b}}"), "user: must be a text, a number or a list of them"),
        ("suppress:\n" + entry(where="[user]"), "where must map names to patterns"),
        ("allow:\n" + entry(where="{usr.name: u}"), "no event has a field usr.name"),
        ("suppress:\n" + entry(rule="x"), "'rule' is not a key; did you mean rules?"),
        ("supress: []\n", ":1: 'supress' is not a key; did you mean suppress?"),
        ("suppress: {}\n", "'suppress' must be a list of entries"),
        ("- a\n", ":1: must hold lists under the keys 'suppress' and 'allow'"),
        ("suppress: [\n", "not YAML"),
        ("suppress:\n" + entry() + "allow:\n" + entry(where="{user.name: u}"), ":4: id 'one' stands in line 2 already"),
        ("suppress:\n  - one\n", ":2: entry 0 must be a mapping"),
    ],
)
def test_a_mistake_is_named_with_its_line(text: str, expected: str) -> None:
    with pytest.raises(SuppressionsError) as raised:
        read(text)
    assert any(expected in mistake for mistake in raised.value.mistakes), raised.value.mistakes


def test_all_mistakes_of_a_file_are_named_at_once(tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    path.write_text("suppress:\n" + entry(owner=None, expires=None) + entry(id="two", rules="7"), encoding="utf-8")
    with pytest.raises(SuppressionsError) as raised:
        load_suppressions(path, NOW)
    assert [mistake.partition(": ")[0] for mistake in raised.value.mistakes] == [f"{path}:2", f"{path}:2", f"{path}:3"]


def test_a_file_that_is_not_there_names_the_setting(tmp_path: Path) -> None:
    with pytest.raises(SuppressionsError, match="WEIR_SUPPRESSIONS_FILE must name a readable YAML file"):
        load_suppressions(tmp_path / "none", NOW)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("2026-12-01", 0), ("2026-12-01T06:00:00Z", 21_600), ("'2026-12-01T06:00:00+02:00'", 14_400), ("2026-12-01 01:00:00", 3_600)],
)
def test_an_entry_ends_at_the_begin_of_its_day_or_at_its_time(text: str, seconds: int) -> None:
    (found,) = read("suppress:\n" + entry(expires=text)).suppress
    assert found.expires == (1_796_083_200 + seconds) * SECOND


def test_an_expired_entry_is_no_mistake_and_can_be_told() -> None:
    found = read("suppress:\n" + entry(expires="2020-01-01") + entry(id="two"))
    assert [one.id for one in found.expired(NOW)] == ["one"]


def test_what_the_rules_lack_is_remarked_and_hinders_nothing(rules: RuleSet) -> None:
    text = "suppress:\n" + entry(rules="[many_deletion, many_deletions]", where="{usr: u}") + entry(id="two", where="{user: u}")
    found = read(text, rules)
    assert found.remarks == (
        "one: there is no rule many_deletion; did you mean many_deletions?",
        "one: no alert of its rules has usr; did you mean user?",
    )
    assert len(found.suppress) == 2


# --- suppressing alerts


@pytest.mark.parametrize(
    ("pattern", "value", "expected"),
    [
        ("svc-backup", "SVC-Backup", True),
        ("svc-backup", "svc-backup2", False),
        ("'svc-*'", "svc-backup", True),
        ("'svc-?'", "svc-10", False),
        ("'*[1]'", "a[1]", True),
        ("'*[1]'", "a1", False),
        ("10.0.0.0/8", "10.1.2.3", True),
        ("10.0.0.0/8", "11.1.2.3", False),
        ("10.0.0.0/8", "not an address", False),
        ("'2001:db8::/32'", "2001:db8::7", True),
        ("[root, 'svc-*', 10.0.0.0/8]", "10.9.9.9", True),
        ("[root, 'svc-*', 10.0.0.0/8]", "toor", False),
        ("/projects/*", "/projects/a/b", True),
        ("7", "7", True),
    ],
)
def test_patterns(rules: RuleSet, pattern: str, value: str, expected: bool) -> None:
    assert suppressing(rules, f"{{user: {pattern}}}", entities={"user": value}) is expected


def test_all_fields_of_where_must_match_by_entity_or_group(rules: RuleSet) -> None:
    where = "{user: u, source.ip: 10.0.0.7}"
    assert suppressing(rules, where, entities={"user": "u"}, group_by={"source.ip": "10.0.0.7"})
    assert not suppressing(rules, where, entities={"user": "u"}, group_by={"source.ip": "10.0.0.8"})
    assert not suppressing(rules, where, group_by={"source.ip": "10.0.0.7"})


def test_an_entry_holds_for_its_rules_alone_by_name_or_id(rules: RuleSet) -> None:
    by_name = read("suppress:\n" + entry(rules="[many_deletions]", where=None), rules)
    by_id = read("suppress:\n" + entry(rules="[22222222-2222-4222-8222-222222222222]", where=None), rules)
    for found in (by_name, by_id):
        assert found.suppressing(alert(rule="2")) is not None
        assert found.suppressing(alert(rule="3")) is None


@pytest.mark.parametrize("rules_key", ["any", "[any]"])
def test_any_stands_for_all_rules(rules: RuleSet, rules_key: str) -> None:
    found = read("suppress:\n" + entry(rules=rules_key), rules)
    assert all(found.suppressing(alert(rule=rule, entities={"user": "u"})) for rule in "123")


def test_once_an_entry_has_expired_the_next_record_of_the_alert_passes(rules: RuleSet) -> None:
    found = read("suppress:\n" + entry(where="{user: u}"), rules)
    end = found.suppress[0].expires
    assert found.suppressing(alert(end - 1, entities={"user": "u"})) is found.suppress[0]
    assert found.suppressing(alert(end, entities={"user": "u"})) is None


# --- allowing events


def events(count: int, at: int, **fields: Any) -> list[dict[str, Any]]:
    return [
        {
            "event_id": f"{at}-{number}",
            "timestamp": at,
            "event_created": at,
            "event_action": "fs_delete",
            "raw_topic": "raw",
            "raw_partition": 0,
            "raw_offset": 0,
            **fields,
        }
        for number in range(count)
    ]


def counted(rule_set: RuleSet, text: str, records: list[dict[str, Any]]) -> dict[str, int]:
    """By first digit of the correlation's id, how many events count in it."""
    found = read(text, rule_set)
    source = SignalSource(found.allowing(rule_set))
    partials = [p for part in source.signals({"file-audit": records}, 1).values() for p in part]
    counts = {"2": 0, "3": 0}
    for partial in partials:
        counts[partial["correlation_id"][0]] += sum(bucket["count"] for bucket in partial["buckets"])
    return counts


def test_an_allowed_event_is_not_counted_and_others_are(rules: RuleSet) -> None:
    text = "allow:\n" + entry(where="{user.name: 'svc-*', source.ip: 10.0.0.0/8}")
    svc = {"user_name": "svc-a", "user_id": "u"}
    records = [
        *events(4, NOW, **svc, source_ip="10.1.1.1"),
        *events(2, NOW, **svc, source_ip="192.0.2.1"),
        *events(1, NOW, user_name="alina", user_id="v", source_ip="10.1.1.1"),
    ]
    assert counted(rules, text, records) == {"2": 3, "3": 3}
    assert counted(rules, "allow: []\n", records) == {"2": 7, "3": 7}


def test_an_entry_for_a_correlation_leaves_the_rule_to_the_others(rules: RuleSet) -> None:
    records = events(5, NOW, user_id="u", source_ip="10.1.1.1")
    assert counted(rules, "allow:\n" + entry(rules="[many_from_one]", where="{user.id: u}"), records) == {"2": 5, "3": 0}
    assert counted(rules, "allow:\n" + entry(rules="[deletion]", where="{user.id: u}"), records) == {"2": 0, "3": 0}


def test_an_event_received_after_the_entry_ended_counts_again(rules: RuleSet) -> None:
    text = "allow:\n" + entry(where="{user.id: u}")
    end = read(text).allow[0].expires
    assert counted(rules, text, events(2, end - 1, user_id="u")) == {"2": 0, "3": 0}
    assert counted(rules, text, events(2, end, user_id="u")) == {"2": 2, "3": 2}


@pytest.mark.parametrize("name", ["user.name", "user_name", "labels.tier", "ledger.topic", "@timestamp"])
def test_allow_takes_every_field_that_rules_may_name(name: str) -> None:
    assert len(read("allow:\n" + entry(where=f"{{'{name}': x}}")).allow) == 1


def test_a_field_that_the_dataset_lacks_excepts_nothing_and_lists_match_by_any_item(rules: RuleSet) -> None:
    records = events(3, NOW, user_id="u", tags=["a", "backup"])
    assert counted(rules, "allow:\n" + entry(where="{dns.question.name: x}"), records) == {"2": 3, "3": 3}
    assert counted(rules, "allow:\n" + entry(where="{tags: backup}"), records) == {"2": 0, "3": 0}


def test_rules_without_entries_are_left_as_they_are(rules: RuleSet) -> None:
    assert NOTHING.of(rules).allowing(rules) is rules
    found = read("allow:\n" + entry(rules="[many_from_one]", where="{user.id: u}"), rules).allowing(rules)
    assert found.correlations[0] is rules.correlations[0]


def test_an_alert_of_events_beside_the_allowed_ones_names_and_counts_only_those(rules: RuleSet) -> None:
    found = read("allow:\n" + entry(where="{user.name: scanner}"), rules)
    offline = Offline(found.allowing(rules))
    mixed = events(10, NOW, user_name="scanner", user_id="s") + events(3, NOW, user_name="mallory", user_id="m")
    offline.feed({"file-audit": mixed}, NOW)
    by_user = [a for a in offline.alerts if "user.id" in a["group_by"]]
    assert [(a["group_by"]["user.id"], a["event_count"]) for a in by_user] == [("m", 3)]
