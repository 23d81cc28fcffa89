"""The loss curve: arithmetic, the sender, and one short real measurement in which every datagram is accounted for."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient

from weir.local.bench.udp import Plan, Step, kernel_counts, payloads, run_bench, send_step
from weir.local.errors import LocalError
from weir.local.generate import stamp

pytestmark = pytest.mark.skipif(not Path("/proc/net/udp").exists(), reason="only Linux tells what its sockets dropped")


def step(**values: object) -> Step:
    base = {
        "rate": 1000, "achieved": 1000.0, "sent": 100, "received": 90, "repeated": 0, "kernel_drops": 7, "receiver_drops": 3,
        "cpu_seconds": 0.009, "seconds": 0.1,
    }  # fmt: skip
    return Step(**(base | values))  # type: ignore[arg-type]


def test_what_is_received_or_counted_as_dropped_is_explained() -> None:
    assert step().ok
    assert step().loss == pytest.approx(0.1)
    assert step().cpu_us == pytest.approx(100)
    assert step(kernel_drops=6).unexplained == 1
    assert not step(kernel_drops=6).ok
    assert not step(kernel_drops=8).ok
    assert step(cpu_seconds=None).cpu_us is None


@pytest.mark.parametrize("size", [120, 300, 1400])
def test_payloads_have_the_size_asked_for_and_differ(size: int) -> None:
    made = payloads(size)
    assert {len(head) + stamp.TEXT_LENGTH + len(tail) for head, tail in made} == {size}
    assert len(set(made)) == len(made)


def test_the_kernel_is_asked_what_it_dropped_and_what_waits() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as full, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        full.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        full.bind(("127.0.0.1", 0))
        port = full.getsockname()[1]
        assert kernel_counts(port) == (0, 0)
        sender.connect(full.getsockname())
        amounts, _ = send_step([sender], payloads(300), 5, 1e6, 500)
        waiting, drops = kernel_counts(port)
        assert waiting > 0
        full.setblocking(False)
        received = []
        while True:
            try:
                received.append(full.recv(2000))
            except BlockingIOError:
                break
        assert amounts == [500]
        assert len(received) + drops == 500
        assert [stamp.in_text(one).stamps[0].sequence for one in received] == list(range(len(received)))


def test_another_machine_is_no_target() -> None:
    with pytest.raises(LocalError, match="not on this machine"):
        run_bench(Plan((1000,), 1.0, 300, target="192.0.2.1:514"), lambda _: None)


def test_a_real_receiver_accounts_for_every_datagram_and_leaves_no_topics(kafka: str) -> None:
    said: list[str] = []
    steps = run_bench(Plan((3000, 8000), 0.5, 300, sources=3, bootstrap=kafka), said.append)
    assert [one.sent for one in steps] == [1500, 4000]
    assert all(one.ok for one in steps), [one.record() for one in steps]
    assert all(one.received > 0 and one.cpu_seconds is not None for one in steps)
    mine = f"weir-bench-{os.getpid()}."
    assert not [name for name in AdminClient({"bootstrap.servers": kafka}).list_topics(timeout=10).topics if name.startswith(mine)]
