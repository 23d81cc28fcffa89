"""`weir bench detect`: what matching events with Sigma rules costs, compared with what decoding them costs.

Units of the load generators, no two alike, go through the decoders of the processors in batches of 250 (50 datagrams of flows),
the events through what is derived from them without tables (directions, which rules about flows ask for), through
`SignalSource.signals`, and what that finds through the encoder of signals, as in a processor: in one process, without Kafka.
Counted is the CPU time of this process; of several rounds over the same units the best is taken, so caches of names and addresses
are warm, which makes decoding look cheaper and the share of detection larger than they are in life.

Made rules measure how the cost grows with their number; few events match them. The rules that come with Weir measure what matches
cost: the generated events match them far more often than those of a network do, since every operation occurs as often as the next.
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

from weir.bus.codec import Encoder
from weir.detect.reading.loading import load_rules
from weir.detect.rules import RuleSet
from weir.detect.signals.partials import SignalSource
from weir.enrich.direction import own_networks
from weir.local.bench.rules import write_rules
from weir.local.generate.beats import BeatsUnits
from weir.local.generate.netflow import EXPORTERS, ExporterSpec
from weir.local.generate.syslog import SyslogUnits
from weir.local.generate.units import Unit
from weir.model.batch import FlowSampling, FlowTemplate, RawBatch
from weir.model.ids import new_batch_id
from weir.model.topics import DATASETS
from weir.processors import beats, netflow, syslog
from weir.processors.derived import derived_steps
from weir.processors.enrichment import Enrichment
from weir.processors.outcome import Outcome, RawCoordinates
from weir.protocols.netflow import TemplateStore

__all__ = ["SOURCES", "Cost", "Measured", "run_bench"]

_RECEIVED_US: Final = 1_790_000_000_000_000
_SEED: Final = 11
_BATCH: Final = 250
_PARTITIONS: Final = 6

_ENCODE: Final = Encoder("signals")
_HEAD: Final = {
    "signals_id": "0" * 32 + "-0", "kind": "partials", "processor": "bench", "rule_set": "0" * 16, "raw_topic": "raw.bench",
    "raw_partition": 0, "raw_offset": 0, "received_at": _RECEIVED_US, "receiver": "",
}  # fmt: skip

Batches = list[RawBatch]
Process = Callable[[RawBatch, RawCoordinates], Outcome]


@dataclass(frozen=True, slots=True)
class Cost:
    """One source under one set of rules; times are microseconds of CPU for each event.

    `shipped`: the rules are those that come with Weir. `encode_us` is for signals, the events themselves not counted; `partials`
    are groups in them.
    """

    source: str
    rules: int
    events: int
    decode_us: float
    match_us: float
    encode_us: float
    matches: int
    partials: int
    shipped: bool = False

    @property
    def share(self) -> float:
        """Of matching and encoding, as a part of what decoding costs."""
        return (self.match_us + self.encode_us) / self.decode_us

    def record(self) -> dict[str, Any]:
        """As JSON has it."""
        return asdict(self) | {"share": self.share}


@dataclass(frozen=True, slots=True)
class _Set:
    source: SignalSource
    rules: int
    shipped: bool = False


@dataclass(frozen=True, slots=True)
class Measured:
    """`costs` by source and set of rules, the shipped ones last, and then the means of all sources.

    `problems` are of the rules that were given.
    """

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
    return [batch for spec in EXPORTERS for batch in _flows_of(spec, amount // len(EXPORTERS))]


def _flows_of(spec: ExporterSpec, amount: int) -> Batches:
    exporter = spec.make(_SEED, spec.name)
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
    "netflow": (_flows, netflow.process),
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
    sets: list[_Set] = []
    loaded: dict[int, int] = {}
    for amount in rules:
        say(f"loading {amount:,} rules")
        rule_set = _rules(amount, given)
        sets.append(_Set(SignalSource(rule_set), amount))
        loaded[amount] = len(rule_set.rules)
    shipped = load_rules()
    sets.append(_Set(SignalSource(shipped), len(shipped.rules), shipped=True))
    costs: list[Cost] = []
    for name, (make, process) in SOURCES.items():
        say(f"measuring {name}")
        costs += _measure(name, make(events), process, sets, rounds)
    for one in sets:
        costs.append(_mean([cost for cost in costs if (cost.rules, cost.shipped) == (one.rules, one.shipped)]))
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


def _mean(costs: list[Cost]) -> Cost:
    parts = len(costs)
    return Cost(
        "all",
        costs[0].rules,
        sum(cost.events for cost in costs),
        sum(cost.decode_us for cost in costs) / parts,
        sum(cost.match_us for cost in costs) / parts,
        sum(cost.encode_us for cost in costs) / parts,
        sum(cost.matches for cost in costs),
        sum(cost.partials for cost in costs),
        costs[0].shipped,
    )


def _measure(name: str, batches: Batches, process: Process, sets: list[_Set], rounds: int) -> list[Cost]:
    where = RawCoordinates("bench", 0, 0)
    outcomes = [process(batch, where) for batch in batches]
    events = sum(len(records) for outcome in outcomes for records in outcome.events.values())
    decode = min(_seconds(lambda: [process(batch, where) for batch in batches]) for _ in range(rounds))
    derived = Enrichment({dataset: derived_steps(dataset, own_networks("private")) for dataset in DATASETS})
    for outcome in outcomes:
        derived.apply(outcome.events)
    costs = []
    for one in sets:

        def match(source: SignalSource = one.source) -> list[dict[int, list[dict[str, Any]]]]:
            return [source.signals(outcome.events, _PARTITIONS) for outcome in outcomes]

        found = [partials for by_partition in match() for partials in by_partition.values()]

        def encode(found: list[list[dict[str, Any]]] = found) -> list[bytes]:
            return [_ENCODE(_HEAD | {"partials": partials}) for partials in found]

        seconds = min(_seconds(match) for _ in range(rounds))
        encoding = min(_seconds(encode) for _ in range(rounds))
        costs.append(
            Cost(
                name,
                one.rules,
                events,
                decode / events * 1e6,
                seconds / events * 1e6,
                encoding / events * 1e6,
                sum(_matches(partial) for partials in found for partial in partials),
                sum(map(len, found)),
                one.shipped,
            )
        )
    return costs


def _matches(partial: dict[str, Any]) -> int:
    """Events that a partial counts; of a packed one its groups."""
    return sum(bucket["count"] for bucket in partial["buckets"]) if partial["buckets"] else len(partial["shown"])


def _seconds(work: Callable[[], object]) -> float:
    gc.collect()
    begin = time.process_time()
    work()
    return time.process_time() - begin
