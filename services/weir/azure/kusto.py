"""The database script that makes Azure Data Explorer's tables and mappings, for where the sink may not make them itself."""

from __future__ import annotations

from collections.abc import Sequence

from weir.model.kusto import adx_mapping_command, adx_table_command
from weir.model.mappings import projectable_topics, projection

__all__ = ["adx_commands", "adx_script"]


def adx_commands(topics: Sequence[str] = ()) -> list[str]:
    """For each topic (short names; all by default) the command for its table, then the one for its JSON mapping.

    Each may be run again at any time: tables only gain columns, the mapping is replaced by an equal one.
    """
    commands = []
    for topic in topics or projectable_topics():
        made = projection("adx", topic)
        commands += [adx_table_command(made), adx_mapping_command(made)]
    return commands


def adx_script(topics: Sequence[str] = ()) -> str:
    """The same as one `.execute database script`."""
    return ".execute database script <|\n" + "\n".join(adx_commands(topics)) + "\n"
