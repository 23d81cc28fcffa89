"""Ids stay the same for ever, and schemas keep theirs."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weir.model import schemas
from weir.model.ids import event_id, new_batch_id, parse_event_id, stable_id
from weir.model.topics import DATASETS, TopicNames, declarations


@given(st.binary(min_size=16, max_size=16), st.integers(0, 10**6), st.integers(0, 10**6))
def test_an_event_id_names_batch_unit_and_record(batch: bytes, unit: int, record: int) -> None:
    assert parse_event_id(event_id(batch.hex(), unit, record)) == (batch.hex(), unit, record)


def test_an_event_id_is_this_text_for_ever() -> None:
    assert event_id("0123456789abcdef0123456789abcdef", 3, 1) == "0123456789abcdef0123456789abcdef-3-1"


@pytest.mark.parametrize("text", ["", "x", "abc-1-2", "0123456789abcdef0123456789abcdef-1-x"])
def test_what_is_no_event_id_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        parse_event_id(text)


def test_batch_ids_differ_and_sort_by_time_of_making() -> None:
    ids = [new_batch_id() for _ in range(1000)]
    assert len(set(ids)) == 1000
    assert [i[:6] for i in ids] == sorted(i[:6] for i in ids)
    assert {i[6] >> 4 for i in ids} == {7}


def test_stable_ids_depend_on_the_borders_of_their_parts() -> None:
    assert stable_id("ab", "c") != stable_id("a", "bc")
    assert stable_id("ab", "c") == stable_id("ab", "c")


def test_every_schema_in_the_catalogue_is_unchanged_since_it_got_its_id() -> None:
    path = schemas.schemas_dir() / "catalogue.json"
    entries = json.loads(path.read_text(encoding="utf-8"))
    assert schemas.make_catalogue(entries) == entries, "run `weir schemas lock` after adding a schema version"


def test_a_changed_schema_with_an_id_is_refused() -> None:
    entries = json.loads((schemas.schemas_dir() / "catalogue.json").read_text(encoding="utf-8"))
    entries[0]["fingerprint"] = "0" * 64
    with pytest.raises(ValueError, match="differs from what the catalogue holds"):
        schemas.make_catalogue(entries)


def test_catalogue_ids_lie_beyond_those_of_any_registry() -> None:
    assert min(schemas.catalogue()) > 1_000_000_000
    assert max(schemas.catalogue()) < 2**31


def test_every_field_is_documented_and_defaulted() -> None:
    bare = []
    for version in schemas.catalogue().values():
        raw = json.loads(version.text)
        for field in raw["fields"]:
            if not field.get("doc"):
                bare.append(f"{version.name}.{field['name']}: no doc")
            if "default" not in field and field["name"] != "batch_id":
                bare.append(f"{version.name}.{field['name']}: no default")
    assert not bare


def test_what_every_event_has_is_the_same_in_every_dataset() -> None:
    common = None
    for dataset in DATASETS:
        fields = json.loads(schemas.latest(dataset).text)["fields"]
        head = fields[: next(i for i, f in enumerate(fields) if f["name"] == "raw_offset") + 1]
        common = common or head
        assert head == common, dataset


def test_every_topic_has_a_schema_and_a_name_under_the_prefix() -> None:
    names = TopicNames("acme")
    for name, spec in declarations().items():
        assert spec.schema == "none" or schemas.latest(spec.schema)
        full = names[name]
        assert full.startswith("acme.")
        assert "_" not in full
        assert names.short(full) == name
    assert names["raw.syslog"] == "acme.raw.syslog.v1"
    assert names["raw.syslog.dlq"] == "acme.raw.syslog.v1.dlq"


def test_an_unknown_topic_is_named_with_those_there_are() -> None:
    with pytest.raises(KeyError, match=r"raw\.syslog"):
        TopicNames()["raw.sylog"]
