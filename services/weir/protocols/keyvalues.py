"""What the values of CEF and LEEF mean: addresses, ports, protocols, hashes. All of it answers None for what a value is not."""

import re
from functools import lru_cache
from ipaddress import ip_address
from typing import Final

__all__ = ["TRANSPORTS", "address", "hash_kind", "integer", "mac", "port", "transport", "url_host"]

_LARGEST: Final = (1 << 63) - 1

TRANSPORTS: Final = {
    "icmp": 1, "igmp": 2, "ipip": 4, "tcp": 6, "egp": 8, "udp": 17, "dccp": 33, "ipv6": 41, "rsvp": 46, "gre": 47, "esp": 50,
    "ah": 51,
    "ipv6-icmp": 58, "eigrp": 88, "ospf": 89, "pim": 103, "vrrp": 112, "l2tp": 115, "sctp": 132, "udplite": 136,
}  # fmt: skip
"""IANA protocol numbers that logs have in practice, by ECS's lower-case names."""

_BY_NAME: Final = TRANSPORTS | {"icmpv6": 58, "icmp6": 58, "ipv6icmp": 58, "ospfigp": 89, "udp-lite": 136}
_BY_NUMBER: Final = {number: name for name, number in TRANSPORTS.items()}


@lru_cache(maxsize=16_384)
def address(text: str) -> str | None:
    """An IP address in its canonical text, the brackets of IPv6 and a zone id taken off."""
    try:
        return str(ip_address(text.strip("[] ").partition("%")[0]))
    except ValueError:
        return None


def port(text: str) -> int | None:
    """0 to 65535."""
    if not (text.isascii() and text.isdigit() and len(text) <= 5):
        return None
    number = int(text)
    return number if number <= 65_535 else None


def integer(text: str) -> int | None:
    """A number of 0 to 2**63 - 1, the most that an event has room for."""
    if not (text.isascii() and text.isdigit() and len(text) <= 19):
        return None
    number = int(text)
    return number if number <= _LARGEST else None


_MAC = re.compile(r"([0-9A-Fa-f]{2})[:-]?" * 5 + r"([0-9A-Fa-f]{2})")
_CISCO_MAC = re.compile(r"([0-9A-Fa-f]{4})\.([0-9A-Fa-f]{4})\.([0-9A-Fa-f]{4})")


@lru_cache(maxsize=16_384)
def mac(text: str) -> str | None:
    """A MAC address in upper case with hyphens, from ``00:50:56:f5:7f:47``, ``0050.56f5.7f47`` and their like."""
    found = _MAC.fullmatch(text) or _CISCO_MAC.fullmatch(text)
    if found is None:
        return None
    digits = "".join(found.groups()).upper()
    return "-".join(digits[i : i + 2] for i in range(0, 12, 2))


@lru_cache(maxsize=1024)
def transport(text: str) -> tuple[str, int] | None:
    """Name and IANA number of a transport protocol that is given by either; a number without a name here is its own name."""
    name = text.strip().lower()
    if name.isascii() and name.isdigit() and len(name) <= 3:
        number = int(name)
        return None if number > 255 else (_BY_NUMBER.get(number, str(number)), number)
    found = _BY_NAME.get(name)
    return None if found is None else (_BY_NUMBER[found], found)


_HEX = re.compile(r"[0-9a-f]+")
_HASHES: Final = {32: "md5", 40: "sha1", 64: "sha256"}


def hash_kind(text: str) -> tuple[str, str] | None:
    """``md5``, ``sha1`` or ``sha256`` by the number of its digits, and the hash in lower case."""
    kind = _HASHES.get(len(text))
    if kind is None:
        return None
    lower = text.lower()
    return (kind, lower) if _HEX.fullmatch(lower) is not None else None


def url_host(url: str) -> str | None:
    """The host of a URL that has a scheme, in lower case and without port, user and brackets."""
    scheme, sign, rest = url.partition("://")
    if not sign or not scheme or len(scheme) > 16:
        return None
    for end in "/?#":
        rest = rest.partition(end)[0]
    rest = rest.rpartition("@")[2]
    host = rest[1:].partition("]")[0] if rest.startswith("[") else rest.partition(":")[0]
    return host.lower() if host and " " not in host else None
