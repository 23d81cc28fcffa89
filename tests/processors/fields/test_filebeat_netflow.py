"""Flows by way of Filebeat's netflow input read as they would have read had their exporter sent them here."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.processors.fields.one import event_of, events_of
from weir.processors.fields.filebeat_netflow import snake_case

EXPORTER = {
    "address": "192.0.2.1:4444",
    "source_id": 7,
    "timestamp": "2024-03-01T12:00:00Z",
    "uptime_millis": 100_000,
    "version": 9,
}
FLOW: dict[str, Any] = {
    "@timestamp": "2024-03-01T12:00:00.000Z",
    "agent": {"name": "fb", "type": "filebeat", "version": "8.12.2"},
    "event": {
        "action": "netflow_flow", "category": ["network"], "kind": "event", "start": "2024-03-01T11:59:30Z",
        "end": "2024-03-01T11:59:40Z",
    },
    "observer": {"ip": ["192.0.2.1"]},
    "source": {"ip": "10.0.0.1", "port": 50000, "bytes": 1000, "packets": 10},
    "destination": {"ip": "198.51.100.2", "port": 443},
    "network": {"transport": "tcp", "iana_number": 6, "bytes": 1000, "direction": "inbound", "community_id": "1:x="},
    "flow": {"id": "5JpExP8VeSU", "locality": "external"},
    "input": {"type": "netflow"},
    "netflow": {
        "type": "netflow_flow", "exporter": EXPORTER, "source_ipv4_address": "10.0.0.1", "destination_ipv4_address": "198.51.100.2",
        "source_transport_port": 50000, "destination_transport_port": 443, "protocol_identifier": 6, "octet_delta_count": 1000,
        "packet_delta_count": 10, "flow_start_sys_up_time": 70_000, "flow_end_sys_up_time": 80_000, "tcp_control_bits": 27,
        "ip_class_of_service": 8, "ingress_interface": 3, "egress_interface": 4, "bgp_source_as_number": 64496,
        "bgp_destination_as_number": 64497, "ip_next_hop_ipv4_address": "10.0.0.254", "flow_direction": 0, "vlan_id": 12,
        "source_mac_address": "00:11:22:aa:bb:cc", "minimum_ttl": 61, "vendor_only": "x",
    },
}  # fmt: skip
NOON = 1_709_294_400_000_000


def changed(**netflow: Any) -> dict[str, Any]:
    return {**FLOW, "netflow": {**FLOW["netflow"], **netflow}}


def test_a_flow_has_the_fields_of_a_flow() -> None:
    dataset, event = event_of(FLOW)
    assert dataset == "network-flow"
    assert {
        "event_module": "netflow", "event_dataset": "netflow.flow", "event_action": "netflow_flow", "flow_protocol": "netflow-v9",
        "flow_observation_domain": 7, "source_ip": "10.0.0.1", "destination_ip": "198.51.100.2", "source_port": 50000,
        "source_bytes": 1000, "destination_bytes": None, "destination_port": 443, "network_transport": "tcp",
        "network_iana_number": 6, "network_type": "ipv4",
        "network_bytes": 1000,
        "network_packets": 10, "flow_raw_bytes": 1000, "flow_raw_packets": 10, "flow_tcp_flags": 27, "flow_tos": 8,
        "observer_ingress_interface": 3, "observer_egress_interface": 4, "source_as": 64496, "destination_as": 64497,
        "next_hop_ip": "10.0.0.254", "flow_direction": "ingress", "vlan_id": 12, "source_mac": "00-11-22-AA-BB-CC",
        "event_start": NOON - 30_000_000, "event_end": NOON - 20_000_000, "event_duration": 10_000_000_000,
        "timestamp": NOON - 20_000_000, "network_community_id": "1:x=", "agent_name": "fb",
    }.items() <= event.items()  # fmt: skip
    assert json.loads(event["flow_additional"]) == {"minimumTTL": 61, "vendor_only": "x", "exporter": EXPORTER}
    assert event["labels"] == {"exporter.address": "192.0.2.1:4444"}


def test_counts_are_scaled_where_the_sampling_interval_is_named() -> None:
    _, event = event_of(changed(sampling_interval=100))
    assert (event["network_bytes"], event["flow_raw_bytes"], event["flow_sampling_interval"]) == (100_000, 1000, 100)
    _, event = event_of(changed(exporter={**EXPORTER, "version": 5, "sampling_interval": 0x4000 + 50}))
    assert (event["network_packets"], event["flow_protocol"]) == (500, "netflow-v5")


def test_dates_of_ipfix_are_better_than_what_was_reckoned_from_uptime() -> None:
    document = changed(
        flow_start_milliseconds="2024-03-01T11:00:00.250Z", flow_end_milliseconds="2024-03-01T11:00:01Z",
        exporter={**EXPORTER, "version": 10, "uptime_millis": 0},
    )  # fmt: skip
    _, event = event_of(document)
    assert event["flow_protocol"] == "ipfix"
    assert (event["event_start"], event["event_duration"]) == (NOON - 3_600_000_000 + 250_000, 750_000_000)
    assert {"flowStartSysUpTime", "flowEndSysUpTime"} <= json.loads(event["flow_additional"]).keys()


def test_filebeats_own_times_stand_in_where_the_record_has_none() -> None:
    netflow = {key: value for key, value in FLOW["netflow"].items() if "sys_up_time" not in key}
    _, event = event_of({**FLOW, "netflow": netflow})
    assert (event["event_start"], event["event_end"]) == (NOON - 30_000_000, NOON - 20_000_000)


def test_both_directions_of_a_biflow_are_counted() -> None:
    _, event = event_of(changed(responder_octets=500, initiator_octets=1000))
    assert (event["source_bytes"], event["destination_bytes"], event["network_bytes"]) == (1000, 500, 1500)
    _, event = event_of(changed(reverse_octet_delta_count=500))
    assert (event["source_bytes"], event["destination_bytes"], event["network_bytes"]) == (1000, 500, 1500)


def test_events_of_nat_and_firewalls_users_and_flow_ids_read_as_the_decoders_do() -> None:
    _, event = event_of(changed(firewall_event=3, firewall_event_extended=1001, flow_id=8500, user_name="CORP\\alice"))
    assert {
        "event_action": "firewall_flow_denied", "event_type": ["connection", "denied"], "event_outcome": "failure",
        "event_code": "1001", "event_reason": "denied by an ingress ACL", "flow_id": "8500", "user_name": "alice",
        "user_domain": "CORP",
    }.items() <= event.items()  # fmt: skip
    _, event = event_of(changed(nat_event=4, layer2_segment_id=0x0100_0000_0000_1234))
    assert (event["event_action"], event["flow_vni"]) == ("nat44_session_create", 0x1234)


def test_what_filebeat_calls_otherwise_is_known_by_its_name() -> None:
    _, event = event_of(changed(firewall_event=3, fw_ext_event=1002, username="bob", xlate_source_address_ip_v4="203.0.113.1",
                                xlate_source_port=99))  # fmt: skip
    assert (event["event_reason"], event["user_name"]) == ("denied by an egress ACL", "bob")
    assert (event["source_nat_ip"], event["source_nat_port"]) == ("203.0.113.1", 99)


def test_ipv6_icmp_and_translated_addresses() -> None:
    netflow = {
        "type": "netflow_flow", "exporter": EXPORTER, "source_ipv6_address": "2001:DB8::0:1",
        "destination_ipv6_address": "2001:db8::2",
        "protocol_identifier": 58, "icmp_type_code_ipv6": 0x8000, "post_nat_source_ipv4_address": "203.0.113.9",
        "post_napt_source_transport_port": 4000, "application_name": "ping", "flow_end_reason": 1,
    }  # fmt: skip
    _, event = event_of({"@timestamp": FLOW["@timestamp"], "netflow": netflow})
    assert {
        "source_ip": "2001:db8::1", "network_type": "ipv6", "network_transport": "ipv6-icmp", "flow_icmp_type": 128,
        "flow_icmp_code": 0,
        "source_nat_ip": "203.0.113.9", "source_nat_port": 4000, "network_application": "ping", "flow_end_reason": "idle timeout",
        "timestamp": NOON,
    }.items() <= event.items()  # fmt: skip


def test_icmp_fields_of_a_flow_that_is_no_icmp_are_left_out() -> None:
    _, event = event_of(changed(icmp_type_ipv4=0, icmp_code_ipv4=0))
    assert (event["flow_icmp_type"], event["flow_icmp_code"]) == (None, None)


def test_a_second_element_stands_in_where_the_first_is_empty() -> None:
    _, event = event_of(changed(octet_delta_count=0, octet_total_count=777, destination_mac_address="00:00:00:00:00:00",
                                post_destination_mac_address="66-77-88-99-AA-BB"))  # fmt: skip
    assert (event["network_bytes"], event["destination_mac"]) == (777, "66-77-88-99-AA-BB")


def test_options_are_no_flows() -> None:
    document = {
        "@timestamp": FLOW["@timestamp"], "event": {"action": "netflow_options", "category": ["network"], "kind": "event"},
        "netflow": {"type": "netflow_options", "exporter": EXPORTER, "options": {"sampling_interval": 100}, "scope": {"system": 1}},
    }  # fmt: skip
    dataset, event = event_of(document)
    assert (dataset, event["event_action"], event["event_module"]) == ("sensor", "netflow_options", "netflow")
    assert json.loads(event["document"]) == document


@pytest.mark.parametrize("document", [{"netflow": {}}, {"netflow": {"bytes": 1}}, {"netflow": 5}])
def test_other_documents_with_that_key_are_not_taken_for_flows(document: dict[str, Any]) -> None:
    assert event_of(document)[0] == "sensor"


@pytest.mark.parametrize(
    ("element", "filebeats"),
    [
        ("sourceIPv4Address", "source_ipv4_address"), ("postNATSourceIPv4Address", "post_nat_source_ipv4_address"),
        ("selectorIDTotalFlowsObserved", "selector_id_total_flows_observed"), ("VRFname", "vrf_name"), ("ipTTL", "ip_ttl"),
        ("dot1qVlanId", "dot1q_vlan_id"), ("wlanSSID", "wlan_ssid"), ("bgpSourceAsNumber", "bgp_source_as_number"),
        ("XlateSourceAddressIPV4", "xlate_source_address_ip_v4"),
    ],
)  # fmt: skip
def test_elements_are_named_as_filebeat_names_them(element: str, filebeats: str) -> None:
    assert snake_case(element) == filebeats


VALUES = (
    st.none()
    | st.integers(-5, 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=6)
    | st.lists(st.integers(0, 9), max_size=2)
)


@settings(max_examples=120, deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(
            [
                *FLOW["netflow"],
                "sampling_interval",
                "responder_octets",
                "icmp_type_code_ipv4",
                "flow_id",
                "user_name",
                "nat_event",
                "firewall_event",
                "silk_app_label",
            ]
        ),
        VALUES,
        max_size=6,
    ),
    st.dictionaries(st.sampled_from(sorted(EXPORTER)), VALUES, max_size=3),
)
def test_any_values_give_an_event_that_fits_its_schema(netflow: dict[str, Any], exporter: dict[str, Any]) -> None:
    document = changed(**{"exporter": {**EXPORTER, **exporter}, **netflow})
    assert sum(map(len, events_of([json.dumps(document).encode()]).values())) == 1
