"""Structured data (RFC 6313): fields that are lists of values (basicList) or of records (subTemplateList, subTemplateMultiList).

A list becomes what JSON has: `{"semantic": …, "<element>": [values]}` or `{"semantic": …, "records": [{element: value}]}`. What
does not keep to its form is given in hexadecimal; the field's own length says where the next one begins, so that nothing is
misaligned.
A byte is read at most once for each of MAX_DEPTH levels.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, Final

from weir.protocols.netflow.elements import element
from weir.protocols.netflow.fields import converter, read_value, struct_code
from weir.protocols.netflow.wire import Field, FlowError, TemplateRecord, WireSet, layout, records_in, value_at

__all__ = ["LISTS", "MAX_DEPTH", "TemplateOf", "nests", "read_list"]

LISTS: Final = frozenset({"basicList", "subTemplateList", "subTemplateMultiList"})
"""The abstract data types of lists (RFC 6313 section 4.4)."""

MAX_DEPTH: Final = 4
"""Lists within lists that are read; deeper ones stay hexadecimal."""

_SEMANTICS: Final = {0: "noneOf", 1: "exactlyOneOf", 2: "oneOrMoreOf", 3: "allOf", 4: "ordered", 255: "undefined"}

TemplateOf = Callable[[int], TemplateRecord | None]
"""Gives the template that has an id in the domain of the list."""

_Reading = tuple[str, str, str, Callable[..., Any] | None]


def nests(template: TemplateRecord) -> bool:
    """Whether records of this template name other templates inside."""
    return _nests(template)


@lru_cache(maxsize=1024)
def _nests(template: TemplateRecord) -> bool:
    try:
        fields = layout(template).fields
    except FlowError:
        return False
    return any(element(field.enterprise, field.element_id).type in LISTS for field in fields)


def read_list(abstract_type: str, raw: bytes, template_of: TemplateOf, depth: int = 1) -> Any:
    """The value of one list: a dict, or hexadecimal text where the bytes are no such list."""
    try:
        return _READERS[abstract_type](raw, template_of, depth) if depth <= MAX_DEPTH else raw.hex()
    except FlowError:
        return raw.hex()


def _basic(raw: bytes, template_of: TemplateOf, depth: int) -> dict[str, Any]:
    if len(raw) < 5:
        raise FlowError("a basicList has a header of 5 bytes")
    element_id, length = int.from_bytes(raw[1:3], "big"), int.from_bytes(raw[3:5], "big")
    at, enterprise = 5, 0
    if element_id & 0x8000:
        if len(raw) < 9:
            raise FlowError("an enterprise number has 4 bytes")
        element_id, enterprise, at = element_id & 0x7FFF, int.from_bytes(raw[5:9], "big"), 9
    if not length:
        raise FlowError("elements without length cannot be counted")
    field = Field(enterprise, element_id, length)
    values = []
    while at < len(raw):
        start, at = value_at(raw, at, len(raw), length)
        values.append(_value(field, raw[start:at], template_of, depth))
    return {"semantic": _semantic(raw[0]), element(enterprise, element_id).name: values}


def _records(raw: bytes, template_of: TemplateOf, depth: int) -> dict[str, Any]:
    if len(raw) < 3:
        raise FlowError("a subTemplateList has a header of 3 bytes")
    template_id = int.from_bytes(raw[1:3], "big")
    template = template_of(template_id)
    if template is None:
        return {"semantic": _semantic(raw[0]), "template": template_id, "data": raw[3:].hex()}
    return {"semantic": _semantic(raw[0]), "records": _of_template(template, raw[3:], template_of, depth)}


def _several(raw: bytes, template_of: TemplateOf, depth: int) -> dict[str, Any]:
    if not raw:
        raise FlowError("a subTemplateMultiList has a header of 1 byte")
    records: list[Any] = []
    at = 1
    while at < len(raw):
        template_id, size = int.from_bytes(raw[at : at + 2], "big"), int.from_bytes(raw[at + 2 : at + 4], "big")
        # The length counts its own four bytes (RFC 6313 section 4.5.3).
        if size < 4 or at + size > len(raw):
            raise FlowError(f"{size} bytes of records of template {template_id} do not fit")
        template, body = template_of(template_id), raw[at + 4 : at + size]
        if template is None:
            records.append({"template": template_id, "data": body.hex()})
        else:
            records += _of_template(template, body, template_of, depth)
        at += size
    return {"semantic": _semantic(raw[0]), "records": records}


_READERS: Final[dict[str, Callable[[bytes, TemplateOf, int], dict[str, Any]]]] = {
    "basicList": _basic,
    "subTemplateList": _records,
    "subTemplateMultiList": _several,
}


def _semantic(code: int) -> str:
    return _SEMANTICS.get(code) or str(code)


def _of_template(template: TemplateRecord, raw: bytes, template_of: TemplateOf, depth: int) -> list[dict[str, Any]]:
    shape = layout(template)
    if not shape.minimum:
        raise FlowError("records without length cannot be counted")
    found = []
    for bounds in records_in(raw, WireSet(template.template_id, 0, 0, len(raw)), shape):
        record: dict[str, Any] = {}
        for number, (field, (start, stop)) in enumerate(zip(shape.fields, bounds, strict=True)):
            name = _reading(field)[0]
            record[name if name not in record else f"{name}#{number}"] = _value(field, raw[start:stop], template_of, depth)
        found.append(record)
    return found


def _value(field: Field, raw: bytes, template_of: TemplateOf, depth: int) -> Any:
    _, abstract_type, code, convert = _reading(field if field.length == len(raw) else field._replace(length=len(raw)))
    if abstract_type in LISTS:
        return read_list(abstract_type, raw, template_of, depth + 1)
    value = read_value(code, raw)
    return value if convert is None else convert(value)


@lru_cache(maxsize=4096)
def _reading(field: Field) -> _Reading:
    name, abstract_type = element(field.enterprise, field.element_id)
    return name, abstract_type, struct_code(abstract_type, field.length), converter(None, abstract_type, field.length)
