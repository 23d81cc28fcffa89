"""A writer of small MaxMind DB files, by the specification 2.0: what the tests look up is in no file of others."""

from __future__ import annotations

import ipaddress
import struct
from pathlib import Path
from typing import Any

__all__ = ["write_mmdb"]

UINT16, UINT64 = 5, 9
MARKER = b"\xab\xcd\xefMaxMind.com"


def _encode(value: Any) -> bytes:
    if isinstance(value, str):
        return _head(2, len(value.encode())) + value.encode()
    if isinstance(value, float):
        return _head(3, 8) + struct.pack(">d", value)
    if isinstance(value, bool):
        return _head(14, int(value))
    if isinstance(value, int):
        raw = value.to_bytes((value.bit_length() + 7) // 8, "big")
        return _head(6 if len(raw) <= 4 else 9, len(raw)) + raw
    if isinstance(value, dict):
        return _head(7, len(value)) + b"".join(_encode(k) + _encode(v) for k, v in value.items())
    if isinstance(value, list):
        return _head(11, len(value)) + b"".join(map(_encode, value))
    if isinstance(value, tuple):  # a number of a type that the specification asks for
        kind, number = value
        raw = number.to_bytes((number.bit_length() + 7) // 8, "big")
        return _head(kind, len(raw)) + raw
    raise TypeError(f"{type(value)} has no form in a MaxMind DB")


def _head(kind: int, size: int) -> bytes:
    first, more = (kind << 5, b"") if kind <= 7 else (0, bytes((kind - 7,)))
    if size < 29:
        return bytes((first | size,)) + more
    if size < 285:
        return bytes((first | 29,)) + more + bytes((size - 29,))
    return bytes((first | 30,)) + more + (size - 285).to_bytes(2, "big")


def write_mmdb(path: Path, records: dict[str, Any], kind: str = "Test-City", ip_version: int = 6) -> Path:
    """Write networks and their records; IPv4 networks lie in ::/96 where the file is one of IPv6."""
    nodes: list[list[Any]] = [[None, None]]
    for text, record in records.items():
        network = ipaddress.ip_network(text)
        bits, shift = network.prefixlen, network.max_prefixlen - network.prefixlen
        number = int(network.network_address) >> shift
        if network.version == 4 and ip_version == 6:
            bits += 96
        at = 0
        for place in range(bits - 1, 0, -1):
            bit = number >> place & 1
            if not isinstance(nodes[at][bit], int):
                nodes.append([nodes[at][bit]] * 2)  # what a wider network says goes down with it
                nodes[at][bit] = len(nodes) - 1
            at = nodes[at][bit]
        nodes[at][number & 1] = (record,)
    data, tree = b"", b""
    for node in nodes:
        for side in node:
            if isinstance(side, int):
                pointer = side
            elif side is None:
                pointer = len(nodes)
            else:
                pointer = len(nodes) + 16 + len(data)
                data += _encode(side[0])
            tree += pointer.to_bytes(3, "big")
    metadata = {
        "binary_format_major_version": (UINT16, 2),
        "binary_format_minor_version": (UINT16, 0),
        "build_epoch": (UINT64, 1_790_000_000),
        "database_type": kind,
        "description": {"en": "for tests"},
        "ip_version": (UINT16, ip_version),
        "languages": ["en"],
        "node_count": len(nodes),
        "record_size": (UINT16, 24),
    }
    path.write_bytes(tree + bytes(16) + data + MARKER + _encode(metadata))
    return path
