"""UDP payloads of a packet capture (libpcap's format), for corpora that come as such."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from socket import AF_INET6, inet_ntoa, inet_ntop
from struct import unpack_from
from typing import Final, NamedTuple

__all__ = ["UdpPayload", "udp_payloads"]

_MAGIC: Final = {b"\xd4\xc3\xb2\xa1": "<", b"\x4d\x3c\xb2\xa1": "<", b"\xa1\xb2\xc3\xd4": ">", b"\xa1\xb2\x3c\x4d": ">"}
_LINK_HEADERS: Final = {0: 4, 1: 14, 12: 0, 101: 0, 113: 16, 276: 20}
"""Bytes before the IP header by link type: BSD loopback, Ethernet, raw IP (twice), Linux "any" in both versions."""


class UdpPayload(NamedTuple):
    """A datagram: where it came from, the port it went to, and what it holds."""

    source: str
    source_port: int
    port: int
    data: bytes


def udp_payloads(path: Path) -> Iterator[UdpPayload]:
    """The datagrams of a capture in order; what is no whole UDP datagram is passed over, fragments among it.

    Raises ValueError for a file that is no capture, or of a link type that is not read.
    """
    data = path.read_bytes()
    order = _MAGIC.get(data[:4])
    if order is None or len(data) < 24:
        raise ValueError(f"{path.name} is no capture in libpcap's format")
    (link,) = unpack_from(order + "I", data, 20)
    header = _LINK_HEADERS.get(link & 0xFFFF)
    if header is None:
        raise ValueError(f"{path.name}: link type {link} is not read")
    at = 24
    while at + 16 <= len(data):
        (length,) = unpack_from(order + "I", data, at + 8)
        frame = data[at + 16 : at + 16 + length]
        at += 16 + length
        start = header
        # VLAN tags of an Ethernet frame.
        while link == 1 and frame[start - 2 : start] in (b"\x81\x00", b"\x88\xa8"):
            start += 4
        found = _udp(frame[start:])
        if found is not None:
            yield found


def _udp(packet: bytes) -> UdpPayload | None:
    if len(packet) >= 28 and packet[0] >> 4 == 4 and packet[9] == 17 and not int.from_bytes(packet[6:8], "big") & 0x3FFF:
        source, at = inet_ntoa(packet[12:16]), (packet[0] & 15) * 4
    elif len(packet) >= 48 and packet[0] >> 4 == 6 and packet[6] == 17:
        source, at = inet_ntop(AF_INET6, packet[8:24]), 40
    else:
        return None
    if len(packet) < at + 8:
        return None
    source_port, port, length = unpack_from(">HHH", packet, at)
    return UdpPayload(source, source_port, port, packet[at + 8 : at + max(length, 8)])
