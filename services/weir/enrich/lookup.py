"""All tables together, as an event asks them: each answer is remembered, so that what comes again costs one dictionary look-up.

A `Lookup` never changes its tables; when one of them changes, a new `Lookup` with empty memory takes its place. It belongs to one
thread.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Generic, TypeVar

from weir.enrich.addresses import is_inner, parse_address
from weir.enrich.assets import Asset, AssetTable
from weir.enrich.geo import GeoDatabase, Place
from weir.enrich.intel import IntelTable, Match
from weir.enrich.users import UserTable, identity

__all__ = ["ADDRESS_FIELDS", "HITS", "AddressFacts", "Cache", "HostFacts", "Lookup", "Tables", "UserFacts"]

ADDRESS_FIELDS: Final = (
    *("geo_country_iso_code", "geo_region_iso_code", "geo_city_name", "geo_location", "as", "as_organization"),
    *("asset_name", "asset_criticality", "asset_owner", "network_name"),
)
"""What is said of an address; in an event each has the prefix source_ or destination_."""

_AS: Final = frozenset({"as", "as_organization"})
_SIDES: Final = ("source", "destination", "host")
# Made once: with texts of its own for keys, each remembered answer takes almost twice the memory.
_NAMES: Final = {side: tuple(f"{side}_{name}" for name in ADDRESS_FIELDS) for side in _SIDES[:2]}
_NAMES_WITHOUT_AS: Final = {
    side: tuple(None if name in _AS else f"{side}_{name}" for name in ADDRESS_FIELDS) for side in _SIDES[:2]
}
_ASSET_NAMES: Final = {
    side: tuple(f"{side}_{name}" for name in ("asset_name", "asset_criticality", "asset_owner")) for side in _SIDES
}

HITS: Final = ("geo", "as", "asset", "network")
"""Kinds of hits that an address counts for, each in 20 bits of `AddressFacts.hits`, the first lowest."""

_LONGEST_KEY: Final = 256
"""Longer texts are rare or hostile: they are answered and not remembered, so that memory is bounded by the number of answers."""

V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class Tables:
    """Every table there is; None or empty where none is configured."""

    geo: tuple[GeoDatabase, ...] = ()
    assets: AssetTable | None = None
    users: UserTable | None = None
    intel: IntelTable | None = None


@dataclass(frozen=True, slots=True)
class AddressFacts:
    """What the tables say of an address, as fields of an event."""

    source: dict[str, Any]
    destination: dict[str, Any]
    source_without_as: dict[str, Any]
    destination_without_as: dict[str, Any]
    host: dict[str, Any]
    as_number: int | None = None
    matches: tuple[Match, ...] = ()
    hits: int = 0


@dataclass(frozen=True, slots=True)
class HostFacts:
    """What the tables say of a host, as fields of an event in which it reports, or is one of the sides."""

    host_fields: dict[str, Any]
    source_fields: dict[str, Any]
    destination_fields: dict[str, Any]


@dataclass(frozen=True, slots=True)
class UserFacts:
    """A key for the user, and what the table says of it as fields of an event; empty where it says nothing."""

    key: str | None
    fields: dict[str, Any] = field(default_factory=dict)


class Cache(dict[Any, V], Generic[V]):
    """Answers by question. When it is full it is emptied: what is in use is back at once, and nothing needs a list of ages."""

    def __init__(self, make: Callable[[Any], V], limit: int) -> None:
        super().__init__()
        self._make = make
        self._limit = limit

    def __missing__(self, key: Any) -> V:
        value = self._make(key)
        if all(len(part) <= _LONGEST_KEY for part in (key if isinstance(key, tuple) else (key,)) if part is not None):
            if len(self) >= self._limit:
                self.clear()
            self[key] = value
        return value


class Lookup:
    """The tables, and what they have answered.

    Args:
        tables: that are asked.
        limit: of remembered answers, for each of addresses, users, hosts and indicators' texts.
    """

    def __init__(self, tables: Tables, limit: int = 100_000) -> None:
        self.tables = tables
        self.addresses: Cache[AddressFacts | None] = Cache(self._address, limit)
        self.hosts: Cache[HostFacts | None] = Cache(self._host, limit)
        self.users: Cache[UserFacts] = Cache(self._user, limit)
        self.names: Cache[tuple[Match, ...]] = Cache(self._name, limit)
        self.urls: Cache[tuple[Match, ...]] = Cache(self._url, limit)
        self.hashes: Cache[tuple[Match, ...]] = Cache(self._hash, limit)

    def _address(self, text: str) -> AddressFacts | None:
        address = parse_address(text)
        if address is None:
            return None
        tables = self.tables
        place = Place()
        if tables.geo and not is_inner(address):
            for database in tables.geo:
                if (found := database.find(address)) is not None:
                    place = place.filled_by(found)
        asset = (tables.assets.of_address(address) if tables.assets is not None else None) or Asset()
        matches = tables.intel.of_address(address) if tables.intel is not None else ()
        values = (*place, *asset)
        if not matches and all(value is None for value in values):
            return None
        flags = (any(place[:4]), place.as_number is not None, any(asset[:3]), asset.network_name is not None)
        source, destination = _fields(_NAMES["source"], values), _fields(_NAMES["destination"], values)
        has_as = place.as_number is not None or place.as_organization is not None
        return AddressFacts(
            source,
            destination,
            _fields(_NAMES_WITHOUT_AS["source"], values) if has_as else source,
            _fields(_NAMES_WITHOUT_AS["destination"], values) if has_as else destination,
            _asset_fields("host", asset),
            place.as_number,
            matches,
            sum(1 << 20 * lane for lane, flag in enumerate(flags) if flag),
        )

    def _host(self, name: str) -> HostFacts | None:
        if self.tables.assets is None:
            return None
        found = self.tables.assets.of_host(name)
        if found is None and (address := parse_address(name)) is not None:
            found = self.tables.assets.of_address(address)
        if found is None or not any(found[:3]):
            return None
        return HostFacts(*(_asset_fields(side, found) for side in ("host", "source", "destination")))

    def _user(self, named: tuple[str | None, str | None, str | None]) -> UserFacts:
        found = self.tables.users.find(*named) if self.tables.users is not None else None
        if found is None:
            return UserFacts(identity(*named))
        fields: dict[str, Any] = {"user_entity_id": found.entity}
        if found.roles:
            fields["user_roles"] = list(found.roles)
        if found.criticality is not None:
            fields["user_criticality"] = found.criticality
        return UserFacts(f"={found.entity}", fields)

    def _name(self, text: str) -> tuple[Match, ...]:
        intel = self.tables.intel
        if intel is None:
            return ()
        # A host may be an address: in a URL, a TLS name, an answer of DNS.
        if (address := parse_address(text.strip("[]"))) is not None:
            return intel.of_address(address)
        return intel.of_domain(text)

    def _url(self, text: str) -> tuple[Match, ...]:
        return self.tables.intel.of_url(text) if self.tables.intel is not None else ()

    def _hash(self, text: str) -> tuple[Match, ...]:
        return self.tables.intel.of_hash(text) if self.tables.intel is not None else ()


def _fields(names: Sequence[str | None], values: Sequence[Any]) -> dict[str, Any]:
    """Those that there is something to say of. Nobody changes them: they are remembered."""
    return {name: value for name, value in zip(names, values, strict=True) if name is not None and value is not None}


def _asset_fields(side: str, asset: Asset) -> dict[str, Any]:
    return _fields(_ASSET_NAMES[side], asset[:3])
