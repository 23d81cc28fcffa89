"""What every event that a detection matches must have: by it an index finds the few detections that are worth trying.

A *cover* is a set of clues of which a matching event has at least one. None stands for a detection of which nothing can be said,
such as one that is a negation: it has to be tried with every event.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Literal, NamedTuple

__all__ = ["KEYWORDS", "Clue", "Cover", "all_of", "any_of", "network_head", "price"]

KEYWORDS: Final = "*"
"""In place of a field's name: any text of the event."""


class Clue(NamedTuple):
    """One of: the field's text equals this one; it contains it (both folded); its value is an address whose `network_head` this
    is; its number is above or below `limit`, or equal to it; it is there."""

    kind: Literal["equals", "contains", "network", "above", "below", "there"]
    field: str
    text: str = ""
    limit: float = 0


Cover = frozenset[Clue] | None

# How often a clue can be expected to be wrong, roughly: the least is chosen. Fields in which all events of a source agree, or which
# take a handful of values, tell little.
_POOR: Final = frozenset(
    [
        "event_module",
        "event_dataset",
        "event_kind",
        "event_category",
        "event_type",
        "event_outcome",
        "network_type",
        "network_transport",
        "network_iana_number",
        "network_direction",
        "observer_vendor",
        "observer_product",
        "flow_protocol",
        "site",
        "organization_id",
        "cef_version",
        "flow_direction",
        "log_source_name",
        "log_source_ip",
        "log_syslog_fields.type",
    ]
)
_FAIR: Final = frozenset(
    [
        "event_action",
        "destination_port",
        "source_port",
        "http_request_method",
        "http_response_status_code",
        "network_application",
        "network_protocol",
        "dns_question_type",
        "dns_response_code",
        "event_severity",
        "device_action",
        "kemp_event",
        "log_syslog_fields.action",
    ]
)
_BY_LENGTH: Final = (1000, 90, 60, 25, 8, 5)


def price(clue: Clue) -> int:
    """How little a clue says: 1 for an exact value of a field with many values, more the more events have it by chance."""
    if clue.kind == "equals":
        return 95 if clue.field in _POOR else 12 if clue.field in _FAIR else 1
    if clue.kind == "contains":
        length = _BY_LENGTH[len(clue.text)] if len(clue.text) < len(_BY_LENGTH) else 2
        return length + (4 if clue.field == KEYWORDS else 0)
    return {"network": 40, "above": 50, "below": 50, "there": 98}[clue.kind]


def _cost(cover: Cover) -> tuple[int, int]:
    return (1000, 0) if cover is None else (max(map(price, cover), default=0), len(cover))


def all_of(covers: Iterable[Cover]) -> Cover:
    """The cover of what needs all of several things: the best of theirs."""
    return min(covers, key=_cost, default=None)


def any_of(covers: Iterable[Cover]) -> Cover:
    """The cover of what needs any of several things: theirs together."""
    together: set[Clue] = set()
    for cover in covers:
        if cover is None:
            return None
        together |= cover
    return frozenset(together)


def network_head(text: str) -> str:
    """What addresses of one IPv4 network of /8 or smaller have in common as text; one value for all of IPv6."""
    return ":" if ":" in text else text.partition(".")[0]
