"""What of MITRE ATT&CK a set of rules speaks of: a table, and a layer for the ATT&CK Navigator."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from weir.detect.reading.attack import TACTICS, technique_name
from weir.detect.rules import RuleSet
from weir.tools.attack_matrix import tactics_of
from weir.tools.rules_report import datasets_of

__all__ = ["coverage", "navigator_layer"]

_NONE = "no-tactic"
_NO_TECHNIQUE = "-"


def coverage(rule_set: RuleSet) -> list[dict[str, Any]]:
    """One row for each tactic and technique that a rule or correlation which alerts is tagged with, in the order of the matrix.

    A technique stands under those tactics of its rule that it has in ATT&CK; under all of the rule's, where it is not known here or
    has none of them. Without a tactic in its tags, a rule is under those that ATT&CK gives its techniques.
    """
    titles: defaultdict[tuple[str, str], dict[str, None]] = defaultdict(dict)
    sources: defaultdict[tuple[str, str], dict[str, None]] = defaultdict(dict)
    for correlation in rule_set.correlations:
        if not correlation.announce:
            continue
        named = {tactic.lower().replace(" ", "-") for tactic in correlation.tactics}
        cells: set[tuple[str, str]] = set()
        for technique in correlation.techniques:
            known = tactics_of(technique)
            cells |= {(tactic, technique) for tactic in (named & known) or named or known or {_NONE}}
        # A tactic that no technique of the rule accounts for is covered too, if less precisely.
        cells |= {(tactic, _NO_TECHNIQUE) for tactic in named - {tactic for tactic, _ in cells}}
        for cell in cells:
            titles[cell][correlation.title] = None
            sources[cell].update(dict.fromkeys(datasets_of(correlation, rule_set)))
    order = {tactic: place for place, tactic in enumerate(TACTICS)}
    return [
        {
            "tactic": tactic,
            "technique": technique,
            "name": technique_name(technique),
            "count": len(titles[tactic, technique]),
            "sources": sorted(sources[tactic, technique]),
            "rules": sorted(titles[tactic, technique]),
        }
        for tactic, technique in sorted(titles, key=lambda cell: (order.get(cell[0], len(order)), cell[0], cell[1]))
    ]


def navigator_layer(rule_set: RuleSet) -> dict[str, Any]:
    """A layer of the ATT&CK Navigator, format 4.5: the score of a technique is how many rules alert on it.

    The Navigator shows a technique under every tactic that it has in the matrix, so a layer needs no tactics.
    """
    titles: defaultdict[str, set[str]] = defaultdict(set)
    sources: defaultdict[str, set[str]] = defaultdict(set)
    for row in coverage(rule_set):
        if row["technique"] != _NO_TECHNIQUE:
            titles[row["technique"]].update(row["rules"])
            sources[row["technique"]].update(row["sources"])
    most = max(map(len, titles.values()), default=0)
    return {
        "name": "Weir",
        "versions": {"navigator": "4.9.0", "layer": "4.5"},
        "domain": "enterprise-attack",
        "description": f"Techniques that the rules of Weir alert on; rule set {rule_set.version}",
        "sorting": 3,
        "layout": {"layout": "side", "showID": True, "showName": True, "expandedSubtechniques": "annotated"},
        "techniques": [
            {
                "techniqueID": technique,
                "score": len(titles[technique]),
                "comment": "; ".join(sorted(titles[technique])),
                "metadata": [{"name": "sources", "value": ", ".join(sorted(sources[technique]))}],
            }
            for technique in sorted(titles)
        ],
        "gradient": {"colors": ["#d7e8f7", "#1f5f99"], "minValue": 0, "maxValue": max(1, most)},
        "legendItems": [],
    }
