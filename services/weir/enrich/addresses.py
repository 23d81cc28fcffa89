"""Addresses, and what is said of networks: the longest prefix that holds an address is the one that knows it best."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from typing import Final, Generic, TypeVar

__all__ = ["Address", "Network", "PrefixTable", "is_inner", "parse_address", "parse_network"]

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

V = TypeVar("V")

# No address of these is anywhere on the Internet: RFC 1122, 1918, 3927, 4193, 4291, 5771, 6598. Documentation ranges are left out,
# so that examples work.
_INNER: Final = tuple(
    ipaddress.ip_network(text)
    for text in (
        *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.168.0.0/16"),
        *("224.0.0.0/3", "::/127", "fc00::/7", "fe80::/10", "ff00::/8"),
    )
)


def parse_address(text: str) -> Address | None:
    """An address, without its zone; IPv4 within IPv6 (::ffff:a.b.c.d) is IPv4. None for what is none."""
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def parse_network(text: str) -> Network:
    """An address or CIDR range. Raises ValueError for anything else, bits behind the prefix among it."""
    network = ipaddress.ip_network(text)
    mapped = network.network_address.ipv4_mapped if isinstance(network.network_address, ipaddress.IPv6Address) else None
    return network if mapped is None or network.prefixlen < 96 else ipaddress.IPv4Network((mapped, network.prefixlen - 96))


def is_inner(what: Address | Network) -> bool:
    """Whether an address, or any part of a network, is private, local, multicast or reserved."""
    if isinstance(what, (ipaddress.IPv4Address, ipaddress.IPv6Address)):
        return _INNER_TABLE.find(what) is not None
    return any(what.version == inner.version and what.overlaps(inner) for inner in _INNER)


class PrefixTable(Generic[V]):
    """Values of networks: a dictionary for each length of prefix, asked from the longest down.

    Args:
        entries: networks and their values; of two values of one network the later one is kept.
    """

    def __init__(self, entries: Iterable[tuple[Network, V]]) -> None:
        by_length: dict[tuple[int, int], dict[int, V]] = {}
        for network, value in entries:
            bits = network.max_prefixlen - network.prefixlen
            by_length.setdefault((network.version, network.prefixlen), {})[int(network.network_address) >> bits] = value
        self._levels = {
            version: [
                (width - length, by_length[version, length]) for length in range(width, -1, -1) if (version, length) in by_length
            ]
            for version, width in ((4, 32), (6, 128))
        }
        self._size = sum(map(len, by_length.values()))

    def __len__(self) -> int:
        return self._size

    def find_all(self, address: Address) -> list[V]:
        """The values of all networks that hold the address, the longest prefix first."""
        number = int(address)
        found = []
        for shift, values in self._levels[address.version]:
            value = values.get(number >> shift)
            if value is not None:
                found.append(value)
        return found

    def find(self, address: Address) -> V | None:
        """The value of the longest prefix that holds the address."""
        number = int(address)
        for shift, values in self._levels[address.version]:
            value = values.get(number >> shift)
            if value is not None:
                return value
        return None


_INNER_TABLE: Final = PrefixTable((network, True) for network in _INNER)
