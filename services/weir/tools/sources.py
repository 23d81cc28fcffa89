"""Who sends: what the ledger tells of each source, beside what the catalogue expects of it."""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any

from weir.model.ledger import MINUTE_US, LedgerCounts, LedgerEntry, SequenceRange
from weir.model.sequences import merge
from weir.model.sources import Catalogue, KnownSource, load_catalogue
from weir.model.topics import TopicNames
from weir.receivers.sources import SourcesSettings
from weir.tools.ledger import read_ledger, read_topic

__all__ = ["Clock", "SourceRow", "Survey", "survey", "zone_hint"]

SECOND_US = 1_000_000
_QUARTER = 900.0
_NEAR = 90.0


@dataclass(frozen=True, slots=True)
class Clock:
    """How far the times in a source's events are from their receipt, seconds; positive where they are ahead.

    Events come late for many reasons and early for none but a wrong clock. So of each minute the largest offset counts, and
    `offset` is the median of those; `least` and `most` are the extremes of all events, with backlogs and single wild ones.
    """

    dataset: str
    events: int
    offset: float
    least: float
    most: float
    mean: float

    @property
    def hint(self) -> str | None:
        """What this offset looks like, if like anything."""
        return zone_hint(self.offset)


def zone_hint(offset: float) -> str | None:
    """A remark where an offset in seconds is close to whole quarters of an hour, as between time zones; else None."""
    quarters = round(offset / _QUARTER)
    if not quarters or abs(quarters) > 14 * 4 or abs(offset - quarters * _QUARTER) > _NEAR:
        return None
    hours, rest = divmod(abs(quarters) * 15, 60)
    return f"time zone? {'+' if quarters > 0 else '-'}{hours}:{rest:02}"


@dataclass(slots=True)
class SourceRow:
    """One source by one way in. Times in microseconds UTC; None for what is not known.

    `state` is known, unknown, quarantined or refused; `silent_seconds` counts from the end of the last minute with units;
    `filtered` are events that the operator's filters kept from being published.
    """

    name: str | None
    address: str
    way_in: str
    datasets: list[str]
    first_seen: int | None
    last_seen: int | None
    units: int
    units_per_minute: float
    dropped: int
    dead: int
    clocks: list[Clock]
    upstream_expected: int
    upstream_missing: int
    state: str
    silent_seconds: int | None = None
    expected_silence: int | None = None
    overdue: bool = False
    filtered: int = 0

    def to_record(self) -> dict[str, Any]:
        """For JSON."""
        clocks = [asdict(clock) | {"hint": clock.hint} for clock in self.clocks]
        return asdict(self) | {"clocks": clocks}


@dataclass(slots=True)
class _Seen:
    """What the ledger says of one address by one raw topic."""

    first: int | None = None
    last: int | None = None
    units: int = 0
    dropped: int = 0
    dead: int = 0
    filtered: int = 0
    services: set[str] = field(default_factory=set)
    datasets: set[str] = field(default_factory=set)
    names: dict[str, int] = field(default_factory=dict)
    clocks: defaultdict[str, dict[int, LedgerCounts]] = field(default_factory=lambda: defaultdict(dict))

    def at(self, minute: int) -> None:
        self.first = minute if self.first is None else min(self.first, minute)
        self.last = minute if self.last is None else max(self.last, minute)


def survey(settings: SourcesSettings, since_seconds: int, now: int | None = None) -> list[SourceRow]:
    """What the ledger and the catalogue say of every source.

    Args:
        settings: brokers, catalogue.
        since_seconds: how far back; "last seen" looks back further, as far as the longest expected silence.
        now: microseconds UTC; None for the clock's.

    Raises:
        CatalogueError: the catalogue has become wrong since the settings were read.
        TopicsUnavailable: the ledger cannot be read.
    """
    names = TopicNames(settings.topic_prefix)
    now = time.time_ns() // 1000 if now is None else now
    catalogue = None if settings.sources_file is None else load_catalogue(settings.sources_file)
    since = now - since_seconds * SECOND_US
    silence = (catalogue.longest_silence if catalogue is not None else 0) + 2 * 60
    start = min(since, now - silence * SECOND_US)
    oldest = next(read_topic(settings, names["ledger"]), None)
    observed = now if oldest is None else max(start, oldest.timestamp()[1] * 1000)
    found = Survey(names, catalogue, settings.sources_unknown, since=since, now=now, observed=observed)
    # Who is known by port or subject alone is recognised by what the processors say.
    nameless = catalogue is not None and any(s.expected_silence and not s.networks for s in catalogue.sources)
    found.add(read_ledger(settings, start, all_since_us=start if nameless else since))
    return found.rows()


class Survey:
    """What has been seen of all sources since a time.

    Args:
        names: the topics.
        catalogue: of known sources; None where there is none.
        unknown: what becomes of other senders: accept, quarantine or refuse.
        since: microseconds UTC; what was received before counts for "last seen" alone.
        now: microseconds UTC.
        observed: from when on the entries tell of everything, microseconds UTC; a source that was never seen has been silent at
            least since then.
    """

    def __init__(
        self, names: TopicNames, catalogue: Catalogue | None, unknown: str, *, since: int, now: int, observed: int
    ) -> None:
        self._raw = {names[short]: short for short in ("raw.syslog", "raw.beats", "raw.netflow", "raw.quarantine")}
        self._catalogue = catalogue
        self._state = {"quarantine": "quarantined", "refuse": "refused"}.get(unknown, "unknown")
        self._since = since - since % MINUTE_US
        self._now = now
        self._seen: defaultdict[tuple[str, str], _Seen] = defaultdict(_Seen)
        self._sequences: list[SequenceRange] = []
        self._observed = observed

    def add(self, entries: Iterable[LedgerEntry]) -> None:
        """Take entries in, each range of offsets once."""
        for entry in entries:
            if (raw := self._raw.get(entry.topic)) is None:
                continue
            received = entry.service.startswith("receive.")
            if not received and not entry.service.startswith("process."):
                continue
            self._sequences += entry.sequences
            for (source, minute, dataset), counts in entry.lines.items():
                if source:
                    self._add(self._seen[source, raw], entry.service if received else None, minute, dataset, counts)

    def _add(self, seen: _Seen, receiver: str | None, minute: int, dataset: str, counts: LedgerCounts) -> None:
        recent = minute >= self._since
        if receiver is not None:
            seen.services.add(receiver)
            if counts.units_in or counts.units_dropped:
                seen.at(minute)
            if recent:
                seen.units += counts.units_in
                seen.dropped += counts.units_dropped
            return
        for name in counts.names:
            seen.names[name] = max(seen.names.get(name, minute), minute)
        if not recent:
            return
        seen.dead += counts.units_dead
        seen.filtered += counts.filtered
        seen.datasets.update(topic.removeprefix("events.") for topic in counts.events_out)
        if counts.clock_offset_events:
            seen.clocks[dataset].setdefault(minute, LedgerCounts()).add(counts)

    def rows(self) -> list[SourceRow]:
        """One for each source and way in, and one for each known source that has not been seen; those overdue first."""
        last_of: dict[str, int] = {}
        rows = []
        losses = self._losses()
        for (address, raw), seen in self._seen.items():
            names = self._names_of(address, seen)
            for name, last in names.items():
                last_of[name] = max(last_of.get(name, 0), last)
            recent = seen.last is not None and seen.last >= self._since
            if recent or seen.dead or seen.filtered or seen.clocks:
                expected, missing = losses.get(address, (0, 0)) if raw == "raw.netflow" else (0, 0)
                rows.append(self._row(address, raw, seen, sorted(names), expected, missing))
        by_name = {source.name: source for source in self._catalogue.sources} if self._catalogue is not None else {}
        shown = {row.name for row in rows}
        for row in rows:
            single = by_name.get(row.name or "")
            if single is not None:
                self._expect(row, single, last_of.get(single.name))
            elif row.last_seen is not None:
                row.silent_seconds = self._silent(row.last_seen)
        rows += [self._unseen(source, last_of.get(name)) for name, source in by_name.items() if name not in shown]
        return sorted(rows, key=lambda row: (not row.overdue, row.name is None, row.name or "", row.address, row.way_in))

    def _names_of(self, address: str, seen: _Seen) -> dict[str, int]:
        """Names of a sender with the minute in which each was last seen."""
        last = seen.last or 0
        if len(seen.names) == 1:
            # The processors may be behind; all that came from there is of this source.
            return {name: max(minute, last) for name, minute in seen.names.items()}
        if seen.names:
            return seen.names
        # Port and subject are not in a receiver's ledger: only an entry that names addresses says who this is.
        known = self._catalogue.find(address, None, None) if self._catalogue is not None else None
        return {known.name: last} if known is not None and known.networks else {}

    def _row(self, address: str, raw: str, seen: _Seen, names: list[str], expected: int, missing: int) -> SourceRow:
        first = None if seen.first is None else max(seen.first, self._since)
        minutes = 1.0 if first is None else max(1.0, (self._now - first) / MINUTE_US)
        return SourceRow(
            name=", ".join(names) or None,
            address=address,
            way_in=", ".join(sorted(s.removeprefix("receive.") for s in seen.services)) or raw.removeprefix("raw."),
            datasets=sorted(seen.datasets),
            first_seen=first,
            last_seen=seen.last,
            units=seen.units,
            units_per_minute=round(seen.units / minutes, 1),
            dropped=seen.dropped,
            dead=seen.dead,
            clocks=sorted((_clock(d, by_minute) for d, by_minute in seen.clocks.items()), key=lambda c: -c.events),
            upstream_expected=expected,
            upstream_missing=missing,
            state="quarantined" if raw == "raw.quarantine" else "known" if names else self._state,
            filtered=seen.filtered,
        )

    def _unseen(self, source: KnownSource, last: int | None) -> SourceRow:
        address = ", ".join(str(network) for network in source.networks[:3]) + (", …" if len(source.networks) > 3 else "")
        row = SourceRow(source.name, address or "-", "-", [], None, last, 0, 0.0, 0, 0, [], 0, 0, "known")
        self._expect(row, source, last)
        return row

    def _expect(self, row: SourceRow, source: KnownSource, last: int | None) -> None:
        row.expected_silence = source.expected_silence
        # Of a source not seen at all no more can be said than how long the ledger has been looked at.
        row.silent_seconds = self._silent(last) if last else max(0, (self._now - self._observed) // SECOND_US)
        row.overdue = source.expected_silence is not None and row.silent_seconds > source.expected_silence

    def _silent(self, minute: int) -> int:
        return max(0, (self._now - minute - MINUTE_US) // SECOND_US)

    def _losses(self) -> dict[str, tuple[int, int]]:
        """By exporter: units it has counted, and those of them that never came."""
        found: dict[str, tuple[int, int]] = {}
        for loss in merge(self._sequences):
            if loss.minute >= self._since:
                expected, missing = found.get(loss.source, (0, 0))
                found[loss.source] = (expected + loss.expected, missing + loss.missing)
        return {source: (expected, max(0, missing)) for source, (expected, missing) in found.items()}


def _clock(dataset: str, by_minute: dict[int, LedgerCounts]) -> Clock:
    total = LedgerCounts()
    for counts in by_minute.values():
        total.add(counts)
    best = median(c.clock_offset_max or 0 for c in by_minute.values())
    mean = total.clock_offset_sum / total.clock_offset_events
    values = (best, total.clock_offset_min or 0, total.clock_offset_max or 0, mean)
    offset, least, most, mean = (math.floor(value / SECOND_US * 10 + 0.5) / 10 for value in values)
    return Clock(dataset, total.clock_offset_events, offset, least, most, mean)
