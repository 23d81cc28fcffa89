"""Expected against decoded, field by field, with the reasons for what differs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from weir.tools.conformance import Case

__all__ = ["Difference", "Reason", "compare"]


class Difference(NamedTuple):
    """One field that is not as expected."""

    field: str
    expected: Any
    decoded: Any


Reason = tuple[Callable[[Difference], bool], str]
"""When it applies, and why the difference is right."""


def compare(name: str, expected: Mapping[str, Any], decoded: Mapping[str, Any], reasons: tuple[Reason, ...] = ()) -> Case:
    """A judged case: the fields that are expected, and no others, are compared. It is explained if each difference is."""
    differences = [Difference(field, value, decoded.get(field)) for field, value in expected.items() if decoded.get(field) != value]
    if not differences:
        return Case(name)
    said: list[str] = []
    for difference in differences:
        reason = next((why for applies, why in reasons if applies(difference)), None)
        if reason is None:
            said = []
            break
        if reason not in said:
            said.append(reason)
    text = "; ".join(f"{field}: expected {value!r}, decoded {other!r}" for field, value, other in differences)
    return Case(name, text, " ".join(said) or None)
