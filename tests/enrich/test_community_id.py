"""Community ID 1.0 against the published baseline, against another implementation, and as a step over events."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weir.enrich.community_id import CommunityIds, community_id

# The baseline of the specification (corelight/community-id-spec, baseline_deflt.json and baseline_seed1.json).
with Path(__file__).with_name("community_id_baseline.csv").open(encoding="utf-8", newline="") as file:
    BASELINE = list(csv.DictReader(file))

addresses4 = st.ip_addresses(v=4).map(str)
addresses6 = st.ip_addresses(v=6).map(str)
pairs = st.one_of(st.tuples(addresses4, addresses4), st.tuples(addresses6, addresses6))
ports = st.integers(0, 65535)


@pytest.mark.parametrize("row", BASELINE)
def test_the_published_baseline_is_met(row: dict[str, str]) -> None:
    ports = [int(row[name]) if row[name] else None for name in ("first", "second")]
    for seed in (0, 1):
        assert community_id(row["source"], row["destination"], int(row["protocol"]), *ports, seed=seed) == f"1:{row[f'seed{seed}']}"


def test_the_baseline_is_all_there() -> None:
    assert len(BASELINE) == 23
    assert {row["protocol"] for row in BASELINE} == {"1", "6", "17", "46", "58", "132"}


@given(pairs, st.sampled_from((6, 17, 132)), ports, ports, ports)
def test_both_directions_of_a_flow_have_one_id(pair: tuple[str, str], protocol: int, first: int, second: int, seed: int) -> None:
    there = community_id(*pair, protocol, first, second, seed)
    assert there is not None
    assert community_id(*pair[::-1], protocol, second, first, seed) == there


@settings(max_examples=150)
@given(pairs, st.integers(0, 255), st.one_of(ports, st.integers(0, 20), st.integers(126, 146)), ports, ports)
def test_another_implementation_says_the_same(pair: tuple[str, str], protocol: int, first: int, second: int, seed: int) -> None:
    theirs = pytest.importorskip("communityid", reason="the implementation on PyPI is not installed")
    with_ports = protocol in {1, 6, 17, 58, 132}
    ports_ = (first, second) if with_ports else (None, None)
    expected = theirs.CommunityID(seed).calc(theirs.FlowTuple(protocol, *pair, *ports_))
    assert community_id(*pair, protocol, first, second, seed) == expected


@pytest.mark.parametrize(
    ("source", "destination", "protocol", "first", "second"),
    [
        ("10.0.0.1", "2001:db8::1", 6, 1, 2),
        ("host", "10.0.0.1", 6, 1, 2),
        ("10.0.0.1", "10.0.0.1\0", 6, 1, 2),
        ("fe80::1%eth0", "fe80::2", 6, 1, 2),
        ("10.0.0.1", "10.0.0.2", 6, None, 2),
        ("10.0.0.1", "10.0.0.2", 17, 70000, 2),
        ("10.0.0.1", "10.0.0.2", 1, None, None),
        ("10.0.0.1", "10.0.0.2", 256, 1, 2),
        ("10.0.0.1", "10.0.0.2", -1, 1, 2),
    ],
)
def test_what_has_no_id_gets_none(source: str, destination: str, protocol: int, first: int | None, second: int | None) -> None:
    assert community_id(source, destination, protocol, first, second) is None


def _step(**fields: Any) -> Any:
    record = {"source_ip": "192.168.0.89", "destination_ip": "192.168.0.1", **fields}
    CommunityIds()([record])
    return record.get("network_community_id")


def test_a_transport_by_its_name_is_as_good_as_by_its_number() -> None:
    flow = {"source_ip": "128.232.110.120", "destination_ip": "66.35.250.204", "source_port": 34855, "destination_port": 80}
    by_number, by_name = {**flow, "network_iana_number": 6}, {**flow, "network_transport": "tcp"}
    CommunityIds()([by_number, by_name])
    assert by_number["network_community_id"] == by_name["network_community_id"] == "1:LQU9qZlK+B5F3KDmev6m5PMibrg="


def test_icmp_is_told_by_type_and_code_and_never_by_what_stands_for_ports() -> None:
    echo = "1:X0snYXpgwiv9TZtqg64sgzUn6Dk="
    assert _step(network_transport="icmp", flow_icmp_type=8, flow_icmp_code=0) == echo
    assert _step(network_transport="icmp", flow_icmp_type=8, flow_icmp_code=0, source_port=0, destination_port=2048) == echo
    assert _step(network_transport="icmp", flow_icmp_type=8) == echo
    assert _step(network_transport="icmp", source_port=8, destination_port=0) is None
    assert _step(network_transport="icmp") is None


def test_an_id_that_the_source_gave_stays_and_what_lacks_something_is_passed_over() -> None:
    assert _step(network_transport="tcp", network_community_id="1:theirs") == "1:theirs"
    assert _step(network_transport="of our own", source_port=1, destination_port=2) is None
    assert _step() is None
    assert _step(network_iana_number=6, destination_ip=None) is None
