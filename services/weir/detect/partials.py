"""What the rules match in one raw batch, as one partial aggregate for each correlation and group.

Partials are never aggregated across raw batches: the same raw record gives the same partials whenever it is read, so a repeat
after a crash can be told from news by its id alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any

import orjson

from weir.detect.fields import Getter, getter
from weir.detect.index import Index
from weir.detect.rules import Correlation, Member, RuleSet, Source, Variant
from weir.model.ids import stable_id

__all__ = ["HASH_BYTES", "SignalSource", "copy_hash", "group_text", "partition_of", "sample_of"]

HASH_BYTES = 8

MAX_EVIDENCE = 20
MAX_SAMPLES = 3
MAX_SAMPLE_BYTES = 2_000
MAX_RECORD_EVIDENCE = 2_000
MAX_RECORD_SAMPLES = 100
MAX_RECORD_HASHES = 40_000
MAX_GROUP_CHARACTERS = 512
MAX_ENTITY_CHARACTERS = 1_024

Record = dict[str, Any]

# fastavro takes no default for bytes.
_NOTHING = {"times": b"", "values": b"", "numbers": b""}


def partition_of(correlation_id: str, group: Iterable[str], partitions: int) -> int:
    """The signals partition of a correlation's group: the same in every process and release."""
    return int(stable_id(correlation_id, *group)[:16], 16) % partitions


def copy_hash(event_hash: str) -> bytes:
    """What copies of an event have in common, in as few bytes as the detector remembers of it."""
    return hashlib.blake2b(event_hash.encode(), digest_size=HASH_BYTES).digest()


def group_text(value: Any) -> str:
    """A group-by value as text; a missing one is empty, so that events without it form a group of their own."""
    if value is None:
        return ""
    text = value if isinstance(value, str) else ",".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
    return text[:MAX_GROUP_CHARACTERS]


def sample_of(record: Record) -> str:
    """An event as JSON without empty fields, and without its longest ones where it would exceed 2,000 bytes."""
    fields = {name: value for name, value in record.items() if value is not None and value not in ([], "")}
    fields.pop("event_original", None)
    text = orjson.dumps(fields, default=str)
    while len(text) > MAX_SAMPLE_BYTES and fields:
        del fields[max(fields, key=lambda name: len(str(fields[name])))]
        text = orjson.dumps(fields, default=str)
    return text.decode()


class _Gathering:
    """One partial being made."""

    __slots__ = ("buckets", "datasets", "entities", "events", "group", "hashes")

    def __init__(self, group: tuple[str, ...], entities: dict[str, str]) -> None:
        self.group = group
        self.entities = entities
        self.buckets: dict[int, list[int]] = {}
        self.hashes: dict[int, bytearray] = {}
        self.events: list[tuple[str, Record]] = []
        self.datasets: dict[str, None] = {}

    def add(self, record: Record, dataset: str, width: int) -> None:
        time = record.get("timestamp")
        if not isinstance(time, int):
            time = record["event_created"]
        start = time // width * width
        bucket = self.buckets.get(start)
        if bucket is None:
            self.buckets[start] = [1, time, time]
        else:
            bucket[0] += 1
            bucket[1] = min(bucket[1], time)
            bucket[2] = max(bucket[2], time)
        if copy := record.get("event_hash"):
            self.hashes.setdefault(start, bytearray()).extend(copy_hash(copy))
        if len(self.events) < MAX_EVIDENCE:
            self.events.append((dataset, record))
        self.datasets[dataset] = None


class _Sink:
    """What one rule's match in one dataset counts in: a correlation, and how its values are read."""

    __slots__ = ("correlation", "entities", "group", "label", "values")

    def __init__(self, correlation: Correlation, member: Member, source: Source) -> None:
        self.correlation = correlation
        self.label = member.label
        self.group: tuple[Getter, ...] = tuple(map(getter, source.group))
        self.values: tuple[Getter, ...] = tuple(map(getter, source.values))
        self.entities: tuple[tuple[str, Getter], ...] = tuple((name, getter(field)) for name, field in source.entities.items())

    def entities_of(self, record: Record) -> dict[str, str]:
        found = ((name, read(record)) for name, read in self.entities)
        return {name: group_text(value)[:MAX_ENTITY_CHARACTERS] for name, value in found if value not in (None, "", [])}


class _Candidate:
    """A rule in one dataset, with all that its matches count in."""

    __slots__ = ("sinks", "variant")

    def __init__(self, variant: Variant) -> None:
        self.variant = variant
        self.sinks: list[_Sink] = []


class SignalSource:
    """The single-event part of a rule set, as the processors use it."""

    def __init__(self, rule_set: RuleSet) -> None:
        self.rule_set = rule_set
        by_dataset: dict[str, dict[int, _Candidate]] = {}
        for correlation in rule_set.correlations:
            for member in correlation.members:
                for variant in member.rule.variants if member.rule else ():
                    rules = by_dataset.setdefault(variant.dataset, {})
                    candidate = rules.setdefault(id(variant), _Candidate(variant))
                    candidate.sinks.append(_Sink(correlation, member, member.sources[variant.dataset]))
        self._indexes = {
            dataset: Index((rule, rule.variant.cover, rule.variant.required) for rule in rules.values())
            for dataset, rules in by_dataset.items()
        }

    @property
    def version(self) -> str:
        """Hash of the rule set."""
        return self.rule_set.version

    def signals(self, events: dict[str, list[Record]], partitions: int) -> dict[int, list[Record]]:
        """Partials (records of type Partial in signals.v1) of one raw batch, by signals partition.

        Args:
            events: event records by dataset, in the order of the wire.
            partitions: number of partitions of the signals topic.

        Raises:
            ValueError: no partitions.
        """
        if partitions < 1:
            raise ValueError(f"{partitions} signals partitions; the topic must exist and have at least one")
        gathered: dict[tuple[str, tuple[str, ...]], _Gathering] = {}
        for dataset, records in events.items():
            index = self._indexes.get(dataset)
            if index is None:
                continue
            candidates = index.candidates
            for record in records:
                counted: set[str] = set()
                for rule in candidates(record):
                    if rule.variant.matches(record):
                        for sink in rule.sinks:
                            # An event counts once in a correlation, however many of its rules it matches.
                            if sink.correlation.id not in counted:
                                counted.add(sink.correlation.id)
                                self._count(sink, record, dataset, gathered)
        return self._by_partition(gathered, partitions) if gathered else {}

    def _count(self, sink: _Sink, record: Record, dataset: str, gathered: dict[tuple[str, tuple[str, ...]], _Gathering]) -> None:
        group = tuple(group_text(read(record)) for read in sink.group)
        gathering = gathered.get((sink.correlation.id, group))
        if gathering is None:
            gathering = gathered[sink.correlation.id, group] = _Gathering(group, sink.entities_of(record))
        gathering.add(record, dataset, sink.correlation.slice_us)

    def _by_partition(self, gathered: dict[tuple[str, tuple[str, ...]], _Gathering], partitions: int) -> dict[int, list[Record]]:
        # Counts are kept whole; evidence and samples are bounded for the whole record, which must stay under 1 MB.
        # What is left out of the hashes is counted by receiver alone (`correlation`).
        evidence_left, samples_left, hashes_left = MAX_RECORD_EVIDENCE, MAX_RECORD_SAMPLES, MAX_RECORD_HASHES
        result: dict[int, list[Record]] = {}
        for (correlation_id, group), gathering in gathered.items():
            evidence = gathering.events[:evidence_left]
            samples = gathering.events[: min(MAX_SAMPLES, samples_left)]
            evidence_left -= len(evidence)
            samples_left -= len(samples)
            buckets = []
            for start, (count, first, last) in sorted(gathering.buckets.items()):
                hashes = bytes(gathering.hashes.get(start, b"")[: HASH_BYTES * hashes_left])
                hashes_left -= len(hashes) // HASH_BYTES
                buckets.append({"start": start, "count": count, "first": first, "last": last, "hashes": hashes, **_NOTHING})
            partial = {
                "correlation_id": correlation_id,
                "group": list(group),
                "buckets": buckets,
                "evidence": [
                    {name: record[name] for name in ("event_id", "raw_topic", "raw_partition", "raw_offset")} | {"dataset": dataset}
                    for dataset, record in evidence
                ],
                "samples": [sample_of(record) for _, record in samples],
                "entities": gathering.entities,
                "datasets": list(gathering.datasets),
            }
            result.setdefault(partition_of(correlation_id, group, partitions), []).append(partial)
        return result
