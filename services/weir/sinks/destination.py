"""What the runtime of a sink and its destination owe each other.

The runtime reads records, batches them by topic, keeps the offsets and writes the ledger; a destination turns a batch into
requests. A destination knows nothing of Kafka. It may be called from several threads at once, for different topics, and for the
same topic as often as `max_parallel` says.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

__all__ = ["Counters", "Destination", "Misconfigured", "Rejected", "Retry", "Row"]


@dataclass(frozen=True, slots=True)
class Row:
    """One record read from a topic.

    `topic` is the short name, such as "events.cef"; `record` the decoded Avro record, its times as integer microseconds UTC.
    """

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    record: dict[str, Any]


class Rejected(NamedTuple):
    """A row that the destination will never take, with a reason a person can act on; it becomes a dead letter."""

    row: Row
    reason: str


class Retry(Exception):
    """The destination may take the rows later.

    Nothing of the call counts as delivered but what `delivered` and `rejected` list: a destination that takes a batch in several
    requests and does not remove duplicates names there what is behind it already.

    Args:
        reason: what happened and, where somebody must act, the way out.
        retry_after: seconds that the destination asked to be left alone; None leaves it to the runtime.
        delivered: rows of this call that the destination has accepted.
        rejected: rows of this call that it will never take.
    """

    def __init__(
        self,
        reason: str,
        *,
        retry_after: float | None = None,
        delivered: Sequence[Row] = (),
        rejected: Sequence[Rejected] = (),
    ) -> None:
        super().__init__(reason)
        self.retry_after = retry_after
        self.delivered = tuple(delivered)
        self.rejected = tuple(rejected)


class Misconfigured(Exception):
    """What no retry heals: `mistakes` holds one sentence each, with the setting and the way out. The sink stops."""

    def __init__(self, mistakes: Sequence[str]) -> None:
        super().__init__("; ".join(mistakes))
        self.mistakes = list(mistakes)


@dataclass(slots=True)
class Counters:
    """What a destination did since its start; `bytes_sent` as on the wire, so after compression."""

    requests: int = 0
    bytes_sent: int = 0
    bytes_received: int = 0
    truncated: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def add(self, *, requests: int = 0, bytes_sent: int = 0, bytes_received: int = 0, truncated: int = 0) -> None:
        """Add to the numbers; any thread may."""
        with self._lock:
            self.requests += requests
            self.bytes_sent += bytes_sent
            self.bytes_received += bytes_received
            self.truncated += truncated


class Destination(Protocol):
    """Where a sink delivers to.

    Attributes:
        name: "sentinel", "adx", "siem"; part of the consumer group and of the ledger's service name.
        max_rows: most rows that one `send` is given.
        max_bytes: a `send` is given about so many bytes of Avro at most (the runtime stops at the first record beyond).
        max_parallel: calls of `send` at the same time for one topic; 1 keeps the order of each partition.
        counters: what the destination did, for the metrics.
    """

    name: str
    max_rows: int
    max_bytes: int
    max_parallel: int
    counters: Counters

    def prepare(self, topics: Sequence[str]) -> None:
        """Create or check tables and whatever else must be there, for these topics (short names). Called until it succeeds.

        Raises:
            Retry: not now.
            Misconfigured: not ever.
        """

    def table(self, topic: str) -> str:
        """Name of what rows of this topic become at the destination; the ledger's dataset."""

    def send(self, topic: str, rows: Sequence[Row]) -> list[Rejected]:
        """Deliver rows of one topic, in order; blocks until the destination has accepted all but the returned ones.

        Any other exception than Retry and Misconfigured is a bug of the destination; the runtime logs it and treats it as Retry.

        Raises:
            Retry: the destination may take the rest later.
            Misconfigured: it never will, until somebody changes a setting.
        """

    def close(self) -> None:
        """Release connections and threads; no `send` is running any more, or those that are may fail."""
