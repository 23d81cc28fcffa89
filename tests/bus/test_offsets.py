"""How far partitions reach is told also where a leader is found only while it is asked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition

from weir.bus import offsets
from weir.bus.offsets import offsets_for_times, watermarks

WHERE = TopicPartition("weir.ledger.v1", 0)
NO_LEADER = KafkaError(KafkaError.NOT_LEADER_FOR_PARTITION)


class Answers:
    """A consumer that gives one answer after the other; an error is raised."""

    def __init__(self, *answers: Any) -> None:
        self.left = list(answers)

    def _next(self, *_: Any, **__: Any) -> Any:
        answer = self.left.pop(0)
        if isinstance(answer, KafkaError):
            raise KafkaException(answer)
        return answer

    get_watermark_offsets = _next
    offsets_for_times = _next


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(offsets, "_PAUSE_SECONDS", 0.0)


def test_a_partition_whose_leader_is_being_found_is_asked_again() -> None:
    assert watermarks(Answers(NO_LEADER, NO_LEADER, (3, 9)), WHERE) == (3, 9)
    found = [TopicPartition("weir.ledger.v1", 0, 7)]
    assert offsets_for_times(Answers(NO_LEADER, found), [WHERE]) == found


@pytest.mark.parametrize(
    "ask", [lambda consumer: watermarks(consumer, WHERE), lambda consumer: offsets_for_times(consumer, [WHERE])]
)
@pytest.mark.parametrize("error", [KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED), KafkaError(KafkaError._TIMED_OUT)])
def test_what_waiting_does_not_change_is_raised_at_once(ask: Callable[[Any], Any], error: KafkaError) -> None:
    consumer = Answers(error, (3, 9))
    with pytest.raises(KafkaException):
        ask(consumer)
    assert consumer.left == [(3, 9)]


def test_it_ends_with_the_time_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(offsets, "_PAUSE_SECONDS", 60.0)
    with pytest.raises(KafkaException):
        watermarks(Answers(NO_LEADER, (3, 9)), WHERE, timeout=30.0)
