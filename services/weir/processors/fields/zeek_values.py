"""Values of Zeek's columns to values of event fields: each gives None for what the field cannot hold. Nothing raises."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from weir.protocols import _address

__all__ = [
    "Convert",
    "address",
    "code",
    "failed",
    "first",
    "ftp_url",
    "hexadecimal",
    "integer",
    "lower",
    "mac",
    "not_ok",
    "outcome",
    "port",
    "text",
    "texts",
    "tls_version",
    "tunnel_type",
]

Convert = Callable[[object], object]
"""From a column's value to the field's, None where it has none to give."""


def text(value: object) -> str | None:
    """Text, or a number's; of a list its elements behind commas."""
    if isinstance(value, str):
        return value or None
    if isinstance(value, list):
        return ",".join(item for item in value if isinstance(item, str)) or None
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def integer(value: object) -> int | None:
    """A whole number that fits a long; some shippers turn integers into floats, or into text."""
    if type(value) is int:
        return value if 0 <= value < 2**63 else None
    if isinstance(value, float) and 0 <= value < 2**63 and value.is_integer():
        return int(value)
    return int(value) if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 19 else None


def port(value: object) -> int | None:
    """A port."""
    number = integer(value)
    return number if number is not None and number < 65_536 else None


def address(value: object) -> str | None:
    """An address, canonical; the first of a list."""
    found = first(value)
    return None if found is None else _address.address(found)


def mac(value: object) -> str | None:
    """A MAC address."""
    return _address.mac(value) if isinstance(value, str) else None


def first(value: object) -> str | None:
    """Text, or the first of a list."""
    if isinstance(value, list):
        value = value[0] if value else None
    return value if isinstance(value, str) and value else None


def texts(value: object) -> list[str] | None:
    return [str(item) for item in value if isinstance(item, str | int | float)] if isinstance(value, list) else None


def lower(value: object) -> str | None:
    found = text(value)
    return None if found is None else found.lower()


def code(value: object) -> int | None:
    number = integer(value)
    return number if number is not None and number < 2**31 else None


_WON: Final = frozenset({"success", "succeeded", "ok"})
_OPEN: Final = frozenset({"", "unknown", "undetermined"})


def outcome(value: object) -> str | None:
    """Of a boolean, a status code (400 and above failed, as in HTTP, FTP and SIP), or a word."""
    if isinstance(value, bool):
        return "success" if value else "failure"
    if isinstance(value, int):
        return None if not 100 <= value < 1000 else "failure" if value >= 400 else "success"
    word = lower(first(value))
    if word is None:
        return None
    return "success" if word in _WON else "unknown" if word in _OPEN else "failure"


def failed(value: object) -> str | None:
    """A reason is only given for a failure."""
    return "failure" if text(value) else None


def not_ok(value: object) -> str | None:
    return None if value == "ok" else text(value)


_TLS = re.compile(r"TLSv1([0-9])")


def tls_version(value: object) -> str | None:
    """`TLSv12` is 1.2; SSL and DTLS keep Zeek's word."""
    found = text(value)
    version = _TLS.match(found) if found else None
    return f"1.{version[1]}" if version else found


def tunnel_type(value: object) -> str | None:
    """`Tunnel::VXLAN` is vxlan."""
    found = lower(value)
    return None if found is None else found.rpartition("::")[2]


def ftp_url(value: object) -> str | None:
    found = text(value)
    return found if found is not None and found.startswith("ftp://") else None


def hexadecimal(digits: int) -> Convert:
    pattern = re.compile(rf"[0-9a-fA-F]{{{digits}}}")

    def convert(value: object) -> str | None:
        return value.lower() if isinstance(value, str) and pattern.fullmatch(value) else None

    return convert
