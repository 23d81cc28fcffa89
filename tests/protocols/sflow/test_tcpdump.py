"""Another's reading of what we write: the generator's datagrams as tcpdump prints them, where it is installed."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from struct import pack

import pytest

from weir.local.generate.packets import ipv4, udp
from weir.local.generate.sflow import SampledFlows, SflowAgent
from weir.protocols import sflow
from weir.tools.conformance.as_tcpdump import expected, printed

NOW_US = 1_790_000_000_000_000
RAW_IP = 101
"""Link type of a capture of bare IP packets."""

TCPDUMP = shutil.which("tcpdump")


@pytest.mark.skipif(TCPDUMP is None, reason="tcpdump is not installed")
def test_tcpdump_reads_our_datagrams_as_we_do(tmp_path: Path) -> None:
    maker = SampledFlows(1, 2)
    datagrams = [maker.unit(source, first, 6, NOW_US) for first in range(0, 60, 6) for source in range(3)]
    for agent in (SflowAgent(1, "a"), SflowAgent(2, "b", agent="2001:db8::1", expanded=True)):
        datagrams += [agent.next(NOW_US + second * 1_000_000).data for second in range(24)]
    datagrams = [data for data in datagrams if all(known(sample) for sample in sflow.decode(data).samples)]
    assert len(datagrams) > 35
    capture = tmp_path / "sflow.pcap"
    with capture.open("wb") as file:
        file.write(pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, RAW_IP))
        for data in datagrams:
            packet = ipv4("192.0.2.1", "192.0.2.2", 17, udp(40000, 6343, data))
            file.write(pack("<IIII", 1, 0, len(packet), len(packet)) + packet)
    run = subprocess.run([str(TCPDUMP), "-nvvr", str(capture)], capture_output=True, text=True, check=True, timeout=30)
    assert plain(expected(run.stdout)) == plain([line for data in datagrams for line in printed(data)])


def known(sample: sflow.Sample) -> bool:
    """tcpdump does not know discarded packets."""
    return isinstance(sample, sflow.CounterSample) or (isinstance(sample, sflow.FlowSample) and sample.reason is None)


def plain(lines: list[str]) -> list[str]:
    """Lines without the interfaces of expanded samples, which tcpdump prints only since some release."""
    return [re.sub(r"input \d+ \(\d\), output \d+ \(\d\), ", "", line) for line in lines]
