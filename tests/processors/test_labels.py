"""What the catalogue says of a source, in the events of its batches: vendor, tenant, time zone, copies, clock."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weir.bus.codec import Decoder, Encoder
from weir.model.batch import RawBatch
from weir.model.ids import new_batch_id
from weir.model.ledger import LedgerCounts, LedgerEntry
from weir.processors import beats, netflow, syslog
from weir.processors.localtime import local_time
from weir.processors.outcome import Outcome, RawCoordinates, clock_offsets
from weir.receivers.publishing.batching import OpenBatch, Source

SECOND = 1_000_000
HOUR = 3600 * SECOND
WHERE = RawCoordinates("weir.raw.x.v1", 2, 77)
process = syslog.make_process()


def micros(*when: int) -> int:
    return int(datetime(*when, tzinfo=UTC).timestamp()) * SECOND  # type: ignore[arg-type]


WINTER, SUMMER = micros(2026, 1, 15, 12), micros(2026, 7, 15, 12)


def batch(units: list[bytes], received: int = WINTER, transport: str = "udp", **more: Any) -> RawBatch:
    return RawBatch(new_batch_id(), "here", "r", transport, "192.0.2.9", 5514, received, units, **more)


def only(outcome: Outcome) -> dict[str, Any]:
    ((dataset, (record,)),) = outcome.events.items()
    found: dict[str, Any] = Decoder()(Encoder(dataset)(record))
    return found


def test_a_source_is_named_in_its_events() -> None:
    labels = {"source_name": "lb-1", "tenant": "acme", "source_vendor": "Kemp"}
    units: dict[bytes, str] = {
        b"<13>Jan 15 12:00:00 h app: x": "Kemp",
        b"CEF:0||Wall|2|77|Denied|High|src=192.0.2.1": "Kemp",
        b"CEF:0|Acme|Wall|2|77|Denied|High|src=192.0.2.1": "Acme",
        b'<14>1 - q1 qumulo - - - 10.1.2.3,"bob",nfs,fs_read_data,ok,3,"/x",""': "Qumulo",
    }
    for unit, vendor in units.items():
        event = only(process(batch([unit], **labels), WHERE))
        assert (event["log_source_name"], event["organization_id"], event["observer_vendor"]) == ("lb-1", "acme", vendor), unit
    event = only(beats.process(batch([b'{"message":"x"}'], transport="lumberjack", **labels), WHERE))
    assert (event["log_source_name"], event["organization_id"], event["observer_vendor"]) == ("lb-1", "acme", "Kemp")


@pytest.mark.parametrize(("received", "offset"), [(WINTER, 2), (SUMMER, 3)])
def test_times_that_name_no_zone_are_in_the_sources_own_with_its_summer_time(received: int, offset: int) -> None:
    day = datetime.fromtimestamp(received / SECOND, UTC)
    written = day.strftime("%b %d %H:%M:%S")
    event = only(process(batch([f"<13>{written} h app: x".encode()], received, time_zone="Europe/Helsinki"), WHERE))
    assert event["timestamp"] == received - offset * HOUR
    written = day.strftime("%b %d %Y %H:%M:%S")
    line = f"CEF:0|Acme|Wall|2|77|Denied|High|rt={written}".encode()
    event = only(process(batch([line], received, time_zone="Europe/Helsinki"), WHERE))
    assert event["timestamp"] == received - offset * HOUR


def test_times_that_do_name_theirs_are_left_alone() -> None:
    for unit in (
        b"<13>1 2026-01-15T12:00:00Z h app - - - x",
        b"<13>2026-01-15T14:00:00+02:00 h app: x",
        b"<13>2026-01-15T12:00:00Z h app: x",
        b"CEF:0|Acme|Wall|2|77|Denied|High|rt=" + str(WINTER // 1000).encode(),
    ):
        assert only(process(batch([unit], time_zone="Asia/Tokyo"), WHERE))["timestamp"] == WINTER


def test_where_no_zone_is_known_the_setting_holds() -> None:
    unit = b"<13>Jan 15 12:00:00 h app: x"
    here = syslog.make_process(-300)
    assert only(here(batch([unit]), WHERE))["timestamp"] == WINTER + 5 * HOUR
    assert only(here(batch([unit], time_zone="Mars/Olympus"), WHERE))["timestamp"] == WINTER + 5 * HOUR
    assert only(here(batch([unit], time_zone="UTC"), WHERE))["timestamp"] == WINTER


def test_a_backlog_from_before_the_clocks_were_changed_is_read_by_the_offset_of_its_time() -> None:
    """Helsinki went to summer time on 29 March 2026 at 01:00 UTC."""
    monday = micros(2026, 3, 30, 6)
    to_utc = local_time("Europe/Helsinki", monday, 0)
    assert to_utc(micros(2026, 3, 28, 12)) == micros(2026, 3, 28, 10)
    assert to_utc(micros(2026, 3, 29, 12)) == micros(2026, 3, 29, 9)


def test_the_hour_that_comes_twice_is_the_one_just_gone() -> None:
    """Helsinki went back on 25 October 2026 at 01:00 UTC: 03:30 was at 00:30 UTC and again at 01:30."""
    shown = micros(2026, 10, 25, 3) + HOUR // 2
    first, second = micros(2026, 10, 25, 0) + HOUR // 2, micros(2026, 10, 25, 1) + HOUR // 2
    assert local_time("Europe/Helsinki", first + SECOND, 0)(shown) == first
    assert local_time("Europe/Helsinki", second + SECOND, 0)(shown) == second


@settings(max_examples=100, deadline=None)
@given(
    st.sampled_from(["Europe/Helsinki", "America/St_Johns", "Australia/Lord_Howe", "Asia/Kathmandu", "Pacific/Apia"]),
    st.integers(micros(2000, 1, 1) // SECOND, micros(2037, 1, 1) // SECOND),
    st.integers(0, 40 * 86_400),
)
def test_a_time_written_by_a_right_clock_is_read_back(zone: str, second: int, age: int) -> None:
    shown = datetime.fromtimestamp(second, ZoneInfo(zone)).replace(tzinfo=UTC)
    read = local_time(zone, (second + age) * SECOND, 0)(int(shown.timestamp()) * SECOND)
    # What a clock showed twice can be meant either way; nothing else may differ.
    again = datetime.fromtimestamp(read // SECOND, ZoneInfo(zone)).replace(tzinfo=UTC)
    assert again == shown
    if age == 0:
        assert read == second * SECOND


@settings(max_examples=60, deadline=None)
@given(st.integers(-(10**18), 10**18), st.integers(0, 4 * 10**15), st.text(max_size=12) | st.none())
def test_no_time_and_no_zone_is_too_odd(local: int, received: int, zone: str | None) -> None:
    assert isinstance(local_time(zone, received, 0)(local), int)
    assert isinstance(local_time("Europe/Helsinki", received, 0)(local), int)


def copied(units: list[bytes]) -> RawBatch:
    one = OpenBatch(Source("192.0.2.9", "udp", 1, copied=True), WINTER)
    for unit in units:
        one.add(unit, None)
    return one.close("here", "r")


def test_copies_have_the_same_hash_whatever_batch_they_came_in() -> None:
    lines = [b"<13>Jan 15 12:00:00 h app: x", b"", b"<13>Jan 15 12:00:00 h app: y"]
    first = process(copied(lines), WHERE).events["syslog"]
    other = process(copied(lines[::-1]), WHERE).events["syslog"]
    assert [r["event_hash"] for r in first] == [r["event_hash"] for r in other][::-1]
    assert len({r["event_hash"] for r in first}) == 2
    assert all(r["event_hash"].endswith("-0") and len(r["event_hash"]) == 18 for r in first)
    assert only(process(copied(lines[:1]).only([0]), WHERE))["event_hash"] == first[0]["event_hash"]
    document = json.dumps({"message": "x"}).encode()
    assert only(beats.process(copied([document]), WHERE))["event_hash"].endswith("-0")
    assert only(process(batch(lines[:1]), WHERE))["event_hash"] is None


def test_flows_of_one_datagram_have_hashes_of_their_own() -> None:
    header = b"".join(
        n.to_bytes(size, "big") for n, size in ((5, 2), (2, 2), (1000, 4), (WINTER // SECOND, 4), (0, 4), (0, 4), (0, 4))
    )
    datagram = header + 2 * (bytes([10, 0, 0, 1, 10, 0, 0, 2]) + bytes(40))
    found = netflow.process(copied([datagram]), WHERE).events["network-flow"]
    assert [r["event_hash"][16:] for r in found] == ["-0", "-1"]


def test_the_clock_is_measured_on_events_that_name_a_time() -> None:
    units = [b"<13>Jan 15 12:00:10 h a: x", b"<13>no time", b"<13>Jan 15 11:59:00 h a: x", b"CEF:0|A|W|2|7|D|5|rt=1768482000000"]
    found = clock_offsets(process(batch(units), WHERE), WINTER)
    syslog_, cef = found["syslog"], found["cef"]
    assert (syslog_.clock_offset_events, syslog_.clock_offset_sum) == (2, -50 * SECOND)
    assert (syslog_.clock_offset_min, syslog_.clock_offset_max) == (-60 * SECOND, 10 * SECOND)
    assert (cef.clock_offset_events, cef.clock_offset_min) == (1, 1_768_482_000 * SECOND - WINTER)
    assert clock_offsets(process(batch([b"<13>no time"]), WHERE), WINTER) == {}


@pytest.mark.parametrize("time", [2**80, -(2**80)])
def test_no_time_in_a_hostile_line_breaks_the_ledger(time: int) -> None:
    outcome = Outcome({"cef": [{"timestamp": time}] * 500})
    total = LedgerCounts()
    for _ in range(3):
        total.add(clock_offsets(outcome, WINTER)["cef"])
    entry = LedgerEntry("s", "i", "here", "t", 0, 0, 0, 0)
    entry.lines["192.0.2.1", 0, "cef"].add(total)
    entry.lines["192.0.2.1", 0, ""].add(LedgerCounts(units_in=3, names={"lb": 3}))
    entry.lines["192.0.2.1", 0, ""].add(LedgerCounts(units_in=1, names={"lb": 1, "fw": 1}))
    back = LedgerEntry.from_record(Decoder()(Encoder("ledger-entry")(entry.to_record())))
    assert back.lines["192.0.2.1", 0, "cef"].clock_offset_events == 1500
    assert back.lines["192.0.2.1", 0, ""].names == {"lb": 4, "fw": 1}
