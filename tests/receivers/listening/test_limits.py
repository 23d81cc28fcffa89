import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weir.receivers.listening.limits import ConnectionLimits, RateLimit, subscriber


class Clock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


class TestRateLimit:
    def test_a_burst_passes_and_then_the_rate_holds(self) -> None:
        clock = Clock()
        limit = RateLimit(10, 5, clock)
        assert [limit.allow("a") for _ in range(7)] == [1, 1, 1, 1, 1, 0, 0]
        clock.now += 0.25
        assert limit.allow("a", 10) == 2
        clock.now += 100
        assert limit.allow("a", 10) == 5, "what is saved up has an end"

    def test_sources_do_not_share(self) -> None:
        limit = RateLimit(1, 1, Clock())
        assert (limit.allow("a"), limit.allow("a"), limit.allow("b")) == (1, 0, 1)

    def test_what_was_taken_already_is_paid_for_by_waiting(self) -> None:
        clock = Clock()
        limit = RateLimit(100, 10, clock)
        assert limit.owe("a", 10) == 0
        assert limit.owe("a", 50) == 0.5
        clock.now += 0.5
        assert limit.owe("a", 0) == 0

    def test_no_rate_is_no_limit(self) -> None:
        limit = RateLimit(0, 0, Clock())
        assert limit.allow("a", 1_000_000) == 1_000_000
        assert limit.owe("a", 1_000_000) == 0
        assert len(limit) == 0

    def test_invented_sources_cost_no_memory(self) -> None:
        limit = RateLimit(1, 1, Clock(), keys=100)
        for number in range(10_000):
            limit.allow(str(number))
        assert len(limit) == 100
        assert limit.allow("9999") == 0, "those seen last are remembered"

    @settings(max_examples=100)
    @given(st.lists(st.tuples(st.floats(0, 2), st.integers(0, 20)), max_size=40))
    def test_never_more_than_burst_and_rate(self, steps: list[tuple[float, int]]) -> None:
        clock = Clock()
        limit = RateLimit(7, 11, clock)
        taken = 0
        for pause, units in steps:
            clock.now += pause
            taken += limit.allow("a", units)
            assert taken <= 11 + 7 * (clock.now - 1_000) + 1e-6


class TestConnectionLimits:
    def test_over_all(self) -> None:
        limits = ConnectionLimits(2, 0, 0, Clock())
        assert [limits.enter() for _ in range(3)] == [None, None, "too many connections"]
        limits.leave(None)
        assert limits.enter() is None

    def test_per_source(self) -> None:
        limits = ConnectionLimits(10, 1, 0, Clock())
        for _ in range(3):
            limits.enter()
        assert limits.claim("a") is None
        assert limits.claim("a") == "too many connections of the source"
        assert limits.claim("b") is None
        limits.leave("a")
        assert limits.claim("a") is None

    def test_addresses_of_one_ipv6_network_are_one_source(self) -> None:
        limits = ConnectionLimits(10, 1, 0, Clock())
        assert limits.claim("2001:db8::1") is None
        assert limits.claim("2001:db8::ffff:2") == "too many connections of the source"
        assert limits.claim("2001:db8:0:1::1") is None
        limits.leave("2001:db8::1")
        assert limits.claim("2001:db8::3") is None

    def test_new_ones_per_second(self) -> None:
        clock = Clock()
        limits = ConnectionLimits(1_000, 0, 1, clock)
        assert [limits.claim("a") for _ in range(11)] == [None] * 10 + ["connection rate of the source"]
        clock.now += 1
        assert limits.claim("a") is None

    def test_nothing_is_left_of_connections_that_are_gone(self) -> None:
        limits = ConnectionLimits(1_000, 5, 0, Clock())
        for number in range(100):
            limits.enter()
            limits.claim(str(number))
        for number in range(100):
            limits.leave(str(number))
        assert limits.open == 0
        assert not limits._by_source


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::1", "::/64"),
        ("no:address", "no:address"),
        ("", ""),
    ],
)
def test_who_is_behind_an_address(address: str, expected: str) -> None:
    assert subscriber(address) == expected
