"""Snort's alerts as events.ids-alert, and those that Suricata writes in the same form to its fast.log."""

from __future__ import annotations

from typing import Any, Final

import orjson

from weir.processors.fields import Context, Decoded
from weir.protocols import beats, snort

__all__ = ["document", "line", "name"]

name = "snort"

_BLOCKED: Final = frozenset({"drop", "block", "reset", "reject", "react", "force_drop", "force_block", "force_reset", "sdrop"})


def line(text: str, context: Context) -> Decoded | None:
    """A line of alert_fast, alert_csv or syslog, or a block of alert_full."""
    alert = snort.parse(text, context.received_us, context.to_utc)
    if alert is None:
        return None
    suricata = alert.long_year or _says(context, "suricata")
    fields = _fields(alert, "suricata" if suricata and not _says(context, "snort") else "snort")
    fields["event_original"] = text
    fields["document"] = orjson.dumps(alert.rest).decode() if alert.rest else None
    return "ids-alert", fields


def document(document: dict[str, object], context: Context) -> Decoded | None:
    """A record of Snort 3's alert_json."""
    alert = snort.from_json(document, context.received_us, context.to_utc)
    if alert is None:
        return None
    return "ids-alert", _fields(alert, "snort") | {"document": beats.to_json(document)}


def _says(context: Context, sensor: str) -> bool:
    return any(text is not None and sensor in text.lower() for text in (context.program, context.module, context.event_dataset))


def _fields(alert: snort.Alert, module: str) -> dict[str, Any]:
    known = alert.source_ip or alert.destination_ip
    transport, number = alert.transport, alert.protocol_number
    if transport == "icmp" and known is not None and ":" in known:
        transport, number = "ipv6-icmp", 58
    return {
        "timestamp": alert.time_us,
        "event_kind": "alert",
        "event_module": module,
        "event_dataset": f"{module}.alert",
        "event_category": ["network", "intrusion_detection"],
        "event_type": ["denied"] if alert.action in _BLOCKED else ["info"],
        "event_action": alert.action,
        "event_severity": alert.priority,
        "observer_vendor": "OISF" if module == "suricata" else "Cisco",
        "observer_product": "Suricata" if module == "suricata" else "Snort",
        "observer_ingress_interface": alert.interface,
        "rule_id": alert.sid,
        "rule_name": alert.message,
        "rule_category": alert.category,
        "rule_version": alert.rev,
        "rule_ruleset": alert.gid,
        "rule_reference": alert.references[0] if alert.references else None,
        "message": alert.message,
        "source_ip": alert.source_ip,
        "source_port": alert.source_port,
        "source_mac": alert.source_mac,
        "source_bytes": alert.client_bytes,
        "source_packets": alert.client_packets,
        "destination_ip": alert.destination_ip,
        "destination_port": alert.destination_port,
        "destination_mac": alert.destination_mac,
        "destination_bytes": alert.server_bytes,
        "destination_packets": alert.server_packets,
        "network_type": None if known is None else "ipv6" if ":" in known else "ipv4",
        "network_transport": transport,
        "network_iana_number": number,
        "network_application": alert.application,
        "flow_icmp_type": alert.icmp_type,
        "flow_icmp_code": alert.icmp_code,
        "vlan_id": alert.vlan,
    }
