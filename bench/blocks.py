"""Building blocks in this one process, to see where the time of a path goes."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, TypeVar

from bench.inputs import LOADS, RECEIVED_US, Load
from weir.bus.codec import Decoder, Encoder
from weir.detect.reading.loading import load_rules
from weir.detect.signals.partials import SignalSource
from weir.model.batch import RawBatch
from weir.processors import beats, netflow, syslog
from weir.processors.outcome import Outcome, RawCoordinates
from weir.protocols import beats as beats_format
from weir.protocols import cef, eve, qumulo
from weir.protocols import netflow as flows
from weir.protocols import syslog as syslog_format

__all__ = ["BLOCK_LOADS", "Block", "measure_blocks"]

T = TypeVar("T")

WHERE: Final = RawCoordinates("bench.raw.v1", 0, 0)
BLOCK_LOADS: Final = ("file-audit", "cef", "netflow-v9", "netflow-v5", "suricata")
_PROCESS: Final[dict[str, Callable[[RawBatch, RawCoordinates], Outcome]]] = {
    "syslog": syslog.make_process(),
    "beats": beats.process,
    "netflow": netflow.process,
}


@dataclass(frozen=True, slots=True)
class Block:
    """CPU time of one step for one kind of events."""

    name: str
    step: str
    events: int
    cpu_seconds: float

    @property
    def microseconds(self) -> float:
        """Per event."""
        return self.cpu_seconds / self.events * 1e6

    def record(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "name": self.name,
            "step": self.step,
            "events": self.events,
            "microseconds": round(self.microseconds, 3),
            "events_per_cpu_second": round(1e6 / self.microseconds),
        }


class _Clock:
    """CPU time by step."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def time(self, step: str, work: Callable[[], T]) -> T:
        begun = time.process_time()
        result = work()
        self.seconds[step] = self.seconds.get(step, 0.0) + time.process_time() - begun
        return result


def measure_blocks(name: str, events: int) -> list[Block]:
    """The steps of a processor, batch by batch as in life: what one batch made is gone when the next one comes.

    Raises:
        ValueError: a step lost events.
    """
    load = LOADS[name](events)
    raw = [Encoder("raw-batch")(batch.to_record()) for batch, _ in load.batches()]
    decode, encoders = Decoder(), {dataset: Encoder(dataset) for dataset in load.expected}
    process, source, store = _PROCESS[load.kind], SignalSource(load_rules()), flows.TemplateStore()
    decode(raw[0])
    clock, seen = _Clock(), Counter[str]()
    for value in raw:
        batch = clock.time("Avro: raw batch in", partial(_batch, decode, value))
        seen["decoders"] += clock.time("decoders of weir.protocols", partial(_protocol, load, batch))
        outcome = clock.time("process: batch to event records, decoders included", partial(process, batch, WHERE))
        seen["encoded"] += clock.time("Avro: events out", partial(_encode, outcome, encoders))
        clock.time("rules: single-event part", partial(source.signals, outcome.events, 4))
        if load.kind == "netflow":
            clock.time("receiver: learn and missing", partial(_learn, store, batch))
    expected = load.expected.total()
    for step, count in seen.items():
        if count != expected:
            raise ValueError(f"{name}: {expected - count} of {expected} events are missing ({step})")
    return [Block(name, step, expected, seconds) for step, seconds in clock.seconds.items()]


def _batch(decode: Decoder, value: bytes) -> RawBatch:
    return RawBatch.from_record(decode(value))


def _encode(outcome: Outcome, encoders: dict[str, Encoder]) -> int:
    return sum(bool(encoders[dataset](record)) for dataset, records in outcome.events.items() for record in records)


def _learn(store: flows.TemplateStore, batch: RawBatch) -> None:
    for datagram in batch.units:
        store.learn(datagram)
        store.missing(datagram)


def _protocol(load: Load, batch: RawBatch) -> int:
    """Events that the pure decoders see in a batch."""
    if load.kind == "netflow":
        decoder = flows.Decoder(
            [
                flows.TemplateRecord(t.version, t.observation_domain, t.template_id, t.options, t.record)
                for t in batch.flow_templates
            ]
        )
        return sum(len(decoder.decode(datagram).flows) for datagram in batch.units)
    if load.kind == "beats":
        return sum(_eve(unit) for unit in batch.units)
    return sum(_line(unit) for unit in batch.units)


def _eve(unit: bytes) -> bool:
    record = beats_format.dispatch(beats_format.parse(unit)).eve
    return record is not None and eve.decode(record) is not None


def _line(unit: bytes) -> bool:
    message = syslog_format.parse(unit, received_us=RECEIVED_US)
    if (body := qumulo.recognise(message)) is not None:
        return bool(qumulo.parse(body).operation)
    return bool(cef.parse(message.message[cef.find(message.message) :]).extension)
