"""Regular expressions of rules: RE2's, as pySigma has them by default, so that none takes more than linear time.

RE2 knows no look-around and no back-references; `\\d`, `\\w`, `\\s` and `\\b` are ASCII's; `$` without `m` is the very end.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

import re2  # type: ignore[import-untyped]

__all__ = ["MAX_TEXT", "Search", "literals", "searcher"]

MAX_TEXT: Final = 65_536
"""Characters of a value that an expression sees; what is behind them does not match. RE2 needs about 1 ns for each."""

Search = Callable[[str], bool]


def searcher(pattern: str, *, ignore_case: bool = False, multi_line: bool = False, dot_all: bool = False) -> Search:
    """What tells whether a text has a match anywhere. Raises ValueError for a pattern that RE2 does not know."""
    flags = "".join(flag for flag, wanted in (("i", ignore_case), ("m", multi_line), ("s", dot_all)) if wanted)
    options = re2.Options()
    options.never_capture = True
    options.log_errors = False
    try:
        search = re2.compile(f"(?{flags}){pattern}" if flags else pattern, options).search
    except re2.error as error:
        raise ValueError(str(error.args[0] if error.args else error)) from error

    def found(text: str) -> bool:
        # Of bytes RE2 need not work out where in the text the match is. A lone surrogate has no bytes in UTF-8.
        return search(text[:MAX_TEXT].encode("utf-8", "replace")) is not None

    return found


_GROUP = re.compile(r"\(\?(?:P?<\w+>|[a-zA-Z]*(?:-[a-zA-Z]+)?:)")
_FLAGS_ONLY = re.compile(r"\(\?[a-zA-Z]*(?:-[a-zA-Z]+)?\)")
_REPEAT = re.compile(r"\{(\d+)(?:,\d*)?\}")
_CLASS_ESCAPES: Final = frozenset("dDwWsSbBAzQEpPC")
_CONTROLS: Final = {"n": "\n", "t": "\t", "r": "\r", "f": "\f", "v": "\v", "a": "\a"}


def literals(pattern: str) -> frozenset[str] | None:
    """Texts of which every match of a pattern contains at least one; None where none can be told.

    Whatever is not understood here counts as matching anything, so the answer never promises too much. The case is as written.
    """
    try:
        found, position = _alternatives(pattern, 0)
    except (IndexError, ValueError, RecursionError):
        return None
    return found if position == len(pattern) else None


def _alternatives(pattern: str, position: int) -> tuple[frozenset[str] | None, int]:
    branches: list[frozenset[str] | None] = []
    while True:
        found, position = _sequence(pattern, position)
        branches.append(found)
        if position >= len(pattern) or pattern[position] != "|":
            break
        position += 1
    if any(branch is None for branch in branches):
        return None, position
    return frozenset(text for branch in branches if branch is not None for text in branch), position


class _Best:
    """The run of plain characters being read, and the best that a sequence offered so far."""

    def __init__(self) -> None:
        self.run: list[str] = []
        self.found: frozenset[str] | None = None

    def offer(self, found: frozenset[str] | None) -> None:
        if found and (self.found is None or min(map(len, found)) > min(map(len, self.found))):
            self.found = found

    def end_run(self) -> None:
        if self.run:
            self.offer(frozenset({"".join(self.run)}))
            self.run = []


def _sequence(pattern: str, position: int) -> tuple[frozenset[str] | None, int]:
    best = _Best()
    while position < len(pattern) and pattern[position] not in "|)":
        character, inner, position = _atom(pattern, position)
        least, position = _repeat(pattern, position)
        if character is not None and least == 1:
            best.run.append(character)
            continue
        if character is not None and least > 1:
            # At least once, with something or other behind it.
            best.run.append(character)
        best.end_run()
        if inner is not None and least >= 1:
            best.offer(inner)
    best.end_run()
    return best.found, position


def _atom(pattern: str, position: int) -> tuple[str | None, frozenset[str] | None, int]:
    """One element: a plain character, or what a group has to contain, or neither; and where the next begins."""
    character = pattern[position]
    if character == "\\":
        escaped = pattern[position + 1]
        if escaped in _CONTROLS:
            return _CONTROLS[escaped], None, position + 2
        if escaped in _CLASS_ESCAPES or escaped.isalnum():
            if escaped in "dDwWsSbBAz":
                return None, None, position + 2
            raise ValueError("escapes of several characters")
        return escaped, None, position + 2
    if character == "[":
        return None, None, _class_end(pattern, position)
    if character == "(":
        if (flags := _FLAGS_ONLY.match(pattern, position)) is not None:
            if "x" in flags[0]:
                raise ValueError("free spacing")
            return None, None, flags.end()
        begin = position + 1
        if pattern.startswith("(?", position):
            group = _GROUP.match(pattern, position)
            if group is None:
                raise ValueError("a group of another kind")
            begin = group.end()
        inner, end = _alternatives(pattern, begin)
        if pattern[end] != ")":
            raise ValueError("unbalanced")
        return None, inner, end + 1
    if character in ".^$":
        return None, None, position + 1
    return character, None, position + 1


def _class_end(pattern: str, position: int) -> int:
    position += 1
    if pattern[position] == "^":
        position += 1
    if pattern[position] == "]":
        position += 1
    while pattern[position] != "]":
        if pattern.startswith("[:", position):
            position = pattern.index(":]", position) + 2
        else:
            position += 2 if pattern[position] == "\\" else 1
    return position + 1


def _repeat(pattern: str, position: int) -> tuple[int, int]:
    """How often at least, where the element before has a mark of repetition (1: exactly once), and where the next begins.

    "Once or more" answers 2: what stands behind need not follow the first one directly.
    """
    if position >= len(pattern):
        return 1, position
    mark = pattern[position]
    if mark in "*?+":
        least, position = 2 if mark == "+" else 0, position + 1
    elif mark == "{" and (counted := _REPEAT.match(pattern, position)) is not None:
        least, position = 2 if int(counted[1]) else 0, counted.end()
    else:
        return 1, position
    if position < len(pattern) and pattern[position] == "?":
        position += 1
    return least, position
