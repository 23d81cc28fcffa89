"""raw.beats → events of all datasets: what each document, or the line in it, is decides where it goes."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from weir.model.batch import RawBatch
from weir.model.ids import event_id
from weir.processors.fields import NOTHING, Context, Decoded
from weir.processors.fields.sensor import document_fields, shipper_fields, tags_of
from weir.processors.fields.syslog import add_header
from weir.processors.localtime import local_time
from weir.processors.outcome import Dead, Outcome, RawCoordinates, common_fields, event_hash
from weir.processors.readers import read_document, read_text
from weir.protocols import beats, sensorfleet, syslog

if TYPE_CHECKING:
    from weir.processors.settings import ProcessorSettings

__all__ = ["main", "make_process", "process"]

# Under this transport a receiver hands over the bytes that broke a connection's framing.
ERROR_TRANSPORT = "lumberjack-error"

_WITHOUT_SHIPPER: Final = frozenset({"cef", "file-audit", "syslog"})
"""Datasets that have no columns for who shipped a line."""


def make_process(utc_offset_minutes: int = 0) -> Callable[[RawBatch, RawCoordinates], Outcome]:
    """The pure function from a batch of JSON documents to events.

    Args:
        utc_offset_minutes: zone of times that name none, for sources whose zone is not known.
    """
    return lambda batch, where: _process(batch, where, utc_offset_minutes)


def _process(batch: RawBatch, where: RawCoordinates, utc_offset_minutes: int) -> Outcome:
    outcome = Outcome()
    common = common_fields(batch, where)
    batch_hex = batch.batch_id.hex()
    if batch.transport == ERROR_TRANSPORT:
        reason = "the connection broke the Lumberjack framing here; nothing of it was acknowledged"
        outcome.dead.extend(Dead(index, reason) for index in range(len(batch.units)))
        return outcome
    # What a document does not say of itself: by which way it came.
    module = "http" if batch.transport == "http" else "beats"
    context = Context(batch.received_at, local_time(batch.time_zone, batch.received_at, utc_offset_minutes))
    for index, unit in enumerate(batch.units):
        try:
            dataset, fields = _decode(beats.parse(unit), module, context)
        except ValueError as error:
            outcome.dead.append(Dead(index, str(error)))
            continue
        except Exception as error:
            outcome.failed(index, error)
            continue
        if not dataset:
            outcome.units_empty += 1
            continue
        record = {**common, **fields}
        record["event_id"] = event_id(batch_hex, batch.position(index))
        if batch.content_hashes:
            record["event_hash"] = event_hash(batch, index)
        outcome.add(dataset, record)
    return outcome


process = make_process()
"""With times that name no zone in UTC."""


def _decode(document: dict[str, object], module: str, context: Context) -> Decoded:
    """Dataset and fields; `module` stands for a shipper that is not named.

    Raises ValueError for a document that claims to be what it cannot be.
    """
    shipped = beats.shipping(document)
    context.program = None
    context.log_path = shipped.log_file_path
    context.module = shipped.event_module
    context.event_dataset = shipped.event_dataset
    message = shipped.message
    record = beats.json_object(message) if message is not None and message.lstrip(" ").startswith("{") else None
    found = _read(document, record, context)
    if found is None:
        found = _from_text(document, record, shipped, module, context)
    if found is NOTHING:
        return found
    dataset, fields = found
    more = fields.get("tags")
    if not more:
        fields["tags"] = tags_of(document)
    elif sensorfleet.TAG not in more or not sensorfleet.recognise(document):
        # The envelope's own tags are dropped, as the vendor's filter does; all others are kept.
        tags = tags_of(document)
        fields["tags"] = tags + [tag for tag in more if tag not in tags]
    # The source writes time and host itself; the shipper is asked only where it did not.
    if fields.get("timestamp") is None:
        fields["timestamp"] = shipped.timestamp
    if fields.get("host_name") is None:
        fields["host_name"] = shipped.host_name
    if shipped is not beats.NOBODY and dataset not in _WITHOUT_SHIPPER:
        fields.update(shipper_fields(shipped))
    return dataset, fields


def _read(document: dict[str, object], record: dict[str, object] | None, context: Context) -> Decoded | None:
    """What a reader makes of the document, or of a document in it, such as `record`, which its message is."""
    if record is not None and (found := read_document(record, context)) is not None:
        return found
    if (found := read_document(document, context)) is not None:
        return found
    for nested in beats.records(document):
        if (found := read_document(nested, context)) is not None:
            return found
    return None


def _from_text(
    document: dict[str, object], record: dict[str, object] | None, shipped: beats.Shipping, module: str, context: Context
) -> Decoded:
    """What a reader makes of the lines in the document; else a sensor event. `record` is the message where that is JSON.

    A syslog header of the message says more than the shipper does; the line stays whole.
    """
    message = shipped.message
    header = None if message is None else _syslog(message, document, context)
    # A document in the message has been read as one already.
    if message is not None and (record is None or header is not None):
        found = _read_line(message, header, context)
        if found is not None:
            return found
    line = beats.original(document)
    if line is not None and (found := _read_line(line, _syslog(line, document, context), context)) is not None:
        return found
    fields = document_fields(document, shipped, module)
    if header is not None:
        fields["timestamp"] = header.timestamp_us
        fields["host_name"] = header.hostname
        for column, value in (
            ("process_name", header.app_name),
            ("log_syslog_facility", header.facility),
            ("log_syslog_severity", header.severity),
        ):
            fields.setdefault(column, value)
    return "sensor", fields


def _read_line(text: str, header: syslog.SyslogMessage | None, context: Context) -> Decoded | None:
    """A line as it stands or, where it has a syslog header, what stands behind that."""
    if header is None:
        # One that begins as JSON and is none may still be somebody's: Qumulo writes escapes that JSON does not have.
        return None if text.startswith("{") and beats.json_object(text) is not None else read_text(text, context)
    context.program = header.app_name
    found = read_text(header.message, context)
    if found is not None and found is not NOTHING:
        add_header(*found, header)
    return found


def _syslog(text: str, document: dict[str, object], context: Context) -> syslog.SyslogMessage | None:
    """The message that a line is: of Filebeat's udp and tcp inputs by its priority, of its system module without one."""
    if not (text.startswith("<") and text[1:2].isdigit()) and context.module != "system":
        return None
    to_utc = context.to_utc
    if (offset := beats.time_zone_us(document)) is not None:
        to_utc = lambda local: local - offset  # noqa: E731 - one expression
    message = syslog.parse(text.encode("utf-8", "surrogatepass"), received_us=context.received_us, to_utc=to_utc)
    return None if message.format == "unparsed" else message


def main(settings: ProcessorSettings) -> int:
    """Run the Beats processor until it is told to stop."""
    # Imported here: who but decodes, such as `weir decode`, needs neither Faust nor the rules.
    from weir.processors.enrichment import load_enrichment  # noqa: PLC0415
    from weir.processors.rules import load_live_rules  # noqa: PLC0415
    from weir.processors.runtime import run_processor  # noqa: PLC0415

    process = make_process(settings.utc_offset_minutes)
    return run_processor(settings, "process.beats", "raw.beats", process, load_live_rules(settings), load_enrichment(settings))
