"""Baseline: more in an hour than is normal for the group in that hour of the week."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.detect.own_kinds import BEGIN, DAY, HOUR, MINUTE, SECOND, Detection, after_kills, log_of, partial, rule, stands
from weir.detect.kinds import baseline
from weir.detect.kinds.state import StateError
from weir.detect.matching.matcher import UnsupportedError
from weir.detect.rules import Correlation

RULE = rule(baseline, "baseline", least=50)


def hour(detection: Detection, number: int, events: int, amount: float = 0, minute: int = 10, receiver: str = "") -> list[Any]:
    """So many events ten minutes into an hour, and what follows from receive time getting there."""
    at = BEGIN + number * HOUR + minute * MINUTE
    detection.tick(at)
    return detection.hear(partial([at + i for i in range(events)], amount=amount), at + SECOND, receiver)


def working_hours(weeks: int, correlation: Correlation = RULE, number: int = 200, scatter: int = 0) -> Detection:
    """A group that brings so much from 8 to 16 on working days."""
    rng = random.Random(4)
    detection = Detection(correlation)
    for day in range(weeks * 7):
        if day % 7 not in {2, 3}:  # it begins on a Thursday
            for of_day in range(8, 16):
                hour(detection, day * 24 + of_day, number + rng.randint(-scatter, scatter), amount=1e6)
    return detection


def test_an_hour_far_above_what_is_normal_is_told_at_once_again_when_doubled_and_closed() -> None:
    detection = working_hours(3, scatter=30)
    assert detection.alerts == []
    number = 21 * 24 + 10
    (new,) = hour(detection, number, 600)
    assert (new["state"], new["event_count"], new["measured"]) == ("new", 600, 600.0)
    assert "600 events in the hour from 10:00 UTC (normally 20" in new["summary"]
    hour(detection, number, 100, minute=20)
    (update,) = hour(detection, number, 600, minute=30)
    assert (update["state"], update["event_count"]) == ("update", 1300)
    assert detection.tick(BEGIN + (number + 3) * HOUR) == []
    (closed,) = detection.tick(BEGIN + (number + 3) * HOUR + 1)
    assert (closed["state"], closed["event_count"], closed["alert_id"]) == ("closed", 1300, new["alert_id"])


def test_ordinary_hours_are_none() -> None:
    detection = working_hours(8, scatter=60)
    assert detection.alerts == []


def test_a_constant_series_does_not_fire_at_a_little_more() -> None:
    detection = working_hours(4)
    assert hour(detection, 28 * 24 + 10, 240) == []


def test_the_same_amount_at_night_is_too_much() -> None:
    detection = working_hours(3)
    assert hour(detection, 21 * 24 + 10, 200) == []
    (new,) = hour(detection, 21 * 24 + 22, 200)
    assert "from 22:00 UTC (normally 0, at most 0)" in new["summary"]


def test_an_hour_earlier_is_no_anomaly() -> None:
    """Summer time moves all hours by one."""
    detection = working_hours(3)
    assert hour(detection, 21 * 24 + 7, 200) == []
    assert hour(detection, 21 * 24 + 16, 200) == []
    assert hour(detection, 21 * 24 + 17, 200)


def test_less_than_least_is_never_told() -> None:
    detection = working_hours(3)
    assert hour(detection, 21 * 24 + 2, 49) == []
    assert hour(detection, 21 * 24 + 3, 50)


def test_nothing_is_told_while_a_group_is_learned() -> None:
    detection = working_hours(1)
    assert hour(detection, 7 * 24 + 2, 5_000) == []
    assert hour(detection, 14 * 24 + 7, 5_000) == []
    assert hour(detection, 14 * 24 + 22, 5_000)


def test_hours_in_a_row_are_one_alert() -> None:
    detection = working_hours(3)
    for i in range(4):
        hour(detection, 21 * 24 + 20 + i, 300)
    detection.tick(BEGIN + 23 * DAY)
    assert detection.told() == [("new", 300), ("closed", 1200)]


def test_a_week_without_events_does_not_widen_what_is_normal() -> None:
    detection = working_hours(4, scatter=20)
    assert hour(detection, 5 * 168 + 10, 400)


def test_two_hours_apart_are_two_alerts() -> None:
    detection = working_hours(3)
    hour(detection, 21 * 24 + 19, 300)
    hour(detection, 21 * 24 + 21, 300)
    assert [a["state"] for a in detection.alerts] == ["new", "closed", "new"]
    assert len({a["alert_id"] for a in detection.alerts}) == 2


def test_a_burst_does_not_widen_what_is_normal_and_a_level_that_stays_is_accepted() -> None:
    detection = working_hours(4, scatter=20)
    told = []
    for week in range(4, 24):
        for of_day in range(8, 16):
            number = 20_000 if week == 4 else 400
            if hour(detection, week * 168 + of_day, number if of_day == 10 else 200):
                told.append(week)
    assert told[:2] == [4, 5]
    assert 6 <= told[-1] < 12


def test_a_field_can_be_summed() -> None:
    correlation = rule(baseline, "baseline", of="network.bytes", least=1_000_000)
    detection = working_hours(3, correlation)
    (new,) = hour(detection, 21 * 24 + 10, 10, amount=8e6)
    assert (new["event_count"], new["measured"]) == (10, 8e6)
    assert "8 MB of network bytes in the hour from 10:00 UTC (normally 1 MB, at most 1.46 MB)" in new["summary"]


def test_late_events_count_in_their_own_hour_until_it_is_learned() -> None:
    detection = working_hours(3)
    number = 21 * 24 + 20
    hour(detection, number, 30)
    at = BEGIN + number * HOUR + 30 * MINUTE
    (new,) = detection.hear(partial([at + i for i in range(60)]), at + HOUR)
    assert (new["event_count"], new["measured"]) == (90, 90.0)
    detection.tick(BEGIN + (number + 3) * HOUR + 1)
    detection.alerts.clear()
    assert detection.hear(partial([at + i for i in range(500)]), at + 3 * HOUR) == []


def test_hours_without_events_are_zeros() -> None:
    """A job that ran once a month ago is not what is normal on this hour."""
    detection = working_hours(1, number=60)
    hour(detection, 22, 500)
    for week in range(1, 6):
        hour(detection, week * 168 + 9, 60)
    assert hour(detection, 6 * 168 + 22, 500)


def test_a_clock_that_is_years_off_counts_at_receipt() -> None:
    detection = working_hours(3)
    at = BEGIN + (21 * 24 + 22) * HOUR
    (new,) = detection.hear(partial([at - 4_000 * DAY + i for i in range(100)]), at)
    assert new["event_count"] == 100


def test_copies_by_two_receivers_are_counted_once() -> None:
    detection = working_hours(3)
    hour(detection, 21 * 24 + 22, 40, receiver="one")
    assert hour(detection, 21 * 24 + 22, 40, receiver="two") == []


def test_a_group_that_brings_nothing_for_long_is_forgotten() -> None:
    detection = working_hours(1)
    last = BEGIN + 6 * DAY + 15 * HOUR
    detection.tick(last + 34 * DAY)
    assert len(detection.states()) == 1
    detection.tick(last + 36 * DAY)
    assert detection.states() == []


def test_state_is_bounded() -> None:
    detection = Detection(RULE)
    for number in range(300):
        at = BEGIN + number * HOUR
        detection.hear(partial([at]), at)
    (state,) = detection.states()
    assert len(state.running) <= baseline.MAX_RUNNING
    detection.tick(BEGIN + 300 * HOUR)
    (state,) = detection.states()
    assert len(state.running) <= 3
    assert len(state.cells) == 168
    assert len(state.to_bytes()) < 2_000


def test_the_mean_and_the_spread_are_those_of_the_weeks() -> None:
    detection = Detection(RULE)
    hour(detection, 0, 1)
    for week, number in enumerate([100, 140, 120]):
        hour(detection, 168 * week + 5, number)
    detection.tick(BEGIN + 168 * 2 * HOUR + 9 * HOUR)
    (state,) = detection.states()
    cell = state.cells[(BEGIN // HOUR + 5) % 168]
    assert cell.mean == pytest.approx(120)
    assert cell.variance == pytest.approx(800 / 3)


def made(rng: random.Random, at: int, group: str) -> dict[str, Any]:
    return partial([at - i * 7 * MINUTE for i in range(rng.choice([1, 2, 30]))], group)


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_killed_anywhere_and_repeated_it_raises_the_alerts_of_an_undisturbed_run(seed: int) -> None:
    rng = random.Random(seed)
    correlation = rule(baseline, "baseline", least=3, learn="1w", deviations=1)
    log = log_of(rng, made, [0, MINUTE, HOUR, 11 * HOUR, 30 * HOUR], 40 * DAY)
    calm, rough = after_kills(correlation, log, rng)
    assert stands(rough.alerts) == stands(calm.alerts)
    assert all(state == "closed" for state, *_ in stands(calm.alerts).values())
    assert len(rough.table()) == 1
    seen: set[str] = set()
    once = []
    for record in log:
        if record["kind"] == "tick" or record["signals_id"] not in seen:
            seen.add(record.get("signals_id", ""))
            once.append(record)
    assert stands(after_kills(correlation, once, rng)[0].alerts) == stands(calm.alerts)


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_within_an_hour_the_order_changes_nothing(seed: int) -> None:
    rng = random.Random(seed)
    start = BEGIN + (21 * 24 + 20) * HOUR
    parts = [[start + rng.randrange(0, 3_600) * SECOND for _ in range(rng.randint(1, 40))] for _ in range(12)]
    found = []
    for order in (parts, rng.sample(parts, len(parts))):
        detection = QUIET.copy()
        for times in order:
            detection.hear(partial(times), start + HOUR)
        detection.tick(start + 2 * DAY)
        found.append({key: value[:5] for key, value in stands(detection.alerts).items()})
    assert found[0] == found[1]


QUIET = working_hours(3)


def test_all_mistakes_in_the_options_are_named() -> None:
    with pytest.raises(UnsupportedError) as error:
        baseline.check({"of": "", "deviations": 0, "least": "many", "learn": "1d"})
    for part in ("of: names no field", "deviations: 0 is not from 1", "least: 'many' is no number", "learn: 1d is not from 1w"):
        assert part in str(error.value)


@settings(max_examples=30, deadline=None)
@given(data=st.binary(max_size=60))
def test_bytes_that_are_no_state_are_refused(data: bytes) -> None:
    for value in (data, b"\x0d\x00\x00\x00\x02[]" + data):
        with pytest.raises(StateError):
            baseline.load(value)
