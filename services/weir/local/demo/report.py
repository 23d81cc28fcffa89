"""What came of the demo: as a record for machines, and as tables for a person."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from rich.console import Console
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from weir.local.demo.oracle import SOURCES, Audit
from weir.model.mappings import projection

__all__ = ["Destination", "Report", "render"]


@dataclass(slots=True)
class Destination:
    """One destination: distinct ids by table, and copies beyond the first."""

    rows: dict[str, int] = field(default_factory=dict)
    repeated: int = 0
    missing: dict[str, int] = field(default_factory=dict)


@dataclass(slots=True)
class Report:
    """Everything the summary says. `problems` is empty where every number adds up."""

    audit: Audit
    sent: dict[str, int]
    destinations: dict[str, Destination]
    siem_alerts: int
    siem_bytes: int
    bytes_in: int
    restarts: dict[str, int]
    seconds: float
    attacks: int = 0
    unreceived: dict[str, int] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    @property
    def lost(self) -> int:
        """Distinct things that should be somewhere and are not."""
        return self.audit.lost_count + sum(sum(d.missing.values()) for d in self.destinations.values())

    @property
    def repeated(self) -> int:
        """Copies beyond the first, in topics and at destinations."""
        return self.audit.repeated + sum(d.repeated for d in self.destinations.values())

    @property
    def ratio(self) -> float:
        """Bytes received for each byte that crossed the WAN."""
        return self.bytes_in / self.siem_bytes if self.siem_bytes else 0.0

    def as_json(self) -> dict[str, Any]:
        """The record in report.json."""
        return {
            "sources": {
                name: {
                    "units_sent": self.sent.get(name, 0),
                    "units_received": mine.units_received,
                    "units_empty": mine.units_empty,
                    "units_dead": mine.units_dead,
                    "units_with_events": mine.units_with_events,
                    "events": mine.events,
                    "unreceived": self.unreceived.get(name, 0),
                }
                for name, mine in self.audit.sources.items()
            },
            "topics": self.audit.topics,
            "destinations": {
                **{name: d.rows for name, d in self.destinations.items() if name != "siem"},
                "siem": {"alerts": self.siem_alerts, "bytes": self.siem_bytes},
            },
            "dead_letters": [
                {"topic": topic, "reason": reason, "units": count} for (topic, reason), count in self.audit.dead_letters.items()
            ],
            "alerts": len(self.audit.alert_ids),
            "attacks": self.attacks,
            "wan": {"bytes_in": self.bytes_in, "bytes_out": self.siem_bytes, "ratio": round(self.ratio, 1)},
            "lost": self.lost,
            "repeated": self.repeated,
            "restarts": self.restarts,
            "problems": self.problems,
            "seconds": round(self.seconds, 1),
        }


def _number(value: int) -> str:
    return f"{value:,}"


def _table(*headings: str) -> Table:
    table = Table(header_style="dim", box=None, padding=(0, 2, 0, 2))
    for i, heading in enumerate(headings):
        table.add_column(heading, justify="left" if i == 0 else "right", overflow="fold")
    return table


def _size(count: int) -> str:
    value = float(count)
    for unit in ("B", "kB", "MB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} GB"


def render(report: Report, console: Console) -> None:
    """Print the summary."""
    audit = report.audit
    sources = _table("source", "sent", "received", "empty", "dead", "events")
    for name in SOURCES:
        mine = audit.sources[name]
        sources.add_row(
            name, *map(_number, (report.sent.get(name, 0), mine.units_received, mine.units_empty, mine.units_dead, mine.events))
        )

    landed = _table("topic", "events", "Sentinel", "ADX")
    tables = {name: report.destinations[name] for name in ("sentinel", "adx") if name in report.destinations}

    for dataset, ids in audit.event_ids.items():
        if ids:
            cells = [_number(d.rows.get(projection(n, f"events.{dataset}").table, 0)) for n, d in tables.items()]
            landed.add_row(f"events.{dataset}", _number(len(ids)), *cells)
    alert_cells = [_number(d.rows.get(projection(n, "alerts").table, 0)) for n, d in tables.items()]
    landed.add_row("alerts", _number(len(audit.alert_ids)), *alert_cells)

    dead = _table("topic", "units", "reason")
    dead.columns[2].justify = "left"
    for (topic, reason), count in sorted(audit.dead_letters.items()):
        dead.add_row(f"{topic}.dlq", _number(count), reason if len(reason) < 90 else reason[:89] + "…")

    alerts = _table("severity", "events", "what happened")
    alerts.columns[2].justify = "left"
    grades = ("critical", "high", "medium", "low", "informational")
    for alert in sorted(audit.alerts, key=lambda one: grades.index(str(one["severity"]))):
        alerts.add_row(str(alert["severity"]), _number(int(str(alert["event_count"]))), str(alert["summary"]))

    wan = Text()
    wan.append("WAN  ", style="bold")
    wan.append(f"{_size(report.bytes_in)} received, {_size(report.siem_bytes)} sent to the SIEM: ")
    wan.append(f"{report.ratio:,.0f} : 1", style="bold green")
    verdict = Text()
    verdict.append("lost ", style="bold")
    verdict.append(_number(report.lost), style="bold green" if not report.lost else "bold red")
    verdict.append("   repeated ", style="bold")
    verdict.append(f"{_number(report.repeated)}   ")
    verdict.append(f"{report.seconds:.0f} s", style="dim")
    if report.restarts:
        killed = ", ".join(f"{name} ({count})" for name, count in report.restarts.items())
        verdict.append(f"\nservices that died and were started again: {killed}", style="yellow")
    for name, count in report.unreceived.items():
        if count:
            verdict.append(f"\n{name}: {count} units sent over UDP or plain TCP never reached the receiver", style="yellow")
    for problem in report.problems:
        verdict.append(f"\n✗ {problem}", style="red")
    if not report.problems:
        verdict.append("\n✓ every number adds up", style="green")
    console.print()
    for title, table in (
        ("Received: each unit is empty, dead, or became events", sources),
        ("Delivered: distinct events, and distinct rows at each destination", landed),
        ("Dead letters: kept with their bytes and the reason", dead),
        ("Alerts: all that crossed the WAN", alerts),
    ):
        console.print(Text(title, style="bold"))
        console.print(table)
        console.print()
    console.print(wan)
    console.print(Panel(verdict, expand=False, border_style="green" if not report.problems else "red"))
