"""Kusto's management commands, as many as a sink needs to create what it fills, kept in memory and in the store.

Run: `.create table`, `.create-merge table(s)`, `.drop table`, `.clear table T data`, JSON mappings, `.execute database script`, and
`.show` of version, databases, tables, details, schema, mappings, extents, functions, views and policies.
Remembered only: policies, functions and materialized views. Accepted: doc strings and folders. Anything else is a syntax error.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from weir.local.standins.kusto_wire import Dataset, KustoError, utc_now
from weir.local.standins.store import Column, Source, Store, parse_path

__all__ = ["Catalogue", "Extent"]

_ENTITY = r"(?:\[\s*(?:'([^']+)'|\"([^\"]+)\")\s*\]|([A-Za-z_][\w\-]*))"
_LITERAL = re.compile(
    r"""```(.*?)```|h?@'((?:[^']|'')*)'|h?@"((?:[^"]|"")*)"|h?'((?:\\.|[^'\\])*)'|h?"((?:\\.|[^"\\])*)\"""",
    re.DOTALL,
)
_STRINGS = [("TableName", "string")]


@dataclass(frozen=True, slots=True)
class Extent:
    """What one ingestion added: the unit that tags belong to."""

    name: str
    rows: int
    tags: tuple[str, ...]
    created: str


@dataclass(slots=True)
class _Entities:
    mappings: dict[tuple[str, str], tuple[Source, ...]] = field(default_factory=dict)
    mapping_texts: dict[tuple[str, str], str] = field(default_factory=dict)
    policies: dict[tuple[str, str], str] = field(default_factory=dict)
    functions: dict[str, str] = field(default_factory=dict)
    views: dict[str, str] = field(default_factory=dict)
    extents: dict[str, list[Extent]] = field(default_factory=dict)


class Catalogue:
    """The databases and what is in them. Databases are given at the start, as a cluster's are made outside of Kusto."""

    def __init__(self, store: Store, databases: Sequence[str]) -> None:
        self.store = store
        self._databases = {name: _Entities() for name in databases}

    @property
    def databases(self) -> list[str]:
        return sorted(self._databases)

    def require_database(self, name: str) -> None:
        """Raises KustoError when there is no such database."""
        if name not in self._databases:
            raise KustoError.not_found("Database", name)

    def mapping(self, database: str, table: str, name: str) -> tuple[Source, ...] | None:
        return self._databases[database].mappings.get((table, name))

    def identity_mapping(self, database: str, table: str) -> tuple[Source, ...]:
        """Each column from the property of its name: what JSON is ingested by when no mapping is named."""
        return tuple(Source(column, (column.name,)) for column in self.store.columns(database, table))

    def streaming_enabled(self, database: str, table: str) -> bool:
        """Whether the streaming ingestion policy of the table, or else of its database, is on."""
        policies = self._databases[database].policies
        text = policies.get(
            (f"table {table}", "streamingingestion"), policies.get((f"database {database}", "streamingingestion"), "")
        )
        return "enable" in text.lower() or bool(re.search(r'"IsEnabled"\s*:\s*true', text, re.IGNORECASE))

    def add_extent(self, database: str, table: str, extent: Extent) -> None:
        self._databases[database].extents.setdefault(table, []).append(extent)

    def tags(self, database: str, table: str) -> set[str]:
        return {tag for extent in self._databases[database].extents.get(table, ()) for tag in extent.tags}

    # -- commands

    def execute(self, database: str, command: str) -> Dataset:
        """Run one management command. Raises KustoError."""
        text = command.strip()
        if text == ".show databases":
            return Dataset([("DatabaseName", "string")], [[name] for name in self.databases])
        if re.match(r"\.show\s+version", text):
            return Dataset([("BuildVersion", "string"), ("ServiceType", "string")], [["1.0.0.0", "Engine"]])
        self.require_database(database)
        for pattern, method in _COMMANDS:
            match = pattern.fullmatch(text)
            if match is not None:
                return method(self, database, match)
        raise KustoError.syntax(f"SYN0002: A recognition error occurred. [line:position=1:1]. Command: {text[:200]!r}")

    def _create(self, database: str, match: re.Match[str]) -> Dataset:
        verb, tables = match["verb"], match["tables"]
        made = []
        for name, body in _table_definitions(tables):
            columns = _parse_columns(body)
            exists = self.store.has(database, name)
            if exists and verb == "create":
                # `.create table` is idempotent for the same schema and an error for another one.
                if tuple(columns) != self.store.columns(database, name):
                    raise KustoError(f"Entity '{name}' of kind 'Table' already exists.", code="BadRequest_EntityAlreadyExists")
            else:
                try:
                    self.store.create(database, name, columns)
                except ValueError as error:
                    raise KustoError(str(error)) from error
            made.append([name, orjson.dumps(_schema(name, self.store.columns(database, name))).decode(), database])
        return Dataset([*_STRINGS, ("Schema", "string"), ("DatabaseName", "string")], made)

    def _drop(self, database: str, match: re.Match[str]) -> Dataset:
        name = _entity(match["table"])
        if not self.store.has(database, name):
            if match["ifexists"]:
                return Dataset(_STRINGS)
            raise KustoError.not_found("Table", name)
        self.store.drop(database, name)
        entities = self._databases[database]
        entities.extents.pop(name, None)
        for kept in (entities.mappings, entities.mapping_texts):
            for key in [key for key in kept if key[0] == name]:
                del kept[key]
        return Dataset(_STRINGS, [[table] for table in self.store.tables(database)])

    def _clear(self, database: str, match: re.Match[str]) -> Dataset:
        name = self._table(database, match["table"])
        self.store.clear(database, name)
        self._databases[database].extents.pop(name, None)  # tags live on extents and go with them
        return Dataset([("Status", "string")], [["Completed"]])

    def _create_mapping(self, database: str, match: re.Match[str]) -> Dataset:
        table, name, entities = self._table(database, match["table"]), match["name"], self._databases[database]
        if match["verb"] == "create" and (table, name) in entities.mappings:
            raise KustoError(f"Mapping '{name}' already exists.", code="BadRequest_EntityAlreadyExists")
        if match["verb"] == "alter" and (table, name) not in entities.mappings:
            raise KustoError.not_found("MappingPersistent", name)
        text = _literals(match["text"])
        columns = {column.name: column for column in self.store.columns(database, table)}
        entities.mappings[table, name] = _parse_mapping(text, columns)
        entities.mapping_texts[table, name] = text
        return self._mapping_rows(database, table, name)

    def _show_mappings(self, database: str, match: re.Match[str]) -> Dataset:
        table = self._table(database, match["table"])
        name = match["name"]
        if name is not None and (table, name) not in self._databases[database].mappings:
            raise KustoError.not_found("MappingPersistent", name)
        return self._mapping_rows(database, table, name)

    def _mapping_rows(self, database: str, table: str, name: str | None) -> Dataset:
        columns = [("Name", "string"), ("Kind", "string"), ("Mapping", "string"), ("Database", "string"), ("Table", "string")]
        rows = [
            [mapping, "Json", text, database, owner]
            for (owner, mapping), text in self._databases[database].mapping_texts.items()
            if owner == table and name in {None, mapping}
        ]
        return Dataset(columns, rows)

    def _policy(self, database: str, match: re.Match[str]) -> Dataset:
        kind, policy = match["kind"], match["policy"]
        if kind == "table":
            owners = [self._table(database, match["owner"])]
        elif kind == "tables":
            owners = [self._table(database, part) for part in match["owner"].strip("() ").split(",")]
        else:
            owners = [_entity(match["owner"] or "")]
        rows = []
        for owner in owners:
            key = (f"{'table' if kind == 'tables' else kind} {owner}", policy)
            if match["verb"] == "show":
                rows.append([policy, owner, self._databases[database].policies.get(key, "null")])
                continue
            self._databases[database].policies[key] = "" if match["verb"] == "delete" else match["body"].strip()
            rows.append([policy, owner, match["body"].strip()])
        return Dataset([("PolicyName", "string"), ("EntityName", "string"), ("Policy", "string")], rows)

    def _remember_function(self, database: str, match: re.Match[str]) -> Dataset:
        self._databases[database].functions[match["name"]] = match["body"].strip()
        return Dataset([("Name", "string"), ("Body", "string")], [[match["name"], match["body"].strip()]])

    def _remember_view(self, database: str, match: re.Match[str]) -> Dataset:
        self._table(database, match["source"])
        self._databases[database].views[match["name"]] = match["body"].strip()
        return Dataset([("Name", "string"), ("Query", "string")], [[match["name"], match["body"].strip()]])

    def _remember_note(self, database: str, match: re.Match[str]) -> Dataset:
        return Dataset(_STRINGS, [[self._table(database, match["table"])]])

    def _show_tables(self, database: str, match: re.Match[str]) -> Dataset:
        names = self.store.tables(database)
        if match["details"]:
            return self._details(database, names)
        return Dataset([*_STRINGS, ("DatabaseName", "string")], [[name, database] for name in names])

    def _show_table(self, database: str, match: re.Match[str]) -> Dataset:
        name = self._table(database, match["table"])
        what = match["what"].split()[0]
        if what == "details":
            return self._details(database, [name])
        if what == "extents":
            extents = self._databases[database].extents.get(name, ())
            rows = [[extent.name, database, name, extent.rows, "\r\n".join(extent.tags), extent.created] for extent in extents]
            texts = ("ExtentId", "DatabaseName", "TableName", "RowCount", "Tags", "MaxCreatedOn")
            return Dataset([(text, "long" if text == "RowCount" else "string") for text in texts], rows)
        columns = self.store.columns(database, name)
        schema = (
            orjson.dumps(_schema(name, columns)).decode()
            if what == "schema"
            else ",".join(f"{column.name}:{column.kind}" for column in columns)
        )
        return Dataset([*_STRINGS, ("Schema", "string"), ("DatabaseName", "string")], [[name, schema, database]])

    def _details(self, database: str, names: Sequence[str]) -> Dataset:
        rows = [
            [name, database, self.store.count(database, name, None).rows, len(self._databases[database].extents.get(name, ()))]
            for name in names
        ]
        columns = [*_STRINGS, ("DatabaseName", "string"), ("TotalRowCount", "long"), ("TotalExtents", "long")]
        return Dataset(columns, rows)

    def _show_remembered(self, database: str, match: re.Match[str]) -> Dataset:
        entities = self._databases[database]
        found = entities.functions if match["what"] == "functions" else entities.views
        return Dataset([("Name", "string"), ("Body", "string")], [[name, body] for name, body in found.items()])

    def _script(self, database: str, match: re.Match[str]) -> Dataset:
        """Commands one after another; each starts with a dot at the beginning of a line. The first error stops the script."""
        rows = []
        for command in re.split(r"\n(?=\s*\.\w)", match["script"].strip()):
            text = "\n".join(line for line in command.splitlines() if not line.lstrip().startswith("//")).strip()
            if text:
                self.execute(database, text)
                rows.append(["00000000-0000-0000-0000-000000000000", text.split("(")[0].strip(), text, "Completed", "", utc_now()])
        names = ("OperationId", "CommandType", "CommandText", "Result", "Reason", "CompletedOn")
        return Dataset([(name, "string") for name in names], rows)

    def _table(self, database: str, text: str) -> str:
        name = _entity(text)
        if not self.store.has(database, name):
            raise KustoError.not_found("Table", name)
        return name


_Method = Callable[[Catalogue, str, re.Match[str]], Dataset]


def _command(pattern: str, method: _Method) -> tuple[re.Pattern[str], _Method]:
    """`pattern` with its spaces meaning any white space, and <word> meaning an entity's name."""
    spaced = re.sub(r"(?<!P)<(\w+)>", lambda match: f"(?P<{match[1]}>\\[[^\\]]*\\]|[\\w\\-]+)", pattern).replace(" ", r"\s+")
    return re.compile(spaced, re.DOTALL | re.IGNORECASE), method


_COMMANDS: tuple[tuple[re.Pattern[str], _Method], ...] = (
    _command(
        r"\.(?P<verb>create-or-alter|create|alter) table <table> ingestion json mapping ['\"](?P<name>[^'\"]+)['\"](?P<text>.*)",
        Catalogue._create_mapping,
    ),
    _command(r"\.(?P<verb>create-merge|create) tables? (?P<tables>.*)", Catalogue._create),
    _command(r"\.drop table <table>(?P<ifexists>\s+ifexists)?", Catalogue._drop),
    _command(r"\.clear table <table> data", Catalogue._clear),
    _command(
        r"\.(?P<verb>alter-merge|alter|delete|show) (?P<kind>tables|table|database|materialized-view|column|cluster)"
        r"(?P<owner>\s*\([^)]*\)|\s+\[[^\]]*\]|\s+(?!policy\b)[\w.\-]+)? policy (?P<policy>\w+)(?P<body>.*)",
        Catalogue._policy,
    ),
    _command(
        r"\.(?:create-or-alter|create|alter) function (?:ifnotexists )?(?:with\s*\([^)]*\)\s*)?(?P<name>\w+)(?P<body>.*)",
        Catalogue._remember_function,
    ),
    _command(
        r"\.(?:create-or-alter|create async|create|alter) (?:async )?materialized-view (?:ifnotexists )?(?:with\s*\([^)]*\)\s*)?"
        r"(?P<name>\w+) on table <source>(?P<body>.*)",
        Catalogue._remember_view,
    ),
    _command(r"\.alter(?:-merge)? table <table> (?:docstring|column-docstrings|folder)\b.*", Catalogue._remember_note),
    _command(r"\.show tables(?P<details>\s+details)?", Catalogue._show_tables),
    _command(r"\.show table <table> ingestion (?:json )?mapping(?:s|\s+['\"](?P<name>[^'\"]+)['\"])", Catalogue._show_mappings),
    _command(r"\.show table <table> (?P<what>details|extents|cslschema|schema(?:\s+as\s+json)?)", Catalogue._show_table),
    _command(r"\.show (?P<what>functions|materialized-views)", Catalogue._show_remembered),
    _command(r"\.execute database script(?: with\s*\([^)]*\))?\s*<\|(?P<script>.*)", Catalogue._script),
)


def _entity(text: str) -> str:
    match = re.fullmatch(_ENTITY, text.strip())
    if match is None:
        raise KustoError(f"Entity name {text.strip()!r} is not valid.", code="BadRequest_EntityNameIsNotValid")
    return next(group for group in match.groups() if group)


def _table_definitions(text: str) -> list[tuple[str, str]]:
    """`T (a:string) , U (b:long) with (...)` as [(T, a:string), (U, b:long)]."""
    definition = re.compile(r"\s*(\[[^\]]*\]|[\w\-]+)\s*\(([^)]*)\)\s*(,|with\s*\([^)]*\)\s*$|$)", re.DOTALL | re.IGNORECASE)
    found, position = [], 0
    while position < len(text):
        match = definition.match(text, position)
        if match is None:
            raise KustoError.syntax(f"expected 'Table (column:type, ...)' at {text[position : position + 60]!r}")
        found.append((_entity(match[1]), match[2]))
        position = match.end()
    return found


def _parse_columns(text: str) -> list[Column]:
    columns = []
    for part in text.split(","):
        name, colon, kind = part.partition(":")
        if not colon:
            raise KustoError.syntax(f"expected 'column:type', found {part.strip()!r}")
        try:
            columns.append(Column.parse(_entity(name), kind))
        except ValueError as error:
            raise KustoError.syntax(str(error)) from error
    return columns


def _literals(text: str) -> str:
    """The string literals of `text` joined, as Kusto joins adjacent ones."""
    pieces: list[str] = []
    position, text = 0, text.strip()
    while position < len(text):
        match = _LITERAL.match(text, position)
        if match is None:
            if re.match(r"with\s*\(", text[position:]) and pieces:
                break
            raise KustoError.syntax(f"expected a string literal at {text[position : position + 60]!r}")
        raw, single_verbatim, double_verbatim, single, double = match.groups()
        if raw is not None:
            pieces.append(raw)
        elif single_verbatim is not None:
            pieces.append(single_verbatim.replace("''", "'"))
        elif double_verbatim is not None:
            pieces.append(double_verbatim.replace('""', '"'))
        else:
            escaped = single if single is not None else double or ""
            pieces.append(re.sub(r"\\(.)", lambda part: {"n": "\n", "t": "\t", "r": "\r"}.get(part[1], part[1]), escaped))
        position = match.end()
        while position < len(text) and text[position].isspace():
            position += 1
    return "".join(pieces)


def _parse_mapping(text: str, columns: Mapping[str, Column]) -> tuple[Source, ...]:
    """Both notations: `{"column", "Properties": {"Path", "Transform"}}` and the older `{"column", "path"}`.

    Raises KustoError also for a column that the table has not: stricter than the service may be, but never what is meant.
    """
    try:
        entries = orjson.loads(text)
    except ValueError as error:
        raise KustoError(f"Failed to parse ingestion mapping: {error}", code="BadRequest_InvalidMapping") from error
    sources: list[Source] = []
    for entry in entries if isinstance(entries, list) else [entries]:
        lowered: dict[str, Any] = {str(key).lower(): value for key, value in entry.items()} if isinstance(entry, dict) else {}
        properties = {str(key).lower(): value for key, value in (lowered.get("properties") or lowered).items()}
        name, path = lowered.get("column"), properties.get("path")
        if not name or not path:
            raise KustoError(f"Mapping entry {entry!r} needs a column and a path.", code="BadRequest_InvalidMapping")
        if name not in columns:
            raise KustoError(f"The mapping names column '{name}', which the table has not.", code="BadRequest_InconsistentMapping")
        try:
            sources.append(Source(columns[name], parse_path(str(path)), str(properties.get("transform") or "")))
        except ValueError as error:
            raise KustoError(str(error), code="BadRequest_InvalidMapping") from error
    return tuple(sources)


def _schema(name: str, columns: Sequence[Column]) -> dict[str, Any]:
    return {"Name": name, "OrderedColumns": [{"Name": column.name, "CslType": column.kind} for column in columns]}
