"""Dead letters: the original bytes, with the reason under the header names Kafka Connect made customary."""

from __future__ import annotations

import time

from weir import __version__

__all__ = ["dead_letter_headers", "reason_of"]

_CONNECT = "__connect.errors."
MAX_REASON_BYTES = 2_000


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


def reason_of(headers: list[tuple[str, bytes]] | None) -> str:
    """The reason in a dead letter's headers, or an empty text."""
    found = dict(headers or []).get(_CONNECT + "exception.message", b"")
    return found.decode("utf-8", "replace")
