"""Recorded sFlow, and datagrams of goflow's tests, where the corpus is there; tcpdump's lines are compared by the conformance."""

from __future__ import annotations

import json
import os
from pathlib import Path
from random import Random

import pytest

from weir.protocols import sflow
from weir.tools.conformance.captures import udp_payloads

CORPUS = Path(os.environ.get("WEIR_CORPUS", Path(__file__).parents[4] / "shared" / "corpus"))
TCPDUMP = CORPUS / "sflow" / "tcpdump"
GOFLOW = CORPUS / "netflow" / "goflow" / "vectors.json"

pytestmark = pytest.mark.skipif(not TCPDUMP.is_dir(), reason=f"no corpus at {TCPDUMP} (set WEIR_CORPUS)")


def datagrams() -> list[tuple[str, bytes]]:
    found = [
        (f"{path.name}-{number}", one.data)
        for path in sorted(TCPDUMP.glob("*.pcap"))
        for number, one in enumerate(udp_payloads(path))
    ]
    if GOFLOW.is_file():
        found += [
            (f"goflow-{one['test']}", bytes.fromhex(one["hex"])) for one in json.loads(GOFLOW.read_text()) if "SFlow" in one["test"]
        ]
    return found


def test_the_packet_in_an_expanded_sample_is_read() -> None:
    """tcpdump stops at the sampled header: what is in it was read off the bytes by hand."""
    (found,) = udp_payloads(TCPDUMP / "sflow_expanded.pcap")
    (sample,) = sflow.decode(found.data).samples
    assert isinstance(sample, sflow.FlowSample)
    assert sample.header is not None
    assert sample.header.packet is not None
    assert sample.header.packet.version == 4
    assert set(sample.records) == {"extended_gateway", "extended_router"}


def test_the_datagrams_of_goflow_give_what_its_tests_expect() -> None:
    found = {name: sflow.decode(data) for name, data in datagrams() if name.startswith("goflow")}
    if not found:
        pytest.skip(f"no vectors at {GOFLOW}")
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
