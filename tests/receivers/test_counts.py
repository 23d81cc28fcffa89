"""What a receiver counts for the ledger."""

from __future__ import annotations

from weir.model.ledger import SequenceRange
from weir.receivers.counts import MAX_SEQUENCES, ReceiverLedger

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


def test_ranges_beyond_the_bound_are_counted_in_the_note() -> None:
    ledger = _ledger()
    for domain in range(MAX_SEQUENCES + 3):
        ledger.sequence(RANGE._replace(observation_domain=domain))
    entry = ledger.entry()
    assert entry is not None
    assert len(entry.sequences) == MAX_SEQUENCES
    assert entry.note is not None
    assert entry.note.startswith("3 sequence ranges left out")
