"""From what a decoder in `weir.protocols` read to the fields of an event: one module a source.

A source that can come by more than one way (Suricata by Filebeat, by HTTP, by syslog, within a SensorFleet envelope) has a
*reader*: a module, or any other object, with a `name` and the two functions of `Reader`; `weir.processors.readers` asks them in
turn.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from weir.processors.localtime import ToUtc

__all__ = ["NOTHING", "Context", "Decoded", "Reader"]

Decoded = tuple[str, dict[str, Any]]
"""Dataset (one of `weir.model.topics.DATASETS`) and the event's fields, as that dataset's schema has them and no others."""

NOTHING: Final[Decoded] = ("", {})
"""What a reader answers for a unit that is its own and holds no event, such as the line that names the columns of those to come."""


@dataclass(slots=True)
class Context:
    """What is known of a line or a document besides itself.

    `received_us` is microseconds UTC. `program` is the syslog APP-NAME or tag; `log_path`, `module` and `event_dataset` are what a
    shipper says of where it read the line (log.file.path, event.module, event.dataset). `memory` lives as long as the batch and is
    shared by its units, for formats whose lines explain later ones; a reader keeps what it needs there under its own name.
    """

    received_us: int
    to_utc: ToUtc
    program: str | None = None
    log_path: str | None = None
    module: str | None = None
    event_dataset: str | None = None
    memory: dict[str, Any] = field(default_factory=dict)


class Reader(Protocol):
    """One source. Both functions answer None, quickly, for what is not theirs; ValueError is for what claims to be it in vain."""

    @property
    def name(self) -> str:
        """Such as "suricata"."""

    def line(self, text: str, context: Context) -> Decoded | None:
        """What a line of text is: the MSG of a syslog message, the message of a Beat. Lines that are JSON come as documents."""

    def document(self, document: dict[str, object], context: Context) -> Decoded | None:
        """What a JSON object is."""
