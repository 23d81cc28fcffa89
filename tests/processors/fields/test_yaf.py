"""YAF's lines as events of network-flow."""

from __future__ import annotations

import json

from tests.protocols.test_yaf import LINE
from weir.bus.codec import Decoder, Encoder
from weir.processors.fields import Context
from weir.processors.readers import read_text

COMMON = {
    "event_id": "x", "event_created": 1, "site": "s", "log_source_ip": "192.0.2.1", "raw_topic": "t", "raw_partition": 0,
    "raw_offset": 0,
}  # fmt: skip


def test_a_line_becomes_a_flow_with_both_ways() -> None:
    found = read_text(LINE, Context(0, lambda local: local))
    assert found is not None
    dataset, fields = found
    assert dataset == "network-flow"
    event = Decoder()(Encoder(dataset)(COMMON | fields))
    assert fields.keys() <= event.keys()
    assert (event["source_ip"], event["destination_port"], event["network_transport"]) == ("192.0.2.10", 443, "tcp")
    assert (event["source_bytes"], event["destination_bytes"], event["network_bytes"]) == (3400, 9000, 12_400)
    assert (event["network_protocol"], event["flow_end_reason"], event["vlan_id"]) == ("tls", "idle timeout", 10)
    assert event["event_duration"] == 500_000_000
    assert json.loads(event["flow_additional"])["tcpSequenceNumber"] == 0x22EFA001


def test_other_lines_with_bars_are_not_read() -> None:
    assert read_text("a|" * 22 + "b", Context(0, lambda local: local)) is None
