"""Where users were last seen."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from weir.enrich.seen import LastSeen

HOUR = 3_600_000_000


def test_the_first_event_and_the_same_address_again_tell_nothing() -> None:
    seen = LastSeen()
    assert seen.visit("alice", "10.0.0.1", HOUR, remember=True) == []
    assert seen.visit("alice", "10.0.0.1", HOUR + 1, remember=True) == []


def test_another_address_tells_where_the_user_was_before_newest_first() -> None:
    seen = LastSeen(addresses=2)
    for n in (1, 2, 3):
        seen.visit("alice", f"10.0.0.{n}", n * HOUR, remember=True)
    assert seen.visit("alice", "10.0.0.9", 4 * HOUR, remember=True) == ["10.0.0.3", "10.0.0.2"]
    assert seen.visit("alice", "10.0.0.3", 5 * HOUR, remember=True) == ["10.0.0.9"]


def test_an_event_without_address_tells_all_and_changes_nothing() -> None:
    seen = LastSeen()
    seen.visit("alice", "10.0.0.1", HOUR, remember=True)
    assert seen.visit("alice", None, HOUR, remember=True) == ["10.0.0.1"]
    assert seen.visit("alice", "10.0.0.2", HOUR, remember=False) == ["10.0.0.1"]
    assert seen.visit("alice", None, HOUR, remember=False) == ["10.0.0.1"]


def test_addresses_expire_by_the_time_of_the_event() -> None:
    seen = LastSeen(hours=2)
    seen.visit("alice", "10.0.0.1", HOUR, remember=True)
    assert seen.visit("alice", None, 3 * HOUR, remember=False) == ["10.0.0.1"]
    assert seen.visit("alice", None, 3 * HOUR + 1, remember=False) == []


def test_what_comes_late_does_not_become_the_newest() -> None:
    seen = LastSeen()
    seen.visit("alice", "10.0.0.2", 2 * HOUR, remember=True)
    seen.visit("alice", "10.0.0.1", HOUR, remember=True)
    assert seen.visit("alice", None, 2 * HOUR, remember=False) == ["10.0.0.2", "10.0.0.1"]


@settings(max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9), st.integers(0, 20)), max_size=60))
def test_memory_is_bounded_in_users_and_addresses(events: list[tuple[int, int, int]]) -> None:
    seen = LastSeen(users=4, addresses=3, hours=5)
    for user, address, hour in events:
        before = seen.visit(str(user), str(address), hour * HOUR, remember=True)
        assert len(seen) <= 4
        assert len(before) <= 3
        assert str(address) not in before
    long = "x" * 1000
    seen.visit(long, "a", HOUR, remember=True)
    assert seen.visit(long, None, HOUR, remember=True) == []
