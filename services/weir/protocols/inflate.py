"""Content-Encoding of HTTP bodies (RFC 9110, 8.4.1), undone in bounded memory."""

from __future__ import annotations

import zlib
from collections.abc import Iterator

__all__ = ["CODINGS", "InflateError", "Inflater", "TooMuchError"]

CODINGS = frozenset({"gzip", "x-gzip", "deflate"})
"""Content codings that `Inflater` undoes."""

_PIECE_BYTES = 65_536
_GZIP = 16 + zlib.MAX_WBITS


class InflateError(ValueError):
    """The bytes are not what their coding says."""


class TooMuchError(InflateError):
    """They would become more than the limit."""


class Inflater:
    """Inflates what comes in pieces of any size, 64 KiB at a time.

    A gzip body may have several members (RFC 1952, 2.2). "deflate" is a zlib stream (RFC 1950); as some senders have always sent
    it bare (RFC 1951), a stream that does not begin like one is taken for that.
    """

    def __init__(self, coding: str, limit: int) -> None:
        self._gzip = coding != "deflate"
        self._coding = "gzip" if self._gzip else "deflate"
        self._limit = limit
        self._inflated = 0
        self._begun = b""
        self._inflater: zlib._Decompress | None = zlib.decompressobj(_GZIP) if self._gzip else None

    def feed(self, data: bytes) -> Iterator[bytes]:
        """What the pieces become. Raises InflateError, or TooMuchError past the limit."""
        if self._inflater is None:
            self._begun += data
            if len(self._begun) < 2:
                return
            data = self._begun
            self._inflater = zlib.decompressobj(zlib.MAX_WBITS if _is_zlib(data) else -zlib.MAX_WBITS)
        while True:
            if self._inflater.eof:
                if not data:
                    return
                if not self._gzip:
                    raise InflateError(f"bytes after the end of the {self._coding} stream")
                self._inflater = zlib.decompressobj(_GZIP)
            try:
                inflated = self._inflater.decompress(data, _PIECE_BYTES)
            except zlib.error as error:
                raise InflateError(f"not a {self._coding} stream: {error}") from error
            data = self._inflater.unused_data if self._inflater.eof else self._inflater.unconsumed_tail
            self._inflated += len(inflated)
            if self._inflated > self._limit:
                raise TooMuchError(f"inflates to more than {self._limit:,} bytes")
            yield inflated
            if not data and len(inflated) < _PIECE_BYTES:
                return

    def end(self) -> None:
        """Nothing more comes. Raises InflateError where the stream is not whole."""
        if self._inflater is None or not self._inflater.eof:
            raise InflateError(f"the {self._coding} stream is cut short")


def _is_zlib(data: bytes) -> bool:
    return data[0] & 0x0F == 8 and (data[0] << 8 | data[1]) % 31 == 0
