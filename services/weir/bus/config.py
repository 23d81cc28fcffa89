"""From settings to librdkafka's configuration."""

from __future__ import annotations

import logging
from typing import Any

from confluent_kafka import KafkaError, KafkaException

from weir.ops.logging import EachOnceAWhile
from weir.ops.settings import ServiceSettings

__all__ = ["DeliveryFailed", "client_config", "consumer_config", "kafka_logger", "producer_config"]


class DeliveryFailed(Exception):
    """Kafka refused or gave up on a record; nothing that depends on it may be acknowledged.

    `fatal`: the producer will take nothing any more and must be replaced. `retriable`: librdkafka says that the same record may
    be taken another time. `purged`: the record was taken back before it was sent.
    """

    def __init__(self, message: str, *, fatal: bool = False, retriable: bool = False, purged: bool = False) -> None:
        super().__init__(message)
        self.fatal = fatal
        self.retriable = retriable
        self.purged = purged

    @classmethod
    def of(cls, topic: str | None, error: object) -> DeliveryFailed:
        """What a KafkaError, or an exception that holds one, means for a record of this topic."""
        cause = error.args[0] if isinstance(error, KafkaException) and error.args else error
        if not isinstance(cause, KafkaError):
            return cls(f"{topic}: {error}")
        # Of a producer with a fatal error each further record fails with _FATAL, which does not call itself fatal.
        fatal = cause.fatal() or cause.code() == KafkaError._FATAL
        purged = cause.code() in (KafkaError._PURGE_QUEUE, KafkaError._PURGE_INFLIGHT)
        return cls(f"{topic}: {cause}", fatal=fatal, retriable=cause.retriable(), purged=purged)


def kafka_logger() -> logging.Logger:
    """Where librdkafka's own messages go: into this process's log, each kind at most every ten seconds."""
    logger = logging.getLogger("librdkafka")
    if not logger.filters:
        # Tools and tests do without `weir.ops.logging.configure`, and without its limit.
        logger.addFilter(EachOnceAWhile(10.0, ("librdkafka",)))
    return logger


def client_config(settings: ServiceSettings) -> dict[str, Any]:
    """What every client needs: brokers, security, identity."""
    config: dict[str, Any] = {
        "bootstrap.servers": settings.kafka_bootstrap_servers,
        "security.protocol": settings.kafka_security_protocol,
        "client.id": f"weir-{settings.instance}",
        # A broker that is away is tried again soon; the default of 10 s makes every restart look long.
        "reconnect.backoff.ms": 250,
        "reconnect.backoff.max.ms": 2000,
        "logger": kafka_logger(),
        "socket.keepalive.enable": True,
    }
    optional = {
        "ssl.ca.location": settings.kafka_ssl_ca_file,
        "ssl.certificate.location": settings.kafka_ssl_certificate_file,
        "ssl.key.location": settings.kafka_ssl_key_file,
        "sasl.mechanism": settings.kafka_sasl_mechanism,
        "sasl.username": settings.kafka_sasl_username,
        "sasl.password": settings.kafka_sasl_password.get_secret_value() if settings.kafka_sasl_password else None,
    }
    config.update({name: str(value) for name, value in optional.items() if value is not None})
    return config


def producer_config(settings: ServiceSettings, **overrides: Any) -> dict[str, Any]:
    """An idempotent producer that waits for all in-sync replicas and keeps the order of each partition."""
    return {
        **client_config(settings),
        "enable.idempotence": True,
        "acks": "all",
        "compression.type": settings.kafka_compression,
        "linger.ms": 20,
        "batch.size": 512_000,
        # Bounded memory: what is not yet acknowledged by Kafka.
        "queue.buffering.max.kbytes": 65_536,
        "queue.buffering.max.messages": 200_000,
        "delivery.timeout.ms": 120_000,
        # A raw record of 900 kB, or an event near the limit, with the headers of a dead letter on top.
        "message.max.bytes": 1_048_576,
        **overrides,
    }


def consumer_config(settings: ServiceSettings, group: str, **overrides: Any) -> dict[str, Any]:
    """A consumer with explicit commits that starts at the earliest record; static membership by instance name."""
    return {
        **client_config(settings),
        "group.id": group,
        "group.instance.id": settings.instance,
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        "auto.offset.reset": "earliest",
        "partition.assignment.strategy": "cooperative-sticky",
        "session.timeout.ms": 45_000,
        "max.poll.interval.ms": 600_000,
        "queued.max.messages.kbytes": 16_384,
        "fetch.message.max.bytes": 1_048_576,
        **overrides,
    }
