"""Units into raw batches, and these through the processors' own functions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from weir.bus.codec import Encoder
from weir.model.batch import FlowName, FlowSampling, FlowTemplate, RawBatch
from weir.model.ids import parse_event_id
from weir.model.topics import DATASETS
from weir.processors import beats, netflow, readers
from weir.processors.enrichment import Enrichment
from weir.processors.outcome import Dead, Outcome, RawCoordinates
from weir.processors.syslog import make_process
from weir.protocols.netflow import Needs
from weir.protocols.pcap import is_capture
from weir.tools.decode.captures import Capture
from weir.tools.decode.families import Family
from weir.tools.decode.flows import FlowState
from weir.tools.decode.sources import Options, open_input
from weir.tools.decode.text import units_of
from weir.tools.decode.units import LINGER_US, DecodeError, Kind, Note, Unit

__all__ = ["DeadUnit", "Decoded", "Totals", "decode"]

ROUND: Final = 500
"""Units that are decoded at once, and at most so many bytes of them."""

ROUND_BYTES: Final = 8 * 1024**2
MAX_HEADINGS: Final = 16
_NO_NEEDS: Final = Needs([], [], [], [])

Process = Callable[[RawBatch, RawCoordinates], Outcome]


class Decoded(NamedTuple):
    """One event: its dataset, its fields, and where its unit was."""

    dataset: str
    record: dict[str, Any]
    place: str


class DeadUnit(NamedTuple):
    """A unit that could not be decoded, or not whole: where it was, and why."""

    place: str
    reason: str


@dataclass(slots=True)
class Totals:
    """What came of the input. `passed_over`, `other` and `incomplete` are of captures, see `Capture`."""

    units: int = 0
    empty: int = 0
    dead: int = 0
    events: Counter[str] = field(default_factory=Counter)
    templates: int = 0
    option_records: int = 0
    passed_over: int = 0
    other: int = 0
    incomplete: int = 0


def decode(family: Family, paths: Iterable[str], options: Options, totals: Totals) -> Iterator[Decoded | DeadUnit | Note]:
    """Decode the files one after the other, with one state; `totals` is filled as it goes.

    Raises DecodeError where a file cannot be read, after what came before it.
    """
    rounds = _Rounds(options, totals)
    failed: DecodeError | None = None
    try:
        for path in paths:
            source = open_input(path)
            capture = Capture(family, options.ports) if is_capture(source.start) else None
            units = capture.units(source) if capture else units_of(family, source, split=options.split)
            for unit in units:
                if isinstance(unit, Note):
                    yield unit
                else:
                    yield from rounds.take(unit)
            rounds.end_of_file()
            if capture is not None:
                totals.passed_over += capture.passed_over
                totals.other += capture.other
                totals.incomplete += capture.incomplete
    except DecodeError as error:
        failed = error
    yield from rounds.finish()
    if failed is not None:
        raise failed


@dataclass(slots=True)
class _Group:
    """Units of one batch under way, by number, and the headings of the file that are given to it again."""

    headings: list[Unit]
    opened_us: int | None
    numbers: list[int] = field(default_factory=list)


class _Rounds:
    """Collects units, and decodes them some hundred at a time: one batch a source and kind, printed in the order of the input."""

    def __init__(self, options: Options, totals: Totals) -> None:
        self._options = options
        self._totals = totals
        self._flows = FlowState()
        self._units: dict[int, Unit] = {}
        self._bytes = 0
        self._fresh = 0
        self._number = 0
        self._batches = 0
        self._headings: dict[str, Unit] = {}
        self._groups: dict[tuple[Kind, str, str], _Group] = {}
        self._done: list[tuple[int, int, Decoded | DeadUnit]] = []
        readers.ask_first(options.plugins.readers)
        self._process: dict[Kind, Process] = {"syslog": make_process(), "beats": beats.process, "netflow": netflow.process}
        self._enrichment = (options.enrichment or Enrichment({})).followed_by(options.plugins.steps)
        self._encoders = {dataset: Encoder(dataset) for dataset in DATASETS}

    def take(self, unit: Unit) -> Iterator[Decoded | DeadUnit]:
        """Take a unit; gives what is ready."""
        self._number += 1
        self._totals.units += 1
        if unit.problem is not None:
            self._dead(self._number, unit.place, unit.problem)
        else:
            self._units[self._number] = unit
            self._group(self._number, unit)
        self._fresh += 1
        self._bytes += len(unit.data)
        if self._fresh >= ROUND or self._bytes >= ROUND_BYTES:
            self._close_groups()
            for batch in self._flows.close():
                self._decode("netflow", batch.source_ip, "udp", batch.units, batch.needs)
            yield from self._ready()

    def finish(self) -> Iterator[Decoded | DeadUnit]:
        """The input is over."""
        self._close_groups()
        for batch in self._flows.finish():
            self._decode("netflow", batch.source_ip, "udp", batch.units, batch.needs)
        self._totals.templates = self._flows.templates
        self._totals.option_records = self._flows.option_records
        yield from self._ready()

    def end_of_file(self) -> None:
        """A file ends: what its headings said is over, and no batch holds lines of two files."""
        if self._headings:
            self._close_groups()
            self._headings.clear()

    def _group(self, number: int, unit: Unit) -> None:
        source_ip = unit.source_ip if unit.source_ip and not self._options.source_given else self._options.source_ip
        if unit.kind == "netflow":
            for batch in self._flows.add(source_ip, number, unit.data, unit.received_us):
                self._decode("netflow", batch.source_ip, unit.transport, batch.units, batch.needs)
            return
        key = (unit.kind, source_ip, unit.transport)
        group = self._groups.get(key)
        if group is not None and unit.received_us is not None and unit.received_us - (group.opened_us or 0) > LINGER_US:
            self._decode(*key, group.numbers, _NO_NEEDS, group.headings)
            group = None
        if group is None:
            # A later batch of a file is given the file's headings again; what comes of them there has been printed.
            group = self._groups[key] = _Group([] if unit.heading else list(self._headings.values()), unit.received_us)
        group.numbers.append(number)
        if unit.heading and (unit.heading in self._headings or len(self._headings) < MAX_HEADINGS):
            self._headings[unit.heading] = unit

    def _close_groups(self) -> None:
        groups, self._groups = self._groups, {}
        for (kind, source_ip, transport), group in groups.items():
            self._decode(kind, source_ip, transport, group.numbers, _NO_NEEDS, group.headings)

    def _ready(self) -> Iterator[Decoded | DeadUnit]:
        done, self._done = sorted(self._done, key=lambda one: one[:2]), []
        self._fresh = self._bytes = 0
        for _, _, one in done:
            yield one

    def _dead(self, number: int, place: str, reason: str) -> None:
        self._totals.dead += 1
        self._done.append((number, -1, DeadUnit(place, reason)))

    def _decode(
        self, kind: Kind, source_ip: str, transport: str, numbers: list[int], needs: Needs, again: Sequence[Unit] = ()
    ) -> None:
        units = [self._units.pop(number) for number in numbers]
        received = units[0].received_us if not self._options.received_given else None
        batch = RawBatch(
            batch_id=self._batches.to_bytes(16, "big"),
            site="",
            receiver="decode",
            transport=transport,
            source_ip=source_ip,
            listener_port=0,
            received_at=self._options.received_us if received is None else received,
            units=[unit.data for unit in (*again, *units)],
            time_zone=self._options.time_zone,
            flow_templates=[FlowTemplate(t.version, t.domain, t.template_id, t.is_options, t.record) for t in needs.templates],
            flow_samplings=[FlowSampling(s.version, s.domain, s.selector_id, s.interval) for s in needs.samplings],
            flow_names=[FlowName(*name) for name in needs.names],
            without_template=list(needs.lacking),
        )
        try:
            outcome = self._process[kind](batch, RawCoordinates("", 0, self._batches))
        except Exception as error:
            outcome = Outcome(dead=[Dead(index, f"decoder failed: {error!r}") for index in range(len(batch.units))])
        self._enrichment.apply(outcome.events)
        self._batches += 1
        self._take_outcome(outcome, numbers, units, len(again))

    def _unfit(self, dataset: str, record: dict[str, Any]) -> str | None:
        """Why a processor could not publish this event."""
        try:
            self._encoders[dataset](record)
        except Exception as error:  # fastavro raises many kinds for values that do not fit
            return f"a value does not fit schema {dataset}: {error}"
        return None

    def _take_outcome(self, outcome: Outcome, numbers: list[int], units: list[Unit], again: int) -> None:
        left = len(units)
        dead: dict[int, str] = {}
        for one in outcome.dead:
            dead.setdefault(one.unit_index - again, one.reason)
        for index, reason in dead.items():
            if index >= 0:
                self._dead(numbers[index], units[index].place, reason)
        seen = set(dead)
        for dataset, records in outcome.events.items():
            for record in records:
                _, unit, place = parse_event_id(record["event_id"])
                index = unit - again
                if index < 0:
                    continue
                seen.add(index)
                if (wrong := self._unfit(dataset, record)) is not None:
                    self._dead(numbers[index], units[index].place, wrong)
                else:
                    self._totals.events[dataset] += 1
                    self._done.append((numbers[index], place, Decoded(dataset, record, units[index].place)))
        self._totals.empty += left - len([index for index in seen if index >= 0])
