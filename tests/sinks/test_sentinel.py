"""Sentinel's destination against the stand-in, with Azure's own client."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from weir.local.standins.certificates import CertificateFiles
from weir.local.standins.logs_ingestion import LogsIngestionStandIn
from weir.sinks import sentinel as module
from weir.sinks.chunks import Line
from weir.sinks.destination import Retry, Row
from weir.sinks.sentinel import SentinelDestination, SentinelSettings

from .conftest import DCR
from .control import ids, stats, tell
from .samples import alert, cef, row

TABLE = "CommonSecurityLog"


@pytest.fixture
def destination(
    logs_ingestion: LogsIngestionStandIn, certificates: CertificateFiles, token_file: Path
) -> Iterator[SentinelDestination]:
    made = SentinelDestination(
        SentinelSettings(
            kafka_bootstrap_servers="localhost:9092",
            sentinel_endpoint=logs_ingestion.url,
            sentinel_dcr_immutable_id=DCR,
            sentinel_auth="static-token-file",
            sentinel_token_file=token_file,
            sentinel_ca_file=certificates.ca,
        )
    )
    made.prepare(["events.cef", "alerts"])
    yield made
    made.close()


def rows(count: int, first: int = 0, **fields: object) -> list[Row]:
    return [row("events.cef", n, cef(n, **fields)) for n in range(first, first + count)]


def expected(given: list[Row]) -> set[str]:
    return {r.record["event_id"] for r in given}


def test_rows_arrive_in_the_table_of_their_topic(destination: SentinelDestination, logs_ingestion: LogsIngestionStandIn) -> None:
    given = rows(50)
    assert destination.send("events.cef", given) == []
    assert destination.send("alerts", [row("alerts", 0, alert(1))]) == []
    assert ids(logs_ingestion, TABLE) == expected(given)
    assert ids(logs_ingestion, destination.table("alerts")) == {f"{1:032x}"}
    seen = stats(logs_ingestion)
    assert seen.get("misfits") == {}
    assert seen["dropped_columns"] == {}
    assert destination.counters.requests == 2
    assert destination.counters.bytes_sent == seen["bytes_in"]


def test_many_rows_go_in_chunks_that_hold_under_both_readings_of_the_limit(
    destination: SentinelDestination, logs_ingestion: LogsIngestionStandIn
) -> None:
    tell(logs_ingestion, strict_inflated=True)
    given = rows(3000, message="m" * 900)
    assert destination.send("events.cef", given) == []
    seen = stats(logs_ingestion)
    assert seen["tables"][TABLE]["distinct"] == 3000
    assert seen["requests"] == {"204": seen["requests_total"]}
    assert seen["requests_total"] >= 3


def test_413_halves_the_chunk(destination: SentinelDestination, logs_ingestion: LogsIngestionStandIn) -> None:
    tell(logs_ingestion, script=[{"status": 413}])
    given = rows(10)
    assert destination.send("events.cef", given) == []
    seen = stats(logs_ingestion)
    assert (seen["tables"][TABLE]["rows"], seen["tables"][TABLE]["distinct"]) == (10, 10)
    assert seen["requests_total"] == 3


def test_a_single_record_over_the_limit_is_rejected_alone(
    destination: SentinelDestination, logs_ingestion: LogsIngestionStandIn
) -> None:
    given = rows(3)
    tell(logs_ingestion, script=[{"status": 413}, {"ok": True}, {"status": 413}, {"status": 413}, {"ok": True}])
    rejected = destination.send("events.cef", given)
    assert [item.row for item in rejected] == [given[1]]
    assert "413" in rejected[0].reason
    assert ids(logs_ingestion, TABLE) == expected([given[0], given[2]])


def test_a_malformed_record_is_found_among_good_ones(
    destination: SentinelDestination, logs_ingestion: LogsIngestionStandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The body of the poisonous row is not JSON, so the service refuses every request that holds it."""
    poison(monkeypatch, {17, 40})
    given = rows(100)
    rejected = destination.send("events.cef", given)
    assert [item.row.offset for item in rejected] == [17, 40]
    assert "400" in rejected[0].reason
    assert ids(logs_ingestion, TABLE) == expected([r for r in given if r.offset not in {17, 40}])
    assert stats(logs_ingestion)["tables"][TABLE]["repeated"] == 0


def test_more_malformed_records_than_one_call_may_look_for_are_found_in_several(
    destination: SentinelDestination, logs_ingestion: LogsIngestionStandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = set(range(0, 200, 2))
    poison(monkeypatch, bad)
    left = rows(200)
    found: set[int] = set()
    for _ in range(10):
        try:
            found |= {item.row.offset for item in destination.send("events.cef", left)}
            break
        except Retry as retry:
            behind = {r.offset for r in retry.delivered} | {r.offset for r, _ in retry.rejected}
            assert behind
            found |= {r.offset for r, _ in retry.rejected}
            left = [r for r in left if r.offset not in behind]
    assert found == bad
    counts = stats(logs_ingestion)["tables"][TABLE]
    assert (counts["distinct"], counts["repeated"]) == (100, 0)


def test_when_nothing_at_all_is_accepted_the_rule_is_blamed_and_nothing_is_lost(
    destination: SentinelDestination, logs_ingestion: LogsIngestionStandIn
) -> None:
    tell(logs_ingestion, script=[{"status": 400, "body": {"error": {"code": "InvalidStream", "message": "?"}}, "times": 400}])
    with pytest.raises(Retry, match="InvalidStream") as caught:
        destination.send("events.cef", rows(20))
    assert caught.value.delivered == ()
    assert caught.value.rejected == ()


def test_429_is_retried_after_the_time_asked_for_and_keeps_what_was_accepted(
    destination: SentinelDestination, logs_ingestion: LogsIngestionStandIn
) -> None:
    tell(logs_ingestion, script=[{"ok": True}, {"status": 429, "headers": {"Retry-After": "7"}}])
    given = rows(3000, message="m" * 900)
    with pytest.raises(Retry) as caught:
        destination.send("events.cef", given)
    assert caught.value.retry_after == 7.0
    assert 0 < len(caught.value.delivered) < 3000
    rest = given[len(caught.value.delivered) :]
    assert destination.send("events.cef", rest) == []
    counts = stats(logs_ingestion)["tables"][TABLE]
    assert (counts["distinct"], counts["repeated"]) == (3000, 0)


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_passing_failures_are_retried(destination: SentinelDestination, logs_ingestion: LogsIngestionStandIn, status: int) -> None:
    tell(logs_ingestion, script=[{"status": status}])
    with pytest.raises(Retry, match=str(status)):
        destination.send("events.cef", rows(1))
    assert destination.send("events.cef", rows(1)) == []


@pytest.mark.parametrize(("status", "cure"), [(401, "WEIR_SENTINEL_AUTH"), (403, "Monitoring Metrics Publisher"), (404, "dcr-")])
def test_missing_rights_are_waited_for_and_the_cure_is_named(
    destination: SentinelDestination, logs_ingestion: LogsIngestionStandIn, status: int, cure: str
) -> None:
    tell(logs_ingestion, script=[{"status": status, "body": {"error": {"code": "OperationFailed", "message": "no"}}}])
    with pytest.raises(Retry, match=cure) as caught:
        destination.send("events.cef", rows(1))
    assert DCR in str(caught.value)


def test_a_dropped_connection_is_retried(destination: SentinelDestination, logs_ingestion: LogsIngestionStandIn) -> None:
    tell(logs_ingestion, script=[{"drop": True}])
    with pytest.raises(Retry):
        destination.send("events.cef", rows(1))
    assert destination.send("events.cef", rows(1)) == []


def test_a_chunk_tried_again_carries_the_same_request_id(
    destination: SentinelDestination, logs_ingestion: LogsIngestionStandIn
) -> None:
    tell(logs_ingestion, script=[{"status": 503}])
    with pytest.raises(Retry):
        destination.send("events.cef", rows(5))
    destination.send("events.cef", rows(5))
    destination.send("events.cef", rows(5, first=5))
    assert stats(logs_ingestion)["retried"] == 1


def test_a_value_over_64_kb_is_cut_by_us_and_counted(
    destination: SentinelDestination, logs_ingestion: LogsIngestionStandIn
) -> None:
    assert destination.send("events.cef", rows(1, message="m" * 70_000)) == []
    assert destination.counters.truncated == 1
    assert stats(logs_ingestion)["truncated_fields"] == {}


def test_a_missing_token_file_is_waited_for(destination: SentinelDestination, token_file: Path) -> None:
    token_file.unlink()
    with pytest.raises(Retry, match="token"):
        destination.send("events.cef", rows(1))


def test_no_token_is_in_what_an_error_says(
    destination: SentinelDestination, logs_ingestion: LogsIngestionStandIn, token_file: Path
) -> None:
    token_file.write_text("very-secret-token")
    tell(logs_ingestion, script=[{"status": 401}])
    with pytest.raises(Retry) as caught:
        destination.send("events.cef", rows(1))
    assert "very-secret-token" not in str(caught.value)


def poison(monkeypatch: pytest.MonkeyPatch, offsets: set[int]) -> None:
    """Make the rows at these offsets come out as something that is no JSON."""
    whole = module.make_line

    def make_line(given: Row, projected: dict[str, object]) -> Line:
        line = whole(given, projected)
        return Line(given, b"{broken") if given.offset in offsets else line

    monkeypatch.setattr(module, "make_line", make_line)
