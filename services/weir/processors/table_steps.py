"""Steps that put what tables know into events: addresses, hosts, users, threat intelligence."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Final, Protocol

import orjson

from weir.enrich.intel import Match, as_record
from weir.enrich.lookup import ADDRESS_FIELDS, HITS, Lookup
from weir.enrich.seen import LastSeen
from weir.model.schemas import latest
from weir.model.topics import DATASETS
from weir.ops import telemetry
from weir.processors.enrichment import Record, Step
from weir.processors.settings import ProcessorSettings

__all__ = ["HASHES", "NAMES", "NAT", "URLS", "BatchSnapshot", "Snapshots", "fields_of", "table_steps"]

# What of an event is looked up among the indicators, besides source_ip and destination_ip: where the dataset has the field.
NAT: Final = ("source_nat_ip", "destination_nat_ip")
NAMES: Final = ("url_domain", "dns_question_name", "tls_server_name", "source_host", "destination_host")
URLS: Final = ("url_original", "http_request_referrer")
HASHES: Final = ("file_hash_md5", "file_hash_sha1", "file_hash_sha256")
MAX_ANSWERS: Final = 50
MAX_ENRICHMENTS: Final = 20
"""Matches that one event tells of, at most."""

_WEB_PORTS: Final = (None, 80, 443)
_BINDING: Final = frozenset({"authentication", "file-audit", "cef"})
"""Datasets whose events say that a user acted from source_ip."""


class Snapshots(Protocol):
    """Who has the tables as they are now."""

    @property
    def lookup(self) -> Lookup:
        """The tables of this moment; a step asks once a batch."""


class BatchSnapshot:
    """The tables as they were when a batch began: another thread swaps them, and all events of a batch are to be told the same.

    Args:
        tables: who has them as they are now.
    """

    def __init__(self, tables: Snapshots) -> None:
        self._tables = tables
        self._held: Lookup | None = None

    @property
    def lookup(self) -> Lookup:
        """The tables of this batch; between two batches, those of this moment."""
        return self._held or self._tables.lookup

    def begin(self) -> None:
        """A batch begins."""
        self._held = self._tables.lookup

    def end(self) -> None:
        """It is over. An idle processor must not hold on to tables that have been replaced."""
        self._held = None


def fields_of(dataset: str) -> frozenset[str]:
    """Names of the fields that a dataset's schema has."""
    return frozenset(field["name"] for field in latest(dataset).parsed["fields"])


def table_steps(tables: Snapshots, settings: ProcessorSettings) -> dict[str, list[Step]]:
    """By dataset, the steps for what is configured; none where nothing is."""
    on_addresses = bool(settings.enrich_mmdb_files or settings.enrich_asset_files or settings.enrich_assets_topic)
    on_hosts = bool(settings.enrich_asset_files or settings.enrich_assets_topic)
    on_users = bool(settings.enrich_user_files or on_hosts or settings.enrich_seen_hours)
    counter = telemetry.meter("weir.processors").create_counter(
        "weir.enrich.hits", description="events that a table said something of"
    )
    seen = LastSeen(settings.enrich_seen_users, hours=settings.enrich_seen_hours) if settings.enrich_seen_hours else None

    def count(kind: str, number: int) -> None:
        if number:
            counter.add(number, {"kind": kind})

    steps: dict[str, list[Step]] = {}
    for dataset in DATASETS:
        fields = fields_of(dataset)
        found: list[Step] = []
        if on_addresses or settings.enrich_intel:
            found.append(_addresses(tables, fields, count))
        if on_hosts:
            found.append(_hosts(tables, fields, count))
        if on_users and {"user_entity_id", "user_name"} <= fields:
            found.append(_users(tables, dataset, fields, seen, count))
        if settings.enrich_intel:
            found.append(_indicators(tables, fields, count))
        if found:
            steps[dataset] = found
    return steps


Count = Callable[[str, int], None]


def _addresses(tables: Snapshots, fields: frozenset[str], count: Count) -> Step:
    """Geography, AS, asset and network of both sides, and the indicators that hold their addresses.

    An AS number that the source names itself stays, unless it is 0, and the name of another AS is not put beside it.
    """
    both = all(f"destination_{name}" in fields for name in ADDRESS_FIELDS)

    def step(records: list[Record]) -> None:
        addresses = tables.lookup.addresses
        hits = matched = 0
        for record in records:
            get = record.get
            ip = get("source_ip")
            if ip is not None and (facts := addresses[ip]) is not None:
                hits += facts.hits
                own = get("source_as")
                record.update(facts.source if not own or own == facts.as_number else facts.source_without_as)
                if facts.matches:
                    matched += _threats(record, "source_ip", facts.matches)
            if both:
                ip = get("destination_ip")
                if ip is not None and (facts := addresses[ip]) is not None:
                    hits += facts.hits
                    own = get("destination_as")
                    record.update(facts.destination if not own or own == facts.as_number else facts.destination_without_as)
                    if facts.matches:
                        matched += _threats(record, "destination_ip", facts.matches)
        for kind in HITS:
            count(kind, hits & 0xFFFFF)
            hits >>= 20
        count("threat", matched)

    return step


def _hosts(tables: Snapshots, fields: frozenset[str], count: Count) -> Step:
    """The asset that reports: by its name, else by the address it sent from; and the sides' assets by their host names."""
    sides = [side for side in ("source", "destination") if {f"{side}_host", f"{side}_asset_name"} <= fields]
    keys = [(f"{side}_host", f"{side}_asset_name", f"{side}_fields") for side in sides]

    def step(records: list[Record]) -> None:
        lookup = tables.lookup
        hosts, addresses = lookup.hosts, lookup.addresses
        by_name = keys if lookup.tables.assets is not None and lookup.tables.assets.has_hosts else ()
        hits = 0
        for record in records:
            get = record.get
            name = get("host_name")
            if name:
                if (found := hosts[name]) is not None:
                    hits += 1
                    record.update(found.host_fields)
            elif (sender := get("log_source_ip")) and (facts := addresses[sender]) is not None and facts.host:
                hits += 1
                record.update(facts.host)
            for key, known, values in by_name:
                host = get(key)
                if host and known not in record and (found := hosts[host]) is not None:
                    record.update(getattr(found, values))
        count("host", hits)

    return step


def _users(tables: Snapshots, dataset: str, fields: frozenset[str], seen: LastSeen | None, count: Count) -> Step:
    """One name for the user, roles and criticality; and where the user was last seen.

    `user_last_seen_ips` is given where it says something that the event does not: there is no source_ip, or the user comes from
    another address than last time. It holds the addresses before this event.
    """
    binds = dataset in _BINDING and "source_ip" in fields
    only_success = dataset == "authentication"

    def step(records: list[Record]) -> None:
        users = tables.lookup.users
        hits = told = 0
        for record in records:
            get = record.get
            name, user_id = get("user_name"), get("user_id")
            if name is None and user_id is None:
                continue
            facts = users[name, get("user_domain"), user_id]
            if facts.fields:
                hits += 1
                record.update(facts.fields)
            if seen is not None and (key := facts.key) is not None:
                is_binding = binds and not (only_success and get("event_outcome") != "success")
                if before := seen.visit(key, get("source_ip"), record["event_created"], remember=is_binding):
                    told += 1
                    record["user_last_seen_ips"] = before
        count("user", hits)
        count("last_seen", told)

    return step


def _indicators(tables: Snapshots, fields: frozenset[str], count: Count) -> Step:
    """Indicators that hold names, URLs, hashes, translated addresses and answers of DNS."""
    nats, names, urls, hashes = (tuple(name for name in group if name in fields) for group in (NAT, NAMES, URLS, HASHES))
    answers = "dns_answers" in fields

    def step(records: list[Record]) -> None:
        lookup = tables.lookup
        intel = lookup.tables.intel
        if intel is None or not len(intel):
            return
        # Only what some list has an indicator for is looked up.
        asked_names = (*(names if intel.has("ip", "cidr", "domain") else ()), *(nats if intel.has("ip", "cidr") else ()))
        asked_hashes = hashes if intel.has("md5", "sha1", "sha256") else ()
        asked_urls = urls if intel.has("url") else ()
        of_name, of_hash, of_url = lookup.names, lookup.hashes, lookup.urls
        matched = 0
        for record in records:
            get = record.get
            for name in asked_names:
                if (text := get(name)) is not None and (found := of_name[text]):
                    matched += _threats(record, name, found)
            for name in asked_hashes:
                if (text := get(name)) is not None and (found := of_hash[text]):
                    matched += _threats(record, name, found)
            for name in asked_urls:
                if (text := get(name)) is not None and (
                    found := of_url[text] if text[:1] != "/" else _of_path(record, text, of_url)
                ):
                    matched += _threats(record, name, found)
            if answers and (listed := get("dns_answers")):
                for text in listed[:MAX_ANSWERS]:
                    if found := of_name[text]:
                        matched += _threats(record, "dns_answers", found)
        count("threat", matched)

    return step


def _of_path(record: Record, path: str, of_url: Mapping[str, tuple[Match, ...]]) -> tuple[Match, ...]:
    """Of a URL that is a path alone: its host, and a port that is not the Web's, stand beside it."""
    host = record.get("url_domain") or record.get("destination_host") or record.get("tls_server_name")
    if not host:
        return ()
    port = record.get("destination_port")
    if port not in _WEB_PORTS and ":" not in host and (found := of_url[f"{host}:{port}{path}"]):
        return found
    return of_url[host + path]


def _threats(record: Record, field: str, matches: Iterable[Match]) -> int:
    """Add the matches that have not expired when the event was received; 1 where this is the first of the record."""
    at = record["event_created"]
    texts = [
        orjson.dumps(as_record(match, field)).decode()
        for match in matches
        if match.details.expires is None or match.details.expires > at
    ]
    if not texts:
        return 0
    # A new list: one that a decoder put there may be shared.
    known = record.get("threat_enrichments") or []
    record["threat_enrichments"] = (known + texts)[:MAX_ENRICHMENTS]
    return 0 if known else 1
