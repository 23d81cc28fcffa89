"""Lumberjack, the protocol of Beats: frames out of a byte stream for a server, and batches into one for a client.

A frame is a version byte ('2', or '1' for the older protocol), a type byte, and a body whose integers are big-endian:

=====  ==========================================================  =======================================
type   body                                                        sent by
=====  ==========================================================  =======================================
``W``  u32 documents in the window that follows                    client
``J``  u32 sequence, u32 length, JSON text                         client (version 2)
``D``  u32 sequence, u32 pairs, then each u32 length + text        client (version 1, allowed in 2)
``C``  u32 length, a zlib stream of whole frames                   client
``A``  u32 sequence of the last document stored                    server
=====  ==========================================================  =======================================

Source: what elastic/go-lumber (server/v2/reader.go, client/v2/client.go) and Filebeat 7.17 do on the wire. The
PROTOCOL.md of go-lumber names other type bytes and a length in every frame; no implementation speaks that.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from typing import Final, NamedTuple

import orjson

__all__ = [
    "ACK_BYTES",
    "DEFAULT_MAX_FRAME_BYTES",
    "DEFAULT_MAX_INFLATED_BYTES",
    "DEFAULT_MAX_WINDOW",
    "Ack",
    "Document",
    "Frame",
    "LumberjackError",
    "LumberjackParser",
    "Window",
    "ack",
    "encode_batch",
    "encode_window",
    "parse_ack",
]

DEFAULT_MAX_WINDOW: Final = 65_536
"""Documents. Beats send 2,048 unless `bulk_max_size` says otherwise."""

DEFAULT_MAX_FRAME_BYTES: Final = 16 * 1024 * 1024
"""Bytes of one frame on the wire. Filebeat's largest single event is 10 MiB (`max_bytes`)."""

DEFAULT_MAX_INFLATED_BYTES: Final = 64 * 1024 * 1024
"""Bytes that one compressed frame may inflate to."""

ACK_BYTES: Final = 6

_U32 = struct.Struct(">I")
_U32_PAIR = struct.Struct(">II")
_HEADER = struct.Struct(">BBI")
_JSON_HEADER = struct.Struct(">BBII")
_VERSIONS = {0x31: 1, 0x32: 2}
_VERSION_CODES = {1: 0x31, 2: 0x32}
_WINDOW, _JSON, _DATA, _COMPRESSED, _ACK = b"WJDCA"
_U32_MASK = 0xFFFF_FFFF


class LumberjackError(ValueError):
    """The byte stream is not Lumberjack, or passes a limit.

    Close the connection: the client connects anew and sends again what was not acknowledged.
    """


class Window(NamedTuple):
    """The client will send this many documents and then wait for their acknowledgement."""

    size: int
    version: int = 2


class Document(NamedTuple):
    """One event. `payload` is the JSON text exactly as sent; for a `D` frame it is a JSON object of the pairs."""

    sequence: int
    payload: bytes


class Ack(NamedTuple):
    """The server holds every document up to this sequence."""

    sequence: int
    version: int = 2


Frame = Window | Document | Ack


class LumberjackParser:
    """Turns what a connection delivers, in pieces of any size, into frames in wire order.

    Held at most: one unfinished frame (`max_frame_bytes`) and, while a compressed frame is opened, what it inflates to
    (`max_inflated_bytes`, and no more documents than its window). One `feed` may complete several compressed frames, and
    zlib reaches 1,032:1, so read the socket in pieces of 64 KiB or less to bound the list that `feed` returns.
    After an error the parser is of no more use: every later `feed` raises the same error.
    """

    def __init__(
        self,
        max_window: int = DEFAULT_MAX_WINDOW,
        max_frame_bytes: int = DEFAULT_MAX_FRAME_BYTES,
        max_inflated_bytes: int = DEFAULT_MAX_INFLATED_BYTES,
    ) -> None:
        self._max_window = max_window
        self._max_frame_bytes = max_frame_bytes
        self._max_inflated_bytes = max_inflated_bytes
        self._buffer = bytearray()
        self._wanted = 0
        self._window: int | None = None
        self._error: LumberjackError | None = None
        # Where the scan of an unfinished D frame stands (offset into the frame, strings still to come): without it,
        # a client that trickles its pairs would have the frame scanned anew for each.
        self._data_scan: tuple[int, int] | None = None

    @property
    def buffered(self) -> int:
        """Bytes held of a frame that is not complete yet; 0 between frames."""
        return len(self._buffer)

    def feed(self, data: bytes) -> list[Frame]:
        """Frames completed by `data`. Raises `LumberjackError` for a broken stream or one that passes a limit."""
        if self._error is not None:
            raise self._error
        if self._buffer:
            self._buffer += data
            if len(self._buffer) < self._wanted:
                return []
        frames: list[Frame] = []
        try:
            # The view must be gone before the buffer can change its size again.
            with memoryview(self._buffer or data) as view:
                used = self._parse(view, frames, inner=False)
        except LumberjackError as error:
            self._error = error
            self._buffer = bytearray()
            raise
        if self._buffer:
            del self._buffer[:used]
        else:
            self._buffer += data[used:]
        return frames

    def _parse(self, data: memoryview | bytes, frames: list[Frame], *, inner: bool) -> int:
        """Append the whole frames of `data` to `frames`; return how many bytes they took."""
        position = 0
        end = len(data)
        limit = self._max_inflated_bytes if inner else self._max_frame_bytes
        first = len(frames)
        while end - position >= 6:
            version = _VERSIONS.get(data[position])
            kind = data[position + 1]
            if version is None:
                raise LumberjackError(f"byte {data[position]:#04x} where a Lumberjack frame's version ('1' or '2') belongs")
            if kind == _JSON:
                if end - position < 10:
                    self._wanted = 10
                    return position
                sequence, length = _U32_PAIR.unpack_from(data, position + 2)
                if length > limit:
                    raise LumberjackError(f"document {sequence} has {length:,} bytes, the limit of a frame is {limit:,}")
                stop = position + 10 + length
                if stop > end:
                    self._wanted = stop - position
                    return position
                self._admit(frames, first, inner=inner)
                frames.append(Document(sequence, bytes(data[position + 10 : stop])))
            elif kind == _DATA:
                document, stop = self._data(data, position, limit)
                if document is None:
                    self._wanted = stop - position
                    return position
                self._admit(frames, first, inner=inner)
                frames.append(document)
            elif inner:
                # Nesting would multiply the limits, and a window in here could raise its own.
                raise LumberjackError(f"a frame of type {kind:#04x} within a compressed frame, only documents belong there")
            elif kind == _COMPRESSED:
                (length,) = _U32.unpack_from(data, position + 2)
                if length > limit:
                    raise LumberjackError(f"a compressed frame has {length:,} bytes, the limit of a frame is {limit:,}")
                stop = position + 6 + length
                if stop > end:
                    self._wanted = stop - position
                    return position
                self._open(data[position + 6 : stop], frames)
            elif kind == _WINDOW:
                (size,) = _U32.unpack_from(data, position + 2)
                if size > self._max_window:
                    raise LumberjackError(
                        f"a window of {size:,} documents, the limit is {self._max_window:,}: lower bulk_max_size at the sender"
                    )
                self._window = size
                frames.append(Window(size, version))
                stop = position + 6
            elif kind == _ACK:
                (sequence,) = _U32.unpack_from(data, position + 2)
                frames.append(Ack(sequence, version))
                stop = position + 6
            else:
                raise LumberjackError(f"unknown Lumberjack frame type {kind:#04x}")
            position = stop
        self._wanted = 6
        return position

    def _admit(self, frames: list[Frame], first: int, *, inner: bool) -> None:
        # go-lumber and Logstash also want a window first. Within a compressed frame the window bounds how many
        # objects a few kilobytes can become; outside it the bytes themselves do.
        if self._window is None:
            raise LumberjackError("a document before any window frame")
        if inner and len(frames) - first >= self._window:
            raise LumberjackError(f"a compressed frame holds more documents than its window of {self._window:,}")

    def _open(self, compressed: memoryview | bytes, frames: list[Frame]) -> None:
        inflater = zlib.decompressobj()
        try:
            inflated = inflater.decompress(compressed, self._max_inflated_bytes + 1)
        except zlib.error as error:
            raise LumberjackError(f"a compressed frame is not a zlib stream: {error}") from error
        if len(inflated) > self._max_inflated_bytes:
            raise LumberjackError(
                f"a compressed frame of {len(compressed):,} bytes inflates to more than the limit of {self._max_inflated_bytes:,}"
            )
        if not inflater.eof:
            raise LumberjackError("the zlib stream of a compressed frame is cut short")
        self._data_scan = None
        used = self._parse(inflated, frames, inner=True)
        if used != len(inflated):
            raise LumberjackError(f"a compressed frame ends {len(inflated) - used:,} bytes into a frame")

    def _data(self, data: memoryview | bytes, start: int, limit: int) -> tuple[Document | None, int]:
        """The document of a D frame and where it ends; or None and the offset up to which bytes are needed to go on."""
        end = len(data)
        if end - start < 10:
            return None, start + 10
        sequence, pairs = _U32_PAIR.unpack_from(data, start + 2)
        if 10 + pairs * 8 > limit:
            raise LumberjackError(
                f"data frame {sequence} announces {pairs:,} pairs, more than fit the frame limit of {limit:,} bytes"
            )
        offset, strings = self._data_scan or (10, pairs * 2)
        while strings:
            position = start + offset
            if end - position < 4:
                self._data_scan = (offset, strings)
                return None, position + 4
            (length,) = _U32.unpack_from(data, position)
            if offset + 4 + length > limit:
                raise LumberjackError(f"data frame {sequence} is longer than the frame limit of {limit:,} bytes")
            if position + 4 + length > end:
                self._data_scan = (offset, strings)
                return None, position + 4 + length
            offset += 4 + length
            strings -= 1
        self._data_scan = None
        return Document(sequence, _pairs_to_json(data, start + 10, pairs)), start + offset


def _pairs_to_json(data: memoryview | bytes, position: int, pairs: int) -> bytes:
    texts: list[str] = []
    for _ in range(pairs * 2):
        (length,) = _U32.unpack_from(data, position)
        position += 4
        texts.append(str(data[position : position + length], "utf-8", "replace"))
        position += length
    # As in go-lumber, the last of several values of one key counts.
    return orjson.dumps(dict(zip(texts[::2], texts[1::2], strict=True)))


def ack(sequence: int, version: int = 2) -> bytes:
    """The frame by which a server says that it holds all documents up to `sequence`, in the client's `version`.

    Send a window's last sequence when all of it is stored. A lower one before that is a partial acknowledgement; 0 says
    only "still here" and keeps a client from timing out.
    """
    return _HEADER.pack(_VERSION_CODES[version], _ACK, sequence & _U32_MASK)


def parse_ack(data: bytes) -> tuple[int, bytes] | None:
    """Client side: the sequence of the acknowledgement that `data` starts with, and the bytes after it; None while it is
    not whole. Raises `LumberjackError` where something else stands there."""
    if len(data) < ACK_BYTES:
        return None
    code, kind, sequence = _HEADER.unpack_from(data)
    if code not in _VERSIONS or kind != _ACK:
        raise LumberjackError(f"bytes {data[:2]!r} where an acknowledgement belongs")
    return sequence, data[ACK_BYTES:]


def encode_window(size: int, version: int = 2) -> bytes:
    """The frame that announces `size` documents."""
    return _HEADER.pack(_VERSION_CODES[version], _WINDOW, size)


def encode_batch(documents: Sequence[bytes], first_sequence: int = 1, compress_level: int = 3) -> bytes:
    """What Filebeat writes for one batch: a window frame, then all documents (JSON texts) in one compressed frame.

    `compress_level` is zlib's 1 to 9; at 0 the documents go as bare J frames. Beats count from 1 in every window; another
    `first_sequence` wraps after 2**32 - 1.
    """
    parts: list[bytes] = []
    for number, document in enumerate(documents, first_sequence):
        parts.append(_JSON_HEADER.pack(_VERSION_CODES[2], _JSON, number & _U32_MASK, len(document)))
        parts.append(document)
    body = b"".join(parts)
    if compress_level > 0:
        compressed = zlib.compress(body, compress_level)
        body = _HEADER.pack(_VERSION_CODES[2], _COMPRESSED, len(compressed)) + compressed
    return encode_window(len(documents)) + body
