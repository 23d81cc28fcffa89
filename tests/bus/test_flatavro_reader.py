"""The quick reader gives fastavro's records, and leaves to fastavro what is out of the ordinary."""

from __future__ import annotations

import io
from typing import Any

import fastavro
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.bus.test_flatavro import PARSED, SCHEMA, VALUES, by_fastavro
from weir.bus.codec import Decoder, Encoder
from weir.bus.flatavro import Unusual
from weir.bus.flatavro_reader import flat_reader
from weir.model.schemas import latest
from weir.model.topics import DATASETS


def quick(data: bytes, position: int = 0) -> dict[str, Any]:
    read = flat_reader(SCHEMA)
    assert read is not None
    return read(data, position)


def slow(data: bytes) -> Any:
    return fastavro.schemaless_reader(io.BytesIO(data), PARSED, None)


@given(VALUES, st.binary(max_size=8))
@settings(max_examples=200)
def test_the_record_is_that_of_fastavro(record: dict[str, Any], prefix: bytes) -> None:
    data = by_fastavro(record)
    assert quick(prefix + data, len(prefix)) == slow(data)


@given(st.binary(max_size=60))
@example(b"\0" * 9)
@example(b"\0\0\0\0\0\0\0\x01\x02\x02a\0\0")  # an array block that names its size
@example(b"\0" + b"\xff" * 11 + b"\0" * 9)
@settings(max_examples=200)
def test_bytes_that_are_no_record_are_left_to_fastavro(data: bytes) -> None:
    try:
        found = quick(data)
    except Unusual:
        return
    assert found == slow(data)


@given(VALUES, st.integers(min_value=1, max_value=40))
@settings(max_examples=100)
def test_a_record_that_is_cut_is_never_read_as_a_whole_one(record: dict[str, Any], cut: int) -> None:
    data = by_fastavro(record)
    with pytest.raises(Unusual):
        quick(data[: max(0, len(data) - cut)])


def test_lists_and_maps_of_two_records_are_not_the_same_object() -> None:
    data = by_fastavro({"must": 1})
    one, other = quick(data), quick(data)
    one["list"].append("x")
    one["map"]["a"] = "b"
    assert (other["list"], other["map"]) == ([], {})


def test_every_dataset_is_flat_and_a_schema_with_records_inside_is_not() -> None:
    for dataset in DATASETS:
        assert flat_reader(latest(dataset).parsed) is not None, dataset
    assert flat_reader(latest("raw-batch").parsed) is None


@pytest.mark.parametrize("dataset", DATASETS)
def test_the_decoder_gives_every_field_of_a_record_that_has_hardly_any(dataset: str) -> None:
    found = Decoder()(Encoder(dataset)({"event_id": "a", "message": "text"}))
    assert list(found) == [field["name"] for field in latest(dataset).parsed["fields"]]
    assert (found["event_id"], found["message"], found["tags"], found["timestamp"]) == ("a", "text", [], None)
