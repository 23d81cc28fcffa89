"""Encoder of sFlow version 5 datagrams, for generators and tests; the same input gives the same bytes.

Structures are given as `read_structure` returns them. Nothing is checked beyond what `struct` checks, and counts and lengths can be
set to lies, so that damaged datagrams can be made too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from ipaddress import ip_address
from struct import pack
from typing import Any, Final

from weir.protocols.sflow.decode import DISCARDED, INTERNAL, MULTIPLE, SINGLE, Interface
from weir.protocols.sflow.structures import COUNTER_RECORDS, FLOW_RECORDS, LANE_FIELDS, Structure

__all__ = [
    "INTERNAL_INTERFACE",
    "UNKNOWN_INTERFACE",
    "address",
    "counter_record",
    "counter_sample",
    "datagram",
    "discarded_interface",
    "discarded_packet",
    "flow_record",
    "flow_sample",
    "multiple_interfaces",
    "opaque",
    "sampled_header",
    "structure",
]

UNKNOWN_INTERFACE: Final = Interface(SINGLE, 0)
INTERNAL_INTERFACE: Final = Interface(SINGLE, INTERNAL)


def discarded_interface(reason: int) -> Interface:
    """An output interface that says why the packet was discarded instead."""
    return Interface(DISCARDED, reason)


def multiple_interfaces(count: int) -> Interface:
    """Output interfaces, so many of them; 0 says that their number is not known."""
    return Interface(MULTIPLE, count)


def opaque(data: bytes) -> bytes:
    """Bytes with their length, padded to a multiple of four (RFC 4506 section 4.10)."""
    return pack(">I", len(data)) + data + bytes(-len(data) & 3)


def address(text: str | None) -> bytes:
    """An address with its type; None is the unknown one."""
    if text is None:
        return bytes(4)
    packed = ip_address(text).packed
    return pack(">I", 1 if len(packed) == 4 else 2) + packed


def _numbers(values: Iterable[int]) -> bytes:
    values = list(values)
    return pack(f">{len(values) + 1}I", len(values), *values)


def _path(segments: Iterable[Any]) -> bytes:
    made = [
        pack(">I", 1) + _numbers(segment["set"]) if isinstance(segment, dict) else pack(">I", 2) + _numbers(segment)
        for segment in segments
    ]
    return pack(">I", len(made)) + b"".join(made)


def _mac(text: str) -> bytes:
    return bytes.fromhex(text.replace("-", "")) + bytes(2)


def _lanes(lanes: Iterable[Mapping[str, int]]) -> bytes:
    made = [pack(">10I", *(lane[name] for name in LANE_FIELDS)) for lane in lanes]
    return pack(">I", len(made)) + b"".join(made)


def _adapters(adapters: Iterable[Mapping[str, Any]]) -> bytes:
    made = [
        pack(">2I", one["ifIndex"], len(one["mac_address"])) + b"".join(_mac(text) for text in one["mac_address"])
        for one in adapters
    ]
    return pack(">I", len(made)) + b"".join(made)


_WRITERS: Final[dict[str, Callable[[Any], bytes]]] = {
    "u32": lambda value: pack(">I", 0xFFFF_FFFF if value is None else value),
    "u64": lambda value: pack(">Q", 0xFFFF_FFFF_FFFF_FFFF if value is None else value),
    "i32": lambda value: pack(">i", value),
    "f": lambda value: pack(">f", float("nan") if value is None else value),
    "s": lambda value: opaque(value.encode()),
    "a": address,
    "4": lambda value: ip_address(value).packed,
    "6": lambda value: ip_address(value).packed,
    "m": _mac,
    "hex": lambda value: opaque(bytes.fromhex(value)),
    "uuid": bytes.fromhex,
    "list": _numbers,
    "path": _path,
    "lanes": _lanes,
    "adapters": _adapters,
}


def structure(tag: int, body: bytes, *, length: int | None = None) -> bytes:
    """A structure (record or sample) with its data format and length; XDR pads a body of any other length to a multiple of four."""
    return pack(">2I", tag, len(body) if length is None else length) + body + bytes(-len(body) & 3)


def _record(table: Mapping[int, Structure], name: str, values: Mapping[str, Any]) -> bytes:
    tag, found = next((tag, one) for tag, one in table.items() if one.name == name)
    body = b"".join(_WRITERS[kind](values.get(field)) for field, kind in zip(found.fields, found.kinds, strict=True))
    return structure(tag, body)


def flow_record(name: str, /, **values: Any) -> bytes:
    """A structure of a flow sample, by its name. Raises StopIteration for an unknown one."""
    return _record(FLOW_RECORDS, name, values)


def counter_record(name: str, /, **values: Any) -> bytes:
    """A structure of a counter sample, by its name; a counter that is left out is told as not maintained."""
    return _record(COUNTER_RECORDS, name, values)


def sampled_header(header: bytes, frame_length: int | None = None, *, stripped: int = 4, protocol: int = 1) -> bytes:
    """The record of a packet's first bytes; `frame_length` is the packet's on the wire, by default that of both."""
    length = len(header) + stripped if frame_length is None else frame_length
    return structure(1, pack(">3I", protocol, length, stripped) + opaque(header))


def flow_sample(
    records: Iterable[bytes],
    *,
    sequence: int = 0,
    source: tuple[int, int] = (0, 1),
    rate: int = 1,
    pool: int = 0,
    drops: int = 0,
    input: Interface = UNKNOWN_INTERFACE,
    output: Interface = UNKNOWN_INTERFACE,
    expanded: bool = False,
    count: int | None = None,
) -> bytes:
    """A sampled packet; `expanded` (format 3) has room for an ifIndex of 32 bits, otherwise it has 24 in the source and 30 else."""
    made = list(records)
    number = len(made) if count is None else count
    if expanded:
        fixed = pack(">11I", sequence, *source, rate, pool, drops, *input, *output, number)
    else:
        ways = [way.kind << 30 | way.value for way in (input, output)]
        fixed = pack(">8I", sequence, source[0] << 24 | source[1], rate, pool, drops, *ways, number)
    return structure(3 if expanded else 1, fixed + b"".join(made))


def discarded_packet(
    records: Iterable[bytes],
    *,
    reason: int,
    sequence: int = 0,
    source: tuple[int, int] = (0, 1),
    drops: int = 0,
    input: int = 0,
    output: int = 0,
) -> bytes:
    """A discarded packet (format 5); interfaces are ifIndexes, 0 for unknown."""
    made = list(records)
    fixed = pack(">8I", sequence, *source, drops, input, output, reason, len(made))
    return structure(5, fixed + b"".join(made))


def counter_sample(
    records: Iterable[bytes], *, sequence: int = 0, source: tuple[int, int] = (0, 1), expanded: bool = False
) -> bytes:
    """Counters of one data source."""
    made = list(records)
    if expanded:
        return structure(4, pack(">4I", sequence, *source, len(made)) + b"".join(made))
    return structure(2, pack(">3I", sequence, source[0] << 24 | source[1], len(made)) + b"".join(made))


def datagram(
    samples: Iterable[bytes],
    *,
    agent: str | None = "192.0.2.1",
    sub_agent: int = 0,
    sequence: int = 0,
    uptime: int = 0,
    count: int | None = None,
) -> bytes:
    """A datagram of these samples; `uptime` is the agent's in milliseconds."""
    made = list(samples)
    head = pack(">I", 5) + address(agent) + pack(">4I", sub_agent, sequence, uptime, len(made) if count is None else count)
    return head + b"".join(made)
