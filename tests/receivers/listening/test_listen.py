"""Who counts for which limit before a protocol has begun."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from typing import Any

import pytest
import uvloop

from weir.receivers.listening import listener as listen
from weir.receivers.listening.limits import ConnectionLimits
from weir.receivers.listening.listener import Admission, Listener, Port, policy
from weir.receivers.publishing.counts import ReceiverMetrics

HOST = "127.0.0.1"


class Metrics(ReceiverMetrics):
    """Remembers what was refused."""

    def __init__(self) -> None:
        super().__init__("receive.test")
        self.reasons: list[str] = []

    def refused(self, reason: str) -> None:
        self.reasons.append(reason)
        super().refused(reason)


def run(work: Callable[[Listener, ConnectionLimits, Metrics], Awaitable[None]], *, per_source: int = 0, **values: Any) -> None:
    """Run `work` with a listener on a free port."""

    async def main() -> None:
        limits, metrics = ConnectionLimits(100, per_source, 0, asyncio.get_running_loop().time), Metrics()
        port = Port("TEST", HOST, 0, 16, None, 0.3, "", "", refuse_crowded=True, **values)

        class Protocol(asyncio.Protocol):
            def __init__(self, admission: Admission) -> None:
                self._admission = admission

            def connection_lost(self, exc: Exception | None) -> None:
                self._admission.leave()

        listener = Listener(port, limits, Protocol, metrics, "receive.test")
        listener.start(100)
        try:
            async with asyncio.timeout(10):
                await work(listener, limits, metrics)
        finally:
            await listener.stop()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())


async def until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110 - any condition, not one that sets an event
        await asyncio.sleep(0.001)


async def connect(stack: AsyncExitStack, listener: Listener) -> asyncio.StreamReader:
    reader, writer = await asyncio.open_connection(HOST, listener.port)
    stack.callback(writer.close)
    return reader


def test_who_may_not_send_a_proxy_header_counts_for_its_source_before_it_says_anything() -> None:
    async def work(listener: Listener, limits: ConnectionLimits, metrics: Metrics) -> None:
        async with AsyncExitStack() as stack:
            readers = [await connect(stack, listener) for _ in range(4)]
            # Two are closed at once; the other two stay, silent.
            done, silent = await asyncio.wait([asyncio.create_task(reader.read(1)) for reader in readers], timeout=0.5)
            assert (len(done), len(silent)) == (2, 2)
            assert metrics.reasons == ["too many connections of the source"] * 2
            for task in silent:
                task.cancel()

    run(work, per_source=2, proxy=policy("optional", "192.0.2.0/24"))


def test_the_beginning_of_a_header_does_not_wait_for_ever() -> None:
    async def work(listener: Listener, limits: ConnectionLimits, metrics: Metrics) -> None:
        reader, writer = await asyncio.open_connection(HOST, listener.port)
        writer.write(b"PROX")
        with suppress(ConnectionResetError):  # what it sent was never read
            assert await reader.read(1) == b""
        assert metrics.reasons == ["silent at first"]
        await until(lambda: limits.open == 0)
        writer.close()

    run(work, proxy=policy("optional", "192.0.2.0/24"))


def test_no_more_connections_are_taken_than_files_can_be_open(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listen, "raise_file_limit", lambda wanted: 64)

    async def work(listener: Listener, limits: ConnectionLimits, metrics: Metrics) -> None:
        assert limits.most == 32
        with socket.create_connection((HOST, listener.port), timeout=5):
            await until(lambda: limits.open == 1)

    run(work)
