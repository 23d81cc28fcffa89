"""Kafka itself dies under a running sink, and comes back."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.support import eventually
from weir.local.downloads import fetch_kafka
from weir.local.kafka import Kafka
from weir.sinks.destination import Rejected, Row

from .kafka_bench import KafkaBench
from .samples import FakeDestination

pytestmark = pytest.mark.kafka


@pytest.fixture
def own_broker(tmp_path: Path) -> Iterator[Kafka]:
    """A broker of this test's own: nobody else's may be killed."""
    fetch_kafka(lambda _: None)
    with Kafka(tmp_path / "kafka", heap="256m") as broker:
        yield broker


def test_a_sink_goes_on_when_its_broker_is_killed_and_comes_back(
    own_broker: Kafka, topic_prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("weir.sinks.runtime._LEDGER_SECONDS", 3.0)
    bench = KafkaBench(own_broker.bootstrap_servers, topic_prefix)
    pause = threading.Event()

    def answer(topic: str, rows: Sequence[Row]) -> list[Rejected]:
        pause.wait(0.03)
        return []

    ids = bench.fill(4_000)
    destination = FakeDestination(answer, max_rows=25)
    running = bench.start(destination)
    try:
        eventually(lambda: len(destination.accepted) > 500, timeout=30)
        own_broker.kill()
        eventually(lambda: running.sink.not_ready() is not None, timeout=60, message="the failing commit was not noticed")
        assert running.alive
        own_broker.start()
        pause.set()
        ids += bench.fill(300, first=10_000)
        eventually(lambda: bench.committed() == bench.ends("events.cef"), timeout=60)
        running.stop()
        assert set(destination.accepted) == set(ids)
        total = bench.ledger_sum()
        assert (total.events_in, total.delivered) == (4_300, 4_300)
    finally:
        bench.close()
