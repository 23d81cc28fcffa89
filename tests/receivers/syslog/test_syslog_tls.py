"""Syslog over TLS (RFC 5425), and senders behind a balancer that speaks the PROXY protocol."""

from __future__ import annotations

import contextlib
import shutil
import socket
import ssl
import struct
from pathlib import Path

import pytest

from tests.receivers.syslog.syslog_support import at_work, made_certificates, send_tcp, tls_client, wait_closed
from tests.support import eventually
from weir.local.standins.certificates import CertificateFiles

HEADER = b"PROXY TCP4 192.0.2.7 198.51.100.1 40000 6514\r\n"


def header_2(source: str = "192.0.2.7", port: int = 40_000, kind: int = 0x11, command: int = 0x21) -> bytes:
    addresses = socket.inet_aton(source) + socket.inet_aton("198.51.100.1") + struct.pack("!HH", port, 6514)
    return b"\r\n\r\n\x00\r\nQUIT\n" + struct.pack("!BBH", command, kind, len(addresses)) + addresses


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> CertificateFiles:
    return made_certificates(tmp_path_factory.mktemp("certificates"))


def send_hidden(address: tuple[str, int], context: ssl.SSLContext, before: bytes, data: bytes, step: int = 0) -> None:
    """`before` and the ClientHello in one segment (or all in pieces of `step` bytes), then the data over TLS."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(incoming, outgoing, server_hostname="localhost")
    with socket.create_connection(address, timeout=10) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

        def flush(extra: bytes = b"") -> None:
            out = extra + outgoing.read()
            for start in range(0, len(out), step or len(out) or 1):
                sock.sendall(out[start : start + (step or len(out))])

        while True:
            try:
                tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                flush(before)
                before = b""
                incoming.write(sock.recv(65_536))
        tls.write(data)
        with contextlib.suppress(ssl.SSLError):
            tls.unwrap()
        flush()
        wait_closed(sock)


class TestTls:
    @pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
    def test_messages_of_both_framings_arrive(self, certificates: CertificateFiles, version: ssl.TLSVersion) -> None:
        context = certificates.client_context()
        context.minimum_version = context.maximum_version = version
        with at_work(certificates) as work:
            with tls_client(work.tls, context) as tls:
                tls.sendall(b"7 <13>one7 <1")
                tls.sendall(b"3>two")
            with tls_client(work.tls, context) as tls:
                tls.sendall(b"<13>three\n<13>four")
                tls.unwrap()
            eventually(lambda: sorted(work.units()) == [b"<13>four", b"<13>one", b"<13>three", b"<13>two"])
            (batch, *_) = work.batches()
        assert (batch.transport, batch.source_ip, batch.listener_port) == ("tls", "127.0.0.1", work.tls[1])
        assert batch.tls_subject is None
        assert not work.refused

    def test_a_client_certificate_can_be_required_and_names_the_source(self, certificates: CertificateFiles) -> None:
        with at_work(certificates, tls_client_certificates="required") as work:
            with tls_client(work.tls, certificates.client_context(client_certificate=True)) as tls:
                tls.sendall(b"7 <13>one")
            eventually(lambda: work.units() == [b"<13>one"])
            (batch,) = work.batches()
            assert batch.tls_subject
            with contextlib.suppress(OSError), tls_client(work.tls, certificates.client_context()) as tls:
                tls.sendall(b"7 <13>two")
                wait_closed(tls)
            eventually(lambda: work.refused == ["tls handshake: peer did not return a certificate"])
        assert work.units() == [b"<13>one"]

    def test_the_wrong_protocol_on_either_port_is_named(self, certificates: CertificateFiles) -> None:
        with at_work(certificates) as work:
            with socket.create_connection(work.tls, timeout=10) as sock:
                sock.sendall(b"<13>plain text\n")
                wait_closed(sock)
            eventually(lambda: len(work.refused) == 1)
            with contextlib.suppress(OSError), tls_client(work.tcp, certificates.client_context()):
                pass
            eventually(lambda: len(work.refused) == 2)
        assert work.refused[0].startswith("tls handshake: ")
        assert work.refused[1] == "tls on a port without tls"
        assert not work.units()

    def test_a_handshake_that_never_ends_does(self, certificates: CertificateFiles) -> None:
        with at_work(certificates, syslog_handshake_seconds=0.2) as work:
            with socket.create_connection(work.tls, timeout=10) as silent, socket.create_connection(work.tls, timeout=10) as half:
                half.sendall(b"\x16\x03\x01\x02\x00\x01")
                wait_closed(silent)
                wait_closed(half)
            assert work.refused == ["tls handshake: timed out"] * 2
            assert work.receiver.limits.open == 0

    @pytest.mark.parametrize("step", [1, 100])
    def test_a_hello_that_only_announces_much_gets_no_memory(self, certificates: CertificateFiles, step: int) -> None:
        announced = b"\x16\x03\x01\x00\x04\x01\x01\xff\x00"
        in_pieces = b"\x16\x03\x01\x00\x01\x01\x16\x03\x01\x00\x01"
        with at_work(certificates) as work:
            for beginning in (announced, in_pieces):
                with socket.create_connection(work.tls, timeout=10) as sock:
                    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    with contextlib.suppress(ConnectionError):
                        for start in range(0, len(beginning), step):
                            sock.sendall(beginning[start : start + step])
                    wait_closed(sock)
            eventually(lambda: work.refused == ["tls handshake: client hello too long"] * 2)

    def test_handshakes_count_against_the_limit_of_connections(self, certificates: CertificateFiles) -> None:
        with at_work(certificates, syslog_max_connections=1) as work:
            with socket.create_connection(work.tls, timeout=10):
                eventually(lambda: work.receiver.limits.open == 1)
                with socket.create_connection(work.tcp, timeout=10) as second:
                    wait_closed(second)
                assert work.refused == ["too many connections"]
            eventually(lambda: work.receiver.limits.open == 0)
        assert work.refused == ["too many connections"], "somebody looking whether we listen is no failed handshake"

    def test_a_handshake_that_the_sender_breaks_off_is_counted(self, certificates: CertificateFiles) -> None:
        with at_work(certificates) as work:
            with socket.create_connection(work.tls, timeout=10) as sock:
                sock.sendall(b"\x16\x03\x01")
            eventually(lambda: work.refused == ["tls handshake: closed by the sender"])

    def test_a_sender_that_never_reads_and_closes_at_once_loses_nothing(self, certificates: CertificateFiles) -> None:
        messages = 20_000
        with at_work(certificates) as work:
            with tls_client(work.tls, certificates.client_context()) as tls:
                tls.sendall(b"".join(b"<13>%06d %s\n" % (number, b"x" * 90) for number in range(messages)))
            eventually(lambda: sum(len(b.units) for b in work.batches()) == messages, timeout=20)

    def test_a_graceful_stop_takes_what_has_arrived(self, certificates: CertificateFiles) -> None:
        with (
            at_work(certificates, receiver_linger_ms=10_000) as work,
            tls_client(work.tls, certificates.client_context()) as tls,
        ):
            tls.sendall(b"<13>begin\n")
            eventually(lambda: work.receiver.reads >= 2)
            tls.sendall(b"<13>%s\n" % (b"x" * 50_000) * 20 + b"<13>unfinished")
            assert work.run.stop() == 0
            wait_closed(tls)
        units = work.units()
        assert len(units) == 22
        assert units[-1] == b"<13>unfinished"

    def test_changed_certificates_hold_for_who_connects_next(self, certificates: CertificateFiles, tmp_path: Path) -> None:
        other = made_certificates(tmp_path / "other")
        files = {"tls_certificate_file": tmp_path / "server.pem", "tls_key_file": tmp_path / "server.key"}
        shutil.copy(certificates.server, files["tls_certificate_file"])
        shutil.copy(certificates.server_key, files["tls_key_file"])
        with at_work(certificates, **files) as work, tls_client(work.tls, certificates.client_context()) as before:
            before.sendall(b"<13>before\n")
            shutil.copy(other.server, files["tls_certificate_file"])
            shutil.copy(other.server_key, files["tls_key_file"])
            assert work.receiver.tls is not None
            assert work.receiver.tls.check(at_once=True)
            with tls_client(work.tls, other.client_context()) as after:
                after.sendall(b"<13>after\n")
            before.sendall(b"<13>still\n")
            eventually(lambda: sorted(work.units()) == [b"<13>after", b"<13>before", b"<13>still"])

    def test_broken_records_after_the_handshake_end_the_connection_and_keep_what_came(self, certificates: CertificateFiles) -> None:
        with at_work(certificates) as work:
            with tls_client(work.tls, certificates.client_context()) as tls:
                tls.sendall(b"<13>good\n")
                eventually(lambda: work.units() == [b"<13>good"])
                with socket.socket(fileno=tls.detach()) as sock:
                    sock.sendall(b"\x17\x03\x03\x00\x20" + b"\0" * 32)
                    wait_closed(sock)
            eventually(lambda: len(work.refused) == 1)
        assert work.refused[0].startswith("tls: ")


class TestProxy:
    @pytest.mark.parametrize("header", [HEADER, header_2()])
    def test_the_header_names_the_source(self, header: bytes) -> None:
        with at_work(syslog_proxy_protocol="required", syslog_proxy_from="127.0.0.0/8") as work:
            send_tcp(work.tcp, header + b"<13>one\n")
            send_tcp(work.tcp, *(bytes([byte]) for byte in header + b"<13>two\n"))
            eventually(lambda: work.units() == [b"<13>one", b"<13>two"])
            assert {(b.source_ip, b.source_port, b.transport) for b in work.batches()} == {("192.0.2.7", 40_000, "tcp")}
        assert not work.refused

    @pytest.mark.parametrize("step", [0, 1, 50])
    @pytest.mark.parametrize("header", [HEADER, header_2()])
    def test_the_header_stands_before_the_handshake(self, certificates: CertificateFiles, header: bytes, step: int) -> None:
        with at_work(certificates, syslog_proxy_protocol="required", syslog_proxy_from="127.0.0.1") as work:
            send_hidden(work.tls, certificates.client_context(), header, b"7 <13>one", step)
            eventually(lambda: work.units() == [b"<13>one"])
            (batch,) = work.batches()
            assert (batch.source_ip, batch.source_port, batch.transport) == ("192.0.2.7", 40_000, "tls")

    def test_a_balancer_that_speaks_for_itself_is_the_source(self) -> None:
        with at_work(syslog_proxy_protocol="required", syslog_proxy_from="127.0.0.1") as work:
            send_tcp(work.tcp, header_2(command=0x20) + b"<13>local\n")
            send_tcp(work.tcp, b"PROXY UNKNOWN\r\n<13>unknown\n")
            eventually(lambda: sorted(work.units()) == [b"<13>local", b"<13>unknown"])
            assert {b.source_ip for b in work.batches()} == {"127.0.0.1"}

    def test_who_is_not_trusted_is_refused(self) -> None:
        with at_work(syslog_proxy_protocol="optional", syslog_proxy_from="192.0.2.0/24") as work:
            send_tcp(work.tcp, b"<13>direct\n")
            with socket.create_connection(work.tcp, timeout=10) as sock:
                sock.sendall(HEADER + b"<13>forged\n")
                wait_closed(sock)
            eventually(lambda: work.units() == [b"<13>direct"])
            assert work.refused == ["proxy header from an untrusted peer"]
        with at_work(syslog_proxy_protocol="required", syslog_proxy_from="192.0.2.0/24") as work:
            with socket.create_connection(work.tcp, timeout=10) as sock:
                wait_closed(sock)
            eventually(lambda: work.refused == ["not a trusted balancer"])

    def test_a_missing_broken_or_late_header_is_refused(self) -> None:
        with at_work(syslog_proxy_protocol="required", syslog_proxy_from="127.0.0.1", syslog_handshake_seconds=0.2) as work:
            for beginning in (b"<13>none\n", b"PROXY TCP4 nowhere\r\n", b"PROXY"):
                with socket.create_connection(work.tcp, timeout=10) as sock:
                    sock.sendall(beginning)
                    wait_closed(sock)
            send_tcp(work.tcp, header_2()[:20])
            eventually(lambda: len(work.refused) == 4)
        assert work.refused == [
            "proxy header missing",
            "proxy header invalid",
            "proxy header: timed out",
            "proxy header: incomplete",
        ]
        assert not work.units()

    def test_where_it_is_optional_a_balancer_may_leave_it_out(self) -> None:
        with at_work(syslog_proxy_protocol="optional", syslog_proxy_from="127.0.0.1") as work:
            send_tcp(work.tcp, b"<13>direct\n")
            send_tcp(work.tcp, HEADER + b"<13>proxied\n")
            eventually(lambda: len(work.units()) == 2)
            assert {(b.source_ip, b.units[0]) for b in work.batches()} == {
                ("127.0.0.1", b"<13>direct"),
                ("192.0.2.7", b"<13>proxied"),
            }

    def test_limits_per_source_hold_for_whom_the_header_names(self) -> None:
        settings = at_work(syslog_proxy_protocol="required", syslog_proxy_from="127.0.0.1", syslog_max_connections_per_source=1)
        with settings as work, contextlib.ExitStack() as stack:
            for address in ("192.0.2.1", "192.0.2.2", "192.0.2.1"):
                sock = stack.enter_context(socket.create_connection(work.tcp, timeout=10))
                sock.sendall(header_2(address) + b"<13>" + address.encode() + b"\n")
            wait_closed(sock)
            eventually(lambda: sorted(work.units()) == [b"<13>192.0.2.1", b"<13>192.0.2.2"])
        assert work.refused == ["too many connections of the source"]

    def test_datagrams_carry_version_2(self) -> None:
        with (
            at_work(syslog_udp_proxy_protocol="required", syslog_proxy_from="127.0.0.1") as work,
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock,
        ):
            for datagram in (header_2(kind=0x12) + b"<13>one", b"<13>without", header_2()[:20], header_2(command=0x20)):
                sock.sendto(datagram, work.udp)
            sock.sendto(header_2("192.0.2.8", kind=0x12) + b"<13>two", work.udp)
            eventually(lambda: sorted(work.units()) == [b"<13>one", b"<13>two"])
            assert {(b.source_ip, b.source_port, b.transport) for b in work.batches()} == {
                ("192.0.2.7", 40_000, "udp"),
                ("192.0.2.8", 40_000, "udp"),
            }
        assert dict(work.dropped) == {("127.0.0.1", "proxy header missing"): 1, ("127.0.0.1", "proxy header invalid"): 1}
