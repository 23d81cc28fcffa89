"""Partials of many groups in one, for a kind that has nearly as many groups as events: beacons look at every pair of addresses.

A partial as the others are costs some 60 µs and 280 bytes to write and read; packed, a group of one event costs a few µs and about
100 bytes. Such a partial has no group of its own and no slices; each text in `shown` is a JSON array: id of the first event,
values of the group-by, event times, and entities that are not in the group-by. The engine takes it apart (`spread`) and merges
the groups one by one.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from typing import Any

import orjson

__all__ = ["Packing", "spread"]

# Times of one group in one raw batch; those that come after them are left out.
MAX_TIMES = 128
# Bytes of text in one partial: a signals record must stay under 1 MB, and comes in parts where its partials do not fit.
MAX_BYTES = 400_000

Record = dict[str, Any]


class Packing:
    """What counts in one correlation, of one dataset, in one raw batch and for one signals partition."""

    __slots__ = ("dataset", "groups")

    def __init__(self, dataset: str) -> None:
        self.dataset = dataset
        self.groups: dict[tuple[str, ...], tuple[str, tuple[str, ...], list[int], dict[str, str]]] = {}

    def add(self, record: Record, time: int, group: tuple[str, ...], entities: dict[str, str]) -> None:
        """Note an event."""
        found = self.groups.get(group)
        if found is None:
            self.groups[group] = (record["event_id"], group, [time], entities)
        elif len(found[2]) < MAX_TIMES:
            found[2].append(time)

    def records(self, correlation_id: str) -> Iterator[Record]:
        """As records of type Partial; a group is in one of them only."""
        shown: list[str] = []
        size = 0
        for entry in self.groups.values():
            text = orjson.dumps(entry)
            if shown and size + len(text) > MAX_BYTES:
                yield self._record(correlation_id, shown)
                shown, size = [], 0
            shown.append(text.decode())
            size += len(text)
        yield self._record(correlation_id, shown)

    def _record(self, correlation_id: str, shown: list[str]) -> Record:
        return {
            "correlation_id": correlation_id,
            "group": [],
            "buckets": [],
            "evidence": [],
            "samples": [],
            "entities": {},
            "shown": shown,
            "datasets": [self.dataset],
        }


def spread(record: Mapping[str, Any]) -> Iterator[Record]:
    """The partials of a signals record; packed ones are taken apart."""
    for partial in record["partials"]:
        if partial["group"] or partial["buckets"] or not partial.get("shown"):
            yield partial
            continue
        where = {name: record[name] for name in ("raw_topic", "raw_partition", "raw_offset")}
        datasets = partial["datasets"]
        for text in partial["shown"]:
            event_id, group, times, entities = orjson.loads(text)
            first, last = min(times), max(times)
            yield {
                "correlation_id": partial["correlation_id"],
                "group": group,
                "buckets": [
                    {"count": len(times), "first": first, "last": last, "times": struct.pack(f">{len(times)}q", *sorted(times))}
                ],
                "evidence": [{"event_id": event_id, **where, "dataset": datasets[0]}],
                "samples": [],
                "entities": entities,
                "datasets": datasets,
            }
