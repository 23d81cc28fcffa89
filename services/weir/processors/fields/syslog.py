"""A syslog message of no known application, as fields of events.syslog."""

from __future__ import annotations

from typing import Any

import orjson

from weir.protocols import syslog

__all__ = ["message_fields"]


def message_fields(message: syslog.SyslogMessage) -> dict[str, Any]:
    """Event fields; time, host, facility and severity are the processor's to set, for every dataset alike."""
    structured = orjson.dumps(message.structured_data).decode() if message.structured_data else None
    return {
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
