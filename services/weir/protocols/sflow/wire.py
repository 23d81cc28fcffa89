"""The wire format of sFlow version 5: the datagram's header, data formats, and reading XDR (RFC 4506) within bounds.

Source: "sFlow Version 5" (sflow.org, July 2004). Everything is a multiple of four bytes, most significant byte first.
"""

from __future__ import annotations

from socket import inet_ntoa
from struct import Struct
from typing import NamedTuple

from weir.protocols.packet import ipv6_text, mac_text

__all__ = [
    "ADDRESS_IPV4",
    "ADDRESS_IPV6",
    "VERSION",
    "Header",
    "Reader",
    "SflowError",
    "enterprise_format",
    "is_sflow",
    "read_header",
]

VERSION = 5
ADDRESS_IPV4 = 1
ADDRESS_IPV6 = 2

_LENGTHS = {0: 0, ADDRESS_IPV4: 4, ADDRESS_IPV6: 16}
_FOUR = Struct(">IIII")


class SflowError(ValueError):
    """What is wrong with a datagram, and where: the reason names the offset and what was expected there."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Header(NamedTuple):
    """A datagram's header. `uptime` is the agent's in milliseconds; `samples` are announced; `start` is the first one's offset.

    `sequence` counts the datagrams of one sub-agent; a smaller uptime tells that it began anew.
    """

    agent: str | None
    sub_agent: int
    sequence: int
    uptime: int
    samples: int
    start: int


def is_sflow(datagram: bytes) -> bool:
    """Whether a datagram is of some version of sFlow, as opposed to NetFlow and IPFIX, whose version has 16 bits, not 32."""
    return datagram[:3] == b"\0\0\0"


def read_header(datagram: bytes) -> Header:
    """Header of a datagram.

    Raises SflowError for another version, an unknown type of address, or a header that is cut.
    """
    size = len(datagram)
    if size < 8:
        raise SflowError(f"{size} bytes are too few for the header of an sFlow datagram")
    version = int.from_bytes(datagram[:4], "big")
    if version != VERSION:
        raise SflowError(f"sFlow version {version} at offset 0 is not supported; set the agent to version {VERSION}")
    kind = int.from_bytes(datagram[4:8], "big")
    length = _LENGTHS.get(kind)
    if length is None:
        raise SflowError(f"agent address of unknown type {kind} at offset 4")
    start = 8 + length + _FOUR.size
    if size < start:
        raise SflowError(f"datagram of {size} bytes ends within its header of {start}")
    raw = datagram[8 : 8 + length]
    agent = None if not raw else inet_ntoa(raw) if length == 4 else ipv6_text(raw)
    sub_agent, sequence, uptime, samples = _FOUR.unpack_from(datagram, 8 + length)
    return Header(agent, sub_agent, sequence, uptime, samples, start)


def enterprise_format(tag: int) -> str:
    """A data format as text, `enterprise.format`: its upper 20 and lower 12 bits."""
    return f"{tag >> 12}.{tag & 0xFFF}"


class Reader:
    """Reads XDR between two offsets. Every method raises SflowError where the bytes end before what it reads."""

    __slots__ = ("at", "data", "end")

    def __init__(self, data: bytes, at: int, end: int) -> None:
        self.data, self.at, self.end = data, at, end

    def take(self, length: int) -> bytes:
        """So many bytes as they are, without padding."""
        start = self.at
        if length > self.end - start:
            raise SflowError(f"{length} bytes at offset {start} reach beyond the end of their record at {self.end}")
        self.at = start + length
        return self.data[start : self.at]

    def unpack(self, layout: Struct) -> tuple[int | float, ...]:
        """Numbers of a fixed layout."""
        return layout.unpack(self.take(layout.size))

    def u32(self) -> int:
        """An unsigned integer of 32 bits."""
        return int.from_bytes(self.take(4), "big")

    def u64(self) -> int:
        """An unsigned integer of 64 bits."""
        return int.from_bytes(self.take(8), "big")

    def opaque(self) -> bytes:
        """Bytes with their length before them, padded to a multiple of four; the padding may lack at the end of a record."""
        raw = self.take(self.u32())
        self.at = min(self.at + (-len(raw) & 3), self.end)
        return raw

    def address(self) -> str | None:
        """An address with its type before it; None for the unknown type."""
        kind = self.u32()
        length = _LENGTHS.get(kind)
        if length is None:
            raise SflowError(f"address of unknown type {kind} at offset {self.at - 4}")
        return None if not length else inet_ntoa(self.take(4)) if length == 4 else ipv6_text(self.take(16))

    def mac(self) -> str:
        """A MAC address, padded to eight bytes."""
        return mac_text(self.take(8)[:6])

    def numbers(self) -> list[int]:
        """Unsigned integers of 32 bits with their count before them."""
        raw = self.take(self.u32() << 2)
        return list(Struct(f">{len(raw) >> 2}I").unpack(raw))
