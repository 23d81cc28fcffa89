"""A documented handful of KQL, translated to SQL and executed for real; all else is refused with a semantic error.

A query is a table and then, each after a `|`: `count`, `take N`, `limit N`, `project A, B`, `distinct A, B`,
`top N by A [asc|desc]`, `summarize X = count(), dcount(A), min(A), max(A), sum(A) [by A, B]`. dcount is exact here, an estimate in
the service. A full engine is another matter; this is enough to count what arrived.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import orjson

from weir.local.standins.kusto_wire import Dataset, KustoError
from weir.local.standins.store import Store

__all__ = ["run_query"]

_NAME = r"[A-Za-z_]\w*"
_AGGREGATE = re.compile(rf"(?:({_NAME})\s*=\s*)?(count|dcount|min|max|sum)\s*\(\s*({_NAME})?\s*\)")
_SQL_AGGREGATE = {"dcount": "count(DISTINCT {})", "min": "min({})", "max": "max({})", "sum": "sum({})"}
_KUSTO_TYPE = {
    "VARCHAR": "string",
    "INTEGER": "int",
    "BIGINT": "long",
    "HUGEINT": "long",
    "DOUBLE": "real",
    "BOOLEAN": "bool",
    "TIMESTAMP": "datetime",
    "JSON": "dynamic",
    "UUID": "guid",
}


def run_query(store: Store, database: str, text: str) -> Dataset:
    """Execute `text` in `database`. Raises KustoError as the engine would, or for what is not among the handful."""
    source, *operators = (part.strip() for part in _without_comments(text).rstrip("; \n").split("|"))
    table = re.fullmatch(rf"({_NAME})|\[\s*['\"]([^'\"]+)['\"]\s*\]", source)
    if table is None:
        raise KustoError.syntax(f"the stand-in's queries start with a table's name, not {source!r}")
    name = table[1] or table[2]
    if not store.has(database, name):
        raise KustoError.semantic(f"SEM0100: Failed to resolve table or column expression named '{name}'")
    columns: list[str] = [column.name for column in store.columns(database, name)]
    sql = f'SELECT * FROM "{database}"."{name}"'  # noqa: S608 - both names are known to the store
    for operator in operators:
        sql, columns = _apply(operator, sql, columns)
    described, rows = store.select(sql)
    kinds = [_kind(kind) for _, kind in described]
    dynamic = [position for position, kind in enumerate(kinds) if kind == "dynamic"]
    answered = [list(row) for row in rows]
    for row in answered:
        for position in dynamic:
            row[position] = None if row[position] is None else orjson.loads(row[position])
    return Dataset([(name, kind) for (name, _), kind in zip(described, kinds, strict=True)], answered)


def _without_comments(text: str) -> str:
    return re.sub(r"//[^\n]*", "", text)


def _kind(duckdb_type: str) -> str:
    return "decimal" if duckdb_type.startswith("DECIMAL") else _KUSTO_TYPE.get(duckdb_type, "string")


def _apply(operator: str, sql: str, columns: Sequence[str]) -> tuple[str, list[str]]:
    word, _, rest = operator.partition(" ")
    rest = rest.strip()
    if word == "count" and not rest:
        return f'SELECT count(*) AS "Count" FROM ({sql})', ["Count"]  # noqa: S608
    if word in {"take", "limit"} and rest.isdigit():
        return f"SELECT * FROM ({sql}) LIMIT {rest}", list(columns)  # noqa: S608
    if word in {"project", "distinct"}:
        names = _names(rest, columns, word)
        unique = "DISTINCT " if word == "distinct" else ""
        return f"SELECT {unique}{_list(names)} FROM ({sql})", names  # noqa: S608
    if word == "top":
        wanted = re.fullmatch(rf"(\d+)\s+by\s+({_NAME})(?:\s+(asc|desc))?", rest)
        if wanted is not None:
            (name,) = _names(wanted[2], columns, word)
            return f'SELECT * FROM ({sql}) ORDER BY "{name}" {wanted[3] or "desc"} LIMIT {wanted[1]}', list(columns)  # noqa: S608
    if word == "summarize":
        return _summarize(rest, sql, columns)
    raise KustoError.semantic(f"the stand-in does not run the operator '{operator}'")


def _summarize(rest: str, sql: str, columns: Sequence[str]) -> tuple[str, list[str]]:
    aggregates, by, groups = re.fullmatch(r"(.*?)(?:(?:^|\s+)(by)\s+(.*))?", rest, re.DOTALL).groups()  # type: ignore[union-attr]
    names = _names(groups, columns, "summarize") if by else []
    parts = [f'"{name}"' for name in names]
    position = 0
    while position < len(aggregates):
        match = _AGGREGATE.match(aggregates, position)
        if match is None:
            raise KustoError.semantic(f"the stand-in does not run the aggregation '{aggregates[position:]}'")
        alias, function, argument = match.groups()
        if function == "count":
            value, usual = "count(*)", "count_"
        else:
            (column,) = _names(argument or "", columns, "summarize")
            value, usual = _SQL_AGGREGATE[function].format(f'"{column}"'), f"{function}_{column}"
        parts.append(f'{value} AS "{alias or usual}"')
        names.append(alias or usual)
        separator = re.compile(r"\s*(,\s*|$)").match(aggregates, match.end())
        if separator is None:
            raise KustoError.syntax(f"expected a comma at '{aggregates[match.end() :]}'")
        position = separator.end()
    grouped = " GROUP BY ALL" if by else ""
    return f"SELECT {', '.join(parts)} FROM ({sql}){grouped}", names  # noqa: S608


def _names(text: str, columns: Sequence[str], operator: str) -> list[str]:
    names = [name.strip() for name in text.split(",")]
    for name in names:
        if name not in columns:
            raise KustoError.semantic(f"SEM0100: '{operator}' operator: Failed to resolve scalar expression named '{name}'")
    return names


def _list(names: Sequence[str]) -> str:
    return ", ".join(f'"{name}"' for name in names)
