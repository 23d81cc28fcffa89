"""Receivers as processes."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from tests.receivers.harness import free_port, make_topics, reading
from tests.support import eventually

pytestmark = pytest.mark.kafka

_ROOT = Path(__file__).resolve().parents[2]


def start(module: str, cls: str, **variables: str) -> subprocess.Popen[bytes]:
    code = f"from weir.ops.settings import load; from weir.receivers.{module} import {cls}, main; main(load({cls}))"
    clean = {name: value for name, value in os.environ.items() if not name.startswith("WEIR_")}
    environment = {**clean, "PYTHONPATH": str(_ROOT / "services"), **{f"WEIR_{k}": v for k, v in variables.items()}}
    return subprocess.Popen([sys.executable, "-c", code], env=environment, stderr=subprocess.PIPE)


def get(port: int, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except OSError as error:
        return 0, str(error)


def test_a_receiver_process_gets_ready_counts_and_stops_on_sigterm(kafka: str, topic_prefix: str) -> None:
    names = make_topics(kafka, topic_prefix, "raw.syslog")
    tcp, health = free_port(), free_port()
    process = start(
        "syslog",
        "SyslogSettings",
        KAFKA_BOOTSTRAP_SERVERS=kafka,
        TOPIC_PREFIX=topic_prefix,
        SYSLOG_HOST="127.0.0.1",
        SYSLOG_UDP_PORT="0",
        SYSLOG_TCP_PORT=str(tcp),
        HEALTH_PORT=str(health),
    )
    try:
        eventually(lambda: get(health, "/readyz") == (200, "ready\n"), timeout=30)
        with socket.create_connection(("127.0.0.1", tcp), timeout=10) as sock:
            sock.sendall(b"<13>hello\n")
            eventually(lambda: 'weir_receiver_units_total{transport="tcp"} 1.0' in _without_scope(get(health, "/metrics")[1]))
            sock.sendall(b"<13>last words\n")
            process.send_signal(signal.SIGTERM)
            _, log = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == 0, log.decode()
    with reading(kafka, names["raw.syslog"]) as raw:
        eventually(lambda: raw.units() == [b"<13>hello", b"<13>last words"])


def _without_scope(text: str) -> str:
    """Prometheus lines with the labels of the instrumentation scope taken out."""
    lines = []
    for line in text.splitlines():
        name, brace, rest = line.partition("{")
        labels, _, value = rest.partition("} ")
        kept = ",".join(label for label in labels.split(",") if not label.startswith("otel_scope"))
        lines.append(f"{name}{{{kept}}} {value}" if brace else line)
    return "\n".join(lines)


def test_without_its_topic_a_receiver_says_that_it_is_not_ready(kafka: str, topic_prefix: str) -> None:
    health = free_port()
    process = start(
        "beats",
        "BeatsSettings",
        KAFKA_BOOTSTRAP_SERVERS=kafka,
        TOPIC_PREFIX=topic_prefix,
        BEATS_HOST="127.0.0.1",
        BEATS_PORT="0",
        HTTP_PORT="-1",
        HEALTH_PORT=str(health),
    )
    try:
        status, reason = eventually(lambda: (a := get(health, "/readyz"))[0] == 503 and "topics apply" in a[1] and a, timeout=30)
        assert status == 503
        assert f"{topic_prefix}.raw.beats.v1" in reason
        assert get(health, "/healthz") == (200, "ok\n")
    finally:
        process.terminate()
        process.communicate(timeout=30)
    assert process.returncode == 0


def test_a_port_in_use_ends_the_process_with_the_reason(kafka: str, topic_prefix: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        process = start(
            "beats",
            "BeatsSettings",
            KAFKA_BOOTSTRAP_SERVERS=kafka,
            TOPIC_PREFIX=topic_prefix,
            BEATS_HOST="127.0.0.1",
            BEATS_PORT=str(port),
            HTTP_PORT="-1",
        )
        _, log = process.communicate(timeout=60)
    assert process.returncode == 1
    assert str(port) in log.decode()
