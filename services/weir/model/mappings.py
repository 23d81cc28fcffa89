"""Mappings of records to the tables of Azure Data Explorer and Microsoft Sentinel.

`projection("adx", "events.cef")` and its like say which table a topic goes to, which columns it has, and turn a record into a
row. For ADX, and for Sentinel's custom tables, the columns are made from the Avro schema; for Sentinel's own tables the files in
`schemas/mappings/sentinel` say what goes where. Either way no field is dropped in silence: every field of the schema is a source
of a column, or stands under `left_out` with the reason.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any, Final, Literal

import yaml

from weir.model.projection import (
    CONVERTERS,
    Convert,
    Pairs,
    Plan,
    Project,
    compile_plan,
    finite,
    iso_time,
    json_document,
    json_documents,
)
from weir.model.schemas import latest, schemas_dir
from weir.model.topics import declarations

__all__ = ["COLUMN_TYPES", "Column", "Destination", "Projection", "cef_key_has_column", "projectable_topics", "projection"]

Destination = Literal["sentinel", "adx"]

COLUMN_TYPES: Final = ("string", "int", "long", "real", "boolean", "datetime", "dynamic")
"""Types of columns in a data collection rule (Azure Monitor, "Structure of a data collection rule")."""

# Texts that hold JSON; they become columns of type dynamic.
JSON_FIELDS: Final = frozenset({"document", "flow_additional", "log_syslog_structured_data"})
JSON_LIST_FIELDS: Final = frozenset({"samples"})

# Azure Monitor, "Add or delete tables and columns": names a custom column must not have.
RESERVED_COLUMNS: Final = frozenset({"_resourceid", "id", "_subscriptionid", "tenantid", "type", "uniqueid", "title"})
_COLUMN_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,44}")
_AVRO_TYPES: Final = {"string": "string", "int": "int", "long": "long", "float": "real", "double": "real", "boolean": "boolean"}
_FILE_KEYS: Final = frozenset({"table", "output_stream", "id_column", "extra", "columns", "keep", "pairs", "left_out"})
_COLUMN_KEYS: Final = frozenset({"type", "from", "constant", "values", "else", "convert"})


@dataclass(frozen=True, slots=True)
class Column:
    """One column.

    `type` is one of COLUMN_TYPES. `source` is the field it comes from (the first one tried, where there are several),
    `field[key]` for a pair of a map, or "" for a constant and for the coordinates of the event record.
    """

    name: str
    type: str
    source: str


@dataclass(frozen=True, slots=True)
class Projection:
    """One topic's way into one destination.

    `stream` and `output_stream` are names in a data collection rule, "" for ADX. `id_column` holds the event id (of an alert
    its alert id) and tells repeated rows. `left_out` are the fields without a column and why. `project` makes a row, ready
    for JSON: times as ISO 8601 text in UTC with six digits, absent and empty values left out; given a partition and an
    offset, the row also says in EventTopic, EventPartition and EventOffset (short topic name) where the event record stands.
    """

    destination: Destination
    topic: str
    table: str
    stream: str
    output_stream: str
    id_column: str
    columns: tuple[Column, ...]
    left_out: dict[str, str]
    project: Project


def projectable_topics() -> tuple[str, ...]:
    """Short names of the topics that have a projection: events.* and alerts."""
    return tuple(name for name in declarations() if (name.startswith("events.") or name == "alerts") and not name.endswith(".dlq"))


@cache
def projection(destination: Destination, topic: str) -> Projection:
    """The projection of a topic, by its short name such as "events.cef"; made once for each.

    Raises:
        KeyError: the topic has none; the message names those that have.
        ValueError: a mapping file is wrong; the message names the file, the column and what is wrong.
    """
    if topic not in projectable_topics():
        raise KeyError(f"topic {topic!r} has no mapping; there are {', '.join(projectable_topics())}")
    if destination == "adx":
        return _from_schema("adx", topic)
    path = schemas_dir() / "mappings" / "sentinel" / f"{topic.removeprefix('events.')}.yaml"
    if not path.is_file():
        return _from_schema("sentinel", topic)
    return _from_file(topic, f"mappings/sentinel/{path.name}", yaml.safe_load(path.read_text(encoding="utf-8")))


@cache
def _cef_columns() -> dict[str, tuple[str, str]]:
    raw = yaml.safe_load((schemas_dir() / "mappings" / "sentinel" / "cef.yaml").read_text(encoding="utf-8"))
    return _pairs("mappings/sentinel/cef.yaml", raw["pairs"]).keys


def cef_key_has_column(key: str) -> bool:
    """Whether a CEF extension key has a column of its own in CommonSecurityLog; the others belong into AdditionalExtensions."""
    return key.lower() in _cef_columns()


# -- from the schema


@dataclass(frozen=True, slots=True)
class _Field:
    """A field of the schema: the type of its column, and how its value becomes the column's."""

    name: str
    type: str
    convert: Convert | None


@cache
def _fields(schema: str) -> dict[str, _Field]:
    return {entry["name"]: _field(schema, entry["name"], entry["type"]) for entry in latest(schema).parsed["fields"]}


def _field(schema: str, name: str, avro: Any) -> _Field:
    if isinstance(avro, list):
        others = [option for option in avro if option != "null"]
        if len(others) != 1:
            raise ValueError(f"schema {schema}, field {name}: a union of {len(others)} types has no column type")
        avro = others[0]
    logical = avro.get("logicalType") if isinstance(avro, dict) else None
    kind = avro["type"] if isinstance(avro, dict) else avro
    if logical == "timestamp-micros":
        return _Field(name, "datetime", iso_time)
    if name in JSON_FIELDS and kind == "string":
        return _Field(name, "dynamic", json_document)
    if name in JSON_LIST_FIELDS and kind == "array":
        return _Field(name, "dynamic", json_documents)
    if kind in {"array", "map", "record"}:
        return _Field(name, "dynamic", None)
    if logical is None and kind in _AVRO_TYPES:
        return _Field(name, _AVRO_TYPES[kind], finite if _AVRO_TYPES[kind] == "real" else None)
    raise ValueError(f"schema {schema}, field {name}: Avro type {avro!r} has no column type")


def _pascal(name: str) -> str:
    return "".join(part.capitalize() for part in re.split(r"[_-]", name))


def _add_field(plan: Plan, entry: _Field, column: str) -> Column:
    if entry.convert is not None:
        plan.converted.append((entry.name, column, entry.convert))
    elif entry.type in {"string", "dynamic"}:
        plan.texts.append((entry.name, column))
    else:
        plan.numbers.append((entry.name, column))
    return Column(column, entry.type, entry.name)


def _coordinates(plan: Plan, topic: str, suffix: str) -> Iterator[Column]:
    plan.topic = topic
    plan.coordinates = (f"EventTopic{suffix}", f"EventPartition{suffix}", f"EventOffset{suffix}")
    for name, kind in zip(plan.coordinates, ("string", "int", "long"), strict=True):
        yield Column(name, kind, "")


def _from_schema(destination: Destination, topic: str) -> Projection:
    schema = declarations()[topic].schema
    fields = _fields(schema)
    table = _pascal(schema)
    plan = Plan()
    columns: list[Column] = []
    if destination == "sentinel":
        table = f"Weir{table}_CL"
        received = "alert_created" if topic == "alerts" else "event_created"
        plan.first_of.append((("timestamp", received), "TimeGenerated", iso_time))
        columns.append(Column("TimeGenerated", "datetime", "timestamp"))
    for name, entry in fields.items():
        # Sentinel rewrites a TimeGenerated older than two days; the event's own time needs a name that says what it is.
        column = "EventTime" if destination == "sentinel" and name == "timestamp" else _pascal(name)
        columns.append(_add_field(plan, entry, column))
    columns.extend(_coordinates(plan, topic, ""))
    stream = f"Custom-{table}" if destination == "sentinel" else ""
    id_column = "AlertId" if topic == "alerts" else "EventId"
    _check_names(f"schema {schema}", columns)
    return Projection(destination, topic, table, stream, stream, id_column, tuple(columns), {}, compile_plan(plan))


# -- from a file


def _from_file(topic: str, where: str, raw: dict[str, Any]) -> Projection:
    fields = _fields(declarations()[topic].schema)
    if unknown := set(raw) - _FILE_KEYS:
        raise ValueError(f"{where}: unknown keys {sorted(unknown)}; known are {sorted(_FILE_KEYS)}")
    left_out: dict[str, str] = raw.get("left_out", {})
    keep: list[str] = raw.get("keep", [])
    plan = Plan()
    columns: list[Column] = []
    used: set[str] = set()
    for name, rule in raw["columns"].items():
        if unknown := set(rule) - _COLUMN_KEYS:
            raise ValueError(f"{where}, column {name}: unknown keys {sorted(unknown)}; known are {sorted(_COLUMN_KEYS)}")
        if rule["type"] not in COLUMN_TYPES:
            raise ValueError(f"{where}, column {name}: unknown type {rule['type']!r}; known are {', '.join(COLUMN_TYPES)}")
        if "constant" in rule:
            plan.constants[name] = rule["constant"]
            columns.append(Column(name, rule["type"], ""))
            continue
        sources = tuple(rule["from"]) if isinstance(rule["from"], list) else (rule["from"],)
        if unknown := set(sources) - set(fields):
            raise ValueError(f"{where}, column {name}: no field {', '.join(sorted(unknown))} in the schema of {topic}")
        used.update(sources)
        columns.append(_add_rule(plan, where, name, rule, [fields[source] for source in sources]))
    if "pairs" in raw:
        plan.pairs = _pairs(where, raw["pairs"])
        columns.extend(_pair_columns(where, plan.pairs, raw["pairs"]["keys"], columns))
    for name in (*left_out, *keep):
        if name not in fields:
            raise ValueError(f"{where}: no field {name} in the schema of {topic}")
    suffix = raw["extra"]
    for name, entry in fields.items():
        if (name not in used or name in keep) and name not in left_out:
            columns.append(_add_field(plan, entry, _pascal(name) + suffix))
    columns.extend(_coordinates(plan, topic, suffix))
    _check_names(where, columns)
    table, id_column = raw["table"], raw["id_column"]
    if id_column not in {column.name for column in columns}:
        raise ValueError(f"{where}: id_column {id_column} is not among the columns")
    return Projection(
        "sentinel", topic, table, f"Custom-{table}", raw["output_stream"], id_column, tuple(columns), left_out, compile_plan(plan)
    )


def _add_rule(plan: Plan, where: str, name: str, rule: dict[str, Any], sources: list[_Field]) -> Column:
    kind, convert = rule["type"], sources[0].convert
    if "values" in rule:
        convert = dict(rule["values"]).get
        if "else" in rule:
            plan.constants[name] = rule["else"]
    elif "else" in rule:
        plan.constants[name] = rule["else"]
    if "convert" in rule:
        if rule["convert"] not in CONVERTERS:
            raise ValueError(f"{where}, column {name}: unknown conversion {rule['convert']!r}; known are {', '.join(CONVERTERS)}")
        convert = CONVERTERS[rule["convert"]]
    elif "values" not in rule and (wrong := [entry.name for entry in sources if entry.type != kind]):
        raise ValueError(f"{where}, column {name}: {', '.join(wrong)} is not of type {kind}; name a conversion")
    if len(sources) > 1:
        plan.first_of.append((tuple(entry.name for entry in sources), name, convert))
    elif convert is not None:
        plan.converted.append((sources[0].name, name, convert))
    elif kind in {"string", "dynamic"}:
        plan.texts.append((sources[0].name, name))
    else:
        plan.numbers.append((sources[0].name, name))
    return Column(name, kind, sources[0].name)


def _pairs(where: str, raw: dict[str, Any]) -> Pairs:
    keys: dict[str, tuple[str, str]] = {}
    for key, target in raw["keys"].items():
        if target["type"] not in COLUMN_TYPES:
            raise ValueError(f"{where}, pair {key}: unknown type {target['type']!r}; known are {', '.join(COLUMN_TYPES)}")
        keys[str(key).lower()] = (target["column"], target["type"])
    return Pairs(raw["from"], raw["rest"], keys)


def _pair_columns(where: str, pairs: Pairs, keys: dict[str, Any], columns: list[Column]) -> Iterator[Column]:
    known = {column.name: column.type for column in columns}
    if known.get(pairs.rest) != "string":
        raise ValueError(f"{where}: pairs without a column go into {pairs.rest}, which must be a column of type string")
    for key, target in keys.items():
        name, kind = target["column"], target["type"]
        if known.setdefault(name, kind) != kind:
            raise ValueError(f"{where}, pair {key}: column {name} has type {known[name]} elsewhere and {kind} here")
        if name not in {column.name for column in columns}:
            yield Column(name, kind, f"{pairs.source}[{key}]")


def _check_names(where: str, columns: list[Column]) -> None:
    seen: set[str] = set()
    for column in columns:
        if _COLUMN_NAME.fullmatch(column.name) is None:
            raise ValueError(f"{where}: {column.name!r} is no column name: a letter, then at most 44 letters, digits, underscores")
        if column.name.lower() in RESERVED_COLUMNS:
            raise ValueError(f"{where}: the column name {column.name} is reserved by the service")
        if column.name in seen:
            raise ValueError(f"{where}: two columns are called {column.name}")
        seen.add(column.name)
