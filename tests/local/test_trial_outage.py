"""The outage trial in its short form: a real Kafka stopped and started, a receiver killed, every number accounted for."""

from __future__ import annotations

from pathlib import Path

import pytest

from weir.local.trials.outage import Plan, Step, run_outage, schedule


@pytest.mark.parametrize("seed", range(20))
def test_a_short_schedule_has_one_outage_with_one_kill_in_it(seed: int) -> None:
    steps = schedule(Plan(seconds=20, seed=seed))
    assert [step.action for step in steps] == ["stop kafka", "kill", "start kafka"]
    assert steps == sorted(steps, key=lambda step: step.at)
    assert 0 < steps[0].at < steps[-1].at < 20


@pytest.mark.parametrize("seed", range(20))
def test_a_long_schedule_has_three_outages_and_two_kills_of_different_receivers_one_while_kafka_is_away(seed: int) -> None:
    steps = schedule(Plan(seconds=600, seed=seed))
    actions = [step.action for step in steps]
    assert actions.count("stop kafka") == actions.count("start kafka") == 3
    kills = [step for step in steps if step.action == "kill"]
    assert len({kill.name for kill in kills}) == len(kills) == 2
    assert any(_is_away(steps, kill.at) for kill in kills)


def _is_away(steps: list[Step], at: float) -> bool:
    before = [step.action for step in steps if step.at < at and step.action != "kill"]
    return bool(before) and before[-1] == "stop kafka"


def test_the_same_seed_gives_the_same_schedule() -> None:
    assert schedule(Plan(seed=7)) == schedule(Plan(seed=7))
    assert schedule(Plan(seed=7)) != schedule(Plan(seed=8))


@pytest.mark.e2e
@pytest.mark.timeout(300)
def test_nothing_acknowledged_is_missing_after_an_outage_with_a_kill_in_it(tmp_path: Path) -> None:
    """Takes some 70 s: 20 s of load, a broker that comes back, and the reading of all topics."""
    told: list[str] = []
    result = run_outage(Plan(seconds=20, seed=1, rate=400), tmp_path, told.append)
    actions = " ".join(told)
    assert "stop kafka" in actions
    assert "start kafka" in actions
    assert "kill receive-" in actions
    assert result["ok"], [one for one in result["senders"] if not one["ok"]]
    assert len(result["senders"]) == 8
    assert sum(one["kills"] for one in result["senders"]) > 0
    assert all(one["sent"] > 0 for one in result["senders"])
    for one in result["senders"]:
        if one["acknowledges"]:
            assert one["missing"] == 0
            assert one["acknowledged"] > 0
