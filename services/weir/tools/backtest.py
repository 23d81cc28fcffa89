"""What rules would have told of events of the past: the detection of the services in one process, on what the event topics hold.

Live state is not touched: nothing is written, and the tables are this process's own.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from confluent_kafka import Message

from weir.bus.codec import Decoder, WireFormatError
from weir.detect.offline import Offline
from weir.detect.rules import RuleSet
from weir.detect.signals.pipeline import PIPELINE, Coordinates, Pipeline
from weir.detect.telling.alerts import SEVERITIES
from weir.detect.telling.suppressions import NOTHING, Suppressions
from weir.model.ledger import LedgerEntry
from weir.model.topics import DATASETS, TopicNames
from weir.ops.settings import ServiceSettings
from weir.tools.past import Past
from weir.tools.rules_report import datasets_of

__all__ = ["Backtest", "Reading", "Told", "differences", "run_backtest"]

_SECOND_US: Final = 1_000_000

# Events of so many, or of so long a time of receipt, are merged as one raw batch would be.
_BATCH: Final = 2_000
_BATCH_US: Final = _SECOND_US

# How far behind the latest event's receipt receive time is taken to be: partitions are read side by side, not in step.
_BEHIND_US: Final = 30 * _SECOND_US

# How far past the end it goes on, so that counts of the last alerts are told.
_AFTER_US: Final = 6 * _SECOND_US

# Events written so much later than they were received are still found, as of a processor that was behind.
_SLACK_US: Final = 900 * _SECOND_US

# Event ids that are remembered: a processor that crashed publishes the latest ones again. Of older ones a repeat would count twice.
_REMEMBERED: Final = 1_000_000

# All is taken to come from one raw topic; that of each event stays in its evidence.
_TOPIC: Final = "backtest"

# Alerts of which more than the number is kept.
MAX_ALERTS: Final = 200_000

Record = dict[str, Any]


@dataclass(slots=True)
class Told:
    """One alert as last told. Times in microseconds UTC."""

    rule_id: str
    events: int
    group: tuple[str, ...]
    first: int
    last: int
    summary: str


@dataclass(slots=True)
class Reading:
    """What was read: records of Kafka, events taken, repeats and records of no known format left out."""

    records: int = 0
    events: int = 0
    repeats: int = 0
    unreadable: int = 0
    seconds: float = 0.0
    absent: list[str] = field(default_factory=list)
    stopped: bool = False

    @property
    def rate(self) -> float:
        """Records a second."""
        return self.records / self.seconds if self.seconds else 0.0


class Backtest:
    """One rule set over events in the order of their receipt.

    Args:
        rule_set: what to look for.
        report_from: alerts that begin earlier in receive time, microseconds UTC, are not reported.
        suppressions: alerts that they take are not reported, only counted.

    Attributes:
        alerts: by id, as last told; at most MAX_ALERTS.
        unkept: by rule, further alerts.
        suppressed: ids of alerts that were.
    """

    def __init__(self, rule_set: RuleSet, report_from: int = 0, suppressions: Suppressions = NOTHING) -> None:
        self.rule_set = rule_set
        self.suppressed: set[str] = set()
        self._suppressing = suppressions.suppressing
        self.alerts: dict[str, Told] = {}
        self.unkept: dict[str, int] = {}
        self._early: set[str] = set()
        self._report_from = report_from
        self._announced = {c.id for c in rule_set.correlations if c.announce}
        self._offline = Offline(rule_set, on_alert=self._alert)
        self._batch: dict[str, list[Record]] = {}
        self._size = self._number = 0
        self._begun = self._latest = 0

    def add(self, dataset: str, record: Record, received: int) -> None:
        """One event, received at this time, microseconds UTC."""
        if self._size and (self._size == _BATCH or received - self._begun > _BATCH_US):
            self._feed()
        if not self._size:
            self._begun = received
        self._batch.setdefault(dataset, []).append(record)
        self._size += 1
        self._latest = max(self._latest, received)

    def finish(self, now: int) -> None:
        """No more events come; time goes on to `now`, microseconds UTC, and a few seconds further."""
        self._feed()
        end = max(now, self._latest)
        self._offline.tick(end, _TOPIC)
        self._offline.tick(end + _AFTER_US, _TOPIC)

    def _feed(self) -> None:
        if not self._size:
            return
        self._offline.feed(self._batch, self._latest, _TOPIC, 0, self._number)
        self._offline.tick(self._latest - _BEHIND_US, _TOPIC)
        self._number += 1
        self._batch, self._size = {}, 0

    def _alert(self, alert: Record) -> None:
        alert_id = alert["alert_id"]
        if alert["rule_id"] not in self._announced:
            return
        if self._suppressing(alert) is not None:
            self.suppressed.add(alert_id)
            return
        told = self.alerts.get(alert_id)
        if told is None:
            if alert_id in self._early or alert["alert_created"] < self._report_from:
                self._early.add(alert_id)
                return
            if len(self.alerts) >= MAX_ALERTS:
                self.unkept[alert["rule_id"]] = self.unkept.get(alert["rule_id"], 0) + (alert["revision"] == 1)
                return
        group = tuple(alert["group_by"].values())
        self.alerts[alert_id] = Told(
            alert["rule_id"], alert["event_count"], group, alert["first_seen"], alert["last_seen"], alert["summary"]
        )

    def rows(self) -> list[dict[str, Any]]:
        """What each rule that alerts would have told, the gravest and most frequent first; those that told nothing as well."""
        by_rule: dict[str, list[Told]] = {}
        for told in self.alerts.values():
            by_rule.setdefault(told.rule_id, []).append(told)
        rows = []
        for correlation in self.rule_set.correlations:
            if not correlation.announce:
                continue
            alerts = by_rule.get(correlation.id, [])
            most = max(alerts, key=lambda told: told.events, default=None)
            rows.append(
                {
                    "rule_id": correlation.id,
                    "title": correlation.title,
                    "level": correlation.level,
                    "alerts": len(alerts) + self.unkept.get(correlation.id, 0),
                    "events": sum(told.events for told in alerts),
                    "groups": len({told.group for told in alerts}),
                    "first": min((told.first for told in alerts), default=None),
                    "last": max((told.last for told in alerts), default=None),
                    "sample": most.summary if most is not None else "",
                }
            )
        return sorted(rows, key=lambda row: (-SEVERITIES.get(row["level"], 3), -row["alerts"], row["title"]))


def differences(old: Backtest, new: Backtest) -> list[dict[str, Any]]:
    """Rules whose alerts differ, by id: numbers of alerts and events of both, and alerts that only one of them told."""
    before, after = ({row["rule_id"]: row for row in one.rows()} for one in (old, new))
    rows = []
    for rule_id in dict.fromkeys([*after, *before]):
        ids = [{key for key, told in one.alerts.items() if told.rule_id == rule_id} for one in (old, new)]
        counts = [{key: one.alerts[key].events for key in found} for one, found in zip((old, new), ids, strict=True)]
        if counts[0] == counts[1] and (rule_id in before) == (rule_id in after):
            continue
        known = after.get(rule_id) or before[rule_id]
        only_old, only_new = ids[0] - ids[1], ids[1] - ids[0]
        rows.append(
            {
                "rule_id": rule_id,
                "title": known["title"],
                "level": known["level"],
                "in": "both" if rule_id in before and rule_id in after else "old" if rule_id in before else "new",
                "alerts_old": before.get(rule_id, {}).get("alerts", 0),
                "alerts_new": after.get(rule_id, {}).get("alerts", 0),
                "events_old": before.get(rule_id, {}).get("events", 0),
                "events_new": after.get(rule_id, {}).get("events", 0),
                "only_old": len(only_old),
                "only_new": len(only_new),
                "sample_old": old.alerts[min(only_old)].summary if only_old else "",
                "sample_new": new.alerts[min(only_new)].summary if only_new else "",
            }
        )
    return rows


class _Records:
    """What a record of Kafka holds for the rules: an event, or of the ledger what `signals.pipeline` makes of an entry."""

    def __init__(self, names: TopicNames) -> None:
        self._names, self._ledger = names, names["ledger"]
        self._decode = Decoder()
        self._pipelines: dict[int, Pipeline] = {}

    def __call__(self, message: Message) -> tuple[str, list[Record]]:
        """Dataset and records. Raises WireFormatError for what is neither."""
        name, record = self._decode.named(message.value(), message.headers())
        if message.topic() != self._ledger:
            if name not in DATASETS:
                raise WireFormatError(f"{name} is no event")
            return name, [record]
        if name != "ledger-entry":
            raise WireFormatError(f"{name} is no entry of the ledger")
        where = Coordinates(self._ledger, int(message.partition() or 0), int(message.offset() or 0))
        pipeline = self._pipelines.setdefault(where.partition, Pipeline(self._names))
        return PIPELINE, pipeline.records(LedgerEntry.from_record(record), where)


def run_backtest(
    settings: ServiceSettings,
    tests: list[Backtest],
    since: int,
    until: int,
    progress: Callable[[int, int], None] = lambda done, of: None,
) -> Reading:
    """Give the events that were received from `since` to before `until`, microseconds UTC, to each of the tests.

    Args:
        settings: brokers, prefix.
        tests: only topics of datasets that their rules look at are read.
        since: begin.
        until: end.
        progress: called with the number of records read and of all.

    Returns:
        What was read. Interrupted from the keyboard, it is what was read until then.

    Raises:
        TopicsUnavailable: no broker answers, there is no such topic, or reading breaks off.
    """
    datasets = {name for test in tests for c in test.rule_set.correlations for name in datasets_of(c, test.rule_set)}
    names = TopicNames(settings.topic_prefix)
    topics = [names["ledger"] if one == PIPELINE else names[f"events.{one}"] for one in sorted(datasets)]
    began = time.monotonic()
    reading = Reading()
    past = Past(settings, topics, since // 1000, -(-until // 1000), _SLACK_US // 1000)
    reading.absent = past.absent
    records_of = _Records(names)
    seen: OrderedDict[str, None] = OrderedDict()
    reached = since
    try:
        for number, message in enumerate(past):
            if not number % 500:
                progress(past.read, past.total)
            received = message.timestamp()[1] * 1000
            try:
                dataset, records = records_of(message)
            except WireFormatError:
                reading.unreadable += 1
                continue
            reached = max(reached, received)
            for record in records:
                event_id = record["event_id"]
                if event_id in seen:
                    reading.repeats += 1
                    continue
                seen[event_id] = None
                if len(seen) > _REMEMBERED:
                    seen.popitem(last=False)
                reading.events += 1
                for test in tests:
                    test.add(dataset, record, received)
        reached = until
    except KeyboardInterrupt:
        reading.stopped = True
    finally:
        reading.records = past.read
        past.close()
    for test in tests:
        test.finish(reached)
    progress(past.read, past.total)
    reading.seconds = time.monotonic() - began
    return reading
