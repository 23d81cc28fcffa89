"""network_direction by the operator's own networks."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weir.enrich import networks
from weir.enrich.direction import Directions, own_networks

DEFAULT = Directions(own_networks("private"))


@pytest.mark.parametrize(
    ("source", "destination", "word"),
    [
        ("10.1.2.3", "8.8.8.8", "outbound"),
        ("8.8.8.8", "172.31.255.255", "inbound"),
        ("192.168.1.1", "100.64.0.1", "internal"),
        ("8.8.8.8", "1.1.1.1", "external"),
        ("fd00::1", "2001:db8::1", "outbound"),
        ("2001:db8::1", "fe80::1", "inbound"),
        ("::ffff:10.0.0.1", "8.8.8.8", "outbound"),
        ("10.0.0.1", "224.0.0.251", "internal"),
        ("10.0.0.1", "239.255.255.250", "internal"),
        ("0.0.0.0", "255.255.255.255", "internal"),
        ("fe80::1", "ff02::fb", "internal"),
        ("198.51.100.1", "224.0.0.5", "inbound"),
        ("127.0.0.1", "127.0.0.1", "internal"),
        ("::1", "::1", "internal"),
        ("172.32.0.1", "10.0.0.1", "inbound"),
        ("fe80::1%eth0", "8.8.8.8", "outbound"),
        ("not an address", "10.0.0.1", None),
        ("10.0.0.1", "", None),
    ],
)
def test_own_networks_tell_the_direction(source: str, destination: str, word: str | None) -> None:
    assert DEFAULT.of(source, destination) == word


def test_an_operators_list_replaces_the_private_networks_or_adds_to_them() -> None:
    only = Directions(own_networks("203.0.113.0/24"))
    both = Directions(own_networks(" Private , 203.0.113.0/24, 2001:db8::/32,"))
    assert only.of("10.0.0.1", "203.0.113.9") == "inbound"
    assert both.of("10.0.0.1", "203.0.113.9") == "internal"
    assert both.of("10.0.0.1", "2001:db8::1") == "internal"
    assert Directions(own_networks("")).of("10.0.0.1", "8.8.8.8") == "external"


def test_a_network_that_is_none_is_named() -> None:
    with pytest.raises(ValueError, match=r"10\.0\.0\.1/8"):
        own_networks("private, 10.0.0.1/8")


def test_own_networks_overrule_the_source_where_both_ends_are_known_and_only_there() -> None:
    records = [
        {"source_ip": "10.0.0.1", "destination_ip": "8.8.8.8", "network_direction": "inbound"},
        {"source_ip": "10.0.0.1", "destination_ip": None, "network_direction": "inbound"},
        {"source_ip": "10.0.0.1", "destination_ip": "?"},
        {},
    ]
    DEFAULT(records)
    assert [record.get("network_direction") for record in records] == ["outbound", "inbound", None, None]


def test_what_is_remembered_of_addresses_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(networks, "_MAX_ADDRESSES", 10)
    directions = Directions(own_networks("private"))
    for n in range(100):
        assert directions.of(f"10.0.0.{n}", f"8.8.8.{n}") == "outbound"
        assert len(directions._owned) <= 10


@given(st.text(max_size=60), st.text(max_size=60))
def test_any_text_in_place_of_an_address_is_borne(source: str, destination: str) -> None:
    assert DEFAULT.of(source, destination) in {None, "inbound", "outbound", "internal", "external"}
