"""Identifiers that stay the same for ever.

A batch gets its id once, before the first attempt to publish or spool it. Everything made from the batch is named after the
batch and a place on the wire, never after a Kafka offset or a running number of what happened to be emitted: the same raw record
gives the same ids with a later decoder, after its topic is re-created, and mirrored to another cluster.
"""

from __future__ import annotations

import hashlib
import os
import time

__all__ = ["event_id", "new_batch_id", "parse_event_id", "stable_id"]


def new_batch_id() -> bytes:
    """16 bytes laid out as UUID version 7 (RFC 9562 section 5.7): 48 bits of milliseconds, then 74 random bits."""
    value = bytearray((time.time_ns() // 1_000_000).to_bytes(6, "big") + os.urandom(10))
    value[6] = 0x70 | (value[6] & 0x0F)
    value[8] = 0x80 | (value[8] & 0x3F)
    return bytes(value)


def event_id(batch_id: str, unit: int, record: int = 0) -> str:
    """Id of a record: batch id in hex, unit number in the batch, record number in the unit (all from 0).

    Record numbers count every record on the wire, also those that yield no event, so that a decoder which learns to read more
    of them does not rename the rest.
    """
    return f"{batch_id}-{unit}-{record}"


def parse_event_id(value: str) -> tuple[str, int, int]:
    """Batch id in hex, unit number, record number. Raises ValueError for anything else."""
    batch, unit, record = value.rsplit("-", 2)
    if len(batch) != 32:
        raise ValueError(f"{value!r} is no event id: {len(batch)} characters before the unit number, 32 expected")
    return batch, int(unit), int(record)


def stable_id(*parts: str) -> str:
    """32 hex digits that depend on the parts and their borders alone."""
    raws = [part.encode() for part in parts]
    return hashlib.sha256(b"".join([len(raw).to_bytes(4, "big") + raw for raw in raws])).hexdigest()[:32]
