"""How much one sender may take: connections, new connections per second, messages per second.

Bounded memory: of the addresses that were counted last some thousands are remembered. Who invents more addresses than that
begins anew with a full allowance, but so many senders are beyond what a limit per source is for; the limits over all hold.

For connections an IPv6 source is its /64: a host may choose its address within that (RFC 8981), anew for every connection. For
messages it is the single address: devices of one network must not use up each other's allowance.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from ipaddress import IPv6Address

__all__ = ["ConnectionLimits", "RateLimit", "subscriber"]

_REMEMBERED = 16_384
_HOST_BITS = 64


def subscriber(address: str) -> str:
    """Who is behind an address, as far as limits go: the /64 of an IPv6 address; else the address itself."""
    if ":" not in address:
        return address
    try:
        number = int(IPv6Address(address.partition("%")[0]))
    except ValueError:
        return address
    return f"{IPv6Address(number >> _HOST_BITS << _HOST_BITS)}/{_HOST_BITS}"


class RateLimit:
    """A token bucket per source.

    Args:
        rate: units per second that a source may send for good; 0 for no limit.
        burst: units it may send at once.
        clock: seconds, monotonic.
    """

    __slots__ = ("_buckets", "_burst", "_clock", "_keys", "rate")

    def __init__(self, rate: float, burst: float, clock: Callable[[], float], keys: int = _REMEMBERED) -> None:
        self.rate = rate
        self._burst = max(burst, 1.0)
        self._clock = clock
        self._keys = keys
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._buckets)

    def _level(self, source: str, now: float) -> float:
        level, at = self._buckets.get(source, (self._burst, now))
        return min(self._burst, level + (now - at) * self.rate)

    def _set(self, source: str, level: float, now: float) -> None:
        self._buckets[source] = (level, now)
        self._buckets.move_to_end(source)
        if len(self._buckets) > self._keys:
            self._buckets.popitem(last=False)

    def allow(self, source: str, units: int = 1) -> int:
        """How many of these units may be taken; they are then counted, the rest is not."""
        if not self.rate:
            return units
        now = self._clock()
        level = self._level(source, now)
        taken = min(units, int(level))
        self._set(source, level - taken, now)
        return taken

    def owe(self, source: str, units: int) -> float:
        """Count units that have been taken already; gives the seconds for which no more should be taken."""
        if not self.rate:
            return 0.0
        now = self._clock()
        level = self._level(source, now) - units
        self._set(source, level, now)
        return max(0.0, -level / self.rate)


class ConnectionLimits:
    """Connections at once, over all and per source, and new ones per source and second. 0 turns a limit per source off.

    `enter` counts a connection against the whole, as soon as it is accepted; `claim` counts it against its source, which behind
    a balancer is known only later. `most` may be changed.
    """

    def __init__(self, most: int, most_per_source: int, rate_per_source: float, clock: Callable[[], float]) -> None:
        self.most = most
        self._most_per_source = most_per_source
        self._rate = RateLimit(rate_per_source, rate_per_source * 10, clock)
        self._by_source: dict[str, int] = {}
        self.open = 0

    def enter(self) -> str | None:
        """Count one more connection; the reason where there is no place."""
        if self.open >= self.most:
            return "too many connections"
        self.open += 1
        return None

    def claim(self, source: str) -> str | None:
        """Count an entered connection for its source, an address; the reason where it may have no more."""
        source = subscriber(source)
        if not self._rate.allow(source):
            return "connection rate of the source"
        count = self._by_source.get(source, 0)
        if self._most_per_source and count >= self._most_per_source:
            return "too many connections of the source"
        self._by_source[source] = count + 1
        return None

    def leave(self, source: str | None) -> None:
        """An entered connection is gone; `source` where it had been claimed."""
        self.open -= 1
        if source is not None:
            source = subscriber(source)
            left = self._by_source[source] - 1
            if left:
                self._by_source[source] = left
            else:
                del self._by_source[source]
