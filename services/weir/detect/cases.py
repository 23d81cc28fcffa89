"""The test cases that rule files carry, and running them.

Of a rule: one event and whether it matches.

    - {name: …, expect: match | none, event: {event_action: fs_delete, …}}

Of a correlation: series of events, and whether an alert is raised. Each series begins at the same time; `repeat` events (1 unless
given) follow each other at `every_ms` milliseconds (1,000). `count` is the final number of events in the alert, where it matters.

    - {name: …, expect: alert | none, count: 500, events: [{repeat: 500, every_ms: 100, event: {…}}]}

Events are given by record fields (`event_action`) or Sigma field names (`event.action`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from weir.detect.kinds.common import ALLOWED_LATENESS_US
from weir.detect.offline import Offline
from weir.detect.rules import Correlation, Rule, RuleSet

__all__ = ["CaseResult", "run_cases"]

_BEGIN_US = 1_700_000_000_000_000
_BATCH = 100
MAX_CASE_EVENTS = 100_000


@dataclass(frozen=True, slots=True)
class CaseResult:
    """One case: `failure` is empty where it went as expected."""

    rule: str
    name: str
    failure: str


def run_cases(rule_set: RuleSet) -> list[CaseResult]:
    """Run the test cases of every rule and correlation."""
    results = [_rule_case(rule, case) for rule in rule_set.rules for case in rule.tests if "events" not in case]
    results += [_correlation_case(rule_set, c, case) for c in rule_set.correlations for case in c.tests]
    return results


def _rule_case(rule: Rule, case: dict[str, Any]) -> CaseResult:
    name, expect = str(case.get("name", "")), case.get("expect")
    if expect not in {"match", "none"} or not isinstance(case.get("event"), dict):
        return CaseResult(rule.title, name, "a rule's case needs expect: match or none, and an event")
    matched = _matches(rule, _record(case["event"], 0, _BEGIN_US))
    return CaseResult(rule.title, name, "" if matched == (expect == "match") else f"expected {expect}, matched: {matched}")


def _correlation_case(rule_set: RuleSet, correlation: Correlation, case: dict[str, Any]) -> CaseResult:
    name, expect = str(case.get("name", "")), case.get("expect")
    series = case.get("events")
    if expect not in {"alert", "none"} or not isinstance(series, list) or not all(isinstance(s, dict) for s in series):
        return CaseResult(correlation.title, name, "a correlation's case needs expect: alert or none, and a list of events")
    records: list[tuple[str, dict[str, Any]]] = []
    default = next(iter(correlation.members[0].sources))
    for entry in series:
        for i in range(int(entry.get("repeat", 1))):
            if len(records) == MAX_CASE_EVENTS:
                return CaseResult(correlation.title, name, f"a case has at most {MAX_CASE_EVENTS} events")
            time = _BEGIN_US + i * int(entry.get("every_ms", 1000)) * 1000
            records.append((entry.get("dataset", default), _record(entry.get("event", {}), len(records), time)))
    records.sort(key=lambda found: found[1]["timestamp"])
    alerts = _alerts(rule_set, correlation, records)
    final = {alert["alert_id"]: alert["event_count"] for alert in alerts}
    failure = ""
    if bool(final) != (expect == "alert"):
        failure = f"expected {expect}, got {len(final)} alerts"
    elif final and "count" in case and list(final.values()) != [case["count"]]:
        failure = f"expected one alert of {case['count']} events, got {list(final.values())}"
    return CaseResult(correlation.title, name, failure)


def _alerts(rule_set: RuleSet, correlation: Correlation, records: list[tuple[str, dict[str, Any]]]) -> list[dict[str, Any]]:
    detection = Offline(rule_set)
    detection.tick(_BEGIN_US)
    received = _BEGIN_US
    for number in range(0, len(records), _BATCH):
        batch: dict[str, list[dict[str, Any]]] = {}
        for dataset, record in records[number : number + _BATCH]:
            batch.setdefault(dataset, []).append(record)
            received = record["timestamp"]
        detection.feed(batch, received, raw_offset=number)
        detection.tick(received)
    detection.tick(received + correlation.timespan_us + ALLOWED_LATENESS_US + 1)
    return [alert for alert in detection.alerts if alert["rule_id"] == correlation.id]


def _matches(rule: Rule, record: dict[str, Any]) -> bool:
    return any(variant.matches(record) for variant in rule.variants)


def _record(fields: dict[str, Any], number: int, time_us: int) -> dict[str, Any]:
    record = {name.replace(".", "_"): value for name, value in fields.items()}
    raw = {"raw_topic": "raw", "raw_partition": 0, "raw_offset": number // _BATCH}
    return {"timestamp": time_us, "event_created": time_us, **raw, **record, "event_id": f"{'0' * 32}-{number}-0"}
