"""The raw batch: what one source sent within a short linger, as every receiver publishes it and every processor reads it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

__all__ = ["MAX_BATCH_BYTES", "FlowName", "FlowSampling", "FlowTemplate", "RawBatch", "TruncatedUnit"]

MAX_BATCH_BYTES = 900_000
"""No raw record is larger than this, encoded; it leaves room for headers under the 1 MB that Event Hubs allows."""


@dataclass(frozen=True, slots=True)
class TruncatedUnit:
    """A unit that was cut: its number, its whole length in bytes, its SHA-256 where it was read to the end."""

    position: int
    original_length: int
    sha256: bytes = b""


@dataclass(frozen=True, slots=True)
class FlowTemplate:
    """One NetFlow v9 (version 9) or IPFIX (version 10) template record as on the wire, from its template id on."""

    version: int
    observation_domain: int
    template_id: int
    options: bool
    record: bytes


@dataclass(frozen=True, slots=True)
class FlowSampling:
    """Packets observed for each sampled one, as an exporter announced; selector 0 is the domain's default."""

    version: int
    observation_domain: int
    selector_id: int
    interval: float


@dataclass(frozen=True, slots=True)
class FlowName:
    """What an exporter calls a number in its flows; `kind` is interface, interface-description, application or vrf."""

    version: int
    observation_domain: int
    kind: str
    key: str
    name: str


@dataclass(slots=True)
class RawBatch:
    """Field meanings are those of `schemas/avro/raw-batch.v1.avsc`; times are microseconds UTC."""

    batch_id: bytes
    site: str
    receiver: str
    transport: str
    source_ip: str
    listener_port: int
    received_at: int
    units: list[bytes]
    source_port: int | None = None
    tls_subject: str | None = None
    source_name: str | None = None
    tenant: str | None = None
    source_vendor: str | None = None
    time_zone: str | None = None
    positions: list[int] = field(default_factory=list)
    truncated: list[TruncatedUnit] = field(default_factory=list)
    flow_templates: list[FlowTemplate] = field(default_factory=list)
    flow_samplings: list[FlowSampling] = field(default_factory=list)
    flow_names: list[FlowName] = field(default_factory=list)
    content_hashes: bytes = b""
    without_template: list[int] = field(default_factory=list)

    def position(self, index: int) -> int:
        """Unit number of the index-th unit here, in the batch as first published."""
        return self.positions[index] if self.positions else index

    def content_hash(self, index: int) -> bytes:
        """Content hash of the index-th unit here, 8 bytes; empty where the source is not known to come twice."""
        return self.content_hashes[8 * index : 8 * index + 8]

    def only(self, indexes: list[int]) -> RawBatch:
        """A copy with just these units (by index here), under the same batch id and with their first unit numbers."""
        keep = {self.position(i) for i in indexes}
        return RawBatch(
            batch_id=self.batch_id,
            site=self.site,
            receiver=self.receiver,
            transport=self.transport,
            source_ip=self.source_ip,
            listener_port=self.listener_port,
            received_at=self.received_at,
            units=[self.units[i] for i in indexes],
            source_port=self.source_port,
            tls_subject=self.tls_subject,
            source_name=self.source_name,
            tenant=self.tenant,
            source_vendor=self.source_vendor,
            time_zone=self.time_zone,
            positions=[self.position(i) for i in indexes],
            truncated=[t for t in self.truncated if t.position in keep],
            flow_templates=self.flow_templates,
            flow_samplings=self.flow_samplings,
            flow_names=self.flow_names,
            content_hashes=b"".join(self.content_hash(i) for i in indexes),
            without_template=[p for p in self.without_template if p in keep],
        )

    def to_record(self) -> dict[str, Any]:
        """The Avro record."""
        return {
            "batch_id": self.batch_id,
            "site": self.site,
            "receiver": self.receiver,
            "transport": self.transport,
            "source_ip": self.source_ip,
            "source_port": self.source_port,
            "listener_port": self.listener_port,
            "received_at": self.received_at,
            "tls_subject": self.tls_subject,
            "source_name": self.source_name,
            "tenant": self.tenant,
            "source_vendor": self.source_vendor,
            "time_zone": self.time_zone,
            "units": self.units,
            "positions": self.positions,
            "truncated": [
                {"position": t.position, "original_length": t.original_length, "sha256": t.sha256} for t in self.truncated
            ],
            "flow_templates": [
                {
                    "version": t.version,
                    "observation_domain": t.observation_domain,
                    "template_id": t.template_id,
                    "options": t.options,
                    "record": t.record,
                }
                for t in self.flow_templates
            ],
            "flow_samplings": [
                {
                    "version": s.version,
                    "observation_domain": s.observation_domain,
                    "selector_id": s.selector_id,
                    "interval": s.interval,
                }
                for s in self.flow_samplings
            ],
            "flow_names": [
                {"version": n.version, "observation_domain": n.observation_domain, "kind": n.kind, "key": n.key, "name": n.name}
                for n in self.flow_names
            ],
            "content_hashes": self.content_hashes,
            "without_template": self.without_template,
        }

    @classmethod
    def from_record(cls, record: dict[str, Any]) -> RawBatch:
        """The batch in an Avro record, as decoded with times left as microseconds."""
        return cls(
            **{
                **record,
                "truncated": [TruncatedUnit(**t) for t in record["truncated"]],
                "flow_templates": [FlowTemplate(**t) for t in record["flow_templates"]],
                "flow_samplings": [FlowSampling(**s) for s in record["flow_samplings"]],
                "flow_names": [FlowName(**n) for n in record["flow_names"]],
            }
        )
