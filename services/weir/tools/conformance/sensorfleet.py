"""SensorFleet's envelopes: each reshaped as the vendor's Logstash filter reshapes it, and read as what it holds.

The filter is written out here once more, step by step as it stands in the vendor's text ("Streaming events from SensorFleet to
Elastic Stack or Azure Sentinel", 4 August 2021, step 7), so that it is judged by its own letter; where Weir rules otherwise, the
reason stands in the table. The envelopes are examples made up after the text, and those of the corpus (`sensorfleet/*.ndjson`).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import orjson

from weir.model.batch import RawBatch
from weir.processors import beats
from weir.processors.outcome import RawCoordinates
from weir.tools.conformance import Case

__all__ = ["EXAMPLES", "cases"]

_ENVELOPE: Final[dict[str, Any]] = {
    "source_sensor": "testsensor", "source_instrument": "logforwarder_0@testsensor",
    "type": "instruments.logforwarder.pipeline_stats",
    "message": "pipeline test processed=6, errors=0", "context_uuid": "e41d4fbf-482f-4f74-a4e2-000000000001",
    "sensor_event_id": 871,
    "timestamp": 1614868533.946555, "uuid": "cc2b3bb1-bd8f-4b9c-a89e-000000000002",
}  # fmt: skip
_BY_LOGSTASH: Final = {
    "@timestamp": "2021-03-04T14:35:34Z",
    "@version": "1",
    "host": "127.0.0.1",
    "headers": {"a": 1},
    "tags": ["x"],
}
_EVE: Final = {
    "timestamp": "2024-03-01T12:00:00.000000+0000", "flow_id": 7, "event_type": "dns", "src_ip": "10.0.0.1", "dest_ip": "10.0.0.2",
    "proto": "UDP", "dns": {"type": "query", "rrname": "w.example", "rrtype": "A"},
}  # fmt: skip

EXAMPLES: Final[dict[str, tuple[dict[str, Any], str]]] = {
    "statistics": ({**_ENVELOPE, "data": {"processed": 6, "errors": 0}}, "sensor"),
    "statistics without data": (dict(_ENVELOPE), "sensor"),
    "by way of Logstash": ({**_ENVELOPE, **_BY_LOGSTASH, "data": {"processed": 6}}, "sensor"),
    "Suricata, a record": ({**_ENVELOPE, "type": "instruments.suricata.dns", "data": _EVE}, "network-log"),
    "Suricata, an alert": (
        {**_ENVELOPE, "data": {**_EVE, "event_type": "alert", "alert": {"signature": "S", "severity": 1}}}, "ids-alert",
    ),
    "Suricata, by way of Logstash": ({**_ENVELOPE, **_BY_LOGSTASH, "data": {**_EVE, "host": "suri-1"}}, "network-log"),
    "data that is empty": ({**_ENVELOPE, "data": {}}, "sensor"),
    "data that names its own host and headers": ({**_ENVELOPE, "data": {"host": "inner", "headers": {"b": 2}}}, "sensor"),
    "data with tags": ({**_ENVELOPE, "data": {"processed": 1, "tags": ["late"]}}, "sensor"),
    "data with a time of its own": ({**_ENVELOPE, **_BY_LOGSTASH, "data": {"@timestamp": "2030-01-01T00:00:00Z"}}, "sensor"),
    "data that names the envelope": ({**_ENVELOPE, "data": {"_sensorfleet_event": {"uuid": "forged"}}}, "sensor"),
    "data that is text": ({**_ENVELOPE, "data": "text"}, "sensor"),
}  # fmt: skip
"""Envelope and the dataset that its event belongs to."""

_KEPT_APART: Final = (
    "the filter lets a key of the data overwrite the document's own; here it is kept under _sensorfleet_event.data_collisions"
)
_REASONS: Final = {
    "data with tags": _KEPT_APART,
    "data with a time of its own": _KEPT_APART,
    "data that names the envelope": _KEPT_APART,
    "data that is text": "the filter's script fails on it and tags the event; here it stays under _sensorfleet_event.data",
}
"""By the name of a case: why its difference is right."""


def cases(corpus: Path) -> Iterator[Case]:
    """The examples, and each envelope of the corpus."""
    for name, (envelope, dataset) in EXAMPLES.items():
        yield _case(name, envelope, dataset)
    folder = corpus / "sensorfleet"
    for path in sorted(folder.glob("*.*json")) if folder.is_dir() else ():
        for number, line in enumerate(path.read_bytes().splitlines(), 1):
            if line.strip():
                yield _case(f"{path.name}:{number}", orjson.loads(line), None)


def _case(name: str, envelope: dict[str, Any], dataset: str | None) -> Case:
    difference = _differs(envelope, dataset)
    return Case(name, difference, _REASONS.get(name) if difference else None)


def _differs(envelope: dict[str, Any], dataset: str | None) -> str | None:
    batch = RawBatch(bytes(16), "", "", "lumberjack", "192.0.2.1", 5044, 1_790_000_000_000_000, [orjson.dumps(envelope)])
    outcome = beats.process(batch, RawCoordinates("", 0, 0))
    if outcome.dead:
        return f"dead: {outcome.dead[0].reason}"
    ((found, (event,)),) = outcome.events.items()
    if dataset is not None and found != dataset:
        return f"in events.{found} instead of events.{dataset}"
    if "sensorfleet_event" not in event["tags"]:
        return f"tags are {event['tags']!r}"
    if event["labels"].get("sensorfleet.uuid") != envelope.get("uuid"):
        return "the envelope's uuid is not among the labels"
    expected = as_filtered(envelope)
    if event.get("document") is None:
        kept = event.get("flow_additional") or event["labels"].get("_sensorfleet_event") or ""
        return None if envelope.get("uuid", "") in kept else "the envelope is not kept"
    document = orjson.loads(event["document"])
    return None if document == expected else f"{document!r:.200} instead of {expected!r:.200}"


def as_filtered(event: dict[str, Any]) -> dict[str, Any]:
    """What the vendor's filter makes of an event, step by step."""
    event = {key: value for key, value in event.items() if key not in {"headers", "tags", "host"}}
    inside: dict[str, Any] = {}
    for key in [key for key in event if key not in {"@timestamp", "@version", "host"}]:
        inside[key] = event.pop(key)
    event["_sensorfleet_event"] = inside
    data = inside.get("data")
    if isinstance(data, dict):
        event.update(data)
    if isinstance(event["_sensorfleet_event"], dict):
        event["_sensorfleet_event"].pop("data", None)
    tags = event.get("tags")
    event["tags"] = [*(tags if isinstance(tags, list) else []), "sensorfleet_event"]
    return event
