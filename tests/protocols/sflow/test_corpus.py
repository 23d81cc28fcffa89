"""Recorded sFlow against what tcpdump prints of it, line by line, and datagrams of goflow's tests, where the corpus is there."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from random import Random
from struct import unpack_from

import pytest

from tests.protocols.sflow.as_tcpdump import expected, printed
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


@pytest.mark.parametrize("name", ["sflow-print-v6", "sflow_expanded"])
def test_every_line_that_tcpdump_prints_is_what_we_decode(name: str) -> None:
    found = [line for data in payloads(TCPDUMP / f"{name}.pcap") for line in printed(data)]
    assert found == expected((TCPDUMP / f"{name}.out").read_text())


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
