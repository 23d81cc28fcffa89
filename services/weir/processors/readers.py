"""Which source a line or a document is from: the readers, asked in turn."""

from __future__ import annotations

from typing import Final

import orjson

from weir.processors.fields import Context, Decoded, Reader, suricata, yaf

__all__ = ["READERS", "read_document", "read_text"]

READERS: Final[tuple[Reader, ...]] = (suricata, yaf)
"""In the order in which they are asked."""


def read_document(document: dict[str, object], context: Context) -> Decoded | None:
    """Dataset and fields of a JSON object; None where no reader knows it. Raises ValueError for what claims to be and cannot be."""
    for reader in READERS:
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
    for reader in READERS:
        if (found := reader.line(text, context)) is not None:
            return found
    return None
