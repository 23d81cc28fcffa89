"""Snort's alerts in all their forms."""

from __future__ import annotations

import time
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weir.protocols import snort

RECEIVED = int(datetime(2026, 1, 1, 0, 30, tzinfo=UTC).timestamp()) * 1_000_000
FAST = "12/31-23:59:58.917356  [**] [1:527:8] BAD [x] same SRC/DST [**] [Classification: Potentially Bad Traffic] [Priority: 2] "
FLOW = "{UDP} 192.0.2.1:68 -> 198.51.100.2:67"
FULL = """[**] [1:1000006:0] TCP connection [**]
[Classification: Misc activity] [Priority: 3]\x20
12/31-21:53:15.301504 192.0.2.1:57263 -> 192.0.2.2:22
TCP TTL:127 TOS:0x10 ID:61472 IpLen:20 DgmLen:40 DF
***A**** Seq: 0x68940D74  Ack: 0xBC811F16  Win: 0x80E  TcpLen: 20
[Xref => http://one.example/][Xref => two]
"""
SNORT2 = (
    '12/31-21:45:37.536335 ,1,1000006,4,"TCP, ""very"" \\"odd\\\\ \\"",TCP,192.0.2.1,57263,192.0.2.2,22,00:25:90:3A:05:13,'
    "00:50:56:9D:A5:BE,0x72,***AP***,0x688F0DFC,0xBC763516,,0x80C,127,0,55665,100,102400,,,,"
)
ICMP = '12/31-21:49:55.900215 ,1,1000004,0,"Ping",ICMP,192.0.2.1,,192.0.2.2,,,,,,,,,,64,0,37607,84,86016,8,3,83,1'
PFSENSE = '12/31/25-21:37:16.428952 ,1,2403488,6,"ET x",TCP,192.0.2.1,36847,192.0.2.2,91,54321,Misc Attack,2,alert,Allow'
SNORT3 = "12/31-21:37:16.428952, 5, TCP, stream_tcp, 99, C2S, 192.0.2.1:5, 2001:db8::1:6, 116:414:1, drop"


def us(*parts: int) -> int:
    return round(datetime(*parts, tzinfo=UTC).timestamp() * 1e6)  # type: ignore[misc]


def parsed(text: str) -> snort.Alert:
    alert = snort.parse(text, RECEIVED, lambda local: local)
    assert alert is not None
    return alert


def ends(alert: snort.Alert) -> tuple[str | None, int | None, str | None, int | None]:
    return alert.source_ip, alert.source_port, alert.destination_ip, alert.destination_port


class TestFast:
    def test_a_line(self) -> None:
        alert = parsed(FAST + FLOW)
        assert (alert.gid, alert.sid, alert.rev, alert.message) == ("1", "527", "8", "BAD [x] same SRC/DST")
        assert (alert.category, alert.priority, alert.transport) == ("Potentially Bad Traffic", 2, "udp")
        assert ends(alert) == ("192.0.2.1", 68, "198.51.100.2", 67)

    @pytest.mark.parametrize(
        ("flow", "wanted"),
        [
            ("{ICMP} 192.0.2.1 -> 192.0.2.2", ("192.0.2.1", None, "192.0.2.2", None)),
            ("{ICMP} 192.0.2.1:8 -> 192.0.2.2:0", ("192.0.2.1", None, "192.0.2.2", None)),
            ("{TCP} 2001:db8::1:68 -> fe80::2:67", ("2001:db8::1", 68, "fe80::2", 67)),
            ("{TCP} 2001:0db8:0:0:0:0:0:0001:68 -> 2001:db8:0:0:0:0:0:2", ("2001:db8::1", 68, "2001:db8::2", None)),
            ("{TCP} [2001:db8::1]:68 -> [2001:db8::2]:67", ("2001:db8::1", 68, "2001:db8::2", 67)),
            ("{IPV6-ICMP} fe80::1 -> ff02::1", ("fe80::1", None, "ff02::1", None)),
            ("{PROTO:255} 192.0.2.1 -> 192.0.2.2", ("192.0.2.1", None, "192.0.2.2", None)),
            ("{TCP} a -> b", (None, None, None, None)),
            ("", (None, None, None, None)),
        ],
    )
    def test_addresses_with_and_without_ports(self, flow: str, wanted: tuple[str | None, ...]) -> None:
        assert ends(parsed(FAST + flow)) == wanted

    def test_protocols_have_names_or_numbers(self) -> None:
        assert (
            parsed(FAST + FLOW.replace("UDP", "PROTO:255")).transport,
            parsed(FAST + FLOW.replace("UDP", "PROTO:255")).protocol_number,
        ) == (None, 255)
        assert parsed(FAST + FLOW.replace("UDP", "IPV6-ICMP")).protocol_number == 58
        assert parsed(FAST + FLOW.replace("UDP", "IP")).transport is None

    def test_snort_3_quotes_the_message_and_names_action_interface_and_application(self) -> None:
        line = '26/01/01-00:00:01.5 [drop] [**] [116:414:1]  <eth0> "(ipv4) x" [**] [Priority: 3] [AppID: HTTP] ' + FLOW
        alert = parsed(line)
        assert (alert.message, alert.action, alert.interface, alert.application) == ("(ipv4) x", "drop", "eth0", "HTTP")
        assert alert.time_us == us(2026, 1, 1, 0, 0, 1, 500_000)

    @pytest.mark.parametrize(
        ("stamp", "wanted"),
        [
            ("12/31-23:59:58.917356", us(2025, 12, 31, 23, 59, 58, 917_356)),  # New Year's Eve, read on New Year's Day
            ("01/01-00:29:59", us(2026, 1, 1, 0, 29, 59)),
            ("01/02-02:00:00.1", us(2026, 1, 2, 2, 0, 0, 100_000)),  # within 26 hours, a clock that is ahead
            ("01/02-03:00:00", us(2025, 1, 2, 3)),
            ("02/29-00:00:00", us(2024, 2, 29)),
            ("09/04/21-21:45:37.000001", us(2021, 9, 4, 21, 45, 37, 1)),
            ("21/09/30-21:45:37", us(2021, 9, 30, 21, 45, 37)),
            ("10/05/2010-10:08:59.667372", us(2010, 10, 5, 10, 8, 59, 667_372)),
            ("13/40-00:00:00", None),
            ("12/31-24:00:00", None),
        ],
    )
    def test_times_with_and_without_a_year(self, stamp: str, wanted: int | None) -> None:
        assert parsed(FAST.replace("12/31-23:59:58.917356", stamp) + FLOW).time_us == wanted

    def test_times_are_local_to_the_sensor(self) -> None:
        alert = snort.parse(FAST + FLOW, RECEIVED, lambda local: local - 3_600_000_000)
        assert alert is not None
        assert alert.time_us == us(2025, 12, 31, 22, 59, 58, 917_356)

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "12/31",
            "12/31-23:59:58 something else",
            "12/31-23:59:58.917356  [**] [1:527] x [**]",
            "[1:2:3] no more",
            "[**] [1:2:3] x",
            "[a] b",
        ],
    )
    def test_other_lines_are_none_of_it(self, text: str) -> None:
        assert snort.parse(text, RECEIVED, lambda local: local) is None


@pytest.mark.parametrize(
    ("text", "message", "interface"),
    [
        ("[1:1000017:2] a {b} c [Classification: Misc activity] [Priority: 3] " + FLOW, "a {b} c", None),
        ("[1:1000017:2] <eth1> abc [Classification: Misc activity] [Priority: 3]: " + FLOW, "abc", "eth1"),
        ('[1:1000017:2] "abc" [Classification: Misc activity] [Priority: 3] <eth1> ' + FLOW, "abc", "eth1"),
    ],
)
def test_syslog(text: str, message: str, interface: str | None) -> None:
    alert = parsed(text)
    assert (alert.gid, alert.sid, alert.rev, alert.message, alert.interface) == ("1", "1000017", "2", message, interface)
    assert (alert.category, alert.priority, alert.transport, alert.time_us) == ("Misc activity", 3, "udp", None)
    assert ends(alert) == ("192.0.2.1", 68, "198.51.100.2", 67)


class TestFull:
    def test_a_block(self) -> None:
        alert = parsed(FULL)
        assert (alert.sid, alert.message, alert.category, alert.priority) == ("1000006", "TCP connection", "Misc activity", 3)
        assert alert.time_us == us(2025, 12, 31, 21, 53, 15, 301_504)
        assert (alert.transport, ends(alert)) == ("tcp", ("192.0.2.1", 57263, "192.0.2.2", 22))
        assert alert.references == ("http://one.example/", "two")
        assert (alert.rest["ttl"], alert.rest["tos"], alert.rest["ip_id"], alert.rest["pkt_len"]) == (127, 16, 61472, 40)
        assert (alert.rest["tcp_flags"], alert.rest["tcp_win"]) == ("***A****", "0x80E")

    def test_a_block_with_the_link_layer_and_icmp(self) -> None:
        alert = parsed(
            "[**] [1:4:0] Ping [**]\n[Priority: 2] \n12/31-21:53:15.299988 0:C:29:1:2:3 -> 00:50:56:9D:A5:BE type:0x800 len:0x62\n"
            "192.0.2.1 -> 192.0.2.2 ICMP TTL:64 TOS:0x0 ID:6922 IpLen:20 DgmLen:84 DF\nType:8  Code:1  ID:101   Seq:1  ECHO"
        )
        assert (alert.source_mac, alert.destination_mac) == ("00-0C-29-01-02-03", "00-50-56-9D-A5-BE")
        assert (alert.transport, alert.icmp_type, alert.icmp_code) == ("icmp", 8, 1)
        assert ends(alert) == ("192.0.2.1", None, "192.0.2.2", None)

    def test_the_alerts_of_a_file_one_by_one(self) -> None:
        second = FULL.replace("1000006", "7")
        assert list(snort.blocks(f"{FULL}\n\n{second}{FULL}")) == [FULL.strip(), second.strip(), FULL.strip()]
        assert list(snort.blocks(f"{SNORT2}\r\n\n{ICMP}\n")) == [SNORT2, ICMP]
        assert list(snort.blocks("")) == []


class TestColumns:
    def test_snort_2_in_its_default_order(self) -> None:
        alert = parsed(SNORT2)
        assert (alert.gid, alert.sid, alert.rev, alert.message) == ("1", "1000006", "4", 'TCP, "very" "odd\\ "')
        assert alert.time_us == us(2025, 12, 31, 21, 45, 37, 536_335)
        assert (alert.transport, ends(alert)) == ("tcp", ("192.0.2.1", 57263, "192.0.2.2", 22))
        assert (alert.source_mac, alert.destination_mac) == ("00-25-90-3A-05-13", "00-50-56-9D-A5-BE")
        assert (alert.rest["tcp_flags"], alert.rest["ttl"], alert.rest["ip_len"]) == ("***AP***", "127", "102400")

    def test_icmp_has_no_ports_but_type_and_code(self) -> None:
        alert = parsed(ICMP)
        assert (ends(alert), alert.icmp_type, alert.icmp_code) == (("192.0.2.1", None, "192.0.2.2", None), 8, 3)

    def test_pfsense(self) -> None:
        alert = parsed(PFSENSE)
        assert (alert.time_us, alert.category, alert.priority, alert.action) == (
            us(2025, 12, 31, 21, 37, 16, 428_952), "Misc Attack", 2, "alert",
        )  # fmt: skip
        assert alert.rest == {"ip_id": "54321", "disposition": "Allow"}

    def test_snort_3_in_its_default_order(self) -> None:
        alert = parsed(SNORT3)
        assert (alert.gid, alert.sid, alert.rev, alert.action) == ("116", "414", "1", "drop")
        assert ends(alert) == ("192.0.2.1", 5, "2001:db8::1", 6)
        assert alert.rest == {"pkt_num": "5", "pkt_gen": "stream_tcp", "pkt_len": "99", "dir": "C2S"}

    def test_columns_that_are_not_known_are_kept_by_number(self) -> None:
        assert parsed(SNORT2 + ",more").rest["column_28"] == "more"

    def test_unknown_orders_are_none_of_it(self) -> None:
        assert snort.parse("12/31-21:37:16.428952, TCP, 192.0.2.1", RECEIVED, lambda local: local) is None


class TestJson:
    def test_a_record(self) -> None:
        document = {
            "seconds": 1608147213, "timestamp": "12/16-20:33:33.603502", "action": "block", "class": "none", "dir": "C2S",
            "dst_addr": "2001:db8::2", "dst_ap": "2001:db8::2:445", "dst_port": 445, "eth_src": "52:54:00:70:78:9F",
            "iface": "ens3", "msg": "x", "priority": 1, "proto": "TCP", "rule": "1:50626:3",
            "service": "netbios-ssn", "src_ap": "2001:db8::1:5",
            "vlan": 0, "client_bytes": 9, "server_pkts": 2, "b64_data": "AAAA",
        }  # fmt: skip
        alert = snort.from_json(document, RECEIVED, lambda local: local)
        assert alert is not None
        assert alert.time_us == us(2020, 12, 16, 19, 33, 33, 603_502)
        assert (alert.gid, alert.sid, alert.rev, alert.message, alert.category) == ("1", "50626", "3", "x", None)
        assert ends(alert) == ("2001:db8::1", 5, "2001:db8::2", 445)
        assert (alert.action, alert.interface, alert.application, alert.vlan) == ("block", "ens3", "netbios-ssn", None)
        assert (alert.source_mac, alert.client_bytes, alert.server_packets) == ("52-54-00-70-78-9F", 9, 2)
        assert alert.rest == {"dir": "C2S", "b64_data": "AAAA"}

    def test_without_seconds_the_time_is_local_and_of_the_latest_year(self) -> None:
        document: dict[str, object] = {"timestamp": "12/16-20:33:33.603502", "rule": "1:2:3", "action": "allow"}
        alert = snort.from_json(document, RECEIVED, lambda local: local)
        assert alert is not None
        assert alert.time_us == us(2025, 12, 16, 20, 33, 33, 603_502)

    @pytest.mark.parametrize(
        "document",
        [
            {},
            {"rule": "1:2:3"},
            {"rule": "allow all", "timestamp": "12/16-20:33:33.603502", "msg": "x"},
            {"rule": "1:2:3", "timestamp": "2026-01-02T03:04:05Z", "msg": "x"},
            {"gid": 1, "sid": 2, "seconds": "now", "msg": "x"},
            {"timestamp": "2026-01-02T03:04:05Z", "event_type": "alert", "src_ip": "192.0.2.1"},
        ],
    )
    def test_other_documents_are_none_of_it(self, document: dict[str, object]) -> None:
        assert snort.from_json(document, RECEIVED, lambda local: local) is None


@pytest.mark.parametrize(
    "text",
    [
        FAST + "{TCP} " * 20_000,
        FAST + "[Classification: " * 20_000,
        FAST + "[Xref => " * 20_000,
        "[**] [1:2:3] x [**]\n12/31-21:53:15 TCP TTL:1 " + "a:" * 60_000,
        "[**] [1:2:3] x [**]\nTCP TTL:1 TOS:0x" + "F" * 100_000 + " ID:" + "9" * 100_000,
        "[1:2:3] <" + "x" * 100_000,
        "[1:2:3] " + "{" * 100_000,
        SNORT2[:25] + '1,2,3,"' + '","' * 60_000,
        SNORT2[:25] + '1,2,3,"' + '\\"' * 60_000,
    ],
)
def test_a_hostile_line_costs_one_pass(text: str) -> None:
    started = time.perf_counter()
    snort.parse(text, RECEIVED, lambda local: local)
    assert time.perf_counter() - started < 2.0


@given(st.sampled_from([FAST + FLOW, FULL, SNORT2, ICMP, PFSENSE, SNORT3]), st.data())
@settings(max_examples=150, deadline=None)
def test_no_text_raises(text: str, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(text)))
    cut = text[:at] + data.draw(st.text(max_size=8)) + text[at + data.draw(st.integers(0, 8)) :]
    alert = snort.parse(cut, RECEIVED, lambda local: local)
    assert alert is None or isinstance(alert, snort.Alert)
    list(snort.blocks(cut))


@given(
    st.dictionaries(
        st.sampled_from(["rule", "gid", "sid", "timestamp", "seconds", "msg", "src_ap", "src_port", "proto", "vlan", "eth_src"]),
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats()
        | st.text(max_size=12)
        | st.sampled_from(["1:2:3", "12/31-23:59:58.9"]),
    )
)
@settings(max_examples=150, deadline=None)
def test_no_document_raises(document: dict[str, object]) -> None:
    snort.from_json({"rule": "1:2:3", "seconds": 1, "msg": "x"} | document, RECEIVED, lambda local: local)
