"""The SIEM's stand-in: what it reads, what it counts, and how it misbehaves."""

from __future__ import annotations

import json
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from hypothesis import given, settings
from hypothesis import strategies as st

from weir.local.standins.certificates import CertificateFiles, ensure_certificates
from weir.local.standins.siem import Deframer, FramingError, SiemStandIn, alert_id

DEADLINE = 10.0


def cef(name: str) -> bytes:
    return f"<134>1 2026-11-20T20:55:30Z weir weir - - - CEF:0|Weir|Weir|1|r\\|1|Mass delete|8|externalId={name} suser=eve".encode()


def octets(message: bytes) -> bytes:
    return b"%d %s" % (len(message), message)


def until(read: Callable[[], dict[str, Any]], holds: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    end = time.monotonic() + DEADLINE
    while not holds(value := read()):
        assert time.monotonic() < end, f"still {value} after {DEADLINE} s"
        time.sleep(0.01)
    return value


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> CertificateFiles:
    return ensure_certificates(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def siem(certificates: CertificateFiles) -> Iterator[SiemStandIn]:
    with SiemStandIn(certificates=certificates, receive_buffer=8192) as running:
        yield running


def stats(siem: SiemStandIn) -> dict[str, Any]:
    return dict(requests.get(f"{siem.url}/_stats", timeout=5).json())


def control(siem: SiemStandIn, **wishes: object) -> None:
    answer = requests.post(f"{siem.url}/_control", json=wishes, timeout=5)
    assert answer.status_code == 200, answer.text


def connect(siem: SiemStandIn) -> socket.socket:
    return socket.create_connection((siem.host, siem.tcp_port), timeout=5)


def send_until_it_blocks(connection: socket.socket, message: bytes, limit: int) -> int:
    sent = 0
    while sent < limit:
        try:
            sent += connection.send(message[sent % len(message) :])
        except BlockingIOError:
            return sent
    raise AssertionError(f"{limit} bytes went out though nobody reads")


class TestDeframing:
    @given(
        st.lists(st.tuples(st.booleans(), st.binary(min_size=1, max_size=60).filter(lambda m: bool(m.strip(b"\r\n")))), max_size=8),
        st.data(),
    )
    @settings(max_examples=100)
    def test_messages_survive_any_mix_of_framings_and_any_cuts(self, sent: list[tuple[bool, bytes]], data: st.DataObject) -> None:
        expected, wire = [], b""
        for counted, body in sent:
            message = body if counted else b"<" + body.replace(b"\n", b" ")
            expected.append(message)
            wire += octets(message) if counted else message + b"\n"
        cuts = sorted(data.draw(st.lists(st.integers(0, len(wire)), max_size=5)))
        deframer = Deframer()
        pieces = [wire[start:end] for start, end in zip([0, *cuts], [*cuts, len(wire)], strict=True)]
        assert [message for piece in pieces for message in deframer.feed(piece)] == expected
        assert deframer.pending == 0

    @given(st.lists(st.binary(max_size=50), max_size=6))
    @settings(max_examples=100)
    def test_arbitrary_bytes_raise_nothing_but_framing_errors(self, pieces: list[bytes]) -> None:
        deframer = Deframer()
        try:
            for piece in pieces:
                list(deframer.feed(piece))
        except FramingError:
            pass
        assert deframer.pending <= sum(map(len, pieces))

    @pytest.mark.parametrize("wire", [b"99999999 ", b"12345678", b"1x <1>", b"9999999 <1>"])
    def test_a_bad_octet_count_ends_it(self, wire: bytes) -> None:
        with pytest.raises(FramingError):
            list(Deframer().feed(wire))

    def test_an_endless_line_ends_it(self) -> None:
        with pytest.raises(FramingError):
            list(Deframer().feed(b"<" + b"x" * (1024 * 1024 + 1)))


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (cef("a-1"), "a-1"),
        (b"CEF:0|a|b|c|d|e|5|msg=has externalId inside externalId=a b\\=c rt=1", "a b=c"),
        (b"CEF:0|a|b|c|d|e|5|externalId=last", "last"),
        (b"CEF:0|externalId=x|b|c|d|e|5|msg=none", None),
        (b"CEF:0|a|b|c|d|e|5|externalId= msg=empty", None),
        (b"<134>1 - - - - - - no cef externalId=x", None),
        (b"CEF:0|too|short|externalId=x", None),
    ],
)
def test_the_alert_id_is_cefs_external_id(message: bytes, expected: str | None) -> None:
    assert alert_id(message) == expected


class TestReceiving:
    def test_both_framings_on_one_connection_and_every_byte_counted(self, siem: SiemStandIn) -> None:
        wire = octets(cef("a")) + cef("b") + b"\n" + octets(cef("a")) + b"<13>plain\r\n"
        with connect(siem) as connection:
            connection.sendall(wire)
            seen = until(lambda: stats(siem), lambda s: s["messages"] == 4)
        assert (seen["distinct"], seen["repeated"], seen["without_id"], seen["bytes_in"]) == (2, 1, 1, len(wire))
        assert requests.get(f"{siem.url}/_ids", timeout=5).text.split() == ["a", "b"]
        last = requests.get(f"{siem.url}/_messages?limit=2", timeout=5).json()
        assert [entry["alert"] for entry in last] == ["a", None]

    def test_over_tls_the_encrypted_bytes_are_counted(self, siem: SiemStandIn, certificates: CertificateFiles) -> None:
        wire = octets(cef("a")) * 100
        raw = socket.create_connection((siem.host, siem.tls_port), timeout=5)
        with certificates.client_context().wrap_socket(raw, server_hostname="127.0.0.1") as connection:
            connection.sendall(wire)
            seen = until(lambda: stats(siem), lambda s: s["messages"] == 100)
            assert seen["connections"][0]["tls"] is True
            # Record headers and tags, and a handshake in both directions.
            assert len(wire) + 200 < seen["bytes_in"] < len(wire) + 4000
            assert seen["bytes_out"] > 500

    def test_a_client_certificate_may_be_demanded(self, certificates: CertificateFiles) -> None:
        with SiemStandIn(certificates=certificates, client_certificate=True) as siem:
            for known in (False, True):
                raw = socket.create_connection((siem.host, siem.tls_port), timeout=5)
                context = certificates.client_context(client_certificate=known)
                try:
                    with context.wrap_socket(raw, server_hostname="localhost") as connection:
                        connection.sendall(octets(cef("a")))
                        if not known:
                            connection.recv(1)  # TLS 1.3 tells of the refusal only with the first answer
                except (ssl.SSLError, ConnectionError):
                    assert not known
            seen = until(lambda: stats(siem), lambda s: s["messages"] == 1)
            assert seen["connections"][0]["error"]

    def test_plain_text_on_the_tls_port_is_turned_away(self, siem: SiemStandIn) -> None:
        with socket.create_connection((siem.host, siem.tls_port), timeout=5) as connection:
            connection.sendall(octets(cef("a")))
            until(lambda: stats(siem), lambda s: bool(s["connections"][0]["error"]))
        assert stats(siem)["messages"] == 0

    def test_a_connection_that_ends_within_a_message_is_noted(self, siem: SiemStandIn) -> None:
        with connect(siem) as connection:
            connection.sendall(octets(cef("a"))[:-1])
        seen = until(lambda: stats(siem), lambda s: s["connections_total"] == 1 and s["connections_open"] == 0)
        assert "within a message" in seen["connections"][0]["error"]
        assert seen["messages"] == 0

    def test_only_the_last_messages_are_held_in_memory_and_all_in_the_file(self, tmp_path: Path) -> None:
        with SiemStandIn(data=tmp_path, keep=3) as siem:
            with connect(siem) as connection:
                connection.sendall(b"".join(octets(cef(f"a{number}")) for number in range(10)))
                until(lambda: stats(siem), lambda s: s["messages"] == 10)
            assert len(requests.get(f"{siem.url}/_messages?limit=100", timeout=5).json()) == 3
        kept = [json.loads(line)["alert"] for line in (tmp_path / "messages.ndjson").read_text().splitlines()]
        assert kept == [f"a{number}" for number in range(10)]


class TestMisbehaviour:
    def test_refusing_closes_what_is_open_and_lets_nobody_in_until_told(self, siem: SiemStandIn) -> None:
        with connect(siem) as connection:
            until(lambda: stats(siem), lambda s: s["connections_open"] == 1)
            control(siem, refuse=True)
            assert connection.recv(1) == b""
        with pytest.raises(ConnectionRefusedError):
            connect(siem)
        control(siem, refuse=False)
        with connect(siem) as connection:
            connection.sendall(octets(cef("a")))
            until(lambda: stats(siem), lambda s: s["messages"] == 1)

    def test_reset_after_so_many_bytes(self, siem: SiemStandIn) -> None:
        control(siem, reset_after=100)
        with connect(siem) as connection:
            connection.sendall(b"<13>" + b"x" * 200)
            with pytest.raises(ConnectionResetError):
                connection.recv(1)
        assert stats(siem)["connections"][0]["error"] == "reset as told"
        with connect(siem) as connection:
            connection.sendall(octets(cef("a")))
            until(lambda: stats(siem), lambda s: s["messages"] == 1)

    def test_reset_now(self, siem: SiemStandIn) -> None:
        with connect(siem) as connection:
            until(lambda: stats(siem), lambda s: s["connections_open"] == 1)
            control(siem, reset=True)
            with pytest.raises(ConnectionResetError):
                connection.recv(1)

    def test_stopped_reading_stalls_the_sender_and_loses_nothing(self, siem: SiemStandIn) -> None:
        control(siem, stop_reading=True)
        message = octets(cef("a") + b" msg=" + b"x" * 60_000)
        with connect(siem) as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8192)
            connection.setblocking(False)
            sent = send_until_it_blocks(connection, message, 100 * len(message))
            assert stats(siem)["bytes_in"] == 0
            control(siem, stop_reading=False)
            until(lambda: stats(siem), lambda s: s["bytes_in"] == sent)
            assert stats(siem)["messages"] == sent // len(message)

    def test_slow_reading_takes_its_time(self, siem: SiemStandIn) -> None:
        control(siem, read_bytes_per_second=100_000)
        wire = octets(cef("a") + b" msg=" + b"x" * 50_000)
        began = time.monotonic()
        with connect(siem) as connection:
            connection.sendall(wire + octets(cef("b")))
            until(lambda: stats(siem), lambda s: s["messages"] == 2)
        assert time.monotonic() - began > 0.25

    def test_a_wish_that_is_not_understood_is_refused(self, siem: SiemStandIn) -> None:
        assert requests.post(f"{siem.url}/_control", json={"refused": True}, timeout=5).status_code == 400


def test_it_runs_as_a_process_that_says_when_it_is_ready(tmp_path: Path, certificates: CertificateFiles) -> None:
    command = [sys.executable, "-m", "weir.local.standins.siem", "--certificates", str(certificates.ca.parent)]
    with subprocess.Popen([*command, "--data", str(tmp_path)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        ready = json.loads(process.stdout.readline())
        assert ready["ready"] is True
        for port in (ready["port"], ready["tcp_port"], ready["tls_port"]):
            socket.create_connection(("127.0.0.1", port), timeout=5).close()
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
