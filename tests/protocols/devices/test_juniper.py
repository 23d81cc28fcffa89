import pytest

from weir.protocols.devices.juniper import read_junos

ENDS = {"source-address": "192.0.2.1", "source-port": "1", "destination-address": "192.0.2.2", "destination-port": "2"}
NAT = {
    "nat-source-address": "203.0.113.1",
    "nat-source-port": "3",
    "nat-destination-address": "192.0.2.2",
    "nat-destination-port": "2",
}
ZONES = {"policy-name": "p", "source-zone-name": "trust", "destination-zone-name": "untrust"}


def test_structured_data() -> None:
    event = read_junos("session closed", "RT_FLOW_SESSION_CLOSE", {"junos@2636.1.1.1.2.40": {"reason": "TCP FIN"}})
    assert event == ("RT_FLOW_SESSION_CLOSE", {"reason": "TCP FIN"}, "session closed")


@pytest.mark.parametrize("brackets", ['[junos@2636.1.1.1.2.40 a-b="1" c="x\\"y"] tail', 'a-b="1" c="x\\"y"'])
def test_the_same_pairs_in_a_bsd_message(brackets: str) -> None:
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
def test_sessions_in_a_sentence(text: str, pairs: dict[str, str]) -> None:
    event = read_junos(f"RT_FLOW_SESSION_X: {text}", None, None)
    assert event is not None
    assert event.pairs == pairs


def test_the_management_plane() -> None:
    event = read_junos("SSHD_LOGIN_FAILED: Login failed for user 'root' from host '192.0.2.1'", None, None)
    assert event == (
        "SSHD_LOGIN_FAILED",
        {"username": "root", "source-address": "192.0.2.1"},
        "Login failed for user 'root' from host '192.0.2.1'",
    )


@pytest.mark.parametrize("text", ["", "session created", "SOME_THING: else", "RT"])
def test_others_are_none(text: str) -> None:
    assert read_junos(text, None, {"other@1": {}}) is None
