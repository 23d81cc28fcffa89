"""Following sequence numbers: what is missing is counted exactly, and only a restart is called a restart."""

from __future__ import annotations

from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from weir.model.ledger import SequenceRange
from weir.model.sequences import SEQUENCE_MODULUS, merge
from weir.receivers.netflow.sequences import MAX_STREAMS, Follower, Seen, StreamKey

NOW = 1_790_000_000 * 1_000_000
KEY = StreamKey("192.0.2.1", "ipfix", 7)
V9 = StreamKey("192.0.2.1", "netflow-v9", 7)


class Replica:
    """A follower and what it said."""

    def __init__(self) -> None:
        self.ranges: list[SequenceRange] = []
        self.lost = 0
        self.restarts = 0
        self.follower = Follower(self.ranges.append, lambda _, units: self._add(units))

    def _add(self, units: int) -> None:
        self.lost += units

    def see(self, sequence: int, units: int = 1, *, at: float = 0, key: StreamKey = KEY, uptime: int = 0, more: int = 0) -> None:
        now = NOW + int(at * 1_000_000)
        export = now // 1_000_000 * 1_000_000
        since = self.follower.observe(key, Seen(sequence % SEQUENCE_MODULUS, units, export, uptime, more), now)
        self.restarts += since is not None

    def end(self) -> list[SequenceRange]:
        self.follower.close()
        return self.ranges

    def missing(self) -> int:
        return sum(loss.missing for loss in merge(self.end()))


@given(
    st.lists(st.tuples(st.integers(0, SEQUENCE_MODULUS - 1), st.integers(2, 60)), min_size=1, max_size=3),
    st.integers(1, 3),
    st.floats(0, 0.6),
    st.integers(0, 8),
    st.booleans(),
    st.randoms(use_true_random=False),
)
@settings(max_examples=200, deadline=None)
def test_whatever_is_lost_late_copied_or_spread_the_count_is_exact(
    runs: list[tuple[int, int]], replicas: int, loss: float, late: int, flows: bool, random: Random
) -> None:
    """Several runs of an exporter, over several replicas; each datagram goes to one of them, some come twice there."""
    seen_by = [Replica() for _ in range(replicas)]
    at, expected = 0.0, 0
    for number, (start, count) in enumerate(runs):
        boot, at = at, at + 100.0
        # Apart from each other: where the numbers of a new run happened to go on from the old, nobody could tell.
        stream, position = [], start % 1_000_000_000 + number * 1_400_000_000
        for _ in range(count):
            units = random.randint(1, 30) if flows else 1
            at += random.choice([0.01, 0.5, 2.0])
            stream.append((position, units, at))
            position += units
        # The first of a run arrives first at each replica: nobody can tell a straggler of the old run from the new one.
        came = [d for d in stream if random.random() >= loss]
        arriving = sorted(((i + random.randint(0, late)) if i else -1, i, d) for i, d in enumerate(came))
        if came:
            expected += came[-1][0] + came[-1][1] - came[0][0] - sum(d[1] for d in came)
        clock = came[0][2] if came else at
        for _, _, (first, units, sent) in arriving:
            clock = max(clock, sent)
            replica = random.choice(seen_by)
            for _ in range(random.choice([1, 1, 1, 2])):
                exported, uptime = NOW + int(sent * 1_000_000), int((sent - boot) * 1000)
                seen = Seen(first % SEQUENCE_MODULUS, units, exported, uptime)
                replica.follower.observe(V9, seen, NOW + int(clock * 1_000_000))
    ranges = [r for replica in seen_by for r in replica.end()]
    assert sum(found.missing for found in merge(ranges)) == expected


def test_a_gap_is_lost_and_told_once() -> None:
    replica = Replica()
    for first in (0, 10, 30, 40):
        replica.see(first, 10)
    assert replica.missing() == 10
    assert (replica.lost, replica.restarts) == (10, 0)


def test_what_overtakes_is_neither_lost_nor_a_restart() -> None:
    replica = Replica()
    for first in (0, 20, 10, 50, 40, 30):
        replica.see(first, 10)
    assert (replica.missing(), replica.lost, replica.restarts) == (0, 0, 0)


def test_a_copy_does_not_hide_a_loss() -> None:
    replica = Replica()
    for first in (0, 10, 10, 30):
        replica.see(first, 10)
    assert replica.missing() == 10


def test_across_the_wrap_nothing_is_lost() -> None:
    replica = Replica()
    for first in range(-30, 40, 10):
        replica.see(first, 10)
    assert (replica.missing(), replica.restarts) == (0, 0)


def test_messages_without_records_prove_the_place_they_are_at() -> None:
    """IPFIX: a message of templates alone does not count, but tells that ten records before it are missing."""
    replica = Replica()
    replica.see(0, 10)
    replica.see(20, 0)
    replica.see(20, 5)
    assert replica.missing() == 10


def test_two_datagrams_that_continue_each_other_are_a_restart() -> None:
    replica = Replica()
    for first in (50_000, 50_010):
        replica.see(first, 10)
    replica.see(0, 10, at=5)
    assert replica.restarts == 0
    replica.see(10, 10, at=5)
    replica.see(30, 10, at=6)
    assert replica.restarts == 1
    assert replica.missing() == 10
    assert len({r.epoch for r in replica.ranges}) == 2


def test_a_single_datagram_out_of_place_is_none() -> None:
    replica = Replica()
    for first in (50_000, 50_010, 3_000_000_000, 50_020, 0, 50_030):
        replica.see(first, 10, at=first / 1_000_000_000)
    assert (replica.restarts, replica.missing()) == (0, 0)


def test_a_run_that_begins_anew_is_a_restart_though_its_numbers_are_near() -> None:
    """The old run had counted to 400 only: its number 0 could be a late datagram, but for its time."""
    replica = Replica()
    for first in range(0, 400, 10):
        replica.see(first, 10)
    for first in (0, 10, 20, 30):
        replica.see(first, 10, at=30)
    assert (replica.restarts, replica.missing()) == (1, 0)


def test_an_exporter_that_numbers_messages_by_their_last_record_loses_nothing() -> None:
    """As softflowd does: the sequence number is that after the message. Nothing of it is a restart either."""
    random = Random(4)
    replica, count = Replica(), 0
    for n in range(400):
        units = random.choice([1, 4, 30])
        count += units
        replica.see(count + (1_000 if n >= 300 else 0), units, at=n)
    assert replica.restarts == 0
    assert replica.missing() == 1_000


def test_an_uptime_that_begins_anew_is_a_restart_at_once() -> None:
    replica = Replica()
    replica.see(100, key=V9, uptime=500_000)
    replica.see(0, key=V9, at=200, uptime=1_000)
    assert replica.restarts == 1


def test_an_uptime_that_wraps_is_none() -> None:
    replica = Replica()
    replica.see(100, key=V9, uptime=2**32 - 1_000)
    replica.see(102, key=V9, at=2, uptime=1_000)
    assert (replica.restarts, replica.missing()) == (0, 1)


def test_two_exporters_behind_one_address_are_left_alone() -> None:
    """After a few restarts within minutes nothing is believed any more, and nothing is called lost."""
    replica = Replica()
    for n in range(200):
        for _ in range(2):
            replica.see(1_000_000 * (n % 2) + n * 2 + _, at=n)
    assert replica.restarts <= 3
    assert replica.missing() == 0


def test_where_a_template_is_unknown_nothing_is_called_lost() -> None:
    replica = Replica()
    replica.see(0, 0, more=150)
    replica.see(20, 0, more=150)
    replica.see(40, 10)
    replica.see(60, 10)
    assert replica.missing() == 10


def test_a_restarted_receiver_goes_on_in_the_run_it_was_told_of() -> None:
    """What is lost while it is away counts."""
    first, second = Replica(), Replica()
    first.see(0, 10)
    epoch = first.follower.epoch(KEY)
    assert epoch is not None
    second.follower.adopt(KEY, epoch)
    second.see(40, 10, at=3_600)
    assert sum(loss.missing for loss in merge(first.end() + second.end())) == 30


def test_ranges_are_told_by_minute() -> None:
    replica = Replica()
    for n in range(5):
        replica.see(n, at=n * 30)
    assert sum(r.units for r in replica.end()) == 5
    assert len({r.minute for r in replica.ranges}) == 3


def test_a_long_loss_is_believed_with_the_second_datagram_behind_it() -> None:
    replica = Replica()
    for first in (0, 10, 2_000_000, 2_000_010):
        replica.see(first, 10)
    assert (replica.missing(), replica.restarts) == (1_999_980, 0)


def test_a_silent_stream_is_told_when_its_minute_is_over() -> None:
    replica = Replica()
    replica.see(0)
    replica.follower.flush(NOW + 120_000_000)
    assert len(replica.ranges) == 1
    replica.follower.flush(NOW + 240_000_000)
    assert len(replica.ranges) == 1


def test_a_connection_that_ends_is_told_and_forgotten() -> None:
    replica = Replica()
    replica.see(0, 5, key=KEY._replace(session=3))
    replica.see(0, 5)
    replica.follower.close(3)
    assert len(replica.ranges) == 1
    assert len(replica.follower) == 1


def test_streams_are_bounded() -> None:
    replica = Replica()
    for n in range(MAX_STREAMS + 5):
        replica.see(0, key=KEY._replace(domain=n))
    assert len(replica.follower) == MAX_STREAMS
    assert len(replica.ranges) == 5


def test_a_restart_that_another_replica_saw_first_is_called_by_its_name() -> None:
    replica = Replica()
    replica.see(1_000, 10)
    replica.follower.adopt(KEY, 1_800_000_000)
    replica.see(1_010, 10)
    for first in (0, 10):
        replica.see(first, 10, at=4_000)
    assert replica.follower.epoch(KEY) == 1_800_000_000
