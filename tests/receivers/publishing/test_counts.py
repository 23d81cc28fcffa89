"""What a receiver counts for the ledger."""

from __future__ import annotations

from weir.model.ledger import SequenceRange
from weir.receivers.publishing.counts import HELD_SEQUENCES, MAX_SEQUENCES, ReceiverLedger

RANGE = SequenceRange("192.0.2.1", 60_000_000, "ipfix", 7, 0, 100, 150, 50)


def _ledger() -> ReceiverLedger:
    return ReceiverLedger("receive.test", "tester", "here", "weir.raw.netflow.v1")


def test_sequence_ranges_go_into_the_next_entry_and_only_there() -> None:
    ledger = _ledger()
    ledger.sequence(RANGE)
    entry = ledger.entry()
    assert entry is not None
    assert entry.sequences == [RANGE]
    assert entry.note is None
    assert ledger.entry() is None


def test_ranges_that_follow_each_other_are_joined_and_a_gap_is_kept() -> None:
    ledger = _ledger()
    ledger.sequence(RANGE)
    ledger.sequence(RANGE._replace(observation_domain=8))
    ledger.sequence(RANGE._replace(first=150, last=180, units=30))
    ledger.sequence(RANGE._replace(first=190, last=200, units=10))
    entry = ledger.entry()
    assert entry is not None
    assert entry.sequences == [
        RANGE._replace(last=180, units=80),
        RANGE._replace(observation_domain=8),
        RANGE._replace(first=190, last=200, units=10),
    ]


def test_ranges_beyond_one_entry_go_into_the_next_and_only_those_beyond_the_bound_are_left_out() -> None:
    ledger = _ledger()
    for domain in range(HELD_SEQUENCES + 3):
        ledger.sequence(RANGE._replace(observation_domain=domain))
    first = ledger.entry()
    assert first is not None
    assert len(first.sequences) == MAX_SEQUENCES
    assert first.note is not None
    assert first.note.startswith("3 sequence ranges left out")
    # One that goes on where a waiting one ended is still joined to it.
    ledger.sequence(RANGE._replace(observation_domain=HELD_SEQUENCES - 1, first=RANGE.last, last=RANGE.last + 5, units=5))
    found = list(first.sequences)
    while (entry := ledger.entry()) is not None:
        assert entry.note is None
        found += entry.sequences
    assert [one.observation_domain for one in found] == list(range(HELD_SEQUENCES))
    assert found[-1].units == RANGE.units + 5
