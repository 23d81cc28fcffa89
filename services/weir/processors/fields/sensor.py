"""A document of no known source, as fields of events.sensor: what it says in ECS, and the whole of it as JSON."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple

from weir.protocols import beats
from weir.protocols._isotime import iso_to_micros
from weir.protocols._values import address, identifier, integer, port, text

__all__ = ["LARGE_DOCUMENT", "document_fields", "ecs_fields", "shipper_fields", "tags_of"]

LARGE_DOCUMENT: Final = 400_000
"""Characters of a document from which on its message is not given a second time: the event would not fit into a record."""

_LONG: Final = 2**63
_INT: Final = 2**31
_MOST: Final = 64

Convert = Callable[[object], Any]


def _texts(value: object) -> list[str] | None:
    if isinstance(value, str):
        return [value] if value else None
    found = [item for item in value[:_MOST] if isinstance(item, str)] if isinstance(value, list) else []
    return found or None


def _long(value: object) -> int | None:
    return integer(value, _LONG)


def _int(value: object) -> int | None:
    return integer(value, _INT)


def _one_of(*allowed: str) -> Convert:
    known = frozenset(allowed)
    return lambda value: value if isinstance(value, str) and value in known else None


def _lower(value: object) -> str | None:
    found = text(value)
    return found and found.lower()


def _labels(value: object) -> dict[str, str] | None:
    """ECS labels are flat, of texts, numbers and booleans."""
    if not isinstance(value, dict):
        return None
    found = {}
    for key, item in list(value.items())[:_MOST]:
        if isinstance(item, str):
            found[key] = item
        elif isinstance(item, bool):
            found[key] = "true" if item else "false"
        elif isinstance(item, int | float):
            found[key] = str(item)
    return found or None


def _protocol_number(value: object) -> int | None:
    """ECS keeps it as a keyword: some write it as text."""
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 4:
        value = int(value)
    return integer(value, 256)


def _base_name(value: object) -> str | None:
    path = text(value)
    return (path.replace("\\", "/").rpartition("/")[2] or None) if path else None


def _of_priority(value: object) -> int | None:
    priority = integer(value, 192)
    return None if priority is None else priority & 7


_PATHS: Final[dict[str, tuple[str, Convert]]] = {
    "source.ip": ("source_ip", address),
    "source.port": ("source_port", port),
    "source.domain": ("source_host", text),
    "destination.ip": ("destination_ip", address),
    "destination.port": ("destination_port", port),
    "destination.domain": ("destination_host", text),
    "network.transport": ("network_transport", _lower),
    "network.iana_number": ("network_iana_number", _protocol_number),
    "network.type": ("network_type", _one_of("ipv4", "ipv6")),
    "network.application": ("network_application", text),
    "network.protocol": ("network_protocol", text),
    "network.community_id": ("network_community_id", text),
    "user.name": ("user_name", text),
    "user.domain": ("user_domain", text),
    "user.id": ("user_id", identifier),
    "process.name": ("process_name", text),
    "url.original": ("url_original", text),
    "dns.question.name": ("dns_question_name", text),
    "user_agent.original": ("user_agent_original", text),
    "user_agent.name": ("user_agent_name", text),
    "user_agent.version": ("user_agent_version", text),
    "user_agent.os.name": ("user_agent_os_name", text),
    "user_agent.os.version": ("user_agent_os_version", text),
    "user_agent.device.name": ("user_agent_device_name", text),
    "file.name": ("file_name", text),
    "file.path": ("file_path", text),
    "file.size": ("file_size", _long),
    "file.hash.md5": ("file_hash_md5", _lower),
    "file.hash.sha1": ("file_hash_sha1", _lower),
    "file.hash.sha256": ("file_hash_sha256", _lower),
    "hash.md5": ("file_hash_md5", _lower),
    "hash.sha1": ("file_hash_sha1", _lower),
    "hash.sha256": ("file_hash_sha256", _lower),
    "event.kind": ("event_kind", _one_of("event", "alert", "metric", "state")),
    "event.category": ("event_category", _texts),
    "event.type": ("event_type", _texts),
    "event.action": ("event_action", text),
    "event.outcome": ("event_outcome", _one_of("success", "failure", "unknown")),
    "event.severity": ("event_severity", _int),
    "event.code": ("event_code", identifier),
    "event.reason": ("event_reason", text),
    "log.syslog.facility.code": ("log_syslog_facility", lambda value: integer(value, 24)),
    "log.syslog.severity.code": ("log_syslog_severity", lambda value: integer(value, 8)),
    "syslog.facility": ("log_syslog_facility", lambda value: integer(value, 24)),
    "observer.vendor": ("observer_vendor", text),
    "observer.product": ("observer_product", text),
    "observer.version": ("observer_version", text),
    "labels": ("labels", _labels),
}
"""ECS field, our field, and what makes its value; None where the value is of another form than ECS has it."""

_SECOND_BEST: Final[dict[str, tuple[str, Convert]]] = {
    "source.address": ("source_ip", address),
    "client.ip": ("source_ip", address),
    "destination.address": ("destination_ip", address),
    "server.ip": ("destination_ip", address),
    "url.full": ("url_original", text),
    "process.executable": ("process_name", _base_name),
    "process.program": ("process_name", text),
    "syslog.severity": ("log_syslog_severity", lambda value: integer(value, 8)),
    "log.syslog.priority": ("log_syslog_severity", _of_priority),
}
"""What is asked where the better one is not there."""

_Rule = tuple[str, Convert] | None


class _Node(NamedTuple):
    """What a part of a path leads to: what is made of a value that lies here, and the parts that may follow."""

    best: _Rule
    second: _Rule
    inner: dict[str, _Node]


def _tree() -> _Node:
    root = _Node(None, None, {})
    for path in (*_PATHS, *_SECOND_BEST):
        inner, parts = root.inner, path.split(".")
        for end in range(1, len(parts) + 1):
            whole = ".".join(parts[:end])
            inner = inner.setdefault(parts[end - 1], _Node(_PATHS.get(whole), _SECOND_BEST.get(whole), {})).inner
    return root


_ROOT: Final = _tree()


def ecs_fields(document: dict[str, object]) -> dict[str, Any]:
    """What a document says in ECS, by nested objects and by keys with dots in them alike."""
    fields: dict[str, Any] = {}
    second: dict[str, Any] = {}
    _walk(document, _ROOT, fields, second)
    for field, value in second.items():
        fields.setdefault(field, value)
    known = fields.get("source_ip") or fields.get("destination_ip")
    if known is not None:
        fields.setdefault("network_type", "ipv6" if ":" in known else "ipv4")
    return fields


def _walk(value: dict[str, object], at: _Node, fields: dict[str, Any], second: dict[str, Any]) -> None:
    """No deeper than the tree is, whatever the document."""
    for key, inner in value.items():
        node = at.inner.get(key)
        if node is None and ("." not in key or (node := _below(at, key)) is None):
            continue
        if (rule := node.best) is not None:
            if (found := rule[1](inner)) is not None:
                fields[rule[0]] = found
        elif type(inner) is dict:
            if node.inner:
                _walk(inner, node, fields, second)
        elif (rule := node.second) is not None and (found := rule[1](inner)) is not None:
            second.setdefault(rule[0], found)


def _below(at: _Node, key: str) -> _Node | None:
    """Where a key with dots in it leads to."""
    node = at
    for part in key.split("."):
        found = node.inner.get(part)
        if found is None:
            return None
        node = found
    return node


def shipper_fields(shipped: beats.Shipping) -> dict[str, Any]:
    """What every dataset but cef, syslog and file-audit can say of the shipper."""
    return {
        "agent_name": shipped.agent_name,
        "agent_type": shipped.agent_type,
        "agent_version": shipped.agent_version,
        "log_file_path": shipped.log_file_path,
        "log_offset": shipped.log_offset,
    }


def tags_of(document: dict[str, object]) -> list[str]:
    """The document's tags; a single text counts as one."""
    tags = document.get("tags")
    if isinstance(tags, str):
        return [tags] if tags else []
    return [tag for tag in tags if isinstance(tag, str)] if isinstance(tags, list) else []


def document_fields(document: dict[str, object], shipped: beats.Shipping, module: str) -> dict[str, Any]:
    """The event of a document of no known source; `module` stands for a shipper that names none.

    Raises BeatsError for a document that is nested deeper than can be written.
    """
    fields = ecs_fields(document) | {"timestamp": shipped.timestamp, "host_name": shipped.host_name, "message": shipped.message}
    dataset = shipped.event_dataset
    fields["event_module"] = shipped.event_module or (dataset.partition(".")[0] if dataset else None) or module
    fields["event_dataset"] = dataset or shipped.event_module or module
    fields["document"] = beats.to_json(document)
    fields["tags"] = tags_of(document)
    if fields["timestamp"] is None:
        # Not from a Beat, but from somebody who posts JSON: these two names are common.
        fields["timestamp"] = iso_to_micros(document.get("timestamp")) or iso_to_micros(document.get("time"))
    if len(fields["document"]) > LARGE_DOCUMENT:
        fields["message"] = None
    return fields
