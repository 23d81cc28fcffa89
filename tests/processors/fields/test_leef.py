"""What becomes of IBM's predefined attributes in events.cef, and that each such event fits its schema."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weir.bus.codec import Encoder
from weir.processors.fields import Context
from weir.processors.fields.leef import FIELDS
from weir.processors.readers import read_document
from weir.tools.conformance._lines import decode

encode = Encoder("cef")
SCHEMA = {
    field["name"] for field in json.loads((Path(__file__).parents[3] / "schemas" / "avro" / "cef.v2.avsc").read_text())["fields"]
}


def event_of(attributes: str, head: str = "LEEF:1.0|Vendor X|Product|2.1|15345|") -> dict[str, Any]:
    dataset, event = decode("<13>Sep 21 14:13:20 host-1 " + head + attributes.replace(" | ", "\t"))
    assert dataset == "cef"
    assert encode(event)
    assert event.keys() <= SCHEMA
    return event


def test_header_and_predefined_attributes() -> None:
    event = event_of(
        "src=192.0.2.1 | dst=192.0.2.2 | srcPort=81 | dstPort=21 | usrName=joe.black | proto=6 | sev=5 | cat=anomaly | "
        "srcMAC=00:50:56:f5:7f:47 | "
        "srcPostNAT=198.51.100.1 | srcPostNATPort=9 | srcBytes=10 | dstPackets=3 | policy=deny all | domain=CORP | "
        "url=https://A.example/x"
    )
    assert (event["event_dataset"], event["event_module"], event["leef_version"], event["cef_version"]) == (
        "leef",
        "vendor-x",
        "1.0",
        0,
    )
    assert (event["event_code"], event["cef_name"], event["cef_severity"], event["event_severity"]) == ("15345", "15345", "5", 5)
    assert (event["observer_vendor"], event["observer_product"], event["observer_version"]) == ("Vendor X", "Product", "2.1")
    assert (event["source_ip"], event["source_port"], event["destination_ip"], event["destination_port"]) == (
        "192.0.2.1",
        81,
        "192.0.2.2",
        21,
    )
    assert (event["user_name"], event["user_domain"], event["network_transport"]) == ("joe.black", "CORP", "tcp")
    assert (event["source_nat_ip"], event["source_nat_port"], event["source_bytes"]) == ("198.51.100.1", 9, 10)
    assert (event["destination_packets"], event["rule_name"], event["rule_category"]) == (3, "deny all", "anomaly")
    assert (event["source_mac"], event["url_domain"], event["host_name"]) == ("00-50-56-F5-7F-47", "a.example", "host-1")
    assert event["cef_extensions"]["policy"] == "deny all"
    assert event["event_original"].startswith("LEEF:1.0|")


def test_the_second_best_is_asked_where_nothing_better_is_there() -> None:
    event = event_of("identSrc=192.0.2.7 | accountName=root | identHostName=pc-1 | dstPreNAT=192.0.2.8")
    assert (event["source_ip"], event["user_name"], event["source_host"]) == ("192.0.2.7", "root", "pc-1")
    assert event["destination_ip"] == "192.0.2.8"
    assert event_of("identSrc=192.0.2.7 | src=192.0.2.1 | srcPreNAT=192.0.2.6")["source_ip"] == "192.0.2.1"


@pytest.mark.parametrize(
    ("attributes", "timestamp"),
    [
        ("devTime=1790000000123", 1_790_000_000_123_000),
        ("devTime=Sep 21 2026 14:13:20.123 UTC", 1_790_000_000_123_000),
        ("devTime=2026-09-21 17:13:20 EEST | devTimeFormat=yyyy-MM-dd HH:mm:ss z", 1_790_000_000_000_000),
        ("devTime=21/09/26 14:13 | devTimeFormat=dd/MM/yy HH:mm", 1_789_999_980_000_000),
        ("devTime=1790000000123 | devTimeFormat=dd/MM/yy HH:mm", 1_790_000_000_123_000),
        ("devTime=nonsense", 1_790_000_000_000_000),  # that of the syslog header
    ],
)
def test_times(attributes: str, timestamp: int) -> None:
    assert event_of(attributes)["timestamp"] == timestamp


def test_logins_are_authentication() -> None:
    event = event_of("isLoginEvent=true | usrName=nora")
    assert (event["event_category"], event["event_type"]) == (["authentication"], ["start"])
    assert event_of("isLogoutEvent=true")["event_type"] == ["end"]
    assert "event_category" not in event_of("isLoginEvent=false")


def test_keys_of_cef_are_read_as_well() -> None:
    event = event_of("suser=admin | act=updated | cn1=37 | cn1Label=Host ID | dvchost=www.example")
    assert (event["user_name"], event["device_action"], event["host_name"]) == ("admin", "updated", "www.example")
    assert event["labels"] == {"Host ID": "37"}


def test_leef_without_a_valid_header_is_refused() -> None:
    with pytest.raises(ValueError, match="LEEF header has 2 of its 5 fields"):
        decode("<13>Sep 21 14:13:20 h LEEF:1.0|Vendor|Product")


def test_a_document_whose_message_is_leef_is_that_event() -> None:
    context = Context(1_790_000_000_000_000, lambda local: local)
    dataset, fields = read_document({"message": "LEEF:2.0|v|p|1|1|^|src=192.0.2.1^sev=3"}, context) or ("", {})
    assert (dataset, fields["source_ip"], fields["cef_severity"]) == ("cef", "192.0.2.1", "3")


@settings(max_examples=150)
@given(
    st.dictionaries(
        st.sampled_from([*FIELDS, "sev", "devTime", "devTimeFormat", "start", "end", "name"]),
        st.one_of(
            st.integers().map(str), st.integers(0, 70).map(lambda power: str(2**power)), st.text("aZ:.-/=\\ 09yMd[]%@", max_size=20)
        ),
        max_size=10,
    )
)
def test_no_value_makes_an_event_that_does_not_fit(attributes: dict[str, str]) -> None:
    event_of("\t".join(f"{key}={value}" for key, value in attributes.items()))
