"""LEEF, against what Apache Metron's parser made of the same lines."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from weir.tools.conformance import Case
from weir.tools.conformance._lines import decode, lines_of

__all__ = ["cases"]

REASON: Final = (
    "Metron splits a pair at every equals sign and drops what is behind the second, so a value that holds one is cut short: "
    "by the format "
    "the first equals sign ends the key and the rest is the value"
)
_HEADER: Final = {
    "DeviceVendor": "observer_vendor",
    "DeviceProduct": "observer_product",
    "DeviceVersion": "observer_version",
    "DeviceEvent": "event_code",
    "ip_src_addr": "source_ip",
    "ip_dst_addr": "destination_ip",
    "ip_src_port": "source_port",
    "ip_dst_port": "destination_port",
}
# What Metron adds of its own.
_ADDED: Final = frozenset({"original_string", "timestamp", "source.type", "guid"})


def cases(corpus: Path) -> Iterator[Case]:
    """Each line of Metron's LEEF samples, and of any `.leef` file beside CEF's."""
    raw, parsed = corpus / "syslog/metron/leef__raw__leefOutput", corpus / "syslog/metron/leef__parsed__leefParsed"
    if raw.exists() and parsed.exists():
        expected = {found["original_string"]: found for found in map(json.loads, lines_of(parsed))}
        for number, line in enumerate(lines_of(raw)):
            yield _judge(f"metron/leef:{number + 1}", line, _expected_for(line, expected))
    for path in sorted((corpus / "cef").rglob("*.leef")) + sorted((corpus / "leef").rglob("*.leef")):
        for number, line in enumerate(lines_of(path)):
            yield _judge(f"{path.relative_to(corpus)}:{number + 1}", line, {})


def _expected_for(line: str, expected: dict[str, dict[str, Any]]) -> dict[str, Any]:
    return expected.get(line.strip(), {})


def _judge(name: str, line: str, expected: dict[str, Any]) -> Case:
    try:
        dataset, event = decode(line)
    except ValueError as error:
        return Case(name, f"refused: {error}")
    if dataset != "cef" or event["event_dataset"] != "leef":
        return Case(name, f"became an event of {dataset}")
    if not event["cef_extensions"]:
        return Case(name, "has no attributes")
    differences, explained = [], True
    for key, value in expected.items():
        if key in _ADDED:
            continue
        column = _HEADER.get(key)
        ours = event.get(column) if column is not None else event["cef_extensions"].get(key)
        if str(ours) != str(value):
            differences.append(f"{key}: {ours!r}, Metron {value!r}")
            explained = explained and _cut_short(str(ours), str(value))
    if not differences:
        return Case(name)
    return Case(name, "; ".join(differences), REASON if explained else None)


def _cut_short(ours: str, theirs: str) -> bool:
    """Whether Metron's value ends where an equals sign follows, and ours either goes on or ends where the next key begins."""
    return ours.partition("=")[0] == theirs or (theirs.startswith(f"{ours} ") and " " not in theirs[len(ours) + 1 :])
