"""Partials of one raw batch: counts by slice, bounded evidence, a stable partition."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from weir.bus.codec import Decoder, Encoder
from weir.detect.loading import load_rules
from weir.detect.partials import MAX_EVIDENCE, SignalSource, partition_of, sample_of

SECOND = 1_000_000
BEGIN = 1_790_000_000 * SECOND


def event(number: int, **fields: Any) -> dict[str, Any]:
    base = {
        "event_id": f"{'a' * 32}-{number}-0",
        "timestamp": BEGIN + number * SECOND,
        "event_created": BEGIN + 3600 * SECOND,
        "event_module": "qumulo",
        "event_action": "fs_delete",
        "event_outcome": "success",
        "user_id": "EXAMPLE\\mallory",
        "user_name": "mallory",
        "source_ip": "10.0.0.1",
        "file_path": f"/projects/{number}",
        "raw_topic": "weir.raw.syslog.v1",
        "raw_partition": 3,
        "raw_offset": 17,
    }
    return base | fields


@pytest.fixture(scope="module")
def source() -> SignalSource:
    return SignalSource(load_rules(Path(__file__).parent / "rules"))


def only(found: dict[int, list[dict[str, Any]]]) -> dict[str, Any]:
    (partials,) = found.values()
    (partial,) = partials
    return partial


def test_matches_are_counted_by_slice_of_event_time(source: SignalSource) -> None:
    partial = only(source.signals({"file-audit": [event(i) for i in range(40)]}, 4))
    assert [b["count"] for b in partial["buckets"]] == [25, 15]
    assert [b["start"] - BEGIN for b in partial["buckets"]] == [0, 25 * SECOND]
    assert [(b["first"] - BEGIN) // SECOND for b in partial["buckets"]] == [0, 25]
    assert [(b["last"] - BEGIN) // SECOND for b in partial["buckets"]] == [24, 39]
    assert partial["group"] == ["EXAMPLE\\mallory"]
    assert partial["entities"] == {"user": "mallory", "source_address": "10.0.0.1", "file": "/projects/0"}


def test_evidence_and_samples_are_the_first_and_bounded(source: SignalSource) -> None:
    partial = only(source.signals({"file-audit": [event(i) for i in range(40)]}, 4))
    assert [e["event_id"] for e in partial["evidence"]] == [f"{'a' * 32}-{i}-0" for i in range(MAX_EVIDENCE)]
    assert partial["evidence"][0] | {"event_id": ""} == {
        "event_id": "",
        "raw_topic": "weir.raw.syslog.v1",
        "raw_partition": 3,
        "raw_offset": 17,
        "dataset": "file-audit",
    }
    assert [json.loads(sample)["file_path"] for sample in partial["samples"]] == ["/projects/0", "/projects/1", "/projects/2"]


def test_an_event_without_time_of_its_own_counts_at_its_receive_time(source: SignalSource) -> None:
    partial = only(source.signals({"file-audit": [event(0, timestamp=None)]}, 4))
    assert partial["buckets"][0]["first"] == BEGIN + 3600 * SECOND


def test_groups_are_apart_and_a_missing_value_is_a_group(source: SignalSource) -> None:
    events = [event(0), event(1, user_id="other"), event(2, user_id=None), event(3)]
    found = source.signals({"file-audit": events}, 1)[0]
    assert {tuple(p["group"]): sum(b["count"] for b in p["buckets"]) for p in found} == {
        ("EXAMPLE\\mallory",): 2,
        ("other",): 1,
        ("",): 1,
    }


def test_what_does_not_match_yields_nothing(source: SignalSource) -> None:
    quiet = [event(0, event_action="fs_read_data"), event(1, event_outcome="failure"), event(2, event_action=None)]
    assert source.signals({"file-audit": quiet, "network-flow": [event(3)]}, 4) == {}
    assert source.signals({}, 4) == {}


def test_the_partition_is_the_same_for_ever() -> None:
    """Another value would send the same group to another detector: counts would fall apart."""
    assert [partition_of("c", [user], 64) for user in ("a", "b", "")] == [4, 16, 21]


def test_the_same_batch_gives_the_same_partials_and_they_fit_the_schema(source: SignalSource) -> None:
    events = {"file-audit": [event(i, user_id=f"u{i % 7}") for i in range(100)]}
    first, second = source.signals(events, 4), source.signals(events, 4)
    assert first == second
    for partition, partials in first.items():
        record = {"signals_id": "x", "partials": partials}
        back = Decoder()(Encoder("signals")(record))["partials"]
        assert [{name: p[name] for name in partials[0]} | {"buckets": []} for p in back] == [p | {"buckets": []} for p in partials]
        for made, read in zip(partials, back, strict=True):
            assert all(b.items() >= a.items() for a, b in zip(made["buckets"], read["buckets"], strict=True))
        assert {partition_of(p["correlation_id"], p["group"], 4) for p in partials} == {partition}


def test_a_batch_of_many_groups_stays_under_a_megabyte(source: SignalSource) -> None:
    events = [event(i, user_id=f"u{i}", message="m" * 3000, file_path="/" + "p" * 900) for i in range(500)]
    (partials,) = source.signals({"file-audit": events}, 1).values()
    assert len(partials) == 500
    assert len(Encoder("signals")({"partials": partials})) < 950_000


def test_a_sample_leaves_out_what_is_empty_and_what_is_too_long() -> None:
    sample = json.loads(sample_of(event(0, user_domain=None, tags=[], message="m" * 5000)))
    assert "user_domain" not in sample
    assert "tags" not in sample
    assert "message" not in sample
    assert sample["user_name"] == "mallory"


def test_no_partitions_is_an_error(source: SignalSource) -> None:
    with pytest.raises(ValueError, match="partitions"):
        source.signals({}, 0)
