"""Units of one source on their way into a raw batch."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from typing import NamedTuple

from weir.model.batch import FlowName, FlowSampling, FlowTemplate, RawBatch, TruncatedUnit
from weir.model.ids import new_batch_id

__all__ = ["BATCH_OVERHEAD", "UNIT_OVERHEAD", "OpenBatch", "Source", "content_hash", "cost_of", "cut"]

UNIT_OVERHEAD = 64
"""Bytes a unit occupies beside its content: object header and list slot. Without it empty datagrams would be free."""

BATCH_OVERHEAD = 2_048
"""Bytes a batch occupies beside its units, so that a flood of invented sources is bounded too."""

_LINE_ENDS = b"\r\n\0"
_ENCODED_UNIT = 4  # length prefix in Avro
_ENCODED_TRUNCATED = 48  # position, length, SHA-256


class Source(NamedTuple):
    """Whose units share a batch: sender's address, way in, and what is known of the sender.

    Made by `weir.receivers.sources.Sources.of`. `copied`: the same units reach another receiver too, so they carry content
    hashes. `quarantined`: not in the catalogue, so its batches wait in raw.quarantine. `stream` tells connections of one sender
    apart where they must not share a batch, such as IPFIX over TCP with its templates by connection; 0 where they may.
    """

    ip: str
    transport: str
    listener_port: int
    tls_subject: str | None = None
    name: str | None = None
    tenant: str | None = None
    vendor: str | None = None
    site: str | None = None
    time_zone: str | None = None
    copied: bool = False
    quarantined: bool = False
    stream: int = 0


def cost_of(unit: bytes) -> int:
    """Bytes of memory a collected unit counts for."""
    return len(unit) + UNIT_OVERHEAD


def cut(unit: bytes, limit: int) -> tuple[bytes, int, bytes]:
    """The unit, cut to `limit` bytes where it is longer; then its first length and the SHA-256 of the whole, else 0 and b""."""
    if len(unit) <= limit:
        return unit, 0, b""
    return unit[:limit], len(unit), hashlib.sha256(unit).digest()


def content_hash(unit: bytes) -> bytes:
    """What copies of a unit have in common: 8 bytes.

    Line ends and NUL at the end do not count: where a sender puts them into its datagrams and counted messages, as rsyslog and
    syslog-ng do, copies of these by lines have none.
    """
    return hashlib.blake2b(unit.rstrip(_LINE_ENDS), digest_size=8).digest()


class OpenBatch:
    """A batch that still takes units. Its id is given here, once; everything later keeps it."""

    __slots__ = (
        "batch_id",
        "bytes_in",
        "cost",
        "encoded",
        "flow_names",
        "flow_samplings",
        "flow_templates",
        "opened",
        "received_at",
        "source",
        "source_port",
        "truncated",
        "units",
        "without_template",
    )

    def __init__(self, source: Source, received_at: int | None = None) -> None:
        self.source = source
        self.batch_id = new_batch_id()
        self.received_at = time.time_ns() // 1000 if received_at is None else received_at
        self.opened = time.monotonic()
        self.units: list[bytes] = []
        self.truncated: list[TruncatedUnit] = []
        self.source_port: int | None = None
        self.flow_templates: list[FlowTemplate] = []
        self.flow_samplings: list[FlowSampling] = []
        self.flow_names: list[FlowName] = []
        self.without_template: list[int] = []
        self.bytes_in = 0
        self.encoded = 512
        self.cost = BATCH_OVERHEAD

    def add(self, unit: bytes, port: int | None, original_length: int = 0, sha256: bytes = b"") -> None:
        """Append a unit; `original_length` is given for one that was cut."""
        if not self.units:
            self.source_port = port
        elif port != self.source_port:
            self.source_port = None
        if original_length > len(unit):
            self.truncated.append(TruncatedUnit(len(self.units), original_length, sha256))
            self.encoded += _ENCODED_TRUNCATED
        self.units.append(unit)
        self.bytes_in += len(unit)
        self.encoded += len(unit) + _ENCODED_UNIT
        self.cost += cost_of(unit)

    def extend(self, units: Sequence[bytes], size: int, port: int | None) -> None:
        """Append several units, of `size` bytes together, none of them cut."""
        if not self.units:
            self.source_port = port
        elif port != self.source_port:
            self.source_port = None
        self.units += units
        self.bytes_in += size
        self.encoded += size + _ENCODED_UNIT * len(units)
        self.cost += size + UNIT_OVERHEAD * len(units)

    def fits_all(self, units: int, size: int, limit: int) -> bool:
        """Whether the batch stays within `limit` encoded bytes with so many units of `size` bytes together."""
        return self.encoded + size + _ENCODED_UNIT * units + _ENCODED_TRUNCATED <= limit

    def fits(self, unit: bytes, limit: int) -> bool:
        """Whether the batch stays within `limit` encoded bytes with this unit; the first one always fits."""
        return not self.units or self.encoded + len(unit) + _ENCODED_UNIT + _ENCODED_TRUNCATED <= limit

    def close(self, site: str, receiver: str) -> RawBatch:
        """The finished batch."""
        source = self.source
        return RawBatch(
            batch_id=self.batch_id,
            site=source.site or site,
            receiver=receiver,
            transport=source.transport,
            source_ip=source.ip,
            listener_port=source.listener_port,
            received_at=self.received_at,
            units=self.units,
            source_port=self.source_port,
            tls_subject=source.tls_subject,
            source_name=source.name,
            tenant=source.tenant,
            source_vendor=source.vendor,
            time_zone=source.time_zone,
            truncated=self.truncated,
            flow_templates=self.flow_templates,
            flow_samplings=self.flow_samplings,
            flow_names=self.flow_names,
            content_hashes=b"".join(map(content_hash, self.units)) if source.copied else b"",
            without_template=self.without_template,
        )
