"""raw.beats → events.ids-alert, events.network-flow, events.network-log, events.sensor, by what each document is."""

from __future__ import annotations

from operator import attrgetter
from typing import Any

from weir.model.batch import RawBatch
from weir.model.ids import event_id
from weir.processors.outcome import Dead, Outcome, RawCoordinates, common_fields, event_hash
from weir.processors.runtime import ProcessorSettings, run_processor
from weir.processors.signals import load_signal_source
from weir.protocols import beats, eve, sensorfleet

__all__ = ["main", "process"]

# Under this transport a receiver hands over the bytes that broke a connection's framing.
ERROR_TRANSPORT = "lumberjack-error"

LARGE_DOCUMENT = 400_000
"""Characters of a document from which on its message is not given a second time: the event would not fit into a record."""

_NETWORK = (
    "source_ip", "source_port", "destination_ip", "destination_port", "network_type", "network_transport",
    "network_iana_number", "network_application", "network_community_id", "flow_id",
)  # fmt: skip
_PROTOCOL = (
    "url_domain", "url_original", "http_request_method", "user_agent_original", "dns_question_name", "tls_server_name",
)  # fmt: skip
_COUNTERS = ("source_bytes", "source_packets", "destination_bytes", "destination_packets")
_ALERT = (*_NETWORK, *_PROTOCOL, *_COUNTERS, "event_action", "event_severity", "rule_id", "rule_name", "rule_category",
          "rule_version", "rule_ruleset", "observer_ingress_interface", "host_name")  # fmt: skip
_FLOW = (*_NETWORK, *_COUNTERS, "event_start", "event_end", "flow_end_reason", "flow_tcp_flags", "flow_icmp_type",
         "flow_icmp_code", "host_name")  # fmt: skip
_RECORD = (*_NETWORK, *_PROTOCOL, "dns_question_type", "dns_response_code", "http_response_status_code", "host_name")
# One call for all of them: a view is asked for some thirty fields.
_alert_values, _flow_values, _record_values = attrgetter(*_ALERT), attrgetter(*_FLOW), attrgetter(*_RECORD)


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
    for index, unit in enumerate(batch.units):
        try:
            dataset, fields = _decode(beats.parse(unit), module)
        except ValueError as error:
            outcome.dead.append(Dead(index, str(error)))
            continue
        record = {**common, **fields, "event_id": event_id(batch_hex, batch.position(index))}
        if batch.content_hashes:
            record["event_hash"] = event_hash(batch, index)
        outcome.add(dataset, record)
    return outcome


def _decode(document: dict[str, object], module: str) -> tuple[str, dict[str, Any]]:
    """Dataset and fields; `module` stands for a shipper that is not named.

    Raises ValueError for a document that claims to be what it cannot be.
    """
    kind, record = beats.dispatch(document)
    tags = _tags(document)
    if kind == "eve" and record is not None and (view := eve.decode(record)) is not None:
        if sensorfleet.recognise(document):
            tags = ["sensorfleet_event"]
        # Suricata writes the time itself; the shipper is asked only where it did not.
        timestamp = view.timestamp or beats.shipping(document).timestamp
        return _suricata(view, record, timestamp, tags)
    shipped = beats.shipping(document)
    if kind == "sensorfleet":
        return _sensorfleet(document, shipped, module)
    fields = _shipping(shipped, module) | {"document": beats.to_json(document), "tags": tags}
    if len(fields["document"]) > LARGE_DOCUMENT:
        fields["message"] = None
    return "sensor", fields


def _suricata(view: eve.EveEvent, record: dict[str, object], timestamp: int | None, tags: list[str]) -> tuple[str, dict[str, Any]]:
    fields: dict[str, Any] = {
        "timestamp": timestamp,
        "event_module": "suricata",
        "event_dataset": f"suricata.{view.event_type}",
        "observer_vendor": "OISF",
        "observer_product": "Suricata",
        "tags": tags,
    }
    if view.kind == "alert":
        fields.update(zip(_ALERT, _alert_values(view), strict=True))
        fields |= {
            "event_kind": "alert",
            "event_category": ["network", "intrusion_detection"],
            "event_type": ["denied"] if view.event_action == "blocked" else ["info"],
            "threat_technique_id": list(view.threat_technique_ids),
            "vlan_id": view.vlan_ids[0] if view.vlan_ids else None,
            "message": view.rule_name,
            "document": beats.to_json(record),
        }
        return "ids-alert", fields
    fields |= {"event_category": ["network"], "event_type": ["connection"] if view.kind in {"flow", "netflow"} else ["protocol"]}
    if view.kind in {"flow", "netflow"}:
        fields.update(zip(_FLOW, _flow_values(view), strict=True))
        fields |= _totals(view) | {
            "flow_protocol": "suricata",
            "event_action": "network_flow",
            "vlan_id": view.vlan_ids[0] if view.vlan_ids else None,
        }
        return "network-flow", fields
    fields.update(zip(_RECORD, _record_values(view), strict=True))
    fields |= {"document": beats.to_json(record)}
    return "network-log", fields


def _totals(view: eve.EveEvent) -> dict[str, Any]:
    """Sums over both directions, and the duration."""
    totals: dict[str, Any] = {}
    for name, forth, back in (
        ("network_bytes", view.source_bytes, view.destination_bytes),
        ("network_packets", view.source_packets, view.destination_packets),
    ):
        if forth is not None or back is not None:
            totals[name] = (forth or 0) + (back or 0)
    if view.event_start is not None and view.event_end is not None and view.event_end >= view.event_start:
        totals["event_duration"] = (view.event_end - view.event_start) * 1000
    return totals


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
