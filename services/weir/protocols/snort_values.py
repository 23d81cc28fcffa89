"""What Snort's forms share: the alert, times without zone or year, addresses with and without ports."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import date
from functools import lru_cache
from typing import Any, Final, NamedTuple

from weir.protocols._address import address

__all__ = [
    "SECOND",
    "TIME",
    "TIMESTAMP",
    "Alert",
    "ToUtc",
    "between",
    "category",
    "moment",
    "number",
    "text",
    "transport",
    "unquoted",
]

ToUtc = Callable[[int], int]
"""From a local time to UTC, both in microseconds since 1970 by their clock."""

SECOND: Final = 1_000_000
_DAY: Final = 86_400 * SECOND
_EPOCH: Final = date(1970, 1, 1).toordinal()
# As for syslog's times without a year: a clock and its zone may be this far ahead of ours.
_AHEAD: Final = 26 * 3600 * SECOND

_PROTOCOLS: Final = {
    "icmp": 1,
    "igmp": 2,
    "tcp": 6,
    "udp": 17,
    "gre": 47,
    "esp": 50,
    "ah": 51,
    "ipv6-icmp": 58,
    "sctp": 132,
}


class Alert(NamedTuple):
    """One alert. Times are microseconds UTC; what the form does not say is None.

    `priority` is Snort's: 1 is the most severe. `rest` holds what has no name here, under Snort 3's names where it has one.
    """

    time_us: int | None = None
    gid: str | None = None
    sid: str | None = None
    rev: str | None = None
    message: str | None = None
    category: str | None = None
    priority: int | None = None
    action: str | None = None
    interface: str | None = None
    transport: str | None = None
    protocol_number: int | None = None
    application: str | None = None
    source_ip: str | None = None
    source_port: int | None = None
    destination_ip: str | None = None
    destination_port: int | None = None
    source_mac: str | None = None
    destination_mac: str | None = None
    vlan: int | None = None
    icmp_type: int | None = None
    icmp_code: int | None = None
    references: tuple[str, ...] = ()
    client_bytes: int | None = None
    server_bytes: int | None = None
    client_packets: int | None = None
    server_packets: int | None = None
    long_year: bool = False
    """The year had four digits, as only Suricata writes it."""
    rest: dict[str, Any] = {}  # noqa: RUF012 - never changed


TIME = r"([0-9]{2})/([0-9]{2})(?:/([0-9]{4}|[0-9]{2}))?+-([0-9]{2}):([0-9]{2}):([0-9]{2})(?:\.([0-9]{1,9}+))?+"
TIMESTAMP = re.compile(TIME)


@lru_cache(maxsize=4_096)
def _midnight(year: int, month: int, day: int) -> int | None:
    try:
        return (date(year, month, day).toordinal() - _EPOCH) * _DAY
    except ValueError:
        return None


def moment(parts: tuple[str | None, ...], received_us: int, to_utc: ToUtc) -> int | None:
    """UTC of the seven groups of `TIME`; None where they are no time."""
    first, second, third, hour, minute, seconds, fraction = parts
    if first is None or second is None or hour is None or minute is None or seconds is None:
        return None
    if int(hour) > 23 or int(minute) > 59 or int(seconds) > 60:
        return None
    of_day = (int(hour) * 3600 + int(minute) * 60 + int(seconds)) * SECOND + int(((fraction or "") + "000000")[:6])
    if third is None:
        midnight = _latest(int(first), int(second), of_day, received_us)
    elif len(third) == 4:
        midnight = _midnight(int(third), int(first), int(second))
    else:
        midnight = _midnight(2000 + int(third), int(first), int(second))
        if midnight is None:
            midnight = _midnight(2000 + int(first), int(second), int(third))
    return None if midnight is None else to_utc(midnight + of_day)


def _latest(month: int, day: int, of_day: int, received_us: int) -> int | None:
    """The midnight of this month and day in the latest year that is not in the future; 29 February reaches eight years back."""
    year = date.fromordinal(min(max(_EPOCH + received_us // _DAY, 1), date.max.toordinal())).year
    for candidate in range(min(year + 1, 9_999), max(year - 9, 1), -1):
        midnight = _midnight(candidate, month, day)
        if midnight is not None and midnight + of_day <= received_us + _AHEAD:
            return midnight
    return None


def unquoted(message: str) -> str | None:
    message = message.strip()
    if len(message) >= 2 and message[0] == message[-1] == '"':
        message = message[1:-1]
    return message or None


def _endpoint(text: str, *, ports: bool) -> tuple[str | None, int | None]:
    """Address and port of `192.0.2.1:53`, `2001:db8::1:53` and `[2001:db8::1]:53`; without a port where the protocol has none."""
    whole = address(text)
    if whole is not None and (":" not in text or not ports):
        return whole, None
    head, _, tail = text.rpartition(":")
    found = address(head.strip("[]"))
    if found is not None and tail.isascii() and tail.isdigit() and len(tail) < 6 and int(tail) < 65_536:
        return found, int(tail)
    return whole or address(text.strip("[]")), None


def transport(text: str | None) -> tuple[str | None, int | None]:
    """Name and number of `TCP`, `IPV6-ICMP`, `PROTO:255` or `006`."""
    name = (text or "").strip().lower().removeprefix("proto:")
    if not name:
        return None, None
    if name.isascii() and name.isdigit():
        number = int(name[:4])
        return None, number if number < 256 else None
    name = {"icmp6": "ipv6-icmp", "icmpv6": "ipv6-icmp", "icmpv4": "icmp", "icmp4": "icmp"}.get(name, name)
    return (None if name == "ip" else name), _PROTOCOLS.get(name)


def category(value: str | None) -> str | None:
    """The class of a rule; Snort 3 writes `none` and Suricata `(null)` for a rule without one."""
    return None if value in {"", "none", "(null)"} else value


def between(transport: str | None, source: str, destination: str) -> dict[str, Any]:
    ports = transport in {"tcp", "udp", "sctp"}
    source_ip, source_port = _endpoint(source, ports=ports)
    destination_ip, destination_port = _endpoint(destination, ports=ports)
    if transport in {"icmp", "ipv6-icmp"}:
        # Snort 3 writes them as 0, Suricata as type and code.
        source_port = destination_port = None
    return {
        "source_ip": source_ip,
        "source_port": source_port,
        "destination_ip": destination_ip,
        "destination_port": destination_port,
    }


def text(value: object) -> str | None:
    if isinstance(value, str):
        return value or None
    return str(value) if type(value) is int else None


def number(value: object, below: int) -> int | None:
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 20:
        value = int(value)
    return value if type(value) is int and 0 <= value < below else None
