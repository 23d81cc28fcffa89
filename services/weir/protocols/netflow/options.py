"""What exporters announce in options data records: sampling values (RFC 3954 section 6, RFC 5477 section 8.2) and names of
interfaces, applications (RFC 6759) and VRFs."""

from __future__ import annotations

from collections.abc import Iterator
from math import isfinite
from struct import unpack
from typing import NamedTuple

from weir.protocols.netflow.wire import (
    MAX_RECORDS,
    SCOPE_V9,
    FlowError,
    Header,
    Layout,
    TemplateRecord,
    WireSet,
    layout,
    records_in,
)

__all__ = [
    "DEFAULT_SELECTOR",
    "MAX_NAME_LENGTH",
    "MAX_SELECTOR",
    "SYSTEM_INIT",
    "NameRecord",
    "OptionRecord",
    "SamplingRecord",
    "key_text",
    "options_in",
]

DEFAULT_SELECTOR = 0
"""Selector id of the sampling that holds for all of a domain that has nothing more special."""

SYSTEM_INIT = -(1 << 40)
"""Reserved selector id: the value is no interval but the domain's systemInitTimeMilliseconds (element 160, milliseconds
UTC). IPFIX flows timed in sysUpTime need it, and some exporters, softflowd for one, announce it only by options."""

MAX_SELECTOR = (1 << 63) - 1
"""selectorId is unsigned with 64 bits, what stores it is signed: larger ids lose their highest bit."""

MAX_NAME_LENGTH = 128
"""Characters of a name that are kept."""


class SamplingRecord(NamedTuple):
    """One option value of a domain.

    `selector_id` is the exporter's sampler or selector id, 0 for the domain's default, -N for the interface with ifIndex N,
    or SYSTEM_INIT. `interval` is the number of packets observed for each packet sampled, at least 1.
    """

    version: int
    domain: int
    selector_id: int
    interval: float


class NameRecord(NamedTuple):
    """What an exporter calls a number in its flows.

    `kind` is interface, interface-description, application or vrf; `key` the ifIndex, the VRF id, or the application id as
    "engine:selector" ("20:enterprise:selector" where an enterprise numbers them).
    """

    version: int
    domain: int
    kind: str
    key: str
    name: str


OptionRecord = SamplingRecord | NameRecord

_BY_ENTERPRISE = b"\x14"
_RANDOM = 3
"""selectorAlgorithm of "random n-out-of-N" (IANA, "psamp-parameters")."""

# (enterprise, element) to a short name. A v9 scope of type 2 is an interface.
_WANTED = {
    (0, 48): "selector",  # samplerId
    (0, 302): "selector",  # selectorId
    (SCOPE_V9, 2): "interface",
    (0, 10): "interface",  # ingressInterface
    (0, 34): "interval",  # samplingInterval
    (0, 50): "interval",  # samplerRandomInterval
    (0, 304): "algorithm",  # selectorAlgorithm
    (0, 305): "sampled",  # samplingPacketInterval
    (0, 306): "skipped",  # samplingPacketSpace
    (0, 309): "size",  # samplingSize
    (0, 310): "population",  # samplingPopulation
    (0, 311): "probability",  # samplingProbability
    (0, 160): "init",  # systemInitTimeMilliseconds
}
# What is named, and by which element: kind of name to the element that holds it.
_NUMBERED = {
    (SCOPE_V9, 2): "interface",
    (0, 10): "interface",
    (0, 14): "interface",  # egressInterface
    (0, 95): "application",  # applicationId
    (0, 234): "vrf",  # ingressVRFID
    (0, 235): "vrf",  # egressVRFID
}
_NAMED = {
    (0, 82): ("interface", "interface"),  # interfaceName
    (0, 83): ("interface-description", "interface"),  # interfaceDescription
    (0, 96): ("application", "application"),  # applicationName
    (0, 236): ("vrf", "vrf"),  # VRFname
}


class _Wanted(NamedTuple):
    """Fields of an options template that matter, as (field number, meaning)."""

    values: list[tuple[int, str]]
    keys: list[tuple[int, str]]
    names: list[tuple[int, str, str]]


def options_in(datagram: bytes, header: Header, wire_set: WireSet, template: TemplateRecord) -> Iterator[list[OptionRecord]]:
    """For each record of an options data set, in order, what it announces: often nothing.

    Raises FlowError, after the records before it, for a record that is cut and for more than MAX_RECORDS records.
    """
    shape = layout(template)
    where = f"offset {wire_set.offset}: set {wire_set.set_id}"
    if not shape.minimum:
        raise FlowError(f"{where}, template {template.template_id} describes records without length")
    wanted = _wanted(shape)
    for count, bounds in enumerate(records_in(datagram, wire_set, shape)):
        if count == MAX_RECORDS:
            raise FlowError(f"{where}: more than {MAX_RECORDS} records")
        found: list[OptionRecord] = []
        values: dict[str, float] = {}
        for number, name in wanted.values:
            start, stop = bounds[number]
            if start < stop:
                values.setdefault(name, _number(name, datagram[start:stop]))
        if values:
            found += _announced(header, values)
        if wanted.names:
            found += _names(header, datagram, bounds, wanted)
        yield found


def key_text(kind: str, raw: bytes) -> str:
    """How the number of an interface, VRF or application is written in a NameRecord's key."""
    if kind == "application":
        # One octet of classification engine, then the selector (RFC 6759 section 4); that of engine 20 begins with the number
        # of the enterprise that gives it (section 4.1), as Fortinet's do.
        if raw[:1] == _BY_ENTERPRISE and len(raw) > 5:
            return f"20:{int.from_bytes(raw[1:5], 'big')}:{int.from_bytes(raw[5:], 'big')}"
        return f"{raw[0]}:{int.from_bytes(raw[1:], 'big')}" if raw else ""
    return str(int.from_bytes(raw, "big"))


def _wanted(shape: Layout) -> _Wanted:
    wanted = _Wanted([], [], [])
    for number, field in enumerate(shape.fields):
        place = (field.enterprise, field.element_id)
        if (value := _WANTED.get(place)) is not None:
            wanted.values.append((number, value))
        if (key := _NUMBERED.get(place)) is not None:
            wanted.keys.append((number, key))
        if (name := _NAMED.get(place)) is not None:
            wanted.names.append((number, *name))
    return wanted


def _names(header: Header, datagram: bytes, bounds: list[tuple[int, int]], wanted: _Wanted) -> list[NameRecord]:
    keys: dict[str, str] = {}
    for number, kind in wanted.keys:
        start, stop = bounds[number]
        if start < stop <= start + 16:
            keys.setdefault(kind, key_text(kind, datagram[start:stop]))
    records = []
    for number, kind, of in wanted.names:
        start, stop = bounds[number]
        text = datagram[start:stop].partition(b"\0")[0].decode("utf-8", "replace").strip()[:MAX_NAME_LENGTH]
        if text and of in keys:
            records.append(NameRecord(header.version, header.domain, kind, keys[of], text))
    return records


def _number(name: str, raw: bytes) -> float:
    if name == "probability":
        return float(unpack(">d" if len(raw) == 8 else ">f", raw)[0]) if len(raw) in (4, 8) else 0.0
    return int.from_bytes(raw[:8], "big")


def _announced(header: Header, values: dict[str, float]) -> list[SamplingRecord]:
    records = []
    interval = _interval(values)
    if interval is not None:
        selector = int(values.get("selector", DEFAULT_SELECTOR)) & MAX_SELECTOR
        if "selector" not in values and 0 < values.get("interface", 0) < -SYSTEM_INIT:
            selector = -int(values["interface"])
        records.append(SamplingRecord(header.version, header.domain, selector, interval))
    if values.get("init"):
        records.append(SamplingRecord(header.version, header.domain, SYSTEM_INIT, float(values["init"])))
    return records


def _interval(values: dict[str, float]) -> float | None:
    """Packets observed per packet sampled; 0 means unsampled, hence 1."""
    interval = None
    if "interval" in values:
        interval = values["interval"]
    elif values.get("population") and values.get("size") and (values.get("algorithm") == _RANDOM or "skipped" not in values):
        # Exporters fill the elements of other algorithms too: IOS XR gives a samplingPacketInterval of 1 beside 1 out of 256.
        interval = values["population"] / values["size"]
    elif "sampled" in values:
        sampled = values["sampled"]
        # With the gap the pair says "sampled out of sampled + skipped" (RFC 5477 section 8.2.2); alone it is used as 1 in N.
        interval = (sampled + values["skipped"]) / sampled if "skipped" in values and sampled else sampled
    elif "probability" in values and 0 < values["probability"] <= 1:
        interval = 1 / values["probability"]
    return max(1.0, float(interval)) if interval is not None and isfinite(interval) else None
