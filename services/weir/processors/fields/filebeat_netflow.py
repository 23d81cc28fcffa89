"""Flows that Filebeat's netflow input has decoded: as the same flow would read had its exporter sent it to Weir.

Filebeat names elements in snake case under `netflow`, and repeats some in ECS fields. The elements are read, by the very table that
the decoder goes by, and the ECS fields stand in where they lack. Filebeat does not scale by the sampling interval; here counts are
scaled where the record or the v5 header names one. Source: elastic/beats, x-pack/filebeat/input/netflow (convert and decoder).
"""

from __future__ import annotations

import re
from functools import cache
from typing import Any, Final

from weir.processors.fields import Context, Decoded
from weir.processors.fields import netflow as netflow_fields
from weir.processors.fields.sensor import document_fields, ecs_fields
from weir.protocols import beats
from weir.protocols._isotime import iso_to_micros
from weir.protocols._values import address, identifier, integer, mac, object_of, text
from weir.protocols.netflow.decode import uptime_to_us
from weir.protocols.netflow.details import finishers
from weir.protocols.netflow.elements import elements, vendor_elements
from weir.protocols.netflow.fields import (
    ALTERNATIVES,
    DELTAS,
    DIRECTIONS,
    END_REASONS,
    END_TIMES,
    LARGEST,
    START_TIMES,
    TRANSPORTS,
    UPTIME,
)
from weir.protocols.netflow.plan import BIFLOW

__all__ = ["document", "line", "name", "snake_case"]

name: Final = "netflow"

_INT: Final = 2**31
_LONG_COLUMNS: Final = frozenset(
    {"flow_raw_bytes", "flow_raw_packets", "source_as", "destination_as", "observer_ingress_interface", "observer_egress_interface"}
)
_TEXTS: Final = frozenset({"application_name", "flow_id", "user_name"})
_PORTS: Final = frozenset({"source_port", "destination_port", "source_nat_port", "destination_nat_port"})
_EMPTY: Final = frozenset({None, 0, "", "0.0.0.0", "::", "00-00-00-00-00-00"})
_ECS: Final = (
    "source_ip", "source_port", "destination_ip", "destination_port", "network_iana_number", "network_community_id",
)  # fmt: skip
_NOT_ELEMENTS: Final = frozenset({"exporter", "type"})
_ALIASES: Final = {
    "fw_ext_event": "firewall_event_extended",
    "username": "user_name",
    "xlate_source_address_ip_v4": "post_nat_source_ipv4_address",
    "xlate_destination_address_ip_v4": "post_nat_destination_ipv4_address",
    "xlate_source_port": "post_napt_source_transport_port",
    "xlate_destination_port": "post_napt_destination_transport_port",
}
"""What Filebeat calls otherwise than Weir: Cisco ASA's elements of NetFlow v9."""

_ICMP: Final = frozenset({None, 1, 58})


def snake_case(element: str) -> str:
    """An element's name as Filebeat writes it: `postNATSourceIPv4Address` is `post_nat_source_ipv4_address`."""
    if "_" in element:
        return element.lower()
    if element == "VRFname":
        return "vrf_name"
    parts = re.sub(r"([A-Z]{2,})([A-Z][a-z0-9])", r"\1_\2", element)
    # Two capitals before a small letter are one word (IPv4), more end with the first letter of the next (NATSource).
    parts = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", parts)
    return parts.lower()


@cache
def _elements() -> dict[tuple[int, int], str]:
    """Name by enterprise and id. Filebeat knows only some vendors' elements; what it cannot name, it does not send."""
    iana = {(0, number): entry.name for number, entry in elements().items()}
    return {place: entry.name for place, entry in vendor_elements().items()} | iana


@cache
def _names() -> dict[str, str]:
    """Our name of an element by Filebeat's."""
    names = list(_elements().values())
    reverse = [f"reverse{name[0].upper()}{name[1:]}" for name in names]
    return {snake_case(name): name for name in (*reverse, *names)}


@cache
def _targets() -> dict[str, tuple[str, int]]:
    """Field that an element fills, and its rank among those that can, by Filebeat's name."""
    table = _elements()
    return {
        snake_case(table[place]): (target, rank)
        for target, ids in ALTERNATIVES.items()
        for rank, number in enumerate(ids)
        if (place := number if isinstance(number, tuple) else (0, number)) in table
    }


@cache
def _times(ids: tuple[int, ...]) -> tuple[tuple[str, int], ...]:
    table = elements()
    return tuple((snake_case(table[number].name), number) for number in ids if number in table)


def line(text: str, context: Context) -> Decoded | None:
    """Only documents are read."""
    return None


def document(document: dict[str, object], context: Context) -> Decoded | None:
    """Dataset and fields of a flow or an options record of Filebeat's netflow input; None for any other document.

    Raises BeatsError (a ValueError) for a document that is nested deeper than can be written.
    """
    netflow = document.get("netflow")
    if type(netflow) is not dict:
        if "netflow.type" not in document:
            return None
        netflow = {key[8:]: value for key, value in document.items() if key.startswith("netflow.")}
    exporter = netflow.get("exporter")
    if type(exporter) is not dict:
        exporter = {key[9:]: value for key, value in netflow.items() if key.startswith("exporter.")}
    if not exporter and not str(netflow.get("type")).startswith("netflow_"):
        return None
    if netflow.get("type", "netflow_flow") != "netflow_flow":
        return "sensor", document_fields(document, beats.shipping(document), "netflow") | _exporter_label(exporter)
    return "network-flow", _flow(document, netflow, exporter)


def _flow(document: dict[str, object], netflow: dict[str, Any], exporter: dict[str, Any]) -> dict[str, Any]:
    flow: dict[str, Any] = {}
    additional: dict[str, Any] = {}
    ranks: dict[str, int] = {}
    targets, names = _targets(), _names()
    for key, value in netflow.items():
        if key in _NOT_ELEMENTS or key.startswith("exporter."):
            continue
        key = _ALIASES.get(key, key)  # noqa: PLW2901 - the one name from here on
        target, rank = targets.get(key, ("", 0))
        made = _value(target, value) if target else None
        held = flow.get(target)
        if made is None or (target in flow and (made in _EMPTY or (held not in _EMPTY and ranks[target] <= rank))):
            if not target or value not in (0, ""):
                additional[names.get(key, key)] = value
            continue
        flow[target] = made
        ranks[target] = rank
    ecs = ecs_fields(document)
    for column in _ECS:
        if flow.get(column) is None and column in ecs:
            flow[column] = ecs[column]
    for side in ("source", "destination"):
        if flow.get(f"{side}_mac") is None and (card := mac(object_of(document.get(side)).get("mac"))):
            flow[f"{side}_mac"] = card
    _settle(flow, additional, exporter)
    _time(flow, additional, document, netflow, exporter)
    if exporter:
        additional["exporter"] = exporter
    if additional:
        flow["flow_additional"] = beats.to_json(additional)
    number = exporter.get("version")
    flow["flow_protocol"] = "ipfix" if number == 10 else f"netflow-v{number}" if type(number) is int else "netflow"
    flow["flow_observation_domain"] = integer(exporter.get("source_id"), LARGEST)
    return netflow_fields.CONSTANT | flow | _exporter_label(exporter)


def _exporter_label(exporter: dict[str, Any]) -> dict[str, Any]:
    """Who exported it: the receiver saw Filebeat's address."""
    found = text(exporter.get("address"))
    return {"labels": {"exporter.address": found}} if found else {}


def _value(target: str, value: object) -> Any:
    """An element's value as its field has it; None for one of another form."""
    if target.endswith("_ip"):
        return address(value)
    if target.endswith("_mac"):
        return mac(value)
    if target == "flow_direction":
        return DIRECTIONS.get(value, "unknown") if type(value) is int else None
    if target == "flow_end_reason":
        return END_REASONS.get(value, str(value)) if type(value) is int else text(value)
    if target in _TEXTS:
        return identifier(value) if target == "flow_id" else text(value)
    if target in _LONG_COLUMNS:
        number = integer(value, 2**64)
        return None if number is None else min(number, LARGEST)
    return integer(value, 65_536 if target in _PORTS else 256 if target == "network_iana_number" else _INT)


def _settle(flow: dict[str, Any], additional: dict[str, Any], exporter: dict[str, Any]) -> None:
    """What follows from several elements: transport, ICMP, the sampling interval and what it makes of the counts."""
    protocol = flow.get("network_iana_number")
    if protocol is not None:
        flow["network_transport"] = TRANSPORTS.get(protocol)
    known = flow.get("source_ip") or flow.get("destination_ip")
    version = flow.pop("_version", None)
    if known is not None:
        flow["network_type"] = "ipv6" if ":" in known else "ipv4"
    elif version in (4, 6):
        flow["network_type"] = f"ipv{version}"
    pair = flow.pop("_icmp", None)
    if protocol not in _ICMP:
        flow.pop("flow_icmp_type", None)
        flow.pop("flow_icmp_code", None)
    elif pair is not None:
        flow.setdefault("flow_icmp_type", pair >> 8 & 0xFF)
        flow.setdefault("flow_icmp_code", pair & 0xFF)
    if (sampler := flow.pop("_sampler", None)) is not None:
        additional["selectorId"] = sampler
    if "application_name" in flow:
        flow["network_application"] = flow.pop("application_name")
    # The v5 header has the interval in its low 14 bits, behind two for the mode.
    header = integer(exporter.get("sampling_interval"), 65_536) or 0
    interval = flow.pop("_interval", None) or (header & 0x3FFF) or None
    flow["flow_sampling_interval"] = interval
    for unit in ("bytes", "packets"):
        raw = forth = flow.get(f"flow_raw_{unit}")
        back, told = None, False
        for element, target in BIFLOW.items():
            count = integer(additional.get(element), LARGEST)
            if count is not None and target.endswith(unit):
                told = True
                if target.startswith("source"):
                    forth = count
                elif not back:
                    back = count
        if told:
            total = min((forth or 0) + (back or 0), LARGEST)
            flow[f"source_{unit}"] = _scaled(forth, interval)
            flow[f"destination_{unit}"] = _scaled(back, interval)
            flow[f"network_{unit}"] = _scaled(total, interval)
            flow.setdefault(f"flow_raw_{unit}", total)
        elif raw is not None:
            flow[f"network_{unit}"] = flow[f"source_{unit}"] = _scaled(raw, interval)
    # Events of NAT and firewalls, segments, users: as the decoder. Octets, which Filebeat writes otherwise, are left out.
    for finish in finishers(tuple(flow), tuple(key for key, value in additional.items() if type(value) is int)):
        finish(flow, additional)


def _scaled(count: int | None, interval: int | None) -> int | None:
    return None if count is None else min(count * (interval or 1), LARGEST)


def _time(
    flow: dict[str, Any], additional: dict[str, Any], document: dict[str, object], netflow: dict[str, Any], exporter: dict[str, Any]
) -> None:
    export_us = iso_to_micros(exporter.get("timestamp")) or iso_to_micros(document.get("@timestamp"))
    event = object_of(document.get("event"))
    for column, ids, ecs in (("event_start", START_TIMES, "start"), ("event_end", END_TIMES, "end")):
        flow[column] = None
        for key, number in _times(ids):
            if key in netflow and (moment := _moment(netflow[key], number, export_us, exporter)) is not None:
                flow[column] = moment
                additional.pop(_names()[key], None)
                break
        if flow[column] is None:
            flow[column] = iso_to_micros(event.get(ecs) or document.get(f"event.{ecs}"))
    start, end = flow["event_start"], flow["event_end"]
    if start is not None and end is not None and 0 <= end - start < netflow_fields.LONGEST_US:
        flow["event_duration"] = (end - start) * 1000
    flow["timestamp"] = end or start or export_us


def _moment(value: object, number: int, export_us: int | None, exporter: dict[str, Any]) -> int | None:
    """A time element's value in microseconds UTC: Filebeat writes dates as text, and times since the exporter's start as sent."""
    if isinstance(value, str):
        return iso_to_micros(value)
    ticks = integer(value, 2**32)
    if ticks is None or export_us is None:
        return None
    if number in DELTAS:
        return export_us - ticks if export_us > ticks else None
    uptime = integer(exporter.get("uptime_millis"), 2**32)
    return uptime_to_us(ticks, uptime, export_us) if number in UPTIME and uptime else None
