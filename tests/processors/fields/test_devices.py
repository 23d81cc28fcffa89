import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weir.processors.fields import Context
from weir.processors.fields.devices.table import duration_ns, mac, time_us, transport
from weir.processors.fields.syslog import message_fields
from weir.protocols import syslog

NOW = 1_717_243_200_000_000  # 2024-06-01T12:00:00Z
SCHEMA = json.loads((Path(__file__).parents[3] / "schemas" / "avro" / "syslog.v2.avsc").read_text())
FIELDS = {field["name"] for field in SCHEMA["fields"]}


def fields(line: str, zone_hours: int = 0) -> dict[str, Any]:
    """Fields of a line, with the time and host that the processor sets where a device does not."""
    context = Context(NOW, lambda local: local - zone_hours * 3_600_000_000)
    message = syslog.parse(line.encode("utf-8", "replace"), received_us=NOW, to_utc=context.to_utc)
    found = message_fields(message, context)
    assert found.keys() <= FIELDS
    if found.get("timestamp") is None:
        found["timestamp"] = message.timestamp_us
    if found.get("host_name") is None:
        found["host_name"] = message.hostname
    return found


def check(line: str, expected: dict[str, Any], zone_hours: int = 0) -> None:
    found = fields(line, zone_hours)
    assert {name: found.get(name) for name in expected} == expected


def test_a_message_of_no_known_maker_says_no_more_than_its_header() -> None:
    assert fields("<13>May 11 22:14:15 h app[1]: key=value other=1") == {
        "event_kind": "event", "event_module": "syslog", "event_dataset": "syslog", "event_severity": 5,
        "message": "key=value other=1", "log_syslog_version": "rfc3164", "process_name": "app", "process_pid": "1",
        "log_syslog_msgid": None, "log_syslog_structured_data": None, "timestamp": 1_715_465_655_000_000, "host_name": "h",
    }  # fmt: skip


class TestCisco:
    def test_a_connection_of_asa(self) -> None:
        check(
            "<166>May 11 2024 22:14:15 fw : %ASA-6-302013: Built inbound TCP connection 7 for out:192.0.2.1/1 (192.0.2.1/1) to "
            "in:10.0.0.1/443 (203.0.113.9/443) (LOCAL\\u)",
            {
                "event_module": "cisco", "event_dataset": "cisco.asa", "event_code": "302013", "event_severity": 6,
                 "host_name": "fw",
                "source_ip": "192.0.2.1", "source_port": 1, "source_nat_ip": None, "destination_ip": "10.0.0.1",
                "destination_port": 443, "destination_nat_ip": "203.0.113.9", "destination_nat_port": 443,
                "observer_ingress_interface": "out", "observer_egress_interface": "in", "network_transport": "tcp",
                "network_iana_number": 6, "user_name": "u", "user_domain": "LOCAL", "event_category": ["network"],
                "event_type": ["connection", "start"], "event_outcome": "success", "device_action": "built",
            },
        )  # fmt: skip

    def test_what_has_ended_began_its_duration_ago(self) -> None:
        check(
            "<166>May 11 2024 22:14:15: %ASA-6-302016: Teardown UDP connection 7 for out:192.0.2.1/1 to in:10.0.0.1/53 duration "
            "0:00:05 bytes 9",
            {"event_start": 1_715_465_650_000_000, "event_end": 1_715_465_655_000_000, "event_duration": 5_000_000_000},
        )

    def test_what_stands_between_header_and_message_is_of_neither(self) -> None:
        check("<166>May 11 2024 22:14:15 fw : %ASA-5-1: x", {"message": "%ASA-5-1: x", "host_name": "fw"})

    def test_a_teardown_has_bytes_and_duration(self) -> None:
        check(
            "<166>%ASA-6-302014: Teardown TCP connection 7 for out:192.0.2.1/1 to in:10.0.0.1/443 duration 1:01:02 bytes 9 "
            "TCP FINs",
            {
                "network_bytes": 9, "event_duration": 3_662_000_000_000, "event_reason": "TCP FINs",
                "event_type": ["connection", "end"], "event_action": "flow-expiration",
                "message": "%ASA-6-302014: Teardown TCP connection 7 for out:192.0.2.1/1 to in:10.0.0.1/443 duration 1:01:02 "
                           "bytes 9 "
                "TCP FINs",
            },
        )  # fmt: skip

    @pytest.mark.parametrize(("action", "outcome", "kind"), [("permitted", "success", "allowed"), ("denied", "failure", "denied")])
    def test_what_an_access_list_did(self, action: str, outcome: str, kind: str) -> None:
        check(
            f"<166>%ASA-6-106100: access-list acl {action} tcp in/192.0.2.1(1) -> out/192.0.2.2(2) hit-cnt 1 first hit [0x1, 0x2]",
            {"event_outcome": outcome, "event_type": ["connection", kind], "rule_name": "acl", "device_action": action},
        )

    def test_an_end_that_is_named_is_a_host(self) -> None:
        check(
            '<166>%ASA-4-106023: Deny tcp src in:server-1/1 dst out:192.0.2.2/www by access-group "acl"',
            {
                "source_ip": None,
                "source_host": "server-1",
                "source_port": 1,
                "destination_ip": "192.0.2.2",
                "destination_port": None,
            },
        )

    def test_a_security_event_of_ftd(self) -> None:
        check(
            "<113>2024-05-11T22:14:15Z ftd : %FTD-1-430003: AccessControlRuleAction: Block, SrcIP: 192.0.2.1, DstIP: 192.0.2.2, "
            "SrcPort: 1, DstPort: 2, Protocol: tcp, IngressZone: in, EgressZone: out, AccessControlRuleName: r, "
            "ConnectionDuration: 5, "
            "FirstPacketSecond: 2024-05-11T22:14:10Z, InitiatorBytes: 3, ResponderBytes: 4, URL: http://x/a",
            {
                "event_dataset": "cisco.ftd", "event_action": "connection-finished", "source_ip": "192.0.2.1",
                 "destination_port": 2,
                "event_duration": 5_000_000_000, "event_start": 1_715_465_650_000_000, "source_bytes": 3, "destination_bytes": 4,
                "rule_name": "r", "event_outcome": "failure", "event_type": ["connection", "end", "denied"],
                "observer_ingress_zone": "in", "url_original": "http://x/a", "host_name": "ftd",
                "event_end": 1_715_465_655_000_000, "network_bytes": 7,
            },
        )  # fmt: skip

    def test_a_change_of_configuration_on_ios(self) -> None:
        check(
            "<189>29: *Mar  1 18:48:50.483 UTC: %SYS-5-CONFIG_I: Configured from console by admin on vty0 (192.0.2.1)",
            {
                "event_dataset": "cisco.ios", "timestamp": 1_709_318_930_483_000, "user_name": "admin", "source_ip": "192.0.2.1",
                "event_category": ["configuration"], "event_type": ["change"],
                "log_syslog_fields": {
                    "sequence": "29", "clock": "*", "facility": "SYS", "mnemonic": "CONFIG_I", "config_source": "console",
                    "user": "admin", "line": "vty0", "src_ip": "192.0.2.1",
                },
            },
        )  # fmt: skip

    def test_behind_a_relay_the_time_of_the_device_counts_if_its_clock_is_set(self) -> None:
        relayed = (
            "<189>Mar  1 18:48:51 192.0.2.7 29: {}Mar  1 18:48:50.483 UTC: %SYS-5-CONFIG_I: Configured from console by console"
        )
        expected = {"host_name": "192.0.2.7", "process_name": None, "timestamp": 1_709_318_930_483_000}
        check(relayed.format(""), expected)
        check(relayed.format("."), expected)
        check(relayed.format("*"), expected | {"timestamp": 1_709_318_931_000_000})

    def test_systems_are_told_apart(self) -> None:
        for line, dataset in (
            ("<189>: 2024 Mar  1 18:48:50 UTC: %ETHPORT-5-IF_UP: Interface Ethernet1/1 is up in Layer3", "cisco.nexus"),
            (
                "<189>51: RP/0/RSP0/CPU0:Mar  1 18:48:50: config[1]: %MGBL-SYS-5-CONFIG_I : Configured from console by lab",
                "cisco.iosxr",
            ),
            ("<134>wlc: *Dot1x_Task_0: Mar 01 18:48:50.5: %DOT1X-3-ABORT_AUTH: 1x_bauth_sm.c:447 Abort", "cisco.wlc"),
        ):
            assert fields(line)["event_dataset"] == dataset

    def test_who_writes_in_the_same_form_keeps_its_name(self) -> None:
        for line, dataset in (
            (
                "<189>Mar  1 18:48:50 sw ConfigAgent: %SYS-5-CONFIG_I: Configured from console by admin on vty7 (192.0.2.1)",
                "arista.eos",
            ),
            ("<189>Mar  1 18:48:50 sw %STKUNIT0-M:CP %IFMGR-5-OSTATE_UP: Changed interface state to up: Te 0/1", "dell.ftos"),
            ("<189>Mar  1 18:48:50 sw %SYS-5-CONFIG_I: Configured from console by admin on vty7 (192.0.2.1)", "cisco.ios"),
        ):
            assert fields(line)["event_dataset"] == dataset

    def test_what_a_daemon_of_nx_os_says_of_a_login(self) -> None:
        check(
            "<187>: 2024 Mar  1 18:48:50 UTC: %DAEMON-3-SYSTEM_MSG: error: PAM: Authentication failure for illegal user x from "
            "2001:db8::1 - dcos_sshd[12]",
            {
                "event_dataset": "cisco.nexus", "event_category": ["authentication"], "event_outcome": "failure", "user_name": "x",
                "source_ip": "2001:db8::1", "network_type": "ipv6",
            },
        )  # fmt: skip

    def test_of_a_message_with_an_unread_wording_who_is_connected_is_read(self) -> None:
        check(
            "<166>%ASA-7-715036: Group = g, Username = u, IP = 192.0.2.1, Sending keep-alive of type DPD",
            {"event_code": "715036", "user_name": "u", "source_ip": "192.0.2.1", "event_dataset": "cisco.asa"},
        )

    def test_an_alarm_of_stealthwatch(self) -> None:
        check(
            "<131>Jul 17 15:27:27 smc StealthWatch[1]: 2024-05-24T14:37:58Z 192.0.2.9 0.0.0.0 Critical Bad Host The host did it",
            {
                "event_dataset": "cisco.stealthwatch", "event_kind": "alert", "source_ip": "192.0.2.9", "destination_ip": None,
                "event_severity": 2, "timestamp": 1_716_561_478_000_000,
            },
        )  # fmt: skip


class TestFortinet:
    LINE = (
        '<189>date=2024-05-11 time=10:14:15 devname="fw" devid="FG1" logid="0000000013" type="traffic" subtype="forward" '
        'level="notice" '
        'vd="root" {}srcip=192.0.2.1 srcport=1 srcintf="lan" dstip=192.0.2.2 dstport=443 dstintf="wan" proto=6 action="close" '
        'policyid=7 policyname="p" service="HTTPS" sentbyte=10 rcvdbyte=20 sentpkt=1 rcvdpkt=2 duration=3 user="AD\\u" '
        "transip=203.0.113.9 "
        "transport=5"
    )

    def test_fields(self) -> None:
        check(
            self.LINE.format("eventtime=1715436855123456789 "),
            {
                "event_module": "fortinet", "event_dataset": "fortinet.fortigate", "host_name": "fw", "event_code": "0000000013",
                "timestamp": 1_715_436_855_123_456, "source_ip": "192.0.2.1", "source_port": 1, "destination_ip": "192.0.2.2",
                "destination_port": 443, "network_transport": "tcp", "network_protocol": "https", "event_duration": 3_000_000_000,
                "source_bytes": 10, "destination_bytes": 20, "source_packets": 1, "destination_packets": 2, "rule_id": "7",
                "rule_name": "p", "user_name": "u", "user_domain": "AD", "source_nat_ip": "203.0.113.9", "source_nat_port": 5,
                "observer_ingress_interface": "lan", "observer_egress_interface": "wan", "event_type": ["connection", "end"],
                "event_outcome": "success", "event_severity": 5,
            },
        )  # fmt: skip

    def test_without_eventtime_the_zone_is_the_devices_else_the_sources(self) -> None:
        check(self.LINE.format('tz="-0500" '), {"timestamp": 1_715_440_455_000_000})
        check(self.LINE.format('tz="UTC+2:00" '), {"timestamp": 1_715_422_455_000_000 - 7_200_000_000}, zone_hours=2)
        check(self.LINE.format(""), {"timestamp": 1_715_422_455_000_000 - 3_600_000_000}, zone_hours=1)


class TestPaloAlto:
    def test_traffic_in_the_zone_of_the_source(self) -> None:
        check(
            "<14>May 11 10:14:16 fw 1,2024/05/11 10:14:16,0001,TRAFFIC,end,1,2024/05/11 10:14:15,192.0.2.1,192.0.2.2,"
            "203.0.113.9,0.0.0.0,"
            "r,AD\\u,,ssl,vsys1,in,out,e1/1,e1/2,L,2024/05/11 10:14:15,7,1,1111,443,2222,0,0x1,tcp,allow,30,10,20,3,"
            "2024/05/11 10:14:10,5,"
            "any,0,9,0x0,US,DE,0,1,2,tcp-fin",
            {
                "event_dataset": "paloalto.panos", "host_name": "fw", "timestamp": 1_715_422_455_000_000 - 7_200_000_000,
                "source_ip": "192.0.2.1", "source_port": 1111, "source_nat_ip": "203.0.113.9", "source_nat_port": 2222,
                "destination_ip": "192.0.2.2", "destination_nat_ip": None, "destination_nat_port": None, "user_name": "u",
                "user_domain": "AD", "network_bytes": 30, "source_bytes": 10, "destination_bytes": 20, "network_packets": 3,
                "source_packets": 1, "destination_packets": 2, "event_duration": 5_000_000_000, "event_reason": "tcp-fin",
                "rule_name": "r", "network_application": "ssl", "event_type": ["connection", "end"], "event_outcome": "success",
                "event_start": 1_715_422_450_000_000 - 7_200_000_000,
            },
            zone_hours=2,
        )  # fmt: skip

    def test_a_threat(self) -> None:
        columns = ["1", "2024/05/11 10:14:16", "1", "THREAT", "url", "1", "2024/05/11 10:14:15", "192.0.2.1", "192.0.2.2",
         *[""] * 15,
                   "1", "2", "", "", "0x0", "tcp", "block-url", '"evil.example:8080/a,b"', "(9999)", "malware", "high",
                    "client-to-server"]  # fmt: skip
        check(
            "<12>1 2024-05-11T10:14:16.5Z fw - - - - " + ",".join(columns),
            {
                "timestamp": 1_715_422_456_500_000, "url_original": "evil.example:8080/a,b", "url_domain": "evil.example",
                "event_code": "9999", "threat_name": None, "event_severity": 3, "event_outcome": "failure",
                "event_category": ["network", "web"], "rule_category": "malware", "destination_port": 2,
            },
            zone_hours=2,
        )  # fmt: skip

    def test_a_login_to_globalprotect_before_there_is_a_tunnel(self) -> None:
        check(
            "<14>May 11 10:14:16 fw 1,2024/05/11 10:14:16,1,GLOBALPROTECT,0,1,2024/05/11 10:14:15,vsys1,gateway-auth,login,LDAP,,"
            "AD\\u,US,PC-1,203.0.113.5,0.0.0.0,0.0.0.0,0.0.0.0,host,ser,5.1,Windows,10,1,,,,failure,,0,,0,gw,7,0x0",
            {
                "source_ip": "203.0.113.5", "source_nat_ip": None, "user_name": "u", "event_action": "gateway-auth",
                "event_outcome": "failure", "event_category": ["authentication", "session"], "source_host": "PC-1",
            },
        )  # fmt: skip

    def test_a_time_with_its_zone_is_the_best(self) -> None:
        columns = ["1", "2024/05/11 10:14:16", "1", "SYSTEM", "auth", "1", "2024/05/11 10:14:15", "", "auth-fail", "", "", "",
         "general",
                   "medium", '"failed for user"', "9", "0x0", "0", "0", "0", "0", "", "fw", "", "",
                    "2024-05-11T10:14:15.123-07:00"]  # fmt: skip
        check(
            "<14>May 11 10:14:16 h " + ",".join(columns),
            {
                "timestamp": 1_715_447_655_123_000, "event_category": ["authentication"], "event_outcome": "failure",
                "event_reason": "failed for user", "event_code": "auth-fail", "host_name": "fw",
            },
        )  # fmt: skip


class TestJuniper:
    def test_a_session_in_structured_data(self) -> None:
        check(
            '<14>1 2024-05-11T10:14:16.5Z srx RT_FLOW - RT_FLOW_SESSION_CLOSE [junos@2636.1.1.1.2.40 reason="TCP FIN" '
            'source-address="192.0.2.1" source-port="1" destination-address="192.0.2.2" destination-port="2" protocol-id="17" '
            'nat-source-address="203.0.113.9" nat-source-port="3" policy-name="p" source-zone-name="in" username="u" '
            'packets-from-client="1" bytes-from-client="10" bytes-from-server="20" elapsed-time="3"]',
            {
                "event_module": "juniper", "event_dataset": "juniper.junos", "event_code": "RT_FLOW_SESSION_CLOSE",
                "source_ip": "192.0.2.1", "source_nat_ip": "203.0.113.9", "source_nat_port": 3, "destination_port": 2,
                "network_transport": "udp", "rule_name": "p", "observer_ingress_zone": "in", "user_name": "u", "source_bytes": 10,
                "destination_bytes": 20, "event_duration": 3_000_000_000, "event_reason": "TCP FIN",
                "event_type": ["connection", "end", "allowed"], "event_outcome": "success",
            },
        )  # fmt: skip

    def test_structured_data_that_does_not_conform(self) -> None:
        check(
            '<38>1 2024-05-11T10:14:16Z srx mgd 9 UI_LOGIN_EVENT [junos@2636.1.1.1.2.40 username="u" class-name="c" ] User login',
            {
                "event_code": "UI_LOGIN_EVENT", "user_name": "u", "log_syslog_version": "unparsed", "host_name": "srx",
                "event_category": ["authentication", "session"], "timestamp": 1_715_422_456_000_000,
            },
        )  # fmt: skip

    def test_what_its_sshd_says_is_an_event_of_junos(self) -> None:
        check(
            "<38>May 11 10:14:16 srx sshd[9]: SSHD_LOGIN_FAILED: Login failed for user 'u' from host '192.0.2.1'",
            {"event_dataset": "juniper.junos", "user_name": "u", "source_ip": "192.0.2.1", "event_outcome": "failure"},
        )

    def test_a_denied_session_whose_name_is_the_tag(self) -> None:
        check(
            "<14>May 11 10:14:16 srx RT_FLOW_SESSION_DENY: session denied 192.0.2.1/1->192.0.2.2/2 None 6(0) p in out",
            {"event_code": "RT_FLOW_SESSION_DENY", "source_ip": "192.0.2.1", "event_outcome": "failure", "network_protocol": None},
        )


class TestUnix:
    def test_a_login(self) -> None:
        check(
            "May 11 10:14:16 h sshd[7]: Accepted password for u from 192.0.2.1 port 22 ssh2",
            {
                "event_module": "system", "event_dataset": "system.auth", "event_category": ["authentication", "session"],
                "event_action": "ssh_login", "event_outcome": "success", "user_name": "u", "source_ip": "192.0.2.1",
                 "source_port": 22,
            },
        )  # fmt: skip

    @pytest.mark.parametrize(
        ("text", "user", "target"),
        [
            ("sudo:    u : TTY=pts/0 ; PWD=/ ; USER=root ; COMMAND=/bin/ls", "u", "root"),
            ("sudo: pam_unix(sudo:session): session opened for user root by u(uid=1000)", "u", "root"),
            ("CRON[1]: pam_unix(cron:session): session opened for user root by (uid=0)", "root", "root"),
            ("su[1]: Successful su for v by u", "u", "v"),
        ],
    )
    def test_who_acts_and_upon_whom(self, text: str, user: str, target: str) -> None:
        check(f"May 11 10:14:16 h {text}", {"user_name": user, "destination_user_name": target, "event_outcome": "success"})

    def test_launchd_speaks_for_a_service(self) -> None:
        check(
            "May 11 10:14:16 h com.apple.xpc.launchd[1] (com.apple.x[7]): text",
            {
                "message": "text", "process_name": "com.apple.xpc.launchd", "process_pid": "1",
                "log_syslog_fields": {"service": "com.apple.x[7]"},
            },
        )  # fmt: skip


class TestConversions:
    @pytest.mark.parametrize(
        ("text", "seconds"),
        [("0:00:30", 30), ("12d 9h:11m:22s", 1_069_882), ("5", 5), ("1h:00m:05s", 3_605), ("x", None), ("1:2", None)],
    )
    def test_durations(self, text: str, seconds: int | None) -> None:
        assert duration_ns(text) == (None if seconds is None else seconds * 1_000_000_000)

    def test_hardware_addresses(self) -> None:
        assert {mac(text) for text in ("00:11:22:aa:bb:cc", "0011.22aa.bbcc", "00-11-22-AA-BB-CC")} == {"00-11-22-AA-BB-CC"}
        assert mac("0011") is None

    def test_protocols_by_name_and_number(self) -> None:
        assert transport("6") == transport("TCP") == {"network_transport": "tcp", "network_iana_number": 6}
        assert transport("icmp6") == {"network_transport": "ipv6-icmp", "network_iana_number": 58}
        assert transport("254") == {"network_transport": None, "network_iana_number": 254}

    def test_times_with_and_without_a_zone(self) -> None:
        assert time_us("2024/05/11 10:14:15") == (1_715_422_455_000_000, False)
        assert time_us("2024-05-11T10:14:15.5+02:00") == (1_715_415_255_500_000, True)
        assert time_us("x") is None


BEGINS = (
    "%ASA-6-302013: Built ", "%ASA-4-106023: Deny ", "%FTD-1-430003: ", "%SYS-5-CONFIG_I: Configured from ",
    "date=2024-05-01 devname=a logid=1 type=x ", "1,2024/05/01 10:00:00,1,THREAT,url,1,9999/99/99 10:00:00,",
     "RT_FLOW_SESSION_CLOSE: ",
    "sshd[1]: Failed password for ", "sudo: u : TTY=x ; ", "su: pam_unix(su:session): session opened for user ",
    "StealthWatch[1]: 2024-99-24T14:37:58Z 192.0.2.9 ::: Minor ",
)  # fmt: skip


@settings(max_examples=200)
@given(
    st.sampled_from(["", "<13>", "<13>May 11 22:14:15 h ", "<13>1 - h a - - - "]),
    st.sampled_from(["", *BEGINS]),
    st.text(max_size=80)
    | st.lists(st.sampled_from(["=", '"', " ", ",", "\\", "from ", "1", "a:b/1", "(", ")", ": ", "\ud800"])).map("".join),
)
def test_no_text_makes_it_raise_and_all_that_comes_out_can_be_encoded(header: str, begin: str, rest: str) -> None:
    for value in fields(header + begin + rest).values():
        json.dumps(value, ensure_ascii=False).encode()
