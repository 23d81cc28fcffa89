"""A Kemp LoadMaster ESP event that came as CEF, as fields of events.cef."""

from __future__ import annotations

from typing import Any, Final

from weir.protocols import cef, kemp, keyvalues

__all__ = ["add_esp"]

# Fields of the event in the order of `kemp.KempEvent`; None for those that are there already.
_TARGETS: Final = (
    None, None, "kemp_event", "kemp_virtual_service_ip", "kemp_virtual_service_port", "kemp_virtual_service_index", "source_ip",
    "source_port", "destination_ip", "destination_port", "kemp_awaiting_address", "http_request_method", "url_original",
    "user_name",
    "user_agent_original", "kemp_resource", "kemp_dt_code", "user_domain", "destination_host", "network_application", "kemp_result",
    "message",
)  # fmt: skip

_Kind = tuple[tuple[str, ...], tuple[str, ...], str | None]
_OPENED: Final[_Kind] = (("network",), ("connection", "start"), "success")
_BROKEN: Final[_Kind] = (("network",), ("connection", "end"), "failure")
_REFUSED: Final[_Kind] = (("authentication",), ("start",), "failure")
_SESSION_END: Final[_Kind] = (("session",), ("end",), None)
_WEB: Final[_Kind] = (("web",), ("access",), None)

# ECS categories, types and outcome by the name of the event, since firmwares number their classes differently.
KINDS: Final[dict[str, _Kind]] = {
    "accept": _OPENED,
    "slave accept": _OPENED,
    "ssl accept": _OPENED,
    "connected": _OPENED,
    "connection timed out": _BROKEN,
    "connection failed": _BROKEN,
    "logged on": (("authentication",), ("start",), "success"),
    "logged off": (("authentication",), ("end",), "success"),
    "user interaction": (("authentication",), ("info",), None),
    "access denied": _REFUSED,
    "access blocked": _REFUSED,
    "access locked": _REFUSED,
    "access disabled": _REFUSED,
    "password expired": _REFUSED,
    "user aaa": (("authentication",), ("start",), None),
    "user session timeout": _SESSION_END,
    "user session kill": _SESSION_END,
    "kill all sessions": _SESSION_END,
    "request": _WEB,
    "attempt": _WEB,
}


def add_esp(fields: dict[str, Any], event: cef.CefEvent) -> None:
    """Put what a LoadMaster's event holds into `fields`; `event` is one of which `kemp.is_kemp` is true.

    The pairs replace those read as CEF: this device does not escape backslashes, and relays join its pairs with semicolons.
    """
    pairs = kemp.split(event)
    known = kemp.decode(event, pairs)
    if known is None:
        return
    fields["event_module"] = "kemp"
    fields["event_dataset"] = "kemp.esp"
    extensions = dict(pairs)
    if len(extensions) != len(pairs):  # of a key that comes twice the first counts
        extensions |= reversed(pairs)
    fields["cef_extensions"] = extensions
    fields["cef_additional_extensions"] = kemp.additional_extensions(event, pairs) or None
    fields |= {target: value for target, value in zip(_TARGETS, known, strict=True) if value is not None and target is not None}
    kind = KINDS.get(known.event.lower()) or KINDS.get(known.name.lower())
    if kind is not None:
        fields["event_category"], fields["event_type"] = list(kind[0]), list(kind[1])
        if kind[2] is not None:
            fields["event_outcome"] = kind[2]
    if known.result is not None:
        fields["event_outcome"] = _outcome(known.result)
    if known.url is not None:
        fields["url_domain"] = keyvalues.url_host(known.url)


def _outcome(result: str) -> str:
    """Of a result such as ``0:Success`` or ``1:Timeout``."""
    number, _, word = result.partition(":")
    if number.strip() == "0" or word.strip().lower() == "success" or result.strip().lower() == "success":
        return "success"
    return "failure" if number.strip().isdigit() else "unknown"
