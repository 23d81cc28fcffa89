"""Signals: SIGTERM and SIGINT ask for a graceful stop, and a second one leaves at once; SIGHUP asks to look at files anew."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from types import FrameType

__all__ = ["StopSignal", "on_hangup", "on_stop_signals"]


class StopSignal:
    """Set by SIGTERM or SIGINT; for services that run in threads."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def install(self) -> None:
        """Take over the two signals; only the main thread may."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._handle)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._event.is_set():
            os._exit(128 + number)
        self._event.set()

    def set(self) -> None:
        """Ask the service to stop."""
        self._event.set()

    def is_set(self) -> bool:
        """Whether the service was asked to stop."""
        return self._event.is_set()

    def wait(self, seconds: float) -> bool:
        """Wait at most so long for the request to stop; True when it came."""
        return self._event.wait(seconds)


def on_stop_signals(loop: asyncio.AbstractEventLoop) -> asyncio.Event:
    """An asyncio event that SIGTERM and SIGINT set; the second signal leaves at once."""
    event = asyncio.Event()

    def handle(number: int) -> None:
        if event.is_set():
            os._exit(128 + number)
        event.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, handle, number)
    return event


def on_hangup(loop: asyncio.AbstractEventLoop) -> asyncio.Event:
    """An asyncio event that SIGHUP sets; without this SIGHUP would end the process."""
    event = asyncio.Event()
    loop.add_signal_handler(signal.SIGHUP, event.set)
    return event
