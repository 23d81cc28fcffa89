"""Health endpoints: bounded, on IPv4 and IPv6, on an inherited socket; and how late an event loop is."""

from __future__ import annotations

import contextlib
import http.client
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import eventually
from weir import __version__
from weir.ops.telemetry import HealthServer


def free_port(host: str = "127.0.0.1") -> int:
    with socket.create_server((host, 0), family=socket.AF_INET6 if ":" in host else socket.AF_INET) as sock:
        port: int = sock.getsockname()[1]
        return port


def ask(port: int, path: str, host: str = "127.0.0.1", method: str = "GET") -> tuple[int, str]:
    connection = http.client.HTTPConnection(host, port, timeout=10)
    with contextlib.closing(connection):
        connection.request(method, path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()


@contextlib.contextmanager
def health(host: str = "127.0.0.1", port: int | None = None, reason: str | None = None) -> Iterator[int]:
    port = free_port() if port is None else port
    server = HealthServer(host, port, lambda: reason, lambda: "a 1\n")
    try:
        yield port
    finally:
        server.close()


def test_live_ready_and_metrics() -> None:
    with health() as port:
        assert ask(port, "/healthz") == (200, "ok\n")
        assert ask(port, "/readyz?verbose") == (200, "ready\n")
        assert ask(port, "/metrics") == (200, "a 1\n")
        assert ask(port, "/healthz", method="HEAD") == (200, "")
        assert ask(port, "/other")[0] == 404


def test_not_ready_says_why() -> None:
    with health(reason="no Kafka") as port:
        assert ask(port, "/readyz") == (503, "no Kafka\n")
        assert ask(port, "/healthz") == (200, "ok\n")


def test_port_0_is_off() -> None:
    with health(port=0) as port:
        assert port == 0


def test_a_port_in_use_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match=f"cannot listen for health on 127.0.0.1 port {port}"):
            HealthServer("127.0.0.1", port, lambda: None)


@pytest.mark.skipif(not Path("/proc/net/if_inet6").exists(), reason="this machine has no IPv6")
def test_ipv6_and_both_at_once() -> None:
    with health("::1", free_port("::1")) as port:
        assert ask(port, "/healthz", "::1") == (200, "ok\n")
    with health("::") as port:
        assert ask(port, "/healthz") == (200, "ok\n")
        assert ask(port, "/healthz", "::1") == (200, "ok\n")


def test_a_socket_that_is_inherited() -> None:
    listening = socket.create_server(("127.0.0.1", 0))
    port = listening.getsockname()[1]
    with health(f"fd:{listening.detach()}", port):
        assert ask(port, "/healthz") == (200, "ok\n")


def test_silent_clients_take_a_bounded_number_of_threads() -> None:
    with health() as port, contextlib.ExitStack() as stack:
        before = threading.active_count()
        silent = [stack.enter_context(socket.create_connection(("127.0.0.1", port))) for _ in range(40)]
        # The rest is closed unheard.
        eventually(lambda: sum(_closed(sock) for sock in silent) == 40 - 16)
        assert threading.active_count() <= before + 16
        for sock in silent:
            sock.close()
        eventually(lambda: _answers(port))


def _closed(sock: socket.socket) -> bool:
    try:
        return sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b""
    except BlockingIOError:
        return False
    except ConnectionError:
        return True


def _answers(port: int) -> bool:
    with contextlib.suppress(OSError, http.client.HTTPException):
        return ask(port, "/healthz") == (200, "ok\n")
    return False


def test_a_client_that_hangs_up_is_no_news(capfd: pytest.CaptureFixture[str]) -> None:
    with health() as port:
        sock = socket.create_connection(("127.0.0.1", port))
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        sock.sendall(b"GET /met")
        sock.close()
        assert ask(port, "/healthz") == (200, "ok\n")
    assert "Traceback" not in capfd.readouterr().err


def test_version_process_and_lag_are_metrics() -> None:
    """Asked of a process of its own: the meter provider can be set once only."""
    code = """
import asyncio, time
from weir.ops import telemetry
telemetry._LAG_SECONDS = 0.01
telemetry.setup_metrics("receive.test", "one")
async def main():
    watch = asyncio.create_task(telemetry.watch_lag())
    await asyncio.sleep(0.03)
    time.sleep(0.3)
    await asyncio.sleep(0.03)
    watch.cancel()
asyncio.run(main())
print(telemetry.own_metrics())
"""
    out = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    lines = out.splitlines()
    (build,) = [line for line in lines if line.startswith("weir_build_info")]
    assert f'version="{__version__}"' in build
    assert build.endswith(" 1.0")
    (lag,) = [line for line in lines if line.startswith("weir_event_loop_lag_seconds")]
    assert 0.2 < float(lag.rpartition(" ")[2]) < 5
    if sys.platform == "linux":
        for name in ("process_resident_memory_bytes", "process_cpu_seconds_total", "process_open_fds"):
            assert any(line.startswith(f"{name} ") for line in lines), name
