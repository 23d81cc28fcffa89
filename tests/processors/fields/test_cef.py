"""Whatever stands in a CEF line, the event made of it fits its schema: otherwise the whole unit would be a dead letter."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weir.bus.codec import Encoder
from weir.model.batch import RawBatch
from weir.processors.fields import Context
from weir.processors.fields.cef import FIELDS
from weir.processors.outcome import Outcome, RawCoordinates
from weir.processors.readers import read_document, read_text
from weir.processors.syslog import make_process
from weir.protocols.cef import CefError

process = make_process()
SCHEMA = {
    field["name"] for field in json.loads((Path(__file__).parents[3] / "schemas" / "avro" / "cef.v2.avsc").read_text())["fields"]
}
encode = Encoder("cef")


def outcome_of(line: str) -> Outcome:
    batch = RawBatch(
        batch_id=bytes(16),
        site="",
        receiver="",
        transport="udp",
        source_ip="192.0.2.1",
        listener_port=514,
        received_at=1_790_000_000_000_000,
        units=[line.encode()],
    )
    return process(batch, RawCoordinates("weir.raw.syslog.v1", 0, 0))


def event_of(extension: str, head: str = "CEF:0|Vendor X|Product|1.0|100|Name|5|") -> dict[str, Any]:
    (event,) = outcome_of(head + extension).events["cef"]
    assert encode(event)
    assert event.keys() <= SCHEMA
    return event


@pytest.mark.parametrize(("version", "number"), [("0", 0), ("1", 1), ("1.2", 1), ("999999999", 999_999_999)])
def test_a_version_is_a_number_with_or_without_a_second_part(version: str, number: int) -> None:
    (event,) = outcome_of(f"<14>CEF:{version}|vendor|product|1|100|name|5|act=ok").events["cef"]
    assert event["cef_version"] == number
    assert encode(event)


@pytest.mark.parametrize("digits", [10, 20, 5000])
def test_a_version_that_is_no_number_of_any_use_leaves_a_plain_line(digits: int) -> None:
    outcome = outcome_of(f"<14>CEF:{'9' * digits}|vendor|product|1|100|name|5|act=ok")
    assert list(outcome.events) == ["syslog"]
    assert not outcome.dead


NUMBERS = st.one_of(st.integers().map(str), st.floats().map(str), st.integers(0, 70).map(lambda power: str(2**power)))


@settings(max_examples=150)
@given(
    st.dictionaries(st.sampled_from([*FIELDS, "rt", "end", "start", "cn1", "cnt"]), NUMBERS, max_size=8),
    st.sampled_from(["ArcSight", "Kemp"]),
)
def test_no_number_in_an_extension_is_too_large(extension: dict[str, str], vendor: str) -> None:
    pairs = " ".join(f"{key}={value}" for key, value in extension.items())
    (event,) = outcome_of(f"<14>CEF:0|{vendor}|LM|1|1|name|5|{pairs}").events["cef"]
    assert encode(event)


FULL = (
    (
        "src=192.0.2.1 spt=1 dst=2001:DB8::1 dpt=2",
        "sourceAddress=192.0.2.1 sourcePort=1 destinationAddress=2001:DB8::1 destinationPort=2",
    ),
    ("smac=00:50:56:f5:7f:47 proto=17", "sourceMacAddress=00:50:56:f5:7f:47 transportProtocol=UDP"),
    ("suser=nora suid=7 sntdom=CORP", "sourceUserName=nora sourceUserId=7 sourceNtDomain=CORP"),
    (
        "duser=otto dntdom=CORP act=deny cat=Web",
        "destinationUserName=otto destinationNtDomain=CORP deviceAction=deny deviceEventCategory=Web",
    ),
    ("request=https://Shop.example/x?a=b msg=m in=5 out=6", "requestUrl=https://Shop.example/x?a=b message=m bytesIn=5 bytesOut=6"),
    ("fname=a.txt fsize=9 sproc=p app=HTTP", "fileName=a.txt fileSize=9 sourceProcessName=p applicationProtocol=HTTP"),
    (
        "start=1790000000000 end=1790000001000 rt=1790000002000",
        "startTime=1790000000000 endTime=1790000001000 deviceReceiptTime=1790000002000",
    ),
    ("cs1=v cs1Label=L outcome=failed", "deviceCustomString1=v deviceCustomString1Label=L eventOutcome=failed"),
)  # fmt: skip


@pytest.mark.parametrize(("short", "full"), FULL)
def test_a_full_name_is_worth_as_much_as_a_short_one(short: str, full: str) -> None:
    as_sent = {"cef_extensions", "cef_additional_extensions", "event_original"}
    one, other = event_of(short), event_of(full)
    assert {key: value for key, value in one.items() if key not in as_sent} == {
        key: value for key, value in other.items() if key not in as_sent
    }


def test_the_dictionary_fills_the_columns() -> None:
    event = event_of(
        "src=[2001:DB8::1] dst=192.0.2.2 smac=0050.56f5.7f47 dmac=x sourceTranslatedAddress=192.0.2.9 sourceTranslatedPort=99 "
        "proto=tcp "
        "deviceInboundInterface=eth0 deviceOutboundInterface=eth1 request=https://u@Shop.example:8443/x?a=b&c=d fsize=12 "
        "fileHash=" + "A" * 40 + " sproc=sshd start=1790000000000 end=1790000001500"
    )
    assert (event["source_ip"], event["destination_ip"], event["network_type"]) == ("2001:db8::1", "192.0.2.2", "ipv6")
    assert event["source_mac"] == "00-50-56-F5-7F-47"
    assert "destination_mac" not in event
    assert (event["source_nat_ip"], event["source_nat_port"]) == ("192.0.2.9", 99)
    assert (event["network_transport"], event["network_iana_number"]) == ("tcp", 6)
    assert (event["observer_ingress_interface"], event["observer_egress_interface"]) == ("eth0", "eth1")
    assert (event["url_original"], event["url_domain"]) == ("https://u@Shop.example:8443/x?a=b&c=d", "shop.example")
    assert (event["file_size"], event["file_hash_sha1"], event["process_name"]) == (12, "a" * 40, "sshd")
    assert (event["event_start"], event["event_end"]) == (1_790_000_000_000_000, 1_790_000_001_500_000)
    assert (event["event_duration"], event["timestamp"]) == (1_500_000_000, 1_790_000_001_500_000)


def test_custom_fields_become_labels_under_their_labels() -> None:
    event = event_of(
        'cs1Label="Rule name" cs1=r 1 cn1=7 cn1Label=Host ID cfp1=1.5 cfp1Label=Load deviceCustomDate1=Feb 06 2015 13:27:43 '
        "deviceCustomDate1Label=Seen flexString2=x flexString2Label=Flex cs2Label=Empty cs2= cs9=y cs9Label=Beyond the "
        "dictionary cs3=z"
    )
    assert event["labels"] == {
        "Rule name": "r 1", "Host ID": "7", "Load": "1.5", "Seen": "Feb 06 2015 13:27:43", "Flex": "x",
        "Beyond the dictionary": "y",
    }  # fmt: skip


def test_ipv6_custom_fields_are_the_addresses_unless_their_labels_say_otherwise() -> None:
    event = event_of("c6a2=2001:db8::2 c6a2Label=Source IPv6 Address c6a3=2001:db8::3 c6a3Label=Gateway")
    assert event["source_ip"] == "2001:db8::2"
    assert "destination_ip" not in event
    assert event_of("c6a2=2001:db8::2 src=192.0.2.1 c6a3=2001:db8::3")["source_ip"] == "192.0.2.1"


def test_what_is_no_address_or_no_transport_fills_no_such_column() -> None:
    event = event_of("src=host-1 proto=HTTP dpt=99999 shost=192.0.2.7 in=-1")
    assert (event["source_ip"], event["network_protocol"]) == ("192.0.2.7", "http")
    assert not {"destination_port", "network_transport", "source_bytes"} & event.keys()
    assert event["cef_extensions"]["src"] == "host-1"


def test_a_pair_smuggled_into_a_later_value_replaces_no_column() -> None:
    event = event_of(
        "src=192.0.2.1 fileHash=" + "a" * 32 + " msg=x sourceAddress=192.0.2.66 fileHash=" + "b" * 32 + " dst=192.0.2.2"
    )
    assert (event["source_ip"], event["file_hash_md5"]) == ("192.0.2.1", "a" * 32)


@pytest.mark.parametrize(
    ("pairs", "timestamp"),
    [
        ("rt=1790000000123", 1_790_000_000_123_000),
        ("rt=Sep 21 2026 14:13:20", 1_790_000_000_000_000),
        ("rt=Sep 21 14:13:20.5", 1_790_000_000_500_000),
        ("rt=Sep 21 2026 17:13:20 EEST", 1_790_000_000_000_000),
        ("rt=Sep 21 2026 17:13:20 dtz=Europe/Helsinki", 1_790_000_000_000_000),
        ("rt=Sep 21 2026 17:13:20 dtz=+03:00", 1_790_000_000_000_000),
        ("rt=Sep 21 2026 14:13:20 dtz=Nowhere/Land", 1_790_000_000_000_000),
        ("rt=nonsense end=1790000000000 start=1789999999000", 1_790_000_000_000_000),
        ("rt=nonsense", None),
    ],
)
def test_times(pairs: str, timestamp: int | None) -> None:
    assert event_of(pairs)["timestamp"] == timestamp


def test_a_header_in_front_gives_time_and_host_where_the_payload_has_none() -> None:
    (event,) = outcome_of("<14>Sep 21 14:13:21 relay <134>Sep 21 14:13:20 fw-9 CEF:0|v|p|1|1|n|5|src=192.0.2.1").events["cef"]
    assert (event["host_name"], event["timestamp"]) == ("fw-9", 1_790_000_000_000_000)


def test_a_document_whose_message_is_cef_is_that_event() -> None:
    context = Context(1_790_000_000_000_000, lambda local: local)
    for text in ("CEF:0|v|p|1|1|n|5|src=192.0.2.1", "Sep 21 14:13:20 fw-9 CEF:0|v|p|1|1|n|5|src=192.0.2.1"):
        dataset, fields = read_document({"message": text, "@timestamp": "x"}, context) or ("", {})
        assert (dataset, fields["source_ip"], fields["event_original"]) == ("cef", "192.0.2.1", "CEF:0|v|p|1|1|n|5|src=192.0.2.1")
    assert read_document({"message": "see CEF for more"}, context) is None
    with pytest.raises(CefError):
        read_document({"message": "CEF:0|cut"}, context)


PAYLOAD = "CEF:0|v|p|1|1|n|5|src=192.0.2.1"


@pytest.mark.parametrize(
    "header",
    [
        "", " ", "<14>", "ssomgr: ", "tag[12]:", "<134>host ", "<134>1 2026-09-21T14:13:20.123+03:00 host app 12 - ",
        "Original Address=192.0.2.5 ", "<14>[relay]<134>",
        "Sep 21 14:13:20 host ", "Sep 21 2026 14:13:20 host tag[1]: ", "2026-09-21T14:13:20.123Z host ",
        "2016-04-01T09:29:11.356-0400 ",
        "<14>Sep 21 14:13:21 relay <134>Sep 21 14:13:20 host tag: ",
    ],
)  # fmt: skip
def test_a_payload_stands_behind_headers_of_any_form(header: str) -> None:
    for payload in (PAYLOAD, "LEEF:1.0|v|p|1|1|src=192.0.2.1"):
        dataset, fields = read_text(header + payload, Context(1_790_000_000_000_000, lambda local: local)) or ("", {})
        assert (dataset, fields.get("source_ip")) == ("cef", "192.0.2.1")


@pytest.mark.parametrize(
    "before",
    [
        "Invalid user ", '192.0.2.9 - - [21/Sep/2026:14:13:20 +0300] "GET / HTTP/1.1" 200 5 "-" "', "user=", "name: 'x' ua=",
        "<13>Sep 21 14:13:20 web1 access: the browser calls itself all of this: ", "x" * 600 + " ", "a " * 100000,
        "<1>" * 500, "<1>" + ":" * 500 + "'", "<1>" + ": " * 250,
    ],
    ids=lambda before: before[:12],
)  # fmt: skip
def test_a_message_that_quotes_a_payload_is_no_event_of_it(before: str) -> None:
    """Else whoever may choose a user name or a user agent could make events of any device, or dead letters."""
    for payload in (PAYLOAD, "CEF:0|cut", "LEEF:1.0|v|p|1|1|src=192.0.2.1"):
        assert read_text(before + payload, Context(1_790_000_000_000_000, lambda local: local)) is None
    (event,) = outcome_of("<38>Sep 21 14:13:20 web1 sshd[1]: Invalid user CEF:0|x from 192.0.2.9").events["syslog"]
    assert event["message"] == "Invalid user CEF:0|x from 192.0.2.9"
