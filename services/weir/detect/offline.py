"""The whole of detection in one process, without Kafka: events in, alerts out. Back-tests and the rules' own test cases run on it.

It is the code of the services, only their wires are missing: `SignalSource` as in the processors, `Engine` as in the detector, a
dict for the table. Signals that alerts give for other correlations go round as they do through the topic.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from weir.detect.engine import Engine
from weir.detect.rules import Correlation, RuleSet
from weir.detect.signals.partials import SignalSource
from weir.detect.telling.alerts import Origin

__all__ = ["Offline", "subset"]

Record = dict[str, Any]

# A state that is due again and again at one time would be a mistake of its kind; it must not hang a back-test.
_MOST_TICKS = 1_000


class Offline:
    """Detection over events that the caller feeds in the order of their receipt.

    Args:
        rule_set: what to look for.
        origin: names the detector in alerts.
        on_alert: called with every alert record as it is made.
    """

    def __init__(self, rule_set: RuleSet, origin: Origin = Origin(), on_alert: Callable[[Record], None] | None = None) -> None:  # noqa: B008  immutable
        self.source = SignalSource(rule_set)
        self.table: dict[bytes, bytes] = {}
        self.engine = Engine(rule_set, origin, self.table.get, lambda: list(self.table.items()))
        self.alerts: list[Record] = []
        self._offset = 0
        self._on_alert = on_alert or self.alerts.append

    def feed(
        self,
        events: dict[str, list[Record]],
        received_at: int,
        raw_topic: str = "raw",
        raw_partition: int = 0,
        raw_offset: int = 0,
        receiver: str = "",
    ) -> None:
        """One raw batch's events, by dataset. `received_at` in microseconds UTC; offsets of a raw partition must grow."""
        for partition, partials in self.source.signals(events, 1).items():
            self._apply(
                {
                    "signals_id": f"{raw_topic}-{raw_partition}-{raw_offset}-{partition}",
                    "kind": "partials",
                    "raw_topic": raw_topic,
                    "raw_partition": raw_partition,
                    "raw_offset": raw_offset,
                    "received_at": received_at,
                    "receiver": receiver,
                    "partials": partials,
                }
            )

    def tick(self, now: int, raw_topic: str = "raw", raw_partition: int = 0) -> None:
        """Nothing received before `now`, microseconds UTC, is still to come from this raw partition.

        Live ticks come every second or so, and each leads on from where the one before it has led. So this one is repeated while
        it leads to anything.
        """
        record = {"kind": "tick", "raw_topic": raw_topic, "ticks": [{"raw_partition": raw_partition, "low": now}]}
        for _ in range(_MOST_TICKS):
            # Every tick writes how far time has come.
            if self._apply(record) <= 1:
                break

    def _apply(self, record: Record) -> int:
        """Apply a signals record and what follows from it; the number of writes to the table."""
        writes = 0
        waiting = deque([record])
        while waiting:
            effects = self.engine.apply(0, waiting.popleft(), self._offset)
            self._offset += 1
            waiting.extend(record for _, record in effects.signals)
            for alert in effects.alerts:
                self._on_alert(alert)
            for key, value in effects.writes:
                if value is None:
                    self.table.pop(key, None)
                else:
                    self.table[key] = value
            writes += len(effects.writes)
        return writes


def subset(rule_set: RuleSet, wanted: Iterable[Correlation]) -> RuleSet:
    """The rule set with these correlations alone, and all that counts in them; what is counted comes first."""
    by_id = {c.id: c for c in rule_set.correlations}
    kept: dict[str, Correlation] = {}
    waiting = deque(wanted)
    while waiting:
        one = waiting.popleft()
        kept.pop(one.id, None)
        kept[one.id] = one
        waiting.extend(by_id[member.id] for member in one.members if member.rule is None)
    found = [replace(c, feeds=tuple(feed for feed in c.feeds if feed in kept)) for c in reversed(kept.values())]
    members = {member.id for c in found for member in c.members}
    return replace(rule_set, correlations=tuple(found), rules=tuple(rule for rule in rule_set.rules if rule.id in members))
