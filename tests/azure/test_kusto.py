"""The script for Azure Data Explorer."""

from __future__ import annotations

from weir.azure.kusto import adx_commands, adx_script
from weir.model.mappings import projectable_topics


def test_each_table_comes_before_its_mapping() -> None:
    commands = adx_commands()
    assert len(commands) == 2 * len(projectable_topics())
    for table, mapping in zip(commands[::2], commands[1::2], strict=True):
        name = table.split("['")[1].split("']")[0]
        assert table.startswith(".create-merge table ")
        assert mapping.startswith(f".create-or-alter table ['{name}'] ingestion json mapping 'weir_v1'")


def test_the_script_has_a_command_on_each_line() -> None:
    lines = adx_script(["alerts"]).splitlines()
    assert lines[0] == ".execute database script <|"
    assert all(line.startswith(".create") for line in lines[1:])
    assert len(lines) == 3
