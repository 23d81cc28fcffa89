"""The whole of detection in one process, without Kafka: events in, alerts out. Back-tests and the rules' own test cases run on it.

It is the code of the services, only their wires are missing: `SignalSource` as in the processors, `Engine` as in the detector, a
dict for the table. Signals that alerts give for other correlations go round as they do through the topic.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from weir.detect.alerts import Origin
from weir.detect.engine import Engine
from weir.detect.partials import SignalSource
from weir.detect.rules import RuleSet

__all__ = ["Offline"]

Record = dict[str, Any]


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
        """Nothing received before `now`, microseconds UTC, is still to come from this raw partition."""
        self._apply({"kind": "tick", "raw_topic": raw_topic, "ticks": [{"raw_partition": raw_partition, "low": now}]})

    def _apply(self, record: Record) -> None:
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
