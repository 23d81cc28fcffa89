"""The examples of docs/enrichment.md are read by what they are examples for, and say what is said of them."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from weir.tools.enrich_commands import enrich_app

PAGE = (Path(__file__).parents[2] / "docs" / "enrichment.md").read_text(encoding="utf-8")
FILES = dict(re.findall(r"\*\*(\S+)\*\*\n\n```\w*\n(.*?)```", PAGE, re.DOTALL))
COMMANDS = re.findall(
    r"^\$ weir enrich ([^\n]+)\n(.*?)(?=^\$ |\Z)",
    "".join(re.findall(r"```console\n(.*?)```", PAGE, re.DOTALL)),
    re.DOTALL | re.MULTILINE,
)


@pytest.fixture(autouse=True)
def _files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, content in FILES.items():
        (tmp_path / name).write_text(content)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WEIR_ENRICH_INTEL_MAX_AGE_DAYS", "90")


def test_every_file_of_the_page_is_sound() -> None:
    assert set(FILES) == {"assets.csv", "users.yaml", "c2.txt", "own.csv", "misp.json", "stix.json"}
    lists = "c2.txt,own.csv,misp.json,stix.json"
    result = CliRunner().invoke(enrich_app, ["check", "--assets", "assets.csv", "--users", "users.yaml", "--intel", lists])
    assert result.exit_code == 0, result.output
    assert "left out:" not in result.output
    assert "indicators: 1 cidr, 3 domain, 3 ip, 1 sha256, 1 url" in result.output


@pytest.mark.parametrize(("arguments", "output"), COMMANDS, ids=[shlex.split(arguments)[1] for arguments, _ in COMMANDS])
def test_every_command_of_the_page_says_what_the_page_says(arguments: str, output: str) -> None:
    result = CliRunner().invoke(enrich_app, shlex.split(arguments))
    assert result.exit_code == 0, result.output
    assert re.sub(r'("expires": ")[^"]+', r"\1…", result.output) == output


def test_the_page_has_commands() -> None:
    assert len(COMMANDS) >= 3
