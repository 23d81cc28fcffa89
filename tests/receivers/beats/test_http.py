"""HTTP(S) by curl and by hand: what is answered with 200 is in Kafka, and everything else is refused with its reason."""

from __future__ import annotations

import contextlib
import gzip
import json
import random
import socket
import subprocess
import threading
import time
import zlib
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from shutil import which
from typing import Any

import pytest

from tests.receivers.beats.test_beats import frozen_broker
from tests.receivers.beats.test_lumberjack import RAW, Kafka, receiving
from tests.receivers.fakes import FakeProducer
from tests.receivers.harness import Running, make_topics, reading, running
from tests.support import eventually
from weir.local.standins.certificates import ensure_certificates
from weir.model.topics import TopicNames
from weir.ops.settings import SettingsError
from weir.receivers.beats.receiver import SERVICE, BeatsReceiver, BeatsSettings, build

needs_curl = pytest.mark.skipif(which("curl") is None, reason="curl is not installed")


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def values(self) -> dict[str, Any]:
        values: dict[str, Any] = json.loads(self.body)
        return values


class Client:
    """One HTTP connection, byte by byte."""

    def __init__(self, port: int) -> None:
        self.sock = socket.create_connection(("127.0.0.1", port), timeout=20)
        self._file = self.sock.makefile("rb")

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self.sock.close()

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def post(self, body: bytes, *headers: str, method: str = "POST", path: str = "/") -> Answer:
        """Send one request with its length, and read the answer."""
        lines = [f"{method} {path} HTTP/1.1", "Host: localhost", f"Content-Length: {len(body)}", *headers]
        self.send("\r\n".join([*lines, "", ""]).encode() + body)
        return self.answer()

    def answer(self) -> Answer:
        """The next answer."""
        first = self._file.readline().split()
        assert first[:1] in ([b"HTTP/1.1"], [b"HTTP/1.0"]), f"closed instead of answered: {first}"
        headers: dict[str, str] = {}
        while line := self._file.readline().strip().decode():
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        body = self._file.read(int(headers.get("content-length", 0)))
        return Answer(int(first[1]), headers, body)

    def closed(self) -> bool:
        """Wait until the receiver has closed."""
        try:
            while self._file.read(4096):
                pass
        except ConnectionError:
            pass
        return True


def post(run: Running, body: bytes, *headers: str, **options: Any) -> Answer:
    """One request on a connection of its own."""
    with Client(run.receiver.http_port) as client:
        return client.post(body, *headers, **options)


@pytest.fixture
def kafka_fake() -> FakeProducer:
    return FakeProducer(prompt=True)


@pytest.fixture
def run(kafka_fake: FakeProducer) -> Iterator[Running]:
    with receiving(kafka_fake, http_port=0, beats_port=-1) as run:
        yield run


def units(fake: FakeProducer) -> list[bytes]:
    return [unit for batch in fake.batches(RAW) for unit in batch.units]


ODD = b'{ "b" : 1.0,\t"a":"\\u00e9]","b":[{}] , "n":12345678901234567890 }'


class TestBodies:
    @pytest.mark.parametrize(
        ("body", "headers", "expected"),
        [
            pytest.param(ODD, (), [ODD], id="an object without a type"),
            pytest.param(b"\n" + ODD + b"\n", ("Content-Type: application/json; charset=UTF-8",), [ODD], id="an object"),
            pytest.param(b"[" + ODD + b",{} ]", ("Content-Type: application/json",), [ODD, b"{}"], id="an array"),
            pytest.param(ODD + b"\n{}\n", ("Content-Type: application/x-ndjson",), [ODD, b"{}"], id="lines"),
            pytest.param(ODD + b"\n{}\n", ("Content-Type: application/json",), [ODD, b"{}"], id="lines without saying so"),
            pytest.param(ODD, ("Content-Type: application/cloudevents+json",), [ODD], id="a kind of JSON"),
            pytest.param(gzip.compress(ODD), ("Content-Encoding: gzip",), [ODD], id="gzip"),
            pytest.param(gzip.compress(b"[") + gzip.compress(b"{}]"), ("Content-Encoding: x-gzip",), [b"{}"], id="gzip members"),
            pytest.param(zlib.compress(ODD), ("Content-Encoding: deflate",), [ODD], id="deflate"),
            pytest.param(b"[]", (), [], id="nothing"),
        ],
    )
    def test_units_are_the_bytes_that_were_sent(
        self, run: Running, kafka_fake: FakeProducer, body: bytes, headers: tuple[str, ...], expected: list[bytes]
    ) -> None:
        answer = post(run, body, *headers)
        assert (answer.status, answer.values) == (200, {"accepted": len(expected)})
        assert answer.headers["content-type"] == "application/json"
        assert units(kafka_fake) == expected
        for batch in kafka_fake.batches(RAW):
            assert (batch.transport, batch.source_ip, batch.listener_port) == ("http", "127.0.0.1", run.receiver.http_port)

    def test_a_large_body_becomes_several_batches_in_its_order(self, run: Running, kafka_fake: FakeProducer) -> None:
        sent = [b'{"n":%d,"x":"%s"}' % (n, b"y" * 2_000) for n in range(3_000)]
        assert post(run, b"[" + b",".join(sent) + b"]").values == {"accepted": 3_000}
        assert units(kafka_fake) == sent
        assert max(len(batch.units) for batch in kafka_fake.batches(RAW)) <= 500

    @pytest.mark.parametrize("method", ["POST", "PUT"])
    @pytest.mark.parametrize("path", ["/", "/v1/events", "/raw.syslog", "/a/b?c=d"])
    def test_any_path_by_post_and_put(self, run: Running, kafka_fake: FakeProducer, method: str, path: str) -> None:
        """The path chooses no topic."""
        assert post(run, b"{}", method=method, path=path).status == 200
        assert [topic for topic, _, _ in kafka_fake.taken if topic != "weir.ledger.v1"] == [RAW]

    def test_a_connection_is_kept_and_requests_may_be_pipelined(self, run: Running) -> None:
        with Client(run.receiver.http_port) as client:
            assert client.post(b"{}").status == 200
            client.send(b"".join(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}" for _ in range(50)))
            assert [client.answer().status for _ in range(50)] == [200] * 50

    def test_chunks_may_be_cut_anywhere(self, run: Running, kafka_fake: FakeProducer) -> None:
        body = b"[" + ODD + b"," + ODD + b"]"
        with Client(run.receiver.http_port) as client:
            client.send(b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
            for n in range(0, len(body), 7):
                client.send(b"%x\r\n%s\r\n" % (len(body[n : n + 7]), body[n : n + 7]))
            client.send(b"0\r\n\r\n")
            assert client.answer().values == {"accepted": 2}
        assert units(kafka_fake) == [ODD, ODD]

    def test_help_is_given_and_nothing_else(self, run: Running) -> None:
        answer = post(run, b"", method="GET")
        assert (answer.status, b"POST or PUT" in answer.body) == (200, True)
        answer = post(run, b"", method="DELETE")
        assert (answer.status, answer.headers["allow"]) == (405, "POST, PUT")


class TestRefusals:
    @pytest.mark.parametrize(
        ("body", "headers", "status", "values"),
        [
            pytest.param(b'[{},{"a":1},{"a":}]', (), 400, {"index": 2, "offset": 12}, id="not JSON"),
            pytest.param(b'[{},"text"]', (), 400, {"index": 1, "offset": 4}, id="not an object"),
            pytest.param(b'{}\n{"a":\n', ("Content-Type: application/x-ndjson",), 400, {"index": 1, "offset": 3}, id="a line"),
            pytest.param(b"[{}", (), 400, {"index": 0, "offset": 3}, id="cut short"),
            pytest.param(b"", (), 400, {}, id="empty"),
            pytest.param(b"\n", ("Content-Type: application/x-ndjson",), 400, {}, id="an empty line"),
            pytest.param(b"{}", ("Content-Encoding: gzip",), 400, {}, id="not gzip"),
            pytest.param(gzip.compress(b"{}")[:-1], ("Content-Encoding: gzip",), 400, {}, id="gzip cut short"),
            pytest.param(b"{}", ("Content-Encoding: br",), 415, {}, id="another coding"),
            pytest.param(b"{}", ("Content-Type: text/plain",), 415, {}, id="another type"),
            pytest.param(b"{}", ("Content-Type: application/x-www-form-urlencoded",), 415, {}, id="curl's own type"),
            pytest.param(b"{}", ("Content-Type: application/json; charset=latin1",), 415, {}, id="another charset"),
            pytest.param(b'{"a":"' + b"x" * 2_000 + b'"}', (), 413, {"index": 0, "offset": 0}, id="a long element"),
            pytest.param(b" " * 10_001, (), 413, {}, id="a long body"),
            pytest.param(gzip.compress(bytes(1_000_000)), ("Content-Encoding: gzip",), 413, {}, id="a bomb"),
            pytest.param(b"{}" * 101, (), 413, {}, id="too many"),
        ],
    )
    def test_nothing_is_published_and_the_reason_is_given(
        self, body: bytes, headers: tuple[str, ...], status: int, values: dict[str, int]
    ) -> None:
        fake = FakeProducer(prompt=True)
        options = {
            "http_max_element_bytes": 1_024,
            "http_max_body_bytes": 10_000,
            "http_max_inflated_bytes": 20_000,
            "http_max_elements": 100,
        }
        with receiving(fake, http_port=0, beats_port=-1, **options) as run:
            answer = post(run, body, *headers)
            assert answer.status == status, answer
            given = answer.values
            assert given.pop("error")
            assert given == values
            assert post(run, b"{}").status == 200
        assert units(fake) == [b"{}"]

    def test_a_chunked_body_is_refused_as_soon_as_it_is_too_long(self) -> None:
        with (
            receiving(FakeProducer(prompt=True), http_port=0, beats_port=-1, http_max_body_bytes=10_000) as run,
            Client(run.receiver.http_port) as client,
        ):
            client.send(b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
            client.send(b"4000\r\n" + bytes(0x4000) + b"\r\n")
            answer = client.answer()
            assert (answer.status, answer.headers["connection"]) == (413, "close")

    def test_what_is_no_http_is_answered_and_told_of_once(self, run: Running, capsys: pytest.CaptureFixture[str]) -> None:
        for _ in range(20):
            with Client(run.receiver.http_port) as client:
                client.send(b"2W\x00\x00\x00\x01\r\n\r\n")
                assert client.answer().status == 400
        out = capsys.readouterr().out
        assert out.count("not HTTP") == 1
        assert "Traceback" not in out

    def test_a_source_that_the_catalogue_refuses_gets_403(self, run: Running, kafka_fake: FakeProducer) -> None:
        receiver: BeatsReceiver = run.receiver
        receiver.publisher.sources.of = lambda *_: None  # type: ignore[method-assign]
        assert post(run, b"{}").status == 403
        assert units(kafka_fake) == []


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_garbage_breaks_its_own_connection_only(seed: int, capsys: pytest.CaptureFixture[str]) -> None:
    """Requests with bytes changed, left out and put in: answered or closed, nothing is kept of them, and others are served."""
    chance = random.Random(seed)
    body = gzip.compress(b'[{"a":1},{"b":[2]}]')
    plain = b"POST /x HTTP/1.1\r\nHost: x\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    chunked = b"PUT / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunked += b'4\r\n{"a"\r\n3\r\n:1}\r\n0\r\n\r\n'
    fake = FakeProducer(prompt=True)
    with receiving(fake, http_port=0, beats_port=-1, http_idle_seconds=0.3, http_body_seconds=0.2) as run:

        def session(stream: bytes) -> bool:
            with Client(run.receiver.http_port) as client, contextlib.suppress(OSError):
                client.send(stream)
                return client.closed()
            return True

        with ThreadPoolExecutor(50) as pool:
            streams = []
            for _ in range(100):
                stream = bytearray(chance.choice([plain, chunked]) * 2)
                for _ in range(chance.randint(1, 6)):
                    place = chance.randrange(len(stream))
                    stream[place : place + chance.choice([0, 1, 1, 4])] = chance.randbytes(chance.choice([0, 1, 1, 4]))
                streams.append(bytes(stream))
            assert all(pool.map(session, streams))
        assert fake.taken  # some were still whole
        assert post(run, b"{}").status == 200
        eventually(lambda: run.receiver.publisher.memory.used < 64_000)
        assert run.receiver._http._bodies.used == 0
    out = capsys.readouterr().out
    assert "Traceback" not in out
    assert "HTTP 500" not in out


class TestToken:
    def test_without_it_nothing_is_taken(self, tmp_path: Path) -> None:
        file = tmp_path / "tokens"
        file.write_text("first\nsecond\n")
        fake = FakeProducer(prompt=True)
        with receiving(fake, http_port=0, beats_port=-1, http_token="third", http_token_file=file) as run:
            for header in ((), ("Authorization: Bearer wrong",), ("Authorization: Basic first",), ("Authorization: Bearer",)):
                answer = post(run, b"{}", *header)
                assert (answer.status, answer.headers["www-authenticate"]) == (401, "Bearer")
            for token in ("first", "second", "third"):
                assert post(run, b"{}", f"Authorization: Bearer {token}").status == 200
            assert post(run, b"", method="GET").status == 200
        assert len(units(fake)) == 3

    def test_a_file_without_any_is_a_mistake_and_no_open_door(self, tmp_path: Path) -> None:
        file = tmp_path / "tokens"
        file.write_text("\n")
        with (
            pytest.raises(SettingsError, match="holds no token"),
            receiving(FakeProducer(prompt=True), http_port=0, beats_port=-1, http_token_file=file),
        ):
            pass


class TestLimits:
    def test_slow_clients_are_not_waited_for(self) -> None:
        options = {"http_idle_seconds": 0.4, "http_body_seconds": 0.4}
        with receiving(FakeProducer(prompt=True), http_port=0, beats_port=-1, **options) as run:
            port = run.receiver.http_port
            with Client(port) as silent, Client(port) as header, Client(port) as body, Client(port) as idle:
                assert idle.post(b"{}").status == 200
                header.send(b"POST / HTTP/1.1\r\nHost:")
                body.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n{")
                assert body.answer().status == 408
                assert silent.closed()
                assert header.closed()
                assert body.closed()
                assert idle.closed()

    def test_connections_of_one_source_are_answered_429_and_those_beyond_all_are_closed(self) -> None:
        options = {"http_max_connections": 3, "http_max_connections_per_source": 2}
        with receiving(FakeProducer(prompt=True), http_port=0, beats_port=-1, **options) as run:
            port = run.receiver.http_port
            with Client(port) as first, Client(port) as second:
                assert [first.post(b"{}").status, second.post(b"{}").status] == [200, 200]
                with Client(port) as third, Client(port) as fourth:
                    answer = third.post(b"{}")
                    assert (answer.status, answer.headers["retry-after"]) == (429, "5")
                    assert third.closed()
                    assert fourth.closed()
            eventually(lambda: _status(run) == 200)

    def test_requests_of_one_source_have_a_rate(self) -> None:
        with (
            receiving(FakeProducer(prompt=True), http_port=0, beats_port=-1, http_requests_per_second=0.5) as run,
            Client(run.receiver.http_port) as client,
        ):
            answers = [client.post(b"{}") for _ in range(8)]
            assert [answer.status for answer in answers] == [200] * 5 + [429] * 3
            assert answers[-1].headers["retry-after"] == "1"

    def test_bodies_under_way_have_a_ceiling_together(self) -> None:
        """Many half bodies at once: no more than the ceiling and one body is held, and who sends on is served in the end."""
        fake = FakeProducer(prompt=True)
        element = b'{"x":"' + b"y" * 700_000 + b'"}'
        with receiving(fake, http_port=0, beats_port=-1, http_body_memory_bytes=1024 * 1024) as run:
            clients = [Client(run.receiver.http_port) for _ in range(20)]
            bodies = run.receiver._http._bodies
            for client in clients:
                client.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(element) + element[:300_000])
            eventually(lambda: bodies.used >= 1024 * 1024)
            largest = 0
            with ThreadPoolExecutor(20) as pool:
                waiting = [pool.submit(_finish, client, element[300_000:]) for client in clients]
                while not all(future.done() for future in waiting):
                    largest = max(largest, bodies.used)
                    time.sleep(0.001)
            assert [future.result() for future in waiting] == [200] * 20
            assert largest < 1024 * 1024 + 2 * len(element) + 20 * 300_000
            assert bodies.used == 0


def _finish(client: Client, rest: bytes) -> int:
    with client:
        client.send(rest)
        return client.answer().status


def _status(run: Running) -> int:
    try:
        return post(run, b"{}").status
    except (OSError, AssertionError):
        return 0


class TestKafkaAway:
    def test_200_comes_only_after_kafka_has_acknowledged_every_batch(self) -> None:
        kafka = Kafka()
        body = b"[" + b",".join([b"{}"] * 25) + b"]"
        with (
            receiving(kafka, http_port=0, beats_port=-1, receiver_batch_units=10) as run,
            ThreadPoolExecutor(1) as pool,
        ):
            answer = pool.submit(post, run, body)
            eventually(lambda: len(kafka.raw()) == 3)
            for _ in range(2):
                kafka.acknowledge(1)
                assert _still_waiting(answer)
            kafka.acknowledge(0)
            assert answer.result(20).values == {"accepted": 25}

    def test_503_in_time_and_no_copies_while_the_first_are_left_over(self) -> None:
        kafka = Kafka()
        with receiving(kafka, http_port=0, beats_port=-1, http_ack_seconds=0.3) as run:
            answer = post(run, b'{"n":1}')
            assert (answer.status, answer.headers["retry-after"]) == (503, "5")
            assert "may still arrive" in answer.values["error"]
            for _ in range(100):
                assert post(run, b'{"n":1}').status == 503
            assert len(kafka.raw()) == 1
            kafka.acknowledge(0)
            kafka.prompt = True
            eventually(lambda: post(run, b'{"n":1}').status == 200)
        assert units(kafka) == [b'{"n":1}'] * 2

    def test_503_while_memory_is_full(self) -> None:
        kafka = Kafka()
        element = b'{"x":"' + b"y" * 700_000 + b'"}'
        options = {"receiver_memory_bytes": 2 * 1024 * 1024, "http_ack_seconds": 5.0}
        with receiving(kafka, http_port=0, beats_port=-1, **options) as run, ThreadPoolExecutor(4) as pool:
            receiver: BeatsReceiver = run.receiver
            waiting = [pool.submit(post, run, element) for _ in range(3)]
            eventually(lambda: receiver.publisher.memory.shut)
            for _ in range(20):
                answer = post(run, element)
                assert (answer.status, answer.headers["retry-after"]) == (503, "1")
            assert receiver.publisher.memory.used < 3 * 1024 * 1024
            kafka.answer()
            assert [future.result(20).status for future in waiting] == [200] * 3

    def test_a_body_beyond_memory_goes_batch_by_batch(self) -> None:
        """No more of it than memory holds is handed on at once, as Kafka takes it."""
        kafka = Kafka()
        sent = [b'{"n":%d,"x":"%s"}' % (n, b"y" * 100_000) for n in range(100)]
        options = {"receiver_memory_bytes": 2 * 1024 * 1024}
        with receiving(kafka, http_port=0, beats_port=-1, **options) as run, ThreadPoolExecutor(1) as pool:
            receiver: BeatsReceiver = run.receiver
            answer = pool.submit(post, run, b"\n".join(sent))
            largest = 0
            while not answer.done():
                largest = max(largest, receiver.publisher.memory.used)
                if kafka.raw():
                    kafka.acknowledge(0)
            assert answer.result().status == 200
            assert largest < 3.5 * 1024 * 1024
        assert units(kafka) == sent

    def test_a_stop_lets_requests_finish_and_turns_new_ones_away(self) -> None:
        kafka = Kafka()
        with (
            receiving(kafka, http_port=0, beats_port=-1, receiver_stop_seconds=10.0) as run,
            Client(run.receiver.http_port) as waiting,
            Client(run.receiver.http_port) as late,
            ThreadPoolExecutor(1) as pool,
        ):
            assert late.post(b"", method="GET").status == 200
            waiting.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}")
            eventually(kafka.raw)
            port = run.receiver.http_port
            stopped = pool.submit(run.stop)
            eventually(lambda: not _connects(port))
            answer = late.post(b"{}")
            assert (answer.status, answer.headers["connection"]) == (503, "close")
            assert late.closed()
            kafka.prompt = True
            kafka.answer()
            assert waiting.answer().status == 200
            assert stopped.result(20) == 0
        assert units(kafka) == [b"{}"]


def _still_waiting(answer: Future[Answer]) -> bool:
    try:
        answer.result(0.2)
    except TimeoutError:
        return True
    return False


def _connects(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def curl(*arguments: str, data: bytes | None = None) -> tuple[int, bytes]:
    """Status and body, or -1 and what curl says."""
    command = ["curl", "--silent", "--show-error", "--max-time", "20", "--write-out", "\n%{http_code}", *arguments]
    done = subprocess.run(command, input=data, capture_output=True, check=False, timeout=60)
    if done.returncode:
        return -1, done.stderr
    body, _, status = done.stdout.rpartition(b"\n")
    return int(status), body


@needs_curl
class TestCurl:
    def test_plain_chunked_compressed_and_with_expect(self, run: Running, kafka_fake: FakeProducer, tmp_path: Path) -> None:
        url = f"http://127.0.0.1:{run.receiver.http_port}/v1/events"
        json_type = ("-H", "Content-Type: application/json")
        large = b"[" + b",".join([b'{"x":"' + b"y" * 1_000 + b'"}'] * 2_000) + b"]"
        file = tmp_path / "body.json.gz"
        file.write_bytes(gzip.compress(large))
        assert curl("--json", '{"a":1}', url) == (200, b'{"accepted":1}\n')
        assert curl(*json_type, "-H", "Transfer-Encoding: chunked", "--data-binary", "@-", url, data=large) == (
            200,
            b'{"accepted":2000}\n',
        )
        assert curl(*json_type, "-H", "Expect: 100-continue", "--data-binary", "@-", url, data=large)[0] == 200
        assert curl(*json_type, "-H", "Content-Encoding: gzip", "--data-binary", f"@{file}", url)[0] == 200
        assert curl("-T", "-", *json_type, url, data=b'{"put":1}')[0] == 200
        assert curl("-H", "Content-Type: application/x-ndjson", "--data-binary", "@-", url, data=b"{}\n{}\n")[0] == 200
        assert curl("-d", "{}", url)[0] == 415
        assert len(units(kafka_fake)) == 1 + 3 * 2_000 + 1 + 2

    def test_what_is_too_large_is_refused_before_it_is_sent(self) -> None:
        with receiving(FakeProducer(prompt=True), http_port=0, beats_port=-1, http_max_body_bytes=10_000) as run:
            url = f"http://127.0.0.1:{run.receiver.http_port}/"
            options = ("-H", "Expect: 100-continue", "-H", "Content-Type: application/json")
            status, body = curl(*options, "--data-binary", "@-", url, data=bytes(3_000_000))
            assert status == 413
            assert b"WEIR_HTTP_MAX_BODY_BYTES" in body

    @pytest.mark.parametrize("clients", ["none", "optional", "required"])
    def test_https_with_and_without_a_client_certificate(
        self, tmp_path_factory: pytest.TempPathFactory, capsys: pytest.CaptureFixture[str], clients: str
    ) -> None:
        files = ensure_certificates(tmp_path_factory.getbasetemp() / "certificates")
        fake = FakeProducer(prompt=True)
        options = {
            "tls_certificate_file": files.server,
            "tls_key_file": files.server_key,
            "tls_client_ca_file": files.ca,
            "tls_client_certificates": clients,
        }
        with receiving(fake, http_port=0, beats_port=-1, **options) as run:
            port = run.receiver.http_port
            trusting = ("--cacert", str(files.ca), "--json", "{}", f"https://localhost:{port}/")
            shown = ("--cert", str(files.client), "--key", str(files.client_key))
            assert curl(*trusting, *shown)[0] == 200
            assert (curl(*trusting)[0] == 200) == (clients != "required")
            assert curl("--json", "{}", f"https://localhost:{port}/")[0] == -1  # does not trust us
            status, body = curl("--json", "{}", f"http://127.0.0.1:{port}/")
            assert (status, body) == (400, b'{"error":"this port speaks HTTPS"}\n')
        subject = fake.batches(RAW)[0].tls_subject
        assert (subject or "").endswith("=weir") == (clients != "none")
        out = capsys.readouterr().out
        assert "does not trust the authority" in out
        assert "send to https://" in out

    def test_behind_a_balancer_the_source_is_whom_it_names(self) -> None:
        fake = FakeProducer(prompt=True)
        options = {"http_proxy_protocol": "required", "http_proxy_from": "127.0.0.0/8"}
        with receiving(fake, http_port=0, beats_port=-1, **options) as run:
            url = f"http://127.0.0.1:{run.receiver.http_port}/"
            assert curl("--haproxy-protocol", "--json", "{}", url)[0] == 200
            assert curl("--json", "{}", url)[0] == -1
            with Client(run.receiver.http_port) as client:
                client.send(b"PROXY TCP6 2001:db8::7 2001:db8::1 40000 8088\r\n")
                assert client.post(b"{}").status == 200
        assert [batch.source_ip for batch in fake.batches(RAW)] == ["127.0.0.1", "2001:db8::7"]

    def test_https_to_a_plain_port_is_told_of(self, run: Running, capsys: pytest.CaptureFixture[str]) -> None:
        assert curl("--insecure", f"https://127.0.0.1:{run.receiver.http_port}/")[0] == -1
        assert "TLS on a plain port" in capsys.readouterr().out


@pytest.mark.kafka
class TestRealKafka:
    @pytest.fixture
    def names(self, kafka: str, topic_prefix: str) -> TopicNames:
        return make_topics(kafka, topic_prefix, "raw.beats")

    def test_everything_answered_with_200_is_there_after_kafka_was_away(self, kafka: str, names: TopicNames) -> None:
        settings = BeatsSettings(
            kafka_bootstrap_servers=kafka,
            topic_prefix=names.prefix,
            http_host="127.0.0.1",
            http_port=0,
            beats_port=-1,
            instance="tester",
            http_ack_seconds=0.5,
            receiver_memory_bytes=4 * 1024 * 1024,
        )
        accepted: list[bytes] = []
        statuses: list[int] = []
        slowest = 0.0
        largest = 0
        lock = threading.Lock()
        enough = threading.Event()

        with reading(kafka, names["raw.beats"]) as raw, running(settings, SERVICE, build) as run:
            receiver: BeatsReceiver = run.receiver

            def sender(number: int) -> None:
                nonlocal slowest, largest
                n = 0
                with Client(receiver.http_port) as client:
                    while not enough.is_set():
                        body = [b'{"from":%d,"n":%d,"x":"%s"}' % (number, n + i, b"y" * 5_000) for i in range(20)]
                        began = time.monotonic()
                        status = client.post(b"\n".join(body)).status
                        with lock:
                            slowest = max(slowest, time.monotonic() - began)
                            largest = max(largest, receiver.publisher.memory.used)
                            statuses.append(status)
                            if status == 200:
                                accepted.extend(body)
                        n += 20 * (status == 200)
                        time.sleep(0.005)

            with ThreadPoolExecutor(8) as pool:
                senders = [pool.submit(sender, number) for number in range(8)]
                eventually(lambda: len(accepted) > 500)
                with frozen_broker(kafka):
                    eventually(lambda: statuses.count(503) > 100)
                before = len(accepted)
                eventually(lambda: len(accepted) > before + 500, timeout=30)
                enough.set()
                for future in senders:
                    future.result(20)
            assert set(statuses) == {200, 503}
            assert slowest < 5.0
            assert largest < 6 * 1024 * 1024
            wanted = set(accepted)
            eventually(lambda: wanted <= set(raw.units()), timeout=30)
