"""Recorded sFlow against what tcpdump prints of it, line by line, and datagrams of goflow's tests, where the corpus is there."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from random import Random
from struct import unpack_from
from typing import Any

import pytest

from weir.protocols import sflow

CORPUS = Path(os.environ.get("WEIR_CORPUS", Path(__file__).parents[4] / "shared" / "corpus"))
TCPDUMP = CORPUS / "sflow" / "tcpdump"
GOFLOW = CORPUS / "netflow" / "goflow" / "vectors.json"

pytestmark = pytest.mark.skipif(not TCPDUMP.is_dir(), reason=f"no corpus at {TCPDUMP} (set WEIR_CORPUS)")


def payloads(path: Path) -> Iterator[bytes]:
    """UDP payloads of a capture of Ethernet, or of bare IP."""
    data = path.read_bytes()
    order = "<" if data[:4] in (b"\xd4\xc3\xb2\xa1", b"\x4d\x3c\xb2\xa1") else ">"
    (link,) = unpack_from(order + "I", data, 20)
    at = 24
    while at < len(data):
        (length,) = unpack_from(order + "I", data, at + 8)
        frame = data[at + 16 : at + 16 + length]
        ip = frame[14:] if link == 1 else frame
        yield ip[48:] if ip[0] >> 4 == 6 else ip[(ip[0] & 15) * 4 + 8 :]
        at += 16 + length


def datagrams() -> list[tuple[str, bytes]]:
    found = [
        (f"{path.name}-{number}", data) for path in sorted(TCPDUMP.glob("*.pcap")) for number, data in enumerate(payloads(path))
    ]
    if GOFLOW.is_file():
        found += [
            (f"goflow-{one['test']}", bytes.fromhex(one["hex"])) for one in json.loads(GOFLOW.read_text()) if "SFlow" in one["test"]
        ]
    return found


def expected(path: Path) -> list[str]:
    """tcpdump's lines without its own about IP and UDP."""
    lines = []
    for line in path.read_text().splitlines():
        if "sFlowv5" in line:
            lines.append(line[line.index("sFlowv5") :])
        elif line.startswith("\t") or line.startswith("      "):
            lines.append(line.strip())
    return lines


def printed(data: bytes) -> list[str]:
    """What tcpdump would print of what we decode."""
    result = sflow.decode(data)
    assert result.errors == []
    head = result.header
    family = 6 if ":" in (head.agent or "") else 4
    lines = [
        f"sFlowv5, IPv{family} agent {head.agent}, agent-id {head.sub_agent}, seqnum {head.sequence}, "
        f"uptime {head.uptime}, samples {head.samples}, length {len(data)}"
    ]
    lengths = structures(data, head)
    for sample in result.samples:
        tag, length, records = next(lengths)
        kind, index = sample.source if not isinstance(sample, sflow.OtherSample) else (0, 0)
        name = {1: "flow", 2: "counter", 3: "expanded flow"}[tag]
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
            lines += record_lines(sample, number, size)
    return lines


def structures(data: bytes, head: sflow.Header) -> Iterator[tuple[int, int, list[tuple[int, int]]]]:
    """Format and length of each sample and of its records, read by other means than the decoder's."""
    at = head.start
    for _ in range(head.samples):
        tag, length = unpack_from(">II", data, at)
        inner, end = at + 8 + {1: 32, 2: 12, 3: 44}[tag], at + 8 + length
        records = []
        while inner < end:
            number, size = unpack_from(">II", data, inner)
            records.append((number, size))
            inner += 8 + size
        yield tag, length, records
        at = end


def record_lines(sample: sflow.Sample, number: int, size: int) -> list[str]:
    if isinstance(sample, sflow.CounterSample):
        names: dict[int, tuple[str, str]] = {1: ("if_counters", "Generic counter"), 2: ("ethernet_counters", "Ethernet counter")}
        name, title = names[number]
        values: Any = sample.records[name]
        return [f"enterprise 0, {title} ({number}) length {size}", *(generic if number == 1 else errors)(list(values.values()))]
    assert isinstance(sample, sflow.FlowSample)
    titles = {1: "Raw packet", 1001: "Extended Switch data", 1002: "Extended Router data", 1003: "Extended Gateway data"}
    lines = [f"enterprise 0 {titles[number]} ({number}) length {size}"]
    if number == 1:
        assert sample.header is not None
        header = sample.header
        lines.append(
            f"protocol Ethernet ({header.protocol}), length {header.frame_length}, stripped bytes {header.stripped}, "
            f"header_size {len(header.header)}"
        )
    elif number == 1001:
        switch: Any = sample.records["extended_switch"]
        lines.append("src vlan {}, src pri {}, dst vlan {}, dst pri {}".format(*switch.values()))
    return lines


def generic(v: list[int]) -> list[str]:
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


def errors(v: list[int]) -> list[str]:
    return [
        f"align errors {v[0]}, fcs errors {v[1]}, single collision {v[2]}, multiple collision {v[3]}, test error {v[4]}",
        f"deferred {v[5]}, late collision {v[6]}, excessive collision {v[7]}, mac trans error {v[8]}",
        f"carrier error {v[9]}, frames too long {v[10]}, mac receive errors {v[11]}, symbol errors {v[12]}",
    ]


@pytest.mark.parametrize("name", ["sflow-print-v6", "sflow_expanded"])
def test_every_line_that_tcpdump_prints_is_what_we_decode(name: str) -> None:
    found = [line for data in payloads(TCPDUMP / f"{name}.pcap") for line in printed(data)]
    assert found == expected(TCPDUMP / f"{name}.out")


def test_the_packet_in_an_expanded_sample_is_read() -> None:
    """tcpdump stops at the sampled header: what is in it was read off the bytes by hand."""
    (data,) = payloads(TCPDUMP / "sflow_expanded.pcap")
    (sample,) = sflow.decode(data).samples
    assert isinstance(sample, sflow.FlowSample)
    assert sample.header is not None
    assert sample.header.packet is not None
    assert sample.header.packet.version == 4
    assert set(sample.records) == {"extended_gateway", "extended_router"}


def test_the_datagrams_of_goflow_give_what_its_tests_expect() -> None:
    found = {name: sflow.decode(data) for name, data in datagrams() if name.startswith("goflow")}
    if not found:
        pytest.skip(f"no vectors at {GOFLOW}")
    assert all(result.errors == [] for result in found.values())
    # The datagram of five samples comes in a buffer of 1,500 bytes: what is behind them is left over from other use.
    assert {name.removeprefix("goflow-Test"): len(result.samples) for name, result in found.items()} == {
        "SFlowDecode": 1,
        "ExpandedSFlowDecode": 5,
        "SFlowDecodeDropEgressQueue": 1,
        "SFlowDecodeDropExtendedACL": 1,
        "SFlowDecodeDropExtendedFunction": 1,
    }
    first = found["goflow-TestSFlowDecodeDropExtendedACL"].samples[0]
    assert isinstance(first, sflow.FlowSample)
    assert (first.drops, first.input.if_index, first.output.if_index, first.reason) == (256, 1, 2, 1)
    assert first.records == {"extended_acl": {"number": 42, "name": "foo!", "direction": 2}}
    # Its one string ends without the padding that XDR asks for.
    second = found["goflow-TestSFlowDecodeDropExtendedFunction"].samples[0]
    assert isinstance(second, sflow.FlowSample)
    assert second.records == {"extended_function": {"symbol": "foobar"}}


def test_changed_recordings_never_crash_the_decoder() -> None:
    chance = Random(4)
    for _, data in datagrams():
        for _ in range(60):
            changed = bytearray(data)
            for _ in range(chance.randint(1, 6)):
                changed[chance.randrange(len(changed))] = chance.choice((0, 1, 5, 0x7F, 0x80, 0xFF, chance.randrange(256)))
            try:
                result = sflow.decode(
                    bytes(changed[: chance.randint(0, len(changed))]) if chance.random() < 0.3 else bytes(changed)
                )
            except sflow.SflowError:
                continue
            assert len(result.samples) <= len(data) // 8
