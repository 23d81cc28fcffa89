"""What the tables put into events of each dataset."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.enrich.mmdb import write_mmdb
from weir.bus.codec import Decoder, Encoder
from weir.model.topics import DATASETS
from weir.processors.enrichment import Enrichment, load_enrichment
from weir.processors.settings import ProcessorSettings
from weir.processors.table_steps import fields_of, table_steps
from weir.processors.tables import HotTables

RECEIVED = 1_790_000_000_000_000
DAY = 86_400_000_000
BASE = {
    "event_id": "x-0-0",
    "event_created": RECEIVED,
    "site": "s",
    "log_source_ip": "10.0.0.1",
    "raw_topic": "t",
    "raw_partition": 0,
    "raw_offset": 0,
    "event_module": "m",
    "event_dataset": "m.d",
}
ASSETS = """network,ip,host,name,criticality,owner
10.0.0.0/8,,,Corporate,low,it
,10.0.0.1,,collector,medium,
,10.1.2.3,,dc1,high,ad-team
,,files,files,high,storage
"""
USERS = "entity,name,domain,roles,criticality\nalice@corp.example,alice,AD,admin,high\n"
INTEL = "198.51.100.0/24 # botnet\nevil.example\nhttp://bad.example:8080/x\nhttp://203.0.113.7/m\n" + "a" * 64 + "\n"

Apply = Callable[..., dict[str, Any]]


def made(folder: Path, **more: Any) -> Enrichment:
    """Enrichment of all tables, or of those that `more` names alone."""
    (folder / "assets.csv").write_text(ASSETS)
    (folder / "users.csv").write_text(USERS)
    (folder / "intel.txt").write_text(INTEL)
    geo = {
        "country": {"iso_code": "GB"},
        "subdivisions": [{"iso_code": "ENG"}],
        "location": {"latitude": 51.75, "longitude": -1.25},
    }
    system = {"autonomous_system_number": 64500, "autonomous_system_organization": "Example Net"}
    write_mmdb(folder / "city.mmdb", {"198.51.100.0/24": geo, "10.0.0.0/8": geo})
    write_mmdb(folder / "asn.mmdb", {"198.51.100.0/24": system}, "Test-ASN")
    given = {
        "enrich_mmdb_files": f"{folder / 'city.mmdb'},{folder / 'asn.mmdb'}",
        "enrich_asset_files": str(folder / "assets.csv"),
        "enrich_user_files": str(folder / "users.csv"),
        "enrich_intel": f"test={folder / 'intel.txt'}",
        "enrich_seen_hours": 12,
        "enrich_intel_max_age_days": 0,
    }
    given = {name: value for name, value in given.items() if not more.get("only") or name in more["only"]}
    found = ProcessorSettings(kafka_bootstrap_servers="127.0.0.1:9", **given)
    return Enrichment(table_steps(HotTables(found), found))


@pytest.fixture
def apply(tmp_path: Path) -> Apply:
    """One event through the steps and the wire format; absent fields are left out."""
    enrichment = made(tmp_path)

    def one(dataset: str, **fields: Any) -> dict[str, Any]:
        record = BASE | fields
        enrichment.apply({dataset: [record]})
        assert set(record) <= fields_of(dataset)
        decoded: dict[str, Any] = Decoder()(Encoder(dataset)(record))
        return {name: value for name, value in decoded.items() if value not in (None, [], {}, "")}

    return one


def threats(record: dict[str, Any]) -> list[tuple[str, str]]:
    return [(found["field"], found["indicator"]) for found in map(json.loads, record.get("threat_enrichments", []))]


def test_a_flow_gets_place_as_asset_network_and_threat_of_both_sides(apply: Apply) -> None:
    event = apply("network-flow", source_ip="10.1.2.3", destination_ip="198.51.100.9", destination_as=0)
    assert event["source_asset_name"] == "dc1"
    assert event["source_asset_criticality"] == "high"
    assert event["source_asset_owner"] == "ad-team"
    assert event["source_network_name"] == "Corporate"
    assert "source_geo_country_iso_code" not in event  # private addresses are nowhere, whatever a file says
    assert event["destination_geo_country_iso_code"] == "GB"
    assert event["destination_geo_region_iso_code"] == "GB-ENG"
    assert event["destination_geo_location"] == "51.75,-1.25"
    assert event["destination_as"] == 64500
    assert event["destination_as_organization"] == "Example Net"
    assert "destination_asset_name" not in event
    (text,) = event["threat_enrichments"]
    assert json.loads(text) == {
        "indicator": "198.51.100.0/24",
        "type": "cidr",
        "field": "destination_ip",
        "provider": "test",
        "description": "botnet",
    }


def test_an_as_that_the_exporter_names_stays_and_gets_no_other_name(apply: Apply) -> None:
    event = apply("network-flow", source_ip="198.51.100.9", source_as=64999)
    assert event["source_as"] == 64999
    assert "source_as_organization" not in event
    assert event["source_geo_country_iso_code"] == "GB"
    event = apply("network-flow", source_ip="198.51.100.9", source_as=64500)
    assert event["source_as_organization"] == "Example Net"


def test_an_as_of_zero_stays_where_no_table_knows_better(apply: Apply) -> None:
    assert apply("network-flow", source_ip="203.0.113.1", source_as=0)["source_as"] == 0


def test_the_asset_that_reports_is_found_by_name_else_by_the_address_it_sent_from(apply: Apply) -> None:
    assert apply("syslog", host_name="files.corp.example")["host_asset_owner"] == "storage"
    assert apply("syslog")["host_asset_name"] == "collector"
    assert "host_asset_name" not in apply("syslog", host_name="stranger")
    assert apply("syslog", host_name="10.1.2.3")["host_asset_name"] == "dc1"


def test_a_side_without_a_known_address_is_found_by_its_name(apply: Apply) -> None:
    assert apply("cef", source_host="FILES")["source_asset_name"] == "files"
    assert apply("cef", source_host="files", source_ip="10.1.2.3")["source_asset_name"] == "dc1"


def test_a_user_gets_one_name_roles_and_criticality(apply: Apply) -> None:
    event = apply("file-audit", user_name="alice", user_domain="AD", user_id="AD\\alice", source_ip="10.1.1.1")
    assert (event["user_entity_id"], event["user_roles"], event["user_criticality"]) == ("alice@corp.example", ["admin"], "high")
    assert "user_entity_id" not in apply("file-audit", user_name="mallory", user_domain="AD")


def test_where_a_user_was_seen_is_told_where_the_event_does_not_say_it(apply: Apply) -> None:
    alice = {"user_name": "alice", "user_domain": "AD"}
    failed = apply("authentication", **alice, source_ip="10.9.9.9", event_outcome="failure")
    first = apply("authentication", **alice, source_ip="10.1.1.1", event_outcome="success")
    same = apply("file-audit", **alice, source_ip="10.1.1.1")
    assert all("user_last_seen_ips" not in event for event in (failed, first, same))
    assert apply("syslog", user_name="alice@corp.example")["user_last_seen_ips"] == ["10.1.1.1"]  # by the table one user
    moved = apply("file-audit", **alice, source_ip="10.2.2.2")
    assert moved["user_last_seen_ips"] == ["10.1.1.1"]
    assert apply("network-log", **alice)["user_last_seen_ips"] == ["10.2.2.2", "10.1.1.1"]
    assert "user_last_seen_ips" not in apply("network-log", **alice, event_created=RECEIVED + DAY)


@pytest.mark.parametrize(
    ("dataset", "fields", "found"),
    [
        ("network-log", {"dns_question_name": "WWW.evil.example"}, [("dns_question_name", "evil.example")]),
        ("network-log", {"dns_answers": ["192.0.2.1", "198.51.100.5"]}, [("dns_answers", "198.51.100.0/24")]),
        ("network-log", {"url_domain": "198.51.100.5"}, [("url_domain", "198.51.100.0/24")]),
        (
            "network-log",
            {"url_domain": "bad.example", "url_original": "/x", "destination_port": 8080},
            [("url_original", "http://bad.example:8080/x")],
        ),
        ("network-log", {"url_domain": "bad.example:8080", "url_original": "/x"}, [("url_original", "http://bad.example:8080/x")]),
        ("network-log", {"url_domain": "bad.example", "url_original": "/x"}, []),
        ("cef", {"url_original": "https://203.0.113.7/m"}, [("url_original", "http://203.0.113.7/m")]),
        ("cef", {"destination_nat_ip": "198.51.100.5"}, [("destination_nat_ip", "198.51.100.0/24")]),
        ("ids-alert", {"tls_server_name": "a.evil.example"}, [("tls_server_name", "evil.example")]),
        ("sensor", {"file_hash_sha256": "A" * 64}, [("file_hash_sha256", "a" * 64)]),
        ("authentication", {"destination_host": "evil.example"}, [("destination_host", "evil.example")]),
        ("file-audit", {"source_ip": "198.51.100.5"}, [("source_ip", "198.51.100.0/24")]),
    ],
)
def test_indicators_are_looked_up_in(apply: Apply, dataset: str, fields: dict[str, Any], found: list[tuple[str, str]]) -> None:
    needed = {"document": "{}"} if dataset == "sensor" else {}
    assert threats(apply(dataset, **needed, **fields)) == found


def test_an_indicator_counts_until_it_expires_by_the_receive_time_of_the_event(tmp_path: Path) -> None:
    path = tmp_path / "own.csv"
    path.write_text("indicator,expires\nevil.example,2026-09-21T00:00:00Z\n")
    found = ProcessorSettings(kafka_bootstrap_servers="127.0.0.1:9", enrich_intel=str(path))
    enrichment = Enrichment(table_steps(HotTables(found), found))
    end = 1_789_948_800_000_000
    records = [BASE | {"event_created": at, "dns_question_name": "evil.example"} for at in (end - 1, end)]
    enrichment.apply({"network-log": records})
    assert [len(record.get("threat_enrichments", [])) for record in records] == [1, 0]


def test_without_any_setting_nothing_is_done() -> None:
    found = ProcessorSettings(kafka_bootstrap_servers="127.0.0.1:9")
    assert table_steps(HotTables(found), found) == {}
    load_enrichment(found).apply({"syslog": [{"only": "this"}]})


@pytest.mark.parametrize(
    "only", ["enrich_mmdb_files", "enrich_asset_files", "enrich_user_files", "enrich_intel", "enrich_seen_hours"]
)
def test_each_table_works_alone(tmp_path: Path, only: str) -> None:
    enrichment = made(tmp_path, only=[only])
    records = [BASE | {"source_ip": "198.51.100.5", "user_name": "alice", "user_domain": "AD", "host_name": "files"}, dict(BASE)]
    records.append(BASE | {"source_ip": "10.1.2.3", "user_name": "alice", "user_domain": "AD"})
    enrichment.apply({"cef": records})
    assert any(set(record) - {*BASE, "source_ip", "user_name", "user_domain", "host_name"} for record in records)


TEXT = st.none() | st.text(st.sampled_from("aé.:/\\@[]%0159 \u3002"), max_size=24)
NAMES = sorted(
    name for name in fields_of("network-log") if name.endswith(("_ip", "_host", "_name", "_domain", "_id", "_original", "sha256"))
)


@pytest.fixture(scope="module")
def enrichment(tmp_path_factory: pytest.TempPathFactory) -> Enrichment:
    return made(tmp_path_factory.mktemp("tables"))


@settings(max_examples=100)
@given(
    fields=st.dictionaries(st.sampled_from(NAMES), TEXT, max_size=8),
    answers=st.lists(TEXT.filter(lambda t: t is not None), max_size=3),
)
def test_nothing_that_an_event_holds_raises_and_no_key_is_outside_its_schema(
    enrichment: Enrichment, fields: dict[str, Any], answers: list[str]
) -> None:
    for dataset in DATASETS:
        known = fields_of(dataset)
        record = BASE | {name: value for name, value in (fields | {"dns_answers": answers}).items() if name in known}
        before = set(record)
        enrichment.apply({dataset: [record]})
        assert before <= set(record) <= known
