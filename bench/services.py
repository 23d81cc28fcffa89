"""A real Kafka for the measurement, and `weir` processes whose CPU time is read from the operating system."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import psutil
from confluent_kafka import Consumer, KafkaException, TopicPartition

from weir.bus import topics
from weir.bus.codec import Encoder
from weir.bus.deadletter import reason_of
from weir.bus.producer import Delivery, DeliveryProducer
from weir.local.downloads import fetch_kafka
from weir.local.kafka import Kafka
from weir.model.batch import RawBatch
from weir.model.schemas import latest
from weir.model.topics import DATASETS, TopicNames
from weir.ops.settings import ServiceSettings

__all__ = ["BenchError", "Broker", "Cluster", "Service", "wait_for"]

INSTANCE: Final = "bench"
_PARTITIONS: Final = 2
_POLL_S: Final = 0.1
_SILENCE_S: Final = 30.0
_ID_AT: Final = 5  # behind magic byte and schema id


class BenchError(Exception):
    """The measurement could not be made; the message says what failed and where to look."""


def wait_for(progress: Callable[[], int], wanted: int, alive: Callable[[], None], silence_s: float = _SILENCE_S) -> bool:
    """Poll until `progress` reaches `wanted`; False where it has not moved for `silence_s`. `alive` raises for a dead process."""
    seen, moved = -1, time.monotonic()
    while True:
        alive()
        now = progress()
        if now >= wanted:
            return True
        if now != seen:
            seen, moved = now, time.monotonic()
        elif time.monotonic() - moved > silence_s:
            return False
        time.sleep(_POLL_S)


class Service:
    """One `weir` process.

    Args:
        arguments: of the command, such as ("process", "syslog").
        environment: its WEIR_… variables; those of this process are not passed on.
        log: where what it prints goes.
    """

    def __init__(self, arguments: tuple[str, str], environment: dict[str, str], log: Path) -> None:
        self.name = " ".join(arguments)
        self.log = log
        kept = {name: value for name, value in os.environ.items() if not name.startswith("WEIR_")}
        with log.open("wb") as sink:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "weir.cli", *arguments],
                env=kept | environment,
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
            )
        self._stats = psutil.Process(self._process.pid)

    def check(self) -> None:
        """Raises BenchError where the process has ended."""
        if (code := self._process.poll()) is not None:
            last = self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-12:]
            raise BenchError(f"`weir {self.name}` ended with status {code}; its last lines:\n" + "\n".join(last))

    def cpu_seconds(self) -> float:
        """User and system time of all its threads so far, in steps of the kernel's clock tick (usually 10 ms)."""
        self.check()
        times = self._stats.cpu_times()
        return float(times.user + times.system)

    def listens(self, port: int) -> bool:
        """Whether it has a TCP or UDP socket on this port; a receiver that restores state first may be ready before."""
        return any(connection.laddr and connection.laddr.port == port for connection in self._stats.net_connections("inet"))

    def resident_mb(self) -> float:
        """Resident memory now, in MB of a million bytes."""
        return float(self._stats.memory_info().rss) / 1e6

    def stop(self) -> None:
        """SIGTERM, and SIGKILL where that does not end it within 20 seconds."""
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(20)
            except subprocess.TimeoutExpired:
                self._process.kill()
        self._process.wait()


class Broker:
    """A Kafka of its own on free ports, its data and all logs in a temporary folder that goes away with it."""

    def __enter__(self) -> Self:
        fetch_kafka(lambda _: None)
        self._folder = tempfile.TemporaryDirectory(prefix="weir-bench-", ignore_cleanup_errors=True)
        self.path = Path(self._folder.name)
        self._kafka = Kafka(self.path / "kafka")
        self._kafka.start()
        self.servers = self._kafka.bootstrap_servers
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._kafka.stop()
        self._folder.cleanup()


class Cluster:
    """The topics of one measurement, under a prefix of its own."""

    def __init__(self, broker: Broker, name: str) -> None:
        self.broker = broker
        self.prefix = f"bench-{name}"
        self.settings = ServiceSettings.model_validate(
            {"kafka_bootstrap_servers": broker.servers, "topic_prefix": self.prefix, "instance": INSTANCE, "site": "bench"}
        )
        self.names = TopicNames(self.prefix)
        os.environ["WEIR_TOPIC_PARTITIONS"] = str(_PARTITIONS)
        topics.apply(self.settings)
        self._reader = Consumer(
            {"bootstrap.servers": broker.servers, "group.id": f"{self.prefix}-reader", "enable.auto.commit": False}
        )
        self._groups: dict[str, Consumer] = {}

    def environment(self) -> dict[str, str]:
        """What every service of this measurement is told."""
        return {
            "WEIR_KAFKA_BOOTSTRAP_SERVERS": self.broker.servers,
            "WEIR_TOPIC_PREFIX": self.prefix,
            "WEIR_INSTANCE": INSTANCE,
            "WEIR_SITE": "bench",
            "WEIR_LOG_LEVEL": "warning",
        }

    def start(self, arguments: tuple[str, str], **environment: str) -> Service:
        """A service of this measurement, with further settings."""
        log = self.broker.path / f"{self.prefix}-{'-'.join(arguments)}.log"
        return Service(arguments, self.environment() | environment, log)

    def publish(self, raw_topic: str, batches: list[RawBatch]) -> None:
        """Put raw batches on all partitions in turn and wait until Kafka has them."""
        encode, topic = Encoder("raw-batch"), self.names[raw_topic]
        producer = DeliveryProducer(self.settings)
        failures: list[Exception] = []
        delivery = Delivery(lambda error: failures.append(error) if error else None)
        for number, batch in enumerate(batches):
            producer.produce(topic, encode(batch.to_record()), delivery=delivery, partition=number % _PARTITIONS)
        delivery.seal()
        left = producer.close(60.0)
        if failures or left:
            raise BenchError(f"{topic}: {left} records were not taken by Kafka, {failures}")

    def end(self, topic: str) -> int:
        """Sum of the end offsets of a topic, by its short name."""
        full = self.names[topic]
        deadline = time.monotonic() + _SILENCE_S
        while True:
            try:
                partitions = self._reader.list_topics(full, 10).topics[full].partitions
                return sum(self._reader.get_watermark_offsets(TopicPartition(full, p), 10)[1] for p in partitions)
            except KafkaException as error:
                # A topic just created may have no leader yet that the client knows of.
                if time.monotonic() > deadline:
                    raise BenchError(f"{full}: {error}") from error
                time.sleep(_POLL_S)

    def events(self) -> int:
        """Records in all event topics, which tells how far the services have come."""
        return sum(self.end(f"events.{dataset}") for dataset in DATASETS)

    def committed(self, service: str, topic: str) -> int:
        """Sum of the offsets that a processor's group has committed."""
        group = f"{self.prefix}.{service}"
        consumer = self._groups.get(group)
        if consumer is None:
            consumer = self._groups[group] = Consumer({"bootstrap.servers": self.broker.servers, "group.id": group})
        partitions = [TopicPartition(self.names[topic], number) for number in range(_PARTITIONS)]
        return sum(max(found.offset, 0) for found in consumer.committed(partitions, timeout=10))

    def distinct_events(self) -> Counter[str]:
        """Different event ids by dataset, of everything in the event topics."""
        return Counter({dataset: len(self._event_ids(dataset)) for dataset in DATASETS if self.end(f"events.{dataset}")})

    def _event_ids(self, dataset: str) -> set[bytes]:
        if latest(dataset).parsed["fields"][0]["name"] != "event_id":
            raise BenchError(f"schema {dataset}: event_id is no longer the first field; read it where it is now")
        topic = self.names[f"events.{dataset}"]
        ids: set[bytes] = set()
        for number in range(_PARTITIONS):
            partition = TopicPartition(topic, number, 0)
            end = self._reader.get_watermark_offsets(partition, 10)[1]
            self._reader.assign([partition])
            position, deadline = 0, time.monotonic() + 120
            while position < end:
                if time.monotonic() > deadline:
                    raise BenchError(f"{topic}/{number}: read {position} of {end} records within 120 s")
                for message in self._reader.consume(10_000, 1.0):
                    if message.error() is None:
                        ids.add(_event_id(message.value()))
                        position = message.offset() + 1
            self._reader.unassign()
        return ids

    def dead_reason(self, raw_topic: str) -> str:
        """Why the first dead letter of a raw topic is one, or nothing where there is none."""
        if not self.end(f"{raw_topic}.dlq"):
            return ""
        self._reader.assign([TopicPartition(self.names[f"{raw_topic}.dlq"], 0, 0)])
        found = self._reader.consume(1, 10.0)
        self._reader.unassign()
        return reason_of(found[0].headers()) if found else ""

    def close(self) -> None:
        """Give the connections back."""
        for consumer in (self._reader, *self._groups.values()):
            consumer.close()


def _event_id(value: bytes) -> bytes:
    """The first field, a string: its length in one byte (zigzag), since ids are shorter than 64 bytes."""
    length = value[_ID_AT] >> 1
    return value[_ID_AT + 1 : _ID_AT + 1 + length]
