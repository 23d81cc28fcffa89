"""What a Beat ships: one JSON object a document, and what kind of document that is.

Suricata's EVE lines reach us in several wrappings, all from Filebeat: as text in `message` (log input; the suricata
module, too, leaves parsing to Elasticsearch), as text in `event.original`, decoded at the root (`keys_under_root`), under
`json`, or under `suricata.eve`; and as the `data` of a SensorFleet envelope. Field names: Elastic Common Schema.
"""

from __future__ import annotations

from codecs import BOM_UTF8
from collections.abc import Iterator
from typing import Final, Literal, NamedTuple

import orjson

from weir.protocols import eve, sensorfleet
from weir.protocols._isotime import iso_to_micros
from weir.protocols._values import NOTHING, child, object_of, text

__all__ = [
    "NOBODY",
    "BeatsError",
    "Dispatch",
    "Kind",
    "Shipping",
    "classify",
    "dispatch",
    "extract_eve",
    "json_object",
    "message_document",
    "original",
    "parse",
    "records",
    "shipping",
    "time_zone_us",
    "to_json",
]

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
    """The document of one Lumberjack payload. Raises `BeatsError` when it is not a JSON object in UTF-8.

    A byte order mark, which Windows programs put before UTF-8, is passed over.
    """
    try:
        document = orjson.loads(payload.removeprefix(BOM_UTF8))
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
    record = extract_eve(document)
    if record is not None:
        return Dispatch("eve", record)
    return Dispatch("sensorfleet" if sensorfleet.recognise(document) else "generic", None)


def classify(document: dict[str, object]) -> Kind:
    """The kind of the document; `dispatch` gives the EVE record as well."""
    return dispatch(document).kind


def extract_eve(document: dict[str, object]) -> dict[str, object] | None:
    """The Suricata EVE record within the document, or None."""
    if (record := message_document(document)) is not None and eve.recognise(record):
        return record
    if eve.recognise(document):
        return document
    for record in records(document):
        if eve.recognise(record):
            return record
    data = document.get("data")
    return data if isinstance(data, dict) and sensorfleet.recognise(document) and eve.recognise(data) else None


def message_document(document: dict[str, object]) -> dict[str, object] | None:
    """The JSON object that a document's message is, or None."""
    message = document.get("message")
    return json_object(message) if type(message) is str and message.startswith("{") else None


def json_object(line: str) -> dict[str, object] | None:
    """The JSON object that a line is; None for any other line."""
    try:
        record = orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
    return record if isinstance(record, dict) else None


def original(document: dict[str, object]) -> str | None:
    """The line that an input or a module of Filebeat has kept as event.original."""
    event = document.get("event")
    return text(event.get("original") if isinstance(event, dict) else None) or text(document.get("event.original"))


def time_zone_us(document: dict[str, object]) -> int | None:
    """How far the shipper's clock is ahead of UTC, microseconds, by event.timezone; None where that is a name or not there."""
    zone = child(document, "event.timezone")
    if not isinstance(zone, str) or len(zone) != 6 or zone[0] not in "+-" or zone[3] != ":":
        return None
    hours, minutes = zone[1:3], zone[4:6]
    if not (zone.isascii() and hours.isdigit() and minutes.isdigit()):
        return None
    ahead = (int(hours) * 60 + int(minutes)) * 60_000_000
    return -ahead if zone[0] == "-" else ahead


def records(document: dict[str, object]) -> Iterator[dict[str, object]]:
    """What in a document may be the source's own record, besides the message: likeliest first."""
    if (line := original(document)) is not None and line.startswith("{") and (record := json_object(line)) is not None:
        yield record
    inner = document.get("json")
    if isinstance(inner, dict):
        yield inner
    if "suricata" in document or "suricata.eve" in document:
        inner = child(document, "suricata.eve")
        if isinstance(inner, dict):
            yield inner if "timestamp" in inner else _moved_back(document, inner, _SURICATA_MOVED)
    zeek = document.get("zeek")
    if isinstance(zeek, dict):
        for name, part in zeek.items():
            if isinstance(part, dict):
                yield {"_path": _ZEEK_LOGS.get(name, name), **_moved_back(document, part, _ZEEK_MOVED)}


# Filebeat's modules for Suricata and Zeek move some fields of a record into ECS already in the Beat (x-pack/filebeat/module,
# suricata/eve/config/eve.yml and zeek/*/config/*.yml). Where the line itself is not kept, these bring them back.
_SURICATA_MOVED: Final = (
    ("timestamp", ("@timestamp",)),
    ("src_ip", ("source.address", "source.ip")),
    ("src_port", ("source.port",)),
    ("dest_ip", ("destination.address", "destination.ip")),
    ("dest_port", ("destination.port",)),
    ("proto", ("network.transport",)),
    ("app_proto", ("network.protocol",)),
    ("community_id", ("network.community_id",)),
)
_ZEEK_MOVED: Final = (
    ("ts", ("event.created", "@timestamp")),
    ("uid", ("zeek.session_id",)),
    ("id.orig_h", ("source.address", "source.ip")),
    ("id.orig_p", ("source.port",)),
    ("id.resp_h", ("destination.address", "destination.ip")),
    ("id.resp_p", ("destination.port",)),
    ("proto", ("network.transport",)),
    ("service", ("network.application", "network.protocol")),
    ("duration", ("event.duration",)),
    ("orig_ip_bytes", ("source.bytes",)),
    ("resp_ip_bytes", ("destination.bytes",)),
    ("orig_pkts", ("source.packets",)),
    ("resp_pkts", ("destination.packets",)),
    ("conn_state", ("zeek.connection.state",)),
    ("query", ("dns.question.name",)),
)
_ZEEK_LOGS: Final = {"connection": "conn"}


def _moved_back(
    document: dict[str, object], record: dict[str, object], moved: tuple[tuple[str, tuple[str, ...]], ...]
) -> dict[str, object]:
    whole = dict(record)
    for key, paths in moved:
        if key not in whole:
            for path in paths:
                if (value := child(document, path)) is not None:
                    whole[key] = value
                    break
    return whole


NOBODY: Final = Shipping(None, None, None, None, None, None, None, None, None, None)
"""The shipper of a document that has nothing of one: a source that posts its own records."""

# Of these a shipper's document has at least one.
_DOTTED: Final = frozenset({"event.module", "event.dataset", "host.name", "agent.name", "agent.type", "log.file.path"})
_SHIPPERS_KEYS: Final = _DOTTED | {
    "@timestamp", "@metadata", "agent", "beat", "host", "event", "log", "message", "data_stream",
}  # fmt: skip


def shipping(document: dict[str, object]) -> Shipping:
    """Who shipped the document. Fields of another type than ECS gives them count as absent; nothing is raised."""
    if _SHIPPERS_KEYS.isdisjoint(document):
        return NOBODY
    get = document.get
    host, message, agent, event, log = get("host"), get("message"), get("agent"), get("event"), get("log")
    agent = agent if type(agent) is dict else object_of(get("beat"))
    event = event if type(event) is dict else NOTHING
    log = log if type(log) is dict else NOTHING
    # What most documents have is asked for first, and nothing else then.
    name = text(host.get("name")) if type(host) is dict else text(host)
    kind, version = text(agent.get("type")), text(agent.get("version"))
    if kind is None or version is None:
        metadata = object_of(get("@metadata"))
        kind, version = kind or text(metadata.get("beat")), version or text(metadata.get("version"))
    file, offset = log.get("file"), log.get("offset")
    found = Shipping(
        iso_to_micros(get("@timestamp")),
        name or text(agent.get("hostname")),
        text(agent.get("name")),
        kind,
        version,
        text(event.get("module")),
        text(event.get("dataset")) or text(object_of(get("data_stream")).get("dataset")),
        text(file.get("path") if type(file) is dict else log.get("file.path")),
        offset if type(offset) is int and 0 <= offset < 2**63 else None,
        message if isinstance(message, str) else None,
    )
    if "beat" in document:
        # Beats before 7.0 name themselves so, and the file at the root.
        offset = get("offset")
        found = found._replace(
            log_file_path=found.log_file_path or text(get("source")),
            log_offset=offset if type(offset) is int and 0 <= offset < 2**63 else found.log_offset,
        )
    return found if _DOTTED.isdisjoint(document) else _with_dotted(found, document)


def _with_dotted(found: Shipping, document: dict[str, object]) -> Shipping:
    """The same of a document whose keys have the dots in them."""
    get = document.get
    offset = get("log.offset")
    return found._replace(
        host_name=found.host_name or text(get("host.name")) or text(get("agent.hostname")),
        agent_name=found.agent_name or text(get("agent.name")),
        agent_type=found.agent_type or text(get("agent.type")),
        agent_version=found.agent_version or text(get("agent.version")),
        event_module=found.event_module or text(get("event.module")),
        event_dataset=found.event_dataset or text(get("event.dataset")) or text(get("data_stream.dataset")),
        log_file_path=found.log_file_path or text(get("log.file.path")),
        log_offset=offset if found.log_offset is None and type(offset) is int and 0 <= offset < 2**63 else found.log_offset,
    )
