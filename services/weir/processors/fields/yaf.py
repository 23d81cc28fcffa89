"""Flows that YAF's `yafscii` writes as lines of text, as fields of events.network-flow."""

from __future__ import annotations

from typing import Any, Final

import orjson

from weir.processors.fields import Context, Decoded
from weir.processors.fields.netflow import LONGEST_US
from weir.protocols import yaf
from weir.protocols.netflow.details import APPLICATION_LABELS
from weir.protocols.netflow.fields import LARGEST, TRANSPORTS

__all__ = ["document", "line", "name"]

name: Final = "yaf"

_BARS: Final = 22
# YAF's words for flowEndReason, in those that all flows have here.
_ENDS: Final = {
    "idle": "idle timeout",
    "active": "active timeout",
    "eof": "end of flow detected",
    "force": "forced end",
    "rsrc": "lack of resources",
}


def document(document: dict[str, object], context: Context) -> Decoded | None:
    """These are lines, so no document is one."""
    return None


def line(text: str, context: Context) -> Decoded | None:
    """Dataset and fields of a flow; None for any other line."""
    if text.count("|") != _BARS or (flow := yaf.decode(text)) is None:
        return None
    both_ways = flow.reverse_packets or flow.reverse_octets
    fields: dict[str, Any] = {
        "timestamp": flow.end_us,
        "event_module": "yaf",
        "event_dataset": "yaf.flow",
        "event_category": ["network"],
        "event_type": ["connection"],
        "event_action": "network_flow",
        "event_start": flow.start_us,
        "event_end": flow.end_us,
        "event_duration": (flow.end_us - flow.start_us) * 1000 if 0 <= flow.end_us - flow.start_us < LONGEST_US else None,
        "observer_vendor": "CERT",
        "observer_product": "YAF",
        "flow_protocol": "yaf",
        "network_type": "ipv6" if ":" in flow.source_ip else "ipv4",
        "network_iana_number": flow.protocol,
        "network_transport": TRANSPORTS.get(flow.protocol),
        "network_protocol": APPLICATION_LABELS.get(flow.application),
        "source_ip": flow.source_ip,
        "source_port": flow.source_port,
        "destination_ip": flow.destination_ip,
        "destination_port": flow.destination_port,
        "source_bytes": flow.octets,
        "source_packets": flow.packets,
        "destination_bytes": flow.reverse_octets if both_ways else None,
        "destination_packets": flow.reverse_packets if both_ways else None,
        "network_bytes": min(flow.octets + flow.reverse_octets, LARGEST),
        "network_packets": min(flow.packets + flow.reverse_packets, LARGEST),
        "flow_raw_bytes": flow.octets,
        "flow_raw_packets": flow.packets,
        "flow_tcp_flags": flow.flags if flow.protocol == 6 else None,
        "flow_end_reason": _ENDS.get(flow.end_reason, flow.end_reason or None),
        "vlan_id": flow.vlan or None,
    }
    if flow.protocol in (1, 58):
        # Type and code stand in the place of the destination port, as in IPFIX.
        fields["flow_icmp_type"], fields["flow_icmp_code"] = flow.destination_port >> 8, flow.destination_port & 0xFF
    additional = {
        "roundTripTimeMilliseconds": flow.rtt_ms,
        "tcpSequenceNumber": flow.sequence,
        "reverseTcpSequenceNumber": flow.reverse_sequence,
        "reverseTcpControlBits": flow.reverse_flags,
        "reverseVlanId": flow.reverse_vlan,
        "silkAppLabel": flow.application,
    }
    if kept := {key: value for key, value in additional.items() if value}:
        fields["flow_additional"] = orjson.dumps(kept).decode()
    return "network-flow", fields
