"""Sigma detections as predicates: conditions, selections, modifiers, values."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from sigma.rule import SigmaRule
from sigma.types import TimestampPart

from weir.detect.matching import values
from weir.detect.matching.fields import getter
from weir.detect.matching.matcher import Compiled, Names, UnsupportedError, compile_rule

EVENT: dict[str, Any] = {
    "event_action": "fs_Delete",
    "event_category": ["file", "Database"],
    "event_type": [],
    "user_name": "Alina",
    "user_domain": None,
    "source_ip": "10.1.2.3",
    "destination_ip": "2001:db8::7",
    "source_port": 443,
    "file_path": "/projects/a*b/report.XLSX",
    "file_name": "report.XLSX",
    "message": "first line\nsecond line",
    "blocked": True,
    "empty": "",
}


def compiled(detection: str) -> Compiled:
    document = yaml.safe_load(f"title: t\nlogsource: {{category: file_audit}}\ndetection:\n{detection}")
    return compile_rule(SigmaRule.from_dict(document), Names(lambda name: name.replace(".", "_")))


def selection(text: str) -> bool:
    return compiled(f"  sel: {text}\n  condition: sel").matches(EVENT)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # plain values: whole value, without regard to case
        ("{event.action: FS_DELETE}", True),
        ("{event.action: fs_del}", False),
        ("{event_action: fs_delete}", True),
        ("{user.name: [bob, alina]}", True),
        ("{user.name: [bob, carl]}", False),
        ("{event.action: fs_delete, user.name: alina}", True),
        ("{event.action: fs_delete, user.name: bob}", False),
        ("[{user.name: bob}, {event.action: fs_delete}]", True),
        ("[{user.name: bob}, {event.action: fs_read}]", False),
        # list-valued fields match by any element
        ("{event.category: database}", True),
        ("{event.category: web}", False),
        ("{event.type: file}", False),
        ("{event.category|all: [file, database]}", True),
        ("{event.category|all: [file, web]}", False),
        # wildcards and their escapes
        ("{file.name: 'report.*'}", True),
        ("{file.name: 'rep?rt.xlsx'}", True),
        ("{file.name: 'rep?ort.xlsx'}", False),
        ("{file.name: '*.xls'}", False),
        (r"{file.path: '/projects/a\*b/*'}", True),
        (r"{file.path: '/projects/a\?b/*'}", False),
        ("{message: 'first*line'}", True),
        # text modifiers
        ("{file.path|contains: A*B}", True),
        ("{file.path|contains: PROJ}", True),
        ("{file.path|startswith: /Projects}", True),
        ("{file.path|startswith: projects}", False),
        ("{file.path|endswith: .xlsx}", True),
        ("{file.path|endswith: .doc}", False),
        ("{file.path|contains|all: [proj, report]}", True),
        ("{file.path|contains|all: [proj, budget]}", False),
        # cased
        ("{event.action|cased: fs_Delete}", True),
        ("{event.action|cased: fs_delete}", False),
        ("{file.path|contains|cased: XLSX}", True),
        ("{file.path|contains|cased: xlsx}", False),
        # regular expressions: searched, with regard to case unless |i
        ("{user.name|re: '^Al.na$'}", True),
        ("{user.name|re: '^al.na$'}", False),
        ("{user.name|re|i: '^al.na$'}", True),
        ("{message|re: 'line.second'}", False),
        ("{message|re|s: 'line.second'}", True),
        ("{message|re|m: '^second'}", True),
        # addresses
        ("{source.ip|cidr: 10.0.0.0/8}", True),
        ("{source.ip|cidr: [192.168.0.0/16, 10.1.2.0/24]}", True),
        ("{source.ip|cidr: 11.0.0.0/8}", False),
        ("{destination.ip|cidr: 2001:db8::/32}", True),
        ("{destination.ip|cidr: 10.0.0.0/8}", False),
        ("{user.name|cidr: 10.0.0.0/8}", False),
        # numbers
        ("{source.port: 443}", True),
        ("{source.port: '443'}", True),
        ("{source.port: 44}", False),
        ("{source.port|gt: 442}", True),
        ("{source.port|gt: 443}", False),
        ("{source.port|gte: 443}", True),
        ("{source.port|lt: 443}", False),
        ("{source.port|lte: 443}", True),
        ("{user.name|gt: 1}", False),
        ("{blocked: true}", True),
        ("{blocked: false}", False),
        # absence
        ("{user.domain: null}", True),
        ("{user.name: null}", False),
        ("{nothing: null}", True),
        ("{empty: null}", False),
        ("{empty: ''}", True),
        ("{user.domain|exists: true}", False),
        ("{user.domain|exists: false}", True),
        ("{user.name|exists: true}", True),
        ("{user.domain: bob}", False),
        # expansions link by or whatever encloses them
        ("{message|windash|contains: '-x'}", False),
        ("{user.name|neq: bob}", True),
        ("{user.name|neq: alina}", False),
        # keywords: anywhere in any text
        ("[report, budget]", True),
        ("[budget]", False),
        ("'second LINE'", True),
        ("{'|all': [report, alina]}", True),
        ("{'|all': [report, bob]}", False),
        ("['10.1.*.3']", True),
        ("[database]", False),  # a category, which Weir says and not the sender
        ("['443']", True),
    ],
)
def test_selections(text: str, expected: bool) -> None:
    assert selection(text) is expected


SELECTIONS = "  yes_a: {user.name: alina}\n  yes_b: {source.port: 443}\n  no_a: {user.name: bob}\n  no_b: {source.port: 1}\n"


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ("yes_a", True),
        ("not no_a", True),
        ("yes_a and no_a", False),
        ("yes_a or no_a", True),
        ("no_a or yes_a and yes_b", True),
        ("(no_a or yes_a) and no_b", False),
        ("yes_a and not no_b", True),
        ("not (yes_a and no_b)", True),
        ("not yes_a and no_b", False),
        ("1 of yes_*", True),
        ("all of yes_*", True),
        ("1 of no_*", False),
        ("all of them", False),
        ("1 of them", True),
        ("any of them", True),
        ("1 of yes_* and not 1 of no_*", True),
        ("not all of them", True),
        ("[no_a, yes_a]", True),
        ("[no_a, no_b]", False),
    ],
)
def test_conditions(condition: str, expected: bool) -> None:
    assert compiled(f"{SELECTIONS}  condition: {condition}").matches(EVENT) is expected


@pytest.mark.parametrize(
    ("detection", "cause"),
    [
        ("  sel: {user.name|expand: '%admins%'}\n  condition: sel", "placeholder admins has no value"),
    ],
)
def test_what_is_not_evaluated_is_named(detection: str, cause: str) -> None:
    with pytest.raises(UnsupportedError, match=cause):
        compiled(detection)


def test_an_index_key_is_what_every_match_must_have() -> None:
    one = compiled("  sel: {event.action: [A, b], user.name: x}\n  other: {user.name: y}\n  condition: sel and not other")
    assert one.required == {"event_action": frozenset({"a", "b"}), "user_name": frozenset({"x"})}
    assert one.fields == {"event_action", "user_name"}
    either = compiled("  s1: {event.action: a, user.name: x}\n  s2: {event.action: b}\n  condition: 1 of s*")
    assert either.required == {"event_action": frozenset({"a", "b"})}
    assert compiled("  s1: {event.action: 'a*'}\n  condition: s1").required == {}
    assert compiled("  s1: {event.action: a}\n  condition: not s1").required == {}


_values = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.lists(st.text()))


@settings(max_examples=60, deadline=None)
@given(record=st.dictionaries(st.sampled_from(sorted(EVENT)), _values))
def test_no_value_of_an_event_makes_a_predicate_fail(record: dict[str, Any]) -> None:
    detection = """  a: {user.name|re: 'x+', source.port|gt: 3, source.ip|cidr: 10.0.0.0/8}
  b: {file.path|contains: [a, b], event.action: 'x?y*', blocked: true, source.port: 3}
  c: [word, 'w*d']
  condition: 1 of them"""
    assert compiled(detection).matches(record) in {True, False}


@settings(max_examples=60, deadline=None)
@given(text=st.text(st.characters(exclude_characters="\\*?%"), min_size=1), record=st.dictionaries(st.just("message"), st.text()))
def test_a_plain_value_equals_what_it_says_whatever_the_case(text: str, record: dict[str, str]) -> None:
    document = {"title": "t", "logsource": {"category": "x"}, "detection": {"s": {"message": text}, "condition": "s"}}
    rule = compile_rule(SigmaRule.from_dict(document), Names(str))
    assert rule.matches({"message": text})
    assert rule.matches(record) == (record.get("message", "").lower() == text.lower() and "message" in record)


@pytest.mark.parametrize("text", ['{"a":' + "[" * 1000 + '{"b":"x"}' + "]" * 1000 + "}", '{"a":' * 1000 + "1" + "}" * 1000])
def test_json_nested_a_thousand_deep_is_no_match_and_no_mishap(text: str) -> None:
    read = getter("document." + "a." * 999 + "b")
    assert (getter("document.a.b")({"document": text}), read({"document": text})) == (None, None)


def test_an_address_with_a_zone_of_any_length_is_none() -> None:
    found = compiled("  sel: {source.ip|cidr: 'fe80::/10'}\n  condition: sel")
    assert found.matches({"source_ip": "fe80::1%eth0"})
    assert not found.matches({"source_ip": "fe80::1%" + "a" * 1000})


def test_a_time_is_taken_apart_once_for_all_the_hours_that_a_rule_lists() -> None:
    hour = values._part(TimestampPart.HOUR, values.UTC)
    assert values._part(TimestampPart.HOUR, values.UTC) is hour
    assert hour(3_600_000_000) == 1
    assert [hour(1), hour(True)] == [0, None]
