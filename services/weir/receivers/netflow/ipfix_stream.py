"""IPFIX over TCP and TLS (RFC 7011 sections 10.4 and 11).

A connection is a transport session: its templates begin and end with it, are never shared, and live until they are withdrawn.
Its messages share batches with no other connection's, so that a batch decodes with what this connection has announced.

A message whose sets are damaged is published like any other, for the dead letters; the stream goes on behind it. Where no message
begins, nothing tells where the next one would: the bytes go the way of dead letters and the connection is closed.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any, Protocol, cast

from weir.ops.logging import get
from weir.ops.tls import ServerTls, subject_of
from weir.protocols.netflow import FlowError, IpfixFramer, StreamError, TemplateRecord, TemplateStore, scan
from weir.receivers.listening.limits import ConnectionLimits
from weir.receivers.listening.listener import Admission, Listener, Port
from weir.receivers.netflow.metrics import FlowMetrics
from weir.receivers.netflow.sequences import Follower, Seen, StreamKey
from weir.receivers.publishing.batching import Source
from weir.receivers.publishing.memory import Seldom
from weir.receivers.publishing.publisher import Publisher

__all__ = ["ERROR_TRANSPORT", "IpfixStreams", "StreamSettings"]

ERROR_TRANSPORT = "ipfix-error"
"""Transport of the bytes that broke a connection; see `weir.processors.netflow`."""

_DRAIN_SECONDS = 1.0
_SETTLED_SECONDS = 0.05
_SHORTEST_RECORD = 4


class StreamSettings(Protocol):
    """What is read of `weir.receivers.netflow.receiver.NetflowSettings`."""

    netflow_host: str
    ipfix_tcp_port: int
    ipfix_tls_port: int
    ipfix_max_connections: int
    ipfix_max_connections_per_source: int
    ipfix_idle_seconds: float
    ipfix_handshake_seconds: float
    ipfix_backlog: int
    tls_client_certificates: str
    receiver_processes: int


class _Connection(asyncio.Protocol):
    """One exporter's session. Paused while memory is full: what it sends then waits in the kernel, and in the end with it."""

    def __init__(self, streams: IpfixStreams, admission: Admission, transport_name: str) -> None:
        self.heard = time.monotonic()
        self.stream = 0
        self.store = TemplateStore()
        self._streams = streams
        self._publisher = streams.publisher
        self._admission = admission
        self._name = transport_name
        self._framer = IpfixFramer()
        self._transport: asyncio.Transport | None = None
        self._source: Source | None = None
        self._local_port = 0
        self._subject: str | None = None
        self._paused = False

    @property
    def host(self) -> str:
        """Address of the exporter."""
        return self._admission.host

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's has another ancestor
        if self._admission.crowded is not None:
            self._streams.complain(self._admission.crowded, self.host, "see WEIR_IPFIX_MAX_CONNECTIONS_PER_SOURCE")
            self._transport.abort()
            return
        local = transport.get_extra_info("sockname")
        self._local_port = local[1] if local else 0
        self._subject = subject_of(transport.get_extra_info("ssl_object"))
        self.stream = self._streams.opened(self)
        self._publisher.memory.watch(self)

    def data_received(self, data: bytes) -> None:
        if not self.stream:
            return
        if self._paused and self._transport is not None:
            # uvloop begins to read after connection_made, whatever was asked for there.
            self._transport.pause_reading()
        self._streams.reads += 1
        self.heard = time.monotonic()
        source = self._publisher.sources.of(self.host, self._name, self._local_port, self._subject)
        if source is None:
            self._publisher.drop(self.host, 1, "source refused")
            self._streams.complain("source refused", self.host, "see WEIR_SOURCES_UNKNOWN and WEIR_RECEIVER_ALLOW")
            self.close()
            return
        source = source._replace(stream=self.stream)
        if source != self._source:
            self._close_batch()
            self._source = source
        try:
            for message in self._framer.feed(data):
                self._take(source, message)
        except StreamError as error:
            for message in error.messages:
                self._take(source, message)
            self._broken(error.rest, str(error))
            self.close()

    def _take(self, source: Source, message: bytes) -> None:
        received_at = time.time_ns() // 1000
        metrics, store = self._streams.metrics, self.store
        early = False
        try:
            found = scan(message)
        except FlowError:  # cannot be: the framer has read the header
            found = None
        if found is not None:
            if found.problem is not None:
                metrics.malformed("ipfix")
            early = store.outlives(message)
            if store.replaces(message):
                self._close_batch()
            if early:
                self._publisher.offer(source, message, self._admission.port, received_at=received_at, must=True)
                self._close_batch()
            self._learn(found.templates, message)
            units, whole = store.data_records(message, found)
            key = StreamKey(source.ip, "ipfix", found.observation_domain, self.stream)
            more = 0 if whole else len(message) // _SHORTEST_RECORD
            # Each session counts from its own beginning; what goes back within one is the exporter's mistake, and no restart.
            self._streams.follower.observe(key, Seen(found.sequence, units, found.export_time * 1_000_000, 0, more), received_at)
        if not early:
            self._publisher.offer(source, message, self._admission.port, received_at=received_at, must=True)

    def _learn(self, templates: tuple[TemplateRecord, ...], message: bytes) -> None:
        """Take over what a message announces and say what RFC 7011 section 8.1 calls a malfunction: neither ends the session."""
        metrics, store = self._streams.metrics, self.store
        before = {t[:3]: known for t in templates if (known := store.template(*t[:3])) is not None}
        for item, new in store.announced(message):
            if not isinstance(item, TemplateRecord):
                continue
            if not item.record:
                metrics.template("withdrawn" if new else "withdrawal-unknown")
                if not new:
                    self._streams.mention("withdrawal of a template that is not known", self.host, item)
                before.pop(item[:3], None)
            elif new and item[:3] in before:
                metrics.template("redefined")
                self._streams.mention("template redefined without a withdrawal", self.host, item)

    def _broken(self, rest: bytes, reason: str) -> None:
        source = self._source
        if source is not None and rest:
            self._close_batch()
            broken = source._replace(transport=ERROR_TRANSPORT)
            self._publisher.offer(broken, rest, self._admission.port, must=True)
            self._publisher.close_batch(broken)
        self._streams.complain("framing lost", self.host, reason)

    def _close_batch(self) -> None:
        if self._source is not None:
            self._publisher.close_batch(self._source)

    def connection_lost(self, exc: Exception | None) -> None:
        self._finish()
        self._admission.leave()

    def _finish(self) -> None:
        if not self.stream:
            return
        if rest := self._framer.finish():
            self._broken(rest, f"the connection ended within a message, after {len(rest)} bytes of it")
        self._close_batch()
        self._publisher.memory.unwatch(self)
        self._streams.closed(self)
        self.stream = 0

    def pause(self) -> None:
        self._paused = True
        if self._transport is not None:
            self._transport.pause_reading()

    def resume(self) -> None:
        self._paused = False
        self.heard = time.monotonic()
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def idle(self, seconds: float) -> bool:
        """Whether it has been silent for so long, though it was being read."""
        return not self._paused and time.monotonic() - self.heard > seconds

    def close(self) -> None:
        """Publish what is there, and close."""
        self._finish()
        if self._transport is not None:
            self._transport.close()


class IpfixStreams:
    """Listens for IPFIX over TCP, and over TLS where there is a certificate.

    Args:
        settings: ports and limits; port -1 is off, 0 takes any free one.
        publisher, follower, metrics: of the receiver.
        service: its name.
    """

    def __init__(
        self, settings: StreamSettings, publisher: Publisher, follower: Follower, metrics: FlowMetrics, service: str
    ) -> None:
        self.publisher = publisher
        self.follower = follower
        self.metrics = metrics
        self.reads = 0
        self.tcp_port: int | None = None
        self.tls_port: int | None = None
        self._settings = settings
        self._service = service
        self._log = get(f"weir.{service}")
        self._say = Seldom(10.0, time.monotonic)
        self._listeners: list[Listener] = []
        self._connections: dict[int, _Connection] = {}
        self._numbers = 0
        self._sweeper: asyncio.Task[None] | None = None

    def start(self, tls: ServerTls | None) -> None:
        """Open the ports. Raises OSError where one cannot be had."""
        settings = self._settings
        limits = ConnectionLimits(settings.ipfix_max_connections, settings.ipfix_max_connections_per_source, 0.0, time.monotonic)
        if settings.ipfix_tcp_port >= 0:
            self.tcp_port = self._listen("tcp", settings.ipfix_tcp_port, None, limits)
        if tls is not None and settings.ipfix_tls_port >= 0:
            self.tls_port = self._listen("tls", settings.ipfix_tls_port, tls, limits)
            if settings.tls_client_certificates != "required":
                self._log.warning(
                    "IPFIX over TLS is open to exporters without a certificate",
                    hint="RFC 7011 section 11 asks for both sides': WEIR_TLS_CLIENT_CERTIFICATES=required",
                )
        if self._listeners and settings.ipfix_idle_seconds:
            self._sweeper = asyncio.get_running_loop().create_task(self._sweep(settings.ipfix_idle_seconds))

    def _listen(self, transport: str, number: int, tls: ServerTls | None, limits: ConnectionLimits) -> int:
        settings = self._settings
        port = Port(
            name="IPFIX",
            host=settings.netflow_host,
            port=number,
            backlog=settings.ipfix_backlog,
            tls=tls,
            handshake_seconds=settings.ipfix_handshake_seconds,
            plain_hint=f"turn TLS on at the exporter, or send to the TCP port {self.tcp_port}",
            tls_hint="TLS has a port of its own (4740), open where WEIR_TLS_CERTIFICATE_FILE is set",
            reuse_port=settings.receiver_processes > 1,
        )

        def connection(admission: Admission) -> asyncio.BaseProtocol:
            return _Connection(self, admission, transport)

        listener = Listener(port, limits, connection, self.publisher.metrics, self._service)
        listener.start(settings.ipfix_max_connections)
        self._listeners.append(listener)
        return listener.port

    def store_of(self, stream: int) -> TemplateStore | None:
        """What this connection has announced; None where it is gone."""
        connection = self._connections.get(stream)
        return None if connection is None else connection.store

    def opened(self, connection: _Connection) -> int:
        """A number for a new session."""
        self._numbers += 1
        self._connections[self._numbers] = connection
        self.publisher.metrics.connected(1)
        return self._numbers

    def closed(self, connection: _Connection) -> None:
        """The session is over."""
        del self._connections[connection.stream]
        self.follower.close(connection.stream)
        self.publisher.metrics.connected(-1)

    def complain(self, event: str, host: str, detail: str) -> None:
        """Count a connection that is refused or closed, and say so once in a while."""
        self.publisher.metrics.refused(event)
        self._once(event, host, detail=detail)

    def mention(self, event: str, host: str, template: TemplateRecord) -> None:
        """Say once in a while what an exporter does wrong."""
        self._once(event, host, domain=template.domain, template=template.template_id)

    def _once(self, event: str, host: str, **values: Any) -> None:
        if self._say((event, host)):
            self._log.warning(event, source=host, **values)

    async def _sweep(self, seconds: float) -> None:
        while True:
            await asyncio.sleep(min(seconds / 4, 30.0))
            for connection in list(self._connections.values()):
                if connection.idle(seconds):
                    self.complain("idle", connection.host, f"silent for {seconds:g} s, see WEIR_IPFIX_IDLE_SECONDS")
                    connection.close()

    async def stop(self) -> None:
        """Close the listeners, take what the kernel already holds, close the connections."""
        if self._sweeper is not None:
            self._sweeper.cancel()
        for listener in self._listeners:
            await listener.stop()
        # Nothing acknowledges IPFIX: what has arrived would be lost with the connection. But an exporter that never pauses must
        # not keep us here.
        deadline = time.monotonic() + _DRAIN_SECONDS
        reads = -1
        while self._connections and reads != self.reads and time.monotonic() < deadline and not self.publisher.memory.shut:
            reads = self.reads
            await asyncio.sleep(_SETTLED_SECONDS)
        for connection in list(self._connections.values()):
            connection.close()
