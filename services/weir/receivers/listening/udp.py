"""Reading datagrams.

asyncio's own datagram transport reads one datagram per wake-up of the loop and makes a callback of it; in a burst the selector
costs more than the reading, and what the kernel cannot queue meanwhile is lost. Here a wake-up drains up to a few hundred datagrams
straight from the non-blocking socket, and then lets the loop do its other work.

What the kernel could not queue it counts per socket. The counter that SO_RXQ_OVFL attaches to datagrams is read here with
SO_MEMINFO instead: the same number (`sk_drops`, the last column of /proc/net/udp), at any time and not only with the next
datagram, for one call of 0.4 µs a second; ancillary data costs 0.2 µs for each datagram.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import sys
from collections.abc import Callable
from typing import Any, Protocol

from weir.ops.telemetry import meter

__all__ = ["DatagramReader", "KernelDrops", "open_udp", "plain_address"]

_LARGEST_DATAGRAM = 65_535
_PER_WAKE_UP = 256
_BYTES_PER_WAKE_UP = 2 * 1024 * 1024
_SO_MEMINFO = 55  # asm-generic/socket.h; Linux 4.12
_MEMINFO_DROPS = 8  # linux/sock_diag.h
_WRAP = 2**32
_POLL_SECONDS = 1.0


def plain_address(host: str) -> str:
    """The address as text; an IPv4 address that came through an IPv6 socket as IPv4, a link-local one without its zone."""
    if host.startswith("::ffff:") and "." in host:
        return host[7:]
    return host.partition("%")[0]


class _Log(Protocol):
    def warning(self, event: str, **values: Any) -> Any: ...


def open_udp(host: str, port: int, buffer_bytes: int, log: _Log, *, reuse_port: bool = False) -> socket.socket:
    """A bound non-blocking UDP socket; says so in the log where the kernel grants a smaller receive buffer than asked for.

    "::" listens for IPv4 and IPv6. Port 0 takes any free port. `reuse_port`: several processes share the port and the kernel
    spreads senders over them; one sender (address and port) always reaches the same process.

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
        if reuse_port:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
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


def _one_by_one(take: Callable[[bytes, str, int], None]) -> Callable[[list[tuple[bytes, Any]]], None]:
    def take_all(datagrams: list[tuple[bytes, Any]]) -> None:
        for data, sender in datagrams:
            take(data, plain_address(sender[0]), sender[1])

    return take_all


class DatagramReader:
    """Hands each datagram to `take(data, address, port)`, in the loop.

    Args:
        sock: as `open_udp` gives it; closed by `close`.
        take: must not raise and must not block.
        take_all: instead of `take`, given all datagrams of one wake-up as (data, sender) with the sender as `recvfrom` gives it,
            which saves a call for each.
    """

    def __init__(
        self,
        sock: socket.socket,
        take: Callable[[bytes, str, int], None] | None = None,
        *,
        take_all: Callable[[list[tuple[bytes, Any]]], None] | None = None,
    ) -> None:
        if take is not None and take_all is None:
            self._take_all = _one_by_one(take)
        elif take is None and take_all is not None:
            self._take_all = take_all
        else:
            raise TypeError("either take or take_all")
        self._sock = sock
        self._loop = asyncio.get_running_loop()
        self._last_drops = 0
        self._loop.add_reader(sock.fileno(), self._drain)
        self.port: int = sock.getsockname()[1]

    @property
    def drops(self) -> int:
        """Datagrams that the kernel dropped since the socket was opened: no room, or a wrong checksum. Modulo 2**32.

        0 where the kernel cannot say; after `close`, the last number.
        """
        if self._sock.fileno() >= 0 and sys.platform == "linux":
            try:
                info = self._sock.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, 4 * (_MEMINFO_DROPS + 1))
            except OSError:
                return self._last_drops
            if len(info) >= 4 * (_MEMINFO_DROPS + 1):
                (self._last_drops,) = struct.unpack_from("=I", info, 4 * _MEMINFO_DROPS)
        return self._last_drops

    def _drain(self) -> bool:
        """Read what is there, up to a bound; whether the bound was reached."""
        receive = self._sock.recvfrom
        datagrams: list[tuple[bytes, Any]] = []
        append = datagrams.append
        size = 0
        more = False
        for _ in range(_PER_WAKE_UP):
            try:
                datagram = receive(_LARGEST_DATAGRAM)
            except (BlockingIOError, InterruptedError):
                break
            except OSError:
                # An ICMP error for something sent from this socket; there is nothing of ours to read.
                continue
            append(datagram)
            size += len(datagram[0])
            if size > _BYTES_PER_WAKE_UP:
                more = True
                break
        else:
            more = True
        if datagrams:
            self._take_all(datagrams)
        return more

    def close(self) -> None:
        """Take what the kernel still holds, then close the socket."""
        self._loop.remove_reader(self._sock.fileno())
        for _ in range(1_000):  # an end, in case the senders are faster than we are
            if not self._drain():
                break
        _ = self.drops
        self._sock.close()


class KernelDrops:
    """Tells what the kernel dropped on one socket: a metric per listener, and `count` for the ledger.

    Args:
        reader: whose socket.
        service: such as "receive.syslog".
        listener: such as "udp:5514".
        count: given the name of a source, "kernel:" and the listener, and how many datagrams were dropped since it was last called.
    """

    def __init__(self, reader: DatagramReader, service: str, listener: str, count: Callable[[str, int], None]) -> None:
        self._reader = reader
        self._listener = listener
        self._count = count
        self._told = reader.drops
        self._loop = asyncio.get_running_loop()
        self._metric = meter(service).create_counter(
            "weir.receiver.kernel_drops",
            "{datagram}",
            "Datagrams that the kernel dropped because the socket's receive buffer was full",
        )
        self._metric.add(0, {"listener": listener})
        self._timer = self._loop.call_later(_POLL_SECONDS, self._tick)

    def _tick(self) -> None:
        self.poll()
        self._timer = self._loop.call_later(_POLL_SECONDS, self._tick)

    def poll(self) -> int:
        """Tell what is new; how many that is."""
        now = self._reader.drops
        new = (now - self._told) % _WRAP
        self._told = now
        if new:
            self._metric.add(new, {"listener": self._listener})
            self._count(f"kernel:{self._listener}", new)
        return new

    def close(self) -> None:
        """Tell the last; call it after the reader is closed."""
        self._timer.cancel()
        self.poll()
