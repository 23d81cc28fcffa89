"""The Confluent wire format: magic 0 and a 4-byte schema id, or magic 1 and a GUID header, before an Avro body.

Writing and reading use the ids of the checked-in catalogue.
Times stay integers (microseconds UTC) on both ways: turning them into datetimes and back costs more than the decoding itself.
"""

from __future__ import annotations

import io
import struct
import uuid
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import fastavro
from fastavro import schemaless_reader, schemaless_writer

from weir.bus.flatavro import Unusual, flat_writer
from weir.bus.flatavro_reader import flat_reader
from weir.model.schemas import SchemaVersion, catalogue, latest

__all__ = ["Decoder", "Encoder", "WireFormatError"]

_PREFIX: Final = struct.Struct(">bI")
VALUE_GUID_HEADER: Final = "__value_schema_id"


class WireFormatError(ValueError):
    """A record that is not in the wire format, or whose schema is not known; the message says which of the two."""


def _plain(schema: Any) -> Any:
    """The schema without logical types, so that fastavro hands integers through."""
    if isinstance(schema, dict):
        return {k: _plain(v) for k, v in schema.items() if k not in {"logicalType", "__fastavro_parsed__", "__named_schemas"}}
    if isinstance(schema, list):
        return [_plain(item) for item in schema]
    return schema


def _parse(schema: dict[str, Any]) -> Any:
    return fastavro.parse_schema(_plain(schema), {})


class Encoder:
    """Encodes records of one type with the newest schema: `Encoder("network-flow")(record) -> bytes`.

    Flat records, which events are, go through a writer of our own; what it does not take, and all other records, through fastavro.

    Args:
        name: record type, such as "network-flow".
    """

    __slots__ = ("_flat", "_parsed", "_prefix", "name")

    def __init__(self, name: str) -> None:
        version = latest(name)
        self.name = name
        self._prefix = _PREFIX.pack(0, version.id)
        self._parsed = _parse(version.parsed)
        self._flat = flat_writer(self._parsed, self._prefix)

    def __call__(self, record: dict[str, Any]) -> bytes:
        """The record's bytes. Raises ValueError or TypeError naming the field that does not fit the schema."""
        if self._flat is not None:
            try:
                return self._flat(record)
            except Unusual:
                pass  # fastavro writes it, or says what is wrong
        buffer = io.BytesIO()
        buffer.write(self._prefix)
        schemaless_writer(buffer, self._parsed, record)
        return buffer.getvalue()


class _Known(NamedTuple):
    """A schema as it is read by: its name, its parsed form, and the quick reader where it is flat."""

    name: str
    parsed: Any
    flat: Callable[[bytes, int], dict[str, Any]] | None


class Decoder:
    """Decodes records of any type in the catalogue; flat ones by a reader of our own, and all others through fastavro."""

    def __init__(self) -> None:
        self._by_id: dict[int, _Known] = {}
        self._by_guid: dict[uuid.UUID, _Known] = {}

    def __call__(self, data: bytes | None, headers: list[tuple[str, bytes]] | None = None) -> dict[str, Any]:
        """The record. Raises WireFormatError where the bytes are not such a record."""
        return self.named(data, headers)[1]

    def named(self, data: bytes | None, headers: list[tuple[str, bytes]] | None = None) -> tuple[str, dict[str, Any]]:
        """The record with the name of its type."""
        if not data:
            raise WireFormatError("empty record: no schema id before the Avro body")
        if data[0] == 0 and len(data) >= _PREFIX.size:
            name, parsed, flat = self._schema_of_id(_PREFIX.unpack_from(data)[1])
            start = _PREFIX.size
        elif data[0] == 1:
            name, parsed, flat = self._schema_of_guid(headers)
            start = 1
        else:
            raise WireFormatError(f"first byte is {data[0]:#04x}: neither magic 0 nor magic 1 of the Confluent wire format")
        if flat is not None:
            try:
                return name, flat(data, start)
            except Unusual:
                pass  # fastavro reads it, or says what is wrong
        try:
            record = schemaless_reader(io.BytesIO(memoryview(data)[start:]), parsed, None)
        except Exception as error:  # fastavro raises many kinds for bytes that do not fit
            raise WireFormatError(f"Avro body does not fit schema {name}: {error!r}") from error
        if not isinstance(record, dict):
            raise WireFormatError(f"schema {name} is not a record")
        return name, record

    def _schema_of_id(self, schema_id: int) -> _Known:
        if (known := self._by_id.get(schema_id)) is None:
            known = self._by_id[schema_id] = _known(catalogue().get(schema_id), schema_id)
        return known

    def _schema_of_guid(self, headers: list[tuple[str, bytes]] | None) -> _Known:
        raw = dict(headers or []).get(VALUE_GUID_HEADER)
        if raw is None or len(raw) < 17:
            raise WireFormatError(f"magic 1 without a {VALUE_GUID_HEADER} header of 17 bytes")
        guid = uuid.UUID(bytes=bytes(raw[1:17]))
        if (known := self._by_guid.get(guid)) is None:
            match = next((v for v in catalogue().values() if v.guid == guid), None)
            known = self._by_guid[guid] = _known(match, guid)
        return known


def _known(version: SchemaVersion | None, key: int | uuid.UUID) -> _Known:
    if version is None:
        raise WireFormatError(f"schema {key} is not in the catalogue of this release")
    parsed = _parse(version.parsed)
    return _Known(version.name, parsed, flat_reader(parsed))
