"""All of Sigma's correlation types: partials into bursts, and bursts into alerts. Pure: what comes out depends on the arguments.

**Windows.** Where windows fire is told in `firing`, from counts and details by slices of event time (`slices`). Adding commutes,
so whether a group fires does not depend on the order of its partials. Conditions that stay true once they are true are judged at
once in sliding windows. The others are judged once for each window of the timespan's width, aligned to the epoch: when the
watermark has passed its end and the receipt of its last event by the allowed lateness (or the timespan, if that is shorter), and
again where something comes later than that. A window whose end lies in the future, by a sender's clock, is judged a timespan
after its last event was received. Windows without events are not judged: "fewer than 5" does not hold for a group that nothing is
heard of.

**Bursts.** The windows that fire, run together where no more than a timespan is between them, are one burst (`Episode`), with one
alert. Its count is that of the events in those windows; a trickle before and after is not counted into it. Where events are not
known singly (`firing`), it is that of the slices. The alert id is made of the rule, the group and the burst's first slice when it
first fired, floored to the timespan. Two bursts of a group begin more than a timespan apart, so their ids differ. A replay of the
same signals log gives the same ids. Signals of one burst in another order give the same id unless the first slice moves over a
boundary of that coarser grid: a burst that begins close before a boundary, whose early part arrives after the later part has
already fired, is named otherwise. And two bursts between which late events make a bridge stay two alerts, which share the events
between them. Nothing short of withholding alerts until the watermark has passed could avoid these two.

**Announcing.** The WAN is narrow: an alert is told when its burst first fires, whenever its size (events; of value_count and
value_sum what is compared) has doubled since it was last told, once when the burst has paused for a few seconds (so that a burst
of 500 does not stand as 400 until it closes), and when it closes. A pause counts once for each doubling, which bounds the records
of a burst that trickles on. `measured` is the most that any window of the burst came to; of windows judged at their end, what the
latest came to.

**Repeats.** Processors publish in the order of their raw partitions, so the highest raw offset counted in a group tells what is a
repeat (`Heads`), for ever. What is late is therefore never refused, however late: a drained spool counts, whatever other sources of
the topic have ticked. Ids of signals are remembered besides, for the timespan and the allowed lateness: a batch that its receiver
wrote twice, under two offsets, counts once.

**Forgetting** goes by receive time: the watermark of the raw topics a group is fed from says that nothing received before it is
still to come. A slice is dropped once the watermark has passed its receipt by the timespan and the allowed lateness. What comes
late (a spool keeps the receive time) counts as received when the watermark stood, so it is kept as long as what came in time.
Late events whose slice has been dropped count in a new one, without what was in the old one. A sender's wrong clock can neither
expire nor hold up anything. Groups fed by alerts keep theirs longer (`ALERTS_HOLD_US`), since alerts come through another
partition of the signals, which may lag; those that lag by more than that are not seen together with what they should have met.

**Copies.** Where several receivers are fed the same units on purpose, their partials name the receiver and, for each event, a
hash of its content. Equal content by one receiver is so many events, by several it is copies: an event counts as often as the
receiver brought it that brought it most often, whatever the order, and whichever raw batch or partition it came in. Hashes are
remembered as long as ids of signals are, so a copy that was received later than that counts as an event of its own. So many hashes
are remembered of a group; of events beyond them (and those whose hash a full signals record had no room for) a slice counts the
most that any one receiver brought, which is the same number as long as no receiver loses what another one has. A collision of two
hashes of 64 bits costs one count. Evidence and samples of a partial that brings only copies are not kept; those of one that brings
something new may repeat an event by its other id. Distinct values and numbers are known by hash, so copies change nothing; of
sums those of the receiver count that has most numbers in a slice.
"""

from __future__ import annotations

from typing import Any

from weir.detect.kinds.adding import MAX_BUCKETS, MAX_COPIES, SECOND_US, add_partial, drop
from weir.detect.kinds.common import ALLOWED_LATENESS_US, Merged, SignalsHeader
from weir.detect.kinds.firing import Fired, Window, fired, judge
from weir.detect.kinds.slices import Bucket
from weir.detect.kinds.state import Episode, GroupState, Note
from weir.detect.kinds.telling import fold, present, tell
from weir.detect.rules import Correlation
from weir.detect.signals.gathering import MAX_EVIDENCE, MAX_SAMPLES, Carried, carried_by
from weir.detect.telling.alerts import Origin
from weir.model.ids import stable_id

__all__ = ["MAX_BUCKETS", "MAX_COPIES", "MAX_EVIDENCE", "MAX_SAMPLES", "advance", "due", "hold_us", "load", "merge"]

SETTLE_US = 5_000_000
ALERTS_HOLD_US = 3_600_000_000
# Beyond these, the ids of the oldest quarter go.
MAX_SEEN = 4_096
# Beyond these, the oldest is closed.
MAX_EPISODES = 12


def load(value: bytes) -> GroupState:
    """The state of a table value. Raises StateError for bytes of another format."""
    return GroupState.from_bytes(value)


def hold_us(correlation: Correlation) -> int:
    """How long, in receive time, slices and ids of signals are kept."""
    fed = any(member.rule is None for member in correlation.members)
    return correlation.timespan_us + ALLOWED_LATENESS_US + (ALERTS_HOLD_US if fed else 0)


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
    if header.short_id in state.seen or not state.heads.take(header):
        return Merged(state, [present(state, e, correlation, origin) for e in state.episodes if e.revision], False)
    carried = carried_by(correlation)
    _regrid(state, correlation, carried)
    _forget(state, watermark - hold_us(correlation))
    received = max(header.received_at, watermark)
    _remember(state, header, received)
    touched = add_partial(state, header, partial, carried, received)
    alerts = []
    if not correlation.at_end:
        found = fired(state.buckets, correlation, carried)
        _mark(state, found, correlation)
        for episode in state.episodes:
            if any(state.buckets[start].episode == episode.number for start in touched if start in state.buckets):
                alerts.extend(_touch(state, episode, found.windows, header.received_at, received, correlation, origin))
    while len(state.episodes) > MAX_EPISODES:
        oldest = state.episodes.pop(0)
        if not oldest.closed:
            alerts.append(_close(state, oldest, correlation, origin))
    return Merged(state, alerts, True)


def advance(
    state: GroupState, correlation: Correlation, watermark: int, origin: Origin
) -> tuple[GroupState | None, list[dict[str, Any]]]:
    """Judge windows that have ended, tell the counts of bursts that have paused, close those that are over, forget what is old.

    A burst has paused when the watermark has passed the receive time of its last event by a few seconds, and is over when it has
    passed it by the timespan (of windows judged at their end: when the next one would have been judged too). Returns None for a
    state that holds nothing any more, and the records of the alerts.
    """
    _regrid(state, correlation, carried_by(correlation))
    alerts = _judge(state, correlation, watermark, origin) if correlation.at_end else []
    for episode in state.episodes:
        if not episode.closed and _pause(episode, correlation) < watermark <= _over(episode, correlation):
            alerts += _settle(state, episode, correlation, origin)
    for episode in state.episodes:
        if not episode.closed and watermark > _over(episode, correlation):
            alerts.append(_close(state, episode, correlation, origin))
    horizon = watermark - hold_us(correlation)
    if state.received < horizon and all(episode.closed for episode in state.episodes):
        return None, alerts
    _forget(state, horizon)
    return state, alerts


def due(state: GroupState, correlation: Correlation) -> int:
    """The watermark from which on `advance` has something to do."""
    times = [_over(e, correlation) if e.settled else _pause(e, correlation) for e in state.episodes if not e.closed]
    if correlation.at_end:
        times += [_judgement(start, bucket, correlation) for start, bucket in state.buckets.items() if not bucket.judged]
    # An alert of windows that are judged at their end may be open for longer than slices are kept.
    return min(times or [state.received + hold_us(correlation)]) + 1


def _wait_us(correlation: Correlation) -> int:
    return min(ALLOWED_LATENESS_US, correlation.timespan_us)


def _judgement(start: int, bucket: Bucket, correlation: Correlation) -> int:
    """The watermark that must be passed before a window is judged."""
    span = correlation.timespan_us
    return min(max(start + span, bucket.received), bucket.received + span) + _wait_us(correlation)


def _pause(episode: Episode, correlation: Correlation) -> int:
    return episode.received + min(SETTLE_US, correlation.timespan_us)


def _over(episode: Episode, correlation: Correlation) -> int:
    span = correlation.timespan_us
    return episode.received + (2 * span + _wait_us(correlation) if correlation.at_end else span)


def _judge(state: GroupState, correlation: Correlation, watermark: int, origin: Origin) -> list[dict[str, Any]]:
    alerts = []
    for start in sorted(state.buckets):
        bucket = state.buckets[start]
        at = _judgement(start, bucket, correlation)
        if bucket.judged or at >= watermark:
            continue
        bucket.judged = True
        is_true, measured = judge(start, bucket, correlation)
        if not is_true and not bucket.episode:
            continue
        # A window that was told of stays told of, with what it has come to.
        window = Window(start, start, measured)
        _mark(state, Fired([window], {start: (bucket.count, bucket.first, bucket.last)}), correlation)
        episode = next(e for e in state.episodes if e.number == bucket.episode)
        alerts += _touch(state, episode, [window], at, bucket.received, correlation, origin)
    return alerts


def _settle(state: GroupState, episode: Episode, correlation: Correlation, origin: Origin) -> list[dict[str, Any]]:
    if episode.settled or not episode.revision:
        return []
    episode.settled = True
    if episode.told == [_count(state, episode), episode.measured]:
        return []
    return [_tell(state, episode, "update", _pause(episode, correlation), correlation, origin)]


def _close(state: GroupState, episode: Episode, correlation: Correlation, origin: Origin) -> dict[str, Any]:
    episode.closed = True
    return _tell(state, episode, "closed", _over(episode, correlation), correlation, origin)


def _tell(
    state: GroupState, episode: Episode, as_state: str, created: int, correlation: Correlation, origin: Origin
) -> dict[str, Any]:
    count = _count(state, episode)
    episode.revision += 1
    episode.created = created
    episode.told = [count, episode.measured]
    episode.announced = _size(episode, count, correlation)
    return tell(state, episode, count, as_state, correlation, origin)


def _count(state: GroupState, episode: Episode) -> int:
    return episode.past + sum(b.covered[0] for b in state.buckets.values() if b.episode == episode.number)


def _size(episode: Episode, count: int, correlation: Correlation) -> float:
    return episode.measured if correlation.kind in {"value_count", "value_sum"} and episode.measured > 0 else count


def _remember(state: GroupState, header: SignalsHeader, received: int) -> None:
    state.seen[header.short_id] = received
    state.received = max(state.received, received)
    if not set(header.topics) <= set(state.sources):
        state.sources = sorted({*state.sources, *header.topics})
    if len(state.seen) > MAX_SEEN:
        times = sorted(state.seen.values())
        oldest = times[len(times) // 4]
        state.seen = {k: t for k, t in state.seen.items() if t > oldest}


def _mark(state: GroupState, found: Fired, correlation: Correlation) -> None:
    """Give every slice of a window that fires to its burst, beginning new ones where there is none within the timespan."""
    by_number = {episode.number: episode for episode in state.episodes}
    for start, covered in sorted(found.covered.items()):
        bucket = state.buckets[start]
        if bucket.episode and bucket.episode not in by_number:
            # Its burst was closed to make room for others.
            continue
        episode = by_number.get(bucket.episode)
        if episode is None:
            episode = _episode_of(state, start, covered, bucket, correlation)
            by_number[episode.number] = episode
            bucket.episode = episode.number
        if covered[0] >= bucket.covered[0]:
            # Less where a slice is forgotten that was part of the window.
            bucket.covered = covered
        episode.start, episode.end = min(episode.start, start), max(episode.end, start)
        episode.first, episode.last = min(episode.first, covered[1]), max(episode.last, covered[2])


def _episode_of(state: GroupState, start: int, covered: tuple[int, int, int], bucket: Bucket, correlation: Correlation) -> Episode:
    reach = correlation.timespan_us
    for episode in state.episodes:
        if correlation.at_end:
            near = episode.start - reach <= start <= episode.end + reach
        else:
            near = episode.first - reach <= covered[2] and covered[1] <= episode.last + reach
        if near:
            return episode
    anchor = start // correlation.timespan_us
    episode = Episode(
        number=state.next_number,
        alert_id=stable_id(correlation.id, *state.group, str(anchor)),
        start=start,
        end=start,
        first=covered[1],
        last=covered[2],
        received=bucket.received,
    )
    state.next_number += 1
    state.episodes.append(episode)
    return episode


def _touch(
    state: GroupState,
    episode: Episode,
    windows: list[Window],
    created: int,
    received: int,
    correlation: Correlation,
    origin: Origin,
) -> list[dict[str, Any]]:
    """Bring a burst up to date; its alert where there is something to announce."""
    own = {start: b for start, b in state.buckets.items() if b.episode == episode.number}
    episode.received = max(episode.received, received, *(b.received for b in own.values()))
    episode.closed = False
    measured = [window.measured for window in windows if window.first in own]
    if measured:
        episode.measured = measured[-1] if correlation.at_end else max(episode.measured, *measured)
    kept = []
    for note in state.loose:
        if note.start in own:
            fold(episode, note)
        else:
            kept.append(note)
    state.loose = kept
    # Of events whose own note had no room any more.
    fold(episode, Note(0, entities={name: value for name, value in state.entities.items() if name not in episode.entities}))
    size = _size(episode, _count(state, episode), correlation)
    if episode.revision and size < 2 * episode.announced:
        return []
    episode.settled = False
    return [_tell(state, episode, "update" if episode.revision else "new", created, correlation, origin)]


def _forget(state: GroupState, horizon: int) -> None:
    if horizon > state.floor:
        state.floor = horizon
        state.seen = {k: t for k, t in state.seen.items() if t >= horizon}
        state.copies.forget(horizon // SECOND_US)
    drop(state, [start for start, bucket in state.buckets.items() if bucket.received < horizon])
    state.episodes = [e for e in state.episodes if not e.closed or e.received >= horizon]


def _regrid(state: GroupState, correlation: Correlation, carried: Carried) -> None:
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
        there.add(bucket, carried)
        there.episode = there.episode or bucket.episode
        counts = (there.covered, bucket.covered)
        known = [covered for covered in counts if covered[0]]
        if known:
            there.covered = (sum(c for c, _, _ in known), min(f for _, f, _ in known), max(t for _, _, t in known))
        for receiver, count in bucket.unnamed.items():
            there.unnamed[receiver] = there.unnamed.get(receiver, 0) + count
    state.loose = []
