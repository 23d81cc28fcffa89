"""Alert records (schema alert) of what the kinds of correlations have to tell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from weir.detect.rules import Correlation

__all__ = ["SEVERITIES", "Origin", "Told", "alert_record", "condition_text"]

SEVERITIES = {"informational": 1, "low": 2, "medium": 3, "high": 4, "critical": 5}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Origin(NamedTuple):
    """Who detects: site and name of the service, version of its rule set."""

    site: str = ""
    detector: str = ""
    rule_version: str = ""


class Told(NamedTuple):
    """What a kind of correlation has to tell of one alert, as it stands. Times are microseconds UTC.

    Attributes:
        alert_id: the same for the same happening for ever.
        state: new, update or closed.
        revision: grows with each record of the alert.
        group: values of the group-by, in its order.
        events: how many matched.
        first: earliest event time.
        last: latest event time.
        created: receive time that this is told at.
        measured: what the condition compared, where that is not the count.
        sentence: what happened, for the summary, where "N events" does not say it: `first seen from 10.1.2.3`.
        values: some of the distinct values counted.
        entities: by name, one value each.
        related: by name of the entity, all values seen.
        evidence: event ids and raw coordinates.
        samples: events as JSON.
        datasets: of the events.
        member_alerts: alert ids that it was made of.
    """

    alert_id: str
    state: str
    revision: int
    group: tuple[str, ...]
    events: int
    first: int
    last: int
    created: int
    measured: float | None = None
    sentence: str = ""
    values: Sequence[str] = ()
    entities: Mapping[str, str] = {}
    related: Mapping[str, Sequence[str]] = {}
    evidence: Sequence[Mapping[str, Any]] = ()
    samples: Sequence[str] = ()
    datasets: Sequence[str] = ()
    member_alerts: Sequence[str] = ()


def alert_record(correlation: Correlation, told: Told, origin: Origin) -> dict[str, Any]:
    """The alert's record (schema alert)."""
    group_by = dict(zip(correlation.group_by, told.group, strict=False))
    return {
        "alert_id": told.alert_id,
        "state": told.state,
        "revision": told.revision,
        "timestamp": told.last,
        "alert_created": told.created,
        "rule_id": correlation.id,
        "rule_name": correlation.title,
        "rule_description": correlation.description,
        "rule_version": origin.rule_version,
        "severity": correlation.level,
        "event_severity": SEVERITIES.get(correlation.level, 3),
        "summary": _summary(correlation, group_by, told),
        "event_count": told.events,
        "first_seen": told.first,
        "last_seen": told.last,
        "group_by": group_by,
        "entities": dict(told.entities),
        "threat_tactic": list(correlation.tactics),
        "threat_technique_id": list(correlation.techniques),
        "false_positives": list(correlation.false_positives),
        "site": origin.site,
        "detector": origin.detector,
        "evidence": list(told.evidence),
        "samples": list(told.samples),
        "correlation_type": correlation.kind,
        "measured": float(told.events if told.measured is None else told.measured),
        "condition": condition_text(correlation),
        "values": list(told.values),
        "related": {name: list(values) for name, values in told.related.items()},
        "member_alerts": list(told.member_alerts),
        "datasets": list(told.datasets),
        "rule_author": correlation.author,
        "rule_reference": list(correlation.references),
    }


_SIGNS = {"gt": ">", "gte": ">=", "lt": "<", "lte": "<=", "eq": "=", "neq": "!="}


def condition_text(correlation: Correlation) -> str:
    """What the correlation compares with, such as `>= 100`."""
    condition = correlation.condition
    return f"{_SIGNS[condition.op]} {condition.number:g}"


def _summary(correlation: Correlation, group_by: Mapping[str, str], told: Told) -> str:
    whom = ", ".join(f"{name} {value or '(none)'}" for name, value in group_by.items())
    shown = set(group_by.values())
    others = ", ".join(
        f"{name.replace('_', ' ')} {value}" for name, value in told.entities.items() if value not in shown and name != "file"
    )
    seconds = max(1, round((told.last - told.first) / 1_000_000))
    span = f"{seconds} s" if seconds < 120 else f"{round(seconds / 60)} min"
    text = f"{correlation.title}: {told.sentence or f'{told.events} events within {span}'}"
    text += f" for {whom}" if whom else ""
    text += f" ({others})" if others else ""
    over = "; it is over" if told.state == "closed" else ""
    return f"{text}, from {_clock(told.first)} to {_clock(told.last)} UTC{over}."


def _clock(time_us: int) -> str:
    try:
        return (_EPOCH + timedelta(microseconds=time_us)).strftime("%Y-%m-%d %H:%M:%S")
    except OverflowError:
        return f"{time_us} µs"
