"""Flows of packets in packets, whose templates repeat the elements of the header: the outer one's first, then the inner one's.

Routers at the edge of SRv6 and of other IP in IP tunnels export both; repeated elements stand in the order in which they were
met (RFC 7011 section 8). The flow is then the inner one, the conversation that the tunnel carries; of the outer header's elements
those that have a second value stay among the additional ones, under their names.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from weir.protocols.netflow.fields import TRANSPORTS

__all__ = ["icmp_in_port", "inner_finisher"]

_PROTOCOL: Final = "protocolIdentifier"
_REPEATED: Final = {
    _PROTOCOL: "network_iana_number",
    "sourceIPv4Address": "source_ip",
    "sourceIPv6Address": "source_ip",
    "destinationIPv4Address": "destination_ip",
    "destinationIPv6Address": "destination_ip",
    "sourceTransportPort": "source_port",
    "destinationTransportPort": "destination_port",
    "tcpControlBits": "flow_tcp_flags",
    "ipClassOfService": "flow_tos",
}
_CARRIERS: Final = frozenset({4, 41, 43})
"""Protocols of an outer header that has IP behind it: IPv4, IPv6, and IPv6's routing header."""


def inner_finisher(keys: Sequence[str], extra_keys: Sequence[str]) -> Callable[[dict[str, Any], dict[str, Any]], None] | None:
    """What makes the inner header's values the flow's; None where these elements are not repeated."""
    if _PROTOCOL not in extra_keys or "network_iana_number" not in keys:
        return None
    return _Inner([(name, field) for name, field in _REPEATED.items() if name in extra_keys and field in keys])


class _Inner:
    """Changes the values of an outer header for those of the inner one, which are among the additional elements."""

    __slots__ = ("_pairs",)

    def __init__(self, pairs: list[tuple[str, str]]) -> None:
        self._pairs = pairs

    def __call__(self, flow: dict[str, Any], additional: dict[str, Any]) -> None:
        inner = additional[_PROTOCOL]
        if flow["network_iana_number"] not in _CARRIERS or not isinstance(inner, int) or not 0 < inner < 256:
            return
        for name, field in self._pairs:
            # Packets of the other IP version leave their addresses empty.
            if field not in ("source_ip", "destination_ip") or additional[name] not in ("::", "0.0.0.0"):
                flow[field], additional[name] = additional[name], flow[field]
        flow["network_transport"] = TRANSPORTS.get(inner)
        if isinstance(source := flow.get("source_ip"), str):
            flow["network_type"] = "ipv6" if ":" in source else "ipv4"
        icmp_in_port(flow)


def icmp_in_port(flow: dict[str, Any]) -> None:
    """Type and code of ICMP from the destination's port, where routers without an element for them put type × 256 + code.

    Zero is an echo reply as well as nothing: then nothing is said.
    """
    port = flow.get("destination_port")
    if port and not flow.get("source_port") and flow.get("network_iana_number") in (1, 58):
        flow.setdefault("flow_icmp_type", port >> 8)
        flow.setdefault("flow_icmp_code", port & 0xFF)
