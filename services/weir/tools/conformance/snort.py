"""Snort: recorded alerts against what is written in them, against Metron's parser and against Elastic's pipeline.

Every alert is judged by an oracle that reads the few things all forms have by other means than the decoder: the csv module, and
splitting at the marks. Where a file of expected output lies beside (`*__parsed__*` of Metron, `*-expected.json` of Elastic), what
it says of rule, addresses, ports and time of year has to agree too; the year it has is that of the day on which it was made.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import Any, Final

from weir.processors.fields import Context, Decoded
from weir.processors.readers import read_text
from weir.protocols import snort, syslog
from weir.tools.conformance import Case

__all__ = ["cases"]

RECEIVED_US: Final = 1_790_000_000_000_000

REASONS: Final[dict[str, str]] = {}
"""By the beginning of a case's name, why a difference is right."""


def cases(corpus: Path) -> Iterator[Case]:
    """A case for each alert; none where the corpus has no `snort` folder."""
    folder = corpus / "snort"
    if not folder.is_dir():
        return
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if not path.is_file() or "expected" in path.name or "__parsed__" in path.name or path.suffix in {".yml", ".md"}:
            continue
        alerts = list(snort.blocks(path.read_text(encoding="utf-8", errors="replace")))
        expected = _expected(path)
        for number, text in enumerate(alerts):
            found = _read(text)
            difference = "not recognised" if found is None else _judge(text, found[1])
            if difference is None and found is not None and len(expected) == len(alerts):
                difference = _compare(expected[number], found[1])
            reason = next((why for begin, why in REASONS.items() if name.startswith(begin)), None) if difference else None
            yield Case(f"{name}:{number + 1}", difference, reason)


def _read(text: str) -> Decoded | None:
    """As the processors do it: an alert as it is, or in a syslog message."""
    context = Context(RECEIVED_US, lambda local: local)
    found = read_text(text, context)
    if found is None:
        message = syslog.parse(text.encode(), received_us=RECEIVED_US)
        context.program = message.app_name
        found = read_text(message.message, context)
    return found if found is not None and found[0] == "ids-alert" else None


_LINK_LAYER = re.compile(r"\S+ -> \S+ type:\S+ len:\S+")
_RULE = re.compile(r"\[(\d+):(\d+):(\d+)\]")


def _judge(text: str, event: dict[str, Any]) -> str | None:
    if text.startswith("{"):
        document = json.loads(text)
        rule = document.get("rule", ":".join(str(document.get(name, "")) for name in ("gid", "sid", "rev"))).split(":")
        ends = _written(document, "src"), _written(document, "dst")
        name = document.get("msg", event["rule_name"])
    elif (found := _RULE.search(text)) is not None:
        rule = list(found.groups())
        name = event["rule_name"] if event["rule_name"] and event["rule_name"] in text else "the text's own"
        flow = re.search(r"(\S+) -> (\S+)", _LINK_LAYER.sub("", text))
        ends = (flow[1], flow[2]) if flow is not None else ("", "")
    else:
        [cells] = csv.reader([text], skipinitialspace=True)
        if ":" in cells[8] and cells[8].count(":") == 2 and not cells[1].count(":") and cells[8].replace(":", "").isdigit():
            rule, ends, name = cells[8].split(":"), (cells[6], cells[7]), event["rule_name"]
        else:
            rule, name = cells[1:4], cells[4]
            ends = cells[6] + (f":{cells[7]}" if cells[7] else ""), cells[8] + (f":{cells[9]}" if cells[9] else "")
    if [event["rule_ruleset"], event["rule_id"], event["rule_version"]] != list(rule):
        return f"rule {event['rule_id']}, the alert says {rule}"
    if event["rule_name"] != name:
        return f"rule_name {event['rule_name']!r}, the alert says {name!r}"
    for side, end in zip(("source", "destination"), ends, strict=True):
        if end and not _same_end(end, event[f"{side}_ip"], event[f"{side}_port"]):
            return f"{side} is {event[f'{side}_ip']}:{event[f'{side}_port']}, the alert says {end}"
    return None


def _written(document: dict[str, Any], side: str) -> str:
    port = document.get(f"{side}_port")
    written = f"{document[f'{side}_addr']}:{port or 0}" if f"{side}_addr" in document else document.get(f"{side}_ap", "")
    return str(written)


def _same_end(written: str, ip: str | None, port: int | None) -> bool:
    if ip is None:
        return False
    if port is None and _ip(written) == ip_address(ip):
        return True
    address, _, number = written.rpartition(":")
    return _ip(address) == ip_address(ip) and port == (int(number) or None if number.isdigit() else None)


def _ip(text: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(text.strip("[]"))
    except ValueError:
        return None


def _expected(path: Path) -> list[dict[str, Any]]:
    """What others made of the alerts of a file, under the names of fields."""
    if "__raw__" in path.name:
        found = list(path.parent.glob(path.name.split("__raw__")[0] + "__parsed__*"))
        return [_of_metron(json.loads(line)) for line in found[0].read_text().splitlines() if line] if found else []
    beside = path.with_name(path.name + "-expected.json")
    if not beside.is_file():
        return []
    events = json.loads(beside.read_text())
    return [_of_elastic(event) for event in (events["expected"] if isinstance(events, dict) else events)]


def _of_metron(event: dict[str, Any]) -> dict[str, Any]:
    moment = datetime.fromtimestamp(event["timestamp"] / 1000, UTC)
    return {
        "source_ip": event.get("ip_src_addr"),
        "source_port": _port(event.get("ip_src_port")),
        "destination_ip": event.get("ip_dst_addr"),
        "destination_port": _port(event.get("ip_dst_port")),
        "rule_id": _text(event.get("sig_id")),
        "rule_version": _text(event.get("sig_rev")),
        "rule_name": event.get("msg"),
        "time": f"{moment:%m-%d %H:%M:%S}",
    }


def _of_elastic(event: dict[str, Any]) -> dict[str, Any]:
    rule, source, destination = (event.get(name, {}) for name in ("rule", "source", "destination"))
    return {
        "source_ip": source.get("ip") or source.get("address"),
        "source_port": _port(source.get("port")),
        "destination_ip": destination.get("ip") or destination.get("address"),
        "destination_port": _port(destination.get("port")),
        "rule_id": _text(rule.get("id")),
        "rule_version": _text(rule.get("version")),
    }


def _port(value: object) -> int | None:
    return int(value) if isinstance(value, int | str) and str(value).isdigit() and int(value) else None


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def _compare(expected: dict[str, Any], event: dict[str, Any]) -> str | None:
    moment = datetime.fromtimestamp((event["timestamp"] or 0) / 1e6, UTC)
    ours = event | {"time": f"{moment:%m-%d %H:%M:%S}"}
    for field, value in expected.items():
        if value is not None and ours.get(field) != value:
            return f"{field} is {ours.get(field)!r}, expected {value!r}"
    return None
