"""The recorded exports of logstash-codec-netflow against the expectations of that codec's own tests (`netflow/codec-netflow`).

An expectation is a snapshot of what Logstash made of it. So its number of events counts records of options too, which are no flows
here: they are counted apart. Where its arithmetic is known to be wrong the difference is argued, by rule and not by case.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, NamedTuple

from weir.protocols.netflow import Decoder, FlowError, FlowRecord
from weir.protocols.netflow.elements import elements, vendor_elements
from weir.protocols.netflow.fields import ALTERNATIVES, END_TIMES, START_TIMES
from weir.protocols.netflow.wire import Header
from weir.tools.conformance import Case

__all__ = ["FOLDER", "Expectation", "cases", "comparisons", "expectations"]

FOLDER: Final = Path("netflow") / "codec-netflow"

_SECOND: Final = timedelta(seconds=1)

# The codec's own names of NetFlow v9 fields, by element id; the other names are IANA's, or a vendor's with its name before it.
_V9_NAMES: Final[dict[str, tuple[int, ...]]] = {
    "in_bytes": (1,), "in_pkts": (2,), "flows": (3,), "protocol": (4,), "src_tos": (5,), "tcp_flags": (6,), "l4_src_port": (7,),
    "ipv4_src_addr": (8,), "src_mask": (9,), "input_snmp": (10,), "l4_dst_port": (11,), "ipv4_dst_addr": (12,), "dst_mask": (13,),
    "output_snmp": (14,), "ipv4_next_hop": (15,), "src_as": (16,), "dst_as": (17,), "bgp_ipv4_next_hop": (18,),
    "mul_dst_pkts": (19,), "mul_dst_bytes": (20,), "last_switched": (21,), "first_switched": (22,), "out_bytes": (23,),
    "out_pkts": (24,), "min_pkt_length": (25,), "max_pkt_length": (26,), "ipv6_src_addr": (27,), "ipv6_dst_addr": (28,),
    "ipv6_src_mask": (29,), "ipv6_dst_mask": (30,), "ipv6_flow_label": (31,), "icmp_type": (32, 176), "icmp_code": (32, 177),
    "mul_igmp_type": (33,), "sampling_interval": (34,), "sampling_algorithm": (35,), "flow_active_timeout": (36,),
    "flow_inactive_timeout": (37,), "engine_type": (38,), "engine_id": (39,), "ipv4_src_prefix": (44,), "ipv4_dst_prefix": (45,),
    "mpls_top_label_type": (46,), "mpls_top_label_ip_addr": (47,), "flow_sampler_id": (48,), "min_ttl": (52,), "max_ttl": (53,),
    "ipv4_ident": (54,), "dst_tos": (55,), "in_src_mac": (56,), "out_dst_mac": (57,), "src_vlan": (58,), "dst_vlan": (59,),
    "ip_protocol_version": (60,), "direction": (61,), "ipv6_next_hop": (62,), "bgp_ipv6_next_hop": (63,), "in_dst_mac": (80,),
    "out_src_mac": (81,), "if_name": (82,), "if_desc": (83,), "in_permanent_bytes": (85,), "in_permanent_pkts": (86,),
    "forwarding_status": (89,), "src_traffic_index": (92,), "dst_traffic_index": (93,), "application_description": (94,),
    "application_id": (95,), "application_name": (96,), "flow_end_reason": (136,), "conn_id": (148,), "flow_start_msec": (152,),
    "flow_end_msec": (153,), "icmp_type_ipv6": (178,), "icmp_code_ipv6": (179,), "udp_src_port": (180,), "udp_dst_port": (181,),
    "tcp_src_port": (182,), "tcp_dst_port": (183,), "ip_tos": (194,), "ip_dscp": (195,), "fwd_flow_delta_bytes": (231,),
    "rev_flow_delta_bytes": (232,), "xlate_src_addr_ipv4": (225, 40001), "xlate_dst_addr_ipv4": (226, 40002),
    "xlate_src_port": (227, 40003), "xlate_dst_port": (228, 40004), "fw_event": (233, 40005), "event_time_msec": (323,),
    "wlan_id": (20000,), "ingress_acl_id": (33000,), "egress_acl_id": (33001,), "fw_ext_event": (33002,), "username": (40000,),
    "app_id": (56701,), "user_id": (56702,),
}  # fmt: skip

_HEADER: Final[dict[str, Callable[[Header, FlowRecord], object]]] = {
    "version": lambda header, _: header.version,
    "flow_seq_num": lambda header, _: header.sequence,
    "engine_type": lambda header, _: header.domain >> 8,
    "engine_id": lambda header, _: header.domain & 0xFF,
    "sampling_algorithm": lambda header, _: header.sampling >> 14,
    "ip_protocol_version": lambda _, flow: {"ipv4": 4, "ipv6": 6}.get(flow["network_type"] or ""),
    "ipVersion": lambda _, flow: {"ipv4": 4, "ipv6": 6}.get(flow["network_type"] or ""),
}
"""What does not stand in a field of the flow under a name of its own."""

_OF_V5: Final = frozenset({"engine_type", "engine_id", "sampling_algorithm"})
"""What only v5 has in its header; elsewhere these are elements."""

_NTOP_NAMES: Final = {"nprobe_proto": "l7Proto", "nprobe_proto_name": "l7ProtoName"}
_PREFIXES: Final = ("netscaler", "vmware", "cisco", "barracuda", "nokia", "gigamon")

# Values that are numbers to the codec and words to us.
_WORDS: Final[dict[str, dict[object, int]]] = {
    "flow_direction": {"ingress": 0, "egress": 1},
    "flow_end_reason": {
        "idle timeout": 1, "active timeout": 2, "end of flow detected": 3, "forced end": 4, "lack of resources": 5,
    },
}  # fmt: skip


class Expectation(NamedTuple):
    """One value of one event, as the codec's tests have it."""

    event: int
    name: str
    value: object


class _Decoded(NamedTuple):
    flows: dict[int, FlowRecord]
    records: int
    errors: list[str]
    headers: dict[int, Header]


def cases(corpus: Path) -> Iterator[Case]:
    """Each test of the codec, judged."""
    folder = corpus / FOLDER
    if not (folder / "expected.json").is_file():
        return
    for case in json.loads((folder / "expected.json").read_text()):
        yield _judged(folder, case)


def expectations(case: dict[str, Any]) -> Iterator[Expectation]:
    """Values of whole events and of single assertions."""
    for event, index in case["whole_event_match"]:
        for name, value in case["json_events"][index]["netflow"].items():
            yield Expectation(event, name, value)
    for event, path, literal in case["field_asserts"]:
        try:
            yield Expectation(event, path.rsplit("[", 1)[1].rstrip("]"), json.loads(literal))
        except ValueError:
            continue


def comparisons(folder: Path, case: dict[str, Any]) -> Iterator[tuple[Expectation, object, str | None, bool]]:
    """For each expected value that has a place here: itself, our value, the rule that argues a difference, whether it agrees."""
    found = _decoded(folder, case)
    for expected in expectations(case):
        flow = found.flows.get(expected.event)
        if flow is None:
            continue
        header = found.headers[expected.event]
        if (read := _HEADER.get(expected.name)) is not None and (header.version == 5 or expected.name not in _OF_V5):
            value = read(header, flow)
            yield expected, value, None, value == expected.value
            continue
        for name, target in _places(expected.name):
            value = _ours(flow, name, target)
            if value is not None or (target in flow and name not in flow["additional"]):
                agrees = _alike(expected.value, value, target)
                yield expected, value, None if agrees else _argued(expected, flow, value, header.export_us), agrees
                break
        else:
            if expected.name.startswith("icmp") and flow.get("network_iana_number") not in (None, 1, 58):
                yield expected, None, _NO_ICMP, False


def _judged(folder: Path, case: dict[str, Any]) -> Case:
    name = f"codec-netflow: {case['name']}"
    found = _decoded(folder, case)
    if case["n_events"] is not None and found.records != case["n_events"]:
        told = f"{case['n_events']} events are expected, {found.records} records are there, of options {_options(found)}"
        return Case(name, f"{told}; {'; '.join(found.errors)}")
    wrong: list[str] = []
    reasons: set[str] = set()
    unexplained = False
    for expected, value, reason, agrees in comparisons(folder, case):
        if not agrees:
            wrong.append(f"event {expected.event}: {expected.name} is {value!r}, {expected.value!r} is expected")
            if reason is None:
                unexplained = True
            else:
                reasons.add(reason)
    if not wrong:
        return Case(name)
    return Case(name, "; ".join(wrong), None if unexplained else "; ".join(sorted(reasons)))


def _options(found: _Decoded) -> int:
    return found.records - len(found.flows)


def _decoded(folder: Path, case: dict[str, Any]) -> _Decoded:
    """Flows by number of the record over all files; options records take a number too, as they are events there."""
    decoder = Decoder()
    found = _Decoded({}, 0, [], {})
    for name in case["files"]:
        try:
            result = decoder.decode((folder / name).read_bytes())
        except FlowError as error:
            found.errors.append(error.reason)
            continue
        for position, flow in zip(result.positions, result.flows, strict=True):
            found.flows[found.records + position] = flow
            found.headers[found.records + position] = result.header
        found.errors.extend(result.errors)
        found = found._replace(records=found.records + result.records)
    return found


@lru_cache(maxsize=1)
def _by_name() -> dict[str, list[tuple[int, int]]]:
    """Our names, without case and signs, to the elements that have them."""
    table: dict[str, list[tuple[int, int]]] = {}
    for number, element in elements().items():
        table.setdefault(_plain(element.name), []).append((0, number))
    for place, element in vendor_elements().items():
        table.setdefault(_plain(element.name), []).append(place)
    return table


def _plain(name: str) -> str:
    return re.sub(r"[^0-9a-z]", "", name.lower())


@lru_cache(maxsize=1024)
def _places(name: str) -> list[tuple[str, str]]:
    """Where a value with the codec's name can be here: the element's name among the additional ones, and the field it can fill."""
    if name in _V9_NAMES:
        found = [(0, number) for number in _V9_NAMES[name]]
    else:
        plain = _plain(_NTOP_NAMES.get(name, name))
        bare = next((plain.removeprefix(prefix) for prefix in _PREFIXES if plain.startswith(prefix)), plain)
        found = [place for key in (plain, bare, *(prefix + plain for prefix in _PREFIXES)) for place in _by_name().get(key, [])]
    icmp = {"icmp_type": "flow_icmp_type", "icmp_code": "flow_icmp_code"}.get(name)
    places = [(_name_of(place), icmp or _target_of(place)) for place in found]
    return places or [(name, "")]


def _name_of(place: tuple[int, int]) -> str:
    known = elements().get(place[1]) if place[0] == 0 else None
    return (known or vendor_elements().get(place) or elements()[1]).name


@lru_cache(maxsize=1)
def _targets() -> dict[tuple[int, int], str]:
    targets = {((0, place) if isinstance(place, int) else place): target for target, ids in ALTERNATIVES.items() for place in ids}
    targets |= {(0, number): "event_start_us" for number in START_TIMES}
    return targets | {(0, number): "event_end_us" for number in END_TIMES}


def _target_of(place: tuple[int, int]) -> str:
    return _targets().get(place, "")


def _ours(flow: FlowRecord, name: str, target: str) -> Any:
    """Our value: the element's own where it stands among the additional ones, else that of the field it fills."""
    value: Any = flow["additional"].get(name)
    if value is None:
        value = flow.get(target)
        value = _WORDS.get(target, {}).get(value, value) if isinstance(value, str) else value
    return value


def _alike(expected: object, value: object, target: str) -> bool:
    """Equal, whatever the form: addresses with colons or hyphens, hexadecimal, numbers as text, times as text."""
    if expected == value or (expected == "" and value is None):
        return True
    if isinstance(expected, dict):
        return bool(value == (expected.get("status", 0) << 6 | expected.get("reason", 0)))
    if isinstance(expected, float) and isinstance(value, float):
        return abs(expected - value) < 1e-4 * max(1.0, abs(expected))
    if isinstance(expected, str) and (moment := _moment(expected)) is not None and isinstance(value, int):
        return any(_near(moment, value, unit) for unit in (1, 1_000, 1_000_000))
    if isinstance(expected, int) and target.startswith("event_") and isinstance(value, int):
        return value // (1_000 if expected > 1 << 33 else 1_000_000) == expected
    return _plain(str(expected)).removeprefix("0x") == _plain(str(value))


def _moment(text: str) -> datetime | None:
    try:
        # The codec's own template of a fraction of a second, which it forgot to fill in, stands in some.
        return datetime.fromisoformat(text.replace("#{nanos}", ""))
    except ValueError:
        return None


def _near(moment: datetime, value: int, unit: int) -> bool:
    """The same time, but for parts of a millisecond that the codec cuts off, or a second too many: it adds the milliseconds of an
    uptime to the export time without borrowing from its seconds, so that RFC 3954's `unix_secs - (sysUptime - First)` is ours."""
    if not 0 < value * unit < 10**17:
        return False
    late = moment - (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=value * unit))
    millisecond = timedelta(milliseconds=1)
    return abs(late) < millisecond or abs(late - _SECOND) < millisecond


_NO_ICMP: Final = "the flow is not ICMP, so that type and code, which the exporter fills with zeros, are left out"
_STANDS_IN: Final = "the element is empty, and another one that means the same fills the field"
_ABSOLUTE: Final = "an uptime, which is turned into a time by the start that the exporter announces in its options"
_WRAPPED: Final = "the expected time lies behind the export: the uptime had wrapped, or is none; the exporter's figure is kept"


def _argued(expected: Expectation, flow: FlowRecord, value: object, export_us: int) -> str | None:
    """The rule by which a difference is right, if there is one."""
    if expected.name.startswith("icmp") and not expected.value and flow.get("network_iana_number") not in (None, 1, 58):
        return _NO_ICMP
    targets = {target for _, target in _places(expected.name)}
    if not expected.value and value and any(len(ALTERNATIVES.get(target, ())) > 1 for target in targets):
        return _STANDS_IN
    if expected.name.endswith("SysUpTime") and isinstance(value, int) and abs(value - export_us) < 86_400_000_000:
        return _ABSOLUTE
    moment = _moment(expected.value) if isinstance(expected.value, str) else None
    if moment is not None and moment.tzinfo is not None and moment.timestamp() * 1_000_000 > export_us + 3_600_000_000:
        return _WRAPPED
    return None
