"""raw.syslog → events.cef, events.file-audit, events.syslog: what a line is decides where it goes."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from weir.model.batch import RawBatch
from weir.model.ids import event_id
from weir.processors.fields import NOTHING, Context, Decoded
from weir.processors.fields import cef as cef_fields
from weir.processors.fields import qumulo as qumulo_fields
from weir.processors.fields import syslog as syslog_fields
from weir.processors.localtime import local_time
from weir.processors.outcome import Dead, Outcome, RawCoordinates, common_fields, event_hash
from weir.processors.readers import plugged, read_text
from weir.protocols import qumulo, syslog

if TYPE_CHECKING:
    from weir.processors.settings import ProcessorSettings

__all__ = ["ERROR_TRANSPORT", "main", "make_process"]

ERROR_TRANSPORT = "syslog-error"
"""Under this label a receiver hands over bytes that stood where a connection's next message should have begun."""


def make_process(utc_offset_minutes: int = 0) -> Callable[[RawBatch, RawCoordinates], Outcome]:
    """The pure function from a batch of lines to events.

    Args:
        utc_offset_minutes: zone of times that name none, for sources whose zone is not known.
    """

    def process(batch: RawBatch, where: RawCoordinates) -> Outcome:
        outcome = Outcome()
        if batch.transport == ERROR_TRANSPORT:
            reason = "no message: a sender that counts octets (RFC 6587, section 3.4.1) has miscounted, and this was left over"
            outcome.dead.extend(Dead(index, reason) for index in range(len(batch.units)))
            return outcome
        common = common_fields(batch, where)
        batch_hex = batch.batch_id.hex()
        context = Context(batch.received_at, local_time(batch.time_zone, batch.received_at, utc_offset_minutes))
        for index, unit in enumerate(batch.units):
            if not unit.strip(_BLANK):
                outcome.units_empty += 1
                continue
            record = common.copy()
            record["event_id"] = event_id(batch_hex, batch.position(index))
            if batch.content_hashes:
                record["event_hash"] = event_hash(batch, index)
            try:
                dataset = _decode(unit, record, context)
            except ValueError as error:
                outcome.dead.append(Dead(index, str(error)))
                continue
            except Exception as error:
                outcome.failed(index, error)
                continue
            if not dataset:
                outcome.units_empty += 1
                continue
            outcome.add(dataset, record)
        return outcome

    return process


_BLANK: Final = b" \t\r\n\v\f\0"


def _decode(unit: bytes, record: dict[str, Any], context: Context) -> str:
    """Put the fields of one line into its record and return the dataset, "" for a line that holds no event.

    Raises ValueError for what announces a format and does not keep to it.
    """
    if not syslog.is_text(unit):
        raise ValueError("not text: no syslog priority, and control or undecodable bytes")
    message = syslog.parse(unit, received_us=context.received_us, to_utc=context.to_utc)
    dataset, fields = found = _fields(message, context)
    if found is NOTHING:
        return dataset
    record.update(fields)
    syslog_fields.add_header(dataset, record, message)
    return dataset


def _fields(message: syslog.SyslogMessage, context: Context) -> Decoded:
    """What the message is, the most frequent kinds first, unless a plug-in is to be asked before them."""
    context.program = message.app_name
    if plugged() and (found := read_text(message.message, context)) is not None:
        return found
    if (body := qumulo.recognise(message)) is not None:
        return "file-audit", qumulo_fields.audit_fields(qumulo.parse(body), body)
    if not message.message.startswith("{") and (found := cef_fields.line(message.message, context)) is not None:
        return found
    if not plugged() and (found := read_text(message.message, context)) is not None:
        return found
    return "syslog", syslog_fields.message_fields(message, context)


def main(settings: ProcessorSettings) -> int:
    """Run the syslog processor until it is told to stop."""
    # Imported here: who but decodes, such as `weir decode`, needs neither Faust nor the rules.
    from weir.processors.enrichment import load_enrichment  # noqa: PLC0415
    from weir.processors.rules import load_live_rules  # noqa: PLC0415
    from weir.processors.runtime import run_processor  # noqa: PLC0415

    process = make_process(settings.utc_offset_minutes)
    return run_processor(settings, "process.syslog", "raw.syslog", process, load_live_rules(settings), load_enrichment(settings))
