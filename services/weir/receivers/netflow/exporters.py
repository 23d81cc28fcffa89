"""What is known of exporters: what they announced over UDP, since when, and who else has been told.

Bounded: exporters by number (the one silent longest goes first), definitions of each by its store, names over all of them.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from weir.protocols.netflow import (
    MAX_NAMES,
    MAX_SAMPLINGS,
    MAX_TEMPLATES,
    NameRecord,
    SamplingRecord,
    TemplateRecord,
    TemplateStore,
)
from weir.receivers.netflow.hold import Held
from weir.receivers.netflow.metrics import FlowMetrics
from weir.receivers.netflow.sequences import Follower, StreamKey
from weir.receivers.netflow.state import AT_HEADER, ORIGIN_HEADER, FlowStateCodec, Item, RunRecord, StateKey, StateRecord, state_key
from weir.receivers.publishing.batching import Source
from weir.receivers.publishing.publisher import Publisher

__all__ = ["PROTOCOLS", "Exporter", "Exporters", "Lifetimes"]

PROTOCOLS = {5: "netflow-v5", 7: "netflow-v7", 9: "netflow-v9", 10: "ipfix", 0: "sflow"}

_KNOWN_KEYS = MAX_TEMPLATES + MAX_SAMPLINGS + MAX_NAMES + 256
_MAX_RUNS = 256
_MAX_SOURCES = 8
_STATE_RECORDS_PER_MINUTE = 2_000
_STATE_RECORDS_IN_ALL = 20_000
"""Records written to the state topic in a minute, over all exporters: addresses can be invented."""
_NAMES_IN_ALL = 262_144
_COUNT_NAMES_EVERY = 2_048
_OPTIONS_LIFETIMES = 8
"""Options outlive templates: without a sampling value flows decode to wrong counts without a trace."""
_NAMES_REFRESH = 6
_SWEEP_EXPORTERS = 64


@dataclass(frozen=True, slots=True)
class Lifetimes:
    """Microseconds: how long a template lives without being announced, and after how long an unchanged one is written again."""

    template: int
    refresh: int

    def of(self, kind: str) -> int:
        """How long something of this kind lives."""
        return self.template if kind == "template" else self.template * _OPTIONS_LIFETIMES

    def due(self, kind: str) -> int:
        """How long it is before something of this kind is written again."""
        return self.refresh if kind in ("template", "sampling") else self.refresh * _NAMES_REFRESH


class _Known:
    """When something was last announced, and when it was last written to the state topic or read there; microseconds UTC."""

    __slots__ = ("announced_at", "written_at")

    def __init__(self, announced_at: int = 0, written_at: int = 0) -> None:
        self.announced_at = announced_at
        self.written_at = written_at


class Exporter:
    """What is known of one address."""

    __slots__ = ("held", "ip", "known", "runs", "sources", "state_minute", "state_records", "store")

    def __init__(self, ip: str) -> None:
        self.ip = ip
        self.store = TemplateStore(withdrawals=False)
        self.known: dict[StateKey, _Known] = {}
        self.runs: dict[tuple[int, int], RunRecord] = {}
        self.held: dict[Held, None] = {}
        self.sources: dict[Source, None] = {}
        self.state_minute = 0
        self.state_records = 0

    def may_write_state(self, now_us: int) -> bool:
        """Whether one more record goes to the state topic: a datagram can hold a hundred definitions, new ones each time."""
        minute = now_us // 60_000_000
        if minute != self.state_minute:
            self.state_minute, self.state_records = minute, 0
        self.state_records += 1
        return self.state_records <= _STATE_RECORDS_PER_MINUTE

    def announced_at(self, item: Item) -> int:
        """When it was last announced; 0 where it is not known."""
        known = self.known.get(state_key(item))
        return 0 if known is None else known.announced_at

    def item(self, key: StateKey) -> Item | None:
        """What is in force under this key."""
        version, domain, kind, number = key
        if isinstance(number, str):
            name = self.store.name(version, domain, kind, number)
            return None if name is None else NameRecord(version, domain, kind, number, name)
        if kind == "template":
            return self.store.template(version, domain, number)
        if kind == "sampling":
            interval = self.store.sampling(version, domain, number)
            return None if interval is None else SamplingRecord(version, domain, number, interval)
        return self.runs.get((version, domain))

    def note(self, key: StateKey) -> _Known:
        """When it was announced and written, to be filled in."""
        known = self.known.get(key)
        if known is None:
            if len(self.known) >= _KNOWN_KEYS:
                self.known = {k: at for k, at in self.known.items() if self.item(k) is not None}
            known = self.known[key] = _Known()
        return known


class Exporters:
    """All of them, and their side of the state topic.

    Args:
        most: exporters kept.
        lifetimes: see there.
        topic: full name of the state topic.
        codec: of its records.
        origin: the value of ORIGIN_HEADER in records written here.
        publisher: where records go, and whose batches are closed before a definition changes.
        follower: is told which run an exporter is in.
        metrics: counts changes.
        leaving: called with an exporter that is about to be forgotten.
    """

    def __init__(
        self,
        most: int,
        lifetimes: Lifetimes,
        topic: str,
        codec: FlowStateCodec,
        origin: str,
        publisher: Publisher,
        follower: Follower,
        metrics: FlowMetrics,
        leaving: Callable[[Exporter], None],
    ) -> None:
        self._most = most
        self._lifetimes = lifetimes
        self._topic = topic
        self._codec = codec
        self._origin = origin.encode()
        self._publisher = publisher
        self._follower = follower
        self._metrics = metrics
        self._leaving = leaving
        self._all: OrderedDict[str, Exporter] = OrderedDict()
        self._new_names = 0
        self._state_minute = 0
        self._state_records = 0
        self._swept: list[str] = []
        self.changes = 0
        """Grows with everything that a copy of the state must know."""

    def __len__(self) -> int:
        return len(self._all)

    def __iter__(self) -> Iterator[Exporter]:
        return iter(self._all.values())

    def find(self, ip: str) -> Exporter | None:
        """The exporter, where it is known."""
        return self._all.get(ip)

    def get(self, ip: str) -> Exporter:
        """The exporter, known from now on."""
        exporter = self._all.get(ip)
        if exporter is not None:
            self._all.move_to_end(ip)
            return exporter
        exporter = self._all[ip] = Exporter(ip)
        if len(self._all) > self._most:
            oldest = next(iter(self._all.values()))
            # Still known while its last batches are finished.
            self._leaving(oldest)
            self.close_batches(oldest)
            del self._all[oldest.ip]
        return exporter

    def uses(self, exporter: Exporter, source: Source) -> None:
        """Units of this source are about to be collected: its batch closes when a definition changes."""
        sources = exporter.sources
        if source not in sources:
            if len(sources) >= _MAX_SOURCES:
                self.close_batches(exporter)
            sources[source] = None

    def close_batches(self, exporter: Exporter) -> None:
        """Publish what has been collected, with the definitions of now."""
        sources, exporter.sources = exporter.sources, {}
        for source in sources:
            self._publisher.close_batch(source)

    # What exporters announce

    def learn(self, exporter: Exporter, data: bytes, now_us: int) -> bool:
        """Take over what a datagram announces; whether anything is new."""
        store = exporter.store
        if store.replaces(data):
            self.close_batches(exporter)
        changed = False
        for item, new in store.announced(data):
            if isinstance(item, TemplateRecord) and not item.record:
                self._metrics.template("withdrawal-ignored")
                continue
            key = state_key(item)
            known = exporter.note(key)
            if new:
                changed = True
                self.changes += 1
                if isinstance(item, TemplateRecord) and known.announced_at:
                    self._metrics.template("changed")
                if isinstance(item, NameRecord):
                    self._bound_names()
            known.announced_at = now_us
            if new or known.written_at <= now_us - self._lifetimes.due(key.kind):
                self._write(exporter, key, known, item, now_us)
        return changed

    def in_run(self, exporter: Exporter, version: int, domain: int, epoch: int, now_us: int) -> None:
        """The exporter's numbers belong to this run; told to the others where that is new, and once in a while."""
        run = exporter.runs.get((version, domain))
        if run is None or run.epoch != epoch:
            run = RunRecord(version, domain, epoch, 0 if run is None else run.began_at)
            self._set_run(exporter, run)
            exporter.note(state_key(run)).written_at = 0
        key = StateKey(version, domain, "run", 0)
        known = exporter.note(key)
        known.announced_at = now_us
        if known.written_at <= now_us - self._lifetimes.due("run"):
            self._write(exporter, key, known, run, now_us)

    def restarted(self, exporter: Exporter, version: int, domain: int, epoch: int, began_at: int, now_us: int) -> None:
        """Templates of a domain that were learned before `began_at` are void from now on, here and for all receivers."""
        run = RunRecord(version, domain, epoch, began_at)
        self._void(exporter, run)
        key = state_key(run)
        known = exporter.note(key)
        known.announced_at = now_us
        self._write(exporter, key, known, run, now_us)

    def _set_run(self, exporter: Exporter, run: RunRecord) -> None:
        exporter.runs[run[:2]] = run
        self.changes += 1
        if len(exporter.runs) > _MAX_RUNS:
            oldest = next(iter(exporter.runs))
            exporter.known.pop(StateKey(*oldest, "run", 0), None)
            del exporter.runs[oldest]

    def _void(self, exporter: Exporter, run: RunRecord) -> None:
        self._set_run(exporter, run)
        self.close_batches(exporter)
        gone = exporter.store.restarted(run.version, run.domain, lambda t: exporter.announced_at(t) < run.began_at)
        for template in gone:
            exporter.known.pop(state_key(template), None)
        self._metrics.template("void", len(gone))

    def _bound_names(self) -> None:
        self._new_names += 1
        if self._new_names < _COUNT_NAMES_EVERY:
            return
        self._new_names = 0
        names = sum(exporter.store.names for exporter in self._all.values())
        for exporter in self._all.values():
            if names <= _NAMES_IN_ALL:
                return
            names -= exporter.store.names
            exporter.store.forget_names()
            exporter.known = {key: at for key, at in exporter.known.items() if not isinstance(key.number, str)}

    # The state topic

    def _write(self, exporter: Exporter, key: StateKey, known: _Known, item: Item, now_us: int) -> None:
        if not self._may_write(exporter, now_us):
            known.written_at = 0  # due when it is announced next
            return
        known.written_at = now_us
        value = self._codec.encode(exporter.ip, now_us, item)
        self._publisher.send(self._topic, key.text(exporter.ip), value, headers=[(ORIGIN_HEADER, self._origin)])

    def _may_write(self, exporter: Exporter, now_us: int) -> bool:
        if self._publisher.memory.shut:
            return False
        minute = now_us // 60_000_000
        if minute != self._state_minute:
            self._state_minute, self._state_records = minute, 0
        if self._state_records >= _STATE_RECORDS_IN_ALL or not exporter.may_write_state(now_us):
            return False
        self._state_records += 1
        return True

    def _bury(self, exporter: Exporter, key: StateKey, announced_at: int, now_us: int) -> None:
        """Tell the others that nothing was heard since `announced_at`: who has heard more keeps it, so that a receiver whose clock
        is hours ahead takes nothing from those that hear the exporter."""
        if self._may_write(exporter, now_us):
            headers = [(ORIGIN_HEADER, self._origin), (AT_HEADER, str(announced_at).encode())]
            self._publisher.send(self._topic, key.text(exporter.ip), None, headers=headers)

    def shared(self, records: list[StateRecord], now_us: int, *, written: bool = True) -> list[Exporter]:
        """What other receivers, or this one before its last start, have learned; returns exporters that have something new.

        `written` is False for what does not come from the topic, but from a copy of it.
        """
        touched: dict[str, Exporter] = {}
        for record in records:
            exporter = self.get(record.exporter)
            if self._take(exporter, record, now_us, written):
                touched[exporter.ip] = exporter
        return list(touched.values())

    def _take(self, exporter: Exporter, record: StateRecord, now_us: int, written: bool) -> bool:
        key, item = record.key, record.item
        known = exporter.known.get(key)
        announced_at = 0 if known is None else known.announced_at
        if item is None:
            if known is not None and announced_at > record.learned_at:
                known.written_at = 0  # announced since: it is written again
            elif known is not None:
                self._remove(exporter, key)
            return False
        if record.learned_at <= announced_at:
            if known is not None and written:
                known.written_at = max(known.written_at, record.learned_at)
            return False
        if record.learned_at < now_us - self._lifetimes.of(key.kind):
            if written:
                self._bury(exporter, key, record.learned_at, now_us)
            return False
        if not self._put(exporter, item, record.learned_at):
            return False
        known = exporter.note(key)
        known.announced_at = min(record.learned_at, now_us)
        known.written_at = known.announced_at if written else 0
        self.changes += 1
        return True

    def _put(self, exporter: Exporter, item: Item, learned_at: int) -> bool:
        store = exporter.store
        if isinstance(item, RunRecord):
            before = exporter.runs.get(item[:2])
            if before is not None and before.epoch > item.epoch:
                return False
            self._follower.adopt(StreamKey(exporter.ip, PROTOCOLS.get(item.version, ""), item.domain), item.epoch)
            if item.began_at > (0 if before is None else before.began_at):
                self._void(exporter, item)
            else:
                # Who has not seen the restart knows nothing of it; that makes what it voided no better.
                self._set_run(exporter, item if before is None else item._replace(began_at=before.began_at))
            return True
        if isinstance(item, NameRecord):
            store.put_name(item)
            self._bound_names()
            return True
        if isinstance(item, TemplateRecord):
            run = exporter.runs.get(item[:2])
            if run is not None and learned_at < run.began_at:
                return False
            template = store.template(*item[:3])
            if template is not None and template != item:
                self.close_batches(exporter)
            store.put(item)
            return True
        interval = store.sampling(*item[:3])
        if interval is not None and interval != item.interval:
            self.close_batches(exporter)
        return store.put_sampling(item) or interval is not None

    def _remove(self, exporter: Exporter, key: StateKey) -> None:
        item = exporter.item(key)
        del exporter.known[key]
        self.changes += 1
        if isinstance(item, RunRecord):
            exporter.runs.pop(item[:2], None)
        elif item is not None:
            self.close_batches(exporter)
            exporter.store.remove(item)

    # Expiry and the copy

    def expire(self, now_us: int) -> None:
        """Forget what has not been announced within its lifetime (RFC 7011 section 8.4), a few exporters with each call.

        Not while Kafka is away: others may have heard announcements that this receiver has not been told of.
        """
        if self._publisher.problem() is not None:
            return
        if not self._swept:
            self._swept = list(self._all)
        for _ in range(min(_SWEEP_EXPORTERS, len(self._swept))):
            exporter = self._all.get(self._swept.pop())
            if exporter is None:
                continue
            old = [key for key, known in exporter.known.items() if known.announced_at < now_us - self._lifetimes.of(key.kind)]
            for key in old:
                announced_at = exporter.known[key].announced_at
                if key.kind == "template":
                    self._metrics.template("expired")
                self._remove(exporter, key)
                self._bury(exporter, key, announced_at, now_us)

    def snapshot(self) -> list[StateRecord]:
        """Everything that is known, for a copy."""
        records = []
        for exporter in self._all.values():
            for key, known in exporter.known.items():
                item = exporter.item(key)
                if item is not None:
                    records.append(StateRecord(exporter.ip, key, known.announced_at, item))
        return records
