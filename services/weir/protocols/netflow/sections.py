"""Flows that are sampled packets: exporters that send the beginning of each instead of its fields (RFC 5477, section 8.5).

A switch with IPFIX-PSAMP, or Juniper's inline monitoring, gives `dataLinkFrameSection` or `ipHeaderPacketSection`; what its headers
say fills the fields of the flow that its own elements do not, as with sFlow: addresses are those of the outermost IP
header, and what a tunnel carries is `inner` among the additional elements.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from weir.protocols.netflow.fields import LARGEST, TRANSPORTS
from weir.protocols.packet import Packet, ethernet, ip, mpls, tunnelled

__all__ = ["section_finisher"]

_READERS: Final[tuple[tuple[str, Callable[[bytes], Packet]], ...]] = (
    ("dataLinkFrameSection", ethernet),
    ("ipHeaderPacketSection", ip),
    ("mplsLabelStackSection", mpls),
)
_ETHERNET: Final = 1
"""dataLinkFrameType of an Ethernet frame (RFC 7133, section 3.3); others are not read."""

_SEGMENTED: Final = frozenset({"vxlan", "geneve"})


def section_finisher(extra_keys: Sequence[str]) -> Callable[[dict[str, Any], dict[str, Any]], None] | None:
    """What fills flows from the sections that records with these additional elements hold; None where they hold none."""
    for name, read in _READERS:
        if name in extra_keys:
            return _Section(name, read)
    return None


class _Section:
    """Fills a flow from one element that holds the beginning of a packet, in hexadecimal."""

    __slots__ = ("_key", "_read")

    def __init__(self, key: str, read: Callable[[bytes], Packet]) -> None:
        self._key = key
        self._read = read

    def __call__(self, flow: dict[str, Any], additional: dict[str, Any]) -> None:
        text = additional[self._key]
        if not isinstance(text, str) or not text or additional.get("dataLinkFrameType", _ETHERNET) not in (0, _ETHERNET):
            return
        packet = self._read(bytes.fromhex(text))
        outer = packet if packet.version is not None else packet.outermost_ip()
        _fill(flow, _frame_fields(packet))
        if outer is not None:
            _fill(flow, _packet_fields(outer))
        additional.update(tunnelled(packet))
        frame_size = additional.get("dataLinkFrameSize")
        _count(flow, frame_size if isinstance(frame_size, int) and frame_size else None, None if outer is None else outer.length)


def _fill(flow: dict[str, Any], found: dict[str, Any]) -> None:
    for name, value in found.items():
        if value is not None and flow.get(name) is None:
            flow[name] = value


def _frame_fields(packet: Packet) -> dict[str, Any]:
    return {
        "source_mac": packet.source_mac,
        "destination_mac": packet.destination_mac,
        "vlan_id": packet.vlans[0] if packet.vlans else None,
        "inner_vlan_id": packet.vlans[1] if len(packet.vlans) > 1 else None,
        "flow_mpls_labels": [str(label) for label in packet.labels] or None,
        "flow_vni": packet.tunnel_id if packet.tunnel in _SEGMENTED else None,
    }


def _packet_fields(outer: Packet) -> dict[str, Any]:
    return {
        "source_ip": outer.source_ip,
        "destination_ip": outer.destination_ip,
        "source_port": outer.source_port,
        "destination_port": outer.destination_port,
        "network_iana_number": outer.protocol,
        "network_transport": None if outer.protocol is None else TRANSPORTS.get(outer.protocol),
        "network_type": f"ipv{outer.version}",
        "flow_tos": outer.tos,
        "flow_tcp_flags": outer.tcp_flags,
        "flow_icmp_type": outer.icmp_type,
        "flow_icmp_code": outer.icmp_code,
    }


def _count(flow: dict[str, Any], frame_size: int | None, ip_length: int | None) -> None:
    """One packet, scaled; bytes are those of the IP packet, and of the frame where there is none."""
    times = flow.get("flow_sampling_interval") or 1
    if flow.get("flow_raw_packets") is None:
        flow["flow_raw_packets"] = 1
        flow["network_packets"] = flow["source_packets"] = round(times)
    raw, length = frame_size or ip_length, ip_length or frame_size
    if flow.get("flow_raw_bytes") is None and raw is not None and length is not None:
        flow["flow_raw_bytes"] = raw
        flow["network_bytes"] = flow["source_bytes"] = min(round(length * times), LARGEST)
