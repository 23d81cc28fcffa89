"""The receivers' trial: mixed load while Kafka goes away three times and receivers are killed twice, then an account of it all.

Every sender stamps its events with source and number (`weir.local.generate`), so that afterwards the raw topics say of each number
whether it is there. What an acknowledging protocol has acknowledged must be; of the others it is counted what is missing, and what
the receivers say they dropped.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from weir.bus import topics
from weir.bus.codec import Decoder
from weir.bus.config import client_config
from weir.bus.offsets import watermarks
from weir.local.demo.supervisor import Supervisor
from weir.local.errors import LocalError
from weir.local.generate.kinds import KINDS
from weir.local.generate.verify import Oracle, Verdict, expected_of, read_topics
from weir.local.kafka import Kafka
from weir.local.ports import find_free_port
from weir.local.standins.certificates import ensure_certificates
from weir.local.trials.environment import own_settings
from weir.model.ledger import LedgerEntry
from weir.model.topics import TopicNames
from weir.ops.settings import ServiceSettings, load

__all__ = ["Account", "Plan", "Step", "run_outage", "schedule"]

_RECEIVERS = {
    "receive-syslog": ("receive", "syslog"),
    "receive-beats": ("receive", "beats"),
    "receive-netflow": ("receive", "netflow"),
}
_DRAIN_SECONDS = 180.0
_SHORT_SECONDS = 120.0
_SILENCE_SECONDS = 30.0
_LOST_PER_KILL_SECONDS = 12.0
"""What a killed receiver may take with it over a protocol without acknowledgement: what was in memory, five seconds of it where
Kafka has just gone and the spool has not begun; its kernel buffers; and its absence (flows wait three seconds for templates)."""

_BROKERS = "WEIR_KAFKA_BOOTSTRAP_SERVERS"

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Plan:
    """How long, how hard, and from which seed; `rate` is events per second of all senders together."""

    seconds: float = 600.0
    seed: int = 1
    rate: float = 2_500.0


class Step(NamedTuple):
    """At `at` seconds after the start: "stop kafka", "start kafka", or "kill" of a receiver."""

    at: float
    action: str
    name: str = ""


class _Sender(NamedTuple):
    kind: str
    transport: str
    share: float
    sources: int
    receiver: str
    port: str
    options: tuple[str, ...] = ()


_SENDERS = (
    _Sender("syslog", "udp", 0.2, 5, "receive-syslog", "syslog_udp_port"),
    _Sender("cef", "tcp", 0.15, 4, "receive-syslog", "syslog_tcp_port", ("--framing", "lines")),
    _Sender("qumulo", "tls", 0.15, 3, "receive-syslog", "syslog_tls_port"),
    _Sender("beats", "lumberjack", 0.15, 4, "receive-beats", "beats_port"),
    _Sender("suricata", "https", 0.1, 2, "receive-beats", "http_port"),
    _Sender("netflow", "udp", 0.15, 3, "receive-netflow", "netflow_port"),
    _Sender("ipfix", "tcp", 0.05, 2, "receive-netflow", "ipfix_tcp_port"),
    _Sender("sflow", "udp", 0.05, 2, "receive-netflow", "sflow_port"),
)


@dataclass(slots=True)
class Account:
    """What came of one sender; `in_doubt` were under way when a connection broke, or never acknowledged."""

    sender: str
    acknowledges: bool
    sent: int
    acknowledged: int
    found: int
    missing: int
    in_doubt: int
    repeated: int
    invented: int
    kills: int
    per_second: float
    ranges: list[tuple[str, list[tuple[int, int]]]] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    @property
    def lost(self) -> int:
        """Events that are nowhere, in doubt or not."""
        return self.missing + (0 if self.acknowledges else self.in_doubt)

    @property
    def ok(self) -> bool:
        """Nothing acknowledged is missing; of the others no more than each kill may take."""
        if self.invented:
            return False
        if self.acknowledges:
            return self.missing == 0
        return self.lost <= self.kills * _LOST_PER_KILL_SECONDS * self.per_second


def schedule(plan: Plan) -> list[Step]:
    """Three outages of Kafka, a twelfth of the time each (45 s at most), and two kills: one of them during an outage.

    Less than two minutes have room for one outage, with one kill in it.
    """
    rng = random.Random(plan.seed)  # noqa: S311 - chaos, not secrets
    short = plan.seconds < _SHORT_SECONDS
    length = plan.seconds / 4 if short else min(plan.seconds / 12, 45.0)
    steps = []
    for at in (0.3,) if short else (0.12, 0.42, 0.72):
        begin = (at + rng.uniform(0, 0.05)) * plan.seconds
        steps += [Step(begin, "stop kafka"), Step(begin + length, "start kafka")]
    victims = rng.sample(sorted(_RECEIVERS), 2)
    outages = [step.at for step in steps if step.action == "stop kafka"]
    steps.append(Step(outages[-1 if short else 1] + length * rng.uniform(0.5, 0.9), "kill", victims[1]))
    if not short:
        steps.append(Step(rng.uniform(0.28, 0.38) * plan.seconds, "kill", victims[0]))
    return sorted(steps)


def run_outage(plan: Plan, folder: Path, say: Say = lambda _: None) -> dict[str, Any]:
    """Run the trial in an empty folder; returns accounts, drops, steps and a verdict, ready for JSON.

    Settings of services that stand in the environment count for nothing meanwhile.

    Raises:
        LocalError: something could not be started, with the way out.
    """
    with own_settings(_BROKERS):
        return _run(plan, folder, say)


def _run(plan: Plan, folder: Path, say: Say) -> dict[str, Any]:
    kafka = Kafka(folder / "kafka", bound=True)
    supervisor = Supervisor(folder)
    senders: list[tuple[_Sender, Path, subprocess.Popen[bytes]]] = []
    kills: dict[str, int] = {}
    try:
        kafka.start()
        os.environ[_BROKERS] = kafka.bootstrap_servers
        settings = load(ServiceSettings)
        topics.apply(settings)
        ports = _start_receivers(folder, kafka.bootstrap_servers, supervisor)
        say(f"Kafka at {kafka.bootstrap_servers}, three receivers; {plan.rate:,.0f} events/s for {plan.seconds:.0f} s")
        begun = time.monotonic()
        senders = [_start_sender(plan, folder, sender, ports, number) for number, sender in enumerate(_SENDERS)]
        for step in schedule(plan):
            _wait_until(begun + step.at)
            if step.action == "stop kafka":
                kafka.stop()
            elif step.action == "start kafka":
                kafka.start()
            else:
                process = supervisor.services[step.name].process
                if process is not None:
                    os.kill(process.pid, signal.SIGKILL)
                kills[step.name] = kills.get(step.name, 0) + 1
            say(f"{time.monotonic() - begun:5.0f} s  {step.action} {step.name}".rstrip())
        _end_senders(senders, begun + plan.seconds + 120.0)
        say(f"{time.monotonic() - begun:5.0f} s  all senders have ended")
        _drain(supervisor, say)
        peaks = {name: _peak_memory(supervisor, name) for name in _RECEIVERS}
        supervisor.stop(timeout=40.0)
        accounts = [_account(settings, sender, path, kills.get(sender.receiver, 0)) for sender, path, _ in senders]
        dropped = _dropped(settings)
    finally:
        for _, _, sender_process in senders:
            sender_process.kill()
        supervisor.stop()
        kafka.stop()
    return {
        "plan": asdict(plan),
        "steps": [step._asdict() for step in schedule(plan)],
        "kills": kills,
        "peak_memory_mib": peaks,
        "dropped": dropped,
        "senders": [asdict(account) | {"lost": account.lost, "ok": account.ok} for account in accounts],
        "ok": all(account.ok for account in accounts),
    }


def _start_receivers(folder: Path, servers: str, supervisor: Supervisor) -> dict[str, int]:
    certificates = ensure_certificates(folder / "certificates")
    udp = {"syslog_udp_port", "netflow_port", "ipfix_port", "sflow_port"}
    names = {
        "receive-syslog": ("syslog_udp_port", "syslog_tcp_port", "syslog_tls_port"),
        "receive-beats": ("beats_port", "http_port"),
        "receive-netflow": ("netflow_port", "ipfix_port", "sflow_port", "ipfix_tcp_port", "ipfix_tls_port"),
    }
    ports = {port: find_free_port(udp=port in udp) for each in names.values() for port in each}
    common = {
        "WEIR_KAFKA_BOOTSTRAP_SERVERS": servers,
        "WEIR_SITE": "trial",
        "WEIR_TLS_CERTIFICATE_FILE": str(certificates.server),
        "WEIR_TLS_KEY_FILE": str(certificates.server_key),
    }
    for name, arguments in _RECEIVERS.items():
        own = {f"WEIR_{port.upper()}": str(ports[port]) for port in names[name]}
        own[f"WEIR_{arguments[1].upper()}_HOST"] = "127.0.0.1"
        if name == "receive-beats":
            own["WEIR_BEATS_TLS"] = "off"
        else:
            own["WEIR_RECEIVER_SPOOL_DIR"] = str(folder / "spool")
        supervisor.start_service(name, arguments, common | own)
    supervisor.wait_ready(list(_RECEIVERS), 60)
    return ports


def _start_sender(
    plan: Plan, folder: Path, sender: _Sender, ports: dict[str, int], number: int
) -> tuple[_Sender, Path, subprocess.Popen[bytes]]:
    summary = folder / f"{sender.kind}-{sender.transport}.json"
    command = [
        *(sys.executable, "-m", "weir.cli", "generate", sender.kind, "--target", f"127.0.0.1:{ports[sender.port]}"),
        *("--transport", sender.transport, "--rate", f"{plan.rate * sender.share:.0f}", "--seconds", f"{plan.seconds:.0f}"),
        *("--sources", str(sender.sources), "--seed", str(plan.seed), "--run", str(1 + number), "--patience", "120"),
        *("--summary", str(summary), "--json", *sender.options),
    ]
    if sender.transport in {"tls", "https"}:
        command += ["--ca", str(folder / "certificates" / "ca.pem")]
    log = (folder / "logs" / f"send-{sender.kind}.log").open("wb")
    with log:
        return sender, summary, subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT)


def _wait_until(moment: float) -> None:
    while (left := moment - time.monotonic()) > 0:
        time.sleep(min(left, 0.5))


def _end_senders(senders: list[tuple[_Sender, Path, subprocess.Popen[bytes]]], deadline: float) -> None:
    for sender, summary, process in senders:
        try:
            process.wait(max(1.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGINT)  # what it has sent is told all the same
            process.wait(30)
        if not summary.exists():
            log = summary.parent / "logs" / f"send-{sender.kind}.log"
            raise LocalError(f"weir generate {sender.kind} ended without a summary", f"read {log}")


def _metric(supervisor: Supervisor, name: str, metric: str) -> float:
    """The sum of a metric of one service, 0 where it has none."""
    url = f"http://127.0.0.1:{supervisor.services[name].health_port}/metrics"
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            lines = answer.read().decode().splitlines()
    except (urllib.error.URLError, OSError):
        return 0.0
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith((f"{metric} ", f"{metric}{{")))


def _drain(supervisor: Supervisor, say: Say) -> None:
    """Wait until the receivers are ready and no spool holds anything."""
    supervisor.wait_ready(list(_RECEIVERS), 60)
    deadline = time.monotonic() + _DRAIN_SECONDS
    while time.monotonic() < deadline:
        left = sum(_metric(supervisor, name, "weir_receiver_spool_units") for name in _RECEIVERS)
        if not left:
            return
        time.sleep(0.5)
    say(f"the spools still hold {left:,.0f} units after {_DRAIN_SECONDS:.0f} s")


def _peak_memory(supervisor: Supervisor, name: str) -> int:
    """Largest resident memory of the running process so far, MiB."""
    process = supervisor.services[name].process
    try:
        status = Path(f"/proc/{process.pid if process else 0}/status").read_text(encoding="ascii")
    except OSError:
        return 0
    return next((int(line.split()[1]) // 1024 for line in status.splitlines() if line.startswith("VmHWM")), 0)


def _account(settings: ServiceSettings, sender: _Sender, summary: Path, kills: int) -> Account:
    sent = json.loads(summary.read_text(encoding="utf-8"))
    kind = KINDS[sender.kind]
    oracle = Oracle(sent["run"], expected_of(sent))
    raw = [TopicNames(settings.topic_prefix)[kind.raw_topic]]
    # The receivers have stopped: what is in the topics now is all there will be.
    options: dict[str, Any] = {"flows": kind.raw_topic == "raw.netflow", "silence_s": _SILENCE_SECONDS, "complete": True}
    read_topics(settings, raw, sent["started_at"] - 60_000_000, oracle, sent["run"], **options)
    verdict: Verdict = oracle.verdict()
    total = sum(one.expected.sent for one in verdict.sources)
    seconds = max(1.0, float(sent.get("seconds", 0.0)))
    return Account(
        sender=f"{sender.kind} over {sender.transport}",
        acknowledges=verdict.sources[0].expected.acknowledged is not None,
        sent=total,
        acknowledged=sum(one.expected.acknowledged or 0 for one in verdict.sources),
        found=verdict.total("found"),
        missing=verdict.total("missing"),
        in_doubt=verdict.total("in_doubt"),
        repeated=verdict.total("repeated"),
        invented=verdict.total("invented"),
        kills=kills,
        per_second=total / seconds,
        ranges=[(one.expected.name, list(one.missing_ranges)) for one in verdict.sources if one.missing_ranges],
        failures=[str(failure) for failure in sent.get("failures", [])],
    )


def _dropped(settings: ServiceSettings) -> dict[str, int]:
    """What the receivers' ledger says was dropped, by receiver."""
    from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition

    name = TopicNames(settings.topic_prefix)["ledger"]
    consumer = Consumer({**client_config(settings), "group.id": "weir-trial", "enable.auto.commit": False})
    decode = Decoder()
    entries: dict[str, LedgerEntry] = {}
    try:
        _, end = watermarks(consumer, TopicPartition(name, 0))
        consumer.assign([TopicPartition(name, 0, OFFSET_BEGINNING)])
        position = 0
        while position < end:
            message = consumer.poll(5.0)
            if message is None:
                break
            if message.error() is None:
                position = message.offset() + 1
                entry = LedgerEntry.from_record(decode(message.value()))
                entries[entry.key] = entry
    finally:
        consumer.close()
    found: dict[str, int] = {}
    for entry in entries.values():
        for counts in entry.lines.values():
            if counts.units_dropped:
                found[entry.service] = found.get(entry.service, 0) + counts.units_dropped
    return found
