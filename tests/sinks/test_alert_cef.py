"""Alerts as CEF: read back with our own decoders."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weir.protocols import cef as cef_protocol
from weir.protocols import syslog
from weir.sinks.alert_cef import alert_message, event_message

from .samples import NOW_US, alert, cef


def read(message: bytes) -> tuple[syslog.SyslogMessage, cef_protocol.CefEvent]:
    outer = syslog.parse(message, received_us=NOW_US)
    assert outer.format == "rfc5424"
    return outer, cef_protocol.parse(outer.message)


def whole(record: dict[str, Any], **options: Any) -> tuple[syslog.SyslogMessage, cef_protocol.CefEvent]:
    return read(alert_message(record, **{"max_bytes": 8192, "max_evidence": 10, **options}))


def test_an_alert_says_what_who_where_and_when() -> None:
    outer, event = whole(alert(1))
    assert (outer.app_name, outer.hostname, outer.severity) == ("weir", "plant", 3)
    assert outer.timestamp_us == NOW_US + 2_000_000
    assert (event.device_vendor, event.device_product, event.severity) == ("Weir", "Weir", "8")
    assert event.device_event_class_id == "4d8f0c6e-0f0a-4a57-9d5e-2a3f8f0c1b11"
    assert event.name == "Many failed logins from one address"
    assert event.extension == {
        "externalId": f"{1:032x}",
        "act": "new",
        "cnt": "25",
        "start": str((NOW_US - 300_000_000) // 1000),
        "end": str(NOW_US // 1000),
        "rt": str((NOW_US + 2_000_000) // 1000),
        "deviceExternalId": "plant",
        "cn1Label": "revision",
        "cn1": "1",
        "suser": "root",
        "src": "192.0.2.7",
        "dhost": "lb1",
        "msg": "25 failed logins of root from 192.0.2.7 within 5 minutes",
        "cs1Label": "attackTechniques",
        "cs1": "T1110.001 T1078",
        "cs2Label": "evidenceEventIds",
        "cs2": " ".join(f"{n:032x}-0-0" for n in range(3)),
        "cn2Label": "evidenceCount",
        "cn2": "3",
        "cs3Label": "ruleVersion",
        "cs3": "7",
    }


@pytest.mark.parametrize(
    ("severity", "number", "syslog_severity"),
    [("informational", "1", 6), ("low", "3", 5), ("medium", "5", 4), ("high", "8", 3), ("critical", "10", 2), ("odd", "5", 4)],
)
def test_severities(severity: str, number: str, syslog_severity: int) -> None:
    outer, event = whole(alert(1, severity=severity))
    assert (event.severity, outer.severity) == (number, syslog_severity)


def test_an_ipv6_source_goes_where_cef_has_it_and_a_name_is_no_address() -> None:
    _, event = whole(alert(1, group_by={}, entities={"source_ip": "2001:db8::7", "destination_ip": "db.example"}))
    assert (event.extension["c6a2"], event.extension["c6a2Label"]) == ("2001:db8::7", "Source IPv6 Address")
    assert event.extension["dhost"] == "db.example"
    assert "src" not in event.extension


def test_what_has_no_key_of_its_own_is_still_sent() -> None:
    _, event = whole(alert(1, group_by={"kemp_virtual_service_ip": "192.0.2.80"}, entities={}))
    assert event.extension["cs4"] == "kemp_virtual_service_ip: 192.0.2.80"


def test_an_alert_of_the_detector_has_its_entities_and_condition_where_cef_has_them() -> None:
    _, event = whole(
        alert(
            1,
            group_by={"source.ip": "10.0.0.7", "destination.port": "22", "event.code": "7"},
            entities={
                "user": "mallory",
                "user_domain": "EXAMPLE",
                "source_address": "10.0.0.7",
                "destination_address": "2001:db8::9",
                "host": "files",
                "destination_host": "other",
                "file": "/projects/a b",
                "exporter": "10.0.0.254",
                "process": "sshd",
            },
            correlation_type="value_count",
            condition=">= 50",
            measured=73.0,
            timespan_seconds=300,
            values=["22", "80", "443"],
        )
    )
    expected = {
        "suser": "mallory",
        "sntdom": "EXAMPLE",
        "src": "10.0.0.7",
        "c6a3": "2001:db8::9",
        "c6a3Label": "Destination IPv6 Address",
        "dhost": "files",
        "filePath": "/projects/a b",
        "dvc": "10.0.0.254",
        "sproc": "sshd",
        "dpt": "22",
        # Another has the key, or there is none.
        "cs4": "destination_host: other; event.code: 7",
        "cs5Label": "condition",
        "cs5": "value_count >= 50",
        "cfp1Label": "measured",
        "cfp1": "73",
        "cn3Label": "timespanSeconds",
        "cn3": "300",
        "cs6Label": "values",
        "cs6": "22, 80, 443",
    }
    assert {key: event.extension.get(key) for key in expected} == expected


def test_a_port_that_is_no_number_is_not_sent_as_one() -> None:
    _, event = whole(alert(1, group_by={"destination.port": ""}, entities={"source_port": "ssh"}))
    assert "spt" not in event.extension
    assert event.extension["cs4"] == "destination.port: ; source_port: ssh"


def test_evidence_goes_first_when_there_is_no_room() -> None:
    many = alert(1, evidence=[{"event_id": f"{n:032x}-0-0"} for n in range(500)], summary="s" * 1000)
    _, event = whole(many, max_bytes=2048, max_evidence=500)
    assert event.extension["msg"] == "s" * 1000
    assert event.extension["cn2"] == "500"
    assert "cs2" not in event.extension
    _, roomy = whole(many, max_bytes=8192, max_evidence=500)
    sent = roomy.extension["cs2"].split(" ")
    assert sent == [item["event_id"] for item in many["evidence"][: len(sent)]]
    assert len(sent) > 50


def test_an_alert_without_a_usable_id_is_refused() -> None:
    for wrong in ("", "x" * 129):
        with pytest.raises(ValueError, match="alert_id"):
            alert_message({**alert(1), "alert_id": wrong}, max_bytes=8192, max_evidence=10)


hostile = st.text(st.characters(codec="utf-8"), max_size=300) | st.sampled_from(
    [
        "x|y\\",
        "a=b",
        "a\\=b",
        "\n<14>1 - - - - - -",
        "act=closed externalId=forged",
        "\\",
        "| externalId=0",
        "é" * 2000,
        "\0",
        "]" * 1500,
    ]
)


@settings(max_examples=150, deadline=None)
@given(
    st.fixed_dictionaries(
        {
            "alert_id": st.text("0123456789abcdef", min_size=32, max_size=32),
            "rule_id": hostile,
            "rule_name": hostile,
            "summary": hostile,
            "site": hostile,
            "state": hostile,
            "severity": hostile,
            "entities": st.dictionaries(st.sampled_from(["user", "host", "source_address", "file", "exporter", "other"]), hostile),
            "group_by": st.dictionaries(st.sampled_from(["source.ip", "user.name", "destination.port"]), hostile, max_size=2),
            "correlation_type": hostile,
            "condition": hostile,
            "values": st.lists(hostile, max_size=2),
            "threat_technique_id": st.lists(hostile, max_size=3),
            "alert_created": st.integers(-(2**63), 2**63 - 1),
            "event_count": st.integers(-(2**63), 2**63 - 1),
        }
    ),
    st.sampled_from([2048, 4096, 8192]),
)
def test_no_value_can_forge_another(fields: dict[str, Any], max_bytes: int) -> None:
    """Whatever an attacker puts into names and texts: one line, not too long, and the fields that identify it are ours."""
    message = alert_message(alert(0, **fields), max_bytes=max_bytes, max_evidence=10)
    assert len(message) <= max_bytes
    assert b"\n" not in message
    assert b"\0" not in message
    _, event = read(message)
    assert event.extension["externalId"] == fields["alert_id"]
    assert (event.device_vendor, event.device_product) == ("Weir", "Weir")
    assert event.extension["cn1"] == "1"
    if "msg" in event.extension and len(fields["summary"]) < 30:
        assert event.extension["msg"] == fields["summary"].replace("\0", " ").rstrip(" ")


@settings(max_examples=50, deadline=None)
@given(st.text(st.characters(codec="utf-8"), max_size=3000), st.sampled_from([2048, 8192]))
def test_an_event_fits_and_reads_back(text: str, max_bytes: int) -> None:
    message = event_message("events.cef", cef(3, message=text, source_ip="192.0.2.1"), max_bytes=max_bytes, site="plant")
    assert len(message) <= max_bytes
    _, event = read(message)
    assert event.extension["externalId"] == f"{3:032x}-0-0"
    assert event.device_event_class_id == "events.cef"
