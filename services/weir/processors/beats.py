"""raw.beats → events.ids-alert, events.network-flow, events.network-log, events.sensor, by what each document is."""

from __future__ import annotations

from typing import Any

from weir.model.batch import RawBatch
from weir.model.ids import event_id
from weir.processors.fields import NOTHING, Context
from weir.processors.localtime import local_time
from weir.processors.outcome import Dead, Outcome, RawCoordinates, common_fields, event_hash
from weir.processors.readers import read_document
from weir.processors.runtime import ProcessorSettings, run_processor
from weir.processors.signals import load_signal_source
from weir.protocols import beats, sensorfleet

__all__ = ["main", "process"]

# Under this transport a receiver hands over the bytes that broke a connection's framing.
ERROR_TRANSPORT = "lumberjack-error"

LARGE_DOCUMENT = 400_000
"""Characters of a document from which on its message is not given a second time: the event would not fit into a record."""


def process(batch: RawBatch, where: RawCoordinates) -> Outcome:
    """Events of a batch of JSON documents."""
    outcome = Outcome()
    common = common_fields(batch, where)
    batch_hex = batch.batch_id.hex()
    if batch.transport == ERROR_TRANSPORT:
        reason = "the connection broke the Lumberjack framing here; nothing of it was acknowledged"
        outcome.dead.extend(Dead(index, reason) for index in range(len(batch.units)))
        return outcome
    # What a document does not say of itself: by which way it came.
    module = "http" if batch.transport == "http" else "beats"
    context = Context(batch.received_at, local_time(batch.time_zone, batch.received_at, 0))
    for index, unit in enumerate(batch.units):
        try:
            dataset, fields = _decode(beats.parse(unit), module, context)
        except ValueError as error:
            outcome.dead.append(Dead(index, str(error)))
            continue
        if not dataset:
            outcome.units_empty += 1
            continue
        record = {**common, **fields, "event_id": event_id(batch_hex, batch.position(index))}
        if batch.content_hashes:
            record["event_hash"] = event_hash(batch, index)
        outcome.add(dataset, record)
    return outcome


def _decode(document: dict[str, object], module: str, context: Context) -> tuple[str, dict[str, Any]]:
    """Dataset and fields; `module` stands for a shipper that is not named.

    Raises ValueError for a document that claims to be what it cannot be.
    """
    kind, record = beats.dispatch(document)
    tags = _tags(document)
    if record is not None and (found := read_document(record, context)) is not None:
        dataset, fields = found
        if found is NOTHING:
            return found
        fields["tags"] = [*fields.get("tags", ()), *(["sensorfleet_event"] if sensorfleet.recognise(document) else tags)]
        # The sensor writes the time itself; the shipper is asked only where it did not.
        fields["timestamp"] = fields["timestamp"] or beats.shipping(document).timestamp
        return dataset, fields
    shipped = beats.shipping(document)
    if kind == "sensorfleet":
        return _sensorfleet(document, shipped, module)
    fields = _shipping(shipped, module) | {"document": beats.to_json(document), "tags": tags}
    if len(fields["document"]) > LARGE_DOCUMENT:
        fields["message"] = None
    return "sensor", fields


def _sensorfleet(document: dict[str, object], shipped: beats.Shipping, module: str) -> tuple[str, dict[str, Any]]:
    reshaped = sensorfleet.reshape(document)
    envelope = reshaped.get("_sensorfleet_event")
    kind = envelope.get("type") if isinstance(envelope, dict) else None
    message = envelope.get("message") if isinstance(envelope, dict) else None
    fields = _shipping(shipped, module) | {
        "timestamp": sensorfleet.timestamp_us(document) or shipped.timestamp,
        "event_module": "sensorfleet",
        "event_dataset": f"sensorfleet.{kind}" if isinstance(kind, str) and kind else "sensorfleet",
        "observer_vendor": "SensorFleet",
        "observer_product": "Sensor",
        "host_name": _text(envelope, "source_sensor"),
        "message": message if isinstance(message, str) else None,
        "document": beats.to_json(reshaped),
        "tags": _tags(reshaped),
    }
    return "sensor", fields


def _shipping(shipped: beats.Shipping, module: str) -> dict[str, Any]:
    return {
        "timestamp": shipped.timestamp,
        "host_name": shipped.host_name,
        "agent_name": shipped.agent_name,
        "agent_type": shipped.agent_type,
        "agent_version": shipped.agent_version,
        "event_module": shipped.event_module or module,
        "event_dataset": shipped.event_dataset or module,
        "log_file_path": shipped.log_file_path,
        "log_offset": shipped.log_offset,
        "message": shipped.message,
    }


def _text(value: object, key: str) -> str | None:
    found = value.get(key) if isinstance(value, dict) else None
    return found if isinstance(found, str) else None


def _tags(document: dict[str, object]) -> list[str]:
    tags = document.get("tags")
    return [tag for tag in tags if isinstance(tag, str)] if isinstance(tags, list) else []


def main(settings: ProcessorSettings) -> int:
    """Run the Beats processor until it is told to stop."""
    return run_processor(settings, "process.beats", "raw.beats", process, load_signal_source(settings.rules_dir))
