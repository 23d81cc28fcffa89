"""FortiGate's messages, by its keys. Source: "FortiOS Log Message Reference"."""

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
    sha1,
    sha256,
    status,
    text,
    time_us,
    transport,
    user,
)  # fmt: skip
from weir.protocols import syslog
from weir.protocols.devices import fortinet

__all__ = ["fields"]


def _seconds(value: str) -> int | None:
    seconds = integer(value)
    return None if seconds is None or seconds > 9_000_000_000 else seconds * 1_000_000_000


def _not_unset(value: str) -> str | None:
    """An address; 0.0.0.0 is written where nothing was translated."""
    found = address(value)
    return None if found in {"0.0.0.0", "::"} else found


_NAMES_OF_TODAY: Final[Table] = {
    "devname": (("host_name", text),),
    "srcip": (("source_ip", address),),
    "src": (("source_ip", address),),
    "srcport": (("source_port", port),),
    "src_port": (("source_port", port),),
    "srcname": (("source_host", text),),
    "srcmac": (("source_mac", mac),),
    "dstip": (("destination_ip", address),),
    "dst": (("destination_ip", address),),
    "dstport": (("destination_port", port),),
    "dst_port": (("destination_port", port),),
    "dstname": (("destination_host", text),),
    "dstmac": (("destination_mac", mac),),
    "remip": (("source_ip", address),),
    "locip": (("destination_ip", address),),
    "remport": (("source_port", port),),
    "locport": (("destination_port", port),),
    "tranip": (("destination_nat_ip", _not_unset),),
    "tranport": (("destination_nat_port", port),),
    "transip": (("source_nat_ip", _not_unset),),
    "transport": (("source_nat_port", port),),
    "srcintf": (("observer_ingress_interface", text),),
    "dstintf": (("observer_egress_interface", text),),
    "sentbyte": (("source_bytes", integer),),
    "rcvdbyte": (("destination_bytes", integer),),
    "sentpkt": (("source_packets", integer),),
    "rcvdpkt": (("destination_packets", integer),),
    "duration": (("event_duration", _seconds),),
    "action": (("event_action", text), ("device_action", text)),
    "logid": (("event_code", text),),
    "log_id": (("event_code", text),),
    "msg": (("event_reason", text),),
    "reason": (("event_reason", text),),
    "policyid": (("rule_id", text),),
    "policyname": (("rule_name", text),),
    "catdesc": (("rule_category", text),),
    "app": (("network_application", lower),),
    "service": (("network_protocol", lower),),
    "hostname": (("url_domain", text),),
    "qname": (("dns_question_name", text),),
    "url": (("url_original", text),),
    "agent": (("user_agent_original", text),),
    "httpmethod": (("http_request_method", text),),
    "httpcode": (("http_response_status_code", status),),
    "filename": (("file_name", text),),
    "filesize": (("file_size", integer),),
    "analyticscksum": (("file_hash_sha256", sha256), ("file_hash_sha1", sha1), ("file_hash_md5", md5)),
    "filehash": (("file_hash_sha256", sha256), ("file_hash_sha1", sha1), ("file_hash_md5", md5)),
    "virus": (("threat_name", text),),
    "attack": (("threat_name", text),),
    "attackname": (("threat_name", text),),
    "dstuser": (("destination_user_name", text),),
}

# What FortiOS 4.3 called some of them ("FortiGate Log Message Reference 5.0", field name changes).
_FORMER: Final = {
    "rem_ip": "remip", "loc_ip": "locip", "rem_port": "remport", "loc_port": "locport", "tran_ip": "tranip",
    "tran_port": "tranport", "tran_sip": "transip", "tran_sport": "transport", "src_int": "srcintf", "dst_int": "dstintf",
    "sent": "sentbyte", "rcvd": "rcvdbyte", "sent_pkt": "sentpkt", "rcvd_pkt": "rcvdpkt", "attack_name": "attack",
    "cat_desc": "catdesc",
}  # fmt: skip
TABLE: Final[Table] = {**_NAMES_OF_TODAY, **{former: _NAMES_OF_TODAY[name] for former, name in _FORMER.items()}}

# level: syslog's severity (FortiOS uses syslog's own words)
_LEVELS: Final = {
    "emergency": 0, "alert": 1, "critical": 2, "error": 3, "warning": 4, "notice": 5, "information": 6, "debug": 7,
}  # fmt: skip
_REFUSED: Final = frozenset({
    "deny", "denied", "block", "blocked", "dropped", "drop", "reset", "clear_session", "server-rst-block", "quarantine",
    "client-rst-block", "detected-block", "blocked-by-policy",
})  # fmt: skip
_PASSED: Final = frozenset({"pass", "passthrough", "passthru", "accept", "allow", "permit", "bypass", "exempt", "monitored"})
_SUCCESS: Final = frozenset({"success", "succeeded", "ok"})
_SUBTYPES: Final = {
    "ips": "intrusion_detection",
    "anomaly": "intrusion_detection",
    "virus": "malware",
    "webfilter": "web",
    "dns": "network",
}


_ZONE = re.compile(r"(?:UTC|GMT)?([+-])([0-9]{1,2}):?([0-9]{2})\Z")  # -0500, UTC+2:00


def fields(message: syslog.SyslogMessage, body: str, context: Context) -> dict[str, Any] | None:
    """Fields of a FortiGate's message; None for another's."""
    pairs = fortinet.read_fortinet(body)
    if pairs is None:
        return None
    found = {
        "event_module": "fortinet",
        "event_dataset": "fortinet.fortigate",
        "observer_vendor": "Fortinet",
        "observer_product": "FortiGate",
        "log_syslog_fields": pairs,
        **fill(pairs, TABLE),
    }
    for name in ("user", "xauthuser", "unauthuser", "initiator"):
        if name in pairs and found.get("user_name") is None:
            found |= user(pairs[name])
    if "proto" in pairs:
        found |= transport(pairs["proto"])
    if (severity := _LEVELS.get(pairs.get("level") or pairs.get("pri", ""))) is not None:
        found["event_severity"] = severity
    found |= _kind(pairs)
    if (moment := _time(pairs, message, context)) is not None:
        found["timestamp"] = moment
    return found


def _kind(pairs: dict[str, str]) -> dict[str, Any]:
    action = pairs.get("action", "")
    refused = action in _REFUSED or pairs.get("utmaction") in _REFUSED
    result = (pairs.get("status") or pairs.get("result") or "").lower()
    outcome: str | None = None
    if refused or result in {"failed", "failure", "fail", "error"}:
        outcome = "failure"
    elif result in _SUCCESS or pairs.get("type") == "traffic" or action in _PASSED or "cfgpath" in pairs:
        outcome = "success"
    if pairs.get("type") == "event":
        login = action.lower() in {"login", "logout", "authentication"} or pairs.get("subtype") == "user"
        category = ["authentication"] if login else ["configuration"] if "cfgpath" in pairs else ["network"]
        types = ["end"] if action == "logout" else ["start"] if login else ["change"] if "cfgpath" in pairs else ["info"]
    else:
        extra = _SUBTYPES.get(pairs.get("subtype", ""))
        category = ["network"] if extra in {None, "network"} else ["network", str(extra)]
        ended = pairs.get("type") == "traffic" and action in {"close", "timeout", "client-rst", "server-rst", "ip-conn"}
        types = ["connection", "denied"] if refused else ["connection", "end"] if ended else ["connection", "allowed"]
    kind = "alert" if pairs.get("subtype") in {"ips", "anomaly", "virus"} else "event"
    return {"event_kind": kind, "event_category": category, "event_type": types, "event_outcome": outcome}


def _time(pairs: dict[str, str], message: syslog.SyslogMessage, context: Context) -> int | None:
    """eventtime, which is UTC; else the device's date and time with the zone it names, or in the zone of the source."""
    if (moment := fortinet.event_time_us(pairs.get("eventtime", ""))) is not None:
        return moment
    if "date" not in pairs or "time" not in pairs:
        return None
    zone = _ZONE.match(pairs.get("tz", ""))
    offset = f"{zone[1]}{zone[2]:0>2}:{zone[3]}" if zone is not None else ""
    written = time_us(f"{pairs['date']}T{pairs['time']}{offset}")
    if written is None:
        return None
    if written[1]:
        return written[0]
    return None if best_time(message) else context.to_utc(written[0])
