"""`weir bench udp`: the loss curve of the syslog receiver, with every datagram accounted for.

Datagrams are sent at one rate after the other to a real receiver that publishes to a real Kafka. What was sent is compared with
what stands in the raw topic, told by stamps, with what the kernel dropped for want of room in the socket's buffer
(/proc/net/udp), and with what the receiver says in its ledger that it dropped itself. The rest is unexplained, and must be
nothing.
"""

from __future__ import annotations

import os
import socket
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final

import psutil
from confluent_kafka import Consumer, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient

from weir.bus import topics
from weir.bus.codec import Decoder
from weir.bus.config import client_config, kafka_logger
from weir.bus.offsets import watermarks
from weir.local import dev
from weir.local.demo.supervisor import Supervisor
from weir.local.downloads import fetch_kafka
from weir.local.errors import LocalError
from weir.local.generate import stamp
from weir.local.generate.load import Schedule, source_address
from weir.local.generate.pools import chance
from weir.local.generate.verify import Expected, Oracle, raw_stamps
from weir.local.kafka import Kafka, answers
from weir.local.ports import find_free_port
from weir.model.topics import TopicNames
from weir.ops.settings import ServiceSettings, load

__all__ = ["Plan", "Step", "kernel_counts", "payloads", "run_bench", "send_step"]

_POOL: Final = 4096
_CHUNK: Final = 64
_WARM_UP: Final = 2_000
_QUIET_S: Final = 4.0
_SETTLE_S: Final = 60.0
_TABLES: Final = (Path("/proc/net/udp"), Path("/proc/net/udp6"))
_PARTITIONS: Final = 2
_KERNEL: Final = "kernel:"
"""Under names that begin so a receiver's ledger repeats what the kernel dropped; here that is read from the kernel itself."""

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Plan:
    """What to measure: datagrams per second one after the other, each for `seconds`.

    They have `size` bytes and come from so many `sources`, to as many `processes` sharing the port. `target` is a receiver that
    runs already, on this machine, whose raw topic the settings name.
    """

    rates: tuple[int, ...]
    seconds: float
    size: int
    processes: int = 1
    sources: int = 8
    target: str | None = None
    bootstrap: str | None = None


@dataclass(frozen=True, slots=True)
class Step:
    """One rate. `achieved` is what the sender reached, datagrams per second; `cpu_seconds` are those of all receiver processes."""

    rate: int
    achieved: float
    sent: int
    received: int
    repeated: int
    kernel_drops: int
    receiver_drops: int
    cpu_seconds: float | None
    seconds: float

    @property
    def unexplained(self) -> int:
        """Sent, but neither received nor counted as dropped; negative where more is counted than was sent."""
        return self.sent - self.received - self.kernel_drops - self.receiver_drops

    @property
    def ok(self) -> bool:
        return self.unexplained == 0

    @property
    def loss(self) -> float:
        """Share of the sent that was not received."""
        return 1 - self.received / self.sent if self.sent else 0.0

    @property
    def cpu_us(self) -> float | None:
        """Microseconds of the receiver's CPU time for each datagram received."""
        return None if self.cpu_seconds is None or not self.received else self.cpu_seconds / self.received * 1e6

    def record(self) -> dict[str, Any]:
        """As JSON has it."""
        return {**asdict(self), "unexplained": self.unexplained, "loss": self.loss, "cpu_us": self.cpu_us, "ok": self.ok}


def kernel_counts(port: int) -> tuple[int, int]:
    """Bytes that wait in the buffers of this machine's UDP sockets on a port, and datagrams that these sockets have dropped.

    Raises:
        LocalError: the system does not tell (only Linux does).
    """
    waiting = drops = 0
    wanted = f":{port:04X}"
    try:
        # Columns: number, local address:port, remote, state, tx_queue:rx_queue (hexadecimal), …, drops last.
        for table in _TABLES:
            if not table.exists():
                continue
            for line in table.read_text().splitlines()[1:]:
                columns = line.split()
                if columns[1].endswith(wanted):
                    waiting += int(columns[4].partition(":")[2], 16)
                    drops += int(columns[-1])
    except (OSError, ValueError, IndexError) as error:
        raise LocalError(
            f"what the kernel drops cannot be read: {error}", "run this on Linux, where /proc/net/udp tells"
        ) from error
    return waiting, drops


def payloads(size: int, seed: int = 1) -> list[tuple[bytes, bytes]]:
    """What stands before and behind the stamp in some thousands of different syslog messages of `size` bytes (120 at least)."""
    made = []
    for number in range(_POOL):
        bits = chance(seed, 0, number)
        head = f"<{8 * (bits >> 60) + (bits >> 57 & 7)}>1 - bench.example.test loss {bits >> 40 & 0x7FFF} - - "
        tail = f" 10.{bits >> 8 & 255}.{bits >> 16 & 255}.{bits & 255} "
        tail += f"{bits:016x}" * (size // 16 + 1)
        made.append((head.encode(), tail[: size - stamp.TEXT_LENGTH - len(head)].encode()))
    return made


def send_step(
    sockets: list[socket.socket], made: list[tuple[bytes, bytes]], run: int, rate: float, amount: int
) -> tuple[list[int], float]:
    """Send so many datagrams at a rate, from all sockets in turns; datagrams sent from each, and the seconds it took.

    The schedule is absolute; where it cannot be kept the sender goes as fast as it can.

    Raises:
        ConnectionRefusedError: nobody listens.
    """
    senders = [sock.send for sock in sockets]
    sources = len(senders)
    as_text = stamp.as_text
    schedule = Schedule(rate, amount)
    number = 0
    while number < amount:
        due = min(schedule.due(), number + _CHUNK)
        while number < due:
            source = number % sources
            head, tail = made[number * 2_654_435_761 >> 8 & _POOL - 1]
            senders[source](head + as_text(run, source, number // sources) + tail)
            number += 1
        if (wait := schedule.wait(number)) > 0.0002:
            # A sleep of half a millisecond lets the others work, and no burst is longer than what a millisecond holds.
            time.sleep(min(wait, 0.0005))
    seconds = time.monotonic() - schedule.started
    return [amount // sources + (source < amount % sources) for source in range(sources)], seconds


class _Reading:
    """The raw topic and the ledger of the receiver under test, read without a group, from now on."""

    def __init__(self, settings: ServiceSettings) -> None:
        names = TopicNames(settings.topic_prefix)
        self._raw, self._ledger = names["raw.syslog"], names["ledger"]
        self._consumer = Consumer(
            {**client_config(settings), "group.id": "weir-bench", "enable.auto.commit": False, "fetch.max.bytes": 16 * 1024 * 1024}
        )
        self._decode = Decoder()
        self.receiver_drops = 0
        starts = []
        for topic in (self._raw, self._ledger):
            found = self._consumer.list_topics(topic, 20).topics[topic]
            if found.error is not None:
                raise LocalError(
                    f"topic {topic} cannot be read: {found.error.str()}", "run `weir topics apply`, or name the prefix"
                )
            for partition in found.partitions:
                end = watermarks(self._consumer, TopicPartition(topic, partition), 20)[1]
                starts.append(TopicPartition(topic, partition, end))
        self._consumer.assign(starts)

    def take(self, oracle: Oracle, run: int) -> int:
        """Read what there is, for a moment; how many records."""
        records = 0
        for message in self._consumer.consume(500, 0.2):
            if message.error() is not None:
                continue
            records += 1
            record = self._decode(message.value(), message.headers())
            if message.topic() == self._raw:
                for found in raw_stamps(record["units"], run, flows=False):
                    oracle.add(found)
            elif str(record["service"]) == "receive.syslog":
                self.receiver_drops += _dropped(record)
        return records

    def close(self) -> None:
        self._consumer.close()


def _dropped(entry: Mapping[str, Any]) -> int:
    """What a receiver says it dropped itself."""
    lines: list[Mapping[str, Any]] = entry["lines"]
    return sum(line["units_dropped"] for line in lines if not str(line["source"]).startswith(_KERNEL))


def run_bench(plan: Plan, say: Say, *, complete: Callable[[], object] | None = None) -> list[Step]:
    """Measure all rates. What it starts it stops, and what it creates in a Kafka that was there it removes.

    `complete` is as `weir.ops.settings.load` takes it; settings are read for a given target only.

    Raises:
        LocalError: no Kafka, no receiver, or a target on another machine; with the way out.
        SettingsError: the settings for a given target do not work.
    """
    if plan.target is not None:
        _on_this_machine(plan.target)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="weir-bench-", ignore_cleanup_errors=True)))
        if plan.target is not None:
            settings, port = _given(plan, complete), int(plan.target.rpartition(":")[2])
            host = plan.target.rpartition(":")[0]
        else:
            settings = stack.enter_context(_kafka(plan, folder, say))
            host, port = "127.0.0.1", stack.enter_context(_receiver(plan, settings, folder, say))
        made = payloads(plan.size)
        sockets = [stack.enter_context(_sender(host, port, source)) for source in range(plan.sources)]
        reading = _Reading(settings)
        stack.callback(reading.close)
        _step(plan, _WARM_UP, 0.5, sockets, made, reading, port)
        steps = []
        for rate in plan.rates:
            say(f"{rate:,} datagrams/s for {plan.seconds:g} s …")
            steps.append(_step(plan, rate, plan.seconds, sockets, made, reading, port))
        return steps


def _step(
    plan: Plan,
    rate: int,
    seconds: float,
    sockets: list[socket.socket],
    made: list[tuple[bytes, bytes]],
    reading: _Reading,
    port: int,
) -> Step:
    run = int.from_bytes(os.urandom(2), "big")
    _, drops_before = kernel_counts(port)
    own_before = reading.receiver_drops
    processes = _processes(port)
    cpu_before = _cpu(processes)
    try:
        amounts, took = send_step(sockets, made, run, rate, round(rate * seconds))
    except OSError as error:
        raise LocalError(
            f"the receiver at port {port} is gone: {error}", "read its log; it must not die, whatever the rate"
        ) from error
    sent = sum(amounts)
    oracle = Oracle(run, [Expected(source, str(source), amount) for source, amount in enumerate(amounts)])
    began = heard = time.monotonic()
    while time.monotonic() - began < _SETTLE_S:
        waiting, drops = kernel_counts(port)
        if reading.take(oracle, run):
            heard = time.monotonic()
        accounted = oracle.found + drops - drops_before + reading.receiver_drops - own_before
        if not waiting and (accounted >= sent or time.monotonic() - heard > _QUIET_S):
            break
    cpu_after = _cpu(processes)
    return Step(
        rate=rate,
        achieved=sent / took if took else 0.0,
        sent=sent,
        received=oracle.found,
        repeated=oracle.verdict().total("repeated"),
        kernel_drops=kernel_counts(port)[1] - drops_before,
        receiver_drops=reading.receiver_drops - own_before,
        cpu_seconds=None if cpu_before is None or cpu_after is None else cpu_after - cpu_before,
        seconds=took,
    )


def _processes(port: int) -> list[psutil.Process]:
    """Who listens on a UDP port of this machine; nobody where the system does not tell."""
    with suppress(psutil.Error, OSError):
        found = {one.pid for one in psutil.net_connections("udp") if one.laddr and one.laddr.port == port and one.pid}
        return [psutil.Process(number) for number in found]
    return []


def _cpu(processes: list[psutil.Process]) -> float | None:
    try:
        times = [process.cpu_times() for process in processes]
    except psutil.Error:
        return None
    return sum(float(one.user + one.system) for one in times) if times else None


@contextmanager
def _sender(host: str, port: int, source: int) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM) as sock:
        if address := source_address(host, source):
            with suppress(OSError):
                sock.bind((address, 0))
        sock.connect((host, port))
        yield sock


def _on_this_machine(target: str) -> None:
    host, colon, port = target.rpartition(":")
    try:
        good = bool(colon) and ip_address(host.strip("[]")).is_loopback and 0 < int(port) < 65536
    except ValueError:
        good = False
    if not good:
        raise LocalError(
            f"--target {target} is not on this machine",
            "name 127.0.0.1:PORT: a flood over a network measures the network, and is no test to run against others",
        )


def _given(plan: Plan, complete: Callable[[], object] | None) -> ServiceSettings:
    before = os.environ.get("WEIR_KAFKA_BOOTSTRAP_SERVERS")
    if plan.bootstrap:
        os.environ["WEIR_KAFKA_BOOTSTRAP_SERVERS"] = plan.bootstrap
    try:
        settings = load(ServiceSettings, complete=complete)
    finally:
        if before is not None:
            os.environ["WEIR_KAFKA_BOOTSTRAP_SERVERS"] = before
        elif plan.bootstrap:
            del os.environ["WEIR_KAFKA_BOOTSTRAP_SERVERS"]
    if not answers(settings.kafka_bootstrap_servers):
        raise LocalError(f"no Kafka answers at {settings.kafka_bootstrap_servers}", "name the receiver's with --bootstrap")
    return settings


@contextmanager
def _kafka(plan: Plan, folder: Path, say: Say) -> Iterator[ServiceSettings]:
    """Settings for a Kafka with topics of our own: the one named, development's, or one started here."""
    running = dev.status()
    servers = plan.bootstrap or (running.bootstrap_servers if running.answering else None)
    own: Kafka | None = None
    prefix = f"weir-bench-{os.getpid()}"
    if servers is None:
        fetch_kafka(lambda _: None)
        own = Kafka(folder / "kafka")
        own.start()
        servers = own.bootstrap_servers
    elif not answers(servers):
        raise LocalError(f"no Kafka answers at {servers}", "name one that runs, or leave --bootstrap out")
    try:
        say(f"Kafka at {servers}" + ("" if own is None else ", started for this"))
        settings = ServiceSettings.model_validate(
            {"kafka_bootstrap_servers": servers, "topic_prefix": prefix, "instance": "bench", "site": "bench"}
        )
        before = os.environ.get("WEIR_TOPIC_PARTITIONS")
        os.environ["WEIR_TOPIC_PARTITIONS"] = str(_PARTITIONS)
        try:
            topics.apply(settings)
        finally:
            if before is None:
                del os.environ["WEIR_TOPIC_PARTITIONS"]
            else:
                os.environ["WEIR_TOPIC_PARTITIONS"] = before
        yield settings
    finally:
        if own is not None:
            own.stop()
        else:
            _remove(servers, prefix)


def _remove(servers: str, prefix: str) -> None:
    """Delete the topics of this measurement from a Kafka that goes on."""
    admin = AdminClient({"bootstrap.servers": servers, "logger": kafka_logger()})
    with suppress(KafkaException):
        mine = [name for name in admin.list_topics(timeout=10).topics if name.startswith(f"{prefix}.")]
        for answer in admin.delete_topics(mine).values() if mine else ():
            with suppress(KafkaException):
                answer.result(15)


@contextmanager
def _receiver(plan: Plan, settings: ServiceSettings, folder: Path, say: Say) -> Iterator[int]:
    """A syslog receiver of its own on a free port."""
    supervisor = Supervisor(folder)
    port = find_free_port(udp=True)
    environment = {
        "WEIR_KAFKA_BOOTSTRAP_SERVERS": settings.kafka_bootstrap_servers,
        "WEIR_TOPIC_PREFIX": settings.topic_prefix,
        "WEIR_SITE": settings.site,
        "WEIR_SYSLOG_HOST": "127.0.0.1",
        "WEIR_SYSLOG_UDP_PORT": str(port),
        "WEIR_SYSLOG_TCP_PORT": str(find_free_port()),
        "WEIR_RECEIVER_LEDGER_SECONDS": "1",
        "WEIR_RECEIVER_PROCESSES": str(plan.processes),
    }
    supervisor.start_service("receive-syslog", ["receive", "syslog"], environment)
    try:
        supervisor.wait_ready(["receive-syslog"], 60)
        say(f"`weir receive syslog` on UDP port {port}, {plan.processes} process(es)")
        yield port
    finally:
        supervisor.stop()
