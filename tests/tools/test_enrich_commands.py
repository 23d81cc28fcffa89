"""`weir enrich`: what is in the tables, and what they would say."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from weir.tools.enrich_commands import enrich_app

runner = CliRunner()


def run(*arguments: str) -> Result:
    return runner.invoke(enrich_app, list(arguments))


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    (tmp_path / "assets.csv").write_text(
        "network,ip,host,name,criticality\n10.0.0.0/8,,,Corp,low\n,10.1.2.3,,dc1,high\n,,files,files,\n"
    )
    (tmp_path / "users.yaml").write_text("- entity: alice\n  name: alice\n  domain: AD\n  roles: [admin]\n")
    (tmp_path / "list.txt").write_text("evil.example # bad\n203.0.113.9\nhttp://evil.example/x\nnonsense\n")
    names = {"--assets": "assets.csv", "--users": "users.yaml", "--intel": "list.txt"}
    return [part for option, name in names.items() for part in (option, str(tmp_path / name))]


def test_check_counts_what_is_in_each_table_and_what_was_left_out(files: list[str]) -> None:
    result = run("check", *files, "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.output)
    assert found["tables"] == {"assets": 3, "users": 1, "intel": 3}
    assert found["indicators"] == {"domain": 1, "ip": 1, "url": 1}
    (one,) = found["lists"].values()
    assert (one["indicators"], one["left_out"]) == (3, 1)
    shown = run("check", *files)
    assert "line 4: 'nonsense'" in shown.output


def test_check_names_every_mistake(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("network,name\n10.0.0.0/99,a\nx,b\n")
    result = run("check", "--assets", str(path))
    assert result.exit_code == 2
    assert "a.csv:2" in result.output
    assert "a.csv:3" in result.output


def test_check_without_a_table_says_how_to_name_one() -> None:
    result = run("check")
    assert result.exit_code == 2
    assert "no table is configured" in result.output


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ("10.1.2.3", {"asset_name": "dc1", "asset_criticality": "high", "network_name": "Corp"}),
        ("FILES.corp.example", {"asset_name": "files"}),
        ("AD\\Alice", {"user_entity_id": "alice", "user_roles": ["admin"]}),
    ],
)
def test_lookup_says_what_would_be_added(files: list[str], value: str, found: dict[str, object]) -> None:
    result = run("lookup", value, *files, "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.output) == found


@pytest.mark.parametrize(
    ("value", "indicator"),
    [("www.evil.example", "evil.example"), ("203.0.113.9", "203.0.113.9"), ("evil.example/x", "http://evil.example/x")],
)
def test_lookup_says_which_indicators_hold_it(files: list[str], value: str, indicator: str) -> None:
    result = run("lookup", value, *files, "--json")
    assert [one["indicator"] for one in json.loads(result.output)["threat_enrichments"]] == [indicator]


def test_lookup_of_what_nobody_knows_says_so(files: list[str]) -> None:
    result = run("lookup", "198.51.100.77", *files)
    assert result.exit_code == 1
    assert "no table says anything" in result.output


def test_settings_are_read_where_no_option_is_given(files: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KAFKA_BOOTSTRAP_SERVERS", raising=False)
    monkeypatch.setenv("WEIR_ENRICH_INTEL", files[-1])
    result = run("lookup", "203.0.113.9", "--json")
    assert result.exit_code == 0, result.output
