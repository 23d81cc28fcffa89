"""`weir tap`: what runs through a topic, or comes from a source, as it comes; raw units beside what they decode to.

Reads without a consumer group and commits nothing, so nobody else's reading is touched. Units are decoded by the very functions the
processors use. Rendering is `tap_view`'s; here is what is read, decoded, filtered and counted.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Any, Final, NamedTuple

from confluent_kafka import Consumer, KafkaException, Message, TopicPartition

from weir.bus.codec import Decoder, WireFormatError
from weir.bus.config import client_config
from weir.bus.deadletter import reason_of
from weir.bus.offsets import offsets_for_times, watermarks
from weir.model.batch import RawBatch
from weir.model.ids import parse_event_id
from weir.model.topics import TopicNames, declarations
from weir.ops.settings import ServiceSettings
from weir.processors import beats, netflow
from weir.processors.outcome import Outcome, RawCoordinates
from weir.processors.syslog import make_process

__all__ = ["Condition", "Shown", "Tap", "TapError", "Totals", "What", "parse_since", "resolve"]

_RAW: Final = "raw."
_POLL_S: Final = 0.2
_PER_POLL: Final = 50
_LAG: Final = 200
"""Records behind the end at which a live view skips ahead: with some hundreds of units each, minutes of a terminal's work."""

_KEPT: Final = 5
"""Records before the end that a skip leaves."""

_DURATION: Final = re.compile(r"-?(\d+(?:\.\d+)?)([smhd])")
_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}

Process = Callable[[RawBatch, RawCoordinates], Outcome]
Network = IPv4Network | IPv6Network


class TapError(Exception):
    """It cannot be shown; the message says why, and what would do."""


class Condition(NamedTuple):
    """One `--where`: a field of the decoded record or of its batch, and what it must or must not be.

    `*` and `?` in the pattern match as in file names.
    """

    name: str
    negated: bool
    pattern: str

    @classmethod
    def parse(cls, text: str) -> Condition:
        """`field=pattern` or `field!=pattern`. Raises TapError for anything else."""
        found = re.fullmatch(r"(\w+)(!?)=(.*)", text, re.DOTALL)
        if found is None:
            raise TapError(f"--where {text}: write field=value or field!=value, such as event_action=delete; * matches anything")
        return cls(found[1], bool(found[2]), found[3])

    def holds(self, record: Mapping[str, Any]) -> bool:
        """Whether a record meets it. A field that is not set is the empty text; of a list one value is enough."""
        value = record.get(self.name)
        values = value if isinstance(value, list) else [value]
        return any(fnmatchcase(_plain(one), self.pattern) for one in values or [None]) is not self.negated


def _plain(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bytes):
        return value.hex()
    return str(value).lower() if isinstance(value, bool) else str(value)


class What(NamedTuple):
    """Which topics are read, by short name, and whose units: an address, a network, a name, or None for everybody's."""

    topics: list[str]
    address: Network | None = None
    name: str | None = None


def resolve(what: str, names: TopicNames) -> What:
    """What an operator means: the short or full name of a topic, else an address, a network, or the name of a source."""
    known = declarations()
    if what in known:
        return What([what])
    try:
        return What([names.short(what)])
    except KeyError:
        pass
    if re.match(r"(raw|events|state)\.", what):
        raise TapError(f"there is no topic {what}; there are {', '.join(known)}")
    raw = [name for name in known if name.startswith(_RAW) and not name.endswith(".dlq")]
    try:
        return What(raw, address=ip_network(what, strict=False))
    except ValueError:
        return What(raw, name=what.lower())


def parse_since(text: str, now_us: int, option: str = "--from") -> int:
    """Microseconds UTC of "-5m" (s, m, h, d back from now) or of an ISO 8601 time, UTC where it names no zone.

    Raises TapError, naming the option.
    """
    from datetime import UTC, datetime  # noqa: PLC0415

    if found := _DURATION.fullmatch(text):
        return now_us - int(float(found[1]) * _UNITS[found[2]] * 1_000_000)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise TapError(f"{option} {text}: write -30s, -5m, -2h, -1d or a time such as 2026-03-01T12:00:00") from None
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1_000_000)


@dataclass(frozen=True, slots=True)
class Shown:
    """One unit, or one record of a topic that holds no units.

    `raw` are its bytes (None where there is nothing but the record), `records` what it decodes to, each with the name of its
    dataset; `dead` says why it does not. `labels` are what the batch says of its sender.
    """

    time_us: int
    topic: str
    partition: int
    offset: int
    unit: int | None
    raw: bytes | None
    records: list[tuple[str, dict[str, Any]]]
    dead: str | None = None
    original_length: int = 0
    labels: dict[str, Any] = field(default_factory=dict)

    @property
    def state(self) -> str:
        """ "decoded", "dead" or "empty"."""
        return "dead" if self.dead is not None else "decoded" if self.records else "empty"


@dataclass(slots=True)
class Totals:
    """What ran past. `skipped` counts Kafka records a live view left out to keep up."""

    records: int = 0
    units: int = 0
    shown: int = 0
    events: int = 0
    dead: int = 0
    empty: int = 0
    bytes: int = 0
    skipped: int = 0
    seconds: float = 0.0


class Tap:
    """One reading.

    Args:
        settings: brokers, prefix.
        what: as `resolve` gives it.
        conditions: all must hold for a unit to be shown; a unit of several events is shown with those that meet them.
        since_us: where to begin, microseconds UTC; None for now.
        follow: go on at the end; else stop where the topics ended when it was reached.
        count: stop after so many have been shown; None for no end.
    """

    def __init__(
        self,
        settings: ServiceSettings,
        what: What,
        *,
        conditions: list[Condition] | None = None,
        since_us: int | None = None,
        follow: bool = True,
        count: int | None = None,
    ) -> None:
        self._settings, self._what, self._conditions = settings, what, conditions or []
        self._since_us, self._follow, self._count = since_us, follow, count
        self._names = TopicNames(settings.topic_prefix)
        self._decode = Decoder()
        syslog = make_process()
        self._processes: dict[str, Process] = {
            "receive.syslog": syslog,
            "receive.beats": beats.process,
            "receive.netflow": netflow.process,
            "raw.syslog": syslog,
            "raw.beats": beats.process,
            "raw.netflow": netflow.process,
        }
        self._live: set[tuple[str, int]] = set()
        self._ends: dict[tuple[str, int], int] = {}
        self.totals = Totals()

    def run(self, show: Callable[[Shown], None], stop: threading.Event, ready: Callable[[], None] = lambda: None) -> Totals:
        """Hand over what there is to see until `stop` is set or the end has come. `ready` is called once reading has begun.

        Raises:
            TapError: a topic does not exist, or the cluster does not answer.
        """
        began = time.monotonic()
        consumer = Consumer(
            {
                **client_config(self._settings),
                "group.id": "weir-tap",  # librdkafka wants one; nothing is committed under it
                "enable.auto.commit": False,
                "auto.offset.reset": "earliest",
            }
        )
        try:
            self._assign(consumer)
            ready()
            while not stop.is_set() and not self._over():
                messages = consumer.consume(_PER_POLL, _POLL_S)
                for message in messages:
                    if message.error() is None:
                        self._take(message, show)
                    if stop.is_set() or self._over():
                        break
                self._keep_up(consumer)
                if not self._follow and self._at_end(consumer):
                    break
        except KafkaException as error:
            raise TapError(f"Kafka at {self._settings.kafka_bootstrap_servers} does not answer: {error.args[0].str()}") from error
        finally:
            self.totals.seconds = time.monotonic() - began
            consumer.close()
        return self.totals

    def _over(self) -> bool:
        return self._count is not None and self.totals.shown >= self._count

    def _assign(self, consumer: Consumer) -> None:
        starts = []
        for name in self._what.topics:
            topic = self._names[name]
            found = consumer.list_topics(topic, 10).topics[topic]
            if found.error is not None:
                if len(self._what.topics) > 1:
                    continue  # of a source: one of the raw topics may not be there
                raise TapError(f"topic {topic} cannot be read: {found.error.str()}; `weir topics list` shows what there is")
            starts += [TopicPartition(topic, number) for number in sorted(found.partitions)]
        if not starts:
            raise TapError(f"there are no raw topics with the prefix {self._settings.topic_prefix}; `weir topics apply` makes them")
        if self._since_us is not None:
            asked = [TopicPartition(start.topic, start.partition, max(0, self._since_us // 1000)) for start in starts]
            starts = offsets_for_times(consumer, asked, 30)
        for start in starts:
            end = watermarks(consumer, TopicPartition(start.topic, start.partition))[1]
            self._ends[start.topic, start.partition] = end
            if self._since_us is None or start.offset < 0:
                start.offset = end
                self._live.add((start.topic, start.partition))
        consumer.assign(starts)

    def _at_end(self, consumer: Consumer) -> bool:
        """Whether everything is read that was there at the start."""
        left = {key for key, end in self._ends.items() if end > 0} - self._live
        if not left:
            return True
        for position in consumer.position([TopicPartition(topic, partition) for topic, partition in left]):
            if position.offset >= self._ends[position.topic, position.partition]:
                self._live.add((position.topic, position.partition))
        return not ({key for key, end in self._ends.items() if end > 0} - self._live)

    def _keep_up(self, consumer: Consumer) -> None:
        """Skip ahead where a live view has fallen behind. What was asked for with a start is read to the end first."""
        if not self._follow:
            return
        for position in consumer.position(consumer.assignment()):
            key = (position.topic, position.partition)
            if position.offset < 0:
                continue
            if position.offset >= self._ends[key]:
                self._live.add(key)
            _, high = consumer.get_watermark_offsets(TopicPartition(*key), timeout=5, cached=True)
            if key in self._live and high - position.offset > _LAG:
                self.totals.skipped += high - _KEPT - position.offset
                consumer.seek(TopicPartition(*key, high - _KEPT))

    def _take(self, message: Message, show: Callable[[Shown], None]) -> None:
        totals = self.totals
        totals.records += 1
        for one in self._units(message):
            totals.units += 1
            totals.bytes += len(one.raw or b"")
            totals.events += len(one.records)
            totals.dead += one.dead is not None
            totals.empty += one.state == "empty"
            chosen = self._chosen(one)
            if chosen is not None:
                totals.shown += 1
                show(chosen)
                if self._over():
                    return

    def _chosen(self, one: Shown) -> Shown | None:
        """The unit with the events that meet all conditions; None where none does."""
        if not self._conditions:
            return one
        about = {**one.labels, "state": one.state, "reason": one.dead}
        if not one.records:
            return one if all(condition.holds(about) for condition in self._conditions) else None
        records = [
            (name, record)
            for name, record in one.records
            if all(condition.holds({**about, "dataset": name, **record}) for condition in self._conditions)
        ]
        if not records:
            return None
        return Shown(
            one.time_us, one.topic, one.partition, one.offset, one.unit, one.raw, records, one.dead, one.original_length, one.labels
        )

    def _units(self, message: Message) -> Iterator[Shown]:
        topic, partition, offset = str(message.topic()), int(message.partition() or 0), int(message.offset() or 0)
        short = self._names.short(topic)
        stamped = message.timestamp()[1] * 1000
        headers: Any = message.headers()
        value: Any = message.value()
        reason = reason_of(headers) if short.endswith(".dlq") else None
        try:
            name, record = self._decode.named(value, headers)
        except WireFormatError as error:
            if not self._foreign():
                yield Shown(stamped, short, partition, offset, None, value or b"", [], reason or str(error))
            return
        if name != "raw-batch":
            yield Shown(stamped, short, partition, offset, None, None, [(name, record)], reason)
            return
        batch = RawBatch.from_record(record)
        if self._wanted(batch):
            yield from self._of_batch(batch, RawCoordinates(short, partition, offset), reason)

    def _foreign(self) -> bool:
        """Whether only one sender's units are wanted: then what nobody can tell the sender of is not."""
        return self._what.address is not None or self._what.name is not None

    def _wanted(self, batch: RawBatch) -> bool:
        if self._what.name is not None:
            return (batch.source_name or "").lower() == self._what.name
        if self._what.address is None:
            return True
        try:
            return ip_address(batch.source_ip) in self._what.address
        except ValueError:
            return False

    def _of_batch(self, batch: RawBatch, where: RawCoordinates, reason: str | None) -> Iterator[Shown]:
        events: dict[int, list[tuple[str, dict[str, Any]]]] = {}
        dead: dict[int, str] = {}
        process = self._processes.get(where.topic.removesuffix(".dlq")) or self._processes.get(batch.receiver)
        if process is None:
            reason = reason or f"no decoder for what {batch.receiver} received"
        else:
            outcome = process(batch, where)
            for dataset, records in outcome.events.items():
                for record in records:
                    events.setdefault(parse_event_id(record["event_id"])[1], []).append((dataset, record))
            dead = {one.unit_index: one.reason for one in outcome.dead}
        cut = {one.position: one.original_length for one in batch.truncated}
        labels = {
            name: value
            for name in ("source_ip", "source_port", "source_name", "source_vendor", "transport", "site", "tenant", "tls_subject")
            if (value := getattr(batch, name))
        }
        for index, unit in enumerate(batch.units):
            number = batch.position(index)
            yield Shown(
                batch.received_at,
                where.topic,
                where.partition,
                where.offset,
                number,
                unit,
                events.get(number, []),
                # In a dead-letter topic the reason why it is there, also where a later decoder can read it.
                reason or dead.get(index),
                cut.get(number, 0),
                labels,
            )
