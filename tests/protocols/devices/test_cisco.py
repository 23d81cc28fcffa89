import pytest

from weir.protocols.devices.cisco import read_cisco, read_stealthwatch
from weir.protocols.devices.cisco_asa import ACTIONS, MESSAGE_IDS, read_asa, read_ftd


class TestMessage:
    @pytest.mark.parametrize(
        ("text", "product", "facility", "severity", "mnemonic", "rest"),
        [
            ("%SYS-5-CONFIG_I: x", "ios", "SYS", 5, "CONFIG_I", "x"),
            ("%SYS-SW1-5-RESTART: x", "ios", "SYS-SW1", 5, "RESTART", "x"),
            ("%MGBL-SYS-5-CONFIG_I : x", "ios", "MGBL-SYS", 5, "CONFIG_I", "x"),
            ("%$ VDC-1 %$ %ETHPORT-5-IF_UP: x", "nexus", "ETHPORT", 5, "IF_UP", "x"),
            ("%ASA-config-5-111008: x", "asa", "ASA-config", 5, "111008", "x"),
            (": %FTD-6-302013: x", "ftd", "FTD", 6, "302013", "x"),
            ("#DOT1X-3-ABORT: x", "wlc", "DOT1X", 3, "ABORT", "x"),
        ],
    )
    def test_is_read(self, text: str, product: str, facility: str, severity: int, mnemonic: str, rest: str) -> None:
        message = read_cisco(text)
        assert message is not None
        assert message[:5] == (product, facility, severity, mnemonic, rest)

    def test_slot_and_task_tell_the_system(self) -> None:
        xr, wlc = read_cisco("%AB-5-C: x", slot=True), read_cisco("%AB-5-C: x", task=True)
        assert xr is not None
        assert wlc is not None
        assert (xr.product, wlc.product) == ("iosxr", "wlc")

    @pytest.mark.parametrize("text", ["", "x", "100% of A-5-B: x", "%a-5-b: x", "%A-9-B: x", "x" * 400 + "%A-5-B: x"])
    def test_others_are_none(self, text: str) -> None:
        assert read_cisco(text) is None


@pytest.mark.parametrize(
    ("text", "pairs"),
    [
        ("%SYS-5-CONFIG_I: Configured from console by admin on vty0 (192.0.2.1)",
         {"config_source": "console", "user": "admin", "line": "vty0", "src_ip": "192.0.2.1"}),
        ("%SYS-5-CONFIG_I: Configured from console by console", {"config_source": "console", "line": "console"}),
        ("%VSHD-5-VSHD_SYSLOG_CONFIG_I: Configured from vty by admin on 192.0.2.1@pts/0",
         {"config_source": "vty", "user": "admin", "src_ip": "192.0.2.1", "line": "pts/0"}),
        ("%SEC_LOGIN-4-LOGIN_FAILED: Login failed [user: a b] [Source: 192.0.2.1] [localport: 22] [Reason: Bad] at 10:00",
         {"user": "a b", "src_ip": "192.0.2.1", "dst_port": "22", "reason": "Bad"}),
        ("%SEC-6-IPACCESSLOGP: list 100 denied tcp 192.0.2.1(1234) (Gi0/1 0011.2233.4455) -> 192.0.2.2(80), 1 packet",
         {"access_list": "100", "action": "denied", "protocol": "tcp", "src_ip": "192.0.2.1", "src_port": "1234",
          "interface": "Gi0/1",
          "src_mac": "0011.2233.4455", "dst_ip": "192.0.2.2", "dst_port": "80", "packets": "1"}),
        ("%SEC-6-IPACCESSLOGDP: list 100 permitted icmp 192.0.2.1 -> 192.0.2.2 (8/0), 3 packets",
         {"access_list": "100", "action": "permitted", "protocol": "icmp", "src_ip": "192.0.2.1", "dst_ip": "192.0.2.2",
          "icmp_type": "8",
          "icmp_code": "0", "packets": "3"}),
        ("%IPV6-6-ACCESSLOGP: list v6/10 permitted tcp 2001:DB8::1(1) -> 2001:DB8::2(2), 1 packet",
         {"access_list": "v6/10", "action": "permitted", "protocol": "tcp", "src_ip": "2001:DB8::1", "src_port": "1",
          "dst_ip": "2001:DB8::2", "dst_port": "2", "packets": "1"}),
        ("%LINEPROTO-5-UPDOWN: Line protocol on Interface Gi0/1, changed state to up", {"interface": "Gi0/1", "state": "up"}),
        ("%SSH-5-SSH2_USERAUTH: User 'u' authentication for SSH2 Session from 192.0.2.1 (tty = 0) using crypto cipher '' Failed",
         {"user": "u", "src_ip": "192.0.2.1", "result": "Failed"}),
        ("%FW-6-SESS_AUDIT_TRAIL: (target:class)-(zp:c):Stop tcp session: initiator (192.0.2.1:1) sent 2 bytes -- responder "
         "(192.0.2.2:3) sent 4 bytes",
         {"zone_pair": "zp", "class": "c", "action": "Stop", "protocol": "tcp", "src_ip": "192.0.2.1", "src_port": "1",
          "bytes_sent": "2",
          "dst_ip": "192.0.2.2", "dst_port": "3", "bytes_received": "4"}),
        ("%DAEMON-3-SYSTEM_MSG: error: PAM: Authentication failure for user x from 192.0.2.1 - dcos_sshd[12]",
         {"process": "dcos_sshd", "pid": "12", "user": "x", "src_ip": "192.0.2.1"}),
        ("%OSPF-5-ADJCHG: Process 1, Nbr 192.0.2.1 on Gi0/0 from FULL to DOWN, Neighbor Down: Dead timer expired",
         {"process": "1", "neighbor": "192.0.2.1", "interface": "Gi0/0", "from_state": "FULL", "state": "DOWN",
          "reason": "Neighbor Down: Dead timer expired"}),
        ("%UNHEARD-5-OF: whatever", {}),
    ],
)  # fmt: skip
def test_wordings_of_ios_and_nx_os(text: str, pairs: dict[str, str]) -> None:
    message = read_cisco(text)
    assert message is not None
    assert message.pairs == pairs


A, B = "192.0.2.1", "198.51.100.2"


@pytest.mark.parametrize(
    ("number", "text", "pairs"),
    [
        ("106001", f"Inbound TCP connection denied from {A}/1 to {B}/2 flags SYN  on interface out",
         {"direction": "Inbound", "protocol": "TCP", "action": "denied", "src_ip": A, "src_port": "1", "dst_ip": B, "dst_port": "2",
          "flags": "SYN", "src_interface": "out"}),
        ("106010", f"Deny inbound protocol 47 src out:{A} dst in:{B}",
         {"action": "Deny", "direction": "inbound", "protocol": "47", "src_interface": "out", "src_ip": A, "dst_interface": "in",
          "dst_ip": B}),
        ("106023", f'Deny udp src in:{A}/1(LOCAL\\u) dst out:{B}/2 by access-group "acl" [0x1, 0x0]',
         {"action": "Deny", "protocol": "udp", "src_interface": "in", "src_ip": A, "src_port": "1", "src_user": "LOCAL\\u",
          "dst_interface": "out", "dst_ip": B, "dst_port": "2", "access_list": "acl", "hash_a": "0x1", "hash_b": "0x0"}),
        ("106100", f"access-list acl denied tcp in/{A}(1) -> out/{B}(2) hit-cnt 1 first hit [0x1, 0x2]",
         {"access_list": "acl", "action": "denied", "protocol": "tcp", "src_interface": "in", "src_ip": A, "src_port": "1",
          "dst_interface": "out", "dst_ip": B, "dst_port": "2", "hit_count": "1", "interval": "first hit", "hash_a": "0x1",
          "hash_b": "0x2"}),
        ("113015", f"AAA user authentication Rejected : reason = Invalid password : local database : user = u : user IP = {A}",
         {"action": "Rejected", "reason": "Invalid password", "user": "u", "src_ip": A}),
        ("302013", f"Built inbound TCP connection 7 for out:{A}/1 ({A}/1) to in:{B}/2 (203.0.113.9/3) (u)",
         {"action": "Built", "direction": "inbound", "protocol": "TCP", "connection_id": "7", "src_interface": "out", "src_ip": A,
          "src_port": "1", "src_mapped_ip": A, "src_mapped_port": "1", "dst_interface": "in", "dst_ip": B, "dst_port": "2",
          "dst_mapped_ip": "203.0.113.9", "dst_mapped_port": "3", "user": "u"}),
        ("302013", "Built outbound TCP connection 7 for out:2001:db8::1/1 (2001:db8::1/1) to in:2001:db8::2/2 (2001:db8::2/2)",
         {"action": "Built", "direction": "outbound", "protocol": "TCP", "connection_id": "7", "dst_interface": "out",
          "dst_ip": "2001:db8::1", "dst_port": "1", "dst_mapped_ip": "2001:db8::1", "dst_mapped_port": "1", "src_interface": "in",
          "src_ip": "2001:db8::2", "src_port": "2", "src_mapped_ip": "2001:db8::2", "src_mapped_port": "2"}),
        ("302014", f"Teardown TCP connection 7 for out:{A}/1(LOCAL\\u) to in:{B}/2 duration 0:01:02 bytes 9 TCP FINs (v)",
         {"action": "Teardown", "protocol": "TCP", "connection_id": "7", "src_interface": "out", "src_ip": A, "src_port": "1",
          "src_user": "LOCAL\\u", "dst_interface": "in", "dst_ip": B, "dst_port": "2", "duration": "0:01:02", "bytes": "9",
          "reason": "TCP FINs", "user": "v"}),
        ("302020", f"Built inbound ICMP connection for faddr {A}/0 gaddr 203.0.113.9/1 laddr {B}/1 type 8 code 0",
         {"action": "Built", "direction": "inbound", "protocol": "ICMP", "src_ip": A, "icmp_seq": "0",
          "dst_mapped_ip": "203.0.113.9",
          "dst_mapped_port": "1", "dst_ip": B, "icmp_code": "1", "icmp_type": "8"}),
        ("302020", f"Built outbound ICMP connection for faddr {A}/0 gaddr 203.0.113.9/1 laddr {B}/1",
         {"action": "Built", "direction": "outbound", "protocol": "ICMP", "dst_ip": A, "icmp_seq": "0",
          "src_mapped_ip": "203.0.113.9",
          "src_mapped_port": "1", "src_ip": B, "icmp_code": "1"}),
        ("305011", f"Built dynamic TCP translation from in:{A}/1 to out:{B}/2",
         {"action": "Built", "translation": "dynamic", "protocol": "TCP", "src_interface": "in", "src_ip": A, "src_port": "1",
          "dst_interface": "out", "src_mapped_ip": B, "src_mapped_port": "2"}),
        ("605004", f'Login denied from {A}/1 to in:{B}/ssh for user "root"',
         {"action": "denied", "src_ip": A, "src_port": "1", "dst_interface": "in", "dst_ip": B, "service": "ssh", "user": "root"}),
        ("111008", "User 'u' executed the 'write memory' command.", {"user": "u", "action": "executed", "command": "write memory"}),
        ("713905", "INFO: something else", {}),
        ("999999", "unheard of", {}),
    ],
)  # fmt: skip
def test_wordings_of_asa(number: str, text: str, pairs: dict[str, str]) -> None:
    assert read_asa(number, text) == pairs


def test_each_message_number_of_asa_says_what_was_done() -> None:
    assert len(MESSAGE_IDS) > 120
    assert ACTIONS.keys() == MESSAGE_IDS


def test_a_security_event_of_ftd_is_split_where_the_next_key_begins() -> None:
    assert read_ftd("SrcIP: 192.0.2.1, URL: http://x/a, b, User: , Prefilter Policy: Default, HTTPReferer: y") == {
        "SrcIP": "192.0.2.1",
        "URL": "http://x/a, b",
        "User": "",
        "Prefilter Policy": "Default",
        "HTTPReferer": "y",
    }
    assert read_ftd("no pair") == {}


def test_an_alarm_of_stealthwatch() -> None:
    alarm = read_stealthwatch("2014-06-24T14:37:58Z 192.0.2.9 0.0.0.0 Minor High Concern Index The host's index")
    assert alarm is not None
    assert alarm == ("2014-06-24T14:37:58Z", "192.0.2.9", "0.0.0.0", "Minor", "High Concern Index The host's index")
    assert read_stealthwatch("something else") is None
