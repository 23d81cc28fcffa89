"""What YAML files of operators have in common: the line of every value, keys that stand twice, and names that were meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any, NamedTuple

import yaml

__all__ = ["YAML_ERRORS", "Content", "Document", "Place", "YamlMistake", "meant", "read_documents", "read_yaml", "told"]

Place = tuple[str | int, ...]
"""Keys and indexes that lead to a value."""

MAX_MISTAKES = 50
_DEEPEST = 6
# Places whose lines are noted. Aliases of aliases can make billions of a short text; further values are told without a line.
_MOST_PLACES = 200_000


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


class Document(NamedTuple):
    """One of several in a text: the line it begins at, its value, and what is wrong with its keys, as (line, sentence)."""

    line: int
    value: Any
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


def read_documents(text: str) -> list[Document]:
    """All documents in a text, separated by `---`. Raises YamlMistake."""
    found = []
    try:
        loader = _loader(text)
        while loader.check_node():
            node = loader.get_node()
            mistakes = _keys_twice(node)
            found.append(Document(node.start_mark.line + 1, loader.construct_document(node), mistakes))
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
    if len(place) > _DEEPEST or len(lines) > _MOST_PLACES:
        return
    if isinstance(node, yaml.MappingNode):
        mistakes += _repeated_keys(node)
        for key, value in node.value:
            line = key.start_mark.line + 1
            _walk(value, (*place, key.value if isinstance(key.value, str) else ""), lines, mistakes)
            lines[*place, str(key.value)] = line
    elif isinstance(node, yaml.SequenceNode):
        for number, item in enumerate(node.value):
            _walk(item, (*place, number), lines, mistakes)


def _repeated_keys(node: yaml.MappingNode) -> list[tuple[int, str]]:
    mistakes = []
    seen: dict[str, int] = {}
    for key, _ in node.value:
        line = key.start_mark.line + 1
        if str(key.value) in seen:
            mistakes.append((line, f"{key.value!r} stands twice; first in line {seen[str(key.value)]}"))
        seen.setdefault(str(key.value), line)
    return mistakes


def _keys_twice(root: Any) -> list[tuple[int, str]]:
    """The same of all mappings of a document; what aliases repeat is looked at once."""
    mistakes: list[tuple[int, str]] = []
    looked_at: set[int] = set()
    waiting = [root]
    while waiting:
        node = waiting.pop()
        if id(node) in looked_at:
            continue
        looked_at.add(id(node))
        if isinstance(node, yaml.MappingNode):
            mistakes += _repeated_keys(node)
            waiting += [value for _, value in node.value]
        elif isinstance(node, yaml.SequenceNode):
            waiting += node.value
    return sorted(mistakes)


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
