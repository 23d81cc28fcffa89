"""The structures that sFlow samples are made of, as tables: format of enterprise 0 to name and fields.

Sources: "sFlow Version 5" (numbers 1 to 5, 1001 to 1012), and the structures that sflow.org lists under "sFlow Structure Numbers":
802.11 (1013 to 1015), tunnels (1021 to 1030), "Dropped Packet Notification" (1036 to 1038), transit delay and queue depth (1039,
1040), hardware traps and Linux' reasons (1041, 1042), precision timestamp (1043), LAG, optical interfaces (10) and host performance
(2000 and above). Names of structures and fields are theirs. A structure that no table has is kept in hexadecimal.
"""

from __future__ import annotations

from collections.abc import Callable
from math import isfinite
from socket import inet_ntoa
from struct import Struct
from typing import Final, NamedTuple

from weir.protocols.packet import ipv6_text
from weir.protocols.sflow.wire import Reader, SflowError, enterprise_format

__all__ = ["COUNTER_RECORDS", "DROP_REASONS", "FLOW_RECORDS", "LANE_FIELDS", "Structure", "Value", "drop_reason", "read_structure"]

Value = int | float | str | None | list["Value"] | dict[str, "Value"]
"""What a field of a structure holds, ready for JSON."""

# Kinds of fields: u32 and u64 numbers, f a float, s a string, a an address with its type, 4 and 6 bare addresses, m a MAC address,
# hex opaque bytes, uuid 16 bytes, list numbers, path an AS path, lanes, adapters. A counter of all ones is not maintained.
_ETHERNET = "length:u32 src_mac:m dst_mac:m type:u32"
_IPV4 = "length:u32 protocol:u32 src_ip:4 dst_ip:4 src_port:u32 dst_port:u32 tcp_flags:u32 tos:u32"
_IPV6 = "length:u32 protocol:u32 src_ip:6 dst_ip:6 src_port:u32 dst_port:u32 tcp_flags:u32 priority:u32"
_NIO = "bytes_in:u64 packets_in:u32 errs_in:u32 drops_in:u32 bytes_out:u64 packets_out:u32 errs_out:u32 drops_out:u32"

_FLOW: Final = {
    2: ("sampled_ethernet", _ETHERNET),
    3: ("sampled_ipv4", _IPV4),
    4: ("sampled_ipv6", _IPV6),
    1001: ("extended_switch", "src_vlan:u32 src_priority:u32 dst_vlan:u32 dst_priority:u32"),
    1002: ("extended_router", "nexthop:a src_mask_len:u32 dst_mask_len:u32"),
    1003: (
        "extended_gateway",
        "nexthop:a as:u32 src_as:u32 src_peer_as:u32 dst_as_path:path communities:list localpref:u32",
    ),
    1004: ("extended_user", "src_charset:u32 src_user:s dst_charset:u32 dst_user:s"),
    1005: ("extended_url", "direction:u32 url:s host:s"),
    1006: ("extended_mpls", "nexthop:a in_stack:list out_stack:list"),
    1007: ("extended_nat", "src_address:a dst_address:a"),
    1008: ("extended_mpls_tunnel", "tunnel_lsp_name:s tunnel_id:u32 tunnel_cos:u32"),
    1009: ("extended_mpls_vc", "vc_instance_name:s vll_vc_id:u32 vc_label_cos:u32"),
    1010: ("extended_mpls_FTN", "mplsFTNDescr:s mplsFTNMask:u32"),
    1011: ("extended_mpls_LDP_FEC", "mplsFecAddrPrefixLength:u32"),
    1012: ("extended_vlantunnel", "stack:list"),
    1013: ("extended_80211_payload", "ciphersuite:u32 data:hex"),
    1014: (
        "extended_80211_rx",
        "ssid:s bssid:m version:u32 channel:u32 speed:u64 rsni:u32 rcpi:u32 packet_duration:u32",
    ),
    1015: (
        "extended_80211_tx",
        "ssid:s bssid:m version:u32 transmissions:u32 packet_duration:u32 retrans_duration:u32 channel:u32 speed:u64 power:u32",
    ),
    1020: ("extended_nat_port", "src_port:u32 dst_port:u32"),
    1021: ("extended_L2_tunnel_egress", _ETHERNET),
    1022: ("extended_L2_tunnel_ingress", _ETHERNET),
    1023: ("extended_ipv4_tunnel_egress", _IPV4),
    1024: ("extended_ipv4_tunnel_ingress", _IPV4),
    1025: ("extended_ipv6_tunnel_egress", _IPV6),
    1026: ("extended_ipv6_tunnel_ingress", _IPV6),
    1027: ("extended_decapsulate_egress", "inner_header_offset:u32"),
    1028: ("extended_decapsulate_ingress", "inner_header_offset:u32"),
    1029: ("extended_vni_egress", "vni:u32"),
    1030: ("extended_vni_ingress", "vni:u32"),
    1036: ("extended_egress_queue", "queue:u32"),
    1037: ("extended_acl", "number:u32 name:s direction:u32"),
    1038: ("extended_function", "symbol:s"),
    1039: ("extended_transit", "delay:u32"),
    1040: ("extended_queue", "depth:u32"),
    1041: ("extended_hw_trap", "group:s trap:s"),
    1042: ("extended_linux_drop_reason", "reason:s"),
    1043: ("extended_timestamp", "nanoseconds:u64"),
    2100: ("extended_socket_ipv4", "protocol:u32 local_ip:4 remote_ip:4 local_port:u32 remote_port:u32"),
    2101: ("extended_socket_ipv6", "protocol:u32 local_ip:6 remote_ip:6 local_port:u32 remote_port:u32"),
}

_COUNTERS: Final = {
    1: (
        "if_counters",
        "ifIndex:u32 ifType:u32 ifSpeed:u64 ifDirection:u32 ifStatus:u32 ifInOctets:u64 ifInUcastPkts:u32 ifInMulticastPkts:u32 "
        "ifInBroadcastPkts:u32 ifInDiscards:u32 ifInErrors:u32 ifInUnknownProtos:u32 ifOutOctets:u64 ifOutUcastPkts:u32 "
        "ifOutMulticastPkts:u32 ifOutBroadcastPkts:u32 ifOutDiscards:u32 ifOutErrors:u32 ifPromiscuousMode:u32",
    ),
    2: (
        "ethernet_counters",
        "dot3StatsAlignmentErrors:u32 dot3StatsFCSErrors:u32 dot3StatsSingleCollisionFrames:u32 "
        "dot3StatsMultipleCollisionFrames:u32 dot3StatsSQETestErrors:u32 dot3StatsDeferredTransmissions:u32 "
        "dot3StatsLateCollisions:u32 dot3StatsExcessiveCollisions:u32 dot3StatsInternalMacTransmitErrors:u32 "
        "dot3StatsCarrierSenseErrors:u32 dot3StatsFrameTooLongs:u32 dot3StatsInternalMacReceiveErrors:u32 "
        "dot3StatsSymbolErrors:u32",
    ),
    3: (
        "tokenring_counters",
        "dot5StatsLineErrors:u32 dot5StatsBurstErrors:u32 dot5StatsACErrors:u32 dot5StatsAbortTransErrors:u32 "
        "dot5StatsInternalErrors:u32 dot5StatsLostFrameErrors:u32 dot5StatsReceiveCongestions:u32 "
        "dot5StatsFrameCopiedErrors:u32 dot5StatsTokenErrors:u32 dot5StatsSoftErrors:u32 dot5StatsHardErrors:u32 "
        "dot5StatsSignalLoss:u32 dot5StatsTransmitBeacons:u32 dot5StatsRecoverys:u32 dot5StatsLobeWires:u32 "
        "dot5StatsRemoves:u32 dot5StatsSingles:u32 dot5StatsFreqErrors:u32",
    ),
    4: (
        "vg_counters",
        "dot12InHighPriorityFrames:u32 dot12InHighPriorityOctets:u64 dot12InNormPriorityFrames:u32 "
        "dot12InNormPriorityOctets:u64 dot12InIPMErrors:u32 dot12InOversizeFrameErrors:u32 dot12InDataErrors:u32 "
        "dot12InNullAddressedFrames:u32 dot12OutHighPriorityFrames:u32 dot12OutHighPriorityOctets:u64 "
        "dot12TransitionIntoTrainings:u32 dot12HCInHighPriorityOctets:u64 dot12HCInNormPriorityOctets:u64 "
        "dot12HCOutHighPriorityOctets:u64",
    ),
    5: ("vlan_counters", "vlan_id:u32 octets:u64 ucastPkts:u32 multicastPkts:u32 broadcastPkts:u32 discards:u32"),
    6: (
        "ieee80211_counters",
        "dot11TransmittedFragmentCount:u32 dot11MulticastTransmittedFrameCount:u32 dot11FailedCount:u32 dot11RetryCount:u32 "
        "dot11MultipleRetryCount:u32 dot11FrameDuplicateCount:u32 dot11RTSSuccessCount:u32 dot11RTSFailureCount:u32 "
        "dot11ACKFailureCount:u32 dot11ReceivedFragmentCount:u32 dot11MulticastReceivedFrameCount:u32 dot11FCSErrorCount:u32 "
        "dot11TransmittedFrameCount:u32 dot11WEPUndecryptableCount:u32 dot11QoSDiscardedFragmentCount:u32 "
        "dot11AssociatedStationCount:u32 dot11QoSCFPollsReceivedCount:u32 dot11QoSCFPollsUnusedCount:u32 "
        "dot11QoSCFPollsUnusableCount:u32 dot11QoSCFPollsLostCount:u32",
    ),
    7: (
        "lag_port_stats",
        "dot3adAggPortActorSystemID:m dot3adAggPortPartnerOperSystemID:m dot3adAggPortAttachedAggID:u32 dot3adAggPortState:u32 "
        "dot3adAggPortStatsLACPDUsRx:u32 dot3adAggPortStatsMarkerPDUsRx:u32 dot3adAggPortStatsMarkerResponsePDUsRx:u32 "
        "dot3adAggPortStatsUnknownRx:u32 dot3adAggPortStatsIllegalRx:u32 dot3adAggPortStatsLACPDUsTx:u32 "
        "dot3adAggPortStatsMarkerPDUsTx:u32 dot3adAggPortStatsMarkerResponsePDUsTx:u32",
    ),
    10: (
        "sfp",
        "module_id:u32 module_total_lanes:u32 module_supply_voltage:u32 module_temperature:i32 lanes:lanes",
    ),
    1001: ("processor", "5s_cpu:u32 1m_cpu:u32 5m_cpu:u32 total_memory:u64 free_memory:u64"),
    1002: ("radio_utilization", "elapsed_time:u32 on_channel_time:u32 on_channel_busy_time:u32"),
    1004: ("of_port", "datapath_id:u64 port_no:u32"),
    1005: ("port_name", "name:s"),
    2000: ("host_descr", "hostname:s uuid:uuid machine_type:u32 os_name:u32 os_release:s"),
    2001: ("host_adapters", "adapters:adapters"),
    2002: ("host_parent", "container_type:u32 container_index:u32"),
    2003: (
        "host_cpu",
        "load_one:f load_five:f load_fifteen:f proc_run:u32 proc_total:u32 cpu_num:u32 cpu_speed:u32 uptime:u32 cpu_user:u32 "
        "cpu_nice:u32 cpu_system:u32 cpu_idle:u32 cpu_wio:u32 cpu_intr:u32 cpu_sintr:u32 interrupts:u32 contexts:u32 "
        "cpu_steal:u32 cpu_guest:u32 cpu_guest_nice:u32",
    ),
    2004: (
        "host_memory",
        "mem_total:u64 mem_free:u64 mem_shared:u64 mem_buffers:u64 mem_cached:u64 swap_total:u64 swap_free:u64 page_in:u32 "
        "page_out:u32 swap_in:u32 swap_out:u32",
    ),
    2005: (
        "host_disk_io",
        "disk_total:u64 disk_free:u64 part_max_used:u32 reads:u32 bytes_read:u64 read_time:u32 writes:u32 bytes_written:u64 "
        "write_time:u32",
    ),
    2006: ("host_net_io", _NIO),
    2100: ("virt_node", "mhz:u32 cpus:u32 memory:u64 memory_free:u64 num_domains:u32"),
    2101: ("virt_cpu", "state:u32 cpuTime:u32 nrVirtCpu:u32"),
    2102: ("virt_memory", "memory:u64 maxMemory:u64"),
    2103: (
        "virt_disk_io",
        "capacity:u64 allocation:u64 available:u64 rd_req:u32 rd_bytes:u64 wr_req:u32 wr_bytes:u64 errs:u32",
    ),
    2104: ("virt_net_io", _NIO),
}

# ICMP's codes for an unreachable destination (RFC 1812), then sFlow's own. The same numbers tell in a flow sample's output
# interface why the packet was discarded.
_ICMP_REASONS: Final = (
    "net_unreachable", "host_unreachable", "protocol_unreachable", "port_unreachable", "frag_needed", "src_route_failed",
    "dst_net_unknown", "dst_host_unknown", "src_host_isolated", "dst_net_prohibited", "dst_host_prohibited",
    "dst_net_tos_unreachable", "dst_host_tos_unreachable", "comm_admin_prohibited", "host_precedence_violation",
    "precedence_cutoff",
)  # fmt: skip
_OWN_REASONS: Final = (
    "unknown", "ttl_exceeded", "acl", "no_buffer_space", "red", "traffic_shaping", "pkt_too_big", "src_mac_is_multicast",
    "vlan_tag_mismatch", "ingress_vlan_filter", "ingress_spanning_tree_filter", "port_list_is_empty", "port_loopback_filter",
    "blackhole_route", "non_ip", "uc_dip_over_mc_dmac", "dip_is_loopback_address", "sip_is_mc", "sip_is_loopback_address",
    "ip_header_corrupted", "ipv4_sip_is_limited_bc", "ipv6_mc_dip_reserved_scope", "ipv6_mc_dip_interface_local_scope",
    "unresolved_neigh", "mc_reverse_path_forwarding", "non_routable_packet", "decap_error", "overlay_smac_is_mc", "unknown_l2",
    "unknown_l3", "unknown_l3_exception", "unknown_buffer", "unknown_tunnel", "unknown_l4", "sip_is_unspecified",
    "mlag_port_isolation", "blackhole_arp_neigh", "src_mac_is_dmac", "dmac_is_reserved", "sip_is_class_e", "mc_dmac_mismatch",
    "sip_is_dip", "dip_is_local_network", "dip_is_link_local", "overlay_smac_is_dmac", "egress_vlan_filter",
    "uc_reverse_path_forwarding", "split_horizon", "locked_port", "dmac_filter", "blackhole_nexthop", "vxlan_parsing",
    "llc_snap_parsing", "vlan_parsing", "pppoe_ppp_parsing", "mpls_parsing", "arp_parsing", "ip_1_parsing", "ip_n_parsing",
    "gre_parsing", "udp_parsing", "tcp_parsing", "ipsec_parsing", "sctp_parsing", "dccp_parsing", "gtp_parsing", "esp_parsing",
)  # fmt: skip
DROP_REASONS: Final = dict(enumerate(_ICMP_REASONS)) | dict(enumerate(_OWN_REASONS, 256))
"""Why a packet was discarded, by number ("sFlow Dropped Packet Notification Structures", drop_reason, and its later values)."""


def drop_reason(code: int) -> str:
    """Name of a reason, or its number as text."""
    return DROP_REASONS.get(code) or str(code)


class Structure(NamedTuple):
    """One structure. `layout` unpacks it whole where its length is fixed; `readers` take it field by field, by their `kinds`."""

    name: str
    fields: tuple[str, ...]
    kinds: tuple[str, ...]
    readers: tuple[Callable[[Reader], Value], ...]
    layout: Struct | None


def _text(reader: Reader) -> Value:
    return reader.opaque().rstrip(b"\0").decode("utf-8", "replace")


def _float(reader: Reader) -> Value:
    (value,) = reader.unpack(_FLOAT)
    return value if isfinite(value) else None


def _i32(reader: Reader) -> Value:
    return int.from_bytes(reader.take(4), "big", signed=True)


def _counter32(reader: Reader) -> Value:
    value = reader.u32()
    return None if value == 0xFFFF_FFFF else value


def _counter64(reader: Reader) -> Value:
    value = reader.u64()
    return None if value == 0xFFFF_FFFF_FFFF_FFFF else value


def _path(reader: Reader) -> Value:
    """An AS path: its segments, each a list of numbers; a set (of which the order means nothing) within an object."""
    segments: list[Value] = []
    for _ in range(_bounded(reader, 8)):
        kind = reader.u32()
        numbers: list[Value] = list(reader.numbers())
        segments.append({"set": numbers} if kind == 1 else numbers)
    return segments


def _lanes(reader: Reader) -> Value:
    return [dict(zip(LANE_FIELDS, reader.unpack(_LANE), strict=True)) for _ in range(_bounded(reader, _LANE.size))]


def _adapters(reader: Reader) -> Value:
    return [
        {"ifIndex": reader.u32(), "mac_address": [reader.mac() for _ in range(_bounded(reader, 8))]}
        for _ in range(_bounded(reader, 8))
    ]


def _bounded(reader: Reader, least: int) -> int:
    """A count, refused where things of `least` bytes each would not fit."""
    count = reader.u32()
    if count * least > reader.end - reader.at:
        raise SflowError(f"count {count} at offset {reader.at - 4} is more than its record can hold")
    return count


_FLOAT: Final = Struct(">f")
LANE_FIELDS: Final = (
    "index", "tx_bias_current", "tx_power", "tx_power_min", "tx_power_max", "tx_wavelength", "rx_power", "rx_power_min",
    "rx_power_max", "rx_wavelength",
)  # fmt: skip
"""Fields of one lane of an optical module, in the order of the wire: microamperes, microwatts and nanometres."""
_LANE: Final = Struct(">10I")

_READERS: Final[dict[str, Callable[[Reader], Value]]] = {
    "u32": Reader.u32,
    "u64": Reader.u64,
    "i32": _i32,
    "f": _float,
    "s": _text,
    "a": Reader.address,
    "4": lambda reader: inet_ntoa(reader.take(4)),
    "6": lambda reader: ipv6_text(reader.take(16)),
    "m": Reader.mac,
    "hex": lambda reader: reader.opaque().hex(),
    "uuid": lambda reader: reader.take(16).hex(),
    "list": lambda reader: list(reader.numbers()),
    "path": _path,
    "lanes": _lanes,
    "adapters": _adapters,
}
_COUNTER_READERS: Final = _READERS | {"u32": _counter32, "u64": _counter64}


def _structures(
    table: dict[int, tuple[str, str]], readers: dict[str, Callable[[Reader], Value]], *, counters: bool
) -> dict[int, Structure]:
    made = {}
    for number, (name, text) in table.items():
        pairs = [field.split(":") for field in text.split()]
        codes = [{"u32": "I", "u64": "Q"}.get(kind) for _, kind in pairs]
        # Counters may lack a value, so that they are read one by one.
        whole = None if counters or None in codes else Struct(">" + "".join(filter(None, codes)))
        fields, kinds = tuple(field for field, _ in pairs), tuple(kind for _, kind in pairs)
        made[number] = Structure(name, fields, kinds, tuple(readers[kind] for kind in kinds), whole)
    return made


FLOW_RECORDS: Final = _structures(_FLOW, _READERS, counters=False)
"""Structures of flow samples by their format of enterprise 0; the sampled header (1) is read by `weir.protocols.sflow.decode`."""

COUNTER_RECORDS: Final = _structures(_COUNTERS, _COUNTER_READERS, counters=True)
"""Structures of counter samples by their format of enterprise 0."""


def read_structure(table: dict[int, Structure], tag: int, data: bytes, at: int, end: int) -> tuple[str, Value]:
    """Name and fields of the structure of data format `tag` between two offsets.

    Fields that the structure ends before are left out, as later versions of one append some; bytes behind the known fields are
    passed over. What is unknown or does not keep to its form comes as hexadecimal under its data format, such as `0.1016`.
    """
    # Enterprise 0 alone has tags below 4096, which are then the format.
    structure = table.get(tag)
    if structure is None:
        return enterprise_format(tag), data[at:end].hex()
    layout = structure.layout
    if layout is not None and layout.size <= end - at:
        return structure.name, dict(zip(structure.fields, layout.unpack_from(data, at), strict=True))
    reader = Reader(data, at, end)
    values: dict[str, Value] = {}
    try:
        for field, read in zip(structure.fields, structure.readers, strict=True):
            if reader.at == end:
                break
            if (value := read(reader)) is not None:
                values[field] = value
    except SflowError:
        return enterprise_format(tag), data[at:end].hex()
    return structure.name, values
