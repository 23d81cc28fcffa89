"""A real syslog receiver whose real Kafka goes away, and which is itself killed meanwhile."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.receivers.harness import free_port, make_topics, reading
from tests.receivers.test_service import get, start
from tests.support import eventually
from weir.bus.codec import Decoder
from weir.local.downloads import fetch_kafka
from weir.local.kafka import Kafka
from weir.model.batch import RawBatch
from weir.receivers.publishing.spool import Spool

pytestmark = pytest.mark.kafka

SOURCES = ("127.0.0.1", "127.0.0.2", "127.0.0.3")
SERVICE = "receive.syslog"


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Kafka]:
    """A Kafka of this test's own, which it may stop."""
    fetch_kafka(lambda _: None)
    with Kafka(tmp_path / "kafka") as running:
        yield running


class Senders:
    """Three sources over UDP, each with numbered messages."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.sent: dict[str, list[bytes]] = {source: [] for source in SOURCES}

    def send(self, count: int) -> None:
        for source in SOURCES:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                sock.bind((source, 0))
                for _ in range(count):
                    message = b"<13>message %d of %s" % (len(self.sent[source]), source.encode())
                    self.sent[source].append(message)
                    sock.sendto(message, ("127.0.0.1", self._port))

    @property
    def total(self) -> int:
        return sum(map(len, self.sent.values()))


@contextmanager
def receiver(port: int, health: int, **values: str) -> Iterator[subprocess.Popen[bytes]]:
    process = start(
        "syslog",
        "SyslogSettings",
        SYSLOG_HOST="127.0.0.1",
        SYSLOG_UDP_PORT=str(port),
        SYSLOG_TCP_PORT=str(free_port()),
        HEALTH_PORT=str(health),
        RECEIVER_LINGER_MS="50",
        RECEIVER_SPOOL_AFTER_SECONDS="1",
        **values,
    )
    try:
        eventually(lambda: get(health, "/readyz")[1] != "the sockets are not open yet\n" and get(health, "/healthz")[0] == 200, 30)
        yield process
    finally:
        process.kill()
        process.communicate()


def metric(health: int, name: str) -> float:
    found = re.search(rf"^{name}(?:{{[^}}]*}})? (\S+)$", get(health, "/metrics")[1], re.MULTILINE)
    return float(found[1]) if found else 0.0


def spooled(root: Path, copy: Path) -> list[RawBatch]:
    """What is on disk, of a receiver that has been killed."""
    shutil.copytree(root, copy)
    spool = Spool(copy, SERVICE, max_bytes=1 << 30, max_units=10**9)
    decode = Decoder()
    batches = []
    while (taken := spool.take()) is not None:
        batches.append(RawBatch.from_record(decode(taken[1].value)))
    spool.close()
    return batches


def test_what_was_sent_while_kafka_was_away_arrives_though_the_receiver_is_killed(broker: Kafka, tmp_path: Path) -> None:
    root = tmp_path / "spool"
    names = make_topics(broker.bootstrap_servers, "outage", "raw.syslog")
    port, health = free_port(socket.SOCK_DGRAM), free_port()
    values = {
        "KAFKA_BOOTSTRAP_SERVERS": broker.bootstrap_servers,
        "TOPIC_PREFIX": "outage",
        "RECEIVER_SPOOL_DIR": str(root),
    }
    senders = Senders(port)
    with receiver(port, health, **values) as process:
        eventually(lambda: get(health, "/readyz")[0] == 200, 30)
        senders.send(50)
        eventually(lambda: metric(health, "weir_receiver_units_total") == senders.total)
        before = senders.total
        broker.kill()
        senders.send(200)
        eventually(lambda: metric(health, "weir_receiver_spool_units") == senders.total - before, 20)
        senders.send(100)
        eventually(lambda: metric(health, "weir_receiver_spool_units") == senders.total - before, 20)
        assert get(health, "/readyz") == (200, "ready\n"), "the spool has room"
        process.send_signal(signal.SIGKILL)
        process.wait(10)
    on_disk = spooled(root, tmp_path / "copy")
    first_ids = {unit: batch.batch_id for batch in on_disk for unit in batch.units}
    assert len(first_ids) == senders.total - before

    with receiver(port, health, **values) as process:
        eventually(lambda: metric(health, "weir_receiver_spool_units") == senders.total - before)
        senders.send(100)
        eventually(lambda: metric(health, "weir_receiver_spool_units") == senders.total - before)
        broker.start()
        with reading(broker.bootstrap_servers, names["raw.syslog"]) as raw:
            eventually(lambda: set(raw.units()) == {m for sent in senders.sent.values() for m in sent}, 40)
            batches = raw.batches()
        eventually(lambda: metric(health, "weir_receiver_spool_units") == 0, 20)
        process.send_signal(signal.SIGTERM)
        _, log = process.communicate(timeout=40)
        assert process.returncode == 0, log.decode()
    assert not list(root.rglob("*.spool"))
    for source, sent in senders.sent.items():
        arrived = [unit for batch in batches if batch.source_ip == source for unit in batch.units]
        assert list(dict.fromkeys(arrived)) == sent, "in order, each at least once"
    for batch in batches:
        assert {first_ids.get(unit, batch.batch_id) for unit in batch.units} == {batch.batch_id}


def test_a_receiver_that_stops_while_kafka_is_away_leaves_nothing_behind_but_its_spool(broker: Kafka, tmp_path: Path) -> None:
    root = tmp_path / "spool"
    names = make_topics(broker.bootstrap_servers, "outage", "raw.syslog")
    port, health = free_port(socket.SOCK_DGRAM), free_port()
    values = {
        "KAFKA_BOOTSTRAP_SERVERS": broker.bootstrap_servers,
        "TOPIC_PREFIX": "outage",
        "RECEIVER_SPOOL_DIR": str(root),
    }
    senders = Senders(port)
    with receiver(port, health, **values) as process:
        eventually(lambda: get(health, "/readyz")[0] == 200, 30)
        broker.kill()
        senders.send(100)
        process.send_signal(signal.SIGTERM)
        _, log = process.communicate(timeout=40)
        assert process.returncode == 0, log.decode()
    assert sum(len(batch.units) for batch in spooled(root, tmp_path / "copy")) == senders.total
    broker.start()
    with receiver(port, health, **values), reading(broker.bootstrap_servers, names["raw.syslog"]) as raw:

        def once_each() -> list[bytes]:
            # A broker that has just come back may take longer for its answer than the spool waits; then a batch comes again.
            return sorted(unit for batch in {one.batch_id: one for one in raw.batches()}.values() for unit in batch.units)

        eventually(lambda: once_each() == sorted(m for sent in senders.sent.values() for m in sent), 30)


def test_a_spool_directory_that_cannot_be_used_stops_the_start(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no directory")
    process = start(
        "syslog",
        "SyslogSettings",
        KAFKA_BOOTSTRAP_SERVERS=f"127.0.0.1:{free_port()}",
        SYSLOG_UDP_PORT=str(free_port(socket.SOCK_DGRAM)),
        SYSLOG_TCP_PORT=str(free_port()),
        RECEIVER_SPOOL_DIR=str(tmp_path / "file"),
    )
    _, log = process.communicate(timeout=30)
    assert process.returncode == 1
    assert "WEIR_RECEIVER_SPOOL_DIR" in log.decode()
    assert os.listdir(tmp_path) == ["file"]


def test_a_receiver_with_a_spool_that_starts_while_kafka_is_away_is_ready_and_keeps_what_comes(tmp_path: Path) -> None:
    port, health = free_port(socket.SOCK_DGRAM), free_port()
    values = {"KAFKA_BOOTSTRAP_SERVERS": f"127.0.0.1:{free_port()}", "RECEIVER_SPOOL_DIR": str(tmp_path / "spool")}
    senders = Senders(port)
    with receiver(port, health, **values) as process:
        eventually(lambda: get(health, "/readyz") == (200, "ready\n"), 30)
        senders.send(20)
        eventually(lambda: metric(health, "weir_receiver_spool_units") == senders.total, 30)
        process.kill()
        process.wait(10)
    kept = [unit for batch in spooled(tmp_path / "spool", tmp_path / "copy") for unit in batch.units]
    assert sorted(kept) == sorted(message for sent in senders.sent.values() for message in sent)
