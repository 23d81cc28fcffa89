"""What a processor makes of one raw batch, and the fields every event has."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from weir.model.batch import RawBatch
from weir.model.ledger import LedgerCounts
from weir.ops import logging as ops_logging

__all__ = ["Dead", "Outcome", "RawCoordinates", "clock_offsets", "common_fields", "event_hash"]

log = ops_logging.get("weir.processors")

_FARTHEST_US: Final = 200 * 365 * 86_400 * 1_000_000
"""No clock is taken to be further off than 200 years, so that a number in a hostile line fits into the ledger."""


class RawCoordinates(NamedTuple):
    """Where a raw record lies in Kafka."""

    topic: str
    partition: int
    offset: int


class Dead(NamedTuple):
    """A unit that could not be decoded: its place in `RawBatch.units` and why."""

    unit_index: int
    reason: str


@dataclass(slots=True)
class Outcome:
    """Events by dataset, dead units, and how many units hold no event by nature."""

    events: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    dead: list[Dead] = field(default_factory=list)
    units_empty: int = 0

    def add(self, dataset: str, record: dict[str, Any]) -> None:
        """Add one event."""
        found = self.events.get(dataset)
        if found is None:
            self.events[dataset] = [record]
        else:
            found.append(record)

    def failed(self, index: int, error: Exception) -> None:
        """A defect of a decoder: it costs its unit, which is dead-lettered, and no other one of the batch."""
        log.error("decoder failed", exc_info=error)
        self.dead.append(Dead(index, f"decoder failed: {error!r}"))


def common_fields(batch: RawBatch, where: RawCoordinates) -> dict[str, Any]:
    """Fields that are the same for every event of a batch; `event_id` and what the unit says come on top.

    `observer_vendor` is the catalogue's: a decoder that knows better overwrites it, and one that does not leaves it alone.
    """
    return {
        "event_created": batch.received_at,
        "site": batch.site,
        "log_source_ip": batch.source_ip,
        "log_source_name": batch.source_name,
        "organization_id": batch.tenant,
        "observer_vendor": batch.source_vendor,
        "raw_topic": where.topic,
        "raw_partition": where.partition,
        "raw_offset": where.offset,
    }


def event_hash(batch: RawBatch, index: int, record: int = 0) -> str:
    """What copies of an event have in common: hash of the index-th unit here in hex, and the record's number in the unit."""
    return f"{batch.content_hash(index).hex()}-{record}"


def clock_offsets(outcome: Outcome, received_at: int) -> dict[str, LedgerCounts]:
    """By dataset, how far the times that events name are from the receive time of their batch, microseconds.

    A unit may have waited up to the linger behind the first of its batch, so an offset of some hundred milliseconds says nothing.
    """
    found: dict[str, LedgerCounts] = {}
    for dataset, records in outcome.events.items():
        offsets = [time - received_at for record in records if (time := record.get("timestamp")) is not None]
        if offsets:
            least, most = (max(-_FARTHEST_US, min(_FARTHEST_US, value)) for value in (min(offsets), max(offsets)))
            counts = found[dataset] = LedgerCounts()
            counts.offsets(len(offsets), sum(offsets), least, most)
    return found
