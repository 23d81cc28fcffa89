"""A syslog receiver with a producer in memory, and senders for it."""

from __future__ import annotations

import socket
import ssl
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

from tests.receivers.fakes import FakeProducer
from tests.receivers.harness import Running, running
from weir.local.standins.certificates import CertificateFiles, ensure_certificates
from weir.model.batch import RawBatch
from weir.receivers.publishing.publisher import Publisher
from weir.receivers.syslog.receiver import SERVICE, SyslogReceiver, SyslogSettings

HOST = "127.0.0.1"


class AtWork:
    """A running receiver and what it has published, refused and dropped."""

    def __init__(self, settings: SyslogSettings) -> None:
        self.settings = settings
        self.producer = FakeProducer(prompt=True)
        self.refused: list[str] = []
        self.dropped: Counter[tuple[str, str]] = Counter()
        self.run: Running

    def build(self, settings: SyslogSettings) -> SyslogReceiver:
        publisher = Publisher(settings, service=SERVICE, topic="raw.syslog", make_producer=lambda: cast(Any, self.producer))
        refused, drop = publisher.metrics.refused, publisher.drop

        def watch_refused(reason: str) -> None:
            self.refused.append(reason)
            refused(reason)

        def watch_drop(source_ip: str, units: int, reason: str = "memory full") -> None:
            self.dropped[source_ip, reason] += units
            drop(source_ip, units, reason)

        publisher.metrics.refused = watch_refused  # type: ignore[method-assign]
        publisher.drop = watch_drop  # type: ignore[method-assign]
        return SyslogReceiver(settings, publisher)

    @property
    def receiver(self) -> SyslogReceiver:
        found: SyslogReceiver = self.run.receiver
        return found

    @property
    def udp(self) -> tuple[str, int]:
        return HOST, self.receiver.udp_port or 0

    @property
    def tcp(self) -> tuple[str, int]:
        return HOST, self.receiver.tcp_port or 0

    @property
    def tls(self) -> tuple[str, int]:
        return HOST, self.receiver.tls_port or 0

    def answer(self) -> None:
        """Acknowledge all that waits, where the producer is not prompt."""
        done = threading.Event()

        def now() -> None:
            self.producer.answer()
            done.set()

        self.run._loop.call_soon_threadsafe(now)
        assert done.wait(10)

    def batches(self) -> list[RawBatch]:
        return self.producer.batches()

    def units(self) -> list[bytes]:
        return [unit for batch in self.batches() for unit in batch.units]


@contextmanager
def at_work(certificates: CertificateFiles | None = None, **values: Any) -> Iterator[AtWork]:
    """A receiver on free ports; with certificates also for TLS."""
    options: dict[str, Any] = {
        "syslog_host": HOST,
        "syslog_udp_port": 0,
        "syslog_tcp_port": 0,
        "syslog_tls_port": 0,
        "receiver_linger_ms": 20,
        "receiver_udp_buffer_bytes": 65_536,
        "instance": "tester",
        "site": "lab",
    }
    if certificates is not None:
        options |= {"tls_certificate_file": certificates.server, "tls_key_file": certificates.server_key}
        options |= {"tls_client_ca_file": certificates.ca}
    settings = SyslogSettings(kafka_bootstrap_servers="127.0.0.1:1", topic_prefix="weir", **{**options, **values})
    work = AtWork(settings)
    with running(settings, SERVICE, work.build) as run:
        work.run = run
        yield work


def made_certificates(folder: Path) -> CertificateFiles:
    return ensure_certificates(folder)


def send_tcp(address: tuple[str, int], *pieces: bytes) -> None:
    """Each piece in a segment of its own; then wait for the receiver to close."""
    with socket.create_connection(address, timeout=10) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for piece in pieces:
            sock.sendall(piece)
        sock.shutdown(socket.SHUT_WR)
        wait_closed(sock)


def wait_closed(sock: socket.socket) -> None:
    """Until the receiver has closed, in whatever manner."""
    sock.settimeout(10)
    try:
        while sock.recv(4_096):
            pass
    except ConnectionError:
        pass


@contextmanager
def tls_client(address: tuple[str, int], context: ssl.SSLContext) -> Iterator[ssl.SSLSocket]:
    """A TLS connection to the receiver."""
    with socket.create_connection(address, timeout=10) as sock, context.wrap_socket(sock, server_hostname="localhost") as tls:
        yield tls
