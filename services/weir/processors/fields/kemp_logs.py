"""Kemp LoadMaster's log lines that are no CEF, as fields of events.syslog."""

from __future__ import annotations

from typing import Any, Final

from weir.processors.fields import Context, Decoded
from weir.processors.fields.kemp import KINDS
from weir.protocols import kemp_logs, keyvalues

__all__ = ["document", "line", "name"]

name: Final = "kemp"

# ModSecurity's severities, which are syslog's.
_SEVERITIES: Final = {
    word: number
    for number, word in enumerate("emergency alert critical error warning notice info debug".split())  # noqa: SIM905
}


def line(text: str, context: Context) -> Decoded | None:
    """A line of one of the LoadMaster's own programs, or of its kernel's layer 7; which is for the syslog header to tell."""
    program = (context.program or "").lower()
    subsystem = kemp_logs.SUBSYSTEMS.get(program)
    if subsystem is None:
        if program != "kernel" or not text.startswith("L7: "):
            return None
        subsystem = "l7"
    fields: dict[str, Any] = {
        "timestamp": None,
        "event_module": "kemp",
        "event_dataset": f"kemp.{subsystem}",
        "observer_vendor": "Kemp",
        "observer_product": "LoadMaster",
        "process_name": context.program,
        "message": text,
    }
    if subsystem == "waf" and (alert := kemp_logs.parse_waf(text)) is not None:
        fields |= _waf(alert)
    elif subsystem == "l7" and (known := kemp_logs.parse_layer7(text)) is not None:
        fields |= _layer7(known)
    return "syslog", fields


def _layer7(known: kemp_logs.KempLine) -> dict[str, Any]:
    more = {"connection": known.connection, "virtual_service": known.virtual_service, "dt_code": known.dt_code}
    fields: dict[str, Any] = {
        "event_action": known.event,
        "source_ip": known.source_ip,
        "source_port": known.source_port,
        "destination_ip": known.destination_ip,
        "destination_port": known.destination_port,
        "user_name": known.user,
        "http_request_method": known.method,
        "url_original": known.url,
        "url_domain": keyvalues.url_host(known.url) if known.url else None,
        "user_agent_original": known.user_agent,
        "log_syslog_fields": {key: value for key, value in more.items() if value is not None},
    }
    kind = KINDS.get(known.event.lower())
    if kind is not None:
        fields |= {"event_category": list(kind[0]), "event_type": list(kind[1]), "event_outcome": kind[2]}
    return fields


def _waf(alert: kemp_logs.WafLine) -> dict[str, Any]:
    get = alert.fields.get
    denied = alert.action == "Access denied"
    more = alert.fields | ({"tags": ",".join(alert.tags)} if alert.tags else {})
    return {
        "event_kind": "alert",
        "event_category": ["web", "intrusion_detection"],
        "event_type": ["denied"] if denied else ["info"],
        "event_action": alert.action,
        "device_action": "denied" if denied else None,
        "event_severity": _SEVERITIES.get(get("severity", "").lower()),
        "source_ip": alert.client_ip,
        "rule_id": get("id"),
        "rule_name": get("msg"),
        "rule_category": alert.tags[0] if alert.tags else None,
        "url_original": get("uri"),
        "url_domain": get("hostname"),
        "http_response_status_code": alert.status,
        "log_syslog_fields": more,
    }


def document(document: dict[str, object], context: Context) -> Decoded | None:
    """The LoadMaster writes no JSON of its own."""
    return None
