"""Exporters that send the beginning of sampled packets: what the headers say fills the flow."""

from __future__ import annotations

from socket import inet_aton
from struct import pack

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.protocols.netflow.test_details import one
from weir.protocols.netflow.encode import FieldSpec, ipv4

SECTION = FieldSpec(315, 0xFFFF)
SIZE = FieldSpec(312, 2)


def frame(payload: bytes = pack(">HHHH", 5353, 53, 8, 0), vlan: int = 231, length: int = 96) -> bytes:
    header = pack(">BBHHHBBH4s4s", 0x45, 8, length, 0, 0, 64, 17, 0, inet_aton("192.0.2.7"), inet_aton("198.51.100.9"))
    return bytes.fromhex("021122334455") + bytes.fromhex("02aabbccddee") + pack(">HHH", 0x8100, vlan, 0x0800) + header + payload


def test_a_frame_section_gives_addresses_and_the_length_of_the_ip_packet() -> None:
    flow = one([SIZE, SECTION], (114, frame()), 10)
    assert {name: flow.get(name) for name in ("source_ip", "source_port", "destination_ip", "destination_port")} == {
        "source_ip": "192.0.2.7", "source_port": 5353, "destination_ip": "198.51.100.9", "destination_port": 53,
    }  # fmt: skip
    assert (flow["network_transport"], flow["network_type"], flow["vlan_id"], flow["flow_tos"]) == ("udp", "ipv4", 231, 8)
    assert (flow["source_mac"], flow["destination_mac"]) == ("02-AA-BB-CC-DD-EE", "02-11-22-33-44-55")
    assert (flow["network_bytes"], flow["flow_raw_bytes"], flow["network_packets"]) == (96, 114, 1)


def test_what_the_record_says_itself_is_not_replaced_and_sampling_scales() -> None:
    specs = [FieldSpec(8, 4), FieldSpec(34, 4), SIZE, SECTION]
    flow = one(specs, (ipv4("203.0.113.5"), 1000, 114, frame()), 10)
    assert (flow["source_ip"], flow["destination_ip"]) == ("203.0.113.5", "198.51.100.9")
    assert (flow["network_bytes"], flow["network_packets"], flow["flow_raw_packets"]) == (96_000, 1000, 1)


def test_an_ip_section_begins_with_the_ip_header() -> None:
    flow = one([FieldSpec(313, 0xFFFF)], (frame()[18:],), 10)
    assert (flow["source_ip"], flow["destination_port"], flow["network_bytes"]) == ("192.0.2.7", 53, 96)


def test_what_a_tunnel_carries_is_told_beside_the_outer_header() -> None:
    """SRv6 without a routing header is IPv4 in IPv6."""
    outer = pack(">IHBB", 0x6000_0000, len(frame()) - 18, 4, 64) + bytes(15) + b"\1" + bytes(15) + b"\2"
    flow = one([FieldSpec(313, 0xFFFF)], (outer + frame()[18:],), 10)
    assert (flow["source_ip"], flow["network_transport"]) == ("::1", "ipip")
    assert flow["additional"]["tunnel"] == "ipip"
    assert flow["additional"]["inner"] == {
        "source_ip": "192.0.2.7", "destination_ip": "198.51.100.9", "iana_number": 17, "source_port": 5353,
        "destination_port": 53, "tos": 8, "ip_length": 96,
    }  # fmt: skip


def test_a_frame_that_is_no_ethernet_stays_bytes() -> None:
    flow = one([FieldSpec(408, 2), SECTION], (2, frame()), 10)
    assert "source_ip" not in flow
    assert flow["additional"]["dataLinkFrameSection"] == frame().hex()


@given(st.binary(max_size=80))
@settings(max_examples=100)
def test_any_bytes_make_a_flow(data: bytes) -> None:
    assert one([SECTION], (data,), 10)["additional"]["dataLinkFrameSection"] == data.hex()
