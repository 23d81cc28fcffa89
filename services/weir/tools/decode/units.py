"""What is decoded: one unit as a receiver would have taken it, and where in the input it was."""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

__all__ = ["LINGER_US", "DecodeError", "Kind", "Note", "Unit"]

LINGER_US: Final = 200_000
"""Microseconds of a capture's clock that a batch collects units, as receivers do: its receive time is that of its first."""

Kind = Literal["syslog", "beats", "netflow"]
"""Whose unit it is, by the processor."""


class DecodeError(Exception):
    """Input that cannot be read, or not as what it is said to be; the text says which and why."""


class Unit(NamedTuple):
    """One unit.

    `place` is for people: "a.log line 3". `source_ip` and `received_us` are None where the input does not say: the options do.
    `problem` says why there is nothing to decode. `heading` is the first word of a line that explains those after it, as Zeek's
    logs have them, and else empty.
    """

    data: bytes
    kind: Kind
    place: str
    transport: str
    source_ip: str | None = None
    received_us: int | None = None
    problem: str | None = None
    heading: str = ""


class Note(NamedTuple):
    """Something a person should know of the input, that is no unit."""

    place: str
    text: str
