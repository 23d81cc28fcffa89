"""Rules and suppressions that change while a service runs: what is taken over, what stays as it was, and what is said of it."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import structlog

from weir.detect.reading import loading
from weir.detect.reading.reloading import STAYS
from weir.ops.settings import SettingsError
from weir.processors import rules as rules_module
from weir.processors.detector import Detector
from weir.processors.rules import LiveRules
from weir.processors.runtime import Processor

NOW = 1_790_000_040_000_000
SUPPRESS = """suppress:
  - {id: one, owner: o, reason: r, expires: 2026-12-01, rules: any, where: {user: u}}
"""
ALLOW = """allow:
  - {id: one, owner: o, reason: r, expires: 2026-12-01, rules: any, where: {user.id: u}}
"""


def rule(number: int, field: str = "event.action", action: str = "fs_delete") -> str:
    return (
        f"title: Rule {number}\nid: {number:08d}-1111-4111-8111-111111111111\nlogsource: {{category: file_audit}}\n"
        f"detection: {{sel: {{{field}: {action}}}, condition: sel}}\n"
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "rules"
    made.mkdir()
    (made / "a.yml").write_text(rule(1))
    return made


def live(folder: Path, file: Path | None = None) -> LiveRules:
    return LiveRules(folder, file, now_us=lambda: NOW)


class Watch:
    """Looks when it is told to; counts what was taken over and keeps what was logged."""

    def __init__(self, rules: LiveRules) -> None:
        self.rules = rules
        self.taken = 0
        self.logged: list[Any] = []

    def look(self) -> bool:
        def changed() -> None:
            self.taken += 1

        with structlog.testing.capture_logs() as logged:
            found = asyncio.run(self.rules.look(changed))
        self.logged = logged
        return found

    @property
    def ids(self) -> set[int]:
        return {int(c.id[:8]) for c in self.rules.rule_set.correlations}


def test_nothing_is_taken_over_while_nothing_changes(folder: Path) -> None:
    watch = Watch(live(folder))
    assert not watch.look()
    # The same content again, as a deployment may write it.
    (folder / "a.yml").write_text(rule(1))
    os.utime(folder / "a.yml", (1, 1))
    assert not watch.look()
    assert not watch.look()
    assert (watch.taken, watch.logged) == (0, [])


def test_a_rule_that_is_added_is_matched_and_one_that_is_removed_is_not(folder: Path) -> None:
    watch = Watch(live(folder))
    (folder / "b.yml").write_text(rule(2))
    assert watch.look()
    assert watch.ids == {1, 2}
    (folder / "a.yml").unlink()
    assert watch.look()
    assert watch.ids == {2}
    assert watch.rules.source is not None
    assert watch.rules.source.version == watch.rules.rule_set.version
    assert watch.taken == 2


def test_a_change_within_the_clock_s_granularity_is_seen(folder: Path) -> None:
    """Same size, same times, same inode: after a fresh change the content is compared."""
    watch = Watch(live(folder))
    status = (folder / "a.yml").stat()
    (folder / "a.yml").write_text(rule(3))
    os.utime(folder / "a.yml", ns=(status.st_atime_ns, status.st_mtime_ns))
    assert watch.look()
    assert watch.ids == {3}


def test_a_folder_that_has_not_changed_for_long_is_not_read_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules_module, "SETTLED_NS", -(10**18))
    watch = Watch(live(folder))
    monkeypatch.setattr(rules_module, "read_folder", None)
    assert not watch.look()


def test_a_broken_edit_keeps_the_rule_as_it_was_and_is_logged_once(folder: Path) -> None:
    watch = Watch(live(folder))
    (folder / "a.yml").write_text(rule(1, "no.such"))
    (folder / "b.yml").write_text(rule(2))
    assert watch.look()
    assert watch.ids == {1, 2}
    told = [entry for entry in watch.logged if entry["event"] == "rule left out"]
    assert [(e["file"], e["line"], e["cause"]) for e in told] == [
        ("a.yml", 1, f"field no.such is not in dataset file-audit{STAYS}")
    ]
    (folder / "c.yml").write_text(rule(3))
    assert watch.look()
    assert not [entry for entry in watch.logged if entry["event"] == "rule left out"]


@pytest.mark.parametrize("how", ["gone", "empty"])
def test_a_folder_that_is_gone_or_empty_changes_nothing_and_is_said_once(folder: Path, how: str) -> None:
    watch = Watch(live(folder))
    (folder / "a.yml").unlink()
    if how == "gone":
        folder.rmdir()
    for look in range(3):
        assert not watch.look()
        assert [entry["event"] for entry in watch.logged] == (
            ["the rules cannot be used; the ones before stay"] if look == 0 else []
        )
    assert watch.ids == {1}
    folder.mkdir(exist_ok=True)
    (folder / "a.yml").write_text(rule(4))
    assert watch.look()
    assert watch.ids == {4}


def test_a_defect_of_ours_in_loading_keeps_the_rules(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    watch = Watch(live(folder))
    monkeypatch.setattr(loading, "read_folder", lambda root: 1 / 0)
    (folder / "b.yml").write_text(rule(2))
    assert not watch.look()
    assert watch.ids == {1}


def test_a_defect_of_ours_in_indexing_keeps_the_rules(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    watch = Watch(live(folder))
    monkeypatch.setattr(rules_module, "SignalSource", lambda rule_set: 1 / 0)
    (folder / "b.yml").write_text(rule(2))
    assert not watch.look()
    assert watch.ids == {1}


def test_a_file_whose_name_is_not_utf_8_is_read_like_any(folder: Path) -> None:
    watch = Watch(live(folder))
    Path(os.fsdecode(os.fsencode(folder) + b"/\xff.yml")).write_text(rule(2))
    assert watch.look()
    assert watch.ids == {1, 2}


def test_rules_may_appear_where_there_were_none(folder: Path) -> None:
    (folder / "a.yml").write_text("")
    watch = Watch(live(folder))
    assert watch.rules.source is None
    (folder / "a.yml").write_text(rule(1))
    assert watch.look()
    assert watch.rules.source is not None


def test_suppressions_are_taken_over_and_a_bad_file_keeps_the_old_ones(folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "s.yaml"
    file.write_text("suppress: []\n")
    watch = Watch(live(folder, file))
    file.write_text(SUPPRESS)
    assert watch.look()
    assert [entry.id for entry in watch.rules.suppressions.suppress] == ["one"]
    file.write_text(SUPPRESS.replace("owner: o, ", "").replace("2026-12-01", "2036-12-01"))
    for look in range(2):
        assert not watch.look()
        assert [len(entry["mistakes"]) for entry in watch.logged] == ([2] if look == 0 else [])
    file.unlink()
    assert not watch.look()
    assert [entry.id for entry in watch.rules.suppressions.suppress] == ["one"]


def test_allowed_events_are_not_counted_by_the_source(folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "s.yaml"
    file.write_text(ALLOW)
    source = live(folder, file).source
    event = {"event_action": "fs_delete", "event_created": NOW, "timestamp": NOW, "event_id": "e"}
    event |= {"raw_topic": "r", "raw_partition": 0, "raw_offset": 0}
    assert source is not None
    assert source.signals({"file-audit": [{**event, "user_id": "u"}]}, 1) == {}
    assert source.signals({"file-audit": [{**event, "user_id": "v"}]}, 1)


def test_at_the_start_every_mistake_of_folder_and_file_is_named_at_once(tmp_path: Path) -> None:
    file = tmp_path / "s.yaml"
    file.write_text(SUPPRESS.replace("owner: o, reason: r, ", ""))
    with pytest.raises(SettingsError) as raised:
        LiveRules(tmp_path / "none", file, now_us=lambda: NOW)
    texts = ["no such folder of rules", "owner is missing", "reason is missing"]
    assert [any(text in mistake for mistake in raised.value.mistakes) for text in texts] == [True] * 3


# --- what a processor and the detector do with it


def test_a_processor_begins_to_tick_when_rules_appear_and_goes_on_when_they_vanish(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("weir.processors.runtime.Ticks", lambda member, topic, version, encode: SimpleNamespace(rule_set=version))
    rules = SimpleNamespace(source=None)
    processor = cast("Any", SimpleNamespace(rules=rules, ticks=None, raw_topic="raw", encode_signals=None))
    Processor._take_rules(processor)
    assert (processor.signal_source, processor.ticks) == (None, None)
    rules.source = SimpleNamespace(version="v1")
    Processor._take_rules(processor)
    assert (processor.signal_source, processor.ticks.rule_set) == (rules.source, "v1")
    rules.source = SimpleNamespace(version="v2")
    Processor._take_rules(processor)
    assert processor.ticks.rule_set == "v2"
    rules.source = None
    Processor._take_rules(processor)
    assert processor.signal_source is None
    assert processor.ticks.rule_set == "v2"


class FakeRules:
    """Rules whose folder shows a correlation at the nth look."""

    def __init__(self, at_look: int) -> None:
        self.at_look = at_look
        self.looks = 0
        self.known: set[str] = set()

    async def look(self, changed: Any) -> bool:
        self.looks += 1
        if self.looks == self.at_look:
            self.known.add("new")
            return True
        return False


def waiting(rules: FakeRules, appended: float, now: list[float], monkeypatch: pytest.MonkeyPatch) -> Any:
    async def sleep(seconds: float) -> None:
        now[0] += seconds

    monkeypatch.setattr("weir.processors.detector.asyncio.sleep", sleep)
    monkeypatch.setattr("weir.processors.detector.time.time", lambda: now[0])
    detector = SimpleNamespace(
        rules=rules,
        unknown=set(),
        settings=SimpleNamespace(rules_poll_seconds=10.0),
        take_rules=lambda: None,
        engine=SimpleNamespace(knows=lambda one: one in rules.known),
        count_unknown=SimpleNamespace(add=lambda number: None),
    )
    detector._not_known = lambda record: Detector._not_known(cast("Any", detector), record)
    record = {"rule_set": "v2", "partials": [{"correlation_id": "new"}]}
    asyncio.run(Detector._wait_for_rules(cast("Any", detector), record, appended))
    return detector


def test_signals_of_a_new_rule_wait_until_the_detector_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    rules, now = FakeRules(at_look=5), [1000.0]
    waiting(rules, 1000.0, now, monkeypatch)
    assert rules.known == {"new"}
    assert now == [1004.0]


def test_what_stays_unknown_is_waited_for_two_minutes_from_when_it_was_written(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    waiting(FakeRules(at_look=-1), 1000.0, now, monkeypatch)
    assert now == [1120.0]


def test_a_backlog_of_a_rule_that_is_gone_delays_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    rules, now = FakeRules(at_look=-1), [9000.0]
    detector = waiting(rules, 1000.0, now, monkeypatch)
    assert (now, rules.looks) == ([9000.0], 1)
    record = {"rule_set": "v2", "partials": [{"correlation_id": "new"}]}
    Detector._warn_of_unknown(detector, cast("Any", SimpleNamespace(unknown={"new"})), record)
    asyncio.run(Detector._wait_for_rules(detector, record, 9000.0))
    assert (now, rules.looks) == ([9000.0], 1)
    # Made with other rules, they may be of a rule that has come back.
    asyncio.run(Detector._wait_for_rules(detector, {**record, "rule_set": "v3"}, 9000.0))
    assert rules.looks > 1
