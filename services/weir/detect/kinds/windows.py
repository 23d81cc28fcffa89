"""Merging partials into bursts, and bursts into alerts. Pure: what comes out depends on the arguments alone.

**Windows.** Event time is cut into slices (a twelfth of the timespan, at least a second) on a grid that begins at the epoch; a
window is so many whole slices as fit into the timespan. A burst exists where the counts of such a window reach the threshold. So an
alert never counts events further apart than the timespan, and every burst that fits into timespan minus one slice is found; one
that needs parts of slices at both ends may be missed. Adding counts commutes and never un-fires a window, so whether a group
fires does not depend on the order of its partials.

**Bursts.** The slices of all windows that fire, run together where no more than a timespan is between them, are one burst
(`Episode`), with one alert; its count is that of those slices, so a trickle before and after is not counted into it. The alert
id is made of the rule, the group and the burst's first slice when it first fired, floored to the timespan. Two bursts of a group
begin more than a timespan apart, so their ids differ. A replay of the same signals log gives the same ids. Signals of one burst in
another order give the same id unless the first slice moves over a boundary of that coarser grid: a burst that begins close
before a boundary, whose early part arrives after the later part has already fired, is named otherwise. Nothing short of
withholding the alert until the watermark has passed could avoid this.

**Announcing.** The WAN is narrow: an alert is told when its burst first fires, whenever its count has doubled since it was last
told, once when the burst has paused for a few seconds (so that a burst of 500 does not stand as 400 until it closes), and when it
closes. A pause counts once for each doubling, which bounds the records of a burst that trickles on.

**Forgetting** goes by receive time: the watermark of the raw topics a group is fed from says that nothing received before it is
still to come. A slice, and the id of a signal, is dropped once its receive time is older than the watermark by the timespan and
the allowed lateness. From then on a signal received before that is refused, whether it is a repeat or not: no repeat can be
counted twice. A sender's wrong clock can therefore neither expire nor hold up anything.

**Copies.** Where several receivers are fed the same units on purpose, their partials name the receiver and, for each event, a
hash of its content. Equal content by one receiver is so many events, by several it is copies: an event counts as often as the
receiver brought it that brought it most often, whatever the order, and whichever raw batch or partition it came in. Hashes are
remembered as long as ids of signals are, so a copy that was received later than that counts as an event of its own. So many hashes
are remembered of a group; of events beyond them (and those whose hash a full signals record had no room for) a slice counts the
most that any one receiver brought, which is the same number as long as no receiver loses what another one has. A collision of two
hashes of 64 bits costs one count. Evidence and samples of a partial that brings only copies are not kept; those of one that brings
something new may repeat an event by its other id.
"""

from __future__ import annotations

import struct
from typing import Any

from weir.detect.alerts import Origin, Told, alert_record
from weir.detect.kinds.common import ALLOWED_LATENESS_US, Merged, SignalsHeader
from weir.detect.kinds.state import Bucket, Episode, GroupState
from weir.detect.rules import Correlation
from weir.model.ids import stable_id

__all__ = ["advance", "due", "hold_us", "load", "merge"]

SETTLE_US = 5_000_000
SECOND_US = 1_000_000
MAX_SEEN = 4_096
MAX_BUCKETS = 1_024
MAX_COPIES = 4_096
MAX_EPISODES = 16
MAX_EVIDENCE = 20
MAX_SAMPLES = 3

_HASH = struct.Struct(">Q")


def load(value: bytes) -> GroupState:
    """The state of a table value. Raises StateError for bytes of another format."""
    return GroupState.from_bytes(value)


def hold_us(correlation: Correlation) -> int:
    """How long, in receive time, slices and ids of signals are kept."""
    return correlation.timespan_us + ALLOWED_LATENESS_US


def merge(
    state: GroupState | None,
    header: SignalsHeader,
    partial: dict[str, Any],
    correlation: Correlation,
    watermark: int,
    origin: Origin,
) -> Merged:
    """Add one partial to its group.

    Args:
        state: of the group, None where there is none; it is changed in place.
        header: of the signals record that holds the partial.
        partial: record of type Partial.
        watermark: receive time before which nothing is to come from the raw topics of this group; 0 where that is not known.
        origin: names the detector in alerts.

    Returns:
        The state, the alerts to publish, and whether the state has changed.
    """
    if state is None:
        state = GroupState(group=tuple(partial["group"]), slice_us=correlation.slice_us)
    short_id = header.short_id
    if short_id in state.seen:
        return Merged(state, [_present(state, e, correlation, origin) for e in state.episodes if e.revision], False)
    if header.received_at < state.floor:
        return Merged(state, [], False)
    _regrid(state, correlation)
    _forget(state, watermark - hold_us(correlation))
    _remember(state, short_id, header)
    touched = _add(state, header, partial)
    _find_bursts(state, correlation)
    alerts = []
    for episode in state.episodes:
        if any(state.buckets[start].episode == episode.number for start in touched if start in state.buckets):
            alerts.extend(_touch(state, episode, header, correlation, origin))
    while len(state.episodes) > MAX_EPISODES:
        oldest = state.episodes.pop(0)
        if not oldest.closed:
            alerts.append(_close(state, oldest, correlation, origin))
    return Merged(state, alerts, True)


def advance(
    state: GroupState, correlation: Correlation, watermark: int, origin: Origin
) -> tuple[GroupState | None, list[dict[str, Any]]]:
    """Tell the counts of bursts that have paused, close those that are over, and forget what is old.

    A burst has paused when the watermark has passed the receive time of its last event by a few seconds, and is over when it has
    passed it by the timespan. Returns None for a state that holds nothing any more, and the records of the alerts.
    """
    told = [
        record
        for episode in state.episodes
        if not episode.closed and _pause(episode, correlation) < watermark <= episode.received + correlation.timespan_us
        for record in _settle(state, episode, correlation, origin)
    ]
    over = [e for e in state.episodes if not e.closed and watermark > e.received + correlation.timespan_us]
    alerts = told + [_close(state, episode, correlation, origin) for episode in over]
    horizon = watermark - hold_us(correlation)
    if state.received < horizon:
        return None, alerts
    _regrid(state, correlation)
    _forget(state, horizon)
    return state, alerts


def due(state: GroupState, correlation: Correlation) -> int:
    """The watermark from which on `advance` has something to do."""
    times = [e.received + correlation.timespan_us if e.settled else _pause(e, correlation) for e in state.episodes if not e.closed]
    return min([*times, state.received + hold_us(correlation)]) + 1


def _pause(episode: Episode, correlation: Correlation) -> int:
    return episode.received + min(SETTLE_US, correlation.timespan_us)


def _settle(state: GroupState, episode: Episode, correlation: Correlation, origin: Origin) -> list[dict[str, Any]]:
    if episode.settled or not episode.revision:
        return []
    episode.settled = True
    count = _count(state, episode)
    if count == episode.announced:
        return []
    episode.revision += 1
    episode.announced = count
    episode.created = _pause(episode, correlation)
    return [_tell(correlation, state, episode, count, "update", origin)]


def _close(state: GroupState, episode: Episode, correlation: Correlation, origin: Origin) -> dict[str, Any]:
    episode.closed = True
    episode.revision += 1
    episode.announced = _count(state, episode)
    episode.created = episode.received + correlation.timespan_us
    return _tell(correlation, state, episode, episode.announced, "closed", origin)


def _tell(
    correlation: Correlation, state: GroupState, episode: Episode, count: int, alert_state: str, origin: Origin
) -> dict[str, Any]:
    told = Told(
        alert_id=episode.alert_id,
        state=alert_state,
        revision=episode.revision,
        group=state.group,
        events=count,
        first=episode.first,
        last=episode.last,
        created=episode.created,
        entities=episode.entities,
        evidence=episode.evidence,
        samples=episode.samples,
    )
    return alert_record(correlation, told, origin)


def _present(state: GroupState, episode: Episode, correlation: Correlation, origin: Origin) -> dict[str, Any]:
    kind = "closed" if episode.closed else "new" if episode.revision == 1 else "update"
    return _tell(correlation, state, episode, _count(state, episode), kind, origin)


def _count(state: GroupState, episode: Episode) -> int:
    return episode.past + sum(b.count for b in state.buckets.values() if b.episode == episode.number)


def _remember(state: GroupState, short_id: int, header: SignalsHeader) -> None:
    state.seen[short_id] = header.received_at
    state.received = max(state.received, header.received_at)
    if header.raw_topic not in state.sources:
        state.sources = sorted([*state.sources, header.raw_topic])
    if len(state.seen) > MAX_SEEN:
        # Rather refuse what is late than count anything twice: forget the oldest quarter and raise the floor over it.
        times = sorted(state.seen.values())
        state.floor = max(state.floor, times[len(times) // 4] + 1)
        state.seen = {k: t for k, t in state.seen.items() if t >= state.floor}


def _add(state: GroupState, header: SignalsHeader, partial: dict[str, Any]) -> set[int]:
    """Add the partial's counts; the starts of the slices it touched."""
    touched = set()
    for slice_ in partial["buckets"]:
        if slice_["count"] <= 0:
            continue
        # By the first event, not by the slice's start: a processor with other rules may use another width.
        start = slice_["first"] // state.slice_us * state.slice_us
        bucket = state.buckets.get(start)
        count: int = slice_["count"]
        unnamed: dict[int, int] = {}
        if header.receiver:
            count, unnamed = _new_events(state, bucket, header, slice_)
            if not count:
                continue
        touched.add(start)
        if bucket is None:
            state.buckets[start] = Bucket(count, slice_["first"], slice_["last"], header.received_at, unnamed=unnamed)
        else:
            bucket.count += count
            bucket.first = min(bucket.first, slice_["first"])
            bucket.last = max(bucket.last, slice_["last"])
            bucket.received = max(bucket.received, header.received_at)
    if touched:
        state.loose.append((min(touched), partial["evidence"][:MAX_EVIDENCE], partial["samples"][:MAX_SAMPLES]))
        _trim_loose(state)
        state.entities = partial["entities"] or state.entities
    if len(state.buckets) > MAX_BUCKETS:
        by_age = sorted(state.buckets, key=lambda start: (start in touched, state.buckets[start].received, start))
        _drop(state, by_age[: len(by_age) - MAX_BUCKETS])
    return touched


def _new_events(
    state: GroupState, bucket: Bucket | None, header: SignalsHeader, slice_: dict[str, Any]
) -> tuple[int, dict[int, int]]:
    """How many events of a slice are no copies of what is counted already; and `unnamed` of a bucket that is yet to be made."""
    receiver, second = header.receiver_number, header.received_at // SECOND_US
    unnamed = {} if bucket is None else bucket.unnamed
    hashes = slice_.get("hashes", b"")[: _HASH.size * slice_["count"]]
    before = max(unnamed.values(), default=0)
    new, named = 0, 0
    for (number,) in _HASH.iter_unpack(hashes[: len(hashes) // _HASH.size * _HASH.size]):
        # Once a slice has events without a name, their copies must not be taken for new because there is room again.
        if number in state.copies or (not unnamed and state.copies.size < MAX_COPIES):
            new += state.copies.add(number, receiver, second)
            named += 1
    if rest := slice_["count"] - named:
        unnamed[receiver] = unnamed.get(receiver, 0) + rest
    return new + max(unnamed.values(), default=0) - before, unnamed


def _trim_loose(state: GroupState) -> None:
    """Keep the latest: what comes just before a window fires is part of the burst."""
    evidence_left, samples_left = MAX_EVIDENCE, MAX_SAMPLES
    kept = []
    for start, evidence, samples in reversed(state.loose):
        evidence, samples = evidence[:evidence_left], samples[:samples_left]  # noqa: PLW2901
        if evidence or samples:
            kept.append((start, evidence, samples))
            evidence_left -= len(evidence)
            samples_left -= len(samples)
    state.loose = kept[::-1]


def _find_bursts(state: GroupState, correlation: Correlation) -> None:
    """Give every slice of a window that fires to its burst, beginning new ones where there is none within the timespan."""
    starts = sorted(state.buckets)
    span = correlation.slices * state.slice_us
    left, total, fired = 0, 0, 0
    for right, start in enumerate(starts):
        total += state.buckets[start].count
        while start - starts[left] >= span:
            total -= state.buckets[starts[left]].count
            left += 1
        if total < correlation.threshold:
            continue
        for member in starts[max(left, fired) : right + 1]:
            bucket = state.buckets[member]
            if bucket.episode == 0:
                bucket.episode = _episode_of(state, member, bucket, correlation).number
        fired = right + 1


def _episode_of(state: GroupState, start: int, bucket: Bucket, correlation: Correlation) -> Episode:
    reach = correlation.timespan_us
    for episode in state.episodes:
        if episode.start - reach <= start <= episode.end + reach:
            episode.start, episode.end = min(episode.start, start), max(episode.end, start)
            break
    else:
        anchor = start // correlation.timespan_us
        episode = Episode(
            number=state.next_number,
            alert_id=stable_id(correlation.id, *state.group, str(anchor)),
            start=start,
            end=start,
            first=bucket.first,
            last=bucket.last,
            received=bucket.received,
            entities=dict(state.entities),
        )
        state.next_number += 1
        state.episodes.append(episode)
    return episode


def _touch(
    state: GroupState, episode: Episode, header: SignalsHeader, correlation: Correlation, origin: Origin
) -> list[dict[str, Any]]:
    """Bring a burst up to date; its alert where there is something to announce."""
    own = [b for b in state.buckets.values() if b.episode == episode.number]
    episode.first = min([episode.first, *(b.first for b in own)])
    episode.last = max([episode.last, *(b.last for b in own)])
    episode.received = max(episode.received, header.received_at, *(b.received for b in own))
    episode.entities = {**state.entities, **episode.entities}
    episode.closed = False
    kept = []
    for start, evidence, samples in state.loose:
        bucket = state.buckets.get(start)
        if bucket is None or bucket.episode != episode.number:
            kept.append((start, evidence, samples))
            continue
        episode.evidence.extend(evidence[: MAX_EVIDENCE - len(episode.evidence)])
        episode.samples.extend(samples[: MAX_SAMPLES - len(episode.samples)])
    state.loose = kept
    count = _count(state, episode)
    if episode.revision and count < 2 * episode.announced:
        return []
    episode.revision += 1
    episode.announced = count
    episode.settled = False
    episode.created = header.received_at
    return [_tell(correlation, state, episode, count, "new" if episode.revision == 1 else "update", origin)]


def _forget(state: GroupState, horizon: int) -> None:
    if horizon > state.floor:
        state.floor = horizon
        state.seen = {k: t for k, t in state.seen.items() if t >= horizon}
        state.copies.forget(horizon // SECOND_US)
    _drop(state, [start for start, bucket in state.buckets.items() if bucket.received < horizon])
    state.episodes = [e for e in state.episodes if not e.closed or e.received >= horizon]


def _drop(state: GroupState, starts: list[int]) -> None:
    """Take slices out, keeping their count in the bursts they belong to."""
    by_number = {e.number: e for e in state.episodes}
    for start in starts:
        bucket = state.buckets.pop(start)
        if (episode := by_number.get(bucket.episode)) is not None:
            episode.past += bucket.count
    if starts:
        state.loose = [entry for entry in state.loose if entry[0] in state.buckets]


def _regrid(state: GroupState, correlation: Correlation) -> None:
    """Put the slices on the correlation's grid, where a new version of the rule has another one."""
    if state.slice_us == correlation.slice_us:
        return
    old = state.buckets
    state.slice_us, state.buckets = correlation.slice_us, {}
    for bucket in old.values():
        start = bucket.first // state.slice_us * state.slice_us
        there = state.buckets.get(start)
        if there is None:
            state.buckets[start] = bucket
            continue
        there.count += bucket.count
        there.first, there.last = min(there.first, bucket.first), max(there.last, bucket.last)
        there.received = max(there.received, bucket.received)
        there.episode = there.episode or bucket.episode
        for receiver, count in bucket.unnamed.items():
            there.unnamed[receiver] = there.unnamed.get(receiver, 0) + count
    state.loose = []
