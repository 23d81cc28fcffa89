"""Community ID 1.0: one text for both directions of a flow, the same in every program that knows it.

By the specification "Community ID Flow Hashing" of Corelight, version 1: SHA-1 over seed, addresses, protocol and ports, the
smaller endpoint first, in base64 behind "1:". ICMP has no ports: its type stands for the source's and, where the type has an
answer, the answer's type for the destination's, so that question and answer have one ID; a message without an answer keeps its
direction.
"""

from __future__ import annotations

import struct
from binascii import b2a_base64
from hashlib import sha1
from socket import AF_INET, AF_INET6, inet_pton
from typing import Any, Final

from weir.enrich.services import transport_numbers

__all__ = ["CommunityIds", "community_id"]

Record = dict[str, Any]
_Key = tuple[str, str, int, int | None, int | None]

_ICMP: Final = 1
_ICMP6: Final = 58
_WITH_PORTS: Final = frozenset({6, 17, 132})
_PAIRS: Final = ((0, 8), (9, 10), (13, 14), (15, 16), (17, 18))
_PAIRS6: Final = ((128, 129), (130, 131), (133, 134), (135, 136), (139, 140), (144, 145))
# Type of the answer to a type, and of the question to an answer.
_ANSWERS: Final[dict[int, dict[int | None, int]]] = {
    protocol: {a: b for pair in pairs for a, b in (pair, pair[::-1])} for protocol, pairs in ((_ICMP, _PAIRS), (_ICMP6, _PAIRS6))
}
# Seed, addresses, protocol, padding, ports, by the length of an address.
_HASHED: Final = {length: struct.Struct(f"!2s{length}s{length}sBxHH").pack for length in (4, 16)}
_SEED: Final = struct.Struct("!H").pack
_MAX_ADDRESSES: Final = 1 << 16
_LONGEST: Final = 64
_MAX_NUMBER: Final = 255
_MAX_PORT: Final = 65535


class _Packed(dict[str, bytes | None]):
    """Addresses by their text; None for what is no address. Begins anew when it is full."""

    __slots__ = ()

    def __missing__(self, address: str) -> bytes | None:
        if len(self) >= _MAX_ADDRESSES:
            self.clear()
        try:
            found = inet_pton(AF_INET6 if ":" in address else AF_INET, address)
        except (OSError, ValueError):
            found = None
        if len(address) <= _LONGEST:
            self[address] = found
        return found


_packed: Final = _Packed()


def community_id(
    source: str, destination: str, protocol: int, source_port: int | None = None, destination_port: int | None = None, seed: int = 0
) -> str | None:
    """The ID of a flow.

    Args:
        source, destination: addresses as text, of one family.
        protocol: IANA number.
        source_port, destination_port: of TCP, UDP and SCTP; of ICMP and ICMPv6 type and code. Other protocols have none,
            and what is given for them is left out.
        seed: 0 … 65535, the same everywhere where IDs are to be the same.

    Returns:
        None where there is none: no address, two families, a protocol with ports without them, a number out of range.
    """
    return _identify(_SEED(seed), source, destination, protocol, source_port, destination_port)


def _identify(
    seed: bytes, source: str, destination: str, protocol: int, source_port: int | None, destination_port: int | None
) -> str | None:
    ours, theirs = _packed[source], _packed[destination]
    if ours is None or theirs is None or len(ours) != len(theirs):
        return None
    if protocol not in _WITH_PORTS:
        if protocol not in _ANSWERS:
            if not 0 <= protocol <= _MAX_NUMBER:
                return None
            first, last = (ours, theirs) if ours <= theirs else (theirs, ours)
            return _text(seed + first + last + bytes((protocol, 0)))
        answer = _ANSWERS[protocol].get(source_port)
        if answer is None:
            if source_port is None or destination_port is None:
                return None
            if not (0 <= source_port <= _MAX_PORT and 0 <= destination_port <= _MAX_PORT):
                return None
            return _text(_HASHED[len(ours)](seed, ours, theirs, protocol, source_port, destination_port))
        destination_port = answer
    if source_port is None or destination_port is None:
        return None
    if not (0 <= source_port <= _MAX_PORT and 0 <= destination_port <= _MAX_PORT):
        return None
    if ours < theirs or (ours == theirs and source_port <= destination_port):
        return _text(_HASHED[len(ours)](seed, ours, theirs, protocol, source_port, destination_port))
    return _text(_HASHED[len(ours)](seed, theirs, ours, protocol, destination_port, source_port))


def _text(hashed: bytes) -> str:
    return "1:" + b2a_base64(sha1(hashed, usedforsecurity=False).digest(), newline=False).decode("ascii")


class CommunityIds:
    """The step that fills in network_community_id where it is absent; each flow of a batch is worked out once.

    Args:
        seed: 0 … 65535.
    """

    def __init__(self, seed: int = 0) -> None:
        self._seed = _SEED(seed)

    def __call__(self, records: list[Record]) -> None:
        """Fill in the ID of each record."""
        numbers = transport_numbers()
        known: dict[_Key, str | None] = {}
        for record in records:
            if record.get("network_community_id") is not None:
                continue
            source, destination = record.get("source_ip"), record.get("destination_ip")
            if source is None or destination is None:
                continue
            protocol = record.get("network_iana_number")
            if protocol is None:
                protocol = numbers.get(record.get("network_transport") or "")
                if protocol is None:
                    continue
            if protocol in _ANSWERS:
                # What devices write as ports of ICMP is a type, an identifier, or 0: only the fields of its own are trusted.
                first, second = record.get("flow_icmp_type"), record.get("flow_icmp_code") or 0
            else:
                first, second = record.get("source_port"), record.get("destination_port")
            key = (source, destination, protocol, first, second)
            found = known.get(key)
            if found is None:
                found = known[key] = _identify(self._seed, *key)
            if found is not None:
                record["network_community_id"] = found
