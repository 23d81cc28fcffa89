"""Attacks while the detector and the processors are killed: are the alerts those of a run that was left alone?

One Kafka, two installations on it under two prefixes. The same raw batches, of background and of rounds of the attack mix, are
published to both. In one of them processors and the detector get SIGKILL, one after the other, for as long as the trial lasts; the
other is left alone. What is due in the second before a kill is held back and published together, so that the kill meets work.

Afterwards the processors of both are stopped, and ticks of later and later receive times let the hours pass that it takes until
every alert closes with its final count. Then both must have told the same alerts with the same counts. What has been told up to
there may differ: an alert's count is told again when its burst pauses, and a kill makes other pauses.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from confluent_kafka import OFFSET_BEGINNING, Consumer, Producer, TopicPartition

from weir.bus import topics
from weir.bus.codec import Decoder, Encoder
from weir.bus.config import client_config
from weir.bus.offsets import watermarks
from weir.detect.reading.loading import load_rules
from weir.local.demo.supervisor import Supervisor
from weir.local.errors import LocalError
from weir.local.generate.attacks import AttackUnits
from weir.local.generate.beats import BeatsUnits
from weir.local.generate.netflow import NetflowUnits, V5Exporter
from weir.local.generate.syslog import SyslogUnits
from weir.local.kafka import Kafka
from weir.model.batch import RawBatch
from weir.model.ids import stable_id
from weir.model.topics import TopicNames
from weir.ops.settings import ServiceSettings, load

__all__ = ["Kill", "Plan", "Told", "judge", "run_detection", "schedule"]

SECOND_US = 1_000_000
HOUR_US = 3_600 * SECOND_US

_SOURCES = ("syslog", "netflow", "beats")
_DETECTOR = "detector"
_PREFIXES = {"alone": "alone", "killed": "killed"}
_ROUND_SECONDS = 20.0
_MOST_ROUNDS = 50
_BACKGROUND_UNITS = 400
_BATCH_UNITS = 10
_HOLD_SECONDS = 1.0
_DRAIN_SECONDS = 180.0
_POLL_SECONDS = 0.2
_LATER = (10 * SECOND_US, 2 * HOUR_US, 50 * HOUR_US)
"""Receive time that passes at the end: until counts are told after a pause; until what feeds other correlations has closed; until
all has."""

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
        return min(_MOST_ROUNDS, max(1, round(self.seconds / _ROUND_SECONDS)))


class Kill(NamedTuple):
    """SIGKILL to a service `at` seconds after the start; what was held back is published `lead` seconds before."""

    at: float
    service: str
    lead: float

    def publishes_at(self, due: float) -> float:
        """When a batch is published that is due at this moment and that this kill is the next after."""
        return max(due, self.at - self.lead) if self.at - _HOLD_SECONDS <= due else due


class Told(NamedTuple):
    """An alert as it was last told."""

    rule: str
    group: tuple[tuple[str, str], ...]
    entities: frozenset[str]
    summary: str
    events: int
    first: int
    last: int
    state: str


def schedule(plan: Plan) -> list[Kill]:
    """A kill every two to six seconds; the detector and a processor are among the first two."""
    rng = random.Random(plan.seed)  # noqa: S311 - chaos, not secrets
    both = [_DETECTOR, rng.choice(_SOURCES)]
    rng.shuffle(both)
    kills: list[Kill] = []
    at = rng.uniform(1.5, 3.0)
    while at < plan.seconds:
        service = both[len(kills)] if len(kills) < len(both) else rng.choice((_DETECTOR, *_SOURCES))
        kills.append(Kill(at, service, rng.uniform(0.0, 0.4)))
        at += rng.uniform(2.0, 6.0)
    return kills


def judge(alone: Mapping[str, Told], killed: Mapping[str, Told]) -> dict[str, Any]:
    """What of the alerts by id differs between the run that was left alone and the other.

    Two that tell of the same events of the same group under two ids are `renamed`, and are neither missing nor invented.
    """
    missing = {one: alone[one] for one in sorted(set(alone) - set(killed))}
    invented = {one: killed[one] for one in sorted(set(killed) - set(alone))}
    renamed = {}
    for one, told in list(missing.items()):
        twin = next((other for other, candidate in invented.items() if _same_but_for_its_id(told, candidate)), None)
        if twin is not None:
            renamed[one] = {"killed": twin, "summary": told.summary}
            del missing[one], invented[twin]
    both = {one: (alone[one], killed[one]) for one in alone if one in killed}
    return {
        "missing": {one: told.summary for one, told in missing.items()},
        "invented": {one: told.summary for one, told in invented.items()},
        "renamed": renamed,
        "counted_otherwise": {
            one: {"alone": mine.events, "killed": theirs.events, "summary": mine.summary}
            for one, (mine, theirs) in both.items()
            if mine.events != theirs.events
        },
        "timed_otherwise": {
            one: {"alone": [mine.first, mine.last], "killed": [theirs.first, theirs.last], "summary": mine.summary}
            for one, (mine, theirs) in both.items()
            if (mine.first, mine.last) != (theirs.first, theirs.last)
        },
    }


def _same_but_for_its_id(one: Told, other: Told) -> bool:
    return (one.rule, one.group, one.events, one.first, one.last) == (
        other.rule,
        other.group,
        other.events,
        other.first,
        other.last,
    )


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
    kills: Counter[str] = Counter()
    sides: list[_Side] = []
    try:
        kafka.start()
        sides = [_Side(which, _settings(kafka.bootstrap_servers, prefix)) for which, prefix in _PREFIXES.items()]
        for side in sides:
            topics.apply(side.settings)
            side.start(supervisor)
        supervisor.wait_ready(list(supervisor.services), 120)
        say(f"Kafka at {kafka.bootstrap_servers}, two installations; {plan.rounds} rounds of attacks in {plan.seconds:.0f} s")
        units = _attack(plan, [side.settings for side in sides], supervisor, kills, say)
        say("all is sent; the processors read to the end")
        supervisor.wait_ready(list(supervisor.services), 60)
        for side in sides:
            side.open()
        _wait("raw topics", lambda: all(side.has_read_raw() for side in sides))
        supervisor.stop([side.service(source) for side in sides for source in _SOURCES], timeout=20.0)
        meanwhile: dict[str, dict[str, Told]] = {}
        now_us = time.time_ns() // 1000
        say("all raw records are read; hours pass, so that every alert closes")
        for later in _LATER:
            for side in sides:
                side.tick(now_us + later)
            _wait("signals", lambda: all(side.has_read_signals() for side in sides))
            for side in sides:
                side.read_alerts()
            meanwhile = meanwhile or {side.which: dict(side.told) for side in sides}
        repeated = {side.which: side.repeated_signals() for side in sides}
    finally:
        for side in sides:
            side.close()
        supervisor.stop(timeout=20.0)
        kafka.stop()
    told = {side.which: side.told for side in sides}
    found = judge(told["alone"], told["killed"])
    before = judge(meanwhile["alone"], meanwhile["killed"])
    unraised = _unraised(plan, told["alone"])
    open_still = {which: sum(one.state != "closed" for one in alerts.values()) for which, alerts in told.items()}
    differs = any(found[what] for what in ("missing", "invented", "counted_otherwise", "timed_otherwise"))
    return {
        "plan": asdict(plan) | {"rounds": plan.rounds},
        "kills": dict(sorted(kills.items())),
        "units": units,
        "repeated_signals": repeated,
        "repeated_alerts": {side.which: side.repeated_alerts for side in sides},
        "alerts": {which: len(alerts) for which, alerts in told.items()},
        "open_still": open_still,
        "rules": _by_rule(told["alone"], told["killed"]),
        "unraised": unraised,
        **found,
        "counted_otherwise_before_closing": len(before["counted_otherwise"]),
        "ok": bool(told["alone"]) and not unraised and not differs and not any(open_still.values()),
    }


def _by_rule(alone: Mapping[str, Told], killed: Mapping[str, Told]) -> list[dict[str, Any]]:
    """Alerts and the events in them, by rule."""
    names = sorted({told.rule for told in (*alone.values(), *killed.values())})
    rows = []
    for name in names:
        mine, theirs = ([told.events for told in alerts.values() if told.rule == name] for alerts in (alone, killed))
        rows.append({"rule": name, "alone": len(mine), "killed": len(theirs), "events": [sum(mine), sum(theirs)]})
    return rows


def _unraised(plan: Plan, alone: Mapping[str, Told]) -> list[str]:
    """What the attack mix must raise and the run that was left alone has not."""
    found: dict[str, list[set[str]]] = {}
    for told in alone.values():
        found.setdefault(told.rule, []).append({*told.entities, *(value for _, value in told.group)})
    return [
        f"{expected.rule} of {', '.join(expected.names)}"
        for number in range(plan.rounds)
        for expected in AttackUnits(number).expected()
        if not any(set(expected.names) <= names for names in found.get(expected.rule, ()))
    ]


def _wait(what: str, done: Callable[[], bool]) -> None:
    """Wait until it is so.

    Raises:
        LocalError: it has not come within `_DRAIN_SECONDS`.
    """
    deadline = time.monotonic() + _DRAIN_SECONDS
    while not done():
        if time.monotonic() > deadline:
            raise LocalError(f"the {what} are not read to the end after {_DRAIN_SECONDS:.0f} s", "read the logs; see --folder")
        time.sleep(_POLL_SECONDS)


def _settings(servers: str, prefix: str) -> ServiceSettings:
    os.environ[_BROKERS] = servers
    os.environ[_PREFIX] = prefix
    return load(ServiceSettings)


def _attack(
    plan: Plan, settings: Sequence[ServiceSettings], supervisor: Supervisor, kills: Counter[str], say: Say
) -> dict[str, int]:
    """Publish round after round to both installations, spread over the time, and kill in one of them; units sent by raw topic."""
    producer = Producer({**client_config(settings[0]), "enable.idempotence": True, "linger.ms": 5})
    names = [TopicNames(own.topic_prefix) for own in settings]
    encode = Encoder("raw-batch")
    sent: Counter[str] = Counter()
    waiting = deque(schedule(plan))
    begun = time.monotonic()

    def kill_until(moment: float) -> None:
        while waiting and waiting[0].at <= moment:
            _sleep_until(begun + waiting[0].at)
            name = f"killed-{waiting.popleft().service}"
            if _kill(supervisor, name):
                kills[name.removeprefix("killed-")] += 1
                say(f"{time.monotonic() - begun:5.0f} s  kill {name}")

    for number in range(plan.rounds):
        batches = list(_batches(plan.seed, number))
        for index, (topic, make) in enumerate(batches):
            due = plan.seconds * (number + index / len(batches)) / plan.rounds
            kill_until(due)
            due = waiting[0].publishes_at(due) if waiting else due
            _sleep_until(begun + due)
            batch = make()
            value = encode(batch.to_record())
            sent[topic] += len(batch.units)
            for own in names:
                producer.produce(own[topic], value, key=batch.source_ip, timestamp=batch.received_at // 1000)
            producer.poll(0)
    kill_until(plan.seconds)
    if left := producer.flush(60):
        raise LocalError(f"Kafka has not taken {left} raw records", "read its log; see --folder")
    return dict(sent)


def _sleep_until(moment: float) -> None:
    time.sleep(max(0.0, moment - time.monotonic()))


def _kill(supervisor: Supervisor, name: str) -> bool:
    """SIGKILL, unless it is down already."""
    process = supervisor.services[name].process
    if process is None or process.poll() is not None:
        return False
    os.kill(process.pid, signal.SIGKILL)
    return True


def _batches(seed: int, number: int) -> Iterator[tuple[str, Callable[[], RawBatch]]]:
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
    for sender in _SOURCES:
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


class _Side:
    """One of the two installations, and what it has told."""

    def __init__(self, which: str, settings: ServiceSettings) -> None:
        self.which = which
        self.settings = settings
        self.names = TopicNames(settings.topic_prefix)
        self.told: dict[str, Told] = {}
        self.repeated_alerts = 0
        self._revisions: dict[str, int] = {}
        self._rules = {correlation.id: correlation.name for correlation in load_rules().correlations}
        self._decode = Decoder()
        self._consumers: dict[str, Consumer] = {}

    def service(self, name: str) -> str:
        """Name of a service of this installation."""
        return f"{self.which}-{name}"

    def start(self, supervisor: Supervisor) -> None:
        """Start processors and detector."""
        own = {_BROKERS: self.settings.kafka_bootstrap_servers, _PREFIX: self.settings.topic_prefix, "WEIR_SITE": "trial"}
        for name in (*_SOURCES, _DETECTOR):
            supervisor.start_service(self.service(name), ("process", name), own)

    def open(self) -> None:
        """Begin to look at its groups and alerts."""
        for name in (*_SOURCES, _DETECTOR):
            self._consumers[name] = self._consumer(f"{self.settings.topic_prefix}.process.{name}")
        self._consumers["alerts"] = self._consumer("weir-trial")
        self._consumers["alerts"].assign(self._beginnings("alerts"))

    def close(self) -> None:
        """Stop looking."""
        for consumer in self._consumers.values():
            consumer.close()

    def _consumer(self, group: str) -> Consumer:
        return Consumer({**client_config(self.settings), "group.id": group, "enable.auto.commit": False})

    def _partitions(self, topic: str) -> list[TopicPartition]:
        full = self.names[topic]
        consumer = self._consumers[_DETECTOR]
        return [TopicPartition(full, number) for number in consumer.list_topics(full, timeout=15).topics[full].partitions]

    def _beginnings(self, topic: str) -> list[TopicPartition]:
        return [TopicPartition(one.topic, one.partition, OFFSET_BEGINNING) for one in self._partitions(topic)]

    def _ends(self, topic: str) -> dict[int, int]:
        consumer = self._consumers[_DETECTOR]
        return {one.partition: watermarks(consumer, one)[1] for one in self._partitions(topic)}

    def _has_read(self, name: str, topic: str) -> bool:
        ends = self._ends(topic)
        done = self._consumers[name].committed(self._partitions(topic), timeout=15)
        # What a record leads to is published before it is committed: an end that still stands now is the end.
        return all(max(0, one.offset) >= ends[one.partition] for one in done) and self._ends(topic) == ends

    def has_read_raw(self) -> bool:
        """Whether the processors have committed all that there is."""
        return all(self._has_read(source, f"raw.{source}") for source in _SOURCES)

    def has_read_signals(self) -> bool:
        """Whether the detector has committed all signals, those among them that alerts gave to other correlations."""
        return self._has_read(_DETECTOR, "signals")

    def tick(self, low: int) -> None:
        """Say that all raw topics are read up to this receive time, as their processors would."""
        producer = Producer({**client_config(self.settings), "enable.idempotence": True})
        encode = Encoder("signals")
        for source in _SOURCES:
            record = {
                "kind": "tick",
                "processor": f"process.{source}",
                "rule_set": "",
                "raw_topic": self.names[f"raw.{source}"],
                "raw_partition": -1,
                "raw_offset": -1,
                "received_at": time.time_ns() // 1000,
                "ticks": [{"raw_partition": one.partition, "low": low} for one in self._partitions(f"raw.{source}")],
            }
            for one in self._partitions("signals"):
                producer.produce(one.topic, encode(record), partition=one.partition)
        producer.flush(30)

    def read_alerts(self) -> None:
        """What has been told since, to the end."""
        consumer = self._consumers["alerts"]
        for message in _to_the_end(consumer, self._ends("alerts")):
            alert = self._decode(message.value(), message.headers())
            known = self._revisions.get(alert["alert_id"], 0)
            self.repeated_alerts += alert["revision"] <= known
            if alert["revision"] >= known:
                self._revisions[alert["alert_id"]] = alert["revision"]
                self.told[alert["alert_id"]] = _told(alert, self._rules)

    def repeated_signals(self) -> int:
        """Signals records that came more than once."""
        consumer = self._consumer("weir-trial-signals")
        seen: Counter[str] = Counter()
        try:
            consumer.assign(self._beginnings("signals"))
            for message in _to_the_end(consumer, self._ends("signals")):
                record = self._decode(message.value(), message.headers())
                if record["kind"] != "tick":
                    seen[f"{record['signals_id']}/{message.partition()}"] += 1
        finally:
            consumer.close()
        return seen.total() - len(seen)


def _to_the_end(consumer: Consumer, ends: Mapping[int, int]) -> Iterator[Any]:
    """The messages up to these offsets.

    Raises:
        LocalError: they do not come.
    """
    deadline = time.monotonic() + _DRAIN_SECONDS
    while time.monotonic() < deadline:
        places = {one.partition: one.offset for one in consumer.position(consumer.assignment())}
        if all(end == 0 or places.get(partition, 0) >= end for partition, end in ends.items()):
            return
        messages = consumer.consume(1000, 0.2)
        yield from (message for message in messages if message.error() is None)
    raise LocalError(f"a topic is not read to its end after {_DRAIN_SECONDS:.0f} s", "read Kafka's log; see --folder")


def _told(alert: Mapping[str, Any], names: Mapping[str, str]) -> Told:
    return Told(
        rule=names.get(alert["rule_id"], alert["rule_name"]),
        group=tuple(sorted(alert["group_by"].items())),
        entities=frozenset(alert["entities"].values()),
        summary=alert["summary"],
        events=alert["event_count"],
        first=alert["first_seen"],
        last=alert["last_seen"],
        state=alert["state"],
    )
