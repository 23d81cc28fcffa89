"""The SIEM on the other side of the WAN: a syslog receiver over TCP and TLS that counts every byte and every distinct alert.

The framing is an own, minimal reading of RFC 6587 (octet counting and newline, chosen message by message) rather than Weir's, and
so is the search for CEF's `externalId`: what judges the forwarder must not share its mistakes. The byte counts are those of the TCP
payload, so over TLS they are the encrypted records with the handshake: what a WAN link carries, less the IP and TCP headers.

Run as a process: `python -m weir.local.standins.siem [--tcp-port N] [--tls-port N --certificates DIR] [--port N] [--data DIR]`.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import socket
import ssl
import struct
import tempfile
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

import orjson
from aiohttp import web

from weir.local.standins.certificates import CertificateFiles, ensure_certificates
from weir.local.standins.server import HttpStandIn, json_response, run

__all__ = ["Deframer", "FramingError", "SiemStandIn", "alert_id", "main"]

_MAX_MESSAGE_BYTES = 1024 * 1024
_MAX_DIGITS = 7
_MAX_DISTINCT = 1_000_000
_REMEMBERED_CONNECTIONS = 1000


class FramingError(ValueError):
    """The stream cannot be cut into messages any more; the connection is closed, as receivers do."""


class Deframer:
    """Cuts a stream into messages. A digit opens an octet-counted one (`<length> SP <message>`), anything else ends at LF."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Messages completed by `data`. Raises FramingError for a bad or too large length, or an endless line."""
        self._buffer += data
        position = 0
        try:
            while position < len(self._buffer):
                if self._buffer[position : position + 1].isdigit():
                    space = self._buffer.find(b" ", position, position + _MAX_DIGITS + 1)
                    if space < 0:
                        if len(self._buffer) - position > _MAX_DIGITS:
                            raise FramingError("no space after an octet count")
                        return
                    digits = bytes(self._buffer[position:space])
                    if not digits.isdigit() or int(digits) > _MAX_MESSAGE_BYTES:
                        raise FramingError(f"octet count {digits!r} is no number up to {_MAX_MESSAGE_BYTES}")
                    start, end = space + 1, space + 1 + int(digits)
                    after = end
                else:
                    start, end = position, self._buffer.find(b"\n", position)
                    after = end + 1
                    if end < 0 and len(self._buffer) - position > _MAX_MESSAGE_BYTES:
                        raise FramingError(f"line longer than {_MAX_MESSAGE_BYTES} bytes")
                if end < 0 or end > len(self._buffer):
                    return
                message = bytes(self._buffer[start:end])
                position = after
                if message.strip(b"\r\n"):
                    yield message
        finally:
            del self._buffer[:position]

    @property
    def pending(self) -> int:
        """Bytes of a message that has not ended."""
        return len(self._buffer)


_CEF_EXTENSION = re.compile(r"CEF:\d+(?:\|(?:[^|\\]|\\.)*){6}\|(.*)", re.DOTALL)
_EXTERNAL_ID = re.compile(r"(?:^|\s)externalId=((?:\\.|[^\\=])*?)\s*(?=\s[\w.\[\]-]+=|$)", re.DOTALL)


def alert_id(message: bytes) -> str | None:
    """The `externalId` of a CEF message, unescaped; None when it is not CEF or has none."""
    event = _CEF_EXTENSION.search(message.decode("utf-8", "replace"))
    if event is None:
        return None
    found = _EXTERNAL_ID.search(event[1])
    return re.sub(r"\\(.)", r"\1", found[1]) if found and found[1] else None


@dataclass(slots=True)
class _Connection:
    peer: str
    tls: bool
    bytes_in: int = 0
    bytes_out: int = 0
    messages: int = 0
    open: bool = True
    error: str = ""


@dataclass(slots=True)
class _Behaviour:
    """How the receiver misbehaves now; applies to connections that are open as well."""

    refuse: bool = False
    reset_after: int | None = None
    read_bytes_per_second: int | None = None
    stop_reading: bool = False


class _Receiver(asyncio.Protocol):
    """One connection. TLS is done here over memory buffers, since asyncio's own hides the size of the encrypted records."""

    def __init__(self, siem: SiemStandIn, context: ssl.SSLContext | None) -> None:
        self._siem = siem
        self._deframer = Deframer()
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True) if context else None
        self._handshaken = False
        self._resume: asyncio.TimerHandle | None = None
        self.record = _Connection("", tls=context is not None)
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - what create_server gives
        self.transport = transport
        host, port = transport.get_extra_info("peername")[:2]
        self.record.peer = f"{host}:{port}"
        self._siem.opened(self)
        self.apply_behaviour()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._resume is not None:
            self._resume.cancel()
        if self._deframer.pending and not self.record.error:
            self.record.error = f"closed within a message, {self._deframer.pending} bytes of it read"
        self.record.open = False
        self._siem.closed(self)

    def apply_behaviour(self) -> None:
        if self.transport is None or self.transport.is_closing():
            return
        if self._siem.behaviour.stop_reading:
            self.transport.pause_reading()
        elif self._resume is None:
            self.transport.resume_reading()

    def data_received(self, data: bytes) -> None:
        behaviour = self._siem.behaviour
        self.record.bytes_in += len(data)
        self._siem.bytes_in += len(data)
        if behaviour.reset_after is not None:
            behaviour.reset_after -= len(data)
            if behaviour.reset_after <= 0:
                behaviour.reset_after = None
                self._reset("reset as told")
                return
        if behaviour.read_bytes_per_second and self.transport is not None:
            self.transport.pause_reading()
            self._resume = asyncio.get_running_loop().call_later(len(data) / behaviour.read_bytes_per_second, self._go_on)
        try:
            for clear in self._decrypted(data):
                for message in self._deframer.feed(clear):
                    self.record.messages += 1
                    self._siem.received(message, self.record)
        except (FramingError, ssl.SSLError) as error:
            self.record.error = str(error)
            if self.transport is not None:
                self.transport.close()

    def _decrypted(self, data: bytes) -> Iterator[bytes]:
        if self._tls is None:
            yield data
            return
        self._incoming.write(data)
        try:
            if not self._handshaken:
                self._tls.do_handshake()
                self._handshaken = True
            while clear := self._tls.read(64 * 1024):
                yield clear
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            if self.transport is not None:
                self.transport.close()
        finally:
            answer = self._outgoing.read()
            if answer and self.transport is not None:
                self.record.bytes_out += len(answer)
                self._siem.bytes_out += len(answer)
                self.transport.write(answer)

    def _go_on(self) -> None:
        self._resume = None
        self.apply_behaviour()

    def _reset(self, reason: str) -> None:
        self.record.error = reason
        if self.transport is not None:
            # With a linger of zero the kernel sends RST instead of FIN: the peer's data on the way is gone.
            connection: socket.socket = self.transport.get_extra_info("socket")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.transport.abort()

    def close(self) -> None:
        if self.transport is not None:
            self.transport.close()

    def reset(self) -> None:
        self._reset("reset as told")


class SiemStandIn(HttpStandIn):
    """Syslog on `tcp_port` (and `tls_port` with certificates); control and statistics by http on `port`.

    Control (`POST /_control`): `refuse` (close the listening sockets and the connections), `reset_after` (bytes from now, then one
    RST), `reset` (all connections, now), `read_bytes_per_second` (null for full speed), `stop_reading`.
    Reading: `/_stats`, `/_messages?limit=`, `/_ids`.
    """

    def __init__(
        self,
        *,
        port: int = 0,
        tcp_port: int = 0,
        tls_port: int = 0,
        certificates: CertificateFiles | None = None,
        client_certificate: bool = False,
        data: Path | None = None,
        keep: int = 1000,
        receive_buffer: int | None = None,
    ) -> None:
        """`keep` is the number of last messages held in memory; all are in `messages.ndjson`.

        `receive_buffer` (bytes) makes the kernel's buffer small, so that a sender notices soon that nobody reads.
        """
        super().__init__(port)
        self.tcp_port, self.tls_port = tcp_port, tls_port
        self.behaviour = _Behaviour()
        self.bytes_in = 0
        self.bytes_out = 0
        self._context = certificates.server_context(client_certificate=client_certificate) if certificates else None
        self._receive_buffer = receive_buffer
        self._temporary = tempfile.TemporaryDirectory(prefix="weir-standin-") if data is None else None
        self._directory = Path(self._temporary.name) if self._temporary else data or Path()
        self._file: BinaryIO | None = None
        self._last: deque[dict[str, Any]] = deque(maxlen=keep)
        self._alerts: set[str] = set()
        self._messages = 0
        self._with_id = 0
        self._connections: deque[_Connection] = deque(maxlen=_REMEMBERED_CONNECTIONS)
        self._connections_total = 0
        self._open: set[_Receiver] = set()
        self._servers: list[asyncio.Server] = []

    def ports(self) -> dict[str, int]:
        tls = {"tls_port": self.tls_port} if self._context else {}
        return {"port": self.port, "tcp_port": self.tcp_port, **tls}

    async def start(self) -> None:
        self._directory.mkdir(parents=True, exist_ok=True)
        self._file = (self._directory / "messages.ndjson").open("wb")
        await self._listen()
        await super().start()

    async def stop(self) -> None:
        await super().stop()
        self._hang_up()
        for receiver in list(self._open):
            receiver.close()
        if self._file is not None:
            self._file.close()
            self._file = None
        if self._temporary is not None:
            self._temporary.cleanup()

    async def _listen(self) -> None:
        self.tcp_port = await self._listen_on(self.tcp_port, lambda: _Receiver(self, None))
        if self._context is not None:
            self.tls_port = await self._listen_on(self.tls_port, lambda: _Receiver(self, self._context))

    async def _listen_on(self, port: int, receiver: Callable[[], _Receiver]) -> int:
        listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if self._receive_buffer is not None:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self._receive_buffer)
        try:
            listening.bind((self.host, port))
        except OSError as error:
            listening.close()
            raise OSError(error.errno, f"SiemStandIn cannot listen on {self.host}:{port}: {error.strerror}") from error
        self._servers.append(await asyncio.get_running_loop().create_server(receiver, sock=listening))
        return int(listening.getsockname()[1])

    def _hang_up(self) -> None:
        for server in self._servers:
            server.close()
        self._servers.clear()

    # -- called by the connections

    def opened(self, receiver: _Receiver) -> None:
        self._connections.append(receiver.record)
        self._connections_total += 1
        self._open.add(receiver)

    def closed(self, receiver: _Receiver) -> None:
        self._open.discard(receiver)

    def received(self, message: bytes, connection: _Connection) -> None:
        name = alert_id(message)
        self._messages += 1
        if name is not None:
            self._with_id += 1
            if len(self._alerts) < _MAX_DISTINCT:
                self._alerts.add(name)
        entry = {"peer": connection.peer, "tls": connection.tls, "alert": name, "message": message.decode("utf-8", "replace")}
        self._last.append(entry)
        if self._file is not None:
            self._file.write(orjson.dumps(entry, option=orjson.OPT_APPEND_NEWLINE))

    # -- control and statistics

    def routes(self) -> list[web.RouteDef]:
        return [web.get("/_messages", self._get_messages), web.get("/_ids", self._get_ids)]

    async def control(self, wishes: dict[str, Any]) -> None:
        behaviour = self.behaviour
        if "reset_after" in wishes:
            after = wishes.pop("reset_after")
            behaviour.reset_after = None if after is None else int(after)
        if "read_bytes_per_second" in wishes:
            speed = wishes.pop("read_bytes_per_second")
            behaviour.read_bytes_per_second = None if speed is None else max(1, int(speed))
        if "stop_reading" in wishes:
            behaviour.stop_reading = bool(wishes.pop("stop_reading"))
        if "refuse" in wishes:
            refuse = bool(wishes.pop("refuse"))
            if refuse and not behaviour.refuse:
                self._hang_up()
                for receiver in list(self._open):
                    receiver.close()
            elif behaviour.refuse and not refuse:
                await self._listen()
            behaviour.refuse = refuse
        if wishes.pop("reset", False):
            for receiver in list(self._open):
                receiver.reset()
        for receiver in list(self._open):
            receiver.apply_behaviour()

    async def stats(self) -> dict[str, Any]:
        return {
            "messages": self._messages,
            "distinct": len(self._alerts),
            "repeated": self._with_id - len(self._alerts),
            "without_id": self._messages - self._with_id,
            "bytes_in": self.bytes_in,
            "bytes_out": self.bytes_out,
            "connections_total": self._connections_total,
            "connections_open": len(self._open),
            "connections": [asdict(connection) for connection in self._connections],
        }

    async def _get_messages(self, request: web.Request) -> web.Response:
        limit = int(request.query.get("limit", "10"))
        return json_response(list(self._last)[-limit:] if limit > 0 else [])

    async def _get_ids(self, _: web.Request) -> web.Response:
        return web.Response(text="".join(f"{name}\n" for name in sorted(self._alerts)))


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="siem", description="Stand-in for a SIEM's syslog receiver.")
    parser.add_argument("--port", type=int, default=0, help="control and statistics; 0 takes a free one (default)")
    parser.add_argument("--tcp-port", type=int, default=0, help="syslog over TCP")
    parser.add_argument("--tls-port", type=int, default=0, help="syslog over TLS; used with --certificates")
    parser.add_argument("--certificates", type=Path, help="directory for the certificates, made when missing; enables TLS")
    parser.add_argument("--client-certificate", action="store_true", help="refuse TLS clients without a certificate of ours")
    parser.add_argument("--data", type=Path, help="directory for the messages; a temporary one when not given")
    options = parser.parse_args(arguments)
    run(
        SiemStandIn(
            port=options.port,
            tcp_port=options.tcp_port,
            tls_port=options.tls_port,
            certificates=ensure_certificates(options.certificates) if options.certificates else None,
            client_certificate=options.client_certificate,
            data=options.data,
        )
    )


if __name__ == "__main__":
    main()
