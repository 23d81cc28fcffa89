"""A broken broker cannot fill a disk with log lines."""

from __future__ import annotations

import logging

from weir.ops.logging import EachOnceAWhile


def record(name: str, message: str) -> logging.LogRecord:
    return logging.LogRecord(name, logging.ERROR, __file__, 1, message, None, None)


def test_a_kafka_clients_message_passes_once_a_while_and_ours_always() -> None:
    limit = EachOnceAWhile(3600.0, ("librdkafka", "aiokafka"))
    assert [limit.filter(record("aiokafka.client", "Unable to update metadata from [0]")) for _ in range(5)] == [True] + 4 * [False]
    assert limit.filter(record("aiokafka.client", "something else"))
    assert all(limit.filter(record("weir.processors", "dead letter")) for _ in range(5))


def test_what_it_remembers_is_bounded() -> None:
    limit = EachOnceAWhile(3600.0, ("aiokafka",), kinds=10)
    for n in range(1000):
        assert limit.filter(record("aiokafka", f"{n} happened"))
    assert len(limit._next) <= 10
