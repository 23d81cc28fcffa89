"""What the doctor says, for people and for machines."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from weir.tools.doctor.finding import Finding, Status

__all__ = ["as_records", "show"]

_MARKS = {
    Status.OK: ("✓", "green"),
    Status.WARNING: ("!", "yellow"),
    Status.FAILED: ("✗", "red"),
    Status.SKIPPED: ("·", "dim"),
}


def show(console: Console, findings: list[Finding]) -> None:
    """A table by area, each cure under what it cures, and a verdict in one line."""
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True, style="bold")
    table.add_column(overflow="fold", max_width=34)
    table.add_column(overflow="fold")
    area = ""
    for finding in findings:
        mark, style = _MARKS[finding.status]
        text = Text(finding.text, style="dim" if finding.status is Status.SKIPPED else "")
        if finding.cure:
            text.append(f"\n→ {finding.cure}", style=style)
        table.add_row(Text(mark, style=style), finding.area if finding.area != area else "", Text(finding.name), text)
        area = finding.area
    console.print(table)
    counts = {status: sum(finding.status is status for finding in findings) for status in Status}
    told = ", ".join(f"{count} {status}" for status, count in counts.items() if count)
    verdict = "Not well" if counts[Status.FAILED] else "Nothing failed" if counts[Status.WARNING] else "All is well"
    console.print(Text(f"{verdict}: {told}."), style="bold")


def as_records(findings: list[Finding]) -> list[dict[str, Any]]:
    """The findings for machines."""
    return [asdict(finding) for finding in findings]
