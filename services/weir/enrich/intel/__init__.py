"""Threat intelligence: lists of addresses, networks, domains, URLs and hashes, made into one table.

Formats: plain lists, CSV (abuse.ch's and others), MISP events, STIX 2.1 bundles; which one a file is, its content says.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

import orjson

from weir.enrich.addresses import Address, PrefixTable, parse_network
from weir.enrich.intel import misp, plain, stix, table
from weir.enrich.intel.lists import IntelError, Report
from weir.enrich.intel.values import Indicator, normal_domain, normal_hash, normal_url, split_scheme, time_us

__all__ = [
    "Details",
    "Indicator",
    "IntelError",
    "IntelList",
    "IntelTable",
    "Match",
    "Report",
    "as_record",
    "compile_intel",
    "read_list",
    "time_us",
]

_DEEPEST_DOMAIN: Final = 16
"""So many labels of a name are looked at, from its end; what an attacker puts in front costs nothing."""
_DAY_US: Final = 86_400_000_000
_HASHES: Final = frozenset({"md5", "sha1", "sha256"})


@dataclass(frozen=True, slots=True)
class Details:
    """What a list says of an indicator. Shared by all indicators of which it says the same; times in µs UTC."""

    kind: str
    provider: str
    first_seen: int | None = None
    last_seen: int | None = None
    expires: int | None = None
    confidence: int | None = None
    reference: str | None = None
    description: str | None = None
    scheme: str = ""


class Match(NamedTuple):
    """An indicator that holds a value, and what one list says of it."""

    indicator: str
    details: Details


class IntelList(NamedTuple):
    """One list, read: who provides it, as of when it is (µs UTC), its indicators and what was left out of it."""

    provider: str
    as_of: int
    indicators: Iterable[Indicator]
    report: Report


def _text(content: bytes) -> str:
    # One odd byte in a comment must not cost the list; a value that holds one is no indicator anyway.
    return content.decode("utf-8-sig", "replace")


def read_list(name: str, content: bytes, report: Report) -> Iterator[Indicator]:
    """The indicators of a file; entries that are none are counted in the report.

    What begins like JSON is a STIX bundle or MISP events; a file whose name ends in .csv, or that has a header which names a column
    of indicators, is CSV; everything else is a plain list.

    Raises:
        IntelError: while iterating: the content is broken as a whole.
    """
    head = content[:65_536].removeprefix(b"\xef\xbb\xbf").lstrip()
    if head.startswith((b"{", b"[{", b"[ ", b"[\n", b"[\r")):
        try:
            document = orjson.loads(content.removeprefix(b"\xef\xbb\xbf"))
        except orjson.JSONDecodeError as error:
            raise IntelError(f"not JSON: {error}") from error
        yield from stix.parse(document, report) if stix.is_bundle(document) else misp.parse(document, report)
    elif b"\0" in head:
        raise IntelError("binary: a list that is compressed is to be unpacked first")
    elif name.lower().endswith(".csv") or table.find_header(_text(head)) is not None:
        yield from table.parse(_text(content), report)
    else:
        yield from plain.parse(_text(content), report)


class IntelTable:
    """All indicators, by kind and value.

    Args:
        values: by kind ("ip", "cidr", "domain", "url", "md5", "sha1", "sha256"), then by value: what one list or several say of it.
    """

    def __init__(self, values: dict[str, dict[str, Details | tuple[Details, ...]]]) -> None:
        self._values = values
        self._networks = PrefixTable((parse_network(text), text) for text in values.get("cidr", {}))
        self._size = sum(map(len, values.values()))

    def __len__(self) -> int:
        return self._size

    def has(self, *kinds: str) -> bool:
        """Whether there is any indicator of these kinds."""
        return any(self._values.get(kind) for kind in kinds)

    def counts(self) -> dict[str, int]:
        """Indicators by kind."""
        return {kind: len(found) for kind, found in sorted(self._values.items()) if found}

    def of_address(self, address: Address) -> tuple[Match, ...]:
        """Indicators that hold an address: itself, and networks, the longest prefix first."""
        found = self._get("ip", str(address))
        for network in self._networks.find_all(address):
            found += self._get("cidr", network)
        return found

    def of_domain(self, name: str) -> tuple[Match, ...]:
        """Indicators that hold a domain: itself, and the domains it is beneath."""
        domain = normal_domain(name)
        domains = self._values.get("domain")
        if domain is None or not domains:
            return ()
        found: tuple[Match, ...] = ()
        labels = domain.split(".")
        suffixes = [domain] if len(labels) > _DEEPEST_DOMAIN else []
        suffixes += [".".join(labels[at:]) for at in range(max(0, len(labels) - _DEEPEST_DOMAIN), len(labels) - 1)]
        for suffix in suffixes:
            if suffix in domains:
                found += self._get("domain", suffix)
        return found

    def of_url(self, text: str) -> tuple[Match, ...]:
        """Indicators that are this URL."""
        url = normal_url(text)
        return () if url is None else self._get("url", url)

    def of_hash(self, text: str) -> tuple[Match, ...]:
        """Indicators that are this hash."""
        found = normal_hash(text.strip())
        return () if found is None else self._get(*found)

    def _get(self, kind: str, value: str) -> tuple[Match, ...]:
        found = self._values.get(kind, {}).get(value)
        if found is None:
            return ()
        return tuple(Match(details.scheme + value, details) for details in (found if isinstance(found, tuple) else (found,)))


def compile_intel(lists: Iterable[IntelList], *, limit: int, max_age_days: float) -> IntelTable:
    """The table of these lists.

    An indicator expires when its list says so; else `max_age_days` after it was last seen, or first seen, or after the list's own
    date; hashes do not expire by age, because a file stays what it is. 0 lets nothing expire by age.

    Args:
        limit: of indicators over all lists.

    Raises:
        IntelError: there are more, or a list is broken as a whole.
    """
    age = round(max_age_days * _DAY_US)
    values: dict[str, dict[str, Details | tuple[Details, ...]]] = {}
    size = 0
    for one in lists:
        shared: dict[tuple[object, ...], Details] = {}
        for found in one.indicators:
            one.report.taken += 1
            kind, value, first, last, expires = found[:5]
            scheme = ""
            if kind == "url":
                scheme, value = split_scheme(value)
            if expires is None and age and kind not in _HASHES:
                expires = (last or first or one.as_of) + age
            key = (kind, scheme, first, last, expires, *found[5:])
            said = shared.get(key)
            if said is None:
                said = shared[key] = Details(kind, one.provider, first, last, expires, *found[5:], scheme)
            of_kind = values.setdefault(kind, {})
            known = of_kind.get(value)
            if known is None:
                if size >= limit:
                    raise IntelError(
                        f"{one.provider}: more than {limit:,} indicators in all lists: leave lists out, or raise "
                        "WEIR_ENRICH_INTEL_MAX_INDICATORS (100 to 700 bytes of memory each)"
                    )
                size += 1
                of_kind[value] = said
            else:
                of_kind[value] = _joined(known, said)
    return IntelTable(values)


def _joined(known: Details | tuple[Details, ...], said: Details) -> Details | tuple[Details, ...]:
    """What several lists say, one entry a list: that which holds the longest."""
    entries = list(known) if isinstance(known, tuple) else [known]
    for place, entry in enumerate(entries):
        if entry.provider == said.provider:
            if entry.expires is not None and (said.expires is None or said.expires >= entry.expires):
                entries[place] = said
            break
    else:
        entries.append(said)
    return entries[0] if len(entries) == 1 else tuple(entries)


def _iso(time: int | None) -> str | None:
    if time is None:
        return None
    try:
        return datetime.fromtimestamp(time // 1_000_000, UTC).isoformat().replace("+00:00", "Z")
    except (ValueError, OverflowError, OSError):
        return None


def as_record(match: Match, field: str) -> dict[str, Any]:
    """A match as an event tells of it: what the list does not say is left out; times are ISO 8601."""
    said = match.details
    record = {
        "indicator": match.indicator,
        "type": said.kind,
        "field": field,
        "provider": said.provider,
        "confidence": said.confidence,
        "first_seen": _iso(said.first_seen),
        "last_seen": _iso(said.last_seen),
        "expires": _iso(said.expires),
        "reference": said.reference,
        "description": said.description,
    }
    return {key: value for key, value in record.items() if value is not None}
