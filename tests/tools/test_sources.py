"""The survey of sources: what ledger entries and a catalogue come to."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from weir.model.ledger import LedgerCounts, LedgerEntry, SequenceRange
from weir.model.sources import Catalogue, read_catalogue
from weir.model.topics import TopicNames
from weir.tools.ledger import HELD_BACK, latest_entries
from weir.tools.sources import SourceRow, Survey, zone_hint
from weir.tools.sources_report import duration, show

SECOND = 1_000_000
MINUTE = 60 * SECOND
NOW = 1_790_000_040 * SECOND
NAMES = TopicNames("weir")
KNOWN = """
sources:
  - {name: lb, address: 192.0.2.0/24, expected_silence: 5m}
  - {name: audit, address: 198.51.100.1, expected_silence: 1h}
  - {name: forwarder, certificate_subject: CN=fw}
  - {name: by-port, port: 6514}
"""


def received(address: str, ago: int, units: int = 0, dropped: int = 0, raw: str = "raw.syslog", number: int = 0) -> LedgerEntry:
    entry = LedgerEntry(f"receive.{raw[4:]}", f"r@{ago}", "s", NAMES[raw], -1, number, number, NOW)
    entry.lines[address, NOW - ago * MINUTE, ""].add(LedgerCounts(units_in=units, units_dropped=dropped))
    return entry


def processed(address: str, ago: int, first: int, raw: str = "raw.syslog", **counts: Any) -> LedgerEntry:
    entry = LedgerEntry("process.syslog", "p", "s", NAMES[raw], 0, first, first, NOW)
    entry.lines[address, NOW - ago * MINUTE, ""].add(LedgerCounts(**counts))
    return entry


def with_clock(entry: LedgerEntry, address: str, ago: int, *offsets: int) -> LedgerEntry:
    entry.lines[address, NOW - ago * MINUTE, "cef"].offsets(
        len(offsets), sum(offsets) * SECOND, min(offsets) * SECOND, max(offsets) * SECOND
    )
    return entry


def survey(*entries: LedgerEntry, catalogue: str | None = KNOWN, unknown: str = "accept", hours: int = 1) -> list[SourceRow]:
    known: Catalogue | None = None if catalogue is None else read_catalogue(catalogue)
    since = NOW - hours * 60 * MINUTE
    found = Survey(NAMES, known, unknown, since=since, now=NOW, observed=since - 60 * MINUTE)
    found.add(latest_entries(iter(entries)))
    return found.rows()


def row(rows: list[SourceRow], address: str) -> SourceRow:
    (found,) = [r for r in rows if r.address == address]
    return found


def test_filtered_events_are_told_and_make_no_difference_to_anything_else() -> None:
    entry = processed("192.0.2.1", 2, 0)
    entry.lines["192.0.2.1", NOW - 2 * MINUTE, "syslog"].add(LedgerCounts(filtered=7))
    plain = row(survey(received("192.0.2.1", 2, 10), processed("192.0.2.1", 2, 0)), "192.0.2.1")
    found = row(survey(received("192.0.2.1", 2, 10), entry), "192.0.2.1")
    assert found.filtered == found.to_record()["filtered"] == 7
    found.filtered = 0
    assert found == plain


def test_a_source_is_told_with_its_rate_drops_and_times() -> None:
    rows = survey(received("192.0.2.1", 10, 500, 3), received("192.0.2.1", 2, 500), processed("192.0.2.1", 2, 0, units_dead=4))
    found = row(rows, "192.0.2.1")
    assert (found.name, found.state, found.way_in) == ("lb", "known", "syslog")
    assert (found.units, found.units_per_minute, found.dropped, found.dead) == (1000, 100.0, 3, 4)
    assert (found.first_seen, found.last_seen) == (NOW - 10 * MINUTE, NOW - 2 * MINUTE)
    assert (found.silent_seconds, found.expected_silence, found.overdue) == (60, 300, False)


def test_a_known_source_is_overdue_once_it_is_silent_for_longer_than_expected() -> None:
    assert not row(survey(received("192.0.2.1", 6, 1)), "192.0.2.1").overdue
    found = row(survey(received("192.0.2.1", 7, 1)), "192.0.2.1")
    assert (found.silent_seconds, found.overdue) == (360, True)


def test_one_of_a_sources_addresses_is_enough() -> None:
    rows = survey(received("192.0.2.1", 50, 1), received("192.0.2.2", 1, 1))
    assert not any(r.overdue for r in rows if r.name == "lb")


def test_a_known_source_that_never_came_is_listed_and_overdue_as_far_as_the_ledger_reaches() -> None:
    rows = survey(received("192.0.2.1", 1, 1))
    found = row(rows, "198.51.100.1/32")
    assert (found.name, found.last_seen, found.silent_seconds, found.overdue) == ("audit", None, 7200, True)
    assert rows[0] is found, "those overdue come first"
    assert {r.name for r in rows} == {"lb", "audit", "forwarder", "by-port"}


def test_what_is_older_than_asked_for_counts_for_last_seen_alone() -> None:
    rows = survey(received("198.51.100.1", 90, 5))
    found = row(rows, "198.51.100.1/32")
    assert (found.last_seen, found.units, found.silent_seconds, found.overdue) == (NOW - 90 * MINUTE, 0, 89 * 60, True)


@pytest.mark.parametrize(("unknown", "state"), [("accept", "unknown"), ("quarantine", "quarantined"), ("refuse", "refused")])
def test_who_is_not_in_the_catalogue_is_told_as_such(unknown: str, state: str) -> None:
    """An entry that names no address is not taken for whoever comes."""
    found = row(survey(received("203.0.113.9", 1, 1, 1), unknown=unknown), "203.0.113.9")
    assert (found.name, found.state, found.overdue) == (None, state, False)


def test_names_that_only_batches_know_come_from_the_processors() -> None:
    rows = survey(received("203.0.113.9", 3, 9), processed("203.0.113.9", 4, 0, names={"forwarder": 7}))
    assert row(rows, "203.0.113.9").name == "forwarder"
    assert row(rows, "203.0.113.9").silent_seconds == 120, "processors may be behind; the receiver knows"
    assert [r.address for r in rows if r.name == "forwarder"] == ["203.0.113.9"]


def test_a_range_that_was_done_again_counts_once() -> None:
    once = processed("192.0.2.1", 1, 7, units_dead=4)
    again = processed("192.0.2.1", 1, 7, units_dead=6)
    later = [processed("192.0.2.1", 1, 10 + i, units_dead=1) for i in range(3 * HELD_BACK)]
    assert row(survey(once, processed("192.0.2.1", 1, 9, units_dead=1), again, *later), "192.0.2.1").dead == 7 + 3 * HELD_BACK


def test_entries_of_other_stages_are_no_sources() -> None:
    sink = LedgerEntry("sink.adx", "i", "s", NAMES["events.cef"], 0, 0, 5, NOW)
    sink.lines["192.0.2.77", NOW, ""].add(LedgerCounts(events_in=5))
    detector = LedgerEntry("process.detector", "i", "s", NAMES["signals"], 0, 0, 5, NOW)
    detector.lines["process.syslog", NOW, ""].add(LedgerCounts(events_in=5))
    assert survey(sink, detector, catalogue=None) == []


def test_the_clock_is_the_median_of_the_freshest_events_so_a_backlog_does_not_move_it() -> None:
    entries = [with_clock(processed("192.0.2.1", ago, ago), "192.0.2.1", ago, -86_400, -500, 3602) for ago in range(1, 10)]
    entries.append(with_clock(processed("192.0.2.1", 11, 11), "192.0.2.1", 11, -86_400 * 30, -86_400 * 29))
    entries.append(with_clock(processed("192.0.2.1", 12, 12), "192.0.2.1", 12, 10**9))
    (clock,) = row(survey(received("192.0.2.1", 1, 1), *entries), "192.0.2.1").clocks
    assert (clock.dataset, clock.events, clock.offset, clock.hint) == ("cef", 30, 3602.0, "time zone? +1:00")
    assert (clock.least, clock.most) == (-86_400.0 * 30, 1e9)


def test_only_what_looks_like_a_zone_is_called_one() -> None:
    assert [zone_hint(s) for s in (0, 30, 600, 3600 * 15, 86_400)] == [None] * 5
    assert [zone_hint(s) for s in (3540, -7200, 20_700, -12_600)] == [
        "time zone? +1:00",
        "time zone? -2:00",
        "time zone? +5:45",
        "time zone? -3:30",
    ]


def test_what_exporters_lost_on_the_way_is_told_beside_them() -> None:
    one = received("192.0.2.1", 2, 10, raw="raw.netflow")
    one.sequences = [SequenceRange("192.0.2.1", NOW - 2 * MINUTE, "netflow-v9", 7, 0, 100, 110, 9)]
    two = received("192.0.2.1", 1, 10, raw="raw.netflow", number=1)
    two.sequences = [SequenceRange("192.0.2.1", NOW - 1 * MINUTE, "netflow-v9", 7, 0, 110, 120, 8)]
    found = row(survey(one, two), "192.0.2.1")
    assert (found.upstream_expected, found.upstream_missing) == (20, 3)


def printed(rows: list[SourceRow], **options: Any) -> str:
    out = io.StringIO()
    show(Console(file=out, highlight=False), rows, "1h", **({"unknown": False, "catalogue": True} | options))
    return out.getvalue()


def test_the_table_names_what_is_wrong() -> None:
    entry = with_clock(processed("192.0.2.1", 2, 0, events_out={"events.cef": 5}), "192.0.2.1", 2, 3600)
    text = printed(survey(received("192.0.2.1", 1, 5), entry))
    for words in (
        "192.0.2.1",
        "cef",
        "+3,600.0 s time zone? +1:00",
        "over 2 h of 60 min",
        "Silent beyond what is expected: audit.",
    ):
        assert words in text, text


def test_nothing_is_said_in_a_sentence() -> None:
    assert printed([]).strip() == "No source has sent anything in the last 1h, as far as the ledger tells."
    assert printed([], unknown=True).startswith("No unknown source has sent anything in the last 1h")
    assert "WEIR_SOURCES_FILE" in printed(survey(received("192.0.2.1", 1, 1), catalogue=None), catalogue=False)


def test_durations_are_short() -> None:
    assert [duration(s) for s in (0, 119, 120, 7199, 7200, 172_800)] == ["0 s", "119 s", "2 min", "119 min", "2 h", "2 d"]
