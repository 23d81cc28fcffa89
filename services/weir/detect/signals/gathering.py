"""Making partials: what is kept of the events that count in one correlation and group, by slices of event time.

Counts are whole; everything else is bounded, for each partial and for the whole signals record, which must stay under 1 MB. What a
correlation does not need is not carried.

**Values.** A distinct value is known by 8 bytes of hash. Each element of a list field is a value of its own. Of several fields
the value is their combination, and only events that have all of them have one. Values are told apart as they are written: unlike
in Sigma's comparisons, case matters.

**Numbers** may be numbers or text that reads as one; whatever else a field holds is no number. Each element of a list counts.
"""

from __future__ import annotations

import hashlib
import heapq
import math
import struct
from collections.abc import Iterable, Sequence
from typing import Any, Final, NamedTuple

import orjson

from weir.detect.rules import MAX_EXACT_COUNT, Correlation

__all__ = [
    "HASH_BYTES",
    "MAX_EVIDENCE",
    "MAX_RECORD_HASHES",
    "MAX_SAMPLES",
    "Carried",
    "Gathering",
    "Room",
    "carried_by",
    "copy_hash",
    "group_text",
    "numbers_of",
    "sample_of",
    "time_of",
    "value_hash",
    "values_of",
]

HASH_BYTES = 8

MAX_EVIDENCE = 20
MAX_SAMPLES = 3
MAX_SAMPLE_BYTES = 2_000
MAX_RECORD_EVIDENCE = 2_000
MAX_RECORD_SAMPLES = 100
# Beyond these, copies are told apart by receiver alone (`kinds.windows`). They and the next one fill their part of 1 MB together.
MAX_RECORD_HASHES = 40_000
# Bytes of times, values, numbers and hashes in one record. Beyond them: times are left out, and a slice counts where a window holds
# all of it; further values are left out, and the partial says so; further numbers are left out of the sample.
MAX_RECORD_DETAIL = 8 * MAX_RECORD_HASHES
MAX_GROUP_CHARACTERS = 512
MAX_ENTITY_CHARACTERS = 1_024
# Distinct values of a slice: those with the lowest hashes are kept, so that the order of events does not matter.
MAX_VALUES = 1_024
# Numbers of a slice: those whose events have the lowest hashes are kept, a fair sample.
MAX_NUMBERS = 1_024
# Event times kept of a slice at its beginning, and as many at its end, where not the condition says how many are needed.
MAX_ORDERED_TIMES = 64
MAX_SUM = 1e300
# About what a slice with one value takes beside the value.
APART_BYTES = 48
SHOWN = 10
SHOWN_FIRST_SEEN = 100

Record = dict[str, Any]

_VALUE = struct.Struct(">Qqq")
_NUMBER = struct.Struct(">Qd")


class Carried(NamedTuple):
    """What partials of a correlation carry beside counts.

    Attributes:
        times: so many event times of a slice at its beginning, and as many at its end; 0 for none.
        rule_times: the same for each of its rules; 0 where they are not told apart.
        values: distinct values of a slice; 0 for none.
        shown: values as text in a partial.
        numbers: a sample of numbers.
        sums: sum and count of the numbers.
        packed: many groups in one partial (`packed`).
        apart: one slice for each value instead of one for each stretch of time, and one event for each.
        evidence: events named.
        samples: events as JSON.
    """

    times: int = 0
    rule_times: int = 0
    values: int = 0
    shown: int = 0
    numbers: bool = False
    sums: bool = False
    packed: bool = False
    apart: bool = False
    evidence: int = MAX_EVIDENCE
    samples: int = MAX_SAMPLES


def carried_by(correlation: Correlation) -> Carried:
    """What the partials of this correlation carry."""
    kind = correlation.kind
    if kind == "event_count":
        exact = not correlation.at_end and 1 < correlation.threshold <= MAX_EXACT_COUNT
        return Carried(times=int(correlation.threshold)) if exact else Carried()
    if kind == "value_count":
        most = max(correlation.threshold, correlation.condition.upper[1] if correlation.condition.upper else 0)
        return Carried(values=max(MAX_VALUES, math.ceil(most)), shown=SHOWN)
    if kind in {"value_sum", "value_avg"}:
        return Carried(sums=True)
    if kind in {"value_percentile", "value_median"}:
        return Carried(numbers=True, sums=True)
    if kind == "temporal":
        return Carried(rule_times=1)
    if kind == "temporal_ordered":
        return Carried(rule_times=MAX_ORDERED_TIMES)
    if kind == "first_seen":
        return Carried(values=MAX_VALUES, shown=SHOWN_FIRST_SEEN, apart=True)
    if kind == "beacon":
        return Carried(packed=True)
    if kind == "absence":
        return Carried(evidence=1, samples=0)
    if kind == "baseline":
        return Carried(sums=correlation.options.get("of", "count") != "count")
    return Carried()


def copy_hash(event_hash: str) -> bytes:
    """What copies of an event have in common, in as few bytes as the detector remembers of it."""
    return hashlib.blake2b(event_hash.encode(), digest_size=HASH_BYTES).digest()


def value_hash(text: str) -> int:
    """What stands for a value in partials."""
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=HASH_BYTES).digest(), "big")


def group_text(value: Any) -> str:
    """A group-by value as text; a missing one is empty, so that events without it form a group of their own."""
    return (value if value.__class__ is str else _text(value))[:MAX_GROUP_CHARACTERS]


def _text(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else ",".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


def values_of(found: Sequence[Any]) -> Iterable[str]:
    """The values of an event, given what the fields hold."""
    if len(found) == 1:
        value = found[0]
        several = value if isinstance(value, (list, tuple)) else (value,)
        return [_text(one) for one in several if one is not None and one != ""]
    if any(value is None or value in ("", []) for value in found):
        return ()
    return (", ".join(map(_text, found)),) if found else ()


def numbers_of(found: Sequence[Any]) -> list[float]:
    """The numbers of an event, given what the fields hold."""
    numbers = []
    for value in found:
        for one in value if isinstance(value, (list, tuple)) else (value,):
            if isinstance(one, bool) or not isinstance(one, (int, float, str)):
                continue
            if isinstance(one, str) and "_" in one:
                # Python's notation, no number of a log.
                continue
            try:
                number = float(one)
            except (ValueError, OverflowError):
                continue
            if math.isfinite(number):
                numbers.append(number)
    return numbers


def sample_of(record: Record) -> str:
    """An event as JSON without empty fields, and without its longest ones where it would exceed 2,000 bytes."""
    # What is true needs no comparison; zero, false and an empty map are kept.
    fields = {name: value for name, value in record.items() if value or (value is not None and value not in ("", []))}
    fields.pop("event_original", None)
    text = orjson.dumps(fields, default=str)
    while len(text) > MAX_SAMPLE_BYTES and fields:
        del fields[max(fields, key=lambda name: len(str(fields[name])))]
        text = orjson.dumps(fields, default=str)
    return text.decode()


class Room:
    """What is left in one signals record for what is bounded.

    `texts` are the samples made so far, by identity of the event: several correlations show the same one. Records of one raw batch
    share it.
    """

    __slots__ = ("_texts", "bytes", "evidence", "samples")

    def __init__(self, texts: dict[int, str] | None = None) -> None:
        self._texts: dict[int, str] = {} if texts is None else texts
        self.evidence = MAX_RECORD_EVIDENCE
        self.samples = MAX_RECORD_SAMPLES
        self.bytes = MAX_RECORD_DETAIL

    def sample(self, record: Record) -> str:
        """`sample_of` an event that outlives this room."""
        text = self._texts.get(id(record))
        if text is None:
            text = self._texts[id(record)] = sample_of(record)
        return text

    def some(self, entries: int, size: int) -> int:
        """How many of so many entries fit; the room is then taken."""
        fitting = min(entries, self.bytes // size)
        self.bytes -= fitting * size
        return fitting

    def times(self, found: list[int], ends: int) -> bytes:
        """So many of these times from each end, sorted; nothing where they do not fit."""
        if not ends:
            return b""
        if len(found) > 1:
            found = sorted(found)
        if len(found) > 2 * ends:
            found = found[:ends] + found[-ends:]
        if 8 * len(found) > self.bytes:
            return b""
        self.bytes -= 8 * len(found)
        return struct.pack(f">{len(found)}q", *found)


class _Slice:
    """Matches within one slice of event time."""

    __slots__ = ("count", "first", "hashes", "last", "number_count", "numbers", "rules", "sum", "times", "values")

    def __init__(self, time: int) -> None:
        self.count = 0
        self.first = self.last = time
        self.hashes: list[bytes] = []
        self.times: list[int] = []
        self.rules: dict[str, list[int]] = {}
        self.values: dict[int, list[int]] = {}
        self.numbers: dict[int, float] = {}
        self.sum = 0.0
        self.number_count = 0

    def record(self, start: int, carried: Carried, room: Room) -> Record:
        """As a record of type Bucket."""
        # Most slices have one event and few of the details: what is empty costs nothing.
        hashes = self.hashes
        if len(hashes) > 1 and self.times:
            # In the order of the times, so that one can be told by the other.
            hashes = [hashes[i] for i in sorted(range(len(hashes)), key=self.times.__getitem__)]
        if hashes:
            hashes = hashes[: room.some(len(hashes), HASH_BYTES)]
        kept: list[int] = []
        if self.values:
            found = sorted(self.values)[: carried.values]
            kept = found[: room.some(len(found), _VALUE.size)]
        numbers: list[tuple[int, float]] = []
        if self.numbers:
            numbers = heapq.nsmallest(MAX_NUMBERS, self.numbers.items())
            numbers = numbers[: room.some(len(numbers), _NUMBER.size)]
        return {
            "start": start,
            "count": self.count,
            "first": self.first,
            "last": self.last,
            "hashes": b"".join(hashes),
            "times": room.times(self.times, carried.times),
            "rules": [
                {"label": label, "count": len(times), "times": room.times(times, carried.rule_times)}
                for label, times in sorted(self.rules.items())
            ]
            if self.rules
            else [],
            "values": b"".join([_VALUE.pack(number, *self.values[number]) for number in kept]),
            "values_left_out": len(kept) < len(self.values),
            "numbers": b"".join([_NUMBER.pack(*entry) for entry in numbers]),
            "sum": self.sum,
            "number_count": self.number_count,
        }


class Gathering:
    """One partial being made."""

    __slots__ = ("carried", "datasets", "entities", "events", "group", "shown", "slices", "width")

    def __init__(self, group: tuple[str, ...], entities: dict[str, str], carried: Carried, width: int) -> None:
        self.group = group
        self.entities = entities
        self.carried = carried
        self.width = width
        self.slices: dict[int, _Slice] = {}
        self.events: list[tuple[str, Record]] = []
        self.datasets: dict[str, None] = {}
        self.shown: dict[str, None] = {}

    def add(self, record: Record, dataset: str) -> _Slice:
        """Count an event; the slice it lies in."""
        time = time_of(record)
        slice_ = self.slice_at(time)
        slice_.count += 1
        if time < slice_.first:
            slice_.first = time
        elif time > slice_.last:
            slice_.last = time
        if copy := record.get("event_hash"):
            slice_.hashes.append(copy_hash(copy))
        if self.carried.times:
            slice_.times.append(time)
        if len(self.events) < self.carried.evidence:
            self.events.append((dataset, record))
        self.datasets[dataset] = None
        return slice_

    def add_apart(self, record: Record, dataset: str, found: Sequence[Any]) -> None:
        """Count an event in a slice of its own for each value, and keep it where it is the first with that value."""
        time = time_of(record)
        for text in values_of(found):
            number = value_hash(text)
            slice_ = self.slices.get(number)
            if slice_ is None:
                slice_ = self.slices[number] = _Slice(time)
                slice_.values[number] = [time, time]
                if len(self.shown) < self.carried.shown:
                    self.shown[text[:MAX_GROUP_CHARACTERS]] = None
                if len(self.events) < self.carried.evidence:
                    self.events.append((dataset, record))
            slice_.count += 1
            slice_.first = slice_.values[number][0] = min(slice_.first, time)
            slice_.last = slice_.values[number][1] = max(slice_.last, time)
        self.datasets[dataset] = None

    def slice_at(self, time: int) -> _Slice:
        """The slice of an event time."""
        start = time // self.width * self.width
        slice_ = self.slices.get(start)
        if slice_ is None:
            slice_ = self.slices[start] = _Slice(time)
        return slice_

    def add_rule(self, record: Record, label: str) -> None:
        """Note which rule an event matched."""
        time = time_of(record)
        self.slice_at(time).rules.setdefault(label, []).append(time)

    def add_values(self, slice_: _Slice, record: Record, found: Sequence[Any]) -> None:
        """Note what the fields of the condition hold in an event."""
        carried = self.carried
        if carried.values:
            time = time_of(record)
            for text in values_of(found):
                number = value_hash(text)
                times = slice_.values.get(number)
                if times is None:
                    slice_.values[number] = [time, time]
                    if len(self.shown) < carried.shown:
                        self.shown[text[:MAX_GROUP_CHARACTERS]] = None
                elif time < times[0]:
                    times[0] = time
                elif time > times[1]:
                    times[1] = time
        if carried.sums:
            event = record.get("event_hash") or record["event_id"]
            for i, number_ in enumerate(numbers_of(found)):
                slice_.sum = max(-MAX_SUM, min(MAX_SUM, slice_.sum + number_))
                slice_.number_count += 1
                if carried.numbers:
                    slice_.numbers[int.from_bytes(copy_hash(f"{event}{i or ''}"), "big")] = number_

    def record(self, correlation_id: str, room: Room) -> Record:
        """As a record of type Partial."""
        evidence = self.events[: room.evidence]
        samples = self.events[: min(self.carried.samples, room.samples)]
        room.evidence -= len(evidence)
        room.samples -= len(samples)
        return {
            "correlation_id": correlation_id,
            "group": list(self.group),
            "buckets": self._apart(room)
            if self.carried.apart
            else [slice_.record(start, self.carried, room) for start, slice_ in sorted(self.slices.items())],
            "evidence": [
                {
                    "event_id": record["event_id"],
                    "raw_topic": record["raw_topic"],
                    "raw_partition": record["raw_partition"],
                    "raw_offset": record["raw_offset"],
                    "dataset": dataset,
                }
                for dataset, record in evidence
            ],
            "samples": [room.sample(record) for _, record in samples],
            "entities": self.entities,
            "shown": list(self.shown),
            "datasets": list(self.datasets),
        }

    def _apart(self, room: Room) -> list[Record]:
        # Those with the lowest hashes, as in one slice.
        found = sorted(self.slices.items())[: self.carried.values]
        kept = found[: room.some(len(found), APART_BYTES)]
        buckets = [slice_.record(slice_.first // self.width * self.width, self.carried, room) for _, slice_ in kept]
        if buckets and len(kept) < len(self.slices):
            buckets[-1]["values_left_out"] = True
        return buckets


_EARLIEST: Final = -62_135_596_800_000_000
_LATEST: Final = 253_402_300_799_999_999


def time_of(record: Record) -> int:
    """The time an event counts at, microseconds UTC: its own, or that of its receipt.

    A time outside of the years 1 to 9999 is none: no slice of it could be told in 64 bits, and no alert could write it down.
    """
    time = record.get("timestamp")
    return time if isinstance(time, int) and _EARLIEST <= time <= _LATEST else int(record["event_created"])
