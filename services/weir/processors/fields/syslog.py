"""A syslog message as fields of events.syslog: what its header says, and what its maker is known to write."""

from __future__ import annotations

import re
from typing import Any, Final

import orjson

from weir.processors.fields import Context
from weir.processors.fields.devices import device_fields
from weir.protocols import syslog

__all__ = ["add_header", "message_fields"]

# What stays in front of an unparsed message, with the colon that Cisco's EMBLEM format has behind it.
_PRI = re.compile(r"(?:[0-9]{1,9} )?<[0-9]{1,3}>:? ?")


_WITHOUT_PRIORITY: Final = frozenset({"network-flow"})
"""Datasets that have no fields for a syslog priority."""


def add_header(dataset: str, fields: dict[str, Any], message: syslog.SyslogMessage) -> None:
    """Put what the header says into an event of the message: priority, and time and host where the message tells none itself."""
    if fields.get("timestamp") is None:
        fields["timestamp"] = message.timestamp_us
    if fields.get("host_name") is None:
        fields["host_name"] = message.hostname
    if dataset not in _WITHOUT_PRIORITY:
        fields["log_syslog_facility"] = message.facility
        fields["log_syslog_severity"] = message.severity


def message_fields(message: syslog.SyslogMessage, context: Context) -> dict[str, Any]:
    """Event fields; host, facility, severity and, unless the device tells better, time are the processor's to set."""
    structured = orjson.dumps(message.structured_data).decode() if message.structured_data else None
    fields: dict[str, Any] = {
        "event_kind": "event",
        "event_module": "syslog",
        "event_dataset": "syslog",
        "event_severity": message.severity,
        "message": message.message,
        "log_syslog_version": message.format,
        "process_name": message.app_name,
        "process_pid": message.proc_id,
        "log_syslog_msgid": message.msg_id,
        "log_syslog_structured_data": structured,
    }
    if message.device is not None:
        fields["log_syslog_fields"] = message.device
    text = message.message
    if message.format == "unparsed" and (pri := _PRI.match(text)) is not None:
        text = text[pri.end() :]
    # rsyslog counts the space behind the colon of a tag to the message, and puts its own in front where it forwards one.
    text = text.lstrip(" ")
    found = device_fields(message, text, context)
    if found is not None:
        if message.format == "unparsed":
            fields["message"] = text
        fields |= found
        _complete(fields, message.timestamp_us)
    return fields


def _complete(fields: dict[str, Any], written_us: int | None) -> None:
    """What follows from what a maker's message says: kind of addresses, sums over both directions, begin and end."""
    address = fields.get("source_ip") or fields.get("destination_ip")
    if address is not None:
        fields["network_type"] = "ipv6" if ":" in address else "ipv4"
    for total, forth, back in (
        ("network_bytes", fields.get("source_bytes"), fields.get("destination_bytes")),
        ("network_packets", fields.get("source_packets"), fields.get("destination_packets")),
    ):
        if forth is not None and back is not None and fields.get(total) is None:
            fields[total] = forth + back
    duration = fields.get("event_duration")
    if duration is None or "end" not in fields.get("event_type", ()):
        return
    # What has ended is told when it ends, unless the message says when it began.
    started = fields.get("event_start")
    ended = fields.get("timestamp") or written_us
    if started is not None:
        fields["event_end"] = started + duration // 1000
    elif ended is not None:
        fields |= {"event_start": ended - duration // 1000, "event_end": ended}
