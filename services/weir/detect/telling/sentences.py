"""What an alert says in one sentence: what happened, to whom, and when, for every kind of correlation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from weir.detect.rules import Correlation, Expression

if TYPE_CHECKING:
    from weir.detect.telling.alerts import Told

__all__ = ["condition_text", "duration_text", "field_words", "quantity_text", "summary"]

MAX_SHOWN: Final = 5
MAX_SUMMARY_CHARACTERS: Final = 1_000
"""Longer summaries, made of long names, are cut: they go into one line of a SIEM."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_SIGNS: Final = {"gt": ">", "gte": ">=", "lt": "<", "lte": "<=", "eq": "=", "neq": "!="}
_SIZES: Final = ((10**12, "TB"), (10**9, "GB"), (10**6, "MB"), (10**3, "kB"))
_SPANS: Final = ((86_400_000_000, "d"), (3_600_000_000, "h"), (60_000_000, "min"), (1_000_000, "s"))
# The last word of a field's name as people say it. Those that count something say what the number is.
_WORDS: Final = {"ip": "address", "id": "id", "mac": "hardware address", "hostname": "host name"}
# Options of Weir's own kinds that are microseconds.
_DURATIONS: Final = frozenset({"learn", "forget", "after", "shortest", "longest"})
_BYTES: Final = frozenset({"bytes", "size"})
_COUNTS: Final = frozenset({"packets", "count", "length"})


def summary(correlation: Correlation, group_by: Mapping[str, str], told: Told) -> str:
    """One sentence a person can read: the rule's title, what happened, for whom, from when to when."""
    whom = ", ".join(f"{name} {value or '(none)'}" for name, value in group_by.items())
    # Said already; one of many values that were counted, which would be taken for the one that matters; or too long.
    shown, passed = {*group_by.values(), *told.values}, {"file", *_counted_entities(correlation)}
    others = ", ".join(
        f"{name.replace('_', ' ')} {value}" for name, value in told.entities.items() if value not in shown and name not in passed
    )
    text = f"{correlation.title}: {told.sentence or what_happened(correlation, told)}"
    text += f" for {whom}" if whom else ""
    text += f" ({others})" if others else ""
    first, last = _clock(told.first), _clock(told.last)
    text += f", at {first} UTC" if first == last else f", from {first} to {last} UTC"
    over = "; it is over." if told.state == "closed" else "."
    return text[: MAX_SUMMARY_CHARACTERS - len(over)] + over


def what_happened(correlation: Correlation, told: Told) -> str:
    """The middle of the sentence for each of Sigma's correlation types. Weir's own kinds say it themselves (`Told.sentence`)."""
    within = f"within {duration_text(told.last - told.first)}"
    events = "1 event" if told.events == 1 else f"{told.events} events"
    named = _value_names(correlation)
    measured = float(told.events) if told.measured is None else told.measured
    kind = correlation.kind
    if correlation.expression is not None:
        return f"{_expression_text(correlation.expression, _labels(correlation))} within {duration_text(correlation.timespan_us)}"
    if kind == "value_count":
        return f"{_distinct(named, measured)}{_such_as(told.values, measured)} {within}"
    if kind == "value_sum":
        return f"{quantity_text(measured, named)} in {events} {within}"
    if kind in {"value_avg", "value_median"}:
        mean = "average" if kind == "value_avg" else "median"
        return f"{quantity_text(measured, named)} on {mean} in {events} {within}"
    if kind == "value_percentile":
        return (
            f"{quantity_text(measured, named)} at the {_ordinal(correlation.condition.percentile)} percentile of {events} {within}"
        )
    if kind in {"temporal", "temporal_ordered"}:
        return f"{_together(correlation, measured)} within {duration_text(correlation.timespan_us)}"
    return events if told.first == told.last and told.events == 1 else f"{events} {within}"


def condition_text(correlation: Correlation) -> str:
    """What the correlation compares with: `>= 100`, `all of a, b`, `a and not b`, `learn 7d`."""
    condition = correlation.condition
    if correlation.expression is not None:
        return _expression_text(correlation.expression, {})
    if correlation.options:
        return ", ".join(f"{name} {_option_text(name, value)}" for name, value in correlation.options.items())
    if (
        correlation.kind in {"temporal", "temporal_ordered"}
        and not condition.upper
        and condition.number >= len(correlation.members)
    ):
        order = " in this order" if correlation.kind == "temporal_ordered" else ""
        return f"all of {', '.join(member.label for member in correlation.members)}{order}"
    percentile = "" if condition.percentile is None else f" at percentile {condition.percentile}"
    upper = "" if condition.upper is None else f" and {_SIGNS[condition.upper[0]]} {condition.upper[1]:.15g}"
    return f"{_SIGNS[condition.op]} {condition.number:.15g}{upper}{percentile}"


def _option_text(name: str, value: Any) -> str:
    if name in _DURATIONS and isinstance(value, int):
        return duration_text(value)
    return ", ".join(value) if isinstance(value, tuple) else str(value)


def duration_text(duration_us: int) -> str:
    """A time span in microseconds, such as 50 s, 10 min, 36 h, 14 d: the largest unit of which there are two, at least 1 s."""
    for unit, name in _SPANS:
        if duration_us >= 2 * unit:
            return f"{round(duration_us / unit)} {name}"
    return "1 s"


def quantity_text(number: float, fields: Sequence[str] = ()) -> str:
    """A number with what it is: `1.2 GB of source bytes`, `1500 network packets`, `12.5 of event duration`.

    Args:
        fields: event fields it was made of; the first one's name tells the unit.
    """
    words = field_words(fields[0]) if fields else ""
    last = words.rpartition(" ")[2]
    if last in _BYTES:
        for unit, name in _SIZES:
            if abs(number) >= unit:
                return f"{number / unit:.3g} {name} of {words}"
        return f"{number:.15g} {words}" if last == "bytes" else f"{number:.15g} bytes of {words}"
    text = f"{number:.15g}" if float(number).is_integer() else f"{number:.6g}"
    if not words:
        return text
    if last == "percent":
        return f"{text} % {words.removesuffix('percent').rstrip()}".rstrip()
    return f"{text} {words}" if last in _COUNTS else f"{text} of {words}"


def field_words(field: str) -> str:
    """A field's name as people say it: `destination.port` or `destination_port` is destination port, `source.ip` source address."""
    parts = field.replace(".", "_").replace("-", "_").split("_")
    return " ".join(_WORDS.get(part, part) for part in parts if part)


def _plural(words: str) -> str:
    if words.endswith(("s", "sh", "ch", "x")):
        return f"{words}es" if words.endswith("ss") or not words.endswith("s") else words
    if words.endswith("y") and not words.endswith(("ay", "ey", "oy")):
        return f"{words[:-1]}ies"
    return f"{words}s"


def _distinct(fields: Sequence[str], measured: float) -> str:
    words = " and ".join(map(field_words, fields)) or "value"
    if len(fields) > 1:
        return f"{measured:.15g} distinct pairs of {words}" if len(fields) == 2 else f"{measured:.15g} distinct sets of {words}"
    return f"1 {words}" if measured == 1 else f"{measured:.15g} distinct {_plural(words)}"


def _such_as(values: Sequence[str], measured: float) -> str:
    if not values:
        return ""
    shown = ", ".join(values[:MAX_SHOWN])
    return f", such as {shown} …," if measured > len(values[:MAX_SHOWN]) else f" ({shown})"


def _value_names(correlation: Correlation) -> tuple[str, ...]:
    """Record fields whose values are counted or added up, of the first member that has any."""
    for member in correlation.members:
        for source in member.sources.values():
            if source.values:
                return source.values
    return ()


def _counted_entities(correlation: Correlation) -> set[str]:
    """Entities that stand for a field whose distinct values are counted."""
    if correlation.kind != "value_count":
        return set()
    sources = [source for member in correlation.members for source in member.sources.values()]
    return {name for source in sources for name, field in source.entities.items() if field in source.values}


def _labels(correlation: Correlation) -> dict[str, str]:
    return {member.label: member.rule.title if member.rule else member.label for member in correlation.members}


def _together(correlation: Correlation, measured: float) -> str:
    labels = list(_labels(correlation).values())
    if correlation.kind == "temporal_ordered":
        return ", then ".join(labels)
    number = round(measured)
    if number < len(labels) and correlation.condition.number < len(labels):
        return f"{number} of {', '.join(labels)}"
    return f"{'both' if len(labels) == 2 else 'all'} of {', '.join(labels)}"


def _expression_text(expression: Expression, labels: Mapping[str, str], inner: bool = False) -> str:
    what, *operands = expression
    if what == "rule":
        return labels.get(operands[0], operands[0])
    if what == "not":
        return f"not {_expression_text(operands[0], labels, True)}"
    text = f" {what} ".join(_expression_text(operand, labels, True) for operand in operands)
    return f"({text})" if inner else text


def _ordinal(number: int | None) -> str:
    if number is None:
        return "given"
    ending = "th" if number % 100 in {11, 12, 13} else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"


def _clock(time_us: int) -> str:
    try:
        return (_EPOCH + timedelta(microseconds=time_us)).strftime("%Y-%m-%d %H:%M:%S")
    except OverflowError:
        return f"{time_us} µs"
