"""Partials of one raw batch: counts by slice, bounded evidence, a stable partition."""

from __future__ import annotations

import json
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from weir.bus.codec import Decoder, Encoder
from weir.detect.reading.loading import load_rules
from weir.detect.signals.gathering import value_hash, values_of
from weir.detect.signals.partials import MAX_EVIDENCE, SignalSource, partition_of, sample_of

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


def source_of(tmp_path: Path, correlation: str, extra: str = "") -> SignalSource:
    rule = (
        "title: One\nid: 11111111-1111-4111-8111-111111111111\nname: one\n"
        "logsource: {product: weir, service: file-audit}\ndetection: {s: {event.action: fs_delete}, condition: s}\n"
    )
    two = rule.replace("One", "Two").replace("one", "two").replace("1111", "2222").replace("fs_delete", "fs_rename")
    document = f"title: C\nid: 33333333-3333-4333-8333-333333333333\nlevel: high\ncorrelation: {{{correlation}}}\n{extra}"
    (tmp_path / "a.yml").write_text("---\n".join([rule, two, document]), encoding="utf-8")
    found = load_rules(tmp_path)
    assert found.problems == ()
    return SignalSource(replace(found, correlations=tuple(c for c in found.correlations if c.title == "C")))


def unpacked(form: str, data: bytes) -> list[Any]:
    return list(struct.iter_unpack(form, data))


def test_event_times_go_along_where_the_threshold_is_small(tmp_path: Path) -> None:
    some = source_of(tmp_path, "type: event_count, rules: [one], group-by: [user.id], timespan: 1h, condition: {gte: 2}")
    partial = only(some.signals({"file-audit": [event(i) for i in (5, 3, 9, 7, 1, 8)]}, 1))
    (bucket,) = partial["buckets"]
    assert bucket["count"] == 6
    assert [(t - BEGIN) // SECOND for (t,) in unpacked(">q", bucket["times"])] == [1, 3, 8, 9], "two from each end"
    for condition in ("gte: 1", "gte: 200", "lt: 5"):
        none = source_of(
            tmp_path, f"type: event_count, rules: [one], group-by: [user.id], timespan: 1h, condition: {{{condition}}}"
        )
        assert only(none.signals({"file-audit": [event(1)]}, 1))["buckets"][0]["times"] == b""


def test_rules_are_told_apart_where_that_matters_and_an_event_counts_for_each_it_matches(tmp_path: Path) -> None:
    some = source_of(tmp_path, "type: temporal, rules: [one, two], group-by: [user.id], timespan: 1h")
    partial = only(some.signals({"file-audit": [event(1), event(2, event_action="fs_rename"), event(3)]}, 1))
    (bucket,) = partial["buckets"]
    assert bucket["count"] == 3
    assert [(r["label"], r["count"], [(t - BEGIN) // SECOND for (t,) in unpacked(">q", r["times"])]) for r in bucket["rules"]] == [
        ("one", 2, [1, 3]),
        ("two", 1, [2]),
    ]


def test_distinct_values_carry_their_first_and_last_time(tmp_path: Path) -> None:
    condition = "condition: {gte: 3, field: file.path}"
    some = source_of(tmp_path, f"type: value_count, rules: [one], group-by: [user.id], timespan: 1h, {condition}")
    events = [
        event(1, file_path="a"),
        event(2, file_path="b"),
        event(3, file_path="a"),
        event(4, file_path=None),
        event(5, file_path=""),
    ]
    partial = only(some.signals({"file-audit": events}, 1))
    (bucket,) = partial["buckets"]
    found = {
        number: ((first - BEGIN) // SECOND, (last - BEGIN) // SECOND) for number, first, last in unpacked(">Qqq", bucket["values"])
    }
    assert found == {value_hash("a"): (1, 3), value_hash("b"): (2, 2)}
    assert (bucket["count"], bucket["values_left_out"], partial["shown"]) == (5, False, ["a", "b"])


def test_each_element_of_a_list_is_a_value_and_several_fields_are_one_combination() -> None:
    assert list(values_of([["a", "b", None, ""]])) == ["a", "b"]
    assert list(values_of([7])) == ["7"]
    assert list(values_of(["a", 7])) == ["a, 7"]
    assert list(values_of(["a", None])) == []


def test_numbers_are_summed_and_sampled_and_what_is_no_number_is_not(tmp_path: Path) -> None:
    condition = "condition: {gte: 3, field: source.port, percentile: 95}"
    some = source_of(tmp_path, f"type: value_percentile, rules: [one], group-by: [user.id], timespan: 1h, {condition}")
    events = [event(i, source_port=size) for i, size in enumerate([1, 2.5, "4", "x", None, True, float("inf"), [8, 9]])]
    (bucket,) = only(some.signals({"file-audit": events}, 1))["buckets"]
    assert (bucket["sum"], bucket["number_count"]) == (24.5, 5)
    assert sorted(number for _, number in unpacked(">Qd", bucket["numbers"])) == [1, 2.5, 4, 8, 9]
    many = [event(i, timestamp=BEGIN, source_port=i) for i in range(3000)]
    (bucket,) = only(some.signals({"file-audit": many}, 1))["buckets"]
    hashes = [number for number, _ in unpacked(">Qd", bucket["numbers"])]
    assert (len(hashes), bucket["number_count"]) == (1024, 3000)
    again = only(some.signals({"file-audit": many[::-1]}, 1))["buckets"][0]
    assert again["numbers"] == bucket["numbers"], "whatever the order"


def test_a_record_of_many_values_and_times_stays_under_a_megabyte(tmp_path: Path) -> None:
    condition = "condition: {gte: 3, field: file.path}"
    some = source_of(tmp_path, f"type: value_count, rules: [one], group-by: [user.id], timespan: 1h, {condition}")
    events = [
        event(i, user_id=f"u{i % 40}", timestamp=BEGIN, file_path=f"/{i}" + "p" * 500, event_hash=f"h{i}") for i in range(20_000)
    ]
    (partials,) = some.signals({"file-audit": events}, 1).values()
    assert len(Encoder("signals")({"partials": partials})) < 950_000
    assert any(p["buckets"][0]["values_left_out"] for p in partials)
    assert sum(b["count"] for p in partials for b in p["buckets"]) == 20_000
