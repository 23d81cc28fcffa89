"""What all kinds of correlations share: what a signals record says of its partials, and what a merge comes to."""

from __future__ import annotations

import hashlib
from typing import Any, NamedTuple, Protocol

from weir.model.ids import stable_id

__all__ = ["ALLOWED_LATENESS_US", "Merged", "SignalsHeader", "State", "value_hash"]

ALLOWED_LATENESS_US = 300_000_000


def value_hash(text: str) -> int:
    """What stands for a value in partials."""
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big")


class SignalsHeader(NamedTuple):
    """The parts of a signals record that all its partials share."""

    signals_id: str
    received_at: int
    raw_topic: str
    raw_partition: int = 0
    raw_offset: int = 0
    receiver: str = ""

    @classmethod
    def of(cls, record: dict[str, Any]) -> SignalsHeader:
        """The header of a signals record."""
        return cls(
            record["signals_id"],
            record["received_at"],
            record["raw_topic"],
            record["raw_partition"],
            record["raw_offset"],
            record.get("receiver", ""),
        )

    @property
    def receiver_number(self) -> int:
        """4 bytes of the receiver's name as a number."""
        return int(stable_id(self.receiver)[:8], 16)

    @property
    def short_id(self) -> int:
        """8 bytes of the id as a number."""
        return int(stable_id(self.signals_id)[:16], 16)


class State(Protocol):
    """What is remembered of one group. `sources` are raw topics it was fed from, `seen` the ids of the signals counted in it."""

    group: tuple[str, ...]
    sources: list[str]
    seen: dict[int, int]

    def to_bytes(self) -> bytes:
        """As a table value; its first byte tells the format, so that no kind reads another's."""


class Merged(NamedTuple):
    """What a merge came to. `changed` is False where the signal was seen before or refused; `alerts` then repeat what stands.

    `write` is False where the signal is news that leaves the state as it was, so that nothing need be written.
    """

    state: Any
    alerts: list[dict[str, Any]]
    changed: bool
    write: bool = True
