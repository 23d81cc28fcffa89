"""Flows of NetFlow and IPFIX as events of network-flow: what the schema has for them, and nothing that it has not."""

from __future__ import annotations

import json
from typing import Any

from weir.bus.codec import Decoder, Encoder
from weir.model.batch import FlowName, FlowTemplate, RawBatch
from weir.model.ids import new_batch_id
from weir.processors import netflow
from weir.processors.outcome import Outcome, RawCoordinates
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
    template_record,
)

NOW_US = 1_790_000_000_000_000
EXPORT = NOW_US // 1_000_000


def process(*units: bytes, **more: Any) -> Outcome:
    batch = RawBatch(new_batch_id(), "here", "r", "udp", "192.0.2.9", 2055, NOW_US, list(units), **more)
    return netflow.process(batch, RawCoordinates("weir.raw.netflow.v1", 2, 77))


def events(outcome: Outcome) -> list[dict[str, Any]]:
    """Events as readers of the topic see them; a field that the schema lacks would have been dropped on the way."""
    decode, encoder = Decoder(), Encoder("network-flow")
    found = []
    for record in outcome.events.get("network-flow", []):
        seen = decode(encoder(record))
        assert record.keys() <= seen.keys()
        found.append(seen)
    return found


def flow(template: Template, record: tuple[int | bytes, ...], version: int = 10) -> dict[str, Any]:
    outcome = process(encode(Message(version, EXPORT, [template, DataSet(template, [record])])))
    assert outcome.dead == []
    (found,) = events(outcome)
    return found


def test_an_event_of_a_firewall_replaces_what_every_flow_has() -> None:
    template = Template(256, [FieldSpec(8, 4), FieldSpec(233, 1), FieldSpec(33002, 2), FieldSpec(40000, 20), FieldSpec(148, 4)])
    denied = flow(template, (ipv4("192.0.2.1"), 3, 1002, b"CORP\\bob", 8501), 9)
    assert (denied["event_action"], denied["event_type"], denied["event_outcome"]) == (
        "firewall_flow_denied", ["connection", "denied"], "failure",
    )  # fmt: skip
    assert (denied["event_code"], denied["event_reason"]) == ("1002", "denied by an egress ACL")
    assert (denied["user_name"], denied["user_domain"], denied["user_id"], denied["flow_id"]) == (
        "bob",
        "CORP",
        "CORP\\bob",
        "8501",
    )
    plain = flow(template, (ipv4("192.0.2.1"), 0, 0, b"", 0), 9)
    assert (plain["event_action"], plain["event_type"], plain["event_outcome"]) == ("netflow_flow", ["connection"], None)
    assert plain["user_name"] is None


def test_labels_segments_and_protocols_have_fields() -> None:
    template = Template(256, [FieldSpec(70, 3), FieldSpec(351, 8), FieldSpec(33, 2, 6871), FieldSpec(291, 65535)])
    found = flow(template, (24005 << 4 | 1, 1 << 56 | 7001, 53, b"\3\0\4\0\1\6\x11"))
    assert (found["flow_mpls_labels"], found["flow_vni"], found["network_protocol"]) == (["24005"], 7001, "dns")
    assert json.loads(found["flow_additional"])["basicList"] == {"semantic": "allOf", "protocolIdentifier": [6, 17]}


def test_interface_names_of_the_batch_are_used() -> None:
    template = Template(256, [FieldSpec(10, 4), FieldSpec(14, 4)])
    outcome = process(
        encode(Message(9, EXPORT, [DataSet(template, [(3, 4)])], domain=7)),
        flow_templates=[FlowTemplate(9, 7, 256, False, template_record(9, template))],
        flow_names=[FlowName(9, 7, "interface", "3", "Gi0/3"), FlowName(9, 7, "interface-description", "4", "uplink")],
    )
    (found,) = events(outcome)
    assert (found["observer_ingress_interface_name"], found["observer_egress_interface_name"]) == ("Gi0/3", "uplink")
    assert (found["observer_ingress_interface"], found["observer_egress_interface"]) == (3, 4)


def test_direction_is_what_the_exporter_saw_and_no_more() -> None:
    found = flow(Template(256, [FieldSpec(61, 1)]), (1,))
    assert (found["flow_direction"], found["network_direction"]) == ("egress", None)


def test_v7_is_decoded_from_the_datagram_alone() -> None:
    outcome = process(encode_v7(V5Datagram([V5Flow("192.0.2.1", "192.0.2.2", packets=3, octets=300)] * 2, EXPORT)))
    found = events(outcome)
    assert [(one["flow_protocol"], one["source_bytes"], one["network_packets"]) for one in found] == [("netflow-v7", 300, 3)] * 2
    assert len({one["event_id"] for one in found}) == 2


def test_counts_of_one_way_are_the_sources_and_of_both_are_summed() -> None:
    one_way = flow(Template(256, [FieldSpec(1, 4), FieldSpec(2, 4), FieldSpec(34, 4)]), (100, 2, 10))
    names = ("network_bytes", "source_bytes", "destination_bytes", "flow_raw_bytes", "network_packets", "source_packets")
    assert tuple(one_way[name] for name in names) == (1000, 1000, None, 100, 20, 20)
    both = flow(Template(256, [FieldSpec(231, 4), FieldSpec(232, 4)]), (10, 20))
    assert tuple(both[name] for name in names[:3]) == (30, 10, 20)


def test_a_duration_of_centuries_is_none() -> None:
    """Both times are possible, and so they stay; their difference in nanoseconds is more than a number has room for."""
    found = flow(Template(256, [FieldSpec(150, 4), FieldSpec(153, 8)]), (1, 250_000_000_000_000))
    assert (found["event_start"], found["event_end"]) == (1_000_000, 250_000_000_000_000_000)
    assert found["event_duration"] is None
