"""What a receiver took in, for the ledger and for metrics."""

from __future__ import annotations

import os
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from weir.model.ledger import LedgerCounts, LedgerEntry, SequenceRange, minute_of
from weir.ops.telemetry import meter
from weir.receivers.publishing.spool import Spool

if TYPE_CHECKING:
    from opentelemetry.metrics import CallbackOptions, Observation

__all__ = ["HELD_SEQUENCES", "MAX_LINES", "MAX_SEQUENCES", "OTHERS", "ReceiverLedger", "ReceiverMetrics"]

MAX_LINES = 4_000
"""Lines of one ledger entry at most; some 100 bytes each, so an entry stays far under a megabyte."""

MAX_SEQUENCES = 2_000
"""Sequence ranges of one ledger entry at most; some 60 bytes each."""

HELD_SEQUENCES = 40_000
"""Sequence ranges that wait for an entry at most."""

OTHERS = "others"
"""Source under which everything beyond MAX_LINES is counted: invented addresses must not fill memory or the ledger."""


class ReceiverLedger:
    """Counts by source and receive minute since the last entry.

    A receiver reads no offsets; its entries are told apart by a running number and by an instance name that is new with each
    start, so that a restarted receiver replaces nothing.
    """

    def __init__(self, service: str, instance: str, site: str, topic: str) -> None:
        self.service = service
        # The process as well: workers of one instance start within the same millisecond.
        self.instance = f"{instance}@{time.time_ns() // 1_000_000}-{os.getpid()}"
        self.site = site
        self.topic = topic
        self._number = 0
        self._lines: defaultdict[tuple[str, int, str], LedgerCounts] = defaultdict(LedgerCounts)
        self._sequences: list[SequenceRange] = []
        self._sequences_last: dict[tuple[str, int, str, int, int], int] = {}
        self._sequences_left_out = 0

    def _line(self, source: str, time_us: int) -> LedgerCounts:
        key = (source, minute_of(time_us), "")
        if key not in self._lines and len(self._lines) >= MAX_LINES:
            key = (OTHERS, key[1], "")
        return self._lines[key]

    def received(self, source: str, time_us: int, units: int, size: int) -> None:
        """Kafka has acknowledged so many units of so many bytes, received at `time_us`."""
        line = self._line(source, time_us)
        line.units_in += units
        line.bytes_in += size

    def dropped(self, source: str, time_us: int, units: int) -> None:
        """So many units were lost before they could be published."""
        self._line(source, time_us).units_dropped += units

    def sequence(self, found: SequenceRange) -> None:
        """Put a range of an exporter's sequence numbers into the next entry.

        One that goes on where the last of the same exporter, domain, epoch and minute ended is joined to it. What is more than
        MAX_SEQUENCES goes into the entries after it: a range left out would look like loss. Of more than HELD_SEQUENCES some are
        left out, and the entry's note says how many.
        """
        key = found[:5]
        place = self._sequences_last.get(key)
        if place is not None and (before := self._sequences[place]).last == found.first:
            self._sequences[place] = before._replace(last=found.last, units=before.units + found.units)
        elif len(self._sequences) < HELD_SEQUENCES:
            self._sequences_last[key] = len(self._sequences)
            self._sequences.append(found)
        else:
            self._sequences_left_out += 1

    def entry(self) -> LedgerEntry | None:
        """What has been counted since the last entry, which begins the next; None where there is nothing to tell."""
        if not self._lines and not self._sequences:
            return None
        number = self._number
        self._number += 1
        lines, self._lines = self._lines, defaultdict(LedgerCounts)
        sequences, self._sequences = self._sequences[:MAX_SEQUENCES], self._sequences[MAX_SEQUENCES:]
        self._sequences_last = {found[:5]: place for place, found in enumerate(self._sequences)}
        left_out, self._sequences_left_out = self._sequences_left_out, 0
        now = time.time_ns() // 1000
        return LedgerEntry(
            self.service,
            self.instance,
            self.site,
            self.topic,
            -1,
            number,
            number,
            now,
            lines,
            note=f"{left_out} sequence ranges left out: too many for one entry" if left_out else None,
            sequences=sequences,
        )


class ReceiverMetrics:
    """Instruments of a receiver. Labels are transport and reason only: sources are without number, the ledger has them."""

    def __init__(self, service: str) -> None:
        m = meter(service)
        self._units = m.create_counter("weir.receiver.units", "{unit}", "Units acknowledged by Kafka")
        self._bytes = m.create_counter("weir.receiver.bytes", "By", "Bytes of the units acknowledged by Kafka")
        self._batches = m.create_counter("weir.receiver.batches", "{batch}", "Raw batches acknowledged by Kafka")
        self._dropped = m.create_counter("weir.receiver.dropped", "{unit}", "Units lost before they could be published")
        self._retries = m.create_counter("weir.receiver.retries", "{batch}", "Batches produced again after Kafka had refused them")
        self._refused = m.create_counter("weir.receiver.refused", "{connection}", "Connections refused or closed by the receiver")
        self._meter = m
        self._spooled = m.create_counter("weir.receiver.spool.spooled", "{unit}", "Units written to the disk spool")
        self._drained = m.create_counter("weir.receiver.spool.drained", "{unit}", "Units from the disk spool acknowledged by Kafka")
        self._damaged = m.create_counter("weir.receiver.spool.damaged", "{place}", "Places of the disk spool that cannot be read")
        self._connections = m.create_up_down_counter("weir.receiver.connections", "{connection}", "Open connections")

    def published(self, transport: str, units: int, size: int) -> None:
        """One batch is in Kafka."""
        labels = {"transport": transport}
        self._units.add(units, labels)
        self._bytes.add(size, labels)
        self._batches.add(1, labels)

    def dropped(self, units: int, reason: str) -> None:
        """Units were lost."""
        self._dropped.add(units, {"reason": reason})

    def retried(self) -> None:
        """One batch is produced again."""
        self._retries.add(1)

    def refused(self, reason: str) -> None:
        """One connection was turned away or closed."""
        self._refused.add(1, {"reason": reason})

    def connected(self, change: int) -> None:
        """Connections opened (1) or closed (-1)."""
        self._connections.add(change)

    def spooled(self, units: int) -> None:
        """One batch went to disk."""
        self._spooled.add(units)

    def drained(self, units: int) -> None:
        """One batch from disk is in Kafka."""
        self._drained.add(units)

    def spool_damaged(self, *, torn: bool) -> None:
        """A place of the spool cannot be read: torn by a kill, which costs nothing promised, or corrupt."""
        self._damaged.add(1, {"kind": "torn" if torn else "corrupt"})

    def watch_spool(self, spool: Spool) -> None:
        """Show what is in it."""
        for name, unit, text, read in (
            ("bytes", "By", "Bytes of the files of the disk spool", lambda: spool.bytes),
            ("units", "{unit}", "Units in the disk spool not yet acknowledged by Kafka", lambda: spool.units),
            ("segments", "{file}", "Files of the disk spool", lambda: spool.segments),
            ("full", "1", "1 while the disk spool takes nothing", lambda: int(spool.full is not None)),
            ("oldest", "s", "Age of the oldest record in the disk spool, by file", lambda: spool.oldest() or 0.0),
        ):
            self._meter.create_observable_gauge(f"weir.receiver.spool.{name}", [_observe(read)], unit, text)


def _observe(read: Callable[[], float]) -> Callable[[CallbackOptions], Iterable[Observation]]:
    from opentelemetry.metrics import Observation  # noqa: PLC0415

    return lambda _: [Observation(read())]
