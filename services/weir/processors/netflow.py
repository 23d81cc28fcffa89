"""raw.netflow → events.network-flow (and events.network-log): a batch decodes with nothing but what it carries."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from weir.model.batch import RawBatch
from weir.model.ids import event_id
from weir.processors.fields import netflow as netflow_fields
from weir.processors.fields import sflow as sflow_fields
from weir.processors.outcome import Dead, Outcome, RawCoordinates, common_fields, event_hash
from weir.protocols import netflow, sflow

if TYPE_CHECKING:
    from weir.processors.settings import ProcessorSettings

__all__ = ["main", "process"]

ERROR_TRANSPORT = "ipfix-error"
"""Under this transport a receiver hands over the bytes that broke a connection's framing."""

# Over these a template can be withdrawn; over UDP a withdrawal must be ignored (RFC 7011 section 8.4).
_SESSIONS = ("tcp", "tls")


def process(batch: RawBatch, where: RawCoordinates) -> Outcome:
    """Flows of a batch of datagrams. A datagram that decodes in part gives its flows and is dead-lettered as well."""
    outcome = Outcome()
    common = common_fields(batch, where) | netflow_fields.CONSTANT
    if batch.transport == ERROR_TRANSPORT:
        reason = "no IPFIX message begins here, or the connection ended within one; the connection was closed"
        outcome.dead.extend(Dead(index, reason) for index in range(len(batch.units)))
        return outcome
    decoder = netflow.Decoder(
        [netflow.TemplateRecord(t.version, t.observation_domain, t.template_id, t.options, t.record) for t in batch.flow_templates],
        [netflow.SamplingRecord(s.version, s.observation_domain, s.selector_id, s.interval) for s in batch.flow_samplings],
        [netflow.NameRecord(n.version, n.observation_domain, n.kind, n.key, n.name) for n in batch.flow_names],
        withdrawals=batch.transport in _SESSIONS,
    )
    for index, datagram in enumerate(batch.units):
        try:
            if sflow.is_sflow(datagram):
                sflow_fields.add_datagram(outcome, batch, index, common)
            else:
                _add_datagram(outcome, batch, index, common, decoder)
        except Exception as error:
            outcome.failed(index, error)
    return outcome


def _add_datagram(outcome: Outcome, batch: RawBatch, index: int, common: dict[str, Any], decoder: netflow.Decoder) -> None:
    """Add what a datagram of NetFlow or IPFIX holds."""
    try:
        result = decoder.decode(batch.units[index])
    except netflow.FlowError as error:
        outcome.dead.append(Dead(index, str(error)))
        return
    batch_hex, unit = batch.batch_id.hex(), batch.position(index)
    for number, flow in zip(result.positions, result.flows, strict=True):
        record = common.copy()
        record["event_id"] = event_id(batch_hex, unit, number)
        if batch.content_hashes:
            record["event_hash"] = event_hash(batch, index, number)
        netflow_fields.fill(record, flow)
        outcome.add("network-flow", record)
    if not result.complete:
        outcome.dead.append(Dead(index, "; ".join(result.errors + _unknown(batch, index, result))))
    elif result.empty:
        outcome.units_empty += 1


def _unknown(batch: RawBatch, index: int, result: netflow.DecodeResult) -> list[str]:
    """Which templates lacked. Decoded once more with them in `flow_templates`, the datagram gives its flows after all."""
    when = ", nor had it come when the receiver published the datagram" if batch.position(index) in batch.without_template else ""
    return [
        f"template not known: exporter {batch.source_ip}, domain {domain}, template {template}{when}"
        for domain, template in sorted(result.unknown_templates)
    ]


def main(settings: ProcessorSettings) -> int:
    """Run the NetFlow processor until it is told to stop."""
    # Imported here: who but decodes, such as `weir decode`, needs neither Faust nor the rules.
    from weir.processors.enrichment import load_enrichment  # noqa: PLC0415
    from weir.processors.rules import load_live_rules  # noqa: PLC0415
    from weir.processors.runtime import run_processor  # noqa: PLC0415

    return run_processor(settings, "process.netflow", "raw.netflow", process, load_live_rules(settings), load_enrichment(settings))
