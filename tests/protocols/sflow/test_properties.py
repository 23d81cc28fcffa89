"""What holds for any sample, and for any bytes."""

from __future__ import annotations

import time
from struct import unpack_from
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weir.local.generate.sflow import SampledFlows, SflowAgent
from weir.protocols import sflow
from weir.protocols.sflow import encode
from weir.protocols.sflow.structures import COUNTER_RECORDS, FLOW_RECORDS, LANE_FIELDS, Structure

NOW_US = 1_790_000_000_000_000
U32 = st.integers(0, 2**32 - 1)
U64 = st.integers(0, 2**64 - 1)
TEXT = st.text(st.characters(min_codepoint=32, max_codepoint=0x2FFF), max_size=20)
MAC = st.binary(min_size=6, max_size=6).map(lambda raw: raw.hex("-").upper())
IPV4 = st.ip_addresses(v=4).map(str)
# Without IPv4 in IPv6, which Python 3.13 writes with a dotted quad.
IPV6 = st.ip_addresses(v=6, network="2001:db8::/32").map(str)
NUMBERS = st.lists(U32, max_size=6)
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "u32": st.integers(0, 2**32 - 2),
    "u64": st.integers(0, 2**64 - 2),
    "i32": st.integers(-(2**31), 2**31 - 1),
    "f": st.floats(width=32, allow_nan=False, allow_infinity=False),
    "s": TEXT,
    "a": IPV4 | IPV6,
    "4": IPV4,
    "6": IPV6,
    "m": MAC,
    "hex": st.binary(max_size=20).map(bytes.hex),
    "uuid": st.binary(min_size=16, max_size=16).map(bytes.hex),
    "list": NUMBERS,
    "path": st.lists(NUMBERS | NUMBERS.map(lambda numbers: {"set": numbers}), max_size=4),
    "lanes": st.lists(st.fixed_dictionaries(dict.fromkeys(LANE_FIELDS, U32)), max_size=3),
    "adapters": st.lists(st.fixed_dictionaries({"ifIndex": U32, "mac_address": st.lists(MAC, max_size=3)}), max_size=3),
}


def values_of(structure: Structure) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({field: VALUES[kind] for field, kind in zip(structure.fields, structure.kinds, strict=True)})


@pytest.mark.parametrize("structure", FLOW_RECORDS.values(), ids=lambda one: one.name)
@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_every_structure_of_a_flow_sample_comes_back(structure: Structure, data: st.DataObject) -> None:
    values = data.draw(values_of(structure))
    result = sflow.decode(encode.datagram([encode.flow_sample([encode.flow_record(structure.name, **values)])]))
    assert result.errors == []
    (sample,) = result.samples
    assert isinstance(sample, sflow.FlowSample)
    assert sample.records == {structure.name: values}


@pytest.mark.parametrize("structure", COUNTER_RECORDS.values(), ids=lambda one: one.name)
@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_every_structure_of_a_counter_sample_comes_back(structure: Structure, data: st.DataObject) -> None:
    values = data.draw(values_of(structure))
    result = sflow.decode(encode.datagram([encode.counter_sample([encode.counter_record(structure.name, **values)])]))
    assert result.errors == []
    (sample,) = result.samples
    assert isinstance(sample, sflow.CounterSample)
    assert sample.records == {structure.name: values}


@settings(max_examples=80, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.booleans(),
            st.fixed_dictionaries(
                {
                    "sequence": U32,
                    "source": st.tuples(st.integers(0, 255), st.integers(0, 2**24 - 1)),
                    "rate": U32,
                    "pool": U32,
                    "drops": U32,
                    "input": st.builds(sflow.Interface, st.integers(0, 3), st.integers(0, 2**30 - 1)),
                    "output": st.builds(sflow.Interface, st.integers(0, 3), st.integers(0, 2**30 - 1)),
                }
            ),
            st.binary(max_size=200),
        ),
        max_size=6,
    ),
    st.fixed_dictionaries({"agent": IPV4 | IPV6 | st.none(), "sub_agent": U32, "sequence": U32, "uptime": U32}),
)
def test_every_flow_sample_comes_back(made: list[tuple[bool, dict[str, Any], bytes]], head: dict[str, Any]) -> None:
    samples = [
        encode.flow_sample([encode.sampled_header(header, protocol=99)], expanded=expanded, **fields)
        for expanded, fields, header in made
    ]
    result = sflow.decode(encode.datagram(samples, **head))
    assert result.errors == []
    assert {name: getattr(result.header, name) for name in head} == head
    assert len(result.samples) == len(made)
    for position, (sample, (_, fields, header)) in enumerate(zip(result.samples, made, strict=True)):
        assert isinstance(sample, sflow.FlowSample)
        assert sample.position == position
        assert {name: getattr(sample, name) for name in fields} == fields
        assert sample.header is not None
        assert sample.header.header == header


def vectors() -> list[bytes]:
    agents = [SflowAgent(5, "a"), SflowAgent(6, "b", agent="2001:db8::1", expanded=True)]
    made = [agent.next(NOW_US + number * 1_000_000).data for number in range(10) for agent in agents]
    return [*made, SampledFlows(1, 1).unit(0, 0, 6, NOW_US)]


VECTORS = vectors()


def check(datagram: bytes) -> None:
    """Either refused with a reason, or read within bounds, each sample under its own number."""
    try:
        result = sflow.decode(datagram)
    except sflow.SflowError:
        return
    positions = [sample.position for sample in result.samples]
    assert positions == sorted(set(positions))
    assert len(positions) <= sflow.MAX_SAMPLES
    assert len(result.errors) <= 20


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=400))
def test_any_bytes_are_refused_or_read(data: bytes) -> None:
    check(data)
    check(encode.datagram([data], count=2))
    check(encode.datagram([encode.structure(tag, data) for tag in range(1, 7)]))


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(VECTORS),
    st.lists(st.tuples(st.integers(0, 1500), st.binary(min_size=1, max_size=4)), max_size=8),
    st.integers(0, 1500),
)
def test_changed_datagrams_are_refused_or_read(datagram: bytes, changes: list[tuple[int, bytes]], length: int) -> None:
    data = bytearray(datagram)
    for at, value in changes:
        data[at % len(data) : at % len(data) + len(value)] = value
    check(bytes(data))
    check(bytes(data[: length % (len(data) + 1)]))


def test_every_cut_of_a_datagram_keeps_the_samples_before_it() -> None:
    for datagram in VECTORS[:4]:
        whole = sflow.decode(datagram).samples
        ends = []
        at = sflow.read_header(datagram).start
        while at < len(datagram):
            at += 8 + unpack_from(">I", datagram, at + 4)[0]
            ends.append(at)
        for length in range(sflow.read_header(datagram).start, len(datagram)):
            found = sflow.decode(datagram[:length])
            assert len(found.samples) == sum(end <= length for end in ends)
            assert [sample.position for sample in found.samples] == [sample.position for sample in whole[: len(found.samples)]]
            assert found.errors


def test_the_worst_datagram_takes_time_in_proportion_to_its_length() -> None:
    """Sixteen times the bytes may take some sixteen times as long; a quadratic decoder would take 256 times."""

    def longest(scale: int) -> float:
        tags = b"\x81\0\0\1" * (180 * scale)
        many = encode.flow_sample([encode.flow_record("extended_gateway", dst_as_path=[[1]] * (20 * scale), communities=[])])
        hostile = encode.datagram([encode.flow_sample([encode.sampled_header(bytes(12) + tags)]), many])
        assert len(hostile) < 65536
        best = 1e9
        for _ in range(5):
            began = time.process_time()
            for _ in range(20):
                sflow.decode(hostile)
            best = min(best, time.process_time() - began)
        return best

    assert longest(64) < 64 * longest(4) + 0.05
