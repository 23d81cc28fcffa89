"""What happens to the events of a raw batch between decoding and publishing: steps, in order, each over all events of a dataset.

A step changes records in place, with fields that the dataset's schema has. It never raises for what an event holds, and costs a few
dictionary look-ups an event.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

__all__ = ["Enrichment", "Record", "Step"]

Record = dict[str, Any]
Step = Callable[[list[Record]], None]


class Enrichment:
    """The steps of each dataset.

    Args:
        steps: by dataset, in the order in which they are taken.
    """

    def __init__(self, steps: Mapping[str, Sequence[Step]]) -> None:
        self._steps = {dataset: tuple(found) for dataset, found in steps.items() if found}

    def apply(self, events: dict[str, list[Record]]) -> None:
        """Enrich the events of one raw batch, by dataset, in place."""
        for dataset, records in events.items():
            for step in self._steps.get(dataset, ()):
                step(records)
