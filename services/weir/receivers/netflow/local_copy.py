"""A copy on disk of what exporters have announced, for a receiver that starts while Kafka is away.

One file, replaced as a whole: a checksum over it tells a damaged one. It is written when something has changed, not more often than
every so many seconds, and once more at the end.
"""

from __future__ import annotations

import base64
import hashlib
import os
import tempfile
from pathlib import Path

import orjson

from weir.receivers.netflow.state import FlowStateCodec, StateRecord

__all__ = ["MAX_COPY_BYTES", "CopyError", "FlowCopy"]

MAX_COPY_BYTES = 256 * 1024 * 1024
"""A larger file is neither written nor read."""

_MAGIC = b"weir flow state 1 "


class CopyError(ValueError):
    """The file is no such copy, or damaged."""


class FlowCopy:
    """The copy in one file; its methods block and may run in any thread, one at a time.

    Args:
        path: the file; its directory is made where it does not exist.
        site: for the records.
    """

    def __init__(self, path: Path, site: str) -> None:
        self.path = path
        self._codec = FlowStateCodec(site)

    def load(self) -> list[StateRecord]:
        """What was saved last; nothing where there is no file.

        Raises:
            CopyError: it is damaged, or too large.
            OSError: it cannot be read.
        """
        try:
            if self.path.stat().st_size > MAX_COPY_BYTES:
                raise CopyError(f"{self.path} is larger than {MAX_COPY_BYTES} bytes")
            head, _, body = self.path.read_bytes().partition(b"\n")
        except FileNotFoundError:
            return []
        if head != _MAGIC + hashlib.blake2b(body, digest_size=32).hexdigest().encode():
            raise CopyError(f"{self.path} is damaged: its checksum does not fit")
        try:
            return [self._codec.decode(key.encode(), base64.b64decode(value)) for key, value in orjson.loads(body)]
        except (ValueError, TypeError, AttributeError, KeyError) as error:
            # Whole, but not ours: written by a version that knows other records, say. No reason not to start.
            raise CopyError(f"{self.path} holds what is no record of the state: {error}") from error

    def save(self, records: list[StateRecord]) -> None:
        """Replace the file. Raises OSError where the disk does not take it, CopyError for more than MAX_COPY_BYTES."""
        rows: list[tuple[str, str]] = []
        for record in records:
            if record.item is not None:
                value = self._codec.encode(record.exporter, record.learned_at, record.item)
                rows.append((record.key.text(record.exporter), base64.b64encode(value).decode()))
        body = orjson.dumps(rows)
        if len(body) > MAX_COPY_BYTES - 128:
            raise CopyError(f"{len(body)} bytes are more than a copy may hold")
        self.path.parent.mkdir(parents=True, exist_ok=True)
        # Several processes of one host may write the same file: each its own new one, then whole in place of the old.
        number, name = tempfile.mkstemp(prefix=self.path.name + ".", dir=self.path.parent)
        try:
            with os.fdopen(number, "wb") as file:
                file.write(_MAGIC + hashlib.blake2b(body, digest_size=32).hexdigest().encode() + b"\n" + body)
                file.flush()
                os.fsync(file.fileno())
            Path(name).replace(self.path)
        except OSError:
            Path(name).unlink(missing_ok=True)
            raise
