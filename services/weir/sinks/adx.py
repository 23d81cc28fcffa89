"""Records to Azure Data Explorer, by queued ingestion.

Learn, "Queued ingestion": a blob goes to the cluster's own storage and a message to its queue; the cluster loads it within
minutes, at least once. A batch counts as delivered when the message is in the queue: from there on the service promises to load
it. One call of `send` makes one blob of JSON lines, compressed while it is made; nothing of a batch can be half delivered.

The service drops in silence what a table has no column for, and what names a table or a mapping that does not exist. So the sink
makes tables and mappings from the same projection that makes the rows, or checks that they are there.
"""

from __future__ import annotations

import io
import ipaddress
import threading
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, Literal, Self
from urllib.parse import urlsplit

import orjson
from isal import isal_zlib
from pydantic import Field, SecretStr, model_validator

from weir.model.kusto import MAPPING_NAME, adx_mapping_command, adx_table_command
from weir.model.mappings import Projection, projection
from weir.model.projection import Project
from weir.ops import logging
from weir.sinks.credentials import make_credential
from weir.sinks.destination import Counters, Misconfigured, Rejected, Retry, Row
from weir.sinks.runtime import run_main
from weir.sinks.settings import SinkSettings, lacking, split_topics

__all__ = ["AdxDestination", "AdxSettings", "main", "pack"]

_log = logging.get(__name__)
_GZIP: Final = 31
_COMPRESSION_LEVEL: Final = 1
_LINES_AT_ONCE: Final = 256

AdxAuth = Literal["default", "managed-identity", "app-key", "static-token-file", "none"]


class AdxSettings(SinkSettings):
    """Settings of the ADX sink."""

    adx_ingest_url: str = Field("", description="data management endpoint, https://ingest-<cluster>.<region>.kusto.windows.net")
    adx_engine_url: str = Field("", description="engine endpoint, https://<cluster>.<region>.kusto.windows.net")
    adx_database: str = Field("", description="database that holds the tables")
    adx_topics: str = Field("", description="comma list of short topic names; empty is every events.* and alerts")
    adx_auth: AdxAuth = Field("default", description="how to get tokens; none is for an emulator on this machine")
    adx_token_file: Path | None = Field(None, description="holds a bearer token, for static-token-file")
    adx_tenant_id: str | None = None
    adx_client_id: str | None = Field(None, description="application, or user-assigned managed identity")
    adx_client_secret: SecretStr | None = Field(None, description="the application's key, for app-key")
    adx_create_tables: bool = Field(True, description="make tables and mappings; false only checks that they are there")
    adx_timeout_seconds: int = Field(60, ge=1, le=600, description="longest wait for one answer of the cluster")

    @model_validator(mode="after")
    def _adx(self) -> Self:
        mistakes = [
            mistake
            for name in ("adx_ingest_url", "adx_engine_url")
            if (mistake := _address_mistake(f"WEIR_{name.upper()}", getattr(self, name), self.adx_auth)) is not None
        ]
        # Only of Azure's own names is it known which one is which.
        if _is_azure(self.adx_ingest_url) and not _host(self.adx_ingest_url).startswith("ingest-"):
            mistakes.append(
                f"WEIR_ADX_INGEST_URL: {self.adx_ingest_url} is an engine; the data management endpoint begins with ingest-"
            )
        if _is_azure(self.adx_engine_url) and _host(self.adx_engine_url).startswith("ingest-"):
            mistakes.append(f"WEIR_ADX_ENGINE_URL: {self.adx_engine_url} is for data management; the engine's has no ingest-")
        if not self.adx_database:
            mistakes.append("WEIR_ADX_DATABASE is not set: name the database that holds the tables")
        try:
            split_topics("WEIR_ADX_TOPICS", self.adx_topics)
        except ValueError as error:
            mistakes.append(str(error))
        needed = {
            "static-token-file": ["adx_token_file"],
            "app-key": ["adx_tenant_id", "adx_client_id", "adx_client_secret"],
        }
        mistakes += lacking(self, "adx_auth", needed)
        if mistakes:
            raise ValueError("; ".join(mistakes))
        return self

    @property
    def topics(self) -> list[str]:
        """Short names of the topics to deliver."""
        return split_topics("WEIR_ADX_TOPICS", self.adx_topics)


def _host(url: str) -> str:
    return urlsplit(url).hostname or ""


def _is_azure(url: str) -> bool:
    return _host(url).endswith(".kusto.windows.net")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _address_mistake(variable: str, url: str, auth: str) -> str | None:
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        return f"{variable}: {url!r} is not an https:// address of Azure Data Explorer"
    if parts.path.strip("/") or parts.query:
        return f"{variable}: {url!r} has more than host and port; the SDK would leave the rest out"
    if auth == "none" and (parts.scheme != "http" or not _is_loopback(parts.hostname)):
        return f"{variable}: WEIR_ADX_AUTH=none is for http:// on this machine (127.0.0.1, localhost) only, not {url}"
    if parts.scheme == "http" and not _is_loopback(parts.hostname):
        return f"{variable}: {url} would send tokens without TLS; use https://"
    return None


def pack(project: Project, rows: Sequence[Row]) -> tuple[bytes, int, list[Rejected]]:
    """Rows as gzip of JSON lines.

    Returns:
        The compressed bytes, their size before compression (0 where no row is left), and the rows that JSON cannot say.
    """
    packer = isal_zlib.compressobj(level=_COMPRESSION_LEVEL, wbits=_GZIP)
    parts: list[bytes] = []
    lines: list[bytes] = []
    rejected: list[Rejected] = []
    size = 0
    for row in rows:
        try:
            lines.append(orjson.dumps(project(row.record, row.partition, row.offset), option=orjson.OPT_APPEND_NEWLINE))
        except Exception as error:  # whatever it is, it is this record's, and the others must not wait for it
            rejected.append(Rejected(row, f"does not become a row: {type(error).__name__}: {error}"))
            continue
        if len(lines) >= _LINES_AT_ONCE:
            text = b"".join(lines)
            size += len(text)
            parts.append(packer.compress(text))
            lines.clear()
    text = b"".join(lines)
    parts += [packer.compress(text), packer.flush()]
    return b"".join(parts), size + len(text), rejected


class AdxDestination:
    """`Destination` for Azure Data Explorer."""

    name = "adx"
    # A blob of some ten megabytes of JSON. The service likes them larger, memory smaller; it joins them before it loads them.
    max_rows = 20_000
    max_bytes = 4_000_000
    max_parallel = 2

    def __init__(self, settings: AdxSettings) -> None:
        self._settings = settings
        self.counters = Counters()
        self._projections: dict[str, Projection] = {}
        self._lock = threading.Lock()
        self._engine: Any = None
        self._ingest: Any = None

    # --- Destination ---------------------------------------------------------------------------------------------------------

    def prepare(self, topics: Sequence[str]) -> None:
        """Connect, and make or check the tables and their mappings. Raises Retry, Misconfigured."""
        try:
            self._projections = {topic: projection("adx", topic) for topic in topics}
        except (KeyError, ValueError) as error:
            raise Misconfigured([f"mappings for ADX: {error}"]) from error
        self._connect()
        for made in self._projections.values():
            if self._settings.adx_create_tables:
                self._manage(made, adx_table_command(made))
                self._manage(made, adx_mapping_command(made))
            else:
                self._check(made)
        self._call("ask for the resources of ingestion", self._settings.adx_ingest_url, self._ingest.check)

    def table(self, topic: str) -> str:
        """The table in the database."""
        return projection("adx", topic).table

    def send(self, topic: str, rows: Sequence[Row]) -> list[Rejected]:
        """One blob, one message in the queue; delivered when the message is posted. Raises Retry."""
        from azure.kusto.ingest import StreamDescriptor  # noqa: PLC0415

        made = self._projections[topic]
        packed, size, rejected = pack(made.project, rows)
        if size == 0:
            return rejected
        # An id of its own for each try: the SDK names the blob after it, and a name that is there already is an error.
        blob = StreamDescriptor(
            io.BytesIO(packed), source_id=uuid.uuid4(), is_compressed=True, stream_name=f"{topic}.multijson.gz", size=size
        )
        self.counters.add(requests=1, bytes_sent=len(packed))
        result = self._call(
            f"ingest {len(rows)} rows into {made.table}",
            self._settings.adx_ingest_url,
            lambda: self._ingest.ingest_from_stream(blob, self._properties(made)),
        )
        if result is None:
            # The SDK returns nothing when it knows no queue.
            raise Retry(f"{self._settings.adx_ingest_url}: no queue took the message for {made.table}")
        return rejected

    def close(self) -> None:
        """Close the connections."""
        with self._lock:
            clients, self._engine, self._ingest = (self._engine, self._ingest), None, None
        for client in clients:
            if client is not None:
                client.close()

    # --- requests ------------------------------------------------------------------------------------------------------------

    def _properties(self, made: Projection) -> Any:
        """Properties of one ingestion; made anew for each, because the SDK writes into them."""
        from azure.kusto.data.data_format import DataFormat  # noqa: PLC0415
        from azure.kusto.ingest import IngestionProperties, ReportLevel  # noqa: PLC0415

        return IngestionProperties(
            database=self._settings.adx_database,
            table=made.table,
            data_format=DataFormat.MULTIJSON,
            ingestion_mapping_reference=MAPPING_NAME,
            report_level=ReportLevel.FailuresOnly,
        )

    def _check(self, made: Projection) -> None:
        """See that table and mapping are there with every column. Raises Retry: somebody may be about to make them."""
        answer = self._manage(made, f".show table ['{made.table}'] cslschema")
        there = {part.partition(":")[0].strip("[]'\" ") for part in str(answer[0]["Schema"] if answer else "").split(",")}
        missing = [column.name for column in made.columns if column.name not in there]
        mappings = {str(row.get("Name")) for row in self._manage(made, f".show table ['{made.table}'] ingestion json mappings")}
        if missing or MAPPING_NAME not in mappings:
            lack = [f"columns {', '.join(missing)}"] if missing else []
            lack += [] if MAPPING_NAME in mappings else [f"the JSON mapping {MAPPING_NAME}"]
            reason = (
                f"{self._settings.adx_engine_url}, database {self._settings.adx_database}: table {made.table} lacks"
                f" {' and '.join(lack)}; make them, or set WEIR_ADX_CREATE_TABLES=true"
            )
            _log.error("table-incomplete", table=made.table, missing=missing, cure="set WEIR_ADX_CREATE_TABLES=true")
            raise Retry(reason)

    def _manage(self, made: Projection, command: str) -> list[dict[str, Any]]:
        from weir.sinks.kusto_ingest import management  # noqa: PLC0415

        settings = self._settings
        rows: list[dict[str, Any]] = self._call(
            f"database {settings.adx_database}, table {made.table}: {command.partition(' ')[0]}",
            settings.adx_engine_url,
            lambda: management(self._engine, settings.adx_database, command, settings.adx_timeout_seconds),
        )
        return rows

    def _call(self, what: str, url: str, call: Callable[[], Any]) -> Any:
        from weir.sinks.kusto_ingest import SDK_ERRORS, judge  # noqa: PLC0415

        try:
            return call()
        except SDK_ERRORS as error:
            raise judge(error, f"{url}, {what}") from error

    def _connect(self) -> None:
        from weir.sinks.kusto_ingest import SafeQueuedIngestClient, connect_engine  # noqa: PLC0415

        with self._lock:
            if self._engine is not None:
                return
            connect = self._authentication()
            self._engine = connect_engine(connect(self._settings.adx_engine_url))
            self._ingest = SafeQueuedIngestClient(connect(self._settings.adx_ingest_url), self._settings.adx_timeout_seconds)

    def _authentication(self) -> Callable[[str], Any]:
        from azure.kusto.data import KustoConnectionStringBuilder  # noqa: PLC0415

        settings = self._settings
        if settings.adx_auth == "none":
            return KustoConnectionStringBuilder.with_no_authentication  # type: ignore[no-any-return]
        secret = settings.adx_client_secret
        credential = make_credential(
            "client-secret" if settings.adx_auth == "app-key" else settings.adx_auth,
            token_file=settings.adx_token_file,
            tenant_id=settings.adx_tenant_id,
            client_id=settings.adx_client_id,
            client_secret=secret.get_secret_value() if secret else None,
        )
        if settings.adx_auth == "static-token-file":
            # Not as a credential: the SDK would first ask the cluster for its tenant, and check that it is Azure's.
            return lambda url: KustoConnectionStringBuilder.with_token_provider(url, lambda: str(credential.get_token().token))
        return lambda url: KustoConnectionStringBuilder.with_azure_token_credential(url, credential)


def main(settings: AdxSettings) -> None:
    """Run the ADX sink until SIGTERM. Raises as `weir.sinks.runtime.run_sink`."""
    run_main(settings, AdxDestination(settings), settings.topics)
