"""`weir doctor` against every service of Weir on this machine: well, and with one thing after the other out of order."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from weir.local.demo.stack import SERVICES, Stack, environment, running_stack

pytestmark = [pytest.mark.kafka, pytest.mark.e2e]


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    before = dict(os.environ)
    os.environ.pop("KAFKA_BOOTSTRAP_SERVERS", None)
    try:
        with running_stack(tmp_path_factory.mktemp("doctor"), lambda _: None, lambda _: None) as running:
            yield running
    finally:
        os.environ.clear()
        os.environ.update(before)


def doctor(stack: Stack, *arguments: str, **changes: str) -> tuple[int, list[dict[str, Any]]]:
    settings: dict[str, str] = {}
    for name in SERVICES:
        settings |= environment(stack, name)
    own = {name: value for name, value in os.environ.items() if not name.startswith(("WEIR_", "KAFKA_"))}
    done = subprocess.run(
        [sys.executable, "-m", "weir.cli", "doctor", "--json", "--seconds", "60", *arguments],
        env=own | settings | changes,
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    assert done.returncode in {0, 1}, done.stderr
    return done.returncode, json.loads(done.stdout)


def of(findings: list[dict[str, Any]], area: str) -> dict[str, dict[str, Any]]:
    return {finding["name"]: finding for finding in findings if finding["area"] == area}


def test_all_is_well_and_marked_events_reach_every_sink(stack: Stack) -> None:
    code, findings = doctor(stack, "--alert")
    failures = [finding for finding in findings if finding["status"] == "failed"]
    assert not failures
    assert code == 0
    marked = of(findings, "marked event")
    assert {name.rpartition(" ")[0] for name in marked} >= {"syslog udp", "syslog tcp", "beats", "netflow", "test"}
    for name, finding in marked.items():
        assert finding["status"] == "ok", finding
        sinks = {"sink.siem", "sink.sentinel", "sink.adx"} if name == "test alert" else {"sink.sentinel", "sink.adx"}
        assert all(f"{sink} delivered it" in finding["text"] for sink in sinks), finding


def test_a_processor_that_does_not_run_is_told_by_the_marked_events_of_its_topic_alone(stack: Stack) -> None:
    stack.supervisor.stop(["process-netflow"])
    try:
        code, findings = doctor(stack, "--seconds", "8")
    finally:
        stack.supervisor.start_service("process-netflow", SERVICES["process-netflow"], environment(stack, "process-netflow"))
    assert code == 1
    marked = of(findings, "marked event")
    told = {name.split(" ")[0]: finding for name, finding in marked.items() if "→" not in name}
    assert told["netflow"]["status"] == "failed"
    assert "no event within" in told["netflow"]["text"]
    assert "weir process" in told["netflow"]["cure"]
    assert told["beats"]["status"] == "ok"


def test_each_failure_names_the_thing_and_its_cure(stack: Stack, tmp_path: Path) -> None:
    code, findings = doctor(
        stack,
        "--no-send",
        WEIR_SIEM_PORT="1",
        WEIR_SENTINEL_TOKEN_FILE=str(tmp_path),
        WEIR_SYSLOG_UDP_PROT="5514",
    )
    assert code == 1
    failures = [finding for finding in findings if finding["status"] == "failed"]
    told = " ".join(finding["text"] for finding in failures)
    assert "WEIR_SYSLOG_UDP_PROT is not a setting; did you mean WEIR_SYSLOG_UDP_PORT?" in told
    assert "WEIR_SENTINEL_TOKEN_FILE" in told
    assert all(finding["cure"] for finding in failures)


def test_a_broker_that_is_away_is_told_before_all_else(stack: Stack) -> None:
    code, findings = doctor(stack, WEIR_KAFKA_BOOTSTRAP_SERVERS="127.0.0.1:1")
    assert code == 1
    broker = of(findings, "kafka")["broker 127.0.0.1:1"]
    assert broker["status"] == "failed"
    assert "start the broker" in broker["cure"]
    assert of(findings, "marked event")["all"]["status"] == "skipped"
