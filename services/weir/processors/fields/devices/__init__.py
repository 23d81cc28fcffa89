"""Messages of network devices and of Unix's programs as fields of events.syslog: one module a vendor.

Each has a function `fields(message, text, context)`. `text` is the message without the PRI that stays in front where nothing of a
header conforms. It answers the fields that it adds to those of any message, or None where the message is not the vendor's.
"""

from __future__ import annotations

from typing import Any

from weir.processors.fields import Context
from weir.processors.fields.devices import cisco, fortinet, juniper, paloalto, unix
from weir.protocols import syslog

__all__ = ["device_fields"]


def device_fields(message: syslog.SyslogMessage, text: str, context: Context) -> dict[str, Any] | None:
    """What a known maker's message says; None for all others. Each test is cheap where it fails."""
    if (found := unix.fields(message, text, context)) is not None:
        return found
    if (found := paloalto.fields(message, text, context)) is not None:
        return found
    if (found := fortinet.fields(message, text, context)) is not None:
        return found
    if (found := juniper.fields(message, text, context)) is not None:
        return found
    if (found := cisco.fields(message, text, context)) is not None:
        return found
    return unix.known_program(message, text)
