"""Lines as real senders and relays write them: a table of a line and the fields that it must become."""

from typing import Any

import pytest

from weir.model.batch import RawBatch
from weir.processors.outcome import Outcome, RawCoordinates
from weir.processors.syslog import make_process

NOW = 1_717_243_200_000_000  # 2024-06-01T12:00:00Z
HEAD = "<134>May 11 22:14:15 h "
process = make_process()


def outcome(*units: bytes) -> Outcome:
    batch = RawBatch(
        batch_id=bytes(16), site="", receiver="t", transport="syslog-udp", source_ip="192.0.2.1", listener_port=514,
        received_at=NOW, units=list(units),
    )  # fmt: skip
    return process(batch, RawCoordinates("raw.syslog.v1", 0, 0))


def event(unit: bytes) -> dict[str, Any]:
    found = outcome(unit)
    assert not found.dead
    ((record,),) = found.events.values()
    return record


ASA = "%ASA-6-302013: Built inbound TCP connection 7 for out:192.0.2.1/1 (192.0.2.1/1) to in:10.0.0.1/443 (10.0.0.1/443)"
SSH = {"event_dataset": "system.auth", "process_name": "sshd"}
LINES: list[tuple[str, dict[str, Any]]] = [
    # rsyslog's space in front of the message
    (HEAD + "sshd[7]:  Failed password for ann from 192.0.2.7 port 4 ssh2",
     SSH | {"event_action": "ssh_login", "event_outcome": "failure", "user_name": "ann", "source_ip": "192.0.2.7",
      "source_port": 4}),
    ("<86>1 2024-05-11T22:14:15Z h sshd 7 - -  Accepted password for ann from 192.0.2.7 port 4 ssh2",
     SSH | {"event_outcome": "success", "user_name": "ann", "source_ip": "192.0.2.7"}),
    ("<134>1 2024-05-11T22:14:15Z fw - - - -  " + ASA, {"event_dataset": "cisco.asa", "source_ip": "192.0.2.1", "source_port": 1}),
    # OpenSSH
    (HEAD + "sshd[7]: Connection closed by invalid user 192.0.2.7 port 4 [preauth]",
     SSH | {"event_action": "ssh_disconnect", "source_ip": "192.0.2.7", "source_port": 4, "user_name": None, "source_host": None}),
    (HEAD + "sshd[7]: Connection closed by invalid user 198.51.100.1 port 9 192.0.2.7 port 4 [preauth]",
     SSH | {"source_ip": "192.0.2.7", "source_port": 4, "user_name": "198.51.100.1 port 9"}),
    (HEAD + "sshd[7]: Disconnected from illegal user ann 192.0.2.7 port 4 [preauth]",
     SSH | {"source_ip": "192.0.2.7", "user_name": "ann"}),
    (HEAD + "sshd[7]: Disconnected from 192.0.2.7 port 4", SSH | {"source_ip": "192.0.2.7", "source_port": 4}),
    (HEAD + "sshd[7]: fatal: Timeout before authentication for 192.0.2.7 port 4",
     SSH | {"event_outcome": "failure", "source_ip": "192.0.2.7", "source_port": 4,
      "event_reason": "Timeout before authentication"}),
    (HEAD + "sshd[7]: Timeout before authentication for connection from 192.0.2.7 to 10.0.0.1, pid = 12",
     SSH | {"event_outcome": "failure", "source_ip": "192.0.2.7"}),
    (HEAD + "sshd[7]: banner exchange: Connection from 192.0.2.7 port 4: invalid format",
     SSH | {"event_action": "ssh_refused", "source_ip": "192.0.2.7", "event_reason": "invalid format"}),
    (HEAD + "sshd[7]: ssh_dispatch_run_fatal: Connection from 192.0.2.7 port 4: Connection corrupted [preauth]",
     SSH | {"event_action": "ssh_refused", "source_ip": "192.0.2.7", "event_reason": "Connection corrupted"}),
    (HEAD + "sshd[7]: drop connection #10 from [192.0.2.7]:4 on [10.0.0.1]:22 past MaxStartups",
     SSH | {"source_ip": "192.0.2.7", "source_port": 4, "destination_ip": "10.0.0.1", "destination_port": 22}),
    (HEAD + "sshd[7]: input_userauth_request: invalid user ann [preauth]",
     SSH | {"event_action": "ssh_login", "event_outcome": "failure", "user_name": "ann"}),
    (HEAD + "sshd[7]: Close session: user ann from 192.0.2.7 port 4 id 0",
     SSH | {"event_action": "ssh_session_closed", "event_type": ["end"], "source_ip": "192.0.2.7"}),
    (HEAD + "sshd[7]: pam_faillock(sshd:auth): Consecutive login failures for user ann account temporarily locked",
     SSH | {"event_outcome": "failure", "user_name": "ann"}),
    (HEAD + "sshd[7]: pam_winbind(sshd:account): user 'ann' granted access",
     SSH | {"event_outcome": "success", "user_name": "ann"}),
    # Cisco
    (HEAD + "%ASA-5-111010 User 'ann', running 'CLI' from IP 192.0.2.7, executed 'ping 10.0.0.1'",
     {"event_code": "111010", "user_name": "ann", "source_ip": "192.0.2.7", "process_command_line": "ping 10.0.0.1"}),
    (HEAD + "%ASA-7-111009: User 'ann' executed cmd: show logging", {"user_name": "ann", "process_command_line": "show logging"}),
    (HEAD + "%ASA-4-722051: (primary) WebVPN session for client user ann, IP 192.0.2.7 has been created.",
     {"user_name": "ann", "source_ip": "192.0.2.7"}),
    (HEAD + "%ASA-4-722041: TunnelGroup <t> GroupPolicy <g> User <ann> IP <192.0.2.7> No IPv6 address available for SVC connection",
     {"user_name": "ann", "source_ip": "192.0.2.7"}),
    (HEAD + "%FTD-5-109201: UAUTH: Session=0x1, User=ann, Assigned IP=10.0.0.9, Succeeded adding entry.",
     {"user_name": "ann", "source_ip": "10.0.0.9", "event_category": ["session"]}),
    (HEAD + "%FTD-6-852001: Received Lightweight to full proxy event from application Snort for TCP flow 192.0.2.7/4 to 10.0.0.1/5",
     {"source_ip": "192.0.2.7", "source_port": 4, "destination_ip": "10.0.0.1", "destination_port": 5, "network_transport": "tcp"}),
    (HEAD + "%AAAA-6-ACCTLOCAL: Username: ann Privilege level: 15 Command: show clock <cr>",
     {"event_dataset": "cisco.ios", "user_name": "ann", "process_command_line": "show clock"}),
    (HEAD + "%DMI-5-AUTH_PASSED: Switch 1 R0/0: dmiauthd: User 'ann' authenticated successfully from 192.0.2.7:4  for netconf over "
     "ssh. External groups: PRIV15",
     {"user_name": "ann", "source_ip": "192.0.2.7", "source_port": 4, "event_outcome": "success",
      "event_category": ["authentication"]}),
    (HEAD + "%DMI-5-AUTHENTICATION_FAILED: R0/0: dmiauthd: Authentication failure from 192.0.2.7:4 for netconf over ssh.",
     {"source_ip": "192.0.2.7", "event_outcome": "failure"}),
    (HEAD + "%SYS-5-CONFIG_P: Configured programmatically by process SSH Process from console as ann on vty0 (192.0.2.7)",
     {"user_name": "ann", "source_ip": "192.0.2.7"}),
    (HEAD + "%SYS-6-TTY_EXPIRE_TIMER: (exec timer expired, tty 2 (192.0.2.7)), user ann",
     {"user_name": "ann", "source_ip": "192.0.2.7", "event_type": ["end"]}),
    (HEAD + "%PORT_SECURITY-2-PSECURE_VIOLATION_VLAN: Security violation on port Gi1/0/2 due to MAC address 0200.0000.0001 on "
     "VLAN 6",
     {"source_mac": "02-00-00-00-00-01", "observer_ingress_interface": "Gi1/0/2", "event_type": ["denied"]}),
    (HEAD + "%SYS-3-LOGGINGHOST_FAIL: Logging to host 192.0.2.7 port 514 failed",
     {"destination_ip": "192.0.2.7", "destination_port": 514}),
    ("<190>123030: sw1: %SYS-5-LOGGINGHOST_STARTSTOP: Logging to host 192.0.2.7 stopped - CLI initiated",
     {"host_name": "sw1", "destination_ip": "192.0.2.7",
      "message": "%SYS-5-LOGGINGHOST_STARTSTOP: Logging to host 192.0.2.7 stopped - CLI initiated"}),
    ("<189>84027: May 11 22:14:15.123 DST: %SYS-5-CONFIG_I: Configured from console by ann on vty0 (192.0.2.7)",
     {"host_name": None, "user_name": "ann", "process_name": None}),
    ("<189>May 11 22:14:15 CORE: %SYS-5-CONFIG_I: Configured from console by ann on vty0 (192.0.2.7)", {"host_name": "CORE"}),
    # FortiGate
    (HEAD + 'date=2024-05-11,time=22:14:15,logid="0000000013",type="traffic",subtype="forward",level="notice",vd="a,b",'
     "eventtime=1715465655,srcip=192.0.2.1,srcport=10,dstip=192.0.2.2,dstport=443,proto=6,action=\"accept\",sentbyte=3",
     {"event_dataset": "fortinet.fortigate", "source_ip": "192.0.2.1", "source_port": 10, "destination_port": 443,
      "source_bytes": 3, "timestamp": 1_715_465_655_000_000, "event_outcome": "success"}),
    (HEAD + 'type="event" subtype="system" level="information" vd="root" user="ann" action="Add" cfgpath="system.admin" msg="m"',
     {"event_dataset": "fortinet.fortigate", "user_name": "ann", "event_category": ["configuration"], "event_outcome": "success"}),
    (HEAD + 'devname="f" devid="d" logid="1" type="event" subtype="user" vd="r" user="ann" action="Authentication" status="Failed"',
     {"event_outcome": "failure", "event_category": ["authentication"]}),
    # Junos
    (HEAD + "FW: ge-0/0/0.0   A icmp 192.0.2.1 192.0.2.2     8     0 (1 packets)",
     {"event_dataset": "juniper.junos", "source_ip": "192.0.2.1", "destination_ip": "192.0.2.2", "network_transport": "icmp",
      "source_port": None, "network_packets": 1, "device_action": "accept", "event_type": ["connection", "allowed"]}),
    (HEAD + "fpc0 PFE_FW_SYSLOG_IP: FW: et-1/1/1.25 D 09c9:0800 4a:74:92:52:6c:20 -> bd:83:17:63:d5:f7  tcp 192.0.2.1 192.0.2.2 "
     "46736  3405 (2 packets)",
     {"source_port": 46736, "destination_port": 3405, "source_mac": "4A-74-92-52-6C-20", "device_action": "discard",
      "event_outcome": "failure", "observer_ingress_interface": "et-1/1/1.25"}),
    (HEAD + 'RT_SCREEN_ICMP [attack-name="Sweep!" source-address="192.0.2.1" destination-address="192.0.2.2" action="drop"]',
     {"event_code": "RT_SCREEN_ICMP", "source_ip": "192.0.2.1", "threat_name": "Sweep!", "event_outcome": "failure"}),
    (HEAD + "mgd[5]: UI_LOGIN_EVENT: User 'ann' login, class 'j' [5], ssh-connection '192.0.2.7 4 10.0.0.1 22', client-mode 'cli'",
     {"user_name": "ann", "source_ip": "192.0.2.7", "source_port": 4, "destination_ip": "10.0.0.1", "destination_port": 22}),
    (HEAD + "mgd[5]: UI_CMDLINE_READ_LINE: User 'ann', command 'show version '",
     {"user_name": "ann", "process_command_line": "show version"}),
    # PAN-OS
    (HEAD + ": 1,2024/05/11 22:14:15,1,SYSTEM,auth,1,2024/05/11 22:14:15,,auth-fail,p,0,0,general,medium,\"failed authentication "
     "for user 'ann'. Reason: User is not in allowlist. auth profile 'p', From: 192.0.2.7.\",7,0x0",
     {"event_dataset": "paloalto.panos", "user_name": "ann", "source_ip": "192.0.2.7", "event_outcome": "failure",
      "event_reason": "User is not in allowlist."}),
    (HEAD + "1,2024/05/11 22:14:15,1,AUTH,Unknown,2817,2024/05/11 22:14:15,vsys1,192.0.2.7,corp\\\\ann,,o,p,1,2,,l,,timed out,P,"
     "Authentication Timeout,1,9,0x0",
     {"source_ip": "192.0.2.7", "user_name": "ann", "user_domain": "corp", "event_reason": "timed out"}),
    # CEF
    ("\ufeffCEF:0|a|b|1|2|n|5|src=192.0.2.1", {"event_dataset": "cef", "source_ip": "192.0.2.1"}),
    ("  CEF:0|a|b|1|2|n|5|src=192.0.2.1\tdst=192.0.2.2\tmsg=a\tb", {"destination_ip": "192.0.2.2", "message": "a\tb"}),
    ("CEF:0|a|b|1|2|n|5|\n src=192.0.2.1\n  cs1=7\n cs1Label=RuleName\nmsg=two\n lines=2",
     {"source_ip": "192.0.2.1", "rule_name": "7", "message": "two"}),
    ("CEF:0|Fortinet|Fortigate|v6|13|n|3|in=1605 out=398 FTNTFGTduration=7 FTNTFGTpolicyid=10 FTNTFGTsentpkt=5",
     {"source_bytes": 398, "destination_bytes": 1605, "event_duration": 7_000_000_000, "rule_id": "10", "source_packets": 5}),
    ("CEF:0|a|Firewall|1|13|n|3|in=1605 out=398", {"source_bytes": 1605, "destination_bytes": 398}),
    ("LEEF:1.0|a\\|b|c|1|id|src=192.0.2.1\tdst=192.0.2.2", {"observer_vendor": "a|b", "source_ip": "192.0.2.1"}),
    ("CEF:0|SonicWall|b|1|2|n|5|proto=tcp/https", {"network_transport": "tcp", "network_protocol": "https"}),
    ("CEF:0|Fortinet|Fortigate|v6|1|n|3|FTNTFGTeventtime=1545938886123456789 act=pass", {"timestamp": 1_545_938_886_123_456}),
]  # fmt: skip


@pytest.mark.parametrize(("line", "expected"), LINES)
def test_line(line: str, expected: dict[str, Any]) -> None:
    found = event(line.encode())
    assert {name: found.get(name) for name in expected} == expected


def test_a_byte_order_mark_hides_no_header() -> None:
    found = event(b"\xef\xbb\xbf<13>May 11 22:14:15 h app: text")
    assert (found["host_name"], found["process_name"], found["message"]) == ("h", "app", "text")


def test_the_space_in_front_of_what_is_no_known_message_stays() -> None:
    assert event(b"<13>1 2024-05-11T22:14:15Z h app - - -  text")["message"] == " text"


def test_units_of_nothing_but_blanks_and_nuls_are_empty() -> None:
    found = outcome(b"\0", b" \0\n", b"\t")
    assert (found.units_empty, found.dead, dict(found.events)) == (3, [], {})
