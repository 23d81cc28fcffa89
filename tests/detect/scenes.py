"""Raw units as devices send them, through the real processors into the whole of detection: what the rules' tests run on."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from functools import cache
from typing import Any, NamedTuple

import orjson
import yaml

from weir.detect.offline import Offline
from weir.detect.reading.loading import DEFAULT_RULES, load_rules
from weir.detect.rules import RuleSet
from weir.model.batch import RawBatch
from weir.processors import beats, syslog
from weir.processors.outcome import Outcome, RawCoordinates

__all__ = [
    "BEGIN",
    "DAY",
    "HOUR",
    "MINUTE",
    "RULE_IDS",
    "Unit",
    "audit",
    "document",
    "esp",
    "eve",
    "every",
    "fired",
    "line",
    "rule_set",
    "zeek",
]

MINUTE, HOUR, DAY = 60.0, 3600.0, 86_400.0
BEGIN = datetime(2026, 11, 25, 10, 0, tzinfo=UTC).timestamp()
"""A Wednesday morning."""

_LONGEST_BATCH_S = 60.0
_BATCH_UNITS = 100


class Unit(NamedTuple):
    """What is sent at a time (seconds since 1970), and by which way."""

    at: float
    data: bytes
    way: str


_PROCESSES: dict[str, Callable[[RawBatch, RawCoordinates], Outcome]] = {"syslog": syslog.make_process(), "beats": beats.process}


def _iso(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def every(seconds: float, count: int, make: Callable[[float, int], Unit], after: float = 0.0) -> list[Unit]:
    """`count` units, so many seconds apart, the first one `after` the begin; `make` is told the time and a number from 1."""
    return [make(BEGIN + after + number * seconds, number + 1) for number in range(count)]


def line(at: float, host: str, program: str, text: str) -> Unit:
    """A syslog line."""
    return Unit(at, f"<134>1 {_iso(at)} {host} {program} - - - {text}".encode(), "syslog")


def audit(
    at: float, operation: str, path: str = "", *, to: str = "", user: str = "EXAMPLE\\mallory", client: str = "10.66.6.6",
    protocol: str = "smb", status: str = "ok",
) -> Unit:  # fmt: skip
    """A Qumulo audit line in CSV."""
    return line(at, "qumulo-1", "qumulo", f'{client},"{user}",{protocol},{operation},{status},4711,"{path}","{to}"')


_CLASSES = {
    "Connection timed out": 3, "Connection failed": 5, "Logged on": 8, "Access Denied": 9, "Request": 11, "Attempt": 12,
}  # fmt: skip


def esp(at: float, event: str, **pairs: object) -> Unit:
    """An ESP event of a LoadMaster in CEF."""
    text = " ".join(f"{key}={value}" for key, value in pairs.items())
    head = f"<134>{datetime.fromtimestamp(at, UTC):%b %d %H:%M:%S} lm-1 "
    return Unit(
        at, f"{head}CEF:0|Kemp|LM|1.0|{_CLASSES[event]}|{event}|0|vs=10.30.0.15:443 event={event} {text}".encode(), "syslog"
    )


def document(at: float, content: dict[str, Any]) -> Unit:
    """A document that a Beat or a sensor posts."""
    return Unit(at, orjson.dumps(content), "beats")


def eve(at: float, event_type: str, **more: Any) -> Unit:
    """A line of Suricata's eve.json as Filebeat ships it."""
    record = {
        "timestamp": _iso(at)[:-1] + "+0000", "flow_id": round(at * 1000), "event_type": event_type, "src_ip": "198.51.100.23",
        "src_port": 51812, "dest_ip": "10.20.0.8", "dest_port": 80, "proto": "TCP",
    } | more  # fmt: skip
    shipped = {"@timestamp": _iso(at), "host": {"name": "ids-1"}, "log": {"file": {"path": "/var/log/suricata/eve.json"}}}
    return document(at, shipped | {"message": orjson.dumps(record).decode()})


def zeek(at: float, path: str, **more: Any) -> Unit:
    """A line of Zeek's JSON logs, with the name of the log in it."""
    return document(at, {"_path": path, "ts": at, "uid": "CaBcDe2aaaaaaaaaa1", "host": {"name": "zeek-1"}} | more)


@cache
def rule_set() -> RuleSet:
    """The rules that come with Weir."""
    return load_rules()


def _names() -> dict[str, str]:
    documents = [
        (path, found)
        for path in sorted(DEFAULT_RULES.rglob("*.yml"))
        for found in yaml.safe_load_all(path.read_text(encoding="utf-8"))
    ]
    return {found["name"]: found["id"] for _, found in documents}


RULE_IDS = _names()
"""Ids of the rules and correlations by name."""


def fired(units: Iterable[Unit]) -> dict[str, list[dict[str, Any]]]:
    """The alerts that units raise, each as it was told last, by name of the rule.

    Raises AssertionError where a unit is not decoded.
    """
    detection = Offline(rule_set())
    names = {identity: name for name, identity in RULE_IDS.items()}
    for offset, (way, batch) in enumerate(_batches(sorted(units))):
        received = round(batch[-1].at * 1e6) + 100_000
        raw = RawBatch(b"%016d" % offset, "here", "r", "udp", "192.0.2.9", 5514, received, [unit.data for unit in batch])
        outcome = _PROCESSES[way](raw, RawCoordinates(f"raw.{way}", 0, offset))
        assert not outcome.dead, outcome.dead
        detection.feed(outcome.events, received, f"raw.{way}", 0, offset)
        for topic in _PROCESSES:
            detection.tick(received, f"raw.{topic}")
    last = {alert["alert_id"]: alert for alert in detection.alerts}
    found: dict[str, list[dict[str, Any]]] = {}
    for alert in last.values():
        found.setdefault(names[alert["rule_id"]], []).append(alert)
    return found


def _batches(units: list[Unit]) -> Iterable[tuple[str, list[Unit]]]:
    """As receivers collect them: of one way, not too many and not for too long."""
    batch: list[Unit] = []
    for unit in units:
        if batch and (unit.way != batch[0].way or len(batch) == _BATCH_UNITS or unit.at - batch[0].at > _LONGEST_BATCH_S):
            yield batch[0].way, batch
            batch = []
        batch.append(unit)
    if batch:
        yield batch[0].way, batch
