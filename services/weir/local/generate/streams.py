"""One TCP connection of a sender that knows how much it has handed over, and that can be stopped at any moment."""

from __future__ import annotations

import contextlib
import select
import socket
import time
from threading import Event

__all__ = ["Address", "BrokenStreamError", "Stream", "bind_to", "connect"]

Address = tuple[str, int]

_SLICE_S = 0.2
"""How long a wait lasts before it looks whether it should go on."""


class BrokenStreamError(ConnectionError):
    """The connection is gone. `handed_over` bytes of the failing write had been taken by the kernel."""

    def __init__(self, reason: str, handed_over: int = 0) -> None:
        super().__init__(reason)
        self.handed_over = handed_over


def bind_to(sock: socket.socket, address: str, target: Address) -> None:
    """Send from `address`, where the target is on this machine and the machine has that address; else from any."""
    if target[0].startswith("127.") and sock.family == socket.AF_INET:
        # Linux answers on all of 127.0.0.0/8; elsewhere only 127.0.0.1 may exist, and sources then look alike.
        with contextlib.suppress(OSError):
            sock.bind((address, 0))


class Stream:
    """A connected TCP socket; made by `connect`."""

    def __init__(self, sock: socket.socket, stop: Event) -> None:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._sock = sock
        self._stop = stop
        self._poll = select.poll()

    def write(self, data: bytes) -> None:
        """Hand everything over to the kernel.

        Raises:
            BrokenStreamError: the receiver is gone, or `stop` was set before the end.
        """
        view = memoryview(data)
        offset = 0
        while offset < len(view):
            try:
                offset += self._sock.send(view[offset:])
            except (BlockingIOError, InterruptedError):
                self._wait(select.POLLOUT, _SLICE_S)
                if self._stop.is_set():
                    raise BrokenStreamError("told to stop", offset) from None
            except OSError as error:
                raise BrokenStreamError(str(error), offset) from error

    def read(self, timeout: float) -> bytes:
        """What has come, within `timeout` seconds; nothing if nothing did.

        Raises:
            BrokenStreamError: the receiver has closed or reset the connection, or `stop` was set.
        """
        deadline = time.monotonic() + timeout
        while True:
            try:
                data = self._sock.recv(65536)
            except (BlockingIOError, InterruptedError):
                left = deadline - time.monotonic()
                if left <= 0:
                    return b""
                self._wait(select.POLLIN, min(left, _SLICE_S))
                if self._stop.is_set():
                    raise BrokenStreamError("told to stop") from None
            except OSError as error:
                raise BrokenStreamError(str(error)) from error
            else:
                if not data:
                    raise BrokenStreamError("closed by the receiver")
                return data

    def _wait(self, events: int, seconds: float) -> None:
        self._poll.register(self._sock, events)
        self._poll.poll(seconds * 1000)

    def end(self) -> None:
        """Say that no more will come; `read` still works."""
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """Give the socket back."""
        self._sock.close()


def connect(target: Address, stop: Event, *, source: str = "", patience: float = 60.0) -> Stream | None:
    """A connection, tried for again and again; None once `stop` is set.

    Raises:
        ConnectionError: nobody listened for `patience` seconds.
    """
    deadline = time.monotonic() + patience
    pause = 0.05
    while not stop.is_set():
        family = socket.AF_INET6 if ":" in target[0] else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            if source:
                bind_to(sock, source, target)
            sock.settimeout(5.0)
            sock.connect(target)
        except OSError as error:
            sock.close()
            if time.monotonic() >= deadline:
                raise ConnectionError(
                    f"nothing takes a TCP connection at {target[0]} port {target[1]} ({error}): start the receiver, "
                    "or name another port"
                ) from error
            stop.wait(pause)
            pause = min(pause * 2, 0.5)
        else:
            return Stream(sock, stop)
    return None
