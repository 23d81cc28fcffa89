"""Making correlations: of Sigma's correlation documents, and of rules that raise alerts by themselves.

**Slices.** Event time is counted in slices. Where event times are carried too, twelve of them make a timespan; where not, and a
window holds whole slices, sixty. A condition that is judged at the end of a window has one slice for each window.

**Correlations of correlations.** An alert stands for an event: its group-by values and entities for fields. A field that the inner
correlation groups by, or that one of its `weir.entities` is taken from, can be grouped by again; another one is not to be had.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from sigma.correlations import (
    CorrelationConditionAND,
    CorrelationConditionItem,
    CorrelationConditionNOT,
    SigmaCorrelationCondition,
    SigmaCorrelationRule,
    SigmaExtendedCorrelationCondition,
    SigmaRuleReference,
)

from weir.detect.kinds import own_kind
from weir.detect.matching.matcher import UnsupportedError
from weir.detect.reading.attack import attack_of
from weir.detect.reading.extension import Extension, read_extension
from weir.detect.reading.logsources import DEFAULT_ENTITIES, DEFAULT_GROUP
from weir.detect.rules import MAX_EXACT_COUNT, Condition, Correlation, Expression, Member, Rule, Source, ordered_steps

__all__ = ["ALONE_TIMESPAN_US", "FINE_SLICES", "SLICES", "alone", "correlation_of", "without_upper"]

SLICES = 12
FINE_SLICES = 60
_SECOND = 1_000_000
ALONE_TIMESPAN_US = 3600 * _SECOND
# Of Weir's own kinds: what they need is in times and values, and a baseline counts by hours.
OWN_SLICE_US = 3600 * _SECOND
# Slices and states are told in 64 bits, and nothing is remembered for longer than a release lives.
MAX_TIMESPAN_US = 10 * 366 * 86_400 * _SECOND
# Of a value_count. What is remembered of a group's distinct values is bounded, see `kinds.windows`.
MAX_VALUE_COUNT = 4_096
_COUNTS = {"event_count", "value_count"}
_NUMERIC = {"value_sum", "value_avg", "value_percentile", "value_median"}


def correlation_of(
    parsed: SigmaCorrelationRule,
    members: Sequence[tuple[str, Rule | Correlation]],
    file: str,
    line: int,
    upper: tuple[str, float] | None = None,
) -> Correlation:
    """A correlation document.

    Args:
        parsed: by pySigma, references not resolved.
        members: what its references refer to, by the reference's own text.
        file: it is in, for messages.
        line: it begins at.
        upper: the upper end of a condition that is a range (`without_upper`).

    Raises:
        UnsupportedError: it wants something that is not evaluated here.
    """
    extension = read_extension(parsed.custom_attributes)
    if not members:
        raise UnsupportedError("names no rule")
    kind, options = _kind(parsed, extension)
    if extension.detect and any(isinstance(member, Correlation) for _, member in members):
        raise UnsupportedError("weir.detect: events of rules are looked at, not alerts of other correlations")
    group_by = tuple(parsed.group_by or ())
    aliases = {
        name: {reference.reference: field for reference, field in alias.mapping.items()}
        for name, alias in parsed.aliases.aliases.items()
    }
    condition, expression = _condition(parsed, kind, [label for label, _ in members], upper)
    value_fields = _value_fields(parsed, kind, options)
    timespan_us = _bounded(parsed.timespan.seconds * _SECOND)
    if extension.group_by is not None or extension.timespan_us is not None:
        raise UnsupportedError("weir.group-by and weir.timespan are of rules that alert by themselves")
    found = tuple(_member(label, member, group_by, value_fields, aliases, extension) for label, member in members)
    _check_entities(found, extension, aliases)
    inner = [member for _, member in members]
    made = Correlation(
        id=str(parsed.id),
        title=parsed.title,
        description=" ".join((parsed.description or "").split()),
        level=parsed.level.name.lower() if parsed.level else next((m.level for m in inner if m.level), "medium"),
        members=found,
        group_by=group_by,
        timespan_us=timespan_us,
        slice_us=timespan_us,
        condition=condition,
        expression=expression,
        kind=kind,
        options=options,
        false_positives=tuple(dict.fromkeys([*parsed.falsepositives, *(f for m in inner for f in m.false_positives)])),
        references=tuple(dict.fromkeys([*map(str, parsed.references), *(r for m in inner for r in m.references)])),
        author=parsed.author or "",
        tests=extension.tests,
        name=parsed.name or "",
        file=file,
        line=line,
        **_attack([*map(str, parsed.tags), *(tag for m in inner if isinstance(m, Rule) for tag in m.tags)], inner),
    )
    return made if made.at_end else replace(made, slice_us=_slice_us(made))


def _bounded(timespan_us: int) -> int:
    if timespan_us > MAX_TIMESPAN_US:
        raise UnsupportedError("a timespan has at most ten years")
    return timespan_us


def _slice_us(made: Correlation) -> int:
    if own_kind(made.kind) is not None:
        return OWN_SLICE_US
    exact = made.kind not in {"event_count", "value_sum"} or (made.kind == "event_count" and made.threshold <= MAX_EXACT_COUNT)
    return max(1, round(made.timespan_us / _SECOND / (SLICES if exact else FINE_SLICES))) * _SECOND


def alone(rule: Rule, extension: Extension) -> Correlation:
    """A rule that raises alerts by itself, as a correlation of one event or more.

    Raises:
        UnsupportedError: a field of the extension is in none of the rule's datasets.
    """
    if extension.detect:
        raise UnsupportedError("weir.detect belongs to a correlation, whose rules say which events it looks at")
    default = tuple(dict.fromkeys(name for variant in rule.variants for name in DEFAULT_GROUP[variant.dataset]))
    group_by = default if extension.group_by is None else extension.group_by
    timespan = _bounded(extension.timespan_us or ALONE_TIMESPAN_US)
    member = _member(rule.name or rule.id, rule, group_by, (), {}, extension)
    _check_entities((member,), extension, {})
    return Correlation(
        id=rule.id,
        title=rule.title,
        description=rule.description,
        level=rule.level or "medium",
        members=(member,),
        group_by=group_by,
        timespan_us=timespan,
        slice_us=max(1, round(timespan / _SECOND / SLICES)) * _SECOND,
        false_positives=rule.false_positives,
        references=rule.references,
        author=rule.author,
        tests=tuple(test for test in rule.tests if test.get("expect") in {"alert", "none"} and "events" in test),
        name=rule.name,
        file=rule.file,
        line=rule.line,
        **_attack(rule.tags, []),
    )


def _member(
    label: str,
    member: Rule | Correlation,
    group_by: Sequence[str],
    values: Sequence[str],
    aliases: Mapping[str, Mapping[str, str]],
    extension: Extension,
) -> Member:
    def name_of(name: str) -> str:
        if name not in aliases:
            return name
        reference = next((text for text in (label, member.id) if text in aliases[name]), None)
        if reference is None:
            raise UnsupportedError(f"alias {name} says nothing of {label}")
        return aliases[name][reference]

    if isinstance(member, Correlation):
        return Member(label, member.id, {"": _source_of_alerts(member, [name_of(n) for n in group_by], values, extension)})
    sources = {}
    for variant in member.variants:
        entities: dict[str, str] = {}
        for name, field in (DEFAULT_ENTITIES[variant.dataset] if extension.entities is None else extension.entities).items():
            try:
                entities[name] = variant.record_field(name_of(field))
            except UnsupportedError:
                # Another of the datasets may have it; a rule may name entities of several.
                continue
        sources[variant.dataset] = Source(
            tuple(variant.record_field(name_of(name)) for name in group_by),
            tuple(variant.record_field(name_of(name)) for name in values),
            entities,
        )
    return Member(label, member.id, sources, member)


def _check_entities(members: Sequence[Member], extension: Extension, aliases: Mapping[str, Any]) -> None:
    """Refuse entities that events of no member have; some of the members may lack them."""
    known = {name for member in members for source in member.sources.values() for name in source.entities}
    if (missing := set(extension.entities or ()) - known) and not aliases:
        raise UnsupportedError(f"weir.entities: no event has the field of {', '.join(sorted(missing))}")


def _source_of_alerts(member: Correlation, group_by: Sequence[str], values: Sequence[str], extension: Extension) -> Source:
    """Where alerts of a correlation have what another one groups by: in their group-by, or among their entities."""

    def path(name: str) -> str:
        found = _alert_path(member, name)
        if found is None:
            raise UnsupportedError(
                f"field {name} is neither in the group-by nor among the weir.entities of {member.title!r}, whose alerts it counts"
            )
        return found

    names = {name for inner in member.members for source in inner.sources.values() for name in source.entities}
    if extension.entities is None:
        entities = {name: f"entities.{name}" for name in sorted(names)}
    else:
        found = {name: _alert_path(member, field) for name, field in extension.entities.items()}
        entities = {name: source for name, source in found.items() if source is not None}
    return Source(tuple(map(path, group_by)), tuple(map(path, values)), entities)


def _alert_path(member: Correlation, name: str) -> str | None:
    """Where the alert records of a correlation have an event's field, as `fields.getter` reads it; None where they have not."""
    if name in member.group_by:
        return f"group_by.{name}"
    for inner in member.members:
        for dataset, source in inner.sources.items():
            if inner.rule is None:
                wanted = None
            else:
                variant = next(v for v in inner.rule.variants if v.dataset == dataset)
                try:
                    wanted = variant.record_field(name)
                except UnsupportedError:
                    continue
            for entity, field in source.entities.items():
                if field == wanted or (wanted is None and field in {f"group_by.{name}", f"entities.{name}"}):
                    return f"entities.{entity}"
    return None


def _kind(parsed: SigmaCorrelationRule, extension: Extension) -> tuple[str, Mapping[str, Any]]:
    """The kind, and the options of one of Weir's own. Raises UnsupportedError for what is wrong with them."""
    if not extension.detect:
        return parsed.type.name.lower(), {}
    kind = str(extension.detect.get("type", ""))
    own = own_kind(kind)
    if own is None:
        raise UnsupportedError(f"weir.detect: there is no type {kind or '(none given)'}")
    if parsed.type.name.lower() not in _COUNTS:
        raise UnsupportedError("weir.detect: correlation.type must be event_count or value_count, which is what other tools read")
    return kind, own.check({key: value for key, value in extension.detect.items() if key != "type"})


def _value_fields(parsed: SigmaCorrelationRule, kind: str, options: Mapping[str, Any]) -> tuple[str, ...]:
    if kind == "first_seen":
        found = options["field"]
    elif kind == "baseline":
        found = None if options["of"] == "count" else options["of"]
    else:
        found = parsed.condition.fieldref if isinstance(parsed.condition, SigmaCorrelationCondition) else None
    fields = () if found is None else (found,) if isinstance(found, str) else tuple(found)
    if kind in _NUMERIC and len(fields) != 1:
        raise UnsupportedError(f"a {kind} condition has one field, not {len(fields)}")
    return fields


def without_upper(raw: Any) -> tuple[Any, tuple[str, float] | None]:
    """A document for pySigma, which knows no ranges, and the upper end of its condition where that is one: {gt: 100, lte: 200}."""
    correlation = raw.get("correlation") if isinstance(raw, dict) else None
    condition = correlation.get("condition") if isinstance(correlation, dict) else None
    if not isinstance(correlation, dict) or not isinstance(condition, dict) or len({"gt", "gte"} & set(condition)) != 1:
        return raw, None
    ends = [(op, condition[op]) for op in ("lt", "lte") if op in condition]
    if len(ends) != 1 or isinstance(ends[0][1], bool) or not isinstance(ends[0][1], (int, float)):
        return raw, None
    lower = {key: value for key, value in condition.items() if key != ends[0][0]}
    return raw | {"correlation": correlation | {"condition": lower}}, ends[0]


def _condition(
    parsed: SigmaCorrelationRule, kind: str, labels: Sequence[str], upper: tuple[str, float] | None
) -> tuple[Condition, Expression | None]:
    if isinstance(parsed.condition, SigmaExtendedCorrelationCondition):
        expression = _expression(parsed.condition.parsed)
        if kind == "temporal_ordered":
            try:
                ordered_steps(expression)
            except ValueError as error:
                raise UnsupportedError(str(error)) from error
        return Condition("gte", 1), expression
    given = parsed.condition
    condition = Condition(given.op.name.lower(), given.count, given.percentile, upper)
    if upper is not None and not upper[1] > given.count and (upper[1], upper[0], condition.op) != (given.count, "lte", "gte"):
        raise UnsupportedError(f"nothing is {condition.op} {given.count} and {upper[0]} {upper[1]}")
    if kind in _COUNTS:
        _check_count(condition, kind)
    if kind == "event_count" and given.fieldref is not None:
        raise UnsupportedError("an event_count condition has no field")
    if kind == "value_count" and (most := max(condition.number, upper[1] if upper else 0)) > MAX_VALUE_COUNT:
        raise UnsupportedError(f"at most {MAX_VALUE_COUNT} distinct values can be counted, not {most}")
    if kind == "value_percentile" and not (condition.percentile is not None and 0 <= condition.percentile <= 100):
        raise UnsupportedError("a value_percentile condition needs a percentile from 0 to 100")
    if kind == "temporal":
        _check_count(condition, kind)
        if condition.op in {"gt", "gte"} and condition.number + (condition.op == "gt") > len(labels):
            raise UnsupportedError(f"a condition of {condition.number} rules is never true of {len(labels)}")
    if kind == "temporal_ordered":
        if upper or (condition.op, condition.number) not in {("gte", len(labels)), ("eq", len(labels)), ("gt", len(labels) - 1)}:
            raise UnsupportedError("a temporal_ordered condition wants all of its rules, in their order")
        return Condition("gte", len(labels)), None
    return condition, None


def _check_count(condition: Condition, kind: str) -> None:
    """Refuse what is true or false of every window in which something is counted; others are not judged."""
    op, number = condition.op, condition.number
    what = {"event_count": "events", "value_count": "values", "temporal": "rules"}[kind]
    if not isinstance(number, int):
        raise UnsupportedError(f"a condition of {kind} needs a whole number, not {number}")
    if condition.upper is not None:
        # A range from 0 is what `lt` and `lte` are alone.
        if condition.upper[1] < 1 or condition.upper == ("lt", 1):
            raise UnsupportedError(
                f"a range up to {condition.upper[1]} {what} is never true: windows without events are not judged"
            )
        return
    if (op in {"gt", "gte"} and number + (op == "gt") < 1) or (op == "neq" and number < 1):
        raise UnsupportedError(f"a condition of {op} {number} {what} is always true")
    if (op == "lt" and number <= 1) or (op in {"lte", "eq"} and number < 1):
        raise UnsupportedError(f"a condition of {op} {number} {what} is never true: windows without events are not judged")


def _expression(node: CorrelationConditionItem | SigmaRuleReference) -> Expression:
    if isinstance(node, SigmaRuleReference):
        return ("rule", node.reference)
    if isinstance(node, CorrelationConditionNOT):
        return ("not", _expression(node.args[0]))
    return ("and" if isinstance(node, CorrelationConditionAND) else "or", *map(_expression, node.args))


def _attack(tags: Sequence[str], inner: Sequence[Rule | Correlation]) -> dict[str, Any]:
    found = attack_of(tags)
    techniques, tactics = list(found.techniques), list(found.tactics)
    for member in inner:
        if isinstance(member, Correlation):
            techniques += member.techniques
            tactics += member.tactics
    return {"techniques": tuple(dict.fromkeys(techniques)), "tactics": tuple(dict.fromkeys(tactics))}
