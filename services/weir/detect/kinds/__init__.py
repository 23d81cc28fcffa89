"""What the engine asks of each kind of correlation, and which there are.

All of Sigma's types are `windows`. A kind of Weir's own has a module with the same functions and a state of its own; the
first byte of a state's bytes tells its format, so that no kind reads another's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, cast

from weir.detect.kinds import absence, baseline, beacon, first_seen, windows
from weir.detect.kinds.common import Merged, SignalsHeader, State
from weir.detect.kinds.state import StateError
from weir.detect.rules import Correlation
from weir.detect.telling.alerts import Origin

__all__ = ["Kind", "Merged", "OwnKind", "State", "is_of_some_kind", "kind_of", "own_kind"]


class Kind(Protocol):
    """One kind of correlation. Watermarks are receive times, microseconds UTC."""

    def load(self, value: bytes) -> Any:
        """The state of a table value. Raises StateError for bytes of another format."""

    def merge(
        self, state: Any, header: SignalsHeader, partial: dict[str, Any], correlation: Correlation, watermark: int, origin: Origin
    ) -> Merged:
        """Add one partial to its group; `state` is None where there is none."""

    def advance(
        self, state: Any, correlation: Correlation, watermark: int, origin: Origin
    ) -> tuple[Any | None, list[dict[str, Any]]]:
        """Do what is due at this watermark; a state of None is to be deleted."""

    def due(self, state: Any, correlation: Correlation) -> int:
        """The watermark from which on `advance` has something to do."""


class OwnKind(Kind, Protocol):
    """One of Weir's own."""

    def check(self, options: Mapping[str, Any]) -> Mapping[str, Any]:
        """Options of `weir.detect` with defaults and in microseconds. Raises UnsupportedError naming all mistakes."""


_KINDS: Mapping[str, OwnKind] = {"absence": absence, "baseline": baseline, "beacon": beacon, "first_seen": first_seen}
"""Weir's own kinds, by what `weir.detect.type` calls them."""


def kind_of(correlation: Correlation) -> Kind:
    """The kind of this correlation."""
    return _KINDS.get(correlation.kind, cast("Kind", windows))


def own_kind(name: str) -> OwnKind | None:
    """One of Weir's own kinds, by what `weir.detect.type` calls it."""
    return _KINDS.get(name)


def is_of_some_kind(value: bytes) -> bool:
    """Whether a table value is a state that this release reads at all."""
    for kind in (cast("Kind", windows), *_KINDS.values()):
        try:
            kind.load(value)
        except StateError:
            continue
        return True
    return False
