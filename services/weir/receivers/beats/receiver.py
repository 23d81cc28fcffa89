"""The Beats receiver: Lumberjack and HTTP(S), both acknowledged only when Kafka has acknowledged."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from weir.ops.logging import get
from weir.ops.tls import ServerTls
from weir.receivers.beats.http import HttpServer, HttpSettings
from weir.receivers.beats.lumberjack import READ_BYTES, Connection, LumberjackSettings
from weir.receivers.listening.limits import ConnectionLimits
from weir.receivers.listening.listener import Admission, Listener, Port
from weir.receivers.publishing.batching import Source
from weir.receivers.publishing.memory import FrameBudget, Seldom
from weir.receivers.publishing.publisher import Publisher
from weir.receivers.service import kafka_producer, run

__all__ = ["SERVICE", "BeatsReceiver", "BeatsSettings", "build", "main"]

SERVICE = "receive.beats"
_ERROR_SECONDS = 60.0


class BeatsSettings(LumberjackSettings, HttpSettings):
    """What the Beats receiver reads."""


class BeatsReceiver:
    """Listens for Beats and for HTTP, and hands documents to the publisher."""

    def __init__(self, settings: BeatsSettings, publisher: Publisher) -> None:
        self.settings = settings
        self.publisher = publisher
        self.frames = FrameBudget(settings.beats_frame_memory_bytes)
        self.port = settings.beats_port
        self.http_port = settings.http_port
        self._log = get(f"weir.{SERVICE}")
        self._say = Seldom(10.0, time.monotonic)
        self._reportable = Seldom(_ERROR_SECONDS, time.monotonic)
        self._connections: dict[Connection, asyncio.Task[Any] | None] = {}
        self._listener: Listener | None = None
        self._http: HttpServer | None = None
        self._stopping = False

    async def start(self) -> None:
        """Open the sockets. Raises OSError where one cannot be had, or TLS's files cannot be used."""
        settings = self.settings
        tls = ServerTls.of(settings)
        if settings.beats_port >= 0:
            port = Port(
                name="BEATS",
                host=settings.beats_host,
                port=settings.beats_port,
                backlog=settings.beats_backlog,
                tls=tls if settings.beats_tls == "auto" else None,
                handshake_seconds=settings.beats_handshake_seconds,
                plain_hint="turn TLS on at the sender (Filebeat: output.logstash ssl.enabled: true), or set WEIR_BEATS_TLS=off",
                tls_hint="set WEIR_TLS_CERTIFICATE_FILE and WEIR_TLS_KEY_FILE, or turn TLS off at the sender",
                refuse_crowded=True,
                proxy=settings.beats_proxy(),
                reuse_port=settings.receiver_processes > 1,
            )
            limits = ConnectionLimits(
                settings.beats_max_connections,
                settings.beats_max_connections_per_source,
                settings.beats_connection_rate,
                time.monotonic,
            )
            self._listener = Listener(port, limits, self._admitted, self.publisher.metrics, SERVICE)
            self._listener.start(settings.beats_max_connections)
            self.port = self._listener.port
        if settings.http_port >= 0:
            self._http = HttpServer(settings, self.publisher, tls, SERVICE)
            self._http.start()
            self.http_port = self._http.port

    def _admitted(self, admission: Admission) -> asyncio.BaseProtocol:
        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await self._connected(admission, reader, writer)

        return asyncio.StreamReaderProtocol(asyncio.StreamReader(limit=READ_BYTES), connected)

    async def _connected(self, admission: Admission, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._stopping:  # accepted right before the stop, which did not see it
            writer.close()
            admission.leave()
            return
        connection = Connection(self, admission, reader, writer)
        self._connections[connection] = asyncio.current_task()
        self.publisher.metrics.connected(1)
        try:
            await connection.run()
        finally:
            del self._connections[connection]
            admission.leave()
            self.publisher.metrics.connected(-1)

    def complain(self, event: str, source: str, error: str) -> None:
        """Say once in a while what a client does wrong."""
        self.publisher.metrics.refused(event)
        if self._say((event, source)):
            self._log.warning(event, source=source, error=error, action="connection closed, nothing acknowledged")

    def report(self, source: Source, port: int | None, offending: bytes) -> None:
        """Send the bytes that broke a connection to the raw topic, under a transport of which the processor makes dead letters.

        Once a minute and source: a client whose window cannot be read connects anew and sends it again, for ever.
        """
        if not self._reportable(source.ip) or self.publisher.memory.shut:
            return
        batch = self.publisher.begin(source._replace(transport="lumberjack-error"))
        self.publisher.add(batch, offending, port)
        self.publisher.publish(batch)

    async def stop(self) -> None:
        """Take no more connections and documents; end each connection when what it waits for is acknowledged."""
        if self._listener is not None:
            await self._listener.stop()
        self._stopping = True
        for connection in list(self._connections):
            connection.stop()
        await asyncio.gather(self._stop_lumberjack(), self._stop_http())

    async def _stop_lumberjack(self) -> None:
        tasks = [task for task in self._connections.values() if task is not None]
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=self.settings.receiver_stop_seconds + 2.0)
            for task in late:
                task.cancel()

    async def _stop_http(self) -> None:
        if self._http is not None:
            await self._http.stop(self.settings.receiver_stop_seconds)


def build(settings: BeatsSettings) -> BeatsReceiver:
    """A receiver with its publisher, in the running loop."""
    publisher = Publisher(settings, service=SERVICE, topic="raw.beats", make_producer=lambda: kafka_producer(settings))
    return BeatsReceiver(settings, publisher)


def main(settings: BeatsSettings) -> None:
    """Receive from Beats and over HTTP until SIGTERM or SIGINT. Raises SystemExit with status 1 where it cannot listen."""
    run(settings, SERVICE, build)
