"""Datagrams that wait for their template: a bounded queue in order of arrival, let go when the time is over or it is full."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from weir.receivers.publishing.batching import Source

__all__ = ["Held", "Hold", "Waiter"]


class Waiter(Protocol):
    """Whose datagrams wait, such as an exporter."""

    held: dict[Held, None]


class Held:
    """A datagram whose template is not known yet."""

    __slots__ = ("data", "deadline", "port", "received_at", "source", "waiter")

    def __init__(self, waiter: Waiter, source: Source, data: bytes, port: int, received_at: int, deadline: float) -> None:
        self.waiter = waiter
        self.source = source
        self.data = data
        self.port = port
        self.received_at = received_at
        self.deadline = deadline


class Hold:
    """What waits, over all exporters.

    Args:
        seconds: how long a datagram waits; 0 holds nothing.
        datagrams, size: how many and how many bytes of them wait at most; the oldest are let go first.
        release: takes what is let go.
        changed: called with 1 and -1 as datagrams come and go.
    """

    def __init__(
        self, seconds: float, datagrams: int, size: int, release: Callable[[Held], None], changed: Callable[[int], None]
    ) -> None:
        self._seconds = seconds
        self._datagrams = datagrams
        self._size = size
        self._release = release
        self._changed = changed
        self._loop = asyncio.get_running_loop()
        self._held: dict[Held, None] = {}
        self._bytes = 0
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._held)

    def add(self, waiter: Waiter, source: Source, data: bytes, port: int, received_at: int) -> bool:
        """Keep a datagram; False where nothing is held at all."""
        if not self._seconds:
            return False
        held = Held(waiter, source, data, port, received_at, self._loop.time() + self._seconds)
        self._held[held] = waiter.held[held] = None
        self._bytes += len(data)
        self._changed(1)
        while len(self._held) > self._datagrams or self._bytes > self._size:
            self.let_go(next(iter(self._held)))
        if self._timer is None:
            self._timer = self._loop.call_later(self._seconds, self._over)
        return True

    def let_go(self, held: Held) -> None:
        """Release one, unless it has been released before."""
        if held in self._held:
            del self._held[held], held.waiter.held[held]
            self._bytes -= len(held.data)
            self._changed(-1)
            self._release(held)

    def let_go_of(self, waiter: Waiter) -> None:
        """Release all of one exporter."""
        for held in list(waiter.held):
            self.let_go(held)

    def close(self) -> None:
        """Release everything."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for held in list(self._held):
            self.let_go(held)

    def _over(self) -> None:
        self._timer = None
        now = self._loop.time()
        while self._held:
            held = next(iter(self._held))
            if held.deadline > now + 0.001:
                self._timer = self._loop.call_later(held.deadline - now, self._over)
                return
            self.let_go(held)
