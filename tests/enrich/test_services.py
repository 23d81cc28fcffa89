"""Names of transports and services."""

from __future__ import annotations

import re
from typing import Any

import pytest

from weir.enrich import services
from weir.enrich.services import network_names, protocol_of_ports, service_names, service_ports, transport_names, transport_numbers
from weir.protocols.netflow.fields import TRANSPORTS

NAME = re.compile(r"[a-z0-9][a-z0-9+./-]*")


def test_the_tables_are_well_formed_and_say_each_thing_once() -> None:
    rows = services._rows("services.csv")
    pairs = [(int(row["port"]), transport) for row in rows for transport in row["transports"].split()]
    assert len(pairs) == len(set(pairs)) > 1_000
    assert all(0 < port < 49_152 and transport in {"tcp", "udp", "sctp"} for port, transport in pairs)
    assert all(NAME.fullmatch(row["service"]) and (not row["protocol"] or NAME.fullmatch(row["protocol"])) for row in rows)
    assert [int(row["port"]) for row in rows] == sorted(int(row["port"]) for row in rows)
    numbers = [int(row["number"]) for row in services._rows("protocols.csv")]
    assert numbers == sorted(set(numbers))
    assert all(NAME.fullmatch(name) for name in transport_names().values())


def test_names_of_transports_lead_to_their_numbers() -> None:
    assert transport_names()[6] == "tcp"
    assert transport_numbers()["icmp6"] == transport_numbers()["ipv6-icmp"] == 58
    assert "ipip" not in transport_numbers()
    for number, name in TRANSPORTS.items():
        assert transport_numbers().get(name, number) == number, name


@pytest.mark.parametrize(
    ("given", "number", "transport"),
    [
        ({"network_iana_number": 17}, 17, "udp"),
        ({"network_iana_number": 0}, 0, "hopopt"),
        ({"network_transport": "sctp"}, 132, "sctp"),
        ({"network_transport": "ospf", "network_iana_number": 89}, 89, "ospf"),
        ({"network_iana_number": 200}, 200, None),
        ({"network_transport": "none such"}, None, "none such"),
        ({}, None, None),
    ],
)
def test_number_and_name_of_a_transport_fill_in_for_each_other(
    given: dict[str, Any], number: int | None, transport: str | None
) -> None:
    network_names([given])
    assert (given.get("network_iana_number"), given.get("network_transport")) == (number, transport)


def test_the_type_of_the_network_is_that_of_the_addresses() -> None:
    records: list[dict[str, Any]] = [
        {"source_ip": "10.0.0.1"},
        {"destination_ip": "2001:db8::1"},
        {"source_ip": "10.0.0.1", "network_type": "arp"},
        {},
    ]
    network_names(records)
    assert [record.get("network_type") for record in records] == ["ipv4", "ipv6", "arp", None]


@pytest.mark.parametrize(
    ("transport", "source", "destination", "protocol"),
    [
        ("tcp", 51000, 443, "https"),
        ("tcp", 443, 51000, "https"),
        ("udp", 40000, 53, "dns"),
        ("tcp", 50000, 445, "smb"),
        ("tcp", 50000, 3389, "rdp"),
        ("udp", 68, 67, "dhcp"),
        ("udp", 5353, 5353, "mdns"),
        ("tcp", 3306, 22, "ssh"),  # the one below 1024 is the server
        ("tcp", 22, 3306, "ssh"),
        ("tcp", 3306, 5432, None),  # nobody knows
        ("udp", 123, 53, "dns"),  # both below 1024: the destination
        ("tcp", 800, 2049, "nfs"),  # NFS clients use ports below 1024
        ("tcp", 51000, 52000, None),
        ("tcp", 51000, None, None),
        ("tcp", None, 22, "ssh"),
        ("sctp", 51000, 443, "https"),
        ("tcp", 51000, 1521, None),  # registered for something that nobody runs
    ],
)
def test_the_service_is_found_from_either_side(transport: str, source: int | None, destination: int | None, protocol: str) -> None:
    assert protocol_of_ports(service_ports()[transport], source, destination) == protocol


def test_what_the_source_named_is_not_contradicted() -> None:
    flow = {"network_transport": "tcp", "source_port": 51000, "destination_port": 443}
    records = [
        dict(flow),
        {**flow, "network_protocol": "ssh"},
        {**flow, "network_application": "ssh"},
        {**flow, "network_transport": "gre"},
    ]
    service_names(records)
    assert [record.get("network_protocol") for record in records] == ["https", "ssh", None, None]
