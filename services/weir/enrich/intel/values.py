"""Indicators in the one form in which they are compared, and what a text that stands in a list is."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Final, NamedTuple

from weir.enrich.addresses import is_inner, parse_address, parse_network

__all__ = ["Indicator", "classify", "normal_domain", "normal_hash", "normal_url", "split_scheme", "time_us"]

_V4: Final = re.compile(r"(?:(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)\.){3}(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)", re.ASCII)
_LABEL: Final = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_DOMAIN: Final = re.compile(rf"(?:{_LABEL}\.)+(?!\d+$){_LABEL}", re.ASCII)
_HEX: Final = re.compile(r"[0-9a-fA-F]+")
_PERCENT: Final = re.compile(r"%([0-9a-fA-F]{2})")
_UNRESERVED: Final = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
_HASHES: Final = {32: "md5", 40: "sha1", 64: "sha256"}
_DEFAULT_PORTS: Final = {"http://": ("80",), "https://": ("443",), "": ("80", "443")}
_SCHEME: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]{0,30}://")
# Shorter prefixes are lists of what is not in use, or mistakes; a match would say nothing.
_SHORTEST: Final = {4: 8, 6: 19}
MAX_VALUE: Final = 4_096


class Indicator(NamedTuple):
    """One indicator of a list. `kind`: ip, cidr, domain, url, md5, sha1 or sha256; times in µs UTC.

    `value` is in its normal form; that of a URL has the list's scheme in front, where the list has one.
    """

    kind: str
    value: str
    first_seen: int | None = None
    last_seen: int | None = None
    expires: int | None = None
    confidence: int | None = None
    reference: str | None = None
    description: str | None = None


def classify(text: str) -> tuple[str, str]:
    """Kind and normal form of a value as lists have it, also written harmless (hxxp://, evil[.]example).

    Raises:
        ValueError: it is nothing that could be looked up; the message says why.
    """
    if len(text) > MAX_VALUE:
        raise ValueError(f"{len(text)} characters are more than {MAX_VALUE}")
    value = _armed(text.strip())
    value.encode()  # half a character is a ValueError too
    if _V4.fullmatch(value):
        return "ip", value
    scheme, _ = split_scheme(value)
    if scheme:
        url = normal_url(value)
        if url is None:
            raise ValueError(f"{text[:80]!r} is no URL")
        return "url", scheme + url
    if (kind := _HASHES.get(len(value))) is not None and _HEX.fullmatch(value):
        return kind, value.lower()
    if "/" in value:
        return _with_slash(value, text)
    host = _without_port(value)
    if _V4.fullmatch(host):
        return "ip", host
    if ":" in host and (address := parse_address(host)) is not None:
        return "ip", str(address)
    domain = normal_domain(host)
    if domain is None:
        raise ValueError(f"{text[:80]!r} is no address, network, domain, URL or hash")
    return "domain", domain


def _with_slash(value: str, text: str) -> tuple[str, str]:
    try:
        network = parse_network(value)
    except ValueError as error:
        url = normal_url(value)
        host, _, path = (url or "").partition("/")
        host = _without_port(host)
        # 192.0.2.1/24 is a network with bits behind its prefix, not a file of that name.
        if url is None or (normal_domain(host) is None and (parse_address(host) is None or path.isdecimal())):
            raise ValueError(f"{text[:80]!r} is no network and no URL: {error}") from error
        return "url", url
    if network.prefixlen == network.max_prefixlen:
        return "ip", str(network.network_address)
    if network.prefixlen < _SHORTEST[network.version]:
        raise ValueError(f"{text[:80]!r} is too wide: /{_SHORTEST[network.version]} is the shortest prefix taken")
    if is_inner(network):
        raise ValueError(f"{text[:80]!r} is private or reserved, as lists of unused addresses have it; it would match your own")
    return "cidr", str(network)


def _armed(text: str) -> str:
    """A value that was written harmless, as it was."""
    if "[" in text or "(" in text:
        for harmless in ("[.]", "(.)", "[dot]", "(dot)"):
            text = text.replace(harmless, ".")
        text = text.replace("[:]", ":").replace("[://]", "://")
    scheme, mark, rest = text.partition("://")
    return scheme.lower().replace("xx", "tt") + mark + rest if mark and scheme.lower() in {"hxxp", "hxxps"} else text


def _without_port(host: str) -> str:
    if host.startswith("["):
        return host[1:].partition("]")[0]
    name, colon, port = host.rpartition(":")
    return name if colon and ":" not in name and port.isdecimal() else host


def normal_domain(text: str) -> str | None:
    """A domain in lower case, internationalised labels in Punycode, without a final dot or leading "*."; None for what is none."""
    name = text.strip().rstrip(".").removeprefix("*.").removeprefix(".").lower()
    if not name.isascii():
        try:
            name = name.encode("idna").decode("ascii")
        except UnicodeError:
            return None
    return name if len(name) <= 253 and _DOMAIN.fullmatch(name) else None


def split_scheme(text: str) -> tuple[str, str]:
    """The scheme of a URL in lower case with its "://", and the rest; no scheme where it has none. A query may hold another URL."""
    found = _SCHEME.match(text)
    return ("", text) if found is None else (found[0].lower(), text[found.end() :])


def normal_url(text: str) -> str | None:
    """host[:port]/path[?query]: without scheme, user, fragment and the scheme's own port (RFC 3986 section 6.2).

    The scheme is left out because events often have none. None for what has no host, and for what is too long.
    """
    if len(text) > MAX_VALUE:
        return None
    scheme, rest = split_scheme(text.strip())
    rest = rest.partition("#")[0].rstrip()
    end = min((at for at in (rest.find("/"), rest.find("?")) if at >= 0), default=len(rest))
    authority, path = rest[:end].rpartition("@")[2].lower(), rest[end:]
    host, colon, port = authority.rpartition(":")
    if colon and port.isdecimal() and (":" not in host or host.endswith("]")):
        ports = _DEFAULT_PORTS.get(scheme, ())
        authority = host if port in ports else f"{host}:{port}"
    if not authority or " " in authority:
        return None
    if not authority.isascii():
        try:
            authority = authority.encode("idna").decode("ascii")
        except UnicodeError:
            return None
    if not path.startswith("/"):
        path = f"/{path}"
    return authority.rstrip(".") + (_PERCENT.sub(_decoded, path) if "%" in path else path)


def _decoded(found: re.Match[str]) -> str:
    character = chr(int(found[1], 16))
    return character if character in _UNRESERVED else f"%{found[1].upper()}"


def normal_hash(text: str) -> tuple[str, str] | None:
    """Kind and lower-case form of a hash in hex; None for what is none of the three."""
    kind = _HASHES.get(len(text))
    return (kind, text.lower()) if kind is not None and _HEX.fullmatch(text) else None


def time_us(value: object) -> int | None:
    """Microseconds UTC of a time as lists have it: ISO 8601, "2026-01-02 03:04:05 UTC", a date, or seconds since 1970."""
    text = str(value).strip() if isinstance(value, (str, int, float)) and not isinstance(value, bool) else ""
    if not text:
        return None
    if text.isdecimal() and len(text) <= 11:
        seconds = int(text)
        return seconds * 1_000_000 if seconds else None
    try:
        found = datetime.fromisoformat(text.removesuffix(" UTC").strip()[:40])
        found = found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
        return round(found.timestamp() * 1_000_000)
    except (ValueError, OverflowError):
        return None
