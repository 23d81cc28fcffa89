"""Kemp LoadMaster Edge Security Pack (ESP) events, which come as CEF.

Sources: Progress Kemp's technical note on CEF logs (header and extension pages) and the vendor's KQL queries for Microsoft
Sentinel, which tell what stands at which position for each Device Event Class ID. The keys are Kemp's own and not those of
the CEF dictionary. Pairs are separated by spaces, and after some relays by ``;``; values hold spaces and are hardly escaped:
``user=AD\\nora`` is a user of the domain AD and no line end.
"""

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, NamedTuple

from weir.protocols.cef import CefEvent, split_pairs
from weir.protocols.keyvalues import address, port

__all__ = ["LAYOUTS", "KempEvent", "Pairs", "additional_extensions", "decode", "is_kemp", "split"]

Pairs = list[tuple[str, str]]


class KempEvent(NamedTuple):
    """One ESP event. Addresses are valid IP addresses in their canonical text, ports 0 to 65535; what is absent is None."""

    class_id: int | None
    name: str
    event: str
    virtual_service_ip: str | None = None
    virtual_service_port: int | None = None
    virtual_service_index: int | None = None  # class 20 names the virtual service by its number
    source_ip: str | None = None
    source_port: int | None = None
    destination_ip: str | None = None  # the real server
    destination_port: int | None = None
    awaiting_address: str | None = None
    method: str | None = None
    url: str | None = None
    user: str | None = None
    user_agent: str | None = None
    resource: str | None = None
    dt_code: str | None = None
    domain: str | None = None
    server: str | None = None
    protocol: str | None = None
    result: str | None = None
    message: str | None = None


_CONNECTION: Final = ("virtual_service", "event", "source_ip", "source_port")
_USER: Final = ("virtual_service", "event", "source_ip", "user", "message")
_REQUEST: Final = (*_CONNECTION, "method", "url", "user", "user_agent")
_REAL_SERVER: Final = (*_CONNECTION, "destination_ip", "destination_port")
_AAA: Final = ("virtual_service", "user", "domain", "server", "protocol", "result")

# What stands at which position, by Device Event Class ID. A key that is known (below) says by itself what its value is,
# also where an optional pair before it is left out or a firmware has another order; the position decides for other keys.
LAYOUTS: Final[Mapping[int, tuple[str, ...]]] = MappingProxyType(
    {
        0: (*_CONNECTION, "message"),
        1: (*_CONNECTION, "message"),
        2: (*_CONNECTION, "message"),
        3: (*_CONNECTION, "awaiting_address"),
        4: _REAL_SERVER,
        5: _REAL_SERVER,
        6: ("virtual_service", "event", "user", "source_ip"),
        7: _USER,
        8: _USER,
        9: _USER,
        10: _USER,
        11: _REQUEST,
        12: _REQUEST,
        13: (*_CONNECTION, "dt_code"),
        14: ("virtual_service", "event"),
        15: ("virtual_service", "event", "resource"),
        16: (*_CONNECTION, "resource"),
        17: (*_CONNECTION, "resource"),
        20: _AAA,
        100: _AAA,  # its number in later firmware, which has the session events behind it, up to 104
    }
)

_KEYS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "vs": "virtual_service",
        "event": "event",
        "srcip": "source_ip",
        "srcport": "source_port",
        "dstip": "destination_ip",
        "dstport": "destination_port",
        "method": "method",
        "url": "url",
        "user": "user",
        "useragent": "user_agent",
        "resource": "resource",
        "dtcode": "dt_code",
        "domain": "domain",
        "server": "server",
        "protocol": "protocol",
        "result": "result",
        "msg": "message",
    }
)

# The first separator tells which one a line uses; a semicolon further on may belong to a user agent.
_BY_SEMICOLON = re.compile(r"\s*+[A-Za-z0-9_.-]++=[^;\s]*+;\s*+[A-Za-z0-9_.-]++=")
_SEMICOLON_KEY = re.compile(r"(?:^|;)\s*+([A-Za-z0-9_.-]++)=")
_ESCAPE = re.compile(r"\\([=\\])")
_VENDORS: Final = frozenset({"kemp", "progress kemp", "kemp technologies"})
_PRODUCTS: Final = frozenset({"lm", "loadmaster"})
_TEXTS: Final = KempEvent._fields[10:]  # those that hold their value as it came


def is_kemp(event: CefEvent) -> bool:
    """Whether the header names a Kemp LoadMaster."""
    return event.device_vendor.strip().lower() in _VENDORS and event.device_product.strip().lower() in _PRODUCTS


def split(event: CefEvent) -> Pairs:
    """The pairs in order, repeated and empty ones included; a backslash escapes an equals sign or a backslash and nothing else."""
    text = event.extension_text
    if _BY_SEMICOLON.match(text) is not None:
        parts = _SEMICOLON_KEY.split(text)
        pairs = [(key, value.strip(" ;")) for key, value in zip(parts[1::2], parts[2::2], strict=True)]
    else:
        pairs = split_pairs(text)
    if "\\" in text:
        pairs = [(key, _ESCAPE.sub(r"\1", value)) for key, value in pairs]
    return pairs


def decode(event: CefEvent, pairs: Pairs | None = None) -> KempEvent | None:
    """The fields of an ESP event; None if the event is not of a Kemp LoadMaster. ``pairs`` saves splitting again.

    A value that cannot be what its field holds, such as a port of ``x``, leaves the field None; ``additional_extensions``
    still has it. Of a field that comes twice the first value counts.
    """
    if not is_kemp(event):
        return None
    class_text = event.device_event_class_id.strip()
    class_id = int(class_text) if class_text.isascii() and class_text.isdigit() and len(class_text) <= 6 else None
    layout = LAYOUTS.get(class_id, ()) if class_id is not None else ()
    values: dict[str, str] = {}
    for position, (key, value) in enumerate(split(event) if pairs is None else pairs):
        field = _KEYS.get(key) or _KEYS.get(key.lower())
        if field is None and position < len(layout):
            field = layout[position]
        if field is not None and field not in values:
            values[field] = value
    get = values.get
    service_ip, service_port, index = _virtual_service(get("virtual_service", ""))
    return KempEvent(
        class_id,
        event.name,
        get("event", event.name),
        service_ip,
        service_port,
        index,
        address(get("source_ip", "")),
        port(get("source_port", "")),
        address(get("destination_ip", "")),
        port(get("destination_port", "")),
        *[get(field) or None for field in _TEXTS],
    )


def additional_extensions(event: CefEvent, pairs: Pairs | None = None) -> str:
    """The pairs as sent joined by ``;``: what the column AdditionalExtensions of CommonSecurityLog holds for Kemp.

    The positions that the vendor's queries read with ``split(AdditionalExtensions, ';')`` hold up to the first value with a
    semicolon of its own, which is the user agent at the end of a request.
    """
    return ";".join([f"{key}={value}" for key, value in (split(event) if pairs is None else pairs)])


def _virtual_service(text: str) -> tuple[str | None, int | None, int | None]:
    """Address, port and index of ``10.0.0.1:443``, ``[2001:db8::1]:443``, a bare address, or a number."""
    if text.isascii() and text.isdigit() and len(text) <= 9:
        return None, None, int(text)
    if text.startswith("["):
        host, _, number = text[1:].partition("]")
        return address(host), port(number.removeprefix(":")), None
    if text.count(":") == 1:
        host, _, number = text.partition(":")
        return address(host), port(number), None
    return address(text), None, None
