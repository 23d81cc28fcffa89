"""OpenTelemetry metrics with a Prometheus reader, and the health endpoints.

`/healthz` answers 200 while the process can answer at all; `/readyz` answers 200 when the service says it can do its work, else
503 with the reason; `/metrics` is Prometheus text.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from opentelemetry.metrics import Meter

__all__ = ["HealthServer", "meter", "setup_metrics"]


def setup_metrics(service: str, instance: str) -> None:
    """Install the meter provider of this process; metrics made before that are no-ops."""
    # Imported here: a fifth of a second that the tools need not pay.
    from opentelemetry import metrics  # noqa: PLC0415
    from opentelemetry.exporter.prometheus import PrometheusMetricReader  # noqa: PLC0415
    from opentelemetry.sdk.metrics import MeterProvider  # noqa: PLC0415
    from opentelemetry.sdk.resources import Resource  # noqa: PLC0415

    resource = Resource.create({"service.name": f"weir.{service}", "service.instance.id": instance})
    metrics.set_meter_provider(MeterProvider(metric_readers=[PrometheusMetricReader()], resource=resource))


def meter(name: str) -> Meter:
    """A meter; names of instruments begin with "weir."."""
    from opentelemetry import metrics  # noqa: PLC0415

    return metrics.get_meter(name)


class HealthServer:
    """Health and metrics over HTTP in a thread of its own, so that a busy event loop still answers.

    Args:
        host, port: where to listen; port 0 starts nothing.
        ready: returns None when the service is ready, else the reason why not.
    """

    def __init__(self, host: str, port: int, ready: Callable[[], str | None]) -> None:
        self.port = port
        self._server: ThreadingHTTPServer | None = None
        if port == 0:
            return

        class Handler(BaseHTTPRequestHandler):
            timeout = 10.0  # each connection has a thread: none may be held by a client that says nothing

            def do_GET(self) -> None:
                if self.path == "/healthz":
                    self._answer(200, "ok\n")
                elif self.path == "/readyz":
                    reason = ready()
                    self._answer(200 if reason is None else 503, (reason or "ready") + "\n")
                elif self.path == "/metrics":
                    from prometheus_client import generate_latest  # noqa: PLC0415

                    self._answer(200, generate_latest().decode(), "text/plain; version=0.0.4; charset=utf-8")
                else:
                    self._answer(404, "there are /healthz, /readyz and /metrics\n")

            def _answer(self, status: int, text: str, kind: str = "text/plain; charset=utf-8") -> None:
                body = text.encode()
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                """Probes every few seconds are no news."""

        self._server = ThreadingHTTPServer((host, port), Handler)
        threading.Thread(target=self._server.serve_forever, name="health", daemon=True).start()

    def close(self) -> None:
        """Stop listening."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
