"""Weir's own part of a rule file: the mapping `weir`, which Sigma permits as a key of one's own.

weir:
  entities:            # what the alert names (model.entities), and the event field each is taken from; a default by dataset if none
    user: user.name
  group-by: [source.ip]        # of a rule that alerts by itself: one alert for each; default: the first entity of the dataset
  timespan: 1h                 # of a rule that alerts by itself: how long its alert goes on collecting
  detect: {type: first_seen, …} # of a correlation: one of Weir's kinds in place of Sigma's, see docs/rules-beyond-sigma.md
  tests: […]                   # see weir.detect.cases
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sigma.correlations import SigmaCorrelationTimespan

from weir.detect.matching.matcher import UnsupportedError
from weir.model.entities import unknown_entity

__all__ = ["Extension", "read_extension"]

_KEYS = {"entities", "group-by", "timespan", "detect", "tests"}
_SECOND = 1_000_000


@dataclass(frozen=True, slots=True)
class Extension:
    """The mapping, checked for shape. None stands for what is not given."""

    entities: Mapping[str, str] | None = None
    group_by: tuple[str, ...] | None = None
    timespan_us: int | None = None
    detect: Mapping[str, Any] = field(default_factory=dict)
    tests: tuple[dict[str, Any], ...] = ()


def read_extension(attributes: Mapping[str, Any]) -> Extension:
    """The extension among the attributes of a rule that Sigma does not know. Raises UnsupportedError for a wrong shape."""
    found = attributes.get("weir", {})
    if not isinstance(found, dict):
        raise UnsupportedError("weir: must be a mapping")
    if unknown := sorted(set(found) - _KEYS):
        raise UnsupportedError(f"weir: unknown {', '.join(unknown)}; known are {', '.join(sorted(_KEYS))}")
    tests = found.get("tests", [])
    if not isinstance(tests, list) or not all(isinstance(test, dict) for test in tests):
        raise UnsupportedError("weir.tests: must be a list of mappings")
    entities = found.get("entities")
    if entities is not None and not isinstance(entities, dict):
        raise UnsupportedError("weir.entities: must map a name to an event field")
    if wrong := [mistake for mistake in map(unknown_entity, map(str, entities or ())) if mistake]:
        raise UnsupportedError(f"weir.entities: {'; '.join(wrong)}")
    group_by = found.get("group-by")
    if group_by is not None and not isinstance(group_by, (str, list)):
        raise UnsupportedError("weir.group-by: must be a field or a list of fields")
    detect = found.get("detect", {})
    if not isinstance(detect, dict):
        raise UnsupportedError("weir.detect: must be a mapping")
    return Extension(
        entities=None if entities is None else {str(name): str(source) for name, source in entities.items()},
        group_by=None if group_by is None else (group_by,) if isinstance(group_by, str) else tuple(map(str, group_by)),
        timespan_us=None if found.get("timespan") is None else timespan_us(found["timespan"]),
        detect=detect,
        tests=tuple(tests),
    )


def timespan_us(spec: Any) -> int:
    """Microseconds of a Sigma timespan such as 5m. Raises SigmaTimespanError for another text."""
    seconds: int = SigmaCorrelationTimespan(spec).seconds
    return seconds * _SECOND
