"""The real Blob and Queue emulator."""

from __future__ import annotations

from pathlib import Path

import pytest
from azure.storage.blob import BlobServiceClient
from azure.storage.queue import QueueServiceClient

from weir.local.azurite import Azurite
from weir.local.errors import PortInUseError


def test_a_blob_and_a_message_come_back(azurite: Azurite) -> None:
    with BlobServiceClient.from_connection_string(azurite.connection_string) as blobs:
        container = blobs.create_container("round-trip")
        container.upload_blob("x", b"content")
        assert container.download_blob("x").readall() == b"content"
    with QueueServiceClient.from_connection_string(azurite.connection_string) as queues:
        queue = queues.create_queue("round-trip")
        queue.send_message("hello")
        assert next(iter(queue.receive_messages())).content == "hello"


def test_data_in_a_folder_outlives_the_process(azurite: Azurite, tmp_path: Path) -> None:
    server = Azurite(tmp_path / "data")
    with server, BlobServiceClient.from_connection_string(server.connection_string) as blobs:
        blobs.create_container("kept").upload_blob("x", b"content")
    with server, BlobServiceClient.from_connection_string(server.connection_string) as blobs:
        assert blobs.get_blob_client("kept", "x").download_blob().readall() == b"content"
    assert server.pid is None


def test_a_port_in_use_is_named(azurite: Azurite, tmp_path: Path) -> None:
    with pytest.raises(PortInUseError, match=rf"port {azurite.blob_port} .* by node \(process {azurite.pid}\)") as caught:
        Azurite(tmp_path, blob_port=azurite.blob_port).start()
    assert "blob_port" in caught.value.way_out
