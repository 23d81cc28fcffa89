"""What tcpdump -v prints of sFlow, made of what we decode: the two must agree line by line."""

from __future__ import annotations

from collections.abc import Iterator
from struct import unpack_from
from typing import Any

from weir.protocols import sflow
from weir.protocols.sflow.structures import COUNTER_RECORDS

__all__ = ["expected", "printed"]


def expected(text: str) -> list[str]:
    """tcpdump's lines without its own about IP and UDP."""
    lines = []
    for line in text.splitlines():
        if "sFlowv5" in line:
            lines.append(line[line.index("sFlowv5") :])
        elif line.startswith("\t") or line.startswith("      "):
            lines.append(line.strip())
    return lines


def printed(data: bytes) -> list[str]:
    """What tcpdump would print of what we decode.

    Raises ValueError (SflowError where it is none, KeyError for a structure that tcpdump has no form for) where that is not all.
    """
    result = sflow.decode(data)
    if result.errors:
        raise ValueError("; ".join(result.errors))
    head = result.header
    family = 6 if ":" in (head.agent or "") else 4
    lines = [
        f"sFlowv5, IPv{family} agent {head.agent}, agent-id {head.sub_agent}, seqnum {head.sequence}, "
        f"uptime {head.uptime}, samples {head.samples}, length {len(data)}"
    ]
    lengths = _structures(data, head)
    for sample in result.samples:
        tag, length, records = next(lengths)
        kind, index = sample.source if not isinstance(sample, sflow.OtherSample) else (0, 0)
        name = {1: "flow", 2: "counter", 3: "expanded flow", 4: "expanded counter"}[tag]
        line = f"{name} sample ({tag}), length {length}, seqnum {getattr(sample, 'sequence', 0)}, type {kind}, idx {index}, "
        if isinstance(sample, sflow.FlowSample):
            line += f"rate {sample.rate}, pool {sample.pool}, drops {sample.drops}, "
            ways = [sample.input, sample.output]
            if tag == 3:
                line += f"input {ways[0].value} ({ways[0].kind}), output {ways[1].value} ({ways[1].kind}), "
            else:
                line += f"input {ways[0].kind << 30 | ways[0].value} output {ways[1].kind << 30 | ways[1].value} "
        lines.append(f"{line}records {len(records)}")
        for number, size in records:
            lines += _record_lines(sample, number, size)
    return lines


def _structures(data: bytes, head: sflow.Header) -> Iterator[tuple[int, int, list[tuple[int, int]]]]:
    """Format and length of each sample and of its records, read by other means than the decoder's."""
    at = head.start
    for _ in range(head.samples):
        tag, length = unpack_from(">II", data, at)
        inner, end = at + 8 + {1: 32, 2: 12, 3: 44, 4: 16}[tag], at + 8 + length
        records = []
        while inner < end:
            number, size = unpack_from(">II", data, inner)
            records.append((number, size))
            inner += 8 + size
        yield tag, length, records
        at = end


def _record_lines(sample: sflow.Sample, number: int, size: int) -> list[str]:
    if isinstance(sample, sflow.CounterSample):
        names: dict[int, tuple[str, str]] = {1: ("if_counters", "Generic counter"), 2: ("ethernet_counters", "Ethernet counter")}
        name, title = names[number]
        values: Any = sample.records[name]
        # A counter that is not maintained is all ones on the wire, and absent in what we decode.
        lines = (_generic if number == 1 else _errors)([values.get(field, 0xFFFF_FFFF) for field in COUNTER_RECORDS[number].fields])
        return [f"enterprise 0, {title} ({number}) length {size}", *lines]
    header = sample.header if isinstance(sample, sflow.FlowSample) else None
    if header is None or not isinstance(sample, sflow.FlowSample):
        raise ValueError("no sampled header was read")
    titles = {1: "Raw packet", 1001: "Extended Switch data", 1002: "Extended Router data", 1003: "Extended Gateway data"}
    lines = [f"enterprise 0 {titles[number]} ({number}) length {size}"]
    if number == 1:
        lines.append(
            f"protocol Ethernet ({header.protocol}), length {header.frame_length}, stripped bytes {header.stripped}, "
            f"header_size {len(header.header)}"
        )
    elif number == 1001:
        switch: Any = sample.records["extended_switch"]
        lines.append("src vlan {}, src pri {}, dst vlan {}, dst pri {}".format(*switch.values()))
    return lines


def _generic(v: list[int]) -> list[str]:
    direction = {1: "full-duplex"}[v[3]]
    up = ("down", "up")
    return [
        f"ifindex {v[0]}, iftype {v[1]}, ifspeed {v[2]}, ifdirection {v[3]} ({direction})",
        f"ifstatus {v[4]}, adminstatus: {up[v[4] & 1]}, operstatus: {up[v[4] >> 1 & 1]}",
        f"In octets {v[5]}, unicast pkts {v[6]}, multicast pkts {v[7]}, broadcast pkts {v[8]}, discards {v[9]}",
        f"In errors {v[10]}, unknown protos {v[11]}",
        f"Out octets {v[12]}, unicast pkts {v[13]}, multicast pkts {v[14]}, broadcast pkts {v[15]}, discards {v[16]}",
        f"Out errors {v[17]}, promisc mode {v[18]}",
    ]


def _errors(v: list[int]) -> list[str]:
    return [
        f"align errors {v[0]}, fcs errors {v[1]}, single collision {v[2]}, multiple collision {v[3]}, test error {v[4]}",
        f"deferred {v[5]}, late collision {v[6]}, excessive collision {v[7]}, mac trans error {v[8]}",
        f"carrier error {v[9]}, frames too long {v[10]}, mac receive errors {v[11]}, symbol errors {v[12]}",
    ]
