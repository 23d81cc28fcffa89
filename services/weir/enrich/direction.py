"""network_direction: whether traffic comes in, goes out, or stays, by the operator's own networks.

ECS (field network.direction) has four words for what networks see: inbound, outbound, internal, external. What an
exporter calls ingress and egress is about its interface and stays in flow_direction.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from weir.enrich.networks import Network, NetworkSet
from weir.model.sources import network_of

__all__ = ["PRIVATE", "Directions", "own_networks"]

Record = dict[str, Any]

PRIVATE: Final = "private"
"""In a list of own networks, all of those that are nobody's in the Internet."""

_PRIVATE: Final = ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7")  # RFC 1918, RFC 6598, RFC 4193
# Never routed out of a site: link local, loopback, "this network" (a host without an address), multicast, broadcast. Multicast
# can be routed, but what it is sent to is a group here, so that it is not called outbound.
_ALWAYS: Final = ("169.254.0.0/16", "127.0.0.0/8", "0.0.0.0/8", "224.0.0.0/4", "255.255.255.255/32")
_ALWAYS_6: Final = ("fe80::/10", "::1/128", "::/128", "ff00::/8")

# By whether source and destination are own; there is no word for what is no address.
_WORDS: Final[dict[tuple[bool | None, bool | None], str]] = {
    (False, False): "external",
    (False, True): "inbound",
    (True, False): "outbound",
    (True, True): "internal",
}


def own_networks(text: str) -> tuple[Network, ...]:
    """The networks in a comma separated list of CIDR ranges and the word `private`.

    Raises:
        ValueError: a part is neither.
    """
    found: list[Network] = []
    for part in filter(None, map(str.strip, text.split(","))):
        found += map(network_of, _PRIVATE if part.casefold() == PRIVATE else (part,))
    return tuple(dict.fromkeys(found))


class Directions:
    """The step that fills in network_direction where both addresses are known; there, own networks overrule what a source says.

    Args:
        networks: the operator's own. Addresses that never leave a site count as own in any case: link local, loopback, the
            unspecified address, multicast and broadcast.
    """

    def __init__(self, networks: Iterable[Network]) -> None:
        self._owned = NetworkSet([*networks, *map(network_of, (*_ALWAYS, *_ALWAYS_6))])

    def of(self, source: str, destination: str) -> str | None:
        """inbound, outbound, internal or external; None where one of them is no address."""
        owned = self._owned
        return _WORDS.get((owned[source], owned[destination]))

    def __call__(self, records: list[Record]) -> None:
        """Fill in the direction of each record."""
        owned, words = self._owned, _WORDS.get
        for record in records:
            source, destination = record.get("source_ip"), record.get("destination_ip")
            if source is not None and destination is not None:
                word = words((owned[source], owned[destination]))
                if word is not None:
                    record["network_direction"] = word
