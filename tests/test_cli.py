"""The command as a user meets it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from pkgutil import resolve_name

import pytest

from weir.cli import SETTINGS, Processor, Receiver, Sink
from weir.ops.settings import ServiceSettings

ROOT = Path(__file__).parents[1]
WEIR = str(Path(sys.executable).with_name("weir"))


def weir(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {k: v for k, v in os.environ.items() if not k.startswith("WEIR_") and k != "KAFKA_BOOTSTRAP_SERVERS"}
    return subprocess.run([WEIR, *arguments], env=clean | environment, capture_output=True, text=True, timeout=60, check=False)


def test_without_arguments_it_says_what_there_is() -> None:
    said = weir().stdout + weir().stderr
    for command in ("receive", "process", "sink", "topics", "demo"):
        assert command in said


@pytest.mark.parametrize(
    "arguments",
    [
        *(("receive", kind) for kind in ("syslog", "beats", "netflow")),
        *(("process", kind) for kind in ("syslog", "beats", "netflow", "detector", "ledger")),
        *(("sink", kind) for kind in ("sentinel", "adx", "siem")),
    ],
    ids=" ".join,
)
def test_wrong_settings_stop_every_service_with_all_mistakes_named(arguments: tuple[str, str]) -> None:
    done = weir(*arguments, WEIR_LOG_LEVEL="loud", WEIR_SIET="x")
    assert done.returncode == 2
    assert "WEIR_LOG_LEVEL" in done.stderr
    assert "WEIR_SIET is not a setting; did you mean WEIR_SITE?" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("kind", ["syslog", "detector", "ledger"])
def test_a_folder_of_rules_that_is_not_there_is_named(kind: str) -> None:
    done = weir("process", kind, WEIR_KAFKA_BOOTSTRAP_SERVERS="127.0.0.1:1", WEIR_RULES_DIR="/nowhere/rules")
    assert done.returncode == 2
    assert "/nowhere/rules" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_setting_of_another_service_is_no_mistake() -> None:
    done = weir("process", "syslog", WEIR_SIEM_HOST="x", WEIR_LOG_LEVEL="loud")
    assert "WEIR_SIEM_HOST" not in done.stderr


def test_brokers_that_are_away_are_named_with_the_way_out() -> None:
    done = weir("topics", "check", WEIR_KAFKA_BOOTSTRAP_SERVERS="127.0.0.1:1")
    assert done.returncode == 3
    assert "127.0.0.1:1" in done.stderr
    assert "way out" in done.stderr


def test_schema_ids_are_listed_for_machines() -> None:
    rows = json.loads(weir("schemas", "list", "--json").stdout)
    assert {"raw-batch", "network-flow", "alert"} <= {row["name"] for row in rows}


def test_the_settings_page_is_what_the_command_prints() -> None:
    assert weir("settings").stdout == (ROOT / "docs" / "settings.md").read_text(encoding="utf-8"), (
        "run: weir settings > docs/settings.md"
    )


def test_no_colours_where_there_is_no_terminal() -> None:
    assert "\x1b[" not in weir("schemas", "list").stdout


def test_services_come_first_in_the_help_and_no_line_of_it_is_cut() -> None:
    commands = weir("--help", COLUMNS="80").stdout.partition("Commands:")[2].partition("\n\n")[0]
    names = [line.split()[0] for line in commands.splitlines() if line.strip()]
    assert names[:4] == ["receive", "process", "sink", "doctor"]
    assert "..." not in commands


def test_a_run_that_sent_nothing_is_not_called_whole(tmp_path: Path) -> None:
    summary = tmp_path / "run.json"
    weir("generate", "syslog", "--transport", "tcp", "--target", "127.0.0.1:1", "--count", "5", "--summary", str(summary))
    done = weir("generate", "verify", str(summary), "--bootstrap", "127.0.0.1:1")
    assert done.returncode == 1
    assert "nothing was sent" in done.stderr


@pytest.mark.parametrize("option", ["--cert", "--ca"])
def test_a_file_for_tls_that_cannot_be_used_is_named(option: str, tmp_path: Path) -> None:
    file = tmp_path / "none.pem"
    for content in (None, "no certificate"):
        if content is not None:
            file.write_text(content, encoding="ascii")
        done = weir("generate", "syslog", "--transport", "tls", option, str(file), "--count", "1")
        assert done.returncode == 2
        assert f"{option} {file}" in done.stderr


def test_every_service_has_a_main_and_settings_of_its_own() -> None:
    assert len(SETTINGS) == len(Receiver) + len(Processor) + len(Sink)
    for module, settings in SETTINGS.items():
        assert callable(import_module(module).main), module
        assert issubclass(resolve_name(settings), ServiceSettings), settings
