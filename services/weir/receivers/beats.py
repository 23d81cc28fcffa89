"""The Beats receiver: Lumberjack over TCP, acknowledged only when Kafka has acknowledged.

A connection's documents go into raw batches as they come and without lingering: a batch is published when it is full or when its
window is complete. The window is acknowledged when all its batches are in Kafka, windows in the order in which they came. While
a client waits it is sent an acknowledgement of 0 every few seconds, as go-lumber's server does (server/internal/handler.go, every
3 s by default): its client takes each as a sign of life and goes on waiting, instead of giving up after 30 s and sending all
again. What has not been acknowledged when the connection ends is the client's to send again.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections import deque
from typing import Any

from pydantic import Field

from weir.ops.logging import get
from weir.protocols.lumberjack import Document, Frame, LumberjackError, LumberjackParser, Window, ack
from weir.receivers.batching import OpenBatch, Source, cut
from weir.receivers.memory import FrameBudget, Seldom
from weir.receivers.publisher import Publisher
from weir.receivers.service import kafka_producer, run
from weir.receivers.settings import ReceiverSettings
from weir.receivers.udp import plain_address

__all__ = ["SERVICE", "BeatsReceiver", "BeatsSettings", "main"]

SERVICE = "receive.beats"
_READ_BYTES = 65_536
_OFFENDING_BYTES = 65_536
_UNREAD_ACKS_BYTES = 65_536
_ERROR_SECONDS = 60.0


class BeatsSettings(ReceiverSettings):
    """What the Beats receiver reads."""

    beats_host: str = Field("0.0.0.0", min_length=1, description="address to listen on; '::' for IPv4 and IPv6")
    beats_port: int = Field(5044, ge=0, le=65535, description="TCP port for Lumberjack; 0 takes any free one")
    beats_max_connections: int = Field(1_024, ge=1, le=65_536, description="connections at once; further ones are refused")
    beats_backlog: int = Field(512, ge=1, le=65_535, description="connections that wait to be accepted")
    beats_max_window: int = Field(65_536, ge=1, le=1_000_000, description="documents in one window at most")
    beats_max_windows: int = Field(64, ge=1, le=10_000, description="windows of one connection that wait to be acknowledged")
    beats_max_document_bytes: int = Field(
        786_432,
        ge=1_024,
        le=786_432,
        description="longer documents are cut to this, marked with length and hash, and dead-lettered",
    )
    beats_max_frame_bytes: int = Field(
        16 * 1024 * 1024, ge=65_536, le=256 * 1024**2, description="one frame on the wire; a longer one closes the connection"
    )
    beats_max_inflated_bytes: int = Field(
        64 * 1024 * 1024, ge=65_536, le=1024**3, description="what one compressed frame may become; more closes the connection"
    )
    beats_connection_bytes: int = Field(
        16 * 1024 * 1024,
        ge=2 * 1024 * 1024,
        le=1024**3,
        description="bytes of one connection not yet acknowledged by Kafka, above which it is not read",
    )
    beats_frame_memory_bytes: int = Field(
        64 * 1024 * 1024, ge=1024 * 1024, le=16 * 1024**3, description="bytes of unfinished frames of all connections together"
    )
    beats_stalled_seconds: float = Field(
        60.0, gt=0, le=3_600, description="a connection silent for so long in the middle of a window is closed"
    )
    beats_keepalive_seconds: float = Field(
        3.0, gt=0, le=60, description="how often a client that waits for Kafka is told that it is not forgotten"
    )


class _Window:
    """Documents announced together and acknowledged together."""

    __slots__ = ("complete", "last_sequence", "missing", "unsettled", "version")

    def __init__(self, size: int, version: int) -> None:
        self.missing = size
        self.version = version
        self.last_sequence = 0
        self.unsettled = 0
        self.complete = False


class _Connection:
    """One client; one task reads, Kafka's answers come as callbacks."""

    def __init__(self, receiver: BeatsReceiver, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        settings = receiver.settings
        self._receiver = receiver
        self._publisher = receiver.publisher
        self._reader = reader
        self._writer = writer
        peer = writer.get_extra_info("peername")
        local = writer.get_extra_info("sockname")
        host: str = plain_address(peer[0]) if peer else ""
        self._port: int | None = peer[1] if peer else None
        self._source = Source(host, "lumberjack", local[1] if local else 0)
        self._parser = LumberjackParser(
            settings.beats_max_window, settings.beats_max_frame_bytes, settings.beats_max_inflated_bytes
        )
        self._windows: deque[_Window] = deque()
        self._filling: _Window | None = None
        self._batch: OpenBatch | None = None
        self._unsettled_bytes = 0
        self._frame_head = b""
        self._settled = asyncio.Event()
        self._ended = False
        self._stopping = False
        self._reading: asyncio.Task[Any] | None = None

    # Reading

    async def run(self) -> None:
        """Until the client closes, sends what is no Lumberjack, or stalls in the middle of a window."""
        memory = self._publisher.memory
        memory.watch(self)
        beating = asyncio.create_task(self._keep_alive())
        try:
            if await self._read_all():
                await self._until_acknowledged()
        except LumberjackError as error:
            self._receiver.complain("not Lumberjack", self._source, str(error))
        except TimeoutError:
            seconds = self._receiver.settings.beats_stalled_seconds
            self._receiver.complain("stalled", self._source, f"silent for {seconds:.0f} s in the middle of a window")
        except OSError:
            pass  # the client is gone; it will send again what was not acknowledged
        finally:
            beating.cancel()
            memory.unwatch(self)
            self._ended = True
            self._forget()
            self._writer.close()
        with contextlib.suppress(OSError):
            async with asyncio.timeout(1.0):
                await self._writer.wait_closed()

    async def _read_all(self) -> bool:
        """Take what comes until the client ends or `stop` is called."""
        self._reading = asyncio.current_task()
        try:
            while True:
                await self._may_read()
                data = await self._read()
                if not data:
                    return True
                self._take(data)
        except asyncio.CancelledError:
            if not self._stopping or self._reading is None:
                raise
            self._reading.uncancel()
            return True
        finally:
            self._reading = None
            self._forget()

    def _forget(self) -> None:
        """What is here of an unfinished window: nobody was told that it is safe, and the client sends it again."""
        self._receiver.frames.update(self, 0)
        if self._batch is not None:
            self._publisher.discard(self._batch)
            self._batch = None

    async def _may_read(self) -> None:
        settings = self._receiver.settings
        if self._publisher.memory.shut:
            # Whoever waits for memory must not hold any that only it can set free.
            self._publish()
        await self._publisher.memory.room()
        await self._receiver.frames.admit(self)
        while self._unsettled_bytes >= settings.beats_connection_bytes or len(self._windows) >= settings.beats_max_windows:
            self._publish()
            self._settled.clear()
            await self._settled.wait()

    async def _read(self) -> bytes:
        # Between windows a client may be silent for as long as it likes.
        busy = self._parser.buffered or self._filling is not None
        async with asyncio.timeout(self._receiver.settings.beats_stalled_seconds if busy else None):
            return await self._reader.read(_READ_BYTES)

    def _take(self, data: bytes) -> None:
        try:
            frames = self._parser.feed(data)
            for frame in frames:
                self._frame(frame)
        except LumberjackError:
            self._receiver.report(self._source, self._port, (self._frame_head + data)[:_OFFENDING_BYTES])
            raise
        held = self._parser.buffered
        if held == 0:
            self._frame_head = b""
        elif held <= len(data):
            self._frame_head = data[-held:][:_OFFENDING_BYTES]
        else:
            self._frame_head += data[: _OFFENDING_BYTES - len(self._frame_head)]
        if frames:
            # Whoever was let past the ceiling for one frame has had its turn.
            self._receiver.frames.update(self, 0)
        self._receiver.frames.update(self, held)

    def _frame(self, frame: Frame) -> None:
        if isinstance(frame, Document):
            self._document(frame)
        elif isinstance(frame, Window):
            self._begin(frame)
        else:
            raise LumberjackError("a client sent an acknowledgement")

    def _begin(self, frame: Window) -> None:
        if self._filling is not None:
            self._complete(self._filling)  # fewer documents than announced: what there is counts
        if frame.size:
            self._filling = _Window(frame.size, frame.version)
            self._windows.append(self._filling)

    def _document(self, document: Document) -> None:
        window = self._filling
        if window is None:
            raise LumberjackError(f"document {document.sequence} is beyond its window")
        payload, length, digest = cut(document.payload, self._receiver.settings.beats_max_document_bytes)
        batch, settings = self._batch, self._receiver.settings
        if batch is not None and (
            len(batch.units) >= settings.receiver_batch_units or not batch.fits(payload, settings.receiver_batch_bytes)
        ):
            self._publish()
            batch = None
        if batch is None:
            batch = self._batch = self._publisher.begin(self._source)
        window.last_sequence = document.sequence
        window.missing -= 1
        self._publisher.add(batch, payload, self._port, length, digest)
        if window.missing == 0:
            self._complete(window)

    def _complete(self, window: _Window) -> None:
        self._filling = None
        self._publish(window)
        window.complete = True
        if window.last_sequence == 0 and not window.unsettled:
            self._windows.remove(window)  # announced, but nothing came
        self._acknowledge()

    # Publishing and acknowledging

    def _publish(self, window: _Window | None = None) -> None:
        """What has been collected of the window under way."""
        window = window or self._filling
        batch, self._batch = self._batch, None
        if batch is None or window is None:
            return
        size = batch.cost
        window.unsettled += 1
        self._unsettled_bytes += size

        def settled() -> None:
            window.unsettled -= 1
            self._unsettled_bytes -= size
            self._settled.set()
            self._acknowledge()

        self._publisher.publish(batch, settled)

    def _acknowledge(self) -> None:
        while self._windows and self._windows[0].complete and not self._windows[0].unsettled:
            window = self._windows.popleft()
            self._send(ack(window.last_sequence, window.version))
        self._settled.set()

    def _send(self, frame: bytes) -> None:
        if self._ended or self._writer.is_closing():
            return
        if self._writer.transport.get_write_buffer_size() > _UNREAD_ACKS_BYTES:
            self._writer.transport.abort()  # a client that reads no acknowledgements will not miss this connection
            return
        self._writer.write(frame)

    async def _keep_alive(self) -> None:
        while True:
            await asyncio.sleep(self._receiver.settings.beats_keepalive_seconds)
            # Version 1 knows no such thing: a client of it may take it for an error.
            if self._windows and self._windows[0].complete and self._windows[0].version == 2:
                self._send(ack(0))

    # Memory is full: stop reading, and let Kafka have what there is

    def pause(self) -> None:
        self._publish()

    def resume(self) -> None:
        """`_may_read` waits by itself."""

    # Stopping

    def stop(self) -> None:
        """Read nothing more, then end once all complete windows are acknowledged."""
        self._stopping = True
        if self._reading is not None:
            self._reading.cancel()

    async def _until_acknowledged(self) -> None:
        try:
            async with asyncio.timeout(self._receiver.settings.receiver_stop_seconds):
                while self._windows and self._windows[0].complete:
                    self._settled.clear()
                    await self._settled.wait()
        except TimeoutError:
            pass


class BeatsReceiver:
    """Listens for Beats and hands their documents to the publisher."""

    def __init__(self, settings: BeatsSettings, publisher: Publisher) -> None:
        self.settings = settings
        self.publisher = publisher
        self.frames = FrameBudget(settings.beats_frame_memory_bytes)
        self.port = settings.beats_port
        self._log = get(f"weir.{SERVICE}")
        self._say = Seldom(10.0, time.monotonic)
        self._reportable = Seldom(_ERROR_SECONDS, time.monotonic)
        self._connections: dict[_Connection, asyncio.Task[Any] | None] = {}
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Open the socket. Raises OSError where it cannot be had."""
        settings = self.settings
        self._server = await asyncio.start_server(
            self._connected, settings.beats_host, settings.beats_port, limit=_READ_BYTES, backlog=settings.beats_backlog
        )
        self.port = self._server.sockets[0].getsockname()[1]
        self._log.info("listening", host=settings.beats_host, tcp_port=self.port)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._connections) >= self.settings.beats_max_connections:
            self.publisher.metrics.refused("too many connections")
            if self._say("connections"):
                self._log.warning("connection refused", connections=len(self._connections), hint="WEIR_BEATS_MAX_CONNECTIONS")
            writer.transport.abort()
            return
        sock: Any = writer.get_extra_info("socket")
        if sock is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        connection = _Connection(self, reader, writer)
        self._connections[connection] = asyncio.current_task()
        self.publisher.metrics.connected(1)
        try:
            await connection.run()
        finally:
            del self._connections[connection]
            self.publisher.metrics.connected(-1)

    def complain(self, event: str, source: Source, error: str) -> None:
        """Say once in a while what a client does wrong."""
        self.publisher.metrics.refused(event)
        if self._say((event, source.ip)):
            self._log.warning(event, source=source.ip, error=error, action="connection closed, nothing acknowledged")

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
        """Take no more connections and documents; end each connection when its windows are acknowledged."""
        if self._server is not None:
            self._server.close()
        for connection in list(self._connections):
            connection.stop()
        tasks = [task for task in self._connections.values() if task is not None]
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=self.settings.receiver_stop_seconds + 2.0)
            for task in late:
                task.cancel()


def build(settings: BeatsSettings) -> BeatsReceiver:
    """A receiver with its publisher, in the running loop."""
    publisher = Publisher(settings, service=SERVICE, topic="raw.beats", make_producer=lambda: kafka_producer(settings))
    return BeatsReceiver(settings, publisher)


def main(settings: BeatsSettings) -> None:
    """Receive from Beats until SIGTERM or SIGINT. Raises SystemExit with status 1 where it cannot listen."""
    run(settings, SERVICE, build)
