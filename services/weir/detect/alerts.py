"""Alert records (schema alert.v1) of a correlation's bursts."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

from weir.detect.rules import Correlation

if TYPE_CHECKING:
    from weir.detect.kinds.state import Episode, GroupState

__all__ = ["SEVERITIES", "Origin", "alert_record", "condition_text"]

SEVERITIES = {"informational": 1, "low": 2, "medium": 3, "high": 4, "critical": 5}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Origin(NamedTuple):
    """Who detects: site and name of the service, version of its rule set."""

    site: str = ""
    detector: str = ""
    rule_version: str = ""


def alert_record(
    correlation: Correlation, state: GroupState, episode: Episode, count: int, alert_state: str, origin: Origin
) -> dict[str, Any]:
    """The alert of a burst as it stands, with `count` events; `alert_state` is new, update or closed."""
    group_by = dict(zip(correlation.group_by, state.group, strict=False))
    return {
        "alert_id": episode.alert_id,
        "state": alert_state,
        "revision": episode.revision,
        "timestamp": episode.last,
        "alert_created": episode.created,
        "rule_id": correlation.id,
        "rule_name": correlation.title,
        "rule_description": correlation.description,
        "rule_version": origin.rule_version,
        "severity": correlation.level,
        "event_severity": SEVERITIES.get(correlation.level, 3),
        "summary": _summary(correlation, group_by, episode, count, alert_state),
        "event_count": count,
        "first_seen": episode.first,
        "last_seen": episode.last,
        "group_by": group_by,
        "entities": episode.entities,
        "threat_tactic": list(correlation.tactics),
        "threat_technique_id": list(correlation.techniques),
        "false_positives": list(correlation.false_positives),
        "site": origin.site,
        "detector": origin.detector,
        "evidence": list(episode.evidence),
        "samples": list(episode.samples),
        "correlation_type": correlation.kind,
        "measured": float(count),
        "condition": condition_text(correlation),
        "rule_author": correlation.author,
        "rule_reference": list(correlation.references),
    }


_SIGNS = {"gt": ">", "gte": ">=", "lt": "<", "lte": "<=", "eq": "=", "neq": "!="}


def condition_text(correlation: Correlation) -> str:
    """What the correlation compares with, such as `>= 100`."""
    condition = correlation.condition
    return f"{_SIGNS[condition.op]} {condition.number:g}"


def _summary(correlation: Correlation, group_by: dict[str, str], episode: Episode, count: int, alert_state: str) -> str:
    whom = ", ".join(f"{name} {value or '(none)'}" for name, value in group_by.items())
    shown = set(group_by.values())
    others = ", ".join(
        f"{name.replace('_', ' ')} {value}" for name, value in episode.entities.items() if value not in shown and name != "file"
    )
    seconds = max(1, round((episode.last - episode.first) / 1_000_000))
    span = f"{seconds} s" if seconds < 120 else f"{round(seconds / 60)} min"
    text = f"{correlation.title}: {count} events within {span}"
    text += f" for {whom}" if whom else ""
    text += f" ({others})" if others else ""
    over = "; it is over" if alert_state == "closed" else ""
    return f"{text}, from {_clock(episode.first)} to {_clock(episode.last)} UTC{over}."


def _clock(time_us: int) -> str:
    try:
        return (_EPOCH + timedelta(microseconds=time_us)).strftime("%Y-%m-%d %H:%M:%S")
    except OverflowError:
        return f"{time_us} µs"
