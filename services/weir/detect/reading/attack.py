"""MITRE ATT&CK: tactics with their ids, and names of techniques.

Sigma tags name a tactic (`attack.impact`) or a technique (`attack.t1110.001`). Version 19 (April 2026) split Defense Evasion, which
keeps its id under the name Stealth, and gave Defense Impairment one of its own; rules of before and after are both in use.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

__all__ = ["FRAMEWORK", "TACTICS", "Attack", "attack_of", "tactic_id", "technique_name"]

FRAMEWORK: Final = "MITRE ATT&CK"

TACTICS: Final[Mapping[str, tuple[str, str]]] = {
    "reconnaissance": ("TA0043", "Reconnaissance"),
    "resource-development": ("TA0042", "Resource Development"),
    "initial-access": ("TA0001", "Initial Access"),
    "execution": ("TA0002", "Execution"),
    "persistence": ("TA0003", "Persistence"),
    "privilege-escalation": ("TA0004", "Privilege Escalation"),
    "defense-evasion": ("TA0005", "Defense Evasion"),
    "stealth": ("TA0005", "Stealth"),
    "defense-impairment": ("TA0112", "Defense Impairment"),
    "credential-access": ("TA0006", "Credential Access"),
    "discovery": ("TA0007", "Discovery"),
    "lateral-movement": ("TA0008", "Lateral Movement"),
    "collection": ("TA0009", "Collection"),
    "command-and-control": ("TA0011", "Command and Control"),
    "exfiltration": ("TA0010", "Exfiltration"),
    "impact": ("TA0040", "Impact"),
}
"""By the name in tags: id and name of each tactic of the Enterprise matrix."""

_IDS = {name: number for number, name in TACTICS.values()}
_BY_ID = {number.lower(): name for number, name in TACTICS.values()}
_TECHNIQUE = re.compile(r"t\d{4}(\.\d{3})?")
_OTHER_OBJECT = re.compile(r"[gscm]\d{4}")

# Techniques that the telemetry Weir reads can show. Of others the alert has the id alone.
_TECHNIQUES: Final[Mapping[str, str]] = {
    "T1003": "OS Credential Dumping",
    "T1005": "Data from Local System",
    "T1016": "System Network Configuration Discovery",
    "T1018": "Remote System Discovery",
    "T1020": "Automated Exfiltration",
    "T1021": "Remote Services",
    "T1021.001": "Remote Services: Remote Desktop Protocol",
    "T1021.002": "Remote Services: SMB/Windows Admin Shares",
    "T1021.004": "Remote Services: SSH",
    "T1029": "Scheduled Transfer",
    "T1030": "Data Transfer Size Limits",
    "T1039": "Data from Network Shared Drive",
    "T1040": "Network Sniffing",
    "T1041": "Exfiltration Over C2 Channel",
    "T1046": "Network Service Discovery",
    "T1047": "Windows Management Instrumentation",
    "T1048": "Exfiltration Over Alternative Protocol",
    "T1048.003": "Exfiltration Over Alternative Protocol: Exfiltration Over Unencrypted Non-C2 Protocol",
    "T1049": "System Network Connections Discovery",
    "T1053": "Scheduled Task/Job",
    "T1059": "Command and Scripting Interpreter",
    "T1070": "Indicator Removal",
    "T1070.004": "Indicator Removal: File Deletion",
    "T1071": "Application Layer Protocol",
    "T1071.001": "Application Layer Protocol: Web Protocols",
    "T1071.004": "Application Layer Protocol: DNS",
    "T1078": "Valid Accounts",
    "T1082": "System Information Discovery",
    "T1083": "File and Directory Discovery",
    "T1087": "Account Discovery",
    "T1090": "Proxy",
    "T1095": "Non-Application Layer Protocol",
    "T1098": "Account Manipulation",
    "T1102": "Web Service",
    "T1105": "Ingress Tool Transfer",
    "T1110": "Brute Force",
    "T1110.001": "Brute Force: Password Guessing",
    "T1110.003": "Brute Force: Password Spraying",
    "T1110.004": "Brute Force: Credential Stuffing",
    "T1119": "Automated Collection",
    "T1132": "Data Encoding",
    "T1133": "External Remote Services",
    "T1135": "Network Share Discovery",
    "T1136": "Create Account",
    "T1189": "Drive-by Compromise",
    "T1190": "Exploit Public-Facing Application",
    "T1203": "Exploitation for Client Execution",
    "T1210": "Exploitation of Remote Services",
    "T1219": "Remote Access Tools",
    "T1222": "File and Directory Permissions Modification",
    "T1485": "Data Destruction",
    "T1486": "Data Encrypted for Impact",
    "T1489": "Service Stop",
    "T1490": "Inhibit System Recovery",
    "T1496": "Resource Hijacking",
    "T1498": "Network Denial of Service",
    "T1499": "Endpoint Denial of Service",
    "T1505": "Server Software Component",
    "T1505.003": "Server Software Component: Web Shell",
    "T1530": "Data from Cloud Storage",
    "T1531": "Account Access Removal",
    "T1537": "Transfer Data to Cloud Account",
    "T1543": "Create or Modify System Process",
    "T1552": "Unsecured Credentials",
    "T1557": "Adversary-in-the-Middle",
    "T1562": "Impair Defenses",
    "T1562.001": "Impair Defenses: Disable or Modify Tools",
    "T1562.008": "Impair Defenses: Disable or Modify Cloud Logs",
    "T1565": "Data Manipulation",
    "T1565.001": "Data Manipulation: Stored Data Manipulation",
    "T1566": "Phishing",
    "T1567": "Exfiltration Over Web Service",
    "T1568": "Dynamic Resolution",
    "T1571": "Non-Standard Port",
    "T1572": "Protocol Tunneling",
    "T1573": "Encrypted Channel",
    "T1590": "Gather Victim Network Information",
    "T1592": "Gather Victim Host Information",
    "T1595": "Active Scanning",
    "T1595.001": "Active Scanning: Scanning IP Blocks",
    "T1595.002": "Active Scanning: Vulnerability Scanning",
    "T1595.003": "Active Scanning: Wordlist Scanning",
    "T1685": "Disable or Modify Tools",
}


class Attack(NamedTuple):
    """What tags say: technique ids, tactic names, and what of ATT&CK's namespace is no object of it that has an id."""

    techniques: tuple[str, ...]
    tactics: tuple[str, ...]
    unknown: tuple[str, ...]


def attack_of(tags: Iterable[str]) -> Attack:
    """What Sigma tags, such as `attack.t1110` and `attack.credential-access`, say of ATT&CK; other tags are passed over."""
    techniques: list[str] = []
    tactics: list[str] = []
    unknown: list[str] = []
    for tag in dict.fromkeys(tag.lower() for tag in tags):
        namespace, _, name = tag.partition(".")
        if namespace != "attack":
            continue
        name = name.replace("_", "-")
        if _TECHNIQUE.fullmatch(name):
            techniques.append(name.upper())
        elif name in TACTICS:
            tactics.append(TACTICS[name][1])
        elif name in _BY_ID:
            tactics.append(_BY_ID[name])
        elif not _OTHER_OBJECT.fullmatch(name):
            unknown.append(tag)
    return Attack(tuple(dict.fromkeys(techniques)), tuple(dict.fromkeys(tactics)), tuple(unknown))


def tactic_id(name: str) -> str:
    """The id of a tactic's name, such as TA0040; "" for another text."""
    return _IDS.get(name, "")


def technique_name(technique: str) -> str:
    """The name of a technique's id; of a sub-technique that has no name here, its technique's; "" where none is known."""
    return _TECHNIQUES.get(technique) or _TECHNIQUES.get(technique.partition(".")[0], "")
