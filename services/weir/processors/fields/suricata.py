"""Suricata's EVE records: alerts to ids-alert, flows to network-flow, all others to network-log."""

from __future__ import annotations

from operator import attrgetter
from typing import Any, Final

from weir.processors.fields import Context, Decoded
from weir.protocols import beats, eve

__all__ = ["document", "line", "name"]

name: Final = "suricata"

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


def line(text: str, context: Context) -> Decoded | None:
    """EVE is JSON, so a line that is no document is not Suricata's."""
    return None


def document(document: dict[str, object], context: Context) -> Decoded | None:
    """Dataset and fields of an EVE record; None for any other document. Raises EveError (a ValueError) as `eve.decode`."""
    view = eve.decode(document)
    if view is None:
        return None
    fields: dict[str, Any] = {
        "timestamp": view.timestamp,
        "event_module": "suricata",
        "event_dataset": f"suricata.{view.event_type}",
        "observer_vendor": "OISF",
        "observer_product": "Suricata",
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
            "document": beats.to_json(document),
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
    fields |= {"document": beats.to_json(document)}
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
