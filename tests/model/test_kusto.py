"""The commands that make ADX's tables."""

from __future__ import annotations

import json
import re

import pytest

from weir.model.kusto import MAPPING_NAME, adx_mapping_command, adx_table_command
from weir.model.mappings import projectable_topics, projection


@pytest.mark.parametrize("topic", projectable_topics())
def test_table_and_mapping_have_every_column_in_kustos_types(topic: str) -> None:
    made = projection("adx", topic)
    table = adx_table_command(made)
    assert table.startswith(f".create-merge table ['{made.table}'] (")
    columns = re.findall(r"\['(\w+)'\]:(\w+)", table)
    assert [name for name, _ in columns] == [column.name for column in made.columns]
    assert {kind for _, kind in columns} <= {"string", "int", "long", "real", "bool", "datetime", "dynamic"}
    command = adx_mapping_command(made)
    found = re.fullmatch(rf"\.create-or-alter table \['{made.table}'\] ingestion json mapping '{MAPPING_NAME}' '(.*)'", command)
    assert found is not None
    mapping = json.loads(found[1])
    assert [(entry["column"], entry["datatype"]) for entry in mapping] == columns
    assert all(entry["Properties"] == {"Path": f"$.{entry['column']}"} for entry in mapping)
