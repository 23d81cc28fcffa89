"""Whether an address, given as text, lies in one of some networks: one look-up for an address that was asked for before."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from socket import AF_INET, AF_INET6, inet_pton
from typing import Final

__all__ = ["Network", "NetworkSet"]

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_MAX_ADDRESSES: Final = 1 << 16
_LONGEST: Final = 64
_MAPPED: Final = bytes(10) + b"\xff\xff"


class NetworkSet(dict[str, bool | None]):
    """By the text of an address: whether it lies within; None for what is no address. IPv4 within IPv6 (::ffff:a.b.c.d) is IPv4.

    Answers are remembered until there are 65,536 of them, and then forgotten all at once. Belongs to one thread.
    """

    __slots__ = ("_prefixes",)

    def __init__(self, networks: Iterable[Network]) -> None:
        super().__init__()
        # By length of the address in bytes: number of host bits and the prefixes that have so many.
        prefixes: dict[int, dict[int, set[int]]] = {4: {}, 16: {}}
        for network in networks:
            bits = network.max_prefixlen - network.prefixlen
            prefixes[network.max_prefixlen // 8].setdefault(bits, set()).add(int(network.network_address) >> bits)
        self._prefixes = {length: tuple(found.items()) for length, found in prefixes.items()}

    def __missing__(self, text: str) -> bool | None:
        if len(self) >= _MAX_ADDRESSES:
            self.clear()
        found = self._look_up(text)
        if len(text) <= _LONGEST:
            self[text] = found
        return found

    def _look_up(self, text: str) -> bool | None:
        try:
            # A zone (fe80::1%eth0) names an interface and is no part of the address.
            packed = inet_pton(AF_INET6, text.partition("%")[0]) if ":" in text else inet_pton(AF_INET, text)
        except (OSError, ValueError):
            return None
        if packed.startswith(_MAPPED):
            packed = packed[12:]
        number = int.from_bytes(packed, "big")
        for bits, prefixes in self._prefixes[len(packed)]:  # noqa: SIM110  a generator would cost more than all else here
            if number >> bits in prefixes:
                return True
        return False
