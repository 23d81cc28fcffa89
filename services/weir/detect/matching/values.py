"""Tests for the values that Sigma compares a field with, and the clues by which an index finds them."""

from __future__ import annotations

import datetime
import ipaddress
import math
import operator
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final
from zoneinfo import ZoneInfo

from sigma.types import (
    CompareOperators,
    SigmaBool,
    SigmaCasedString,
    SigmaCIDRExpression,
    SigmaCompareExpression,
    SigmaNumber,
    SigmaRegularExpression,
    SigmaRegularExpressionFlag,
    SigmaString,
    SigmaTimestampPart,
    SpecialChars,
    TimestampPart,
)

from weir.detect.matching.covers import Clue, Cover, any_of, network_head
from weir.detect.matching.fields import fold, text_of
from weir.detect.matching.regexes import Search, literals, searcher

__all__ = ["UTC", "UnsupportedError", "ValueTest", "any_value", "number_of", "only_texts", "plain_text", "regex_of", "text_pattern"]

ValueTest = Callable[[Any], bool]
UTC: Final = ZoneInfo("UTC")


class UnsupportedError(ValueError):
    """A construct that is not evaluated; the message names it."""


@dataclass(slots=True)
class _Texts:
    """Plain values of one field, taken together: the folded text is any of `exact`, begins, ends or has in it one of the others."""

    exact: set[str] = field(default_factory=set)
    numbers: set[float] = field(default_factory=set)
    begins: list[str] = field(default_factory=list)
    ends: list[str] = field(default_factory=list)
    holds: list[str] = field(default_factory=list)

    def test(self) -> ValueTest | None:
        """Of all of them at once; None where there are none."""
        exact, begins, ends, holds = frozenset(self.exact), tuple(self.begins), tuple(self.ends), tuple(self.holds)
        numbers = frozenset(self.numbers)
        if not (exact or begins or ends or holds):
            return None
        if not (begins or ends or holds):
            return lambda found: (
                fold(found) in exact
                if found.__class__ is str
                else fold(text_of(found)) in exact or (found in numbers and not isinstance(found, bool))
            )
        if len(holds) == 1 and not (exact or begins or ends):
            needle = holds[0]
            return lambda found: needle in fold(text_of(found))

        def test(found: Any) -> bool:
            text = fold(text_of(found))
            if text in exact or text.startswith(begins) or text.endswith(ends):
                return True
            for needle in holds:
                if needle in text:
                    return True
            return found.__class__ is not str and not isinstance(found, bool) and found in numbers

        return test


def any_value(values: Iterable[Any], name: str, zone: ZoneInfo = UTC) -> tuple[ValueTest, Cover]:
    """The test whether something is one of these values of Sigma, and the clues to it in the field `name`.

    `zone` is where parts of a time are told. Raises UnsupportedError.
    """
    texts = _Texts()
    tests: list[ValueTest] = []
    covers: list[Cover] = []
    for value in values:
        if isinstance(value, SigmaNumber) and not isinstance(value, SigmaTimestampPart):
            texts.exact.add(str(value.number))
            texts.numbers.add(value.number)
            covers.append(frozenset({Clue("equals", name, str(value.number))}))
        elif isinstance(value, SigmaBool):
            texts.exact.add(text_of(bool(value)))
            covers.append(frozenset({Clue("equals", name, text_of(bool(value)))}))
        elif isinstance(value, SigmaString):
            test = _add_text(value, texts)
            if test is not None:
                tests.append(test)
            covers.append(_text_cover(value, name))
        else:
            test, cover = _other(value, name, zone)
            tests.append(test)
            covers.append(cover)
    if (together := texts.test()) is not None:
        tests.insert(0, together)
    return _any(tests), any_of(covers)


def only_texts(values: Iterable[Any]) -> frozenset[str] | None:
    """The folded texts of which a text must be one to be any of these values; None where that is not all that is asked."""
    texts = set()
    for value in values:
        if isinstance(value, SigmaNumber) and not isinstance(value, SigmaTimestampPart):
            texts.add(str(value.number))
        elif isinstance(value, SigmaString) and not isinstance(value, SigmaCasedString) and not _special(value):
            texts.add(fold(plain_text(value.s)))
        else:
            return None
    return frozenset(texts)


def _any(tests: list[ValueTest]) -> ValueTest:
    if len(tests) == 1:
        return tests[0]

    def any_test(found: Any) -> bool:
        for test in tests:  # noqa: SIM110  # any() takes three times as long
            if test(found):
                return True
        return False

    return any_test


def _other(value: Any, name: str, zone: ZoneInfo) -> tuple[ValueTest, Cover]:
    there: Cover = frozenset({Clue("there", name)})
    if isinstance(value, SigmaTimestampPart):
        part, number = _part(value.timestamp_part, zone), value.number
        return (lambda found: part(found) == number), there
    if isinstance(value, SigmaRegularExpression):
        search, needed = regex_of(value)
        cover = there if needed is None else frozenset(Clue("contains", name, fold(text)) for text in needed)
        return (lambda found: search(text_of(found))), cover
    if isinstance(value, SigmaCIDRExpression):
        return _cidr_test(value.network), frozenset(Clue("network", name, head) for head in _heads(value.network))
    if isinstance(value, SigmaCompareExpression):
        return _compare(value, name, zone)
    raise UnsupportedError(f"value of type {type(value).__name__.removeprefix('Sigma')}")


# Texts


def plain_text(parts: Iterable[Any]) -> str:
    """Parts of a text without wildcards, as one. Raises UnsupportedError for a placeholder that nothing was put in for."""
    return "".join(_literal(part) for part in parts)


def _literal(part: Any) -> str:
    if isinstance(part, str):
        return part
    raise UnsupportedError(f"placeholder {getattr(part, 'name', part)} has no value")


_STAR: Final = SpecialChars.WILDCARD_MULTI


def _special(value: SigmaString) -> bool:
    return any(isinstance(part, SpecialChars) for part in value.s)


def _add_text(value: SigmaString, texts: _Texts) -> ValueTest | None:
    """Put a text among those that are tested together, or answer a test of its own."""
    cased = isinstance(value, SigmaCasedString)
    parts = _joined(value)
    middle = [part for part in parts if part != _STAR]
    simple = len(middle) <= 1 and all(isinstance(part, str) for part in middle)
    if not simple:
        return text_pattern(value, whole=True)
    text = plain_text(middle)
    open_left, open_right = parts[:1] == [_STAR], parts[-1:] == [_STAR]
    if cased:
        return _cased_test(text, open_left, open_right)
    folded = fold(text)
    if not text and parts:
        texts.holds.append("")
    elif open_left and open_right:
        texts.holds.append(folded)
    elif open_left:
        texts.ends.append(folded)
    elif open_right:
        texts.begins.append(folded)
    else:
        texts.exact.add(folded)
    return None


def _joined(value: SigmaString) -> list[Any]:
    """The parts, with neighbouring pieces of text and neighbouring stars as one."""
    parts: list[Any] = []
    for part in value.s:
        if part == "" or (part == _STAR and parts[-1:] == [_STAR]):
            continue
        if isinstance(part, str) and parts and isinstance(parts[-1], str):
            parts[-1] += part
        else:
            parts.append(part)
    return parts


def _cased_test(text: str, open_left: bool, open_right: bool) -> ValueTest:
    if open_left and open_right:
        return lambda found: text in text_of(found)
    if open_left:
        return lambda found: text_of(found).endswith(text)
    if open_right:
        return lambda found: text_of(found).startswith(text)
    return lambda found: text_of(found) == text


def text_pattern(value: SigmaString, *, whole: bool) -> ValueTest:
    """A text with wildcards that no simpler test serves; `whole`: all of the value, else anywhere in it."""
    if isinstance(value, SigmaCasedString):
        search = _wildcards(value, str, whole=whole, cased=True)
        return lambda found: search(text_of(found))
    as_written, folded = _wildcards(value, str, whole=whole), _wildcards(value, fold, whole=whole)

    def test(found: Any) -> bool:
        text = text_of(found)
        # Folding may make two characters of one, of which `?` stands for the one that is written.
        return folded(text) if text.isascii() else as_written(text) or folded(fold(text))

    return test


def _wildcards(value: SigmaString, change: Callable[[str], str], *, whole: bool, cased: bool = False) -> Search:
    pieces = []
    for part in _joined(value):
        if part == _STAR:
            pieces.append(".*")
        elif part == SpecialChars.WILDCARD_SINGLE:
            pieces.append(".")
        else:
            pieces.append("".join(c if c.isalnum() else f"\\x{{{ord(c):x}}}" for c in change(_literal(part))))
    pattern = "".join(pieces)
    return searcher(f"\\A(?:{pattern})\\z" if whole else pattern, ignore_case=not cased, dot_all=True)


def _text_cover(value: SigmaString, name: str) -> Cover:
    if not _special(value):
        return frozenset({Clue("equals", name, fold(plain_text(value.s)))})
    longest = max((fold(part) for part in _joined(value) if isinstance(part, str)), key=len, default="")
    return frozenset({Clue("contains", name, longest) if longest else Clue("there", name)})


_FLAGS: Final = {
    SigmaRegularExpressionFlag.IGNORECASE: "ignore_case",
    SigmaRegularExpressionFlag.MULTILINE: "multi_line",
    SigmaRegularExpressionFlag.DOTALL: "dot_all",
}


def regex_of(value: SigmaRegularExpression) -> tuple[Callable[[str], bool], frozenset[str] | None]:
    """The search for a regular expression, and the texts of which a match has one. Raises UnsupportedError."""
    pattern = value.regexp.to_plain(True)
    try:
        return searcher(pattern, **{_FLAGS[flag]: True for flag in value.flags}), literals(pattern)
    except ValueError as error:
        raise UnsupportedError(f"regular expression {pattern!r}: {error}") from error


# Addresses


def _cidr_test(network: ipaddress.IPv4Network | ipaddress.IPv6Network) -> ValueTest:
    first, last = int(network.network_address), int(network.broadcast_address)
    version = network.version

    def test(found: Any) -> bool:
        if found.__class__ is not str or len(found) > _LONGEST_ADDRESS or (address := _address(found)) is None:
            return False
        return address[0] == version and first <= address[1] <= last

    return test


_LONGEST_ADDRESS: Final = 64
"""Characters; longer text is none. With a zone an address may have any length, and thousands are remembered."""


@lru_cache(maxsize=4_096)
def _address(text: str) -> tuple[int, int] | None:
    """Version and number of an address; of an IPv4 one that is written as IPv6 those of IPv4."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return address.version, int(address)


def _heads(network: ipaddress.IPv4Network | ipaddress.IPv6Network) -> list[str]:
    if network.version == 6:
        return [":"]
    begin, end = network.network_address.packed[0], network.broadcast_address.packed[0]
    # IPv4 addresses may be written as IPv6 ones.
    return [*map(str, range(begin, end + 1)), network_head("::ffff:0.0.0.0")]


# Numbers and times


def number_of(found: Any) -> float | None:
    """A value as a number: one, or text that is a finite one in decimal."""
    if isinstance(found, bool):
        return None
    if isinstance(found, (int, float)):
        return found
    if not isinstance(found, str) or "_" in found:
        return None
    try:
        number = float(found)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


_COMPARISONS: Final[dict[CompareOperators, Callable[[float, float], bool]]] = {
    CompareOperators.LT: operator.lt,
    CompareOperators.LTE: operator.le,
    CompareOperators.GT: operator.gt,
    CompareOperators.GTE: operator.ge,
    CompareOperators.NEQ: operator.ne,
}


def _compare(value: SigmaCompareExpression, name: str, zone: ZoneInfo) -> tuple[ValueTest, Cover]:
    compare = _COMPARISONS.get(value.op)
    if compare is None:
        raise UnsupportedError(f"comparison {value.op.name.lower()}")
    limit = value.number.number
    number = _part(value.number.timestamp_part, zone) if isinstance(value.number, SigmaTimestampPart) else number_of
    if number is not number_of or value.op is CompareOperators.NEQ:
        clue = Clue("there", name)
    else:
        clue = Clue("above" if value.op in {CompareOperators.GT, CompareOperators.GTE} else "below", name, limit=limit)

    plain = number is number_of

    def test(found: Any) -> bool:
        if plain and found.__class__ is int:
            return compare(found, limit)
        compared = number(found)
        return compared is not None and compare(compared, limit)

    return test, frozenset({clue})


_READ: Final[dict[TimestampPart, Callable[[datetime.datetime], int]]] = {
    TimestampPart.MINUTE: lambda time: time.minute,
    TimestampPart.HOUR: lambda time: time.hour,
    TimestampPart.DAY: lambda time: time.day,
    TimestampPart.WEEK: lambda time: time.isocalendar().week,
    TimestampPart.MONTH: lambda time: time.month,
    TimestampPart.YEAR: lambda time: time.year,
}
_EPOCH: Final = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)


@lru_cache(maxsize=64)
def _part(part: TimestampPart, zone: ZoneInfo) -> Callable[[Any], float | None]:
    read = _READ[part]

    # A rule that lists nine hours asks nine times of one event, all of one such function. Typed: true is no time and equals 1.
    @lru_cache(maxsize=64, typed=True)
    def of(found: Any) -> float | None:
        """Of microseconds since 1970, or of ISO 8601 text; one without an offset is UTC."""
        try:
            if isinstance(found, str):
                time = datetime.datetime.fromisoformat(found)
                time = time if time.tzinfo is not None else time.replace(tzinfo=datetime.UTC)
            elif isinstance(found, int) and not isinstance(found, bool):
                time = _EPOCH + datetime.timedelta(microseconds=found)
            else:
                return None
            return read(time.astimezone(zone))
        except (ValueError, OverflowError):
            return None

    return of
