"""Stamps: found again wherever they went, and never where none is."""

from __future__ import annotations

import re
from ipaddress import IPv4Address

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weir.local.generate import stamp
from weir.local.generate.kinds import KINDS
from weir.model.batch import RawBatch
from weir.model.ids import new_batch_id
from weir.processors import beats, netflow
from weir.processors.outcome import RawCoordinates
from weir.processors.syslog import make_process

NOW_US = 1_790_000_000_123_456
PROCESSES = {"raw.syslog": make_process(), "raw.beats": beats.process, "raw.netflow": netflow.process}
FORMS = [(kind, form) for kind, entry in KINDS.items() for form in entry.formats]

numbers = st.tuples(st.integers(0, stamp.MAX_RUN), st.integers(0, stamp.MAX_SOURCE), st.integers(0, stamp.MAX_SEQUENCE))


class TestForms:
    @given(numbers, st.binary(max_size=20), st.binary(max_size=20))
    @settings(max_examples=200)
    def test_text_is_found_amid_anything(self, of: tuple[int, int, int], before: bytes, after: bytes) -> None:
        text = stamp.as_text(*of)
        assert len(text) == stamp.TEXT_LENGTH
        assert stamp.in_text(before + b" " + text + b"/" + after).stamps == [of]

    @given(numbers)
    @settings(max_examples=300)
    def test_a_conversation_tells_its_stamp(self, of: tuple[int, int, int]) -> None:
        talk = stamp.as_conversation(*of)
        assert stamp.from_conversation(*talk) == of
        assert str(IPv4Address(talk.source)).startswith("10.")
        assert max(talk.source_port, talk.destination_port) < 65536

    @given(numbers, st.integers(0, 79))
    @settings(max_examples=200)
    def test_a_changed_bit_of_a_conversation_is_noticed_nearly_always(self, of: tuple[int, int, int], bit: int) -> None:
        source, destination, source_port, destination_port = stamp.as_conversation(*of)
        value = (source & 0xFFFFFF) << 56 | (destination & 0xFFFFFF) << 32 | source_port << 16 | destination_port
        value ^= 1 << bit
        changed = (10 << 24 | value >> 56, 10 << 24 | value >> 32 & 0xFFFFFF, value >> 16 & 0xFFFF, value & 0xFFFF)
        assert stamp.from_conversation(*changed) != of

    def test_a_changed_digit_is_damage(self) -> None:
        text = stamp.as_text(1, 2, 34567).replace(b"34567", b"34568")
        assert stamp.in_text(text) == ([], 1)

    @given(st.binary(max_size=400))
    def test_noise_raises_nothing(self, data: bytes) -> None:
        stamp.in_text(data)
        stamp.in_flows(data)

    def test_consecutive_conversations_do_not_look_alike(self) -> None:
        talks = [stamp.as_conversation(1, 0, number) for number in range(1000)]
        for field in range(2):
            assert len({talk[field] for talk in talks}) > 990

    def test_strangers_conversations_are_not_stamped(self) -> None:
        assert stamp.from_conversation(0xC0000201, 0x0A000001, 1, 2) is None
        assert stamp.in_event(
            {"source_ip": "2001:db8::1", "destination_ip": "10.0.0.1", "source_port": 1, "destination_port": 2}
        ) == (
            [],
            0,
        )


class TestKinds:
    @pytest.mark.parametrize(("kind", "form"), FORMS)
    def test_every_event_is_found_in_its_unit_and_in_what_it_decodes_to(self, kind: str, form: str) -> None:
        entry = KINDS[kind]
        maker = entry.make(4242, 7, form, False)
        units, first = [], 0
        while first < 700:
            count = min(maker.per_unit, 700 - first)
            units.append(maker.unit(3, first, count, NOW_US + first))
            first += count
        expected = [(4242, 3, number) for number in range(700)]
        if entry.raw_topic == "raw.netflow":
            assert [one for unit in units for one in stamp.in_flows(unit)] == expected
        else:
            assert [next(iter(stamp.in_text(unit).stamps)) for unit in units] == expected
        batch = RawBatch(new_batch_id(), "s", "r", "udp", "127.77.0.4", 1, NOW_US, units)
        outcome = PROCESSES[entry.raw_topic](batch, RawCoordinates("t", 0, 0))
        assert outcome.dead == []
        assert set(outcome.events) == set(entry.datasets)
        found = [stamp.in_event(record, 4242) for records in outcome.events.values() for record in records]
        assert sorted(one.stamps[0] for one in found) == expected
        assert sum(one.damaged for one in found) == 0

    @pytest.mark.parametrize(("kind", "form"), FORMS)
    def test_the_same_seed_gives_the_same_bytes_and_another_others(self, kind: str, form: str) -> None:
        def make(seed: int) -> list[bytes]:
            maker = KINDS[kind].make(1, seed, form, False)
            return [maker.unit(0, number * maker.per_unit, maker.per_unit, NOW_US) for number in range(50)]

        assert make(5) == make(5)
        assert sum(one == other for one, other in zip(make(5), make(6), strict=True)) < 5

    @pytest.mark.parametrize("kind", ["syslog", "cef", "qumulo", "beats", "suricata"])
    def test_no_two_units_are_alike_even_without_their_stamps(self, kind: str) -> None:
        maker = KINDS[kind].make(1, 1, KINDS[kind].formats[0], False)
        units = {re.sub(rb"wst-[-0-9a-f]{26}", b"", maker.unit(0, number, 1, NOW_US)) for number in range(2000)}
        assert len(units) > (1000 if kind == "syslog" else 1900)  # some daemons' lines have nothing in them that varies

    @pytest.mark.parametrize(("kind", "form"), FORMS)
    def test_times_are_fresh(self, kind: str, form: str) -> None:
        entry = KINDS[kind]
        maker = entry.make(1, 1, form, False)
        units = [maker.unit(0, number * maker.per_unit, maker.per_unit, NOW_US) for number in range(40)]
        batch = RawBatch(new_batch_id(), "s", "r", "udp", "127.77.0.1", 1, NOW_US, units)
        outcome = PROCESSES[entry.raw_topic](batch, RawCoordinates("t", 0, 0))
        times = [time for records in outcome.events.values() for record in records if (time := record.get("timestamp"))]
        assert times or kind == "sflow"  # which has none
        assert all(NOW_US - 120_000_000 <= time <= NOW_US for time in times)

    def test_a_template_goes_out_with_the_first_datagram_and_again(self) -> None:
        maker = KINDS["netflow"].make(1, 1, "v9", False)
        sizes = [len(maker.unit(0, number * maker.per_unit, maker.per_unit, NOW_US)) for number in range(41)]
        assert [number for number, size in enumerate(sizes) if size > min(sizes)] == [0, 20, 40]

    def test_over_a_connection_an_ipfix_template_goes_out_once_and_the_sequence_begins_anew(self) -> None:
        maker = KINDS["ipfix"].make(1, 1, "v10", True)
        maker.connected(0)
        messages = [maker.unit(0, number * 18, 18, NOW_US) for number in range(30)]
        assert [number for number, one in enumerate(messages) if one[16:18] == b"\0\2"] == [0]
        assert int.from_bytes(messages[29][8:12], "big") == 29 * 18
        maker.connected(0)
        again = maker.unit(0, 30 * 18, 18, NOW_US)
        assert again[16:18] == b"\0\2"
        assert int.from_bytes(again[8:12], "big") == 0
