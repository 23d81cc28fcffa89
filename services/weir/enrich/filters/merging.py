"""Merging the flow records of one raw batch that tell of the same flow into one.

An exporter with a short active timeout tells of a long connection many times, and one that samples or splits by interface tells
of it from several places. Records of one batch are merged whose key is the same in all of `KEY`; batches are never merged with
each other, so a batch done again gives the same events.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

__all__ = ["KEY", "Merging", "flow_key"]

Record = dict[str, Any]

KEY: Final = (
    *("log_source_ip", "flow_protocol", "flow_observation_domain", "event_dataset"),
    *("source_ip", "source_port", "destination_ip", "destination_port", "network_iana_number", "network_transport"),
    *("flow_icmp_type", "flow_icmp_code", "flow_tos", "vlan_id", "destination_vlan_id", "flow_vni"),
    *("flow_direction", "observer_ingress_interface", "observer_egress_interface"),
    *("source_nat_ip", "source_nat_port", "destination_nat_ip", "destination_nat_port"),
    # What was done is not to be added up: a flow that was denied is another one than one that was let through.
    *("event_action", "event_outcome", "flow_state", "flow_id"),
)
"""Fields in which flow records must agree to be merged; absent agrees with absent."""

_SUMS: Final = (
    *("network_bytes", "network_packets", "source_bytes", "source_packets", "destination_bytes", "destination_packets"),
    *("flow_raw_bytes", "flow_raw_packets"),
)
_LARGEST: Final = (1 << 63) - 1
_US_TO_NS: Final = 1000


def flow_key(record: Record) -> tuple[Any, ...]:
    """What two records must have in common to be merged."""
    return tuple(map(record.get, KEY))


class Merging:
    """Records of one flow, added up in a copy of the first: its id, its raw coordinates and all fields but these are the first
    one's.

    Bytes and packets are sums, raw and scaled; the start is the earliest, the end and the time of the event the latest; TCP
    flags are joined; `flow_merged` is the number of records.
    """

    __slots__ = ("record",)

    def __init__(self, first: Record) -> None:
        self.record = {**first, "flow_merged": first.get("flow_merged") or 1}

    def add(self, other: Record) -> None:
        """Add one more."""
        mine = self.record
        mine["flow_merged"] += other.get("flow_merged") or 1
        for name in _SUMS:
            more = other.get(name)
            if more is not None:
                mine[name] = min((mine.get(name) or 0) + more, _LARGEST)
        _choose(mine, other, "event_start", min)
        _choose(mine, other, "event_end", max)
        _choose(mine, other, "timestamp", max)
        _choose(mine, other, "flow_tcp_flags", int.__or__)
        start, end = mine.get("event_start"), mine.get("event_end")
        if start is not None and end is not None and end >= start:
            mine["event_duration"] = min((end - start) * _US_TO_NS, _LARGEST)


def _choose(mine: Record, other: Record, name: str, choose: Callable[[int, int], int]) -> None:
    theirs = other.get(name)
    if theirs is not None:
        own = mine.get(name)
        mine[name] = theirs if own is None else choose(own, theirs)
