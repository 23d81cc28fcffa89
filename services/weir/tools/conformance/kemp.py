"""Kemp LoadMaster ESP events, against the positions that the vendor's query for Microsoft Sentinel reads.

The query splits AdditionalExtensions at semicolons and its parts at equals signs. `columns_of_query` says the same in Python,
over what an event has for that column; each value that it finds must be in the column that the event has for it by name.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from weir.tools.conformance import Case
from weir.tools.conformance._lines import decode, lines_of

__all__ = ["cases", "columns_of_query", "differences"]

_COLUMNS: Final = {
    "VSIP": "kemp_virtual_service_ip",
    "VSPort": "kemp_virtual_service_port",
    "Event": "kemp_event",
    "SourceIP": "source_ip",
    "SourcePort": "source_port",
    "DestinationIP": "destination_ip",
    "DestinationPort": "destination_port",
    "AwaitingRemoteAddress": "kemp_awaiting_address",
    "RequestMethod": "http_request_method",
    "RequestURL": "url_original",
    "User": "user_name",
    "UserAgent": "user_agent_original",
    "Resource": "kemp_resource",
    "DTCode": "kemp_dt_code",
}
CLASSES: Final = frozenset(map(str, range(18)))
"""Those that the query is written for."""


def columns_of_query(additional_extensions: str, class_id: int) -> dict[str, str]:
    """What the query makes of AdditionalExtensions, by column; without those that it leaves empty."""
    parts = additional_extensions.split(";")

    def key(index: int) -> str:
        return parts[index].split("=")[0] if index < len(parts) else ""

    def value(index: int) -> str:
        pieces = parts[index].split("=") if index < len(parts) else []
        return pieces[1] if len(pieces) > 1 else ""

    request = class_id in {11, 12}
    service = value(0).split(":")
    columns = {
        "VSIP": service[0],
        "VSPort": service[1] if len(service) > 1 else "",
        "Event": value(1),
        "SourceIP": value(3) if class_id == 6 else value(2) if class_id not in {14, 15} else "",
        "SourcePort": value(3) if class_id in {1, 2, 3, 4, 5, 11, 12, 13, 16, 17} else "",
        "DestinationIP": value(4) if class_id in {4, 5} else "",
        "DestinationPort": value(5) if class_id in {4, 5} else "",
        "AwaitingRemoteAddress": value(4) if class_id == 3 else "",
        "RequestMethod": value(4) if request else "",
        "RequestURL": value(5) if request else "",
        "User": value(2) if class_id == 6 else value(3) if class_id in {7, 8, 9, 10} else "",
        "Resource": value(2) if class_id == 15 else value(4) if class_id in {16, 17} else "",
        "DTCode": value(4) if class_id == 13 else "",
    }
    if request:
        columns["User"] = value(6) if key(6) == "user" else ""
        columns["UserAgent"] = value(6) if key(6) == "useragent" else value(7) if key(7) == "useragent" else ""
    return {column: text for column, text in columns.items() if text}


def differences(event: dict[str, Any]) -> list[str]:
    """Columns of an event that lack what the query reads at its positions."""
    class_id = event["event_code"]
    if class_id not in CLASSES or event["cef_name"].lower() in _RENUMBERED.get(class_id, ()):
        return []
    found = []
    columns = columns_of_query(event["cef_additional_extensions"] or "", int(class_id))
    if columns.get("VSIP", "").startswith("["):  # it cannot read IPv6: a colon ends the address for it
        del columns["VSIP"], columns["VSPort"]
    for column, text in columns.items():
        ours = event.get(_COLUMNS[column])
        # The query ends a value at its first equals sign or semicolon: a URL with a query string, a user agent.
        if ours is None or not (str(ours) == text or str(ours).startswith((f"{text}=", f"{text};"))):
            found.append(f"{column} by position is {text!r}, by name {ours!r}")
    return found


# Firmwares after the query's have other events under these numbers.
_RENUMBERED: Final = {"14": ("request",), "15": ("attempt",)}


def cases(corpus: Path) -> Iterator[Case]:
    """Each line of each file under `cef/kemp`."""
    for path in sorted((corpus / "cef" / "kemp").glob("*")):
        for number, line in enumerate(lines_of(path)):
            yield _judge(f"{path.relative_to(corpus)}:{number + 1}", line)


def _judge(name: str, line: str) -> Case:
    try:
        dataset, event = decode(line)
    except ValueError as error:
        return Case(name, f"refused: {error}")
    if dataset != "cef" or event["event_dataset"] != "kemp.esp":
        return Case(name, f"became an event of {dataset}")
    found = differences(event)
    return Case(name, "; ".join(found) or None)
