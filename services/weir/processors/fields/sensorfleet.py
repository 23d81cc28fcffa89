"""SensorFleet's envelopes: what is in them as if it had come alone, with the envelope kept beside it; else events.sensor."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import orjson

from weir.processors.fields import Context, Decoded
from weir.processors.fields.sensor import ecs_fields, tags_of
from weir.protocols import beats, sensorfleet

__all__ = ["envelope"]

_IDENTITY: Final = ("source_sensor", "source_instrument", "type", "uuid", "context_uuid", "sensor_event_id")
"""What of an envelope becomes a label, as `sensorfleet.<name>`."""
_LABELS: Final = tuple((name, f"sensorfleet.{name}") for name in _IDENTITY)


def envelope(
    document: dict[str, object], context: Context, read: Callable[[dict[str, object], Context], Decoded | None]
) -> Decoded:
    """Dataset and fields of a document that `sensorfleet.recognise` knows.

    `read` is asked what the reshaped document is: the instrument's record at the top, the envelope under `_sensorfleet_event`.
    Raises ValueError as it does, and for a document that is nested deeper than can be written.
    """
    reshaped = sensorfleet.reshape(document)
    inside = reshaped[sensorfleet.ENVELOPE_KEY]
    assert isinstance(inside, dict)  # noqa: S101 - what reshape promises
    found = read(reshaped, context)
    dataset, fields = found if found is not None else ("sensor", _sensor(reshaped, inside))
    if fields.get("timestamp") is None:
        fields["timestamp"] = sensorfleet.timestamp_us(document)
    if fields.get("host_name") is None and isinstance(sensor := inside.get("source_sensor"), str):
        fields["host_name"] = sensor
    labels = {
        label: value if isinstance(value, str) else orjson.dumps(value).decode()
        for name, label in _LABELS
        if isinstance(value := inside.get(name), str | int)
    }
    if not any(sensorfleet.ENVELOPE_KEY in (fields.get(column) or "") for column in ("document", "flow_additional")):
        # A reader that keeps only what it knows: the envelope must not be lost by it.
        labels[sensorfleet.ENVELOPE_KEY] = beats.to_json(inside)
    fields["labels"] = {**fields.get("labels", {}), **labels}
    tags = tags_of(reshaped)
    fields["tags"] = tags + [tag for tag in fields.get("tags", ()) if tag not in tags]
    return dataset, fields


def _sensor(reshaped: dict[str, object], inside: dict[str, object]) -> dict[str, Any]:
    """The sensor's own events (statistics, errors, logins), and those of instruments that nobody here reads."""
    kind, message = inside.get("type"), inside.get("message")
    fields = ecs_fields({key: value for key, value in reshaped.items() if key != sensorfleet.ENVELOPE_KEY})
    if isinstance(kind, str) and kind.endswith("stats"):
        fields["event_kind"] = "metric"
    return fields | {
        "event_module": "sensorfleet",
        "event_dataset": f"sensorfleet.{kind}" if isinstance(kind, str) and kind else "sensorfleet",
        "observer_vendor": "SensorFleet",
        "observer_product": "Sensor",
        "message": message if isinstance(message, str) else None,
        "document": beats.to_json(reshaped),
    }
