"""What filters would do to events that `weir decode` has printed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

import orjson

from weir.enrich.direction import own_networks
from weir.enrich.filters import FilterSet, Rule
from weir.enrich.filters.expression import Kind
from weir.enrich.filters.rules import fields_of
from weir.model.topics import DATASETS
from weir.processors.derived import derived_steps

__all__ = ["KEPT", "Trial", "as_read", "read_events"]

KEPT = "-"
"""Stands for no rule: what no rule decides on is kept."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Trial:
    """What filters do to events, counted by rule and dataset; all events of a source are one batch.

    Fields that follow from the event itself are filled in first, as in a processor; what tables add is not known here.

    Args:
        rules: in the order of the file.
        networks: the operator's own, as in WEIR_OWN_NETWORKS.

    Raises:
        ValueError: a network is none.
    """

    def __init__(self, rules: tuple[Rule, ...], networks: str = "private") -> None:
        self._filters = FilterSet(rules)
        own = own_networks(networks)
        self._steps = cache(lambda dataset: derived_steps(dataset, own))
        self._events: dict[tuple[str, str | None, str], list[dict[str, Any]]] = {}

    def add(self, dataset: str, record: dict[str, Any]) -> Rule | None:
        """Take one event; the rule that decides on it, None for none."""
        for step in self._steps(dataset):
            step([record])
        source = (str(record.get("log_source_ip") or ""), record.get("log_source_name"))
        self._events.setdefault((*source, dataset), []).append(record)
        return self._filters.deciding(dataset, record, *source)

    def rows(self) -> list[dict[str, Any]]:
        """One a rule and dataset in the order of the file, rules that met nothing among them; the last ones are of no rule."""
        met: Counter[tuple[str, str]] = Counter()
        left_out: Counter[tuple[str, str]] = Counter()
        for (source_ip, source_name, dataset), records in self._events.items():
            for record in records:
                rule = self._filters.deciding(dataset, record, source_ip, source_name)
                met[KEPT if rule is None else rule.name, dataset] += 1
            for (_, name), count in self._filters.apply({dataset: records}, source_ip, source_name).left_out.items():
                left_out[name, dataset] += count
        names = [(rule.name, rule.what) for rule in self._filters.rules] + [(KEPT, "keep")]
        rows = []
        for name, what in names:
            datasets = sorted(dataset for rule, dataset in met if rule == name) or ([] if name == KEPT else ["-"])
            for dataset in datasets:
                events, out = met[name, dataset], left_out[name, dataset]
                rows.append(
                    {"rule": name, "dataset": dataset, "do": what, "events": events, "published": events - out, "left_out": out}
                )
        return rows


def read_events(lines: Iterable[bytes], name: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Dataset and record of each line, as `weir decode` prints them, with times as microseconds again.

    Raises:
        ValueError: a line is no event, with its number.
    """
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            record = orjson.loads(line)
        except orjson.JSONDecodeError as error:
            raise ValueError(f"{name}:{number}: not JSON: {error}") from error
        dataset = record.pop("dataset", None) if isinstance(record, dict) else None
        if dataset not in DATASETS:
            raise ValueError(f"{name}:{number}: no event: it must be an object with `dataset`, one of {', '.join(DATASETS)}")
        record.setdefault("event_id", str(number))
        kinds = fields_of(dataset)
        yield dataset, {field: as_read(kinds.get(field), value) for field, value in record.items()}


def as_read(kind: Kind | None, value: Any) -> Any:
    """A value as a processor has it: what decoding prints as a time is a number, and what it prints as an object is text."""
    if kind is Kind.NUMBER and isinstance(value, str):
        try:
            time = datetime.fromisoformat(value)
        except ValueError:
            return None
        return (time.astimezone(UTC) - _EPOCH) // timedelta(microseconds=1)
    if kind is Kind.TEXT and value is not None and not isinstance(value, str):
        return orjson.dumps(value).decode()
    return value
