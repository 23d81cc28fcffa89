"""Filters: rules that drop, sample or merge events before they are published."""

from __future__ import annotations

from weir.enrich.filters.engine import Filtered, FilterSet
from weir.enrich.filters.rules import FiltersError, Rule, load_rules, read_rules

__all__ = ["FilterSet", "Filtered", "FiltersError", "Rule", "load_rules", "read_rules"]
