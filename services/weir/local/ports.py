"""TCP and UDP ports on the loopback address: finding free ones, and naming who holds a taken one."""

from __future__ import annotations

import random
import socket
from pathlib import Path

import psutil

from weir.local.errors import PortInUseError

__all__ = ["LOOPBACK", "check_port", "find_free_port"]

LOOPBACK = "127.0.0.1"
_EPHEMERAL_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")
_LOWEST = 20_000


def find_free_port(*, udp: bool = False, tries: int = 200) -> int:
    """Return a port nobody listens on at 127.0.0.1, below the range from which the kernel serves outgoing connections.

    Asking the kernel for port 0 would give a port out of that very range, and any client on the machine may be
    handed the same number before the server has started.

    Raises:
        PortInUseError: none was found in `tries` attempts.
    """
    end = _ephemeral_start()
    candidates = random.sample(range(_LOWEST, end), k=min(tries, end - _LOWEST))
    for port in candidates:
        if _can_bind(port, udp=udp):
            return port
    raise PortInUseError(
        f"no free port between {_LOWEST} and {end - 1} on {LOOPBACK} ({len(candidates)} tried)",
        "stop what holds them: `ss -ltnup` lists the processes",
    )


def check_port(port: int, setting: str, *, udp: bool = False) -> None:
    """Check that a server could listen on `port` of 127.0.0.1.

    `setting` is the environment variable or argument that chose the port, for the error's way out.

    Raises:
        PortInUseError: it could not; the process is named when the kernel lets us know it.
    """
    if not 0 < port < 65536:
        raise PortInUseError(f"{port} is no port", f"set {setting} to a number from 1 to 65535")
    if _can_bind(port, udp=udp):
        return
    if port < 1024 and not _listener(port, udp=udp):
        raise PortInUseError(
            f"port {port} on {LOOPBACK} cannot be opened: it is taken, or ports below 1024 are reserved",
            f"set {setting} to another port",
        )
    raise PortInUseError(
        f"port {port} on {LOOPBACK} is in use{_listener(port, udp=udp)}", f"stop it, or set {setting} to another port"
    )


def _ephemeral_start() -> int:
    try:
        start = int(_EPHEMERAL_RANGE.read_text(encoding="ascii").split()[0])
    except (OSError, ValueError, IndexError):
        start = 32_768
    return start if start > _LOWEST + 1_000 else 65_536


def _can_bind(port: int, *, udp: bool) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM if udp else socket.SOCK_STREAM) as probe:
        if not udp:
            # As servers do: a connection lingering in TIME_WAIT does not make the port taken.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
            if not udp:
                probe.listen(1)
        except OSError:
            return False
        return True


def _listener(port: int, *, udp: bool) -> str:
    """` by name (process 123)` of whoever has the port, or nothing when that is another user's secret."""
    try:
        for connection in psutil.net_connections("udp" if udp else "tcp"):
            local = connection.laddr
            if not local or local.port != port or connection.pid is None:
                continue
            if udp or connection.status == psutil.CONN_LISTEN:
                return f" by {_name(psutil.Process(connection.pid))} (process {connection.pid})"
    except psutil.Error:
        pass
    return ""


def _name(process: psutil.Process) -> str:
    # The program's file; a process may call itself anything (Node.js says "MainThread").
    try:
        return Path(process.exe()).name or process.name()
    except psutil.Error:
        return process.name()
