"""Sentinel's door: the Logs Ingestion API of Azure Monitor, over https, for the unmodified `azure-monitor-ingestion`.

Rows are kept as JSON lines, one append-only file a table, and the distinct ids of each table in a set. That costs some microseconds
a row and about 150 bytes an id, answers "rows, distinct, repeated" at once, and streams everything else from the file; a
database would spend some 50 ms on each of the small requests that a sink sends in a quiet hour.

Run as a process: `python -m weir.local.standins.logs_ingestion --config rules.yaml --certificates DIR [--port N] [--data DIR]`.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
import uuid
import zlib
from collections import Counter, OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

import orjson
from aiohttp import web

from weir.local.standins.certificates import CertificateFiles, ensure_certificates
from weir.local.standins.dcr import Fitter, Stream, load_rules
from weir.local.standins.server import HttpStandIn, drop_connection, json_response, run

__all__ = ["MAX_CALL_BYTES", "Limits", "LogsIngestionStandIn", "main"]

MAX_CALL_BYTES = 1024 * 1024
# What an inflated body may reach before it counts as an attack; a megabyte of gzip can hold a gigabyte of zeros.
_MAX_INFLATED_BYTES = 64 * 1024 * 1024
_REMEMBERED_REQUESTS = 50_000


@dataclass(frozen=True, slots=True)
class Limits:
    """Per rule and minute, as in "Azure Monitor service limits" (custom logs). Bytes are counted inflated."""

    requests_per_minute: int = 12_000
    bytes_per_minute: int = 2 * 1024**3


@dataclass(slots=True)
class _Minute:
    number: int = -1
    requests: int = 0
    bytes: int = 0


@dataclass(slots=True)
class _Table:
    """An append-only file of rows and what is known of it without reading."""

    path: Path
    file: BinaryIO
    id_column: str | None
    rows: int = 0
    with_id: int = 0
    ids: set[str] = field(default_factory=set)

    def append(self, rows: list[dict[str, Any]], id_column: str | None) -> None:
        self.file.write(b"".join(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE) for row in rows))
        self.rows += len(rows)
        if id_column is not None:
            found = [str(row[id_column]) for row in rows if row.get(id_column) is not None]
            self.with_id += len(found)
            self.ids.update(found)

    def head(self, limit: int) -> list[Any]:
        self.file.flush()
        with self.path.open("rb") as file:
            return [orjson.loads(line) for line, _ in zip(file, range(limit), strict=False)]

    def counts(self) -> dict[str, Any]:
        return {
            "rows": self.rows,
            "distinct": len(self.ids),
            "repeated": self.with_id - len(self.ids),
            "without_id": self.rows - self.with_id,
            "id_column": self.id_column,
        }


class _Refusal(Exception):
    """An answer other than 204, in the service's error shape."""

    def __init__(self, status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.headers = status, code, message, dict(headers or {})

    def response(self) -> web.Response:
        headers = {"x-ms-error-code": self.code, "x-ms-request-id": str(uuid.uuid4()), **self.headers}
        return json_response({"error": {"code": self.code, "message": self.message}}, status=self.status, headers=headers)


class LogsIngestionStandIn(HttpStandIn):
    """`POST /dataCollectionRules/{rule}/streams/{stream}` with its real limits, silent losses made visible in `/_stats`.

    Control (`POST /_control`): `script` (steps, one per ingest request), `strict_inflated` (apply the 1 MB limit to the inflated
    body as well), `requests_per_minute`, `bytes_per_minute`. Reading: `/_stats`, `/_ids?table=`, `/_rows?table=&limit=`.
    """

    def __init__(
        self,
        rules: Mapping[str, Mapping[str, Stream]],
        certificates: CertificateFiles,
        *,
        port: int = 0,
        data: Path | None = None,
        limits: Limits | None = None,
        strict_inflated: bool = False,
    ) -> None:
        super().__init__(port, certificates.server_context())
        self._rules = rules
        self._limits = limits or Limits()
        self._strict_inflated = strict_inflated
        self._temporary = tempfile.TemporaryDirectory(prefix="weir-standin-") if data is None else None
        self._directory = Path(self._temporary.name) if self._temporary else data or Path()
        self._fitters = {(rule, name): Fitter(stream) for rule, streams in rules.items() for name, stream in streams.items()}
        self._tables: dict[str, _Table] = {}
        self._minutes: dict[str, _Minute] = {}
        self._answers: Counter[str] = Counter()
        self._seen: OrderedDict[str, None] = OrderedDict()
        self._retried = 0
        self._bytes_in = 0
        self._bytes_inflated = 0

    async def start(self) -> None:
        self._open_tables()
        await super().start()

    async def stop(self) -> None:
        await super().stop()
        self._close_tables()

    def _open_tables(self) -> None:
        self._directory.mkdir(parents=True, exist_ok=True)
        for stream in (stream for streams in self._rules.values() for stream in streams.values()):
            if stream.table not in self._tables:
                path = self._directory / f"{stream.table}.ndjson"
                self._tables[stream.table] = _Table(path, path.open("wb"), stream.id_column)

    def _close_tables(self) -> None:
        for table in self._tables.values():
            table.file.close()
        if self._temporary is not None:
            self._temporary.cleanup()

    def routes(self) -> list[web.RouteDef]:
        return [
            web.post("/dataCollectionRules/{rule}/streams/{stream}", self._ingest),
            web.get("/_ids", self._ids),
            web.get("/_rows", self._rows),
        ]

    # -- the API

    async def _ingest(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        self._bytes_in += len(body)
        self._note_retry(request)
        step = self.script.next()
        if step.delay:
            await asyncio.sleep(step.delay)
        if step.drop:
            self._answers["dropped"] += 1
            return drop_connection(request)
        if step.status is not None:
            self._answers[str(step.status)] += 1
            if step.body is None:
                return web.Response(status=step.status, headers=step.headers)
            return json_response(step.body, status=step.status, headers=step.headers)
        try:
            self._store(request, body)
        except _Refusal as refusal:
            self._answers[str(refusal.status)] += 1
            return refusal.response()
        if step.store_then_drop:
            self._answers["stored_then_dropped"] += 1
            return drop_connection(request)
        self._answers["204"] += 1
        return web.Response(status=204, headers={"x-ms-request-id": str(uuid.uuid4())})

    def _note_retry(self, request: web.Request) -> None:
        # The SDK keeps this id over its own retries of one chunk.
        name = request.headers.get("x-ms-client-request-id")
        if name is None:
            return
        if name in self._seen:
            self._retried += 1
        self._seen[name] = None
        while len(self._seen) > _REMEMBERED_REQUESTS:
            self._seen.popitem(last=False)

    def _store(self, request: web.Request, body: bytes) -> None:
        """Check in the order of a gateway: who, what, how large, how often, whither; then store. Raises _Refusal."""
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            raise _Refusal(401, "InvalidToken", "The token is missing or not a bearer token.", {"WWW-Authenticate": "Bearer"})
        if "api-version" not in request.query:
            raise _Refusal(400, "MissingApiVersion", "The query parameter 'api-version' is required.")
        if request.content_type != "application/json":
            raise _Refusal(415, "UnsupportedMediaType", f"Content-Type must be application/json, not {request.content_type}.")
        if len(body) > MAX_CALL_BYTES:
            raise _too_long(len(body))
        inflated = _inflate(body, request.headers.get("Content-Encoding", "identity").lower())
        if self._strict_inflated and len(inflated) > MAX_CALL_BYTES:
            raise _too_long(len(inflated))
        rule, name = request.match_info["rule"], request.match_info["stream"]
        if rule not in self._rules:
            raise _Refusal(404, "NotFound", f"Data collection rule with immutable Id '{rule}' not found.")
        if name not in self._rules[rule]:
            raise _Refusal(400, "InvalidStream", f"Data collection rule '{rule}' declares no stream '{name}'.")
        self._throttle(rule, len(inflated))
        rows = _parse(inflated)
        self._bytes_inflated += len(inflated)
        stream, fitter, arrived = self._rules[rule][name], self._fitters[rule, name], datetime.now(UTC)
        self._tables[stream.table].append([fitter.fit(row, arrived) for row in rows], stream.id_column)

    def _throttle(self, rule: str, size: int) -> None:
        now = time.time()
        minute = self._minutes.setdefault(rule, _Minute())
        if minute.number != int(now // 60):
            minute.number, minute.requests, minute.bytes = int(now // 60), 0, 0
        if minute.requests >= self._limits.requests_per_minute or minute.bytes + size > self._limits.bytes_per_minute:
            raise _Refusal(
                429,
                "RequestRateLimitExceeded",
                f"The rate limit of data collection rule '{rule}' is exceeded.",
                {"Retry-After": str(60 - int(now) % 60)},
            )
        minute.requests += 1
        minute.bytes += size

    # -- control and statistics

    async def control(self, wishes: dict[str, Any]) -> None:
        if "strict_inflated" in wishes:
            self._strict_inflated = bool(wishes.pop("strict_inflated"))
        self._limits = Limits(
            requests_per_minute=int(wishes.pop("requests_per_minute", self._limits.requests_per_minute)),
            bytes_per_minute=int(wishes.pop("bytes_per_minute", self._limits.bytes_per_minute)),
        )

    async def stats(self) -> dict[str, Any]:
        losses = {f"{stream}": fitter.losses for (_, stream), fitter in self._fitters.items()}
        tables = {name: table.counts() for name, table in sorted(self._tables.items())}
        return {
            "tables": tables,
            **{key: sum(table[key] for table in tables.values()) for key in ("rows", "distinct", "repeated")},
            "requests": dict(self._answers),
            "requests_total": sum(self._answers.values()),
            "retried": self._retried,
            "bytes_in": self._bytes_in,
            "bytes_inflated": self._bytes_inflated,
            "dropped_columns": {stream: dict(loss.dropped) for stream, loss in losses.items() if loss.dropped},
            "misfits": {stream: dict(loss.misfits) for stream, loss in losses.items() if loss.misfits},
            "truncated_fields": {stream: dict(loss.truncated) for stream, loss in losses.items() if loss.truncated},
            "replaced_times": {stream: loss.replaced_times for stream, loss in losses.items() if loss.replaced_times},
        }

    def _table(self, request: web.Request) -> _Table:
        name = request.query.get("table", "")
        if name not in self._tables:
            raise web.HTTPNotFound(text=f"no table {name!r}; there are {', '.join(sorted(self._tables))}\n")
        return self._tables[name]

    async def _ids(self, request: web.Request) -> web.StreamResponse:
        table = self._table(request)
        response = web.StreamResponse(headers={"Content-Type": "text/plain; charset=utf-8"})
        await response.prepare(request)
        ids = list(table.ids)  # a copy of references: requests may add to the set while this is being sent
        for start in range(0, len(ids), 5_000):
            await response.write("".join(f"{name}\n" for name in ids[start : start + 5_000]).encode())
        return response

    async def _rows(self, request: web.Request) -> web.Response:
        return json_response(self._table(request).head(int(request.query.get("limit", "10"))))


def _too_long(size: int) -> _Refusal:
    return _Refusal(
        413,
        "ContentLengthLimitExceeded",
        f"Maximum allowed content length: {MAX_CALL_BYTES} bytes (1 MB). Provided content length: {size} bytes.",
    )


def _inflate(body: bytes, encoding: str) -> bytes:
    if encoding in {"identity", ""}:
        return body
    if encoding != "gzip":
        raise _Refusal(415, "UnsupportedMediaType", f"Content-Encoding {encoding!r} is not supported.")
    inflater = zlib.decompressobj(wbits=31)
    try:
        inflated = inflater.decompress(body, _MAX_INFLATED_BYTES)
    except zlib.error as error:
        raise _Refusal(400, "InvalidPayload", f"The gzip body is damaged: {error}.") from error
    if inflater.unconsumed_tail:
        raise _too_long(_MAX_INFLATED_BYTES)
    if not inflater.eof:
        raise _Refusal(400, "InvalidPayload", "The gzip body ends early.")
    return inflated


def _parse(body: bytes) -> list[dict[str, Any]]:
    try:
        rows = orjson.loads(body)
    except ValueError as error:
        raise _Refusal(400, "InvalidPayload", f"The body is not valid JSON: {error}.") from error
    if not isinstance(rows, list):
        raise _Refusal(400, "InvalidPayload", "The body must be a JSON array of objects.")
    for number, row in enumerate(rows):
        if not isinstance(row, dict):
            raise _Refusal(400, "InvalidPayload", f"Element {number} of the array is not an object.")
    return rows


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="logs_ingestion", description="Stand-in for the Logs Ingestion API of Azure Monitor.")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one (default)")
    parser.add_argument("--config", type=Path, required=True, help="rules and stream declarations, JSON or YAML")
    parser.add_argument("--certificates", type=Path, required=True, help="directory for the certificates, made when missing")
    parser.add_argument("--data", type=Path, help="directory for the rows; a temporary one when not given")
    parser.add_argument("--strict-inflated", action="store_true", help="apply the 1 MB limit to the inflated body as well")
    options = parser.parse_args(arguments)
    run(
        LogsIngestionStandIn(
            load_rules(options.config),
            ensure_certificates(options.certificates),
            port=options.port,
            data=options.data,
            strict_inflated=options.strict_inflated,
        )
    )


if __name__ == "__main__":
    main()
