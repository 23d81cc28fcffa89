"""Marked events: one into each receiver that listens, followed through every stage to the sinks' own account of it.

The raw record that holds the marked bytes gives the batch id, and with it the ids of all that later stages make of it. Sinks
say in the ledger which offsets they have delivered, so that no right to read at the destination is needed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from confluent_kafka import Consumer, KafkaException, Message, TopicPartition

from weir.bus.codec import Decoder, Encoder, WireFormatError
from weir.bus.config import DeliveryFailed, client_config
from weir.bus.offsets import watermarks
from weir.bus.producer import Delivery, DeliveryProducer
from weir.model.ids import stable_id
from weir.model.topics import DATASETS, TopicNames
from weir.ops.settings import ServiceSettings
from weir.tools.doctor.finding import Finding, failed, good, skipped, warning
from weir.tools.doctor.senders import Marked
from weir.tools.doctor.trails import RAW, Place, Trail, Trails

__all__ = ["follow", "publish_test_alert"]

_AREA = "marked event"


class _Reader:
    """Reads from now on what the stages write, without joining a group or committing."""

    def __init__(self, settings: ServiceSettings, names: TopicNames) -> None:
        wanted = {*RAW, *(f"{raw}.dlq" for raw in RAW[:3]), *(f"events.{name}" for name in DATASETS), "alerts", "ledger"}
        self._short = {names[name]: name for name in sorted(wanted)}
        self._consumer = Consumer(
            {**client_config(settings), "group.id": f"weir-doctor-{settings.instance}", "enable.auto.commit": False}
        )
        here = self._consumer.list_topics(timeout=10).topics
        places = []
        for full in self._short:
            if full not in here:
                continue
            for partition in here[full].partitions:
                _, high = watermarks(self._consumer, TopicPartition(full, partition))
                places.append(TopicPartition(full, partition, high))
        self._consumer.assign(places)
        self.starts = {(one.topic, one.partition): one.offset for one in places if self._short[one.topic] in RAW}

    def poll(self) -> tuple[str, Message] | None:
        message = self._consumer.poll(0.1)
        if message is None or message.error() is not None:
            return None
        return self._short[message.topic()], message

    def close(self) -> None:
        self._consumer.close()


def follow(
    settings: ServiceSettings,
    send: Callable[[], list[Marked]],
    sinks: Mapping[str, set[str]],
    seconds: float,
    told: Callable[[str], None] = lambda _: None,
) -> list[Finding]:
    """Send the marked events and wait for each stage to show them.

    Args:
        settings: brokers and topic prefix.
        send: sends and returns them; called when the reading has begun.
        sinks: short topic names that each configured sink reads, by service name such as "sink.adx".
        seconds: to wait at most.
        told: is given one line of progress at each step.
    """
    names = TopicNames(settings.topic_prefix)
    try:
        reader = _Reader(settings, names)
    except KafkaException as error:
        return [failed(_AREA, "all", f"the topics cannot be read: {error.args[0].str()}", "see what was said of Kafka above")]
    try:
        trails = Trails(send(), sinks, reader.starts, told)
        if not trails.trails:
            return [skipped(_AREA, "all", "no receiver listens on this host")]
        deadline = time.monotonic() + seconds
        decode = Decoder()
        while time.monotonic() < deadline and not trails.ended:
            found = reader.poll()
            if found is None:
                continue
            topic, message = found
            try:
                record = decode(message.value(), message.headers())
            except WireFormatError:
                continue
            place = Place(message.topic(), message.partition(), message.offset())
            trails.note(topic, place, record, message.headers(), time.monotonic())
    finally:
        reader.close()
    return [finding for trail in trails.trails for finding in _findings(trail, seconds)]


def _findings(trail: Trail, seconds: float) -> list[Finding]:
    name = trail.marked.name
    if trail.marked.not_sent:
        return [warning(_AREA, name, f"not sent: {trail.marked.not_sent}", trail.marked.cure)]
    if trail.marked.error:
        return [failed(_AREA, name, f"not accepted: {trail.marked.error}", trail.marked.cure)]
    if not trail.batch:
        cure = "is it Weir that listens there, is its /readyz ready, and do its logs speak of dropped or refused units?"
        return [failed(_AREA, name, f"accepted, but in no raw topic within {seconds:.0f} s", cure)]
    first = f"received as {trail.raw} after {trail.raw_after:.1f} s"
    if trail.quarantined:
        cure = "this host is not in the catalogue of sources (WEIR_SOURCES_FILE); `weir sources release` lets its units go on"
        return [warning(_AREA, name, f"{first}: in quarantine", cure)]
    if trail.dead:
        return [
            failed(
                _AREA,
                name,
                f"{first}, then dead-lettered: {trail.dead}",
                "a defect or a rule of yours: the marked event is well-formed",
            )
        ]
    if trail.event is None:
        kind = next((raw.removeprefix("raw.") for raw in RAW[:3] if raw in trail.raw), "…")
        cure = f"start `weir process {kind}`, or give it time: is it behind? (its /readyz, its consumer group)"
        return [failed(_AREA, name, f"{first}, but no event within {seconds:.0f} s", cure)]
    text = f"{first}, event in {trail.event.topic} after {trail.event_after:.1f} s"
    if trail.delivered:
        text += "".join(f", {sink} delivered it after {after:.1f} s" for sink, after in sorted(trail.delivered.items()))
    findings = [good(_AREA, name, text)]
    for sink, why in sorted(trail.refused.items()):
        findings.append(
            failed(_AREA, f"{name} → {sink}", why, "`weir tap` on the dead-letter topic shows the destination's reason")
        )
    for sink in sorted(trail.waiting):
        service = sink.replace(".", " ")
        cure = f"is `weir {service}` running and ready? It says what it delivered with each commit; --seconds waits longer"
        findings.append(failed(_AREA, f"{name} → {sink}", f"not delivered within {seconds:.0f} s", cure))
    return findings


def publish_test_alert(settings: ServiceSettings, token: str) -> Marked:
    """Put one informational alert, marked as a test, into the alerts topic: this is what crosses the WAN."""
    now = time.time_ns() // 1000
    record = {
        "alert_id": stable_id("weir-doctor", token),
        "state": "new",
        "revision": 1,
        "timestamp": now,
        "alert_created": now,
        "rule_id": "weir-doctor",
        "rule_name": "Weir doctor: test alert",
        "rule_description": "Sent by `weir doctor --alert` to see whether alerts arrive. No action is needed.",
        "severity": "informational",
        "event_severity": 1,
        "summary": f"Test alert {token} of weir doctor: no action is needed",
        "event_count": 0,
        "first_seen": now,
        "last_seen": now,
        "site": settings.site,
        "detector": "doctor",
    }
    marked = Marked("test alert", str(record["alert_id"]).encode(), time.monotonic())
    problems: list[DeliveryFailed | None] = []
    producer = DeliveryProducer(settings)
    try:
        delivery = Delivery(problems.append)
        key = str(record["alert_id"])
        producer.produce(TopicNames(settings.topic_prefix)["alerts"], Encoder("alert")(record), delivery=delivery, key=key)
        delivery.seal()
    except DeliveryFailed as error:
        problems.append(error)
    finally:
        left = producer.close(10.0)
    worst = next((problem for problem in problems if problem is not None), None)
    if worst is not None or left:
        marked.error, marked.cure = str(worst or "Kafka did not acknowledge it"), "see what was said of Kafka above"
    return marked
