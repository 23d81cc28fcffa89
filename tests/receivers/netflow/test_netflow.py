"""The NetFlow receiver with real sockets and a real Kafka: every batch decodes from its own content."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.receivers.fakes import FakeProducer
from tests.receivers.harness import TopicReader, make_topics, reading, running
from tests.support import eventually
from weir.model.batch import RawBatch
from weir.model.topics import TopicNames
from weir.protocols.netflow import Decoder, SamplingRecord, TemplateRecord
from weir.protocols.netflow.encode import DataSet, FieldSpec, Message, Template, V5Datagram, V5Flow, encode, encode_v5, ipv4
from weir.receivers.netflow.receiver import SERVICE, NetflowReceiver, NetflowSettings, build
from weir.receivers.publishing.publisher import Publisher

pytestmark = pytest.mark.kafka

SECONDS = 1_790_000_000
STATE = "state.netflow-templates"
# Source and destination address, octets, packets, protocol.
FLOW = Template(256, [FieldSpec(8, 4), FieldSpec(12, 4), FieldSpec(1, 4), FieldSpec(2, 4), FieldSpec(4, 1)])
# The same fields of other lengths under the same id: bytes of the one decode to nonsense with the other.
OTHER = Template(256, [FieldSpec(12, 4), FieldSpec(8, 4), FieldSpec(4, 1), FieldSpec(2, 8), FieldSpec(1, 8)])
# v9 options: scope system, samplerId, samplerRandomInterval (elements 48 and 50).
SAMPLER = Template(300, [FieldSpec(48, 1), FieldSpec(50, 4)], scopes=[FieldSpec(1, 4)], is_options=True)


def message(*sets: Template | DataSet, version: int = 9, domain: int = 7, sequence: int = 0) -> bytes:
    return encode(Message(version, SECONDS, sets, domain=domain, sequence=sequence, uptime=1_000))


def flow(last: int, octets: int = 100) -> DataSet:
    return DataSet(FLOW, [[ipv4("10.0.0.1"), ipv4(f"10.0.0.{last}"), octets, 1, 6]])


def other(last: int, octets: int = 100) -> DataSet:
    return DataSet(OTHER, [[ipv4(f"10.0.0.{last}"), ipv4("10.0.0.1"), 6, 1, octets]])


def settings_for(kafka: str, prefix: str, **values: Any) -> NetflowSettings:
    options = {
        "netflow_host": "127.0.0.1",
        "netflow_port": 0,
        "ipfix_port": -1,
        "sflow_port": -1,
        "ipfix_tcp_port": -1,
        "ipfix_tls_port": -1,
        "receiver_linger_ms": 50,
        "receiver_udp_buffer_bytes": 65_536,
        "instance": "tester",
        **values,
    }
    return NetflowSettings(kafka_bootstrap_servers=kafka, topic_prefix=prefix, **options)


@pytest.fixture
def names(kafka: str, topic_prefix: str) -> TopicNames:
    return make_topics(kafka, topic_prefix, "raw.netflow", STATE)


@pytest.fixture
def raw(kafka: str, names: TopicNames) -> Iterator[TopicReader]:
    with reading(kafka, names["raw.netflow"]) as reader:
        yield reader


@pytest.fixture
def state(kafka: str, names: TopicNames) -> Iterator[TopicReader]:
    with reading(kafka, names[STATE]) as reader:
        yield reader


class Exporter:
    """Sends from an address of its own."""

    def __init__(self, port: int, address: str = "127.0.0.1") -> None:
        self._sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._sock.bind((address, 0))
        self._to = ("127.0.0.1", port)

    def __enter__(self) -> Exporter:
        return self

    def __exit__(self, *_: object) -> None:
        self._sock.close()

    def send(self, *datagrams: bytes) -> None:
        for datagram in datagrams:
            self._sock.sendto(datagram, self._to)


def decoded(batches: list[RawBatch]) -> list[tuple[str, str, int]]:
    """(exporter, destination, octets) of every flow, each batch decoded from its own content alone."""
    found = []
    for batch in batches:
        decoder = Decoder(
            [TemplateRecord(t.version, t.observation_domain, t.template_id, t.options, t.record) for t in batch.flow_templates],
            [SamplingRecord(s.version, s.observation_domain, s.selector_id, s.interval) for s in batch.flow_samplings],
        )
        for unit in batch.units:
            result = decoder.decode(unit)
            assert result.complete, (result.errors, result.unknown_templates)
            found += [(batch.source_ip, str(f["destination_ip"]), int(f["network_bytes"])) for f in result.flows]
    return found


def test_v5_v9_and_ipfix_are_published_with_what_decodes_them(kafka: str, names: TopicNames, raw: TopicReader) -> None:
    v5 = encode_v5(V5Datagram([V5Flow("10.0.0.1", "10.0.0.5", packets=1, octets=55)], export_seconds=SECONDS))
    with running(settings_for(kafka, names.prefix), SERVICE, build) as run, Exporter(run.receiver.port) as exporter:
        exporter.send(v5, message(FLOW, flow(9, 99)), message(FLOW, version=10), message(flow(10, 100), version=10))
        eventually(lambda: len(raw.units()) == 4)
    assert [d[1:] for d in decoded(raw.batches())] == [("10.0.0.5", 55), ("10.0.0.9", 99), ("10.0.0.10", 100)]
    assert {b.transport for b in raw.batches()} == {"udp"}


def test_after_a_restart_the_first_data_decodes_without_a_new_template(
    kafka: str, names: TopicNames, raw: TopicReader, state: TopicReader
) -> None:
    """Template and sampling interval come from the state topic."""
    options = [message(SAMPLER), message(DataSet(SAMPLER, [[1, 0, 100]]))]
    with running(settings_for(kafka, names.prefix), SERVICE, build) as run, Exporter(run.receiver.port) as exporter:
        exporter.send(message(FLOW), *options)
        eventually(lambda: len(state.poll()) == 4)
    assert sorted(state.keys) == [
        "127.0.0.1|9|7|run|0",
        "127.0.0.1|9|7|sampling|0",
        "127.0.0.1|9|7|template|256",
        "127.0.0.1|9|7|template|300",
    ]
    with running(settings_for(kafka, names.prefix), SERVICE, build) as run, Exporter(run.receiver.port) as exporter:
        exporter.send(message(flow(42, 4_242)))
        batch = eventually(lambda: next((b for b in raw.batches() if message(flow(42, 4_242)) in b.units), None))
    assert decoded([batch]) == [("127.0.0.1", "10.0.0.42", 424_200)]  # scaled by 1 in 100
    assert [(s.selector_id, s.interval) for s in batch.flow_samplings] == [(0, 100.0)]
    assert len(state.poll()) == 4, "what is known already is not written again"


def test_exporters_with_the_same_domain_and_template_id_do_not_mix(kafka: str, names: TopicNames, raw: TopicReader) -> None:
    with (
        running(settings_for(kafka, names.prefix), SERVICE, build) as run,
        Exporter(run.receiver.port, "127.0.0.1") as one,
        Exporter(run.receiver.port, "127.0.0.2") as two,
    ):
        one.send(message(FLOW))
        two.send(message(OTHER))
        one.send(message(flow(1, 11)))
        two.send(message(other(2, 22)))
        eventually(lambda: len(raw.units()) == 4)
    assert sorted(decoded(raw.batches())) == [("127.0.0.1", "10.0.0.1", 11), ("127.0.0.2", "10.0.0.2", 22)]


def test_a_template_that_changes_closes_the_batch_first(kafka: str, names: TopicNames, raw: TopicReader) -> None:
    """Data of the old and of the new definition arrive within one linger, and all of it decodes."""
    with running(settings_for(kafka, names.prefix, receiver_linger_ms=2_000), SERVICE, build) as run:
        with Exporter(run.receiver.port) as exporter:
            exporter.send(
                message(FLOW), message(flow(1, 11)), message(OTHER), message(other(2, 22)), message(FLOW), message(flow(3, 33))
            )
        eventually(lambda: len(raw.units()) == 6)
    assert [d[1:] for d in decoded(raw.batches())] == [("10.0.0.1", 11), ("10.0.0.2", 22), ("10.0.0.3", 33)]
    assert len(raw.batches()) == 3


def test_data_before_its_template_is_held_until_the_template_comes(kafka: str, names: TopicNames, raw: TopicReader) -> None:
    with running(settings_for(kafka, names.prefix, netflow_hold_seconds=60), SERVICE, build) as run:
        receiver: NetflowReceiver = run.receiver
        with Exporter(receiver.port) as exporter:
            exporter.send(message(flow(1, 11)), message(flow(2, 22)))
            eventually(lambda: len(receiver.hold) == 2)
            assert raw.units() == []
            exporter.send(message(FLOW))
            eventually(lambda: len(raw.units()) == 3)
        assert not len(receiver.hold)
    assert sorted(d[1:] for d in decoded(raw.batches())) == [("10.0.0.1", 11), ("10.0.0.2", 22)]


def test_data_whose_template_never_comes_is_published_all_the_same(kafka: str, names: TopicNames, raw: TopicReader) -> None:
    with running(settings_for(kafka, names.prefix, netflow_hold_seconds=0.2), SERVICE, build) as run:
        with Exporter(run.receiver.port) as exporter:
            exporter.send(message(flow(1)))
        eventually(lambda: raw.units() == [message(flow(1))])
    assert raw.batches()[0].flow_templates == []


def test_what_is_held_is_bounded_and_the_oldest_goes_first(kafka: str, names: TopicNames, raw: TopicReader) -> None:
    with running(settings_for(kafka, names.prefix, netflow_hold_seconds=60, netflow_hold_datagrams=3), SERVICE, build) as run:
        receiver: NetflowReceiver = run.receiver
        with Exporter(receiver.port) as exporter:
            exporter.send(*(message(flow(n)) for n in range(1, 6)))
        eventually(lambda: len(raw.units()) == 2)
        assert len(receiver.hold) == 3
        assert raw.units() == [message(flow(1)), message(flow(2))]
        assert run.stop() == 0
    eventually(lambda: len(raw.units()) == 5)


def test_what_one_replica_learned_the_other_uses(kafka: str, names: TopicNames, raw: TopicReader) -> None:
    """The template goes to one receiver while the other already holds data for it."""
    with (
        running(settings_for(kafka, names.prefix, instance="one"), SERVICE, build) as one,
        running(settings_for(kafka, names.prefix, instance="two", netflow_hold_seconds=60), SERVICE, build) as two,
        Exporter(two.receiver.port) as to_two,
        Exporter(one.receiver.port) as to_one,
    ):
        to_two.send(message(flow(5, 55)))
        eventually(lambda: two.receiver.hold)
        to_one.send(message(FLOW))
        eventually(lambda: len(raw.units()) == 2)
    assert decoded([b for b in raw.batches() if b.receiver == "two"]) == [("127.0.0.1", "10.0.0.5", 55)]


def test_two_receivers_that_share_an_exporter_decode_everything_also_after_a_restart(
    kafka: str, names: TopicNames, raw: TopicReader
) -> None:
    """Templates go to the one only and data to the other; then both start anew and no template comes any more."""
    one, two = (settings_for(kafka, names.prefix, instance=name) for name in ("one", "two"))
    octets = range(1, 201)
    with (
        running(one, SERVICE, build) as first,
        running(two, SERVICE, build) as second,
        Exporter(first.receiver.port) as to_first,
        Exporter(second.receiver.port) as to_second,
    ):
        to_first.send(message(SAMPLER, FLOW), message(DataSet(SAMPLER, [[1, 0, 10]])))
        eventually(lambda: len(raw.units()) == 2)
        # Data that came before its template would wait for it; before its sampling value it would not.
        eventually(lambda: (known := second.receiver.exporters.find("127.0.0.1")) and known.store.sampling(9, 7))
        for start in range(0, 200, 40):  # no more at once than the kernel's buffer holds on a busy machine
            to_second.send(*(message(flow(n % 250, n), sequence=n) for n in octets[start : start + 40]))
            eventually(lambda start=start: len(raw.units()) == 2 + start + 40)  # type: ignore[misc]
        eventually(lambda: len(raw.units()) == 202)
    with (
        running(one, SERVICE, build) as first,
        running(two, SERVICE, build) as second,
        Exporter(first.receiver.port) as to_first,
        Exporter(second.receiver.port) as to_second,
    ):
        to_first.send(message(flow(1, 1_000), sequence=201))
        to_second.send(message(flow(2, 2_000), sequence=202))
        eventually(lambda: len(raw.units()) == 204)
    found = sorted(octets for _, _, octets in decoded(raw.batches()))
    assert found == [10 * n for n in octets] + [10_000, 20_000]
    assert all(b.without_template == [] for b in raw.batches())


def test_while_kafka_is_away_at_the_start_the_local_copy_decodes(
    kafka: str, names: TopicNames, raw: TopicReader, tmp_path: Path
) -> None:
    """A receiver that has seen the state topic starts while no broker answers."""
    chosen = settings_for(kafka, names.prefix, instance="one", netflow_state_dir=tmp_path)
    with running(chosen, SERVICE, build) as run, Exporter(run.receiver.port) as exporter:
        exporter.send(message(FLOW))
        eventually(lambda: len(raw.units()) == 1)
    away = settings_for(
        "127.0.0.1:1", names.prefix, netflow_state_dir=tmp_path, netflow_state_seconds=0.2, receiver_stop_seconds=0.1
    )
    with running(away, SERVICE, build) as run, Exporter(run.receiver.port) as exporter:
        receiver: NetflowReceiver = run.receiver
        found = receiver.exporters.find("127.0.0.1")
        assert found is not None
        assert found.store.template(9, 7, 256) is not None
        exporter.send(message(flow(1)))
        eventually(lambda: receiver.publisher.memory.used)
        assert len(receiver.hold) == 0, "nothing has to wait for its template"


def test_what_is_no_flow_datagram_is_published_for_the_dead_letters(kafka: str, names: TopicNames, raw: TopicReader) -> None:
    sent = [b"", b"\0", b"\0\x63 no such version", message(FLOW)[:10], message(FLOW)[:30]]
    with running(settings_for(kafka, names.prefix), SERVICE, build) as run, Exporter(run.receiver.port) as exporter:
        exporter.send(*sent)
        eventually(lambda: raw.units() == sent)


def test_exporters_are_bounded_and_the_one_pushed_out_keeps_its_open_batch(kafka: str, names: TopicNames, raw: TopicReader) -> None:
    chosen = settings_for(kafka, names.prefix, netflow_max_exporters=2, receiver_linger_ms=5_000)
    with running(chosen, SERVICE, build) as run:
        receiver: NetflowReceiver = run.receiver
        for last in range(1, 5):
            with Exporter(receiver.port, f"127.0.0.{last}") as exporter:
                exporter.send(message(FLOW), message(flow(last, last)))
        eventually(lambda: len(receiver.exporters) == 2 and receiver.exporters.find("127.0.0.4"))
        assert [e.ip for e in receiver.exporters] == ["127.0.0.3", "127.0.0.4"]
        assert run.stop() == 0
    eventually(lambda: len(raw.units()) == 8)
    assert sorted(decoded(raw.batches())) == [(f"127.0.0.{n}", f"10.0.0.{n}", n) for n in range(1, 5)]


_WHOLE = message(FLOW, flow(1))
_datagrams = st.one_of(
    st.binary(max_size=200),
    st.sampled_from([message(FLOW), message(OTHER), message(SAMPLER), message(flow(1)), message(DataSet(SAMPLER, [[1, 0, 5]]))]),
    st.builds(
        lambda d, at, b: d[:at] + bytes([b]) + d[at + 1 :], st.just(message(FLOW, flow(1))), st.integers(0, 80), st.integers(0, 255)
    ),
)


@given(st.lists(st.tuples(st.integers(1, 4), _datagrams), max_size=40))
@settings(max_examples=60, deadline=None)
def test_whatever_comes_is_published_once_and_nothing_is_kept(sent: list[tuple[int, bytes]]) -> None:
    async def main() -> FakeProducer:
        fake = FakeProducer(prompt=True)
        chosen = settings_for("127.0.0.1:1", "weir", netflow_max_exporters=2, netflow_hold_datagrams=3, netflow_hold_seconds=60)
        publisher = Publisher(chosen, service=SERVICE, topic="raw.netflow", make_producer=lambda: fake)
        receiver = NetflowReceiver(chosen, publisher)
        for who, datagram in sent:
            receiver.take([(datagram, (f"192.0.2.{who}", 1))], 2055)
            assert len(receiver.exporters) <= 2
            assert len(receiver.hold) <= 3
        await receiver.stop()
        await publisher.stop()
        assert publisher.memory.used == 0
        return fake

    fake = asyncio.run(main())
    published = [(b.source_ip, unit) for b in fake.batches("weir.raw.netflow.v1") for unit in b.units]
    assert sorted(published) == sorted((f"192.0.2.{who}", datagram) for who, datagram in sent)


def test_without_kafka_the_socket_opens_after_its_deadline() -> None:
    chosen = settings_for("127.0.0.1:1", "nowhere", netflow_state_seconds=0.2, receiver_stop_seconds=0.1)
    with running(chosen, SERVICE, build) as run, Exporter(run.receiver.port) as exporter:
        receiver: NetflowReceiver = run.receiver
        exporter.send(message(FLOW))
        eventually(lambda: receiver.exporters)
        assert not receiver.loaded.is_set()
        assert run.stop(), "what Kafka did not take is told"
