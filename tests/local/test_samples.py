"""The samples: each file is whole, of the form its README says, and touches no real address."""

from __future__ import annotations

import csv
import re
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest

import weir.local
from weir.protocols import beats, sensorfleet
from weir.protocols.eve import decode
from weir.tools.decode import FAMILIES, Decoded, Options, Totals
from weir.tools.decode import decode as decode_files

SAMPLES = Path(weir.local.__file__).parent / "samples"
MADE_UP = [
    ip_network(text)
    for text in (
        "192.0.2.0/24",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "10.0.0.0/8",
        "0.0.0.0/32",
        "255.255.255.255/32",
        "2001:db8::/32",
    )
]


def lines(name: str) -> list[str]:
    return (SAMPLES / name).read_text(encoding="utf-8").splitlines()


def test_every_file_is_described() -> None:
    readme = (SAMPLES / "README.md").read_text()
    names = {path.name for path in SAMPLES.iterdir()} - {"README.md"}
    assert names == set(re.findall(r"^\| `([^`]+)` \|", readme, re.MULTILINE))


def test_every_suricata_line_decodes_with_its_addresses_time_and_kind() -> None:
    events = [decode(beats.parse(line.encode())) for line in lines("suricata-eve.ndjson")]
    assert all(event is not None and event.fields["timestamp"] is not None for event in events)
    assert {event.kind for event in events if event} == {"alert", "flow", "netflow", "record"}
    assert {event.fields["event_severity"] for event in events if event and event.kind == "alert"} == {1, 2, 3, 4}
    assert all({"source_ip", "destination_ip"} <= event.fields.keys() for event in events if event and event.event_type != "stats")
    assert {"dns", "http", "tls"} <= {event.event_type for event in events if event}


def test_every_sensorfleet_line_is_an_envelope_with_a_time() -> None:
    documents = [beats.parse(line.encode()) for line in lines("sensorfleet.ndjson")]
    assert all(sensorfleet.recognise(document) and sensorfleet.timestamp_us(document) for document in documents)
    assert sorted(beats.classify(document) for document in documents) == ["eve"] * 2 + ["sensorfleet"] * 6


def test_every_filebeat_line_is_generic_and_says_who_shipped_it() -> None:
    for line in lines("filebeat-syslog.ndjson"):
        document = beats.parse(line.encode())
        assert beats.classify(document) == "generic"
        assert None not in beats.shipping(document)[:5]


def test_the_kemp_classes_are_complete() -> None:
    classes = {int(line.split("|")[4]) for line in lines("kemp-esp.cef")}
    assert classes == {*range(18), 20}


def test_every_qumulo_line_has_eight_fields() -> None:
    rows = list(csv.reader(lines("qumulo-audit.csv"), strict=True))
    assert {len(row) for row in rows} == {8}
    assert any(len(row[5]) == 30 for row in rows)
    assert '/projects/old/a,b"c' in {row[6] for row in rows}


@pytest.mark.parametrize("name", ["kemp-esp.cef", "vendor.cef"])
def test_every_cef_line_has_a_header_of_seven_fields(name: str) -> None:
    assert all(re.match(r"CEF:[01]\|(?:(?:[^|\\]|\\.)*\|){6}\S", line) for line in lines(name))


@pytest.mark.parametrize(("name", "start"), [("rfc5424.log", r"<\d{1,3}>1 "), ("rfc3164.log", r"<\d{1,3}>Mar  1 12:00:\d\d \S+ ")])
def test_every_syslog_line_starts_as_its_rfc_says(name: str, start: str) -> None:
    assert len(lines(name)) == 10
    assert all(re.match(start, line) for line in lines(name))


def test_no_address_belongs_to_anybody() -> None:
    for path in SAMPLES.iterdir():
        if path.suffix == ".pcap":
            continue
        text = re.sub(r"(?:Mozilla|Chrome|Safari|AppleWebKit)/[\d.]+", "", path.read_text(encoding="utf-8"))
        for found in re.findall(r"(?<![\w.])\d{1,3}(?:\.\d{1,3}){3}(?![\w.])", text):
            assert any(ip_address(found) in network for network in MADE_UP), f"{found} in {path.name}"


@pytest.mark.parametrize("family", ["netflow", "sflow"])
def test_the_capture_decodes_whole_and_has_no_address_of_anybody(family: str) -> None:
    totals = Totals()
    found = list(decode_files(FAMILIES[family], [str(SAMPLES / "flows.pcap")], Options(0), totals))
    assert totals.dead == totals.passed_over == totals.incomplete == 0
    assert totals.events.total() > 30
    for one in found:
        assert isinstance(one, Decoded)
        for name in ("log_source_ip", "source_ip", "destination_ip", "source_nat_ip", "destination_nat_ip"):
            if (text := one.record.get(name)) is not None:
                # Private networks, and those for documentation.
                assert not ip_address(text).is_global, f"{name} {text}"


@pytest.mark.parametrize(
    ("name", "family", "modules"),
    [
        ("devices.log", "syslog", {"cisco", "fortinet", "juniper", "paloalto", "system"}),
        ("leef.log", "leef", {"northgate-networks"}),
        ("zeek-conn.log", "zeek", {"zeek"}),
        ("zeek.ndjson", "zeek", {"zeek"}),
        ("snort-alerts.log", "snort", {"snort"}),
        ("winlogbeat.ndjson", "eve", {"windows", "system", "security"}),
        ("filebeat-netflow.ndjson", "eve", {"netflow"}),
    ],
)
def test_every_other_file_is_read_as_what_it_is_said_to_be(name: str, family: str, modules: set[str]) -> None:
    totals = Totals()
    found = list(decode_files(FAMILIES[family], [str(SAMPLES / name)], Options(1_709_294_460_000_000), totals))
    assert totals.dead == 0
    events = [one for one in found if isinstance(one, Decoded)]
    assert events
    assert modules & {one.record["event_module"] for one in events}
    assert all(one.record.get("timestamp") is not None for one in events)
