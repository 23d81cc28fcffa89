"""Loads against small servers: counts right, stamps whole, rates kept, and what is not acknowledged never called so."""

from __future__ import annotations

import gzip
import json
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from tests.local.test_generate_senders import TcpServer, UdpServer
from tests.support import eventually
from weir import cli
from weir.local.generate import stamp
from weir.local.generate.load import Load, Schedule, SourceState, run_load, source_address
from weir.local.generate.stamp import Stamp
from weir.local.standins.certificates import CertificateFiles, ensure_certificates
from weir.protocols.framing import SyslogFramer
from weir.protocols.lumberjack import Document, LumberjackParser, Window, ack

LOOPBACK = "127.0.0.1"
RUN = 99


def load(port: int, kind: str = "syslog", transport: str = "udp", form: str = "5424", **values: Any) -> Load:
    return Load(kind=kind, host=LOOPBACK, port=port, transport=transport, form=form, run=RUN, **({"rate": 0.0} | values))


def numbers(units: list[bytes]) -> dict[int, list[int]]:
    """Sequence numbers by source, in order of arrival, each unit's first stamp."""
    found: dict[int, list[int]] = {}
    for unit in units:
        one = stamp.in_text(unit).stamps[0]
        found.setdefault(one.source, []).append(one.sequence)
    return found


@pytest.fixture
def udp() -> Iterator[UdpServer]:
    server = UdpServer()
    yield server
    server.close()


@pytest.fixture
def tcp() -> Iterator[Callable[..., TcpServer]]:
    servers: list[TcpServer] = []

    def start(behave: Callable[[socket.socket, int], None], port: int = 0) -> TcpServer:
        servers.append(TcpServer(behave, port))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> CertificateFiles:
    return ensure_certificates(tmp_path_factory.mktemp("certificates"))


class Frames:
    """Reads syslog of any framing, until the other side is done."""

    def __init__(self, wrap: Callable[[socket.socket], socket.socket] = lambda plain: plain) -> None:
        self.units: list[bytes] = []
        self.peers: set[str] = set()
        self.raw = b""
        self._wrap = wrap
        self._lock = threading.Lock()

    def __call__(self, connection: socket.socket, number: int) -> None:
        framer = SyslogFramer()
        connection = self._wrap(connection)
        units = []
        while data := connection.recv(65536):
            self.raw += data if not number else b""
            units += [one.data for one in framer.feed(data)]
        units += [one.data for one in framer.finish()]
        with self._lock:
            self.units += units
            self.peers.add(connection.getpeername()[0])


class Lumber:
    """Acknowledges windows, up to `until` documents in all; then closes the connection without a word."""

    def __init__(self, until: int = 10**9) -> None:
        self.documents: list[bytes] = []
        self.until = until
        self._lock = threading.Lock()

    def __call__(self, connection: socket.socket, number: int) -> None:
        parser = LumberjackParser()
        expected = 0
        while data := connection.recv(65536):
            for one in parser.feed(data):
                if isinstance(one, Window):
                    expected = one.size
                elif isinstance(one, Document):
                    with self._lock:
                        if len(self.documents) >= self.until:
                            self.until = 10**9
                            return
                        self.documents.append(bytes(one.payload))
                    if one.sequence == expected:
                        connection.sendall(ack(one.sequence))
                    elif one.sequence % 50 == 0:
                        connection.sendall(ack(0) + ack(one.sequence))


class TestSchedule:
    def test_events_become_due_at_the_rate_and_not_before(self) -> None:
        now = 100.0
        schedule = Schedule(50.0, None, clock=lambda: now)
        assert schedule.due() == 1
        assert schedule.wait(1) == pytest.approx(0.02)
        now = 101.0
        assert schedule.due() == 51
        assert schedule.wait(10) == 0.0

    def test_bursts_become_due_together(self) -> None:
        now = 0.0
        schedule = Schedule(100.0, 1000, 50, clock=lambda: now)
        assert schedule.due() == 50
        now = 0.49
        assert schedule.due() == 50
        assert schedule.wait(50) == pytest.approx(0.01)
        now = 0.51
        assert schedule.due() == 100
        now = 100.0
        assert schedule.due() == 1000

    def test_an_end_by_count_or_by_time(self) -> None:
        assert load(1, rate=10.0, seconds=2.5).total == 25
        assert load(1, rate=10.0, seconds=2.5, count=7).total == 7
        assert load(1, seconds=2.5).total is None


class TestDatagrams:
    def test_every_source_sends_its_share_from_its_own_address(self, udp: UdpServer) -> None:
        done = run_load(load(udp.address[1], count=201, sources=4, rate=20_000.0))
        eventually(lambda: len(udp.datagrams) == 201)
        assert [state.sent for state in done.sources] == [51, 50, 50, 50]
        assert numbers([data for data, _ in udp.datagrams]) == {source: list(range(50 + (not source))) for source in range(4)}
        assert {peer for _, peer in udp.datagrams} == {source_address(LOOPBACK, source) for source in range(4)}
        assert done.record()["bytes"] == sum(len(data) for data, _ in udp.datagrams)
        assert done.failures == []

    def test_the_rate_is_not_exceeded_and_all_of_it_sent(self, udp: UdpServer) -> None:
        done = run_load(load(udp.address[1], rate=2000.0, seconds=0.5))
        assert done.sent == 1000
        assert done.rate <= 2100

    @pytest.mark.parametrize(
        ("kind", "form"), [("netflow", "v5"), ("netflow", "v7"), ("netflow", "v9"), ("ipfix", "v10"), ("sflow", "v5")]
    )
    def test_flows_are_counted_and_not_datagrams(self, udp: UdpServer, kind: str, form: str) -> None:
        done = run_load(load(udp.address[1], kind, form=form, count=500, sources=3, rate=50_000.0))
        assert done.sent == 500
        datagrams = eventually(lambda: udp.datagrams if sum(len(stamp.in_flows(d, RUN)) for d, _ in udp.datagrams) == 500 else None)
        found = Counter(one for data, _ in datagrams for one in stamp.in_flows(data, RUN))
        assert set(found) == {Stamp(RUN, source, number) for source in range(3) for number in range(167 - (source == 2))}
        assert set(found.values()) == {1}

    def test_a_refusal_ends_it_and_is_named(self) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as unbound:
            unbound.bind((LOOPBACK, 0))
            port = unbound.getsockname()[1]
        done = run_load(load(port, rate=1000.0, seconds=5.0))
        assert done.sent < 50
        assert f"nobody listens at {LOOPBACK} UDP port {port}" in done.failures[0]


class TestConnections:
    @pytest.mark.parametrize("framing", ["counted", "lines"])
    @pytest.mark.parametrize("kind", ["syslog", "cef", "qumulo"])
    def test_syslog_arrives_whole_in_either_framing(self, tcp: Callable[..., TcpServer], kind: str, framing: str) -> None:
        sink = Frames()
        server = tcp(sink)
        done = run_load(load(server.address[1], kind, "tcp", count=3000, sources=3, framing=framing))
        assert done.failures == []
        eventually(lambda: len(sink.units) == 3000)
        assert {source: sorted(found) for source, found in numbers(sink.units).items()} == {n: list(range(1000)) for n in range(3)}
        assert all(found == sorted(found) for found in numbers(sink.units).values())
        assert sink.peers == {source_address(LOOPBACK, source) for source in range(3)}
        assert sink.raw[:1].isdigit() is (framing == "counted")

    def test_ipfix_messages_follow_each_other_with_one_template(self, tcp: Callable[..., TcpServer]) -> None:
        sink = Frames()
        server = tcp(sink)
        run_load(load(server.address[1], "ipfix", "tcp", "v10", count=400))
        eventually(lambda: sink.peers)
        offset, messages = 0, []
        while offset < len(sink.raw):
            length = int.from_bytes(sink.raw[offset + 2 : offset + 4], "big")
            messages.append(sink.raw[offset : offset + length])
            offset += length
        assert offset == len(sink.raw)
        assert [one.sequence for message in messages for one in stamp.in_flows(message, RUN)] == list(range(400))
        assert sum(message[16:18] == b"\0\2" for message in messages) == 1

    def test_tls_with_a_client_certificate(self, tcp: Callable[..., TcpServer], certificates: CertificateFiles) -> None:
        context = certificates.server_context(client_certificate=True)
        sink = Frames(lambda plain: context.wrap_socket(plain, server_side=True))
        server = tcp(sink)
        tls = certificates.client_context(client_certificate=True)
        done = run_load(load(server.address[1], transport="tls", count=500, tls=tls, server_name="localhost"))
        assert done.failures == []
        eventually(lambda: len(sink.units) == 500)

    def test_a_receiver_that_stops_reading_holds_it_up_and_loses_nothing(self, tcp: Callable[..., TcpServer]) -> None:
        sink, go_on = Frames(), threading.Event()

        def slow(connection: socket.socket, number: int) -> None:
            go_on.wait(30)
            sink(connection, number)

        server = tcp(slow)
        threading.Timer(0.7, go_on.set).start()
        done = run_load(load(server.address[1], transport="tcp", count=100_000))
        eventually(lambda: len(sink.units) == 100_000, 20)
        assert done.sources[0].blocked_seconds > 0.1

    def test_a_connection_that_is_closed_early_is_a_failure(self, tcp: Callable[..., TcpServer]) -> None:
        server = tcp(lambda connection, _: connection.recv(1000) and None)
        done = run_load(load(server.address[1], transport="tcp", rate=5000.0, seconds=5.0))
        assert done.failures
        assert done.sources[0].uncertain == [(0, done.sent - 1)]
        assert done.seconds < 3

    def test_with_patience_it_connects_again_and_says_what_is_uncertain(self, tcp: Callable[..., TcpServer]) -> None:
        sink = Frames()

        def once_broken(connection: socket.socket, number: int) -> None:
            if number:
                sink(connection, number)
            else:
                connection.recv(100)

        server = tcp(once_broken)
        done = run_load(load(server.address[1], transport="tcp", rate=5000.0, count=4000, patience=10.0))
        assert done.failures == []
        assert done.sources[0].reconnects == 1
        [(first, last)] = done.sources[0].uncertain
        eventually(lambda: sink.units)
        assert first == 0
        assert numbers(sink.units)[0] == list(range(last + 1, 4000))

    def test_nobody_there_is_a_failure_at_once(self) -> None:
        with socket.create_server((LOOPBACK, 0)) as gone:
            port = gone.getsockname()[1]
        began = time.monotonic()
        done = run_load(load(port, transport="tcp", rate=10.0, seconds=20.0))
        assert done.sent == 0
        assert done.failures
        assert time.monotonic() - began < 10


class TestAcknowledged:
    @pytest.mark.parametrize("kind", ["beats", "suricata"])
    def test_windows_are_acknowledged(self, tcp: Callable[..., TcpServer], kind: str) -> None:
        sink = Lumber()
        server = tcp(sink)
        form = "documents" if kind == "beats" else "both"
        done = run_load(load(server.address[1], kind, "lumberjack", form, count=1500, sources=2, window=120))
        assert [state.acknowledged for state in done.sources] == [750, 750]
        assert numbers(sink.documents) == {0: list(range(750)), 1: list(range(750))}
        assert all(isinstance(json.loads(one), dict) for one in sink.documents)

    def test_what_was_not_acknowledged_is_not_called_so(self, tcp: Callable[..., TcpServer]) -> None:
        sink = Lumber(until=430)
        server = tcp(sink)
        done = run_load(load(server.address[1], "beats", "lumberjack", "documents", count=1000, window=200))
        assert done.failures
        acknowledged = done.sources[0].acknowledged
        assert acknowledged is not None
        assert 400 <= acknowledged <= 430
        assert done.sent == 600

    def test_with_patience_it_is_sent_again_until_it_is_acknowledged(self, tcp: Callable[..., TcpServer]) -> None:
        sink = Lumber(until=430)
        server = tcp(sink)
        done = run_load(load(server.address[1], "beats", "lumberjack", "documents", count=1000, window=200, patience=10.0))
        assert done.failures == []
        assert done.sources[0].acknowledged == done.sent == 1000
        assert done.sources[0].resent > 0
        assert set(numbers(sink.documents)[0]) == set(range(1000))

    def test_a_slow_rate_goes_out_in_windows_that_are_not_full(self, tcp: Callable[..., TcpServer]) -> None:
        sink = Lumber()
        server = tcp(sink)
        done = run_load(load(server.address[1], "beats", "lumberjack", "documents", rate=100.0, seconds=1.2))
        assert done.sources[0].acknowledged == 120

    def test_http_takes_503_for_later_and_400_for_no(self) -> None:
        answers = iter([(503, "0"), (200, ""), (429, "0"), (200, "")])
        bodies: list[bytes] = []

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                status, after = next(answers, (400, ""))
                if status == 200:
                    bodies.append(body)
                self.send_response(status)
                if after:
                    self.send_header("Retry-After", after)
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"{}")

            def log_message(self, format: str, *args: object) -> None:
                """Quiet."""

        server = ThreadingHTTPServer((LOOPBACK, 0), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            done = run_load(load(server.server_address[1], "beats", "http", "documents", count=500, window=200))
        finally:
            server.shutdown()
            server.server_close()
        assert done.sources[0].acknowledged == 400
        assert done.sources[0].throttled == 2
        assert "HTTP 400" in done.failures[0]
        assert numbers(b"".join(bodies).splitlines())[0] == list(range(400))


class TestDoubt:
    def test_only_what_was_lately_handed_over_is_in_doubt(self, monkeypatch: pytest.MonkeyPatch) -> None:
        now = 1000.0
        monkeypatch.setattr(time, "monotonic", lambda: now)
        state = SourceState(0, "a", "", None)
        for second in range(20):
            now = 1000.0 + second
            state.handed_over(10, 0, 0)
        state.doubt()
        [(first, last)] = state.uncertain
        assert last == 199
        assert 130 <= first <= 150


class TestCommand:
    def test_the_summary_says_what_was_sent(self, udp: UdpServer, tmp_path: Path) -> None:
        summary = tmp_path / "summary.json"
        target = f"{LOOPBACK}:{udp.address[1]}"
        options = ["--target", target, "--count", "100", "--rate", "0", "--sources", "3", "--summary", str(summary)]
        told = CliRunner().invoke(cli.app, ["generate", "qumulo", *options])
        assert told.exit_code == 0, told.output
        assert "127.77.0.3" in told.output
        written = json.loads(summary.read_text())
        assert [source["sent"] for source in written["sources"]] == [34, 33, 33]
        eventually(lambda: len(udp.datagrams) == 100)
        assert {stamp.in_text(data).stamps[0].run for data, _ in udp.datagrams} == {written["run"]}

    def test_json_is_one_document(self, udp: UdpServer) -> None:
        told = CliRunner().invoke(
            cli.app, ["generate", "netflow", "--target", f"{LOOPBACK}:{udp.address[1]}", "--count", "60", "--rate", "0", "--json"]
        )
        assert json.loads(told.stdout)["sent"] == 60

    @pytest.mark.parametrize(
        ("arguments", "names"),
        [
            (["netflow", "--transport", "tcp"], "--transport tcp"),
            (["syslog", "--format", "v9"], "--format v9"),
            (["syslog", "--target", "127.0.0.1:none"], "--target"),
            (["syslog", "--framing", "crlf"], "--framing crlf"),
            (["syslog", "--ca", "nowhere.pem", "--transport", "tls"], "nowhere.pem"),
            (["syslog", "--ca", "nowhere.pem"], "--ca"),
        ],
    )
    def test_an_option_that_does_not_fit_is_named(self, arguments: list[str], names: str) -> None:
        told = CliRunner().invoke(cli.app, ["generate", *arguments, "--count", "1"])
        assert told.exit_code == 2
        assert names in told.stderr

    def test_a_refused_target_is_exit_1(self) -> None:
        with socket.create_server((LOOPBACK, 0)) as gone:
            port = gone.getsockname()[1]
        told = CliRunner().invoke(cli.app, ["generate", "beats", "--target", f"{LOOPBACK}:{port}", "--count", "5"])
        assert told.exit_code == 1
        assert str(port) in told.stderr
