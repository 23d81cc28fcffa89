"""What the states of Weir's own kinds are made of: positions that tell repeats from news, notes of events, packed bytes."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import orjson

from weir.detect.kinds.common import ALLOWED_LATENESS_US, SignalsHeader
from weir.detect.kinds.state import StateError

__all__ = ["DAY_US", "SECOND_US", "BaseState", "Notes", "add_count", "pack", "period_text", "trusted_time", "unpack"]

SECOND_US = 1_000_000
DAY_US = 86_400 * SECOND_US

# Raw topics of a group; a further one is not waited for when the group's watermark is taken.
MAX_SOURCES = 64
# Receivers of copies told apart in a count; those of further ones count as the last one's.
MAX_RECEIVERS = 8

_HEAD = struct.Struct(">BI")


@dataclass(slots=True)
class BaseState:
    """What every state has: values of the group-by, latest receive time, and the raw topics it was fed from.

    `seen` is empty: these kinds know repeats by `Heads`, or merge so that a repeat changes nothing.
    """

    group: tuple[str, ...]
    received: int = 0
    sources: list[str] = field(default_factory=list)

    seen: ClassVar[Mapping[int, int]] = {}

    def hear(self, header: SignalsHeader) -> None:
        """Something came with this record."""
        self.received = max(self.received, header.received_at)
        if (new := set(header.topics) - set(self.sources)) and len(self.sources) < MAX_SOURCES:
            self.sources = sorted([*self.sources, *new])


@dataclass(slots=True)
class Notes:
    """What an alert shows of its events."""

    evidence: list[dict[str, Any]] = field(default_factory=list)
    samples: list[str] = field(default_factory=list)
    entities: dict[str, str] = field(default_factory=dict)
    datasets: list[str] = field(default_factory=list)

    MAX_EVIDENCE: ClassVar[int] = 20
    MAX_SAMPLES: ClassVar[int] = 3
    MAX_DATASETS: ClassVar[int] = 8

    def add(self, partial: Mapping[str, Any], latest: bool = False) -> None:
        """Keep some of a partial's events: the first that come, or the latest."""
        self.evidence = _bounded(self.evidence, partial["evidence"], self.MAX_EVIDENCE, latest)
        self.samples = _bounded(self.samples, partial["samples"], self.MAX_SAMPLES, latest)
        self.datasets = list(dict.fromkeys([*self.datasets, *partial.get("datasets", ())]))[: self.MAX_DATASETS]
        self.entities = {**self.entities, **partial["entities"]} if latest else {**partial["entities"], **self.entities}

    def fields(self) -> list[Any]:
        """For `Notes(*fields)`."""
        return [self.evidence, self.samples, self.entities, self.datasets]

    def told(self) -> dict[str, Any]:
        """As arguments of `alerts.Told`."""
        return {"evidence": self.evidence, "samples": self.samples, "entities": self.entities, "datasets": self.datasets}


def _bounded(kept: list[Any], new: list[Any], most: int, latest: bool) -> list[Any]:
    together = kept + [entry for entry in new if entry not in kept]
    return together[-most:] if latest else together[:most]


def add_count(counts: dict[int, float], header: SignalsHeader, amount: float) -> None:
    """Add to what this receiver brought. What counts is the most of any receiver, see `windows` on copies."""
    receiver = header.receiver_number if header.receiver else 0
    if receiver not in counts and len(counts) >= MAX_RECEIVERS:
        receiver = next(reversed(counts))
    counts[receiver] = counts.get(receiver, 0) + amount


def trusted_time(event: int, received: int) -> int:
    """An event's time, where it is within a day before its receipt; else the receipt's, since the sender's clock is wrong."""
    return event if received - DAY_US <= event <= received + ALLOWED_LATENESS_US else received


def period_text(period_us: float) -> str:
    """A length of time as people say it: 45 s, 15 min, 6 h, 7 days."""
    seconds = period_us / SECOND_US
    for unit, size in (("days", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.3g} s"


def pack(form: int, fields: list[Any], tail: bytes = b"") -> bytes:
    """A table value: format, length of the JSON, JSON, then what is packed by the kind itself."""
    body = orjson.dumps(fields)
    return _HEAD.pack(form, len(body)) + body + tail


def unpack(form: int, data: bytes) -> tuple[list[Any], bytes]:
    """What `pack` packed. Raises StateError for bytes of another format."""
    try:
        found, length = _HEAD.unpack_from(data)
        if found != form:
            raise StateError(f"state of format {found}; {form} was expected")
        fields = orjson.loads(data[_HEAD.size : _HEAD.size + length])
    except (struct.error, ValueError) as error:
        if isinstance(error, StateError):
            raise
        raise StateError(f"not a detector state: {error}") from error
    if not isinstance(fields, list):
        raise StateError("not a detector state")
    return fields, data[_HEAD.size + length :]
