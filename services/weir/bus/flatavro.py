"""A quick Avro writer for flat records: what every event is, and where a processor spent most of its time.

fastavro asks for each field which branch of its union fits. In a flat record the type of the value says that at once, and of the
many fields that are null nothing needs to be done: a record starts as a list of what absent fields are written as, and only what
is there is put in. Anything out of the ordinary is refused with `Unusual`, so that fastavro can judge it, write it or say what is
wrong; the bytes are the same as fastavro's.

Encoding: Apache Avro specification, "Binary Encoding" (zigzag variable-length integers, length-prefixed UTF-8, blocks).
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Final

__all__ = ["FlatWriter", "Unusual", "flat_writer"]

Write = Callable[[Any], bytes]


class Unusual(Exception):
    """A value that this writer leaves to fastavro."""


_BITS: Final = 14
_TABLE: Final = 1 << _BITS
_INT: Final = 1 << 31
_LONG: Final = 1 << 63
_EXACT: Final = 1 << 53  # whole numbers up to here are doubles
_KEPT_STRINGS: Final = 3
_KEPT_CHARACTERS: Final = 64
_BRANCH: Final = b"\x02"  # of a union: the second branch, behind null


def _varint(value: int) -> bytes:
    """A non-negative number, seven bits a byte, lowest first."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


# Two bytes at a time: the last ones of a number, ones that others follow, and lengths (zigzag doubles them).
_LAST: Final = tuple(_varint(value) for value in range(_TABLE))
_MORE: Final = tuple(bytes((value & 0x7F | 0x80, value >> 7 | 0x80)) for value in range(_TABLE))
_LENGTHS: Final = tuple(_varint(2 * value) for value in range(_TABLE))
_LENGTHS_IN_UNION: Final = tuple(_BRANCH + length for length in _LENGTHS)


def _long(value: Any) -> bytes:
    if type(value) is not int or not -_LONG <= value < _LONG:
        raise Unusual
    rest = value << 1 if value >= 0 else (-value << 1) - 1
    if rest < _TABLE:
        return _LAST[rest]
    out = b""
    while rest >= _TABLE:
        out += _MORE[rest & 0x3FFF]
        rest >>= _BITS
    return out + _LAST[rest]


def _int(value: Any) -> bytes:
    if type(value) is not int or not -_INT <= value < _INT:
        raise Unusual
    return _long(value)


def _double(value: Any) -> bytes:
    if type(value) is float or (type(value) is int and -_EXACT <= value <= _EXACT):
        return struct.pack("<d", value)
    raise Unusual


def _string(value: Any) -> bytes:
    if type(value) is not str:
        raise Unusual
    data = value.encode()
    return _LENGTHS[len(data)] + data


@lru_cache(maxsize=1024)
def _short_strings(values: tuple[str, ...]) -> bytes:
    return b"".join((_long(len(values)), *map(_string, values), b"\0"))


def _strings(values: Any) -> bytes:
    """Categories and types are the same few short lists again and again; no others are kept, so that memory is bounded."""
    if type(values) is not list:
        raise Unusual
    if not values:
        return b"\0"
    if len(values) <= _KEPT_STRINGS and sum(map(len, values)) <= _KEPT_CHARACTERS:
        return _short_strings(tuple(values))
    return b"".join((_long(len(values)), *map(_string, values), b"\0"))


def _string_map(values: Any) -> bytes:
    if type(values) is not dict:
        raise Unusual
    if not values:
        return b"\0"
    return b"".join((_long(len(values)), *(part for pair in values.items() for part in map(_string, pair)), b"\0"))


_WRITERS: Final[dict[str, Write]] = {"int": _int, "long": _long, "double": _double, "string": _string}


def _writer(kind: Any) -> Write | None:
    """What writes a value of this type; None for types that do not occur in flat records."""
    if isinstance(kind, dict):
        if kind.get("type") == "array" and kind.get("items") == "string":
            return _strings
        if kind.get("type") == "map" and kind.get("values") == "string":
            return _string_map
        kind = kind.get("type")
    return _WRITERS.get(kind) if isinstance(kind, str) else None


def _second(write: Write) -> Write:
    return lambda value: _BRANCH + write(value)


class FlatWriter:
    """Writes records of one flat schema; made by `flat_writer`."""

    __slots__ = ("_blank", "_nullable", "_others", "_strings")

    def __init__(
        self,
        blank: list[bytes | None],
        strings: dict[str, tuple[int, tuple[bytes, ...]]],
        others: dict[str, tuple[int, Write]],
        nullable: frozenset[str],
    ) -> None:
        self._blank = blank
        self._strings = strings
        self._others = others
        self._nullable = nullable

    def __call__(self, record: dict[str, Any]) -> bytes:
        """The prefix and the Avro body. Raises Unusual for whatever is not plainly right."""
        parts = self._blank.copy()
        strings, others = self._strings, self._others
        try:
            for name, value in record.items():
                if type(value) is str:
                    index, lengths = strings[name]
                    data = value.encode()
                    parts[index] = lengths[len(data)] + data
                elif value is not None:
                    index, write = others[name]
                    parts[index] = write(value)
                elif name not in self._nullable:
                    raise Unusual
            return b"".join(parts)  # type: ignore[arg-type]  # None for a required field that is absent: TypeError
        except (LookupError, TypeError, UnicodeError) as error:
            raise Unusual from error


def flat_writer(schema: dict[str, Any], prefix: bytes) -> FlatWriter | None:
    """A writer for a schema without logical types, or None where it is not flat.

    Flat are the fields of int, long, double, string, arrays and maps of strings, and of unions of null (first, and the default)
    with one of these.

    Args:
        schema: a record.
        prefix: bytes to put before every body.
    """
    blank: list[bytes | None] = [prefix]
    strings: dict[str, tuple[int, tuple[bytes, ...]]] = {}
    others: dict[str, tuple[int, Write]] = {}
    nullable: set[str] = set()
    for index, field in enumerate(schema["fields"], 1):
        name, kind, in_union = field["name"], field["type"], False
        if isinstance(kind, list):
            if len(kind) != 2 or kind[0] != "null" or field.get("default") is not None:
                return None
            kind, in_union = kind[1], True
        write = _writer(kind)
        if write is None:
            return None
        if write is _string:
            strings[name] = (index, _LENGTHS_IN_UNION if in_union else _LENGTHS)
        else:
            others[name] = (index, _second(write) if in_union else write)
        if in_union:
            nullable.add(name)
            blank.append(b"\0")
        else:
            blank.append(write(field["default"]) if "default" in field else None)
    return FlatWriter(blank, strings, others, frozenset(nullable))
