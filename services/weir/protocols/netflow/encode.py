"""Encoders of NetFlow v5, v7 and v9 and of IPFIX datagrams, for generators and tests; the same input gives the same bytes.

Values are raw: an int for a number, bytes for anything else; `ipv4`, `ipv6`, `mac` and `ntp` make bytes of the rest.
Nothing is checked beyond what `struct` checks, so that damaged datagrams can be made too.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address
from struct import pack

from weir.protocols.netflow.wire import NETFLOW_IPFIX, NETFLOW_V9, VARIABLE

__all__ = [
    "DataSet",
    "FieldSpec",
    "Message",
    "Template",
    "V5Datagram",
    "V5Flow",
    "Withdrawal",
    "encode",
    "encode_v5",
    "encode_v7",
    "ipv4",
    "ipv6",
    "mac",
    "ntp",
    "template_record",
]

Value = int | bytes


def ipv4(text: str) -> bytes:
    """4 bytes of an address."""
    return IPv4Address(text).packed


def ipv6(text: str) -> bytes:
    """16 bytes of an address."""
    return IPv6Address(text).packed


def mac(text: str) -> bytes:
    """6 bytes of a MAC address written with hyphens or colons."""
    return bytes.fromhex(text.replace("-", "").replace(":", ""))


def ntp(micros: int) -> int:
    """A time in microseconds UTC as dateTimeMicroseconds has it: NTP's 32 bits of seconds and 32 of fraction, rounded up."""
    seconds, rest = divmod(micros, 1_000_000)
    return (seconds + 2_208_988_800) << 32 | -(-(rest << 32) // 1_000_000)


@dataclass(frozen=True, slots=True)
class V5Flow:
    """One v5 or v7 record; `first` and `last` are milliseconds of sysUptime, `router` is v7's alone."""

    source: str
    destination: str
    source_port: int = 0
    destination_port: int = 0
    protocol: int = 6
    packets: int = 1
    octets: int = 64
    first: int = 0
    last: int = 0
    next_hop: str = "0.0.0.0"
    input_interface: int = 0
    output_interface: int = 0
    tcp_flags: int = 0
    tos: int = 0
    source_as: int = 0
    destination_as: int = 0
    source_mask: int = 0
    destination_mask: int = 0
    router: str = "0.0.0.0"


@dataclass(frozen=True, slots=True)
class V5Datagram:
    """A v5 or v7 datagram; engine and sampling are v5's alone.

    `uptime` in milliseconds, `sampling_interval` 0 for none, `count` only to lie about the flows.
    """

    flows: Sequence[V5Flow]
    export_seconds: int
    export_nanoseconds: int = 0
    uptime: int = 0
    sequence: int = 0
    engine_type: int = 0
    engine_id: int = 0
    sampling_mode: int = 0
    sampling_interval: int = 0
    count: int | None = None


@dataclass(frozen=True, slots=True)
class FieldSpec:
    """A field of a template: element id, length in bytes (65535: variable), enterprise number (IPFIX; 0 is IANA)."""

    element_id: int
    length: int
    enterprise: int = 0


@dataclass(frozen=True, slots=True)
class Template:
    """A template, or with `scopes` an options template. v9 scopes have their own numbers (1 system, 2 interface)."""

    template_id: int
    fields: Sequence[FieldSpec]
    scopes: Sequence[FieldSpec] = ()
    is_options: bool = False


@dataclass(frozen=True, slots=True)
class Withdrawal:
    """Withdrawal of an IPFIX template (RFC 7011 section 8.1)."""

    template_id: int
    is_options: bool = False


@dataclass(frozen=True, slots=True)
class DataSet:
    """Records of one template: each holds the values of its scopes and fields in order. Padded to 4 bytes if asked."""

    template: Template
    records: Sequence[Sequence[Value]]
    padded: bool = False


@dataclass(frozen=True, slots=True)
class Message:
    """A v9 or IPFIX datagram; `uptime` (milliseconds) is v9 only. `count` is v9's number of records, counted unless given."""

    version: int
    export_seconds: int
    sets: Sequence[Template | Withdrawal | DataSet] = field(default_factory=tuple)
    domain: int = 0
    sequence: int = 0
    uptime: int = 0
    count: int | None = None


def encode_v5(datagram: V5Datagram) -> bytes:
    """Bytes of a v5 datagram: a header of 24 bytes and 48 bytes for each flow."""
    tail = pack(">BBH", datagram.engine_type, datagram.engine_id, datagram.sampling_mode << 14 | datagram.sampling_interval)
    return _fixed_header(5, datagram) + tail + b"".join(_fixed_record(flow) for flow in datagram.flows)


def encode_v7(datagram: V5Datagram) -> bytes:
    """Bytes of a v7 datagram: a header of 24 bytes and 52 bytes for each flow."""
    records = (_fixed_record(flow) + ipv4(flow.router) for flow in datagram.flows)
    return _fixed_header(7, datagram) + bytes(4) + b"".join(records)


def _fixed_header(version: int, datagram: V5Datagram) -> bytes:
    return pack(
        ">HHIIII",
        version,
        len(datagram.flows) if datagram.count is None else datagram.count,
        datagram.uptime,
        datagram.export_seconds,
        datagram.export_nanoseconds,
        datagram.sequence,
    )


def _fixed_record(flow: V5Flow) -> bytes:
    return pack(
        ">4s4s4sHHIIIIHHxBBBHHBBxx",
        ipv4(flow.source),
        ipv4(flow.destination),
        ipv4(flow.next_hop),
        flow.input_interface,
        flow.output_interface,
        flow.packets,
        flow.octets,
        flow.first,
        flow.last,
        flow.source_port,
        flow.destination_port,
        flow.tcp_flags,
        flow.protocol,
        flow.tos,
        flow.source_as,
        flow.destination_as,
        flow.source_mask,
        flow.destination_mask,
    )


def encode(message: Message) -> bytes:
    """Bytes of a v9 or IPFIX datagram with its sets in the given order, one set for each item."""
    body = b"".join(_encode_set(message.version, item) for item in message.sets)
    if message.version == NETFLOW_IPFIX:
        return pack(">HHIII", 10, 16 + len(body), message.export_seconds, message.sequence, message.domain) + body
    count = message.count
    if count is None:
        count = sum(len(item.records) if isinstance(item, DataSet) else 1 for item in message.sets)
    head = pack(">HHIIII", NETFLOW_V9, count, message.uptime, message.export_seconds, message.sequence, message.domain)
    return head + body


def template_record(version: int, template: Template) -> bytes:
    """Bytes of a template record, from its id on (RFC 3954 sections 5.2 and 6.1, RFC 7011 section 3.4)."""
    scopes, fields = template.scopes, template.fields
    specs = b"".join(_encode_field(version, spec) for spec in (*scopes, *fields))
    if not (template.is_options or scopes):
        return pack(">HH", template.template_id, len(fields)) + specs
    if version == NETFLOW_IPFIX:
        return pack(">HHH", template.template_id, len(scopes) + len(fields), len(scopes)) + specs
    return pack(">HHH", template.template_id, 4 * len(scopes), 4 * len(fields)) + specs


def _encode_field(version: int, spec: FieldSpec) -> bytes:
    if version == NETFLOW_IPFIX and spec.enterprise:
        return pack(">HHI", spec.element_id | 0x8000, spec.length, spec.enterprise)
    return pack(">HH", spec.element_id, spec.length)


def _encode_set(version: int, item: Template | Withdrawal | DataSet) -> bytes:
    ipfix = version == NETFLOW_IPFIX
    padding = b""
    if isinstance(item, DataSet):
        set_id = item.template.template_id
        specs = (*item.template.scopes, *item.template.fields)
        body = b"".join(_encode_record(specs, record) for record in item.records)
        padding = bytes(-len(body) % 4) if item.padded else b""
    elif isinstance(item, Withdrawal):
        set_id = 3 if item.is_options else 2
        body = pack(">HH", item.template_id, 0)
    else:
        options = item.is_options or bool(item.scopes)
        set_id = (3 if options else 2) if ipfix else int(options)
        body = template_record(version, item)
        padding = bytes(-len(body) % 4)
    body += padding
    return pack(">HH", set_id, 4 + len(body)) + body


def _encode_record(specs: Iterable[FieldSpec], record: Iterable[Value]) -> bytes:
    return b"".join(_encode_value(spec.length, value) for spec, value in zip(specs, record, strict=True))


def _encode_value(length: int, value: Value) -> bytes:
    if length == VARIABLE:
        raw = value if isinstance(value, bytes) else value.to_bytes(max(1, (value.bit_length() + 7) // 8), "big")
        prefix = bytes([len(raw)]) if len(raw) < 255 else b"\xff" + len(raw).to_bytes(2, "big")
        return prefix + raw
    return value.to_bytes(length, "big") if isinstance(value, int) else value.ljust(length, b"\0")[:length]
