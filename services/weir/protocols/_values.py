"""Values out of JSON documents, for the senders that write JSON: of the wrong form counts as absent, and nothing raises."""

from __future__ import annotations

from functools import lru_cache
from socket import AF_INET, AF_INET6, inet_ntop, inet_pton

__all__ = ["NOTHING", "address", "child", "identifier", "integer", "mac", "object_of", "port", "text"]

NOTHING: dict[str, object] = {}
"""What is not there has no keys; nobody writes into it."""

_LONGEST_ADDRESS = 45


def text(value: object) -> str | None:
    """Text that is not empty."""
    return value if isinstance(value, str) and value else None


def object_of(value: object) -> dict[str, object]:
    """A JSON object, or one without keys."""
    return value if isinstance(value, dict) else NOTHING


def child(document: dict[str, object], path: str) -> object:
    """What lies at a dotted path, by nested objects or by keys that have the dots in them; None where nothing does."""
    found = document.get(path)
    if found is not None:
        return found
    head, dot, rest = path.partition(".")
    if not dot:
        return None
    inner = document.get(head)
    return child(inner, rest) if isinstance(inner, dict) else None


def integer(value: object, below: int) -> int | None:
    """A whole number of at least 0; some shippers turn integers into floats."""
    if type(value) is int:
        return value if 0 <= value < below else None
    if isinstance(value, float) and 0 <= value < below and value.is_integer():
        return int(value)
    return None


def port(value: object) -> int | None:
    """A port number."""
    if type(value) is int and 0 <= value < 65_536:
        return value
    return integer(value, 65_536)


def identifier(value: object) -> str | None:
    """Ids are text with us: some use all 64 bits, and nobody calculates with them."""
    if type(value) is int:
        return str(value) if 0 <= value < 1 << 64 else None
    if isinstance(value, str):
        return value or None
    number = integer(value, 1 << 64)
    return None if number is None else str(number)


def address(value: object) -> str | None:
    """An IP address in canonical text. Some write IPv6 with all its zeros, others do not: these must compare equal."""
    return _address(value) if isinstance(value, str) and len(value) <= _LONGEST_ADDRESS else None


@lru_cache(maxsize=16_384)
def _address(value: str) -> str | None:
    try:
        if ":" in value:
            return inet_ntop(AF_INET6, inet_pton(AF_INET6, value))
        inet_pton(AF_INET, value)
    except (OSError, ValueError):
        return None
    return value


def mac(value: object) -> str | None:
    """A MAC address as ECS has it, upper case with hyphens; six bytes with colons, hyphens, dots or nothing between them."""
    return _mac(value) if isinstance(value, str) and 12 <= len(value) <= 17 else None


@lru_cache(maxsize=4_096)
def _mac(value: str) -> str | None:
    plain = value.replace(":", "").replace("-", "").replace(".", "")
    try:
        raw = bytes.fromhex(plain)
    except ValueError:
        return None
    return raw.hex("-").upper() if len(raw) == 6 and len(plain) == 12 else None
