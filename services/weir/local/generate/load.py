"""A load: so many events per second of one kind, from so many sources, and an exact account of what was sent and acknowledged.

The schedule is absolute: what is due is computed from the time since the start, so that a pause is made up for and rates hold over
any length of time. Each source numbers its events from 0; together with the run that is the stamp by which `verify` finds losses.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import time
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from ipaddress import ip_address
from typing import Any, Final

import uvloop

from weir.local.generate.kinds import KINDS, Maker, host_name

__all__ = ["Load", "Schedule", "SourceState", "Summary", "run_load", "source_address"]

_DOUBT_S: Final = 5.0
_GRACE_S: Final = 0.25
_PROGRESS_S: Final = 0.5


@dataclass(frozen=True, slots=True)
class Load:
    """What to send.

    `rate` is events per second over all sources, 0 as fast as it goes; `count` events and `seconds` end it, whichever comes first,
    and without both it goes on until it is stopped. `burst` events become due together. With `patience` seconds a sender whose
    connection is refused or lost tries again for so long; with 0 it gives up. `window` documents go into a Lumberjack window or an
    HTTP request. `run` tells the stamps of this run from those of any other (0 to 65535).
    """

    kind: str
    host: str
    port: int
    transport: str
    form: str
    sources: int = 1
    rate: float = 1000.0
    count: int | None = None
    seconds: float | None = None
    burst: int = 1
    seed: int = 1
    run: int = 0
    framing: str = "counted"
    window: int = 200
    patience: float = 0.0
    tls: ssl.SSLContext | None = None
    server_name: str = ""
    path: str = "/"

    @property
    def total(self) -> int | None:
        """Events in all; None for no end."""
        timed = round(self.rate * self.seconds) if self.rate and self.seconds is not None else None
        return min((amount for amount in (self.count, timed) if amount is not None), default=None)


class Schedule:
    """How many events are due by now."""

    def __init__(self, rate: float, total: int | None, burst: int = 1, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate, self._total, self._burst, self._clock = rate, total, burst, clock
        self.started = clock()

    def due(self) -> int:
        """Events with numbers below this are due."""
        if self._rate:
            bursts = int((self._clock() - self.started) * self._rate / self._burst) + 1
            due = bursts * self._burst
        else:
            due = 2**62
        return due if self._total is None else min(due, self._total)

    def wait(self, number: int) -> float:
        """Seconds until the event of this number is due; 0 where it is."""
        if not self._rate:
            return 0.0
        return max(0.0, self.started + number // self._burst * self._burst / self._rate - self._clock())


@dataclass(slots=True)
class SourceState:
    """One source of a run.

    `sent` counts events whose last byte was handed to the network, and is the number of the next one; `acknowledged` those that
    the receiver said it holds, always the first ones (None where the protocol acknowledges nothing). `uncertain` are ranges of
    numbers, both ends included, that were under way when a connection broke. `blocked_seconds` is how long the receiver (or the
    network) took nothing.
    """

    source: int
    name: str
    address: str
    quota: int | None
    sent: int = 0
    bytes: int = 0
    wire_bytes: int = 0
    acknowledged: int | None = None
    resent: int = 0
    throttled: int = 0
    reconnects: int = 0
    refused: int = 0
    blocked_seconds: float = 0.0
    uncertain: list[tuple[int, int]] = field(default_factory=list)
    failure: str | None = None
    _recent: deque[tuple[float, int]] = field(default_factory=deque)
    _last: float = 0.0

    def handed_over(self, events: int, units: int, wire: int) -> None:
        """So many events, of so many bytes without and with their framing, have been handed to the network."""
        now = time.monotonic()
        if not self._recent or now - self._recent[-1][0] > 0.1:
            self._recent.append((now, self.sent))
            while len(self._recent) > 1 and self._recent[1][0] < now - _DOUBT_S - self.blocked_seconds:
                self._recent.popleft()
        self._last = now
        self.sent += events
        self.bytes += units
        self.wire_bytes += wire

    def doubt(self) -> None:
        """The receiver has gone: what was handed over in the last seconds may not have been passed on by it."""
        oldest = time.monotonic() - _DOUBT_S - self.blocked_seconds
        # An entry holds what was handed over until the next one; so the last one before the limit counts as well.
        first = next(
            (first for (_, first), after in zip(self._recent, list(self._recent)[1:], strict=False) if after[0] >= oldest), None
        )
        if first is None and self._recent:
            first = self._recent[-1][1]
        if first is not None and first < self.sent:
            self.uncertain.append((first, self.sent - 1))
        self._recent.clear()

    @property
    def last(self) -> float:
        """When the last event was handed over, by the monotonic clock; 0 where none was."""
        return self._last

    def record(self) -> dict[str, Any]:
        """For the summary."""
        return {name: value for name, value in asdict(self).items() if not name.startswith("_") and name != "quota"}


@dataclass(frozen=True, slots=True)
class Summary:
    """What a run did. Times are microseconds UTC; `seconds` is from the first event to the last."""

    load: Load
    started_at: int
    ended_at: int
    seconds: float
    sources: list[SourceState]

    @property
    def sent(self) -> int:
        return sum(state.sent for state in self.sources)

    @property
    def rate(self) -> float:
        """Events per second achieved."""
        return self.sent / self.seconds if self.seconds else 0.0

    @property
    def failures(self) -> list[str]:
        """Why sources could not send all they should, each reason once."""
        return list(dict.fromkeys(state.failure for state in self.sources if state.failure))

    def record(self) -> dict[str, Any]:
        """As JSON has it, and `verify` reads it."""
        load = self.load
        acknowledged = [state.acknowledged for state in self.sources if state.acknowledged is not None]
        return {
            "kind": load.kind,
            "format": load.form,
            "transport": load.transport,
            "target": f"{load.host}:{load.port}",
            "run": load.run,
            "seed": load.seed,
            "started_at": self.started_at,
            "ended_at": self.ended_at,
            "seconds": round(self.seconds, 3),
            "rate_asked": load.rate,
            "rate": round(self.rate, 1),
            "sent": self.sent,
            "bytes": sum(state.bytes for state in self.sources),
            "wire_bytes": sum(state.wire_bytes for state in self.sources),
            "acknowledged": sum(acknowledged) if acknowledged else None,
            "blocked_seconds": round(sum(state.blocked_seconds for state in self.sources), 3),
            "failures": self.failures,
            "sources": [state.record() for state in self.sources],
        }


def source_address(host: str, source: int) -> str:
    """The address a source sends from: one of its own in 127.0.0.0/8 where the target is there, else "" for whichever fits."""
    try:
        target = ip_address(host)
    except ValueError:
        return ""
    if target.version == 4 and target.is_loopback:
        return f"127.77.{source // 250}.{1 + source % 250}"
    return ""


def run_load(
    load: Load, *, on_progress: Callable[[list[SourceState]], None] | None = None, stop_on_signals: bool = False
) -> Summary:
    """Send a load and say what was sent. Blocks until it is over.

    `on_progress` is called twice a second. With `stop_on_signals` (main thread only) SIGINT and SIGTERM end it early.

    Raises:
        ValueError: the load makes no sense; the message names what.
    """
    kind = KINDS[load.kind]
    if load.transport not in kind.ports:
        raise ValueError(f"{load.kind} goes over {', '.join(kind.ports)}, not over {load.transport}")
    if load.form not in kind.formats:
        raise ValueError(f"{load.kind} has the formats {', '.join(kind.formats)}, not {load.form}")
    if not 1 <= load.sources <= 4096:
        raise ValueError(f"{load.sources} sources: from 1 to 4096 can be told apart")
    maker = kind.make(load.run, load.seed, load.form, load.transport != "udp")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_run(load, maker, on_progress, stop_on_signals))


async def _run(load: Load, maker: Maker, on_progress: Callable[[list[SourceState]], None] | None, stop_on_signals: bool) -> Summary:
    from weir.local.generate.transports import WORKERS
    from weir.ops.shutdown import on_stop_signals

    total = load.total
    acknowledges = load.transport in {"lumberjack", "http", "https"} or load.kind in {"beats", "suricata"}
    states = []
    for source in range(load.sources):
        quota = None if total is None else total // load.sources + (source < total % load.sources)
        address = source_address(load.host, source)
        states.append(SourceState(source, host_name(source), address, quota, acknowledged=0 if acknowledges else None))
    loop = asyncio.get_running_loop()
    stop = on_stop_signals(loop) if stop_on_signals else asyncio.Event()
    started_at = time.time_ns() // 1000
    schedule = Schedule(load.rate, total, load.burst)
    if load.seconds is not None:
        # With a rate, the end of the count comes first; a moment more lets the last ones go that are due in the last tick.
        loop.call_later(load.seconds + (_GRACE_S if load.rate else 0.0), stop.set)
    work = asyncio.ensure_future(WORKERS[load.transport](load, maker, schedule, states, stop))
    try:
        while not work.done():
            await asyncio.wait([work], timeout=_PROGRESS_S)
            if on_progress is not None:
                on_progress(states)
        work.result()
    finally:
        work.cancel()
        with contextlib.suppress(asyncio.CancelledError, Exception):
            await work
    ended = max((state.last for state in states), default=0.0)
    seconds = max(ended - schedule.started, 0.0)
    return Summary(load, started_at, time.time_ns() // 1000, seconds, states)
