"""The compacted topic of what exporters announce: what one receiver of flows has learned, all of them know.

Over UDP an exporter repeats its templates only every few minutes, and there is no way to ask for them. A receiver therefore reads
this topic to its end before it opens its sockets, and follows it from then on. Besides templates it holds sampling values, names
of interfaces and applications, and when an exporter last began anew: templates from before that are void.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Message, TopicPartition

from weir.bus.codec import Decoder, Encoder, WireFormatError
from weir.bus.config import client_config
from weir.ops.logging import get
from weir.ops.settings import ServiceSettings
from weir.protocols.netflow import NameRecord, SamplingRecord, TemplateRecord
from weir.receivers.publishing.memory import Seldom

__all__ = [
    "AT_HEADER",
    "ORIGIN_HEADER",
    "FlowStateCodec",
    "FlowStateFollower",
    "Item",
    "RunRecord",
    "StateKey",
    "StateRecord",
    "state_key",
]

ORIGIN_HEADER = "weir-origin"
"""Which receiver, at which start, wrote a record: its own records must not come back to it after it has learned newer ones."""

AT_HEADER = "weir-at"
"""Until when the writer of a tombstone had heard of it, microseconds UTC in decimal: it must not undo what was announced since."""

_BATCH = 500
_ANSWER_SECONDS = 2.0
_RETRY_SECONDS = 1.0


class RunRecord(NamedTuple):
    """One run of an exporter's numbering.

    `version` is 5, 7, 9 or 10, 0 for sFlow; `epoch` as in `weir.model.ledger.SequenceRange`. Templates learned before `began_at`
    (microseconds UTC) are void; it is 0 where no restart was seen.
    """

    version: int
    domain: int
    epoch: int
    began_at: int


Item = TemplateRecord | SamplingRecord | NameRecord | RunRecord


class StateKey(NamedTuple):
    """What a record is about, within its exporter: `kind` is "template", "sampling", "run" or the kind of a name."""

    version: int
    domain: int
    kind: str
    number: int | str

    def text(self, exporter: str) -> str:
        """The Kafka key."""
        return f"{exporter}|{self.version}|{self.domain}|{self.kind}|{self.number}"

    @classmethod
    def parse(cls, text: str) -> tuple[str, StateKey]:
        """Exporter and key. Raises ValueError for what is no such text."""
        exporter, version, domain, kind, number = text.split("|")
        plain = kind in _NUMBERED
        return exporter, cls(int(version), int(domain), kind, int(number) if plain else number)


_NUMBERED = {"template", "sampling", "run"}


class StateRecord(NamedTuple):
    """One record of the topic. `item` is None where it is a tombstone: withdrawn or expired. `learned_at` is microseconds UTC."""

    exporter: str
    key: StateKey
    learned_at: int
    item: Item | None


def state_key(item: Item) -> StateKey:
    """The key under which something is kept."""
    if isinstance(item, NameRecord):
        return StateKey(item.version, item.domain, item.kind, item.key)
    if isinstance(item, RunRecord):
        return StateKey(item.version, item.domain, "run", 0)
    return StateKey(item.version, item.domain, "template" if isinstance(item, TemplateRecord) else "sampling", item[2])


class FlowStateCodec:
    """Records of the topic, both ways."""

    def __init__(self, site: str) -> None:
        self._site = site
        self._encode = Encoder("flow-state")
        self._decode = Decoder()

    def encode(self, exporter: str, learned_at: int, item: Item) -> bytes:
        """The value of a record."""
        record: dict[str, Any] = {"exporter_ip": exporter, "learned_at": learned_at, "site": self._site}
        place = {"version": item.version, "observation_domain": item.domain}
        if isinstance(item, SamplingRecord):
            record["sampling"] = {**place, "selector_id": item.selector_id, "interval": item.interval}
        elif isinstance(item, NameRecord):
            record["name"] = {**place, "kind": item.kind, "key": item.key, "name": item.name}
        elif isinstance(item, RunRecord):
            record["run"] = {**place, "epoch": item.epoch, "began_at": item.began_at}
        else:
            record["template"] = {**place, "template_id": item.template_id, "options": item.is_options, "record": item.record}
        return self._encode(record)

    def decode(self, key: bytes | None, value: bytes | None, at: int | None = None) -> StateRecord:
        """The record; `at` is what AT_HEADER says with a tombstone, now if unknown.

        Raises ValueError where it is no such record.
        """
        exporter, place = StateKey.parse((key or b"").decode())
        if value is None:
            return StateRecord(exporter, place, time.time_ns() // 1000 if at is None else at, None)
        record = self._decode(value)
        item: Item
        if found := record.get("template"):
            item = TemplateRecord(
                found["version"], found["observation_domain"], found["template_id"], found["options"], found["record"]
            )
        elif found := record.get("sampling"):
            item = SamplingRecord(found["version"], found["observation_domain"], found["selector_id"], found["interval"])
        elif found := record.get("name"):
            item = NameRecord(found["version"], found["observation_domain"], found["kind"], found["key"], found["name"])
        elif found := record.get("run"):
            item = RunRecord(found["version"], found["observation_domain"], found["epoch"], found["began_at"])
        else:
            raise WireFormatError("a flow-state record of nothing known")
        return StateRecord(exporter, place, record["learned_at"], item)


class FlowStateFollower:
    """Reads the state topic in a thread, from its beginning and for ever.

    Args:
        settings: brokers, site, instance.
        topic: full name.
        origin: the value of ORIGIN_HEADER in this receiver's own records.
        take: called with records in the order of the topic, in the thread.
        loaded: called in the thread, once, when the end as of then has been read.
    """

    def __init__(
        self,
        settings: ServiceSettings,
        topic: str,
        origin: str,
        take: Callable[[list[StateRecord]], None],
        loaded: Callable[[], None],
    ) -> None:
        self._settings = settings
        self._topic = topic
        self._origin = origin.encode()
        self._take = take
        self._loaded = loaded
        self._codec = FlowStateCodec(settings.site)
        self._closing = threading.Event()
        self._log = get("weir.receive.netflow")
        self._thread = threading.Thread(target=self._run, name="flow-state", daemon=True)
        self._unread: set[int] | None = None
        self._told = False
        self._say = Seldom(10.0, time.monotonic)

    def start(self) -> None:
        """Begin to read."""
        self._thread.start()

    def stop(self) -> None:
        """End; blocks for a moment."""
        self._closing.set()
        self._thread.join(10.0)

    def _run(self) -> None:
        while not self._closing.is_set():
            try:
                self._follow()
            except Exception:
                # Without this thread the receiver would go on, healthy by its looks, and learn nothing from the others.
                self._log.exception("following the state topic failed; beginning anew")
                self._closing.wait(_RETRY_SECONDS)

    def _follow(self) -> None:
        consumer = Consumer(
            {
                **client_config(self._settings),
                # No group is joined and nothing committed; librdkafka wants a name all the same.
                "group.id": f"weir-flow-state-{self._settings.instance}",
                "enable.auto.commit": False,
                "enable.partition.eof": True,
                "auto.offset.reset": "earliest",
            }
        )
        try:
            while not self._closing.is_set() and not self._assign(consumer):
                self._closing.wait(_RETRY_SECONDS)
            while not self._closing.is_set():
                self._handle(consumer.consume(_BATCH, 0.2))
        finally:
            consumer.close()

    def _assign(self, consumer: Consumer) -> bool:
        try:
            found = consumer.list_topics(self._topic, _ANSWER_SECONDS).topics[self._topic]
        except KafkaException:
            return False
        if found.error is not None or not found.partitions:
            return False
        self._unread = set(found.partitions)
        consumer.assign([TopicPartition(self._topic, number, OFFSET_BEGINNING) for number in found.partitions])
        return True

    def _handle(self, messages: list[Message]) -> None:
        records: list[StateRecord] = []
        for message in messages:
            error = message.error()
            if error is None:
                if (record := self._read(message)) is not None:
                    records.append(record)
            elif error.code() == KafkaError._PARTITION_EOF and self._unread is not None:
                self._unread.discard(message.partition())
        if records:
            self._take(records)
        if not self._told and self._unread is not None and not self._unread:
            self._told = True
            self._loaded()

    def _read(self, message: Message) -> StateRecord | None:
        headers = dict(message.headers() or [])
        if headers.get(ORIGIN_HEADER) == self._origin:
            return None
        try:
            at = headers.get(AT_HEADER)
            return self._codec.decode(message.key(), message.value(), None if at is None else int(at))
        except ValueError as error:
            if self._say("unreadable"):
                self._log.warning("a record of the state topic cannot be read", offset=message.offset(), error=str(error))
            return None
