"""Finished batches on disk, for when Kafka is away: an append-only queue of segment files (see `segment`).

A spool is one directory, `<root>/<service>/<slot>`, held by a lock for as long as its process lives. Records are read back in the
order in which they were appended; a segment is deleted when each of its records has been acknowledged. What `append` has
returned survives SIGKILL at any moment, since it is in the page cache by then; `fsync` at intervals is for power failures.

A record cut short at the end of a file is what a crash in the middle of writing leaves: it is cut off. Any other damage is
passed over by looking for the next record; the file is then kept as `.corrupt` instead of being deleted.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import secrets
import time
import zlib
from collections import deque
from pathlib import Path
from typing import NamedTuple

from weir.receivers.publishing.segment import FIRST, Damage, Meta, Segment, SpoolRecord, overhead, pack, unpack

__all__ = ["Damage", "Place", "Spool", "SpoolRecord"]

_NAME = re.compile(r"(\d{16})-([0-9a-f]{8})\.spool")
_SLOTS = 1_024
_CORRUPT_KEPT = 4
_SETTING = "WEIR_RECEIVER_SPOOL_DIR"


class Place(NamedTuple):
    """Where a record is; what `Spool.acknowledge` wants."""

    segment: Segment
    offset: int
    units: int


class Spool:
    """The queue of one process.

    Args:
        root: WEIR_RECEIVER_SPOOL_DIR.
        service: such as "receive.syslog"; its directory is shared by the workers of one host, each of which takes a slot.
        max_bytes: of the files together.
        max_units: not yet acknowledged.
        segment_bytes: size of one file; None for a sixteenth of `max_bytes`, within 1 to 64 MiB.

    Segments of slots that no process holds are taken over, after the own ones.

    Raises:
        OSError: the directory cannot be used; the message names the setting.
    """

    def __init__(self, root: Path, service: str, *, max_bytes: int, max_units: int, segment_bytes: int | None = None) -> None:
        self.max_bytes = max_bytes
        self.max_units = max_units
        self.segment_bytes = segment_bytes or min(max(max_bytes // 16, 1 << 20), 64 << 20)
        self.bytes = 0
        self.units = 0
        self.full: str | None = None
        """Why the last record was refused; None where it was taken."""
        self._base = root / service
        self._segments: deque[Segment] = deque()
        self._reading = 0
        self._active: Segment | None = None
        self._number = 0
        self._damages: list[Damage] = []
        try:
            self._base.mkdir(parents=True, exist_ok=True, mode=0o700)
            self.directory, self._lock = self._take_slot()
            self._load(self.directory)
            self.adopt()
        except OSError as error:
            raise OSError(
                error.errno,
                f"{_SETTING}: cannot keep a spool in {error.filename or self._base}: {error.strerror or error}; name a directory "
                "that this process may write in, or unset it to do without",
            ) from error

    # The directory

    def _take_slot(self) -> tuple[Path, int]:
        for slot in range(_SLOTS):
            directory = self._base / str(slot)
            directory.mkdir(exist_ok=True, mode=0o700)
            lock = _lock(directory)
            if lock is not None:
                return directory, lock
        raise OSError(errno.EBUSY, f"all {_SLOTS} slots are held", str(self._base))

    def _load(self, directory: Path) -> int:
        """Open the segments of a directory that we hold; those of another are moved here. Returns how many."""
        found = [(int(match[1]), match) for entry in os.scandir(directory) if (match := _NAME.fullmatch(entry.name))]
        for number, match in sorted(found, key=lambda pair: pair[0]):
            path = directory / match[0]
            if directory == self.directory:
                self._number = number
            else:
                self._number += 1
                path = path.rename(self.directory / f"{self._number:016d}-{match[2]}.spool")
            segment = Segment(path, int(match[2], 16))
            self._damages += segment.recover()
            segment.release()
            self._segments.append(segment)
            self.bytes += segment.size
            self.units += segment.units
        return len(found)

    def adopt(self) -> int:
        """Take over the segments of slots that nobody holds; how many. Raises OSError."""
        adopted = 0
        for directory in sorted(self._base.iterdir()):
            if directory == self.directory or not directory.name.isdecimal():
                continue
            lock = _lock(directory)
            if lock is None:
                continue
            try:
                self._active = None  # what comes next goes behind what is adopted
                adopted += self._load(directory)
            finally:
                os.close(lock)
        self._clear()
        return adopted

    # The queue

    def append(self, record: SpoolRecord) -> Place | None:
        """Put a record at the end; None where there is no room for it, for the reason in `full`."""
        meta = pack(record)
        need = overhead(meta) + len(record.value)
        if self.bytes + need > self.max_bytes:
            self.full = f"{self.bytes} bytes are in it, WEIR_RECEIVER_SPOOL_BYTES is {self.max_bytes}"
            return None
        if self.units + record.units > self.max_units:
            self.full = f"{self.units} units are in it, WEIR_RECEIVER_SPOOL_EVENTS is {self.max_units}"
            return None
        try:
            segment = self._active
            if segment is None or (segment.size > FIRST and segment.size + need > self.segment_bytes):
                segment = self._begin()
            offset = segment.append(meta, record.value, record.units)
        except OSError as error:
            # A full disk is a full spool; so is, for our purpose, one that fails.
            self.full = f"{self.directory}: {error.strerror or error}"
            return None
        if segment.first_received_at is None:
            segment.first_received_at = record.received_at
        self.full = None
        self.bytes += need
        self.units += record.units
        return Place(segment, offset, record.units)

    def _begin(self) -> Segment:
        number, seed = self._number + 1, secrets.randbits(32)
        segment = Segment(self.directory / f"{number:016d}-{seed:08x}.spool", seed, new=True)
        self._number = number
        self._active = segment
        self._segments.append(segment)
        self.bytes += FIRST
        self._clear()
        return segment

    def take(self) -> tuple[Place, SpoolRecord] | None:
        """The next record not yet taken, None where there is no more. Damage is passed over; `damages` tells of it."""
        while self._reading < len(self._segments):
            segment = self._segments[self._reading]
            if segment.read_to >= segment.size:
                if segment is not self._active:
                    self._reading += 1
                    self._clear()
                    continue
                self._clear()
                return None
            try:
                found = self._take_from(segment)
            except OSError:  # a failing disk: what is left of this file is as good as damaged
                self._damage(segment, segment.read_to, segment.size)
                segment.read_to = segment.size
                continue
            if found is not None:
                return found
        return None

    def _take_from(self, segment: Segment) -> tuple[Place, SpoolRecord] | None:
        found, gap = segment.find(segment.read_to)
        if gap is not None:
            self._damage(segment, *gap)
        if found is None:
            segment.read_to = segment.size
            return None
        segment.read_to = found.end
        if found.offset in segment.done:
            if not segment.outstanding:
                segment.done.pop(found.offset, None)
            else:
                segment.outstanding[found.offset] = found.end
            return None
        value = segment.read(found.value_at, found.length)
        try:
            meta = unpack(found.meta)
        except (ValueError, TypeError):
            self._damage(segment, found.offset, found.end)
            return None
        if len(value) != found.length or zlib.crc32(value) != found.crc:
            if self._damage(segment, found.offset, found.end, meta):
                segment.records -= 1
                segment.units -= meta.units
                self.units -= meta.units
            return None
        segment.outstanding[found.offset] = found.end
        record = SpoolRecord(
            meta.topic, meta.key, value, meta.headers, meta.source, meta.transport, meta.received_at, meta.units, meta.size
        )
        return Place(segment, found.offset, meta.units), record

    def acknowledge(self, place: Place) -> bool:
        """Kafka has this record, whether it was taken already or not; False where that was known."""
        segment, offset, units = place
        if offset in segment.done or offset < segment.acknowledged_to:
            return False
        segment.done[offset] = units
        segment.records -= 1
        segment.units -= units
        self.units -= units
        segment.settle()
        if segment.finished:
            self._clear()
        return True

    def rewind(self) -> None:
        """What was taken and not acknowledged will be taken again."""
        for segment in self._segments:
            segment.rewind()
        self._reading = 0

    def _clear(self) -> None:
        """Delete segments that are done with, from the front."""
        while self._segments and (segment := self._segments[0]).finished:
            if segment is self._active:
                if segment.size == FIRST:
                    return
                self._active = None
            self._segments.popleft()
            self._reading = max(0, self._reading - 1)
            self.bytes -= segment.size
            self.full = None
            if segment.units > 0 and segment.damaged:
                # Of records whose heads cannot be read: how many is known only now, and whose they were is not.
                self._damages.append(Damage(segment.path.name, segment.size, 0, False, units=segment.units))
            self.units -= segment.units
            segment.units = 0
            segment.release()
            with contextlib.suppress(OSError):
                if segment.damaged:
                    self._set_aside(segment.path)
                else:
                    segment.path.unlink()

    def _set_aside(self, path: Path) -> None:
        path.rename(path.with_suffix(".corrupt"))
        for old in sorted(self.directory.glob("*.corrupt"))[:-_CORRUPT_KEPT]:
            old.unlink()

    # Damage

    def _damage(self, segment: Segment, start: int, end: int, meta: Meta | None = None) -> bool:
        """Note what is damaged; False where that was done before."""
        if start in segment.reported:
            return False
        segment.reported.add(start)
        segment.damaged = True
        known = (meta.source, meta.transport, meta.units) if meta is not None else (None, "", 0)
        self._damages.append(Damage(segment.path.name, start, end - start, False, *known))
        return True

    def damages(self) -> list[Damage]:
        """What was found damaged since the last call."""
        found, self._damages = self._damages, []
        return found

    # Numbers

    @property
    def segments(self) -> int:
        """Files."""
        return len(self._segments)

    @property
    def empty(self) -> bool:
        """Whether nothing waits to be acknowledged."""
        return all(segment.finished for segment in self._segments)

    def oldest(self) -> float | None:
        """Seconds since the first record of the oldest segment was received; None where there is none. For any thread."""
        for segment in list(self._segments):
            if segment.first_received_at is not None:
                return max(0.0, time.time() - segment.first_received_at / 1e6)
        return None

    # Safety against power failure

    def unsynced(self) -> list[int]:
        """Write summaries, and return duplicates of the descriptors that `fsync` is to be called with, in any thread."""
        descriptors = []
        for segment in self._segments:
            with contextlib.suppress(OSError):
                if segment is self._active or segment.outstanding:
                    segment.write_summary()
                if segment.unsynced:
                    descriptors.append(os.dup(segment.fd))
                    segment.unsynced = False
                elif segment is not self._active and not segment.outstanding:
                    segment.release()
        if descriptors:
            with contextlib.suppress(OSError):
                descriptors.append(os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY))
        return descriptors

    @staticmethod
    def fsync(descriptors: list[int]) -> None:
        """Wait until the disk has it; closes the descriptors. Raises the first OSError."""
        failed: OSError | None = None
        for descriptor in descriptors:
            try:
                os.fsync(descriptor)
            except OSError as error:
                failed = failed or error
            finally:
                os.close(descriptor)
        if failed is not None:
            raise failed

    def close(self) -> None:
        """Write everything down and let the slot go. Raises OSError where the disk did not take it."""
        for segment in self._segments:
            segment.pass_over_acknowledged()
        self.rewind()
        self._clear()
        if self._active is not None and self._active.size == FIRST:
            self._active.path.unlink(missing_ok=True)
            self._active.release()
            self._segments.remove(self._active)
        self._active = None
        try:
            for segment in self._segments:
                segment.write_summary()
                segment.unsynced = True
            self.fsync(self.unsynced())
        finally:
            for segment in self._segments:
                segment.release()
            self._segments.clear()
            os.close(self._lock)


def _lock(directory: Path) -> int | None:
    """A descriptor that holds the directory until it is closed, None where another process holds it. Raises OSError."""
    descriptor = os.open(directory / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            return None
        raise
    return descriptor
