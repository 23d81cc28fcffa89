"""raw.netflow → events.network-flow (and events.network-log): a batch decodes with nothing but what it carries."""

from __future__ import annotations

from typing import Any

import orjson

from weir.model.batch import RawBatch
from weir.model.ids import event_id
from weir.processors import sflow_fields
from weir.processors.outcome import Dead, Outcome, RawCoordinates, common_fields, event_hash
from weir.processors.runtime import ProcessorSettings, run_processor
from weir.processors.signals import load_signal_source
from weir.protocols import netflow, sflow

__all__ = ["main", "process"]

CONSTANT: dict[str, Any] = {
    "event_module": "netflow",
    "event_dataset": "netflow.flow",
    "event_category": ["network"],
    "event_type": ["connection"],
    "event_action": "netflow_flow",
}
# Decoder's name and event's name, where they differ; the times, which every flow is asked for, are in `_fill`.
RENAMED = (
    ("flow_direction", "network_direction"),
    ("observation_domain", "flow_observation_domain"),
    ("application_name", "network_application"),
)


def process(batch: RawBatch, where: RawCoordinates) -> Outcome:
    """Flows of a batch of datagrams. A datagram that decodes in part gives its flows and is dead-lettered as well."""
    outcome = Outcome()
    common = common_fields(batch, where) | CONSTANT
    batch_hex = batch.batch_id.hex()
    decoder = netflow.Decoder(
        [netflow.TemplateRecord(t.version, t.observation_domain, t.template_id, t.options, t.record) for t in batch.flow_templates],
        [netflow.SamplingRecord(s.version, s.observation_domain, s.selector_id, s.interval) for s in batch.flow_samplings],
    )
    for index, datagram in enumerate(batch.units):
        if sflow.is_sflow(datagram):
            sflow_fields.add_datagram(outcome, batch, index, common)
            continue
        try:
            result = decoder.decode(datagram)
        except netflow.FlowError as error:
            outcome.dead.append(Dead(index, str(error)))
            continue
        unit = batch.position(index)
        for number, flow in zip(result.positions, result.flows, strict=True):
            record = common.copy()
            record["event_id"] = event_id(batch_hex, unit, number)
            if batch.content_hashes:
                record["event_hash"] = event_hash(batch, index, number)
            _fill(record, flow)
            outcome.add("network-flow", record)
        if not result.complete:
            unknown = [f"no template {template} of domain {domain}" for domain, template in sorted(result.unknown_templates)]
            outcome.dead.append(Dead(index, "; ".join(result.errors + unknown)))
        elif result.empty:
            outcome.units_empty += 1
    return outcome


def _fill(record: dict[str, Any], flow: netflow.FlowRecord) -> None:
    """Put a flow's fields into its record; one dict for both, because copying costs more than all else here."""
    record.update(flow)
    for name, ours in RENAMED:
        if name in record:
            record[ours] = record.pop(name)
    additional = record.pop("additional", None)
    if additional:
        record["flow_additional"] = orjson.dumps(additional).decode()
    start = record["event_start"] = record.pop("event_start_us", None)
    end = record["event_end"] = record.pop("event_end_us", None)
    record["timestamp"] = end or start
    if start is not None and end is not None and end >= start:
        record["event_duration"] = (end - start) * 1000


def main(settings: ProcessorSettings) -> int:
    """Run the NetFlow processor until it is told to stop."""
    return run_processor(settings, "process.netflow", "raw.netflow", process, load_signal_source(settings.rules_dir))
