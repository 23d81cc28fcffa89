"""One installation of the detection trial: its services, how far they have read, and the alerts they have told."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from confluent_kafka import OFFSET_BEGINNING, Consumer, Producer, TopicPartition

from weir.bus.codec import Decoder, Encoder
from weir.bus.config import client_config
from weir.bus.offsets import watermarks
from weir.detect.reading.loading import load_rules
from weir.local.demo.supervisor import Supervisor
from weir.local.errors import LocalError
from weir.local.trials.detection_load import SOURCES
from weir.model.topics import TopicNames
from weir.ops.settings import ServiceSettings

__all__ = ["BROKERS", "DETECTOR", "DRAIN_SECONDS", "PREFIX", "Side", "Told"]

BROKERS = "WEIR_KAFKA_BOOTSTRAP_SERVERS"
PREFIX = "WEIR_TOPIC_PREFIX"
DETECTOR = "detector"
DRAIN_SECONDS = 180.0


class Told(NamedTuple):
    """An alert as it was last told."""

    rule: str
    group: tuple[tuple[str, str], ...]
    entities: frozenset[str]
    summary: str
    events: int
    first: int
    last: int
    state: str


class Side:
    """Of the two installations, the one whose topics have this prefix."""

    def __init__(self, which: str, settings: ServiceSettings) -> None:
        self.which = which
        self.settings = settings
        self.names = TopicNames(settings.topic_prefix)
        self.told: dict[str, Told] = {}
        self.repeated_alerts = 0
        self._revisions: dict[str, int] = {}
        self._rules = {correlation.id: correlation.name for correlation in load_rules().correlations}
        self._decode = Decoder()
        self._consumers: dict[str, Consumer] = {}

    def service(self, name: str) -> str:
        """Name of a service of this installation."""
        return f"{self.which}-{name}"

    def start(self, supervisor: Supervisor) -> None:
        """Start processors and detector."""
        own = {BROKERS: self.settings.kafka_bootstrap_servers, PREFIX: self.settings.topic_prefix, "WEIR_SITE": "trial"}
        for name in (*SOURCES, DETECTOR):
            supervisor.start_service(self.service(name), ("process", name), own)

    def open(self) -> None:
        """Begin to look at its groups and alerts."""
        for name in (*SOURCES, DETECTOR):
            self._consumers[name] = self._consumer(f"{self.settings.topic_prefix}.process.{name}")
        self._consumers["alerts"] = self._consumer("weir-trial")
        self._consumers["alerts"].assign(self._beginnings("alerts"))

    def close(self) -> None:
        """Stop looking."""
        for consumer in self._consumers.values():
            consumer.close()

    def _consumer(self, group: str) -> Consumer:
        return Consumer({**client_config(self.settings), "group.id": group, "enable.auto.commit": False})

    def _partitions(self, topic: str) -> list[TopicPartition]:
        full = self.names[topic]
        consumer = self._consumers[DETECTOR]
        return [TopicPartition(full, number) for number in consumer.list_topics(full, timeout=15).topics[full].partitions]

    def _beginnings(self, topic: str) -> list[TopicPartition]:
        return [TopicPartition(one.topic, one.partition, OFFSET_BEGINNING) for one in self._partitions(topic)]

    def _ends(self, topic: str) -> dict[int, int]:
        consumer = self._consumers[DETECTOR]
        return {one.partition: watermarks(consumer, one)[1] for one in self._partitions(topic)}

    def _has_read(self, name: str, topic: str) -> bool:
        ends = self._ends(topic)
        done = self._consumers[name].committed(self._partitions(topic), timeout=15)
        # What a record leads to is published before it is committed: an end that still stands now is the end.
        return all(max(0, one.offset) >= ends[one.partition] for one in done) and self._ends(topic) == ends

    def has_read_raw(self) -> bool:
        """Whether the processors have committed all that there is."""
        return all(self._has_read(source, f"raw.{source}") for source in SOURCES)

    def has_read_signals(self) -> bool:
        """Whether the detector has committed all signals, those among them that alerts gave to other correlations."""
        return self._has_read(DETECTOR, "signals")

    def tick(self, low: int) -> None:
        """Say that all raw topics are read up to this receive time, as their processors would."""
        producer = Producer({**client_config(self.settings), "enable.idempotence": True})
        encode = Encoder("signals")
        for source in SOURCES:
            record = {
                "kind": "tick",
                "processor": f"process.{source}",
                "rule_set": "",
                "raw_topic": self.names[f"raw.{source}"],
                "raw_partition": -1,
                "raw_offset": -1,
                "received_at": time.time_ns() // 1000,
                "ticks": [{"raw_partition": one.partition, "low": low} for one in self._partitions(f"raw.{source}")],
            }
            for one in self._partitions("signals"):
                producer.produce(one.topic, encode(record), partition=one.partition)
        producer.flush(30)

    def read_alerts(self) -> None:
        """What has been told since, to the end."""
        consumer = self._consumers["alerts"]
        for message in _to_the_end(consumer, self._ends("alerts")):
            alert = self._decode(message.value(), message.headers())
            known = self._revisions.get(alert["alert_id"], 0)
            self.repeated_alerts += alert["revision"] <= known
            if alert["revision"] >= known:
                self._revisions[alert["alert_id"]] = alert["revision"]
                self.told[alert["alert_id"]] = _told(alert, self._rules)

    def repeated_signals(self) -> int:
        """Signals records that came more than once."""
        consumer = self._consumer("weir-trial-signals")
        seen: Counter[str] = Counter()
        try:
            consumer.assign(self._beginnings("signals"))
            for message in _to_the_end(consumer, self._ends("signals")):
                record = self._decode(message.value(), message.headers())
                if record["kind"] != "tick":
                    seen[f"{record['signals_id']}/{message.partition()}"] += 1
        finally:
            consumer.close()
        return seen.total() - len(seen)


def _to_the_end(consumer: Consumer, ends: Mapping[int, int]) -> Iterator[Any]:
    """The messages up to these offsets.

    Raises:
        LocalError: they do not come.
    """
    deadline = time.monotonic() + DRAIN_SECONDS
    while time.monotonic() < deadline:
        places = {one.partition: one.offset for one in consumer.position(consumer.assignment())}
        if all(end == 0 or places.get(partition, 0) >= end for partition, end in ends.items()):
            return
        messages = consumer.consume(1000, 0.2)
        yield from (message for message in messages if message.error() is None)
    raise LocalError(f"a topic is not read to its end after {DRAIN_SECONDS:.0f} s", "read Kafka's log; see --folder")


def _told(alert: Mapping[str, Any], names: Mapping[str, str]) -> Told:
    return Told(
        rule=names.get(alert["rule_id"], alert["rule_name"]),
        group=tuple(sorted(alert["group_by"].items())),
        entities=frozenset(alert["entities"].values()),
        summary=alert["summary"],
        events=alert["event_count"],
        first=alert["first_seen"],
        last=alert["last_seen"],
        state=alert["state"],
    )
