"""What happens to the events of a raw batch between decoding and publishing: steps, in order, each over all events of a dataset.

A step changes records in place, with fields that the dataset's schema has. It never raises for what an event holds, and costs a few
dictionary look-ups an event.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from weir.model.topics import DATASETS
from weir.ops import logging as ops_logging

if TYPE_CHECKING:
    from weir.processors.settings import ProcessorSettings

__all__ = ["Enrichment", "Part", "Record", "Step", "load_enrichment"]

log = ops_logging.get("weir.processors")

Record = dict[str, Any]
Step = Callable[[list[Record]], None]


class Part(Protocol):
    """What runs beside the steps and keeps their tables fresh."""

    def start(self) -> None:
        """Begin; called once, not in the event loop. Raises DeliveryFailed where Kafka is away or lacks a topic."""

    def close(self) -> None:
        """End. Called also where `start` was not, or failed."""


class Enrichment:
    """The steps of each dataset.

    Args:
        steps: by dataset, in the order in which they are taken.
        parts: started with the processor and closed with it.
    """

    def __init__(self, steps: Mapping[str, Sequence[Step]], parts: Sequence[Part] = ()) -> None:
        self._steps = {dataset: tuple(found) for dataset, found in steps.items() if found}
        self._parts = tuple(parts)

    def apply(self, events: dict[str, list[Record]]) -> None:
        """Enrich the events of one raw batch, by dataset, in place."""
        for dataset, records in events.items():
            for step in self._steps.get(dataset, ()):
                try:
                    step(records)
                except Exception:
                    # A defect in a step must neither stop the stream nor cost the events, which are whole without it.
                    log.exception("enrichment failed", dataset=dataset, step=getattr(step, "__qualname__", type(step).__name__))

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
    from weir.enrich.direction import own_networks  # noqa: PLC0415
    from weir.processors.derived import derived_steps  # noqa: PLC0415
    from weir.processors.table_steps import table_steps  # noqa: PLC0415
    from weir.processors.tables import HotTables  # noqa: PLC0415

    tables = HotTables(settings)
    by_table = table_steps(tables, settings)
    own = own_networks(settings.own_networks)
    steps = {
        dataset: [
            *derived_steps(dataset, own, community_ids=settings.enrich_community_id, community_id_seed=settings.community_id_seed),
            *by_table.get(dataset, ()),
        ]
        for dataset in DATASETS
    }
    return Enrichment(steps, [tables] if tables.configured else [])
