"""Everything the demo runs: a Kafka and an Azurite of its own, the stand-ins of the destinations, every service of Weir."""

from __future__ import annotations

import os
import shutil
import ssl
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import orjson
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from weir.azure.dcr import rules_document
from weir.bus import topics
from weir.bus.config import kafka_logger
from weir.local.azurite import Azurite
from weir.local.demo.supervisor import Supervisor
from weir.local.errors import LocalError
from weir.local.kafka import Kafka, answers
from weir.local.ports import find_free_port
from weir.local.processes import ProcessId, stop_process
from weir.local.standins.certificates import ensure_certificates
from weir.ops.settings import ServiceSettings, load

__all__ = ["DESTINATIONS", "SERVICES", "Stack", "environment", "running_stack"]

SERVICES = {
    "receive-syslog": ("receive", "syslog"),
    "receive-beats": ("receive", "beats"),
    "receive-netflow": ("receive", "netflow"),
    "process-syslog": ("process", "syslog"),
    "process-beats": ("process", "beats"),
    "process-netflow": ("process", "netflow"),
    "detector": ("process", "detector"),
    "process-ledger": ("process", "ledger"),
    "sink-sentinel": ("sink", "sentinel"),
    "sink-adx": ("sink", "adx"),
    "sink-siem": ("sink", "siem"),
}
DESTINATIONS = ("sentinel", "adx", "siem")
DCR = "dcr-00000000000000000000000000000001"
DATABASE = "weir"
SITE = "cloud"
SIEM_SITE = "on-premises"

Say = Callable[[str], None]


@dataclass(slots=True)
class Stack:
    """What runs, and where to reach it."""

    folder: Path
    settings: ServiceSettings
    supervisor: Supervisor
    bootstrap_servers: str
    ports: dict[str, int] = field(default_factory=dict)
    control: dict[str, str] = field(default_factory=dict)

    def stats(self, destination: str) -> dict[str, Any]:
        """What a destination's stand-in has counted."""
        return cast("dict[str, Any]", orjson.loads(self._get(f"{self.control[destination]}/_stats")))

    def ids(self, destination: str, table: str = "") -> set[str]:
        """Distinct ids that a destination holds, of one table or (siem) of all alerts."""
        query = f"?table={table}" if table else ""
        return set(self._get(f"{self.control[destination]}/_ids{query}").decode().split())

    def _get(self, url: str) -> bytes:
        with urllib.request.urlopen(url, timeout=60, context=self._tls(url)) as answer:  # noqa: S310 - stand-ins of our own
            return cast("bytes", answer.read())

    def _tls(self, url: str) -> ssl.SSLContext | None:
        return ssl.create_default_context(cafile=str(self.folder / "certificates" / "ca.pem")) if url.startswith("https") else None


@contextmanager
def running_stack(folder: Path, say: Say, on_restart: Callable[[str], None]) -> Iterator[Stack]:
    """Start everything, hand it over, and stop it again, also when something fails on the way.

    Raises:
        LocalError: with the way out.
    """
    external = os.environ.get("KAFKA_BOOTSTRAP_SERVERS", "")
    _stop_left_over(folder)
    for part in ("kafka", "logs", "pids", "data"):
        shutil.rmtree(folder / part, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    kafka = None if external else Kafka(folder / "kafka", bound=True)
    azurite = Azurite(output=folder / "logs" / "azurite.log", bound=True)
    supervisor = Supervisor(folder, on_restart)
    threads = ThreadPoolExecutor(1)
    prefix: str | None = None
    try:
        begun = time.monotonic()
        if kafka is not None:
            kafka.spawn()
            _remember(folder, {"kafka": kafka.identity})
        elif not answers(external):
            raise LocalError(
                f"no Kafka answers at KAFKA_BOOTSTRAP_SERVERS={external}",
                "start that cluster or correct the address; unset the variable to have one started here",
            )
        azurite_up = threads.submit(azurite.start, 60)
        ensure_certificates(folder / "certificates")
        stack = _standins(folder, supervisor)
        if kafka is not None:
            kafka.wait_ready(60)
        stack.bootstrap_servers = external or cast("Kafka", kafka).bootstrap_servers
        say(f"Kafka at {stack.bootstrap_servers} ({time.monotonic() - begun:.1f} s)")
        prefix = f"weir-demo-{os.getpid()}" if external else "weir"
        stack.settings = load_settings(stack.bootstrap_servers, prefix)
        created = topics.apply(stack.settings)
        # What needs no destination starts while these still do: start-up is what two cores have least to spare for.
        _start_services(stack, [name for name in SERVICES if not name.startswith("sink-")])
        azurite_up.result()
        _remember(folder, {"kafka": kafka.identity if kafka else None, "azurite": azurite.identity})
        _adx_standin(stack, azurite)
        supervisor.wait_ready(["logs-ingestion", "adx", "siem"], 60)
        _wire(stack)
        say(f"{len(created)} topics, Azurite, and the stand-ins of Sentinel, ADX and the SIEM ({time.monotonic() - begun:.1f} s)")
        _start_services(stack, [name for name in SERVICES if name.startswith("sink-")])
        supervisor.wait_ready(list(SERVICES), 90)
        say(f"{len(SERVICES)} services of Weir, each its own process ({time.monotonic() - begun:.1f} s)")
        yield stack
    finally:
        supervisor.stop([name for name in SERVICES if name in supervisor.services])
        supervisor.stop()
        # Azurite is bound to the thread that started it.
        threads.shutdown(wait=True)
        azurite.stop()
        if kafka is not None:
            kafka.stop()
        elif prefix is not None:
            _clear(external, prefix)


def _clear(bootstrap_servers: str, prefix: str) -> None:
    """Remove the topics and groups of this one demo from a cluster that goes on."""
    admin = AdminClient({"bootstrap.servers": bootstrap_servers, "logger": kafka_logger()})
    try:
        topics_there = [name for name in admin.list_topics(timeout=10).topics if name.startswith(f"{prefix}.")]
        groups = [group.group_id for group in admin.list_consumer_groups(request_timeout=10).result().valid or []]
        answers = list(admin.delete_topics(topics_there).values()) if topics_there else []
        if mine := [group for group in groups if group.startswith(f"{prefix}.")]:
            answers += admin.delete_consumer_groups(mine, request_timeout=10).values()
        for answer in answers:
            # A group whose member was killed is not empty until its session ends: then it stays, without offsets of any topic.
            with suppress(KafkaException):
                answer.result(15)
    except KafkaException as error:
        raise LocalError(
            f"the topics of this demo could not be removed from {bootstrap_servers}: {error.args[0].str()}",
            f"delete those that begin with {prefix}.",
        ) from error


def _remember(folder: Path, servers: dict[str, ProcessId | None]) -> None:
    known = {name: [identity.pid, identity.mark] for name, identity in servers.items() if identity is not None}
    (folder / "servers.json").write_bytes(orjson.dumps(known))


def _stop_left_over(folder: Path) -> None:
    """Stop the Kafka and Azurite of a demo that was killed here: just those very processes, told by pid and start time."""
    try:
        known = orjson.loads((folder / "servers.json").read_bytes())
    except (OSError, ValueError):
        return
    for pid, mark in known.values():
        stop_process(ProcessId(pid, mark))


def load_settings(bootstrap_servers: str, prefix: str) -> ServiceSettings:
    """Settings for the demo's own reading of the topics."""
    os.environ["WEIR_KAFKA_BOOTSTRAP_SERVERS"] = bootstrap_servers
    os.environ["WEIR_TOPIC_PREFIX"] = prefix
    return load(ServiceSettings)


def _standins(folder: Path, supervisor: Supervisor) -> Stack:
    rules = folder / "dcr.json"
    rules.write_bytes(orjson.dumps(rules_document(DCR)))
    shared = ["--certificates", str(folder / "certificates")]
    data = folder / "data"
    supervisor.start_standin(
        "logs-ingestion",
        "weir.local.standins.logs_ingestion",
        ["--config", str(rules), *shared, "--data", str(data / "sentinel")],
    )
    supervisor.start_standin("siem", "weir.local.standins.siem", [*shared, "--data", str(data / "siem")])
    ports = {"syslog": find_free_port(), "beats": find_free_port(), "netflow": find_free_port(udp=True)}
    return Stack(folder, cast("ServiceSettings", None), supervisor, "", ports)


def _adx_standin(stack: Stack, azurite: Azurite) -> None:
    endpoints = ["--blob", azurite.blob_url, "--queue", azurite.queue_url, "--table", azurite.table_url]
    data = str(stack.folder / "data" / "adx")
    stack.supervisor.start_standin("adx", "weir.local.standins.adx", [*endpoints, "--database", DATABASE, "--data", data])


def _wire(stack: Stack) -> None:
    lines = {name: stack.supervisor.services[name].ready_line for name in ("logs-ingestion", "adx", "siem")}
    stack.control = {
        "sentinel": f"https://127.0.0.1:{lines['logs-ingestion']['port']}",
        "adx": f"http://127.0.0.1:{lines['adx']['port']}",
        "siem": f"http://127.0.0.1:{lines['siem']['port']}",
    }
    stack.ports["siem"] = int(cast("int", lines["siem"]["tls_port"]))


def environment(stack: Stack, name: str) -> dict[str, str]:
    """The settings that a service of the stack runs with, by the names of SERVICES."""
    token = stack.folder / "token"
    token.write_text("demo-token", encoding="ascii")
    ca = str(stack.folder / "certificates" / "ca.pem")
    common = {
        "WEIR_KAFKA_BOOTSTRAP_SERVERS": stack.bootstrap_servers,
        "WEIR_TOPIC_PREFIX": stack.settings.topic_prefix,
        "WEIR_SITE": SITE,
    }
    own = {
        "receive-syslog": {
            "WEIR_SYSLOG_HOST": "127.0.0.1",
            "WEIR_SYSLOG_UDP_PORT": str(stack.ports["syslog"]),
            "WEIR_SYSLOG_TCP_PORT": str(stack.ports["syslog"]),
        },
        "receive-beats": {"WEIR_BEATS_HOST": "127.0.0.1", "WEIR_BEATS_PORT": str(stack.ports["beats"]), "WEIR_HTTP_PORT": "-1"},
        "receive-netflow": {
            "WEIR_NETFLOW_HOST": "127.0.0.1",
            "WEIR_NETFLOW_PORT": str(stack.ports["netflow"]),
            "WEIR_IPFIX_PORT": "-1",
            "WEIR_SFLOW_PORT": "-1",
            "WEIR_IPFIX_TCP_PORT": "-1",
        },
        "sink-sentinel": {
            "WEIR_SENTINEL_ENDPOINT": stack.control.get("sentinel", ""),
            "WEIR_SENTINEL_DCR_IMMUTABLE_ID": DCR,
            "WEIR_SENTINEL_AUTH": "static-token-file",
            "WEIR_SENTINEL_TOKEN_FILE": str(token),
            "WEIR_SENTINEL_CA_FILE": ca,
            "WEIR_SINK_LINGER_SECONDS": "1",
            "WEIR_SINK_COMMIT_SECONDS": "1",
        },
        "sink-adx": {
            "WEIR_ADX_INGEST_URL": stack.control.get("adx", ""),
            "WEIR_ADX_ENGINE_URL": stack.control.get("adx", ""),
            "WEIR_ADX_DATABASE": DATABASE,
            "WEIR_ADX_AUTH": "none",
            "WEIR_SINK_LINGER_SECONDS": "1",
            "WEIR_SINK_COMMIT_SECONDS": "1",
        },
        "sink-siem": {
            "WEIR_SIEM_HOST": "127.0.0.1",
            "WEIR_SIEM_PORT": str(stack.ports.get("siem", 0)),
            "WEIR_SIEM_TRANSPORT": "tls",
            "WEIR_SIEM_CA_FILE": ca,
            "WEIR_SINK_LINGER_SECONDS": "0.2",
            "WEIR_SINK_COMMIT_SECONDS": "1",
        },
    }
    return common | own.get(name, {})


def _start_services(stack: Stack, names: list[str]) -> None:
    for name in names:
        stack.supervisor.start_service(name, SERVICES[name], environment(stack, name))
