"""What each kind of unit becomes: the pure functions between a raw batch and its events."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import weir.local
from weir.bus.codec import Decoder, Encoder
from weir.model.batch import FlowTemplate, RawBatch
from weir.model.ids import new_batch_id
from weir.processors import beats, netflow, syslog
from weir.processors.outcome import Outcome, RawCoordinates

SAMPLES = Path(weir.local.__file__).parent / "samples"
RECEIVED = 1_790_000_000_000_000
WHERE = RawCoordinates("weir.raw.x.v1", 2, 77)
process_syslog = syslog.make_process()


def batch(units: list[bytes], transport: str = "udp", **more: Any) -> RawBatch:
    return RawBatch(new_batch_id(), "here", "r", transport, "192.0.2.9", 5514, RECEIVED, units, **more)


def encoded(outcome: Outcome) -> dict[str, list[dict[str, Any]]]:
    """What readers of the topics see."""
    decode = Decoder()
    return {dataset: [decode(Encoder(dataset)(r)) for r in records] for dataset, records in outcome.events.items()}


def lines(name: str) -> list[bytes]:
    return (SAMPLES / name).read_bytes().splitlines()


def test_every_sample_of_every_kind_becomes_an_event_that_fits_its_schema() -> None:
    head = b"<134>1 2026-09-21T14:13:20.5Z lm1 - - - - "
    kemp = encoded(process_syslog(batch([head + line for line in lines("kemp-esp.cef")]), WHERE))
    assert {d: len(r) for d, r in kemp.items()} == {"cef": len(lines("kemp-esp.cef"))}
    audit = b"<14>1 2026-09-21T14:13:20.5Z q1 qumulo - - - "
    qumulo = encoded(process_syslog(batch([audit + line for line in lines("qumulo-audit.csv")]), WHERE))
    assert {d: len(r) for d, r in qumulo.items()} == {"file-audit": len(lines("qumulo-audit.csv"))}
    plain = encoded(process_syslog(batch(lines("rfc5424.log") + lines("rfc3164.log")), WHERE))
    assert set(plain) == {"syslog"}
    shipped = [json.dumps({"message": line.decode()}).encode() for line in lines("suricata-eve.ndjson")]
    eve = encoded(beats.process(batch(shipped, "lumberjack"), WHERE))
    assert {"ids-alert", "network-flow", "network-log"} <= set(eve)
    assert sum(map(len, eve.values())) == len(shipped)
    fleet = encoded(beats.process(batch(lines("sensorfleet.ndjson"), "lumberjack"), WHERE))
    assert {"sensor", "ids-alert"} <= set(fleet)


def test_a_qumulo_delete_tells_who_deleted_what_from_where() -> None:
    head = b"<14>1 2026-09-21T14:13:20.5Z q1 qumulo - - - "
    line = head + b'10.1.2.3,"AD\\alice",smb,fs_delete,ok,123456789012345678901234567890,"/a,b""c.TXT",""'
    (event,) = encoded(process_syslog(batch([line]), WHERE))["file-audit"]
    assert event["source_ip"] == "10.1.2.3"
    assert (event["user_domain"], event["user_name"], event["user_id"]) == ("AD", "alice", "AD\\alice")
    assert (event["event_action"], event["event_outcome"], event["event_type"]) == ("fs_delete", "success", ["deletion"])
    assert (event["file_path"], event["file_extension"]) == ('/a,b"c.TXT', "txt")
    assert event["file_id"] == "123456789012345678901234567890"
    assert event["timestamp"] == RECEIVED + 500_000
    assert (event["raw_topic"], event["raw_partition"], event["raw_offset"]) == WHERE


def test_a_denied_operation_is_a_failure() -> None:
    line = b'<14>1 - q1 qumulo - - - 10.1.2.3,"bob",nfs,fs_read_data,fs_access_denied_error,3,"/x",""'
    (event,) = encoded(process_syslog(batch([line]), WHERE))["file-audit"]
    assert (event["event_outcome"], event["error_code"], event["user_domain"]) == ("failure", "fs_access_denied_error", None)


def test_a_kemp_event_keeps_the_positions_that_the_vendors_queries_split_on() -> None:
    header = b"<134>Sep 21 14:13:20 lm1 CEF:0|Kemp|LM|1.0|4|Connected|0|"
    line = header + b"vs=10.0.0.1:443 event=Connected srcip=10.9.9.9 srcport=555 dstip=10.0.0.7 dstport=8443"
    (event,) = encoded(process_syslog(batch([line]), WHERE))["cef"]
    parts = event["cef_additional_extensions"].split(";")
    assert [p.split("=")[0] for p in parts] == ["vs", "event", "srcip", "srcport", "dstip", "dstport"]
    assert (event["source_ip"], event["source_port"], event["destination_ip"], event["destination_port"]) == (
        "10.9.9.9",
        555,
        "10.0.0.7",
        8443,
    )
    assert (event["kemp_virtual_service_ip"], event["kemp_virtual_service_port"]) == ("10.0.0.1", 443)
    assert (event["observer_vendor"], event["event_code"], event["host_name"]) == ("Kemp", "4", "lm1")


def test_standard_cef_keys_fill_fields_and_the_rest_goes_to_additional_extensions() -> None:
    line = (
        b"CEF:0|Acme|Wall|2|77|Denied|High|src=192.0.2.1 spt=1 dst=192.0.2.2 dpt=443 proto=TCP act=deny outcome=blocked "
        b"rt=1790000000123 myKey=a b=c cs1=x cs1Label=Rule"
    )
    (event,) = encoded(process_syslog(batch([line]), WHERE))["cef"]
    assert (event["source_ip"], event["destination_port"], event["network_transport"]) == ("192.0.2.1", 443, "tcp")
    assert (event["event_outcome"], event["device_action"], event["timestamp"]) == ("failure", "deny", 1_790_000_000_123_000)
    assert event["cef_additional_extensions"] == "myKey=a;b=c"
    assert event["cef_extensions"]["cs1"] == "x"


@pytest.mark.parametrize(
    ("unit", "words"),
    [(b"<13>Sep 21 14:13:20 h CEF:0|Kemp|LM", "CEF header has"), (b"\x00\x01\x02\xff\xfe\x00garbage", "not text")],
)
def test_what_announces_a_format_and_breaks_it_is_dead_with_the_reason(unit: bytes, words: str) -> None:
    outcome = process_syslog(batch([b"<13>fine", unit]), WHERE)
    assert [d.unit_index for d in outcome.dead] == [1]
    assert words in outcome.dead[0].reason


def test_blank_lines_are_empty_units_and_keep_their_number() -> None:
    outcome = process_syslog(batch([b"", b" \r\n", b"<13>Sep 21 14:13:20 h x: y"]), WHERE)
    assert outcome.units_empty == 2
    assert outcome.events["syslog"][0]["event_id"].endswith("-2-0")


def test_a_document_that_is_not_json_is_dead_and_the_others_live() -> None:
    outcome = beats.process(batch([b'{"message":"x"}', b"{oops"], "lumberjack"), WHERE)
    assert [d.unit_index for d in outcome.dead] == [1]
    assert len(outcome.events["sensor"]) == 1


def test_a_large_document_fits_into_a_record_since_it_holds_its_message_once() -> None:
    unit = json.dumps({"message": "x" * 700_000}).encode()
    (record,) = beats.process(batch([unit], "lumberjack"), WHERE).events["sensor"]
    assert len(Encoder("sensor")(record)) < 950_000
    assert "x" * 700_000 in record["document"]


def test_bytes_that_broke_a_connection_are_dead_as_a_whole() -> None:
    outcome = beats.process(batch([b'{"message":"x"}'], "lumberjack-error"), WHERE)
    assert len(outcome.dead) == 1
    assert not outcome.events


def test_bytes_that_broke_a_syslog_connection_are_dead_as_a_whole() -> None:
    outcome = process_syslog(batch([b"<13>Sep 21 14:13:20 h x: y", b""], "syslog-error"), WHERE)
    assert [dead.unit_index for dead in outcome.dead] == [0, 1]
    assert not outcome.events


def test_documents_by_http_become_the_events_that_they_become_by_beats() -> None:
    units = [*lines("sensorfleet.ndjson"), *lines("suricata-eve.ndjson"), b'{"message":"x","event":{"module":"own"}}']
    by_beats = encoded(beats.process(batch(units, "lumberjack"), WHERE))
    by_http = encoded(beats.process(batch(units, "http"), WHERE))
    assert {dataset: len(events) for dataset, events in by_http.items()} == {d: len(events) for d, events in by_beats.items()}
    assert sum(map(len, by_http.values())) == len(units)
    assert [event["event_module"] for event in by_http["sensor"]] == [event["event_module"] for event in by_beats["sensor"]]


def test_a_plain_object_by_http_is_a_sensor_event_that_says_how_it_came() -> None:
    (event,) = encoded(beats.process(batch([b'{"temperature":1.50}'], "http"), WHERE))["sensor"]
    assert (event["event_module"], event["event_dataset"]) == ("http", "http")
    assert json.loads(event["document"]) == {"temperature": 1.5}


def test_a_sensorfleet_envelope_is_reshaped_as_its_seed_says() -> None:
    (event,) = encoded(beats.process(batch([lines("sensorfleet.ndjson")[0]], "lumberjack"), WHERE))["sensor"]
    document = json.loads(event["document"])
    assert "_sensorfleet_event" in document
    assert event["tags"] == ["sensorfleet_event"]
    assert event["event_module"] == "sensorfleet"


def test_flows_decode_from_the_batchs_own_templates_alone() -> None:
    fields = ((8, 4), (12, 4), (1, 4), (2, 4))
    record = b"".join(n.to_bytes(2, "big") for n in (256, len(fields), *(x for f in fields for x in f)))
    data = bytes([10, 0, 0, 1, 10, 0, 0, 2]) + (1000).to_bytes(4, "big") + (3).to_bytes(4, "big")
    body = (256).to_bytes(2, "big") + (4 + 2 * len(data)).to_bytes(2, "big") + 2 * data
    header = b"".join(
        [(9).to_bytes(2, "big"), (2).to_bytes(2, "big"), *(n.to_bytes(4, "big") for n in (5000, RECEIVED // 10**6, 1, 7))]
    )
    without = netflow.process(batch([header + body]), WHERE)
    assert "template not known: exporter 192.0.2.9, domain 7, template 256" in without.dead[0].reason
    template = FlowTemplate(9, 7, 256, options=False, record=record)
    outcome = netflow.process(batch([header + body, b"\x00\x4d" + b"x" * 30], flow_templates=[template]), WHERE)
    first, second = encoded(outcome)["network-flow"]
    assert (first["source_ip"], first["destination_ip"], first["network_bytes"]) == ("10.0.0.1", "10.0.0.2", 1000)
    assert first["event_id"].endswith("-0-0")
    assert second["event_id"].endswith("-0-1")
    assert [d.unit_index for d in outcome.dead] == [1]


@given(st.lists(st.binary(max_size=120), max_size=6))
def test_any_bytes_are_empty_dead_or_an_event(units: list[bytes]) -> None:
    for process in (process_syslog, beats.process, netflow.process):
        outcome = process(batch(units), WHERE)
        ids = {r["event_id"].rsplit("-", 2)[1] for records in outcome.events.values() for r in records}
        units_dead = {d.unit_index for d in outcome.dead}
        assert len(ids | {str(i) for i in units_dead}) + outcome.units_empty == len(units)
        encoded(outcome)


@given(st.lists(st.sampled_from([b"<13>Sep 21 14:13:20 h x: y", b"", b"CEF:0|a", b"<14>1 - h a - - - z"]), min_size=1, max_size=8))
def test_the_same_raw_record_gives_the_same_ids_again(units: list[bytes]) -> None:
    one = batch(units)
    assert process_syslog(one, WHERE).events == process_syslog(one, WHERE).events
