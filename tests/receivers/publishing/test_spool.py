"""The disk spool by itself: what was appended comes back, in order, whatever happens to the process and to the files."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from weir.receivers.publishing.segment import FIRST
from weir.receivers.publishing.spool import Place, Spool, SpoolRecord

SERVICE = "receive.test"


def record(number: int, length: int = 20, units: int = 1, source: str = "192.0.2.1") -> SpoolRecord:
    value = (b"%d " % number).ljust(length, b"v")
    return SpoolRecord("weir.raw.syslog.v1", source, value, [("h", b"\xff")], source, "udp", 1_000_000 + number, units, length)


def number_of(found: SpoolRecord) -> int:
    return int(found.value.split()[0])


def opened(root: Path, max_bytes: int = 1 << 20, max_units: int = 10**9, segment_bytes: int = 400) -> Spool:
    return Spool(root, SERVICE, max_bytes=max_bytes, max_units=max_units, segment_bytes=segment_bytes)


def crash(spool: Spool) -> None:
    """What is left of a spool whose process was killed: the files as they are, and no lock."""
    for segment in spool._segments:
        segment.release()
    os.close(spool._lock)


def rest(spool: Spool) -> list[int]:
    """Numbers of all records not yet taken."""
    found = []
    while (taken := spool.take()) is not None:
        found.append(number_of(taken[1]))
    return found


@contextmanager
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


def files(root: Path, suffix: str = ".spool") -> list[Path]:
    return sorted(root.rglob(f"*{suffix}"))


def test_records_come_back_as_they_were(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    first = record(1, units=7)
    assert spool.append(first) is not None
    assert spool.units == 7
    place, found = spool.take() or pytest.fail("nothing came back")
    assert found == first
    assert spool.take() is None
    assert spool.acknowledge(place)
    assert not spool.acknowledge(place)
    assert (spool.units, spool.bytes, spool.segments) == (0, 0, 0)
    assert files(tmp_path) == []
    spool.close()


class Machine(RuleBasedStateMachine):
    """Appends, takes, acknowledgements in any order, rewinds, kills and orderly ends, against a list."""

    def __init__(self) -> None:
        super().__init__()
        self.root = Path(tempfile.mkdtemp())
        self.spool = opened(self.root, max_bytes=1 << 26)
        self.number = 0
        self.open: list[int] = []  # appended and not acknowledged, in order
        self.units: dict[int, int] = {}
        self.taken: dict[int, Place] = {}
        self.placed: dict[int, Place] = {}  # appended in this life
        self.next = 0  # greatest number taken since the last rewind or start

    @rule(length=st.sampled_from([2, 30, 300, 70_000]), units=st.integers(0, 3))
    def append(self, length: int, units: int) -> None:
        self.number += 1
        place = self.spool.append(record(self.number, length, units))
        assert place is not None
        self.open.append(self.number)
        self.units[self.number] = units
        self.placed[self.number] = place

    @rule()
    def take(self) -> None:
        expected = next((n for n in self.open if n > self.next), None)
        found = self.spool.take()
        assert (found and number_of(found[1])) == expected
        if found is not None and expected is not None:
            self.taken[expected] = found[0]
            self.next = expected

    @precondition(lambda self: self.taken)
    @rule(data=st.data())
    def acknowledge(self, data: st.DataObject) -> None:
        number = data.draw(st.sampled_from(sorted(self.taken)))
        assert self.spool.acknowledge(self.taken.pop(number))
        self.placed.pop(number, None)
        self.open.remove(number)

    @precondition(lambda self: self.placed)
    @rule(data=st.data())
    def acknowledge_what_had_arrived_before_it_was_spooled(self, data: st.DataObject) -> None:
        number = data.draw(st.sampled_from(sorted(self.placed)))
        place = self.placed.pop(number)
        assert self.spool.acknowledge(place)
        assert not self.spool.acknowledge(place)
        self.taken.pop(number, None)
        self.open.remove(number)

    @rule()
    def rewind(self) -> None:
        self.spool.rewind()
        self.taken.clear()
        self.next = 0

    @rule(sync=st.booleans())
    def kill(self, sync: bool) -> None:
        if sync:
            self.spool.fsync(self.spool.unsynced())
        crash(self.spool)
        self._restart()

    @rule()
    def end(self) -> None:
        self.spool.close()
        self._restart()

    def _restart(self) -> None:
        self.spool = opened(self.root, max_bytes=1 << 26)
        assert self.spool.damages() == []
        self.taken.clear()
        self.placed.clear()
        self.next = 0
        # Acknowledged records before the first that is not are gone; those after it may come again.
        again = []
        while (found := self.spool.take()) is not None:
            again.append(number_of(found[1]))
        assert again == sorted(set(again))
        assert set(self.open) <= set(again)
        self.open = again
        self.spool.rewind()
        assert self.spool.units == sum(self.units[number] for number in again)

    @invariant()
    def bytes_are_those_of_the_files(self) -> None:
        assert self.spool.bytes == sum(path.stat().st_size for path in files(self.root))

    def teardown(self) -> None:
        self.spool.close()
        assert self.open or files(self.root) == []
        shutil.rmtree(self.root)


Machine.TestCase.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)
TestMachine = Machine.TestCase


def test_a_file_cut_at_any_byte_gives_back_every_whole_record_and_takes_new_ones() -> None:
    with folder() as root:
        spool = opened(root, segment_bytes=1 << 20)
        ends = []
        for number in range(4):
            place = spool.append(record(number))
            assert place is not None
            ends.append(place.segment.size)
        crash(spool)
        (path,) = files(root)
        whole = path.read_bytes()
        for length in range(len(whole)):
            path.write_bytes(whole[:length])
            spool = opened(root, segment_bytes=1 << 20)
            kept = sum(end <= length for end in ends)
            damages = spool.damages()
            # Nothing is said where the cut is between two records; else that the last one is torn.
            assert [d.torn for d in damages] == ([] if length in {0, *ends} or length <= FIRST else [True])
            assert spool.append(record(99)) is not None
            assert rest(spool) == [*range(kept), 99]
            crash(spool)
            for other in files(root):
                other.unlink()


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_damage_in_the_middle_costs_only_what_it_hits_and_is_told(data: st.DataObject) -> None:
    with folder() as root:
        spool = opened(root, segment_bytes=1 << 20)
        starts = [(place := spool.append(record(n, units=n + 1))) and place.offset for n in range(5)]
        synced = data.draw(st.booleans())
        if synced:
            spool.fsync(spool.unsynced())
        crash(spool)
        (path,) = files(root)
        content = bytearray(path.read_bytes())
        at = data.draw(st.integers(FIRST, len(content) - 1))
        length = data.draw(st.integers(1, 60))
        for place in range(at, min(at + length, len(content))):
            content[place] ^= data.draw(st.integers(1, 255))
        path.write_bytes(content)
        bounds = [*starts, len(content)]
        hit = {n for n in range(5) if bounds[n] < at + length and at < bounds[n + 1]}

        spool = opened(root)
        damages = spool.damages()
        found = rest(spool)
        damages += spool.damages()
        assert found == [n for n in range(5) if n not in hit]
        assert damages
        spool.rewind()
        assert rest(spool) == found
        assert spool.damages() == [], "the same damage is told once"
        spool.rewind()
        while (taken := spool.take()) is not None:
            assert spool.acknowledge(taken[0])
        assert (spool.units, spool.segments) == (0, 0)
        assert len(files(root, ".corrupt")) == any(not damage.torn for damage in damages)
        spool.close()


def test_where_only_a_value_is_damaged_its_source_and_units_are_known(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    place = spool.append(record(1, units=12, source="198.51.100.7"))
    assert place is not None
    end = place.segment.size
    crash(spool)
    (path,) = files(tmp_path)
    content = bytearray(path.read_bytes())
    content[end - 1] ^= 1
    path.write_bytes(content)
    spool = opened(tmp_path)
    assert spool.take() is None
    (damage,) = spool.damages()
    assert (damage.source, damage.units, damage.torn) == ("198.51.100.7", 12, False)
    assert spool.units == 0
    spool.close()


def test_a_sender_cannot_smuggle_a_record_into_a_damaged_file(tmp_path: Path) -> None:
    """A value may hold the bytes of a whole record of another file: it is not one here."""
    spool = opened(tmp_path / "a")
    assert spool.append(record(666)) is not None
    crash(spool)
    (other,) = files(tmp_path / "a")
    smuggled = other.read_bytes()[FIRST:]
    spool = opened(tmp_path / "b", segment_bytes=1 << 20)
    spool.append(record(1))
    place = spool.append(record(2)._replace(value=b"2 " + smuggled))
    spool.append(record(3))
    assert place is not None
    crash(spool)
    (path,) = files(tmp_path / "b")
    content = bytearray(path.read_bytes())
    content[place.offset] ^= 1
    path.write_bytes(content)
    spool = opened(tmp_path / "b")
    assert rest(spool) == [1, 3]
    spool.close()


def test_a_file_of_garbage_is_set_aside_and_the_others_are_read(tmp_path: Path) -> None:
    spool = opened(tmp_path, segment_bytes=1)  # a file for each
    for number in range(3):
        spool.append(record(number))
    crash(spool)
    files(tmp_path)[1].write_bytes(os.urandom(200_000))
    spool = opened(tmp_path)
    assert rest(spool) == [0, 2]
    assert [d.torn for d in spool.damages()] == [False]
    spool.close()


def test_it_is_full_at_its_limits_and_takes_again_when_there_is_room(tmp_path: Path) -> None:
    spool = opened(tmp_path, max_bytes=2_000, segment_bytes=500)
    count = 0
    while spool.append(record(count, 200)):
        count += 1
    assert spool.bytes <= 2_000
    assert "WEIR_RECEIVER_SPOOL_BYTES" in (spool.full or "")
    for _ in range(2):
        place, _found = spool.take() or pytest.fail("nothing there")
        spool.acknowledge(place)
    assert spool.append(record(count, 200)) is not None
    assert spool.full is None
    spool.close()

    spool = opened(tmp_path / "units", max_units=10)
    assert spool.append(record(0, units=8)) is not None
    assert spool.append(record(1, units=3)) is None
    assert "WEIR_RECEIVER_SPOOL_EVENTS" in (spool.full or "")
    assert spool.append(record(1, units=2)) is not None
    spool.close()


@pytest.mark.parametrize("part", [0, 5, 60])
def test_a_full_disk_is_a_full_spool_and_leaves_no_half_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: int) -> None:
    spool = opened(tmp_path, segment_bytes=1 << 20)
    assert spool.append(record(1)) is not None
    real = os.pwritev

    def full(fd: int, buffers: list[bytes], offset: int) -> int:
        if part:
            return real(fd, [b"".join(buffers)[:part]], offset)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def refuse(fd: int, data: bytes, offset: int) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwritev", full)
        patch.setattr(os, "pwrite", refuse)
        assert spool.append(record(2)) is None
    assert "No space left" in (spool.full or "")
    assert spool.append(record(3)) is not None
    crash(spool)
    spool = opened(tmp_path)
    assert spool.damages() == []
    assert rest(spool) == [1, 3]
    spool.close()


def test_two_processes_take_two_slots_and_the_next_start_takes_over_what_is_left(tmp_path: Path) -> None:
    one, two = opened(tmp_path), opened(tmp_path)
    assert one.directory != two.directory
    one.append(record(1))
    two.append(record(2))
    one.append(record(3))
    crash(two)
    crash(one)
    again = opened(tmp_path)
    assert rest(again) == [1, 3, 2]
    assert again.append(record(4)) is not None
    again.rewind()
    assert rest(again) == [1, 3, 2, 4]
    again.close()


def test_a_slot_is_taken_over_at_work_too_and_comes_before_what_follows(tmp_path: Path) -> None:
    one, two = opened(tmp_path), opened(tmp_path)
    one.append(record(1))
    two.append(record(2))
    assert one.adopt() == 0
    crash(two)
    assert one.adopt() == 1
    one.append(record(3))
    assert rest(one) == [1, 2, 3]
    one.close()


def test_a_restart_knows_how_far_it_was_acknowledged(tmp_path: Path) -> None:
    spool = opened(tmp_path, segment_bytes=1 << 20)
    for number in range(10):
        spool.append(record(number, units=2))
    for _ in range(6):
        place, _found = spool.take() or pytest.fail("nothing there")
        spool.acknowledge(place)
    spool.close()
    spool = opened(tmp_path)
    assert spool.units == 8
    assert rest(spool) == [6, 7, 8, 9]
    spool.close()


def test_what_is_acknowledged_behind_others_is_counted_again_by_the_next_start(tmp_path: Path) -> None:
    spool = opened(tmp_path, segment_bytes=1 << 20)
    for number in range(3):
        spool.append(record(number, units=4))
    places = [(spool.take() or pytest.fail("nothing there"))[0] for _ in range(3)]
    spool.acknowledge(places[2])
    assert spool.units == 8
    spool.close()
    for _ in range(2):
        spool = opened(tmp_path)
        assert spool.units == 12
        spool.close()
    spool = opened(tmp_path)
    while (taken := spool.take()) is not None:
        spool.acknowledge(taken[0])
    assert spool.units == 0
    spool.close()


def test_a_directory_that_cannot_be_used_is_refused_by_the_name_of_its_setting(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no directory")
    with pytest.raises(OSError, match="WEIR_RECEIVER_SPOOL_DIR"):
        opened(tmp_path / "file")


def test_few_files_are_open_however_many_there_are(tmp_path: Path) -> None:
    spool = opened(tmp_path, segment_bytes=1)
    for number in range(200):
        spool.append(record(number))
    spool.fsync(spool.unsynced())
    spool.fsync(spool.unsynced())
    crash(spool)
    before = len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").exists() else 0
    spool = opened(tmp_path)
    assert spool.segments == 200
    after = len(os.listdir("/proc/self/fd")) if before else 0
    assert after - before < 10
    spool.close()


def test_units_of_records_whose_heads_are_damaged_are_told_when_their_file_is_done_with(tmp_path: Path) -> None:
    spool = opened(tmp_path, segment_bytes=10_000)
    places = [spool.append(record(number, units=12)) for number in range(3)]
    spool.fsync(spool.unsynced())
    assert places[1] is not None
    crash(spool)
    (path,) = files(tmp_path)
    content = bytearray(path.read_bytes())
    content[places[1].offset + 5] ^= 1
    path.write_bytes(content)
    spool = opened(tmp_path)
    while (taken := spool.take()) is not None:
        assert number_of(taken[1]) != 1
        spool.acknowledge(taken[0])
    assert spool.take() is None
    where, how_many = spool.damages()
    assert (where.units, where.length > 0) == (0, True)
    assert (how_many.source, how_many.units, how_many.length) == (None, 12, 0)
    assert spool.units == 0
    spool.close()
