"""What packets carried: datagrams whole, connections in order, under every link layer, within bounds."""

from __future__ import annotations

import random
from struct import pack

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.protocols.capture_files import DESTINATION, SOURCE, ethernet, fragments, ip, pcap, tcp, udp
from weir.protocols import capture
from weir.protocols.capture import Carrier, Datagram, Segment
from weir.protocols.pcap import CapturedPacket, PcapParser

SIX, OTHER_SIX = "2001:db8::7", "2001:db8::9"


def carry(packets: list[bytes], link: int = 1, carrier: Carrier | None = None) -> list[Datagram | Segment]:
    carrier = carrier or Carrier()
    found: list[Datagram | Segment] = []
    for number, data in enumerate(packets, 1):
        found += carrier.packet(CapturedPacket(number, number, link, data, len(data)))
    return [*found, *carrier.finish()]


def texts(packets: list[bytes], link: int = 1) -> list[bytes]:
    return [one.data for one in carry(packets, link)]


@pytest.mark.parametrize(
    ("link", "before"),
    [
        (1, bytes(12) + b"\x08\x00"),
        (1, bytes(12) + b"\x81\x00\x00\x07\x08\x00"),
        (1, bytes(12) + b"\x88\xa8\x00\x07\x81\x00\x00\x08\x08\x00"),
        (113, bytes(14) + b"\x08\x00"),
        (276, b"\x08\x00" + bytes(18)),
        (0, b"\x02\0\0\0"),
        (108, b"\0\0\0\x02"),
        *((raw, b"") for raw in (12, 14, 101, 228)),
    ],
)
def test_a_datagram_is_found_under_every_link_layer(link: int, before: bytes) -> None:
    [found] = carry([before + ip(udp(b"hello", 2055, source_port=7), 17)], link)
    assert found == Datagram(1, 1, SOURCE, 7, 2055, b"hello")


def test_the_padding_of_a_short_frame_is_no_part_of_it() -> None:
    assert texts([ethernet(ip(udp(b"x"), 17))]) == [b"x"]


def test_ipv6_with_extension_headers() -> None:
    hops = bytes([60, 0]) + bytes(6)
    options = bytes([17, 1]) + bytes(14)
    [found] = carry([ethernet(ip(udp(b"six"), 17, SIX, OTHER_SIX, extensions=hops + options))])
    assert (found.source_ip, found.data) == (SIX, b"six")


@pytest.mark.parametrize(("source", "destination"), [(SOURCE, DESTINATION), (SIX, OTHER_SIX)])
def test_fragments_become_whole_in_any_order_and_repeated(source: str, destination: str) -> None:
    payload = udp(bytes(range(256)) * 12)
    parts = [ethernet(part) for part in fragments(payload, 640, source, destination)]
    for seed in range(5):
        mixed = parts + parts[1:2]
        random.Random(seed).shuffle(mixed)
        carrier = Carrier()
        assert [one.data for one in carry(mixed, carrier=carrier)] == [payload[8:]]


def test_a_fragment_that_never_comes_is_counted() -> None:
    carrier = Carrier()
    parts = fragments(udp(bytes(2000)), 800)
    assert carry([ethernet(part) for part in parts[:-1]], carrier=carrier) == []
    assert carrier.incomplete == 1


def test_fragments_of_many_packets_do_not_pile_up() -> None:
    carrier = Carrier()
    for number in range(3 * capture.MAX_FRAGMENTED):
        part = bytearray(fragments(udp(bytes(2000)), 800)[0])
        part[4:6] = pack(">H", number)
        list(carrier.packet(CapturedPacket(number, 0, 101, bytes(part), len(part))))
    assert len(carrier._fragments) == capture.MAX_FRAGMENTED
    assert carrier.incomplete == 2 * capture.MAX_FRAGMENTED


def test_a_datagram_cut_by_the_capture_says_how_much_is_lost() -> None:
    packet = ethernet(ip(udp(bytes(100)), 17))
    [found] = carry([packet[:-60]])
    assert isinstance(found, Datagram)
    assert (len(found.data), found.lost) == (40, 60)


def test_what_is_neither_udp_nor_tcp_is_counted() -> None:
    carrier = Carrier()
    arp, icmp = bytes(12) + b"\x08\x06" + bytes(28), ethernet(ip(b"\x08\0" + bytes(6), 1))
    assert carry([arp, icmp, b"", b"\0" * 13], carrier=carrier) == []
    assert carrier.passed_over == 4


# TCP


def connection(pieces: list[bytes], *, start: int = 1000, fin: bool = True) -> list[bytes]:
    """SYN, the pieces, and FIN with the last."""
    packets = [ip(tcp(b"", start, flags=2), 6)]
    at = start + 1
    for piece in pieces:
        packets.append(ip(tcp(piece, at), 6))
        at += len(piece)
    return [*packets, ip(tcp(b"", at, flags=0x11), 6)] if fin else packets


def stream(packets: list[bytes]) -> tuple[bytes, list[Segment]]:
    found = [one for one in carry(packets, 101) if isinstance(one, Segment)]
    return b"".join(one.data for one in found), found


def test_a_connection_comes_in_order_with_its_beginning_and_end() -> None:
    data, found = stream(connection([b"one ", b"two ", b"three"]))
    assert data == b"one two three"
    assert [(one.first, one.last) for one in found] == [(True, False), (False, False), (False, False), (False, True)]


@pytest.mark.parametrize("start", [1000, 2**32 - 3])
def test_segments_out_of_order_overlapping_and_repeated_become_the_stream(start: int) -> None:
    whole = bytes(range(200))
    for seed in range(10):
        chance = random.Random(seed)
        cuts = [(at, min(200, at + chance.randint(10, 40))) for at in range(0, 200, 10)]
        middle = [ip(tcp(whole[a:b], start + 1 + a), 6) for a, b in cuts]
        chance.shuffle(middle)
        packets = [ip(tcp(b"", start, flags=2), 6), *middle, ip(tcp(b"", start + 201, flags=0x11), 6), *middle[:3]]
        assert stream(packets)[0] == whole


def test_a_gap_is_gone_over_at_the_end_and_what_follows_begins_anew() -> None:
    packets = connection([b"lost", b"after"], fin=False)
    carrier = Carrier()
    found = carry([packets[0], packets[2]], 101, carrier)
    assert [(one.data, one.first) for one in found if isinstance(one, Segment)] == [(b"after", True)]
    assert carrier.incomplete == 1


def test_a_connection_that_began_before_the_capture_is_taken_from_where_it_is_seen() -> None:
    data, found = stream(connection([b"one ", b"two "])[2:])
    assert data == b"two "
    assert found[0].first


def test_a_port_used_again_is_a_new_connection() -> None:
    packets = connection([b"first"]) + connection([b"second"], start=900_000)
    assert [one.data for one in stream(packets)[1] if one.first] == [b"first", b"second"]


def test_segments_before_their_turn_are_kept_within_bounds() -> None:
    carrier = Carrier()
    list(carrier.packet(CapturedPacket(1, 0, 101, ip(tcp(b"", 0, flags=2), 6), 40)))
    given_up = 0
    for number in range(3 * capture.MAX_AHEAD):
        packet = ip(tcp(b"x", 10 + 2 * number), 6)
        given_up += len(list(carrier.packet(CapturedPacket(2, 0, 101, packet, len(packet)))))
        assert carrier._ahead <= capture.MAX_AHEAD + 1
    assert given_up >= 2 * capture.MAX_AHEAD - 2


def test_directions_are_kept_within_bounds() -> None:
    carrier = Carrier()
    for port in range(2 * capture.MAX_CONNECTIONS):
        packet = ip(tcp(b"x", 1, source_port=port), 6)
        list(carrier.packet(CapturedPacket(1, 0, 101, packet, len(packet))))
    assert len(carrier._directions) == capture.MAX_CONNECTIONS


@settings(max_examples=150, deadline=None)
@given(st.lists(st.binary(max_size=120), max_size=8), st.sampled_from([0, 1, 12, 101, 108, 113, 276, 999]))
def test_no_bytes_raise(packets: list[bytes], link: int) -> None:
    carry(packets, link)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_changed_packets_raise_nothing(data: st.DataObject) -> None:
    packets = [ethernet(part) for part in fragments(udp(bytes(300)), 80)] + [
        ethernet(packet, vlans=(3,)) for packet in connection([b"one", b"two"])
    ]
    for _ in range(data.draw(st.integers(1, 8))):
        which = data.draw(st.integers(0, len(packets) - 1))
        changed = bytearray(packets[which])
        changed[data.draw(st.integers(0, len(changed) - 1))] = data.draw(st.integers(0, 255))
        packets[which] = bytes(changed)
    carry(packets)


def test_a_whole_file_is_read_through_both() -> None:
    parser = PcapParser()
    packets = parser.feed(pcap([ethernet(ip(udp(b"<13>hello"), 17))]))
    assert [one.data for packet in packets for one in Carrier().packet(packet)] == [b"<13>hello"]
