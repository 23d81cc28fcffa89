"""What a receiver had to cut is told by a dead letter, whatever the decoder made of the rest."""

from __future__ import annotations

from weir.model.batch import RawBatch, TruncatedUnit
from weir.processors.outcome import Dead
from weir.processors.runtime import CUT, _cut_units


def batch(positions: list[int], cut: list[int]) -> RawBatch:
    marks = [TruncatedUnit(position, 100_000) for position in cut]
    return RawBatch(b"\0" * 16, "s", "r", "tcp", "192.0.2.1", 514, 1, [b"a", b"b", b"c"], positions=positions, truncated=marks)


def test_a_cut_unit_that_decoded_is_dead_lettered_as_well() -> None:
    assert _cut_units(batch([], [1]), []) == [Dead(1, CUT)]
    assert _cut_units(batch([4, 7, 9], [7, 9]), []) == [Dead(1, CUT), Dead(2, CUT)]


def test_a_cut_unit_that_is_dead_already_keeps_its_one_reason() -> None:
    assert _cut_units(batch([], [1, 2]), [Dead(1, "no JSON")]) == [Dead(2, CUT)]


def test_whole_units_are_left_alone() -> None:
    assert _cut_units(batch([], []), []) == []
    assert _cut_units(batch([4, 7, 9], [1]), []) == []
