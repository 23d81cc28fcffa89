"""A syslog message as fields of events.syslog: what its header says, and what its maker is known to write."""

from __future__ import annotations

import re
from typing import Any

import orjson

from weir.processors.fields import Context
from weir.processors.fields.devices import device_fields
from weir.protocols import syslog

__all__ = ["message_fields"]

# What stays in front of an unparsed message, with the colon that Cisco's EMBLEM format has behind it.
_PRI = re.compile(r"(?:[0-9]{1,9} )?<[0-9]{1,3}>:? ?")


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
    found = device_fields(message, text, context)
    if found is not None:
        if message.format == "unparsed":
            fields["message"] = text
        fields |= found
    return fields
