"""How `weir tap` shows a unit: for eyes, side by side where the terminal is wide, or as a line of JSON.

Nothing that a sender wrote reaches the terminal as it is: every character that is not printable, from an escape sequence to a
right-to-left override, is written out.
"""

from __future__ import annotations

import json
from base64 import b64encode
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from weir.tools.tap import Shown, Totals

__all__ = ["as_json", "hexdump", "printable", "render", "summary_line"]

_WIDE: Final = 132
_LINES: Final = 12
_HEX_PER_LINE: Final = 16

# What every event has and nobody looks for in a live view.
_PLUMBING: Final = frozenset(
    {
        "event_id", "event_created", "event_original", "raw_topic", "raw_partition", "raw_offset", "log_source_ip",
        "log_source_name", "site", "event_hash", "timestamp",
    }
)  # fmt: skip
_TIMES: Final = frozenset({"timestamp", "event_start", "event_end", "event_created"})


def printable(text: str) -> str:
    """The text with everything that is not printable written as an escape."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else _escaped(char) for char in text)


def _escaped(char: str) -> str:
    code = ord(char)
    named = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}.get(char)
    # Bytes that were no UTF-8 came in as lone surrogates.
    if 0xDC80 <= code <= 0xDCFF:
        code -= 0xDC00
    return named or (f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}")


def _is_binary(data: bytes) -> bool:
    if b"\0" in data:
        return True
    text = data.decode("utf-8", "surrogateescape")
    strange = sum(1 for char in text if not char.isprintable() and char not in "\t\r\n\x1b")
    return strange * 8 > len(text)


def hexdump(data: bytes, most: int | None = None) -> list[str]:
    """Lines of offset, sixteen bytes and their ASCII; at most so many, then one that says how much is left out."""
    lines: list[str] = []
    for start in range(0, len(data), _HEX_PER_LINE):
        if most is not None and len(lines) == most:
            lines.append(f"… {len(data) - start:,} bytes more")
            break
        part = data[start : start + _HEX_PER_LINE]
        left, right = part[:8].hex(" "), part[8:].hex(" ")
        ascii_part = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in part)
        lines.append(f"{start:04x}  {left:<23}  {right:<23}  {ascii_part}")
    return lines


def _clock(time_us: int, day: bool = False) -> str:
    try:
        moment = datetime.fromtimestamp(time_us / 1_000_000, UTC)
    except (ValueError, OverflowError, OSError):
        return str(time_us)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%f" if day else "%H:%M:%S.%f")[: -3 if not day else None]


def render(one: Shown, width: int, *, show: str = "both", as_hex: bool = False, full: bool = False) -> RenderableType:
    """What a terminal of `width` characters shows of a unit; `show` is "raw", "decoded" or "both".

    Long values are cut unless `full`.
    """
    head = _head(one)
    raw = _raw(one.raw, as_hex, full) if one.raw is not None and show != "decoded" else None
    decoded = _decoded(one, full) if show != "raw" else None
    if raw is None or decoded is None:
        body = raw if raw is not None else decoded
        return head if body is None else Group(head, _indented(body))
    if width < _WIDE:
        return Group(head, _indented(raw), _indented(decoded))
    table = Table.grid(padding=(0, 2), expand=True)
    table.add_column(ratio=1, overflow="fold")
    table.add_column(ratio=1, overflow="fold")
    table.add_row(raw, decoded)
    return Group(head, _indented(table))


def _indented(body: RenderableType) -> RenderableType:
    return Padding(body, (0, 0, 0, 2))


def _head(one: Shown) -> Text:
    labels = one.labels
    head = Text(no_wrap=True, overflow="ellipsis")
    head.append(_clock(one.time_us), "dim")
    if "source_ip" in labels:
        head.append(f"  {printable(str(labels['source_ip']))}", "bold cyan")
        if name := labels.get("source_name"):
            head.append(f" {printable(str(name))}", "cyan")
        head.append(f"  {printable(str(labels.get('transport', '')))}")
    place = f"  {one.topic} {one.partition}/{one.offset}" + ("" if one.unit is None else f"#{one.unit}")
    head.append(place, "dim")
    if one.raw is not None:
        head.append(f"  {len(one.raw):,} B", "dim")
    if one.original_length:
        head.append(f" of {one.original_length:,}: cut", "yellow")
    if one.raw is not None and one.state != "decoded":
        head.append(f"  {one.state}", "bold red" if one.dead else "yellow")
    return head


def _raw(data: bytes, as_hex: bool, full: bool) -> Text:
    if as_hex or _is_binary(data):
        return Text("\n".join(hexdump(data, None if full else _LINES)), "green", no_wrap=True, overflow="ellipsis")
    text = printable(data.decode("utf-8", "surrogateescape"))
    return Text(_cut(text, full, 2000), "green", overflow="fold")


def _cut(text: str, full: bool, most: int) -> str:
    return text if full or len(text) <= most else f"{text[:most]}… {len(text) - most:,} characters more"


def _decoded(one: Shown, full: bool) -> Text:
    text = Text(overflow="fold")
    if one.dead is not None:
        text.append(f"dead: {_cut(printable(one.dead), full, 500)}", "red")
    elif not one.records:
        text.append("empty: it holds no event", "yellow")
    shown = one.records if full else one.records[:_LINES]
    for dataset, record in shown:
        if text:
            text.append("\n")
        text.append(dataset, "bold magenta")
        if isinstance(moment := record.get("timestamp"), int):
            text.append(f" {_clock(moment, day=True)}Z")
        for name, value in record.items():
            if value is None or value in ([], {}, "") or (name in _PLUMBING and not full):
                continue
            text.append(f" {name}=", "blue")
            text.append(_cut(_value(name, value), full, 160))
    if len(one.records) > len(shown):
        text.append(f"\n… {len(one.records) - len(shown)} events more", "dim")
    return text


def _value(name: str, value: object) -> str:
    if name in _TIMES and isinstance(value, int):
        return f"{_clock(value, day=True)}Z"
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, bytes):
        return value.hex()
    return printable(json.dumps(value, default=_json_value, ensure_ascii=False))


def _json_value(value: object) -> object:
    return value.hex() if isinstance(value, bytes) else str(value)


def as_json(one: Shown, *, show: str = "both") -> str:
    """One line; raw bytes that are text as `raw`, others as `raw_base64`. ASCII only, so that it is safe on a terminal too."""
    document: dict[str, Any] = {
        "time": f"{_clock(one.time_us, day=True)}Z",
        "topic": one.topic,
        "partition": one.partition,
        "offset": one.offset,
        "unit": one.unit,
        **one.labels,
        "state": one.state,
    }
    if one.original_length:
        document["original_length"] = one.original_length
    if one.raw is not None and show != "decoded":
        try:
            document["raw"] = one.raw.decode("utf-8")
        except UnicodeDecodeError:
            document["raw_base64"] = b64encode(one.raw).decode()
    if show != "raw":
        document["dead"] = one.dead
        document["events"] = [
            {"dataset": name, **{key: value for key, value in record.items() if value is not None}} for name, record in one.records
        ]
    # DEL is the one control character that JSON leaves as it is.
    return json.dumps(document, default=_json_value).replace("\x7f", "\\u007f")


def summary_line(totals: Totals) -> str:
    """What ran past, in one line."""
    rate = totals.units / totals.seconds if totals.seconds else 0.0
    parts = [f"{totals.units:,} units", f"{totals.shown:,} shown", f"{totals.events:,} events", f"{totals.dead:,} dead"]
    parts += [f"{totals.empty:,} empty", f"{totals.bytes:,} bytes", f"{totals.seconds:.1f} s", f"{rate:,.0f} units/s"]
    if totals.skipped:
        parts.append(f"{totals.skipped:,} Kafka records skipped to keep up")
    return ", ".join(parts)
