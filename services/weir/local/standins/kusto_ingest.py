"""Ingestion of the ADX stand-in: the loader, and the aggregator that reads queued ingestion's messages from Azurite.

The service's own rules that are kept: at-least-once from the queue, ingest-by tags checked per table when a blob's turn comes, all
or nothing per blob, failures reported to the failed-ingestions queue. Codes from Microsoft's "Ingestion error codes in Azure Data
Explorer". Notably a blob skipped because its tag exists is reported there too: Skipped_IngestByTagAlreadyExists is no failure.
"""

from __future__ import annotations

import contextlib
import tempfile
import threading
import uuid
import zlib
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import orjson
from azure.core.exceptions import AzureError, ResourceExistsError, ResourceNotFoundError
from azure.storage.blob import AccountSasPermissions, BlobServiceClient, ResourceTypes, generate_account_sas
from azure.storage.queue import QueueServiceClient, TextBase64DecodePolicy, TextBase64EncodePolicy

from weir.local.azurite import ACCOUNT_KEY, ACCOUNT_NAME
from weir.local.standins.kusto_commands import Catalogue, Extent
from weir.local.standins.kusto_wire import utc_now
from weir.local.standins.store import BadDocumentError, Loaded, Store

__all__ = ["SKIPPED", "SUCCEEDED", "Aggregator", "Ingested", "IngestionError", "Loader", "Storage"]

_MAX_BLOB_BYTES = 6 * 1024**3  # "the maximum file size", ingestion best practices
_MAX_REPORTED = 10_000
SUCCEEDED = "Succeeded"
SKIPPED = "Skipped_IngestByTagAlreadyExists"
_FORMATS = frozenset({"json", "multijson", "singlejson"})


class IngestionError(Exception):
    """An ingestion that failed, with Kusto's code for it."""

    def __init__(self, code: str, details: str, *, permanent: bool = True) -> None:
        super().__init__(details)
        self.code, self.details, self.permanent = code, details, permanent


@dataclass(slots=True)
class _TableLosses:
    dropped: Counter[str] = field(default_factory=Counter)
    misfits: Counter[str] = field(default_factory=Counter)
    truncated: Counter[str] = field(default_factory=Counter)

    def add(self, loaded: Loaded) -> None:
        self.dropped.update(loaded.dropped)
        self.misfits.update(loaded.misfits)
        self.truncated.update(loaded.truncated)


class Loader:
    """Loads JSON through a mapping into a typed table, and keeps count of what was lost on the way."""

    def __init__(self, store: Store, catalogue: Catalogue) -> None:
        self.store, self.catalogue = store, catalogue
        self.losses: dict[str, _TableLosses] = {}

    def load(self, database: str, table: str, path: Path, data_format: str, mapping: str | None, tags: tuple[str, ...] = ()) -> int:
        """Load the file; gzip is recognised by its first bytes. Answers the rows. Raises IngestionError."""
        if database not in self.catalogue.databases:
            raise IngestionError("BadRequest_DatabaseNotExist", f"Database '{database}' does not exist.")
        if not self.store.has(database, table):
            raise IngestionError("BadRequest_TableNotExist", f"Table '{table}' does not exist in database '{database}'.")
        if data_format.lower() not in _FORMATS:
            raise IngestionError("BadRequest_FormatNotSupported", f"The stand-in ingests JSON only, not '{data_format}'.")
        if not path.stat().st_size:
            raise IngestionError("BadRequest_EmptyBlob", "The blob is empty.")
        if mapping:
            sources = self.catalogue.mapping(database, table, mapping)
            if sources is None:
                raise IngestionError(
                    "BadRequest_MappingReferenceWasNotFound", f"Mapping '{mapping}' of table '{table}' was not found."
                )
        else:
            sources = self.catalogue.identity_mapping(database, table)
        compressed, first = _sniff(path)
        try:
            loaded = self.store.load_file(database, table, sources, path, compressed=compressed, array=first == b"[")
        except BadDocumentError as error:
            raise IngestionError("BadRequest_InvalidBlob", str(error)) from error
        if not loaded.rows:
            raise IngestionError("BadRequest_NoRecordsOrWrongFormat", "There are no records in the data.")
        self.losses.setdefault(table, _TableLosses()).add(loaded)
        self.catalogue.add_extent(database, table, Extent(str(uuid.uuid4()), loaded.rows, tags, utc_now()))
        return loaded.rows


def _sniff(path: Path) -> tuple[bool, bytes]:
    """Whether the file is gzip, and its first byte of content that is not white space (empty when there is none).

    Content-Encoding and file names are not trusted: the SDK says gzip also where it is not.
    """
    with path.open("rb") as file:
        head = file.read(4096)
    compressed = head[:2] == b"\x1f\x8b"
    if compressed:
        with contextlib.suppress(zlib.error):
            head = zlib.decompressobj(wbits=31).decompress(head, 4096)
    return compressed, head.lstrip()[:1]


class Storage:
    """The containers and queues of the cluster's own storage account, in Azurite."""

    containers = ("tempstorage0", "tempstorage1")
    ready = "ready-for-aggregation-0"
    failed = "failed-ingestions"
    succeeded = "successful-ingestions"

    def __init__(self, blob: str, queue: str, table: str) -> None:
        """Takes the three endpoints with the account's name, such as http://127.0.0.1:10000/devstoreaccount1."""
        self._blob_url, self._queue_url, self._table_url = (url.rstrip("/") for url in (blob, queue, table))
        self._blobs = BlobServiceClient(self._blob_url, credential=ACCOUNT_KEY)
        self._queues = QueueServiceClient(self._queue_url, credential=ACCOUNT_KEY)
        self._inbox = self._queues.get_queue_client(self.ready, message_decode_policy=TextBase64DecodePolicy())
        self.broken_containers: frozenset[str] = frozenset()

    def create(self) -> None:
        for container in self.containers:
            with contextlib.suppress(ResourceExistsError):
                self._blobs.create_container(container)
        for queue in (self.ready, self.failed, self.succeeded):
            with contextlib.suppress(ResourceExistsError):
                self._queues.create_queue(queue)

    def close(self) -> None:
        self._blobs.close()
        self._inbox.close()
        self._queues.close()

    def resources(self) -> list[list[str]]:
        """Rows of `.get ingestion resources`: type, and URL with a signature that outlives the SDK's hour of caching."""
        signature = generate_account_sas(
            ACCOUNT_NAME,
            account_key=ACCOUNT_KEY,
            resource_types=ResourceTypes(service=True, container=True, object=True),
            permission=AccountSasPermissions(
                read=True, write=True, create=True, add=True, list=True, process=True, update=True, delete=True
            ),
            expiry=datetime.now(UTC) + timedelta(days=1),
            services="bqt",
        )
        broken = signature.replace("sig=", "sig=AAAA")
        rows = [
            ["TempStorage", f"{self._blob_url}/{container}?{broken if container in self.broken_containers else signature}"]
            for container in self.containers
        ]
        rows.append(["SecuredReadyForAggregationQueue", f"{self._queue_url}/{self.ready}?{signature}"])
        rows.append(["FailedIngestionsQueue", f"{self._queue_url}/{self.failed}?{signature}"])
        rows.append(["SuccessfulIngestionsQueue", f"{self._queue_url}/{self.succeeded}?{signature}"])
        rows.append(["IngestionsStatusTable", f"{self._table_url}/ingestionsstatus?{signature}"])
        return rows

    def receive(self) -> list[Any]:
        """Up to 32 messages, hidden from others for a minute: what is not deleted by then comes again."""
        return list(self._inbox.receive_messages(messages_per_page=32, max_messages=32, visibility_timeout=60))

    def done(self, message: Any) -> None:
        with contextlib.suppress(ResourceNotFoundError):
            self._inbox.delete_message(message)

    def waiting(self) -> int:
        """About how many messages have not been deleted yet."""
        return int(self._inbox.get_queue_properties().approximate_message_count or 0)

    def report(self, queue: str, content: Mapping[str, object]) -> None:
        client = self._queues.get_queue_client(queue, message_encode_policy=TextBase64EncodePolicy())
        client.send_message(orjson.dumps(content).decode(), time_to_live=7 * 24 * 3600)

    def download(self, url: str, path: Path) -> None:
        """Raises IngestionError: Download_SourceNotFound, or a transient one."""
        client = self._blob(url)
        try:
            stream = client.download_blob()
            if stream.size > _MAX_BLOB_BYTES:
                raise IngestionError("BadRequest_FileTooLarge", f"The blob has {stream.size} bytes, more than {_MAX_BLOB_BYTES}.")
            with path.open("wb") as file:
                stream.readinto(file)
        except ResourceNotFoundError as error:
            raise IngestionError("Download_SourceNotFound", f"Blob not found: {url.split('?', maxsplit=1)[0]}") from error
        except AzureError as error:
            raise IngestionError("Download_UnknownError", str(error), permanent=False) from error

    def delete(self, url: str) -> None:
        with contextlib.suppress(AzureError):
            self._blob(url).delete_blob()

    def _blob(self, url: str) -> Any:
        path = unquote(urlsplit(url).path).split("/", 3)
        if len(path) != 4 or not url.startswith(self._blob_url + "/"):
            raise IngestionError(
                "Download_AccountNotFound", f"The stand-in reads blobs of its own storage only, not {url.split('?', maxsplit=1)[0]}"
            )
        return self._blobs.get_blob_client(path[2], path[3])


@dataclass(frozen=True, slots=True)
class Ingested:
    """What became of one queue message."""

    source_id: str
    table: str
    result: str
    rows: int
    wire_bytes: int


class Aggregator:
    """The thread between the queue and the tables. One message is one blob is one extent; no batching of small blobs."""

    def __init__(self, storage: Storage, loader: Loader) -> None:
        self._storage, self._loader = storage, loader
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="adx-aggregator", daemon=True)
        self._downloads = tempfile.TemporaryDirectory(prefix="weir-standin-")
        self.race_equal_tags = False
        self.pause = False
        self.fail_next_loads = 0
        self.results: Counter[str] = Counter()
        self.last: deque[Ingested] = deque(maxlen=_MAX_REPORTED)
        self.blobs = 0
        self.turns = 0
        self.bytes_in = 0
        self.errors: deque[str] = deque(maxlen=100)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(30)
        self._downloads.cleanup()

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                handled = 0 if self.pause else self._turn()
            except AzureError as error:
                # Storage away: the messages stay where they are, as they would in the service.
                self.errors.append(f"{utc_now()} {error}")
                handled = 0
            self.turns += 1
            if not handled:
                self._stop.wait(0.1)

    def _turn(self) -> int:
        messages = self._storage.receive()
        decided: dict[int, bool] = {}
        if self.race_equal_tags:
            # All of the page are judged before any is loaded: two of equal tag both find it missing.
            decided = {number: self._exists(message) for number, message in enumerate(messages)}
        for number, message in enumerate(messages):
            if self._stop.is_set():
                break  # the rest become visible again
            self._handle(message, decided.get(number))
        return len(messages)

    def _exists(self, message: Any) -> bool:
        try:
            content = orjson.loads(message.content)
            wanted = _tags(content, "ingestIfNotExists")
            have = self._loader.catalogue.tags(content["DatabaseName"], content["TableName"])
        except (ValueError, KeyError, TypeError):
            return False
        return any(f"ingest-by:{tag}" in have for tag in wanted)

    def _handle(self, message: Any, exists: bool | None) -> None:
        try:
            content = orjson.loads(message.content)
            url, tags = str(content["BlobPath"]), _tags(content, "tags")
            found = self._exists(message) if exists is None else exists
            order = (str(content["DatabaseName"]), str(content["TableName"]), dict(content["AdditionalProperties"]))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            corrupted = IngestionError("BadRequest_CorruptedMessage", f"The message is corrupted: {error!r}")
            self._storage.report(self._storage.failed, _failure({}, corrupted))
            self._storage.done(message)
            self._record(Ingested("", "", corrupted.code, 0, 0))
            return
        outcome = self._ingest(url, order, tags, found)
        level = content.get("ReportLevel", 0)  # 0 failures only, 1 nothing, 2 both
        if isinstance(outcome, IngestionError):
            ingested = Ingested(str(content.get("Id", "")), order[1], outcome.code, 0, 0)
            if level in {0, 2}:
                self._storage.report(self._storage.failed, _failure(content, outcome))
        else:
            ingested = Ingested(str(content.get("Id", "")), order[1], SUCCEEDED, *outcome)
            if level == 2:
                self._storage.report(self._storage.succeeded, _success(content))
        if ingested.result in {SUCCEEDED, SKIPPED}:
            self._storage.delete(url)  # what failed stays, so that it can be looked at or ingested from there
        self._storage.done(message)
        self._record(ingested)

    def _ingest(
        self, url: str, order: tuple[str, str, dict[str, Any]], tags: tuple[str, ...], exists: bool
    ) -> tuple[int, int] | IngestionError:
        """Rows and bytes of the blob, or why not."""
        database, table, properties = order
        if exists:
            return IngestionError(SKIPPED, "Another stream with the same ingest-by tag was already ingested.")
        if self.fail_next_loads > 0:
            self.fail_next_loads -= 1
            return IngestionError("General_InternalServerError", "The load failed as told.", permanent=False)
        path = Path(self._downloads.name) / "blob"
        try:
            self._storage.download(url, path)
            data_format, mapping = str(properties.get("format", "csv")), properties.get("ingestionMappingReference")
            return self._loader.load(database, table, path, data_format, mapping, tags), path.stat().st_size
        except IngestionError as error:
            return error
        except Exception as error:  # one odd blob must not end the thread that serves all others
            return IngestionError("General_InternalServerError", repr(error), permanent=False)
        finally:
            path.unlink(missing_ok=True)

    def _record(self, ingested: Ingested) -> None:
        self.results[ingested.result] += 1
        self.blobs += 1
        self.bytes_in += ingested.wire_bytes
        self.last.append(ingested)


def _tags(content: Mapping[str, Any], name: str) -> tuple[str, ...]:
    # JSON lists written as text within the JSON of the message.
    listed = orjson.loads(content["AdditionalProperties"].get(name) or "[]")
    return tuple(str(tag) for tag in listed)


def _common(content: Mapping[str, Any]) -> dict[str, object]:
    return {
        "OperationId": str(uuid.uuid4()),
        "Database": content.get("DatabaseName"),
        "Table": content.get("TableName"),
        "IngestionSourceId": content.get("Id"),
        "IngestionSourcePath": str(content.get("BlobPath", "")).split("?", maxsplit=1)[0],
        "RootActivityId": str(uuid.uuid4()),
    }


def _success(content: Mapping[str, Any]) -> dict[str, object]:
    return {**_common(content), "SucceededOn": utc_now()}


def _failure(content: Mapping[str, Any], error: IngestionError) -> dict[str, object]:
    return {
        **_common(content),
        "FailedOn": utc_now(),
        "Details": error.details,
        "ErrorCode": error.code,
        "FailureStatus": "Permanent" if error.permanent else "Transient",
        "OriginatesFromUpdatePolicy": False,
        "ShouldRetry": not error.permanent,
    }
