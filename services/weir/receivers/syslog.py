"""The syslog receiver: UDP (RFC 5426) and plain TCP (RFC 6587, both framings).

What the messages say is the processor's business; here they are units. An empty datagram is a unit too, so that everything that
was received is accounted for.
"""

from __future__ import annotations

import asyncio
import socket
import time
from typing import Any, cast

from pydantic import Field

from weir.ops.logging import get
from weir.protocols.framing import Frame, FramingError, SyslogFramer
from weir.receivers.batching import Source, cut
from weir.receivers.memory import Seldom
from weir.receivers.publisher import Publisher
from weir.receivers.service import kafka_producer, run
from weir.receivers.settings import ReceiverSettings
from weir.receivers.udp import DatagramReader, open_udp, plain_address

__all__ = ["SERVICE", "SyslogReceiver", "SyslogSettings", "main"]

SERVICE = "receive.syslog"
_DRAIN_SECONDS = 1.0
_SETTLED_SECONDS = 0.05


class SyslogSettings(ReceiverSettings):
    """What the syslog receiver reads."""

    syslog_host: str = Field("0.0.0.0", min_length=1, description="address to listen on; '::' for IPv4 and IPv6")
    syslog_udp_port: int = Field(5514, ge=0, le=65535, description="UDP port; 0 turns UDP off")
    syslog_tcp_port: int = Field(5514, ge=0, le=65535, description="TCP port; 0 turns TCP off")
    syslog_max_message_bytes: int = Field(
        65_536, ge=480, le=524_288, description="longer messages are cut to this, marked with their length, and dead-lettered"
    )
    syslog_max_connections: int = Field(1_024, ge=1, le=65_536, description="TCP connections at once; further ones are refused")
    syslog_backlog: int = Field(512, ge=1, le=65_535, description="TCP connections that wait to be accepted")


class _Connection(asyncio.Protocol):
    """One TCP sender. Paused while memory is full: its bytes then wait in the kernel, and in the end at the sender."""

    def __init__(self, receiver: SyslogReceiver) -> None:
        self._receiver = receiver
        self._framer = SyslogFramer(receiver.settings.syslog_max_message_bytes)
        self._transport: asyncio.Transport | None = None
        self._source = Source("", "tcp", 0)
        self._port: int | None = None
        self._accepted = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's has another ancestor
        peer = transport.get_extra_info("peername")
        local = transport.get_extra_info("sockname")
        host, self._port = (plain_address(peer[0]), peer[1]) if peer else ("", None)
        self._source = Source(host, "tcp", local[1] if local else 0)
        if not self._receiver.admit(self, host):
            self._transport.abort()
            return
        self._accepted = True
        sock: Any = transport.get_extra_info("socket")
        if sock is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        self._receiver.publisher.memory.watch(self)

    def data_received(self, data: bytes) -> None:
        if not self._accepted:
            return
        self._receiver.reads += 1
        try:
            frames = self._framer.feed(data)
        except FramingError as error:
            self._publish(error.frames)
            # The offending bytes go the way of any message, so that they are found in the dead-letter topic.
            self._publish([Frame(error.rest, len(error.rest))])
            self._receiver.complain("framing lost", self._source.ip, error)
            self.close()
            return
        self._publish(frames)

    def _publish(self, frames: list[Frame]) -> None:
        offer = self._receiver.publisher.offer
        for data, length in frames:
            offer(self._source, data, self._port, original_length=length if length > len(data) else 0, must=True)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._accepted:
            self._finish()

    def _finish(self) -> None:
        self._accepted = False
        self._publish(self._framer.finish())
        self._receiver.publisher.memory.unwatch(self)
        self._receiver.release(self)

    def pause(self) -> None:
        if self._transport is not None:
            self._transport.pause_reading()

    def resume(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def close(self) -> None:
        """Publish what is there of the last message, and close."""
        if self._accepted:
            self._finish()
        if self._transport is not None:
            self._transport.close()


class SyslogReceiver:
    """Listens on UDP and TCP and hands messages to the publisher."""

    def __init__(self, settings: SyslogSettings, publisher: Publisher) -> None:
        self.settings = settings
        self.publisher = publisher
        self.reads = 0
        self._log = get(f"weir.{SERVICE}")
        self._say = Seldom(10.0, time.monotonic)
        self._connections: set[_Connection] = set()
        self._udp: DatagramReader | None = None
        self._tcp: asyncio.Server | None = None

    async def start(self) -> None:
        """Open the sockets. Raises OSError where one cannot be had."""
        settings = self.settings
        if settings.syslog_tcp_port:
            self._tcp = await asyncio.get_running_loop().create_server(
                lambda: _Connection(self), settings.syslog_host, settings.syslog_tcp_port, backlog=settings.syslog_backlog
            )
        if settings.syslog_udp_port:
            sock = open_udp(settings.syslog_host, settings.syslog_udp_port, settings.receiver_udp_buffer_bytes, self._log)
            self._udp = DatagramReader(sock, self._datagram)
        self._log.info("listening", host=settings.syslog_host, udp_port=settings.syslog_udp_port, tcp_port=settings.syslog_tcp_port)

    def _datagram(self, data: bytes, host: str, port: int) -> None:
        length, digest = 0, b""
        if len(data) > self.settings.syslog_max_message_bytes:
            data, length, digest = cut(data, self.settings.syslog_max_message_bytes)
        source = Source(host, "udp", self.settings.syslog_udp_port)
        self.publisher.offer(source, data, port, original_length=length, sha256=digest)

    def admit(self, connection: _Connection, host: str) -> bool:
        """Whether one more connection is taken."""
        if len(self._connections) >= self.settings.syslog_max_connections:
            self.publisher.metrics.refused("too many connections")
            if self._say("connections"):
                self._log.warning(
                    "connection refused", source=host, connections=len(self._connections), hint="WEIR_SYSLOG_MAX_CONNECTIONS"
                )
            return False
        self._connections.add(connection)
        self.publisher.metrics.connected(1)
        return True

    def release(self, connection: _Connection) -> None:
        """The connection is gone."""
        self._connections.discard(connection)
        self.publisher.metrics.connected(-1)

    def complain(self, event: str, host: str, error: Exception) -> None:
        """Say once in a while what a sender does wrong."""
        self.publisher.metrics.refused(event)
        if self._say((event, host)):
            self._log.warning(event, source=host, error=str(error), action="connection closed")

    async def stop(self) -> None:
        """Close the listeners, take what the kernel already holds, close the connections."""
        if self._tcp is not None:
            self._tcp.close()
        if self._udp is not None:
            self._udp.close()
            self._udp = None
        # Nothing acknowledges plain TCP: what has arrived would be lost with the connection. But a sender that never pauses
        # must not keep us here.
        deadline = time.monotonic() + _DRAIN_SECONDS
        reads = -1
        while self._connections and reads != self.reads and time.monotonic() < deadline and not self.publisher.memory.shut:
            reads = self.reads
            await asyncio.sleep(_SETTLED_SECONDS)
        for connection in list(self._connections):
            connection.close()


def build(settings: SyslogSettings) -> SyslogReceiver:
    """A receiver with its publisher, in the running loop."""
    publisher = Publisher(settings, service=SERVICE, topic="raw.syslog", make_producer=lambda: kafka_producer(settings))
    return SyslogReceiver(settings, publisher)


def main(settings: SyslogSettings) -> None:
    """Receive syslog until SIGTERM or SIGINT. Raises SystemExit with status 1 where it cannot listen."""
    run(settings, SERVICE, build)
