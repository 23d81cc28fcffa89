import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weir.protocols.kemp_logs import KempLine, parse_layer7, parse_waf

WAF = (
    '[client 192.0.2.9] ModSecurity: Access denied with code 403 (phase 2). Pattern match "a\\"b" at ARGS:q. [file "/x.conf"] '
    '[line "12"] '
    '[id "942100"] [msg "SQL \\"Injection\\""] [data "\\x22"] [severity "CRITICAL"] [tag "attack-sqli"] [tag "OWASP_CRS"] '
    '[hostname "shop.example"] [uri "/x"] [unique_id "Zz"]'
)


class TestLayer7:
    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            (
                "L7: ffff88806f5ba040: SSL accept on 10.1.1.1:443 from 192.0.2.7:30339",
                KempLine("SSL accept", "ffff88806f5ba040", "10.1.1.1:443", "192.0.2.7", 30339),
            ),
            ("Accept on [2001:db8::1]:80 from [2001:db8::2]:9", KempLine("Accept", None, "[2001:db8::1]:80", "2001:db8::2", 9)),
            (
                "L7: ffff88806f5ba040: Connecting from 192.0.2.7:30339 to 10.2.2.2:80 NAT at end",
                KempLine("Connected", "ffff88806f5ba040", None, "192.0.2.7", 30339, "10.2.2.2", 80),
            ),
            (
                "Connect from 192.0.2.7:1 to 10.2.2.2:80 using 10.1.1.1:443",
                KempLine("Connected", None, "10.1.1.1:443", "192.0.2.7", 1, "10.2.2.2", 80),
            ),
            (
                "L7: ffff88806f5ba040: request: GET /owa/?a=b",
                KempLine("Request", "ffff88806f5ba040", method="GET", url="/owa/?a=b"),
            ),
            (
                "10.1.1.1:443 (10.2.2.2:80) User nora@x.example requested GET https://m.example/ Mozilla/5.0 (X11)",
                KempLine(
                    "Request",
                    None,
                    "10.1.1.1:443",
                    destination_ip="10.2.2.2",
                    destination_port=80,
                    user="nora@x.example",
                    method="GET",
                    url="https://m.example/",
                    user_agent="Mozilla/5.0 (X11)",
                ),
            ),
            ("10.1.1.1:443: User AD\\nora logged off", KempLine("Logged off", None, "10.1.1.1:443", user="AD\\nora")),
            (
                "10.1.1.1:443: User nora denied access from 192.0.2.9",
                KempLine("Access Denied", None, "10.1.1.1:443", "192.0.2.9", user="nora"),
            ),
            (
                "10.1.1.1:443: User nora requires re-enter pin from 192.0.2.9",
                KempLine("User interaction", None, "10.1.1.1:443", "192.0.2.9", user="nora"),
            ),
            ("Attempted XSS attack on from (dtcode 7) ", KempLine("XSS attack", dt_code="7")),
            ("L7: ffff88806f5ba040: Connection timed out", KempLine("Connection timed out", "ffff88806f5ba040")),
        ],
    )
    def test_the_forms_that_are_known(self, text: str, expected: KempLine) -> None:
        assert parse_layer7(text) == expected

    @pytest.mark.parametrize(
        "text", ["", "L7: ", "L7: x", "conn release 7", "10.1.1.1 is up", "SSL accept on nowhere", "request: x"]
    )
    def test_others_are_none(self, text: str) -> None:
        assert parse_layer7(text) is None


class TestWaf:
    def test_a_line_of_modsecurity(self) -> None:
        found = parse_waf(WAF)
        assert found is not None
        assert (found.action, found.status, found.client_ip) == ("Access denied", 403, "192.0.2.9")
        assert found.tags == ["attack-sqli", "OWASP_CRS"]
        assert found.fields == {
            "file": "/x.conf", "line": "12", "id": "942100", "msg": 'SQL "Injection"', "data": "\\x22", "severity": "CRITICAL",
            "hostname": "shop.example", "uri": "/x", "unique_id": "Zz",
        }  # fmt: skip

    def test_a_warning(self) -> None:
        found = parse_waf('ModSecurity: Warning. Matched phrase "x" [id "1"] [id "2"]')
        assert found is not None
        assert (found.action, found.status, found.client_ip, found.fields) == ("Warning", None, None, {"id": "1"})

    def test_a_line_of_something_else(self) -> None:
        assert parse_waf("wafd started") is None


@settings(max_examples=150)
@given(st.text(st.sampled_from('L7: ModSecurity[]"\\19.fUser on from to'), max_size=80))
def test_any_text_is_read_or_not(text: str) -> None:
    parse_layer7(text)
    parse_layer7("L7: ffff88806f5ba040: SSL accept on " + text)
    parse_waf("ModSecurity: " + text)


@pytest.mark.parametrize(
    "text",
    [
        "1" * 65000,
        "10.1.1.1:443: User " + "a" * 16000,
        "[id " * 16000,
        '[id "' * 13000,
        "Attempted XSS attack on " + "from " * 3000,
    ],
    ids=lambda text: text[-6:],
)
def test_hostile_input_costs_one_pass(text: str) -> None:
    began = time.perf_counter()
    parse_layer7(text)
    parse_waf("ModSecurity: " + text)
    assert time.perf_counter() - began < 1
