"""The attack mix through the real processors and rules: every attack raises its alerts once, about whom it should, and no other."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest

from tests.detect.scenes import rule_set
from weir.detect.offline import Offline
from weir.local.generate.attacks import AttackUnits, Expected, Step, attacks
from weir.model.batch import RawBatch
from weir.processors import beats, netflow, syslog
from weir.processors.enrichment import load_enrichment
from weir.processors.outcome import Outcome, RawCoordinates
from weir.processors.settings import ProcessorSettings

Alert = dict[str, Any]

PROCESSES: dict[str, Callable[[RawBatch, RawCoordinates], Outcome]] = {
    "syslog": syslog.make_process(),
    "beats": beats.process,
    "netflow": netflow.process,
}
BATCH = 40
SECOND = 1_000_000


def told(steps: list[Step], now_us: int) -> list[Alert]:
    """The alerts of these steps, each as it was told last."""
    detection = Offline(rule_set())
    enrichment = load_enrichment(ProcessorSettings(kafka_bootstrap_servers="127.0.0.1:9092"))
    for way, process in PROCESSES.items():
        mine = [step for step in steps if step.sender == way]
        addresses = dict.fromkeys(step.source.address for step in mine)
        units = {address: [step.unit.data for step in mine if step.source.address == address] for address in addresses}
        batches = [(a, found[n : n + BATCH]) for a, found in units.items() for n in range(0, len(found), BATCH)]
        for offset, (address, part) in enumerate(batches):
            batch = RawBatch(
                batch_id=offset.to_bytes(16, "big"),
                site="",
                receiver="r",
                transport="tcp",
                source_ip=address,
                listener_port=514,
                received_at=now_us,
                units=part,
            )
            outcome = process(batch, RawCoordinates(way, 0, offset))
            enrichment.apply(outcome.events)
            detection.feed(outcome.events, now_us, raw_topic=way, raw_offset=offset)
    for way in PROCESSES:
        detection.tick(now_us + 10 * SECOND, raw_topic=way)
    return list({alert["alert_id"]: alert for alert in detection.alerts}.values())


@cache
def mix(number: int) -> list[Alert]:
    now_us = time.time_ns() // 1000
    return told(AttackUnits(number).steps(now_us), now_us)


def names(alert: Alert) -> set[str]:
    return {*alert["group_by"].values(), *alert["entities"].values()}


def raised(alerts: list[Alert], expected: Expected) -> list[Alert]:
    by_name = {one.name: one.id for one in rule_set().correlations}
    return [alert for alert in alerts if alert["rule_id"] == by_name[expected.rule] and set(expected.names) <= names(alert)]


@pytest.mark.parametrize("attack", attacks(), ids=lambda attack: attack.name)
def test_an_attack_raises_its_alerts_once_and_they_name_who_it_was(attack: Any) -> None:
    for expected in attack.expected:
        assert len(raised(mix(0), expected)) == 1, expected


def test_nothing_else_is_raised() -> None:
    assert len(mix(0)) == len(AttackUnits().expected())


def test_every_family_of_rules_about_attacks_has_one() -> None:
    assert {attack.family for attack in AttackUnits(pipeline=True).attacks} == {
        "qumulo",
        "kemp",
        "flows",
        "ids",
        "across",
        "pipeline",
    }


def test_rounds_are_by_other_people_from_other_addresses() -> None:
    first, second = ({name for alert in mix(number) for name in alert["group_by"].values()} for number in (0, 1))
    shared = first & second
    # What is attacked may be the same: a port, a signature, the router that saw it.
    assert not [name for name in shared if name.startswith(("10.", "192.0.2.", "EXAMPLE"))]


def test_there_are_addresses_for_fifty_rounds() -> None:
    with pytest.raises(ValueError, match="50"):
        attacks(50)
