"""The events of a test case, from what is written in a rule file: shorthand filled in, names and values as in real records.

A case proves something only if its events are such as occur. So a field that the dataset does not have, or a value that its
records cannot hold, is a mistake of the case and not an event that happens not to match.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, date, datetime
from functools import cache
from typing import Any, NamedTuple

import orjson

from weir.detect.matching.matcher import UnsupportedError
from weir.detect.signals.pipeline import PIPELINE, PIPELINE_FIELDS
from weir.model.schemas import latest

__all__ = ["BATCH_EVENTS", "CaseError", "Series", "duration_us", "make_record", "read_series", "time_us"]

Record = dict[str, Any]
FieldName = Callable[[str], str]

BATCH_EVENTS = 100
_MICROSECONDS = {"ms": 1_000, "s": 1_000_000, "m": 60_000_000, "h": 3_600_000_000, "d": 86_400_000_000, "w": 604_800_000_000}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|[smhdw])")
_TEMPLATE = re.compile(r"\{n(?::(-?\d+)-(-?\d+))?\}")
_SERIES_KEYS = {"dataset", "after", "repeat", "every", "every_ms", "event"}
_KINDS: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "int": (int,),
    "long": (int,),
    "float": (int, float),
    "double": (int, float),
    "boolean": (bool,),
    "bytes": (bytes,),
    "map": (dict,),
}


class CaseError(ValueError):
    """A test case that cannot be run; the message says what is wrong with it."""


class Series(NamedTuple):
    """Events that follow each other at equal distances. Times in microseconds, `after` from the begin of the case."""

    dataset: str
    after: int
    repeat: int
    every: int
    event: Mapping[str, Any]


def duration_us(value: Any, name: str) -> int:
    """Microseconds of a text such as 10s, 1.5h, 8d (units ms, s, m, h, d, w). Raises CaseError, naming `name`."""
    found = _DURATION.fullmatch(str(value).strip())
    if found is None:
        raise CaseError(f"{name}: {value!r} is no span of time; write a number and ms, s, m, h, d or w, such as 10s")
    return round(float(found[1]) * _MICROSECONDS[found[2]])


def time_us(value: Any, name: str) -> int:
    """Microseconds UTC of a time as YAML or ISO 8601 has it, UTC where it names no zone. Raises CaseError, naming `name`."""
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            raise CaseError(f"{name}: {value!r} is no time; write it as 2026-03-02T03:00:00Z") from None
    if isinstance(value, date) and not isinstance(value, datetime):
        value = datetime(value.year, value.month, value.day)  # noqa: DTZ001  the zone follows
    if not isinstance(value, datetime):
        raise CaseError(f"{name}: {value!r} is no time; write it as 2026-03-02T03:00:00Z")
    moment = value if value.tzinfo else value.replace(tzinfo=UTC)
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // _MICROSECOND


_MICROSECOND = datetime(1970, 1, 1, 0, 0, 0, 1) - datetime(1970, 1, 1)  # noqa: DTZ001  a difference


def read_series(entry: Mapping[str, Any], dataset: str) -> Series:
    """A series as a case has it; `dataset` where it names none. Raises CaseError."""
    if unknown := sorted(set(entry) - _SERIES_KEYS):
        raise CaseError(f"events: unknown {', '.join(unknown)}; a series has {', '.join(sorted(_SERIES_KEYS))}, or silence alone")
    event = entry.get("event")
    if not isinstance(event, dict):
        raise CaseError("events: a series needs an event, a mapping of fields")
    repeat = entry.get("repeat", 1)
    if not isinstance(repeat, int) or isinstance(repeat, bool) or repeat < 1:
        raise CaseError(f"repeat: {repeat!r} is no number of events from 1 up")
    if "every" in entry and "every_ms" in entry:
        raise CaseError("every and every_ms say the same; give one")
    every = (
        duration_us(entry["every"], "every") if "every" in entry else duration_us(f"{entry.get('every_ms', 1000)}ms", "every_ms")
    )
    return Series(str(entry.get("dataset", dataset)), duration_us(entry.get("after", "0s"), "after"), repeat, every, event)


def make_record(
    dataset: str, fields: Mapping[str, Any], index: int, number: int, at: int, names: Iterable[FieldName] = ()
) -> Record:
    """One event as the processors would have published it.

    Args:
        dataset: it is of.
        fields: as written in the case.
        index: of the event in its series, from 0.
        number: of the event in the case, from 0; its id is made of it.
        at: its time, microseconds UTC.
        names: how rules of the case find the record field of a name; what none of them knows is looked up in the dataset.

    Raises:
        CaseError: there is no such dataset or field, or the field cannot hold the value.
    """
    batch, unit = divmod(number, BATCH_EVENTS)
    record: Record = {
        "timestamp": at,
        "event_created": at,
        "event_id": f"{batch:032x}-{unit}-0",
        "raw_topic": "raw",
        "raw_partition": 0,
        "raw_offset": batch,
    }
    for name, written in fields.items():
        found = _record_field(dataset, str(name), names)
        field, dot, key = found.partition(".")
        value = _filled(written, index)
        if not dot:
            record[field] = _typed(value, _types(dataset)[field], f"{name} of {dataset}")
        elif "map" in _types(dataset)[field]:
            record.setdefault(field, {})[key] = str(value)
        else:
            # A text that holds JSON, such as what a sensor sent.
            record[field] = orjson.dumps({**orjson.loads(record.get(field, "{}")), key: value}).decode()
    return record


def _record_field(dataset: str, name: str, names: Iterable[FieldName]) -> str:
    types = _types(dataset)
    for name_of in names:
        try:
            # Of several places where a rule looks an event has one; what is worked out from a field follows from the whole.
            found = name_of(name).partition("|")[0].partition(":")[0]
        except UnsupportedError:
            continue
        if found.partition(".")[0] in types:
            return found
    parts = name.split(".")
    for end in range(len(parts), 0, -1):
        field = "_".join(parts[:end])
        if field in types and (end == len(parts) or "map" in types[field]):
            return ".".join([field, ".".join(parts[end:])]).rstrip(".")
    raise CaseError(f"event: {dataset} has no field {name}; docs/events.md lists those it has")


@cache
def _types(dataset: str) -> dict[str, tuple[str, ...]]:
    """Avro types of each field of a dataset's records, without null; a logical type in place of what it rests on."""
    if dataset == PIPELINE:
        return {name: (field.type,) for name, field in PIPELINE_FIELDS.items()}
    try:
        fields = latest(dataset).parsed["fields"]
    except (KeyError, ValueError) as error:
        raise CaseError(f"events: there is no dataset {dataset}") from error
    found = {}
    for field in fields:
        union = field["type"] if isinstance(field["type"], list) else [field["type"]]
        kinds = [kind.get("logicalType") or kind["type"] if isinstance(kind, dict) else kind for kind in union]
        found[field["name"]] = tuple(kind for kind in kinds if kind != "null")
    return found


def _filled(value: Any, index: int) -> Any:
    """The value with {n}, {n:1-9} and one_of filled in."""
    if isinstance(value, dict) and set(value) == {"one_of"}:
        choices = value["one_of"]
        if not isinstance(choices, list) or not choices:
            raise CaseError("one_of: needs a list of values")
        return _filled(choices[index % len(choices)], index)
    if isinstance(value, dict):
        return {key: _filled(item, index) for key, item in value.items()}
    if isinstance(value, list):
        return [_filled(item, index) for item in value]
    if not isinstance(value, str):
        return value

    def number(found: re.Match[str]) -> str:
        if found[1] is None:
            return str(index + 1)
        low, high = int(found[1]), int(found[2])
        if high < low:
            raise CaseError(f"{found[0]}: {high} is below {low}")
        return str(low + index % (high - low + 1))

    return _TEMPLATE.sub(number, value)


def _typed(value: Any, kinds: tuple[str, ...], where: str) -> Any:
    """The value as the field holds it: what was written as a number for a text field is text, and the other way round."""
    if value is None:
        return None
    if kinds == ("array",):
        return list(map(str, value)) if isinstance(value, list) else [str(value)]
    for kind in kinds:
        if kind == "timestamp-micros":
            return value if isinstance(value, int) else time_us(value, where)
        if isinstance(value, _KINDS.get(kind, (object,))) and (kind == "boolean" or not isinstance(value, bool)):
            return value
    try:
        if "string" in kinds and isinstance(value, (int, float)):
            return str(value).lower() if isinstance(value, bool) else str(value)
        if {"int", "long"} & set(kinds) and isinstance(value, str):
            return int(value)
        if {"float", "double"} & set(kinds) and isinstance(value, str):
            return float(value)
    except ValueError:
        pass
    raise CaseError(f"{where}: it holds {' or '.join(kinds)}, not {value!r}")
