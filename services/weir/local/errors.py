"""What can go wrong when real servers are fetched and started on one machine, each with the way out of it."""

from __future__ import annotations

__all__ = ["LocalError", "PortInUseError", "StartError", "Unavailable"]


class LocalError(Exception):
    """Something local cannot be done.

    `what` says what happened and where, `way_out` what to do about it; `str()` gives both.
    """

    def __init__(self, what: str, way_out: str) -> None:
        super().__init__(what, way_out)
        self.what = what
        self.way_out = way_out

    def __str__(self) -> str:
        return f"{self.what}\n  way out: {self.way_out}"


class Unavailable(LocalError):
    """A download that cannot be had: no registry reached, no disk space, or a file that is not what it should be."""


class PortInUseError(LocalError):
    """Somebody else listens on a port that a server was told to use."""


class StartError(LocalError):
    """A server died while it started, or did not answer before its deadline."""
