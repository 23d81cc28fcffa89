"""Qumulo's audit records by each way they come, as events of file-audit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from weir.bus.codec import Encoder
from weir.processors.fields import Context
from weir.processors.fields.qumulo import FILE_TYPES
from weir.processors.readers import read_document, read_text
from weir.protocols.qumulo import OPERATIONS, QumuloError
from weir.tools.conformance._lines import decode

encode = Encoder("file-audit")
SCHEMA = {
    field["name"]
    for field in json.loads((Path(__file__).parents[3] / "schemas" / "avro" / "file-audit.v2.avsc").read_text())["fields"]
}
CSV = r'203.0.113.9,"AD\nora",smb,fs_rename,fs_entry_exists_error,123,"/p/a.TXT","/p/b"'
JSON = (
    r'{"user_id": {"sid": "S-1-5-21-1-500", "auth_id": "500", "name": "AD\nora"}, "user_ip": "203.0.113.9", "protocol": "smb", '
    r'"operation": "fs_rename", "status": "fs_entry_exists_error", "details": {"path": "/p/a.TXT", "target": "/p/b", '
    r'"file_id": "123"}}'
)
CLOUDWATCH = (
    r'{"ip_address": "203.0.113.9", "user": "AD\nora", "protocol": "smb", "operation": "fs_rename", "result": '
    r'"fs_entry_exists_error", '
    r'"object_id": "123", "path_1": "/p/a.TXT", "path_2": "/p/b"}'
)
RFC3164 = "<14>Sep 21 14:13:20 q-1 qumulo "
RFC5424 = "<14>1 2026-09-21T14:13:20.1234Z q-1 qumulo - - - "


def context() -> Context:
    return Context(1_790_000_000_000_000, lambda local: local)


def checked(found: tuple[str, dict[str, Any]] | None) -> dict[str, Any]:
    assert found is not None
    dataset, event = found
    assert dataset == "file-audit"
    assert event.keys() <= SCHEMA
    return event


WAYS = {
    "syslog csv": lambda: decode(RFC3164 + CSV),
    "syslog csv, RFC 5424": lambda: decode(RFC5424 + CSV),
    "syslog json": lambda: decode(RFC3164 + JSON),
    "syslog json, RFC 5424": lambda: decode(RFC5424 + JSON),
    "cloudwatch table": lambda: decode(f"| 1790000000000 | {CLOUDWATCH}      |"),
    "cloudwatch line": lambda: decode(CLOUDWATCH),
    "cloudwatch document": lambda: read_document(json.loads(CLOUDWATCH), context()),
    "json document": lambda: read_document(json.loads(JSON), context()),
    "shipped csv line": lambda: read_text(RFC3164.removeprefix("<14>") + CSV, context()),
    "shipped document": lambda: read_document({"message": RFC3164.removeprefix("<14>") + CSV, "@timestamp": "x"}, context()),
    "document in a message": lambda: read_document({"message": CLOUDWATCH, "timestamp": 1790000000000}, context()),
}


@pytest.mark.parametrize("way", WAYS)
def test_one_record_is_the_same_event_by_every_way(way: str) -> None:
    event = checked(WAYS[way]())
    assert (event["source_ip"], event["network_protocol"], event["event_action"]) == ("203.0.113.9", "smb", "fs_rename")
    assert (event["user_name"], event["user_domain"]) == ("nora", "AD")
    assert event["user_id"] == ("S-1-5-21-1-500" if "json" in way else r"AD\nora")
    assert (event["event_outcome"], event["error_code"]) == ("failure", "fs_entry_exists_error")
    assert (event["event_category"], event["event_type"]) == (["file"], ["change"])
    assert (event["file_id"], event["file_path"], event["file_target_path"]) == ("123", "/p/a.TXT", "/p/b")
    assert (event["file_name"], event["file_extension"]) == ("a.TXT", "txt")
    if "csv" in way or "table" in way or "syslog" in way:
        assert event["timestamp"] in {1_790_000_000_000_000, 1_790_000_000_123_400}
    if "syslog" in way or "shipped" in way:
        assert event["host_name"] == "q-1"


def test_events_of_each_way_fit_the_schema() -> None:
    for line in (RFC3164 + CSV, RFC5424 + JSON, f"| 1790000000000 | {CLOUDWATCH} |"):
        _, event = decode(line)
        assert encode(event)


def test_a_broken_record_in_json_is_refused_and_other_json_is_not_ours() -> None:
    with pytest.raises(ValueError, match="not JSON"):
        decode(RFC3164 + JSON[:-20])
    with pytest.raises(QumuloError):
        read_text(CLOUDWATCH[:-20], context())
    assert read_document({"operation": "x", "protocol": "y"}, context()) is None
    assert read_document({"operation": "x", "protocol": "y", "ip_address": "host", "result": "ok"}, context()) is None
    assert read_text('{"broken": ', context()) is None
    assert read_text("| 1790000000000 | {x} |", context()) is None
    assert read_text("about qumulo", context()) is None


@pytest.mark.parametrize(
    ("operation", "kind"),
    [
        ("fs_create_directory", "dir"),
        ("fs_read_data", "file"),
        ("fs_create_symlink", "symlink"),
        ("fs_open", None),
        ("new_one", None),
    ],
)
def test_the_type_of_file_is_what_the_operation_says(operation: str, kind: str | None) -> None:
    _, event = decode(f'{RFC3164}10.0.0.7,"1000",nfsv3,{operation},ok,3,"/a",""')
    assert event["file_type"] == kind
    assert (event["user_id"], event["user_name"]) == ("1000", None)


def test_every_operation_that_has_a_type_of_file_is_documented() -> None:
    assert FILE_TYPES.keys() <= OPERATIONS.keys()
