"""What one sender may take of the syslog receiver, and what is counted beyond it."""

from __future__ import annotations

import contextlib
import errno
import selectors
import socket
import ssl
import struct
import threading
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest

from tests.receivers.syslog.syslog_support import AtWork, at_work, made_certificates, send_tcp, tls_client, wait_closed
from tests.support import eventually
from weir.local.standins.certificates import CertificateFiles
from weir.model.ledger import LedgerCounts
from weir.receivers.publishing.batching import Source
from weir.receivers.syslog import receiver as syslog
from weir.receivers.syslog import stream as syslog_stream


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> CertificateFiles:
    return made_certificates(tmp_path_factory.mktemp("certificates"))


def ledger(work: AtWork) -> dict[str, LedgerCounts]:
    """What the ledger says by source, all minutes together; once the receiver has stopped."""
    total: dict[str, LedgerCounts] = {}
    for entry in work.producer.entries():
        for (source, _, _), counts in entry.lines.items():
            total.setdefault(source, LedgerCounts()).add(counts)
    return total


def flood(address: tuple[str, int], count: int, size: int = 300) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect(address)
        for number in range(count):
            sock.send(b"<13>%06d " % number + b"x" * (size - 11))


def talk_tls(sock: socket.socket, context: ssl.SSLContext, data: bytes) -> None:
    with context.wrap_socket(sock, server_hostname="localhost") as tls:
        tls.sendall(data)


class TestPorts:
    def test_0_is_any_free_port_and_minus_1_is_off(self) -> None:
        with at_work(syslog_udp_port=-1) as work:
            assert work.receiver.udp_port is None
            assert work.receiver.tcp_port
            assert work.receiver.tls_port is None, "without a certificate there is no TLS"

    def test_two_colons_listen_for_both_families(self) -> None:
        if not socket.has_ipv6:
            pytest.skip("no IPv6 here")
        with at_work(syslog_host="::") as work:
            send_tcp(work.tcp, b"<13>tcp four\n")
            send_tcp(("::1", work.tcp[1]), b"<13>tcp six\n")
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                sock.sendto(b"<13>udp four", work.udp)
            eventually(lambda: len(work.units()) == 3)
            assert {(b.source_ip, b.units[0]) for b in work.batches()} == {
                ("127.0.0.1", b"<13>tcp four"),
                ("::1", b"<13>tcp six"),
                ("127.0.0.1", b"<13>udp four"),
            }


class TestConnections:
    def test_a_thousand_at_once_and_every_message_arrives(self) -> None:
        connections, messages = 1_000, 20
        with at_work() as work, contextlib.ExitStack() as stack, selectors.DefaultSelector() as ready:
            pending = {}
            for number in range(connections):
                sock = stack.enter_context(socket.create_connection(work.tcp, timeout=10))
                sock.setblocking(False)
                texts = [b"<13>%d-%d " % (number, one) + b"x" * (one * 37 % 500) for one in range(messages)]
                framed = (b"%d %b" % (len(t), t) if number % 2 else t + b"\n" for t in texts)
                pending[sock] = b"".join(framed)
                ready.register(sock, selectors.EVENT_WRITE)
            eventually(lambda: work.receiver.limits.open == connections)
            while pending:
                # A little of each in turn, so that all are under way together.
                for key, _ in ready.select(10):
                    one = key.fileobj
                    assert isinstance(one, socket.socket)
                    pending[one] = pending[one][one.send(pending[one][:777]) :]
                    if not pending[one]:
                        del pending[one]
                        ready.unregister(one)
            eventually(lambda: sum(len(b.units) for b in work.batches()) == connections * messages, timeout=20)
            got = Counter(unit.partition(b" ")[0] for unit in work.units())
        assert got == Counter(b"<13>%d-%d" % (n, one) for n in range(connections) for one in range(messages))
        assert not work.refused

    def test_so_many_of_one_source(self) -> None:
        with at_work(syslog_max_connections_per_source=2) as work, contextlib.ExitStack() as stack:
            for _ in range(2):
                stack.enter_context(socket.create_connection(work.tcp, timeout=10))
            eventually(lambda: work.receiver.limits.open == 2)
            with socket.create_connection(work.tcp, timeout=10) as third:
                wait_closed(third)
            assert work.refused == ["too many connections of the source"]
            stack.close()
            eventually(lambda: work.receiver.limits.open == 0)
            send_tcp(work.tcp, b"<13>later\n")
            eventually(lambda: work.units() == [b"<13>later"])

    def test_so_many_new_ones_per_second(self) -> None:
        with at_work(syslog_connection_rate=0.01) as work:
            for _ in range(2):
                with socket.create_connection(work.tcp, timeout=10) as sock:
                    sock.shutdown(socket.SHUT_WR)
                    wait_closed(sock)
            eventually(lambda: work.refused == ["connection rate of the source"])

    def test_a_silent_one_is_closed_and_one_that_speaks_is_not(self) -> None:
        with at_work(syslog_idle_seconds=0.4) as work, socket.create_connection(work.tcp, timeout=10) as busy:
            with socket.create_connection(work.tcp, timeout=10) as silent:
                silent.sendall(b"<13>last words")
                silent.setblocking(False)
                closed = False
                while not closed:
                    busy.sendall(b"<13>busy\n")
                    time.sleep(0.02)
                    with contextlib.suppress(BlockingIOError):
                        closed = silent.recv(1) == b""
            assert work.refused == ["idle"]
            eventually(lambda: b"<13>last words" in work.units())
            busy.sendall(b"<13>still here\n")
            eventually(lambda: b"<13>still here" in work.units())


class TestMessageRate:
    def test_datagrams_beyond_it_are_dropped_and_counted(self) -> None:
        with at_work(syslog_message_rate=0.001, syslog_message_burst=10) as work:
            flood(work.udp, 50)
            eventually(lambda: work.dropped == {("127.0.0.1", "rate limit"): 40})
            eventually(lambda: len(work.units()) == 10)
            work.run.stop()
        counts = ledger(work)["127.0.0.1"]
        assert (counts.units_in, counts.units_dropped) == (10, 40)

    def test_connections_beyond_it_wait_and_lose_nothing(self) -> None:
        with at_work(syslog_message_rate=100, syslog_message_burst=10) as work:
            began = time.monotonic()
            with socket.create_connection(work.tcp, timeout=10) as sock:
                for number in range(40):
                    sock.sendall(b"<13>%d\n" % number)
                    eventually(lambda number=number: len(work.units()) > number)  # type: ignore[misc]
            assert time.monotonic() - began > 0.25, "30 messages beyond the burst take 0.3 s"
        assert not work.dropped

    def test_the_end_does_not_wait_for_it(self) -> None:
        with at_work(syslog_message_rate=1, syslog_message_burst=1) as work:
            with socket.create_connection(work.tcp, timeout=10) as sock:
                sock.sendall(b"<13>x\n" * 50)
                eventually(lambda: work.receiver.reads)
                sock.sendall(b"<13>y\n" * 50)
                work.run.stop()
            assert len(work.units()) == 100


class TestMemory:
    @pytest.mark.parametrize("encrypted", [False, True])
    def test_while_kafka_is_away_connections_are_not_read_and_later_nothing_is_missing(
        self, certificates: CertificateFiles, encrypted: bool
    ) -> None:
        message, count = b"<13>" + b"x" * 3_995 + b"\n", 6_000  # more than sockets hold
        with at_work(certificates, receiver_memory_bytes=2 * 1024 * 1024) as work:
            work.producer.prompt = False
            memory = work.receiver.publisher.memory
            done = threading.Event()

            def send() -> None:
                with contextlib.ExitStack() as stack:
                    if encrypted:
                        sock: socket.socket = stack.enter_context(tls_client(work.tls, certificates.client_context()))
                    else:
                        sock = stack.enter_context(socket.create_connection(work.tcp))
                    sock.settimeout(30)
                    sock.sendall(message * count)
                done.set()

            sender = threading.Thread(target=send)
            sender.start()
            eventually(lambda: memory.shut)
            reads = work.receiver.reads
            assert not done.wait(0.2)
            assert work.receiver.reads == reads, "what was in hand when it shut is all that was taken"
            assert memory.used < 3 * 1024 * 1024

            def all_there() -> bool:
                work.answer()
                return sum(len(batch.units) for batch in work.batches()) == count

            eventually(all_there, timeout=20)
            sender.join(10)
            work.producer.prompt = True
            work.answer()

    def test_unfinished_messages_of_many_connections_are_bounded_together(self) -> None:
        connections = 40
        with at_work(receiver_memory_bytes=2 * 1024 * 1024) as work, contextlib.ExitStack() as stack:
            socks = [stack.enter_context(socket.create_connection(work.tcp, timeout=10)) for _ in range(connections)]
            for sock in socks:
                sock.sendall(b"<13>" + b"x" * 50_000)
            eventually(lambda: work.receiver.limits.open == connections and work.receiver.unfinished > 512 * 1024)
            for sock in socks:
                sock.sendall(b"x" * 10_000 + b"\n<13>next\n")
            eventually(lambda: sum(len(batch.units) for batch in work.batches()) == 2 * connections)
            assert work.receiver.unfinished == 0
            marks = [mark for batch in work.batches() for mark in batch.truncated]
            assert marks
            assert {mark.original_length for mark in marks} == {60_004}
            assert work.units().count(b"<13>next") == connections

    @pytest.mark.parametrize("encrypted", [False, True])
    def test_connections_made_while_kafka_is_away_are_not_read_either(
        self, certificates: CertificateFiles, encrypted: bool
    ) -> None:
        """They wait in the kernel with all they send, and nothing of it is missing later."""
        with at_work(certificates, receiver_memory_bytes=2 * 1024 * 1024) as work, contextlib.ExitStack() as stack:
            memory, limit = work.receiver.publisher.memory, work.receiver.publisher.memory.limit
            work.run._loop.call_soon_threadsafe(memory.take, limit)
            eventually(lambda: memory.shut)
            socks = [
                stack.enter_context(socket.create_connection(work.tls if encrypted else work.tcp, timeout=10)) for _ in range(3)
            ]
            if encrypted:
                context = certificates.client_context()
                threads = [threading.Thread(target=talk_tls, args=(sock, context, b"<13>x\n" * 1_000)) for sock in socks]
            else:
                threads = [threading.Thread(target=sock.sendall, args=(b"<13>x\n" * 1_000,)) for sock in socks]
            for thread in threads:
                thread.start()
            if not encrypted:
                for thread in threads:
                    thread.join(10)
            time.sleep(0.1)
            assert work.receiver.reads == 0
            assert memory.used == limit
            work.run._loop.call_soon_threadsafe(memory.give, limit)
            eventually(lambda: len(work.units()) == 3_000)
            for thread in threads:
                thread.join(10)

    def test_what_was_accepted_just_before_is_read_once_at_most(self) -> None:
        """uvloop begins to read a connection after connection_made, though it was paused there."""
        with at_work(receiver_memory_bytes=2 * 1024 * 1024) as work:
            memory, limit = work.receiver.publisher.memory, work.receiver.publisher.memory.limit
            for acceptor in work.receiver._acceptors:
                memory.unwatch(acceptor)
            work.run._loop.call_soon_threadsafe(memory.take, limit)
            eventually(lambda: memory.shut)
            with socket.create_connection(work.tcp, timeout=0.2) as sock, contextlib.suppress(TimeoutError):
                for _ in range(10_000):
                    sock.sendall(b"<13>" + b"x" * 4_000 + b"\n")
            assert work.receiver.reads <= 1
            work.run._loop.call_soon_threadsafe(memory.give, limit)
            eventually(lambda: work.receiver.limits.open == 0)

    def test_who_has_ordinary_messages_does_not_suffer_for_others(self) -> None:
        with at_work(receiver_memory_bytes=2 * 1024 * 1024) as work, contextlib.ExitStack() as stack:
            for _ in range(20):
                stack.enter_context(socket.create_connection(work.tcp, timeout=10)).sendall(b"<13>" + b"x" * 50_000)
            eventually(lambda: work.receiver.unfinished > 512 * 1024)
            with socket.create_connection(work.tcp, timeout=10) as sock:
                sock.sendall(b"<13>" + b"x" * 2_000)
                eventually(lambda: len(work.receiver.connections) == 21 and work.receiver.unfinished > 512 * 1024 + 2_000)
                sock.sendall(b"y" * 2_000 + b"\n")
                eventually(lambda: work.units() == [b"<13>" + b"x" * 2_000 + b"y" * 2_000])
            assert not work.batches()[0].truncated


class TestFailures:
    def test_units_that_an_exception_loses_are_counted_and_the_next_are_taken(self) -> None:
        with at_work() as work, socket.create_connection(work.tcp, timeout=10) as sock:
            real = work.receiver.publisher.offer_many

            def fail(source: Source, units: Sequence[bytes], port: int | None = None, *, must: bool = False) -> int:
                if b"bad" in units:
                    raise RuntimeError
                return real(source, units, port, must=must)

            work.receiver.publisher.offer_many = fail  # type: ignore[method-assign]
            sock.sendall(b"bad\nbad\n")
            eventually(lambda: work.dropped == {("127.0.0.1", "internal error"): 2})
            sock.sendall(b"<13>tcp\n")
            eventually(lambda: work.units() == [b"<13>tcp"])
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
                udp.sendto(b"bad", work.udp)
                eventually(lambda: work.dropped == {("127.0.0.1", "internal error"): 3})
                udp.sendto(b"<13>udp", work.udp)
            eventually(lambda: work.units() == [b"<13>tcp", b"<13>udp"])

    def test_a_connection_whose_bytes_fail_is_closed(self) -> None:
        with at_work() as work, socket.create_connection(work.tcp, timeout=10) as sock:
            eventually(lambda: work.receiver.connections)
            (connection,) = work.receiver.connections
            connection._framer = None  # type: ignore[assignment]
            sock.sendall(b"<13>x\n")
            wait_closed(sock)
            eventually(lambda: work.refused == ["internal error"])
            assert work.receiver.limits.open == 0

    def test_a_connection_reset_before_it_was_accepted_has_its_address(self) -> None:
        with at_work(syslog_proxy_protocol="required", syslog_proxy_from="127.0.0.1") as work:
            busy = threading.Event()
            work.run._loop.call_soon_threadsafe(busy.wait, 10)
            for _ in range(3):
                with socket.create_connection(work.tcp, timeout=10) as sock:
                    sock.sendall(b"<13>not behind a balancer\n")
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            busy.set()
            eventually(lambda: len(work.refused) == 3)
            assert set(work.refused) == {"proxy header missing"}, "the address is the balancer's"
            assert work.receiver.limits.open == 0


class TestTheEnd:
    def test_who_never_reads_the_goodbye_does_not_keep_the_connection(
        self, certificates: CertificateFiles, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(syslog_stream, "_GOODBYE_SECONDS", 0.2)
        with at_work(certificates) as work, tls_client(work.tls, certificates.client_context()) as tls:
            tls.sendall(b"<13>x\n")
            eventually(lambda: work.units() == [b"<13>x"])
            (connection,) = work.receiver.connections
            transport = connection._transport
            assert transport is not None
            lost = threading.Event()
            connection.connection_lost = lambda exc: lost.set()  # type: ignore[method-assign]

            def crowd() -> None:
                transport.write(b"x" * 20_000_000)
                connection.close()

            work.run._loop.call_soon_threadsafe(crowd)
            assert lost.wait(10)

    def test_connections_that_wait_when_it_stops_are_taken(self) -> None:
        with at_work() as work, contextlib.ExitStack() as stack:
            busy = threading.Event()
            work.run._loop.call_soon_threadsafe(busy.wait, 10)
            for number in range(200):
                sock = stack.enter_context(socket.create_connection(work.tcp, timeout=10))
                sock.sendall(b"<13>%d\n" % number)
            work.run._loop.call_soon_threadsafe(work.run._stop.set)
            busy.set()
            work.run.stop()
            assert len(work.units()) == 200


class TestFiles:
    def test_out_of_open_files_connections_wait_and_are_taken_later(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with at_work() as work:
            tcp = work.receiver._acceptors[0]
            real, tries = tcp._sock, 0

            class Short:
                def __getattr__(self, name: str) -> Any:
                    return getattr(real, name)

                def accept(self) -> Any:
                    nonlocal tries
                    tries += 1
                    if tries <= 2:
                        raise OSError(errno.EMFILE, "Too many open files")
                    return real.accept()

            monkeypatch.setattr(tcp, "_sock", Short())
            send_tcp(work.tcp, b"<13>one\n")
            eventually(lambda: work.units() == [b"<13>one"])
            assert tries <= 4, "it must not ask again and again"
            assert work.refused == ["cannot accept a connection"]

    def test_no_more_connections_are_taken_than_files_can_be_open(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(syslog, "raise_file_limit", lambda wanted: 1_000)
        with at_work(syslog_max_connections=4_096) as work:
            assert work.receiver.limits.most == 744


class TestSources:
    def test_datagrams_of_a_refused_source_are_dropped_and_counted(self) -> None:
        with at_work(receiver_allow="192.0.2.0/24") as work:
            flood(work.udp, 7)
            eventually(lambda: work.dropped == {("127.0.0.1", "source refused"): 7})
        assert not work.units()

    def test_a_connection_of_a_refused_source_is_closed(self) -> None:
        with at_work(receiver_allow="192.0.2.0/24") as work:
            with socket.create_connection(work.tcp, timeout=10) as sock:
                wait_closed(sock)
            assert work.refused == ["source refused"]

    def test_a_source_refused_from_now_on_loses_its_connection(self) -> None:
        with at_work() as work, socket.create_connection(work.tcp, timeout=10) as sock:
            sock.sendall(b"<13>before\n")
            eventually(lambda: work.units() == [b"<13>before"])
            work.receiver.publisher.sources.of = lambda *_: None  # type: ignore[method-assign]
            sock.sendall(b"<13>after\n<13>and more\n<13>unfinished")
            wait_closed(sock)
            assert work.dropped == {("127.0.0.1", "source refused"): 3}
            assert work.refused == ["source refused"]


def test_received_and_the_kernels_drops_are_all_that_was_sent() -> None:
    """In the ledger, with a burst that the smallest buffer cannot hold."""
    with at_work() as work:
        sent = 0
        while not work.receiver._udp or not work.receiver._udp.drops:
            flood(work.udp, 5_000)
            sent += 5_000
        work.run.stop()
        port = work.receiver.udp_port
    lines = ledger(work)
    lost = lines[f"kernel:udp:{port}"].units_dropped
    assert lost > 0
    assert lines["127.0.0.1"].units_in + lost == sent
    assert len(work.units()) + lost == sent


def test_worker_processes_share_their_ports() -> None:
    with (
        at_work(receiver_processes=2) as first,
        at_work(receiver_processes=2, syslog_udp_port=first.udp[1], syslog_tcp_port=first.tcp[1]) as second,
    ):
        for number in range(64):
            send_tcp(first.tcp, b"<13>tcp %d\n" % number)
            flood(first.udp, 1)
        eventually(lambda: len(first.units()) + len(second.units()) == 128)
        assert first.units()
        assert second.units()
