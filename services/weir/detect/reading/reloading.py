"""What becomes of rules that worked and have become bad: they are named, and the version before stays in force.

A folder is loaded as it is. Documents that were in force and are left out of that are put back as they were, and the whole is
loaded again, until no more can be had back. A correlation is thereby made of the rules as they are now, where those are good.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any, Final

from weir.detect.rules import Correlation, Loaded, Problem, Rule, RuleSet
from weir.model.yamlfile import read_documents

__all__ = ["STAYS", "Load", "Replaced", "with_previous"]

STAYS: Final = "; the version before stays in force"
MAX_ROUNDS: Final = 20
"""Documents are put back in so many rounds at most: a correlation may fail after the one it counts is back, and so on."""

Replaced = Mapping[tuple[str, int], Mapping[str, Any]]
"""Documents in place of those at a file and line."""

Load = Callable[[Mapping[str, "bytes | OSError"], Replaced], RuleSet]


def with_previous(files: Mapping[str, bytes | OSError], previous: RuleSet, load: Load) -> RuleSet:
    """The rules of these files; of those that have become bad, the version in `previous`."""
    back: dict[str, bytes | OSError] = {}
    replaced: dict[tuple[str, int], Mapping[str, Any]] = {}
    told: dict[tuple[str, int], Problem] = {}
    for _ in range(MAX_ROUNDS):
        found = load({**files, **back}, replaced)
        broken = [p for p in found.problems if (p.file, p.line) not in replaced and (p.whole or p.rule_id or p.title)]
        whole = {p.file for p in broken if p.whole and p.file not in back and p.file in previous.loaded.files}
        documents = {} if whole else _documents(_roots(broken), found, previous)
        if not whole and not documents:
            break
        told.update({(p.file, p.line): p for p in broken if p.file in whole or (p.file, p.line) in documents})
        back.update({name: previous.loaded.files[name] for name in whole})
        replaced.update(documents)
    return _judged(found, previous, back, replaced, told) if told else found


def _roots(problems: Iterable[Problem]) -> list[Problem]:
    """Those that are not bad for the sole reason that another one is; where there are none, all."""
    found = list(problems)
    return [problem for problem in found if not problem.cause.endswith("is left out")] or found


def _documents(problems: Iterable[Problem], found: RuleSet, previous: RuleSet) -> dict[tuple[str, int], Mapping[str, Any]]:
    """For each place with a problem, the document that was in force there before and no longer is."""
    lost = _in_force(previous) - _in_force(found)
    places: dict[tuple[str, int], str] = {}
    for problem in problems:
        identity = problem.rule_id or _by_title(problem, previous)
        if any(identity == one for one, _ in lost):
            places[problem.file, problem.line] = identity
    raws = _raws(set(places.values()), previous.loaded)
    return {place: raws[identity] for place, identity in places.items() if identity in raws}


def _in_force(rule_set: RuleSet) -> set[tuple[str, str]]:
    rules = {(one.id, "rule") for one in rule_set.rules} | {(one, "filter") for one in rule_set.loaded.filters}
    return rules | {(one.id, "correlation") for one in rule_set.correlations}


def _by_title(problem: Problem, previous: RuleSet) -> str:
    """The id of a rule that has lost it."""
    everything: tuple[Rule | Correlation, ...] = (*previous.rules, *previous.correlations)
    for one in everything:
        if (one.file, one.title) == (problem.file, problem.title):
            return one.id
    return ""


def _raws(ids: set[str], loaded: Loaded) -> dict[str, Mapping[str, Any]]:
    found = {identity: loaded.kept[identity] for identity in ids if identity in loaded.kept}
    for content in loaded.files.values():
        if not any(identity.encode() in content.lower() for identity in ids - set(found)):
            continue
        try:
            documents = read_documents(content.decode("utf-8-sig"))
        except ValueError:  # not UTF-8, or not YAML
            continue
        for document in documents:
            if isinstance(document.value, dict) and (identity := _id_of(document.value)) in ids:
                found.setdefault(identity, document.value)
    return found


def _judged(
    found: RuleSet,
    previous: RuleSet,
    back: Mapping[str, bytes | OSError],
    replaced: Replaced,
    told: Mapping[tuple[str, int], Problem],
) -> RuleSet:
    """The rule set with what was put back named, and a version of its own: a service that starts now comes to another one."""
    ids = {identity for identity, _ in _in_force(found)}
    kept = {_id_of(raw): raw for raw in replaced.values() if _id_of(raw) in ids}
    problems = []
    for place, problem in told.items():
        stays = place[0] in back or _id_of(replaced.get(place, {})) in kept
        problems.append(replace(problem, cause=problem.cause + STAYS) if stays else problem)
    others = [problem for problem in found.problems if (problem.file, problem.line) not in told]
    # Of a file that is as it was, the one thing to say is why.
    shown = tuple(problem for problem in (*others, *problems) if problem.whole or problem.file not in back)
    files = {name: content for name, content in {**found.loaded.files, **back}.items() if isinstance(content, bytes)}
    version = hashlib.sha256(f"{found.version} {previous.version}".encode()).hexdigest()[:16]
    return replace(found, version=version, problems=shown, loaded=Loaded(files, kept, found.loaded.filters))


def _id_of(raw: Mapping[str, Any]) -> str:
    # Sigma's ids are UUIDs; pySigma gives them in lower case.
    return str(raw.get("id", "")).lower()
