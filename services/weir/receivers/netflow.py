"""The NetFlow receiver: v5, v9 and IPFIX over UDP, each raw batch with what is needed to decode it.

Each exporter address has a store of what it announced. Definitions are shared over a compacted topic (see `flowstate`), and a
batch carries those that its datagrams need, as they were when the datagrams came: before a definition changes, the open batch
is closed. Data whose template is not known is held for a while, and then published all the same.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict

from pydantic import Field

from weir.model.batch import FlowSampling, FlowTemplate
from weir.model.topics import TopicNames
from weir.ops.logging import get
from weir.protocols.netflow import FlowError, SamplingRecord, Scan, TemplateRecord, TemplateStore, scan
from weir.receivers.batching import OpenBatch, Source
from weir.receivers.flowstate import ORIGIN_HEADER, FlowStateCodec, FlowStateFollower, StateKey, StateRecord, state_key
from weir.receivers.publisher import Publisher, open_spool
from weir.receivers.service import kafka_producer, run
from weir.receivers.settings import SpoolSettings
from weir.receivers.udp import DatagramReader, open_udp

__all__ = ["SERVICE", "NetflowReceiver", "NetflowSettings", "main"]

SERVICE = "receive.netflow"
_KNOWN_KEYS = 4_096
_BATCH_BYTES = 640_000
"""Datagrams of one batch at most; templates and sampling values, up to 170 kB, come on top."""
_STATE_RECORDS_PER_MINUTE = 2_000


class NetflowSettings(SpoolSettings):
    """What the NetFlow receiver reads."""

    netflow_host: str = Field("0.0.0.0", min_length=1, description="address to listen on; '::' for IPv4 and IPv6")
    netflow_port: int = Field(2055, ge=0, le=65535, description="UDP port; 0 takes any free one")
    netflow_max_exporters: int = Field(
        1_024,
        ge=1,
        le=65_536,
        description="exporter addresses whose templates are kept, each up to 128 kB of them; the one silent longest goes first",
    )
    netflow_state_seconds: float = Field(
        10.0,
        ge=0,
        le=600,
        description="how long to wait at start for the shared templates before the socket is opened without them",
    )
    netflow_refresh_seconds: float = Field(
        600.0, ge=1, le=86_400, description="how often an unchanged template that is announced again is written to the state topic"
    )
    netflow_hold_seconds: float = Field(
        5.0, ge=0, le=300, description="how long data waits for its template before it is published without; 0 holds nothing"
    )
    netflow_hold_datagrams: int = Field(8_192, ge=1, le=1_000_000, description="datagrams held at most, of all exporters")
    netflow_hold_bytes: int = Field(16 * 1024 * 1024, ge=65_536, le=1024**3, description="bytes held at most, of all exporters")


class _Held:
    """A datagram whose template is not known yet."""

    __slots__ = ("data", "deadline", "exporter", "port", "received_at")

    def __init__(self, exporter: _Exporter, data: bytes, port: int, received_at: int, deadline: float) -> None:
        self.exporter = exporter
        self.data = data
        self.port = port
        self.received_at = received_at
        self.deadline = deadline


class _Exporter:
    """What is known of one address. `learned` says when each definition was last written to the state topic, or read there."""

    __slots__ = ("held", "learned", "source", "state_minute", "state_records", "store")

    def __init__(self, source: Source) -> None:
        self.source = source
        self.store = TemplateStore()
        self.learned: dict[StateKey, int] = {}
        self.held: dict[_Held, None] = {}
        self.state_minute = 0
        self.state_records = 0

    def may_write_state(self, now_us: int) -> bool:
        """Whether one more record goes to the state topic: a datagram can hold a hundred definitions, new ones each time."""
        minute = now_us // 60_000_000
        if minute != self.state_minute:
            self.state_minute, self.state_records = minute, 0
        self.state_records += 1
        return self.state_records <= _STATE_RECORDS_PER_MINUTE

    def note(self, key: StateKey, learned_at: int) -> None:
        """Remember when a definition was learned."""
        self.learned[key] = learned_at
        if len(self.learned) > _KNOWN_KEYS:
            self.learned = {k: at for k, at in self.learned.items() if self._knows(k)}

    def _knows(self, key: StateKey) -> bool:
        if key.kind == "template":
            return self.store.template(key.version, key.domain, key.number) is not None
        return self.store.sampling(key.version, key.domain, key.number) is not None


class NetflowReceiver:
    """Listens for flows, keeps what exporters announce, and hands datagrams to the publisher."""

    def __init__(self, settings: NetflowSettings, publisher: Publisher) -> None:
        self.settings = settings
        self.publisher = publisher
        self.port = settings.netflow_port
        publisher.finish = self._embed
        self._log = get(f"weir.{SERVICE}")
        self._loop = asyncio.get_running_loop()
        self._exporters: OrderedDict[str, _Exporter] = OrderedDict()
        self._held: dict[_Held, None] = {}
        self._held_bytes = 0
        self._hold_timer: asyncio.TimerHandle | None = None
        self._udp: DatagramReader | None = None
        self._state_topic = TopicNames(settings.topic_prefix)["state.netflow-templates"]
        self._codec = FlowStateCodec(settings.site)
        self._origin = publisher.ledger.instance
        self._loaded = asyncio.Event()
        self._follower: FlowStateFollower | None = None

    # Start and stop

    async def start(self) -> None:
        """Read the shared templates, then open the socket. Raises OSError where it cannot be had."""
        settings, loop = self.settings, self._loop
        self._follower = FlowStateFollower(
            settings,
            self._state_topic,
            self._origin,
            lambda records: void(loop.call_soon_threadsafe(self._shared, records)),
            lambda: void(loop.call_soon_threadsafe(self._loaded.set)),
        )
        self._follower.start()
        try:
            async with asyncio.timeout(settings.netflow_state_seconds):
                await self._loaded.wait()
        except TimeoutError:
            self._log.warning(
                "opening without the shared templates: data may come before its template",
                topic=self._state_topic,
                seconds=settings.netflow_state_seconds,
                hint="is Kafka up, and has `weir topics apply` been run?",
            )
        sock = open_udp(settings.netflow_host, settings.netflow_port, settings.receiver_udp_buffer_bytes, self._log)
        self.port = sock.getsockname()[1]
        self._udp = DatagramReader(sock, self._datagram)
        self._log.info("listening", host=settings.netflow_host, udp_port=self.port, exporters_known=len(self._exporters))

    async def stop(self) -> None:
        """Take what the kernel holds, release what waits for templates."""
        if self._udp is not None:
            self._udp.close()
            self._udp = None
        if self._hold_timer is not None:
            self._hold_timer.cancel()
        for held in list(self._held):
            self._release(held)
        if self._follower is not None:
            await self._loop.run_in_executor(None, self._follower.stop)

    # Datagrams

    def _datagram(self, data: bytes, host: str, port: int) -> None:
        received_at = time.time_ns() // 1000
        try:
            found = scan(data)
        except FlowError:
            found = None  # not a flow datagram: the processor says so, in a dead letter
        if found is None or not (found.templates or found.data_sets):
            # Nothing to learn and nothing to look up (v5 among it), so nothing that is worth a place among the exporters.
            self.publisher.offer(Source(host, "udp", self.port), data, port, received_at=received_at)
            return
        exporter = self._exporter(host)
        store = exporter.store
        version, domain = found.version, found.observation_domain
        known = [store.template(version, domain, number) for number in found.data_sets]
        changed = False
        if found.templates or any(template is not None and template.is_options for template in known):
            changed = self._learn(exporter, data, found, received_at)
            missing = bool(store.missing(data))
        else:
            missing = None in known
        if not (missing and self._hold(exporter, data, port, received_at)):
            self._offer(exporter, data, port, received_at)
        if changed:
            self._release_decodable(exporter)

    def _exporter(self, host: str) -> _Exporter:
        exporter = self._exporters.get(host)
        if exporter is None:
            exporter = self._exporters[host] = _Exporter(Source(host, "udp", self.port))
            if len(self._exporters) > self.settings.netflow_max_exporters:
                _, oldest = self._exporters.popitem(last=False)
                self._exporters[oldest.source.ip] = oldest  # known once more, while its last batch is finished
                for held in list(oldest.held):
                    self._release(held)
                self.publisher.close_batch(oldest.source)
                del self._exporters[oldest.source.ip]
        else:
            self._exporters.move_to_end(host)
        return exporter

    def _offer(self, exporter: _Exporter, data: bytes, port: int, received_at: int) -> None:
        self.publisher.offer(exporter.source, data, port, received_at=received_at)

    def _embed(self, batch: OpenBatch) -> None:
        exporter = self._exporters.get(batch.source.ip)
        if exporter is None:
            return
        templates, samplings = exporter.store.required(batch.units)
        batch.flow_templates = [FlowTemplate(t.version, t.domain, t.template_id, t.is_options, t.record) for t in templates]
        batch.flow_samplings = [FlowSampling(s.version, s.domain, s.selector_id, s.interval) for s in samplings]

    # What exporters announce

    def _learn(self, exporter: _Exporter, data: bytes, found: Scan, now_us: int) -> bool:
        store = exporter.store
        if store.replaces(data):
            self.publisher.close_batch(exporter.source)
        changed = store.learn(data)
        for item in changed:
            self._write_state(exporter, item, now_us)
        # What is announced again unchanged is written again once in a while: a receiver may have been away, a record lost.
        version, domain = found.version, found.observation_domain
        again: list[TemplateRecord | SamplingRecord] = [t for t in found.templates if store.template(*t[:3]) == t]
        if found.data_sets:
            again += [SamplingRecord(version, domain, *pair) for pair in store.samplings(version, domain).items()]
        oldest = now_us - int(self.settings.netflow_refresh_seconds * 1_000_000)
        for item in again:
            if exporter.learned.get(state_key(item), 0) <= oldest:
                self._write_state(exporter, item, now_us)
        return bool(changed)

    def _write_state(self, exporter: _Exporter, item: TemplateRecord | SamplingRecord, now_us: int) -> None:
        if isinstance(item, TemplateRecord) and not item.record:
            self._withdraw(exporter, item)
            return
        key = state_key(item)
        if self.publisher.memory.shut or not exporter.may_write_state(now_us):
            exporter.learned.pop(key, None)  # due when it is announced next
            return
        exporter.note(key, now_us)
        self._send_state(exporter, key, item, now_us)

    def _withdraw(self, exporter: _Exporter, item: TemplateRecord) -> None:
        # A withdrawal may name one template or all of a kind: what the store no longer has is gone.
        gone = [
            key
            for key in exporter.learned
            if key[:3] == (item.version, item.domain, "template") and exporter.store.template(key[0], key[1], key[3]) is None
        ]
        for key in gone:
            del exporter.learned[key]
            self._send_state(exporter, key, TemplateRecord(key.version, key.domain, key.number, False, b""), 0)

    def _send_state(self, exporter: _Exporter, key: StateKey, item: TemplateRecord | SamplingRecord, now_us: int) -> None:
        value = self._codec.encode(exporter.source.ip, now_us, item)
        headers = [(ORIGIN_HEADER, self._origin.encode())]
        self.publisher.send(self._state_topic, key.text(exporter.source.ip), value, headers=headers)

    def _shared(self, records: list[StateRecord]) -> None:
        """What other receivers, or this one before its last start, have learned."""
        touched: dict[_Exporter, None] = {}
        now_us = time.time_ns() // 1000
        for record in records:
            exporter = self._exporter(record.exporter)
            if record.learned_at <= exporter.learned.get(record.key, 0):
                continue
            store, item = exporter.store, record.item
            if isinstance(item, TemplateRecord):
                known = store.template(*item[:3])
                if known != item and known is not None:
                    self.publisher.close_batch(exporter.source)
                changed = store.put(item)
            else:
                before = store.sampling(*item[:3])
                if before is not None and before != item.interval:
                    self.publisher.close_batch(exporter.source)
                changed = store.put_sampling(item)
            if isinstance(item, TemplateRecord) and not item.record:
                exporter.learned.pop(record.key, None)
            else:
                exporter.note(record.key, min(record.learned_at, now_us))
            if changed:
                touched[exporter] = None
        for exporter in touched:
            self._release_decodable(exporter)

    # Data before its template

    def _hold(self, exporter: _Exporter, data: bytes, port: int, received_at: int) -> bool:
        settings = self.settings
        if not settings.netflow_hold_seconds:
            return False
        held = _Held(exporter, data, port, received_at, self._loop.time() + settings.netflow_hold_seconds)
        self._held[held] = exporter.held[held] = None
        self._held_bytes += len(data)
        while len(self._held) > settings.netflow_hold_datagrams or self._held_bytes > settings.netflow_hold_bytes:
            self._release(next(iter(self._held)))
        if self._hold_timer is None:
            self._hold_timer = self._loop.call_later(settings.netflow_hold_seconds, self._hold_over)
        return True

    def _release(self, held: _Held) -> None:
        if held in self._held:
            del self._held[held], held.exporter.held[held]
            self._held_bytes -= len(held.data)
            self._offer(held.exporter, held.data, held.port, held.received_at)

    def _release_decodable(self, exporter: _Exporter) -> None:
        again = bool(exporter.held)
        while again:
            again = False
            for held in list(exporter.held):
                if exporter.store.missing(held.data):
                    continue
                found = scan(held.data)
                # Options data that waited teaches sampling; templates in it were learned when it came, newer ones may
                # have come since.
                if not found.templates:
                    again |= self._learn(exporter, held.data, found, held.received_at)
                self._release(held)

    def _hold_over(self) -> None:
        self._hold_timer = None
        now = self._loop.time()
        while self._held:
            held = next(iter(self._held))
            if held.deadline > now + 0.001:
                self._hold_timer = self._loop.call_later(held.deadline - now, self._hold_over)
                return
            self._release(held)


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
