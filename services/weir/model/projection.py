"""How one record becomes one row: the compiled form of a mapping.

A `Plan` is a list of steps; `compile_plan` turns it into one function over a record, with everything looked up beforehand, so
that a row costs a dictionary access and a store for each field that has a value. Values of absent fields, empty texts, empty
lists and empty maps make no column: to Kusto an absent text is an empty one, and every byte is paid for.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Protocol

import orjson

__all__ = [
    "CONVERTERS",
    "Convert",
    "Pairs",
    "Plan",
    "Project",
    "compile_plan",
    "finite",
    "fit_text",
    "iso_time",
    "json_document",
    "json_documents",
]

Convert = Callable[[Any], Any]

INT_MAX: Final = 2**31 - 1
LONG_MAX: Final = 2**63 - 1
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_SECONDS: dict[int, str] = {}
_TIMES: dict[int, str] = {}
_MAX_REMEMBERED: Final = 10_000


class Project(Protocol):
    """A record's row; with its partition and offset, where it was read."""

    def __call__(self, record: dict[str, Any], partition: int | None = None, offset: int | None = None) -> dict[str, Any]: ...


def iso_time(micros: int) -> str | None:
    """Microseconds since 1970 UTC as `2026-01-31T23:59:59.123456Z`; None outside the years 1 to 9999, all that Kusto holds."""
    text = _TIMES.get(micros)
    if text is not None:
        return text
    second = micros // 1_000_000
    whole = _SECONDS.get(second)
    if whole is None:
        try:
            whole = (_EPOCH + timedelta(seconds=second)).isoformat()[:19]
        except OverflowError:
            return None
        _remember(_SECONDS, second, whole)
    text = f"{whole}.{micros - second * 1_000_000:06d}Z"
    _remember(_TIMES, micros, text)
    return text


def _remember(table: dict[int, str], key: int, text: str) -> None:
    # Rows of one batch share seconds, and the receive time whole; hostile clocks must not grow a table for ever.
    if len(table) >= _MAX_REMEMBERED:
        table.clear()
    table[key] = text


def json_document(text: str) -> Any:
    """The value of a JSON text, for a column of type dynamic; a text that is none stays as it is."""
    if not text:
        return None
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return text


def json_documents(texts: list[str]) -> list[Any] | None:
    """The same for a list of JSON texts."""
    return [json_document(text) for text in texts] or None


def finite(value: float) -> float | None:
    """The number; None for infinities and NaN, which JSON does not have."""
    return value if math.isfinite(value) else None


def _milliseconds(nanoseconds: int) -> int:
    # The column is 32 bits wide: 24 days.
    return max(0, min(nanoseconds // 1_000_000, INT_MAX))


def _bit(number: int) -> Convert:
    mask = 1 << number
    return lambda value: True if value & mask else None


CONVERTERS: Final[dict[str, Convert]] = {
    "text": str,
    "upper": lambda value: value.upper() or None,
    "mac_colons": lambda value: value.replace("-", ":") or None,
    "nanoseconds_to_milliseconds": _milliseconds,
    **{f"bit_{number}": _bit(number) for number in range(6)},
}
"""What `convert` may name in a mapping file."""


_CEF_TIME = re.compile(r"([A-Z][a-z]{2})\s+(\d\d?)\s+(\d{4})\s+(\d\d):(\d\d):(\d\d)(?:\.(\d{3}))?( UTC| GMT| Z)?", re.ASCII)
_MONTH_NAMES: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_MONTHS: Final = {name: number for number, name in enumerate(_MONTH_NAMES, start=1)}
_INTEGER = re.compile(r"[+-]?\d{1,19}", re.ASCII)


def _text_time(text: str) -> str | None:
    """CEF's two forms of time: milliseconds since 1970, and `Mmm dd yyyy HH:mm:ss`, taken as UTC; None for anything else."""
    if text.isascii() and text.isdigit():
        # Some senders write seconds; the number of digits tells from the year 2001 on.
        return iso_time(int(text) * 1000) if len(text) == 13 else iso_time(int(text) * 1_000_000) if len(text) == 10 else None
    found = _CEF_TIME.fullmatch(text)
    if found is None:
        return None
    month, day, year, hour, minute, second, milli, _zone = found.groups()
    try:
        moment = datetime(int(year), _MONTHS[month], int(day), int(hour), int(minute), int(second), tzinfo=UTC)
    except (ValueError, KeyError):
        return None
    return iso_time((moment - _EPOCH) // timedelta(microseconds=1) + int(milli or 0) * 1000)


def fit_text(kind: str, text: str) -> Any:
    """A text as a value of a column type; None where it is none of that type."""
    if kind == "string":
        return text
    if kind in {"int", "long"}:
        if _INTEGER.fullmatch(text) is None:
            return None
        number = int(text)
        return number if abs(number) <= (INT_MAX if kind == "int" else LONG_MAX) else None
    if kind == "real":
        try:
            return finite(float(text))
        except ValueError:
            return None
    if kind == "datetime":
        return _text_time(text)
    raise ValueError(f"a text cannot become a column of type {kind}; string, int, long, real and datetime are known")


@dataclass(frozen=True, slots=True)
class Pairs:
    """A map field whose pairs have columns of their own: `keys` by lower-case key are column and type."""

    source: str
    rest: str
    keys: dict[str, tuple[str, str]]


@dataclass(slots=True)
class Plan:
    """Steps by kind; each names the source field and the column, in the order of the columns."""

    constants: dict[str, Any] = field(default_factory=dict)
    texts: list[tuple[str, str]] = field(default_factory=list)
    """Taken over where not empty: texts, lists, maps."""
    numbers: list[tuple[str, str]] = field(default_factory=list)
    """Taken over where not null."""
    converted: list[tuple[str, str, Convert]] = field(default_factory=list)
    first_of: list[tuple[tuple[str, ...], str, Convert | None]] = field(default_factory=list)
    """The first of several fields that gives a value."""
    pairs: Pairs | None = None
    topic: str = ""
    coordinates: tuple[str, str, str] = ("EventTopic", "EventPartition", "EventOffset")


def compile_plan(plan: Plan) -> Project:
    """One function that does all of the plan's steps."""
    constants = dict(plan.constants)
    texts, numbers = tuple(plan.texts), tuple(plan.numbers)
    converted, first_of = tuple(plan.converted), tuple(plan.first_of)
    topic_column, partition_column, offset_column = plan.coordinates
    topic = plan.topic
    spread = _compile_pairs(plan.pairs) if plan.pairs is not None else None

    def project(record: dict[str, Any], partition: int | None = None, offset: int | None = None) -> dict[str, Any]:
        row = constants.copy()
        get = record.get
        for sources, column, convert in first_of:
            for source in sources:
                value = get(source)
                if value is not None and value != "" and (convert is None or (value := convert(value)) is not None):
                    row[column] = value
                    break
        for source, column in texts:
            if value := get(source):
                row[column] = value
        for source, column in numbers:
            if (value := get(source)) is not None:
                row[column] = value
        for source, column, convert in converted:
            if (value := get(source)) is not None and (value := convert(value)) is not None:
                row[column] = value
        if spread is not None:
            spread(record, row)
        if partition is not None:
            row[topic_column] = topic
            row[partition_column] = partition
            row[offset_column] = offset
        return row

    return project


def _compile_pairs(pairs: Pairs) -> Callable[[dict[str, Any], dict[str, Any]], None]:
    source, rest, keys = pairs.source, pairs.rest, pairs.keys

    def spread(record: dict[str, Any], row: dict[str, Any]) -> None:
        # Where the processor has joined the pairs without a column, only misfits are added, at the end: queries count positions.
        joined = rest in row
        left: list[str] = []
        for key, text in (record.get(source) or {}).items():
            target = keys.get(key.lower())
            if target is None:
                if not joined:
                    left.append(f"{key}={text}")
                continue
            if not text:
                continue
            column, kind = target
            value = text if kind == "string" else fit_text(kind, text)
            if value is None:
                left.append(f"{key}={text}")
            else:
                row[column] = value
        if left:
            row[rest] = ";".join([row[rest], *left] if joined else left)

    return spread
