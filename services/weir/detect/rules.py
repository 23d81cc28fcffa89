"""What rule files come to: rules, correlations, and problems. `loading` makes them, `partials` and `engine` use them.

A *rule* is a Sigma rule: a predicate over one event, in one or more datasets. A *correlation* counts what rules (or other
correlations) match, by group and in time, and raises the alerts. A rule that raises alerts by itself is a correlation of one member
as well, so that there is one kind of thing that alerts, and it groups and de-duplicates them all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from weir.detect.matching.covers import Cover
from weir.detect.matching.matcher import Predicate

__all__ = [
    "MAX_EXACT_COUNT",
    "Condition",
    "Correlation",
    "Expression",
    "Loaded",
    "Member",
    "Problem",
    "Rule",
    "RuleSet",
    "Source",
    "Variant",
    "ordered_steps",
]


@dataclass(frozen=True, slots=True)
class Problem:
    """Something in a rule file that is left out, and why. `line` counts from 1; 0 where no line can be named.

    `rule_id` is the document's, where it has one; `whole` says that nothing in the file can be read. `wrong` is False where the
    rule is sound, and none of our datasets has what it speaks of.
    """

    file: str
    line: int
    title: str
    cause: str
    rule_id: str = ""
    whole: bool = False
    wrong: bool = True

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        return f"{place}: {self.title}: {self.cause}" if self.title else f"{place}: {self.cause}"


@dataclass(frozen=True, slots=True, eq=False)
class Variant:
    """A rule's detection compiled for one dataset.

    `required` are folded texts that a field of every matching event must equal. `record_field` gives the name, for `fields.getter`,
    of a Sigma field name here; it raises UnsupportedError where the dataset has none. `cover` is what an index finds it by.
    """

    dataset: str
    matches: Predicate
    required: dict[str, frozenset[str]]
    record_field: Callable[[str], str]
    cover: Cover = None


@dataclass(frozen=True, slots=True, eq=False)
class Rule:
    """One Sigma rule, compiled for each dataset its log source speaks of. Correlations may call it by `name`, if it has one."""

    id: str
    title: str
    variants: tuple[Variant, ...]
    level: str = ""
    description: str = ""
    name: str = ""
    tags: tuple[str, ...] = ()
    false_positives: tuple[str, ...] = ()
    references: tuple[str, ...] = ()
    author: str = ""
    tests: tuple[dict[str, Any], ...] = ()
    file: str = ""
    line: int = 0


class Source(NamedTuple):
    """Where a correlation finds its values in the events of one dataset: record fields, as `fields.getter` reads them.

    `group` in the order of the correlation's group-by; `values` of the condition's field or fields; `entities` by the name that the
    alert gives them.
    """

    group: tuple[str, ...]
    values: tuple[str, ...]
    entities: Mapping[str, str]


@dataclass(frozen=True, slots=True, eq=False)
class Member:
    """A rule or correlation that counts in a correlation.

    `label` is how the correlation's condition refers to it. `sources` is by dataset; of a correlation it has one entry, under "",
    whose names are those of the group-by and the entities of its alerts.
    """

    label: str
    id: str
    sources: Mapping[str, Source]
    rule: Rule | None = None


class Condition(NamedTuple):
    """A comparison: `op` is gt, gte, lt, lte, eq or neq. `percentile` is of value_percentile alone, 0 to 100.

    Of a range, `op` and `number` are its lower end, and `upper` is the comparison (lt or lte) with its upper one.
    """

    op: str = "gte"
    number: float = 1
    percentile: int | None = None
    upper: tuple[str, float] | None = None


AT_LEAST_ONE = Condition()

MAX_EXACT_COUNT = 128
"""Up to this threshold of an event_count, partials and states carry event times, so that windows are exact."""

Expression = tuple[Any, ...]
"""An extended condition: ("and" | "or", *expressions), ("not", expression) or ("rule", label)."""


@dataclass(frozen=True, slots=True, eq=False)
class Correlation:
    """One Sigma correlation, one rule that alerts by itself, or one of Weir's own kinds. Times are microseconds.

    Attributes:
        kind: one of Sigma's correlation types, or first_seen, beacon, absence, baseline.
        group_by: Sigma's field names, or aliases.
        timespan_us: as in the rule; of a rule that alerts by itself, how long its alert goes on collecting.
        slice_us: event time is counted in slices of this width, aligned to the epoch.
        condition: what is compared; of temporal types without one, the number of members.
        expression: an extended condition, None where there is none.
        options: of Weir's own kinds.
        announce: whether it raises alerts itself; False where it only counts in another one.
        feeds: correlations that its alerts count in, by id.
        name: what other correlations, and suppressions, may call it by.
    """

    id: str
    title: str
    description: str
    level: str
    members: tuple[Member, ...]
    group_by: tuple[str, ...]
    timespan_us: int
    slice_us: int
    condition: Condition = AT_LEAST_ONE
    expression: Expression | None = None
    kind: str = "event_count"
    options: Mapping[str, Any] = field(default_factory=dict)
    announce: bool = True
    feeds: tuple[str, ...] = ()
    techniques: tuple[str, ...] = ()
    tactics: tuple[str, ...] = ()
    false_positives: tuple[str, ...] = ()
    references: tuple[str, ...] = ()
    author: str = ""
    tests: tuple[dict[str, Any], ...] = ()
    name: str = ""
    file: str = ""
    line: int = 0

    @property
    def slices(self) -> int:
        """Slices in a window; together never longer than the timespan."""
        return max(1, self.timespan_us // self.slice_us)

    @property
    def at_end(self) -> bool:
        """Whether it is judged once for each window of its timespan's width, aligned to the epoch, when that is over.

        That is so for every condition that can become false again when more events come. The others are judged at once, in
        sliding windows.
        """
        if self.kind in {"value_avg", "value_percentile", "value_median"}:
            return True
        if self.kind in {"event_count", "value_count", "value_sum", "temporal", "temporal_ordered"}:
            return self.condition.op not in {"gt", "gte"} or self.condition.upper is not None or _has_not(self.expression)
        return False

    @property
    def threshold(self) -> float:
        """The least number that satisfies a condition of gt or gte on whole numbers."""
        return self.condition.number + 1 if self.condition.op == "gt" else self.condition.number


def _has_not(expression: Expression | None) -> bool:
    if expression is None or expression[0] == "rule":
        return False
    return expression[0] == "not" or any(map(_has_not, expression[1:]))


class Loaded(NamedTuple):
    """Where a rule set came from.

    Attributes:
        files: content by name.
        kept: by id, the documents that another version of their file had.
        filters: ids of the Sigma filters in force.
    """

    files: Mapping[str, bytes] = {}
    kept: Mapping[str, Mapping[str, Any]] = {}
    filters: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class RuleSet:
    """What a folder of rules came to. `version` is a hash of its files' names and content."""

    version: str
    rules: tuple[Rule, ...]
    correlations: tuple[Correlation, ...]
    problems: tuple[Problem, ...]
    loaded: Loaded = field(default=Loaded(), repr=False, compare=False)

    def correlation(self, correlation_id: str) -> Correlation | None:
        """The correlation with this id."""
        return next((c for c in self.correlations if c.id == correlation_id), None)


def ordered_steps(expression: Expression) -> tuple[list[frozenset[str]], frozenset[str]]:
    """What an extended condition means where order counts: one after the other the operands of `and`, each a rule or several
    joined by `or`; and the rules under `not`, which must not be in the window at all.

    Raises:
        ValueError: another form, whose order would be a guess.
    """
    steps: list[frozenset[str]] = []
    absent: list[str] = []

    def labels(node: Expression) -> frozenset[str]:
        if node[0] == "rule":
            return frozenset({node[1]})
        if node[0] == "or":
            return frozenset().union(*map(labels, node[1:]))
        raise ValueError("an ordered condition has rules, or rules joined by or, one after the other by and")

    for part in expression[1:] if expression[0] == "and" else (expression,):
        if part[0] == "not":
            absent.extend(labels(part[1]))
        elif part[0] == "and":
            inner, none = ordered_steps(part)
            steps.extend(inner)
            absent.extend(none)
        else:
            steps.append(labels(part))
    if not steps:
        raise ValueError("an ordered condition needs a rule that is not under not")
    return steps, frozenset(absent)
