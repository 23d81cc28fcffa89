"""The test cases that rule files carry, and running them.

Of a rule: one event and whether it matches. `dataset` where the rule's log source speaks of several and only one is meant.

    - {name: …, expect: match | none, event: {event.action: fs_delete, …}}

Of a correlation, and of a rule that alerts by itself: series of events, and whether an alert is raised.

    - name: fifty ports in five seconds
      expect: alert                         # or none
      count: 50                             # final number of events of the alert, where it matters
      entities: {source_address: 10.0.0.5}  # what it names, as far as given
      events:
        - {repeat: 50, every: 100ms, event: {source.ip: 10.0.0.5, destination.port: '{n:1-1024}'}}
        - {after: 8d, dataset: ids-alert, event: {source.ip: 10.0.0.5}}
        - {silence: 20m}

Each series begins with the case, or `after` that; `repeat` events (1 unless given) follow each other at `every` (a span of time; or
`every_ms`, a number of milliseconds; a second unless given). The series of a case run side by side. `silence` lets time pass at
the end, exactly so long; without it as much passes as it takes to tell final counts, but none for `absence`. A case begins on a
Wednesday at ten o'clock UTC, or at the time that it gives as `begin`.

Beside `count` and `entities` a case may give `values` (some of those counted), `measured` (what the condition compared) and `state`
(new, update or closed) of the alert, and `alerts`, how many there are. Where the alert is described, there must be one, unless
`alerts` says another number; then one of them must be as described.

Fields are named as in rules (`event.action`, `cef.extensions.cs1`) or in records (`event_action`). In a text `{n}` is the running
number of the event in its series, from 1; `{n:100-199}` runs from 100 to 199 and begins again. A value `{one_of: [a, b]}` is each
of the list in turn. Values are brought to the type of their field; what no record could hold is a mistake of the case.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from weir.detect.case_events import BATCH_EVENTS, CaseError, Series, duration_us, make_record, read_series, time_us
from weir.detect.kinds.common import ALLOWED_LATENESS_US
from weir.detect.offline import Offline, subset
from weir.detect.rules import Correlation, Rule, RuleSet

__all__ = ["Case", "CaseResult", "cases_of", "run_case", "run_cases"]

Record = dict[str, Any]

# 2023-11-15 10:00 UTC, a Wednesday: no rule on the hour or day is met by chance, and slices of all widths begin here.
_BEGIN_US = 1_700_042_400_000_000
# Longest that a batch collects. Real receivers do so for a second at most; what is learned over days is learned more quickly so.
_BATCH_SPAN_US = 5_000_000
# More and the case is refused: a rule file is not the place for load tests.
MAX_CASE_EVENTS = 100_000
_SHOWN = 5
_CASE_KEYS = {"name", "expect", "begin", "events", "count", "entities", "values", "measured", "state", "alerts"}
_DESCRIBES = ("count", "entities", "values", "measured", "state")


@dataclass(frozen=True, slots=True)
class Case:
    """A test case of a rule or correlation, as it stands in the file."""

    of: Rule | Correlation
    name: str
    spec: dict[str, Any]


@dataclass(frozen=True, slots=True)
class CaseResult:
    """One case: `failure` is empty where it went as expected; else `came` are the summaries of the alerts there were, if any."""

    rule: str
    name: str
    failure: str
    file: str = ""
    line: int = 0
    came: tuple[str, ...] = ()


def cases_of(rule_set: RuleSet) -> list[Case]:
    """The test cases of every rule and correlation."""
    alone = {c.id for c in rule_set.correlations if any(m.id == c.id for m in c.members)}
    found: list[tuple[Rule | Correlation, dict[str, Any]]] = []
    for rule in rule_set.rules:
        # Series of a rule that alerts by itself are its correlation's.
        found += [
            (rule, spec) for spec in rule.tests if "events" not in spec or rule.id not in alone or spec.get("expect") == "match"
        ]
    for correlation in rule_set.correlations:
        found += [(correlation, spec) for spec in correlation.tests]
    return [Case(of, str(spec.get("name", "")), spec) for of, spec in found]


def run_cases(rule_set: RuleSet) -> list[CaseResult]:
    """Run the test cases of every rule and correlation."""
    return [run_case(rule_set, case) for case in cases_of(rule_set)]


def run_case(rule_set: RuleSet, case: Case) -> CaseResult:
    """Run one test case of this rule set."""
    came: tuple[str, ...] = ()
    try:
        if isinstance(case.of, Rule):
            failure = _rule_case(case.of, case.spec)
        else:
            alerts = _alerts(rule_set, case.of, case.spec)
            failure = _difference(case.spec, alerts)
            came = tuple(str(alert["summary"]) for alert in alerts[:_SHOWN]) if failure else ()
    except CaseError as error:
        failure = str(error)
    return CaseResult(case.of.title, case.name, failure, case.of.file, case.of.line, came)


def _rule_case(rule: Rule, spec: dict[str, Any]) -> str:
    expect, event = spec.get("expect"), spec.get("event")
    if "events" in spec:
        raise CaseError("events need expect: alert or none, and a rule that alerts: this one may count in a correlation alone")
    if expect not in {"match", "none"} or not isinstance(event, dict):
        raise CaseError("a rule's case needs expect: match or none, and an event")
    if unknown := sorted(set(spec) - {"name", "expect", "event", "dataset"}):
        raise CaseError(f"unknown {', '.join(unknown)}; a rule's case has name, expect, event and dataset")
    variants = [v for v in rule.variants if spec.get("dataset") in {None, v.dataset}]
    if not variants:
        raise CaseError(
            f"dataset: the rule does not speak of {spec['dataset']} but of {', '.join(v.dataset for v in rule.variants)}"
        )
    matched, mistakes = False, []
    for variant in variants:
        try:
            record = make_record(variant.dataset, event, 0, 0, _BEGIN_US, [variant.record_field])
        except CaseError as error:
            mistakes.append(error)
            continue
        matched = matched or variant.matches(record)
    if len(mistakes) == len(variants):
        raise mistakes[0]
    if matched == (expect == "match"):
        return ""
    return "expected a match, there is none" if expect == "match" else "expected no match, it matches"


def _alerts(rule_set: RuleSet, correlation: Correlation, spec: dict[str, Any]) -> list[Record]:
    """The last record of each alert that the case's events raise, in the order of their first."""
    if spec.get("expect") not in {"alert", "none"} or not isinstance(spec.get("events"), list):
        raise CaseError("a correlation's case needs expect: alert or none, and a list of events")
    if unknown := sorted(set(spec) - _CASE_KEYS):
        raise CaseError(f"unknown {', '.join(unknown)}; a correlation's case has {', '.join(sorted(_CASE_KEYS))}")
    begin = time_us(spec["begin"], "begin") if "begin" in spec else _BEGIN_US
    # Other rules would only cost time. One that only counts in others has cases too.
    needed = subset(rule_set, [correlation])
    needed = replace(
        needed, correlations=tuple(replace(c, announce=c.announce or c.id == correlation.id) for c in needed.correlations)
    )
    series, silence = _series(spec["events"], correlation, needed)
    events = _events(series, begin, needed)
    detection = Offline(needed)
    detection.tick(begin)
    now = begin
    for number, (received, batch) in enumerate(_batches(events)):
        detection.tick(next(iter(batch.values()))[0]["event_created"])
        detection.feed(batch, received, raw_offset=number)
        now = received
    if silence is not None:
        now += silence
    detection.tick(now)
    if silence is None and all(c.kind != "absence" for c in needed.correlations):
        for inner in needed.correlations:
            now += 2 * inner.timespan_us + ALLOWED_LATENESS_US + 1
            detection.tick(now)
    final = {alert["alert_id"]: alert for alert in detection.alerts if alert["rule_id"] == correlation.id}
    return list(final.values())


def _series(entries: list[Any], correlation: Correlation, needed: RuleSet) -> tuple[list[Series], int | None]:
    first = next(source for c in needed.correlations for m in c.members if m.rule for source in m.sources)
    default = next((source for m in correlation.members if m.rule for source in m.sources), first)
    series, silence = [], None
    for entry in entries:
        if not isinstance(entry, dict):
            raise CaseError(f"events: {entry!r} is no series; it is a mapping with an event, or with silence")
        if set(entry) == {"silence"}:
            silence = (silence or 0) + duration_us(entry["silence"], "silence")
        else:
            series.append(read_series(entry, default))
    if sum(one.repeat for one in series) > MAX_CASE_EVENTS:
        raise CaseError(f"events: a case has at most {MAX_CASE_EVENTS}")
    return series, silence


def _events(series: list[Series], begin: int, needed: RuleSet) -> list[tuple[str, Record]]:
    """The events of all series by time; those at one time in the order of the series."""
    names: dict[str, list[Callable[[str], str]]] = {}
    for correlation in needed.correlations:
        for member in correlation.members:
            for variant in member.rule.variants if member.rule else ():
                names.setdefault(variant.dataset, []).append(variant.record_field)
    due = sorted((begin + s.after + i * s.every, n, i) for n, s in enumerate(series) for i in range(s.repeat))
    return [
        (series[n].dataset, make_record(series[n].dataset, series[n].event, index, number, at, names.get(series[n].dataset, ())))
        for number, (at, n, index) in enumerate(due)
    ]


def _batches(events: list[tuple[str, Record]]) -> Iterator[tuple[int, dict[str, list[Record]]]]:
    """Events as raw batches bring them, with the receive time of each: that of its last event."""
    batch: dict[str, list[Record]] = {}
    begun = last = size = 0
    for dataset, record in events:
        at = record["event_created"]
        if batch and (size == BATCH_EVENTS or at - begun > _BATCH_SPAN_US):
            yield last, batch
            batch, size = {}, 0
        if not batch:
            begun = at
        batch.setdefault(dataset, []).append(record)
        last, size = at, size + 1
    if batch:
        yield last, batch


def _difference(spec: dict[str, Any], alerts: list[Record]) -> str:
    """What is not as expected; empty where all is."""
    if spec["expect"] == "none":
        return f"expected no alert, {len(alerts)} came" if alerts else ""
    described = any(key in spec for key in _DESCRIBES)
    if not alerts:
        return "expected an alert, none came"
    wanted = spec.get("alerts", 1 if described else None)
    if wanted is not None and len(alerts) != wanted:
        return f"expected {wanted} alert{'' if wanted == 1 else 's'}, {len(alerts)} came"
    differences = [_unlike(spec, alert) for alert in alerts]
    return "" if "" in differences else differences[0]


def _unlike(spec: dict[str, Any], alert: Record) -> str:
    pairs = [("count", alert["event_count"]), ("measured", alert["measured"]), ("state", alert["state"])]
    found = [f"{key} {spec[key]}, got {got}" for key, got in pairs if key in spec and spec[key] != got]
    for name, value in spec.get("entities", {}).items():
        got = alert["entities"].get(name)
        if str(value) not in {got, *alert["related"].get(name, ())}:
            found.append(f"entity {name} {value}, got {got if got is not None else 'none of that name'}")
    if missing := [str(value) for value in spec.get("values", ()) if str(value) not in alert["values"]]:
        found.append(f"values {', '.join(missing)}, got {', '.join(alert['values']) or 'none'}")
    return f"expected {'; '.join(found)}" if found else ""
