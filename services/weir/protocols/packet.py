"""The headers of one packet, from the bytes that a sampler cut from its beginning.

Reads Ethernet II and LLC/SNAP (IEEE 802.3), VLAN tags (802.1Q, 802.1ad and the older TPIDs), provider backbone (802.1ah), MPLS
(RFC 3032, pseudowires of RFC 4385), PPPoE and PPP (RFC 2516, 1661), IPv4 with options (RFC 791), IPv6 with extension headers
(RFC 8200), TCP, UDP, ICMP and their like, and what tunnels carry: GRE (RFC 2784, 2890), ERSPAN, IP in IP (RFC 2003,
4213), VXLAN (RFC 7348) and Geneve (RFC 8926).

A packet that ends early gives what it has. Nothing raises: the bytes come from strangers. Time is linear in the length: every step
goes forward, and tags, labels, extension headers and layers are limited in number.
"""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import IPv6Address
from socket import AF_INET6, inet_ntoa, inet_ntop
from struct import Struct
from typing import Any, Final

__all__ = ["MAX_LAYERS", "Packet", "ethernet", "ip", "ipv6_text", "mac_text", "mpls", "ppp", "tunnelled"]

MAX_LAYERS: Final = 5
"""Packets within packets that are read at most."""

MAX_TAGS: Final = 8
MAX_LABELS: Final = 16
MAX_EXTENSIONS: Final = 16

_IPV4: Final = Struct(">BBHHHBB2x4s4s")
_IPV6: Final = Struct(">IHBB16s16s")
_PORTS: Final = Struct(">HH")
_UDP: Final = Struct(">HHHH")
_TCP: Final = Struct(">HH8xBB")

# EtherTypes (IANA, "IEEE 802 Numbers").
_VLANS: Final = frozenset({0x8100, 0x88A8, 0x9100, 0x9200, 0x9300})
_ETHERTYPE_IPV4: Final = 0x0800
_ETHERTYPE_IPV6: Final = 0x86DD
_TRANSPARENT_ETHERNET: Final = 0x6558

_FRAGMENT: Final = 44
_AUTHENTICATION: Final = 51
_EXTENSIONS: Final = frozenset({0, 43, _FRAGMENT, _AUTHENTICATION, 60, 135, 139, 140})
"""IPv6 extension headers whose length can be read (IANA, "IPv6 Extension Header Types"); ESP hides what follows it."""

_WITH_PORTS: Final = frozenset({6, 17, 33, 132, 136})
_VXLAN_PORTS: Final = frozenset({4789, 8472})
"""IANA's, and the one Linux used before there was one."""

_GENEVE_PORT: Final = 6081


class Packet:
    """What the headers of one packet say; None and empty where they do not.

    Addresses are text, MAC addresses upper case with hyphens; `vlans` and `labels` are ids from the outside inwards; `length` is
    that of the whole IP packet by its header, in bytes; `fragment_offset` in bytes is above 0 for fragments that have no ports;
    `tos` the class of service byte; `tunnel` names what carries `inner`, and `tunnel_id` is its VNI, session or key. `cut` says
    that the bytes ended within a header.

    Defaults live in the class, so that making a packet costs a tenth of what twenty assignments would.
    """

    source_mac: str | None = None
    destination_mac: str | None = None
    ethertype: int | None = None
    vlans: tuple[int, ...] = ()
    labels: tuple[int, ...] = ()
    version: int | None = None
    source_ip: str | None = None
    destination_ip: str | None = None
    protocol: int | None = None
    tos: int | None = None
    ttl: int | None = None
    length: int | None = None
    fragment_offset: int = 0
    source_port: int | None = None
    destination_port: int | None = None
    tcp_flags: int | None = None
    icmp_type: int | None = None
    icmp_code: int | None = None
    tunnel: str | None = None
    tunnel_id: int | None = None
    inner: Packet | None = None
    cut: bool = False

    def outermost_ip(self) -> Packet | None:
        """The outermost packet with an IP header: itself, or what a layer 2 tunnel without one carries."""
        packet: Packet | None = self
        while packet is not None and packet.version is None:
            packet = packet.inner
        return packet


def tunnelled(packet: Packet) -> dict[str, Any]:
    """The tunnel that a packet is, and the packet in it, layer by layer: nothing where it is none."""
    if packet.tunnel is None:
        return {}
    found: dict[str, Any] = {"tunnel": packet.tunnel}
    if packet.tunnel_id is not None:
        found["tunnel_id"] = packet.tunnel_id
    inner = packet.inner
    if inner is None:
        return found
    values: dict[str, Any] = {
        name: value
        for name, value in (
            ("source_mac", inner.source_mac),
            ("destination_mac", inner.destination_mac),
            ("vlan_tags", list(inner.vlans) or None),
            ("mpls_labels", list(inner.labels) or None),
            ("ethertype", inner.ethertype if inner.version is None else None),
            ("source_ip", inner.source_ip),
            ("destination_ip", inner.destination_ip),
            ("iana_number", inner.protocol),
            ("source_port", inner.source_port),
            ("destination_port", inner.destination_port),
            ("tcp_flags", inner.tcp_flags),
            ("icmp_type", inner.icmp_type),
            ("icmp_code", inner.icmp_code),
            ("tos", inner.tos),
            ("ip_length", inner.length),
        )
        if value is not None
    }
    values.update(tunnelled(inner))
    found["inner"] = values
    return found


def ipv6_text(raw: bytes) -> str:
    """Text of a 16-byte address without dotted quads, the same on every system."""
    text = inet_ntop(AF_INET6, raw)
    if "." not in text:
        return text
    number = IPv6Address(raw)
    return f"::{'ffff:' if number.ipv4_mapped else ''}{int(number) >> 16 & 0xFFFF:x}:{int(number) & 0xFFFF:x}"


def mac_text(raw: bytes) -> str:
    """Text of a 6-byte address: upper case with hyphens."""
    return raw.hex("-").upper()


def ethernet(data: bytes, at: int = 0, depth: int = 1) -> Packet:
    """Packet that begins with an Ethernet header at offset `at`."""
    packet = Packet()
    if len(data) - at < 14:
        packet.cut = True
        return packet
    packet.destination_mac = data[at : at + 6].hex("-").upper()
    packet.source_mac = data[at + 6 : at + 12].hex("-").upper()
    _ethertype(packet, data, at + 14, data[at + 12] << 8 | data[at + 13], depth)
    return packet


def ip(data: bytes, at: int = 0, depth: int = 1) -> Packet:
    """Packet that begins with an IPv4 or IPv6 header at offset `at`."""
    packet = Packet()
    _ip(packet, data, at, depth)
    return packet


def mpls(data: bytes, at: int = 0, depth: int = 1) -> Packet:
    """Packet that begins with an MPLS label stack at offset `at`."""
    packet = Packet()
    _mpls(packet, data, at, depth)
    return packet


def ppp(data: bytes, at: int = 0, depth: int = 1) -> Packet:
    """Packet that begins with a PPP frame at offset `at`, with or without the address and control bytes of RFC 1662."""
    packet = Packet()
    _ppp(packet, data, at + 2 if data[at : at + 2] == b"\xff\x03" else at, depth)
    return packet


def _ethertype(packet: Packet, data: bytes, at: int, ethertype: int, depth: int) -> None:
    while ethertype in _VLANS:
        if len(data) - at < 4 or len(packet.vlans) == MAX_TAGS:
            packet.ethertype, packet.cut = ethertype, True
            return
        # Id 0 marks a frame that has a priority and no VLAN (802.1Q).
        packet.vlans += ((data[at] << 8 | data[at + 1]) & 0xFFF,)
        ethertype = data[at + 2] << 8 | data[at + 3]
        at += 4
    if ethertype < 0x600:
        # A length (802.3): LLC, and with SNAP an EtherType behind it.
        if data[at : at + 6] != b"\xaa\xaa\x03\0\0\0" or len(data) - at < 8:
            return
        ethertype = data[at + 6] << 8 | data[at + 7]
        at += 8
    packet.ethertype = ethertype
    if (read := _NETWORK.get(ethertype)) is not None:
        read(packet, data, at, depth)


def _ip(packet: Packet, data: bytes, at: int, depth: int) -> None:
    version = data[at] >> 4 if len(data) > at else 0
    if version == 4:
        _ipv4(packet, data, at, depth)
    elif version == 6:
        _ipv6(packet, data, at, depth)
    else:
        packet.cut = len(data) <= at


def _ipv4(packet: Packet, data: bytes, at: int, depth: int) -> None:
    if len(data) - at < 20:
        packet.cut = True
        return
    first, tos, length, _, fragment, ttl, protocol, source, destination = _IPV4.unpack_from(data, at)
    header = (first & 15) << 2
    if first >> 4 != 4 or header < 20:
        return
    packet.version = 4
    packet.tos = tos
    packet.length = length
    packet.ttl = ttl
    packet.protocol = protocol
    packet.source_ip = inet_ntoa(source)
    packet.destination_ip = inet_ntoa(destination)
    if offset := fragment & 0x1FFF:
        packet.fragment_offset = offset << 3
    else:
        _transport(packet, data, at + header, protocol, depth)


def _ipv6(packet: Packet, data: bytes, at: int, depth: int) -> None:
    if len(data) - at < 40:
        packet.cut = True
        return
    first, payload, protocol, hops, source, destination = _IPV6.unpack_from(data, at)
    if first >> 28 != 6:
        return
    packet.version = 6
    packet.tos = first >> 20 & 0xFF
    # A jumbogram gives 0 here and its length in an option (RFC 2675).
    packet.length = payload + 40 if payload else None
    packet.ttl = hops
    packet.source_ip = ipv6_text(source)
    packet.destination_ip = ipv6_text(destination)
    at += 40
    for _ in range(MAX_EXTENSIONS):
        if protocol not in _EXTENSIONS:
            break
        if len(data) - at < 8:
            packet.protocol, packet.cut = protocol, True
            return
        if protocol == _FRAGMENT and (offset := (data[at + 2] << 8 | data[at + 3]) & 0xFFF8):
            packet.protocol, packet.fragment_offset = data[at], offset
            return
        size = data[at + 1]
        length = 8 if protocol == _FRAGMENT else size + 2 << 2 if protocol == _AUTHENTICATION else size + 1 << 3
        protocol = data[at]
        at += length
    packet.protocol = protocol
    _transport(packet, data, at, protocol, depth)


def _transport(packet: Packet, data: bytes, at: int, protocol: int, depth: int) -> None:
    left = len(data) - at
    if protocol == 6:
        if left >= 14:
            packet.source_port, packet.destination_port, _, packet.tcp_flags = _TCP.unpack_from(data, at)
            return
        packet.cut = True
    if protocol in _WITH_PORTS:
        if left < 4:
            packet.cut = True
            return
        packet.source_port, packet.destination_port = _PORTS.unpack_from(data, at)
        if protocol == 17 and left > 8 and depth < MAX_LAYERS:
            _udp(packet, data, at + 8, depth)
    elif protocol in (1, 58):
        if left < 2:
            packet.cut = True
            return
        packet.icmp_type, packet.icmp_code = data[at], data[at + 1]
    elif depth >= MAX_LAYERS:
        return
    elif protocol == 47:
        _gre(packet, data, at, depth)
    elif protocol in (4, 41):
        packet.tunnel = "ipip" if protocol == 4 else "ipv6-in-ip"
        packet.inner = ip(data, at, depth + 1)


def _udp(packet: Packet, data: bytes, at: int, depth: int) -> None:
    port = packet.destination_port
    if port in _VXLAN_PORTS:
        # The I flag must be set and the reserved ones are 0 (RFC 7348 section 5): anything else on that port is no VXLAN.
        if data[at] == 0x08 and len(data) - at >= 8:
            packet.tunnel, packet.tunnel_id = "vxlan", int.from_bytes(data[at + 4 : at + 7], "big")
            packet.inner = ethernet(data, at + 8, depth + 1)
    elif port == _GENEVE_PORT and len(data) - at >= 8 and data[at] >> 6 == 0:
        packet.tunnel, packet.tunnel_id = "geneve", int.from_bytes(data[at + 4 : at + 7], "big")
        options = (data[at] & 0x3F) << 2
        packet.inner = _inner(data, at + 8 + options, data[at + 2] << 8 | data[at + 3], depth + 1)


def _gre(packet: Packet, data: bytes, at: int, depth: int) -> None:
    if len(data) - at < 4:
        packet.cut = True
        return
    flags = data[at] << 8 | data[at + 1]
    ethertype = data[at + 2] << 8 | data[at + 3]
    packet.tunnel = "gre"
    if flags & 7:
        packet.tunnel = "pptp"  # version 1 (RFC 2637): PPP in frames of its own, often compressed
        return
    if flags & 0x4000:
        return  # source routes (RFC 1701) are gone from the standard, and their length is not told
    at += 8 if flags & 0x8000 else 4
    if flags & 0x2000:
        if len(data) - at < 4:
            packet.cut = True
            return
        # NVGRE (RFC 7637) has its subnet id in the upper 24 bits; it cannot be told from Ethernet in plain GRE with a key.
        packet.tunnel_id = int.from_bytes(data[at : at + 4], "big")
        at += 4
    sequenced = flags & 0x1000
    if sequenced:
        at += 4
    if ethertype in (0x88BE, 0x22EB):
        packet.tunnel = "erspan"
        if sequenced and len(data) - at >= 12:
            packet.tunnel_id = (data[at + 2] << 8 | data[at + 3]) & 0x3FF
            # Type II has 8 bytes, type III 12 and with its O flag 8 more, type I (never numbered) none.
            at += 8 if ethertype == 0x88BE else 20 if data[at + 11] & 1 else 12
        ethertype = _TRANSPARENT_ETHERNET
    packet.inner = _inner(data, at, ethertype, depth + 1)


def _inner(data: bytes, at: int, ethertype: int, depth: int) -> Packet | None:
    if ethertype == _TRANSPARENT_ETHERNET:
        return ethernet(data, at, depth)
    if ethertype not in _NETWORK:
        return None
    packet = Packet()
    _ethertype(packet, data, at, ethertype, depth)
    return packet


def _mpls(packet: Packet, data: bytes, at: int, depth: int) -> None:
    for _ in range(MAX_LABELS):
        if len(data) - at < 4:
            packet.cut = True
            return
        packet.labels += (data[at] << 12 | data[at + 1] << 4 | data[at + 2] >> 4,)
        bottom = data[at + 2] & 1
        at += 4
        if bottom:
            break
    else:
        return
    # What follows is not told; by convention its first four bits tell IP from a pseudowire's control word (RFC 4928, 4385).
    kind = data[at] >> 4 if len(data) > at else None
    if kind in (4, 6):
        _ip(packet, data, at, depth)
    elif kind == 0 and depth < MAX_LAYERS:
        packet.tunnel = "pseudowire"
        packet.inner = ethernet(data, at + 4, depth + 1)


def _pppoe(packet: Packet, data: bytes, at: int, depth: int) -> None:
    _ppp(packet, data, at + 6, depth)


def _ppp(packet: Packet, data: bytes, at: int, depth: int) -> None:
    protocol = int.from_bytes(data[at : at + 2], "big")
    if protocol in (0x0021, 0x0057):
        _ip(packet, data, at + 2, depth)
    elif protocol == 0x0281:
        _mpls(packet, data, at + 2, depth)


def _backbone(packet: Packet, data: bytes, at: int, depth: int) -> None:
    if len(data) - at < 4:
        packet.cut = True
    elif depth < MAX_LAYERS:
        packet.tunnel, packet.tunnel_id = "pbb", int.from_bytes(data[at + 1 : at + 4], "big")
        packet.inner = ethernet(data, at + 4, depth + 1)


_NETWORK: Final[dict[int, Callable[[Packet, bytes, int, int], None]]] = {
    _ETHERTYPE_IPV4: _ipv4,
    _ETHERTYPE_IPV6: _ipv6,
    0x8847: _mpls,
    0x8848: _mpls,
    0x8864: _pppoe,
    0x88E7: _backbone,
}
