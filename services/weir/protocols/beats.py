"""What a Beat ships: one JSON object a document, and what kind of document that is.

Suricata's EVE lines reach us in several wrappings, all from Filebeat: as text in `message` (log input; the suricata
module, too, leaves parsing to Elasticsearch), as text in `event.original`, decoded at the root (`keys_under_root`), under
`json`, or under `suricata.eve`; and as the `data` of a SensorFleet envelope. Field names: Elastic Common Schema.
"""

from __future__ import annotations

from typing import Literal, NamedTuple, cast

import orjson

from weir.protocols import eve, sensorfleet
from weir.protocols._isotime import iso_to_micros

__all__ = ["BeatsError", "Dispatch", "Kind", "Shipping", "classify", "dispatch", "extract_eve", "parse", "shipping", "to_json"]

Kind = Literal["eve", "sensorfleet", "generic"]

_JSON_KIND = {type(None): "null", bool: "a boolean", int: "a number", float: "a number", str: "a string", list: "an array"}


class BeatsError(ValueError):
    """The payload is not a JSON object, so that no document can be made of it: a case for the dead letters."""


class Dispatch(NamedTuple):
    """What a document is. `eve` is the Suricata record for the kind "eve", wherever it was found, and None otherwise."""

    kind: Kind
    eve: dict[str, object] | None


class Shipping(NamedTuple):
    """Who shipped a document and from where, as far as the document says; `timestamp` is in microseconds UTC."""

    timestamp: int | None
    host_name: str | None
    agent_name: str | None
    agent_type: str | None
    agent_version: str | None
    event_module: str | None
    event_dataset: str | None
    log_file_path: str | None
    log_offset: int | None
    message: str | None


def parse(payload: bytes) -> dict[str, object]:
    """The document of one Lumberjack payload. Raises `BeatsError` when it is not a JSON object in UTF-8."""
    try:
        document = orjson.loads(payload)
    except orjson.JSONDecodeError as error:
        raise BeatsError(f"not JSON: {error}") from error
    if not isinstance(document, dict):
        raise BeatsError(f"a Beats document must be a JSON object, this is {_JSON_KIND[type(document)]}")
    return document


def to_json(document: dict[str, object]) -> str:
    """The document as JSON text. Raises `BeatsError` when it is nested deeper than can be written (254 levels)."""
    try:
        return orjson.dumps(document).decode()
    except TypeError as error:
        raise BeatsError(f"cannot be written as JSON: {error}") from error


def dispatch(document: dict[str, object]) -> Dispatch:
    """The kind of the document, with the Suricata record in it if there is one; the text of a message is parsed once.

    A SensorFleet envelope around an EVE record is "eve"; around anything else, "sensorfleet".
    """
    record = _find_eve(document)
    if record is not None:
        return Dispatch("eve", record)
    return Dispatch("sensorfleet" if sensorfleet.recognise(document) else "generic", None)


def classify(document: dict[str, object]) -> Kind:
    """The kind of the document; `dispatch` gives the EVE record as well."""
    return dispatch(document).kind


def extract_eve(document: dict[str, object]) -> dict[str, object] | None:
    """The Suricata EVE record within the document, or None."""
    return _find_eve(document)


def _find_eve(document: dict[str, object]) -> dict[str, object] | None:
    message = document.get("message")
    if isinstance(message, str):
        record = _eve_in_text(message)
        if record is not None:
            return record
    if eve.recognise(document):
        return document
    suricata = document.get("suricata")
    nested = suricata.get("eve") if isinstance(suricata, dict) else document.get("suricata.eve")
    for candidate in (document.get("json"), nested):
        if isinstance(candidate, dict) and eve.recognise(candidate):
            return candidate
    data = document.get("data")
    if isinstance(data, dict) and sensorfleet.recognise(document) and eve.recognise(data):
        return cast("dict[str, object]", data)
    original = _object(document.get("event")).get("original")
    return _eve_in_text(original) if isinstance(original, str) else None


def _eve_in_text(text: str) -> dict[str, object] | None:
    # The cheap tests first: most messages are log lines, and JSON ones need not be Suricata's.
    if not text.startswith("{") or '"timestamp"' not in text:
        return None
    try:
        record = orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
    return record if isinstance(record, dict) and eve.recognise(record) else None


def shipping(document: dict[str, object]) -> Shipping:
    """Who shipped the document. Fields of another type than ECS gives them count as absent; nothing is raised."""
    get = document.get
    host = get("host")
    message = get("message")
    metadata = _object(get("@metadata"))
    agent = _object(get("agent"))
    event = _object(get("event"))
    log = _object(get("log"))
    offset = log.get("offset")
    return Shipping(
        timestamp=iso_to_micros(get("@timestamp")),
        host_name=_text(host) or _text(_object(host).get("name")) or _text(agent.get("hostname")),
        agent_name=_text(agent.get("name")),
        agent_type=_text(agent.get("type")) or _text(metadata.get("beat")),
        agent_version=_text(agent.get("version")) or _text(metadata.get("version")),
        event_module=_text(event.get("module")) or _text(get("event.module")),
        event_dataset=_text(event.get("dataset")) or _text(get("event.dataset")),
        log_file_path=_text(_object(log.get("file")).get("path")),
        log_offset=offset if type(offset) is int and 0 <= offset < 2**63 else None,
        message=message if isinstance(message, str) else None,
    )


_NOTHING: dict[str, object] = {}


def _object(value: object) -> dict[str, object]:
    return value if isinstance(value, dict) else _NOTHING


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None
