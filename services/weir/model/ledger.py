"""Ledger entries: units and events are balanced, not guessed.

An entry tells what a service did with a range of offsets of one partition. It is written before the range is committed, under
the key (service, topic, partition, first offset): a range done again after a crash begins at the same offset, so the later entry
replaces the earlier one in the sum and nothing is counted twice.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

__all__ = ["LedgerCounts", "LedgerEntry", "minute_of"]

MINUTE_US = 60_000_000


def minute_of(time_us: int) -> int:
    """Start of the minute, microseconds UTC."""
    return time_us - time_us % MINUTE_US


@dataclass(slots=True)
class LedgerCounts:
    """Numbers of one source, receive minute and dataset."""

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
        for topic, count in other.events_out.items():
            self.events_out[topic] = self.events_out.get(topic, 0) + count


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
                }
                for (source, minute, dataset), c in self.lines.items()
            ],
        }

    @classmethod
    def from_record(cls, record: dict[str, Any]) -> LedgerEntry:
        """The entry in an Avro record."""
        entry = cls(**{k: v for k, v in record.items() if k != "lines"})
        for line in record["lines"]:
            key = (line.pop("source"), line.pop("minute"), line.pop("dataset"))
            entry.lines[key].add(LedgerCounts(**line))
        return entry
