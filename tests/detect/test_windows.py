"""Merging partials: windows on event time, one alert a burst, repeats that change nothing."""

from __future__ import annotations

import random
import struct
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weir.bus.codec import Decoder, Encoder
from weir.detect.kinds import adding
from weir.detect.kinds import windows as c
from weir.detect.kinds.common import MAX_HEADS, SignalsHeader
from weir.detect.kinds.slices import Bucket, Details
from weir.detect.kinds.state import Episode, GroupState, Note, StateError
from weir.detect.kinds.windows import advance, due, hold_us, merge
from weir.detect.rules import Condition, Correlation
from weir.detect.telling.alerts import Origin

SECOND = 1_000_000
SPAN = 60 * SECOND
# On the grid of slices and of anchors, so that the arithmetic below can be followed.
BEGIN = 1_790_000_040 * SECOND // SPAN * SPAN
ORIGIN = Origin("site-a", "detector-0", "v1")
RULE = Correlation(
    id="rule",
    title="Many",
    description="d",
    level="high",
    members=(),
    group_by=("user.id",),
    timespan_us=SPAN,
    slice_us=5 * SECOND,
    condition=Condition("gte", 10),
    techniques=("T1485",),
    tactics=("Impact",),
)


def partial(*events: tuple[float, int]) -> dict[str, Any]:
    """So many events at so many seconds after BEGIN."""
    buckets: dict[int, list[int]] = {}
    for seconds, count in events:
        at = BEGIN + int(seconds * SECOND)
        bucket = buckets.setdefault(at // RULE.slice_us * RULE.slice_us, [0, at, at])
        buckets[at // RULE.slice_us * RULE.slice_us] = [bucket[0] + count, min(bucket[1], at), max(bucket[2], at)]
    return {
        "correlation_id": "rule",
        "group": ["u"],
        "buckets": [{"start": s, "count": n, "first": f, "last": t} for s, (n, f, t) in buckets.items()],
        "evidence": [{"event_id": f"e{seconds}", "raw_topic": "raw", "raw_partition": 0, "raw_offset": 0} for seconds, _ in events],
        "samples": [f'{{"at": {seconds}}}' for seconds, _ in events],
        "entities": {"user": "u"},
    }


class Group:
    """One group, merged step by step; the state goes through bytes each time."""

    def __init__(self) -> None:
        self.state: GroupState | None = None
        self.alerts: list[dict[str, Any]] = []
        self.number = 0

    def add(
        self,
        *events: tuple[float, int],
        received: float | None = None,
        signals_id: str = "",
        watermark: float = -10_000,
        offset: int | None = None,
    ) -> Any:
        self.number += 1
        at = BEGIN + int((max(t for t, _ in events) if received is None else received) * SECOND)
        header = SignalsHeader(signals_id or f"s{self.number}", at, "raw", 0, self.number if offset is None else offset)
        merged = merge(self.state, header, partial(*events), RULE, BEGIN + int(watermark * SECOND), ORIGIN)
        self.state = GroupState.from_bytes(merged.state.to_bytes())
        assert self.state == merged.state
        if merged.changed:
            self.alerts += merged.alerts
        return merged

    def advance(self, watermark: float) -> list[dict[str, Any]]:
        assert self.state is not None
        self.state, alerts = advance(self.state, RULE, BEGIN + int(watermark * SECOND), ORIGIN)
        self.alerts += alerts
        return alerts

    def summary(self) -> list[tuple[str, int]]:
        return [(a["state"], a["event_count"]) for a in self.alerts]


def test_it_fires_when_the_count_is_reached_within_the_timespan() -> None:
    group = Group()
    group.add((0, 4))
    group.add((20, 5))
    assert group.alerts == []
    group.add((40, 1))
    assert group.summary() == [("new", 10)]


def test_it_does_not_fire_for_the_same_count_over_a_longer_time() -> None:
    group = Group()
    for i in range(40):
        group.add((i * 7, 1))
    assert group.alerts == []


@settings(max_examples=40, deadline=None)
@given(times=st.lists(st.integers(0, 400_000), min_size=1, max_size=60), seed=st.integers(0, 100))
def test_without_event_times_it_never_fires_wrongly_and_never_misses_what_fits_a_slice_less(times: list[int], seed: int) -> None:
    """Against a count over every window of exact event times, in whatever order the events come."""
    ordered = sorted(times)
    most = max(sum(1 for t in ordered if start <= t <= start + 60_000) for start in ordered)
    tight = max(sum(1 for t in ordered if start <= t <= start + 55_000) for start in ordered)
    group = Group()
    random.Random(seed).shuffle(times)
    for time in times:
        group.add((time / 1000, 1), received=0)
    if most < RULE.threshold:
        assert group.alerts == []
    if tight >= RULE.threshold:
        assert group.alerts


def test_late_and_out_of_order_partials_count_in_their_own_slice() -> None:
    group = Group()
    group.add((500, 3), received=500)
    group.add((20, 4), received=505)
    group.add((30, 6), received=510)
    assert group.summary() == [("new", 10)]
    assert group.alerts[0]["first_seen"] == BEGIN + 20 * SECOND
    assert group.alerts[0]["last_seen"] == BEGIN + 30 * SECOND


def test_one_alert_a_burst_with_few_updates_and_a_final_count() -> None:
    group = Group()
    for i in range(100):
        group.add((i / 10, 5))
    assert [s for s, _ in group.summary()] == ["new", "update", "update", "update", "update", "update"]
    assert [n for _, n in group.summary()] == [10, 20, 40, 80, 160, 320]
    assert group.advance(14) == []
    (paused,) = group.advance(16)
    assert (paused["state"], paused["event_count"], paused["revision"]) == ("update", 500, 7)
    assert group.advance(69) == []
    (closed,) = group.advance(70)
    assert (closed["state"], closed["event_count"], closed["revision"]) == ("closed", 500, 8)
    assert len({a["alert_id"] for a in group.alerts}) == 1
    assert [a["revision"] for a in group.alerts] == list(range(1, 9))


def test_a_burst_that_trickles_on_is_told_after_a_pause_once_for_each_doubling() -> None:
    group = Group()
    group.add((0, 10))
    for seconds in range(10, 50, 10):
        group.add((seconds, 1), received=seconds)
        group.advance(seconds + 6)
    assert group.summary() == [("new", 10), ("update", 11)]


def test_a_trickle_around_a_burst_is_not_counted_into_it() -> None:
    group = Group()
    for seconds in (-200, -140, 300, 400):
        group.add((seconds, 1), received=seconds)
    group.add((0, 50))
    group.advance(200)
    assert group.summary() == [("new", 50), ("closed", 50)]


def test_two_bursts_apart_are_two_alerts_and_a_late_event_reopens_the_first() -> None:
    group = Group()
    group.add((0, 10))
    group.add((200, 10))
    group.advance(261)
    assert group.summary() == [("new", 10), ("new", 10), ("closed", 10), ("closed", 10)]
    first, second = (a["alert_id"] for a in group.alerts[:2])
    assert first != second
    group.add((10, 5), received=262)
    (again,) = group.advance(330)
    assert (again["alert_id"], again["state"], again["event_count"]) == (first, "closed", 15)


@pytest.mark.parametrize("order", [[0, 1, 2, 3], [3, 2, 1, 0], [2, 0, 3, 1]])
def test_the_order_within_a_burst_changes_neither_id_nor_count(order: list[int]) -> None:
    group = Group()
    parts = [((2, 6),), ((8, 7),), ((15, 12),), ((21, 8), (26, 3))]
    for index in order:
        group.add(*parts[index], received=30)
    group.advance(100)
    reference = Group()
    reference.add(*(event for part in parts for event in part), received=30)
    assert group.alerts[-1]["alert_id"] == reference.alerts[-1]["alert_id"]
    assert group.summary()[-1] == ("closed", 36)


def test_a_signal_seen_before_changes_nothing_and_says_again_what_stands() -> None:
    group = Group()
    group.add((0, 12), signals_id="x")
    assert group.state is not None
    before = group.state.to_bytes()
    again = group.add((0, 12), signals_id="x")
    assert not again.changed
    assert again.state.to_bytes() == before
    assert [(a["alert_id"], a["state"], a["revision"]) for a in again.alerts] == [(group.alerts[0]["alert_id"], "new", 1)]


def test_a_repeat_is_known_by_its_offset_when_its_id_is_forgotten() -> None:
    group = Group()
    group.add((0, 6), signals_id="x", offset=7)
    late = hold_us(RULE) // SECOND + 1
    group.add((late, 1), watermark=late, offset=8)
    assert group.state is not None
    assert len(group.state.seen) == 1
    again = group.add((0, 6), signals_id="x", offset=7)
    assert not again.changed
    assert group.alerts == []


def test_what_comes_late_from_a_spool_counts_and_is_kept_as_long_as_what_comes_in_time() -> None:
    """Its receive time is old, and the watermark has passed it for long."""
    group = Group()
    late = 10 * hold_us(RULE) // SECOND
    group.add((late, 1), received=late, watermark=late)
    group.add((0, 5), received=0, watermark=late)
    group.advance(late + 30)
    group.add((10, 5), received=10, watermark=late + 30)
    assert group.summary() == [("new", 10)]
    group.advance(late + 100)
    assert group.summary()[-1] == ("closed", 10)


def test_a_batch_that_was_written_twice_counts_once() -> None:
    group = Group()
    group.add((0, 6), signals_id="x", offset=7)
    assert not group.add((0, 6), signals_id="x", offset=9).changed


def test_a_fast_clock_neither_expires_nor_holds_up_anything() -> None:
    group = Group()
    group.add((100_000, 12), received=0)
    group.add((1, 5), received=1)
    group.add((2, 5), received=2)
    assert len({a["alert_id"] for a in group.alerts}) == 2
    group.advance(63)
    assert [state for state, _ in group.summary()] == ["new", "new", "closed", "closed"]


def test_nothing_is_left_once_all_is_old() -> None:
    group = Group()
    group.add((0, 12))
    assert group.state is not None
    group.advance(6)
    assert due(group.state, RULE) == BEGIN + SPAN + 1
    group.advance(61)
    assert group.state is not None
    assert due(group.state, RULE) == BEGIN + hold_us(RULE) + 1
    group.advance(hold_us(RULE) / SECOND)
    assert group.state is not None
    group.advance(hold_us(RULE) / SECOND + 1)
    assert group.state is None


def test_a_burst_longer_than_what_is_kept_counts_all() -> None:
    group = Group()
    for i in range(200):
        group.add((i * 10, 5), watermark=i * 10 - 5)
    group.advance(3000)
    assert group.summary()[-1] == ("closed", 1000)
    assert len({a["alert_id"] for a in group.alerts}) == 1
    assert group.alerts[-1]["first_seen"] == BEGIN


def test_memory_of_a_group_is_bounded_and_nothing_is_counted_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(c, "MAX_SEEN", 100)
    group = Group()
    for i in range(500):
        group.add((i / 100, 1), received=i, signals_id=f"s{i}", offset=i)
    assert group.state is not None
    assert len(group.state.seen) <= 100
    for i in range(500):
        assert not group.add((i / 100, 1), received=i, signals_id=f"s{i}", offset=i).changed
    group.advance(10_000)
    assert group.summary()[-1] == ("closed", 500)


def test_many_slices_and_much_evidence_stay_bounded() -> None:
    group = Group()
    for i in range(24):
        group.add(*(((i * 50 + j) * 100, 1) for j in range(50)), received=0)
    assert group.state is not None
    assert len(group.state.buckets) == c.MAX_BUCKETS
    group.add(*((j / 10, 3) for j in range(50)), received=0)
    assert group.state is not None
    assert len(group.state.buckets) <= c.MAX_BUCKETS
    assert len(group.state.to_bytes()) < 200_000
    assert len(group.alerts[-1]["evidence"]) <= c.MAX_EVIDENCE
    assert len(group.alerts[-1]["samples"]) <= c.MAX_SAMPLES


def test_more_bursts_than_are_kept_are_closed_with_their_count() -> None:
    group = Group()
    for i in range(c.MAX_EPISODES + 5):
        group.add((i * 200, 10), received=0)
    assert [s for s, _ in group.summary()].count("closed") == 5
    assert len({a["alert_id"] for a in group.alerts}) == c.MAX_EPISODES + 5


def test_evidence_is_that_of_the_burst() -> None:
    group = Group()
    group.add((-300, 1), received=-300)
    group.add((0, 6))
    group.add((1, 6))
    assert [e["event_id"] for e in group.alerts[0]["evidence"]] == ["e0", "e1"]
    assert group.alerts[0]["samples"] == ['{"at": 0}', '{"at": 1}']


def test_an_alert_says_what_an_analyst_needs_and_fits_its_schema() -> None:
    group = Group()
    group.add((0, 6), (19, 6))
    (alert,) = group.alerts
    back = Decoder()(Encoder("alert")(alert))
    assert {name: back[name] for name in alert} | {"evidence": []} == alert | {"evidence": []}
    assert [e["event_id"] for e in back["evidence"]] == [e["event_id"] for e in alert["evidence"]]
    assert alert["summary"].startswith("Many: 12 events within 19 s for user.id u, from ")
    assert alert["severity"] == "high"
    assert alert["event_severity"] == 4
    assert alert["group_by"] == {"user.id": "u"}
    assert alert["threat_technique_id"] == ["T1485"]
    assert (alert["site"], alert["detector"], alert["rule_version"]) == ("site-a", "detector-0", "v1")


def test_a_new_slice_width_keeps_the_counts() -> None:
    group = Group()
    group.add((0, 4), (21, 4))
    assert group.state is not None
    group.state.slice_us = 7 * SECOND
    group.state.buckets = {b.first // (7 * SECOND) * (7 * SECOND): b for b in group.state.buckets.values()}
    group.add((22, 3))
    assert group.summary() == [("new", 11)]


@settings(max_examples=40, deadline=None)
@given(data=st.binary(max_size=60))
def test_bytes_that_are_no_state_are_refused(data: bytes) -> None:
    with pytest.raises(StateError):
        GroupState.from_bytes(data)


def old_state(form: int) -> bytes:
    """As releases wrote it that knew no other type: ten hits in two slices, an alert told, one signal seen."""
    at = BEGIN + SECOND
    extra = [[[7, 1]]] if form == 2 else []
    buckets = [[BEGIN, 6, at, at + SECOND, at, 1, *extra], [BEGIN + 5 * SECOND, 4, at + 5 * SECOND, at + 5 * SECOND, at, 1, *extra]]
    episode = [
        1,
        "alert",
        BEGIN,
        BEGIN + 5 * SECOND,
        at,
        at + 5 * SECOND,
        at,
        0,
        False,
        1,
        10,
        at,
        [],
        ["{}"],
        {"user": "u"},
        False,
    ]
    body = orjson.dumps([["u"], 5 * SECOND, 0, at, ["raw"], 2, {"user": "u"}, buckets, [episode], [[BEGIN, [], ["{}"]]]])
    seen = struct.pack(">QQ", SignalsHeader("x", at, "raw").short_id, at)
    head = struct.pack(">BI", form, len(body)) + body
    return head + seen if form == 1 else head + struct.pack(">I", 1) + seen + struct.pack(">QIII", 99, 7, 1, at // SECOND)


@pytest.mark.parametrize("form", [1, 2])
def test_states_of_earlier_releases_go_on(form: int) -> None:
    group = Group()
    group.state = GroupState.from_bytes(old_state(form))
    assert not group.add((1, 6), signals_id="x").changed
    group.add((6, 10), received=6)
    group.advance(70)
    assert group.summary() == [("update", 20), ("closed", 20)]
    assert {a["alert_id"] for a in group.alerts} == {"alert"}


def test_a_state_at_all_its_bounds_fits_into_a_record() -> None:
    where = {"event_id": "e" * 40, "raw_topic": "weir.raw.netflow.v1", "raw_partition": 11, "raw_offset": 10**9}
    where["dataset"] = "network-flow"
    names = [f"entity{i}" for i in range(6)]
    long = dict.fromkeys(names, "v" * 1024)
    state = GroupState(("u" * 512,) * 3, SECOND)
    for i in range(c.MAX_BUCKETS):
        at = BEGIN + i * SECOND
        values = dict.fromkeys(range(i * 2**40, i * 2**40 + adding.MAX_DETAILS // c.MAX_BUCKETS), (at, at))
        state.buckets[at] = Bucket(10**6, at, at, at, i % 12, {2**31: 5}, (10**6, at, at), details=Details(values=values))
    for i in range(c.MAX_SEEN):
        state.seen[2**60 + i] = BEGIN
        state.copies.add(2**60 + i, 2**31, BEGIN // SECOND)
    for i in range(c.MAX_EPISODES):
        related = {name: ["v" * 50] * 20 for name in names}
        shown = {"evidence": [where] * c.MAX_EVIDENCE, "samples": ["x" * 2_000] * c.MAX_SAMPLES, "values": ["v" * 50] * 20}
        state.episodes.append(Episode(i, "a" * 32, *[BEGIN] * 5, entities=long, related=related, **shown))
    state.loose = [Note(BEGIN, [where], ["x" * 2_000] if i < 3 else [], long, ["s" * 512] * 10) for i in range(adding.MAX_NOTES)]
    for i in range(MAX_HEADS):
        state.heads.take(SignalsHeader("x", BEGIN, "weir.raw.netflow.v1", i, 10**9))
    assert len(state.to_bytes()) < 950_000
    assert GroupState.from_bytes(state.to_bytes()) == state
