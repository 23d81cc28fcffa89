"""What happens to the events of a raw batch between decoding and publishing: steps, in order, each over all events of a dataset.

A step changes records in place, with fields that the dataset's schema has. It never raises for what an event holds, and costs a few
dictionary look-ups an event.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Protocol

from weir.model.topics import DATASETS
from weir.ops import logging as ops_logging
from weir.ops import telemetry

if TYPE_CHECKING:
    from weir.processors.settings import ProcessorSettings

__all__ = ["Enrichment", "Part", "Record", "Snapshot", "Step", "load_enrichment", "name_of"]

log = ops_logging.get("weir.processors")

Record = dict[str, Any]
Step = Callable[[list[Record]], None]

_TOLD_AGAIN_SECONDS: Final = 60.0
"""A step that fails, fails on every batch: the log says it once in a while, the metric each time."""


def name_of(step: Step) -> str:
    """What logs and metrics call a step: its attribute `step_name`, or the function that it is or was made by."""
    named = getattr(step, "step_name", None)
    if isinstance(named, str):
        return named
    return str(getattr(step, "__qualname__", type(step).__name__)).partition(".")[0].lstrip("_")


class Part(Protocol):
    """What runs beside the steps and keeps their tables fresh."""

    def start(self) -> None:
        """Begin; called once, not in the event loop. Raises DeliveryFailed where Kafka is away or lacks a topic."""

    def close(self) -> None:
        """End. Called also where `start` was not, or failed."""


class Snapshot(Protocol):
    """What steps look things up in, kept as it is while a batch lasts. Called in the thread that takes the steps."""

    def begin(self) -> None:
        """A batch begins."""

    def end(self) -> None:
        """It is over."""


class Enrichment:
    """The steps of each dataset.

    Args:
        steps: by dataset, in the order in which they are taken.
        parts: started with the processor and closed with it.
        snapshot: kept for the time of a batch; None where the steps look nothing up that another thread may change.
    """

    def __init__(
        self,
        steps: Mapping[str, Sequence[Step]],
        parts: Sequence[Part] = (),
        *,
        snapshot: Snapshot | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._steps = {dataset: tuple(found) for dataset, found in steps.items() if found}
        self._parts = tuple(parts)
        self._snapshot = snapshot
        self._clock = clock
        self._failed: dict[tuple[str, str], tuple[float, int]] = {}
        self._count_failures = telemetry.meter("weir.processors").create_counter(
            "weir.enrich.failures", description="batches that a step of enrichment failed on, by step"
        )

    def followed_by(self, steps: Mapping[str, Sequence[Step]]) -> Enrichment:
        """The same, with more steps behind its own."""
        if not steps:
            return self
        joined = {
            dataset: (*self._steps.get(dataset, ()), *steps.get(dataset, ())) for dataset in dict.fromkeys((*self._steps, *steps))
        }
        return Enrichment(joined, self._parts, snapshot=self._snapshot, clock=self._clock)

    def apply(self, events: dict[str, list[Record]]) -> None:
        """Enrich the events of one raw batch, by dataset, in place."""
        if self._snapshot is None:
            self._take_steps(events)
            return
        self._snapshot.begin()
        try:
            self._take_steps(events)
        finally:
            self._snapshot.end()

    def _take_steps(self, events: dict[str, list[Record]]) -> None:
        for dataset, records in events.items():
            for step in self._steps.get(dataset, ()):
                try:
                    step(records)
                except Exception:
                    # A defect in a step must neither stop the stream nor cost the events, which are whole without it.
                    self._tell(dataset, name_of(step))

    def _tell(self, dataset: str, step: str) -> None:
        """Count a failure, and log it with how many went unsaid since the last time. Called where the exception is at hand."""
        self._count_failures.add(1, {"step": step})
        now = self._clock()
        next_time, unsaid = self._failed.get((dataset, step), (now, 0))
        if now < next_time:
            self._failed[dataset, step] = next_time, unsaid + 1
            return
        self._failed[dataset, step] = now + _TOLD_AGAIN_SECONDS, 0
        log.exception("enrichment failed; the events go on without it", dataset=dataset, step=step, unsaid=unsaid)

    def start(self) -> None:
        """Start the parts."""
        for part in self._parts:
            part.start()

    def close(self) -> None:
        """Close the parts."""
        for part in self._parts:
            part.close()


def load_enrichment(settings: ProcessorSettings) -> Enrichment:
    """The enrichment that the settings ask for, its tables read.

    Raises:
        SettingsError: with every mistake in every file.
    """
    # Imported here: these modules name `Record` and `Step`, and who only decodes needs none of them.
    from weir.processors.derived import configured_steps  # noqa: PLC0415
    from weir.processors.table_steps import BatchSnapshot, table_steps  # noqa: PLC0415
    from weir.processors.tables import HotTables  # noqa: PLC0415

    tables = HotTables(settings)
    snapshot = BatchSnapshot(tables)
    by_table = table_steps(snapshot, settings)
    by_event = configured_steps(settings)
    steps = {dataset: [*by_event[dataset], *by_table.get(dataset, ())] for dataset in DATASETS}
    return Enrichment(steps, [tables] if tables.configured else [], snapshot=snapshot if tables.configured else None)
