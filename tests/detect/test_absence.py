"""Absence: silences of a group in receive time, whatever the order and pace that signals come at."""

from __future__ import annotations

import random
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.detect.own_kinds import BEGIN, DAY, MINUTE, SECOND, Detection, after_kills, log_of, partial, rule, signals, stands
from tests.detect.test_engine import tick
from weir.detect.kinds import absence
from weir.detect.kinds.state import StateError
from weir.detect.matching.matcher import UnsupportedError

RULE = rule(absence, "absence", after="15m")


def heard(detection: Detection, *minutes: float) -> None:
    for minute in minutes:
        at = BEGIN + int(minute * MINUTE)
        detection.hear(partial([at]), at)


def test_silence_is_told_when_the_watermark_has_passed_it_and_closed_when_the_group_is_heard_again() -> None:
    detection = Detection(RULE)
    heard(detection, 0, 5)
    assert detection.tick(BEGIN + 20 * MINUTE) == []
    (new,) = detection.tick(BEGIN + 20 * MINUTE + 1)
    assert (new["state"], new["event_count"], new["measured"]) == ("new", 0, 900.0)
    assert new["summary"].startswith("Title: silent for more than 15 min for user.id u")
    assert detection.tick(BEGIN + 60 * MINUTE) == []
    heard(detection, 65)
    (closed,) = detection.tick(BEGIN + 65 * MINUTE + SECOND)
    assert (closed["alert_id"], closed["state"], closed["measured"]) == (new["alert_id"], "closed", 3600.0)
    assert "silent for 60 min, then heard again, for user.id u" in closed["summary"]
    assert closed["first_seen"] == BEGIN + 5 * MINUTE
    assert closed["last_seen"] == BEGIN + 65 * MINUTE


def test_each_silence_is_an_alert_of_its_own() -> None:
    detection = Detection(RULE)
    heard(detection, 0)
    detection.tick(BEGIN + 16 * MINUTE)
    heard(detection, 20)
    detection.tick(BEGIN + 40 * MINUTE)
    assert [a["state"] for a in detection.alerts] == ["new", "closed", "new"]
    assert len({a["alert_id"] for a in detection.alerts}) == 2


def test_who_was_never_heard_is_not_missed() -> None:
    detection = Detection(RULE)
    assert detection.tick(BEGIN + DAY) == []


def test_nobody_is_silent_while_a_processor_stands_still() -> None:
    """The other partition of the raw topic may hold what the group sent."""
    detection = Detection(RULE)
    detection.tick(BEGIN, partition=1)
    heard(detection, 0)
    assert detection.tick(BEGIN + 60 * MINUTE) == []
    late = signals([partial([BEGIN + 10 * MINUTE])], BEGIN + 10 * MINUTE, 1, partition=1)
    assert detection.apply(late) == []
    assert detection.tick(BEGIN + 20 * MINUTE, partition=1) == []
    (new,) = detection.tick(BEGIN + 26 * MINUTE, partition=1)
    assert new["first_seen"] == BEGIN + 10 * MINUTE


def test_a_silence_within_a_drained_backlog_is_found_without_a_tick_in_it() -> None:
    detection = Detection(RULE)
    heard(detection, 0, 10, 40, 50)
    assert detection.alerts == []
    detection.tick(BEGIN + 55 * MINUTE)
    assert [(a["state"], a["first_seen"], a["last_seen"]) for a in detection.alerts] == [
        ("new", BEGIN + 10 * MINUTE, BEGIN + 25 * MINUTE),
        ("closed", BEGIN + 10 * MINUTE, BEGIN + 40 * MINUTE),
    ]


def test_a_group_that_stays_silent_is_given_up_its_alert_closed() -> None:
    detection = Detection(RULE)
    heard(detection, 0)
    detection.tick(BEGIN + 16 * MINUTE)
    assert detection.tick(BEGIN + 7 * DAY) == []
    (closed,) = detection.tick(BEGIN + 7 * DAY + 1)
    assert (closed["state"], closed["measured"]) == ("closed", 7 * 86_400)
    assert "no longer waited for" in closed["summary"]
    assert detection.states() == []


def test_receive_time_counts_and_no_clock_of_a_sender() -> None:
    detection = Detection(RULE)
    for minute in (0, 10, 20):
        detection.hear(partial([BEGIN - 400 * DAY]), BEGIN + minute * MINUTE)
    assert detection.tick(BEGIN + 34 * MINUTE) == []


def made(rng: random.Random, at: int, group: str) -> dict[str, Any]:
    return partial([at - rng.choice([0, 50, 5_000]) * SECOND], group)


STEPS = [0, SECOND, 3 * MINUTE, 10 * MINUTE, 40 * MINUTE]


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_killed_anywhere_and_repeated_it_raises_the_alerts_of_an_undisturbed_run(seed: int) -> None:
    rng = random.Random(seed)
    calm, rough = after_kills(RULE, log_of(rng, made, STEPS, 8 * DAY), rng)
    assert stands(rough.alerts) == stands(calm.alerts)
    assert all(state == "closed" for state, *_ in stands(calm.alerts).values())
    assert len(rough.table()) == 1


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_in_any_order_and_at_any_pace_the_silences_are_those_of_the_receive_times(seed: int) -> None:
    """Against gaps counted over all receive times."""
    rng = random.Random(seed)
    times = sorted(BEGIN + rng.randrange(0, 300) * MINUTE for _ in range(rng.randint(1, 40)))
    records = [signals([partial([at])], at, offset, partition=offset) for offset, at in enumerate(times)]
    rng.shuffle(records)
    detection = Detection(RULE)
    for i, record in enumerate(records):
        detection.apply(record)
        # A watermark never passes what is still to come.
        low = min([r["received_at"] for r in records[i + 1 :]], default=times[-1] + 8 * DAY)
        if rng.random() < 0.5 or i == len(records) - 1:
            detection.apply(tick("raw.a", 0, low))
    found = {(first, last) for _, _, first, last, _, summary in stands(detection.alerts).values() if "heard again" in summary}
    assert found == {(a, b) for a, b in pairwise(times) if b - a > 15 * MINUTE}


def test_memory_is_bounded_while_the_watermark_stands_still() -> None:
    detection = Detection(RULE)
    heard(detection, *range(0, 20 * 500, 20))
    (state,) = detection.states()
    assert len(state.stretches) == absence.MAX_STRETCHES
    assert max(map(len, detection.table.values())) < 25_000
    detection.tick(BEGIN + 20 * 500 * MINUTE + 1)
    assert detection.alerts[-1]["state"] == "new"


def test_all_mistakes_in_the_options_are_named() -> None:
    with pytest.raises(UnsupportedError, match=r"after: 'soon' is no timespan.*forget: 400d is not from.*unknown afer"):
        absence.check({"after": "soon", "forget": "400d", "afer": 1})


@settings(max_examples=30, deadline=None)
@given(data=st.binary(max_size=60))
def test_bytes_that_are_no_state_are_refused(data: bytes) -> None:
    for value in (data, b"\x0c\x00\x00\x00\x02[]" + data):
        with pytest.raises(StateError):
            absence.load(value)
