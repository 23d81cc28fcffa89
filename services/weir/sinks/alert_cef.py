"""An alert as one syslog message: CEF in RFC 5424, no longer than the receiver and the WAN allow.

Keys after the "Micro Focus Security ArcSight Common Event Format" guide, "CEF Key Names For Event Producers". What does not fit is
left out in this order: evidence ids, then the ends of texts, last every key that does not identify the alert.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from typing import Any, Final

from weir import __version__
from weir.model.entities import ENTITIES
from weir.protocols.cef import format_cef
from weir.protocols.syslog import format_rfc5424

__all__ = ["MAX_ID_CHARACTERS", "alert_message", "event_message"]

MAX_ID_CHARACTERS: Final = 128
_LOG_ALERT: Final = 14  # facility, RFC 5424 table 1
_CEF_SEVERITY: Final = {"informational": 1, "low": 3, "medium": 5, "high": 8, "critical": 10}
_SYSLOG_SEVERITY: Final = {"informational": 6, "low": 5, "medium": 4, "high": 3, "critical": 2}  # RFC 5424 table 2
_TEXT_CHARACTERS: Final = 1023
_CUSTOM_STRING_CHARACTERS: Final = 4000
# Values that are of no use without their end.
_WHOLE: Final = frozenset({"externalId", "cs2"})
# (share of the evidence ids kept, characters of a text, only what identifies the alert)
_FITTINGS: Final = (
    (1.0, _TEXT_CHARACTERS, False),
    (0.5, _TEXT_CHARACTERS, False),
    (0.2, _TEXT_CHARACTERS, False),
    (0.0, _TEXT_CHARACTERS, False),
    (0.0, 512, False),
    (0.0, 256, False),
    (0.0, 128, False),
    (0.0, 64, False),
    (0.0, 32, True),
)
# Keys of event fields, by which alerts are grouped: ECS in snake case. Entities have theirs in `model.entities`.
_FIELD_KEYS: Final = {
    "user_name": "suser",
    "user_id": "suid",
    "user_domain": "sntdom",
    "source_user_name": "suser",
    "destination_user_name": "duser",
    "user_target_name": "duser",
    "host_name": "dhost",
    "host_hostname": "dhost",
    "destination_domain": "dhost",
    "source_domain": "shost",
    "file_path": "filePath",
    "file_name": "fname",
    "source_port": "spt",
    "destination_port": "dpt",
    "url_full": "request",
    "url_original": "request",
    "source_ip": "src",
    "client_ip": "src",
    "destination_ip": "dst",
    "server_ip": "dst",
}
_ENTITY_KEYS: Final = {**_FIELD_KEYS, **{name: entity.cef for name, entity in ENTITIES.items() if entity.cef}}
# The key of an IPv4 address: that of IPv6 with the label the guide gives it, and the key of a name that stands in its place.
_ADDRESS_KEYS: Final = {
    "src": ("c6a2", "Source IPv6 Address", "shost"),
    "dst": ("c6a3", "Destination IPv6 Address", "dhost"),
    "dvc": ("c6a1", "Device IPv6 Address", "dvchost"),
}
_PORT_KEYS: Final = frozenset({"spt", "dpt"})


def alert_message(record: Mapping[str, Any], *, max_bytes: int, max_evidence: int) -> bytes:
    """The message of one `alert` record, without a frame, at most `max_bytes` long.

    Args:
        record: decoded; times in integer microseconds UTC.
        max_bytes: at least 2048, which RFC 5425 section 4.3.1 tells every receiver to take.
        max_evidence: most event ids to send; the rest is counted, and `weir evidence` finds them all.

    Raises:
        ValueError: the alert has no id, or one that is too long to be sent whole.
    """
    _check_id("alert_id", record.get("alert_id"))
    message = b""
    for share, characters, bare in _FITTINGS:
        extension = _core(record)
        if not bare:
            extension |= _details(record, int(max_evidence * share))
        message = _write(
            class_id=str(record.get("rule_id") or "unknown"),
            name=str(record.get("rule_name") or record.get("rule_id") or "alert"),
            level=str(record.get("severity", "")),
            time_us=record.get("alert_created"),
            host=str(record.get("site", "")),
            extension=extension,
            characters=characters,
        )
        if len(message) <= max_bytes:
            return message
    raise ValueError(f"alert {record['alert_id']} takes {len(message)} bytes even without details; {max_bytes} are allowed")


def event_message(topic: str, record: Mapping[str, Any], *, max_bytes: int, site: str) -> bytes:
    """The message of an event record, for sites that allow more than alerts to cross: what it is, where it came from, its text."""
    _check_id("event_id", record.get("event_id"))
    message = b""
    for _, characters, bare in _FITTINGS:
        extension = {
            "externalId": str(record["event_id"]),
            "rt": _milliseconds(record.get("event_created")),
            "deviceExternalId": site,
        }
        if not bare:
            extension |= _entities({k: str(v) for k, v in record.items() if v not in (None, "") and k in _FIELD_KEYS})[0]
            extension["msg"] = str(record.get("message") or "")
        message = _write(
            class_id=topic,
            name=str(record.get("event_action") or topic),
            level="informational",
            time_us=record.get("event_created"),
            host=site,
            extension=extension,
            characters=characters,
        )
        if len(message) <= max_bytes:
            return message
    raise ValueError(f"event {record['event_id']} takes {len(message)} bytes even without details; {max_bytes} are allowed")


def _check_id(name: str, value: object) -> None:
    if not isinstance(value, str) or not value:
        raise ValueError(f"{name} is missing")
    if len(value) > MAX_ID_CHARACTERS:
        raise ValueError(f"{name} has {len(value)} characters; up to {MAX_ID_CHARACTERS} can be sent whole")


def _write(
    *, class_id: str, name: str, level: str, time_us: object, host: str, extension: Mapping[str, str], characters: int
) -> bytes:
    text = format_cef(
        device_vendor="Weir",
        device_product="Weir",
        device_version=__version__,
        device_event_class_id=class_id[:characters],
        name=name[: min(characters, 512)],
        severity=_CEF_SEVERITY.get(level, 5),
        extension={k: v if k in _WHOLE else v[:characters] for k, v in extension.items() if v},
    )
    return format_rfc5424(
        facility=_LOG_ALERT,
        severity=_SYSLOG_SEVERITY.get(level, 4),
        timestamp_us=time_us if isinstance(time_us, int) and 0 < time_us < _YEAR_10000_US else None,
        hostname=host[:characters] or None,
        app_name="weir",
        msg_id=class_id,
        message=text,
    )


_YEAR_10000_US: Final = 253_402_300_800_000_000


def _core(record: Mapping[str, Any]) -> dict[str, str]:
    return {
        "externalId": record["alert_id"],
        "act": str(record.get("state", "")),
        "cnt": str(record.get("event_count", 0)),
        "start": _milliseconds(record.get("first_seen")),
        "end": _milliseconds(record.get("last_seen")),
        "rt": _milliseconds(record.get("alert_created")),
        "deviceExternalId": str(record.get("site", "")),
        "cn1Label": "revision",
        "cn1": str(record.get("revision", 0)),
    }


def _details(record: Mapping[str, Any], evidence: int) -> dict[str, str]:
    # What the rule names goes before what it groups by: where both want one key, the entity says more.
    details, others = _entities({**record.get("entities", {}), **record.get("group_by", {})})
    if summary := record.get("summary"):
        details["msg"] = str(summary)
    if tactics := record.get("threat_tactic"):
        details["cat"] = ", ".join(tactics)
    if techniques := record.get("threat_technique_id"):
        details |= _labelled("cs1", "attackTechniques", " ".join(techniques))
    found = [str(item["event_id"]) for item in record.get("evidence", ())]
    if found and evidence:
        ids = found[:evidence]
        while len(text := " ".join(ids)) > _CUSTOM_STRING_CHARACTERS:
            ids = ids[: len(ids) // 2]
        details |= _labelled("cs2", "evidenceEventIds", text)
    if found:
        details |= _labelled("cn2", "evidenceCount", str(len(found)))
    if version := record.get("rule_version"):
        details |= _labelled("cs3", "ruleVersion", str(version))
    if others:
        details |= _labelled("cs4", "group", "; ".join(f"{name}: {value}" for name, value in sorted(others.items())))
    if kind := record.get("correlation_type"):
        details |= _labelled("cs5", "condition", f"{kind} {record.get('condition', '')}".rstrip())
        details |= _labelled("cfp1", "measured", f"{record.get('measured', 0.0):.15g}")
        details |= _labelled("cn3", "timespanSeconds", str(record.get("timespan_seconds", 0)))
    if values := record.get("values"):
        details |= _labelled("cs6", "values", ", ".join(map(str, values)))
    return details


def _labelled(key: str, label: str, value: str) -> dict[str, str]:
    return {f"{key}Label": label, key: value}


def _entities(entities: Mapping[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    """The keys of entities and group-by fields by name, and those that have none, or whose key another one has."""
    keys: dict[str, str] = {}
    others: dict[str, str] = {}
    for name, value in entities.items():
        key = _ENTITY_KEYS.get(name) or _ENTITY_KEYS.get(name.replace(".", "_"))
        label = ""
        if key in _ADDRESS_KEYS:
            key, label = _address_key(key, value)
        if key is None or keys.get(key, value) != value or (key in _PORT_KEYS and not value.isdecimal()):
            others[name] = value
            continue
        if label:
            keys[f"{key}Label"] = label
        keys[key] = value
    return keys, others


def _address_key(key: str, value: str) -> tuple[str, str]:
    """The key of what should be an address, and its label where it has one."""
    six, label, other = _ADDRESS_KEYS[key]
    try:
        address = ipaddress.ip_address(value)
    except ValueError:
        return other, ""
    return (key, "") if address.version == 4 else (six, label)


def _milliseconds(time_us: object) -> str:
    return str(time_us // 1000) if isinstance(time_us, int) and time_us > 0 else ""
