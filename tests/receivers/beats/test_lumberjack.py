"""Lumberjack connections against a producer that acknowledges when the test says so: what is acknowledged, when, and to whom."""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import random
import socket
import ssl
import struct
import subprocess
import threading
import time
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from shutil import which
from typing import Any

import pytest

from tests.receivers.beats.test_beats import Client, documents
from tests.receivers.fakes import FakeProducer, _Message
from tests.receivers.harness import CORPUS, Running, running
from tests.support import eventually
from weir.bus.codec import Decoder
from weir.local.standins.certificates import CertificateFiles, ensure_certificates
from weir.protocols.lumberjack import encode_batch, encode_window, parse_ack
from weir.receivers.beats.receiver import SERVICE, BeatsReceiver, BeatsSettings
from weir.receivers.publishing.publisher import Publisher

RAW = "weir.raw.beats.v1"


class Kafka(FakeProducer):
    """Acknowledges raw batches one by one."""

    def raw(self) -> list[Any]:
        return [entry for entry in self.waiting if entry[0] == RAW]

    def acknowledge(self, which_one: int) -> None:
        """The batch at this place among those that wait."""
        entry = self.raw()[which_one]
        self.waiting.remove(entry)
        topic, key, value, delivery = entry
        self.taken.append((topic, key, value))
        delivery.on_delivery(None, _Message(topic))

    def units(self) -> list[bytes]:
        return [unit for batch in self.batches(RAW) for unit in batch.units]


@contextmanager
def receiving(fake: FakeProducer, **values: Any) -> Iterator[Running]:
    options = {
        "beats_host": "127.0.0.1",
        "beats_port": 0,
        "http_host": "127.0.0.1",
        "http_port": -1,
        "instance": "tester",
        "receiver_linger_ms": 10_000,
        "receiver_stop_seconds": 0.2,
        "beats_keepalive_seconds": 60.0,
        **values,
    }
    settings = BeatsSettings(kafka_bootstrap_servers="localhost:1", **options)

    def build(settings: BeatsSettings) -> BeatsReceiver:
        return BeatsReceiver(settings, Publisher(settings, service=SERVICE, topic="raw.beats", make_producer=lambda: fake))

    with running(settings, SERVICE, build) as run:
        yield run


def quiet(client: Client) -> bool:
    """Nothing comes within a moment."""
    client.sock.settimeout(0.2)
    try:
        data = client.sock.recv(100)
    except TimeoutError:
        return True
    finally:
        client.sock.settimeout(20)
    raise AssertionError(f"{data!r} came")


class TestParts:
    def test_what_kafka_has_without_a_gap_is_acknowledged_before_the_window_is_whole(self) -> None:
        kafka = Kafka()
        with receiving(kafka, receiver_batch_units=10) as run, Client(run.receiver.port) as client:
            client.send(encode_batch(documents(35)))
            eventually(lambda: len(kafka.raw()) == 4)
            kafka.acknowledge(1)  # 11 to 20: of no use without the first ten
            assert quiet(client)
            kafka.acknowledge(0)
            assert client.ack() == 20
            kafka.acknowledge(1)  # the last five
            assert quiet(client)
            kafka.acknowledge(0)
            assert client.ack() == 35
            assert quiet(client)

    def test_a_window_still_coming_in_is_acknowledged_as_far_as_kafka_has_it(self) -> None:
        kafka = Kafka()
        with receiving(kafka, receiver_batch_units=10) as run, Client(run.receiver.port) as client:
            stream = encode_batch(documents(25), compress_level=0)
            client.send(stream[:-20])
            eventually(lambda: len(kafka.raw()) == 2)
            kafka.acknowledge(0)
            assert client.ack() == 10
            client.send(stream[-20:])
            eventually(lambda: len(kafka.raw()) == 2)
            kafka.acknowledge(0)
            kafka.acknowledge(0)
            client.acknowledges(25)

    def test_a_later_window_waits_for_the_one_before_it(self) -> None:
        kafka = Kafka()
        with receiving(kafka) as run, Client(run.receiver.port) as client:
            client.send(encode_batch(documents(3)) + encode_batch(documents(4)))
            eventually(lambda: len(kafka.raw()) == 2)
            kafka.acknowledge(1)
            assert quiet(client)
            kafka.acknowledge(0)
            assert [client.ack(), client.ack()] == [3, 4]

    def test_sequences_may_begin_anywhere(self) -> None:
        kafka = Kafka()
        with receiving(kafka, receiver_batch_units=10) as run, Client(run.receiver.port) as client:
            client.send(encode_batch(documents(15), first_sequence=5_001))
            eventually(lambda: len(kafka.raw()) == 2)
            kafka.acknowledge(0)
            assert client.ack() == 5_010
            kafka.acknowledge(0)
            assert client.ack() == 5_015

    @pytest.mark.parametrize(
        ("sequences", "last"),
        [
            pytest.param([(2**32 - 5 + n) % 2**32 for n in range(15)], 9, id="wrapped"),
            pytest.param([7] * 15, 7, id="all the same"),
            pytest.param([*range(14, 0, -1), 20], 20, id="backwards"),
        ],
    )
    def test_sequences_that_do_not_count_up_get_no_part(self, sequences: list[int], last: int) -> None:
        """A number in the middle could be taken for the last one."""
        kafka = Kafka()
        with receiving(kafka, receiver_batch_units=10) as run, Client(run.receiver.port) as client:
            frames = b"".join(b"2J" + struct.pack(">II", sequence, 2) + b"{}" for sequence in sequences)
            client.send(encode_window(len(sequences)) + frames)
            eventually(lambda: len(kafka.raw()) == 2)
            kafka.acknowledge(0)
            assert quiet(client)
            kafka.acknowledge(0)
            assert client.ack() == last

    def test_version_1_gets_one_acknowledgement_and_no_sign_of_life(self) -> None:
        """logstash-forwarder takes whatever comes first for the acknowledgement of all it sent."""
        kafka = Kafka()
        pair = struct.pack(">I", 4) + b"line" + struct.pack(">I", 1) + b"x"
        # It numbers on from window to window, and compresses.
        frames = zlib.compress(b"".join(b"1D" + struct.pack(">II", 101 + n, 1) + pair for n in range(15)))
        stream = encode_window(15, 1) + b"1C" + struct.pack(">I", len(frames)) + frames
        with (
            receiving(kafka, receiver_batch_units=10, beats_keepalive_seconds=0.05) as run,
            Client(run.receiver.port) as client,
        ):
            client.send(stream)
            eventually(lambda: len(kafka.raw()) == 2)
            kafka.acknowledge(0)
            assert quiet(client)
            kafka.acknowledge(0)
            assert client.sock.recv(100) == b"1A" + struct.pack(">I", 115)
        assert kafka.units() == [b'{"line":"x"}'] * 15

    def test_an_empty_window_gets_a_sign_of_life(self) -> None:
        with receiving(Kafka()) as run, Client(run.receiver.port) as client:
            client.send(encode_window(0))
            assert client.ack() == 0


class TestMemory:
    def test_a_frame_that_inflates_beyond_the_budget_is_taken_in_parts_as_kafka_takes_them(self) -> None:
        """Also in the middle of a compressed frame: one of 30 MB goes through a connection that may hold 2 MB."""
        kafka = Kafka()
        sent = [b'{"n":%d,"x":"%s"}' % (n, b"y" * 100_000) for n in range(300)]
        with (
            receiving(kafka, beats_connection_bytes=2 * 1024 * 1024, beats_keepalive_seconds=0.1) as run,
            Client(run.receiver.port) as client,
        ):
            receiver: BeatsReceiver = run.receiver
            client.send(encode_batch(sent, compress_level=9))
            eventually(kafka.raw)
            # While we do not read, the client is told that it is not forgotten, though its window has not come in.
            assert client.ack() == 0
            largest = 0
            while len(kafka.units()) < len(sent):
                eventually(kafka.raw)
                largest = max(largest, receiver.publisher.memory.used)
                kafka.acknowledge(0)
            assert largest < 4_500_000
            client.acknowledges(300)
        assert kafka.units() == sent

    def test_a_full_memory_stops_reading_in_the_middle_of_a_frame(self) -> None:
        kafka = Kafka()
        sent = [b'{"n":%d,"x":"%s"}' % (n, b"y" * 10_000) for n in range(1_000)]
        with receiving(kafka, receiver_memory_bytes=2 * 1024 * 1024) as run, Client(run.receiver.port) as client:
            receiver: BeatsReceiver = run.receiver
            client.send(encode_batch(sent))
            eventually(lambda: receiver.publisher.memory.shut)
            assert receiver.publisher.memory.used < 3 * 1024 * 1024
            eventually(lambda: kafka.answer() is None or len(kafka.units()) == len(sent))
            client.acknowledges(1_000)
        assert kafka.units() == sent

    def test_a_bomb_closes_the_connection_and_says_which_limit_it_passed(self, capsys: pytest.CaptureFixture[str]) -> None:
        frames = b"".join(b"2J" + struct.pack(">II", n, 100_000) + bytes(100_000) for n in range(1, 101))
        bomb = zlib.compress(frames, 9)
        with (
            receiving(FakeProducer(prompt=True), beats_max_inflated_bytes=1_000_000) as run,
            Client(run.receiver.port) as client,
        ):
            client.send(encode_window(100) + b"2C" + struct.pack(">I", len(bomb)) + bomb)
            assert client.closed()
        assert not client.acks
        assert "inflates to more than the limit of 1,000,000" in capsys.readouterr().out


class TestTls:
    @pytest.fixture
    def files(self, tmp_path_factory: pytest.TempPathFactory) -> CertificateFiles:
        return ensure_certificates(tmp_path_factory.getbasetemp() / "certificates")

    def options(self, files: CertificateFiles, clients: str = "none") -> dict[str, Any]:
        return {
            "tls_certificate_file": files.server,
            "tls_key_file": files.server_key,
            "tls_client_ca_file": files.ca,
            "tls_client_certificates": clients,
        }

    def secured(self, client: Client, context: ssl.SSLContext) -> Client:
        client.sock = context.wrap_socket(client.sock, server_hostname="localhost")
        return client

    def refused(self, client: Client, context: ssl.SSLContext) -> bool:
        """Whether the handshake fails, or the connection is closed right after it, as TLS 1.3 has it."""
        try:
            return self.secured(client, context).sock.recv(1) == b""
        except OSError:
            return True

    @pytest.mark.parametrize("clients", ["none", "optional", "required"])
    def test_documents_come_in_with_the_name_in_the_certificate(self, files: CertificateFiles, clients: str) -> None:
        fake = FakeProducer(prompt=True)
        context = files.client_context(client_certificate=clients == "required")
        with receiving(fake, **self.options(files, clients)) as run, Client(run.receiver.port) as client:
            self.secured(client, context).send(encode_batch(documents(700)))
            client.acknowledges(700)
        subject = fake.batches(RAW)[0].tls_subject
        assert (subject or "").endswith("=weir") == (clients == "required")

    def test_a_client_without_the_certificate_that_is_required_is_refused_and_told_of(
        self, files: CertificateFiles, capsys: pytest.CaptureFixture[str]
    ) -> None:
        with receiving(FakeProducer(prompt=True), **self.options(files, "required")) as run:
            with Client(run.receiver.port) as client:
                assert self.refused(client, files.client_context())
            with Client(run.receiver.port) as client:  # others are served on
                self.secured(client, files.client_context(client_certificate=True)).send(encode_batch(documents(1)))
                client.acknowledges(1)
        out = capsys.readouterr().out
        assert "TLS handshake failed" in out
        assert "WEIR_TLS_CLIENT_CERTIFICATES" in out

    def test_plain_text_on_a_tls_port_is_told_of_with_its_cure(
        self, files: CertificateFiles, capsys: pytest.CaptureFixture[str]
    ) -> None:
        with receiving(FakeProducer(prompt=True), **self.options(files)) as run, Client(run.receiver.port) as client:
            client.send(encode_batch(documents(1)))
            assert client.closed()
        out = capsys.readouterr().out
        assert "plain text on a TLS port" in out
        assert "ssl.enabled: true" in out

    def test_tls_on_a_plain_port_is_told_of_with_its_cure(
        self, files: CertificateFiles, capsys: pytest.CaptureFixture[str]
    ) -> None:
        options = self.options(files) | {"beats_tls": "off"}
        with receiving(FakeProducer(prompt=True), **options) as run, Client(run.receiver.port) as client:
            assert self.refused(client, files.client_context())
        out = capsys.readouterr().out
        assert "the client speaks TLS and this port does not" in out
        assert "WEIR_TLS_CERTIFICATE_FILE" in out

    def test_http_on_the_lumberjack_port_is_told_of(self, capsys: pytest.CaptureFixture[str]) -> None:
        with receiving(FakeProducer(prompt=True)) as run, Client(run.receiver.port) as client:
            client.send(b"POST / HTTP/1.1\r\n\r\n")
            assert client.closed()
        assert "WEIR_HTTP_PORT" in capsys.readouterr().out

    def test_a_handshake_that_does_not_get_on_is_given_up(
        self, files: CertificateFiles, capsys: pytest.CaptureFixture[str]
    ) -> None:
        options = self.options(files) | {"beats_handshake_seconds": 0.3}
        with (
            receiving(FakeProducer(prompt=True), **options) as run,
            Client(run.receiver.port) as silent,
            Client(run.receiver.port) as slow,
        ):
            slow.send(b"\x16\x03\x01\x02\x00")
            assert silent.closed()
            assert slow.closed()
        out = capsys.readouterr().out
        assert "silent at first" in out
        assert "TLS handshake failed" in out

    @pytest.mark.skipif(which("openssl") is None, reason="openssl is not installed")
    @pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
    def test_openssl_s_client(self, files: CertificateFiles, version: str) -> None:
        fake = FakeProducer(prompt=True)
        with receiving(fake, **self.options(files, "required")) as run:
            command = ["openssl", "s_client", "-connect", f"127.0.0.1:{run.receiver.port}", "-quiet", "-no_ign_eof", version]
            command += ["-CAfile", str(files.ca), "-cert", str(files.client), "-key", str(files.client_key), "-verify_return_error"]
            with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as openssl:
                assert openssl.stdin is not None
                assert openssl.stdout is not None
                openssl.stdin.write(encode_batch(documents(3)))
                openssl.stdin.flush()
                assert parse_ack(os.read(openssl.stdout.fileno(), 6)) == (3, b"")
                openssl.stdin.close()
        assert fake.batches(RAW)[0].units == documents(3)


class TestLimits:
    def test_connections_of_one_source_and_of_all_are_bounded(self) -> None:
        fake = FakeProducer(prompt=True)
        with receiving(fake, beats_max_connections=3, beats_max_connections_per_source=2) as run:
            port = run.receiver.port
            with Client(port) as first, Client(port) as second:
                for client in (first, second):
                    client.send(encode_batch(documents(1)))
                    client.acknowledges(1)
                with Client(port) as third:
                    assert third.closed()
                first.send(encode_batch(documents(1)))
                first.acknowledges(1)

            def welcome() -> bool:
                with Client(port) as another:
                    try:
                        another.send(encode_batch(documents(1)))
                        return another.acknowledges(1) == 1
                    except (OSError, AssertionError):
                        return False

            eventually(welcome)

    def test_a_thousand_connections_at_once_are_all_served(self) -> None:
        fake = FakeProducer(prompt=True)
        with receiving(fake) as run, contextlib.ExitStack() as all_of_them:
            clients = [all_of_them.enter_context(Client(run.receiver.port)) for _ in range(1_000)]
            window = documents(5)
            for half in (slice(0, 40), slice(40, None)):
                for client in clients:
                    client.send(encode_batch(window)[half])
            for client in clients:
                client.acknowledges(5)
        assert sum(len(batch.units) for batch in fake.batches(RAW)) == 5_000

    @pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
    @pytest.mark.parametrize(
        "header",
        [
            pytest.param(b"PROXY TCP4 192.0.2.7 198.51.100.1 40000 5044\r\n", id="version 1"),
            pytest.param(
                b"\r\n\r\n\0\r\nQUIT\n\x21\x11" + struct.pack(">H8B2H", 12, 192, 0, 2, 7, 198, 51, 100, 1, 40_000, 5_044),
                id="version 2",
            ),
        ],
    )
    def test_behind_a_balancer_the_source_is_whom_it_names(self, tmp_path: Path, header: bytes, tls: bool) -> None:
        """The header may come byte by byte; limits hold for the source and not for the balancer."""
        fake = FakeProducer(prompt=True)
        files = ensure_certificates(tmp_path)
        options: dict[str, Any] = {"beats_proxy_protocol": "required", "beats_proxy_from": "127.0.0.1/32, 10.0.0.0/8"}
        if tls:
            options |= {"tls_certificate_file": files.server, "tls_key_file": files.server_key}
        with receiving(fake, **options, beats_max_connections_per_source=1) as run:
            with Client(run.receiver.port) as client:
                client.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                for n in range(len(header)):
                    client.send(header[n : n + 1])
                if tls:
                    client.sock = files.client_context().wrap_socket(client.sock, server_hostname="localhost")
                client.send(encode_batch(documents(2)))
                client.acknowledges(2)
                with Client(run.receiver.port) as crowded:
                    crowded.send(header)
                    assert crowded.closed()
            with Client(run.receiver.port) as bare:
                bare.send(encode_batch(documents(2)))
                assert bare.closed()
        (batch,) = fake.batches(RAW)
        assert (batch.source_ip, batch.source_port, len(batch.units)) == ("192.0.2.7", 40_000, 2)

    def test_who_is_no_balancer_may_not_speak_for_others(self) -> None:
        fake = FakeProducer(prompt=True)
        options = {"beats_proxy_protocol": "optional", "beats_proxy_from": "192.0.2.0/24"}
        with receiving(fake, **options) as run, Client(run.receiver.port) as liar, Client(run.receiver.port) as client:
            liar.send(b"PROXY TCP4 192.0.2.7 198.51.100.1 40000 5044\r\n")
            assert liar.closed()
            client.send(encode_batch(documents(2)))
            client.acknowledges(2)
        assert {batch.source_ip for batch in fake.batches(RAW)} == {"127.0.0.1"}

    def test_a_source_that_the_catalogue_refuses_is_closed_and_nothing_of_it_is_taken(self) -> None:
        fake = FakeProducer(prompt=True)
        with receiving(fake) as run:
            receiver: BeatsReceiver = run.receiver
            with Client(receiver.port) as client:
                client.send(encode_batch(documents(1)))
                client.acknowledges(1)
                of = receiver.publisher.sources.of
                receiver.publisher.sources.of = lambda *_: None  # type: ignore[method-assign]
                client.send(encode_batch(documents(5)))
                assert client.closed()
                receiver.publisher.sources.of = of  # type: ignore[method-assign]
        # What was read before the catalogue was asked again may still count; the next read asks.
        assert len([unit for batch in fake.batches(RAW) for unit in batch.units]) in {1, 6}

    def test_the_port_can_be_turned_off(self) -> None:
        with receiving(FakeProducer(prompt=True), beats_port=-1) as run:
            assert run.receiver.port == -1


@pytest.mark.parametrize("name", ["fb7_syslog_keepalive.conn0.raw", "fb7_tricky_c0.conn0.raw.gz"])
@pytest.mark.parametrize("size", [977, 65_536])
def test_what_a_real_filebeat_sent_arrives_byte_by_byte_over_tls(tmp_path: Path, name: str, size: int) -> None:
    path = CORPUS / "lumberjack" / "captures" / name
    if not path.is_file():
        pytest.skip(f"no captured Filebeat bytes at {path}; WEIR_CORPUS names the corpus")
    stream = gzip.decompress(path.read_bytes()) if name.endswith(".gz") else path.read_bytes()
    meta = json.loads((path.parent / (name.partition(".raw")[0] + ".meta.json")).read_text())
    files = ensure_certificates(tmp_path)
    fake = FakeProducer(prompt=True)
    options = {"tls_certificate_file": files.server, "tls_key_file": files.server_key}
    with receiving(fake, **options) as run, socket.create_connection(("127.0.0.1", run.receiver.port), timeout=20) as plain:
        client = Client.__new__(Client)
        client.sock, client.acks, client._held = files.client_context().wrap_socket(plain, server_hostname="localhost"), [], b""
        for start in range(0, len(stream), size):
            client.send(stream[start : start + size])
        for expected in (frame[1] for frame in meta["frames"] if frame[0] == "A"):
            client.acknowledges(expected)
    assert sum(len(batch.units) for batch in fake.batches(RAW)) == meta["n_events"]


class Oracle(Kafka):
    """Acknowledges by itself, in any order, and knows at once what it has."""

    def __init__(self, chance: random.Random) -> None:
        super().__init__()
        self.there: set[bytes] = set()
        self._chance = chance
        self._decode = Decoder()

    def work(self, over: threading.Event) -> None:
        while not over.is_set():
            waiting = self.raw()
            if len(waiting) > self._chance.randint(0, 6):
                place = self._chance.randrange(len(waiting))
                self.there.update(self._decode(waiting[place][2])["units"])
                self.acknowledge(place)
            else:
                over.wait(0.001)


class Resuming:
    """Sends its documents as go-lumber's client does: after a break, on from the last acknowledgement that it saw."""

    def __init__(self, port: int, number: int, kafka: Oracle, chance: random.Random) -> None:
        self._port = port
        self._kafka = kafka
        self._chance = chance
        self._left = [b'{"from":%d,"n":%d}' % (number, n) for n in range(400)]
        self.sent = list(self._left)
        self.early: list[bytes] = []
        self.parts = 0

    def run(self, over: threading.Event) -> None:
        while self._left and not over.is_set():
            window = self._left[: self._chance.randint(1, 120)]
            held = 0
            with Client(self._port) as client, contextlib.suppress(OSError, AssertionError):
                client.sock.settimeout(5)
                client.send(encode_batch(window, compress_level=self._chance.choice([0, 3])))
                patience = self._chance.randint(1, 6)
                while held < len(window) and patience:
                    acknowledged = client.ack()
                    self.early += [document for document in window[:acknowledged] if document not in self._kafka.there]
                    self.parts += 0 < acknowledged < len(window)
                    held = max(held, acknowledged)
                    patience -= 1
            self._left = self._left[held:]


@pytest.mark.parametrize("seed", [1, 2])
def test_with_broken_connections_and_answers_in_any_order_nothing_acknowledged_is_missing(seed: int) -> None:
    """Also not for a moment: whatever number comes, the documents up to it are in Kafka by then."""
    kafka = Oracle(random.Random(seed))
    over = threading.Event()
    acknowledging = threading.Thread(target=kafka.work, args=(over,))
    options = {"receiver_batch_units": 20, "beats_keepalive_seconds": 0.05}
    with receiving(kafka, **options) as run, ThreadPoolExecutor(8) as pool:
        acknowledging.start()
        clients = [Resuming(run.receiver.port, n, kafka, random.Random(seed * 100 + n)) for n in range(8)]
        try:
            done = [pool.submit(client.run, over) for client in clients]
            for future in done:
                future.result(60)
        finally:
            over.set()
            acknowledging.join()
    assert [client.early for client in clients] == [[]] * 8
    assert sum(client.parts for client in clients) > 10
    assert all(document in kafka.there for client in clients for document in client.sent)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_garbage_breaks_its_own_connection_only(seed: int, capsys: pytest.CaptureFixture[str]) -> None:
    """Whole sessions with bytes changed, left out and put in: closed or acknowledged, and the next client is served."""
    chance = random.Random(seed)
    fake = FakeProducer(prompt=True)
    with receiving(fake, beats_max_inflated_bytes=100_000, beats_max_frame_bytes=100_000, beats_stalled_seconds=0.2) as run:
        for _ in range(60):
            stream = bytearray(b"".join(encode_batch(documents(5), compress_level=chance.choice([0, 3])) for _ in range(2)))
            for _ in range(chance.randint(1, 8)):
                place = chance.randrange(len(stream))
                stream[place : place + chance.choice([0, 1, 1, 4])] = chance.randbytes(chance.choice([0, 1, 1, 4]))
            with Client(run.receiver.port) as client, contextlib.suppress(OSError):
                client.send(bytes(stream))
                client.sock.shutdown(socket.SHUT_WR)
                assert client.closed()
        with Client(run.receiver.port) as client:
            client.send(encode_batch(documents(1)))
            client.acknowledges(1)
        eventually(lambda: run.receiver.publisher.memory.used < 64_000)
        assert run.receiver.frames.used == 0
    assert "Traceback" not in capsys.readouterr().out


class TestClientsThatHoldThingsUp:
    def test_a_frame_that_trickles_while_all_others_wait_is_given_up(self, capsys: pytest.CaptureFixture[str]) -> None:
        """A byte at a time is no silence, but frame memory is full of it."""
        kafka = Kafka(prompt=True)
        values = {"beats_frame_memory_bytes": 1024 * 1024, "beats_stalled_seconds": 1.0, "beats_max_frame_bytes": 4 * 1024 * 1024}
        data = b"2D" + struct.pack(">III", 1, 1, 3_000_000)
        with receiving(kafka, **values) as run, Client(run.receiver.port) as slow, Client(run.receiver.port) as other:
            slow.send(encode_window(1) + data + b"x" * 1_500_000)
            eventually(lambda: run.receiver.frames.used > 1024 * 1024)
            other.send(encode_batch(documents(3)))
            with pytest.raises((ConnectionError, BrokenPipeError)):  # noqa: PT012 - the receiver closes while this goes on
                slow.sock.settimeout(0.2)
                deadline = time.monotonic() + 15
                while time.monotonic() < deadline:
                    slow.send(b"x")
                    with contextlib.suppress(TimeoutError):
                        if not slow.sock.recv(10):
                            raise ConnectionResetError
                raise AssertionError("it went on")
            assert other.acknowledges(3) == 3
        assert "slow frame" in capsys.readouterr().out

    @pytest.mark.parametrize("version", [1, 2])
    def test_a_client_that_left_while_kafka_is_away_frees_its_place(self, version: int) -> None:
        kafka = Kafka()
        with receiving(kafka, beats_max_windows=1, beats_keepalive_seconds=0.05) as run:
            with Client(run.receiver.port) as client:
                if version == 2:
                    client.send(encode_batch(documents(3)))
                else:
                    client.send(encode_window(1, 1) + b"1D" + struct.pack(">III", 1, 1, 1) + b"a" + struct.pack(">I", 1) + b"b")
                eventually(kafka.raw)
            eventually(lambda: not run.receiver._connections)
            assert kafka.raw(), "Kafka has not answered yet"

    def test_a_data_frame_of_too_many_pairs_is_refused_at_once(self, capsys: pytest.CaptureFixture[str]) -> None:
        with receiving(Kafka(), beats_max_frame_bytes=64 * 1024 * 1024) as run, Client(run.receiver.port) as client:
            client.send(encode_window(1) + b"2D" + struct.pack(">II", 1, 65_537))
            assert client.closed()
        assert "65,537 pairs, the limit is 65,536" in capsys.readouterr().out
