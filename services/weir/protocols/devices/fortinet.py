"""Fortinet's ``key=value`` messages, of FortiGate and the devices that log as it does.

Source: "FortiOS Log Message Reference". A message begins with ``date=`` and ``time=``, older ones and FortiAnalyzer's with
``logver=`` or ``timestamp=`` before them; ``eventtime`` is in seconds (FortiOS 6.0), milliseconds, or nanoseconds (6.2 and later).
"""

import re
from typing import Final

from weir.protocols.devices.keyvalue import split_pairs

__all__ = ["event_time_us", "read_fortinet"]

_BEGIN = re.compile(
    r"(?:[a-z_]{2,12}=(?:\"[^\"]*\"|[^\s,\"]*) ?,? ?){0,4}?(?:date=\"?[0-9]{4}-|devname=|devid=|logid=|eventtime=|subtype=)"
)
_OWN: Final = frozenset({"devid", "device_id", "devname", "logid", "log_id", "vd", "eventtime", "subtype"})


def read_fortinet(text: str) -> dict[str, str] | None:
    """The pairs of a message by their keys; None where it is not Fortinet's."""
    if "=" not in text[:24] or _BEGIN.match(text, 0, 512) is None:
        return None
    pairs = split_pairs(text)
    # Many write date= and time=; two more keys of Fortinet's own tell its messages.
    return pairs if "type" in pairs and len(_OWN & pairs.keys()) >= 2 else None


_DIGITS_TO_MICROSECONDS: Final = {10: (1_000_000, 1), 13: (1_000, 1), 16: (1, 1), 19: (1, 1_000)}


def event_time_us(text: str) -> int | None:
    """``eventtime`` as microseconds UTC; its number of digits tells its unit. None for anything else."""
    if not (text.isascii() and text.isdecimal()) or len(text) not in _DIGITS_TO_MICROSECONDS:
        return None
    times, by = _DIGITS_TO_MICROSECONDS[len(text)]
    return int(text) * times // by
