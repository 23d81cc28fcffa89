"""Beacons: regular intervals among a group's events, with jitter and missing beats, in any order and however often they come."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.detect.own_kinds import BEGIN, HOUR, MINUTE, SECOND, Detection, after_kills, log_of, partial, rule, signals, stands
from tests.detect.test_engine import tick
from weir.detect.kinds import beacon
from weir.detect.kinds.state import StateError
from weir.detect.matching.matcher import UnsupportedError
from weir.detect.rules import Correlation

GROUP = ("source.ip", "destination.ip", "destination.port")
RULE = rule(beacon, "beacon", group_by=GROUP)


def contact(times: list[int], correlation: Correlation = RULE) -> Detection:
    """One record for each time, received a second later."""
    detection = Detection(correlation)
    for at in times:
        detection.hear(partial([at]), at + SECOND)
    return detection


def every(interval: float, number: int, jitter: float = 0, seed: int = 0) -> list[int]:
    rng, times = random.Random(seed), [BEGIN]
    for _ in range(number - 1):
        times.append(times[-1] + round(interval * (1 + rng.uniform(-jitter, jitter)) * SECOND))
    return times


def test_regular_contacts_are_told_once_there_are_enough_intervals() -> None:
    assert contact(every(60, 12)).alerts == []
    (new,) = contact(every(60, 13)).alerts
    assert (new["state"], new["event_count"], new["measured"]) == ("new", 13, 60.0)
    assert new["summary"].startswith("Title: every 60 s, 100% regular, 13 connections for source.ip u")
    assert (new["first_seen"], new["last_seen"]) == (BEGIN, BEGIN + 12 * MINUTE)
    assert new["evidence"]
    assert new["entities"] == {"user": "u", "source_address": "u"}


@pytest.mark.parametrize("jitter", [0.02, 0.1])
def test_jitter_within_the_tolerance_is_regular(jitter: float) -> None:
    assert all(contact(every(300, 20, jitter, seed)).alerts for seed in range(10))


def test_more_jitter_needs_more_tolerance() -> None:
    wide = rule(beacon, "beacon", tolerance=0.22)
    assert not any(contact(every(300, 20, 0.3, seed)).alerts for seed in range(10))
    assert all(contact(every(300, 25, 0.2, seed), wide).alerts for seed in range(10))


def test_missing_beats_leave_it_regular() -> None:
    """Every fourth contact was not recorded, and once two in a row."""
    times = [t for i, t in enumerate(every(60, 30)) if i % 4 != 2 and i != 15]
    (new, *_) = contact(times).alerts
    assert (new["measured"], "100% regular" in new["summary"]) == (60.0, True)


def test_connections_at_the_same_time_are_one_beat() -> None:
    times = sorted(at + i * SECOND // 2 for at in every(60, 13) for i in range(6))
    (new,) = contact(times).alerts
    assert (new["event_count"], new["measured"]) == (13, 60.0)


def test_other_traffic_to_the_same_destination_is_tolerated_to_a_share() -> None:
    beats = every(60, 40)
    assert contact(sorted([*beats, beats[10] + 25 * SECOND, beats[20] + 30 * SECOND])).alerts
    rng = random.Random(1)
    assert not contact(sorted([*beats, *(at + rng.randrange(11, 49) * SECOND for at in beats)])).alerts


def test_people_and_chance_are_no_beacon() -> None:
    for seed in range(8):
        rng, times = random.Random(seed), [BEGIN]
        for _ in range(150):
            times.append(times[-1] + round(rng.expovariate(1 / 60) * SECOND))
        assert contact(times).alerts == []


def test_intervals_outside_the_bounds_do_not_count() -> None:
    assert contact(every(5, 200)).alerts == []
    assert contact(every(2 * 3600, 30)).alerts == []


def test_it_is_told_again_when_doubled_and_closed_after_silence() -> None:
    detection = contact(every(60, 60))
    assert detection.told() == [("new", 13), ("update", 26), ("update", 52)]
    received = BEGIN + 59 * MINUTE + SECOND
    assert detection.tick(received + 9 * MINUTE) == []
    (closed,) = detection.tick(received + 9 * MINUTE + 1)
    assert (closed["state"], closed["event_count"]) == ("closed", 60)
    assert len({a["alert_id"] for a in detection.alerts}) == 1
    assert detection.tick(received + HOUR) == []
    assert len(detection.states()) == 1
    detection.tick(received + HOUR + 5 * MINUTE + 1)
    assert detection.states() == []


def test_one_that_goes_on_for_days_counts_all_in_one_alert_of_bounded_size() -> None:
    detection = contact(every(60, 800))
    detection.tick(BEGIN + 900 * MINUTE)
    assert detection.told()[-1] == ("closed", 800)
    assert len(detection.alerts) == 7
    assert len({a["alert_id"] for a in detection.alerts}) == 1


def test_one_that_loses_its_rhythm_is_closed_and_the_next_is_another_alert() -> None:
    detection = contact(every(60, 20))
    rng, at = random.Random(3), BEGIN + 20 * MINUTE
    while detection.alerts[-1]["state"] != "closed":
        at += rng.randrange(15, 3_000) * SECOND
        detection.hear(partial([at]), at)
    assert detection.alerts[-1]["state"] == "closed"
    for _ in range(15):
        at += 30 * SECOND
        detection.hear(partial([at]), at)
    assert [a["state"] for a in detection.alerts] == ["new", "closed", "new"]
    assert detection.alerts[0]["alert_id"] != detection.alerts[2]["alert_id"]


def test_a_clock_that_is_years_off_changes_nothing() -> None:
    detection = Detection(RULE)
    for at in every(60, 13):
        detection.hear(partial([at - 50 * 365 * 24 * HOUR]), at)
    (new,) = detection.alerts
    assert new["measured"] == 60


def test_beats_come_in_any_order_within_a_record_and_between_records() -> None:
    times = every(60, 13)
    detection = Detection(RULE)
    for part in (times[6:], times[:3], times[3:6]):
        detection.hear(partial(part), times[-1])
    assert stands(detection.alerts).keys() == stands(contact(times).alerts).keys()


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_what_is_remembered_is_the_same_in_any_order_and_with_repeats(seed: int) -> None:
    rng = random.Random(seed)
    times = [BEGIN + rng.randrange(0, 40_000) * SECOND for _ in range(rng.randint(1, 200))]
    shuffled = times + rng.sample(times, len(times) // 2)
    rng.shuffle(shuffled)
    # More intervals than there are: nothing fires, all is remembered.
    quiet = rule(beacon, "beacon", intervals=127, regularity=1.0)
    states: list[Any] = []
    for order in (sorted(times), shuffled):
        detection = Detection(quiet)
        for offset, at in enumerate(order):
            detection.apply(signals([partial([at])], BEGIN + 12 * HOUR, 1, partition=offset))
        states.append(detection.states()[0].cells)
    assert states[0] == states[1]


def made(rng: random.Random, at: int, group: str) -> dict[str, Any]:
    return partial([at - i * MINUTE for i in range(rng.randint(1, 4))], group)


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_killed_anywhere_and_repeated_it_raises_the_alerts_of_an_undisturbed_run(seed: int) -> None:
    rng = random.Random(seed)
    correlation = rule(beacon, "beacon", intervals=5, regularity=0.6)
    log = log_of(rng, made, [0, MINUTE, MINUTE, 2 * MINUTE, 2 * MINUTE, 20 * MINUTE], 2 * HOUR)
    calm, rough = after_kills(correlation, log, rng)
    assert stands(rough.alerts) == stands(calm.alerts)
    assert all(state == "closed" for state, *_ in stands(calm.alerts).values())
    assert len(rough.table()) == 1
    seen: set[str] = set()
    once = [r for r in log if r["kind"] == "tick" or not (r["signals_id"] in seen or seen.add(r["signals_id"]))]  # type: ignore[func-returns-value]
    assert stands(after_kills(correlation, once, rng)[0].alerts) == stands(calm.alerts)


def test_state_is_small_and_bounded() -> None:
    single = contact([BEGIN]).table
    assert max(len(value) for key, value in single.items() if key != b"[0]") < 100
    detection = contact(every(60, 200))
    assert len(detection.states()[0].cells) == beacon.MAX_CELLS
    assert max(map(len, detection.table.values())) < 6_000


def test_a_connection_between_two_of_one_beat_is_not_written() -> None:
    detection = contact([BEGIN, BEGIN + 2 * SECOND])
    detection.hear(partial([BEGIN + SECOND]), BEGIN + 3 * SECOND)
    assert detection.writes == 2


def test_all_mistakes_in_the_options_are_named() -> None:
    with pytest.raises(UnsupportedError) as error:
        beacon.check({"intervals": 500, "regularity": "high", "tolerance": 0.5, "shortest": "20m", "longest": "10m", "jitter": 1})
    for part in ("intervals: 500", "regularity: 'high'", "tolerance: 0.5", "longest must be longer", "unknown jitter"):
        assert part in str(error.value)


@settings(max_examples=30, deadline=None)
@given(data=st.binary(max_size=60))
def test_bytes_that_are_no_state_are_refused(data: bytes) -> None:
    for value in (data, b"\x0b\x00\x00\x00\x02[]" + data):
        with pytest.raises(StateError):
            beacon.load(value)


def test_a_tick_of_another_topic_closes_nothing() -> None:
    detection = contact(every(60, 13))
    assert detection.apply(tick("raw.b", 0, BEGIN + 10 * HOUR)) == []
