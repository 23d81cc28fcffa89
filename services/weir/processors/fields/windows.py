"""Windows event log records: logons of the Security log to authentication, all others to sensor."""

from __future__ import annotations

from typing import Any, Final

from weir.processors.fields import Context, Decoded
from weir.processors.fields.sensor import LARGE_DOCUMENT, document_fields, ecs_fields
from weir.protocols import beats, windows
from weir.protocols._values import child
from weir.protocols.windows_audits import AUDITS
from weir.protocols.windows_objects import base_name, object_fields

__all__ = ["document", "line", "name"]

name: Final = "windows"

_LABELS: Final = (
    "LogonProcessName", "LmPackageName", "ImpersonationLevel", "ElevatedToken", "LogonGuid", "TicketEncryptionType",
    "TicketOptions", "PreAuthType", "FailureReason", "TargetInfo",
)  # fmt: skip
"""Data that has no column of its own and that people search for; all else is in the document."""

_PACKAGES: Final = {"MICROSOFT_AUTHENTICATION_PACKAGE_V1_0": "NTLM"}
_MOVED: Final = ("source_ip", "source_port", "source_host", "user_name", "user_domain", "user_id", "process_name")


def line(text: str, context: Context) -> Decoded | None:
    """Only documents are read."""
    return None


def document(document: dict[str, object], context: Context) -> Decoded | None:
    """Dataset and fields of a Windows event; None for any other document.

    Raises BeatsError (a ValueError) for a document that is nested deeper than can be written.
    """
    event = windows.decode(document)
    if event is None:
        return None
    shipped = beats.shipping(document)
    rule = windows.LOGON_EVENTS.get(event.event_id) if windows.is_security(event) else None
    if rule is None:
        fields = document_fields(document, shipped, _module(event))
        _describe(fields, event)
        if "user_name" not in fields:
            _add_logger(fields, document)
        dataset = "sensor"
    else:
        fields = _logon(event, rule) | {"document": beats.to_json(document), "timestamp": shipped.timestamp}
        if "source_ip" not in fields or "user_name" not in fields:
            _add_moved(fields, document)
        dataset = "authentication"
    fields["observer_vendor"] = "Microsoft"
    fields["observer_product"] = "Windows"
    fields["event_code"] = str(event.event_id)
    fields["host_name"] = event.computer or shipped.host_name
    if fields["timestamp"] is None and (moment := event.time_us) is not None:
        fields["timestamp"] = moment[0] if moment[1] else context.to_utc(moment[0])
    said = shipped.message or event.data.get("Message")
    fields["message"] = said if len(fields["document"]) <= LARGE_DOCUMENT else None
    return dataset, fields


def _module(event: windows.WindowsEvent) -> str:
    channel = (event.channel or "").lower()
    return f"windows.{channel}" if channel else "windows"


def _describe(fields: dict[str, Any], event: windows.WindowsEvent) -> None:
    """What an event that is no logon says of user, host and outcome, where the shipper did not."""
    if fields["event_dataset"].startswith("windows."):
        fields["event_module"] = "windows"
    data = event.data
    for kind in ("Subject", "Target", ""):
        if "user_name" not in fields and (found := data.get(f"{kind}UserName") or (None if kind else data.get("User"))):
            user, domain = windows.split_user(found, data.get(f"{kind}DomainName"))
            _put(fields, user_name=user, user_domain=domain, user_id=data.get(f"{kind}UserSid") or data.get(f"{kind}Sid"))
    if "event_outcome" not in fields:
        _put(fields, event_outcome=event.outcome)
    if windows.is_security(event) and (audit := AUDITS.get(event.event_id)) is not None:
        fields["event_action"] = audit.action
        fields["event_category"], fields["event_type"] = list(audit.categories), list(audit.types)
    if "user_name" not in fields and (account := data.get("AccountName")):
        user, domain = windows.split_user(account, data.get("Domain"))
        _put(fields, user_name=user, user_domain=domain, user_id=data.get("UserID"))
    for name, value in object_fields(data).items():
        fields.setdefault(name, value)
    if "source_ip" not in fields:
        _put(fields, source_ip=windows.ip_of(data))


def _add_logger(fields: dict[str, Any], document: dict[str, object]) -> None:
    """Under which account the event was written, where its data names nobody: PowerShell, Sysmon, services."""
    user = child(document, "winlog.user")
    if isinstance(user, dict):
        name, domain, sid = (found if isinstance(found := user.get(key), str) else None for key in ("name", "domain", "identifier"))
        if name or sid:
            _put(fields, user_name=name or None, user_domain=domain or None, user_id=sid or None)


def _logon(event: windows.WindowsEvent, rule: windows.LogonRule) -> dict[str, Any]:
    data = event.data
    code, word = windows.logon_type(data)
    status, reason, succeeded = windows.reason_of(event)
    by_status = event.outcome if succeeded is None else "success" if succeeded else "failure"
    fields: dict[str, Any] = {
        "event_module": "windows",
        "event_dataset": "windows.security",
        "event_category": ["authentication"],
        "event_type": [rule.type],
        "event_action": rule.action,
        "event_outcome": rule.outcome or by_status or "unknown",
        "winlog_keywords": list(event.keywords),
    }
    user, domain = windows.split_user(data.get(f"{rule.user}UserName"), data.get(f"{rule.user}DomainName"))
    path = data.get("ProcessName")
    port = data.get("IpPort", "")
    host = data.get("WorkstationName") or data.get("Workstation")
    if event.event_id == 4740:
        # There it is no domain: the event's text calls it the caller computer name.
        host = data.get("TargetDomainName")
    package = data.get("AuthenticationPackageName")
    protocol = "NTLM" if "LmPackageName" in data else _PACKAGES.get(package, package) if package else rule.protocol
    _put(
        fields,
        user_name=user,
        user_domain=domain,
        user_id=data.get(f"{rule.user}UserSid") or data.get(f"{rule.user}Sid"),
        source_ip=windows.ip_of(data),
        source_port=int(port) if port.isascii() and port.isdigit() and len(port) <= 5 and int(port) < 65_536 else None,
        source_host=host.lstrip("\\") if host else None,
        destination_host=data.get("TargetServerName"),
        logon_type=word,
        logon_type_code=code,
        logon_id=data.get(f"{rule.user}LogonId"),
        authentication_protocol=protocol,
        service_name=data.get("ServiceName"),
        status_code=status,
        event_reason=reason,
        process_path=path,
        process_name=base_name(path) if path else None,
        winlog_channel=event.channel,
        winlog_provider=event.provider,
        winlog_record_id=event.record_id,
        labels={label: data[label] for label in _LABELS if label in data} or None,
    )
    if rule.acted_on is not None:
        user, domain = windows.split_user(data.get(f"{rule.acted_on}UserName"), data.get(f"{rule.acted_on}DomainName"))
        _put(
            fields,
            destination_user_name=user,
            destination_user_domain=None if event.event_id == 4740 else domain,
            destination_user_id=data.get(f"{rule.acted_on}UserSid") or data.get(f"{rule.acted_on}Sid"),
        )
    return fields


def _add_moved(fields: dict[str, Any], document: dict[str, object]) -> None:
    """Winlogbeat's own module moves some of an event's data into ECS fields: there they are read."""
    found = ecs_fields(document)
    for column in _MOVED:
        if column not in fields and column in found:
            fields[column] = found[column]


def _put(fields: dict[str, Any], **values: Any) -> None:
    fields.update({column: value for column, value in values.items() if value is not None})
