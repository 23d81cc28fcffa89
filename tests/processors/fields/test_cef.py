"""Whatever stands in a CEF line, the event made of it fits its schema: otherwise the whole unit would be a dead letter."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weir.bus.codec import Encoder
from weir.model.batch import RawBatch
from weir.processors.fields.cef import FIELDS
from weir.processors.outcome import Outcome, RawCoordinates
from weir.processors.syslog import make_process

process = make_process()
encode = Encoder("cef")


def outcome_of(line: str) -> Outcome:
    batch = RawBatch(
        batch_id=bytes(16),
        site="",
        receiver="",
        transport="udp",
        source_ip="192.0.2.1",
        listener_port=514,
        received_at=1_790_000_000_000_000,
        units=[line.encode()],
    )
    return process(batch, RawCoordinates("weir.raw.syslog.v1", 0, 0))


@pytest.mark.parametrize(("version", "number"), [("0", 0), ("1", 1), ("1.2", 1), ("999999999", 999_999_999)])
def test_a_version_is_a_number_with_or_without_a_second_part(version: str, number: int) -> None:
    (event,) = outcome_of(f"<14>CEF:{version}|vendor|product|1|100|name|5|act=ok").events["cef"]
    assert event["cef_version"] == number
    assert encode(event)


@pytest.mark.parametrize("digits", [10, 20, 5000])
def test_a_version_that_is_no_number_of_any_use_leaves_a_plain_line(digits: int) -> None:
    outcome = outcome_of(f"<14>CEF:{'9' * digits}|vendor|product|1|100|name|5|act=ok")
    assert list(outcome.events) == ["syslog"]
    assert not outcome.dead


NUMBERS = st.one_of(st.integers().map(str), st.floats().map(str), st.integers(0, 70).map(lambda power: str(2**power)))


@settings(max_examples=150)
@given(
    st.dictionaries(st.sampled_from([*FIELDS, "rt", "end", "start", "cn1", "cnt"]), NUMBERS, max_size=8),
    st.sampled_from(["ArcSight", "Kemp"]),
)
def test_no_number_in_an_extension_is_too_large(extension: dict[str, str], vendor: str) -> None:
    pairs = " ".join(f"{key}={value}" for key, value in extension.items())
    (event,) = outcome_of(f"<14>CEF:0|{vendor}|LM|1|1|name|5|{pairs}").events["cef"]
    assert encode(event)
