"""Why a rule matches an event or does not: its condition as a tree, with what holds and what the event has instead.

Every part of a rule is judged by the very matcher that the processors use: it is compiled as a rule of its own.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import orjson
from sigma.conditions import ConditionAND, ConditionIdentifier, ConditionNOT, ConditionOR, ConditionSelector
from sigma.exceptions import SigmaError
from sigma.rule import SigmaDetection, SigmaDetectionItem, SigmaDetections, SigmaRule

from weir.detect.matching.fields import getter
from weir.detect.matching.index import Index
from weir.detect.matching.matcher import Names, UnsupportedError, compile_rule, within
from weir.detect.reading.logsources import LogSource, datasets_of
from weir.detect.reading.placeholders import NO_PLACEHOLDERS, Placeholders
from weir.detect.rules import Correlation, Rule, RuleSet, Variant
from weir.detect.signals.partials import group_text
from weir.detect.telling.sentences import condition_text
from weir.enrich.filters.rules import fields_of
from weir.model.topics import DATASETS
from weir.tools.filter_trial import as_read

__all__ = ["Node", "Verdict", "counts_in", "explain", "of_correlation", "read_events", "verdicts"]

Record = dict[str, Any]

_PART = "part"
# Holds for every event, so that what a log source asks for can be judged alone.
_ALWAYS = "{title: always, logsource: {product: any}, detection: {none: {event_id: 0, event_kind: 1}, condition: not none}}"
_VALUES = 8
_CHARACTERS = 120


@dataclass(frozen=True, slots=True)
class Node:
    """A part of a rule: what it says, whether it holds, and what the event has. `links` says how its parts go together."""

    text: str
    holds: bool
    has: str = ""
    links: str = ""
    parts: tuple[Node, ...] = ()

    def failing(self) -> Iterator[Node]:
        """The smallest parts that keep this one from holding."""
        if self.holds:
            return
        below = [leaf for part in self.parts for leaf in part.failing()]
        yield from below or [self]

    def to_record(self) -> dict[str, Any]:
        """For JSON."""
        found: dict[str, Any] = {"text": self.text, "holds": self.holds}
        if self.has:
            found["has"] = self.has
        if self.parts:
            found |= {"links": self.links, "parts": [part.to_record() for part in self.parts]}
        return found


@dataclass(frozen=True, slots=True)
class Verdict:
    """A rule in the dataset of an event, and whether it matches it; `tried` where the index of the processors proposes it."""

    rule: Rule
    variant: Variant
    tried: bool
    matches: bool


def verdicts(rule_set: RuleSet, dataset: str, record: Record) -> list[Verdict]:
    """Every rule that looks at events of this dataset: those that match, then those that are tried, then the others."""
    looking = [(rule, variant) for rule in rule_set.rules for variant in rule.variants if variant.dataset == dataset]
    tried = Index([(number, v.cover, v.required) for number, (_, v) in enumerate(looking)]).candidates(record)
    found = [Verdict(rule, v, number in tried, bool(v.matches(record))) for number, (rule, v) in enumerate(looking)]
    return sorted(found, key=lambda verdict: (not verdict.matches, not verdict.tried))


def counts_in(rule_set: RuleSet, verdict: Verdict, record: Record) -> list[dict[str, Any]]:
    """The correlations that an event counts in once this rule matches it, with the group it falls into."""
    found = []
    for correlation in rule_set.correlations:
        for member in correlation.members:
            dataset = verdict.variant.dataset
            if member.rule is None or member.rule.id != verdict.rule.id or dataset not in member.sources:
                continue
            source = member.sources[dataset]
            # What an allow-list takes out, it takes out of what counts, not of the rule.
            counted = any(variant.matches(record) for variant in member.rule.variants if variant.dataset == dataset)
            values = [group_text(getter(name)(record)) for name in source.group]
            found.append(
                {
                    "title": correlation.title,
                    "kind": correlation.kind,
                    "group": dict(zip(correlation.group_by, values, strict=True)),
                    "condition": condition_text(correlation),
                    "timespan_seconds": correlation.timespan_us // 1_000_000,
                    "alerts": correlation.announce,
                    "excepted": not counted,
                }
            )
    return found


def explain(parsed: SigmaRule, verdict: Verdict, record: Record, placeholders: Placeholders = NO_PLACEHOLDERS) -> Node:
    """The tree of a rule over an event; the parts of its log source come first."""
    source = _source(parsed, verdict.variant)
    judge = _Judge(parsed, source, record, placeholders)
    where = judge.log_source()
    conditions = tuple(judge.condition(c.parse(postprocess=False), c.condition) for c in parsed.detection.parsed_condition)
    one = conditions[0] if len(conditions) == 1 else Node("conditions", any(c.holds for c in conditions), "", "any of", conditions)
    if not where:
        return one
    return Node(parsed.title, all(part.holds for part in (*where, one)), "", "all of", (*where, one))


def _source(parsed: SigmaRule, variant: Variant) -> LogSource:
    """The log source that a variant was compiled for: of one dataset there may be several."""
    found = [one for one in datasets_of(parsed.logsource) if one.dataset == variant.dataset]
    return next((one for one in found if one.record_field == variant.record_field), found[0])


class _Judge:
    """Judges parts of one rule for one event."""

    def __init__(self, parsed: SigmaRule, source: LogSource, record: Record, placeholders: Placeholders) -> None:
        self.parsed, self.source, self.record = parsed, source, record
        self.names = Names(source.record_field, source.keywords, placeholders)
        self.detections = parsed.detection.detections

    def log_source(self) -> tuple[Node, ...]:
        """What the log source asks of an event besides its dataset."""
        always = compile_rule(SigmaRule.from_yaml(_ALWAYS), Names(lambda name: name))
        parts = []
        for name, texts in self.source.where.items():
            holds = bool(within(always, {name: texts}, None).matches(self.record))
            parts.append(Node(f"log source: {name} is {' or '.join(texts)}", holds, _has(getter(name)(self.record))))
        if (there := self.source.there) is not None:
            value = getter(there)(self.record)
            parts.append(Node(f"log source: {there} is there", value is not None, _has(value)))
        return tuple(parts)

    def condition(self, node: Any, text: str = "") -> Node:
        """A node of a condition as it is written, before names are replaced by what they stand for."""
        if isinstance(node, ConditionNOT):
            inner = self.condition(node.args[0])
            return Node(text or f"not {inner.text}", not inner.holds, "", "not", (inner,))
        if isinstance(node, (ConditionAND, ConditionOR)):
            parts = tuple(self.condition(arg) for arg in node.args)
            both = isinstance(node, ConditionAND)
            holds = all(part.holds for part in parts) if both else any(part.holds for part in parts)
            word = " and " if both else " or "
            return Node(text or f"({word.join(part.text for part in parts)})", holds, "", "all of" if both else "any of", parts)
        if isinstance(node, ConditionSelector):
            names = [found.identifier for found in node.resolve_referenced_detections(self.parsed.detection)]
            parts = tuple(self.detection(name, self.detections[name]) for name in names)
            every = node.cond_class is ConditionAND
            holds = all(part.holds for part in parts) if every else any(part.holds for part in parts)
            return Node(text or f"{node.args[0]} of {node.pattern}", holds, "", "all of" if every else "any of", parts)
        if isinstance(node, ConditionIdentifier):
            return self.detection(node.identifier, self.detections[node.identifier])
        raise UnsupportedError(f"condition element {type(node).__name__}")

    def detection(self, name: str, detection: SigmaDetection) -> Node:
        """A selection, or a map in a list of them."""
        parts = []
        for number, item in enumerate(detection.detection_items, 1):
            if isinstance(item, SigmaDetection):
                parts.append(self.detection(f"{name} {number}", item))
            else:
                parts.append(self.item(item))
        links = "all of" if detection.item_linking is ConditionAND else "any of"
        return Node(name, self._holds(detection), "", links, tuple(parts))

    def item(self, item: SigmaDetectionItem) -> Node:
        """A field with its values, or keywords."""
        text = _text_of(item)
        if item.field is None:
            return Node(text, self._holds(SigmaDetection([item])), "keywords are looked for in every text of the event")
        try:
            value = getter(self.source.record_field(item.field))(self.record)
        except UnsupportedError as error:
            return Node(text, False, str(error))
        return Node(text, self._holds(SigmaDetection([item])), _has(value))

    def _holds(self, detection: SigmaDetection) -> bool:
        rule = SigmaRule(
            title=self.parsed.title,
            logsource=self.parsed.logsource,
            detection=SigmaDetections({_PART: detection}, [_PART]),
        )
        try:
            return bool(compile_rule(rule, self.names).matches(self.record))
        except (UnsupportedError, SigmaError):
            return False


def _text_of(item: SigmaDetectionItem) -> str:
    try:
        plain: Any = item.to_plain()
    except SigmaError:
        plain = {item.field or "keywords": [str(value) for value in item.value]}
    if not isinstance(plain, Mapping):
        plain = {"keywords": plain}
    return ", ".join(f"{name}: {_short(values)}" for name, values in plain.items())


def _short(values: Any) -> str:
    listed = values if isinstance(values, list) else [values]
    more = f" … {len(listed) - _VALUES} more" if len(listed) > _VALUES else ""
    return ", ".join(_cut("null" if one is None else str(one)) for one in listed[:_VALUES]) + more


def _has(value: Any) -> str:
    if value is None:
        return "the event has no value there"
    return f"the event has {_cut(value if isinstance(value, str) else orjson.dumps(value, default=str).decode())}"


def _cut(text: str) -> str:
    return text if len(text) <= _CHARACTERS else f"{text[:_CHARACTERS]}… {len(text) - _CHARACTERS} characters more"


def read_events(text: bytes, where: str, dataset: str | None = None) -> list[tuple[str, Record]]:
    """Events in JSON: one, a list, or lines of it; as `weir decode` prints them, as in an event topic, or in an alert's samples.

    Args:
        text: UTF-8.
        where: names the text in errors.
        dataset: of events that do not name theirs; where it is not given either, the only one that has all of their fields.

    Raises:
        ValueError: it is not JSON, no event, or of a dataset that cannot be told.
    """
    try:
        loaded = [orjson.loads(text)]
    except orjson.JSONDecodeError:
        try:
            loaded = [orjson.loads(line) for line in text.splitlines() if line.strip()]
        except orjson.JSONDecodeError as error:
            raise ValueError(
                f"{where}: not JSON: {error}; of a raw line: weir decode FAMILY FILE | weir rules explain -"
            ) from error
    listed: Iterable[Any] = loaded[0] if len(loaded) == 1 and isinstance(loaded[0], list) else loaded
    found = [event for one in listed for event in _events_of(one, where, dataset)]
    if not found:
        raise ValueError(f"{where}: there is no event in it")
    return found


def _events_of(one: Any, where: str, dataset: str | None) -> Iterator[tuple[str, Record]]:
    if not isinstance(one, dict):
        raise ValueError(f"{where}: an event is a JSON object, not {type(one).__name__}")  # noqa: TRY004  of the text, not of a type
    if "alert_id" in one and "samples" in one:
        datasets = {entry.get("event_id"): entry.get("dataset") for entry in one.get("evidence", [])}
        for sample in one["samples"]:
            record = orjson.loads(sample) if isinstance(sample, str) else sample
            yield from _events_of({"dataset": datasets.get(record.get("event_id")), **record}, where, dataset)
        return
    given = dict(one)
    named = given.pop("dataset", None) or dataset or _guessed(given, where)
    if named not in DATASETS:
        raise ValueError(f"{where}: there is no dataset {named}; there are {', '.join(DATASETS)}")
    kinds = fields_of(named)
    fields = _as_in_records(given, kinds)
    if unknown := sorted(fields.keys() - kinds.keys()):
        raise ValueError(f"{where}: {named} has no field {', '.join(unknown[:5])}; docs/events.md lists those it has")
    record = {name: as_read(kinds.get(name), value) for name, value in fields.items()}
    for name, value in record.items():
        if isinstance(value, list):
            record[name] = [orjson.dumps(item).decode() if isinstance(item, dict) else item for item in value]
    yield named, record


def _as_in_records(given: Mapping[str, Any], known: Container[str]) -> Record:
    """Fields by their names in records, also where they are given by ECS names, with dots as in rules or nested."""
    fields: Record = {}
    for name, value in given.items():
        words = name.split(".")
        heads = ["_".join(words[:cut]) for cut in range(len(words), 0, -1)]
        field = next((head for head in heads if head in known), None)
        if field == heads[0]:
            fields[field] = value
        elif field is not None:
            rest = ".".join(words[len(words) - heads.index(field) :])
            held = fields.setdefault(field, {})
            if isinstance(held, dict):
                held[rest] = value
        elif isinstance(value, dict) and value:
            fields |= _as_in_records({f"{name}.{inner}": one for inner, one in value.items()}, known)
        else:
            fields[name] = value
    return fields


def _guessed(fields: Record, where: str) -> str:
    found = [dataset for dataset in DATASETS if _as_in_records(fields, fields_of(dataset)).keys() <= fields_of(dataset).keys()]
    if len(found) == 1:
        return found[0]
    those = f"{', '.join(found)} have all of them" if found else "none has all of them"
    raise ValueError(f"{where}: which dataset the event is of cannot be told from its fields ({those}); name it by --dataset")


def of_correlation(rule_set: RuleSet, correlation: Correlation) -> list[Rule]:
    """The rules that count in a correlation, also by way of others."""
    found: dict[str, Rule] = {}
    for member in correlation.members:
        if member.rule is not None:
            found[member.rule.id] = member.rule
        elif (inner := rule_set.correlation(member.id)) is not None:
            found |= {rule.id: rule for rule in of_correlation(rule_set, inner)}
    return list(found.values())
