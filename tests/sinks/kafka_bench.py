"""Topics filled with events, sinks run in threads, and what they left behind in Kafka."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

from confluent_kafka import Consumer, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from weir.bus import topics
from weir.bus.codec import Decoder
from weir.bus.offsets import watermarks
from weir.model.ledger import LedgerCounts, LedgerEntry
from weir.model.topics import TopicNames
from weir.sinks.destination import Destination
from weir.sinks.runtime import Sink
from weir.sinks.settings import SinkSettings

from .samples import NOW_US, cef, encode

__all__ = ["KafkaBench", "RunningSink"]


class RunningSink:
    """A sink in a thread; `stop` asks and waits, and raises what the sink raised."""

    def __init__(self, settings: SinkSettings, destination: Destination, names: Sequence[str]) -> None:
        self.sink = Sink(settings, destination, names)
        self.error: BaseException | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self.sink.run(self._stop)
        except BaseException as error:
            self.error = error
        finally:
            self.sink.close()

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    def stop(self, timeout: float = 30.0) -> None:
        self._stop.set()
        self._thread.join(timeout)
        assert not self._thread.is_alive(), "the sink did not stop"
        if self.error is not None:
            raise self.error


class KafkaBench:
    """One test's topics."""

    def __init__(self, bootstrap: str, prefix: str) -> None:
        self.bootstrap, self.prefix = bootstrap, prefix
        self.names = TopicNames(prefix)
        self.admin = AdminClient({"bootstrap.servers": bootstrap})
        topics.apply(self.settings())
        self._running: list[RunningSink] = []
        # By group: asked again and again, where a client a question would cost more than what is tested.
        self._watchers: dict[str, Consumer] = {}

    def _watcher(self, group: str) -> Consumer:
        if group not in self._watchers:
            self._watchers[group] = _consumer(self.bootstrap, group)
        return self._watchers[group]

    def settings(self, **changes: Any) -> SinkSettings:
        options: dict[str, Any] = {
            "kafka_bootstrap_servers": self.bootstrap,
            "topic_prefix": self.prefix,
            "instance": "sink-0",
            "sink_linger_seconds": 0.05,
            "sink_commit_seconds": 0.2,
            "sink_backoff_max_seconds": 0.2,
            **changes,
        }
        return SinkSettings(**options)

    def start(self, destination: Destination, names: Sequence[str] = ("events.cef",), **changes: Any) -> RunningSink:
        running = RunningSink(self.settings(**changes), destination, names)
        self._running.append(running)
        return running

    def close(self) -> None:
        for running in self._running:
            if running.alive:
                running._stop.set()
        for running in self._running:
            running._thread.join(30)
        while self._watchers:
            self._watchers.popitem()[1].close()

    def fill(self, count: int, topic: str = "events.cef", first: int = 0, **fields: Any) -> list[str]:
        """Events over all partitions of a topic; gives their ids."""
        schema = topic.removeprefix("events.")
        ids, values = [], []
        for number in range(first, first + count):
            record = cef(number, **fields)
            ids.append(record["event_id"])
            values.append(encode(schema, record if schema == "cef" else {"event_id": record["event_id"], "event_created": NOW_US}))
        self.put(topic, values, spread=len(self.ends(topic)))
        return ids

    def put(self, topic: str, values: Sequence[bytes | None], key: bytes | None = None, spread: int = 0) -> None:
        """Records to one topic; with `spread` in turn to so many partitions, since a partitioner may leave one of them out."""
        producer = Producer({"bootstrap.servers": self.bootstrap, "linger.ms": 5, "queue.buffering.max.messages": 1_000_000})
        failures: list[Any] = []

        def on_delivery(error: Any, _: Message) -> None:
            if error is not None:
                failures.append(error)

        for number, value in enumerate(values):
            partition = number % spread if spread else -1
            producer.produce(self.names[topic], value, key, partition, on_delivery=on_delivery)
            producer.poll(0)
        assert producer.flush(60) == 0
        assert failures == []

    def ends(self, topic: str) -> dict[int, int]:
        """End offset of each partition; of a topic made a moment ago too, whose leaders may not know it yet."""
        full, reader = self.names[topic], self._watcher("ends")
        partitions = reader.list_topics(full, timeout=10).topics[full].partitions
        return {p: watermarks(reader, TopicPartition(full, p), 20)[1] for p in partitions}

    def committed(self, destination: str = "fake", topic: str = "events.cef") -> dict[int, int]:
        """Committed offset of each partition, 0 where there is none."""
        full = self.names[topic]
        wanted = [TopicPartition(full, p) for p in self.ends(topic)]
        found = self._watcher(f"{self.prefix}.sink.{destination}").committed(wanted, timeout=10)
        return {p.partition: max(p.offset, 0) for p in found}

    def read(self, topic: str) -> list[Message]:
        """Everything in a topic now."""
        full = self.names[topic]
        messages: list[Message] = []
        with _consumer(self.bootstrap, "read") as reader:
            ends = self.ends(topic)
            reader.assign([TopicPartition(full, p, 0) for p in ends])
            left = {p: end for p, end in ends.items() if end > watermarks(reader, TopicPartition(full, p))[0]}
            while left:
                message = reader.poll(10)
                assert message is not None, f"{full}: nothing more to read before {left}"
                assert message.error() is None, message.error()
                messages.append(message)
                if message.offset() + 1 >= left.get(message.partition(), 0):
                    left.pop(message.partition(), None)
        return messages

    def ledger(self) -> dict[str, LedgerEntry]:
        """Entries by key: a later one replaces an earlier one."""
        decode = Decoder()
        entries = [LedgerEntry.from_record(decode(message.value())) for message in self.read("ledger")]
        return {entry.key: entry for entry in entries}

    def ledger_sum(self) -> LedgerCounts:
        total = LedgerCounts()
        for entry in self.ledger().values():
            for counts in entry.lines.values():
                total.add(counts)
        return total


def _consumer(bootstrap: str, group: str) -> Consumer:
    options = {"enable.auto.commit": False, "auto.offset.reset": "earliest", "reconnect.backoff.max.ms": 500}
    return Consumer({"bootstrap.servers": bootstrap, "group.id": group, **options})


MakeBench = Callable[[], KafkaBench]
