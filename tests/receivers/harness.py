"""Runs a receiver in a thread of its own with its own loop, and reads what it published."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import uvloop
from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from weir.bus.codec import Decoder
from weir.model.batch import RawBatch
from weir.model.topics import TopicNames, declarations
from weir.receivers.service import Receiver, serve
from weir.receivers.settings import ReceiverSettings

CORPUS = Path(os.environ.get("WEIR_CORPUS", Path(__file__).resolve().parents[3] / "shared" / "corpus"))


def free_port(kind: int = socket.SOCK_STREAM) -> int:
    """A port nobody listens on."""
    with socket.socket(socket.AF_INET, kind) as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def make_topics(servers: str, prefix: str, *short: str, partitions: int = 1) -> TopicNames:
    """Create these topics and the ledger."""
    names = TopicNames(prefix)
    new = [NewTopic(names[s], partitions, config=declarations()[s].config()) for s in {*short, "ledger"}]
    admin = AdminClient({"bootstrap.servers": servers})
    for future in admin.create_topics(new, operation_timeout=20).values():
        future.result(20)
    return names


class TopicReader:
    """Everything in a topic, from its beginning."""

    def __init__(self, servers: str, topic: str, partitions: int = 1) -> None:
        self._consumer = Consumer({"bootstrap.servers": servers, "group.id": "tests", "enable.auto.commit": False})
        self._consumer.assign([TopicPartition(topic, p, OFFSET_BEGINNING) for p in range(partitions)])
        self._decode = Decoder()
        self.records: list[dict[str, Any]] = []
        self.keys: list[str] = []
        self.timestamp_types: set[int] = set()

    def poll(self) -> list[dict[str, Any]]:
        """Whatever is there by now."""
        for message in self._consumer.consume(1000, 0.05):
            if message.error() is None:
                self.keys.append((message.key() or b"").decode())
                self.timestamp_types.add(message.timestamp()[0])
                self.records.append(self._decode(message.value()) if message.value() is not None else {})
        return self.records

    def batches(self) -> list[RawBatch]:
        """The records as raw batches."""
        return [RawBatch.from_record(dict(record)) for record in self.poll()]

    def units(self) -> list[bytes]:
        """All units of all batches."""
        return [unit for batch in self.batches() for unit in batch.units]

    def close(self) -> None:
        self._consumer.close()


@contextmanager
def reading(servers: str, topic: str, partitions: int = 1) -> Iterator[TopicReader]:
    """A reader that is closed in the end."""
    reader = TopicReader(servers, topic, partitions)
    try:
        yield reader
    finally:
        reader.close()


class Running:
    """A receiver at work."""

    def __init__(self, settings: Any, service: str, build: Callable[[Any], Any]) -> None:
        self._ready = threading.Event()
        self._error: BaseException | None = None
        self.receiver: Any = None
        self.left: int | None = None
        self._thread = threading.Thread(target=self._run, args=(settings, service, build), daemon=True)
        self._thread.start()
        assert self._ready.wait(30), "the receiver did not start"
        if self._error is not None:
            raise self._error

    def _run(self, settings: ReceiverSettings, service: str, build: Callable[[Any], Receiver]) -> None:
        async def main() -> None:
            self._loop = asyncio.get_running_loop()
            self._stop = asyncio.Event()
            self.left = await serve(settings, service, build, self._stop, self._started)

        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(main())
        except BaseException as error:
            self._error = error
        self._ready.set()

    def _started(self, receiver: Receiver) -> None:
        self.receiver = receiver
        self._ready.set()

    def stop(self) -> int | None:
        """Stop gracefully; how many records were not taken."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join(60)
            assert not self._thread.is_alive(), "the receiver did not stop"
        if self._error is not None:
            raise self._error
        return self.left


@contextmanager
def running(settings: Any, service: str, build: Callable[[Any], Any]) -> Iterator[Running]:
    """A receiver that is stopped in the end."""
    run = Running(settings, service, build)
    try:
        yield run
    finally:
        run.stop()
