"""Alert records (schema alert) of what the kinds of correlations have to tell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any, Final, NamedTuple

from weir.detect.reading.attack import FRAMEWORK, tactic_id, technique_name
from weir.detect.rules import Correlation
from weir.detect.telling.sentences import condition_text, summary
from weir.model.entities import ENTITIES

__all__ = ["MAX_RELATED", "SEVERITIES", "Origin", "Told", "alert_record", "relate"]

SEVERITIES: Final = {"informational": 1, "low": 2, "medium": 3, "high": 4, "critical": 5}

MAX_RELATED: Final = 50
"""Values of one entity that an alert names. What comes after them is counted in the alert and not named."""

# ASIM AlertEvent 0.1. Weir says what it knows: nobody has judged an alert when it is raised.
_UNJUDGED: Final = "Unknown"
_LEARNT: Final = frozenset({"first_seen", "beacon", "absence", "baseline"})


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
        measured: what the condition compared, where that is not the count: distinct values, a sum, an average, members seen.
        sentence: what happened, for the summary, where `sentences.what_happened` cannot say it from the other attributes: a clause
            without whom and without when, such as `first seen from 10.1.2.3`.
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


def relate(related: dict[str, list[str]], entities: Mapping[str, str]) -> None:
    """Add what one more partial names to an alert's related entities, up to MAX_RELATED values of each."""
    for name, value in entities.items():
        values = related.setdefault(name, [])
        if len(values) < MAX_RELATED and value not in values:
            values.append(value)


def alert_record(correlation: Correlation, told: Told, origin: Origin) -> dict[str, Any]:
    """The alert's record (schema alert)."""
    group_by = dict(zip(correlation.group_by, told.group, strict=False))
    related = {name: list(dict.fromkeys(values))[:MAX_RELATED] for name, values in told.related.items()}
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
        "summary": summary(correlation, group_by, told),
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
        "related": related,
        "member_alerts": list(told.member_alerts),
        "datasets": list(told.datasets),
        "rule_author": correlation.author,
        "rule_reference": list(correlation.references),
        "timespan_seconds": correlation.timespan_us // 1_000_000,
        **_attack(correlation),
        **_asim(correlation, told, group_by),
        **_related_fields(told.entities, related),
    }


def _attack(correlation: Correlation) -> dict[str, Any]:
    return {
        "threat_framework": FRAMEWORK if correlation.tactics or correlation.techniques else "",
        # In the order of the tactics and techniques; "" where there is no id or name.
        "threat_tactic_id": [tactic_id(name) for name in correlation.tactics],
        "threat_technique_name": [technique_name(technique) for technique in correlation.techniques],
    }


def _asim(correlation: Correlation, told: Told, group_by: Mapping[str, str]) -> dict[str, str]:
    learnt = correlation.kind in _LEARNT
    intrusion = set(told.datasets) == {"ids-alert"}
    subject = [name for name, value in told.entities.items() if value in group_by.values()]
    indicators = (ENTITIES[name].indicator for name in chain(subject, told.entities) if name in ENTITIES)
    return {
        "alert_status": "Closed" if told.state == "closed" else "Active",
        "alert_verdict": _UNJUDGED,
        "event_subtype": "Anomaly" if learnt else "Suspicious Activity",
        "detection_method": "Behavioral Analytics" if learnt else "Intrusion Detection" if intrusion else "Other",
        "indicator_type": next((found for found in indicators if found), ""),
    }


def _related_fields(entities: Mapping[str, str], related: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """ECS's related.*: all addresses, users, hosts and hashes that the alert names, each once."""
    found: dict[str, dict[str, None]] = {"Ip": {}, "User": {}, "Host": {}, "File": {}}
    for name in dict.fromkeys([*entities, *related]):
        kind = ENTITIES[name].indicator if name in ENTITIES else ""
        if kind in found and (kind != "File" or name == "hash"):
            found[kind].update(dict.fromkeys([*((entities[name],) if name in entities else ()), *related.get(name, ())]))
    names = {"Ip": "related_ip", "User": "related_user", "Host": "related_hosts", "File": "related_hash"}
    return {names[kind]: list(values)[:MAX_RELATED] for kind, values in found.items()}
