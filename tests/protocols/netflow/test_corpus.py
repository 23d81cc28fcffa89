"""Recorded exports of many vendors against the expectations of the Logstash codec's own tests, where the corpus is there."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from weir.protocols.netflow import Decoder, FlowRecord, TemplateStore

CORPUS = Path(os.environ.get("WEIR_CORPUS", Path(__file__).parents[4] / "shared" / "corpus")) / "netflow" / "codec-netflow"

pytestmark = pytest.mark.skipif(not CORPUS.is_dir(), reason=f"no corpus at {CORPUS} (set WEIR_CORPUS)")

# Field of the expectation -> field of a flow.
FIELDS = {
    "ipv4_src_addr": "source_ip",
    "sourceIPv4Address": "source_ip",
    "sourceIPv6Address": "source_ip",
    "ipv4_dst_addr": "destination_ip",
    "destinationIPv4Address": "destination_ip",
    "destinationIPv6Address": "destination_ip",
    "l4_src_port": "source_port",
    "sourceTransportPort": "source_port",
    "l4_dst_port": "destination_port",
    "destinationTransportPort": "destination_port",
    "protocol": "network_iana_number",
    "protocolIdentifier": "network_iana_number",
    "in_bytes": "flow_raw_bytes",
    "octetDeltaCount": "flow_raw_bytes",
    "in_pkts": "flow_raw_packets",
    "packetDeltaCount": "flow_raw_packets",
    "tcp_flags": "flow_tcp_flags",
    "tcpControlBits": "flow_tcp_flags",
    "src_tos": "flow_tos",
    "ipClassOfService": "flow_tos",
    "input_snmp": "observer_ingress_interface",
    "ingressInterface": "observer_ingress_interface",
    "output_snmp": "observer_egress_interface",
    "egressInterface": "observer_egress_interface",
    "src_as": "source_as",
    "bgpSourceAsNumber": "source_as",
    "dst_as": "destination_as",
    "bgpDestinationAsNumber": "destination_as",
    "ipv4_next_hop": "next_hop_ip",
    "ipNextHopIPv4Address": "next_hop_ip",
    "ipNextHopIPv6Address": "next_hop_ip",
    "src_vlan": "vlan_id",
    "vlanId": "vlan_id",
    "dst_vlan": "destination_vlan_id",
    "in_src_mac": "source_mac",
    "sourceMacAddress": "source_mac",
    "in_dst_mac": "destination_mac",
    "xlate_src_addr_ipv4": "source_nat_ip",
    "postNATSourceIPv4Address": "source_nat_ip",
    "xlate_dst_addr_ipv4": "destination_nat_ip",
    "postNATDestinationIPv4Address": "destination_nat_ip",
    "xlate_src_port": "source_nat_port",
    "xlate_dst_port": "destination_nat_port",
    "icmp_type": "flow_icmp_type",
    "icmp_code": "flow_icmp_code",
    "direction": "flow_direction",
    "flowDirection": "flow_direction",
    "flow_end_reason": "flow_end_reason",
    "flowEndReason": "flow_end_reason",
    "first_switched": "event_start_us",
    "flowStartMilliseconds": "event_start_us",
    "flowStartSeconds": "event_start_us",
    "flow_start_msec": "event_start_us",
    "last_switched": "event_end_us",
    "flowEndMilliseconds": "event_end_us",
    "flowEndSeconds": "event_end_us",
    "app_id": "application_name",
}

# Flows, where that is not the expectation's number of events: (flows, reason).
COUNTS = {
    "Netflow 9 multiple netflow exporters": (8, "one event is an options record"),
    "IPFIX": (6, "one event is an options record"),
    "IPFIX options template from Juniper MX240 JunOS 15.1 R6 S3": (0, "the event is an options record"),
    "Netflow 9 Fortigate FortiOS 5.2.1": (1, "one event is an options record"),
    "Juniper SRX options template with 0 scope field length": (0, "the event is an options record"),
    "Netflow 9 Cisco ASR 9000 series options template 256": (0, "the events are options records"),
    "Netflow 9 Cisco NBAR options template 260": (0, "the events are options records"),
    "IPFIX YAF basic with applabel": (2, "one event is an options record"),
    "Netflow 9 macaddress": (29, "no count given; the header counts 1, the set holds 29 records"),
    "Netflow 9 options template with scope fields": (0, "no count given; the event is an options record"),
    "Netflow 9 invalid 01": (2, "no count given; one more record is of options"),
    "Netflow 9 Cisco WLC 8500 release 8.2": (0, "no count given; templates only"),
    "Netflow 9 Cisco 1941/K9 release 15.1": (29, "no count given; two independent decoders agree"),
    "Netflow 9 Cisco ASR1001-X": (25, "no count given; two independent decoders agree"),
}

# (case, field of the expectation) -> why ours differs.
DIFFERENCES = {
    ("Netflow 5 valid 01", "first_switched"): "First lies before a wrap of sysUptime: 49.7 days after the export is no answer",
    ("Netflow 9 Cisco ASA #2", "icmp_type"): "not ICMP: the zero is left out",
    ("Netflow 9 Cisco ASA #2", "icmp_code"): "not ICMP: the zero is left out",
    ("Netflow 9 Fortigate FortiOS 5.2.1", "first_switched"): "a week after the export is no answer; the raw value is kept",
    ("Netflow 9 Fortigate FortiOS 5.2.1", "last_switched"): "a week after the export is no answer; the raw value is kept",
    ("Netflow 9 template with 0 length fields", "in_bytes"): "zero on the way in: the bytes on the way out stand in",
    ("Netflow 9 template with 0 length fields", "in_pkts"): "zero on the way in: the packets on the way out stand in",
    ("Netflow 9 Palo Alto 1 flowset in large zero filled packet", "icmp_type"): "not ICMP: the zero is left out",
    ("Netflow 9 Palo Alto PAN-OS with app-id", "icmp_type"): "not ICMP: the zero is left out",
}


def cases() -> list[dict[str, Any]]:
    """The expectations, or none where the corpus is absent."""
    return json.loads((CORPUS / "expected.json").read_text()) if CORPUS.is_dir() else []


def decoded(case: dict[str, Any]) -> tuple[dict[int, FlowRecord], int]:
    """Flows by number of the record over all files, and the number of records."""
    decoder = Decoder()
    flows: dict[int, FlowRecord] = {}
    records = 0
    for name in case["files"]:
        result = decoder.decode((CORPUS / name).read_bytes())
        flows.update({records + position: flow for position, flow in zip(result.positions, result.flows, strict=True)})
        records += result.records
    return flows, records


def ours(flow: FlowRecord, target: str, like: object) -> object:
    """Our value in the expectation's form."""
    value: Any = flow.get(target)
    if target in ("event_start_us", "event_end_us") and value is not None:
        if isinstance(like, int):
            return value // (1000 if like > 1 << 33 else 1_000_000)
        return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=value)).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"
    if target in ("source_mac", "destination_mac"):
        return str(value).lower().replace("-", ":")
    if target == "flow_direction":
        return {"ingress": 0, "egress": 1}.get(value)
    if target == "flow_end_reason":
        return {"idle timeout": 1, "active timeout": 2, "end of flow detected": 3}.get(value)
    return value


def agrees(expected: object, value: object) -> bool:
    """Equal, or a time in uptime that the codec gives exactly one second late: it adds the milliseconds to the export time
    as a fraction of the next second without borrowing, so that RFC 3954's `unix_secs - (sysUptime - First)` is ours."""
    if expected == value:
        return True
    if not (isinstance(expected, str) and isinstance(value, str) and expected.endswith("Z") and value.endswith("Z")):
        return False
    return datetime.fromisoformat(expected) - datetime.fromisoformat(value) == timedelta(seconds=1)


def expectations(case: dict[str, Any]) -> Iterator[tuple[int, str, object]]:
    """(event, field, value) of whole events and of single assertions."""
    for event, index in case["whole_event_match"]:
        for name, value in case["json_events"][index]["netflow"].items():
            yield event, name, value
    for event, path, literal in case["field_asserts"]:
        try:
            yield event, path.rsplit("[", 1)[1].rstrip("]"), json.loads(literal)
        except ValueError:
            continue


@pytest.mark.parametrize("case", cases(), ids=lambda case: case["name"])
def test_number_of_flows_agrees(case: dict[str, Any]) -> None:
    """As many flows as events, but for options records."""
    flows, _ = decoded(case)
    expected, _reason = COUNTS.get(case["name"], (case["n_events"], ""))
    assert len(flows) == expected


@pytest.mark.parametrize("case", cases(), ids=lambda case: case["name"])
def test_options_records_explain_the_rest_of_the_events(case: dict[str, Any]) -> None:
    """Flows and options records together are the number of events, where the expectation gives one."""
    if case["n_events"] is not None:
        assert decoded(case)[1] == case["n_events"]


@pytest.mark.parametrize("case", cases(), ids=lambda case: case["name"])
def test_main_fields_agree(case: dict[str, Any]) -> None:
    """Every field that both sides have, but for the differences listed above."""
    flows, _ = decoded(case)
    wrong = {
        name: (value, ours(flows[event], FIELDS[name], value))
        for event, name, value in expectations(case)
        if name in FIELDS and event in flows and not agrees(value, ours(flows[event], FIELDS[name], value))
    }
    assert wrong.keys() == {name for title, name in DIFFERENCES if title == case["name"]}, wrong


def test_the_field_comparison_is_not_empty() -> None:
    """Some hundreds of values are compared, or the tests above say nothing."""
    compared = 0
    for case in cases():
        flows, _ = decoded(case)
        compared += sum(name in FIELDS and event in flows for event, name, _ in expectations(case))
    assert compared > 500, compared


@pytest.mark.parametrize("case", cases(), ids=lambda case: case["name"])
def test_a_worker_with_only_the_embedded_state_decodes_the_same(case: dict[str, Any]) -> None:
    """What the receiver's store says is required decodes each data datagram as well as the whole stream does."""
    store, stream = TemplateStore(), Decoder()
    for name in case["files"]:
        datagram = (CORPUS / name).read_bytes()
        store.learn(datagram)
        assert Decoder(*store.needs([datagram])[:2]).decode(datagram) == stream.decode(datagram), name
