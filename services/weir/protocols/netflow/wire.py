"""The wire format shared by all sides: headers, sets and template records of NetFlow v5, v7, v9 and IPFIX.

Sources: RFC 3954 (v9), RFC 7011 (IPFIX) and Cisco's "NetFlow Export Datagram Format" (v5, v7). Everything here is cheap enough
for a receiver to run on each datagram, and bounded by the datagram's length.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from struct import Struct, unpack_from
from typing import NamedTuple

__all__ = [
    "FIRST_DATA_SET",
    "FIXED",
    "MAX_FIELDS",
    "MAX_RECORDS",
    "MAX_SETS",
    "NETFLOW_IPFIX",
    "NETFLOW_V5",
    "NETFLOW_V7",
    "NETFLOW_V9",
    "SCOPE_V9",
    "VARIABLE",
    "Field",
    "FlowError",
    "Header",
    "Layout",
    "TemplateRecord",
    "WireSet",
    "layout",
    "read_header",
    "records_in",
    "sets_of",
    "templates_in",
    "value_at",
]

NETFLOW_V5 = 5
NETFLOW_V7 = 7
NETFLOW_V9 = 9
NETFLOW_IPFIX = 10

FIXED = {NETFLOW_V5: 48, NETFLOW_V7: 52}
"""The versions without templates, and the length of their records; the header of both has 24 bytes."""

FIRST_DATA_SET = 256
"""Set ids from here on are template ids; below them are template sets and reserved ids."""

VARIABLE = 65535
"""Field length that means: the length is in the record (RFC 7011 section 7). H3C uses it in v9 as well."""

SCOPE_V9 = -1
"""Pseudo enterprise of v9 scope fields, whose types are numbered apart (RFC 3954 section 6.1)."""

MAX_FIELDS = 512
"""A template with more fields is refused: real ones have up to about a hundred, and compiling must stay cheap."""

MAX_RECORDS = 4096
"""Records decoded of one datagram at most; the smallest useful records give some 3,000 in the largest UDP datagram."""

MAX_SETS = 1024
"""Sets read of one datagram at most; a datagram of 1,500 bytes cannot even hold 400."""

_V5_HEADER = Struct(">HHIIIIBBH")
_V7_HEADER = Struct(">HHIIII4x")
_V9_HEADER = Struct(">HHIIII")
_IPFIX_HEADER = Struct(">HHIII")
_SET_HEADER = Struct(">HH")


class FlowError(ValueError):
    """What is wrong with a datagram, and where: the reason names the offset, the set id and the template id it concerns."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Header(NamedTuple):
    """What the headers of all versions have in common.

    `export_us` is the exporter's time in microseconds UTC, `uptime` its sysUptime in milliseconds (0 for IPFIX),
    `sampling` the v5 sampling field, `counted` the header's count of records (0 for IPFIX), `start` the offset of what
    follows the header and `end` the offset behind the message.
    """

    version: int
    domain: int
    sequence: int
    export_us: int
    uptime: int
    sampling: int
    counted: int
    start: int
    end: int


class WireSet(NamedTuple):
    """One set (v9: FlowSet): its id, its offset and the bounds of what follows its header."""

    set_id: int
    offset: int
    start: int
    end: int


class Field(NamedTuple):
    """One field specifier of a template; `enterprise` is SCOPE_V9 for a v9 scope."""

    enterprise: int
    element_id: int
    length: int


class Layout(NamedTuple):
    """A parsed template: its fields but for those of length 0, the smallest length of a record, and whether all have it."""

    fields: tuple[Field, ...]
    minimum: int
    fixed: bool


class TemplateRecord(NamedTuple):
    """One template as on the wire, from its template id on; an empty `record` says that the template was withdrawn."""

    version: int
    domain: int
    template_id: int
    is_options: bool
    record: bytes


def read_header(datagram: bytes) -> Header:
    """Header of a datagram.

    Raises FlowError for anything but a v5, v7, v9 or IPFIX header of full length.
    """
    size = len(datagram)
    version = int.from_bytes(datagram[:2], "big") if size >= 2 else -1
    if version == NETFLOW_V9 and size >= 20:
        _, count, uptime, seconds, sequence, domain = _V9_HEADER.unpack_from(datagram)
        return Header(version, domain, sequence, seconds * 1_000_000, uptime, 0, count, 20, size)
    if version == NETFLOW_IPFIX and size >= 16:
        _, length, seconds, sequence, domain = _IPFIX_HEADER.unpack_from(datagram)
        if length < 16:
            raise FlowError(f"offset 2: IPFIX message length {length} is shorter than its header of 16 bytes")
        return Header(version, domain, sequence, seconds * 1_000_000, 0, 0, 0, 16, length)
    if version == NETFLOW_V5 and size >= 24:
        _, count, uptime, seconds, nanos, sequence, engine_type, engine_id, sampling = _V5_HEADER.unpack_from(datagram)
        export_us = seconds * 1_000_000 + nanos // 1000
        return Header(version, engine_type << 8 | engine_id, sequence, export_us, uptime, sampling, count, 24, size)
    if version == NETFLOW_V7 and size >= 24:
        _, count, uptime, seconds, nanos, sequence = _V7_HEADER.unpack_from(datagram)
        return Header(version, 0, sequence, seconds * 1_000_000 + nanos // 1000, uptime, 0, count, 24, size)
    if version in FIXED or version in (NETFLOW_V9, NETFLOW_IPFIX):
        raise FlowError(f"offset 0: {size} bytes are too short for a header of version {version}")
    raise FlowError(f"offset 0: version {version} is none of 5, 7, 9 and 10" if size >= 2 else f"offset 0: only {size} bytes")


def sets_of(datagram: bytes, header: Header) -> Iterator[WireSet]:
    """The sets of a v9 or IPFIX message in order (RFC 3954 section 5, RFC 7011 section 3.3).

    A zero-filled tail is taken for padding. Raises FlowError, after the sets before it, for a set that does not fit, for
    an IPFIX message shorter than its length field, and for bytes behind its end that are not zero.
    """
    offset = header.start
    size = len(datagram)
    end = min(header.end, size)
    count = 0
    while offset + 4 <= end:
        set_id, length = _SET_HEADER.unpack_from(datagram, offset)
        if length < 4 or offset + length > end:
            if set_id == 0 and length == 0 and not any(datagram[offset:end]):
                break
            raise FlowError(f"offset {offset}: set {set_id} has length {length}, {end - offset} bytes are left")
        count += 1
        if count > MAX_SETS:
            raise FlowError(f"offset {offset}: more than {MAX_SETS} sets")
        yield WireSet(set_id, offset, offset + 4, offset + length)
        offset += length
    else:
        if any(datagram[offset:end]):
            raise FlowError(f"offset {offset}: {end - offset} bytes are too few for a set header")
    if header.end > size:
        raise FlowError(f"offset {size}: IPFIX message is cut, its length field says {header.end} bytes")
    if header.end < size and any(datagram[header.end :]):
        raise FlowError(f"offset {header.end}: {size - header.end} bytes follow the end of the IPFIX message")


def templates_in(datagram: bytes, header: Header, wire_set: WireSet) -> Iterator[TemplateRecord]:
    """The template records of a template set (v9 ids 0 and 1, IPFIX ids 2 and 3); withdrawals have an empty record.

    An IPFIX withdrawal of all templates of a kind carries the set's own id, 2 or 3 (RFC 7011 section 8.1).
    Raises FlowError for a record that does not fit, for a template id below 256, and for too many fields.
    """
    version, domain = header.version, header.domain
    ipfix = version == NETFLOW_IPFIX
    is_options = wire_set.set_id == (3 if ipfix else 1)
    offset, end = wire_set.start, wire_set.end
    while offset + 4 <= end:
        template_id, count = _SET_HEADER.unpack_from(datagram, offset)
        if not template_id and not any(datagram[offset:end]):
            return
        where = f"offset {offset}: set {wire_set.set_id}, template {template_id}"
        if ipfix and count == 0 and (template_id >= FIRST_DATA_SET or template_id == wire_set.set_id):
            yield TemplateRecord(version, domain, template_id, is_options, b"")
            if template_id < FIRST_DATA_SET:
                return
            offset += 4
            continue
        if template_id < FIRST_DATA_SET:
            raise FlowError(f"{where}: template ids below {FIRST_DATA_SET} are reserved")
        head = 6 if is_options else 4
        if offset + head > end:
            raise FlowError(f"{where}: cut after {end - offset} bytes")
        if is_options and not ipfix:
            option_length = int.from_bytes(datagram[offset + 4 : offset + 6], "big")
            if count % 4 or option_length % 4:
                raise FlowError(f"{where}: lengths of scope ({count}) and options ({option_length}) must be multiples of 4")
            count = (count + option_length) // 4
        if not 0 < count <= MAX_FIELDS:
            raise FlowError(f"{where}: {count} fields, from 1 to {MAX_FIELDS} are accepted")
        stop = offset + head
        for _ in range(count):
            # The enterprise bit adds four bytes to a field specifier (RFC 7011 section 3.2); v9 has no such bit.
            stop += 8 if ipfix and stop < end and datagram[stop] & 0x80 else 4
        if stop > end:
            raise FlowError(f"{where}: its {count} fields need {stop - offset} bytes, {end - offset} are left")
        yield TemplateRecord(version, domain, template_id, is_options, datagram[offset:stop])
        offset = stop


def layout(template: TemplateRecord) -> Layout:
    """Fields of a template record, in order.

    Raises FlowError where `record` is not exactly one template record. Results are kept for the last few hundred definitions.
    """
    try:
        return _layout(template.version == NETFLOW_IPFIX, template.is_options, template.record)
    except FlowError as error:
        raise FlowError(f"template {template.template_id} of domain {template.domain}: {error.reason}") from None


@lru_cache(maxsize=1024)
def _layout(ipfix: bool, is_options: bool, record: bytes) -> Layout:
    head = 6 if is_options else 4
    if len(record) < head:
        raise FlowError(f"a record of {len(record)} bytes is too short")
    count = scopes = 0
    if is_options and not ipfix:
        scope_length, option_length = unpack_from(">HH", record, 2)
        count, scopes = (scope_length + option_length) // 4, scope_length // 4
    else:
        count = int.from_bytes(record[2:4], "big")
    if not 0 < count <= MAX_FIELDS:
        raise FlowError(f"{count} fields, from 1 to {MAX_FIELDS} are accepted")
    fields: list[Field] = []
    offset = head
    for number in range(count):
        if offset + 4 > len(record):
            raise FlowError(f"cut before field {number} of {count}")
        element_id, length = unpack_from(">HH", record, offset)
        offset += 4
        enterprise = SCOPE_V9 if number < scopes else 0
        if ipfix and element_id & 0x8000:
            if offset + 4 > len(record):
                raise FlowError(f"cut in the enterprise number of field {number} of {count}")
            element_id &= 0x7FFF
            enterprise = int.from_bytes(record[offset : offset + 4], "big")
            offset += 4
        if length:
            fields.append(Field(enterprise, element_id, length))
    minimum = sum(1 if field.length == VARIABLE else field.length for field in fields)
    return Layout(tuple(fields), minimum, all(field.length != VARIABLE for field in fields))


def value_at(datagram: bytes, offset: int, end: int, length: int) -> tuple[int, int]:
    """Bounds of a field's value at `offset`: `length` bytes, or for VARIABLE as many as its prefix says.

    Returns (start, stop). Raises FlowError where the value reaches beyond `end`.
    """
    start = offset
    if length == VARIABLE:
        # One byte, or 255 and then two bytes (RFC 7011 section 7).
        if offset >= end:
            raise FlowError(f"offset {offset}: no room for the length of a variable-length field")
        length = datagram[offset]
        start = offset + 1
        if length == 255:
            if offset + 3 > end:
                raise FlowError(f"offset {offset}: no room for the length of a variable-length field")
            length = datagram[offset + 1] << 8 | datagram[offset + 2]
            start = offset + 3
    if start + length > end:
        raise FlowError(f"offset {offset}: a field of {length} bytes reaches beyond its set, which ends at {end}")
    return start, start + length


def records_in(datagram: bytes, wire_set: WireSet, shape: Layout) -> Iterator[list[tuple[int, int]]]:
    """Records of a data set with fields of variable length: for each record the (start, stop) of every field, in order.

    What is left at the end and shorter than the smallest record is padding (RFC 7011 section 3.3.1).
    Raises FlowError, after the records before it, for a record that is cut.
    """
    offset, end = wire_set.start, wire_set.end
    while shape.minimum and offset + shape.minimum <= end:
        bounds: list[tuple[int, int]] = []
        for field in shape.fields:
            start, stop = value_at(datagram, offset, end, field.length)
            bounds.append((start, stop))
            offset = stop
        yield bounds
