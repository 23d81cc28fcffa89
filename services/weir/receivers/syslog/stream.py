"""One TCP or TLS connection of a syslog sender: PROXY header, TLS handshake, frames, units."""

from __future__ import annotations

import asyncio
from typing import NamedTuple, Protocol, cast

from weir.ops.tls import ServerTls
from weir.protocols.framing import Frame, FramingError, SyslogFramer
from weir.protocols.proxy import ProxyError, ProxyParser, ProxyPolicy
from weir.receivers.listening.limits import ConnectionLimits, RateLimit
from weir.receivers.listening.tcp import watch_peer
from weir.receivers.listening.tls_stream import TlsStream
from weir.receivers.publishing.publisher import Publisher
from weir.receivers.syslog.settings import SyslogSettings

__all__ = ["ERROR_TRANSPORT", "Host", "Listener", "SyslogConnection"]

ERROR_TRANSPORT = "syslog-error"
"""Label of units that are no messages but bytes which broke a connection's framing; the processor makes dead letters of them."""

_UNREAD_MOST = 65_536
_GOODBYE_SECONDS = 5.0
_TLS_HANDSHAKE = b"\x16\x03"  # a TLS record of the type handshake begins so (RFC 8446, section 5.1)


class Listener(NamedTuple):
    """Where a connection came in: "tcp" or "tls", and the port."""

    transport: str
    port: int
    tls: ServerTls | None = None


class Host(Protocol):
    """What a connection needs of its receiver."""

    settings: SyslogSettings
    publisher: Publisher
    proxy: ProxyPolicy
    limits: ConnectionLimits
    rate: RateLimit
    connections: dict[SyslogConnection, None]
    reads: int
    stopping: bool
    unfinished: int
    """Bytes that all connections together keep of unfinished messages."""

    def complain(self, event: str, address: str, detail: str = "") -> None:
        """Count a connection that is refused or closed, and say so once in a while."""

    def failed(self, address: str, units: int) -> None:
        """While an exception is handled: count units that are lost to it, and say so once in a while."""

    def blank(self, lines: int) -> None:
        """Count lines without content."""


class SyslogConnection(asyncio.Protocol):
    """One sender. Paused while memory is full: its bytes then wait in the kernel, and in the end at the sender.

    A connection counts against the limit over all from its first moment, so that handshakes have no limit of their own.
    """

    def __init__(self, host: Host, listener: Listener, address: str, port: int) -> None:
        self._host = host
        self._listener = listener
        self._framer = SyslogFramer(host.settings.syslog_max_message_bytes)
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._tls: TlsStream | None = None
        self._proxy: ProxyParser | None = None
        self._address = address
        self._port: int | None = port
        self._subject: str | None = None
        self._claimed: str | None = None
        self._entered = False
        self._open = False
        self._began = False
        self._unfinished = 0
        self._holds: set[str] = set()
        self._greeting: asyncio.TimerHandle | None = None
        self._rest: asyncio.TimerHandle | None = None
        self.heard = self._loop.time()

    # From the first byte to the first message

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's has another ancestor
        host = self._host
        if (reason := host.limits.enter()) is not None:
            self._refuse(reason)
            return
        self._entered = True
        host.connections[self] = None
        host.publisher.metrics.connected(1)
        try:
            self._proxy = host.proxy.parser(self._address)
        except ProxyError as error:
            self._refuse(error.reason, str(error))
            return
        balancer = self._proxy is not None and not self._proxy.forbidden
        # Behind a balancer the limits per source hold for whom the header names.
        if not balancer and not self._claim():
            return
        watch_peer(transport.get_extra_info("socket"))
        if self._listener.tls is not None:
            self._tls = TlsStream(self._listener.tls.context)
        if self._tls is not None or (self._proxy is not None and self._proxy.required):
            self._await_greeting()
        host.publisher.memory.watch(self)
        if self._tls is None and self._proxy is None:
            self._ready()

    def _claim(self) -> bool:
        reason = self._host.limits.claim(self._address)
        if reason is not None:
            self._refuse(reason)
            return False
        self._claimed = self._address
        return True

    def _await_greeting(self) -> None:
        self._greeting = self._loop.call_later(self._host.settings.syslog_handshake_seconds, self._no_greeting)

    def _no_greeting(self) -> None:
        self._greeting = None
        if self._holds:  # it is we who did not read
            self._await_greeting()
        else:
            self._refuse("tls handshake: timed out" if self._proxy is None else "proxy header: timed out")

    def _ready(self) -> None:
        """Header and handshake are done."""
        if self._greeting is not None:
            self._greeting.cancel()
            self._greeting = None
        if self._tls is not None:
            self._subject = self._tls.subject
        listener = self._listener
        if self._host.publisher.sources.of(self._address, listener.transport, listener.port, self._subject) is None:
            self._refuse("source refused")
            return
        self._open = True

    def _refuse(self, reason: str, detail: str = "") -> None:
        self._host.complain(reason, self._address, detail)
        self._leave()
        if self._transport is not None:
            self._transport.abort()

    # Bytes

    def data_received(self, data: bytes) -> None:
        if not self._entered:
            return
        if self._holds and self._transport is not None:
            # uvloop begins to read after connection_made, whatever was asked for there.
            self._transport.pause_reading()
        self._host.reads += 1
        self.heard = self._loop.time()
        try:
            self._received(data)
        except Exception:  # the framer may have lost its place
            self._host.failed(self._address, 0)
            self._refuse("internal error")

    def _received(self, data: bytes) -> None:
        if self._proxy is not None:
            rest = self._header(self._proxy, data)
            if rest is None:
                return
            data = rest
        if self._tls is not None:
            self._encrypted(self._tls, data)
        elif data:
            self._take(data)

    def _header(self, parser: ProxyParser, data: bytes) -> bytes | None:
        """What follows the PROXY header; None where nothing is to be read, yet or any more."""
        try:
            rest = parser.feed(data)
        except ProxyError as error:
            self._refuse(error.reason, str(error))
            return None
        if rest is None:
            if self._greeting is None:
                self._await_greeting()
            return None
        self._proxy = None
        if parser.header is not None and parser.header.source is not None:
            self._address, self._port = parser.header.source, parser.header.source_port
        if self._claimed is None and not self._claim():
            return None
        if self._tls is None:
            self._ready()
            if not self._open:
                return None
        return rest

    def _encrypted(self, tls: TlsStream, data: bytes) -> None:
        self._began = self._began or bool(data)
        plain = tls.feed(data)
        unread = False
        if (answer := tls.output()) and self._transport is not None:
            # A sender that asks for new keys all the time and never reads the answers.
            unread = self._transport.get_write_buffer_size() > _UNREAD_MOST
            if not unread:
                self._transport.write(answer)
        if tls.established and not self._open:
            self._ready()
            if not self._open:
                return
        if plain:
            self._take(plain)
        if not self._entered:
            return
        if tls.failure is not None:
            self._host.complain(tls.failure, self._address)
            self.close()
        elif unread:
            self._refuse("tls: answers unread")
        elif tls.ended:
            self.close()

    def _take(self, data: bytes) -> None:
        if not self._began and self._tls is None:
            self._began = True
            if data.startswith(_TLS_HANDSHAKE):
                self._refuse("tls on a port without tls", "the sender speaks TLS: point it to WEIR_SYSLOG_TLS_PORT")
                return
        framer = self._framer
        blank = framer.blank
        try:
            frames = framer.feed(data)
        except FramingError as error:
            lost = Frame(error.rest, len(error.rest), lost=True)
            if self._publish([*error.frames, lost]):
                self._host.complain("framing lost", self._address, str(error))
                self.close()
            return
        self._weigh()
        if framer.blank != blank:
            self._host.blank(framer.blank - blank)
        if frames:
            self._publish(frames)

    def _weigh(self) -> None:
        """Unfinished messages are bounded over all connections too: beyond a quarter of the memory long ones are cut and marked."""
        host, held = self._host, self._framer.held
        host.unfinished += held - self._unfinished
        self._unfinished = held
        self._framer.full = host.unfinished > host.publisher.memory.limit // 4

    def _publish(self, frames: list[Frame]) -> bool:
        """Hand messages over; False where their sender is refused by now, and the connection closed."""
        publisher, listener = self._host.publisher, self._listener
        source = publisher.sources.of(self._address, listener.transport, listener.port, self._subject)
        if source is None:
            publisher.drop(self._address, len(frames), "source refused")
            if self._entered:
                if left := self._framer.finish():
                    publisher.drop(self._address, len(left), "source refused")
                self._refuse("source refused")
            return False
        offered = 0
        try:
            whole = [data for data, length, lost in frames if length == len(data) and not lost]
            if len(whole) == len(frames):
                publisher.offer_many(source, whole, self._port, must=True)
            else:
                for data, length, lost in frames:
                    labelled = source._replace(transport=ERROR_TRANSPORT) if lost else source
                    cut = length if length > len(data) else 0
                    publisher.offer(labelled, data, self._port, original_length=cut, must=True)
                    offered += 1
        except Exception:
            self._host.failed(self._address, len(frames) - offered)
        pause = self._host.rate.owe(self._address, len(frames))
        if pause > 0 and self._entered and not self._host.stopping:
            self._hold("rate")
            if self._rest is not None:
                self._rest.cancel()
            self._rest = self._loop.call_later(pause, self.release)
        return True

    # Pauses

    def _hold(self, why: str) -> None:
        self._holds.add(why)
        if self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()

    def _go_on(self, why: str) -> None:
        self._holds.discard(why)
        if not self._holds and self._transport is not None and not self._transport.is_closing():
            self.heard = self._loop.time()
            self._transport.resume_reading()

    @property
    def held(self) -> bool:
        """Whether it is not being read, which is no silence of the sender's."""
        return bool(self._holds)

    def release(self) -> None:
        """Read on although the source has sent too much."""
        if "rate" in self._holds:
            self._go_on("rate")

    def pause(self) -> None:
        self._hold("memory")

    def resume(self) -> None:
        self._go_on("memory")

    # The end

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._entered:
            return
        if self._proxy is not None and self._proxy.waiting:
            self._host.complain("proxy header: incomplete", self._address)
        elif self._tls is not None and not self._open and self._began:
            # Without a byte it was a balancer looking whether somebody listens.
            self._host.complain("tls handshake: closed by the sender", self._address)
        self._finish()

    def _finish(self) -> None:
        """Publish what is there of the last message, and let go of the place."""
        if self._open and (frames := self._framer.finish()):
            self._open = False
            self._publish(frames)
        self._leave()

    def _leave(self) -> None:
        for timer in (self._greeting, self._rest):
            if timer is not None:
                timer.cancel()
        self._greeting = self._rest = None
        if not self._entered:
            return
        self._entered = self._open = False
        host = self._host
        host.unfinished -= self._unfinished
        host.publisher.memory.unwatch(self)
        host.connections.pop(self, None)
        host.publisher.metrics.connected(-1)
        host.limits.leave(self._claimed)

    def idle(self) -> None:
        """The sender has been silent for too long."""
        self._host.complain("idle", self._address)
        self.close()

    def close(self) -> None:
        """Publish what is there of the last message, say goodbye, and close."""
        if self._entered:
            self._finish()
        if self._transport is not None and not self._transport.is_closing():
            if self._tls is not None and (goodbye := self._tls.close()):
                self._transport.write(goodbye)
            if self._transport.get_write_buffer_size():
                # Closing waits until the sender has read it all; one that never reads would keep the open file for ever.
                self._loop.call_later(_GOODBYE_SECONDS, self._transport.abort)
            self._transport.close()
