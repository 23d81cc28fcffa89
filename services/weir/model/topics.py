"""The topics of Weir, as declared in `schemas/topics.yaml`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import yaml

from weir.model.schemas import schemas_dir

__all__ = ["DATASETS", "TopicNames", "TopicSpec", "declarations"]

DAY_MS = 86_400_000


@dataclass(frozen=True, slots=True)
class TopicSpec:
    """One declared topic. `name` is its name without prefix and version, such as "raw.syslog"."""

    name: str
    version: int
    schema: str
    key: str
    partitions: int
    scalable: bool
    retention_ms: int
    cleanup: str
    timestamp: str
    dlq: bool

    def config(self) -> dict[str, str]:
        """Topic configuration by Kafka's names."""
        config = {"cleanup.policy": self.cleanup, "message.timestamp.type": self.timestamp}
        if self.cleanup == "delete":
            config["retention.ms"] = str(self.retention_ms)
        return config


@cache
def declarations() -> dict[str, TopicSpec]:
    """Every declared topic by short name; dead-letter topics among them as "<name>.dlq".

    Raises ValueError naming the topic and the key where the file has one that is not known.
    """
    raw = yaml.safe_load((schemas_dir() / "topics.yaml").read_text(encoding="utf-8"))
    known = {"version", "schema", "key", "partitions", "scalable", "retention_days", "cleanup", "timestamp", "dlq"}
    specs: dict[str, TopicSpec] = {}
    dead: dict[str, Any] = raw["dead_letters"]
    for name, entry in raw["topics"].items():
        if unknown := set(entry) - known:
            raise ValueError(f"topics.yaml: {name} has unknown keys {sorted(unknown)}; known are {sorted(known)}")
        specs[name] = TopicSpec(
            name=name,
            version=entry["version"],
            schema=entry["schema"],
            key=entry["key"],
            partitions=entry["partitions"],
            scalable=entry.get("scalable", False),
            retention_ms=entry.get("retention_days", 7) * DAY_MS,
            cleanup=entry.get("cleanup", "delete"),
            timestamp=entry["timestamp"],
            dlq=entry.get("dlq", False),
        )
        if entry.get("dlq"):
            specs[f"{name}.dlq"] = TopicSpec(
                name=f"{name}.dlq",
                version=entry["version"],
                schema=entry["schema"],
                key="as the record's",
                partitions=dead["partitions"],
                scalable=False,
                retention_ms=dead["retention_days"] * DAY_MS,
                cleanup="delete",
                timestamp=dead["timestamp"],
                dlq=False,
            )
    return specs


DATASETS = (
    "network-flow",
    "cef",
    "file-audit",
    "ids-alert",
    "network-log",
    "syslog",
    "authentication",
    "sensor",
)
"""Datasets of events; each has the topic events.<dataset> and the schema of the same name."""


@dataclass(frozen=True, slots=True)
class TopicNames:
    """Full topic names under one prefix: `TopicNames("weir")["raw.syslog"] == "weir.raw.syslog.v1"`."""

    prefix: str = "weir"

    def __getitem__(self, name: str) -> str:
        spec = declarations().get(name)
        if spec is None:
            raise KeyError(f"no topic {name!r} is declared; there are {', '.join(sorted(declarations()))}")
        base, dlq = (name.removesuffix(".dlq"), ".dlq") if name.endswith(".dlq") else (name, "")
        return f"{self.prefix}.{base}.v{spec.version}{dlq}"

    def short(self, full: str) -> str:
        """The short name of a full topic name. Raises KeyError where it is not one of ours."""
        for name in declarations():
            if self[name] == full:
                return name
        raise KeyError(f"{full!r} is not a topic under the prefix {self.prefix!r}")

    def items(self) -> Iterator[tuple[str, TopicSpec]]:
        """Full name and declaration of every topic."""
        for name, spec in declarations().items():
            yield self[name], spec
