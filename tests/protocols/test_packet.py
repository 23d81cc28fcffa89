"""Headers of packets, one link layer and tunnel after the other."""

from __future__ import annotations

from struct import pack

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weir.local.generate.packets import ethernet, gre, icmp, ipv4, ipv6, mpls, tcp, udp, vlan, vxlan
from weir.protocols import packet

IPV4, IPV6 = 0x0800, 0x86DD
MACS = 0x020000000001, 0x02AABBCCDDEE
WEB = tcp(40000, 443, 0x18, b"GET /")
INSIDE = ipv4("192.168.1.1", "192.168.1.2", 17, udp(1, 2, b"x"))


def framed(payload: bytes, ethertype: int = IPV4) -> packet.Packet:
    return packet.ethernet(ethernet(*MACS, payload, ethertype))


def conversation(found: packet.Packet | None) -> tuple[object, ...]:
    assert found is not None
    return found.source_ip, found.source_port, found.destination_ip, found.destination_port, found.protocol


def test_a_plain_tcp_packet_gives_every_field() -> None:
    found = framed(ipv4("10.0.0.1", "203.0.113.9", 6, WEB, tos=0xB8, ttl=57))
    assert conversation(found) == ("10.0.0.1", 40000, "203.0.113.9", 443, 6)
    assert (found.source_mac, found.destination_mac) == ("02-00-00-00-00-01", "02-AA-BB-CC-DD-EE")
    assert (found.version, found.tos, found.ttl, found.tcp_flags, found.length) == (4, 0xB8, 57, 0x18, 20 + len(WEB))
    assert not found.cut
    assert found.inner is None


def test_ip_options_are_passed_over() -> None:
    found = framed(ipv4("10.0.0.1", "10.0.0.2", 6, WEB, options=b"\x94\x04\0\0" * 3))
    assert conversation(found) == ("10.0.0.1", 40000, "10.0.0.2", 443, 6)


def test_icmp_has_a_type_and_a_code_and_no_ports() -> None:
    found = framed(ipv4("10.0.0.1", "10.0.0.2", 1, icmp(3, 13)))
    assert (found.icmp_type, found.icmp_code, found.source_port) == (3, 13, None)


def test_a_later_fragment_has_no_ports() -> None:
    """What stands where the ports would be is payload."""
    found = framed(ipv4("10.0.0.1", "10.0.0.2", 17, b"\xff" * 40, fragment=0x2000 | 185))
    assert (found.fragment_offset, found.source_port, found.protocol) == (1480, None, 17)
    first = framed(ipv4("10.0.0.1", "10.0.0.2", 17, udp(7, 9, b""), fragment=0x2000))
    assert (first.fragment_offset, first.source_port) == (0, 7)


@pytest.mark.parametrize("ethertype", [0x8100, 0x88A8, 0x9100])
def test_vlan_tags_are_told_from_the_outside_inwards(ethertype: int) -> None:
    twice = vlan(200, vlan(30, ipv4("10.0.0.1", "10.0.0.2", 6, WEB), priority=5), 0x8100)
    found = framed(twice, ethertype)
    assert found.vlans == (200, 30)
    assert found.ethertype == IPV4
    assert found.source_port == 40000


def test_endless_vlan_tags_are_given_up() -> None:
    found = framed(vlan(1, b"", 0x8100) * 5000, 0x8100)
    assert len(found.vlans) == packet.MAX_TAGS
    assert found.cut


def test_llc_snap_is_read_and_other_llc_left() -> None:
    found = packet.ethernet(ethernet(*MACS, b"\xaa\xaa\x03\0\0\0\x08\0" + ipv4("10.0.0.1", "10.0.0.2", 6, WEB), 300))
    assert found.source_port == 40000
    spanning_tree = packet.ethernet(ethernet(*MACS, b"\x42\x42\x03" + bytes(35), 38))
    assert (spanning_tree.version, spanning_tree.ethertype) == (None, None)


def test_mpls_labels_lead_to_either_ip_or_a_pseudowire() -> None:
    labels = [16001, 24005]
    four = framed(mpls(labels, ipv4("10.0.0.1", "10.0.0.2", 6, WEB)), 0x8847)
    assert (four.labels, four.source_ip) == ((16001, 24005), "10.0.0.1")
    six = framed(mpls(labels, ipv6("2001:db8::1", "2001:db8::2", 6, WEB)), 0x8847)
    assert six.source_ip == "2001:db8::1"
    wire = framed(mpls([7], bytes(4) + ethernet(*MACS, INSIDE)), 0x8847)
    assert wire.source_ip is None
    assert wire.tunnel == "pseudowire"
    assert conversation(wire.inner) == ("192.168.1.1", 1, "192.168.1.2", 2, 17)
    assert wire.outermost_ip() is wire.inner


def test_ipv6_extension_headers_are_passed_over() -> None:
    hop_by_hop = bytes([43, 0]) + bytes(6)
    routing = bytes([60, 2]) + bytes(22)
    options = bytes([51, 0]) + bytes(6)
    authentication = bytes([6, 4]) + bytes(22)
    found = framed(
        ipv6("2001:db8::1", "2001:db8::2", 0, hop_by_hop + routing + options + authentication + WEB, traffic_class=0x2E), IPV6
    )
    assert conversation(found) == ("2001:db8::1", 40000, "2001:db8::2", 443, 6)
    assert (found.tos, found.version) == (0x2E, 6)


def test_an_ipv6_fragment_tells_its_protocol_and_no_ports() -> None:
    first = framed(ipv6("2001:db8::1", "2001:db8::2", 44, bytes([17, 0, 0, 1]) + bytes(4) + udp(5, 6, b"")), IPV6)
    later = framed(ipv6("2001:db8::1", "2001:db8::2", 44, bytes([17, 0]) + pack(">H", 1448) + bytes(4) + b"\xff" * 20), IPV6)
    assert (first.source_port, first.fragment_offset) == (5, 0)
    assert (later.protocol, later.fragment_offset, later.source_port) == (17, 1448, None)


def test_gre_carries_ip_or_ethernet_with_any_of_its_fields() -> None:
    def carried(body: bytes) -> packet.Packet:
        return framed(ipv4("172.16.0.1", "172.16.0.2", 47, body))

    plain = carried(gre(INSIDE))
    keyed = carried(gre(ethernet(*MACS, vlan(9, INSIDE), 0x8100), 0x6558, key=77))
    full = carried(pack(">HHHHII", 0xB000, IPV4, 0, 0, 5, 6) + INSIDE)
    assert (plain.tunnel, plain.tunnel_id) == ("gre", None)
    assert (keyed.tunnel, keyed.tunnel_id) == ("gre", 77)
    assert keyed.inner is not None
    assert keyed.inner.vlans == (9,)
    assert full.tunnel_id == 5
    for found in (plain, keyed, full):
        assert found.source_ip == "172.16.0.1"
        assert conversation(found.inner) == ("192.168.1.1", 1, "192.168.1.2", 2, 17)


def test_erspan_carries_the_mirrored_frame() -> None:
    second = pack(">HHI", 0x1000, 0x88BE, 1) + pack(">HHI", 0x1000 | 10, 0x0000 | 42, 0) + ethernet(*MACS, INSIDE)
    third = pack(">HHI", 0x1000, 0x22EB, 1) + pack(">HHII", 0x2000, 42, 0, 0) + ethernet(*MACS, INSIDE)
    for body in (second, third):
        found = framed(ipv4("172.16.0.1", "172.16.0.2", 47, body))
        assert (found.tunnel, found.tunnel_id) == ("erspan", 42)
        assert conversation(found.inner) == ("192.168.1.1", 1, "192.168.1.2", 2, 17)


def test_vxlan_and_geneve_carry_frames_under_their_network_id() -> None:
    frame = ethernet(*MACS, INSIDE)
    over = framed(ipv4("172.16.0.1", "172.16.0.2", 17, udp(50000, 4789, vxlan(5001, frame))))
    assert (over.tunnel, over.tunnel_id, over.destination_port) == ("vxlan", 5001, 4789)
    assert conversation(over.inner) == ("192.168.1.1", 1, "192.168.1.2", 2, 17)
    options = pack(">HHI", 0x0200, 0x6558, 5002 << 8) + bytes(8)
    geneve = framed(ipv6("2001:db8::1", "2001:db8::2", 17, udp(50000, 6081, options + frame)), IPV6)
    assert (geneve.tunnel, geneve.tunnel_id) == ("geneve", 5002)
    assert conversation(geneve.inner) == ("192.168.1.1", 1, "192.168.1.2", 2, 17)
    no_vxlan = framed(ipv4("172.16.0.1", "172.16.0.2", 17, udp(50000, 4789, b"GET / HTTP/1.0")))
    assert no_vxlan.tunnel is None


def test_ip_in_ip_and_the_other_link_layers() -> None:
    inside6 = ipv6("2001:db8::1", "2001:db8::2", 6, WEB)
    assert conversation(framed(ipv4("172.16.0.1", "172.16.0.2", 4, INSIDE)).inner)[0] == "192.168.1.1"
    assert conversation(framed(ipv4("172.16.0.1", "172.16.0.2", 41, inside6)).inner)[0] == "2001:db8::1"
    pppoe = framed(pack(">BBHH", 0x11, 0, 1, 0) + b"\0\x21" + INSIDE, 0x8864)
    assert pppoe.source_ip == "192.168.1.1"
    backbone = framed(pack(">I", 0x0300_0000 | 70000) + ethernet(*MACS, INSIDE), 0x88E7)
    assert (backbone.tunnel, backbone.tunnel_id) == ("pbb", 70000)
    assert conversation(backbone.outermost_ip())[0] == "192.168.1.1"
    assert packet.ppp(b"\xff\x03\0\x57" + inside6).source_ip == "2001:db8::1"
    assert packet.mpls(mpls([3], INSIDE)).source_ip == "192.168.1.1"
    assert packet.ip(inside6).source_port == 40000


def test_layers_are_limited() -> None:
    """A packet in a packet in a packet… is read to a depth, not to the end of the stack."""
    data = INSIDE
    for _ in range(2000):
        data = ipv4("10.0.0.1", "10.0.0.2", 4, data, length=40)
    found: packet.Packet | None = packet.ip(data)
    layers = 0
    while found is not None:
        layers, found = layers + 1, found.inner
    assert layers == packet.MAX_LAYERS


def test_a_header_that_is_cut_gives_what_it_has() -> None:
    whole = ethernet(*MACS, ipv4("10.0.0.1", "10.0.0.2", 6, WEB))
    seen: list[tuple[object, ...]] = []
    for length in range(len(whole)):
        found = packet.ethernet(whole[:length])
        seen.append((found.source_mac, found.source_ip, found.source_port, found.tcp_flags))
        assert found.cut == (length < 14 + 20 + 14)
    assert seen[13] == (None, None, None, None)
    assert seen[33][1:] == (None, None, None)
    assert seen[34][1:] == ("10.0.0.1", None, None)
    assert seen[38][2:] == (40000, None)
    assert seen[48][2:] == (40000, 0x18)


@pytest.mark.parametrize(
    ("address", "text"),
    [
        ("2001:db8::1", "2001:db8::1"),
        ("::ffff:192.0.2.1", "::ffff:c000:201"),
        ("::192.0.2.1", "::c000:201"),
        ("::", "::"),
        ("::1", "::1"),
    ],
)
def test_text_of_an_ipv6_address_has_no_dotted_quad(address: str, text: str) -> None:
    """So that it is the same on every system, and the same as in NetFlow's events."""
    from ipaddress import IPv6Address

    assert packet.ipv6_text(IPv6Address(address).packed) == text


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes_are_some_packet(data: bytes) -> None:
    for read in (packet.ethernet, packet.ip, packet.mpls, packet.ppp):
        read(data)


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from([0x0800, 0x86DD, 0x8847, 0x8100, 0x8864, 0x88E7]),
    st.sampled_from([4, 17, 41, 44, 47, 0, 60]),
    st.binary(max_size=120),
)
def test_any_bytes_behind_a_known_header_are_some_packet(ethertype: int, protocol: int, data: bytes) -> None:
    for payload in (
        data,
        ipv4("10.0.0.1", "10.0.0.2", protocol, data),
        ipv6("2001:db8::1", "2001:db8::2", protocol, data),
        ipv4("10.0.0.1", "10.0.0.2", 17, udp(1, 4789, b"\x08" + data)),
        ipv4("10.0.0.1", "10.0.0.2", 17, udp(1, 6081, data)),
    ):
        framed(payload, ethertype)
