"""Data collection rules as the Logs Ingestion stand-in knows them: stream declarations, and fitting a row to one.

Names and types: Microsoft's "Structure of a data collection rule" and "Add or delete tables and columns in Azure Monitor Logs".
Field and time limits: "Azure Monitor service limits" (64 KB a field) and "Standard columns in Azure Monitor Logs" (TimeGenerated).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import yaml

__all__ = ["MAX_FIELD_BYTES", "Fitter", "Losses", "Stream", "load_rules", "parse_rules"]

MAX_FIELD_BYTES = 64 * 1024
_OLDEST = timedelta(days=2)
_NEWEST = timedelta(days=1)
_TIME_COLUMN = "TimeGenerated"
_COLUMN_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,44}")
_RESERVED = frozenset({"_ResourceId", "id", "_SubscriptionId", "TenantId", "Type", "UniqueId", "Title"})
# A record's id, where the configuration does not name its column: the first of these that the stream declares.
_ID_COLUMNS = ("EventId", "EventId_CF", "EventOriginalUid", "ExtID")

_INT32 = range(-(2**31), 2**31)
_INT64 = range(-(2**63), 2**63)


class _Misfit(Exception):
    """The value does not fit the column's type."""


def _string(value: object) -> object:
    # Stricter than the service may be: an object or list in a string column is not said to be written out as text.
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return str(value)
    raise _Misfit


def _whole(value: object, allowed: range) -> int:
    if type(value) is int and value in allowed:
        return value
    raise _Misfit


def _real(value: object) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    raise _Misfit


def _boolean(value: object) -> bool:
    if isinstance(value, bool):
        return value
    raise _Misfit


def _moment(value: object) -> datetime:
    """An ISO 8601 text with date and time; a missing zone means UTC, and digits after the sixth are cut."""
    if not isinstance(value, str) or len(value) < len("2026-01-01"):
        raise _Misfit
    try:
        moment = datetime.fromisoformat(value)
    except ValueError as error:
        raise _Misfit from error
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _datetime(value: object) -> object:
    _moment(value)
    return value


_CONVERTERS: Final[Mapping[str, Callable[[Any], object]]] = {
    "string": _string,
    "int": lambda value: _whole(value, _INT32),
    "long": lambda value: _whole(value, _INT64),
    "real": _real,
    "boolean": _boolean,
    "datetime": _datetime,
    "dynamic": lambda value: value,
}


@dataclass(frozen=True, slots=True)
class Stream:
    """One stream declaration: column types by name, the table it feeds and the column that holds a record's id (or None)."""

    name: str
    table: str
    columns: Mapping[str, str]
    id_column: str | None


@dataclass(slots=True)
class Losses:
    """What the service would lose in silence, counted by column over all requests of one stream."""

    dropped: Counter[str] = field(default_factory=Counter)
    misfits: Counter[str] = field(default_factory=Counter)
    truncated: Counter[str] = field(default_factory=Counter)
    replaced_times: int = 0


class Fitter:
    """Fits rows to a stream's declaration as ingestion does: lossy, never refusing; keeps count in `losses`."""

    def __init__(self, stream: Stream) -> None:
        self.losses = Losses()
        self._converters = {name: _CONVERTERS[kind] for name, kind in stream.columns.items()}
        self._text = frozenset(name for name, kind in stream.columns.items() if kind == "string")
        self._timed = stream.columns.get(_TIME_COLUMN) == "datetime"

    def fit(self, row: Mapping[str, Any], arrived: datetime) -> dict[str, Any]:
        """The row as it is stored. `arrived` (aware) replaces a TimeGenerated that is missing, too old or too far ahead."""
        fitted: dict[str, Any] = {}
        losses, text, converters = self.losses, self._text, self._converters
        for name, value in row.items():
            if name not in converters:
                losses.dropped[name] += 1
            elif value is None:
                fitted[name] = None
            elif name in text and type(value) is str:
                # Up to a quarter of the limit in characters cannot exceed it in bytes: the usual case needs no encoding.
                fitted[name] = value if len(value) * 4 <= MAX_FIELD_BYTES else self._cut(name, value)
            else:
                try:
                    fitted[name] = converters[name](value)
                except _Misfit:
                    fitted[name] = None
                    losses.misfits[name] += 1
        if self._timed:
            self._clamp(fitted, arrived)
        return fitted

    def _cut(self, name: str, value: str) -> str:
        encoded = value.encode("utf-8", "surrogatepass")
        if len(encoded) <= MAX_FIELD_BYTES:
            return value
        self.losses.truncated[name] += 1
        return encoded[:MAX_FIELD_BYTES].decode("utf-8", "ignore")

    def _clamp(self, fitted: dict[str, Any], arrived: datetime) -> None:
        value = fitted.get(_TIME_COLUMN)
        if value is not None and arrived - _OLDEST <= _moment(value) <= arrived + _NEWEST:
            return
        self.losses.replaced_times += 1
        fitted[_TIME_COLUMN] = arrived.isoformat()


def load_rules(path: Path) -> dict[str, dict[str, Stream]]:
    """Read `{"dcrs": {immutable id: {"streams": {...}}}}` from JSON or YAML; see `parse_rules`."""
    return parse_rules(yaml.safe_load(path.read_text(encoding="utf-8")), str(path))


def parse_rules(document: object, place: str = "configuration") -> dict[str, dict[str, Stream]]:
    """Streams by rule and name. Raises ValueError naming every declaration that Azure would refuse, at once.

    A stream is `{"columns": [{"name", "type"}, …], "table": "…", "id_column": "…"}`; `table` defaults to the stream's
    name without `Custom-`, `id_column` to the first usual one that is declared.
    """
    mistakes: list[str] = []
    rules: dict[str, dict[str, Stream]] = {}
    if not isinstance(document, Mapping) or not isinstance(document.get("dcrs"), Mapping):
        raise ValueError(f"{place}: expected an object with the key 'dcrs'")  # noqa: TRY004 - a mistake in a file
    for rule, declared in document["dcrs"].items():
        streams = declared.get("streams") if isinstance(declared, Mapping) else None
        if not isinstance(streams, Mapping):
            mistakes.append(f"{rule}: 'streams' is missing")
            continue
        rules[str(rule)] = {
            str(name): _stream(str(name), body if isinstance(body, Mapping) else {}, f"{rule}/{name}", mistakes)
            for name, body in streams.items()
        }
    if mistakes:
        raise ValueError(f"{place}: " + "; ".join(mistakes))
    return rules


def _stream(name: str, body: Mapping[str, Any], where: str, mistakes: list[str]) -> Stream:
    if not name.startswith("Custom-"):
        mistakes.append(f"{where}: a stream's name must start with 'Custom-'")
    columns: dict[str, str] = {}
    for column in body.get("columns") or ():
        column_name, kind = str(column.get("name")), str(column.get("type"))
        if not _COLUMN_NAME.fullmatch(column_name) or column_name in _RESERVED:
            mistakes.append(f"{where}: column name {column_name!r} is not allowed")
        if kind not in _CONVERTERS:
            mistakes.append(f"{where}: column {column_name!r} has type {kind!r}; allowed are {', '.join(_CONVERTERS)}")
        if column_name in columns:
            mistakes.append(f"{where}: column {column_name!r} is declared twice")
        columns[column_name] = kind
    if not columns:
        mistakes.append(f"{where}: no columns")
    id_column = body.get("id_column") or next((column for column in _ID_COLUMNS if column in columns), None)
    if id_column is not None and id_column not in columns:
        mistakes.append(f"{where}: id_column {id_column!r} is not among the columns")
    return Stream(name, str(body.get("table") or name.removeprefix("Custom-")), columns, id_column)
