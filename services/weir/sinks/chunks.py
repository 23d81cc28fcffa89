"""Rows as JSON arrays that fit the Logs Ingestion API.

Azure Monitor, "Custom log ingestion API and data collection rules limits": 1 MB a call, and values over 64 KB are cut. Whether the
megabyte is meant before or after compression is not written; chunks are kept below it before compression, so both readings hold.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson

from weir.sinks.destination import Row

__all__ = ["CUT_MARK", "MAX_CHUNK_BYTES", "MAX_VALUE_BYTES", "Chunk", "Line", "chunked", "make_line"]

MAX_CHUNK_BYTES: Final = 1_000_000
MAX_VALUE_BYTES: Final = 65_536
CUT_MARK: Final = "…[cut by weir]"


@dataclass(frozen=True, slots=True)
class Line:
    """One row as JSON; `cut` is how many of its values were shortened."""

    row: Row
    data: bytes
    cut: int = 0


@dataclass(frozen=True, slots=True)
class Chunk:
    """Lines that go into one request."""

    lines: tuple[Line, ...]

    @property
    def rows(self) -> list[Row]:
        """The rows of the lines."""
        return [line.row for line in self.lines]

    def body(self) -> bytes:
        """The JSON array."""
        return b"[" + b",".join(line.data for line in self.lines) + b"]"

    def halves(self) -> tuple[Chunk, Chunk]:
        """The two halves of a chunk of at least two lines."""
        middle = len(self.lines) // 2
        return Chunk(self.lines[:middle]), Chunk(self.lines[middle:])


def make_line(row: Row, projected: dict[str, Any]) -> Line:
    """The line of a row; values over 64 KB are cut and say so at their end. Raises TypeError for what JSON cannot say."""
    data = orjson.dumps(projected)
    if len(data) <= MAX_VALUE_BYTES:
        return Line(row, data)
    fitting: dict[str, Any] = {}
    cut = 0
    for name, value in projected.items():
        if isinstance(value, str):
            whole = value.encode("utf-8", "surrogatepass")
        elif isinstance(value, dict | list):
            whole = orjson.dumps(value)
        else:
            fitting[name] = value
            continue
        if len(whole) <= MAX_VALUE_BYTES:
            fitting[name] = value
            continue
        # A dynamic value that is cut is no JSON any more; as text it still tells most of what it held.
        room = MAX_VALUE_BYTES - len(CUT_MARK.encode())
        fitting[name] = whole[:room].decode("utf-8", "ignore") + CUT_MARK
        cut += 1
    return Line(row, orjson.dumps(fitting) if cut else data, cut)


def chunked(lines: Sequence[Line], limit: int = MAX_CHUNK_BYTES) -> Iterator[Chunk]:
    """Lines in order, as many to a chunk as `limit` bytes of JSON hold; a line that is longer by itself is a chunk of its own."""
    start, size = 0, 2
    for place, line in enumerate(lines):
        longer = len(line.data) + 1
        if place > start and size + longer > limit:
            yield Chunk(tuple(lines[start:place]))
            start, size = place, 2
        size += longer
    if start < len(lines):
        yield Chunk(tuple(lines[start:]))
