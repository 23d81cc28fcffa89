"""Which source a line or a document is from: the readers, asked in turn."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import orjson

from weir.processors.fields import Context, Decoded, Reader, cef, leef, snort, suricata, zeek

__all__ = ["READERS", "ask_first", "read_document", "read_text"]

READERS: Final[tuple[Reader, ...]] = (suricata, zeek, snort, cef, leef)
"""Weir's own, in the order in which they are asked."""

_asked: tuple[Reader, ...] = READERS


def ask_first(readers: Iterable[Reader]) -> None:
    """Have these asked before Weir's own, so that they can take a source over; called once, at start (`plugins.activate`)."""
    global _asked  # noqa: PLW0603 - set before the first unit is read
    _asked = (*readers, *READERS)


def read_document(document: dict[str, object], context: Context) -> Decoded | None:
    """Dataset and fields of a JSON object; None where no reader knows it. Raises ValueError for what claims to be and cannot be."""
    for reader in _asked:
        if (found := reader.document(document, context)) is not None:
            return found
    return None


def read_text(text: str, context: Context) -> Decoded | None:
    """The same of a line; one that is a JSON object is read as a document."""
    if text.startswith("{"):
        try:
            document = orjson.loads(text)
        except orjson.JSONDecodeError:
            document = None
        return read_document(document, context) if isinstance(document, dict) else None
    for reader in _asked:
        if (found := reader.line(text, context)) is not None:
            return found
    return None
