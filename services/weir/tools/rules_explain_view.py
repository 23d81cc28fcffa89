"""What `weir rules explain` says of one event: as data, and on a terminal."""

from __future__ import annotations

from typing import Any, Final

from rich.console import Console
from rich.text import Text
from rich.tree import Tree
from sigma.rule import SigmaRule

from weir.detect.reading.placeholders import Placeholders
from weir.detect.rules import RuleSet
from weir.model.projection import iso_time
from weir.tools.rules_explain import Record, counts_in, explain, verdicts
from weir.tools.tap_view import printable

__all__ = ["explained", "show"]

_SHOWN: Final = 30
"""Rules are listed up to so many; more are counted, `--rule` names one."""


def explained(
    rule_set: RuleSet,
    parsed: tuple[dict[str, SigmaRule], Placeholders],
    dataset: str,
    record: Record,
    wanted: set[str] | None,
) -> dict[str, Any]:
    """What there is to say of an event; `wanted` are the ids of the rules that are asked for, None for all of its dataset."""
    rules = []
    looking = verdicts(rule_set, dataset, record)
    for verdict in looking:
        if wanted is not None and verdict.rule.id not in wanted:
            continue
        tree = explain(parsed[0][verdict.rule.id], verdict, record, parsed[1])
        rules.append(
            {
                "id": verdict.rule.id,
                "title": verdict.rule.title,
                "file": verdict.rule.file,
                "line": verdict.rule.line,
                "tried": verdict.tried,
                "matches": verdict.matches,
                "counts_in": counts_in(rule_set, verdict, record) if verdict.matches else [],
                "fails": [f"{leaf.text} ({leaf.has})" if leaf.has else leaf.text for leaf in tree.failing()],
                "tree": tree.to_record(),
            }
        )
    elsewhere = [
        {"title": rule.title, "datasets": [variant.dataset for variant in rule.variants]}
        for rule in rule_set.rules
        if wanted is not None and rule.id in wanted and all(variant.dataset != dataset for variant in rule.variants)
    ]
    return {
        "dataset": dataset,
        "event_id": record.get("event_id"),
        "timestamp": iso_time(record["timestamp"]) if isinstance(record.get("timestamp"), int) else None,
        "looking": len(looking),
        "tried": sum(verdict.tried for verdict in looking),
        "matching": sum(verdict.matches for verdict in looking),
        "rules": rules,
        "elsewhere": elsewhere,
    }


def show(console: Console, one: dict[str, Any], *, whole: bool) -> None:
    """Put it on a terminal; `whole` shows the tree of every rule, else those that fail have a line each."""
    about = f"event {one['event_id'] or 'without an id'} of {one['dataset']}"
    head = Text(f"{about}{', ' + one['timestamp'] if one['timestamp'] else ''}", "bold")
    console.print(head, soft_wrap=True)
    counts = f"{one['looking']} rules look at {one['dataset']}, {one['tried']} of them are tried, {one['matching']} match"
    console.print(Text(counts), soft_wrap=True)
    for rule in one["elsewhere"]:
        console.print(Text(f"✗ {printable(rule['title'])}: looks at {', '.join(rule['datasets'])}", "red"), soft_wrap=True)
    # Those that are not tried lack what an event must have at least; of them there may be thousands.
    shown = one["rules"] if whole else [rule for rule in one["rules"] if rule["tried"] or rule["matches"]][:_SHOWN]
    for rule in shown:
        mark, style = ("✓", "green") if rule["matches"] else ("✗", "red")
        title = Text(f"{mark} {printable(rule['title'])}", style).append(f"  {rule['file']}:{rule['line']}", "dim")
        if whole:
            tree = Tree(title, guide_style="dim")
            _grow(tree, rule["tree"])
            console.print(tree)
        else:
            why = "" if rule["matches"] else f": {'; '.join(rule['fails'][:2])}"
            console.print(title.append(printable(why)), soft_wrap=True)
        for where in rule["counts_in"]:
            console.print(Text(f"    counts in {_counting(where)}"), soft_wrap=True)
    if left := len(one["rules"]) - len(shown):
        console.print(Text(f"… {left} more do not match; --rule shows one", "dim"), soft_wrap=True)


def _counting(where: dict[str, Any]) -> str:
    group = ", ".join(f"{name} {value or '(none)'}" for name, value in where["group"].items()) or "all together"
    quiet = "" if where["alerts"] else ", which only counts"
    if where["excepted"]:
        quiet += " but for an allow-list, which takes this event out"
    limit = f"{where['kind']} {where['condition']} within {where['timespan_seconds']} s"
    return printable(f"{where['title']}{quiet}: {limit}, by {group}")


def _grow(tree: Tree, node: dict[str, Any]) -> None:
    mark, style = ("✓", "green") if node["holds"] else ("✗", "red")
    text = Text(f"{mark} ", style).append(printable(node["text"]))
    if node.get("parts"):
        text.append(f"   ({node['links']})", "dim")
    if node.get("has"):
        text.append(f"   {printable(node['has'])}", "" if node["holds"] else "bold")
    branch = tree.add(text)
    for part in node.get("parts", []):
        _grow(branch, part)
