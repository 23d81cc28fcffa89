"""What parsers of lists share: the report of what was left out, and the error for content that is no such list."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

__all__ = ["IntelError", "Report", "confidence_of", "lines_of", "short_text"]

_EXAMPLES: Final = 5
_MAX_TEXT: Final = 500


class IntelError(ValueError):
    """The content is not in the format; one sentence says why."""


@dataclass(slots=True)
class Report:
    """What came of a list: how many indicators were taken, how many entries left out, the first few with place and reason."""

    taken: int = 0
    left_out: int = 0
    examples: list[str] = field(default_factory=list)

    def leave_out(self, place: str, reason: str) -> None:
        """Count one entry."""
        self.left_out += 1
        if len(self.examples) < _EXAMPLES:
            self.examples.append(f"{place}: {reason}")


def lines_of(text: str) -> Iterator[str]:
    """The lines of a text with their ends, one at a time: a list of all of them would be as large as the text again."""
    at = 0
    while at < len(text):
        end = text.find("\n", at) + 1 or len(text)
        yield text[at:end]
        at = end


def short_text(value: Any) -> str | None:
    """A text for people, on one line and not too long; None where there is none."""
    if not isinstance(value, str):
        return None
    text = " ".join(value[: 2 * _MAX_TEXT].split())[:_MAX_TEXT]
    return text.encode("utf-8", "replace").decode() or None


def confidence_of(value: Any) -> int | None:
    """0 to 100; None for anything else."""
    if isinstance(value, str) and value.strip().isdecimal() and len(value) < 6:
        value = int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 100 else None
