"""What can be decoded, and how each family's input looks."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from weir.protocols import sflow
from weir.tools.decode.units import Kind

__all__ = ["COUNTED", "FAMILIES", "Family"]

COUNTED: Final = re.compile(rb"[1-9][0-9]{0,7} <[0-9]{1,3}>")
"""How a file or a connection of octet-counted messages begins (RFC 6587, section 3.4.1)."""

_MESSAGE: Final = re.compile(rb"<[0-9]{1,3}>|(?:CEF|LEEF):[0-9]")
_LUMBERJACK: Final = re.compile(rb"[12][WCJD]")
_FLOW_VERSIONS: Final = frozenset({5, 7, 9, 10})
_SYSLOG_PORTS: Final = frozenset({514, 601, 1514, 5140, 5514})


@dataclass(frozen=True, slots=True)
class Family:
    """One kind of input.

    `form` says how a file that is no capture is cut: datagram, line, document, zeek, snort, lumberjack. In captures `datagram`
    tells a UDP payload of this family, `stream` how a TCP connection of it begins; what goes to one of `ports` counts as it, too.
    """

    name: str
    kind: Kind
    form: str
    ports: frozenset[int] = frozenset()
    datagram: Callable[[bytes], bool] | None = None
    stream: Callable[[bytes], bool] | None = None


def _is_message(data: bytes) -> bool:
    return _MESSAGE.match(data) is not None


def _is_messages(data: bytes) -> bool:
    return COUNTED.match(data) is not None or _is_message(data)


def _is_flow(data: bytes) -> bool:
    return len(data) >= 16 and (data[0] << 8 | data[1]) in _FLOW_VERSIONS


def _is_lumberjack(data: bytes) -> bool:
    return _LUMBERJACK.match(data) is not None


def _syslog(name: str) -> Family:
    return Family(name, "syslog", "line", _SYSLOG_PORTS, _is_message, _is_messages)


FAMILIES: Final[dict[str, Family]] = {
    family.name: family
    for family in (
        *map(_syslog, ("syslog", "cef", "leef", "kemp", "qumulo")),
        Family("netflow", "netflow", "datagram", frozenset({2055, 2056, 4739, 9995, 9996}), _is_flow),
        Family("sflow", "netflow", "datagram", frozenset({6343}), sflow.is_sflow),
        Family("eve", "beats", "document"),
        Family("zeek", "beats", "zeek"),
        Family("snort", "beats", "snort"),
        Family("lumberjack", "beats", "lumberjack", frozenset({5044}), None, _is_lumberjack),
        Family("sensorfleet", "beats", "document"),
        Family("beats", "beats", "document"),
    )
}
"""By name, in the order in which they are named to people."""
