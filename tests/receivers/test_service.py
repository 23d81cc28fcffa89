"""Receivers as processes."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from cryptography import x509

from tests.ops.tls_peers import authority, client_context, put, put_client, put_server
from tests.receivers.harness import free_port, make_topics, reading
from tests.support import eventually
from weir.tools.certs import certificate_pem

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


def _tls_subject(port: int, context: ssl.SSLContext) -> str:
    """Subject of the certificate that the port shows. Raises ssl.SSLError where it refuses ours."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as plain, context.wrap_socket(plain) as tls:
        shown = x509.load_der_x509_certificate(tls.getpeercert(binary_form=True) or b"")
        tls.sendall(b"<13>hello\n")
        with contextlib.suppress(OSError):
            tls.unwrap()
        return shown.subject.rfc4514_string()


def test_a_running_receiver_takes_new_certificates_and_authorities(kafka: str, topic_prefix: str, tmp_path: Path) -> None:
    """At once on SIGHUP, and by itself after a while; a broken file changes nothing. Who is refused then is refused."""
    names = make_topics(kafka, topic_prefix, "raw.syslog")
    old, new = authority("Old"), authority("New")
    ca_file = put(tmp_path / "clients.pem", certificate_pem(old.certificate))
    file = put_server(tmp_path, old, "first.example")
    # TLS 1.2: the client learns within the handshake that it is refused.
    olds = client_context(put_client(tmp_path, old, "old"), ssl.TLSVersion.TLSv1_2)
    news = client_context(put_client(tmp_path, new, "new"), ssl.TLSVersion.TLSv1_2)
    port, health = free_port(), free_port()
    process = start(
        "syslog",
        "SyslogSettings",
        KAFKA_BOOTSTRAP_SERVERS=kafka,
        TOPIC_PREFIX=topic_prefix,
        SYSLOG_HOST="127.0.0.1",
        SYSLOG_UDP_PORT="-1",
        SYSLOG_TCP_PORT="-1",
        SYSLOG_TLS_PORT=str(port),
        HEALTH_PORT=str(health),
        TLS_CERTIFICATE_FILE=str(file),
        TLS_CLIENT_CA_FILE=str(ca_file),
        TLS_CLIENT_CERTIFICATES="required",
        TLS_RELOAD_SECONDS="3600",
    )
    try:
        eventually(lambda: get(health, "/readyz") == (200, "ready\n"), timeout=30)
        assert _tls_subject(port, olds) == "CN=first.example"
        with (
            socket.create_connection(("127.0.0.1", port), timeout=10) as plain,
            olds.wrap_socket(plain) as living,
        ):
            with pytest.raises(ssl.SSLError):
                _tls_subject(port, news)
            put(ca_file, certificate_pem(new.certificate))
            put_server(tmp_path, new, "second.example")
            process.send_signal(signal.SIGHUP)
            eventually(lambda: _metric(health, "weir_tls_reloads_total") == 1)
            assert _tls_subject(port, news) == "CN=second.example"
            with pytest.raises(ssl.SSLError):
                _tls_subject(port, olds)
            put(file, b"nothing")
            process.send_signal(signal.SIGHUP)
            eventually(lambda: _metric(health, "weir_tls_reload_failures_total") == 1)
            assert _tls_subject(port, news) == "CN=second.example"
            living.sendall(b"<13>still here\n")
            eventually(lambda: _metric(health, "weir_receiver_units_total") == 4)
        expiry = _metric(health, "weir_tls_certificate_expiry_seconds")
        assert expiry is not None
        assert expiry > time.time()
    finally:
        process.terminate()
        _, log = process.communicate(timeout=30)
    assert process.returncode == 0, log.decode()
    assert b"those before stay" in log
    with reading(kafka, names["raw.syslog"]) as raw:
        eventually(lambda: sorted(raw.units()) == [b"<13>hello"] * 3 + [b"<13>still here"])
        subjects = {batch.tls_subject for batch in raw.batches()}
        assert subjects == {"CN=old", "CN=new"}


def _metric(port: int, name: str) -> float | None:
    """The first sample of that name."""
    lines = get(port, "/metrics")[1].splitlines()
    return next((float(line.rpartition(" ")[2]) for line in lines if line.partition("{")[0] == name), None)


def test_a_hangup_without_tls_ends_nobody(kafka: str, topic_prefix: str) -> None:
    make_topics(kafka, topic_prefix, "raw.syslog")
    health = free_port()
    process = start(
        "syslog",
        "SyslogSettings",
        KAFKA_BOOTSTRAP_SERVERS=kafka,
        TOPIC_PREFIX=topic_prefix,
        SYSLOG_HOST="127.0.0.1",
        SYSLOG_UDP_PORT="0",
        SYSLOG_TCP_PORT="-1",
        HEALTH_PORT=str(health),
    )
    try:
        eventually(lambda: get(health, "/readyz") == (200, "ready\n"), timeout=30)
        process.send_signal(signal.SIGHUP)
        eventually(lambda: (_metric(health, "weir_event_loop_lag_seconds") or 0.0) >= 0.0)
        assert get(health, "/healthz") == (200, "ok\n")
    finally:
        process.terminate()
        _, log = process.communicate(timeout=30)
    assert process.returncode == 0
    assert b"no port speaks TLS" in log
