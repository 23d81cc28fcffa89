"""Quarantine, released on a real Kafka: what goes where, what stays, and that nothing goes twice unasked."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import pytest

from tests.receivers.harness import TopicReader, make_topics
from tests.support import deliver_now, eventually
from weir.bus.codec import Encoder
from weir.bus.producer import DeliveryProducer
from weir.bus.topics import TopicsUnavailable
from weir.model.batch import RawBatch
from weir.model.ids import new_batch_id
from weir.model.ledger import LedgerCounts, LedgerEntry
from weir.model.sources import network_of, read_catalogue
from weir.model.topics import TopicNames
from weir.ops.settings import ServiceSettings
from weir.receivers.publishing.publisher import TOPIC_HEADER
from weir.tools.ledger import read_ledger
from weir.tools.quarantine import Released, release
from weir.tools.sources_report import released_lines

pytestmark = pytest.mark.kafka


@dataclass
class Quarantine:
    settings: ServiceSettings
    names: TopicNames
    producer: DeliveryProducer
    raw: TopicReader

    def put(self, source: str, *units: bytes, key: str = "", target: str = "raw.syslog", value: bytes | None = None) -> bytes:
        batch = RawBatch(new_batch_id(), "s", "r", "udp", source, 5514, 1_790_000_000_000_000, list(units))
        headers = [(TOPIC_HEADER, self.names[target].encode())] if target else []
        value = Encoder("raw-batch")(batch.to_record()) if value is None else value
        deliver_now(self.producer, self.names["raw.quarantine"], value, key=key or source, headers=headers)
        return batch.batch_id

    def released(self, count: int) -> list[RawBatch]:
        eventually(lambda: len(self.raw.poll()) >= count)
        assert len(self.raw.poll()) == count
        return self.raw.batches()


@pytest.fixture
def quarantine(kafka: str, topic_prefix: str) -> Iterator[Quarantine]:
    names = make_topics(kafka, topic_prefix, "raw.syslog", "raw.quarantine")
    settings = ServiceSettings(kafka_bootstrap_servers=kafka, topic_prefix=topic_prefix, instance="tester")
    producer = DeliveryProducer(settings)
    raw = TopicReader(kafka, names["raw.syslog"])
    yield Quarantine(settings, names, producer, raw)
    raw.close()
    producer.close(1.0)


def test_batches_go_once_byte_for_byte_in_order_and_others_stay(quarantine: Quarantine) -> None:
    ids = [quarantine.put("192.0.2.1", b"one"), quarantine.put("192.0.2.1", b"two", b"three", key="192.0.2.1#1")]
    quarantine.put("203.0.113.1", b"not asked for")
    found = release(quarantine.settings, network_of("192.0.2.0/24"))
    assert (found.batches, found.units, found.before, found.left) == ({"raw.syslog": 2}, {"raw.syslog": 3}, 0, {})
    batches = quarantine.released(2)
    assert [b.batch_id for b in batches] == ids
    assert [b.units for b in batches] == [[b"one"], [b"two", b"three"]]
    assert quarantine.raw.keys == ["192.0.2.1", "192.0.2.1#1"]

    later = quarantine.put("192.0.2.1", b"four")
    found = release(quarantine.settings, network_of("192.0.2.1"))
    assert (found.batches, found.before) == ({"raw.syslog": 1}, 2)
    assert release(quarantine.settings, network_of("192.0.2.1")).before == 3
    assert release(quarantine.settings, network_of("192.0.2.1"), again=True).batches == {"raw.syslog": 3}
    assert [b.batch_id for b in quarantine.released(6)] == [*ids, later, *ids, later]


def test_what_cannot_be_released_stays_and_is_said(quarantine: Quarantine) -> None:
    quarantine.put("192.0.2.1", b"x", target="")
    quarantine.put("192.0.2.1", b"x", target="alerts")
    quarantine.put("192.0.2.1", value=b"\x07garbage")
    found = release(quarantine.settings, network_of("192.0.2.1"))
    assert found.batches == {}
    assert sorted(reason[:20] for reason in found.left) == [
        "meant for '" + quarantine.names.prefix[:9],
        "names no topic it wa",
        "no raw batch: first ",
    ]
    assert len(released_lines(found, "192.0.2.1")) == 3


def test_a_catalogue_labels_what_is_released(quarantine: Quarantine) -> None:
    batch_id = quarantine.put("192.0.2.1", b"one")
    known = "sources: [{name: nas, address: 192.0.2.1, tenant: t, vendor: v, site: w, time_zone: Asia/Tokyo, copies: true}]"
    release(quarantine.settings, network_of("192.0.2.1"), catalogue=read_catalogue(known))
    (batch,) = quarantine.released(1)
    assert (batch.batch_id, batch.units) == (batch_id, [b"one"])
    assert (batch.source_name, batch.tenant, batch.source_vendor, batch.site, batch.time_zone) == (
        "nas",
        "t",
        "v",
        "w",
        "Asia/Tokyo",
    )
    assert len(batch.content_hashes) == 8


def test_an_empty_quarantine_is_said_in_a_sentence() -> None:
    assert released_lines(Released(), "192.0.2.1") == ["Nothing of 192.0.2.1 waits in quarantine."]


def test_no_topic_and_no_broker_are_told_apart_from_nothing(kafka: str, topic_prefix: str) -> None:
    settings = ServiceSettings(kafka_bootstrap_servers=kafka, topic_prefix=topic_prefix, instance="tester")
    with pytest.raises(TopicsUnavailable, match="weir topics apply"):
        release(settings, network_of("192.0.2.1"))


def test_the_ledger_is_read_from_a_time_on_and_foreign_records_are_left_out(quarantine: Quarantine) -> None:
    topic, encode = quarantine.names["ledger"], Encoder("ledger-entry")
    for number in range(4):
        entry = LedgerEntry("receive.syslog", "i", "s", quarantine.names["raw.syslog"], -1, number, number, number)
        entry.lines["192.0.2.1", 0, ""].add(LedgerCounts(units_in=number))
        other = replace(entry, service="process.syslog", partition=0)
        at = 1_790_000_000_000 + number * 60_000
        for one in (entry, other):
            deliver_now(quarantine.producer, topic, encode(one.to_record()), key=one.key, timestamp_ms=at)
        deliver_now(quarantine.producer, topic, b"garbage", timestamp_ms=at)
    since = (1_790_000_000_000 + 60_000) * 1000

    def found(all_since: int) -> list[tuple[str, int]]:
        entries = read_ledger(quarantine.settings, since, all_since_us=all_since)
        return sorted((e.service.partition(".")[0], e.first_offset) for e in entries)

    both = [(kind, number) for kind in ("process", "receive") for number in (1, 2, 3)]
    assert found(0) == both
    assert found(since + 61_000_000) == both[2:], "of what is older only receivers' entries are taken"
    assert list(read_ledger(quarantine.settings, since + 10**12)) == []
