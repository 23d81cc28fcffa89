"""The detector without Kafka: a signals record and a table in, alerts and table writes out.

The caller owns the table. For each record it calls `apply`, publishes the alerts and what they are worth as signals of other
correlations, and when both are safe makes the writes, in their order. Because alerts are safe before the state that implies them
is written, a crash between the two repeats an alert and never loses one. Because the log position of what has been forgotten is
in the table too, a repeat of it is known as one.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import orjson

from weir.detect.kinds import is_of_some_kind, kind_of
from weir.detect.kinds.common import SignalsHeader, State
from weir.detect.kinds.state import StateError
from weir.detect.rules import Correlation, RuleSet
from weir.detect.signals.feeding import signals_of_alerts
from weir.detect.signals.packed import spread
from weir.detect.telling.alerts import Origin

__all__ = ["Effects", "Engine", "Marks", "group_key", "key_partition"]

# Of a partial, what is a list.
_JOINED = ("buckets", "evidence", "samples", "shown", "datasets", "member_alerts")


def group_key(partition: int, correlation_id: str, group: Iterable[str]) -> bytes:
    """Table key of a group; it names the signals partition, since a table does not tell which partition a key is of."""
    return orjson.dumps([partition, correlation_id, *group])


def _marks_key(partition: int) -> bytes:
    return orjson.dumps([partition])


def key_partition(key: bytes) -> int:
    """The signals partition a table key is of."""
    return int(orjson.loads(key)[0])


@dataclass(slots=True)
class Marks:
    """How far one signals partition has come.

    `lows`: by raw topic and partition, the receive time before which nothing is still to come, as its latest tick says.
    `heads`: by raw topic and partition, the highest raw offset that signals came from, the latest receive time, and which part of
    the signals of that offset was the last.
    """

    lows: dict[str, dict[str, int]] = field(default_factory=dict)
    heads: dict[str, dict[str, tuple[int, int, int]]] = field(default_factory=dict)

    def watermark(self, topics: Iterable[str]) -> int:
        """Receive time before which nothing is to come from any of these raw topics; 0 where one has not been heard of."""
        return min((min(self.lows.get(topic, {}).values(), default=0) for topic in topics), default=0)

    def is_repeat(self, header: SignalsHeader) -> bool:
        """Whether signals of this raw record came before.

        A processor publishes in the order of its raw partition, so an offset below the highest is a repeat. A later receive time
        at a lower offset means that the raw topic was created anew. So does a detector with signals made of alerts: their
        position is that of the signals record that led to them.
        """
        offset, received, part = self.heads.get(header.log, {}).get(str(header.raw_partition), (-1, 0, 0))
        return (header.raw_offset, header.part) <= (offset, part) and header.received_at <= received

    def note(self, header: SignalsHeader) -> None:
        """Signals of this raw record have come."""
        if self.is_repeat(header):
            return
        heads = self.heads.setdefault(header.log, {})
        _, received, _ = heads.get(str(header.raw_partition), (-1, 0, 0))
        heads[str(header.raw_partition)] = (header.raw_offset, max(received, header.received_at), header.part)

    def to_bytes(self) -> bytes:
        """As a table value."""
        return orjson.dumps([self.lows, self.heads])

    @classmethod
    def from_bytes(cls, data: bytes) -> Marks:
        """From a table value. Raises StateError for anything else."""
        try:
            lows, heads = orjson.loads(data)
            # Earlier releases knew no parts.
            return cls(
                lows,
                {topic: {p: (o, r, *(part or [0])) for p, (o, r, *part) in found.items()} for topic, found in heads.items()},
            )
        except (ValueError, TypeError, AttributeError) as error:
            raise StateError(f"not the detector's marks: {error}") from error


@dataclass(slots=True)
class Effects:
    """What one signals record leads to.

    `alerts` are to be published and `signals` (partition of the topic of signals, record) too, and both are to be safe before the
    `writes` (None deletes the key) are made. `repeats` say again what stands already, for signals seen before; `counted` and
    `seen` are numbers of partials; `unknown` names correlations not in the rules.
    """

    alerts: list[dict[str, Any]] = field(default_factory=list)
    repeats: list[dict[str, Any]] = field(default_factory=list)
    signals: list[tuple[int, dict[str, Any]]] = field(default_factory=list)
    writes: list[tuple[bytes, bytes | None]] = field(default_factory=list)
    counted: int = 0
    seen: int = 0
    unknown: set[str] = field(default_factory=set)
    told: list[tuple[dict[str, Any], list[str]]] = field(default_factory=list)
    """What the groups told, announced or not, with the raw topics it came from."""


@dataclass(slots=True)
class _Index:
    """When each group of one partition is due, by the first of its raw topics; `scheduled` tells which heap entry is valid.

    `orphans` are keys that no correlation reads any more, to be deleted; a dict for its order.
    """

    marks: Marks = field(default_factory=Marks)
    heaps: dict[str, list[tuple[int, bytes]]] = field(default_factory=dict)
    scheduled: dict[bytes, int] = field(default_factory=dict)
    orphans: dict[bytes, None] = field(default_factory=dict)

    def schedule(self, key: bytes, topic: str, at: int) -> None:
        if at < self.scheduled.get(key, at + 1):
            self.scheduled[key] = at
            heapq.heappush(self.heaps.setdefault(topic, []), (at, key))


class Engine:
    """Merges signals into the groups of a table.

    Args:
        rule_set: whose correlations are merged.
        origin: names the detector in alerts.
        load: value of a table key, None where there is none.
        items: all keys and values of the table, for the index of a partition that is new here.
        partitions: of the topic of signals.
    """

    def __init__(
        self,
        rule_set: RuleSet,
        origin: Origin,
        load: Callable[[bytes], bytes | None],
        items: Callable[[], Iterable[tuple[bytes, bytes]]],
        partitions: int = 1,
    ) -> None:
        self._origin = origin
        self._load = load
        self._items = items
        self._partitions = partitions
        self._indexes: dict[int, _Index] = {}
        self.replace_rules(rule_set)

    def replace_rules(self, rule_set: RuleSet) -> None:
        """Go on with other rules from the next record on; the table stays as it is.

        States of correlations that are gone, or that are of another kind now, are deleted with the next tick. Those of a
        correlation with another timespan are put on its grid when they are next looked at.
        """
        self._correlations = {c.id: c for c in rule_set.correlations}
        self._origin = self._origin._replace(rule_version=rule_set.version)
        # When each group is due depends on the rules. What is remembered of repeats beyond the last tick is in the states too.
        self._indexes.clear()

    def knows(self, correlation_id: str) -> bool:
        """Whether the rules have this correlation."""
        return correlation_id in self._correlations

    def forget(self) -> None:
        """Drop all that is not in the table: partitions may have moved."""
        self._indexes.clear()

    def apply(self, partition: int, record: dict[str, Any], offset: int = 0) -> Effects:
        """What the signals record at this offset of this signals partition leads to, given the table as it is.

        Raises:
            StateError: the table holds something this release does not read.
            ValueError: `kind` is none that there is.
        """
        if record["kind"] == "tick":
            effects = self._tick(partition, record)
        elif record["kind"] in {"partials", "alerts"}:
            effects = self._partials(partition, record)
        else:
            raise ValueError(f"kind {record['kind']!r} of signals; there are partials, alerts and tick")
        effects.alerts = [alert for alert, _ in effects.told if self._correlations[alert["rule_id"]].announce]
        effects.repeats = [alert for alert in effects.repeats if self._correlations[alert["rule_id"]].announce]
        effects.signals = signals_of_alerts(effects.told, self._correlations, partition, offset, self._partitions)
        return effects

    def _partials(self, partition: int, record: dict[str, Any]) -> Effects:
        index = self._index(partition)
        header = SignalsHeader.of(record)
        repeat = index.marks.is_repeat(header)
        effects = Effects()
        for partial in _one_a_group(spread(record)):
            correlation = self._correlations.get(partial["correlation_id"])
            if correlation is None:
                effects.unknown.add(partial["correlation_id"])
                continue
            key = group_key(partition, correlation.id, partial["group"])
            value = self._load(key)
            kind = kind_of(correlation)
            state = None if value is None or key in index.orphans else kind.load(value)
            if repeat and (state is None or header.short_id not in state.seen):
                # It was counted in a state that has since been forgotten, and perhaps begun anew.
                effects.seen += 1
                continue
            topics = {*header.topics, *(state.sources if state else ())}
            merged = kind.merge(state, header, partial, correlation, index.marks.watermark(topics), self._origin)
            if not merged.changed:
                effects.seen += 1
                effects.repeats += merged.alerts
                continue
            effects.counted += 1
            effects.told += [(alert, merged.state.sources) for alert in merged.alerts]
            if not merged.write:
                continue
            effects.writes.append((key, merged.state.to_bytes()))
            index.orphans.pop(key, None)
            index.schedule(key, merged.state.sources[0], kind.due(merged.state, correlation))
        index.marks.note(header)
        return effects

    def _tick(self, partition: int, record: dict[str, Any]) -> Effects:
        index = self._index(partition)
        marks = index.marks
        # The latest tick holds, not the highest: a processor whose clock ran ahead for a while must not blind the detector.
        lows = marks.lows.setdefault(record["raw_topic"], {})
        lows.update((str(tick["raw_partition"]), tick["low"]) for tick in record["ticks"])
        # The marks go first: deletions that follow them rest on what they say about repeats.
        effects = Effects(writes=[(_marks_key(partition), marks.to_bytes())])
        effects.writes += [(key, None) for key in index.orphans]
        index.orphans.clear()
        for topic, heap in list(index.heaps.items()):
            reached = marks.watermark([topic])
            later: list[tuple[bytes, str, int]] = []
            while heap and heap[0][0] <= reached:
                at, key = heapq.heappop(heap)
                if index.scheduled.get(key) != at:
                    continue
                del index.scheduled[key]
                again = self._advance(key, marks, effects)
                if again is not None:
                    later.append((key, *again))
            for entry in later:
                index.schedule(*entry)
        return effects

    def _advance(self, key: bytes, marks: Marks, effects: Effects) -> tuple[str, int] | None:
        """Advance one group; the topic and time it is due again."""
        value = self._load(key)
        correlation = self._correlation(key)
        if value is None or correlation is None:
            return None
        kind = kind_of(correlation)
        state = kind.load(value)
        topic = state.sources[0]
        watermark = marks.watermark(state.sources)
        if kind.due(state, correlation) > watermark:
            return topic, kind.due(state, correlation)
        sources = state.sources
        state, alerts = kind.advance(state, correlation, watermark, self._origin)
        effects.told += [(alert, sources) for alert in alerts]
        effects.writes.append((key, None if state is None else state.to_bytes()))
        return None if state is None else (topic, kind.due(state, correlation))

    def _correlation(self, key: bytes) -> Correlation | None:
        return self._correlations.get(orjson.loads(key)[1])

    def _index(self, partition: int) -> _Index:
        index = self._indexes.get(partition)
        if index is None:
            index = self._indexes[partition] = self._build(partition)
        return index

    def _build(self, partition: int) -> _Index:
        index = _Index()
        for key, value in self._items():
            if key_partition(key) != partition:
                continue
            if key == _marks_key(partition):
                index.marks = Marks.from_bytes(value)
                continue
            correlation = self._correlation(key)
            state = None if correlation is None else _state(value, correlation)
            if correlation is None or state is None:
                index.orphans[key] = None
                continue
            index.schedule(key, state.sources[0], kind_of(correlation).due(state, correlation))
        return index


def _one_a_group(partials: Iterable[dict[str, Any]]) -> Iterable[dict[str, Any]]:
    """The partials of one record, those of one group joined: a group is read and written once for each record.

    Several alerts of one record may count in one group of another correlation, and events of one batch in several datasets.
    """
    found: dict[tuple[str, ...], dict[str, Any]] = {}
    for partial in partials:
        key = (partial["correlation_id"], *partial["group"])
        known = found.get(key)
        if known is None:
            found[key] = partial
            continue
        joined = found[key] = known | {name: [*known.get(name, ()), *partial.get(name, ())] for name in _JOINED}
        joined["datasets"] = list(dict.fromkeys(joined["datasets"]))
        joined["entities"] = partial["entities"] | known["entities"]
    return found.values()


def _state(value: bytes, correlation: Correlation) -> State | None:
    """The state of a table value; None where it is of another kind, which the correlation was before its rule was changed."""
    try:
        state: State = kind_of(correlation).load(value)
    except StateError:
        if is_of_some_kind(value):
            return None
        raise
    return state
