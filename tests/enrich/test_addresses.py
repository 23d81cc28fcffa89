"""The longest prefix, against asking every network in turn."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weir.enrich.addresses import Network, PrefixTable, is_inner, parse_address, parse_network

ADDRESSES = st.integers(0, 255).map(lambda n: ipaddress.IPv4Address(f"192.0.2.{n}")) | st.integers(0, 65535).map(
    lambda n: ipaddress.IPv6Address(f"2001:db8::{n:x}")
)


@st.composite
def networks(draw: st.DrawFn) -> Network:
    address = draw(ADDRESSES)
    length = draw(st.integers(0, 12))
    return ipaddress.ip_network((address, address.max_prefixlen - length), strict=False)


@settings(max_examples=150)
@given(st.lists(networks(), max_size=12), st.lists(ADDRESSES, min_size=1, max_size=8))
def test_the_longest_prefix_is_the_one_that_asking_each_network_finds(
    held: list[Network], asked: list[ipaddress.IPv4Address]
) -> None:
    table = PrefixTable((network, str(network)) for network in held)
    for address in asked:
        slow = sorted({n for n in held if n.version == address.version and address in n}, key=lambda n: -n.prefixlen)
        assert table.find_all(address) == [str(network) for network in slow]
        assert table.find(address) == (str(slow[0]) if slow else None)
    assert len(table) == len(set(held))


def test_ipv4_within_ipv6_is_ipv4() -> None:
    assert str(parse_address("::ffff:192.0.2.1")) == "192.0.2.1"
    assert str(parse_network("::ffff:192.0.2.0/120")) == "192.0.2.0/24"
    assert str(parse_address("fe80::1%eth0")) == "fe80::1"
    assert parse_address("host") is None


@pytest.mark.parametrize(
    ("text", "inner"),
    [
        ("10.1.2.3", True),
        ("100.64.0.1", True),
        ("fd00::1", True),
        ("203.0.113.1", False),
        ("2001:db8::1", False),
        ("8.8.8.8", False),
    ],
)
def test_private_addresses_are_inner_and_documentation_is_not(text: str, inner: bool) -> None:
    address = parse_address(text)
    assert address is not None
    assert is_inner(address) is inner
