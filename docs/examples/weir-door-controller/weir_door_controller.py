"""Lines of a door controller that does not exist, as events of Weir.

    DOOR 2024-03-01 12:00:00 north-gate badge=R0451 holder="Petra Example" granted
    DOOR 2024-03-01 12:00:09 north-gate badge=B0007 denied reason="out of hours"

The time has no zone: it is the controller's own.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from weir.processors.fields import Context, Decoded

LINE = re.compile(
    r"DOOR (\d{4}-\d\d-\d\d \d\d:\d\d:\d\d) (\S{1,64}) badge=(\w{1,16})"
    r'(?: holder="([^"]{0,128})")? (granted|denied)(?: reason="([^"]{0,256})")?'
)
COLOURS = {"R": "red", "B": "blue", "V": "visitor"}


class DoorController:
    """The reader: what a line is, or None for what is not a door controller's."""

    name = "door-controller"

    def line(self, text: str, context: Context) -> Decoded | None:
        if not text.startswith("DOOR "):
            return None
        found = LINE.fullmatch(text)
        if found is None:
            raise ValueError("begins with DOOR and is no line of a door controller")
        time, door, badge, holder, answer, reason = found.groups()
        local = datetime.fromisoformat(time).replace(tzinfo=UTC)
        return "authentication", {
            "timestamp": context.to_utc(int(local.timestamp()) * 1_000_000),
            "event_module": "door_controller",
            "event_dataset": "door_controller.access",
            "event_category": ["authentication"],
            "event_type": ["start"],
            "event_action": f"door_{answer}",
            "event_outcome": "success" if answer == "granted" else "failure",
            "event_reason": reason,
            "event_original": text,
            "message": f"{holder or badge} at {door}: {answer}",
            "host_name": door,
            "user_id": badge,
            "user_name": holder,
        }

    def document(self, document: dict[str, object], context: Context) -> Decoded | None:
        return None  # door controllers send no JSON


reader = DoorController()


def enricher(dataset: str) -> Callable[[list[dict[str, Any]]], None] | None:
    """The step for a dataset, or None where there is nothing to add: every logon by badge gets its colour as a label."""
    return label_colours if dataset == "authentication" else None


def label_colours(records: list[dict[str, Any]]) -> None:
    for record in records:
        if record.get("event_module") == "door_controller":
            colour = COLOURS.get(record["user_id"][:1], "unknown")
            record["labels"] = {**(record.get("labels") or {}), "badge_colour": colour}
