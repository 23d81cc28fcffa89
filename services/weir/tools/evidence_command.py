"""`weir evidence` on a terminal, into a pipe, or into a folder: an alert as a case file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from weir.model.ids import parse_event_id
from weir.model.projection import iso_time
from weir.ops.settings import ServiceSettings
from weir.tools.evidence import Evidence, EvidenceReader, find_alerts
from weir.tools.tap import Shown
from weir.tools.tap_view import printable, render

__all__ = ["AlertError", "run_evidence"]

_EXIT_MISSING: Final = 1
_LEVELS: Final = {"critical": "bold red", "high": "red", "medium": "yellow", "low": "cyan"}
_RAW: Final = {
    "expired": "Kafka has deleted the raw record: its topic's retention is over",
    "absent": "the raw topic does not hold that place: it is another cluster or another topic than the alert was made from",
    "another": "another record lies there: the raw topic has been made anew since",
    "unreadable": "what lies there is no raw batch of this release",
}
_EVENT: Final = {
    "expired": "Kafka has deleted events of that time: the topic's retention is over",
    "unpublished": "the event is not in its topic, though others of its time are: a filter sampled or merged it (docs/filters.md), "
    "or it lies in the dead letters; rules see events before such filters",
}
_ELSEWHERE: Final = (
    "Only Kafka was asked: Azure Data Explorer and the archive, which keep events longer, cannot be asked from here yet"
)


class AlertError(Exception):
    """There is no such alert, or several; the message says which, and what would do."""


def run_evidence(
    settings: ServiceSettings, alert_id: str, since_us: int, *, out: Path | None, as_json: bool, full: bool, console: Console
) -> int:
    """Fetch the evidence and say what there is; the exit status: 0 for all of it, 1 where some is missing.

    Args:
        settings: brokers, prefix.
        alert_id: whole, or how it begins.
        since_us: alerts told before this are not looked at, microseconds UTC.
        out: folder that gets alert, events and raw units as files too.
        as_json: JSON in place of the case file.
        full: cut nothing, leave no field out.
        console: for the case file.

    Raises:
        AlertError: no alert, or more than one, begins so.
        TopicsUnavailable: Kafka cannot be asked.
        OSError: the folder cannot be written.
    """
    notes = Console(stderr=True, highlight=False)
    with notes.status("looking for the alert") as status:
        alerts = find_alerts(settings, alert_id, since_us)
        if not alerts:
            since = (iso_time(since_us) or "")[:19]
            raise AlertError(
                f"no alert {alert_id} has been told since {since} UTC; --since looks back further, Kafka keeps 30 days"
            )
        if len(alerts) > 1:
            some = ", ".join(sorted(alert["alert_id"] for alert in alerts)[:5])
            raise AlertError(f"{len(alerts)} alerts begin with {alert_id}: {some}{' …' if len(alerts) > 5 else ''}")
        with EvidenceReader(settings) as reader:
            found = reader.fetch(alerts[0], lambda what: status.update(printable(what)))
    if out is not None:
        _write(out, alerts[0], found)
    if as_json:
        print(json.dumps(_document(alerts[0], found), indent=1, ensure_ascii=False, default=str))  # noqa: T201
    else:
        _show(console, alerts[0], found, full)
        if out is not None:
            console.print(f"written to {out}", markup=False, soft_wrap=True)
    return 0 if found and all(one.complete for one in found) else _EXIT_MISSING


def _document(alert: dict[str, Any], found: list[Evidence]) -> dict[str, Any]:
    return {
        "alert": alert,
        "complete": bool(found) and all(one.complete for one in found),
        "raw_found": sum(one.raw == "found" for one in found),
        "events_found": sum(one.event == "found" for one in found),
        "evidence": [one.to_record() for one in found],
    }


def _write(folder: Path, alert: dict[str, Any], found: list[Evidence]) -> None:
    """alert.json, evidence.json with digests, events.jsonl, and each unit's bytes as they came, in raw/."""
    raw = folder / "raw"
    raw.mkdir(parents=True, exist_ok=True)
    document = _document(alert, found)
    files = {
        "alert.json": json.dumps(alert, indent=1, default=str),
        "evidence.json": json.dumps(document, indent=1, default=str),
        "events.jsonl": "".join(
            json.dumps({"dataset": one.dataset, **one.record}, default=str) + "\n" for one in found if one.record is not None
        ),
    }
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")
    for one in found:
        if one.unit is not None:
            batch, unit, _ = parse_event_id(one.event_id)
            (raw / f"{batch}-{unit}.bin").write_bytes(one.unit)


def _show(console: Console, alert: dict[str, Any], found: list[Evidence], full: bool) -> None:
    _summary(console, alert)
    if found:
        console.print(_table(found))
        console.print()
    samples = _samples(alert)
    for one in found:
        record = one.record or samples.get(one.event_id)
        if one.unit is None and record is None:
            continue
        if one.record is None and record is not None:
            _say(console, f"{one.event_id}: the event as the alert itself carries it", "yellow")
        received = one.batch.get("received_at") or (record or {}).get("event_created", 0)
        unit = parse_event_id(one.event_id)[1]
        records = [(one.dataset, record or {})]
        shown = Shown(received, one.topic, one.partition, one.offset, unit, one.unit, records, labels=one.batch)
        console.print(render(shown, console.width, full=full, show="raw" if record is None else "both"))
    _verdict(console, alert, found)


def _summary(console: Console, alert: dict[str, Any]) -> None:
    head = Text(f"{alert['severity'].upper()}  ", _LEVELS.get(alert["severity"], "bold"))
    head.append(printable(alert["rule_name"]), "bold").append(f"   {alert['state']}, revision {alert['revision']}", "dim")
    console.print(head, soft_wrap=True)
    _say(console, alert["summary"])
    console.print()
    facts = {
        "alert": alert["alert_id"],
        "rule": f"{alert['rule_id']}, rule set {alert['rule_version']}",
        "ATT&CK": ", ".join([*alert["threat_tactic"], *alert["threat_technique_id"]]),
        "events": f"{alert['event_count']:,}, from {_clock(alert['first_seen'])} to {_clock(alert['last_seen'])} UTC",
        "told": f"{_clock(alert['alert_created'])} UTC by {alert['detector'] or '-'} at {alert['site'] or '-'}",
        "condition": f"{alert['correlation_type']} {alert['condition']}".strip(),
        "by": ", ".join(f"{name} {value}" for name, value in alert["group_by"].items()),
        **{name.replace("_", " "): value for name, value in alert["entities"].items()},
        "values": ", ".join(alert["values"]),
        "made of alerts": ", ".join(alert["member_alerts"]),
        "may be harmless": "; ".join(alert["false_positives"]),
        "about the rule": alert["rule_description"],
    }
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in facts.items():
        if value:
            table.add_row(Text(printable(name)), Text(printable(value)))
    console.print(table)
    console.print()


def _table(found: list[Evidence]) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for heading in ("event time", "dataset", "raw record", "raw", "event", "event id"):
        table.add_column(heading, overflow="fold")
    for one in found:
        when = (one.record or {}).get("timestamp")
        place = f"{one.topic} {one.partition}/{one.offset}"
        row = (_clock(when) if isinstance(when, int) else "-", one.dataset, place, one.raw, one.event, one.event_id)
        table.add_row(*(Text(printable(cell), _style(cell)) for cell in row))
    return table


def _style(cell: str) -> str:
    return "yellow" if cell in _RAW or cell in _EVENT else ""


def _samples(alert: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The events that the alert carries, by id."""
    found = {}
    for sample in alert["samples"]:
        try:
            record = json.loads(sample)
            found[record["event_id"]] = record
        except (ValueError, TypeError, KeyError):
            continue
    return found


def _verdict(console: Console, alert: dict[str, Any], found: list[Evidence]) -> None:
    console.print()
    if not found:
        _say(console, "The alert names no events" + (": see the alerts it was made of" if alert["member_alerts"] else ""), "yellow")
        return
    raw, events = sum(one.raw == "found" for one in found), sum(one.event == "found" for one in found)
    named = f" of {alert['event_count']:,} that matched" if alert["event_count"] > len(found) else ""
    _say(console, f"events named: {len(found)}{named}; found, ids verified: {raw} raw units, {events} events")
    for why in dict.fromkeys(one.raw for one in found if one.raw != "found"):
        count = sum(one.raw == why for one in found)
        _say(console, f"raw, {why}: {count}: {_RAW[why]}", "yellow")
    for why in dict.fromkeys(one.event for one in found if one.event != "found"):
        count = sum(one.event == why for one in found)
        _say(console, f"events, {why}: {count}: {_EVENT[why]}", "yellow")
    if raw + events < 2 * len(found):
        _say(console, _ELSEWHERE, "dim")


def _say(console: Console, text: str, style: str = "") -> None:
    console.print(printable(text), style=style, markup=False, soft_wrap=True)


def _clock(micros: int) -> str:
    return (iso_time(micros) or str(micros))[:19].replace("T", " ")
