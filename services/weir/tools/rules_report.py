"""What a folder of rules came to, as rows for `weir rules list` and as problems with a way out for `weir rules check`."""

from __future__ import annotations

import re
from typing import Any, Final

from weir.detect.reading.attack import attack_of
from weir.detect.rules import Correlation, Problem, Rule, RuleSet

__all__ = ["datasets_of", "problem_rows", "rule_rows", "way_out"]

_WAYS_OUT: Final = (
    (
        r"is mapped to no dataset",
        "docs/log-sources.md lists the log sources that are; without such events the rule can stay, unused",
    ),
    (r"is not in dataset|no event has the field", "docs/events.md lists the fields of each dataset"),
    (r"has no id", "give it a UUID of its own as id; alerts keep it for ever"),
    (r"id .* is taken by another rule", "give one of the two another UUID, or leave one out"),
    (r"name .* is taken by another rule", "give one of the two another name"),
    (r"there is no rule", "it must be in this folder, under that name or id, spelt the same"),
    (r"is left out", "mend that rule first: it is named here too"),
    (r"not YAML", "mind indentation, quotes around values with : or #, and no tabs"),
    (r"placeholder", "say what it stands for in a file of placeholders (docs/sigma.md), or write the values out"),
    (r"weir\.|weir:", "docs/rules.md has the keys of the mapping weir"),
    (r"[Tt]imespan", "write a number and s, m, h, d, w, M or y, such as 5m"),
    (r"[Mm]odifier", "docs/sigma.md lists the modifiers"),
    (r"stands twice", "leave one of them out; several values of a field are a list, with |all all of them"),
    (r"datetime", "put dates and times in quotes"),
    (r"[Cc]orrelation.*condition|condition of", "docs/sigma.md has what correlations compare"),
    (r"condition", "docs/rules.md has an example of a condition"),
)


def way_out(cause: str) -> str:
    """What to do about a cause; empty where the cause says it all."""
    return next((way for pattern, way in _WAYS_OUT if re.search(pattern, cause)), "")


def problem_rows(problems: tuple[Problem, ...]) -> list[dict[str, Any]]:
    """Problems by file and line, each with its way out."""
    return [
        {
            "file": one.file,
            "line": one.line,
            "title": one.title,
            "cause": one.cause,
            "way_out": way_out(one.cause),
            "state": "wrong" if one.wrong else "not applicable",
        }
        for one in sorted(problems, key=lambda p: (p.file, p.line))
    ]


def datasets_of(correlation: Correlation, rule_set: RuleSet) -> list[str]:
    """Datasets whose events count in it, also by way of other correlations."""
    found: dict[str, None] = {}
    for member in correlation.members:
        if member.rule is not None:
            found.update(dict.fromkeys(member.sources))
        elif (inner := rule_set.correlation(member.id)) is not None:
            found.update(dict.fromkeys(datasets_of(inner, rule_set)))
    return list(found)


def rule_rows(rule_set: RuleSet) -> list[dict[str, Any]]:
    """One for each rule and correlation, by file and line; a rule that alerts by itself is one, though it is both."""
    alerting = {c.id: c for c in rule_set.correlations}
    rows = [_row(rule, alerting.get(rule.id), rule_set) for rule in rule_set.rules]
    ids = {rule.id for rule in rule_set.rules}
    rows += [_row(None, one, rule_set) for one in rule_set.correlations if one.id not in ids]
    return sorted(rows, key=lambda row: (row["file"], row["line"]))


def _row(rule: Rule | None, correlation: Correlation | None, rule_set: RuleSet) -> dict[str, Any]:
    said: Any = correlation or rule
    if correlation is not None:
        techniques, tactics = correlation.techniques, correlation.tactics
        datasets = datasets_of(correlation, rule_set)
    else:
        techniques, tactics, _ = attack_of(said.tags)
        datasets = [variant.dataset for variant in said.variants]
    return {
        "id": said.id,
        "title": said.title,
        "name": rule.name if rule is not None else "",
        "kind": "rule" if rule is not None else said.kind,
        "alerts": correlation is not None and correlation.announce,
        "level": said.level,
        "datasets": datasets,
        "tactics": list(tactics),
        "techniques": list(techniques),
        "tests": len(rule.tests if rule is not None else said.tests),
        "file": said.file,
        "line": said.line,
    }
