"""Topics and delivery reports, against a real broker."""

from __future__ import annotations

import asyncio

import pytest
from confluent_kafka.admin import AdminClient, NewTopic

from tests.support import deliver_now, eventually
from weir.bus import topics
from weir.bus.config import DeliveryFailed
from weir.bus.consumer import BatchConsumer, Expired
from weir.bus.deadletter import dead_letter_headers, reason_of
from weir.bus.producer import Delivery, DeliveryProducer
from weir.model.topics import TopicNames, declarations
from weir.ops.settings import ServiceSettings

pytestmark = pytest.mark.kafka


@pytest.fixture
def settings(kafka: str, topic_prefix: str) -> ServiceSettings:
    return ServiceSettings(kafka_bootstrap_servers=kafka, topic_prefix=topic_prefix, instance="t")


def test_apply_creates_what_is_missing_once_and_check_agrees(settings: ServiceSettings) -> None:
    assert {s.problem for s in topics.check(settings)} == {"missing"}
    assert all(s.created for s in topics.apply(settings))
    again = topics.apply(settings)
    assert not any(s.created or s.problem for s in again)
    assert {s.spec.name for s in again} == set(declarations())


def test_apply_changes_nothing_that_is_there_but_says_what_differs(settings: ServiceSettings) -> None:
    name = TopicNames(settings.topic_prefix)["raw.syslog"]
    admin = AdminClient({"bootstrap.servers": settings.kafka_bootstrap_servers})
    admin.create_topics([NewTopic(name, 1, 1, config={"retention.ms": "1000"})])[name].result(10)
    found = {s.name: s for s in topics.apply(settings)}[name]
    assert not found.created
    assert found.partitions == 1
    assert "retention.ms is 1000" in found.problem
    assert "1 partitions, 4 wanted" in found.problem


def test_brokers_that_do_not_answer_are_named(settings: ServiceSettings) -> None:
    away = settings.model_copy(update={"kafka_bootstrap_servers": "127.0.0.1:1"})
    with pytest.raises(topics.TopicsUnavailable, match=r"127\.0\.0\.1:1"):
        topics.check(away, timeout=0.5)


def test_a_delivery_completes_when_kafka_has_all_of_it(settings: ServiceSettings) -> None:
    topics.apply(settings)
    producer = DeliveryProducer(settings)
    topic = TopicNames(settings.topic_prefix)["events.syslog"]

    async def scenario() -> None:
        future, delivery = producer.future_delivery()
        for n in range(500):
            producer.produce(topic, b"%d" % n, delivery=delivery)
        await asyncio.sleep(0)
        assert not future.done()
        delivery.seal()
        await asyncio.wait_for(future, 20)

    asyncio.run(scenario())
    assert producer.close() == 0


def test_an_empty_delivery_completes_at_once() -> None:
    heard: list[DeliveryFailed | None] = []
    Delivery(heard.append).seal()
    assert heard == [None]


def test_a_topic_that_is_not_there_fails_the_delivery_by_name(settings: ServiceSettings) -> None:
    producer = DeliveryProducer(settings, delivery_timeout_ms=1500, request_timeout_ms=1000, linger_ms=0)
    topic = f"{settings.topic_prefix}.nowhere"
    with pytest.raises(DeliveryFailed, match="nowhere"):
        deliver_now(producer, topic, b"x", timeout=20)
    with pytest.raises(DeliveryFailed, match="weir topics apply"):
        producer.partitions(topic)
    producer.close()


def test_a_record_that_can_never_be_sent_fails_at_once(settings: ServiceSettings) -> None:
    producer = DeliveryProducer(settings)
    with pytest.raises(DeliveryFailed, match=r"MSG_SIZE_TOO_LARGE|too large"):
        deliver_now(producer, "any", b"x" * 2_000_000)
    producer.close()


def test_a_group_reads_from_the_earliest_record_and_goes_on_where_it_committed(settings: ServiceSettings) -> None:
    topics.apply(settings)
    topic = TopicNames(settings.topic_prefix)["alerts"]
    producer = DeliveryProducer(settings)
    for n in range(10):
        deliver_now(producer, topic, b"%d" % n)
    group = f"{settings.topic_prefix}.g"
    first = BatchConsumer(settings, group, [topic], session_timeout_ms=6000)
    seen = eventually(lambda: first.read(4, 0.5), 30)
    assert [m.value() for m in seen] == [b"0", b"1", b"2", b"3"][: len(seen)]
    first.commit({(topic, 0): 2})
    first.close()
    second = BatchConsumer(settings, group, [topic])
    again = eventually(lambda: second.read(1, 0.5), 30)
    assert again[0].offset() == 2
    second.close()
    producer.close()


def test_committed_offsets_that_have_expired_are_told_and_not_jumped_in_silence(settings: ServiceSettings) -> None:
    topics.apply(settings)
    topic = TopicNames(settings.topic_prefix)["alerts"]
    producer = DeliveryProducer(settings)
    for n in range(10):
        deliver_now(producer, topic, b"%d" % n)
    group = f"{settings.topic_prefix}.g"
    reader = BatchConsumer(settings, group, [topic])
    eventually(lambda: reader.read(1, 0.5), 30)
    reader.commit({(topic, 0): 2})
    reader.close()
    from confluent_kafka import TopicPartition

    admin = AdminClient({"bootstrap.servers": settings.kafka_bootstrap_servers})
    for future in admin.delete_records([TopicPartition(topic, 0, 7)]).values():
        future.result(20)
    lost: list[Expired] = []
    late = BatchConsumer(settings, group, [topic], on_expired=lost.append)
    first = eventually(lambda: late.read(1, 0.5), 30)
    assert first[0].offset() == 7
    assert lost == [Expired(topic, 0, 2, 6)]
    late.close()
    producer.close()


def test_a_dead_letters_reason_is_read_back_under_connects_names() -> None:
    headers = dead_letter_headers(
        service="process.syslog", stage="decode", topic="t", partition=1, offset=2, error=ValueError("bad é")
    )
    named = dict(headers)
    assert named["__connect.errors.topic"] == b"t"
    assert named["__connect.errors.exception.class.name"] == b"ValueError"
    assert reason_of(headers) == "bad é"
