"""What the doctor's senders say when a receiver does not want them, and what their flows look like to whoever counts."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from weir.local.standins.certificates import CertificateFiles, ensure_certificates
from weir.model.ledger import SequenceRange
from weir.model.sequences import merge
from weir.receivers.netflow.sequences import Follower, Seen, StreamKey
from weir.tools.doctor import machine
from weir.tools.doctor.machine import Listener
from weir.tools.doctor.senders import Client, Marked, send_all

LOOPBACK = "127.0.0.1"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> CertificateFiles:
    return ensure_certificates(tmp_path_factory.mktemp("tls"))


@contextmanager
def tcp_server(behave: Callable[[socket.socket], object]) -> Iterator[int]:
    with socket.create_server((LOOPBACK, 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                behave(connection)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield server.getsockname()[1]
        thread.join(5)


def one(setting: str, port: int, transport: str = "tcp", *, tls: bool = False, client_certificate: bool = False) -> Listener:
    return Listener("receive.beats", setting, transport, LOOPBACK, port, tls, client_certificate)


@pytest.mark.parametrize("setting", ["syslog_tls_port", "beats_port", "http_port", "ipfix_tls_port"])
def test_a_port_that_asks_for_a_client_certificate_is_not_called_broken_for_want_of_one(setting: str) -> None:
    [marked] = send_all([one(setting, 1, tls=True, client_certificate=True)], Client())
    assert not marked.error
    assert "client certificate" in marked.not_sent
    assert "--cert" in marked.cure


@pytest.mark.parametrize("setting", ["syslog_tcp_port", "ipfix_tcp_port"])
def test_a_receiver_that_hangs_up_has_not_accepted(setting: str) -> None:
    with tcp_server(lambda connection: connection.recv(1)) as port:
        [marked] = send_all([one(setting, port)], Client())
    assert marked.error
    assert "WEIR_RECEIVER_ALLOW" in marked.cure


def test_a_token_that_is_asked_for_is_named() -> None:
    class Refuses(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(401)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer((LOOPBACK, 0), Refuses)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        [marked] = send_all([one("http_port", server.server_port)], Client())
    finally:
        server.shutdown()
        server.server_close()
    assert "401" in marked.error
    assert "WEIR_HTTP_TOKEN" in marked.cure


def test_an_authority_that_is_no_certificate_is_an_answer_not_a_traceback(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("nothing", encoding="ascii")
    with tcp_server(lambda connection: connection.recv(1)) as port:
        [marked] = send_all([one("syslog_tls_port", port, tls=True)], Client(ca_file=tmp_path / "ca.pem"))
    assert marked.error
    assert "--ca" in marked.cure


def flow(setting: str) -> bytes:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((LOOPBACK, 0))
        sock.settimeout(5)
        [marked] = send_all([one(setting, sock.getsockname()[1], "udp")], Client())
        assert not marked.error
        return sock.recv(2000)


def place(setting: str, datagram: bytes) -> Seen:
    if setting == "netflow_port":
        uptime, seconds = struct.unpack_from(">II", datagram, 4)
        return Seen(struct.unpack_from(">I", datagram, 16)[0], 1, seconds * 1_000_000, uptime)
    if setting == "ipfix_port":
        seconds, sequence = struct.unpack_from(">II", datagram, 4)
        return Seen(sequence, 1, seconds * 1_000_000)
    sequence, uptime = struct.unpack_from(">II", datagram, 16)
    return Seen(sequence, 1, 0, uptime)


@pytest.mark.parametrize(("setting", "protocol"), [("netflow_port", "netflow5"), ("ipfix_port", "ipfix"), ("sflow_port", "sflow")])
def test_visits_of_the_doctor_are_not_counted_as_loss_nor_as_restarts(setting: str, protocol: str) -> None:
    first, second = flow(setting), flow(setting)
    assert first != second, "each is recognisable"
    ranges: list[SequenceRange] = []
    key = StreamKey(LOOPBACK, protocol, 1)
    start = 1_800_000_000_000_000
    for visit, datagram in enumerate((first, second)):
        # Another worker, or the receiver after a restart, which knows the run by the shared state.
        follower = Follower(ranges.append, lambda *_: None)
        follower.adopt(key, start // 1_000_000)
        for again in range(2):
            minutes = visit * 10 + again * 2
            seen = place(setting, datagram)
            uptime = (seen.uptime + minutes * 60_000) % 2**32 if seen.uptime else 0
            now = start + minutes * 60_000_000
            assert follower.observe(key, seen._replace(export_us=now, uptime=uptime), now) is None
        follower.flush(start + 3_600_000_000)
    assert ranges
    assert sum(loss.missing for loss in merge(ranges)) <= 0


def test_the_program_that_holds_a_port_is_named() -> None:
    with socket.create_server((LOOPBACK, 0)) as server:
        found = machine._port(one("beats_port", server.getsockname()[1]))
    if not Path("/proc/net/tcp").exists():
        pytest.skip("only Linux tells who listens")
    assert "listens" in found.text
    assert "(process " in found.text


def test_marked_events_that_were_not_sent_are_no_failure() -> None:
    from weir.tools.doctor.finding import Status
    from weir.tools.doctor.marked import _findings
    from weir.tools.doctor.trails import Trail

    trail = Trail(Marked("beats 5044 (TLS)", b"x", 0.0, not_sent="it asks for a certificate", cure="--cert"))
    assert trail.ended
    [finding] = _findings(trail, 1.0)
    assert finding.status is Status.WARNING
    assert finding.cure


def test_a_mistake_that_services_share_is_said_once_with_all_their_names() -> None:
    from weir.tools.doctor.configuration import _together
    from weir.tools.doctor.finding import failed, good

    same = [failed("settings", name, "no such file", "mend it") for name in ("receive.syslog", "receive.beats")]
    fine = [good("settings", name, "would start") for name in ("process.syslog", "process.beats")]
    first, *rest = _together([*same, *fine])
    assert first.name == "receive.syslog, receive.beats"
    assert rest == fine
