"""Sequence numbers of exporters, followed as their datagrams come in.

v5 and v7 number their flows, v9 its packets, IPFIX its data records, sFlow its datagrams. A `Follower` notes by stream (exporter,
protocol, domain) and minute from where to where the exporter has counted and what came of it, for the ledger, where the ranges
of all replicas meet (`weir.model.sequences`). On the way it sees when an exporter begins anew.

A single datagram out of place proves nothing: it may be late, a copy, damaged, or of another exporter behind the same address.
Two in succession that continue each other, but not what came before, are believed: far ahead they tell of a long loss, behind of
a restart. So is an uptime that began anew. Where restarts come again and again, two exporters share one address and domain;
then their numbers say nothing, and are left alone for an hour.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable
from typing import NamedTuple

from weir.model.ledger import MINUTE_US, SequenceRange, minute_of
from weir.model.sequences import EPOCH_TOLERANCE, SEQUENCE_MODULUS, unwrap

__all__ = ["MAX_STREAMS", "Follower", "Seen", "StreamKey"]

MAX_STREAMS = 8_192
"""Streams followed at once; the one silent longest goes first."""

_REMEMBERED = 32
"""Places of datagrams that are remembered, to tell copies from what is late."""

_LATE_DATAGRAMS = 512
"""How many datagrams one may be late."""

_LATE_AT_ANY_TIME = 16
"""So few datagrams back nothing is called a restart, whatever its time: the run would have been a very short one."""

_VOTES = 2
"""How often in succession a message must fit the other way to count before that is believed."""

_NEAR_DATAGRAMS = 4_096
"""How many datagrams in succession may be missing for the next one to be believed at once."""

_FORWARD = 1 << 28
"""The longest gap that is taken for loss; beyond it the exporter counts anew."""

_UPTIME_WRAP = 2**32 / 1000
_BOOT_TOLERANCE = 60.0
_RESTARTS_BELIEVED = 3
_RESTARTS_US = 600 * 1_000_000
_MIXED_US = 3_600 * 1_000_000


class StreamKey(NamedTuple):
    """Whose numbers: exporter address (sFlow: agent), protocol as in the ledger, domain (sFlow: sub-agent), and of a connection its
    number, else 0."""

    source: str
    protocol: str
    domain: int
    session: int = 0


class Seen(NamedTuple):
    """One datagram's place among the exporter's.

    `units` of it were counted; `more` beyond those may be in it, uncounted since their template is unknown. `export_us` is the
    exporter's time, microseconds UTC, 0 where it names none; `uptime` is in milliseconds, 0 where unknown.
    """

    sequence: int
    units: int
    export_us: int
    uptime: int = 0
    more: int = 0


class _Stream:
    """What is known of one stream; positions are unwrapped, so that they only grow."""

    __slots__ = (
        "after", "before", "boot", "candidate", "candidate_at", "counted", "epoch", "export_us", "first", "foretold",
        "key", "last", "minute", "more", "next", "pending", "pending_lost", "received", "recent", "reported",
        "restarts", "silent_until", "start", "votes", "widest",
    )  # fmt: skip

    def __init__(self, key: StreamKey) -> None:
        self.key = key
        self.epoch = self.foretold = 0
        self.restarts: deque[int] = deque(maxlen=_RESTARTS_BELIEVED + 1)
        self.silent_until = 0
        self.boot: float | None = None
        self.widest = 1
        self.after = False
        self.votes = 0
        self.before: tuple[int, int] | None = None
        self.pending: list[SequenceRange] = []
        self.pending_lost = 0
        self.begin(0)

    def begin(self, position: int) -> None:
        self.start = self.next = position
        self.received = self.reported = 0
        self.recent: deque[int] = deque(maxlen=_REMEMBERED)
        self.candidate: Seen | None = None
        self.candidate_at = 0
        self.export_us = 0
        self.more = 0
        self.minute = -1
        self.first = self.last = self.counted = 0


class Follower:
    """Follows all streams of one receiver.

    Args:
        emit: takes each finished range.
        lost: called with protocol and units that did not come, as far as this receiver alone can tell.
    """

    def __init__(self, emit: Callable[[SequenceRange], None], lost: Callable[[str, int], None]) -> None:
        self._emit = emit
        self._lost = lost
        self._streams: OrderedDict[StreamKey, _Stream] = OrderedDict()
        self._minute = 0

    def __len__(self) -> int:
        return len(self._streams)

    def epoch(self, key: StreamKey) -> int | None:
        """The run that a stream is in; None where the stream is not known."""
        stream = self._streams.get(key)
        return None if stream is None else stream.epoch

    def adopt(self, key: StreamKey, epoch: int) -> None:
        """Call a stream's run what another receiver, or this one before its last start, calls it: where both mean the same one,
        where nothing has been seen of the stream here, or once the restart is seen here too."""
        stream = self._streams.get(key)
        if stream is None:
            stream = self._add(key)
            stream.epoch = epoch
        elif abs(stream.epoch - epoch) <= EPOCH_TOLERANCE:
            if epoch < stream.epoch:
                self._flush(stream)
                stream.epoch = epoch
        elif epoch > stream.epoch:
            # Another receiver has seen a restart that is still to come here.
            stream.foretold = epoch

    def observe(self, key: StreamKey, seen: Seen, now_us: int) -> int | None:
        """Take note of a datagram.

        Returns None, or where the exporter turns out to have begun anew, since when: microseconds UTC, by its uptime, else by
        the arrival of the first datagram of the new run.
        """
        stream = self._streams.get(key)
        if stream is None:
            stream = self._add(key)
        else:
            self._streams.move_to_end(key)
        if stream.silent_until:
            if now_us < stream.silent_until:
                return None
            stream.silent_until = 0
            stream.epoch = max(now_us // 1_000_000, stream.epoch + EPOCH_TOLERANCE + 1)
            stream.begin(0)
        if key.protocol == "ipfix":
            seen = self._as_counted(stream, seen)
        if now_us - self._minute >= MINUTE_US or now_us < self._minute:
            self.flush(now_us)
        if not stream.export_us and not stream.received and stream.candidate is None:
            self._first(stream, seen, now_us)
            return None
        position = unwrap(seen.sequence, stream.next)
        ahead = position - stream.next
        window = _LATE_DATAGRAMS * stream.widest
        if ahead and self._rebooted(stream, seen, now_us):
            return self._restart(stream, [seen], now_us - seen.uptime * 1000, now_us)
        # A late datagram was exported before those already seen; what goes back with a later time is no late one.
        in_time = seen.export_us <= stream.export_us or -ahead <= _LATE_AT_ANY_TIME * stream.widest
        if not (0 <= ahead <= _NEAR_DATAGRAMS * stream.widest or (-window <= ahead < 0 and in_time)):
            before = stream.candidate
            if before is None or not 0 <= self._behind(before, seen) <= window or seen.export_us < before.export_us:
                stream.candidate, stream.candidate_at = seen, now_us
                return None
            place = unwrap(before.sequence, stream.next)
            if not 0 <= place - stream.next <= _FORWARD:
                return self._restart(stream, [before, seen], stream.candidate_at, now_us)
            stream.candidate = None
            self._take(stream, place, before, now_us)
        if stream.candidate is not None:
            self._outlier(stream, now_us)
        self._take(stream, position, seen, now_us)
        return None

    def flush(self, now_us: int) -> None:
        """Emit the ranges of minutes that are over."""
        self._minute = minute_of(now_us)
        for stream in self._streams.values():
            if stream.minute != self._minute and (stream.minute >= 0 or stream.pending):
                self._tell(stream)

    def close(self, session: int | None = None) -> None:
        """Emit everything, or everything of one connection, which is forgotten then."""
        for key, stream in list(self._streams.items()):
            if session is None:
                self._tell(stream)
            elif key.session == session:
                self._tell(stream)
                del self._streams[key]

    def _add(self, key: StreamKey) -> _Stream:
        stream = self._streams[key] = _Stream(key)
        if len(self._streams) > MAX_STREAMS:
            _, oldest = self._streams.popitem(last=False)
            self._tell(oldest)
        return stream

    def _first(self, stream: _Stream, seen: Seen, now_us: int) -> None:
        stream.begin(seen.sequence)
        if not stream.epoch:
            stream.epoch = _began(stream.key, seen, now_us)
        self._take(stream, seen.sequence, seen, now_us)

    def _as_counted(self, stream: _Stream, seen: Seen) -> Seen:
        """A message as if its number were that of its first record.

        So RFC 7011 section 3.1 has it. softflowd gives the number after its last flow instead, which shows where messages of
        different size follow one another.
        """
        before, stream.before = stream.before, (seen.sequence, seen.units)
        if before is not None and not seen.more and seen.units and seen.units != before[1]:
            step = (seen.sequence - before[0]) % SEQUENCE_MODULUS
            if step in (seen.units, before[1]):
                stream.votes = min(_VOTES, stream.votes + 1) if step == seen.units else 0
            if (stream.votes >= _VOTES) != stream.after:
                # What was noted so far of this minute was noted the other way.
                stream.after = not stream.after
                stream.pending.clear()
                stream.pending_lost = 0
                place = seen.sequence - seen.units if stream.after else seen.sequence
                stream.begin(place % SEQUENCE_MODULUS)
        return seen._replace(sequence=(seen.sequence - seen.units) % SEQUENCE_MODULUS) if stream.after else seen

    @staticmethod
    def _behind(before: Seen, seen: Seen) -> int:
        end = before.sequence + before.units
        return unwrap(seen.sequence, end) - end

    @staticmethod
    def _rebooted(stream: _Stream, seen: Seen, now_us: int) -> bool:
        if not seen.uptime or stream.boot is None:
            return False
        later = now_us / 1_000_000 - seen.uptime / 1000 - stream.boot
        # The uptime itself wraps after 49.7 days, which looks like a start that much later.
        return later > _BOOT_TOLERANCE and abs(later - _UPTIME_WRAP) > _BOOT_TOLERANCE

    def _restart(self, stream: _Stream, seen: list[Seen], since_us: int, now_us: int) -> int | None:
        self._flush(stream)
        stream.restarts.append(now_us)
        if len(stream.restarts) > _RESTARTS_BELIEVED and now_us - stream.restarts[0] < _RESTARTS_US:
            stream.restarts.clear()
            stream.pending.clear()
            stream.pending_lost = 0
            stream.silent_until = now_us + _MIXED_US
            return None
        stream.epoch = stream.foretold or max(_began(stream.key, seen[0], now_us), stream.epoch + EPOCH_TOLERANCE + 1)
        stream.foretold = 0
        stream.begin(seen[0].sequence)
        for one in seen:
            self._take(stream, unwrap(one.sequence, stream.next), one, now_us)
        return since_us

    def _outlier(self, stream: _Stream, now_us: int) -> None:
        """The datagram out of place was none of a new run: where it lies in this one it was late."""
        seen, stream.candidate = stream.candidate, None
        if seen is not None:
            position = unwrap(seen.sequence, stream.next)
            if stream.start <= position < stream.next and position - stream.next > -_FORWARD:
                self._take(stream, position, seen, now_us)

    def _take(self, stream: _Stream, position: int, seen: Seen, now_us: int) -> None:
        end, units = position + seen.units, seen.units
        if position >= stream.next:
            if stream.more:
                # What could not be counted, since its template was unknown, is not called lost.
                units += min(position - stream.next, stream.more)
                position = stream.next
            stream.more = seen.more
            stream.export_us = max(stream.export_us, seen.export_us)
            if seen.uptime:
                stream.boot = now_us / 1_000_000 - seen.uptime / 1000
        elif position in stream.recent:
            return
        if seen.units:
            stream.recent.append(end - seen.units)
            stream.widest = max(stream.widest, seen.units)
        stream.received += units
        stream.start = min(stream.start, position)
        stream.next = max(stream.next, end)
        minute = minute_of(now_us)
        if stream.minute != minute:
            if stream.minute >= 0:
                self._tell(stream)
            stream.minute, stream.first, stream.last = minute, position, end
        stream.first, stream.last = min(stream.first, position), max(stream.last, end)
        stream.counted += units

    def _flush(self, stream: _Stream) -> None:
        if stream.minute < 0:
            return
        if stream.last > stream.first or stream.counted:
            key = stream.key
            first, last = stream.first % SEQUENCE_MODULUS, stream.last % SEQUENCE_MODULUS
            stream.pending.append(
                SequenceRange(key.source, stream.minute, key.protocol, key.domain, stream.epoch, first, last, stream.counted)
            )
            lost = stream.next - stream.start - stream.received
            if lost > stream.reported:
                stream.pending_lost += lost - stream.reported
                stream.reported = lost
        stream.minute, stream.counted = -1, 0

    def _tell(self, stream: _Stream) -> None:
        # Not with each restart, but with the minute: two exporters at one address are found out by then.
        self._flush(stream)
        for found in stream.pending:
            self._emit(found)
        if stream.pending_lost:
            self._lost(stream.key.protocol, stream.pending_lost)
        stream.pending.clear()
        stream.pending_lost = 0


def _began(key: StreamKey, seen: Seen, now_us: int) -> int:
    """Name of a run: when it began, seconds UTC as near as can be known; of a connection its own time in microseconds, since two
    connections may follow each other within a second."""
    if key.session:
        return now_us
    return max(1, (seen.export_us or now_us) // 1_000_000 - seen.uptime // 1000)
