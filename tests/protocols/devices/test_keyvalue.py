import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weir.protocols.devices.keyvalue import MAX_PAIRS, split_pairs


@pytest.mark.parametrize(
    ("text", "pairs"),
    [
        ("a=1 b=2", {"a": "1", "b": "2"}),
        ('a="x y" b="" c=', {"a": "x y", "b": "", "c": ""}),
        (r'a="say \"so\"" b="C:\dir\\x"', {"a": 'say "so"', "b": "C:\\dir\\x"}),
        ("no pair a=1 here", {"a": "1"}),
        ("a=1 a=2", {"a": "1"}),
        ('a="open b=2', {"a": "open b=2"}),
        ("url=/p?q=1&r=2", {"url": "/p?q=1&r=2"}),
        ("", {}),
    ],
)
def test_pairs(text: str, pairs: dict[str, str]) -> None:
    assert split_pairs(text) == pairs


KEYS = st.text("abcXYZ019_", min_size=1, max_size=12)
VALUES = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)


@given(st.dictionaries(KEYS, VALUES, max_size=8))
def test_what_was_written_with_quotes_is_read_back(pairs: dict[str, str]) -> None:
    written = " ".join('{}="{}"'.format(key, value.replace("\\", "\\\\").replace('"', '\\"')) for key, value in pairs.items())
    assert split_pairs(written) == pairs


def test_the_number_of_pairs_is_bounded() -> None:
    assert len(split_pairs(" ".join(f"k{i}=1" for i in range(2 * MAX_PAIRS)))) == MAX_PAIRS


@pytest.mark.parametrize(
    "text", ["a" * 65_000, 'a="' * 16_000, "a=" * 32_000, 'a="' + "\\" * 65_000, "=" * 65_000, 'a=b"' * 16_000]
)
def test_hostile_input_costs_one_pass(text: str) -> None:
    began = time.perf_counter()
    split_pairs(text)
    assert time.perf_counter() - began < 1
