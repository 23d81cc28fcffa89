"""What all kinds of correlations share: what a signals record says of its partials, and what a merge comes to."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple, Protocol

from weir.model.ids import stable_id

__all__ = ["ALLOWED_LATENESS_US", "Heads", "Merged", "SignalsHeader", "State"]

ALLOWED_LATENESS_US = 300_000_000
# Raw partitions told apart in one group. Beyond these, the one heard of longest ago goes: what its processor would repeat after a
# crash is then told by the ids seen and the detector's marks alone.
MAX_HEADS = 256


class SignalsHeader(NamedTuple):
    """The parts of a signals record that all its partials share.

    Signals of one raw record that do not fit into one record come in several: the id of all but the first ends in `+` and the
    number of the part. A group is in one of them only.

    Of kind alerts, `raw_topic` names all topics that the alerts' events came from, with commas between them; partition and offset
    are those of the signals record that raised the alerts.
    """

    signals_id: str
    received_at: int
    raw_topic: str
    raw_partition: int = 0
    raw_offset: int = 0
    receiver: str = ""
    kind: str = "partials"

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
            record.get("kind", "partials"),
        )

    @property
    def topics(self) -> list[str]:
        """Raw topics whose progress says what is still to come."""
        return self.raw_topic.split(",") if self.kind == "alerts" else [self.raw_topic]

    @property
    def part(self) -> int:
        """Which of the records it is that the signals of one raw record came in; 0 for the first, and mostly the only one."""
        return int(self.signals_id.partition("+")[2] or 0)

    @property
    def log(self) -> str:
        """The topic that partition and offset are of; empty for the topic of signals."""
        return "" if self.kind == "alerts" else self.raw_topic

    @property
    def receiver_number(self) -> int:
        """4 bytes of the receiver's name as a number."""
        return int(stable_id(self.receiver)[:8], 16)

    @property
    def short_id(self) -> int:
        """8 bytes of the id as a number."""
        return int(stable_id(self.signals_id)[:16], 16)


class Heads:
    """How far each raw partition has been counted in one group.

    Processors publish in the order of their raw partitions, so a raw offset that is not above the highest counted is a repeat,
    unless its receive time is later: then the raw topic was created anew. It is in the same table value as the counts, so that
    neither is ahead of the other after a crash. A few bytes stand for all signals ever counted.
    """

    __slots__ = ("_by_partition",)

    def __init__(self, rows: Iterable[tuple[str, int, int, int]] = ()) -> None:
        self._by_partition = {(topic, partition): (offset, received) for topic, partition, offset, received in rows}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Heads) and self._by_partition == other._by_partition

    __hash__ = None  # type: ignore[assignment]

    def __len__(self) -> int:
        return len(self._by_partition)

    def take(self, header: SignalsHeader) -> bool:
        """Whether this record is news here; it is not from now on."""
        key = (header.log, header.raw_partition)
        offset, received = self._by_partition.get(key, (-1, 0))
        if header.raw_offset <= offset and header.received_at <= received:
            return False
        self._by_partition[key] = (header.raw_offset, max(received, header.received_at))
        if len(self._by_partition) > MAX_HEADS:
            del self._by_partition[min(self._by_partition, key=lambda known: self._by_partition[known][1])]
        return True

    def rows(self) -> list[tuple[str, int, int, int]]:
        """For `Heads(rows)`."""
        return [(*key, *position) for key, position in self._by_partition.items()]


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
