"""A short run of each fuzz target on random changes; `python -m tests.fuzz TARGET --coverage --seconds 300` is the long one."""

from __future__ import annotations

import pytest

from tests.fuzz.__main__ import run
from tests.fuzz.targets import TARGETS

SECONDS = 2.5


@pytest.mark.parametrize("name", sorted(TARGETS))
def test_no_bytes_break_it(name: str) -> None:
    assert TARGETS[name].there
    assert run(name, SECONDS, seed=1) == 0
