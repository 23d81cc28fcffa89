"""Assets from the compacted topic state.assets: read to its end at start, followed from then on.

A value is a JSON object with the keys of a row of an assets' file; the record's key is whatever its writer tells its entries apart
by, and a record of that key without a value takes the entry back.
"""

from __future__ import annotations

import threading
import time
from typing import Final

import orjson
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Message, TopicPartition
from structlog.stdlib import BoundLogger

from weir.bus.config import DeliveryFailed, client_config
from weir.enrich.assets import ASSET_KEYS, Subject, asset_of
from weir.enrich.rows import row_of
from weir.model.topics import TopicNames
from weir.ops.settings import ServiceSettings

__all__ = ["MAX_ENTRIES", "AssetsTopic"]

MAX_ENTRIES: Final = 500_000
_START_SECONDS: Final = 30.0
_BATCH: Final = 1_000
_MAX_VALUE: Final = 10_000
_RETRY_SECONDS: Final = 1.0


class AssetsTopic:
    """What the topic holds.

    Args:
        settings: brokers, instance, prefix.
        log: where refused records are told of.
    """

    def __init__(self, settings: ServiceSettings, log: BoundLogger) -> None:
        self._settings = settings
        self._topic = TopicNames(settings.topic_prefix)["state.assets"]
        self._log = log
        self._lock = threading.Lock()
        self._entries: dict[bytes, Subject] = {}
        self._unread: set[int] = set()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self.refused = 0
        self.changes = 0

    def subjects(self) -> list[Subject]:
        """All entries, in the order in which they came."""
        with self._lock:
            return list(self._entries.values())

    def start(self) -> None:
        """Read to the end as of now, then go on in a thread.

        Raises:
            DeliveryFailed: no such topic, or Kafka did not answer in time.
        """
        consumer = self._consumer()
        try:
            self._assign(consumer)
            self._read_to_the_end(consumer, time.monotonic() + _START_SECONDS)
        except BaseException:
            consumer.close()
            raise
        self._thread = threading.Thread(target=self._follow, args=(consumer,), name="weir-assets", daemon=True)
        self._thread.start()

    def _read_to_the_end(self, consumer: Consumer, deadline: float) -> None:
        while self._unread and not self._stop.is_set():
            if time.monotonic() > deadline:
                raise DeliveryFailed(f"{self._topic}: could not be read to its end within {_START_SECONDS:.0f} s")
            self._take(consumer.consume(_BATCH, 0.2))

    def close(self) -> None:
        """Follow no more."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(10.0)

    def _consumer(self) -> Consumer:
        return Consumer(
            {
                **client_config(self._settings),
                # No group is joined and nothing committed; librdkafka wants a name all the same.
                "group.id": f"weir-assets-{self._settings.instance}",
                "enable.auto.commit": False,
                "enable.partition.eof": True,
                "auto.offset.reset": "earliest",
            }
        )

    def _assign(self, consumer: Consumer) -> None:
        try:
            found = consumer.list_topics(self._topic, 10.0).topics[self._topic]
        except KafkaException as error:
            raise DeliveryFailed.of(self._topic, error) from error
        if found.error is not None or not found.partitions:
            raise DeliveryFailed(f"{self._topic}: there is no such topic; `weir topics apply` creates it")
        self._unread = set(found.partitions)
        consumer.assign([TopicPartition(self._topic, number, OFFSET_BEGINNING) for number in found.partitions])

    def _follow(self, consumer: Consumer) -> None:
        try:
            while not self._stop.is_set():
                try:
                    self._take(consumer.consume(_BATCH, 0.5))
                except Exception:
                    self._log.exception("following the assets' topic failed; going on")
                    self._stop.wait(_RETRY_SECONDS)
        finally:
            consumer.close()

    def _take(self, messages: list[Message]) -> None:
        for message in messages:
            error = message.error()
            if error is None:
                self._take_one(message.key() or b"", message.value(), f"{self._topic}/{message.partition()}@{message.offset()}")
            elif error.code() == KafkaError._PARTITION_EOF:
                self._unread.discard(message.partition())

    def _take_one(self, key: bytes, value: bytes | None, place: str) -> None:
        mistakes: list[str] = []
        subject = None if value is None else _subject(value, place, mistakes)
        with self._lock:
            # A changed entry goes to the end: of two that speak of the same, the later one holds.
            known = self._entries.pop(key, None)
            if subject is not None:
                if len(self._entries) >= MAX_ENTRIES:
                    mistakes.append(f"{place}: more than {MAX_ENTRIES:,} entries")
                else:
                    self._entries[key] = subject
            elif value is not None and known is not None:
                self._entries[key] = known  # a broken record does not take back what a good one said
            self.changes += 1
        if mistakes:
            self.refused += 1
            self._log.warning("a record of the assets' topic was not taken", mistakes=mistakes)


def _subject(value: bytes, place: str, mistakes: list[str]) -> Subject | None:
    if len(value) > _MAX_VALUE:
        mistakes.append(f"{place}: {len(value)} bytes are more than {_MAX_VALUE}")
        return None
    try:
        entry = orjson.loads(value)
    except orjson.JSONDecodeError as error:
        mistakes.append(f"{place}: not JSON: {error}")
        return None
    if not isinstance(entry, dict):
        mistakes.append(f"{place}: must be a JSON object")
        return None
    row = row_of(place, entry, ASSET_KEYS, mistakes)
    subject = None if row is None else asset_of(row, mistakes)
    # Without its place it replaces what a file says of the same, instead of being a mistake.
    return None if subject is None else subject._replace(place="")
