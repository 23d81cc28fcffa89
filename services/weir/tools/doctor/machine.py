"""This host: kernel buffers, limits, folders, and who listens on the receivers' ports."""

from __future__ import annotations

import errno
import os
import resource
import shutil
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from weir.ops.settings import ServiceSettings
from weir.tools.doctor.finding import Finding, failed, good, skipped, warning

__all__ = ["Listener", "examine", "is_open", "listeners"]

_LISTENING = "0A"
_SPARE_FILES = 256


class Listener(NamedTuple):
    """A port that a receiver opens; `setting` names it, `transport` is udp or tcp, `tls` whether it speaks TLS,
    `client_certificate` whether it lets nobody in without one."""

    service: str
    setting: str
    transport: str
    host: str
    port: int
    tls: bool
    client_certificate: bool = False


class _Port(NamedTuple):
    setting: str
    transport: str
    tls: str  # "no", "always", or "auto": where a certificate is set
    switch: str = ""  # setting that turns an "auto" off


_PORTS: Mapping[str, tuple[str, tuple[_Port, ...]]] = {
    "receive.syslog": (
        "syslog_host",
        (
            _Port("syslog_udp_port", "udp", "no"),
            _Port("syslog_tcp_port", "tcp", "no"),
            _Port("syslog_tls_port", "tcp", "always"),
        ),
    ),
    "receive.beats": (
        "beats_host",
        (_Port("beats_port", "tcp", "auto", "beats_tls"), _Port("http_port", "tcp", "auto", "http_tls")),
    ),
    "receive.netflow": (
        "netflow_host",
        (
            _Port("netflow_port", "udp", "no"),
            _Port("ipfix_port", "udp", "no"),
            _Port("sflow_port", "udp", "no"),
            _Port("ipfix_tcp_port", "tcp", "no"),
            _Port("ipfix_tls_port", "tcp", "always"),
        ),
    ),
}


def listeners(services: Mapping[str, ServiceSettings]) -> list[Listener]:
    """The ports that the configured receivers open, fixed ones only."""
    found = []
    for service, (host_setting, ports) in _PORTS.items():
        settings = services.get(service)
        if settings is None:
            continue
        certificate = getattr(settings, "tls_certificate_file", None) is not None
        required = getattr(settings, "tls_client_certificates", "none") == "required"
        for one in ports:
            port = getattr(settings, one.setting, None)
            if not isinstance(port, int) or port <= 0 or (one.tls == "always" and not certificate):
                continue
            tls = certificate and (one.tls == "always" or (one.tls == "auto" and getattr(settings, one.switch, "auto") != "off"))
            host = getattr(settings, host_setting)
            found.append(Listener(service, one.setting, one.transport, host, port, tls, tls and required))
    return found


def examine(services: Mapping[str, ServiceSettings], elsewhere: str | None = None) -> list[Finding]:
    """Kernel, limits, folders and ports, for the receivers that are configured; `elsewhere` is their host, if not this one."""
    receivers = {name: settings for name, settings in services.items() if name.startswith("receive.")}
    if not receivers:
        return [skipped("machine", "receivers", "no receiver is configured, so nothing of this host matters to one")]
    if elsewhere:
        return [
            skipped("machine", "receivers", f"they are on {elsewhere}: run the doctor there to look at kernel, limits and ports")
        ]
    return [*_kernel(receivers), *_limits(receivers), *_spool(receivers), *(_port(one) for one in listeners(receivers))]


def _number(path: str) -> int | None:
    try:
        return int(Path(path).read_text(encoding="ascii").split()[0])
    except (OSError, ValueError, IndexError):
        return None


def _kernel(receivers: Mapping[str, ServiceSettings]) -> list[Finding]:
    findings = []
    wanted = max(int(getattr(settings, "receiver_udp_buffer_bytes", 0)) for settings in receivers.values())
    granted = _number("/proc/sys/net/core/rmem_max")
    if granted is None:
        findings.append(skipped("machine", "net.core.rmem_max", "cannot be read here"))
    elif granted < wanted:
        findings.append(
            warning(
                "machine",
                "net.core.rmem_max",
                f"{granted:,} bytes; receivers ask for {wanted:,}, and bursts beyond the buffer are lost",
                f"sysctl -w net.core.rmem_max={wanted}, and keep it in /etc/sysctl.d",
            )
        )
    else:
        findings.append(good("machine", "net.core.rmem_max", f"{granted:,} bytes, enough for the {wanted:,} asked for"))
    backlog = max(
        (int(getattr(s, name)) for s in receivers.values() for name in ("syslog_backlog", "beats_backlog") if hasattr(s, name)),
        default=0,
    )
    most = _number("/proc/sys/net/core/somaxconn")
    if most is not None and most < backlog:
        findings.append(
            warning(
                "machine",
                "net.core.somaxconn",
                f"{most}, and {backlog} connections may wait",
                f"sysctl -w net.core.somaxconn={backlog}",
            )
        )
    if (errors := _udp_buffer_errors()) is not None:
        text = f"{errors:,} datagrams lost on this host since it started, for want of buffer"
        cure = "the `drops` column of /proc/net/udp and weir.receiver.kernel_drops name the socket; raise rmem_max or add processes"
        findings.append(warning("machine", "UDP RcvbufErrors", text, cure) if errors else good("machine", "UDP RcvbufErrors", text))
    return findings


def _udp_buffer_errors() -> int | None:
    """The kernel's own count of datagrams that no socket buffer had room for (RcvbufErrors of /proc/net/snmp)."""
    try:
        rows = [line.split() for line in Path("/proc/net/snmp").read_text(encoding="ascii").splitlines() if line.startswith("Udp:")]
        return int(rows[1][rows[0].index("RcvbufErrors")])
    except (OSError, ValueError, IndexError):
        return None


def _limits(receivers: Mapping[str, ServiceSettings]) -> list[Finding]:
    wanted = max(
        int(getattr(settings, name)) + _SPARE_FILES
        for settings in receivers.values()
        for name in ("syslog_max_connections", "beats_max_connections", "receiver_batch_units")
        if hasattr(settings, name)
    )
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        return [
            warning(
                "machine",
                "open files",
                f"{soft} at most (hard limit {hard}); the connections allowed need {wanted}",
                f"LimitNOFILE={wanted} in the unit, or `ulimit -n {wanted}` before the start",
            )
        ]
    return [good("machine", "open files", f"{soft} allowed, {wanted} may be needed")]


def _spool(receivers: Mapping[str, ServiceSettings]) -> list[Finding]:
    findings = []
    for service, settings in receivers.items():
        if not hasattr(settings, "receiver_spool_dir"):
            continue
        folder: Path | None = settings.receiver_spool_dir
        if folder is None:
            findings.append(
                warning(
                    "machine",
                    f"spool of {service}",
                    "none: while Kafka is away longer than memory lasts, UDP is dropped and counted",
                    "set WEIR_RECEIVER_SPOOL_DIR to a folder on a local disk",
                )
            )
            continue
        try:
            folder.mkdir(parents=True, exist_ok=True)
            free = shutil.disk_usage(folder).free
        except OSError as error:
            findings.append(
                failed(
                    "machine",
                    f"spool of {service}",
                    f"{folder}: {error.strerror}",
                    "make the folder, and let the service write there",
                )
            )
            continue
        limit = int(getattr(settings, "receiver_spool_bytes", 0))
        if not os.access(folder, os.W_OK | os.X_OK):
            findings.append(
                failed(
                    "machine",
                    f"spool of {service}",
                    f"{folder} cannot be written by this user",
                    "chown it to the user of the service",
                )
            )
        elif free < limit:
            cure = "give it a larger disk, or lower WEIR_RECEIVER_SPOOL_BYTES: a full disk counts as a full spool"
            findings.append(
                warning("machine", f"spool of {service}", f"{folder} has {free:,} bytes free, {limit:,} may be spooled", cure)
            )
        else:
            findings.append(good("machine", f"spool of {service}", f"{folder}: {free:,} bytes free, at most {limit:,} used"))
    return findings


def _port(listener: Listener) -> Finding:
    name = f"{listener.transport.upper()} {listener.port} ({listener.service})"
    if is_open(listener):
        owner = _owner(listener)
        return good("ports", name, f"{owner or 'something'} listens; the marked events show whether it is Weir")
    variable = f"WEIR_{listener.setting.upper()}"
    if listener.port < 1024 and _first_unprivileged() > listener.port and os.geteuid() != 0:
        return failed(
            "ports",
            name,
            "below 1024, which this user may not open",
            f"set {variable} to a port above 1023 and map {listener.port} to it, or give the service CAP_NET_BIND_SERVICE",
        )
    kind = socket.SOCK_DGRAM if listener.transport == "udp" else socket.SOCK_STREAM
    try:
        family, kind, proto, _, address = socket.getaddrinfo(listener.host, listener.port, type=kind, flags=socket.AI_PASSIVE)[0]
        with socket.socket(family, kind, proto) as sock:
            if kind == socket.SOCK_STREAM:  # as receivers do: a connection that has just ended does not hold the port
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind(address)
    except OSError as error:
        taken = error.errno == errno.EADDRINUSE
        owner = _owner(listener, listening=False) if taken else ""
        cure = f"another program or address: see {variable} and the host setting"
        if taken and (owner or _is_ephemeral(listener.port)):
            cure = f"end that program, or set {variable} to another port"
        if taken and _is_ephemeral(listener.port):
            cure += "; outgoing connections are given ports of this range too: choose one outside net.ipv4.ip_local_port_range"
        return failed("ports", name, f"cannot be opened: {error.strerror}{f', by {owner}' if owner else ''}", cure)
    return warning(
        "ports", name, "free, so the receiver is not running here", f"`weir {listener.service.replace('.', ' ')}` starts it"
    )


def is_open(listener: Listener) -> bool:
    """Whether something on this host listens on that port."""
    return listener.port in _open_ports(listener.transport)


def _owner(listener: Listener, *, listening: bool = True) -> str:
    """`name (process 123)` of who holds the port, as far as this user may know; else the empty text."""
    inodes = {f"socket:[{inode}]" for port, inode in _sockets(listener.transport, listening=listening) if port == listener.port}
    for folder in Path("/proc").glob("[0-9]*/fd"):
        try:
            if any(os.readlink(entry.path) in inodes for entry in os.scandir(folder)):
                command = (folder.parent / "comm").read_text(encoding="utf-8", errors="replace").strip()
                return f"{command} (process {folder.parent.name})"
        except OSError:
            continue  # another user's, or it has ended
    return ""


def _is_ephemeral(port: int) -> bool:
    try:
        first, last = map(int, Path("/proc/sys/net/ipv4/ip_local_port_range").read_text(encoding="ascii").split())
    except (OSError, ValueError):
        return False
    return first <= port <= last


def _first_unprivileged() -> int:
    return _number("/proc/sys/net/ipv4/ip_unprivileged_port_start") or 1024


def _open_ports(transport: str) -> set[int]:
    return {port for port, _ in _sockets(transport, listening=True)}


def _sockets(transport: str, *, listening: bool) -> Iterator[tuple[int, str]]:
    """Local port and inode of the sockets of this host, all or the listening ones (of UDP all)."""
    for table in (f"/proc/net/{transport}", f"/proc/net/{transport}6"):
        try:
            rows = Path(table).read_text(encoding="ascii").splitlines()[1:]
        except OSError:
            continue
        for row in rows:
            columns = row.split()
            if not listening or transport == "udp" or columns[3] == _LISTENING:
                yield int(columns[1].rpartition(":")[2], 16), columns[9]
