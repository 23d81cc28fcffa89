"""What every rule file that comes with Weir has: so that an analyst who is woken by an alert finds what to think of it."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import yaml

from tests.detect.scenes import rule_set
from weir.detect.reading.attack import TACTICS, technique_name
from weir.detect.reading.loading import DEFAULT_RULES

DOCUMENTS: list[tuple[Path, dict[str, Any]]] = [
    (path, document)
    for path in sorted(DEFAULT_RULES.rglob("*.yml"))
    for document in yaml.safe_load_all(path.read_text(encoding="utf-8"))
]
# About Weir itself: what an attacker does is not their matter.
OF_ATTACKS = [(path, document) for path, document in DOCUMENTS if path.parent.name != "pipeline"]
IDS = [f"{path.stem}: {document.get('name')}" for path, document in DOCUMENTS]
LEVELS = {"informational", "low", "medium", "high", "critical"}
TECHNIQUE = re.compile(r"t[0-9]{4}(\.[0-9]{3})?")


def repeated(values: list[str]) -> set[str]:
    return {value for value, count in Counter(values).items() if count > 1}


def test_ids_names_and_titles_are_each_used_once() -> None:
    for key in ("id", "name", "title"):
        assert repeated([document[key] for _, document in DOCUMENTS]) == set()


def test_a_file_is_named_like_one_of_its_rules_and_lies_in_the_folder_of_its_family() -> None:
    for path in {path for path, _ in DOCUMENTS}:
        assert path.stem in {document["name"] for other, document in DOCUMENTS if other == path}
        assert len(path.relative_to(DEFAULT_RULES).parts) == 2, f"{path.name} belongs into the folder of a family"


@pytest.mark.parametrize(("path", "document"), DOCUMENTS, ids=IDS)
def test_a_rule_says_what_it_is(path: Path, document: dict[str, Any]) -> None:
    assert UUID(document["id"]).version == 4
    assert document["level"] in LEVELS
    assert document["status"] in {"stable", "test", "experimental"}
    assert document["author"]
    assert re.fullmatch(r"202[0-9]-[01][0-9]-[0-3][0-9]", str(document["date"]))
    assert len(document["description"]) > 40
    assert document["title"].rstrip(".") == document["title"]
    assert len(document["title"]) <= 110


@pytest.mark.parametrize("document", [document for _, document in OF_ATTACKS], ids=lambda document: document["name"])
def test_its_tags_are_tactics_and_techniques_of_attack(document: dict[str, Any]) -> None:
    names = [tag.removeprefix("attack.") for tag in document["tags"] if tag.startswith("attack.")]
    techniques = [name.upper() for name in names if TECHNIQUE.fullmatch(name)]
    assert techniques
    assert {name for name in names if not TECHNIQUE.fullmatch(name)} <= set(TACTICS)
    assert len(names) > len(techniques), "a technique needs the tactic it serves here"
    assert [technique for technique in techniques if not technique_name(technique)] == []


@pytest.mark.parametrize(("path", "document"), DOCUMENTS, ids=IDS)
def test_it_has_a_case_that_is_found_and_one_that_is_not(path: Path, document: dict[str, Any]) -> None:
    made = rule_set().correlation(document["id"])
    if made is not None and not made.announce:
        return  # What it counts is seen in the cases of the correlation that it counts in alone.
    expectations = {case["expect"] for case in document["weir"]["tests"]}
    assert expectations & {"match", "alert"}
    assert "none" in expectations


def test_what_alerts_names_false_positives_references_and_at_least_one_entity_to_act_on() -> None:
    by_id = {document["id"]: document for _, document in DOCUMENTS}
    for one in rule_set().correlations:
        if not one.announce:
            continue
        document = by_id[one.id]
        assert document["falsepositives"], one.title
        if not one.file.startswith("pipeline/") and one.level != "informational":
            assert any(text.startswith("https://attack.mitre.org/") for text in document.get("references", ())), one.title
        assert one.group_by or any(source.entities for member in one.members for source in member.sources.values()), one.title
        assert {case["expect"] for case in one.tests} == {"alert", "none"}, one.title
