import pytest

from weir.protocols.devices.fortinet import event_time_us, read_fortinet
from weir.protocols.devices.juniper import read_junos
from weir.protocols.devices.paloalto import read_panos
from weir.protocols.devices.unix import read_unix

ENDS = {"source-address": "192.0.2.1", "source-port": "1", "destination-address": "192.0.2.2", "destination-port": "2"}
NAT = {
    "nat-source-address": "203.0.113.1",
    "nat-source-port": "3",
    "nat-destination-address": "192.0.2.2",
    "nat-destination-port": "2",
}
ZONES = {"policy-name": "p", "source-zone-name": "trust", "destination-zone-name": "untrust"}


class TestJunos:
    def test_structured_data(self) -> None:
        event = read_junos("session closed", "RT_FLOW_SESSION_CLOSE", {"junos@2636.1.1.1.2.40": {"reason": "TCP FIN"}})
        assert event == ("RT_FLOW_SESSION_CLOSE", {"reason": "TCP FIN"}, "session closed")

    @pytest.mark.parametrize("brackets", ['[junos@2636.1.1.1.2.40 a-b="1" c="x\\"y"] tail', 'a-b="1" c="x\\"y"'])
    def test_the_same_pairs_in_a_bsd_message(self, brackets: str) -> None:
        event = read_junos(f"RT_FLOW: RT_FLOW_SESSION_DENY {brackets}", None, None)
        assert event is not None
        assert (event.event, event.pairs) == ("RT_FLOW_SESSION_DENY", {"a-b": "1", "c": 'x"y'})

    @pytest.mark.parametrize(
        ("text", "pairs"),
        [
            ("session created 192.0.2.1/1->192.0.2.2/2 0x0 junos-http 203.0.113.1/3->192.0.2.2/2 0x0 source rule r1 N/A N/A 6 "
             "p trust "
             "untrust 99 u(N/A) ge-0/0/0.0 HTTP UNKNOWN",
             {**ENDS, **NAT, **ZONES, "service-name": "junos-http", "src-nat-rule-type": "source rule", "src-nat-rule-name": "r1",
              "dst-nat-rule-type": "N/A", "dst-nat-rule-name": "N/A", "protocol-id": "6", "session-id-32": "99", "username": "u",
              "roles": "N/A", "packet-incoming-interface": "ge-0/0/0.0", "application": "HTTP", "nested-application": "UNKNOWN"}),
            ("session closed TCP FIN: 192.0.2.1/1->192.0.2.2/2 junos-http 203.0.113.1/3->192.0.2.2/2 r1 None 6 p trust "
             "untrust 99 5(400) "
             "6(700) 3 HTTP UNKNOWN u(N/A) ge-0/0/0.0 No",
             {**ENDS, **NAT, **ZONES, "reason": "TCP FIN", "service-name": "junos-http", "src-nat-rule-name": "r1",
              "dst-nat-rule-name": "None", "protocol-id": "6", "session-id-32": "99", "packets-from-client": "5",
              "bytes-from-client": "400", "packets-from-server": "6", "bytes-from-server": "700", "elapsed-time": "3",
              "application": "HTTP", "nested-application": "UNKNOWN", "username": "u", "roles": "N/A",
              "packet-incoming-interface": "ge-0/0/0.0"}),
            ("session denied 192.0.2.1/1->192.0.2.2/2 None 17(0) p trust untrust",
             {**ENDS, **ZONES, "service-name": "None", "protocol-id": "17", "icmp-type": "0"}),
        ],
    )  # fmt: skip
    def test_sessions_in_a_sentence(self, text: str, pairs: dict[str, str]) -> None:
        event = read_junos(f"RT_FLOW_SESSION_X: {text}", None, None)
        assert event is not None
        assert event.pairs == pairs

    def test_the_management_plane(self) -> None:
        event = read_junos("SSHD_LOGIN_FAILED: Login failed for user 'root' from host '192.0.2.1'", None, None)
        assert event == (
            "SSHD_LOGIN_FAILED",
            {"username": "root", "source-address": "192.0.2.1"},
            "Login failed for user 'root' from host '192.0.2.1'",
        )

    @pytest.mark.parametrize("text", ["", "session created", "SOME_THING: else", "RT"])
    def test_others_are_none(self, text: str) -> None:
        assert read_junos(text, None, {"other@1": {}}) is None


class TestFortinet:
    def test_pairs(self) -> None:
        assert read_fortinet('date=2024-05-01 time=10:00:00 devname="f w" logid="1" type="traffic" msg="a \\"b\\""') == {
            "date": "2024-05-01", "time": "10:00:00", "devname": "f w", "logid": "1", "type": "traffic", "msg": 'a "b"',
        }  # fmt: skip

    @pytest.mark.parametrize("text", ["date=2024-05-01 time=10:00:00 type=x user=y", "a=1 b=2", "", "no pairs at all"])
    def test_others_are_none(self, text: str) -> None:
        assert read_fortinet(text) is None

    @pytest.mark.parametrize(
        ("text", "micros"),
        [
            ("1587226668", 1_587_226_668_000_000),
            ("1587226668123", 1_587_226_668_123_000),
            ("1587226668123456789", 1_587_226_668_123_456),
            ("12", None),
            ("x", None),
        ],
    )
    def test_the_digits_of_eventtime_tell_its_unit(self, text: str, micros: int | None) -> None:
        assert event_time_us(text) == micros


class TestPanos:
    def test_columns_by_the_type(self) -> None:
        line = '1,2024/05/01 10:00:00,0001,TRAFFIC,end,1,2024/05/01 09:59:59,192.0.2.1,192.0.2.2,0.0.0.0,0.0.0.0,"a, ""b""",AD\\u'
        event = read_panos(line)
        assert event is not None
        assert (event.type, event.subtype) == ("TRAFFIC", "end")
        assert event.columns == {
            "receive_time": "2024/05/01 10:00:00", "serial": "0001", "type": "TRAFFIC", "subtype": "end",
            "time_generated": "2024/05/01 09:59:59", "src": "192.0.2.1", "dst": "192.0.2.2", "natsrc": "0.0.0.0",
             "natdst": "0.0.0.0",
            "rule": 'a, "b"', "srcuser": "AD\\u",
        }  # fmt: skip

    @pytest.mark.parametrize("details", ["", ",before,after"])
    def test_a_change_with_and_without_its_details(self, details: str) -> None:
        line = (
            f"1,2024/05/01 10:00:00,1,CONFIG,0,1,2024/05/01 10:00:00,192.0.2.1,,commit,admin,Web,Submitted,/path{details},77,0x8000"
        )
        event = read_panos(line)
        assert event is not None
        assert (event.columns["seqno"], event.columns["actionflags"]) == ("77", "0x8000")
        assert event.columns.get("after_change_detail") == ("after" if details else None)

    def test_columns_that_no_list_names_are_numbered(self) -> None:
        event = read_panos("1,2024/05/01 10:00:00,1,CORRELATION,,,2024/05/01 10:00:00,x")
        assert event is not None
        assert event.columns["column_8"] == "x"

    @pytest.mark.parametrize("text", ["", "1,2024/05/01,1,TRAFFIC", "a,b,c", "1,2024/05/01 10:00:00,1,traffic,"])
    def test_others_are_none(self, text: str) -> None:
        assert read_panos(text) is None


class TestUnix:
    @pytest.mark.parametrize(
        ("program", "text", "action", "outcome", "pairs"),
        [
            ("sshd", "Failed password for root from 192.0.2.1 port 22 ssh2", "ssh_login", "failure",
             {"method": "password", "user": "root", "src": "192.0.2.1", "port": "22", "protocol": "ssh2"}),
            ("sshd", "Accepted publickey for u from 2001:db8::1 port 22 ssh2: RSA SHA256:x", "ssh_login", "success",
             {"method": "publickey", "user": "u", "src": "2001:db8::1", "port": "22", "protocol": "ssh2",
              "signature": "RSA SHA256:x"}),
            ("sshd", "message repeated 2 times: [ Failed password for u from 192.0.2.1 port 22 ssh2 [preauth]]", "ssh_login",
             "failure",
             {"method": "password", "user": "u", "src": "192.0.2.1", "port": "22", "protocol": "ssh2", "repeated": "2"}),
            ("sshd", "[ID 800047 auth.info] Accepted password for u from 192.0.2.1 port 22 ssh2", "ssh_login", "success",
             {"method": "password", "user": "u", "src": "192.0.2.1", "port": "22", "protocol": "ssh2"}),
            ("sshd", "error: PAM: Authentication error for illegal user u from 192.0.2.1", "ssh_login", "failure",
             {"reason": "Authentication error", "invalid": "illegal user", "user": "u", "src": "192.0.2.1"}),
            ("dropbear", "Bad password attempt for 'root' from 192.0.2.1:5678", "ssh_login", "failure",
             {"method": "password", "user": "root", "src": "192.0.2.1", "port": "5678"}),
            ("sshd", "Invalid user  from 192.0.2.1 port 3", "ssh_login", "failure",
             {"invalid": "Invalid", "src": "192.0.2.1", "port": "3"}),
            ("sshd-session", "Connection closed by authenticating user root 192.0.2.1 port 5 [preauth]", "ssh_disconnect", None,
             {"how": "closed", "state": "authenticating", "user": "root", "src": "192.0.2.1", "port": "5"}),
            ("sshd(pam_unix)", "authentication failure; logname= uid=0 euid=0 tty=x ruser= rhost=192.0.2.1  user=root",
             "authentication",
             "failure", {"module": "pam_unix", "uid": "0", "euid": "0", "tty": "x", "rhost": "192.0.2.1", "user": "root"}),
            ("su", "pam_unix(su-l:session): session opened for user root(uid=0) by u(uid=1000)", "session_opened", "success",
             {"module": "pam_unix", "service": "su-l", "type": "session", "target": "root", "target_uid": "0", "by": "u",
              "uid": "1000"}),
            ("su", "'su root' failed for u on /dev/pts/8", "su", "failure", {"target": "root", "user": "u", "tty": "/dev/pts/8"}),
            ("sudo", "   u : 3 incorrect password attempts ; TTY=pts/1 ; PWD=/ ; USER=root ; COMMAND=/bin/sh -c a ; b", "sudo",
             "failure",
             {"user": "u", "error": "3 incorrect password attempts", "TTY": "pts/1", "PWD": "/", "USER": "root",
              "COMMAND": "/bin/sh -c a ; b"}),
            ("useradd", "new user: name=u, UID=1, GID=2, home=/h, shell=/s", "user_added", "success",
             {"user": "u", "uid": "1", "gid": "2", "home": "/h", "shell": "/s"}),
            ("systemd-logind", "New session 12 of user u.", "session_started", "success", {"session": "12", "user": "u"}),
            ("CRON", "(root) CMD (run)", "cron_command", None, {"user": "root", "command": "run"}),
        ],
    )  # fmt: skip
    def test_sentences(self, program: str, text: str, action: str, outcome: str | None, pairs: dict[str, str]) -> None:
        assert read_unix(program, text) == (action, outcome, pairs)

    @pytest.mark.parametrize(
        "text", ["Failed password for {} from 192.0.2.2 port 33 ssh2", "Invalid user {} from 192.0.2.2 port 33"]
    )
    def test_a_name_that_looks_like_the_rest_of_the_sentence_moves_no_address(self, text: str) -> None:
        """Who tries to log in chooses the name."""
        name = "root from 203.0.113.1 port 22 ssh2"
        event = read_unix("sshd", text.format(name))
        assert event is not None
        assert (event.pairs["user"], event.pairs["src"], event.pairs["port"]) == (name, "192.0.2.2", "33")

    @pytest.mark.parametrize(
        ("program", "text"), [(None, "x"), ("sshd", "whatever"), ("httpd", "Failed password for u"), ("sudo", "x")]
    )
    def test_others_are_none(self, program: str | None, text: str) -> None:
        assert read_unix(program, text) is None
