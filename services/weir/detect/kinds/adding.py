"""Adding a partial to the slices of its group, copies told from events, and keeping it all within its bounds."""

from __future__ import annotations

import struct
from typing import Any

from weir.detect.kinds.common import SignalsHeader
from weir.detect.kinds.slices import Bucket, Details
from weir.detect.kinds.state import GroupState, Note
from weir.detect.signals.gathering import MAX_EVIDENCE, MAX_SAMPLES, Carried

__all__ = ["MAX_BUCKETS", "MAX_COPIES", "MAX_DETAILS", "add_partial", "drop"]

SECOND_US = 1_000_000
# Beyond these, the slices heard of longest ago go; what they counted stays in the burst they belong to.
MAX_BUCKETS = 1_024
# Hashes by receiver. Of events beyond them a slice counts the most that any one receiver brought.
MAX_COPIES = 4_096
# Times, values and numbers of a group, some 24 bytes each. Beyond them, the slices heard of longest ago keep their counts alone.
MAX_DETAILS = 8_192
# Notes of slices in no burst: the latest are kept, since what comes just before a window fires is part of the burst.
MAX_NOTES = 8

_HASH = struct.Struct(">Q")
_TIME = struct.Struct(">q")
_VALUE = struct.Struct(">Qqq")
_NUMBER = struct.Struct(">Qd")


def add_partial(state: GroupState, header: SignalsHeader, partial: dict[str, Any], carried: Carried, received: int) -> set[int]:
    """Add what a partial counts; the starts of the slices it brought something new to.

    Args:
        received: receive time that counts for forgetting.
    """
    touched = set()
    for slice_ in partial["buckets"]:
        # By the first event, not by the slice's start: a processor with other rules may use another width.
        start = slice_["first"] // state.slice_us * state.slice_us
        bucket = state.buckets.get(start)
        new, unnamed = _news(state, bucket, header, slice_, carried, received)
        is_news = new.count > 0 or (header.kind == "alerts" and new.details is not None)
        if not is_news and (bucket is None or slice_["count"] <= 0):
            continue
        if bucket is None:
            if new.details is not None:
                # Brings them within their bounds.
                new.details, details = Details(), new.details
                new.details.add(details, carried)
            new.unnamed = unnamed
            state.buckets[start] = new
        else:
            judged = bucket.judged
            bucket.add(new, carried)
            bucket.judged = judged and not is_news
        if is_news:
            touched.add(start)
    if touched:
        state.loose.append(_note(min(touched), partial))
        _trim_notes(state)
        state.entities = partial["entities"] or state.entities
    _bound(state, touched)
    return touched


def _news(
    state: GroupState, bucket: Bucket | None, header: SignalsHeader, slice_: dict[str, Any], carried: Carried, received: int
) -> tuple[Bucket, dict[int, int]]:
    """A slice without the events that are copies of what is counted already; and `unnamed` of a bucket that is yet to be made."""
    count: int = max(0, slice_["count"])
    first, last = slice_["first"], slice_["last"]
    times = [time for (time,) in _TIME.iter_unpack(_whole(slice_.get("times", b""), 8))] if carried.times else []
    gap = carried.times > 0 and len(times) < min(count, 2 * carried.times)
    unnamed: dict[int, int] = {}
    if header.receiver and count:
        new, named, unnamed = _new_events(state, bucket, header, slice_, received // SECOND_US)
        if new < count and carried.times:
            times, gap = _times_of(times, named, new, count, gap)
        count = new
    details = Details(times, gap and count > 0)
    for rule in slice_.get("rules", ()) if carried.rule_times else ():
        details.rules[rule["label"]] = [time for (time,) in _TIME.iter_unpack(_whole(rule["times"], 8))]
    if carried.values:
        found = _VALUE.iter_unpack(_whole(slice_.get("values", b""), 24))
        details.values = {number: (earliest, latest) for number, earliest, latest in found}
        details.left_out = slice_.get("values_left_out", False)
    if carried.sums and slice_.get("number_count", 0):
        receiver = header.receiver_number if header.receiver else 0
        details.sums[receiver] = (slice_["sum"], slice_["number_count"])
        if carried.numbers:
            details.numbers = dict(_NUMBER.iter_unpack(_whole(slice_.get("numbers", b""), 16)))
    some = details.size or details.gap or details.sums or details.left_out
    return Bucket(count, first, last, received, details=details if some else None), unnamed


def _whole(data: bytes, size: int) -> bytes:
    return data[: len(data) // size * size]


def _times_of(times: list[int], named: list[bool], new: int, count: int, gap: bool) -> tuple[list[int], bool]:
    """The times of those events that are new, and whether some are missing. Hashes are in the order of times, all or none."""
    ends = len(times) // 2
    if gap or len(named) < count:
        return [], new > 0
    found = [times[i] for i in range(min(ends, count)) if named[i]]
    if len(times) == count:
        return [time for time, is_new in zip(times, named, strict=True) if is_new], False
    found += [times[i - count] for i in range(count - ends, count) if named[i]]
    # Times are known of the earliest and latest alone.
    return found, any(named[ends : count - ends])


def _new_events(
    state: GroupState, bucket: Bucket | None, header: SignalsHeader, slice_: dict[str, Any], second: int
) -> tuple[int, list[bool], dict[int, int]]:
    """How many events of a slice are no copies of what is counted already, and which of those that have a hash."""
    receiver = header.receiver_number
    unnamed = {} if bucket is None else bucket.unnamed
    before = max(unnamed.values(), default=0)
    named: list[bool] = []
    for (number,) in _HASH.iter_unpack(_whole(slice_.get("hashes", b"")[: _HASH.size * slice_["count"]], _HASH.size)):
        # Once a slice has events without a name, their copies must not be taken for new because there is room again.
        if number in state.copies or (not unnamed and state.copies.size < MAX_COPIES):
            named.append(state.copies.add(number, receiver, second))
    if rest := slice_["count"] - len(named):
        unnamed[receiver] = unnamed.get(receiver, 0) + rest
    return sum(named) + max(unnamed.values(), default=0) - before, named, unnamed


def _note(start: int, partial: dict[str, Any]) -> Note:
    return Note(
        start,
        list(partial["evidence"][:MAX_EVIDENCE]),
        list(partial["samples"][:MAX_SAMPLES]),
        dict(partial["entities"]),
        list(partial.get("shown", ())),
        list(partial.get("datasets", ())),
        list(partial.get("member_alerts", ())),
    )


def _trim_notes(state: GroupState) -> None:
    evidence_left, samples_left = MAX_EVIDENCE, MAX_SAMPLES
    kept = []
    for note in reversed(state.loose[-MAX_NOTES:]):
        note.evidence, note.samples = note.evidence[:evidence_left], note.samples[:samples_left]
        kept.append(note)
        evidence_left -= len(note.evidence)
        samples_left -= len(note.samples)
    state.loose = kept[::-1]


def _bound(state: GroupState, touched: set[int]) -> None:
    if len(state.buckets) <= MAX_BUCKETS and sum(b.details.size for b in state.buckets.values() if b.details) <= MAX_DETAILS:
        return
    by_age = sorted(state.buckets, key=lambda start: (start in touched, state.buckets[start].received, start))
    drop(state, by_age[: max(0, len(by_age) - MAX_BUCKETS)])
    left = MAX_DETAILS
    for start in reversed(by_age):
        bucket = state.buckets.get(start)
        if bucket is None or bucket.details is None:
            continue
        left -= bucket.details.size
        if left < 0:
            bucket.details = Details(gap=True, left_out=bucket.details.left_out, sums=bucket.details.sums)
            bucket.judged = True


def drop(state: GroupState, starts: list[int]) -> None:
    """Take slices out, keeping their count in the bursts they belong to."""
    by_number = {e.number: e for e in state.episodes}
    for start in starts:
        bucket = state.buckets.pop(start)
        if (episode := by_number.get(bucket.episode)) is not None:
            episode.past += bucket.covered[0]
    if starts:
        state.loose = [note for note in state.loose if note.start in state.buckets]
