"""HTTP(S): JSON documents by POST or PUT, answered with 200 only when Kafka has acknowledged all of them.

A body is one JSON object, an array of objects, or objects one after the other (NDJSON), plain, gzip or deflate. Each object becomes
a unit, byte by byte as it was sent; the path has no meaning and chooses no topic. A body with a bad element is refused whole, and
nothing of it is published.

What is not answered with 200 is the sender's to send again. Where Kafka had been given the documents and did not acknowledge in
time, the answer is 503 and they may yet arrive: sent again they are there twice, as happens wherever delivery is at least once.
From then on this sender's requests are turned away at once, until Kafka has acknowledged what was left over: trying again and
again must not fill memory and Kafka with copies.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final, Self

import orjson
from aiohttp import web
from aiohttp.http import HttpVersion11
from aiohttp.web_protocol import RequestHandler, RequestPayloadError
from pydantic import Field, SecretStr, model_validator

from weir.ops.logging import get
from weir.ops.settings import SettingsError
from weir.ops.tls import ServerTls, subject_of
from weir.protocols.elements import ElementError, ElementTooLongError, cut_elements
from weir.protocols.inflate import CODINGS, InflateError, Inflater, TooMuchError
from weir.protocols.proxy import ProxyPolicy
from weir.receivers.listening.limits import ConnectionLimits, RateLimit
from weir.receivers.listening.listener import Admission, Listener, Port, policy
from weir.receivers.publishing.batching import OpenBatch, Source
from weir.receivers.publishing.memory import FrameBudget, Seldom
from weir.receivers.publishing.publisher import Publisher
from weir.receivers.settings import ReceiverSettings

__all__ = ["HttpServer", "HttpSettings", "Refusal"]

_TURN_SECONDS = 0.005
_LINGER_SECONDS = 2.0
_RETRY_SECONDS: Final = 5
_RETRY_SOON_SECONDS: Final = 1
_LINES = frozenset({"application/x-ndjson", "application/ndjson", "application/jsonl", "application/x-jsonlines"})
_PLAIN_TEXT = b'{"error":"this port speaks HTTPS"}\n'
_PLAIN_REFUSAL = (
    b"HTTP/1.1 400 Bad Request\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s"
    % (len(_PLAIN_TEXT), _PLAIN_TEXT)
)
_HELP = (
    "Weir takes JSON documents here: POST or PUT one object, an array of objects, or one object a line, on any path.\n"
    "  Content-Type: application/json or application/x-ndjson; Content-Encoding: gzip or deflate, if any\n"
    '  200 {"accepted": n}  all are in Kafka\n'
    "  400 names the element that is no JSON object; nothing was taken\n"
    "  413 too large, 415 other content, 429 and 503 send it again after Retry-After seconds\n"
)


class HttpSettings(ReceiverSettings):
    """What the HTTP port reads."""

    http_host: str = Field("0.0.0.0", min_length=1, description="address to listen on; '::' for IPv4 and IPv6")
    http_port: int = Field(8088, ge=-1, le=65535, description="TCP port for HTTP(S); 0 takes any free one, -1 turns it off")
    http_tls: str = Field(
        "auto",
        pattern="^(auto|off)$",
        description="auto: HTTPS where WEIR_TLS_CERTIFICATE_FILE is set; off: plain HTTP",
    )
    http_token: SecretStr | None = Field(
        None, description="requests must bear it (Authorization: Bearer …), else they are answered 401; without it anyone may send"
    )
    http_token_file: Path | None = Field(
        None, description="file with such tokens, one a line: several, so that they can be changed one sender after the other"
    )
    http_max_connections: int = Field(2_048, ge=1, le=65_536, description="connections at once; further ones are refused")
    http_max_connections_per_source: int = Field(
        1_024,
        ge=0,
        le=65_536,
        description="connections at once from one address; requests on further ones get 429; 0: no limit",
    )
    http_connection_rate: float = Field(
        200.0, ge=0, le=1_000_000, description="new connections per second of one address, ten times as many at once; 0: no limit"
    )
    http_requests_per_second: float = Field(
        0.0,
        ge=0,
        le=1_000_000,
        description="requests of one address, ten seconds' worth at once; beyond that 429; 0: no limit",
    )
    http_backlog: int = Field(512, ge=1, le=65_535, description="connections that wait to be accepted")
    http_proxy_protocol: str = Field(
        "off",
        pattern="^(off|optional|required)$",
        description="PROXY protocol (versions 1 and 2): required refuses whoever is no balancer of WEIR_HTTP_PROXY_FROM or sends "
        "no header; optional takes others as they are, but refuses their headers. X-Forwarded-For is never believed",
    )
    http_proxy_from: str = Field("", description="CIDR ranges of balancers whose PROXY header is believed, comma separated")
    http_max_body_bytes: int = Field(
        16 * 1024 * 1024, ge=1_024, le=1024**3, description="one body on the wire; a larger one is answered 413"
    )
    http_max_inflated_bytes: int = Field(
        32 * 1024 * 1024, ge=1_024, le=1024**3, description="what a compressed body may become; more is answered 413"
    )
    http_max_element_bytes: int = Field(786_432, ge=1_024, le=786_432, description="one document; a longer one is answered 413")
    http_max_elements: int = Field(100_000, ge=1, le=10_000_000, description="documents in one body; more are answered 413")
    http_body_memory_bytes: int = Field(
        64 * 1024 * 1024,
        ge=1024 * 1024,
        le=16 * 1024**3,
        description="bytes of all bodies under way together; above it they are not read, and in the end answered 503",
    )
    http_handshake_seconds: float = Field(
        10.0, gt=0, le=600, description="a TLS handshake that takes longer, or does not begin for so long, is given up"
    )
    http_idle_seconds: float = Field(
        75.0, gt=0, le=3_600, description="a connection on which no whole request header came for so long is closed"
    )
    http_body_seconds: float = Field(60.0, gt=0, le=3_600, description="a body that takes longer is answered 408")
    http_ack_seconds: float = Field(
        8.0, gt=0, le=600, description="longest wait for Kafka; then 503, though the documents may still arrive"
    )

    @model_validator(mode="after")
    def _http_proxy(self) -> Self:
        try:
            self.http_proxy()
        except ValueError as error:
            raise ValueError(f"WEIR_HTTP_PROXY_FROM: {error}") from error
        return self

    def http_proxy(self) -> ProxyPolicy:
        """From whom a PROXY header is taken. Raises ValueError where the settings do not say."""
        return policy(self.http_proxy_protocol, self.http_proxy_from)


class Refusal(Exception):
    """A request that is not answered with 200; `close` ends its connection too. `values` go into the answer beside the error."""

    def __init__(
        self, status: int, error: str, *, retry: int | None = None, reason: str = "", close: bool = False, **values: Any
    ) -> None:
        super().__init__(error)
        self.status = status
        self.error = error
        self.retry = retry
        self.close = close
        self.reason = reason or f"HTTP {status}"
        self.values = values


class _Delivery:
    """The batches of one request on their way into Kafka."""

    __slots__ = ("_complete", "done", "unsettled", "when_settled")

    def __init__(self) -> None:
        self.unsettled = 0
        self.done = asyncio.Event()
        self.when_settled: Callable[[], None] | None = None
        self._complete = False

    def begin(self) -> Callable[[], None]:
        """Count one more batch; call what this returns when Kafka has it."""
        self.unsettled += 1
        return self._settled

    def _settled(self) -> None:
        self.unsettled -= 1
        if not self.unsettled:
            if self._complete:
                self.done.set()
            if self.when_settled is not None:
                self.when_settled()

    def no_more(self) -> None:
        """All batches have begun."""
        self._complete = True
        if not self.unsettled:
            self.done.set()


class _Handler(RequestHandler):
    """aiohttp's connection, with its place within the limits; says what goes wrong on it in our way, and seldom."""

    __slots__ = ("_server", "admission")

    def __init__(self, server: HttpServer, manager: web.Server, admission: Admission, **options: Any) -> None:
        super().__init__(manager, loop=asyncio.get_running_loop(), **options)
        self._server = server
        self.admission = admission

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._server.publisher.metrics.connected(1)

    def connection_lost(self, exc: BaseException | None) -> None:
        super().connection_lost(exc)
        self.admission.leave()
        self._server.publisher.metrics.connected(-1)

    def handle_error(
        self, request: web.BaseRequest, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> web.StreamResponse:
        if request.writer.output_size > 0:
            raise ConnectionError("the answer has begun already")
        return self._server.failed(self.admission.host, status, exc, message)


class HttpServer:
    """The HTTP port.

    Args:
        settings: limits and time-outs.
        publisher: where units go.
        tls: spoken where the settings do not turn it off.
        service: such as "receive.beats".
    """

    def __init__(self, settings: HttpSettings, publisher: Publisher, tls: ServerTls | None, service: str) -> None:
        self.publisher = publisher
        self._settings = settings
        self._tokens = _tokens(settings)
        self._bodies = FrameBudget(settings.http_body_memory_bytes)
        self._rate = RateLimit(settings.http_requests_per_second, settings.http_requests_per_second * 10, time.monotonic)
        self._log = get(f"weir.{service}")
        self._say = Seldom(10.0, time.monotonic)
        self._late: dict[str, int] = {}
        self._under_way = 0
        self._none_under_way = asyncio.Event()
        self._none_under_way.set()
        self._stopping = False
        self._options: dict[str, Any] = {
            "keepalive_timeout": settings.http_idle_seconds,
            "lingering_time": _LINGER_SECONDS,
            "auto_decompress": False,
            "access_log": None,
            "tcp_keepalive": False,
        }
        self._manager = web.Server(self._handle)
        port = Port(
            name="HTTP",
            host=settings.http_host,
            port=settings.http_port,
            backlog=settings.http_backlog,
            tls=tls if settings.http_tls == "auto" else None,
            handshake_seconds=settings.http_handshake_seconds,
            plain_hint="send to https://, or set WEIR_HTTP_TLS=off",
            tls_hint="send to http://, or set WEIR_TLS_CERTIFICATE_FILE and WEIR_TLS_KEY_FILE",
            refusal=_PLAIN_REFUSAL,
            first_byte_seconds=settings.http_idle_seconds,
            proxy=settings.http_proxy(),
            reuse_port=settings.receiver_processes > 1,
        )
        limits = ConnectionLimits(
            settings.http_max_connections,
            settings.http_max_connections_per_source,
            settings.http_connection_rate,
            time.monotonic,
        )
        self._listener = Listener(port, limits, self._admitted, publisher.metrics, service)

    @property
    def port(self) -> int:
        """The TCP port."""
        return self._listener.port

    def start(self) -> None:
        """Open the socket. Raises OSError where it cannot be had."""
        self._listener.start(self._settings.http_max_connections)

    def _admitted(self, admission: Admission) -> asyncio.BaseProtocol:
        return _Handler(self, self._manager, admission, **self._options)

    async def stop(self, seconds: float) -> None:
        """Take no more connections; let requests under way finish, answer others with 503; then close."""
        self._stopping = True
        await self._listener.stop()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._none_under_way.wait()
        await self._manager.shutdown(1.0)

    # Requests

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        self._under_way += 1
        self._none_under_way.clear()
        owner = object()
        try:
            return await self._answer(request, owner)
        except Refusal as refusal:
            return self._refused(request, refusal)
        finally:
            self._bodies.update(owner, 0)
            self._under_way -= 1
            if not self._under_way:
                self._none_under_way.set()

    async def _answer(self, request: web.BaseRequest, owner: object) -> web.StreamResponse:
        if self._stopping:
            raise Refusal(503, "this receiver is stopping", retry=_RETRY_SOON_SECONDS, reason="HTTP 503: stopping")
        if request.method in {"GET", "HEAD"} and request.path == "/":
            return web.Response(text=_HELP)
        if request.method not in {"POST", "PUT"}:
            raise Refusal(405, "only POST and PUT are taken here; GET / tells more")
        source, port = self._who(request)
        if not self._rate.allow(source.ip):
            raise Refusal(429, "too many requests per second", retry=_RETRY_SOON_SECONDS)
        self._open_for_units(source)
        lines, inflater = self._what(request)
        deadline = asyncio.get_running_loop().time() + self._settings.http_body_seconds
        if request.headers.get("Expect", "").lower() == "100-continue" and request.version >= HttpVersion11:
            await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            request.writer.output_size = 0  # aiohttp counts what belongs to the answer proper
        body = await self._read(request, inflater, deadline, owner)
        units = await self._cut(body, lines=lines)
        accepted = len(units)
        del body
        # Once more: reading may have taken its time, and the catalogue may have changed.
        source, port = self._who(request)
        self._open_for_units(source)
        await self._publish(source, port, units, owner)
        return _json(200, {"accepted": accepted})

    def _who(self, request: web.BaseRequest) -> tuple[Source, int | None]:
        """Whose units these are. Raises Refusal where they are not to be taken."""
        transport = request.transport
        if transport is None:
            raise Refusal(503, "the client is gone")
        handler = request.protocol
        admission = handler.admission if isinstance(handler, _Handler) else None
        host, port = (admission.host, admission.port) if admission else ("", None)
        if admission is not None and admission.crowded is not None:
            raise Refusal(429, admission.crowded, retry=_RETRY_SECONDS, reason="HTTP 429: connections", close=True)
        if self._tokens:
            scheme, _, given = request.headers.get("Authorization", "").partition(" ")
            if scheme.lower() != "bearer" or not _known(given.strip(), self._tokens):
                raise Refusal(401, "a bearer token is needed: Authorization: Bearer …")
        local = transport.get_extra_info("sockname")
        subject = subject_of(transport.get_extra_info("ssl_object"))
        source = self.publisher.sources.of(host, "http", local[1] if local else 0, subject)
        if source is None:
            raise Refusal(403, "the catalogue of sources refuses this sender", reason="source refused")
        return source, port

    def _what(self, request: web.BaseRequest) -> tuple[bool, Inflater | None]:
        """Whether the body is one object a line, and how to inflate it. Raises Refusal for what cannot be taken."""
        settings = self._settings
        kind = request.content_type if "Content-Type" in request.headers else "application/json"
        lines = kind in _LINES
        if not lines and kind not in {"application/json", "text/json"} and not kind.endswith("+json"):
            raise Refusal(415, f"Content-Type {kind[:100]!r}: send application/json or application/x-ndjson")
        if (request.charset or "utf-8").lower() not in {"utf-8", "utf8", "us-ascii"}:
            raise Refusal(415, f"charset {(request.charset or '')[:100]!r}: JSON is sent in UTF-8")
        coding = request.headers.get("Content-Encoding", "identity").strip().lower()
        if coding not in CODINGS and coding != "identity":
            raise Refusal(415, f"Content-Encoding {coding[:100]!r}: send gzip, deflate or none")
        length = request.content_length
        if length is not None and length > settings.http_max_body_bytes:
            raise Refusal(413, f"the body has {length:,} bytes, WEIR_HTTP_MAX_BODY_BYTES is {settings.http_max_body_bytes:,}")
        return lines, Inflater(coding, settings.http_max_inflated_bytes) if coding in CODINGS else None

    def _open_for_units(self, source: Source) -> None:
        """Raise Refusal while Kafka is away or memory is full."""
        if source.ip in self._late:
            raise Refusal(503, "Kafka has not acknowledged in time", retry=_RETRY_SECONDS, reason="HTTP 503: Kafka is away")
        if self.publisher.problem() is not None:
            raise Refusal(503, "Kafka is away", retry=_RETRY_SECONDS, reason="HTTP 503: Kafka is away")
        if self.publisher.memory.shut:
            raise Refusal(503, "memory is full", retry=_RETRY_SOON_SECONDS, reason="HTTP 503: memory full")

    async def _read(self, request: web.BaseRequest, inflater: Inflater | None, deadline: float, owner: object) -> bytearray:
        """The whole body, inflated. Raises Refusal past a limit or for what is not in its coding."""
        limit = self._settings.http_max_body_bytes
        body = bytearray()
        came = 0
        waiting = False
        turn = time.monotonic() + _TURN_SECONDS
        try:
            async with asyncio.timeout_at(deadline):
                while True:
                    waiting = True
                    await self._bodies.admit(owner)
                    waiting = False
                    data = await request.content.readany()
                    if not data:
                        break
                    came += len(data)
                    if came > limit:
                        raise Refusal(413, f"the body has more than {limit:,} bytes: WEIR_HTTP_MAX_BODY_BYTES")
                    for piece in inflater.feed(data) if inflater else (data,):
                        body += piece
                        # Twice: the units that are cut out of it exist beside it for a while.
                        self._bodies.update(owner, 2 * len(body))
                        if time.monotonic() >= turn:
                            await asyncio.sleep(0)
                            turn = time.monotonic() + _TURN_SECONDS
                if inflater:
                    inflater.end()
        except TooMuchError as error:
            raise Refusal(413, f"the body {error}: WEIR_HTTP_MAX_INFLATED_BYTES") from None
        except InflateError as error:
            raise Refusal(400, f"the body is {error}" if str(error).startswith("not") else str(error)) from None
        except TimeoutError:
            if waiting:
                raise Refusal(
                    503, "too many bodies are under way", retry=_RETRY_SOON_SECONDS, reason="HTTP 503: memory full"
                ) from None
            raise Refusal(408, f"the body took longer than {self._settings.http_body_seconds:.0f} s") from None
        except (RequestPayloadError, web.HTTPException, ConnectionError) as error:
            raise Refusal(400, f"the body is broken: {error}", reason="HTTP 400: body broken off") from None
        return body

    async def _cut(self, body: bytearray, *, lines: bool) -> list[bytes]:
        """The units. Raises Refusal naming the bad one."""
        settings = self._settings
        units: list[bytes] = []
        turn = time.monotonic() + _TURN_SECONDS
        try:
            for unit in cut_elements(body, lines=lines, max_element_bytes=settings.http_max_element_bytes):
                if len(units) >= settings.http_max_elements:
                    raise Refusal(413, f"more than {settings.http_max_elements:,} elements: WEIR_HTTP_MAX_ELEMENTS")
                units.append(unit)
                if time.monotonic() >= turn:
                    await asyncio.sleep(0)
                    turn = time.monotonic() + _TURN_SECONDS
        except ElementTooLongError as error:
            raise Refusal(413, str(error), reason="HTTP 413: element", index=error.index, offset=error.offset) from None
        except ElementError as error:
            raise Refusal(400, str(error), reason="HTTP 400: element", index=error.index, offset=error.offset) from None
        if not units and not body.strip():
            raise Refusal(400, "the body is empty")
        return units

    # Publishing

    async def _publish(self, source: Source, port: int | None, units: list[bytes], owner: object) -> None:
        """Give the units to Kafka and wait. Raises Refusal where it does not acknowledge them in time."""
        settings, publisher = self._settings, self.publisher
        delivery = _Delivery()
        batch: OpenBatch | None = None
        try:
            async with asyncio.timeout(settings.http_ack_seconds):
                for unit in units:
                    if batch is not None and (
                        len(batch.units) >= settings.receiver_batch_units or not batch.fits(unit, settings.receiver_batch_bytes)
                    ):
                        publisher.publish(batch, delivery.begin())
                        batch = None
                        await asyncio.sleep(0)
                        await publisher.memory.room()
                    if batch is None:
                        batch = publisher.begin(source)
                    publisher.add(batch, unit, port)
                if batch is not None:
                    publisher.publish(batch, delivery.begin())
                    batch = None
                units.clear()  # they are in memory as batches now, and counted there
                self._bodies.update(owner, 0)
                delivery.no_more()
                await delivery.done.wait()
        except TimeoutError:
            if delivery.unsettled:
                self._late[source.ip] = self._late.get(source.ip, 0) + 1
                delivery.when_settled = lambda: self._settled_late(source.ip)
            raise Refusal(
                503,
                f"Kafka has not acknowledged within {settings.http_ack_seconds:g} s; the documents may still arrive",
                retry=_RETRY_SECONDS,
                reason="HTTP 503: not acknowledged in time",
            ) from None
        finally:
            if batch is not None:
                publisher.discard(batch)

    def _settled_late(self, ip: str) -> None:
        self._late[ip] -= 1
        if not self._late[ip]:
            del self._late[ip]

    # Answers

    def _refused(self, request: web.BaseRequest, refusal: Refusal) -> web.Response:
        host = request.protocol.admission.host if isinstance(request.protocol, _Handler) else ""
        self._count(refusal.reason, host, refusal.error)
        values = {name: value for name, value in refusal.values.items() if value is not None}
        response = _json(refusal.status, {"error": refusal.error, **values})
        if refusal.retry is not None:
            response.headers["Retry-After"] = str(refusal.retry)
        if refusal.status == 401:
            response.headers["WWW-Authenticate"] = "Bearer"
        if refusal.status == 405:
            response.headers["Allow"] = "POST, PUT"
        # A body that was not read, or that the client may not send after all, leaves no place for another request.
        unread = "Expect" in request.headers or not request.content.is_eof()
        if unread or refusal.close or refusal.status in {408, 413} or self._stopping:
            response.force_close()
        return response

    def failed(self, host: str, status: int, error: BaseException | None, message: str | None) -> web.Response:
        """The answer where aiohttp gives up: no HTTP, or a mistake of ours."""
        text = (message or "").splitlines()[0][:200] if message else type(error).__name__ if error else ""
        self._count("not HTTP" if status == 400 else f"HTTP {status}", host, text, error if status >= 500 else None)
        response = _json(status, {"error": text or "the request could not be handled"})
        response.force_close()
        return response

    def _count(self, reason: str, host: str, error: str, exception: BaseException | None = None) -> None:
        self.publisher.metrics.refused(reason)
        if self._say((reason, host)):
            self._log.warning("request refused", reason=reason, source=host, error=error, exc_info=exception)


def _json(status: int, values: dict[str, Any]) -> web.Response:
    return web.Response(status=status, body=orjson.dumps(values) + b"\n", content_type="application/json")


def _tokens(settings: HttpSettings) -> list[bytes]:
    """Digests of the tokens. Raises SettingsError for a file without any: everyone would be let in."""
    tokens = [settings.http_token.get_secret_value().strip()] if settings.http_token else []
    if settings.http_token_file is not None:
        tokens += [token for line in settings.http_token_file.read_text(encoding="utf-8").splitlines() if (token := line.strip())]
        if not tokens:
            raise SettingsError([f"WEIR_HTTP_TOKEN_FILE: {settings.http_token_file} holds no token, and would let everyone in"])
    return [_digest(token) for token in tokens]


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()


def _known(given: str, tokens: Iterable[bytes]) -> bool:
    """Whether it is one of them; takes as long for any, whatever was given."""
    digest = _digest(given)
    found = False
    for token in tokens:
        found |= hmac.compare_digest(digest, token)
    return found
