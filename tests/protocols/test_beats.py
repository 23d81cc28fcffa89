"""Beats documents: where a Suricata record hides, what the rest is, and who shipped it."""

from __future__ import annotations

import contextlib

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weir.protocols.beats import BeatsError, Shipping, classify, dispatch, extract_eve, parse, shipping, to_json

EVE: dict[str, object] = {"timestamp": "2024-03-01T12:00:00.000000+0000", "flow_id": 7, "event_type": "dns", "src_ip": "10.0.0.1"}
EVE_TEXT = orjson.dumps(EVE).decode()
FILEBEAT: dict[str, object] = {
    "@timestamp": "2024-03-01T12:00:01.500Z",
    "@metadata": {"beat": "filebeat", "type": "_doc", "version": "7.17.28"},
    "host": {"name": "web01.example"},
    "agent": {"name": "web01", "type": "filebeat", "version": "7.17.28", "hostname": "web01"},
    "event": {"module": "suricata", "dataset": "suricata.eve"},
    "log": {"file": {"path": "/var/log/suricata/eve.json"}, "offset": 4711},
    "message": "plain text",
}
SENSORFLEET: dict[str, object] = {
    "source_sensor": "s",
    "source_instrument": "i",
    "uuid": "u",
    "type": "t",
    "sensor_event_id": 1,
    "timestamp": 1709294400.5,
    "message": "m",
}


class TestParse:
    def test_a_byte_order_mark_is_passed_over_once(self) -> None:
        """Windows programs write it before UTF-8."""
        assert parse(b'\xef\xbb\xbf{"a": 1}') == {"a": 1}
        with pytest.raises(BeatsError):
            parse(b"\xef\xbb\xbf" * 5000 + b"{}")

    def test_a_json_object_is_a_document(self) -> None:
        assert parse(b'{"a": [1, {"b": null}]}') == {"a": [1, {"b": None}]}

    @pytest.mark.parametrize(
        ("payload", "reason"),
        [
            (b"", "not JSON"),
            (b"{", "not JSON"),
            (b'{"a":"\xff"}', "not JSON"),
            (b'{"a":NaN}', "not JSON"),
            (b"[1]", "this is an array"),
            (b'"text"', "this is a string"),
            (b"null", "this is null"),
            (b"true", "this is a boolean"),
            (b"1.5", "this is a number"),
            (b'{"a":' * 5000 + b"1" + b"}" * 5000, "not JSON"),
        ],
        ids=["empty", "cut", "bytes", "nan", "array", "string", "null", "boolean", "number", "deep"],
    )
    def test_anything_else_is_an_error_that_says_what_it_is(self, payload: bytes, reason: str) -> None:
        with pytest.raises(BeatsError, match=reason):
            parse(payload)

    def test_writing_a_document_that_is_nested_too_deep_is_an_error(self) -> None:
        with pytest.raises(BeatsError, match="cannot be written"):
            to_json(parse(b'{"a":' * 500 + b"1" + b"}" * 500))

    def test_writing_reads_back(self) -> None:
        assert parse(to_json(FILEBEAT).encode()) == FILEBEAT


class TestDispatch:
    @pytest.mark.parametrize(
        "document",
        [
            {**FILEBEAT, "message": EVE_TEXT},
            {**FILEBEAT, "event": {"original": EVE_TEXT}},
            {**FILEBEAT, "json": EVE},
            {**FILEBEAT, "suricata": {"eve": EVE}},
            {**FILEBEAT, "suricata.eve": EVE},
            {**SENSORFLEET, "data": EVE},
        ],
        ids=["message", "event.original", "json", "suricata.eve", "dotted", "SensorFleet data"],
    )
    def test_a_suricata_record_is_found_in_every_wrapping(self, document: dict[str, object]) -> None:
        assert dispatch(document) == ("eve", EVE)
        assert classify(document) == "eve"
        assert extract_eve(document) == EVE

    def test_a_record_decoded_at_the_root_is_the_document_itself(self) -> None:
        document = {**FILEBEAT, **EVE}
        assert extract_eve(document) is document

    def test_a_sensorfleet_event_of_another_kind(self) -> None:
        assert dispatch({**SENSORFLEET, "data": {"uid": "C1", "id.orig_h": "10.0.0.1"}}) == ("sensorfleet", None)
        assert classify(SENSORFLEET) == "sensorfleet"

    @pytest.mark.parametrize(
        "document",
        [
            {},
            FILEBEAT,
            {**FILEBEAT, "message": '{"timestamp": cut'},
            {**FILEBEAT, "message": '{"timestamp": "2024-03-01T12:00:00Z", "level": "info"}'},
            {**FILEBEAT, "message": '["timestamp"]'},
            {"data": EVE},
            {"message": None, "json": "text", "suricata": 5, "event": [], "host": 1},
        ],
    )
    def test_all_else_is_generic(self, document: dict[str, object]) -> None:
        assert dispatch(document) == ("generic", None)


class TestShipping:
    def test_reads_the_fields_of_ecs(self) -> None:
        assert shipping(FILEBEAT) == Shipping(
            timestamp=1_709_294_401_500_000,
            host_name="web01.example",
            agent_name="web01",
            agent_type="filebeat",
            agent_version="7.17.28",
            event_module="suricata",
            event_dataset="suricata.eve",
            log_file_path="/var/log/suricata/eve.json",
            log_offset=4711,
            message="plain text",
        )

    def test_reads_dotted_keys_and_falls_back_on_metadata(self) -> None:
        found = shipping(
            {"@metadata": {"beat": "winlogbeat", "version": "8.1"}, "event.dataset": "d", "host": "h", "agent": {"name": "n"}}
        )
        assert (found.agent_type, found.agent_version, found.event_dataset, found.host_name) == ("winlogbeat", "8.1", "d", "h")

    def test_a_beat_of_version_6_names_itself_and_its_file_at_the_root(self) -> None:
        found = shipping(
            {
                "beat": {"name": "web01", "hostname": "web01.example", "version": "6.8.23"},
                "@metadata": {"beat": "filebeat"},
                "source": "/var/log/x",
                "offset": 7,
            }
        )
        assert (found.agent_name, found.agent_type, found.agent_version, found.host_name) == (
            "web01",
            "filebeat",
            "6.8.23",
            "web01.example",
        )
        assert (found.log_file_path, found.log_offset) == ("/var/log/x", 7)
        assert shipping({"message": "x", "source": "somebody"}).log_file_path is None

    def test_an_empty_document_has_nothing(self) -> None:
        assert set(shipping({})) == {None}


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=6),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(
            st.sampled_from(["message", "json", "suricata", "eve", "event", "log", "file", "timestamp", "flow_id"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=8,
)


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(st.sampled_from([*FILEBEAT, *EVE, *SENSORFLEET, "json", "suricata", "data"]), JSON, max_size=8))
def test_any_document_is_of_one_kind_and_has_a_shipper(document: dict[str, object]) -> None:
    """Nothing in a document makes these functions raise, and writing it reads back."""
    kind, record = dispatch(document)
    assert (kind == "eve") == (record is not None)
    assert isinstance(shipping(document), Shipping)
    assert parse(to_json(document).encode()) == document


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=60))
def test_arbitrary_bytes_are_a_document_or_an_error(payload: bytes) -> None:
    """Bytes of any kind give a dict or a BeatsError."""
    with contextlib.suppress(BeatsError):
        assert isinstance(parse(payload), dict)
