"""CEF of several vendors, against what Beats' decode_cef made of it where its golden file lies beside the lines.

Without a golden file (Metron's samples) a case asks that the line is an event of events.cef, that its header is in its columns
and that every key that stands in the line behind a space, and before one unescaped equals sign, is a pair of the event.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from weir.protocols.cef_keys import FULL_NAMES
from weir.tools.conformance import Case
from weir.tools.conformance._lines import decode, lines_of

__all__ = ["cases"]

# Beats writes keys by their full names, and these otherwise than the dictionary does.
_BEATS_NAMES: Final = {"filename": "fileName", "DeviceCustomNumber2": "deviceCustomNumber2", "Reason": "reason"}
_COLUMNS: Final = {
    ("source", "ip"): "source_ip",
    ("source", "port"): "source_port",
    ("destination", "ip"): "destination_ip",
    ("destination", "port"): "destination_port",
    ("source", "user", "name"): "user_name",
    ("destination", "user", "name"): "destination_user_name",
    ("network", "transport"): "network_transport",
    ("file", "path"): "file_path",
    ("file", "size"): "file_size",
    ("url", "original"): "url_original",
    ("http", "request", "method"): "http_request_method",
    ("event", "code"): "event_code",
    ("event", "severity"): "event_severity",
    ("observer", "vendor"): "observer_vendor",
    ("observer", "product"): "observer_product",
    ("observer", "version"): "observer_version",
}
REASONS: Final = {
    "severity word": "Beats writes one number for a word; here it is the lowest that the word covers, and the word itself is kept",
    "spaces": "Beats keeps spaces at the end of a value, which nobody can tell from separators",
}


def cases(corpus: Path) -> Iterator[Case]:
    """Each line of each `.cef` and `.log` file under `cef/`, Kemp's apart: these have a family of their own."""
    for path in sorted((corpus / "cef").rglob("*")):
        if path.suffix not in {".cef", ".log"} or "kemp" in path.parts:
            continue
        golden = _golden(path)
        for number, line in enumerate(lines_of(path)):
            name = f"{path.relative_to(corpus)}:{number + 1}"
            expected = golden[number] if number < len(golden) else None
            yield _judge(name, line, expected)


def _golden(path: Path) -> list[dict[str, Any]]:
    for suffix in (".golden.json", "-expected.json"):
        beside = path.with_name(path.name + suffix)
        if beside.exists():
            found = json.loads(beside.read_text(encoding="utf-8"))
            return found if isinstance(found, list) else []
    return []


def _judge(name: str, line: str, expected: dict[str, Any] | None) -> Case:
    try:
        dataset, event = decode(line)
    except ValueError as error:
        return Case(name, f"refused: {error}")
    if dataset != "cef":
        return Case(name, f"became an event of {dataset}")
    found = _missing_keys(line, event) if expected is None else list(_differences(event, expected))
    if not found:
        return Case(name)
    reasons = {reason for _, reason in found}
    return Case(name, "; ".join(text for text, _ in found), None if None in reasons else "; ".join(sorted(map(str, reasons))))


_A_KEY = re.compile(r" ([A-Za-z0-9_]+)=(?!=)")


def _missing_keys(line: str, event: dict[str, Any]) -> list[tuple[str, str | None]]:
    extension = line.partition("CEF:")[2].split("|", 7)[-1]
    return [(f"{key} is no pair", None) for key in _A_KEY.findall(f" {extension}") if key not in event["cef_extensions"]]


def _differences(event: dict[str, Any], expected: dict[str, Any]) -> Iterator[tuple[str, str | None]]:
    cef = expected.get("cef", {})
    wanted = {_BEATS_NAMES.get(key, key): str(value) for key, value in _flat(cef.get("extensions", {}))}
    ours = {FULL_NAMES.get(key, key): value for key, value in event["cef_extensions"].items()}
    for key in sorted(wanted.keys() | ours.keys()):
        if wanted.get(key) != ours.get(key):
            spaces = wanted.get(key, "").rstrip() == ours.get(key, "") != ""
            yield f"{key}: {ours.get(key)!r}, Beats {wanted.get(key)!r}", REASONS["spaces"] if spaces else None
    if cef.get("name") != event["cef_name"] or cef.get("severity") != event["cef_severity"]:
        yield f"header {event['cef_name']!r} {event['cef_severity']!r}", None
    for path, column in _COLUMNS.items():
        value: Any = expected
        for part in path:
            value = value.get(part) if isinstance(value, dict) else None
        if value is not None and str(value) != str(event.get(column)):
            word = column == "event_severity" and not event["cef_severity"].isdigit()
            yield f"{column}: {event.get(column)!r}, Beats {value!r}", REASONS["severity word"] if word else None


def _flat(tree: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
