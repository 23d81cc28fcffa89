"""What the tests of Weir's own kinds share: signals made by hand, an engine to merge them, and logs to be repeated and shuffled."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable
from typing import Any

from tests.detect.test_engine import Kafka, run, tick
from weir.detect.engine import Engine
from weir.detect.kinds import OwnKind, kind_of
from weir.detect.rules import Correlation, Member, RuleSet, Source
from weir.detect.signals.gathering import value_hash
from weir.detect.telling.alerts import Origin

SECOND = 1_000_000
MINUTE, HOUR, DAY, WEEK = 60 * SECOND, 3_600 * SECOND, 86_400 * SECOND, 7 * 86_400 * SECOND
# A Thursday, at midnight UTC.
BEGIN = 1_790_208_000 * SECOND


def rule(kind: OwnKind, name: str, timespan: int = HOUR, group_by: tuple[str, ...] = ("user.id",), **options: Any) -> Correlation:
    """A correlation of this kind, its options checked."""
    source = Source(
        tuple(n.replace(".", "_") for n in group_by), ("source_ip",), {"user": "user_name", "source_address": "source_ip"}
    )
    return Correlation(
        "rule",
        "Title",
        "",
        "high",
        (Member("m", "m", {"file-audit": source}),),
        group_by,
        timespan,
        timespan,
        kind=name,
        options=kind.check(options),
    )


def partial(times: list[int], group: str = "u", values: dict[str, list[int]] | None = None, amount: float = 0) -> dict[str, Any]:
    """One partial of events at these times; `values` are by text the times at which they were there."""
    slices = []
    for text, seen in (values or {"": times}).items():
        packed = struct.pack(">Qqq", value_hash(text), min(seen), max(seen)) if text else b""
        slices.append(
            {
                "start": min(seen),
                "count": len(seen),
                "first": min(seen),
                "last": max(seen),
                "hashes": b"",
                "times": struct.pack(f">{len(seen)}q", *sorted(seen)),
                "values": packed,
                "numbers": b"",
                "sum": amount,
                "number_count": len(seen),
            }
        )
    at = min([s["first"] for s in slices] + times)
    return {
        "correlation_id": "rule",
        "group": [group],
        "buckets": slices,
        "evidence": [
            {"event_id": f"e{at}{text}", "raw_topic": "raw.a", "raw_partition": 0, "raw_offset": 1, "dataset": "file-audit"}
            for text in values or [""]
        ],
        "samples": [f'{{"user_name":"{group}","source_ip":"{text}"}}' for text in values or [""]],
        "entities": {"user": group, "source_address": next(iter(values or [""]))},
        "shown": list(values or ()),
        "datasets": ["file-audit"],
    }


class Detection:
    """An engine with its table; every merge goes through bytes."""

    def __init__(self, correlation: Correlation) -> None:
        self.correlation = correlation
        self.table: dict[bytes, bytes] = {}
        self.alerts: list[dict[str, Any]] = []
        self.writes = 0
        self.offset = 0
        self.engine = Engine(RuleSet("v", (), (correlation,), ()), Origin(), self.table.get, lambda: list(self.table.items()))

    def copy(self) -> Detection:
        """Another one that has come as far."""
        other = Detection(self.correlation)
        other.table.update(self.table)
        other.offset = self.offset
        return other

    def apply(self, record: dict[str, Any]) -> list[dict[str, Any]]:
        effects = self.engine.apply(0, record)
        self.alerts += effects.alerts
        for key, value in effects.writes:
            if key != b"[0]":
                self.writes += 1
            if value is None:
                self.table.pop(key, None)
            else:
                self.table[key] = value
        return effects.alerts

    def hear(self, made: dict[str, Any], received: int, receiver: str = "", offset: int | None = None) -> list[dict[str, Any]]:
        """A signals record with this partial."""
        self.offset = self.offset + 1 if offset is None else offset
        return self.apply(signals([made], received, self.offset) | {"receiver": receiver})

    def tick(self, low: int, topic: str = "raw.a", partition: int = 0) -> list[dict[str, Any]]:
        return self.apply(tick(topic, partition, low))

    def states(self) -> list[Any]:
        kind = kind_of(self.correlation)
        return [kind.load(value) for key, value in self.table.items() if key != b"[0]"]

    def told(self) -> list[tuple[str, int]]:
        return [(a["state"], a["event_count"]) for a in self.alerts]


def signals(partials: list[dict[str, Any]], received: int, offset: int, topic: str = "raw.a", partition: int = 0) -> dict[str, Any]:
    return {
        "signals_id": f"{topic}-{partition}-{offset}",
        "kind": "partials",
        "raw_topic": topic,
        "raw_partition": partition,
        "raw_offset": offset,
        "received_at": received,
        "partials": partials,
    }


def stands(alerts: list[dict[str, Any]]) -> dict[str, tuple[Any, ...]]:
    """What a SIEM has in the end, by alert id."""
    latest: dict[str, dict[str, Any]] = {}
    for alert in alerts:
        if alert["revision"] >= latest.get(alert["alert_id"], alert)["revision"]:
            latest[alert["alert_id"]] = alert
    return {
        key: (a["state"], a["event_count"], a["first_seen"], a["last_seen"], a["measured"], a["summary"])
        for key, a in latest.items()
    }


Made = Callable[[random.Random, int, str], dict[str, Any]]
"""A partial of a group, received at a time."""


def log_of(rng: random.Random, made: Made, steps: list[int], end: int, repeats: bool = True) -> list[dict[str, Any]]:
    """A signals partition: three raw partitions at their own paces, by processors that are killed and publish again.

    `steps` are the times that may lie between two records of one raw partition; `end` comes after the last.
    """
    sources = [("raw.a", 0), ("raw.a", 1), ("raw.b", 0)]
    log: list[dict[str, Any]] = [tick(*source, BEGIN) for source in sources]
    times, offsets = [BEGIN] * 3, [0] * 3
    published: list[list[dict[str, Any]]] = [[], [], []]
    for _ in range(rng.randint(30, 120)):
        index = rng.randrange(3)
        action = rng.random()
        if action < 0.7:
            times[index] += rng.choice(steps)
            offsets[index] += rng.randint(1, 3)
            partials = [made(rng, times[index], group) for group in rng.sample("uvw", rng.choice([1, 1, 2]))]
            record = signals(partials, times[index], offsets[index], *sources[index])
            published[index].append(record)
            log.append(record)
        elif action < 0.85:
            log.append(tick(*sources[index], times[index]))
        elif published[index] and repeats:
            log.extend(published[index][-rng.randint(1, 12) :])
    return log + [tick(*source, max(times) + end) for source in sources]


def after_kills(correlation: Correlation, log: list[dict[str, Any]], rng: random.Random) -> tuple[Kafka, Kafka]:
    """The log worked through undisturbed, and with kills at random."""
    rules = RuleSet("v", (), (correlation,), ())
    calm, rough = Kafka(), Kafka()
    run(calm, log, None, rng, rules)
    for _ in range(rng.randint(1, 8)):
        run(rough, log, rng.randint(0, 60), rng, rules)
    run(rough, log, None, rng, rules)
    return calm, rough
