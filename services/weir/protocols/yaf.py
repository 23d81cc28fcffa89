"""Flows as lines of text: what `yafscii --tabular` of CERT's YAF makes of its IPFIX (yafscii manual, "Tabular output").

23 columns between bars: first and last packet, duration, round trip time, protocol, source, port, destination, port, TCP flags of
the first packet and of the others (both ways), first sequence numbers, VLAN tags, packets and bytes (both ways), label of the
application, why the flow ended. Sequence numbers and tags are hexadecimal, times UTC.
"""

from __future__ import annotations

from ipaddress import ip_address
from typing import Final, NamedTuple

from weir.protocols._isotime import iso_to_micros

__all__ = ["YafFlow", "decode"]

_COLUMNS: Final = 23
_LONGEST: Final = 1024
_FLAGS: Final = {"F": 1, "S": 2, "R": 4, "P": 8, "A": 16, "U": 32, "E": 64, "C": 128}
_LARGEST: Final = (1 << 63) - 1


class YafFlow(NamedTuple):
    """One flow; times microseconds UTC, `rtt_ms` milliseconds. TCP flags are those of all packets; `reverse_*` is the way back."""

    start_us: int
    end_us: int
    rtt_ms: int
    protocol: int
    source_ip: str
    source_port: int
    destination_ip: str
    destination_port: int
    flags: int
    reverse_flags: int
    sequence: int
    reverse_sequence: int
    vlan: int
    reverse_vlan: int
    packets: int
    octets: int
    reverse_packets: int
    reverse_octets: int
    application: int
    end_reason: str


def decode(text: str) -> YafFlow | None:
    """The flow of a line; None for any other line. Raises nothing."""
    if len(text) > _LONGEST or text.count("|") != _COLUMNS - 1:
        return None
    cells = [cell.strip() for cell in text.split("|")]
    start, end = iso_to_micros(cells[0]), iso_to_micros(cells[1])
    if start is None or end is None:
        return None
    try:
        source, destination = str(ip_address(cells[5])), str(ip_address(cells[7]))
        rtt = round(float(cells[3]) * 1000)
        protocol = _number(cells[4], 0xFF)
        source_port, destination_port = _number(cells[6], 0xFFFF), _number(cells[8], 0xFFFF)
        flags, reverse_flags = _flags(cells[9]) | _flags(cells[10]), _flags(cells[11]) | _flags(cells[12])
        sequence, reverse_sequence = (_number(cell, 0xFFFF_FFFF, 16) for cell in cells[13:15])
        vlan, reverse_vlan = (_number(cell, 0xFFFF, 16) for cell in cells[15:17])
        packets, octets, reverse_packets, reverse_octets = (_number(cell, _LARGEST) for cell in cells[17:21])
        application = _number(cells[21], 0xFFFF)
    except (ValueError, OverflowError, KeyError):
        return None
    return YafFlow(
        start, end, rtt, protocol, source, source_port, destination, destination_port, flags, reverse_flags, sequence,
        reverse_sequence, vlan, reverse_vlan, packets, octets, reverse_packets, reverse_octets, application, cells[22],
    )  # fmt: skip


def _number(text: str, largest: int, base: int = 10) -> int:
    if not text.isalnum() or not text.isascii() or (value := int(text, base)) > largest:
        raise ValueError(f"{text[:40]!r} is no number up to {largest}")
    return value


def _flags(text: str) -> int:
    """Letters of TCP flags; 0 stands for none."""
    return sum({_FLAGS[letter] for letter in text}) if text != "0" else 0
