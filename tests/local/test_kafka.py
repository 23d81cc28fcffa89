"""The real broker: keeps its data over stops and crashes, stands beside another, and says why it does not start."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from weir.local.downloads import fetch_kafka
from weir.local.errors import LocalError, PortInUseError, StartError
from weir.local.kafka import Kafka, answers

pytestmark = pytest.mark.kafka


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kafka]:
    """A broker of this module's own, which its tests may stop and kill."""
    fetch_kafka(lambda _: None)
    with Kafka(tmp_path_factory.mktemp("own-kafka")) as kafka:
        yield kafka


def _create(kafka: Kafka, topic: str) -> None:
    client = AdminClient({"bootstrap.servers": kafka.bootstrap_servers})
    for future in client.create_topics([NewTopic(topic, 1, 1)]).values():
        future.result(20)


def _produce(kafka: Kafka, topic: str, values: list[bytes]) -> None:
    producer = Producer({"bootstrap.servers": kafka.bootstrap_servers, "acks": "all"})
    for value in values:
        producer.produce(topic, value)
    assert producer.flush(20) == 0


def _read(kafka: Kafka, topic: str, count: int) -> list[bytes]:
    consumer = Consumer({"bootstrap.servers": kafka.bootstrap_servers, "group.id": "unused", "enable.auto.commit": False})
    try:
        consumer.assign([TopicPartition(topic, 0, 0)])
        return [message.value() for message in consumer.consume(count, 20)]
    finally:
        consumer.close()


def test_the_sessions_broker_answers(kafka: str) -> None:
    assert answers(kafka)


def test_records_survive_a_stop_and_a_crash(broker: Kafka, topic_prefix: str) -> None:
    _create(broker, topic_prefix)
    _produce(broker, topic_prefix, [b"1"])
    broker.stop()
    assert broker.pid is None
    assert not answers(broker.bootstrap_servers, 0.5)
    broker.start()
    _produce(broker, topic_prefix, [b"2"])
    broker.kill()
    broker.start()
    assert _read(broker, topic_prefix, 2) == [b"1", b"2"]


def test_only_the_loopback_address_is_served(broker: Kafka) -> None:
    with socket.socket() as other, pytest.raises(OSError, match="refused"):
        other.connect(("127.0.0.2", broker.port))


def test_a_misspelt_topic_is_not_created(broker: Kafka, topic_prefix: str) -> None:
    client = AdminClient({"bootstrap.servers": broker.bootstrap_servers, "allow.auto.create.topics": True})
    client.list_topics(topic_prefix, timeout=10)
    assert topic_prefix not in client.list_topics(timeout=10).topics


def test_a_second_broker_stands_beside_the_first(broker: Kafka, tmp_path: Path, topic_prefix: str) -> None:
    with Kafka(tmp_path / "second") as second:
        _create(second, topic_prefix)
        _produce(second, topic_prefix, [b"x"])
        assert topic_prefix not in AdminClient({"bootstrap.servers": broker.bootstrap_servers}).list_topics(timeout=10).topics
        assert os.getsid(second.pid or 0) == second.pid


def test_a_port_in_use_names_the_process_and_the_setting(broker: Kafka, tmp_path: Path) -> None:
    with pytest.raises(PortInUseError, match=rf"port {broker.port} .* by java \(process {broker.pid}\)") as caught:
        Kafka(tmp_path / "third", port=broker.port).start()
    assert "WEIR_KAFKA_PORT" in caught.value.way_out


def test_the_same_data_is_not_used_by_two_at_a_time(broker: Kafka) -> None:
    with pytest.raises(StartError, match="another Kafka uses the data"):
        Kafka(broker.data_dir).start()
    assert answers(broker.bootstrap_servers)


def test_a_wrong_property_shows_what_kafka_says_about_it(tmp_path: Path) -> None:
    with pytest.raises(StartError, match=r"Invalid value abc for configuration log\.retention\.ms"):
        Kafka(tmp_path / "wrong", properties={"log.retention.ms": "abc"}).start()


def test_a_death_while_starting_shows_the_last_log_lines(tmp_path: Path) -> None:
    with pytest.raises(StartError, match="ended while it started") as caught:
        # Good enough to format by, and refused by the running broker.
        Kafka(tmp_path / "dies", properties={"metric.reporters": "no.such.Reporter"}).start()
    assert "no.such.Reporter" in caught.value.what


def test_a_path_that_its_configuration_cannot_hold_is_refused() -> None:
    with pytest.raises(LocalError, match="comma"):
        Kafka(Path("a,b"))
