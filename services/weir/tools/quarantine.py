"""Batches of unknown senders, from quarantine to the raw topics they were meant for.

A released batch keeps its id, so what is released twice is told apart by event id. So that it seldom is, each release leaves a
mark behind: a record without a value under the source's address, whose header says up to which offset its batches have gone.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network, ip_address

from confluent_kafka import Message

from weir.bus.codec import Decoder, Encoder, WireFormatError
from weir.bus.config import DeliveryFailed
from weir.bus.producer import Delivery, DeliveryProducer
from weir.model.batch import RawBatch
from weir.model.sources import Catalogue
from weir.model.topics import TopicNames
from weir.ops.settings import ServiceSettings
from weir.receivers.publishing.batching import content_hash
from weir.receivers.publishing.publisher import TOPIC_HEADER
from weir.tools.ledger import read_topic

__all__ = ["RELEASED_HEADER", "Released", "release"]

RELEASED_HEADER = "weir-released"
"""Header of a mark: offset of the last batch of its source that has been released from this partition."""

_RAW = ("raw.syslog", "raw.beats", "raw.netflow")
_FLUSH = 60.0


@dataclass(slots=True)
class Released:
    """What was released: batches and units by topic, batches released before, and why others were left."""

    batches: dict[str, int] = field(default_factory=dict)
    units: dict[str, int] = field(default_factory=dict)
    before: int = 0
    left: dict[str, int] = field(default_factory=dict)

    def leave(self, reason: str) -> None:
        """One more batch that cannot be released."""
        self.left[reason] = self.left.get(reason, 0) + 1


def release(
    settings: ServiceSettings,
    network: IPv4Network | IPv6Network,
    *,
    catalogue: Catalogue | None = None,
    again: bool = False,
    progress: Callable[[int, int], None] = lambda done, of: None,
) -> Released:
    """Publish the quarantined batches of these senders to the topics they were meant for.

    Args:
        settings: brokers, security, prefix.
        network: whose batches.
        catalogue: labels the batches as if their senders had been known when they were received, units and ids untouched; None
            leaves every byte as it is.
        again: release also what was released before.
        progress: called with the number of batches done and of all.

    Raises:
        TopicsUnavailable: quarantine cannot be read.
        DeliveryFailed: Kafka did not take all of it; what it took is not marked, and will be repeated under the same ids.
    """
    names = TopicNames(settings.topic_prefix)
    quarantine = names["raw.quarantine"]
    wanted, marks = _wanted(settings, quarantine, network)
    found = Released()
    due = {place: source for place, source in wanted.items() if again or place[1] > marks.get((place[0], source), -1)}
    found.before = len(wanted) - len(due)
    if not due:
        return found
    targets = {names[short]: short for short in _RAW}
    producer = DeliveryProducer(settings)
    failures: list[DeliveryFailed] = []
    delivery = Delivery(lambda error: None if error is None else failures.append(error))
    decode, encode = Decoder(), Encoder("raw-batch")
    done = 0
    last: dict[tuple[int, str], int] = defaultdict(lambda: -1)
    try:
        for message in read_topic(settings, quarantine):
            partition, offset = message.partition(), message.offset()
            if (source := due.get((partition, offset))) is None:
                continue
            done += 1
            progress(done, len(due))
            headers: list[tuple[str, bytes]] = [(name, value or b"") for name, value in message.headers() or []]
            target = dict(headers).get(TOPIC_HEADER, b"").decode("utf-8", "replace")
            if target not in targets:
                found.leave(f"meant for {target!r}, which is no raw topic" if target else "names no topic it was meant for")
                continue
            value = message.value()
            try:
                batch = RawBatch.from_record(decode(value, headers))
            except (WireFormatError, TypeError, KeyError) as error:
                found.leave(f"no raw batch: {error}")
                continue
            if catalogue is not None and _label(batch, catalogue):
                value = encode(batch.to_record())
            headers = [header for header in headers if header[0] != TOPIC_HEADER]
            producer.produce(target, value, delivery=delivery, key=message.key(), headers=headers)
            short = targets[target]
            found.batches[short] = found.batches.get(short, 0) + 1
            found.units[short] = found.units.get(short, 0) + len(batch.units)
            last[partition, source] = max(last[partition, source], offset)
        delivery.seal()
        _flush(producer, failures)
        marked = Delivery(lambda error: None if error is None else failures.append(error))
        for (partition, source), offset in last.items():
            header = [(RELEASED_HEADER, str(offset).encode())]
            producer.produce(quarantine, None, delivery=marked, key=source, partition=partition, headers=header)
        marked.seal()
        _flush(producer, failures)
    finally:
        producer.close(0.0)
    return found


def _flush(producer: DeliveryProducer, failures: list[DeliveryFailed]) -> None:
    left = producer.flush(_FLUSH)
    if failures:
        raise failures[0]
    if left:
        raise DeliveryFailed(f"Kafka has not taken {left} records within {_FLUSH:.0f} s")


def _source_of(message: Message) -> str:
    # A hot source continues under further keys: address#1, address#2 …
    return (message.key() or b"").decode("utf-8", "replace").partition("#")[0]


def _wanted(
    settings: ServiceSettings, topic: str, network: IPv4Network | IPv6Network
) -> tuple[dict[tuple[int, int], str], dict[tuple[int, str], int]]:
    """Sources of the batches of these senders by (partition, offset); how far each was released by (partition, source)."""
    wanted: dict[tuple[int, int], str] = {}
    marks: dict[tuple[int, str], int] = {}
    for message in read_topic(settings, topic):
        source = _source_of(message)
        try:
            address = ip_address(source)
        except ValueError:
            continue
        if address not in network:
            continue
        if message.value() is not None:
            wanted[message.partition(), message.offset()] = source
            continue
        mark = dict(message.headers() or []).get(RELEASED_HEADER) or b""
        if mark.isdigit():
            at = (message.partition(), source)
            marks[at] = max(marks.get(at, -1), int(mark))
    return wanted, marks


def _label(batch: RawBatch, catalogue: Catalogue) -> bool:
    """Put what is known of the sender into its batch; whether anything is."""
    known = catalogue.find(batch.source_ip, batch.transport, batch.listener_port, batch.tls_subject)
    if known is None:
        return False
    batch.source_name, batch.tenant, batch.source_vendor = known.name, known.tenant, known.vendor
    batch.time_zone, batch.site = known.time_zone, known.site or batch.site
    batch.content_hashes = b"".join(map(content_hash, batch.units)) if known.copies else b""
    return True
