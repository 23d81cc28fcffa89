"""Files of lines, of JSON documents, of glued datagrams and of one Lumberjack connection, cut into units."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import Final

import orjson

from weir.protocols.elements import ElementError, cut_elements
from weir.protocols.framing import Frame, FramingError, SyslogFramer
from weir.protocols.lumberjack import Document, LumberjackError, LumberjackParser
from weir.tools.decode.families import COUNTED, Family
from weir.tools.decode.glued import datagrams_in
from weir.tools.decode.sources import MAX_LINE_BYTES, MAX_WHOLE_BYTES, Input, lines_of, whole
from weir.tools.decode.units import Note, Unit

__all__ = ["framed", "shipped", "units_of"]

_TOO_LONG: Final = f"longer than {MAX_LINE_BYTES >> 20} MiB"
_LOST: Final = "no message: a sender that counts octets (RFC 6587, section 3.4.1) has miscounted, and this was left over"


def units_of(family: Family, source: Input, *, split: bool = False) -> Iterator[Unit | Note]:
    """Units of a file that is no capture. Raises DecodeError where it cannot be read."""
    if family.form == "datagram":
        yield from _datagrams(family, source, split)
    elif family.form == "lumberjack":
        yield from _lumberjack(source)
    elif family.form == "line":
        yield from _messages(family, source)
    elif family.form == "zeek":
        yield from _zeek(source)
    elif family.form == "snort":
        yield from _snort(source)
    else:
        yield from _documents(source)


def _datagrams(family: Family, source: Input, split: bool) -> Iterator[Unit | Note]:
    data = whole(source)
    if not data:
        return
    parts = [data] if family.name == "sflow" else datagrams_in(data)
    if len(parts) > 1 and not split:
        more = sum(map(len, parts[1:]))
        yield Unit(parts[0], "netflow", source.name, "udp")
        text = f"{more:,} bytes behind the first datagram look like {len(parts) - 1} more: not decoded; --split does"
        yield Note(source.name, text)
        return
    for number, part in enumerate(parts, 1):
        yield Unit(part, "netflow", source.name if len(parts) == 1 else f"{source.name} datagram {number}", "udp")


# Syslog


def _messages(family: Family, source: Input) -> Iterator[Unit]:
    if COUNTED.match(source.start):
        framer = SyslogFramer(MAX_LINE_BYTES)
        frames = chain.from_iterable(framed(framer, piece) for piece in chain(source.pieces, [None]))
        for number, frame in enumerate(frames, 1):
            yield _of_frame(frame, f"{source.name} message {number}")
        return
    for number, line in lines_of(source.pieces):
        place = f"{source.name} line {number}"
        if line is None:
            yield Unit(b"", "syslog", place, "tcp", problem=_TOO_LONG)
        elif line.strip():
            yield Unit(_with_header(line) if family.name == "qumulo" else line, "syslog", place, "tcp")


def framed(framer: SyslogFramer, piece: bytes | None) -> list[Frame]:
    """The messages that a piece of a connection completes, None being its end; what broke the framing comes as lost."""
    try:
        return framer.finish() if piece is None else framer.feed(piece)
    except FramingError as error:
        return [*error.frames, Frame(error.rest, len(error.rest), lost=True)] if error.frames or error.rest else []


def _of_frame(frame: Frame, place: str) -> Unit:
    problem = _LOST if frame.lost else None
    if frame.original_length > len(frame.data):
        problem = f"cut: {len(frame.data):,} of {frame.original_length:,} bytes"
    return Unit(frame.data, "syslog", place, "tcp", problem=problem)


def _with_header(line: bytes) -> bytes:
    """A Qumulo CSV body that stands alone, as an export has it, given the word by which the processor knows whose it is.

    Bodies in JSON, and rows of a table with them, are known as they are.
    """
    if line[:1] in (b"<", b"{", b"|") or b"qumulo" in line[:300] or b"," not in line[:64]:
        return line
    return b"qumulo " + line


# Documents


def _documents(source: Input) -> Iterator[Unit]:
    for place, data in _json(source):
        yield data if isinstance(data, Unit) else Unit(data, "beats", place, "http")


def _json(source: Input) -> Iterator[tuple[str, bytes | Unit]]:
    """Place and bytes of each JSON document: one a line, elements of an array, or objects over several lines."""
    start = source.start.lstrip()
    first = start.partition(b"\n")[0].rstrip()
    if not (start.startswith(b"[") or (start.startswith(b"{") and not first.endswith(b"}") and b"\n" in start)):
        for number, line in lines_of(source.pieces):
            place = f"{source.name} line {number}"
            if line is None:
                yield place, Unit(b"", "beats", place, "http", problem=_TOO_LONG)
            elif line.strip():
                yield place, line
        return
    number = 0
    try:
        for element in cut_elements(whole(source), max_element_bytes=MAX_WHOLE_BYTES):
            number += 1
            yield f"{source.name} document {number}", element
    except ElementError as error:
        place = f"{source.name} document {number + 1}"
        yield place, Unit(b"", "beats", place, "http", problem=str(error))


def shipped(line: bytes, path: str, module: str) -> bytes:
    """A line as Filebeat ships it: bytes that are no UTF-8 are replaced, as Filebeat does."""
    return orjson.dumps({"message": line.decode("utf-8", "replace"), "log": {"file": {"path": path}}, "event": {"module": module}})


def _zeek(source: Input) -> Iterator[Unit]:
    if source.start.lstrip()[:1] == b"[":
        for place, data in _json(source):
            yield data if isinstance(data, Unit) else Unit(shipped(data, source.path, "zeek"), "beats", place, "lumberjack")
        return
    for number, line in lines_of(source.pieces):
        place = f"{source.name} line {number}"
        if line is None:
            yield Unit(b"", "beats", place, "lumberjack", problem=_TOO_LONG)
        elif line.strip():
            heading = line.split(maxsplit=1)[0][:32].decode("ascii", "replace") if line.startswith(b"#") else ""
            yield Unit(shipped(line, source.path, "zeek"), "beats", place, "lumberjack", heading=heading)


def _snort(source: Input) -> Iterator[Unit]:
    """Alerts a line (fast, csv, JSON, or by syslog), or in blocks with blank lines between them (full)."""
    block: list[bytes] = []
    begun = 0
    for number, line in chain(lines_of(source.pieces), [(0, b"")]):
        place = f"{source.name} line {number}"
        if line is None:
            yield Unit(b"", "beats", place, "lumberjack", problem=_TOO_LONG)
            continue
        if block and (not line.strip() or line.startswith(b"[**]")):
            yield Unit(shipped(b"\n".join(block), source.path, "snort"), "beats", f"{source.name} line {begun}", "lumberjack")
            block = []
        if block:
            block.append(line)
        elif line.startswith(b"[**]"):
            block, begun = [line], number
        elif line.startswith(b"<"):
            yield Unit(line, "syslog", place, "tcp")
        elif line.strip():
            yield Unit(shipped(line, source.path, "snort"), "beats", place, "lumberjack")


def _lumberjack(source: Input) -> Iterator[Unit]:
    parser = LumberjackParser()
    number = 0
    try:
        for piece in source.pieces:
            for frame in parser.feed(piece):
                if isinstance(frame, Document):
                    number += 1
                    yield Unit(frame.payload, "beats", f"{source.name} document {number}", "lumberjack")
    except LumberjackError as error:
        yield Unit(b"", "beats", f"{source.name} behind document {number}", "lumberjack-error", problem=str(error))
        return
    if parser.unfinished:
        reason = f"the connection ends within a frame: {parser.unfinished:,} bytes of it came"
        yield Unit(b"", "beats", f"{source.name} behind document {number}", "lumberjack-error", problem=reason)
