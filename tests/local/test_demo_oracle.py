"""What the demo takes for lost: checked on topics that hold just what a test says."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

import orjson
import pytest

from weir.bus.codec import Encoder
from weir.bus.deadletter import dead_letter_headers
from weir.local.demo.oracle import Audit, Oracle
from weir.model.batch import RawBatch
from weir.ops.settings import ServiceSettings, load
from weir.processors.runtime import MAX_EVENT_BYTES

LONG = orjson.dumps({"@timestamp": "2026-11-21T02:00:00.000Z", "message": "x" * 949_900})
SHORT = orjson.dumps({"@timestamp": "2026-11-21T02:00:00.000Z", "message": "short"})
BROKEN = b"{"


class FakeMessage:
    def __init__(self, value: bytes, headers: list[tuple[str, bytes]]) -> None:
        self._value, self._headers = value, headers

    def value(self) -> bytes:
        return self._value

    def headers(self) -> list[tuple[str, bytes]]:
        return self._headers

    def topic(self) -> str:
        return "weir.raw.beats.v1"

    def partition(self) -> int:
        return 0

    def offset(self) -> int:
        return 0


class FakeOracle(Oracle):
    """Reads from memory what would be in Kafka."""

    def __init__(self) -> None:
        super().__init__(load(ServiceSettings))
        self.held: dict[str, list[FakeMessage]] = defaultdict(list)

    def _read(self, topic: str) -> Iterable[FakeMessage]:
        return self.held[topic]

    def _counts(self) -> dict[str, int]:
        return {}


@pytest.fixture
def oracle(monkeypatch: pytest.MonkeyPatch) -> FakeOracle:
    monkeypatch.setenv("WEIR_KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:1")
    return FakeOracle()


def audit(oracle: FakeOracle, units: list[bytes], buried: list[int]) -> Audit:
    batch = RawBatch(
        batch_id=bytes(16),
        site="",
        receiver="",
        transport="lumberjack",
        source_ip="192.0.2.1",
        listener_port=5044,
        received_at=1_790_000_000_000_000,
        units=units,
    )
    encode = Encoder("raw-batch")
    oracle.held["raw.beats"] = [FakeMessage(encode(batch.to_record()), [])]
    headers = dead_letter_headers(service="process.beats", stage="decode", topic="t", partition=0, offset=0, error="why")
    oracle.held["raw.beats.dlq"] = [FakeMessage(encode(batch.only([index]).to_record()), headers) for index in buried]
    return oracle.audit()


def test_an_event_that_no_record_can_hold_is_dead_and_not_lost(oracle: FakeOracle) -> None:
    assert len(LONG) < MAX_EVENT_BYTES
    found = audit(oracle, [LONG], buried=[0])
    assert found.lost_count == 0
    assert (found.sources["beats"].units_dead, found.sources["beats"].units_with_events) == (1, 0)


def test_a_dead_letter_excuses_no_event_that_fits(oracle: FakeOracle) -> None:
    found = audit(oracle, [SHORT], buried=[0])
    assert found.lost_count == 1


@pytest.mark.parametrize("unit", [LONG, SHORT, BROKEN])
def test_what_is_neither_an_event_nor_a_dead_letter_is_lost(oracle: FakeOracle, unit: bytes) -> None:
    assert audit(oracle, [unit], buried=[]).lost_count == 1
