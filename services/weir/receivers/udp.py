"""Reading datagrams.

asyncio's own datagram transport reads one datagram per wake-up of the loop and makes a callback of it; in a burst the selector
costs more than the reading, and what the kernel cannot queue meanwhile is lost. Here a wake-up drains up to a few hundred datagrams
straight from the non-blocking socket, and then lets the loop do its other work.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Any, Protocol

__all__ = ["DatagramReader", "open_udp", "plain_address"]

_LARGEST_DATAGRAM = 65_535
_PER_WAKE_UP = 256


def plain_address(host: str) -> str:
    """The address as text; an IPv4 address that came through an IPv6 socket as IPv4, a link-local one without its zone."""
    if host.startswith("::ffff:") and "." in host:
        return host[7:]
    return host.partition("%")[0]


class _Log(Protocol):
    def warning(self, event: str, **values: Any) -> Any: ...


def open_udp(host: str, port: int, buffer_bytes: int, log: _Log) -> socket.socket:
    """A bound non-blocking UDP socket; says so in the log where the kernel grants a smaller receive buffer than asked for.

    "::" listens for IPv4 and IPv6.

    Raises:
        OSError: the address or the port cannot be had; the message names both.
    """
    try:
        family, kind, proto, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_DGRAM, flags=socket.AI_PASSIVE | socket.AI_NUMERICSERV
        )[0]
        sock = socket.socket(family, kind, proto)
    except OSError as error:
        raise OSError(error.errno, f"cannot listen on UDP {host} port {port}: {error.strerror}") from error
    try:
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer_bytes)
        sock.setblocking(False)
        sock.bind(address)
    except OSError as error:
        sock.close()
        raise OSError(error.errno, f"cannot listen on UDP {host} port {port}: {error.strerror}") from error
    # Linux doubles what was asked for, for its own bookkeeping, and reports the double.
    granted = sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) // 2
    if granted < buffer_bytes:
        log.warning(
            "the kernel grants a smaller receive buffer: bursts may be lost",
            wanted=buffer_bytes,
            granted=granted,
            hint="raise net.core.rmem_max, or lower WEIR_RECEIVER_UDP_BUFFER_BYTES",
        )
    return sock


class DatagramReader:
    """Hands each datagram to `take(data, address, port)`, in the loop.

    Args:
        sock: as `open_udp` gives it; closed by `close`.
        take: must not raise and must not block.
    """

    def __init__(self, sock: socket.socket, take: Callable[[bytes, str, int], None]) -> None:
        self._sock = sock
        self._take = take
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(sock.fileno(), self._drain)
        self.port: int = sock.getsockname()[1]

    def _drain(self, most: int = _PER_WAKE_UP) -> int:
        receive, take = self._sock.recvfrom, self._take
        for count in range(most):
            sender: Any
            try:
                data, sender = receive(_LARGEST_DATAGRAM)
            except (BlockingIOError, InterruptedError):
                return count
            except OSError:
                # An ICMP error for something sent from this socket; there is nothing of ours to read.
                continue
            take(data, plain_address(sender[0]), sender[1])
        return most

    def close(self) -> None:
        """Take what the kernel still holds, then close the socket."""
        self._loop.remove_reader(self._sock.fileno())
        for _ in range(1_000):  # an end, in case the senders are faster than we are
            if self._drain() < _PER_WAKE_UP:
                break
        self._sock.close()
