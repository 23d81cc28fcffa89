"""Readers and enrichers of others, installed beside Weir as packages of their own.

A package announces them as entry points of the groups `weir.readers` (an object as `weir.processors.fields.Reader` says) and
`weir.enrichers` (a factory: dataset in, `weir.processors.enrichment.Step` or None out). Only those that WEIR_PLUGINS names are
imported (docs/decisions/0014-plugins.md). What they do is guarded here: no exception of theirs stops the stream, and what they
return fits the schema or is refused with a reason.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Final, NamedTuple

from weir.model.schemas import latest
from weir.model.topics import DATASETS
from weir.ops import logging as ops_logging
from weir.ops.mistakes import SettingsError
from weir.processors import readers
from weir.processors.enrichment import Record, Step
from weir.processors.fields import NOTHING, Context, Decoded, Reader

__all__ = ["ENRICHERS", "READERS", "Installed", "PluginError", "Plugins", "activate", "installed", "load"]

READERS: Final = "weir.readers"
ENRICHERS: Final = "weir.enrichers"

WEIRS_OWN: Final = frozenset(
    {
        "event_id", "event_created", "event_hash", "site", "log_source_ip", "log_source_name", "organization_id", "raw_topic",
        "raw_partition", "raw_offset",
    }
)  # fmt: skip
"""Fields that say where an event came from: no plug-in's business."""

log = ops_logging.get("weir.processors")


class PluginError(ValueError):
    """A plug-in failed on a unit, or returned what is no event; the text begins with its name."""


class Installed(NamedTuple):
    """A plug-in that is installed, whether or not it is loaded."""

    name: str
    group: str
    package: str
    version: str


@dataclass(slots=True)
class Plugins:
    """Those that are loaded: readers in the order in which they were named, and steps by dataset, to be taken behind Weir's own."""

    readers: list[Reader] = field(default_factory=list)
    steps: dict[str, list[Step]] = field(default_factory=dict)
    loaded: list[Installed] = field(default_factory=list)


def _points() -> list[EntryPoint]:
    return [*entry_points(group=READERS), *entry_points(group=ENRICHERS)]


def installed() -> list[Installed]:
    """All plug-ins that are installed; nothing of them is imported."""
    found = [
        Installed(point.name, point.group, point.dist.name if point.dist else "", point.dist.version if point.dist else "")
        for point in _points()
    ]
    return sorted(found)


def load(names: str) -> Plugins:
    """The plug-ins of these names, separated by commas. A name loads both its reader and its enricher.

    Raises SettingsError where one is not installed, cannot be imported, or is not what its group says.
    """
    wanted = [name for part in names.split(",") if (name := part.strip())]
    plugins, mistakes = Plugins(), []
    points = _points() if wanted else []
    for name in wanted:
        mine = [point for point in points if point.name == name]
        if not mine:
            there = ", ".join(sorted({point.name for point in points})) or "none"
            mistakes.append(f"WEIR_PLUGINS: no plug-in {name!r} is installed; there are: {there}")
        elif twice := {point.group for point in mine if sum(other.group == point.group for other in mine) > 1}:
            mistakes.append(f"WEIR_PLUGINS: {name} is in more than one package, each with a {', '.join(sorted(twice))}")
        else:
            mistakes += [mistake for point in mine if (mistake := _add(plugins, point))]
    if mistakes:
        raise SettingsError(mistakes)
    return plugins


def _add(plugins: Plugins, point: EntryPoint) -> str | None:
    """What is wrong with it, or None."""
    where = f"WEIR_PLUGINS: {point.name} ({point.value})"
    try:
        found = point.load()
        if point.group == READERS:
            if not all(callable(getattr(found, name, None)) for name in ("line", "document")):
                return f"{where} is no reader: it needs the functions line and document"
            plugins.readers.append(_GuardedReader(point.name, found))
        else:
            for dataset in DATASETS:
                if (step := found(dataset)) is not None:
                    plugins.steps.setdefault(dataset, []).append(_guarded_step(point.name, dataset, step))
    except Exception as error:
        return f"{where} cannot be loaded: {error!r}"
    dist = point.dist
    plugins.loaded.append(Installed(point.name, point.group, dist.name if dist else "", dist.version if dist else ""))
    return None


def activate(names: str) -> Plugins:
    """Load plug-ins and have their readers asked before Weir's own; says in the log what is loaded. Raises as `load`."""
    plugins = load(names)
    readers.ask_first(plugins.readers)
    for one in plugins.loaded:
        log.info("plug-in loaded", plugin=one.name, group=one.group, package=one.package, version=one.version)
    if left := [one.name for one in installed() if one not in plugins.loaded]:
        log.info("plug-ins are installed and not loaded; WEIR_PLUGINS names those to load", plugins=left)
    return plugins


# Guards


class _GuardedReader:
    """A reader whose mistakes become dead letters that name it."""

    def __init__(self, name: str, reader: Reader) -> None:
        self.name = name
        self._reader = reader

    def line(self, text: str, context: Context) -> Decoded | None:
        return self._ask(self._reader.line, text, context)

    def document(self, document: dict[str, object], context: Context) -> Decoded | None:
        return self._ask(self._reader.document, document, context)

    def _ask(self, read: Callable[[Any, Context], object], unit: object, context: Context) -> Decoded | None:
        try:
            found = read(unit, context)
        except ValueError as error:
            raise PluginError(f"plug-in {self.name}: {error}") from error
        except Exception as error:
            _report(self.name, type(error).__name__, str(error))
            raise PluginError(f"plug-in {self.name} failed: {error!r}") from error
        return found if found is None or found is NOTHING else _checked(self.name, found)


_TOLD_AGAIN_SECONDS: Final = 60.0
_told: Final[dict[tuple[str, str], float]] = {}


def _report(name: str, kind: str, text: str) -> None:
    """Once a minute for each kind of failure: a plug-in that fails, fails on every unit, and its words may be a sender's."""
    now = time.monotonic()
    if now < _told.get((name, kind), now):
        return
    _told[name, kind] = now + _TOLD_AGAIN_SECONDS
    log.error("plug-in failed", plugin=name, error=f"{kind}: {text[:200]}")


def _checked(name: str, found: object) -> Decoded:
    """Dataset and fields as the schema has them: fields it lacks become labels. Raises PluginError for what is no event."""
    if not isinstance(found, tuple) or len(found) != 2 or not isinstance(found[1], dict):
        raise PluginError(f"plug-in {name} returned {type(found).__name__}: (dataset, fields) or None is expected")
    dataset, fields = found
    if dataset not in DATASETS:
        raise PluginError(f"plug-in {name} returned the dataset {dataset!r}; there are {', '.join(DATASETS)}")
    checks = _checks(dataset)
    event: dict[str, Any] = {"timestamp": None, "event_module": name, "event_dataset": name}
    labels: dict[str, str] = {}
    for key, value in fields.items():
        if (wrong := _wrong(dataset, key, value)) is not None:
            raise PluginError(f"plug-in {name}: {wrong}")
        if key in checks:
            event[key] = value
        else:
            labels[key] = str(value)
    if labels:
        event["labels"] = {**labels, **(event.get("labels") or {})}
    return dataset, event


def _wrong(dataset: str, key: object, value: object) -> str | None:
    """Why a plug-in may not set this field to this value, or None where it may."""
    if not isinstance(key, str) or not key.isascii():
        return f"field {key!r}: names are ASCII text"
    if key in WEIRS_OWN:
        return f"field {key} is Weir's own"
    check = _checks(dataset).get(key, _is_label)
    return None if check(value) else f"field {key} of {dataset} is {_kind(value)}, which its schema does not hold"


def _kind(value: object) -> str:
    return repr(value) if len(repr(value)) < 60 else type(value).__name__


_Check = Callable[[object], bool]


def _is_text(value: object) -> bool:
    # A lone surrogate is no character and fits no Avro string.
    return isinstance(value, str) and (value.isascii() or not any("\ud800" <= char <= "\udfff" for char in value))


def _is_label(value: object) -> bool:
    return isinstance(value, int | float | bool) or _is_text(value)


def _integer(bits: int) -> _Check:
    low, high = -(1 << bits - 1), (1 << bits - 1) - 1
    return lambda value: type(value) is int and low <= value <= high


_PLAIN: Final[dict[str, _Check]] = {
    "null": lambda value: value is None,
    "string": _is_text,
    "boolean": lambda value: isinstance(value, bool),
    "int": _integer(32),
    "long": _integer(64),
    "float": lambda value: type(value) in (int, float),
    "double": lambda value: type(value) in (int, float),
    "bytes": lambda value: isinstance(value, bytes),
}


def _check(avro: Any) -> _Check:
    if isinstance(avro, list):
        options = [_check(option) for option in avro]
        return lambda value: any(option(value) for option in options)
    if isinstance(avro, str):
        return _PLAIN[avro]
    if avro["type"] == "array":
        item = _check(avro["items"])
        return lambda value: isinstance(value, list) and all(map(item, value))
    if avro["type"] == "map":
        item = _check(avro["values"])
        return lambda value: isinstance(value, dict) and all(map(_is_text, value)) and all(map(item, value.values()))
    return _check(avro["type"])


@cache
def _checks(dataset: str) -> dict[str, _Check]:
    return {one["name"]: _check(one["type"]) for one in latest(dataset).parsed["fields"]}


def _guarded_step(name: str, dataset: str, step: Step) -> Step:
    """A step that sees copies: what it changed is taken over where the schema holds it, and all of it left where it fails.

    What it raises goes on to `Enrichment.apply`, which counts it and tells of it.
    """

    def guarded(records: list[Record]) -> None:
        copies = [{key: value.copy() if type(value) in (list, dict) else value for key, value in one.items()} for one in records]
        step(list(copies))  # a list of its own: what it sorts or removes there must not shift changes to other events
        changes = [_changes(name, dataset, record, changed) for record, changed in zip(records, copies, strict=True)]
        for record, change in zip(records, changes, strict=True):
            record.update(change)

    guarded.step_name = f"plug-in {name}"  # type: ignore[attr-defined]
    return guarded


def _changes(name: str, dataset: str, record: Record, changed: Record) -> Record:
    """What a step did to a record, as far as the schema holds it."""
    checks = _checks(dataset)
    found: Record = {}
    labels: dict[str, str] = {}
    for key, value in changed.items():
        if key in record and (record[key] is value or record[key] == value):
            continue
        if (wrong := _wrong(dataset, key, value)) is not None:
            _report(name, "refused", wrong)
        elif key in checks:
            found[key] = value
        else:
            labels[key] = str(value)
    if labels:
        found["labels"] = {**(found.get("labels") or record.get("labels") or {}), **labels}
    return found
