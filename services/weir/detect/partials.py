"""What the rules match in one raw batch, as one partial aggregate for each correlation and group.

Partials are never aggregated across raw batches: the same raw record gives the same partials whenever it is read, so a repeat
after a crash can be told from news by its id alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any

import orjson

from weir.detect.rules import Correlation, Rule, RuleSet
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

    __slots__ = ("buckets", "entities", "events", "group", "hashes")

    def __init__(self, group: tuple[str, ...], entities: dict[str, str]) -> None:
        self.group = group
        self.entities = entities
        self.buckets: dict[int, list[int]] = {}
        self.hashes: dict[int, bytearray] = {}
        self.events: list[Record] = []

    def add(self, record: Record, width: int) -> None:
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
            self.events.append(record)


class _Index:
    """The rules of one dataset, found by the value of one field that each of them requires."""

    def __init__(self, rules: list[Rule]) -> None:
        self.always: list[Rule] = []
        self.fields: dict[str, dict[str, list[Rule]]] = {}
        for rule in rules:
            # event_module and the like hold for whole sources; what was done tells events apart better.
            field = "event_action" if "event_action" in rule.required else min(rule.required, default=None)
            if field is None:
                self.always.append(rule)
                continue
            for value in rule.required[field]:
                self.fields.setdefault(field, {}).setdefault(value, []).append(rule)

    def candidates(self, record: Record) -> Iterable[Rule]:
        found = self.always
        for field, by_value in self.fields.items():
            value = record.get(field)
            if value is None:
                continue
            if isinstance(value, (list, tuple)):
                hits = [rule for item in {str(item).lower() for item in value} for rule in by_value.get(item, ())]
                hits = list(dict.fromkeys(hits))
            else:
                hits = by_value.get(value.lower() if isinstance(value, str) else str(value).lower(), [])
            if hits:
                found = found + hits
        return found


class SignalSource:
    """The single-event part of a rule set, as the processors use it."""

    def __init__(self, rule_set: RuleSet) -> None:
        self.rule_set = rule_set
        by_dataset: dict[str, list[Rule]] = {}
        self._correlations: dict[str, list[Correlation]] = {}
        for correlation in rule_set.correlations:
            for rule in dict.fromkeys(correlation.rules):
                if rule.id not in self._correlations:
                    by_dataset.setdefault(rule.dataset, []).append(rule)
                self._correlations.setdefault(rule.id, []).append(correlation)
        self._indexes = {dataset: _Index(rules) for dataset, rules in by_dataset.items()}

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
                    if rule.matches(record):
                        self._count(rule, record, gathered, counted)
        return self._by_partition(gathered, partitions) if gathered else {}

    def _count(
        self, rule: Rule, record: Record, gathered: dict[tuple[str, tuple[str, ...]], _Gathering], counted: set[str]
    ) -> None:
        for correlation in self._correlations[rule.id]:
            # An event counts once in a correlation, however many of its rules it matches.
            if correlation.id in counted:
                continue
            counted.add(correlation.id)
            group = tuple(group_text(record.get(name)) for name in correlation.group_fields)
            gathering = gathered.get((correlation.id, group))
            if gathering is None:
                entities = {
                    name: group_text(record[source])[:MAX_ENTITY_CHARACTERS]
                    for name, source in correlation.entities.items()
                    if record.get(source) not in (None, "", [])
                }
                gathering = gathered[correlation.id, group] = _Gathering(group, entities)
            gathering.add(record, correlation.slice_us)

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
                buckets.append({"start": start, "count": count, "first": first, "last": last, "hashes": hashes})
            partial = {
                "correlation_id": correlation_id,
                "group": list(group),
                "buckets": buckets,
                "evidence": [
                    {name: record[name] for name in ("event_id", "raw_topic", "raw_partition", "raw_offset")} for record in evidence
                ],
                "samples": [sample_of(record) for record in samples],
                "entities": gathering.entities,
            }
            result.setdefault(partition_of(correlation_id, group, partitions), []).append(partial)
        return result
