"""Units cheap enough for a load generator: a few thousand of them prepared once, with holes that are filled anew for each event.

What the fuller generators (`syslog`, `beats`) make at a fixed moment is cut at everything that must be fresh or should vary: the
stamp, times, user numbers, the last half of addresses in 10.0.0.0/8. Filling the holes costs three microseconds, and no two
events are alike, so that no cache of a few thousand entries helps whoever reads them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import Any, Final

from weir.local.generate import stamp
from weir.local.generate.units import NAMES, bsd_time, iso_second

__all__ = [
    "DESTINATION",
    "DESTINATION_PORT",
    "HOST",
    "NUMBER",
    "SOURCE",
    "SOURCE_PORT",
    "STAMP",
    "THEN_US",
    "Pool",
    "chance",
]

STAMP: Final = "@STAMP@"
HOST: Final = "@HOST@"
SOURCE: Final = "@SOURCE@"
DESTINATION: Final = "@DESTINATION@"
SOURCE_PORT: Final = 4_040_404_041
DESTINATION_PORT: Final = 4_040_404_042
NUMBER: Final = 4_040_404_043
"""Marks in what is prepared: where the stamp and the name of the sender go, the four parts of the stamp's flow form, and some
number that is to vary. Three are numbers, because JSON has them without quotes."""

THEN_US: Final = 981_173_106_789_012
"""The moment at which everything is prepared: 2001-02-03T04:05:06.789012Z, a time that appears nowhere else."""

_BACK: Final = 75
"""So many seconds before that moment times are recognised as well: flows that began earlier."""

# What stands in a hole; the times begin behind the others, one for each second back.
_STAMP, _HOST, _ADDRESS, _USER, _BSD, _LONG_BSD, _MILLIS, _SECONDS, _SECONDS_US, _ISO_US, _ISO_MS = range(11)
_NUMBER, _SRC, _DST, _SPT, _DPT, _ISO = range(11, 17)

_HOLE: Final = re.compile(
    rb"@STAMP@|@HOST@|@SOURCE@|@DESTINATION@|404040404[123]"
    rb"|2001-02-03T04:05:06\.789012|2001-02-03T04:05:06\.789|2001-02-03T04:0[345]:[0-9]{2}"
    rb"|Feb  3 04:05:06|Feb 03 2001 04:05:06"
    rb"|981173106\.789012|(?<![0-9])98117[23][0-9]{6}(?![0-9])|(?<![0-9])98117[23][0-9]{3}(?![0-9])"
    rb"|\b10\.[0-9]{1,3}\.[0-9]{1,3}\.[0-9]{1,3}\b"
    rb"|\b(?:" + "|".join(NAMES).encode() + rb")[0-9]{1,4}\b"
)
_FIXED: Final = {
    STAMP.encode(): _STAMP,
    HOST.encode(): _HOST,
    SOURCE.encode(): _SRC,
    DESTINATION.encode(): _DST,
    b"%d" % SOURCE_PORT: _SPT,
    b"%d" % DESTINATION_PORT: _DPT,
    b"%d" % NUMBER: _NUMBER,
    b"2001-02-03T04:05:06.789012": _ISO_US,
    b"2001-02-03T04:05:06.789": _ISO_MS,
    b"981173106.789012": _SECONDS_US,
    b"Feb  3 04:05:06": _BSD,
    b"Feb 03 2001 04:05:06": _LONG_BSD,
}
_THEN_S: Final = THEN_US // 1_000_000
_SECONDS_BACK: Final = {iso_second(_THEN_S - back).encode(): _ISO + back for back in range(_BACK)}
_ADDRESSES: Final = [b"%d.%d" % (number >> 8, number & 0xFF) for number in range(0x10000)]
_USERS: Final = [b"%d" % number for number in range(8192)]
_FACTOR: Final = 0x9E37_79B9_7F4A_7C15


def chance(seed: int, source: int, sequence: int) -> int:
    """64 bits that look random and are the same for the same numbers; the upper ones are the better ones."""
    value = (sequence + 1) * 0xD6E8_FEB8_6659_FD93 + (source + 1) * 0xA076_1D64_78BD_642F + seed * _FACTOR & 0xFFFF_FFFF_FFFF_FFFF
    value ^= value >> 32
    return value * _FACTOR & 0xFFFF_FFFF_FFFF_FFFF


class Pool:
    """Prepared units of one kind.

    Args:
        prepared: units as of THEN_US, with the marks above in them.
        run, seed: of the stamps, and of what fills the other holes.
        host: the name of a source.
        flows: whether the flow form of the stamp is needed; it costs 2 µs.
    """

    def __init__(self, prepared: Sequence[bytes], run: int, seed: int, host: Callable[[int], str], *, flows: bool = False) -> None:
        self._forms = [_cut(unit) for unit in prepared]
        self._run, self._seed, self._host, self._flows = run, seed, host, flows
        self._hosts: dict[int, bytes] = {}
        self._values: list[bytes] = [b""] * (_ISO + _BACK)
        self._second = self._now_us = -1

    def unit(self, source: int, sequence: int, now_us: int) -> bytes:
        """The unit of this number as of `now_us`; the same seed, run, numbers and time give the same bytes."""
        if now_us != self._now_us:
            self._tell_time(now_us)
        bits = chance(self._seed, source, sequence)
        values = self._values
        values[_STAMP] = stamp.as_text(self._run, source, sequence)
        values[_HOST] = self._hosts.get(source) or self._hosts.setdefault(source, self._host(source).encode())
        values[_ADDRESS] = _ADDRESSES[bits >> 48]
        values[_USER] = _USERS[bits >> 35 & 8191]
        values[_NUMBER] = b"%d" % (bits >> 20 & 0x3FFF_FFFF)
        if self._flows:
            flow = stamp.as_conversation(self._run, source, sequence)
            values[_SRC], values[_DST] = _dotted(flow.source), _dotted(flow.destination)
            values[_SPT], values[_DPT] = b"%d" % flow.source_port, b"%d" % flow.destination_port
        form, holes = self._forms[(bits >> 8 & 0x7FFFFFF) % len(self._forms)]
        unit: bytes = form % holes(values)
        return unit

    def _tell_time(self, now_us: int) -> None:
        second, fraction = divmod(now_us, 1_000_000)
        values = self._values
        self._now_us = now_us
        if second != self._second:
            self._second = second
            bsd = bsd_time(second)
            values[_BSD] = bsd.encode()
            values[_LONG_BSD] = f"{bsd[:3]} {bsd[4:6].replace(' ', '0')} {iso_second(second)[:4]} {bsd[7:]}".encode()
            # What varies around that moment keeps its own fraction of a second, and must not lie ahead.
            values[_SECONDS] = b"%d" % (second - 1)
            for back in range(_BACK):
                values[_ISO + back] = iso_second(second - back).encode()
        values[_MILLIS] = b"%d" % (now_us // 1000)
        values[_SECONDS_US] = b"%d.%06d" % (second, fraction)
        values[_ISO_US] = b"%b.%06d" % (values[_ISO], fraction)
        values[_ISO_MS] = b"%b.%03d" % (values[_ISO], fraction // 1000)


def _dotted(address: int) -> bytes:
    return b"10.%d.%b" % (address >> 16 & 0xFF, _ADDRESSES[address & 0xFFFF])


def _cut(unit: bytes) -> tuple[bytes, Callable[[list[bytes]], Any]]:
    """A %-format, and what takes the values for its holes out of all values."""
    holes: list[int] = []

    def hole(found: re.Match[bytes]) -> bytes:
        text = found[0]
        kept = b""
        if (slot := _FIXED.get(text)) is None and (slot := _SECONDS_BACK.get(text)) is None:
            if text.startswith(b"2001"):
                return text
            if text.startswith(b"98117"):
                slot = _MILLIS if len(text) == 12 else _SECONDS
            elif text.startswith(b"10."):
                slot, kept = _ADDRESS, text[: text.index(b".", 3) + 1]
            else:
                slot, kept = _USER, text.rstrip(b"0123456789")
        holes.append(slot)
        return kept + b"\0"

    pieces = _HOLE.sub(hole, unit)
    form = pieces.replace(b"%", b"%%").replace(b"\0", b"%b")
    # One hole alone is no tuple for itemgetter; every unit has its stamp, and a second one never shown would break the format.
    return form, itemgetter(*holes) if len(holes) > 1 else _single(holes[0])


def _single(slot: int) -> Callable[[list[bytes]], Any]:
    return lambda values: (values[slot],)
