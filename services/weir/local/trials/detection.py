"""Attacks while the detector and the processors are killed: are the alerts those of a run that was left alone?

One Kafka, two installations on it under two prefixes. The same raw batches, of background and of rounds of the attack mix, are
published to both. In one of them processors and the detector get SIGKILL, one after the other, for as long as the trial lasts; the
other is left alone. Afterwards both must have told the same alerts, with the same final counts.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from confluent_kafka import OFFSET_BEGINNING, Consumer, Producer, TopicPartition

from weir.bus import topics
from weir.bus.codec import Decoder, Encoder
from weir.bus.config import client_config
from weir.local.demo.supervisor import Supervisor
from weir.local.generate.attacks import AttackUnits
from weir.local.generate.beats import BeatsUnits
from weir.local.generate.netflow import NetflowUnits, V5Exporter
from weir.local.generate.syslog import SyslogUnits
from weir.local.kafka import Kafka
from weir.model.batch import RawBatch
from weir.model.ids import stable_id
from weir.model.topics import TopicNames
from weir.ops.settings import ServiceSettings, load

__all__ = ["Plan", "run_detection"]

SERVICES = {
    "process-syslog": ("process", "syslog"),
    "process-netflow": ("process", "netflow"),
    "process-beats": ("process", "beats"),
    "detector": ("process", "detector"),
}
PREFIXES = {"alone": "alone", "killed": "killed"}
ROUND_SECONDS = 20.0
BACKGROUND_UNITS = 400
BATCH_UNITS = 40
DRAIN_SECONDS = 120.0
POLL_SECONDS = 0.3

_BROKERS = "WEIR_KAFKA_BOOTSTRAP_SERVERS"
_PREFIX = "WEIR_TOPIC_PREFIX"
_KEPT = {"WEIR_CACHE_DIR", "WEIR_CORPUS"}

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Plan:
    """How long to attack and to kill, and the seed of who is killed when."""

    seconds: float = 600.0
    seed: int = 1

    @property
    def rounds(self) -> int:
        """Rounds of the attack mix, each by other people from other addresses."""
        return max(1, round(self.seconds / ROUND_SECONDS))


@dataclass(frozen=True, slots=True)
class Told:
    """An alert as it was last told."""

    rule: str
    summary: str
    events: int
    state: str


def run_detection(plan: Plan, folder: Path, say: Say = lambda _: None) -> dict[str, Any]:
    """Run the trial in an empty folder; returns what differs and a verdict, ready for JSON.

    Settings of services that stand in the environment count for nothing meanwhile.

    Raises:
        LocalError: something could not be started, with the way out.
    """
    before = {name: value for name, value in os.environ.items() if name.startswith("WEIR_") and name not in _KEPT}
    for name in before:
        del os.environ[name]
    try:
        return _run(plan, folder, say)
    finally:
        for name in (_BROKERS, _PREFIX):
            os.environ.pop(name, None)
        os.environ.update(before)


def _run(plan: Plan, folder: Path, say: Say) -> dict[str, Any]:
    kafka = Kafka(folder / "kafka", bound=True)
    supervisor = Supervisor(folder)
    kills: dict[str, int] = {}
    try:
        kafka.start()
        settings = {which: _settings(kafka.bootstrap_servers, prefix) for which, prefix in PREFIXES.items()}
        for which, own in settings.items():
            topics.apply(own)
            _start(supervisor, which, own)
        supervisor.wait_ready(list(supervisor.services), 120)
        say(f"Kafka at {kafka.bootstrap_servers}, two installations; {plan.rounds} rounds in {plan.seconds:.0f} s")
        _attack(plan, settings, supervisor, kills, say)
        supervisor.wait_ready(list(supervisor.services), 60)
        told = _drain(settings, say)
    finally:
        supervisor.stop(timeout=20.0)
        kafka.stop()
    alone, killed = told["alone"], told["killed"]
    missing = sorted(set(alone) - set(killed))
    invented = sorted(set(killed) - set(alone))
    both = {one: (alone[one].events, killed[one].events) for one in alone if one in killed}
    counts = {one: pair for one, pair in both.items() if pair[0] != pair[1]}
    return {
        "plan": asdict(plan) | {"rounds": plan.rounds},
        "kills": kills,
        "alerts": len(alone),
        "rules": len({one.rule for one in alone.values()}),
        "missing": {one: alone[one].summary for one in missing},
        "invented": {one: killed[one].summary for one in invented},
        "counted_otherwise": {one: {"alone": a, "killed": b, "summary": alone[one].summary} for one, (a, b) in counts.items()},
        "ok": bool(alone) and not missing and not invented and not counts,
    }


def _settings(servers: str, prefix: str) -> ServiceSettings:
    os.environ[_BROKERS] = servers
    os.environ[_PREFIX] = prefix
    return load(ServiceSettings)


def _start(supervisor: Supervisor, which: str, settings: ServiceSettings) -> None:
    for name, arguments in SERVICES.items():
        own = {_BROKERS: settings.kafka_bootstrap_servers, _PREFIX: settings.topic_prefix, "WEIR_SITE": "trial"}
        supervisor.start_service(f"{which}-{name}", arguments, own)


def _attack(plan: Plan, settings: dict[str, ServiceSettings], supervisor: Supervisor, kills: dict[str, int], say: Say) -> None:
    """Publish round after round to both installations, spread over the time, and kill in one of them meanwhile."""
    rng = random.Random(plan.seed)  # noqa: S311 - chaos, not secrets
    producer = Producer({**client_config(next(iter(settings.values()))), "enable.idempotence": True, "linger.ms": 20})
    names = [TopicNames(own.topic_prefix) for own in settings.values()]
    encode = Encoder("raw-batch")
    begun = time.monotonic()
    next_kill = begun + rng.uniform(1, 3)
    for number in range(plan.rounds):
        batches = list(_batches(plan.seed, number))
        for index, (topic, batch) in enumerate(batches):
            value = encode(batch.to_record())
            for own in names:
                producer.produce(own[topic], value, key=batch.source_ip, timestamp=batch.received_at // 1000)
            producer.poll(0)
            due = begun + plan.seconds * (number + (index + 1) / len(batches)) / plan.rounds
            while time.monotonic() < due:
                if time.monotonic() >= next_kill:
                    _kill(supervisor, f"killed-{rng.choice(sorted(SERVICES))}", kills, begun, say)
                    next_kill = time.monotonic() + rng.uniform(2, 6)
                time.sleep(min(0.05, max(0.0, due - time.monotonic())))
    producer.flush(60)


def _kill(supervisor: Supervisor, name: str, kills: dict[str, int], begun: float, say: Say) -> None:
    process = supervisor.services[name].process
    if process is not None and process.poll() is None:
        os.kill(process.pid, signal.SIGKILL)
        kills[name] = kills.get(name, 0) + 1
        say(f"{time.monotonic() - begun:5.0f} s  kill {name}")


def _batches(seed: int, number: int) -> Iterator[tuple[str, RawBatch]]:
    """Raw batches of one round, background and attacks mixed, each source's in order."""
    now_us = time.time_ns() // 1000
    rng = random.Random(f"{seed}/{number}")  # noqa: S311 - chaos, not secrets
    made: list[tuple[str, str, list[bytes]]] = []
    syslog = SyslogUnits(seed * 1000 + number, BACKGROUND_UNITS, mass_deletes=0, specials=False)
    numbers = syslog.numbers(frozenset({"udp", "counted", "lines"}))
    made += _cut("raw.syslog", ((source.address, syslog.unit(n, now_us).data) for n, source in numbers))
    beats = BeatsUnits(seed * 1000 + number, BACKGROUND_UNITS // 2, specials=False)
    made += _cut("raw.beats", (("127.0.0.1", beats.unit(n, now_us).data) for n in range(beats.amount)))
    flows = NetflowUnits(seed, 80, specials=False)
    datagrams = ((exporter, flows.unit(n, now_us).data) for n, exporter in flows.numbers())
    # A receiver gives each batch the templates it needs; v5 needs none.
    made += _cut("raw.netflow", ((exporter.address, data) for exporter, data in datagrams if exporter.make is V5Exporter))
    attacks = AttackUnits(number)
    steps = attacks.steps(now_us)
    for sender in ("syslog", "netflow", "beats"):
        made += _cut(f"raw.{sender}", ((step.source.address, step.unit.data) for step in steps if step.sender == sender))
    waiting: dict[tuple[str, str], deque[list[bytes]]] = {}
    for topic, address, units in made:
        waiting.setdefault((topic, address), deque()).append(units)
    for index in range(len(made)):
        topic, address = rng.choice(sorted(waiting))
        yield topic, _batch(f"{seed}/{number}/{index}", topic, address, waiting[topic, address].popleft())
        if not waiting[topic, address]:
            del waiting[topic, address]


def _cut(topic: str, units: Iterator[tuple[str, bytes]]) -> list[tuple[str, str, list[bytes]]]:
    """Units by source, so many in a batch."""
    by_source: dict[str, list[list[bytes]]] = {}
    for address, unit in units:
        batches = by_source.setdefault(address, [[]])
        if len(batches[-1]) == BATCH_UNITS:
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


def _drain(settings: dict[str, ServiceSettings], say: Say) -> dict[str, dict[str, Told]]:
    """Read the alerts of both until they agree, or have stood still for long."""
    deadline = time.monotonic() + DRAIN_SECONDS
    readers = {which: _Alerts(own) for which, own in settings.items()}
    try:
        last: object = None
        since = time.monotonic()
        while time.monotonic() < deadline:
            for reader in readers.values():
                reader.read()
            state = {which: {one: told.events for one, told in reader.told.items()} for which, reader in readers.items()}
            if state != last:
                last, since = state, time.monotonic()
            still = time.monotonic() - since
            if (state["alone"] == state["killed"] and state["alone"] and still > 8) or still > 45:
                break
            time.sleep(POLL_SECONDS)
        say(f"alerts: {', '.join(f'{which} {len(reader.told)}' for which, reader in readers.items())}")
        return {which: reader.told for which, reader in readers.items()}
    finally:
        for reader in readers.values():
            reader.consumer.close()


class _Alerts:
    """The alerts of one installation, each as it was last told."""

    def __init__(self, settings: ServiceSettings) -> None:
        topic = TopicNames(settings.topic_prefix)["alerts"]
        self.consumer = Consumer({**client_config(settings), "group.id": "weir-trial", "enable.auto.commit": False})
        partitions = self.consumer.list_topics(topic, timeout=15).topics[topic].partitions
        self.consumer.assign([TopicPartition(topic, partition, OFFSET_BEGINNING) for partition in partitions])
        self.decode = Decoder()
        self.revisions: dict[str, int] = {}
        self.told: dict[str, Told] = {}

    def read(self) -> None:
        """What has been told since."""
        for message in self.consumer.consume(1000, 0.1):
            if message.error() is not None:
                continue
            alert = self.decode(message.value(), message.headers())
            if alert["revision"] >= self.revisions.get(alert["alert_id"], 0):
                self.revisions[alert["alert_id"]] = alert["revision"]
                self.told[alert["alert_id"]] = Told(alert["rule_name"], alert["summary"], alert["event_count"], alert["state"])
