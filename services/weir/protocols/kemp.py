"""Kemp LoadMaster Edge Security Pack (ESP) events, which come as CEF.

Sources: Progress Kemp's technical note on CEF logs (header and extension pages) and the vendor's KQL queries for Microsoft
Sentinel, which tell what stands at which position for each Device Event Class ID. The keys are Kemp's own and not those of
the CEF dictionary. Pairs are separated by spaces, and after some relays by ``;``; values hold spaces and are hardly escaped:
``user=AD\\nora`` is a user of the domain AD and no line end.
"""

import re
from collections.abc import Mapping
from functools import lru_cache
from ipaddress import ip_address
from types import MappingProxyType
from typing import Final, NamedTuple

from weir.protocols.cef import CefEvent, split_pairs

__all__ = ["LAYOUTS", "KempEvent", "additional_extensions", "decode"]


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
        20: ("virtual_service", "user", "domain", "server", "protocol", "result"),
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


def decode(event: CefEvent) -> KempEvent | None:
    """The fields of an ESP event; None if the event is not of a Kemp LoadMaster.

    A value that cannot be what its field holds, such as a port of ``x``, leaves the field None; ``additional_extensions``
    still has it. Of a field that comes twice the first value counts.
    """
    if event.device_vendor.strip().lower() != "kemp" or event.device_product.strip().lower() not in {"lm", "loadmaster"}:
        return None
    class_text = event.device_event_class_id.strip()
    class_id = int(class_text) if class_text.isascii() and class_text.isdigit() and len(class_text) <= 6 else None
    layout = LAYOUTS.get(class_id, ()) if class_id is not None else ()
    values: dict[str, str] = {}
    for position, (key, value) in enumerate(_pairs(event.extension_text)):
        field = _KEYS.get(key.lower())
        if field is None and position < len(layout):
            field = layout[position]
        if field is not None and field not in values:
            values[field] = value
    address, port, index = _virtual_service(values.pop("virtual_service", ""))
    return KempEvent(
        class_id=class_id,
        name=event.name,
        event=values.pop("event", event.name),
        virtual_service_ip=address,
        virtual_service_port=port,
        virtual_service_index=index,
        source_ip=_address(values.pop("source_ip", "")),
        source_port=_port(values.pop("source_port", "")),
        destination_ip=_address(values.pop("destination_ip", "")),
        destination_port=_port(values.pop("destination_port", "")),
        **{field: value for field, value in values.items() if value},
    )


def additional_extensions(event: CefEvent) -> str:
    """The pairs as sent joined by ``;``: what the column AdditionalExtensions of CommonSecurityLog holds for Kemp.

    The positions that the vendor's queries read with ``split(AdditionalExtensions, ';')`` hold up to the first value with a
    semicolon of its own, which is the user agent at the end of a request.
    """
    return ";".join(f"{key}={value}" for key, value in _pairs(event.extension_text))


def _pairs(extension_text: str) -> list[tuple[str, str]]:
    if _BY_SEMICOLON.match(extension_text) is not None:
        parts = _SEMICOLON_KEY.split(extension_text)
        pairs = [(key, value.strip(" ;")) for key, value in zip(parts[1::2], parts[2::2], strict=True)]
    else:
        pairs = split_pairs(extension_text)
    return [(key, _ESCAPE.sub(r"\1", value) if "\\" in value else value) for key, value in pairs]


def _virtual_service(text: str) -> tuple[str | None, int | None, int | None]:
    """Address, port and index of ``10.0.0.1:443``, ``[2001:db8::1]:443``, a bare address, or a number."""
    if text.isascii() and text.isdigit() and len(text) <= 9:
        return None, None, int(text)
    if text.startswith("["):
        address, _, port = text[1:].partition("]")
        return _address(address), _port(port.removeprefix(":")), None
    if text.count(":") == 1:
        address, _, port = text.partition(":")
        return _address(address), _port(port), None
    return _address(text), None, None


@lru_cache(maxsize=4096)
def _address(text: str) -> str | None:
    try:
        return str(ip_address(text.strip("[]")))
    except ValueError:
        return None


def _port(text: str) -> int | None:
    if not (text.isascii() and text.isdigit() and len(text) <= 5):
        return None
    port = int(text)
    return port if port <= 65535 else None
