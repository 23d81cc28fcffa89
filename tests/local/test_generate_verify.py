"""The loss oracle: interval sets against plain sets, verdicts by number, and reading real topics."""

from __future__ import annotations

import json
import time
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from tests.support import deliver_now
from weir import cli
from weir.bus import topics
from weir.bus.codec import Encoder
from weir.bus.producer import DeliveryProducer
from weir.local.generate.intervals import IntervalSet, TooFragmentedError
from weir.local.generate.kinds import KINDS
from weir.local.generate.stamp import Found, Stamp
from weir.local.generate.verify import Expected, Oracle, expected_of, read_topics
from weir.model.batch import RawBatch
from weir.model.ids import new_batch_id
from weir.model.topics import TopicNames
from weir.ops.settings import ServiceSettings
from weir.processors.outcome import RawCoordinates
from weir.processors.syslog import make_process

RUN = 77


def see(oracle: Oracle, source: int, *numbers: int, run: int = RUN) -> None:
    for number in numbers:
        oracle.add(Found([Stamp(run, source, number)], 0))


class TestIntervalSet:
    @given(st.lists(st.integers(0, 60), max_size=120), st.integers(0, 70), st.integers(0, 70))
    def test_it_is_a_set(self, numbers: list[int], low: int, high: int) -> None:
        ranges, plain = IntervalSet(), set()
        for number in numbers:
            assert ranges.add(number) is (number not in plain)
            plain.add(number)
        assert len(ranges) == len(plain)
        assert {number for number in range(80) if number in ranges} == plain
        kept = list(ranges.ranges())
        assert all(first <= last for first, last in kept)
        assert all(before[1] + 1 < after[0] for before, after in pairwise(kept))
        missing = {number for first, last in ranges.gaps(low, high) for number in range(first, last + 1)}
        assert missing == set(range(low, high + 1)) - plain

    def test_a_million_in_order_are_one_range(self) -> None:
        numbers = IntervalSet(most=1)
        for number in range(100_000):
            numbers.add(number)
        assert list(numbers.ranges()) == [(0, 99_999)]

    def test_it_does_not_grow_beyond_its_bound_and_stays_as_it_was(self) -> None:
        numbers = IntervalSet(most=3)
        for number in (0, 10, 20):
            numbers.add(number)
        with pytest.raises(TooFragmentedError):
            numbers.add(30)
        assert numbers.add(1)
        assert list(numbers.ranges()) == [(0, 1), (10, 10), (20, 20)]


class TestOracle:
    def test_all_there_is_all_right(self) -> None:
        oracle = Oracle(RUN, [Expected(0, "a", 3), Expected(1, "b", 2)])
        see(oracle, 0, 0, 1, 2)
        see(oracle, 1, 0, 1)
        assert oracle.verdict().ok
        assert oracle.found == oracle.sent == 5

    def test_missing_numbers_are_named(self) -> None:
        oracle = Oracle(RUN, [Expected(4, "a", 10)])
        see(oracle, 4, 0, 1, 5, 8)
        verdict = oracle.verdict()
        assert not verdict.ok
        assert verdict.sources[0].missing == 6
        assert verdict.sources[0].missing_ranges == ((2, 4), (6, 7), (9, 9))

    def test_what_was_not_acknowledged_is_in_doubt_and_not_missing(self) -> None:
        oracle = Oracle(RUN, [Expected(0, "a", 10, acknowledged=6)])
        see(oracle, 0, 0, 1, 2, 3, 5, 7)
        [one] = oracle.verdict().sources
        assert (one.missing, one.missing_ranges, one.in_doubt) == (1, ((4, 4),), 3)

    def test_what_was_under_way_is_in_doubt(self) -> None:
        oracle = Oracle(RUN, [Expected(0, "a", 10, uncertain=((3, 5), (4, 6)))])
        see(oracle, 0, 0, 1, 9)
        [one] = oracle.verdict().sources
        assert (one.missing_ranges, one.in_doubt) == (((2, 2), (7, 8)), 4)

    def test_copies_and_order_are_counted_and_no_fault(self) -> None:
        oracle = Oracle(RUN, [Expected(0, "a", 4)])
        see(oracle, 0, 0, 2, 1, 1, 3, 0)
        verdict = oracle.verdict()
        assert verdict.ok
        assert (verdict.sources[0].repeated, verdict.sources[0].late) == (2, 1)

    def test_what_was_never_sent_is_a_fault(self) -> None:
        oracle = Oracle(RUN, [Expected(0, "a", 2)])
        see(oracle, 0, 0, 1, 2, 3)
        see(oracle, 9, 0)
        verdict = oracle.verdict()
        assert (verdict.sources[0].found, verdict.sources[0].invented, verdict.foreign) == (2, 2, 1)
        assert not verdict.ok

    def test_other_runs_are_passed_over_and_damage_is_not(self) -> None:
        oracle = Oracle(RUN, [Expected(0, "a", 1)])
        see(oracle, 0, 0)
        see(oracle, 0, 5, run=RUN + 1)
        assert oracle.verdict().ok
        oracle.add(Found([], 1))
        assert not oracle.verdict().ok

    @given(
        st.sets(st.integers(0, 40)),
        st.integers(1, 40),
        st.integers(0, 40),
        st.lists(st.tuples(st.integers(0, 40), st.integers(0, 9))),
    )
    def test_every_number_is_found_missing_or_in_doubt(
        self, there: set[int], sent: int, acknowledged: int, doubts: list[tuple[int, int]]
    ) -> None:
        acknowledged = min(acknowledged, sent)
        there = {number for number in there if number < sent}
        uncertain = tuple((first, first + more) for first, more in doubts)
        oracle = Oracle(RUN, [Expected(0, "a", sent, acknowledged, uncertain)])
        see(oracle, 0, *there)
        [one] = oracle.verdict().sources
        doubtful = set(range(acknowledged, sent)) | {n for first, last in uncertain for n in range(first, last + 1)}
        assert one.found == len(there)
        assert one.missing == len(set(range(sent)) - there - doubtful)
        assert one.found + one.missing + one.in_doubt == sent

    def test_a_file_that_is_no_summary_is_refused(self) -> None:
        with pytest.raises(ValueError, match="no summary"):
            expected_of({"sources": [{"source": 0}]})


class TestTopics:
    def test_raw_and_event_topics_are_read_and_the_command_says_what_is_missing(
        self, kafka: str, topic_prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("WEIR_TOPIC_PARTITIONS", "2")
        settings = ServiceSettings.model_validate({"kafka_bootstrap_servers": kafka, "topic_prefix": topic_prefix, "instance": "t"})
        topics.apply(settings)
        names = TopicNames(topic_prefix)
        started = time.time_ns() // 1000
        maker = KINDS["cef"].make(RUN, 1, "3164", False)
        units = [maker.unit(0, number, 1, started) for number in range(300)]
        del units[120:125]
        batch = RawBatch(new_batch_id(), "s", "receive.syslog", "udp", "127.77.0.1", 1, started, units)
        producer = DeliveryProducer(settings)
        try:
            deliver_now(producer, names["raw.syslog"], Encoder("raw-batch")(batch.to_record()))
            encode = Encoder("cef")
            for record in make_process()(batch, RawCoordinates("t", 0, 0)).events["cef"]:
                deliver_now(producer, names["events.cef"], encode(record))
        finally:
            producer.close()
        for topic in ("raw.syslog", "events.cef"):
            oracle = Oracle(RUN, [Expected(0, "a", 300)])
            read_topics(settings, [names[topic]], started - 60_000_000, oracle, RUN, flows=False, silence_s=60.0, complete=True)
            [one] = oracle.verdict().sources
            assert (one.found, one.missing_ranges) == (295, ((120, 124),))
        summary = tmp_path / "summary.json"
        source = {"source": 0, "name": "a", "sent": 300, "acknowledged": None, "uncertain": []}
        written = {"kind": "cef", "run": RUN, "started_at": started, "sources": [source]}
        summary.write_text(json.dumps(written))
        options = [str(summary), "--bootstrap", kafka, "--prefix", topic_prefix, "--silence", "1", "--stage", "both"]
        monkeypatch.setenv("WEIR_KAFKA_BOOTSTRAP_SERVERS", "")
        monkeypatch.setenv("WEIR_TOPIC_PREFIX", "")
        told = CliRunner().invoke(cli.app, ["generate", "verify", *options])
        assert told.exit_code == 1
        assert "120-124" in told.output
        source["uncertain"] = [[110, 130]]  # type: ignore[assignment]
        summary.write_text(json.dumps(written))
        told = CliRunner().invoke(cli.app, ["generate", "verify", *options, "--json"])
        assert told.exit_code == 0
        assert json.loads(told.stdout)["raw"]["in_doubt"] == 5
