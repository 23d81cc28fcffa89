"""Whole sinks as processes, from Kafka to the stand-ins, killed and broken on the way."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support import eventually
from weir.local.ports import find_free_port
from weir.local.standins.certificates import CertificateFiles
from weir.local.standins.logs_ingestion import LogsIngestionStandIn
from weir.local.standins.siem import SiemStandIn

from .conftest import DCR
from .control import ids, stats, tell
from .kafka_bench import KafkaBench
from .samples import alert, encode

pytestmark = pytest.mark.kafka

SENTINEL = "from weir.ops.settings import load; from weir.sinks.sentinel import *; main(load(SentinelSettings))"
SIEM = "from weir.ops.settings import load; from weir.sinks.siem import *; main(load(SiemSettings))"
TABLE = "CommonSecurityLog"


@pytest.fixture
def launch(bench: KafkaBench, tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Starts a sink as a process; its log is kept beside the test's other files."""
    running: list[subprocess.Popen[bytes]] = []

    def start(code: str, **variables: str) -> subprocess.Popen[bytes]:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("WEIR_")}
        environment |= {
            "WEIR_KAFKA_BOOTSTRAP_SERVERS": bench.bootstrap,
            "WEIR_TOPIC_PREFIX": bench.prefix,
            "WEIR_INSTANCE": "sink-0",
            "WEIR_SINK_COMMIT_SECONDS": "0.3",
            "WEIR_SINK_LINGER_SECONDS": "0.1",
            "WEIR_SINK_BACKOFF_MAX_SECONDS": "0.5",
            **variables,
        }
        with (tmp_path / "sink.log").open("ab") as log:
            process = subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=log, stderr=log)
        running.append(process)
        return process

    yield start
    for process in running:
        process.kill()
        process.wait(10)


@pytest.fixture
def sentinel(logs_ingestion: LogsIngestionStandIn, certificates: CertificateFiles, token_file: Path) -> dict[str, str]:
    return {
        "WEIR_SENTINEL_ENDPOINT": logs_ingestion.url,
        "WEIR_SENTINEL_DCR_IMMUTABLE_ID": DCR,
        "WEIR_SENTINEL_TOPICS": "events.cef",
        "WEIR_SENTINEL_AUTH": "static-token-file",
        "WEIR_SENTINEL_TOKEN_FILE": str(token_file),
        "WEIR_SENTINEL_CA_FILE": str(certificates.ca),
    }


def test_a_sentinel_sink_killed_twice_delivers_every_event(
    bench: KafkaBench,
    launch: Callable[..., subprocess.Popen[bytes]],
    logs_ingestion: LogsIngestionStandIn,
    sentinel: dict[str, str],
) -> None:
    given = bench.fill(30_000, message="m" * 300)
    # Slow enough to be caught in the middle; a refusal, a throttle, a lost connection and a lost answer on the way.
    script = [{"delay": 0.2, "times": 12}, {"status": 503}, {"status": 429, "headers": {"Retry-After": "1"}}]
    tell(logs_ingestion, script=[*script, {"drop": True}, {"store_then_drop": True}, {"delay": 0.2, "times": 200}])
    for part in (3_000, 12_000):
        process = launch(SENTINEL, **sentinel)
        eventually(lambda part=part: stats(logs_ingestion)["tables"][TABLE]["distinct"] >= part, timeout=60)
        process.send_signal(signal.SIGKILL)
        process.wait(10)
    assert stats(logs_ingestion)["tables"][TABLE]["distinct"] < 30_000, "the sink was too fast to be killed in the middle"
    tell(logs_ingestion, reset_script=True)
    process = launch(SENTINEL, **sentinel)
    eventually(lambda: bench.committed("sentinel") == bench.ends("events.cef"), timeout=60)
    process.terminate()
    assert process.wait(30) == 0
    assert ids(logs_ingestion, TABLE) == set(given)
    total = bench.ledger_sum()
    assert (total.events_in, total.delivered, total.dead) == (30_000, 30_000, 0)


def test_a_siem_killed_and_a_forwarder_killed_lose_no_alert(
    bench: KafkaBench, launch: Callable[..., subprocess.Popen[bytes]], siem: SiemStandIn, certificates: CertificateFiles
) -> None:
    variables = {
        "WEIR_SIEM_HOST": "127.0.0.1",
        "WEIR_SIEM_PORT": str(siem.tls_port),
        "WEIR_SIEM_CA_FILE": str(certificates.ca),
        "WEIR_SIEM_RESEND_SECONDS": "60",
    }
    number = 0

    def more(count: int) -> set[str]:
        nonlocal number
        bench.put("alerts", [encode("alert", alert(n)) for n in range(number, number + count)])
        number += count
        return {f"{n:032x}" for n in range(number)}

    process = launch(SIEM, **variables)
    wanted = more(50)
    eventually(lambda: ids(siem) == wanted, timeout=30)
    tell(siem, reset_after=20_000)
    wanted = more(100)
    eventually(lambda: ids(siem) == wanted, timeout=30)
    tell(siem, refuse=True)
    wanted = more(50)
    process.send_signal(signal.SIGKILL)
    process.wait(10)
    tell(siem, refuse=False)
    launch(SIEM, **{**variables, "WEIR_SIEM_PORT": str(siem.tls_port)})
    eventually(lambda: ids(siem) == wanted, timeout=30)
    eventually(lambda: bench.committed("siem", "alerts") == bench.ends("alerts"))
    assert bench.ledger_sum().delivered == len(wanted)


def test_health_and_metrics_are_served(
    bench: KafkaBench, launch: Callable[..., subprocess.Popen[bytes]], siem: SiemStandIn
) -> None:
    port = find_free_port()
    launch(
        SIEM,
        WEIR_SIEM_HOST="127.0.0.1",
        WEIR_SIEM_PORT=str(siem.tcp_port),
        WEIR_SIEM_TRANSPORT="tcp",
        WEIR_SIEM_SITE="hq",
        WEIR_SITE="plant",
        WEIR_HEALTH_PORT=str(port),
    )
    bench.put("alerts", [encode("alert", alert(1))])
    eventually(lambda: ids(siem), timeout=30)

    def get(path: str) -> str:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
                return str(answer.read().decode())
        except urllib.error.URLError:
            return ""

    assert get("/readyz") == "ready\n"
    metrics = eventually(lambda: text if "weir_sink_delivered" in (text := get("/metrics")) else "")
    sent = stats(siem)["bytes_in"]
    line = next(line for line in metrics.splitlines() if line.startswith("weir_wan_bytes") and 'to="hq"' in line)
    assert 'from="plant"' in line
    assert float(line.rsplit(" ", 1)[1]) == sent
