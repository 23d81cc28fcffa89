"""Zeek's records as events, by the way through the processors and as the readers of the topics see them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weir.bus.codec import Decoder, Encoder
from weir.model.batch import RawBatch
from weir.model.ids import new_batch_id
from weir.model.schemas import latest
from weir.processors import beats, syslog
from weir.processors.fields import NOTHING, Context, Decoded, zeek
from weir.processors.fields.zeek_table import LOGS
from weir.processors.outcome import Outcome, RawCoordinates

NOW_US = 1_790_000_000_000_000
ID = {"id.orig_h": "2001:db8::0:1", "id.orig_p": 40000, "id.resp_h": "192.0.2.2", "id.resp_p": 443}
CONN: dict[str, Any] = {"ts": 1379288667.706265, "uid": "CoyZ", **ID, "proto": "tcp", "conn_state": "SF"}
FIELDS = ("ts", "uid", "id.orig_h", "id.orig_p", "id.resp_h", "id.resp_p", "proto", "service", "duration", "conn_state", "tags")
TYPES = ("time", "string", "addr", "port", "addr", "port", "enum", "string", "interval", "string", "set[string]")
HEADER = [
    "#separator \\x09",
    "#set_separator\t,",
    "#empty_field\t(empty)",
    "#unset_field\t-",
    "#path\tconn",
    "#open\t2026-01-02-03-04-05",
    "\t".join(("#fields", *FIELDS)),
    "\t".join(("#types", *TYPES)),
]
LINE = "1379288667.706265\tCoyZ\t192.0.2.1\t40000\t192.0.2.2\t443\ttcp\tssl\t0.447460\tSF\ta,b"
STANDARD = "1379288667.706265	C1	192.0.2.1	1	192.0.2.2	2	tcp	-	-	-	-	S0	-	-	0	S	1	40	0	0	-"


def context(**known: Any) -> Context:
    return Context(NOW_US, lambda local: local, **known)


def written(found: Decoded | None, dataset: str) -> dict[str, Any]:
    """The event as a reader of the topic sees it; what the schema does not have would fail here."""
    assert found is not None
    assert found[0] == dataset
    assert found[1].keys() <= {field["name"] for field in latest(dataset).parsed["fields"]}
    common = {"event_id": "i", "event_created": NOW_US, "site": "s", "log_source_ip": "192.0.2.9"}
    coordinates = {"raw_topic": "t", "raw_partition": 0, "raw_offset": 0}
    event = Decoder()(Encoder(dataset)({**common, **coordinates, **found[1]}))
    assert isinstance(event, dict)
    return event


def record(log: str, known: Context | None = None, /, **columns: Any) -> dict[str, Any]:
    document = {"_path": log, "ts": 1.5, "uid": "C1", **ID, **columns}
    return written(zeek.document(document, known or context()), "network-log")


def process(*units: str) -> Outcome:
    batch = RawBatch(new_batch_id(), "here", "r", "tcp", "192.0.2.9", 514, NOW_US, [unit.encode() for unit in units])
    return syslog.make_process()(batch, RawCoordinates("t", 0, 0))


@pytest.mark.parametrize("separator", ["|", "||", ",", " "])
def test_a_separator_that_can_be_printed_stands_in_the_header_as_it_is(separator: str) -> None:
    """Zeek escapes only what cannot."""
    lines = [
        f"#separator {separator}",
        f"#set_separator{separator};",
        f"#path{separator}dns",
        f"#fields{separator}ts{separator}query",
    ]
    outcome = process(*lines, f"#types{separator}time{separator}string", f"1.5{separator}a.example")
    assert {name: len(records) for name, records in outcome.events.items()} == {"network-log": 1}
    assert outcome.events["network-log"][0]["dns_question_name"] == "a.example"


def test_a_remark_is_no_separator() -> None:
    assert zeek.line("#separator of what", context()) is None


class TestConn:
    def test_a_connection_is_a_flow(self) -> None:
        more = {"service": "ssl", "duration": 1.25, "orig_ip_bytes": 100, "resp_ip_bytes": 200, "orig_pkts": 3, "resp_pkts": 4}
        rest = {"history": "ShAD", "local_orig": True, "orig_bytes": 1, "tunnel_parents": ["C9"]}
        extras = {
            "vlan": 7,
            "inner_vlan": 8,
            "orig_l2_addr": "00:0c:29:aa:bb:cc",
            "resp_l2_addr": "0:1:2:3:4:5",
            "community_id": "1:x=",
        }
        event = written(zeek.document({**CONN, **more, **rest, **extras}, context()), "network-flow")
        assert (event["timestamp"], event["event_start"]) == (1379288667706265, 1379288667706265)
        assert (event["event_end"], event["event_duration"]) == (1379288668956265, 1_250_000_000)
        assert (event["source_ip"], event["source_port"]) == ("2001:db8::1", 40000)
        assert (event["destination_ip"], event["destination_port"]) == ("192.0.2.2", 443)
        assert (event["network_transport"], event["network_iana_number"], event["network_application"]) == ("tcp", 6, "ssl")
        assert (event["source_bytes"], event["destination_bytes"], event["network_bytes"]) == (100, 200, 300)
        assert (event["source_packets"], event["destination_packets"], event["network_packets"]) == (3, 4, 7)
        assert (event["flow_protocol"], event["flow_id"], event["flow_state"]) == ("zeek", "CoyZ", "SF")
        assert (event["vlan_id"], event["inner_vlan_id"], event["network_community_id"]) == (7, 8, "1:x=")
        assert (event["source_mac"], event["destination_mac"]) == ("00-0C-29-AA-BB-CC", "00-01-02-03-04-05")
        assert (event["event_module"], event["event_dataset"]) == ("zeek", "zeek.conn")
        assert json.loads(event["flow_additional"]) == rest
        assert event["network_direction"] is None

    def test_where_ip_bytes_were_not_counted_those_of_the_payload_stand_in_and_it_is_said(self) -> None:
        event = written(zeek.document({**CONN, "orig_bytes": 5, "resp_bytes": 6, "resp_ip_bytes": 60}, context()), "network-flow")
        assert (event["source_bytes"], event["destination_bytes"]) == (5, 60)
        assert json.loads(event["flow_additional"]) == {"orig_bytes": 5, "resp_bytes": 6, "source_bytes_from": "orig_bytes"}

    def test_the_ports_of_icmp_are_type_and_code(self) -> None:
        event = written(zeek.document({**CONN, "proto": "icmp", "id.orig_p": 128, "id.resp_p": 129}, context()), "network-flow")
        assert (event["flow_icmp_type"], event["flow_icmp_code"]) == (128, 129)
        assert (event["source_port"], event["destination_port"], event["flow_additional"]) == (None, None, None)
        assert (event["network_transport"], event["network_iana_number"]) == ("ipv6-icmp", 58)

    def test_a_protocol_without_a_name_has_its_number(self) -> None:
        event = written(zeek.document({**CONN, "proto": "unknown_transport", "ip_proto": 47}, context()), "network-flow")
        assert (event["network_transport"], event["network_iana_number"]) == (None, 47)

    def test_what_a_field_does_not_take_is_not_lost(self) -> None:
        odd = {"id.orig_h": "nowhere", "duration": -1.0, "orig_pkts": -3, "vlan": 70_000, "orig_l2_addr": "x"}
        event = written(zeek.document({**CONN, **odd}, context()), "network-flow")
        assert odd.items() <= json.loads(event["flow_additional"]).items()
        assert event["event_end"] is None

    def test_the_text_format_says_the_same(self) -> None:
        known = context(log_path="/x/conn.log")
        assert [zeek.line(line, known) for line in HEADER] == [NOTHING] * len(HEADER)
        event = written(zeek.line(LINE, known), "network-flow")
        document = {**CONN, "id.orig_h": "192.0.2.1", "service": "ssl", "duration": 0.44746, "tags": ["a", "b"]}
        assert event == written(zeek.document(document, context()), "network-flow")
        assert zeek.line("#close\t2026-01-02-03-04-06", known) is NOTHING


class TestNotice:
    def test_a_notice_is_an_alert(self) -> None:
        notice = {
            "note": "SSL::Invalid_Server_Cert",
            "msg": "m",
            "sub": "CN=x",
            "actions": ["Notice::ACTION_LOG", "Notice::ACTION_EMAIL"],
        }
        event = written(zeek.document({"ts": 1.5, "uid": "C1", **ID, "proto": "tcp", **notice}, context()), "ids-alert")
        assert (event["rule_name"], event["rule_category"]) == ("SSL::Invalid_Server_Cert", "SSL")
        assert (event["message"], event["event_reason"]) == ("m", "CN=x")
        assert event["event_action"] == "Notice::ACTION_LOG,Notice::ACTION_EMAIL"
        assert (event["event_kind"], event["event_category"]) == ("alert", ["network", "intrusion_detection"])
        assert (event["source_ip"], event["destination_port"]) == ("2001:db8::1", 443)
        assert json.loads(event["document"])["note"] == "SSL::Invalid_Server_Cert"

    def test_one_of_no_connection_names_its_hosts_itself(self) -> None:
        scan = {"ts": 1.5, "note": "Scan::Port_Scan", "msg": "m", "src": "192.0.2.1", "dst": "192.0.2.2", "p": 80, "actions": []}
        event = written(zeek.document({**scan, "dropped": True}, context()), "ids-alert")
        assert (event["source_ip"], event["destination_ip"], event["destination_port"]) == ("192.0.2.1", "192.0.2.2", 80)
        assert (event["source_port"], event["event_type"]) == (None, ["denied"])


class TestRecords:
    def test_dns(self) -> None:
        event = record(
            "dns", proto="udp", query="x.example", qtype_name="AAAA", rcode_name="NXDOMAIN", answers=["a", "2001:db8::9"]
        )
        assert (event["dns_question_name"], event["dns_question_type"], event["dns_response_code"]) == (
            "x.example",
            "AAAA",
            "NXDOMAIN",
        )
        assert event["dns_answers"] == ["a", "2001:db8::9"]
        assert (event["network_application"], event["network_transport"], event["event_dataset"]) == ("dns", "udp", "zeek.dns")

    def test_http(self) -> None:
        event = record(
            "http", method="GET", host="h", uri="/u?q", referrer="r", user_agent="a", status_code=404, response_body_len=9,
            username="bob", resp_mime_types=["text/html"], resp_filenames=["f.exe"],
        )  # fmt: skip
        assert (event["http_request_method"], event["url_domain"], event["url_original"]) == ("GET", "h", "/u?q")
        assert (event["http_request_referrer"], event["user_agent_original"], event["user_name"]) == ("r", "a", "bob")
        assert (event["http_response_status_code"], event["http_response_bytes"]) == (404, 9)
        assert (event["file_mime_type"], event["file_name"]) == ("text/html", "f.exe")
        assert (event["event_outcome"], event["network_transport"]) == ("failure", "tcp")

    def test_ssl(self) -> None:
        event = record(
            "ssl", version="TLSv13", cipher="c", server_name="s", subject="CN=a", issuer="CN=b", ja3="1", ja3s="2",
            established=True, validation_status="certificate has expired",
        )  # fmt: skip
        assert (event["tls_version"], event["tls_cipher"], event["tls_server_name"]) == ("1.3", "c", "s")
        assert (event["tls_server_subject"], event["tls_server_issuer"]) == ("CN=a", "CN=b")
        assert (event["tls_client_ja3"], event["tls_server_ja3s"]) == ("1", "2")
        assert (event["event_outcome"], event["event_reason"]) == ("success", "certificate has expired")

    @pytest.mark.parametrize(
        ("version", "text"), [("TLSv10", "1.0"), ("TLSv12", "1.2"), ("SSLv3", "SSLv3"), ("DTLSv12", "DTLSv12")]
    )
    def test_versions_of_tls_are_numbers(self, version: str, text: str) -> None:
        assert record("ssl", version=version)["tls_version"] == text

    def test_x509_is_of_a_server_unless_it_is_said_to_be_a_clients(self) -> None:
        certificate = {"certificate.subject": "CN=a", "certificate.issuer": "CN=b", "fingerprint": "A" * 64}
        event = record("x509", **certificate)
        assert (event["tls_server_subject"], event["file_hash_sha256"]) == ("CN=a", "a" * 64)
        assert record("x509", **certificate, client_cert=True, host_cert=False)["tls_server_subject"] is None

    def test_files(self) -> None:
        old = {"_path": "files", "ts": 1.5, "fuid": "F", "tx_hosts": ["192.0.2.7"], "rx_hosts": ["192.0.2.8"], "conn_uids": ["C5"]}
        more = {"source": "HTTP", "md5": "0" * 32, "mime_type": "text/plain", "filename": "f", "seen_bytes": 7, "total_bytes": None}
        event = written(zeek.document({**old, **more}, context()), "network-log")
        assert (event["source_ip"], event["destination_ip"], event["flow_id"]) == ("192.0.2.7", "192.0.2.8", "C5")
        assert (event["file_hash_md5"], event["file_mime_type"], event["file_name"], event["file_size"]) == (
            "0" * 32,
            "text/plain",
            "f",
            7,
        )
        assert (event["network_application"], event["network_type"]) == ("http", "ipv4")

    @pytest.mark.parametrize(
        ("log", "columns", "outcome"),
        [
            ("ssh", {"auth_success": True}, "success"),
            ("ssh", {"auth_success": False}, "failure"),
            ("ssh", {"status": "undetermined"}, "unknown"),
            ("ssh", {}, None),
            ("kerberos", {"success": False}, "failure"),
            ("ntlm", {"success": True}, "success"),
            ("radius", {"result": "failed"}, "failure"),
            ("rfb", {"auth": True}, "success"),
            ("ftp", {"reply_code": 530}, "failure"),
            ("ftp", {"reply_code": 227}, "success"),
            ("sip", {"status_code": 200}, "success"),
            ("mysql", {"success": False}, "failure"),
            ("socks", {"status": "succeeded"}, "success"),
            ("ldap", {"result": "invalid credentials"}, "failure"),
            ("dpd", {"failure_reason": "x"}, "failure"),
            ("modbus", {"exception": "ILLEGAL_FUNCTION"}, "failure"),
            ("modbus", {"func": "READ_COILS"}, None),
        ],
    )
    def test_outcomes(self, log: str, columns: dict[str, Any], outcome: str | None) -> None:
        assert record(log, **columns)["event_outcome"] == outcome

    @pytest.mark.parametrize(
        ("client", "user", "realm"),
        [
            ("bob/EXAMPLE.COM", "bob", "EXAMPLE.COM"),
            ("host/a.b/EXAMPLE", "host/a.b", "EXAMPLE"),
            ("bob", "bob", None),
            ("/X", None, "X"),
        ],
    )
    def test_a_kerberos_client_is_a_user_and_its_realm(self, client: str, user: str | None, realm: str | None) -> None:
        event = record("kerberos", client=client, request_type="TGS")
        assert (event["user_name"], event["user_domain"], event["event_action"]) == (user, realm, "TGS")

    @pytest.mark.parametrize(
        ("action", "kind"), [("SMB::FILE_OPEN", "access"), ("SMB::FILE_DELETE", "deletion"), ("SMB::FILE_RENAME", "change")]
    )
    def test_a_file_on_a_share(self, action: str, kind: str) -> None:
        event = record("smb_files", action=action, path="\\\\srv\\share", name="dir\\a.txt", size=3)
        assert (event["event_action"], event["event_type"]) == (action, [kind, "protocol"])
        assert (event["file_path"], event["file_name"], event["file_size"]) == ("\\\\srv\\share\\dir\\a.txt", "dir\\a.txt", 3)

    def test_dhcp(self) -> None:
        document = {"ts": 1.5, "uids": ["C1"], "mac": "00:01:24:56:9b:cf", "assigned_addr": "192.0.2.3", "server_addr": "192.0.2.1"}
        event = written(zeek.document({**document, "host_name": "pc", "msg_types": ["REQUEST", "ACK"]}, context()), "network-log")
        assert (event["source_mac"], event["source_ip"], event["destination_ip"]) == ("00-01-24-56-9B-CF", "192.0.2.3", "192.0.2.1")
        assert (event["source_host"], event["event_action"], event["network_transport"]) == ("pc", "REQUEST,ACK", "udp")

    def test_weird_intel_and_signatures_name_what_matched(self) -> None:
        weird = record("weird", name="bad_checksum", addl="tcp")
        assert (weird["rule_name"], weird["message"], weird["event_kind"]) == ("bad_checksum", "bad_checksum: tcp", "event")
        intel = record("intel", **{"seen.indicator": "x.example", "seen.indicator_type": "Intel::DOMAIN"})
        assert (intel["rule_name"], intel["rule_category"], intel["event_kind"]) == ("x.example", "Intel::DOMAIN", "alert")
        ends = {"src_addr": "192.0.2.1", "src_port": 5, "dst_addr": "192.0.2.2", "dst_port": 6}
        signature = written(
            zeek.document({"ts": 1.5, **ends, "note": "n", "sig_id": "s", "event_msg": "m"}, context()), "network-log"
        )
        assert (signature["rule_id"], signature["source_ip"], signature["destination_port"]) == ("s", "192.0.2.1", 6)

    def test_what_the_kafka_plugin_wraps_is_unwrapped(self) -> None:
        event = written(zeek.document({"dns": {"ts": 1.5, "query": "x"}}, context()), "network-log")
        assert (event["event_dataset"], event["document"]) == ("zeek.dns", '{"ts":1.5,"query":"x"}')

    def test_a_log_that_nobody_knows_is_kept_all_the_same(self) -> None:
        event = record("corelight_burst", mine=[1, {"x": None}], _system_name="sensor-7")
        assert (event["event_dataset"], event["host_name"], event["flow_id"]) == ("zeek.corelight_burst", "sensor-7", "C1")
        assert json.loads(event["document"])["mine"] == [1, {"x": None}]

    @pytest.mark.parametrize("log", sorted(LOGS))
    def test_every_log_of_the_table_fits_the_schema_whatever_its_columns_hold(self, log: str) -> None:
        for value in ("text", 5, 2.5, True, ["a", 1, None], [], {"x": 1}, -1, "", 2**63):
            columns = {column: value for column, _, _ in LOGS[log].columns}
            written(zeek.document({"_path": log, "ts": 1.5, **columns}, context()), "network-log")


class TestLines:
    def test_headers_are_of_one_file_and_one_batch(self) -> None:
        known = context(log_path="/x/conn.log")
        for line in HEADER:
            zeek.line(line, known)
        assert zeek.line(LINE, known) is not None
        known.log_path = "/x/other.log"
        assert zeek.line(LINE, known) is None
        assert zeek.line(LINE, context(log_path="/x/conn.log")) is None

    def test_without_a_header_the_known_columns_of_the_log_are_taken_and_it_is_said(self) -> None:
        for known in (context(log_path="/x/conn.log"), context(event_dataset="zeek.connection"), context(program="zeek_conn")):
            event = written(zeek.line(STANDARD, known), "network-flow")
            assert (event["flow_state"], event["source_bytes"], event["tags"]) == ("S0", 40, ["zeek_columns_assumed"])
        assert zeek.line(STANDARD, context()) is None
        assert zeek.line(STANDARD + "\tx\ty", context(log_path="/x/conn.log")) is None

    def test_a_line_of_another_number_of_columns_is_kept_whole(self) -> None:
        known = context(log_path="/x/conn.log")
        for line in HEADER:
            zeek.line(line, known)
        for broken in (LINE[:60], LINE + "\tx", "garbage"):
            event = written(zeek.line(broken, known), "network-log")
            assert (event["event_original"], event["tags"], event["event_dataset"]) == (broken, ["zeek_malformed"], "zeek.conn")

    def test_a_line_with_a_value_that_does_not_fit_is_kept_whole_too_and_read_as_far_as_it_goes(self) -> None:
        known = context(log_path="/x/conn.log")
        for line in HEADER:
            zeek.line(line, known)
        broken = LINE.replace("1379288667.706265", "2013-09-15")
        event = written(zeek.line(broken, known), "network-flow")
        assert (event["event_original"], event["tags"], event["timestamp"]) == (broken, ["zeek_malformed"], None)
        assert (event["source_ip"], event["event_reason"]) == ("192.0.2.1", "not of its type: ts")

    def test_tabs_that_a_syslog_server_has_escaped_are_tabs(self) -> None:
        known = context(program="zeek_conn")
        assert zeek.line(HEADER[6].replace("\t", "#011"), known) is NOTHING
        assert zeek.line(HEADER[7].replace("\t", "#011"), known) is NOTHING
        assert written(zeek.line(LINE.replace("\t", "#011"), known), "network-flow")["flow_id"] == "CoyZ"


class TestProcessors:
    def test_header_lines_are_units_that_hold_no_event(self) -> None:
        outcome = process(*(f"<14>1 - z bro_conn - - - {line}" for line in [*HEADER, LINE, LINE]))
        assert outcome.units_empty == len(HEADER)
        assert {dataset: len(events) for dataset, events in outcome.events.items()} == {"network-flow": 2}
        assert outcome.dead == []

    def test_json_comes_by_syslog(self) -> None:
        text = json.dumps({**CONN, "orig_pkts": 1})
        (event,) = process(f"<14>1 - z zeek - - - {text}").events["network-flow"]
        assert (event["flow_id"], event["host_name"]) == ("CoyZ", "z")

    def test_lines_and_documents_come_by_filebeat(self) -> None:
        shipped = [
            {"message": line, "log": {"file": {"path": "/opt/zeek/logs/current/conn.log"}}} for line in [*HEADER, LINE, LINE[:50]]
        ]
        shipped.append({"message": json.dumps({"ts": 1.5, "query": "x"}), "event": {"module": "zeek", "dataset": "zeek.dns"}})
        shipped.append({"@timestamp": "2026-01-02T03:04:05Z", "json": {"_path": "notice", "ts": 2.5, "note": "A::B"}})
        units = [json.dumps(document).encode() for document in shipped]
        batch = RawBatch(new_batch_id(), "here", "r", "lumberjack", "192.0.2.9", 5044, NOW_US, units)
        outcome = beats.process(batch, RawCoordinates("t", 0, 0))
        assert (outcome.units_empty, outcome.dead) == (len(HEADER), [])
        (flow,), records, (alert,) = (outcome.events[dataset] for dataset in ("network-flow", "network-log", "ids-alert"))
        assert flow["flow_id"] == "CoyZ"
        assert [record["event_dataset"] for record in records] == ["zeek.conn", "zeek.dns"]
        assert records[0]["tags"] == ["zeek_malformed"]
        assert (alert["rule_name"], alert["timestamp"]) == ("A::B", 2_500_000)

    def test_a_record_nested_deeper_than_can_be_written_is_dead(self) -> None:
        deep = json.dumps(CONN)[:-1] + ', "x": ' + "[" * 300 + "]" * 300 + "}"
        assert [dead.unit_index for dead in process(f"<14>1 - z zeek - - - {deep}").dead] == [0]

    def test_other_lines_with_tabs_stay_what_they_were(self) -> None:
        outcome = process("<14>1 - h app - - - #fields of view\tx", "<14>1 - h app - - - a\tb")
        assert {dataset: len(events) for dataset, events in outcome.events.items()} == {"syslog": 2}


@given(
    st.lists(st.one_of(st.sampled_from([*HEADER, LINE, STANDARD]), st.text(max_size=40)), max_size=12),
    st.sampled_from([None, "/x/conn.log", "/x/y"]),
    st.randoms(use_true_random=False),
)
@settings(max_examples=120, deadline=None)
def test_no_lines_raise(lines: list[str], log_path: str | None, random: Any) -> None:
    known = context(log_path=log_path)
    for line in lines:
        cut = line[: random.randint(0, len(line))] if random.random() < 0.3 else line
        found = zeek.line(cut, known)
        if found is not None and found is not NOTHING:
            written(found, found[0])
