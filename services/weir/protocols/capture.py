"""What captured packets carried: UDP datagrams, whole again where IP had cut them, and the bytes of TCP connections in their order.

Link layers: Ethernet with VLAN tags, Linux "cooked" v1 and v2, raw IP, BSD loopback (numbers: tcpdump.org, "Link-layer header
types"). IPv4 (RFC 791) and IPv6 with extension headers (RFC 8200), fragments of both. Tunnels are not opened: what a tunnel
carries was not sent to the machine that listened. Checksums are not looked at, as senders often leave them to their card.

Nothing raises: the bytes come from strangers. Memory is bounded, whatever they say.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from socket import AF_INET, inet_ntop
from struct import Struct
from typing import Final, NamedTuple

from weir.protocols.packet import ipv6_text
from weir.protocols.pcap import CapturedPacket

__all__ = ["Carrier", "Datagram", "Segment"]

MAX_FRAGMENTED: Final = 256
"""Packets that wait for fragments; the oldest is given up first."""

MAX_CONNECTIONS: Final = 1_024
"""Directions of TCP connections followed; the one silent longest is given up first."""

MAX_AHEAD_BYTES: Final = 4 * 1024 * 1024
"""Bytes kept, over all connections, of segments that came before their turn."""

MAX_AHEAD: Final = 1_024
"""Segments kept of one direction that came before their turn: behind a longer gap it is gone on with."""

MAX_PARTS: Final = 1_024
"""Fragments of one packet."""

_IP_LINKS: Final = frozenset({0, 101, 12, 14, 108, 228, 229})
_ETHERNET, _SLL, _SLL2 = 1, 113, 276
_LOOPBACKS: Final = frozenset({0, 108})
_VLANS: Final = frozenset({0x8100, 0x88A8, 0x9100, 0x9200, 0x9300})
_EXTENSIONS: Final = frozenset({0, 43, 51, 60, 135, 139, 140})
_FRAGMENT, _AUTHENTICATION = 44, 51
_MAX_STEPS: Final = 16
_TCP, _UDP = 6, 17
_FIN, _SYN, _RST = 1, 2, 4
_LARGEST_PACKET: Final = 65_535
_UDP_HEADER: Final = Struct(">HHHH")
_TCP_HEADER: Final = Struct(">HHIIBB")
_WINDOW: Final = 1 << 31
_CYCLE: Final = 1 << 32


class Datagram(NamedTuple):
    """A UDP datagram; `number` is that of the packet that completed it, `lost` the bytes of it that were not captured."""

    number: int
    time_us: int | None
    source_ip: str
    source_port: int
    destination_port: int
    data: bytes
    lost: int = 0


class Segment(NamedTuple):
    """The next bytes of one direction of a TCP connection, in order. `first` starts a connection or, after a gap, begins anew;
    `last` says that no more will come."""

    number: int
    time_us: int | None
    source_ip: str
    source_port: int
    destination_ip: str
    destination_port: int
    data: bytes
    first: bool = False
    last: bool = False


class _Ip(NamedTuple):
    """An IP packet: `fragment` is (key, offset, more) for a part of one."""

    protocol: int
    source: str
    destination: str
    payload: bytes
    length: int
    fragment: tuple[tuple[object, ...], int, bool] | None = None


@dataclass(slots=True)
class _Parts:
    """Fragments of one packet by offset, their bytes in all; `total` is known once the last one came."""

    parts: dict[int, bytes] = field(default_factory=dict)
    size: int = 0
    total: int | None = None

    def add(self, offset: int, part: bytes) -> None:
        """Take a fragment; one that comes again is not taken."""
        if offset not in self.parts and len(self.parts) < MAX_PARTS:
            self.parts[offset] = part
            self.size += len(part)

    def whole(self) -> bytes | None:
        """The payload, if all is there. Overlaps are taken as the first to come had it."""
        if self.total is None or self.size < self.total:
            return None
        found = bytearray()
        for offset, part in sorted(self.parts.items()):
            if offset > len(found):
                return None
            found += part[len(found) - offset :]
        return bytes(found[: self.total]) if len(found) >= self.total else None


@dataclass(slots=True)
class _Direction:
    """One direction of a connection: the sequence number that is next, and what came too early."""

    next: int | None = None
    ahead: dict[int, bytes] = field(default_factory=dict)
    started: bool = False
    end: int | None = None


_Ends = tuple[str, int, str, int]


class Carrier:
    """Datagrams and segments out of packets, in the order of the file.

    `passed_over` counts packets that are neither UDP nor TCP over IP, cannot be read, or were cut within their headers.
    `incomplete` counts fragmented packets and TCP bytes' gaps that were given up.
    """

    def __init__(self) -> None:
        self.passed_over = 0
        self.incomplete = 0
        self._fragments: dict[tuple[object, ...], _Parts] = {}
        self._directions: dict[_Ends, _Direction] = {}
        self._ahead = 0

    def packet(self, packet: CapturedPacket) -> Iterator[Datagram | Segment]:
        """What the packet completes."""
        found = _network(packet)
        if found is None:
            self.passed_over += 1
            return
        if found.fragment is not None:
            whole = self._join(found)
            if whole is None:
                return
            found = found._replace(payload=whole, length=len(whole), fragment=None)
        if found.protocol == _UDP and len(found.payload) >= 8:
            yield _datagram(packet, found)
        elif found.protocol == _TCP and len(found.payload) >= 20:
            yield from self._tcp(packet, found)
        else:
            self.passed_over += 1

    def finish(self) -> Iterator[Segment]:
        """The file is over: what waits behind a gap is given, marked `first`, and fragments are given up."""
        self.incomplete += len(self._fragments)
        self._fragments.clear()
        for ends, direction in list(self._directions.items()):
            yield from self._skip_gap(ends, direction, 0, None)

    def _join(self, found: _Ip) -> bytes | None:
        if found.fragment is None:  # pragma: no cover - asked for fragments only
            return found.payload
        key, offset, more = found.fragment
        if offset + len(found.payload) > _LARGEST_PACKET:
            self.passed_over += 1
            return None
        parts = self._fragments.get(key)
        if parts is None:
            if len(self._fragments) >= MAX_FRAGMENTED:
                del self._fragments[next(iter(self._fragments))]
                self.incomplete += 1
            parts = self._fragments[key] = _Parts()
        parts.add(offset, found.payload)
        if not more:
            parts.total = offset + len(found.payload)
        whole = parts.whole()
        if whole is not None:
            del self._fragments[key]
        return whole

    # TCP

    def _tcp(self, packet: CapturedPacket, found: _Ip) -> Iterator[Segment]:
        source_port, destination_port, sequence, _, offset, flags = _TCP_HEADER.unpack_from(found.payload)
        ends = (found.source, source_port, found.destination, destination_port)
        data = found.payload[(offset >> 4) * 4 :]
        if flags & _SYN:
            sequence = (sequence + 1) % _CYCLE
        direction = self._directions.pop(ends, None)
        if direction is None or (flags & _SYN and direction.next != sequence):
            if direction is not None:
                yield from self._end(ends, direction, packet)
            direction = _Direction(sequence if flags & _SYN else None)
        # One that is over stays, so that what is sent again after its end is not taken for another.
        self._directions[ends] = direction
        if len(self._directions) > MAX_CONNECTIONS:
            oldest = next(iter(self._directions))
            yield from self._end(oldest, self._directions.pop(oldest), packet)
        if direction.next is None:
            if not data:
                return
            direction.next = sequence
        if data:
            yield from self._take(ends, direction, sequence, data, packet)
        if flags & (_FIN | _RST):
            direction.end = (sequence + len(data)) % _CYCLE
        if direction.end is not None and (direction.end == direction.next or flags & _RST):
            yield from self._end(ends, direction, packet)

    def _end(self, ends: _Ends, direction: _Direction, packet: CapturedPacket) -> Iterator[Segment]:
        yield from self._skip_gap(ends, direction, packet.number, packet.time_us)
        if direction.started:
            direction.started = False
            yield Segment(packet.number, packet.time_us, *ends, b"", last=True)

    def _take(self, ends: _Ends, direction: _Direction, sequence: int, data: bytes, packet: CapturedPacket) -> Iterator[Segment]:
        ready = direction.next or 0
        distance = (sequence - ready) % _CYCLE
        if distance >= _WINDOW:  # it begins before what is next: sent again, in part or whole
            data, distance = data[_CYCLE - distance :], 0
            sequence = ready
        if not data:
            return
        if distance:
            self._keep(direction, sequence, data)
            if self._ahead > MAX_AHEAD_BYTES or len(direction.ahead) > MAX_AHEAD:
                yield from self._skip_gap(ends, direction, packet.number, packet.time_us)
            return
        run = [data]
        direction.next = (ready + len(data)) % _CYCLE
        while direction.ahead and (more := self._next_ahead(direction)):
            run.append(more)
        yield self._segment(ends, direction, b"".join(run), packet.number, packet.time_us)

    def _keep(self, direction: _Direction, sequence: int, data: bytes) -> None:
        before = direction.ahead.get(sequence, b"")
        if len(data) > len(before):
            direction.ahead[sequence] = data
            self._ahead += len(data) - len(before)

    def _next_ahead(self, direction: _Direction) -> bytes:
        """The bytes kept that come next, and those kept of what is known by now let go."""
        ready = direction.next or 0
        found = b""
        for sequence in list(direction.ahead):
            behind = (ready - sequence) % _CYCLE
            if behind < _WINDOW:
                kept = direction.ahead.pop(sequence)
                self._ahead -= len(kept)
                if len(kept) - behind > len(found):
                    found = kept[behind:]
        direction.next = (ready + len(found)) % _CYCLE
        return found

    def _skip_gap(self, ends: _Ends, direction: _Direction, number: int, time_us: int | None) -> Iterator[Segment]:
        while direction.ahead:
            ready = direction.next or 0
            direction.next = min(direction.ahead, key=lambda sequence: (sequence - ready) % _CYCLE)
            direction.started = False
            self.incomplete += 1
            run = []
            while direction.ahead and (more := self._next_ahead(direction)):
                run.append(more)
            yield self._segment(ends, direction, b"".join(run), number, time_us)

    def _segment(self, ends: _Ends, direction: _Direction, data: bytes, number: int, time_us: int | None) -> Segment:
        first, direction.started = not direction.started, True
        return Segment(number, time_us, *ends, data, first)


def _datagram(packet: CapturedPacket, found: _Ip) -> Datagram:
    source_port, destination_port, length, _ = _UDP_HEADER.unpack_from(found.payload)
    # 0 is a jumbogram's (RFC 2675), or left to the card that was to send it.
    length = length if length >= 8 else found.length
    data = found.payload[8:length]
    return Datagram(
        packet.number, packet.time_us, found.source, source_port, destination_port, data, max(0, length - 8 - len(data))
    )


def _network(packet: CapturedPacket) -> _Ip | None:
    data, link = packet.data, packet.link_type
    if link == _ETHERNET:
        return _by_ethertype(data, 12)
    if link == _SLL:
        return _by_ethertype(data, 14)
    if link == _SLL2:
        return _ip(data, 20) if data[:2] in (b"\x08\x00", b"\x86\xdd") else None
    if link in _IP_LINKS:
        return _ip(data, 4 if link in _LOOPBACKS else 0)
    return None


def _by_ethertype(data: bytes, at: int) -> _Ip | None:
    for _ in range(_MAX_STEPS):
        if len(data) < at + 2:
            return None
        ethertype = data[at] << 8 | data[at + 1]
        if ethertype not in _VLANS:
            return _ip(data, at + 2) if ethertype in (0x0800, 0x86DD) else None
        at += 4
    return None


def _ip(data: bytes, at: int) -> _Ip | None:
    version = data[at] >> 4 if len(data) > at else 0
    return _ipv4(data, at) if version == 4 else _ipv6(data, at) if version == 6 else None


def _ipv4(data: bytes, at: int) -> _Ip | None:
    header = (data[at] & 15) * 4
    if len(data) - at < max(20, header) or header < 20:
        return None
    # A length of 0 is that of a packet which the sender's card was to cut up.
    length = (data[at + 2] << 8 | data[at + 3]) or len(data) - at
    source, destination = inet_ntop(AF_INET, data[at + 12 : at + 16]), inet_ntop(AF_INET, data[at + 16 : at + 20])
    payload = data[at + header : at + length]
    bits = data[at + 6] << 8 | data[at + 7]
    fragment = None
    if bits & 0x3FFF:
        key = (source, destination, data[at + 9], bytes(data[at + 4 : at + 6]))
        fragment = (key, (bits & 0x1FFF) * 8, bool(bits & 0x2000))
    return _Ip(data[at + 9], source, destination, payload, length - header, fragment)


def _ipv6(data: bytes, at: int) -> _Ip | None:
    if len(data) - at < 40:
        return None
    length = (data[at + 4] << 8 | data[at + 5]) or len(data) - at - 40
    protocol = data[at + 6]
    source, destination = ipv6_text(data[at + 8 : at + 24]), ipv6_text(data[at + 24 : at + 40])
    end = at + 40 + length
    at += 40
    fragment = None
    for _ in range(_MAX_STEPS):
        if protocol == _FRAGMENT and len(data) - at >= 8 and fragment is None:
            bits = data[at + 2] << 8 | data[at + 3]
            # A packet may have a fragment header and be whole (RFC 6946).
            if bits & 0xFFF9:
                fragment = ((source, destination, bytes(data[at + 4 : at + 8])), bits & 0xFFF8, bool(bits & 1))
            protocol, at = data[at], at + 8
            if fragment is not None and fragment[1]:
                break
        elif protocol in _EXTENSIONS and len(data) - at >= 8:
            size = data[at + 1]
            protocol, at = data[at], at + (size + 2 << 2 if protocol == _AUTHENTICATION else size + 1 << 3)
        else:
            break
    return _Ip(protocol, source, destination, data[at:end], end - at, fragment)
