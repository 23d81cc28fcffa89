"""Datagrams of sFlow agents: switches that sample one packet in so many, and tell their counters.

`make` gives the maker that `weir generate sflow` uses: plain, tagged, twice tagged and MPLS packets of which each is a stamped
conversation, no two alike. `SflowAgent` is one switch with everything that occurs in the field (tunnels, IPv6, discarded packets,
expanded samples, routes, counters), for the tests and for trying an installation. Both are functions of the seed and of the
order of calls.
"""

from __future__ import annotations

from collections.abc import Callable
from struct import Struct
from typing import Final

from weir.local.generate import packets, stamp
from weir.local.generate.pools import chance
from weir.local.generate.units import NAMES, Dice, Unit
from weir.protocols.sflow import SINGLE, Interface, encode

__all__ = ["PER_DATAGRAM", "SampledFlows", "SflowAgent", "make"]

PER_DATAGRAM: Final = 6
"""Samples of a datagram: as many as fit an Ethernet frame with headers of 128 bytes, the usual length."""

_HEADER_BYTES: Final = 128
_DAY_MS: Final = 86_400_000
_RATES: Final = (256, 512, 1024, 2048, 4096)
_AGENTS: Final = 198 << 24 | 18 << 16  # 198.18.0.0/15 is for such trials (RFC 2544)

_DATAGRAM: Final = Struct(">7I")
# Sample (tag, length, eight fields), then the sampled header (tag, length, four fields).
_SAMPLE: Final = Struct(">10I6I")
_SWITCH: Final = Struct(">6I")
_MACS: Final = Struct(">HIHI")
_TAG: Final = Struct(">HH")
_IPV4: Final = Struct(">BBHHHBBHII")
_TCP: Final = Struct(">HHIIBBHHH")
_UDP: Final = Struct(">HHHH")


class SampledFlows:
    """Maker of stamped samples (see `weir.local.generate.kinds.Maker`)."""

    per_unit = PER_DATAGRAM

    def __init__(self, run: int, seed: int) -> None:
        self._run, self._seed = run, seed
        self._datagrams: dict[int, int] = {}
        self._booted_ms: int | None = None
        # What stands behind the headers looks like a payload and holds no address of 10.0.0.0/8, which could pass for a stamp.
        self._payload = bytes(0x80 | (value * 37 + seed) & 0x7F for value in range(4096))

    def connected(self, source: int) -> None:
        """Nothing: sFlow has no connections."""

    def unit(self, source: int, first: int, count: int, now_us: int) -> bytes:
        """The datagram with these events of a source."""
        number = self._datagrams.get(source, 0) + 1
        self._datagrams[source] = number
        if self._booted_ms is None:
            self._booted_ms = now_us // 1000 - _DAY_MS
        uptime = (now_us // 1000 - self._booted_ms) & 0xFFFF_FFFF
        head = _DATAGRAM.pack(5, 1, _AGENTS | source, 0, number & 0xFFFF_FFFF, uptime, count)
        return head + b"".join([self._sample(source, event) for event in range(first, first + count)])

    def _sample(self, source: int, event: int) -> bytes:
        bits = chance(self._seed, source, event)
        talk = stamp.as_conversation(self._run, source, event)
        tcp = bits >> 63
        length = 64 + (bits >> 40 & 0x3FF) + (bits >> 50 & 0x1FF)  # of the IP packet
        way_in, way_out = 1 + (bits >> 8) % 24, 25 + (bits >> 16) % 24
        vlan = 2 + (bits >> 20) % 4000
        macs = _MACS.pack(0x0200, bits >> 32, 0x0200, bits & 0xFFFF_FFFF)
        form = bits >> 60 & 7
        if form < 4:
            link = macs + b"\x08\0"
        elif form < 6:
            link = macs + b"\x81\0" + _TAG.pack(vlan, 0x0800)
        elif form < 7:
            link = macs + b"\x88\xa8" + _TAG.pack(vlan, 0x8100) + _TAG.pack(100, 0x0800)
        else:
            link = macs + b"\x88\x47" + (vlan << 12 | 0x140).to_bytes(4, "big")
        if tcp:
            top = _TCP.pack(
                talk.source_port, talk.destination_port, bits & 0xFFFF_FFFF, 0, 0x50, 0x10 | bits >> 12 & 0x0B, 501, 0, 0
            )
        else:
            top = _UDP.pack(talk.source_port, talk.destination_port, length - 20, 0)
        at = bits >> 24 & 0x7FF
        ip = _ip_header(talk.source, talk.destination, 6 if tcp else 17, length, bits & 0xFFFF, bits >> 4 & 0xFC)
        packet = link + ip + top + self._payload[at : at + length - 20 - len(top)]
        frame_length = len(link) + length + 4
        header = packet[:_HEADER_BYTES]
        kept = len(header)
        pad = -kept & 3
        rate = _RATES[source % len(_RATES)]
        fixed = _SAMPLE.pack(
            1, 32 + 24 + kept + pad + 24, (event + 1) & 0xFFFF_FFFF, way_in, rate, (event + 1) * rate & 0xFFFF_FFFF, 0, way_in,
            way_out, 2, 1, 16 + kept + pad, 1, frame_length, 4, kept,
        )  # fmt: skip
        return fixed + header + bytes(pad) + _SWITCH.pack(1001, 16, vlan, 0, vlan, 0)


def _ip_header(source: int, destination: int, protocol: int, length: int, identification: int, tos: int) -> bytes:
    head = 0x4500 | tos, length, identification, 0x4000, 0x4000 | protocol
    total = sum(head) + (source >> 16) + (source & 0xFFFF) + (destination >> 16) + (destination & 0xFFFF)
    total = (total & 0xFFFF) + (total >> 16)
    total = (total & 0xFFFF) + (total >> 16)
    return _IPV4.pack(0x45, tos, length, identification, 0x4000, 64, protocol, ~total & 0xFFFF, source, destination)


def make(run: int, seed: int, form: str, stream: bool) -> SampledFlows:
    """The maker of `weir generate sflow`; there is one format (v5) and no connection."""
    return SampledFlows(run, seed)


class SflowAgent:
    """One switch. Every eighth of its datagrams tells counters (network-log), the others sampled and discarded packets."""

    def __init__(self, seed: int, name: str, *, agent: str = "192.0.2.1", expanded: bool = False) -> None:
        self._seed, self._name, self._agent, self._expanded = seed, name, agent, expanded
        self._datagrams = self._samples = 0
        self._booted_ms: int | None = None

    def next(self, now_us: int) -> Unit:
        """The agent's next datagram, sent at `now_us` (microseconds UTC)."""
        if self._booted_ms is None:
            self._booted_ms = now_us // 1000 - Dice(self._seed, self._name, -1).between(_DAY_MS, 20 * _DAY_MS)
        self._datagrams += 1
        counters = self._datagrams % 8 == 0
        samples = [self._counters(port) for port in range(1, 5)] if counters else [self._packet() for _ in range(PER_DATAGRAM - 1)]
        data = encode.datagram(
            samples,
            agent=self._agent,
            sequence=self._datagrams,
            uptime=(now_us // 1000 - self._booted_ms) & 0xFFFF_FFFF,
        )
        return Unit(data, "network-log" if counters else "network-flow", len(samples))

    def _packet(self) -> bytes:
        self._samples += 1
        dice = Dice(self._seed, self._name, self._samples)
        ways = dice.between(1, 24), dice.between(25, 48)
        frame, record = dice.pick(_FORMS)(dice)
        length = max(len(frame), dice.between(64, 1500)) + 4
        records = [encode.sampled_header(frame[:_HEADER_BYTES], length), *record]
        if dice.below(10) == 0:
            return encode.discarded_packet(
                records, reason=dice.pick((258, 257, 259, 301, 1)), sequence=self._samples, source=(0, ways[0]), input=ways[0]
            )
        output = dice.pick(
            (
                *(Interface(SINGLE, ways[1]),) * 6,
                encode.multiple_interfaces(dice.between(2, 20)),
                encode.discarded_interface(258),
                encode.INTERNAL_INTERFACE,
            )
        )
        return encode.flow_sample(
            records,
            sequence=self._samples,
            source=(0, ways[0]),
            rate=1000,
            pool=self._samples * 1000 & 0xFFFF_FFFF,
            input=Interface(SINGLE, ways[0]),
            output=output,
            expanded=self._expanded,
        )

    def _counters(self, port: int) -> bytes:
        octets = self._datagrams * (1_000_000 + port * 12_345)
        return encode.counter_sample(
            [
                encode.counter_record(
                    "if_counters", ifIndex=port, ifType=6, ifSpeed=10_000_000_000, ifDirection=1, ifStatus=3, ifInOctets=octets,
                    ifInUcastPkts=octets // 700, ifInMulticastPkts=port, ifInBroadcastPkts=port, ifInDiscards=0, ifInErrors=0,
                    ifOutOctets=octets * 2, ifOutUcastPkts=octets // 600, ifOutMulticastPkts=0, ifOutBroadcastPkts=0,
                    ifOutDiscards=0, ifOutErrors=0, ifPromiscuousMode=0,
                ),
            ],
            sequence=self._datagrams // 8,
            source=(0, port),
            expanded=self._expanded,
        )  # fmt: skip


def _macs(dice: Dice) -> tuple[int, int]:
    return 0x0200_0000_0000 | dice.below(1 << 24), 0x0200_0000_0000 | dice.below(1 << 24)


def _talk(dice: Dice) -> bytes:
    """A TCP, UDP or ICMP packet between a client and a server."""
    client, server = f"10.20.{dice.below(16)}.{dice.between(1, 254)}", f"203.0.113.{dice.between(1, 254)}"
    port, kind = dice.between(1024, 65535), dice.below(5)
    if kind == 0:
        return packets.ipv4(client, server, 1, packets.icmp(8, 0, bytes(56)))
    if kind == 1:
        return packets.ipv4(client, server, 17, packets.udp(port, 53, NAMES[dice.below(len(NAMES))].encode() * 4))
    return packets.ipv4(client, server, 6, packets.tcp(port, 443, 0x18, bytes(200), sequence=dice.below(1 << 32)), tos=0x28)


def _talk_v6(dice: Dice) -> bytes:
    segment = packets.tcp(dice.between(1024, 65535), 443, 0x10, bytes(200))
    options = bytes([6, 0, 1, 4, 0, 0, 0, 0])  # hop by hop, then TCP
    return packets.ipv6(
        f"2001:db8:20::{dice.between(1, 65535):x}", f"2001:db8:30::{dice.between(1, 65535):x}", 0, options + segment
    )


_Form = Callable[[Dice], tuple[bytes, list[bytes]]]
"""A frame, and the records that come with it beside its header."""


def _plain(dice: Dice) -> tuple[bytes, list[bytes]]:
    frame = packets.ethernet(*_macs(dice), _talk(dice))
    return frame, [encode.flow_record("extended_switch", src_vlan=10, src_priority=0, dst_vlan=20, dst_priority=0)]


def _tagged(dice: Dice) -> tuple[bytes, list[bytes]]:
    return packets.ethernet(*_macs(dice), packets.vlan(dice.between(2, 4000), _talk(dice)), 0x8100), []


def _twice_tagged(dice: Dice) -> tuple[bytes, list[bytes]]:
    inner = packets.vlan(dice.between(2, 4000), _talk(dice))
    return packets.ethernet(*_macs(dice), packets.vlan(dice.between(2, 4000), inner, 0x8100), 0x88A8), []


def _labelled(dice: Dice) -> tuple[bytes, list[bytes]]:
    return packets.ethernet(*_macs(dice), packets.mpls([16001, dice.between(24000, 25000)], _talk(dice)), 0x8847), []


def _routed(dice: Dice) -> tuple[bytes, list[bytes]]:
    gateway = encode.flow_record(
        "extended_gateway", nexthop="192.0.2.254", **{"as": 64500}, src_as=64501, src_peer_as=64501,
        dst_as_path=[[64502, 64503 + dice.below(8)]], communities=[64500 << 16 | 100], localpref=100,
    )  # fmt: skip
    router = encode.flow_record("extended_router", nexthop="192.0.2.253", src_mask_len=24, dst_mask_len=22)
    return packets.ethernet(*_macs(dice), _talk(dice)), [router, gateway]


def _v6(dice: Dice) -> tuple[bytes, list[bytes]]:
    return packets.ethernet(*_macs(dice), _talk_v6(dice), packets.IPV6), []


def _vxlan(dice: Dice) -> tuple[bytes, list[bytes]]:
    inside = packets.vxlan(dice.below(1 << 24), packets.ethernet(*_macs(dice), _talk(dice)))
    outside = packets.ipv4("172.16.0.1", "172.16.0.2", 17, packets.udp(dice.between(49152, 65535), 4789, inside))
    return packets.ethernet(*_macs(dice), outside), []


def _gre(dice: Dice) -> tuple[bytes, list[bytes]]:
    outside = packets.ipv4("172.16.0.1", "172.16.0.2", 47, packets.gre(_talk(dice), key=dice.below(1 << 32)))
    return packets.ethernet(*_macs(dice), outside), []


_FORMS: Final[tuple[_Form, ...]] = (_plain, _plain, _tagged, _twice_tagged, _labelled, _routed, _v6, _vxlan, _gre)
