"""Names of transports and services, by the registries of IANA.

`protocols.csv` has every assigned protocol number with its keyword in lower case (two of them as everybody says them: `ospf`,
`isis`) and the names that sources use for the same. `services.csv` has the system ports up to 511 and, of the ports above,
those that are really listened on and whose registered name says what is listening: a port that another program has taken over
in practice (1521, 9092, 9200) is left out, since its registered name would be wrong most of the time. Where the registered name
is not the protocol's usual one (`domain`, `microsoft-ds`), the last column has that one (`dns`, `smb`).
"""

from __future__ import annotations

import csv
from functools import cache
from pathlib import Path
from typing import Any, Final

__all__ = [
    "SYSTEM_PORTS",
    "network_names",
    "protocol_of_ports",
    "service_names",
    "service_ports",
    "transport_names",
    "transport_numbers",
]

SYSTEM_PORTS: Final = 1024
"""Ports below this are for services (RFC 6335 section 6)."""

Record = dict[str, Any]

_TABLES: Final = Path(__file__).parent
# Between two numbers of a protocol by one name there is no telling: 4 is as often called so as 94.
_AMBIGUOUS: Final = frozenset({"ipip"})


def _rows(name: str) -> list[dict[str, str]]:
    with (_TABLES / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@cache
def transport_names() -> dict[int, str]:
    """Name of each assigned protocol number, in lower case."""
    return {int(row["number"]): row["name"] for row in _rows("protocols.csv")}


@cache
def transport_numbers() -> dict[str, int]:
    """Protocol number by name, also by the other names that sources have for it; all in lower case."""
    found = {name: int(row["number"]) for row in _rows("protocols.csv") for name in (row["name"], *row["aliases"].split())}
    return {name: number for name, number in found.items() if name not in _AMBIGUOUS}


@cache
def service_ports() -> dict[str, dict[int, str]]:
    """Application protocol by transport and port of a service."""
    found: dict[str, dict[int, str]] = {}
    for row in _rows("services.csv"):
        for transport in row["transports"].split():
            found.setdefault(transport, {})[int(row["port"])] = row["protocol"] or row["service"]
    return found


def protocol_of_ports(names: dict[int, str], source_port: int | None, destination_port: int | None) -> str | None:
    """The application protocol that these two ports speak for, else None. The same for both directions of a connection.

    A port in the table is a service's. Is one of them a service's, it is that service. Are both, the one below 1024 wins; between
    two below it, the destination; between two above it, nobody knows which side is the server, unless they are the same service.

    Args:
        names: of the transport, out of `service_ports`.
    """
    theirs, ours = names.get(source_port or 0), names.get(destination_port or 0)
    if ours is None or theirs is None or ours == theirs:
        return ours or theirs
    if (destination_port or 0) < SYSTEM_PORTS:
        return ours
    return theirs if (source_port or 0) < SYSTEM_PORTS else None


def network_names(records: list[Record]) -> None:
    """Fill in network_transport from network_iana_number or the other way round, and network_type from the source address.

    What the source said stays as it is.
    """
    names, numbers = transport_names(), transport_numbers()
    for record in records:
        transport, number = record.get("network_transport"), record.get("network_iana_number")
        if number is None:
            if transport is not None and (found := numbers.get(transport)) is not None:
                record["network_iana_number"] = found
        elif transport is None and (name := names.get(number)) is not None:
            record["network_transport"] = name
        if record.get("network_type") is None:
            address = record.get("source_ip") or record.get("destination_ip")
            if address:
                record["network_type"] = "ipv6" if ":" in address else "ipv4"


def service_names(records: list[Record]) -> None:
    """Fill in network_protocol by the ports, where the source named neither protocol nor application."""
    by_transport = service_ports()
    for record in records:
        get = record.get
        names = by_transport.get(get("network_transport") or "")
        if names is None or get("network_protocol") is not None or get("network_application") is not None:
            continue
        found = protocol_of_ports(names, get("source_port"), get("destination_port"))
        if found is not None:
            record["network_protocol"] = found
