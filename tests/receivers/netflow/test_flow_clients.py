"""Real exporters against the receiver of flows: softflowd (v5, v9, IPFIX over UDP and TCP) and nfreplay (v5, v9).

softflowd meters a capture that is made here, nfreplay sends what nfcapd has stored. Both come with Debian's packages softflowd and
nfdump; where they are not installed these tests are skipped and say so.
"""

from __future__ import annotations

import shutil
import socket
import struct
import subprocess
import time
from pathlib import Path

import pytest

from tests.receivers.harness import CORPUS, free_port
from tests.receivers.netflow.flow_support import HOST, AtWork, at_work, decoder_of
from tests.support import eventually
from weir.model.batch import RawBatch
from weir.model.sequences import merge
from weir.protocols.netflow import FlowError
from weir.protocols.netflow.encode import V5Datagram, V5Flow, encode_v5

FLOWS = 60


def needs(*programs: str) -> pytest.MarkDecorator:
    absent = [program for program in programs if shutil.which(program) is None]
    return pytest.mark.skipif(bool(absent), reason=f"not installed: {', '.join(absent)} (apt install softflowd nfdump)")


def capture(path: Path, flows: int) -> None:
    """A capture of so many UDP flows of one packet each, from 10.1.x.y to 10.2.0.1."""
    records = [struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65_535, 1)]
    for number in range(flows):
        payload = b"x" * 20
        udp = struct.pack(">HHHH", 40_000 + number, 53, 8 + len(payload), 0) + payload
        source = bytes([10, 1, number // 250, number % 250 + 1])
        head = struct.pack(">BBHHHBBH4s4s", 0x45, 0, 20 + len(udp), number, 0, 64, 17, 0, source, bytes([10, 2, 0, 1]))
        frame = b"\2\0\0\0\0\1" + b"\2\0\0\0\0\2" + b"\x08\x00" + head + udp
        records.append(struct.pack("<IIII", 1_790_000_000 + number // 10, number, len(frame), len(frame)) + frame)
    path.write_bytes(b"".join(records))


def sources_of(batches: list[RawBatch]) -> list[str]:
    """Source address of every flow, from the batches alone; nothing may be left undecoded."""
    found: list[str] = []
    for batch in batches:
        assert batch.without_template == []
        decoder = decoder_of(batch)
        for unit in batch.units:
            result = decoder.decode(unit)
            assert result.complete, (result.errors, result.unknown_templates)
            found += [str(flow["source_ip"]) for flow in result.flows]
    return found


def missing(work: AtWork) -> int:
    assert work.run.stop() == 0
    return sum(loss.missing for loss in merge(work.sequences()))


@needs("softflowd")
@pytest.mark.parametrize(("version", "over"), [("5", "udp"), ("9", "udp"), ("10", "udp"), ("10", "tcp")])
def test_softflowd(version: str, over: str, tmp_path: Path) -> None:
    capture(tmp_path / "flows.pcap", FLOWS)
    with at_work(netflow_port=0, ipfix_tcp_port=0) as work:
        port = work.receiver.ports["netflow" if over == "udp" else "ipfix-tcp"]
        # Names of more than 15 characters hang it: it takes them for an interface's.
        command = ["softflowd", "-d", "-r", "flows.pcap", "-v", version, "-n", f"{HOST}:{port}", "-P", over]
        command += ["-p", "pid", "-c", "ctl"]
        subprocess.run(command, check=True, timeout=60, capture_output=True, cwd=tmp_path)
        eventually(lambda: len(sources_of(work.batches())) >= FLOWS)
        assert len(set(sources_of(work.batches()))) == FLOWS
        assert {b.transport for b in work.batches()} == {over}
        assert missing(work) == 0
        assert work.restarts == []


def waiting(port: int) -> int | None:
    """Bytes that wait in the socket bound to a UDP port of this machine; None where there is none."""
    for line in Path("/proc/net/udp").read_text().splitlines()[1:]:
        fields = line.split()
        if int(fields[1].rpartition(":")[2], 16) == port:
            return int(fields[4].partition(":")[2], 16)
    return None


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of nfcapd with FLOWS flows."""
    folder = tmp_path_factory.mktemp("nfcapd")
    port = free_port(socket.SOCK_DGRAM)
    collector = subprocess.Popen(
        ["nfcapd", "-b", HOST, "-p", str(port), "-w", str(folder)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        flows = [
            V5Flow(f"10.1.0.{n + 1}", "10.2.0.1", 1_000 + n, 53, 17, octets=100 + n, first=1_000, last=2_000) for n in range(FLOWS)
        ]

        eventually(lambda: waiting(port) is not None)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            for first in range(0, FLOWS, 20):
                datagram = V5Datagram(flows[first : first + 20], int(time.time()), uptime=5_000, sequence=first)
                sock.sendto(encode_v5(datagram), (HOST, port))
        eventually(lambda: waiting(port) == 0)
        collector.terminate()
        collector.wait(30)
    finally:
        if collector.poll() is None:
            collector.kill()
            collector.wait(10)
    return next(path for path in sorted(folder.iterdir()) if path.name.startswith("nfcapd.") and "current" not in path.name)


@needs("nfcapd", "nfreplay")
@pytest.mark.parametrize("version", ["5", "9"])
def test_nfreplay(version: str, stored: Path) -> None:
    with at_work(netflow_port=0) as work:
        command = ["nfreplay", "-H", HOST, "-p", str(work.receiver.port), "-v", version, "-r", str(stored)]
        subprocess.run(command, check=True, timeout=60, capture_output=True)
        eventually(lambda: len(sources_of(work.batches())) >= FLOWS)
        assert len(set(sources_of(work.batches()))) == FLOWS
        assert missing(work) == 0


@pytest.mark.skipif(not (CORPUS / "netflow" / "codec-netflow").is_dir(), reason=f"no corpus at {CORPUS}")
def test_recorded_datagrams_of_many_vendors() -> None:
    """Sent as the vendors' files are, each from an address of its own; whatever has its template somewhere decodes."""
    files = sorted((CORPUS / "netflow" / "codec-netflow").glob("*.dat"))
    sent = [path.read_bytes() for path in files]
    sent = [datagram for datagram in sent if 0 < len(datagram) < 9_000]
    with at_work(netflow_port=0, netflow_hold_seconds=0.5) as work:
        work.send("netflow", *sent)
        batches = work.wait_for(len(sent))
        assert sorted(work.units()) == sorted(sent)
        complete = 0
        for batch in batches:
            decoder = decoder_of(batch)
            for place, unit in enumerate(batch.units):
                try:
                    result = decoder.decode(unit)
                except FlowError:
                    continue
                assert bool(result.unknown_templates) == (place in batch.without_template)
                complete += result.complete
        assert complete > len(sent) // 2
