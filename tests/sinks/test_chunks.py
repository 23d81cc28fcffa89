"""Chunks for the Logs Ingestion API."""

from __future__ import annotations

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st

from weir.sinks.chunks import CUT_MARK, MAX_VALUE_BYTES, Line, chunked, make_line

from .samples import row

ROW = row("events.cef", 0, {})


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(2, 400), max_size=60), st.integers(10, 500))
def test_chunks_hold_every_line_in_order_and_fit(sizes: list[int], limit: int) -> None:
    lines = [Line(ROW, b'"' + b"x" * (size - 2) + b'"') for size in sizes]
    chunks = list(chunked(lines, limit))
    assert [line for chunk in chunks for line in chunk.lines] == lines
    for chunk in chunks:
        body = chunk.body()
        assert len(body) <= limit or len(chunk.lines) == 1
        assert len(orjson.loads(body)) == len(chunk.lines)


def test_halves_are_the_whole() -> None:
    chunk = next(chunked([Line(ROW, b"%d" % n) for n in range(5)]))
    first, second = chunk.halves()
    assert first.lines + second.lines == chunk.lines
    assert first.lines
    assert second.lines


def test_a_value_over_64_kb_is_cut_and_says_so() -> None:
    line = make_line(ROW, {"Message": "é" * 50_000, "Other": "kept", "Number": 7})
    value = orjson.loads(line.data)
    assert line.cut == 1
    assert value["Message"].endswith(CUT_MARK)
    assert len(value["Message"].encode()) <= MAX_VALUE_BYTES
    assert (value["Other"], value["Number"]) == ("kept", 7)


def test_a_dynamic_value_over_64_kb_becomes_cut_text() -> None:
    line = make_line(ROW, {"Document": {"list": list(range(20_000))}})
    assert line.cut == 1
    assert orjson.loads(line.data)["Document"].startswith('{"list":[0,1,2')


def test_a_long_row_of_short_values_is_left_as_it_is() -> None:
    projected = {f"Column{n}": "x" * 1000 for n in range(100)}
    line = make_line(ROW, projected)
    assert line.cut == 0
    assert orjson.loads(line.data) == projected
