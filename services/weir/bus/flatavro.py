"""A quick Avro writer for flat records: what every event is, and where a processor spent most of its time.

fastavro asks for each field which branch of its union fits. In a flat record the type of the value says that at once, and of the
many fields that are null nothing needs to be done: a record starts as a list of parts in which all that is absent between two
fields is one part, and only what is there is put in. Anything out of the ordinary is refused with `Unusual`, so that fastavro can
judge it, write it or say what is wrong; the bytes are the same as fastavro's.

Encoding: Apache Avro specification, "Binary Encoding" (zigzag variable-length integers, length-prefixed UTF-8, blocks).
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Final, NamedTuple

__all__ = ["FlatWriter", "Unusual", "flat_writer"]

Write = Callable[[Any], bytes]


class Unusual(Exception):
    """A value that this writer leaves to fastavro."""


_BITS: Final = 14
_TABLE: Final = 1 << _BITS
_MASK: Final = _TABLE - 1
_INT: Final = 1 << 31
_LONG: Final = 1 << 63
_EXACT: Final = 1 << 53  # whole numbers up to here are doubles
_KEPT_STRINGS: Final = 3
_KEPT_CHARACTERS: Final = 64
_KEPT_KEYS: Final = 4096
_MOST_PLANS: Final = 512
_BRANCH: Final = b"\x02"  # of a union: the second branch, behind null


# Two bytes at a time: the last ones of a number, ones that others follow, and lengths (zigzag doubles them).
_LAST: Final = tuple([bytes((n,)) for n in range(128)] + [bytes((n & 0x7F | 0x80, n >> 7)) for n in range(128, _TABLE)])
_MORE: Final = tuple([bytes((n & 0x7F | 0x80, n >> 7 | 0x80)) for n in range(_TABLE)])
_LENGTHS: Final = _LAST[::2] + tuple([more + b"\x01" for more in _MORE[::2]])
_LAST_IN_UNION: Final = tuple([_BRANCH + part for part in _LAST])
_MORE_IN_UNION: Final = tuple([_BRANCH + part for part in _MORE])
_LENGTHS_IN_UNION: Final = tuple([_BRANCH + length for length in _LENGTHS])


def _whole_numbers(limit: int, last: tuple[bytes, ...] = _LAST, more: tuple[bytes, ...] = _MORE) -> Write:
    """What writes whole numbers from -limit to limit - 1. They begin with one of `more`, small ones are one of `last`."""

    def write(value: Any) -> bytes:
        if type(value) is not int or not -limit <= value < limit:
            raise Unusual
        rest = value << 1 if value >= 0 else ~(value << 1)
        if rest < _TABLE:
            return last[rest]
        out = more[rest & _MASK]
        rest >>= _BITS
        while rest >= _TABLE:
            out += _MORE[rest & _MASK]
            rest >>= _BITS
        return out + _LAST[rest]

    return write


_long: Final = _whole_numbers(_LONG)


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


class _Keys(dict[str, bytes]):
    """Keys of maps are the same few names again and again. Begins anew when it is full."""

    __slots__ = ()

    def __missing__(self, key: str) -> bytes:
        written = _string(key)
        if len(key) <= _KEPT_CHARACTERS:
            if len(self) >= _KEPT_KEYS:
                self.clear()
            self[key] = written
        return written


_keys: Final = _Keys()


def _string_map(values: Any) -> bytes:
    if type(values) is not dict:
        raise Unusual
    if not values:
        return b"\0"
    parts = [_long(len(values))]
    try:
        for key, value in values.items():
            data = value.encode()
            parts += (_keys[key], _LENGTHS[len(data)], data)
    except AttributeError as error:
        raise Unusual from error
    parts.append(b"\0")
    return b"".join(parts)


def _in_union(write: Write) -> Write:
    return lambda value: _BRANCH + write(value)


# Alone, and as the second branch of a union.
_WRITERS: Final[dict[str, tuple[Write, Write]]] = {
    "int": (_whole_numbers(_INT), _whole_numbers(_INT, _LAST_IN_UNION, _MORE_IN_UNION)),
    "long": (_long, _whole_numbers(_LONG, _LAST_IN_UNION, _MORE_IN_UNION)),
    "double": (_double, _in_union(_double)),
    "string": (_string, _in_union(_string)),
    "array": (_strings, _in_union(_strings)),
    "map": (_string_map, _in_union(_string_map)),
}
_INNER: Final = {"array": "items", "map": "values"}


def _type_of(schema: Any) -> str | None:
    """A type as the table has it; None for those that do not occur in flat records."""
    if isinstance(schema, dict):
        inner = _INNER.get(schema.get("type", ""))
        return schema["type"] if inner and schema.get(inner) == "string" else None if inner else _type_of(schema.get("type"))
    return schema if isinstance(schema, str) and schema in _WRITERS and schema not in _INNER else None


class _Field(NamedTuple):
    """How a field is written: texts by the prefixes of their lengths, small whole numbers by a table, all else by a function.

    A table that is not for the field is empty. `absent` is None where the field must be there.
    """

    name: str
    lengths: tuple[bytes, ...]
    small: tuple[bytes, ...]
    write: Write
    nullable: bool
    absent: bytes | None


_Slot = tuple[int, tuple[bytes, ...], tuple[bytes, ...], Write]
_Plan = tuple[list[bytes | None], tuple[_Slot, ...]]


class FlatWriter:
    """Writes records of one flat schema; made by `flat_writer`.

    Records with the same keys in the same order, as those of one source are, share a plan: the parts of which the bytes are made,
    with all absent fields between two that are there in one part, and the part that each value goes to.
    """

    __slots__ = ("_fields", "_plans", "_prefix")

    def __init__(self, prefix: bytes, fields: list[_Field]) -> None:
        self._prefix = prefix
        self._fields = fields
        self._plans: dict[tuple[str, ...], _Plan] = {}

    def __call__(self, record: dict[str, Any]) -> bytes:
        """The prefix and the Avro body. Raises Unusual for whatever is not plainly right."""
        names = tuple(record)
        blank, slots = self._plans.get(names) or self._plan(names)
        parts = blank.copy()
        try:
            for value, (index, lengths, small, write) in zip(record.values(), slots, strict=True):
                kind = type(value)
                if kind is str:
                    data = value.encode()
                    parts[index] = lengths[len(data)] + data
                elif kind is int and 0 <= value < _TABLE and small:
                    parts[index] = small[value]
                elif value is not None:
                    parts[index] = write(value)
            return b"".join(parts)  # type: ignore[arg-type]  # None for null where there must be a value: TypeError
        except (LookupError, TypeError, UnicodeError) as error:
            raise Unusual from error

    def _plan(self, names: tuple[str, ...]) -> _Plan:
        """Raises Unusual for a key that the schema lacks, and where one lacks that must be there."""
        there = set(names)
        slots: dict[str, _Slot] = {}
        blank: list[bytes | None] = []
        run = self._prefix
        for field in self._fields:
            if field.name in there:
                blank += (run, b"\0" if field.nullable else None)
                slots[field.name] = (len(blank) - 1, field.lengths, field.small, field.write)
                run = b""
            elif field.absent is None:
                raise Unusual
            else:
                run += field.absent
        if len(slots) < len(names):
            raise Unusual
        if len(self._plans) >= _MOST_PLANS:
            self._plans.clear()
        plan = self._plans[names] = [*blank, run], tuple(slots[name] for name in names)
        return plan


def flat_writer(schema: dict[str, Any], prefix: bytes) -> FlatWriter | None:
    """A writer for a schema without logical types, or None where it is not flat.

    Flat are the fields of int, long, double, string, arrays and maps of strings, and of unions of null (first, and the default)
    with one of these.

    Args:
        schema: a record.
        prefix: bytes to put before every body.
    """
    fields: list[_Field] = []
    for field in schema["fields"]:
        declared, nullable = field["type"], isinstance(field["type"], list)
        if nullable:
            if len(declared) != 2 or declared[0] != "null" or field.get("default") is not None:
                return None
            declared = declared[1]
        kind = _type_of(declared)
        if kind is None:
            return None
        write = _WRITERS[kind]
        absent = b"\0" if nullable else write[0](field["default"]) if "default" in field else None
        # A length is written as any number is.
        numbers = _LENGTHS_IN_UNION if nullable else _LENGTHS
        lengths, small = numbers if kind == "string" else (), numbers if kind in {"int", "long"} else ()
        fields.append(_Field(field["name"], lengths, small, write[nullable], nullable, absent))
    return FlatWriter(prefix, fields)
