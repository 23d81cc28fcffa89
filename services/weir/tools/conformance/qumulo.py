"""Qumulo's audit log as the vendor documents it: sample lines in each format, operations and error statuses."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from weir.protocols import qumulo_operations
from weir.tools.conformance import Case
from weir.tools.conformance._lines import decode, lines_of

__all__ = ["cases"]

# The same events in CSV and in CloudWatch's JSON have these fields in common.
_SHARED: Final = (
    "source_ip", "user_id", "user_name", "user_domain", "network_protocol", "event_action", "event_outcome", "error_code",
    "file_id",
    "file_path", "file_target_path",
)  # fmt: skip


def cases(corpus: Path) -> Iterator[Case]:
    """Each sample line, each operation, each error status; rows of CloudWatch also against the CSV lines of the same events."""
    folder = corpus / "qumulo"
    decoded: dict[str, list[dict[str, Any]]] = {}
    for path in sorted(folder.glob("samples_*")):
        lines = [line for line in lines_of(path) if "{" in line or "," in line]
        for number, line in enumerate(lines):
            name = f"qumulo/{path.name}:{number + 1}"
            try:
                dataset, event = decode(line)
            except ValueError as error:
                yield Case(name, f"refused: {error}")
                continue
            decoded.setdefault(path.stem, []).append(event)
            whole = event.get("source_ip") and event.get("event_action") and event.get("error_code") and event.get("user_name")
            yield Case(name, None if dataset == "file-audit" and whole else f"became an event of {dataset} without its fields")
    csv, rows = decoded.get("samples_csv_rfc3164", []), decoded.get("samples_cloudwatch", [])
    for number, (one, other) in enumerate(zip(csv, rows, strict=False)):
        unequal = [field for field in _SHARED if one.get(field) != other.get(field)]
        yield Case(f"qumulo/csv-and-cloudwatch:{number + 1}", f"differ in {', '.join(unequal)}" if unequal else None)
    for operation in _words(folder / "operations.txt"):
        known = operation in qumulo_operations.OPERATIONS
        yield Case(f"qumulo/operation/{operation}", None if known else "has no category and type")
    for status in _words(folder / "error_statuses.txt"):
        _, event = decode(f'<14>1 - q1 qumulo - - - 10.0.0.1,"u",smb,fs_open,{status},3,"/a",""')
        right = event.get("event_outcome") == "failure" and event.get("error_code") == status
        yield Case(f"qumulo/status/{status}", None if right else f"became {event.get('event_outcome')}")


def _words(path: Path) -> list[str]:
    return [line.strip() for line in lines_of(path)] if path.exists() else []
