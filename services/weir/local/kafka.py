"""A real Apache Kafka on this machine: one broker in KRaft mode, on the loopback address, with data that stays."""

from __future__ import annotations

import base64
import fcntl
import logging
import os
import re
import shutil
import subprocess
import tempfile
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from confluent_kafka import Consumer, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient

from weir.local.downloads import Report, kafka_folder, kafka_jars
from weir.local.errors import LocalError, StartError
from weir.local.java import Java, find_java
from weir.local.ports import LOOPBACK, check_port, find_free_port
from weir.local.processes import ProcessId, Server, tail

__all__ = ["Kafka", "answers", "make_startup_archive"]

# What differs from Kafka's own defaults, and why: one broker, two cores shared with everything else, half a gigabyte.
_SMALL_MACHINE: Mapping[str, str] = {
    "num.network.threads": "2",
    "num.io.threads": "2",
    "background.threads": "2",
    "num.recovery.threads.per.data.dir": "2",
    "offsets.topic.num.partitions": "1",
    "offsets.topic.replication.factor": "1",
    "transaction.state.log.num.partitions": "1",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "share.coordinator.state.topic.num.partitions": "1",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    "default.replication.factor": "1",
    "min.insync.replicas": "1",
    # After a crash the same broker is let in again only when its former session has run out (9 s by default).
    "broker.heartbeat.interval.ms": "1000",
    "broker.session.timeout.ms": "4000",
    # A group of one member need not wait three seconds for others.
    "group.initial.rebalance.delay.ms": "0",
    # Topics are declared; a misspelt one must fail.
    "auto.create.topics.enable": "false",
    # Allocated at once by each cleaner thread; the default takes a quarter of the heap.
    "log.cleaner.dedupe.buffer.size": str(16 << 20),
}

_LOG4J2 = """\
status = error
name = weir-local-kafka
appender.file.type = RollingFile
appender.file.name = file
appender.file.fileName = ${sys:weir.log}
appender.file.filePattern = ${sys:weir.log}.%i
appender.file.layout.type = PatternLayout
appender.file.layout.pattern = %d{yyyy-MM-dd'T'HH:mm:ss.SSSXXX} %p %c{1}: %m%n
appender.file.policies.type = Policies
appender.file.policies.size.type = SizeBasedTriggeringPolicy
appender.file.policies.size.size = 5MB
appender.file.strategy.type = DefaultRolloverStrategy
appender.file.strategy.max = 3
rootLogger.level = info
rootLogger.appenderRef.file.ref = file
"""

_ARCHIVES_KEPT = 3

# librdkafka reports every refused connection; while a broker starts or stops that is expected.
_silent = logging.getLogger("weir.local.kafka.client")
_silent.addHandler(logging.NullHandler())
_silent.propagate = False


class Kafka:
    """One broker and controller in one process, its data under `data_dir`.

    `port` and `controller_port` are chosen freely when None. `heap` is Java's maximum, `properties` are added to or
    override the broker's configuration. `port_setting` names, in errors, what chooses the port. A `bound` broker
    ends with the thread that starts it, however that ends (Linux).

    The same `data_dir` may be used again by a later broker, on other ports as well; by one at a time.
    """

    def __init__(
        self,
        data_dir: Path,
        port: int | None = None,
        controller_port: int | None = None,
        *,
        heap: str = "512m",
        properties: Mapping[str, str] | None = None,
        port_setting: str = "WEIR_KAFKA_PORT",
        controller_port_setting: str = "WEIR_KAFKA_CONTROLLER_PORT",
        bound: bool = False,
    ) -> None:
        self.data_dir = data_dir.absolute()
        if re.search(r"[,\\\n]", str(self.data_dir)):
            raise LocalError(f"Kafka's configuration cannot name {self.data_dir}", "use a path without comma or backslash")
        self.port = port if port is not None else find_free_port()
        self.controller_port = controller_port if controller_port is not None else find_free_port()
        self.heap = heap
        self.properties = dict(properties or {})
        self.log_path = self.data_dir / "kafka.log"
        self._output = self.data_dir / "kafka.out"
        self._settings = (port_setting, controller_port_setting)
        self._server = Server("Kafka", bound=bound)
        self._archive_to: Path | None = None

    @property
    def bootstrap_servers(self) -> str:
        """`host:port` for clients."""
        return f"{LOOPBACK}:{self.port}"

    @property
    def pid(self) -> int | None:
        """The broker's process id while it runs."""
        return self._server.pid

    @property
    def identity(self) -> ProcessId | None:
        """The process that `spawn` started, for whoever has to find it again later."""
        return self._server.identity

    def start(self, timeout: float = 60.0) -> Self:
        """Start the broker and return when it has answered a client, within `timeout` seconds.

        Raises:
            PortInUseError: somebody listens on one of the ports.
            StartError: it died (its last log lines are in the error) or did not answer in time.
            Unavailable: Kafka or Java is not there, or a jar is not the one checked in.
        """
        self.spawn()
        self.wait_ready(timeout)
        return self

    def spawn(self) -> None:
        """Format the storage if this is its first use, and start the process; raises as `start` does."""
        if self._server.running:
            raise StartError(f"Kafka runs already (process {self.pid})", "call stop() first")
        java, jars = find_java(), kafka_jars()
        self.data_dir.mkdir(parents=True, exist_ok=True)
        with (self.data_dir / "lock").open("ab") as lock:
            # Kafka locks its log folder too, but only after its controller has written to the metadata log in there. The
            # broker inherits this lock and so holds it exactly as long as it lives, whoever started it.
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise StartError(
                    f"another Kafka uses the data in {self.data_dir}", "stop that one, or choose another folder"
                ) from error
            check_port(self.port, self._settings[0])
            check_port(self.controller_port, self._settings[1])
            (self.data_dir / "log4j2.properties").write_text(_LOG4J2, encoding="utf-8")
            self._format(java, jars)
            config = self._write_config("server.properties", self.data_dir / "log")
            command: list[str | Path] = [*self._java_command(java, jars, self._archive_to), "kafka.Kafka", config]
            self._server.spawn(command, output=self._output, inherit=[lock.fileno()])

    def wait_ready(self, timeout: float) -> None:
        """Wait until the broker that `spawn` started answers a client and its group coordinator is there."""
        expected = self._cluster_id()
        client = AdminClient({"bootstrap.servers": self.bootstrap_servers, **_QUICK_RECONNECT}, logger=_silent)

        def ready() -> bool:
            try:
                return bool(client.list_topics(timeout=0.25).cluster_id == expected)
            except KafkaException:
                return False

        logs = (self.log_path, self._output)
        begun = time.monotonic()
        self._server.wait_ready(ready, timeout, logs)
        # The first question for a group's coordinator creates the offsets topic; asked here, no first consumer waits for it.
        consumer = Consumer({"bootstrap.servers": self.bootstrap_servers, "group.id": _PROBE, **_QUICK_RECONNECT}, logger=_silent)

        def has_coordinator() -> bool:
            try:
                return bool(consumer.committed([TopicPartition(_PROBE, 0)], timeout=2.0))
            except KafkaException:
                return False

        try:
            self._server.wait_ready(has_coordinator, max(1.0, timeout - (time.monotonic() - begun)), logs)
        finally:
            consumer.close()

    def stop(self, timeout: float = 20.0) -> None:
        """Shut the broker down in order, with SIGKILL after `timeout` seconds; harmless when it does not run."""
        self._server.stop(timeout)

    def kill(self) -> None:
        """End the broker as a crash would (SIGKILL); `start` again goes on with the same data."""
        self._server.kill()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    def _format(self, java: Java, jars: list[Path]) -> None:
        """Give the storage its cluster id, once. Done aside and renamed, so that a half-made storage is never taken for one."""
        storage = self.data_dir / "log"
        if (storage / "meta.properties").is_file():
            return
        aside = self.data_dir / "log.new"
        shutil.rmtree(aside, ignore_errors=True)
        config = self._write_config("format.properties", aside)
        # Kafka's own tool makes such ids too (22 characters of URL-safe base64); this saves one start of Java.
        cluster_id = base64.urlsafe_b64encode(uuid.uuid4().bytes).rstrip(b"=").decode().replace("-", "A", 1)
        command = [*self._java_command(java, jars), "kafka.tools.StorageTool", "format", "--cluster-id", cluster_id]
        with self._output.open("wb") as sink:
            try:
                code = subprocess.run(
                    [*command, "--config", str(config)],
                    stdin=subprocess.DEVNULL,
                    stdout=sink,
                    stderr=subprocess.STDOUT,
                    timeout=60,
                    check=False,
                ).returncode
            except (OSError, subprocess.TimeoutExpired) as error:
                raise StartError(f"Kafka's storage {storage} cannot be formatted: {error}", f"read {self._output}") from error
        if code != 0:
            raise StartError(
                f"Kafka's storage {storage} cannot be formatted (exit status {code}):\n{tail(self._output)}", f"read {self._output}"
            )
        if storage.is_dir():
            storage.rmdir()  # refuses, rightly, when somebody's files are in there
        aside.rename(storage)

    def _cluster_id(self) -> str | None:
        text = (self.data_dir / "log" / "meta.properties").read_text(encoding="utf-8")
        found = re.search(r"^cluster\.id=(\S+)", text, re.MULTILINE)
        return found.group(1) if found else None

    def _write_config(self, name: str, storage: Path) -> Path:
        values = {
            **_SMALL_MACHINE,
            "process.roles": "broker,controller",
            "node.id": "1",
            "controller.quorum.voters": f"1@{LOOPBACK}:{self.controller_port}",
            "controller.listener.names": "CONTROLLER",
            "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
            "listeners": f"PLAINTEXT://{LOOPBACK}:{self.port},CONTROLLER://{LOOPBACK}:{self.controller_port}",
            "advertised.listeners": f"PLAINTEXT://{LOOPBACK}:{self.port}",
            "log.dirs": str(storage),
            **self.properties,
        }
        path = self.data_dir / name
        path.write_text("".join(f"{key}={value}\n" for key, value in values.items()), encoding="utf-8")
        return path

    def _java_command(self, java: Java, jars: list[Path], archive_to: Path | None = None) -> list[str]:
        options = [
            f"-Xmx{self.heap}",
            "-Xms64m",
            # Measured on two cores, against Java's choice: ready in two thirds of the time with half the CPU, and no
            # slower at the rates a shared machine of that size reaches.
            "-XX:+UseSerialGC",
            "-XX:TieredStopAtLevel=1",
            "-XX:+ExitOnOutOfMemoryError",
            "-XX:-UsePerfData",
            f"-XX:ErrorFile={self.data_dir}/java-crash.log",
            "-Djava.awt.headless=true",
            f"-Dweir.log={self.log_path}",
            f"-Dlog4j2.configurationFile={(self.data_dir / 'log4j2.properties').as_uri()}",
        ]
        if java.major >= 24:
            options += ["--sun-misc-unsafe-memory-access=allow", "--enable-native-access=ALL-UNNAMED"]
        archive = _archive_path(java)
        if archive_to is not None:
            options.append(f"-XX:AOTCacheOutput={archive_to}")
        elif archive is not None and archive.is_file():
            options += [f"-XX:AOTCache={archive}", "-Xlog:disable"]  # one that does not fit is ignored by Java
        return [str(java.path), *options, "-cp", os.pathsep.join(map(str, jars))]


_PROBE = "weir-local-ready"

_QUICK_RECONNECT: Mapping[str, str | int] = {
    "reconnect.backoff.ms": 20,
    "reconnect.backoff.max.ms": 100,
    "broker.address.family": "v4",
    "log_level": 0,
}


def answers(bootstrap_servers: str, timeout: float = 5.0) -> bool:
    """Whether a Kafka cluster answers there within `timeout` seconds, without authentication or encryption."""
    client = AdminClient({"bootstrap.servers": bootstrap_servers, "log_level": 0}, logger=_silent)
    try:
        return bool(client.list_topics(timeout=timeout).brokers)
    except KafkaException:
        return False


def make_startup_archive(report: Report) -> bool:
    """Record Kafka's loaded classes and profiles once (JEP 483 and 514), which halves the time and the CPU of every later start.

    Runs a broker on throw-away data for it, some ten seconds. Returns whether it was made; not for a Java before 25.
    Without it everything works, only slower, so a failure is reported and is no error.
    """
    java = find_java()
    archive = _archive_path(java)
    if archive is None or archive.is_file():
        return False
    report(f"Kafka's start-up archive for Java {java.version}")
    with tempfile.TemporaryDirectory(dir=kafka_folder(), prefix="incoming-", ignore_cleanup_errors=True) as folder:
        kafka = Kafka(Path(folder) / "data")
        kafka._archive_to = Path(folder) / archive.name
        try:
            kafka.start()
            kafka.stop(timeout=60.0)
            made = kafka._archive_to.is_file()
            if made:
                kafka._archive_to.replace(archive)
        except (LocalError, OSError) as error:
            made = False
            report(f"none could be made, starts will be slower: {error}")
        finally:
            kafka.stop()
    for old in sorted(kafka_folder().glob("java-*.aot"), key=lambda path: path.stat().st_mtime)[:-_ARCHIVES_KEPT]:
        old.unlink(missing_ok=True)
    return made


def _archive_path(java: Java) -> Path | None:
    return kafka_folder() / f"java-{java.version}-{java.fingerprint}.aot" if java.major >= 25 else None
