"""Juniper's messages: structured data of Junos (``junos@2636…``), the same pairs in a BSD message, and Junos's own sentences.

Source: "Junos OS System Log Explorer" for the names of events and attributes; "Information Provided in Session Log Entries for SRX
Series" for the order in which a session's values stand in a sentence.
"""

import re
from collections.abc import Mapping
from typing import Final, NamedTuple

from weir.protocols.devices.keyvalue import split_pairs

__all__ = ["JunosMessage", "read_junos"]


class JunosMessage(NamedTuple):
    """An event of Junos by its name, such as RT_FLOW_SESSION_CLOSE, and its attributes by theirs; ``text`` is what remains."""

    event: str
    pairs: dict[str, str]
    text: str


_SD_ID: Final = "junos@2636"
_BRACKET: Final = "[junos@2636"
# "RT_FLOW_SESSION_DENY: text", "RT_FLOW_SESSION_DENY [junos@2636.1.1.1.2.40 …] text", "UI_CMDLINE_READ_LINE: text".
_EVENT = re.compile(r"(?:RT_[A-Z]{2,10}: )?([A-Z][A-Z0-9]{1,15}_[A-Z0-9_]{2,64}+)(?:: ?| (?=\[junos@|\[?[a-z-]{2,40}=\")|\Z)")
_BRACKETED = re.compile(r"\[junos@2636[0-9.]{0,64}+((?: [^\s=\]]{1,64}+=\"[^\"\\]*+(?:\\.[^\"\\]*+)*+\")*+) ?\]", re.DOTALL)

_ADDRESS = r"[0-9A-Fa-f:.]{2,45}"
_ENDS = (
    rf"(?P<source_address>{_ADDRESS})/(?P<source_port>\d{{1,5}})->(?P<destination_address>{_ADDRESS})/"
    r"(?P<destination_port>\d{1,5})"
)
_NAT_ENDS = (
    rf"(?P<nat_source_address>{_ADDRESS})/(?P<nat_source_port>\d{{1,5}})->(?P<nat_destination_address>{_ADDRESS})/"
    r"(?P<nat_destination_port>\d{1,5})"
)
_TAG = r"(?: 0x[0-9a-f]{1,8})?"
_ZONES = r"(?P<policy_name>\S+) (?P<source_zone_name>\S+) (?P<destination_zone_name>\S+)"
# Since 15.1X49 the kind of a NAT rule stands before its name.
_RULES = (
    r"(?:(?P<src_nat_rule_type>(?:source|static|destination) rule|N/A) (?P<src_nat_rule_name>\S+) "
    r"(?P<dst_nat_rule_type>(?:source|static|destination) rule|N/A) (?P<dst_nat_rule_name>\S+) (?=\d{1,3} \S+ \S+ \S+ \d+)"
    r"|(?P<src_nat_rule_name_b>\S+) (?P<dst_nat_rule_name_b>\S+) )"
)
_USER_AND_INTERFACE = r"(?: (?P<username>[^\s(]+)\((?P<roles>[^)]*)\) (?P<packet_incoming_interface>\S+))?"
_APPLICATIONS = r"(?: (?P<application>\S+) (?P<nested_application>[^\s(]+(?![^\s]*\()))?"

_SESSIONS: Final = (
    re.compile(
        rf"session created {_ENDS}{_TAG} (?P<service_name>\S+) {_NAT_ENDS}{_TAG} {_RULES}(?P<protocol_id>\d{{1,3}}) {_ZONES} "
        rf"(?P<session_id_32>\d+){_USER_AND_INTERFACE}{_APPLICATIONS}"
    ),
    re.compile(
        rf"session closed (?P<reason>[^:]{{1,64}}): {_ENDS}{_TAG} (?P<service_name>\S+) {_NAT_ENDS}{_TAG} {_RULES}"
        rf"(?P<protocol_id>\d{{1,3}}) {_ZONES} (?P<session_id_32>\d+) (?P<packets_from_client>\d+)\((?P<bytes_from_client>\d+)\) "
        rf"(?P<packets_from_server>\d+)\((?P<bytes_from_server>\d+)\) (?P<elapsed_time>\d+){_APPLICATIONS}{_USER_AND_INTERFACE}"
    ),
    re.compile(
        rf"session denied {_ENDS}{_TAG} (?P<service_name>\S+) (?P<protocol_id>\d{{1,3}})\((?P<icmp_type>\d+)\) {_ZONES}"
        rf"{_APPLICATIONS}{_USER_AND_INTERFACE}"
    ),
)
# Sentences of the management plane. Names as in the structured form of the same event.
_SENTENCES = {
    "UI_LOGIN_EVENT": r"User '(?P<username>[^']*)' login, class '(?P<class_name>[^']*)'(?:.*?ssh-connection '"
                      r"(?P<ssh_connection>[^']*)')?(?:, client-mode '(?P<client_mode>[^']*)')?",
    "UI_LOGOUT_EVENT": r"User '(?P<username>[^']*)' logout",
    "UI_AUTH_EVENT": r"Authenticated user '(?P<username>[^']*)' (?:at permission level|assigned to class) '"
                     r"(?P<authentication_level>[^']*)'",
    "UI_CMDLINE_READ_LINE": r"User '(?P<username>[^']*)',? command '(?P<command>.*?) ?'$",
    "UI_JUNOSCRIPT_CMD": r"User '(?P<username>[^']*)' used \S+ client to run command '(?P<command>.*?) ?'$",
    "UI_COMMIT": r"User '(?P<username>[^']*)' requested '(?P<command>[^']*)' operation(?: \(comment: (?P<message>.*)\))?",
    "UI_CFG_AUDIT_SET": r"User '(?P<username>[^']*)' set: (?P<pathname>.*)",
    "UI_CFG_AUDIT_OTHER": r"User '(?P<username>[^']*)' (?P<action>\w+): (?P<pathname>.*)",
    "SSHD_LOGIN_FAILED": rf"Login failed for user '(?P<username>[^']*)' from host '(?P<source_address>{_ADDRESS})'",
    "SSHD_LOGIN_ATTEMPTS_THRESHOLD": r"Threshold for unsuccessful authentication attempts \((?P<limit>\d+)\) reached by user "
                                     r"'(?P<username>[^']*)'",
    "LOGIN_FAILED": r"Login failed for user (?P<username>\S+) from host (?P<source_address>\S+)",
    "LOGIN_INFORMATION": r"User (?P<username>\S+) logged in from host (?P<source_address>\S+) on device (?P<tty_name>\S+)",
    "SNMP_TRAP_LINK_DOWN": r"ifIndex (?P<snmp_interface_index>\d+), ifAdminStatus (?P<admin_status>[^,]+), ifOperStatus "
                           r"(?P<operational_status>[^,]+), ifName (?P<interface_name>\S+)",
    "SNMP_TRAP_LINK_UP": r"ifIndex (?P<snmp_interface_index>\d+), ifAdminStatus (?P<admin_status>[^,]+), ifOperStatus "
                         r"(?P<operational_status>[^,]+), ifName (?P<interface_name>\S+)",
    "RT_SCREEN_TCP": rf"(?P<attack_name>[^!]{{1,64}})! source: (?P<source_address>{_ADDRESS}):(?P<source_port>\d+), destination: "
                     rf"(?P<destination_address>{_ADDRESS}):(?P<destination_port>\d+), zone name: (?P<source_zone_name>[^,]+), "
                     r"interface name: (?P<interface_name>[^,]+), action: (?P<action>.*)",
}  # fmt: skip
_SENTENCES |= {f"RT_SCREEN_{kind}": _SENTENCES["RT_SCREEN_TCP"] for kind in ("UDP", "TCP_DST_IP", "TCP_SRC_IP", "TCP_SYN")}
_SENTENCES["RT_SCREEN_ICMP"] = _SENTENCES["RT_SCREEN_IP"] = (
    rf"(?P<attack_name>[^!]{{1,64}})! source: (?P<source_address>{_ADDRESS}), destination: (?P<destination_address>{_ADDRESS}), "
    r"(?:protocol-id: (?P<protocol_id>\d+), )?zone name: (?P<source_zone_name>[^,]+), interface name: (?P<interface_name>[^,]+), "
    r"action: (?P<action>.*)"
)
# What a firewall filter of a router or switch logs: interface, what was done, of Ethernet's header what the card knows, protocol,
# addresses, and ports or ICMP's type and code. Routing engines say it as "FW:", cards as "PFE_FW_SYSLOG_IP: FW:".
_MAC = r"[0-9a-f]{2}(?::[0-9a-f]{2}){5}"
_FILTER = re.compile(
    r"(?:(?:fpc|feb|cfeb|lchip|ssb)\d{0,4} )?(?:(?P<event>PFE_FW_SYSLOG_[A-Z0-9_]{1,24}): )?FW: (?P<interface_name>\S{1,40}) +"
    rf"(?P<action>[ADR]) +(?:[0-9a-f:]{{4,14}} +)?(?:(?P<source_mac>{_MAC}) (?:-> )?(?P<destination_mac>{_MAC}) +"
    rf"(?:[0-9a-f]+:[0-9a-f]+ +){{0,3}}(?:[0-9a-f]+b +)?)?(?P<protocol>[0-9A-Za-z-]{{1,16}}) +(?P<source_address>{_ADDRESS}) +"
    rf"(?P<destination_address>{_ADDRESS}) +(?P<source_port>\d+) +(?P<destination_port>\d+) +\((?P<packets>\d+) packets?\)"
)
_FILTER_ACTIONS: Final = {"A": "accept", "D": "discard", "R": "reject"}
_COMPILED: Final = {event: re.compile(sentence) for event, sentence in _SENTENCES.items()}
_LONGEST: Final = 4096


def read_junos(text: str, msg_id: str | None, structured: Mapping[str, Mapping[str, str]] | None) -> JunosMessage | None:
    """The event in a message, None where nothing says that it comes from Junos.

    ``text`` is the message, ``msg_id`` and ``structured`` are the header's, if it has them (RFC 5424).
    """
    if structured is not None:
        for sd_id, params in structured.items():
            if sd_id.startswith(_SD_ID):
                return JunosMessage(msg_id or "", dict(params), text)
    if (at := text.find(_BRACKET, 0, _LONGEST)) > 0 and msg_id and (bracketed := _BRACKETED.match(text, at)) is not None:
        # Structured data that does not conform, so that the header could not be read to its end.
        return JunosMessage(msg_id, split_pairs(bracketed[1]), text[bracketed.end() :].lstrip())
    if text.find("FW: ", 0, 64) >= 0 and (filtered := _FILTER.match(text)) is not None:
        return _filtered(filtered, text)
    # The names of events are in capitals with underscores between their words.
    found = _EVENT.match(text, 0, 160) if text.find("_", 0, 24) > 0 else None
    if found is None:
        return None
    event, rest = found[1], text[found.end() :]
    bracketed = _BRACKETED.match(rest)
    if bracketed is not None:
        return JunosMessage(event, split_pairs(bracketed[1]), rest[bracketed.end() :].lstrip())
    if '="' in rest and event.startswith("RT_"):
        return JunosMessage(event, split_pairs(rest), rest)
    pairs = _sentence(event, rest)
    # Others write names in capitals too; only what is known by its name or its wording is taken for Junos's.
    return JunosMessage(event, pairs, rest) if pairs or event.startswith(_PREFIXES) else None


_PREFIXES: Final = (
    "RT_", "UI_", "SNMPD_", "SNMP_TRAP_", "CHASSISD_", "RPD_", "KMD_", "SSHD_LOGIN_", "JTASK_", "BFDD_", "PFE_", "IDP_", "AV_",
    "ANTISPAM_", "WEBFILTER_", "APPTRACK_", "FWAUTH_", "JSRPD_", "NSD_", "DCD_", "LIBJNX_", "DYNAMIC_VPN_", "EVENTD_", "AAMW_",
    "SECINTEL_", "RTLOG_", "ESWD_", "L2ALD_", "L2CPD_", "LACPD_", "LLDPD_", "VCCPD_", "COSD_", "MIB2D_", "LICENSE_",
)  # fmt: skip


def _filtered(found: re.Match[str], text: str) -> JunosMessage:
    pairs = {name.replace("_", "-"): value for name, value in found.groupdict().items() if value and name != "event"}
    pairs["action"] = _FILTER_ACTIONS[pairs["action"]]
    if pairs["protocol"].lower().startswith("icmp"):
        pairs["icmp-type"], pairs["icmp-code"] = pairs.pop("source-port"), pairs.pop("destination-port")
    return JunosMessage(found["event"] or "PFE_FW_SYSLOG_IP", pairs, text)


def _sentence(event: str, text: str) -> dict[str, str]:
    patterns = _SESSIONS if event.startswith("RT_FLOW_SESSION_") else filter(None, (_COMPILED.get(event),))
    for pattern in patterns:
        found = pattern.match(text, 0, _LONGEST)
        if found is not None:
            # Python's group names take no hyphen, Junos's attributes are written with them.
            return {name.removesuffix("_b").replace("_", "-"): value for name, value in found.groupdict().items() if value}
    return {}
