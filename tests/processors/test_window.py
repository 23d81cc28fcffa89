"""Inputs are acknowledged in offset order, whatever order their outputs finish in."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weir.processors.window import InFlight, Window

A, B = ("t", 0), ("t", 1)


@given(st.permutations(range(12)), st.data())
def test_nothing_is_taken_before_all_before_it(order: list[int], data: st.DataObject) -> None:
    window: Window[int] = Window()
    entries: list[InFlight[int]] = [window.add(A if n % 2 else B, n, n) for n in range(12)]
    done: set[int] = set()
    taken: dict[tuple[str, int], list[int]] = {A: [], B: []}

    def take() -> None:
        for partition, run in window.finished_runs(12, lambda _: None).items():
            taken[partition] += [e.offset for e in run]
            window.remove(run)

    for n in order:
        window.finish(entries[n])
        done.add(n)
        if data.draw(st.booleans()):
            take()
        for partition, offsets in taken.items():
            assert offsets == sorted(offsets)
            mine = [m for m in range(12) if (m % 2 == 1) == (partition == A)]
            assert offsets == mine[: len(offsets)]
            assert set(offsets) <= done
    take()
    assert sorted(taken[A] + taken[B]) == list(range(12))
    assert len(window) == 0


def test_an_offset_that_goes_back_is_refused() -> None:
    window: Window[None] = Window()
    window.add(A, 5, None)
    window.add(B, 1, None)
    with pytest.raises(ValueError, match="offset 5 after 5"):
        window.add(A, 5, None)


def test_what_is_dropped_is_never_taken_and_may_come_again() -> None:
    window: Window[None] = Window()
    old = window.add(A, 5, None)
    window.drop({A})
    window.finish(old)
    assert old.dropped
    assert window.finished_runs(10, str) == {}
    window.add(A, 3, None)
    assert window.oldest(A) is not None


def test_a_run_stays_until_it_is_removed_and_grows_meanwhile() -> None:
    """What was entered in the ledger and not committed is entered again under its first offset, with what came on top."""
    window: Window[str] = Window()
    entries = [window.add(A, n, "expired" if n == 3 else "read") for n in range(6)]
    for n in (0, 2, 3, 4):
        window.finish(entries[n])
    assert window.finished_runs(10, lambda item: item) == {A: entries[:1]}
    window.finish(entries[1])
    run = window.finished_runs(10, lambda item: item)[A]
    assert run == entries[:3], "a run ends where the kind changes"
    assert window.finished_runs(2, lambda item: item) == {A: entries[:2]}
    window.remove(run)
    assert window.finished_runs(10, lambda item: item) == {A: entries[3:4]}


def test_a_run_of_a_dropped_partition_removes_nothing_of_the_next_assignment() -> None:
    window: Window[None] = Window()
    window.finish(window.add(A, 5, None))
    run = window.finished_runs(10, lambda item: item)[A]
    window.drop({A})
    again = window.add(A, 5, None)
    window.remove(run)
    assert run[0].dropped
    assert window.oldest(A) is again
