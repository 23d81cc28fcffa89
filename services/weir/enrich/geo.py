"""Where an address is and whose: MaxMind DB files (MMDB) of the shapes City, Country, Enterprise, ASN and ISP.

Format: MaxMind DB File Format Specification 2.0; the reader is MaxMind's own, its C extension where it is.
"""

from __future__ import annotations

import ipaddress
import math
import shutil
import tempfile
from itertools import islice
from pathlib import Path
from typing import Any, Final, NamedTuple

import maxminddb

from weir.enrich.addresses import Address
from weir.enrich.rows import TableError

__all__ = ["GeoDatabase", "Place", "place_of"]

_PROBED_RECORDS: Final = 10_000
_PROBED_ADDRESSES: Final = 2_000
_ERRORS: Final = (maxminddb.InvalidDatabaseError, ValueError, OSError, UnicodeDecodeError, RecursionError)


class Place(NamedTuple):
    """What databases say of an address. `region_iso_code` is ISO 3166-2 ("GB-ENG"), `location` is "latitude,longitude"."""

    country_iso_code: str | None = None
    region_iso_code: str | None = None
    city_name: str | None = None
    location: str | None = None
    as_number: int | None = None
    as_organization: str | None = None

    def filled_by(self, other: Place) -> Place:
        """This one, and from the other what this one lacks: place and AS each as a whole, because halves of two do not fit."""
        place = self[:4] if any(part is not None for part in self[:4]) else other[:4]
        system = self[4:] if self.as_number is not None else other[4:]
        return Place(*place, *system)


class GeoDatabase:
    """One MMDB file, opened and looked through.

    Raises:
        TableError: naming the file and what is wrong with it.
    """

    def __init__(self, path: Path) -> None:
        self.name = path.name
        self.failures = 0
        try:
            self._reader = _open(path)
            metadata = self._reader.metadata()
            self.kind: str = metadata.database_type
            self.built_at: int = metadata.build_epoch
            self.nodes: int = metadata.node_count
            self._has_ipv6 = metadata.ip_version == 6
            self._probe()
        except _ERRORS as error:
            # The reader opened a copy of the file, whose name would say nothing.
            text = str(error).partition(" (")[0] if "Error opening database file" in str(error) else str(error)
            raise TableError([f"{path}: not a usable MaxMind DB: {text}"]) from error

    def _probe(self) -> None:
        """Read records and addresses from all over the file. A small file is read whole; a large one can still break later."""
        for _ in islice(self._reader, _PROBED_RECORDS):
            pass
        step = (1 << 32) // _PROBED_ADDRESSES
        for number in range(1 << 24, 0xE000_0000, step):
            self._reader.get(ipaddress.IPv4Address(number))

    def find(self, address: Address) -> Place | None:
        """What the file says of an address. A broken record says nothing and is counted in `failures`."""
        if address.version == 6 and not self._has_ipv6:
            return None
        try:
            record = self._reader.get(address)
        except _ERRORS:
            self.failures += 1
            return None
        return place_of(record) if isinstance(record, dict) else None


def _open(path: Path) -> maxminddb.Reader:
    """Map a private copy of the file: one that is overwritten in place would take the process down with SIGBUS."""
    with path.open("rb") as original, tempfile.NamedTemporaryFile(prefix="weir-", suffix=".mmdb") as copy:
        shutil.copyfileobj(original, copy, 1 << 20)
        copy.flush()
        return maxminddb.open_database(copy.name)


def place_of(record: dict[Any, Any]) -> Place | None:
    """What a record of any of the known shapes says; None where that is nothing."""
    country = _code(_inner(record, "country").get("iso_code"))
    subdivisions = record.get("subdivisions")
    first = subdivisions[0] if isinstance(subdivisions, list) and subdivisions else None
    region = _code(first.get("iso_code")) if isinstance(first, dict) else None
    # ASN and ISP files have it at the top, Enterprise files among the traits.
    system = record if "autonomous_system_number" in record else _inner(record, "traits")
    number = system.get("autonomous_system_number")
    found = Place(
        country,
        f"{country}-{region}" if country and region else None,
        _name(_inner(record, "city")),
        _location(_inner(record, "location")),
        number if isinstance(number, int) and 0 < number < 1 << 32 else None,
        _text(system.get("autonomous_system_organization")),
    )
    return found if any(part is not None for part in found) else None


def _inner(record: dict[Any, Any], key: str) -> dict[Any, Any]:
    found = record.get(key)
    return found if isinstance(found, dict) else {}


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _code(value: Any) -> str | None:
    return value if isinstance(value, str) and 0 < len(value) <= 8 else None


def _name(city: dict[Any, Any]) -> str | None:
    names = _inner(city, "names")
    return _text(names.get("en")) or next((name for name in names.values() if isinstance(name, str) and name), None)


def _location(location: dict[Any, Any]) -> str | None:
    pair = location.get("latitude"), location.get("longitude")
    numbers = [float(n) for n in pair if isinstance(n, (int, float)) and not isinstance(n, bool) and math.isfinite(n)]
    if len(numbers) != 2 or abs(numbers[0]) > 90 or abs(numbers[1]) > 180:
        return None
    return ",".join(f"{number:.6f}".rstrip("0").rstrip(".") for number in numbers)
