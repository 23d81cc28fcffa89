"""Bounds on what untrusted senders can make a receiver hold."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Protocol

__all__ = ["FrameBudget", "Memory", "Pausable", "Seldom"]


class Pausable(Protocol):
    """Something that can stop taking from its senders, such as a connection."""

    def pause(self) -> None:
        """Take nothing more until resumed."""

    def resume(self) -> None:
        """Go on."""


class Memory:
    """Bytes held between a socket and Kafka, with a ceiling.

    At the ceiling it shuts: whoever registered is paused at once, so that what is taken beyond the ceiling is at most what one
    read had in hand. It opens again below three quarters of the ceiling, lest connections flap with every batch.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0
        self._open = asyncio.Event()
        self._open.set()
        self._watchers: dict[Pausable, None] = {}

    @property
    def shut(self) -> bool:
        """Whether connections must not be read."""
        return not self._open.is_set()

    def fits(self, size: int) -> bool:
        """Whether so many bytes can be taken without passing the ceiling."""
        return self.used + size <= self.limit

    def take(self, size: int) -> None:
        """Count bytes that are now held."""
        self.used += size
        if self.used >= self.limit and self._open.is_set():
            self._open.clear()
            for watcher in list(self._watchers):
                watcher.pause()

    def give(self, size: int) -> None:
        """Count bytes that are no longer held."""
        self.used -= size
        if not self._open.is_set() and self.used < self.limit * 3 // 4:
            self._open.set()
            for watcher in list(self._watchers):
                watcher.resume()

    def watch(self, watcher: Pausable) -> None:
        """Pause and resume this from now on; it is paused at once where the memory is shut."""
        self._watchers[watcher] = None
        if self.shut:
            watcher.pause()

    def unwatch(self, watcher: Pausable) -> None:
        """Forget it."""
        self._watchers.pop(watcher, None)

    async def room(self) -> None:
        """Wait until connections may be read."""
        await self._open.wait()


class FrameBudget:
    """A ceiling over the unfinished frames of all connections together.

    Frames need not fit one by one: without a rule many connections could each hold half a frame and none ever finish. So one
    connection at a time may pass the ceiling until its frame is whole; the others wait. At most `limit` and one frame are held.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0
        self._held: dict[Hashable, int] = {}
        self._exempt: Hashable | None = None
        self._exempt_since = 0.0
        self._changed = asyncio.Event()

    def update(self, owner: Hashable, size: int) -> None:
        """`owner` now holds so many bytes of an unfinished frame; 0 when it holds none or is gone."""
        before = self._held.get(owner, 0)
        self.used += size - before
        if size:
            self._held[owner] = size
            if size < before:
                self._changed.set()
        else:
            self._held.pop(owner, None)
            if self._exempt == owner:
                self._exempt = None
            self._changed.set()

    def exempt_for(self, owner: Hashable) -> float | None:
        """For how many seconds others have been waiting for `owner` to get its frame whole; None where it is not the one."""
        return time.monotonic() - self._exempt_since if self._exempt == owner else None

    async def admit(self, owner: Hashable) -> None:
        """Wait until `owner` may read on. Whoever holds nothing yet waits behind those who do."""
        while self.used >= self.limit and self._exempt != owner:
            if self._exempt is None and owner in self._held:
                self._exempt = owner
                self._exempt_since = time.monotonic()
                return
            self._changed.clear()
            await self._changed.wait()


class Seldom:
    """Says yes once per key and period, for logs and error records that a broken sender could otherwise flood.

    Keys are bounded: the one that asked longest ago is forgotten first.
    """

    def __init__(self, seconds: float, clock: Callable[[], float], keys: int = 1024) -> None:
        self._seconds = seconds
        self._clock = clock
        self._keys = keys
        self._last: OrderedDict[Hashable, float] = OrderedDict()

    def __call__(self, key: Hashable) -> bool:
        """Whether this may be said now."""
        now = self._clock()
        last = self._last.get(key)
        if last is not None and now - last < self._seconds:
            return False
        self._last[key] = now
        self._last.move_to_end(key)
        if len(self._last) > self._keys:
            self._last.popitem(last=False)
        return True
