"""Marked events are followed in whatever order the records of the stages are read: Kafka orders within a partition alone."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations
from typing import Any, NamedTuple

import pytest

from weir.bus.deadletter import dead_letter_headers
from weir.model.ids import event_id, new_batch_id
from weir.tools.doctor import trails as trails_module
from weir.tools.doctor.marked import _findings
from weir.tools.doctor.senders import Marked
from weir.tools.doctor.trails import Place, Trail, Trails

MARK = b"weir-doctor-0123456789abcdef"
RAW = "weir.raw.syslog.v1"
EVENTS = "weir.events.syslog.v1"
START = 40
SINKS = {"sink.adx": {"events.syslog"}, "sink.siem": {"alerts"}}


class Read(NamedTuple):
    """A record as the reader hands it over."""

    topic: str
    place: Place
    record: dict[str, Any]
    headers: list[tuple[str, bytes]] | None = None


BATCH, OTHER = new_batch_id(), new_batch_id()


def raw(offset: int, batch: bytes, units: list[bytes]) -> Read:
    return Read("raw.syslog", Place(RAW, 0, offset), {"batch_id": batch, "units": units})


def event(raw_offset: int, batch: bytes, unit: int, offset: int, partition: int = 2) -> Read:
    record = {"event_id": event_id(batch.hex(), unit), "raw_topic": RAW, "raw_partition": 0, "raw_offset": raw_offset}
    return Read("events.syslog", Place(EVENTS, partition, offset), record)


def delivered(offset: int) -> Read:
    lines = [{"dead": 0, "delivered": 1}]
    record = {"service": "sink.adx", "topic": EVENTS, "partition": 2, "first_offset": offset, "last_offset": offset, "lines": lines}
    return Read("ledger", Place("weir.ledger.v1", 0, 0), record)


def follow(records: Sequence[Read]) -> tuple[Trails, Trail]:
    found = Trails([Marked("syslog udp", MARK, 100.0)], SINKS, {(RAW, 0): START})
    for number, one in enumerate(records):
        found.note(*one, now=101.0 + number)
    [trail] = found.trails
    return found, trail


WAY = (
    raw(START, OTHER, [b"<14>something else"]),
    raw(START + 1, BATCH, [b"<14>in front", b"<14>" + MARK]),
    event(START, OTHER, 0, 6, partition=3),
    event(START + 1, BATCH, 1, 7),
    delivered(7),
)


@pytest.mark.parametrize(
    "records", [order for order in permutations(WAY) if order.index(WAY[0]) < order.index(WAY[1])], ids=lambda _: "order"
)
def test_a_marked_event_is_found_in_whatever_order_its_records_are_read(records: tuple[Read, ...]) -> None:
    followed, trail = follow(records)
    assert followed.ended
    assert trail.raw == f"{RAW}/0@{START + 1}"
    assert trail.event == Place(EVENTS, 2, 7)
    assert set(trail.delivered) == {"sink.adx"}
    [finding] = _findings(trail, 1.0)
    assert finding.status == "ok"


def test_an_event_of_another_unit_of_the_batch_is_not_the_marked_one() -> None:
    followed, trail = follow([event(START, BATCH, 0, 7), raw(START, BATCH, [b"<14>in front", MARK]), event(START, BATCH, 0, 8)])
    assert trail.event is None
    assert not followed.ended


@pytest.mark.parametrize("first", [True, False])
def test_a_dead_letter_is_the_end_once_the_raw_record_is_known(first: bool) -> None:
    headers = dead_letter_headers(service="process.syslog", stage="decode", topic=RAW, partition=0, offset=START, error="broken")
    dead = Read("raw.syslog.dlq", Place(f"{RAW}.dlq", 0, 0), {"batch_id": BATCH, "units": [MARK]}, headers)
    received = raw(START, BATCH, [MARK])
    followed, trail = follow([dead, received] if first else [received, dead])
    assert followed.ended
    assert (trail.dead, trail.raw) == ("broken", f"{RAW}/0@{START}")


def test_an_alert_that_its_sink_delivered_before_we_read_it_is_delivered() -> None:
    alert = Read("alerts", Place("weir.alerts.v1", 0, 3), {"alert_id": MARK.decode()})
    record = {"service": "sink.siem", "topic": "weir.alerts.v1", "partition": 0, "first_offset": 0, "last_offset": 3}
    entry = Read("ledger", Place("weir.ledger.v1", 0, 0), record | {"lines": [{"dead": 0, "delivered": 1}]})
    _, trail = follow([entry, alert])
    assert set(trail.delivered) == {"sink.siem"}


def test_events_of_what_was_there_before_the_visit_are_not_kept() -> None:
    followed, _ = follow([event(offset, OTHER, unit, 0) for offset in range(START) for unit in range(3)])
    assert not followed._held


def test_events_of_a_record_that_was_read_are_not_kept() -> None:
    followed, _ = follow([raw(START, OTHER, [b"<14>something else"]), event(START, OTHER, 0, 1)])
    assert not followed._held


def test_no_more_events_are_kept_than_their_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trails_module, "MAX_HELD", 5)
    ahead = [event(START + offset, OTHER, unit, 0) for offset in range(20) for unit in range(2)]
    followed, trail = follow([*ahead, event(START + 20, BATCH, 0, 9)])
    assert sum(map(len, followed._held.values())) <= 5
    followed.note(*raw(START + 20, BATCH, [MARK]), now=200.0)
    assert trail.event == Place(EVENTS, 2, 9)
