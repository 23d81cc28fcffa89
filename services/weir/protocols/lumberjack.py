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

import hashlib
import struct
import zlib
from collections.abc import Iterator, Sequence
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

_PIECE_BYTES = 65_536
_MAX_PAIRS = 65_536

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
    """One event. `payload` is the JSON text exactly as sent; for a `D` frame it is a JSON object of the pairs.

    Of a document longer than the parser keeps, `payload` is the beginning, `length` the whole length in bytes, and `sha256` that
    of the whole; else these are 0 and empty.
    """

    sequence: int
    payload: bytes
    length: int = 0
    sha256: bytes = b""


class Ack(NamedTuple):
    """The server holds every document up to this sequence."""

    sequence: int
    version: int = 2


Frame = Window | Document | Ack


class _LongDocument:
    """A document of which only the beginning is kept: it is read past, and hashed."""

    __slots__ = ("_hash", "_keep", "_kept", "length", "missing", "sequence")

    def __init__(self, sequence: int, length: int, keep: int) -> None:
        self.sequence = sequence
        self.length = length
        self.missing = length
        self._keep = keep
        self._kept = bytearray()
        self._hash = hashlib.sha256()

    @property
    def held(self) -> int:
        return len(self._kept)

    def take(self, data: bytes) -> None:
        self.missing -= len(data)
        self._hash.update(data)
        self._kept += data[: self._keep - len(self._kept)]

    def document(self) -> Document:
        return Document(self.sequence, bytes(self._kept), self.length, self._hash.digest())


class _Frames:
    """Frames out of bytes in pieces: one for the connection, and one for each compressed frame's content (`inner`)."""

    def __init__(self, limit: int, max_document: int, max_window: int, window: int | None = None, *, inner: bool = False) -> None:
        self.window = window
        self._limit = limit
        self._max_document = max_document
        self._max_window = max_window
        self._inner = inner
        self._buffer = bytearray()
        self._wanted = 0
        self._taken = 0
        self._long: _LongDocument | None = None
        # Where the scan of an unfinished D frame stands (offset into the frame, strings still to come): without it,
        # a client that trickles its pairs would have the frame scanned anew for each.
        self._data_scan: tuple[int, int] | None = None

    @property
    def held(self) -> int:
        """Bytes kept of an unfinished frame."""
        return len(self._buffer) + (self._long.held if self._long else 0)

    @property
    def unfinished(self) -> int:
        """Bytes that came of a frame that is not whole yet."""
        return 10 + self._long.length - self._long.missing if self._long else len(self._buffer)

    def feed(self, data: bytes, frames: list[Frame]) -> tuple[int | None, bytes]:
        """Append the frames that `data` completes.

        Returns:
            The length of the compressed frame whose content comes next, and the bytes after its header; or None and nothing.
        """
        if self._long is not None:
            step = data[: self._long.missing]
            self._long.take(step)
            if self._long.missing:
                return None, b""
            self._append(self._long.document(), frames)
            self._long = None
            data = data[len(step) :]
        if self._buffer:
            if len(self._buffer) + len(data) < self._wanted:
                self._buffer += data
                return None, b""
            data = b"".join((self._buffer, data))
            self._buffer = bytearray()
        compressed, used = self._parse(data, frames)
        rest = data[used:]
        if compressed is not None:
            return compressed, rest
        if self._long is not None:
            self._long.take(rest)
        else:
            self._buffer += rest
        return None, b""

    def _parse(self, data: bytes, frames: list[Frame]) -> tuple[int | None, int]:
        """Length of a compressed frame whose header was met, if one was; and how many bytes of `data` are done with."""
        position = 0
        end = len(data)
        limit = self._limit
        while end - position >= 6:
            version = _VERSIONS.get(data[position])
            kind = data[position + 1]
            if version is None:
                raise LumberjackError(f"byte {data[position]:#04x} where a Lumberjack frame's version ('1' or '2') belongs")
            if kind == _JSON:
                if end - position < 10:
                    self._wanted = 10
                    return None, position
                sequence, length = _U32_PAIR.unpack_from(data, position + 2)
                if length > limit:
                    raise LumberjackError(f"document {sequence} has {length:,} bytes, the limit {self._of_what} is {limit:,}")
                self._admit()
                stop = position + 10 + length
                if stop > end:
                    if length > self._max_document:
                        self._long = _LongDocument(sequence, length, self._max_document)
                        return None, position + 10
                    self._wanted = stop - position
                    return None, position
                self._append(Document(sequence, data[position + 10 : stop]), frames)
            elif kind == _DATA:
                self._admit()
                document, stop = self._data(data, position)
                if document is None:
                    self._wanted = stop - position
                    return None, position
                self._append(document, frames)
            elif self._inner:
                # Nesting would multiply the limits, and a window in here could raise its own.
                raise LumberjackError(f"a frame of type {kind:#04x} within a compressed frame, only documents belong there")
            elif kind == _COMPRESSED:
                (length,) = _U32.unpack_from(data, position + 2)
                if length > limit:
                    raise LumberjackError(f"a compressed frame has {length:,} bytes, the limit {self._of_what} is {limit:,}")
                return length, position + 6
            elif kind == _WINDOW:
                (size,) = _U32.unpack_from(data, position + 2)
                if size > self._max_window:
                    raise LumberjackError(
                        f"a window of {size:,} documents, the limit is {self._max_window:,}: lower bulk_max_size at the sender"
                    )
                self.window = size
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
        return None, position

    @property
    def _of_what(self) -> str:
        return "of what one compressed frame may inflate to" if self._inner else "of a frame"

    def _admit(self) -> None:
        # go-lumber and Logstash also want a window first. Within a compressed frame the window bounds how many
        # objects a few kilobytes can become; outside it the bytes themselves do.
        if self.window is None:
            raise LumberjackError("a document before any window frame")
        if self._inner and self._taken >= self.window:
            raise LumberjackError(f"a compressed frame holds more documents than its window of {self.window:,}")

    def _append(self, document: Document, frames: list[Frame]) -> None:
        self._taken += 1
        payload = document.payload
        if len(payload) > self._max_document:
            digest = hashlib.sha256(payload).digest()
            document = Document(document.sequence, payload[: self._max_document], len(payload), digest)
        frames.append(document)

    def _data(self, data: bytes, start: int) -> tuple[Document | None, int]:
        """The document of a D frame and where it ends; or None and the offset up to which bytes are needed to go on."""
        end = len(data)
        limit = self._limit
        if end - start < 10:
            return None, start + 10
        sequence, pairs = _U32_PAIR.unpack_from(data, start + 2)
        if pairs > _MAX_PAIRS:
            # Texts of a few bytes take some fifty each in memory while they become JSON.
            raise LumberjackError(f"data frame {sequence} announces {pairs:,} pairs, the limit is {_MAX_PAIRS:,}")
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


class _Compressed:
    """The content of one compressed frame: inflated as it comes in, 64 KiB at a time."""

    __slots__ = ("_frames", "_inflated", "_inflater", "_length", "_limit", "left")

    def __init__(self, length: int, limit: int, frames: _Frames) -> None:
        self.left = length
        self._length = length
        self._limit = limit
        self._frames = frames
        self._inflated = 0
        self._inflater = zlib.decompressobj()

    @property
    def held(self) -> int:
        return self._frames.held

    @property
    def came(self) -> int:
        """Bytes of the frame so far, its header included."""
        return 6 + self._length - self.left

    def feed(self, content: bytes) -> Iterator[list[Frame]]:
        self.left -= len(content)
        inflater = self._inflater
        while True:
            if inflater.eof:
                if content:
                    raise LumberjackError("bytes after the end of the zlib stream of a compressed frame")
                return
            try:
                inflated = inflater.decompress(content, _PIECE_BYTES)
            except zlib.error as error:
                raise LumberjackError(f"a compressed frame is not a zlib stream: {error}") from error
            content = inflater.unused_data if inflater.eof else inflater.unconsumed_tail
            self._inflated += len(inflated)
            if self._inflated > self._limit:
                raise LumberjackError(
                    f"a compressed frame of {self._length:,} bytes inflates to more than the limit of {self._limit:,}: "
                    "lower bulk_max_size at the sender"
                )
            frames: list[Frame] = []
            self._frames.feed(inflated, frames)
            yield frames
            if not content and len(inflated) < _PIECE_BYTES and not inflater.eof:
                return

    def end(self) -> None:
        if not self._inflater.eof:
            raise LumberjackError("the zlib stream of a compressed frame is cut short")
        if unfinished := self._frames.unfinished:
            raise LumberjackError(f"a compressed frame ends {unfinished:,} bytes into a frame")


class LumberjackParser:
    """Turns what a connection delivers, in pieces of any size, into frames in wire order.

    Nothing is held for longer than it must: a compressed frame is inflated as it comes in, 64 KiB at a time, and its documents
    leave at once; of a document beyond `max_document_bytes` only so much is kept. Held at most: one unfinished document of
    `max_document_bytes`, or one unfinished `D` frame of `max_frame_bytes`, and 64 KiB of what was just read or inflated.
    After an error the parser is of no more use: every later call raises the same error.

    Args:
        max_window: documents a window may announce.
        max_frame_bytes: bytes of one frame on the wire.
        max_inflated_bytes: bytes that one compressed frame may inflate to, all its documents together.
        max_document_bytes: bytes kept of one document.
    """

    def __init__(
        self,
        max_window: int = DEFAULT_MAX_WINDOW,
        max_frame_bytes: int = DEFAULT_MAX_FRAME_BYTES,
        max_inflated_bytes: int = DEFAULT_MAX_INFLATED_BYTES,
        max_document_bytes: int = DEFAULT_MAX_FRAME_BYTES,
    ) -> None:
        self._max_window = max_window
        self._max_inflated_bytes = max_inflated_bytes
        self._max_document_bytes = max_document_bytes
        self._frames = _Frames(max_frame_bytes, max_document_bytes, max_window)
        self._compressed: _Compressed | None = None
        self._error: LumberjackError | None = None

    @property
    def buffered(self) -> int:
        """Bytes held of frames that are not complete yet."""
        return self._frames.held + (self._compressed.held if self._compressed else 0)

    @property
    def unfinished(self) -> int:
        """Bytes that came of the frame under way, held or not; 0 between frames."""
        return self._compressed.came if self._compressed else self._frames.unfinished

    def feed(self, data: bytes) -> list[Frame]:
        """All frames completed by `data` at once: for clients and tests. Raises as `pieces` does."""
        return [frame for piece in self.pieces(data) for frame in piece]

    def pieces(self, data: bytes) -> Iterator[list[Frame]]:
        """Frames completed by `data`, a few at a time: a list, which may be empty, for each 64 KiB that were inflated.

        Between two lists the caller may do something else for as long as it likes; it must take all before the next call.

        Raises:
            LumberjackError: the stream is broken or passes a limit. What a compressed frame held before that has been given.
        """
        if self._error is not None:
            raise self._error
        try:
            yield from self._pieces(data)
        except LumberjackError as error:
            self._error = error
            raise

    def _pieces(self, data: bytes) -> Iterator[list[Frame]]:
        while True:
            if (compressed := self._compressed) is not None:
                content = data[: compressed.left]
                data = data[len(content) :]
                yield from compressed.feed(content)
                if compressed.left:
                    return
                compressed.end()
                self._compressed = None
            if not data:
                return
            frames: list[Frame] = []
            length, data = self._frames.feed(data, frames)
            yield frames
            if length is not None:
                limit, documents = self._max_inflated_bytes, self._max_document_bytes
                inner = _Frames(limit, documents, self._max_window, self._frames.window, inner=True)
                self._compressed = _Compressed(length, limit, inner)


def _pairs_to_json(data: bytes, position: int, pairs: int) -> bytes:
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
