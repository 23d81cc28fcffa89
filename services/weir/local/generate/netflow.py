"""Datagrams of NetFlow v5, NetFlow v9 and IPFIX exporters, with sequence numbers, uptimes, templates and sampling as theirs are.

An exporter is stateful, as in life: its datagrams must be asked for in order. The same seed, times and order give the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from ipaddress import IPv4Address
from struct import pack
from typing import Final, NamedTuple, Protocol

from weir.local.generate.units import EMPTY, MALFORMED, NAMES, Dice, Unit
from weir.protocols.netflow.encode import DataSet, FieldSpec, Message, Template, V5Datagram, V5Flow, encode, encode_v5, ipv6

__all__ = [
    "EXPORTERS",
    "IPFIX_V4",
    "V9_FLOW",
    "V9_FLOWS",
    "ExporterSpec",
    "Flow",
    "IpfixExporter",
    "NetflowUnits",
    "V5Exporter",
    "V9Exporter",
    "flow",
]

V5_FLOWS: Final = 30  # as many as the format allows in a datagram
V9_FLOWS: Final = 28  # as many as fit an Ethernet frame
IPFIX_V4_FLOWS: Final = 14
IPFIX_V6_FLOWS: Final = 6
_DAY_MS: Final = 86_400_000
_TEMPLATES_EVERY: Final = 40
"""Datagrams from one announcement of the templates to the next."""


class Flow(NamedTuple):
    """One conversation's one direction. Times are milliseconds before the export."""

    source: int  # the last 32 bits of an address: an IPv4 address as it is
    destination: int
    source_port: int
    destination_port: int
    protocol: int
    packets: int
    octets: int
    began: int
    ended: int
    tcp_flags: int


class _Service(NamedTuple):
    client: str
    server: str
    port: int
    protocol: int
    packets: int  # at most
    size: int  # octets of a packet at most


_SERVICES: Final = (
    *(_Service("10.20.0.0", "203.0.113.0", 443, 6, 900, 1400),) * 4,
    _Service("10.20.0.0", "198.51.100.0", 80, 6, 200, 1400),
    _Service("10.20.0.0", "203.0.113.128", 443, 17, 1500, 1250),
    *(_Service("10.20.0.0", "10.30.0.0", 53, 17, 2, 220),) * 3,
    _Service("10.20.0.0", "10.30.4.0", 445, 6, 4000, 1400),
    _Service("10.20.1.0", "10.30.8.0", 22, 6, 600, 400),
)
_CLIENTS: Final = 4096
_SPREAD: Final = 10_000
_SAMPLED_FEW: Final = 4
_SERVERS: Final = 120
_BASES: Final = {text: int(IPv4Address(text)) for service in _SERVICES for text in (service.client, service.server)}


def flow(seed: int, exporter: str, number: int) -> Flow:
    """The exporter's flow of this number: web, DNS, SMB or SSH, the one direction or the other."""
    dice = Dice(seed, exporter, number)
    service = dice.pick(_SERVICES)
    client = _BASES[service.client] + 1 + dice.below(_CLIENTS)
    server = _BASES[service.server] + 1 + dice.below(_SERVERS)
    port = dice.between(1024, 65535)
    # Mice and elephants: half of the flows have one packet, one in a hundred has a hundred or more.
    packets = min(service.packets, _SPREAD // dice.between(1, _SPREAD))
    octets = packets * dice.between(40, service.size)
    ended = dice.below(15_000)
    began = ended + (dice.below(60_000) if packets > 1 else 0)
    # Of few packets that were sampled hardly one is a SYN.
    seen = (0x1B, 0x1B, 0x1F, 0x13) if packets > _SAMPLED_FEW else (0x10, 0x18, 0x18, 0x11)
    flags = dice.pick_mostly(seen, (0x02,)) if service.protocol == 6 else 0
    if dice.below(2):
        return Flow(server, client, service.port, port, service.protocol, packets, octets, began, ended, flags)
    return Flow(client, server, port, service.port, service.protocol, packets, octets, began, ended, flags)


class _Exporter(Protocol):
    def next(self, now_us: int) -> Unit:
        """The exporter's next datagram, sent at `now_us` (microseconds UTC)."""


class _Uptime:
    """Milliseconds since the exporter started, which was up to 20 days before its first datagram."""

    __slots__ = ("_booted_ms", "_days")

    def __init__(self, seed: int, name: str) -> None:
        self._days = Dice(seed, name, -1).between(_DAY_MS, 20 * _DAY_MS)
        self._booted_ms: int | None = None

    def at(self, now_us: int) -> int:
        if self._booted_ms is None:
            self._booted_ms = now_us // 1000 - self._days
        return now_us // 1000 - self._booted_ms


class V5Exporter:
    """NetFlow v5, sampled 1 in 64; its sequence counts flows."""

    def __init__(self, seed: int, name: str) -> None:
        self._seed, self._name = seed, name
        self._sent = 0
        self._uptime = _Uptime(seed, name)

    def next(self, now_us: int) -> Unit:
        """Thirty flows."""
        uptime = self._uptime.at(now_us)
        flows = [flow(self._seed, self._name, number) for number in range(self._sent, self._sent + V5_FLOWS)]
        datagram = V5Datagram(
            flows=[
                V5Flow(
                    source=str(IPv4Address(one.source)),
                    destination=str(IPv4Address(one.destination)),
                    source_port=one.source_port,
                    destination_port=one.destination_port,
                    protocol=one.protocol,
                    packets=one.packets,
                    octets=one.octets,
                    first=uptime - one.began,
                    last=uptime - one.ended,
                    next_hop="10.20.255.254",
                    input_interface=1 + one.source % 4,
                    output_interface=5 + one.destination % 3,
                    tcp_flags=one.tcp_flags,
                    source_mask=16,
                    destination_mask=24,
                )
                for one in flows
            ],
            export_seconds=now_us // 1_000_000,
            export_nanoseconds=now_us % 1_000_000 * 1000,
            uptime=uptime,
            sequence=self._sent,
            engine_id=1,
            sampling_mode=1,
            sampling_interval=64,
        )
        self._sent += V5_FLOWS
        return Unit(encode_v5(datagram), "network-flow", V5_FLOWS)


def _fields(*specs: tuple[int, int]) -> tuple[FieldSpec, ...]:
    return tuple(FieldSpec(element, length) for element, length in specs)


# Elements by number (IANA, "IPFIX Information Elements"): 8 and 12 addresses, 7 and 11 ports, 4 protocol, 6 TCP flags, 2 packets,
# 1 octets, 22 and 21 first and last uptime, 10 and 14 interfaces, 48 sampler, 148 flow id.
V9_FLOW: Final = Template(
    256, _fields((8, 4), (12, 4), (7, 2), (11, 2), (4, 1), (6, 1), (2, 4), (1, 4), (22, 4), (21, 4), (10, 2), (14, 2), (148, 8))
)
_V9_SAMPLED_FLOW: Final = Template(
    256, _fields((148, 8), (48, 2), (4, 1), (8, 4), (12, 4), (7, 2), (11, 2), (6, 1), (1, 8), (2, 8), (22, 4), (21, 4))
)
# Scope 1 is the system (RFC 3954 section 6.1). 34 and 35 are interval and algorithm for all of it, 48 to 50 those of one sampler.
_V9_SAMPLING: Final = Template(257, _fields((34, 4), (35, 1)), _fields((1, 4)), is_options=True)
_V9_SAMPLER: Final = Template(258, _fields((48, 2), (49, 1), (50, 4)), _fields((1, 4)), is_options=True)


class V9Exporter:
    """NetFlow v9: first and every so often a datagram of templates and sampling alone; its sequence counts datagrams.

    Two exporters of it use the same template id for different records, as exporters in one network do. `by_sampler` names a
    sampler in each flow, and its interval in the options; else the interval holds for the whole exporter.
    """

    def __init__(self, seed: int, name: str, *, by_sampler: bool = False) -> None:
        self._seed, self._name, self._by_sampler = seed, name, by_sampler
        self._datagrams = self._flows = 0
        self._uptime = _Uptime(seed, name)

    def next(self, now_us: int) -> Unit:
        """The templates with the sampling, or flows."""
        uptime = self._uptime.at(now_us)
        announce = self._datagrams % _TEMPLATES_EVERY == 0
        message = Message(
            9,
            now_us // 1_000_000,
            self._announcement() if announce else (self._data(uptime),),
            domain=7,
            sequence=self._datagrams,
            uptime=uptime,
        )
        self._datagrams += 1
        return Unit(encode(message), EMPTY) if announce else Unit(encode(message), "network-flow", V9_FLOWS)

    def _announcement(self) -> tuple[Template | DataSet, ...]:
        if self._by_sampler:
            return _V9_SAMPLED_FLOW, _V9_SAMPLER, DataSet(_V9_SAMPLER, [(1, 3, 2, 512)], padded=True)
        return V9_FLOW, _V9_SAMPLING, DataSet(_V9_SAMPLING, [(1, 100, 2)], padded=True)

    def _data(self, uptime: int) -> DataSet:
        first = self._flows
        self._flows += V9_FLOWS
        numbered = [(number, flow(self._seed, self._name, number)) for number in range(first, first + V9_FLOWS)]
        if self._by_sampler:
            sampled = [
                (
                    number, 3, one.protocol, one.source, one.destination, one.source_port, one.destination_port, one.tcp_flags,
                    one.octets, one.packets, uptime - one.began, uptime - one.ended,
                )
                for number, one in numbered
            ]  # fmt: skip
            return DataSet(_V9_SAMPLED_FLOW, sampled, padded=True)
        records = [
            (
                one.source, one.destination, one.source_port, one.destination_port, one.protocol, one.tcp_flags, one.packets,
                one.octets, uptime - one.began, uptime - one.ended, 1 + one.source % 4, 5 + one.destination % 3, number,
            )
            for number, one in numbered
        ]  # fmt: skip
        return DataSet(V9_FLOW, records, padded=True)


# 152 and 153 are start and end in milliseconds UTC, 371 the user's name, 27 and 28 IPv6 addresses.
_VARIABLE: Final = 65535
IPFIX_V4: Final = Template(
    300, _fields((8, 4), (12, 4), (7, 2), (11, 2), (4, 1), (6, 2), (2, 8), (1, 8), (152, 8), (153, 8), (148, 8), (371, _VARIABLE))
)
_IPFIX_V6: Final = Template(
    301, _fields((27, 16), (28, 16), (7, 2), (11, 2), (4, 1), (6, 2), (2, 8), (1, 8), (152, 8), (153, 8), (148, 8))
)
# Scope 149, the domain; 304 the selector's algorithm (1: count based), 305 and 306 packets taken and left (RFC 5477 section 8.2).
_IPFIX_SAMPLING: Final = Template(302, _fields((304, 2), (305, 4), (306, 4)), _fields((149, 4)), is_options=True)
_IPFIX_DOMAIN: Final = 4096
_PREFIX_V6: Final = ipv6("2001:db8:20::")[:12]


class IpfixExporter:
    """IPFIX over UDP: a user name of variable length in its IPv4 records, IPv6 records beside them; its sequence counts records."""

    def __init__(self, seed: int, name: str) -> None:
        self._seed, self._name = seed, name
        self._datagrams = self._flows = self._records = 0

    def next(self, now_us: int) -> Unit:
        """The templates with the sampling, or flows of both families."""
        announce = self._datagrams % _TEMPLATES_EVERY == 0
        count = 0 if announce else IPFIX_V4_FLOWS + IPFIX_V6_FLOWS
        message = Message(
            10,
            now_us // 1_000_000,
            self._announcement() if announce else self._data(now_us // 1_000_000 * 1000),
            domain=_IPFIX_DOMAIN,
            sequence=self._records,
        )
        self._datagrams += 1
        # RFC 7011 section 3.1: data records sent before this message, options data among them.
        self._records += count or 1
        return Unit(encode(message), EMPTY) if announce else Unit(encode(message), "network-flow", count)

    @staticmethod
    def _announcement() -> tuple[Template | DataSet, ...]:
        return IPFIX_V4, _IPFIX_V6, _IPFIX_SAMPLING, DataSet(_IPFIX_SAMPLING, [(_IPFIX_DOMAIN, 1, 1, 9)])

    def _data(self, now_ms: int) -> tuple[DataSet, DataSet]:
        first = self._flows
        middle = first + IPFIX_V4_FLOWS
        self._flows = middle + IPFIX_V6_FLOWS
        four = [(number, flow(self._seed, self._name, number)) for number in range(first, middle)]
        six = [(number, flow(self._seed, self._name, number)) for number in range(middle, self._flows)]
        v4 = [
            (
                one.source, one.destination, one.source_port, one.destination_port, one.protocol, one.tcp_flags, one.packets,
                one.octets, now_ms - one.began, now_ms - one.ended, number, _user(one.source),
            )
            for number, one in four
        ]  # fmt: skip
        v6 = [
            (
                _PREFIX_V6 + pack(">I", one.source), _PREFIX_V6 + pack(">I", one.destination), one.source_port,
                one.destination_port, one.protocol, one.tcp_flags, one.packets, one.octets, now_ms - one.began,
                now_ms - one.ended, number,
            )
            for number, one in six
        ]  # fmt: skip
        return DataSet(IPFIX_V4, v4), DataSet(_IPFIX_V6, v6, padded=True)


def _user(address: int) -> bytes:
    return f"{NAMES[address % len(NAMES)]}{address % 500}".encode()


class ExporterSpec(NamedTuple):
    """An exporter: the loopback address it binds to, and how to make it from seed and name."""

    address: str
    name: str
    make: Callable[[int, str], _Exporter]


EXPORTERS: Final = (
    ExporterSpec("127.0.1.1", "edge-v5", V5Exporter),
    ExporterSpec("127.0.1.2", "core-v9", V9Exporter),
    ExporterSpec("127.0.1.3", "branch-ipfix", IpfixExporter),
    ExporterSpec("127.0.1.4", "wan-v9", lambda seed, name: V9Exporter(seed, name, by_sampler=True)),
)


class NetflowUnits:
    """The datagrams of one run, by all exporters in turns.

    Args:
        seed: what the flows are drawn from.
        amount: datagrams in all.
        specials: one of them, from the first exporter's address, is of a version that does not exist.
    """

    def __init__(self, seed: int, amount: int, *, specials: bool = True) -> None:
        self.amount = amount
        self._malformed = amount // 3 if specials and amount else -1
        self._exporters = [spec.make(seed, spec.name) for spec in EXPORTERS]

    def numbers(self) -> Iterator[tuple[int, ExporterSpec]]:
        """Every number with its exporter, in order."""
        for number in range(self.amount):
            yield number, EXPORTERS[0 if number == self._malformed else number % len(EXPORTERS)]

    def unit(self, number: int, now_us: int) -> Unit:
        """This number's datagram as of `now_us` (microseconds UTC). Numbers must be asked for in order, once each."""
        if number == self._malformed:
            return Unit(pack(">HHI", 77, 1, number) + bytes(16), MALFORMED)
        return self._exporters[number % len(EXPORTERS)].next(now_us)
