"""What the detection trial sends: raw batches of routine traffic and of rounds of the attack mix."""

from __future__ import annotations

import random
import time
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial

from weir.local.generate.attacks import AttackUnits
from weir.local.generate.beats import BeatsUnits
from weir.local.generate.netflow import NetflowUnits, V5Exporter
from weir.local.generate.syslog import SyslogUnits
from weir.model.batch import RawBatch
from weir.model.ids import stable_id

__all__ = ["SOURCES", "round_batches"]

SOURCES = ("syslog", "netflow", "beats")

_BACKGROUND_UNITS = 400
_BATCH_UNITS = 10
"""Small batches: many of them are under way when a service is killed."""


def round_batches(seed: int, number: int) -> Iterator[tuple[str, Callable[[], RawBatch]]]:
    """Raw topic and batch, made when it is published, of one round: background and attacks mixed, each source's in order."""
    now_us = time.time_ns() // 1000
    rng = random.Random(f"{seed}/{number}")  # noqa: S311 - chaos, not secrets
    made: list[tuple[str, str, list[bytes]]] = []
    syslog = SyslogUnits(seed * 1000 + number, _BACKGROUND_UNITS, mass_deletes=0, specials=False)
    numbers = syslog.numbers(frozenset({"udp", "counted", "lines"}))
    made += _cut("raw.syslog", ((source.address, syslog.unit(n, now_us).data) for n, source in numbers))
    beats = BeatsUnits(seed * 1000 + number, _BACKGROUND_UNITS // 2, specials=False)
    made += _cut("raw.beats", (("127.0.0.1", beats.unit(n, now_us).data) for n in range(beats.amount)))
    flows = NetflowUnits(seed, 80, specials=False)
    datagrams = ((exporter, flows.unit(n, now_us).data) for n, exporter in flows.numbers())
    # A receiver gives each batch the templates it needs; v5 needs none.
    made += _cut("raw.netflow", ((exporter.address, data) for exporter, data in datagrams if exporter.make is V5Exporter))
    steps = AttackUnits(number).steps(now_us)
    for sender in SOURCES:
        made += _cut(f"raw.{sender}", ((step.source.address, step.unit.data) for step in steps if step.sender == sender))
    waiting: dict[tuple[str, str], deque[list[bytes]]] = {}
    for topic, address, units in made:
        waiting.setdefault((topic, address), deque()).append(units)
    for index in range(len(made)):
        topic, address = rng.choice(sorted(waiting))
        yield topic, partial(_batch, f"{seed}/{number}/{index}", topic, address, waiting[topic, address].popleft())
        if not waiting[topic, address]:
            del waiting[topic, address]


def _cut(topic: str, units: Iterator[tuple[str, bytes]]) -> list[tuple[str, str, list[bytes]]]:
    """Units by source, so many in a batch."""
    by_source: dict[str, list[list[bytes]]] = {}
    for address, unit in units:
        batches = by_source.setdefault(address, [[]])
        if len(batches[-1]) == _BATCH_UNITS:
            batches.append([])
        batches[-1].append(unit)
    return [(topic, address, batch) for address, batches in by_source.items() for batch in batches]


def _batch(name: str, topic: str, address: str, units: list[bytes]) -> RawBatch:
    transport = {"raw.syslog": "tcp", "raw.netflow": "udp", "raw.beats": "lumberjack"}[topic]
    return RawBatch(
        batch_id=bytes.fromhex(stable_id("trial", name)),
        site="trial",
        receiver="trial",
        transport=transport,
        source_ip=address,
        listener_port=514,
        received_at=time.time_ns() // 1000,
        units=units,
    )
