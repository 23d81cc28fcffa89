"""What a processor makes of one raw batch, and the fields every event has."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

from weir.model.batch import RawBatch

__all__ = ["Dead", "Outcome", "RawCoordinates", "common_fields"]


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


def common_fields(batch: RawBatch, where: RawCoordinates) -> dict[str, Any]:
    """Fields that are the same for every event of a batch; `event_id` and what the unit says come on top."""
    return {
        "event_created": batch.received_at,
        "site": batch.site,
        "log_source_ip": batch.source_ip,
        "log_source_name": batch.source_name,
        "organization_id": batch.tenant,
        "raw_topic": where.topic,
        "raw_partition": where.partition,
        "raw_offset": where.offset,
    }
