"""Documents of no known source: what they say in ECS has columns, by nested objects and by dotted keys alike."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.processors.fields.one import event_of, events_of
from weir.processors.fields.sensor import LARGE_DOCUMENT, ecs_fields

NESTED: dict[str, Any] = {
    "@timestamp": "2024-03-01T12:00:01.500Z",
    "agent": {"name": "a", "type": "filebeat", "version": "8.1"},
    "event": {
        "module": "nginx", "dataset": "nginx.access", "kind": "event", "category": ["web"], "type": "access", "action": "get",
        "outcome": "failure", "severity": 4, "code": 1234, "reason": "why",
    },
    "host": {"name": "web1"},
    "source": {"ip": "2001:DB8::1", "port": 40000, "domain": "client.example"},
    "destination": {"ip": "192.0.2.1", "port": 443, "domain": "web.example"},
    "network": {"transport": "TCP", "iana_number": "6", "application": "app", "protocol": "http", "community_id": "1:x="},
    "user": {"name": "alice", "domain": "CORP", "id": "S-1-5"},
    "process": {"name": "nginx"},
    "url": {"original": "/x?y"},
    "dns": {"question": {"name": "w.example"}},
    "user_agent": {"original": "curl/8", "name": "curl", "version": "8", "os": {"name": "Linux", "version": "6"},
    "device": {"name": "PC"}},
    "file": {"name": "x.txt", "path": "/a/x.txt", "size": 5, "hash": {"md5": "A" * 32, "sha1": "b" * 40, "sha256": "c" * 64}},
    "log": {"file": {"path": "/var/log/x"}, "offset": 7, "syslog": {"facility": {"code": 4}, "severity": {"code": 5}}},
    "labels": {"team": "blue", "n": 1, "on": True},
    "message": "what happened",
    "tags": ["one", "two"],
}  # fmt: skip
COLUMNS: dict[str, Any] = {
    "timestamp": 1_709_294_401_500_000, "event_module": "nginx", "event_dataset": "nginx.access", "event_kind": "event",
    "event_category": ["web"], "event_type": ["access"], "event_action": "get", "event_outcome": "failure", "event_severity": 4,
    "event_code": "1234", "event_reason": "why", "host_name": "web1", "source_ip": "2001:db8::1", "source_port": 40000,
    "source_host": "client.example", "destination_ip": "192.0.2.1", "destination_port": 443, "destination_host": "web.example",
    "network_transport": "tcp", "network_iana_number": 6, "network_application": "app", "network_protocol": "http",
    "network_community_id": "1:x=", "user_name": "alice", "user_domain": "CORP", "user_id": "S-1-5", "process_name": "nginx",
    "url_original": "/x?y", "dns_question_name": "w.example", "user_agent_original": "curl/8", "user_agent_name": "curl",
    "user_agent_version": "8", "user_agent_os_name": "Linux", "user_agent_os_version": "6", "user_agent_device_name": "PC",
    "file_name": "x.txt", "file_path": "/a/x.txt", "file_size": 5, "file_hash_md5": "a" * 32, "file_hash_sha1": "b" * 40,
    "file_hash_sha256": "c" * 64, "log_syslog_facility": 4, "log_syslog_severity": 5, "labels": {"team": "blue", "n": "1",
    "on": "true"},
    "message": "what happened", "tags": ["one", "two"], "agent_name": "a", "agent_type": "filebeat", "agent_version": "8.1",
    "log_file_path": "/var/log/x", "log_offset": 7,
}  # fmt: skip


def flat(document: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """With keys that have the dots in them; labels stay an object, as they are one field."""
    found: dict[str, Any] = {}
    for key, value in document.items():
        if isinstance(value, dict) and key != "labels":
            found |= flat(value, f"{prefix}{key}.")
        else:
            found[prefix + key] = value
    return found


def half_flat(document: dict[str, Any]) -> dict[str, Any]:
    """Nested at the first level, dots below."""
    return {key: flat(value) if isinstance(value, dict) and key != "labels" else value for key, value in document.items()}


@pytest.mark.parametrize("document", [NESTED, flat(NESTED), half_flat(NESTED)], ids=["nested", "dotted", "both"])
def test_what_a_document_says_in_ecs_has_columns(document: dict[str, Any]) -> None:
    dataset, event = event_of(document)
    assert dataset == "sensor"
    assert {key: event[key] for key in COLUMNS} == COLUMNS
    assert json.loads(event["document"]) == document


def test_what_is_second_best_stands_in() -> None:
    _, event = event_of(
        {
            "source": {"address": "10.0.0.1"}, "destination": {"address": "web.example"}, "url": {"full": "https://a.example/"},
            "process": {"executable": "C:\\x\\a.exe"}, "log": {"syslog": {"priority": 165}},
            "data_stream": {"dataset": "nginx.error"}, "hash": {"sha1": "d" * 40},
        }
    )  # fmt: skip
    assert (event["source_ip"], event["destination_ip"], event["url_original"]) == ("10.0.0.1", None, "https://a.example/")
    assert (event["process_name"], event["log_syslog_severity"], event["file_hash_sha1"]) == ("a.exe", 5, "d" * 40)
    assert (event["event_module"], event["event_dataset"]) == ("nginx", "nginx.error")


@pytest.mark.parametrize(("transport", "module"), [("lumberjack", "beats"), ("http", "http")])
def test_a_document_that_names_nobody_is_named_after_its_way(transport: str, module: str) -> None:
    _, event = event_of({"colour": "red", "timestamp": "2024-03-01T12:00:00Z"}, transport)
    assert (event["event_module"], event["event_dataset"], event["timestamp"]) == (module, module, 1_709_294_400_000_000)


def test_a_large_document_gives_its_message_once() -> None:
    _, event = event_of({"message": "x" * LARGE_DOCUMENT})
    assert event["message"] is None
    assert len(event["document"]) > LARGE_DOCUMENT


PATHS = sorted(flat(NESTED))
VALUES = st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.text(max_size=5) | st.lists(st.text(max_size=3), max_size=3)


def nested(paths: dict[str, Any]) -> dict[str, Any]:
    document: dict[str, Any] = {}
    for path, value in paths.items():
        *heads, last = path.split(".")
        at: Any = document
        for head in heads:
            at = at.setdefault(head, {}) if isinstance(at, dict) else {}
        if isinstance(at, dict):
            at[last] = value
    return document


@settings(max_examples=120, deadline=None)
@given(st.dictionaries(st.sampled_from([*PATHS, "source", "log", "event", "labels"]), VALUES, max_size=8), st.booleans())
def test_any_values_give_an_event_that_fits_its_schema(paths: dict[str, Any], dotted: bool) -> None:
    document = paths if dotted else nested(paths)
    assert sum(map(len, events_of([json.dumps(document).encode()]).values())) == 1


@pytest.mark.parametrize(
    "document",
    [
        {"log": {"syslog": {"facility": {"code": 4}}}},
        {"log.syslog.facility.code": 4},
        {"log": {"syslog.facility.code": 4}},
        {"log.syslog": {"facility.code": 4}},
        {"log.syslog.facility": {"code": 4}},
        {"log": {"syslog": {"facility.code": 4}, "syslog.": 1, ".": 2, "": {"": 3}}},
    ],
)
def test_dots_may_stand_in_keys_at_any_depth(document: dict[str, object]) -> None:
    assert ecs_fields(document) == {"log_syslog_facility": 4}


def test_a_document_deeper_than_ecs_is_not_followed() -> None:
    document: dict[str, object] = {"ip": "192.0.2.1"}
    for _ in range(5_000):
        document = {"source": document}
    assert ecs_fields(document) == {}
