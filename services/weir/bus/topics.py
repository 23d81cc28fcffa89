"""Creating, checking and listing the declared topics. Nothing is ever shrunk, re-partitioned or deleted."""

from __future__ import annotations

import dataclasses
import os
import time
from dataclasses import dataclass

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic, ResourceType

from weir.bus.config import client_config
from weir.model.topics import TopicNames, TopicSpec
from weir.ops.settings import ServiceSettings

__all__ = ["TopicState", "TopicsUnavailable", "apply", "check", "wanted_partitions"]


class TopicsUnavailable(Exception):
    """The brokers did not answer, or refused; the message names the brokers and the cause."""


@dataclass(frozen=True, slots=True)
class TopicState:
    """One declared topic as found: `problem` is empty where it is as declared."""

    name: str
    spec: TopicSpec
    exists: bool
    partitions: int
    created: bool = False
    problem: str = ""


def wanted_partitions(spec: TopicSpec) -> int:
    """Partitions to create a topic with: as declared, or WEIR_TOPIC_PARTITIONS where the topic is scalable."""
    override = os.environ.get("WEIR_TOPIC_PARTITIONS", "")
    return int(override) if spec.scalable and override.isdigit() and int(override) > 0 else spec.partitions


def _replication() -> int:
    text = os.environ.get("WEIR_TOPIC_REPLICATION", "")
    return int(text) if text.isdigit() and int(text) > 0 else -1  # -1: the cluster's own default


def check(settings: ServiceSettings, timeout: float = 15.0) -> list[TopicState]:
    """Every declared topic as it is.

    Raises:
        TopicsUnavailable: no broker answered within `timeout` seconds.
    """
    admin = AdminClient(client_config(settings))
    names = TopicNames(settings.topic_prefix)
    try:
        existing = admin.list_topics(timeout=timeout).topics
        resources = [ConfigResource(ResourceType.TOPIC, full) for full, _ in names.items() if full in existing]
        configs = {
            resource.name: {entry.name: entry.value for entry in future.result(timeout).values()}
            for resource, future in (admin.describe_configs(resources).items() if resources else ())
        }
    except KafkaException as error:
        raise TopicsUnavailable(f"{settings.kafka_bootstrap_servers}: {error.args[0].str()}") from error
    states = []
    for full, spec in names.items():
        if full not in existing:
            states.append(TopicState(full, spec, exists=False, partitions=0, problem="missing"))
            continue
        partitions = len(existing[full].partitions)
        problems = [
            f"{key} is {configs[full].get(key)}, declared {value}"
            for key, value in spec.config().items()
            if configs[full].get(key) != value
        ]
        if partitions < wanted_partitions(spec) and spec.scalable:
            problems.append(
                f"{partitions} partitions, {wanted_partitions(spec)} wanted: a new version of the topic, not more partitions"
            )
        states.append(TopicState(full, spec, exists=True, partitions=partitions, problem="; ".join(problems)))
    return states


def apply(settings: ServiceSettings, timeout: float = 30.0) -> list[TopicState]:
    """Create what is missing and report what is not as declared.

    Raises:
        TopicsUnavailable: no broker answered, or one refused to create a topic.
    """
    states = check(settings)
    missing = [state for state in states if not state.exists]
    if not missing:
        return states
    admin = AdminClient(client_config(settings))
    new = [NewTopic(s.name, wanted_partitions(s.spec), _replication(), config=s.spec.config()) for s in missing]
    failures: list[str] = []
    made: set[str] = set()
    for name, future in admin.create_topics(new, operation_timeout=timeout).items():
        try:
            future.result(timeout)
            made.add(name)
        except KafkaException as error:
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:  # somebody else applied at the same time
                failures.append(f"{name}: {error.args[0].str()}")
    if failures:
        raise TopicsUnavailable("; ".join(failures))
    # A broker tells of a topic some moments after the controller has made it.
    deadline = time.monotonic() + timeout
    while unseen := [state.name for state in check(settings) if not state.exists]:
        if time.monotonic() > deadline:
            raise TopicsUnavailable(f"created {timeout:.0f} s ago, and the brokers do not show them: {', '.join(unseen)}")
        time.sleep(0.05)
    return [dataclasses.replace(state, created=state.name in made) for state in check(settings)]
