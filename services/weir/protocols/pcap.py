"""Capture files: the packets of a pcap or pcapng file, whole or in pieces.

Sources: the classic format as draft-ietf-opsawg-pcap describes it (magic numbers of microseconds and nanoseconds, both byte
orders), and pcapng as draft-ietf-opsawg-pcapng does (section header, interface description with its options for the time's
resolution and offset, enhanced, simple and the obsolete packet block). Blocks of other kinds are passed over.
"""

from __future__ import annotations

from struct import Struct
from typing import Final, NamedTuple

__all__ = ["MAX_BLOCK_BYTES", "MAX_INTERFACES", "CapturedPacket", "PcapError", "PcapParser", "is_capture"]

MAX_BLOCK_BYTES: Final = 16 * 1024 * 1024
"""Bytes of one packet record or block; libpcap's own limit of a packet is 262,144."""

MAX_INTERFACES: Final = 4_096
"""Interfaces of one section; a packet of a later one counts as of link type None."""

_NANOSECONDS: Final = 1_000_000_000
_CLASSIC: Final = {
    b"\xd4\xc3\xb2\xa1": ("<", 1_000_000),
    b"\xa1\xb2\xc3\xd4": (">", 1_000_000),
    b"\x4d\x3c\xb2\xa1": ("<", _NANOSECONDS),
    b"\xa1\xb2\x3c\x4d": (">", _NANOSECONDS),
}
_SECTION: Final = b"\x0a\x0d\x0d\x0a"
_ORDERS: Final = {b"\x4d\x3c\x2b\x1a": "<", b"\x1a\x2b\x3c\x4d": ">"}
_SECTION_BLOCK, _INTERFACE_BLOCK, _PACKET_BLOCK, _SIMPLE_BLOCK, _ENHANCED_BLOCK = 0x0A0D0D0A, 1, 2, 3, 6
_OPTION_RESOLUTION, _OPTION_OFFSET = 9, 14
_CLASSIC_HEADER: Final = 24
# The upper bits of a classic file's link type say how long the frame check sequence is.
_LINK_TYPE_MASK: Final = 0x03FF_FFFF
_US: Final = 1_000_000


class PcapError(ValueError):
    """The bytes are no capture file, or no longer one from here on; what came before it stands."""


class CapturedPacket(NamedTuple):
    """One packet: its number in the file from 1, microseconds UTC (None where the block has none), link type, bytes as captured,
    and its length on the wire. `link_type` is None where the file does not describe the packet's interface."""

    number: int
    time_us: int | None
    link_type: int | None
    data: bytes
    original_length: int


class _Interface(NamedTuple):
    link_type: int
    snap_length: int
    units_per_second: int
    offset_seconds: int


def is_capture(start: bytes) -> bool:
    """Whether a file that begins with these bytes (4 are enough) is a pcap or pcapng file."""
    return start[:4] in _CLASSIC or start[:4] == _SECTION


class PcapParser:
    """Packets out of a capture file in pieces of any size. Holds at most one record or block, of at most MAX_BLOCK_BYTES."""

    __slots__ = ("_classic", "_held", "_interfaces", "_number", "_order", "_started")

    def __init__(self) -> None:
        self._held = bytearray()
        self._started = False
        self._order = "<"
        self._classic: _Interface | None = None
        self._interfaces: list[_Interface] = []
        self._number = 0

    def feed(self, data: bytes) -> list[CapturedPacket]:
        """The packets that these bytes complete, in order.

        Raises PcapError where the bytes are not of a capture file; packets before that place in the same piece are lost, so feed
        pieces of some kilobytes.
        """
        held = self._held
        held += data
        packets: list[CapturedPacket] = []
        at = 0
        if not self._started:
            if len(held) < 4:
                return packets
            if (kind := _CLASSIC.get(bytes(held[:4]))) is not None:
                if len(held) < _CLASSIC_HEADER:
                    return packets
                self._order, units = kind
                snap, link = Struct(self._order + "II").unpack_from(held, 16)
                self._classic = _Interface(link & _LINK_TYPE_MASK, snap, units, 0)
                at = _CLASSIC_HEADER
            elif held[:4] != _SECTION:
                raise PcapError(f"no capture file: it begins with {bytes(held[:4])!r}")
            self._started = True
        at = self._records(held, at, packets) if self._classic is not None else self._blocks(held, at, packets)
        del held[:at]
        return packets

    def finish(self) -> None:
        """Nothing more comes. Raises PcapError where the file ends within a packet."""
        if self._held or not self._started:
            raise PcapError(f"the file ends within packet {self._number + 1}" if self._started else "no capture file: too short")

    def _records(self, held: bytearray, at: int, packets: list[CapturedPacket]) -> int:
        interface, header = self._classic, Struct(self._order + "IIII")
        if interface is None:  # pragma: no cover - asked for classic files only
            return at
        while len(held) - at >= 16:
            seconds, fraction, captured, original = header.unpack_from(held, at)
            if captured > MAX_BLOCK_BYTES:
                raise PcapError(f"packet {self._number + 1} claims {captured:,} bytes")
            end = at + 16 + captured
            if end > len(held):
                break
            self._number += 1
            time_us = seconds * _US + fraction * _US // interface.units_per_second
            packets.append(CapturedPacket(self._number, time_us, interface.link_type, bytes(held[at + 16 : end]), original))
            at = end
        return at

    def _blocks(self, held: bytearray, at: int, packets: list[CapturedPacket]) -> int:
        while len(held) - at >= 12:
            if held[at : at + 4] == _SECTION:
                order = _ORDERS.get(bytes(held[at + 8 : at + 12]))
                if order is None:
                    raise PcapError("a section header without its byte order mark")
                self._order = order
            kind, length = Struct(self._order + "II").unpack_from(held, at)
            if length < 12 or length % 4 or length > MAX_BLOCK_BYTES:
                raise PcapError(f"a block after packet {self._number} claims {length:,} bytes")
            if len(held) - at < length:
                break
            self._block(kind, bytes(held[at + 8 : at + length - 4]), packets)
            at += length
        return at

    def _block(self, kind: int, body: bytes, packets: list[CapturedPacket]) -> None:
        if kind == _SECTION_BLOCK:
            self._interfaces = []
        elif kind == _INTERFACE_BLOCK:
            if len(body) >= 8 and len(self._interfaces) < MAX_INTERFACES:
                self._interfaces.append(_interface(body, self._order))
        elif kind == _ENHANCED_BLOCK and len(body) >= 20:
            number, high, low, captured, original = Struct(self._order + "IIIII").unpack_from(body)
            self._add(packets, number, high << 32 | low, body[20 : 20 + captured], original)
        elif kind == _PACKET_BLOCK and len(body) >= 20:
            number, _, high, low, captured, original = Struct(self._order + "HHIIII").unpack_from(body)
            self._add(packets, number, high << 32 | low, body[20 : 20 + captured], original)
        elif kind == _SIMPLE_BLOCK and len(body) >= 4:
            (original,) = Struct(self._order + "I").unpack_from(body)
            snap = self._interfaces[0].snap_length if self._interfaces else 0
            self._add(packets, 0, None, body[4 : 4 + min(original, snap or original)], original)

    def _add(self, packets: list[CapturedPacket], number: int, ticks: int | None, data: bytes, original: int) -> None:
        self._number += 1
        interface = self._interfaces[number] if number < len(self._interfaces) else None
        time_us = None
        if interface is not None and ticks is not None:
            time_us = interface.offset_seconds * _US + ticks * _US // interface.units_per_second
        packets.append(CapturedPacket(self._number, time_us, None if interface is None else interface.link_type, data, original))


def _interface(body: bytes, order: str) -> _Interface:
    link_type, _, snap_length = Struct(order + "HHI").unpack_from(body)
    units, offset, at = _US, 0, 8
    option = Struct(order + "HH")
    while len(body) - at >= 4:
        code, length = option.unpack_from(body, at)
        value = body[at + 4 : at + 4 + length]
        if code == 0 or len(value) < length:
            break
        if code == _OPTION_RESOLUTION and value:
            # The upper bit chooses between powers of 2 and of 10.
            units = 1 << (value[0] & 0x7F) if value[0] & 0x80 else 10 ** (value[0] & 0x7F)
        elif code == _OPTION_OFFSET and length == 8:
            (offset,) = Struct(order + "q").unpack(value)
        at += 4 + (length + 3 & ~3)
    return _Interface(link_type, snap_length, units, offset)
