"""Azure Data Explorer: data management and engine on one port, for the unmodified `azure-kusto-data` and `azure-kusto-ingest`.

Queued ingestion goes through a real Azurite (blobs and queues); rows land typed in DuckDB. What is translated and remembered:
`kusto_commands`, `kusto_query`; how ingestion behaves: `kusto_ingest`.

Run as a process: `python -m weir.local.standins.adx --blob URL --queue URL --table URL [--database NAME ...] [--port N]`, the URLs
being Azurite's with the account, such as http://127.0.0.1:10000/devstoreaccount1.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import orjson
from aiohttp import web

from weir.local.azurite import ACCOUNT_NAME
from weir.local.standins.certificates import CertificateFiles, ensure_certificates
from weir.local.standins.kusto_commands import Catalogue
from weir.local.standins.kusto_ingest import SKIPPED, SUCCEEDED, Aggregator, IngestionError, Loader, Storage
from weir.local.standins.kusto_query import run_query
from weir.local.standins.kusto_wire import Dataset, KustoError, error_body
from weir.local.standins.server import HttpStandIn, Step, drop_connection, json_response, run
from weir.local.standins.store import Store

__all__ = ["MAX_STREAMING_BYTES", "AdxStandIn", "main"]

# "Streaming ingestion ... 4 MB" per request (streaming ingestion HTTP request page), as sent.
MAX_STREAMING_BYTES = 4 * 1024 * 1024
_DEFAULT_DATABASE = "NetDefaultDB"
# A record's id: the first of these that a table has.
_ID_COLUMNS = ("EventId", "AlertId", "event_id")


class AdxStandIn(HttpStandIn):
    """A cluster of one node.

    Control (`POST /_control`): `script` (steps, one per request to mgmt, query or streaming ingest), `blob_fail_containers`
    (containers whose signature in `.get ingestion resources` is broken from now on), `race_equal_tags` (messages that are queued
    together do not see each other's ingest-by tags), `fail_next_loads` (that many blobs fail with a transient error), `pause`
    (leave the queue alone). Reading: `/_stats`, `/_ids?table=`, `/_rows?table=&limit=`, with `&database=` where there are several.
    """

    def __init__(
        self,
        blob_url: str,
        queue_url: str,
        table_url: str,
        *,
        databases: Sequence[str] = ("weir",),
        port: int = 0,
        certificates: CertificateFiles | None = None,
        data: Path | None = None,
    ) -> None:
        super().__init__(port, certificates.server_context() if certificates else None)
        self._database = databases[0]
        self._store = Store(data)
        self._catalogue = Catalogue(self._store, [*databases, _DEFAULT_DATABASE])
        self._loader = Loader(self._store, self._catalogue)
        self._storage = Storage(blob_url, queue_url, table_url)
        self._aggregator = Aggregator(self._storage, self._loader)
        self._requests: Counter[str] = Counter()
        self._streamed_bytes = 0

    async def start(self) -> None:
        await asyncio.to_thread(self._storage.create)
        self._aggregator.start()
        await super().start()

    async def stop(self) -> None:
        await super().stop()
        await asyncio.to_thread(self._aggregator.stop)
        self._storage.close()
        self._store.close()

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/v1/rest/auth/metadata", self._metadata),
            web.post("/v1/rest/mgmt", self._management),
            web.post("/v1/rest/query", self._query),
            web.post("/v2/rest/query", self._query),
            web.post("/v1/rest/ingest/{database}/{table}", self._streaming_ingest),
            web.get("/_ids", self._ids),
            web.get("/_rows", self._rows),
        ]

    # -- the API

    async def _metadata(self, _: web.Request) -> web.Response:
        # What a public-cloud cluster says of itself; clients take the token's scope from it.
        return json_response(
            {
                "AzureAD": {
                    "LoginEndpoint": "https://login.microsoftonline.com",
                    "LoginMfaRequired": False,
                    "KustoClientAppId": "db662dc1-0cfe-4e1c-a843-19a68e65be58",
                    "KustoClientRedirectUri": "http://localhost",
                    "KustoServiceResourceId": "https://kusto.kusto.windows.net",
                    "FirstPartyAuthorityUrl": "https://login.microsoftonline.com/f8cdef31-a31e-4b4a-93e4-5f571e91255a",
                }
            }
        )

    async def _management(self, request: web.Request) -> web.StreamResponse:
        step = await self._step(request)
        if isinstance(step, web.StreamResponse):
            return step
        try:
            database, command = await _statement(request)
            if command.startswith(".get "):
                answer = self._data_management(command)
            else:
                answer = await asyncio.to_thread(self._catalogue.execute, database, command)
        except KustoError as error:
            return self._refuse(request, error)
        return self._answer(request, step, answer.v1())

    def _data_management(self, command: str) -> Dataset:
        if command == ".get ingestion resources":
            return Dataset([("ResourceTypeName", "string"), ("StorageRoot", "string")], self._storage.resources())
        if command == ".get kusto identity token":
            return Dataset([("AuthorizationContext", "string")], [["local-identity-token"]])
        raise KustoError.syntax(f"unknown command {command[:200]!r}")

    async def _query(self, request: web.Request) -> web.StreamResponse:
        step = await self._step(request)
        if isinstance(step, web.StreamResponse):
            return step
        try:
            database, text = await _statement(request)
            if text.startswith("."):
                answer = await asyncio.to_thread(self._catalogue.execute, database, text)
            else:
                self._catalogue.require_database(database)
                answer = await asyncio.to_thread(run_query, self._store, database, text)
        except KustoError as error:
            return self._refuse(request, error)
        request_id = request.headers.get("x-ms-client-request-id", "")
        return self._answer(request, step, answer.v2(request_id) if request.path.startswith("/v2/") else answer.v1())

    async def _streaming_ingest(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        step = await self._step(request)
        if isinstance(step, web.StreamResponse):
            return step
        self._streamed_bytes += len(body)
        try:
            rows = await asyncio.to_thread(self._load_streamed, dict(request.match_info), dict(request.query), body)
        except IngestionError as error:
            status = 413 if error.code == "BadRequest_FileTooLarge" else 400
            refusal = KustoError(error.details, code=error.code, status=status, permanent=error.permanent)
            return self._refuse(request, refusal)
        columns = [("ConsumedRecordsCount", "long"), ("UpdatePolicyStatus", "string")]
        columns += [("UpdatePolicyFailureCode", "string"), ("UpdatePolicyFailureReason", "string")]
        return self._answer(request, step, Dataset(columns, [[rows, "Inactive", "Unknown", ""]]).v1())

    def _load_streamed(self, target: dict[str, str], query: dict[str, str], body: bytes) -> int:
        database, table, mapping = target["database"], target["table"], query.get("mappingName")
        data_format = query.get("streamFormat", "csv")
        if database not in self._catalogue.databases:
            raise IngestionError("BadRequest_DatabaseNotExist", f"Database '{database}' does not exist.")
        if self._store.has(database, table) and not self._catalogue.streaming_enabled(database, table):
            code = "BadRequest_StreamingIngestionPolicyNotEnabled"
            raise IngestionError(code, f"Streaming ingestion policy is not enabled for table '{table}'.")
        if not mapping and data_format.lower() in {"json", "multijson", "singlejson"}:
            raise IngestionError("BadRequest_EmptyMappingReference", "JSON is streamed with a mappingName.")
        with tempfile.TemporaryDirectory(prefix="weir-standin-") as directory:
            path = Path(directory) / "body"
            if query.get("sourceKind") == "uri":
                self._storage.download(str(orjson.loads(body)["sourceUri"]), path)
            elif len(body) > MAX_STREAMING_BYTES:
                raise IngestionError(
                    "BadRequest_FileTooLarge", f"{len(body)} bytes are more than the {MAX_STREAMING_BYTES} of a request."
                )
            else:
                path.write_bytes(body)
            return self._loader.load(database, table, path, data_format, mapping)

    # -- misbehaviour

    async def _step(self, request: web.Request) -> Step | web.StreamResponse:
        """The next step of the script: obeyed here when it answers instead of us, returned when we shall."""
        step = self.script.next()
        if step.delay:
            await asyncio.sleep(step.delay)
        if step.drop:
            self._requests["dropped"] += 1
            return drop_connection(request)
        if step.status is None:
            return step
        self._requests[str(step.status)] += 1
        if step.body is None:
            return web.Response(status=step.status, headers=step.headers)
        return json_response(step.body, status=step.status, headers=step.headers)

    def _answer(self, request: web.Request, step: Step, content: object) -> web.StreamResponse:
        if step.store_then_drop:
            self._requests["stored_then_dropped"] += 1
            return drop_connection(request)
        self._requests["200"] += 1
        return json_response(content)

    def _refuse(self, request: web.Request, error: KustoError) -> web.StreamResponse:
        self._requests[str(error.status)] += 1
        return json_response(error_body(error, request.headers.get("x-ms-client-request-id", "")), status=error.status)

    # -- control and statistics

    async def control(self, wishes: dict[str, Any]) -> None:
        if "blob_fail_containers" in wishes:
            broken = frozenset(map(str, wishes.pop("blob_fail_containers")))
            unknown = broken - set(self._storage.containers)
            if unknown:
                raise ValueError(f"unknown containers {sorted(unknown)}; there are {', '.join(self._storage.containers)}")
            self._storage.broken_containers = broken
        if "race_equal_tags" in wishes:
            self._aggregator.race_equal_tags = bool(wishes.pop("race_equal_tags"))
        if "fail_next_loads" in wishes:
            self._aggregator.fail_next_loads = int(wishes.pop("fail_next_loads"))
        if "pause" in wishes:
            self._aggregator.pause = bool(wishes.pop("pause"))

    async def stats(self) -> dict[str, Any]:
        return await asyncio.to_thread(self._collect)

    def _collect(self) -> dict[str, Any]:
        aggregator = self._aggregator
        counted = {
            name if database == self._database else f"{database}.{name}": asdict(
                self._store.count(database, name, self._id_column(database, name))
            )
            for database in self._catalogue.databases
            for name in self._store.tables(database)
        }
        results = dict(aggregator.results)
        skipped = results.get(SKIPPED, 0)
        succeeded = results.get(SUCCEEDED, 0)
        losses = self._loader.losses
        return {
            "tables": counted,
            **{key: sum(table[key] for table in counted.values()) for key in ("rows", "distinct", "repeated")},
            "requests": dict(self._requests),
            "blobs": aggregator.blobs,
            "succeeded": succeeded,
            "skipped": skipped,
            "failed": aggregator.blobs - succeeded - skipped,
            "results": results,
            "queued": self._storage.waiting(),
            "turns": aggregator.turns,
            "bytes_in": aggregator.bytes_in + self._streamed_bytes,
            "dropped_columns": {table: dict(loss.dropped) for table, loss in losses.items() if loss.dropped},
            "misfits": {table: dict(loss.misfits) for table, loss in losses.items() if loss.misfits},
            "truncated_fields": {table: dict(loss.truncated) for table, loss in losses.items() if loss.truncated},
            "storage_errors": list(aggregator.errors),
            "last": [asdict(ingested) for ingested in list(aggregator.last)[-20:]],
        }

    def _id_column(self, database: str, table: str) -> str | None:
        names = {column.name for column in self._store.columns(database, table)}
        return next((name for name in _ID_COLUMNS if name in names), None)

    def _asked_table(self, request: web.Request) -> tuple[str, str]:
        database, name = request.query.get("database", self._database), request.query.get("table", "")
        if not self._store.has(database, name):
            raise web.HTTPNotFound(text=f"no table {name!r}; there are {', '.join(self._store.tables(database))}\n")
        return database, name

    async def _ids(self, request: web.Request) -> web.StreamResponse:
        database, name = self._asked_table(request)
        column = request.query.get("column") or self._id_column(database, name)
        if column is None or column not in {known.name for known in self._store.columns(database, name)}:
            raise web.HTTPBadRequest(text=f"table {name!r} has no id column; say which with &column=\n")
        response = web.StreamResponse(headers={"Content-Type": "text/plain; charset=utf-8"})
        await response.prepare(request)
        chunks = self._store.ids(database, name, column)
        while (chunk := await asyncio.to_thread(next, chunks, None)) is not None:
            await response.write("".join(f"{value}\n" for value in chunk).encode())
        return response

    async def _rows(self, request: web.Request) -> web.Response:
        database, name = self._asked_table(request)
        return json_response(await asyncio.to_thread(self._store.rows, database, name, int(request.query.get("limit", "10"))))


async def _statement(request: web.Request) -> tuple[str, str]:
    try:
        document = orjson.loads(await request.read())
        return str(document.get("db") or _DEFAULT_DATABASE), str(document["csl"]).strip()
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise KustoError(f"The request body is not a query document: {error!r}") from error


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="adx", description="Stand-in for an Azure Data Explorer cluster.")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one (default)")
    parser.add_argument("--blob", default=f"http://127.0.0.1:10000/{ACCOUNT_NAME}", help="Azurite's blob endpoint with the account")
    parser.add_argument("--queue", default=f"http://127.0.0.1:10001/{ACCOUNT_NAME}", help="Azurite's queue endpoint")
    parser.add_argument("--table", default=f"http://127.0.0.1:10002/{ACCOUNT_NAME}", help="Azurite's table endpoint")
    parser.add_argument("--database", action="append", help="a database that exists; may be given several times (default: weir)")
    parser.add_argument("--certificates", type=Path, help="serve https with certificates in this directory, made when missing")
    parser.add_argument("--data", type=Path, help="directory for the rows; a temporary one when not given")
    options = parser.parse_args(arguments)
    run(
        AdxStandIn(
            options.blob,
            options.queue,
            options.table,
            databases=options.database or ["weir"],
            port=options.port,
            certificates=ensure_certificates(options.certificates) if options.certificates else None,
            data=options.data,
        )
    )


if __name__ == "__main__":
    main()
