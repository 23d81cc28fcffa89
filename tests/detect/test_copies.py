"""Events that come by several receivers are counted once, whatever the order, the batch, or the crash in between."""

from __future__ import annotations

import random
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weir.bus.codec import Decoder, Encoder
from weir.detect.engine import Engine
from weir.detect.kinds import adding as c
from weir.detect.kinds.common import SignalsHeader
from weir.detect.kinds.state import Bucket, Copies, GroupState
from weir.detect.kinds.windows import advance, hold_us, merge
from weir.detect.reading.loading import load_rules
from weir.detect.rules import Condition, Correlation, RuleSet
from weir.detect.signals.partials import HASH_BYTES, MAX_RECORD_HASHES, SignalSource, copy_hash
from weir.detect.telling.alerts import Origin

SECOND = 1_000_000
SPAN = 60 * SECOND
BEGIN = 1_790_000_040 * SECOND // SPAN * SPAN
ORIGIN = Origin()
RULE = Correlation("rule", "Many", "", "high", (), ("user.id",), SPAN, 5 * SECOND, Condition("gte", 10))
RULES = RuleSet("v", (), (RULE,), ())

Event = tuple[str, int]
"""Content, and its time in seconds after BEGIN."""


def partial(events: list[Event], *, hashed: bool = True) -> dict[str, Any]:
    slices: dict[int, list[Event]] = {}
    for content, second in events:
        slices.setdefault((BEGIN + second * SECOND) // RULE.slice_us * RULE.slice_us, []).append((content, second))
    return {
        "correlation_id": "rule",
        "group": ["u"],
        "buckets": [
            {
                "start": start,
                "count": len(found),
                "first": BEGIN + min(s for _, s in found) * SECOND,
                "last": BEGIN + max(s for _, s in found) * SECOND,
                "hashes": b"".join(copy_hash(content) for content, _ in found) if hashed else b"",
            }
            for start, found in slices.items()
        ],
        "evidence": [{"event_id": content, "raw_topic": "raw", "raw_partition": 0, "raw_offset": 0} for content, _ in events],
        "samples": [],
        "entities": {},
    }


class Group:
    """One group; its state goes through bytes each time."""

    def __init__(self) -> None:
        self.state: GroupState | None = None
        self.number = 0
        self.alerts: list[dict[str, Any]] = []

    def add(self, receiver: str, *events: Event, received: int = 0, hashed: bool = True, watermark: int = -10_000) -> None:
        self.number += 1
        header = SignalsHeader(f"s{self.number}", BEGIN + received * SECOND, "raw", 0, self.number, receiver=receiver)
        merged = merge(self.state, header, partial(list(events), hashed=hashed), RULE, BEGIN + watermark * SECOND, ORIGIN)
        self.state = GroupState.from_bytes(merged.state.to_bytes())
        assert self.state == merged.state
        assert merged.changed
        self.alerts += merged.alerts

    @property
    def count(self) -> int:
        assert self.state is not None
        return sum(b.count for b in self.state.buckets.values())


def test_a_copy_by_another_receiver_counts_nothing() -> None:
    group = Group()
    events = [(f"line {i}", i) for i in range(9)]
    group.add("a", *events)
    group.add("b", *events)
    group.add("c", *reversed(events))
    assert group.count == 9
    assert group.alerts == []
    group.add("b", ("line 9", 9))
    assert [a["event_count"] for a in group.alerts] == [10]
    assert len(group.alerts[0]["evidence"]) == 10, "copies are no evidence of their own"


def test_equal_lines_by_one_receiver_are_so_many_events() -> None:
    group = Group()
    group.add("a", *[("same", 1)] * 3)
    group.add("b", ("same", 1))
    group.add("b", *[("same", 1)] * 3)
    assert group.count == 4, "b has it four times, a three times"


def test_what_one_receiver_lost_the_other_one_brings() -> None:
    group = Group()
    group.add("a", *[(f"line {i}", 1) for i in range(0, 8, 2)])
    group.add("b", *[(f"line {i}", 1) for i in range(1, 8)])
    assert group.count == 8


def test_content_without_a_time_of_its_own_is_known_in_another_slice() -> None:
    """Its time is the receive time, which differs between receivers."""
    group = Group()
    group.add("a", ("no time", 4))
    group.add("b", ("no time", 6))
    assert group.count == 1
    group.add("a", ("no time", 31))
    group.add("b", ("no time", 29))
    assert group.count == 2, "the same content came once more"


def test_sources_that_are_not_copied_count_as_ever() -> None:
    group = Group()
    group.add("", *[("same", 1)] * 4, hashed=False)
    group.add("", *[("same", 1)] * 4, hashed=False)
    assert group.count == 8


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32), most=st.sampled_from([4_096, 4_096, 0]))
def test_the_count_is_that_of_the_receiver_that_has_most_of_each_in_any_order(seed: int, most: int) -> None:
    """Without room for hashes it is that of the receiver that has most of all, by slice."""
    rng = random.Random(seed)
    sent = [(f"line {rng.randrange(12)}", rng.randrange(20)) for _ in range(rng.randint(1, 60))]
    sent = [(f"{content} at {second}", second) for content, second in sent]
    arrivals: list[tuple[str, Event]] = []
    have: dict[str, Counter[Event]] = {}
    for receiver in rng.sample(["a", "b", "c"], rng.randint(1, 3)):
        got = [event for event in sent if rng.random() > 0.1]
        have[receiver] = Counter(got)
        arrivals += [(receiver, event) for event in got]
    rng.shuffle(arrivals)
    group = Group()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(c, "MAX_COPIES", most)
        while arrivals:
            receiver = arrivals[0][0]
            batch = [event for r, event in arrivals[: rng.randint(1, 9)] if r == receiver]
            for event in batch:
                arrivals.remove((receiver, event))
            group.add(receiver, *batch)
    if not any(have.values()):
        return
    if most:
        expected = sum(max(counts[event] for counts in have.values()) for event in set(sent))
    else:
        slices = {second // 5 for _, second in sent}
        by_slice = [{r: sum(n for (_, t), n in counts.items() if t // 5 == s) for r, counts in have.items()} for s in slices]
        expected = sum(max(found.values()) for found in by_slice)
    assert group.count == expected


def test_past_the_bound_a_slice_counts_what_one_receiver_brought(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(c, "MAX_COPIES", 5)
    group = Group()
    events = [(f"line {i}", 1) for i in range(40)]
    group.add("a", *events[:20])
    group.add("b", *events[:10])
    group.add("b", *events[10:])
    group.add("a", *events[20:])
    assert group.count == 40
    assert group.state is not None
    assert group.state.copies.size <= 10


def test_room_that_comes_back_does_not_make_copies_of_the_unnamed_new(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(c, "MAX_COPIES", 3)
    group = Group()
    late = hold_us(RULE) // SECOND + 100
    group.add("a", *[(f"old {i}", 1) for i in range(3)], received=1)
    group.add("a", *[(f"new {i}", late) for i in range(4)], received=late)
    group.add("b", *[(f"new {i}", late) for i in range(4)], received=late, watermark=late)
    assert group.state is not None
    assert [b.count for b in group.state.buckets.values()] == [4], "the old slice is forgotten, the new one counts no copy"


def test_hashes_that_a_record_had_no_room_for_count_by_receiver() -> None:
    group = Group()
    for receiver in ("a", "b"):
        short = partial([(f"line {i}", 1) for i in range(8)])
        short["buckets"][0]["hashes"] = short["buckets"][0]["hashes"][: 3 * HASH_BYTES]
        header = SignalsHeader(receiver, BEGIN, "raw", receiver=receiver)
        group.state = merge(group.state, header, short, RULE, 0, ORIGIN).state
    assert group.count == 8


def test_hashes_are_forgotten_with_the_ids_of_signals() -> None:
    group = Group()
    group.add("a", ("line", 1), received=1)
    assert group.state is not None
    over = BEGIN + 2 * SECOND + hold_us(RULE)
    state, _ = advance(group.state, RULE, over - 2 * SECOND, ORIGIN)
    assert state is not None
    assert state.copies.size == 1
    group.add("a", ("other", 500), received=500, watermark=500)
    assert group.state.copies.size == 1
    assert int.from_bytes(copy_hash("line"), "big") not in group.state.copies


def test_a_regridded_state_keeps_what_it_has_no_names_for() -> None:
    state = GroupState(("u",), SECOND)
    state.buckets = {BEGIN + i * SECOND: Bucket(2, BEGIN + i * SECOND, BEGIN + i * SECOND, BEGIN, 0, {7: 2}) for i in range(3)}
    merged = merge(state, SignalsHeader("x", BEGIN, "raw", receiver="r"), partial([("line", 1)]), RULE, 0, ORIGIN)
    assert [(b.count, b.unnamed[7]) for b in merged.state.buckets.values()] == [(6, 6)]


@pytest.mark.parametrize("hashes", [b"", b"x", b"y" * 11, b"z" * 800])
def test_hashes_of_any_length_count_what_the_slice_says(hashes: bytes) -> None:
    odd = partial([("line", 1)] * 3)
    odd["buckets"][0]["hashes"] = hashes
    merged = merge(None, SignalsHeader("x", BEGIN, "raw", receiver="r"), odd, RULE, 0, ORIGIN)
    assert sum(b.count for b in merged.state.buckets.values()) == 3


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_killed_anywhere_copies_still_count_once(seed: int) -> None:
    """Two receivers in two raw partitions, records done again from any earlier offset: the count of the events that were sent."""
    rng = random.Random(seed)
    events = [(f"line {i}", rng.randrange(50)) for i in range(rng.randint(10, 60))]
    log: list[dict[str, Any]] = []
    offsets = {"a": 0, "b": 0}
    left = {"a": list(events), "b": list(events)}
    while any(left.values()):
        receiver = rng.choice([r for r, waiting in left.items() if waiting])
        n = rng.randint(1, 7)
        batch, left[receiver] = left[receiver][:n], left[receiver][n:]
        offsets[receiver] += 1
        log.append(
            {
                "signals_id": f"{receiver}{offsets[receiver]}",
                "kind": "partials",
                "raw_topic": "raw",
                "raw_partition": "ab".index(receiver),
                "raw_offset": offsets[receiver],
                "received_at": BEGIN + 60 * SECOND,
                "receiver": receiver,
                "partials": [partial(batch)],
            }
        )
    table: dict[bytes, bytes] = {}
    done = 0
    while done < len(log):
        engine = Engine(RULES, ORIGIN, table.get, lambda: list(table.items()))
        until = rng.randint(done, len(log))
        for record in log[max(0, done - rng.randint(0, 4)) : until]:
            for key, value in engine.apply(0, record).writes:
                assert value is not None
                table[key] = value
        done = until
    (state,) = [GroupState.from_bytes(value) for value in table.values()]
    assert sum(b.count for b in state.buckets.values()) == len(events)


def test_a_processor_names_hashes_of_copied_events_alone_and_the_schema_takes_them() -> None:
    source = SignalSource(load_rules(Path(__file__).parent / "rules"))
    base = {
        "timestamp": BEGIN, "event_created": BEGIN, "event_module": "qumulo", "event_action": "fs_delete",
        "event_outcome": "success", "user_id": "u", "raw_topic": "raw", "raw_partition": 0, "raw_offset": 0,
    }  # fmt: skip
    events = [base | {"event_id": f"{'a' * 32}-{i}-0", "event_hash": f"{'0' * 15}{i % 2}-0"} for i in range(4)]
    ((partial_,),) = source.signals({"file-audit": events}, 4).values()
    (bucket,) = partial_["buckets"]
    assert bucket["hashes"] == 2 * (copy_hash("0" * 16 + "-0") + copy_hash("0" * 15 + "1-0"))
    back = Decoder()(Encoder("signals")({"partials": [partial_], "receiver": "r"}))
    assert back["partials"][0]["buckets"][0]["hashes"] == bucket["hashes"]
    assert back["receiver"] == "r"
    plain = [{k: v for k, v in event.items() if k != "event_hash"} for event in events]
    ((partial_,),) = source.signals({"file-audit": plain}, 4).values()
    assert [b["hashes"] for b in partial_["buckets"]] == [b""]


def test_hashes_of_one_record_are_bounded() -> None:
    source = SignalSource(load_rules(Path(__file__).parent / "rules"))
    base = {"timestamp": BEGIN, "event_module": "qumulo", "event_action": "fs_delete", "event_outcome": "success", "user_id": "u"}
    where = {"event_id": "x", "raw_topic": "raw", "raw_partition": 0, "raw_offset": 0}
    events = [base | where | {"event_hash": str(i)} for i in range(MAX_RECORD_HASHES + 10)]
    ((partial_,),) = source.signals({"file-audit": events}, 4).values()
    assert sum(b["count"] for b in partial_["buckets"]) == MAX_RECORD_HASHES + 10
    assert sum(len(b["hashes"]) for b in partial_["buckets"]) == MAX_RECORD_HASHES * HASH_BYTES


def test_a_full_state_stays_far_below_a_record() -> None:
    copies = Copies()
    for i in range(c.MAX_COPIES):
        copies.add(i, i % 2, int(time.time()))
    assert len(copies.to_bytes()) < 100_000
