"""Dead letters: the original bytes, with the reason under the header names Kafka Connect made customary."""

from __future__ import annotations

import hashlib
import time

from weir import __version__

__all__ = ["dead_letter_headers", "fitting", "reason_of"]

_CONNECT = "__connect.errors."
MAX_REASON_BYTES = 2_000
MAX_VALUE_BYTES = 1_030_000
"""What fits into a record of 1,048,576 bytes with the headers below and the record's own."""


def dead_letter_headers(
    *,
    service: str,
    stage: str,
    topic: str,
    partition: int,
    offset: int,
    error: BaseException | str,
    attempt: int = 1,
) -> list[tuple[str, bytes]]:
    """Headers of one dead letter.

    Args:
        service: which service gave up, such as "process.syslog"; of a sink its instance, through which alone it is re-driven.
        stage: what it was doing: decode, map, send.
        topic, partition, offset: where the record was read.
        error: why.
        attempt: how often this record has been tried.
    """
    reason = str(error)
    kind = type(error).__name__ if isinstance(error, BaseException) else "Rejected"
    values = {
        _CONNECT + "topic": topic,
        _CONNECT + "partition": str(partition),
        _CONNECT + "offset": str(offset),
        _CONNECT + "connector.name": service,
        _CONNECT + "task.id": "0",
        _CONNECT + "stage": stage,
        _CONNECT + "class.name": f"weir.{service}",
        _CONNECT + "exception.class.name": kind,
        _CONNECT + "exception.message": reason,
        "x-dlq-attempt": str(attempt),
        "x-dlq-first-seen": str(time.time_ns() // 1_000_000),
        "x-pipeline-version": __version__,
    }
    return [(name, value.encode("utf-8", "replace")[:MAX_REASON_BYTES]) for name, value in values.items()]


def fitting(value: bytes | None, error: BaseException | str) -> tuple[bytes | None, BaseException | str]:
    """Value and reason of a dead letter; a value that leaves no room for the headers is cut, and the reason says so.

    Only a foreign record is that large. Kept whole it would be refused, and stop its partition for ever.
    """
    if value is None or len(value) <= MAX_VALUE_BYTES:
        return value, error
    digest = hashlib.sha256(value).hexdigest()
    return (
        value[:MAX_VALUE_BYTES],
        f"{error} (cut to {MAX_VALUE_BYTES} of {len(value)} bytes; SHA-256 of the whole: {digest})",
    )


def reason_of(headers: list[tuple[str, bytes]] | None) -> str:
    """The reason in a dead letter's headers, or an empty text."""
    found = dict(headers or []).get(_CONNECT + "exception.message", b"")
    return found.decode("utf-8", "replace")
