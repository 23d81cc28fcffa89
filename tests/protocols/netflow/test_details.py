"""Events of NAT and firewalls, labels, segments, users, names by options: what flows say beside addresses and counts."""

from __future__ import annotations

from typing import Any

import pytest

from weir.protocols.netflow import Decoder, FlowRecord, NameRecord, TemplateStore
from weir.protocols.netflow.encode import (
    DataSet,
    FieldSpec,
    Message,
    Template,
    V5Datagram,
    V5Flow,
    encode,
    encode_v7,
    ipv4,
    ipv6,
)

EXPORT = 1_700_000_000
FIELDS = ("event_action", "event_type", "event_outcome", "event_code", "event_reason")


def one(specs: list[FieldSpec], record: tuple[int | bytes, ...], version: int = 9) -> FlowRecord:
    template = Template(256, specs)
    result = Decoder().decode(encode(Message(version, EXPORT, [template, DataSet(template, [record])])))
    assert result.complete, result.errors
    return result.flows[0]


def told(flow: FlowRecord) -> tuple[Any, ...]:
    return tuple(flow.get(name) for name in FIELDS)


def test_v7_is_v5_with_the_router_that_it_was_taken_from() -> None:
    flow = V5Flow(
        "192.0.2.1", "198.51.100.2", 51000, 443, 6, 12, 3456, 50_000, 59_000, input_interface=3, output_interface=4,
        source_mask=24, destination_mask=16, router="203.0.113.7",
    )  # fmt: skip
    datagram = encode_v7(V5Datagram([flow] * 3, EXPORT, 500_000_000, uptime=60_000, sequence=9))
    result = Decoder().decode(datagram)
    assert result.complete
    assert (result.header.version, result.header.domain, result.header.sequence, len(result.flows)) == (7, 0, 9, 3)
    found = result.flows[2]
    assert (found["flow_protocol"], found["source_ip"], found["destination_port"]) == ("netflow-v7", "192.0.2.1", 443)
    assert (found["network_bytes"], found["source_packets"]) == (3456, 12)
    assert found["event_end_us"] == EXPORT * 1_000_000 + 500_000 - 1_000_000
    assert found["additional"] == {
        "sourceIPv4PrefixLength": 24, "destinationIPv4PrefixLength": 16, "ipv4RouterSc": "203.0.113.7",
    }  # fmt: skip
    assert Decoder().decode(datagram[:-10]).errors == ["offset 128: the header counts 3 records, 2 are there"]


@pytest.mark.parametrize(
    ("event", "extended", "expected"),
    [
        (1, 0, ("firewall_flow_created", ["connection", "allowed", "start"], "success", "1", None)),
        (2, 2025, ("firewall_flow_deleted", ["connection", "end"], "success", "2025", None)),
        (3, 1001, ("firewall_flow_denied", ["connection", "denied"], "failure", "1001", "denied by an ingress ACL")),
        (5, 0, ("firewall_flow_update", ["connection", "info"], "success", "5", None)),
        (0, 0, (None,) * 5),
        (77, 9, (None,) * 5),
    ],
)
def test_firewall_events_of_cisco_asa(event: int, extended: int, expected: tuple[Any, ...]) -> None:
    """As IANA numbers them, with what ASA tells beside, and a user by name."""
    specs = [FieldSpec(8, 4), FieldSpec(233, 1), FieldSpec(33002, 2), FieldSpec(40000, 20)]
    flow = one(specs, (ipv4("192.0.2.1"), event, extended, b"LOCAL\\bob"))
    assert told(flow) == expected
    assert (flow["user_name"], flow["user_domain"], flow["user_id"]) == ("bob", "LOCAL", "LOCAL\\bob")
    assert flow["additional"] == {"firewallEvent": event, "firewallEventExtended": extended}
    old = one([FieldSpec(40005, 1), FieldSpec(40001, 4), FieldSpec(40003, 2)], (event, ipv4("203.0.113.1"), 4096))
    assert told(old)[:3] == expected[:3]
    assert (old["source_nat_ip"], old["source_nat_port"]) == ("203.0.113.1", 4096)


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        (4, ("nat44_session_create", ["connection", "start"], "success", "4", None)),
        (7, ("nat64_session_delete", ["connection", "end"], "success", "7", None)),
        (12, ("nat_ports_exhausted", ["connection", "error"], "failure", "12", None)),
        (0, (None,) * 5),
    ],
)
def test_nat_events(event: int, expected: tuple[Any, ...]) -> None:
    flow = one([FieldSpec(230, 1), FieldSpec(225, 4), FieldSpec(323, 8)], (event, ipv4("203.0.113.1"), EXPORT * 1000), 10)
    assert told(flow) == expected
    assert (flow["source_nat_ip"], flow["event_end_us"]) == ("203.0.113.1", EXPORT * 1_000_000)


def test_a_forwarding_status_of_dropped_is_a_failure_and_of_an_acl_a_denial() -> None:
    assert told(one([FieldSpec(89, 1)], (64,))) == (None,) * 5
    assert told(one([FieldSpec(89, 1)], (137,)))[2:] == ("failure", None, "bad TTL")
    assert told(one([FieldSpec(89, 4)], (129,), 10))[1:3] == (["connection", "denied"], "failure")


def test_mpls_labels_are_a_list_top_first_and_zeros_are_none() -> None:
    """Label 24005 and 16 with class and bottom of stack; the third section is unused, the order of the fields does not matter."""
    specs = [FieldSpec(71, 3), FieldSpec(70, 3), FieldSpec(72, 3)]
    flow = one(specs, ((16 << 4 | 1), 24005 << 4 | 0xE, 0))
    assert flow["flow_mpls_labels"] == ["24005", "16"]
    assert flow["additional"]["mplsTopLabelStackSection"] == "05dc5e"
    assert "flow_mpls_labels" not in one(specs, (0, 0, 0))
    repeated = one([FieldSpec(70, 3), FieldSpec(70, 3)], (5 << 4, 6 << 4 | 1))
    assert repeated["flow_mpls_labels"] == ["5", "6"]


def test_a_segment_id_is_without_the_byte_of_its_encapsulation() -> None:
    flow = one([FieldSpec(351, 8)], (1 << 56 | 5001,), 10)
    assert (flow["flow_vni"], flow["additional"]["layer2SegmentId"]) == (5001, 1 << 56 | 5001)
    assert "flow_vni" not in one([FieldSpec(351, 8)], (0,), 10)
    assert one([FieldSpec(351, 3)], (5001,), 10)["flow_vni"] == 5001


def test_applications_and_users_of_vendors() -> None:
    """PAN-OS and nProbe in NetFlow v9, nProbe and Citrix in IPFIX, YAF by the number of a port."""
    palo = one([FieldSpec(56701, 16), FieldSpec(56702, 16)], (b"ssl", b"corp\\alice"))
    assert (palo["application_name"], palo["user_name"], palo["user_domain"]) == ("ssl", "alice", "corp")
    probe = one([FieldSpec(57590, 2), FieldSpec(57591, 16)], (7, b"HTTP"))
    assert (probe["application_name"], probe["additional"]) == ("HTTP", {"l7Proto": 7})
    assert one([FieldSpec(119, 65535, 35632)], (b"DNS",), 10)["application_name"] == "DNS"
    citrix = one([FieldSpec(205, 65535, 5951), FieldSpec(130, 65535, 5951)], (b"carol", b"/index.html"), 10)
    assert (citrix["user_name"], citrix["user_id"], citrix["additional"]) == ("carol", "carol", {"httpReqUrl": "/index.html"})
    assert one([FieldSpec(33, 2, 6871)], (53,), 10)["network_protocol"] == "dns"
    nobody = one([FieldSpec(371, 65535)], (b"",), 10)
    assert nobody["user_name"] is None
    assert "user_id" not in nobody


def test_a_flow_id_is_text() -> None:
    assert one([FieldSpec(148, 8)], (2**64 - 1,), 10)["flow_id"] == str(2**64 - 1)
    assert one([FieldSpec(148, 3)], (9,), 10)["flow_id"] == "9"


class TestNames:
    FLOWS = Template(256, [FieldSpec(10, 4), FieldSpec(14, 4), FieldSpec(95, 4), FieldSpec(234, 4)])
    INTERFACES = Template(257, [FieldSpec(82, 16), FieldSpec(83, 32)], [FieldSpec(10, 4)])
    APPLICATIONS = Template(258, [FieldSpec(96, 16)], [FieldSpec(95, 4)])
    VRFS = Template(259, [FieldSpec(236, 16)], [FieldSpec(234, 4)])
    DATA = DataSet(FLOWS, [(3, 4, 3 << 24 | 80, 7), (4, 9, 0, 0)])

    def names(self) -> list[Any]:
        return [
            self.INTERFACES, DataSet(self.INTERFACES, [(3, b"Gi0/3", b"uplink"), (4, b"", b"to the lab")]),
            self.APPLICATIONS, DataSet(self.APPLICATIONS, [(3 << 24 | 80, b"http")]),
            self.VRFS, DataSet(self.VRFS, [(7, b"red")]),
        ]  # fmt: skip

    def check(self, flows: list[FlowRecord]) -> None:
        first, second = flows
        assert first["observer_ingress_interface_name"] == "Gi0/3"
        assert first["observer_egress_interface_name"] == "to the lab"
        assert first["application_name"] == "http"
        assert first["additional"]["ingressVRFName"] == "red"
        assert second["observer_ingress_interface_name"] == "to the lab"
        assert "observer_egress_interface_name" not in second
        assert second.get("application_name") is None

    def test_names_announced_before_the_data_are_used(self) -> None:
        result = Decoder().decode(encode(Message(10, EXPORT, [*self.names(), self.FLOWS, self.DATA])))
        self.check(result.flows)

    def test_names_come_with_the_batch_and_only_those_that_are_needed(self) -> None:
        store = TemplateStore()
        more = [self.INTERFACES, DataSet(self.INTERFACES, [(77, b"Gi0/77", b"")])]
        store.learn(encode(Message(10, EXPORT, [*self.names(), *more, self.FLOWS])))
        data = encode(Message(10, EXPORT, [self.DATA]))
        needs = store.needs([data])
        assert "77" not in {name.key for name in needs.names}
        self.check(Decoder(*needs[:3]).decode(data).flows)

    def test_names_of_another_domain_are_not(self) -> None:
        decoder = Decoder([], [], [NameRecord(10, 1, "interface", "3", "other")])
        flow = decoder.decode(encode(Message(10, EXPORT, [self.FLOWS, self.DATA], domain=2))).flows[0]
        assert "observer_ingress_interface_name" not in flow

    def test_a_name_that_is_given_anew_closes_the_batch_before_it(self) -> None:
        """Data that came before it is decoded with the name of its time."""
        store = TemplateStore()
        store.learn(encode(Message(10, EXPORT, self.names())))
        renamed = encode(Message(10, EXPORT, [DataSet(self.INTERFACES, [(3, b"Gi0/3.7", b"uplink")])]))
        assert store.replaces(renamed)
        assert not store.replaces(encode(Message(10, EXPORT, [DataSet(self.INTERFACES, [(3, b"Gi0/3", b"uplink")])])))

    def test_an_application_of_an_enterprise_is_named_by_it(self) -> None:
        """Engine 20 of RFC 6759: the selector begins with an enterprise number, as Fortinet's does."""
        identity = b"\x14" + (12356).to_bytes(4, "big") + (40568).to_bytes(4, "big")
        options = Template(258, [FieldSpec(96, 32)], [FieldSpec(95, 9)])
        flows = Template(256, [FieldSpec(95, 9)])
        sets = [options, DataSet(options, [(identity, b"HTTPS.BROWSER")]), flows, DataSet(flows, [(identity,)])]
        (flow,) = Decoder().decode(encode(Message(10, EXPORT, sets))).flows
        assert flow["application_name"] == "HTTPS.BROWSER"
        assert flow["additional"]["applicationId"] == "20:12356:40568"


class TestDirections:
    def test_one_way_counts_are_those_from_source_to_destination(self) -> None:
        flow = one([FieldSpec(1, 4), FieldSpec(2, 4), FieldSpec(34, 4)], (1000, 10, 100))
        assert (flow["source_bytes"], flow["source_packets"], flow["network_bytes"]) == (100_000, 1000, 100_000)
        assert (flow["flow_raw_bytes"], flow["flow_raw_packets"]) == (1000, 10)
        assert "destination_bytes" not in flow

    def test_an_initiator_without_responder_is_counted_too(self) -> None:
        flow = one([FieldSpec(231, 4), FieldSpec(298, 4)], (69, 2))
        assert (flow["source_bytes"], flow["network_bytes"], flow["source_packets"]) == (69, 69, 2)
        assert "destination_bytes" not in flow

    def test_vendors_and_rfc_5103_count_the_way_back(self) -> None:
        ixia = one([FieldSpec(1, 4), FieldSpec(176, 8, 3054)], (10, 20), 10)
        assert (ixia["source_bytes"], ixia["destination_bytes"], ixia["network_bytes"]) == (10, 20, 30)
        reverse = one([FieldSpec(2, 4), FieldSpec(2, 4, 29305), FieldSpec(6, 1, 29305)], (1, 2, 0x12), 10)
        assert (reverse["source_packets"], reverse["destination_packets"], reverse["network_packets"]) == (1, 2, 3)
        assert reverse["additional"]["reverseTcpControlBits"] == 0x12


@pytest.mark.parametrize(
    ("hops", "expected"),
    [
        ((ipv4("192.0.2.9"), ipv4("203.0.113.7")), "192.0.2.9"),
        ((bytes(4), ipv4("203.0.113.7")), "203.0.113.7"),
        ((bytes(4), bytes(4)), "0.0.0.0"),
    ],
)
def test_the_next_hop_of_bgp_stands_in_for_that_of_ip(hops: tuple[bytes, bytes], expected: str) -> None:
    flow = one([FieldSpec(15, 4), FieldSpec(18, 4)], hops)
    assert flow["next_hop_ip"] == expected
    assert flow["additional"]["bgpNextHopIPv4Address"] is not None


def test_the_next_hop_of_bgp_may_be_all_there_is() -> None:
    assert one([FieldSpec(63, 16)], (ipv6("2001:db8::9"),), 10)["next_hop_ip"] == "2001:db8::9"


@pytest.mark.parametrize(("exception", "reason"), [(0x08C3, "dropped by forwarding exception 195"), (0x0800, None)])
def test_junipers_inline_monitoring_tells_what_it_dropped(exception: int, reason: str | None) -> None:
    """Its element is repeated, each time for another property."""
    specs = [FieldSpec(137, 4, 2636), FieldSpec(137, 2, 2636), FieldSpec(8, 4)]
    flow = one(specs, (0x0400_0000, exception, ipv4("192.0.2.1")), 10)
    assert flow.get("event_reason") == reason
    assert flow.get("event_outcome") == ("failure" if reason else None)
    assert flow["additional"]["juniperCommonPropertiesId#1"] == f"{exception:04x}"
