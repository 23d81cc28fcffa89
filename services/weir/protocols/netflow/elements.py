"""The table of information elements: (enterprise, id) to name and abstract data type.

Ids, names and types are those of the IANA "IPFIX Information Elements" registry (RFC 7012), kept in `elements.csv`, and of vendors
(Cisco, Citrix, VMware, CERT, ntop, CESNET, Flowmon, Ixia, Procera, Barracuda and others), kept in `vendor_elements.csv`.
NetFlow v9 shares the first 128 of IANA's and in practice all of them.
"""

from __future__ import annotations

import csv
from functools import lru_cache
from importlib import resources
from typing import NamedTuple

__all__ = [
    "CERT",
    "NTOP",
    "REVERSE_ENTERPRISE",
    "Element",
    "canonical",
    "element",
    "elements",
    "natural_size",
    "vendor_elements",
]

REVERSE_ENTERPRISE = 29305
"""Under this enterprise number an IANA id means the same quantity of the reverse direction (RFC 5103 section 6.1)."""


CERT = 6871
"""Enterprise number of CERT/NetSA (YAF), which marks elements of the reverse direction by bit 14 of their id."""

NTOP = 35632
"""Enterprise number of ntop (nProbe)."""

_CERT_REVERSE = 1 << 14
_NTOP_V9 = 57_472


class Element(NamedTuple):
    """Name and abstract data type (RFC 7012 section 3.1) of an information element."""

    name: str
    type: str


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
    """The elements of the IANA registry by id, read once from `elements.csv`."""
    return {int(row["id"]): Element(row["name"], row["type"]) for row in _rows("elements.csv")}


@lru_cache(maxsize=1)
def vendor_elements() -> dict[tuple[int, int], Element]:
    """The elements of vendors by (enterprise, id), read once from `vendor_elements.csv`; enterprise 0 are the types that vendors
    took in NetFlow v9, which has 16 bits for a type and no enterprise number.

    Where a vendor's name is one of IANA's too, the vendor's is put before it, so that no name means two things.
    """
    rows = _rows("vendor_elements.csv")
    return {(int(row["enterprise"]), int(row["id"])): Element(row["name"], row["type"]) for row in rows}


def _rows(name: str) -> csv.DictReader[str]:
    text = resources.files("weir.protocols.netflow").joinpath(name).read_text("ascii")
    return csv.DictReader(text.splitlines())


def canonical(enterprise: int, element_id: int) -> tuple[int, int]:
    """Enterprise and id of an element in IPFIX, for one of NetFlow v9 where ntop put its own, 57472 higher."""
    if enterprise == 0 and element_id >= _NTOP_V9:
        return NTOP, element_id - _NTOP_V9
    return enterprise, element_id


def element(enterprise: int, element_id: int) -> Element:
    """Name and type of one element; an unknown one is called `enterprise:E.id` and is an octetArray."""
    place = canonical(enterprise, element_id)
    known = elements().get(element_id) if enterprise == 0 else None
    known = known or vendor_elements().get(place)
    if known is not None:
        return known
    forward = None
    if enterprise == REVERSE_ENTERPRISE:
        forward = elements().get(element_id)
    elif enterprise == CERT and element_id & _CERT_REVERSE:
        forward = vendor_elements().get((CERT, element_id & ~_CERT_REVERSE))
    if forward is not None:
        return Element("reverse" + forward.name[0].upper() + forward.name[1:], forward.type)
    return Element(f"enterprise:{enterprise}.{element_id}", "octetArray")


def natural_size(abstract_type: str) -> int | None:
    """Full size in bytes of an abstract data type (RFC 7011 section 6.1); None where the length is free."""
    return _SIZES.get(abstract_type)
