"""What a Kusto endpoint's answers look like: v1 and v2 datasets, and errors.

Shapes from Microsoft's "Query/management HTTP response", "Query V2 HTTP response" and "OneApiErrors" pages.
"""

from __future__ import annotations

import math
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Any

__all__ = ["Dataset", "KustoError", "error_body", "utc_now"]

_DOTNET = {
    "string": "String",
    "int": "Int32",
    "long": "Int64",
    "real": "Double",
    "bool": "SByte",
    "datetime": "DateTime",
    "dynamic": "Object",
    "guid": "Guid",
    "decimal": "SqlDecimal",
    "timespan": "TimeSpan",
}


class KustoError(Exception):
    """An error answer: `code` such as General_BadRequest, `permanent` as the ingestion clients read it."""

    def __init__(self, message: str, *, code: str = "General_BadRequest", status: int = 400, permanent: bool = True) -> None:
        super().__init__(message)
        self.message, self.code, self.status, self.permanent = message, code, status, permanent

    @staticmethod
    def syntax(message: str) -> KustoError:
        return KustoError(f"Syntax error: {message}", code="BadRequest_SyntaxError")

    @staticmethod
    def semantic(message: str) -> KustoError:
        return KustoError(f"Semantic error: {message}")

    @staticmethod
    def not_found(kind: str, name: str) -> KustoError:
        return KustoError(f"Entity ID '{name}' of kind '{kind}' was not found.", code="BadRequest_EntityNotFound")


@dataclass(frozen=True, slots=True)
class Dataset:
    """One result table: (column, Kusto type) pairs and rows."""

    columns: Sequence[tuple[str, str]]
    rows: Sequence[Sequence[Any]] = field(default_factory=list)

    def v1(self) -> dict[str, Any]:
        columns = [{"ColumnName": name, "DataType": _DOTNET[kind], "ColumnType": kind} for name, kind in self.columns]
        return {"Tables": [{"TableName": "Table_0", "Columns": columns, "Rows": self._rows()}]}

    def v2(self, request_id: str) -> list[dict[str, Any]]:
        columns = [{"ColumnName": name, "ColumnType": kind} for name, kind in self.columns]
        completion = ["ClientRequestId", "string"], ["StatusCode", "int"], ["StatusCodeName", "string"]
        return [
            {"FrameType": "DataSetHeader", "IsProgressive": False, "Version": "v2.0"},
            {
                "FrameType": "DataTable",
                "TableId": 0,
                "TableKind": "QueryProperties",
                "TableName": "@ExtendedProperties",
                "Columns": [
                    {"ColumnName": "TableId", "ColumnType": "int"},
                    {"ColumnName": "Key", "ColumnType": "string"},
                    {"ColumnName": "Value", "ColumnType": "dynamic"},
                ],
                "Rows": [],
            },
            {
                "FrameType": "DataTable",
                "TableId": 1,
                "TableKind": "PrimaryResult",
                "TableName": "PrimaryResult",
                "Columns": columns,
                "Rows": self._rows(),
            },
            {
                "FrameType": "DataTable",
                "TableId": 2,
                "TableKind": "QueryCompletionInformation",
                "TableName": "QueryCompletionInformation",
                "Columns": [{"ColumnName": name, "ColumnType": kind} for name, kind in completion],
                "Rows": [[request_id, 0, "S_OK (0)"]],
            },
            {"FrameType": "DataSetCompletion", "HasErrors": False, "Cancelled": False},
        ]

    def _rows(self) -> list[list[Any]]:
        return [[_plain(value) for value in row] for row in self.rows]


def _plain(value: object) -> object:
    """The JSON form of a value: ISO times in UTC, and names for the reals that JSON has not."""
    if isinstance(value, datetime):
        return value.isoformat(timespec="microseconds") + "Z"
    if isinstance(value, date):
        return f"{value.isoformat()}T00:00:00Z"
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, uuid.UUID):
        return str(value)
    return value


def error_body(error: KustoError, request_id: str) -> dict[str, Any]:
    """A OneApiError document, as far as clients read it."""
    return {
        "error": {
            "code": error.code,
            "message": "Request is invalid and cannot be executed." if error.permanent else "The request failed; try again later.",
            "@type": "Kusto.Data.Exceptions.KustoBadRequestException"
            if error.permanent
            else "Kusto.DataNode.Exceptions.KustoServiceException",
            "@message": error.message,
            "@context": {"timestamp": utc_now(), "clientRequestId": request_id, "activityId": str(uuid.uuid4())},
            "@permanent": error.permanent,
        }
    }


def utc_now() -> str:
    """Now as Kusto writes times, such as 2026-11-20T20:55:30.699791Z."""
    return datetime.now(UTC).replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"
