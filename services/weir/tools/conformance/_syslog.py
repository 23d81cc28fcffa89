"""What the syslog families share: a line through the functions that the processor uses."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

from weir.model.batch import RawBatch
from weir.processors.outcome import RawCoordinates
from weir.processors.syslog import make_process

__all__ = ["decode", "micros"]

_Process = Callable[[RawBatch, RawCoordinates], Any]


def decode(line: bytes, *, received_us: int, utc_offset_minutes: int = 0) -> tuple[str, dict[str, Any]]:
    """Dataset and record of one line; ("dead", reason) and ("empty", {}) where it became no event."""
    batch = RawBatch(
        batch_id=bytes(16),
        site="",
        receiver="conformance",
        transport="syslog-udp",
        source_ip="192.0.2.1",
        listener_port=514,
        received_at=received_us,
        units=[line],
    )
    outcome = make_process(utc_offset_minutes)(batch, RawCoordinates("raw.syslog.v1", 0, 0))
    if outcome.dead:
        return "dead", {"reason": outcome.dead[0].reason}
    for dataset, records in outcome.events.items():
        return dataset, records[0]
    return "empty", {}


def micros(text: str) -> int:
    """An ISO 8601 time with its zone as UTC microseconds; digits beyond the sixth are cut."""
    moment = datetime.fromisoformat(text)
    return int(moment.replace(microsecond=0).timestamp()) * 1_000_000 + moment.microsecond
