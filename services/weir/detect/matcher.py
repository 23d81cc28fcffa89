"""Sigma detections compiled to Python predicates over event records.

pySigma parses the rule and resolves its condition to a tree of field comparisons; this module turns the tree into closures. Meaning
follows the Sigma specification 2.1: text compares without regard to case unless `cased`, `*` and `?` are wildcards, a list of
values is any of them unless `all`, a field that holds a list matches where any of its elements does, and a keyword matches where
it occurs anywhere in any text of the event.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from sigma.conditions import (
    ConditionAND,
    ConditionFieldEqualsValueExpression,
    ConditionNOT,
    ConditionOR,
    ConditionValueExpression,
)
from sigma.rule import SigmaRule
from sigma.types import (
    CompareOperators,
    SigmaBool,
    SigmaCasedString,
    SigmaCIDRExpression,
    SigmaCompareExpression,
    SigmaExists,
    SigmaExpansion,
    SigmaNull,
    SigmaNumber,
    SigmaRegularExpression,
    SigmaRegularExpressionFlag,
    SigmaString,
    SigmaTimestampPart,
    SpecialChars,
)

__all__ = ["Compiled", "Predicate", "UnsupportedError", "compile_rule"]

Record = dict[str, Any]
Predicate = Callable[[Record], bool]
ValueTest = Callable[[Any], bool]

_FLAGS = {
    SigmaRegularExpressionFlag.IGNORECASE: re.IGNORECASE,
    SigmaRegularExpressionFlag.MULTILINE: re.MULTILINE,
    SigmaRegularExpressionFlag.DOTALL: re.DOTALL,
}


class UnsupportedError(ValueError):
    """A construct this matcher does not evaluate; the message names it."""


@dataclass(frozen=True, slots=True)
class Compiled:
    """A rule's detection, compiled.

    `required` holds what every matching event must have: a field and the lower-case texts it may equal. It serves as an index
    key and may be empty. `fields` are the record fields the detection reads.
    """

    matches: Predicate
    required: dict[str, frozenset[str]]
    fields: frozenset[str]


def compile_rule(rule: SigmaRule, field_name: Callable[[str], str]) -> Compiled:
    """Compile the detection of a rule.

    Args:
        rule: as pySigma parsed it.
        field_name: record field of a Sigma field name; may raise UnsupportedError.

    Raises:
        UnsupportedError: the rule uses something that is not evaluated here.
        sigma.exceptions.SigmaError: the condition does not parse or names a selection that is not there.
    """
    fields: set[str] = set()

    def name_of(sigma_name: str) -> str:
        found = field_name(sigma_name)
        fields.add(found)
        return found

    parts = []
    for condition in rule.detection.parsed_condition:
        tree = condition.parsed
        if tree is None:
            raise UnsupportedError(f"condition {condition.condition!r} is empty")
        parts.append(_compile(tree, name_of))
    if not parts:
        raise UnsupportedError("the detection has no condition")
    # Several conditions are several ways to match.
    matches, required = parts[0] if len(parts) == 1 else (_any([p for p, _ in parts]), _common([r for _, r in parts]))
    return Compiled(matches, required, frozenset(fields))


_Part = tuple[Predicate, dict[str, frozenset[str]]]


def _compile(node: Any, name_of: Callable[[str], str]) -> _Part:
    if isinstance(node, ConditionAND):
        parts = [_compile(arg, name_of) for arg in node.args]
        required: dict[str, frozenset[str]] = {}
        for _, need in parts:
            for field, values in need.items():
                # Of two demands on one field the narrower serves better; a list-valued field may satisfy both differently.
                if field not in required or len(values) < len(required[field]):
                    required[field] = values
        return _all([p for p, _ in parts]), required
    if isinstance(node, ConditionOR):
        parts = [_compile(arg, name_of) for arg in node.args]
        return _any([p for p, _ in parts]), _common([need for _, need in parts])
    if isinstance(node, ConditionNOT):
        inner, _ = _compile(node.args[0], name_of)
        return (lambda record: not inner(record)), {}
    if isinstance(node, ConditionFieldEqualsValueExpression):
        return _field(name_of(node.field), node.value)
    if isinstance(node, ConditionValueExpression):
        return _keyword(node.value), {}
    raise UnsupportedError(f"condition element {type(node).__name__}")


def _all(parts: list[Predicate]) -> Predicate:
    return lambda record: all(part(record) for part in parts)


def _any(parts: list[Predicate]) -> Predicate:
    return lambda record: any(part(record) for part in parts)


def _common(needs: list[dict[str, frozenset[str]]]) -> dict[str, frozenset[str]]:
    """What holds whichever of the alternatives does."""
    shared = set(needs[0]).intersection(*needs[1:])
    return {field: frozenset().union(*(need[field] for need in needs)) for field in sorted(shared)}


def _field(name: str, value: Any) -> _Part:
    if isinstance(value, SigmaExists):
        wanted = bool(value)
        return (lambda record: (record.get(name) is not None) == wanted), {}
    if isinstance(value, SigmaNull):
        return (lambda record: record.get(name) is None), {}
    if isinstance(value, SigmaExpansion):
        parts = [_field(name, item) for item in value.values]
        return _any([p for p, _ in parts]), _common([need for _, need in parts])
    test = _value_test(value)

    def matches(record: Record) -> bool:
        found = record.get(name)
        if found is None:
            return False
        if isinstance(found, (list, tuple)):
            return any(test(item) for item in found if item is not None)
        return test(found)

    plain = isinstance(value, SigmaString) and not value.contains_special()
    return matches, {name: frozenset({_plain_text(value).lower()})} if plain else {}


def _keyword(value: Any) -> Predicate:
    if isinstance(value, SigmaExpansion):
        return _any([_keyword(item) for item in value.values])
    if isinstance(value, SigmaRegularExpression):
        search = _regex(value).search
        return lambda record: any(search(text) for text in _texts(record.values()))
    if isinstance(value, SigmaString):
        cased = isinstance(value, SigmaCasedString)
        if not value.contains_special():
            needle = _plain_text(value)
            if cased:
                return lambda record: any(needle in text for text in _texts(record.values()))
            needle = needle.lower()
            return lambda record: any(needle in text.lower() for text in _texts(record.values()))
        pattern = re.compile(_wildcards(value), re.DOTALL | (0 if cased else re.IGNORECASE))
        return lambda record: any(pattern.search(text) for text in _texts(record.values()))
    if isinstance(value, SigmaNumber):
        needle = str(value)
        return lambda record: any(needle in text for text in _texts(record.values()))
    raise UnsupportedError(f"keyword of type {type(value).__name__}")


def _texts(values: Iterable[Any]) -> Iterator[str]:
    for value in values:
        if isinstance(value, str):
            yield value
        elif isinstance(value, dict):
            yield from _texts(value.values())
        elif isinstance(value, (list, tuple)):
            yield from _texts(value)
        elif isinstance(value, (int, float)):
            yield str(value)


def _value_test(value: Any) -> ValueTest:
    if isinstance(value, SigmaTimestampPart):  # to pySigma a kind of number
        raise UnsupportedError("parts of a timestamp (minute, hour, day, week, month, year)")
    if isinstance(value, SigmaString):
        return _string_test(value)
    if isinstance(value, SigmaBool):
        wanted = bool(value)
        text = str(wanted).lower()
        return lambda found: found is wanted if isinstance(found, bool) else str(found).lower() == text
    if isinstance(value, SigmaNumber):
        number = value.number
        digits = str(number)
        return lambda found: found == number if isinstance(found, (int, float)) else str(found) == digits
    if isinstance(value, SigmaRegularExpression):
        search = _regex(value).search
        return lambda found: search(_text(found)) is not None
    if isinstance(value, SigmaCIDRExpression):
        return _cidr_test(value.network)
    if isinstance(value, SigmaCompareExpression):
        return _compare_test(value)
    raise UnsupportedError(f"value of type {type(value).__name__.removeprefix('Sigma')}")


def _string_test(value: SigmaString) -> ValueTest:
    cased = isinstance(value, SigmaCasedString)
    parts = list(value.s)
    star = SpecialChars.WILDCARD_MULTI
    if not value.contains_special():
        whole = _plain_text(value)
        if cased:
            return lambda found: _text(found) == whole
        lower = whole.lower()
        return lambda found: _text(found).lower() == lower
    literals = [part for part in parts if isinstance(part, str)]
    if len(literals) == 1 and not cased and all(isinstance(part, str) or part == star for part in parts):
        needle = literals[0].lower()
        if parts[0] == star and parts[-1] == star:
            return lambda found: needle in _text(found).lower()
        if parts[-1] == star:
            return lambda found: _text(found).lower().startswith(needle)
        return lambda found: _text(found).lower().endswith(needle)
    fullmatch = re.compile(_wildcards(value), re.DOTALL | (0 if cased else re.IGNORECASE)).fullmatch
    return lambda found: fullmatch(_text(found)) is not None


def _text(found: Any) -> str:
    if isinstance(found, str):
        return found
    if isinstance(found, bool):
        return "true" if found else "false"
    return str(found)


def _plain_text(value: SigmaString) -> str:
    return "".join(_literal(part) for part in value.s)


def _literal(part: Any) -> str:
    if isinstance(part, str):
        return part
    raise UnsupportedError(f"placeholder {part}; placeholders (expand) are not filled in")


def _wildcards(value: SigmaString) -> str:
    pattern = []
    for part in value.s:
        if part == SpecialChars.WILDCARD_MULTI:
            pattern.append(".*")
        elif part == SpecialChars.WILDCARD_SINGLE:
            pattern.append(".")
        else:
            pattern.append(re.escape(_literal(part)))
    return "".join(pattern)


def _regex(value: SigmaRegularExpression) -> re.Pattern[str]:
    flags = 0
    for flag in value.flags:
        flags |= _FLAGS[flag]
    text = value.regexp.to_plain(True)
    try:
        return re.compile(text, flags)
    except re.error as error:
        raise UnsupportedError(f"regular expression {text!r}: {error}") from error


def _cidr_test(network: ipaddress.IPv4Network | ipaddress.IPv6Network) -> ValueTest:
    def test(found: Any) -> bool:
        try:
            address = ipaddress.ip_address(found if isinstance(found, int) else str(found))
        except ValueError:
            return False
        if address.version == 6 and network.version == 4 and address.ipv4_mapped is not None:
            return address.ipv4_mapped in network
        return address in network

    return test


def _compare_test(value: SigmaCompareExpression) -> ValueTest:
    limit = value.number.number
    compare: dict[CompareOperators, Callable[[float], bool]] = {
        CompareOperators.LT: lambda n: n < limit,
        CompareOperators.LTE: lambda n: n <= limit,
        CompareOperators.GT: lambda n: n > limit,
        CompareOperators.GTE: lambda n: n >= limit,
        CompareOperators.NEQ: lambda n: n != limit,
    }
    if value.op not in compare:
        raise UnsupportedError(f"comparison {value.op.name.lower()}")
    test = compare[value.op]

    def compared(found: Any) -> bool:
        if isinstance(found, bool):
            return False
        try:
            return test(found if isinstance(found, (int, float)) else float(found))
        except (TypeError, ValueError):
            return False

    return compared
