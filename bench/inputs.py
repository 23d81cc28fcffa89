"""What is measured with: units of each kind, no two alike, and the events that must come of them.

The generators of `weir.local.generate` make them, so addresses, users, paths, ports and counters are drawn anew for each unit and
no cache finds what it has seen before.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import count, islice
from typing import Final

from weir.local.generate.beats import BeatsUnits
from weir.local.generate.netflow import Flow, V5Exporter, flow
from weir.local.generate.syslog import SyslogUnits
from weir.local.generate.units import EMPTY, Unit
from weir.model.batch import FlowSampling, FlowTemplate, RawBatch
from weir.model.ids import new_batch_id
from weir.protocols.netflow import TemplateStore
from weir.protocols.netflow.encode import DataSet, FieldSpec, Message, Template, encode

__all__ = ["EXPORTER", "LOADS", "RECEIVED_US", "Load", "v9_units"]

RECEIVED_US: Final = 1_790_000_000_000_000
EXPORTER: Final = "127.0.1.2"
SEED: Final = 11
V9_FLOWS: Final = 24
_UPTIME: Final = 86_400_000
_APART_US: Final = 37


@dataclass(frozen=True)
class Load:
    """Units of one kind for one processor ("syslog", "beats" or "netflow"), in raw batches of `batch_units`."""

    kind: str
    transport: str
    units: list[Unit]
    batch_units: int

    @cached_property
    def expected(self) -> Counter[str]:
        """Events by dataset."""
        return self.expected_of(self.units)

    @staticmethod
    def expected_of(units: list[Unit]) -> Counter[str]:
        """Events by dataset that these units make."""
        expected: Counter[str] = Counter()
        for unit in units:
            if unit.makes != EMPTY:
                expected[unit.makes] += unit.events
        return expected

    def batches(self) -> Iterator[tuple[RawBatch, int]]:
        """Raw batches as a receiver makes them, each with the number of its events."""
        store = TemplateStore()
        for start in range(0, len(self.units), self.batch_units):
            units = self.units[start : start + self.batch_units]
            batch = RawBatch(
                new_batch_id(), "bench", "bench", self.transport, EXPORTER, 5514, RECEIVED_US, [unit.data for unit in units]
            )
            if self.kind == "netflow":
                for unit in units:
                    store.learn(unit.data)
                needs = store.needs(batch.units)
                batch.flow_templates = [
                    FlowTemplate(t.version, t.domain, t.template_id, t.is_options, t.record) for t in needs.templates
                ]
                batch.flow_samplings = [FlowSampling(s.version, s.domain, s.selector_id, s.interval) for s in needs.samplings]
            yield batch, self.expected_of(units).total()


def _syslog(amount: int, forms: tuple[str, ...]) -> Load:
    """The lines of the sources whose form begins with one of `forms`."""
    lines = SyslogUnits(SEED, 40 * amount, mass_deletes=0, specials=False)
    numbers = (n for n in range(lines.amount) if lines.source(n).form.startswith(forms))
    units = [lines.unit(n, RECEIVED_US - _APART_US * amount + _APART_US * i) for i, n in enumerate(islice(numbers, amount))]
    return Load("syslog", "tcp", units, 250)


def _qumulo(amount: int) -> Load:
    return _syslog(amount, ("qumulo-5424",))


def _cef(amount: int) -> Load:
    return _syslog(amount, ("kemp", "vendor"))


def _eve(amount: int) -> Load:
    """Suricata's records in Filebeat's and SensorFleet's documents, in every wrapping that the generator knows."""
    documents = BeatsUnits(SEED, 4 * amount, specials=False)
    made = (documents.unit(number, RECEIVED_US + _APART_US * number) for number in count())
    return Load("beats", "lumberjack", list(islice((unit for unit in made if unit.makes != "sensor"), amount)), 250)


# 19 fields, those of the measurement of goflow2: addresses, next hop, interfaces, packets, octets, first and last, ports, flags,
# protocol, type of service, AS numbers, masks, direction.
_V9: Final = Template(
    256,
    [
        FieldSpec(element, length)
        for element, length in (
            (8, 4), (12, 4), (15, 4), (10, 4), (14, 4), (2, 4), (1, 4), (22, 4), (21, 4), (7, 2), (11, 2), (6, 1), (4, 1), (5, 1),
            (16, 4), (17, 4), (9, 1), (13, 1), (61, 1),
        )
    ],
)  # fmt: skip


def _v9_record(one: Flow, number: int) -> tuple[int, ...]:
    return (
        one.source, one.destination, 0x0A14FFFE, 1 + one.source % 4, 5 + one.destination % 3, one.packets, one.octets,
        _UPTIME - one.began, _UPTIME - one.ended, one.source_port, one.destination_port, one.tcp_flags, one.protocol,
        number % 8 * 32, 64_500 + number % 300, 64_900 + number % 200, 16, 24, number % 2,
    )  # fmt: skip


def v9_units(amount: int) -> list[Unit]:
    """A datagram with the template, then datagrams of 24 flows."""
    second = RECEIVED_US // 1_000_000
    units = [Unit(encode(Message(9, second, [_V9], domain=7, uptime=_UPTIME)), EMPTY)]
    for sequence, first in enumerate(range(0, amount, V9_FLOWS), 1):
        records = [_v9_record(flow(SEED, "bench", number), number) for number in range(first, first + V9_FLOWS)]
        message = Message(9, second, [DataSet(_V9, records, padded=True)], domain=7, sequence=sequence, uptime=_UPTIME)
        units.append(Unit(encode(message), "network-flow", V9_FLOWS))
    return units


def _v9(amount: int) -> Load:
    return Load("netflow", "udp", v9_units(amount), 50)


def _v5(amount: int) -> Load:
    exporter = V5Exporter(SEED, "bench")
    return Load("netflow", "udp", [exporter.next(RECEIVED_US) for _ in range(-(-amount // 30))], 40)


LOADS: Final[dict[str, Callable[[int], Load]]] = {
    "file-audit": _qumulo,
    "cef": _cef,
    "netflow-v9": _v9,
    "netflow-v5": _v5,
    "suricata": _eve,
}
"""Amount of events to units that make them (flows: at least so many, in whole datagrams)."""
