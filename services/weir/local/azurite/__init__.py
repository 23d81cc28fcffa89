"""Azurite, Microsoft's emulator of Blob and Queue storage, on the loopback address: behind the stand-in for queued ingestion."""

from __future__ import annotations

import http.client
from pathlib import Path
from types import TracebackType
from typing import Self

from weir.local.downloads import azurite_script, node
from weir.local.ports import LOOPBACK, check_port, find_free_port
from weir.local.processes import ProcessId, Server

__all__ = ["ACCOUNT_KEY", "ACCOUNT_NAME", "Azurite"]

# The one account of every Azurite, printed in its documentation and meant to be public; it opens nothing else.
ACCOUNT_NAME = "devstoreaccount1"
ACCOUNT_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="

_MEMORY_LIMIT_MB = 512  # of blob contents kept in memory; Azurite's own limit is half of the machine


class Azurite:
    """One Azurite process. Data is in `data_dir`, or in memory and gone with the process when that is None.

    `output` is the file that takes what it prints, in `data_dir` unless told. Ports are chosen freely when None.
    A `bound` one ends with the thread that starts it, however that ends (Linux).
    """

    def __init__(
        self,
        data_dir: Path | None = None,
        blob_port: int | None = None,
        queue_port: int | None = None,
        table_port: int | None = None,
        *,
        output: Path | None = None,
        bound: bool = False,
    ) -> None:
        if data_dir is None and output is None:
            raise ValueError("Azurite in memory needs `output`, a file for what it prints")
        self.data_dir = data_dir.absolute() if data_dir else None
        self.blob_port = blob_port if blob_port is not None else find_free_port()
        self.queue_port = queue_port if queue_port is not None else find_free_port()
        self.table_port = table_port if table_port is not None else find_free_port()
        self.log_path = (output or Path(str(self.data_dir)) / "azurite.log").absolute()
        self._server = Server("Azurite", bound=bound)

    @property
    def blob_url(self) -> str:
        """The account's address in path style, the only one that resolves everywhere."""
        return f"http://{LOOPBACK}:{self.blob_port}/{ACCOUNT_NAME}"

    @property
    def queue_url(self) -> str:
        """The account's address in path style."""
        return f"http://{LOOPBACK}:{self.queue_port}/{ACCOUNT_NAME}"

    @property
    def table_url(self) -> str:
        """The account's address in path style."""
        return f"http://{LOOPBACK}:{self.table_port}/{ACCOUNT_NAME}"

    @property
    def connection_string(self) -> str:
        """For `BlobServiceClient.from_connection_string` and its like."""
        return (
            f"DefaultEndpointsProtocol=http;AccountName={ACCOUNT_NAME};AccountKey={ACCOUNT_KEY};"
            f"BlobEndpoint={self.blob_url};QueueEndpoint={self.queue_url};"
        )

    @property
    def pid(self) -> int | None:
        """The process id while it runs."""
        return self._server.pid

    @property
    def identity(self) -> ProcessId | None:
        """The process that `start` started."""
        return self._server.identity

    def start(self, timeout: float = 60.0) -> Self:
        """Start it and return when blob, queue and table each answered over HTTP, within `timeout` seconds.

        Raises:
            PortInUseError: somebody listens on one of the ports.
            StartError: it died or did not answer in time.
            Unavailable: it is not fetched.
        """
        command: list[str | Path] = [node(), azurite_script(), "--silent", "--disableTelemetry", "--skipApiVersionCheck"]
        for name, port in (("blob", self.blob_port), ("queue", self.queue_port), ("table", self.table_port)):
            check_port(port, f"Azurite's {name}_port")
            command += [f"--{name}Host", LOOPBACK, f"--{name}Port", str(port)]
        if self.data_dir is None:
            command += ["--inMemoryPersistence", "--extentMemoryLimit", str(_MEMORY_LIMIT_MB)]
        else:
            self.data_dir.mkdir(parents=True, exist_ok=True)
            command += ["--location", self.data_dir]
        self._server.spawn(command, output=self.log_path)
        waiting = [self.blob_port, self.queue_port, self.table_port]

        def ready() -> bool:
            while waiting and _speaks_http(waiting[0]):
                waiting.pop(0)
            return not waiting

        self._server.wait_ready(ready, timeout, (self.log_path,))
        return self

    def stop(self, timeout: float = 10.0) -> None:
        """SIGTERM, then SIGKILL after `timeout` seconds; harmless when it does not run."""
        self._server.stop(timeout)

    def kill(self) -> None:
        """End it as a crash would (SIGKILL)."""
        self._server.kill()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()


def _speaks_http(port: int) -> bool:
    # Any answer will do: without a signature it is 400 or 403, from a service that is up.
    connection = http.client.HTTPConnection(LOOPBACK, port, timeout=1.0)
    try:
        connection.request("GET", "/")
        return connection.getresponse().status > 0
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
