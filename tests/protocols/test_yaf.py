"""YAF's flows as lines of text."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weir.protocols.yaf import YafFlow, decode

LINE = (
    "2026-01-28 15:29:48.512|2026-01-28 15:29:49.012|   0.500|   0.012|  6|      192.0.2.10|51000|   2001:db8::1|  443|       S|"
    "     APF|      AS|     APF|22efa001|0000000a|00a|000|      12|    3400|       9|    9000|  443|idle "
)


def test_a_line_is_a_flow() -> None:
    assert decode(LINE) == YafFlow(
        1769614188512000, 1769614189012000, 12, 6, "192.0.2.10", 51000, "2001:db8::1", 443, 0x1B, 0x1B, 0x22EFA001, 10, 10, 0, 12,
        3400, 9, 9000, 443, "idle",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("before", "after"),
    [("192.0.2.10", "host"), ("51000", "70000"), ("|     APF|", "|     AXF|"), ("22efa001", "-1"), ("2026-01-28", "start"),
     ("0.012", "inf"), ("   12|", "1_2|"), ("|idle", "")],
)  # fmt: skip
def test_another_line_is_none(before: str, after: str) -> None:
    changed = LINE.replace(before, after, 1)
    assert changed != LINE
    assert decode(changed) is None


@given(st.lists(st.text(max_size=12), min_size=23, max_size=23))
@settings(max_examples=60, deadline=None)
def test_any_text_never_raises(cells: list[str]) -> None:
    decode("|".join(cells))


@given(st.integers(0, 22), st.text(max_size=12))
@settings(max_examples=100, deadline=None)
def test_a_changed_column_never_raises(place: int, text: str) -> None:
    cells = LINE.split("|")
    cells[place] = text
    decode("|".join(cells))
