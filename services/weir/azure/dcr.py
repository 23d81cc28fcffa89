"""Stream declarations of Azure Monitor's data collection rules, made from the mappings.

Azure Monitor, "Structure of a data collection rule": a rule declares the columns of each stream it takes, and drops in silence
what it was not told of. Declarations made from the mapping that fills the rows cannot lag behind it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from weir.model.mappings import Projection, projectable_topics, projection

__all__ = ["rules_document", "sentinel_projections", "stream_declarations"]


def sentinel_projections(topics: Sequence[str] = ()) -> list[Projection]:
    """The projections of these topics (short names), or of all. Raises KeyError for a topic that has none."""
    return [projection("sentinel", topic) for topic in topics or projectable_topics()]


def stream_declarations(topics: Sequence[str] = ()) -> dict[str, dict[str, list[dict[str, str]]]]:
    """The `streamDeclarations` of a rule: `{stream: {"columns": [{"name", "type"}]}}`."""
    return {
        made.stream: {"columns": [{"name": column.name, "type": column.type} for column in made.columns]}
        for made in sentinel_projections(topics)
    }


def rules_document(immutable_id: str, topics: Sequence[str] = ()) -> dict[str, Any]:
    """One rule with all streams, their tables, output streams and id columns: `{"dcrs": {immutable id: {"streams": {…}}}}`.

    It is what a stand-in of the Logs Ingestion API is configured with.
    """
    declared = stream_declarations(topics)
    streams = {
        made.stream: {
            **declared[made.stream],
            "table": made.table,
            "output_stream": made.output_stream,
            "id_column": made.id_column,
        }
        for made in sentinel_projections(topics)
    }
    return {"dcrs": {immutable_id: {"streams": streams}}}
