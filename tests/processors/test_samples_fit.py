"""Every sample, decoded and enriched by all there is, is a record that its schema holds: the quick encoder takes it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.enrich.mmdb import write_mmdb
from tests.tools.decode.support import decoded, written
from weir.bus.codec import Encoder
from weir.bus.flatavro import Unusual
from weir.model.schemas import latest
from weir.model.topics import DATASETS
from weir.processors.enrichment import Enrichment, load_enrichment
from weir.processors.settings import ProcessorSettings

SAMPLES = Path(__file__).parents[2] / "services" / "weir" / "local" / "samples"
FAMILIES = {
    "devices.log": "syslog",
    "filebeat-netflow.ndjson": "beats",
    "filebeat-syslog.ndjson": "beats",
    "flows.pcap": "netflow",
    "kemp-esp.cef": "kemp",
    "leef.log": "leef",
    "qumulo-audit.csv": "qumulo",
    "rfc3164.log": "syslog",
    "rfc5424.log": "syslog",
    "sensorfleet.ndjson": "sensorfleet",
    "snort-alerts.log": "snort",
    "suricata-eve.ndjson": "eve",
    "vendor.cef": "cef",
    "winlogbeat.ndjson": "beats",
    "zeek-conn.log": "zeek",
    "zeek.ndjson": "zeek",
}
NETWORKS = ("10.0.0.0/8", "192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24", "2001:db8::/32")
PLACE = {
    "country": {"iso_code": "GB"},
    "subdivisions": [{"iso_code": "ENG"}],
    "city": {"names": {"en": "Oxford"}},
    "location": {"latitude": 51.75, "longitude": -1.25},
    "autonomous_system_number": 64500,
    "autonomous_system_organization": "Example Net",
}


def values(names: set[str]) -> Iterator[tuple[str, str]]:
    """Field and value of all texts in these fields of all samples, for tables that know everybody."""
    for file, family in FAMILIES.items():
        for event in decoded(family, SAMPLES / file).events:
            for name in names:
                if isinstance(value := event.record.get(name), str) and value:
                    yield name, value


@pytest.fixture(scope="module")
def enrichment(tmp_path_factory: pytest.TempPathFactory) -> Enrichment:
    """Tables that know every address, host and user in the samples, and call every address and many names a threat."""
    folder = tmp_path_factory.mktemp("tables")
    write_mmdb(folder / "geo.mmdb", dict.fromkeys(NETWORKS, PLACE))
    found = set(values({"user_name", "user_id", "host_name", "source_host", "destination_host", "url_domain", "dns_question_name"}))
    users = {value for name, value in found if name in {"user_name", "user_id"}}
    hosts = {value.rstrip(".").casefold() for name, value in found if name.endswith("host") or name == "host_name"}
    assets: list[dict[str, Any]] = [{"network": one, "name": "net", "criticality": "low", "owner": "it"} for one in NETWORKS]
    assets += [{"host": one, "name": "host", "criticality": "high", "owner": "ad"} for one in sorted(hosts)]
    (folder / "assets.yaml").write_bytes(orjson.dumps(assets))
    entries = [{"entity": "everybody", "aliases": sorted(users), "roles": ["admin"], "criticality": "high"}]
    (folder / "users.yaml").write_bytes(orjson.dumps(entries))
    domains = sorted({value for name, value in found if name in {"url_domain", "dns_question_name"}})
    (folder / "intel.txt").write_text("\n".join([*NETWORKS[1:], *domains]) + "\n")
    settings = ProcessorSettings(
        kafka_bootstrap_servers="127.0.0.1:9",
        enrich_mmdb_files=str(folder / "geo.mmdb"),
        enrich_asset_files=str(folder / "assets.yaml"),
        enrich_user_files=str(folder / "users.yaml"),
        enrich_intel=str(folder / "intel.txt"),
        enrich_intel_max_age_days=0,
        enrich_seen_hours=12,
    )
    return load_enrichment(settings)


def test_every_sample_has_a_family() -> None:
    assert set(FAMILIES) == {path.name for path in SAMPLES.iterdir() if path.suffix not in {".md", ".py"} and path.is_file()}


@pytest.mark.parametrize("file", FAMILIES)
def test_the_quick_encoder_takes_every_event(file: str, enrichment: Enrichment) -> None:
    found = decoded(FAMILIES[file], SAMPLES / file, enrichment=enrichment)
    assert found.dead == []
    assert found.events
    for event in found.events:
        fields = {field["name"] for field in latest(event.dataset).parsed["fields"]}
        assert set(event.record) <= fields, (event.place, set(event.record) - fields)
        flat = Encoder(event.dataset)._flat
        assert flat is not None
        try:
            flat(event.record)
        except Unusual:
            pytest.fail(f"{event.place}: not flat: {event.record}")


def test_a_second_run_gives_the_same_events_so_nothing_is_shared_and_changed() -> None:
    """Lists that records have in common with tables, with constants, or with each other would grow."""
    plain = load_enrichment(ProcessorSettings(kafka_bootstrap_servers="127.0.0.1:9"))
    for file, family in FAMILIES.items():
        first = deepcopy(decoded(family, SAMPLES / file, enrichment=plain).events)
        assert decoded(family, SAMPLES / file, enrichment=plain).events == first


def test_enrichment_fills_in_something_of_every_kind(enrichment: Enrichment) -> None:
    """Else the test above would say little."""
    filled: Counter[str] = Counter()
    for file, family in FAMILIES.items():
        for event in decoded(family, SAMPLES / file, enrichment=enrichment).events:
            filled.update(name for name, value in event.record.items() if value is not None)
    for name in (
        *("network_direction", "network_community_id", "network_protocol", "user_agent_name", "source_geo_country_iso_code"),
        *("destination_as_organization", "source_network_name", "host_asset_name", "user_entity_id", "user_roles"),
        *("user_last_seen_ips", "threat_enrichments"),
    ):
        assert filled[name], f"{name} is filled in nowhere"
    assert set(DATASETS) == {e.dataset for f, family in FAMILIES.items() for e in decoded(family, SAMPLES / f).events}


@pytest.mark.parametrize(
    ("family", "text"),
    [
        (
            "eve",
            '{"timestamp":"2024-03-01T12:00:00.0+0000","event_type":"flow","src_ip":"10.0.0.1","dest_ip":"10.0.0.2","flow":'
            '{"bytes_toserver":9223372036854775807,"bytes_toclient":9223372036854775807,"pkts_toserver":1,"pkts_toclient":1,'
            '"start":"0001-01-01T00:00:00.0+0000","end":"9999-12-31T23:59:59.0+0000"}}',
        ),
        (
            "beats",
            '{"event":{"start":"1971-01-01T00:00:00Z","end":"9999-12-31T23:59:59Z"},"netflow":{"type":"netflow_flow",'
            '"octet_delta_count":1,"source_ipv4_address":"10.0.0.1","destination_ipv4_address":"10.0.0.2"}}',
        ),
    ],
)
def test_numbers_at_the_edge_of_what_a_field_holds_cost_no_event(family: str, text: str, tmp_path: Path) -> None:
    found = decoded(family, written(tmp_path, text))
    assert found.dead == []
    [event] = found.events
    assert event.dataset == "network-flow"
    Encoder(event.dataset)(event.record)
