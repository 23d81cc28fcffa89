"""The loss oracle: what should be there, worked out anew from the raw topics, against what is there.

Nothing here trusts the services. Raw batches are read back from Kafka and decoded once more with the same pure functions; the
distinct event ids they must yield are compared with those in the event topics, and these with those at each destination. Repeats
are counted apart: at-least-once delivery allows them, and an id makes them harmless. It is for services without filters: of what
those leave out, the ledger tells how much, and nothing tells which.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from confluent_kafka import Consumer, ConsumerGroupTopicPartitions, Message, TopicPartition
from confluent_kafka.admin import AdminClient

from weir.bus.codec import Decoder, Encoder
from weir.bus.config import client_config
from weir.bus.deadletter import reason_of
from weir.bus.offsets import watermarks
from weir.local.generate import marks
from weir.model.batch import RawBatch
from weir.model.ids import parse_event_id
from weir.model.ledger import LedgerCounts, LedgerEntry
from weir.model.topics import DATASETS, TopicNames
from weir.ops.settings import ServiceSettings
from weir.processors import beats, netflow, syslog
from weir.processors.outcome import Outcome, RawCoordinates
from weir.processors.runtime import MAX_EVENT_BYTES

__all__ = ["MARKED", "SOURCES", "Audit", "Oracle", "SourceAudit"]

SOURCES = ("syslog", "beats", "netflow")
_PROCESS: dict[str, Callable[[RawBatch, RawCoordinates], Outcome]] = {
    "syslog": syslog.make_process(),
    "beats": beats.process,
    "netflow": netflow.process,
}
MARKED = ("beats",)
"""Sources whose senders are told what has arrived: their units are looked for one by one, by the numbers they carry."""
Unit = tuple[str, int]


@dataclass(slots=True)
class SourceAudit:
    """One source: units by what became of them, and events. Numbers are of distinct units and distinct events.

    Of some units only a part can be decoded: these are dead, and what could be decoded is among the events.
    """

    units_received: int = 0
    units_empty: int = 0
    units_dead: int = 0
    units_with_events: int = 0
    events: int = 0
    bytes_received: int = 0


@dataclass(slots=True)
class Audit:
    """What the topics hold. `lost` names everything that should be there and is not."""

    sources: dict[str, SourceAudit] = field(default_factory=lambda: {name: SourceAudit() for name in SOURCES})
    topics: dict[str, int] = field(default_factory=dict)
    event_ids: dict[str, set[str]] = field(default_factory=dict)
    alert_ids: set[str] = field(default_factory=set)
    alert_revisions: int = 0
    alerts: list[dict[str, object]] = field(default_factory=list)
    dead_letters: Counter[tuple[str, str]] = field(default_factory=Counter)
    ledger: dict[str, LedgerCounts] = field(default_factory=dict)
    marks: dict[str, set[int]] = field(default_factory=lambda: {name: set() for name in SOURCES})
    lost: list[str] = field(default_factory=list)
    lost_count: int = 0
    repeated: int = 0
    disagreements: list[str] = field(default_factory=list)

    def lose(self, what: str, missing: set[str] | set[Unit]) -> None:
        """Note what is missing, with one example."""
        if missing:
            self.lost_count += len(missing)
            self.lost.append(f"{what}: {len(missing)} missing, such as {min(missing)}")


def _event_id(data: bytes) -> str:
    """The first field of an event without decoding the rest: 5 bytes of the wire format, a length in zigzag, the text."""
    length, shift, position = 0, 0, 5
    while True:
        byte = data[position]
        position += 1
        length |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            break
    return data[position : position + (length >> 1)].decode()


class Oracle:
    """Reads the topics of one Weir.

    Args:
        settings: brokers and topic prefix.
    """

    def __init__(self, settings: ServiceSettings) -> None:
        self.names = TopicNames(settings.topic_prefix)
        self._config = client_config(settings)
        self._admin = AdminClient(self._config)
        self._decode = Decoder()
        self._encoders = {dataset: Encoder(dataset) for dataset in DATASETS}

    def ends(self, topics: Iterable[str]) -> dict[tuple[str, int], int]:
        """End offset of each partition of these topics (full names)."""
        consumer = self._consumer()
        found = self._admin.list_topics(timeout=15).topics
        try:
            return {
                (topic, partition): watermarks(consumer, TopicPartition(topic, partition), 15)[1]
                for topic in topics
                for partition in found[topic].partitions
            }
        finally:
            consumer.close()

    def behind(self, group: str, ends: dict[tuple[str, int], int]) -> int:
        """Records before `ends` that a group has not committed."""
        future = self._admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions(group)])[group]
        committed = {(p.topic, p.partition): p.offset for p in future.result(15).topic_partitions or []}
        return sum(max(0, end - max(0, committed.get(place, 0))) for place, end in ends.items())

    def audit(self) -> Audit:
        """Read every topic once and compare."""
        audit = Audit()
        audit.topics = dict(sorted(self._counts().items()))
        expected: dict[str, set[str]] = {dataset: set() for dataset in DATASETS}
        for source in SOURCES:
            buried = self._dead(source, audit)
            dead = self._expect(source, audit, expected, buried)
            audit.lose(f"dead letters of raw.{source}", dead - buried)
        for dataset in DATASETS:
            found = Counter(_event_id(m.value()) for m in self._read(f"events.{dataset}"))
            audit.event_ids[dataset] = set(found)
            audit.repeated += sum(found.values()) - len(found)
            audit.lose(f"events.{dataset}", expected[dataset] - audit.event_ids[dataset])
            if strange := audit.event_ids[dataset] - expected[dataset]:
                audit.disagreements.append(f"events.{dataset} holds {len(strange)} ids that no raw unit yields")
        self._alerts(audit)
        self._ledger(audit)
        return audit

    def _expect(self, source: str, audit: Audit, expected: dict[str, set[str]], buried: set[Unit]) -> set[Unit]:
        """Count the units of a source and add the ids they must yield to `expected`; returns those that must be dead letters."""
        mine = audit.sources[source]
        seen: set[bytes] = set()
        dead: set[Unit] = set()
        for message in self._read(f"raw.{source}"):
            batch = RawBatch.from_record(self._decode(message.value()))
            if batch.batch_id in seen:
                # A receiver that did not hear Kafka's answer publishes the same batch again.
                audit.repeated += len(batch.units)
                continue
            seen.add(batch.batch_id)
            mine.units_received += len(batch.units)
            mine.bytes_received += sum(map(len, batch.units))
            if source in MARKED:
                for unit in batch.units:
                    audit.marks[source].update(number for _, _, number in marks(unit.decode("utf-8", "replace")))
            outcome = _PROCESS[source](batch, RawCoordinates(message.topic(), message.partition(), message.offset()))
            mine.units_empty += outcome.units_empty
            batch_hex = batch.batch_id.hex()
            dead_here = {batch.position(d.unit_index) for d in outcome.dead}
            in_question = {u for u in map(batch.position, range(len(batch.units))) if (batch_hex, u) in buried} - dead_here
            units: set[int] = set()
            for dataset, records in outcome.events.items():
                ids = {record["event_id"] for record in records}
                if in_question:
                    unfit = {i for i in self._unfit(dataset, records) if parse_event_id(i)[1] in in_question}
                    dead_here |= {parse_event_id(i)[1] for i in unfit}
                    ids -= unfit
                expected[dataset] |= ids
                mine.events += len(ids)
                units |= {parse_event_id(i)[1] for i in ids}
            mine.units_with_events += len(units - dead_here)
            dead |= {(batch_hex, unit) for unit in dead_here}
        mine.units_dead = len(dead)
        return dead

    def _unfit(self, dataset: str, records: list[dict[str, Any]]) -> set[str]:
        """Ids of the events that no record of their topic can hold: a dead letter is all that can come of their units."""
        unfit = set()
        for record in records:
            try:
                fits = len(self._encoders[dataset](record)) <= MAX_EVENT_BYTES
            except Exception:  # fastavro raises many kinds for values that do not fit
                fits = False
            if not fits:
                unfit.add(str(record["event_id"]))
        return unfit

    def _dead(self, source: str, audit: Audit) -> set[Unit]:
        """Count the dead letters of a source; returns whose they are."""
        found: set[Unit] = set()
        for message in self._read(f"raw.{source}.dlq"):
            batch = RawBatch.from_record(self._decode(message.value()))
            units = {(batch.batch_id.hex(), batch.position(i)) for i in range(len(batch.units))}
            audit.dead_letters[f"raw.{source}", reason_of(message.headers())] += len(units - found)
            audit.repeated += len(units & found)
            found |= units
        return found

    def _alerts(self, audit: Audit) -> None:
        newest: dict[str, dict[str, object]] = {}
        revisions: Counter[tuple[str, int]] = Counter()
        for message in self._read("alerts"):
            record = self._decode(message.value())
            alert_id, revision = str(record["alert_id"]), int(record["revision"])
            revisions[alert_id, revision] += 1
            newest[alert_id] = record
        audit.alert_revisions = len(revisions)
        audit.repeated += sum(revisions.values()) - len(revisions)
        audit.alert_ids = set(newest)
        audit.alerts = list(newest.values())

    def _ledger(self, audit: Audit) -> None:
        entries: dict[str, LedgerEntry] = {}
        for message in self._read("ledger"):
            entry = LedgerEntry.from_record(self._decode(message.value()))
            entries[entry.key] = entry
        for entry in entries.values():
            total = audit.ledger.setdefault(entry.service, LedgerCounts())
            for counts in entry.lines.values():
                total.add(counts)
        for source, mine in audit.sources.items():
            said = audit.ledger.get(f"process.{source}", LedgerCounts())
            for name, measured in (
                ("units_in", mine.units_received),
                ("units_empty", mine.units_empty),
                ("units_dead", mine.units_dead),
            ):
                if getattr(said, name) != measured:
                    audit.disagreements.append(
                        f"the ledger of process.{source} says {name} {getattr(said, name)}, the topics say {measured}"
                    )
            if (out := sum(said.events_out.values()) + said.filtered) != mine.events:
                audit.disagreements.append(f"the ledger of process.{source} says {out} events, the topics say {mine.events}")

    def _counts(self) -> dict[str, int]:
        consumer = self._consumer()
        counts: dict[str, int] = {}
        try:
            for name, topic in self._admin.list_topics(timeout=15).topics.items():
                if not name.startswith(f"{self.names.prefix}."):
                    continue
                try:
                    self.names.short(name)
                except KeyError:
                    continue
                total = 0
                for partition in topic.partitions:
                    low, high = watermarks(consumer, TopicPartition(name, partition), 15)
                    total += high - low
                counts[name] = total
        finally:
            consumer.close()
        return counts

    def _read(self, topic: str) -> Iterable[Message]:
        """Every record that a topic holds now."""
        full = self.names[topic]
        consumer = self._consumer()
        partitions = self._admin.list_topics(full, timeout=15).topics[full].partitions
        left = {}
        for partition in partitions:
            low, high = watermarks(consumer, TopicPartition(full, partition), 15)
            if high > low:
                left[partition] = high
        try:
            consumer.assign([TopicPartition(full, partition, 0) for partition in left])
            while left:
                for message in consumer.consume(5000, 0.1):
                    if message.error() is not None:
                        raise RuntimeError(f"{full}: {message.error()}")
                    if message.partition() in left:
                        yield message
                        if message.offset() + 1 >= left[message.partition()]:
                            del left[message.partition()]
        finally:
            consumer.close()

    def _consumer(self) -> Consumer:
        # A group is asked for by the client though nothing is ever committed.
        return Consumer({**self._config, "group.id": "weir-oracle", "enable.auto.commit": False, "auto.offset.reset": "earliest"})
