"""ISO 8601 text to microseconds, for the senders that write JSON."""

from __future__ import annotations

from datetime import UTC, datetime

__all__ = ["iso_to_micros"]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_EPOCH_NAIVE = datetime(1970, 1, 1)  # noqa: DTZ001 - the base for times without a zone, which count as UTC


def iso_to_micros(text: object) -> int | None:
    """Microseconds since 1970 UTC of a date and time such as 2024-03-01T12:00:00.123456+0000; None for anything else.

    The offset may be Z, +00:00, +0000 or +00; a time without one counts as UTC. Digits beyond the sixth are cut off.
    """
    if not isinstance(text, str) or len(text) < 16 or text[10] not in "T ":
        return None
    try:
        moment = datetime.fromisoformat(text)
        since = moment - (_EPOCH_NAIVE if moment.tzinfo is None else _EPOCH)
    except (ValueError, OverflowError):
        return None
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds
