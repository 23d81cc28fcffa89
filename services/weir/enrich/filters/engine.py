"""Filters at work: which events of a raw batch are published, and which of them the rules of detection see."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final

from weir.enrich.filters.merging import Merging, flow_key
from weir.enrich.filters.rules import Rule
from weir.enrich.filters.sampling import in_sample, sampled

__all__ = ["FilterSet", "Filtered"]

Record = dict[str, Any]
Events = dict[str, list[Record]]

_SOURCES: Final = 16_384


@dataclass(slots=True)
class Filtered:
    """What becomes of the events of a batch, by dataset.

    `seen` is what detection sees: all but what was dropped, as it was before sampling and merging. `published` is what is written.
    `left_out` counts what is not, by dataset and rule: dropped, not in the sample, or merged into another event.
    """

    seen: Events = field(default_factory=dict)
    published: Events = field(default_factory=dict)
    left_out: Counter[tuple[str, str]] = field(default_factory=Counter)


class FilterSet:
    """Rules in their order, as they apply to sources and datasets. Belongs to one thread.

    Args:
        rules: in the order of the file.
    """

    def __init__(self, rules: tuple[Rule, ...] = ()) -> None:
        self.rules = rules
        self._of = lru_cache(_SOURCES)(self._choose)

    def _choose(self, dataset: str, source_ip: str, source_name: str | None) -> tuple[Rule, ...]:
        return tuple(rule for rule in self.rules if rule.concerns(dataset, source_ip, source_name))

    def deciding(self, dataset: str, record: Record, source_ip: str, source_name: str | None) -> Rule | None:
        """The rule that decides on an event; None where none does, and it is kept."""
        return next((rule for rule in self._of(dataset, source_ip, source_name) if rule.takes(record)), None)

    def apply(self, events: Events, source_ip: str, source_name: str | None) -> Filtered:
        """Decide on all events of a batch, which is one source's. Neither lists nor records are changed: what changes is a copy."""
        found = Filtered()
        for dataset, records in events.items():
            rules = self._of(dataset, source_ip, source_name)
            if rules:
                _sort(dataset, records, rules, found)
            else:
                found.seen[dataset] = found.published[dataset] = records
        return found


def _sort(dataset: str, records: list[Record], rules: tuple[Rule, ...], found: Filtered) -> None:
    seen = found.seen[dataset] = []
    published = found.published[dataset] = []
    # By key: where the first record of the flow stands in `published`, and what it is merged in from the second one on.
    flows: dict[tuple[Any, ...], tuple[int, Merging | None]] = {}
    for record in records:
        for rule in rules:
            if rule.takes(record):
                break
        else:
            seen.append(record)
            published.append(record)
            continue
        if rule.action == "drop":
            found.left_out[dataset, rule.name] += 1
            continue
        seen.append(record)
        if rule.action == "keep":
            published.append(record)
        elif rule.action == "sample":
            if in_sample(record["event_id"], rule.n):
                published.append(sampled(record, rule.n))
            else:
                found.left_out[dataset, rule.name] += 1
        else:
            key = flow_key(record)
            if (first := flows.get(key)) is None:
                flows[key] = (len(published), None)
                published.append(record)
                continue
            place, merging = first
            if merging is None:
                merging = Merging(published[place])
                published[place] = merging.record
                flows[key] = (place, merging)
            merging.add(record)
            found.left_out[dataset, rule.name] += 1
