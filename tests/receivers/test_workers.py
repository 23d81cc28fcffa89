"""Several workers behind one port: both get traffic, the dead are replaced, one answer for all."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.ops.tls_peers import authority, put_server
from tests.receivers.harness import free_port, make_topics, reading
from tests.receivers.test_service import get
from tests.support import eventually
from weir.local.generate.kinds import KINDS
from weir.local.generate.load import Load, run_load
from weir.local.generate.verify import Oracle, expected_of, read_topics
from weir.model.topics import TopicNames
from weir.ops.settings import ServiceSettings
from weir.receivers.workers import merge_metrics

_ROOT = Path(__file__).resolve().parents[2]


class Parent:
    """`weir receive syslog`, or another receiver, with two workers."""

    def __init__(self, log: Path, kind: str = "syslog", **variables: str) -> None:
        self.tcp, self.udp, self.health = free_port(), free_port(socket.SOCK_DGRAM), free_port()
        self._log = log
        clean = {name: value for name, value in os.environ.items() if not name.startswith("WEIR_")}
        given = {
            "RECEIVER_PROCESSES": "2",
            **self._ports(kind),
            "HEALTH_PORT": str(self.health),
            "INSTANCE": "test",
            **variables,
        }
        with log.open("wb") as file:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "weir.cli", "receive", kind],
                env={**clean, "PYTHONPATH": str(_ROOT / "services"), **{f"WEIR_{k}": v for k, v in given.items()}},
                stderr=file,
            )

    def _ports(self, kind: str) -> dict[str, str]:
        udp, tcp = str(self.udp), str(self.tcp)
        return {
            "syslog": {"SYSLOG_HOST": "127.0.0.1", "SYSLOG_UDP_PORT": udp, "SYSLOG_TCP_PORT": tcp},
            "beats": {"BEATS_HOST": "127.0.0.1", "BEATS_PORT": tcp, "HTTP_HOST": "127.0.0.1", "HTTP_PORT": str(free_port())},
            "netflow": {
                "NETFLOW_HOST": "127.0.0.1",
                "NETFLOW_PORT": udp,
                "IPFIX_TCP_PORT": tcp,
                "IPFIX_PORT": "-1",
                "SFLOW_PORT": "-1",
            },
        }[kind]

    @property
    def log(self) -> str:
        """What it and its workers have written so far."""
        return self._log.read_text()

    def children(self) -> list[psutil.Process]:
        """The workers' processes."""
        return psutil.Process(self.process.pid).children()

    def ready(self) -> None:
        """Wait until it is."""
        eventually(lambda: get(self.health, "/readyz") == (200, "ready\n"), timeout=60)

    def units(self) -> dict[tuple[str, str], float]:
        """Units published, by worker and transport."""
        found = {}
        for line in get(self.health, "/metrics")[1].splitlines():
            if line.startswith("weir_receiver_units_total{"):
                labels = dict(re.findall(r'(\w+)="([^"]*)"', line))
                found[labels["worker"], labels["transport"]] = float(line.rpartition(" ")[2])
        return found

    def connections(self) -> float:
        """Connections open, of all workers."""
        lines = get(self.health, "/metrics")[1].splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith("weir_receiver_connections{"))

    def datagrams(self, number: int, mark: str) -> list[bytes]:
        """A datagram from each of so many ports; what was sent."""
        sent = [f"<13>udp {mark} {n}".encode() for n in range(number)]
        for datagram in sent:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                sock.sendto(datagram, ("127.0.0.1", self.udp))
        return sent

    def lines(self, number: int, mark: str) -> list[bytes]:
        """A line over each of so many connections, which are closed again; what was sent."""
        sent = [f"<13>tcp {mark} {n}".encode() for n in range(number)]
        for line in sent:
            with socket.create_connection(("127.0.0.1", self.tcp), timeout=10) as sock:
                sock.sendall(line + b"\n")
        return sent


@contextlib.contextmanager
def parent(log: Path, kind: str = "syslog", **variables: str) -> Iterator[Parent]:
    """Killed in the end with all its workers, if it has not ended before."""
    started = Parent(log, kind, **variables)
    try:
        yield started
    finally:
        with contextlib.suppress(psutil.NoSuchProcess):
            for child in started.children():
                with contextlib.suppress(psutil.NoSuchProcess):
                    child.kill()
        started.process.kill()
        started.process.wait(10)


@pytest.mark.kafka
def test_two_workers_share_the_ports_and_a_dead_one_is_replaced(kafka: str, topic_prefix: str, tmp_path: Path) -> None:
    names = make_topics(kafka, topic_prefix, "raw.syslog")
    with parent(tmp_path / "log", KAFKA_BOOTSTRAP_SERVERS=kafka, TOPIC_PREFIX=topic_prefix) as started:
        started.ready()
        sent = started.lines(40, "first") + started.datagrams(40, "first")
        eventually(lambda: sum(started.units().values()) == 80, timeout=30)
        assert set(started.units()) == {(worker, transport) for worker in "12" for transport in ("tcp", "udp")}
        text = get(started.health, "/metrics")[1]
        assert text.count("# TYPE process_resident_memory_bytes ") == 1
        assert len(re.findall(r'^weir_receiver_worker_up\{.*worker="[12]".*\} 1\.0$', text, re.MULTILINE)) == 2

        victim, other = started.children()
        victim.kill()
        eventually(lambda: get(started.health, "/readyz")[0] == 503)
        assert re.search(r"worker [12]: (is not running|does not answer)", get(started.health, "/readyz")[1])
        assert get(started.health, "/healthz") == (200, "ok\n")
        started.ready()
        assert other in started.children()
        assert "a worker has ended; it is started again" in started.log
        assert "SIGKILL" in started.log

        # The last words on connections that have been accepted, and datagrams, right before the end.
        with contextlib.ExitStack() as stack:
            open_ones = [stack.enter_context(socket.create_connection(("127.0.0.1", started.tcp), timeout=10)) for _ in range(40)]
            eventually(lambda: started.connections() == 40, timeout=30)
            for n, sock in enumerate(open_ones):
                sock.sendall(line := f"<13>tcp last {n}\n".encode())
                sent.append(line[:-1])
            sent += started.datagrams(40, "last")
            started.process.send_signal(signal.SIGTERM)
            assert started.process.wait(60) == 0, started.log
    with reading(kafka, names["raw.syslog"]) as raw:
        with contextlib.suppress(AssertionError):
            eventually(lambda: len(raw.units()) >= len(sent), timeout=20)
        assert set(sent) - set(raw.units()) == set()
        assert sorted(raw.units()) == sorted(sent)
        assert {batch.receiver for batch in raw.batches()} == {"test-1", "test-2"}


@pytest.mark.kafka
@pytest.mark.parametrize(
    ("kind", "load"), [("beats", ("beats", "lumberjack")), ("netflow", ("netflow", "udp")), ("netflow", ("ipfix", "tcp"))]
)
def test_workers_of_every_receiver_share_their_ports(
    kafka: str, topic_prefix: str, tmp_path: Path, kind: str, load: tuple[str, str]
) -> None:
    make_topics(kafka, topic_prefix, f"raw.{kind}", "state.netflow-templates")
    with parent(tmp_path / "log", kind, KAFKA_BOOTSTRAP_SERVERS=kafka, TOPIC_PREFIX=topic_prefix) as receiver:
        receiver.ready()
        name, transport = load
        port = receiver.udp if transport == "udp" else receiver.tcp
        sent = run_load(
            Load(
                name, "127.0.0.1", port, transport, KINDS[name].formats[0], sources=24, rate=4_000, count=4_800, run=7, patience=10
            )
        )
        assert not sent.failures
        eventually(lambda: len(receiver.units()) >= 2, timeout=30)
        oracle = Oracle(7, expected_of(sent.record()))
        raw = [TopicNames(topic_prefix)[KINDS[name].raw_topic]]
        settings = ServiceSettings(kafka_bootstrap_servers=kafka, topic_prefix=topic_prefix)
        read_topics(settings, raw, sent.started_at - 60_000_000, oracle, 7, flows=kind == "netflow")
        verdict = oracle.verdict()
        assert verdict.ok, verdict.record()
        assert verdict.total("found") == 4_800


@pytest.mark.kafka
def test_workers_stop_when_their_parent_is_gone(kafka: str, topic_prefix: str, tmp_path: Path) -> None:
    make_topics(kafka, topic_prefix, "raw.syslog")
    with parent(tmp_path / "log", KAFKA_BOOTSTRAP_SERVERS=kafka, TOPIC_PREFIX=topic_prefix) as started:
        started.ready()
        children = started.children()
        assert len(children) == 2
        started.process.kill()
        gone, alive = psutil.wait_procs(children, timeout=30)
        assert not alive
        assert started.log.count("stopped") >= 2, "gracefully"
        assert len(gone) == 2


@pytest.mark.kafka
def test_a_hangup_reaches_every_worker(kafka: str, topic_prefix: str, tmp_path: Path) -> None:
    make_topics(kafka, topic_prefix, "raw.syslog")
    ca = authority()
    file = put_server(tmp_path, ca, "first.example")
    with parent(
        tmp_path / "log",
        KAFKA_BOOTSTRAP_SERVERS=kafka,
        TOPIC_PREFIX=topic_prefix,
        SYSLOG_TLS_PORT=str(free_port()),
        TLS_CERTIFICATE_FILE=str(file),
        TLS_RELOAD_SECONDS="3600",
    ) as started:
        started.ready()
        put_server(tmp_path, ca, "second.example")
        started.process.send_signal(signal.SIGHUP)

        def reloads() -> list[str]:
            lines = get(started.health, "/metrics")[1].splitlines()
            return [line.rpartition(" ")[2] for line in lines if line.startswith("weir_tls_reloads_total{")]

        eventually(lambda: reloads() == ["1.0", "1.0"])
        assert get(started.health, "/readyz") == (200, "ready\n")


@pytest.mark.kafka
def test_a_port_that_cannot_be_had_ends_them_all(kafka: str, topic_prefix: str, tmp_path: Path) -> None:
    make_topics(kafka, topic_prefix, "raw.syslog")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        with parent(tmp_path / "log", KAFKA_BOOTSTRAP_SERVERS=kafka, TOPIC_PREFIX=topic_prefix, SYSLOG_TCP_PORT=port) as started:
            assert started.process.wait(60) == 1
            assert f"cannot listen on TCP 127.0.0.1 port {port}" in started.log
            assert "a worker cannot start; stopping" in started.log


def test_wrong_settings_end_the_parent_before_it_starts_any(tmp_path: Path) -> None:
    with parent(tmp_path / "log", KAFKA_BOOTSTRAP_SERVERS="127.0.0.1:1", TLS_KEY_FILE=str(tmp_path / "log")) as started:
        assert started.process.wait(60) == 2
        assert "WEIR_TLS_CERTIFICATE_FILE is not" in started.log
        assert "starting workers" not in started.log


# Metrics


def test_families_are_told_once_and_samples_by_worker() -> None:
    one = '# HELP a_total Help of a\n# TYPE a_total counter\na_total{x="1 {}"} 1.0\n# HELP b B\n# TYPE b gauge\nb 2.0\n'
    two = '# HELP a_total Help of a\n# TYPE a_total counter\na_total{x="2"} 3.0\n# HELP c C\n# TYPE c gauge\nc 5.0\n'
    assert merge_metrics([(None, "# TYPE b gauge\nb 0.0\n"), ("1", one), ("2", two)]).splitlines() == [
        "# TYPE b gauge",
        "# HELP b B",
        "b 0.0",
        'b{worker="1"} 2.0',
        "# HELP a_total Help of a",
        "# TYPE a_total counter",
        'a_total{worker="1",x="1 {}"} 1.0',
        'a_total{worker="2",x="2"} 3.0',
        "# HELP c C",
        "# TYPE c gauge",
        'c{worker="2"} 5.0',
    ]


def test_what_is_merged_is_still_prometheus_text() -> None:
    from prometheus_client.parser import text_string_to_metric_families

    from weir.ops.telemetry import own_metrics

    mine = own_metrics()
    families = {f.name: f for f in text_string_to_metric_families(merge_metrics([("1", mine), ("2", mine)]))}
    assert {s.labels["worker"] for s in families["process_cpu_seconds"].samples} == {"1", "2"}
    assert len(families) == len(list(text_string_to_metric_families(mine)))
