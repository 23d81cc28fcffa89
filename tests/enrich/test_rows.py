"""Tables in files: every mistake by file and line, all at once."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weir.enrich.rows import read_rows, row_of

KEYS = frozenset({"name", "roles", "owner"})


def read(name: str, text: str) -> tuple[list[tuple[str, dict[str, object]]], list[str]]:
    mistakes: list[str] = []
    rows = read_rows(name, text.encode(), KEYS, mistakes)
    return [(row.place, row.cells) for row in rows], mistakes


def test_a_csv_has_the_line_of_each_row_even_where_a_cell_has_several_lines() -> None:
    rows, mistakes = read("t.csv", '\ufeff# assets\nName,Roles,owner\na,x|y,\n\n"b\nc",,me\n')
    assert mistakes == []
    assert rows == [("t.csv:3", {"name": "a", "roles": ("x", "y")}), ("t.csv:5", {"name": "b\nc", "owner": "me"})]


def test_a_csv_from_a_spreadsheet_may_have_semicolons() -> None:
    assert read("t.csv", "name;owner\na,b;c\n") == ([("t.csv:2", {"name": "a,b", "owner": "c"})], [])


def test_a_yaml_list_has_the_line_of_each_entry() -> None:
    rows, mistakes = read("t.yaml", "# x\n- name: a\n  roles: [x, y]\n- name: 7\n  owner:\n")
    assert mistakes == []
    assert rows == [("t.yaml:2", {"name": "a", "roles": ("x", "y")}), ("t.yaml:4", {"name": "7"})]


def test_every_mistake_is_named_and_good_rows_are_read_all_the_same() -> None:
    rows, mistakes = read("t.csv", "name,owner\na,b,c\nd,e\n")
    assert rows == [("t.csv:3", {"name": "d", "owner": "e"})]
    assert mistakes == ["t.csv:2: 3 cells, but the header names 2"]
    rows, mistakes = read("t.yml", "- name: a\n- nmae: b\n- 5\n- name: [a, b]\n- owner: true\n")
    assert [place for place, _ in rows] == ["t.yml:1"]
    assert [mistake.split(" ")[0] for mistake in mistakes] == ["t.yml:2:", "t.yml:3:", "t.yml:4:", "t.yml:5:"]
    assert "did you mean name?" in mistakes[0]


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("t.csv", "nmae,owner\n", "t.csv:1: 'nmae' is not a column of this table; did you mean name?"),
        ("t.csv", "name,name\n", "t.csv:1: the column 'name' stands there twice"),
        ("t.csv", 'name\n"a\n', "t.csv:2: not CSV"),
        ("t.yaml", "name: a\n", "t.yaml:1: must be a list"),
        ("t.yaml", "- name: a\n- {\n", "t.yaml:3: not YAML"),
    ],
)
def test_a_file_that_is_no_table_says_where(name: str, text: str, words: str) -> None:
    rows, mistakes = read(name, text)
    assert rows == []
    assert mistakes[0].startswith(words)


def test_what_is_not_utf8_says_in_which_line() -> None:
    mistakes: list[str] = []
    assert read_rows("t.csv", b"name\na\n\xff\n", KEYS, mistakes) == []
    assert mistakes[0].startswith("t.csv:3: not UTF-8")


def test_half_a_character_in_json_is_refused() -> None:
    mistakes: list[str] = []
    assert row_of("here", {"name": "\ud800"}, KEYS, mistakes) is None
    assert mistakes == ["here: name: holds half a character"]


@settings(max_examples=100)
@given(
    st.sampled_from(["t.csv", "t.yaml"]), st.binary(max_size=80) | st.text(max_size=80).map(lambda t: t.encode("utf-8", "replace"))
)
def test_no_content_raises(name: str, content: bytes) -> None:
    mistakes: list[str] = []
    rows = read_rows(name, content, KEYS, mistakes)
    assert all(row.cells for row in rows)
    assert all(mistake.startswith(f"{name}:") for mistake in mistakes)


def test_a_key_that_stands_twice_in_an_entry_is_a_mistake() -> None:
    mistakes: list[str] = []
    found = read_rows("a.yaml", b"- name: x\n  ip: 10.0.0.1\n  name: y\n- name: z\n", frozenset({"name", "ip"}), mistakes)
    assert mistakes == ["a.yaml:1: the key 'name' stands there twice"]
    assert [row.cells for row in found] == [{"name": "z"}]
