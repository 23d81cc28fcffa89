"""`weir filters check` and `weir filters try`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from weir.enrich.filters import read_rules
from weir.tools.filter_commands import filters_app
from weir.tools.filter_trial import Trial, read_events

FILTERS = """
filters:
  - {name: no dns, dataset: network-flow, source: [core, 192.0.2.0/24], when: "destination_port in [53]", do: drop}
  - {name: few, dataset: syslog, do: sample 1/2}
  - {name: merged, dataset: network-flow, do: merge}
  - {name: never met, dataset: cef, do: keep}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "filters.yaml"
    path.write_text(FILTERS)
    return path


def event(number: int, dataset: str = "network-flow", **fields: Any) -> str:
    return json.dumps({"dataset": dataset, "event_id": f"b-{number}-0", "log_source_ip": "192.0.2.1", **fields})


def run(*arguments: str | Path, given: str = "") -> tuple[int, str, str]:
    result = CliRunner().invoke(filters_app, [str(a) for a in arguments], input=given)
    return result.exit_code, result.stdout, result.stderr


def test_check_lists_the_rules(file: Path) -> None:
    code, out, _ = run("check", file)
    assert code == 0
    for part in ("no dns", "192.0.2.0/24, core", "destination_port in [53]", "sample 1/2", "4 rules, no mistakes"):
        assert part in " ".join(out.split()), out
    code, out, _ = run("check", file, "--json")
    assert json.loads(out)[0] == {
        "name": "no dns",
        "dataset": ["network-flow"],
        "source": ["192.0.2.0/24", "core"],
        "when": "destination_port in [53]",
        "do": "drop",
    }


def test_check_names_every_mistake_and_fails(tmp_path: Path) -> None:
    path = tmp_path / "wrong.yaml"
    path.write_text("filters:\n - {name: a, do: x}\n - {name: b, do: drop, when: 'nothing == 1'}\n")
    code, out, err = run("check", path)
    assert (code, out) == (2, "")
    assert f"weir: {path}:2: rule 'a'" in err
    assert f"weir: {path}:3: rule 'b': when, column 1: nothing is not a field" in err
    assert run("check", tmp_path / "none.yaml")[0] == 2


def test_check_looks_up_sources_in_the_catalogue(file: Path, tmp_path: Path) -> None:
    catalogue = tmp_path / "sources.yaml"
    catalogue.write_text("sources: [{name: core, port: 514}]")
    assert run("check", file, "--sources", catalogue)[0] == 0
    catalogue.write_text("sources: [{name: core-1, port: 514}]")
    code, _, err = run("check", file, "--sources", catalogue)
    assert code == 2
    assert f"{file}:3: rule 'no dns': there is no source 'core' in {catalogue}; did you mean core-1?" in err
    assert run("check", file, "--sources", tmp_path / "none.yaml")[0] == 2


def test_try_tells_what_each_rule_would_do(file: Path) -> None:
    lines = [event(n, destination_port=53) for n in range(3)]
    lines += [event(10 + n, destination_port=80, network_bytes=n) for n in range(4)]
    lines += [event(20, log_source_ip="198.51.100.1", destination_port=53), event(21, "sensor", document={"a": 1}), ""]
    code, out, _ = run("try", file, "--json", given="\n".join(lines))
    assert code == 0
    rows = {(row["rule"], row["dataset"]): (row["events"], row["published"], row["left_out"]) for row in json.loads(out)}
    assert rows == {
        ("no dns", "network-flow"): (3, 0, 3),
        ("few", "-"): (0, 0, 0),
        ("merged", "network-flow"): (5, 2, 3),
        ("never met", "-"): (0, 0, 0),
        ("-", "sensor"): (1, 1, 0),
    }


def test_try_tells_it_of_each_event_where_that_is_asked_for(file: Path, tmp_path: Path) -> None:
    events = tmp_path / "events.ndjson"
    events.write_text("\n".join([event(0, destination_port=53), event(1, "sensor")]))
    code, out, _ = run("try", file, events, "--verbose")
    assert code == 0
    assert out.splitlines()[:2] == ["b-0-0\tnetwork-flow\tdrop by 'no dns'", "b-1-0\tsensor\tkept"]


def test_try_fills_in_what_follows_from_the_event_first(tmp_path: Path) -> None:
    path = tmp_path / "filters.yaml"
    path.write_text("filters: [{name: out, dataset: network-flow, when: network_direction == 'outbound', do: drop}]")
    line = event(0, source_ip="203.0.113.1", destination_ip="198.51.100.1")
    for options, left_out in (((), 0), (("--own-networks", "203.0.113.0/24"), 1)):
        code, out, _ = run("try", path, "--json", *options, given=line)
        assert code == 0
        assert [row["left_out"] for row in json.loads(out) if row["rule"] == "out"] == [left_out]
    code, _, err = run("try", path, "--own-networks", "203.0.113.1/24", given=line)
    assert (code, "203.0.113.1/24" in err) == (2, True)


@pytest.mark.parametrize(
    ("line", "says"),
    [("{", "standard input:2: not JSON"), ("[]", ":2: no event"), ('{"dataset": "zzz"}', "one of network-flow, cef")],
)
def test_try_names_the_line_that_is_no_event(file: Path, line: str, says: str) -> None:
    code, _, err = run("try", file, given=f"{event(0)}\n{line}\n")
    assert code == 2
    assert says in err


def test_events_are_read_as_processors_have_them() -> None:
    line = {
        "dataset": "sensor",
        "timestamp": "2026-11-27T12:00:00.000001Z",
        "event_created": 5,
        "document": {"a": 1},
        "tags": ["x"],
        "source_port": "wrong",
    }
    ((dataset, record),) = read_events([json.dumps(line).encode()], "f")
    assert dataset == "sensor"
    assert record == {
        "timestamp": 1_795_780_800_000_001,
        "event_created": 5,
        "document": '{"a":1}',
        "tags": ["x"],
        "source_port": None,
        "event_id": "1",
    }


def test_a_trial_counts_as_the_processors_do() -> None:
    trial = Trial(read_rules(FILTERS))
    for number in range(200):
        trial.add("syslog", {"event_id": f"b-{number}-0"})
    (row,) = [row for row in trial.rows() if row["rule"] == "few"]
    assert row["events"] == 200
    assert 60 < row["published"] < 140
    assert row["published"] + row["left_out"] == 200
