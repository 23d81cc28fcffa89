"""How far marked events have come, told from the records of all stages in whatever order they are read.

One reader reads many partitions, and Kafka gives an order within a partition alone: an event may be read before the raw record it
was made from, and the ledger entry of a sink before either.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from weir.bus.deadletter import reason_of
from weir.tools.doctor.senders import Marked

__all__ = ["MAX_HELD", "RAW", "Place", "Trail", "Trails"]

RAW: Final = ("raw.syslog", "raw.beats", "raw.netflow", "raw.quarantine")

MAX_HELD: Final = 50_000
"""Events kept until their raw record is read, some 20 MB. Beyond it the oldest are forgotten: where all events of a busy site are
read so much sooner than their raw records, a marked one among them is not found."""


class Place(NamedTuple):
    """Where a record lies in Kafka; `topic` in full."""

    topic: str
    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.topic}/{self.partition}@{self.offset}"


@dataclass(slots=True)
class Trail:
    """How far one marked event has come; `waiting` are the sinks that should deliver it and have not said so yet."""

    marked: Marked
    batch: str = ""
    unit: int = -1
    raw: str = ""
    raw_after: float = 0.0
    event: Place | None = None
    event_after: float = 0.0
    dead: str = ""
    quarantined: bool = False
    waiting: set[str] = field(default_factory=set)
    delivered: dict[str, float] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)

    @property
    def ended(self) -> bool:
        """Whether nothing more is to come."""
        return bool(
            self.marked.not_sent
            or self.marked.error
            or (self.dead and self.batch)
            or self.quarantined
            or (self.event is not None and not self.waiting)
        )


class Trails:
    """The trails of all marked events of one visit.

    Args:
        marked: what was sent.
        sinks: short topic names that each configured sink reads, by service name such as "sink.adx".
        starts: by raw topic in full and partition, the first offset that is read.
        told: is given one line of progress at each step.
    """

    def __init__(
        self,
        marked: Sequence[Marked],
        sinks: Mapping[str, set[str]],
        starts: Mapping[tuple[str, int], int],
        told: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.trails = [Trail(one) for one in marked]
        self._sinks = sinks
        self._told = told
        # By raw partition: the offset up to which it has been read, this one excluded.
        self._read = dict(starts)
        # By raw record that has not been read: short topic, place and id of the events made from it, the oldest first.
        self._held: dict[Place, list[tuple[str, Place, str]]] = {}
        self._held_events = 0
        self._entries: list[dict[str, Any]] = []

    @property
    def ended(self) -> bool:
        """Whether nothing more is to come of any."""
        return all(trail.ended for trail in self.trails)

    def note(self, topic: str, place: Place, record: dict[str, Any], headers: list[tuple[str, bytes]] | None, now: float) -> None:
        """A record has been read: `topic` is its topic's short name, `now` on the clock of `Marked.sent_at`."""
        if topic == "ledger":
            self._note_entry(record, now)
        elif topic in RAW:
            self._note_raw(topic, place, record, now)
        elif topic == "alerts":
            self._note_alert(place, record, now)
        elif topic.endswith(".dlq"):
            self._note_dead(record, headers)
        else:
            self._note_event(topic, place, record, now)

    def _note_entry(self, record: dict[str, Any], now: float) -> None:
        if str(record["service"]).startswith("sink."):
            self._entries.append(record)
            for trail in self.trails:
                _settle(trail, record, now)

    def _note_raw(self, topic: str, place: Place, record: dict[str, Any], now: float) -> None:
        for trail in self.trails:
            at = next((i for i, unit in enumerate(record["units"]) if trail.marked.is_in(unit)), None)
            if at is not None:
                trail.batch, trail.unit = record["batch_id"].hex(), at
                trail.raw = str(place)
                trail.raw_after = now - trail.marked.sent_at
                trail.quarantined = topic == "raw.quarantine"
                self._told(f"{trail.marked.name}: in {trail.raw}")
        self._read[place.topic, place.partition] = place.offset + 1
        for held in self._let_go(place):
            self._match(*held, now)

    def _note_event(self, topic: str, place: Place, record: dict[str, Any], now: float) -> None:
        event_id = str(record.get("event_id", ""))
        if self._match(topic, place, event_id, now):
            return
        raw = Place(str(record.get("raw_topic")), int(record.get("raw_partition", -1)), int(record.get("raw_offset", -1)))
        reached = self._read.get((raw.topic, raw.partition))
        if reached is None or raw.offset < reached:
            return  # made from a record that was read, or that was there before us: it is nobody's
        self._held.setdefault(raw, []).append((topic, place, event_id))
        self._held_events += 1
        while self._held_events > MAX_HELD:
            self._let_go(next(iter(self._held)))

    def _let_go(self, raw: Place) -> list[tuple[str, Place, str]]:
        held = self._held.pop(raw, [])
        self._held_events -= len(held)
        return held

    def _match(self, topic: str, place: Place, event_id: str, now: float) -> bool:
        for trail in self.trails:
            if trail.batch and trail.event is None and event_id.startswith(f"{trail.batch}-{trail.unit}-"):
                self._found(trail, topic, place, now)
                self._told(f"{trail.marked.name}: in {place.topic}")
                return True
        return False

    def _note_alert(self, place: Place, record: dict[str, Any], now: float) -> None:
        for trail in self.trails:
            if trail.marked.needle == str(record["alert_id"]).encode():
                trail.raw, trail.batch = str(place), trail.marked.needle.decode()
                trail.raw_after = now - trail.marked.sent_at
                self._found(trail, "alerts", place, now)

    def _found(self, trail: Trail, topic: str, place: Place, now: float) -> None:
        trail.event = place
        trail.event_after = now - trail.marked.sent_at
        trail.waiting = {sink for sink, topics in self._sinks.items() if topic in topics}
        for entry in self._entries:  # a sink may have been quicker than we
            _settle(trail, entry, now)

    def _note_dead(self, record: dict[str, Any], headers: list[tuple[str, bytes]] | None) -> None:
        # A dead letter has the units themselves, so that nothing else has to be known to tell whose it is.
        for trail in self.trails:
            if any(trail.marked.is_in(unit) for unit in record["units"]):
                trail.dead = reason_of(headers) or "no reason given"


def _settle(trail: Trail, entry: dict[str, Any], now: float) -> None:
    service = str(entry["service"])
    if trail.event is None or service not in trail.waiting:
        return
    topic, partition, offset = trail.event
    if entry["topic"] == topic and entry["partition"] == partition and entry["first_offset"] <= offset <= entry["last_offset"]:
        trail.waiting.discard(service)
        dead = sum(line["dead"] for line in entry["lines"])
        if dead and not sum(line["delivered"] for line in entry["lines"]):
            trail.refused[service] = f"dead-lettered ({dead} in this range)"
        else:
            trail.delivered[service] = now - trail.marked.sent_at
