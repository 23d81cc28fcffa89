"""Where users were last seen: the addresses from which each of them acted, newest first."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

__all__ = ["LastSeen"]

_HOUR_US: Final = 3_600_000_000
_LONGEST: Final = 256


class LastSeen:
    """A bounded memory of users and their addresses; the user who was silent the longest is forgotten first.

    Times are receive times, so that a replay remembers what the first run did; addresses expire against the time of who asks.

    Args:
        users: remembered at most.
        addresses: of one user.
        hours: after which an address is forgotten.
    """

    def __init__(self, users: int = 50_000, addresses: int = 5, hours: float = 12.0) -> None:
        self._limit = users
        self._addresses = addresses
        self._age_us = round(hours * _HOUR_US)
        self._users: OrderedDict[str, list[tuple[str, int]]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._users)

    def visit(self, user: str, address: str | None, at_us: int, *, remember: bool) -> list[str]:
        """An event of this user: where the user was seen before, where that says something that the event does not.

        Args:
            user: a key of no more than 256 characters; longer ones are not remembered.
            address: of the event; None where it has none.
            at_us: receive time of the event.
            remember: whether the event says that the user acted from this address.

        Returns:
            Addresses that have not expired, newest first, without this one; none where the user was at this address last time too.
        """
        seen = self._users.get(user)
        if seen is None:
            if remember and address is not None and len(user) <= _LONGEST:
                if len(self._users) >= self._limit:
                    self._users.popitem(last=False)
                self._users[user] = [(address, at_us)]
            return []
        newest, when = seen[0]
        if newest == address:
            if remember and at_us > when:
                seen[0] = (address, at_us)
                self._users.move_to_end(user)
            return []
        oldest = at_us - self._age_us
        before = [known for known, seen_at in seen if seen_at >= oldest and known != address]
        if remember and address is not None:
            self._add(user, seen, address, at_us)
        return before

    def _add(self, user: str, seen: list[tuple[str, int]], address: str, at_us: int) -> None:
        """Partitions are read side by side: what comes late does not become the newest; of one batch, what comes last does."""
        entries = {address: max([at_us, *(seen_at for known, seen_at in seen if known == address)])}
        entries |= {known: seen_at for known, seen_at in seen if known != address}
        self._users[user] = sorted(entries.items(), key=lambda entry: -entry[1])[: self._addresses]
        self._users.move_to_end(user)
