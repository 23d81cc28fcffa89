"""The syslog receiver: UDP (RFC 5426), TCP (RFC 6587, both framings) and TLS (RFC 5425).

What the messages say is the processor's business; here they are units. An empty datagram is a unit too, so that everything that
was received is accounted for.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from typing import Any

from weir.ops.logging import get
from weir.ops.telemetry import meter
from weir.ops.tls import ServerTls
from weir.protocols.proxy import ProxyError
from weir.receivers.listening.limits import ConnectionLimits, RateLimit
from weir.receivers.listening.tcp import SPARE_FILES, Acceptor, open_tcp, raise_file_limit
from weir.receivers.listening.udp import DatagramReader, KernelDrops, open_udp, plain_address
from weir.receivers.publishing.batching import Source, cut
from weir.receivers.publishing.memory import Seldom
from weir.receivers.publishing.publisher import Publisher, open_spool
from weir.receivers.service import kafka_producer, run
from weir.receivers.syslog.settings import SyslogSettings
from weir.receivers.syslog.stream import Listener, SyslogConnection

__all__ = ["SERVICE", "SyslogReceiver", "SyslogSettings", "main"]

SERVICE = "receive.syslog"
_DRAIN_SECONDS = 1.0
_SETTLED_SECONDS = 0.05
_BURST_SECONDS = 10.0
_OFF = -1


class _Sender:
    """What one sender's datagrams of one wake-up have in common; `port` is None where they came from several."""

    __slots__ = ("port", "source", "units")

    def __init__(self, source: Source | None, port: int) -> None:
        self.source = source
        self.port: int | None = port
        self.units: list[bytes] = []


class SyslogReceiver:
    """Listens on UDP, TCP and TLS and hands messages to the publisher.

    `udp_port`, `tcp_port`, `tls_port` are the ports that are open, None for what is off. `tls` is the identity shown to senders
    that connect; another one, or another context in it, holds for those that connect later.
    """

    def __init__(self, settings: SyslogSettings, publisher: Publisher) -> None:
        self.settings = settings
        self.publisher = publisher
        self.reads = 0
        self.stopping = False
        self.unfinished = 0
        self.connections: dict[SyslogConnection, None] = {}
        self.proxy = settings.proxy_policy(settings.syslog_proxy_protocol)
        self.limits = ConnectionLimits(
            settings.syslog_max_connections,
            settings.syslog_max_connections_per_source,
            settings.syslog_connection_rate,
            time.monotonic,
        )
        rate = settings.syslog_message_rate
        self.rate = RateLimit(rate, settings.syslog_message_burst or rate * _BURST_SECONDS, time.monotonic)
        self.tls: ServerTls | None = None
        self.udp_port: int | None = None
        self.tcp_port: int | None = None
        self.tls_port: int | None = None
        self._udp_proxy = settings.proxy_policy(settings.syslog_udp_proxy_protocol)
        self._log = get(f"weir.{SERVICE}")
        self._say = Seldom(10.0, time.monotonic)
        self._say_of_any = Seldom(0.5, time.monotonic)
        self._blank = meter(SERVICE).create_counter(
            "weir.receiver.blank_lines", "{line}", "Lines without content on TCP and TLS, which are no messages"
        )
        self._udp: DatagramReader | None = None
        self._drops: KernelDrops | None = None
        self._acceptors: list[Acceptor] = []
        self._sweeper: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Open the sockets. Raises OSError where one cannot be had, SettingsError where a certificate cannot be used."""
        settings = self.settings
        shared = settings.receiver_processes > 1
        self.tls = ServerTls.of(settings)
        if settings.syslog_tcp_port != _OFF:
            self.tcp_port = self._listen("tcp", settings.syslog_tcp_port, shared)
        if self.tls is not None and settings.syslog_tls_port != _OFF:
            self.tls_port = self._listen("tls", settings.syslog_tls_port, shared)
        if self._acceptors and (granted := raise_file_limit(settings.syslog_max_connections)) is not None:
            # Refusing what is too much, and counting it, is better than running out of files in some other place.
            self.limits.most = max(1, granted - min(SPARE_FILES, granted // 2))
            self._log.warning(
                "fewer open files are allowed than connections",
                files=granted,
                wanted=settings.syslog_max_connections,
                connections=self.limits.most,
                hint="raise the limit of open files (ulimit -n), or lower WEIR_SYSLOG_MAX_CONNECTIONS",
            )
        if settings.syslog_udp_port != _OFF:
            sock = open_udp(
                settings.syslog_host, settings.syslog_udp_port, settings.receiver_udp_buffer_bytes, self._log, reuse_port=shared
            )
            self._udp = DatagramReader(sock, take_all=self._datagrams)
            self.udp_port = self._udp.port
            self._drops = KernelDrops(self._udp, SERVICE, f"udp:{self.udp_port}", self._kernel_dropped)
        if settings.syslog_idle_seconds:
            self._sweeper = asyncio.get_running_loop().create_task(self._sweep(settings.syslog_idle_seconds))
        self._log.info(
            "listening", host=settings.syslog_host, udp_port=self.udp_port, tcp_port=self.tcp_port, tls_port=self.tls_port
        )

    def _listen(self, transport: str, port: int, shared: bool) -> int:
        sock = open_tcp(self.settings.syslog_host, port, self.settings.syslog_backlog, reuse_port=shared)
        bound: int = sock.getsockname()[1]

        def connection(address: str, port: int) -> SyslogConnection:
            return SyslogConnection(self, Listener(transport, bound, self.tls if transport == "tls" else None), address, port)

        acceptor = Acceptor(sock, connection, lambda why, detail: self.complain(why, "", detail))
        self._acceptors.append(acceptor)
        # While memory is full new connections wait in the kernel, as the bytes of the others do.
        self.publisher.memory.watch(acceptor)
        return bound

    # Datagrams

    def _datagrams(self, datagrams: list[tuple[bytes, Any]]) -> None:
        publisher, limit, listener_port = self.publisher, self.settings.syslog_max_message_bytes, self.udp_port or 0
        look_up = publisher.sources.of
        proxied, limited = self._udp_proxy.mode != "off", self.rate.rate > 0
        # Looked up once per wake-up, so that a reloaded catalogue counts at once and a stream costs one look-up for many.
        senders: dict[str, _Sender] = {}
        dropped: Counter[tuple[str, str]] = Counter()
        for data, sender in datagrams:
            unit, host, port = data, sender[0], sender[1]
            if proxied:
                try:
                    header, unit = self._udp_proxy.datagram(plain_address(host), data)
                except ProxyError as error:
                    dropped[plain_address(host), error.reason] += 1
                    continue
                if header is not None and header.source is not None and header.source_port is not None:
                    host, port = header.source, header.source_port
                elif header is not None and not unit:
                    continue  # a balancer asks whether somebody is here
            try:
                found = senders[host]
            except KeyError:
                found = senders[host] = _Sender(look_up(plain_address(host), "udp", listener_port), port)
            source = found.source
            if source is None:
                dropped[plain_address(host), "source refused"] += 1
                continue
            if limited and not self.rate.allow(source.ip):
                dropped[source.ip, "rate limit"] += 1
                continue
            if found.port != port:
                found.port = None
            if len(unit) > limit:
                self._offer(found)
                unit, length, digest = cut(unit, limit)
                publisher.offer(source, unit, port, original_length=length, sha256=digest)
            else:
                found.units.append(unit)
        for found in senders.values():
            self._offer(found)
        for (address, reason), units in dropped.items():
            publisher.drop(address, units, reason)

    def _offer(self, sender: _Sender) -> None:
        units, sender.units = sender.units, []
        if sender.source is not None and units:
            try:
                self.publisher.offer_many(sender.source, units, sender.port)
            except Exception:  # those of the others are still to come
                self.failed(sender.source.ip, len(units))

    def _kernel_dropped(self, source: str, datagrams: int) -> None:
        self.publisher.drop(source, datagrams, "kernel buffer full")

    # Connections

    def complain(self, event: str, address: str, detail: str = "") -> None:
        """Count a connection that is refused or closed, and say so: seldom of one address, twice a second of all together."""
        self.publisher.metrics.refused(event)
        if self._say_of_any(event) and self._say((event, address)):
            self._log.warning("connection closed", reason=event, source=address, detail=detail, connections=self.limits.open)

    def failed(self, address: str, units: int) -> None:
        """While an exception is handled: count units that are lost to it, and say so once in a while."""
        if units:
            self.publisher.drop(address, units, "internal error")
        if self._say("failed"):
            self._log.exception("cannot take what was received", source=address, units=units)

    def blank(self, lines: int) -> None:
        """Count lines without content."""
        self._blank.add(lines)

    async def _sweep(self, idle: float) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(min(idle / 4, 60.0))
            for connection in list(self.connections):
                if not connection.held and loop.time() - connection.heard > idle:
                    try:
                        connection.idle()
                    except Exception:  # nobody else looks for the idle
                        self.failed("", 0)

    async def stop(self) -> None:
        """Close the listeners, take what the kernel already holds, close the connections."""
        self.stopping = True
        for acceptor in self._acceptors:
            self.publisher.memory.unwatch(acceptor)
            await acceptor.close()
        if self._sweeper is not None:
            self._sweeper.cancel()
        if self._udp is not None:
            self._udp.close()
        if self._drops is not None:
            self._drops.close()
        for connection in list(self.connections):
            connection.release()
        # Nothing acknowledges plain TCP: what has arrived would be lost with the connection. But a sender that never pauses
        # must not keep us here.
        deadline = time.monotonic() + _DRAIN_SECONDS
        reads = -1
        while self.connections and reads != self.reads and time.monotonic() < deadline and not self.publisher.memory.shut:
            reads = self.reads
            await asyncio.sleep(_SETTLED_SECONDS)
        for connection in list(self.connections):
            connection.close()


def build(settings: SyslogSettings) -> SyslogReceiver:
    """A receiver with its publisher, in the running loop."""
    publisher = Publisher(
        settings,
        service=SERVICE,
        topic="raw.syslog",
        make_producer=lambda: kafka_producer(settings),
        spool=open_spool(settings, SERVICE),
    )
    return SyslogReceiver(settings, publisher)


def main(settings: SyslogSettings) -> None:
    """Receive syslog until SIGTERM or SIGINT. Raises SystemExit with status 1 where it cannot listen."""
    run(settings, SERVICE, build)
