"""A quick Avro reader for flat records, the twin of `flatavro`'s writer.

Of an event's hundred-odd fields most are absent, and an absent field is one zero byte: null is branch 0 of its union, and an empty
array or map is a block of length 0. So a run of absent fields is a run of zero bytes, and is passed over in one step; fastavro asks
each field. What is out of the ordinary is refused with `Unusual`, so that fastavro can judge it; the record is the one
that fastavro gives.

Encoding: Apache Avro specification, "Binary Encoding".
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from typing import Any, Final

from weir.bus.flatavro import Unusual

__all__ = ["flat_reader"]

Read = Callable[[bytes, int], dict[str, Any]]

_ZEROS: Final = re.compile(rb"\0+").match
_DOUBLE: Final = struct.Struct("<d").unpack_from
_MOST_BITS: Final = 63

_NUMBER, _STRING, _DOUBLES, _STRINGS, _MAP = range(5)
_KINDS: Final = {"int": _NUMBER, "long": _NUMBER, "string": _STRING, "double": _DOUBLES}
_EMPTIES: Final[dict[int, Callable[[], Any]]] = {_STRINGS: list, _MAP: dict}


def _kind(avro: Any) -> int | None:
    """Which of the types of flat records it is; None for any other."""
    if isinstance(avro, dict):
        if avro.get("type") == "array" and avro.get("items") == "string":
            return _STRINGS
        if avro.get("type") == "map" and avro.get("values") == "string":
            return _MAP
        avro = avro.get("type")
    return _KINDS.get(avro) if isinstance(avro, str) else None


def _number(data: bytes, position: int) -> tuple[int, int]:
    """A zigzag number of several bytes, and the position behind it."""
    value = shift = 0
    while True:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return (value >> 1) ^ -(value & 1), position
        shift += 7
        if shift > _MOST_BITS:
            raise Unusual


def _string(data: bytes, position: int) -> tuple[str, int]:
    length, position = _number(data, position)
    end = position + length
    if length < 0 or end > len(data):
        raise Unusual
    return data[position:end].decode(), end


def _strings(data: bytes, position: int) -> tuple[list[str], int]:
    values: list[str] = []
    while True:
        count, position = _number(data, position)
        if count == 0:
            return values, position
        if count < 0:  # blocks that name their size: nobody here writes them
            raise Unusual
        for _ in range(count):
            text, position = _string(data, position)
            values.append(text)


def _string_map(data: bytes, position: int) -> tuple[dict[str, str], int]:
    pairs: dict[str, str] = {}
    while True:
        count, position = _number(data, position)
        if count == 0:
            return pairs, position
        if count < 0:
            raise Unusual
        for _ in range(count):
            key, position = _string(data, position)
            pairs[key], position = _string(data, position)


def flat_reader(schema: dict[str, Any]) -> Read | None:
    """A reader for a schema without logical types; None where that is not flat.

    It takes the bytes of a record and the position of the body in them, and raises Unusual for what is not plainly right. Flat is
    as for `flatavro.flat_writer`.
    """
    fields: list[tuple[str, int, bool]] = []
    for field in schema["fields"]:
        avro, in_union = field["type"], False
        if isinstance(avro, list):
            if len(avro) != 2 or avro[0] != "null":
                return None
            avro, in_union = avro[1], True
        kind = _kind(avro)
        if kind is None or (in_union and kind in _EMPTIES):
            return None
        fields.append((field["name"], kind, in_union))
    # From each field on, how many may be passed over by their zero bytes.
    spans = [0] * (len(fields) + 1)
    for index in range(len(fields) - 1, -1, -1):
        _, kind, in_union = fields[index]
        spans[index] = spans[index + 1] + 1 if in_union or kind in _EMPTIES else 0
    blank = dict.fromkeys(name for name, _, _ in fields)
    empties = [(name, _EMPTIES[kind]) for name, kind, _ in fields if kind in _EMPTIES]
    return _reader(fields, spans, blank, empties)


def _reader(
    fields: list[tuple[str, int, bool]],
    spans: list[int],
    blank: dict[str, Any],
    empties: list[tuple[str, Callable[[], Any]]],
) -> Read:
    count = len(fields)

    def read(data: bytes, position: int) -> dict[str, Any]:
        record = blank.copy()
        for name, make in empties:
            record[name] = make()
        index = 0
        try:
            while index < count:
                byte = data[position]
                if byte == 0 and (span := spans[index]):
                    end = _ZEROS(data, position, position + span).end()  # type: ignore[union-attr]  # there is one zero at least
                    index += end - position
                    position = end
                    continue
                name, kind, in_union = fields[index]
                index += 1
                if in_union:
                    if byte != 2:  # the second branch
                        raise Unusual
                    position += 1
                    byte = data[position]
                if kind <= _STRING:
                    if byte < 0x80:
                        position += 1
                        value = (byte >> 1) ^ -(byte & 1)
                    else:
                        value, position = _number(data, position)
                    if kind == _NUMBER:
                        record[name] = value
                        continue
                    end = position + value
                    if value < 0 or end > len(data):
                        raise Unusual
                    record[name] = data[position:end].decode()
                    position = end
                elif kind == _DOUBLES:
                    record[name] = _DOUBLE(data, position)[0]
                    position += 8
                elif kind == _STRINGS:
                    record[name], position = _strings(data, position)
                else:
                    record[name], position = _string_map(data, position)
        except (IndexError, UnicodeDecodeError, struct.error) as error:
            raise Unusual from error
        return record

    return read
