"""The index gives every detection that matches an event, and few others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sigma.rule import SigmaRule

from weir.detect.matching.covers import Clue
from weir.detect.matching.index import MAX_PAIRS, Index
from weir.detect.matching.matcher import Compiled, Names, compile_rule, within
from weir.detect.matching.regexes import literals, searcher
from weir.detect.reading.loading import load_rules
from weir.local.bench.rules import rule_documents, write_rules

_FIELDS = ("event_dataset", "event_module", "event_action", "user_name", "source_ip", "size", "message")
_TEXTS = ("a", "ab", "ABC", "abcd", "xabcdx", "é", "ß", "SS", "10.1.2.3", "::ffff:10.1.2.3", "443", "", "a.b*c?d", "evil\nthing")
_MODIFIERS = (
    "",
    "|contains",
    "|startswith",
    "|endswith",
    "|cased",
    "|re",
    "|re|i",
    "|contains|all",
    "|exists",
    "|gt",
    "|lte",
    "|cidr",
)


def _values(modifier: str) -> st.SearchStrategy[Any]:
    if "exists" in modifier:
        return st.booleans()
    if "gt" in modifier or "lte" in modifier:
        return st.integers(-3, 500)
    if "cidr" in modifier:
        return st.sampled_from(["10.0.0.0/8", "10.1.0.0/16", "8.0.0.0/6", "::/0", "0.0.0.0/0"])
    if "re" in modifier:
        return st.sampled_from(["abc?d", "^(ab|x)+c", "b.d", "443|thing", "a+", "[a-c]{2}", "(?i)ABCD$", "(?:evil)\\s+thing"])
    texts = st.sampled_from(_TEXTS)
    if "all" in modifier:
        return st.lists(texts, min_size=2, max_size=3)
    return st.one_of(texts, st.just("*b*")) if modifier else st.one_of(texts, st.integers(440, 444), st.just("a?c*"))


_ITEMS = st.tuples(st.sampled_from(_FIELDS), st.sampled_from(_MODIFIERS)).flatmap(
    lambda item: st.tuples(st.just("".join(item)), _values(item[1]))
)
_SELECTIONS = st.one_of(
    st.lists(_ITEMS, min_size=1, max_size=3).map(dict),
    st.lists(st.sampled_from([text for text in _TEXTS if text]), min_size=1, max_size=2),
)
_CONDITIONS = st.sampled_from(["a", "a and b", "a or b", "a and not b", "not a", "1 of them", "all of them", "not (a and b)"])
_RECORDS = st.dictionaries(
    st.sampled_from(_FIELDS[2:]),
    st.one_of(st.sampled_from(_TEXTS), st.integers(440, 444), st.none(), st.booleans(), st.lists(st.sampled_from(_TEXTS))),
)
_KINDS = st.fixed_dictionaries({}, optional={name: st.sampled_from(["abc", "ABCD", "a"]) for name in _FIELDS[:2]})


def _compiled(one: Any, other: Any, condition: str) -> Compiled:
    detection = {"a": one, "b": other, "condition": condition}
    return compile_rule(SigmaRule.from_dict({"title": "t", "logsource": {"category": "x"}, "detection": detection}), Names(str))


@settings(max_examples=60, deadline=None)
@given(
    detections=st.lists(st.tuples(_SELECTIONS, _SELECTIONS, _CONDITIONS), min_size=1, max_size=6),
    records=st.lists(st.tuples(_RECORDS, _KINDS), min_size=1, max_size=5),
)
def test_no_match_is_missed_whatever_the_detections_and_events(detections: Any, records: Any) -> None:
    rules = [_compiled(*detection) for detection in detections]
    rules += [within(rule, {"event_dataset": ("abc",)}, "message") for rule in rules]
    index = Index((place, rule.cover, rule.required) for place, rule in enumerate(rules))
    for fields, kind in records:
        record = fields | kind
        matching = {place for place, rule in enumerate(rules) if rule.matches(record)}
        candidates = index.candidates(record)
        assert matching <= set(candidates)
        assert candidates == sorted(set(candidates))


def _index(*detections: dict[str, Any]) -> Index[int]:
    rules = [_compiled({"n": 1} | detection, {"n": 2}, "a") for detection in detections]
    return Index((place, rule.cover, rule.required) for place, rule in enumerate(rules))


@pytest.mark.parametrize(
    ("detection", "hit", "miss"),
    [
        ({"user_name": "bob"}, {"user_name": "BOB"}, {"user_name": "bobby"}),
        ({"user_name|contains": "evilthing"}, {"user_name": "an EVILTHING"}, {"user_name": "evil"}),
        ({"message|re": "^evil(?:thing|stuff)[0-9]+"}, {"message": "a stuffy evil"}, {"message": "an evil"}),
        ({"source_ip|cidr": "10.0.0.0/8"}, {"source_ip": "10.255.0.1"}, {"source_ip": "11.0.0.1"}),
        ({"size|gt": 100}, {"size": 101}, {"size": 99}),
        ({"size|lt": 100}, {"size": "99"}, {"size": 101}),
        ({"user_name|exists": True}, {"user_name": ""}, {}),
    ],
)
def test_a_detection_is_tried_only_where_its_clue_is(detection: dict[str, Any], hit: dict[str, Any], miss: dict[str, Any]) -> None:
    rule = _compiled(detection, {"n": 2}, "a")
    index = Index([(0, rule.cover, rule.required)])
    assert index.candidates(hit) == [0]
    assert index.candidates(miss) == []


def test_the_clue_that_says_most_is_taken() -> None:
    rule = _compiled({"event_module": "kemp", "user_name|contains": "ab", "message|contains": "a long text"}, {"n": 2}, "a")
    assert rule.cover == {Clue("contains", "message", "a long text")}
    assert _compiled({"user_name": "x"}, {"size|gt": 3}, "a or b").cover == {
        Clue("equals", "user_name", "x"),
        Clue("above", "size", limit=3),
    }
    assert _compiled({"user_name": "x"}, {"size|gt": 3}, "not a").cover is None


def test_senders_cannot_make_an_index_grow_by_names_of_datasets() -> None:
    index = _index({"event_dataset": "zeek.dns"}, {"event_module": "kemp"}, {"message": "x"})
    for number in range(2 * MAX_PAIRS):
        assert index.candidates({"event_dataset": f"made.up{number}", "event_module": "kemp", "n": 1, "message": "x"})
    assert len(index._sections) == 1
    assert len(index._by_pair) == MAX_PAIRS


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("abc", {"abc"}),
        ("ab+cd", {"ab", "cd"}),
        ("abc?def", {"def"}),
        ("abc*", {"ab"}),
        ("(?:abc|xyz)1", {"abc", "xyz"}),
        ("(?:abc|x?)12", {"12"}),
        ("(abc){2,3}", {"abc"}),
        ("(abc){0,3}", None),
        ("abc|de", {"abc", "de"}),
        ("abc|.*", None),
        (r"a\.b\\c", {r"a.b\c"}),
        (r"\d+[abc]\w", None),
        (r"[]a]bcd[^]]", {"bcd"}),
        (r"[[:alpha:]]bcd", {"bcd"}),
        (r"\x41bc", None),
        ("(?i)evil", {"evil"}),
        ("(?P<name>evil)x", {"evil"}),
        ("(?x)e v i l", None),
        (r"\Qa*b\E", None),
        ("", None),
    ],
)
def test_what_a_regular_expression_needs(pattern: str, expected: set[str] | None) -> None:
    found = literals(pattern)
    if expected is None:
        assert found is None
    else:
        # Of two pieces as long as each other either will do.
        assert found is not None
        assert found <= expected
        assert found


@settings(max_examples=100, deadline=None)
@given(pattern=st.text("abc|()*+?.[]{}1,\\d^$", max_size=12), text=st.text("abc1\\d.", max_size=12))
def test_a_text_that_an_expression_finds_has_what_the_expression_needs(pattern: str, text: str) -> None:
    try:
        search = searcher(pattern)
    except ValueError:
        return
    needed = literals(pattern)
    if needed is not None and search(text):
        assert any(piece in text for piece in needed)


def test_made_rules_load_and_are_the_same_each_time(tmp_path: Path) -> None:
    write_rules(tmp_path, 300)
    found = load_rules(tmp_path)
    assert found.problems == ()
    assert len(found.rules) == 300
    assert list(rule_documents(300)) == list(rule_documents(300))
    assert list(rule_documents(30, seed=2)) != list(rule_documents(30))


def test_a_rule_about_a_number_of_thousands_of_digits_is_filed_as_any_text() -> None:
    digits = "9" * 5_000
    index = Index([("it", frozenset({Clue("equals", "user_name", digits)}), {})])
    assert index.candidates({"user_name": digits}) == ["it"]
    assert index.candidates({"user_name": "9"}) == []
