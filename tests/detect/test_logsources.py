"""Log sources: what decoders make of real lines is what rules of Sigma's own log sources match."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
from sigma.rule.logsource import SigmaLogSource

from weir.detect.matching.fields import getter
from weir.detect.reading.loading import load_rules
from weir.detect.reading.logsource_table import TABLE, TAXONOMY, zeek
from weir.detect.reading.logsources import datasets_of, record_fields
from weir.detect.signals.partials import SignalSource
from weir.model.batch import RawBatch
from weir.model.ids import new_batch_id
from weir.processors import beats, syslog
from weir.processors.outcome import Outcome, RawCoordinates
from weir.tools.logsources_doc import log_sources_markdown

RECEIVED_US = 1_790_000_000_000_000
HTTP = (
    "#separator \\x09\n#path\thttp\n"
    "#fields\tts\tuid\tid.orig_h\tid.orig_p\tid.resp_h\tid.resp_p\tmethod\thost\turi\tuser_agent\tstatus_code\n"
    "#types\ttime\tstring\taddr\tport\taddr\tport\tstring\tstring\tstring\tstring\tcount\n"
)


def _process(process: Callable[[RawBatch, RawCoordinates], Outcome], units: list[bytes], transport: str) -> dict[str, list[Any]]:
    batch = RawBatch(new_batch_id(), "t", "t", transport, "192.0.2.9", 5514, RECEIVED_US, units)
    outcome = process(batch, RawCoordinates("raw.t", 0, 0))
    assert not outcome.dead
    return outcome.events


def zeek_json(log: str, **columns: Any) -> dict[str, list[Any]]:
    record = {
        "_path": log, "ts": 1790000000.5, "uid": "Cx1", "id.orig_h": "10.1.1.7", "id.orig_p": 50000, "id.resp_h": "203.0.113.9",
        "id.resp_p": 445, "proto": "tcp",
    } | columns  # fmt: skip
    return _process(beats.process, [orjson.dumps(record)], "http")


def eve_http(**http: Any) -> dict[str, list[Any]]:
    record = {
        "timestamp": "2026-09-21T14:13:20.000000+0000", "flow_id": 1, "event_type": "http", "src_ip": "10.1.1.7", "src_port": 50000,
        "dest_ip": "203.0.113.9", "dest_port": 80, "proto": "TCP", "http": http,
    }  # fmt: skip
    return _process(beats.process, [orjson.dumps(record)], "http")


def line(text: str) -> dict[str, list[Any]]:
    """A syslog message; of several lines each one is a message."""
    return _process(syslog.make_process(), [one.encode() for one in text.split("\n")], "udp")


def zeek_text(text: str) -> dict[str, list[Any]]:
    """Lines of a log file of Zeek's, as a shipper sends them."""
    documents = [{"message": one, "log": {"file": {"path": "/opt/zeek/logs/http.log"}}} for one in text.split("\n")]
    return _process(beats.process, [orjson.dumps(document) for document in documents], "http")


def rule(logsource: str, detection: str, condition: str = "sel") -> str:
    head = "title: R\nid: 11111111-1111-4111-8111-111111111111"
    return f"{head}\nlogsource: {logsource}\ndetection:\n  sel: {detection}\n  condition: {condition}\n"


def fires(folder: Path, document: str, events: dict[str, list[Any]]) -> bool:
    (folder / "r.yml").write_text(document, encoding="utf-8")
    found = load_rules(folder)
    assert found.problems == ()
    return bool(SignalSource(found).signals(events, 1))


KEMP = (
    "<134>1 2026-09-21T14:13:20Z lm-1 - - - - CEF:0|Kemp|LM|1.0|1|Request|1|vs=10.30.0.15:443 event=Request srcip=198.51.100.9 "
    "srcport=4711 dstip=10.30.0.20 dstport=443 method=GET url=https://shop.example.test/{} useragent={}"
)
FORTIGATE = (
    '<189>date=2026-09-21 time=14:13:20 devname="fw1" devid="FGT" eventtime=1790000000000000000 tz="+0000" logid="0100044547" '
    'type="event" subtype="system" level="information" vd="root" logdesc="Object attribute configured" user="admin" '
    'ui="GUI" action="Add" cfgtid=1 cfgpath="{}" cfgobj="x" msg="Add"'
)

CASES: dict[str, tuple[str, dict[str, list[Any]], dict[str, list[Any]]]] = {
    "zeek dns, flag Z, which has no field": (
        rule("{product: zeek, service: dns}", "{query|contains: '.', Z: 1}"),
        zeek_json("dns", query="x.example.test", qtype_name="A", Z=1, rejected=False, trans_id=5),
        zeek_json("dns", query="x.example.test", qtype_name="A", Z=0, rejected=False, trans_id=5),
    ),
    "zeek dns, rejected": (
        rule("{product: zeek, service: dns}", "{query|endswith: .test}", "sel and not refused").replace(
            "  condition", "  refused: {rejected: 'true'}\n  condition"
        ),
        zeek_json("dns", query="x.example.test", rejected=False, trans_id=5),
        zeek_json("dns", query="x.example.test", rejected=True, trans_id=5),
    ),
    "category dns": (
        rule("{category: dns}", "{record_type: TXT, answer|contains: IEX}"),
        zeek_json("dns", query="x.test", qtype_name="TXT", answers=["TXT 20 iex (New-Object)"], trans_id=5, rejected=False),
        zeek_json("dns", query="x.test", qtype_name="TXT", answers=["TXT 2 no"], trans_id=5, rejected=False),
    ),
    "zeek kerberos, cipher and service": (
        rule("{product: zeek, service: kerberos}", "{request_type: TGS, cipher: rc4-hmac, service|contains: sql}"),
        zeek_json("kerberos", request_type="TGS", cipher="rc4-hmac", service="MSSQL/db1", client="nora/EXAMPLE"),
        zeek_json("kerberos", request_type="TGS", cipher="aes256-cts", service="MSSQL/db1", client="nora/EXAMPLE"),
    ),
    "zeek smb_files, share and name": (
        rule("{product: zeek, service: smb_files}", r"{path|endswith: '\IPC$', name: atsvc}"),
        zeek_json("smb_files", action="SMB::FILE_OPEN", path=r"\\10.1.1.9\IPC$", name="atsvc"),
        zeek_json("smb_files", action="SMB::FILE_OPEN", path=r"\\10.1.1.9\IPC$", name="samr"),
    ),
    "zeek dce_rpc": (
        rule("{product: zeek, service: dce_rpc}", "{endpoint: svcctl, operation|startswith: CreateService}"),
        zeek_json("dce_rpc", endpoint="svcctl", operation="CreateServiceW"),
        zeek_json("dce_rpc", endpoint="samr", operation="CreateServiceW"),
    ),
    "zeek x509": (
        rule("{product: zeek, service: x509}", "{certificate.serial: 8BB00EE}"),
        zeek_json("x509", **{"certificate.serial": "8BB00EE", "certificate.subject": "CN=x", "certificate.version": 3}),
        zeek_json("x509", **{"certificate.serial": "8BB00EF", "certificate.subject": "CN=x", "certificate.version": 3}),
    ),
    "zeek rdp": (
        rule("{product: zeek, service: rdp}", "{id.orig_h|cidr: 10.0.0.0/8}", "not sel"),
        zeek_json("rdp", **{"id.orig_h": "198.51.100.7", "security_protocol": "HYBRID"}),
        zeek_json("rdp", security_protocol="HYBRID"),
    ),
    "zeek http in the text format": (
        rule("{product: zeek, service: http}", "{user_agent|contains: WebDAV, method: PUT}"),
        zeek_text(HTTP + "1790000000.5\tC1\t10.1.1.7\t50000\t203.0.113.9\t80\tPUT\tx.test\t/a\tMicrosoft-WebDAV\t201"),
        zeek_text(HTTP + "1790000000.5\tC1\t10.1.1.7\t50000\t203.0.113.9\t80\tGET\tx.test\t/a\tMicrosoft-WebDAV\t201"),
    ),
    "proxy, by the URL with its host": (
        rule("{category: proxy}", "{c-uri|contains: '.pastebin.test/raw/', c-uri-extension: exe}"),
        eve_http(hostname="www.pastebin.test", url="/raw/tool.exe?x=1", http_method="GET", protocol="HTTP/1.1", status=200),
        eve_http(hostname="www.pastebin.test", url="/raw/tool.txt?x=.exe", http_method="GET", protocol="HTTP/1.1", status=200),
    ),
    "proxy, by the path alone": (
        rule("{category: proxy}", "{c-uri: /admin/get.php, cs-method: POST}"),
        eve_http(hostname="x.test", url="/admin/get.php", http_method="POST", protocol="HTTP/1.1", status=200),
        eve_http(hostname="x.test", url="/admin/get.php?x", http_method="POST", protocol="HTTP/1.1", status=200),
    ),
    "webserver, a load balancer's requests": (
        rule("{category: webserver}", "{cs-uri-query|contains: '../../../etc/', cs-method: GET}"),
        line(KEMP.format("a/../../../etc/passwd", "curl")),
        line(KEMP.format("etc/passwd", "curl")),
    ),
    "webserver, by keyword": (
        rule("{category: webserver}", "['=select(']"),
        line(KEMP.format("a?q=select(1)", "curl")),
        line(KEMP.format("a?q=selected", "curl")),
    ),
    "webserver, by user agent": (
        rule("{category: webserver}", "{cs-user-agent|contains: sqlmap/}"),
        line(KEMP.format("a", "sqlmap/1.8")),
        line(KEMP.format("a", "curl")),
    ),
    "fortigate event": (
        rule("{product: fortigate, service: event}", "{action: Add, cfgpath: system.admin}"),
        line(FORTIGATE.format("system.admin")),
        line(FORTIGATE.format("firewall.address")),
    ),
    "cisco aaa, in the command alone": (
        rule("{product: cisco, service: aaa}", "['aaa', 'no logging']"),
        line("<189>29: *Sep 21 14:13:20.000: %PARSER-5-CFGLOG_LOGGEDCMD: User:nora  logged command:no logging console"),
        line("<189>30: *Sep 21 14:13:20.000: %PARSER-5-CFGLOG_LOGGEDCMD: User:aaa  logged command:interface Gi1"),
    ),
    "cisco bgp": (
        rule("{product: cisco, service: bgp}", "{'|all': [':179', IP-TCP-3-BADAUTH]}"),
        line("<187>RP/0/0/CPU0:Sep 21 14:13:20.000: tcp[1]: %IP-TCP-3-BADAUTH : Invalid MD5 digest to 10.0.0.2:179"),
        line("<187>RP/0/0/CPU0:Sep 21 14:13:20.000: tcp[1]: %IP-TCP-3-BADAUTH : Invalid MD5 digest to 10.0.0.2:646"),
    ),
    "huawei bgp": (
        rule("{product: huawei, service: bgp}", "{'|all': [':179', BGP_AUTH_FAILED]}"),
        line("<187>Sep 21 14:13:20 ne40 %%01BGP/3/BGP_AUTH_FAILED(l): BGP session authentication failed. (Peer=10.0.0.1:179)"),
        line("<187>Sep 21 14:13:20 ne40 %%01BGP/3/BGP_AUTH_PASSED(l): BGP session (Peer=10.0.0.1:179)"),
    ),
    "nginx by syslog": (
        rule("{service: nginx}", "['core dumped']"),
        line("<187>Sep 21 14:13:20 web1 nginx: worker process 77 exited on signal 6 (core dumped)"),
        line("<187>Sep 21 14:13:20 web1 other: worker process 77 exited on signal 6 (core dumped)"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_a_rule_of_this_log_source_fires_on_what_the_decoders_make(tmp_path: Path, name: str) -> None:
    document, hit, miss = CASES[name]
    assert fires(tmp_path, document, hit), hit
    assert not fires(tmp_path, document, miss), miss


TARGETS = [(row.source, target) for row in TABLE for target in row.targets] + [
    ((None, "zeek", service), target) for service in ("conn", "notice", "dns", "http", "files") for target in zeek(service)
]


@pytest.mark.parametrize(("source", "target"), TARGETS, ids=lambda value: str(value)[:60])
def test_the_table_names_fields_that_the_datasets_have(source: Any, target: Any) -> None:
    fields = record_fields(target.dataset)
    named = [*target.where, *target.names.values(), *(target.keywords or ()), *([target.there] if target.there else [])]
    for name in "|".join(named).split("|") if named else ():
        getter(name)
        head, dot, _ = name.partition(":")[0].partition(".")
        assert head in fields, name
        assert not dot or fields[head] == "map" or head in {"document", "flow_additional"}, name


def test_names_of_the_taxonomy_are_fields_of_some_dataset() -> None:
    (source,) = datasets_of(SigmaLogSource(product="weir", service="network-log"))
    for name in TAXONOMY:
        assert source.record_field(name)


def test_the_page_of_log_sources_is_the_tables() -> None:
    page = Path(__file__).parents[2] / "docs" / "log-sources.md"
    assert page.read_text(encoding="utf-8") == log_sources_markdown(), "run make docs"


def _dns(query: str, **columns: Any) -> dict[str, list[Any]]:
    return zeek_json("dns", **({"query": query, "qtype_name": "A", "trans_id": 5, "rejected": False} | columns))


def _request(url: str, host: str = "x.test", method: str = "GET", agent: str = "curl/8", status: int = 200) -> dict[str, list[Any]]:
    return eve_http(hostname=host, url=url, http_method=method, http_user_agent=agent, protocol="HTTP/1.1", status=status)


# By file of SigmaHQ's, without "rules_" and ".yml", what a sensor or a device would have sent.
_SMB = {"action": "SMB::FILE_OPEN", "path": "\\\\10.1.1.9\\IPC$"}
SIGMAHQ: dict[str, dict[str, list[Any]]] = {
    "network_zeek_zeek_dns_torproxy": _dns("abc.onion.link"),
    "network_zeek_zeek_dns_mining_pools": _dns("x.supportxmr.com", answers=["203.0.113.4"]),
    "network_zeek_zeek_dns_susp_zbit_flag": _dns("x.example.test", Z=1, **{"id.resp_p": 53}),
    "network_zeek_zeek_dns_nkn": _dns("seed.x.nkn.org"),
    "network_dns_net_dns_mal_cobaltstrike": _dns("aaa.stage.123.x.test"),
    "network_dns_net_dns_susp_txt_exec_strings": _dns("x.test", qtype_name="TXT", answers=["IEX (x)"]),
    "network_dns_net_dns_wannacry_killswitch_domain": _dns("IUQSSFSODP9IFJAPOSDFJHGOSURIJFAEWRWERGWEA.com"),
    "network_zeek_zeek_dce_rpc_mitre_bzar_execution": zeek_json("dce_rpc", endpoint="svcctl", operation="StartServiceW"),
    "network_zeek_zeek_dce_rpc_potential_petit_potam_efs_rpc_call": zeek_json(
        "dce_rpc", endpoint="efsrpc", operation="EfsRpcOpenFileRaw"
    ),
    "network_zeek_zeek_dce_rpc_smb_spoolss_named_pipe": zeek_json("smb_files", **_SMB, name="spoolss"),
    "network_zeek_zeek_smb_converted_win_susp_psexec": zeek_json("smb_files", **_SMB, name="abc-stdin"),
    "network_zeek_zeek_smb_converted_win_susp_raccess_sensitive_fext": zeek_json("smb_files", **_SMB, name="all\\mail.PST"),
    "network_zeek_zeek_susp_kerberos_rc4": zeek_json(
        "kerberos", request_type="TGS", cipher="rc4-hmac", service="MSSQL/db1", client="nora/EXAMPLE"
    ),
    "network_zeek_zeek_default_cobalt_strike_certificate": zeek_json(
        "x509", **{"certificate.serial": "8BB00EE", "certificate.subject": "CN=x", "certificate.version": 3}
    ),
    "network_zeek_zeek_rdp_public_listener": zeek_json("rdp", **{"id.orig_h": "198.51.100.7", "security_protocol": "HYBRID"}),
    "network_zeek_zeek_http_executable_download_from_webdav": zeek_json(
        "http", trans_depth=1, method="GET", host="x.test", uri="/webdav/a.exe", user_agent="x", status_code=200
    ),
    "web_proxy_generic_proxy_ua_rclone": _request("/", agent="rclone/v1.62"),
    "web_proxy_generic_proxy_telegram_api": _request("/bot1:x/sendMessage", host="api.telegram.org", agent="x"),
    "web_proxy_generic_proxy_download_susp_dyndns": _request("/a/tool.EXE?x=1", host="bad.no-ip.org"),
    "web_proxy_generic_proxy_hktl_empire_ua_uri_patterns": _request(
        "/news.php", method="POST", agent="Mozilla/5.0 (Windows NT 6.1; WOW64; Trident/7.0; rv:11.0) like Gecko"
    ),
    "web_proxy_generic_proxy_raw_paste_service_access": _request("/raw/abc", host="www.pastebin.com"),
    "web_proxy_generic_proxy_pua_advanced_ip_scanner_update_check": _request(
        "/checkupdate.php?lng=en&ver=2-5-3680&beta=n&type=upd&rmode=p&product=aps"
    ),
    "web_webserver_generic_web_sql_injection_in_access_logs": line(KEMP.format("a?q=union%20select", "curl")),
    "web_webserver_generic_web_path_traversal_exploitation_attempt": line(KEMP.format("a?f=../../../etc/passwd", "curl")),
    "web_webserver_generic_web_susp_useragents": line(KEMP.format("a", "sqlmap/1.8")),
    "web_webserver_generic_web_jndi_exploit": _request("/Basic/ReverseShell/10.0.0.1/4444"),
    "web_webserver_generic_web_webshell_regeorg": line(
        KEMP.replace("method=GET", "method=POST").replace(" useragent={}", "").format("t.aspx?cmd=connect&x=1")
    ),
    "network_fortinet_fortigate_fortinet_fortigate_new_admin_account_created": line(FORTIGATE.format("system.admin")),
    "network_cisco_aaa_cisco_cli_disable_logging": CASES["cisco aaa, in the command alone"][1],
    "network_cisco_bgp_cisco_bgp_md5_auth_failed": CASES["cisco bgp"][1],
    "network_huawei_bgp_huawei_bgp_auth_failed": CASES["huawei bgp"][1],
    "web_product_nginx_web_nginx_core_dump": CASES["nginx by syslog"][1],
    "web_product_apache_web_apache_segfault": line(
        "<187>Sep 21 14:13:20 web1 apache2: [core:notice] AH00052: child pid 7 exit signal Segmentation fault (11)"
    ),
}
CORPUS = Path(os.environ.get("WEIR_CORPUS", Path(__file__).parents[3] / "shared" / "corpus")) / "sigma"


@pytest.mark.parametrize("name", SIGMAHQ)
def test_sigmahqs_rules_fire_unchanged_on_what_the_decoders_make(tmp_path: Path, name: str) -> None:
    source = CORPUS / f"rules_{name}.yml"
    if not source.is_file():
        pytest.skip(f"no corpus of Sigma rules at {CORPUS}; WEIR_CORPUS names one")
    assert fires(tmp_path, source.read_text("utf-8"), SIGMAHQ[name]), SIGMAHQ[name]
