"""MISP events as JSON: a file of a MISP feed, an export, or the answer of /events/restSearch.

Format: MISP core format (draft-dulaunoy-misp-core-format), attributes of the event and of its objects. Only what is marked `to_ids`
is an indicator; deleted attributes are none.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from weir.enrich.intel.lists import IntelError, Report, short_text
from weir.enrich.intel.values import Indicator, classify, time_us

__all__ = ["parse"]

# Type of an attribute: which parts of its value, split at "|", are indicators.
_PARTS: Final = {
    **dict.fromkeys(("ip-src", "ip-dst", "domain", "hostname", "url", "uri", "md5", "sha1", "sha256"), (0,)),
    **dict.fromkeys(("ip-src|port", "ip-dst|port", "hostname|port"), (0,)),
    "domain|ip": (0, 1),
    **dict.fromkeys(("filename|md5", "filename|sha1", "filename|sha256", "malware-sample"), (1,)),
}


def parse(document: Any, report: Report) -> Iterator[Indicator]:
    """The indicators of one or more events. Attributes of other types, and those not for detection, are counted in the report.

    Raises:
        IntelError: there is no event in the document.
    """
    events = [event for event in _events(document) if isinstance(event, dict)]
    if not events:
        raise IntelError("holds no MISP event")
    for event in events:
        yield from _event(event, report)


def _events(document: Any) -> Iterator[Any]:
    if isinstance(document, dict) and "response" in document:
        document = document["response"]
    for entry in document if isinstance(document, list) else [document]:
        if isinstance(entry, dict) and "Event" in entry:
            yield entry["Event"]


def _dicts(value: Any) -> Iterator[dict[str, Any]]:
    return (entry for entry in value if isinstance(entry, dict)) if isinstance(value, list) else iter(())


def _event(event: dict[str, Any], report: Report) -> Iterator[Indicator]:
    info, uuid = event.get("info"), event.get("uuid")
    reference = f"misp:event:{uuid}" if isinstance(uuid, str) and uuid else None
    attributes = list(_dicts(event.get("Attribute")))
    for thing in _dicts(event.get("Object")):
        if not _is_true(thing.get("deleted")):
            attributes += _dicts(thing.get("Attribute"))
    for attribute in attributes:
        yield from _attribute(attribute, info, reference, report)


def _is_true(value: Any) -> bool:
    return value in (True, 1, "1", "true")


def _attribute(attribute: dict[str, Any], info: Any, reference: str | None, report: Report) -> Iterator[Indicator]:
    kind, value = attribute.get("type"), attribute.get("value")
    place = f"attribute {attribute.get('uuid') or value!s:.60}"
    if _is_true(attribute.get("deleted")):
        return
    if not _is_true(attribute.get("to_ids")):
        report.leave_out(place, "not for detection (to_ids is not set)")
        return
    parts = _PARTS.get(kind) if isinstance(kind, str) else None
    if parts is None or not isinstance(value, str):
        report.leave_out(place, f"type {kind!s:.40} is looked up in no field")
        return
    split = value.split("|")
    said = [text for text in (attribute.get("comment"), info) if isinstance(text, str) and text]
    for part in parts:
        try:
            found, normal = classify(split[part] if part < len(split) else "")
        except ValueError as error:
            report.leave_out(place, str(error))
            continue
        first = time_us(attribute.get("first_seen"))
        last = time_us(attribute.get("last_seen")) or time_us(attribute.get("timestamp"))
        yield Indicator(found, normal, first, last, None, None, reference, short_text(" - ".join(dict.fromkeys(said))))
