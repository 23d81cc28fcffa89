"""A flow of NetFlow or IPFIX as fields of events.network-flow."""

from __future__ import annotations

from typing import Any

import orjson

from weir.protocols import netflow

__all__ = ["CONSTANT", "LONGEST_US", "fill"]

LONGEST_US = (1 << 63) // 1000
"""A duration in nanoseconds has 63 bits, 292 years; damaged datagrams tell longer ones."""

CONSTANT: dict[str, Any] = {
    "event_module": "netflow",
    "event_dataset": "netflow.flow",
    "event_category": ["network"],
    "event_type": ["connection"],
    "event_action": "netflow_flow",
}


def fill(record: dict[str, Any], flow: netflow.FlowRecord) -> None:
    """Put a flow's fields into its record; one dict for both, because copying costs more than all else here."""
    record.update(flow)
    record["flow_observation_domain"] = record.pop("observation_domain", None)
    if "application_name" in record:
        record["network_application"] = record.pop("application_name")
    additional = record.pop("additional", None)
    if additional:
        record["flow_additional"] = orjson.dumps(additional).decode()
    start = record["event_start"] = record.pop("event_start_us", None)
    end = record["event_end"] = record.pop("event_end_us", None)
    record["timestamp"] = end or start
    if start is not None and end is not None and 0 <= end - start < LONGEST_US:
        record["event_duration"] = (end - start) * 1000
