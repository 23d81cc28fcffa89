"""Where the windows of a correlation fire, given the slices of a group: pure, and the same in whatever order they were filled.

**Sliding windows** hold everything from some event on for the timespan, both ends included. What an event count needs is told by
event times where the threshold is small enough for them (`MAX_EXACT_COUNT`), so such windows are exact. Above it, and for sums, a
slice is in a window if all of it is, by the times of its first and last event: a window never counts events further apart than
the timespan, and only a burst that needs parts of slices at both ends is missed. Distinct values and rules are known by slice
with first and last time, which is exact for any window, since one end of a window cuts one slice. Order is told by event times.

**Windows that are judged once** are slices as wide as the timespan, see `Correlation.at_end`.
"""

from __future__ import annotations

import math
import statistics
from collections import deque
from collections.abc import Callable, Iterable
from operator import itemgetter
from typing import NamedTuple

from weir.detect.kinds.slices import Bucket
from weir.detect.rules import Condition, Correlation, Expression, ordered_steps
from weir.detect.signals.gathering import Carried

__all__ = ["Fired", "Window", "fired", "holds", "judge"]

Buckets = dict[int, Bucket]


class Window(NamedTuple):
    """One that fires: starts of its first and last slice, and what was compared in it."""

    first: int
    last: int
    measured: float


class Fired(NamedTuple):
    """`covered`: by slice, how many events are in windows that fire, the earliest and the latest time of them."""

    windows: list[Window]
    covered: dict[int, tuple[int, int, int]]


def holds(condition: Condition, value: float) -> bool:
    """Whether a value satisfies a condition."""
    return _compares(condition.op, condition.number, value) and (condition.upper is None or _compares(*condition.upper, value))


def _compares(op: str, number: float, value: float) -> bool:
    if op == "gte":
        return value >= number
    if op == "gt":
        return value > number
    if op == "lte":
        return value <= number
    if op == "lt":
        return value < number
    return (value == number) == (op == "eq")


def fired(buckets: Buckets, correlation: Correlation, carried: Carried) -> Fired:
    """The sliding windows that fire. Of event_count and value_sum the windows are in the order of their ends and may overlap."""
    kind = correlation.kind
    if kind == "event_count":
        return _by_atoms(buckets, correlation, lambda b, start: _count_atoms(b, start, carried.times))
    if kind == "value_sum":
        return _by_atoms(buckets, correlation, _sum_atoms)
    if kind == "temporal_ordered":
        return _whole_slices(buckets, _ordered(buckets, correlation))
    return _whole_slices(buckets, _distinct(buckets, correlation))


class _Atom(NamedTuple):
    """Events that are in a window together or not at all."""

    first: int
    last: int
    events: int
    weight: float
    start: int


def _count_atoms(bucket: Bucket, start: int, ends: int) -> Iterable[_Atom]:
    details = bucket.details
    times = details.times if details is not None and not details.gap else []
    if bucket.count == len(times):
        return [_Atom(time, time, 1, 1, start) for time in times]
    if ends and len(times) == 2 * ends:
        single = [_Atom(time, time, 1, 1, start) for time in times]
        rest = bucket.count - len(times)
        return [*single[:ends], _Atom(times[ends - 1], times[ends], rest, rest, start), *single[ends:]]
    return [_Atom(bucket.first, bucket.last, bucket.count, bucket.count, start)]


def _sum_atoms(bucket: Bucket, start: int) -> Iterable[_Atom]:
    total = bucket.details.total()[0] if bucket.details is not None else 0.0
    return [_Atom(bucket.first, bucket.last, bucket.count, total, start)]


def _by_atoms(buckets: Buckets, correlation: Correlation, atoms_of: Callable[[Bucket, int], Iterable[_Atom]]) -> Fired:
    if correlation.kind == "event_count" and sum(b.count for b in buckets.values()) < correlation.threshold:
        return Fired([], {})
    atoms = [atom for start in sorted(buckets) for atom in atoms_of(buckets[start], start)]
    windows: list[Window] = []
    covered: dict[int, tuple[int, int, int]] = {}
    left = done = 0
    total = 0.0
    for right, atom in enumerate(atoms):
        total += atom.weight
        while atom.last - atoms[left].first > correlation.timespan_us and left < right:
            total -= atoms[left].weight
            left += 1
        if atom.last - atoms[left].first > correlation.timespan_us or not holds(correlation.condition, total):
            continue
        windows.append(Window(atoms[left].start, atom.start, total))
        for one in atoms[max(left, done) : right + 1]:
            count, first, last = covered.get(one.start, (0, one.first, one.last))
            covered[one.start] = (count + one.events, min(first, one.first), max(last, one.last))
        done = right + 1
    return Fired(windows, covered)


class _Entry(NamedTuple):
    """A value or rule in a slice."""

    first: int
    last: int
    start: int
    what: object


def _entries(buckets: Buckets, correlation: Correlation) -> list[_Entry]:
    found = []
    for start, bucket in buckets.items():
        if (details := bucket.details) is None:
            continue
        if correlation.kind == "value_count":
            found += [_Entry(first, last, start, number) for number, (first, last) in details.values.items()]
        else:
            found += [_Entry(times[0], times[-1], start, label) for label, times in details.rules.items() if times]
    return found


def _test(correlation: Correlation) -> Callable[[dict[object, int]], bool]:
    expression = correlation.expression
    if expression is not None:
        return lambda found: _true(expression, found)
    return lambda found: holds(correlation.condition, len(found))


def _true(expression: Expression, found: object) -> bool:
    if expression[0] == "rule":
        return expression[1] in found  # type: ignore[operator]
    if expression[0] == "not":
        return not _true(expression[1], found)
    parts = (_true(part, found) for part in expression[1:])
    return all(parts) if expression[0] == "and" else any(parts)


def _distinct(buckets: Buckets, correlation: Correlation) -> Iterable[Window]:
    """Windows with enough distinct values, or with the rules that are wanted: each begins at the last event of one in a slice."""
    entries = _entries(buckets, correlation)
    satisfied = _test(correlation)
    if not satisfied(dict.fromkeys((entry.what for entry in entries), 1)):
        return
    entering = sorted(entries, key=itemgetter(0))
    leaving = sorted(entries, key=itemgetter(1))
    inside: dict[object, int] = {}
    entered = 0
    for leaver in leaving:
        while entered < len(entering) and entering[entered].first <= leaver.last + correlation.timespan_us:
            what = entering[entered].what
            inside[what] = inside.get(what, 0) + 1
            entered += 1
        if satisfied(inside):
            yield Window(leaver.start, entering[entered - 1].start, len(inside))
        inside[leaver.what] -= 1
        if not inside[leaver.what]:
            del inside[leaver.what]


def _steps(correlation: Correlation) -> tuple[list[frozenset[str]], frozenset[str]]:
    if correlation.expression is not None:
        return ordered_steps(correlation.expression)
    return [frozenset({member.label}) for member in correlation.members], frozenset()


def _ordered(buckets: Buckets, correlation: Correlation) -> Iterable[Window]:
    """Windows with one event for each step in their order. Events of one time may be in any order.

    A window begins with the earliest first step that is within the timespan: what stands between it and a later one is in a window
    that fires too, and is counted whether it came before or after the window fired.
    """
    steps, _ = _steps(correlation)
    points = []
    for start, bucket in buckets.items():
        for label, times in bucket.details.rules.items() if bucket.details is not None else ():
            at = [i for i, step in enumerate(steps) if label in step]
            points += [(time, at, start) for time in times if at]
    points.sort(key=itemgetter(0, 1))
    # By step, the latest begin of a chain that has come so far: time and slice.
    begun: list[tuple[int, int] | None] = [None] * len(steps)
    first_steps = deque((time, start) for time, at, start in points if 0 in at)
    for time, at, start in points:
        for step in reversed(at):
            chain = (time, start) if step == 0 else begun[step - 1]
            if chain is None or time - chain[0] > correlation.timespan_us:
                continue
            begun[step] = max(chain, begun[step] or chain)
            if step == len(steps) - 1:
                while first_steps[0][0] < time - correlation.timespan_us:
                    first_steps.popleft()
                yield Window(first_steps[0][1], start, len(steps))


def _whole_slices(buckets: Buckets, found: Iterable[Window]) -> Fired:
    windows = list(found)
    covered: dict[int, tuple[int, int, int]] = {}
    if windows:
        starts = sorted(buckets)
        done = 0
        for first, last, _ in sorted(windows):
            while done < len(starts) and starts[done] < first:
                done += 1
            while done < len(starts) and starts[done] <= last:
                bucket = buckets[starts[done]]
                covered[starts[done]] = (bucket.count, bucket.first, bucket.last)
                done += 1
    return Fired(windows, covered)


def judge(start: int, bucket: Bucket, correlation: Correlation) -> tuple[bool, float]:
    """Whether the window that a slice is satisfies the condition, and what was compared; without numbers nothing is."""
    kind, details = correlation.kind, bucket.details
    if kind == "event_count":
        return holds(correlation.condition, bucket.count), bucket.count
    if details is None or details.gap:
        # A gap: there was no more room for what it held.
        return False, 0
    if kind == "temporal_ordered":
        steps, absent = _steps(correlation)
        found = not absent & set(details.rules) and any(_ordered({start: bucket}, correlation))
        return found, len(steps)
    if kind in {"value_count", "temporal"}:
        inside = {entry.what: 1 for entry in _entries({start: bucket}, correlation)}
        if correlation.expression is not None or kind == "temporal":
            return bool(inside) and _test(correlation)(inside), len(inside)
        # What was left out is more than anything that can be asked for.
        measured = len(inside) + details.left_out
        return holds(correlation.condition, measured), measured
    value = _statistic(correlation, bucket)
    return value is not None and holds(correlation.condition, value), value or 0.0


def _statistic(correlation: Correlation, bucket: Bucket) -> float | None:
    details = bucket.details
    total, count = details.total() if details is not None else (0.0, 0)
    if details is None or not count:
        return None
    if correlation.kind == "value_sum":
        return total
    if correlation.kind == "value_avg":
        return total / count
    numbers = sorted(details.numbers.values())
    if not numbers:
        return None
    if correlation.kind == "value_median":
        return statistics.median(numbers)
    # Nearest rank: the least number that so many per cent are not above.
    rank = math.ceil((correlation.condition.percentile or 0) / 100 * len(numbers))
    return numbers[max(0, rank - 1)]
