"""Which source a line or a document is from: the readers, asked in turn."""

from __future__ import annotations

from typing import Final

from weir.processors.fields import Context, Decoded, Reader, cef, filebeat_netflow, leef, snort, suricata, windows, zeek
from weir.processors.fields import sensorfleet as sensorfleet_fields
from weir.protocols import beats, sensorfleet

__all__ = ["READERS", "read_document", "read_text"]

READERS: Final[tuple[Reader, ...]] = (suricata, zeek, windows, filebeat_netflow, snort, cef, leef)
"""In the order in which they are asked."""


def read_document(document: dict[str, object], context: Context) -> Decoded | None:
    """Dataset and fields of a JSON object; None where no reader knows it. Raises ValueError for what claims to be and cannot be.

    What is in a SensorFleet envelope is read as if it had come alone.
    """
    if ("source_sensor" in document or sensorfleet.ENVELOPE_KEY in document) and sensorfleet.recognise(document):
        return sensorfleet_fields.envelope(document, context, _read)
    return _read(document, context)


def _read(document: dict[str, object], context: Context) -> Decoded | None:
    for reader in READERS:
        if (found := reader.document(document, context)) is not None:
            return found
    return None


def read_text(text: str, context: Context) -> Decoded | None:
    """The same of a line; one that is a JSON object is read as a document."""
    if text.startswith("{"):
        document = beats.json_object(text)
        return read_document(document, context) if document is not None else None
    for reader in READERS:
        if (found := reader.line(text, context)) is not None:
            return found
    return None
