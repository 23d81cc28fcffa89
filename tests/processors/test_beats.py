"""Which document goes where: sources are found in every wrapping, and lines are offered to all readers."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from tests.processors.fields.one import event_of, outcome_of
from weir.model.batch import RawBatch
from weir.processors import beats, readers
from weir.processors.fields import Context, Decoded
from weir.processors.outcome import RawCoordinates

EVE: dict[str, Any] = {
    "timestamp": "2024-03-01T12:00:00.000000+0000", "flow_id": 7, "event_type": "dns", "src_ip": "10.0.0.1", "src_port": 5353,
    "dest_ip": "10.0.0.2", "dest_port": 53, "proto": "UDP", "dns": {"version": 2, "type": "query", "rrname": "w.example",
    "rrtype": "A"},
}  # fmt: skip
TEXT = json.dumps(EVE)
FILEBEAT: dict[str, Any] = {
    "@timestamp": "2024-03-01T12:00:01.500Z",
    "@metadata": {"beat": "filebeat", "version": "8.12.2"},
    "agent": {"name": "sensor-1", "type": "filebeat", "version": "8.12.2"},
    "host": {"name": "sensor-1.example"},
    "input": {"type": "filestream"},
    "log": {"file": {"path": "/var/log/suricata/eve.json"}, "offset": 4711},
    "tags": ["dmz"],
}
SHIPPED = {
    "agent_name": "sensor-1", "agent_type": "filebeat", "agent_version": "8.12.2", "log_offset": 4711,
    "host_name": "sensor-1.example",
    "log_file_path": "/var/log/suricata/eve.json", "tags": ["dmz"],
}  # fmt: skip
MOVED = {
    "suricata": {"eve": {key: EVE[key] for key in ("flow_id", "event_type", "dns")}},
    "source": {"address": "10.0.0.1", "ip": "10.0.0.1", "port": 5353},
    "destination": {"address": "10.0.0.2", "ip": "10.0.0.2", "port": 53},
    "network": {"transport": "UDP"},
}


@pytest.mark.parametrize(
    "inner",
    [
        {"message": TEXT}, {"message": " " + TEXT}, {"event": {"original": TEXT}}, {"event.original": TEXT}, {"json": EVE},
        {"suricata": {"eve": EVE}}, {"suricata.eve": EVE}, EVE, {"event": {"original": TEXT}, **MOVED}, MOVED,
    ],
    ids=[
        "message", "behind a blank", "event.original", "dotted", "json", "suricata.eve", "dotted object", "root",
        "module, line kept", "module",
    ],
)  # fmt: skip
def test_a_suricata_record_is_the_same_event_in_every_wrapping(inner: dict[str, Any]) -> None:
    dataset, event = event_of({**FILEBEAT, **inner})
    assert dataset == "network-log"
    assert SHIPPED.items() <= event.items()
    assert {
        "event_dataset": "suricata.dns", "source_ip": "10.0.0.1", "destination_port": 53, "network_transport": "udp",
        "flow_id": "7",
        "dns_question_name": "w.example",
    }.items() <= event.items()  # fmt: skip
    seconds = 1 if inner is MOVED else 0  # the module has dropped the record's own
    assert event["timestamp"] // 1_000_000 == 1_709_294_400 + seconds


def test_a_record_that_came_alone_has_no_shipper() -> None:
    _, event = event_of(EVE, "http")
    assert (event["agent_name"], event["log_offset"], event["host_name"], event["tags"]) == (None, None, None, [])


ENVELOPE: dict[str, Any] = {
    "@timestamp": "2024-03-01T12:00:09Z", "@version": "1", "headers": {"h": 1}, "host": "203.0.113.5",
    "tags": ["beats_input_raw_event"],
    "source_sensor": "plant-7", "source_instrument": "suricata_0@plant-7", "type": "instruments.suricata.dns", "message": "dns",
    "context_uuid": "6c0c", "uuid": "0e4c", "sensor_event_id": 871, "timestamp": 1709294400.123457,
}  # fmt: skip


def test_what_is_in_a_sensorfleet_envelope_reads_as_if_it_had_come_alone() -> None:
    dataset, event = event_of({**ENVELOPE, "data": EVE})
    _, alone = event_of(EVE)
    assert dataset == "network-log"
    differing = {key for key in event if event[key] != alone[key]}
    assert differing == {"document", "host_name", "labels", "tags"}
    assert (event["host_name"], event["tags"]) == ("plant-7", ["sensorfleet_event"])
    assert event["labels"] == {
        "sensorfleet.source_sensor": "plant-7", "sensorfleet.source_instrument": "suricata_0@plant-7", "sensorfleet.uuid": "0e4c",
        "sensorfleet.type": "instruments.suricata.dns", "sensorfleet.context_uuid": "6c0c", "sensorfleet.sensor_event_id": "871",
    }  # fmt: skip
    document = json.loads(event["document"])
    assert document.pop("_sensorfleet_event") == {
        key: ENVELOPE[key] for key in ENVELOPE if key not in {"@timestamp", "@version", "headers", "host", "tags"}
    }
    assert document == {**EVE, "@timestamp": ENVELOPE["@timestamp"], "@version": "1", "tags": ["sensorfleet_event"]}


def test_an_envelope_is_found_within_a_message_and_after_a_forwarder_reshaped_it() -> None:
    for document in (
        {**FILEBEAT, "message": json.dumps({**ENVELOPE, "data": EVE})},
        {"_sensorfleet_event": {"source_sensor": "plant-7", "type": "instruments.suricata.dns", "uuid": "0e4c"}, **EVE},
    ):
        dataset, event = event_of(document)
        assert (dataset, event["dns_question_name"], event["labels"]["sensorfleet.uuid"]) == ("network-log", "w.example", "0e4c")
        assert event["tags"] == [*document.get("tags", []), "sensorfleet_event"]


def test_the_envelope_of_a_flow_is_kept_though_flows_have_no_document() -> None:
    flow = {**EVE, "event_type": "flow", "flow": {"bytes_toserver": 1, "state": "new"}}
    dataset, event = event_of({**ENVELOPE, "data": flow})
    assert dataset == "network-flow"
    assert json.loads(event["flow_additional"])["_sensorfleet_event"]["message"] == "dns"


def test_a_key_of_the_data_that_collides_is_kept_apart() -> None:
    _, event = event_of({**ENVELOPE, "data": {**EVE, "tags": ["late"], "@timestamp": "forged"}})
    assert event["tags"] == ["sensorfleet_event"]
    inside = json.loads(event["document"])["_sensorfleet_event"]
    assert inside["data_collisions"] == {"tags": ["late"], "@timestamp": "forged"}


@pytest.mark.parametrize("data", [{"processed": 6, "errors": 0}, None, "text"])
def test_the_sensors_own_events_stay_sensor_events(data: object) -> None:
    dataset, event = event_of({**ENVELOPE, "type": "instruments.logforwarder.pipeline_stats", "data": data})
    assert dataset == "sensor"
    assert {
        "event_module": "sensorfleet", "event_dataset": "sensorfleet.instruments.logforwarder.pipeline_stats",
        "event_kind": "metric",
        "host_name": "plant-7", "timestamp": 1_709_294_400_123_457, "message": "dns", "tags": ["sensorfleet_event"],
    }.items() <= event.items()  # fmt: skip


class Tea:
    """A reader of lines that begin with "tea"."""

    name = "tea"

    def __init__(self) -> None:
        self.contexts: list[tuple[Any, ...]] = []

    def line(self, text: str, context: Context) -> Decoded | None:
        self.contexts.append((context.log_path, context.module, context.event_dataset, context.program))
        return ("network-log", {"event_module": "tea", "event_dataset": "tea", "message": text}) if text.startswith("tea") else None

    def document(self, document: dict[str, object], context: Context) -> Decoded | None:
        return ("network-log", {"event_module": "tea", "event_dataset": "tea.json"}) if "tea" in document else None


@pytest.fixture
def tea(monkeypatch: pytest.MonkeyPatch) -> Tea:
    reader = Tea()
    monkeypatch.setattr(readers, "_asked", (*readers.READERS, reader))
    return reader


def test_a_line_is_offered_to_the_readers_with_what_the_shipper_says_of_it(tea: Tea) -> None:
    _, event = event_of({**FILEBEAT, "event": {"module": "kitchen", "dataset": "kitchen.pot"}, "message": "tea is ready"})
    assert (event["event_module"], event["message"], event["agent_name"]) == ("tea", "tea is ready", "sensor-1")
    assert tea.contexts == [("/var/log/suricata/eve.json", "kitchen", "kitchen.pot", None)]
    _, event = event_of({**FILEBEAT, "message": "gone", "event": {"original": "tea was here"}})
    assert event["message"] == "tea was here"


def test_a_syslog_line_within_a_document_is_read_behind_its_header(tea: Tea) -> None:
    _, event = event_of({**FILEBEAT, "host": None, "message": "<134>1 2024-03-01T12:00:00Z kettle brew - - - tea is ready"})
    assert {
        "event_module": "tea", "message": "tea is ready", "host_name": "kettle", "timestamp": 1_709_294_400_000_000,
        "log_syslog_facility": 16, "log_syslog_severity": 6,
    }.items() <= event.items()  # fmt: skip
    assert tea.contexts[-1][3] == "brew"


def test_a_json_line_and_an_envelope_are_offered_as_documents(tea: Tea) -> None:
    assert event_of({**FILEBEAT, "message": '{"tea": 1}'})[1]["event_dataset"] == "tea.json"
    _, event = event_of({**ENVELOPE, "data": {"tea": 1}})
    assert (event["event_dataset"], event["tags"]) == ("tea.json", ["sensorfleet_event"])
    # A reader that keeps no document must not lose the envelope.
    assert json.loads(event["labels"]["_sensorfleet_event"])["message"] == "dns"


@pytest.mark.parametrize(
    ("event", "line", "expected"),
    [
        (
            {"module": "system", "dataset": "system.auth", "timezone": "+02:00"},
            "Mar  1 14:00:02 db02 sshd[811]: Accepted publickey for backup from 10.20.1.14 port 50512 ssh2",
            {"host_name": "db02", "process_name": "sshd", "event_dataset": "system.auth", "log_syslog_facility": None},
        ),
        (
            {},
            "<38>1 2024-03-01T12:00:02Z fw1 app - - - something",
            {"host_name": "fw1", "process_name": "app", "log_syslog_facility": 4, "log_syslog_severity": 6},
        ),
    ],
    ids=["system module", "udp input"],
)
def test_a_syslog_line_of_no_known_source_stays_whole_and_its_header_is_read(
    event: dict[str, Any], line: str, expected: dict[str, Any]
) -> None:
    dataset, found = event_of({**FILEBEAT, "event": event, "message": line})
    assert dataset == "sensor"
    assert found["message"] == line
    assert expected.items() <= found.items()
    year_2026 = 1_772_366_402_000_000  # without a year it is the latest one before the receipt
    assert found["timestamp"] == (year_2026 if event else 1_709_294_402_000_000)


def test_a_line_that_is_no_syslog_keeps_the_shippers_time_and_host() -> None:
    for line in ("nothing special", "<Event xmlns='x'/>", "<999>x"):
        _, found = event_of({**FILEBEAT, "message": line})
        assert (found["message"], found["host_name"], found["process_name"]) == (line, "sensor-1.example", None)
        assert found["timestamp"] == 1_709_294_401_500_000


def test_tags_of_the_shipper_and_of_the_reader_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    class Tagging(Tea):
        def line(self, text: str, context: Context) -> Decoded | None:
            return "network-log", {"event_module": "tea", "event_dataset": "tea", "tags": ["hot", "dmz"]}

    monkeypatch.setattr(readers, "_asked", (Tagging(),))
    assert event_of({**FILEBEAT, "message": "x"})[1]["tags"] == ["dmz", "hot"]


def test_bytes_that_broke_a_connection_and_units_that_are_no_json_are_dead() -> None:
    assert len(outcome_of([b"\x00"], "lumberjack-error").dead) == 1
    assert [dead.unit_index for dead in outcome_of([b"{", b"{}", b"[]"]).dead] == [0, 2]


def test_times_that_name_no_zone_are_read_as_the_setting_says_where_nobody_knows_better() -> None:
    line = {"message": "<13>Mar  1 12:00:00 host app: x"}
    batch = RawBatch(bytes(16), "s", "r", "lumberjack", "192.0.2.1", 5044, 1_709_294_400_000_000, [json.dumps(line).encode()])
    where = RawCoordinates("raw", 0, 0)
    [plain] = beats.process(batch, where).events["sensor"]
    [moved] = beats.make_process(120)(batch, where).events["sensor"]
    assert plain["timestamp"] - moved["timestamp"] == 120 * 60_000_000
    zoned = replace(batch, time_zone="Europe/Helsinki")
    assert beats.make_process(-300)(zoned, where).events["sensor"][0]["timestamp"] == moved["timestamp"]
