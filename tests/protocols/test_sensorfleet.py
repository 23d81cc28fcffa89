"""SensorFleet: the reshaping of the vendor's filter, and what happens where that filter would lose something."""

from __future__ import annotations

import copy

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weir.protocols.sensorfleet import ENVELOPE_KEY, TAG, recognise, reshape, timestamp_us

ENVELOPE: dict[str, object] = {
    "@timestamp": "2024-03-01T12:00:00.000Z",
    "@version": "1",
    "headers": {"content_type": "application/json"},
    "host": "10.1.1.1",
    "tags": ["beats_input_raw_event"],
    "source_sensor": "plant-7",
    "source_instrument": "suricata_0@plant-7",
    "type": "instruments.suricata.alert",
    "message": "an alert",
    "context_uuid": "6c0c3b1e-9f36-4a26-8d6b-0a3a5f2f9a10",
    "uuid": "0e4c2c7d-6d0b-4a91-a5a2-0d9f6a7f5b11",
    "sensor_event_id": 871,
    "timestamp": 1709294400.123457,
    "data": {"event_type": "alert", "timestamp": "2024-03-01T12:00:00.123456+0000", "host": "inner"},
}


class TestReshape:
    def test_does_what_the_vendors_filter_does(self) -> None:
        assert reshape(ENVELOPE) == {
            "@timestamp": "2024-03-01T12:00:00.000Z",
            "@version": "1",
            "event_type": "alert",
            "timestamp": "2024-03-01T12:00:00.123456+0000",
            "host": "inner",
            "tags": ["sensorfleet_event"],
            "_sensorfleet_event": {
                "source_sensor": "plant-7",
                "source_instrument": "suricata_0@plant-7",
                "type": "instruments.suricata.alert",
                "message": "an alert",
                "context_uuid": "6c0c3b1e-9f36-4a26-8d6b-0a3a5f2f9a10",
                "uuid": "0e4c2c7d-6d0b-4a91-a5a2-0d9f6a7f5b11",
                "sensor_event_id": 871,
                "timestamp": 1709294400.123457,
            },
        }

    def test_leaves_its_argument_alone(self) -> None:
        document = copy.deepcopy(ENVELOPE)
        reshape(document)
        assert document == ENVELOPE

    @pytest.mark.parametrize("key", ["_sensorfleet_event", "@timestamp", "@version", "@metadata", "tags"])
    def test_data_cannot_overwrite_what_the_root_needs(self, key: str) -> None:
        reshaped = reshape({**ENVELOPE, "data": {key: "forged", "fine": 1}})
        envelope = reshaped[ENVELOPE_KEY]
        assert isinstance(envelope, dict)
        assert envelope["data_collisions"] == {key: "forged"}
        assert reshaped["fine"] == 1
        assert reshaped["tags"] == [TAG]
        assert reshaped["@timestamp"] == ENVELOPE["@timestamp"]
        assert "data" not in envelope

    @pytest.mark.parametrize("data", ["text", 5, [1, 2], False])
    def test_data_that_is_no_object_is_kept_where_it_was(self, data: object) -> None:
        reshaped = reshape({**ENVELOPE, "data": data})
        envelope = reshaped[ENVELOPE_KEY]
        assert isinstance(envelope, dict)
        assert envelope["data"] == data

    def test_an_event_without_data_has_only_its_envelope(self) -> None:
        without = {key: value for key, value in ENVELOPE.items() if key != "data"}
        assert set(reshape(without)) == {"@timestamp", "@version", "tags", ENVELOPE_KEY}
        assert reshape({**without, "data": None}) == reshape(without)

    def test_reshaping_twice_changes_nothing_more(self) -> None:
        once = reshape(ENVELOPE)
        assert reshape(once) == once

    def test_a_document_reshaped_by_a_forwarder_gets_the_tag(self) -> None:
        forwarded: dict[str, object] = {ENVELOPE_KEY: {"source_sensor": "s", "type": "t"}, "tags": ["other"]}
        assert reshape(forwarded)["tags"] == ["other", TAG]


class TestRecognise:
    def test_an_envelope_before_and_after_reshaping(self) -> None:
        assert recognise(ENVELOPE)
        assert recognise(reshape(ENVELOPE))

    @pytest.mark.parametrize("key", ["source_sensor", "source_instrument", "uuid", "type"])
    def test_not_without_a_key_that_names_the_event(self, key: str) -> None:
        assert not recognise({k: v for k, v in ENVELOPE.items() if k != key})
        assert not recognise({**ENVELOPE, key: 5})

    def test_not_without_both_number_and_data(self) -> None:
        assert not recognise({k: v for k, v in ENVELOPE.items() if k not in {"sensor_event_id", "data"}})


class TestTimestamp:
    def test_is_exact_to_the_microsecond_before_and_after_reshaping(self) -> None:
        assert timestamp_us(ENVELOPE) == 1_709_294_400_123_457
        assert timestamp_us(reshape(ENVELOPE)) == 1_709_294_400_123_457

    @pytest.mark.parametrize(
        ("seconds", "micros"),
        [(1614868533, 1_614_868_533_000_000), ("1614868533.946555", 1_614_868_533_946_555), (0, 0)],
    )
    def test_other_numbers(self, seconds: object, micros: int) -> None:
        assert timestamp_us({"timestamp": seconds}) == micros

    @pytest.mark.parametrize(
        "seconds", [None, True, -1, float("nan"), float("inf"), 1e300, "x", "NaN", "Infinity", "1e999999", [], {}]
    )
    def test_anything_else_is_none(self, seconds: object) -> None:
        assert timestamp_us({"timestamp": seconds}) is None

    @settings(max_examples=300)
    @given(micros=st.integers(1_000_000_000_000_000, 4_294_967_295_999_999))
    def test_six_digits_survive_the_double(self, micros: int) -> None:
        assert timestamp_us({"timestamp": float(f"{micros // 1_000_000}.{micros % 1_000_000:06d}")}) == micros


KEYS = st.sampled_from(["tags", "host", "headers", "data", "@timestamp", ENVELOPE_KEY, "uuid", "type", "timestamp", "a"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=8,
)


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(KEYS, JSON, max_size=6))
def test_any_document_reshapes_and_keeps_its_envelope(changes: dict[str, object]) -> None:
    """Whatever a document holds, reshape answers with the tag set and the envelope's own fields in place."""
    document = {**ENVELOPE, **changes}
    reshaped = reshape(document)
    tags = reshaped["tags"]
    assert isinstance(tags, list)
    assert TAG in tags
    assert isinstance(reshaped[ENVELOPE_KEY], dict)
    assert isinstance(timestamp_us(document), int | None)
    assert isinstance(recognise(changes), bool)
