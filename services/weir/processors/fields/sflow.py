"""What an sFlow sample becomes: a sampled or discarded packet an event of network-flow, anything else one of network-log.

A packet's IP fields are those of its outermost IP header, as every collector has it; what a tunnel carries is in
`flow_additional` (`inner`). Bytes are those of IP packets, as every other source of flows counts them; `flow_raw_bytes` stays what
the agent reports, the length of the frame on the wire (`frame_length`), which also counts where a frame carries no IP.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import orjson

from weir.model.batch import RawBatch
from weir.model.ids import event_id
from weir.processors.outcome import Dead, Outcome, event_hash
from weir.protocols import sflow
from weir.protocols.netflow.fields import LARGEST, TRANSPORTS
from weir.protocols.packet import Packet, tunnelled

__all__ = ["add_datagram"]

_FLOW: Final[dict[str, Any]] = {
    "event_module": "sflow",
    "event_dataset": "sflow.flow",
    "event_category": ["network"],
    "event_type": ["connection"],
    "event_action": "sflow_sample",
    "flow_protocol": "sflow",
}
_DISCARD: Final[dict[str, Any]] = {"event_action": "sflow_packet_discarded", "event_outcome": "failure"}
_LOG: Final[dict[str, Any]] = {"event_module": "sflow", "event_category": ["network"], "event_type": ["info"]}

_DENIED: Final = frozenset({"dst_net_prohibited", "dst_host_prohibited", "comm_admin_prohibited", "acl"})
"""Reasons that are somebody's decision."""

_SEGMENTED: Final = frozenset({"vxlan", "geneve"})
"""Tunnels whose id is that of a layer 2 segment."""

_TYPES: Final = {4: "ipv4", 6: "ipv6"}
_WITH_PORTS: Final = frozenset({6, 17, 33, 132, 136})
_YEAR_10000_US: Final = 253_402_300_800_000_000


def add_datagram(outcome: Outcome, batch: RawBatch, index: int, common: dict[str, Any]) -> None:
    """Add what the index-th unit of a batch holds to its outcome; `common` are the fields of every event, and are not changed.

    The record number of an event's id is the number of its sample among all of the datagram. A datagram that is damaged gives
    what can be read and is dead-lettered as well.
    """
    try:
        result = sflow.decode(batch.units[index])
    except sflow.SflowError as error:
        outcome.dead.append(Dead(index, str(error)))
        return
    batch_hex, unit = batch.batch_id.hex(), batch.position(index)
    flows, logs = common | _FLOW, common | _LOG
    for sample in result.samples:
        record = (flows if isinstance(sample, sflow.FlowSample) else logs).copy()
        record["event_id"] = event_id(batch_hex, unit, sample.position)
        if batch.content_hashes:
            record["event_hash"] = event_hash(batch, index, sample.position)
        if isinstance(sample, sflow.FlowSample):
            _flow_fields(record, result.header, sample)
            outcome.add("network-flow", record)
        else:
            _log_fields(record, result.header, sample)
            outcome.add("network-log", record)
    if result.errors:
        outcome.dead.append(Dead(index, "; ".join(result.errors)))
    elif result.empty:
        outcome.units_empty += 1


def _flow_fields(record: dict[str, Any], header: sflow.Header, sample: sflow.FlowSample) -> None:
    """Put a flow sample's or a discarded packet's fields into its record of network-flow, which has those in common."""
    record["flow_observation_domain"] = header.sub_agent
    structures = sample.records
    additional: dict[str, sflow.Value] = {
        "agent_address": header.agent,
        "source_id_type": sample.source[0],
        "source_id_index": sample.source[1],
        "sample_sequence": sample.sequence,
    }
    _interfaces(record, additional, sample)
    sampled = sample.header
    length = ip_length = None
    if sampled is not None:
        length = sampled.frame_length
        if sampled.packet is not None:
            ip_length = _packet(record, additional, sampled.packet)
        else:
            additional["header_protocol"] = sampled.protocol
            additional["header"] = sampled.header.hex()
    if structures:
        found = _structures(record, structures)
        length = found[0] if length is None else length
        ip_length = found[1] if ip_length is None else ip_length
        additional.update(structures)
    rate = sample.rate
    # A rate of 0 means that sampling is off; what then comes stands for itself.
    times = rate or 1
    if rate is not None:
        record["flow_sampling_interval"] = rate or None
        additional["sample_pool"] = sample.pool
    if sample.drops:
        additional["drops"] = sample.drops
    record["flow_raw_packets"] = 1
    record["network_packets"] = record["source_packets"] = times
    if length is not None:
        record["flow_raw_bytes"] = length
        # An IP length that no frame could hold is a forged or a broken one.
        counted = ip_length if ip_length and ip_length <= length else length
        record["network_bytes"] = record["source_bytes"] = min(counted * times, LARGEST)
    record["flow_additional"] = orjson.dumps(additional).decode()


def _interfaces(record: dict[str, Any], additional: dict[str, sflow.Value], sample: sflow.FlowSample) -> None:
    entry, leave = sample.input.if_index, sample.output.if_index
    record["observer_ingress_interface"] = entry
    record["observer_egress_interface"] = leave
    # The data source is where the packet was seen: by ifIndex (type 0) it tells which way that was.
    kind, index = sample.source
    if kind == 0 and index and entry != leave:
        if index == entry:
            record["flow_direction"] = "ingress"
        elif index == leave:
            record["flow_direction"] = "egress"
    reason = sample.reason
    if entry is None and sample.input.value:
        additional["input"] = _interface_text(sample.input)
    if leave is None and (sample.output.value or sample.output.kind != sflow.SINGLE):
        if sample.output.kind == sflow.DISCARDED:
            reason = sample.output.value
        else:
            additional["output"] = _interface_text(sample.output)
    if reason is not None:
        record.update(_DISCARD)
        record["event_code"] = str(reason)
        record["event_reason"] = text = sflow.drop_reason(reason)
        if text in _DENIED:
            record["event_type"] = ["connection", "denied"]


def _interface_text(interface: sflow.Interface) -> sflow.Value:
    """What stands in the place of an ifIndex."""
    if interface.kind == sflow.SINGLE:
        return "internal"
    if interface.kind == sflow.MULTIPLE:
        return f"multiple:{interface.value}" if interface.value else "multiple"
    return f"{interface.kind}:{interface.value}"


def _packet(record: dict[str, Any], additional: dict[str, sflow.Value], packet: Packet) -> int | None:
    """Headers of the sampled packet: MAC addresses, VLAN and labels of the frame, and the outermost IP header, whose packet's
    length is returned."""
    record["source_mac"] = packet.source_mac
    record["destination_mac"] = packet.destination_mac
    if packet.vlans:
        record["vlan_id"] = packet.vlans[0]
        if len(packet.vlans) > 1:
            record["inner_vlan_id"] = packet.vlans[1]
            additional["vlan_tags"] = list(packet.vlans)
    if packet.labels:
        record["flow_mpls_labels"] = [str(label) for label in packet.labels]
    outer = packet if packet.version is not None else packet.outermost_ip()
    if outer is None:
        if packet.ethertype is not None:
            additional["ethertype"] = packet.ethertype
    else:
        record["network_type"] = _TYPES[outer.version or 0]
        record["source_ip"] = outer.source_ip
        record["destination_ip"] = outer.destination_ip
        record["flow_tos"] = outer.tos
        record["source_port"] = outer.source_port
        record["destination_port"] = outer.destination_port
        record["flow_tcp_flags"] = outer.tcp_flags
        record["flow_icmp_type"] = outer.icmp_type
        record["flow_icmp_code"] = outer.icmp_code
        if (protocol := outer.protocol) is not None:
            record["network_iana_number"] = protocol
            record["network_transport"] = TRANSPORTS.get(protocol)
        additional["ip_ttl"] = outer.ttl
        if outer.length is not None:
            additional["ip_length"] = outer.length
        if outer.fragment_offset:
            additional["fragment_offset"] = outer.fragment_offset
    if packet.tunnel is not None:
        additional |= tunnelled(packet)
        if packet.tunnel in _SEGMENTED and packet.tunnel_id is not None:
            record["flow_vni"] = packet.tunnel_id
    return None if outer is None else outer.length


def _structures(record: dict[str, Any], structures: dict[str, sflow.Value]) -> tuple[int | None, int | None]:
    """Take what has a field out of the structures beside the header; returns the lengths of frame and IP packet that they give.

    What a sampled header said stays: it is the packet itself. VLAN ids, though, are the switch's own: it may have
    taken the tag off.
    """
    lengths: dict[str, int] = {}
    for name in list(structures):
        fill = _FILLS.get(name)
        if fill is not None and (found := fill(record, structures, structures[name])) is not None:
            lengths[name] = found
    ip_length = next((length for name, length in lengths.items() if name != "sampled_ethernet"), None)
    # A frame is longer than the packet in it.
    return max(lengths.values(), default=None), ip_length


def _switch(record: dict[str, Any], structures: dict[str, sflow.Value], switch: Any) -> None:
    # Id 0 stands for untagged, 4095 for unknown in some agents: neither is a VLAN.
    if 0 < (vlan := switch.pop("src_vlan", 0)) < 4095:
        record["vlan_id"] = vlan
    if 0 < (vlan := switch.pop("dst_vlan", 0)) < 4095:
        record["destination_vlan_id"] = vlan
    if not any(switch.values()):
        del structures["extended_switch"]


def _router(record: dict[str, Any], _: dict[str, sflow.Value], router: Any) -> None:
    record["next_hop_ip"] = router.pop("nexthop", None)


def _gateway(record: dict[str, Any], _: dict[str, sflow.Value], gateway: Any) -> None:
    record["source_as"], record["destination_as"] = _as_numbers(gateway)


def _nat(record: dict[str, Any], structures: dict[str, sflow.Value], nat: Any) -> None:
    record["source_nat_ip"], record["destination_nat_ip"] = nat.get("src_address"), nat.get("dst_address")
    del structures["extended_nat"]


def _nat_port(record: dict[str, Any], structures: dict[str, sflow.Value], nat: Any) -> None:
    record["source_nat_port"], record["destination_nat_port"] = _port(nat.get("src_port")), _port(nat.get("dst_port"))
    del structures["extended_nat_port"]


def _timestamp(record: dict[str, Any], _: dict[str, sflow.Value], stamp: Any) -> None:
    micros = stamp.get("nanoseconds", 0) // 1000
    record["timestamp"] = micros if 0 < micros < _YEAR_10000_US else None


def _user(record: dict[str, Any], _: dict[str, sflow.Value], user: Any) -> None:
    if name := user.get("src_user"):
        record["user_id"] = name
        domain, _, short = name.rpartition("\\")
        record["user_domain"], record["user_name"] = (domain, short) if domain and short else (None, name)


def _segment(record: dict[str, Any], structures: dict[str, sflow.Value], segment: Any) -> None:
    record.setdefault("flow_vni", segment.get("vni"))


def _ethernet(record: dict[str, Any], _: dict[str, sflow.Value], frame: Any) -> int | None:
    if record.get("source_mac") is None:
        record["source_mac"], record["destination_mac"] = frame.pop("src_mac", None), frame.pop("dst_mac", None)
    length: int | None = frame.get("length")
    return length


def _ip(record: dict[str, Any], structures: dict[str, sflow.Value], ip: Any) -> int | None:
    length: int | None = ip.get("length")
    if record.get("source_ip") is None:
        version = 4 if structures.get("sampled_ipv4") is ip else 6
        _sampled_ip(record, ip, version)
        del structures["sampled_ipv4" if version == 4 else "sampled_ipv6"]
    return length


_FILLS: Final[dict[str, Callable[[dict[str, Any], dict[str, sflow.Value], Any], int | None]]] = {
    "extended_switch": _switch,
    "extended_router": _router,
    "extended_gateway": _gateway,
    "extended_nat": _nat,
    "extended_nat_port": _nat_port,
    "extended_timestamp": _timestamp,
    "extended_user": _user,
    "extended_vni_egress": _segment,
    "extended_vni_ingress": _segment,
    "sampled_ethernet": _ethernet,
    "sampled_ipv4": _ip,
    "sampled_ipv6": _ip,
}


def _as_numbers(gateway: dict[str, Any]) -> tuple[int | None, int | None]:
    """Autonomous systems of source and destination.

    The destination's is the last of its path, unless a set of several ends it: then nobody can tell (RFC 6811 section 2). What has
    no number or path is in the router's own system.
    """
    own = gateway.get("as") or None
    path = gateway.get("dst_as_path") or []
    last = path[-1] if path else None
    if isinstance(last, dict):
        last = last["set"] if len(last["set"]) == 1 else []
    destination = own if last is None else (last[-1] if last else None)
    return gateway.get("src_as") or own, destination


def _sampled_ip(record: dict[str, Any], ip: Any, version: int) -> None:
    record["network_type"] = _TYPES[version]
    record["source_ip"], record["destination_ip"] = ip.get("src_ip"), ip.get("dst_ip")
    protocol = ip.get("protocol")
    if protocol is None or protocol > 255:
        return
    record["network_iana_number"] = protocol
    record["network_transport"] = TRANSPORTS.get(protocol)
    if protocol in _WITH_PORTS:
        record["source_port"], record["destination_port"] = _port(ip.get("src_port")), _port(ip.get("dst_port"))
    elif protocol in (1, 58):
        # "Or equivalent" for the ports: type and code, as agents fill them.
        record["flow_icmp_type"], record["flow_icmp_code"] = ip.get("src_port", 0) & 0xFF, ip.get("dst_port", 0) & 0xFF
    if protocol == 6:
        record["flow_tcp_flags"] = ip.get("tcp_flags", 0) & 0xFF
    record["flow_tos"] = ip.get("tos", ip.get("priority", 0)) & 0xFF


def _port(value: int | None) -> int | None:
    """A port, which the wire has 32 bits for."""
    return value if value is not None and value <= 0xFFFF else None


def _log_fields(record: dict[str, Any], header: sflow.Header, sample: sflow.CounterSample | sflow.OtherSample) -> None:
    """Put the fields of counters, or of a sample of an unknown format, into its record of network-log."""
    document: dict[str, sflow.Value] = {"agent_address": header.agent, "sub_agent_id": header.sub_agent, "uptime": header.uptime}
    if isinstance(sample, sflow.CounterSample):
        record["event_kind"] = "metric"
        record["event_dataset"] = "sflow.counter"
        record["event_action"] = "sflow_counters"
        document |= {
            "source_id_type": sample.source[0],
            "source_id_index": sample.source[1],
            "sample_sequence": sample.sequence,
        }
        document.update(sample.records)
        host = sample.records.get("host_descr")
        if isinstance(host, dict) and isinstance(name := host.get("hostname"), str):
            record["host_name"] = name
    else:
        record["event_dataset"] = "sflow.other"
        record["event_action"] = "sflow_other"
        document |= {"sample_format": sample.format, "sample": sample.data.hex()}
    record["document"] = orjson.dumps(document).decode()
