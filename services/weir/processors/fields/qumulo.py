"""A Qumulo audit record as fields of events.file-audit."""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import Any, Final

import orjson

from weir.processors.fields import Context, Decoded
from weir.protocols import keyvalues, qumulo, qumulo_operations, syslog

__all__ = ["audit_fields", "document", "line", "name"]

name: Final = "qumulo"

# What an operation is done to, in ECS's words for file.type, where its name says so.
FILE_TYPES: Final = {
    "fs_create_directories": "dir",
    "fs_create_directory": "dir",
    "fs_list_directory": "dir",
    "fs_tree_delete": "dir",
    "tree_delete_start": "dir",
    "tree_delete_cancel": "dir",
    "fs_create_file": "file",
    "fs_create_hard_link": "file",
    "fs_copy_chunk": "file",
    "fs_read_data": "file",
    "fs_write_data": "file",
    "fs_create_symlink": "symlink",
    "fs_read_link": "symlink",
}


def audit_fields(audit: qumulo.QumuloAudit, body: str) -> dict[str, Any]:
    """Event fields of an audit record; `body` is its text as it came."""
    user_name, user_domain = qumulo.split_user(audit.user_id)
    file_name = _last_part(audit.file_path)
    dot = file_name.rfind(".")
    # A leading dot hides a file and a trailing one ends its name: neither begins an extension.
    suffix = file_name[dot + 1 :].lower() if 0 < dot < len(file_name) - 1 else ""
    kind = qumulo_operations.classify(audit.operation)
    fields: dict[str, Any] = {
        "timestamp": None,
        "event_module": "qumulo",
        "event_dataset": "qumulo.audit",
        "event_category": list(kind.category),
        "event_type": list(kind.type),
        "event_action": audit.operation,
        "event_outcome": "success" if audit.error_status == "ok" else "failure",
        "event_original": body,
        "observer_vendor": "Qumulo",
        "observer_product": "Core",
        "source_ip": keyvalues.address(audit.client_ip),
        "user_id": audit.user_sid or audit.user_id or audit.user_auth_id or None,
        "user_name": user_name,
        "user_domain": user_domain,
        "network_protocol": audit.protocol or None,
        "error_code": audit.error_status or None,
        "file_id": audit.file_id or None,
        "file_path": audit.file_path or None,
        "file_name": file_name or None,
        "file_extension": suffix or None,
        "file_type": FILE_TYPES.get(audit.operation),
        "file_owner": audit.file_owner or None,
        "file_target_path": audit.secondary_file_path or None,
        "node_name": audit.node_name,
    }
    if audit.user_auth_id:
        fields["labels"] = {"auth_id": audit.user_auth_id}
    return fields


def _last_part(path: str) -> str:
    """Name of the file or folder at a path. Slashes and "." at its end are rare: only then the whole path is taken apart."""
    name = path.rpartition("/")[2]
    return PurePosixPath(path).name if name in {"", "."} and path else name


# A row of the table that CloudWatch's console copies: milliseconds, and the record.
_TABLE_ROW = re.compile(r"\|\s{0,8}([0-9]{13})\s{0,8}\|\s{0,8}(\{.*\})\s*+\|\s*+", re.DOTALL)


def line(text: str, context: Context) -> Decoded | None:
    """An audit line with the syslog header that a file of them has, a row of a CloudWatch table, or JSON with bare backslashes.

    Raises QumuloError (a ValueError) as `qumulo.parse`.
    """
    if text.startswith("{"):
        # Only what is no JSON comes here.
        return _read(text) if '"operation"' in text and '"protocol"' in text and '"user' in text else None
    if text.startswith("|"):
        found = _TABLE_ROW.fullmatch(text)
        if found is None or '"operation"' not in found[2]:
            return None
        dataset, fields = _read(found[2])
        return dataset, fields | {"timestamp": int(found[1]) * 1000}
    if "qumulo" not in text:
        return None
    message = syslog.parse(text.encode("utf-8", "replace"), received_us=context.received_us, to_utc=context.to_utc)
    if (body := qumulo.recognise(message)) is None:
        return None
    dataset, fields = _read(body)
    return dataset, fields | {"timestamp": message.timestamp_us, "host_name": message.hostname}


def _read(body: str) -> Decoded:
    return "file-audit", audit_fields(qumulo.parse(body), body)


def document(document: dict[str, object], context: Context) -> Decoded | None:
    """An audit record in JSON, by syslog's names or CloudWatch's, or one in the `message` of a document that ships it."""
    audit = qumulo.from_document(document)
    if audit is not None:
        text = orjson.dumps(document).decode()
        return "file-audit", audit_fields(audit, text) | {"document": text, "event_original": None}
    message = document.get("message")
    if not isinstance(message, str):
        return None
    if message.startswith("{"):
        return _read(message) if '"operation"' in message and '"protocol"' in message and '"user' in message else None
    return line(message, context)
