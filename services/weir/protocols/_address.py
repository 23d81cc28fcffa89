"""Addresses as their senders write them, to the one spelling that events have."""

from __future__ import annotations

import re
from functools import lru_cache
from socket import AF_INET, AF_INET6, inet_ntop, inet_pton

__all__ = ["address", "mac"]

_MAC = re.compile(r"[0-9A-Fa-f]{1,2}(?:([:-])[0-9A-Fa-f]{1,2})(?:\1[0-9A-Fa-f]{1,2}){4}")


@lru_cache(maxsize=65_536)
def address(text: str) -> str | None:
    """An IPv4 or IPv6 address in canonical text; None for anything else. The zone behind a link-local address is left out."""
    try:
        if ":" in text:
            return inet_ntop(AF_INET6, inet_pton(AF_INET6, text.partition("%")[0]))
        inet_pton(AF_INET, text)
    except (OSError, ValueError):
        return None
    return text


@lru_cache(maxsize=16_384)
def mac(text: str) -> str | None:
    """A MAC address in upper case with hyphens; None for anything else. Groups of one digit are filled up."""
    if _MAC.fullmatch(text) is None:
        return None
    return "-".join(group.zfill(2) for group in text.upper().replace(":", "-").split("-"))
