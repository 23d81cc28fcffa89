"""What the rules match in one raw batch, as one partial aggregate for each correlation and group.

Partials are never aggregated across raw batches: the same raw record gives the same partials whenever it is read, so a repeat
after a crash can be told from news by its id alone.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from weir.detect.matching.fields import Getter, getter
from weir.detect.matching.index import Index
from weir.detect.rules import Correlation, Member, RuleSet, Source, Variant
from weir.detect.signals.gathering import (
    HASH_BYTES,
    MAX_EVIDENCE,
    MAX_RECORD_HASHES,
    Gathering,
    Room,
    carried_by,
    copy_hash,
    group_text,
    sample_of,
    time_of,
    value_hash,
    values_of,
)
from weir.detect.signals.packed import Packing
from weir.model.ids import stable_id

__all__ = [
    "HASH_BYTES",
    "MAX_EVIDENCE",
    "MAX_RECORD_HASHES",
    "SignalSource",
    "copy_hash",
    "group_text",
    "partition_of",
    "sample_of",
    "value_hash",
]

MAX_ENTITY_CHARACTERS = 1_024

Record = dict[str, Any]


def partition_of(correlation_id: str, group: Iterable[str], partitions: int) -> int:
    """The signals partition of a correlation's group: the same in every process and release."""
    return int(stable_id(correlation_id, *group)[:16], 16) % partitions


class _Sink:
    """What one rule's match in one dataset counts in: a correlation, and how its values are read."""

    __slots__ = ("carried", "correlation", "entities", "group", "id", "label", "others", "values")

    def __init__(self, correlation: Correlation, member: Member, source: Source) -> None:
        self.correlation = correlation
        self.id = correlation.id
        self.carried = carried_by(correlation)
        self.label = member.label
        self.group: tuple[Getter, ...] = tuple(map(getter, source.group))
        self.values: tuple[Getter, ...] = tuple(map(getter, source.values))
        self.entities: tuple[tuple[str, Getter], ...] = tuple((name, getter(field)) for name, field in source.entities.items())
        # Entities that the group does not name.
        in_group = [name for name, field in source.entities.items() if field in source.group]
        self.others = tuple((name, read) for name, read in self.entities if name not in in_group)

    def entities_of(self, record: Record) -> dict[str, str]:
        return self._named(record, self.entities)

    def others_of(self, record: Record) -> dict[str, str]:
        return self._named(record, self.others)

    @staticmethod
    def _named(record: Record, entities: Iterable[tuple[str, Getter]]) -> dict[str, str]:
        return {
            name: group_text(value)[:MAX_ENTITY_CHARACTERS]
            for name, read in entities
            if (value := read(record)) or (value is not None and value not in ("", []))
        }


class _Batch:
    """What is being made of one raw batch: by correlation and group, and packed by partition, correlation and dataset."""

    __slots__ = ("gathered", "packed", "partitions")

    def __init__(self, partitions: int) -> None:
        self.partitions = partitions
        self.gathered: dict[tuple[str, tuple[str, ...]], Gathering] = {}
        self.packed: dict[tuple[int, str, str], Packing] = {}

    def pack(self, sink: _Sink, record: Record, dataset: str, group: tuple[str, ...]) -> None:
        key = (partition_of(sink.id, group, self.partitions), sink.id, dataset)
        packing = self.packed.get(key)
        if packing is None:
            packing = self.packed[key] = Packing(dataset)
        packing.add(record, time_of(record), group, sink.others_of(record))


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
        """Partials (records of type Partial in signals.v2) of one raw batch, by signals partition.

        Args:
            events: event records by dataset, in the order of the wire.
            partitions: number of partitions of the signals topic.

        Raises:
            ValueError: no partitions.
        """
        if partitions < 1:
            raise ValueError(f"{partitions} signals partitions; the topic must exist and have at least one")
        batch = _Batch(partitions)
        for dataset, records in events.items():
            index = self._indexes.get(dataset)
            if index is None:
                continue
            candidates = index.candidates
            for record in records:
                counted: set[Any] = set()
                for rule in candidates(record):
                    if rule.variant.matches(record):
                        for sink in rule.sinks:
                            # An event counts once in a correlation, however many of its rules it matches. Where the rules are told
                            # apart it counts for each of them.
                            if sink.carried.rule_times or sink.id not in counted:
                                self._count(sink, record, dataset, batch, counted)
        return self._by_partition(batch)

    def _count(self, sink: _Sink, record: Record, dataset: str, batch: _Batch, counted: set[Any]) -> None:
        group = tuple([group_text(read(record)) for read in sink.group])
        key = (sink.id, group)
        counted.add(sink.id)
        if sink.carried.packed:
            batch.pack(sink, record, dataset, group)
            return
        values = [read(record) for read in sink.values]
        if sink.carried.apart and not values_of(values):
            return
        gathering = batch.gathered.get(key)
        if gathering is None:
            gathering = batch.gathered[key] = Gathering(group, sink.entities_of(record), sink.carried, sink.correlation.slice_us)
        if sink.carried.apart:
            gathering.add_apart(record, dataset, values)
            return
        if not sink.carried.rule_times:
            slice_ = gathering.add(record, dataset)
            if values:
                gathering.add_values(slice_, record, values)
            return
        if key not in counted:
            counted.add(key)
            gathering.add(record, dataset)
        gathering.add_rule(record, sink.label)

    def _by_partition(self, batch: _Batch) -> dict[int, list[Record]]:
        room: dict[int, Room] = {}
        texts: dict[int, str] = {}
        result: dict[int, list[Record]] = {}
        for (correlation_id, group), gathering in batch.gathered.items():
            partition = partition_of(correlation_id, group, batch.partitions)
            left = room.get(partition)
            if left is None:
                left = room[partition] = Room(texts)
            partial = gathering.record(correlation_id, left)
            result.setdefault(partition, []).append(partial)
        for (partition, correlation_id, _), packing in batch.packed.items():
            result.setdefault(partition, []).extend(packing.records(correlation_id))
        return result
