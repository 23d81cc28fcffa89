"""Sampling one event in N, by its id: the same events on every worker and on every replay."""

from __future__ import annotations

from hashlib import blake2b
from typing import Any, Final

__all__ = ["LABEL", "in_sample", "sampled"]

Record = dict[str, Any]

LABEL: Final = "weir_sampled"
"""Label of an event that stands for N: "1/N". Its counters are its own; nothing is multiplied."""


def in_sample(event_id: str, n: int) -> bool:
    """Whether the event of this id is one of the one in N that are kept. A sample of 1/100 lies within that of 1/10."""
    return int.from_bytes(blake2b(event_id.encode(), digest_size=8).digest(), "big") % n == 0


def sampled(record: Record, n: int) -> Record:
    """The record with the label; a copy, because its labels may be shared and rules look at the original."""
    return {**record, "labels": {**(record.get("labels") or {}), LABEL: f"1/{n}"}}
