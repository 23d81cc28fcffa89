"""The detector without Kafka: killed anywhere, it comes to the alerts of a run that was left alone."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from weir.detect.engine import Engine, Marks
from weir.detect.kinds.common import ALLOWED_LATENESS_US
from weir.detect.rules import Condition, Correlation, RuleSet
from weir.detect.telling.alerts import Origin

SECOND = 1_000_000
BEGIN = 1_790_000_040 * SECOND
RULE = Correlation("rule", "Many", "", "high", (), ("user.id",), 60 * SECOND, 5 * SECOND, Condition("gte", 10))
RULES = RuleSet("v", (), (RULE,), ())


def signals(topic: str, raw_partition: int, offset: int, at: int, counts: dict[str, int]) -> dict[str, Any]:
    return {
        "signals_id": f"{topic}-{raw_partition}-{offset}",
        "kind": "partials",
        "raw_topic": topic,
        "raw_partition": raw_partition,
        "raw_offset": offset,
        "received_at": at,
        "partials": [
            {
                "correlation_id": "rule",
                "group": [user],
                "buckets": [{"start": at // RULE.slice_us * RULE.slice_us, "count": count, "first": at, "last": at}],
                "evidence": [],
                "samples": [],
                "entities": {},
            }
            for user, count in counts.items()
        ],
    }


def tick(topic: str, raw_partition: int, low: int) -> dict[str, Any]:
    return {"kind": "tick", "raw_topic": topic, "ticks": [{"raw_partition": raw_partition, "low": low}]}


def make_log(rng: random.Random) -> list[dict[str, Any]]:
    """One signals partition: three raw partitions drained at different paces, processors that are killed and publish again."""
    sources = [("raw.a", 0), ("raw.a", 1), ("raw.b", 0)]
    log: list[dict[str, Any]] = [tick(*source, BEGIN) for source in sources]
    times, offsets = [BEGIN] * 3, [0] * 3
    published: list[list[dict[str, Any]]] = [[], [], []]
    for _ in range(rng.randint(20, 90)):
        index = rng.randrange(3)
        topic, raw_partition = sources[index]
        action = rng.random()
        if action < 0.7:
            times[index] += rng.choice([0, 1, 3, 20, 70, 900]) * SECOND
            offsets[index] += rng.randint(1, 3)
            users = rng.sample("uvwxyz", rng.choice([1, 1, 2, 4]))
            counts = {user: rng.choice([1, 2, 9, 30]) for user in users}
            record = signals(topic, raw_partition, offsets[index], times[index], counts)
            published[index].append(record)
            log.append(record)
        elif action < 0.85:
            log.append(tick(topic, raw_partition, times[index]))
        elif published[index]:
            # Killed and started again: everything since its last commit comes once more, in order.
            log.extend(published[index][-rng.randint(1, 12) :])
    end = max(times) + 10 * (RULE.timespan_us + ALLOWED_LATENESS_US)
    return log + [tick(*source, end) for source in sources]


@dataclass
class Kafka:
    """What survives: the changelog, the alerts, the committed offset and how much of the changelog it stands for."""

    changelog: list[tuple[bytes, bytes | None]] = field(default_factory=list)
    alerts: list[dict[str, Any]] = field(default_factory=list)
    committed: int = 0
    safe: int = 0

    def table(self) -> dict[bytes, bytes]:
        found: dict[bytes, bytes] = {}
        for key, value in self.changelog:
            if value is None:
                found.pop(key, None)
            else:
                found[key] = value
        return found


class CrashError(Exception):
    """SIGKILL."""


def run(kafka: Kafka, log: list[dict[str, Any]], crash_after: int | None, rng: random.Random, rules: RuleSet = RULES) -> None:
    """Work the log from the committed offset on. With `crash_after`, die after so many steps: an alert, a write, a commit."""
    table = kafka.table()
    engine = Engine(rules, Origin(), table.get, lambda: list(table.items()))
    left = crash_after

    def step() -> None:
        nonlocal left
        if left is not None:
            left -= 1
            if left < 0:
                # The changelog's last records were still on their way, but those of committed offsets were not.
                del kafka.changelog[rng.randint(kafka.safe, len(kafka.changelog)) :]
                raise CrashError

    try:
        for offset in range(kafka.committed, len(log)):
            effects = engine.apply(0, log[offset])
            for alert in effects.alerts + effects.repeats:
                step()
                kafka.alerts.append(alert)
            for key, value in effects.writes:
                step()
                kafka.changelog.append((key, value))
                if value is None:
                    table.pop(key, None)
                else:
                    table[key] = value
            if rng.random() < 0.2:
                step()
                kafka.committed, kafka.safe = offset + 1, len(kafka.changelog)
    except CrashError:
        pass


def final(alerts: list[dict[str, Any]]) -> dict[str, tuple[str, str, int]]:
    latest: dict[str, dict[str, Any]] = {}
    for alert in alerts:
        if alert["revision"] >= latest.get(alert["alert_id"], alert)["revision"]:
            latest[alert["alert_id"]] = alert
    return {key: (a["group_by"]["user.id"], a["state"], a["event_count"]) for key, a in latest.items()}


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_killed_anywhere_it_raises_the_alerts_of_an_undisturbed_run(seed: int) -> None:
    rng = random.Random(seed)
    log = make_log(rng)
    calm = Kafka()
    run(calm, log, None, rng)
    rough = Kafka()
    for _ in range(rng.randint(1, 8)):
        run(rough, log, rng.randint(0, 60), rng)
    run(rough, log, None, rng)
    assert final(rough.alerts) == final(calm.alerts)
    assert all(state == "closed" for _, state, _ in final(calm.alerts).values())
    assert len(rough.table()) == 1, "only the marks remain when all is old"


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_what_processors_publish_again_changes_no_alert(seed: int) -> None:
    log = make_log(random.Random(seed))
    seen: set[str] = set()
    once = []
    for record in log:
        if record["kind"] == "tick" or record["signals_id"] not in seen:
            seen.add(record.get("signals_id", ""))
            once.append(record)
    with_repeats, without = Kafka(), Kafka()
    run(with_repeats, log, None, random.Random(0))
    run(without, once, None, random.Random(0))
    assert final(with_repeats.alerts) == final(without.alerts)


def effects_of(*records: dict[str, Any]) -> tuple[list[Any], dict[bytes, bytes]]:
    table: dict[bytes, bytes] = {}
    engine = Engine(RULES, Origin(), table.get, lambda: list(table.items()))
    found = []
    for record in records:
        effects = engine.apply(0, record)
        for key, value in effects.writes:
            if value is None:
                table.pop(key, None)
            else:
                table[key] = value
        found.append(effects)
    return found, table


def test_a_source_that_lags_holds_an_alert_open() -> None:
    """The other partition of the same raw topic may still bring events of this burst."""
    late = BEGIN + 3600 * SECOND
    burst = signals("raw.a", 0, 1, BEGIN, {"u": 12})
    found, _ = effects_of(tick("raw.a", 0, BEGIN), tick("raw.a", 1, BEGIN), burst, tick("raw.a", 0, late), tick("raw.a", 1, late))
    assert [[a["state"] for a in e.alerts] for e in found] == [[], [], ["new"], [], ["closed"]]


def test_another_raw_topic_neither_opens_nor_holds() -> None:
    late = BEGIN + 3600 * SECOND
    burst = signals("raw.a", 0, 1, BEGIN, {"u": 12})
    found, _ = effects_of(tick("raw.a", 0, BEGIN), tick("raw.b", 0, BEGIN), burst, tick("raw.b", 0, late), tick("raw.a", 0, late))
    assert [[a["state"] for a in e.alerts] for e in found] == [[], [], ["new"], [], ["closed"]]


def test_a_repeat_of_what_is_forgotten_is_no_news() -> None:
    late = BEGIN + 3600 * SECOND
    burst = signals("raw.a", 0, 1, BEGIN, {"u": 12})
    found, table = effects_of(tick("raw.a", 0, BEGIN), burst, tick("raw.a", 0, late), burst)
    assert [[a["state"] for a in e.alerts] for e in found] == [[], ["new"], ["closed"], []]
    assert found[-1].seen == 1
    assert list(table) == [b"[0]"]
    begun_anew = signals("raw.a", 0, 2, late, {"u": 1})
    found, _ = effects_of(tick("raw.a", 0, BEGIN), burst, tick("raw.a", 0, late), begun_anew, burst)
    assert [e.seen for e in found] == [0, 0, 0, 0, 1]
    assert found[-1].alerts == []


def test_a_raw_topic_created_anew_is_no_repeat() -> None:
    late = BEGIN + 3600 * SECOND
    again = {**signals("raw.a", 0, 1, late, {"u": 12}), "signals_id": "new"}
    found, _ = effects_of(tick("raw.a", 0, BEGIN), signals("raw.a", 0, 500, BEGIN, {"u": 12}), tick("raw.a", 0, late), again)
    assert [a["state"] for a in found[-1].alerts] == ["new"]


def test_a_correlation_that_is_not_in_the_rules_is_named() -> None:
    record = signals("raw.a", 0, 1, BEGIN, {"u": 12})
    record["partials"][0]["correlation_id"] = "gone"
    found, table = effects_of(record)
    assert found[0].unknown == {"gone"}
    assert table == {}


def test_groups_of_a_rule_that_is_gone_are_deleted() -> None:
    _, table = effects_of(signals("raw.a", 0, 1, BEGIN, {"u": 12}))
    engine = Engine(RuleSet("w", (), (), ()), Origin(), table.get, lambda: list(table.items()))
    writes = engine.apply(0, tick("raw.a", 0, BEGIN)).writes
    assert [value is None for _, value in writes] == [False, True]


def test_marks_survive_their_bytes() -> None:
    _, table = effects_of(tick("raw.a", 0, 5), signals("raw.a", 0, 1, 7, {"u": 1}), tick("raw.b", 1, 6))
    marks = Marks.from_bytes(table[b"[0]"])
    assert marks.lows == {"raw.a": {"0": 5}, "raw.b": {"1": 6}}
    assert marks.heads == {"raw.a": {"0": (1, 7, 0)}}
    assert Marks.from_bytes(b'[{}, {"raw.a": {"0": [1, 7]}}]').heads == marks.heads, "as earlier releases wrote them"
    assert marks.watermark(["raw.a", "raw.b"]) == 5
    assert marks.watermark(["raw.c"]) == 0


def test_signals_of_one_raw_record_in_parts_count_once_each() -> None:
    parts = [signals("raw.a", 0, 1, BEGIN, {"u": 12}), signals("raw.a", 0, 1, BEGIN, {"v": 12})]
    parts[1]["signals_id"] += "+1"
    late = tick("raw.a", 0, BEGIN + 3600 * SECOND)
    found, _ = effects_of(tick("raw.a", 0, BEGIN), *parts, *parts, late, *parts)
    assert [[a["group_by"]["user.id"] for a in e.alerts] for e in found] == [[], ["u"], ["v"], [], [], ["u", "v"], [], []]
