"""LEEF records as fields of events.cef, by table: docs/decisions/0011-leef-in-events-cef.md.

Keys and their meaning: IBM QRadar, "Predefined LEEF event attributes". Senders that have both formats use CEF's keys in LEEF as
well, so those are read too.
"""

from __future__ import annotations

from typing import Any, Final

from weir.processors.fields import Context, Decoded
from weir.processors.fields import cef as cef_fields
from weir.protocols import cef, devicetime, keyvalues, leef

__all__ = ["FIELDS", "document", "leef_fields", "line", "name"]

name: Final = "leef"

FIELDS: Final[cef_fields.Table] = cef_fields.FIELDS | {
    "srcPort": ("source_port", keyvalues.port),
    "dstPort": ("destination_port", keyvalues.port),
    "srcMAC": ("source_mac", keyvalues.mac),
    "dstMAC": ("destination_mac", keyvalues.mac),
    "srcPostNAT": ("source_nat_ip", keyvalues.address),
    "dstPostNAT": ("destination_nat_ip", keyvalues.address),
    "srcPostNATPort": ("source_nat_port", keyvalues.port),
    "dstPostNATPort": ("destination_nat_port", keyvalues.port),
    "srcBytes": ("source_bytes", keyvalues.integer),
    "dstBytes": ("destination_bytes", keyvalues.integer),
    "srcPackets": ("source_packets", keyvalues.integer),
    "dstPackets": ("destination_packets", keyvalues.integer),
    "usrName": ("user_name", None),
    "domain": ("user_domain", None),
    "policy": ("rule_name", None),
    "url": cef_fields.FIELDS["request"],
}

# Asked only where nothing better is there: the address before translation, and whom an identity event is about.
_SECOND_BEST: Final[cef_fields.Table] = {
    "srcPreNAT": ("source_ip", keyvalues.address),
    "dstPreNAT": ("destination_ip", keyvalues.address),
    "srcPreNATPort": ("source_port", keyvalues.port),
    "dstPreNATPort": ("destination_port", keyvalues.port),
    "identSrc": ("source_ip", keyvalues.address),
    "identMAC": ("source_mac", keyvalues.mac),
    "identHostName": ("source_host", None),
    "accountName": ("user_name", None),
}


def leef_fields(event: leef.LeefEvent, context: Context) -> dict[str, Any]:
    """Event fields of a LEEF record; `context` says what zone times without one are in."""
    attributes = event.attributes
    severity = attributes.get("sev", "")
    fields: dict[str, Any] = {
        "timestamp": None,
        "event_module": cef_fields.module_name(event.device_vendor) or "leef",
        "event_dataset": "leef",
        "leef_version": event.version,
        "cef_version": 0,
        "event_code": event.event_id,
        "cef_name": event.event_id,
        "cef_severity": severity,
        "event_severity": cef.severity_number(severity),
        "cef_extensions": attributes,
        "observer_product": event.device_product or None,
        "observer_version": event.device_version or None,
        "event_action": attributes.get("name") or event.event_id or None,
    }
    # What the operator said of the source stands where the device does not name its vendor.
    if event.device_vendor:
        fields["observer_vendor"] = event.device_vendor
    cef_fields.fill(fields, attributes, FIELDS)
    for key, (field, convert) in _SECOND_BEST.items():
        if field not in fields and (value := attributes.get(key)):
            fields[field] = value if convert is None else convert(value)
    rest = [f"{key}={value}" for key, value in attributes.items() if key not in cef_fields.COLUMN_KEYS]
    fields["cef_additional_extensions"] = ";".join(rest) or None
    for key, kind in (("isLoginEvent", "start"), ("isLogoutEvent", "end")):
        if attributes.get(key, "").lower() == "true":
            fields["event_category"], fields["event_type"] = ["authentication"], [kind]
    cef_fields.finish(fields, attributes, context)
    if (moment := _device_time(attributes, context)) is not None:
        fields["timestamp"] = moment
    return fields


def _device_time(attributes: dict[str, str], context: Context) -> int | None:
    """`devTime`, by the pattern in `devTimeFormat` where there is one and it fits."""
    text = attributes.get("devTime")
    if not text:
        return None
    pattern = attributes.get("devTimeFormat")
    moment = devicetime.parse_pattern(text, pattern, context.received_us) if pattern else None
    if moment is None:
        return cef_fields.to_microseconds(text, context.to_utc, context)
    return moment.microseconds if moment.zoned else context.to_utc(moment.microseconds)


def line(text: str, context: Context) -> Decoded | None:
    """A line that holds LEEF, behind whatever header. Raises LeefError (a ValueError) as `leef.parse`."""
    if "LEEF:" not in text or (start := leef.find(text)) < 0 or (start > 0 and not cef_fields.is_header(text[:start])):
        return None
    original = text[start:]
    fields = leef_fields(leef.parse(original), context)
    fields["event_original"] = original
    if start > 0:
        cef_fields.add_header(fields, text[:start], context)
    return "cef", fields


def document(document: dict[str, object], context: Context) -> Decoded | None:
    """A document whose `message` is a line of LEEF, as a shipper of log files sends it."""
    message = document.get("message")
    return line(message, context) if isinstance(message, str) else None
