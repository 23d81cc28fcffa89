"""The language of `when:`."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from weir.enrich.filters.expression import MAX_DEPTH, MAX_LENGTH, MAX_VALUES, ExpressionError, Kind, compile_expression

FIELDS = {
    "message": Kind.TEXT,
    "user_name": Kind.TEXT,
    "source_ip": Kind.TEXT,
    "port": Kind.NUMBER,
    "score": Kind.NUMBER,
    "truncated": Kind.FLAG,
    "tags": Kind.LIST,
    "labels": Kind.PAIRS,
}
EVENT: dict[str, Any] = {
    "message": 'login of "bob" failed',
    "user_name": None,
    "source_ip": "10.1.2.3",
    "port": 22,
    "score": 0.5,
    "truncated": True,
    "tags": ["blue", "red"],
    "labels": {"site": "north", "a b": "c", "x.y": "z"},
}


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("port == 22", True),
        ("port == 22.0", True),
        ("port != 22", False),
        ("port < 23 and port <= 22 and port > 21 and port >= 22", True),
        ("port > -1", True),
        ("score < 0.6", True),
        ("port in [21, 22]", True),
        ("port not in [21, 22]", False),
        ("port in [80]", False),
        ("truncated == true", True),
        ("truncated == false", False),
        ("message contains 'failed'", True),
        ('message contains "of \\"bob\\""', True),
        ("message not contains 'failed'", False),
        ("message startswith 'login'", True),
        ("message endswith 'login'", False),
        ("message matches 'login of * failed'", True),
        ("message matches 'login'", False),
        ("message matches 'logi[m-o] ??*'", True),
        ("message == 'Login of \"bob\" failed'", False),
        ("source_ip in 10.0.0.0/8", True),
        ('source_ip in "10.0.0.0/8"', True),
        ("source_ip not in 10.0.0.0/8", False),
        ("source_ip in [192.168.0.0/16, 10.1.2.3]", True),
        ("source_ip in [192.168.0.0/16, '10.1.2.4', 2001:db8::/32]", False),
        ("source_ip in ['10.1.2.3', 'x']", True),
        ("source_ip == 10.1.2.3", True),
        ("source_ip exists", True),
        ("user_name exists", False),
        ("not user_name exists", True),
        ("user_name == null", True),
        ("user_name != null", False),
        ("source_ip != null", True),
        ("user_name == 'bob'", False),
        ("user_name != 'bob'", True),
        ("user_name in ['bob']", False),
        ("user_name not in ['bob']", True),
        ("user_name contains ''", False),
        ("user_name matches '*'", False),
        ("tags contains 'red'", True),
        ("tags contains 're'", False),
        ("tags in ['green', 'red']", True),
        ("tags exists", True),
        ("tags == null", False),
        ("labels.site == 'north'", True),
        ('labels["a b"] startswith "c"', True),
        ("labels.x.y == 'z'", True),
        ("labels.none exists", False),
        ("labels exists", True),
        ("port == 1 or port == 22", True),
        ("port == 22 or port == 1 and port == 2", True),  # and binds more tightly
        ("(port == 22 or port == 1) and port == 2", False),
        ("not port == 1 and not (port == 2 or port == 3)", True),
        ("not not port == 22", True),
        ("port == 1 or port == 2 or port == 22", True),
        ("\n port == 22\n\tand source_ip exists ", True),
    ],
)
def test_conditions_hold_or_not(text: str, holds: bool) -> None:
    assert compile_expression(text, FIELDS)(EVENT) is holds


def test_a_field_that_an_event_lacks_is_as_one_that_is_null() -> None:
    assert compile_expression("port != 22 and not port > 1 and not port <= 1", FIELDS)({})
    assert not compile_expression("labels.site exists or tags contains 'x' or source_ip in 0.0.0.0/0", FIELDS)({})


@pytest.mark.parametrize(
    ("text", "position", "says"),
    [
        ("", 0, "the end stands where the name of a field must"),
        ("prot == 22", 0, "prot is not a field of these events; did you mean port?"),
        ("port = 22", 5, "equality is `==`"),
        ("port == 22 && port == 1", 11, "write and, or, not"),
        ("port == 22 port", 11, "`port` is too much"),
        ("port == '22'", 8, "port is a number; write it without quotation marks"),
        ("port == true", 8, "port is a number"),
        ("user_name == bob", 13, 'text is written in quotation marks: "bob"'),
        ("user_name == 5", 13, "user_name is text"),
        ("user_name > 'a'", 10, "compares numbers only"),
        ("port > null", 7, "port == null"),
        ("port", 4, "the end stands where an operator must"),
        ("port not == 5", 9, "cannot follow `not`"),
        ("port contains '2'", 5, "port is no text"),
        ("message contains 5", 17, "asks for text in quotation marks"),
        ("tags == 'red'", 5, 'tags contains "…"'),
        ("tags startswith 'r'", 5, "contains is what can be asked"),
        ("labels == 'x'", 0, 'labels.key or labels["key"]'),
        ("labels[5] == 'x'", 7, 'a key is written as ["key"]'),
        ("labels. == 'x'", 8, "is no key"),
        ("source_ip == 10.0.0.0/8", 13, "asked for with in"),
        ("source_ip in 10.0.0.1/8", 13, "host bits set"),
        ("source_ip in 'abc'", 13, "for a part of a text: contains"),
        ("source_ip in [10.0.0.0/8, 'abc']", 13, "only addresses and CIDR ranges"),
        ("port in 10.0.0.0/8", 0, "port holds no address"),
        ("port in 22", 8, "in asks for a list"),
        ("port in []", 10, "a list without values"),
        ("port in [1 2]", 11, "stands where `,` or `]` must"),
        ("port in [1, null]", 8, "port == null"),
        ("(port == 22", 11, "where `)` closes the condition"),
        ("port == 'abc", 8, "this text has no end"),
        ("port == 22x", 8, "a number, an address or a CIDR range was begun"),
        ("port == 300.1.1.1", 8, "300.1.1.1"),
        ("and", 0, "where the name of a field must"),
        ("port == 1 # twenty-two", 10, "'#' has no meaning here"),
        ("x" * (MAX_LENGTH + 1), MAX_LENGTH, "4,000 characters"),
        ("(" * MAX_DEPTH + "port == 1" + ")" * MAX_DEPTH, MAX_DEPTH, "deep within each other"),
    ],
)
def test_a_mistake_is_named_with_its_place_and_the_way_out(text: str, position: int, says: str) -> None:
    with pytest.raises(ExpressionError) as raised:
        compile_expression(text, FIELDS)
    assert says in raised.value.message
    assert raised.value.position == position


def test_lists_are_bounded() -> None:
    long = ",".join(["1"] * (MAX_VALUES + 1))
    with pytest.raises(ExpressionError, match="1,000 values"):
        compile_expression(f"port in [{long}]", FIELDS)


WORDS = st.sampled_from(
    (
        *FIELDS,
        *("==", "!=", "<", ">=", "in", "not", "and", "or", "(", ")", "[", "]", ",", ".", "exists", "contains", "matches"),
        *(
            "null",
            "true",
            "'a'",
            '"b"',
            "'",
            "22",
            "-1",
            "0.5",
            "10.0.0.0/8",
            "::1",
            "2001:db8::/32",
            "1.2.3.4",
            "x",
            "'*a*b'",
            "é",
        ),
    )
)


@settings(max_examples=200)
@given(st.one_of(st.text(max_size=200), st.lists(WORDS, max_size=15).map(" ".join)))
@example("port == 1" + " or port == 1" * 300)
@example("not " * 1000)
def test_any_text_is_a_condition_or_a_mistake_within_it_and_a_condition_holds_or_not(text: str) -> None:
    found = None
    try:
        test = compile_expression(text, FIELDS)
    except ExpressionError as error:
        found = error
    if found is not None:
        assert 0 <= found.position <= len(text)
        assert found.message
        return
    assert test(EVENT) in {True, False}
    assert test({}) in {True, False}


def test_no_pattern_costs_more_than_its_length_times_the_events() -> None:
    test = compile_expression(f"message matches '{'*a' * 100}b'", FIELDS)
    start = time.process_time()
    assert not test({"message": "a" * 20_000})
    assert time.process_time() - start < 1.0
