"""Slices of event time: what was counted in one, and adding to it. All of it commutes: the order of signals does not matter.

Beside the count a slice may hold *details*, as the correlation needs them:

- event times: all of them up to a bound, beyond that so many of the earliest and as many of the latest, which tell as well where
  windows of that many events lie;
- the same for each rule;
- distinct values with first and last time, those with the lowest hashes where there are too many;
- numbers by hash of their event, those with the lowest hashes where there are too many: a fair sample that copies do not change;
- sum and count of the numbers by receiver. Copies are counted by the receiver that has most of them.
"""

from __future__ import annotations

import heapq
import struct
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from weir.detect.signals.gathering import MAX_NUMBERS, MAX_SUM, Carried

__all__ = ["Bucket", "Details"]

# Receivers whose sums are told apart in one slice; those of further ones count as the last one's.
MAX_RECEIVERS = 8

_VALUE = struct.Struct(">Qqq")
_NUMBER = struct.Struct(">Qd")


@dataclass(slots=True)
class Details:
    """What a slice holds beside its count. `gap`: there are events whose times were not told."""

    times: list[int] = field(default_factory=list)
    gap: bool = False
    rules: dict[str, list[int]] = field(default_factory=dict)
    values: dict[int, tuple[int, int]] = field(default_factory=dict)
    left_out: bool = False
    numbers: dict[int, float] = field(default_factory=dict)
    sums: dict[int, tuple[float, int]] = field(default_factory=dict)

    def add(self, other: Details, carried: Carried) -> None:
        """Take in what another one holds."""
        self.times = ends_of([*self.times, *other.times], carried.times)
        self.gap = self.gap or other.gap
        for label, times in other.rules.items():
            self.rules[label] = ends_of([*self.rules.get(label, ()), *times], carried.rule_times)
        for number, (first, last) in other.values.items():
            known = self.values.get(number)
            self.values[number] = (first, last) if known is None else (min(first, known[0]), max(last, known[1]))
        self.left_out = self.left_out or other.left_out
        if len(self.values) > carried.values:
            self.values = {number: self.values[number] for number in sorted(self.values)[: carried.values]}
            self.left_out = True
        if other.numbers:
            together = self.numbers | other.numbers
            self.numbers = dict(heapq.nsmallest(MAX_NUMBERS, together.items())) if len(together) > MAX_NUMBERS else together
        for receiver, (total, count) in other.sums.items():
            if receiver not in self.sums and len(self.sums) >= MAX_RECEIVERS:
                receiver = next(reversed(self.sums))  # noqa: PLW2901
            known_total, known_count = self.sums.get(receiver, (0.0, 0))
            self.sums[receiver] = (max(-MAX_SUM, min(MAX_SUM, known_total + total)), known_count + count)

    def total(self) -> tuple[float, int]:
        """Sum and count of the numbers: of sources without copies all, of copies what the receiver with the most has."""
        total, count = self.sums.get(0, (0.0, 0))
        copied = max(((n, s) for receiver, (s, n) in self.sums.items() if receiver), default=(0, 0.0))
        return total + copied[1], count + copied[0]

    @property
    def size(self) -> int:
        """Entries, roughly."""
        rules = sum(map(len, self.rules.values())) if self.rules else 0
        return len(self.times) + rules + len(self.values) + len(self.numbers)

    def fields(self) -> list[Any]:
        """What goes into JSON; the rest is in `to_bytes`."""
        return [
            len(self.times),
            self.gap,
            [(label, len(times)) for label, times in self.rules.items()] if self.rules else (),
            len(self.values),
            self.left_out,
            len(self.numbers),
            [(receiver, *found) for receiver, found in self.sums.items()] if self.sums else (),
        ]

    def to_bytes(self) -> bytes:
        """Times, values and numbers."""
        times = [*self.times, *(time for found in self.rules.values() for time in found)] if self.rules else self.times
        if not self.values and not self.numbers:
            return struct.pack(f">{len(times)}q", *times) if times else b""
        return b"".join(
            [
                struct.pack(f">{len(times)}q", *times),
                *[_VALUE.pack(number, *found) for number, found in self.values.items()],
                *[_NUMBER.pack(*entry) for entry in self.numbers.items()],
            ]
        )

    @classmethod
    def of(cls, fields: list[Any]) -> Details:
        """From `fields`; `read` then takes what belongs to it."""
        times, gap, rules, values, left_out, numbers, sums = fields
        # Most details have one thing or two: a group may have a thousand slices, and what is empty shall cost nothing.
        made = cls([0] * times, gap, left_out=left_out)
        if rules:
            made.rules = {label: [0] * count for label, count in rules}
        if values:
            made.values = dict.fromkeys(range(values), (0, 0))
        if numbers:
            made.numbers = dict.fromkeys(range(numbers), 0.0)
        if sums:
            made.sums = {receiver: (total, count) for receiver, total, count in sums}
        return made

    def read(self, data: memoryview, at: int) -> int:
        """Take times, values and numbers from bytes; where they end. Raises struct.error where they are too few."""
        for found in (self.times, *self.rules.values()) if self.rules else (self.times,):
            if found:
                found[:] = struct.unpack_from(f">{len(found)}q", data, at)
                at += 8 * len(found)
        if self.values:
            end = at + _VALUE.size * len(self.values)
            self.values = {number: (first, last) for number, first, last in _VALUE.iter_unpack(data[at:end])}
            at = end
        if self.numbers:
            end = at + _NUMBER.size * len(self.numbers)
            self.numbers = dict(_NUMBER.iter_unpack(data[at:end]))
            at = end
        return at


@dataclass(slots=True)
class Bucket:
    """Matches within one slice of event time.

    Attributes:
        count: events.
        first: earliest event time.
        last: latest event time.
        received: latest receive time.
        episode: the burst it is part of, 0 for none.
        unnamed: by receiver, events that may be copies but whose hash is not remembered; the most of any receiver is in `count`.
        covered: of the events that are part of the burst, how many, the earliest and the latest time.
        judged: whether the window that this slice is has been judged with all that is in it.
        details: None where the correlation needs none.
    """

    count: int
    first: int
    last: int
    received: int
    episode: int = 0
    unnamed: dict[int, int] = field(default_factory=dict)
    covered: tuple[int, int, int] = (0, 0, 0)
    judged: bool = False
    details: Details | None = None

    def add(self, other: Bucket, carried: Carried) -> None:
        """Take in another slice's events. What is covered, judged and unnamed stays."""
        self.count += other.count
        self.first = min(self.first, other.first)
        self.last = max(self.last, other.last)
        self.received = max(self.received, other.received)
        self.judged = False
        if other.details is not None:
            if self.details is None:
                self.details = Details()
            self.details.add(other.details, carried)

    def fields(self, start: int) -> list[Any]:
        """What goes into JSON."""
        row: list[Any] = [start, self.count, self.first, self.last, self.received, self.episode, self.covered, self.judged]
        if self.unnamed or self.details is not None:
            row.append(list(self.unnamed.items()))
        if self.details is not None:
            row.append(self.details.fields())
        return row

    @classmethod
    def of(cls, row: list[Any]) -> Bucket:
        """From `fields`."""
        _, count, first, last, received, episode, covered, judged, *more = row
        made = cls(count, first, last, received, episode, covered=tuple(covered), judged=judged)
        if more and more[0]:
            made.unnamed = dict(map(tuple, more[0]))
        if len(more) > 1:
            made.details = Details.of(more[1])
        return made


def ends_of(times: Iterable[int], ends: int) -> list[int]:
    """So many of the earliest and of the latest, sorted; all where they are no more than that."""
    found = sorted(times)
    return found if len(found) <= 2 * ends else found[:ends] + found[-ends:] if ends else []
