"""Reading datagrams and the kernel's count of those it dropped."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import uvloop

from weir.receivers.listening.udp import DatagramReader, KernelDrops, open_udp, plain_address


class Log:
    def __init__(self) -> None:
        self.warnings: list[dict[str, Any]] = []

    def warning(self, event: str, **values: Any) -> None:
        self.warnings.append({"event": event, **values})


def in_loop(main: Callable[[], Awaitable[None]]) -> None:
    async def run() -> None:
        await main()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run())


async def until(condition: Callable[[], object], seconds: float = 10.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.005)


def small_socket() -> socket.socket:
    return open_udp("127.0.0.1", 0, 65_536, Log())


def flood(port: int, count: int, size: int = 300) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.connect(("127.0.0.1", port))
        for _ in range(count):
            sender.send(b"x" * size)


def listed_drops(port: int) -> int:
    """The last column of the line of the socket with this port."""
    lines = Path("/proc/net/udp").read_text().splitlines()
    (line,) = [line for line in lines if line.split()[1].endswith(f":{port:04X}")]
    return int(line.split()[-1])


def test_datagrams_come_one_by_one_or_by_wake_up() -> None:
    async def main() -> None:
        one: list[tuple[bytes, str, int]] = []
        many: list[tuple[bytes, Any]] = []
        single = DatagramReader(small_socket(), lambda *datagram: one.append(datagram))
        bulk = DatagramReader(small_socket(), take_all=many.extend)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.bind(("127.0.0.1", 0))
            for reader in (single, bulk):
                for unit in (b"a", b"", b"c"):
                    sender.sendto(unit, ("127.0.0.1", reader.port))
            me = sender.getsockname()
            await until(lambda: len(one) == len(many) == 3)
        assert one == [(unit, *me) for unit in (b"a", b"", b"c")]
        assert many == [(unit, me) for unit in (b"a", b"", b"c")]
        single.close()
        bulk.close()

    in_loop(main)


def test_what_the_kernel_holds_is_taken_at_the_end() -> None:
    async def main() -> None:
        taken: list[tuple[bytes, Any]] = []
        reader = DatagramReader(small_socket(), take_all=taken.extend)
        flood(reader.port, 50)
        reader.close()
        assert len(taken) == 50

    in_loop(main)


def test_received_and_dropped_are_all_that_was_sent() -> None:
    """The kernel's counter, against what was sent into a small buffer and against /proc/net/udp."""

    async def main() -> None:
        taken: list[tuple[bytes, Any]] = []
        told: list[tuple[str, int]] = []
        reader = DatagramReader(small_socket(), take_all=taken.extend)
        drops = KernelDrops(reader, "receive.test", f"udp:{reader.port}", lambda source, units: told.append((source, units)))
        for _ in range(3):
            flood(reader.port, 2_000)
            assert reader.drops > 0, "the loop has not read meanwhile, so the buffer must have overflowed"
            assert reader.drops == listed_drops(reader.port)
            drops.poll()
            await asyncio.sleep(0)
        flood(reader.port, 2_000)
        reader.close()
        drops.close()
        assert {source for source, _ in told} == {f"kernel:udp:{reader.port}"}
        assert len(taken) + sum(units for _, units in told) == 8_000
        assert sum(units for _, units in told) == reader.drops

    in_loop(main)


def test_a_buffer_smaller_than_asked_for_is_said() -> None:
    log = Log()
    open_udp("127.0.0.1", 0, 1024**3, log).close()
    (warning,) = log.warnings
    assert warning["granted"] < warning["wanted"]


def test_processes_can_share_a_port() -> None:
    first = open_udp("127.0.0.1", 0, 65_536, Log(), reuse_port=True)
    port = first.getsockname()[1]
    second = open_udp("127.0.0.1", port, 65_536, Log(), reuse_port=True)
    with pytest.raises(OSError, match=f"UDP 127.0.0.1 port {port}"):
        open_udp("127.0.0.1", port, 65_536, Log())
    first.close()
    second.close()


@pytest.mark.parametrize(
    ("given", "plain"), [("::ffff:192.0.2.1", "192.0.2.1"), ("fe80::1%eth0", "fe80::1"), ("2001:db8::1", "2001:db8::1")]
)
def test_addresses_are_plain_text(given: str, plain: str) -> None:
    assert plain_address(given) == plain
