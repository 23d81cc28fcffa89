"""Templates that repeat the elements of a header for the packet within, and ICMP that is told by a port."""

from __future__ import annotations

import pytest

from tests.protocols.netflow.test_details import one
from weir.protocols.netflow.encode import FieldSpec, ipv4, ipv6
from weir.protocols.netflow.fields import FlowRecord

HEADER = [FieldSpec(7, 2), FieldSpec(11, 2), FieldSpec(4, 1), FieldSpec(6, 1), FieldSpec(5, 1)]
OUTER = [FieldSpec(27, 16), FieldSpec(28, 16), *HEADER]
CARRIER = (ipv6("2001:db8::1"), ipv6("2001:db8::e009"), 0, 0, 4, 0, 0xB8)


def of(record: tuple[int | bytes, ...], inner: int = 4) -> FlowRecord:
    addresses = [FieldSpec(8, 4), FieldSpec(12, 4)] if inner == 4 else [FieldSpec(27, 16), FieldSpec(28, 16)]
    return one([*OUTER, *addresses, *HEADER], record, 10)


def test_the_inner_header_is_the_flow() -> None:
    """Routers at the edge of SRv6 export both headers of what they carry."""
    flow = of((*CARRIER, ipv4("192.0.2.110"), ipv4("192.0.2.14"), 2222, 443, 6, 0x18, 0))
    assert (flow["source_ip"], flow["source_port"], flow["destination_ip"], flow["destination_port"]) == (
        "192.0.2.110", 2222, "192.0.2.14", 443,
    )  # fmt: skip
    assert (flow["network_iana_number"], flow["network_transport"], flow["network_type"]) == (6, "tcp", "ipv4")
    assert (flow["flow_tcp_flags"], flow["flow_tos"]) == (0x18, 0)
    assert flow["additional"] == {
        "sourceIPv6Address": "2001:db8::1", "destinationIPv6Address": "2001:db8::e009", "sourceTransportPort": 0,
        "destinationTransportPort": 0, "protocolIdentifier": 4, "tcpControlBits": 0, "ipClassOfService": 0xB8,
    }  # fmt: skip


def test_addresses_of_the_same_version_are_changed_too() -> None:
    inside = (ipv6("2001:db8:1::1"), ipv6("2001:db8:2::1"), 0, 0x8000, 58, 0, 0)
    flow = of((*CARRIER[:4], 41, *CARRIER[5:], *inside), 6)
    assert (flow["source_ip"], flow["destination_ip"], flow["network_type"]) == ("2001:db8:1::1", "2001:db8:2::1", "ipv6")
    assert (flow["network_transport"], flow["flow_icmp_type"], flow["flow_icmp_code"]) == ("ipv6-icmp", 128, 0)
    assert flow["additional"]["destinationIPv6Address"] == "2001:db8::e009"


@pytest.mark.parametrize("protocol", [17, 4])
def test_a_packet_with_nothing_in_it_is_its_own_flow(protocol: int) -> None:
    """The template has room for an inner header; not every packet has one."""
    flow = of((*CARRIER[:2], 53, 5353, protocol, 0, 0, bytes(4), bytes(4), 0, 0, 0, 0, 0))
    assert (flow["source_ip"], flow["source_port"], flow["network_iana_number"]) == ("2001:db8::1", 53, protocol)


@pytest.mark.parametrize(
    ("protocol", "ports", "expected"),
    [
        (1, (0, 0x0800), (8, 0)),
        (58, (0, 0x8700), (135, 0)),
        (1, (0, 0x0303), (3, 3)),
        (1, (0, 0), (None, None)),
        (1, (77, 0x0800), (None, None)),
        (6, (0, 0x0800), (None, None)),
    ],
)
def test_icmp_without_elements_for_it_is_told_by_the_port(
    protocol: int, ports: tuple[int, int], expected: tuple[int | None, int | None]
) -> None:
    """Cisco's v9 puts type × 256 + code there. Zero may be an echo reply or nothing at all."""
    flow = one([FieldSpec(4, 1), FieldSpec(7, 2), FieldSpec(11, 2)], (protocol, *ports), 9)
    assert (flow.get("flow_icmp_type"), flow.get("flow_icmp_code")) == expected


def test_icmp_elements_that_are_empty_do_not_hide_the_port() -> None:
    flow = one([FieldSpec(4, 1), FieldSpec(7, 2), FieldSpec(11, 2), FieldSpec(32, 2)], (1, 0, 0x0801, 0), 9)
    assert (flow["flow_icmp_type"], flow["flow_icmp_code"]) == (8, 1)
