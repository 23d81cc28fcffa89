"""Lumberjack connections: documents into raw batches, and acknowledged only when Kafka has acknowledged.

A connection's documents go into raw batches as they come and without lingering: a batch is published when it is full or when its
window is complete. What Kafka has of a window is acknowledged in the order in which it came: the last sequence when all of it is
there, and of version 2 before that, in a long window, the sequence up to which nothing is missing. While a client waits it is sent
an acknowledgement of 0 every few seconds, as go-lumber's server does (server/internal/handler.go, every 3 s by default).

go-lumber's client, which is Filebeat's (client/v2/client.go, AwaitACK), takes each acknowledgement below its count as a sign of
life and goes on waiting, instead of giving up after 30 s and sending all again; when the connection breaks, it sends only what is
above the last one. The old logstash-forwarder takes the first acknowledgement for that of its whole window, whatever number it
bears (publisher1.go): version 1 gets one for each window and nothing else. What has not been acknowledged when the connection
ends is the client's to send again.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from typing import Any, Protocol, Self

from pydantic import Field, model_validator

from weir.ops.tls import subject_of
from weir.protocols.lumberjack import Document, Frame, LumberjackError, LumberjackParser, Window, ack
from weir.protocols.proxy import ProxyPolicy
from weir.receivers.listening.listener import Admission, policy
from weir.receivers.publishing.batching import OpenBatch, Source
from weir.receivers.publishing.memory import FrameBudget
from weir.receivers.publishing.publisher import Publisher
from weir.receivers.settings import ReceiverSettings

__all__ = ["READ_BYTES", "Connection", "LumberjackSettings", "Server"]

READ_BYTES = 65_536
"""What is read from a connection at once."""

_OFFENDING_BYTES = 65_536
_UNREAD_ACKS_BYTES = 65_536
_TURN_SECONDS = 0.005
_EXEMPT_SECONDS = 10.0
_TRANSPORT = "lumberjack"
_HTTP_VERBS = (b"GET ", b"HEAD", b"POST", b"PUT ", b"OPTI", b"DELE", b"PATC")


class LumberjackSettings(ReceiverSettings):
    """What the Lumberjack port reads."""

    beats_host: str = Field("0.0.0.0", min_length=1, description="address to listen on; '::' for IPv4 and IPv6")
    beats_port: int = Field(5044, ge=-1, le=65535, description="TCP port for Lumberjack; 0 takes any free one, -1 turns it off")
    beats_tls: str = Field(
        "auto", pattern="^(auto|off)$", description="auto: TLS where WEIR_TLS_CERTIFICATE_FILE is set; off: plain text in any case"
    )
    beats_max_connections: int = Field(2_048, ge=1, le=65_536, description="connections at once; further ones are refused")
    beats_max_connections_per_source: int = Field(
        1_024, ge=0, le=65_536, description="connections at once from one address; further ones are refused; 0 for no limit"
    )
    beats_connection_rate: float = Field(
        200.0, ge=0, le=1_000_000, description="new connections per second of one address, ten times as many at once; 0: no limit"
    )
    beats_backlog: int = Field(512, ge=1, le=65_535, description="connections that wait to be accepted")
    beats_handshake_seconds: float = Field(
        10.0, gt=0, le=600, description="a TLS handshake that takes longer, or does not begin for so long, is given up"
    )
    beats_proxy_protocol: str = Field(
        "off",
        pattern="^(off|optional|required)$",
        description="PROXY protocol (versions 1 and 2): required refuses whoever is no balancer of WEIR_BEATS_PROXY_FROM or sends "
        "no header; optional takes others as they are, but refuses their headers",
    )
    beats_proxy_from: str = Field("", description="CIDR ranges of balancers whose PROXY header is believed, comma separated")
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

    @model_validator(mode="after")
    def _beats_proxy(self) -> Self:
        try:
            self.beats_proxy()
        except ValueError as error:
            raise ValueError(f"WEIR_BEATS_PROXY_FROM: {error}") from error
        return self

    def beats_proxy(self) -> ProxyPolicy:
        """From whom a PROXY header is taken. Raises ValueError where the settings do not say."""
        return policy(self.beats_proxy_protocol, self.beats_proxy_from)


class Server(Protocol):
    """What connections have in common."""

    publisher: Publisher
    frames: FrameBudget

    @property
    def settings(self) -> LumberjackSettings:
        """Limits and time-outs."""

    def complain(self, event: str, source: str, error: str) -> None:
        """Count and say what a client does wrong."""

    def report(self, source: Source, port: int | None, offending: bytes) -> None:
        """Keep the bytes that broke a connection."""


class _RefusedError(Exception):
    """The catalogue of sources refuses this sender."""


class _SlowError(Exception):
    """A frame that others have to wait for does not come to its end."""


class _Part:
    """What one batch holds of a window: up to which sequence, and whether Kafka has it."""

    __slots__ = ("last_sequence", "settled")

    def __init__(self, last_sequence: int) -> None:
        self.last_sequence = last_sequence
        self.settled = False


class _Window:
    """Documents announced together and acknowledged together."""

    __slots__ = ("complete", "count", "last_sequence", "missing", "parts", "regular", "safe", "told", "version")

    def __init__(self, size: int, version: int) -> None:
        self.missing = size
        self.version = version
        self.count = 0
        self.last_sequence = 0
        self.parts: deque[_Part] = deque()
        self.complete = False
        self.safe = 0
        self.told = 0
        # Whether sequences have counted up by one so far and not wrapped: only then is a lower one surely a part.
        self.regular = version == 2

    def add(self, sequence: int) -> None:
        if self.count and sequence != self.last_sequence + 1:
            self.regular = False
        self.last_sequence = sequence
        self.count += 1
        self.missing -= 1

    def advance(self) -> None:
        """See how far Kafka's answers reach without a gap."""
        while self.parts and self.parts[0].settled:
            self.safe = self.parts.popleft().last_sequence


class Connection:
    """One client; one task reads, Kafka's answers come as callbacks."""

    def __init__(self, server: Server, admission: Admission, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        settings = server.settings
        self._server = server
        self._publisher = server.publisher
        self._reader = reader
        self._writer = writer
        local = writer.get_extra_info("sockname")
        self._host = admission.host
        self._port = admission.port
        self._local_port: int = local[1] if local else 0
        self._subject = subject_of(writer.get_extra_info("ssl_object"))
        self._source = Source(self._host, _TRANSPORT, self._local_port, self._subject)
        self._parser = LumberjackParser(
            settings.beats_max_window,
            settings.beats_max_frame_bytes,
            settings.beats_max_inflated_bytes,
            settings.beats_max_document_bytes,
        )
        self._windows: deque[_Window] = deque()
        self._filling: _Window | None = None
        self._batch: OpenBatch | None = None
        self._unsettled_bytes = 0
        self._frame_head = b""
        self._begun = False
        self._settled = asyncio.Event()
        self._answer_due = False
        self._waiting = False
        self._all_taken = False
        self._ended = False
        self._stopping = False
        self._reading: asyncio.Task[Any] | None = None

    # Reading

    async def run(self) -> None:
        """Until the client closes, sends what is no Lumberjack, is refused, or stalls in the middle of a window."""
        memory = self._publisher.memory
        memory.watch(self)
        beating = asyncio.create_task(self._keep_alive())
        try:
            if await self._read_all():
                await self._until_acknowledged()
        except LumberjackError as error:
            self._server.complain("not Lumberjack", self._host, str(error))
        except _RefusedError:
            self._server.complain("source refused", self._host, "the catalogue of sources refuses this sender")
        except _SlowError:
            why = "frame memory is full, and this connection's frame kept all others waiting for too long"
            self._server.complain("slow frame", self._host, why)
        except TimeoutError:
            seconds = self._server.settings.beats_stalled_seconds
            self._server.complain("stalled", self._host, f"silent for {seconds:.0f} s in the middle of a window")
        except OSError:
            pass  # the client is gone; it will send again what was not acknowledged
        finally:
            beating.cancel()
            memory.unwatch(self)
            self._ended = True
            self._forget()
            self._writer.close()
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(1.0):
                await self._writer.wait_closed()

    async def _read_all(self) -> bool:
        """Take what comes until the client ends or `stop` is called."""
        self._reading = asyncio.current_task()
        try:
            while not self._stopping:
                self._look_up()
                await self._may_read(frames=True)
                data = await self._read()
                if not data:
                    return True
                await self._take(data)
            return True
        except asyncio.CancelledError:
            if not self._stopping or self._reading is None:
                raise
            self._reading.uncancel()
            return True
        finally:
            self._reading = None
            self._forget()

    def _look_up(self) -> None:
        source = self._publisher.sources.of(self._host, _TRANSPORT, self._local_port, self._subject)
        if source is None:
            raise _RefusedError
        if source != self._source:
            self._publish()  # what came before is labelled as it was
            self._source = source

    def _forget(self) -> None:
        """What is here of an unfinished window: nobody was told that it is safe, and the client sends it again."""
        self._server.frames.update(self, 0)
        if self._batch is not None:
            self._publisher.discard(self._batch)
            self._batch = None

    def _crowded(self) -> bool:
        """Whether Kafka has to answer before more is taken."""
        settings = self._server.settings
        return (
            self._publisher.memory.shut
            or self._unsettled_bytes >= settings.beats_connection_bytes
            or len(self._windows) - (self._filling is not None) >= settings.beats_max_windows
        )

    async def _may_read(self, *, frames: bool) -> None:
        self._waiting = True
        self._all_taken = frames or not self._parser.unfinished
        try:
            while self._crowded():
                # Whoever waits for memory must not hold any that only it can set free.
                self._publish()
                if self._publisher.memory.shut:
                    await self._publisher.memory.room()
                    continue
                self._settled.clear()
                await self._settled.wait()
            if frames:
                await self._server.frames.admit(self)
        finally:
            self._waiting = False

    async def _read(self) -> bytes:
        # Between windows a client may be silent for as long as it likes.
        busy = self._parser.unfinished or self._filling is not None
        patience = self._server.settings.beats_stalled_seconds if busy else None
        exempt = self._server.frames.exempt_for(self)
        if exempt is not None:
            # A byte a minute is not silence, but all other connections wait for this frame.
            patience = max(0.0, min(self._server.settings.beats_stalled_seconds, _EXEMPT_SECONDS) - exempt)
        try:
            async with asyncio.timeout(patience):
                return await self._reader.read(READ_BYTES)
        except TimeoutError:
            if exempt is not None:
                raise _SlowError from None
            raise

    async def _take(self, data: bytes) -> None:
        some = False
        turn = time.monotonic() + _TURN_SECONDS
        try:
            if not self._begun:
                self._begun = True
                _look_at_first(data)
            for frames in self._parser.pieces(data):
                for frame in frames:
                    self._frame(frame)
                some = some or bool(frames)
                if self._crowded():
                    self._server.frames.update(self, self._parser.buffered)
                    await self._may_read(frames=False)
                    turn = time.monotonic() + _TURN_SECONDS
                elif time.monotonic() >= turn:
                    await asyncio.sleep(0)
                    turn = time.monotonic() + _TURN_SECONDS
        except LumberjackError:
            self._server.report(self._source, self._port, (self._frame_head + data)[:_OFFENDING_BYTES])
            raise
        unfinished = self._parser.unfinished
        if unfinished == 0:
            self._frame_head = b""
        elif unfinished <= len(data):
            self._frame_head = data[-unfinished:][:_OFFENDING_BYTES]
        else:
            self._frame_head += data[: _OFFENDING_BYTES - len(self._frame_head)]
        if some:
            # Whoever was let past the ceiling for one frame has had its turn.
            self._server.frames.update(self, 0)
        self._server.frames.update(self, self._parser.buffered + len(self._frame_head))

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
        elif frame.version == 2:
            self._send(ack(0))  # as Logstash does for an empty batch

    def _document(self, document: Document) -> None:
        window = self._filling
        if window is None:
            raise LumberjackError(f"document {document.sequence} is beyond its window")
        batch, settings = self._batch, self._server.settings
        if batch is not None and (
            len(batch.units) >= settings.receiver_batch_units or not batch.fits(document.payload, settings.receiver_batch_bytes)
        ):
            self._publish()
            batch = None
        if batch is None:
            batch = self._batch = self._publisher.begin(self._source)
        window.add(document.sequence)
        self._publisher.add(batch, document.payload, self._port, document.length, document.sha256)
        if window.missing == 0:
            self._complete(window)

    def _complete(self, window: _Window) -> None:
        self._filling = None
        self._publish(window)
        window.complete = True
        if not window.count:
            self._windows.remove(window)  # announced, but nothing came
        self._answer()

    # Publishing and acknowledging

    def _publish(self, window: _Window | None = None) -> None:
        """What has been collected of the window under way."""
        window = window or self._filling
        batch, self._batch = self._batch, None
        if batch is None or window is None:
            return
        size = batch.cost
        part = _Part(window.last_sequence)
        window.parts.append(part)
        self._unsettled_bytes += size

        def settled() -> None:
            part.settled = True
            self._unsettled_bytes -= size
            self._answer()

        self._publisher.publish(batch, settled)

    def _answer(self) -> None:
        """Acknowledge what can be, soon: Kafka's answers come many at once, and one acknowledgement says it for all."""
        self._settled.set()
        if not self._answer_due:
            self._answer_due = True
            asyncio.get_running_loop().call_soon(self._acknowledge)

    def _acknowledge(self) -> None:
        self._answer_due = False
        while self._windows:
            window = self._windows[0]
            window.advance()
            if not window.complete or window.parts:
                if window.regular and window.safe != window.told:
                    window.told = window.safe
                    self._send(ack(window.safe))
                break
            self._windows.popleft()
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
            await asyncio.sleep(self._server.settings.beats_keepalive_seconds)
            if self._waiting and (self._writer.is_closing() or (self._all_taken and self._reader.at_eof())):
                # The client has gone while Kafka was waited for, which may take hours: its place is for its next connection.
                self.stop()
                return
            window = self._windows[0] if self._windows else None
            # Version 1 knows no such thing. Of an unfinished window the client waits for nothing, unless it is us who do not read.
            if window is not None and window.version == 2 and (window.complete or self._waiting):
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
            async with asyncio.timeout(self._server.settings.receiver_stop_seconds):
                while self._windows and self._windows[0].complete:
                    self._settled.clear()
                    await self._settled.wait()
        except TimeoutError:
            pass


def _look_at_first(data: bytes) -> None:
    """Raise for what is most often sent here by mistake, with the way out."""
    if data[0] == 0x16:
        raise LumberjackError(
            "the client speaks TLS and this port does not: set WEIR_TLS_CERTIFICATE_FILE and WEIR_TLS_KEY_FILE (and WEIR_BEATS_TLS "
            "to auto), or turn TLS off at the client (Filebeat: ssl.enabled: false)"
        )
    if data[:4] in _HTTP_VERBS:
        raise LumberjackError("the client speaks HTTP, which is taken on the port of WEIR_HTTP_PORT")
