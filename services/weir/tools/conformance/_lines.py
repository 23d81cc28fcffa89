"""One line through the syslog processor, for the families whose inputs are lines."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from weir.model.batch import RawBatch
from weir.processors.outcome import RawCoordinates
from weir.processors.syslog import make_process

__all__ = ["RECEIVED_US", "decode", "lines_of"]

RECEIVED_US: Final = 1_790_000_000_000_000
_process = make_process()
_WHERE: Final = RawCoordinates("raw.syslog", 0, 0)


def decode(line: str) -> tuple[str, dict[str, Any]]:
    """Dataset and event of a line. Raises ValueError with the reason where the line would be a dead letter."""
    batch = RawBatch(bytes(16), "", "", "tcp", "192.0.2.1", 514, RECEIVED_US, [line.encode()])
    outcome = _process(batch, _WHERE)
    if outcome.dead:
        raise ValueError(outcome.dead[0].reason)
    ((dataset, events),) = outcome.events.items()
    return dataset, events[0]


def lines_of(path: Path) -> list[str]:
    """The lines of a file that hold anything."""
    return [line for line in path.read_text(encoding="utf-8", errors="replace").split("\n") if line.strip()]
