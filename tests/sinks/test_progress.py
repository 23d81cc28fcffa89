"""How far a partition may be committed."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from weir.sinks.progress import EXPIRED, Outcome, Progress

from .samples import NOW_US


def finished_to(progress: Progress) -> int | None:
    run = progress.finished_run()
    return None if run is None else run.last + 1


def test_only_an_unbroken_run_from_the_start_may_be_committed() -> None:
    progress = Progress()
    for offset in (10, 11, 12):
        assert progress.read(offset)
    progress.finish(11, Outcome.DELIVERED, NOW_US)
    assert progress.finished_run() is None
    progress.finish(10, Outcome.DEAD, NOW_US)
    run = progress.finished_run()
    assert run is not None
    assert (run.first, run.last, run.note) == (10, 11, None)
    assert [(c.events_in, c.delivered, c.dead) for c in run.minutes.values()] == [(2, 1, 1)]
    assert progress.unfinished == 1


def test_a_run_keeps_its_first_offset_until_its_commit_has_succeeded() -> None:
    """The ledger entry written again must replace the one before."""
    progress = Progress()
    for offset in range(4):
        progress.read(offset)
    progress.finish(0, Outcome.DELIVERED, NOW_US)
    assert finished_to(progress) == 1
    progress.finish(1, Outcome.DELIVERED, NOW_US)
    run = progress.finished_run()
    assert run is not None
    assert (run.first, run.last, sum(c.events_in for c in run.minutes.values())) == (0, 1, 2)
    progress.committed()
    progress.finish(2, Outcome.DELIVERED, NOW_US)
    again = progress.finished_run()
    assert again is not None
    assert (again.first, again.last, sum(c.events_in for c in again.minutes.values())) == (2, 2, 1)


def test_counts_are_kept_by_receive_minute() -> None:
    progress = Progress()
    for offset in range(3):
        progress.read(offset)
        progress.finish(offset, Outcome.DELIVERED, NOW_US + offset * 60_000_000)
    run = progress.finished_run()
    assert run is not None
    assert len(run.minutes) == 3
    assert all(minute % 60_000_000 == 0 for minute in run.minutes)


def test_a_record_read_before_is_left_alone() -> None:
    progress = Progress()
    assert progress.read(5)
    assert not progress.read(5)
    assert not progress.read(4)
    assert progress.read(6)


def test_missing_offsets_become_a_run_of_their_own_marked_expired() -> None:
    progress = Progress()
    progress.read(1)
    progress.read(5)
    progress.finish(5, Outcome.DELIVERED, NOW_US)
    progress.finish(1, Outcome.DELIVERED, NOW_US)
    runs = []
    while (run := progress.finished_run()) is not None:
        runs.append((run.first, run.last, run.note))
        progress.committed()
    assert runs == [(1, 1, None), (2, 4, EXPIRED), (5, 5, None)]


def test_expired_offsets_at_the_start_are_committed_without_any_record() -> None:
    progress = Progress()
    progress.expire(0, 9)
    run = progress.finished_run()
    assert run is not None
    assert (run.first, run.last, run.note, run.minutes) == (0, 9, EXPIRED, {})
    progress.committed()
    assert progress.read(10)
    assert progress.finished_run() is None


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_in_whatever_order_sends_complete_no_commit_passes_an_undelivered_record(data: st.DataObject) -> None:
    progress = Progress()
    unfinished: set[int] = set()
    finished: dict[int, Outcome] = {}
    next_offset = data.draw(st.integers(0, 1000))
    start = next_offset
    committed = start
    ledger: dict[int, int] = {}
    for _ in range(data.draw(st.integers(1, 60))):
        match data.draw(st.sampled_from(["read", "read", "finish", "finish", "commit", "commit-fails"])):
            case "read":
                for _ in range(data.draw(st.integers(1, 5))):
                    assert progress.read(next_offset)
                    unfinished.add(next_offset)
                    next_offset += 1
            case "finish" if unfinished:
                offset = data.draw(st.sampled_from(sorted(unfinished)))
                unfinished.discard(offset)
                finished[offset] = data.draw(st.sampled_from(Outcome))
                progress.finish(offset, finished[offset], NOW_US + offset * 7_000_000)
            case "commit" | "commit-fails" as how:
                run = progress.finished_run()
                if run is not None:
                    assert run.first == committed
                    assert not any(offset <= run.last for offset in unfinished)
                    ledger[run.first] = sum(c.delivered + c.dead for c in run.minutes.values())
                    if how == "commit":
                        progress.committed()
                        committed = run.last + 1
    run = progress.finished_run()
    if run is not None:
        ledger[run.first] = sum(c.delivered + c.dead for c in run.minutes.values())
        committed = run.last + 1
    assert committed == min(unfinished, default=next_offset)
    # Whatever was written again: entries by key add up to what was committed.
    assert sum(ledger.values()) == committed - start
