"""Kusto management commands that make the tables of a projection and their JSON mappings."""

from __future__ import annotations

import json
from typing import Final

from weir.model.mappings import Projection

__all__ = ["MAPPING_NAME", "adx_mapping_command", "adx_table_command", "kusto_type"]

MAPPING_NAME: Final = "weir_v1"


def kusto_type(column_type: str) -> str:
    """Kusto's name of a column type; all but boolean are called the same."""
    return "bool" if column_type == "boolean" else column_type


def adx_table_command(projection: Projection) -> str:
    """`.create-merge table`: creates the table, or adds the columns it lacks; never changes or drops one."""
    columns = ", ".join(f"['{column.name}']:{kusto_type(column.type)}" for column in projection.columns)
    return f".create-merge table ['{projection.table}'] ({columns})"


def adx_mapping_command(projection: Projection) -> str:
    """`.create-or-alter table … ingestion json mapping`: each column from the property of its own name."""
    mapping = [
        {"column": column.name, "datatype": kusto_type(column.type), "Properties": {"Path": f"$.{column.name}"}}
        for column in projection.columns
    ]
    text = json.dumps(mapping, separators=(",", ":"))
    return f".create-or-alter table ['{projection.table}'] ingestion json mapping '{MAPPING_NAME}' '{text}'"
