"""Sets of whole numbers kept as ranges: small where numbers come nearly in order, and bounded."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator

__all__ = ["IntervalSet", "TooFragmentedError"]


class TooFragmentedError(Exception):
    """More gaps than the set may remember."""


class IntervalSet:
    """Numbers seen.

    Args:
        most: ranges kept at most; each takes some 70 bytes.
    """

    __slots__ = ("_firsts", "_lasts", "_most")

    def __init__(self, most: int = 1_000_000) -> None:
        self._firsts: list[int] = []
        self._lasts: list[int] = []  # both ends included
        self._most = most

    def add(self, number: int) -> bool:
        """Whether it is new.

        Raises:
            TooFragmentedError: the numbers seen lie in too many ranges; the set is as it was.
        """
        firsts, lasts = self._firsts, self._lasts
        if lasts and lasts[-1] == number - 1:  # in order
            lasts[-1] = number
            return True
        at = bisect_right(firsts, number)  # the range before `at` is the only one that may hold it
        if at and number <= lasts[at - 1]:
            return False
        joins_left = at > 0 and lasts[at - 1] == number - 1
        joins_right = at < len(firsts) and firsts[at] == number + 1
        if joins_left and joins_right:
            lasts[at - 1] = lasts[at]
            del firsts[at], lasts[at]
        elif joins_left:
            lasts[at - 1] = number
        elif joins_right:
            firsts[at] = number
        elif len(firsts) >= self._most:
            raise TooFragmentedError(f"numbers in more than {self._most:,} ranges")
        else:
            firsts.insert(at, number)
            lasts.insert(at, number)
        return True

    def __contains__(self, number: int) -> bool:
        at = bisect_right(self._firsts, number)
        return at > 0 and number <= self._lasts[at - 1]

    def __len__(self) -> int:
        """How many numbers."""
        return sum(self._lasts) - sum(self._firsts) + len(self._firsts)

    def ranges(self) -> Iterator[tuple[int, int]]:
        """First and last of each range, in order; ranges neither touch nor overlap."""
        return zip(self._firsts, self._lasts, strict=True)

    def gaps(self, first: int, last: int) -> Iterator[tuple[int, int]]:
        """First and last of each range of numbers from `first` to `last` that are not in the set."""
        following = first
        for start, end in self.ranges():
            if end < following:
                continue
            if start > last:
                break
            if start > following:
                yield following, start - 1
            following = end + 1
        if following <= last:
            yield following, last
