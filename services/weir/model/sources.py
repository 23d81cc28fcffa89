"""The catalogue of sources: a YAML file in which the operator says who sends, and what is to be known of each sender.

A source is matched by address, listener port, transport and subject of its client certificate; what an entry does not name, it
does not ask for. Where several entries match, the most specific one holds: the longest prefix, then one that names a subject (in
full before a pattern), then one that names a port, then one that names a transport, then the one that stands first.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Final
from zoneinfo import ZoneInfo, available_timezones

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from weir.model.yamlfile import Place, YamlMistake, meant, read_yaml, told

__all__ = [
    "TRANSPORTS",
    "Catalogue",
    "CatalogueError",
    "KnownSource",
    "duration_seconds",
    "load_catalogue",
    "network_of",
    "read_catalogue",
]

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

TRANSPORTS: Final = ("udp", "tcp", "tls", "lumberjack", "http")
"""Ways in by which a source can be matched, as raw batches name them."""

_PATTERN: Final = re.compile(r"[*?\[]")
_DURATION: Final = re.compile(r"([0-9]{1,9})\s*(s|m|h|d)")
_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
# RFC 4514 section 3 abbreviates what X.520 and Python's ssl write in full.
_ATTRIBUTES: Final = {
    "cn": "commonname",
    "l": "localityname",
    "st": "stateorprovincename",
    "o": "organizationname",
    "ou": "organizationalunitname",
    "c": "countryname",
    "street": "streetaddress",
    "dc": "domaincomponent",
    "uid": "userid",
}
_TYPE: Final = re.compile(r"(^|[,+])\s*([A-Za-z][A-Za-z0-9.-]*)\s*=")


class CatalogueError(ValueError):
    """A catalogue that cannot be used; `mistakes` holds one sentence each, with file and line."""

    def __init__(self, mistakes: list[str]) -> None:
        super().__init__("\n".join(mistakes))
        self.mistakes = mistakes


def duration_seconds(text: str | int) -> int:
    """Seconds in "90s", "5m", "2h", "1d", or a plain number of seconds. Raises ValueError for anything else, and for nothing."""
    if isinstance(text, bool):
        raise ValueError(f"{text!r} is no duration: write it as 90s, 5m, 2h or 1d")  # noqa: TRY004  pydantic collects these
    found = _DURATION.fullmatch(text.strip()) if isinstance(text, str) else None
    seconds = text if isinstance(text, int) else int(found[1]) * _UNITS[found[2]] if found else 0
    if seconds < 1:
        raise ValueError(f"{text!r} is no duration: write it as 90s, 5m, 2h or 1d")
    return seconds


def network_of(text: str) -> Network:
    """An address or CIDR range. IPv4 within IPv6 (::ffff:a.b.c.d) is IPv4.

    Raises:
        ValueError: it is neither, or has bits behind its prefix.
    """
    try:
        network = ipaddress.ip_network(text)
    except ValueError as error:
        raise ValueError(f"{text!r} is no address or CIDR range: {error}") from error
    mapped = network.network_address.ipv4_mapped if isinstance(network.network_address, ipaddress.IPv6Address) else None
    return network if mapped is None or network.prefixlen < 96 else ipaddress.IPv4Network((mapped, network.prefixlen - 96))


def _subject_key(text: str) -> str:
    """A subject in the form in which subjects are compared: attribute types in full and in lower case, all case folded."""
    return _TYPE.sub(lambda m: f"{m[1]}{_ATTRIBUTES.get(m[2].lower(), m[2].lower())}=", text).casefold()


@dataclass(frozen=True, slots=True)
class KnownSource:
    """One entry of the catalogue. What is empty is not asked for; `expected_silence` is in seconds."""

    name: str
    networks: tuple[Network, ...] = ()
    ports: tuple[int, ...] = ()
    transports: tuple[str, ...] = ()
    subjects: tuple[str, ...] = ()
    vendor: str | None = None
    site: str | None = None
    time_zone: str | None = None
    tenant: str | None = None
    expected_silence: int | None = None
    copies: bool = False
    line: int = 0


@dataclass(frozen=True, slots=True)
class _Rule:
    """One way to match a source: an entry with one subject of its own, ready to be compared."""

    source: KnownSource
    order: int
    subject: str | None
    glob: bool

    @property
    def rank(self) -> tuple[int, int, int, int, int]:
        """Less is more specific, the prefix aside."""
        by_subject = 2 if self.subject is None else 1 if self.glob else 0
        literal = len(self.subject or "")
        return by_subject, -literal, not self.source.ports, not self.source.transports, self.order

    def takes(self, transport: str | None, port: int | None, subject: str | None) -> bool:
        """Whether it matches; None for what is not known, which matches whatever the entry asks for."""
        if port is not None and self.source.ports and port not in self.source.ports:
            return False
        if transport is not None and self.source.transports and transport not in self.source.transports:
            return False
        if self.subject is None:
            return True
        if subject is None:
            return False
        return fnmatchcase(subject, self.subject) if self.glob else subject == self.subject


class Catalogue:
    """All known sources, and which of them a sender is.

    Args:
        sources: in the order of the file.
    """

    def __init__(self, sources: list[KnownSource]) -> None:
        self.sources = tuple(sources)
        self._by_prefix: dict[tuple[int, int], dict[int, list[_Rule]]] = {}
        self._anywhere: list[_Rule] = []
        for order, source in enumerate(sources):
            rules = [_Rule(source, order, _subject_key(s), bool(_PATTERN.search(s))) for s in source.subjects]
            rules = rules or [_Rule(source, order, None, glob=False)]
            if not source.networks:
                self._anywhere += rules
            for network in source.networks:
                at = self._by_prefix.setdefault((network.version, network.prefixlen), {})
                at.setdefault(int(network.network_address), []).extend(rules)
        for found in [self._anywhere, *(rules for at in self._by_prefix.values() for rules in at.values())]:
            found.sort(key=lambda rule: rule.rank)
        self._prefixes = {
            version: sorted((length for v, length in self._by_prefix if v == version), reverse=True) for version in (4, 6)
        }

    def find(self, ip: str, transport: str | None, port: int | None, subject: str | None = None) -> KnownSource | None:
        """The source that this sender is.

        Args:
            ip: address as text; what is no address is matched by the other properties alone.
            transport: as in raw batches; None where it is not known.
            port: listener's port; None where it is not known.
            subject: of the client certificate, RFC 4514 text.
        """
        key = None if subject is None else _subject_key(subject)
        # What broke a connection's framing came by that connection.
        way = "lumberjack" if transport == "lumberjack-error" else transport
        try:
            address = ipaddress.ip_address(ip)
        except ValueError:
            address = None
        if address is not None:
            if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
                address = address.ipv4_mapped
            number, bits = int(address), address.max_prefixlen
            for length in self._prefixes[address.version]:
                rules = self._by_prefix[address.version, length].get(number >> (bits - length) << (bits - length))
                for rule in rules or ():
                    if rule.takes(way, port, key):
                        return rule.source
        return next((rule.source for rule in self._anywhere if rule.takes(way, port, key)), None)

    @property
    def longest_silence(self) -> int:
        """The longest time, in seconds, that any source may be silent."""
        return max((source.expected_silence or 0 for source in self.sources), default=0)


# --- the file ----------------------------------------------------------------------------------------------------------------


def _listed(value: Any) -> Any:
    return value if isinstance(value, list) else [value]


@cache
def _zones() -> frozenset[str]:
    return frozenset(available_timezones())


def _zone(value: Any) -> Any:
    if not isinstance(value, str):
        raise ValueError("an IANA time zone is a name such as Europe/Helsinki; quote it")  # noqa: TRY004
    try:
        ZoneInfo(value)
    except (ValueError, OSError) as error:  # ZoneInfoNotFoundError is a KeyError, and a folder of zones an OSError
        raise ValueError(_no_zone(value)) from error
    except KeyError as error:
        raise ValueError(_no_zone(value)) from error
    return value


def _no_zone(value: str) -> str:
    return f"{value!r} is no IANA time zone{meant(value, _zones())}"


def _network(value: Any) -> Network:
    if not isinstance(value, str):
        raise ValueError(f"{value!r} is no address or CIDR range; quote it")  # noqa: TRY004
    return network_of(value)


def _transport(value: Any) -> Any:
    if value not in TRANSPORTS:
        raise ValueError(f"{value!r} is no transport: {', '.join(TRANSPORTS)}{meant(str(value), frozenset(TRANSPORTS))}")
    return value


def _subject(value: Any) -> Any:
    if not isinstance(value, str) or not value.strip() or "=" not in value:
        raise ValueError(f"{value!r} is no subject or pattern of one, such as CN=forwarder-1,O=Example or CN=forwarder-*")
    return value


Text = Annotated[str, Field(min_length=1, max_length=200, strict=True)]
Listed = BeforeValidator(_listed)


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", arbitrary_types_allowed=True)

    name: Text
    address: Annotated[list[Annotated[Any, BeforeValidator(_network)]], Listed, Field(min_length=1)] = Field(default_factory=list)
    port: Annotated[list[Annotated[int, Field(ge=1, le=65535, strict=True)]], Listed] = Field(default_factory=list)
    transport: Annotated[list[Annotated[str, BeforeValidator(_transport)]], Listed] = Field(default_factory=list)
    certificate_subject: Annotated[list[Annotated[str, BeforeValidator(_subject)]], Listed] = Field(default_factory=list)
    vendor: Text | None = None
    site: Text | None = None
    time_zone: Annotated[str, BeforeValidator(_zone)] | None = None
    tenant: Text | None = None
    expected_silence: Annotated[int, BeforeValidator(duration_seconds)] | None = None
    copies: Annotated[bool, Field(strict=True)] = False

    def source(self, line: int) -> KnownSource:
        return KnownSource(
            name=self.name,
            networks=tuple(dict.fromkeys(self.address)),
            ports=tuple(sorted(set(self.port))),
            transports=tuple(sorted(set(self.transport))),
            subjects=tuple(dict.fromkeys(self.certificate_subject)),
            vendor=self.vendor,
            site=self.site,
            time_zone=self.time_zone,
            tenant=self.tenant,
            expected_silence=self.expected_silence,
            copies=self.copies,
            line=line,
        )


_KEYS: Final = frozenset(_Entry.model_fields)


def load_catalogue(path: Path) -> Catalogue:
    """The catalogue in a file.

    Raises:
        CatalogueError: with every mistake in it, each with file and line, or the reason why it cannot be read.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise CatalogueError([f"{path}: {reason}; WEIR_SOURCES_FILE must name a readable YAML file"]) from error
    return read_catalogue(text, str(path))


def read_catalogue(text: str, name: str = "catalogue") -> Catalogue:
    """The catalogue in a YAML text; `name` stands for the file in messages. Raises CatalogueError as `load_catalogue`."""
    try:
        content, lines, mistakes = read_yaml(text)
    except YamlMistake as error:
        raise CatalogueError([f"{name}:{error.line}: {error.problem}"]) from error
    if not isinstance(content, dict) or not isinstance(content.get("sources"), list):
        raise CatalogueError([f"{name}:1: must hold a list under the key 'sources'"])
    mistakes += [
        (lines.get((key,), 1), f"{key!r} is not a key{meant(str(key), frozenset({'sources'}))}; there is only 'sources'")
        for key in content
        if key != "sources"
    ]
    sources = []
    for number, entry in enumerate(content["sources"]):
        place: Place = ("sources", number)
        line = lines.get(place, 1)
        if not isinstance(entry, dict):
            mistakes.append((line, "a source is a mapping with at least 'name' and something to match it by"))
            continue
        try:
            source = _Entry.model_validate(entry).source(line)
        except ValidationError as error:
            mistakes += _problems(error, place, lines, entry)
            continue
        if not (source.networks or source.ports or source.transports or source.subjects):
            what = "nothing to match it by: give address, port, transport or certificate_subject"
            mistakes.append((line, f"source {source.name!r}: {what}"))
            continue
        sources.append(source)
    mistakes += _duplicates(sources)
    if mistakes:
        raise CatalogueError(told(name, mistakes))
    return Catalogue(sources)


def _problems(error: ValidationError, place: Place, lines: dict[Place, int], entry: dict[Any, Any]) -> list[tuple[int, str]]:
    who = f"source {entry['name']!r}" if isinstance(entry.get("name"), str) else "source"
    found = []
    for problem in error.errors():
        loc: Place = problem["loc"]
        line = next((at for n in range(len(loc), -1, -1) if (at := lines.get((*place, *loc[:n]))) is not None), 1)
        field = str(loc[0]) if loc else ""
        if problem["type"] == "extra_forbidden":
            text = f"{field!r} is not a key of a source{meant(field, _KEYS)}"
        elif problem["type"] == "missing":
            text = f"{field!r} is missing"
        else:
            text = f"{field}: {problem['msg'].removeprefix('Value error, ')}"
            if problem["type"] != "value_error":
                text += f" (given: {problem['input']!r})"
        found.append((line, f"{who}: {text}"))
    return found


def _duplicates(sources: list[KnownSource]) -> list[tuple[int, str]]:
    """Names that stand twice, and entries of which the later could never be told from the earlier."""
    found: list[tuple[int, str]] = []
    names: dict[str, KnownSource] = {}
    matches: dict[tuple[object, ...], KnownSource] = {}
    for source in sources:
        if (first := names.setdefault(source.name, source)) is not source:
            found.append((source.line, f"source {source.name!r} stands in line {first.line} already: give it a list of addresses"))
        clashes: dict[int, tuple[KnownSource, str]] = {}
        for network in source.networks or (None,):
            for port in source.ports or (None,):
                for transport in source.transports or (None,):
                    for subject in source.subjects or (None,):
                        key = (network, port, transport, None if subject is None else _subject_key(subject))
                        first = matches.setdefault(key, source)
                        if first is not source:
                            what = ", ".join(str(part) for part in (network, port, transport, subject) if part is not None)
                            clashes.setdefault(first.line, (first, what))
        for first, what in clashes.values():
            found.append((source.line, f"source {source.name!r} matches the same ({what}) as {first.name!r} in line {first.line}"))
    return found
