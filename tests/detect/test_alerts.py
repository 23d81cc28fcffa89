"""What an alert says: its sentence by kind of correlation, ATT&CK, entities and the fields of ECS and ASIM."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from weir.bus.codec import Decoder, Encoder
from weir.detect.reading.attack import attack_of, tactic_id, technique_name
from weir.detect.reading.loading import load_rules
from weir.detect.reading.logsources import DEFAULT_ENTITIES
from weir.detect.rules import Condition, Correlation, Member, Rule, Source
from weir.detect.telling.alerts import MAX_RELATED, Origin, Told, alert_record, relate
from weir.detect.telling.sentences import MAX_SUMMARY_CHARACTERS, condition_text, duration_text, field_words, quantity_text
from weir.model.entities import ENTITIES
from weir.model.schemas import latest

SECOND = 1_000_000
BEGIN = 1_790_000_040 * SECOND  # 2026-09-21 14:14:00 UTC


def member(label: str, title: str = "", *values: str) -> Member:
    rule = Rule(id=label, title=title, variants=()) if title else None
    return Member(label, label, {"network-flow": Source((), values, {})}, rule)


def correlation(kind: str = "event_count", *members: Member, **options: Any) -> Correlation:
    given = {"condition": Condition("gte", 100), "group_by": ("source.ip",), "timespan_us": 300 * SECOND, **options}
    return Correlation(
        id="r",
        title="T",
        description="d",
        level="high",
        members=members,
        slice_us=25 * SECOND,
        kind=kind,
        **given,
    )


def told(events: int = 512, seconds: int = 50, **fields: Any) -> Told:
    given = {"alert_id": "a", "state": "new", "revision": 1, "group": ("10.0.0.7",), "created": BEGIN + seconds * SECOND, **fields}
    return Told(events=events, first=BEGIN, last=BEGIN + seconds * SECOND, **given)


def sentence(rule: Correlation, what: Told) -> str:
    """The part of the summary between the title and the group."""
    text = alert_record(rule, what, Origin())["summary"]
    assert text.startswith("T: ")
    return str(text.removeprefix("T: ").partition(" for source.ip 10.0.0.7")[0])


BYTES = member("one", "One", "source_bytes")
FAILED, LOGGED_IN, DELETED = member("a", "Failed login"), member("b", "Login"), member("c", "Deletion")


@pytest.mark.parametrize(
    ("rule", "what", "expected"),
    [
        (correlation(), told(), "512 events within 50 s"),
        (correlation(), told(1, 0), "1 event"),
        (correlation(), told(100, 600), "100 events within 10 min"),
        (
            correlation("value_count", member("one", "One", "destination_port")),
            told(measured=73, values=["22", "80", "443", "445", "8080", "8443"]),
            "73 distinct destination ports, such as 22, 80, 443, 445, 8080 …, within 50 s",
        ),
        (
            correlation("value_count", member("one", "One", "source.ip")),
            told(measured=2, values=["10.0.0.1", "10.0.0.2"]),
            "2 distinct source addresses (10.0.0.1, 10.0.0.2) within 50 s",
        ),
        (
            correlation("value_count", member("one", "One", "source_ip", "user_name")),
            told(measured=9),
            "9 distinct pairs of source address and user name within 50 s",
        ),
        (correlation("value_sum", BYTES), told(measured=12_400_000_000), "12.4 GB of source bytes in 512 events within 50 s"),
        (correlation("value_avg", BYTES), told(measured=900.5), "900.5 source bytes on average in 512 events within 50 s"),
        (
            correlation("value_percentile", BYTES, condition=Condition("gt", 5, 95)),
            told(measured=2_000_000),
            "2 MB of source bytes at the 95th percentile of 512 events within 50 s",
        ),
        (
            correlation("temporal", FAILED, LOGGED_IN, condition=Condition("gte", 2)),
            told(),
            "both of Failed login, Login within 5 min",
        ),
        (
            correlation("temporal", FAILED, LOGGED_IN, DELETED, condition=Condition("gte", 3)),
            told(measured=3),
            "all of Failed login, Login, Deletion within 5 min",
        ),
        (
            correlation("temporal", FAILED, LOGGED_IN, DELETED, condition=Condition("gte", 2)),
            told(measured=2),
            "2 of Failed login, Login, Deletion within 5 min",
        ),
        (
            correlation("temporal_ordered", FAILED, LOGGED_IN, condition=Condition("gte", 2)),
            told(),
            "Failed login, then Login within 5 min",
        ),
        (
            correlation(
                "temporal",
                FAILED,
                LOGGED_IN,
                DELETED,
                expression=("and", ("or", ("rule", "a"), ("rule", "b")), ("not", ("rule", "c"))),
            ),
            told(),
            "(Failed login or Login) and not Deletion within 5 min",
        ),
        (correlation("first_seen"), told(1, 0, sentence="first seen from 10.1.2.3"), "first seen from 10.1.2.3"),
    ],
)
def test_the_sentence_says_what_the_kind_of_correlation_saw(rule: Correlation, what: Told, expected: str) -> None:
    assert sentence(rule, what) == expected


def test_the_summary_names_whom_what_else_and_when() -> None:
    what = told(state="closed", entities={"source_address": "10.0.0.7", "user": "mallory", "file": "/a"})
    assert alert_record(correlation(), what, Origin())["summary"] == (
        "T: 512 events within 50 s for source.ip 10.0.0.7 (user mallory), "
        "from 2026-09-21 14:14:00 to 2026-09-21 14:14:50 UTC; it is over."
    )


def test_one_of_many_values_that_were_counted_is_not_named_as_the_one_that_matters() -> None:
    source = Source(("source_ip",), ("destination_ip",), {"destination_address": "destination_ip", "user": "user_name"})
    rule = correlation("value_count", Member("one", "one", {"network-flow": source}))
    what = told(measured=254, entities={"destination_address": "10.0.0.8", "user": "mallory"})
    assert (
        "254 distinct destination addresses within 50 s for source.ip 10.0.0.7 (user mallory), from"
        in (alert_record(rule, what, Origin())["summary"])
    )


def test_a_summary_of_long_names_is_cut_and_still_says_that_it_is_over() -> None:
    what = told(state="closed", entities={"user": "u" * 5000})
    text = alert_record(correlation(), what, Origin())["summary"]
    assert len(text) == MAX_SUMMARY_CHARACTERS
    assert text.endswith("; it is over.")


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        (correlation(), ">= 100"),
        (correlation(condition=Condition("lt", 0.5)), "< 0.5"),
        (correlation("value_sum", condition=Condition("gt", 10_000_000_000)), "> 10000000000"),
        (correlation("value_percentile", condition=Condition("gt", 5, 95)), "> 5 at percentile 95"),
        (correlation("temporal", FAILED, LOGGED_IN, condition=Condition("gte", 2)), "all of a, b"),
        (correlation("temporal_ordered", FAILED, LOGGED_IN, condition=Condition("gte", 2)), "all of a, b in this order"),
        (correlation(expression=("and", ("rule", "a"), ("not", ("rule", "b")))), "a and not b"),
        (correlation("first_seen", options={"field": "source.ip", "learn": 604_800 * SECOND}), "field source.ip, learn 7 d"),
    ],
)
def test_the_condition_is_told_as_text(rule: Correlation, expected: str) -> None:
    assert condition_text(rule) == expected


def test_spans_and_numbers_are_told_in_the_unit_a_person_would_take() -> None:
    assert [duration_text(s * SECOND) for s in (0, 1, 50, 119, 120, 5400, 7200, 86_400, 172_800)] == [
        "1 s", "1 s", "50 s", "119 s", "2 min", "90 min", "2 h", "24 h", "2 d",
    ]  # fmt: skip
    assert quantity_text(999, ["network.bytes"]) == "999 network bytes"
    assert quantity_text(1500, ["network_bytes"]) == "1.5 kB of network bytes"
    assert quantity_text(3, ["file_size"]) == "3 bytes of file size"
    assert quantity_text(7, ["source_packets"]) == "7 source packets"
    assert quantity_text(2.25, ["http_latency"]) == "2.25 of http latency"
    assert quantity_text(30, ["ledger_missing_percent"]) == "30 % ledger missing"
    assert field_words("destination.ip") == "destination address"


def test_every_field_of_the_record_is_one_of_the_schema_and_comes_back_from_the_wire() -> None:
    rule = correlation(techniques=("T1046", "T9999"), tactics=("Discovery",), references=("https://example.org",), author="A")
    what = told(
        entities={"source_address": "10.0.0.7", "user": "mallory"},
        related={"destination_address": ["10.0.0.8", "10.0.0.9"], "host": ["h"]},
        datasets=["network-flow"],
    )
    record = alert_record(rule, what, Origin("s", "d", "v"))
    assert set(record) | {"event_kind"} == {entry["name"] for entry in latest("alert").parsed["fields"]}
    again = Decoder()(Encoder("alert")(record))
    assert {name: again[name] for name in record} == record
    assert again["event_kind"] == "alert"
    assert (record["threat_framework"], record["threat_tactic_id"]) == ("MITRE ATT&CK", ["TA0007"])
    assert record["threat_technique_name"] == ["Network Service Discovery", ""]
    assert record["related_ip"] == ["10.0.0.7", "10.0.0.8", "10.0.0.9"]
    assert (record["related_user"], record["related_hosts"]) == (["mallory"], ["h"])
    assert record["indicator_type"] == "Ip"
    assert record["timespan_seconds"] == 300


@pytest.mark.parametrize(
    ("kind", "datasets", "state", "expected"),
    [
        ("event_count", ["network-flow"], "new", ("Active", "Suspicious Activity", "Other")),
        ("event_count", ["ids-alert"], "update", ("Active", "Suspicious Activity", "Intrusion Detection")),
        ("event_count", ["ids-alert", "cef"], "closed", ("Closed", "Suspicious Activity", "Other")),
        ("beacon", ["network-flow"], "new", ("Active", "Anomaly", "Behavioral Analytics")),
    ],
)
def test_asim_is_told_what_weir_knows_and_no_verdict(kind: str, datasets: list[str], state: str, expected: tuple[str, ...]) -> None:
    record = alert_record(correlation(kind), told(state=state, datasets=datasets), Origin())
    assert (record["alert_status"], record["event_subtype"], record["detection_method"]) == expected
    assert record["alert_verdict"] == "Unknown"


def test_related_entities_are_bounded() -> None:
    related: dict[str, list[str]] = {}
    for number in range(3 * MAX_RELATED):
        relate(related, {"user": f"u{number % (2 * MAX_RELATED)}", "host": "h"})
    assert related == {"user": [f"u{number}" for number in range(MAX_RELATED)], "host": ["h"]}
    record = alert_record(correlation(), told(related={"user": [f"u{n}" for n in range(500)]}), Origin())
    assert len(record["related"]["user"]) == len(record["related_user"]) == MAX_RELATED


def test_tags_of_both_namings_of_defense_evasion_keep_their_meaning() -> None:
    found = attack_of(
        ["attack.T1110.001", "attack.defense-evasion", "attack.defense_impairment", "attack.stealth", "cve.2021-1", "attack.g0001"]
    )
    assert found == (("T1110.001",), ("Defense Evasion", "Defense Impairment", "Stealth"), ())
    assert [tactic_id(name) for name in found.tactics] == ["TA0005", "TA0112", "TA0005"]
    assert attack_of(["attack.ta0040", "attack.imapct"]) == ((), ("Impact",), ("attack.imapct",))
    assert technique_name("T1110.002") == "Brute Force"


def test_the_defaults_of_every_dataset_name_entities_of_the_vocabulary() -> None:
    for dataset, entities in DEFAULT_ENTITIES.items():
        assert set(entities) <= set(ENTITIES), dataset


def test_an_entity_that_is_not_in_the_vocabulary_is_named_with_the_one_that_was_meant(tmp_path: Path) -> None:
    (tmp_path / "a.yml").write_text(
        "title: One\nid: 11111111-1111-4111-8111-111111111111\nlogsource: {category: file_audit}\n"
        "detection: {sel: {event.action: x}, condition: sel}\nweir: {entities: {source_adress: source.ip}}\n",
        encoding="utf-8",
    )
    (problem,) = load_rules(tmp_path).problems
    assert "a.yml:1: One: weir.entities: source_adress is not an entity; did you mean source_address?" in str(problem)


def test_a_tag_that_is_no_tactic_is_named_and_its_rule_stays(tmp_path: Path) -> None:
    (tmp_path / "a.yml").write_text(
        "title: One\nid: 11111111-1111-4111-8111-111111111111\nlogsource: {category: file_audit}\ntags: [attack.imapct]\n"
        "detection: {sel: {event.action: x}, condition: sel}\n",
        encoding="utf-8",
    )
    found = load_rules(tmp_path)
    assert [str(p) for p in found.problems] == ["a.yml:1: One: attack.imapct: no tactic or technique of MITRE ATT&CK; left out"]
    assert len(found.correlations) == 1


def test_entities_name_only_what_asim_and_ecs_have() -> None:
    indicators = {"Ip", "User", "Process", "Registry", "Url", "Host", "Cloud Resource", "Application", "File", "Email", "Mailbox"}
    assert {entity.indicator for entity in ENTITIES.values()} <= {"", *indicators}
    assert all(entity.meaning for entity in ENTITIES.values())


def test_the_page_of_alerts_has_every_field_and_entity_with_its_names_elsewhere() -> None:
    page = (Path(__file__).parents[2] / "docs" / "alerts.md").read_text(encoding="utf-8")
    rows = {cells[1].strip(): line for line in page.splitlines() if line.startswith("|") and (cells := line.split("|"))}
    for entry in latest("alert").parsed["fields"]:
        row = rows[f"`{entry['name']}`"]
        assert entry["doc"] in row
        for name in [entry.get("ecs", ""), *entry.get("asim", "").split(", ")]:
            assert not name or f"`{name}`" in row, entry["name"]
    for name, entity in ENTITIES.items():
        cells = [cell.strip().strip("`") for cell in rows[f"`{name}`"].strip("|").split("|")]
        assert cells == [name, *entity]
