"""JSON documents out of an HTTP body, each as the very bytes that were sent.

A body is one object, an array of objects, or objects one after the other; by media type or on demand one a line (NDJSON). Parsing
and writing again would change numbers, escapes and the order of keys, so the body is cut instead: brackets are counted outside
strings to find where an element ends, and orjson then judges the element alone. An element that is valid JSON (RFC 8259) ends
exactly where its brackets are balanced; one that is not is refused by orjson or by what follows it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

import orjson

__all__ = ["DEFAULT_MAX_ELEMENT_BYTES", "ElementError", "ElementTooLongError", "cut_elements"]

DEFAULT_MAX_ELEMENT_BYTES: Final = 786_432

# Everything up to the next bracket outside a string; possessive, so that no input makes it go back.
_TO_BRACKET = re.compile(rb'[^"\[\]{}]*+(?:"(?:[^"\\]++|\\.)*+"[^"\[\]{}]*+)*+', re.DOTALL)
_SPACE = re.compile(rb"[ \t\r\n]*+")
_BLANK = b" \t\r\n"
_BOM = b"\xef\xbb\xbf"
_OPEN, _CLOSE, _QUOTE, _COMMA, _START, _END = b'{}",[]'
_KINDS = {list: "an array", str: "a string", bool: "a boolean", type(None): "null", int: "a number", float: "a number"}
_MAX_DEPTH: Final = 1_024  # orjson's own


class ElementError(ValueError):
    """An element is not a JSON object, or something else stands where one belongs.

    `index` counts from 0 and is None for what belongs to no element; `offset` is the byte in the body.
    """

    def __init__(self, reason: str, index: int | None, offset: int) -> None:
        where = f"byte {offset}" if index is None else f"element {index} at byte {offset}"
        super().__init__(f"{where}: {reason}")
        self.reason = reason
        self.index = index
        self.offset = offset


class ElementTooLongError(ElementError):
    """An element is longer than the limit."""


def cut_elements(
    body: bytes | bytearray, *, lines: bool = False, max_element_bytes: int = DEFAULT_MAX_ELEMENT_BYTES
) -> Iterator[bytes]:
    """The objects of a body, in order, byte by byte as sent and without the white space around them.

    Args:
        body: UTF-8, whole; a byte order mark before it is passed over.
        lines: NDJSON: an object in each line, empty lines between them are allowed. Else: an array of objects, or objects with
            only white space between them.
        max_element_bytes: of one object.

    Raises:
        ElementTooLongError: an object is longer than that.
        ElementError: something is no object or no JSON. Objects before it have been given: publish none before the end.
    """
    start = len(_BOM) if body.startswith(_BOM) else 0
    if lines:
        return _lines(body, start, max_element_bytes)
    start = _after_space(body, start)
    if start < len(body) and body[start] == _START:
        return _array(body, start + 1, max_element_bytes)
    return _objects(body, start, max_element_bytes)


def _after_space(body: bytes | bytearray, position: int) -> int:
    match = _SPACE.match(body, position)
    return match.end() if match else position


def _lines(body: bytes | bytearray, start: int, limit: int) -> Iterator[bytes]:
    index = 0
    while start < len(body):
        end = body.find(b"\n", start)
        if end < 0:
            end = len(body)
        line = bytes(body[start:end])
        element = line.strip(_BLANK)
        if element:
            offset = start + len(line) - len(line.lstrip(_BLANK))
            if len(element) > limit:
                raise _too_long(index, offset, limit)
            _judge(element, index, offset)
            yield element
            index += 1
        start = end + 1


def _objects(body: bytes | bytearray, position: int, limit: int) -> Iterator[bytes]:
    index = 0
    while position < len(body):
        end = _end_of_object(body, position, index, limit)
        yield _element(body, position, end, index)
        index += 1
        position = _after_space(body, end)


def _array(body: bytes | bytearray, position: int, limit: int) -> Iterator[bytes]:
    index = 0
    position = _after_space(body, position)
    if position < len(body) and body[position] == _END:
        _nothing_after(body, position + 1)
        return
    while True:
        end = _end_of_object(body, position, index, limit)
        yield _element(body, position, end, index)
        position = _after_space(body, end)
        if position >= len(body):
            raise ElementError("the body ends within the array", index, position)
        if body[position] == _END:
            _nothing_after(body, position + 1)
            return
        if body[position] != _COMMA:
            raise ElementError(f"{_shown(body, position)} after the element, ',' or ']' belongs there", index, position)
        index += 1
        position = _after_space(body, position + 1)


def _nothing_after(body: bytes | bytearray, position: int) -> None:
    position = _after_space(body, position)
    if position < len(body):
        raise ElementError(f"{_shown(body, position)} after the end of the array", None, position)


def _end_of_object(body: bytes | bytearray, start: int, index: int, limit: int) -> int:
    """The byte after the object that begins at `start`."""
    if start >= len(body):
        raise ElementError("the body ends where an object belongs", index, start)
    if body[start] != _OPEN:
        raise ElementError(f"{_shown(body, start)} where an object belongs", index, start)
    depth = 1
    position = start + 1
    # One byte more than allowed is enough to know.
    stop = min(len(body), start + limit + 1)
    while True:
        match = _TO_BRACKET.match(body, position, stop)
        position = match.end() if match else stop
        if position >= stop or body[position] == _QUOTE:
            if stop < len(body):
                raise _too_long(index, start, limit)
            raise ElementError("the body ends within the object", index, start)
        if body[position] in (_OPEN, _START):
            depth += 1
            if depth > _MAX_DEPTH:
                raise ElementError(f"nested deeper than {_MAX_DEPTH:,} levels", index, start)
        else:
            depth -= 1
        position += 1
        if depth == 0:
            if position - start > limit:
                raise _too_long(index, start, limit)
            return position


def _element(body: bytes | bytearray, start: int, end: int, index: int) -> bytes:
    element = bytes(body[start:end])
    _judge(element, index, start)
    return element


def _judge(element: bytes, index: int, offset: int) -> None:
    try:
        value = orjson.loads(element)
    except orjson.JSONDecodeError as error:
        raise ElementError(f"not JSON: {error.msg} (byte {offset + _bytes_before(element, error.pos)})", index, offset) from None
    if not isinstance(value, dict):
        raise ElementError(f"{_KINDS[type(value)]}, an object belongs there", index, offset)


def _bytes_before(element: bytes, characters: int) -> int:
    # orjson counts characters, and says nothing of where the bytes are no UTF-8.
    try:
        return len(element.decode()[:characters].encode())
    except UnicodeDecodeError as error:
        return error.start


def _too_long(index: int, offset: int, limit: int) -> ElementTooLongError:
    return ElementTooLongError(f"longer than {limit:,} bytes", index, offset)


def _shown(body: bytes | bytearray, position: int) -> str:
    return repr(bytes(body[position : position + 1]))[1:]
