"""Neither a broken broker nor a broken sender can fill a disk with log lines."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from typing import Any

from weir.ops.logging import Bounded, EachOnceAWhile


def record(name: str, message: Any) -> logging.LogRecord:
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


class Told:
    """What was said about what was held back, and a clock that the test sets."""

    def __init__(self, **options: Any) -> None:
        self.now = 0.0
        self.lines: list[tuple[str, int, str, int]] = []
        self.limit = Bounded(lambda *line: self.lines.append(line), clock=lambda: self.now, tell_seconds=3600.0, **options)

    def passing(self, number: int, name: str = "weir.receive.syslog", message: Any = "connection closed") -> int:
        return sum(self.limit.filter(record(name, message)) for _ in range(number))


def test_one_kind_of_message_has_a_burst_and_then_a_rate() -> None:
    told = Told(burst=10.0, per_second=2.0)
    assert told.passing(1000) == 10
    assert told.passing(5, message="something else") == 5
    assert told.passing(5, name="weir.receive.beats") == 5
    told.now += 3.0
    assert told.passing(1000) == 6
    told.now += 3600.0
    assert told.passing(1000) == 10


def test_what_was_held_back_is_told_once() -> None:
    told = Told(burst=10.0)
    told.passing(1000)
    told.passing(15, message="x")
    told.limit.tell()
    assert told.lines == [
        ("weir.receive.syslog", logging.ERROR, "connection closed", 990),
        ("weir.receive.syslog", logging.ERROR, "x", 5),
    ]
    told.limit.tell()
    assert len(told.lines) == 2


def test_structured_events_are_kinds_whatever_their_values() -> None:
    told = Told(burst=10.0)
    assert sum(told.passing(1, message={"event": "refused", "source": n}) for n in range(100)) == 10


def test_kinds_without_number_are_bounded_together() -> None:
    """Text that was put together beforehand is a new kind each time."""
    told = Told(total_burst=50.0, total_per_second=1.0, kinds=20)
    assert sum(told.passing(1, message=f"source {n} is bad") for n in range(1000)) == 50
    assert len(told.limit._kinds) <= 20
    told.limit.tell()
    assert len(told.lines) <= 11
    assert sum(line[3] for line in told.lines) == 950


def test_a_flood_reaches_standard_error_bounded_and_its_size_is_told() -> None:
    """A whole process: what comes out, in JSON, with the service's name on lines of other threads too."""
    code = """
import threading
from weir.ops import logging
bounded = logging.Bounded
logging.Bounded = lambda tell: bounded(tell, tell_seconds=0.05)
logging.configure("receive.test", "one", form="json")
log = logging.get("weir.test")
for n in range(5000):
    log.warning("refused", source=n)
flood = threading.Thread(target=lambda: log.info("from a thread"))
flood.start()
flood.join()
"""
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    passed = [line for line in lines if line["event"] == "refused"]
    assert 30 <= len(passed) < 100
    held_back = [line for line in lines if line["event"] == "messages held back"]
    assert sum(line["held_back"] for line in held_back) == 5000 - len(passed)
    assert {line["message"] for line in held_back} == {"refused"}
    assert {(line["service"], line["instance"]) for line in lines} == {("receive.test", "one")}
