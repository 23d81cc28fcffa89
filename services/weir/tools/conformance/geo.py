"""Geography and AS: MaxMind's test databases against the rows they were built from, and its broken ones against being refused.

Every row is asked by its first and its last address, the way an event asks; where rows lie within each other, the
narrower one holds.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from functools import reduce
from pathlib import Path
from typing import Any, Final

import orjson

from weir.enrich.addresses import Address, PrefixTable, is_inner
from weir.enrich.geo import GeoDatabase
from weir.enrich.lookup import Lookup, Tables
from weir.enrich.rows import TableError
from weir.tools.conformance import Case

__all__ = ["cases"]

_FOLDER: Final = "geo/maxmind"
_BROKEN: Final = ("-Broken-", "-broken-", "-Invalid-")

INNER: Final = "the network is private, local or reserved: nothing is asked for such addresses, whatever a database says of them"
_FIELDS: Final = {
    "source_geo_country_iso_code": ("country", "iso_code"),
    "source_geo_city_name": ("city", "names", "en"),
    "source_as": ("autonomous_system_number",),
    "source_as_organization": ("autonomous_system_organization",),
}


def cases(corpus: Path) -> Iterator[Case]:
    """Every row of every test database, and every broken database."""
    folder = corpus / _FOLDER
    for path in sorted(folder.glob("*.mmdb")):
        try:
            database = GeoDatabase(path)
        except TableError as error:
            named = path.name in str(error)
            yield Case(path.name, None if _is_broken(path) and named else f"refused: {error}")
            continue
        if _is_broken(path):
            yield Case(path.name, "a broken database was taken")
        elif (source := folder / "source-data" / f"{path.stem}.json").is_file():
            yield from _rows(path.name, database, orjson.loads(source.read_bytes()))
        else:
            yield Case(path.name)


def _is_broken(path: Path) -> bool:
    return any(mark in path.name for mark in _BROKEN)


def _rows(name: str, database: GeoDatabase, rows: list[dict[str, dict[str, Any]]]) -> Iterator[Case]:
    lookup = Lookup(Tables(geo=(database,)))
    networks = [(ipaddress.ip_network(text, strict=False), record) for row in rows for text, record in row.items()]
    table = PrefixTable(networks)
    for network, _ in networks:
        for address in dict.fromkeys((network.network_address, network.broadcast_address)):
            asked = _asked(address)
            wanted = _expected(table.find(address) or {})
            facts = lookup.addresses[str(asked)]
            found = facts.source if facts is not None else {}
            differing = sorted(key for key in wanted.keys() | found.keys() if wanted.get(key) != found.get(key))
            difference = "; ".join(f"{key}: {found.get(key)!r}, expected {wanted.get(key)!r}" for key in differing)
            reason = INNER if difference and is_inner(asked) else None
            yield Case(f"{name}: {network} at {asked}", difference or None, reason)


def _asked(address: Address) -> Address:
    """MaxMind keeps IPv4 in ::/96; events have it as IPv4."""
    inside = address.version == 6 and int(address) < 1 << 32 and int(address) > 1
    return ipaddress.IPv4Address(int(address)) if inside else address


def _expected(record: dict[str, Any]) -> dict[str, Any]:
    """The fields that a row calls for, taken from it one by one."""
    found = {field: _at(record, *keys) for field, keys in _FIELDS.items()}
    region, country = _at(record, "subdivisions", 0, "iso_code"), _at(record, "country", "iso_code")
    found["source_geo_region_iso_code"] = f"{country}-{region}" if region and country else None
    latitude, longitude = _at(record, "location", "latitude"), _at(record, "location", "longitude")
    found["source_geo_location"] = None if latitude is None or longitude is None else f"{latitude:.10g},{longitude:.10g}"
    if found["source_as"] is None:
        found["source_as"] = _at(record, "traits", "autonomous_system_number")
        found["source_as_organization"] = found["source_as_organization"] or _at(record, "traits", "autonomous_system_organization")
    return {field: value for field, value in found.items() if value is not None}


def _at(record: Any, *keys: str | int) -> Any:
    try:
        return reduce(lambda value, key: value[key], keys, record)
    except (KeyError, IndexError, TypeError):
        return None
