"""raw.syslog → events.cef, events.file-audit, events.syslog: what a line is decides where it goes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import PurePosixPath
from typing import Any

import orjson

from weir.model.batch import RawBatch
from weir.model.ids import event_id
from weir.processors.cef_fields import cef_fields
from weir.processors.localtime import ToUtc, local_time
from weir.processors.outcome import Dead, Outcome, RawCoordinates, common_fields, event_hash
from weir.processors.runtime import ProcessorSettings, run_processor
from weir.processors.signals import load_signal_source
from weir.protocols import cef, qumulo, qumulo_operations, syslog

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
        to_utc = local_time(batch.time_zone, batch.received_at, utc_offset_minutes)
        for index, unit in enumerate(batch.units):
            if not unit.strip():
                outcome.units_empty += 1
                continue
            record = common.copy()
            record["event_id"] = event_id(batch_hex, batch.position(index))
            if batch.content_hashes:
                record["event_hash"] = event_hash(batch, index)
            try:
                dataset = _decode(unit, record, batch.received_at, to_utc)
            except ValueError as error:
                outcome.dead.append(Dead(index, str(error)))
                continue
            outcome.add(dataset, record)
        return outcome

    return process


def _decode(unit: bytes, record: dict[str, Any], received_us: int, to_utc: ToUtc) -> str:
    """Put the fields of one line into its record and return the dataset.

    Raises ValueError for what announces a format and does not keep to it.
    """
    if not syslog.is_text(unit):
        raise ValueError("not text: no syslog priority, and control or undecodable bytes")
    message = syslog.parse(unit, received_us=received_us, to_utc=to_utc)
    record["timestamp"] = message.timestamp_us
    record["host_name"] = message.hostname
    record["log_syslog_facility"] = message.facility
    record["log_syslog_severity"] = message.severity
    if (body := qumulo.recognise(message)) is not None:
        record.update(_file_audit(qumulo.parse(body), body))
        return "file-audit"
    if (start := cef.find(message.message)) >= 0:
        text = message.message[start:]
        record.update(cef_fields(cef.parse(text), to_utc))
        record["event_original"] = text
        return "cef"
    record.update(_plain(message))
    return "syslog"


def _plain(message: syslog.SyslogMessage) -> dict[str, Any]:
    structured = orjson.dumps(message.structured_data).decode() if message.structured_data else None
    return {
        "event_module": "syslog",
        "event_dataset": "syslog",
        "event_severity": message.severity,
        "message": message.message,
        "log_syslog_version": message.format,
        "process_name": message.app_name,
        "process_pid": message.proc_id,
        "log_syslog_msgid": message.msg_id,
        "log_syslog_structured_data": structured,
    }


def _file_audit(audit: qumulo.QumuloAudit, body: str) -> dict[str, Any]:
    domain, _, name = audit.user_id.rpartition("\\")
    file_name = _last_part(audit.file_path)
    dot = file_name.rfind(".")
    # A leading dot hides a file and a trailing one ends its name: neither begins an extension.
    suffix = file_name[dot + 1 :].lower() if 0 < dot < len(file_name) - 1 else ""
    kind = qumulo_operations.classify(audit.operation)
    return {
        "event_module": "qumulo",
        "event_dataset": "qumulo.audit",
        "event_category": list(kind.category),
        "event_type": list(kind.type),
        "event_action": audit.operation,
        "event_outcome": "success" if audit.error_status == "ok" else "failure",
        "event_original": body,
        "observer_vendor": "Qumulo",
        "observer_product": "Core",
        "source_ip": audit.client_ip or None,
        "user_id": audit.user_id or None,
        "user_name": name or None,
        "user_domain": domain or None,
        "network_protocol": audit.protocol or None,
        "error_code": audit.error_status or None,
        "file_id": audit.file_id or None,
        "file_path": audit.file_path or None,
        "file_name": file_name or None,
        "file_extension": suffix or None,
        "file_target_path": audit.secondary_file_path or None,
        "node_name": audit.node_name,
    }


def _last_part(path: str) -> str:
    """Name of the file or folder at a path. Slashes and "." at its end are rare: only then the whole path is taken apart."""
    name = path.rpartition("/")[2]
    return PurePosixPath(path).name if name in {"", "."} and path else name


def main(settings: ProcessorSettings) -> int:
    """Run the syslog processor until it is told to stop."""
    process = make_process(settings.utc_offset_minutes)
    return run_processor(settings, "process.syslog", "raw.syslog", process, load_signal_source(settings.rules_dir))
