"""From a CEF extension to event fields, by table.

Keys and their meaning: ArcSight Common Event Format, "CEF Key Names For Event Producers"; which of them have a column of their own
in CommonSecurityLog: Microsoft, "CEF and CommonSecurityLog field mapping".
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Final

from weir.processors.localtime import ToUtc
from weir.protocols import cef, kemp

__all__ = ["cef_fields"]


def _integer(text: str) -> int | None:
    return int(text) if text.isdecimal() and len(text) < 19 else None


def _port(text: str) -> int | None:
    return int(text) if text.isdecimal() and len(text) < 6 and int(text) < 65536 else None


def _text(text: str) -> str | None:
    return text or None


def _lower(text: str) -> str | None:
    return text.lower() or None


# CEF key: (event field, conversion). A value that does not convert stays in cef_extensions alone.
FIELDS: Final[dict[str, tuple[str, Callable[[str], Any]]]] = {
    "src": ("source_ip", _text),
    "spt": ("source_port", _port),
    "dst": ("destination_ip", _text),
    "dpt": ("destination_port", _port),
    "proto": ("network_transport", _lower),
    "app": ("network_application", _text),
    "suser": ("user_name", _text),
    "sntdom": ("user_domain", _text),
    "duser": ("destination_user_name", _text),
    "shost": ("source_host", _text),
    "dhost": ("destination_host", _text),
    "in": ("source_bytes", _integer),
    "out": ("destination_bytes", _integer),
    "requestMethod": ("http_request_method", _text),
    "request": ("url_original", _text),
    "requestClientApplication": ("user_agent_original", _text),
    "fname": ("file_name", _text),
    "filePath": ("file_path", _text),
    "reason": ("event_reason", _text),
    "act": ("device_action", _text),
    "msg": ("message", _text),
    "dvchost": ("host_name", _text),
}

# Keys that CommonSecurityLog has a column for; everything else lands in its AdditionalExtensions.
COLUMN_KEYS: Final = frozenset(
    """
    act app c6a1 c6a1Label c6a2 c6a2Label c6a3 c6a3Label c6a4 c6a4Label cat cfp1 cfp1Label cfp2 cfp2Label cfp3 cfp3Label
    cfp4 cfp4Label cn1 cn1Label cn2 cn2Label cn3 cn3Label cnt cs1 cs1Label cs2 cs2Label cs3 cs3Label cs4 cs4Label cs5
    cs5Label cs6 cs6Label destinationDnsDomain destinationServiceName destinationTranslatedAddress destinationTranslatedPort
    deviceCustomDate1 deviceCustomDate1Label deviceCustomDate2 deviceCustomDate2Label deviceDirection deviceDnsDomain
    deviceExternalId deviceFacility deviceInboundInterface deviceNtDomain deviceOutboundInterface devicePayloadId
    deviceProcessName deviceTranslatedAddress dhost dmac dntdom dpid dpriv dproc dpt dst dtz duid duser dvc dvchost dvcmac
    dvcpid end externalId fileCreateTime fileHash fileId fileModificationTime filePath filePermission fileType flexDate1
    flexDate1Label flexNumber1 flexNumber1Label flexNumber2 flexNumber2Label flexString1 flexString1Label flexString2
    flexString2Label fname fsize in msg oldFileCreateTime oldFileHash oldFileId oldFileModificationTime oldFileName
    oldFilePath oldFilePermission oldFileSize oldFileType out outcome proto reason request requestClientApplication
    requestContext requestCookies requestMethod rt shost smac sntdom sourceDnsDomain sourceServiceName
    sourceTranslatedAddress sourceTranslatedPort spid spriv sproc spt src start suid suser type
    """.split()  # noqa: SIM905 - a list of 130 quoted names is harder to read
)

_OUTCOMES: Final = {
    "success": "success",
    "succeeded": "success",
    "ok": "success",
    "allow": "success",
    "allowed": "success",
    "failure": "failure",
    "failed": "failure",
    "fail": "failure",
    "deny": "failure",
    "denied": "failure",
    "blocked": "failure",
}
_LONGEST_TIME: Final = len("Sep 21 2026 14:13:20.123456")
_LEEWAY = re.compile(r"\s+")


def _time(text: str, to_utc: ToUtc) -> int | None:
    """CEF times: milliseconds since 1970, or "MMM dd yyyy HH:mm:ss[.SSS] [zone]"; microseconds UTC, None for anything else."""
    if text.isdecimal():
        return int(text) * 1000 if len(text) == 13 else int(text) * 1_000_000 if len(text) == 10 else None
    moment = " ".join(_LEEWAY.split(text.strip())[:4])
    written = _written_time(moment) if len(moment) <= _LONGEST_TIME else None
    return None if written is None else to_utc(written)


@lru_cache(maxsize=1024)
def _written_time(text: str) -> int | None:
    """A time as if it were written in UTC. Times of whole seconds come again and again, and to read one takes as long as all the
    rest of its line.
    """
    pattern = "%b %d %Y %H:%M:%S.%f" if "." in text else "%b %d %Y %H:%M:%S"
    try:
        naive = datetime.strptime(text, pattern).replace(tzinfo=UTC)
    except ValueError:
        return None
    return int(naive.timestamp() * 1_000_000)


def cef_fields(event: cef.CefEvent, to_utc: ToUtc) -> dict[str, Any]:
    """Event fields of a CEF record, vendor specific ones included; `to_utc` is for times, which name no zone."""
    extension = event.extension
    fields: dict[str, Any] = {
        "event_module": _LEEWAY.sub("-", event.device_vendor.lower()) or "cef",
        "event_dataset": "cef",
        "cef_version": int(event.version.partition(".")[0]),
        "event_code": event.device_event_class_id,
        "cef_name": event.name,
        "cef_severity": event.severity,
        "event_severity": cef.severity_number(event.severity),
        "cef_extensions": extension,
        "observer_product": event.device_product or None,
        "observer_version": event.device_version or None,
        "event_action": event.name or None,
    }
    # What the operator said of the source stands where the device does not name its vendor.
    if event.device_vendor:
        fields["observer_vendor"] = event.device_vendor
    for key, value in extension.items():
        if (target := FIELDS.get(key)) is not None and (converted := target[1](value)) is not None:
            fields[target[0]] = converted
    if (outcome := extension.get("outcome")) is not None:
        fields["event_outcome"] = _OUTCOMES.get(outcome.lower(), "unknown")
    for key in ("rt", "end", "start"):
        if (text := extension.get(key)) is not None and (time := _time(text, to_utc)) is not None:
            fields["timestamp"] = time
            break
    if (known := kemp.decode(event)) is not None:
        _add_kemp(fields, event, known)
    else:
        rest = [f"{key}={value}" for key, value in extension.items() if key not in COLUMN_KEYS]
        fields["cef_additional_extensions"] = ";".join(rest) or None
    return fields


def _add_kemp(fields: dict[str, Any], event: cef.CefEvent, known: kemp.KempEvent) -> None:
    fields["event_module"] = "kemp"
    fields["event_dataset"] = "kemp.esp"
    fields["cef_additional_extensions"] = kemp.additional_extensions(event) or None
    own = (
        ("kemp_event", known.event),
        ("kemp_virtual_service_ip", known.virtual_service_ip),
        ("kemp_virtual_service_port", known.virtual_service_port),
        ("kemp_resource", known.resource),
        ("kemp_dt_code", known.dt_code),
        ("kemp_awaiting_address", known.awaiting_address),
        ("kemp_result", known.result),
        ("source_ip", known.source_ip),
        ("source_port", known.source_port),
        ("destination_ip", known.destination_ip),
        ("destination_port", known.destination_port),
        ("http_request_method", known.method),
        ("url_original", known.url),
        ("user_name", known.user),
        ("user_domain", known.domain),
        ("destination_host", known.server),
        ("network_application", known.protocol),
        ("user_agent_original", known.user_agent),
        ("message", known.message),
    )
    fields |= {target: value for target, value in own if value is not None}
    if known.result:
        fields["event_outcome"] = _OUTCOMES.get(known.result.lower(), "unknown")
