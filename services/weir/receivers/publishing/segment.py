"""One file of the disk spool: records with checksums, appended, read back in order, acknowledged in any.

A file is called `<number>-<seed>.spool`. It begins with a summary of 64 bytes (how far it is acknowledged, what is left in it up
to which end) and goes on with records:

    marker 4 | length of value 4 | CRC of value 4 | length of meta 2 | CRC of what is before and of meta 4 | meta | value

Numbers are big-endian, the CRC is that of zlib, meta is JSON. The CRC of the head starts from the file's random seed: senders
decide what is in the values, and must not be able to write something there that passes for a record when a damaged file is read.
"""

from __future__ import annotations

import contextlib
import json
import os
import struct
import zlib
from pathlib import Path
from typing import NamedTuple

__all__ = ["FIRST", "Damage", "Found", "Meta", "Segment", "SpoolRecord", "overhead", "pack", "unpack"]

_MARKER = b"\xf1\x9eWS"
_HEAD = struct.Struct(">4sIIHI")
_CHECKED = _HEAD.size - 4
_SUMMARY = struct.Struct(">8sQQQQI")  # magic, end, records and units up to there not yet acknowledged, acknowledged up to; CRC
_MAGIC = b"WEIRSPL1"
FIRST = 64
"""Where the first record of a file begins."""

_CHUNK = 64 * 1024


class SpoolRecord(NamedTuple):
    """One record for Kafka, and what the ledger wants to know of it once Kafka has it.

    `source` is the sender's address, `received_at` microseconds UTC, `size` the bytes of its units. Records that are no raw
    batches have no units.
    """

    topic: str
    key: str
    value: bytes
    headers: list[tuple[str, bytes]]
    source: str
    transport: str
    received_at: int
    units: int
    size: int


class Damage(NamedTuple):
    """Bytes of a segment that could not be read as records.

    `torn` is the end of a record whose writing was cut short; it was never promised to anybody. `source`, `transport` and
    `units` are known where only the value of one record is damaged.
    """

    segment: str
    offset: int
    length: int
    torn: bool
    source: str | None = None
    transport: str = ""
    units: int = 0


class Found(NamedTuple):
    """A record whose head and meta are sound; its value was not looked at."""

    offset: int
    value_at: int
    length: int
    crc: int
    meta: bytes

    @property
    def end(self) -> int:
        """Where the next one begins."""
        return self.value_at + self.length


class Meta(NamedTuple):
    """A record without its value."""

    topic: str
    key: str
    headers: list[tuple[str, bytes]]
    source: str
    transport: str
    received_at: int
    units: int
    size: int


def overhead(meta: bytes) -> int:
    """Bytes of a record beside its value."""
    return _HEAD.size + len(meta)


def pack(record: SpoolRecord) -> bytes:
    """The meta of a record as it is written."""
    headers = [(name, value.decode("latin-1")) for name, value in record.headers]
    return json.dumps(
        (record.topic, record.key, headers, record.source, record.transport, record.received_at, record.units, record.size),
        separators=(",", ":"),
    ).encode()


def unpack(meta: bytes) -> Meta:
    """The meta as it was. Raises ValueError or TypeError where it is none."""
    topic, key, headers, *rest = json.loads(meta)
    return Meta(topic, key, [(name, value.encode("latin-1")) for name, value in headers], *rest)


class Segment:
    """One file of the queue. `size` is the end of its last whole record, `read_to` how far it was read."""

    def __init__(self, path: Path, seed: int, *, new: bool = False) -> None:
        self.path = path
        self.seed = seed
        self._fd = os.open(path, os.O_RDWR | (os.O_CREAT | os.O_EXCL if new else 0), 0o600)
        self.records = 0
        self.units = 0
        self.size = self.read_to = FIRST
        self.first_received_at: int | None = None
        self.damaged = False
        self.reported: set[int] = set()
        self.unsynced = new
        self.outstanding: dict[int, int] = {}
        self.done: dict[int, int] = {}  # acknowledged behind others that are not: offset, units
        self._chunk = b""
        self._chunk_at = 0
        try:
            if new:
                self.write_summary()
        except OSError:
            self.release()
            with contextlib.suppress(OSError):
                path.unlink()
            raise

    @property
    def fd(self) -> int:
        """The open file. Only those being written or read are open: a spool may have thousands."""
        if self._fd < 0:
            self._fd = os.open(self.path, os.O_RDWR)
        return self._fd

    def release(self) -> None:
        """Close the file until it is needed again."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    # Writing

    def append(self, meta: bytes, value: bytes, units: int) -> int:
        """Write one record; its offset. Raises OSError, after which the file is as before as far as the system allows."""
        head = _HEAD.pack(_MARKER, len(value), zlib.crc32(value), len(meta), 0)[:_CHECKED]
        head += struct.pack(">I", zlib.crc32(meta, zlib.crc32(head, self.seed)))
        total = len(head) + len(meta) + len(value)
        try:
            written = os.pwritev(self.fd, [head, meta, value], self.size)
            if written < total:  # a full disk takes a part first and says why only then
                rest = (head + meta + value)[written:]
                while rest:
                    more = os.pwrite(self.fd, rest, self.size + written)
                    written += more
                    rest = rest[more:]
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(self.fd, self.size)
            raise
        offset = self.size
        self.size += total
        self.records += 1
        self.units += units
        self.unsynced = True
        return offset

    def write_summary(self) -> None:
        """Say at the beginning of the file how far it has been acknowledged, so that a restart repeats little and counts fast."""
        # What is acknowledged behind others will be read again after a restart, so it counts. Not below nothing: a damaged
        # record is taken off again in each life that finds it.
        records = max(0, self.records + len(self.done))
        units = max(0, self.units + sum(self.done.values()))
        body = _SUMMARY.pack(_MAGIC, self.size, records, units, self.acknowledged_to, 0)[:-4]
        os.pwrite(self.fd, (body + struct.pack(">I", zlib.crc32(body))).ljust(FIRST, b"\0"), 0)

    # Reading

    def recover(self) -> list[Damage]:
        """After `__init__` of a file that was there: find its end, cut off what is torn. Raises OSError."""
        length = os.fstat(self.fd).st_size
        summary = os.pread(self.fd, FIRST, 0)[: _SUMMARY.size].ljust(_SUMMARY.size, b"\0")
        magic, end, records, units, acknowledged, crc = _SUMMARY.unpack(summary)
        self.size = max(length, FIRST)
        found: list[Damage] = []
        at = FIRST
        if magic == _MAGIC and crc == zlib.crc32(summary[:-4]) and FIRST <= acknowledged <= end <= length:
            self.records, self.units, self.read_to, at = records, units, acknowledged, end
        while at < self.size:
            record, gap = self.find(at)
            if gap is not None:
                found.append(Damage(self.path.name, gap[0], gap[1] - gap[0], torn=self._is_torn(*gap)))
            if record is None:
                if found[-1].torn:
                    self.size = at
                    with contextlib.suppress(OSError):
                        os.ftruncate(self.fd, at)
                break
            with contextlib.suppress(ValueError, TypeError):
                self.units += unpack(record.meta).units
            self.records += 1
            at = record.end
        self.damaged = any(not damage.torn for damage in found)
        self.reported = {damage.offset for damage in found}  # told now, not again when it is read
        if self.read_to < self.size and (first := self.find(self.read_to)[0]) is not None:
            with contextlib.suppress(ValueError, TypeError):
                self.first_received_at = unpack(first.meta).received_at
        return found

    def _is_torn(self, start: int, end: int) -> bool:
        """Whether bytes without any record up to the file's end are the beginning of one whose writing was cut short."""
        if end != self.size:
            return False
        head = self.read(start, min(_HEAD.size, end - start))
        if len(head) < _HEAD.size:
            return head[:4] == _MARKER[: len(head[:4])]
        marker, length, _, meta_length, crc = _HEAD.unpack(head)
        whole = start + _HEAD.size + meta_length
        if marker != _MARKER or end < whole:
            return bool(marker == _MARKER)
        meta = self.read(start + _HEAD.size, meta_length)
        return bool(crc == zlib.crc32(meta, zlib.crc32(head[:_CHECKED], self.seed)) and end < whole + length)

    def read(self, offset: int, length: int) -> bytes:
        """Bytes of the file, fewer at its end. Raises OSError."""
        start = offset - self._chunk_at
        if start >= 0 and start + length <= len(self._chunk):
            return self._chunk[start : start + length]
        wanted = min(max(length, _CHUNK), self.size - offset)
        data = os.pread(self.fd, wanted, offset)
        if length <= _CHUNK:
            self._chunk, self._chunk_at = data, offset
        return data[:length]

    def parse(self, offset: int) -> Found | None:
        """The record that begins here, if one does; its value is not looked at."""
        head = self.read(offset, _HEAD.size)
        if len(head) < _HEAD.size:
            return None
        marker, length, value_crc, meta_length, crc = _HEAD.unpack(head)
        value_at = offset + _HEAD.size + meta_length
        if marker != _MARKER or value_at + length > self.size:
            return None
        meta = self.read(offset + _HEAD.size, meta_length)
        if crc != zlib.crc32(meta, zlib.crc32(head[:_CHECKED], self.seed)):
            return None
        return Found(offset, value_at, length, value_crc, meta)

    def find(self, offset: int) -> tuple[Found | None, tuple[int, int] | None]:
        """The next record from here on, and the damaged bytes before it, from … to."""
        if (record := self.parse(offset)) is not None:
            return record, None
        at = offset + 1
        while at < self.size:
            window = self.read(at, _CHUNK)
            if not window:
                break
            place = -1
            while (place := window.find(_MARKER, place + 1)) >= 0:
                if (record := self.parse(at + place)) is not None:
                    return record, (offset, at + place)
            at += max(1, len(window) - len(_MARKER) + 1)
        return None, (offset, self.size)

    # Acknowledging

    @property
    def acknowledged_to(self) -> int:
        """Where reading begins after a restart."""
        return next(iter(self.outstanding), self.read_to)

    def settle(self) -> None:
        """Forget what is acknowledged from the front."""
        while self.outstanding:
            first = next(iter(self.outstanding))
            if first not in self.done:
                return
            del self.outstanding[first]
            self.done.pop(first, None)

    def pass_over_acknowledged(self) -> None:
        """Be done with a file all of whose records were acknowledged, some before they were read: they need not come again."""
        if self.records == 0 and not self.damaged:
            self.read_to = self.size
            self.outstanding.clear()
            self.done.clear()

    def rewind(self) -> None:
        """Everything read but not acknowledged is to be read again."""
        self.read_to = self.acknowledged_to
        self.outstanding.clear()

    @property
    def finished(self) -> bool:
        """Nothing to read, nothing to acknowledge."""
        return self.read_to >= self.size and not self.outstanding
