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
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

from confluent_kafka import Producer

from weir.bus import topics
from weir.bus.codec import Encoder
from weir.bus.config import client_config
from weir.local.demo.supervisor import Supervisor
from weir.local.errors import LocalError
from weir.local.generate.attacks import AttackUnits
from weir.local.kafka import Kafka
from weir.local.trials.detection_load import SOURCES, round_batches
from weir.local.trials.detection_side import BROKERS, DETECTOR, DRAIN_SECONDS, PREFIX, Side, Told
from weir.local.trials.environment import own_settings
from weir.model.topics import TopicNames
from weir.ops.settings import ServiceSettings, load

__all__ = ["Kill", "Plan", "judge", "run_detection", "schedule", "verdict"]

SECOND_US = 1_000_000
HOUR_US = 3_600 * SECOND_US

_SIDES = ("alone", "killed")
"""Of the two installations; their topics have these prefixes."""
_ROUND_SECONDS = 20.0
_MOST_ROUNDS = 50
_HOLD_SECONDS = 1.0
_POLL_SECONDS = 0.2
_LATER = (10 * SECOND_US, 2 * HOUR_US, 50 * HOUR_US)
"""Receive time that passes at the end: until counts are told after a pause; until what feeds other correlations has closed; until
all has."""


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


def schedule(plan: Plan) -> list[Kill]:
    """A kill every two to six seconds; the detector and a processor are among the first two."""
    rng = random.Random(plan.seed)  # noqa: S311 - chaos, not secrets
    both = [DETECTOR, rng.choice(SOURCES)]
    rng.shuffle(both)
    kills: list[Kill] = []
    at = rng.uniform(1.5, 3.0)
    while at < plan.seconds:
        service = both[len(kills)] if len(kills) < len(both) else rng.choice((DETECTOR, *SOURCES))
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
    return all(getattr(one, name) == getattr(other, name) for name in ("rule", "group", "events", "first", "last"))


def run_detection(plan: Plan, folder: Path, say: Say = lambda _: None) -> dict[str, Any]:
    """Run the trial in an empty folder; returns what differs and a verdict, ready for JSON.

    Settings of services that stand in the environment count for nothing meanwhile.

    Raises:
        LocalError: something could not be started, with the way out.
    """
    with own_settings(BROKERS, PREFIX):
        return _run(plan, folder, say)


def _run(plan: Plan, folder: Path, say: Say) -> dict[str, Any]:
    kafka = Kafka(folder / "kafka", bound=True)
    supervisor = Supervisor(folder)
    kills: Counter[str] = Counter()
    sides: list[Side] = []
    try:
        kafka.start()
        sides = [Side(which, _settings(kafka.bootstrap_servers, which)) for which in _SIDES]
        for side in sides:
            topics.apply(side.settings)
            side.start(supervisor)
        supervisor.wait_ready(list(supervisor.services), 120)
        say(f"Kafka at {kafka.bootstrap_servers}, two installations; {plan.rounds} rounds of attacks in {plan.seconds:.0f} s")
        units = _attack(plan, [side.settings for side in sides], supervisor, kills, say)
        say("all is sent; the processors read to the end")
        for side in sides:
            side.open()
        _wait("raw topics", lambda: all(side.has_read_raw() for side in sides))
        supervisor.stop([side.service(source) for side in sides for source in SOURCES], timeout=20.0)
        say("all raw records are read; hours pass, so that every alert closes")
        paused = _close(sides)
        repeated = {side.which: side.repeated_signals() for side in sides}
    finally:
        for side in sides:
            side.close()
        supervisor.stop(timeout=20.0)
        kafka.stop()
    about = {
        "plan": asdict(plan) | {"rounds": plan.rounds},
        "kills": dict(sorted(kills.items())),
        "units": units,
        "repeated_signals": repeated,
        "repeated_alerts": {side.which: side.repeated_alerts for side in sides},
        "counted_otherwise_before_closing": len(judge(*paused)["counted_otherwise"]),
    }
    return about | verdict(plan, *(side.told for side in sides))


def _close(sides: Sequence[Side]) -> list[dict[str, Told]]:
    """Let receive time pass until every alert has closed; the alerts of each side as they stood after a pause."""
    now_us = time.time_ns() // 1000
    paused: list[dict[str, Told]] = []
    for later in _LATER:
        for side in sides:
            side.tick(now_us + later)
        _wait("signals", lambda: all(side.has_read_signals() for side in sides))
        for side in sides:
            side.read_alerts()
        paused = paused or [dict(side.told) for side in sides]
    return paused


def verdict(plan: Plan, alone: Mapping[str, Told], killed: Mapping[str, Told]) -> dict[str, Any]:
    """What differs, by rule and by alert; `ok` where nothing does, all that the mix must raise is there, and all has closed."""
    found = judge(alone, killed)
    unraised = _unraised(plan, alone)
    open_still = {
        which: sum(told.state != "closed" for told in side.values()) for which, side in zip(_SIDES, (alone, killed), strict=True)
    }
    return {
        "alerts": {"alone": len(alone), "killed": len(killed)},
        "open_still": open_still,
        "rules": _by_rule(alone, killed),
        "unraised": unraised,
        **found,
        "ok": bool(alone) and not unraised and not any(found.values()) and not any(open_still.values()),
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
        LocalError: it has not come within `DRAIN_SECONDS`.
    """
    deadline = time.monotonic() + DRAIN_SECONDS
    while not done():
        if time.monotonic() > deadline:
            raise LocalError(f"the {what} are not read to the end after {DRAIN_SECONDS:.0f} s", "read the logs; see --folder")
        time.sleep(_POLL_SECONDS)


def _settings(servers: str, prefix: str) -> ServiceSettings:
    os.environ[BROKERS] = servers
    os.environ[PREFIX] = prefix
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
        batches = list(round_batches(plan.seed, number))
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
