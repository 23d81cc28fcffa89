"""Correlations against counts over every window of exact event times; and whatever is killed, repeated or reordered in between."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.detect.test_correlation_vectors import BEGIN, SECOND, documents
from weir.detect.engine import Engine
from weir.detect.offline import Offline
from weir.detect.reading.loading import load_rules
from weir.detect.rules import RuleSet
from weir.detect.signals.partials import SignalSource
from weir.detect.telling.alerts import Origin

SPAN = 60 * SECOND
PORT = "destination.port"
KINDS: dict[str, dict[str, Any]] = {
    "event_count": {"type": "event_count", "rules": ["a"], "condition": {"gte": 3}},
    "value_count": {"type": "value_count", "rules": ["a"], "condition": {"gte": 3, "field": PORT}},
    "temporal": {"type": "temporal", "rules": ["a", "b", "c"]},
    "temporal_ordered": {"type": "temporal_ordered", "rules": ["a", "b", "c"]},
    "extended": {"type": "temporal", "rules": ["a", "b", "c"], "condition": "a and (b or c)"},
}

Event = tuple[int, str, int]
"""Time in microseconds after BEGIN, rule, port."""


@cache
def rules(kind: str, *more: str) -> RuleSet:
    correlation = {"group-by": ["user.name"], "timespan": "1m"} | KINDS[kind]
    case = {"correlation": correlation, "more": [yaml.safe_load(text) for text in more]}
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "rules.yml").write_text(yaml.safe_dump_all(documents(case)), encoding="utf-8")
        found = load_rules(folder)
    assert found.problems == ()
    wanted = tuple(c for c in found.correlations if c.title == "main" or c.title.startswith("then"))
    return RuleSet(found.version, found.rules, wanted, ())


def record(event: Event, number: int, offset: int) -> dict[str, Any]:
    time, rule, port = event
    return {
        "event_id": f"{number:032x}-0-0", "timestamp": BEGIN + time, "event_created": BEGIN, "event_action": rule,
        "destination_port": port, "user_name": "x", "raw_topic": "raw", "raw_partition": 0, "raw_offset": offset,
    }  # fmt: skip


def batches(events: list[Event], rng: random.Random) -> Iterable[tuple[int, list[dict[str, Any]]]]:
    """In the order given, in batches of any size: their offsets and records."""
    done = offset = 0
    while done < len(events):
        size = rng.choice([1, 1, 2, 5, 20])
        offset += 1
        yield offset, [record(event, done + i, offset) for i, event in enumerate(events[done : done + size])]
        done += size


def alerts_of(kind: str, events: list[Event], seed: int) -> list[dict[str, Any]]:
    detection = Offline(rules(kind))
    for offset, batch in batches(events, random.Random(seed)):
        detection.feed({"network-flow": batch}, BEGIN, raw_offset=offset)
    detection.tick(BEGIN + 3600 * SECOND)
    last = {alert["alert_id"]: alert for alert in detection.alerts}
    assert all(alert["state"] == "closed" for alert in last.values())
    return list(last.values())


def windows(events: list[Event]) -> Iterable[list[Event]]:
    """Every window that begins with an event."""
    ordered = sorted(events)
    for first in ordered:
        yield [event for event in ordered if first[0] <= event[0] <= first[0] + SPAN and (event >= first or event[0] == first[0])]


def in_order(window: list[Event]) -> bool:
    times = {rule: [t for t, r, _ in window if r == rule] for rule in "abc"}
    return any(a <= b <= c for a in times["a"] for b in times["b"] for c in times["c"])


ORACLES: dict[str, Callable[[list[Event]], bool]] = {
    "event_count": lambda window: sum(rule == "a" for _, rule, _ in window) >= 3,
    "value_count": lambda window: len({port for _, rule, port in window if rule == "a"}) >= 3,
    "temporal": lambda window: {rule for _, rule, _ in window} >= set("abc"),
    "temporal_ordered": in_order,
    "extended": lambda window: "a" in {r for _, r, _ in window} and bool({r for _, r, _ in window} & {"b", "c"}),
}

# Times on a coarse grid and off it, so that edges of windows and slices are met.
TIMES = st.one_of(
    st.integers(0, 40).map(lambda n: n * 5 * SECOND), st.integers(0, 300_000).map(lambda n: n * 1000), st.just(60 * SECOND + 1)
)
EVENTS = st.lists(st.tuples(TIMES, st.sampled_from("abc"), st.integers(1, 5)), min_size=1, max_size=40)


def bursts(events: list[Event]) -> list[tuple[int, int, int]]:
    """Of events of rule a: runs of those in windows of three, as count, first and last time."""
    times = sorted(t for t, rule, _ in events if rule == "a")
    covered = set()
    for i, first in enumerate(times):
        inside = [j for j in range(i, len(times)) if times[j] <= first + SPAN]
        if len(inside) >= 3:
            covered.update(inside)
    found: list[tuple[int, int, int]] = []
    for i in sorted(covered):
        if found and times[i] - found[-1][2] <= SPAN:
            found[-1] = (found[-1][0] + 1, found[-1][1], times[i])
        else:
            found.append((1, times[i], times[i]))
    return found


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=60, deadline=None)
@given(events=EVENTS, seed=st.integers(0, 2**32))
def test_it_fires_where_a_window_of_exact_times_does_in_whatever_order_events_come(
    kind: str, events: list[Event], seed: int
) -> None:
    shuffled = list(events)
    random.Random(seed).shuffle(shuffled)
    fires = any(map(ORACLES[kind], windows(events)))
    assert bool(alerts_of(kind, shuffled, seed)) is fires


@settings(max_examples=80, deadline=None)
@given(events=EVENTS, seed=st.integers(0, 2**32))
def test_events_counted_are_those_in_windows_that_fire(events: list[Event], seed: int) -> None:
    expected = bursts(events)
    found = alerts_of("event_count", sorted(events), seed)
    assert sorted((a["event_count"], a["first_seen"] - BEGIN, a["last_seen"] - BEGIN) for a in found) == sorted(expected)
    shuffled = list(events)
    random.Random(seed).shuffle(shuffled)
    found = alerts_of("event_count", shuffled, seed)
    # Two bursts that a late event joins stay two alerts; together they count the same.
    assert sum(a["event_count"] for a in found) == sum(count for count, _, _ in expected)
    for alert in found:
        assert any(f <= alert["first_seen"] - BEGIN and alert["last_seen"] - BEGIN <= t for _, f, t in expected)


@settings(max_examples=60, deadline=None)
@given(events=EVENTS, seed=st.integers(0, 2**32))
def test_the_most_distinct_values_of_a_window_are_what_is_measured(events: list[Event], seed: int) -> None:
    most = max(len({port for _, rule, port in window if rule == "a"}) for window in windows(events))
    shuffled = list(events)
    random.Random(seed).shuffle(shuffled)
    found = alerts_of("value_count", shuffled, seed)
    assert max((a["measured"] for a in found), default=0) == (most if most >= 3 else 0)


WITHIN_A_WINDOW = st.lists(st.tuples(st.integers(0, 59).map(lambda n: n * SECOND), st.sampled_from("abc"), st.just(1)), max_size=15)


@pytest.mark.parametrize("kind", sorted(KINDS))
@settings(max_examples=60, deadline=None)
@given(events=WITHIN_A_WINDOW, seed=st.integers(0, 2**32))
def test_what_a_burst_counts_does_not_depend_on_the_order_in_which_it_comes(kind: str, events: list[Event], seed: int) -> None:
    shuffled = list(events)
    random.Random(seed).shuffle(shuffled)
    first, other = ([(a["event_count"], a["first_seen"]) for a in alerts_of(kind, es, seed)] for es in (sorted(events), shuffled))
    assert first == other


NESTED = (
    "{name: then, correlation: {type: temporal, rules: [main, b], group-by: [user.name], timespan: 10m}}",
    "{name: then_count, correlation: {type: event_count, rules: [main], timespan: 10m, generate: true, condition: {gte: 2}}}",
)


class CrashError(Exception):
    """SIGKILL."""


class Detector:
    """A detector on a log of its own: what it publishes as signals comes back to it. `step` may end it anywhere."""

    def __init__(self, rule_set: RuleSet, rng: random.Random) -> None:
        self.rule_set, self.rng = rule_set, rng
        self.log: list[dict[str, Any]] = []
        self.changelog: list[tuple[bytes, bytes | None]] = []
        self.alerts: list[dict[str, Any]] = []
        self.committed = self.safe = 0

    def run(self, crash_after: int | None) -> None:
        table: dict[bytes, bytes] = {}
        for key, value in self.changelog:
            table.pop(key, None) if value is None else table.update({key: value})
        engine = Engine(self.rule_set, Origin(), table.get, lambda: list(table.items()))
        left = crash_after

        def step() -> None:
            nonlocal left
            if left is not None:
                left -= 1
                if left < 0:
                    del self.changelog[self.rng.randint(self.safe, len(self.changelog)) :]
                    raise CrashError

        offset = self.committed
        try:
            while offset < len(self.log):
                effects = engine.apply(0, self.log[offset], offset)
                for alert in effects.alerts + effects.repeats:
                    step()
                    self.alerts.append(alert)
                for _, signals in effects.signals:
                    step()
                    self.log.append(signals)
                for key, value in effects.writes:
                    step()
                    self.changelog.append((key, value))
                    table.pop(key, None) if value is None else table.update({key: value})
                offset += 1
                if self.rng.random() < 0.2:
                    step()
                    self.committed, self.safe = offset, len(self.changelog)
        except CrashError:
            pass

    def final(self) -> dict[str, tuple[Any, ...]]:
        latest: dict[str, dict[str, Any]] = {}
        for alert in self.alerts:
            if alert["revision"] >= latest.get(alert["alert_id"], alert)["revision"]:
                latest[alert["alert_id"]] = alert
        return {key: (a["rule_name"], a["state"], a["event_count"], a["measured"]) for key, a in latest.items()}


def signals(rule_set: RuleSet, events: list[Event], rng: random.Random) -> list[dict[str, Any]]:
    source = SignalSource(rule_set)
    found = []
    for offset, batch in batches(events, rng):
        for partition, partials in source.signals({"network-flow": batch}, 1).items():
            where = {"raw_topic": "raw", "raw_partition": 0, "raw_offset": offset, "received_at": BEGIN, "receiver": ""}
            found.append(
                {"signals_id": f"{offset}-{partition}", "kind": "partials", "processor": "", **where, "partials": partials}
            )
    return found


def tick(at: int) -> dict[str, Any]:
    return {"kind": "tick", "raw_topic": "raw", "ticks": [{"raw_partition": 0, "low": BEGIN + at * SECOND}]}


@pytest.mark.parametrize("kind", ["event_count", "value_count", "temporal_ordered"])
@settings(max_examples=25, deadline=None)
@given(events=EVENTS, seed=st.integers(0, 2**32))
def test_killed_and_repeated_it_comes_to_the_alerts_of_an_undisturbed_run(kind: str, events: list[Event], seed: int) -> None:
    rng = random.Random(seed)
    rule_set = rules(kind, *NESTED)
    log = signals(rule_set, events, rng)
    calm, rough = Detector(rule_set, rng), Detector(rule_set, rng)
    calm.log += log
    calm.run(None)
    for entry in log:
        rough.log.append(entry)
        if rng.random() < 0.2:
            # A processor was killed and publishes from its last commit on.
            rough.log += rough_tail(rough.log, rng)
        if rng.random() < 0.3:
            rough.run(rng.randint(0, 30))
    rough.run(None)
    # In turn, since what is told at the end of one counts in the next.
    for at in (7200, 14_400, 21_600, 28_800):
        for one in (calm, rough):
            one.log.append(tick(at))
            one.run(None if one is calm else rng.randint(0, 10))
            one.run(None)
    assert rough.final() == calm.final()
    assert all(state == "closed" for _, state, _, _ in calm.final().values())


def rough_tail(log: list[dict[str, Any]], rng: random.Random) -> list[dict[str, Any]]:
    known = {entry["signals_id"]: entry for entry in log if entry["kind"] == "partials"}
    return list(known.values())[-rng.randint(1, 6) :]
