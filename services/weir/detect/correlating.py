"""Making correlations: of Sigma's correlation documents, and of rules that raise alerts by themselves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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

from weir.detect.attack import attack_of
from weir.detect.extension import Extension, read_extension
from weir.detect.logsources import DEFAULT_ENTITIES, DEFAULT_GROUP
from weir.detect.matcher import UnsupportedError
from weir.detect.rules import Condition, Correlation, Expression, Member, Rule, Source

__all__ = ["ALONE_TIMESPAN_US", "SLICES", "alone", "correlation_of"]

SLICES = 12
_SECOND = 1_000_000
ALONE_TIMESPAN_US = 3600 * _SECOND
KINDS = frozenset({"event_count"})


def correlation_of(
    parsed: SigmaCorrelationRule, members: Sequence[tuple[str, Rule | Correlation]], file: str, line: int
) -> Correlation:
    """A correlation document.

    Args:
        parsed: by pySigma, references not resolved.
        members: what its references refer to, by the reference's own text.
        file: it is in, for messages.
        line: it begins at.

    Raises:
        UnsupportedError: it wants something that is not evaluated here.
    """
    extension = read_extension(parsed.custom_attributes)
    if not members:
        raise UnsupportedError("names no rule")
    kind = str(extension.detect.get("type", parsed.type.name.lower()))
    if kind not in KINDS:
        raise UnsupportedError(f"correlation type {kind} is not supported yet; event_count is")
    group_by = tuple(parsed.group_by or ())
    aliases = {
        name: {reference.reference: field for reference, field in alias.mapping.items()}
        for name, alias in parsed.aliases.aliases.items()
    }
    condition, expression = _condition(parsed, len(members))
    values = parsed.condition.fieldref if isinstance(parsed.condition, SigmaCorrelationCondition) else None
    value_fields = () if values is None else (values,) if isinstance(values, str) else tuple(values)
    timespan_us = parsed.timespan.seconds * _SECOND
    found = tuple(_member(label, member, group_by, value_fields, aliases, extension) for label, member in members)
    inner = [member for _, member in members]
    return Correlation(
        id=str(parsed.id),
        title=parsed.title,
        description=" ".join((parsed.description or "").split()),
        level=parsed.level.name.lower() if parsed.level else next((m.level for m in inner if m.level), "medium"),
        members=found,
        group_by=group_by,
        timespan_us=timespan_us,
        slice_us=max(1, round(parsed.timespan.seconds / SLICES)) * _SECOND,
        condition=condition,
        expression=expression,
        kind=kind,
        options={key: value for key, value in extension.detect.items() if key != "type"},
        false_positives=tuple(dict.fromkeys([*parsed.falsepositives, *(f for m in inner for f in m.false_positives)])),
        references=tuple(dict.fromkeys([*map(str, parsed.references), *(r for m in inner for r in m.references)])),
        author=parsed.author or "",
        tests=extension.tests,
        file=file,
        line=line,
        **_attack([*map(str, parsed.tags), *(tag for m in inner if isinstance(m, Rule) for tag in m.tags)], inner),
    )


def alone(rule: Rule, extension: Extension) -> Correlation:
    """A rule that raises alerts by itself, as a correlation of one event or more.

    Raises:
        UnsupportedError: a field of the extension is in none of the rule's datasets.
    """
    default = tuple(dict.fromkeys(name for variant in rule.variants for name in DEFAULT_GROUP[variant.dataset]))
    group_by = default if extension.group_by is None else extension.group_by
    timespan = extension.timespan_us or ALONE_TIMESPAN_US
    return Correlation(
        id=rule.id,
        title=rule.title,
        description=rule.description,
        level=rule.level or "medium",
        members=(_member(rule.name or rule.id, rule, group_by, (), {}, extension),),
        group_by=group_by,
        timespan_us=timespan,
        slice_us=max(1, round(timespan / _SECOND / SLICES)) * _SECOND,
        false_positives=rule.false_positives,
        references=rule.references,
        author=rule.author,
        tests=tuple(test for test in rule.tests if test.get("expect") in {"alert", "none"} and "events" in test),
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
    missing = set(extension.entities or ()) - {name for source in sources.values() for name in source.entities}
    if missing and len(member.variants) == 1 and not aliases:
        raise UnsupportedError(f"weir.entities: no event has the field of {', '.join(sorted(missing))}")
    return Member(label, member.id, sources, member)


def _source_of_alerts(member: Correlation, group_by: Sequence[str], values: Sequence[str], extension: Extension) -> Source:
    """Where alerts of a correlation have what another one groups by: in their group-by, or among their entities."""
    raise UnsupportedError("correlations of correlations are not supported yet")


def _condition(parsed: SigmaCorrelationRule, members: int) -> tuple[Condition, Expression | None]:
    if isinstance(parsed.condition, SigmaExtendedCorrelationCondition):
        return Condition("gte", 1), _expression(parsed.condition.parsed)
    condition = parsed.condition
    op = condition.op.name.lower()
    if parsed.type.name.lower() == "event_count":
        if condition.fieldref is not None:
            raise UnsupportedError("an event_count condition has no field")
        if not isinstance(condition.count, int):
            raise UnsupportedError(f"an event_count condition needs a whole number, not {condition.count}")
        if op not in {"gt", "gte"}:
            raise UnsupportedError(f"condition {op} is not supported yet; gt and gte are")
        if condition.count + (op == "gt") < 1:
            raise UnsupportedError(f"a condition of {condition.count} events is always true")
    return Condition(op, condition.count, condition.percentile), None


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
