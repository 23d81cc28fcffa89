"""Every field of every schema gets to ADX and to Sentinel, in a column that the service takes, with a value that fits it."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any, get_args

import orjson
import pytest
import yaml

from weir.model import mappings
from weir.model.mappings import COLUMN_TYPES, Destination, cef_key_has_column, projectable_topics, projection
from weir.model.schemas import latest, schemas_dir
from weir.model.topics import DATASETS, declarations

ALL = [(destination, topic) for destination in get_args(Destination) for topic in projectable_topics()]
WHEN = 1_700_000_000_123_456
WHEN_TEXT = "2023-11-14T22:13:20.123456Z"

CLOSED = {"event_outcome": "success", "network_type": "ipv6", "network_direction": "internal"}


def sample(avro: Any, name: str = "") -> Any:
    """A value of an Avro type that is not null, not empty and not zero."""
    if isinstance(avro, list):
        return sample(next(option for option in avro if option != "null"), name)
    if isinstance(avro, dict):
        if avro.get("logicalType") == "timestamp-micros":
            return WHEN
        kind = avro["type"]
        if kind == "array":
            return [sample(avro["items"], name)]
        if kind == "map":
            return {"key": sample(avro["values"])}
        if kind == "record":
            return {entry["name"]: sample(entry["type"], entry["name"]) for entry in avro["fields"]}
        return sample(kind, name)
    if avro == "string":
        if name in {"document", "flow_additional", "log_syslog_structured_data", "samples"}:
            return '{"a":{"b":[1]}}'
        return CLOSED.get(name, f"x{name}")
    return {"int": 7, "long": 1 << 40, "double": 2.5, "float": 2.5, "boolean": True}[avro]


def full_record(topic: str) -> dict[str, Any]:
    fields = latest(declarations()[topic].schema).parsed["fields"]
    return {entry["name"]: sample(entry["type"], entry["name"]) for entry in fields}


def fits(kind: str, value: Any) -> bool:
    if kind == "string":
        return isinstance(value, str)
    if kind == "boolean":
        return isinstance(value, bool)
    if kind in {"int", "long"}:
        limit = 2**31 if kind == "int" else 2**63
        return isinstance(value, int) and not isinstance(value, bool) and -limit <= value < limit
    if kind == "real":
        return isinstance(value, int | float)
    if kind == "datetime":
        return isinstance(value, str) and re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", value) is not None
    return isinstance(value, dict | list)


@pytest.mark.parametrize(("destination", "topic"), ALL)
def test_each_column_names_a_field_of_the_schema_and_a_known_type(destination: Destination, topic: str) -> None:
    names = {entry["name"] for entry in latest(declarations()[topic].schema).parsed["fields"]}
    for column in projection(destination, topic).columns:
        assert column.type in COLUMN_TYPES
        assert column.source == "" or column.source.partition("[")[0] in names


@pytest.mark.parametrize("topic", projectable_topics())
def test_column_names_obey_the_rules_of_azure_monitor(topic: str) -> None:
    made = projection("sentinel", topic)
    names = [column.name for column in made.columns]
    assert len(names) == len({name.lower() for name in names})
    for name in names:
        assert re.fullmatch(r"[A-Za-z][A-Za-z0-9_]{0,44}", name)
        assert name.lower() not in {"_resourceid", "id", "_subscriptionid", "tenantid", "type", "uniqueid", "title"}
    assert ("TimeGenerated", "datetime") in {(column.name, column.type) for column in made.columns}
    assert made.stream == f"Custom-{made.table}"
    if made.output_stream.startswith("Custom-"):
        assert made.output_stream == made.stream
        assert made.table.startswith("Weir")
        assert made.table.endswith("_CL")
    else:
        assert made.output_stream == f"Microsoft-{made.table}"


@pytest.mark.parametrize(("destination", "topic"), ALL)
def test_no_field_is_dropped_in_silence(destination: Destination, topic: str) -> None:
    """Each field alone changes the row, or stands in the file as left out on purpose."""
    made = projection(destination, topic)
    record = full_record(topic)
    base = made.project({})
    for name, value in record.items():
        if name in made.left_out:
            assert made.left_out[name], "a reason must be given"
        else:
            assert made.project({name: value}) != base, f"{name} makes no column of {made.table}"


@pytest.mark.parametrize(("destination", "topic"), ALL)
def test_a_full_record_fills_declared_columns_with_fitting_json(destination: Destination, topic: str) -> None:
    made = projection(destination, topic)
    types = {column.name: column.type for column in made.columns}
    row = made.project(full_record(topic), partition=3, offset=1 << 40)
    assert json.loads(json.dumps(row, allow_nan=False)) == row == orjson.loads(orjson.dumps(row))
    for name, value in row.items():
        assert fits(types[name], value), f"{name}: {value!r} is no {types[name]}"
    assert row[made.id_column] == ("xalert_id" if topic == "alerts" else "xevent_id")
    # What is not filled by a full record can only come from pairs, or be a flag that is not set.
    empty = {column.name for column in made.columns if column.name not in row}
    assert all("[" in column.source or column.name.startswith("TcpFlags") for column in made.columns if column.name in empty)


@pytest.mark.parametrize(("destination", "topic"), ALL)
def test_nulls_and_empty_values_make_no_column(destination: Destination, topic: str) -> None:
    made = projection(destination, topic)
    record = dict.fromkeys(full_record(topic))
    assert made.project(record) == made.project({})
    record |= {name: "" for name, value in full_record(topic).items() if isinstance(value, str)}
    record |= {name: type(value)() for name, value in full_record(topic).items() if isinstance(value, list | dict)}
    assert made.project(record) == made.project({})


def test_zero_is_a_value() -> None:
    assert projection("adx", "events.network-flow").project({"source_port": 0})["SourcePort"] == 0


@pytest.mark.parametrize("topic", [f"events.{dataset}" for dataset in DATASETS])
def test_adx_has_one_column_for_each_field_and_the_coordinates_of_the_event_record(topic: str) -> None:
    made = projection("adx", topic)
    record = full_record(topic)
    assert [column.source for column in made.columns if column.source] == list(record)
    row = made.project(record, partition=0, offset=5)
    assert len(row) == len(record) + 3
    assert (row["EventTopic"], row["EventPartition"], row["EventOffset"]) == (topic, 0, 5)
    assert row["Timestamp"] == WHEN_TEXT
    assert row["EventCategory"] == ["xevent_category"]


def test_json_documents_become_dynamic_values_and_broken_ones_stay_texts() -> None:
    project = projection("adx", "events.sensor").project
    assert project({"document": '{"a":[1,2]}'})["Document"] == {"a": [1, 2]}
    assert project({"document": '{"a":'})["Document"] == '{"a":'
    assert projection("adx", "alerts").project({"samples": ['{"a":1}', "no"]})["Samples"] == [{"a": 1}, "no"]


def test_every_field_documented_as_json_is_dynamic() -> None:
    for topic in projectable_topics():
        types = {column.source: column.type for column in projection("adx", topic).columns}
        for entry in latest(declarations()[topic].schema).parsed["fields"]:
            if "JSON" in entry["doc"]:
                assert types[entry["name"]] == "dynamic", f"{topic}: {entry['name']}"


def test_an_unknown_topic_is_named_with_the_known_ones() -> None:
    with pytest.raises(KeyError, match=r"raw\.syslog.*events\.cef"):
        projection("adx", "raw.syslog")


def test_a_projection_is_made_once() -> None:
    assert projection("adx", "alerts") is projection("adx", "alerts")


# -- CommonSecurityLog


def test_kemp_extensions_stay_at_the_positions_that_the_vendors_queries_read() -> None:
    joined = "vs=10.0.0.1:443;event=Request;srcip=192.0.2.7;srcport=51000;method=GET;url=/owa;user=AD\\nora;useragent=curl"
    pairs = dict(pair.split("=", 1) for pair in joined.split(";"))
    row = projection("sentinel", "events.cef").project(
        {
            "event_code": "11",
            "cef_extensions": pairs,
            "cef_additional_extensions": joined,
            "source_ip": "192.0.2.7",
            "http_request_method": "GET",
            "user_agent_original": "curl",
        }
    )
    parts = row["AdditionalExtensions"].split(";")
    assert parts[0].split("=")[1].split(":") == ["10.0.0.1", "443"]
    assert [part.split("=")[1] for part in parts[1:6]] == ["Request", "192.0.2.7", "51000", "GET", "/owa"]
    assert row["DeviceEventClassID"] == "11"
    assert (row["SourceIP"], row["RequestMethod"], row["RequestClientApplication"]) == ("192.0.2.7", "GET", "curl")


def test_pairs_of_the_cef_dictionary_get_typed_columns_and_the_rest_is_joined() -> None:
    row = projection("sentinel", "events.cef").project(
        {
            "cef_extensions": {
                "src": "10.1.1.1",
                "SPT": "443",
                "cn1": "9007199254740993",
                "cfp1": "1.5",
                "externalId": "abc",
                "start": "1700000000123",
                "end": "Nov 14 2023 22:13:20",
                "outcome": "Permitted",
                "reason": "policy",
                "vendorKey": "a=b",
                "other": "",
            },
            "event_outcome": "unknown",
        }
    )
    assert row["SourceIP"] == "10.1.1.1"
    assert row["SourcePort"] == 443
    assert row["FieldDeviceCustomNumber1"] == 9007199254740993
    assert row["DeviceCustomFloatingPoint1"] == 1.5
    assert row["ExtID"] == "abc"
    assert row["StartTime"] == "2023-11-14T22:13:20.123000Z"
    assert row["EndTime"] == "2023-11-14T22:13:20.000000Z"
    assert (row["EventOutcome"], row["EventOutcome_CF"], row["Reason"]) == ("Permitted", "unknown", "policy")
    assert row["AdditionalExtensions"] == "vendorKey=a=b;other="


def test_a_pair_that_does_not_fit_its_column_is_kept_behind_the_others() -> None:
    project = projection("sentinel", "events.cef").project
    pairs = {"spt": "http", "fsize": "5000000000", "end": "yesterday", "cfp1": "nan", "cn1": "9" * 19, "x": "1"}
    row = project({"cef_extensions": pairs, "cef_additional_extensions": "x=1"})
    assert row["AdditionalExtensions"] == f"x=1;spt=http;fsize=5000000000;end=yesterday;cfp1=nan;cn1={'9' * 19}"
    assert not {"SourcePort", "FileSize", "EndTime", "DeviceCustomFloatingPoint1", "FieldDeviceCustomNumber1"} & set(row)


def test_which_keys_have_a_column_is_told_to_the_processor() -> None:
    assert cef_key_has_column("src")
    assert cef_key_has_column("deviceExternalId")
    assert cef_key_has_column("deviceExternalID")
    assert not cef_key_has_column("srcip")


def test_the_processor_joins_exactly_the_pairs_that_have_no_column() -> None:
    """Else a pair would be in the row twice, or not at all."""
    from weir.processors.fields.cef import COLUMN_KEYS

    keys = {column.source for column in projection("sentinel", "events.cef").columns}
    assert all(cef_key_has_column(key) for key in COLUMN_KEYS)
    mapped = yaml.safe_load((schemas_dir() / "mappings/sentinel/cef.yaml").read_text(encoding="utf-8"))["pairs"]["keys"]
    assert set(mapped) == set(COLUMN_KEYS)
    assert "cef_extensions[cs1]" in keys


def test_what_is_wrong_in_a_mapping_file_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    shutil.copytree(schemas_dir(), tmp_path / "schemas")
    path = tmp_path / "schemas/mappings/sentinel/cef.yaml"
    good = path.read_text(encoding="utf-8")
    monkeypatch.setattr(mappings, "schemas_dir", lambda: tmp_path / "schemas")
    for right, wrong, complaint in (
        ("from: source_ip}", "from: src_ip}", r"cef\.yaml, column SourceIP: no field src_ip"),
        ("{type: int, from: source_port}", "{type: int32, from: source_port}", "column SourcePort: unknown type 'int32'"),
        ("{type: int, from: source_port}", "{type: string, from: source_port}", "source_port is not of type string"),
        ("{type: int, from: source_port}", "{type: int, form: source_port}", r"unknown keys \['form'\]"),
        ("  SourceIP: ", "  Source-IP: ", "'Source-IP' is no column name"),
        ("  SourceIP: ", "  TenantId: ", "TenantId is reserved"),
        ("extra: _CF", "extra: ''", "two columns are called"),
        ("spt: {column: SourcePort, type: int}", "spt: {column: SourcePort, type: string}", "has type int elsewhere"),
    ):
        assert right in good
        path.write_text(good.replace(right, wrong), encoding="utf-8")
        with pytest.raises(ValueError, match=complaint):
            projection.__wrapped__("sentinel", "events.cef")


# -- ASIM


def test_a_flow_has_what_asim_makes_mandatory() -> None:
    row = projection("sentinel", "events.network-flow").project(
        {
            "event_id": "e",
            "event_created": WHEN,
            "log_source_ip": "192.0.2.1",
            "flow_protocol": "netflow-v9",
            "network_transport": "tcp",
            "network_type": "ipv6",
            "source_mac": "00-00-5E-00-53-23",
            "event_duration": 1_500_000_000,
            "network_direction": "ingress",
            "flow_tcp_flags": 0x12,
            "vlan_id": 7,
        }
    )
    assert (row["EventSchema"], row["EventSchemaVersion"], row["EventType"]) == ("NetworkSession", "0.2.7", "Flow")
    assert (row["EventCount"], row["EventResult"], row["EventSeverity"]) == (1, "NA", "Informational")
    assert (row["EventVendor"], row["EventProduct"], row["Dvc"]) == ("Weir", "netflow-v9", "192.0.2.1")
    assert row["EventStartTime"] == row["EventEndTime"] == row["TimeGenerated"] == WHEN_TEXT
    assert (row["NetworkProtocol"], row["NetworkProtocolVersion"]) == ("TCP", "IPv6")
    assert (row["NetworkDuration"], row["SrcVlanId"], row["SrcMacAddr"]) == (1500, "7", "00:00:5E:00:53:23")
    assert (row["NetworkDirection"], row["NetworkDirection_CF"]) == ("NA", "ingress")
    assert {name for name in row if name.startswith("TcpFlags")} == {"TcpFlagsSyn", "TcpFlagsAck"}
    assert row["EventId_CF"] == "e"


def test_the_events_own_time_is_kept_beside_the_one_that_the_service_may_rewrite() -> None:
    record = {"timestamp": WHEN, "event_created": WHEN + 5_000_000}
    for topic, column in (("events.cef", "EventTime_CF"), ("events.network-flow", "EventTime_CF"), ("events.syslog", "EventTime")):
        row = projection("sentinel", topic).project(record)
        assert row["TimeGenerated"] == row[column] == WHEN_TEXT
        row = projection("sentinel", topic).project({"timestamp": None, "event_created": WHEN})
        assert row["TimeGenerated"] == WHEN_TEXT
        assert column not in row
