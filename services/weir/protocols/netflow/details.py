"""What some flows say beside addresses and counts: events of NAT and firewalls, labels, segments, users, names of numbers.

Each finisher takes a flow and its additional elements and adds fields to the flow; a template whose records have nothing for it
does not pay for it. Elements stay among the additional ones, as the exporter sent them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

from weir.protocols.netflow.encapsulated import inner_finisher
from weir.protocols.netflow.sections import section_finisher

__all__ = ["APPLICATION_LABELS", "FIREWALL_EVENTS", "NAT_EVENTS", "Finish", "Names", "Reference", "finishers", "references"]

Finish = Callable[[dict[str, Any], dict[str, Any]], None]

_START, _END, _INFO = ["connection", "start"], ["connection", "end"], ["connection", "info"]
_DENIED, _ERROR = ["connection", "denied"], ["connection", "error"]

_Event = tuple[str, list[str], str]

NAT_EVENTS: Final[dict[int, _Event]] = {
    1: ("nat_translation_create", _START, "success"),
    2: ("nat_translation_delete", _END, "success"),
    3: ("nat_addresses_exhausted", _ERROR, "failure"),
    4: ("nat44_session_create", _START, "success"),
    5: ("nat44_session_delete", _END, "success"),
    6: ("nat64_session_create", _START, "success"),
    7: ("nat64_session_delete", _END, "success"),
    8: ("nat44_bib_create", _START, "success"),
    9: ("nat44_bib_delete", _END, "success"),
    10: ("nat64_bib_create", _START, "success"),
    11: ("nat64_bib_delete", _END, "success"),
    12: ("nat_ports_exhausted", _ERROR, "failure"),
    13: ("nat_quota_exceeded", _ERROR, "failure"),
    14: ("nat_address_binding_create", _START, "success"),
    15: ("nat_address_binding_delete", _END, "success"),
    16: ("nat_port_block_allocation", _START, "success"),
    17: ("nat_port_block_deallocation", _END, "success"),
    18: ("nat_threshold_reached", _INFO, "unknown"),
}
"""natEvent (230): action, types, outcome. Values of IANA's registry of that element (RFC 8158 section 4.3)."""

FIREWALL_EVENTS: Final[dict[int, _Event]] = {
    1: ("firewall_flow_created", ["connection", "allowed", "start"], "success"),
    2: ("firewall_flow_deleted", _END, "success"),
    3: ("firewall_flow_denied", _DENIED, "failure"),
    4: ("firewall_flow_alert", _INFO, "unknown"),
    5: ("firewall_flow_update", _INFO, "success"),
}
"""firewallEvent (233): action, types, outcome. Values of IANA's registry of that element."""

_DENIALS: Final = {
    1001: "denied by an ingress ACL",
    1002: "denied by an egress ACL",
    1003: "connection to an interface of the device, or ICMP to it, denied",
    1004: "first TCP packet was no SYN",
}
"""Extended events of Cisco ASA (NF_F_FW_EXT_EVENT) that say why a flow was denied; above 2000 they tell why one was torn down."""

_DROPS: Final = {
    128: "unknown",
    129: "ACL deny",
    130: "ACL drop",
    131: "unroutable",
    132: "adjacency",
    133: "fragmentation needed, DF set",
    134: "bad header checksum",
    135: "bad total length",
    136: "bad header length",
    137: "bad TTL",
    138: "policer",
    139: "WRED",
    140: "RPF",
    141: "for us",
    142: "bad output interface",
    143: "hardware",
}
"""forwardingStatus (89) of packets that were dropped, by IANA's registry of that element (RFC 7270 section 4.12)."""

APPLICATION_LABELS: Final = {
    21: "ftp",
    22: "ssh",
    23: "telnet",
    25: "smtp",
    53: "dns",
    67: "dhcp",
    69: "tftp",
    80: "http",
    110: "pop3",
    119: "nntp",
    123: "ntp",
    137: "netbios-ns",
    138: "netbios-dgm",
    139: "smb",
    143: "imap",
    161: "snmp",
    179: "bgp",
    194: "irc",
    389: "ldap",
    427: "slp",
    443: "tls",
    502: "modbus",
    554: "rtsp",
    646: "ldp",
    873: "rsync",
    1080: "socks",
    1723: "pptp",
    3306: "mysql",
    3389: "rdp",
    3544: "teredo",
    5004: "rtp",
    5060: "sip",
    5222: "xmpp",
    5900: "vnc",
    6346: "gnutella",
    6881: "bittorrent",
    20000: "dnp3",
}
"""silkAppLabel (CERT 33): the label is the number of the port that the protocol is registered for (YAF's applabel rules)."""

_USUAL_LABELS: Final = ("mplsTopLabelStackSection", *(f"mplsLabelStackSection{number}" for number in range(2, 11)))


_BGP_HOPS: Final = ("bgpNextHopIPv4Address", "bgpNextHopIPv6Address")
_NOWHERE: Final = frozenset({None, "0.0.0.0", "::"})


class Reference(NamedTuple):
    """A number that the exporter may have a name for: where the number is, what it numbers, and where the name goes."""

    key: str
    additional: bool
    kinds: tuple[str, ...]
    target: str
    target_additional: bool


_REFERENCES: Final = (
    Reference(
        "observer_ingress_interface", False, ("interface", "interface-description"), "observer_ingress_interface_name", False
    ),
    Reference("observer_egress_interface", False, ("interface", "interface-description"), "observer_egress_interface_name", False),
    Reference("applicationId", True, ("application",), "application_name", False),
    Reference("ingressVRFID", True, ("vrf",), "ingressVRFName", True),
    Reference("egressVRFID", True, ("vrf",), "egressVRFName", True),
)


def references(keys: Sequence[str], extra_keys: Sequence[str]) -> tuple[Reference, ...]:
    """What records with these fields and these additional elements refer to by number."""
    return tuple(one for one in _REFERENCES if one.key in (extra_keys if one.additional else keys))


def finishers(keys: Sequence[str], extra_keys: Sequence[str]) -> tuple[Finish, ...]:
    """What is left to do for records with these fields and these additional elements."""
    extra = set(extra_keys)
    found: list[Finish] = []
    if "natEvent" in extra:
        found.append(_nat_event)
    if "firewallEvent" in extra:
        found.append(_firewall_event)
    if "forwardingStatus" in extra:
        found.append(_forwarding)
    if not extra.isdisjoint(_BGP_HOPS):
        found.append(_hop)
    if "layer2SegmentId" in extra:
        found.append(_segment)
    if "silkAppLabel" in extra:
        found.append(_label)
    if labels := _label_keys(extra_keys):
        found.append(_Labels(labels))
    if "user_name" in keys:
        found.append(_user)
    if any(key.partition("#")[0] == "juniperCommonPropertiesId" for key in extra_keys):
        found.append(_exception)
    if (inner := inner_finisher(keys, extra_keys)) is not None:
        found.append(inner)
    if (section := section_finisher(extra_keys)) is not None:
        found.append(section)
    return tuple(found)


def _label_keys(extra_keys: Sequence[str]) -> tuple[str, ...]:
    """Keys of label stack sections, top first; a template may repeat one (`name#3`)."""
    ranked = [
        (_USUAL_LABELS.index(name), place, key)
        for place, key in enumerate(extra_keys)
        if (name := key.partition("#")[0]) in _USUAL_LABELS
    ]
    return tuple(key for _, _, key in sorted(ranked))


class _Labels:
    """MPLS labels: 20 bits each, then class, bottom of stack (RFC 5102 section 5.8.13). A section of zeros is none."""

    __slots__ = ("_keys",)

    def __init__(self, keys: tuple[str, ...]) -> None:
        self._keys = keys

    def __call__(self, flow: dict[str, Any], additional: dict[str, Any]) -> None:
        sections = [additional[key] for key in self._keys]
        labels = [str(int(text[:5], 16)) for text in sections if isinstance(text, str) and len(text) >= 6 and text.strip("0")]
        if labels:
            flow["flow_mpls_labels"] = labels


def _event(flow: dict[str, Any], event: _Event, code: object) -> None:
    action, types, outcome = event
    flow["event_action"], flow["event_type"], flow["event_outcome"] = action, types.copy(), outcome
    flow["event_code"] = str(code)


def _nat_event(flow: dict[str, Any], additional: dict[str, Any]) -> None:
    code = additional["natEvent"]
    if (event := NAT_EVENTS.get(code)) is not None:
        _event(flow, event, code)


def _firewall_event(flow: dict[str, Any], additional: dict[str, Any]) -> None:
    code = additional["firewallEvent"]
    event = FIREWALL_EVENTS.get(code)
    if event is None:
        return
    extended = additional.get("firewallEventExtended")
    _event(flow, event, extended or code)
    if (reason := _DENIALS.get(extended or 0)) is not None:
        flow["event_reason"] = reason


def _forwarding(flow: dict[str, Any], additional: dict[str, Any]) -> None:
    status = additional["forwardingStatus"]
    if isinstance(status, int) and 128 <= status < 192 and "event_action" not in flow:
        flow["event_outcome"] = "failure"
        flow["event_reason"] = _DROPS.get(status) or f"dropped ({status})"
        if status in (129, 130):
            flow["event_type"] = _DENIED.copy()


def _hop(flow: dict[str, Any], additional: dict[str, Any]) -> None:
    # IOS XR, for one, is often set up to give only the next hop of BGP.
    if flow.get("next_hop_ip") in _NOWHERE:
        for name in _BGP_HOPS:
            if (hop := additional.get(name)) not in _NOWHERE:
                flow["next_hop_ip"] = hop


def _exception(flow: dict[str, Any], additional: dict[str, Any]) -> None:
    # Juniper's inline monitoring repeats the element: six bits say which property it is, the others are its value. Property 2 is
    # the exception that a packet met, 0 for none; what a number means is each platform's own.
    for key, value in additional.items():
        if (
            key.startswith("juniperCommonPropertiesId")
            and isinstance(value, str)
            and len(value) == 4
            and int(value[:2], 16) >> 2 == 2
        ):
            if code := int(value, 16) & 0x3FF:
                flow["event_outcome"], flow["event_code"] = "failure", str(code)
                flow["event_reason"] = f"dropped by forwarding exception {code}"
            return


def _segment(flow: dict[str, Any], additional: dict[str, Any]) -> None:
    # The highest byte says how the segment is encapsulated (1 VXLAN, 2 NVGRE), the lowest three are its id.
    value = additional["layer2SegmentId"]
    if isinstance(value, int) and value & 0xFF_FFFF:
        flow["flow_vni"] = value & 0xFF_FFFF


def _label(flow: dict[str, Any], additional: dict[str, Any]) -> None:
    if (protocol := APPLICATION_LABELS.get(additional["silkAppLabel"])) is not None:
        flow["network_protocol"] = protocol


def _user(flow: dict[str, Any], _: dict[str, Any]) -> None:
    user = flow["user_name"]
    if not user:
        flow["user_name"] = None
        return
    flow["user_id"] = user
    domain, _, name = user.rpartition("\\")
    if domain and name:
        flow["user_domain"], flow["user_name"] = domain, name


class Names:
    """What the exporter calls the numbers in its flows.

    Args:
        lookup: from kind and number to a name, as `weir.protocols.netflow.options.NameRecord` has them.
    """

    __slots__ = ("_known", "_lookup")

    def __init__(self, lookup: Callable[[str, str], str | None]) -> None:
        self._lookup = lookup
        self._known: dict[tuple[str, int | str], str | None] = {}

    def fill(self, flow: dict[str, Any], additional: dict[str, Any], refers: tuple[Reference, ...]) -> None:
        """Put the names of what a flow refers to into it; a name that the flow itself gives stays."""
        for refer in refers:
            number = (additional if refer.additional else flow).get(refer.key)
            if not number:
                continue
            place = (refer.key, number)
            if place in self._known:
                name = self._known[place]
            else:
                names = (self._lookup(kind, str(number)) for kind in refer.kinds)
                name = self._known[place] = next(filter(None, names), None)
            if name is not None:
                target = additional if refer.target_additional else flow
                if not target.get(refer.target):
                    target[refer.target] = name
