"""The table of information elements."""

from __future__ import annotations

import pytest

from weir.protocols.netflow.elements import canonical, element, elements, natural_size, vendor_elements
from weir.protocols.netflow.fields import ALTERNATIVES, END_TIMES, START_TIMES, FlowRecord

TYPES = {
    "octetArray", "unsigned8", "unsigned16", "unsigned32", "unsigned64", "signed8", "signed16", "signed32", "signed64", "float32",
    "float64", "boolean", "macAddress", "string", "dateTimeSeconds", "dateTimeMilliseconds", "dateTimeMicroseconds",
    "dateTimeNanoseconds", "ipv4Address", "ipv6Address", "basicList", "subTemplateList", "subTemplateMultiList", "unsigned256",
}  # fmt: skip


@pytest.mark.parametrize(
    ("number", "name", "abstract_type"),
    [
        (1, "octetDeltaCount", "unsigned64"),
        (8, "sourceIPv4Address", "ipv4Address"),
        (27, "sourceIPv6Address", "ipv6Address"),
        (56, "sourceMacAddress", "macAddress"),
        (152, "flowStartMilliseconds", "dateTimeMilliseconds"),
        (302, "selectorId", "unsigned64"),
        (311, "samplingProbability", "float64"),
        (533, "pathDelaySumDeltaMicroseconds", "unsigned64"),
    ],
)
def test_known_elements(number: int, name: str, abstract_type: str) -> None:
    assert element(0, number) == (name, abstract_type)


def test_the_table_is_whole() -> None:
    """Some 500 IANA elements with one name each, of the registered types."""
    table = {key: value for key, value in elements().items() if key < 32768}
    assert len(table) == 502
    assert {value.type for value in table.values()} <= TYPES
    assert len({value.name for value in table.values()}) == len(table)
    assert not [number for number in table if 105 <= number <= 127]


def test_vendor_elements_have_one_name_each_that_is_none_of_ianas() -> None:
    """But for those that mean the same: ids that vendors took in NetFlow v9 before IANA had one."""
    table = vendor_elements()
    assert len(table) > 1400
    assert {value.type for value in table.values()} <= TYPES
    iana = {value.name for value in elements().values()}
    shared = {place for place, value in table.items() if value.name in iana}
    assert shared == {(0, 40000), (0, 40001), (0, 40002), (0, 40003), (0, 40004), (0, 40005), (0, 56701), (0, 56702)}
    assert not [value.name for value in table.values() if value.name.startswith("reverse") and value.name[7:8].islower()]


def test_vendor_elements() -> None:
    """Of IPFIX by enterprise; nProbe's also where it puts them in NetFlow v9; CERT's of the reverse direction by their bit."""
    assert element(9, 12235) == ("appHTTPHost", "string")
    assert element(5951, 130) == ("httpReqUrl", "string")
    assert element(6876, 889) == ("vxlanExportRole", "unsigned8")
    assert element(35632, 119) == element(0, 57591) == ("l7ProtoName", "string")
    assert canonical(0, 57591) == (35632, 119)
    assert element(6871, 14) == ("initialTCPFlags", "unsigned16")
    assert element(6871, 14 | 1 << 14) == ("reverseInitialTCPFlags", "unsigned16")


def test_reverse_and_unknown_elements_have_names() -> None:
    """RFC 5103 names, and numbers where nothing is known."""
    assert element(29305, 1) == ("reverseOctetDeltaCount", "unsigned64")
    assert element(29305, 30000) == ("enterprise:29305.30000", "octetArray")
    assert element(9, 30000) == ("enterprise:9.30000", "octetArray")
    assert element(6871, 30000) == ("enterprise:6871.30000", "octetArray")
    assert element(0, 65) == ("enterprise:0.65", "octetArray")


def test_every_target_is_a_field_and_its_elements_agree_in_kind() -> None:
    """Alternatives of one field have types of the same size class, so that one can stand in for the other."""
    for target, ids in ALTERNATIVES.items():
        assert target.startswith("_") or target in FlowRecord.__annotations__
        places = [(0, place) if isinstance(place, int) else place for place in ids]
        kinds = {element(*place).type.rstrip("0123456789") for place in places}
        assert kinds in ({"unsigned"}, {"string"}, {"macAddress"}, {"ipv"}, {"ipv4Address", "ipv6Address"}, {"ipv4Address"}), target
    for number in (*START_TIMES, *END_TIMES):
        assert natural_size(element(0, number).type) in (4, 8)
