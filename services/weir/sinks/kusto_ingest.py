"""The Kusto SDK as this project uses it: a queued-ingestion client that loses nothing, timeouts, and what its errors mean.

`azure-kusto-ingest` is used as published. Two of its habits are corrected from outside: when the first storage container refuses
a blob, version 6.0.4 sends the rest of an already read stream, that is nothing, to the next one and reports success; and a
management endpoint that accepts a connection and then hangs is waited for an hour.

Imported by `weir.sinks.adx` when it first connects: the SDK takes half a second that no other service should pay.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import IO, Any, Final

from azure.core.exceptions import AzureError
from azure.kusto.data import ClientRequestProperties, KustoClient, KustoConnectionStringBuilder
from azure.kusto.data.exceptions import (
    KustoApiError,
    KustoAuthenticationError,
    KustoBlobError,
    KustoClientError,
    KustoClientInvalidConnectionStringException,
    KustoError,
    KustoNetworkError,
    KustoServiceError,
    KustoThrottlingError,
)
from azure.kusto.ingest import BlobDescriptor, QueuedIngestClient, StreamDescriptor
from azure.kusto.ingest.exceptions import KustoQueueError
from azure.storage.blob import BlobServiceClient, LinearRetry

from weir.ops import logging
from weir.sinks.answers import first_line, retry_after
from weir.sinks.destination import Misconfigured, Retry

__all__ = ["SDK_ERRORS", "Connect", "SafeQueuedIngestClient", "connect_engine", "judge", "management"]

_log = logging.get(__name__)
SDK_ERRORS: Final = (KustoError, AzureError, OSError, ValueError, KeyError, TypeError, AttributeError)
"""What calls of the SDK raise for reasons that are not ours: the last ones for answers that are not of the form it expects."""

Connect = Callable[[str], KustoConnectionStringBuilder]
"""Makes the connection string builder for a URL, with the settings' way to authenticate."""

# Between the time the service is told and the time the connection is given; the SDK has 30 s.
_GRACE: Final = timedelta(seconds=2)
_STORAGE_SECONDS: Final = 60


class SafeQueuedIngestClient(QueuedIngestClient):  # type: ignore[misc]  # the SDK has no types
    """Queued ingestion that sends the whole blob to each container it tries, and never waits for hours.

    Args:
        kcsb: connection to the data management endpoint.
        timeout_seconds: longest wait for one answer of it.
    """

    _SERVICE_CLIENT_TIMEOUT_SECONDS = _STORAGE_SECONDS

    def __init__(self, kcsb: KustoConnectionStringBuilder, timeout_seconds: int) -> None:
        super().__init__(kcsb, auto_correct_endpoint=False)
        # The SDK has no option for these: its resource manager makes and keeps the client.
        client = self._resource_manager._kusto_client
        client._mgmt_default_timeout = timedelta(seconds=timeout_seconds)
        client._client_server_delta = _GRACE

    def check(self) -> None:
        """Ask for the resources of ingestion. Raises as the SDK, and KustoClientError where the endpoint names none."""
        if not self._get_containers() or not self._resource_manager.get_ingestion_queues():
            raise KustoClientError("the endpoint names no storage to ingest through; it must be the data management one, ingest-…")

    def upload_blob(
        self,
        containers: list[Any],
        descriptor: StreamDescriptor,
        database: str,
        table: str,
        stream: IO[bytes],
        proxy_dict: dict[str, str] | None,
        timeout: int,
        max_retries: int,
    ) -> BlobDescriptor:
        """Try one container after another, each with the stream from where it stood. Raises KustoBlobError."""
        name = f"{database}__{table}__{descriptor.source_id}__{descriptor.stream_name}"
        start = stream.tell()
        failure = KustoBlobError(ValueError("no storage container is known"))
        for container in containers[:max_retries]:
            stream.seek(start)
            try:
                url = _put_blob(container, name, stream, proxy_dict, timeout)
            except (AzureError, OSError, ValueError) as error:
                self._resource_manager.report_resource_usage_result(container.storage_account_name, False)
                failure = KustoBlobError(error)
                _log.warning("container-failed", container=container.object_name, reason=first_line(error))
                continue
            self._resource_manager.report_resource_usage_result(container.storage_account_name, True)
            return BlobDescriptor(url, descriptor.size, descriptor.source_id)
        raise failure


def _put_blob(container: Any, name: str, stream: IO[bytes], proxies: dict[str, str] | None, timeout: int) -> str:
    """Write one blob; its URL with the signature. Raises AzureError, within seconds where connections are refused."""
    # By default an account that refuses connections is tried for a minute and a half before the next one gets its turn.
    retries = LinearRetry(backoff=1, retry_total=2, random_jitter_range=1)
    with BlobServiceClient(
        container.account_uri, proxies=proxies, retry_policy=retries, connection_timeout=5, read_timeout=_STORAGE_SECONDS
    ) as service:
        client = service.get_blob_client(container=container.object_name, blob=name)
        client.upload_blob(data=stream, timeout=timeout)
        return str(client.url)


def connect_engine(kcsb: KustoConnectionStringBuilder) -> KustoClient:
    """A client for management commands on the engine; call it through `management`."""
    return KustoClient(kcsb)


def management(client: KustoClient, database: str, command: str, timeout_seconds: int) -> list[dict[str, Any]]:
    """The rows that a management command answers. Raises as the SDK."""
    properties = ClientRequestProperties()
    properties.set_option(ClientRequestProperties.request_timeout_option_name, timedelta(seconds=timeout_seconds))
    client._client_server_delta = _GRACE
    answer = client.execute_mgmt(database, command, properties)
    return [row.to_dict() for row in answer.primary_results[0]] if answer.primary_results else []


_CURES: Final = {
    400: "check WEIR_ADX_DATABASE, and that WEIR_ADX_INGEST_URL is the data management endpoint (ingest-…) of the same cluster",
    401: "check WEIR_ADX_AUTH and what belongs to it, and that the identity is of the cluster's tenant",
    403: "give the identity the roles Ingestor and User on the database, or have somebody else make the tables and set"
    " WEIR_ADX_CREATE_TABLES=false",
    404: "check WEIR_ADX_INGEST_URL and WEIR_ADX_ENGINE_URL",
}


def judge(error: BaseException, what: str) -> Retry | Misconfigured:
    """What an error of the SDK means for the sink; `what` says what was being done, and where.

    Only an address that the SDK itself refuses is beyond a retry. What somebody must cure (rights, names) is logged as an error
    with the cure and tried again: rights take time to spread, and no record may be dropped for it.
    """
    reason = f"{what}: {type(error).__name__}: {first_line(error)}"
    if isinstance(error, KustoClientInvalidConnectionStringException):
        return Misconfigured([f"{reason}; WEIR_ADX_INGEST_URL and WEIR_ADX_ENGINE_URL must be addresses of Azure Data Explorer"])
    if isinstance(error, KustoThrottlingError):
        response = error.args[1] if len(error.args) > 1 else None
        return Retry(reason, retry_after=retry_after((getattr(response, "headers", None) or {}).get("Retry-After")))
    if isinstance(error, KustoNetworkError | KustoBlobError | KustoQueueError):
        cause = error.__cause__ or getattr(error, "inner", None)
        return Retry(f"{reason}: {first_line(cause)}" if cause is not None else reason)
    status = _status(error)
    if isinstance(error, KustoAuthenticationError):
        status = 401
    if (cure := _CURES.get(status)) is not None and not _passes(error):
        _log.error("refused", what=what, status=status, reason=first_line(error), cure=cure)
        return Retry(f"{reason}; {cure}")
    return Retry(reason)


def _status(error: BaseException) -> int:
    if not isinstance(error, KustoServiceError):
        return 0
    # The SDK hands the response of a 404 or 401 on as the second argument, of others by name.
    return int(getattr(error.http_response, "status_code", 0) or 0)


def _passes(error: BaseException) -> bool:
    """Whether the service says itself that the error is not permanent."""
    return isinstance(error, KustoApiError) and error.get_api_error().permanent is False
