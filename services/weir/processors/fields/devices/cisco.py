"""Cisco's messages as fields of events.syslog: ASA and FTD by message number, IOS and its kin by mnemonic, Stealthwatch."""

from __future__ import annotations

import re
from typing import Any, Final

from weir.processors.fields import Context
from weir.processors.fields.devices.table import (
    Table,
    address,
    best_time,
    duration_ns,
    fill,
    integer,
    lower,
    mac,
    port,
    sha256,
    status,
    text,
    time_us,
    transport,
    user,
)  # fmt: skip
from weir.protocols import syslog
from weir.protocols.devices import cisco, cisco_asa

__all__ = ["fields"]

_PRODUCTS: Final = {"asa": "ASA", "ftd": "FTD", "ios": "IOS", "iosxr": "IOS XR", "nexus": "NX-OS", "wlc": "Wireless LAN Controller"}

# Who writes in Cisco's form without being Cisco: Arista's agents by their tag, Dell's (Force10) by the unit in front.
_ARISTA: Final = frozenset(
    [
        "Aaa",
        "Acl",
        "Bfd",
        "Bgp",
        "ConfigAgent",
        "Ebra",
        "EventMgr",
        "Fru",
        "IgmpSnooping",
        "Isis",
        "Lag",
        "LagMgr",
        "Launcher",
        "Lldp",
        "Mlag",
        "Ospf",
        "PortSec",
        "PowerManager",
        "ProcMgr",
        "Rib",
        "Sysdb",
        "Stp",
        "StpTopology",
        "SuperServer",
        "Thermostat",
        "XcvrAgent",
        "Xcvr",
    ]
)
_FTOS: Final = "%STKUNIT"
_NOT_CISCO: Final[dict[str, dict[str, str]]] = {
    "arista": {
        "event_module": "arista", "event_dataset": "arista.eos", "observer_vendor": "Arista", "observer_product": "EOS",
    },
    "dell": {"event_module": "dell", "event_dataset": "dell.ftos", "observer_vendor": "Dell", "observer_product": "FTOS"},
}  # fmt: skip

# Names that `weir.protocols.devices.cisco` and `cisco_asa` give.
TABLE: Final[Table] = {
    "src_ip": (("source_ip", address),),
    "src_port": (("source_port", port),),
    "src_mac": (("source_mac", mac),),
    "dst_ip": (("destination_ip", address),),
    "dst_port": (("destination_port", port),),
    "dst_mac": (("destination_mac", mac),),
    "src_interface": (("observer_ingress_interface", text),),
    "interface": (("observer_ingress_interface", text),),
    "dst_interface": (("observer_egress_interface", text),),
    "bytes": (("network_bytes", integer),),
    "bytes_sent": (("source_bytes", integer),),
    "bytes_received": (("destination_bytes", integer),),
    "bytes_xmt": (("source_bytes", integer),),
    "bytes_rcv": (("destination_bytes", integer),),
    "packets": (("source_packets", integer),),
    "duration": (("event_duration", duration_ns),),
    "reason": (("event_reason", text),),
    "action": (("device_action", lower),),
    "access_list": (("rule_name", text),),
    "group": (),
    "command": (("process_command_line", text),),
    "url": (("url_original", text),),
    "file": (("file_name", text),),
    "domain": (("url_domain", text),),
    "signature": (("threat_name", text),),
    "signature_id": (("rule_id", text),),
    "threat_category": (("rule_category", text),),
    "service": (("network_protocol", lower),),
    "neighbor": (("source_ip", address),),
}

# Keys of FTD's security events (430001 to 430005).
SECURITY_EVENT: Final[Table] = {
    "SrcIP": (("source_ip", address),),
    "InitiatorIP": (("source_ip", address),),
    "SrcPort": (("source_port", port),),
    "InitiatorPort": (("source_port", port),),
    "DstIP": (("destination_ip", address),),
    "ResponderIP": (("destination_ip", address),),
    "DstPort": (("destination_port", port),),
    "ResponderPort": (("destination_port", port),),
    "NAT_InitiatorIP": (("source_nat_ip", address),),
    "NAT_InitiatorPort": (("source_nat_port", port),),
    "NAT_ResponderIP": (("destination_nat_ip", address),),
    "NAT_ResponderPort": (("destination_nat_port", port),),
    "IngressInterface": (("observer_ingress_interface", text),),
    "EgressInterface": (("observer_egress_interface", text),),
    "IngressZone": (("observer_ingress_zone", text),),
    "EgressZone": (("observer_egress_zone", text),),
    "InitiatorBytes": (("source_bytes", integer),),
    "ResponderBytes": (("destination_bytes", integer),),
    "InitiatorPackets": (("source_packets", integer),),
    "ResponderPackets": (("destination_packets", integer),),
    "ConnectionDuration": (("event_duration", duration_ns),),
    "AccessControlRuleAction": (("device_action", lower),),
    "InlineResult": (("device_action", lower),),
    "FileAction": (("device_action", lower),),
    "AccessControlRuleName": (("rule_name", text),),
    "ACPolicy": (("rule_name", text),),
    "IntrusionPolicy": (("rule_name", text),),
    "AccessControlRuleReason": (("event_reason", text),),
    "Classification": (("rule_category", text),),
    "SID": (("rule_id", text),),
    "ApplicationProtocol": (("network_protocol", lower),),
    "WebApplication": (("network_application", lower),),
    "Client": (("network_application", lower),),
    "URL": (("url_original", text),),
    "URI": (("url_original", text),),
    "ReferencedHost": (("url_domain", text),),
    "HTTPResponse": (("http_response_status_code", status),),
    "UserAgent": (("user_agent_original", text),),
    "FileName": (("file_name", text),),
    "FileSize": (("file_size", integer),),
    "FileSHA256": (("file_hash_sha256", sha256),),
    "ThreatName": (("threat_name", text),),
    "NetBIOSDomain": (("source_host", text),),
}
_SECURITY_EVENTS: Final[dict[str, tuple[str, tuple[str, ...], tuple[str, ...]]]] = {
    "430001": ("intrusion-detected", ("network", "intrusion_detection"), ("info",)),
    "430002": ("connection-started", ("network",), ("connection", "start")),
    "430003": ("connection-finished", ("network",), ("connection", "end")),
    "430004": ("file-detected", ("network", "file"), ("info",)),
    "430005": ("malware-detected", ("network", "malware"), ("info",)),
}

_DENIED: Final = frozenset(
    {"deny", "denied", "dropped", "dropping", "discarded", "block", "blocked", "failed", "rejected", "reset"}
)
_ALLOWED: Final = frozenset({"permitted", "permit", "allow", "allowed", "est-allowed", "trust"})
# IOS and NX-OS mnemonics: (event_category, event_type, event_outcome, event_action)
_MNEMONICS: Final[dict[str, tuple[tuple[str, ...], tuple[str, ...], str | None, str | None]]] = {
    mnemonic: kind
    for mnemonics, kind in (
        ("CONFIG_I VSHD_SYSLOG_CONFIG_I CFGLOG_LOGGEDCMD", (("configuration",), ("change",), "success", "configuration-changed")),
        ("VSHD_SYSLOG_CMD_EXEC ACCTLOCAL", (("configuration",), ("info",), None, "command")),
        ("AUTH_PASSED", (("authentication",), ("start",), "success", "login")),
        ("AUTHENTICATION_FAILED", (("authentication",), ("start",), "failure", "login")),
        ("PRIV_AUTH_PASS", (("authentication",), ("start",), "success", "privilege-raised")),
        ("PRIV_AUTH_FAIL", (("authentication",), ("start",), "failure", "privilege-raised")),
        ("TTY_EXPIRE_TIMER", (("session",), ("end",), None, "logout")),
        ("PSECURE_VIOLATION PSECURE_VIOLATION_VLAN PSECURE_VIOLATION_MAC_MOVE BLOCK_BPDUGUARD DHCP_SNOOPING_MATCH_MAC_FAIL "
         "DHCP_SNOOPING_UNTRUSTED_PORT", (("network",), ("denied",), "failure", "port-security")),
        ("LOGIN_SUCCESS", (("authentication", "session"), ("start",), "success", "login")),
        ("LOGIN_FAILED", (("authentication",), ("start",), "failure", "login")),
        ("LOGOUT", (("session",), ("end",), "success", "logout")),
        ("SSH2_USERAUTH SSH_USERAUTH", (("authentication",), ("start",), None, "login")),
        ("SSH2_SESSION SSH_SESSION", (("session",), ("start",), None, "ssh-session")),
        ("SSH2_CLOSE SSH_CLOSE", (("session",), ("end",), None, "ssh-session-closed")),
        ("IPACCESSLOGP IPACCESSLOGDP IPACCESSLOGNP IPACCESSLOGRP IPACCESSLOGS IPACCESSLOGSP ACCESSLOGP ACCESSLOGDP "
         "ACCESSLOGNP ACCESSLOGSP ACLLOG_FLOW_INTERVAL ACLLOG_NEW_FLOW", (("network",), ("connection",), None, "access-list")),
        ("SYSTEM_MSG", (("host",), ("info",), None, "daemon")),
        ("SESS_AUDIT_TRAIL", (("network",), ("connection", "end"), "success", "session-ended")),
        ("SESS_AUDIT_TRAIL_START", (("network",), ("connection", "start"), "success", "session-started")),
        ("UPDOWN CHANGED IF_UP IF_DOWN IF_DOWN_LINK_FAILURE IF_DOWN_ADMIN_DOWN IF_DOWN_NONE", (("network",), ("change",), None,
                                                                                                "interface-state")),
        ("ADJCHG ADJCHANGE NBRCHANGE", (("network",), ("change",), None, "neighbor-state")),
    )
    for mnemonic in mnemonics.split()
}  # fmt: skip
_RESULTS: Final = {"succeeded": "success", "accepted": "success", "failed": "failure", "failure": "failure"}


def fields(message: syslog.SyslogMessage, body: str, context: Context) -> dict[str, Any] | None:
    """Fields of one of Cisco's messages; None for another's."""
    if message.app_name == "StealthWatch":
        return _stealthwatch(body)
    around = message.device or {}
    event = cisco.read_cisco(body, slot="slot" in around, task="task" in around)
    if event is None:
        return None
    pairs = event.pairs
    security_event = event.product == "ftd" and event.mnemonic in _SECURITY_EVENTS
    found: dict[str, Any] = {
        "event_module": "cisco",
        "event_dataset": f"cisco.{event.product}",
        "observer_vendor": "Cisco",
        "observer_product": _PRODUCTS[event.product],
        "event_code": event.mnemonic,
        "event_severity": event.severity,
        **fill(pairs, SECURITY_EVENT if security_event else TABLE),
    }
    if event.begin and not body[: event.begin].strip(" :"):
        found["message"] = body[event.begin :]
    if message.app_name in _ARISTA and event.product == "ios":
        found |= _NOT_CISCO["arista"]
    elif body.startswith(_FTOS):
        found |= _NOT_CISCO["dell"]
    found |= _header(message, body, event, context)
    found["log_syslog_fields"] = {
        **around, **found.pop("around", {}), "facility": event.facility, "mnemonic": event.mnemonic, **pairs,
    }  # fmt: skip
    for key, name, domain in (
        ("user", "user_name", "user_domain"), ("src_user", "user_name", "user_domain"), ("User", "user_name", "user_domain"),
        ("dst_user", "destination_user_name", "destination_user_domain"),
    ):  # fmt: skip
        if key in pairs and found.get(name) is None:
            found |= user(pairs[key].partition(",")[0], name=name, domain=domain)
    if (protocol := pairs.get("protocol") or pairs.get("Protocol")) is not None:
        found |= transport(protocol)
    _nat(pairs, found)
    found |= _firewall_kind(event, found) if event.product in {"asa", "ftd"} else _kind(event, found)
    return found


# A sequence number and a host without a time: "123: sw1: %SYS-5-…" (service timestamps are off).
_UNTIMED = re.compile(r"(?:([0-9]{1,10}): )?(?:([0-9A-Za-z_][0-9A-Za-z_.:-]{0,253}): )?\Z")


def _header(message: syslog.SyslogMessage, body: str, event: cisco.CiscoMessage, context: Context) -> dict[str, Any]:
    """What stands between the header and the message: a relay's header leaves the device's own there, with its time."""
    found: dict[str, Any] = {}
    program = message.app_name
    if program is not None and message.proc_id is None and message.format == "rfc3164":
        # What looks like a tag is the device's sequence number, or its name: "fw1: %ASA-…", "10.1.1.1 29: %SYS-…".
        if program.isdecimal():
            found["around"] = {"sequence": program}
            found["process_name"] = None
        elif message.hostname is None and message.device and len(program) < 6 and program.isalpha() and program.isupper():
            # Behind its own sequence number and time a device names its time zone, by a word that its operator has chosen.
            found |= {"around": {"zone": program}, "process_name": None}
        elif message.hostname is None:
            found |= {"host_name": program, "process_name": None}
    elif message.format == "unparsed" and (untimed := _UNTIMED.match(body[: event.begin])) is not None:
        if untimed[1] is not None:
            found["around"] = {"sequence": untimed[1]}
        found |= {"host_name": untimed[2], "message": body[event.begin :]}
    if event.begin > 12 and not best_time(message):
        inner = syslog.parse(
            body[: event.begin + 256].encode("utf-8", "replace"), received_us=context.received_us, to_utc=context.to_utc
        )
        if inner.format == "rfc3164" and inner.timestamp_us is not None:
            found["around"] = {**found.get("around", {}), **(inner.device or {})}
            # A clock that the device itself does not trust is no better than the relay's.
            if (inner.device or {}).get("clock") != "*":
                found["timestamp"] = inner.timestamp_us
            if inner.hostname is not None and message.hostname is None:
                found["host_name"] = inner.hostname
    return found


def _nat(pairs: dict[str, str], found: dict[str, Any]) -> None:
    """ASA names the mapped address always; it is a translation where address or port differ."""
    for side, name in (("src", "source"), ("dst", "destination")):
        mapped = (pairs.get(f"{side}_mapped_ip"), pairs.get(f"{side}_mapped_port"))
        real = (pairs.get(f"{side}_ip"), pairs.get(f"{side}_port"))
        if mapped[0] is not None and (mapped[0] != real[0] or (real[1] is not None and mapped[1] != real[1])):
            found[f"{name}_nat_ip"] = address(mapped[0])
            found[f"{name}_nat_port"] = port(mapped[1]) if mapped[1] is not None and real[1] is not None else None


def _firewall_kind(event: cisco.CiscoMessage, found: dict[str, Any]) -> dict[str, Any]:
    action = found.get("device_action") or ""
    outcome = "failure" if action in _DENIED or action.startswith("block") else "success" if action in _ALLOWED else None
    if event.product == "ftd" and (known := _SECURITY_EVENTS.get(event.mnemonic)) is not None:
        name, category, types = known
        if outcome is not None and event.mnemonic in {"430002", "430003"}:
            types = (*types, "denied" if outcome == "failure" else "allowed")
        started = time_us(event.pairs.get("FirstPacketSecond", ""))
        return {
            "event_kind": "alert" if event.mnemonic in {"430001", "430005"} else "event",
            "event_action": name, "event_category": list(category), "event_type": list(types), "event_outcome": outcome,
            "event_start": started[0] if started is not None and started[1] else None,
        }  # fmt: skip
    meaning = cisco_asa.ACTIONS.get(event.mnemonic)
    if meaning is None or not event.pairs:
        return (
            {"event_category": ["network"], "event_type": ["info"]} if meaning is None else {"event_category": [meaning.category]}
        )
    types = meaning.types
    if "allowed" in types and outcome == "failure":
        types = ("connection", "denied")
    ended = meaning.types[-1] == "end" and meaning.category == "network"
    return {
        "event_action": "flow-expiration" if ended else "firewall-rule" if meaning.category == "network" else action or None,
        "event_category": [meaning.category],
        "event_type": list(types),
        "event_outcome": outcome if "allowed" in meaning.types else meaning.outcome,
    }


def _kind(event: cisco.CiscoMessage, found: dict[str, Any]) -> dict[str, Any]:
    known = _MNEMONICS.get(event.mnemonic)
    if known is None:
        return {"event_category": ["host"], "event_type": ["info"], "event_action": event.mnemonic.lower()}
    category, types, outcome, action = known
    if action == "daemon" and "uthenticat" in event.text:
        failed = "fail" in event.text or "illegal" in event.text
        category, types, action = ("authentication",), ("start",), "login"
        outcome = "failure" if failed else "success" if "ccepted" in event.text else None
    outcome = outcome or _RESULTS.get(event.pairs.get("result", "").lower())
    done = found.get("device_action") or ""
    if action == "access-list" and done:
        outcome = "failure" if done in _DENIED else "success" if done in _ALLOWED else None
        types = ("connection", "denied" if outcome == "failure" else "allowed")
    return {"event_category": list(category), "event_type": list(types), "event_outcome": outcome, "event_action": action}


_SEVERITIES: Final = {"Critical": 2, "Major": 3, "Minor": 4, "Trivial": 5, "Informational": 6}


def _stealthwatch(body: str) -> dict[str, Any] | None:
    alarm = cisco.read_stealthwatch(body)
    if alarm is None:
        return None
    moment = time_us(alarm.time)
    target = address(alarm.target)
    found: dict[str, Any] = {
        "event_module": "cisco",
        "event_dataset": "cisco.stealthwatch",
        "event_kind": "alert",
        "observer_vendor": "Lancope",
        "observer_product": "StealthWatch",
        "event_category": ["network", "intrusion_detection"],
        "event_type": ["info"],
        "event_severity": _SEVERITIES[alarm.severity],
        "source_ip": address(alarm.source),
        # 0.0.0.0 stands where an alarm is about one host alone.
        "destination_ip": None if target in {"0.0.0.0", "::"} else target,
        "log_syslog_fields": alarm._asdict(),
    }
    if moment is not None and moment[1]:
        found["timestamp"] = moment[0]
    return found
