"""Flow datagrams in batches that carry what decodes them, as the receiver makes them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from weir.protocols.netflow import FlowError, Needs, Scan, TemplateRecord, TemplateStore, scan
from weir.protocols.netflow.wire import WireSet, layout, records_in
from weir.tools.decode.units import LINGER_US

__all__ = ["FlowBatch", "FlowState"]

MAX_SOURCES: Final = 4_096
MAX_WAITING: Final = 4_096
"""Datagrams that wait for their template, over all sources; then the oldest go as they are."""

_NOTHING: Final = Needs([], [], [], [])


class FlowBatch(NamedTuple):
    """Indexes of the units of one batch, in order, and what decodes them."""

    source_ip: str
    units: list[int]
    needs: Needs


class _Waiting(NamedTuple):
    """A datagram without its template, and what else was known when it came: names and sampling may be given anew meanwhile."""

    data: bytes
    needs: Needs


@dataclass(slots=True)
class _Exporter:
    ip: str
    store: TemplateStore = field(default_factory=lambda: TemplateStore(withdrawals=False))
    open: list[tuple[int, bytes]] = field(default_factory=list)
    opened_us: int | None = None
    waiting: OrderedDict[int, _Waiting] = field(default_factory=OrderedDict)


class FlowState:
    """What is known of every exporter, over the whole input.

    Units have a number of their own. `templates` and `option_records` count what was announced and how many records of options
    came. A datagram whose template is not known waits for it to the end of the input.
    """

    def __init__(self) -> None:
        self.templates = 0
        self.option_records = 0
        self._exporters: OrderedDict[str, _Exporter] = OrderedDict()
        self._waiting = 0

    def add(self, source_ip: str, number: int, data: bytes, received_us: int | None = None) -> Iterator[FlowBatch]:
        """Take a datagram; gives the batches that are closed by it: by what it announces, or by its time."""
        exporter = self._exporters.get(source_ip)
        if exporter is None:
            exporter = self._exporters[source_ip] = _Exporter(source_ip)
            if len(self._exporters) > MAX_SOURCES:
                _, oldest = self._exporters.popitem(last=False)
                yield from self._finish(oldest)
        else:
            self._exporters.move_to_end(source_ip)
        if received_us is not None:
            if exporter.open and received_us - (exporter.opened_us or received_us) > LINGER_US:
                yield from _closed(exporter)
            if not exporter.open:
                exporter.opened_us = received_us
        try:
            found = scan(data)
        except FlowError:
            found = None  # sFlow, or nothing that the processor knows: it says so
        if found is None or not (found.templates or found.data_sets):
            exporter.open.append((number, data))
            return
        self.templates += sum(1 for template in found.templates if template.record)
        yield from self._learn(exporter, number, data, found)

    def close(self) -> Iterator[FlowBatch]:
        """The batches under way, so that their events can be printed."""
        for exporter in self._exporters.values():
            yield from _closed(exporter)

    def finish(self) -> Iterator[FlowBatch]:
        """The input is over: batches under way, and what still waits for a template."""
        for exporter in self._exporters.values():
            yield from self._finish(exporter)

    def _finish(self, exporter: _Exporter) -> Iterator[FlowBatch]:
        yield from _closed(exporter)
        self._waiting -= len(exporter.waiting)
        for number, (_, needs) in exporter.waiting.items():
            yield FlowBatch(exporter.ip, [number], needs)
        exporter.waiting.clear()

    def _learn(self, exporter: _Exporter, number: int, data: bytes, found: Scan) -> Iterator[FlowBatch]:
        store = exporter.store
        if store.outlives(data):
            # What decodes its data is what is known before it is learned.
            yield from _closed(exporter)
            self._count_options(store, data, found)
            exporter.open.append((number, data))
            yield from _closed(exporter)
            changed = bool(store.learn(data))
        else:
            if store.replaces(data):
                yield from _closed(exporter)
            changed = bool(store.learn(data))
            self._count_options(store, data, found)
            if store.missing(data):
                yield from self._wait(exporter, number, data)
            else:
                exporter.open.append((number, data))
        if changed:
            self._release(exporter)

    def _wait(self, exporter: _Exporter, number: int, data: bytes) -> Iterator[FlowBatch]:
        exporter.waiting[number] = _Waiting(data, exporter.store.needs([data]))
        self._waiting += 1
        if self._waiting > MAX_WAITING:
            oldest = next(one for one in self._exporters.values() if one.waiting)
            first, (_, needs) = oldest.waiting.popitem(last=False)
            self._waiting -= 1
            yield FlowBatch(oldest.ip, [first], needs)

    def _release(self, exporter: _Exporter) -> None:
        again = bool(exporter.waiting)
        while again:
            again = False
            for number, (data, _) in list(exporter.waiting.items()):
                if exporter.store.missing(data):
                    continue
                found = scan(data)
                if not found.templates:
                    again |= bool(exporter.store.learn(data))
                    self._count_options(exporter.store, data, found)
                del exporter.waiting[number]
                self._waiting -= 1
                exporter.open.append((number, data))

    def _count_options(self, store: TemplateStore, data: bytes, found: Scan) -> None:
        own = {template.template_id: template for template in found.templates if template.record}
        for set_id, bounds in zip(found.data_sets, found.data_bounds, strict=True):
            template = store.template(found.version, found.observation_domain, set_id) or own.get(set_id)
            if template is not None and template.is_options:
                self.option_records += _records(data, set_id, bounds, template)


def _records(data: bytes, set_id: int, bounds: tuple[int, int], template: TemplateRecord) -> int:
    count = 0
    try:
        for _ in records_in(data, WireSet(set_id, bounds[0] - 4, *bounds), layout(template)):
            count += 1
    except FlowError:
        pass
    return count


def _closed(exporter: _Exporter) -> Iterator[FlowBatch]:
    if exporter.open:
        units, exporter.open = exporter.open, []
        yield FlowBatch(exporter.ip, [number for number, _ in units], exporter.store.needs(data for _, data in units))
