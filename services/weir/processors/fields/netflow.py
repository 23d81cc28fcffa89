"""A flow of NetFlow or IPFIX as fields of events.network-flow."""

from __future__ import annotations

from typing import Any

import orjson

from weir.protocols import netflow

__all__ = ["CONSTANT", "fill"]

CONSTANT: dict[str, Any] = {
    "event_module": "netflow",
    "event_dataset": "netflow.flow",
    "event_category": ["network"],
    "event_type": ["connection"],
    "event_action": "netflow_flow",
}
# Decoder's name and event's name, where they differ; the times, which every flow is asked for, are in `fill`.
RENAMED = (
    ("observation_domain", "flow_observation_domain"),
    ("application_name", "network_application"),
)


def fill(record: dict[str, Any], flow: netflow.FlowRecord) -> None:
    """Put a flow's fields into its record; one dict for both, because copying costs more than all else here."""
    record.update(flow)
    for name, ours in RENAMED:
        if name in record:
            record[ours] = record.pop(name)
    additional = record.pop("additional", None)
    if additional:
        record["flow_additional"] = orjson.dumps(additional).decode()
    start = record["event_start"] = record.pop("event_start_us", None)
    end = record["event_end"] = record.pop("event_end_us", None)
    record["timestamp"] = end or start
    if start is not None and end is not None and end >= start:
        record["event_duration"] = (end - start) * 1000
