"""A Qumulo audit record as fields of events.file-audit."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Any

from weir.protocols import qumulo, qumulo_operations

__all__ = ["audit_fields"]


def audit_fields(audit: qumulo.QumuloAudit, body: str) -> dict[str, Any]:
    """Event fields of an audit record; `body` is its text as it came."""
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
