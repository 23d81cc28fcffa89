"""Tables that change while the processor runs."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from weir.ops.settings import SettingsError
from weir.processors import tables as module
from weir.processors.settings import ProcessorSettings
from weir.processors.tables import HotTables


def tables(**given: Any) -> HotTables:
    return HotTables(ProcessorSettings(kafka_bootstrap_servers="127.0.0.1:9", **given))


def network_of(found: HotTables, address: str) -> Any:
    facts = found.lookup.addresses[address]
    return None if facts is None else facts.source.get("source_network_name")


def replaced(path: Path, text: str) -> None:
    """As a careful writer does it: a new file, renamed over the old one."""
    fresh = path.with_suffix(".new")
    fresh.write_text(text)
    fresh.replace(path)


def test_a_change_swaps_the_table_and_forgets_what_the_old_one_said(tmp_path: Path) -> None:
    path = tmp_path / "assets.csv"
    path.write_text("network,name\n10.0.0.0/8,Old\n")
    found = tables(enrich_asset_files=str(path))
    before = found.lookup
    assert network_of(found, "10.1.1.1") == "Old"
    assert found.check() == []
    replaced(path, "network,name\n10.0.0.0/8,New\n")
    assert found.check() == ["assets"]
    assert network_of(found, "10.1.1.1") == "New"
    assert before.addresses["10.2.2.2"] is not None  # who still holds the old one can go on asking it
    assert before.addresses["10.2.2.2"].source == {"source_network_name": "Old"}
    assert found.check() == []


def test_a_broken_file_leaves_the_old_table_and_a_repaired_one_is_taken(tmp_path: Path) -> None:
    path = tmp_path / "assets.yaml"
    path.write_text("- network: 10.0.0.0/8\n  name: Old\n")
    found = tables(enrich_asset_files=str(path))
    for broken in ("- network: 10.0.0.0/99\n", "- {\n", "- nettwork: 10.0.0.0/8\n"):
        replaced(path, broken)
        assert found.check() == []
        assert network_of(found, "10.1.1.1") == "Old"
    path.unlink()
    assert found.check() == []
    assert network_of(found, "10.1.1.1") == "Old"
    path.write_text("- network: 10.0.0.0/8\n  name: New\n")
    assert found.check() == ["assets"]
    assert network_of(found, "10.1.1.1") == "New"


def test_the_swap_of_a_config_maps_link_is_seen(tmp_path: Path) -> None:
    """The kubelet keeps a folder for each version, `..data` as link to the newest, and each file as link through `..data`."""
    for version, name in (("..v1", "Old"), ("..v2", "New")):
        (tmp_path / version).mkdir()
        (tmp_path / version / "assets.csv").write_text(f"network,name\n10.0.0.0/8,{name}\n")
    (tmp_path / "..data").symlink_to("..v1")
    (tmp_path / "assets.csv").symlink_to("..data/assets.csv")
    found = tables(enrich_asset_files=str(tmp_path / "assets.csv"), enrich_intel=str(tmp_path))
    assert network_of(found, "10.1.1.1") == "Old"
    (tmp_path / "..tmp").symlink_to("..v2")
    os.replace(tmp_path / "..tmp", tmp_path / "..data")
    assert "assets" in found.check()
    assert network_of(found, "10.1.1.1") == "New"


def test_files_that_come_into_a_folder_of_lists_and_leave_it_are_seen(tmp_path: Path) -> None:
    folder = tmp_path / "lists"
    folder.mkdir()
    (folder / "a.txt").write_text("evil.example\nnonsense\n")
    (folder / "manifest.json").write_text("{}")
    (folder / ".hidden").write_text("hidden.example\n")
    found = tables(enrich_intel=f"mine={folder}")
    assert [match.details.provider for match in found.lookup.names["evil.example"]] == ["mine"]
    assert found.lookup.names["hidden.example"] == ()
    (report,) = found.loaded["intel"].reports.values()
    assert (report.taken, report.left_out) == (1, 1)
    (folder / "b.txt").write_text("bad.example\n")
    assert found.check() == ["intel"]
    assert found.lookup.names["bad.example"]
    (folder / "a.txt").unlink()
    assert found.check() == ["intel"]
    assert found.lookup.names["evil.example"] == ()


def test_every_mistake_in_every_file_stops_the_start_at_once(tmp_path: Path) -> None:
    (tmp_path / "assets.csv").write_text("network,name\n10.0.0.0/99,a\n10.0.0.0/98,b\n")
    (tmp_path / "users.csv").write_text("entity,sid\na,5\n")
    (tmp_path / "intel.json").write_text("{")
    (tmp_path / "geo.mmdb").write_text("no")
    with pytest.raises(SettingsError) as raised:
        tables(
            enrich_asset_files=f"{tmp_path / 'assets.csv'}, {tmp_path / 'missing.csv'}",
            enrich_user_files=str(tmp_path / "users.csv"),
            enrich_intel=f"{tmp_path / 'intel.json'}",
            enrich_mmdb_files=str(tmp_path / "geo.mmdb"),
        )
    text = "\n".join(raised.value.mistakes)
    for words in (
        "assets.csv:2",
        "assets.csv:3",
        "missing.csv: No such file",
        "users.csv:2",
        "intel.json: not JSON",
        "geo.mmdb: not a usable",
    ):
        assert words in text


def test_a_list_that_is_nowhere_stops_the_start(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="no file or folder"):
        tables(enrich_intel=str(tmp_path / "missing"))


def test_too_many_indicators_stop_the_start_and_leave_the_old_table_later(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("203.0.113.1\n203.0.113.2\n")
    with pytest.raises(SettingsError, match="more than 1 indicators"):
        tables(enrich_intel=str(path), enrich_intel_max_indicators=1)
    found = tables(enrich_intel=str(path), enrich_intel_max_indicators=2)
    replaced(path, "203.0.113.1\n203.0.113.2\n203.0.113.3\n")
    assert found.check() == []
    assert found.lookup.names["203.0.113.2"]


def test_users_of_the_assets_file_are_users_unless_the_users_file_says_otherwise(tmp_path: Path) -> None:
    (tmp_path / "assets.csv").write_text("user,name,criticality\nAD\\svc-backup,svc-backup,high\nAD\\alice,other,low\n")
    (tmp_path / "users.csv").write_text("entity,name,domain\nalice@corp.example,alice,AD\n")
    found = tables(enrich_asset_files=str(tmp_path / "assets.csv"), enrich_user_files=str(tmp_path / "users.csv"))
    assert found.lookup.users["svc-backup", "AD", None].fields == {"user_entity_id": "svc-backup", "user_criticality": "high"}
    assert found.lookup.users["alice", "AD", None].fields == {"user_entity_id": "alice@corp.example"}


def test_memory_of_answers_is_bounded(tmp_path: Path) -> None:
    path = tmp_path / "assets.csv"
    path.write_text("network,name\n10.0.0.0/8,Corp\n")
    found = tables(enrich_asset_files=str(path), enrich_cache_entries=1000).lookup
    for number in range(2500):
        assert found.addresses[f"10.0.{number >> 8}.{number & 255}"] is not None
        assert len(found.addresses) <= 1000
    long = "x" * 5000
    assert found.hosts[long] is None
    assert long not in found.hosts
    assert found.users[long, None, None].key == long
    assert not found.users


def test_what_could_not_be_read_is_tried_again_though_no_file_has_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "assets.csv"
    path.write_text("network,name\n10.0.0.0/8,Old\n")
    found = tables(enrich_asset_files=str(path))
    now = [1000.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    with monkeypatch.context() as broken:
        broken.setattr(Path, "read_bytes", lambda self: (_ for _ in ()).throw(OSError(5, "Input/output error")))
        replaced(path, "network,name\n10.0.0.0/8,New\n")
        assert found.check() == []
    now[0] += 299
    assert found.check() == []
    now[0] += 1
    assert found.check() == ["assets"]
    assert network_of(found, "10.1.1.1") == "New"
    now[0] += 1000
    assert found.check() == []


def test_a_defect_in_reading_one_kind_of_table_keeps_no_other_one_old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assets, intel = tmp_path / "assets.csv", tmp_path / "list.txt"
    assets.write_text("network,name\n10.0.0.0/8,Old\n")
    intel.write_text("evil.example\n")
    found = tables(enrich_asset_files=str(assets), enrich_intel=str(intel))
    monkeypatch.setattr(module, "compile_assets", lambda *_: {}["no such key"])
    replaced(assets, "network,name\n10.0.0.0/8,New\n")
    replaced(intel, "worse.example\n")
    assert found.check() == ["intel"]
    assert network_of(found, "10.1.1.1") == "Old"
    assert found.lookup.names["worse.example"]


def test_a_file_that_becomes_readable_is_read_though_its_content_is_as_old_as_before(tmp_path: Path) -> None:
    path = tmp_path / "assets.csv"
    path.write_text("network,name\n10.0.0.0/8,Old\n")
    found = tables(enrich_asset_files=str(path))
    before = path.stat()
    path.chmod(0o640 if before.st_mode & 0o777 != 0o640 else 0o600)
    assert (path.stat().st_mtime_ns, path.stat().st_ino) == (before.st_mtime_ns, before.st_ino)
    assert found.check() == ["assets"]


def test_following_the_topic_without_ever_taking_it_over_is_a_mistake(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="WEIR_ENRICH_ASSETS_TOPIC needs WEIR_ENRICH_RELOAD_SECONDS"):
        ProcessorSettings(kafka_bootstrap_servers="127.0.0.1:9", enrich_assets_topic=True, enrich_reload_seconds=0)
