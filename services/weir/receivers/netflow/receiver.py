"""The receiver of flows: NetFlow v5 and v9, IPFIX and sFlow over UDP, IPFIX over TCP and TLS; each raw batch with what is needed to
decode it.

A datagram is taken for what its first bytes say it is, on whichever port it comes. Each exporter address has a store of what it
announced; definitions are shared over a compacted topic (`flowstate`, `exporters`), and a batch carries those that its datagrams
need, as they were when the datagrams came: before a definition changes, the open batch is closed. Data whose template is not known
is held for a while (`hold`), and then published all the same, marked. Sequence numbers are followed (`sequences`).
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from pathlib import Path
from typing import Any, Self

from pydantic import Field, model_validator

from weir.model.batch import FlowName, FlowSampling, FlowTemplate
from weir.model.topics import TopicNames
from weir.ops.logging import get
from weir.ops.tls import ServerTls
from weir.protocols import sflow
from weir.protocols.netflow import FIXED, FlowError, Scan, scan
from weir.receivers.listening.udp import DatagramReader, KernelDrops, open_udp, plain_address
from weir.receivers.netflow.exporters import PROTOCOLS, Exporter, Exporters, Lifetimes
from weir.receivers.netflow.hold import Held, Hold
from weir.receivers.netflow.ipfix_stream import ERROR_TRANSPORT, IpfixStreams
from weir.receivers.netflow.local_copy import CopyError, FlowCopy
from weir.receivers.netflow.metrics import FlowMetrics
from weir.receivers.netflow.sequences import Follower, Seen, StreamKey
from weir.receivers.netflow.state import FlowStateCodec, FlowStateFollower, StateRecord
from weir.receivers.publishing.batching import OpenBatch, Source
from weir.receivers.publishing.memory import Seldom
from weir.receivers.publishing.publisher import Publisher, open_spool
from weir.receivers.service import kafka_producer, run
from weir.receivers.settings import SpoolSettings

__all__ = ["SERVICE", "NetflowReceiver", "NetflowSettings", "main"]

SERVICE = "receive.netflow"
_OFF = -1
_BATCH_BYTES = 560_000
"""Datagrams of one batch at most; templates, sampling values and names, up to 220 kB, come on top."""
_SECOND = 1_000_000
_TICK_SECONDS = 5.0
_COPY_SECONDS = 15.0
_SHORTEST_RECORD = 4
_FIXED_HEADER = 24


class NetflowSettings(SpoolSettings):
    """What the receiver of flows reads."""

    netflow_host: str = Field("0.0.0.0", min_length=1, description="address to listen on; '::' for IPv4 and IPv6")
    netflow_port: int = Field(2055, ge=_OFF, le=65535, description="UDP port for NetFlow; 0 takes any free port, -1 turns it off")
    ipfix_port: int = Field(4739, ge=_OFF, le=65535, description="UDP port for IPFIX; 0 any free port, -1 off")
    sflow_port: int = Field(6343, ge=_OFF, le=65535, description="UDP port for sFlow; 0 any free port, -1 off")
    ipfix_tcp_port: int = Field(4739, ge=_OFF, le=65535, description="TCP port for IPFIX; 0 any free port, -1 off")
    ipfix_tls_port: int = Field(
        4740,
        ge=_OFF,
        le=65535,
        description="TLS port for IPFIX, open where WEIR_TLS_CERTIFICATE_FILE is set; 0 any free, -1 off",
    )
    netflow_max_exporters: int = Field(
        1_024,
        ge=1,
        le=65_536,
        description="exporter addresses whose templates are kept, each up to 128 kB of them; the one silent longest goes first",
    )
    ipfix_max_connections: int = Field(512, ge=1, le=65_536, description="IPFIX connections at once; further ones are refused")
    ipfix_max_connections_per_source: int = Field(
        64, ge=0, le=65_536, description="IPFIX connections of one address at once; 0 for no limit of its own"
    )
    ipfix_idle_seconds: float = Field(
        1_800.0, ge=0, le=604_800, description="an IPFIX connection that has been silent for so long is closed; 0 for never"
    )
    ipfix_handshake_seconds: float = Field(10.0, gt=0, le=600, description="time for the TLS handshake")
    ipfix_backlog: int = Field(128, ge=1, le=65_535, description="IPFIX connections that wait to be accepted")
    netflow_state_seconds: float = Field(
        3.0,
        ge=0,
        le=600,
        description="how long to wait at start for the shared templates before the sockets are opened with the local copy of them, "
        "or without",
    )
    netflow_state_dir: Path | None = Field(
        None, description="directory of the local copy of templates and options; unset: WEIR_RECEIVER_SPOOL_DIR, or none"
    )
    netflow_refresh_seconds: float = Field(
        600.0, ge=1, le=86_400, description="how often an unchanged template that is announced again is written to the state topic"
    )
    netflow_template_seconds: float = Field(
        5_400.0,
        ge=10,
        le=2_592_000,
        description="lifetime of a template over UDP that is not announced again: three times the usual half hour; options "
        "live eight times as long",
    )
    netflow_hold_seconds: float = Field(
        5.0, ge=0, le=300, description="how long data waits for its template before it is published without; 0 holds nothing"
    )
    netflow_hold_datagrams: int = Field(8_192, ge=1, le=1_000_000, description="datagrams held at most, of all exporters")
    netflow_hold_bytes: int = Field(16 * 1024 * 1024, ge=65_536, le=1024**3, description="bytes held at most, of all exporters")

    @model_validator(mode="after")
    def _lifetimes(self) -> Self:
        if self.netflow_template_seconds < 2 * self.netflow_refresh_seconds:
            raise ValueError(
                "WEIR_NETFLOW_TEMPLATE_SECONDS must be at least twice WEIR_NETFLOW_REFRESH_SECONDS: other receivers hear of an "
                "announcement only that often"
            )
        return self


class NetflowReceiver:
    """Listens for flows, keeps what exporters announce, and hands datagrams to the publisher."""

    def __init__(self, settings: NetflowSettings, publisher: Publisher) -> None:
        self.settings = settings
        self.publisher = publisher
        self.ports: dict[str, int] = {}
        publisher.finish = self._embed
        self._log = get(f"weir.{SERVICE}")
        self._loop = asyncio.get_running_loop()
        self._metrics = FlowMetrics(SERVICE)
        self._say = Seldom(60.0, time.monotonic)
        self._state_topic = TopicNames(settings.topic_prefix)["state.netflow-templates"]
        self._origin = publisher.ledger.instance
        self.follower = Follower(publisher.ledger.sequence, self._metrics.lost)
        self.hold = Hold(
            settings.netflow_hold_seconds,
            settings.netflow_hold_datagrams,
            settings.netflow_hold_bytes,
            self._release,
            self._metrics.held,
        )
        self.exporters = Exporters(
            settings.netflow_max_exporters,
            Lifetimes(int(settings.netflow_template_seconds * _SECOND), int(settings.netflow_refresh_seconds * _SECOND)),
            self._state_topic,
            FlowStateCodec(settings.site),
            self._origin,
            publisher,
            self.follower,
            self._metrics,
            self.hold.let_go_of,
        )
        self.streams = IpfixStreams(settings, publisher, self.follower, self._metrics, SERVICE)
        folder = settings.netflow_state_dir or settings.receiver_spool_dir
        self._copy = None if folder is None else FlowCopy(folder / f"{settings.topic_prefix}.flow-state", settings.site)
        self._copied = 0
        self._readers: list[tuple[DatagramReader, KernelDrops]] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._state: FlowStateFollower | None = None
        self.loaded = asyncio.Event()

    @property
    def port(self) -> int:
        """The UDP port for NetFlow."""
        return self.ports["netflow"]

    # Start and stop

    async def start(self) -> None:
        """Read the shared state, then open the sockets. Raises OSError where one cannot be had, or TLS's files cannot be used."""
        settings, loop = self.settings, self._loop
        tls = ServerTls.of(settings)
        self._state = FlowStateFollower(
            settings,
            self._state_topic,
            self._origin,
            lambda records: void(loop.call_soon_threadsafe(self._shared, records)),
            lambda: void(loop.call_soon_threadsafe(self.loaded.set)),
        )
        self._state.start()
        try:
            async with asyncio.timeout(settings.netflow_state_seconds):
                await self.loaded.wait()
        except TimeoutError:
            await self._use_copy()
        shared = settings.receiver_processes > 1
        udp = {
            "netflow": settings.netflow_port,
            "ipfix": settings.ipfix_port,
            "sflow": settings.sflow_port,
        }
        for name, number in udp.items():
            if number == _OFF or (number and number in self.ports.values()):
                continue
            sock = open_udp(settings.netflow_host, number, settings.receiver_udp_buffer_bytes, self._log, reuse_port=shared)
            port: int = sock.getsockname()[1]
            self.ports[name] = port
            reader = DatagramReader(sock, take_all=lambda datagrams, port=port: self.take(datagrams, port))  # type: ignore[misc]
            self._readers.append((reader, KernelDrops(reader, SERVICE, f"udp:{port}", self._kernel_dropped)))
        self.streams.start(tls)
        if self.streams.tcp_port is not None:
            self.ports["ipfix-tcp"] = self.streams.tcp_port
        if self.streams.tls_port is not None:
            self.ports["ipfix-tls"] = self.streams.tls_port
        self._tasks = [loop.create_task(self._tick()), loop.create_task(self._keep_copy())]
        self._log.info("listening", host=settings.netflow_host, ports=self.ports, exporters_known=len(self.exporters))

    async def _use_copy(self) -> None:
        records: list[StateRecord] = []
        if self._copy is not None:
            try:
                records = await self._loop.run_in_executor(None, self._copy.load)
            except (OSError, CopyError) as error:
                self._log.warning("the local copy of templates cannot be used", file=str(self._copy.path), error=str(error))
            self.exporters.shared(records, time.time_ns() // 1000, written=False)
        self._log.warning(
            "opening with the local copy of templates: others may have learned newer ones"
            if records
            else "opening without the shared templates: data may come before its template",
            topic=self._state_topic,
            seconds=self.settings.netflow_state_seconds,
            records=len(records),
            hint="is Kafka up, and has `weir topics apply` been run?",
        )

    async def stop(self) -> None:
        """Take what the kernel holds, release what waits for templates."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for reader, drops in self._readers:
            reader.close()
            drops.close()
        await self.streams.stop()
        self.hold.close()
        self.follower.close()
        if self._state is not None:
            await self._loop.run_in_executor(None, self._state.stop)
        await self._save_copy()

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(_TICK_SECONDS)
            now_us = time.time_ns() // 1000
            try:
                self.follower.flush(now_us)
                self.exporters.expire(now_us)
            except Exception:  # nothing else tells of loss and forgets what is old
                self._log.exception("keeping the books of exporters failed")

    async def _keep_copy(self) -> None:
        while True:
            await asyncio.sleep(_COPY_SECONDS)
            await self._save_copy()

    async def _save_copy(self) -> None:
        changes = self.exporters.changes
        if self._copy is None or changes == self._copied:
            return
        try:
            await self._loop.run_in_executor(None, self._copy.save, self.exporters.snapshot())
        except Exception as error:  # whatever it is: the stop goes on behind it, and what is held must get out
            if self._say("copy"):
                self._log.warning("the local copy of templates cannot be written", file=str(self._copy.path), error=str(error))
            return
        self._copied = changes

    def _kernel_dropped(self, source: str, datagrams: int) -> None:
        self.publisher.drop(source, datagrams, "kernel buffer full")

    # Datagrams

    def take(self, datagrams: list[tuple[bytes, Any]], listener_port: int) -> None:
        """Datagrams that came on one port, as (bytes, sender)."""
        received_at = time.time_ns() // 1000
        look_up = self.publisher.sources.of
        known: dict[str, Source | None] = {}
        refused: Counter[str] = Counter()
        for data, sender in datagrams:
            address = sender[0]
            try:
                source = known[address]
            except KeyError:
                source = known[address] = look_up(plain_address(address), "udp", listener_port)
            if source is None:
                refused[plain_address(address)] += 1
                continue
            try:
                if sflow.is_sflow(data):
                    self._sflow(source, data, sender[1], received_at)
                else:
                    self._netflow(source, data, sender[1], received_at)
            except Exception:
                # A defect of ours: the others that came with this datagram are none the worse for it.
                self.publisher.drop(source.ip, 1, "internal error")
                if self._say("defect"):
                    self._log.exception("a datagram could not be taken", source=source.ip, bytes=len(data))
        for host, units in refused.items():
            self.publisher.drop(host, units, "source refused")

    def _sflow(self, source: Source, data: bytes, port: int, received_at: int) -> None:
        try:
            header = sflow.read_header(data)
        except sflow.SflowError:
            self._metrics.malformed("sflow")
        else:
            key = StreamKey(header.agent or source.ip, "sflow", header.sub_agent)
            if self.follower.observe(key, Seen(header.sequence, 1, 0, header.uptime), received_at) is not None:
                self._metrics.restarted("sflow")
        self.publisher.offer(source, data, port, received_at=received_at)

    def _netflow(self, source: Source, data: bytes, port: int, received_at: int) -> None:
        try:
            found = scan(data)
        except FlowError:
            found = None  # not a flow datagram: the processor says so, in a dead letter
        if found is None or found.problem is not None:
            self._metrics.malformed("unknown" if found is None else PROTOCOLS[found.version])
        if found is None or not (found.templates or found.data_sets):
            # Nothing to learn and nothing to look up (v5 and v7 among it), so nothing that is worth a place among the exporters.
            if found is not None and found.version in FIXED:
                units = min(found.counted, (len(data) - _FIXED_HEADER) // FIXED[found.version])
                self._follow(source.ip, found, units, 0, received_at)
            self.publisher.offer(source, data, port, received_at=received_at)
            return
        exporter = self.exporters.get(source.ip)
        store = exporter.store
        version, domain = found.version, found.observation_domain
        changed = False
        early = bool(found.templates and found.data_sets) and store.outlives(data)
        if early:
            self.exporters.close_batches(exporter)
            self._offer(exporter, source, data, port, received_at)
            self.exporters.close_batches(exporter)
        known = [store.template(version, domain, number) for number in found.data_sets]
        if found.templates or any(template is not None and template.is_options for template in known):
            changed = self.exporters.learn(exporter, data, received_at)
        units, more = 1, 0
        if version == 10:
            units, whole = store.data_records(data, found)
            more = 0 if whole else len(data) // _SHORTEST_RECORD
        since = self._follow(source.ip, found, units, more, received_at)
        if found.templates or since is not None:
            # Data alone writes no state: anyone can invent addresses.
            epoch = self.follower.epoch(StreamKey(source.ip, PROTOCOLS[version], domain)) or 0
            if since is not None:
                self.exporters.restarted(exporter, version, domain, epoch, since, received_at)
            else:
                self.exporters.in_run(exporter, version, domain, epoch, received_at)
        missing = not early and (changed or since is not None or None in known) and bool(store.missing(data))
        if not early and not (missing and self.hold.add(exporter, source, data, port, received_at)):
            self._offer(exporter, source, data, port, received_at)
        if changed:
            self._release_decodable(exporter)

    def _follow(self, ip: str, found: Scan, units: int, more: int, received_at: int) -> int | None:
        protocol = PROTOCOLS[found.version]
        key = StreamKey(ip, protocol, found.observation_domain)
        seen = Seen(found.sequence, units, found.export_time * _SECOND, found.uptime, more)
        since = self.follower.observe(key, seen, received_at)
        if since is not None:
            self._metrics.restarted(protocol)
            if self._say(("restart", key)):
                self._log.info("an exporter has begun anew", source=ip, protocol=protocol, domain=found.observation_domain)
        return since

    def _offer(self, exporter: Exporter, source: Source, data: bytes, port: int, received_at: int) -> None:
        self.exporters.uses(exporter, source)
        self.publisher.offer(source, data, port, received_at=received_at)

    def _embed(self, batch: OpenBatch) -> None:
        """Put into a batch what decodes it, and mark what it does not."""
        source = batch.source
        if source.transport == ERROR_TRANSPORT:
            return
        if source.stream:
            store = self.streams.store_of(source.stream)
        else:
            exporter = self.exporters.find(source.ip)
            store = None if exporter is None else exporter.store
        if store is None:
            return
        needs = store.needs(batch.units)
        batch.flow_templates = [FlowTemplate(t.version, t.domain, t.template_id, t.is_options, t.record) for t in needs.templates]
        batch.flow_samplings = [FlowSampling(s.version, s.domain, s.selector_id, s.interval) for s in needs.samplings]
        batch.flow_names = [FlowName(*name) for name in needs.names]
        batch.without_template = needs.lacking
        if needs.lacking:
            self._metrics.without_template(len(needs.lacking))

    def _shared(self, records: list[StateRecord]) -> None:
        for exporter in self.exporters.shared(records, time.time_ns() // 1000):
            self._release_decodable(exporter)

    # Data before its template

    def _release(self, held: Held) -> None:
        exporter = self.exporters.find(held.source.ip) or self.exporters.get(held.source.ip)
        self._offer(exporter, held.source, held.data, held.port, held.received_at)

    def _release_decodable(self, exporter: Exporter) -> None:
        again = bool(exporter.held)
        while again:
            again = False
            for held in list(exporter.held):
                if exporter.store.missing(held.data):
                    continue
                # Options data that waited teaches sampling; templates in it were learned when it came, newer ones may
                # have come since.
                if not scan(held.data).templates:
                    again |= self.exporters.learn(exporter, held.data, held.received_at)
                self.hold.let_go(held)


def void(_: object) -> None:
    """Nothing: for callbacks whose result nobody wants."""


def build(settings: NetflowSettings) -> NetflowReceiver:
    """A receiver with its publisher, in the running loop."""
    settings = settings.model_copy(update={"receiver_batch_bytes": min(settings.receiver_batch_bytes, _BATCH_BYTES)})
    publisher = Publisher(
        settings,
        service=SERVICE,
        topic="raw.netflow",
        make_producer=lambda: kafka_producer(settings),
        spool=open_spool(settings, SERVICE),
    )
    return NetflowReceiver(settings, publisher)


def main(settings: NetflowSettings) -> None:
    """Receive flows until SIGTERM or SIGINT. Raises SystemExit with status 1 where it cannot listen."""
    run(settings, SERVICE, build)
