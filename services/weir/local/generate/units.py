"""What all generators share: a unit and what becomes of it, the count of what was sent, chance from a seed, and fresh times.

A unit is a function of the seed, its running number and the time. The running number stands in the unit as a mark wherever the
format has room for one, so that a loss can be told by number; `marks` finds it again in whatever text it ended up in.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from hashlib import blake2b
from pathlib import Path
from typing import Final, NamedTuple, TypeVar

__all__ = [
    "EMPTY",
    "MALFORMED",
    "NAMES",
    "Dice",
    "Sent",
    "Unit",
    "bsd_time",
    "iso_second",
    "mark",
    "marks",
    "sample_lines",
    "vary_address",
]

T = TypeVar("T")

RARE: Final = 50
"""One event in so many of the background is a refusal, an error or a block: an ordinary day, on which no rule finds anything."""

EMPTY: Final = "empty"
MALFORMED: Final = "malformed"

_SAMPLES = Path(__file__).parent.parent / "samples"
_MARK = re.compile(r"\bwn-([0-9]{1,12})-([a-z])-([0-9]{1,12})\b")

NAMES: Final = (
    "aino", "bertil", "celia", "dario", "elvi", "faisal", "greta", "henrik", "ines", "jorma", "kerttu", "luca", "maija", "nora",
    "otto", "petra", "quentin", "ritva", "samir", "tuuli",
)  # fmt: skip
"""First names of the people in the traffic; a number behind them makes as many users as are wanted."""


class Unit(NamedTuple):
    """One datagram, line or document, without the frame of its transport.

    `makes` is what a processor must make of it: the dataset of its `events` events, or EMPTY or MALFORMED, which give none.
    """

    data: bytes
    makes: str
    events: int = 1


@dataclass(slots=True)
class Sent:
    """What has been sent of one kind of source.

    `units` counts each unit once and `bytes` their own bytes, without frames; of them `malformed` and `empty` give no event and
    the others `events`, by dataset. `acknowledged` are the units that the receiver said it holds (Beats only). `uncertain` are
    units that were under way when a receiver died: they may or may not have arrived. `resent` counts units sent again, and
    `wire_bytes` everything handed to the sockets.
    """

    units: int = 0
    bytes: int = 0
    malformed: int = 0
    empty: int = 0
    acknowledged: int = 0
    uncertain: int = 0
    resent: int = 0
    wire_bytes: int = 0
    reconnects: int = 0
    events: Counter[str] = field(default_factory=Counter)

    def add(self, unit: Unit) -> None:
        """Count one unit that has been handed to the network for the first time."""
        self.units += 1
        self.bytes += len(unit.data)
        if unit.makes == MALFORMED:
            self.malformed += 1
        elif unit.makes == EMPTY:
            self.empty += 1
        else:
            self.events[unit.makes] += unit.events

    def __add__(self, other: Sent) -> Sent:
        # dict() copies in one step, also while a sender's thread adds a dataset.
        events = Counter(dict(self.events))
        events.update(dict(other.events))
        return Sent(
            self.units + other.units,
            self.bytes + other.bytes,
            self.malformed + other.malformed,
            self.empty + other.empty,
            self.acknowledged + other.acknowledged,
            self.uncertain + other.uncertain,
            self.resent + other.resent,
            self.wire_bytes + other.wire_bytes,
            self.reconnects + other.reconnects,
            events,
        )


class Dice:
    """Chance that is the same for the same seed, kind and number, on every machine and Python.

    Holds 512 bits, enough for some 40 throws of the usual size; they cost one hash together, where seeding a generator for
    each unit would cost more than the unit.
    """

    __slots__ = ("_bits",)

    def __init__(self, seed: int, kind: str, number: int) -> None:
        self._bits = int.from_bytes(blake2b(f"{seed}/{kind}/{number}".encode()).digest(), "big")

    def below(self, limit: int) -> int:
        """A number from 0 to `limit` - 1."""
        self._bits, value = divmod(self._bits, limit)
        return value

    def between(self, low: int, high: int) -> int:
        """A number from `low` to `high`, both included."""
        return low + self.below(high - low + 1)

    def pick(self, choices: Sequence[T]) -> T:
        """One of them."""
        return choices[self.below(len(choices))]

    def pick_mostly(self, usual: Sequence[T], rare: Sequence[T]) -> T:
        """One of the usual, and every so often one of the rare."""
        return self.pick(rare if rare and not self.below(RARE) else usual)


def mark(seed: int, kind: str, number: int) -> str:
    """The mark of a unit: `wn-<seed>-<kind>-<number>`, kind being one letter."""
    return f"wn-{seed}-{kind}-{number}"


def marks(text: str) -> list[tuple[int, str, int]]:
    """Seed, kind and number of every mark in a text, in order."""
    return [(int(seed), kind, int(number)) for seed, kind, number in _MARK.findall(text)]


@lru_cache(maxsize=64)
def iso_second(second: int) -> str:
    """`2024-03-01T12:00:00` of a second since 1970, in UTC; a fraction and a zone are the caller's to add."""
    return datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S")


@lru_cache(maxsize=64)
def bsd_time(second: int) -> str:
    """`Mar  1 12:00:00` of a second since 1970, in UTC (RFC 3164 section 4.1.2: the day padded by a space)."""
    moment = datetime.fromtimestamp(second, UTC)
    month = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")[moment.month - 1]
    return f"{month} {moment.day:2} {moment:%H:%M:%S}"


def sample_lines(name: str) -> list[str]:
    """The lines of one of the project's samples."""
    return (_SAMPLES / name).read_text(encoding="utf-8").splitlines()


def vary_address(address: str, dice: Dice) -> str:
    """Another address of the same network: 10.x.0.0/16, a documentation /24, or 2001:db8::/32; anything else stays."""
    if address.startswith("10."):
        second = address.split(".", 2)[1]
        return f"10.{second}.{dice.below(32)}.{dice.between(1, 254)}"
    if address.startswith(("192.0.2.", "198.51.100.", "203.0.113.")):
        return f"{address.rpartition('.')[0]}.{dice.between(1, 254)}"
    if address.startswith("2001:"):
        return f"2001:db8:{dice.below(4096):x}::{dice.between(1, 65535):x}"
    return address
