"""Structured data (RFC 6313): lists within fields, and that whatever they hold nothing after them is misaligned."""

from __future__ import annotations

from struct import pack
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from weir.protocols.netflow import Decoder, DecodeResult, TemplateRecord, TemplateStore
from weir.protocols.netflow.encode import DataSet, FieldSpec, Message, Template, encode, ipv4, template_record
from weir.protocols.netflow.structured import MAX_DEPTH, nests, read_list

VARIABLE = 65535
INNER = Template(300, [FieldSpec(8, 4), FieldSpec(2, 2)])
NAMES = Template(301, [FieldSpec(82, VARIABLE)])
KNOWN = {
    template.template_id: TemplateRecord(10, 0, template.template_id, False, template_record(10, template))
    for template in (INNER, NAMES)
}


def basic(element_id: int, length: int, values: list[bytes], enterprise: int = 0, semantic: int = 3) -> bytes:
    head = pack(">BHH", semantic, element_id | (0x8000 if enterprise else 0), length)
    body = b"".join(pack(">B", len(value)) + value if length == VARIABLE else value for value in values)
    return head + (pack(">I", enterprise) if enterprise else b"") + body


def sub_template(template_id: int, body: bytes, semantic: int = 4) -> bytes:
    return pack(">BH", semantic, template_id) + body


def multi(parts: list[tuple[int, bytes]], semantic: int = 255) -> bytes:
    return pack(">B", semantic) + b"".join(pack(">HH", number, 4 + len(body)) + body for number, body in parts)


def decode(element_id: int, value: bytes, *before: Template) -> DecodeResult:
    """A record with a list in the middle and a number behind it."""
    template = Template(256, [FieldSpec(7, 2), FieldSpec(element_id, VARIABLE), FieldSpec(11, 2)])
    result = Decoder().decode(encode(Message(10, 0, [*before, template, DataSet(template, [(1, value, 2), (3, value, 4)])])))
    assert [(flow["source_port"], flow["destination_port"]) for flow in result.flows] == [(1, 2), (3, 4)]
    return result


def additional(result: DecodeResult) -> dict[str, Any]:
    assert result.complete
    return dict(result.flows[1]["additional"])


def test_a_basic_list_is_the_values_of_its_element() -> None:
    found = additional(decode(291, basic(8, 4, [ipv4("192.0.2.1"), ipv4("192.0.2.2")])))
    assert found == {"basicList": {"semantic": "allOf", "sourceIPv4Address": ["192.0.2.1", "192.0.2.2"]}}
    found = additional(decode(484, basic(483, 4, [pack(">I", 65536)])))
    assert found == {"bgpSourceCommunityList": {"semantic": "allOf", "bgpCommunity": [65536]}}
    texts = additional(decode(291, basic(130, VARIABLE, [b"/a", b""], enterprise=5951, semantic=9)))
    assert texts == {"basicList": {"semantic": "9", "httpReqUrl": ["/a", ""]}}
    assert additional(decode(291, basic(8, 4, []))) == {"basicList": {"semantic": "allOf", "sourceIPv4Address": []}}


def test_a_sub_template_list_is_records() -> None:
    body = (ipv4("192.0.2.1") + pack(">H", 7)) * 2
    found = additional(decode(292, sub_template(300, body), INNER))
    record = {"sourceIPv4Address": "192.0.2.1", "packetDeltaCount": 7}
    assert found == {"subTemplateList": {"semantic": "ordered", "records": [record, record]}}
    unknown = additional(decode(292, sub_template(999, b"\1\2")))
    assert unknown == {"subTemplateList": {"semantic": "ordered", "template": 999, "data": "0102"}}


def test_a_multi_list_is_the_records_of_several_templates() -> None:
    value = multi([(300, ipv4("192.0.2.1") + pack(">H", 7)), (301, b"\4eth0\1x"), (999, b"\xff")])
    found = additional(decode(293, value, INNER, NAMES))
    assert found["subTemplateMultiList"] == {
        "semantic": "undefined",
        "records": [
            {"sourceIPv4Address": "192.0.2.1", "packetDeltaCount": 7}, {"interfaceName": "eth0"}, {"interfaceName": "x"},
            {"template": 999, "data": "ff"},
        ],
    }  # fmt: skip


def test_lists_may_hold_lists_but_not_without_end() -> None:
    inside = basic(8, 4, [ipv4("192.0.2.1")])
    found = additional(decode(291, basic(291, VARIABLE, [inside])))
    assert found["basicList"]["basicList"] == [{"semantic": "allOf", "sourceIPv4Address": ["192.0.2.1"]}]
    deep = inside
    for _ in range(12):
        deep = basic(291, VARIABLE, [deep])
    value = read_list("basicList", deep, KNOWN.get)
    for _ in range(MAX_DEPTH):
        assert isinstance(value, dict)
        (value,) = value["basicList"]
    assert isinstance(value, str)


def test_what_is_no_list_is_hexadecimal() -> None:
    for value in (b"", b"\3", basic(8, 0, []), basic(8, 4, [b"\1\2"]), basic(130, 4, [], 5951)[:7]):
        assert additional(decode(291, value)) == {"basicList": value.hex()}
    assert additional(decode(293, multi([])[:1] + pack(">HH", 300, 3)))["subTemplateMultiList"] == "ff012c0003"


def test_a_batch_carries_the_templates_that_are_named_inside_records() -> None:
    outer = Template(256, [FieldSpec(292, VARIABLE)])
    other = Template(302, [FieldSpec(7, 2)])
    store = TemplateStore()
    store.learn(encode(Message(10, 0, [INNER, outer])))
    store.learn(encode(Message(10, 0, [other], domain=5)))
    data = encode(Message(10, 0, [DataSet(outer, [(sub_template(300, ipv4("192.0.2.1") + pack(">H", 7)),)])]))
    needs = store.needs([data])
    assert {template.template_id for template in needs.templates} == {256, 300}
    assert Decoder(*needs[:3]).decode(data).flows[0]["additional"]["subTemplateList"]["records"]  # type: ignore[index]
    assert not nests(KNOWN[300])


values = st.lists(st.binary(min_size=4, max_size=4), max_size=6)


@given(values, st.integers(0, 255), st.lists(st.text(max_size=20).map(str.encode), max_size=5))
@settings(max_examples=60, deadline=None)
def test_lists_round_trip(addresses: list[bytes], semantic: int, texts: list[bytes]) -> None:
    found = read_list("basicList", basic(8, 4, addresses, semantic=semantic), KNOWN.get)
    assert found["sourceIPv4Address"] == [".".join(map(str, raw)) for raw in addresses]
    body = b"".join(pack(">B", len(text)) + text for text in texts)
    records = read_list("subTemplateList", sub_template(301, body), KNOWN.get)["records"]
    assert [record["interfaceName"] for record in records] == [text.rstrip(b"\0").decode() for text in texts]


@given(st.sampled_from(["basicList", "subTemplateList", "subTemplateMultiList"]), st.binary(max_size=120), st.binary(max_size=4))
@settings(max_examples=150, deadline=None)
def test_any_bytes_are_a_list_or_hexadecimal(kind: str, raw: bytes, head: bytes) -> None:
    found = read_list(kind, head + b"\1\x23\0\4" + raw, KNOWN.get)
    assert isinstance(found, dict | str)
    assert isinstance(read_list(kind, raw, KNOWN.get), dict | str)


def test_many_small_values_cost_one_pass() -> None:
    """The longest list that a field can be, of the smallest values: as many values as bytes, at one level."""
    found = read_list("basicList", basic(4, 1, [b"\6"] * 60_000), KNOWN.get)
    assert found["protocolIdentifier"] == [6] * 60_000
