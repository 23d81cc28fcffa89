"""Kemp's events: what the vendor's query reads by position stands in columns by name; and its log lines that are no CEF."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path

import pytest

from weir.bus.codec import Encoder
from weir.processors.fields import Context
from weir.processors.readers import read_text
from weir.tools.conformance import kemp
from weir.tools.conformance._lines import decode

SCHEMAS = Path(__file__).parents[3] / "schemas" / "avro"
LINES = (files("weir.local") / "samples" / "kemp-esp.cef").read_text(encoding="utf-8").splitlines()


def fits(dataset: str, event: dict[str, object]) -> bool:
    names = {field["name"] for field in json.loads((SCHEMAS / f"{dataset}.v2.avsc").read_text())["fields"]}
    return event.keys() <= names and bool(Encoder(dataset)(event))


@pytest.mark.parametrize("line", LINES, ids=lambda line: line.split("|")[4])
def test_what_the_query_reads_by_position_is_in_a_column_by_name(line: str) -> None:
    dataset, event = decode(line)
    assert fits(dataset, event)
    assert kemp.differences(event) == []


def test_every_class_of_the_query_has_all_its_columns() -> None:
    seen = {}
    for line in LINES:
        _, event = decode(line)
        seen.setdefault(int(event["event_code"]), set()).update(
            kemp.columns_of_query(event["cef_additional_extensions"], int(event["event_code"]))
        )
    service = {"VSIP", "VSPort", "Event"}
    assert seen[6] == service | {"SourceIP", "User"}
    assert seen[3] == service | {"SourceIP", "SourcePort", "AwaitingRemoteAddress"}
    assert seen[5] == service | {"SourceIP", "SourcePort", "DestinationIP", "DestinationPort"}
    assert seen[11] == service | {"SourceIP", "SourcePort", "RequestMethod", "RequestURL", "User", "UserAgent"}
    assert seen[13] == service | {"SourceIP", "SourcePort", "DTCode"}
    assert seen[15] == service | {"Resource"}
    assert seen.keys() >= set(range(18))


def test_a_difference_would_be_seen() -> None:
    _, event = decode(LINES[5])
    assert kemp.differences(event | {"destination_port": 1}) == ["DestinationPort by position is '8443', by name 1"]


def test_the_pairs_keep_their_order_and_their_backslashes() -> None:
    _, event = decode(LINES[6])
    assert list(event["cef_extensions"].items()) == [
        ("vs", "10.30.0.15:443"), ("event", "Logged off"), ("user", r"EXAMPLE\nora"), ("srcip", "203.0.113.77"),
    ]  # fmt: skip
    assert event["cef_additional_extensions"] == r"vs=10.30.0.15:443;event=Logged off;user=EXAMPLE\nora;srcip=203.0.113.77"


def test_pairs_that_a_relay_joined_are_pairs() -> None:
    _, event = decode(
        "CEF:0|Kemp|LM|1.0|9|Access Denied|6|vs=10.0.0.1:443;event=Access Denied;srcip=192.0.2.1;user=a;msg=x;srcip=192.0.2.66"
    )
    assert event["cef_extensions"] == {
        "vs": "10.0.0.1:443",
        "event": "Access Denied",
        "srcip": "192.0.2.1",
        "user": "a",
        "msg": "x",
    }
    assert (event["source_ip"], event["event_outcome"], event["event_category"]) == ("192.0.2.1", "failure", ["authentication"])


@pytest.mark.parametrize("number", [20, 100])
@pytest.mark.parametrize(("result", "outcome"), [("0:Success", "success"), ("1:Timeout", "failure"), ("odd", "unknown")])
def test_user_aaa_by_both_of_its_numbers(number: int, result: str, outcome: str) -> None:
    _, event = decode(
        f"CEF:0|Kemp|LM|1.0|{number}|User AAA|0|vs=12 user=nora domain=x.example server=10.0.0.9 protocol=LDAP result={result}"
    )
    assert (event["kemp_virtual_service_index"], event["user_name"], event["user_domain"]) == (12, "nora", "x.example")
    assert (event["destination_host"], event["network_application"], event["kemp_result"]) == ("10.0.0.9", "LDAP", result)
    assert event["event_outcome"] == outcome


def test_numbers_of_later_firmware_are_read_by_name() -> None:
    _, event = decode(
        "CEF:0|Kemp|LM|1.0|14|Request|1|vs=10.0.0.1:443 event=Request srcip=192.0.2.1 srcport=5 method=GET "
        "url=https://M.example/a?b=c "
        "user=nora useragent=UA/1 (x; y)"
    )
    assert (event["http_request_method"], event["url_domain"], event["user_agent_original"]) == ("GET", "m.example", "UA/1 (x; y)")
    assert (event["source_port"], event["event_category"]) == (5, ["web"])
    assert kemp.differences(event) == []


class TestLogs:
    @pytest.mark.parametrize("program", ["wafd", "WAF"])
    def test_the_firewall_raises_alerts(self, program: str) -> None:
        dataset, event = decode(
            f"<132>2026-09-21T14:13:20+00:00 lm1 {program}: [client 192.0.2.9] ModSecurity: Access denied with code 403 (phase 2). "
            '[id "942100"] [msg "SQL Injection"] [severity "CRITICAL"] [tag "attack-sqli"] [hostname "shop.example"] [uri "/x"]'
        )
        assert fits(dataset, event)
        assert (dataset, event["event_module"], event["event_dataset"], event["event_kind"]) == (
            "syslog",
            "kemp",
            "kemp.waf",
            "alert",
        )
        assert (event["source_ip"], event["rule_id"], event["rule_name"]) == ("192.0.2.9", "942100", "SQL Injection")
        assert (event["url_original"], event["url_domain"], event["http_response_status_code"]) == ("/x", "shop.example", 403)
        assert (event["event_severity"], event["host_name"], event["event_type"]) == (2, "lm1", ["denied"])
        assert event["log_syslog_fields"]["tags"] == "attack-sqli"

    def test_a_line_of_layer_7(self) -> None:
        dataset, event = decode(
            "<134>Sep 21 14:13:20 lm1 kernel: L7: ffff88806f5ba040: SSL accept on 10.1.1.1:443 from 192.0.2.7:30339"
        )
        assert fits(dataset, event)
        assert (dataset, event["event_dataset"], event["event_action"]) == ("syslog", "kemp.l7", "SSL accept")
        assert (event["source_ip"], event["source_port"]) == ("192.0.2.7", 30339)
        assert event["log_syslog_fields"] == {"connection": "ffff88806f5ba040", "virtual_service": "10.1.1.1:443"}

    @pytest.mark.parametrize(
        ("program", "dataset"), [("l4d", "kemp.l4"), ("ssomgr", "kemp.sso"), ("l7log", "kemp.l7"), ("wafd", "kemp.waf")]
    )
    def test_a_line_of_no_known_form_is_kept_whole(self, program: str, dataset: str) -> None:
        _, event = decode(f"<134>Sep 21 14:13:20 lm1 {program}: something happened")
        assert (event["event_dataset"], event["message"], event["process_name"]) == (dataset, "something happened", program)

    def test_other_kernels_are_not_the_loadmasters(self) -> None:
        _, event = decode("<6>Sep 21 14:13:20 web1 kernel: [12.3] eth0: L7: up")
        assert event["event_module"] == "syslog"
        assert read_text("ModSecurity: Warning.", Context(0, lambda local: local, program="apache2")) is None
