"""What the tests of `weir decode` share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from weir.tools.decode import FAMILIES, DeadUnit, Decoded, Options, Totals, decode
from weir.tools.decode.units import Note

RECEIVED = 1_710_000_000_000_000


@dataclass
class Result:
    """What came of an input."""

    events: list[Decoded] = field(default_factory=list)
    dead: list[DeadUnit] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)
    totals: Totals = field(default_factory=Totals)

    def all(self, name: str) -> list[Any]:
        """One field of every event."""
        return [one.record.get(name) for one in self.events]

    @property
    def datasets(self) -> list[str]:
        return [one.dataset for one in self.events]


def decoded(family: str, *paths: Path | str, **options: Any) -> Result:
    """Decode files by a family."""
    result = Result()
    for one in decode(FAMILIES[family], [str(path) for path in paths], replace(Options(RECEIVED), **options), result.totals):
        (result.events if isinstance(one, Decoded) else result.dead if isinstance(one, DeadUnit) else result.notes).append(one)
    return result


def written(folder: Path, content: bytes | str | Sequence[bytes], name: str = "input") -> Path:
    """A file with this content; lines, if it is a list."""
    path = folder / name
    data = content.encode() if isinstance(content, str) else content if isinstance(content, bytes) else b"\n".join(content)
    path.write_bytes(data)
    return path
