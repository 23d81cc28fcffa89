"""What one document becomes: through the processor, and through its dataset's schema there and back."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

from weir.bus.codec import Decoder, Encoder
from weir.model.batch import RawBatch
from weir.model.schemas import latest
from weir.processors import beats
from weir.processors.outcome import Outcome, RawCoordinates

RECEIVED = 1_790_000_000_000_000
WHERE = RawCoordinates("weir.raw.beats.v1", 0, 0)


@cache
def _columns(dataset: str) -> frozenset[str]:
    return frozenset(entry["name"] for entry in latest(dataset).parsed["fields"])


def outcome_of(units: list[bytes], transport: str = "lumberjack", **more: Any) -> Outcome:
    batch = RawBatch(bytes(16), "here", "r", transport, "192.0.2.1", 5044, RECEIVED, units, **more)
    return beats.process(batch, WHERE)


def events_of(units: list[bytes], transport: str = "lumberjack", **more: Any) -> dict[str, list[dict[str, Any]]]:
    """Events by dataset as readers of the topics see them. No key may be outside its schema, and no unit dead."""
    outcome = outcome_of(units, transport, **more)
    assert outcome.dead == []
    decode = Decoder()
    found = {}
    for dataset, records in outcome.events.items():
        for record in records:
            assert record.keys() <= _columns(dataset), record.keys() - _columns(dataset)
        found[dataset] = [decode(Encoder(dataset)(record)) for record in records]
    return found


def event_of(document: dict[str, Any] | bytes, transport: str = "lumberjack", **more: Any) -> tuple[str, dict[str, Any]]:
    """Dataset and event of one document."""
    unit = document if isinstance(document, bytes) else json.dumps(document).encode()
    ((dataset, (event,)),) = events_of([unit], transport, **more).items()
    return dataset, event
