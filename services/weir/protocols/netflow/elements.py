"""The table of information elements: (enterprise, id) to name and abstract data type.

Ids, names and types are those of the IANA "IPFIX Information Elements" registry (RFC 7012), kept in `elements.csv`.
NetFlow v9 shares the first 128 and in practice all of them; its few vendor types above 32767 are listed here.
"""

from __future__ import annotations

import csv
from functools import lru_cache
from importlib import resources
from typing import NamedTuple

__all__ = ["REVERSE_ENTERPRISE", "Element", "element", "elements", "natural_size"]

REVERSE_ENTERPRISE = 29305
"""Under this enterprise number an IANA id means the same quantity of the reverse direction (RFC 5103 section 6.1)."""


class Element(NamedTuple):
    """Name and abstract data type (RFC 7012 section 3.1) of an information element."""

    name: str
    type: str


# NetFlow v9 has 16 bits for a type and no enterprise number; vendors took ids above 32767 (Cisco ASA, Palo Alto PAN-OS).
_V9_VENDOR = {
    33000: Element("ingressAclId", "octetArray"),
    33001: Element("egressAclId", "octetArray"),
    33002: Element("firewallEventExtended", "unsigned16"),
    40000: Element("userName", "string"),
    40001: Element("postNATSourceIPv4Address", "ipv4Address"),
    40002: Element("postNATDestinationIPv4Address", "ipv4Address"),
    40003: Element("postNAPTSourceTransportPort", "unsigned16"),
    40004: Element("postNAPTDestinationTransportPort", "unsigned16"),
    40005: Element("firewallEvent", "unsigned8"),
    56701: Element("applicationName", "string"),
    56702: Element("userName", "string"),
}

_SIZES = {
    "unsigned8": 1,
    "unsigned16": 2,
    "unsigned32": 4,
    "unsigned64": 8,
    "unsigned256": 32,
    "signed8": 1,
    "signed16": 2,
    "signed32": 4,
    "signed64": 8,
    "float32": 4,
    "float64": 8,
    "boolean": 1,
    "macAddress": 6,
    "ipv4Address": 4,
    "ipv6Address": 16,
    "dateTimeSeconds": 4,
    "dateTimeMilliseconds": 8,
    "dateTimeMicroseconds": 8,
    "dateTimeNanoseconds": 8,
}


@lru_cache(maxsize=1)
def elements() -> dict[int, Element]:
    """All elements of enterprise 0 by id, read once from the package's `elements.csv`."""
    table = dict(_V9_VENDOR)
    text = resources.files("weir.protocols.netflow").joinpath("elements.csv").read_text("ascii")
    for row in csv.DictReader(text.splitlines()):
        table[int(row["id"])] = Element(row["name"], row["type"])
    return table


def element(enterprise: int, element_id: int) -> Element:
    """Name and type of one element; an unknown one is called `enterprise:E.id` and is an octetArray."""
    if enterprise in (0, REVERSE_ENTERPRISE):
        known = elements().get(element_id)
        if known is not None:
            if enterprise == 0:
                return known
            return Element("reverse" + known.name[0].upper() + known.name[1:], known.type)
    return Element(f"enterprise:{enterprise}.{element_id}", "octetArray")


def natural_size(abstract_type: str) -> int | None:
    """Full size in bytes of an abstract data type (RFC 7011 section 6.1); None where the length is free."""
    return _SIZES.get(abstract_type)
