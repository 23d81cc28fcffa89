"""How steps are taken: in order, all events of a batch by the same tables, and a failing one costs no event."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from weir.processors import enrichment
from weir.processors.enrichment import Enrichment, load_enrichment, name_of
from weir.processors.settings import ProcessorSettings
from weir.processors.tables import HotTables


class Failing:
    """A step that fails."""

    def __call__(self, records: list[dict[str, Any]]) -> None:
        raise RuntimeError("no")


class Counted:
    """What a counter was told."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, dict[str, str]]] = []

    def add(self, number: int, attributes: dict[str, str]) -> None:
        self.seen.append((number, attributes))


def test_a_failing_step_is_counted_each_time_told_once_a_minute_and_the_others_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[dict[str, Any]] = []
    monkeypatch.setattr(enrichment.log, "exception", lambda event, **values: said.append(values))
    now = [0.0]
    found = Enrichment({"syslog": [Failing(), lambda records: records[0].update(message="after")]}, clock=lambda: now[0])
    counted = Counted()
    monkeypatch.setattr(found, "_count_failures", counted)
    for now[0] in (0.0, 1.0, 59.0, 60.0, 61.0):
        record: dict[str, Any] = {}
        found.apply({"syslog": [record]})
        assert record == {"message": "after"}
    assert counted.seen == [(1, {"step": "Failing"})] * 5
    assert said == [{"dataset": "syslog", "step": "Failing", "unsaid": 0}, {"dataset": "syslog", "step": "Failing", "unsaid": 2}]


def test_steps_have_names_that_people_know(tmp_path: Path) -> None:
    (tmp_path / "intel.txt").write_text("evil.example\n")
    settings = ProcessorSettings(
        kafka_bootstrap_servers="127.0.0.1:9", enrich_intel=str(tmp_path / "intel.txt"), enrich_seen_hours=1
    )
    steps = load_enrichment(settings)._steps["cef"]
    assert [name_of(step) for step in steps] == [
        "network_names",
        "service_names",
        "Directions",
        "CommunityIds",
        "user_agents",
        "addresses",
        "users",
        "indicators",
    ]


def test_tables_that_are_swapped_within_a_batch_are_seen_by_the_next_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "assets.csv"
    file.write_text("network,ip,host,name\n,10.0.0.1,,old\n,,files,old\n")
    made: list[HotTables] = []

    def remember(settings: ProcessorSettings) -> HotTables:
        made.append(HotTables(settings))
        return made[0]

    monkeypatch.setattr("weir.processors.tables.HotTables", remember)
    found = load_enrichment(ProcessorSettings(kafka_bootstrap_servers="127.0.0.1:9", enrich_asset_files=str(file)))

    class Swapping(list[dict[str, Any]]):
        """Records; while they are looked at, the tables are swapped, as the thread that watches the files may at any time."""

        def __iter__(self) -> Any:
            file.write_text("network,ip,host,name\n,10.0.0.1,,new one\n,,files,new one\n")
            made[0].check()
            return super().__iter__()

    def told(records: list[dict[str, Any]]) -> tuple[str, str]:
        found.apply({"file-audit": records})
        return records[0]["source_asset_name"], records[0]["host_asset_name"]

    assert told(Swapping([{"source_ip": "10.0.0.1", "host_name": "files"}])) == ("old", "old")
    assert told([{"source_ip": "10.0.0.1", "host_name": "files"}]) == ("new one", "new one")
