"""Which JSON documents are Zeek's, and of which log."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weir.protocols import zeek, zeek_json
from weir.protocols.zeek_json import Hint

UNKNOWN = Hint()
ID: dict[str, Any] = {"id.orig_h": "192.0.2.1", "id.orig_p": 1, "id.resp_h": "192.0.2.2", "id.resp_p": 2}
BASE: dict[str, Any] = {"ts": 1.5, "uid": "C1", **ID}


def log_of(document: dict[str, Any], known: Hint = UNKNOWN) -> str | None:
    record = zeek_json.recognise(document, known)
    assert record is not None
    return record.log


def test_a_record_names_its_log_itself() -> None:
    assert log_of({"_path": "dns", "ts": "2026-01-02T03:04:05.678901Z"}) == "dns"
    assert log_of({"_path": "corelight_cloud", "_write_ts": "2026-01-02T03:04:05Z", "x": 1}) == "corelight_cloud"
    assert log_of({"conn": {**BASE, "conn_state": "SF"}}) == "conn"


def test_else_the_way_it_came_does() -> None:
    for known in (
        zeek_json.hint("/opt/zeek/logs/current/http.log", None, None, None),
        zeek_json.hint(None, "zeek.http", "zeek", None),
        zeek_json.hint(None, None, None, "zeek_http"),
        zeek_json.hint(None, None, None, "bro-http"),
    ):
        assert known == Hint("http", sure=True)
        assert log_of({"ts": 1.5, "host": "x"}, known) == "http"


def test_a_file_that_is_named_like_a_log_may_be_another_programs() -> None:
    known = zeek_json.hint("/var/log/caddy/http.log", None, None, None)
    assert known == Hint("http", sure=False)
    assert zeek_json.recognise({"ts": 1.5, "level": "info", "logger": "http", "msg": "x"}, known) is None
    assert log_of({"ts": 1.5, "method": "GET", "host": "x", "uri": "/"}, known) == "http"


@pytest.mark.parametrize(
    ("log", "columns"),
    [
        ("conn", "conn_state history"),
        ("dns", "proto trans_id query qtype_name rejected AA"),
        ("http", "trans_depth method host uri"),
        ("sip", "trans_depth method uri call_id"),
        ("smtp", "trans_depth helo last_reply path"),
        ("ssl", "version cipher established"),
        ("quic", "version client_initial_dcid server_name"),
        ("ssh", "version auth_success client server"),
        ("kerberos", "request_type client service cipher"),
        ("ntlm", "username hostname domainname success"),
        ("dce_rpc", "rtt named_pipe endpoint operation"),
        ("smb_files", "action path name size"),
        ("smb_mapping", "path share_type"),
        ("rdp", "cookie result security_protocol"),
        ("rfb", "client_major_version auth"),
        ("ftp", "user command reply_code"),
        ("irc", "nick user command value"),
        ("radius", "username result"),
        ("snmp", "duration version community"),
        ("socks", "version status request.host request_p bound_p"),
        ("syslog", "proto facility severity message"),
        ("modbus", "func exception"),
        ("dnp3", "fc_request iin"),
        ("mysql", "cmd arg success"),
        ("ntp", "version mode stratum"),
        ("tunnel", "tunnel_type action"),
        ("weird", "name notice peer"),
        ("notice", "note msg actions"),
        ("intel", "seen.indicator sources"),
        ("dpd", "proto analyzer failure_reason"),
        ("ldap", "message_id version opcode"),
        ("ldap_search", "message_id scope base_object"),
    ],
)
def test_else_its_columns_tell(log: str, columns: str) -> None:
    assert log_of(BASE | dict.fromkeys(columns.split(), "x")) == log


@pytest.mark.parametrize(
    ("log", "columns"),
    [
        ("files", "fuid source analyzers"),
        ("x509", "id certificate.serial certificate.subject"),
        ("dhcp", "uids mac msg_types"),
        ("weird", "name notice peer"),
        ("notice", "note msg actions"),
        ("signatures", "note sig_id event_msg"),
        ("software", "host software_type name"),
        ("known_certs", "host port_num subject issuer_subject serial"),
        ("known_services", "host port_num port_proto service"),
        ("capture_loss", "ts_delta peer gaps percent_lost"),
        ("stats", "peer mem pkts_proc events_proc"),
        ("pe", "id machine is_exe"),
        ("ocsp", "id certStatus serialNumber"),
    ],
)
def test_logs_without_a_connection_are_told_by_more_of_their_columns(log: str, columns: str) -> None:
    assert log_of({"ts": 1.5} | dict.fromkeys(columns.split(), "x")) == log


@pytest.mark.parametrize("log", sorted(zeek.layouts()))
def test_a_record_of_a_log_with_all_its_columns_is_never_taken_for_another_log(log: str) -> None:
    for layout in zeek.layouts()[log]:
        record = zeek_json.recognise({name: 1.5 if name == "ts" else "x" for name in layout.fields}, UNKNOWN)
        assert record is None or record.log in {log, None}


def test_columns_have_zeeks_names_however_a_shipper_spells_them() -> None:
    plain = zeek_json.recognise({**BASE, "conn_state": "SF"}, UNKNOWN)
    assert plain is not None
    nested = {
        "ts": 1.5,
        "uid": "C1",
        "id": {"orig_h": "192.0.2.1", "orig_p": 1, "resp_h": "192.0.2.2", "resp_p": 2},
        "conn_state": "SF",
    }
    found = zeek_json.recognise(nested, UNKNOWN)
    assert found is not None
    assert (found.log, found.values, found.document) == ("conn", plain.values, nested)
    underscored = {"ts": 1.5, "uid": "C1", **{name.replace(".", "_"): value for name, value in ID.items()}, "conn_state": "SF"}
    found = zeek_json.recognise(underscored, UNKNOWN)
    assert found is not None
    assert plain.values.items() <= found.values.items()
    renamed = {
        "ts": 1.5,
        "uid": "C1",
        "src_ip": "192.0.2.1",
        "src_port": 1,
        "dst_ip": "192.0.2.2",
        "dst_port": 2,
        "conn_state": "SF",
    }
    found = zeek_json.recognise(renamed, UNKNOWN)
    assert found is not None
    assert plain.values.items() <= found.values.items()
    certificate = zeek_json.recognise({"_path": "x509", "ts": 1.5, "certificate_serial": "01"}, UNKNOWN)
    assert certificate is not None
    assert certificate.values["certificate.serial"] == "01"


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"ts": 1.5},
        {"ts": 1.5, "uid": "C1"},
        {"ts": "yesterday", "uid": "C1", **ID},
        {"ts": True, "uid": "C1", **ID},
        {"ts": -1, "uid": "C1", **ID},
        {"timestamp": "2026-01-02T03:04:05Z", "event_type": "alert", "src_ip": "192.0.2.1"},
        {"ts": 1.5, "level": "info", "msg": "started"},
        {"_path": "/index.html", "x": 1},
        {"http": {"method": "GET"}},
        {"conn": {"ts": "x"}},
        {"name": "x"},
    ],
)
def test_other_documents_are_not_zeeks(document: dict[str, Any]) -> None:
    assert zeek_json.recognise(document, UNKNOWN) is None


@pytest.mark.parametrize(
    ("value", "micros"),
    [
        (1379288667.706265, 1379288667706265),
        (1379288667, 1379288667000000),
        (1379288667706, 1379288667706000),
        (1379288667706.265, 1379288667706265),
        ("1402307733.473", 1402307733473000),
        ("2021-06-09T20:55:13.160328Z", 1623272113160328),
        ("2021-06-09T20:55:13.160328+00:00", 1623272113160328),
        (float("nan"), None),
        (float("inf"), None),
        (1e300, None),
        (10**400, None),
        ("", None),
        (None, None),
        ([], None),
    ],
)
def test_times_are_seconds_milliseconds_or_text(value: object, micros: int | None) -> None:
    assert zeek_json.time_us(value) == micros


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
KEYS = st.sampled_from(
    ["ts", "uid", "id", "id.orig_h", "_path", "_write_ts", "conn", "conn_state", "orig_h", "src", "src_port", "dst"]
)


@given(st.dictionaries(KEYS | st.text(max_size=5), JSON | st.just(1.5), max_size=8), st.booleans())
@settings(max_examples=150, deadline=None)
def test_no_document_raises(document: dict[str, Any], sure: bool) -> None:
    zeek_json.recognise(document, Hint("conn", sure))
    zeek_json.recognise(document, UNKNOWN)
