"""Which datasets a Sigma log source speaks of, and which record field a Sigma field name.

The table is in `logsource_table`; docs/log-sources.md shows it. A log source that is not in it is a problem of the rule, not a rule
that never matches. The same holds for a field that none of the datasets has: a rule about a verdict is not applicable to flows,
which carry none.

`pipeline` is no topic of events but what the ledger tells of Weir itself (`weir.detect.signals.pipeline`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Final

from sigma.rule.logsource import SigmaLogSource

from weir.detect.matching.fields import PARTS
from weir.detect.matching.values import UnsupportedError
from weir.detect.reading.logsource_table import TABLE, TAXONOMY, Target, zeek
from weir.detect.signals.pipeline import PIPELINE, PIPELINE_FIELDS
from weir.model.schemas import latest
from weir.model.topics import DATASETS

__all__ = ["DEFAULT_ENTITIES", "DEFAULT_GROUP", "LogSource", "NotApplicableError", "datasets_of", "record_fields"]


class NotApplicableError(UnsupportedError):
    """Sound Sigma about events that no dataset of ours has; the message says what is not there."""


TIME: Final = "timestamp|event_created"
"""When an event happened: by its sender's clock, or where that says nothing when it was received."""


@dataclass(frozen=True, slots=True)
class LogSource:
    """A dataset and what its events must have besides; `names` are record fields of Sigma's own names there.

    `where` are texts, as they are written in records, that a field may equal; `there` is a field that must be there. `others` is
    where a name that is not known is looked up, with `{}` for it. `keywords` are the fields in which keywords are looked for.
    `ours` says that the rule named the dataset itself, so that a field it does not have is a mistake.
    """

    dataset: str
    where: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    there: str | None = None
    names: Mapping[str, str] = field(default_factory=dict)
    others: str | None = None
    keywords: tuple[str, ...] | None = None
    ours: bool = False

    def record_field(self, name: str) -> str:
        """The record field of a Sigma field: `file.path` is `file_path`. Raises UnsupportedError where the dataset has none."""
        if name == "@timestamp":
            return TIME
        found = self.names.get(name) or self.names.get(name.lower()) or _field_named(TAXONOMY.get(name, name), self.dataset)
        if found is None and self.others is not None:
            found = self.others.replace("{}", name)
        if found is None:
            error = UnsupportedError if self.ours else NotApplicableError
            raise error(f"field {name} is not in dataset {self.dataset}")
        return found


def _field_named(name: str, dataset: str) -> str | None:
    """The record field of an ECS name, or the entry of a map field or of a JSON text: `labels.x`, `document.a.b`."""
    plain, colon, part = name.partition(":")
    fields = record_fields(dataset)
    whole = plain.replace(".", "_")
    if whole in fields:
        return f"{whole}{colon}{part}" if not colon or part in PARTS else None
    words = plain.split(".")
    for cut in range(len(words) - 1, 0, -1):
        head = "_".join(words[:cut])
        if head in fields and (fields[head] == "map" or head in _JSON):
            rest = ".".join(words[cut:])
            return f"{head}.{_ENRICHMENT.get(rest, rest) if head == 'threat_enrichments' else rest}"
    return None


_JSON: Final = frozenset({"document", "flow_additional", "threat_enrichments"})
# ECS nests what `threat_enrichments` has flat (docs/enrichment.md).
_ENRICHMENT: Final = {
    "indicator.type": "type", "indicator.provider": "provider", "indicator.confidence": "confidence",
    "indicator.description": "description", "indicator.reference": "reference", "indicator.first_seen": "first_seen",
    "matched.atomic": "indicator", "matched.field": "field", "feed.name": "provider",
}  # fmt: skip

# What an alert names where its rule does not say, by dataset: name of the entity and event field.
_ADDRESSES = {
    "source_address": "source.ip",
    "destination_address": "destination.ip",
}
DEFAULT_ENTITIES: dict[str, dict[str, str]] = {
    "file-audit": {"user": "user.name", "source_address": "source.ip", "host": "host.name", "file": "file.path"},
    "network-flow": {**_ADDRESSES, "user": "user.name"},
    "cef": {**_ADDRESSES, "user": "user.name", "host": "host.name", "file": "file.path"},
    "ids-alert": {**_ADDRESSES, "host": "host.name"},
    "network-log": {**_ADDRESSES, "user": "user.name", "host": "host.name", "file": "file.path"},
    "syslog": {"host": "host.name", "source_address": "source.ip", "user": "user.name"},
    "authentication": {"user": "user.name", "source_address": "source.ip", "host": "host.name"},
    "sensor": {"host": "host.name"},
    PIPELINE: {"component": "service.name", "sender": "log.source.ip", "topic": "ledger.topic"},
}

# What makes an alert of its own of a rule that alerts by itself and does not say.
DEFAULT_GROUP: dict[str, tuple[str, ...]] = {
    "file-audit": ("user.id",),
    "network-flow": ("source.ip",),
    "cef": ("source.ip",),
    "ids-alert": ("source.ip",),
    "network-log": ("source.ip",),
    "syslog": ("host.name",),
    "authentication": ("user.name",),
    "sensor": ("host.name",),
    PIPELINE: ("service.name",),
}


def datasets_of(source: SigmaLogSource) -> tuple[LogSource, ...]:
    """The datasets of a rule's log source. Raises NotApplicableError where the table has none."""
    if source.product == "weir":
        if source.service in (*DATASETS, PIPELINE):
            return (LogSource(source.service, ours=True),)
        raise UnsupportedError(f"log source product weir has services {', '.join((*DATASETS, PIPELINE))}, not {source.service}")
    given = (source.category, source.product, source.service)
    for row in TABLE:
        if all(want is None or (have or "") == want for want, have in zip(row.source, given, strict=True)):
            return tuple(map(_made, row.targets))
    if source.product == "zeek" and source.service:
        return tuple(map(_made, zeek(source.service)))
    named = ", ".join(
        f"{key} {value}" for key, value in zip(("category", "product", "service"), given, strict=True) if value is not None
    )
    raise NotApplicableError(f"log source {named} is mapped to no dataset (docs/log-sources.md lists those that are)")


def _made(target: Target) -> LogSource:
    return LogSource(target.dataset, target.where, target.there, target.names, target.others, target.keywords)


@cache
def record_fields(dataset: str) -> Mapping[str, str]:
    """Fields of a dataset's records, with "map" for those that hold one and "" for others."""
    if dataset == PIPELINE:
        return dict.fromkeys(PIPELINE_FIELDS, "")
    return {entry["name"]: "map" if _is_map(entry["type"]) else "" for entry in latest(dataset).parsed["fields"]}


def _is_map(kind: Any) -> bool:
    if isinstance(kind, list):
        return any(map(_is_map, kind))
    return isinstance(kind, dict) and kind.get("type") == "map"
