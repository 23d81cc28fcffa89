"""The SIEM's destination against the stand-in: nothing acknowledged, and still nothing lost that could be known."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.support import eventually
from weir.local.standins.certificates import CertificateFiles
from weir.local.standins.siem import SiemStandIn
from weir.sinks import siem as module
from weir.sinks.destination import Misconfigured, Retry, Row
from weir.sinks.siem import SiemDestination, SiemSettings, frame

from .control import ids, stats, tell
from .samples import alert, row


@pytest.fixture
def make(siem: SiemStandIn, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., SiemDestination]]:
    monkeypatch.setattr(module, "_WATCH_SECONDS", 0.02)
    monkeypatch.setattr(module, "_RECONNECT_SECONDS", 0.05)
    made: list[SiemDestination] = []

    def build(**changes: Any) -> SiemDestination:
        options: dict[str, Any] = {
            "kafka_bootstrap_servers": "localhost:9092",
            "siem_host": "127.0.0.1",
            "siem_port": siem.tcp_port,
            "siem_transport": "tcp",
            "siem_settle_seconds": 2.0,
            **changes,
        }
        destination = SiemDestination(SiemSettings(**options))
        destination.prepare(["alerts"])
        made.append(destination)
        return destination

    yield build
    for destination in made:
        destination.close()


def rows(*numbers: int, **fields: Any) -> list[Row]:
    return [row("alerts", n, alert(n, **fields)) for n in numbers]


def names(*numbers: int) -> set[str]:
    return {f"{n:032x}" for n in numbers}


@pytest.mark.parametrize("framing", ["octet-counting", "newline"])
def test_alerts_arrive_over_tcp_in_either_framing(make: Callable[..., SiemDestination], siem: SiemStandIn, framing: str) -> None:
    destination = make(siem_framing=framing)
    assert destination.send("alerts", rows(1, 2, summary="two\nlines | and = signs")) == []
    eventually(lambda: ids(siem) == names(1, 2))
    assert destination.counters.bytes_sent == stats(siem)["bytes_in"]


def test_alerts_arrive_over_tls_and_every_encrypted_byte_is_counted(
    make: Callable[..., SiemDestination], siem: SiemStandIn, certificates: CertificateFiles
) -> None:
    destination = make(siem_port=siem.tls_port, siem_transport="tls", siem_ca_file=certificates.ca)
    assert destination.send("alerts", rows(1, 2, 3)) == []
    eventually(lambda: ids(siem) == names(1, 2, 3))
    assert destination.counters.bytes_sent == stats(siem)["bytes_in"] > 0
    eventually(lambda: destination.counters.bytes_received == stats(siem)["bytes_out"] > 0)


def test_a_receiver_with_an_unknown_certificate_gets_nothing(make: Callable[..., SiemDestination], siem: SiemStandIn) -> None:
    destination = make(siem_port=siem.tls_port, siem_transport="tls")
    with pytest.raises(Retry, match="certificate"):
        destination.send("alerts", rows(1))
    assert stats(siem)["messages"] == 0


def test_a_receiver_that_wants_a_client_certificate_gets_it_or_says_so(
    make: Callable[..., SiemDestination], certificates: CertificateFiles
) -> None:
    with SiemStandIn(certificates=certificates, client_certificate=True) as strict:
        tls = {"siem_port": strict.tls_port, "siem_transport": "tls", "siem_ca_file": certificates.ca}
        # TLS 1.3 tells the client after its handshake, so the first bytes may be gone by then; never is it taken for delivered.
        with pytest.raises(Retry, match=r"(?i)certificate|closed|reset"):
            make(**tls).send("alerts", rows(1))
        known = make(**tls, siem_certificate_file=certificates.client, siem_key_file=certificates.client_key)
        assert known.send("alerts", rows(2)) == []
        eventually(lambda: ids(strict) == names(2))


def test_an_unusable_ca_file_is_a_mistake(make: Callable[..., SiemDestination], tmp_path: Any) -> None:
    bad = tmp_path / "ca.pem"
    bad.write_text("nothing")
    with pytest.raises(Misconfigured, match="WEIR_SIEM_CA_FILE"):
        make(siem_transport="tls", siem_ca_file=bad)


def test_a_receiver_that_is_away_is_retried(make: Callable[..., SiemDestination], siem: SiemStandIn) -> None:
    destination = make()
    tell(siem, refuse=True)
    with pytest.raises(Retry, match="refused"):
        destination.send("alerts", rows(1))
    tell(siem, refuse=False)
    assert destination.send("alerts", rows(1)) == []
    eventually(lambda: ids(siem) == names(1))


def test_a_connection_closed_while_idle_is_noticed_before_anything_is_written_to_it(
    make: Callable[..., SiemDestination], siem: SiemStandIn
) -> None:
    destination = make(siem_resend_seconds=0)
    destination.send("alerts", rows(1))
    tell(siem, reset=True)
    eventually(lambda: stats(siem)["connections_open"] == 0)
    assert destination.send("alerts", rows(2)) == []
    eventually(lambda: ids(siem) == names(1, 2))


def test_what_was_sent_shortly_before_a_break_is_sent_again_without_waiting_for_another_alert(
    make: Callable[..., SiemDestination], siem: SiemStandIn
) -> None:
    """The receiver's TCP acknowledged it, its application had not read it: as when a SIEM is killed."""
    destination = make(siem_resend_seconds=60)
    destination.send("alerts", rows(1))
    eventually(lambda: ids(siem) == names(1))
    tell(siem, stop_reading=True)
    assert destination.send("alerts", rows(2)) == []
    tell(siem, reset=True)
    tell(siem, stop_reading=False)
    eventually(lambda: ids(siem) == names(1, 2))


def test_nothing_is_sent_again_after_the_time_for_it(make: Callable[..., SiemDestination], siem: SiemStandIn) -> None:
    destination = make(siem_resend_seconds=0.05)
    destination.send("alerts", rows(1))
    eventually(lambda: not destination._recent, timeout=3)
    tell(siem, reset=True)
    eventually(lambda: stats(siem)["connections_open"] == 0)
    destination.send("alerts", rows(2))
    eventually(lambda: ids(siem) == names(1, 2))
    assert stats(siem)["repeated"] == 0


def test_a_receiver_that_stops_reading_is_not_taken_for_delivered(make: Callable[..., SiemDestination], siem: SiemStandIn) -> None:
    destination = make(siem_settle_seconds=0.5, siem_timeout_seconds=0.5)
    destination.send("alerts", rows(1))
    tell(siem, stop_reading=True)
    big = rows(*range(2, 400), summary="s" * 1000, rule_description="d")
    with pytest.raises(Retry, match=r"acknowledged|timed out"):
        send_often(destination, big)
    tell(siem, stop_reading=False)
    destination.send("alerts", big)
    eventually(lambda: ids(siem) == names(*range(1, 400)), timeout=20)


def test_a_break_in_the_middle_of_writing_loses_nothing(make: Callable[..., SiemDestination], siem: SiemStandIn) -> None:
    destination = make(siem_resend_seconds=60)
    destination.send("alerts", rows(1))
    tell(siem, reset_after=5_000)
    left = rows(*range(2, 100))
    for _ in range(10):
        try:
            destination.send("alerts", left)
            break
        except Retry:
            continue
    eventually(lambda: ids(siem) == names(*range(1, 100)))


def test_an_alert_that_cannot_be_written_is_rejected_and_the_others_sent(
    make: Callable[..., SiemDestination], siem: SiemStandIn
) -> None:
    destination = make()
    given = [row("alerts", 0, alert(1)), row("alerts", 1, {**alert(2), "alert_id": ""})]
    rejected = destination.send("alerts", given)
    assert [item.row for item in rejected] == [given[1]]
    eventually(lambda: ids(siem) == names(1))


def send_often(destination: SiemDestination, given: list[Row]) -> None:
    """Until the buffers on the way are full."""
    for _ in range(20):
        destination.send("alerts", given)


def test_frames() -> None:
    assert frame(b"<14>1 x", "octet-counting") == b"7 <14>1 x"
    assert frame(b"<14>1 x", "newline") == b"<14>1 x\n"
