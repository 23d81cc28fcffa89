"""What user agents say."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weir.enrich.user_agent import MAX_LENGTH, UserAgent, read, user_agents

CHROME = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36"
IPHONE = (
    "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.5 Mobile/15E148 "
    "Safari/604.1"
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (CHROME, UserAgent("Chrome", "126.0.0.0", "Windows", "10", None)),
        (IPHONE, UserAgent("Mobile Safari", "17.5", "iOS", "17.5", "iPhone")),
        ("curl/8.5.0", UserAgent("curl", "8.5.0")),
        ("of my own making", UserAgent()),
        ("", UserAgent()),
    ],
)
def test_program_system_and_device_are_read(text: str, expected: UserAgent) -> None:
    assert read(text) == expected


def test_empty_fields_are_filled_in_and_others_stay() -> None:
    records: list[dict[str, Any]] = [
        {"user_agent_original": CHROME},
        {"user_agent_original": CHROME, "user_agent_name": "theirs"},
        {"user_agent_original": None},
        {},
    ]
    user_agents(records)
    assert records == [
        {
            "user_agent_original": CHROME,
            "user_agent_name": "Chrome",
            "user_agent_version": "126.0.0.0",
            "user_agent_os_name": "Windows",
            "user_agent_os_version": "10",
        },
        {
            "user_agent_original": CHROME,
            "user_agent_name": "theirs",
            "user_agent_version": "126.0.0.0",
            "user_agent_os_name": "Windows",
            "user_agent_os_version": "10",
        },
        {"user_agent_original": None},
        {},
    ]


def test_of_a_long_agent_only_the_beginning_counts() -> None:
    assert read(CHROME + " " * MAX_LENGTH) == read(CHROME)
    assert read(" " * MAX_LENGTH + "curl/8.5.0") == UserAgent()


@settings(max_examples=100)
@given(st.text(max_size=600))
def test_any_text_is_borne(text: str) -> None:
    found = read(text)
    assert all(part is None or (isinstance(part, str) and part.encode()) for part in found)


@pytest.mark.parametrize("unit", ["a", "(", "; Android", "1.", "HTC_", "Mozilla/5.0 (iPhone;", " ", "a/"])
def test_a_hostile_agent_costs_one_pass(unit: str) -> None:
    read("warm up")
    start = time.process_time()
    for n in range(20):
        read(f"{n}{unit * MAX_LENGTH}")
    assert time.process_time() - start < 0.5
