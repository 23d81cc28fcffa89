"""Datagrams of sFlow version 5: what their parts become, and what becomes of broken ones."""

from __future__ import annotations

from struct import pack

import pytest

from weir.local.generate.packets import ethernet, ipv4, tcp
from weir.protocols import sflow
from weir.protocols.sflow import encode
from weir.protocols.sflow.structures import COUNTER_RECORDS, FLOW_RECORDS

FRAME = ethernet(1, 2, ipv4("10.0.0.1", "10.0.0.2", 6, tcp(40000, 443, 0x12)))
HEADER = encode.sampled_header(FRAME, 1522)


def only(result: sflow.DecodeResult) -> sflow.Sample:
    assert result.errors == []
    (sample,) = result.samples
    return sample


def flow(result: sflow.DecodeResult) -> sflow.FlowSample:
    sample = only(result)
    assert isinstance(sample, sflow.FlowSample)
    return sample


def ports(sample: sflow.Sample) -> tuple[int | None, int | None]:
    assert isinstance(sample, sflow.FlowSample)
    assert sample.header is not None
    assert sample.header.packet is not None
    return sample.header.packet.source_port, sample.header.packet.destination_port


def test_the_header_names_the_agent_and_counts() -> None:
    made = encode.datagram([], agent="192.0.2.7", sub_agent=3, sequence=77, uptime=5000)
    assert sflow.read_header(made) == sflow.Header("192.0.2.7", 3, 77, 5000, 0, 28)
    assert sflow.read_header(encode.datagram([], agent="2001:db8::7"))[:1] == ("2001:db8::7",)
    assert sflow.read_header(encode.datagram([], agent=None))[:1] == (None,)
    assert sflow.decode(made).empty


def test_sflow_is_told_from_netflow_by_its_32_bit_version() -> None:
    assert sflow.is_sflow(encode.datagram([]))
    assert not sflow.is_sflow(pack(">HH", 5, 1) + bytes(20))
    assert not sflow.is_sflow(pack(">HH", 9, 1) + bytes(20))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "0 bytes are too few"),
        (encode.datagram([])[:20], "ends within its header of 28"),
        (pack(">7I", 4, 1, 0, 0, 0, 0, 0), "version 4 at offset 0 is not supported"),
        (pack(">7I", 5, 3, 0, 0, 0, 0, 0), "unknown type 3"),
    ],
)
def test_a_header_that_cannot_be_read_is_refused_with_the_reason(data: bytes, reason: str) -> None:
    with pytest.raises(sflow.SflowError, match=reason):
        sflow.decode(data)


@pytest.mark.parametrize("expanded", [False, True])
def test_a_flow_sample_keeps_every_field(expanded: bool) -> None:
    made = encode.flow_sample(
        [HEADER],
        sequence=9,
        source=(0, 7),
        rate=2048,
        pool=123456,
        drops=3,
        input=encode.Interface(sflow.SINGLE, 7),
        output=encode.multiple_interfaces(4),
        expanded=expanded,
    )
    sample = flow(sflow.decode(encode.datagram([made])))
    assert (sample.sequence, sample.source, sample.rate, sample.pool, sample.drops) == (9, (0, 7), 2048, 123456, 3)
    assert (sample.input, sample.output) == (sflow.Interface(0, 7), sflow.Interface(sflow.MULTIPLE, 4))
    assert sample.header is not None
    assert (sample.header.protocol, sample.header.frame_length, sample.header.stripped) == (1, 1522, 4)
    assert sample.header.header == FRAME
    assert ports(sample) == (40000, 443)


def test_an_expanded_sample_has_room_for_any_interface() -> None:
    made = encode.flow_sample([], source=(3, 1 << 31), input=encode.Interface(0, 3_000_000_000), expanded=True)
    sample = flow(sflow.decode(encode.datagram([made])))
    assert (sample.source, sample.input.if_index) == ((3, 1 << 31), 3_000_000_000)


@pytest.mark.parametrize(
    ("interface", "index"),
    [
        (encode.Interface(0, 12), 12),
        (encode.UNKNOWN_INTERFACE, None),
        (encode.INTERNAL_INTERFACE, None),
        (encode.multiple_interfaces(12), None),
        (encode.discarded_interface(258), None),
    ],
)
def test_only_a_single_known_interface_has_an_index(interface: sflow.Interface, index: int | None) -> None:
    for expanded in (False, True):
        sample = flow(sflow.decode(encode.datagram([encode.flow_sample([], output=interface, expanded=expanded)])))
        assert sample.output == interface
        assert sample.output.if_index == index


def test_a_discarded_packet_has_a_reason_and_no_rate() -> None:
    made = encode.discarded_packet([HEADER], reason=258, sequence=5, source=(0, 3), drops=9, input=3, output=4)
    sample = flow(sflow.decode(encode.datagram([made])))
    assert (sample.reason, sample.rate, sample.pool, sample.drops) == (258, None, None, 9)
    assert (sample.input.if_index, sample.output.if_index) == (3, 4)
    assert ports(sample) == (40000, 443)
    assert sflow.drop_reason(258) == "acl"
    assert sflow.drop_reason(301) == "egress_vlan_filter"
    assert sflow.drop_reason(99999) == "99999"


def test_counters_come_by_the_name_of_their_structure() -> None:
    records = [
        encode.counter_record("if_counters", ifIndex=3, ifInOctets=1 << 40, ifInErrors=0),
        encode.counter_record("processor", **{"5s_cpu": 12, "total_memory": 1 << 33}),
    ]
    for expanded in (False, True):
        sample = only(sflow.decode(encode.datagram([encode.counter_sample(records, source=(0, 3), expanded=expanded)])))
        assert isinstance(sample, sflow.CounterSample)
        assert sample.source == (0, 3)
        # What the agent does not maintain is all ones on the wire, and is left out.
        assert sample.records["if_counters"] == {"ifIndex": 3, "ifInOctets": 1 << 40, "ifInErrors": 0}
        assert sample.records["processor"] == {"5s_cpu": 12, "total_memory": 1 << 33}


def test_a_gateway_tells_its_as_path_in_sequences_and_sets() -> None:
    made = encode.flow_record(
        "extended_gateway",
        nexthop="2001:db8::1",
        **{"as": 64500},
        src_as=64501,
        src_peer_as=64502,
        dst_as_path=[[64503, 64504], {"set": [64505, 64506]}],
        communities=[1, 2, 3],
        localpref=100,
    )
    sample = flow(sflow.decode(encode.datagram([encode.flow_sample([made])])))
    assert sample.records["extended_gateway"] == {
        "nexthop": "2001:db8::1",
        "as": 64500,
        "src_as": 64501,
        "src_peer_as": 64502,
        "dst_as_path": [[64503, 64504], {"set": [64505, 64506]}],
        "communities": [1, 2, 3],
        "localpref": 100,
    }


def test_unknown_structures_and_samples_are_kept_byte_for_byte() -> None:
    vendor = 1991 << 12 | 1
    sample_bytes = encode.structure(vendor, b"abcd1234")
    made = encode.flow_sample([encode.structure(vendor, b"\xca\xfe\0\1"), HEADER, encode.structure(1016, bytes(8))])
    result = sflow.decode(encode.datagram([sample_bytes, made]))
    assert result.errors == []
    assert result.samples[0] == sflow.OtherSample(0, "1991.1", b"abcd1234")
    known = result.samples[1]
    assert isinstance(known, sflow.FlowSample)
    assert known.records == {"1991.1": "cafe0001", "0.1016": "00" * 8}
    assert ports(known) == (40000, 443)


def test_a_structure_that_a_sample_repeats_is_kept_twice() -> None:
    one, two = (encode.flow_record("extended_function", symbol=text) for text in ("first", "second"))
    sample = flow(sflow.decode(encode.datagram([encode.flow_sample([one, HEADER, two])])))
    assert sample.records == {"extended_function": {"symbol": "first"}, "extended_function#3": {"symbol": "second"}}


def test_a_structure_may_be_longer_or_shorter_than_known() -> None:
    """Later versions of a structure append fields; older ones lack some (host_cpu has 17 or 20)."""
    whole = FLOW_RECORDS[1001]
    assert whole.layout is not None
    longer = encode.structure(1001, whole.layout.pack(1, 2, 3, 4) + bytes(8))
    shorter = encode.structure(2003, pack(">fffIIII", 0.5, 1.5, 2.5, 1, 2, 3, 4))
    result = sflow.decode(encode.datagram([encode.flow_sample([longer]), encode.counter_sample([shorter])]))
    assert result.errors == []
    switch, cpu = result.samples
    assert isinstance(switch, sflow.FlowSample)
    assert switch.records["extended_switch"] == {"src_vlan": 1, "src_priority": 2, "dst_vlan": 3, "dst_priority": 4}
    assert isinstance(cpu, sflow.CounterSample)
    assert cpu.records["host_cpu"] == {
        "load_one": 0.5, "load_five": 1.5, "load_fifteen": 2.5, "proc_run": 1, "proc_total": 2, "cpu_num": 3, "cpu_speed": 4,
    }  # fmt: skip


def test_a_structure_that_lies_inside_is_kept_as_it_is() -> None:
    lying = encode.structure(1004, pack(">II", 106, 9999) + b"alice\0\0\0")
    sample = flow(sflow.decode(encode.datagram([encode.flow_sample([lying, HEADER])])))
    assert sample.records == {"0.1004": (pack(">II", 106, 9999) + b"alice\0\0\0").hex()}
    assert ports(sample) == (40000, 443)


def test_a_header_length_beyond_the_record_takes_what_is_there() -> None:
    lying = encode.structure(1, pack(">4I", 1, 1522, 4, 60000) + FRAME + bytes(-len(FRAME) & 3))
    sample = flow(sflow.decode(encode.datagram([encode.flow_sample([lying])])))
    assert ports(sample) == (40000, 443)


def test_a_header_of_another_link_layer_is_kept() -> None:
    sample = flow(sflow.decode(encode.datagram([encode.flow_sample([encode.sampled_header(b"\1\2\3\4", protocol=5)])])))
    assert sample.header == sflow.SampledHeader(5, 8, 4, b"\1\2\3\4", None)


def test_a_broken_sample_does_not_take_its_siblings_along() -> None:
    good = encode.flow_sample([HEADER], sequence=1)
    too_short = encode.structure(1, bytes(12))
    overrun = encode.flow_sample([pack(">II", 1002, 4000) + bytes(8)], sequence=2)
    half = encode.flow_sample([HEADER, pack(">II", 1002, 4000) + bytes(8)], sequence=3)
    many = encode.flow_sample([HEADER], sequence=4, count=200)
    result = sflow.decode(encode.datagram([good, too_short, overrun, half, many, good]))
    assert [(sample.position, ports(sample)) for sample in result.samples] == [
        (position, (40000, 443)) for position in (0, 3, 4, 5)
    ]
    assert len(result.errors) == 4
    assert "sample 1 at offset" in result.errors[0]
    assert "12 bytes are too few" in result.errors[0]
    assert "lead beyond its end" in result.errors[1]
    assert not result.complete


def test_a_sample_that_leads_out_of_the_datagram_ends_it() -> None:
    good = encode.flow_sample([HEADER])
    whole = encode.datagram([good, good])
    result = sflow.decode(whole[:-4])
    assert len(result.samples) == 1
    assert "lead beyond the datagram's end" in result.errors[0]
    assert "ends at offset" in sflow.decode(encode.datagram([good], count=3)).errors[0]


def test_samples_beyond_the_announced_number_are_read_and_other_bytes_passed_over() -> None:
    good = encode.flow_sample([HEADER])
    result = sflow.decode(encode.datagram([good, good, good], count=1))
    assert (len(result.samples), result.errors) == (3, [])
    reused = sflow.decode(encode.datagram([good]) + b"\xb1\xde\x63\x75" * 40)
    assert (len(reused.samples), reused.errors) == (1, [])


def test_counts_beyond_reason_are_bounded() -> None:
    empty = encode.structure(77 << 12, b"")
    result = sflow.decode(encode.datagram([empty] * 5000, count=0xFFFF_FFFF))
    assert len(result.samples) == sflow.MAX_SAMPLES
    assert "only the first 1024 samples" in result.errors[0]
    tiny = encode.flow_sample([empty] * 1000)
    result = sflow.decode(encode.datagram([tiny]))
    assert "only the first 256" in result.errors[0]
    broken = sflow.decode(encode.datagram([encode.structure(1, b"")] * 1000))
    assert len(broken.errors) == 17


@pytest.mark.parametrize("padded", [True, False])
def test_a_structure_of_odd_length_is_followed_with_or_without_padding(padded: bool) -> None:
    """XDR pads it; agents are known that do not."""
    body = pack(">I", 6) + b"foobar"
    odd = pack(">II", 1038, len(body)) + body + (b"\0\0" if padded else b"")
    sample = flow(sflow.decode(encode.datagram([encode.flow_sample([odd, HEADER])])))
    assert sample.records == {"extended_function": {"symbol": "foobar"}}
    assert ports(sample) == (40000, 443)


def test_no_structure_name_is_used_twice_in_a_table() -> None:
    for table in (FLOW_RECORDS, COUNTER_RECORDS):
        names = [structure.name for structure in table.values()]
        assert len(names) == len(set(names))
        assert all(len(set(structure.fields)) == len(structure.fields) for structure in table.values())
