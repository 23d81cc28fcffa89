"""An event as a line of JSON."""

from __future__ import annotations

import math
import re
from functools import cache
from typing import Any, Final

import orjson

from weir.model.mappings import JSON_FIELDS, JSON_LIST_FIELDS
from weir.model.projection import iso_time
from weir.model.schemas import latest

__all__ = ["json_line"]

# Where there is no Kafka these say nothing.
_NOWHERE: Final = frozenset({"raw_topic", "raw_partition", "raw_offset", "site"})
_ABSENT: Final[tuple[Any, ...]] = (None, [], {})
_LARGEST: Final = 2**64
_UNPRINTABLE: Final = re.compile(r"[^\x20-\x7e\xa1-\U0010ffff]|[\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff]")


@cache
def _schema(dataset: str) -> tuple[tuple[str, bool, Any], ...]:
    """Name, whether it is a time, and default of each field."""
    return tuple((one["name"], _is_time(one["type"]), one.get("default")) for one in latest(dataset).parsed["fields"])


def _is_time(avro: Any) -> bool:
    options = avro if isinstance(avro, list) else [avro]
    return any(isinstance(option, dict) and option.get("logicalType") == "timestamp-micros" for option in options)


def json_line(
    dataset: str, record: dict[str, Any], *, everything: bool = False, raw_times: bool = False, verbatim: bool = False
) -> str:
    """The event, `dataset` first and then the schema's fields in their order.

    Args:
        everything: absent fields too, as the schema's defaults.
        raw_times: times as microseconds; else ISO 8601 UTC with six digits, where the year has four.
        verbatim: texts that hold JSON as they are; else as what they hold.
    """
    row: dict[str, Any] = {"dataset": dataset}
    for name, is_time, default in _schema(dataset):
        value = record.get(name, default)
        if not everything and (value in _ABSENT or name in _NOWHERE or (name not in record and value == default)):
            continue
        if is_time and value is not None and not raw_times:
            value = iso_time(value) or value
        elif not verbatim and name in JSON_FIELDS and isinstance(value, str) and value:
            value = _json(value)
        elif not verbatim and name in JSON_LIST_FIELDS:
            value = [_json(text) for text in value]
        row[name] = value
    line = orjson.dumps(row, default=_other).decode()
    # Nothing that a sender wrote moves the cursor of a terminal, nor turns its text around; to JSON an escape is the same.
    return line if line.isascii() and "\x7f" not in line else _UNPRINTABLE.sub(_escaped, line)


def _json(text: str) -> Any:
    """The text's own JSON, kept as it is written, so that no digit of a number is lost; a text that is none stays a text."""
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        return text
    if "\n" in text or "\r" in text:
        return value
    return orjson.Fragment(text)


def _other(value: Any) -> Any:
    if isinstance(value, int) or (isinstance(value, float) and not math.isfinite(value)):
        return str(value)
    if isinstance(value, bytes):
        return value.hex()
    raise TypeError(f"no JSON for {type(value).__name__}")


def _escaped(found: re.Match[str]) -> str:
    code = ord(found[0])
    if code < 0x10000:
        return f"\\u{code:04x}"
    code -= 0x10000
    return f"\\u{0xD800 + (code >> 10):04x}\\u{0xDC00 + (code & 0x3FF):04x}"
