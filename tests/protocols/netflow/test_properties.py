"""Properties: what is encoded is decoded, and no bytes whatever crash, hang or slip through uncounted."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from weir.protocols.netflow import Decoder, FlowError, TemplateStore, scan
from weir.protocols.netflow.encode import DataSet, FieldSpec, Message, Template, V5Datagram, V5Flow, encode, encode_v5, encode_v7

u8, u16, u32 = (st.integers(0, 2**bits - 1) for bits in (8, 16, 32))
v4 = st.integers(0, 2**32 - 1).map(lambda number: str(IPv4Address(number)))
v5_flows = st.builds(
    V5Flow, v4, v4, u16, u16, u8, u32, u32, u32, u32, v4, u16, u16, u8, u8, u16, u16, st.integers(0, 32), st.integers(0, 32)
)

# (element, length, values, field, what the decoder makes of a value)
COLUMNS: list[tuple[int, int, st.SearchStrategy[Any], str, Any]] = [
    (8, 4, st.binary(min_size=4, max_size=4), "source_ip", lambda raw: str(IPv4Address(raw))),
    (28, 16, st.binary(min_size=16, max_size=16), "destination_ip", lambda raw: str(IPv6Address(raw))),
    (7, 2, u16, "source_port", int),
    (11, 1, u8, "destination_port", int),
    (4, 1, u8, "network_iana_number", int),
    (1, 8, st.integers(0, 2**63 - 1), "flow_raw_bytes", int),
    (2, 3, st.integers(0, 2**24 - 1), "flow_raw_packets", int),
    (10, 4, u32, "observer_ingress_interface", int),
    (17, 4, u32, "destination_as", int),
    (80, 6, st.binary(min_size=6, max_size=6), "destination_mac", lambda raw: raw.hex("-").upper()),
    (152, 8, st.integers(1, 2**42), "event_start_us", lambda ms: ms * 1000),
]
columns = st.lists(st.sampled_from(COLUMNS), min_size=1, unique_by=lambda column: column[0])
names = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=300).map(str.encode)


@st.composite
def tables(draw: st.DrawFn) -> tuple[list[Any], list[list[Any]]]:
    """Columns of a template and rows of values."""
    chosen = draw(columns)
    rows = draw(st.lists(st.tuples(*(column[2] for column in chosen)).map(list), min_size=1, max_size=5))
    return chosen, rows


@given(st.lists(v5_flows, max_size=30), u32, u32, st.sampled_from([5, 7]))
@settings(max_examples=60, deadline=None)
def test_v5_and_v7_round_trip(flows: list[V5Flow], uptime: int, seconds: int, version: int) -> None:
    """Every flow comes back in order with its values."""
    make = encode_v5 if version == 5 else encode_v7
    result = Decoder().decode(make(V5Datagram(flows, seconds, uptime=uptime)))
    assert result.complete
    assert result.header.version == version
    assert result.positions == list(range(len(flows)))
    for flow, given_flow in zip(result.flows, flows, strict=True):
        assert (flow["source_ip"], flow["destination_ip"], flow["next_hop_ip"]) == (
            given_flow.source,
            given_flow.destination,
            given_flow.next_hop,
        )
        assert (flow["source_port"], flow["destination_port"]) == (given_flow.source_port, given_flow.destination_port)
        assert (flow["network_bytes"], flow["network_packets"]) == (given_flow.octets, given_flow.packets)
        assert (flow["source_bytes"], flow["source_packets"]) == (given_flow.octets, given_flow.packets)
        assert flow["additional"]["destinationIPv4PrefixLength"] == given_flow.destination_mask


@given(tables(), st.sampled_from([9, 10]), u32, st.booleans())
@settings(max_examples=80, deadline=None)
def test_fixed_records_round_trip(table: tuple[list[Any], list[list[Any]]], version: int, domain: int, padded: bool) -> None:
    """Any choice of fields, both versions, padded or not; padding only where it is shorter than a record."""
    chosen, rows = table
    template = Template(256, [FieldSpec(column[0], column[1]) for column in chosen])
    padded = padded and sum(column[1] for column in chosen) > 3
    result = Decoder().decode(encode(Message(version, 0, [template, DataSet(template, rows, padded)], domain)))
    assert result.complete
    assert len(result.flows) == len(rows)
    for flow, row in zip(result.flows, rows, strict=True):
        assert flow["observation_domain"] == domain
        for column, value in zip(chosen, row, strict=True):
            assert flow.get(column[3]) == column[4](value)


@given(tables(), st.lists(names, min_size=5, max_size=5), st.data())
@settings(max_examples=50, deadline=None)
def test_variable_records_round_trip(table: tuple[list[Any], list[list[Any]]], texts: list[bytes], data: st.DataObject) -> None:
    """A string of variable length anywhere among the fields decodes as the fixed record does, plus the string."""
    chosen, rows = table
    place = data.draw(st.integers(0, len(chosen)))
    specs = [FieldSpec(column[0], column[1]) for column in chosen]
    fixed = Template(256, specs)
    variable = Template(257, [*specs[:place], FieldSpec(82, 65535), *specs[place:]])
    wide = [[*row[:place], text, *row[place:]] for row, text in zip(rows, texts, strict=False)]
    result = Decoder().decode(encode(Message(10, 0, [fixed, DataSet(fixed, rows), variable, DataSet(variable, wide)])))
    assert result.complete
    plain, named = result.flows[: len(rows)], result.flows[len(rows) :]
    assert [flow["additional"].pop("interfaceName") for flow in named] == [text.decode() for text in texts[: len(rows)]]
    assert plain == named


def survives(datagram: bytes) -> None:
    """Both sides give an answer or FlowError, and the answer is sound."""
    store = TemplateStore()
    store.learn(datagram)
    store.missing(datagram)
    store.replaces(datagram)
    decoder = Decoder(*store.needs([datagram])[:3])
    try:
        scan(datagram)
        result = decoder.decode(datagram)
    except FlowError:
        return
    assert len(result.flows) == len(result.positions)
    assert result.positions == sorted(set(result.positions))
    assert all(position < result.records for position in result.positions)
    for flow in result.flows:
        assert not [key for key in flow if key.startswith(("_", "~"))]
        for value in (*flow.values(), *flow["additional"].values()):
            sound = value is None or isinstance(value, str | float | dict | list)
            assert sound or -(2**63) <= value < 2**63  # type: ignore[operator]


@given(st.sampled_from([b"\0\5", b"\0\7", b"\0\x09", b"\0\x0a", b""]), st.binary(max_size=400))
@settings(max_examples=200, deadline=None)
def test_arbitrary_bytes_never_crash(version: bytes, rest: bytes) -> None:
    """With and without a valid version in front."""
    survives(version + rest)


ELEMENTS = st.one_of(
    st.sampled_from([1, 4, 8, 22, 27, 32, 34, 48, 60, 61, 136, 152, 154, 160, 161, 231, 302, 311]),
    st.sampled_from([10, 70, 71, 72, 82, 83, 89, 95, 96, 148, 230, 233, 234, 291, 292, 293, 351, 371, 33002, 40000, 57591]),
    st.integers(0, 600),
)
SPECS = st.lists(
    st.builds(
        FieldSpec, ELEMENTS, st.sampled_from([0, 1, 2, 3, 4, 6, 8, 9, 16, 32, 65535]), st.sampled_from([0, 0, 0, 29305, 9, 6871])
    ),
    min_size=1,
    max_size=12,
)


@given(st.sampled_from([9, 10]), SPECS, SPECS, st.binary(max_size=300), st.binary(max_size=100))
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_template_over_any_data_never_crashes(
    version: int, fields: list[FieldSpec], options: list[FieldSpec], data: bytes, more: bytes
) -> None:
    """Every element with every length, well or ill suited."""
    flows = Template(256, fields)
    other = Template(257, options, [FieldSpec(1, 4)])
    raw = Template(256, [FieldSpec(0, len(data))])
    raw_options = Template(257, [FieldSpec(0, len(more))])
    survives(encode(Message(version, 1_700_000_000, [flows, other, DataSet(raw_options, [(more,)]), DataSet(raw, [(data,)])])))


@given(st.data(), st.sampled_from([5, 7, 9, 10]))
@settings(max_examples=150, deadline=None)
def test_damaged_datagrams_never_crash(data: st.DataObject, version: int) -> None:
    """Bytes changed, cut out or cut off in a valid datagram."""
    if version < 9:
        valid = (encode_v5 if version == 5 else encode_v7)(V5Datagram([V5Flow("192.0.2.1", "192.0.2.2")] * 3, 1_700_000_000))
    else:
        flows = Template(256, [FieldSpec(8, 4), FieldSpec(82, 65535), FieldSpec(1, 8), FieldSpec(22, 4)])
        options = Template(257, [FieldSpec(48, 1), FieldSpec(50, 4)], [FieldSpec(1, 4)])
        rows = [(b"\1\2\3\4", b"eth0", 5, 6)] * 3
        valid = encode(Message(version, 1_700_000_000, [flows, options, DataSet(options, [(1, 2, 3)]), DataSet(flows, rows)]))
    damaged = bytearray(valid)
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(damaged) - 1))
        damaged[place] = data.draw(u8)
    if data.draw(st.booleans()):
        del damaged[data.draw(st.integers(0, len(damaged))) :]
    survives(bytes(damaged))
