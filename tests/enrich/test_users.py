"""One user by all names."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weir.enrich.assets import ASSET_KEYS, asset_of, compile_assets
from weir.enrich.rows import read_rows, row_of
from weir.enrich.users import USER_KEYS, User, UserTable, compile_users, identity

TABLE = """entity,name,domain,upn,sid,uid,aliases,roles,criticality
alice@corp.example,alice,AD|corp.example,a.lice@corp.example,S-1-5-21-1-2-3-1001,1000,ADM\\alice.admin,admin|vpn,high
bob.1@corp.example,bob,AD,,,,,,
bob.2@corp.example,bob,LAB,,,,,,
"""
ALICE = User("alice@corp.example", ("admin", "vpn"), "high")


def compiled(text: str = TABLE) -> tuple[UserTable, list[str]]:
    mistakes: list[str] = []
    return compile_users(read_rows("u.csv", text.encode(), USER_KEYS, mistakes), mistakes), mistakes


@pytest.mark.parametrize(
    ("name", "domain", "user_id"),
    [
        ("alice", "AD", None),
        ("ALICE", "ad", "AD\\alice"),
        ("alice", "corp.example", None),
        ("AD\\Alice", None, None),
        ("A.Lice@Corp.Example", None, None),
        (None, None, "S-1-5-21-1-2-3-1001"),
        ("unknown", "X", "s-1-5-21-1-2-3-1001"),
        (None, None, "1000"),
        (None, None, "uid:1000"),
        ("1000", None, None),
        ("alice", None, None),
        (None, None, "alice"),
        ("alice.admin", "ADM", None),
        ("alice.admin", None, None),
        ("alice@corp.example", None, None),
    ],
)
def test_alice_is_found_by(name: str | None, domain: str | None, user_id: str | None) -> None:
    table, mistakes = compiled()
    assert mistakes == []
    assert table.find(name, domain, user_id) == ALICE


def test_a_bare_name_that_two_users_have_is_nobody() -> None:
    table, _ = compiled()
    assert table.find("bob", None, None) is None
    found = table.find("bob", "LAB", None)
    assert found is not None
    assert found.entity == "bob.2@corp.example"


def test_a_name_of_another_domain_is_not_the_bare_name() -> None:
    table, _ = compiled()
    assert table.find("alice", "OTHER", None) is None
    assert table.find("OTHER\\alice", None, None) is None


def test_mistakes_are_named_with_their_lines() -> None:
    _, mistakes = compiled("entity,name,domain,upn,sid,uid\n,x,,,,\na,,D,,,\nb,b,AD,not-an-address,S-1-5,12x\nc,b,AD,,,\n")
    assert [mistake.partition(": ")[0] for mistake in mistakes] == [
        "u.csv:2",
        "u.csv:3",
        "u.csv:4",
        "u.csv:4",
        "u.csv:4",
        *["u.csv:5"] * 2,
    ]
    assert "is b in u.csv:4 already" in mistakes[-1]


def test_a_number_as_entity_is_no_uid() -> None:
    table, _ = compiled("entity,name\n1000,alice\n")
    assert table.find(None, None, "1000") is None
    assert table.find("alice", None, None) == User("1000")


def test_who_is_in_no_table_has_a_key_all_the_same() -> None:
    assert identity("Alice", "AD", None) == "ad\\alice" == identity(None, None, "AD\\alice")
    assert identity("alice", None, None) == "alice"
    assert identity(None, None, None) is None
    assert identity("", "", "") is None


@settings(max_examples=100)
@given(st.none() | st.text(max_size=20), st.none() | st.text(max_size=20), st.none() | st.text(max_size=20))
def test_any_text_is_a_user_or_none(name: str | None, domain: str | None, user_id: str | None) -> None:
    table, _ = compiled()
    found = table.find(name, domain, user_id)
    assert found is None or found.entity
    assert identity(name, domain, user_id) != ""


def test_a_user_row_of_the_assets_is_the_same_user_in_any_case() -> None:
    mistakes: list[str] = []
    rows = read_rows("a.csv", b"user,name,roles\nAlice,alice@corp,admin\nalice,other,none\n", ASSET_KEYS, mistakes)
    table = compile_assets(rows, mistakes)
    assert mistakes == ["a.csv:3: user alice stands in a.csv:2 already"]
    row = row_of("t", {"user": "ALICE", "name": "by the topic"}, ASSET_KEYS, mistakes)
    assert row is not None
    topic = asset_of(row, mistakes)
    assert topic is not None
    table = compile_assets(rows[:1], [], [topic._replace(place="")])
    found = compile_users([], [], table.users.items()).find("Alice", None, None)
    assert found is not None
    assert found.entity == "by the topic"
