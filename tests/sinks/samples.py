"""Records, messages and a destination to try sinks with."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

from weir.bus.codec import Encoder
from weir.sinks.destination import Counters, Rejected, Row

__all__ = ["NOW_US", "FakeDestination", "FakeMessage", "alert", "cef", "encode", "row"]

NOW_US = 1_795_000_000_000_000


def cef(number: int, **fields: Any) -> dict[str, Any]:
    return {
        "event_id": f"{number:032x}-0-0",
        "timestamp": NOW_US + number,
        "event_created": NOW_US + number,
        "event_dataset": "cef",
        "event_code": "login",
        "cef_name": "Login failed",
        "cef_severity": "5",
        "observer_vendor": "Kemp",
        "site": "plant",
        **fields,
    }


def alert(number: int, **fields: Any) -> dict[str, Any]:
    return {
        "alert_id": f"{number:032x}",
        "state": "new",
        "revision": 1,
        "timestamp": NOW_US,
        "alert_created": NOW_US + 2_000_000,
        "rule_id": "4d8f0c6e-0f0a-4a57-9d5e-2a3f8f0c1b11",
        "rule_name": "Many failed logins from one address",
        "rule_version": "7",
        "severity": "high",
        "summary": "25 failed logins of root from 192.0.2.7 within 5 minutes",
        "event_count": 25,
        "first_seen": NOW_US - 300_000_000,
        "last_seen": NOW_US,
        "group_by": {"source_ip": "192.0.2.7"},
        "entities": {"user_name": "root", "source_ip": "192.0.2.7", "host_name": "lb1"},
        "threat_technique_id": ["T1110.001", "T1078"],
        "site": "plant",
        "evidence": [{"event_id": f"{n:032x}-0-0"} for n in range(3)],
        **fields,
    }


_encoders: dict[str, Encoder] = {}


def encode(schema: str, record: dict[str, Any]) -> bytes:
    if schema not in _encoders:
        _encoders[schema] = Encoder(schema)
    return _encoders[schema](record)


def row(topic: str, offset: int, record: dict[str, Any], partition: int = 0) -> Row:
    return Row(topic, partition, offset, NOW_US // 1000, record)


class FakeMessage:
    """As much of a Kafka message as lanes use."""

    def __init__(self, offset: int, value: bytes | None, partition: int = 0) -> None:
        self._offset, self._value, self._partition = offset, value, partition

    def value(self) -> bytes | None:
        return self._value

    def key(self) -> bytes | None:
        return b"key"

    def partition(self) -> int:
        return self._partition

    def offset(self) -> int:
        return self._offset

    def timestamp(self) -> tuple[int, int]:
        return 1, NOW_US // 1000

    def headers(self) -> list[tuple[str, bytes]] | None:
        return None


class FakeDestination:
    """Keeps the ids it accepts; `answer` decides about each call and may raise."""

    name = "fake"

    def __init__(
        self,
        answer: Callable[[str, Sequence[Row]], list[Rejected]] = lambda topic, rows: [],
        *,
        max_rows: int = 100,
        max_bytes: int = 1_000_000,
        max_parallel: int = 1,
    ) -> None:
        self.max_rows, self.max_bytes, self.max_parallel = max_rows, max_bytes, max_parallel
        self.counters = Counters()
        self.answer = answer
        self.accepted: list[str] = []
        self.calls: list[tuple[str, int]] = []
        self.closed = False
        self._lock = threading.Lock()

    def prepare(self, topics: Sequence[str]) -> None:
        pass

    def table(self, topic: str) -> str:
        return f"table-{topic}"

    def send(self, topic: str, rows: Sequence[Row]) -> list[Rejected]:
        with self._lock:
            self.calls.append((topic, len(rows)))
        rejected = self.answer(topic, rows)
        refused = {id(item.row) for item in rejected}
        with self._lock:
            self.accepted += [r.record.get("event_id") or r.record["alert_id"] for r in rows if id(r) not in refused]
        return rejected

    def close(self) -> None:
        self.closed = True
