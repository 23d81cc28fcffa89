"""Times that name no zone: RFC 3164's, and those that CEF writes out. What zone they are in is a property of their source."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from functools import lru_cache
from typing import Final
from zoneinfo import ZoneInfo

from weir.ops import logging as ops_logging

__all__ = ["ToUtc", "local_time"]

ToUtc = Callable[[int], int]
"""From a local time to UTC, both in microseconds since 1970 by their clock."""

# Clocks are changed at whole quarters of an hour UTC, everywhere and for long.
_QUARTER_US: Final = 900_000_000
_MINUTE_US: Final = 60_000_000

log = ops_logging.get("weir.processors")


@lru_cache(maxsize=8_192)
def _offset_us(zone: str, quarter: int) -> int:
    """How far a zone's clock is ahead of UTC within a quarter of an hour. Raises KeyError, ValueError, OSError for no zone."""
    info = ZoneInfo(zone)
    try:
        offset = datetime.fromtimestamp(quarter * 900, info).utcoffset()
    except (OverflowError, ValueError, OSError):
        return 0
    return 0 if offset is None else int(offset.total_seconds()) * 1_000_000


@lru_cache(maxsize=64)
def _complain(zone: str) -> None:
    """Once a zone."""
    log.warning("time zone of a source is not known here; its times are read as WEIR_UTC_OFFSET_MINUTES says", time_zone=zone)


def local_time(zone: str | None, received_us: int, utc_offset_minutes: int) -> ToUtc:
    """How the times of a batch become UTC.

    A clock that is put back shows one hour twice: what is received in or after it was most likely written shortly before, so the
    offset in force at receipt is tried first, and kept where it was in force at that time too.

    Args:
        zone: IANA time zone of the source; None where it is not known.
        received_us: receive time of the batch, microseconds UTC.
        utc_offset_minutes: east of UTC, for sources whose zone is not known.
    """
    if zone is not None:
        try:
            return _by_zone(zone, _offset_us(zone, received_us // _QUARTER_US))
        except (KeyError, ValueError, OSError):
            _complain(zone)
    fixed = utc_offset_minutes * _MINUTE_US
    return lambda local: local - fixed


def _by_zone(zone: str, at_receipt: int) -> ToUtc:
    def to_utc(local: int) -> int:
        likely = local - at_receipt
        then = _offset_us(zone, likely // _QUARTER_US)
        if then == at_receipt:
            return likely
        other = local - then
        return other if _offset_us(zone, other // _QUARTER_US) == then else likely

    return to_utc
