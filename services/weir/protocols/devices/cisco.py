"""Cisco's messages: ``%FACILITY-SEVERITY-MNEMONIC: text``, of IOS, IOS XE, IOS XR, NX-OS, AireOS, ASA and FTD, and Stealthwatch.

Source: "Cisco IOS System Message Guide" (structure of a message), "Cisco NX-OS System Messages Reference", "Cisco Secure Firewall
ASA Series Syslog Messages" (`cisco_asa`). What stands around the time is read with the header, in `weir.protocols.syslog`.
"""

import re
from typing import Final, NamedTuple

from weir.protocols.devices.cisco_asa import read_asa, read_ftd

__all__ = ["CiscoMessage", "Stealthwatch", "read_cisco", "read_stealthwatch"]


class CiscoMessage(NamedTuple):
    """One message. ``begin`` is where it begins in the text; ``pairs`` holds what was found in its wording, by name."""

    product: str  # asa, ftd, ios, iosxr, nexus, wlc
    facility: str
    severity: int
    mnemonic: str
    text: str
    begin: int
    pairs: dict[str, str]


# SYS-5, SYS-SW1-5, MGBL-SYS-5, ASA-config-5; IOS XR has a space before the colon; relays and FTD
# leave the colon out. AireOS wrote "#" for "%" before 7.0.
_MESSAGE = re.compile(r"[%#]([A-Z][0-9A-Z_]{1,31}+(?:-[0-9A-Za-z_/]{1,31}){0,3}?)-([0-7])-([0-9A-Za-z_]{1,64}+) ?(?::\s*|\s+|\Z)")
_WITHIN: Final = 320  # characters from the begin within which the message must begin: a header and a relay's header

_FIREWALLS: Final = {"ASA": "asa", "PIX": "asa", "FWSM": "asa", "FTD": "ftd", "NGIPS": "ftd"}
_NEXUS: Final = frozenset(
    [
        "ACLLOG",
        "ACLMGR",
        "AUTHPRIV",
        "BOOTVAR",
        "DAEMON",
        "ETHPORT",
        "ETH_PORT_CHANNEL",
        "ETH-PORT-CHANNEL",
        "FEX",
        "FWM",
        "KERN",
        "LOCAL7",
        "MODULE",
        "MONITOR",
        "PFMA",
        "PLATFORM",
        "PORT_SECURITY",
        "SYSMGR",
        "USER",
        "VDC_MGR",
        "VLAN_MGR",
        "VPC",
        "VSHD",
    ]
)

_IP = r"[0-9A-Fa-f:.]{2,45}+"
_STATE = r"(?P<state>administratively down|\w+)"

# Mnemonic: wording. What is not here is given with its facility, severity, mnemonic and text alone.
_WORDINGS: Final = {
    mnemonic: re.compile(wording)
    for mnemonics, wording in (
        ("CONFIG_I VSHD_SYSLOG_CONFIG_I CONFIG_P", (
            rf"Configured (?:programmatically by process .*? )?from (?P<config_source>\S+)"
            rf"(?: (?:by|as) (?:(?P<user>\S+) on )?(?P<line>[^\s(@]*)(?:@\S+)?(?: \((?P<src_ip>{_IP})\))?)?")),
        ("LOGOUT", rf"User (?P<user>\S+) has exited tty session (?P<line>\d+)(?: ?\((?P<src_ip>{_IP})\))?"),
        ("PRIV_AUTH_PASS PRIV_AUTH_FAIL PRIV_I", rf".*?by (?:user )?(?P<user>\S+) on (?P<line>\w+)(?: \((?P<src_ip>{_IP})\))?"),
        ("SSH2_USERAUTH SSH_USERAUTH", (
            rf"User '(?P<user>[^']*)' authentication for SSH2? Session from (?P<src_ip>{_IP}) .*?(?P<result>Succeeded|Failed)?$")),
        ("SSH2_SESSION SSH2_CLOSE SSH_SESSION SSH_CLOSE", (
            rf"SSH2? Session (?:request )?from (?P<src_ip>{_IP}) \(tty = (?P<line>\d+)\)(?: for user '(?P<user>[^']*)')?.*?"
            rf"(?P<result>Succeeded|Failed|closed)?$")),
        ("CFGLOG_LOGGEDCMD", r"User:(?P<user>\S*) +logged command:(?P<command>.*)"),
        ("VSHD_SYSLOG_CMD_EXEC", r"User:(?P<user>\S*) executed the command:(?P<command>.*)"),
        ("ACCTLOCAL", r"Username: (?P<user>\S*) Privilege level: (?P<privilege>\d+) Command: (?P<command>.*?)(?: <cr>)?\s*$"),
        ("TTY_EXPIRE_TIMER", rf"\((?P<reason>[^,]*), tty (?P<line>\S+) \((?P<src_ip>{_IP})\)\), user (?P<user>\S+)"),
        ("LOGGINGHOST_FAIL LOGGINGHOST_STARTSTOP", (
            rf"Logging to host (?P<dst_ip>{_IP}) (?:port (?P<dst_port>\d+) )?(?P<result>\w+)")),
        ("AUTH_PASSED AUTHENTICATION_FAILED", (
            r"(?:(?:Switch \S+ )?[A-Z]\S*: )?(?:(?P<process>[\w-]+): )?"
            r"(?:User '(?P<user>[^']*)' authenticated successfully|Authentication failure) "
            rf"from (?P<src_ip>{_IP[:-1]}):(?P<src_port>\d+) .*?for (?P<service>[^.]*)")),
        ("PSECURE_VIOLATION PSECURE_VIOLATION_VLAN PSECURE_VIOLATION_MAC_MOVE", (
            r"Security violation (?:occurred, caused by MAC address (?P<src_mac>\S+) on port (?P<interface>[^\s.]+)|on port "
            r"(?P<interface_c>\S+) due to MAC address (?P<src_mac_c>\S+) on VLAN (?P<vlan>\d+))")),
        ("BLOCK_BPDUGUARD", r"Received BPDU (?:from bridge (?P<src_mac>\S+) )?on port (?P<interface>\S+) with BPDU Guard"),
        ("DHCP_SNOOPING_MATCH_MAC_FAIL DHCP_SNOOPING_UNTRUSTED_PORT", (
            r".*?message type: (?P<message_type>\w+), (?:chaddr: (?P<chaddr>[^,\s]+), )?MAC sa: (?P<src_mac>\S+)")),
        ("IPACCESSLOGP IPACCESSLOGDP IPACCESSLOGNP IPACCESSLOGRP IPACCESSLOGSP ACCESSLOGP ACCESSLOGDP ACCESSLOGNP ACCESSLOGSP", (
            r".*?list (?P<access_list>\S+) (?P<action>permitted|denied) (?:(?P<protocol>[0-9A-Za-z_-]+) )??"
            rf"(?P<src_ip>{_IP})(?:\((?P<src_port>\d+)\))?"
            r"(?: \((?P<interface>[^\s)]+)(?: (?P<src_mac>[^\s)]+))?[^)]*\))? ?-> "
            rf"(?P<dst_ip>{_IP})(?:\((?P<dst_port>\d+)\))?"
            r"(?: \((?P<icmp_type>\d+)/(?P<icmp_code>\d+)\))?, (?P<packets>\d+) packets?")),
        ("IPACCESSLOGS", rf".*?list (?P<access_list>\S+) (?P<action>permitted|denied) (?P<src_ip>{_IP}) "
                         r"+(?P<packets>\d+) packets?"),
        ("UPDOWN CHANGED", rf"(?:Line protocol on )?Interface (?P<interface>[^\s,]+), changed state to {_STATE}"),
        ("IF_UP IF_DOWN_LINK_FAILURE IF_DOWN_ADMIN_DOWN IF_DOWN_NONE IF_DOWN IF_ADMIN_UP", (
            rf"Interface (?P<interface>[^\s,]+) is {_STATE}(?:.*?\((?P<reason>[^)]*)\))?")),
        ("ADJCHG", (
            rf"Process (?P<process>[^,]+), Nbr (?P<neighbor>{_IP}) on (?P<interface>\S+) from (?P<from_state>\w+) to {_STATE}, "
            rf"(?P<reason>.*)")),
        ("ADJCHANGE", rf"neighbor (?P<neighbor>{_IP})(?: vpn vrf \S+)? {_STATE} ?(?P<reason>.*)"),
        ("SUCCESS FAIL START", (
            r"(?P<what>Authorization|Authentication|Starting '[^']*') ?(?P<result>succeeded|failed)? ?for client \("
            r"(?P<src_mac>[^)]*)\) on "
            r"Interface (?P<interface>\S+)")),
        ("SESS_AUDIT_TRAIL SESS_AUDIT_TRAIL_START", (
            rf"(?:\(target:class\)-\((?P<zone_pair>[^:)]*):(?P<class>[^)]*)\):)?(?P<action>Stop|Start) (?P<protocol>\S+) session: "
            rf"initiator \((?P<src_ip>{_IP[:-1]}):(?P<src_port>\d+)\)(?: sent (?P<bytes_sent>\d+) bytes)? -- responder \("
            rf"(?P<dst_ip>{_IP[:-1]}):"
            rf"(?P<dst_port>\d+)\)(?: sent (?P<bytes_received>\d+) bytes)?")),
        ("ACLLOG_FLOW_INTERVAL ACLLOG_NEW_FLOW", (
            r"Src IP: (?P<src_ip>[^,]*), Dst IP: (?P<dst_ip>[^,]*), Src Port: (?P<src_port>\d+), Dst Port: (?P<dst_port>\d+), "
            r"Src Intf: (?P<interface>[^,]*), Protocol: \"?(?P<protocol>[^\",(]*)\"?(?:\((?P<protocol_number>\d+)\))?, "
            r"(?:ACL Name: (?P<access_list>[^,]*), ACE Action: (?P<action>[^,]*), )?.*?Hit-count: (?P<packets>\d+)")),
        ("MAC_MOVE MACFLAP_NOTIF HOSTFLAPPING", (
            r"Host (?P<src_mac>\S+) in vlan (?P<vlan>\d+) is flapping between port (?P<interface>\S+) and port "
            r"(?P<interface_b>\S+)")),
        ("DUPADDR DUPLICATE_IPADDR_DETECT", (
            rf"Duplicate address (?P<src_ip>{_IP}) on (?P<interface>[^\s,]+),? (?:sourced by|from) (?P<src_mac>\S+)")),
    )
    for mnemonic in mnemonics.split()
}  # fmt: skip

# What the login block writes: [user: admin] [Source: 10.0.0.1] [localport: 22] [Reason: …]
_BRACKETED = re.compile(r"\[([A-Za-z]{2,20}+): ?([^\]]{0,255})\]")
_NAMES: Final = {"user": "user", "source": "src_ip", "localport": "dst_port", "reason": "reason"}
# NX-OS passes on what its daemons say: "… for user admin from 10.0.0.1 - sshd[123]".
_DAEMON = re.compile(r" - (?P<process>[^\s\[]{1,64}+)\[(?P<pid>\d{1,10})\]\s*$")
_USER = re.compile(r"\buser (?P<user>[^\s,:]{1,255}+)")
_FROM = re.compile(rf" from (?P<src_ip>{_IP})")
_AT_ADDRESS = re.compile(rf" on (?P<src_ip>{_IP})@(?P<line>\S+)$")
_LONGEST: Final = 2048


def read_cisco(text: str, *, slot: bool = False, task: bool = False) -> CiscoMessage | None:
    """The message that stands in ``text``, at its begin or behind what a device or a relay put there; None where there is none.

    ``slot`` and ``task`` say that the header named a slot, as IOS XR does, or a task, as a wireless controller does.
    """
    if text.find("%", 0, _WITHIN) < 0 and text.find("#", 0, _WITHIN) < 0:
        return None
    found = _MESSAGE.search(text, 0, _WITHIN)
    if found is None:
        return None
    facility, severity, mnemonic = found.groups()
    rest = text[found.end() :]
    firewall = _FIREWALLS.get(facility.partition("-")[0])
    if firewall is not None:
        security_event = "430001" <= mnemonic <= "430005"
        pairs = read_ftd(rest) if security_event else read_asa(mnemonic, rest)
        return CiscoMessage(firewall, facility, int(severity), mnemonic, rest, found.start(), pairs)
    nexus = facility in _NEXUS or text.startswith("%$")
    product = "iosxr" if slot else "wlc" if task or text[found.start()] == "#" else "nexus" if nexus else "ios"
    return CiscoMessage(product, facility, int(severity), mnemonic, rest, found.start(), _wording(mnemonic, rest))


def _wording(mnemonic: str, text: str) -> dict[str, str]:
    if mnemonic.startswith(("LOGIN_", "QUIET_MODE")):
        return {_NAMES.get(name.lower(), name): value for name, value in _BRACKETED.findall(text, 0, _LONGEST)}
    pattern = _WORDINGS.get(mnemonic)
    found = pattern.match(text, 0, _LONGEST) if pattern is not None else None
    pairs = {name.removesuffix("_c"): value for name, value in found.groupdict().items() if value} if found is not None else {}
    if mnemonic == "VSHD_SYSLOG_CONFIG_I" and (at := _AT_ADDRESS.search(text, 0, _LONGEST)) is not None:
        pairs |= at.groupdict()
    if mnemonic == "SYSTEM_MSG":
        for part in (_DAEMON, _USER, _FROM):
            if (at := part.search(text, 0, _LONGEST)) is not None:
                pairs |= at.groupdict()
    return pairs


class Stealthwatch(NamedTuple):
    """An alarm of Stealthwatch (Lancope, now Cisco Secure Network Analytics)."""

    time: str  # ISO 8601 with its zone
    source: str
    target: str
    severity: str
    description: str


_ALARM = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,9})?(?:Z|[+-][0-9]{2}:?[0-9]{2})) "
    r"([0-9A-Fa-f.:]{2,45}) ([0-9A-Fa-f.:]{2,45}) (Critical|Major|Minor|Trivial|Informational) (.*)",
    re.DOTALL,
)


def read_stealthwatch(text: str) -> Stealthwatch | None:
    """What the tag ``StealthWatch`` announces: time, source, target, severity and description with spaces between them."""
    found = _ALARM.match(text)
    return Stealthwatch(*found.groups()) if found is not None else None
