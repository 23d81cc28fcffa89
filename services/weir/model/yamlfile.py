"""What YAML files of operators have in common: the line of every value, keys that stand twice, and names that were meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any, NamedTuple

import yaml

__all__ = ["YAML_ERRORS", "Content", "Place", "YamlMistake", "meant", "read_documents", "read_yaml", "told"]

Place = tuple[str | int, ...]
"""Keys and indexes that lead to a value."""

MAX_MISTAKES = 50
_DEEPEST = 6


YAML_ERRORS = (yaml.YAMLError, ValueError, ArithmeticError, LookupError, AttributeError, TypeError, RecursionError)
"""What PyYAML raises for texts: of values with an explicit tag, such as `!!int _`, whatever its code stumbles over."""


class YamlMistake(ValueError):
    """A text that is not YAML; `line` from 1."""

    def __init__(self, line: int, problem: str) -> None:
        super().__init__(problem)
        self.line = line
        self.problem = problem


class Content(NamedTuple):
    """A document: its value, the line of each value in it, and what is wrong with its keys, as (line, sentence)."""

    value: Any
    lines: dict[Place, int]
    mistakes: list[tuple[int, str]]


def read_yaml(text: str) -> Content:
    """The one document in a text. Raises YamlMistake."""
    lines: dict[Place, int] = {}
    mistakes: list[tuple[int, str]] = []
    try:
        loader = _loader(text)
        node = loader.get_single_node()
        if node is not None:
            _walk(node, (), lines, mistakes)
        return Content(None if node is None else loader.construct_document(node), lines, mistakes)
    except YAML_ERRORS as error:
        raise _mistake(error) from error


def read_documents(text: str) -> list[tuple[int, Any]]:
    """All documents in a text, separated by `---`, each with the line it begins at. Raises YamlMistake."""
    found = []
    try:
        loader = _loader(text)
        while loader.check_node():
            node = loader.get_node()
            found.append((node.start_mark.line + 1, loader.construct_document(node)))
    except YAML_ERRORS as error:
        raise _mistake(error) from error
    return found


def _loader(text: str) -> Any:
    # Of libyaml where PyYAML was built with it: some ten times as quick.
    return getattr(yaml, "CSafeLoader", yaml.SafeLoader)(text)


def _mistake(error: BaseException) -> YamlMistake:
    mark = getattr(error, "problem_mark", None)
    problem = str(getattr(error, "problem", None) or error).replace("\n", " ")
    return YamlMistake(mark.line + 1 if mark else 1, f"not YAML: {problem}")


def _walk(node: Any, place: Place, lines: dict[Place, int], mistakes: list[tuple[int, str]]) -> None:
    """Note the line of each value, and each key that stands twice: YAML's loader would take the last in silence."""
    lines[place] = node.start_mark.line + 1
    if len(place) > _DEEPEST:
        return
    if isinstance(node, yaml.MappingNode):
        seen: dict[str, int] = {}
        for key, value in node.value:
            line = key.start_mark.line + 1
            if (first := seen.setdefault(str(key.value), line)) != line:
                mistakes.append((line, f"{key.value!r} stands twice; first in line {first}"))
            _walk(value, (*place, key.value if isinstance(key.value, str) else ""), lines, mistakes)
            lines[*place, str(key.value)] = line
    elif isinstance(node, yaml.SequenceNode):
        for number, item in enumerate(node.value):
            _walk(item, (*place, number), lines, mistakes)


def meant(word: str, known: Iterable[str]) -> str:
    """ "; did you mean …?" where one of the known names is close, else nothing."""
    folded = {name.casefold(): name for name in known}
    close = difflib.get_close_matches(word.casefold(), list(folded), n=1, cutoff=0.6)
    return f"; did you mean {folded[close[0]]}?" if close else ""


def told(name: str, mistakes: list[tuple[int, str]]) -> list[str]:
    """Mistakes as sentences with file and line, in order; of very many the first ones."""
    found = [f"{name}:{line}: {mistake}" for line, mistake in sorted(mistakes)]
    if len(found) > MAX_MISTAKES:
        found[MAX_MISTAKES:] = [f"{name}: and {len(found) - MAX_MISTAKES} more mistakes"]
    return found
