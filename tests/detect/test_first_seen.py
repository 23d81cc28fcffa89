"""First seen: one alert for a value that is new to a group which is known, and none while it is being learned."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.detect.own_kinds import BEGIN, DAY, HOUR, MINUTE, SECOND, Detection, after_kills, log_of, partial, rule, signals, stands
from weir.bus.codec import Decoder, Encoder
from weir.detect.kinds import first_seen
from weir.detect.kinds.state import StateError
from weir.detect.matching.matcher import UnsupportedError

RULE = rule(first_seen, "first_seen", field="source.ip", learn="7d", forget="30d")


def use(detection: Detection, days: float, *values: str, number: int = 1, receiver: str = "") -> list[dict[str, Any]]:
    """So many events of each of these values, received as they happen."""
    at = BEGIN + int(days * DAY)
    seen = {value: [at + i * SECOND for i in range(number)] for value in values}
    return detection.hear(partial([], values=seen), at + number * SECOND, receiver)


def learned(*values: str) -> Detection:
    """A group that is known, with these values."""
    detection = Detection(RULE)
    for day in range(8):
        use(detection, day, *values)
    assert detection.alerts == []
    return detection


def test_a_new_value_of_a_known_group_is_told_at_once_and_once() -> None:
    detection = learned("10.0.0.1", "10.0.0.2")
    (new,) = use(detection, 8, "10.9.9.9", number=3)
    assert (new["state"], new["event_count"], new["values"]) == ("new", 3, ["10.9.9.9"])
    assert new["summary"].startswith("Title: first seen source.ip 10.9.9.9 for user.id u")
    assert new["entities"] == {"user": "u", "source_address": "10.9.9.9"}
    assert use(detection, 8.01, "10.9.9.9", number=4) == []
    assert detection.tick(BEGIN + 8 * DAY + HOUR) == []
    (closed,) = detection.tick(BEGIN + 8 * DAY + HOUR + 4 * SECOND)
    assert (closed["alert_id"], closed["state"], closed["event_count"]) == (new["alert_id"], "closed", 7)
    assert use(detection, 9, "10.9.9.9") == []


def test_nothing_is_told_while_a_group_is_learned_nor_of_the_first_value_of_a_later_group() -> None:
    detection = Detection(RULE)
    for i in range(60):
        use(detection, i / 10, f"10.0.0.{i}")
    at = BEGIN + 100 * DAY
    detection.hear(partial([], "newcomer", {"10.0.0.1": [at]}), at)
    assert detection.alerts == []


def test_without_a_group_the_new_value_is_a_new_user() -> None:
    everybody = rule(first_seen, "first_seen", group_by=(), field="user.id")
    detection = Detection(everybody)
    for day, user in [(0, "a"), (4, "b"), (8, "a"), (9, "c")]:
        at = BEGIN + day * DAY
        detection.hear(partial([], values={user: [at]}) | {"group": []}, at)
    (alert,) = detection.alerts
    assert alert["values"] == ["c"]


def test_learning_counts_from_the_earliest_event_of_the_group() -> None:
    detection = Detection(RULE)
    use(detection, 0.5, "a")
    detection.hear(partial([], values={"a": [BEGIN]}), BEGIN + DAY // 2)
    assert [a["values"] for a in use(detection, 7, "b")] == [["b"]]


def test_a_clock_that_is_years_off_does_not_end_the_learning() -> None:
    detection = Detection(RULE)
    for day in range(5):
        at = BEGIN + day * DAY
        detection.hear(partial([], values={f"v{day}": [at - 9_000 * DAY, at]}), at)
    assert detection.alerts == []


def test_a_value_forgotten_is_new_again_with_another_alert() -> None:
    detection = learned("a", "b")
    (first,) = use(detection, 8, "c")
    detection.tick(BEGIN + 9 * DAY)
    detection.alerts.clear()
    for day in range(9, 38):
        assert use(detection, day, "a") == []
    for day in (39, 40):
        use(detection, day, "a")
    (again,) = use(detection, 41, "c")
    assert again["alert_id"] != first["alert_id"]
    assert again["values"] == ["c"]


def test_a_value_in_use_is_never_forgotten() -> None:
    detection = learned("a")
    for day in range(8, 100, 29):
        assert use(detection, day, "a") == []


def test_what_goes_on_as_ever_is_not_written() -> None:
    detection = learned("a", "b")
    use(detection, 8, "a", "b")
    before = detection.writes
    for minute in range(30):
        use(detection, 8 + minute / 1440, "a", "b")
    assert detection.writes == before


def test_the_new_value_among_known_ones_has_its_own_evidence_and_entities() -> None:
    detection = learned("10.0.0.1", "10.0.0.2")
    (new,) = use(detection, 8, "10.0.0.1", "10.9.9.9", "10.0.0.2")
    assert new["event_count"] == 1
    assert [e["event_id"] for e in new["evidence"]] == [f"e{BEGIN + 8 * DAY}10.9.9.9"]
    assert new["samples"] == ['{"user_name":"u","source_ip":"10.9.9.9"}']
    assert new["entities"] == {"user": "u", "source_address": "10.9.9.9"}


def test_a_value_whose_text_was_not_kept_is_told_without_it() -> None:
    detection = learned("a")
    at = BEGIN + 8 * DAY
    made = partial([], values={"a": [at], "b": [at]}) | {"shown": ["a"]}
    (new,) = detection.hear(made, at)
    assert "first seen source.ip (not kept)" in new["summary"]
    assert new["values"] == []


def test_a_scan_is_some_alerts_and_one_for_the_rest() -> None:
    detection = learned("a")
    for i in range(500):
        use(detection, 8 + i / 100_000, f"10.1.{i // 250}.{i % 250}")
    ids = {a["alert_id"] for a in detection.alerts}
    assert len(ids) == first_seen.MAX_OPEN + 1
    assert len(detection.alerts) < first_seen.MAX_OPEN + 12
    detection.tick(BEGIN + 9 * DAY)
    rest = stands(detection.alerts)[detection.alerts[first_seen.MAX_OPEN]["alert_id"]]
    assert rest[:2] == ("closed", 480)
    assert rest[4] == 480
    assert "480 more new values of source.ip, among them 10.1.0.20, 10.1.0.21, 10.1.0.22," in rest[5]


def test_copies_by_two_receivers_are_counted_once() -> None:
    detection = learned("a")
    use(detection, 8, "b", number=5, receiver="one")
    use(detection, 8, "b", number=5, receiver="two")
    detection.tick(BEGIN + 9 * DAY)
    assert detection.told() == [("new", 5), ("closed", 5)]


def test_values_are_bounded_and_those_heard_longest_ago_go_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(first_seen, "MAX_VALUES", 64)
    detection = learned("old", "used")
    for i in range(first_seen.MAX_VALUES + 10):
        use(detection, 9 + i / 100, "used", f"v{i}")
    (state,) = detection.states()
    assert len(state.values) == first_seen.MAX_VALUES
    assert len(state.open) == first_seen.MAX_WAITING
    assert max(map(len, detection.table.values())) < 40_000
    detection.tick(BEGIN + 15 * DAY)
    detection.alerts.clear()
    use(detection, 15, "used")
    use(detection, 15, "old")
    assert [a["values"] for a in detection.alerts] == [["old"]]


def test_a_group_silent_for_long_is_forgotten_and_learns_anew() -> None:
    detection = learned("a")
    detection.tick(BEGIN + 36 * DAY)
    assert len(detection.states()) == 1
    detection.tick(BEGIN + 41 * DAY)
    assert detection.states() == []
    use(detection, 42, "b")
    assert detection.alerts == []


def test_the_alert_fits_its_schema() -> None:
    (new,) = use(learned("a"), 8, "b")
    assert Decoder()(Encoder("alert")(new))["values"] == ["b"]


def made(rng: random.Random, at: int, group: str) -> dict[str, Any]:
    return partial([], group, {f"v{rng.randrange(12)}": [at - rng.randrange(0, 3_000) * SECOND] for _ in range(rng.randint(1, 3))})


SHORT = rule(first_seen, "first_seen", field="source.ip", learn="1h", forget="1d")
STEPS = [0, SECOND, 10 * MINUTE, HOUR, 9 * HOUR]


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_killed_anywhere_and_repeated_it_raises_the_alerts_of_an_undisturbed_run(seed: int) -> None:
    rng = random.Random(seed)
    log = log_of(rng, made, STEPS, 3 * DAY)
    calm, rough = after_kills(SHORT, log, rng)
    assert stands(rough.alerts) == stands(calm.alerts)
    assert all(state == "closed" for state, *_ in stands(calm.alerts).values())
    assert len(rough.table()) == 1
    seen: set[str] = set()
    once = []
    for record in log:
        if record["kind"] == "tick" or record["signals_id"] not in seen:
            seen.add(record.get("signals_id", ""))
            once.append(record)
    assert stands(after_kills(SHORT, once, rng)[0].alerts) == stands(calm.alerts)


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_in_any_order_the_new_values_and_their_counts_are_the_same(seed: int) -> None:
    """Of what comes after the learning, within the time that an alert collects."""
    rng = random.Random(seed)
    records = []
    for offset in range(30):
        at = BEGIN + 8 * DAY + offset * MINUTE
        values = {f"v{rng.randrange(15)}": [at - rng.randrange(0, 3_000) * SECOND] for _ in range(rng.randint(1, 3))}
        records.append(signals([partial([], values=values)], at, 1, partition=offset + 1))
    found = []
    for order in (records, rng.sample(records, len(records))):
        detection = learned("v0", "v1", "v2")
        for record in order:
            detection.apply(record)
        detection.tick(BEGIN + 9 * DAY)
        found.append({a["values"][0]: (a["alert_id"], a["event_count"], a["first_seen"], a["last_seen"]) for a in detection.alerts})
    assert found[0] == found[1]


def test_all_mistakes_in_the_options_are_named() -> None:
    with pytest.raises(UnsupportedError) as error:
        first_seen.check({"learn": "60d", "forget": "30d", "fields": "x"})
    for part in ("field must be given", "forget must be longer than learn", "unknown fields; known are field, learn, forget"):
        assert part in str(error.value)


@settings(max_examples=30, deadline=None)
@given(data=st.binary(max_size=60))
def test_bytes_that_are_no_state_are_refused(data: bytes) -> None:
    for value in (data, b"\x0a\x00\x00\x00\x02[]" + data):
        with pytest.raises(StateError):
            first_seen.load(value)
