"""Flow datagrams in files and captures: one state over all of them, each exporter with its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.protocols.capture_files import ethernet, fragments, ip, pcap, pcapng, tcp, udp
from tests.tools.decode.support import RECEIVED, decoded, written
from weir.protocols.lumberjack import encode_batch
from weir.protocols.netflow.encode import (
    DataSet,
    FieldSpec,
    Message,
    Template,
    V5Datagram,
    V5Flow,
    encode,
    encode_v5,
    ipv4,
)
from weir.tools.decode import DecodeError
from weir.tools.decode.flows import FlowState
from weir.tools.decode.glued import datagrams_in

EXPORT = 1_700_000_000
FLOWS = Template(256, [FieldSpec(8, 4), FieldSpec(1, 4)])
OTHER = Template(256, [FieldSpec(1, 4), FieldSpec(8, 4)])
OPTIONS = Template(257, [FieldSpec(34, 4), FieldSpec(35, 1)], [FieldSpec(1, 4)])


def message(version: int, *sets: Template | DataSet, sequence: int = 5) -> bytes:
    return encode(Message(version, EXPORT, sets, sequence=sequence))


def flow(address: str = "192.0.2.50", octets: int = 100) -> DataSet:
    return DataSet(FLOWS, [(ipv4(address), octets)])


def v5(count: int = 1) -> bytes:
    return encode_v5(V5Datagram([V5Flow(f"192.0.2.{n}", "198.51.100.1") for n in range(count)], EXPORT, uptime=9000))


@pytest.mark.parametrize("version", [9, 10])
def test_a_template_in_one_file_decodes_data_in_the_next_in_either_order(tmp_path: Path, version: int) -> None:
    template = written(tmp_path, message(version, FLOWS), "t.dat")
    data = written(tmp_path, message(version, flow()), "d.dat")
    for paths in ((template, data), (data, template)):
        result = decoded("netflow", *paths)
        assert result.all("source_ip") == ["192.0.2.50"]
        assert (result.totals.units, result.totals.empty, result.totals.dead, result.totals.templates) == (2, 1, 0, 1)


def test_data_whose_template_never_comes_is_dead_with_its_name(tmp_path: Path) -> None:
    path = written(tmp_path, message(9, flow()))
    [dead] = decoded("netflow", path).dead
    assert dead.place == str(path)
    assert "template not known" in dead.reason


def test_a_template_that_changes_decodes_what_came_before_it_as_it_was_meant(tmp_path: Path) -> None:
    files = [
        message(9, FLOWS),
        message(9, flow(octets=7)),
        message(9, OTHER),
        message(9, DataSet(OTHER, [(9, ipv4("192.0.2.60"))])),
    ]
    result = decoded("netflow", *(written(tmp_path, data, f"{n}.dat") for n, data in enumerate(files)))
    assert list(zip(result.all("source_ip"), result.all("network_bytes"), strict=True)) == [("192.0.2.50", 7), ("192.0.2.60", 9)]


def test_options_are_counted_apart_and_scale(tmp_path: Path) -> None:
    options = message(9, OPTIONS, DataSet(OPTIONS, [(0, 10, 1)]))
    result = decoded(
        "netflow", *(written(tmp_path, data, str(n)) for n, data in enumerate((message(9, FLOWS), options, message(9, flow()))))
    )
    assert result.all("network_bytes") == [1000]
    assert (result.totals.templates, result.totals.option_records, result.totals.empty) == (2, 1, 2)


def test_what_is_no_flow_datagram_is_dead(tmp_path: Path) -> None:
    result = decoded("netflow", written(tmp_path, b"\x00\x63nothing of the kind"), written(tmp_path, v5(), "good"))
    assert len(result.events) == 1
    assert len(result.dead) == 1


# Captures


@pytest.mark.parametrize("write", [pcap, pcapng])
def test_each_address_of_a_capture_is_an_exporter_of_its_own(tmp_path: Path, write: object) -> None:
    def sent(data: bytes, source: str) -> bytes:
        return ethernet(ip(udp(data, 2055), 17, source))

    one, two = "192.0.2.11", "192.0.2.12"
    other = DataSet(OTHER, [(5, ipv4("192.0.2.60"))])
    packets = [
        sent(message(9, FLOWS), one),
        sent(message(9, OTHER), two),
        sent(message(9, flow()), one),
        sent(message(9, other), two),
    ]
    path = written(tmp_path, write(packets))  # type: ignore[operator]
    result = decoded("netflow", path)
    assert list(zip(result.all("log_source_ip"), result.all("source_ip"), strict=True)) == [
        (one, "192.0.2.50"),
        (two, "192.0.2.60"),
    ]
    assert result.all("event_created") == [EXPORT * 1_000_000, EXPORT * 1_000_000 + 1000]
    given = decoded("netflow", path, received_given=True)
    assert given.all("event_created") == [RECEIVED] * 2


def test_what_a_capture_has_later_was_received_later(tmp_path: Path) -> None:
    packets = [ethernet(ip(udp(data, port), 17)) for data, port in ((b"<13>1 - h - - - - one", 514), (v5(), 2055))] * 500
    path = written(tmp_path, pcap(packets))
    for family in ("syslog", "netflow"):
        created = decoded(family, path).all("event_created")
        assert created == sorted(created)
        assert 4 <= len(set(created)) <= 6
        assert created[-1] - created[0] >= 600_000


def test_a_datagram_in_fragments_is_one_unit(tmp_path: Path) -> None:
    path = written(tmp_path, pcap([ethernet(part) for part in fragments(udp(v5(30), 2055), 512)]))
    result = decoded("netflow", path)
    assert (result.totals.units, len(result.events)) == (1, 30)


def test_ports_choose_and_without_them_the_look_does(tmp_path: Path) -> None:
    packets = [ethernet(ip(udp(data, port), 17)) for data, port in ((v5(), 1234), (v5(), 5678), (b"x" * 30, 53), (b"broken", 2055))]
    path = written(tmp_path, pcap(packets))
    by_look = decoded("netflow", path)
    assert (len(by_look.events), len(by_look.dead), by_look.totals.other) == (2, 1, 1)
    by_port = decoded("netflow", path, ports=frozenset({1234, 53}))
    assert (len(by_port.events), len(by_port.dead), by_port.totals.other) == (1, 1, 2)
    assert by_port.dead[0].place == f"{path} packet 3"


def test_a_capture_that_ends_within_a_packet_says_so(tmp_path: Path) -> None:
    result = decoded("netflow", written(tmp_path, pcap([ethernet(ip(udp(v5(), 2055), 17))] * 2)[:-5]))
    assert len(result.events) == 1
    assert [one.reason for one in result.dead] == ["the file ends within packet 2"]


def test_text_is_not_looked_for_in_a_capture(tmp_path: Path) -> None:
    with pytest.raises(DecodeError, match="zeek is read from files"):
        decoded("zeek", written(tmp_path, pcap([])))


def segments(pieces: list[bytes], port: int) -> list[bytes]:
    at, found = 1, [ethernet(ip(tcp(b"", 0, port, flags=2), 6))]
    for piece in pieces:
        found.append(ethernet(ip(tcp(piece, at, port), 6)))
        at += len(piece)
    return [*found, ethernet(ip(tcp(b"", at, port, flags=0x11), 6))]


def test_syslog_over_udp_and_tcp_in_one_capture(tmp_path: Path) -> None:
    tcp_packets = segments([b"<13>1 - h - - - - o", b"ne\n<13>1 - h - - - - two\n<13>1 - h - - -", b" - three"], 514)
    path = written(tmp_path, pcap([ethernet(ip(udp(b"<13>1 - h - - - - udp"), 17)), *tcp_packets]))
    result = decoded("syslog", path)
    assert result.all("message") == ["udp", "one", "two", "three"]
    assert set(result.all("log_source_ip")) == {"192.0.2.7"}


def test_lumberjack_in_a_capture(tmp_path: Path) -> None:
    data = encode_batch([b'{"message":"one"}', b'{"message":"two"}'])
    packets = segments([data[:9], data[9:20], data[20:]], 5044)
    packets[2], packets[3] = packets[3], packets[2]
    result = decoded("lumberjack", written(tmp_path, pcap(packets)))
    assert result.all("message") == ["one", "two"]
    assert not result.dead
    web = decoded("lumberjack", written(tmp_path, pcap(segments([b"GET / HTTP/1.1"], 80))))
    assert (web.totals.units, web.totals.other) == (0, 1)


# Several datagrams in one file


def test_what_is_glued_behind_the_first_datagram_is_told_and_split_decodes_it(tmp_path: Path) -> None:
    path = written(tmp_path, v5(2) + v5(3) + message(9, FLOWS, flow()) + message(10, FLOWS, flow()))
    first = decoded("netflow", path)
    assert len(first.events) == 2
    assert "3 more" in first.notes[0].text
    assert not first.dead
    whole = decoded("netflow", path, split=True)
    assert (whole.totals.units, len(whole.events)) == (4, 2 + 3 + 1 + 1)


def test_datagrams_are_cut_only_where_a_header_stands() -> None:
    parts = [v5(2), message(9, FLOWS, flow()), message(10, FLOWS), message(9, flow()), v5(1)]
    assert datagrams_in(b"".join(parts)) == parts
    for whole in (
        v5(1) + bytes(100),
        message(9, flow()) + bytes(1300),
        message(10, FLOWS) + b"\0\x0a\0\x04rest",
        b"",
        b"\0\5",
        v5(3)[:-9],
    ):
        assert datagrams_in(whole) == [whole]


def test_waiting_datagrams_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("weir.tools.decode.flows.MAX_WAITING", 10)
    state = FlowState()
    gone = [batch for number in range(25) for batch in state.add("192.0.2.1", number, message(9, flow()))]
    assert [batch.units for batch in gone] == [[number] for number in range(15)]
    assert [batch.units for batch in state.finish()] == [[number] for number in range(15, 25)]


def test_a_datagram_that_waits_in_vain_is_scaled_as_was_announced_when_it_came(tmp_path: Path) -> None:
    unknown = Template(300, [FieldSpec(1, 4)])
    files = [
        message(9, FLOWS),
        message(9, OPTIONS, DataSet(OPTIONS, [(0, 10, 1)])),
        message(9, flow(), DataSet(unknown, [(1,)])),
        message(9, DataSet(OPTIONS, [(0, 500, 1)])),
        message(9, flow()),
    ]
    result = decoded("netflow", *(written(tmp_path, data, f"{n}.dat") for n, data in enumerate(files)))
    assert sorted(result.all("network_bytes")) == [1000, 50_000]
    assert "template not known" in result.dead[0].reason


def test_exporters_are_bounded_and_nothing_of_them_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("weir.tools.decode.flows.MAX_SOURCES", 10)
    state = FlowState()
    batches = [batch for number in range(25) for batch in state.add(f"192.0.2.{number}", number, message(9, FLOWS))]
    batches += state.finish()
    assert sorted(number for batch in batches for number in batch.units) == list(range(25))
