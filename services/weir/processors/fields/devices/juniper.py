"""Events of Junos, by their attributes. Source: "Junos OS System Log Explorer"."""

from __future__ import annotations

import re
from typing import Any, Final

from weir.processors.fields import Context
from weir.processors.fields.devices.table import Table, address, duration_ns, fill, integer, lower, mac, port, text, transport, user
from weir.protocols import syslog
from weir.protocols.devices import juniper

__all__ = ["fields"]

TABLE: Final[Table] = {
    "source-address": (("source_ip", address),),
    "source-port": (("source_port", port),),
    "destination-address": (("destination_ip", address),),
    "destination-port": (("destination_port", port),),
    "nat-source-address": (("source_nat_ip", address),),
    "nat-source-port": (("source_nat_port", port),),
    "nat-destination-address": (("destination_nat_ip", address),),
    "nat-destination-port": (("destination_nat_port", port),),
    "source-zone-name": (("observer_ingress_zone", text),),
    "source-zone": (("observer_ingress_zone", text),),
    "destination-zone-name": (("observer_egress_zone", text),),
    "destination-zone": (("observer_egress_zone", text),),
    "packet-incoming-interface": (("observer_ingress_interface", text),),
    "source-interface-name": (("observer_ingress_interface", text),),
    "interface-name": (("observer_ingress_interface", text),),
    "destination-interface-name": (("observer_egress_interface", text),),
    "policy-name": (("rule_name", text),),
    "rule-name": (("rule_name", text),),
    "service-name": (("network_protocol", lower),),
    "application": (("network_application", lower),),
    "application-name": (("network_application", lower),),
    "bytes-from-client": (("source_bytes", integer),),
    "bytes-from-server": (("destination_bytes", integer),),
    "inbound-bytes": (("destination_bytes", integer),),
    "outbound-bytes": (("source_bytes", integer),),
    "packets-from-client": (("source_packets", integer),),
    "packets-from-server": (("destination_packets", integer),),
    "inbound-packets": (("destination_packets", integer),),
    "outbound-packets": (("source_packets", integer),),
    "elapsed-time": (("event_duration", duration_ns),),
    "reason": (("event_reason", text),),
    "message": (("event_reason", text),),
    "action": (("device_action", lower),),
    "command": (("process_command_line", text),),
    "packets": (("network_packets", integer),),
    "destination-mac": (("destination_mac", mac),),
    "source-mac": (("source_mac", mac),),
    "threat-action": (("device_action", lower),),
    "attack-name": (("threat_name", text),),
    "threat-name": (("threat_name", text),),
    "malware-info": (("threat_name", text),),
    "name": (("threat_name", text),),
    "url": (("url_original", text),),
    "filename": (("file_name", text),),
    "file-name": (("file_name", text),),
    "hostname": (("source_host", text),),
    "source-name": (("source_host", text),),
    "client-ip": (("source_ip", address),),
    "client-ip-str": (("source_ip", address),),
    "server-ip-str": (("destination_ip", address),),
    "src-mac": (("source_mac", mac),),
}

_DENIED: Final = frozenset(
    {"discard", "drop", "dropped", "block", "blocked", "reject", "deny", "close", "close_client", "drop_packet"}
)
# event name, or its begin: (event_category, event_type, event_outcome)
_KINDS: Final[tuple[tuple[str, tuple[str, ...], tuple[str, ...], str | None], ...]] = (
    ("RT_FLOW_SESSION_CREATE", ("network",), ("connection", "start", "allowed"), "success"),
    ("APPTRACK_SESSION_CREATE", ("network",), ("connection", "start", "allowed"), "success"),
    ("RT_FLOW_SESSION_CLOSE", ("network",), ("connection", "end", "allowed"), "success"),
    ("APPTRACK_SESSION_CLOSE", ("network",), ("connection", "end", "allowed"), "success"),
    ("RT_FLOW_SESSION_DENY", ("network",), ("connection", "denied"), "failure"),
    ("PFE_FW_SYSLOG", ("network",), ("connection", "allowed"), "success"),
    ("RT_SCREEN", ("network", "intrusion_detection"), ("info",), None),
    ("RT_IDS", ("network", "intrusion_detection"), ("info",), None),
    ("IDP", ("network", "intrusion_detection"), ("info",), None),
    ("AV_", ("network", "malware"), ("info",), None),
    ("AAMW", ("network", "malware"), ("info",), None),
    ("SECINTEL", ("network", "malware"), ("info",), None),
    ("WEBFILTER_URL_BLOCKED", ("network", "web"), ("denied",), "failure"),
    ("WEBFILTER_URL_PERMITTED", ("network", "web"), ("allowed",), "success"),
    ("SSHD_LOGIN_", ("authentication",), ("start",), "failure"),
    ("LOGIN_FAILED", ("authentication",), ("start",), "failure"),
    ("LOGIN_INFORMATION", ("authentication",), ("start",), "success"),
    ("UI_AUTH_EVENT", ("authentication",), ("start",), "success"),
    ("UI_LOGIN_EVENT", ("authentication", "session"), ("start",), "success"),
    ("UI_LOGOUT_EVENT", ("session",), ("end",), "success"),
    ("UI_C", ("configuration",), ("info",), None),
    ("FWAUTH", ("authentication",), ("info",), None),
    ("RT_", ("network",), ("info",), None),
)
_ACTIONS: Final = {
    "RT_FLOW_SESSION_CREATE": "flow_started", "RT_FLOW_SESSION_CLOSE": "flow_close", "RT_FLOW_SESSION_DENY": "flow_deny",
    "APPTRACK_SESSION_CREATE": "flow_started", "APPTRACK_SESSION_CLOSE": "flow_close",
}  # fmt: skip
# Where the tag took the event's name away.
_EVENT_AS_TAG = re.compile(r"(?:RT|UI|PFE|SNMP|SSHD|AV|IDP|AAMW|APPTRACK)_[A-Z0-9_]{3,64}\Z")


def fields(message: syslog.SyslogMessage, body: str, context: Context) -> dict[str, Any] | None:
    """Fields of an event of Junos; None for another's message."""
    program = message.app_name
    if program == "FW":
        body = f"FW: {body}"
    elif program is not None and _EVENT_AS_TAG.match(program) is not None and not body.startswith(program):
        body = f"{program}: {body}"
    event = juniper.read_junos(body, message.msg_id, message.structured_data)
    if event is None:
        return None
    pairs = event.pairs
    found: dict[str, Any] = {
        "event_module": "juniper",
        "event_dataset": "juniper.junos",
        "observer_vendor": "Juniper",
        "observer_product": "Junos",
        "event_code": event.event or None,
        "log_syslog_fields": pairs,
        **fill(pairs, TABLE),
    }
    if "ssh-connection" in pairs:
        # As sshd's variable SSH_CONNECTION has it: address and port of the client, then of the server.
        ends = pairs["ssh-connection"].split(" ")
        names = ("source-address", "source-port", "destination-address", "destination-port")
        found |= fill(dict(zip(names, ends, strict=False)), TABLE)
    if (name := pairs.get("username") or pairs.get("user-name")) is not None:
        found |= user(name)
    if (number := pairs.get("protocol-id") or pairs.get("protocol")) is not None:
        found |= transport(number)
    for start, category, types, outcome in _KINDS:
        if event.event.startswith(start):
            found |= {"event_category": list(category), "event_type": list(types), "event_outcome": outcome}
            break
    found["event_action"] = _ACTIONS.get(event.event) or event.event.lower() or None
    if found.get("device_action") in _DENIED:
        found |= {"event_type": ["denied"], "event_outcome": "failure"}
    return found
