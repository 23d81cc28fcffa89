"""EVE records as events: which fields each record type fills, and that nothing of a record is lost."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.processors.fields.one import event_of, events_of

BASE: dict[str, Any] = {
    "timestamp": "2024-03-01T12:00:00.123456+0000", "flow_id": 11, "in_iface": "ens5", "src_ip": "10.0.0.1", "src_port": 40000,
    "dest_ip": "192.0.2.80", "dest_port": 80, "proto": "TCP", "vlan": [120, 7],
}  # fmt: skip


def record(event_type: str, part: object, **more: Any) -> dict[str, Any]:
    return {**BASE, "event_type": event_type, event_type: part, **more}


CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "http": (
        record("http", {"hostname": "a.example", "url": "/x?y", "http_method": "POST", "http_user_agent": "curl/8", "status": 503,
                        "http_refer": "http://b.example/", "length": 77, "protocol": "HTTP/1.1"}),
        {"url_domain": "a.example", "url_original": "/x?y", "http_request_method": "POST", "user_agent_original": "curl/8",
         "http_response_status_code": 503, "http_request_referrer": "http://b.example/", "http_response_bytes": 77,
         "event_outcome": "failure", "event_type": ["access", "protocol"], "network_application": "http"},
    ),
    "http2 of Suricata 6": (
        record("http2", None, http={"version": "2", "request_headers": [
            {"name": ":authority", "value": "a.example"}, {"name": ":path", "value": "/"}, {"name": ":method", "value": "GET"},
            {"name": "user-agent", "value": "curl/8"}, {"table_size_update": 1}]}),
        {"url_domain": "a.example", "url_original": "/", "http_request_method": "GET", "user_agent_original": "curl/8",
         "event_dataset": "suricata.http2", "network_application": "http2"},
    ),
    "dns, version 1": (
        record("dns", {"type": "answer", "id": 1, "rcode": "NOERROR", "rrname": "w.example", "rrtype": "A", "rdata": "192.0.2.1"}),
        {"dns_question_name": "w.example", "dns_question_type": "A", "dns_response_code": "NOERROR", "dns_answers": ["192.0.2.1"],
         "event_action": "answer"},
    ),
    "dns, version 2": (
        record("dns", {"version": 2, "type": "answer", "rrname": "w.example", "rrtype": "MX", "rcode": "NOERROR", "answers": [
            {"rrname": "w.example", "rrtype": "MX", "rdata": "mx.example"}, {"rrtype": "TXT", "rdata": ""},
            {"rrtype": "SRV", "srv": {"port": 1}}]}),
        {"dns_answers": ["mx.example", '{"port":1}'], "dns_question_type": "MX"},
    ),
    "dns, answers by type": (
        record("dns", {"version": 2, "type": "answer", "rrname": "w.example", "grouped": {"A": ["192.0.2.1", "192.0.2.2"], "SOA": [
            {"mname": "ns.example"}]}}),
        {"dns_answers": ["192.0.2.1", "192.0.2.2", '{"mname":"ns.example"}']},
    ),
    "dns, version 3": (
        record("dns", {"version": 3, "type": "response", "rcode": "NXDOMAIN", "queries": [{"rrname": "w.example", "rrtype": "A"}]}),
        {"dns_question_name": "w.example", "dns_response_code": "NXDOMAIN", "event_action": "response"},
    ),
    "mdns": (
        record("mdns", {"type": "response", "answers": [{"rrname": "_x._tcp.local", "ptr": "y._x._tcp.local"}],
                        "queries": [{"rrname": "_x._tcp.local", "rrtype": "PTR"}]}),
        {"dns_question_name": "_x._tcp.local", "dns_answers": ["y._x._tcp.local"], "network_application": "mdns"},
    ),
    "tls": (
        record("tls", {"sni": "a.example", "version": "TLS 1.2", "subject": "CN=a.example", "issuerdn": "CN=CA",
        "ja3": {"hash": "j3"},
                       "ja3s": {"hash": "j3s"}, "ja4": "t12", "server_handshake": {"cipher": 49199}}),
        {"tls_server_name": "a.example", "tls_version": "1.2", "tls_server_subject": "CN=a.example", "tls_server_issuer": "CN=CA",
         "tls_client_ja3": "j3", "tls_server_ja3s": "j3s", "tls_client_ja4": "t12", "tls_cipher": "0xC02F"},
    ),
    "tls, old names": (record("tls", {"version": "TLSv1"}), {"tls_version": "1.0"}),
    "tls, no version": (record("tls", {"version": "UNDETERMINED"}), {"tls_version": None}),
    "quic": (
        record("quic", {"sni": "v.example", "version": "1", "ua": "Chrome", "ja3": {"hash": "q3"}, "ja4": "q13"}),
        {"tls_server_name": "v.example", "user_agent_original": "Chrome", "tls_client_ja3": "q3", "tls_client_ja4": "q13",
         "tls_version": None},
    ),
    "ssh": (
        record("ssh", {"client": {"software_version": "Go"}, "server": {"software_version": "OpenSSH_9.6",
        "hassh": {"hash": "h"}}}),
        {"ssh_client": "Go", "ssh_server": "OpenSSH_9.6", "network_application": "ssh"},
    ),
    "smb": (
        record("smb", {"command": "SMB2_COMMAND_CREATE", "status": "STATUS_ACCESS_DENIED", "filename": "share\\a\\b.txt",
        "ntlmssp": {
            "domain": "CORP", "user": "alice", "host": "WS1"}}),
        {"event_action": "SMB2_COMMAND_CREATE", "event_reason": "STATUS_ACCESS_DENIED", "event_outcome": "failure",
         "file_path": "share\\a\\b.txt", "file_name": "b.txt", "user_name": "alice", "user_domain": "CORP", "source_host": "WS1"},
    ),
    "fileinfo": (
        record("fileinfo", {"filename": "/a/b.bin", "size": 9, "md5": "D" * 32, "sha1": "a" * 40, "sha256": "b" * 64,
        "magic": "data"},
               app_proto="http", http={"hostname": "a.example"}),
        {"file_name": "b.bin", "file_path": "/a/b.bin", "file_size": 9, "file_hash_md5": "d" * 32, "file_hash_sha1": "a" * 40,
         "file_hash_sha256": "b" * 64, "url_domain": "a.example", "network_application": "http"},
    ),
    "krb5": (
        record("krb5", {"msg_type": "KRB_ERROR", "cname": "alice", "realm": "CORP.EXAMPLE", "sname": "krbtgt", "error_code":
                        "KDC_ERR_PREAUTH_REQUIRED"}),
        {"user_name": "alice", "user_domain": "CORP.EXAMPLE", "event_action": "KRB_ERROR", "event_outcome": "failure",
         "event_reason": "KDC_ERR_PREAUTH_REQUIRED"},
    ),
    "ftp login": (
        record("ftp", {"command": "USER", "command_data": "bob", "completion_code": ["331"]}),
        {"event_action": "USER", "user_name": "bob", "event_code": "331", "event_outcome": "success"},
    ),
    "ftp file": (record("ftp", {"command": "RETR", "command_data": "/x/y.z", "completion_code": ["550"]}),
                 {"file_name": "y.z", "event_outcome": "failure"}),
    "ftp_data": (record("ftp_data", {"command": "STOR", "filename": "y.z"}), {"file_name": "y.z",
    "network_application": "ftp-data"}),
    "rdp": (record("rdp", {"event_type": "connect_request", "cookie": "alice", "client": {"client_name": "WS1"}}),
            {"event_action": "connect_request", "user_name": "alice", "source_host": "WS1"}),
    "sip": (record("sip", {"method": "INVITE", "uri": "sip:a@b.example"}), {"event_action": "INVITE",
    "url_original": "sip:a@b.example"}),
    "snmp": (record("snmp", {"version": 3, "pdu_type": "get_request", "usm": "op"}), {"event_action": "get_request",
    "user_name": "op"}),
    "nfs": (
        record("nfs", {"procedure": "LOOKUP", "filename": "bln", "status": "OK"}, rpc={"creds": {"uid": 0, "machine_name": "ws1"}}),
        {"event_action": "LOOKUP", "file_name": "bln", "event_outcome": "success", "user_id": "0", "source_host": "ws1"},
    ),
    "tftp": (record("tftp", {"packet": "read", "file": "rfc1350.txt"}), {"event_action": "read", "file_name": "rfc1350.txt"}),
    "mqtt": (record("mqtt", {"connect": {"username": "u", "client_id": "c"}}), {"event_action": "connect", "user_name": "u"}),
    "modbus": (record("modbus", {"id": 1, "request": {"function_code": "RdCoils"}}), {"event_action": "RdCoils"}),
    "ike": (record("ike", {"exchange_type_verbose": "IKE_SA_INIT"}), {"event_action": "IKE_SA_INIT"}),
    "dhcp": (
        record("dhcp", {"type": "reply", "dhcp_type": "ack", "client_mac": "00:11:22:aa:bb:cc", "hostname": "ws1"}),
        {"event_action": "ack", "destination_mac": "00-11-22-AA-BB-CC", "destination_host": "ws1", "source_mac": None},
    ),
    "ldap": (
        record("ldap", {"request": {"operation": "bind_request", "bind_request": {"name": "cn=a"}}, "responses": [
            {"operation": "bind_response", "bind_response": {"result_code": "invalid_credentials"}}]}),
        {"event_action": "bind_request", "user_name": "cn=a", "event_reason": "invalid_credentials", "event_outcome": "failure"},
    ),
    "pgsql": (
        record("pgsql", {"request": {"startup_parameters": {"user": "rep"}}, "response": {"code": "28P01",
        "severity_non_localizable":
                         "FATAL", "message": "no"}}),
        {"user_name": "rep", "event_code": "28P01", "event_outcome": "failure", "event_reason": "no"},
    ),
    "pop3": (record("pop3", {"request": {"command": "USER", "args": ["bob"]}, "response": {"success": False}}),
             {"event_action": "USER", "user_name": "bob", "event_outcome": "failure"}),
    "arp": (
        {"timestamp": BASE["timestamp"], "event_type": "arp", "arp": {"opcode": "request", "src_ip": "10.0.0.9",
        "dest_ip": "10.0.0.1",
         "src_mac": "00:11:22:33:44:55", "dest_mac": "ff:ff:ff:ff:ff:ff"}},
        {"event_action": "request", "source_ip": "10.0.0.9", "destination_ip": "10.0.0.1", "source_mac": "00-11-22-33-44-55"},
    ),
    "anomaly": (record("anomaly", {"type": "stream", "event": "stream.pkt_invalid_ack"}),
                {"event_action": "stream.pkt_invalid_ack", "event_reason": "stream", "message": "stream.pkt_invalid_ack"}),
    "drop": (
        record("drop", {"len": 40, "reason": "rules"}, alert={"signature_id": 5, "signature": "s", "category": "c"}),
        {"event_action": "drop", "event_reason": "rules", "event_type": ["denied"], "rule_id": "5", "rule_name": "s"},
    ),
    "stats": ({"timestamp": BASE["timestamp"], "event_type": "stats", "stats": {"uptime": 3}}, {"event_kind": "metric"}),
    "addresses of the cards": (record("ssh", {}, ether={"src_mac": "00:11:22:33:44:55", "dest_mac": "66:77:88:99:aa:bb"}),
                               {"source_mac": "00-11-22-33-44-55", "destination_mac": "66-77-88-99-AA-BB"}),
    "an event type to come": (record("hologram", {"x": 1}), {"event_dataset": "suricata.hologram", "source_ip": "10.0.0.1"}),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_each_record_type_fills_its_fields_and_keeps_the_record(name: str) -> None:
    document, expected = CASES[name]
    dataset, event = event_of(document)
    assert dataset == "network-log"
    assert {key: event[key] for key in expected} == expected
    assert json.loads(event["document"]) == document
    assert (event["timestamp"], event["event_module"]) == (1_709_294_400_123_456, "suricata")
    if "in_iface" in document:
        assert (event["observer_ingress_interface"], event["vlan_id"], event["flow_id"]) == ("ens5", 120, "11")


ALERT = record(
    "alert",
    {
        "action": "blocked", "gid": 1, "signature_id": 9, "rev": 4, "signature": "S", "category": "C", "severity": 2,
        "references": ["url,example.org/a", "cve,2024-1"], "metadata": {"mitre_technique_id": ["T1059_001"]},
    },
    http={"hostname": "a.example", "status": 404}, files=[{"filename": "/a/x.exe", "size": 3, "sha256": "c" * 64}],
    flow={"bytes_toserver": 10, "bytes_toclient": 90, "pkts_toserver": 1, "pkts_toclient": 2, "start": BASE["timestamp"]},
    payload="QQ==",
)  # fmt: skip


def test_an_alert_has_rule_technique_reference_file_and_all_of_its_record() -> None:
    dataset, event = event_of(ALERT)
    assert dataset == "ids-alert"
    assert {
        "event_kind": "alert", "event_action": "blocked", "event_type": ["denied"], "event_severity": 2, "rule_id": "9",
        "rule_name": "S",
        "rule_category": "C", "rule_version": "4", "rule_ruleset": "1", "threat_technique_id": ["T1059.001"], "message": "S",
        "rule_reference": "url,example.org/a cve,2024-1", "file_name": "x.exe", "file_size": 3, "file_hash_sha256": "c" * 64,
        "url_domain": "a.example", "http_response_status_code": 404, "event_outcome": None, "source_bytes": 10,
        "destination_bytes": 90,
    }.items() <= event.items()  # fmt: skip
    assert json.loads(event["document"])["payload"] == "QQ=="


@pytest.mark.parametrize(("action", "expected"), [("allowed", ["allowed"]), ("blocked", ["denied"]), ("pass", ["info"])])
def test_the_type_of_an_alert_is_what_became_of_the_packet(action: str, expected: list[str]) -> None:
    assert event_of(record("alert", {"action": action, "signature_id": 9}))[1]["event_type"] == expected


@pytest.mark.parametrize(("event_type", "besides"), [("http", ["web"]), ("smtp", ["email"]), ("fileinfo", ["file"]), ("ssh", [])])
def test_records_of_some_protocols_are_of_a_second_category(event_type: str, besides: list[str]) -> None:
    assert event_of(record(event_type, {}))[1]["event_category"] == ["network", *besides]


def test_the_reference_is_read_out_of_the_rule_where_that_is_all_there_is() -> None:
    alert = {
        "signature": "S",
        "rule": 'alert tcp any any -> any any (msg:"S"; reference:url,example.org/r; reference: cve,1; sid:1;)',
    }
    assert event_of(record("alert", alert))[1]["rule_reference"] == "url,example.org/r cve,1"


def test_counts_of_an_alert_on_a_packet_of_the_server_follow_its_source() -> None:
    _, event = event_of({**ALERT, "direction": "to_client"})
    assert (event["source_ip"], event["source_bytes"], event["destination_bytes"]) == ("10.0.0.1", 90, 10)
    assert (event["source_packets"], event["destination_packets"]) == (2, 1)


def test_a_flow_keeps_what_has_no_field_as_json() -> None:
    flow = {
        "bytes_toserver": 100, "bytes_toclient": 200, "pkts_toserver": 3, "pkts_toclient": 4,
        "start": "2024-03-01T12:00:00.000000+0000",
        "end": "2024-03-01T12:00:02.500000+0000", "age": 2, "state": "closed", "reason": "timeout", "alerted": True,
        "action": "drop",
    }  # fmt: skip
    tcp = {"tcp_flags": "1b", "tcp_flags_ts": "1b", "syn": True, "state": "closed"}
    ether = {"src_macs": ["00:11:22:33:44:55"], "dest_macs": []}
    dataset, event = event_of(record("flow", flow, app_proto="tls", tcp=tcp, ether=ether, tx_cnt=1, parent_id=8))
    assert dataset == "network-flow"
    assert {
        "network_bytes": 300, "network_packets": 7, "event_duration": 2_500_000_000, "flow_state": "closed",
        "flow_end_reason": "timeout",
        "flow_tcp_flags": 0x1B, "flow_protocol": "suricata", "event_type": ["connection", "denied"], "network_application": "tls",
        "observer_ingress_interface_name": "ens5", "vlan_id": 120, "source_mac": "00-11-22-33-44-55",
        "event_action": "network_flow",
    }.items() <= event.items()  # fmt: skip
    assert json.loads(event["flow_additional"]) == {
        "ether": ether, "tx_cnt": 1, "parent_id": 8, "flow": {"age": 2, "alerted": True, "action": "drop"},
        "tcp": {"tcp_flags_ts": "1b", "state": "closed"},
    }  # fmt: skip


def test_an_icmp_flow_has_type_and_code() -> None:
    _, event = event_of({**record("flow", {}), "proto": "ICMP", "icmp_type": 8, "icmp_code": 0, "response_icmp_type": 0})
    assert (event["flow_icmp_type"], event["flow_icmp_code"], event["network_iana_number"]) == (8, 0, 1)


def test_a_record_that_names_no_event_type_is_a_dead_letter() -> None:
    from tests.processors.fields.one import outcome_of

    outcome = outcome_of([json.dumps({**ALERT, "event_type": None}).encode()])
    assert outcome.events == {}
    assert "event_type is None" in outcome.dead[0].reason


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=4), inner, max_size=2),
    max_leaves=4,
)
PARTS = sorted({key for document, _ in CASES.values() for key in document} | {"alert", "flow", "files", "netflow", "tcp", "llmnr"})
INNER = sorted({key for document, _ in CASES.values() for part in document.values() if isinstance(part, dict) for key in part})


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(["alert", "flow", "http", "dns", "netflow", "x"]),
    st.dictionaries(st.sampled_from(PARTS), JSON | st.dictionaries(st.sampled_from(INNER), JSON, max_size=4), max_size=5),
)
def test_any_values_give_an_event_that_fits_its_schema(event_type: str, changes: dict[str, Any]) -> None:
    document = {**BASE, **changes, "event_type": event_type, "timestamp": BASE["timestamp"], "flow_id": 1}
    assert sum(map(len, events_of([json.dumps(document).encode()]).values())) == 1
