"""Listening for clients that wait for an answer: limits before anything else, the PROXY header, TLS, then the protocol.

The first byte is looked at before TLS begins, so that a client that speaks TLS where none is spoken, or none where it is, can be
told from one that merely fails: both are the most common mistakes in setting up a sender, and both are said with their cure.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from weir.ops.logging import get
from weir.ops.tls import ServerTls
from weir.protocols.proxy import ProxyError, ProxyParser, ProxyPolicy
from weir.receivers.listening.limits import ConnectionLimits
from weir.receivers.listening.tcp import SPARE_FILES, open_tcp, raise_file_limit, watch_peer
from weir.receivers.listening.udp import plain_address
from weir.receivers.publishing.counts import ReceiverMetrics
from weir.receivers.publishing.memory import Seldom

__all__ = ["Admission", "Listener", "Port", "policy"]

_PROXY_BYTES = 17_000  # the longest header that is read, and some more
_HANDSHAKE = 0x16  # TLS record type (RFC 8446, 5.1)
_GOODBYE_SECONDS = 1.0
_ACCEPT_AGAIN_SECONDS = 0.2

# What OpenSSL calls it, and what to do about it.
_CURES = {
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": "give the sender a client certificate, or set WEIR_TLS_CLIENT_CERTIFICATES to optional",
    "CERTIFICATE_VERIFY_FAILED": "WEIR_TLS_CLIENT_CA_FILE must hold the authority that signed the sender's certificate",
    "UNSUPPORTED_PROTOCOL": "the sender speaks an older TLS than WEIR_TLS_MINIMUM_VERSION",
    "NO_SHARED_CIPHER": "the sender and this service have no cipher in common; RSA or EC key?",
    "TLSV1_ALERT_UNKNOWN_CA": "the sender does not trust the authority of WEIR_TLS_CERTIFICATE_FILE: give it the CA's certificate",
    "SSLV3_ALERT_BAD_CERTIFICATE": "the sender refuses the certificate of WEIR_TLS_CERTIFICATE_FILE: does it name the host?",
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN": "the sender refuses the certificate of WEIR_TLS_CERTIFICATE_FILE: does it name the host?",
}


class Admission:
    """A connection's place within the limits; given back once, by whoever learns that the connection is gone."""

    __slots__ = ("_claimed", "_limits", "crowded", "host", "port")

    def __init__(self, limits: ConnectionLimits, host: str, port: int | None) -> None:
        self._limits: ConnectionLimits | None = limits
        self._claimed = False
        self.host = host
        self.port = port
        self.crowded: str | None = None
        """Why this source may have no more connections; None where it may."""

    def claim(self, host: str, port: int | None) -> None:
        """Count the connection for its source, once it is known who that is."""
        self.host, self.port = host, port
        if self._limits is not None:
            self.crowded = self._limits.claim(host)
            self._claimed = self.crowded is None

    def leave(self) -> None:
        """The connection is gone."""
        limits, self._limits = self._limits, None
        if limits is not None:
            limits.leave(self.host if self._claimed else None)


@dataclass(frozen=True, slots=True)
class Port:
    """What a listener is told.

    `name` stands before the settings that the log names, such as "BEATS". `refusal` is sent in plain text to who speaks plain text
    where TLS is spoken. `first_byte_seconds` bounds how long a client may be silent at first; None waits for ever, but for a
    handshake. `reuse_port`: several processes share the port. `refuse_crowded`: close a connection
    that its source may not have, rather than let the protocol answer it.
    """

    name: str
    host: str
    port: int
    backlog: int
    tls: ServerTls | None
    handshake_seconds: float
    plain_hint: str
    tls_hint: str
    refusal: bytes = b""
    first_byte_seconds: float | None = None
    reuse_port: bool = False
    refuse_crowded: bool = False
    proxy: ProxyPolicy = field(default_factory=ProxyPolicy)


def policy(mode: str, balancers: str) -> ProxyPolicy:
    """From whom a PROXY header is taken; `balancers` as settings name them. Raises ValueError where they do not say."""
    return ProxyPolicy(mode, [part.strip() for part in balancers.split(",") if part.strip()])


class Listener:
    """One TCP port.

    Args:
        port: where and how.
        limits: connections over all and per source.
        protocol: makes the protocol of an admitted connection; it must call `leave` when the connection is lost.
        metrics: refused connections and failed handshakes are counted here.
        service: such as "receive.beats".
    """

    def __init__(
        self,
        port: Port,
        limits: ConnectionLimits,
        protocol: Callable[[Admission], asyncio.BaseProtocol],
        metrics: ReceiverMetrics,
        service: str,
    ) -> None:
        self._port = port
        self._limits = limits
        self._protocol = protocol
        self._metrics = metrics
        self._log = get(f"weir.{service}")
        self._say = Seldom(10.0, time.monotonic)
        self._loop = asyncio.get_running_loop()
        self._socket: socket.socket | None = None
        self._accepting: asyncio.Task[None] | None = None
        self._opening: set[asyncio.Task[None]] = set()
        self.port = port.port

    def start(self, most_connections: int) -> None:
        """Open the socket. Raises OSError where it cannot be had."""
        port = self._port
        self._socket = open_tcp(port.host, port.port, port.backlog, reuse_port=port.reuse_port)
        self.port = self._socket.getsockname()[1]
        if (granted := raise_file_limit(most_connections)) is not None:
            # Refusing what is too much, and counting it, is better than running out of files in some other place.
            self._limits.most = max(1, granted - min(SPARE_FILES, granted // 2))
            self._log.warning(
                "fewer open files are allowed than connections",
                allowed=granted,
                wanted=most_connections,
                connections=self._limits.most,
                hint=f"raise the limit of open files (ulimit -n), or lower WEIR_{port.name}_MAX_CONNECTIONS",
            )
        self._accepting = self._loop.create_task(self._accept(self._socket))
        self._log.info("listening", protocol=port.name.lower(), host=port.host, tcp_port=self.port, tls=port.tls is not None)

    async def _accept(self, listening: socket.socket) -> None:
        while True:
            try:
                sock, peer = await self._loop.sock_accept(listening)
            except OSError as error:
                # Out of open files, or the client is gone already.
                if self._say("accept"):
                    self._log.warning("cannot accept a connection", error=str(error), hint="too many open files? see ulimit -n")
                await asyncio.sleep(_ACCEPT_AGAIN_SECONDS)
                continue
            host, number = plain_address(peer[0]), peer[1]
            if (reason := self._limits.enter()) is not None:
                self._refuse(reason, host, hint=f"WEIR_{self._port.name}_MAX_CONNECTIONS")
                sock.close()
                continue
            admission = Admission(self._limits, host, number)
            task = self._loop.create_task(self._open(sock, admission))
            self._opening.add(task)
            task.add_done_callback(self._opening.discard)

    async def _open(self, sock: socket.socket, admission: Admission) -> None:
        connected = False
        try:
            connected = await self._connect(sock, admission)
        except TimeoutError:
            self._refuse("silent at first", admission.host, level="info")
        except ProxyError as error:
            self._refuse(error.reason, admission.host, error=str(error), hint=f"see WEIR_{self._port.name}_PROXY_PROTOCOL")
        except ssl.SSLError as error:
            reason = error.reason or type(error).__name__
            self._refuse(
                "TLS handshake failed", admission.host, error=reason.replace("_", " ").lower(), hint=_CURES.get(reason, str(error))
            )
        except OSError as error:
            if self._port.tls is not None:
                self._refuse("TLS handshake failed", admission.host, error=str(error) or type(error).__name__)
        finally:
            if not connected:
                admission.leave()
                sock.close()

    async def _connect(self, sock: socket.socket, admission: Admission) -> bool:
        """Whether the protocol has taken over."""
        port, tls = self._port, self._port.tls
        watch_peer(sock)
        parser = port.proxy.parser(admission.host)
        # Who may not speak for others is the source, and counts as such before anybody waits for its first byte.
        direct = parser is None or parser.forbidden
        if direct and not self._claim(admission):
            return False
        if parser is not None:
            patience = port.first_byte_seconds if parser.forbidden and tls is None else port.handshake_seconds
            async with asyncio.timeout(patience) as limit:
                if not await self._proxy_header(sock, parser, limit):
                    return False
            if parser.header is not None and parser.header.source is not None:
                admission.host, admission.port = plain_address(parser.header.source), parser.header.source_port
        if not direct and not self._claim(admission):
            return False
        if tls is not None or port.first_byte_seconds is not None:
            first = await self._first_byte(sock, port.handshake_seconds if tls else port.first_byte_seconds)
            if not first:
                return False  # it only looked whether someone is there
            if tls is not None and first[0] != _HANDSHAKE:
                self._refuse("plain text on a TLS port", admission.host, hint=port.plain_hint)
                await self._goodbye(sock)
                return False
            if tls is None and first[0] == _HANDSHAKE:
                self._refuse("TLS on a plain port", admission.host, hint=port.tls_hint)
                return False
        protocol = self._protocol(admission)
        if tls is None:
            await self._loop.connect_accepted_socket(lambda: protocol, sock)
        else:
            await self._loop.connect_accepted_socket(
                lambda: protocol, sock, ssl=tls.context, ssl_handshake_timeout=port.handshake_seconds
            )
        return True

    def _claim(self, admission: Admission) -> bool:
        """Count the connection for its source; whether it may go on."""
        port = self._port
        admission.claim(admission.host, admission.port)
        if admission.crowded is None or not port.refuse_crowded:
            return True
        self._refuse(
            admission.crowded,
            admission.host,
            hint=f"WEIR_{port.name}_MAX_CONNECTIONS_PER_SOURCE, WEIR_{port.name}_CONNECTION_RATE",
        )
        return False

    async def _proxy_header(self, sock: socket.socket, parser: ProxyParser, limit: asyncio.Timeout) -> bool:
        """Take the header, if there is one, and no byte more; whether anything came at all. Raises ProxyError.

        What has begun is to end: then there is a `limit` also where silence has none.
        """
        seen = b""
        while True:
            more = await self._peek(sock, _PROXY_BYTES)
            if len(more) <= len(seen):
                return False  # the connection ended
            rest = parser.feed(more[len(seen) :])
            seen = more
            if rest is not None:
                if header := len(seen) - len(rest):
                    sock.recv(header)
                break
            if limit.when() is None:
                limit.reschedule(self._loop.time() + self._port.handshake_seconds)
            # All of it may still be needed by whoever reads next, so it stays there: wait until there is more.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, len(seen) + 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1)
        return True

    async def _first_byte(self, sock: socket.socket, seconds: float | None) -> bytes:
        async with asyncio.timeout(seconds):
            return await self._peek(sock, 1)

    async def _peek(self, sock: socket.socket, most: int) -> bytes:
        """What has come, without taking it; waits where nothing has, or no more than was seen before. b"" at the end."""
        while True:
            await self._readable(sock)
            with contextlib.suppress(BlockingIOError, InterruptedError):
                return sock.recv(most, socket.MSG_PEEK)

    async def _readable(self, sock: socket.socket) -> None:
        ready = asyncio.Event()
        descriptor = sock.fileno()
        self._loop.add_reader(descriptor, ready.set)
        try:
            await ready.wait()
        finally:
            self._loop.remove_reader(descriptor)

    async def _goodbye(self, sock: socket.socket) -> None:
        """Send the refusal and wait until it is read: closing with bytes unread would destroy it on its way."""
        if not self._port.refusal:
            return
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(_GOODBYE_SECONDS):
                await self._loop.sock_sendall(sock, self._port.refusal)
                sock.shutdown(socket.SHUT_WR)
                while await self._loop.sock_recv(sock, 4096):
                    pass

    def _refuse(self, reason: str, host: str, *, level: str = "warning", **values: Any) -> None:
        self._metrics.refused(reason)
        if self._say((reason, host, values.get("error"))):
            getattr(self._log, level)("connection refused", reason=reason, source=host, **values)

    async def stop(self) -> None:
        """Take no more connections; those under way live on."""
        tasks = [*self._opening]
        if self._accepting is not None:
            tasks.append(self._accepting)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._socket is not None:
            self._socket.close()
            self._socket = None
