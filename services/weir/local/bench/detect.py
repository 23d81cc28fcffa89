"""`weir bench detect`: what matching events with Sigma rules costs, compared with what decoding them costs.

Units of the load generators, no two alike, go through the decoders of the processors in batches of 250, and the events through
`SignalSource.signals`, as in a processor: in one process, without Kafka and Avro. Counted is the CPU time of this process; of
several rounds over the same units the best is taken, so caches of names and addresses are warm, which makes decoding look cheaper
and the share of matching larger than they are in life.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from itertools import count, islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from weir.detect.reading.loading import load_rules
from weir.detect.rules import RuleSet
from weir.detect.signals.partials import SignalSource
from weir.local.bench.rules import write_rules
from weir.local.generate.beats import BeatsUnits
from weir.local.generate.netflow import EXPORTERS, V9Exporter
from weir.local.generate.syslog import SyslogUnits
from weir.local.generate.units import Unit
from weir.model.batch import FlowSampling, FlowTemplate, RawBatch
from weir.model.ids import new_batch_id
from weir.processors import beats, netflow, syslog
from weir.processors.outcome import Outcome, RawCoordinates
from weir.protocols.netflow import TemplateStore

__all__ = ["SOURCES", "Cost", "Measured", "run_bench"]

_RECEIVED_US: Final = 1_790_000_000_000_000
_SEED: Final = 11
_BATCH: Final = 250
_PARTITIONS: Final = 6

Batches = list[RawBatch]
Process = Callable[[RawBatch, RawCoordinates], Outcome]


@dataclass(frozen=True, slots=True)
class Cost:
    """One source under one number of rules; times are microseconds of CPU for each event."""

    source: str
    rules: int
    events: int
    decode_us: float
    match_us: float
    matches: int

    @property
    def share(self) -> float:
        """Of matching, as a part of what decoding costs."""
        return self.match_us / self.decode_us

    def record(self) -> dict[str, Any]:
        """As JSON has it."""
        return asdict(self) | {"share": self.share}


@dataclass(frozen=True, slots=True)
class Measured:
    """`costs` by source and number of rules, the mean of all sources last; `problems` of the rules that were given."""

    costs: list[Cost]
    loaded: dict[int, int]
    problems: list[str]


def _lines(forms: tuple[str, ...]) -> Callable[[int], Batches]:
    def batches(amount: int) -> Batches:
        units = SyslogUnits(_SEED, 40 * amount, mass_deletes=0, specials=False)
        numbers = (n for n in range(units.amount) if units.source(n).form.startswith(forms))
        made = (units.unit(n, _RECEIVED_US - 37 * amount + 37 * i) for i, n in enumerate(islice(numbers, amount)))
        return list(_in_batches(made, "tcp"))

    return batches


def _documents(amount: int) -> Batches:
    units = BeatsUnits(_SEED, 4 * amount, specials=False)
    made = (units.unit(number, _RECEIVED_US + 37 * number) for number in count())
    return list(_in_batches(islice((unit for unit in made if unit.makes != "sensor"), amount), "lumberjack"))


def _flows(amount: int) -> Batches:
    exporter = V9Exporter(_SEED, EXPORTERS[1].name)
    units: list[Unit] = []
    flows = 0
    while flows < amount:
        units.append(exporter.next(_RECEIVED_US + 1_000 * len(units)))
        flows += units[-1].events
    store = TemplateStore()
    found = []
    for batch in _in_batches(iter(units), "udp", 50):
        for unit in batch.units:
            store.learn(unit)
        needs = store.needs(batch.units)
        batch.flow_templates = [FlowTemplate(t.version, t.domain, t.template_id, t.is_options, t.record) for t in needs.templates]
        batch.flow_samplings = [FlowSampling(s.version, s.domain, s.selector_id, s.interval) for s in needs.samplings]
        found.append(batch)
    return found


def _in_batches(units: Iterator[Unit], transport: str, size: int = _BATCH) -> Iterator[RawBatch]:
    while chunk := [unit.data for unit in islice(units, size)]:
        yield RawBatch(new_batch_id(), "bench", "bench", transport, "127.0.1.2", 5514, _RECEIVED_US, chunk)


SOURCES: Final[dict[str, tuple[Callable[[int], Batches], Process]]] = {
    "qumulo": (_lines(("qumulo-5424",)), syslog.make_process()),
    "cef": (_lines(("kemp", "vendor")), syslog.make_process()),
    "syslog": (_lines(("plain",)), syslog.make_process()),
    "suricata": (_documents, beats.process),
    "netflow-v9": (_flows, netflow.process),
}
"""What is measured with: a function that makes batches of so many events, and the processor's that decodes them."""


def run_bench(events: int, rules: tuple[int, ...], folder: Path | None, rounds: int, say: Callable[[str], None]) -> Measured:
    """Measure.

    Args:
        events: of each source.
        rules: how many, one after the other; made rules fill up what `folder` has.
        folder: of Sigma rules that take part in every number that is not 0.
        rounds: of which the best counts.
        say: is told how it goes.

    Raises:
        FileNotFoundError: there is no such folder.
    """
    given = load_rules(folder) if folder is not None else None
    sets: dict[int, SignalSource] = {}
    loaded: dict[int, int] = {}
    for amount in rules:
        say(f"loading {amount:,} rules")
        rule_set = _rules(amount, given)
        sets[amount], loaded[amount] = SignalSource(rule_set), len(rule_set.rules)
    costs: list[Cost] = []
    for name, (make, process) in SOURCES.items():
        say(f"measuring {name}")
        costs += _measure(name, make(events), process, sets, rounds)
    for amount in rules:
        these = [cost for cost in costs if cost.rules == amount]
        parts = len(these)
        costs.append(
            Cost(
                "all",
                amount,
                sum(cost.events for cost in these),
                sum(cost.decode_us for cost in these) / parts,
                sum(cost.match_us for cost in these) / parts,
                sum(cost.matches for cost in these),
            )
        )
    return Measured(costs, loaded, [] if given is None else [str(problem) for problem in given.problems])


def _rules(amount: int, given: RuleSet | None) -> RuleSet:
    if not amount:
        return RuleSet("none", (), (), ())
    kept = () if given is None else given.rules[:amount]
    alone = () if given is None else tuple(c for c in given.correlations if any(m.rule in kept for m in c.members))
    with TemporaryDirectory(prefix="weir-bench-") as place:
        write_rules(Path(place), amount - len(kept))
        made = load_rules(place)
    if made.problems:
        raise AssertionError(f"a made rule does not load: {made.problems[0]}")
    return RuleSet("bench", (*kept, *made.rules), (*alone, *made.correlations), ())


def _measure(name: str, batches: Batches, process: Process, sets: dict[int, SignalSource], rounds: int) -> list[Cost]:
    where = RawCoordinates("bench", 0, 0)
    outcomes = [process(batch, where) for batch in batches]
    events = sum(len(records) for outcome in outcomes for records in outcome.events.values())
    decode = min(_seconds(lambda: [process(batch, where) for batch in batches]) for _ in range(rounds))
    costs = []
    for amount, source in sets.items():

        def match(source: SignalSource = source) -> list[Any]:
            return [source.signals(outcome.events, _PARTITIONS) for outcome in outcomes]

        found = sum(bucket["count"] for made in match() for partials in made.values() for p in partials for bucket in p["buckets"])
        seconds = min(_seconds(match) for _ in range(rounds))
        costs.append(Cost(name, amount, events, decode / events * 1e6, seconds / events * 1e6, found))
    return costs


def _seconds(work: Callable[[], object]) -> float:
    gc.collect()
    begin = time.process_time()
    work()
    return time.process_time() - begin
