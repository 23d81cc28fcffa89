"""A defect of a decoder costs the unit that meets it, and no other one of the batch."""

from __future__ import annotations

from typing import Any, NoReturn

import pytest

from weir.model.batch import RawBatch
from weir.processors import beats, netflow, syslog
from weir.processors.outcome import Outcome, RawCoordinates

WHERE = RawCoordinates("raw", 0, 0)


def batch(transport: str, units: list[bytes]) -> RawBatch:
    return RawBatch(bytes(16), "s", "r", transport, "192.0.2.1", 1, 1_709_294_400_000_000, units)


def failing_at(number: int, function: Any) -> Any:
    """The function, but its call of this number meets a defect."""
    calls = iter(range(1_000))

    def fails() -> NoReturn:
        raise KeyError("no such key")

    return lambda *given, **named: fails() if next(calls) == number else function(*given, **named)


def judged(outcome: Outcome, units: int) -> None:
    [dead] = outcome.dead
    assert (dead.unit_index, dead.reason) == (1, "decoder failed: KeyError('no such key')")
    assert sum(map(len, outcome.events.values())) == units - 1
    assert not outcome.units_empty


def test_of_a_syslog_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(syslog.syslog, "parse", failing_at(1, syslog.syslog.parse))
    judged(syslog.make_process()(batch("udp", [b"<13>one", b"<13>two", b"<13>three"]), WHERE), 3)


def test_of_a_document(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(beats.beats, "shipping", failing_at(1, beats.beats.shipping))
    judged(beats.process(batch("http", [b'{"a":1}', b'{"a":2}', b'{"a":3}']), WHERE), 3)


def test_of_a_flow_datagram(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(netflow.netflow_fields, "fill", failing_at(1, netflow.netflow_fields.fill))
    v5 = bytes.fromhex("0005 0001 00000000 65e1c4c0 00000000 00000000 0000 0000".replace(" ", "")) + bytes(48)
    judged(netflow.process(batch("udp", [v5, v5, v5]), WHERE), 3)
