"""One marked event by each way in."""

from __future__ import annotations

import http.client
import ipaddress
import json
import secrets
import socket
import ssl
import struct
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from weir.protocols.lumberjack import LumberjackParser
from weir.tools.doctor.machine import Listener

__all__ = ["Client", "Marked", "send_all"]

_SECONDS = 10.0
_TEMPLATE = 40_000
_DOMAIN = 0x57454952
"""Observation domain of marked flows, "WEIR": no exporter's template is touched by ours."""

_SEQUENCE = 1
"""Every marked flow has the same number, and an uptime since the same moment: whoever follows the numbers takes the second for a
copy. By chance ones, each visit of the doctor would look like millions of flows lost on the way."""


class _UnauthorizedError(ValueError):
    """The HTTP port wants a token."""


@dataclass(slots=True)
class Marked:
    """A marked event that was sent: `needle` is what makes its unit recognisable, `error` why it was not accepted.

    `not_sent` says what the doctor itself lacked to send it.
    """

    name: str
    needle: bytes
    sent_at: float
    error: str = ""
    cure: str = ""
    not_sent: str = ""

    def is_in(self, unit: bytes) -> bool:
        """Whether this unit is the marked one."""
        return self.needle in unit


@dataclass(frozen=True, slots=True)
class Client:
    """How the doctor presents itself to receivers: client certificate, trust, token of the HTTP port, host to send to."""

    host: str | None = None
    ca_file: Path | None = None
    certificate_file: Path | None = None
    key_file: Path | None = None
    http_token: str | None = None

    def context(self) -> ssl.SSLContext:
        """Verifies the receiver where a CA is given; a port of this very host may be trusted without."""
        context = ssl.create_default_context(cafile=self.ca_file)
        if self.ca_file is None:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if self.certificate_file is not None:
            # An encrypted key is refused: OpenSSL would ask on the terminal, and wait there.
            context.load_cert_chain(self.certificate_file, self.key_file, password="")
        return context

    def target(self, listener: Listener) -> str:
        """Where to send: as asked for, else where the receiver listens, on this host."""
        if self.host:
            return self.host
        try:
            address = ipaddress.ip_address(listener.host)
        except ValueError:
            return listener.host
        return ("::1" if address.version == 6 else "127.0.0.1") if address.is_unspecified else listener.host


def send_all(listeners: list[Listener], client: Client) -> list[Marked]:
    """A marked event to each listener; what goes wrong is kept with it."""
    sent = []
    for listener in listeners:
        token = f"weir-doctor-{secrets.token_hex(8)}"
        name = f"{listener.setting.removesuffix('_port').replace('_', ' ')} {listener.port}{' (TLS)' if listener.tls else ''}"
        marked = Marked(name, token.encode(), time.monotonic())
        sent.append(marked)
        if listener.client_certificate and client.certificate_file is None:
            marked.not_sent = "this port asks for a client certificate (WEIR_TLS_CLIENT_CERTIFICATES=required)"
            marked.cure = "give the doctor one by --cert and --key; `weir certs client` makes one"
            continue
        try:
            _SENDERS[listener.setting](listener, client, marked)
        except ConnectionRefusedError:
            marked.error = "nothing listens there"
            marked.cure = f"start `weir {listener.service.replace('.', ' ')}`"
        except ssl.SSLError as error:
            marked.error = f"TLS: {error.reason or error}"
            marked.cure = (
                "is it Weir that listens there? If so, name its CA by --ca, "
                "and a client certificate it knows by --cert and --key (not encrypted)"
            )
        except ConnectionResetError as error:
            marked.error = str(error)
            marked.cure = "its log says why; " + (
                "was the client certificate issued by a CA of WEIR_TLS_CLIENT_CA_FILE?"
                if listener.tls
                else "do WEIR_RECEIVER_ALLOW and the catalogue of sources let this host in?"
            )
        except _UnauthorizedError as error:
            marked.error = str(error)
            marked.cure = "give the doctor the token that the receiver has, as WEIR_HTTP_TOKEN or WEIR_HTTP_TOKEN_FILE"
        except (OSError, ValueError, http.client.HTTPException) as error:
            marked.error = str(error) or type(error).__name__
            marked.cure = "the receiver's log says why; /readyz on its health port says whether it can publish"
    return sent


def _connect(listener: Listener, client: Client) -> socket.socket:
    host = client.target(listener)
    plain = socket.create_connection((host, listener.port), _SECONDS)
    return client.context().wrap_socket(plain, server_hostname=host) if listener.tls else plain


def _syslog_line(marked: Marked) -> bytes:
    now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return f"<14>1 {now} weir-doctor weir-doctor - {marked.needle.decode()} - marked event, no action is needed".encode()


def _syslog(listener: Listener, client: Client, marked: Marked) -> None:
    if listener.transport == "udp":
        _datagram(listener, client, _syslog_line(marked))
        return
    line = _syslog_line(marked)
    with _connect(listener, client) as connection:
        connection.sendall(b"%d %s" % (len(line), line))
        _stays_open(connection)


def _stays_open(connection: socket.socket) -> None:
    """Raises ConnectionResetError or ssl.SSLError where the receiver does not want what it was sent.

    TLS 1.3 tells of a refused client certificate only after the handshake.
    """
    connection.settimeout(0.5)
    try:
        if not connection.recv(1):
            raise ConnectionResetError("the receiver closed the connection")
    except TimeoutError:
        pass


def _datagram(listener: Listener, client: Client, data: bytes) -> None:
    family, kind, proto, _, address = socket.getaddrinfo(client.target(listener), listener.port, type=socket.SOCK_DGRAM)[0]
    with socket.socket(family, kind, proto) as sock:
        sock.connect(address)
        sock.send(data)


def _document(marked: Marked) -> bytes:
    now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    document = {
        "@timestamp": now,
        "message": "marked event, no action is needed",
        "event": {"kind": "event", "dataset": "weir.doctor", "module": "weir", "id": marked.needle.decode()},
        "host": {"name": "weir-doctor"},
    }
    return json.dumps(document).encode()


def _lumberjack(listener: Listener, client: Client, marked: Marked) -> None:
    document = _document(marked)
    inner = b"2J" + struct.pack(">II", 1, len(document)) + document
    packed = zlib.compress(inner)
    with _connect(listener, client) as connection:
        connection.sendall(b"2W" + struct.pack(">I", 1) + b"2C" + struct.pack(">I", len(packed)) + packed)
        parser = LumberjackParser(16, 1_024, 1_024)
        deadline = time.monotonic() + _SECONDS
        while time.monotonic() < deadline:
            data = connection.recv(64)
            if not data:
                raise ConnectionResetError("the receiver closed the connection without an acknowledgement")
            if any(getattr(frame, "sequence", 0) == 1 for frame in parser.feed(data)):
                return
        raise TimeoutError(f"no acknowledgement within {_SECONDS:.0f} s: Kafka has not acknowledged, so neither may the receiver")


def _http(listener: Listener, client: Client, marked: Marked) -> None:
    host = client.target(listener)
    connection = (
        http.client.HTTPSConnection(host, listener.port, timeout=_SECONDS, context=client.context())
        if listener.tls
        else http.client.HTTPConnection(host, listener.port, timeout=_SECONDS)
    )
    headers = {"Content-Type": "application/json"}
    if client.http_token:
        headers["Authorization"] = f"Bearer {client.http_token}"
    try:
        connection.request("POST", "/", _document(marked), headers)
        answer = connection.getresponse()
        body = answer.read(2_000).decode("utf-8", "replace").strip()
        if answer.status == http.client.UNAUTHORIZED:
            raise _UnauthorizedError(f"HTTP {answer.status}: {body}")
        if answer.status != http.client.OK:
            raise ValueError(f"HTTP {answer.status}: {body}")
    finally:
        connection.close()


def _uptime_ms() -> int:
    return time.time_ns() // 1_000_000 % 2**32


def _netflow(listener: Listener, client: Client, marked: Marked) -> None:
    """A NetFlow v5 datagram with one flow between documentation addresses (RFC 5737); its numbers are the mark."""
    now = time.time_ns()
    uptime = _uptime_ms()
    flow = bytes([192, 0, 2, 1, 198, 51, 100, 1]) + bytes(4) + struct.pack(">HH", 0, 0)
    flow += struct.pack(">II", 1, secrets.randbelow(2**31)) + struct.pack(">II", uptime - 1_000, uptime)
    flow += struct.pack(">HH", 49_152 + secrets.randbelow(16_000), 9) + bytes([0, 0, 17, 0]) + bytes(8)
    header = struct.pack(">HHIIIIBBH", 5, 1, uptime, now // 10**9, now % 10**9, _SEQUENCE, 0, 255, 0)
    marked.needle = header + flow
    _datagram(listener, client, marked.needle)


def _ipfix(listener: Listener, client: Client, marked: Marked) -> None:
    """One IPFIX message (RFC 7011 section 3) with a template and one flow that it describes."""
    elements = ((8, 4), (12, 4), (7, 2), (11, 2), (4, 1), (1, 8), (2, 8), (152, 8), (153, 8))
    template = struct.pack(">HH", _TEMPLATE, len(elements)) + b"".join(struct.pack(">HH", *element) for element in elements)
    now_ms = time.time_ns() // 1_000_000
    flow = bytes([192, 0, 2, 1, 198, 51, 100, 1])
    flow += struct.pack(">HHBQQQQ", 49_152 + secrets.randbelow(16_000), 9, 17, secrets.randbelow(2**40), 1, now_ms - 1_000, now_ms)
    sets = struct.pack(">HH", 2, 4 + len(template)) + template + struct.pack(">HH", _TEMPLATE, 4 + len(flow)) + flow
    header = struct.pack(">HHIII", 10, 16 + len(sets), now_ms // 1000, _SEQUENCE, _DOMAIN)
    marked.needle = header + sets
    if listener.transport == "udp":
        _datagram(listener, client, marked.needle)
        return
    with _connect(listener, client) as connection:
        connection.sendall(marked.needle)
        _stays_open(connection)


def _sflow(listener: Listener, client: Client, marked: Marked) -> None:
    """An sFlow version 5 datagram with one flow sample: a raw header of an IPv4 UDP packet between documentation addresses."""
    port = 49_152 + secrets.randbelow(16_000)
    packet = bytes(12) + b"\x08\x00" + struct.pack(">BBHHHBBH", 0x45, 0, 40, 0, 0, 64, 17, 0)
    packet += bytes([192, 0, 2, 1, 198, 51, 100, 1]) + struct.pack(">HHHH", port, 9, 20, 0) + bytes(2)
    record = struct.pack(">IIII", 1, 64, 0, len(packet)) + packet
    sample = struct.pack(">IIIIIIII", 1, 1, 1, 1, 0, 1, 2, 1) + struct.pack(">II", 1, len(record)) + record
    header = struct.pack(">II", 5, 1) + bytes([192, 0, 2, 1]) + struct.pack(">III", _DOMAIN, _SEQUENCE, _uptime_ms())
    marked.needle = header + struct.pack(">III", 1, 1, len(sample)) + sample
    _datagram(listener, client, marked.needle)


_SENDERS: dict[str, Callable[[Listener, Client, Marked], None]] = {
    "syslog_udp_port": _syslog,
    "syslog_tcp_port": _syslog,
    "syslog_tls_port": _syslog,
    "beats_port": _lumberjack,
    "http_port": _http,
    "netflow_port": _netflow,
    "ipfix_port": _ipfix,
    "ipfix_tcp_port": _ipfix,
    "ipfix_tls_port": _ipfix,
    "sflow_port": _sflow,
}
