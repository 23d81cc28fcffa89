"""What the doctor finds."""

from __future__ import annotations

import enum
from dataclasses import dataclass

__all__ = ["Finding", "Status", "failed", "good", "skipped", "warning"]


class Status(enum.StrEnum):
    """How it stands with one thing."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    `area` groups findings, `name` is the thing, `text` what was found in one sentence, `cure` what to do where it is not well.
    """

    area: str
    name: str
    status: Status
    text: str
    cure: str = ""


def good(area: str, name: str, text: str) -> Finding:
    """All is well."""
    return Finding(area, name, Status.OK, text)


def warning(area: str, name: str, text: str, cure: str) -> Finding:
    """It works, but not as it should, or not for long."""
    return Finding(area, name, Status.WARNING, text, cure)


def failed(area: str, name: str, text: str, cure: str) -> Finding:
    """It does not work."""
    return Finding(area, name, Status.FAILED, text, cure)


def skipped(area: str, name: str, text: str) -> Finding:
    """It was not looked at, and why."""
    return Finding(area, name, Status.SKIPPED, text)
