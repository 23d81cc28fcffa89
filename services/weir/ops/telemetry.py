"""OpenTelemetry metrics with a Prometheus reader, and the health endpoints.

`/healthz` answers 200 while the process can answer at all; `/readyz` answers 200 when the service says it can do its work, else
503 with the reason; `/metrics` is Prometheus text. Memory, CPU time and open files of the process are in there by prometheus_client
itself (`process_resident_memory_bytes`, `process_cpu_seconds_total`, `process_open_fds`).
"""

from __future__ import annotations

import asyncio
import contextlib
import platform
import socket
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

from weir import __version__

if TYPE_CHECKING:
    from opentelemetry.metrics import Meter

__all__ = ["METRICS_TYPE", "HealthServer", "meter", "own_metrics", "setup_metrics", "watch_lag"]

METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_MAX_REQUESTS = 16
_LAG_SECONDS = 0.5
_LAG_REMEMBERED = 20


def setup_metrics(service: str, instance: str) -> None:
    """Install the meter provider of this process; instruments made before count nothing until then."""
    # Imported here: a fifth of a second that the tools need not pay.
    from opentelemetry import metrics  # noqa: PLC0415
    from opentelemetry.exporter.prometheus import PrometheusMetricReader  # noqa: PLC0415
    from opentelemetry.sdk.metrics import MeterProvider  # noqa: PLC0415
    from opentelemetry.sdk.resources import Resource  # noqa: PLC0415

    about = {"service.name": f"weir.{service}", "service.instance.id": instance, "service.version": __version__}
    metrics.set_meter_provider(MeterProvider(metric_readers=[PrometheusMetricReader()], resource=Resource.create(about)))
    build = meter("weir.build").create_gauge("weir.build.info", "1", "Always 1; the labels say what runs here")
    build.set(1, {"version": __version__, "service": service, "python_version": platform.python_version()})


def meter(name: str) -> Meter:
    """A meter; names of instruments begin with "weir."."""
    from opentelemetry import metrics  # noqa: PLC0415

    return metrics.get_meter(name)


def own_metrics() -> str:
    """The metrics of this process as Prometheus text."""
    from prometheus_client import generate_latest  # noqa: PLC0415

    return generate_latest().decode()


async def watch_lag() -> None:
    """Measure how late the event loop is, until cancelled: the worst of the last ten seconds.

    A loop that is late by more than a fraction of a second has more to do than one CPU can.
    """
    gauge = meter("weir.event_loop").create_gauge(
        "weir.event_loop.lag", "s", "How late the event loop was for a timer, the worst of the last ten seconds"
    )
    loop = asyncio.get_running_loop()
    late: list[float] = []
    while True:
        due = loop.time() + _LAG_SECONDS
        await asyncio.sleep(_LAG_SECONDS)
        late = [*late[1 - _LAG_REMEMBERED :], max(0.0, loop.time() - due)]
        gauge.set(max(late))


class _Server(ThreadingHTTPServer):
    """A thread for each request, but not more than so many: further connections are closed unheard."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, address: tuple[Any, ...], handler: type[BaseHTTPRequestHandler], family: int, given: int | None) -> None:
        self.address_family = family
        self._free = threading.BoundedSemaphore(_MAX_REQUESTS)
        super().__init__(address, handler, bind_and_activate=False)
        try:
            if given is not None:
                self.socket.close()
                self.socket = socket.socket(fileno=given)
                self.server_address = self.socket.getsockname()
            else:
                if family == socket.AF_INET6:
                    self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
                self.server_bind()
            self.server_activate()
        except OSError:
            self.server_close()
            raise

    def server_bind(self) -> None:
        # Not HTTPServer's, which asks the name service for the name of the address: that can take half a minute.
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self._free.acquire(blocking=False):
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except BaseException:
            self._free.release()
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A probe that hangs up early is no news."""


class HealthServer:
    """Health and metrics over HTTP in a thread of its own, so that a busy event loop still answers.

    Args:
        host: where to listen, IPv4 or IPv6 ("::" for both), or "fd:" and the number of a listening socket that is inherited.
        port: 0 starts nothing.
        ready: returns None when the service is ready, else the reason why not.
        metrics: returns Prometheus text.

    Raises:
        OSError: the port cannot be had; the message names it.
    """

    def __init__(self, host: str, port: int, ready: Callable[[], str | None], metrics: Callable[[], str] = own_metrics) -> None:
        self.port = port
        self._server: _Server | None = None
        if port == 0:
            return

        class Handler(BaseHTTPRequestHandler):
            timeout = 10.0  # each connection has a thread: none may be held by a client that says nothing

            def do_GET(self) -> None:
                path = self.path.partition("?")[0]
                if path == "/healthz":
                    self._answer(200, "ok\n")
                elif path == "/readyz":
                    reason = ready()
                    self._answer(200 if reason is None else 503, (reason or "ready") + "\n")
                elif path == "/metrics":
                    self._answer(200, metrics(), METRICS_TYPE)
                else:
                    self._answer(404, "there are /healthz, /readyz and /metrics\n")

            do_HEAD = do_GET

            def _answer(self, status: int, text: str, kind: str = "text/plain; charset=utf-8") -> None:
                body = text.encode()
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)

            def version_string(self) -> str:
                """What runs here is for /metrics to say."""
                return "weir"

            def log_message(self, format: str, *args: object) -> None:
                """Probes every few seconds are no news."""

        try:
            if host.startswith("fd:"):
                self._server = _Server(("", port), Handler, socket.AF_INET, int(host[3:]))
            else:
                found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
                self._server = _Server(found[4], Handler, found[0], None)
        except OSError as error:
            raise OSError(error.errno, f"cannot listen for health on {host} port {port}: {error.strerror}") from error
        threading.Thread(target=self._server.serve_forever, name="health", daemon=True).start()

    def close(self) -> None:
        """Stop listening."""
        if self._server is not None:
            self._server.shutdown()
            with contextlib.suppress(OSError):
                self._server.server_close()
