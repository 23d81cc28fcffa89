"""A receiver of flows with a producer in memory, what it is sent, and how its batches decode."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, cast
from unittest.mock import patch

from tests.receivers.fakes import FakeProducer
from tests.receivers.harness import Running, running
from tests.support import eventually
from weir.local.standins.certificates import CertificateFiles
from weir.model.batch import RawBatch
from weir.model.ledger import SequenceRange
from weir.protocols.netflow import Decoder, SamplingRecord, TemplateRecord
from weir.protocols.netflow.encode import DataSet, FieldSpec, Message, Template, Withdrawal, encode, ipv4
from weir.receivers.netflow import state
from weir.receivers.netflow.metrics import FlowMetrics
from weir.receivers.netflow.receiver import SERVICE, NetflowReceiver, NetflowSettings
from weir.receivers.publishing.publisher import Publisher

HOST = "127.0.0.1"
SECONDS = 1_790_000_000
# Source and destination address, octets, packets, protocol.
FLOW = Template(256, [FieldSpec(8, 4), FieldSpec(12, 4), FieldSpec(1, 4), FieldSpec(2, 4), FieldSpec(4, 1)])
# The same fields of other lengths under the same id: bytes of the one decode to nonsense with the other.
OTHER = Template(256, [FieldSpec(12, 4), FieldSpec(8, 4), FieldSpec(4, 1), FieldSpec(2, 8), FieldSpec(1, 8)])


def message(
    *sets: Template | DataSet | Withdrawal,
    version: int = 9,
    domain: int = 7,
    sequence: int = 0,
    uptime: int = 1_000,
    at: int = 0,
) -> bytes:
    """A datagram or message; `at` is seconds after SECONDS."""
    return encode(Message(version, SECONDS + at, sets, domain=domain, sequence=sequence, uptime=uptime))


def ipfix(*sets: Template | DataSet | Withdrawal, sequence: int = 0, domain: int = 7, at: int = 0) -> bytes:
    """An IPFIX message."""
    return message(*sets, version=10, domain=domain, sequence=sequence, at=at)


def flow(last: int, octets: int = 100, *, count: int = 1) -> DataSet:
    return DataSet(FLOW, [[ipv4("10.0.0.1"), ipv4(f"10.0.0.{last}"), octets, 1, 6]] * count)


def other(last: int, octets: int = 100) -> DataSet:
    return DataSet(OTHER, [[ipv4(f"10.0.0.{last}"), ipv4("10.0.0.1"), 6, 1, octets]])


def decoder_of(batch: RawBatch) -> Decoder:
    return Decoder(
        [TemplateRecord(t.version, t.observation_domain, t.template_id, t.options, t.record) for t in batch.flow_templates],
        [SamplingRecord(s.version, s.observation_domain, s.selector_id, s.interval) for s in batch.flow_samplings],
        withdrawals=batch.transport != "udp",
    )


def decoded(batches: list[RawBatch]) -> list[tuple[str, int]]:
    """(destination, octets) of every flow, each batch decoded from its own content alone."""
    found = []
    for batch in batches:
        decoder = decoder_of(batch)
        for unit in batch.units:
            result = decoder.decode(unit)
            assert result.complete, (result.errors, result.unknown_templates)
            found += [(str(f["destination_ip"]), int(f["network_bytes"] or 0)) for f in result.flows]
    return found


def options(**values: Any) -> dict[str, Any]:
    """Settings: no port is open but those that are named."""
    return {
        "netflow_host": HOST,
        "netflow_port": -1,
        "ipfix_port": -1,
        "sflow_port": -1,
        "ipfix_tcp_port": -1,
        "ipfix_tls_port": -1,
        "netflow_state_seconds": 0,
        "receiver_linger_ms": 20,
        "receiver_udp_buffer_bytes": 262_144,
        "receiver_ledger_seconds": 600,
        "instance": "tester",
        "site": "lab",
        **values,
    }


class AtWork:
    """A running receiver and what it has published, refused and counted."""

    def __init__(self, settings: NetflowSettings) -> None:
        self.settings = settings
        self.producer = FakeProducer(prompt=True)
        self.refused: list[str] = []
        self.events: list[str] = []
        self.restarts: list[str] = []
        self.run: Running

    def build(self, settings: NetflowSettings) -> NetflowReceiver:
        publisher = Publisher(settings, service=SERVICE, topic="raw.netflow", make_producer=lambda: cast(Any, self.producer))
        publisher.metrics.refused = self.refused.append  # type: ignore[assignment, method-assign]
        receiver = NetflowReceiver(settings, publisher)
        metrics: FlowMetrics = receiver._metrics
        metrics.template = lambda event, count=1: self.events.extend([event] * count)  # type: ignore[assignment, method-assign]
        metrics.restarted = self.restarts.append  # type: ignore[assignment, method-assign]
        return receiver

    @property
    def receiver(self) -> NetflowReceiver:
        found: NetflowReceiver = self.run.receiver
        return found

    def port(self, name: str) -> tuple[str, int]:
        return HOST, self.receiver.ports[name]

    def batches(self) -> list[RawBatch]:
        return self.producer.batches("weir.raw.netflow.v1")

    def units(self) -> list[bytes]:
        return [unit for batch in self.batches() for unit in batch.units]

    def sequences(self) -> list[SequenceRange]:
        """Of all ledger entries, once the receiver has stopped."""
        return [found for entry in self.producer.entries() for found in entry.sequences]

    def send(self, name: str, *datagrams: bytes) -> None:
        """One after the other, each taken before the next."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            for datagram in datagrams:
                sock.sendto(datagram, self.port(name))

    def call(self, what: Callable[..., object], *arguments: object) -> None:
        """Call it in the receiver's loop, and wait until that is done."""
        done = threading.Event()

        def now() -> None:
            what(*arguments)
            done.set()

        self.run._loop.call_soon_threadsafe(now)
        assert done.wait(10)

    def wait_for(self, count: int) -> list[RawBatch]:
        """The batches, once they hold so many units."""
        eventually(lambda: len(self.units()) >= count)
        return self.batches()


@contextmanager
def at_work(certificates: CertificateFiles | None = None, **values: Any) -> Iterator[AtWork]:
    """A receiver of flows; ports are opened by naming them, with 0."""
    chosen = options(**values)
    if certificates is not None:
        chosen |= {"tls_certificate_file": certificates.server, "tls_key_file": certificates.server_key}
        chosen |= {"tls_client_ca_file": certificates.ca}
    settings = NetflowSettings(kafka_bootstrap_servers="127.0.0.1:1", topic_prefix="weir", **chosen)
    work = AtWork(settings)
    # There is no Kafka to follow the state of; a stop would wait for the last question about it.
    with patch.object(state, "_ANSWER_SECONDS", 0.05), running(settings, SERVICE, work.build) as run:
        work.run = run
        yield work
