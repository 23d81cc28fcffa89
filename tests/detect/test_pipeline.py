"""The ledger as records that rules speak of: what each says, that nothing counts twice, what is due, and what was lost."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from weir.detect.signals.pipeline import PIPELINE_FIELDS, SINK_REMEMBERED_US, Coordinates, Pipeline, dead_letter_records
from weir.model.batch import RawBatch
from weir.model.ledger import MINUTE_US, LedgerCounts, LedgerEntry, SequenceRange
from weir.model.topics import TopicNames
from weir.processors import netflow
from weir.processors.outcome import RawCoordinates
from weir.protocols.netflow.encode import DataSet, FieldSpec, Message, Template, encode

NAMES = TopicNames()
BEGIN = 1_790_000_040_000_000  # a full minute
SECOND = 1_000_000


def entry(
    service: str = "process.syslog",
    topic: str = "raw.syslog",
    first: int = 0,
    last: int | None = None,
    lines: dict[tuple[str, int, str], LedgerCounts] | None = None,
    partition: int = 0,
    at: int = BEGIN + 90 * SECOND,
    **more: Any,
) -> LedgerEntry:
    made = LedgerEntry(service, "node", "here", NAMES[topic], partition, first, first if last is None else last, at, **more)
    for key, counts in (lines or {}).items():
        made.lines[key].add(counts)
    return made


def take(pipeline: Pipeline, *entries: LedgerEntry) -> list[dict[str, Any]]:
    ledger = NAMES["ledger"]
    return [r for number, one in enumerate(entries) for r in pipeline.records(one, Coordinates(ledger, 0, number))]


def actions(records: list[dict[str, Any]]) -> list[str]:
    return [record["event_action"] for record in records]


def test_a_receivers_line_says_who_sent_how_much_and_what_was_dropped() -> None:
    counts = LedgerCounts(units_in=40, units_dropped=2, bytes_in=4000)
    line = {("10.0.0.9", BEGIN, ""): counts}
    (record,) = take(Pipeline(NAMES), entry("receive.syslog", "raw.syslog", lines=line, partition=-1, at=BEGIN + 75 * SECOND))
    assert record["event_action"] == "units_received"
    assert (record["service_name"], record["service_type"], record["service_node_name"]) == ("receive.syslog", "receiver", "node")
    assert (record["ledger_topic"], record["log_source_ip"], record["timestamp"]) == ("raw.syslog", "10.0.0.9", BEGIN)
    assert (record["ledger_units"], record["ledger_dropped"], record["ledger_bytes"]) == (40, 2, 4000)
    assert record["ledger_delay_seconds"] == 15


def test_a_processors_line_says_what_share_was_dead_lettered_and_what_was_written() -> None:
    counts = LedgerCounts(units_in=50, units_dead=5, events_out={"events.cef": 30, "events.syslog": 15}, names={"lb": 50})
    processed, *written = take(Pipeline(NAMES), entry(lines={("10.0.0.9", BEGIN, ""): counts}))
    assert (processed["event_action"], processed["ledger_dead"], processed["ledger_dead_percent"]) == ("units_processed", 5, 10.0)
    assert (processed["log_source_ip"], processed["log_source_name"]) == ("10.0.0.9", "lb")
    assert {(w["event_action"], w["ledger_topic"], w["ledger_events"]) for w in written} == {
        ("events_written", "events.cef", 30),
        ("events_written", "events.syslog", 15),
    }


def test_no_record_has_a_field_that_rules_do_not_know() -> None:
    ranges = [SequenceRange("10.0.0.1", BEGIN + i * MINUTE_US, "ipfix", 0, 1, i * 10, i * 10 + 10, 8) for i in range(9)]
    found = take(
        Pipeline(NAMES),
        entry("sink.adx", "events.cef", lines={("", BEGIN, "T"): LedgerCounts(events_in=3, delivered=2, dead=1)}),
        entry(lines={("a", BEGIN, ""): LedgerCounts(units_in=1, units_dead=1, events_out={"events.cef": 1})}),
        entry("receive.netflow", "raw.netflow", lines={("a", BEGIN, ""): LedgerCounts(units_in=1)}, partition=-1, sequences=ranges),
        entry(first=1, last=5, note="expired"),
        *(entry("receive.netflow", "raw.netflow", first=i, partition=-1, at=BEGIN + i * MINUTE_US) for i in range(5, 15)),
    )
    known = set(PIPELINE_FIELDS)
    assert all(set(record) <= known for record in found)
    assert set(actions(found)) == {
        "events_delivered", "events_written", "events_due", "units_processed", "units_received", "units_lost", "records_expired",
    }  # fmt: skip
    assert len({record["event_id"] for record in found}) == len(found)


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 1 << 32))
def test_ranges_done_again_after_crashes_count_once(seed: int) -> None:
    """Thirty raw records, entered in ranges; now and then the service dies between an entry and the commit."""
    dice = random.Random(seed)
    pipeline = Pipeline(NAMES)
    raw = [(BEGIN + dice.randrange(3) * MINUTE_US, dice.randint(1, 9)) for _ in range(30)]
    committed, counted, expected = 0, Counter[int](), Counter[int]()
    for minute, amount in raw:
        expected[minute] += amount
    while committed < len(raw):
        last = min(committed + dice.randrange(10), len(raw) - 1)
        one = entry(first=committed, last=last)
        for minute, amount in raw[committed : last + 1]:
            one.lines["a", minute, ""].add(LedgerCounts(units_in=amount))
        for record in take(pipeline, one):
            counted[record["timestamp"]] += record["ledger_units"]
        if dice.random() < 0.5:
            committed = last + 1
    assert counted == expected


def test_a_topic_created_anew_counts_from_its_beginning() -> None:
    pipeline = Pipeline(NAMES)
    line = {("a", BEGIN, ""): LedgerCounts(units_in=5)}
    found = take(pipeline, entry(first=900, last=950, lines=line), entry(first=0, last=3, lines=line))
    assert [record["ledger_units"] for record in found] == [5, 5]


def test_a_receivers_entry_sent_twice_counts_once() -> None:
    one = entry("receive.syslog", lines={("a", BEGIN, ""): LedgerCounts(units_in=5)}, partition=-1)
    assert len(take(Pipeline(NAMES), one, one)) == 1


def test_a_sender_is_known_by_the_minutes_it_was_heard_in() -> None:
    pipeline = Pipeline(NAMES)

    def heard(minute: int, source: str = "a") -> int:
        lines = {(source, BEGIN + minute * MINUTE_US, ""): LedgerCounts(units_in=1)}
        one = entry("receive.syslog", first=minute, lines=lines, partition=-1, at=BEGIN + minute * MINUTE_US)
        one.instance = f"{source}{minute}"
        return int(take(pipeline, one)[0]["ledger_minutes_heard"])

    assert [heard(minute) for minute in range(5)] == [1, 2, 3, 4, 5]
    assert heard(0, "b") == 1
    # A pause of twenty minutes costs little; three hours later nothing of it is left.
    assert heard(25) == 6
    assert heard(20) == 7
    assert heard(25 + 179) == 2
    assert heard(25 + 400) == 1


def test_an_expired_range_is_told_once_with_its_length() -> None:
    gone = entry("sink.adx", "events.cef", first=100, last=349, note="expired")
    (record,) = take(Pipeline(NAMES), gone, gone)
    assert (record["event_action"], record["ledger_records"], record["service_name"]) == ("records_expired", 250, "sink.adx")


def test_events_are_due_to_the_sinks_that_deliver_from_their_topic_and_to_no_other() -> None:
    pipeline = Pipeline(NAMES)
    written = {("a", BEGIN, ""): LedgerCounts(units_in=7, events_out={"events.cef": 7})}
    delivered = {("", BEGIN, "T"): LedgerCounts(events_in=1, delivered=1)}
    assert "events_due" not in actions(take(pipeline, entry(lines=written)))
    take(pipeline, entry("sink.adx", "events.cef", lines=delivered), entry("sink.siem", "alerts", lines=delivered))
    due = [r for r in take(pipeline, entry(first=1, lines=written)) if r["event_action"] == "events_due"]
    assert [(r["service_name"], r["ledger_topic"], r["ledger_events"]) for r in due] == [("sink.adx", "events.cef", 7)]
    late = entry(first=2, lines=written, at=BEGIN + 91 * SECOND + SINK_REMEMBERED_US)
    assert "events_due" not in actions(take(pipeline, late))


def test_a_sink_is_known_by_the_keys_of_its_old_entries() -> None:
    pipeline = Pipeline(NAMES)
    pipeline.heard_of(entry("sink.siem", "alerts").key, BEGIN)
    pipeline.heard_of("no key of ours", BEGIN)
    alerts = {("process.syslog", BEGIN, ""): LedgerCounts(events_in=9, delivered=9, events_out={"alerts": 2})}
    found = take(pipeline, entry("process.detector", "signals", lines=alerts))
    assert [(r["event_action"], r["service_name"]) for r in found] == [
        ("events_written", "process.detector"),
        ("events_due", "sink.siem"),
    ]


def test_what_the_detector_reads_is_no_record_since_it_would_read_that_too() -> None:
    read = {("process.ledger", BEGIN, ""): LedgerCounts(events_in=9, delivered=4, filtered=5)}
    assert take(Pipeline(NAMES), entry("process.detector", "signals", lines=read)) == []
    spoilt = {("process.syslog", BEGIN, ""): LedgerCounts(events_in=9, delivered=8, dead=1)}
    (record,) = take(Pipeline(NAMES), entry("process.detector", "signals", lines=spoilt))
    assert (record["event_action"], record["ledger_dead"]) == ("units_processed", 1)


def receiver_minutes(units: list[list[tuple[int, int, int]]]) -> list[LedgerEntry]:
    """Entries of receivers: by minute, ranges (first, last, units), each by a receiver of its own, a quarter of a minute late."""
    found = [
        entry(
            "receive.netflow",
            "raw.netflow",
            first=minute * 10 + number,
            partition=-1,
            at=BEGIN + (minute + 1) * MINUTE_US + 15 * SECOND,
            sequences=[SequenceRange("10.0.0.1", BEGIN + minute * MINUTE_US, "netflow-v5", 7, 1, *numbers)],
        )
        for minute, ranges in enumerate(units)
        for number, numbers in enumerate(ranges)
    ]
    silence = (
        entry("receive.netflow", "raw.netflow", first=1000 + i, partition=-1, at=BEGIN + i * MINUTE_US) for i in range(20, 28)
    )
    return [*found, *silence]


def test_loss_is_what_all_receivers_together_have_not_got() -> None:
    # From 4294967290 over the wrap to 94, by two receivers that see half of it each; ten are missing in the third minute.
    low = (1 << 32) - 6
    lost = take(
        Pipeline(NAMES), *receiver_minutes([[(0, 50, 50)], [(50, 100, 25), (50, 100, 25)], [(100, 150, 20), (100, 150, 20)]])
    )
    assert [(r["ledger_expected"], r["ledger_missing"], r["ledger_missing_percent"]) for r in lost][1:] == [
        (50, 0, 0.0),
        (50, 10, 20.0),
    ]
    assert {(r["log_source_ip"], r["flow_observation_domain"], r["flow_protocol"]) for r in lost} == {("10.0.0.1", 7, "netflow-v5")}
    wrapped = take(Pipeline(NAMES), *receiver_minutes([[(low - 50, low, 50)], [(low, 44, 50)], [(44, 94, 50)]]))
    assert [r["ledger_missing"] for r in wrapped] == [0, 0, 0]


def test_each_minutes_loss_is_told_once_whatever_is_read_back_at_a_start() -> None:
    minutes = receiver_minutes([[(i * 50, i * 50 + 50, 45)] for i in range(12)])
    whole = Pipeline(NAMES)
    all_of_it = [(r["timestamp"], r["ledger_missing"]) for r in take(whole, *minutes)]
    for cut in (4, 8, 13):
        first, second = Pipeline(NAMES), Pipeline(NAMES)
        before = take(first, *minutes[:cut])
        for one in minutes[:cut]:
            second.learn(one)
        after = [r for n, one in enumerate(minutes[cut:]) for r in second.records(one, Coordinates(NAMES["ledger"], 0, cut + n))]
        assert [(r["timestamp"], r["ledger_missing"]) for r in before + after] == all_of_it
    assert len(all_of_it) == len({time for time, _ in all_of_it}) == 12


def test_a_template_that_lacks_is_told_of_the_reason_that_the_processor_writes() -> None:
    template = Template(260, (FieldSpec(8, 4), FieldSpec(12, 4)))
    datagram = encode(Message(9, BEGIN // SECOND, (DataSet(template, [(1, 2)]),), domain=7, sequence=1, uptime=1000))
    batch = RawBatch(b"x" * 16, "here", "r", "udp", "192.0.2.9", 2055, BEGIN, [datagram], without_template=[0])
    (dead,) = netflow.process(batch, RawCoordinates("weir.raw.netflow.v1", 0, 5)).dead
    where, origin = Coordinates(NAMES["raw.netflow.dlq"], 0, 3), Coordinates(NAMES["raw.netflow"], 0, 5)
    (record,) = dead_letter_records(dead.reason, BEGIN + 5, where, origin, "process.netflow", "here")
    assert record["event_action"] == "template_missing"
    assert (record["log_source_ip"], record["flow_observation_domain"], record["flow_template_id"]) == ("192.0.2.9", 7, 260)
    assert set(record) <= set(PIPELINE_FIELDS)
    again = dead_letter_records(dead.reason, BEGIN + 9, where._replace(offset=4), origin, "process.netflow", "here")
    assert again[0]["event_id"] == record["event_id"]
    assert dead_letter_records("not a version", BEGIN, where, origin, "process.netflow", "here") == []


def test_the_page_about_the_rules_has_every_field_of_these_records() -> None:
    page = (Path(__file__).parents[2] / "docs" / "rules-content.md").read_text(encoding="utf-8")
    assert [name for name, field in PIPELINE_FIELDS.items() if f"| `{name}` | {field.meaning} |" not in page] == []
