"""The Confluent wire format, both magics, and what is refused."""

from __future__ import annotations

import contextlib
import struct

import fastavro
import pytest
from hypothesis import given
from hypothesis import strategies as st

from weir.bus.codec import VALUE_GUID_HEADER, Decoder, Encoder, WireFormatError
from weir.model.schemas import latest

EVENT = {"event_id": "x", "event_created": 5, "raw_topic": "t", "raw_partition": 1, "raw_offset": 2, "message": "hé"}


def test_a_record_begins_with_magic_zero_and_the_catalogues_id() -> None:
    data = Encoder("syslog")(EVENT)
    assert struct.unpack(">bI", data[:5]) == (0, latest("syslog").id)


def test_an_independent_avro_reader_reads_it_with_the_catalogues_schema() -> None:
    import io

    data = Encoder("syslog")(EVENT)
    record = fastavro.schemaless_reader(io.BytesIO(data[5:]), latest("syslog").parsed, None)
    assert isinstance(record, dict)
    assert record["message"] == "hé"
    assert record["event_created"].microsecond == 5


def test_times_stay_whole_microseconds() -> None:
    assert Decoder()(Encoder("syslog")(EVENT))["event_created"] == 5


def test_magic_one_names_the_schema_in_a_header() -> None:
    body = Encoder("syslog")(EVENT)[5:]
    header = [(VALUE_GUID_HEADER, b"\x01" + latest("syslog").guid.bytes)]
    name, record = Decoder().named(b"\x01" + body, header)
    assert (name, record["message"]) == ("syslog", "hé")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "empty record"),
        (None, "empty record"),
        (b"{}", "neither magic 0 nor magic 1"),
        (struct.pack(">bI", 0, 7) + b"x", "schema 7 is not in the catalogue"),
        (b"\x01abc", VALUE_GUID_HEADER),
        (struct.pack(">bI", 0, latest("syslog").id) + b"\xff", "does not fit schema syslog"),
    ],
)
def test_what_is_not_in_the_format_is_refused_with_the_reason(data: bytes | None, words: str) -> None:
    with pytest.raises(WireFormatError, match=words):
        Decoder()(data)


@given(st.binary(max_size=300))
def test_garbage_is_refused_and_never_crashes(data: bytes) -> None:
    decode = Decoder()
    for record in (data, struct.pack(">bI", 0, latest("raw-batch").id) + data):
        with contextlib.suppress(WireFormatError):
            decode(record)


def test_a_value_that_does_not_fit_is_named() -> None:
    with pytest.raises((ValueError, TypeError), match=r"raw_partition|int"):
        Encoder("syslog")({**EVENT, "raw_partition": "seven"})
