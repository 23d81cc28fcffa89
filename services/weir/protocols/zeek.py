"""Zeek's logs: lines of a log in its own text format (TSV), JSON documents, and which of the logs a record is from.

Sources: Zeek's manual, "Zeek Log Formats and Inspection" and "Log Files", its ASCII writer (`src/logging/writers/ascii`) and
formatter (`src/threading/formatters/Ascii.cc`). The columns that a log has by default, and has had since Bro 2.0, are in
`zeek_logs.csv`: they were read off the recorded logs in Zeek's own test suite, release by release, and are needed where lines reach
us without the header of their file.

Text format. A file begins with lines such as `#separator \\x09`, `#fields<tab>ts<tab>uid...` and `#types<tab>time<tab>string...`,
and may begin anew with other columns. An unset value is `-`, an empty set or string `(empty)`, and bytes that would be taken for
something else, or are not printable, are `\\x` and two digits. A record comes out as Zeek's own JSON writer would give it: unset
columns are left out, numbers are numbers, sets and vectors are lists.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterable
from functools import lru_cache
from importlib import resources
from math import isfinite
from typing import Final, NamedTuple

from weir.protocols._address import address, mac

__all__ = [
    "BLANK",
    "Header",
    "Row",
    "ZeekError",
    "completed",
    "directive",
    "encode",
    "fitting",
    "is_directive",
    "layouts",
    "log_named",
    "row",
]

Convert = Callable[[str], object]

_LAST_SECOND: Final = 253_402_300_800  # 10000-01-01
_DIRECTIVES: Final = frozenset(
    {"separator ", "set_separator", "empty_field", "unset_field", "path", "open", "close", "fields", "types"}
)
_NAME: Final = re.compile(r"separator |[a-z_]{4,13}")
MAX_COLUMNS: Final = 1_000


class ZeekError(ValueError):
    """A line that its header does not fit: another number of columns."""


class Header(NamedTuple):
    """What the lines at the begin of a log say of those that follow."""

    separator: str = "\t"
    set_separator: str = ","
    empty_field: str = "(empty)"
    unset_field: str = "-"
    path: str | None = None
    fields: tuple[str, ...] = ()
    types: tuple[str, ...] = ()

    @property
    def complete(self) -> bool:
        """Whether lines can be read with it."""
        return 0 < len(self.fields) == len(self.types)


BLANK: Final = Header()
"""Zeek's defaults, with no columns yet."""


class Row(NamedTuple):
    """One line. A value that its type does not allow stays the text it was, and its column is named in `misfits`."""

    values: dict[str, object]
    misfits: tuple[str, ...] = ()


def is_directive(line: str, header: Header = BLANK) -> bool:
    """Whether a line belongs to a header or footer and so holds no record; `header` is what was read of it so far."""
    if not line.startswith("#"):
        return False
    name = _NAME.match(line, 1)
    if name is None or name[0] not in _DIRECTIVES:
        return False
    if name[0] != "separator ":
        return line.startswith(header.separator, name.end())
    # Zeek escapes only what cannot be printed: `|` stands there as it is.
    said = line[name.end() :].rstrip("\r\n")
    return said.startswith("\\x") or (0 < len(said) <= 4 and not any(map(str.isalnum, said)))


def directive(line: str, header: Header) -> Header:
    """The header as one of its lines changes it; anything else leaves it as it is. Never raises."""
    if line.startswith("#separator "):
        # It ends the definitions of the file before, if two were put one behind the other.
        return Header(separator=_unescape(line[11:].strip("\r\n")) or "\t")
    name, *values = line.rstrip("\r\n").split(header.separator, MAX_COLUMNS)
    value = _unescape(values[0]) if values else ""
    match name:
        case "#set_separator" if value:
            return header._replace(set_separator=value)
        case "#empty_field":
            return header._replace(empty_field=value)
        case "#unset_field":
            return header._replace(unset_field=value)
        case "#path":
            return header._replace(path=value or None)
        case "#fields":
            return header._replace(fields=tuple(values), types=())
        case "#types":
            return header._replace(types=tuple(values))
    return header


_ESCAPES = re.compile(r"\\\\|(?:\\x[0-9A-Fa-f]{2})++")


def _unescape(text: str) -> str:
    return _ESCAPES.sub(_bytes, text) if "\\" in text else text


def _bytes(found: re.Match[str]) -> str:
    """Escaped bytes as text; those that are not UTF-8 stay escaped, as in Zeek's JSON."""
    if found[0] == "\\\\":
        return "\\"
    return bytes.fromhex(found[0].replace("\\x", "")).decode("utf-8", "backslashreplace")


def _count(text: str) -> int:
    if len(text) < 20 and text.isdigit():
        return int(text)
    if not text.isdigit() or len(text) > 20 or (number := int(text)) >= 2**64:
        raise ValueError("no count")
    return number


def _int(text: str) -> int:
    return -_count(text[1:]) if text.startswith("-") and len(text) < 20 else _count(text)


def _port(text: str) -> int:
    # Written with its protocol where the log was made by printing values.
    if (number := _count(text.partition("/")[0])) > 65_535:
        raise ValueError("no port")
    return number


def _float(text: str) -> float:
    if not isfinite(number := float(text)):
        raise ValueError("not finite")
    return number


def _double(text: str) -> object:
    # JSON has no infinity; the text says more than null.
    return number if isfinite(number := float(text)) else text


def _time(text: str) -> float:
    if not 0 <= (number := float(text)) < _LAST_SECOND:
        raise ValueError("no time")
    return number


def _bool(text: str) -> bool:
    if text in {"T", "F"}:
        return text == "T"
    raise ValueError("no boolean")


def _addr(text: str) -> str:
    if address(text) is None:
        raise ValueError("no address")
    return text


def _mac(text: str) -> str:
    if mac(text) is None:
        raise ValueError("no MAC address")
    return text


_SCALARS: Final[dict[str, Convert]] = {
    "time": _time,
    "interval": _float,
    "double": _double,
    "count": _count,
    "int": _int,
    "port": _port,
    "bool": _bool,
    "addr": _addr,
    # Not one of Zeek's, which has text here: `zeek_logs.csv` says so to tell columns apart.
    "mac": _mac,
}
_CONTAINER = re.compile(r"(?:set|table|vector|list)\[(.+)\]")


@lru_cache(maxsize=1_024)
def _plan(types: tuple[str, ...], set_separator: str, empty_field: str) -> tuple[Convert | None, ...]:
    """A conversion for each column; None for one that is text and needs only its escapes undone."""
    return tuple(_conversion(type_, set_separator, empty_field) for type_ in types)


def _conversion(type_: str, set_separator: str, empty_field: str) -> Convert | None:
    container = _CONTAINER.fullmatch(type_)
    if container is None:
        return _SCALARS.get(type_)
    element = _SCALARS.get(container[1], _unescape)

    def elements(text: str) -> list[object]:
        if text == empty_field:
            return []
        return [
            None if part == "-" else "" if part == empty_field and element is _unescape else element(part)
            for part in text.split(set_separator)
        ]

    return elements


def row(line: str, header: Header) -> Row:
    """One line by its header. Raises ZeekError where it has another number of columns."""
    values = line.split(header.separator)
    if len(values) != len(header.fields):
        raise ZeekError(f"a line of {len(values)} columns under a header of {len(header.fields)}")
    unset, empty = header.unset_field, header.empty_field
    found: dict[str, object] = {}
    misfits: list[str] = []
    for name, convert, value in zip(header.fields, _plan(header.types, header.set_separator, empty), values, strict=True):
        if value == unset:
            continue
        if convert is None:
            found[name] = "" if value == empty else _unescape(value) if "\\" in value else value
            continue
        try:
            found[name] = convert(value)
        except ValueError:
            found[name] = value
            misfits.append(name)
    return Row(found, tuple(misfits))


def encode(values: dict[str, object], header: Header) -> str:
    """The line of a record, as Zeek writes it: the opposite of `row`."""
    return header.separator.join(
        header.unset_field if (value := values.get(name)) is None else _written(value, header) for name in header.fields
    )


def _written(value: object, header: Header) -> str:
    if isinstance(value, list):
        return header.set_separator.join("-" if item is None else _written(item, header) for item in value) or header.empty_field
    if isinstance(value, bool):
        return "T" if value else "F"
    if isinstance(value, float):
        return f"{value:.6f}"
    if not isinstance(value, str):
        return str(value)
    if value in {"", header.empty_field, header.unset_field, "-"}:
        return header.empty_field if not value else f"\\x{ord(value[0]):02x}{value[1:]}"
    special = {header.separator, header.set_separator}
    return "".join(
        "\\\\" if letter == "\\" else f"\\x{ord(letter):02x}" if letter in special or letter < " " or letter == "\x7f" else letter
        for letter in value
    )


# Which log, and its columns ------------------------------------------------------------------------------------------------------

_CONNECTION: Final = ("id.orig_h:addr", "id.orig_p:port", "id.resp_h:addr", "id.resp_p:port")

# Names that shippers and old releases have for a log.
_ALIASES: Final = {"connection": "conn", "signature": "signatures", "bro": "", "zeek": "", "notice_alarm": "notice"}


@lru_cache(maxsize=1)
def layouts() -> dict[str, tuple[Header, ...]]:
    """The columns of each standard log by name, those of the newest release first."""
    found: dict[str, list[Header]] = {}
    with resources.files(__package__).joinpath("zeek_logs.csv").open(encoding="utf-8") as table:
        for record in csv.DictReader(table):
            columns = _columns(record["columns"].split())
            header = Header(path=record["log"], fields=tuple(name for name, _ in columns), types=tuple(kind for _, kind in columns))
            found.setdefault(record["log"], []).append(header)
    return {log: tuple(headers) for log, headers in found.items()}


def _columns(words: Iterable[str]) -> list[tuple[str, str]]:
    spelled = [part for word in words for part in (_CONNECTION if word == "id" else (word,))]
    return [(name, kind) for name, _, kind in (part.rpartition(":") for part in spelled)]


def fitting(line: str, log: str) -> Header | None:
    """The newest known layout of a log whose number and types of columns a line keeps to; None where there is none."""
    count = line.count("\t") + 1
    for header in layouts().get(log, ()):
        if len(header.fields) == count and not row(line, header).misfits:
            return header
    return None


def completed(header: Header) -> Header:
    """A header whose `#types` are missing, with the types that columns of these names have in the log, else text."""
    kinds = {
        name: kind
        for layout in layouts().get(header.path or "", ())
        for name, kind in zip(layout.fields, layout.types, strict=True)
    }
    return header._replace(types=tuple(kinds.get(name, "string") for name in header.fields))


@lru_cache(maxsize=4_096)
def log_named(text: str) -> str | None:
    """The standard log that a file name, dataset or program is named after: `/x/conn.2021-03-01.log`, `zeek.dns`, `bro_http`."""
    name = text.replace("\\", "/").rpartition("/")[2].lower()
    name = re.sub(r"^(?:zeek|bro|corelight)[._-]", "", name)
    found = re.match(r"[a-z][a-z0-9_]*", name)
    if found is None:
        return None
    candidate = found[0]
    while candidate:
        log = _ALIASES.get(candidate, candidate)
        if log in layouts():
            return log
        candidate = candidate.rpartition("_")[0]
    return None
