"""What filters make of the events of a batch: dropped, kept, sampled and merged."""

from __future__ import annotations

import copy
import uuid
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weir.enrich.filters import Filtered, FilterSet, read_rules
from weir.enrich.filters.merging import KEY, Merging, flow_key
from weir.enrich.filters.sampling import LABEL, in_sample
from weir.model.schemas import latest

Record = dict[str, Any]


def apply(text: str, records: list[Record], dataset: str = "network-flow") -> Filtered:
    rules = read_rules("filters:\n" + text)
    return FilterSet(rules).apply({dataset: records}, "192.0.2.1", "edge")


def flow(number: int = 0, **fields: Any) -> Record:
    return {
        "event_id": f"b-{number}-0",
        "source_ip": "10.0.0.1",
        "destination_ip": "10.0.0.2",
        "source_port": 50000,
        "destination_port": 443,
        "network_iana_number": 6,
        **fields,
    }


def test_the_first_rule_that_applies_decides_and_what_no_rule_decides_is_kept() -> None:
    records = [flow(n, destination_port=port) for n, port in enumerate((22, 53, 80, 443))]
    found = apply(
        "  - {name: ssh, do: keep, dataset: network-flow, when: destination_port == 22}\n"
        "  - {name: low, do: drop, dataset: network-flow, when: destination_port < 100}\n",
        records,
    )
    assert found.published == found.seen == {"network-flow": [records[0], records[3]]}
    assert found.left_out == {("network-flow", "low"): 2}


def test_rules_of_other_datasets_and_sources_leave_the_very_lists_alone() -> None:
    records = [flow()]
    found = apply("  - {name: a, do: drop, dataset: cef}\n  - {name: b, do: drop, source: [198.51.100.0/24, core]}\n", records)
    assert found.published["network-flow"] is found.seen["network-flow"] is records
    assert not found.left_out
    assert apply("  - {name: b, do: drop, source: edge}\n", records).published == {"network-flow": []}
    assert apply("  - {name: b, do: drop, source: 192.0.2.0/24}\n", records).published == {"network-flow": []}


def test_a_value_of_the_wrong_type_fulfils_no_condition() -> None:
    record = flow(destination_port="ssh", source_ip=["x"])
    found = apply(
        "  - {name: a, do: drop, dataset: network-flow, when: destination_port < 100}\n"
        "  - {name: b, do: drop, dataset: network-flow, when: source_ip in 10.0.0.0/8}\n",
        [record],
    )
    assert found.published == {"network-flow": [record]}


def test_sampling_keeps_one_in_n_always_the_same_ones_and_marks_them() -> None:
    records = [flow(n, event_id=f"{uuid.uuid5(uuid.NAMESPACE_OID, str(n // 40)).hex}-{n % 40}-0") for n in range(20_000)]
    before = copy.deepcopy(records)
    found = apply("  - {name: few, do: sample 1/10}\n", records)
    kept = found.published["network-flow"]
    assert 1_800 < len(kept) < 2_200
    assert found.left_out == {("network-flow", "few"): 20_000 - len(kept)}
    assert all(record["labels"] == {LABEL: "1/10"} for record in kept)
    # What detection sees is everything, as it was.
    assert found.seen == {"network-flow": records}
    assert records == before
    assert apply("  - {name: other, do: sample 1/10}\n", records[::-1]).published["network-flow"] == kept[::-1]


@pytest.mark.parametrize("n", [2, 3, 8, 100])
def test_units_of_one_batch_are_sampled_at_the_rate_too(n: int) -> None:
    batch = uuid.uuid5(uuid.NAMESPACE_OID, "one").hex
    kept = sum(in_sample(f"{batch}-{unit}-0", n) for unit in range(10_000))
    assert 10_000 / n * 0.7 < kept < 10_000 / n * 1.3
    assert all(in_sample(f"{batch}-{unit}-0", 10) for unit in range(2_000) if in_sample(f"{batch}-{unit}-0", 100))


def test_labels_that_were_there_stay_and_shared_ones_are_not_touched() -> None:
    shared = {"team": "blue"}
    found = apply("  - {name: all, do: sample 1/1}\n", [flow(0, labels=shared), flow(1, labels=shared)])
    assert [record["labels"] for record in found.published["network-flow"]] == [{"team": "blue", LABEL: "1/1"}] * 2
    assert shared == {"team": "blue"}


MERGE = "  - {name: m, do: merge, dataset: network-flow}\n"


def test_flows_of_one_key_become_one_with_the_first_ones_id() -> None:
    first = flow(
        1,
        network_bytes=100,
        network_packets=1,
        flow_raw_bytes=10,
        flow_raw_packets=None,
        flow_tcp_flags=2,
        event_start=1_000,
        event_end=2_000,
        timestamp=2_000,
        event_duration=1_000_000,
        raw_offset=7,
        site="a",
    )
    second = flow(
        2, network_bytes=50, network_packets=2, flow_raw_bytes=5, flow_tcp_flags=16, event_start=500, event_end=1_500, site="b"
    )
    third = flow(3, network_bytes=None, flow_raw_packets=4, event_start=None, event_end=9_000, timestamp=9_000)
    other = flow(4, destination_port=80, network_bytes=1)
    before = copy.deepcopy([first, second, third, other])
    found = apply(MERGE, [first, second, other, third])
    assert found.published["network-flow"] == [
        {
            **first,
            "network_bytes": 150,
            "network_packets": 3,
            "flow_raw_bytes": 15,
            "flow_raw_packets": 4,
            "flow_tcp_flags": 18,
            "event_start": 500,
            "event_end": 9_000,
            "timestamp": 9_000,
            "event_duration": 8_500_000,
            "flow_merged": 3,
        },
        other,
    ]
    assert "flow_merged" not in found.published["network-flow"][1]
    assert found.left_out == {("network-flow", "m"): 2}
    assert found.seen == {"network-flow": [first, second, other, third]}
    assert [first, second, third, other] == before


@pytest.mark.parametrize("name", KEY)
def test_flows_that_differ_in_any_field_of_the_key_stay_apart(name: str) -> None:
    one, other = flow(1), flow(2)
    other[name] = "other"
    assert len(apply(MERGE, [one, other]).published["network-flow"]) == 2


def test_the_key_and_the_sums_are_fields_of_flows() -> None:
    fields = {field["name"] for field in latest("network-flow").parsed["fields"]}
    assert set(KEY) | {"flow_merged", "flow_raw_bytes", "network_packets", "flow_tcp_flags"} <= fields


counters = st.one_of(st.none(), st.integers(0, 1 << 40))
flows = st.builds(
    lambda port, more: flow(destination_port=port, **more),
    st.sampled_from((22, 53, 443)),
    st.fixed_dictionaries({
        "network_bytes": counters, "source_packets": counters, "flow_raw_bytes": counters,
        "event_start": counters, "event_end": counters, "flow_tcp_flags": st.one_of(st.none(), st.integers(0, 255)),
    }),
)  # fmt: skip


@settings(max_examples=100)
@given(st.lists(flows, max_size=30))
def test_merging_conserves_sums_and_counts_and_is_the_same_each_time(records: list[Record]) -> None:
    for number, record in enumerate(records):
        record["event_id"] = f"b-{number}-0"
    found = apply(MERGE, records)
    kept = found.published["network-flow"]
    assert apply(MERGE, copy.deepcopy(records)).published["network-flow"] == kept
    assert len({flow_key(record) for record in kept}) == len(kept)
    assert sum(record.get("flow_merged") or 1 for record in kept) == len(records)
    assert len(kept) + found.left_out.total() == len(records)
    for name in ("network_bytes", "source_packets", "flow_raw_bytes"):
        assert sum(record[name] or 0 for record in kept) == sum(record[name] or 0 for record in records)
        for record in kept:
            assert (record[name] is None) == all(r[name] is None for r in records if flow_key(r) == flow_key(record))
    firsts: dict[tuple[Any, ...], str] = {}
    for record in records:
        firsts.setdefault(flow_key(record), record["event_id"])
    assert [record["event_id"] for record in kept] == list(firsts.values())


def test_a_sum_stays_within_what_an_event_can_hold() -> None:
    largest = (1 << 63) - 1
    found = apply(MERGE, [flow(1, network_bytes=largest), flow(2, network_bytes=largest)])
    assert found.published["network-flow"][0]["network_bytes"] == largest


def test_clocks_centuries_apart_merge_to_an_event_that_still_fits_its_schema() -> None:
    """Else the flows of all units merged into it would be lost with one unit's dead letter."""
    year_9999 = 253_402_300_799_999_999
    merging = Merging({"event_id": "b-0-0", "event_start": 0, "event_end": 1})
    merging.add({"event_id": "b-1-0", "event_start": year_9999, "event_end": year_9999})
    assert merging.record["event_duration"] == (1 << 63) - 1
