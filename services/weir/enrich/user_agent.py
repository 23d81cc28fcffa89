"""What a user agent says of program, system and device.

Read by `ua-parser`, the parser of the patterns that browsers' and crawlers' agents are told apart by in most log systems, with
its native matcher (`ua-parser-rs`): that takes 10 to 30 µs an agent and time linear in the length of the text, where the pure
Python one takes half a millisecond. Agents repeat, so answers are remembered by text. The patterns take a third of a second and
some 30 MB to load, which a process pays with the first agent it meets.
"""

from __future__ import annotations

from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from ua_parser import Parser

__all__ = ["MAX_LENGTH", "UserAgent", "read", "user_agents"]

Record = dict[str, Any]

MAX_LENGTH: Final = 512
"""Characters of an agent that are looked at."""

_REMEMBERED: Final = 8_192


class UserAgent(NamedTuple):
    """In the order of `_FIELDS`; None for what the text does not tell."""

    name: str | None = None
    version: str | None = None
    os_name: str | None = None
    os_version: str | None = None
    device_name: str | None = None


_FIELDS: Final = tuple(f"user_agent_{name}" for name in UserAgent._fields)


@cache
def _parser() -> Parser:
    # Here, so that a process that meets no agent does without.
    from ua_parser import Parser  # noqa: PLC0415
    from ua_parser.loaders import load_builtins  # noqa: PLC0415
    from ua_parser.regex import Resolver  # noqa: PLC0415

    return Parser(Resolver(load_builtins()))


@lru_cache(_REMEMBERED)
def _read(text: str) -> UserAgent:
    found = _parser().parse(text)
    agent, system, device = found.user_agent, found.os, found.device
    return UserAgent(
        agent.family if agent else None,
        _version(agent.major, agent.minor, agent.patch, agent.patch_minor) if agent else None,
        system.family if system else None,
        _version(system.major, system.minor, system.patch, system.patch_minor) if system else None,
        device.family if device else None,
    )


def _version(*parts: str | None) -> str | None:
    known: list[str] = []
    for part in parts:
        if not part:
            break
        known.append(part)
    return ".".join(known) or None


def read(text: str) -> UserAgent:
    """What this agent is; of a long one, by its first 512 characters. Never raises; an agent nobody knows is all None."""
    return _read(text[:MAX_LENGTH])


def user_agents(records: list[Record]) -> None:
    """Fill in the fields of user_agent_original that are still empty."""
    for record in records:
        text = record.get("user_agent_original")
        if text:
            for name, value in zip(_FIELDS, read(text), strict=True):
                if value is not None and record.get(name) is None:
                    record[name] = value
