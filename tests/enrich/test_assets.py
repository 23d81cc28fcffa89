"""Assets: the most specific row that says something holds."""

from __future__ import annotations

from weir.enrich.addresses import parse_address
from weir.enrich.assets import ASSET_KEYS, Asset, AssetTable, asset_of, compile_assets
from weir.enrich.rows import Row, read_rows
from weir.enrich.users import User

TABLE = """network,ip,host,user,name,criticality,owner,zone,roles
10.0.0.0/8,,,,Corporate,low,it,,
10.1.0.0/16,,,,Site North,,,,
,10.1.2.3,,,dc1,high,ad-team,,
,10.1.2.4,,,printer,,,Printers,
2001:db8::/32,,,,Six,,,,
,,Files.corp.example.,,files,high,storage,,
,,,AD\\alice,alice,high,,,admin|vpn
"""


def compiled(text: str) -> tuple[AssetTable, list[str]]:
    mistakes: list[str] = []
    return compile_assets(read_rows("a.csv", text.encode(), ASSET_KEYS, mistakes), mistakes), mistakes


def at(table: AssetTable, text: str) -> Asset | None:
    address = parse_address(text)
    assert address is not None
    return table.of_address(address)


def test_what_a_row_leaves_out_is_taken_from_the_next_wider_network() -> None:
    table, mistakes = compiled(TABLE)
    assert mistakes == []
    assert at(table, "10.9.9.9") == Asset(None, "low", "it", "Corporate")
    assert at(table, "10.1.9.9") == Asset(None, "low", "it", "Site North")
    assert at(table, "10.1.2.3") == Asset("dc1", "high", "ad-team", "Site North")
    assert at(table, "10.1.2.4") == Asset("printer", "low", "it", "Printers")
    assert at(table, "2001:db8::5") == Asset(None, None, None, "Six")
    assert at(table, "192.0.2.1") is None
    assert len(table) == 7


def test_a_host_is_found_by_its_name_and_by_its_first_label() -> None:
    table, _ = compiled("host,name\nFiles.corp.example.,files\nweb,web server\n")
    assert table.of_host("files.CORP.example") == Asset("files")
    assert table.of_host("web.dmz.example") == Asset("web server")
    assert table.of_host("files") is None
    assert table.has_hosts


def test_rows_of_users_go_to_the_table_of_users() -> None:
    table, _ = compiled(TABLE)
    assert table.users == {"ad\\alice": User("alice", ("admin", "vpn"), "high")}


def test_every_row_that_cannot_be_used_is_named() -> None:
    rows = ["10.0.0.1/8,,,x,", ",10.0.0.0/8,,x,", "10.0.0.0/8,10.0.0.1,,x,", ",,,x,", "10.0.0.0/8,,,x,y", ",10.0.0.1,,x,"]
    _, mistakes = compiled("\n".join(["network,ip,host,name,zone", *rows, "10.0.0.1/32,,,again,"]))
    assert [mistake.partition(": ")[0] for mistake in mistakes] == [f"a.csv:{line}" for line in (2, 3, 4, 5, 6, 8)]
    assert "has host bits set" in mistakes[0]
    assert "write it as 'network'" in mistakes[1]
    assert "has network and ip" in mistakes[2]
    assert "has none of them" in mistakes[3]
    assert "one name" in mistakes[4]
    assert "stands in a.csv:7 already" in mistakes[5]


def test_what_a_topic_says_goes_before_the_file() -> None:
    mistakes: list[str] = []
    row = asset_of(Row("", {"ip": "10.1.2.3", "name": "dc1-new"}), mistakes)
    assert row is not None
    table = compile_assets(read_rows("a.csv", TABLE.encode(), ASSET_KEYS, mistakes), mistakes, [row])
    assert mistakes == []
    assert at(table, "10.1.2.3") == Asset("dc1-new", "low", "it", "Site North")
