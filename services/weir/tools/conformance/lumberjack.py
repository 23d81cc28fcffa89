"""What a real Filebeat sent, byte by byte: the documents in it, and the events made of them.

A capture is `NAME.raw`,
bytes of one connection as Filebeat wrote them; `NAME.meta.json` has its frames and the number of its events,
`NAME.events.ndjson` the events in the order of the wire, as another server read them. Each may be compressed (`.gz`).
"""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import orjson

from weir.model.batch import RawBatch
from weir.processors import beats
from weir.processors.outcome import RawCoordinates
from weir.protocols.lumberjack import Document, LumberjackError, LumberjackParser, Window
from weir.tools.conformance import Case

__all__ = ["cases"]

_FOLDER: Final = Path("lumberjack", "captures")
_PIECE: Final = 1_448
"""Bytes a read: what fits into one segment of a TCP connection over Ethernet."""

_REASONS: Final[dict[str, str]] = {}
"""By the name of a case: why its difference is right."""


def cases(corpus: Path) -> Iterator[Case]:
    """Two cases a capture: its documents, and its events."""
    folder = corpus / _FOLDER
    for path in sorted(folder.glob("*.raw*")) if folder.is_dir() else ():
        name = path.name.removesuffix(".gz").removesuffix(".raw")
        try:
            windows, documents = _parse(_read(path))
        except LumberjackError as error:
            yield _case(f"{name}, documents", f"not Lumberjack: {error}")
            continue
        yield _case(f"{name}, documents", _documents_differ(path.with_name(name), windows, documents))
        yield _case(f"{name}, events", _events_differ(documents))


def _case(name: str, difference: str | None) -> Case:
    return Case(name, difference, _REASONS.get(name) if difference else None)


def _read(path: Path) -> bytes:
    data = path.read_bytes()
    return gzip.decompress(data) if path.suffix == ".gz" else data


def _beside(path: Path, ending: str) -> bytes | None:
    for name in (f"{path.name}.{ending}", f"{path.name}.{ending}.gz"):
        found = path.with_name(name)
        if found.is_file():
            return _read(found)
    return None


def _parse(stream: bytes) -> tuple[list[int], list[bytes]]:
    parser = LumberjackParser()
    windows: list[int] = []
    documents: list[bytes] = []
    for start in range(0, len(stream), _PIECE):
        for frame in parser.feed(stream[start : start + _PIECE]):
            if isinstance(frame, Window):
                windows.append(frame.size)
            elif isinstance(frame, Document):
                documents.append(frame.payload)
    return windows, documents


def _documents_differ(capture: Path, windows: list[int], documents: list[bytes]) -> str | None:
    meta = _beside(capture, "meta.json")
    if meta is not None:
        described = orjson.loads(meta)
        if len(documents) != described.get("n_events", len(documents)):
            return f"{len(documents)} documents instead of {described['n_events']}"
        sizes = [frame[1] for frame in described.get("frames", ()) if frame[0] == "W"]
        if sizes and windows != sizes:
            return f"windows of {windows[:5]}… instead of {sizes[:5]}…"
    recorded = _beside(capture, "events.ndjson")
    if recorded is None:
        return None
    expected = [_event(orjson.loads(line)) for line in recorded.splitlines() if line]
    found = [orjson.loads(document) for document in documents]
    if found == expected:
        return None
    number = next((n for n, (one, other) in enumerate(zip(found, expected, strict=False)) if one != other), len(expected))
    return f"document {number} differs; {len(found)} of them, {len(expected)} expected"


def _event(line: Any) -> Any:
    return line["event"] if isinstance(line, dict) and line.keys() <= {"seq", "event", "conn"} and "event" in line else line


def _events_differ(documents: list[bytes]) -> str | None:
    """Each document one event, with the shipper's name and place, and the line in it or the whole of it."""
    batch = RawBatch(bytes(16), "", "", "lumberjack", "192.0.2.1", 5044, 1_790_000_000_000_000, documents)
    outcome = beats.process(batch, RawCoordinates("", 0, 0))
    if outcome.dead:
        return f"document {outcome.dead[0].unit_index} is dead: {outcome.dead[0].reason}"
    events = {
        int(record["event_id"].rsplit("-", 2)[1]): (dataset, record)
        for dataset, records in outcome.events.items()
        for record in records
    }
    for number, payload in enumerate(documents):
        if number not in events:
            return f"document {number} gave no event"
        dataset, event = events[number]
        document = orjson.loads(payload)
        log = document.get("log", {})
        wanted = {
            "agent_type": document.get("agent", {}).get("type"),
            "log_file_path": log.get("file", {}).get("path"),
            "log_offset": log.get("offset"),
        }
        if dataset == "sensor":
            wanted |= {"message": document.get("message"), "document": orjson.dumps(document).decode()}
        for field, value in wanted.items():
            if field in event and event[field] != value:
                return f"document {number}: {field} is {event[field]!r:.80} instead of {value!r:.80}"
    return None
