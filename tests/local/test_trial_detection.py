"""The detection trial in its short form: attacks on two installations, one of which is killed; and how it judges."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from weir.local.generate.attacks import AttackUnits
from weir.local.trials.detection import Kill, Plan, judge, run_detection, schedule, verdict
from weir.local.trials.detection_side import Told

SERVICES = {"detector", "syslog", "netflow", "beats"}


def told(events: int = 5, **values: object) -> Told:
    known = {"rule": "r", "group": (("user", "eve"),), "entities": frozenset({"eve"}), "summary": "s", "first": 1, "last": 2}
    return Told(**known | {"events": events, "state": "closed"} | values)  # type: ignore[arg-type]


def of_the_mix() -> dict[str, Told]:
    """What one round must raise."""
    expected = enumerate(AttackUnits().expected())
    return {str(number): told(rule=one.rule, entities=frozenset(one.names)) for number, one in expected}


@pytest.mark.parametrize("seed", range(20))
def test_even_a_short_trial_kills_the_detector_and_a_processor_again_and_again(seed: int) -> None:
    kills = schedule(Plan(seconds=20, seed=seed))
    assert {kill.service == "detector" for kill in kills[:2]} == {True, False}
    assert kills == sorted(kills)
    assert len(kills) >= 3
    assert all(0 < kill.at < 20 for kill in kills)


def test_a_long_trial_kills_every_service_often_and_by_its_seed() -> None:
    kills = schedule(Plan(seconds=600, seed=1))
    assert len(kills) > 100
    assert all([kill.service for kill in kills].count(service) > 10 for service in SERVICES)
    assert kills == schedule(Plan(seconds=600, seed=1))
    assert kills != schedule(Plan(seconds=600, seed=2))


@pytest.mark.parametrize(("due", "published"), [(3.9, 3.9), (4.0, 4.7), (4.5, 4.7), (4.8, 4.8)])
def test_what_is_due_in_the_second_before_a_kill_comes_all_at_once_just_before_it(due: float, published: float) -> None:
    assert Kill(5.0, "detector", 0.3).publishes_at(due) == pytest.approx(published)


def test_a_long_trial_has_no_more_rounds_than_the_mix_has_addresses_for() -> None:
    assert [Plan(seconds=seconds).rounds for seconds in (15, 20, 600, 1000)] == [1, 1, 30, 50]


def test_the_same_alerts_with_the_same_counts_differ_in_nothing() -> None:
    alerts = {"1": told(), "2": told(7, rule="q")}
    assert not any(judge(alerts, dict(alerts)).values())


def test_an_alert_of_one_run_alone_is_missing_or_invented() -> None:
    found = judge({"1": told(), "2": told(rule="lost")}, {"1": told(), "3": told(rule="made up")})
    assert (list(found["missing"]), list(found["invented"])) == (["2"], ["3"])
    assert not found["renamed"]


def test_another_count_under_the_same_id_is_counted_otherwise() -> None:
    found = judge({"1": told(5)}, {"1": told(6)})
    assert {key: found["counted_otherwise"]["1"][key] for key in ("alone", "killed")} == {"alone": 5, "killed": 6}
    assert not found["missing"]
    assert not found["invented"]


def test_another_time_under_the_same_id_is_timed_otherwise() -> None:
    assert list(judge({"1": told()}, {"1": told(last=3)})["timed_otherwise"]) == ["1"]


def test_the_same_events_of_the_same_group_under_another_id_are_renamed_once() -> None:
    found = judge({"1": told()}, {"2": told(), "3": told()})
    assert found["renamed"]["1"]["killed"] == "2"
    assert not found["missing"]
    assert list(found["invented"]) == ["3"]


@pytest.mark.parametrize("other", [told(6), told(rule="q"), told(group=(("user", "bob"),)), told(first=0)])
def test_an_alert_about_anything_else_is_not_a_renamed_one(other: Told) -> None:
    found = judge({"1": told()}, {"2": other})
    assert not found["renamed"]
    assert (list(found["missing"]), list(found["invented"])) == (["1"], ["2"])


def test_a_run_that_raised_nothing_or_did_not_close_is_no_proof() -> None:
    plan = Plan(seconds=20)
    raised = of_the_mix()
    assert verdict(plan, raised, dict(raised))["ok"]
    assert not verdict(plan, {}, {})["ok"]
    less = {one: alert for one, alert in raised.items() if one != "0"}
    found = verdict(plan, less, dict(less))
    assert (len(found["unraised"]), found["ok"]) == (1, False)
    found = verdict(plan, raised, raised | {"0": raised["0"]._replace(state="update")})
    assert (found["open_still"], found["ok"]) == ({"alone": 0, "killed": 1}, False)


@pytest.mark.parametrize("other", [{}, {"events": 6}, {"last": 9}])
def test_any_difference_fails_the_trial(other: dict[str, Any]) -> None:
    plan = Plan(seconds=20)
    raised = of_the_mix()
    changed = raised | {"0": raised["0"]._replace(**other)}
    assert verdict(plan, raised, changed)["ok"] is not bool(other)
    assert not verdict(plan, raised, {("x" if one == "0" else one): alert for one, alert in changed.items()})["ok"]


@pytest.mark.e2e
@pytest.mark.timeout(300)
def test_killed_at_random_it_tells_the_alerts_of_an_undisturbed_run(tmp_path: Path) -> None:
    """Takes some 60 s: two installations that start, 20 s of attacks, and the reading to the end."""
    said: list[str] = []
    result = run_detection(Plan(seconds=20, seed=1), tmp_path, said.append)
    assert result["kills"]["detector"] >= 1
    assert sum(result["kills"].values()) > result["kills"]["detector"]
    assert not result["unraised"]
    assert not any(result[what] for what in ("missing", "invented", "renamed", "counted_otherwise", "timed_otherwise"))
    assert not any(result["open_still"].values())
    assert result["ok"], said
    assert result["alerts"]["alone"] >= 13
