"""Ledger entries: units and events are balanced, not guessed.

An entry tells what a service did with a range of offsets of one partition. It is written before the range is committed, under
the key (service, topic, partition, first offset): a range done again after a crash begins at the same offset, so the later entry
replaces the earlier one in the sum and nothing is counted twice.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any, NamedTuple

__all__ = ["LedgerCounts", "LedgerEntry", "SequenceRange", "minute_of"]

MINUTE_US = 60_000_000

MAX_SUM = 1 << 62
"""Sums of offsets stop here, rather than at what Avro's long can hold: clocks may be centuries off."""


def minute_of(time_us: int) -> int:
    """Start of the minute, microseconds UTC."""
    return time_us - time_us % MINUTE_US


class SequenceRange(NamedTuple):
    """What one replica saw of an exporter's sequence numbers within a receive minute.

    `first` is the number before the first unit counted here, `last` the one after the last; `units` are what the protocol counts:
    flows (v5), packets (v9), data records (IPFIX) or datagrams (sFlow). `epoch` tells runs of the exporter apart.
    """

    source: str
    minute: int
    protocol: str
    observation_domain: int
    epoch: int
    first: int
    last: int
    units: int


@dataclass(slots=True)
class LedgerCounts:
    """Numbers of one source, receive minute and dataset. `names` are units by the name that the catalogue gave their source.

    The clock's offset is event time minus receive time in microseconds, over `clock_offset_events` events that name a time.
    """

    units_in: int = 0
    units_empty: int = 0
    units_dead: int = 0
    units_dropped: int = 0
    bytes_in: int = 0
    events_out: dict[str, int] = field(default_factory=dict)
    events_in: int = 0
    delivered: int = 0
    dead: int = 0
    filtered: int = 0
    clock_offset_events: int = 0
    clock_offset_sum: int = 0
    clock_offset_min: int | None = None
    clock_offset_max: int | None = None
    names: dict[str, int] = field(default_factory=dict)

    def offsets(self, events: int, total: int, least: int, most: int) -> None:
        """Add clock offsets of so many events: their sum, the least and the greatest, microseconds."""
        self.clock_offset_events += events
        self.clock_offset_sum = max(-MAX_SUM, min(MAX_SUM, self.clock_offset_sum + total))
        self.clock_offset_min = least if self.clock_offset_min is None else min(least, self.clock_offset_min)
        self.clock_offset_max = most if self.clock_offset_max is None else max(most, self.clock_offset_max)

    def add(self, other: LedgerCounts) -> None:
        """Add another's numbers to these."""
        self.units_in += other.units_in
        self.units_empty += other.units_empty
        self.units_dead += other.units_dead
        self.units_dropped += other.units_dropped
        self.bytes_in += other.bytes_in
        self.events_in += other.events_in
        self.delivered += other.delivered
        self.dead += other.dead
        self.filtered += other.filtered
        if other.clock_offset_min is not None and other.clock_offset_max is not None:
            self.offsets(other.clock_offset_events, other.clock_offset_sum, other.clock_offset_min, other.clock_offset_max)
        for topic, count in other.events_out.items():
            self.events_out[topic] = self.events_out.get(topic, 0) + count
        for name, count in other.names.items():
            self.names[name] = self.names.get(name, 0) + count


@dataclass(slots=True)
class LedgerEntry:
    """One entry; `lines` is keyed by (source, receive minute in microseconds, dataset)."""

    service: str
    instance: str
    site: str
    topic: str
    partition: int
    first_offset: int
    last_offset: int
    written_at: int
    lines: defaultdict[tuple[str, int, str], LedgerCounts] = field(default_factory=lambda: defaultdict(LedgerCounts))
    note: str | None = None
    sequences: list[SequenceRange] = field(default_factory=list)

    @property
    def key(self) -> str:
        """Kafka key: what makes an entry replace an earlier one. A receiver's entries are told apart by instance."""
        owner = self.instance if self.partition < 0 else ""
        return "|".join((self.service, owner, self.topic, str(self.partition), str(self.first_offset)))

    def to_record(self) -> dict[str, Any]:
        """The Avro record."""
        return {
            "service": self.service,
            "instance": self.instance,
            "site": self.site,
            "topic": self.topic,
            "partition": self.partition,
            "first_offset": self.first_offset,
            "last_offset": self.last_offset,
            "written_at": self.written_at,
            "note": self.note,
            "lines": [
                {
                    "source": source,
                    "minute": minute,
                    "dataset": dataset,
                    "units_in": c.units_in,
                    "units_empty": c.units_empty,
                    "units_dead": c.units_dead,
                    "units_dropped": c.units_dropped,
                    "bytes_in": c.bytes_in,
                    "events_out": c.events_out,
                    "events_in": c.events_in,
                    "delivered": c.delivered,
                    "dead": c.dead,
                    "filtered": c.filtered,
                    "clock_offset_events": c.clock_offset_events,
                    "clock_offset_sum": c.clock_offset_sum,
                    "clock_offset_min": c.clock_offset_min,
                    "clock_offset_max": c.clock_offset_max,
                    "names": c.names,
                }
                for (source, minute, dataset), c in self.lines.items()
            ],
            "sequences": [s._asdict() for s in self.sequences],
        }

    @classmethod
    def from_record(cls, record: dict[str, Any]) -> LedgerEntry:
        """The entry in an Avro record."""
        entry = cls(**{k: v for k, v in record.items() if k not in {"lines", "sequences"}})
        entry.sequences = [SequenceRange(**s) for s in record["sequences"]]
        for line in record["lines"]:
            key = (line.pop("source"), line.pop("minute"), line.pop("dataset"))
            entry.lines[key].add(LedgerCounts(**line))
        return entry
