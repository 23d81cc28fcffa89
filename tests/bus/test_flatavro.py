"""The quick writer gives fastavro's bytes, and leaves to fastavro what is out of the ordinary."""

from __future__ import annotations

import io
from itertools import islice, permutations
from typing import Any

import fastavro
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weir.bus.codec import Decoder, Encoder
from weir.bus.flatavro import Unusual, flat_writer
from weir.model.schemas import latest
from weir.model.topics import DATASETS

SCHEMA: dict[str, Any] = {
    "type": "record",
    "name": "Flat",
    "fields": [
        {"name": "text", "type": "string", "default": "event"},
        {"name": "must", "type": "long"},
        {"name": "small", "type": "int", "default": 0},
        {"name": "maybe_text", "type": ["null", "string"], "default": None},
        {"name": "maybe_small", "type": ["null", "int"], "default": None},
        {"name": "maybe_long", "type": ["null", "long"], "default": None},
        {"name": "maybe_double", "type": ["null", "double"], "default": None},
        {"name": "list", "type": {"type": "array", "items": "string"}, "default": []},
        {"name": "map", "type": {"type": "map", "values": "string"}, "default": {}},
    ],
}
PARSED = fastavro.parse_schema(SCHEMA)
LONGS = st.integers(-(2**63), 2**63 - 1) | st.sampled_from([0, -1, 63, 64, -64, -65, 8191, 8192, -8192, -8193, 2**31, 2**62])
INTS = st.integers(-(2**31), 2**31 - 1)
VALUES = st.fixed_dictionaries(
    {"must": LONGS},
    optional={
        "text": st.text(),
        "small": INTS,
        "maybe_text": st.none() | st.text(),
        "maybe_small": st.none() | INTS,
        "maybe_long": st.none() | LONGS,
        "maybe_double": st.none() | st.floats(allow_nan=False) | st.integers(-(2**53), 2**53),
        "list": st.lists(st.text(max_size=5), max_size=6),
        "map": st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=4),
    },
)


def by_fastavro(record: dict[str, Any]) -> bytes:
    buffer = io.BytesIO()
    fastavro.schemaless_writer(buffer, PARSED, record)
    return buffer.getvalue()


def quick(record: dict[str, Any]) -> bytes:
    write = flat_writer(SCHEMA, b"")
    assert write is not None
    return write(record)


@given(VALUES)
@settings(max_examples=200)
def test_the_bytes_are_those_of_fastavro(record: dict[str, Any]) -> None:
    assert quick(record) == by_fastavro(record)


@pytest.mark.parametrize("length", [63, 64, 8191, 8192, 16_383])
def test_lengths_around_each_size_of_their_prefix(length: int) -> None:
    record = {"must": 0, "text": "x" * length, "maybe_text": "y" * length}
    assert quick(record) == by_fastavro(record)


@pytest.mark.parametrize(
    "record",
    [
        {},
        {"must": None},
        {"must": "1"},
        {"must": True},
        {"must": 1.0},
        {"must": 2**63},
        {"must": 1, "small": 2**31},
        {"must": 1, "maybe_small": -(2**31) - 1},
        {"must": 1, "maybe_double": 10**400},
        {"must": 1, "text": b"bytes"},
        {"must": 1, "text": None},
        {"must": 1, "text": "\ud800"},
        {"must": 1, "text": "x" * 16_384},
        {"must": 1, "maybe_long": "text"},
        {"must": 1, "list": ("a",)},
        {"must": 1, "list": [1]},
        {"must": 1, "list": [[]]},
        {"must": 1, "list": ["a", "b", "c", "d", 5]},
        {"must": 1, "map": {"a": 1}},
        {"must": 1, "no_such_field": "x"},
        {"must": 1, "no_such_field": None},
    ],
)
def test_anything_out_of_the_ordinary_is_left_to_fastavro(record: dict[str, Any]) -> None:
    with pytest.raises(Unusual):
        quick(record)


def test_every_dataset_is_flat_and_a_schema_with_records_inside_is_not() -> None:
    for dataset in DATASETS:
        assert flat_writer(latest(dataset).parsed, b"") is not None, dataset
    assert flat_writer(latest("raw-batch").parsed, b"") is None


def test_a_default_other_than_null_in_a_union_is_not_flat() -> None:
    field = {"name": "a", "type": ["null", "string"], "default": "x"}
    assert flat_writer({"type": "record", "name": "R", "fields": [field]}, b"") is None


@pytest.mark.parametrize("dataset", DATASETS)
def test_the_encoder_still_writes_the_unusual_and_names_what_does_not_fit(dataset: str) -> None:
    encode, decode = Encoder(dataset), Decoder()
    long_text = "é" * 20_000
    assert decode(encode({"event_id": long_text, "not_in_the_schema": 1}))["event_id"] == long_text
    with pytest.raises((TypeError, ValueError)):
        encode({"event_id": 7})
    with pytest.raises((TypeError, ValueError)):
        encode({"event_created": "yesterday"})


@pytest.mark.parametrize("number", [8_191, 8_192, 16_383, 16_384, 2**21, 2**28 - 1, 2**28, 2**31 - 1])
def test_numbers_around_each_size_of_their_tables(number: int) -> None:
    for value in (number, -number, ~number):
        record = {"must": value, "small": value, "maybe_small": value, "maybe_long": value}
        assert quick(record) == by_fastavro(record)


def test_the_bytes_do_not_depend_on_the_order_of_keys_nor_on_what_was_written_before() -> None:
    write = flat_writer(SCHEMA, b"")
    assert write is not None
    whole = {"text": "a", "must": 1, "small": 2, "maybe_text": "b", "maybe_long": 3, "list": ["c"], "map": {"d": "e"}}
    # More sets of keys than are kept, each in another order, and each once more with nulls in the places of the values.
    for keys in islice(permutations(whole), 0, 5_040, 7):
        for record in (
            {key: whole[key] for key in keys},
            {key: None if key.startswith("maybe") else whole[key] for key in keys},
            {key: whole[key] for key in (*keys[:4], "must")},
        ):
            assert write(record) == by_fastavro(record)


def test_more_keys_of_maps_than_are_kept_are_written_all_the_same() -> None:
    for start in range(0, 10_000, 1_000):
        record = {"must": 1, "map": {f"k{number}": str(number) for number in range(start, start + 1_000)}}
        assert quick(record) == by_fastavro(record)
