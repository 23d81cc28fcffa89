"""Suricata EVE: what is recognised, which fields come out, and that odd values never raise."""

from __future__ import annotations

import copy
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weir.protocols._isotime import iso_to_micros
from weir.protocols.eve import EveError, EveEvent, decode, recognise

NOON = 1_709_294_400_000_000  # 2024-03-01T12:00:00Z

ALERT: dict[str, object] = {
    "timestamp": "2024-03-01T12:00:00.123456+0000",
    "flow_id": 1843267812345678,
    "in_iface": "ens5",
    "event_type": "alert",
    "vlan": [120, 7],
    "src_ip": "198.51.100.23",
    "src_port": 51234,
    "dest_ip": "10.20.0.8",
    "dest_port": 80,
    "proto": "TCP",
    "community_id": "1:abc=",
    "app_proto": "http",
    "host": "sensor-a",
    "alert": {
        "action": "allowed",
        "gid": 1,
        "signature_id": 9000123,
        "rev": 4,
        "signature": "WEIR TEST probe",
        "category": "Attempted Information Leak",
        "severity": 2,
        "metadata": {"mitre_technique_id": ["T1190", "T1059_001", "T1190"], "created_at": ["2024_01_01"]},
    },
    "http": {"hostname": "shop.example", "url": "/a?b=1", "http_user_agent": "curl/8.5", "http_method": "GET", "status": 404},
    "flow": {
        "pkts_toserver": 4,
        "pkts_toclient": 3,
        "bytes_toserver": 512,
        "bytes_toclient": 2048,
        "start": "2024-03-01T12:00:00.000000+0000",
    },
}

FLOW: dict[str, object] = {
    "timestamp": "2024-03-01T13:00:05.000001+0100",
    "flow_id": 18446744073709551615,
    "event_type": "flow",
    "src_ip": "2001:0db8:0000:0000:0000:0000:0000:0001",
    "dest_ip": "2001:db8::2",
    "proto": "IPv6-ICMP",
    "icmp_type": 128,
    "icmp_code": 0,
    "app_proto": "failed",
    "flow": {
        "pkts_toserver": 1,
        "pkts_toclient": 0,
        "bytes_toserver": 64,
        "bytes_toclient": 0,
        "start": "2024-03-01T13:00:00.000000+0100",
        "end": "2024-03-01T13:00:05.000000+0100",
        "age": 5,
        "state": "new",
        "reason": "timeout",
        "alerted": False,
    },
}


def decoded(document: dict[str, object]) -> EveEvent:
    event = decode(document)
    assert event is not None
    return event


class TestDecode:
    def test_an_alert_gives_every_field_it_has(self) -> None:
        event = decoded(ALERT)
        assert (event.kind, event.event_type, event.interface, event.vlan_ids) == ("alert", "alert", "ens5", (120, 7))
        assert event.fields == {
            "timestamp": NOON + 123_456,
            "flow_id": "1843267812345678",
            "source_ip": "198.51.100.23",
            "source_port": 51234,
            "destination_ip": "10.20.0.8",
            "destination_port": 80,
            "network_type": "ipv4",
            "network_transport": "tcp",
            "network_iana_number": 6,
            "network_application": "http",
            "network_community_id": "1:abc=",
            "host_name": "sensor-a",
            "event_action": "allowed",
            "event_severity": 2,
            "rule_id": "9000123",
            "rule_name": "WEIR TEST probe",
            "rule_category": "Attempted Information Leak",
            "rule_version": "4",
            "rule_ruleset": "1",
            "threat_technique_id": ["T1190", "T1059.001"],
            "event_start": NOON,
            "source_bytes": 512,
            "source_packets": 4,
            "destination_bytes": 2048,
            "destination_packets": 3,
            "url_domain": "shop.example",
            "url_original": "/a?b=1",
            "http_request_method": "GET",
            "http_response_status_code": 404,
            "user_agent_original": "curl/8.5",
        }

    def test_a_flow_has_both_directions_and_its_times(self) -> None:
        event = decoded(FLOW)
        assert (event.kind, event.event_type) == ("flow", "flow")
        assert event.fields == {
            "timestamp": NOON + 5_000_001,
            "flow_id": "18446744073709551615",
            "source_ip": "2001:db8::1",
            "destination_ip": "2001:db8::2",
            "network_type": "ipv6",
            "network_transport": "ipv6-icmp",
            "network_iana_number": 58,
            "event_start": NOON,
            "event_end": NOON + 5_000_000,
            "source_bytes": 64,
            "source_packets": 1,
            "destination_bytes": 0,
            "destination_packets": 0,
            "flow_state": "new",
            "flow_end_reason": "timeout",
            "flow_icmp_type": 128,
            "flow_icmp_code": 0,
        }

    def test_a_netflow_record_counts_one_direction(self) -> None:
        event = decoded(
            {
                "timestamp": "2024-03-01T12:00:00+0000",
                "event_type": "netflow",
                "src_ip": "10.0.0.1",
                "proto": "TCP",
                "netflow": {"pkts": 9, "bytes": 900, "start": "2024-03-01T12:00:00Z", "end": "2024-03-01T12:00:01Z", "age": 1},
                "tcp": {"tcp_flags": "1b"},
            }
        )
        assert event.kind == "netflow"
        assert (event.fields["source_bytes"], event.fields["source_packets"]) == (900, 9)
        assert "destination_bytes" not in event.fields
        assert (event.fields["event_start"], event.fields["event_end"]) == (NOON, NOON + 1_000_000)
        assert event.fields["flow_tcp_flags"] == 0x1B

    @pytest.mark.parametrize(
        "dns",
        [
            {"type": "query", "id": 1, "rrname": "www.example.org", "rrtype": "A"},
            {"version": 3, "type": "request", "queries": [{"rrname": "www.example.org", "rrtype": "A"}]},
            {"query": [{"type": "query", "rrname": "www.example.org", "rrtype": "A"}]},
            {"answer": {"rrname": "www.example.org", "rrtype": "A", "rcode": "NXDOMAIN"}},
        ],
        ids=["version 1 and 2", "version 3", "alert, query", "alert, answer"],
    )
    def test_the_dns_question_of_every_release(self, dns: dict[str, object]) -> None:
        event = decoded({"timestamp": "2024-03-01T12:00:00+0000", "event_type": "dns", "flow_id": 1, "dns": dns})
        assert (event.kind, event.fields["network_application"]) == ("record", "dns")
        assert (event.fields["dns_question_name"], event.fields["dns_question_type"]) == ("www.example.org", "A")
        assert event.fields.get("dns_response_code") == ("NXDOMAIN" if "answer" in dns else None)

    def test_the_server_name_of_tls_and_quic(self) -> None:
        base = {"timestamp": "2024-03-01T12:00:00+0000", "flow_id": 1}
        assert decoded({**base, "event_type": "tls", "tls": {"sni": "a.example"}}).fields["tls_server_name"] == "a.example"
        assert decoded({**base, "event_type": "quic", "quic": {"sni": "b.example"}}).fields["tls_server_name"] == "b.example"

    def test_stats_have_no_addresses_and_are_still_eve(self) -> None:
        event = decoded({"timestamp": "2024-03-01T12:00:00+0000", "event_type": "stats", "stats": {"uptime": 3}})
        assert (event.kind, event.event_type) == ("record", "stats")
        assert "network_type" not in event.fields

    def test_integers_that_a_shipper_made_floats_count(self) -> None:
        event = decoded({**FLOW, "flow_id": 1234567890123456.0, "flow": {"bytes_toserver": 10.0, "bytes_toclient": 1.5}})
        assert (event.fields["flow_id"], event.fields["source_bytes"]) == ("1234567890123456", 10)
        assert "destination_bytes" not in event.fields

    @pytest.mark.parametrize(
        ("proto", "expected"),
        [
            ("TCP", ("tcp", 6)),
            ("017", ("udp", 17)),
            ("253", (None, 253)),
            ("HOPOPT", ("hopopt", None)),
            ("999", (None, None)),
            (6, (None, None)),
        ],
    )
    def test_the_protocol_by_name_or_number(self, proto: object, expected: tuple[str | None, int | None]) -> None:
        event = decoded({**FLOW, "proto": proto})
        assert (event.fields.get("network_transport"), event.fields.get("network_iana_number")) == expected

    @pytest.mark.parametrize(
        ("field", "value", "attribute"),
        [
            ("timestamp", "yesterday", "timestamp"),
            ("src_ip", "300.1.2.3", "source_ip"),
            ("src_ip", "::zz", "source_ip"),
            ("src_ip", "10.0.0.1\x00", "source_ip"),
            ("src_port", 65536, "source_port"),
            ("src_port", "80", "source_port"),
            ("src_port", True, "source_port"),
            ("flow_id", -1, "flow_id"),
            ("flow_id", [], "flow_id"),
        ],
    )
    def test_a_field_of_the_wrong_form_counts_as_absent(self, field: str, value: object, attribute: str) -> None:
        assert decoded({**ALERT, field: value}).fields.get(attribute) is None

    def test_the_record_is_left_as_it_is(self) -> None:
        document = copy.deepcopy(ALERT)
        decode(document)
        assert document == ALERT


class TestRecognise:
    @pytest.mark.parametrize(
        "document",
        [
            {},
            {"event_type": "alert"},
            {"timestamp": "2024-03-01T12:00:00Z"},
            {"timestamp": "2024-03-01T12:00:00Z", "event_type": "user.login", "user": "a"},
            {"timestamp": 1709294400.0, "event_type": "alert", "src_ip": "10.0.0.1"},
            {"timestamp": "2024-03-01T12:00:00Z", "flow_id": 5},
        ],
    )
    def test_other_documents_are_none(self, document: dict[str, object]) -> None:
        assert not recognise(document)
        assert decode(document) is None

    @pytest.mark.parametrize("event_type", [None, "", 5, ["alert"]])
    def test_eve_without_an_event_type_is_an_error_that_shows_it(self, event_type: object) -> None:
        document = {**ALERT, "event_type": event_type}
        assert recognise(document)
        with pytest.raises(EveError, match="event_type is"):
            decode(document)


class TestTimes:
    @pytest.mark.parametrize(
        ("text", "micros"),
        [
            ("2024-03-01T12:00:00.123456+0000", NOON + 123_456),
            ("2024-03-01T12:00:00.123456789+0000", NOON + 123_456),
            ("2024-03-01T14:30:00.000001+02:30", NOON + 1),
            ("2024-03-01T07:00:00-0500", NOON),
            ("2024-03-01T12:00:00Z", NOON),
            ("2024-03-01T12:00:00.5", NOON + 500_000),
            ("1969-12-31T23:59:59.999999Z", -1),
            ("2024-03-01", None),
            ("2024-02-30T12:00:00Z", None),
            ("2024-03-01T12:00:00+9999", None),
            ("", None),
            (None, None),
            (1709294400, None),
        ],
    )
    def test_forms(self, text: object, micros: int | None) -> None:
        assert iso_to_micros(text) == micros

    @settings(max_examples=100)
    @given(st.datetimes(timezones=st.just(UTC)))
    def test_every_moment_reads_back(self, moment: datetime) -> None:
        expected = (moment - datetime(1970, 1, 1, tzinfo=UTC)).days * 86_400_000_000 + (
            ((moment.hour * 60 + moment.minute) * 60 + moment.second) * 1_000_000 + moment.microsecond
        )
        assert iso_to_micros(moment.isoformat().replace("+00:00", "+0000")) == expected

    @settings(max_examples=100)
    @given(st.text(max_size=40))
    def test_any_text_is_a_number_or_none(self, text: str) -> None:
        assert isinstance(iso_to_micros(text), int | None)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
KEYS = sorted(ALERT.keys() | FLOW.keys() | {"dns", "tls", "tcp", "netflow", "quic"})
INNER = st.dictionaries(
    st.sampled_from(
        ["metadata", "severity", "start", "bytes_toserver", "queries", "answer", "sni", "rrname", "status", "tcp_flags"]
    ),
    JSON,
    max_size=4,
)


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(st.sampled_from(KEYS), JSON | INNER, max_size=8))
def test_any_json_gives_a_view_none_or_eve_error(changes: dict[str, object]) -> None:
    """No value of any field makes decode raise anything else."""
    try:
        event = decode({**ALERT, **changes})
    except EveError:
        return
    assert event is None or event.kind in {"alert", "flow", "netflow", "record"}
