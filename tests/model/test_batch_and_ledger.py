"""Raw batches and ledger entries survive the way through Avro."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from weir.bus.codec import Decoder, Encoder
from weir.model.batch import FlowName, FlowSampling, FlowTemplate, RawBatch, TruncatedUnit
from weir.model.ledger import LedgerCounts, LedgerEntry, minute_of


def make_batch(units: list[bytes]) -> RawBatch:
    return RawBatch(
        batch_id=bytes(range(16)),
        site="s",
        receiver="r",
        transport="udp",
        source_ip="192.0.2.1",
        listener_port=2055,
        received_at=1_700_000_000_000_000,
        units=units,
        flow_templates=[FlowTemplate(9, 7, 256, options=False, record=b"\x01\x00")],
        flow_samplings=[FlowSampling(10, 7, 0, 1000.0)],
        flow_names=[FlowName(10, 7, "interface", "12", "xe-0/0/1")],
    )


@given(st.lists(st.binary(max_size=200), max_size=20))
def test_a_batch_comes_back_as_it_was(units: list[bytes]) -> None:
    batch = make_batch(units)
    batch.truncated = [TruncatedUnit(0, 99, b"x" * 32)]
    assert RawBatch.from_record(Decoder()(Encoder("raw-batch")(batch.to_record()))) == batch


def test_a_part_of_a_batch_keeps_id_templates_and_unit_numbers() -> None:
    batch = make_batch([b"a", b"b", b"c", b"d"])
    batch.truncated = [TruncatedUnit(1, 99), TruncatedUnit(3, 98)]
    part = batch.only([1, 2])
    assert (part.batch_id, part.units, part.positions) == (batch.batch_id, [b"b", b"c"], [1, 2])
    assert part.truncated == [TruncatedUnit(1, 99)]
    assert part.flow_templates == batch.flow_templates
    again = part.only([1])
    assert (again.units, again.positions) == ([b"c"], [2])


def test_a_ledger_entry_comes_back_and_its_key_is_its_range() -> None:
    entry = LedgerEntry("process.syslog", "i", "s", "weir.raw.syslog.v1", 3, 100, 120, 5)
    entry.lines["192.0.2.1", minute_of(61_000_000), ""].add(LedgerCounts(units_in=5, units_empty=1, events_out={"events.cef": 4}))
    entry.lines["192.0.2.1", minute_of(61_000_000), ""].add(LedgerCounts(units_in=2, events_out={"events.cef": 2}))
    back = LedgerEntry.from_record(Decoder()(Encoder("ledger-entry")(entry.to_record())))
    assert back == entry
    counts = back.lines["192.0.2.1", 60_000_000, ""]
    assert (counts.units_in, counts.events_out) == (7, {"events.cef": 6})
    assert entry.key == "process.syslog||weir.raw.syslog.v1|3|100"


def test_a_range_done_again_by_another_instance_replaces_the_first_but_receivers_do_not() -> None:
    def key(instance: str, partition: int) -> str:
        return LedgerEntry("s", instance, "", "t", partition, 1, 1, 0).key

    assert key("a", 0) == key("b", 0)
    assert key("a", -1) != key("b", -1)
