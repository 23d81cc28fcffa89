"""The syslog receiver with real sockets and a real Kafka."""

from __future__ import annotations

import contextlib
import hashlib
import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.receivers.harness import TopicReader, free_port, make_topics, reading, running
from tests.support import eventually
from weir.model.ledger import LedgerEntry
from weir.model.topics import TopicNames
from weir.ops.settings import SettingsError, load
from weir.receivers.syslog.receiver import SERVICE, SyslogReceiver, SyslogSettings, build

pytestmark = pytest.mark.kafka


def settings_for(kafka: str, prefix: str, **values: Any) -> SyslogSettings:
    options = {
        "syslog_host": "127.0.0.1",
        "syslog_udp_port": free_port(socket.SOCK_DGRAM),
        "syslog_tcp_port": free_port(),
        "receiver_linger_ms": 20,
        "receiver_udp_buffer_bytes": 65_536,
        "instance": "tester",
        "site": "lab",
        **values,
    }
    return SyslogSettings(kafka_bootstrap_servers=kafka, topic_prefix=prefix, **options)


@pytest.fixture
def names(kafka: str, topic_prefix: str) -> TopicNames:
    return make_topics(kafka, topic_prefix, "raw.syslog")


@pytest.fixture
def raw(kafka: str, names: TopicNames) -> Iterator[TopicReader]:
    with reading(kafka, names["raw.syslog"]) as reader:
        yield reader


def send_tcp(port: int, *pieces: bytes) -> None:
    """Each piece in a segment of its own; then wait for the receiver to close."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for piece in pieces:
            sock.sendall(piece)
        sock.shutdown(socket.SHUT_WR)
        while sock.recv(100):
            pass


def test_datagrams_become_units_untouched_and_empty_ones_count(kafka: str, names: TopicNames, raw: TopicReader) -> None:
    settings = settings_for(kafka, names.prefix)
    sent = [b"<13>one\n", b"", b"\xff\x00 no syslog at all", b"<13>two"]
    with running(settings, SERVICE, build), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for unit in sent:
            sock.sendto(unit, ("127.0.0.1", settings.syslog_udp_port))
        eventually(lambda: len(raw.units()) == len(sent))
        batch = raw.batches()[0]
        assert raw.units() == sent
        assert (batch.site, batch.receiver, batch.transport, batch.source_ip) == ("lab", "tester", "udp", "127.0.0.1")
        assert (batch.source_port, batch.listener_port) == (sock.getsockname()[1], settings.syslog_udp_port)
        assert abs(batch.received_at - time.time_ns() // 1000) < 60_000_000
        assert raw.keys[0] == "127.0.0.1"
        assert raw.timestamp_types == {2}, "the broker's clock stamps raw records"


def test_a_long_datagram_is_cut_and_marked_with_its_length_and_hash(kafka: str, names: TopicNames, raw: TopicReader) -> None:
    settings = settings_for(kafka, names.prefix, syslog_max_message_bytes=1_000)
    long = b"<13>" + b"x" * 5_000
    with running(settings, SERVICE, build), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.sendto(b"<13>short", ("127.0.0.1", settings.syslog_udp_port))
        sock.sendto(long, ("127.0.0.1", settings.syslog_udp_port))
        eventually(lambda: len(raw.units()) == 2)
    marks = [(mark, batch.units[mark.position]) for batch in raw.batches() for mark in batch.truncated]
    ((mark, unit),) = marks
    assert unit == long[:1_000]
    assert (mark.original_length, mark.sha256) == (len(long), hashlib.sha256(long).digest())


@pytest.mark.parametrize(
    ("stream", "messages"),
    [
        pytest.param(b"<13>one\n<13>two\r\n<13>three", [b"<13>one", b"<13>two", b"<13>three"], id="lines"),
        pytest.param(b"<13>one\0<13>two\0", [b"<13>one", b"<13>two"], id="NUL"),
        pytest.param(b"7 <13>one9 <13>a\nb\n", [b"<13>one", b"<13>a\nb\n"], id="octet counting"),
    ],
)
def test_both_tcp_framings_split_anywhere(
    kafka: str, names: TopicNames, raw: TopicReader, stream: bytes, messages: list[bytes]
) -> None:
    settings = settings_for(kafka, names.prefix)
    with running(settings, SERVICE, build):
        send_tcp(settings.syslog_tcp_port, stream)
        eventually(lambda: len(raw.units()) == len(messages))
        send_tcp(settings.syslog_tcp_port, *(stream[i : i + 1] for i in range(len(stream))))
        eventually(lambda: len(raw.units()) == 2 * len(messages))
    assert raw.units() == messages * 2
    assert {batch.transport for batch in raw.batches()} == {"tcp"}


def test_a_long_tcp_message_is_cut_and_never_merged_into_the_next(kafka: str, names: TopicNames, raw: TopicReader) -> None:
    settings = settings_for(kafka, names.prefix, syslog_max_message_bytes=1_000)
    with running(settings, SERVICE, build):
        send_tcp(settings.syslog_tcp_port, b"<13>" + b"x" * 9_996 + b"\n<13>next\n")
        eventually(lambda: len(raw.units()) == 2)
    (batch,) = raw.batches()
    assert batch.units == [b"<13>" + b"x" * 996, b"<13>next"]
    assert [(m.position, m.original_length, m.sha256) for m in batch.truncated] == [(0, 10_000, b"")]


def test_lost_framing_is_marked_for_the_dead_letters_and_the_stream_goes_on(
    kafka: str, names: TopicNames, raw: TopicReader
) -> None:
    settings = settings_for(kafka, names.prefix)
    with running(settings, SERVICE, build):
        send_tcp(settings.syslog_tcp_port, b"7 <13>oneGARBAGE" + b"!" * 1_000 + b"\n7 <13>two")
        eventually(lambda: len(raw.units()) == 3)
    units = {batch.transport: batch.units for batch in raw.batches()}
    assert units == {"tcp": [b"<13>one", b"<13>two"], "syslog-error": [b"GARBAGE" + b"!" * 1_000]}


def test_a_connection_without_any_frame_is_closed_and_what_was_found_is_kept(
    kafka: str, names: TopicNames, raw: TopicReader
) -> None:
    settings = settings_for(kafka, names.prefix)
    with running(settings, SERVICE, build):
        send_tcp(settings.syslog_tcp_port, b"7 <13>one" + b"!" * 20_000)  # returns once the receiver has closed
        eventually(lambda: len(raw.units()) == 2)
    units = {batch.transport: batch.units for batch in raw.batches()}
    assert units == {"tcp": [b"<13>one"], "syslog-error": [b"!" * 8_192]}


def test_a_graceful_stop_publishes_what_it_holds_and_balances_the_ledger(kafka: str, names: TopicNames, raw: TopicReader) -> None:
    settings = settings_for(kafka, names.prefix, receiver_linger_ms=10_000)
    with running(settings, SERVICE, build) as run, socket.create_connection(("127.0.0.1", settings.syslog_tcp_port)) as sock:
        sock.sendall(b"<13>one\n<13>two\n<13>unfinished")
        receiver: SyslogReceiver = run.receiver
        eventually(lambda: receiver.reads)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
            for number in range(50):
                udp.sendto(b"<13>%d" % number, ("127.0.0.1", settings.syslog_udp_port))
        assert run.stop() == 0
    eventually(lambda: len(raw.units()) == 53)
    assert b"<13>unfinished" in raw.units()
    with reading(kafka, names["ledger"]) as ledger:
        entries = [LedgerEntry.from_record(r) for r in eventually(ledger.poll)]
    assert {e.service for e in entries} == {SERVICE}
    assert all(e.partition == -1 and e.topic == names["raw.syslog"] and e.instance.startswith("tester@") for e in entries)
    counts = [c for e in entries for c in e.lines.values()]
    assert sum(c.units_in for c in counts) == 53
    assert sum(c.bytes_in for c in counts) == sum(map(len, raw.units()))


def test_connections_beyond_the_limit_are_refused_and_places_come_free(kafka: str, names: TopicNames, raw: TopicReader) -> None:
    settings = settings_for(kafka, names.prefix, syslog_max_connections=1)
    with running(settings, SERVICE, build):
        with socket.create_connection(("127.0.0.1", settings.syslog_tcp_port), timeout=10) as first:
            first.sendall(b"<13>first\n")
            eventually(lambda: raw.units() == [b"<13>first"])
            with socket.create_connection(("127.0.0.1", settings.syslog_tcp_port), timeout=10) as second:
                second.settimeout(10)
                with contextlib.suppress(ConnectionError):
                    assert second.recv(10) == b""

        def another() -> bool:
            send_tcp(settings.syslog_tcp_port, b"<13>later\n")
            return b"<13>later" in raw.units()

        eventually(another)


def test_a_port_in_use_is_named(kafka: str, names: TopicNames) -> None:
    settings = settings_for(kafka, names.prefix, syslog_tcp_port=-1)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", settings.syslog_udp_port))
        with pytest.raises(OSError, match=f"UDP 127.0.0.1 port {settings.syslog_udp_port}"), running(settings, SERVICE, build):
            pass


def test_settings_have_the_documented_names_and_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEIR_KAFKA_BOOTSTRAP_SERVERS", "localhost:9092")
    settings = load(SyslogSettings)
    assert (settings.syslog_udp_port, settings.syslog_tcp_port, settings.syslog_tls_port) == (5514, 5514, 6514)
    assert settings.syslog_max_message_bytes == 65_536
    monkeypatch.setenv("WEIR_SYSLOG_PROXY_PROTOCOL", "required")
    with pytest.raises(SettingsError, match="WEIR_SYSLOG_PROXY_FROM"):
        load(SyslogSettings)
    monkeypatch.setenv("WEIR_SYSLOG_PROXY_FROM", "10.0.0.0/8, 2001:db8::/32")
    assert load(SyslogSettings).proxy_policy("required").trusts("10.1.2.3")
    monkeypatch.setenv("WEIR_SYSLOG_UDP_PORT", "70000")
    monkeypatch.setenv("WEIR_RECEIVER_BATCH_BYTES", "5000000")
    with pytest.raises(SettingsError) as caught:
        load(SyslogSettings)
    assert len(caught.value.mistakes) == 2
