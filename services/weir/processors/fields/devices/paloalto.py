"""PAN-OS messages, by their columns. Source: "PAN-OS Administrator's Guide", Syslog Field Descriptions."""

from __future__ import annotations

import re
from typing import Any, Final

from weir.processors.fields import Context
from weir.processors.fields.devices.table import (
    Table,
    address,
    best_time,
    fill,
    integer,
    lower,
    mac,
    md5,
    port,
    sha256,
    text,
    time_us,
    transport,
    user,
)  # fmt: skip
from weir.protocols import syslog
from weir.protocols.devices import paloalto

__all__ = ["fields"]


def _translated(value: str) -> str | None:
    """An address; 0.0.0.0 and :: stand where nothing was translated."""
    found = address(value)
    return None if found in {"0.0.0.0", "::"} else found


def _translated_port(value: str) -> int | None:
    return port(value) or None


def _seconds(value: str) -> int | None:
    seconds = integer(value)
    return None if seconds is None or seconds > 9_000_000_000 else seconds * 1_000_000_000


_ENDS: Final[Table] = {
    "src": (("source_ip", address),),
    "dst": (("destination_ip", address),),
    "sport": (("source_port", port),),
    "dport": (("destination_port", port),),
    "natsrc": (("source_nat_ip", _translated),),
    "natdst": (("destination_nat_ip", _translated),),
    "natsport": (("source_nat_port", _translated_port),),
    "natdport": (("destination_nat_port", _translated_port),),
    "from": (("observer_ingress_zone", text),),
    "to": (("observer_egress_zone", text),),
    "inbound_if": (("observer_ingress_interface", text),),
    "outbound_if": (("observer_egress_interface", text),),
    "rule": (("rule_name", text),),
    "rule_uuid": (("rule_id", text),),
    "app": (("network_application", lower),),
    "action": (("event_action", text), ("device_action", text)),
    "src_host": (("source_host", text),),
    "dst_host": (("destination_host", text),),
    "src_mac": (("source_mac", mac),),
    "dst_mac": (("destination_mac", mac),),
    "device_name": (("host_name", text),),
}
_TABLES: Final[dict[str, Table]] = {
    "TRAFFIC": {
        **_ENDS,
        "bytes": (("network_bytes", integer),),
        "bytes_sent": (("source_bytes", integer),),
        "bytes_received": (("destination_bytes", integer),),
        "packets": (("network_packets", integer),),
        "pkts_sent": (("source_packets", integer),),
        "pkts_received": (("destination_packets", integer),),
        "elapsed": (("event_duration", _seconds),),
        "session_end_reason": (("event_reason", text),),
        "category": (("rule_category", text),),
    },
    "THREAT": {
        **_ENDS,
        "threatid": (("threat_name", text), ("event_code", text)),
        "category": (("rule_category", text),),
        "http_method": (("http_request_method", lower),),
        "user_agent": (("user_agent_original", text),),
        "filedigest": (("file_hash_sha256", sha256), ("file_hash_md5", md5)),
        "reason": (("event_reason", text),),
    },
    "SYSTEM": {
        "eventid": (("event_code", text), ("event_action", text)),
        "opaque": (("event_reason", text),),
        "device_name": (("host_name", text),),
    },
    "CONFIG": {
        "host": (("source_ip", address),),
        "cmd": (("event_action", text), ("device_action", text)),
        "device_name": (("host_name", text),),
    },
    "HIPMATCH": {
        "src": (("source_ip", address),),
        "srcipv6": (("source_ip", _translated),),
        "machinename": (("source_host", text),),
        "matchname": (("rule_name", text),),
        "mac": (("source_mac", mac),),
        "device_name": (("host_name", text),),
    },
    "GLOBALPROTECT": {
        "eventid": (("event_code", text), ("event_action", text)),
        "private_ip": (("source_ip", _translated),),
        "private_ipv6": (("source_ip", _translated),),
        "public_ip": (("source_nat_ip", _translated),),
        "public_ipv6": (("source_nat_ip", _translated),),
        "machinename": (("source_host", text),),
        "reason": (("event_reason", text),),
        "error": (("event_reason", text),),
        "login_duration": (("event_duration", _seconds),),
        "device_name": (("host_name", text),),
    },
    "USERID": {
        "ip": (("source_ip", address),),
        "beginport": (("source_port", _translated_port),),
        "endport": (("destination_port", _translated_port),),
        "subtype": (("event_action", text),),
        "eventid": (("event_code", text),),
        "device_name": (("host_name", text),),
    },
    "AUTHENTICATION": {
        "ip": (("source_ip", address),),
        "event": (("event_action", text),),
        "desc": (("event_reason", text),),
        "authpolicy": (("rule_name", text),),
        "user_agent": (("user_agent_original", text),),
        "device_name": (("host_name", text),),
    },
    "DECRYPTION": _ENDS,
}
_TABLES["HIP-MATCH"] = _TABLES["HIPMATCH"]

_USERS: Final = {"TRAFFIC": "srcuser", "THREAT": "srcuser", "DECRYPTION": "srcuser", "GLOBALPROTECT": "srcuser",
 "HIPMATCH": "srcuser",
                 "HIP-MATCH": "srcuser", "CONFIG": "admin", "USERID": "user", "AUTHENTICATION": "user"}  # fmt: skip
_KINDS: Final[dict[str, tuple[tuple[str, ...], tuple[str, ...]]]] = {
    "THREAT": (("network", "intrusion_detection"), ("info",)),
    "SYSTEM": (("host",), ("info",)),
    "CONFIG": (("configuration",), ("change",)),
    "HIPMATCH": (("host",), ("info",)),
    "HIP-MATCH": (("host",), ("info",)),
    "GLOBALPROTECT": (("session",), ("info",)),
    "USERID": (("iam",), ("user", "info")),
    "AUTHENTICATION": (("authentication",), ("info",)),
    "DECRYPTION": (("network",), ("connection", "info")),
}
_TRAFFIC: Final = {"start": ("connection", "start"), "end": ("connection", "end"), "drop": ("connection", "denied"),
                   "deny": ("connection", "denied")}  # fmt: skip
_PASSED: Final = frozenset({"allow", "alert", "continue", "override", "allow-continue", "sinkhole"})
_SEVERITIES: Final = {"informational": 6, "low": 5, "medium": 4, "high": 3, "critical": 2}
"""PAN-OS's severities as syslog's, as its own syslog headers have them: those of the vendor's table "Syslog Severity"."""
# "HTTP: IIS Denial Of Service Attempt(40019)": the threat's name and number.
_THREAT = re.compile(r"(.*?) ?\(([0-9]+)\)\Z")
_SYSTEM_LOGINS: Final = {"auth-success": "success", "auth-fail": "failure"}


def fields(message: syslog.SyslogMessage, body: str, context: Context) -> dict[str, Any] | None:
    """Fields of a PAN-OS message; None for another's."""
    event = paloalto.read_panos(body)
    if event is None:
        return None
    columns = event.columns
    found: dict[str, Any] = {
        "event_module": "paloalto",
        "event_dataset": "paloalto.panos",
        "observer_vendor": "Palo Alto Networks",
        "observer_product": "PAN-OS",
        "log_syslog_fields": columns,
        "labels": {"panos_type": event.type, "panos_subtype": event.subtype},
        **fill(columns, _TABLES.get(event.type, {"device_name": (("host_name", text),)})),
    }
    if (column := columns.get(_USERS.get(event.type, ""))) is not None:
        found |= user(column)
    if "dstuser" in columns:
        found |= user(columns["dstuser"], name="destination_user_name", domain="destination_user_domain")
    if "proto" in columns:
        found |= transport(columns["proto"])
    if (severity := _SEVERITIES.get(columns.get("severity", ""))) is not None:
        found["event_severity"] = severity
    found |= _kind(event)
    if event.type == "GLOBALPROTECT" and "source_ip" not in found:
        # Before the tunnel is up there is but the address that the gateway sees.
        found["source_ip"] = found.pop("source_nat_ip", None)
    if event.type == "SYSTEM":
        found |= _login(columns.get("opaque", ""))
    if event.type == "THREAT":
        found |= _threat(event)
    elif event.type == "TRAFFIC" and (start := time_us(columns.get("start", ""))) is not None:
        found["event_start"] = start[0] if start[1] else context.to_utc(start[0])
    if (moment := _time(columns, message, context)) is not None:
        found["timestamp"] = moment
    return found


def _kind(event: paloalto.PanosMessage) -> dict[str, Any]:
    columns = event.columns
    category, types = _KINDS.get(event.type, (("network",), _TRAFFIC.get(event.subtype, ("connection", "info"))))
    outcome: str | None = None
    if "action" in columns:
        passed = columns["action"] in _PASSED
        outcome = "success" if passed else "failure"
        if not passed and types[0] in {"connection", "info"}:
            types = ("connection", "denied") if event.type == "TRAFFIC" else ("denied",)
    elif event.type == "CONFIG":
        outcome = {"Succeeded": "success", "Failed": "failure", "Unauthorized": "failure"}.get(columns.get("result", ""))
    elif event.type == "GLOBALPROTECT":
        outcome = {"success": "success", "failure": "failure"}.get(columns.get("status", ""))
        if columns.get("eventid", "").endswith("auth") or columns.get("stage") == "login":
            category, types = ("authentication", "session"), ("start",)
    elif event.type == "SYSTEM" and (outcome := _SYSTEM_LOGINS.get(columns.get("eventid", ""))) is not None:
        category, types = ("authentication",), ("start",)
    return {"event_category": list(category), "event_type": list(types), "event_outcome": outcome}


def _threat(event: paloalto.PanosMessage) -> dict[str, Any]:
    """The column `misc` is a URL or the name of a file, by the subtype; threat ids have their name in front."""
    columns = event.columns
    found: dict[str, Any] = {"event_kind": "event" if event.subtype in {"url", "file", "data"} else "alert"}
    if (named := _THREAT.match(columns.get("threatid", ""))) is not None:
        found |= {"threat_name": text(named[1]), "event_code": named[2]}
    misc = columns.get("misc")
    if misc is not None:
        if event.subtype in {"url", "vulnerability", "spyware"}:
            found["url_original"] = misc
            found["url_domain"] = misc.split("://", 1)[-1].partition("/")[0].partition(":")[0] if event.subtype == "url" else None
        else:
            found["file_name"] = misc
    if event.subtype in {"virus", "wildfire", "wildfire-virus"}:
        found["event_category"] = ["network", "malware"]
    elif event.subtype == "url":
        found["event_category"] = ["network", "web"]
    return found


# Who logs in stands in a sentence alone: "failed authentication for user 'ann'. Reason: … auth profile 'x', …, From: 192.0.2.7."
_USER = re.compile(
    r"\bauthenticat(?:ed|ion) for user '([^']{1,255})'|\A[Uu]ser '?([^\s']{1,255}+)'? (?:logged (?:in|out)|failed auth)"
)
_REASON = re.compile(r"\bReason: ([^.]{1,200}\.?)")
_FROM = re.compile(r"\b[Ff]rom:? ([0-9A-Fa-f.:]{3,45})")


def _login(sentence: str) -> dict[str, Any]:
    who = _USER.search(sentence, 0, 2048)
    if who is None:
        return {}
    found = user(who[1] or who[2])
    if (reason := _REASON.search(sentence, who.end(), 2048)) is not None:
        found["event_reason"] = reason[1]
    if (origin := _FROM.search(sentence, who.end(), 2048)) is not None:
        found["source_ip"] = address(origin[1].rstrip("."))
    return found


def _time(columns: dict[str, str], message: syslog.SyslogMessage, context: Context) -> int | None:
    """The time with its zone where PAN-OS 10 writes one, else the time of generation in the zone of the source."""
    precise = time_us(columns.get("high_res_timestamp", ""))
    if precise is not None and precise[1]:
        return precise[0]
    if best_time(message):
        return None
    written = time_us(columns.get("time_generated") or columns.get("receive_time", ""))
    return None if written is None else context.to_utc(written[0])
