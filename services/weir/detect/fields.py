"""Reading record fields: `user_name`, or an entry of a map field, `cef_extensions.cs1`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

__all__ = ["Getter", "getter"]

Record = dict[str, Any]
Getter = Callable[[Record], Any]


def getter(name: str) -> Getter:
    """What reads this field of a record; None where it is not there.

    A name with a dot is looked up whole in the map that the part before the first dot names.
    """
    field, dot, key = name.partition(".")
    if not dot:
        return lambda record: record.get(field)

    def nested(record: Record) -> Any:
        found = record.get(field)
        return found.get(key) if isinstance(found, dict) else None

    return nested
