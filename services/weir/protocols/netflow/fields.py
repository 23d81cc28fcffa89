"""Which information element fills which field of a flow, and how a value becomes that field's value."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import IPv6Address
from math import isfinite
from socket import inet_ntoa
from struct import unpack
from typing import Any, Final, TypedDict

from weir.protocols.netflow.elements import NTOP, element, natural_size

__all__ = [
    "ALTERNATIVES",
    "DELTAS",
    "DIRECTIONS",
    "END_REASONS",
    "END_TIMES",
    "LARGEST",
    "START_TIMES",
    "TRANSPORTS",
    "UPTIME",
    "FlowRecord",
    "FlowValue",
    "converter",
    "read_value",
    "struct_code",
    "time_converter",
]

FlowValue = int | float | str | dict[str, Any]
"""What an element without a field of its own becomes: a number, text (hexadecimal where the type is unknown), or for structured
data what `weir.protocols.netflow.structured` makes of it."""


class FlowRecord(TypedDict, total=False):
    """One flow: a plain dict with the fields that its exporter gave; absent or None means not given.

    Addresses are text, MAC addresses upper case with hyphens (ECS); times microseconds UTC; `network_*`, `source_*` and
    `destination_*` counts are scaled by the sampling interval, `flow_raw_*` are as exported. `source_*` counts are those from
    source to destination, and `network_*` the sum of both ways. Counts beyond 2^63-1 are held at that. `additional` holds all other
    elements by IANA's or the vendor's name or as `enterprise:E.id`; one that a template repeats gets its field number behind its
    name (`name#3`). `observation_domain`, `flow_protocol`, `flow_sampling_interval` and `additional` are in every flow.
    The fields from `event_action` on are there only where they say something.
    """

    source_ip: str | None
    destination_ip: str | None
    source_port: int | None
    destination_port: int | None
    network_iana_number: int | None
    network_transport: str | None
    network_type: str | None
    source_mac: str | None
    destination_mac: str | None
    network_bytes: int | None
    network_packets: int | None
    source_bytes: int | None
    source_packets: int | None
    destination_bytes: int | None
    destination_packets: int | None
    flow_raw_bytes: int | None
    flow_raw_packets: int | None
    flow_sampling_interval: int | float | None
    event_start_us: int | None
    event_end_us: int | None
    flow_tcp_flags: int | None
    flow_tos: int | None
    flow_icmp_type: int | None
    flow_icmp_code: int | None
    observer_ingress_interface: int | None
    observer_egress_interface: int | None
    source_as: int | None
    destination_as: int | None
    next_hop_ip: str | None
    vlan_id: int | None
    destination_vlan_id: int | None
    flow_direction: str | None
    source_nat_ip: str | None
    destination_nat_ip: str | None
    source_nat_port: int | None
    destination_nat_port: int | None
    flow_end_reason: str | None
    flow_id: str | None
    application_name: str | None
    user_name: str | None
    observation_domain: int
    flow_protocol: str
    additional: dict[str, FlowValue]
    event_action: str
    event_type: list[str]
    event_outcome: str
    event_code: str
    event_reason: str
    user_id: str
    user_domain: str
    flow_vni: int
    flow_mpls_labels: list[str]
    network_protocol: str
    observer_ingress_interface_name: str
    observer_egress_interface_name: str


ElementId = int | tuple[int, int]
"""An element of IANA's by id, a vendor's by enterprise and id."""

ALTERNATIVES: Final[dict[str, tuple[ElementId, ...]]] = {
    "source_ip": (8, 27),
    "destination_ip": (12, 28),
    "source_port": (7, 182, 180),
    "destination_port": (11, 183, 181),
    "network_iana_number": (4,),
    "source_mac": (56, 81),
    "destination_mac": (80, 57),
    "flow_raw_bytes": (1, 85, 23, 171),
    "flow_raw_packets": (2, 86, 24, 172),
    "flow_tcp_flags": (6,),
    "flow_tos": (5,),
    "flow_icmp_type": (176, 178),
    "flow_icmp_code": (177, 179),
    "observer_ingress_interface": (10, 252),
    "observer_egress_interface": (14, 253),
    "source_as": (16,),
    "destination_as": (17,),
    "next_hop_ip": (15, 62),
    "vlan_id": (58, 243),
    "destination_vlan_id": (59, 254),
    "flow_direction": (61,),
    "source_nat_ip": (225, 281, 40001),
    "destination_nat_ip": (226, 282, 40002),
    "source_nat_port": (227, 40003),
    "destination_nat_port": (228, 40004),
    "flow_end_reason": (136,),
    "flow_id": (148,),
    # nProbe, Ixia, Procera and AFC name the application themselves.
    "application_name": (96, 56701, (NTOP, 427), (NTOP, 119), (3054, 111), (15397, 1), (9789, 2)),
    # IANA, Cisco ASA, PAN-OS, Citrix (AAA, ICA), nProbe.
    "user_name": (371, 40000, 56702, (5951, 205), (5951, 250), (NTOP, 428), (NTOP, 121)),
    # Read and taken out again while a record is made:
    "_icmp": (32, 139),
    "_sampler": (48, 302),
    "_interval": (34, 50),
    "_version": (60,),
}
"""Target field to the elements that can fill it, best first. Where a record has several, the first value that is not
empty (zero) is taken; the others stay among the additional elements."""

UPTIME: Final = frozenset({21, 22})
"""Times in milliseconds since the exporter started, 32 bits."""

DELTAS: Final = frozenset({158, 159})
"""Times in microseconds before the export, 32 bits."""

START_TIMES: Final = (152, 150, 154, 156, 158, 22)
"""Elements that time the first packet, best first: 158 is microseconds before the export, 22 sysUpTime."""

END_TIMES: Final = (153, 151, 155, 157, 159, 21, 323, 322, 324, 325)
"""Elements that time the last packet, best first; the observation times are for events of a moment (NAT, firewall)."""

DIRECTIONS: Final = {0: "ingress", 1: "egress"}

END_REASONS: Final = {
    1: "idle timeout",
    2: "active timeout",
    3: "end of flow detected",
    4: "forced end",
    5: "lack of resources",
}
"""IANA's values of flowEndReason."""

TRANSPORTS: Final = {
    1: "icmp",
    2: "igmp",
    4: "ipip",
    6: "tcp",
    8: "egp",
    17: "udp",
    33: "dccp",
    41: "ipv6",
    46: "rsvp",
    47: "gre",
    50: "esp",
    51: "ah",
    58: "ipv6-icmp",
    88: "eigrp",
    89: "ospf",
    103: "pim",
    112: "vrrp",
    115: "l2tp",
    132: "sctp",
    136: "udplite",
}
"""IANA protocol numbers that flows have in practice, in ECS's lower case."""

LARGEST: Final = (1 << 63) - 1
"""Event records have signed 64-bit numbers: larger ones are held at this, or as an additional element written as text."""

_YEAR_10000_US = 253_402_300_800_000_000
_NTP_EPOCH = 2_208_988_800
"""Seconds from 1900 to 1970 (RFC 5905, used by RFC 7011 section 6.1.9)."""


class _TextCache(dict[bytes, str]):
    """Text of an address by its bytes; begins anew when it is full."""

    __slots__ = ("_limit", "_make")

    def __init__(self, make: Callable[[bytes], str], limit: int = 1 << 16) -> None:
        super().__init__()
        self._make = make
        self._limit = limit

    def __missing__(self, raw: bytes) -> str:
        if len(self) >= self._limit:
            self.clear()
        text = self[raw] = self._make(raw)
        return text


class _Named(dict[int, str]):
    """Names of small numbers; other numbers get what `other` makes of them, and are not kept."""

    __slots__ = ("_other",)

    def __init__(self, names: dict[int, str], other: Callable[[int], str]) -> None:
        super().__init__(names)
        self._other = other

    def __missing__(self, number: int) -> str:
        return self._other(number)


_CODES = {1: "B", 2: "H", 4: "I", 8: "Q"}
_SIGNED_CODES = {1: "b", 2: "h", 4: "i", 8: "q"}
_FLOAT_CODES = {4: "f", 8: "d"}

_ip4 = _TextCache(inet_ntoa).__getitem__
_ip6 = _TextCache(lambda raw: str(IPv6Address(raw))).__getitem__
_direction = _Named(DIRECTIONS, lambda _: "unknown").__getitem__
_end_reason = _Named(END_REASONS, str).__getitem__
_mac = _TextCache(lambda raw: raw.hex("-").upper()).__getitem__


def struct_code(abstract_type: str, length: int) -> str:
    """Code for `struct` of a field of this type and length; bytes where no number of that length exists."""
    if abstract_type.startswith("unsigned") or abstract_type in ("dateTimeSeconds", "dateTimeMilliseconds", "boolean"):
        return _CODES.get(length, f"{length}s")
    if abstract_type.startswith("signed"):
        return _SIGNED_CODES.get(length, f"{length}s")
    if abstract_type.startswith("float"):
        return _FLOAT_CODES.get(length, f"{length}s")
    if abstract_type in ("dateTimeMicroseconds", "dateTimeNanoseconds") and length == 8:
        return "Q"
    return f"{length}s"


def converter(target: str | None, abstract_type: str, length: int) -> Callable[..., FlowValue | None] | None:
    """What turns the value that `struct_code` reads into a field's value; None where it already is.

    `target` is the flow's field, or None for an additional element. A value that does not fit a target gives None,
    an additional element of a length that its type cannot have is given in hexadecimal.
    """
    code = struct_code(abstract_type, length)
    numeric = not code.endswith("s")
    if target == "flow_id":
        return str if numeric else lambda raw: str(int.from_bytes(raw, "big"))
    if target in ("flow_direction", "flow_end_reason") and numeric:
        return _direction if target == "flow_direction" else _end_reason
    if abstract_type == "string":
        return _text
    if abstract_type == "ipv4Address" and length == 4:
        return _ip4
    if abstract_type == "ipv6Address" and length == 16:
        return _ip6
    if abstract_type == "macAddress" and length == 6:
        return _mac
    if abstract_type.startswith("float"):
        return _finite if numeric else _hex
    if abstract_type.startswith("dateTime"):
        return _date_time(abstract_type) if numeric else _hex
    if abstract_type.startswith(("unsigned", "signed", "boolean")):
        signed = abstract_type.startswith("signed")
        if target is not None and (length < 8 or numeric):
            return _limited(natural_size(abstract_type) or 8, length, numeric)
        if target is not None:
            return _nothing
        if numeric:
            return None if length < 8 else _countable
        return (lambda raw: int.from_bytes(raw, "big", signed=signed)) if 0 < length < 8 else _hex
    return _hex if target is None else _nothing


def time_converter(element_id: int, length: int) -> Callable[..., int | None] | None:
    """What turns a time element's value into microseconds UTC, None where it cannot: out of the years 1970 to 9999, zero.

    Not for the relative elements (158, 159 and sysUpTime). None for a length that the type cannot have.
    """
    abstract_type = element(0, element_id).type
    numeric = not struct_code(abstract_type, length).endswith("s")
    if not numeric:
        return None
    if abstract_type == "dateTimeSeconds":
        return lambda value: _in_range(value * 1_000_000)
    if abstract_type == "dateTimeMilliseconds":
        return lambda value: _in_range(value * 1000)
    return lambda value: _in_range(_ntp(value, 1_000_000))


def _in_range(micros: int) -> int | None:
    return micros if 0 < micros < _YEAR_10000_US else None


def _ntp(value: int, per_second: int) -> int:
    """NTP's 32 bits of seconds since 1900 and 32 of fraction, as whole units since 1970."""
    return ((value >> 32) - _NTP_EPOCH) * per_second + ((value & 0xFFFFFFFF) * per_second >> 32)


def _date_time(abstract_type: str) -> Callable[[int], FlowValue]:
    if abstract_type == "dateTimeMicroseconds":
        return lambda value: _ntp(value, 1_000_000) if value else 0
    if abstract_type == "dateTimeNanoseconds":
        return lambda value: _ntp(value, 1_000_000_000) if value else 0
    return _countable


def _text(raw: bytes) -> str:
    return raw.rstrip(b"\0").decode("utf-8", "replace")


def _nothing(_: object) -> None:
    return None


def _hex(raw: bytes) -> str:
    return raw.hex()


def _finite(value: float) -> FlowValue:
    return value if isfinite(value) else str(value)


def _countable(value: int) -> FlowValue:
    return value if value <= LARGEST else str(value)


def _limited(size: int, length: int, numeric: bool) -> Callable[..., int | None] | None:
    if size == 8:
        if length == 8:
            return lambda value: value if value <= LARGEST else LARGEST
        return None if numeric else lambda raw: int.from_bytes(raw, "big")
    if length <= size:
        return None if numeric else lambda raw: int.from_bytes(raw, "big")
    largest = (1 << 8 * size) - 1
    if numeric:
        return lambda value: value if value <= largest else None

    def narrow(raw: bytes) -> int | None:
        value = int.from_bytes(raw, "big")
        return value if value <= largest else None

    return narrow


def read_value(code: str, raw: bytes) -> int | float | bytes:
    """One value read alone: what `struct` would give for `code`, for records whose length varies."""
    if code in "BHIQ":
        return int.from_bytes(raw, "big")
    return raw if code.endswith("s") else unpack(">" + code, raw)[0]
