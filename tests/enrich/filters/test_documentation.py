"""What docs/filters.md shows is what the language takes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from weir.enrich.filters import read_rules
from weir.enrich.filters.expression import ExpressionError, compile_expression
from weir.enrich.filters.rules import fields_of
from weir.model.topics import DATASETS

PAGE = (Path(__file__).parents[3] / "docs" / "filters.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
FILES = [text for kind, text in BLOCKS if kind == "yaml"]
CONDITIONS = [line for kind, text in BLOCKS if not kind and not text.startswith("weir ") for line in text.splitlines()]


def test_the_page_has_examples() -> None:
    assert len(FILES) == 1
    assert len(CONDITIONS) >= 8


@pytest.mark.parametrize("text", FILES)
def test_every_file_on_the_page_is_without_mistakes(text: str) -> None:
    rules = read_rules(text)
    assert {rule.action for rule in rules} == {"keep", "drop", "sample", "merge"}


@pytest.mark.parametrize("text", CONDITIONS)
def test_every_condition_on_the_page_is_one_for_some_dataset(text: str) -> None:
    problems = {}
    for dataset in DATASETS:
        try:
            compile_expression(text, fields_of(dataset))
        except ExpressionError as error:
            problems[dataset] = error.message
    assert len(problems) < len(DATASETS), problems


def test_the_page_names_every_dataset_and_word() -> None:
    for word in (*DATASETS, "contains", "startswith", "endswith", "matches", "exists", "null", "not in"):
        assert f"`{word}" in PAGE, word
