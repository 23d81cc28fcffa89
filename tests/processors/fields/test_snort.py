"""Snort's alerts as events.ids-alert, as readers of the topic see them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from weir.bus.codec import Decoder, Encoder
from weir.model.batch import RawBatch
from weir.model.ids import new_batch_id
from weir.model.schemas import latest
from weir.processors import syslog
from weir.processors.outcome import RawCoordinates

NOW_US = 1_790_000_000_000_000
FIELDS = {field["name"] for field in latest("ids-alert").parsed["fields"]}
TAIL = "[Classification: Misc activity] [Priority: 3] {TCP} 192.0.2.1:55776 -> 192.0.2.2:80"


def alert(message: str, program: str = "snort") -> dict[str, Any]:
    unit = f"<33>1 2026-09-21T14:13:20Z ids {program} 9 - - {message}".encode()
    batch = RawBatch(new_batch_id(), "here", "r", "tcp", "192.0.2.9", 514, NOW_US, [unit])
    outcome = syslog.make_process()(batch, RawCoordinates("t", 0, 0))
    (record,) = outcome.events["ids-alert"]
    assert record.keys() <= FIELDS
    event = Decoder()(Encoder("ids-alert")(record))
    assert isinstance(event, dict)
    return event


def test_an_alert_by_syslog_has_the_time_of_its_header() -> None:
    event = alert(f"[1:1000017:2] Odd thing {TAIL}")
    assert (event["timestamp"], event["host_name"]) == (NOW_US, "ids")
    assert (event["rule_id"], event["rule_version"], event["rule_ruleset"], event["rule_name"]) == (
        "1000017",
        "2",
        "1",
        "Odd thing",
    )
    assert (event["rule_category"], event["event_severity"], event["message"]) == ("Misc activity", 3, "Odd thing")
    assert (event["source_ip"], event["source_port"], event["destination_ip"], event["destination_port"]) == (
        "192.0.2.1", 55776, "192.0.2.2", 80,
    )  # fmt: skip
    assert (event["network_transport"], event["network_iana_number"], event["network_type"]) == ("tcp", 6, "ipv4")
    assert (event["event_module"], event["event_dataset"], event["observer_product"]) == ("snort", "snort.alert", "Snort")
    assert (event["event_kind"], event["event_category"], event["event_type"]) == (
        "alert",
        ["network", "intrusion_detection"],
        ["info"],
    )
    assert event["event_original"] == f"[1:1000017:2] Odd thing {TAIL}"


def test_one_that_names_its_time_keeps_it() -> None:
    event = alert(f"09/21-14:13:19.5  [**] [1:2:3] x [**] {TAIL}")
    assert event["timestamp"] == NOW_US - 500_000


def test_what_was_blocked_is_denied() -> None:
    event = alert(f"09/21-14:13:19.5 [drop] [**] [1:2:3] x [**] {TAIL}")
    assert (event["event_action"], event["event_type"]) == ("drop", ["denied"])


def test_columns_and_json_keep_their_rest_as_a_document() -> None:
    by_csv = alert("09/21-14:13:19.5, 5, ICMP, raw, 99, C2S, 2001:db8::1:0, 2001:db8::2:0, 1:2:3, allow")
    assert json.loads(by_csv["document"]) == {"pkt_num": "5", "pkt_gen": "raw", "pkt_len": "99", "dir": "C2S"}
    assert (by_csv["network_transport"], by_csv["network_iana_number"], by_csv["source_port"]) == ("ipv6-icmp", 58, None)
    document = {
        "seconds": 1790000000,
        "timestamp": "09/21-16:13:20.25",
        "rule": "1:2:3",
        "msg": "x",
        "src_ap": "192.0.2.1:5",
        "ttl": 4,
    }
    by_json = alert(json.dumps(document))
    assert (by_json["timestamp"], by_json["source_port"]) == (NOW_US + 250_000, 5)
    assert json.loads(by_json["document"]) == document


@pytest.mark.parametrize(
    ("line", "program"),
    [(f"09/21/2026-14:13:19.5  [**] [1:2:3] x [**] {TAIL}", "ids"), (f"[1:2:3] x {TAIL}", "suricata")],
)
def test_suricatas_fast_log_is_suricatas(line: str, program: str) -> None:
    event = alert(line, program)
    assert (event["event_module"], event["observer_vendor"], event["observer_product"]) == ("suricata", "OISF", "Suricata")
