"""Reading the options of Weir's own kinds: every mistake is named, in one error."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sigma.correlations import SigmaCorrelationTimespan
from sigma.exceptions import SigmaError

from weir.detect.matching.matcher import UnsupportedError

__all__ = ["Reading"]

_SECOND = 1_000_000


class Reading:
    """Options being read; `done` raises where one of them was wrong or is not known.

    Args:
        kind: as `weir.detect.type` calls it, for messages.
        options: what the rule file gives besides the type.
    """

    def __init__(self, kind: str, options: Mapping[str, Any]) -> None:
        self._kind = kind
        self._options = options
        self._known: list[str] = []
        self._mistakes: list[str] = []

    def _given(self, name: str) -> Any:
        self._known.append(name)
        return self._options.get(name)

    def mistake(self, text: str) -> None:
        """Note that something is wrong."""
        self._mistakes.append(text)

    def duration(self, name: str, default: str, least: str, most: str) -> int:
        """A timespan such as 7d, in microseconds, within bounds."""
        given = self._given(name)
        value = default if given is None else given
        try:
            microseconds = _microseconds(value)
        except (SigmaError, ValueError, TypeError):
            self.mistake(f"{name}: {value!r} is no timespan such as {default}")
            return _microseconds(default)
        if not _microseconds(least) <= microseconds <= _microseconds(most):
            self.mistake(f"{name}: {value} is not from {least} to {most}")
        return microseconds

    def number(self, name: str, default: float, least: float, most: float, whole: bool = False) -> float:
        """A number within bounds."""
        given = self._given(name)
        value = default if given is None else given
        if isinstance(value, bool) or not isinstance(value, int if whole else (int, float)):
            self.mistake(f"{name}: {value!r} is no {'whole ' if whole else ''}number")
            return default
        if not least <= value <= most:
            self.mistake(f"{name}: {value} is not from {least:g} to {most:g}")
        return value

    def text(self, name: str, default: str = "") -> str:
        """A name; without a default it must be given."""
        given = self._given(name)
        value = default if given is None else given
        if not isinstance(value, str) or not value:
            self.mistake(f"{name}: names no field" if name in self._options else f"{name} must be given")
            return default
        return value

    def names(self, name: str) -> tuple[str, ...]:
        """A field or a list of fields, which must be given."""
        given = self._given(name)
        found = tuple(given) if isinstance(given, list) else (given,)
        if not found or not all(isinstance(one, str) and one for one in found):
            self.mistake(f"{name}: names no field" if name in self._options else f"{name} must be given")
            return ()
        return found

    def done(self) -> None:
        """Raises UnsupportedError naming all mistakes."""
        if unknown := sorted(str(name) for name in set(self._options) - set(self._known)):
            self.mistake(f"unknown {', '.join(unknown)}; known are {', '.join(self._known)}")
        if self._mistakes:
            raise UnsupportedError(f"weir.detect of type {self._kind}: {'; '.join(self._mistakes)}")


def _microseconds(spec: Any) -> int:
    seconds: int = SigmaCorrelationTimespan(spec).seconds
    return seconds * _SECOND
