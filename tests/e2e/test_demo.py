"""The whole pipeline as processes, with every one of them killed in the middle: nothing acknowledged is missing."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.support import eventually
from weir.local.downloads import fetch_azurite, fetch_kafka
from weir.local.generate.attacks import DEAD_UNITS, AttackUnits

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

WEIR = Path(sys.executable).with_name("weir")
LINES = 3000
BEHIND_THE_RECEIVERS = (
    "process-syslog", "process-netflow", "process-beats", "process-ledger", "detector", "sink-sentinel", "sink-adx", "sink-siem",
)  # fmt: skip


def ready(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def kill(folder: Path, name: str, *, until_ready: bool) -> None:
    """SIGKILL a service, as the pid file names it, and wait until its successor is started, or is ready, so that the next one dies
    later. Seven services take longer to be ready one after the other than the demo does: those that nobody sends to need not be.
    """
    file = folder / "pids" / f"{name}.pid"
    pid = int(file.read_text())
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: file.read_text().strip() not in {"", str(pid)}, 20, f"{name} was not started again")
    if not until_ready:
        return
    url = (folder / "pids" / f"{name}.url").read_text().strip()
    eventually(lambda: ready(url), 60, f"{name} is not ready after it was started again")


def run_demo(folder: Path, victims: Sequence[str]) -> tuple[int, dict[str, Any], str]:
    """Run the demo in `folder`, killing `victims` one after the other while traffic flows: exit code, report, what it said."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("WEIR_") or k == "WEIR_CACHE_DIR"}
    environment.pop("KAFKA_BOOTSTRAP_SERVERS", None)
    environment |= {"WEIR_DEMO_DIR": str(folder), "DEMO_EXIT": "1"}
    said: list[str] = []
    failed: list[BaseException] = []
    with subprocess.Popen(
        [str(WEIR), "demo", "--json", "--lines", str(LINES)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as demo:
        assert demo.stderr is not None
        assert demo.stdout is not None

        def nemesis() -> None:
            try:
                for name in victims:
                    kill(folder, name, until_ready=name.startswith("receive-"))
            except BaseException as error:
                failed.append(error)

        killer = threading.Thread(target=nemesis)
        for line in demo.stderr:
            said.append(line)
            if "services of Weir" in line:
                killer.start()
        output = demo.stdout.read()
        code = demo.wait(60)
    killer.join(60)
    assert not failed, failed
    text = "".join(said)
    assert output, f"no report; it said:\n{text}"
    return code, json.loads(output), text


@pytest.fixture(scope="module")
def fetched() -> None:
    fetch_kafka(lambda _: None)
    fetch_azurite(lambda _: None)


@pytest.fixture
def folder(tmp_path: Path, fetched: None) -> Path:
    return tmp_path / "demo"


def complain(folder: Path, text: str) -> str:
    """What a failure needs to be understood."""
    logs = "".join(
        f"\n--- {log.name}\n{log.read_text(errors='replace')[-1500:]}" for log in sorted((folder / "logs").glob("*.log"))
    )
    return text + logs


def test_every_service_behind_the_receivers_may_die_and_nothing_is_lost(folder: Path) -> None:
    code, report, text = run_demo(folder, BEHIND_THE_RECEIVERS)
    assert code == 0, complain(folder, text)
    assert report["lost"] == 0
    assert set(report["restarts"]) == set(BEHIND_THE_RECEIVERS)
    assert report["problems"] == []
    for name, source in report["sources"].items():
        assert source["units_received"] == source["units_sent"], name
        assert source["units_received"] == source["units_empty"] + source["units_dead"] + source["units_with_events"], name
        # One that is malformed in each; and one sender of the attack mix sends nothing that could be read.
        assert source["units_dead"] == (1 + DEAD_UNITS if name == "syslog" else 1), name
    # That each attack raised its alerts once, about whom it should, and the background none, is among the report's problems.
    assert report["attacks"] == len(AttackUnits(pipeline=True).attacks) + 1
    assert report["alerts"] == len(AttackUnits(pipeline=True).expected()) + 1
    assert report["destinations"]["siem"]["alerts"] == report["alerts"]
    assert report["wan"]["ratio"] > 20
    assert sum(report["destinations"]["adx"].values()) == sum(report["destinations"]["sentinel"].values())


def test_a_receiver_may_die_and_nothing_it_had_acknowledged_is_missing(folder: Path) -> None:
    victims = ("receive-beats", "receive-syslog", "receive-netflow")
    code, report, text = run_demo(folder, victims)
    assert report["lost"] == 0, complain(folder, text)
    assert set(report["restarts"]) == set(victims)
    assert code == 0, complain(folder, text)
    shutil.rmtree(folder)
