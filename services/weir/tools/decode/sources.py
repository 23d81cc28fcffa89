"""Files and standard input as streams of bytes: opened, gunzipped where they are gzip, their beginning looked at."""

from __future__ import annotations

import sys
import zlib
from codecs import BOM_UTF8
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import BinaryIO, Final

from weir.processors.enrichment import Enrichment
from weir.processors.plugins import Plugins
from weir.protocols.inflate import InflateError, Inflater
from weir.tools.decode.units import DecodeError

__all__ = ["DEFAULT_SOURCE", "MAX_LINE_BYTES", "MAX_WHOLE_BYTES", "Input", "Options", "lines_of", "open_input", "whole"]

MAX_INFLATED_BYTES: Final = 8 * 1024**3
"""Bytes that one gzip file may become."""

MAX_WHOLE_BYTES: Final = 64 * 1024**2
"""Bytes of a file that has to be read as a whole."""

MAX_LINE_BYTES: Final = 16 * 1024**2
_PIECE: Final = 256 * 1024
_GZIP: Final = b"\x1f\x8b"
_STDIN: Final = "-"

DEFAULT_SOURCE: Final = "192.0.2.1"
"""Of the range for documentation (RFC 5737): the sender of what names none."""


@dataclass(frozen=True, slots=True)
class Options:
    """How to decode.

    `received_us`: receive time, microseconds UTC; in captures the packets' own unless given. `source_ip`: sender; in captures
    the packets' own unless given. `ports`: those to take out of captures; without any, by what family it looks like. `split`:
    a file may hold several flow datagrams behind one another. `plugins`: readers and enrichers of others, loaded. `enrichment`:
    what is done to the events after decoding; the plug-ins' enrichers come behind it.
    """

    received_us: int
    received_given: bool = False
    source_ip: str = DEFAULT_SOURCE
    source_given: bool = False
    time_zone: str | None = None
    ports: frozenset[int] = frozenset()
    split: bool = False
    plugins: Plugins = field(default_factory=Plugins)
    enrichment: Enrichment | None = None


@dataclass(slots=True)
class Input:
    """One file: its name for people, its path for a log shipper, its first bytes, and all of it in pieces."""

    name: str
    path: str
    start: bytes
    pieces: Iterator[bytes]


def open_input(path: str) -> Input:
    """Open a file, or standard input for "-"; a byte order mark is passed over. Raises DecodeError where it cannot be read."""
    name = "standard input" if path == _STDIN else path
    raw = _pieces(path, name)
    start, raw = _peek(raw)
    if start.startswith(_GZIP):
        start, raw = _peek(_inflated(raw, name))
    if start.startswith(BOM_UTF8):
        # No binary format begins so.
        next(raw)
        start = start[len(BOM_UTF8) :]
        raw = chain([start], raw)
    plain = path.removesuffix(".gz") if path != _STDIN else "stdin"
    return Input(name, plain, start, raw)


def _peek(pieces: Iterator[bytes]) -> tuple[bytes, Iterator[bytes]]:
    first = next(pieces, b"")
    return first, chain([first], pieces)


def _pieces(path: str, name: str) -> Iterator[bytes]:
    try:
        if path == _STDIN:
            yield from _read(sys.stdin.buffer)
            return
        if Path(path).is_dir():
            raise DecodeError(f"{name} is a folder")
        with open(path, "rb") as file:
            yield from _read(file)
    except OSError as error:
        raise DecodeError(f"{name} cannot be read: {error.strerror or error}") from error


def _read(file: BinaryIO) -> Iterator[bytes]:
    while piece := file.read(_PIECE):
        yield piece


def _inflated(pieces: Iterator[bytes], name: str) -> Iterator[bytes]:
    inflater = Inflater("gzip", MAX_INFLATED_BYTES)
    try:
        for piece in pieces:
            # Pieces of a moderate size again: the inflater gives what it has, also nothing.
            yield from filter(None, inflater.feed(piece))
        inflater.end()
    except (InflateError, zlib.error) as error:
        raise DecodeError(f"{name} cannot be read: {error}") from error


def whole(source: Input) -> bytes:
    """All bytes. Raises DecodeError where there are more than MAX_WHOLE_BYTES."""
    found = bytearray()
    for piece in source.pieces:
        found += piece
        if len(found) > MAX_WHOLE_BYTES:
            raise DecodeError(f"{source.name} has to be read as a whole, and is larger than {MAX_WHOLE_BYTES >> 20} MiB")
    return bytes(found)


def lines_of(pieces: Iterator[bytes]) -> Iterator[tuple[int, bytes | None]]:
    """Number from 1 and bytes of each line without its LF or CRLF; None for one longer than MAX_LINE_BYTES. Blank lines too."""
    held: list[bytes] = []
    number, size, skipping = 0, 0, False
    for piece in pieces:
        *ended, rest = piece.split(b"\n")
        for part in ended:
            number += 1
            if skipping or size + len(part) > MAX_LINE_BYTES:
                yield number, None
            else:
                line = b"".join((*held, part)) if held else part
                yield number, line.removesuffix(b"\r")
            held, size, skipping = [], 0, False
        if rest and not skipping:
            held.append(rest)
            size += len(rest)
            if size > MAX_LINE_BYTES:
                held, skipping = [], True
    if held or skipping:
        yield number + 1, None if skipping else b"".join(held).removesuffix(b"\r")
