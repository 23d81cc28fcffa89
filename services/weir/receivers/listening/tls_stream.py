"""TLS of one connection, without a socket: bytes in, bytes out.

asyncio's own TLS begins with the first byte of a connection, but behind a balancer the PROXY header comes first, and what has
been read beyond it cannot be handed back to `start_tls`. It also gives no say in how many handshakes are under way.
"""

from __future__ import annotations

import contextlib
import ssl

from weir.ops.tls import subject_of

__all__ = ["TlsStream"]

_READ = 65_536
_RECORD_HEADER = 5
_HELLO_HEADER = _RECORD_HEADER + 4  # of the record; type and length of the handshake message
_HELLO_LONGEST = 32 * 1024


class TlsStream:
    """The server's end.

    `established`: the handshake is done. `ended`: the client has said goodbye. `failure`: the handshake or a record is bad, for
    this reason (OpenSSL's, in words); send `output()`, which holds the alert, and close.

    A ClientHello has some 2 kB at most. OpenSSL takes up to 128 KiB and makes room for as much as the first nine bytes announce,
    which some thousand connections may do that then send nothing; so what announces more than 32 KiB is not shown to it.
    """

    __slots__ = ("_first", "_in", "_out", "_ssl", "ended", "established", "failure")

    def __init__(self, context: ssl.SSLContext) -> None:
        # Syslog never answers, so many senders never read. Session tickets that lie unread in a sender's kernel make it reset
        # the connection when it closes, and the reset destroys what it had still to send.
        context.num_tickets = 0
        self._in = ssl.MemoryBIO()
        self._out = ssl.MemoryBIO()
        self._ssl = context.wrap_bio(self._in, self._out, server_side=True)
        self._first: bytes | None = b""
        self.established = False
        self.ended = False
        self.failure: str | None = None

    @property
    def subject(self) -> str | None:
        """Subject of the client's verified certificate."""
        return subject_of(self._ssl)

    def feed(self, data: bytes) -> bytes:
        """Take what came from the socket; give what it decrypts to. Afterwards `output` may have something to send."""
        if self._first is not None:
            self._first = data = self._first + data
            # Other beginnings than a handshake's are OpenSSL's to judge.
            if data[:1] in (b"", b"\x16"):
                if len(data) < _HELLO_HEADER:
                    return b""
                record, hello = int.from_bytes(data[3:5], "big"), int.from_bytes(data[6:9], "big")
                if record < _HELLO_HEADER - _RECORD_HEADER or hello > _HELLO_LONGEST:
                    self.failure = "tls handshake: client hello too long"
                    return b""
            self._first = None
        self._in.write(data)
        plain: list[bytes] = []
        try:
            if not self.established:
                self._ssl.do_handshake()
                self.established = True
            while part := self._ssl.read(_READ):
                plain.append(part)
            self.ended = True
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            pass
        except ssl.SSLZeroReturnError:
            self.ended = True
        except ssl.SSLError as error:
            reason = (error.reason or type(error).__name__).replace("_", " ").lower()
            self.failure = f"tls: {reason}" if self.established else f"tls handshake: {reason}"
        return b"".join(plain)

    def output(self) -> bytes:
        """What is to be sent."""
        return self._out.read()

    def close(self) -> bytes:
        """The goodbye to be sent, where there is one."""
        if self.established:
            with contextlib.suppress(ssl.SSLError):
                self._ssl.unwrap()
        return self._out.read()
