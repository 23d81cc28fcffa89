"""The rules' single-event part as the processors use it."""

from __future__ import annotations

from weir.detect.loading import load_rules
from weir.detect.partials import SignalSource as RuleSignals
from weir.detect.rules import RuleSet
from weir.ops import logging as ops_logging
from weir.ops.settings import SettingsError
from weir.processors.runtime import SignalSource

__all__ = ["load_rule_set", "load_signal_source"]

log = ops_logging.get("weir.detect")


def load_rule_set(rules_dir: str | None) -> RuleSet:
    """The rules in a folder, or those that come with Weir; what is left out of them is logged.

    Raises:
        SettingsError: there is no such folder.
    """
    try:
        found = load_rules(rules_dir)
    except FileNotFoundError as error:
        raise SettingsError([str(error)]) from error
    for problem in found.problems:
        log.warning("rule left out", file=problem.file, line=problem.line, rule=problem.title, cause=problem.cause)
    return found


def load_signal_source(rules_dir: str | None) -> SignalSource | None:
    """The single-event part of those rules; None where no correlation is left to count for.

    Raises:
        SettingsError: there is no such folder.
    """
    rule_set = load_rule_set(rules_dir)
    return RuleSignals(rule_set) if rule_set.correlations else None
