"""Weir's own kinds from the rule file to the alert, all of it in one process."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import pytest

from tests.detect.own_kinds import BEGIN, DAY, HOUR, MINUTE, SECOND
from weir.bus.codec import Decoder, Encoder
from weir.detect.offline import Offline
from weir.detect.reading.loading import load_rules
from weir.detect.signals.gathering import MAX_VALUES
from weir.detect.signals.packed import spread
from weir.detect.signals.partials import SignalSource, partition_of

RULES = """title: Any flow
id: 11111111-1111-4111-8111-111111111111
name: flow
logsource: {{product: weir, service: network-flow}}
detection: {{sel: {{network.transport: [tcp, udp]}}, condition: sel}}
---
title: Own kind
id: 22222222-2222-4222-8222-222222222222
level: high
correlation: {{type: {type}, rules: [flow], group-by: [{group}], timespan: 1h, condition: {{gte: 1}}}}
weir:
  entities: {{source_address: source.ip, destination_address: destination.ip}}
  detect: {{{detect}}}
"""


def rules(tmp_path: Path, detect: str, group: str = "source.ip", kind: str = "event_count") -> Any:
    (tmp_path / "a.yml").write_text(RULES.format(detect=detect, group=group, type=kind), encoding="utf-8")
    return load_rules(tmp_path)


RAW: dict[str, Any] = {"raw_topic": "r", "raw_partition": 1, "raw_offset": 2}


class Flows:
    """Flows fed as they happen, a batch each."""

    def __init__(self, found: Any) -> None:
        assert found.problems == ()
        self.detection = Offline(found)
        self.offset = 0

    def feed(self, at: int, *flows: dict[str, Any]) -> None:
        self.offset += 1
        events = [
            {
                "event_id": f"{'a' * 32}-{self.offset}-{i}",
                "timestamp": at,
                "event_created": at,
                "network_transport": "tcp",
                "source_ip": "10.0.0.1",
                "destination_ip": "192.0.2.7",
                "destination_port": 443,
                "raw_topic": "raw",
                "raw_partition": 0,
                "raw_offset": self.offset,
            }
            | flow
            for i, flow in enumerate(flows or [{}])
        ]
        self.detection.feed({"network-flow": events}, at, raw_offset=self.offset)
        self.detection.tick(at)

    @property
    def alerts(self) -> list[dict[str, Any]]:
        return self.detection.alerts


def test_first_seen(tmp_path: Path) -> None:
    flows = Flows(rules(tmp_path, "type: first_seen, field: destination.ip, learn: 7d"))
    for day in range(8):
        flows.feed(BEGIN + day * DAY, {}, {"destination_ip": "192.0.2.8"}, {})
    assert flows.alerts == []
    new = {"destination_ip": "203.0.113.9", "destination_port": 8443}
    flows.feed(BEGIN + 8 * DAY, {}, new, {"destination_ip": "192.0.2.8"}, new, new)
    (alert,) = flows.alerts
    assert alert["summary"].startswith("Own kind: first seen destination.ip 203.0.113.9 for source.ip 10.0.0.1")
    assert alert["event_count"] == 3
    assert alert["entities"] == {"source_address": "10.0.0.1", "destination_address": "203.0.113.9"}
    assert [e["event_id"] for e in alert["evidence"]] == [f"{'a' * 32}-9-1"]
    flows.detection.tick(BEGIN + 9 * DAY)
    assert flows.alerts[-1]["state"] == "closed"


def test_first_seen_of_two_fields_together(tmp_path: Path) -> None:
    flows = Flows(rules(tmp_path, "type: first_seen, field: [destination.ip, destination.port], learn: 7d"))
    for day in range(8):
        flows.feed(BEGIN + day * DAY, {}, {"destination_ip": "192.0.2.8", "destination_port": 22})
    flows.feed(BEGIN + 8 * DAY, {"destination_port": 22})
    (alert,) = flows.alerts
    assert "first seen destination.ip, destination.port 192.0.2.7, 22 for" in alert["summary"]


def test_beacon(tmp_path: Path) -> None:
    found = rules(tmp_path, "type: beacon, intervals: 12", "source.ip, destination.ip, destination.port")
    flows = Flows(found)
    for i in range(45):
        at = BEGIN + i * 60 * SECOND
        flows.feed(at, {}, {"destination_ip": "192.0.2.80"} if i % 7 else {})
    beacons = [a for a in flows.alerts if a["group_by"]["destination.ip"] == "192.0.2.7"]
    assert "every 60 s, 100% regular, 26 connections for source.ip 10.0.0.1, destination.ip 192.0.2.7" in beacons[-1]["summary"]
    assert beacons[-1]["measured"] == 60
    assert beacons[-1]["evidence"]


def test_partials_of_beacons_are_packed_and_taken_apart_again(tmp_path: Path) -> None:
    found = rules(tmp_path, "type: beacon", "source.ip, destination.ip, destination.port")
    assert found.problems == ()
    base = {"network_transport": "tcp", "source_ip": "10.0.0.1", "destination_port": 443}
    events = [base | {"event_id": f"e{i}", "timestamp": BEGIN + i, "destination_ip": f"192.0.2.{i % 9}"} for i in range(90)]
    record = RAW
    apart = []
    for partition, partials in SignalSource(found).signals({"network-flow": events}, 4).items():
        assert len(partials) == 1
        back = Decoder()(Encoder("signals")(record | {"partials": partials}))
        apart += list(spread(back))
        assert {partition_of(p["correlation_id"], p["group"], 4) for p in spread(back)} == {partition}
    assert sorted(p["group"][1] for p in apart) == [f"192.0.2.{i}" for i in range(9)]
    one = next(p for p in apart if p["group"] == ["10.0.0.1", "192.0.2.3", "443"])
    (slice_,) = one["buckets"]
    assert (slice_["count"], slice_["first"], slice_["last"]) == (10, BEGIN + 3, BEGIN + 84)
    assert struct.unpack(">10q", slice_["times"]) == tuple(BEGIN + i for i in range(3, 90, 9))
    assert one["evidence"] == [{"event_id": "e3", **record, "dataset": "network-flow"}]


def test_a_batch_of_many_pairs_comes_in_partials_of_bounded_size(tmp_path: Path) -> None:
    found = rules(tmp_path, "type: beacon", "source.ip, destination.ip, destination.port")
    base = {"network_transport": "tcp", "source_ip": "s" * 500, "destination_port": 443, "timestamp": BEGIN}
    events = [base | {"event_id": f"{'a' * 40}{i}", "destination_ip": f"{i}" + "d" * 400} for i in range(2_000)]
    (partials,) = SignalSource(found).signals({"network-flow": events}, 1).values()
    assert all(len(Encoder("signals")({"partials": [partial]})) < 450_000 for partial in partials)
    assert len(partials) < 8
    assert len({tuple(p["group"]) for p in spread({**RAW, "partials": partials})}) == 2_000


def test_an_entity_that_is_not_in_the_group_comes_along(tmp_path: Path) -> None:
    text = RULES.format(type="event_count", group="source.ip, destination.ip", detect="type: beacon, intervals: 4")
    (tmp_path / "a.yml").write_text(text.replace("entities: {", "entities: {user: user.name, "), encoding="utf-8")
    flows = Flows(load_rules(tmp_path))
    for i in range(6):
        flows.feed(BEGIN + i * MINUTE, {"user_name": "alice"})
    assert flows.alerts[-1]["entities"] == {"user": "alice", "source_address": "10.0.0.1", "destination_address": "192.0.2.7"}


def test_absence(tmp_path: Path) -> None:
    flows = Flows(rules(tmp_path, "type: absence, after: 15m"))
    for minute in (0, 10):
        flows.feed(BEGIN + minute * MINUTE)
    for minute in range(11, 41):
        flows.detection.tick(BEGIN + minute * MINUTE)
    flows.feed(BEGIN + 40 * MINUTE)
    assert [(a["state"], a["measured"]) for a in flows.alerts] == [("new", 900), ("closed", 1800)]
    assert flows.alerts[0]["entities"]["source_address"] == "10.0.0.1"


@pytest.mark.parametrize(("of", "measured"), [("count", 80), ("network.bytes", 80_000)])
def test_baseline(tmp_path: Path, of: str, measured: int) -> None:
    flows = Flows(rules(tmp_path, f"type: baseline, of: {of}, least: 50, learn: 1w"))
    for hour in range(10 * 24):
        flows.feed(BEGIN + hour * HOUR + MINUTE, *[{"network_bytes": 1_000}] * 10)
    assert flows.alerts == []
    at = BEGIN + 10 * DAY + MINUTE
    flows.feed(at, *[{"network_bytes": 1_000}] * 30)
    flows.feed(at + MINUTE, *[{"network_bytes": 1_000}] * 50)
    assert len({alert["alert_id"] for alert in flows.alerts}) == 1
    assert (flows.alerts[-1]["event_count"], flows.alerts[-1]["measured"]) == (80, measured)


@pytest.mark.parametrize(
    ("detect", "cause"),
    [
        ("type: nonsense", "there is no type nonsense"),
        ("type: first_seen", "weir.detect of type first_seen: field must be given"),
        ("type: first_seen, field: no.such", "field no.such is not in dataset network-flow"),
        ("type: beacon, tolerance: 3, every: 1m", "tolerance: 3 is not from 0.001 to 0.3; unknown every; known are intervals"),
        ("type: baseline, of: no.such", "field no.such is not in dataset network-flow"),
    ],
)
def test_what_is_wrong_in_a_rule_is_named(tmp_path: Path, detect: str, cause: str) -> None:
    (problem,) = rules(tmp_path, detect).problems
    assert cause in problem.cause


def test_the_correlation_stays_one_that_other_tools_read(tmp_path: Path) -> None:
    (problem,) = rules(tmp_path, "type: absence", kind="temporal").problems
    assert "correlation.type must be event_count or value_count" in problem.cause


def test_a_rule_that_alerts_by_itself_has_no_kind(tmp_path: Path) -> None:
    text = RULES.split("---", maxsplit=1)[0].format() + "weir: {detect: {type: absence}}\n"
    (tmp_path / "a.yml").write_text(text, encoding="utf-8")
    (problem,) = load_rules(tmp_path).problems
    assert "weir.detect belongs to a correlation" in problem.cause


@pytest.mark.parametrize(
    ("selection", "hits"),
    [
        ("threat.enrichments.indicator.type: ipv4-addr", ["one", "both"]),
        ("threat.enrichments.indicator.confidence|gte: 80", ["both"]),
        ("threat.enrichments.indicator.provider|startswith: abuse", ["both"]),
        ("threat.enrichments.matched.field: destination_ip", ["one"]),
        ("threat.enrichments.matched.atomic|cidr: 203.0.113.0/24", ["one", "both"]),
        ("threat.enrichments.expires: null", ["one", "both", "none", "broken"]),
        ("threat.enrichments.indicator|exists: true", ["one", "both"]),
    ],
)
def test_a_hit_of_threat_intelligence_can_be_matched_by_what_the_list_says(tmp_path: Path, selection: str, hits: list[str]) -> None:
    text = RULES.split("---", maxsplit=1)[0].format().replace("{sel: {network.transport: [tcp, udp]}", "{sel: {" + selection + "}")
    (tmp_path / "a.yml").write_text(text, encoding="utf-8")
    found = load_rules(tmp_path)
    assert found.problems == ()
    matches = found.rules[0].variants[0].matches
    one = '{"indicator":"203.0.113.66","type":"ipv4-addr","field":"destination_ip","provider":"own","confidence":40}'
    two = '{"indicator":"203.0.113.7","type":"ipv4-addr","field":"source_ip","provider":"own"}'
    three = '{"indicator":"evil.example","type":"domain","field":"domain","provider":"abuse.ch","confidence":90}'
    events = {"one": [one], "both": [two, three], "none": [], "broken": ["not JSON", "[1]"]}
    assert [name for name, texts in events.items() if matches({"threat_enrichments": texts})] == hits


def test_partials_of_first_seen_count_each_value_and_are_bounded(tmp_path: Path) -> None:
    source = SignalSource(rules(tmp_path, "type: first_seen, field: destination.ip"))
    base = {
        "timestamp": BEGIN,
        "network_transport": "tcp",
        "source_ip": "10.0.0.1",
        "raw_topic": "r",
        "raw_partition": 0,
        "raw_offset": 1,
    }
    events = [base | {"event_id": f"{i}", "destination_ip": f"10.1.{i // 250}.{i % 250}"} for i in range(MAX_VALUES + 500)]
    (partial,) = source.signals({"network-flow": [*events, *events[:3], base | {"event_id": "none"}]}, 1)[0]
    assert len(partial["buckets"]) == MAX_VALUES
    assert partial["buckets"][-1]["values_left_out"]
    assert {b["count"] for b in partial["buckets"]} <= {1, 2}
    assert [e["event_id"] for e in partial["evidence"]] == [str(i) for i in range(20)]
    assert partial["shown"][:2] == ["10.1.0.0", "10.1.0.1"]
    assert source.signals({"network-flow": [base | {"event_id": "none"}]}, 1) == {}
