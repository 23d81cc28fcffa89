"""Values for the placeholders of rules (modifier `expand`), from a file `placeholders.yml` in the folder of rules.

admins: [root, 'adm-*']          # of %admins%: any of these, with Sigma's wildcards
office_networks: [10.1.0.0/16]
timezone: Europe/Helsinki        # where parts of times (hour, day, …) are told; UTC without it
"""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar
from zoneinfo import ZoneInfo

import yaml
from sigma.types import Placeholder, SigmaRegularExpression, SigmaString

from weir.detect.matching.values import UnsupportedError

__all__ = ["FILE_NAME", "NO_PLACEHOLDERS", "Placeholders", "read_placeholders"]

FILE_NAME: Final = "placeholders.yml"
MAX_EXPANSIONS: Final = 10_000
"""Values that one value with placeholders may become; a rule with more is left out."""

_String = TypeVar("_String", bound=SigmaString)


@dataclass(frozen=True, slots=True)
class Placeholders:
    """Values by name, as text, and the time zone."""

    values: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    zone: ZoneInfo | None = None

    def filled(self, value: Any) -> list[Any]:
        """A value of Sigma with all that its placeholders stand for. Raises UnsupportedError for one that is not known."""
        if isinstance(value, SigmaString) and value.contains_placeholder():
            return self._texts(value)
        if isinstance(value, SigmaRegularExpression) and value.contains_placeholder():
            found = []
            for text in self._texts(value.regexp):
                filled = copy.copy(value)
                filled.regexp = text
                found.append(filled)
            return found
        return [value]

    def _texts(self, value: _String) -> list[_String]:
        choices: list[list[list[Any]]] = []
        for part in value.s:
            if not isinstance(part, Placeholder):
                choices.append([[part]])
            elif part.name in self.values:
                choices.append([list(SigmaString(text).s) for text in self.values[part.name]])
            else:
                raise UnsupportedError(f"placeholder {part.name} has no value in {FILE_NAME}")
        if math.prod(map(len, choices)) > MAX_EXPANSIONS:
            raise UnsupportedError(f"placeholders make more than {MAX_EXPANSIONS} values of one")
        found = []
        for chosen in itertools.product(*choices):
            filled = copy.copy(value)
            filled.s = [part for parts in chosen for part in parts]
            found.append(filled)
        return found


NO_PLACEHOLDERS: Final = Placeholders()


def read_placeholders(content: bytes) -> Placeholders:
    """The file's content. Raises UnsupportedError where it is not of that form, or the time zone is not known."""
    try:
        found = yaml.safe_load(content.decode("utf-8-sig"))
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise UnsupportedError(f"not YAML: {' '.join(str(error).split())}") from error
    if found is None:
        return NO_PLACEHOLDERS
    if not isinstance(found, dict):
        raise UnsupportedError("must map names of placeholders to lists of values")
    zone = found.pop("timezone", None)
    values: dict[str, tuple[str, ...]] = {}
    for name, given in found.items():
        listed = given if isinstance(given, list) else [given]
        if not listed or not all(isinstance(one, (str, int, float)) and not isinstance(one, bool) for one in listed):
            raise UnsupportedError(f"{name}: must be a text, a number or a list of them that is not empty")
        values[str(name)] = tuple(map(str, listed))
    try:
        return Placeholders(values, None if zone is None else ZoneInfo(str(zone)))
    except (KeyError, ValueError, OSError) as error:
        raise UnsupportedError(f"timezone: {zone} is not known") from error
