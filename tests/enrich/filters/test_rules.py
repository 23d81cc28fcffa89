"""The file of filters."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from weir.enrich.filters.expression import Kind
from weir.enrich.filters.rules import FiltersError, fields_of, load_rules, read_rules
from weir.model.topics import DATASETS

GOOD = """
filters:
  - name: cron
    dataset: [syslog, cef]
    source: [core-switch, 10.0.0.0/8, "2001:db8::1"]
    when: observer_vendor == "x"
    do: drop
  - name: all others
    do: keep
  - {name: flows, dataset: network-flow, do: merge}
  - {name: few, do: sample 1/20}
"""


def test_rules_are_read_in_their_order() -> None:
    rules = read_rules(GOOD)
    assert [(rule.name, rule.what, rule.line) for rule in rules] == [
        ("cron", "drop", 3),
        ("all others", "keep", 8),
        ("flows", "merge", 10),
        ("few", "sample 1/20", 11),
    ]
    assert rules[0].datasets == {"syslog", "cef"}
    assert rules[0].sources == {"core-switch"}
    assert list(map(str, rules[0].networks)) == ["10.0.0.0/8", "2001:db8::1/128"]


@pytest.mark.parametrize(
    ("dataset", "address", "name", "concerned"),
    [
        ("syslog", "10.9.9.9", None, True),
        ("cef", "192.0.2.1", "core-switch", True),
        ("cef", "2001:db8::1", "other", True),
        ("cef", "::ffff:10.0.0.1", None, True),
        ("syslog", "192.0.2.1", "other", False),
        ("sensor", "10.9.9.9", "core-switch", False),
        ("syslog", "no address", None, False),
    ],
)
def test_a_rule_concerns_its_datasets_and_its_sources_by_name_or_address(
    dataset: str, address: str, name: str | None, concerned: bool
) -> None:
    rules = read_rules(GOOD)
    assert rules[0].concerns(dataset, address, name) is concerned
    assert rules[1].concerns(dataset, address, name)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("- name: a", "f:1: must hold a list under the key 'filters'"),
        ("filters: [}", "f:1: not YAML"),
        ("filters: []\nfilter: []", "f:2: 'filter' is not a key; did you mean filters?"),
        ("filters:\n - drop", "f:2: rule: is a mapping with at least 'name' and 'do'"),
        ("filters:\n - do: drop", "f:2: rule: 'name' is missing"),
        ("filters:\n - name: a\n   do: drop\n   wen: x", "f:4: rule 'a': 'wen' is not a key of a rule; did you mean when?"),
        ("filters:\n - name: a\n   do: drop\n   do: keep", "f:4: 'do' stands twice; first in line 3"),
        ("filters:\n - name: a", "f:2: rule 'a': 'do' is missing: drop, keep, merge, or sample 1/N"),
        ("filters:\n - name: a\n   do: sample 1/0", "f:3: rule 'a': 'sample 1/0' cannot be done"),
        ("filters:\n - name: a\n   do: sample 1/1000001", "cannot be done"),
        ("filters:\n - name: a\n   do: merge", "f:3: rule 'a': only flows can be merged: write dataset: network-flow"),
        (
            "filters:\n - name: a\n   do: drop\n   dataset: [cef,\n     sysog]",
            "f:5: rule 'a': 'sysog' is no dataset; did you mean syslog?",
        ),
        ("filters:\n - name: a\n   do: drop\n   dataset: zzz", "zzz' is no dataset; there are network-flow"),
        ("filters:\n - name: a\n   do: drop\n   dataset: []", "f:4: rule 'a': 'dataset' is an empty list"),
        ("filters:\n - name: a\n   do: drop\n   source: 10.0.0.1/8", "f:4: rule 'a': '10.0.0.1/8' is no address or CIDR range"),
        ("filters:\n - name: a\n   do: drop\n   source: [5]", "5 is no name, address or CIDR range; quote it"),
        ("filters:\n - name: a\n   do: drop\n   when:", "'when' is empty"),
        ("filters:\n - name: a\n   do: drop\n   when: true", "True is no condition; quote the whole of it"),
        ("filters:\n - name: a\n   do: drop\n   when: site = 'x'", "f:4: rule 'a': when, column 6: `=` is not an operator"),
        (
            "filters:\n - name: a\n   do: drop\n   dataset: syslog\n   when: |\n    site == 'x'\n    and prozess_name == 'y'",
            "when, line 2 of it, column 5: prozess_name is not a field of events.syslog; did you mean process_name?",
        ),
        ("filters:\n - name: a\n   do: drop\n   when: process_name == 'x'", "not a field of all datasets; name the dataset"),
        (
            "filters:\n - name: a\n   do: drop\n   dataset: [syslog, network-flow]\n   when: process_name == 'x'",
            "not a field of events.network-flow and events.syslog",
        ),
        (
            "filters:\n - name: a\n   do: drop\n - name: a\n   do: keep",
            "f:4: rule 'a' stands in line 2 already: counts are told apart by name",
        ),
    ],
)
def test_a_mistake_is_named_with_file_line_and_the_way_out(text: str, says: str) -> None:
    with pytest.raises(FiltersError) as raised:
        read_rules(text, "f")
    assert any(says in mistake for mistake in raised.value.mistakes), raised.value.mistakes


def test_all_mistakes_are_named_at_once() -> None:
    with pytest.raises(FiltersError) as raised:
        read_rules("filters:\n - {name: a, do: x, dataset: y}\n - {name: b, do: drop, when: z}", "f")
    assert [mistake.split(":")[1] for mistake in raised.value.mistakes] == ["2", "2", "3"]


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(FiltersError, match=r"none\.yaml: No such file"):
        load_rules(tmp_path / "none.yaml")
    (tmp_path / "latin.yaml").write_bytes(b"filters: [\xe9]")
    with pytest.raises(FiltersError, match="not UTF-8"):
        load_rules(tmp_path / "latin.yaml")


@settings(max_examples=100)
@given(
    st.recursive(
        st.one_of(
            st.none(),
            st.booleans(),
            st.integers(),
            st.sampled_from(["name", "do", "drop", "when", "x == 1", "merge", "10.0.0.0/8"]),
        ),
        lambda inner: st.one_of(
            st.lists(inner, max_size=3),
            st.dictionaries(st.sampled_from(["name", "do", "when", "dataset", "source"]), inner, max_size=5),
        ),
        max_leaves=10,
    )
)
def test_any_yaml_is_rules_or_mistakes(content: object) -> None:
    mistakes: list[str] | None = None
    try:
        rules = read_rules(yaml.safe_dump({"filters": [content]}))
    except FiltersError as error:
        mistakes = error.mistakes
    assert mistakes or rules


def test_every_field_of_every_dataset_has_a_kind() -> None:
    for dataset in DATASETS:
        kinds = fields_of(dataset)
        assert kinds["event_id"] is Kind.TEXT
        assert kinds["timestamp"] is Kind.NUMBER
        assert kinds["tags"] is Kind.LIST
        assert kinds["labels"] is Kind.PAIRS


@pytest.mark.parametrize("value", ["!!int _", "!!timestamp x", "!!float .", "!!binary é", "0001-01-01T00:00:00+23:59", "&a [*a]"])
def test_values_that_the_yaml_library_stumbles_over_are_mistakes_too(value: str) -> None:
    with pytest.raises(FiltersError):
        read_rules(f"filters:\n  - name: {value}\n    do: drop\n")
