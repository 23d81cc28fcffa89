"""From datagrams to flows: the processor's side, which needs nothing but what a batch carries."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import partial
from struct import pack
from typing import Any, NamedTuple, cast

from weir.protocols.netflow.details import Names
from weir.protocols.netflow.encapsulated import icmp_in_port
from weir.protocols.netflow.fields import DELTAS, LARGEST, TRANSPORTS, UPTIME, FlowRecord
from weir.protocols.netflow.options import DEFAULT_SELECTOR, MAX_SELECTOR, SYSTEM_INIT, NameRecord, SamplingRecord
from weir.protocols.netflow.plan import BIFLOW, Plan, plan_for
from weir.protocols.netflow.structured import TemplateOf, read_list
from weir.protocols.netflow.templates import TemplateStore
from weir.protocols.netflow.wire import (
    FIRST_DATA_SET,
    FIXED,
    MAX_RECORDS,
    NETFLOW_IPFIX,
    NETFLOW_V5,
    NETFLOW_V7,
    FlowError,
    Header,
    TemplateRecord,
    WireSet,
    read_header,
    sets_of,
    templates_in,
)

__all__ = ["FIXED_TEMPLATES", "DecodeResult", "Decoder", "uptime_to_us"]

# The fields of a record of v5 and v7 as (element, length), in the order of Cisco's "NetFlow Export Datagram Format". 210 is
# padding; v7 has flags there that say which fields a switch's flow mask left out, and they are zero then.
_V5_FIELDS = (
    (8, 4), (12, 4), (15, 4), (10, 2), (14, 2), (2, 4), (1, 4), (22, 4), (21, 4), (7, 2), (11, 2), (210, 1), (6, 1), (4, 1),
    (5, 1), (16, 2), (17, 2), (9, 1), (13, 1), (210, 2),
)  # fmt: skip
_V7_FIELDS = (*_V5_FIELDS, (43, 4))


def _fixed(version: int, fields: tuple[tuple[int, int], ...]) -> TemplateRecord:
    record = pack(f">{2 + 2 * len(fields)}H", 0, len(fields), *(number for pair in fields for number in pair))
    return TemplateRecord(version, 0, 0, False, record)


FIXED_TEMPLATES = {NETFLOW_V5: _fixed(NETFLOW_V5, _V5_FIELDS), NETFLOW_V7: _fixed(NETFLOW_V7, _V7_FIELDS)}
"""The fixed records of v5 and v7, written as templates, so that one decoder serves all versions."""

_PROTOCOLS = {NETFLOW_V5: "netflow-v5", NETFLOW_V7: "netflow-v7", 9: "netflow-v9", NETFLOW_IPFIX: "ipfix"}
_EMPTY = frozenset({None, 0, "", "0.0.0.0", "::", "00-00-00-00-00-00"})
_ICMP_PROTOCOLS = frozenset({None, 1, 58})
_UPTIME_NAMES = {"event_start_us": "flowStartSysUpTime", "event_end_us": "flowEndSysUpTime"}
_MAX_ERRORS = 16
"""A datagram with so many damaged sets is not read further."""
_WRAP = 1 << 32
_AHEAD = 3_600_000
"""Milliseconds that a flow may lie ahead of the export: beyond that the 32-bit counter has wrapped."""
_USUAL = _WRAP - _AHEAD
"""A time less than this many milliseconds before the export needs no thought about the wrap."""


@dataclass(slots=True)
class DecodeResult:
    """What one datagram gave.

    `positions[i]` is the number of `flows[i]` among all data records of the datagram, those of options included; records
    in a set whose template is unknown cannot be counted. `records` is the number of data records read. `complete` is
    False where something was not decoded: then `errors` says what, or `unknown_templates` (domain, template id) lacked.
    """

    header: Header
    flows: list[FlowRecord] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)
    records: int = 0
    errors: list[str] = field(default_factory=list)
    unknown_templates: set[tuple[int, int]] = field(default_factory=set)

    @property
    def complete(self) -> bool:
        """Everything in the datagram was understood."""
        return not self.errors and not self.unknown_templates

    @property
    def empty(self) -> bool:
        """Understood, but without flows: templates or options only."""
        return not self.flows and self.complete


class _Intervals(NamedTuple):
    """Sampling of one domain, ready for the loop over the records."""

    by_selector: dict[int, int | float]
    default: int | float | None
    by_interface: bool
    init_ms: int | None

    @classmethod
    def of(cls, samplings: dict[int, float]) -> _Intervals:
        """Whole numbers become ints, so that scaled counts stay exact."""
        init = samplings.pop(SYSTEM_INIT, None)
        tidy = {selector: int(value) if float(value).is_integer() else value for selector, value in samplings.items()}
        interfaces = any(selector < 0 for selector in tidy)
        return cls(tidy, tidy.get(DEFAULT_SELECTOR), interfaces, None if init is None else int(init))


class Decoder:
    """Decodes the datagrams of one batch, in their order, from the templates, samplings and names embedded in it.

    What the datagrams themselves announce is learned as it comes, within the bounds of `TemplateStore`.
    """

    __slots__ = ("_intervals", "_store")

    def __init__(
        self,
        templates: Iterable[TemplateRecord] = (),
        samplings: Iterable[SamplingRecord] = (),
        names: Iterable[NameRecord] = (),
        *,
        withdrawals: bool = True,
    ) -> None:
        """`withdrawals` is False for what came over UDP, where they must be ignored (RFC 7011 section 8.4)."""
        self._store = TemplateStore(templates, samplings, names, withdrawals=withdrawals)
        self._intervals: dict[tuple[int, int], _Intervals] = {}

    def decode(self, datagram: bytes) -> DecodeResult:
        """Flows of one datagram, with the number of each among the datagram's data records.

        Raises FlowError only where the header cannot be read; any other damage is told in `errors`, with its offset, set id
        and template id, beside the flows that could be decoded. At most MAX_RECORDS records are read.
        """
        header = read_header(datagram)
        result = DecodeResult(header)
        if header.version in FIXED:
            _decode_fixed(datagram, result)
            return result
        template_sets = (2, 3) if header.version == NETFLOW_IPFIX else (0, 1)
        try:
            for wire_set in sets_of(datagram, header):
                try:
                    if wire_set.set_id >= FIRST_DATA_SET:
                        self._decode_data(datagram, wire_set, result)
                    elif wire_set.set_id in template_sets:
                        for template in templates_in(datagram, header, wire_set):
                            self._store.put(template)
                    else:
                        result.errors.append(f"offset {wire_set.offset}: set id {wire_set.set_id} is reserved")
                except FlowError as error:
                    result.errors.append(error.reason)
                if len(result.errors) >= _MAX_ERRORS:
                    break
        except FlowError as error:
            result.errors.append(error.reason)
        return result

    def _decode_data(self, datagram: bytes, wire_set: WireSet, result: DecodeResult) -> None:
        header = result.header
        template = self._store.template(header.version, header.domain, wire_set.set_id)
        if template is None:
            result.unknown_templates.add((header.domain, wire_set.set_id))
            return
        if template.is_options:
            for changed in self._store.options(datagram, header, wire_set, template):
                if changed:
                    self._intervals.clear()
                result.records += 1
                if result.records > MAX_RECORDS:
                    raise FlowError(_too_many(wire_set))
            return
        plan = plan_for(template)
        where = f"offset {wire_set.offset}: set {wire_set.set_id}"
        if not plan.shape.minimum:
            raise FlowError(f"{where}: template {wire_set.set_id} describes records without length")
        size = wire_set.end - wire_set.start
        if size < plan.shape.minimum and any(datagram[wire_set.start : wire_set.end]):
            raise FlowError(f"{where}: {size} bytes hold no record of template {wire_set.set_id}, {plan.shape.minimum} bytes long")
        key = (header.version, header.domain)
        intervals = self._intervals.get(key)
        if intervals is None:
            intervals = self._intervals[key] = _Intervals.of(self._store.samplings(*key))
        names = Names(partial(self._store.name, *key)) if plan.refers and self._store.names else None
        _make_flows(plan, datagram, wire_set, intervals, result, names, partial(self._store.template, *key))


def _too_many(wire_set: WireSet) -> str:
    return f"offset {wire_set.offset}: set {wire_set.set_id}: more than {MAX_RECORDS} records in the datagram"


def _decode_fixed(datagram: bytes, result: DecodeResult) -> None:
    header = result.header
    length = FIXED[header.version]
    count = min(header.counted, (header.end - header.start) // length)
    end = header.start + count * length
    interval = header.sampling & 0x3FFF
    samplings: dict[int, float] = {DEFAULT_SELECTOR: interval} if interval else {}
    plan = plan_for(FIXED_TEMPLATES[header.version])
    _make_flows(plan, datagram, WireSet(0, header.start, header.start, end), _Intervals.of(samplings), result)
    if count < header.counted:
        result.errors.append(f"offset {end}: the header counts {header.counted} records, {count} are there")
    elif any(datagram[end:]):
        result.errors.append(f"offset {end}: {header.end - end} bytes follow the {count} records that the header counts")


def _no_template(_: int) -> TemplateRecord | None:
    return None


def _make_flows(
    plan: Plan,
    datagram: bytes,
    wire_set: WireSet,
    intervals: _Intervals,
    result: DecodeResult,
    names: Names | None = None,
    template_of: TemplateOf = _no_template,
) -> None:
    """Append the flows of one data set; all decisions that do not depend on the record are taken before the loop."""
    header = result.header
    export_us, uptime = header.export_us, header.uptime
    has_base = uptime != 0
    if header.version == NETFLOW_IPFIX and intervals.init_ms is not None:
        uptime, has_base = (export_us // 1000 - intervals.init_ms) % _WRAP, True
    present = plan.present
    keys = plan.keys
    default, by_interface = intervals.default, intervals.by_interface
    varies = by_interface or "_sampler" in present or "_interval" in present
    conversions, extra_keys, extra_conversions = plan.conversions, plan.extra_keys, plan.extra_conversions
    alternatives, duration, biflow = plan.alternatives, plan.duration, plan.biflow
    more = bool(plan.structured or plan.finish or names)
    has_bytes, has_packets = "flow_raw_bytes" in present, "flow_raw_packets" in present
    has_protocol = "network_iana_number" in present
    has_type = plan.network_type is not None
    has_icmp = "_icmp" in present or "flow_icmp_type" in present or "flow_icmp_code" in present or plan.icmp_in_port
    icmp_in_ports = not has_icmp and has_protocol and "destination_port" in present
    deltas = tuple(key for key, mode in (("event_start_us", plan.start_mode), ("event_end_us", plan.end_mode)) if mode in DELTAS)
    uptimes = tuple(key for key, mode in (("event_start_us", plan.start_mode), ("event_end_us", plan.end_mode)) if mode in UPTIME)
    base_us = export_us - uptime * 1000
    # Copying a dict that has all keys already, and filling it in, costs two thirds of making one from the row.
    blank: dict[str, Any] = dict.fromkeys(keys)
    if has_protocol:
        blank["network_transport"] = None
    if has_bytes:
        blank["network_bytes"] = blank["source_bytes"] = None
    if has_packets:
        blank["network_packets"] = blank["source_packets"] = None
    blank |= {
        "observation_domain": header.domain,
        "flow_protocol": _PROTOCOLS[header.version],
        "flow_sampling_interval": default,
        "network_type": plan.network_type,
        "additional": None,
    }
    flows = result.flows
    append = flows.append
    first, room = result.records, MAX_RECORDS - result.records
    already = len(flows)
    transport_of = TRANSPORTS.get
    try:
        for main, extra in plan.rows(datagram, wire_set):
            if len(flows) - already >= room:
                raise FlowError(_too_many(wire_set))
            flow = blank.copy()
            flow.update(zip(keys, main, strict=True))
            for key, convert in conversions:
                flow[key] = convert(flow[key])
            if extra:
                additional: dict[str, Any] = dict(zip(extra_keys, extra, strict=True))
                for key, convert in extra_conversions:
                    additional[key] = convert(additional[key])
            else:
                additional = {}
            flow["additional"] = additional
            if alternatives:
                _fill_in(flow, additional, alternatives)
            for key in uptimes:
                value = flow[key]
                if has_base and 0 <= uptime - value < _USUAL and base_us > 0:
                    flow[key] = base_us + value * 1000
                else:
                    flow[key] = uptime_to_us(value, uptime, export_us) if has_base else None
                    if flow[key] is None:
                        _without_base(flow, additional, key, value, export_us)
            for key in deltas:
                flow[key] = export_us - flow[key] if export_us > flow[key] else None
            if duration is not None:
                _use_duration(flow, additional, duration)
            if has_protocol:
                flow["network_transport"] = transport_of(flow["network_iana_number"])
            if not has_type:
                _find_type(flow)
            if has_icmp:
                _settle_icmp(flow, plan.icmp_in_port)
            elif icmp_in_ports and flow["network_iana_number"] in _ICMP_PROTOCOLS:
                icmp_in_port(flow)
            if varies:
                flow["flow_sampling_interval"] = interval = _interval_of(flow, intervals)
            else:
                interval = default
            if has_bytes:
                count = flow["flow_raw_bytes"]
                flow["network_bytes"] = flow["source_bytes"] = count if interval is None else _scaled(count, interval)
            if has_packets:
                count = flow["flow_raw_packets"]
                flow["network_packets"] = flow["source_packets"] = count if interval is None else _scaled(count, interval)
            if biflow:
                _add_directions(flow, additional, interval)
            if more:
                _say_more(plan, flow, additional, names, template_of)
            append(cast("FlowRecord", flow))
    finally:
        result.records += len(flows) - already
        result.positions.extend(range(first, result.records))


def _say_more(plan: Plan, flow: dict[str, Any], additional: dict[str, Any], names: Names | None, template_of: TemplateOf) -> None:
    """What only some templates have: lists, events and the like, numbers that have names."""
    for key, abstract_type in plan.structured:
        additional[key] = read_list(abstract_type, additional[key], template_of)
    for finish in plan.finish:
        finish(flow, additional)
    if names is not None:
        names.fill(flow, additional, plan.refers)


def uptime_to_us(value: int, uptime: int, export_us: int) -> int | None:
    """Microseconds UTC of a time given in milliseconds since the exporter started.

    `uptime` is the exporter's at `export_us`. Both count 32 bits and wrap after 49.7 days: a time up to an hour ahead of the
    export is taken as it is, one further ahead lies before the wrap. None where that would be more than half of the range
    ago, since then exporter and clock disagree (seen from FortiOS 5.2), and for times before 1970.
    """
    behind = uptime - value
    if behind < -_AHEAD:
        behind += _WRAP
        if behind > _WRAP // 2:
            return None
    elif behind > _WRAP - _AHEAD:
        behind -= _WRAP
    micros = export_us - behind * 1000
    return micros if micros > 0 else None


def _scaled(count: int | None, interval: int | float | None) -> int | None:
    if count is None or interval is None:
        return count
    return min(round(count * interval), LARGEST)


def _interval_of(flow: dict[str, Any], intervals: _Intervals) -> int | float | None:
    """The record's own interval, else that of its sampler, else of its interface, else the domain's."""
    sampler = flow.pop("_sampler", None)
    own = flow.pop("_interval", None)
    if own:
        return cast("int", own)
    known = intervals.by_selector
    if sampler is not None and (found := known.get(sampler & MAX_SELECTOR)) is not None:
        return found
    if intervals.by_interface:
        for key in ("observer_ingress_interface", "observer_egress_interface"):
            number = flow.get(key)
            if number and (found := known.get(-number)) is not None:
                return found
    return intervals.default


def _fill_in(
    flow: dict[str, Any], additional: dict[str, Any], alternatives: tuple[tuple[str, tuple[tuple[str, str], ...]], ...]
) -> None:
    """Let a second element stand in where the first is empty; what is not needed stays among the additional ones."""
    for target, seconds in alternatives:
        for key, name in seconds:
            value = flow.pop(key)
            if value in _EMPTY:
                continue
            if flow[target] in _EMPTY:
                flow[target] = value
            else:
                additional[name] = value


def _without_base(flow: dict[str, Any], additional: dict[str, Any], key: str, value: int, export_us: int) -> None:
    """IPFIX sysUpTime needs the start of the exporter: in the record itself, or the raw value is all there is."""
    init = additional.get("systemInitTimeMilliseconds")
    if isinstance(init, int) and init:
        flow[key] = uptime_to_us(value, (export_us // 1000 - init) % _WRAP, export_us)
    if flow[key] is None:
        additional[_UPTIME_NAMES[key]] = value


def _use_duration(flow: dict[str, Any], additional: dict[str, Any], duration: tuple[str, int]) -> None:
    name, unit = duration
    length = additional[name]
    if not isinstance(length, int):
        return
    start, end = flow.get("event_start_us"), flow.get("event_end_us")
    if start is not None and end is None:
        flow["event_end_us"] = start + length * unit
    elif end is not None and start is None:
        flow["event_start_us"] = end - length * unit


def _find_type(flow: dict[str, Any]) -> None:
    version = flow.pop("_version", None)
    address = flow.get("source_ip") or flow.get("destination_ip")
    if address is not None:
        flow["network_type"] = "ipv6" if ":" in address else "ipv4"
    elif version in (4, 6):
        flow["network_type"] = f"ipv{version}"


def _settle_icmp(flow: dict[str, Any], in_port: bool) -> None:
    """Type and code only where the flow is ICMP: exporters fill the fields with zeros for other protocols too."""
    pair = flow.pop("_icmp", None)
    protocol = flow.get("network_iana_number")
    if protocol not in _ICMP_PROTOCOLS:
        flow.pop("flow_icmp_type", None)
        flow.pop("flow_icmp_code", None)
        return
    if in_port and protocol == 1:
        pair = flow["destination_port"]
    if not pair:
        icmp_in_port(flow)
    if pair is not None:
        flow.setdefault("flow_icmp_type", pair >> 8)
        flow.setdefault("flow_icmp_code", pair & 0xFF)


def _add_directions(flow: dict[str, Any], additional: dict[str, Any], interval: int | float | None) -> None:
    """Counts by direction where the exporter gives them apart; `network_*` is then their sum (ECS)."""
    for unit in ("bytes", "packets"):
        forth, back = flow.get(f"flow_raw_{unit}"), None
        told = False
        for name, target in BIFLOW.items():
            value = additional.get(name)
            if isinstance(value, int) and target.endswith(unit):
                told = True
                if target.startswith("source"):
                    forth = value
                elif not back:
                    back = value
        if not told:
            continue
        total = min((forth or 0) + (back or 0), LARGEST)
        flow[f"source_{unit}"] = _scaled(forth, interval)
        if back is not None:
            flow[f"destination_{unit}"] = _scaled(back, interval)
        flow[f"network_{unit}"] = _scaled(total, interval)
        flow.setdefault(f"flow_raw_{unit}", total)
