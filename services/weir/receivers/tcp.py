"""Listening sockets for TCP."""

from __future__ import annotations

import contextlib
import resource
import socket
from typing import Any

__all__ = ["open_tcp", "raise_file_limit", "watch_peer"]

_SPARE_FILES = 256


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
    wanted = connections + _SPARE_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return None
    granted = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (granted, hard))
        return None if granted == wanted else granted
    return soft
