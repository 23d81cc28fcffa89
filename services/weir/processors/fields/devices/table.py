"""From a vendor's pairs to event fields, by table: conversions, and what all vendors' tables share."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from ipaddress import ip_address
from typing import Any, Final

from weir.protocols import syslog

__all__ = [
    "Table",
    "address",
    "best_time",
    "duration_ns",
    "fill",
    "integer",
    "lower",
    "mac",
    "md5",
    "port",
    "sha1",
    "sha256",
    "status",
    "text",
    "time_us",
    "transport",
    "user",
]

Conversion = Callable[[str], Any]
Table = Mapping[str, tuple[tuple[str, Conversion], ...]]
"""A vendor's key: the fields that its value goes to, each with its conversion. What converts to None is left out."""

_NOTHING: Final = frozenset(
    {"", "-", "--", "n/a", "N/A", "none", "None", "null", "NULL", "(null)", "unknown", "UNKNOWN", "undefined"}
)
"""What vendors write where they know nothing."""


def text(value: str) -> str | None:
    """As it is, but for the words that say that there is nothing."""
    return None if value in _NOTHING else value


def lower(value: str) -> str | None:
    """In lower case."""
    return None if value in _NOTHING else value.lower()


def integer(value: str) -> int | None:
    """A whole number of up to 18 digits."""
    return int(value) if value.isascii() and value.isdecimal() and len(value) < 19 else None


def port(value: str) -> int | None:
    """A port as a number; a name, as ASA writes for those it knows, is not one."""
    return int(value) if value.isascii() and value.isdecimal() and len(value) < 6 and int(value) < 65536 else None


def status(value: str) -> int | None:
    """An HTTP status."""
    return int(value) if len(value) == 3 and value.isascii() and value.isdecimal() else None


@lru_cache(maxsize=8192)
def address(value: str) -> str | None:
    """An IPv4 or IPv6 address in its canonical form, without a zone; None for a name."""
    try:
        return str(ip_address(value.partition("%")[0].strip("[]")))
    except ValueError:
        return None


_HEX: Final = re.compile(r"[^0-9A-Fa-f]")


def mac(value: str) -> str | None:
    """Upper case with hyphens, from any of the usual ways of writing one."""
    digits = _HEX.sub("", value)
    if len(digits) != 12 or len(value) > 17:
        return None
    return "-".join(digits[i : i + 2] for i in range(0, 12, 2)).upper()


def _digest(length: int) -> Conversion:
    def convert(value: str) -> str | None:
        return value.lower() if len(value) == length and _HEX.search(value) is None else None

    return convert


md5, sha1, sha256 = _digest(32), _digest(40), _digest(64)

_NUMBERS: Final = {
    "icmp": 1, "igmp": 2, "ipip": 4, "tcp": 6, "egp": 8, "igp": 9, "udp": 17, "rdp": 27, "dccp": 33, "ipv6": 41, "rsvp": 46,
    "gre": 47, "esp": 50, "ah": 51, "icmp6": 58, "ipv6-icmp": 58, "icmpv6": 58, "eigrp": 88, "ospf": 89, "pim": 103, "vrrp": 112,
    "l2tp": 115, "sctp": 132,
}  # fmt: skip
_NAMES: Final = {number: name for name, number in _NUMBERS.items()} | {58: "ipv6-icmp"}


def transport(value: str) -> dict[str, Any]:
    """network_transport and network_iana_number, from either: IANA's numbers of protocols."""
    name = value.lower()
    number = integer(value)
    if number is not None:
        return {"network_transport": _NAMES.get(number), "network_iana_number": number if number < 256 else None}
    number = _NUMBERS.get(name)
    return {"network_transport": _NAMES.get(number, name) if number is not None else text(name), "network_iana_number": number}


def user(value: str, *, name: str = "user_name", domain: str = "user_domain") -> dict[str, Any]:
    """A name and its domain: DOMAIN\\name, also with its backslash escaped; anything else is a name, an address of mail too."""
    before, _, after = value.rpartition("\\")
    return {name: text(after), domain: text(before.rstrip("\\"))}


_DURATION = re.compile(r"(?:([0-9]{1,6})d ?)?([0-9]{1,6})h?:([0-9]{1,2})m?:([0-9]{1,2})s?\Z")


def duration_ns(value: str) -> int | None:
    """hours:minutes:seconds, with days in front and letters behind as some write them, or plain seconds; nanoseconds."""
    seconds = integer(value)
    if seconds is None:
        found = _DURATION.match(value)
        if found is None:
            return None
        days, hours, minutes, rest = (int(part or 0) for part in found.groups())
        seconds = ((days * 24 + hours) * 60 + minutes) * 60 + rest
    return seconds * 1_000_000_000 if seconds < 9_000_000_000 else None


@lru_cache(maxsize=4096)
def time_us(value: str) -> tuple[int, bool] | None:
    """A written time as microseconds by its own clock, and whether it named a zone and is UTC.

    2015/01/05 05:38:58, 2019-08-16T09:39:02Z, 2021-03-01T20:48:21.124-07:00.
    """
    try:
        moment = datetime.fromisoformat(value.replace("/", "-"))
    except ValueError:
        return None
    zoned = moment.tzinfo is not None
    moment = moment if zoned else moment.replace(tzinfo=UTC)
    return int(moment.timestamp()) * 1_000_000 + moment.microsecond, zoned


_HOSTS: Final = {"source_ip": "source_host", "destination_ip": "destination_host"}


def fill(pairs: Mapping[str, str], table: Table, keys: Iterable[str] | None = None) -> dict[str, Any]:
    """The fields that `table` makes of `pairs`. An end that is named instead of numbered goes to source_host, destination_host."""
    fields: dict[str, Any] = {}
    for key in pairs if keys is None else keys:
        for name, conversion in table.get(key, ()):
            value = pairs[key]
            converted = conversion(value)
            if converted is not None and fields.get(name) is None:
                fields[name] = converted
            elif converted is None and conversion is address and name in _HOSTS and text(value) is not None:
                fields.setdefault(_HOSTS[name], value)
    return fields


def best_time(message: syslog.SyslogMessage) -> bool:
    """Whether the header's time names its zone and year, so that a device's local time is no better."""
    return message.format == "rfc5424" and message.timestamp_us is not None
