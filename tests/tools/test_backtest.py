"""`weir rules backtest`: the past read in order from a real Kafka, each event once, and what rules would have told of it."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from confluent_kafka.admin import AdminClient
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from tests.receivers.harness import make_topics
from tests.support import deliver_now
from weir.bus.codec import Encoder
from weir.bus.producer import DeliveryProducer
from weir.bus.topics import TopicsUnavailable
from weir.detect.case_events import make_record
from weir.detect.offline import Offline
from weir.detect.reading.loading import load_rules
from weir.detect.rules import RuleSet
from weir.detect.telling.suppressions import read_suppressions
from weir.model.ledger import LedgerCounts, LedgerEntry
from weir.model.topics import TopicNames
from weir.ops.settings import ServiceSettings
from weir.tools.backtest import Backtest, differences, run_backtest
from weir.tools.past import Past
from weir.tools.rules_commands import rules_app

SECOND = 1_000_000
# On a whole second, an hour ago: Kafka takes no stamps of long ago or of the future.
BEGIN = (time.time_ns() // 10**9 - 3600) * SECOND
RULES = """title: Login refused
id: 11111111-1111-4111-8111-111111111111
name: refused
logsource: {product: weir, service: authentication}
detection: {sel: {event.outcome: failure}, condition: sel}
---
title: Many refused
id: 22222222-2222-4222-8222-222222222222
name: many
level: high
correlation: {type: event_count, rules: [refused], group-by: [user.name], timespan: 5m, condition: {gte: LEAST}}
---
title: Notice
id: 33333333-3333-4333-8333-333333333333
level: low
logsource: {product: weir, service: ids-alert}
detection: {sel: {source.ip: 10.0.0.9}, condition: sel}
"""


def rules(folder: Path, least: int = 5) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "a.yml").write_text(RULES.replace("LEAST", str(least)), encoding="utf-8")
    return folder


def event(number: int, second: float, user: str = "eve", dataset: str = "authentication", **fields: Any) -> dict[str, Any]:
    at = BEGIN + int(second * SECOND)
    return make_record(dataset, {"event.outcome": "failure", "user.name": user, **fields}, 0, number, at)


def told(test: Backtest) -> dict[str, tuple[int, int]]:
    return {row["title"]: (row["alerts"], row["events"]) for row in test.rows()}


PIPELINE_RULE = """title: Dropped
id: 44444444-4444-4444-8444-444444444444
logsource: {product: weir, service: pipeline}
detection: {sel: {ledger.dropped|gt: 0}, condition: sel}
weir: {group-by: [log_source_ip]}
"""


def _loaded() -> RuleSet:
    with TemporaryDirectory() as folder:
        return load_rules(rules(Path(folder) / "r"))


LOADED = _loaded()


class TestMerging:
    """Without Kafka: events as they come, into alerts."""

    def test_alerts_are_counted_as_last_told_by_rule(self, tmp_path: Path) -> None:
        test = Backtest(load_rules(rules(tmp_path / "r")))
        for number in range(12):
            user = "eve" if number < 7 else "bob"
            test.add("authentication", event(number, number, user), BEGIN + number * SECOND)
        test.finish(BEGIN + 60 * SECOND)
        many, notice = test.rows()
        assert (many["title"], many["alerts"], many["events"], many["groups"]) == ("Many refused", 2, 12, 2)
        assert (many["first"], many["last"]) == (BEGIN, BEGIN + 11 * SECOND)
        assert "7 events" in many["sample"]
        assert (notice["alerts"], notice["first"], notice["sample"]) == (0, None, "")

    @given(st.lists(st.tuples(st.integers(0, 900), st.sampled_from(["eve", "bob"])), min_size=20, max_size=60), st.integers(1, 9))
    @settings(max_examples=30, deadline=None)
    def test_alerts_and_counts_are_those_of_live_detection_however_events_were_batched(
        self, found: list[tuple[int, str]], size: int
    ) -> None:
        loaded = LOADED
        live, past = Offline(loaded), Backtest(loaded)
        events = [event(number, second, user) for number, (second, user) in enumerate(sorted(found))]
        for number in range(0, len(events), size):
            batch = events[number : number + size]
            live.feed({"authentication": batch}, batch[-1]["event_created"], raw_offset=number)
            live.tick(batch[-1]["event_created"])
        live.tick(BEGIN + 3600 * SECOND)
        for one in events:
            past.add("authentication", one, one["event_created"])
        past.finish(BEGIN + 3600 * SECOND)
        expected = {alert["alert_id"]: alert["event_count"] for alert in live.alerts}
        assert {alert_id: alert.events for alert_id, alert in past.alerts.items()} == expected

    def test_what_began_before_the_range_is_not_reported(self, tmp_path: Path) -> None:
        test = Backtest(load_rules(rules(tmp_path / "r")), report_from=BEGIN + 3600 * SECOND)
        for number in range(5):
            test.add("authentication", event(number, number), BEGIN + number * SECOND)
        for number in range(5, 10):
            test.add("authentication", event(number, 7200 + number), BEGIN + (7200 + number) * SECOND)
        test.finish(BEGIN + 7300 * SECOND)
        assert told(test) == {"Many refused": (1, 5), "Notice": (0, 0)}

    def test_suppressed_alerts_are_only_counted(self, tmp_path: Path) -> None:
        loaded = load_rules(rules(tmp_path / "r"))
        entry = "suppress: [{id: a, owner: me, reason: so, expires: 2099-01-01, rules: [many], where: {user.name: eve}}]"
        far = (4_102_444_800 - 86_400 * 366) * SECOND
        test = Backtest(loaded, suppressions=read_suppressions(entry, far).of(loaded))
        for number in range(10):
            test.add("authentication", event(number, number, "eve" if number % 2 else "bob"), BEGIN + number * SECOND)
        test.finish(BEGIN + 60 * SECOND)
        assert told(test)["Many refused"] == (1, 5)
        assert len(test.suppressed) == 1

    def test_a_comparison_names_what_is_new_and_what_is_no_longer_told(self, tmp_path: Path) -> None:
        old, new = Backtest(load_rules(rules(tmp_path / "old", 8))), Backtest(load_rules(rules(tmp_path / "new", 4)))
        for test in (old, new):
            for number in range(9):
                test.add("authentication", event(number, number, "bob" if number < 5 else "eve"), BEGIN + number * SECOND)
            test.finish(BEGIN + 60 * SECOND)
        (row,) = differences(old, new)
        assert (row["title"], row["in"], row["alerts_old"], row["alerts_new"]) == ("Many refused", "both", 0, 2)
        assert (row["only_old"], row["only_new"], row["sample_old"]) == (0, 2, "")
        assert "bob" in row["sample_new"] or "eve" in row["sample_new"]
        assert differences(new, new) == []


class Bus:
    """The event topics of one test."""

    def __init__(self, servers: str, prefix: str) -> None:
        self.servers = servers
        self.names: TopicNames = make_topics(servers, prefix, "events.authentication", "events.ids-alert", partitions=2)
        self.settings = ServiceSettings(kafka_bootstrap_servers=servers, topic_prefix=prefix, instance="tester")
        self.producer = DeliveryProducer(self.settings)

    def put(self, record: dict[str, Any], partition: int, dataset: str = "authentication") -> None:
        stamp = record["event_created"] // 1000
        value = Encoder(dataset)(record)
        deliver_now(self.producer, self.names[f"events.{dataset}"], value, partition=partition, timestamp_ms=stamp)


@pytest.fixture
def bus(kafka: str, topic_prefix: str) -> Iterator[Bus]:
    made = Bus(kafka, topic_prefix)
    yield made
    made.producer.close(1.0)


@pytest.mark.kafka
class TestKafka:
    def test_partitions_are_merged_by_time_and_cut_at_both_ends(self, bus: Bus) -> None:
        for number in range(10):
            bus.put(event(number, number), number % 2)
        bus.put(event(10, 4.5, dataset="ids-alert"), 0, "ids-alert")
        topics = [bus.names["events.authentication"], bus.names["events.ids-alert"], bus.names["events.cef"]]
        past = Past(bus.settings, topics, BEGIN // 1000 + 2_000, BEGIN // 1000 + 8_000)
        seconds = [(message.timestamp()[1] - BEGIN // 1000) / 1000 for message in past]
        past.close()
        assert seconds == [2, 3, 4, 4.5, 5, 6, 7]
        assert past.absent == [bus.names["events.cef"]]
        assert past.read == past.total

    def test_a_partition_far_ahead_is_paused_until_the_others_have_come_up(self, bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("weir.tools.past._WAITING", 4)
        monkeypatch.setattr("weir.tools.past._READ", 3)
        for number in range(60):
            # First one partition alone, then the other alone, then both in turn.
            bus.put(event(number, number), 0 if number < 25 else 1 if number < 50 else number % 2)
        past = Past(bus.settings, [bus.names["events.authentication"]], BEGIN // 1000, BEGIN // 1000 + 100_000)
        seconds = [(message.timestamp()[1] - BEGIN // 1000) // 1000 for message in past]
        past.close()
        assert seconds == list(range(60))
        assert past.pauses > 0

    def test_a_record_that_was_written_late_is_found_behind_the_end(self, bus: Bus) -> None:
        for number, second in enumerate((0, 1, 500, 2)):
            bus.put(event(number, second), 0)
        topics = [bus.names["events.authentication"]]
        for slack, expected in ((0, 2), (900_000, 3)):
            past = Past(bus.settings, topics, BEGIN // 1000, BEGIN // 1000 + 10_000, slack)
            assert sum(1 for _ in past) == expected
            past.close()

    def test_nothing_in_the_range_is_no_error_and_no_topic_is(self, bus: Bus) -> None:
        past = Past(bus.settings, [bus.names["events.authentication"]], BEGIN // 1000, BEGIN // 1000 + 10)
        assert list(past) == []
        past.close()
        with pytest.raises(TopicsUnavailable, match="weir topics apply"):
            Past(bus.settings, [bus.names["events.cef"]], 0, 10)

    def test_the_command_counts_repeats_once_and_leaves_nothing_behind(self, bus: Bus, tmp_path: Path) -> None:
        for number in range(8):
            bus.put(event(number, number), number % 2)
        for number in range(3, 8):
            bus.put(event(number, number), number % 2)
        bus.put(event(20, 3, dataset="ids-alert", **{"source.ip": "10.0.0.9"}), 1, "ids-alert")
        deliver_now(bus.producer, bus.names["events.authentication"], b"\x07nothing", timestamp_ms=BEGIN // 1000)
        code, out = self.run(bus, "--from", "-2h", "--folder", rules(tmp_path / "new"), "--json")
        assert code == 0
        found = json.loads(out)
        assert [(row["title"], row["alerts"], row["events"]) for row in found["rules"]] == [
            ("Many refused", 1, 8),
            ("Notice", 1, 1),
        ]
        read = found["read"]
        assert (read["records"], read["events"], read["repeats"], read["unreadable"]) == (15, 9, 5, 1)
        code, out = self.run(
            bus, "--from", "-2h", "--folder", tmp_path / "new", "--compare", rules(tmp_path / "old", 9), "--rule", "many"
        )
        assert code == 1
        assert "Many refused (in both): 0 → 1 alerts, 0 → 8 events" in " ".join(out.split())
        groups = AdminClient({"bootstrap.servers": bus.servers}).list_consumer_groups().result(20).valid
        assert not [group for group in groups if group.group_id.startswith(bus.settings.topic_prefix)]

    def test_interrupted_it_says_what_came_of_the_events_read_until_then(self, bus: Bus, tmp_path: Path) -> None:
        for number in range(8):
            bus.put(event(number, number), 0)
        test = Backtest(load_rules(rules(tmp_path / "r")))
        calls: list[int] = []

        def interrupt(done: int, of: int) -> None:
            calls.append(of)
            if len(calls) == 1:
                raise KeyboardInterrupt

        reading = run_backtest(bus.settings, [test], BEGIN, BEGIN + 60 * SECOND, interrupt)
        assert reading.stopped
        assert (reading.events, calls[-1]) == (0, 8)

    def run(self, bus: Bus, *arguments: str | Path) -> tuple[int, str]:
        environment = {"WEIR_KAFKA_BOOTSTRAP_SERVERS": bus.servers, "WEIR_TOPIC_PREFIX": bus.settings.topic_prefix}
        result = CliRunner().invoke(rules_app, ["backtest", *map(str, arguments)], env=environment)
        return result.exit_code, result.stdout

    def test_the_ledger_is_read_for_rules_about_the_pipeline(self, bus: Bus, tmp_path: Path) -> None:
        (tmp_path / "a.yml").write_text(PIPELINE_RULE, encoding="utf-8")
        entry = LedgerEntry("receive.syslog", "node", "here", bus.names["raw.syslog"], -1, 1, 1, BEGIN + 90 * SECOND)
        entry.lines["192.0.2.1", BEGIN - BEGIN % (60 * SECOND), ""].add(LedgerCounts(units_in=40, units_dropped=2))
        value, stamp = Encoder("ledger-entry")(entry.to_record()), entry.written_at // 1000
        for _ in range(2):
            deliver_now(bus.producer, bus.names["ledger"], value, key=entry.key, timestamp_ms=stamp)
        test = Backtest(load_rules(tmp_path))
        reading = run_backtest(bus.settings, [test], BEGIN, BEGIN + 600 * SECOND)
        assert (reading.records, reading.events, told(test)) == (2, 1, {"Dropped": (1, 1)})


class TestAsking:
    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            (["--from", "soon"], "--from soon: write -30s"),
            (["--from", "-1h", "--to", "never"], "--to never: write -30s"),
            (["--from", "-1h", "--to", "-2h"], "--from must lie before --to"),
            (["--from", "-1h", "--learn", "long"], "--learn: 'long' is no span of time"),
            (["--from", "-1h", "--rule", "no such rule"], "nothing that alerts is called no such rule"),
        ],
    )
    def test_what_cannot_be_asked_is_said(self, tmp_path: Path, arguments: list[str], said: str) -> None:
        result = CliRunner().invoke(rules_app, ["backtest", "--folder", str(rules(tmp_path / "r")), *arguments])
        assert result.exit_code == 2
        assert said in result.stderr
