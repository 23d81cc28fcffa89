"""The engine's rules change while its table stays: what is gone is deleted, what is changed goes on."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from weir.detect import kinds
from weir.detect.engine import Engine, group_key
from weir.detect.kinds import windows
from weir.detect.kinds.state import StateError
from weir.detect.rules import Condition, Correlation, RuleSet
from weir.detect.telling.alerts import Origin

from .test_engine import BEGIN, RULE, RULES, SECOND, signals, tick


class Table:
    """An engine with its table, which records are applied to."""

    def __init__(self) -> None:
        self.values: dict[bytes, bytes] = {}
        self.engine = Engine(RULES, Origin(), self.values.get, lambda: list(self.values.items()))
        self.offset = 0

    def rules(self, *correlations: Correlation, version: str = "v2") -> None:
        self.engine.replace_rules(RuleSet(version, (), correlations, ()))

    def apply(self, record: dict[str, Any]) -> list[dict[str, Any]]:
        effects = self.engine.apply(0, record)
        for key, value in effects.writes:
            if value is None:
                self.values.pop(key, None)
            else:
                self.values[key] = value
        return effects.alerts

    def add(self, seconds: int, **counts: int) -> list[dict[str, Any]]:
        self.offset += 1
        return self.apply(signals("raw", 0, self.offset, BEGIN + seconds * SECOND, counts))

    def tick(self, seconds: int) -> list[dict[str, Any]]:
        return self.apply(tick("raw", 0, BEGIN + seconds * SECOND))

    def holds(self, user: str) -> bool:
        return group_key(0, RULE.id, [user]) in self.values


def test_counts_so_far_hold_under_the_new_version_of_a_rule() -> None:
    table = Table()
    assert table.add(0, u=9) == []
    table.rules(RULE)
    (alert,) = table.add(1, u=1)
    assert (alert["event_count"], alert["rule_version"]) == (10, "v2")


def test_a_higher_count_holds_at_once_for_what_has_come_already() -> None:
    table = Table()
    table.add(0, u=9)
    table.rules(replace(RULE, condition=Condition("gte", 20)))
    assert table.add(1, u=2) == []
    assert [alert["event_count"] for alert in table.add(2, u=9)] == [20]


def test_another_timespan_puts_the_counts_on_its_grid() -> None:
    table = Table()
    table.add(0, u=5)
    table.rules(replace(RULE, timespan_us=600 * SECOND, slice_us=50 * SECOND))
    assert [alert["event_count"] for alert in table.add(400, u=5)] == [10]


def test_state_of_a_rule_that_is_gone_is_deleted_with_the_next_tick_and_its_signals_are_unknown() -> None:
    table = Table()
    table.add(0, u=5)
    table.rules()
    assert not table.engine.knows(RULE.id)
    assert table.engine.apply(0, signals("raw", 0, 7, BEGIN, {"u": 1})).unknown == {RULE.id}
    assert table.holds("u")
    table.tick(1)
    assert not table.holds("u")


def test_an_open_alert_is_closed_in_time_after_the_rules_have_changed() -> None:
    table = Table()
    table.add(0, u=10)
    table.rules(RULE)
    states = [alert["state"] for seconds in range(1, 200, 10) for alert in table.tick(seconds)]
    assert states == ["closed"]


class Other:
    """Another kind, whose states begin with a byte of its own."""

    @staticmethod
    def load(value: bytes) -> Any:
        if value[:1] != b"\xee":
            raise StateError("not of this kind")
        return windows.load(value[1:])


@pytest.mark.parametrize("first", ["tick", "signals"])
def test_state_of_another_kind_is_begun_anew(first: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A rule that counted events in one version may look for something else in the next."""
    monkeypatch.setattr(kinds, "_KINDS", {"other": Other})
    table = Table()
    table.add(0, u=9)
    key = group_key(0, RULE.id, ["u"])
    table.values[key] = b"\xee" + table.values[key]
    table.rules(RULE)
    if first == "tick":
        table.tick(1)
        assert not table.holds("u")
    assert table.add(2, u=9) == []
    table.tick(3)
    assert table.holds("u")
    assert [alert["event_count"] for alert in table.add(4, u=1)] == [10]


def test_state_that_no_kind_reads_is_not_thrown_away() -> None:
    table = Table()
    table.add(0, u=9)
    table.values[group_key(0, RULE.id, ["u"])] = b"\xff of a later release"
    table.rules(RULE)
    with pytest.raises(StateError):
        table.tick(1)
