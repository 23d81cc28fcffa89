"""Records to Microsoft Sentinel, through the Logs Ingestion API of Azure Monitor.

Learn, "Logs Ingestion API in Azure Monitor": JSON rows go to a stream of a data collection rule (DCR), which writes them to a
table. The service removes no duplicates, so a chunk that has been accepted is never sent again by this process, and each chunk is
one request whose answer is known before the next. `azure-monitor-ingestion` is used as published; it sends chunks that we build,
because its own are made with a slower JSON, at a higher level of compression, and may come out over the limit.
"""

from __future__ import annotations

import hashlib
import io
import threading
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, Self
from urllib.parse import urlsplit

from isal import igzip
from pydantic import Field, SecretStr, model_validator

from weir.model.mappings import Projection, projection
from weir.ops import logging
from weir.sinks.answers import first_line, retry_after
from weir.sinks.chunks import Chunk, Line, chunked, make_line
from weir.sinks.credentials import AzureAuth, make_credential
from weir.sinks.destination import Counters, Misconfigured, Rejected, Retry, Row
from weir.sinks.runtime import run_main
from weir.sinks.settings import SinkSettings, deliverable_topics, lacking, split_topics

__all__ = ["SentinelDestination", "SentinelSettings", "main"]

_log = logging.get(__name__)
_ACCEPTED: Final = 204
_HTTP_BAD_REQUEST: Final = 400
_HTTP_TOO_LARGE: Final = 413
_COMPRESSION_LEVEL: Final = 1
_CONNECT_SECONDS: Final = 10
_READ_SECONDS: Final = 60
# Finding one bad record in a chunk of a thousand takes some twenty requests; a chunk full of them must not take thousands.
_MAX_SPLITS: Final = 64
# So many malformed records and not one good one: the rule is wrong rather than the records.
_TOO_MANY_BAD: Final = 10
_CURES: Final = {
    401: "check WEIR_SENTINEL_AUTH and that the identity belongs to the tenant of the data collection rule",
    403: "give the identity the role Monitoring Metrics Publisher on the data collection rule; a new role takes up to 30 minutes",
    404: "check WEIR_SENTINEL_ENDPOINT and WEIR_SENTINEL_DCR_IMMUTABLE_ID (dcr-…, not the name)",
}


class SentinelSettings(SinkSettings):
    """Settings of the Sentinel sink."""

    sentinel_endpoint: str = Field("", description="https logs ingestion endpoint of the DCR or of a data collection endpoint")
    sentinel_dcr_immutable_id: str = Field("", description="immutable id of the data collection rule, dcr-…")
    sentinel_dcr_by_topic: dict[str, str] = Field(
        default_factory=dict,
        description="immutable ids of rules for single topics, by short name; the others use the one rule",
    )
    sentinel_topics: str = Field("", description="comma list of short topic names; empty is every events.* and alerts")
    sentinel_auth: AzureAuth = Field("default", description="how to get tokens; static-token-file is for gateways and tests")
    sentinel_token_file: Path | None = Field(None, description="holds a bearer token, for static-token-file")
    sentinel_tenant_id: str | None = None
    sentinel_client_id: str | None = Field(None, description="application, or user-assigned managed identity")
    sentinel_client_secret: SecretStr | None = None
    sentinel_ca_file: Path | None = Field(None, description="CA certificates for the endpoint, instead of the public ones")

    @model_validator(mode="after")
    def _sentinel(self) -> Self:
        mistakes = []
        parts = urlsplit(self.sentinel_endpoint)
        if parts.scheme != "https" or not parts.hostname:
            mistakes.append(
                f"WEIR_SENTINEL_ENDPOINT: {self.sentinel_endpoint!r} is not an https:// address; it is the logsIngestion endpoint"
                " of the data collection rule or endpoint, and tokens are never sent without TLS"
            )
        try:
            topics = split_topics("WEIR_SENTINEL_TOPICS", self.sentinel_topics)
        except ValueError as error:
            mistakes.append(str(error))
            topics = []
        if wrong := sorted(set(self.sentinel_dcr_by_topic) - set(deliverable_topics())):
            mistakes.append(f"WEIR_SENTINEL_DCR_BY_TOPIC: {', '.join(wrong)} cannot be sent on")
        if not self.sentinel_dcr_immutable_id and (without := [t for t in topics if t not in self.sentinel_dcr_by_topic]):
            mistakes.append(f"WEIR_SENTINEL_DCR_IMMUTABLE_ID is not set, and there is no rule for {', '.join(without)}")
        needed = {
            "static-token-file": ["sentinel_token_file"],
            "client-secret": ["sentinel_tenant_id", "sentinel_client_id", "sentinel_client_secret"],
        }
        mistakes += lacking(self, "sentinel_auth", needed)
        if mistakes:
            raise ValueError("; ".join(mistakes))
        return self

    @property
    def topics(self) -> list[str]:
        """Short names of the topics to deliver."""
        return split_topics("WEIR_SENTINEL_TOPICS", self.sentinel_topics)

    def rule(self, topic: str) -> str:
        """Immutable id of the data collection rule for a topic."""
        return self.sentinel_dcr_by_topic.get(topic, self.sentinel_dcr_immutable_id)


class SentinelDestination:
    """`Destination` for the Logs Ingestion API."""

    name = "sentinel"
    max_rows = 20_000
    # Avro grows about fourfold into JSON with column names: a handful of chunks for each call.
    max_bytes = 1_000_000
    max_parallel = 2

    def __init__(self, settings: SentinelSettings) -> None:
        self._settings = settings
        self.counters = Counters()
        self._projections: dict[str, Projection] = {}
        self._accepted: set[str] = set()
        self._local = threading.local()
        self._clients: list[Any] = []
        self._lock = threading.Lock()
        self._credential: Any = None

    # --- Destination ---------------------------------------------------------------------------------------------------------

    def prepare(self, topics: Sequence[str]) -> None:
        """Look the mappings up; tables and rules are made by deployment, not by a sink that has no right to."""
        try:
            self._projections = {topic: projection("sentinel", topic) for topic in topics}
        except (KeyError, ValueError) as error:
            raise Misconfigured([f"mappings for Sentinel: {error}"]) from error

    def table(self, topic: str) -> str:
        """The table in the workspace."""
        return projection("sentinel", topic).table

    def send(self, topic: str, rows: Sequence[Row]) -> list[Rejected]:
        """One request a chunk, one after another. Raises Retry with what was accepted before the failure."""
        project = self._projections[topic].project
        rejected: list[Rejected] = []
        lines: list[Line] = []
        for row in rows:
            try:
                line = make_line(row, project(row.record, row.partition, row.offset))
            except Exception as error:  # whatever it is, it is this record's, and the others must not wait for it
                rejected.append(Rejected(row, f"does not become a row of {self._projections[topic].table}: {error!r}"))
                continue
            lines.append(line)
            if line.cut:
                self.counters.add(truncated=line.cut)
        delivered: list[Row] = []
        for chunk in chunked(lines):
            try:
                self._deliver(topic, chunk, delivered, rejected)
            except Retry as error:
                raise Retry(str(error), retry_after=error.retry_after, delivered=delivered, rejected=rejected) from error
        return rejected

    def close(self) -> None:
        """Close the connections."""
        with self._lock:
            clients, self._clients = self._clients, []
        for client in clients:
            client.close()

    # --- requests ------------------------------------------------------------------------------------------------------------

    def _deliver(self, topic: str, chunk: Chunk, delivered: list[Row], rejected: list[Rejected]) -> None:
        """Send a chunk, splitting it where the service refuses it, down to the record that is to blame. Raises Retry."""
        stack = [chunk]
        blamed: list[Rejected] = []
        malformed = splits = 0
        before = len(delivered)
        try:
            while stack:
                part = stack.pop()
                status, reason = self._post(topic, part)
                if status == _ACCEPTED:
                    delivered.extend(part.rows)
                    self._accepted.add(topic)
                elif len(part.lines) == 1:
                    blamed.append(Rejected(part.lines[0].row, reason))
                    malformed += status == _HTTP_BAD_REQUEST
                elif splits == _MAX_SPLITS:
                    # What has been told apart so far is behind us; the next try goes on with the rest.
                    raise Retry(f"still looking for what is refused: {reason}")
                else:
                    splits += 1
                    first, second = part.halves()
                    stack += [second, first]
        finally:
            doubtful = len(delivered) == before and malformed and (topic not in self._accepted or malformed >= _TOO_MANY_BAD)
            if not doubtful:
                rejected += blamed
        if doubtful:
            # Everything being wrong at once points at the rule, and a rule can be mended: nothing is lost by waiting.
            raise Retry(
                f"nothing of a chunk of {len(chunk.lines)} was accepted; compare the rule's stream declaration and transform with"
                f" the mapping: {blamed[0].reason}"
            )

    def _post(self, topic: str, chunk: Chunk) -> tuple[int, str]:
        """Send one request: _ACCEPTED, (400 or 413, reason) when the service will not have this body. Raises Retry."""
        from azure.core.exceptions import AzureError, ClientAuthenticationError, HttpResponseError  # noqa: PLC0415

        rule, stream = self._settings.rule(topic), self._projections[topic].stream
        body = chunk.body()
        packed = igzip.compress(body, compresslevel=_COMPRESSION_LEVEL)
        # Named after its content, so that a chunk tried again can be recognised in the service's logs.
        request_id = str(uuid.UUID(bytes=hashlib.sha256(f"{rule}/{stream}/".encode() + packed).digest()[:16], version=5))
        self.counters.add(requests=1, bytes_sent=len(packed))
        try:
            self._client().upload(
                rule,
                stream,
                io.BytesIO(packed),
                request_id=request_id,
                # Retries are the runtime's: it waits without holding up a shutdown, and tells /readyz why.
                retry_total=0,
                connection_timeout=_CONNECT_SECONDS,
                read_timeout=_READ_SECONDS,
            )
            return _ACCEPTED, ""
        except HttpResponseError as error:
            # A token that is refused may come with a 400 of its own, which says nothing of the rows.
            no_token = isinstance(error, ClientAuthenticationError)
            return self._judge(topic, rule, stream, error, len(packed), no_token=no_token)
        except (AzureError, OSError, ValueError) as error:
            raise Retry(f"{self._settings.sentinel_endpoint}: {type(error).__name__}: {first_line(error)}") from error

    def _judge(self, topic: str, rule: str, stream: str, error: Any, size: int, *, no_token: bool) -> tuple[int, str]:
        status = int(error.status_code or 0)
        code = getattr(getattr(error, "error", None), "code", None) or ""
        what = f"{rule}, stream {stream}: HTTP {status} {code}: {first_line(error)}"
        if status in {_HTTP_BAD_REQUEST, _HTTP_TOO_LARGE} and not no_token:
            return status, f"{what} ({size} bytes)"
        headers = getattr(error.response, "headers", None) or {}
        if status in _CURES:
            _log.error("refused", topic=topic, dcr=rule, stream=stream, status=status, code=code, cure=_CURES[status])
            what = f"{what}; {_CURES[status]}"
        raise Retry(what, retry_after=retry_after(headers.get("Retry-After")))

    def _client(self) -> Any:
        """The calling thread's client: connections are reused, and never shared between threads."""
        client = getattr(self._local, "client", None)
        if client is None:
            from azure.monitor.ingestion import LogsIngestionClient  # noqa: PLC0415

            settings = self._settings
            with self._lock:
                if self._credential is None:
                    secret = settings.sentinel_client_secret
                    self._credential = make_credential(
                        settings.sentinel_auth,
                        token_file=settings.sentinel_token_file,
                        tenant_id=settings.sentinel_tenant_id,
                        client_id=settings.sentinel_client_id,
                        client_secret=secret.get_secret_value() if secret else None,
                    )
                options: dict[str, Any] = {}
                if settings.sentinel_ca_file is not None:
                    options["connection_verify"] = str(settings.sentinel_ca_file)
                client = LogsIngestionClient(settings.sentinel_endpoint, self._credential, **options)
                self._clients.append(client)
            self._local.client = client
        return client


def main(settings: SentinelSettings) -> None:
    """Run the Sentinel sink until SIGTERM. Raises as `weir.sinks.runtime.run_sink`."""
    run_main(settings, SentinelDestination(settings), settings.topics)
