"""SensorFleet events: recognise the envelope and put it into the shape that the vendor's Logstash filter gives it.

A SensorFleet sensor sends every event in an envelope of its own (source_sensor, source_instrument, uuid, type,
timestamp, ...) with the instrument's record, for example Suricata's or Zeek's, under `data`. Source: SensorFleet,
"Streaming events from SensorFleet to Elastic Stack or Azure Sentinel" (4 August 2021), step 7.
"""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from typing import Final

__all__ = ["ENVELOPE_KEY", "TAG", "recognise", "reshape", "timestamp_us"]

ENVELOPE_KEY: Final = "_sensorfleet_event"
TAG: Final = "sensorfleet_event"

_REMOVED = frozenset({"headers", "tags", "host"})
# Logstash keeps @metadata apart from an event's fields, so its filter never moves it.
_LEFT_AT_ROOT = frozenset({"@timestamp", "@version", "@metadata"})
_PROTECTED = _LEFT_AT_ROOT | {ENVELOPE_KEY, "tags"}
_LAST_SECOND = 253_402_300_800  # 10000-01-01


def recognise(document: dict[str, object]) -> bool:
    """Whether this is a SensorFleet envelope, as the sensor sends it or already reshaped by a forwarder."""
    return _is_envelope(document) or _is_reshaped(document)


def _is_envelope(event: dict[str, object]) -> bool:
    return (
        isinstance(event.get("source_sensor"), str)
        and isinstance(event.get("source_instrument"), str)
        and isinstance(event.get("uuid"), str)
        and isinstance(event.get("type"), str)
        and ("sensor_event_id" in event or "data" in event)
    )


def _is_reshaped(document: dict[str, object]) -> bool:
    envelope = document.get(ENVELOPE_KEY)
    # The filter drops `data`, and a forwarder's user may drop more: the sensor and the type are enough here.
    return isinstance(envelope, dict) and isinstance(envelope.get("source_sensor"), str) and isinstance(envelope.get("type"), str)


def reshape(document: dict[str, object]) -> dict[str, object]:
    """The document as the vendor's filter leaves it; the argument stays as it is.

    `headers`, `tags` and `host` go; every other root key but @timestamp and @version moves under `_sensorfleet_event`; the
    keys of `data` are copied to the root and `data` is dropped; `tags` becomes ["sensorfleet_event"]. Three cases that the
    filter leaves open or gets wrong are settled so that nothing is lost:

    - a key of `data` named `_sensorfleet_event`, `@timestamp`, `@version`, `@metadata` or `tags` does not overwrite the
      root's: it stays under `_sensorfleet_event.data_collisions`;
    - `data` that is not an object (the filter's script fails on it) stays under `_sensorfleet_event.data`;
    - a document that a forwarder has reshaped already only gets the tag, if it lacks it.
    """
    if _is_reshaped(document) and not _is_envelope(document):
        return _tagged(document)
    root: dict[str, object] = {}
    envelope: dict[str, object] = {}
    for key, value in document.items():
        if key in _LEFT_AT_ROOT:
            root[key] = value
        elif key not in _REMOVED:
            envelope[key] = value
    data = envelope.get("data")
    if data is None:
        envelope.pop("data", None)
    elif isinstance(data, dict):
        del envelope["data"]
        collisions = {}
        for key, value in data.items():
            if key in _PROTECTED:
                collisions[key] = value
            else:
                root[key] = value
        if collisions:
            envelope["data_collisions"] = collisions
    root[ENVELOPE_KEY] = envelope
    root["tags"] = [TAG]
    return root


def _tagged(document: dict[str, object]) -> dict[str, object]:
    tags = document.get("tags")
    if isinstance(tags, list):
        return dict(document) if TAG in tags else {**document, "tags": [*tags, TAG]}
    return {**document, "tags": [TAG] if tags is None else [tags, TAG]}


def timestamp_us(document: dict[str, object]) -> int | None:
    """When the event happened, microseconds since 1970 UTC, from the envelope's epoch seconds; None where there are none.

    Takes a document before or after `reshape`. A double of this size holds microseconds to a quarter of one, so that
    rounding gives exactly the six digits that the sensor wrote.
    """
    envelope = document.get(ENVELOPE_KEY)
    seconds = envelope.get("timestamp") if isinstance(envelope, dict) else document.get("timestamp")
    if isinstance(seconds, str):
        try:
            number = Decimal(seconds)
        except InvalidOperation:
            return None
        return int((number * 1_000_000).to_integral_value()) if number.is_finite() and 0 <= number < _LAST_SECOND else None
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 <= seconds < _LAST_SECOND:
        return None
    return round(seconds * 1_000_000)
