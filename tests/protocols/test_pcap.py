"""Capture files: what was written comes out, in any pieces, and nothing but PcapError for any bytes."""

from __future__ import annotations

from struct import pack

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.protocols.capture_files import pcap, pcapng
from weir.protocols.pcap import MAX_BLOCK_BYTES, CapturedPacket, PcapError, PcapParser, is_capture

START = 1_700_000_000_000_000
PACKETS = [b"one", b"", b"three packets"]


def read(data: bytes) -> list[CapturedPacket]:
    parser = PcapParser()
    found = parser.feed(data)
    parser.finish()
    return found


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("nano", [False, True])
def test_a_classic_file_gives_its_packets_with_times_in_either_byte_order_and_resolution(order: str, nano: bool) -> None:
    found = read(pcap(PACKETS, order=order, nano=nano, link=113))
    assert found == [CapturedPacket(n + 1, START + 1000 * n, 113, data, len(data)) for n, data in enumerate(PACKETS)]


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("resolution", [None, 6, 9, 0x80 | 20])
def test_a_pcapng_file_gives_its_packets_in_either_byte_order_and_any_resolution(order: str, resolution: int | None) -> None:
    found = read(pcapng(PACKETS, order=order, resolution=resolution))
    assert [(one.number, one.link_type, one.data) for one in found] == [(n + 1, 1, data) for n, data in enumerate(PACKETS)]
    assert all(abs((one.time_us or 0) - START - 1000 * n) <= 1 for n, one in enumerate(found))


def test_a_second_section_has_interfaces_of_its_own_and_a_packet_of_none_has_no_link_type() -> None:
    first, second = pcapng([b"a"], link=1), pcapng([b"b"], link=101, order=">")
    orphan = pack("<II", 6, 36) + pack("<IIIII", 7, 0, 0, 1, 1) + b"x\0\0\0" + pack("<I", 36)
    found = read(first + orphan + second)
    assert [(one.link_type, one.data) for one in found] == [(1, b"a"), (None, b"x"), (101, b"b")]


def test_simple_packets_have_no_time() -> None:
    section = pcapng([])
    simple = pack("<II", 3, 20) + pack("<I", 3) + b"abc\0" + pack("<I", 20)
    assert read(section + simple) == [CapturedPacket(1, None, 1, b"abc", 3)]


def test_the_bits_that_tell_the_check_sequence_are_no_part_of_the_link_type() -> None:
    assert read(pcap([b"a"], link=0x5400_0001))[0].link_type == 1


def test_packets_cut_by_the_capture_keep_their_length() -> None:
    data = pcap([b"abcdef"])
    cut = data[:24] + pack("<IIII", 1, 0, 3, 6) + b"abc"
    assert read(cut)[0][3:] == (b"abc", 6)


@pytest.mark.parametrize("data", [b"", b"\xd4\xc3", b"no capture", pcap([b"abc"])[:-1], pcapng([b"abc"])[:-4]])
def test_what_is_not_whole_is_an_error(data: bytes) -> None:
    with pytest.raises(PcapError):
        read(data)


def test_a_length_that_cannot_be_is_an_error_before_anything_is_kept() -> None:
    for bad in (
        pcap([])[:24] + pack("<IIII", 0, 0, MAX_BLOCK_BYTES + 1, 1),
        pcapng([]) + pack("<III", 6, 0xFFFFFFF0, 0),
        pcapng([]) + pack("<III", 6, 13, 0),
    ):
        with pytest.raises(PcapError, match="claims"):
            PcapParser().feed(bad)


def test_a_capture_is_known_by_its_first_four_bytes() -> None:
    assert all(is_capture(data[:4]) for data in (pcap([]), pcap([], order=">", nano=True), pcapng([]), pcapng([], order=">")))
    assert not any(map(is_capture, (b"", b"<13>", b"\x00\x05\x00\x01", b'{"a"')))


@settings(max_examples=100, deadline=None)
@given(st.lists(st.binary(max_size=40), max_size=5), st.sampled_from([pcap, pcapng]), st.integers(1, 50))
def test_the_pieces_do_not_matter(packets: list[bytes], write: object, size: int) -> None:
    data = write(packets)  # type: ignore[operator]
    parser = PcapParser()
    found = [packet for at in range(0, len(data), size) for packet in parser.feed(data[at : at + size])]
    parser.finish()
    assert found == read(data)
    assert [packet.data for packet in found] == packets


@settings(max_examples=150, deadline=None)
@given(st.sampled_from([pcap, pcapng]), st.lists(st.tuples(st.integers(0, 200), st.integers(0, 255)), max_size=6))
def test_changed_bytes_raise_nothing_else(write: object, changes: list[tuple[int, int]]) -> None:
    data = bytearray(write(PACKETS))  # type: ignore[operator]
    for place, value in changes:
        data[place % len(data)] = value
    parser = PcapParser()
    try:
        parser.feed(bytes(data))
        parser.finish()
    except PcapError:
        return
