"""Several flow datagrams behind one another in one file, as a recorder that keeps no borders leaves them."""

from __future__ import annotations

from typing import Final

__all__ = ["datagrams_in"]

_V5_HEADER, _V5_RECORD, _V7_RECORD = 24, 48, 52
_V9_HEADER, _IPFIX_HEADER = 20, 16
_VERSIONS: Final = frozenset({5, 7, 9, 10})
_EARLIEST: Final = 631_152_000
"""1990: an export time before it is none."""


def datagrams_in(data: bytes) -> list[bytes]:
    """The datagrams, cut where lengths say that one ends and a header of another stands there; else all as one.

    NetFlow v5 and v7 tell their length by their count of records, IPFIX by its length. NetFlow v9 tells none: its sets are walked
    until one begins as a header does (5, 7, 9 and 10 are no set ids).
    """
    parts: list[bytes] = []
    at = 0
    while True:
        end = _end(data, at)
        if not at < end < len(data) or not _is_header(data, end):
            parts.append(data[at:])
            return parts
        parts.append(data[at:end])
        at = end


def _word(data: bytes, at: int) -> int:
    return data[at] << 8 | data[at + 1] if len(data) >= at + 2 else 0


def _is_header(data: bytes, at: int) -> bool:
    version = _word(data, at)
    if version not in _VERSIONS or len(data) - at < _IPFIX_HEADER:
        return False
    # Version, count or length, then the time: in IPFIX at once, else behind the uptime.
    seconds = int.from_bytes(data[at + 4 : at + 8] if version == 10 else data[at + 8 : at + 12], "big")
    return seconds >= _EARLIEST and (version != 10 or _word(data, at + 2) >= _IPFIX_HEADER)


def _end(data: bytes, at: int) -> int:
    version = _word(data, at)
    if version == 5:
        return at + _V5_HEADER + _V5_RECORD * _word(data, at + 2)
    if version == 7:
        return at + _V5_HEADER + _V7_RECORD * _word(data, at + 2)
    if version == 10:
        return at + max(_IPFIX_HEADER, _word(data, at + 2))
    if version != 9:
        return len(data)
    at += _V9_HEADER
    while at < len(data) and not _is_header(data, at):
        length = _word(data, at + 2)
        if length < 4:
            return len(data)
        at += length
    return at
