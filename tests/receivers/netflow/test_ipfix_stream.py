"""IPFIX over TCP and TLS with real sockets: sessions, withdrawals, limits, and bytes that are no IPFIX."""

from __future__ import annotations

import shutil
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.receivers.netflow.flow_support import FLOW, HOST, OTHER, AtWork, at_work, decoded, flow, ipfix, other
from tests.support import eventually
from weir.local.standins.certificates import CertificateFiles, ensure_certificates
from weir.model.sequences import merge
from weir.processors.netflow import process
from weir.processors.outcome import RawCoordinates
from weir.protocols.netflow.encode import Withdrawal

WHERE = RawCoordinates("weir.raw.netflow.v1", 0, 0)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> CertificateFiles:
    return ensure_certificates(tmp_path_factory.mktemp("certificates"))


@contextmanager
def connected(work: AtWork, address: str = HOST) -> Iterator[socket.socket]:
    with socket.create_connection(work.port("ipfix-tcp"), timeout=10, source_address=(address, 0)) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        yield sock


def closed(sock: socket.socket) -> bool:
    """Whether the receiver has closed within some seconds."""
    sock.settimeout(10)
    try:
        return sock.recv(1) == b""
    except ConnectionError:
        return True


def test_messages_arrive_whole_and_decode(certificates: CertificateFiles) -> None:
    with at_work(ipfix_tcp_port=0) as work, connected(work) as sock:
        stream = ipfix(FLOW) + ipfix(flow(1, 11)) + ipfix(flow(2, 22), sequence=1)
        for place in range(0, len(stream), 7):
            sock.sendall(stream[place : place + 7])
        batches = work.wait_for(3)
        assert decoded(batches) == [("10.0.0.1", 11), ("10.0.0.2", 22)]
        assert {(b.transport, b.source_ip, b.listener_port) for b in batches} == {("tcp", HOST, work.port("ipfix-tcp")[1])}


def test_templates_belong_to_their_connection() -> None:
    """The same address, domain and template id, at the same time: nothing mixes, and a new connection begins with nothing."""
    with at_work(ipfix_tcp_port=0) as work:
        with connected(work) as one, connected(work) as two:
            one.sendall(ipfix(FLOW))
            two.sendall(ipfix(OTHER))
            work.wait_for(2)
            one.sendall(ipfix(flow(1, 11)))
            two.sendall(ipfix(other(2, 22)))
            batches = work.wait_for(4)
        assert sorted(decoded(batches)) == [("10.0.0.1", 11), ("10.0.0.2", 22)]
        with connected(work) as three:
            three.sendall(ipfix(flow(3, 33)))
            last = work.wait_for(5)[-1]
        assert (last.flow_templates, last.without_template) == ([], [0])
        (dead,) = process(last, WHERE).dead
        assert dead.reason.startswith("template not known: exporter 127.0.0.1, domain 7, template 256, nor had it come")
        assert not [t for t, *_ in work.producer.taken if "state" in t], "sessions are never shared"


def test_a_withdrawal_is_honoured_and_the_data_before_it_still_decodes() -> None:
    with at_work(ipfix_tcp_port=0, receiver_linger_ms=500) as work, connected(work) as sock:
        sock.sendall(ipfix(FLOW) + ipfix(flow(1, 11)) + ipfix(Withdrawal(256)) + ipfix(OTHER) + ipfix(other(2, 22)))
        batches = work.wait_for(5)
        assert decoded(batches) == [("10.0.0.1", 11), ("10.0.0.2", 22)]
        sock.sendall(ipfix(Withdrawal(256)) + ipfix(other(3, 33)))
        batches = work.wait_for(7)
        assert [b.without_template for b in batches][-1] == [1]
        assert work.events == ["withdrawn", "withdrawn"]


def test_an_exporters_mistakes_with_templates_end_no_session() -> None:
    """RFC 7011 section 8.1: a withdrawal of what is not known is ignored; a template redefined without one is said."""
    with at_work(ipfix_tcp_port=0) as work, connected(work) as sock:
        sock.sendall(ipfix(Withdrawal(300)) + ipfix(FLOW) + ipfix(OTHER) + ipfix(other(2, 22)))
        assert decoded(work.wait_for(4)) == [("10.0.0.2", 22)]
        assert work.events == ["withdrawal-unknown", "redefined"]
        sock.sendall(ipfix(other(3, 33)))
        work.wait_for(5)


def test_a_damaged_message_is_published_and_the_stream_goes_on() -> None:
    damaged = bytearray(ipfix(flow(1)))
    damaged[19] = 200  # the set reaches beyond its message
    with at_work(ipfix_tcp_port=0) as work, connected(work) as sock:
        sock.sendall(ipfix(FLOW) + bytes(damaged) + ipfix(flow(2, 22)))
        batches = work.wait_for(3)
    outcomes = [process(batch, WHERE) for batch in batches]
    assert sum(len(o.events.get("network-flow", [])) for o in outcomes) == 1
    assert [d.reason for o in outcomes for d in o.dead] == ["offset 16: set 256 has length 200, 21 bytes are left"]


def test_where_no_message_begins_the_bytes_are_kept_and_the_connection_ends() -> None:
    with at_work(ipfix_tcp_port=0) as work, connected(work) as sock:
        sock.sendall(ipfix(FLOW) + ipfix(flow(1, 11)) + b"GET / HTTP/1.1\r\n\r\n")
        assert closed(sock)
        batches = work.wait_for(3)
        broken = next(b for b in batches if b.transport == "ipfix-error")
        assert broken.units == [b"GET / HTTP/1.1\r\n\r\n"]
        assert decoded([b for b in batches if b is not broken]) == [("10.0.0.1", 11)]
        assert [d.reason for d in process(broken, WHERE).dead] == [
            "no IPFIX message begins here, or the connection ended within one; the connection was closed"
        ]
        assert work.refused == ["framing lost"]


def test_a_connection_that_ends_within_a_message_loses_no_byte() -> None:
    with at_work(ipfix_tcp_port=0) as work:
        with connected(work) as sock:
            sock.sendall(ipfix(FLOW) + ipfix(flow(1))[:30])
        batches = work.wait_for(2)
        assert [(b.transport, b.units) for b in batches] == [("tcp", [ipfix(FLOW)]), ("ipfix-error", [ipfix(flow(1))[:30]])]


def test_a_stop_publishes_what_has_arrived() -> None:
    with at_work(ipfix_tcp_port=0, receiver_linger_ms=10_000) as work, connected(work) as sock:
        sock.sendall(ipfix(FLOW) + ipfix(flow(1, 11)))
        assert work.run.stop() == 0
        assert decoded(work.batches()) == [("10.0.0.1", 11)]


def test_over_tls_the_certificate_names_the_exporter(certificates: CertificateFiles) -> None:
    with at_work(certificates, ipfix_tls_port=0, tls_client_certificates="required") as work:
        context = certificates.client_context(client_certificate=True)
        with (
            socket.create_connection(work.port("ipfix-tls"), timeout=10) as plain,
            context.wrap_socket(plain, server_hostname="localhost") as sock,
        ):
            sock.sendall(ipfix(FLOW) + ipfix(flow(1, 11)))
            batches = work.wait_for(2)
        assert decoded(batches) == [("10.0.0.1", 11)]
        assert batches[0].transport == "tls"
        assert "CN=" in (batches[0].tls_subject or "")


def test_without_a_certificate_or_without_tls_nobody_comes_in(certificates: CertificateFiles) -> None:
    with at_work(certificates, ipfix_tls_port=0, tls_client_certificates="required") as work:
        with socket.create_connection(work.port("ipfix-tls"), timeout=10) as plain:
            context = certificates.client_context()
            # With TLS 1.3 the client hears of it only after its own part of the handshake.
            with suppress(ssl.SSLError, ConnectionError), context.wrap_socket(plain, server_hostname="localhost") as sock:
                sock.sendall(ipfix(FLOW))
                sock.recv(1)
        with socket.create_connection(work.port("ipfix-tls"), timeout=10) as plain:
            plain.sendall(ipfix(FLOW))
            assert closed(plain)
        eventually(lambda: sorted(work.refused) == ["TLS handshake failed", "plain text on a TLS port"])
        assert work.units() == []


def test_connections_are_bounded_over_all_and_by_source() -> None:
    with at_work(ipfix_tcp_port=0, ipfix_max_connections=2, ipfix_max_connections_per_source=1) as work:
        with connected(work) as one:
            with connected(work) as two:
                assert closed(two)
            with connected(work, "127.0.0.2") as three:
                one.sendall(ipfix(FLOW))
                three.sendall(ipfix(OTHER))
                work.wait_for(2)
                with connected(work, "127.0.0.3") as four:
                    assert closed(four)
        eventually(lambda: sorted(work.refused) == ["too many connections", "too many connections of the source"])


def test_a_silent_connection_is_closed() -> None:
    with at_work(ipfix_tcp_port=0, ipfix_idle_seconds=0.2) as work, connected(work) as sock:
        sock.sendall(ipfix(FLOW))
        assert closed(sock)
        assert work.refused == ["idle"]


def test_while_memory_is_full_nothing_is_read_and_nothing_is_lost() -> None:
    """15 MB against a ceiling of 2 MB, and a Kafka that takes nothing before that is reached."""
    body = flow(1, 11, count=3_000)
    messages = 300
    with at_work(ipfix_tcp_port=0, receiver_memory_bytes=2 * 1024 * 1024, receiver_batch_bytes=131_072) as work:
        most = times_full = 0
        work.producer.prompt = False
        memory = work.receiver.publisher.memory
        sending, answering = [True], [True]

        def answer() -> None:
            nonlocal most, times_full
            most = max(most, memory.used)
            times_full += memory.shut
            if memory.shut or not sending:
                work.producer.answer()
            if answering:
                work.run._loop.call_later(0.002, answer)

        work.run._loop.call_soon_threadsafe(answer)
        with connected(work) as sock:
            sock.sendall(ipfix(FLOW))
            for number in range(messages):
                sock.sendall(ipfix(body, sequence=3_000 * number))
        sending.clear()
        eventually(lambda: sum(len(value) for _, _, value in work.producer.taken) > messages * len(ipfix(body)), timeout=60)
        answering.clear()
        work.producer.prompt = True
        assert times_full > 1
        assert most < 4 * 1024 * 1024
        work.run._loop.call_soon_threadsafe(work.producer.answer)
        assert work.run.stop() == 0
        assert len(work.units()) == messages + 1
        assert sum(loss.missing for loss in merge(work.sequences())) == 0


def test_what_an_exporter_lost_within_a_session_is_counted() -> None:
    with at_work(ipfix_tcp_port=0) as work:
        with connected(work) as sock:
            sock.sendall(ipfix(FLOW) + ipfix(flow(1, count=5)) + ipfix(flow(2, count=5), sequence=12))
            work.wait_for(3)
        with connected(work) as sock:
            sock.sendall(ipfix(FLOW) + ipfix(flow(1, count=5)))
            work.wait_for(5)
        assert work.run.stop() == 0
        losses = merge(work.sequences())
        assert [(loss.protocol, loss.missing, loss.received) for loss in losses] == [("ipfix", 7, 10), ("ipfix", 0, 5)]


_pieces = st.lists(
    st.one_of(
        st.sampled_from([ipfix(FLOW), ipfix(flow(1)), ipfix(OTHER), ipfix(Withdrawal(256)), ipfix(Withdrawal(2))]),
        st.binary(max_size=40),
    ),
    max_size=8,
)


@pytest.fixture(scope="module")
def fuzzed() -> Iterator[AtWork]:
    with at_work(ipfix_tcp_port=0, ipfix_max_connections_per_source=0) as work:
        yield work


@given(_pieces)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_byte_of_whatever_is_sent_is_published(fuzzed: AtWork, pieces: list[bytes]) -> None:
    stream = b"".join(pieces)
    fuzzed.producer.taken.clear()
    with connected(fuzzed) as sock:
        sock.sendall(stream)
        sock.shutdown(socket.SHUT_WR)
        assert closed(sock)
    eventually(lambda: b"".join(fuzzed.units()) == stream)
    assert not fuzzed.receiver.streams._connections


def test_a_copy_of_the_state_needs_no_tcp(tmp_path: Path) -> None:
    """What a session announces goes into no copy either."""
    with at_work(ipfix_tcp_port=0, netflow_state_dir=tmp_path) as work, connected(work) as sock:
        sock.sendall(ipfix(FLOW))
        work.wait_for(1)
        assert work.run.stop() == 0
        assert not list(tmp_path.iterdir())


def test_renewed_certificates_hold_for_who_connects_next(certificates: CertificateFiles, tmp_path: Path) -> None:
    """Nobody asks for it: the files are followed."""
    others = ensure_certificates(tmp_path / "other")
    certificate, key = tmp_path / "server.pem", tmp_path / "server.key"
    shutil.copy(certificates.server, certificate)
    shutil.copy(certificates.server_key, key)

    def send(context: ssl.SSLContext, octets: int) -> bool:
        try:
            with (
                socket.create_connection(work.port("ipfix-tls"), timeout=10) as plain,
                context.wrap_socket(plain, server_hostname="localhost") as sock,
            ):
                sock.sendall(ipfix(FLOW) + ipfix(flow(1, octets)))
        except ssl.SSLError:
            return False
        return True

    with at_work(ipfix_tls_port=0, tls_certificate_file=certificate, tls_key_file=key, tls_reload_seconds=0.05) as work:
        assert send(certificates.client_context(), 11)
        assert not send(others.client_context(), 12)
        shutil.copy(others.server, certificate)
        shutil.copy(others.server_key, key)
        eventually(lambda: send(others.client_context(), 22))
        assert decoded(work.wait_for(4)) == [("10.0.0.1", 11), ("10.0.0.1", 22)]
