"""Whether the brokers can be reached, by the addresses we were given and by those that they give us."""

from __future__ import annotations

import socket
import time

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from weir.bus import topics
from weir.bus.config import client_config
from weir.model.schemas import catalogue
from weir.ops.settings import ServiceSettings
from weir.tools.doctor.finding import Finding, failed, good, warning

__all__ = ["examine"]

_CONNECT_SECONDS = 3.0


def examine(settings: ServiceSettings) -> list[Finding]:
    """Brokers, topics and schemas."""
    findings = [_reach("broker", server.strip()) for server in settings.kafka_bootstrap_servers.split(",")]
    if any(not finding.cure for finding in findings):
        findings += _cluster(settings)
    findings.append(
        good("schemas", "catalogue", f"{len(catalogue())} schema versions in the checked-in catalogue; no registry is used")
    )
    return findings


def _reach(name: str, server: str) -> Finding:
    host, _, port = server.rpartition(":")
    begun = time.monotonic()
    try:
        with socket.create_connection((host.strip("[]"), int(port)), _CONNECT_SECONDS):
            return good("kafka", f"{name} {server}", f"accepts connections ({(time.monotonic() - begun) * 1000:.0f} ms)")
    except socket.gaierror as error:
        return failed("kafka", f"{name} {server}", f"the name cannot be resolved: {error.strerror}", "correct the name, or DNS")
    except TimeoutError:
        return failed(
            "kafka",
            f"{name} {server}",
            f"no answer within {_CONNECT_SECONDS:.0f} s",
            "a firewall or network policy drops the packets, or the address is wrong",
        )
    except OSError as error:
        return failed(
            "kafka",
            f"{name} {server}",
            f"{error.strerror}",
            "start the broker, or correct host and port; `make up` starts one to try",
        )


def _cluster(settings: ServiceSettings) -> list[Finding]:
    try:
        found = AdminClient(client_config(settings)).list_topics(timeout=10)
    except KafkaException as error:
        protocol = settings.kafka_security_protocol
        return [
            failed(
                "kafka",
                "protocol",
                f"connects, but does not speak with us: {error.args[0].str()}",
                f"WEIR_KAFKA_SECURITY_PROTOCOL is {protocol}: it must be what that listener speaks, with CA file and credentials",
            )
        ]
    except Exception as error:  # a configuration that librdkafka refuses comes as more than one kind
        return [failed("kafka", "client", f"librdkafka refuses the settings: {error}", "see the WEIR_KAFKA_… settings")]
    findings = [good("kafka", "cluster", f"{found.cluster_id}: {len(found.brokers)} broker(s), {len(found.topics)} topics")]
    # What brokers advertise is what clients use after the first contact: the classic reason why it connects and yet hangs.
    for broker in found.brokers.values():
        reached = _reach("advertised", f"{broker.host}:{broker.port}")
        if reached.cure:
            reached = failed(
                "kafka", reached.name, reached.text, "the broker's advertised.listeners name an address this host cannot reach"
            )
        findings.append(reached)
    return findings + _topics(settings)


def _topics(settings: ServiceSettings) -> list[Finding]:
    try:
        states = topics.check(settings)
    except topics.TopicsUnavailable as error:
        return [failed("topics", "all", str(error), "the cluster must let this user describe topics and their configuration")]
    wrong = [state for state in states if state.problem]
    if not wrong:
        return [good("topics", f"{settings.topic_prefix}.*", f"all {len(states)} are as declared")]
    missing = [state.name for state in wrong if not state.exists]
    findings = []
    if missing:
        findings.append(
            failed(
                "topics",
                f"{settings.topic_prefix}.*",
                f"{len(missing)} missing: {', '.join(missing[:4])}{' …' if len(missing) > 4 else ''}",
                "`weir topics apply` creates them",
            )
        )
    findings += [
        warning("topics", state.name, state.problem, "`weir topics list` shows all; nothing is changed behind your back")
        for state in wrong
        if state.exists
    ]
    return findings
