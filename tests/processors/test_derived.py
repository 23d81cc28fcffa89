"""Derived enrichment of whole events: what comes of a dataset's records, and that they stay what their schema holds."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weir.bus.codec import Decoder, Encoder
from weir.enrich.direction import own_networks
from weir.model.schemas import latest
from weir.model.topics import DATASETS
from weir.processors.derived import configured_steps, derived_steps
from weir.processors.enrichment import Enrichment
from weir.processors.settings import ProcessorSettings

NETWORKS = own_networks("private")
ENRICHMENT = Enrichment({dataset: derived_steps(dataset, NETWORKS) for dataset in DATASETS})
FIELDS = {dataset: {field["name"] for field in latest(dataset).parsed["fields"]} for dataset in DATASETS}

FLOW: dict[str, Any] = {
    "source_ip": "192.168.1.52",
    "destination_ip": "8.8.8.8",
    "source_port": 54585,
    "destination_port": 53,
    "network_iana_number": 17,
    "user_agent_original": "curl/8.5.0",
}
DERIVED = {
    "network_transport": "udp",
    "network_type": "ipv4",
    "network_protocol": "dns",
    "network_direction": "outbound",
    "network_community_id": "1:d/FP5EW3wiY1vCndhwleRRKHowQ=",
    "user_agent_name": "curl",
    "user_agent_version": "8.5.0",
}


@pytest.mark.parametrize("dataset", DATASETS)
def test_each_dataset_gets_what_its_fields_and_values_allow(dataset: str) -> None:
    record = {name: value for name, value in FLOW.items() if name in FIELDS[dataset]}
    before = dict(record)
    ENRICHMENT.apply({dataset: [record]})
    expected = {name: value for name, value in DERIVED.items() if name in FIELDS[dataset]}
    if dataset == "file-audit":
        expected = {}  # one address and no port say nothing
    if dataset == "authentication":
        expected = {"network_direction": "outbound"}
    assert record == before | expected


def test_community_ids_can_be_turned_off_and_seeded() -> None:
    off, seeded = dict(FLOW), dict(FLOW)
    Enrichment({"cef": derived_steps("cef", NETWORKS, community_ids=False)}).apply({"cef": [off]})
    Enrichment({"cef": derived_steps("cef", NETWORKS, community_id_seed=1)}).apply({"cef": [seeded]})
    assert "network_community_id" not in off
    assert seeded["network_community_id"] == "1:Q9We8WO3piVF8yEQBNJF4uiSVrI="


def test_settings_say_which_networks_are_own_and_whether_there_are_ids() -> None:
    settings_ = ProcessorSettings(kafka_bootstrap_servers="x:1", own_networks="8.8.8.0/24", enrich_community_id=False)
    record = dict(FLOW)
    Enrichment(configured_steps(settings_)).apply({"syslog": [record]})
    assert record["network_direction"] == "inbound"
    assert "network_community_id" not in record


def _values() -> st.SearchStrategy[dict[str, Any]]:
    texts = st.one_of(
        st.none(), st.text(max_size=30), st.sampled_from(("10.0.0.1", "8.8.8.8", "2001:db8::1", "ff02::1", "fe80::1%1"))
    )
    numbers = st.one_of(st.none(), st.integers(-5, 70_000))
    transports = st.one_of(st.none(), st.sampled_from(("tcp", "udp", "icmp", "icmp6", "gre", "?")), st.text(max_size=5))
    return st.fixed_dictionaries({
        "source_ip": texts, "destination_ip": texts, "source_port": numbers, "destination_port": numbers,
        "network_iana_number": st.one_of(st.none(), st.integers(-1, 300)), "network_transport": transports,
        "flow_icmp_type": numbers, "flow_icmp_code": numbers, "user_agent_original": texts,
    })  # fmt: skip


@settings(max_examples=100)
@given(st.sampled_from(DATASETS), _values())
def test_any_values_are_borne_and_the_record_can_still_be_written(dataset: str, values: dict[str, Any]) -> None:
    record: dict[str, Any] = {name: value for name, value in values.items() if name in FIELDS[dataset]}
    given_ = {name: value for name, value in record.items() if value is not None and name != "network_direction"}
    ENRICHMENT.apply({dataset: [record]})
    assert record.keys() <= FIELDS[dataset]
    assert {name: record[name] for name in given_} == given_
    assert Decoder()(Encoder(dataset)({"event_id": "b-0-0", "event_created": 0, **record}))["event_id"] == "b-0-0"
