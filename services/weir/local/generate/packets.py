"""Bytes of packets, layer by layer, as they are on the wire: what a switch samples. Only what the generators and tests need."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address
from struct import pack, unpack

__all__ = ["IPV4", "IPV6", "ethernet", "gre", "icmp", "ipv4", "ipv6", "mpls", "tcp", "udp", "vlan", "vxlan"]

IPV4, IPV6 = 0x0800, 0x86DD
"""EtherTypes."""


def ethernet(source: int, destination: int, payload: bytes, ethertype: int = IPV4) -> bytes:
    """A frame without its check sequence; MAC addresses as numbers."""
    return destination.to_bytes(6, "big") + source.to_bytes(6, "big") + pack(">H", ethertype) + payload


def vlan(number: int, payload: bytes, ethertype: int = IPV4, *, priority: int = 0) -> bytes:
    """What follows an EtherType of 0x8100 or 0x88A8: the tag, and the EtherType of what it marks."""
    return pack(">HH", priority << 13 | number, ethertype) + payload


def mpls(labels: list[int], payload: bytes) -> bytes:
    """A label stack (RFC 3032), top first, and what it carries."""
    last = len(labels) - 1
    return b"".join(pack(">I", label << 12 | (i == last) << 8 | 64) for i, label in enumerate(labels)) + payload


def ipv4(
    source: int | str,
    destination: int | str,
    protocol: int,
    payload: bytes,
    *,
    tos: int = 0,
    ttl: int = 64,
    identification: int = 0,
    fragment: int = 0,
    options: bytes = b"",
    length: int | None = None,
) -> bytes:
    """A packet with its header checksum; `fragment` are flags and offset, `length` that of the whole where `payload` is cut."""
    size = 20 + len(options)
    total = size + len(payload) if length is None else length
    head = pack(
        ">BBHHHBBH4s4s", 0x40 | size >> 2, tos, total & 0xFFFF, identification, fragment, ttl, protocol, 0,
        IPv4Address(source).packed, IPv4Address(destination).packed,
    ) + options  # fmt: skip
    words = sum(unpack(f">{size >> 1}H", head))
    words = (words & 0xFFFF) + (words >> 16)
    words = (words & 0xFFFF) + (words >> 16)
    return head[:10] + pack(">H", ~words & 0xFFFF) + head[12:] + payload


def ipv6(
    source: str | int,
    destination: str | int,
    next_header: int,
    payload: bytes,
    *,
    traffic_class: int = 0,
    length: int | None = None,
) -> bytes:
    """A packet; `payload` begins with extension headers where there are any, `length` is the payload's where it is cut."""
    size = len(payload) if length is None else length
    addresses = IPv6Address(source).packed + IPv6Address(destination).packed
    return pack(">IHBB", 6 << 28 | traffic_class << 20, size & 0xFFFF, next_header, 64) + addresses + payload


def tcp(source_port: int, destination_port: int, flags: int, payload: bytes = b"", *, sequence: int = 0) -> bytes:
    """A segment; its checksum is left 0."""
    return pack(">HHIIBBHHH", source_port, destination_port, sequence, 0, 5 << 4, flags, 65535, 0, 0) + payload


def udp(source_port: int, destination_port: int, payload: bytes, *, length: int | None = None) -> bytes:
    """A datagram without a checksum."""
    return pack(">HHHH", source_port, destination_port, (8 + len(payload) if length is None else length) & 0xFFFF, 0) + payload


def icmp(kind: int, code: int, payload: bytes = b"") -> bytes:
    """A message; its checksum is left 0."""
    return pack(">BBHI", kind, code, 0, 0) + payload


def gre(payload: bytes, ethertype: int = IPV4, *, key: int | None = None) -> bytes:
    """A GRE header (RFC 2784, 2890) and what it carries."""
    flags = 0 if key is None else 0x2000
    return pack(">HH", flags, ethertype) + (b"" if key is None else pack(">I", key)) + payload


def vxlan(vni: int, frame: bytes) -> bytes:
    """A VXLAN header (RFC 7348) and the frame it carries; goes into UDP to port 4789."""
    return pack(">II", 0x0800_0000, vni << 8) + frame
