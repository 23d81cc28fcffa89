"""What is missing of an exporter's numbering, from the ranges that replicas saw."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st

from weir.model.ledger import MINUTE_US, SequenceRange
from weir.model.sequences import EPOCH_TOLERANCE, SEQUENCE_MODULUS, merge, unwrap

START = 1_790_000_040 * 1_000_000


def found(
    first: int, last: int, units: int, *, minute: int = 0, epoch: int = 1, source: str = "a", domain: int = 0
) -> SequenceRange:
    place = START + minute * MINUTE_US
    return SequenceRange(source, place, "ipfix", domain, epoch, first % SEQUENCE_MODULUS, last % SEQUENCE_MODULUS, units)


@dataclass(frozen=True)
class Datagram:
    run: int
    first: int
    units: int
    lost: bool
    replica: int
    delay: int


datagrams = st.builds(
    Datagram, st.just(0), st.just(0), st.integers(0, 40), st.booleans(), st.integers(0, 2), st.sampled_from([0, 0, 0, 1, 5])
)
runs = st.lists(
    st.tuples(st.integers(0, SEQUENCE_MODULUS - 1), st.lists(datagrams, min_size=1, max_size=40)), min_size=1, max_size=3
)


@given(runs, st.integers(1, 20), st.randoms(use_true_random=False))
@settings(max_examples=100, deadline=None)
def test_any_split_of_a_stream_gives_exactly_what_is_missing(
    sent: list[tuple[int, list[Datagram]]], per_minute: int, random: object
) -> None:
    """Over several replicas, in another order, across wraps and restarts, cut into any pieces."""
    ranges: list[SequenceRange] = []
    expected = 0
    minute = 0
    for number, (start, planned) in enumerate(sent):
        position, stream = start, []
        for d in planned:
            stream.append(Datagram(number, position, d.units, d.lost, d.replica, d.delay))
            position += d.units
        came = [(i + d.delay, i, d) for i, d in enumerate(stream) if not d.lost and d.units]
        if came:
            low, high = min(d.first for *_, d in came), max(d.first + d.units for *_, d in came)
            expected += high - low - sum(d.units for *_, d in came)
        for place, (_, _, d) in enumerate(sorted(came, key=lambda c: c[:2])):
            epoch = 1_000 * (number + 1) + d.replica  # replicas need not agree to the second
            ranges.append(found(d.first, d.first + d.units, d.units, minute=minute + place // per_minute, epoch=epoch))
        minute += 5
    random.shuffle(ranges)
    losses = merge(_joined(ranges))
    assert sum(loss.missing for loss in losses) == expected
    assert sum(loss.received for loss in losses) == sum(r.units for r in ranges)
    assert sum(loss.repeated for loss in losses) == 0


def _joined(ranges: list[SequenceRange]) -> list[SequenceRange]:
    """As a receiver does it: what it saw of one run in one minute becomes one range, here only where two follow one another."""
    joined: list[SequenceRange] = []
    for r in ranges:
        if joined and joined[-1][:5] == r[:5] and joined[-1].last == r.first:
            joined[-1] = joined[-1]._replace(last=r.last, units=joined[-1].units + r.units)
        else:
            joined.append(r)
    return joined


def test_what_is_lost_between_two_minutes_counts() -> None:
    losses = merge([found(0, 10, 10), found(15, 20, 4, minute=1)])
    assert [(loss.expected, loss.received, loss.missing) for loss in losses] == [(10, 10, 0), (10, 4, 6)]


def test_what_comes_late_is_taken_back() -> None:
    losses = merge([found(0, 10, 8), found(5, 12, 4, minute=1)])
    assert [loss.missing for loss in losses] == [2, -2]


def test_two_replicas_that_each_saw_half() -> None:
    """Either alone would believe that half is lost."""
    assert [loss.missing for loss in merge([found(0, 100, 50), found(1, 99, 49)])] == [1]


def test_across_the_wrap() -> None:
    assert [loss.missing for loss in merge([found(-10, 5, 15), found(7, 10, 3, minute=1)])] == [0, 2]


def test_a_restart_is_no_loss() -> None:
    losses = merge([found(5_000_000, 5_000_010, 10), found(0, 10, 9, epoch=1_000, minute=1)])
    assert [(loss.epoch, loss.missing) for loss in losses] == [(1, 0), (1_000, 1)]


def test_replicas_that_differ_by_a_little_mean_the_same_run() -> None:
    losses = merge([found(0, 100, 50, epoch=1_000), found(1, 99, 49, epoch=1_000 + EPOCH_TOLERANCE)])
    assert [(loss.epoch, loss.missing) for loss in losses] == [(1_000, 1)]


def test_copies_hide_no_loss_that_follows() -> None:
    losses = merge([found(0, 10, 20), found(10, 30, 15, minute=1)])
    assert [(loss.missing, loss.repeated) for loss in losses] == [(0, 10), (5, 0)]


def test_exporters_and_domains_are_apart() -> None:
    losses = merge([found(0, 9, 8), found(50, 60, 10, source="b"), found(90, 100, 7, domain=4)])
    assert [(loss.source, loss.observation_domain, loss.missing) for loss in losses] == [("a", 0, 1), ("a", 4, 3), ("b", 0, 0)]


@given(st.integers(0, 1 << 40), st.integers(-(1 << 31), (1 << 31) - 1))
def test_a_number_unwraps_to_the_place_near_by(near: int, distance: int) -> None:
    assert unwrap((near + distance) % SEQUENCE_MODULUS, near) == near + distance


def test_nothing_gives_nothing() -> None:
    assert merge([]) == []
