"""One TCP or TLS connection on which nobody answers, watched as closely as a sender can.

Syslog over TCP (RFC 6587) and over TLS (RFC 5425) have no acknowledgement. What the operating system knows is used: whether the
peer has closed before anything is written, and, on Linux, whether its TCP has acknowledged every byte (SIOCOUTQ counts what it has
not). Whether its application has read those bytes cannot be known. TLS runs over memory buffers, so that the bytes counted are
those that cross the link: encrypted records and handshakes, without TCP and IP headers.
"""

from __future__ import annotations

import contextlib
import fcntl
import select
import socket
import ssl
import struct
import termios
import time

from weir.sinks.destination import Counters

__all__ = ["Wire", "WireClosed"]

_RECEIVE_BYTES = 65_536
_SETTLE_STEP_SECONDS = 0.005
_USER_TIMEOUT_MS = 30_000
_VERDICT_SECONDS = 0.5


class WireClosed(ConnectionError):
    """The connection is of no use any more; what was written on it last may not have been read."""


class Wire:
    """An open connection.

    Args:
        host, port: the peer.
        context: TLS if given; the certificate must be for `host`.
        timeout: seconds for connecting, the handshake and each write.
        counters: where the bytes are counted.

    Raises:
        OSError: no connection; `ssl.SSLError`, which is one, where the peer's certificate is not to be trusted.
    """

    def __init__(self, host: str, port: int, *, context: ssl.SSLContext | None, timeout: float, counters: Counters) -> None:
        self._counters = counters
        self._timeout = timeout
        self._socket = socket.create_connection((host, port), timeout)
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls: ssl.SSLObject | None = None
        self._why = ""
        try:
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            with contextlib.suppress(OSError, AttributeError):  # not everywhere; keepalive does it too, later
                self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _USER_TIMEOUT_MS)
            if context is not None:
                self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=host)
                self._handshake(self._tls)
                self._hear_verdict(self._tls)
        except BaseException:
            self._socket.close()
            raise

    def _handshake(self, tls: ssl.SSLObject) -> None:
        deadline = time.monotonic() + self._timeout
        while True:
            try:
                tls.do_handshake()
            except ssl.SSLWantReadError:
                self._flush()
                if time.monotonic() > deadline:
                    raise TimeoutError(f"TLS handshake took more than {self._timeout:.0f} s") from None
                data = self._socket.recv(_RECEIVE_BYTES)
                if not data:
                    raise WireClosed("closed by the peer during the TLS handshake") from None
                self._counters.add(bytes_received=len(data))
                self._incoming.write(data)
                continue
            except ssl.SSLError:
                with contextlib.suppress(OSError):
                    self._flush()  # the alert that tells the peer why
                raise
            self._flush()
            return

    def _hear_verdict(self, tls: ssl.SSLObject) -> None:
        """Over TLS 1.3 the peer judges our certificate after our handshake has ended (RFC 8446 section 4.4.2.4).

        Session tickets, which most servers send right after it, say that it was accepted. Raises WireClosed where it was not.
        """
        if tls.version() == "TLSv1.3":
            select.select([self._socket], [], [], _VERDICT_SECONDS)
            if self.closed_by_peer():
                raise WireClosed(f"closed by the peer after the TLS handshake{self._why}")

    def _flush(self) -> None:
        data = self._outgoing.read()
        if data:
            self._send(data)

    def _send(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            sent = self._socket.send(view)  # times out by itself
            self._counters.add(bytes_sent=sent)
            view = view[sent:]

    def write(self, data: bytes) -> None:
        """Hand bytes to the operating system. Raises OSError; then some of them may have been sent."""
        if self._tls is None:
            self._send(data)
            return
        self._tls.write(data)
        self._flush()

    def closed_by_peer(self) -> bool:
        """Whether the peer has closed or reset the connection, as far as this side has heard. Does not wait."""
        try:
            while select.select([self._socket], [], [], 0)[0]:
                data = self._socket.recv(_RECEIVE_BYTES)
                if not data:
                    return True
                self._counters.add(bytes_received=len(data))
                if self._tls is not None:
                    self._incoming.write(data)
                    if self._drain(self._tls):
                        return True
        except (OSError, ValueError) as error:
            # Over TLS 1.3 a client certificate is refused after the handshake, and only here is it said.
            self._why = f" ({error})"
            return True
        return False

    def _drain(self, tls: ssl.SSLObject) -> bool:
        """Read what TLS itself exchanges, such as session tickets. True at the peer's close_notify."""
        try:
            while tls.read(_RECEIVE_BYTES):
                pass
        except ssl.SSLWantReadError:
            self._flush()
            return False
        return True

    def unacknowledged(self) -> int:
        """Bytes that the peer's TCP has not acknowledged yet (Linux: SIOCOUTQ)."""
        answer = fcntl.ioctl(self._socket.fileno(), termios.TIOCOUTQ, struct.pack("i", 0))
        return int(struct.unpack("i", answer)[0])

    def settle(self, seconds: float) -> None:
        """Wait until the peer's TCP has acknowledged everything.

        Raises:
            WireClosed: the peer closed meanwhile, or `seconds` were not enough.
        """
        deadline = time.monotonic() + seconds
        while True:
            try:
                left = self.unacknowledged()
            except OSError as error:
                raise WireClosed(f"lost: {error}") from error
            if self.closed_by_peer():
                raise WireClosed(f"closed by the peer, {left} bytes not acknowledged{self._why}")
            if left == 0:
                return
            if time.monotonic() > deadline:
                raise WireClosed(f"{left} bytes not acknowledged within {seconds:.0f} s")
            # Wakes at once when the peer closes or resets.
            select.select([self._socket], [], [], _SETTLE_STEP_SECONDS)

    def close(self) -> None:
        """Say goodbye, without waiting for an answer."""
        with contextlib.suppress(OSError, ValueError):
            if self._tls is not None:
                with contextlib.suppress(ssl.SSLError):
                    self._tls.unwrap()
                self._socket.settimeout(1.0)
                self._flush()
        self._socket.close()
