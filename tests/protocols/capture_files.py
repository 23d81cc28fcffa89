"""Writes capture files and packets for the tests: pcap and pcapng in both byte orders, Ethernet, IPv4, IPv6, UDP and TCP."""

from __future__ import annotations

from ipaddress import ip_address
from struct import pack

__all__ = ["ethernet", "fragments", "ip", "pcap", "pcapng", "tcp", "udp"]

SOURCE, DESTINATION = "192.0.2.7", "198.51.100.9"


def pcap(
    packets: list[bytes], *, link: int = 1, order: str = "<", nano: bool = False, start_us: int = 1_700_000_000_000_000
) -> bytes:
    """A classic file; packets are a millisecond apart."""
    magic = 0xA1B23C4D if nano else 0xA1B2C3D4
    out = [pack(order + "IHHiIII", magic, 2, 4, 0, 0, 262_144, link)]
    for number, data in enumerate(packets):
        seconds, us = divmod(start_us + 1000 * number, 1_000_000)
        out.append(pack(order + "IIII", seconds, us * 1000 if nano else us, len(data), len(data)) + data)
    return b"".join(out)


def _block(order: str, kind: int, body: bytes) -> bytes:
    body += bytes(-len(body) % 4)
    return pack(order + "II", kind, len(body) + 12) + body + pack(order + "I", len(body) + 12)


def pcapng(
    packets: list[bytes], *, link: int = 1, order: str = "<", resolution: int | None = None, start_us: int = 1_700_000_000_000_000
) -> bytes:
    """A pcapng file of enhanced packet blocks; `resolution` is the option's byte, which has to hold whole microseconds."""
    units = 1_000_000 if resolution is None else 2 ** (resolution & 0x7F) if resolution & 0x80 else 10**resolution
    out = [_block(order, 0x0A0D0D0A, pack(order + "IHHq", 0x1A2B3C4D, 1, 0, -1))]
    options = b"" if resolution is None else pack(order + "HHB3xHH", 9, 1, resolution, 0, 0)
    out.append(_block(order, 1, pack(order + "HHI", link, 0, 0) + options))
    out.append(_block(order, 4, b"names, passed over"))
    for number, data in enumerate(packets):
        ticks = (start_us + 1000 * number) * units // 1_000_000
        out.append(_block(order, 6, pack(order + "IIIII", 0, ticks >> 32, ticks & 0xFFFFFFFF, len(data), len(data)) + data))
    return b"".join(out)


def ethernet(packet: bytes, *, vlans: tuple[int, ...] = ()) -> bytes:
    """A frame, padded to 60 bytes as a card does."""
    tags = b"".join(pack(">HH", 0x8100, vlan) for vlan in vlans)
    return (bytes(12) + tags + pack(">H", 0x0800 if packet[0] >> 4 == 4 else 0x86DD) + packet).ljust(60, b"\0")


def ip(
    payload: bytes,
    protocol: int,
    source: str = SOURCE,
    destination: str = DESTINATION,
    *,
    fragment: int = 0,
    extensions: bytes = b"",
) -> bytes:
    """An IPv4 or IPv6 packet, by the address. `fragment` is the IPv4 field; `extensions` are IPv6 headers, the first hop-by-hop."""
    a, b = ip_address(source), ip_address(destination)
    if a.version == 4:
        return pack(">BBHHHBBH", 0x45, 0, 20 + len(payload), 77, fragment, 64, protocol, 0) + a.packed + b.packed + payload
    first = 0 if extensions else protocol
    return pack(">IHBB", 6 << 28, len(extensions) + len(payload), first, 64) + a.packed + b.packed + extensions + payload


def udp(data: bytes, port: int = 514, *, source_port: int = 40_000) -> bytes:
    """A UDP datagram."""
    return pack(">HHHH", source_port, port, 8 + len(data), 0) + data


def tcp(data: bytes, sequence: int, port: int = 514, *, source_port: int = 40_000, flags: int = 0x10) -> bytes:
    """A TCP segment; flags: 2 SYN, 1 FIN, 4 RST, 16 ACK."""
    return pack(">HHIIBBHHH", source_port, port, sequence % 2**32, 0, 5 << 4, flags, 65_535, 0, 0) + data


def fragments(payload: bytes, size: int, source: str = SOURCE, destination: str = DESTINATION) -> list[bytes]:
    """A UDP payload cut into IP packets of at most `size` bytes of payload, a multiple of 8."""
    pieces = [payload[at : at + size] for at in range(0, len(payload), size)]
    found = []
    for number, piece in enumerate(pieces):
        more, offset = number < len(pieces) - 1, number * size // 8
        if ip_address(source).version == 4:
            found.append(ip(piece, 17, source, destination, fragment=more << 13 | offset))
        else:
            header = pack(">BBHI", 17, 0, offset << 3 | more, 99)
            packet = ip(header + piece, 44, source, destination)
            found.append(packet)
    return found
