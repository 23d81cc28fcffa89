"""The stamp that every generated event carries: which run, which source, which number, and a checksum.

It exists in two forms of the same 80 bits. As text it stands in whatever free text, path or field a format offers, and is found
again in the raw bytes as in any field of the decoded event. As a flow it *is* the conversation: both addresses of 10.0.0.0/8 and
both ports, since those are what every flow format and every decoder keeps. The flow form is scrambled, so that consecutive flows
do not look alike.

Pure: the loss oracle (`weir.local.generate.verify`) and tests read with it what the generators wrote with it.
"""

from __future__ import annotations

import re
from binascii import crc_hqx
from collections.abc import Mapping
from ipaddress import AddressValueError, IPv4Address
from typing import Final, NamedTuple

__all__ = [
    "MAX_RUN",
    "MAX_SEQUENCE",
    "MAX_SOURCE",
    "TEXT_LENGTH",
    "Conversation",
    "Found",
    "Stamp",
    "as_conversation",
    "as_text",
    "from_conversation",
    "in_event",
    "in_flows",
    "in_text",
]

MAX_RUN: Final = 2**16 - 1
MAX_SOURCE: Final = 2**12 - 1
MAX_SEQUENCE: Final = 2**36 - 1

TEXT_LENGTH: Final = 30
"""Bytes of the text form, always."""

_TEXT: Final = re.compile(rb"\bwst-([0-9a-f]{4}-[0-9]{4}-[0-9]{11})-([0-9a-f]{4})\b")
_MASK: Final = 2**80 - 1
# Two odd factors and their inverses modulo 2^80: multiplying by one is undone by multiplying by the other.
_MIX: Final = 0x9E37_79B9_7F4A_7C15_F39D
_UNMIX: Final = pow(_MIX, -1, 2**80)
_TEN: Final = 10 << 24
# Two addresses of 10.0.0.0/8 side by side and two ports, wherever in a datagram. Looked for at every byte.
_FLOW: Final = re.compile(rb"(?=\x0a(...)\x0a(...)(..)(..))", re.DOTALL)
_FIXED_HEADER, _FIXED_RECORDS = 24, {5: 48, 7: 52}


class Stamp(NamedTuple):
    """Which event: the run that made it (0 to 65535), its source (0 to 4095), and its number there (0 to 2^36 - 1)."""

    run: int
    source: int
    sequence: int


class Conversation(NamedTuple):
    """The flow form; addresses as numbers."""

    source: int
    destination: int
    source_port: int
    destination_port: int


class Found(NamedTuple):
    """What a piece of data holds: stamps in order, and how many looked like one but fail their checksum."""

    stamps: list[Stamp]
    damaged: int


def _check(run: int, source: int, sequence: int) -> int:
    return crc_hqx(b"%04x-%04d-%011d" % (run, source, sequence), 0xFFFF)


def as_text(run: int, source: int, sequence: int) -> bytes:
    """`wst-<run, hex>-<source>-<sequence>-<CRC-16, hex>`: 30 ASCII characters that need quoting nowhere."""
    body = b"%04x-%04d-%011d" % (run, source, sequence)
    return b"wst-%b-%04x" % (body, crc_hqx(body, 0xFFFF))


def in_text(data: bytes) -> Found:
    """The stamps in text form anywhere in `data`."""
    stamps, damaged = [], 0
    for body, check in _TEXT.findall(data):
        if crc_hqx(body, 0xFFFF) == int(check, 16):
            run, source, sequence = body.split(b"-")
            stamps.append(Stamp(int(run, 16), int(source), int(sequence)))
        else:
            damaged += 1
    return Found(stamps, damaged)


def as_conversation(run: int, source: int, sequence: int) -> Conversation:
    """The flow form."""
    value = run << 64 | source << 52 | sequence << 16 | _check(run, source, sequence)
    value = value * _MIX & _MASK
    value ^= value >> 40
    value = value * _MIX & _MASK
    return Conversation(_TEN | value >> 56, _TEN | (value >> 32 & 0xFF_FFFF), value >> 16 & 0xFFFF, value & 0xFFFF)


def _unmixed(value: int) -> Stamp | None:
    value = value * _UNMIX & _MASK
    value ^= value >> 40
    value = value * _UNMIX & _MASK
    stamp = Stamp(value >> 64, value >> 52 & 0xFFF, value >> 16 & MAX_SEQUENCE)
    return stamp if value & 0xFFFF == _check(*stamp) else None


def from_conversation(source: int, destination: int, source_port: int, destination_port: int) -> Stamp | None:
    """The stamp of a conversation; None where it is none of ours (one in 65,536 strangers within 10.0.0.0/8 passes)."""
    if source >> 24 != 10 or destination >> 24 != 10:
        return None
    return _unmixed((source & 0xFF_FFFF) << 56 | (destination & 0xFF_FFFF) << 32 | source_port << 16 | destination_port)


def in_flows(datagram: bytes, run: int | None = None) -> list[Stamp]:
    """The stamps of a NetFlow, IPFIX or sFlow datagram, without its templates; with `run` only those of that run.

    Relies on how the generators lay a flow out: NetFlow v5 and v7 as they are defined; else source address, destination address,
    source port and destination port one behind the other, which a sampled packet header has by nature.
    """
    stamps = []
    length = _FIXED_RECORDS.get(int.from_bytes(datagram[:2], "big"))
    if length is not None and len(datagram) >= _FIXED_HEADER and (len(datagram) - _FIXED_HEADER) % length == 0:
        for start in range(_FIXED_HEADER, len(datagram), length):
            addresses, ports = datagram[start : start + 8], datagram[start + 32 : start + 36]
            if addresses[0] == addresses[4] == 10:
                stamp = _unmixed(int.from_bytes(addresses[1:4] + addresses[5:8] + ports, "big"))
                if stamp is not None and run in (None, stamp.run):
                    stamps.append(stamp)
        return stamps
    free = 0
    for found in _FLOW.finditer(datagram):
        if found.start() < free:
            continue
        stamp = _unmixed(int.from_bytes(b"".join(found.groups()), "big"))
        if stamp is not None and run in (None, stamp.run):
            stamps.append(stamp)
            free = found.start() + 12
    return stamps


def in_event(record: Mapping[str, object], run: int | None = None) -> Found:
    """The stamp of a decoded event: as text in any of its fields, else as the conversation it describes.

    At most one stamp is returned, that of `run` where it is given: an event may hold its unit twice (a document and its message).
    """
    damaged = 0
    for value in record.values():
        if isinstance(value, str) and "wst-" in value:
            found = in_text(value.encode())
            damaged += found.damaged
            for stamp in found.stamps:
                if run in (None, stamp.run):
                    return Found([stamp], 0)
    talk = _conversation_of(record)
    return Found([talk], 0) if talk is not None and run in (None, talk.run) else Found([], min(damaged, 1))


def _conversation_of(record: Mapping[str, object]) -> Stamp | None:
    source, destination = record.get("source_ip"), record.get("destination_ip")
    ports = record.get("source_port"), record.get("destination_port")
    if not (isinstance(source, str) and isinstance(destination, str) and isinstance(ports[0], int) and isinstance(ports[1], int)):
        return None
    try:
        return from_conversation(int(IPv4Address(source)), int(IPv4Address(destination)), ports[0], ports[1])
    except AddressValueError:
        return None
