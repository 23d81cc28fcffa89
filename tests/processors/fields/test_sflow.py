"""sFlow samples as events: which field says what, and what becomes of what is no flow."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weir.bus.codec import Decoder, Encoder
from weir.local.generate import stamp
from weir.local.generate.packets import IPV6, ethernet, gre, icmp, ipv4, ipv6, mpls, tcp, udp, vlan, vxlan
from weir.local.generate.sflow import SampledFlows, SflowAgent
from weir.model.batch import RawBatch
from weir.model.ids import new_batch_id
from weir.processors import netflow
from weir.processors.outcome import Outcome, RawCoordinates
from weir.protocols import sflow
from weir.protocols.sflow import encode

NOW_US = 1_790_000_000_000_000
MACS = 0x020000000001, 0x02AABBCCDDEE
TALK = ipv4("10.0.0.1", "203.0.113.9", 6, tcp(40000, 443, 0x12), tos=0xB8)
HEADER = encode.sampled_header(ethernet(*MACS, TALK), 1522)
SWITCH = SflowAgent(4, "d")
DATAGRAMS = [SWITCH.next(NOW_US + number).data for number in range(16)]
V5 = bytes.fromhex("0005000100000000") + bytes(16) + bytes(48)


def process(*units: bytes, **more: Any) -> Outcome:
    batch = RawBatch(new_batch_id(), "here", "r", "udp", "192.0.2.9", 6343, NOW_US, list(units), **more)
    return netflow.process(batch, RawCoordinates("weir.raw.netflow.v1", 2, 77))


def written(outcome: Outcome, dataset: str) -> list[dict[str, Any]]:
    """Events as readers of the topic see them."""
    decode, encoder = Decoder(), Encoder(dataset)
    return [decode(encoder(record)) for record in outcome.events.get(dataset, [])]


def event(*records: bytes, head: dict[str, Any] | None = None, **fields: Any) -> dict[str, Any]:
    outcome = process(encode.datagram([encode.flow_sample(records, **fields)], **(head or {})))
    assert outcome.dead == []
    (found,) = written(outcome, "network-flow")
    found["additional"] = json.loads(found["flow_additional"])
    return found


def discarded(*records: bytes, **fields: Any) -> dict[str, Any]:
    (found,) = written(process(encode.datagram([encode.discarded_packet(records, **fields)])), "network-flow")
    found["additional"] = json.loads(found["flow_additional"])
    return found


def test_a_sample_is_one_flow_scaled_by_its_rate() -> None:
    found = event(
        HEADER, head={"agent": "192.0.2.77", "sub_agent": 4}, sequence=31, source=(0, 7), rate=1000, pool=5000, drops=2,
        input=encode.Interface(0, 7), output=encode.Interface(0, 8),
    )  # fmt: skip
    expected = {
        "flow_protocol": "sflow",
        "event_module": "sflow",
        "event_dataset": "sflow.flow",
        "event_action": "sflow_sample",
        "event_outcome": None,
        "source_ip": "10.0.0.1",
        "source_port": 40000,
        "destination_ip": "203.0.113.9",
        "destination_port": 443,
        "network_iana_number": 6,
        "network_transport": "tcp",
        "network_type": "ipv4",
        "source_mac": "02-00-00-00-00-01",
        "destination_mac": "02-AA-BB-CC-DD-EE",
        "flow_tcp_flags": 0x12,
        "flow_tos": 0xB8,
        "flow_raw_packets": 1,
        "flow_raw_bytes": 1522,
        "flow_sampling_interval": 1000.0,
        "network_packets": 1000,
        "network_bytes": 40_000,
        "source_packets": 1000,
        "source_bytes": 40_000,
        "destination_bytes": None,
        "observer_ingress_interface": 7,
        "observer_egress_interface": 8,
        "flow_direction": "ingress",
        "flow_observation_domain": 4,
        "timestamp": None,
        "event_start": None,
        "event_end": None,
    }
    assert {name: found[name] for name in expected} == expected
    assert found["additional"] == {
        "agent_address": "192.0.2.77", "source_id_type": 0, "source_id_index": 7, "sample_sequence": 31, "sample_pool": 5000,
        "drops": 2, "ip_ttl": 64, "ip_length": 40,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("source", "direction"), [((0, 7), "ingress"), ((0, 8), "egress"), ((0, 9), None), ((1, 7), None), ((0, 0), None)]
)
def test_the_data_source_tells_the_direction(source: tuple[int, int], direction: str | None) -> None:
    found = event(HEADER, source=source, input=encode.Interface(0, 7), output=encode.Interface(0, 8))
    assert found["flow_direction"] == direction
    same = event(HEADER, source=(0, 7), input=encode.Interface(0, 7), output=encode.Interface(0, 7))
    assert same["flow_direction"] is None


@pytest.mark.parametrize(
    ("output", "told"),
    [
        (encode.UNKNOWN_INTERFACE, None),
        (encode.INTERNAL_INTERFACE, "internal"),
        (encode.multiple_interfaces(7), "multiple:7"),
        (encode.multiple_interfaces(0), "multiple"),
    ],
)
@pytest.mark.parametrize("expanded", [False, True])
def test_an_output_that_is_no_interface_is_told_as_what_it_is(output: sflow.Interface, told: str | None, expanded: bool) -> None:
    found = event(HEADER, output=output, expanded=expanded)
    assert found["observer_egress_interface"] is None
    assert found["additional"].get("output") == told
    assert found["event_action"] == "sflow_sample"


def test_a_packet_the_device_sent_itself_has_no_input() -> None:
    found = event(HEADER, source=(0, 8), input=encode.INTERNAL_INTERFACE, output=encode.Interface(0, 8))
    assert (found["observer_ingress_interface"], found["additional"]["input"]) == (None, "internal")
    assert found["flow_direction"] == "egress"


def test_a_sampled_packet_that_was_discarded_says_why() -> None:
    found = event(HEADER, rate=100, output=encode.discarded_interface(258))
    assert (found["event_action"], found["event_outcome"]) == ("sflow_packet_discarded", "failure")
    assert found["event_type"] == ["connection", "denied"]
    assert (found["event_reason"], found["event_code"], found["network_packets"]) == ("acl", "258", 100)


def test_a_discarded_packet_counts_as_itself() -> None:
    found = discarded(HEADER, reason=257, source=(0, 3), input=3, sequence=8)
    assert (found["event_action"], found["event_outcome"], found["event_type"]) == (
        "sflow_packet_discarded",
        "failure",
        ["connection"],
    )
    assert (found["event_reason"], found["event_code"]) == ("ttl_exceeded", "257")
    assert (found["network_packets"], found["network_bytes"], found["flow_sampling_interval"]) == (1, 40, None)
    assert (found["observer_ingress_interface"], found["flow_direction"]) == (3, "ingress")
    assert found["source_ip"] == "10.0.0.1"


def test_vlan_ids_are_the_switches_own_before_the_headers() -> None:
    tagged = encode.sampled_header(ethernet(*MACS, vlan(30, TALK), 0x8100))
    switch = encode.flow_record("extended_switch", src_vlan=10, src_priority=0, dst_vlan=20, dst_priority=0)
    assert event(tagged)["vlan_id"] == 30
    both = event(tagged, switch)
    assert (both["vlan_id"], both["destination_vlan_id"]) == (10, 20)
    assert "extended_switch" not in both["additional"]
    untagged = encode.flow_record("extended_switch", src_vlan=0, src_priority=3, dst_vlan=4095, dst_priority=0)
    kept = event(tagged, untagged)
    assert (kept["vlan_id"], kept["destination_vlan_id"]) == (30, None)
    assert kept["additional"]["extended_switch"] == {"src_priority": 3, "dst_priority": 0}
    twice = event(encode.sampled_header(ethernet(*MACS, vlan(200, vlan(30, TALK), 0x8100), 0x88A8)))
    assert (twice["vlan_id"], twice["additional"]["vlan_tags"]) == (200, [200, 30])


def test_the_outermost_ip_header_fills_the_fields_and_tunnels_keep_the_rest() -> None:
    inside = ethernet(*MACS, vlan(9, ipv6("2001:db8::1", "2001:db8::2", 58, icmp(128, 0)), IPV6), 0x8100)
    over = event(
        encode.sampled_header(ethernet(*MACS, ipv4("172.16.0.1", "172.16.0.2", 17, udp(50000, 4789, vxlan(5001, inside)))))
    )
    assert (over["source_ip"], over["destination_port"], over["network_transport"]) == ("172.16.0.1", 4789, "udp")
    assert (over["additional"]["tunnel"], over["additional"]["tunnel_id"], over["flow_vni"]) == ("vxlan", 5001, 5001)
    assert over["additional"]["inner"] == {
        "source_mac": "02-00-00-00-00-01", "destination_mac": "02-AA-BB-CC-DD-EE", "vlan_tags": [9], "source_ip": "2001:db8::1",
        "destination_ip": "2001:db8::2", "iana_number": 58, "icmp_type": 128, "icmp_code": 0, "tos": 0, "ip_length": 48,
    }  # fmt: skip
    nested = gre(ipv4("172.16.1.1", "172.16.1.2", 4, TALK))
    twice = event(encode.sampled_header(ethernet(*MACS, ipv4("172.16.0.1", "172.16.0.2", 47, nested))))
    assert (twice["network_transport"], twice["source_port"]) == ("gre", None)
    assert twice["additional"]["inner"]["tunnel"] == "ipip"
    assert twice["additional"]["inner"]["inner"]["source_ip"] == "10.0.0.1"


def test_a_layer_2_tunnel_without_ip_gives_the_packet_inside() -> None:
    wire = mpls([24005], bytes(4) + ethernet(3, 4, TALK))
    found = event(encode.sampled_header(ethernet(*MACS, wire, 0x8847)))
    assert (found["source_ip"], found["source_port"]) == ("10.0.0.1", 40000)
    assert found["source_mac"] == "02-00-00-00-00-01"
    assert (found["flow_mpls_labels"], found["network_bytes"]) == (["24005"], 40)


def test_ipv6_icmp_and_what_has_no_ip() -> None:
    six = event(encode.sampled_header(ethernet(*MACS, ipv6("2001:db8::1", "2001:db8::2", 58, icmp(135, 0), traffic_class=7), IPV6)))
    assert (six["network_type"], six["source_ip"], six["flow_icmp_type"], six["flow_tos"]) == ("ipv6", "2001:db8::1", 135, 7)
    assert (six["network_transport"], six["source_port"]) == ("ipv6-icmp", None)
    arp = event(encode.sampled_header(ethernet(*MACS, bytes(46), 0x0806)))
    assert (arp["source_ip"], arp["source_mac"], arp["additional"]["ethertype"]) == (None, "02-00-00-00-00-01", 0x0806)
    other = event(encode.sampled_header(b"\xde\xad\xbe\xef", 99, protocol=4))
    assert (other["source_ip"], other["flow_raw_bytes"]) == (None, 99)
    assert (other["additional"]["header_protocol"], other["additional"]["header"]) == (4, "deadbeef")


def test_records_of_decoded_headers_fill_the_fields_where_there_is_no_header() -> None:
    frame = encode.flow_record(
        "sampled_ethernet", length=200, src_mac="02-00-00-00-00-09", dst_mac="02-00-00-00-00-08", type=0x0800
    )
    packet = encode.flow_record(
        "sampled_ipv4",
        length=182,
        protocol=17,
        src_ip="10.1.1.1",
        dst_ip="10.1.1.2",
        src_port=53,
        dst_port=5353,
        tcp_flags=0,
        tos=4,
    )
    found = event(packet, frame, rate=10)
    assert (found["source_ip"], found["source_port"], found["destination_port"], found["flow_tos"]) == ("10.1.1.1", 53, 5353, 4)
    assert (found["source_mac"], found["flow_raw_bytes"], found["network_bytes"]) == ("02-00-00-00-00-09", 200, 1820)
    assert found["flow_tcp_flags"] is None
    six = encode.flow_record(
        "sampled_ipv6", length=99, protocol=6, src_ip="2001:db8::1", dst_ip="2001:db8::2", src_port=1, dst_port=2, tcp_flags=2,
        priority=8,
    )  # fmt: skip
    found = event(six)
    assert (found["network_type"], found["flow_tcp_flags"], found["flow_tos"], found["flow_raw_bytes"]) == ("ipv6", 2, 8, 99)
    both = event(HEADER, packet)
    assert (both["source_ip"], both["flow_raw_bytes"]) == ("10.0.0.1", 1522)
    assert both["additional"]["sampled_ipv4"]["src_ip"] == "10.1.1.1"


def test_routes_and_autonomous_systems() -> None:
    router = encode.flow_record("extended_router", nexthop="192.0.2.253", src_mask_len=24, dst_mask_len=22)
    gateway: dict[str, Any] = {
        "nexthop": "192.0.2.254", "as": 64500, "src_as": 64501, "src_peer_as": 64502, "communities": [1, 2], "localpref": 100,
    }  # fmt: skip

    def numbers(path: list[Any], **other: int) -> tuple[int | None, int | None]:
        found = event(HEADER, router, encode.flow_record("extended_gateway", **(gateway | other), dst_as_path=path))
        assert found["next_hop_ip"] == "192.0.2.253"
        assert found["additional"]["extended_router"] == {"src_mask_len": 24, "dst_mask_len": 22}
        assert found["additional"]["extended_gateway"]["dst_as_path"] == path
        return found["source_as"], found["destination_as"]

    assert numbers([[64503, 64504]]) == (64501, 64504)
    assert numbers([[64503], [64505]]) == (64501, 64505)
    assert numbers([]) == (64501, 64500)
    assert numbers([], src_as=0) == (64500, 64500)
    assert numbers([[64503], {"set": [64505]}]) == (64501, 64505)
    assert numbers([[64503], {"set": [64505, 64506]}]) == (64501, None)
    assert numbers([[]]) == (64501, None)


def test_translated_addresses_users_and_what_else_an_agent_knows() -> None:
    found = event(
        HEADER,
        encode.flow_record("extended_nat", src_address="198.51.100.1", dst_address="203.0.113.9"),
        encode.flow_record("extended_nat_port", src_port=61000, dst_port=443),
        encode.flow_record("extended_user", src_charset=106, src_user="alice", dst_charset=0, dst_user=""),
        encode.structure(1991 << 12 | 7, b"\1\2\3\4"),
    )
    assert (found["source_nat_ip"], found["source_nat_port"]) == ("198.51.100.1", 61000)
    assert (found["destination_nat_ip"], found["destination_nat_port"]) == ("203.0.113.9", 443)
    assert found["additional"]["extended_user"]["src_user"] == "alice"
    assert found["additional"]["1991.7"] == "01020304"


def test_an_agent_with_a_clock_tells_the_time_of_its_sample() -> None:
    found = event(HEADER, encode.flow_record("extended_timestamp", nanoseconds=NOW_US * 1000 + 999))
    assert found["timestamp"] == NOW_US
    assert found["event_start"] is None
    assert event(HEADER, encode.flow_record("extended_timestamp", nanoseconds=2**63))["timestamp"] == 2**63 // 1000
    assert event(HEADER, encode.flow_record("extended_timestamp", nanoseconds=0))["timestamp"] is None


def test_the_largest_numbers_fit_their_fields() -> None:
    top = 2**32 - 1
    found = event(
        encode.sampled_header(ethernet(*MACS, TALK), top),
        encode.flow_record("extended_nat_port", src_port=top, dst_port=65535),
        rate=top, pool=top, sequence=top, drops=top, expanded=True, source=(top, top),
        input=encode.Interface(0, top - 1), output=encode.Interface(top, top),
    )  # fmt: skip
    assert (found["network_packets"], found["network_bytes"]) == (top, 40 * top)
    assert (found["source_nat_port"], found["destination_nat_port"]) == (None, 65535)
    assert found["observer_ingress_interface"] == top - 1
    assert found["additional"]["output"] == f"{top}:{top}"


def test_a_rate_of_zero_scales_nothing() -> None:
    found = event(HEADER, rate=0)
    assert (found["flow_sampling_interval"], found["network_bytes"]) == (None, 40)


def test_bytes_are_those_of_ip_packets_and_of_frames_where_there_is_none() -> None:
    arp = event(encode.sampled_header(ethernet(*MACS, bytes(46), 0x0806), 64), rate=10)
    assert (arp["flow_raw_bytes"], arp["network_bytes"], arp["source_bytes"]) == (64, 640, 640)
    forged = ipv4("10.0.0.1", "10.0.0.2", 17, udp(1, 2, b""))
    forged = forged[:2] + (65_000).to_bytes(2, "big") + forged[4:]
    long = event(encode.sampled_header(ethernet(*MACS, forged), 64), rate=10)
    assert (long["additional"]["ip_length"], long["network_bytes"]) == (65_000, 640)
    top = 2**32 - 1
    assert event(encode.sampled_header(ethernet(*MACS, bytes(46), 0x0806), top), rate=top)["network_bytes"] == 2**63 - 1


def test_segments_and_users_come_from_the_switch_too() -> None:
    found = event(
        HEADER,
        encode.flow_record("extended_vni_ingress", vni=7001),
        encode.flow_record("extended_user", src_charset=106, src_user="CORP\\alice", dst_charset=0, dst_user=""),
    )
    assert (found["flow_vni"], found["user_name"], found["user_domain"], found["user_id"]) == (
        7001, "alice", "CORP", "CORP\\alice",
    )  # fmt: skip


def test_counters_are_metrics_of_network_log() -> None:
    record = encode.counter_record("if_counters", ifIndex=3, ifInOctets=1 << 40)
    outcome = process(encode.datagram([encode.counter_sample([record], source=(0, 3), sequence=6)], uptime=500))
    (found,) = written(outcome, "network-log")
    assert (found["event_kind"], found["event_module"], found["event_dataset"]) == ("metric", "sflow", "sflow.counter")
    assert json.loads(found["document"]) == {
        "agent_address": "192.0.2.1", "sub_agent_id": 0, "uptime": 500, "source_id_type": 0, "source_id_index": 3,
        "sample_sequence": 6, "if_counters": {"ifIndex": 3, "ifInOctets": 1 << 40},
    }  # fmt: skip
    assert (outcome.units_empty, outcome.dead) == (0, [])
    host = encode.counter_record("host_descr", hostname="hv1", uuid="00" * 16, machine_type=3, os_name=2, os_release="6.1")
    assert written(process(encode.datagram([encode.counter_sample([host])])), "network-log")[0]["host_name"] == "hv1"


def test_a_sample_of_an_unknown_format_is_kept() -> None:
    outcome = process(encode.datagram([encode.structure(4300 << 12 | 1002, b"\0\1\2\3")]))
    (found,) = written(outcome, "network-log")
    assert (found["event_kind"], found["event_dataset"]) == ("event", "sflow.other")
    document = json.loads(found["document"])
    assert (document["sample_format"], document["sample"]) == ("4300.1002", "00010203")


def test_ids_count_every_sample_of_the_datagram() -> None:
    """Broken ones too: a decoder that reads more later does not rename the others."""
    flow, counter = encode.flow_sample([HEADER]), encode.counter_sample([])
    outcome = process(encode.datagram([]), encode.datagram([flow, encode.structure(1, bytes(8)), counter, flow]))
    numbers = {dataset: [record["event_id"].split("-")[1:] for record in records] for dataset, records in outcome.events.items()}
    assert numbers == {"network-flow": [["1", "0"], ["1", "3"]], "network-log": [["1", "2"]]}
    assert outcome.units_empty == 1
    assert [dead.unit_index for dead in outcome.dead] == [1]
    assert "sample 1 at offset" in outcome.dead[0].reason


def test_sflow_and_netflow_share_a_topic() -> None:
    outcome = process(encode.datagram([encode.flow_sample([HEADER])]), V5, b"\0\0\0\4" + bytes(24), b"\0\0\0")
    assert [record["flow_protocol"] for record in outcome.events["network-flow"]] == ["sflow", "netflow-v5"]
    assert [record["event_module"] for record in outcome.events["network-flow"]] == ["sflow", "netflow"]
    assert [(dead.unit_index, dead.reason.split(" at ")[0]) for dead in outcome.dead] == [
        (2, "sFlow version 4"),
        (3, "3 bytes are too few for the header of an sFlow datagram"),
    ]


def test_copies_of_a_datagram_have_hashes_in_common() -> None:
    data = encode.datagram([encode.flow_sample([HEADER]), encode.counter_sample([])])
    first, second = (process(data, content_hashes=bytes(range(8))) for _ in range(2))
    for dataset in ("network-flow", "network-log"):
        (one,), (other,) = first.events[dataset], second.events[dataset]
        assert one["event_hash"] == other["event_hash"] is not None
        assert one["event_id"] != other["event_id"]
    assert first.events["network-flow"][0]["event_hash"] != first.events["network-log"][0]["event_hash"]


def test_everything_an_agent_sends_fits_the_schemas() -> None:
    for agent in (SflowAgent(1, "a"), SflowAgent(2, "b", agent="2001:db8::1", expanded=True)):
        for number in range(80):
            unit = agent.next(NOW_US + number * 1_000_000)
            outcome = process(unit.data)
            assert outcome.dead == []
            assert {dataset: len(written(outcome, dataset)) for dataset in outcome.events} == {unit.makes: unit.events}


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 15), st.lists(st.tuples(st.integers(0, 1500), st.binary(min_size=1, max_size=4)), max_size=8))
def test_whatever_a_damaged_datagram_gives_fits_the_schemas(number: int, changes: list[tuple[int, bytes]]) -> None:
    """A value that does not would be found out only when it is written, and its whole unit dead-lettered."""
    data = bytearray(DATAGRAMS[number])
    for place, value in changes:
        at = place % (len(data) - 4)
        data[at : at + len(value)] = value
    outcome = process(bytes(data))
    for dataset in outcome.events:
        written(outcome, dataset)
    assert outcome.events or outcome.dead or outcome.units_empty


def test_stamped_samples_are_found_in_their_events() -> None:
    """What `weir generate sflow` sends can be told by number, before and after it is decoded; no two samples are alike."""
    maker = SampledFlows(9, 1)
    units = [maker.unit(source, first, 6, NOW_US) for first in range(0, 300, 6) for source in (0, 1)]
    outcome = process(*units)
    assert outcome.dead == []
    wanted = [stamp.Stamp(9, source, first + n) for first in range(0, 300, 6) for source in (0, 1) for n in range(6)]
    assert [found for unit in units for found in stamp.in_flows(unit, 9)] == wanted
    events = written(outcome, "network-flow")
    assert [stamp.in_event(record, 9).stamps for record in events] == [[one] for one in wanted]
    assert all(len(unit) <= 1472 for unit in units)
    again = SampledFlows(9, 1)
    assert [again.unit(source, first, 6, NOW_US) for first in range(0, 300, 6) for source in (0, 1)] == units
