"""A lane retries, dead-letters and reports; with a destination in memory."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from tests.support import eventually
from weir.bus.config import DeliveryFailed
from weir.sinks import lane as lane_module
from weir.sinks.destination import Misconfigured, Rejected, Retry, Row
from weir.sinks.lane import Batch, BufferedRecord, Done, Lane, LanePolicy, Letter
from weir.sinks.progress import Outcome, Progress

from .samples import FakeDestination, FakeMessage, cef, encode

TOPIC = "events.cef"


class Bench:
    """A lane with everything around it recorded."""

    def __init__(self, destination: FakeDestination, policy: LanePolicy | None = None) -> None:
        self.destination = destination
        self.done: list[Done] = []
        self.letters: list[Letter] = []
        self.trouble: list[str | None] = []
        self.fatal: list[Exception] = []
        self.retries = 0
        self.bury: Callable[[str, list[Letter]], None] = lambda topic, letters: self.letters.extend(letters)
        self.lane = Lane(
            TOPIC,
            destination,
            bury=self._bury,
            report=self.done.append,
            failing=lambda topic, reason: self.trouble.append(reason),
            retried=self._retried,
            fatal=self.fatal.append,
            policy=policy or LanePolicy(),
        )

    def _bury(self, topic: str, letters: list[Letter]) -> None:
        self.bury(topic, letters)

    def _retried(self, topic: str) -> None:
        self.retries += 1

    def put(self, values: Sequence[bytes | None], progress: Progress | None = None, first: int = 0) -> Progress:
        progress = progress or Progress()
        batch = Batch()
        for offset, value in enumerate(values, first):
            progress.read(offset)
            batch.records.append(BufferedRecord(FakeMessage(offset, value), progress))
            batch.size += batch.records[-1].size
        self.lane.put(batch)
        return progress

    def outcomes(self) -> dict[int, Outcome]:
        return {offset: outcome for done in self.done for _, offset, outcome, _ in done.outcomes}


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lane_module, "_FIRST_BACKOFF_SECONDS", 0.002)


@pytest.fixture
def bench() -> Iterator[Callable[..., Bench]]:
    made: list[Bench] = []

    def make(*arguments: Any, **options: Any) -> Bench:
        made.append(Bench(*arguments, **options))
        return made[-1]

    yield make
    for each in made:
        each.lane.close()


def values(count: int) -> list[bytes | None]:
    return [encode("cef", cef(number)) for number in range(count)]


def test_accepted_rows_are_reported_delivered_and_their_memory_freed(bench: Callable[..., Bench]) -> None:
    it = bench(FakeDestination())
    it.put(values(3))
    eventually(lambda: it.done and it.done[-1].freed > 0)
    assert it.outcomes() == dict.fromkeys(range(3), Outcome.DELIVERED)
    assert it.trouble == [None]


def test_an_undecodable_record_is_dead_lettered_and_the_others_delivered(bench: Callable[..., Bench]) -> None:
    it = bench(FakeDestination())
    good = values(2)
    it.put([good[0], b"\x00garbage", None, good[1]])
    eventually(lambda: len(it.outcomes()) == 4)
    assert it.outcomes() == {0: Outcome.DELIVERED, 1: Outcome.DEAD, 2: Outcome.DEAD, 3: Outcome.DELIVERED}
    assert [letter.stage for letter in it.letters] == ["decode", "decode"]


def test_rejected_rows_are_buried_before_they_are_reported(bench: Callable[..., Bench]) -> None:
    destination = FakeDestination(lambda topic, rows: [Rejected(rows[1], "no such column")])
    it = bench(destination)
    order: list[str] = []
    it.bury = lambda topic, letters: order.append(f"buried {len(letters)}, reported {len(it.outcomes())}")
    it.put(values(3))
    eventually(lambda: len(it.outcomes()) == 3)
    assert order == ["buried 1, reported 0"]
    assert it.outcomes()[1] is Outcome.DEAD


def test_retry_goes_on_until_accepted_and_names_its_reason(bench: Callable[..., Bench]) -> None:
    failures = iter([Retry("503"), Retry("503"), Retry("429", retry_after=0.01)])

    def answer(topic: str, rows: Sequence[Row]) -> list[Rejected]:
        if (failure := next(failures, None)) is not None:
            raise failure
        return []

    it = bench(FakeDestination(answer))
    it.put(values(2))
    eventually(lambda: len(it.outcomes()) == 2)
    assert it.trouble == ["503", "503", "429", None]
    assert it.retries == 3


def test_what_was_accepted_before_a_failure_is_not_sent_again(bench: Callable[..., Bench]) -> None:
    first = threading.Event()

    def answer(topic: str, rows: Sequence[Row]) -> list[Rejected]:
        if not first.is_set():
            first.set()
            raise Retry("second request failed", delivered=rows[:2], rejected=[Rejected(rows[2], "bad")])
        return []

    destination = FakeDestination(answer)
    it = bench(destination)
    it.put(values(5))
    eventually(lambda: len(it.outcomes()) == 5)
    assert [count for _, count in destination.calls] == [5, 2]
    assert it.outcomes()[2] is Outcome.DEAD


def test_retry_after_is_waited_for(bench: Callable[..., Bench]) -> None:
    it = bench(FakeDestination())
    assert 30.0 <= it.lane._backoff(0, 30.0) <= 31.0
    assert it.lane._backoff(50, None) <= LanePolicy().backoff_max


def test_a_bug_in_the_destination_is_retried_not_fatal(bench: Callable[..., Bench]) -> None:
    failures = iter([ZeroDivisionError("oops")])

    def answer(topic: str, rows: Sequence[Row]) -> list[Rejected]:
        if (failure := next(failures, None)) is not None:
            raise failure
        return []

    it = bench(FakeDestination(answer))
    it.put(values(1))
    eventually(lambda: len(it.outcomes()) == 1)
    assert it.fatal == []


def test_misconfigured_ends_the_sink(bench: Callable[..., Bench]) -> None:
    def answer(topic: str, rows: Sequence[Row]) -> list[Rejected]:
        raise Misconfigured(["no such database"])

    it = bench(FakeDestination(answer))
    it.put(values(1))
    eventually(lambda: it.fatal)
    assert it.outcomes() == {}


def test_giving_up_dead_letters_the_rest_with_the_last_reason(bench: Callable[..., Bench]) -> None:
    def answer(topic: str, rows: Sequence[Row]) -> list[Rejected]:
        raise Retry("host unreachable")

    it = bench(FakeDestination(answer), LanePolicy(backoff_max=0.02, give_up=0.05))
    it.put(values(2))
    eventually(lambda: len(it.outcomes()) == 2)
    assert set(it.outcomes().values()) == {Outcome.DEAD}
    assert "host unreachable" in str(it.letters[0].error)


def test_without_giving_up_a_batch_stays_however_often_it_fails(bench: Callable[..., Bench]) -> None:
    def answer(topic: str, rows: Sequence[Row]) -> list[Rejected]:
        raise Retry("still away")

    it = bench(FakeDestination(answer), LanePolicy(backoff_max=0.002))
    it.put(values(1))
    eventually(lambda: it.retries > 20)
    assert it.outcomes() == {}
    assert it.letters == []


def test_records_of_a_revoked_partition_are_dropped_from_a_batch_that_is_being_retried(bench: Callable[..., Bench]) -> None:
    def answer(topic: str, rows: Sequence[Row]) -> list[Rejected]:
        raise Retry("away")

    it = bench(FakeDestination(answer), LanePolicy(backoff_max=0.002))
    progress = it.put(values(2))
    eventually(lambda: it.retries > 2)
    progress.alive = False
    eventually(lambda: it.done and it.done[-1].freed > 0)
    assert it.outcomes() == {}


def test_a_dead_letter_that_kafka_does_not_take_is_tried_again_and_not_reported_before(bench: Callable[..., Bench]) -> None:
    it = bench(FakeDestination(), LanePolicy(backoff_max=0.002))
    tries: list[int] = []

    def bury(topic: str, letters: list[Letter]) -> None:
        tries.append(len(it.outcomes()))
        if len(tries) < 3:
            raise DeliveryFailed("broker away")

    it.bury = bury
    it.put([b"garbage"])
    eventually(lambda: it.outcomes() == {0: Outcome.DEAD})
    assert tries == [0, 0, 0]


def test_closing_ends_a_lane_that_waits_to_retry(bench: Callable[..., Bench]) -> None:
    def answer(topic: str, rows: Sequence[Row]) -> list[Rejected]:
        raise Retry("away", retry_after=3600)

    it = bench(FakeDestination(answer))
    it.put(values(1))
    eventually(lambda: it.retries == 1)
    it.lane.close()
    eventually(lambda: it.lane.idle, timeout=2)
