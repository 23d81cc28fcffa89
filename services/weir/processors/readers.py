"""Which source a line or a document is from: the readers, asked in turn."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from weir.processors.fields import (
    Context,
    Decoded,
    Reader,
    cef,
    filebeat_netflow,
    kemp_logs,
    leef,
    qumulo,
    snort,
    suricata,
    windows,
    yaf,
    zeek,
)
from weir.processors.fields import sensorfleet as sensorfleet_fields
from weir.protocols import beats, sensorfleet

__all__ = ["READERS", "ask_first", "plugged", "read_document", "read_text"]

READERS: Final[tuple[Reader, ...]] = (
    suricata,
    zeek,
    windows,
    filebeat_netflow,
    snort,
    qumulo,
    cef,
    leef,
    kemp_logs,
    yaf,
)
"""Weir's own, in the order in which they are asked."""

_plugged: tuple[Reader, ...] = ()
_asked: tuple[Reader, ...] = READERS


def ask_first(readers: Iterable[Reader]) -> None:
    """Have these asked before Weir's own, so that they can take a source over; called once, at start (`plugins.activate`)."""
    global _asked, _plugged  # noqa: PLW0603 - set before the first unit is read
    _plugged = tuple(readers)
    _asked = (*_plugged, *READERS)


def plugged() -> bool:
    """Whether anybody is asked before Weir's own readers."""
    return bool(_plugged)


def read_document(document: dict[str, object], context: Context) -> Decoded | None:
    """Dataset and fields of a JSON object; None where no reader knows it. Raises ValueError for what claims to be and cannot be.

    What is in a SensorFleet envelope is read as if it had come alone.
    """
    if ("source_sensor" in document or sensorfleet.ENVELOPE_KEY in document) and sensorfleet.recognise(document):
        return sensorfleet_fields.envelope(document, context, _read)
    return _read(document, context)


def _read(document: dict[str, object], context: Context) -> Decoded | None:
    for reader in _asked:
        if (found := reader.document(document, context)) is not None:
            return found
    return None


def read_text(text: str, context: Context) -> Decoded | None:
    """The same of a line; one that is a JSON object is read as a document, also behind the blank that some forwarders put there."""
    if text.startswith("{") or (text[:1] == " " and text.lstrip(" ").startswith("{")):
        document = beats.json_object(text)
        if document is not None:
            return read_document(document, context)
    for reader in _asked:
        if (found := reader.line(text, context)) is not None:
            return found
    return None
