"""Senders against small servers of our own: amounts exact, framing right, and nothing forgotten when a receiver dies."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator

import pytest

from tests.support import eventually
from weir.local.generate.beats import BeatsUnits
from weir.local.generate.senders import Pace, ReceiveQueue, frame, send_beats, send_datagrams, send_syslog_tcp
from weir.local.generate.streams import Address
from weir.local.generate.syslog import SOURCES, SyslogUnits
from weir.local.generate.traffic import Amounts, Targets, run
from weir.local.generate.units import MALFORMED, Sent, Unit, marks
from weir.protocols.framing import Frame, SyslogFramer
from weir.protocols.lumberjack import Document, LumberjackParser, Window, ack

LOOPBACK = "127.0.0.1"


class TcpServer:
    """Accepts connections, each in a thread that runs `serve(connection, number)`; `close` ends them all."""

    def __init__(self, serve: Callable[[socket.socket, int], None], port: int = 0) -> None:
        self._listener = socket.create_server((LOOPBACK, port))
        self._serve = serve
        self._connections: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self.peers: list[str] = []
        self.address: Address = (LOOPBACK, self._listener.getsockname()[1])
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self._accepting.start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, peer = self._listener.accept()
                self._connections.append(connection)
                self.peers.append(peer[0])
                thread = threading.Thread(target=self._run, args=(connection, len(self._threads)), daemon=True)
                self._threads.append(thread)
                thread.start()

    def _run(self, connection: socket.socket, number: int) -> None:
        with connection, contextlib.suppress(OSError):
            self._serve(connection, number)

    def close(self) -> None:
        """End everything, what has arrived and was not read being reset, as when a process is killed."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._accepting.join(5)
        for connection in self._connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()
        for thread in self._threads:
            thread.join(5)


@pytest.fixture
def serve() -> Iterator[Callable[..., TcpServer]]:
    servers: list[TcpServer] = []

    def start(behave: Callable[[socket.socket, int], None], port: int = 0) -> TcpServer:
        servers.append(TcpServer(behave, port))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


class UdpServer:
    """Keeps every datagram and who sent it.

    Its reader may not get a processor until all is sent, and nobody slows a sender of datagrams down: what the kernel has no
    room for is lost. Where it grants no more than its usual 208 kB, that is all beyond some three hundred small datagrams.
    """

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_194_304)
        self._socket.bind((LOOPBACK, 0))
        self._socket.settimeout(0.1)
        self.address: Address = self._socket.getsockname()
        self.datagrams: list[tuple[bytes, str]] = []
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._receive, daemon=True)
        self._thread.start()

    def _receive(self) -> None:
        while not self._done.is_set():
            with contextlib.suppress(TimeoutError):
                data, peer = self._socket.recvfrom(65535)
                self.datagrams.append((data, peer[0]))

    def close(self) -> None:
        self._done.set()
        self._thread.join(5)
        self._socket.close()


@pytest.fixture
def udp() -> Iterator[UdpServer]:
    server = UdpServer()
    yield server
    server.close()


def all_due(amount: int) -> Pace:
    return Pace(amount, 0.0)


class SyslogReceiver:
    """Takes frames from any number of connections."""

    def __init__(self) -> None:
        self.frames: list[Frame] = []
        self.first_bytes: dict[str, bytes] = {}
        self._lock = threading.Lock()

    def __call__(self, connection: socket.socket, number: int) -> None:
        del number
        framer = SyslogFramer()
        peer = connection.getpeername()[0]
        while data := connection.recv(4096):
            with self._lock:
                self.first_bytes.setdefault(peer, data[:16])
                self.frames.extend(framer.feed(data))
        with self._lock:
            self.frames.extend(framer.finish())


class BeatsReceiver:
    """Acknowledges windows as told by `answer(connection, documents of the window, number of the window)`."""

    def __init__(self, answer: Callable[[socket.socket, list[Document], int], None]) -> None:
        self._answer = answer
        self.received: list[Document] = []
        self.windows: list[int] = []

    def __call__(self, connection: socket.socket, number: int) -> None:
        del number
        parser = LumberjackParser()
        size, window = 0, list[Document]()
        while data := connection.recv(65536):
            for one in parser.feed(data):
                if isinstance(one, Window):
                    size, window = one.size, []
                elif isinstance(one, Document):
                    window.append(one)
                    self.received.append(one)
                    if len(window) == size:
                        self.windows.append(size)
                        self._answer(connection, window, len(self.windows) - 1)


def acknowledge(connection: socket.socket, window: list[Document], number: int) -> None:
    del number
    connection.sendall(ack(window[-1].sequence))


class TestPace:
    def test_spreads_the_amount_over_the_time(self) -> None:
        now = 100.0
        pace = Pace(1000, 10.0, lambda: now)
        assert pace.due() == 1
        now = 105.0
        assert pace.due() == 501
        now = 200.0
        assert pace.due() == 1000

    def test_without_a_time_all_is_due(self) -> None:
        assert Pace(7, 0.0).due() == 7


class TestFrame:
    def test_octet_counting_counts_bytes(self) -> None:
        assert frame("counted", "<14>ä".encode()) == b"6 <14>\xc3\xa4"

    def test_lines_end_in_a_line_feed(self) -> None:
        assert frame("lines", b"<14>x") == b"<14>x\n"


class TestDatagrams:
    def test_all_arrive_each_from_its_sources_address(self, udp: UdpServer) -> None:
        made = SyslogUnits(1, 250, mass_deletes=20, transports=frozenset({"udp"}))
        sent = Sent()
        numbers = ((number, source.address) for number, source in made.numbers(frozenset({"udp"})))
        send_datagrams(udp.address, numbers, made.unit, Pace(250, 0.1), sent, threading.Event())
        eventually(lambda: len(udp.datagrams) == 250)
        assert (sent.units, sent.malformed, sent.empty, sent.uncertain) == (250, 1, 1, 0)
        assert sent.bytes == sent.wire_bytes == sum(len(data) for data, _ in udp.datagrams)
        assert sum(sent.events.values()) == 248
        assert {peer for _, peer in udp.datagrams} == {source.address for source in SOURCES if source.transport == "udp"}

    def test_never_go_faster_than_told(self, udp: UdpServer) -> None:
        sent = Sent()
        begun = time.monotonic()
        numbers = ((number, LOOPBACK) for number in range(20))
        made = Unit(bytes(1000), "syslog")
        send_datagrams(udp.address, numbers, lambda *_: made, all_due(20), sent, threading.Event(), bytes_per_ms=100)
        # 20 kilobytes at 100 bytes a millisecond.
        assert time.monotonic() - begun >= 0.19

    def test_to_nobody_count_as_uncertain_and_stop_nothing(self) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
            taken.bind((LOOPBACK, 0))
            target = taken.getsockname()
        sent = Sent()
        numbers = ((number, LOOPBACK) for number in range(50))
        send_datagrams(target, numbers, lambda *_: Unit(b"x", "syslog"), all_due(50), sent, threading.Event())
        assert sent.units == 50
        # The kernel tells of a datagram that found nobody when the next is sent, so the last one goes untold.
        assert 45 <= sent.uncertain <= 50

    def test_wait_for_a_receiver_that_does_not_read(self) -> None:
        made = Unit(bytes(1400), "network-flow", 1)
        sent, stop = Sent(), threading.Event()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
            receiver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
            receiver.bind((LOOPBACK, 0))
            receiver.settimeout(5)
            target: Address = receiver.getsockname()
            if not _counts_what_is_queued(receiver, target):
                pytest.skip("this kernel does not tell what a UDP socket holds in /proc/net/udp")
            numbers = ((number, LOOPBACK) for number in range(400))
            send = threading.Thread(
                target=send_datagrams, args=(target, numbers, lambda *_: made, all_due(400), sent, stop), daemon=True
            )
            send.start()
            queue = ReceiveQueue(target)
            eventually(queue.full)
            assert sent.units < 400
            for _ in range(400):
                assert len(receiver.recv(2000)) == 1400
            send.join(10)
            assert sent.units == 400


def _counts_what_is_queued(receiver: socket.socket, target: Address) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for _ in range(100):
            sender.sendto(bytes(1400), target)
    known = ReceiveQueue(target).full()
    for _ in range(100):
        receiver.recv(2000)
    return known


class TestSyslogTcp:
    def made(self) -> SyslogUnits:
        return SyslogUnits(1, 800, mass_deletes=50, transports=frozenset({"counted", "lines"}))

    def test_all_arrive_in_both_framings_over_a_connection_for_each_source(self, serve: Callable[..., TcpServer]) -> None:
        receiver = SyslogReceiver()
        server = serve(receiver)
        made, sent = self.made(), Sent()
        send_syslog_tcp(
            server.address, made.numbers(frozenset({"counted", "lines"})), made.unit, Pace(800, 0.3), sent, threading.Event()
        )
        eventually(lambda: len(receiver.frames) == 800)
        assert (sent.units, sent.uncertain, sent.reconnects, sent.malformed) == (800, 0, 0, 1)
        assert sent.bytes == sum(len(one.data) for one in receiver.frames)
        assert Counter(server.peers) == Counter(source.address for source in SOURCES if source.transport != "udp")
        for source in SOURCES:
            if source.transport != "udp":
                assert receiver.first_bytes[source.address][:1].isdigit() == (source.transport == "counted")

    def test_what_a_dying_receiver_took_is_uncertain_and_nothing_else_is_lost(self, serve: Callable[..., TcpServer]) -> None:
        first, second = SyslogReceiver(), SyslogReceiver()
        server = serve(first)
        made, sent, stop = self.made(), Sent(), threading.Event()
        numbers = made.numbers(frozenset({"counted", "lines"}))
        sending = threading.Thread(
            target=send_syslog_tcp, args=(server.address, numbers, made.unit, Pace(800, 1.0), sent, stop), daemon=True
        )
        sending.start()
        eventually(lambda: len(first.frames) > 200)
        server.close()
        serve(second, server.address[1])
        sending.join(30)
        assert not sending.is_alive()
        assert sent.units == 800
        assert sent.reconnects > 0
        eventually(lambda: len(second.frames) > 300)
        expected = {found for number in range(800) for found in marks(made.unit(number, 0).data.decode())}
        arrived = {found for one in first.frames + second.frames for found in marks(one.data.decode())}
        assert arrived <= expected
        assert len(expected - arrived) <= sent.uncertain < 800

    def test_gives_up_with_the_place_and_the_way_out_when_nobody_listens(self) -> None:
        with socket.create_server((LOOPBACK, 0)) as taken:
            target = taken.getsockname()
        made = self.made()
        numbers = made.numbers(frozenset({"counted", "lines"}))
        with pytest.raises(ConnectionError, match=rf"port {target[1]} .*start the receiver"):
            send_syslog_tcp(target, numbers, made.unit, all_due(800), Sent(), threading.Event(), patience=0.1)


class TestBeats:
    def test_every_document_is_acknowledged_in_windows(self, serve: Callable[..., TcpServer]) -> None:
        receiver = BeatsReceiver(acknowledge)
        server = serve(receiver)
        made, sent = BeatsUnits(1, 450), Sent()
        send_beats(server.address, range(450), made.unit, all_due(450), sent, threading.Event(), window=200)
        assert receiver.windows == [200, 200, 50]
        assert (sent.units, sent.acknowledged, sent.resent, sent.uncertain, sent.malformed) == (450, 450, 0, 0, 1)
        assert sum(len(one.payload) for one in receiver.received) == sent.bytes
        assert sent.wire_bytes < sent.bytes / 2  # compressed

    def test_a_window_is_sent_again_with_the_same_bytes_after_a_dropped_connection(self, serve: Callable[..., TcpServer]) -> None:
        def drop_the_second(connection: socket.socket, window: list[Document], number: int) -> None:
            if number == 1:
                connection.shutdown(socket.SHUT_RDWR)
            else:
                acknowledge(connection, window, number)

        receiver = BeatsReceiver(drop_the_second)
        server = serve(receiver)
        made, sent = BeatsUnits(1, 300), Sent()
        send_beats(server.address, range(300), made.unit, all_due(300), sent, threading.Event(), window=100)
        assert receiver.windows == [100, 100, 100, 100]
        assert receiver.received[100:200] == receiver.received[200:300]
        assert (sent.units, sent.acknowledged, sent.resent, sent.reconnects, sent.uncertain) == (300, 300, 100, 1, 0)

    def test_after_a_partial_acknowledgement_only_the_rest_is_sent_again(self, serve: Callable[..., TcpServer]) -> None:
        def only_a_part(connection: socket.socket, window: list[Document], number: int) -> None:
            if number == 0:
                connection.sendall(ack(0) + ack(30))
                connection.shutdown(socket.SHUT_RDWR)
            else:
                acknowledge(connection, window, number)

        receiver = BeatsReceiver(only_a_part)
        server = serve(receiver)
        made, sent = BeatsUnits(1, 100), Sent()
        send_beats(server.address, range(100), made.unit, all_due(100), sent, threading.Event(), window=100)
        assert receiver.windows == [100, 70]
        assert [one.payload for one in receiver.received[30:100]] == [one.payload for one in receiver.received[100:]]
        assert (sent.acknowledged, sent.resent) == (100, 70)

    def test_silence_counts_as_a_lost_connection(self, serve: Callable[..., TcpServer]) -> None:
        def silent_at_first(connection: socket.socket, window: list[Document], number: int) -> None:
            if number:
                acknowledge(connection, window, number)

        receiver = BeatsReceiver(silent_at_first)
        server = serve(receiver)
        made, sent = BeatsUnits(1, 20), Sent()
        send_beats(server.address, range(20), made.unit, all_due(20), sent, threading.Event(), ack_timeout=0.1)
        assert receiver.windows == [20, 20]
        assert sent.acknowledged == 20

    def test_a_receiver_that_speaks_something_else_is_left(self, serve: Callable[..., TcpServer]) -> None:
        def http_at_first(connection: socket.socket, window: list[Document], number: int) -> None:
            if number:
                acknowledge(connection, window, number)
            else:
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        server = serve(BeatsReceiver(http_at_first))
        made, sent = BeatsUnits(1, 20), Sent()
        send_beats(server.address, range(20), made.unit, all_due(20), sent, threading.Event())
        assert (sent.acknowledged, sent.resent) == (20, 20)

    def test_what_is_not_acknowledged_when_told_to_stop_is_uncertain(self, serve: Callable[..., TcpServer]) -> None:
        stop = threading.Event()
        server = serve(BeatsReceiver(lambda *_: stop.set()))
        made, sent = BeatsUnits(1, 50), Sent()
        send_beats(server.address, range(50), made.unit, all_due(50), sent, stop)
        assert (sent.units, sent.acknowledged, sent.uncertain) == (50, 0, 50)


class TestRun:
    def test_sends_exactly_the_amounts_of_every_kind(self, serve: Callable[..., TcpServer], udp: UdpServer) -> None:
        lines, documents = SyslogReceiver(), BeatsReceiver(acknowledge)
        flows = UdpServer()
        seen: list[dict[str, Sent]] = []
        try:
            targets = Targets(udp.address, serve(lines).address, serve(documents).address, flows.address)
            amounts = Amounts(syslog=1000, netflow=60, beats=301, mass_deletes=40, beats_window=50)
            sent = run(targets, amounts, seed=9, seconds=0.5, on_progress=seen.append)
            eventually(lambda: len(lines.frames) + len(udp.datagrams) == 1000)
            eventually(lambda: len(flows.datagrams) == 60)
        finally:
            flows.close()
        assert {kind: one.units for kind, one in sent.items()} == {"syslog": 1000, "netflow": 60, "beats": 301}
        assert [one.malformed for one in sent.values()] == [1, 1, 1]
        assert sent["syslog"].empty == 1
        assert sent["netflow"].empty == 3
        assert sent["beats"].acknowledged == 301 == len(documents.received)
        assert sum(one.uncertain for one in sent.values()) == 0
        assert seen[-1] == sent
        mass = [data for data in [one.data for one in lines.frames] + [data for data, _ in udp.datagrams] if b"mallory" in data]
        assert len(mass) == 40
        versions = Counter(struct.unpack(">H", data[:2])[0] for data, _ in flows.datagrams)
        assert set(versions) == {5, 9, 10, 77}
        assert versions[77] == 1

    def test_leaves_out_what_has_no_target(self, udp: UdpServer) -> None:
        sent = run(Targets(netflow=udp.address), Amounts(netflow=8), seconds=0.0)
        assert list(sent) == ["netflow"]
        assert sent["netflow"].units == 8

    def test_one_sender_that_gives_up_stops_the_others(self, udp: UdpServer) -> None:
        with socket.create_server((LOOPBACK, 0)) as taken:
            nobody = taken.getsockname()
        begun = time.monotonic()
        with pytest.raises(ConnectionError, match="start the receiver"):
            run(Targets(beats=nobody, netflow=udp.address), Amounts(netflow=1000, beats=10), seconds=60.0, patience=0.1)
        assert time.monotonic() - begun < 20

    def test_stops_when_told(self, udp: UdpServer) -> None:
        stop = threading.Event()
        sent = run(Targets(netflow=udp.address), Amounts(netflow=1000), seconds=600.0, on_progress=lambda _: stop.set(), stop=stop)
        assert sent["netflow"].units < 100

    def test_beats_units_malformed_document_is_acknowledged_like_any_other(self, serve: Callable[..., TcpServer]) -> None:
        documents = BeatsReceiver(acknowledge)
        sent = run(Targets(beats=serve(documents).address), Amounts(beats=30), seconds=0.0)
        (bad,) = [unit for unit in (BeatsUnits(1, 30).unit(number, 0) for number in range(30)) if unit.makes == MALFORMED]
        assert sent["beats"].acknowledged == 30
        assert any(one.payload.endswith(bad.data[-10:]) for one in documents.received)
