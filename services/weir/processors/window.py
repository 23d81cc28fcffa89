"""What is in flight, by partition, and what may be committed: outputs finish in any order, inputs are committed in theirs."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

__all__ = ["InFlight", "Window"]

T = TypeVar("T")
Partition = tuple[str, int]


@dataclass(slots=True, eq=False)
class InFlight(Generic[T]):
    """One raw record whose outputs are on their way. `item` is whatever the owner needs to enter it in the ledger."""

    partition: Partition
    offset: int
    item: T
    finished: bool = False
    dropped: bool = False


@dataclass(slots=True)
class Window(Generic[T]):
    """Records in flight, each partition's in offset order."""

    _partitions: dict[Partition, deque[InFlight[T]]] = field(default_factory=dict)

    def __len__(self) -> int:
        return sum(map(len, self._partitions.values()))

    def add(self, partition: Partition, offset: int, item: T) -> InFlight[T]:
        """Begin a record. Raises ValueError where its offset is not beyond those in flight: the order would be lost."""
        queue = self._partitions.setdefault(partition, deque())
        if queue and queue[-1].offset >= offset:
            raise ValueError(f"{partition[0]}/{partition[1]}: offset {offset} after {queue[-1].offset}, which is still in flight")
        entry = InFlight(partition, offset, item)
        queue.append(entry)
        return entry

    def finish(self, entry: InFlight[T]) -> None:
        """All outputs of this record are safe."""
        entry.finished = True

    def finished_runs(self, longest: int, kind: Callable[[T], object]) -> dict[Partition, list[InFlight[T]]]:
        """For each partition the finished records at its head, in offset order, still kept; `remove` takes them out.

        A run holds at most `longest` records, all of the kind of the first.
        """
        runs: dict[Partition, list[InFlight[T]]] = {}
        for partition, queue in self._partitions.items():
            run: list[InFlight[T]] = []
            for entry in queue:
                if not entry.finished or len(run) == longest or (run and kind(entry.item) != kind(run[0].item)):
                    break
                run.append(entry)
            if run:
                runs[partition] = run
        return runs

    def remove(self, run: list[InFlight[T]]) -> None:
        """Forget a run that `finished_runs` gave, unless its partition was dropped meanwhile."""
        for entry in run:
            queue = self._partitions.get(entry.partition)
            if not entry.dropped and queue and queue[0] is entry:
                queue.popleft()

    def drop(self, partitions: set[Partition]) -> None:
        """Forget these: another member of the group does their records again."""
        for partition in partitions:
            for entry in self._partitions.pop(partition, ()):
                entry.dropped = True

    def oldest(self, partition: Partition) -> InFlight[T] | None:
        """The record of this partition that has been in flight longest."""
        queue = self._partitions.get(partition)
        return queue[0] if queue else None
