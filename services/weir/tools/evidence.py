"""The evidence of an alert, fetched back: the raw units it names by their coordinates, and their events by their ids.

Only Kafka is asked, and it forgets after the retention of each topic. What is found is checked: a raw record must hold the batch
that the event's id names, since the offsets of a topic that was made anew are other records.

Reads without a consumer group and commits nothing.
"""

from __future__ import annotations

import hashlib
import time
from base64 import b64encode
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Final, Self

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from weir.bus.codec import Decoder, WireFormatError
from weir.bus.config import client_config
from weir.bus.offsets import offsets_for_times, watermarks
from weir.bus.topics import TopicsUnavailable
from weir.model.batch import RawBatch
from weir.model.ids import parse_event_id
from weir.model.topics import DATASETS, TopicNames
from weir.ops.settings import ServiceSettings
from weir.tools.ledger import read_topic

__all__ = ["Evidence", "EvidenceReader", "batch_time_us", "find_alerts"]

Record = dict[str, Any]

_SECONDS: Final = 15.0
_READ: Final = 1_000

# Events are stamped with the receive time of their batch, which is taken a moment before its id is.
_EARLY_MS: Final = 2_000

# Records of one partition that are looked through for the events of one batch. They lie at its receive time; behind it come those
# that a processor published later or again.
MAX_LOOKED_THROUGH: Final = 50_000


@dataclass(slots=True)
class Evidence:
    """One event that an alert names.

    Attributes:
        raw: found; expired (Kafka has deleted it); absent (the topic does not reach so far); another (another batch lies there);
            unreadable.
        event: found; expired; unpublished (the topic still holds events of its time, and not this one).
        unit: bytes as they came over the network.
        record: the event.
        batch: labels of the sender, receive time.
    """

    event_id: str
    dataset: str
    topic: str = ""
    partition: int = -1
    offset: int = -1
    raw: str = "absent"
    event: str = "unpublished"
    unit: bytes | None = None
    record: Record | None = None
    batch: Record = field(default_factory=dict)

    @property
    def complete(self) -> bool:
        """Whether the unit and the event are there."""
        return self.raw == self.event == "found"

    def to_record(self) -> Record:
        """For JSON; a unit that is text as `text`, another as `base64`."""
        raw: Record = {"state": self.raw, "topic": self.topic, "partition": self.partition, "offset": self.offset, **self.batch}
        if self.unit is not None:
            raw |= {
                "unit": parse_event_id(self.event_id)[1],
                "bytes": len(self.unit),
                "sha256": hashlib.sha256(self.unit).hexdigest(),
            }
            try:
                raw["text"] = self.unit.decode("utf-8")
            except UnicodeDecodeError:
                raw["base64"] = b64encode(self.unit).decode()
        event: Record = {"state": self.event}
        if self.record is not None:
            event["record"] = {name: value for name, value in self.record.items() if value not in (None, [], {})}
        return {"event_id": self.event_id, "dataset": self.dataset, "raw": raw, "event": event}


def batch_time_us(event_id: str) -> int:
    """When the batch of an event was begun, microseconds UTC, by its id. Raises ValueError for what is no event id."""
    return int(parse_event_id(event_id)[0][:12], 16) * 1000


def find_alerts(settings: ServiceSettings, alert_id: str, since_us: int) -> list[Record]:
    """The alerts whose id begins so, each as last told.

    Raises:
        TopicsUnavailable: the alerts cannot be read.
    """
    decode = Decoder()
    wanted = alert_id.encode()
    found: dict[str, Record] = {}
    for message in read_topic(settings, TopicNames(settings.topic_prefix)["alerts"], max(1, since_us // 1000)):
        if not (message.key() or b"").startswith(wanted):
            continue
        try:
            name, record = decode.named(message.value(), message.headers())
        except WireFormatError:
            continue
        known = found.get(record.get("alert_id", ""))
        if name == "alert" and (known is None or record["revision"] >= known["revision"]):
            found[record["alert_id"]] = record
    return list(found.values())


class EvidenceReader:
    """Fetches raw units and events, one after the other. Use it in a `with` block.

    Args:
        settings: brokers, security, prefix.
    """

    def __init__(self, settings: ServiceSettings) -> None:
        self._names = TopicNames(settings.topic_prefix)
        self._decode = Decoder()
        options = {"group.id": f"{settings.topic_prefix}.tools", "enable.auto.commit": False, "enable.partition.eof": True}
        self._consumer = Consumer({**client_config(settings), **options})

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._consumer.close()

    def fetch(self, alert: Mapping[str, Any], progress: Callable[[str], None] = lambda what: None) -> list[Evidence]:
        """What there is of each event that the alert names, in its order.

        Raises:
            TopicsUnavailable: no broker answers.
        """
        found = [
            Evidence(e["event_id"], e["dataset"], e["raw_topic"], e["raw_partition"], e["raw_offset"]) for e in alert["evidence"]
        ]
        try:
            by_place: defaultdict[tuple[str, int, int], list[Evidence]] = defaultdict(list)
            for one in found:
                by_place[one.topic, one.partition, one.offset].append(one)
            for place, units in by_place.items():
                progress(f"raw record {place[0]} {place[1]}/{place[2]}")
                self._raw(place, units)
            by_batch: defaultdict[tuple[str, str], list[Evidence]] = defaultdict(list)
            for one in found:
                by_batch[one.dataset, parse_event_id(one.event_id)[0]].append(one)
            for (dataset, batch), events in by_batch.items():
                progress(f"events of batch {batch} in {dataset}")
                self._events(dataset, events)
        except KafkaException as error:
            raise TopicsUnavailable(str(error.args[0].str() if error.args else error)) from error
        return found

    def find_event(self, event_id: str, datasets: Iterable[str] = DATASETS) -> tuple[str, Record] | None:
        """Dataset and record of an event by its id alone; None where no event topic has it.

        Raises:
            TopicsUnavailable: no broker answers.
            ValueError: it is no event id.
        """
        try:
            for dataset in datasets:
                wanted = Evidence(event_id, dataset)
                self._events(dataset, [wanted])
                if wanted.record is not None:
                    return dataset, wanted.record
        except KafkaException as error:
            raise TopicsUnavailable(str(error.args[0].str() if error.args else error)) from error
        return None

    def _raw(self, place: tuple[str, int, int], units: list[Evidence]) -> None:
        topic, partition, offset = place
        state, batch = self._batch(topic, partition, offset)
        for one in units:
            one.raw = state
            if batch is None:
                continue
            batch_id, unit, _ = parse_event_id(one.event_id)
            if batch.batch_id.hex() != batch_id:
                one.raw = "another"
                continue
            numbers = {batch.position(index): index for index in range(len(batch.units))}
            if unit not in numbers:
                one.raw = "another"
                continue
            one.raw, one.unit = "found", batch.units[numbers[unit]]
            one.batch = {
                "received_at": batch.received_at,
                **{
                    name: value
                    for name in (
                        "source_ip",
                        "source_port",
                        "source_name",
                        "transport",
                        "listener_port",
                        "receiver",
                        "site",
                        "tenant",
                    )
                    if (value := getattr(batch, name))
                },
            }

    def _batch(self, topic: str, partition: int, offset: int) -> tuple[str, RawBatch | None]:
        known = self._consumer.list_topics(topic, _SECONDS).topics[topic]
        if known.error is not None or partition not in known.partitions:
            return "absent", None
        low, high = watermarks(self._consumer, TopicPartition(topic, partition), _SECONDS)
        if not low <= offset < high:
            return ("expired" if offset < low else "absent"), None
        for message in self._read({(topic, partition): (offset, offset + 1)}):
            if message.offset() != offset:
                break
            try:
                name, record = self._decode.named(message.value(), message.headers())
                return ("unreadable", None) if name != "raw-batch" else ("found", RawBatch.from_record(record))
            except (WireFormatError, TypeError, KeyError):
                return "unreadable", None
        return "expired", None

    def _events(self, dataset: str, wanted: list[Evidence]) -> None:
        """Look for the events of one batch in their topic."""
        topic = self._names[f"events.{dataset}"] if dataset in DATASETS else ""
        known = self._consumer.list_topics(topic, _SECONDS).topics[topic] if topic else None
        if known is None or known.error is not None:
            return
        batch = parse_event_id(wanted[0].event_id)[0]
        times = [batch_time_us(wanted[0].event_id), *(one.batch["received_at"] for one in wanted if one.batch)]
        start_ms = max(0, min(times) // 1000 - _EARLY_MS)
        starts = offsets_for_times(self._consumer, [TopicPartition(topic, p, start_ms) for p in sorted(known.partitions)], _SECONDS)
        ranges: dict[tuple[str, int], tuple[int, int]] = {}
        expired = False
        for start in starts:
            low, high = watermarks(self._consumer, TopicPartition(topic, start.partition), _SECONDS)
            # Where the topic begins only at that time or later, what came before it has been deleted.
            expired = expired or (low > 0 and (low == high or 0 <= start.offset <= low))
            if 0 <= start.offset < high:
                ranges[topic, start.partition] = (start.offset, min(high, start.offset + MAX_LOOKED_THROUGH))
        left = {one.event_id: one for one in wanted}
        needle = batch.encode()
        for message in self._read(ranges):
            # Decoding every event on the way would take long; the id stands in the bytes as it is.
            if needle not in (message.value() or b""):
                continue
            try:
                _, record = self._decode.named(message.value(), message.headers())
            except WireFormatError:
                continue
            one = left.pop(record.get("event_id", ""), None)
            if one is not None:
                one.event, one.record = "found", record
            if not left:
                break
        for one in left.values():
            one.event = "expired" if expired else "unpublished"

    def _read(self, ranges: dict[tuple[str, int], tuple[int, int]]) -> Iterator[Message]:
        """The records of some ranges of offsets, end excluded."""
        if not ranges:
            return
        self._consumer.assign([TopicPartition(*key, start) for key, (start, _) in ranges.items()])
        left = set(ranges)
        heard = time.monotonic()
        while left:
            messages = self._consumer.consume(_READ if len(ranges) > 1 else 1, 0.1)
            if messages:
                heard = time.monotonic()
            elif time.monotonic() - heard > _SECONDS:
                raise TopicsUnavailable(f"{next(iter(left))[0]}: nothing came for {_SECONDS:.0f} s, and it was not at its end")
            for message in messages:
                key = (str(message.topic()), int(message.partition() or 0))
                if (error := message.error()) is not None:
                    if error.code() != KafkaError._PARTITION_EOF:
                        raise TopicsUnavailable(f"{key[0]}: {error}")
                    left.discard(key)
                    continue
                if key in left and (message.offset() or 0) < ranges[key][1]:
                    yield message
                if (message.offset() or 0) >= ranges[key][1] - 1:
                    left.discard(key)
