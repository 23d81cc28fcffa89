"""Listening sockets for TCP, and accepting on them."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import socket
import time
from collections.abc import Callable
from typing import Any

from weir.receivers.listening.udp import plain_address
from weir.receivers.publishing.memory import Seldom

__all__ = ["SPARE_FILES", "Acceptor", "open_tcp", "raise_file_limit", "watch_peer"]

SPARE_FILES = 256
"""Open files that a receiver needs beside its connections: Kafka's, the spool's, those just accepted and about to be refused."""

_AT_ONCE = 64
_LAST_TIMES = 64
_ACCEPT_AGAIN_SECONDS = 0.2


def open_tcp(host: str, port: int, backlog: int, *, reuse_port: bool = False) -> socket.socket:
    """A listening non-blocking socket, for `loop.create_server(sock=…)`.

    "::" listens for IPv4 and IPv6, which asyncio's own sockets do not. Port 0 takes any free port. `reuse_port`: several
    processes share the port and the kernel spreads connections over them.

    Raises:
        OSError: the address or the port cannot be had; the message names both.
    """
    try:
        family, kind, proto, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE | socket.AI_NUMERICSERV
        )[0]
        sock = socket.socket(family, kind, proto)
    except OSError as error:
        raise OSError(error.errno, f"cannot listen on TCP {host} port {port}: {error.strerror}") from error
    try:
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if reuse_port:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.setblocking(False)
        sock.bind(address)
        sock.listen(backlog)
    except OSError as error:
        sock.close()
        raise OSError(error.errno, f"cannot listen on TCP {host} port {port}: {error.strerror}") from error
    return sock


def watch_peer(sock: Any) -> None:
    """Have the kernel ask a silent peer whether it is still there: after two minutes, and give it up within two more."""
    with contextlib.suppress(OSError, AttributeError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 120)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 30)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 4)


def raise_file_limit(connections: int) -> int | None:
    """Allow the process as many open files as so many connections need; the limit where it stays lower, else None."""
    wanted = connections + SPARE_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return None
    granted = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (granted, hard))
        return None if granted == wanted else granted
    return soft


class Acceptor:
    """Accepts the connections of one listening socket, unless it is paused: then they wait in the kernel with all they send.

    asyncio's own servers know no pause, do not tell the address of a connection that was reset before it was accepted, and under
    uvloop, out of open files, close what comes without a word.

    Args:
        sock: as `open_tcp` gives it; closed by `close`.
        protocol: given the peer's address and port, makes the protocol of the connection.
        complain: told when a connection cannot be accepted, and why.
    """

    def __init__(
        self, sock: socket.socket, protocol: Callable[[str, int], asyncio.BaseProtocol], complain: Callable[[str, str], None]
    ) -> None:
        self._sock = sock
        self._protocol = protocol
        self._complain = complain
        self._say = Seldom(10.0, time.monotonic)
        self._loop = asyncio.get_running_loop()
        self._holds: set[str] = set()
        self._again: asyncio.TimerHandle | None = None
        self._opening: set[asyncio.Task[None]] = set()
        self._loop.add_reader(sock.fileno(), self._accept)

    def _accept(self) -> bool:
        """Take connections that wait, up to a bound; whether it was reached."""
        for _ in range(_AT_ONCE):
            if self._holds or self._sock.fileno() < 0:
                return False
            try:
                sock, peer = self._sock.accept()
            except (BlockingIOError, InterruptedError):
                return False
            except ConnectionError:
                continue  # gone before it was accepted
            except OSError as error:
                # Out of open files or memory. The socket stays readable, so asking again at once would only burn the CPU.
                if self._say("accept"):
                    self._complain("cannot accept a connection", f"{error}; for too many open files see ulimit -n")
                self._hold("files")
                self._again = self._loop.call_later(_ACCEPT_AGAIN_SECONDS, self._go_on, "files")
                return False
            sock.setblocking(False)
            task = self._loop.create_task(self._open(sock, plain_address(peer[0]), peer[1]))
            self._opening.add(task)
            task.add_done_callback(self._opening.discard)
        return True

    async def _open(self, sock: socket.socket, address: str, port: int) -> None:
        protocol = self._protocol(address, port)
        try:
            await self._loop.connect_accepted_socket(lambda: protocol, sock)
        except OSError:
            sock.close()  # gone meanwhile

    def _hold(self, why: str) -> None:
        if not self._holds and self._sock.fileno() >= 0:
            self._loop.remove_reader(self._sock.fileno())
        self._holds.add(why)

    def _go_on(self, why: str) -> None:
        if why in self._holds:
            self._holds.discard(why)
            if not self._holds and self._sock.fileno() >= 0:
                self._loop.add_reader(self._sock.fileno(), self._accept)

    def pause(self) -> None:
        """Accept nothing until resumed."""
        self._hold("paused")

    def resume(self) -> None:
        """Go on."""
        self._go_on("paused")

    async def close(self) -> None:
        """Unless paused, take the connections that wait already; then no more."""
        for _ in range(_LAST_TIMES):  # an end, in case new ones come faster
            if not self._accept():
                break
        if self._again is not None:
            self._again.cancel()
        if self._sock.fileno() >= 0:
            self._loop.remove_reader(self._sock.fileno())
            self._sock.close()
        await asyncio.gather(*self._opening, return_exceptions=True)
