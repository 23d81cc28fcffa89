"""A run: every kind of source at once, for so many units, within so many seconds."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial, reduce
from operator import add
from typing import Final

from weir.local.generate.attacks import AttackUnits
from weir.local.generate.beats import BeatsUnits
from weir.local.generate.netflow import NetflowUnits
from weir.local.generate.senders import MakeUnit, Pace, send_beats, send_datagrams, send_syslog_tcp
from weir.local.generate.streams import Address
from weir.local.generate.syslog import SyslogUnits, Transport
from weir.local.generate.units import Sent

__all__ = ["Amounts", "Targets", "run"]

_PROGRESS_S: Final = 0.5
_UDP: Final[frozenset[Transport]] = frozenset({"udp"})
_TCP: Final[frozenset[Transport]] = frozenset({"counted", "lines"})


@dataclass(frozen=True, slots=True)
class Targets:
    """Where the receivers listen, each an address (not a name) and a port; None leaves that kind of traffic out."""

    syslog_udp: Address | None = None
    syslog_tcp: Address | None = None
    beats: Address | None = None
    netflow: Address | None = None


@dataclass(frozen=True, slots=True)
class Amounts:
    """Units of each kind; what is out of the ordinary is included in them.

    `syslog` lines with `mass_deletes` deletes by `mallory`; `netflow` datagrams (of some 20 flows each); `beats` documents, by
    `beats_clients` clients in windows of `beats_window`. With `specials` one unit of each kind is malformed, and one syslog line
    blank; the datagrams of templates alone, which give no event either, come in any case. `attacks` adds the mix of `attacks`.
    """

    syslog: int = 40_000
    netflow: int = 1_200
    beats: int = 10_000
    mass_deletes: int = 500
    mallory: str = "AD\\mallory"
    specials: bool = True
    attacks: bool = False
    beats_clients: int = 2
    beats_window: int = 200


class _Worker(threading.Thread):
    """One sender in its thread, with what it has sent so far and what it died of."""

    def __init__(self, kind: str, send: Callable[[Sent], None]) -> None:
        super().__init__(name=f"generate-{kind}", daemon=True)
        self.kind = kind
        self.sent = Sent()
        self.failure: Exception | None = None
        self._send = send

    def run(self) -> None:
        try:
            self._send(self.sent)
        except Exception as error:
            self.failure = error


def run(
    targets: Targets,
    amounts: Amounts | None = None,
    *,
    seed: int = 1,
    seconds: float = 13.0,
    bytes_per_ms: int = 2000,
    patience: float = 60.0,
    on_progress: Callable[[dict[str, Sent]], None] | None = None,
    stop: threading.Event | None = None,
) -> dict[str, Sent]:
    """Send everything and say what was sent, by "syslog", "netflow" and "beats" (those that have a target), and of the attacks by
    "attacks syslog" and so on.

    Blocks until all is sent, or `stop` is set. All units take `seconds` together where the receivers keep up, and longer where
    they do not; datagrams never go faster than `bytes_per_ms` (for each of syslog and NetFlow). `on_progress` is called in this
    thread twice a second and at the end. A receiver may die and come back; `patience` is how many seconds a TCP sender waits
    for it.

    Raises:
        ConnectionError: nobody listened at a TCP target for `patience` seconds; the other senders have been stopped then,
            by setting `stop`.
        ValueError: `amounts.syslog` has no room for the mass delete.
    """
    amounts = amounts or Amounts()
    stop = stop or threading.Event()
    workers = _workers(targets, amounts, seed, seconds, bytes_per_ms, patience, stop)
    for worker in workers:
        worker.start()
    try:
        while any(worker.is_alive() for worker in workers):
            if any(worker.failure is not None for worker in workers):
                stop.set()
            if on_progress is not None:
                on_progress(_totals(workers))
            _join(workers, _PROGRESS_S)
    except BaseException:
        stop.set()
        raise
    for worker in workers:
        if worker.failure is not None:
            raise worker.failure
    totals = _totals(workers)
    if on_progress is not None:
        on_progress(totals)
    return totals


def _join(workers: list[_Worker], seconds: float) -> None:
    """Wait until the time is over or the last of those that still run has ended."""
    for worker in workers:
        if worker.is_alive():
            worker.join(seconds)
            return


def _totals(workers: list[_Worker]) -> dict[str, Sent]:
    kinds = dict.fromkeys(worker.kind for worker in workers)
    return {kind: reduce(add, (worker.sent for worker in workers if worker.kind == kind), Sent()) for kind in kinds}


def _workers(
    targets: Targets, amounts: Amounts, seed: int, seconds: float, bytes_per_ms: int, patience: float, stop: threading.Event
) -> list[_Worker]:
    workers: list[_Worker] = []
    transports = (_UDP if targets.syslog_udp else frozenset[Transport]()) | (_TCP if targets.syslog_tcp else frozenset[Transport]())
    if amounts.syslog and transports:
        lines = SyslogUnits(
            seed,
            amounts.syslog,
            transports=transports,
            mass_deletes=amounts.mass_deletes,
            mallory=amounts.mallory,
            specials=amounts.specials,
        )
        pace = Pace(amounts.syslog, seconds)
        if targets.syslog_udp:
            addresses = ((number, source.address) for number, source in lines.numbers(_UDP))
            send = partial(send_datagrams, targets.syslog_udp, addresses, lines.unit, pace, stop=stop, bytes_per_ms=bytes_per_ms)
            workers.append(_Worker("syslog", send))
        if targets.syslog_tcp:
            numbers = lines.numbers(_TCP)
            workers.append(
                _Worker(
                    "syslog",
                    partial(send_syslog_tcp, targets.syslog_tcp, numbers, lines.unit, pace, stop=stop, patience=patience),
                )
            )
    if amounts.netflow and targets.netflow:
        datagrams = NetflowUnits(seed, amounts.netflow, specials=amounts.specials)
        exporters: Iterator[tuple[int, str]] = ((number, exporter.address) for number, exporter in datagrams.numbers())
        pace = Pace(amounts.netflow, seconds)
        send = partial(send_datagrams, targets.netflow, exporters, datagrams.unit, pace, stop=stop, bytes_per_ms=bytes_per_ms)
        workers.append(_Worker("netflow", send))
    if amounts.beats and targets.beats:
        documents = BeatsUnits(seed, amounts.beats, specials=amounts.specials)
        pace = Pace(amounts.beats, seconds)
        workers.extend(
            _beats_client(targets.beats, documents, client, amounts, pace, patience, stop)
            for client in range(amounts.beats_clients)
        )
    if amounts.attacks:
        workers.extend(_attackers(targets, amounts, seconds, bytes_per_ms, patience, stop))
    return workers


def _attackers(
    targets: Targets, amounts: Amounts, seconds: float, bytes_per_ms: int, patience: float, stop: threading.Event
) -> Iterator[_Worker]:
    """Senders of the attack mix, each kind's steps in their order."""
    steps = AttackUnits(pipeline=True).steps(time.time_ns() // 1000)
    mine = {sender: [step for step in steps if step.sender == sender] for sender in ("syslog", "netflow", "beats")}

    def unit_of(sender: str) -> MakeUnit:
        return lambda number, now_us: mine[sender][number].unit

    def pace_of(sender: str) -> Pace:
        return Pace(len(mine[sender]), seconds / 2)

    if targets.syslog_tcp:
        sources = ((number, step.source) for number, step in enumerate(mine["syslog"]))
        send = partial(
            send_syslog_tcp, targets.syslog_tcp, sources, unit_of("syslog"), pace_of("syslog"), stop=stop, patience=patience
        )
        yield _Worker("attacks syslog", send)
    if targets.netflow:
        addresses = ((number, step.source.address) for number, step in enumerate(mine["netflow"]))
        send = partial(
            send_datagrams, targets.netflow, addresses, unit_of("netflow"), pace_of("netflow"), stop=stop, bytes_per_ms=bytes_per_ms
        )
        yield _Worker("attacks netflow", send)
    if targets.beats:
        numbers = range(len(mine["beats"]))
        send = partial(
            send_beats, targets.beats, numbers, unit_of("beats"), pace_of("beats"), stop=stop,
            window=amounts.beats_window, patience=patience,
        )  # fmt: skip
        yield _Worker("attacks beats", send)


def _beats_client(
    target: Address, documents: BeatsUnits, client: int, amounts: Amounts, pace: Pace, patience: float, stop: threading.Event
) -> _Worker:
    numbers = range(client, documents.amount, amounts.beats_clients)
    window = amounts.beats_window
    return _Worker("beats", partial(send_beats, target, numbers, documents.unit, pace, stop=stop, window=window, patience=patience))
