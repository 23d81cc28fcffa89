"""Whole paths: real processes between real Kafka topics, and between a socket and Kafka topics."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from bench.inputs import EXPORTER, LOADS, Load
from bench.services import Broker, Cluster, Service, wait_for
from weir.local.generate.senders import Pace, send_beats, send_datagrams, send_syslog_tcp
from weir.local.generate.syslog import SOURCES
from weir.local.generate.units import Sent, Unit
from weir.local.ports import LOOPBACK, find_free_port

__all__ = ["PATHS", "Result", "measure"]

_COUNTED: Final = next(source for source in SOURCES if source.transport == "counted")


@dataclass(frozen=True, slots=True)
class Result:
    """One path's figures. `missing` are events that must have come and did not, `surplus` those that must not have come."""

    name: str
    events: int
    cpu_seconds: float
    wall_seconds: float
    missing: int
    surplus: int
    dead: int
    repeated: int
    resident_mb: float
    dead_reason: str = ""
    cpu_by_service: dict[str, float] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Everything came, and nothing else."""
        return not (self.missing or self.surplus or self.dead) and self.cpu_seconds > 0

    @property
    def rate(self) -> float | None:
        """Events per CPU-second; None where something is missing, because a rate means nothing then."""
        return self.events / self.cpu_seconds if self.ok else None

    def record(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self) | {"ok": self.ok, "events_per_cpu_second": None if self.rate is None else round(self.rate)}


@dataclass(frozen=True, slots=True)
class Path:
    """A load, and whether it comes over the network; `rules` False runs without any rule."""

    load: str
    what: str
    received: bool = False
    rules: bool = True


PATHS: Final = {
    "file-audit": Path("file-audit", "processor: RFC 5424 + Qumulo audit → events.file-audit"),
    "file-audit-no-rules": Path("file-audit", "the same without rules", rules=False),
    "cef": Path("cef", "processor: Kemp and other vendors' CEF → events.cef"),
    "netflow-v9": Path("netflow-v9", "processor: v9, 19 fields, 24 flows a datagram → events.network-flow"),
    "netflow-v5": Path("netflow-v5", "processor: v5, 30 flows a datagram → events.network-flow"),
    "suricata": Path("suricata", "processor: Suricata EVE in Beats documents → events.*"),
    "syslog-tcp": Path("file-audit", "receiver + processor: Qumulo audit over TCP → events.file-audit", received=True),
    "cef-tcp": Path("cef", "receiver + processor: CEF over TCP → events.cef", received=True),
    "netflow-udp": Path("netflow-v9", "receiver + processor: NetFlow v9 over UDP → events.network-flow", received=True),
    "beats-tcp": Path("suricata", "receiver + processor: Suricata over Lumberjack → events.*", received=True),
}
"""Every path by the name that `--only` takes."""


def measure(broker: Broker, name: str, events: int) -> Result:
    """Run one path with so many events.

    Raises:
        BenchError: a process died or Kafka did not answer.
    """
    path = PATHS[name]
    load = LOADS[path.load](events)
    cluster = Cluster(broker, name)
    services: list[Service] = []
    try:
        extra = {}
        if not path.rules:
            nothing = broker.path / "no-rules"
            nothing.mkdir(exist_ok=True)
            extra["WEIR_RULES_DIR"] = str(nothing)
        services.append(cluster.start(("process", load.kind), **extra))
        send = _over_network(cluster, load, services) if path.received else _over_kafka(cluster, load)
        return _run(name, cluster, load, services, send)
    finally:
        for service in services:
            service.stop()
        cluster.close()


def _run(name: str, cluster: Cluster, load: Load, services: list[Service], send: Callable[[list[Unit]], None]) -> Result:
    """A first batch warms everything up and shows that all is ready; what the others cost is measured."""
    raw, group = f"raw.{load.kind}", f"process.{load.kind}"

    def check() -> None:
        for service in services:
            service.check()

    def finished(units: list[Unit]) -> None:
        wait_for(cluster.events, load.expected_of(units).total(), check)
        wait_for(lambda: cluster.committed(group, raw), cluster.end(raw), check)

    warm = load.batch_units * 2
    send(load.units[:warm])
    finished(load.units[:warm])
    before = {service.name: service.cpu_seconds() for service in services}
    begun = time.monotonic()
    send(load.units[warm:])
    finished(load.units)
    wall = time.monotonic() - begun
    cpu = {service.name: service.cpu_seconds() - before[service.name] for service in services}
    resident = max(service.resident_mb() for service in services)
    found, records = cluster.distinct_events(), cluster.events()
    return Result(
        name=name,
        events=load.expected_of(load.units[warm:]).total(),
        cpu_seconds=sum(cpu.values()),
        wall_seconds=wall,
        missing=(load.expected - found).total(),
        surplus=(found - load.expected).total(),
        dead=cluster.end(f"{raw}.dlq"),
        repeated=records - Counter(found).total(),
        resident_mb=resident,
        dead_reason=cluster.dead_reason(raw),
        cpu_by_service=cpu,
    )


def _over_kafka(cluster: Cluster, load: Load) -> Callable[[list[Unit]], None]:
    batches = [batch for batch, _ in load.batches()]

    def send(units: list[Unit]) -> None:
        first = next(index for index, unit in enumerate(load.units) if unit is units[0]) // load.batch_units
        cluster.publish(f"raw.{load.kind}", batches[first : first + -(-len(units) // load.batch_units)])

    return send


def _over_network(cluster: Cluster, load: Load, services: list[Service]) -> Callable[[list[Unit]], None]:
    """Start the receiver; units go to it as quickly as it takes them. UDP waits for the kernel's receive queue to empty."""
    port = find_free_port(udp=load.kind != "beats")
    target = (LOOPBACK, port)
    settings = {
        "syslog": {"WEIR_SYSLOG_HOST": LOOPBACK, "WEIR_SYSLOG_TCP_PORT": str(port), "WEIR_SYSLOG_UDP_PORT": "-1"},
        "beats": {"WEIR_BEATS_HOST": LOOPBACK, "WEIR_BEATS_PORT": str(port), "WEIR_HTTP_PORT": "-1"},
        "netflow": {"WEIR_NETFLOW_HOST": LOOPBACK, "WEIR_NETFLOW_PORT": str(port)},
    }[load.kind]
    receiver = cluster.start(("receive", load.kind), **settings)
    services.append(receiver)
    wait_for(lambda: int(receiver.listens(port)), 1, receiver.check)

    def send(units: list[Unit]) -> None:
        sent, stop, pace = Sent(), threading.Event(), Pace(len(units), 0.0)

        def unit(number: int, _now_us: int) -> Unit:
            return units[number]

        if load.kind == "syslog":
            send_syslog_tcp(target, ((n, _COUNTED) for n in range(len(units))), unit, pace, sent, stop)
        elif load.kind == "netflow":
            numbers = ((n, EXPORTER) for n in range(len(units)))
            send_datagrams(target, numbers, unit, pace, sent, stop, bytes_per_ms=20_000)
        else:
            send_beats(target, range(len(units)), unit, pace, sent, stop, window=500)

    return send
