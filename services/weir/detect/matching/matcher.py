"""Sigma detections compiled to Python predicates over event records.

pySigma parses the rule and resolves its condition to a tree of field comparisons; this module turns the tree into closures. Meaning
follows the Sigma specification 2.1, see docs/sigma.md: text compares without regard to case unless `cased`, `*` and `?` are
wildcards, a list of values is any of them unless `all`, a field that holds a list matches where any of its elements does, and a
keyword matches where it occurs anywhere in any text of the event.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from zoneinfo import ZoneInfo

from sigma.conditions import (
    ConditionAND,
    ConditionFieldEqualsValueExpression,
    ConditionNOT,
    ConditionOR,
    ConditionValueExpression,
)
from sigma.modifiers import SigmaWideModifier, modifier_mapping
from sigma.rule import SigmaRule
from sigma.types import (
    SigmaCasedString,
    SigmaExists,
    SigmaExpansion,
    SigmaFieldReference,
    SigmaNull,
    SigmaNumber,
    SigmaRegularExpression,
    SigmaString,
)

from weir.detect.matching.covers import KEYWORDS, Clue, Cover, all_of, any_of
from weir.detect.matching.fields import Getter, fold, getter, text_of
from weir.detect.matching.values import UTC, UnsupportedError, any_value, only_texts, plain_text, regex_of, text_pattern
from weir.detect.reading.placeholders import NO_PLACEHOLDERS, Placeholders

__all__ = ["Compiled", "Names", "Predicate", "UnsupportedError", "compile_rule", "event_text", "texts_of", "within"]

# The specification has both names, pySigma 2.0.1 the older one alone.
modifier_mapping.setdefault("utf16le", SigmaWideModifier)

Record = dict[str, Any]
Predicate = Callable[[Record], bool]

NOT_OF_THE_EVENT: Final = frozenset(
    {
        "event_id", "event_hash", "raw_topic", "raw_partition", "raw_offset", "site", "organization_id", "log_source_name",
        "log_source_ip", "timestamp", "event_created", "event_kind", "event_module", "event_dataset", "event_category",
        "event_type",
        "observer_vendor", "observer_product",
    }
)  # fmt: skip
"""Fields in which keywords are not looked for: what Weir itself says of an event, not its sender."""

_BETWEEN: Final = "\x1e\x1f"
"""Between texts that are searched as one, so that no keyword is found across two of them."""


@dataclass(frozen=True, slots=True)
class Names:
    """How a rule's names are read: `record_field` gives the name for `fields.getter` of a Sigma field, or raises UnsupportedError.

    `keywords` are the fields in which keywords are looked for, all of the event's own where it is None.
    """

    record_field: Callable[[str], str]
    keywords: tuple[str, ...] | None = None
    placeholders: Placeholders = NO_PLACEHOLDERS


@dataclass(frozen=True, slots=True)
class Compiled:
    """A rule's detection, compiled.

    `cover` are the clues by which an index finds it. `required` holds what every matching event must have: a field and the folded
    texts it may equal. `fields` are the record fields the detection reads.
    """

    matches: Predicate
    cover: Cover
    required: dict[str, frozenset[str]]
    fields: frozenset[str]


def compile_rule(rule: SigmaRule, names: Names) -> Compiled:
    """Compile the detection of a rule.

    Raises:
        UnsupportedError: the rule uses something that is not evaluated here.
        sigma.exceptions.SigmaError: the condition does not parse or names a selection that is not there.
    """
    compiler = _Compiler(names)
    parts = []
    for condition in rule.detection.parsed_condition:
        tree = condition.parsed
        if tree is None:
            raise UnsupportedError(f"condition {condition.condition!r} is empty")
        parts.append(compiler.node(tree))
    if not parts:
        raise UnsupportedError("the detection has no condition")
    # Several conditions are several ways to match.
    whole = _either(parts)
    return Compiled(whole.matches, whole.cover, whole.required, frozenset(compiler.fields))


def within(compiled: Compiled, where: Mapping[str, tuple[str, ...]], there: str | None) -> Compiled:
    """A detection for the events alone in which each field of `where` has one of its texts, and the field `there` is there."""
    parts = [_Part(compiled.matches, compiled.cover, compiled.required)]
    if there is not None:
        read = getter(there)
        parts.insert(0, _Part(lambda record: read(record) is not None, frozenset({Clue("there", there)})))
    for name, texts in reversed(list(where.items())):
        values = [SigmaString.from_str(text) for text in texts]
        test, cover = any_value(values, name)
        required = {name: frozenset(map(fold, texts))}
        parts.insert(0, _Part(_of_any_element(name, test, only_texts(values)), cover, required))
    if len(parts) == 1:
        return compiled
    whole = _both(parts)
    return Compiled(whole.matches, whole.cover, whole.required, compiled.fields | set(where))


@dataclass(frozen=True, slots=True)
class _Part:
    matches: Predicate
    cover: Cover = None
    required: dict[str, frozenset[str]] = field(default_factory=dict)


def _both(parts: list[_Part]) -> _Part:
    required: dict[str, frozenset[str]] = {}
    for part in parts:
        for name, values in part.required.items():
            # Of two demands on one field the narrower serves better; a list-valued field may satisfy both differently.
            if name not in required or len(values) < len(required[name]):
                required[name] = values
    predicates = [part.matches for part in parts]
    if len(predicates) == 2:
        one, two = predicates
        return _Part(lambda record: one(record) and two(record), all_of(part.cover for part in parts), required)

    def matches(record: Record) -> bool:
        for predicate in predicates:  # noqa: SIM110  # all() takes three times as long
            if not predicate(record):
                return False
        return True

    return _Part(matches, all_of(part.cover for part in parts), required)


def _either(parts: list[_Part]) -> _Part:
    if len(parts) == 1:
        return parts[0]
    predicates = [part.matches for part in parts]

    def matches(record: Record) -> bool:
        for predicate in predicates:  # noqa: SIM110  # any() takes three times as long
            if predicate(record):
                return True
        return False

    shared = set(parts[0].required).intersection(*(part.required for part in parts[1:]))
    required = {name: frozenset().union(*(part.required[name] for part in parts)) for name in sorted(shared)}
    return _Part(matches, any_of(part.cover for part in parts), required)


class _Compiler:
    def __init__(self, names: Names) -> None:
        self.names = names
        self.zone: ZoneInfo = names.placeholders.zone or UTC
        self.fields: set[str] = set()

    def node(self, node: Any) -> _Part:
        if isinstance(node, ConditionAND):
            return _both([self.node(arg) for arg in node.args])
        if isinstance(node, ConditionOR):
            return self._or(node.args)
        if isinstance(node, ConditionNOT):
            inner = self.node(node.args[0]).matches
            return _Part(lambda record: not inner(record))
        if isinstance(node, ConditionFieldEqualsValueExpression):
            return self._field(node.field, [node.value])
        if isinstance(node, ConditionValueExpression):
            return self._keywords([node.value])
        raise UnsupportedError(f"condition element {type(node).__name__}")

    def _or(self, args: Iterable[Any]) -> _Part:
        """Alternatives for one field, and keywords, are tried together."""
        by_field: dict[str, list[Any]] = {}
        keywords: list[Any] = []
        others: list[_Part] = []
        for arg in args:
            if isinstance(arg, ConditionFieldEqualsValueExpression):
                by_field.setdefault(arg.field, []).append(arg.value)
            elif isinstance(arg, ConditionValueExpression):
                keywords.append(arg.value)
            else:
                others.append(self.node(arg))
        parts = [self._field(name, values) for name, values in by_field.items()]
        return _either([*parts, *([self._keywords(keywords)] if keywords else []), *others])

    def _values(self, values: Iterable[Any]) -> list[Any]:
        """Values with what stands for several put in their place, and placeholders filled in."""
        found: list[Any] = []
        for value in values:
            if isinstance(value, SigmaExpansion):
                found += self._values(value.values)
            else:
                found += self.names.placeholders.filled(value)
        return found

    def _field(self, sigma_name: str, values: list[Any]) -> _Part:
        name = self.names.record_field(sigma_name)
        self.fields.add(name)
        read = getter(name)
        plain: list[Any] = []
        parts: list[_Part] = []
        for value in self._values(values):
            if isinstance(value, SigmaExists):
                there: Cover = frozenset({Clue("there", name)})
                parts.append(_Part(lambda record: read(record) is not None, there) if value else _Part(_missing(read)))
            elif isinstance(value, SigmaNull):
                parts.append(_Part(_missing(read)))
            elif isinstance(value, SigmaFieldReference):
                parts.append(self._reference(name, read, value))
            else:
                plain.append(value)
        if plain:
            test, cover = any_value(plain, name, self.zone)
            equal = cover is not None and all(clue.kind == "equals" for clue in cover)
            required = {name: frozenset(clue.text for clue in cover)} if cover is not None and equal else {}
            parts.insert(0, _Part(_of_any_element(name, test, only_texts(plain)), cover, required))
        return _either(parts)

    def _reference(self, name: str, read: Getter, value: SigmaFieldReference) -> _Part:
        other_name = self.names.record_field(value.field)
        self.fields.add(other_name)
        read_other = getter(other_name)
        if value.starts_with and value.ends_with:
            compare: Callable[[str, str], bool] = lambda text, other: other in text  # noqa: E731  # one of four alike
        elif value.starts_with:
            compare = str.startswith
        elif value.ends_with:
            compare = str.endswith
        else:
            compare = str.__eq__

        def matches(record: Record) -> bool:
            others = [fold(text_of(other)) for other in _elements(read_other(record))]
            return bool(others) and any(
                compare(text, other) for item in _elements(read(record)) for text in (fold(text_of(item)),) for other in others
            )

        return _Part(matches, frozenset({Clue("there", name)}))

    def _keywords(self, values: list[Any]) -> _Part:
        folded: list[str] = []
        cased: list[str] = []
        tests: list[Callable[[str], bool]] = []
        covers: list[Cover] = []
        for given in self._values(values):
            value = SigmaString.from_str(str(given.number)) if isinstance(given, SigmaNumber) else given
            if isinstance(value, SigmaRegularExpression):
                search, needed = regex_of(value)
                tests.append(search)
                covers.append(self._keyword_cover(needed))
            elif isinstance(value, SigmaString) and not value.contains_special():
                text = plain_text(value.s)
                if isinstance(value, SigmaCasedString):
                    cased.append(text)
                else:
                    folded.append(fold(text))
                covers.append(self._keyword_cover({text}))
            elif isinstance(value, SigmaString):
                tests.append(text_pattern(value, whole=False))
                covers.append(self._keyword_cover({max((part for part in value.s if isinstance(part, str)), key=len, default="")}))
            else:
                raise UnsupportedError(f"keyword of type {type(value).__name__}")
        return _Part(_keyword_test(self.names.keywords, folded, cased, tests), any_of(covers))

    def _keyword_cover(self, needed: Iterable[str] | None) -> Cover:
        if needed is None or not all(needed):
            return None
        return frozenset(Clue("contains", name, fold(text)) for text in needed for name in self.names.keywords or (KEYWORDS,))


def _missing(read: Getter) -> Predicate:
    return lambda record: read(record) is None


def _elements(found: Any) -> Iterable[Any]:
    if found is None:
        return ()
    return [item for item in found if item is not None] if isinstance(found, (list, tuple)) else (found,)


def _of_any_element(name: str, test: Callable[[Any], bool], texts: frozenset[str] | None = None) -> Predicate:
    """Whether a field, or an element of it, passes the test; `texts`: the test is that a text is, folded, one of these."""
    read = getter(name)

    def any_of_it(found: Any) -> bool:
        if isinstance(found, (list, tuple)):
            return any(test(item) for item in found if item is not None and not isinstance(item, (dict, list)))
        return not isinstance(found, dict) and test(found)

    # The commonest forms take one call for an event. A plain field that holds an empty list has no element either way.
    plain = name.replace("_", "").isalnum()
    if plain and texts is not None:

        def one_of(record: Record) -> bool:
            found = record.get(name)
            if found.__class__ is str:
                return found.casefold() in texts
            return found is not None and any_of_it(found)

        return one_of
    if plain:

        def of_plain(record: Record) -> bool:
            found = record.get(name)
            if found.__class__ is str or found.__class__ is int:
                return test(found)
            return found is not None and any_of_it(found)

        return of_plain

    def matches(record: Record) -> bool:
        found = read(record)
        if found is None:
            return False
        if found.__class__ is str:
            return test(found)
        return any_of_it(found)

    return matches


def _keyword_test(
    names: tuple[str, ...] | None, folded: list[str], cased: list[str], tests: list[Callable[[str], bool]]
) -> Predicate:
    def matches(record: Record) -> bool:
        texts = list(texts_of(record, names))
        if folded:
            # What joins the texts is in no needle, so none is found across two of them.
            text = fold(_BETWEEN.join(texts))
            for needle in folded:
                if needle in text:
                    return True
        for needle in cased:
            if any(needle in text for text in texts):
                return True
        return any(test(text) for test in tests for text in texts)

    return matches


def event_text(record: Record) -> str:
    """All the texts of an event in one, folded: where an index looks for keywords."""
    return fold(_BETWEEN.join(texts_of(record)))


def texts_of(record: Mapping[str, Any], names: tuple[str, ...] | None = None) -> Iterator[str]:
    """The texts of an event in which keywords are looked for: of the fields named, or of all that are the event's own."""
    if names is not None:
        return _texts(getter(name)(record) for name in names)  # type: ignore[arg-type]
    return _texts(value for name, value in record.items() if name not in NOT_OF_THE_EVENT)


def _texts(values: Iterable[Any]) -> Iterator[str]:
    for value in values:
        if value.__class__ is str:
            yield value
        elif isinstance(value, dict):
            yield from _texts(value.values())
        elif isinstance(value, (list, tuple)):
            yield from _texts(value)
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            yield str(value)
