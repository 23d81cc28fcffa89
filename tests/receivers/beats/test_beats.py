"""The Beats receiver with real sockets and a real Kafka, also one that does not answer."""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import signal
import socket
import struct
import threading
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import psutil
import pytest

from tests.receivers.harness import CORPUS, TopicReader, make_topics, reading, running
from tests.support import eventually
from weir.model.topics import TopicNames
from weir.protocols.lumberjack import encode_batch, encode_window, parse_ack
from weir.receivers.beats.receiver import SERVICE, BeatsReceiver, BeatsSettings, build

pytestmark = pytest.mark.kafka


def settings_for(kafka: str, prefix: str, **values: Any) -> BeatsSettings:
    options = {"beats_host": "127.0.0.1", "beats_port": 0, "http_port": -1, "instance": "tester"}
    options |= {"receiver_linger_ms": 10_000, **values}
    return BeatsSettings(kafka_bootstrap_servers=kafka, topic_prefix=prefix, **options)


@pytest.fixture
def names(kafka: str, topic_prefix: str) -> TopicNames:
    return make_topics(kafka, topic_prefix, "raw.beats")


@pytest.fixture
def raw(kafka: str, names: TopicNames) -> Iterator[TopicReader]:
    with reading(kafka, names["raw.beats"]) as reader:
        yield reader


class Client:
    """A Lumberjack client that keeps every acknowledgement."""

    def __init__(self, port: int) -> None:
        self.sock = socket.create_connection(("127.0.0.1", port), timeout=20)
        self.acks: list[int] = []
        self._held = b""

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def send_until_blocked(self, data: bytes) -> int:
        """How much went out before the receiver had not read on for a second."""
        sent = 0
        self.sock.settimeout(1.0)
        with contextlib.suppress(TimeoutError):
            while sent < len(data):
                sent += self.sock.send(data[sent : sent + 65_536])
        return sent

    def ack(self) -> int:
        """The next acknowledgement, signs of life included."""
        while (found := parse_ack(self._held)) is None:
            data = self.sock.recv(4096)
            assert data, "closed instead of acknowledged"
            self._held += data
        sequence, self._held = found
        self.acks.append(sequence)
        return sequence

    def acknowledges(self, last: int) -> int:
        """Read on to the acknowledgement of a whole window; before it only signs of life and rising parts may come."""
        part = 0
        while (sequence := self.ack()) != last:
            assert not sequence or part < sequence < last, f"{sequence} after {part} of {last}"
            part = max(part, sequence)
        return last

    def closed(self) -> bool:
        """Wait until the receiver has closed."""
        try:
            while self.sock.recv(4096):
                pass
        except ConnectionError:
            pass
        return True


@contextmanager
def frozen_broker(servers: str) -> Iterator[None]:
    """The broker stopped in its tracks: it answers nothing and closes nothing."""
    port = int(servers.split(",", maxsplit=1)[0].rpartition(":")[2])
    pids = {c.pid for c in psutil.net_connections("tcp") if c.status == psutil.CONN_LISTEN and c.laddr.port == port and c.pid}
    if len(pids) != 1:
        pytest.skip(f"the broker at {servers} is no process of this machine that may be stopped")
    (pid,) = pids
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def documents(count: int, text: str = "hello") -> list[bytes]:
    return [json.dumps({"message": text, "number": n}).encode() for n in range(count)]


@pytest.mark.parametrize("level", [0, 3], ids=["bare", "compressed"])
def test_a_window_is_published_whole_and_acknowledged_by_its_last_sequence(
    kafka: str, names: TopicNames, raw: TopicReader, level: int
) -> None:
    sent = [*documents(1_199), b"this is no JSON"]
    with running(settings_for(kafka, names.prefix), SERVICE, build) as run, Client(run.receiver.port) as client:
        client.send(encode_batch(sent, compress_level=level))
        client.acknowledges(len(sent))
        eventually(lambda: len(raw.units()) == len(sent))
        assert raw.units() == sent
        assert [len(b.units) for b in raw.batches()] == [500, 500, 200]
        batch = raw.batches()[0]
        assert (batch.transport, batch.source_ip, batch.listener_port) == ("lumberjack", "127.0.0.1", run.receiver.port)
        assert batch.source_port == client.sock.getsockname()[1]


def test_bytes_may_come_one_by_one_and_windows_back_to_back(kafka: str, names: TopicNames, raw: TopicReader) -> None:
    first, second = documents(3, "first"), documents(2, "second")
    with running(settings_for(kafka, names.prefix), SERVICE, build) as run, Client(run.receiver.port) as client:
        client.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        stream = encode_batch(first) + encode_batch(second, first_sequence=2**32 - 1)
        for i in range(len(stream)):
            client.send(stream[i : i + 1])
        client.acknowledges(3)
        assert client.ack() == 0  # sequence 2**32 - 1 and then, wrapped, 0
    eventually(lambda: raw.units() == first + second)


def test_many_clients_at_once_share_little_memory_and_all_are_served(kafka: str, names: TopicNames, raw: TopicReader) -> None:
    """Together they have four times the ceiling in unfinished windows; none may wait for memory that the others hold."""
    settings = settings_for(kafka, names.prefix, receiver_memory_bytes=2 * 1024 * 1024)
    window = [b'{"n":%d,"x":"%s"}' % (n, b"y" * 1_000) for n in range(300)]
    stream = encode_batch(window, compress_level=0)
    with running(settings, SERVICE, build) as run:
        receiver: BeatsReceiver = run.receiver

        def client(_: int) -> int:
            with Client(receiver.port) as one:
                one.send(stream[:200_000])
                begun.wait(20)
                one.send(stream[200_000:])
                return one.acknowledges(300)

        begun = threading.Barrier(40)
        with ThreadPoolExecutor(40) as pool:
            assert list(pool.map(client, range(40))) == [300] * 40
        assert receiver.publisher.memory.used < 64_000
    eventually(lambda: len(raw.units()) == 300 * 40, timeout=30)


def test_version_1_is_acknowledged_in_version_1(kafka: str, names: TopicNames, raw: TopicReader) -> None:
    pairs = b"".join(struct.pack(">I", len(t)) + t for t in (b"line", b"hello"))
    with running(settings_for(kafka, names.prefix), SERVICE, build) as run, Client(run.receiver.port) as client:
        client.send(encode_window(1, 1) + b"1D" + struct.pack(">II", 1, 1) + pairs)
        assert client.sock.recv(6) == b"1A\0\0\0\1"
    eventually(lambda: raw.units() == [b'{"line":"hello"}'])


def test_nothing_is_acknowledged_before_kafka_has_it(kafka: str, names: TopicNames, raw: TopicReader) -> None:
    """With the broker frozen only signs of life come; once it runs again the windows are acknowledged, in their order."""
    settings = settings_for(kafka, names.prefix, beats_keepalive_seconds=0.1)
    with running(settings, SERVICE, build) as run, Client(run.receiver.port) as client:
        client.send(encode_batch(documents(5)))
        client.acknowledges(5)
        with frozen_broker(kafka):
            client.acks.clear()
            client.send(encode_batch(documents(7)) + encode_batch(documents(9)))
            for _ in range(10):
                client.ack()
            assert client.acks == [0] * 10
        client.acknowledges(7)
        client.acknowledges(9)
    eventually(lambda: len(raw.units()) == 21)


def test_memory_is_bounded_while_kafka_is_away(kafka: str, names: TopicNames, raw: TopicReader) -> None:
    """A client that sends far more than the ceiling is not read; when Kafka is back, everything arrives."""
    settings = settings_for(
        kafka,
        names.prefix,
        receiver_memory_bytes=2 * 1024 * 1024,
        beats_connection_bytes=2 * 1024 * 1024,
        beats_keepalive_seconds=60,
    )
    window = [b'{"n":%d,"x":"%s"}' % (n, b"y" * 1_000) for n in range(200)]
    with running(settings, SERVICE, build) as run, Client(run.receiver.port) as client:
        receiver: BeatsReceiver = run.receiver
        client.send(encode_batch(window))
        client.acknowledges(200)
        with frozen_broker(kafka):
            stream = encode_batch(window, compress_level=0) * 100
            sent = client.send_until_blocked(stream)
            assert sent < len(stream)
            assert receiver.publisher.memory.used < 3 * 1024 * 1024
        client.sock.settimeout(30)
        client.send(stream[sent:])
        for _ in range(100):
            client.acknowledges(200)
        assert receiver.publisher.memory.used < 64_000  # a ledger entry may be on its way
    eventually(lambda: len(raw.units()) == 200 * 101, timeout=30)


@pytest.mark.parametrize(
    ("broken", "hint"),
    [
        pytest.param(b"GET / HTTP/1.1\r\n\r\n", b"GET / HTTP/1.1", id="HTTP"),
        pytest.param(encode_window(1) + b"2C" + struct.pack(">I", 8) + b"notzlib!", b"notzlib!", id="no zlib stream"),
        pytest.param(encode_window(1) + b"2J" + struct.pack(">II", 1, 0x7FFFFFFF), b"2J", id="a frame of 2 GB"),
        pytest.param(
            encode_window(1) + b"2C" + struct.pack(">I", len(bomb := zlib.compress(bytes(2_000_000)))) + bomb, b"2C", id="bomb"
        ),
        pytest.param(encode_batch(documents(2)) + b"2J" + struct.pack(">II", 3, 2) + b"{}", b"2J", id="beyond the window"),
        pytest.param(b"2A\0\0\0\1", b"2A", id="an acknowledgement"),
    ],
)
def test_what_is_no_lumberjack_closes_the_connection_and_is_found_in_the_raw_topic(
    kafka: str, names: TopicNames, raw: TopicReader, broken: bytes, hint: bytes
) -> None:
    """Once a minute and source, however often the client comes back; others are served on."""
    with running(settings_for(kafka, names.prefix, beats_max_inflated_bytes=1_000_000), SERVICE, build) as run:
        for _ in range(3):
            with Client(run.receiver.port) as client:
                client.send(broken)
                assert client.closed()
        with Client(run.receiver.port) as client:
            client.send(encode_batch([b"{}"]))
            client.acknowledges(1)
    eventually(lambda: b"{}" in raw.units())
    (error,) = [b for b in raw.batches() if b.transport == "lumberjack-error"]
    assert hint in error.units[0]
    assert len(error.units) == 1
    assert len(error.units[0]) <= 65_536


def test_a_document_too_long_for_a_batch_is_cut_marked_and_acknowledged(kafka: str, names: TopicNames, raw: TopicReader) -> None:
    long = b'{"x":"' + b"y" * 1_500_000 + b'"}'
    with running(settings_for(kafka, names.prefix), SERVICE, build) as run, Client(run.receiver.port) as client:
        client.send(encode_batch([b"{}", long, b"{}"]))
        client.acknowledges(3)
    eventually(lambda: len(raw.units()) == 3)
    ((mark, unit),) = [(mark, batch.units[mark.position]) for batch in raw.batches() for mark in batch.truncated]
    assert unit == long[:786_432]
    assert (mark.original_length, len(mark.sha256)) == (len(long), 32)


def test_an_unfinished_window_is_left_to_the_client_to_send_again(kafka: str, names: TopicNames, raw: TopicReader) -> None:
    with running(settings_for(kafka, names.prefix), SERVICE, build) as run:
        receiver: BeatsReceiver = run.receiver
        with Client(receiver.port) as client:
            client.send(encode_window(2) + b"2J" + struct.pack(">II", 1, 9) + b'{"one":1}')
            eventually(lambda: receiver.publisher.memory.used)
        eventually(lambda: receiver.publisher.memory.used == 0)
        with Client(receiver.port) as client:
            client.send(encode_batch([b'{"one":1}', b'{"two":2}']))
            client.acknowledges(2)
    eventually(lambda: raw.units() == [b'{"one":1}', b'{"two":2}'])


def test_a_client_that_stalls_within_a_frame_is_closed_and_one_that_idles_is_not(
    kafka: str, names: TopicNames, raw: TopicReader
) -> None:
    settings = settings_for(kafka, names.prefix, beats_stalled_seconds=0.3)
    with running(settings, SERVICE, build) as run, Client(run.receiver.port) as idle, Client(run.receiver.port) as stalled:
        idle.send(encode_batch([b"{}"]))
        idle.acknowledges(1)
        stalled.send(encode_window(2)[:3])
        assert stalled.closed()
        idle.send(encode_batch([b"{}", b"{}"]))
        idle.acknowledges(2)


def test_a_graceful_stop_acknowledges_what_is_complete(kafka: str, names: TopicNames, raw: TopicReader) -> None:
    with running(settings_for(kafka, names.prefix), SERVICE, build) as run, Client(run.receiver.port) as client:
        receiver: BeatsReceiver = run.receiver
        with frozen_broker(kafka):
            client.send(encode_batch(documents(4)) + encode_window(2) + b"2J" + struct.pack(">II", 1, 2) + b"{}")
            eventually(lambda: receiver.publisher.in_flight)
            run._loop.call_soon_threadsafe(run._stop.set)
        client.acknowledges(4)
        assert client.closed()
        assert run.stop() == 0
    eventually(lambda: raw.units() == documents(4))


@pytest.mark.parametrize("name", ["fb7_syslog_keepalive.conn0.raw", "fb7_tricky_c0.conn0.raw.gz"])
def test_bytes_that_a_real_filebeat_sent(kafka: str, names: TopicNames, raw: TopicReader, name: str) -> None:
    path = CORPUS / "lumberjack" / "captures" / name
    if not path.is_file():
        pytest.skip(f"no captured Filebeat bytes at {path}; WEIR_CORPUS names the corpus")
    stream = path.read_bytes()
    stream = gzip.decompress(stream) if name.endswith(".gz") else stream
    meta = json.loads((path.parent / (name.partition(".raw")[0] + ".meta.json")).read_text())
    with running(settings_for(kafka, names.prefix), SERVICE, build) as run, Client(run.receiver.port) as client:
        client.send(stream)
        for expected in (frame[1] for frame in meta["frames"] if frame[0] == "A"):
            client.acknowledges(expected)
        eventually(lambda: len(raw.units()) == meta["n_events"])
        assert all(isinstance(json.loads(unit), dict) for unit in raw.units())
