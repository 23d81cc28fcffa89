"""HTTP bodies are cut into their objects, byte by byte as sent; anything else is refused by index and offset."""

from __future__ import annotations

import json
import time
import tracemalloc
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weir.protocols.elements import ElementError, ElementTooLongError, cut_elements


def cut(body: bytes | bytearray, **options: Any) -> list[bytes]:
    return list(cut_elements(body, **options))


@pytest.mark.parametrize(
    ("body", "elements"),
    [
        (b"{}", [b"{}"]),
        (b' \r\n{"a" : 1.0,"b":[{},"]}"]}\t\n', [b'{"a" : 1.0,"b":[{},"]}"]}']),
        (b"[]", []),
        (b" [ ] ", []),
        (b"", []),
        (b'[{"a":1},{"a":2}]', [b'{"a":1}', b'{"a":2}']),
        (b'[\n  {"a": "\\"}"},\n  {"b": "\\\\"}\n]\n', [b'{"a": "\\"}"}', b'{"b": "\\\\"}']),
        (b'{"a":1}\n{"a":2}\n', [b'{"a":1}', b'{"a":2}']),
        (b'{"a":1}{"a":2}', [b'{"a":1}', b'{"a":2}']),
        (b'\xef\xbb\xbf{"a":1}', [b'{"a":1}']),
        (b'{"n":12345678901234567890123456789,"u":"\\u00e9"}', [b'{"n":12345678901234567890123456789,"u":"\\u00e9"}']),
    ],
)
def test_elements_are_the_bytes_that_were_sent(body: bytes, elements: list[bytes]) -> None:
    assert cut(body) == elements
    assert cut(bytearray(body)) == elements


def test_lines_are_objects_and_empty_lines_are_passed_over() -> None:
    assert cut(b'\n{"a":1}\r\n\n  {"b":2}\n', lines=True) == [b'{"a":1}', b'{"b":2}']
    assert cut(b"\xef\xbb\xbf{}", lines=True) == [b"{}"]


@pytest.mark.parametrize(
    ("body", "index", "offset", "reason"),
    [
        (b"hello", 0, 0, "'h' where an object belongs"),
        (b"[1]", 0, 1, "'1' where an object belongs"),
        (b'[{"a":1},{"a":}]', 1, 9, "not JSON"),
        (b'[{"a":1} {"a":2}]', 0, 9, "',' or ']'"),
        (b"[{},]", 1, 4, "']' where an object belongs"),
        (b"[{},", 1, 4, "ends where an object belongs"),
        (b"[{}", 0, 3, "ends within the array"),
        (b"[", 0, 1, "ends where an object belongs"),
        (b"[{}]{}", None, 4, "after the end of the array"),
        (b'{"a":"', 0, 0, "ends within the object"),
        (b'{"a":[1}', 0, 0, "ends within the object"),
        (b'{"a":[1}]', 0, 0, "not JSON"),
        (b"{}}", 1, 2, "'}' where an object belongs"),
        (b'{"a":"\xff"}', 0, 0, "not JSON"),
        (b"{'a':1}", 0, 0, "not JSON"),
        (b'{"a":NaN}', 0, 0, "not JSON"),
        (b'{"a":"\x01"}', 0, 0, "not JSON"),
        (b'{"a":"\\ud800"}', 0, 0, "not JSON"),
    ],
)
def test_what_is_not_an_object_is_named_by_index_and_offset(body: bytes, index: int | None, offset: int, reason: str) -> None:
    with pytest.raises(ElementError, match="byte") as caught:
        cut(body)
    assert (caught.value.index, caught.value.offset) == (index, offset)
    assert reason in caught.value.reason


def test_a_bad_line_is_named_and_cannot_borrow_from_the_next() -> None:
    with pytest.raises(ElementError, match="element 1 at byte 3: not JSON"):
        cut(b'{}\n{"a":\n{"b":1}}\n', lines=True)
    with pytest.raises(ElementError, match="element 0 at byte 1: an array"):
        cut(b"\n[{}]\n", lines=True)


def test_the_place_within_an_element_is_given_in_bytes() -> None:
    with pytest.raises(ElementError, match=r"\(byte 16\)"):
        cut('[{"ä":"ö","b":x}]'.encode())


@pytest.mark.parametrize("lines", [True, False])
def test_a_long_element_is_refused_by_its_limit(lines: bool) -> None:
    body = b'{"a":"' + b"x" * 100 + b'"}'
    assert cut(b"{}\n" + body, lines=lines, max_element_bytes=len(body)) == [b"{}", body]
    with pytest.raises(ElementTooLongError, match=f"element 1 at byte 3: longer than {len(body) - 1} bytes"):
        cut(b"{}\n" + body, lines=lines, max_element_bytes=len(body) - 1)


def test_a_hostile_body_takes_linear_time_and_little_memory() -> None:
    for body in (
        b'{"a":"' + b'\\"' * 2_000_000,
        b"{" * 4_000_000,
        b'{"":' * 1_000_000,
        b"[" + b'{"a":1,' * 500_000,
        b"{" + b'"",' * 1_000_000 + b"}",
        b"{" + b"\\" * 4_000_000,
    ):
        began = time.process_time()
        with pytest.raises(ElementError):
            cut(body, max_element_bytes=5_000_000)
        assert time.process_time() - began < 10
    tracemalloc.start()
    try:
        with pytest.raises(ElementTooLongError):
            cut(b'{"a":"' + b'\\"' * 2_000_000 + b'"}', max_element_bytes=1_000)
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()


_scalars = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**53), 2**53), st.floats(allow_nan=False, allow_infinity=False), st.text(max_size=8)
)
_values = st.recursive(
    _scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=4), inner, max_size=3)),
    max_leaves=8,
)
_objects = st.dictionaries(st.text(max_size=4), _values, max_size=4)
_space = st.text(" \t\r\n", max_size=3)


@settings(max_examples=150, deadline=None)
@given(
    objects=st.lists(_objects, max_size=5),
    ascii_only=st.booleans(),
    indent=st.sampled_from([None, 1]),
    spaces=st.lists(_space, min_size=12, max_size=12),
)
def test_every_way_to_write_objects_gives_them_back(
    objects: list[Any], ascii_only: bool, indent: int | None, spaces: list[str]
) -> None:
    texts = [json.dumps(o, ensure_ascii=ascii_only, indent=indent) for o in objects]
    encoded = [text.encode() for text in texts]
    s = spaces
    padded = [s[n] + text + s[n + 5] for n, text in enumerate(texts)]
    assert cut((s[10] + "[" + (",".join(padded) or s[11]) + "]" + s[11]).encode()) == encoded
    assert cut((s[10] + "\n".join(padded)).encode()) == encoded
    if indent is None:
        flat = [text.replace("\n", " ").replace("\r", " ") for text in padded]
        assert cut("\n".join(flat).encode(), lines=True) == encoded


def _expected(body: bytes) -> list[Any] | None:
    """What the whole means to orjson: objects of an array, or one; None where it is not allowed."""
    try:
        value = orjson.loads(body.removeprefix(b"\xef\xbb\xbf"))
    except orjson.JSONDecodeError:
        return None
    values = value if isinstance(value, list) else [value]
    return values if all(isinstance(v, dict) for v in values) else None


_TOKENS = ["{", "}", "[", "]", ",", ":", '"', "\\", '"a"', '{"a":1}', "{}", "1", "null", " ", "\n", '"\\""', "é", "\x00"]
_fragments = st.lists(st.sampled_from(_TOKENS), max_size=12).map(lambda parts: "".join(parts).encode())


@settings(max_examples=600, deadline=None)
@given(body=st.one_of(_fragments, _fragments.map(lambda b: b"[" + b + b"]"), st.binary(max_size=20)))
def test_agrees_with_orjson_on_what_is_json(body: bytes) -> None:
    """A body that is one JSON text gives its objects; nothing else gives any, but several objects after each other."""
    expected = _expected(body)
    try:
        elements = cut(body)
    except ElementError:
        assert expected is None
        return
    parsed = [orjson.loads(element) for element in elements]
    assert all(isinstance(value, dict) for value in parsed)
    if expected is not None:
        assert parsed == expected
    else:
        assert b"".join(body.removeprefix(b"\xef\xbb\xbf").split()) == b"".join(b"".join(elements).split())


@settings(max_examples=200, deadline=None)
@given(body=_fragments, edits=st.lists(st.integers(0, 255), max_size=3))
def test_lines_agree_with_orjson_line_by_line(body: bytes, edits: list[int]) -> None:
    body = b"{}\n" + body + bytes(edits)
    lines = [line.strip(b" \t\r") for line in body.split(b"\n")]
    expected = [_expected(line) if line[:1] != b"[" else None for line in lines if line]
    try:
        elements = cut(body, lines=True)
    except ElementError:
        assert None in expected
        return
    assert [[orjson.loads(element)] for element in elements] == expected


def test_bytes_that_are_no_utf_8_are_named_where_they_are() -> None:
    with pytest.raises(ElementError, match=r"element 1 at byte 4: .*UTF-8.*\(byte 12\)"):
        cut('[{},{"ä":"'.encode() + b"a\xff" + b'"}]')
