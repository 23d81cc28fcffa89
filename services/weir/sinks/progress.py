"""How far a partition has been delivered.

Records are read in order and finish in any order. What may be committed is the unbroken run of finished records from the last
commit on; its numbers go to the ledger under its first offset. Until a commit has succeeded the run keeps that first offset and
only grows, so that an entry written again replaces the one before.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from weir.model.ledger import LedgerCounts, minute_of

__all__ = ["EXPIRED", "Outcome", "Progress", "Run"]

EXPIRED: Final = "expired"
"""Note of a ledger entry whose range was gone before this group could read it."""


class Outcome(Enum):
    """What became of a record."""

    DELIVERED = "delivered"
    DEAD = "dead"


@dataclass(slots=True)
class Run:
    """Offsets `first` to `last`, inclusive, all finished; `minutes` counts them by receive minute (microseconds UTC)."""

    first: int
    last: int
    note: str | None = None
    minutes: dict[int, LedgerCounts] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Hole:
    """Offsets that were gone before they could be read."""

    first: int
    last: int


class Progress:
    """One assignment of one partition. Not thread-safe but for `alive`, which other threads may read.

    A partition that is revoked and assigned again gets a new Progress; what still finishes for the old one changes nothing.
    """

    __slots__ = ("_finished", "_open", "_run", "alive", "next_read")

    def __init__(self) -> None:
        self.alive = True
        self.next_read: int | None = None
        self._open: deque[int | _Hole] = deque()
        self._finished: dict[int, tuple[Outcome, int]] = {}
        self._run: Run | None = None

    def read(self, offset: int) -> bool:
        """A record was read. False: it is one that has been read before, so leave it alone.

        Offsets left out were removed by retention after the partition was assigned (the topics that sinks read are neither
        compacted nor written in transactions), and count as expired.
        """
        if self.next_read is not None:
            if offset < self.next_read:
                return False
            if offset > self.next_read:
                self.expire(self.next_read, offset - 1)
        self._open.append(offset)
        self.next_read = offset + 1
        return True

    def expire(self, first: int, last: int) -> None:
        """These offsets, the next to be read, are gone."""
        self._open.append(_Hole(first, last))
        self.next_read = last + 1

    def finish(self, offset: int, outcome: Outcome, time_us: int) -> None:
        """A record has been dealt with; `time_us` is its receive time in microseconds UTC."""
        self._finished[offset] = (outcome, minute_of(time_us))

    def finished_run(self) -> Run | None:
        """What may be committed now: `last + 1` is the offset. A hole is a run of its own, with a note."""
        while self._open:
            head = self._open[0]
            if isinstance(head, _Hole):
                if self._run is None:
                    self._open.popleft()
                    self._run = Run(head.first, head.last, EXPIRED)
                break
            if head not in self._finished or (self._run is not None and self._run.note == EXPIRED):
                break
            self._open.popleft()
            self._count(head, *self._finished.pop(head))
        return self._run

    def _count(self, offset: int, outcome: Outcome, minute: int) -> None:
        if self._run is None:
            self._run = Run(offset, offset)
        self._run.last = offset
        counts = self._run.minutes.setdefault(minute, LedgerCounts())
        counts.events_in += 1
        if outcome is Outcome.DELIVERED:
            counts.delivered += 1
        else:
            counts.dead += 1

    def committed(self) -> None:
        """The commit of the present run has succeeded."""
        self._run = None

    @property
    def unfinished(self) -> int:
        """Records read and not yet dealt with."""
        return sum(1 for item in self._open if not isinstance(item, _Hole) and item not in self._finished)
