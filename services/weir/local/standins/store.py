"""Typed tables in DuckDB, filled from files of JSON documents: where the ADX stand-in keeps its rows.

Why DuckDB: it parses, converts and counts hundreds of thousands of documents in C++, spills to a file instead of growing in memory,
and answers "how many distinct ids" in milliseconds. 100,000 documents of 40 columns load in about 2 s of one core.
"""

from __future__ import annotations

import contextlib
import re
import tempfile
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb
import orjson

__all__ = ["KINDS", "MAX_VALUE_BYTES", "BadDocumentError", "Column", "Loaded", "Source", "Store", "TableCount", "parse_path"]

# Kusto's scalar types and the DuckDB type that holds each. A timespan stays text: nothing here calculates with it.
KINDS = {
    "string": "VARCHAR",
    "int": "INTEGER",
    "long": "BIGINT",
    "real": "DOUBLE",
    "bool": "BOOLEAN",
    "datetime": "TIMESTAMP",
    "dynamic": "JSON",
    "guid": "UUID",
    "decimal": "DECIMAL(38,10)",
    "timespan": "VARCHAR",
}
_SYNONYMS = {"boolean": "bool", "double": "real", "date": "datetime", "uuid": "guid", "uniqueid": "guid", "time": "timespan"}

# Names of mapping transformations (Kusto's "Mapping transformations" page) and the microseconds that one unit of theirs is worth.
_UNIX_TIMES = {
    "DateTimeFromUnixSeconds": "1e6",
    "DateTimeFromUnixMilliseconds": "1e3",
    "DateTimeFromUnixMicroseconds": "1",
    "DateTimeFromUnixNanoseconds": "1e-3",
}
_MAX_REPORTED_PROPERTIES = 500

# Kusto, "Ingestion behavior of invalid data": a longer text is cut, a longer dynamic value becomes null.
MAX_VALUE_BYTES = 1024 * 1024


class BadDocumentError(ValueError):
    """The input is not the JSON it should be; the text is the parser's, with the place."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column's name and its Kusto type (`string`, `int`, `long`, `real`, `bool`, `datetime`, `dynamic`, …)."""

    name: str
    kind: str

    @staticmethod
    def parse(name: str, kind: str) -> Column:
        """Accept Kusto's synonyms (`boolean`, `double`, …); raises ValueError for a type there is not."""
        lowered = kind.strip().lower()
        canonical = _SYNONYMS.get(lowered, lowered)
        if canonical not in KINDS:
            raise ValueError(f"column {name!r} has unknown type {kind!r}; known are {', '.join(KINDS)}")
        return Column(name, canonical)


@dataclass(frozen=True, slots=True)
class Source:
    """Where a column's value comes from: the steps of a JSON path, and a transformation's name or ''."""

    column: Column
    path: tuple[str, ...]
    transform: str = ""


@dataclass(slots=True)
class Loaded:
    """What became of one load. The dictionaries count rows: by column for misfits and truncated, by JSON property for dropped."""

    rows: int = 0
    misfits: dict[str, int] = field(default_factory=dict)
    truncated: dict[str, int] = field(default_factory=dict)
    dropped: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TableCount:
    """Rows of a table; `repeated` are the rows whose id is that of an earlier one."""

    rows: int
    distinct: int
    repeated: int
    without_id: int
    id_column: str | None


_PATH_STEP = re.compile(r"""\.([^.\[\]]+)|\[\s*(?:'([^']*)'|"([^"]*)"|(\d+))\s*\]""")


def parse_path(path: str) -> tuple[str, ...]:
    """Steps of a JSON path such as `$.a.b`, `$['a b'][0]` or `$`; raises ValueError for anything else (filters, wildcards)."""
    text = path.strip()
    if not text.startswith("$"):
        raise ValueError(f"JSON path {path!r} does not start with $")
    steps: list[str] = []
    position = 1
    while position < len(text):
        match = _PATH_STEP.match(text, position)
        if match is None:
            raise ValueError(f"JSON path {path!r} is not understood at character {position}")
        steps.append(next(group for group in match.groups() if group is not None))
        position = match.end()
    return tuple(steps)


class Store:
    """Databases of typed tables in one DuckDB file. Methods may be called from any thread; writes take turns."""

    def __init__(self, directory: Path | None = None, *, memory: str = "512MB") -> None:
        """Keeps its file in `directory`, or in a temporary one that `close` removes."""
        self._temporary = tempfile.TemporaryDirectory(prefix="weir-standin-") if directory is None else None
        self.directory = Path(self._temporary.name) if self._temporary else directory or Path()
        self.directory.mkdir(parents=True, exist_ok=True)
        self._path = self.directory / "rows.duckdb"
        self._path.unlink(missing_ok=True)  # a stand-in starts empty: leftovers would spoil the counts
        self._connection = duckdb.connect(str(self._path))
        self._connection.execute(f"SET threads = 1; SET memory_limit = '{memory}'; SET TimeZone = 'UTC'")
        self._lock = threading.Lock()
        self._columns: dict[tuple[str, str], tuple[Column, ...]] = {}

    def close(self) -> None:
        with self._lock:
            self._connection.close()
        if self._temporary is not None:
            self._temporary.cleanup()
        else:
            self._path.unlink(missing_ok=True)

    # -- tables

    def tables(self, database: str) -> list[str]:
        return sorted(table for owner, table in self._columns if owner == database)

    def columns(self, database: str, table: str) -> tuple[Column, ...]:
        """Raises KeyError when there is no such table."""
        return self._columns[database, table]

    def has(self, database: str, table: str) -> bool:
        return (database, table) in self._columns

    def create(self, database: str, table: str, columns: Sequence[Column]) -> None:
        """Create the table, or add the columns it lacks. Raises ValueError when a column exists with another type."""
        with self._lock:
            have = {column.name: column for column in self._columns.get((database, table), ())}
            others = [name for owner, name in self._columns if owner == database and name != table]
            if _split_by_case([*others, table])[1] or _split_by_case(list(dict.fromkeys([*have, *(c.name for c in columns)])))[1]:
                raise ValueError(f"table '{table}': the stand-in cannot hold names that differ in case only")
            for column in columns:
                if column.name in have and have[column.name].kind != column.kind:
                    raise ValueError(
                        f"column '{column.name}' of table '{table}' is {have[column.name].kind} and cannot become {column.kind}"
                    )
            fresh = [column for column in columns if column.name not in have]
            name = _qualified(database, table)
            if not have:
                self._connection.execute(f"CREATE SCHEMA IF NOT EXISTS {_quote(database)}")
                definitions = ", ".join(f"{_quote(column.name)} {KINDS[column.kind]}" for column in fresh)
                self._connection.execute(f"CREATE TABLE {name} ({definitions})")
            else:
                for column in fresh:
                    self._connection.execute(f"ALTER TABLE {name} ADD COLUMN {_quote(column.name)} {KINDS[column.kind]}")
            self._columns[database, table] = (*have.values(), *fresh)

    def drop(self, database: str, table: str) -> None:
        with self._lock:
            self._connection.execute(f"DROP TABLE {_qualified(database, table)}")
            del self._columns[database, table]

    def clear(self, database: str, table: str) -> None:
        with self._lock:
            self._connection.execute(f"DELETE FROM {_qualified(database, table)}")  # noqa: S608

    # -- loading

    def load_file(
        self, database: str, table: str, sources: Sequence[Source], path: Path, *, compressed: bool, array: bool
    ) -> Loaded:
        """Load a file of JSON objects one after another, or of one array of them, all or nothing. Raises BadDocumentError."""
        with self._lock:
            run = self._connection.execute
            run("BEGIN")
            try:
                run(
                    "CREATE OR REPLACE TEMP TABLE staged AS "
                    "SELECT json FROM read_json_objects(?, format = ?, compression = ?, maximum_object_size = 67108864)",
                    [str(path), "array" if array else "unstructured", "gzip" if compressed else "uncompressed"],
                )
                loaded = self._load_staged(_qualified(database, table), sources)
                run("COMMIT")
            except (duckdb.InvalidInputException, duckdb.IOException) as error:
                run("ROLLBACK")
                raise BadDocumentError(str(error)) from error
            except BaseException:
                run("ROLLBACK")
                raise
            return loaded

    def _load_staged(self, table: str, sources: Sequence[Source]) -> Loaded:
        run = self._connection.execute
        total, objects = run("SELECT count(*), count(*) FILTER (json_type(json) = 'OBJECT') FROM staged").fetchone() or (0, 0)
        if objects != total:
            raise BadDocumentError(f"{total - objects} of {total} records are not JSON objects")
        loaded = Loaded(rows=total)
        if not total:
            return loaded

        roots = list(dict.fromkeys(source.path[0] for source in sources if source.path))
        properties = run(
            "SELECT k, count(*) FROM (SELECT unnest(json_keys(json)) AS k FROM staged) GROUP BY k ORDER BY k"
        ).fetchall()
        unmapped = [(name, count) for name, count in properties if name not in set(roots)]
        loaded.dropped = dict(unmapped[:_MAX_REPORTED_PROPERTIES])
        if len(unmapped) > _MAX_REPORTED_PROPERTIES:
            loaded.dropped["(other properties)"] = sum(count for _, count in unmapped[_MAX_REPORTED_PROPERTIES:])

        # One parse a document for all columns: json_transform picks the top-level properties, each kept as JSON (r1, r2, …); from
        # these come the value found for each column (j) and the value fitted to its type (v); m marks a value that did not fit.
        numbered = list(enumerate(sources))
        together, apart = _split_by_case(roots)
        shape = _literal(orjson.dumps(dict.fromkeys(together, "JSON") or {"": "JSON"}).decode())
        picked = "".join(
            f", {_at('json', [root]) if root in apart else f'struct_extract(o, {_literal(root)})'} AS r{position}"
            for position, root in enumerate(roots, 1)
        )
        found = ", ".join(f"{_found(source, roots)} AS j{number}" for number, source in numbered)
        fitted = ", ".join(
            f"j{number} IS NOT NULL AS h{number}, {_fit(source, f'j{number}')} AS v{number}" for number, source in numbered
        )
        marked = ", ".join(f"v{number}, h{number} AND v{number} IS NULL AS m{number}" for number, _ in numbered)
        run(
            f"CREATE OR REPLACE TEMP TABLE fitted AS SELECT {marked} FROM (SELECT {fitted} FROM (SELECT {found} FROM "  # noqa: S608
            f"(SELECT json{picked} FROM (SELECT json, json_transform(json, {shape}) AS o FROM staged))))"
        )
        run("DROP TABLE staged")

        counts = [f"count(*) FILTER (m{number})" for number, _ in numbered]
        counts += [
            f"count(*) FILTER (strlen(v{number}) > {MAX_VALUE_BYTES})" if source.column.kind == "string" else "0"
            for number, source in numbered
        ]
        answer = run(f"SELECT {', '.join(counts)} FROM fitted").fetchone() or ()  # noqa: S608
        values: list[str] = []
        for (number, source), misfits, truncated in zip(numbered, answer[: len(sources)], answer[len(sources) :], strict=True):
            value = f"v{number}"
            if misfits:
                loaded.misfits[source.column.name] = misfits
            if truncated:
                loaded.truncated[source.column.name] = truncated
                # Cut by characters in proportion to the bytes: exact for text of one script, near enough for mixed.
                length = f"({MAX_VALUE_BYTES}.0 * length({value}) / strlen({value}))::INT"
                value = f"CASE WHEN strlen({value}) > {MAX_VALUE_BYTES} THEN left({value}, {length}) ELSE {value} END"
            values.append(value)
        names = ", ".join(_quote(source.column.name) for source in sources)
        run(f"INSERT INTO {table} ({names}) SELECT {', '.join(values)} FROM fitted")  # noqa: S608
        run("DROP TABLE fitted")
        return loaded

    # -- reading; each on a cursor of its own, so that a long answer does not hold up the loading

    @contextlib.contextmanager
    def _reading(self) -> Iterator[Any]:
        cursor = self._connection.cursor()
        try:
            cursor.execute("SET TimeZone = 'UTC'")
            yield cursor
        finally:
            cursor.close()

    def count(self, database: str, table: str, id_column: str | None) -> TableCount:
        """Rows of `table`, and how many ids in `id_column` (which may be None: then all rows are without one)."""
        column = "NULL" if id_column is None else _quote(id_column)
        with self._reading() as cursor:
            rows, with_id, distinct = cursor.execute(
                f"SELECT count(*), count({column}), count(DISTINCT {column}) FROM {_qualified(database, table)}"  # noqa: S608
            ).fetchone()
        return TableCount(rows, distinct, with_id - distinct, rows - with_id, id_column)

    def ids(self, database: str, table: str, column: str, chunk: int = 10_000) -> Iterator[list[str]]:
        """Distinct values of `column` as text, in chunks."""
        with self._reading() as cursor:
            name = _quote(column)
            cursor.execute(
                f"SELECT DISTINCT {name}::VARCHAR FROM {_qualified(database, table)} WHERE {name} IS NOT NULL"  # noqa: S608
            )
            while rows := cursor.fetchmany(chunk):
                yield [row[0] for row in rows]

    def rows(self, database: str, table: str, limit: int) -> list[dict[str, Any]]:
        """Some rows, as dictionaries; dynamic columns are parsed, times are naive UTC."""
        columns = self._columns[database, table]
        _, rows = self.select(f"SELECT * FROM {_qualified(database, table)} LIMIT {int(limit)}")  # noqa: S608
        return [
            {
                column.name: orjson.loads(value) if column.kind == "dynamic" and value is not None else value
                for column, value in zip(columns, row, strict=True)
            }
            for row in rows
        ]

    def select(self, sql: str) -> tuple[list[tuple[str, str]], list[tuple[Any, ...]]]:
        """Run a query made by this package; answers ([(column, DuckDB type)], rows)."""
        with self._reading() as cursor:
            cursor.execute(sql)
            described = [(str(column[0]), str(column[1])) for column in cursor.description]
            return described, cursor.fetchall()


def _quote(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _qualified(database: str, table: str) -> str:
    return f"{_quote(database)}.{_quote(table)}"


def _found(source: Source, roots: Sequence[str]) -> str:
    """SQL of the JSON value at the source's path; NULL when absent or a JSON null."""
    if not source.path:
        return "json"
    root = f"r{roots.index(source.path[0]) + 1}"
    if len(source.path) == 1:
        return root
    return _at(root, source.path[1:])


def _at(value: str, steps: Sequence[str]) -> str:
    """SQL of the JSON below `value`; NULL when absent or a JSON null."""
    pointer = "".join("/" + step.replace("~", "~0").replace("/", "~1") for step in steps)
    return f"nullif(json_extract({value}, {_literal(pointer)}), 'null'::JSON)"


def _split_by_case(names: Sequence[str]) -> tuple[list[str], set[str]]:
    """Names that can stand together in DuckDB, which ignores case, and those that differ from one of them by case only."""
    together: dict[str, str] = {}
    for name in names:
        together.setdefault(name.casefold(), name)
    return list(together.values()), set(names) - set(together.values())


def _fit(source: Source, raw: str) -> str:
    """SQL of the typed value of the JSON `raw`, NULL where it does not fit. Text that spells a number or a truth value fits."""
    text, kind_of = f"({raw} ->> '$')", f"json_type({raw})"
    kind = source.column.kind
    if source.transform in _UNIX_TIMES:
        return f"make_timestamp(try_cast(try_cast({text} AS DECIMAL(38,6)) * {_UNIX_TIMES[source.transform]} AS BIGINT))"
    if kind in {"string", "timespan"}:
        return text
    if kind in {"int", "long"}:
        # The pattern keeps 1.7 from becoming 2, which DuckDB's cast alone would do.
        return f"CASE WHEN regexp_full_match({text}, '[+-]?[0-9]+') THEN try_cast({text} AS {KINDS[kind]}) END"
    if kind == "bool":
        return f"CASE WHEN lower({text}) IN ('true', 'false', '0', '1') THEN try_cast({text} AS BOOLEAN) END"
    if kind == "datetime":
        # The pattern keeps out what DuckDB alone would take, such as 'epoch' and 'infinity'.
        return (
            f"CASE WHEN {kind_of} = 'VARCHAR' AND regexp_matches({text}, '^[0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}}') "
            f"THEN try_cast({text} AS TIMESTAMPTZ)::TIMESTAMP END"
        )
    if kind == "dynamic":
        # Over the limit a dynamic value is lost whole, not cut.
        return f"CASE WHEN strlen({raw}::VARCHAR) <= {MAX_VALUE_BYTES} THEN {raw} END"
    return f"try_cast({text} AS {KINDS[kind]})"
