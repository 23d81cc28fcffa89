"""Sigma filters: documents that take events out of what rules match, for a site's own exceptions.

A filter applies to the rules it names (or any) whose log source fits its own. What comes out is the rule's condition *and* the
filter's, by pySigma. A filter that makes a rule impossible to evaluate is left out for that rule, and named: the rule goes on.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence

from sigma.collection import SigmaCollection
from sigma.correlations import SigmaCorrelationRule
from sigma.exceptions import SigmaError, SigmaRuleNotFoundError
from sigma.filters import SigmaFilter
from sigma.rule import SigmaRule

from weir.detect.matching.values import UnsupportedError

__all__ = ["applies", "filtered", "unmet"]


def applies(one: SigmaFilter, rule: SigmaRule) -> bool:
    """Whether a filter applies to a rule."""
    return rule.logsource in one.logsource and (isinstance(one.filter.rules, str) or _names(one, rule))


def _names(one: SigmaFilter, rule: SigmaRule) -> bool:
    return any(_is(rule, reference.reference) for reference in one.filter.rules if not isinstance(reference, str))


def _is(rule: SigmaRule | SigmaCorrelationRule, reference: str) -> bool:
    try:
        SigmaCollection([rule])[reference]
    except SigmaRuleNotFoundError:
        return False
    return True


def filtered(
    rule: SigmaRule,
    filters: Sequence[SigmaFilter],
    check: Callable[[SigmaRule], object],
    refuse: Callable[[SigmaFilter, str], None],
) -> SigmaRule:
    """A rule with the filters that apply to it.

    Args:
        rule: is left as it is.
        filters: of the whole folder.
        check: raises UnsupportedError or SigmaError for a rule that cannot be evaluated.
        refuse: is told of a filter that is left out for this rule, and why.
    """
    applying = [one for one in filters if applies(one, rule)]
    if applying:
        try:
            check(rule)
        except (UnsupportedError, SigmaError):
            # The rule is named for what is wrong with it, not its filters.
            return rule
    for one in applying:
        narrowed = copy.deepcopy(rule)
        try:
            one.apply_on_rule(narrowed)
            check(narrowed)
        except (UnsupportedError, SigmaError) as error:
            refuse(one, str(error.args[0] if error.args else error))
        else:
            rule = narrowed
    return rule


def unmet(one: SigmaFilter, rules: Sequence[SigmaRule]) -> str | None:
    """What is wrong with a filter as a whole: a rule it names is not there, or none fits its log source."""
    if not isinstance(one.filter.rules, str):
        for reference in one.filter.rules:
            if not any(_is(rule, reference.reference) for rule in rules):
                return f"there is no rule {reference.reference}"
    if not any(applies(one, rule) for rule in rules):
        return "applies to no rule: none that it names fits its log source"
    return None
