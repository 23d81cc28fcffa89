"""Where techniques stand in the ATT&CK matrix (Enterprise): tactics by the names of Sigma's tags.

Tags of a rule name techniques and tactics, but not which belongs to which. Only techniques that the telemetry Weir reads can show
are listed; of another one, all tactics of its rule are taken. Facts of MITRE ATT&CK, attack.mitre.org; "defense-evasion" was
split into "stealth" and "defense-impairment" in version 19 (April 2026), and both namings are in use.
"""

from __future__ import annotations

from typing import Final

__all__ = ["tactics_of"]

_EVASION = "defense-evasion stealth defense-impairment"
_TACTICS: Final = {
    "credential-access": "T1003 T1040 T1110 T1552 T1557",
    "collection": "T1005 T1039 T1119 T1530 T1557",
    "discovery": "T1016 T1018 T1040 T1046 T1049 T1082 T1083 T1087 T1135",
    "exfiltration": "T1020 T1029 T1030 T1041 T1048 T1537 T1567",
    "lateral-movement": "T1021 T1210",
    "execution": "T1047 T1053 T1059 T1203",
    "persistence": "T1053 T1078 T1098 T1133 T1136 T1505 T1543",
    "privilege-escalation": "T1053 T1078 T1098 T1543",
    _EVASION: "T1070 T1078 T1222 T1562",
    "defense-impairment": "T1685",
    "command-and-control": "T1071 T1090 T1095 T1102 T1105 T1132 T1219 T1568 T1571 T1572 T1573",
    "initial-access": "T1078 T1133 T1189 T1190 T1566",
    "impact": "T1485 T1486 T1489 T1490 T1496 T1498 T1499 T1531 T1565",
    "reconnaissance": "T1590 T1592 T1595",
}


def tactics_of(technique: str) -> frozenset[str]:
    """Tactics of a technique or of a sub-technique's technique; empty where it is not listed."""
    parent = technique.partition(".")[0]
    return frozenset(name for names, listed in _TACTICS.items() if parent in listed.split() for name in names.split())
